/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "ledger/allocate.h"

#include <stdlib.h>

void *ledger_allocate(size_t n, size_t size)
{
	return calloc(n, size);
}
