/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Where the fields that we read lie in one build of CPython: offsets in bytes
 * from the structure's start.  Generated per build from CPython's own headers
 * (tools/layouts/), overlaid by _Py_DebugOffsets where the target has them
 * (3.13+), confirmed in the target before use.
 *
 * A field that a version does not have is LAYOUT_ABSENT, which no bounded read
 * accepts: an absent field is never a zero offset.
 */
#ifndef PYLEAKD_CPYTHON_LAYOUT_H
#define PYLEAKD_CPYTHON_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

#define LAYOUT_ABSENT UINT32_MAX

/* X(structure_field): one uint32_t each. Append freely. */
#define LAYOUT_FIELDS(X)                                                                        \
	X(runtime_size)                                                                         \
	X(runtime_tstate_current) /* gilstate.tstate_current, up to 3.11 */                     \
	X(runtime_finalizing) /* _finalizing: the thread state that tears the heap down */      \
	X(runtime_interpreters_head)                                                            \
	X(runtime_interpreters_main)                                                            \
	X(runtime_tss_key) /* autoTSSkey */                                                     \
	X(runtime_ref_tracer) /* ref_tracer.tracer_func, 3.13+ */                               \
	X(runtime_allocator_raw) /* allocators.standard.raw, 3.12+ */                           \
	X(runtime_allocator_mem)                                                                \
	X(runtime_allocator_object)                                                             \
	X(interp_size)                                                                          \
	X(interp_next)                                                                          \
	X(interp_id)                                                                            \
	X(interp_threads_head)                                                                  \
	X(interp_obmalloc) /* 3.12: the state itself; 3.13+: a pointer to it */                 \
	X(interp_jit) /* bool, 3.14+ */                                                         \
	X(obmalloc_arenas)                                                                      \
	X(obmalloc_maxarenas)                                                                   \
	X(arena_size) /* sizeof(struct arena_object) */                                         \
	X(arena_address)                                                                        \
	X(arena_pool_address)                                                                   \
	X(arena_nfreepools)                                                                     \
	X(arena_ntotalpools)                                                                    \
	X(pool_count) /* ref.count */                                                           \
	X(pool_freeblock)                                                                       \
	X(pool_arenaindex)                                                                      \
	X(pool_szidx)                                                                           \
	X(pool_nextoffset)                                                                      \
	X(pool_maxnextoffset)                                                                   \
	X(tstate_size)                                                                          \
	X(tstate_prev)                                                                          \
	X(tstate_next)                                                                          \
	X(tstate_interp)                                                                        \
	X(tstate_frame) /* frame (3.8-3.10), cframe (3.11, 3.12), current_frame (3.13+) */      \
	X(tstate_thread_id)                                                                     \
	X(tstate_native_thread_id)                                                              \
	X(cframe_current_frame)                                                                 \
	X(frame_size)                                                                           \
	X(frame_code) /* f_code, f_executable */                                                \
	X(frame_previous) /* f_back, previous */                                                \
	X(frame_position) /* f_lasti, prev_instr, instr_ptr */                                  \
	X(frame_owner)                                                                          \
	X(object_refcount)                                                                      \
	X(object_type)                                                                          \
	X(var_size)                                                                             \
	X(gc_head_size)                                                                         \
	X(code_filename)                                                                        \
	X(code_name)                                                                            \
	X(code_qualname)                                                                        \
	X(code_firstlineno)                                                                     \
	X(code_linetable) /* co_lnotab, co_linetable */                                         \
	X(code_code) /* co_code (bytes object, up to 3.10) or co_code_adaptive (inline) */      \
	X(code_basicsize) /* tp_basicsize of PyCode_Type, and so on */                          \
	X(unicode_length)                                                                       \
	X(unicode_state)                                                                        \
	X(unicode_kind_shift) /* first bit of .kind, .compact, .ascii in the word at state */   \
	X(unicode_compact_shift)                                                                \
	X(unicode_ascii_shift)                                                                  \
	X(unicode_ascii_data) /* sizeof(PyASCIIObject) */                                       \
	X(unicode_compact_data) /* sizeof(PyCompactUnicodeObject) */                            \
	X(unicode_utf8) /* PyCompactUnicodeObject.utf8 */                                       \
	X(unicode_wstr) /* PyASCIIObject.wstr, up to 3.11 */                                    \
	X(unicode_data) /* PyUnicodeObject.data */                                              \
	X(unicode_basicsize)                                                                    \
	X(bytes_data)                                                                           \
	X(bytes_basicsize)                                                                      \
	X(type_name)                                                                            \
	X(type_basicsize)                                                                       \
	X(type_itemsize)                                                                        \
	X(type_dictoffset)                                                                      \
	X(type_flags)                                                                           \
	X(type_base)                                                                            \
	X(type_members)                                                                         \
	X(heaptype_qualname)                                                                    \
	X(heaptype_cached_keys)                                                                 \
	X(type_type_basicsize) /* of PyType_Type */                                             \
	X(dict_used)                                                                            \
	X(dict_keys)                                                                            \
	X(dict_values)                                                                          \
	X(dictvalues_embedded) /* PyDictValues.embedded, 3.13+ */                               \
	X(dict_basicsize)                                                                       \
	X(list_item)                                                                            \
	X(list_allocated)                                                                       \
	X(list_basicsize)                                                                       \
	X(set_table)                                                                            \
	X(set_smalltable)                                                                       \
	X(set_basicsize)                                                                        \
	X(bytearray_bytes)                                                                      \
	X(bytearray_object) /* ob_bytes_object, 3.15+ */

struct layout {
	uint32_t minor;
	uint32_t micro_from, micro_to; /* patch releases that it holds for */
	const char *name; /* which build: "3.11", "3.14.0-3.14.4" */
	uint32_t pool_size_bytes; /* 4096 or 16384 */
	uint32_t arena_size_bytes; /* 256 KiB or 1 MiB */
#define LAYOUT_MEMBER(field) uint32_t field;
	LAYOUT_FIELDS(LAYOUT_MEMBER)
#undef LAYOUT_MEMBER
};

/* The row of a release; NULL where there is none. Static. */
const struct layout *layout_find(unsigned minor, unsigned micro);
/* All rows, ascending by version; returns how many. */
size_t layout_rows(const struct layout **ret);

#endif
