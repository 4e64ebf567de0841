/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "service/replay.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "report/snapshot_build.h"
#include "service/final_report.h"
#include "service/recorded.h"
#include "service/recording.h"
#include "service/session_private.h"

DEFINE_CLEANUP(struct recording_reader *, recording_reader_free)
DEFINE_CLEANUP(struct memory *, memory_free)
DEFINE_CLEANUP(struct interpreter *, interpreter_free)
DEFINE_CLEANUP(struct session *, session_free)
DEFINE_CLEANUP(struct output *, output_free)
DEFINE_CLEANUP(struct snapshot *, snapshot_free)

struct replay {
	struct recording_reader *reader;
	struct session *session;
	double time_seconds;	   /* of the last tick */
	struct snapshot *snapshot; /* the last one; NULL: none was made in the session */
	struct fault fault;
};

/* Records up to where the live session had drained its ring. */
static int drain(void *context)
{
	struct replay *replay = context;
	struct recording_item item;

	while (recording_next(replay->reader, &item, &replay->fault) > 0) {
		if (item.record)
			session_record(replay->session, item.record, item.size);
		else if (item.mark.kind == RECORDING_DRAINED)
			return item.mark.value ? -EIO : 0; /* the session's own could fail too */
	}
	return -ENODATA; /* cut off in the midst of a reconciliation */
}

/* The interpreter's type cache learns from each report, so all of them are made again. */
static int take_report(struct replay *replay, double time_seconds)
{
	struct snapshot *snapshot;
	int r;

	r = session_snapshot(replay->session, time_seconds, &snapshot);
	if (r < 0)
		return r;
	snapshot_free(replay->snapshot);
	replay->snapshot = snapshot;
	return 0;
}

static int begin(struct replay *replay)
{
	struct fault fault;
	int r;

	if (replay->session->reconcile)
		return -EBADMSG;
	r = session_begin_reconciling(replay->session, drain, replay, &fault);
	return r == -ENOMEM ? r : 0; /* where the session could not, it said so */
}

static int take_mark(struct replay *replay, const struct recording_mark *mark)
{
	struct session *session = replay->session;

	if (mark->resident_bytes != UINT64_MAX)
		session->resident_bytes = mark->resident_bytes;
	recorded_take_counters(replay->reader, session);
	switch (mark->kind) {
	case RECORDING_STARTED:
		return begin(replay);
	case RECORDING_FORGET_CODES:
		code_cache_begin_look(session->codes);
		return 0;
	case RECORDING_TICK:
	case RECORDING_REPORTED:
		/* Not a clock's time, or one that runs backwards. */
		if (!(mark->time_seconds >= replay->time_seconds) || isinf(mark->time_seconds))
			return -EBADMSG;
		replay->time_seconds = mark->time_seconds;
		return mark->kind == RECORDING_REPORTED
			       ? take_report(replay, mark->time_seconds)
			       : session_account(session, mark->time_seconds, mark->value);
	default:
		return 0;
	}
}

static int play(struct replay *replay)
{
	struct recording_item item;
	int r = 0;

	while (r >= 0 && (r = recording_next(replay->reader, &item, &replay->fault)) > 0) {
		if (item.record)
			session_record(replay->session, item.record, item.size);
		else
			r = take_mark(replay, &item.mark);
	}
	return r;
}

/* Of what there is: the session was killed, or what it wrote was cut off or damaged since. */
static int report_cut(struct replay *replay)
{
	recorded_take_counters(replay->reader, replay->session);
	session_refuse(replay->session, "the rest of the recording", "%s",
		       reason_sentence(REASON_TRUNCATED));
	return take_report(replay, replay->time_seconds);
}

static int play_to_report(struct replay *replay)
{
	int r = play(replay);

	if (r == -EBADMSG)
		return report_cut(replay);
	if (r < 0 || replay->snapshot)
		return r;
	return take_report(replay, replay->time_seconds); /* it ended before it could report */
}

int replay_report(struct recording_reader *reader, struct memory *memory, struct snapshot **ret,
		  struct fault *reterr_fault)
{
	CLEANUP(interpreter_free) struct interpreter *interpreter = NULL;
	CLEANUP(session_free) struct session *session = calloc(1, sizeof(*session));
	CLEANUP(snapshot_free) struct snapshot *snapshot = NULL;
	struct replay replay = {.reader = reader, .session = session};
	int r;

	if (!session)
		return -ENOMEM;
	session->state = SESSION_STOPPED;
	session->reconciled_seconds = NAN;
	r = recorded_facts(reader, &session->facts, reterr_fault);
	if (r < 0)
		return r;
	r = recorded_interpreter(reader, memory, &interpreter, reterr_fault);
	if (r < 0)
		return r;
	r = session_make_books(session, interpreter);
	if (r == 0)
		r = play_to_report(&replay);
	snapshot = replay.snapshot;
	if (r < 0)
		return r;
	*ret = TAKE_PTR(snapshot);
	return 0;
}

static int run(const struct options *options, struct output *output, bool *ret_leak,
	       struct fault *reterr_fault)
{
	CLEANUP(recording_reader_free) struct recording_reader *reader = NULL;
	CLEANUP(memory_free) struct memory *memory = NULL;
	CLEANUP(snapshot_free) struct snapshot *snapshot = NULL;
	int r;

	r = recording_reader_new(options->recording, &reader, reterr_fault);
	if (r < 0)
		return r;
	r = recording_memory(reader, &memory);
	if (r < 0)
		return r;
	r = replay_report(reader, memory, &snapshot, reterr_fault);
	if (r < 0)
		return r;
	if (recording_is_truncated(reader))
		log_warning("%s is cut off or damaged, ignoring what is missing",
			    options->recording);
	*reterr_fault = FAULT_NONE;
	return final_report_recorded(snapshot, options, output, ret_leak) < 0 ? -ECANCELED : 0;
}

static void explain(const char *path, int error, const struct fault *fault)
{
	if (error == -EBADMSG && fault->reason == REASON_NOT_FOUND)
		log_error("%s holds no session (%s is missing): make one with --record", path,
			  fault->field);
	else if (error == -EBADMSG || error == -EOPNOTSUPP)
		log_error("%s is no recording that can be read (%s: %s): make one with --record",
			  path, fault->field ? fault->field : "recording",
			  reason_sentence(fault->reason));
	else if (error != -ECANCELED) /* the report's failure is told already */
		log_error("%s can't be replayed (%s): give another recording", path,
			  strerror(-error));
}

int replay_run(const struct options *options)
{
	CLEANUP(output_free) struct output *output = NULL;
	char message[OUTPUT_MESSAGE_BYTES];
	struct fault fault = FAULT_NONE;
	bool leak = false;
	int r;

	if (output_new(options->output, &output, message) < 0) {
		log_error("%s", message);
		return STATUS_FAILED;
	}
	r = run(options, output, &leak, &fault);
	if (r < 0) {
		explain(options->recording, r, &fault);
		return STATUS_FAILED;
	}
	return leak && options->fail_on_leak ? STATUS_LEAK : STATUS_OK;
}
