/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Of what types there are more and more: windows go to the sites that make
 * them.  The heap says it by itself, without a probe: its live objects, counted
 * by type every few seconds, in the same pools each time.
 *
 *	heap ──▶ objects by type, at the start and now ──▶ types that grow
 *	                      samples: who makes a type ──▶ sites ──▶ governor
 */
#ifndef PYLEAKD_SERVICE_SAMPLING_FOCUS_H
#define PYLEAKD_SERVICE_SAMPLING_FOCUS_H

#include "cpython/objects.h"
#include "judge/judge.h"

/* So much of a heap is gone through at once; of a larger one, one pool in 2, 4, 8 … */
#define FOCUS_HEAP_BYTES (8ull << 20)
#define FOCUS_TYPES_MAX 8

struct focus;
struct session;

/* arena_bytes: what the heap has now. 0, or as census_take(). */
int focus_new(const struct interpreter *interpreter, struct type_cache *types,
	      uint64_t arena_bytes, struct focus **ret);
void focus_free(struct focus *focus);

/* A look, where it is time for one: the governor is told of what has changed. */
void sampling_focus_step(struct session *session, double time_seconds);

/* Whether there are more and more of a type, by the heap alone; warming: it was never told. */
void focus_judge(const struct focus *focus, uint64_t type, struct judgement *ret);

/* It is sure that there are more and more of some type. */
bool focus_is_sure(const struct focus *focus);

/* Objects of a type, more than there were when there were least, at most; INFINITY: not known. */
double focus_gained_objects(const struct focus *focus, uint64_t type);

/* Bytes that objects of types that grow have gained since the start, raw buffers left out. */
double focus_gained_bytes(const struct focus *focus);

#endif
