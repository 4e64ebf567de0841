/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Prints the offsets of all LAYOUT_FIELDS (src/cpython/layout.h) in the CPython
 * whose headers it is compiled against, a line "field value" each;
 * tools/layouts/generate makes src/cpython/layouts.inc of them.  A field
 * without an expression below does not compile; one that a version does not
 * have is LAYOUT_ABSENT.
 */
#define Py_BUILD_CORE 1
#include <Python.h>
#include <frameobject.h>

#define MINOR PY_MINOR_VERSION

#if MINOR >= 9
#include "internal/pycore_interp.h"
#include "internal/pycore_runtime.h"
#endif
#include "internal/pycore_pystate.h"
#if MINOR >= 9
#include "internal/pycore_gc.h"
#endif
#if MINOR >= 11
#include "internal/pycore_dict.h"
#include "internal/pycore_frame.h"
#endif
#if MINOR >= 14
#include "internal/pycore_interpframe_structs.h"
#endif

#include <stddef.h>
#include <stdio.h>

/* CPython's headers define macros that collide with ours: only the list is taken. */
#include "cpython/layout.h"

#if MINOR < 12
/*
 * Private to Objects/obmalloc.c up to 3.11; the same in 3.8.0 … 3.11.x:
 * struct pool_header and struct arena_object there.
 */
typedef unsigned int uint_;
struct pool_header {
	union {
		void *padding;
		uint_ count;
	} ref;
	void *freeblock;
	struct pool_header *nextpool;
	struct pool_header *prevpool;
	uint_ arenaindex;
	uint_ szidx;
	uint_ nextoffset;
	uint_ maxnextoffset;
};
struct arena_object {
	uintptr_t address;
	void *pool_address;
	uint_ nfreepools;
	uint_ ntotalpools;
	struct pool_header *freepools;
	struct arena_object *nextarena;
	struct arena_object *prevarena;
};
/* Objects/obmalloc.c: ARENA_SIZE and POOL_SIZE; the radix tree of 3.10 made them larger. */
#define POOL_BYTES (MINOR >= 10 ? 16384 : 4096)
#define ARENA_BYTES (MINOR >= 10 ? 1 << 20 : 256 << 10)
#else
#define POOL_BYTES POOL_SIZE
#define ARENA_BYTES ARENA_SIZE
#endif

#define ABSENT ((size_t)LAYOUT_ABSENT)
#if MINOR >= 11
#define SINCE_11(expression) (expression)
#else
#define SINCE_11(expression) ABSENT
#endif
#if MINOR >= 12
#define SINCE_12(expression) (expression)
#define UNTIL_11(expression) ABSENT
#else
#define SINCE_12(expression) ABSENT
#define UNTIL_11(expression) (expression)
#endif
#if MINOR >= 13
#define SINCE_13(expression) (expression)
#else
#define SINCE_13(expression) ABSENT
#endif

/*
 * 3.14.0-3.14.4 had the incremental collector, whose state is 24 bytes smaller
 * than that of 3.13, which 3.14.5 went back to: what follows gc in
 * PyInterpreterState lies 24 bytes lower there (obmalloc at 10880, not at
 * 10904).  Derived from the headers of 3.14.5 and later by GC_STATE_SHRINK=24.
 */
#ifndef GC_STATE_SHRINK
#define GC_STATE_SHRINK 0
#endif
#if MINOR >= 14
_Static_assert(offsetof(PyInterpreterState, obmalloc) > offsetof(PyInterpreterState, gc),
	       "obmalloc follows gc");
_Static_assert(offsetof(PyInterpreterState, threads) < offsetof(PyInterpreterState, gc),
	       "threads precede gc");
#endif

/* --- pycore_runtime.h, pycore_pystate.h --- */
#define FIELD_runtime_size sizeof(_PyRuntimeState)
#define FIELD_runtime_tstate_current UNTIL_11(offsetof(_PyRuntimeState, gilstate.tstate_current))
#if MINOR >= 9
#define FIELD_runtime_finalizing offsetof(_PyRuntimeState, _finalizing)
#else
#define FIELD_runtime_finalizing offsetof(_PyRuntimeState, finalizing)
#endif
#define FIELD_runtime_interpreters_head offsetof(_PyRuntimeState, interpreters.head)
#define FIELD_runtime_interpreters_main offsetof(_PyRuntimeState, interpreters.main)
#if MINOR >= 15
#define FIELD_runtime_tss_key ABSENT
#elif MINOR >= 12
#define FIELD_runtime_tss_key offsetof(_PyRuntimeState, autoTSSkey)
#else
#define FIELD_runtime_tss_key offsetof(_PyRuntimeState, gilstate.autoTSSkey)
#endif
#define FIELD_runtime_ref_tracer SINCE_13(offsetof(_PyRuntimeState, ref_tracer.tracer_func))
#define FIELD_runtime_allocator_raw SINCE_12(offsetof(_PyRuntimeState, allocators.standard.raw))
#define FIELD_runtime_allocator_mem SINCE_12(offsetof(_PyRuntimeState, allocators.standard.mem))
#define FIELD_runtime_allocator_object SINCE_12(offsetof(_PyRuntimeState, allocators.standard.obj))

/* --- pycore_interp.h --- */
#define FIELD_interp_size (sizeof(PyInterpreterState) - GC_STATE_SHRINK)
#define FIELD_interp_next offsetof(PyInterpreterState, next)
#define FIELD_interp_id offsetof(PyInterpreterState, id)
#if MINOR >= 11
#define FIELD_interp_threads_head offsetof(PyInterpreterState, threads.head)
#else
#define FIELD_interp_threads_head offsetof(PyInterpreterState, tstate_head)
#endif
#define FIELD_interp_obmalloc SINCE_12(offsetof(PyInterpreterState, obmalloc) - GC_STATE_SHRINK)
/* Far behind gc: not derived, other fields between may have changed as well. */
#if MINOR >= 14 && !GC_STATE_SHRINK
#define FIELD_interp_jit offsetof(PyInterpreterState, jit)
#else
#define FIELD_interp_jit ABSENT
#endif

/* --- pycore_obmalloc.h, Objects/obmalloc.c --- */
#define FIELD_obmalloc_arenas SINCE_12(offsetof(struct _obmalloc_state, mgmt.arenas))
#define FIELD_obmalloc_maxarenas SINCE_12(offsetof(struct _obmalloc_state, mgmt.maxarenas))
#define FIELD_arena_size sizeof(struct arena_object)
#define FIELD_arena_address offsetof(struct arena_object, address)
#define FIELD_arena_pool_address offsetof(struct arena_object, pool_address)
#define FIELD_arena_nfreepools offsetof(struct arena_object, nfreepools)
#define FIELD_arena_ntotalpools offsetof(struct arena_object, ntotalpools)
#define FIELD_pool_count offsetof(struct pool_header, ref.count)
#define FIELD_pool_freeblock offsetof(struct pool_header, freeblock)
#define FIELD_pool_arenaindex offsetof(struct pool_header, arenaindex)
#define FIELD_pool_szidx offsetof(struct pool_header, szidx)
#define FIELD_pool_nextoffset offsetof(struct pool_header, nextoffset)
#define FIELD_pool_maxnextoffset offsetof(struct pool_header, maxnextoffset)

/* --- cpython/pystate.h --- */
#define FIELD_tstate_size sizeof(PyThreadState)
#define FIELD_tstate_prev offsetof(PyThreadState, prev)
#define FIELD_tstate_next offsetof(PyThreadState, next)
#define FIELD_tstate_interp offsetof(PyThreadState, interp)
#if MINOR >= 13
#define FIELD_tstate_frame offsetof(PyThreadState, current_frame)
#elif MINOR >= 11
#define FIELD_tstate_frame offsetof(PyThreadState, cframe)
#else
#define FIELD_tstate_frame offsetof(PyThreadState, frame)
#endif
#define FIELD_tstate_thread_id offsetof(PyThreadState, thread_id)
#define FIELD_tstate_native_thread_id SINCE_11(offsetof(PyThreadState, native_thread_id))
#if MINOR == 11 || MINOR == 12
#define FIELD_cframe_current_frame offsetof(_PyCFrame, current_frame)
#else
#define FIELD_cframe_current_frame ABSENT
#endif

/* --- frameobject.h, pycore_frame.h --- */
#if MINOR >= 11
#define FRAME struct _PyInterpreterFrame
#define FIELD_frame_previous offsetof(FRAME, previous)
#define FIELD_frame_owner offsetof(FRAME, owner)
#else
#define FRAME PyFrameObject
#define FIELD_frame_previous offsetof(FRAME, f_back)
#define FIELD_frame_owner ABSENT
#endif
#define FIELD_frame_size sizeof(FRAME)
#if MINOR >= 13
#define FIELD_frame_code offsetof(FRAME, f_executable)
#define FIELD_frame_position offsetof(FRAME, instr_ptr)
#elif MINOR >= 11
#define FIELD_frame_code offsetof(FRAME, f_code)
#define FIELD_frame_position offsetof(FRAME, prev_instr)
#else
#define FIELD_frame_code offsetof(FRAME, f_code)
#define FIELD_frame_position offsetof(FRAME, f_lasti)
#endif

/* --- object.h, objimpl.h --- */
#define FIELD_object_refcount offsetof(PyObject, ob_refcnt)
#define FIELD_object_type offsetof(PyObject, ob_type)
#define FIELD_var_size offsetof(PyVarObject, ob_size)
#define FIELD_gc_head_size sizeof(PyGC_Head)

/* --- cpython/code.h --- */
#define FIELD_code_filename offsetof(PyCodeObject, co_filename)
#define FIELD_code_name offsetof(PyCodeObject, co_name)
#define FIELD_code_qualname SINCE_11(offsetof(PyCodeObject, co_qualname))
#define FIELD_code_firstlineno offsetof(PyCodeObject, co_firstlineno)
#if MINOR >= 10
#define FIELD_code_linetable offsetof(PyCodeObject, co_linetable)
#else
#define FIELD_code_linetable offsetof(PyCodeObject, co_lnotab)
#endif
#if MINOR >= 11
#define FIELD_code_code offsetof(PyCodeObject, co_code_adaptive)
#define FIELD_code_basicsize offsetof(PyCodeObject, co_code_adaptive)
#else
#define FIELD_code_code offsetof(PyCodeObject, co_code)
#define FIELD_code_basicsize sizeof(PyCodeObject)
#endif

/* --- cpython/unicodeobject.h, cpython/bytesobject.h --- */
#define FIELD_unicode_length offsetof(PyASCIIObject, length)
#define FIELD_unicode_state offsetof(PyASCIIObject, state)
#define FIELD_unicode_ascii_data sizeof(PyASCIIObject)
#define FIELD_unicode_compact_data sizeof(PyCompactUnicodeObject)
#define FIELD_unicode_data offsetof(PyUnicodeObject, data)
#define FIELD_unicode_utf8 offsetof(PyCompactUnicodeObject, utf8)
#define FIELD_unicode_wstr UNTIL_11(offsetof(PyASCIIObject, wstr))
#define FIELD_unicode_kind_shift bit_of_state(kind)
#define FIELD_unicode_compact_shift bit_of_state(compact)
#define FIELD_unicode_ascii_shift bit_of_state(ascii)
#define FIELD_unicode_basicsize sizeof(PyUnicodeObject)
#define FIELD_bytes_data offsetof(PyBytesObject, ob_sval)
#define FIELD_bytes_basicsize (offsetof(PyBytesObject, ob_sval) + 1) /* PyBytesObject_SIZE */

/* --- cpython/object.h --- */
#define FIELD_type_name offsetof(PyTypeObject, tp_name)
#define FIELD_type_basicsize offsetof(PyTypeObject, tp_basicsize)
#define FIELD_type_itemsize offsetof(PyTypeObject, tp_itemsize)
#define FIELD_type_dictoffset offsetof(PyTypeObject, tp_dictoffset)
#define FIELD_type_flags offsetof(PyTypeObject, tp_flags)
#define FIELD_type_members offsetof(PyTypeObject, tp_members)
#define FIELD_type_base offsetof(PyTypeObject, tp_base)
#define FIELD_heaptype_qualname offsetof(PyHeapTypeObject, ht_qualname)
#define FIELD_heaptype_cached_keys offsetof(PyHeapTypeObject, ht_cached_keys)
#define FIELD_type_type_basicsize sizeof(PyHeapTypeObject)

/* --- cpython/dictobject.h, listobject.h, setobject.h, bytearrayobject.h --- */
#define FIELD_dict_used offsetof(PyDictObject, ma_used)
#define FIELD_dict_keys offsetof(PyDictObject, ma_keys)
#define FIELD_dict_values offsetof(PyDictObject, ma_values)
#define FIELD_dictvalues_embedded SINCE_13(offsetof(PyDictValues, embedded))
#define FIELD_dict_basicsize sizeof(PyDictObject)
#define FIELD_list_item offsetof(PyListObject, ob_item)
#define FIELD_list_allocated offsetof(PyListObject, allocated)
#define FIELD_list_basicsize sizeof(PyListObject)
#define FIELD_set_table offsetof(PySetObject, table)
#define FIELD_set_smalltable offsetof(PySetObject, smalltable)
#define FIELD_set_basicsize sizeof(PySetObject)
#define FIELD_bytearray_bytes offsetof(PyByteArrayObject, ob_bytes)
#if MINOR >= 15
#define FIELD_bytearray_object offsetof(PyByteArrayObject, ob_bytes_object)
#else
#define FIELD_bytearray_object ABSENT
#endif

/* A bit field has no offsetof: the lowest bit that it sets in the word at state. */
#define bit_of_state(member)                                            \
	({                                                              \
		PyASCIIObject object = { .state.member = 1 };           \
		size_t bit = 0;                                         \
		while (!(((unsigned char *)&object.state)[bit / 8] & 1u << bit % 8)) \
			bit++;                                          \
		bit;                                                    \
	})

static void print_field(const char *name, size_t value)
{
	if (value == ABSENT)
		printf("%s LAYOUT_ABSENT\n", name);
	else
		printf("%s %zu\n", name, value);
}

int main(void)
{
	print_field("pool_size_bytes", POOL_BYTES);
	print_field("arena_size_bytes", ARENA_BYTES);
#define PRINT(field) print_field(#field, FIELD_##field);
	LAYOUT_FIELDS(PRINT)
#undef PRINT
	return 0;
}
