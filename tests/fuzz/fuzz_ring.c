/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Ring records out of any bytes, and the ledger behind them: two bytes of
 * length, then that many of a record, again and again.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "capture/capture.h"
#include "ledger/ledger.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* In memory of just its size: whoever reads behind a record that was called whole is caught. */
static void take(struct ledger *ledger, const uint8_t *bytes, size_t size)
{
	void *record = malloc(size ? size : 1);

	if (!record)
		abort();
	memcpy(record, bytes, size);
	if (capture_record_is_whole(record, size))
		ledger_consume(ledger, record);
	free(record);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct ledger_limits limits = { .max_blocks = 64, .max_stacks = 16 };
	struct ledger *ledger;

	if (ledger_new(&limits, &ledger) < 0)
		abort();
	while (size >= 2) {
		size_t length = (size_t)(data[0] | data[1] << 8);

		data += 2;
		size -= 2;
		if (length > size)
			length = size;
		take(ledger, data, length);
		data += length;
		size -= length;
	}
	ledger_free(ledger);
	return 0;
}
