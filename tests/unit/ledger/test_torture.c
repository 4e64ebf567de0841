/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Every allocation of a run fails in turn, once alone and once with all after it. */
#include "records.h"

#include <errno.h>

#include "ledger/allocate.h"

static unsigned int n_allocations, fail_from, fail_until;

/* In place of src/ledger/allocate.c. */
void *ledger_allocate(size_t n, size_t size)
{
	n_allocations++;
	if (n_allocations >= fail_from && n_allocations <= fail_until)
		return NULL;
	return calloc(n, size);
}

/* Grows every table several times, and merges stacks. */
static void feed(struct ledger *ledger)
{
	for (uint64_t i = 1; i <= 3000; i++) {
		give_block(ledger, i * 1024, 64, i % 200);
		create_object(ledger, i * 1024 + 16, 0x70, i % 150);
		create_object(ledger, (1ull << 40) + i * 1024, 0x70, i % 3);
		if (i % 10 == 0)
			map_memory(ledger, (1ull << 44) + i * 8192, 4096, i % 50);
		if (i % 4 == 0)
			free_block(ledger, i * 1024);
		if (i % 8 == 0)
			ledger_set_block(ledger, (1ull << 40) + i * 1024, (1ull << 40) + i * 1024,
					 32);
	}
}

static unsigned int run(unsigned int from, unsigned int until)
{
	const struct ledger_limits limits = {.max_stacks = 100};
	struct ledger *ledger = NULL;
	struct ledger_stack *stacks = NULL;
	size_t n = 0;

	n_allocations = 0;
	fail_from = from;
	fail_until = until;
	if (ledger_new(&limits, &ledger) < 0) {
		assert_null(ledger);
		return n_allocations;
	}
	feed(ledger);
	assert_true(ledger_check(ledger));
	if (ledger_stacks(ledger, &stacks, &n) < 0)
		assert_null(stacks);
	free(stacks);
	/* Whatever was not kept was counted; what was kept is whole. */
	if (!totals_of(ledger).losses[REASON_LEDGER_FULL])
		assert_int_equal(totals_of(ledger).outstanding_blocks, 3000 - 750 + 3000 + 300);
	fail_from = 0;
	fail_until = 0;
	ledger_free(ledger);
	return n_allocations;
}

static void every_allocation_may_fail(void **state)
{
	unsigned int n = run(0, 0);

	(void)state;
	assert_true(n > 20);
	for (unsigned int i = 1; i <= n; i++) {
		run(i, i);
		run(i, UINT32_MAX);
	}
}

static void a_failed_start_says_so(void **state)
{
	struct ledger *ledger = NULL;

	(void)state;
	for (unsigned int i = 1; i <= 3; i++) {
		n_allocations = 0;
		fail_from = i;
		fail_until = i;
		assert_int_equal(ledger_new(NULL, &ledger), -ENOMEM);
		assert_null(ledger);
	}
	fail_from = 0;
	fail_until = 0;
	ledger_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_allocation_may_fail),
		cmocka_unit_test(a_failed_start_says_so),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
