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

struct batch {
	struct sample_due *due;
	struct liveness_look *looks;
	struct sample_seen *seen;
};

static void batch_done(struct batch *batch)
{
	free(batch->due);
	free(batch->looks);
	free(batch->seen);
}

static int batch_make(struct batch *batch)
{
	batch->due = calloc(SAMPLING_LOOKS_MAX, sizeof(*batch->due));
	batch->looks = calloc(SAMPLING_LOOKS_MAX, sizeof(*batch->looks));
	batch->seen = calloc(SAMPLING_LOOKS_MAX, sizeof(*batch->seen));
	return batch->due && batch->looks && batch->seen ? 0 : -ENOMEM;
}

/* The first n of the batch's due. 0, or -errno. */
static int look_at_batch(struct session *session, double time_seconds, const struct batch *batch,
			 size_t n)
{
	struct sampling *sampling = session->sampling;
	int r;

	for (size_t i = 0; i < n; i++)
		to_look(&batch->due[i], &batch->looks[i]);
	r = liveness_look(sampling->liveness, batch->looks, n, NULL);
	if (r < 0)
		return r;
	if (is_at_its_end(session))
		return 0;
	/* Whatever was made at these addresses meanwhile is known before the answers are. */
	if (session->capture)
		session_drain(session);
	if (sampling_heap_ended(session))
		return 0;
	for (size_t i = 0; i < n; i++)
		to_seen(session, &batch->due[i], &batch->looks[i], &batch->seen[i]);
	for (size_t i = 0; i < n; i++)
		leave_to_owner(sampling->samples, &batch->looks[i]);
	samples_looked(sampling->samples, time_seconds, batch->seen, n);
	return 0;
}

int sampling_look(struct session *session, double time_seconds, bool all)
{
	__attribute__((cleanup(batch_done))) struct batch batch = {0};
	struct samples *samples = session->sampling->samples;
	int r = batch_make(&batch);

	if (r < 0 || is_at_its_end(session))
		return r;
	session->sampling->looked_at = time_seconds;
	if (all)
		samples_make_due(samples, time_seconds);
	for (size_t round = 0; r == 0 && round < (all ? ROUNDS_MAX : 1); round++) {
		size_t n = samples_due(samples, time_seconds, batch.due, SAMPLING_LOOKS_MAX);

		if (n > 0)
			r = look_at_batch(session, time_seconds, &batch, n);
		if (n < SAMPLING_LOOKS_MAX)
			break;
	}
	return r;
}

void sampling_look_at_window(struct session *session, uint32_t window, double time_seconds)
{
	__attribute__((cleanup(batch_done))) struct batch batch = {0};
	size_t n;

	if (batch_make(&batch) < 0 || is_at_its_end(session))
		return;
	n = samples_due_of_window(session->sampling->samples, window, time_seconds, batch.due,
				  SAMPLING_LOOKS_MAX);
	if (n > 0)
		look_at_batch(session, time_seconds, &batch, n);
}
