/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "cpython/interpreter.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cpython/interpreter_private.h"

/* A running target changes its lists while they are read: a contradiction counts if it stays. */
#define ATTEMPTS 8

int contradiction(uint64_t where, const char *field, struct fault *reterr_fault)
{
	return fault_set(reterr_fault, -EPROTO, REASON_CONTRADICTION, where, field);
}

int interpreter_read_u64(const struct interpreter *interpreter, uint64_t structure,
			 uint32_t offset, const char *field, uint64_t *ret,
			 struct fault *reterr_fault)
{
	int error;

	if (offset == LAYOUT_ABSENT)
		return fault_set(reterr_fault, -EOPNOTSUPP, REASON_UNSUPPORTED, structure, field);
	error = memory_read_u64(interpreter->memory, structure + offset, ret, reterr_fault);
	if (error && reterr_fault)
		reterr_fault->field = field;
	return error;
}

int interpreter_read_u32(const struct interpreter *interpreter, uint64_t structure,
			 uint32_t offset, const char *field, uint32_t *ret,
			 struct fault *reterr_fault)
{
	int error;

	if (offset == LAYOUT_ABSENT)
		return fault_set(reterr_fault, -EOPNOTSUPP, REASON_UNSUPPORTED, structure, field);
	error = memory_read_u32(interpreter->memory, structure + offset, ret, reterr_fault);
	if (error && reterr_fault)
		reterr_fault->field = field;
	return error;
}

/* The row of the version, and over it what the target says itself (3.13+). */
static int layout_choose(struct interpreter *interpreter, struct fault *reterr_fault)
{
	const struct interpreter_version *version = &interpreter->version;
	const struct layout *row = layout_find(version->minor, version->micro);
	uint8_t bytes[DEBUG_OFFSETS_BYTES_MAX];
	int error;

	if (!row)
		return fault_set(reterr_fault, -EOPNOTSUPP, REASON_UNSUPPORTED, 0, "version");
	interpreter->layout = *row;
	if (version->minor < 13)
		return 0;
	error = memory_read(interpreter->memory, interpreter->runtime, bytes, sizeof(bytes),
			    reterr_fault);
	if (error)
		return error;
	error = debug_offsets_apply(bytes, sizeof(bytes), &interpreter->layout, reterr_fault);
	return error == -ENOENT ? 0 : error;
}

static int confirm_once(struct interpreter *interpreter, const pid_t *native_ids,
			size_t n_native_ids, struct fault *reterr_fault)
{
	int error = confirm_types(interpreter, reterr_fault);

	if (!error)
		error = confirm_code(interpreter, reterr_fault);
	if (!error)
		error = confirm_threads(interpreter, native_ids, n_native_ids, reterr_fault);
	if (!error)
		error = confirm_frames(interpreter, reterr_fault);
	if (!error)
		error = allocator_detect(interpreter, &interpreter->allocator, reterr_fault);
	if (!error)
		error = arenas_locate(interpreter, reterr_fault);
	if (error == -EPROTO && interpreter_is_starting(interpreter))
		return fault_set(reterr_fault, -EAGAIN, REASON_NOT_FOUND, 0, "arenas");
	return error;
}

int interpreter_confirm(struct interpreter *interpreter, const pid_t *native_ids,
			size_t n_native_ids, struct fault *reterr_fault)
{
	int error = -EPROTO;

	for (int i = 0; i < ATTEMPTS && (error == -EPROTO || error == -EFAULT); i++)
		error = confirm_once(interpreter, native_ids, n_native_ids, reterr_fault);
	return error;
}

/* Built in, and not turned off in the main interpreter. */
static bool jit_runs(const struct interpreter *interpreter)
{
	_cleanup_free_ uint64_t *interps = NULL;
	uint32_t offset = interpreter->layout.interp_jit;
	uint8_t enabled;
	size_t n;

	if (!jit_built(interpreter->image))
		return false;
	if (offset == LAYOUT_ABSENT || interpreters_read(interpreter, &interps, &n, NULL))
		return true;
	if (memory_read(interpreter->memory, interps[n - 1] + offset, &enabled, 1, NULL))
		return true;
	return enabled != 0;
}

static int interpreter_open(struct interpreter *interpreter, const pid_t *native_ids,
			    size_t n_native_ids, struct fault *reterr_fault)
{
	const char *why;
	int error = interpreter_identify(interpreter->image, &interpreter->version, &why,
					 reterr_fault);

	if (error)
		return error;
	interpreter->runtime = interpreter_symbol(interpreter, "_PyRuntime");
	error = layout_choose(interpreter, reterr_fault);
	if (!error)
		error = interpreter_confirm(interpreter, native_ids, n_native_ids, reterr_fault);
	if (!error)
		interpreter->has_jit = jit_runs(interpreter);
	return error;
}

int interpreter_new(struct memory *memory, const struct image *image, uint64_t bias,
		    const pid_t *native_ids, size_t n_native_ids, struct interpreter **ret,
		    struct fault *reterr_fault)
{
	CLEANUP(interpreter_free) struct interpreter *interpreter = calloc(1, sizeof(*interpreter));
	struct fault fault = { 0 }; /* of attempts too, which a later one may have made good */
	int error;

	if (!interpreter)
		return -ENOMEM;
	interpreter->memory = memory;
	interpreter->image = image;
	interpreter->bias = bias;
	error = interpreter_open(interpreter, native_ids, n_native_ids, &fault);
	if (error)
		return fault_set(reterr_fault, error, fault.reason, fault.where, fault.field);
	*ret = TAKE_PTR(interpreter);
	return 0;
}

void interpreter_free(struct interpreter *interpreter)
{
	free(interpreter);
}

/* What a recording keeps of the image's symbols: those asked for after the confirmation. */
static uint64_t recorded_symbol(const struct interpreter *interpreter, const char *name)
{
	if (strcmp(name, "_PyRuntime") == 0)
		return interpreter->runtime;
	return strcmp(name, "PyCode_Type") == 0 ? interpreter->code_type : 0;
}

uint64_t interpreter_symbol(const struct interpreter *interpreter, const char *name)
{
	struct image_symbol symbol;

	if (!interpreter->image)
		return recorded_symbol(interpreter, name);
	if (image_symbol(interpreter->image, name, &symbol))
		return 0;
	return symbol.vaddr + interpreter->bias;
}

const struct interpreter_version *interpreter_version(const struct interpreter *interpreter)
{
	return &interpreter->version;
}

const struct layout *interpreter_layout(const struct interpreter *interpreter)
{
	return &interpreter->layout;
}

struct memory *interpreter_memory(const struct interpreter *interpreter)
{
	return interpreter->memory;
}

const struct image *interpreter_image(const struct interpreter *interpreter)
{
	return interpreter->image;
}

enum interpreter_allocator interpreter_allocator(const struct interpreter *interpreter)
{
	return interpreter->allocator;
}

const char *allocator_name(enum interpreter_allocator allocator)
{
	static const char *const names[] = {
		[ALLOCATOR_UNKNOWN] = "unknown",
		[ALLOCATOR_PYMALLOC] = "pymalloc",
		[ALLOCATOR_MALLOC] = "malloc",
		[ALLOCATOR_PYMALLOC_DEBUG] = "pymalloc_debug",
		[ALLOCATOR_MALLOC_DEBUG] = "malloc_debug",
	};

	return (size_t)allocator < ARRAY_SIZE(names) ? names[allocator] : "unknown";
}

bool interpreter_has_jit(const struct interpreter *interpreter)
{
	return interpreter->has_jit;
}
