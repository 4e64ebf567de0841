/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Where pymalloc keeps its arenas: in static variables up to 3.11, which in a
 * stripped interpreter only the code names; in the interpreter's state in
 * 3.12, behind a pointer in it from 3.13 on.  Found places are believed when
 * the arena objects and a few pools there hold together.
 */
#include <errno.h>
#include <string.h>

#include "cpython/arenas_private.h"
#include "cpython/instructions.h"

#define READ_ATTEMPTS 4
#define ARENAS_INITIAL 16 /* INITIAL_ARENA_OBJECTS; doubled when full (Objects/obmalloc.c) */

/*
 * Address of an interpreter's struct _obmalloc_state; 0: it has none.  In 3.12
 * it lies in the interpreter itself, in all of its patch releases: the pointer
 * of gh-113055 came with 3.13 (its backport, python/cpython pull request
 * 118618, was closed unmerged).
 */
static int state_of(const struct interpreter *interpreter, uint64_t interp, uint64_t *ret,
		    struct fault *reterr_fault)
{
	if (interpreter->layout.minor > 12)
		return READ_FIELD(interpreter, interp, interp_obmalloc, ret, reterr_fault);
	*ret = interp + interpreter->layout.interp_obmalloc;
	return 0;
}

/* The two variables that lead to the array; they are neighbours in no particular order. */
static int read_variables(const struct interpreter *interpreter, uint64_t arenas_variable,
			  uint64_t maxarenas_variable, struct interpreter_arenas *ret,
			  struct fault *reterr_fault)
{
	int error = memory_read_u64(interpreter->memory, arenas_variable, &ret->arenas,
				    reterr_fault);

	if (!error)
		error = memory_read_u32(interpreter->memory, maxarenas_variable, &ret->maxarenas,
					reterr_fault);
	return error;
}

static bool is_empty(const struct interpreter_arenas *arenas)
{
	return !arenas->arenas && !arenas->maxarenas;
}

static bool is_plausible(const struct interpreter_arenas *arenas)
{
	uint32_t multiple = arenas->maxarenas / ARENAS_INITIAL;

	return arenas->arenas && arenas->arenas % sizeof(uint64_t) == 0 && multiple &&
	       arenas->maxarenas % ARENAS_INITIAL == 0 && (multiple & (multiple - 1)) == 0 &&
	       arenas->maxarenas <= ARENAS_MAX;
}

/* Plausible, and confirmed with at least one arena in use. */
static int try_arenas(struct interpreter *interpreter, const struct interpreter_arenas *arenas,
		      const char *field, struct fault *reterr_fault)
{
	size_t n_used;
	int error;

	if (!is_plausible(arenas))
		return contradiction(arenas->arenas, field, reterr_fault);
	error = arenas_confirm(interpreter, arenas, &n_used, reterr_fault);
	if (!error && !n_used)
		error = contradiction(arenas->arenas, field, reterr_fault);
	return error;
}

/* --- up to 3.11 --- */

static int try_variables(struct interpreter *interpreter, uint64_t arenas_variable,
			 uint64_t maxarenas_variable, struct fault *reterr_fault)
{
	struct interpreter_arenas arenas = { 0 };
	int error = read_variables(interpreter, arenas_variable, maxarenas_variable, &arenas,
				   reterr_fault);

	if (!error)
		error = try_arenas(interpreter, &arenas, "arenas", reterr_fault);
	if (error)
		return error;
	interpreter->arenas_variable = arenas_variable;
	interpreter->maxarenas_variable = maxarenas_variable;
	return 0;
}

/* All pairs of a pointer and a 32-bit number that a function loads: at most a few dozen pairs. */
static int try_function(struct interpreter *interpreter, const char *function,
			struct fault *reterr_fault)
{
	struct references references;
	const struct reference *entries = references.entries;
	int error = references_of_function(interpreter->image, function, &references);

	if (error)
		return contradiction(0, "arenas", reterr_fault);
	for (size_t i = 0; i < references.n; i++)
		for (size_t k = 0; k < references.n; k++)
			if (entries[i].load_bytes == 8 && entries[k].load_bytes == 4 &&
			    !try_variables(interpreter, entries[i].vaddr + interpreter->bias,
					   entries[k].vaddr + interpreter->bias, reterr_fault))
				return 0;
	return contradiction(0, "arenas", reterr_fault);
}

static int locate_static(struct interpreter *interpreter, struct fault *reterr_fault)
{
	/* 3.8's _Py_GetAllocatedBlocks only reads a counter; the other prints all there is. */
	static const char *const functions[] = { "_Py_GetAllocatedBlocks",
						 "_PyObject_DebugMallocStats" };
	uint64_t arenas = interpreter_symbol(interpreter, "arenas");
	uint64_t maxarenas = interpreter_symbol(interpreter, "maxarenas");

	if (arenas && maxarenas && !try_variables(interpreter, arenas, maxarenas, reterr_fault))
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(functions); i++)
		if (!try_function(interpreter, functions[i], reterr_fault))
			return 0;
	return contradiction(0, "arenas", reterr_fault);
}

/* --- 3.12 and later --- */

static int try_state(struct interpreter *interpreter, uint64_t interp, struct fault *reterr_fault)
{
	struct interpreter_arenas arenas = { 0 };
	uint64_t state;
	int error = state_of(interpreter, interp, &state, reterr_fault);

	if (!error && state)
		error = read_variables(interpreter, state + interpreter->layout.obmalloc_arenas,
				       state + interpreter->layout.obmalloc_maxarenas, &arenas,
				       reterr_fault);
	if (error == -EFAULT) /* a pointer that leads nowhere is none */
		error = contradiction(state, "interp_obmalloc", reterr_fault);
	if (!error)
		error = try_arenas(interpreter, &arenas, "interp_obmalloc", reterr_fault);
	return error;
}

static int locate_state(struct interpreter *interpreter, struct fault *reterr_fault)
{
	_cleanup_free_ uint64_t *interps = NULL;
	size_t n;
	int error = interpreters_read(interpreter, &interps, &n, reterr_fault);

	return error ? error : try_state(interpreter, interps[n - 1], reterr_fault);
}

int arenas_locate(struct interpreter *interpreter, struct fault *reterr_fault)
{
	int error = interpreter->layout.interp_obmalloc == LAYOUT_ABSENT
			    ? locate_static(interpreter, reterr_fault)
			    : locate_state(interpreter, reterr_fault);

	/* Only where pymalloc is in use must there be arenas. */
	if (error == -EPROTO && interpreter->allocator != ALLOCATOR_PYMALLOC &&
	    interpreter->allocator != ALLOCATOR_PYMALLOC_DEBUG)
		return 0;
	return error;
}

/* --- what others ask for --- */

static int arenas_of_process(const struct interpreter *interpreter,
			     struct interpreter_arenas **ret, size_t *ret_n,
			     struct fault *reterr_fault)
{
	_cleanup_free_ struct interpreter_arenas *arenas = calloc(1, sizeof(*arenas));
	int error;

	if (!arenas)
		return -ENOMEM;
	error = interpreter->arenas_variable
			? read_variables(interpreter, interpreter->arenas_variable,
					 interpreter->maxarenas_variable, arenas, reterr_fault)
			: 0;
	if (error)
		return error;
	if (!is_empty(arenas) && !is_plausible(arenas))
		return contradiction(arenas->arenas, "arenas", reterr_fault);
	*ret_n = !is_empty(arenas);
	*ret = *ret_n ? TAKE_PTR(arenas) : NULL;
	return 0;
}

static bool seen_before(const uint64_t *states, size_t n, uint64_t state)
{
	for (size_t i = 0; i < n; i++)
		if (states[i] == state)
			return true;
	return false;
}

/* The arenas of interps[i] behind those of its predecessors; states[0..i) are theirs. */
static int add_state(const struct interpreter *interpreter, uint64_t interp, uint64_t *states,
		     size_t i, struct interpreter_arenas *arenas, size_t *n,
		     struct fault *reterr_fault)
{
	struct interpreter_arenas found = { .interp = interp };
	int error = state_of(interpreter, interp, &states[i], reterr_fault);

	if (error || !states[i] || seen_before(states, i, states[i]))
		return error;
	error = read_variables(interpreter, states[i] + interpreter->layout.obmalloc_arenas,
			       states[i] + interpreter->layout.obmalloc_maxarenas, &found,
			       reterr_fault);
	if (error || is_empty(&found))
		return error;
	if (!is_plausible(&found))
		return contradiction(found.arenas, "obmalloc_arenas", reterr_fault);
	arenas[(*n)++] = found;
	return 0;
}

static int arenas_of_interpreters(const struct interpreter *interpreter,
				  struct interpreter_arenas **ret, size_t *ret_n,
				  struct fault *reterr_fault)
{
	_cleanup_free_ uint64_t *interps = NULL;
	_cleanup_free_ uint64_t *states = NULL;
	_cleanup_free_ struct interpreter_arenas *arenas = NULL;
	size_t n_interps, n = 0;
	int error = interpreters_read(interpreter, &interps, &n_interps, reterr_fault);

	if (error)
		return error;
	states = calloc(n_interps, sizeof(*states));
	arenas = calloc(n_interps, sizeof(*arenas));
	if (!states || !arenas)
		return -ENOMEM;
	for (size_t i = 0; !error && i < n_interps; i++)
		error = add_state(interpreter, interps[i], states, i, arenas, &n, reterr_fault);
	if (error)
		return error;
	*ret = n ? TAKE_PTR(arenas) : NULL;
	*ret_n = n;
	return 0;
}

static int read_arenas(const struct interpreter *interpreter, struct interpreter_arenas **ret,
		       size_t *ret_n, struct fault *reterr_fault)
{
	if (interpreter->layout.interp_obmalloc == LAYOUT_ABSENT)
		return arenas_of_process(interpreter, ret, ret_n, reterr_fault);
	return arenas_of_interpreters(interpreter, ret, ret_n, reterr_fault);
}

int interpreter_arenas(const struct interpreter *interpreter, struct interpreter_arenas **ret,
		       size_t *ret_n, struct fault *reterr_fault)
{
	struct fault fault = { 0 };
	int error = -EPROTO;

	/* The array moved, or an interpreter ended, between two of the reads. */
	for (int i = 0; i < READ_ATTEMPTS && (error == -EPROTO || error == -EFAULT); i++)
		error = read_arenas(interpreter, ret, ret_n, &fault);
	return error ? fault_set(reterr_fault, error, fault.reason, fault.where, fault.field) : 0;
}
