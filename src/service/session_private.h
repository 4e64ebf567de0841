/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* What the files of a session share: session.c (its states), records.c, session_snapshot.c. */
#ifndef PYLEAKD_SERVICE_SESSION_PRIVATE_H
#define PYLEAKD_SERVICE_SESSION_PRIVATE_H

#include "capture/capture.h"
#include "cpython/code.h"
#include "cpython/objects.h"
#include "judge/judge.h"
#include "ledger/ledger.h"
#include "service/opening.h"
#include "service/reconcile.h"
#include "service/session.h"
#include "service/stacks.h"

#define SESSION_CHILDREN_MAX 256
#define SESSION_NAMED_TYPES 256 /* a power of two */
/*
 * Stacks are asked for anew at most this often after code objects died: a
 * program that starts runs each module's code once and drops it.
 */
#define SESSION_CODES_SECONDS 0.02 /* as long code objects stand as they were read */
#define SESSION_FORGET_SECONDS_MIN 0.02
#define SESSION_FORGET_SECONDS_MAX 1.0
#define SESSION_FORGET_RATIO 0.02 /* of the session's time, between the two */
/* The judgement's name for the interpreter's heap as a whole. */
#define SESSION_HEAP_KEY UINT64_MAX

struct session_refusal {
	char what[SESSION_MESSAGE_BYTES];
	char why[SESSION_MESSAGE_BYTES];
	uint64_t times;
};

/* What the recording says already. */
struct session_recorded {
	struct capture_counters counters;
	uint64_t children_missed;
	uint64_t refusal_times[SESSION_REFUSALS_MAX];
	size_t n_refusals;
};

struct session {
	enum session_state state;
	struct session_options options;
	struct opening *target; /* NULL in a replay */
	struct session_facts facts;

	/* The heap reader and what is made of the records. */
	const struct interpreter *interpreter;
	struct code_cache *codes;
	struct type_cache *types;
	struct stacks *stacks;
	struct ledger *ledger;
	struct judge *judge;
	struct reconcile *reconcile;
	struct reconcile_books books;
	bool books_valid;
	double reconciled_seconds; /* when they were last held against the heap */

	struct capture *capture; /* NULL without probes */
	struct sampling *sampling; /* NULL in the exact mode, and without probes */
	struct capture_counters counters; /* the last ones that could be read */
	double hit_seconds; /* what a hit costs on this kernel; 0: not known */
	uint64_t code_type; /* address of PyCode_Type; 0: not known */
	double codes_looked_at_seconds;
	bool codes_died; /* since stacks were last asked for anew */
	double forgotten_at_seconds;

	pid_t children[SESSION_CHILDREN_MAX];
	size_t n_children;
	bool missed_children; /* since that was last asked */
	/* What the target went through; from anything but MOMENT_SESSION_END on, nothing counts. */
	enum snapshot_moment moment;
	double ended_seconds; /* session_finish() has been here; NAN: not yet */
	uint64_t named_types[SESSION_NAMED_TYPES]; /* types whose names were asked for lately */

	struct session_refusal refusals[SESSION_REFUSALS_MAX];
	size_t n_refusals;
	uint64_t losses[400]; /* the daemon's own, by enum reason */
	uint64_t events;
	uint64_t resident_bytes; /* of the target, when last looked at */
	struct session_recorded recorded;
};

/*
 * "what" was not done, because of "why".  Both as before: counted with that one;
 * beyond SESSION_REFUSALS_MAX they are dropped.
 */
void session_refuse(struct session *session, const char *what, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Takes every record that was written until now. 0, or -errno. */
int session_drain(struct session *session);

/* What is resident now; the last known where that can't be told. */
void session_look_at_resident(struct session *session);

/* Probes hit so far, of all kinds. */
uint64_t session_hits(const struct session *session);
/* Share of the time that the target spent in traps; NAN where it is not known. */
double session_overhead(const struct session *session, double time_seconds);

/* Makes the caches, the ledger and the judgement; interpreter stays the caller's. */
int session_make_books(struct session *session, const struct interpreter *interpreter);
/* Takes the heap's baseline. drain: as in struct reconcile_source. */
int session_begin_reconciling(struct session *session, int (*drain)(void *context), void *context,
			      struct fault *reterr_fault);

/* One validated record; what capture and replay both call. */
void session_record(struct session *session, const struct wire_header *record, size_t size);

/* What session_tick() does behind the draining: the same live and replayed. */
int session_account(struct session *session, double time_seconds, enum session_look look);

#endif
