/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Has the runtime begun to tear itself down?  _PyRuntime names the thread state
 * that does from after the atexit functions on (pylifecycle.c, Py_FinalizeEx up
 * to 3.12, _Py_Finalize from 3.13 on).
 */
#include <errno.h>

#include "cpython/interpreter_private.h"

uint64_t interpreter_finalizing_address(const struct interpreter *interpreter)
{
	uint32_t offset = interpreter->layout.runtime_finalizing;

	return offset == LAYOUT_ABSENT ? 0 : interpreter->runtime + offset;
}

int interpreter_is_finalizing(const struct interpreter *interpreter, bool *ret,
			      struct fault *reterr_fault)
{
	uint64_t address = interpreter_finalizing_address(interpreter), finalizing;
	int error;

	if (!address)
		return fault_set(reterr_fault, -ENOENT, REASON_NOT_FOUND, 0, "finalizing");
	error = memory_read_u64(interpreter->memory, address, &finalizing, reterr_fault);
	if (error)
		return error;
	*ret = finalizing != 0;
	return 0;
}
