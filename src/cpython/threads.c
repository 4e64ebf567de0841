/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Interpreters and thread states: linked lists in a running target, walked
 * with bounds.  A list that changes under the reader ends in a fault or a
 * contradiction; whoever confirms tries again.
 */
#include <errno.h>
#include <stdlib.h>

#include "cpython/interpreter_private.h"

#define GROW_FIRST 8

/* Makes room for one more element of size bytes, n of them being in use. */
static int grow(void **array, size_t n, size_t *capacity, size_t size)
{
	size_t wanted = *capacity ? *capacity * 2 : GROW_FIRST;
	void *larger;

	if (n < *capacity)
		return 0;
	larger = realloc(*array, wanted * size);
	if (!larger)
		return -ENOMEM;
	*array = larger;
	*capacity = wanted;
	return 0;
}

int interpreters_read(const struct interpreter *interpreter, uint64_t **ret, size_t *ret_n,
		      struct fault *reterr_fault)
{
	_cleanup_free_ void *interps = NULL;
	size_t n = 0, capacity = 0;
	uint64_t interp;
	int error = READ_FIELD(interpreter, interpreter->runtime, runtime_interpreters_head,
			       &interp, reterr_fault);

	while (!error && interp) {
		if (n == INTERPRETERS_MAX || interp % sizeof(uint64_t))
			return contradiction(interp, "interp_next", reterr_fault);
		error = grow(&interps, n, &capacity, sizeof(uint64_t));
		if (error)
			break;
		((uint64_t *)interps)[n++] = interp;
		error = READ_FIELD(interpreter, interp, interp_next, &interp, reterr_fault);
	}
	if (error)
		return error;
	if (!n)
		return fault_set(reterr_fault, -EAGAIN, REASON_NOT_FOUND, interpreter->runtime,
				 "runtime_interpreters_head");
	*ret = TAKE_PTR(interps);
	*ret_n = n;
	return 0;
}

static int thread_read(const struct interpreter *interpreter, uint64_t tstate,
		       struct interpreter_thread *ret, struct fault *reterr_fault)
{
	struct interpreter_thread thread = { .tstate = tstate };
	int error = READ_FIELD(interpreter, tstate, tstate_interp, &thread.interp, reterr_fault);

	if (!error)
		error = READ_FIELD(interpreter, tstate, tstate_thread_id, &thread.pthread_address,
				   reterr_fault);
	if (!error && interpreter->layout.tstate_native_thread_id != LAYOUT_ABSENT)
		error = READ_FIELD(interpreter, tstate, tstate_native_thread_id, &thread.native_id,
				   reterr_fault);
	if (!error)
		*ret = thread;
	return error;
}

struct thread_list {
	void *threads; /* struct interpreter_thread */
	size_t n, capacity;
};

static int threads_of(const struct interpreter *interpreter, uint64_t interp,
		      struct thread_list *list, struct fault *reterr_fault)
{
	uint64_t tstate;
	int error = READ_FIELD(interpreter, interp, interp_threads_head, &tstate, reterr_fault);

	while (!error && tstate) {
		struct interpreter_thread thread;

		if (list->n == INTERPRETER_THREADS_MAX || tstate % sizeof(uint64_t))
			return contradiction(tstate, "tstate_next", reterr_fault);
		error = grow(&list->threads, list->n, &list->capacity, sizeof(thread));
		if (!error)
			error = thread_read(interpreter, tstate, &thread, reterr_fault);
		if (error)
			return error;
		((struct interpreter_thread *)list->threads)[list->n++] = thread;
		error = READ_FIELD(interpreter, tstate, tstate_next, &tstate, reterr_fault);
	}
	return error;
}

int interpreter_threads(const struct interpreter *interpreter, struct interpreter_thread **ret,
			size_t *ret_n, struct fault *reterr_fault)
{
	_cleanup_free_ uint64_t *interps = NULL;
	struct thread_list list = { 0 };
	size_t n_interps;
	int error = interpreters_read(interpreter, &interps, &n_interps, reterr_fault);

	for (size_t i = 0; !error && i < n_interps; i++)
		error = threads_of(interpreter, interps[i], &list, reterr_fault);
	if (error) {
		free(list.threads);
		return error;
	}
	*ret = list.threads;
	*ret_n = list.n;
	return 0;
}
