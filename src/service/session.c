/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "service/session_private.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "service/probing.h"
#include "service/recorded.h"
#include "service/sampling.h"

/*
 * How long records may lie in the ring: at 1,000,000 of 40 bytes a second, 20 ms
 * are 1/80 of the default ring.
 */
#define SESSION_CONSUME_SECONDS 0.02
/* Records taken from one target before the next one has its turn. */
#define SESSION_CONSUME_MAX (1u << 20)
/* Records taken between two looks at anything else. */
#define CONSUME_BATCH 65536

DEFINE_CLEANUP(struct session *, session_free)

void session_refuse(struct session *session, const char *what, const char *format, ...)
{
	struct session_refusal refusal = { .times = 1 };
	va_list arguments;

	snprintf(refusal.what, sizeof(refusal.what), "%s", what);
	va_start(arguments, format);
	vsnprintf(refusal.why, sizeof(refusal.why), format, arguments);
	va_end(arguments);
	for (size_t i = 0; i < session->n_refusals; i++) {
		struct session_refusal *before = &session->refusals[i];

		if (strcmp(before->what, refusal.what) == 0 &&
		    strcmp(before->why, refusal.why) == 0) {
			before->times++;
			return;
		}
	}
	if (session->n_refusals < SESSION_REFUSALS_MAX)
		session->refusals[session->n_refusals++] = refusal;
}

/* What turns records into sites; the same for a live target and a replay. */
int session_make_books(struct session *session, const struct interpreter *interpreter)
{
	int r;

	session->interpreter = interpreter;
	session->code_type = interpreter_symbol(interpreter, "PyCode_Type");
	r = code_cache_new(interpreter, SESSION_CODES_MAX, &session->codes);
	if (r < 0)
		return r;
	r = type_cache_new(interpreter, SESSION_TYPES_MAX, &session->types);
	if (r < 0)
		return r;
	r = stacks_new(session->codes, SESSION_SITES_MAX, &session->stacks);
	if (r < 0)
		return r;
	r = ledger_new(&(struct ledger_limits){ 0 }, &session->ledger);
	if (r < 0)
		return r;
	return judge_new(SESSION_SITES_MAX, &session->judge);
}

int session_open(pid_t pid, const struct session_options *options, struct session **ret,
		 char *ret_message)
{
	CLEANUP(session_free) struct session *session = calloc(1, sizeof(*session));
	int r;

	if (!session)
		return -ENOMEM;
	session->options = *options;
	session->ended_seconds = NAN;
	session->reconciled_seconds = NAN;
	r = opening_new_shared(pid, options->images, &session->target, ret_message);
	if (r < 0)
		return r;
	session->facts = session->target->facts;
	session->facts.session_started = (double)clock_realtime_ns() / NS_PER_SECOND;
	r = session_make_books(session, session->target->interpreter);
	if (r < 0) {
		snprintf(ret_message, SESSION_MESSAGE_BYTES, "no memory: free some and try again");
		return r;
	}
	*ret = TAKE_PTR(session);
	return 0;
}

void session_free(struct session *session)
{
	if (!session)
		return;
	session_stop(session);
	sampling_free(session->sampling);
	capture_free(session->capture);
	reconcile_free(session->reconcile);
	judge_free(session->judge);
	ledger_free(session->ledger);
	stacks_free(session->stacks);
	type_cache_free(session->types);
	code_cache_free(session->codes);
	opening_free(session->target);
	free(session);
}

int session_drain(struct session *session)
{
	uint64_t until;
	int r;

	until = capture_produced(session->capture);
	while (capture_consumed(session->capture) < until) {
		r = session_consume(session, CONSUME_BATCH);
		if (r < 0)
			return r;
		if (r == 0)
			break; /* a record reserved and not yet committed: the next round's */
	}
	return 0;
}

/* A replay takes the same records at the same points: up to the mark. */
static int drain_for_reconcile(void *context)
{
	struct session *session = context;
	int r = 0;

	if (session->capture)
		r = session_drain(session);
	recorded_mark(session, RECORDING_DRAINED, 0, (uint64_t)-r);
	return r;
}

/* The baseline comes after the probes: what is born in between is in both. */
int session_begin_reconciling(struct session *session, int (*drain)(void *context), void *context,
			      struct fault *reterr_fault)
{
	const struct reconcile_source source = {
		.interpreter = session->interpreter,
		.types = session->types,
		.ledger = session->ledger,
		.drain = drain,
		.context = context,
	};

	return reconcile_new(&source, &session->reconcile, reterr_fault);
}

/* Threads that may allocate without ever having held the GIL under our eyes. */
static void tell_threads(struct session *session)
{
	_cleanup_free_ struct interpreter_thread *threads = NULL;
	size_t n;
	int r;

	/* Told to the probes only: a replay has none. */
	recorded_observe(session, false);
	r = interpreter_threads(session->interpreter, &threads, &n, NULL);
	recorded_observe(session, true);
	if (r < 0)
		return;
	for (size_t i = 0; i < n; i++)
		capture_add_thread(session->capture, threads[i].pthread_address,
				   threads[i].tstate);
}

/* Without, it goes on as a session without probes would. */
static int start_sampling(struct session *session)
{
	int r = sampling_start(session);

	if (r == -ENOMEM)
		return r;
	if (r < 0) {
		session_refuse(session, "probes", "sampling could not start: %s", strerror(-r));
		capture_detach(session->capture);
		session->state = SESSION_WATCHED;
	}
	return 0;
}

int session_start(struct session *session, char *ret_message)
{
	struct fault fault = FAULT_NONE;
	int r;

	if (session->options.no_probes)
		session->state = SESSION_WATCHED;
	else
		session->state = probing_start(session) == 0 ? SESSION_PROBED : SESSION_WATCHED;
	session->facts.probed = session->state == SESSION_PROBED;
	recorded_start(session);
	/* Everything up to here went by the pid. */
	recorded_observe(session, false);
	r = opening_verify(session->target, ret_message);
	recorded_observe(session, true);
	if (r < 0) {
		session_stop(session);
		return r;
	}
	if (session->state == SESSION_PROBED)
		tell_threads(session);
	if (session->state == SESSION_PROBED && session->options.sampled)
		return start_sampling(session);
	r = session_begin_reconciling(session, drain_for_reconcile, session, &fault);
	if (r == 0)
		return 0;
	if (session->state == SESSION_PROBED) {
		session_refuse(session, "reconciliation with the heap", "%s",
			       reason_sentence(fault.reason));
		return 0;
	}
	snprintf(ret_message, SESSION_MESSAGE_BYTES,
		 "the heap of process %d can't be read (%s): run as root, and look at its "
		 "allocator with pyleakd check --pid %d",
		 session->facts.pid, reason_sentence(fault.reason), session->facts.pid);
	session_stop(session);
	return r;
}

void session_quiesce(struct session *session)
{
	if (session->state != SESSION_PROBED)
		return;
	capture_deactivate(session->capture);
	session_drain(session);
}

void session_stop(struct session *session)
{
	if (session->state == SESSION_STOPPED)
		return;
	if (session->capture) {
		if (session->sampling)
			sampling_stop(session);
		session_quiesce(session);
		capture_counters(session->capture, &session->counters);
		capture_detach(session->capture);
	}
	if (session->sampling)
		turn_leave(session->options.turn);
	if (session->state != SESSION_OPEN) /* one that never began is not in the recording */
		recorded_mark(session, RECORDING_STOPPED, 0, 0);
	session->state = SESSION_STOPPED;
}

enum session_state session_state(const struct session *session)
{
	return session->state;
}

pid_t session_pid(const struct session *session)
{
	return session->facts.pid;
}

const char *session_command(const struct session *session)
{
	return session->facts.command;
}

int session_fd(const struct session *session)
{
	return session->state == SESSION_PROBED ? capture_fd(session->capture) : -1;
}

static void take_record(void *context, const struct wire_header *record, size_t size)
{
	struct session *session = context;

	if (session->options.recording)
		recording_write_record(session->options.recording, record, size);
	session_record(session, record, size);
}

int session_consume(struct session *session, size_t max_records)
{
	if (!session->capture)
		return 0;
	return capture_consume(session->capture, take_record, session,
			       max_records ? max_records : SIZE_MAX);
}

bool session_window_is_open(const struct session *session)
{
	return session->sampling && sampling_window_is_open(session->sampling);
}

int session_step(struct session *session, double time_seconds, double *ret_next_seconds)
{
	if (session->sampling)
		return sampling_step(session, time_seconds, ret_next_seconds);
	*ret_next_seconds = time_seconds + SESSION_CONSUME_SECONDS;
	return session_consume(session, SESSION_CONSUME_MAX);
}

bool session_target_alive(const struct session *session)
{
	return session->target && process_is_alive(&session->target->id);
}

/* Not more often than they can be read. */
void session_refresh_stacks(struct session *session, double time_seconds)
{
	double pause_seconds = fmin(fmax(SESSION_FORGET_RATIO * time_seconds,
					 SESSION_FORGET_SECONDS_MIN),
				    SESSION_FORGET_SECONDS_MAX);

	if (time_seconds - session->codes_looked_at_seconds >= SESSION_CODES_SECONDS) {
		session->codes_looked_at_seconds = time_seconds;
		recorded_mark(session, RECORDING_FORGET_CODES, time_seconds, 0);
		code_cache_begin_look(session->codes);
	}
	if (!session->codes_died || session->state != SESSION_PROBED ||
	    time_seconds - session->forgotten_at_seconds < pause_seconds)
		return;
	session->codes_died = false;
	session->forgotten_at_seconds = time_seconds;
	capture_forget_stacks(session->capture);
}

uint64_t session_hits(const struct session *session)
{
	uint64_t hits = session->counters.mappings;

	for (size_t i = 0; i < SITE_KINDS; i++)
		hits += session->counters.hits[i];
	return hits;
}

double session_overhead(const struct session *session, double time_seconds)
{
	if (!session->facts.probed)
		return 0;
	if (session->hit_seconds == 0 || time_seconds <= 0)
		return NAN;
	/* Threads that run at once may spend more than all of one's time there. */
	return fmin((double)session_hits(session) * session->hit_seconds / time_seconds, 1);
}

void session_look_at_resident(struct session *session)
{
	struct process_memory memory;

	if (process_memory(session->facts.pid, &memory) == 0 && session->moment != MOMENT_EXEC &&
	    session_target_alive(session))
		session->resident_bytes = memory.resident_bytes;
}

/* Without probes nobody tells of an exec, and a full ring loses what is told. */
static void look_for_exec(struct session *session)
{
	const struct wire_process exec = {
		.header = { .kind = WIRE_EXEC, .site = 0xffff },
		.pid = (uint32_t)session->facts.pid,
	};
	char message[OPENING_MESSAGE_BYTES];
	int r;

	if (!session->target || session->state == SESSION_STOPPED || session_is_over(session))
		return;
	recorded_observe(session, false);
	r = opening_verify(session->target, message);
	recorded_observe(session, true);
	if (r == -EAGAIN)
		take_record(session, &exec.header, sizeof(exec));
}

/*
 * The kernel finds the breakpoints' process by its first thread (uprobe_multi_link_filter(),
 * kernel/trace/bpf_trace.c, 6.18): with that gone, whoever else takes its own out of the same
 * file takes ours along.
 */
static void note_leader(struct session *session)
{
	static const char why[] = "its first thread has ended in the session: another session on "
				  "the same interpreter may have taken breakpoints out";

	for (size_t i = 0; i < session->n_refusals; i++)
		if (strcmp(session->refusals[i].why, why) == 0)
			return;
	if (process_leader_is_gone(session->facts.pid))
		session_refuse(session, "probes", "%s", why);
}

int session_tick(struct session *session, double time_seconds, enum session_look look)
{
	int r;

	if (session->state == SESSION_PROBED) {
		r = session_drain(session);
		if (r < 0)
			return r;
		if (!session_is_over(session)) {
			tell_threads(session);
			note_leader(session);
		}
		session_refresh_stacks(session, time_seconds);
		capture_counters(session->capture, &session->counters);
	}
	look_for_exec(session);
	session_look_at_resident(session);
	recorded_counters(session);
	recorded_mark(session, RECORDING_TICK, time_seconds, look);
	if (!session->sampling)
		return session_account(session, time_seconds, look);
	if (look == SESSION_LOOK_EARLY)
		return 0;
	return sampling_account(session, time_seconds, look == SESSION_LOOK_COMPLETE);
}

int session_finish(struct session *session, const struct session_clock *clock)
{
	int r;

	if (!isnan(session->ended_seconds))
		return 0;
	r = session_tick(session, clock->now(clock->context), SESSION_LOOK_COMPLETE);
	if (r < 0)
		return r;
	/* The look takes its time, and the target goes on meanwhile. */
	session_quiesce(session);
	session->ended_seconds = clock->now(clock->context);
	session_stop(session);
	return 0;
}

double session_ended_seconds(const struct session *session)
{
	return session->ended_seconds;
}

bool session_is_over(const struct session *session)
{
	return session->moment != MOMENT_SESSION_END;
}
