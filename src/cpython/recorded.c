/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "cpython/recorded.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/text.h"
#include "cpython/interpreter_private.h"

#define KEY(name) "interpreter." name
#define OFFSET_MAX (1u << 24) /* _PyRuntime, the largest structure, has less than 1 MiB */
#define SHIFT_MAX 28	      /* of a bit field of three bits in a word of 32 */
#define POOL_BYTES_SMALL 4096
#define POOL_BYTES_LARGE 16384
#define ARENA_BYTES_MIN (1u << 18)
#define ARENA_BYTES_MAX (1u << 30)

/* --- saving --- */

typedef int put_function(void *context, const char *key, const char *value);

static int put_u64(put_function *put, void *context, const char *key, uint64_t value)
{
	char text[TEXT_NUMBER_MAX];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
	return put(context, key, text);
}

static int add_pair(struct buffer *text, const char *name, uint64_t value)
{
	char pair[128];

	snprintf(pair, sizeof(pair), "%s%s=%llu", text->size ? " " : "", name,
		 (unsigned long long)value);
	return buffer_add_string(text, pair);
}

/* Fields that the version does not have are left out. */
static int save_layout(const struct layout *layout, put_function *put, void *context)
{
	_cleanup_buffer_ struct buffer text = buffer_init(RECORDED_TEXT_BYTES - 1);
	int r;

	r = add_pair(&text, "pool_size_bytes", layout->pool_size_bytes);
	if (r == 0)
		r = add_pair(&text, "arena_size_bytes", layout->arena_size_bytes);
#define SAVE_FIELD(field)                                                                          \
	if (r == 0 && layout->field != LAYOUT_ABSENT)                                              \
		r = add_pair(&text, #field, layout->field);
	LAYOUT_FIELDS(SAVE_FIELD)
#undef SAVE_FIELD
	return r < 0 ? r : put(context, KEY("layout"), text.data);
}

/* Where the session did not trust PyCode_Type's address, the replay does not know it either. */
static int save_symbols(const struct interpreter *interpreter, put_function *put, void *context)
{
	_cleanup_buffer_ struct buffer text = buffer_init(RECORDED_TEXT_BYTES - 1);
	struct interpreter_stack_roots roots;
	int r;

	r = add_pair(&text, "_PyRuntime", interpreter->runtime);
	if (r == 0 && interpreter_stack_roots(interpreter, &roots, NULL) == 0)
		r = add_pair(&text, "PyCode_Type", roots.code_type_address);
	return r < 0 ? r : put(context, KEY("symbols"), text.data);
}

int interpreter_save(const struct interpreter *interpreter, put_function *put, void *context)
{
	int r;

	r = put(context, KEY("version"), interpreter->version.text);
	if (r == 0)
		r = put_u64(put, context, KEY("minor"), interpreter->version.minor);
	if (r == 0)
		r = put_u64(put, context, KEY("micro"), interpreter->version.micro);
	if (r == 0)
		r = put_u64(put, context, KEY("bias"), interpreter->bias);
	if (r == 0)
		r = put_u64(put, context, KEY("arenas"), interpreter->arenas_variable);
	if (r == 0)
		r = put_u64(put, context, KEY("maxarenas"), interpreter->maxarenas_variable);
	if (r == 0)
		r = put(context, KEY("allocator"), allocator_name(interpreter->allocator));
	if (r == 0)
		r = put_u64(put, context, KEY("jit"), interpreter->has_jit);
	if (r == 0)
		r = save_symbols(interpreter, put, context);
	return r < 0 ? r : save_layout(&interpreter->layout, put, context);
}

/* --- restoring --- */

struct restoring {
	const char *(*get)(void *context, const char *key);
	void *context;
	struct interpreter *interpreter;
	struct fault *fault;
};

static int refuse(struct restoring *restoring, enum reason reason, const char *field)
{
	return fault_set(restoring->fault, -EBADMSG, reason, 0, field);
}

static int get_text(struct restoring *restoring, const char *key, const char **ret)
{
	const char *text = restoring->get(restoring->context, key);

	if (!text)
		return refuse(restoring, REASON_NOT_FOUND, key);
	if (strlen(text) >= RECORDED_TEXT_BYTES)
		return refuse(restoring, REASON_TOO_LARGE, key);
	*ret = text;
	return 0;
}

static int get_u64(struct restoring *restoring, const char *key, uint64_t max, uint64_t *ret)
{
	const char *text;
	int r = get_text(restoring, key, &text);

	if (r < 0)
		return r;
	if (parse_u64(text, 0, max, ret) < 0)
		return refuse(restoring, REASON_OUT_OF_BOUNDS, key);
	return 0;
}

/* "name=number name=number …": the number of name; -ENOENT, -EINVAL. */
static int find_pair(const char *pairs, const char *name, uint64_t *ret)
{
	char number[TEXT_NUMBER_MAX];
	size_t length = strlen(name);

	for (const char *at = pairs; at; at = strchr(at, ' ')) {
		size_t digits;

		at += *at == ' ';
		if (strncmp(at, name, length) != 0 || at[length] != '=')
			continue;
		at += length + 1;
		digits = strcspn(at, " ");
		if (digits >= sizeof(number))
			return -EINVAL;
		memcpy(number, at, digits);
		number[digits] = '\0';
		return parse_u64(number, 0, UINT64_MAX, ret) < 0 ? -EINVAL : 0;
	}
	return -ENOENT;
}

static int restore_offset(struct restoring *restoring, const char *pairs, const char *field,
			  uint32_t *ret)
{
	uint64_t offset = LAYOUT_ABSENT;
	int r = find_pair(pairs, field, &offset);

	if (r == -EINVAL || (r == 0 && offset > OFFSET_MAX))
		return refuse(restoring, REASON_OUT_OF_BOUNDS, field);
	*ret = (uint32_t)offset;
	return 0;
}

static bool is_power_of_two(uint32_t number)
{
	return number && (number & (number - 1)) == 0;
}

/* Sizes are divided by, shifts are shifted by. */
static int check_layout(struct restoring *restoring, const struct layout *layout)
{
	if (layout->pool_size_bytes != POOL_BYTES_SMALL &&
	    layout->pool_size_bytes != POOL_BYTES_LARGE)
		return refuse(restoring, REASON_OUT_OF_BOUNDS, "pool_size_bytes");
	if (!is_power_of_two(layout->arena_size_bytes) ||
	    layout->arena_size_bytes < ARENA_BYTES_MIN ||
	    layout->arena_size_bytes > ARENA_BYTES_MAX)
		return refuse(restoring, REASON_OUT_OF_BOUNDS, "arena_size_bytes");
	if (layout->unicode_kind_shift > SHIFT_MAX || layout->unicode_compact_shift > SHIFT_MAX ||
	    layout->unicode_ascii_shift > SHIFT_MAX)
		return refuse(restoring, REASON_OUT_OF_BOUNDS, "unicode_state");
	return 0;
}

/* Over the version's own row, which says for which releases it is. */
static int restore_layout(struct restoring *restoring)
{
	struct interpreter *interpreter = restoring->interpreter;
	struct layout *layout = &interpreter->layout;
	const struct layout *row =
		layout_find(interpreter->version.minor, interpreter->version.micro);
	uint64_t arena_bytes = 0;
	const char *pairs;
	int r;

	if (!row)
		return fault_set(restoring->fault, -EOPNOTSUPP, REASON_UNSUPPORTED, 0, "version");
	*layout = *row;
	r = get_text(restoring, KEY("layout"), &pairs);
	if (r < 0)
		return r;
	r = restore_offset(restoring, pairs, "pool_size_bytes", &layout->pool_size_bytes);
	if (r == 0 && find_pair(pairs, "arena_size_bytes", &arena_bytes) < 0)
		r = refuse(restoring, REASON_NOT_FOUND, "arena_size_bytes");
	layout->arena_size_bytes = arena_bytes <= ARENA_BYTES_MAX ? (uint32_t)arena_bytes : 0;
#define RESTORE_FIELD(field)                                                                       \
	if (r == 0)                                                                                \
		r = restore_offset(restoring, pairs, #field, &layout->field);
	LAYOUT_FIELDS(RESTORE_FIELD)
#undef RESTORE_FIELD
	return r < 0 ? r : check_layout(restoring, layout);
}

static int restore_symbols(struct restoring *restoring)
{
	struct interpreter *interpreter = restoring->interpreter;
	const char *pairs;
	int r;

	r = get_text(restoring, KEY("symbols"), &pairs);
	if (r < 0)
		return r;
	if (find_pair(pairs, "_PyRuntime", &interpreter->runtime) < 0 || !interpreter->runtime)
		return refuse(restoring, REASON_NOT_FOUND, "_PyRuntime");
	if (find_pair(pairs, "PyCode_Type", &interpreter->code_type) == -EINVAL)
		return refuse(restoring, REASON_MALFORMED, "PyCode_Type");
	return 0;
}

static int restore_version(struct restoring *restoring)
{
	struct interpreter_version *version = &restoring->interpreter->version;
	uint64_t minor, micro;
	const char *text;
	int r;

	r = get_text(restoring, KEY("version"), &text);
	if (r == 0)
		r = get_u64(restoring, KEY("minor"), UINT8_MAX, &minor);
	if (r == 0)
		r = get_u64(restoring, KEY("micro"), UINT8_MAX, &micro);
	if (r < 0)
		return r;
	if (strlen(text) >= sizeof(version->text))
		return refuse(restoring, REASON_TOO_LARGE, KEY("version"));
	memcpy(version->text, text, strlen(text) + 1);
	text_make_printable(version->text);
	version->minor = (unsigned)minor;
	version->micro = (unsigned)micro;
	return 0;
}

static int restore_allocator(struct restoring *restoring)
{
	struct interpreter *interpreter = restoring->interpreter;
	const char *text;
	uint64_t jit;
	int r;

	r = get_u64(restoring, KEY("bias"), UINT64_MAX, &interpreter->bias);
	if (r == 0)
		r = get_u64(restoring, KEY("arenas"), UINT64_MAX, &interpreter->arenas_variable);
	if (r == 0)
		r = get_u64(restoring, KEY("maxarenas"), UINT64_MAX,
			    &interpreter->maxarenas_variable);
	if (r == 0)
		r = get_u64(restoring, KEY("jit"), 1, &jit);
	if (r == 0)
		r = get_text(restoring, KEY("allocator"), &text);
	if (r < 0)
		return r;
	interpreter->has_jit = jit;
	for (unsigned i = ALLOCATOR_UNKNOWN; i <= ALLOCATOR_MALLOC_DEBUG; i++) {
		interpreter->allocator = i;
		if (strcmp(text, allocator_name(i)) == 0)
			return 0;
	}
	return refuse(restoring, REASON_MALFORMED, KEY("allocator"));
}

int interpreter_restore(const char *(*get)(void *context, const char *key), void *context,
			struct memory *memory, struct interpreter **ret, struct fault *reterr_fault)
{
	CLEANUP(interpreter_free) struct interpreter *interpreter = calloc(1, sizeof(*interpreter));
	struct restoring restoring = {
		.get = get,
		.context = context,
		.interpreter = interpreter,
		.fault = reterr_fault,
	};
	int r;

	if (!interpreter)
		return -ENOMEM;
	interpreter->memory = memory;
	r = restore_version(&restoring);
	if (r == 0)
		r = restore_allocator(&restoring);
	if (r == 0)
		r = restore_symbols(&restoring);
	if (r == 0)
		r = restore_layout(&restoring);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(interpreter);
	return 0;
}
