/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* What the heap says of the addresses that were seen. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "service/sampling_growth.h"
#include "service/sampling_private.h"

/* Rounds in one call where all that lives is to be looked at. */
#define ROUNDS_MAX 64

static const uint8_t answer_of[] = {
	[LIVENESS_LIVE] = SAMPLE_LIVE,	   [LIVENESS_CHANGED] = SAMPLE_CHANGED,
	[LIVENESS_DEAD] = SAMPLE_DEAD,	   [LIVENESS_REUSED] = SAMPLE_REUSED,
	[LIVENESS_PARKED] = SAMPLE_PARKED, [LIVENESS_ZOMBIE] = SAMPLE_ZOMBIE,
	[LIVENESS_UNKNOWN] = SAMPLE_UNKNOWN,
};

static void to_look(const struct sample_due *due, struct liveness_look *ret)
{
	*ret = (struct liveness_look){
		.address = due->address,
		.type = due->type,
		.kind = (uint8_t)due->kind,
		.has_fingerprint = due->has_fingerprint,
	};
	for (size_t i = 0; i < SAMPLE_WORDS; i++)
		ret->fingerprint[i] = due->fingerprint[i];
	if (due->has_fingerprint && due->size_class < SAMPLES_CLASS_BUFFERS)
		ret->size_bytes = (due->size_class + 1ull) * 16;
}

static void to_seen(const struct session *session, const struct sample_due *due,
		    const struct liveness_look *look, struct sample_seen *ret)
{
	*ret = (struct sample_seen){
		.handle = due->handle,
		.answer = answer_of[look->answer],
		.type = look->type,
		.size_bytes = sampling_growth_unmapped(session, due->address, look->size_bytes),
		.size_class = look->size_class == LIVENESS_NO_CLASS ? SAMPLES_CLASS_NONE :
								      look->size_class,
	};
	for (size_t i = 0; i < SAMPLE_WORDS; i++)
		ret->fingerprint[i] = look->fingerprint[i];
	for (size_t i = 0; i < look->n_buffers; i++)
		ret->buffer_bytes += sampling_growth_unmapped(session, look->buffers[i],
							      look->buffer_sizes[i]);
}

/*
 * An interpreter that tears down its heap ends the session: what it frees was
 * outstanding.  To be asked behind each look, which may have seen some of that.
 */
static bool is_at_its_end(struct session *session)
{
	bool finalizing = false;

	if (session->moment == MOMENT_SESSION_END &&
	    interpreter_is_finalizing(session->interpreter, &finalizing, NULL) == 0 && finalizing)
		session->moment = MOMENT_FINALIZATION;
	return session->moment != MOMENT_SESSION_END;
}

/* What an object owns is counted with it, and not once more as a chunk of the C library's. */
static void leave_to_owner(struct samples *samples, const struct liveness_look *look)
{
	if (look->kind != LIVENESS_OBJECT ||
	    (look->answer != LIVENESS_LIVE && look->answer != LIVENESS_CHANGED))
		return;
	for (size_t i = 0; i < look->n_buffers; i++)
		samples_free_seen(samples, look->buffers[i]);
}

/* One batch; returns how many were due, or -errno. */
static ssize_t look_at_batch(struct session *session, double time_seconds, struct sample_due *due,
			     struct liveness_look *looks, struct sample_seen *seen)
{
	struct sampling *sampling = session->sampling;
	size_t n = samples_due(sampling->samples, time_seconds, due, SAMPLING_LOOKS_MAX);
	int r;

	if (n == 0)
		return 0;
	for (size_t i = 0; i < n; i++)
		to_look(&due[i], &looks[i]);
	r = liveness_look(sampling->liveness, looks, n, NULL);
	if (r < 0)
		return r;
	if (is_at_its_end(session))
		return 0;
	/* Whatever was made at these addresses meanwhile is known before the answers are. */
	if (session->capture)
		session_consume(session, 0);
	if (sampling_heap_ended(session))
		return 0;
	for (size_t i = 0; i < n; i++)
		to_seen(session, &due[i], &looks[i], &seen[i]);
	for (size_t i = 0; i < n; i++)
		leave_to_owner(sampling->samples, &looks[i]);
	samples_looked(sampling->samples, time_seconds, seen, n);
	return (ssize_t)n;
}

int sampling_look(struct session *session, double time_seconds, bool all)
{
	_cleanup_free_ struct sample_due *due = calloc(SAMPLING_LOOKS_MAX, sizeof(*due));
	_cleanup_free_ struct liveness_look *looks = calloc(SAMPLING_LOOKS_MAX, sizeof(*looks));
	_cleanup_free_ struct sample_seen *seen = calloc(SAMPLING_LOOKS_MAX, sizeof(*seen));

	if (!due || !looks || !seen)
		return -ENOMEM;
	if (is_at_its_end(session))
		return 0;
	session->sampling->looked_at = time_seconds;
	if (all)
		samples_make_due(session->sampling->samples, time_seconds);
	for (size_t round = 0; round < (all ? ROUNDS_MAX : 1); round++) {
		ssize_t n = look_at_batch(session, time_seconds, due, looks, seen);

		if (n < 0)
			return (int)n;
		if (n < SAMPLING_LOOKS_MAX)
			break;
	}
	return 0;
}
