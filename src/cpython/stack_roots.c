/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Where the thread state of whoever runs is found.  Up to 3.11 it is a field
 * of _PyRuntime.  From 3.12 on it is the thread-local _Py_tss_tstate, which
 * has no symbol in a stripped interpreter; but the exported function that
 * returns it reads it.  What the code names by a slot of the global offset
 * table, the loader has put there: it is read from the running process.
 */
#include <errno.h>

#include "cpython/interpreter_private.h"
#include "cpython/thread_local.h"

#define GLIBC_DTV_ENTRY 16 /* dtv_t: {void *val; void *to_free}, sysdeps/generic/dl-dtv.h */
#define MUSL_DTV_ENTRY 8 /* uintptr_t, src/internal/pthread_impl.h */
#define TLS_MODULES_MAX 4096
#define STATIC_AREA_MAX_BYTES (1u << 20) /* of one thread; usually a few KiB */

static int find_access(const struct image *image, struct thread_local_access *ret)
{
	static const char *const functions[] = { "PyThreadState_GetUnchecked",
						 "_PyThreadState_UncheckedGet",
						 "_PyThreadState_GetCurrent",
						 "PyThreadState_Get" };

	for (size_t i = 0; i < ARRAY_SIZE(functions); i++) {
		struct image_symbol symbol;

		if (!image_symbol(image, functions[i], &symbol) &&
		    !thread_local_find(image, symbol.vaddr, ret))
			return 0;
	}
	return -ENOENT;
}

struct block {
	uint64_t start;
	bool allocated; /* not part of the thread's own static area */
};

/* A module's block in one thread; -ENODATA: it has none yet. */
static int module_block(const struct interpreter *interpreter, uint64_t thread_pointer,
			uint64_t module, uint32_t entry_bytes, struct block *ret)
{
	uint64_t dtv, entry[2] = { 0 };
	int error = memory_read_u64(interpreter->memory, thread_pointer + 8, &dtv, NULL);

	if (!error)
		error = memory_read(interpreter->memory, dtv + module * entry_bytes, entry,
				    entry_bytes, NULL);
	if (error)
		return error;
	if (!entry[0] || entry[0] == UINT64_MAX) /* TLS_DTV_UNALLOCATED */
		return -ENODATA;
	ret->start = entry[0];
	/* glibc keeps what is to be freed; static blocks lie right below the thread pointer. */
	ret->allocated = entry[1] || thread_pointer - entry[0] > STATIC_AREA_MAX_BYTES;
	return 0;
}

/* Null, or a thread state: of another interpreter's where several share a thread. */
static bool could_be_current(const struct interpreter_thread *threads, size_t n, uint64_t content)
{
	if (!content)
		return true;
	for (size_t i = 0; i < n; i++)
		if (threads[i].tstate == content)
			return true;
	return false;
}

/* How a variable of a module lies in the threads, as far as they have it. */
struct placement {
	size_t n; /* threads that have it */
	size_t n_wrong; /* whose content is no thread state */
	bool constant; /* in the static area, and so as far from the thread pointer in all */
	int64_t offset; /* from there */
};

static struct placement place(const struct interpreter *interpreter,
			      const struct interpreter_thread *threads, size_t n, uint64_t module,
			      uint64_t offset, uint32_t entry_bytes)
{
	struct placement placement = { .constant = true };

	for (size_t i = 0; i < n; i++) {
		struct block block;
		uint64_t content;
		int64_t distance;

		if (module_block(interpreter, threads[i].pthread_address, module, entry_bytes,
				 &block))
			continue;
		if (memory_read_u64(interpreter->memory, block.start + offset, &content, NULL) ||
		    !could_be_current(threads, n, content)) {
			placement.n_wrong++;
			continue;
		}
		distance = (int64_t)(block.start + offset - threads[i].pthread_address);
		placement.constant &= !block.allocated &&
				      (!placement.n || distance == placement.offset);
		placement.offset = distance;
		placement.n++;
	}
	return placement;
}

/* glibc's and musl's vectors differ: the one in which the threads' states are found is it. */
static int resolve_module(const struct interpreter *interpreter, uint64_t module, uint64_t offset,
			  struct interpreter_stack_roots *ret, struct fault *reterr_fault)
{
	static const uint32_t entries[] = { GLIBC_DTV_ENTRY, MUSL_DTV_ENTRY };
	_cleanup_free_ struct interpreter_thread *threads = NULL;
	size_t n;
	int error = interpreter_threads(interpreter, &threads, &n, reterr_fault);

	if (error)
		return error;
	for (size_t i = 0; i < ARRAY_SIZE(entries); i++) {
		struct placement placement =
			place(interpreter, threads, n, module, offset, entries[i]);

		if (!placement.n || placement.n_wrong > placement.n)
			continue;
		if (placement.constant) {
			ret->tstate_tls_offset = placement.offset;
			return 0;
		}
		ret->tls_module = module;
		ret->tls_module_offset = offset;
		ret->tls_dtv_entry_bytes = entries[i];
		return 0;
	}
	return contradiction(0, "_Py_tss_tstate", reterr_fault);
}

static int resolve_slot(const struct interpreter *interpreter,
			const struct thread_local_access *access,
			struct interpreter_stack_roots *ret, struct fault *reterr_fault)
{
	uint64_t slot = access->slot + interpreter->bias, words[2];
	size_t size = access->kind == THREAD_LOCAL_OFFSET_SLOT ? sizeof(words[0]) : sizeof(words);
	int error = memory_read(interpreter->memory, slot, words, size, reterr_fault);

	if (error)
		return error;
	switch (access->kind) {
	case THREAD_LOCAL_OFFSET_SLOT:
		ret->tstate_tls_offset = (int64_t)words[0] + access->displacement;
		return 0;
	case THREAD_LOCAL_DESCRIPTOR: /* of a static block: the argument is its offset */
		ret->tstate_tls_offset = (int64_t)words[1] + access->displacement;
		return 0;
	default:
		if (!words[0] || words[0] > TLS_MODULES_MAX)
			return contradiction(slot, "_Py_tss_tstate", reterr_fault);
		return resolve_module(interpreter, words[0],
				      words[1] + (uint64_t)access->displacement, ret, reterr_fault);
	}
}

/* A thread has at this offset a thread state, or nothing. */
static int confirm_offset(const struct interpreter *interpreter, int64_t offset,
			  struct fault *reterr_fault)
{
	_cleanup_free_ struct interpreter_thread *threads = NULL;
	size_t n, n_right = 0;
	int error = interpreter_threads(interpreter, &threads, &n, reterr_fault);

	for (size_t i = 0; !error && i < n; i++) {
		uint64_t content;

		if (!memory_read_u64(interpreter->memory,
				     threads[i].pthread_address + (uint64_t)offset, &content,
				     NULL) &&
		    could_be_current(threads, n, content))
			n_right++;
	}
	if (!error && n && !n_right)
		error = contradiction((uint64_t)offset, "_Py_tss_tstate", reterr_fault);
	return error;
}

static int tls_locate(const struct interpreter *interpreter, struct interpreter_stack_roots *ret,
		      struct fault *reterr_fault)
{
	struct thread_local_access access;
	int error;

	if (find_access(interpreter->image, &access))
		return fault_set(reterr_fault, -ENOENT, REASON_NOT_FOUND, 0, "_Py_tss_tstate");
	if (access.kind == THREAD_LOCAL_OFFSET) {
		ret->tstate_tls_offset = access.displacement;
	} else {
		error = resolve_slot(interpreter, &access, ret, reterr_fault);
		if (error)
			return error;
	}
	return ret->tls_module ? 0
			       : confirm_offset(interpreter, ret->tstate_tls_offset, reterr_fault);
}

int interpreter_stack_roots(const struct interpreter *interpreter,
			    struct interpreter_stack_roots *ret, struct fault *reterr_fault)
{
	struct interpreter_stack_roots roots = { 0 };
	uint32_t current = interpreter->layout.runtime_tstate_current;

	roots.code_type_address = interpreter_symbol(interpreter, "PyCode_Type");
	if (!roots.code_type_address)
		return fault_set(reterr_fault, -ENOENT, REASON_NOT_FOUND, 0, "PyCode_Type");
	if (current != LAYOUT_ABSENT) {
		roots.tstate_current_address = interpreter->runtime + current;
	} else if (interpreter->image) { /* in a recording, no thread has to be found any more */
		int error = tls_locate(interpreter, &roots, reterr_fault);

		if (error)
			return error;
	}
	*ret = roots;
	return 0;
}
