/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * _Py_DebugOffsets: what an interpreter of 3.13 and later says itself about its
 * structures, at the start of _PyRuntime (Include/internal/pycore_runtime.h in
 * 3.13, pycore_debug_offsets.h from 3.14 on).  Its own layout changes with the
 * version, groups being inserted in the middle, and its size is nowhere in it;
 * so it is read with a table per version and size (generated as the layouts
 * are), and left alone where none fits.
 */
#ifndef PYLEAKD_CPYTHON_DEBUG_OFFSETS_H
#define PYLEAKD_CPYTHON_DEBUG_OFFSETS_H

#include <stddef.h>
#include <stdint.h>

#include "base/fault.h"
#include "cpython/layout.h"

#define DEBUG_OFFSETS_BYTES_MAX 1024 /* larger than any yet */
#define DEBUG_OFFSETS_COOKIE "xdebugpy"
#define DEBUG_OFFSETS_STRUCTURE_MAX (1u << 20) /* no structure of CPython's is larger */

/* X(field of struct layout, group, member of the group) */
#define DEBUG_OFFSET_FIELDS(X)                                                                  \
	X(runtime_finalizing, runtime_state, finalizing)                                        \
	X(runtime_interpreters_head, runtime_state, interpreters_head)                          \
	X(interp_id, interpreter_state, id)                                                     \
	X(interp_next, interpreter_state, next)                                                 \
	X(interp_threads_head, interpreter_state, threads_head)                                 \
	X(tstate_prev, thread_state, prev)                                                      \
	X(tstate_next, thread_state, next)                                                      \
	X(tstate_interp, thread_state, interp)                                                  \
	X(tstate_frame, thread_state, current_frame)                                            \
	X(tstate_thread_id, thread_state, thread_id)                                            \
	X(tstate_native_thread_id, thread_state, native_thread_id)                              \
	X(frame_previous, interpreter_frame, previous)                                          \
	X(frame_code, interpreter_frame, executable)                                            \
	X(frame_position, interpreter_frame, instr_ptr)                                         \
	X(frame_owner, interpreter_frame, owner)                                                \
	X(code_filename, code_object, filename)                                                 \
	X(code_name, code_object, name)                                                         \
	X(code_qualname, code_object, qualname)                                                 \
	X(code_linetable, code_object, linetable)                                               \
	X(code_firstlineno, code_object, firstlineno)                                           \
	X(code_code, code_object, co_code_adaptive)                                             \
	X(object_type, pyobject, ob_type)                                                       \
	X(type_name, type_object, tp_name)                                                      \
	X(type_flags, type_object, tp_flags)                                                    \
	X(list_item, list_object, ob_item)                                                      \
	X(dict_keys, dict_object, ma_keys)                                                      \
	X(dict_values, dict_object, ma_values)                                                  \
	X(bytes_data, bytes_object, ob_sval)                                                    \
	X(unicode_state, unicode_object, state)                                                 \
	X(unicode_length, unicode_object, length)                                               \
	X(unicode_ascii_data, unicode_object, asciiobject_size)

/* The groups above; each begins with the size of the structure that it describes. */
#define DEBUG_OFFSET_GROUPS(X)                                                                  \
	X(runtime_state)                                                                        \
	X(interpreter_state)                                                                    \
	X(thread_state)                                                                         \
	X(interpreter_frame)                                                                    \
	X(code_object)                                                                          \
	X(pyobject)                                                                             \
	X(type_object)                                                                          \
	X(list_object)                                                                          \
	X(dict_object)                                                                          \
	X(bytes_object)                                                                         \
	X(unicode_object)

/* Where the members lie in _Py_DebugOffsets: its bytes 0-7 are the cookie, 8-15 the version. */
struct debug_offsets_table {
	uint32_t minor;
	uint32_t size; /* of _Py_DebugOffsets, bytes */
	uint32_t free_threaded;
#define DEBUG_OFFSETS_GROUP(group) uint32_t size_of_##group;
	DEBUG_OFFSET_GROUPS(DEBUG_OFFSETS_GROUP)
#undef DEBUG_OFFSETS_GROUP
#define DEBUG_OFFSETS_FIELD(field, group, member) uint32_t field;
	DEBUG_OFFSET_FIELDS(DEBUG_OFFSETS_FIELD)
#undef DEBUG_OFFSETS_FIELD
};

/*
 * Overlays *layout with what bytes (the first of _PyRuntime) say.
 * 0: done. -ENOENT: there are none, or of an unknown size; layout untouched.
 * -EOPNOTSUPP: they say that this is a free-threaded build.
 * -EBADMSG: malformed; reterr_fault has the field. layout untouched.
 */
int debug_offsets_apply(const uint8_t *bytes, size_t size, struct layout *layout,
			struct fault *reterr_fault);

#endif
