/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The sampled mode of a session.  Sites are attached as the governor says,
 * seldom-hit ones all the time and hot ones in windows; what the probes see is
 * looked at in the heap again and again for as long as it lives.
 *
 *	governor ──open, close──▶ capture ──records──▶ samples ◀──answers── liveness
 *	    ▲                        │                    │ due                 ▲
 *	    └────── hits, times ─────┘                    └────── addresses ────┘
 *
 * Time is the session's: seconds since its start.
 */
#ifndef PYLEAKD_SERVICE_SAMPLING_H
#define PYLEAKD_SERVICE_SAMPLING_H

#include <stdbool.h>
#include <stdint.h>

#include "pyleakd/wire.h"
#include "report/snapshot.h"

struct sampling;
struct session;

/* The capture is loaded and has its host's tracepoints in; no site is attached yet. */
int sampling_start(struct session *session);
void sampling_free(struct sampling *sampling);

/* As session_step(). */
int sampling_step(struct session *session, double time_seconds, double *ret_next_seconds);

bool sampling_window_is_open(const struct sampling *sampling);

/* One validated record of the ring; false: not of a kind that is sampled. */
bool sampling_record(struct session *session, const struct wire_header *record);

/* An interval ends: estimates by site to the judgement. complete: all that lives is looked at. */
int sampling_account(struct session *session, double time_seconds, bool complete);

/* Everything is closed: no probe stays in the target. */
void sampling_stop(struct session *session);

int sampling_add_sites(struct session *session, struct snapshot *snapshot, double time_seconds);
void sampling_add_facts(const struct session *session, double time_seconds,
			struct snapshot *snapshot);

#endif
