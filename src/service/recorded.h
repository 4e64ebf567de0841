/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * What a session puts into its recording beside the ring's records, and how a
 * replay gets it back.  Failures of the recording never disturb the session.
 */
#ifndef PYLEAKD_SERVICE_RECORDED_H
#define PYLEAKD_SERVICE_RECORDED_H

#include "service/recording.h"
#include "service/session_private.h"

/* --- the session's side; each does nothing where no recording is kept --- */

/* The facts, and the mark behind which the target's memory is recorded. */
void recorded_start(struct session *session);
/* Reads from here on are, or are not, part of the recording. */
void recorded_observe(struct session *session, bool on);
void recorded_mark(struct session *session, enum recording_mark_kind kind, double time_seconds,
		   uint64_t value);
/* What the kernel counted and what was refused so far, if that has changed. */
void recorded_counters(struct session *session);

/* --- the replay's side --- */

/* -EBADMSG: a fact is missing or malformed, reterr_fault->field says which. */
int recorded_facts(const struct recording_reader *reader, struct session_facts *ret,
		   struct fault *reterr_fault);
int recorded_interpreter(const struct recording_reader *reader, struct memory *memory,
			 struct interpreter **ret, struct fault *reterr_fault);
/* As of the recording's present item. */
void recorded_take_counters(const struct recording_reader *reader, struct session *session);

#endif
