/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * One CPython runtime in one process: which version and build it is, where its
 * structures lie, confirmed by what the target itself says.  The entrance to
 * this room; the parts are in code.h, pymalloc.h, objects.h.
 */
#ifndef PYLEAKD_CPYTHON_INTERPRETER_H
#define PYLEAKD_CPYTHON_INTERPRETER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/fault.h"
#include "cpython/layout.h"
#include "cpython/memory.h"
#include "target/image.h"

#define INTERPRETER_THREADS_MAX 65536

enum interpreter_allocator {
	ALLOCATOR_UNKNOWN, /* a hook of somebody else's: custom functions in the table */
	ALLOCATOR_PYMALLOC,
	ALLOCATOR_MALLOC,
	ALLOCATOR_PYMALLOC_DEBUG,
	ALLOCATOR_MALLOC_DEBUG,
};

struct interpreter_version {
	unsigned minor, micro; /* 3.minor.micro */
	char text[32]; /* "3.11.2", "3.15.0b4" as the interpreter spells it */
};

struct interpreter;

/*
 * What an image says of itself without a process: is it a CPython of ours?
 * -ENOENT NOT_FOUND: no Python runtime in this image. -EOPNOTSUPP UNSUPPORTED:
 * one that is not supported; ret_version is filled as far as it is known, and
 * *ret_why points to a static sentence ("a free-threaded build", "Python 2", …).
 */
int interpreter_identify(const struct image *image, struct interpreter_version *ret_version,
			 const char **ret_why, struct fault *reterr_fault);

/*
 * Confirms layout and runtime in the target. image and memory stay the
 * caller's and must outlive the interpreter. native_ids: the process's thread
 * ids as its own pid namespace counts them (NSpid's last column).
 * -EPROTO CONTRADICTION: reterr_fault->field names the field that disagrees.
 * -EAGAIN NOT_FOUND: the interpreter has not started yet (or has ended).
 * -EOPNOTSUPP UNSUPPORTED: as interpreter_identify().
 */
int interpreter_new(struct memory *memory, const struct image *image, uint64_t bias,
		    const pid_t *native_ids, size_t n_native_ids, struct interpreter **ret,
		    struct fault *reterr_fault);
void interpreter_free(struct interpreter *interpreter);

const struct interpreter_version *interpreter_version(const struct interpreter *interpreter);
const struct layout *interpreter_layout(const struct interpreter *interpreter);
struct memory *interpreter_memory(const struct interpreter *interpreter);
enum interpreter_allocator interpreter_allocator(const struct interpreter *interpreter);
const char *allocator_name(enum interpreter_allocator allocator);
/* Built with the JIT compiler and, where the version says so (3.14+), with it turned on. */
bool interpreter_has_jit(const struct interpreter *interpreter);
/* NULL where it was restored from a recording. */
const struct image *interpreter_image(const struct interpreter *interpreter);
/*
 * Address in the target of a symbol of the interpreter's image (PyDict_Type …); 0: none.
 * A restored one knows _PyRuntime and PyCode_Type only.
 */
uint64_t interpreter_symbol(const struct interpreter *interpreter, const char *name);

/* What the BPF frame walker has to know beyond the layout's offsets. */
struct interpreter_stack_roots {
	uint64_t tstate_current_address; /* up to 3.11; 0: by thread-local storage */
	int64_t tstate_tls_offset; /* from the thread pointer; 3.12+ */
	/*
	 * Not 0: the interpreter is a library loaded later, whose thread-local block lies
	 * elsewhere in each thread: at dtv[tls_module] + tls_module_offset, where dtv is
	 * *(thread pointer + 8), of entries of tls_dtv_entry_bytes (16 in glibc, 8 in musl);
	 * in a thread without the block yet the entry is 0 or all ones. tstate_tls_offset is
	 * not valid then.
	 */
	uint64_t tls_module;
	uint64_t tls_module_offset;
	uint32_t tls_dtv_entry_bytes;
	uint64_t code_type_address; /* PyCode_Type */
};
int interpreter_stack_roots(const struct interpreter *interpreter,
			    struct interpreter_stack_roots *ret, struct fault *reterr_fault);

/*
 * Where the runtime names the thread state that tears it down: from after the
 * last atexit function on, before the first object goes.  0: the layout does
 * not say.
 */
uint64_t interpreter_finalizing_address(const struct interpreter *interpreter);
/* Whether it has begun to. -ENOENT: the layout does not say; else as memory_read_u64(). */
int interpreter_is_finalizing(const struct interpreter *interpreter, bool *ret,
			      struct fault *reterr_fault);

/* One allocator state: the process's up to 3.11, an interpreter's from 3.12 on. */
struct interpreter_arenas {
	uint64_t interp; /* whose; 0: the process's */
	uint64_t arenas; /* address of the array of struct arena_object */
	uint32_t maxarenas; /* its length */
};
#define INTERPRETERS_MAX 4096
#define ARENAS_MAX (1u << 20) /* struct arena_object of one state */
/*
 * Read anew at each call, as the array moves when it grows; states that several
 * interpreters share come once, those without arenas not at all. The array is
 * the caller's, to free(); NULL and 0 where pymalloc has no arenas.
 */
int interpreter_arenas(const struct interpreter *interpreter, struct interpreter_arenas **ret,
		       size_t *ret_n, struct fault *reterr_fault);

struct interpreter_thread {
	uint64_t tstate;
	uint64_t interp;
	uint64_t pthread_address; /* pthread_self() */
	/* 0 where the version has none (before 3.11). The parent's after a fork by C code. */
	uint64_t native_id;
};
/*
 * All thread states of all interpreters; the array is the caller's, to free().
 * Of one moment only as far as a running target lets it be.
 */
int interpreter_threads(const struct interpreter *interpreter, struct interpreter_thread **ret,
			size_t *ret_n, struct fault *reterr_fault);

#endif
