/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Prints where the members named by src/cpython/debug_offsets.h lie in
 * _Py_DebugOffsets, a line "member offset" each, for the CPython (3.13+) whose
 * headers it is compiled against.
 */
#define Py_BUILD_CORE 1
#include <Python.h>

#include "internal/pycore_runtime.h"
#if PY_MINOR_VERSION >= 14
#include "internal/pycore_debug_offsets.h"
#endif

#include <stddef.h>
#include <stdio.h>

#include "cpython/debug_offsets.h"

int main(void)
{
	printf("size %zu\n", sizeof(_Py_DebugOffsets));
	printf("free_threaded %zu\n", offsetof(_Py_DebugOffsets, free_threaded));
#define GROUP(group) printf("size_of_%s %zu\n", #group, offsetof(_Py_DebugOffsets, group.size));
	DEBUG_OFFSET_GROUPS(GROUP)
#define FIELD(field, group, member) \
	printf("%s %zu\n", #field, offsetof(_Py_DebugOffsets, group.member));
	DEBUG_OFFSET_FIELDS(FIELD)
	return 0;
}
