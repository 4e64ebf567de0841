/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "judge/allocate.h"

#include <stdlib.h>

void *judge_allocate(size_t n, size_t size)
{
	return calloc(n, size);
}
