/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * A layout is believed when the target bears it out: the sizes and member
 * tables of its own types, thread states that close a circle with their
 * interpreter, their neighbours and the kernel's threads, frames that lead to
 * code objects.
 */
#include <errno.h>
#include <string.h>

#include "cpython/interpreter_private.h"

#define TYPE_NAME_MAX 32
#define MEMBERS_MAX 64
#define MEMBER_NAME_MAX 32
#define FRAMES_MAX 16 /* looked at of one thread */

/* PyMemberDef, Include/structmember.h, descrobject.h from 3.12 on: the same in 3.8-3.15. */
struct member_definition {
	uint64_t name;
	int32_t type;
	int32_t padding;
	int64_t offset;
	int32_t flags;
	int32_t padding2;
	uint64_t doc;
};

struct type_witness {
	const char *symbol, *name; /* name: tp_name */
	size_t basicsize; /* in struct layout */
	const char *field;
	uint32_t minor_max;
};

#define BASICSIZE(field) offsetof(struct layout, field), #field
static const struct type_witness type_witnesses[] = {
	{ "PyType_Type", "type", BASICSIZE(type_type_basicsize), UINT32_MAX },
	{ "PyCode_Type", "code", BASICSIZE(code_basicsize), UINT32_MAX },
	{ "PyDict_Type", "dict", BASICSIZE(dict_basicsize), UINT32_MAX },
	{ "PyList_Type", "list", BASICSIZE(list_basicsize), UINT32_MAX },
	{ "PySet_Type", "set", BASICSIZE(set_basicsize), UINT32_MAX },
	{ "PyUnicode_Type", "str", BASICSIZE(unicode_basicsize), UINT32_MAX },
	{ "PyBytes_Type", "bytes", BASICSIZE(bytes_basicsize), UINT32_MAX },
	/* From 3.11 on the frame object is another structure than the frame that we read. */
	{ "PyFrame_Type", "frame", BASICSIZE(frame_size), 10 },
};

struct member_witness {
	const char *symbol, *member;
	size_t offset; /* in struct layout */
	const char *field;
	uint32_t minor_max;
};

#define MEMBER(field) offsetof(struct layout, field), #field
static const struct member_witness member_witnesses[] = {
	{ "PyCode_Type", "co_firstlineno", MEMBER(code_firstlineno), UINT32_MAX },
	{ "PyCode_Type", "co_filename", MEMBER(code_filename), UINT32_MAX },
	{ "PyCode_Type", "co_name", MEMBER(code_name), UINT32_MAX },
	{ "PyCode_Type", "co_qualname", MEMBER(code_qualname), UINT32_MAX },
	{ "PyCode_Type", "co_linetable", MEMBER(code_linetable), UINT32_MAX },
	{ "PyCode_Type", "co_lnotab", MEMBER(code_linetable), UINT32_MAX },
	{ "PyCode_Type", "co_code", MEMBER(code_code), UINT32_MAX },
	{ "PyType_Type", "__basicsize__", MEMBER(type_basicsize), UINT32_MAX },
	{ "PyType_Type", "__itemsize__", MEMBER(type_itemsize), UINT32_MAX },
	{ "PyType_Type", "__flags__", MEMBER(type_flags), UINT32_MAX },
	{ "PyType_Type", "__dictoffset__", MEMBER(type_dictoffset), UINT32_MAX },
	{ "PyType_Type", "__base__", MEMBER(type_base), UINT32_MAX },
	{ "PyFrame_Type", "f_back", MEMBER(frame_previous), 10 },
	{ "PyFrame_Type", "f_code", MEMBER(frame_code), 10 },
	{ "PyFrame_Type", "f_lasti", MEMBER(frame_position), 10 },
};

static uint32_t layout_value(const struct interpreter *interpreter, size_t offset)
{
	uint32_t value;

	memcpy(&value, (const uint8_t *)&interpreter->layout + offset, sizeof(value));
	return value;
}

/* tp_name first: it tells whether there is a type at all. */
static int confirm_type(const struct interpreter *interpreter, const struct type_witness *witness,
			struct fault *reterr_fault)
{
	uint64_t type = interpreter_symbol(interpreter, witness->symbol);
	uint32_t expected = layout_value(interpreter, witness->basicsize);
	char name[TYPE_NAME_MAX];
	uint64_t pointer, basicsize;
	int error;

	if (!type || expected == LAYOUT_ABSENT || interpreter->layout.minor > witness->minor_max)
		return 0;
	error = READ_FIELD(interpreter, type, type_name, &pointer, reterr_fault);
	if (error)
		return error;
	error = memory_read_string(interpreter->memory, pointer, name, sizeof(name), NULL);
	if (error == -ENODATA)
		return error;
	if (error || strcmp(name, witness->name) != 0)
		return contradiction(type, "type_name", reterr_fault);
	error = READ_FIELD(interpreter, type, type_basicsize, &basicsize, reterr_fault);
	if (!error && basicsize != expected)
		return contradiction(type, witness->field, reterr_fault);
	return error;
}

/* Offset that a type's tp_members gives for a member. -ENOENT: it has no such member. */
static int member_offset(const struct interpreter *interpreter, uint64_t type, const char *member,
			 int64_t *ret, struct fault *reterr_fault)
{
	uint64_t table;
	int error = READ_FIELD(interpreter, type, type_members, &table, reterr_fault);

	for (int i = 0; !error && table && i < MEMBERS_MAX; i++) {
		struct member_definition definition;
		char name[MEMBER_NAME_MAX];

		error = memory_read(interpreter->memory, table + i * sizeof(definition),
				    &definition, sizeof(definition), reterr_fault);
		if (error || !definition.name)
			break;
		if (memory_read_string(interpreter->memory, definition.name, name, sizeof(name),
				       NULL) ||
		    strcmp(name, member) != 0)
			continue;
		*ret = definition.offset;
		return 0;
	}
	return error ? error : -ENOENT;
}

static int confirm_member(const struct interpreter *interpreter,
			  const struct member_witness *witness, struct fault *reterr_fault)
{
	uint64_t type = interpreter_symbol(interpreter, witness->symbol);
	uint32_t expected = layout_value(interpreter, witness->offset);
	int64_t offset;
	int error;

	if (!type || expected == LAYOUT_ABSENT || interpreter->layout.minor > witness->minor_max)
		return 0;
	error = member_offset(interpreter, type, witness->member, &offset, reterr_fault);
	if (error)
		return error == -ENOENT ? 0 : error;
	if (offset != expected)
		return contradiction(type, witness->field, reterr_fault);
	return 0;
}

/* A witness that is swapped out is not called back for this: the others speak. */
static int or_absent(int error)
{
	return error == -ENODATA ? 0 : error;
}

int confirm_types(const struct interpreter *interpreter, struct fault *reterr_fault)
{
	int error = 0;

	for (size_t i = 0; !error && i < ARRAY_SIZE(type_witnesses); i++)
		error = or_absent(confirm_type(interpreter, &type_witnesses[i], reterr_fault));
	for (size_t i = 0; !error && i < ARRAY_SIZE(member_witnesses); i++)
		error = or_absent(confirm_member(interpreter, &member_witnesses[i], reterr_fault));
	return error;
}

static bool has_address(const uint64_t *addresses, size_t n, uint64_t wanted)
{
	for (size_t i = 0; i < n; i++)
		if (addresses[i] == wanted)
			return true;
	return false;
}

/* Every thread state points back to an interpreter of the list, and to its neighbour. */
static int confirm_circle(const struct interpreter *interpreter,
			  const struct interpreter_thread *threads, size_t n,
			  struct fault *reterr_fault)
{
	_cleanup_free_ uint64_t *interps = NULL;
	uint64_t main_interp;
	size_t n_interps;
	int error = interpreters_read(interpreter, &interps, &n_interps, reterr_fault);

	if (!error)
		error = READ_FIELD(interpreter, interpreter->runtime, runtime_interpreters_main,
				   &main_interp, reterr_fault);
	if (!error && interps[n_interps - 1] != main_interp)
		return contradiction(interpreter->runtime, "runtime_interpreters_main",
				     reterr_fault);
	for (size_t i = 0; !error && i < n; i++) {
		uint64_t previous, expected = 0;

		if (!has_address(interps, n_interps, threads[i].interp))
			return contradiction(threads[i].tstate, "tstate_interp", reterr_fault);
		if (i && threads[i - 1].interp == threads[i].interp)
			expected = threads[i - 1].tstate;
		error = READ_FIELD(interpreter, threads[i].tstate, tstate_prev, &previous,
				   reterr_fault);
		if (!error && previous != expected)
			return contradiction(threads[i].tstate, "tstate_prev", reterr_fault);
	}
	return error;
}

static bool is_native_id(const pid_t *native_ids, size_t n, uint64_t id)
{
	for (size_t i = 0; i < n; i++)
		if (native_ids[i] > 0 && (uint64_t)native_ids[i] == id)
			return true;
	return false;
}

/*
 * pthread_self() is the thread pointer, whose first word is itself (tcbhead_t
 * of glibc's sysdeps/x86_64/nptl/tls.h, struct pthread of musl).
 */
static bool is_thread_pointer(const struct interpreter *interpreter, uint64_t pointer)
{
	uint64_t self;

	return !memory_read_u64(interpreter->memory, pointer, &self, NULL) && self == pointer;
}

/*
 * A fork that Python does not learn of (uWSGI's workers without threads) leaves
 * the parent's ids in the child's thread states: then an id has at least to be
 * one that the kernel could give (PID_MAX_LIMIT of Linux, linux/threads.h).
 */
static bool could_be_native_id(uint64_t id)
{
	return id > 0 && id <= 4 * 1024 * 1024;
}

/*
 * A first thread state stands in the list before it has its ids: new_threadstate()
 * of 3.11 asks for the native one last, by a system call; 3.12 has bind_tstate().
 */
static bool is_being_made(const struct interpreter *interpreter,
			  const struct interpreter_thread *thread)
{
	return !thread->pthread_address ||
	       (interpreter->layout.tstate_native_thread_id != LAYOUT_ABSENT && !thread->native_id);
}

int confirm_threads(const struct interpreter *interpreter, const pid_t *native_ids,
		    size_t n_native_ids, struct fault *reterr_fault)
{
	_cleanup_free_ struct interpreter_thread *threads = NULL;
	bool has_ids = interpreter->layout.tstate_native_thread_id != LAYOUT_ABSENT;
	bool native = !has_ids, pointer = false;
	size_t n;
	int error = interpreter_threads(interpreter, &threads, &n, reterr_fault);

	if (error)
		return error;
	if (!n)
		return fault_set(reterr_fault, -EAGAIN, REASON_NOT_FOUND, interpreter->runtime,
				 "interp_threads_head");
	error = confirm_circle(interpreter, threads, n, reterr_fault);
	if (error)
		return error;
	if (n == 1 && is_being_made(interpreter, &threads[0]))
		return fault_set(reterr_fault, -EAGAIN, REASON_NOT_FOUND, threads[0].tstate,
				 "tstate_native_thread_id");
	for (size_t i = 0; i < n; i++) {
		bool self = is_thread_pointer(interpreter, threads[i].pthread_address);

		pointer |= self;
		native |= is_native_id(native_ids, n_native_ids, threads[i].native_id) ||
			  (self && could_be_native_id(threads[i].native_id));
	}
	if (!pointer)
		return contradiction(threads[0].tstate, "tstate_thread_id", reterr_fault);
	if (!native)
		return contradiction(threads[0].tstate, "tstate_native_thread_id", reterr_fault);
	return 0;
}

static int first_frame(const struct interpreter *interpreter, uint64_t tstate, uint64_t *ret)
{
	uint64_t frame;
	int error = READ_FIELD(interpreter, tstate, tstate_frame, &frame, NULL);

	/* cframe (3.11, 3.12) is never null: the root one lies in the thread state. */
	if (!error && interpreter->layout.cframe_current_frame != LAYOUT_ABSENT)
		error = READ_FIELD(interpreter, frame, cframe_current_frame, &frame, NULL);
	if (!error)
		*ret = frame;
	return error;
}

static bool leads_to_code(const struct interpreter *interpreter, uint64_t frame,
			  uint64_t code_type)
{
	for (int i = 0; frame && i < FRAMES_MAX; i++) {
		uint64_t code, type;

		if (READ_FIELD(interpreter, frame, frame_code, &code, NULL))
			return false;
		/* Tagged from 3.14 on (pycore_stackref.h): the two low bits are no address. */
		code &= ~3ULL;
		if (!READ_FIELD(interpreter, code, object_type, &type, NULL) && type == code_type)
			return true;
		if (READ_FIELD(interpreter, frame, frame_previous, &frame, NULL))
			return false;
	}
	return false;
}

/* One thread whose frame leads to a code object is enough: the others may be running. */
int confirm_frames(const struct interpreter *interpreter, struct fault *reterr_fault)
{
	_cleanup_free_ struct interpreter_thread *threads = NULL;
	uint64_t code_type = interpreter_symbol(interpreter, "PyCode_Type");
	uint64_t failed = 0;
	size_t n;
	int error = interpreter_threads(interpreter, &threads, &n, reterr_fault);

	if (error)
		return error;
	if (!code_type)
		return fault_set(reterr_fault, -ENOENT, REASON_NOT_FOUND, 0, "PyCode_Type");
	for (size_t i = 0; i < n; i++) {
		uint64_t frame = 0;

		error = first_frame(interpreter, threads[i].tstate, &frame);
		if (error == -ENODATA || (!error && !frame))
			continue; /* swapped out, or no frame: says nothing */
		if (!error && leads_to_code(interpreter, frame, code_type))
			return 0;
		failed = threads[i].tstate;
	}
	return failed ? contradiction(failed, "frame_code", reterr_fault) : 0;
}

bool interpreter_is_starting(const struct interpreter *interpreter)
{
	_cleanup_free_ struct interpreter_thread *threads = NULL;
	uint64_t frame;
	size_t n;
	int error = interpreter_threads(interpreter, &threads, &n, NULL);

	if (error)
		return error == -EAGAIN;
	return n == 1 && first_frame(interpreter, threads[0].tstate, &frame) == 0 && !frame;
}
