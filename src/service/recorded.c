/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "service/recorded.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "cpython/recorded.h"
#include "service/options.h"
#include "target/process.h"

_Static_assert(RECORDED_TEXT_BYTES <= RECORDING_VALUE_BYTES_MAX, "an interpreter's text is a fact");
_Static_assert(PROCESS_NAME_MAX <= RECORDING_VALUE_BYTES_MAX, "a command is a fact");
_Static_assert(SESSION_REFUSALS_MAX <= RECORDING_REFUSALS_MAX, "each refusal is recorded");

/* --- the session's side --- */

static int put_fact(void *context, const char *key, const char *value)
{
	return recording_write_fact(context, key, value);
}

void recorded_observe(struct session *session, bool on)
{
	struct recording_writer *writer = session->options.recording;

	if (writer)
		memory_observe(interpreter_memory(session->interpreter),
			       on ? recording_observe_read : NULL, writer);
}

void recorded_start(struct session *session)
{
	struct recording_writer *writer = session->options.recording;
	const struct session_facts *facts = &session->facts;

	if (!writer)
		return;
	recording_write_fact_u64(writer, "pid", (uint64_t)facts->pid);
	recording_write_fact(writer, "command", facts->command);
	recording_write_fact(writer, "python", facts->python);
	recording_write_fact_double(writer, "target_started", facts->target_started);
	recording_write_fact_double(writer, "session_started", facts->session_started);
	recording_write_fact_u64(writer, "probed", facts->probed);
	interpreter_save(session->interpreter, put_fact, writer);
	recorded_counters(session);
	recorded_mark(session, RECORDING_STARTED, 0, 0);
	recorded_observe(session, true);
}

void recorded_mark(struct session *session, enum recording_mark_kind kind, double time_seconds,
		   uint64_t value)
{
	const struct recording_mark mark = {
		.kind = kind,
		.time_seconds = time_seconds,
		.resident_bytes = session->resident_bytes,
		.value = value,
	};

	if (session->options.recording)
		recording_write_mark(session->options.recording, &mark);
}

/* A recording's facts replace each other, its refusals don't. */
static void refusal_key(char *ret, size_t size, size_t index)
{
	snprintf(ret, size, "refusal_%zu_times", index);
}

static void write_refusals(struct session *session)
{
	struct recording_writer *writer = session->options.recording;
	struct session_recorded *before = &session->recorded;
	char key[RECORDING_KEY_BYTES_MAX];

	for (size_t i = 0; i < session->n_refusals; i++) {
		const struct session_refusal *refusal = &session->refusals[i];
		uint64_t told = 1;

		if (i == before->n_refusals) {
			recording_write_refusal(writer, refusal->what, refusal->why);
			before->n_refusals++;
		} else {
			told = before->refusal_times[i];
		}
		before->refusal_times[i] = refusal->times;
		if (refusal->times == told)
			continue;
		refusal_key(key, sizeof(key), i);
		recording_write_fact_u64(writer, key, refusal->times);
	}
}

static void write_loss(struct session *session, enum reason reason, uint64_t count, uint64_t before)
{
	if (count != before)
		recording_write_loss(session->options.recording, reason, count);
}

void recorded_counters(struct session *session)
{
	struct recording_writer *writer = session->options.recording;
	const struct capture_counters *now = &session->counters;
	struct session_recorded *before = &session->recorded;

	if (!writer)
		return;
	for (size_t i = 0; i < WIRE_LOSS_MAX; i++)
		write_loss(session, (enum reason)i, now->losses[i], before->counters.losses[i]);
	write_loss(session, REASON_RECORD_MALFORMED, now->malformed, before->counters.malformed);
	write_loss(session, REASON_CHILD_MISSED, session->losses[REASON_CHILD_MISSED],
		   before->children_missed);
	before->counters = *now;
	before->children_missed = session->losses[REASON_CHILD_MISSED];
	recording_write_fact_u64(writer, "hits", session_hits(session));
	recording_write_fact_double(writer, "hit_seconds", session->hit_seconds);
	write_refusals(session);
}

/* --- the replay's side --- */

static int missing(const char *key, int error, struct fault *reterr_fault)
{
	return fault_set(reterr_fault, -EBADMSG,
			 error == -ENOENT ? REASON_NOT_FOUND : REASON_MALFORMED, 0, key);
}

static int take_number(const struct recording_reader *reader, const char *key, uint64_t max,
		       uint64_t *ret, struct fault *reterr_fault)
{
	uint64_t number;
	int r = recording_fact_u64(reader, key, &number);

	if (r < 0 || number > max)
		return missing(key, r, reterr_fault);
	*ret = number;
	return 0;
}

static int take_time(const struct recording_reader *reader, const char *key, double *ret,
		     struct fault *reterr_fault)
{
	double seconds;
	int r = recording_fact_double(reader, key, &seconds);

	if (r < 0 || !isfinite(seconds))
		return missing(key, r, reterr_fault);
	*ret = seconds;
	return 0;
}

static int take_text(const struct recording_reader *reader, const char *key, char *buffer,
		     size_t size, struct fault *reterr_fault)
{
	const char *text = recording_fact(reader, key);

	if (!text || strlen(text) >= size)
		return missing(key, text ? -EBADMSG : -ENOENT, reterr_fault);
	memcpy(buffer, text, strlen(text) + 1);
	text_make_printable(buffer);
	return 0;
}

int recorded_facts(const struct recording_reader *reader, struct session_facts *ret,
		   struct fault *reterr_fault)
{
	struct session_facts facts = {0};
	uint64_t pid = 0, probed = 0;
	int r;

	r = take_number(reader, "pid", OPTIONS_PID_MAX, &pid, reterr_fault);
	if (r == 0)
		r = take_number(reader, "probed", 1, &probed, reterr_fault);
	if (r == 0)
		r = take_text(reader, "command", facts.command, sizeof(facts.command),
			      reterr_fault);
	if (r == 0)
		r = take_text(reader, "python", facts.python, sizeof(facts.python), reterr_fault);
	if (r == 0)
		r = take_time(reader, "target_started", &facts.target_started, reterr_fault);
	if (r == 0)
		r = take_time(reader, "session_started", &facts.session_started, reterr_fault);
	if (r < 0)
		return r;
	facts.pid = (pid_t)pid;
	facts.probed = probed;
	*ret = facts;
	return 0;
}

static const char *get_fact(void *context, const char *key)
{
	return recording_fact(context, key);
}

int recorded_interpreter(const struct recording_reader *reader, struct memory *memory,
			 struct interpreter **ret, struct fault *reterr_fault)
{
	return interpreter_restore(get_fact, (void *)reader, memory, ret, reterr_fault);
}

static void take_refusals(const struct recording_reader *reader, struct session *session)
{
	char key[RECORDING_KEY_BYTES_MAX];
	const char *what, *why;
	uint64_t times;

	session->n_refusals = 0;
	for (size_t i = 0; i < recording_n_refusals(reader); i++) {
		recording_refusal(reader, i, &what, &why);
		session_refuse(session, what, "%s", why);
		refusal_key(key, sizeof(key), i);
		if (i < session->n_refusals && recording_fact_u64(reader, key, &times) == 0)
			session->refusals[i].times = times;
	}
}

void recorded_take_counters(const struct recording_reader *reader, struct session *session)
{
	struct capture_counters *counters = &session->counters;
	uint64_t hits = 0;

	*counters = (struct capture_counters){0};
	for (size_t i = 0; i < WIRE_LOSS_MAX; i++)
		counters->losses[i] = recording_loss(reader, (enum reason)i);
	counters->malformed = recording_loss(reader, REASON_RECORD_MALFORMED) +
			      recording_malformed_records(reader);
	session->losses[REASON_CHILD_MISSED] = recording_loss(reader, REASON_CHILD_MISSED);
	recording_fact_u64(reader, "hits", &hits);
	counters->mappings = hits; /* of any kind: their sum is what is asked for */
	if (recording_fact_double(reader, "hit_seconds", &session->hit_seconds) < 0 ||
	    !isfinite(session->hit_seconds))
		session->hit_seconds = 0;
	take_refusals(reader, session);
}
