/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * A small set of events in every order.  After each event conservation must
 * hold; at the end, after reconciling with a heap in which just these blocks
 * live, the ledger must say the same whatever the order was.
 */
#include "records.h"

#define A 101
#define B 202
#define DICT 0xd1c7

struct event {
	void (*act)(struct ledger *ledger, uint64_t address);
	uint64_t address;
};

static void act_alloc(struct ledger *ledger, uint64_t address)
{
	give_block(ledger, address, 64, A);
}

static void act_create(struct ledger *ledger, uint64_t address)
{
	create_object(ledger, address + 16, DICT, B);
}

static void act_free(struct ledger *ledger, uint64_t address)
{
	free_block(ledger, address);
}

static void act_native(struct ledger *ledger, uint64_t address)
{
	give_raw(ledger, address, 1000, A);
}

static void act_realloc(struct ledger *ledger, uint64_t address)
{
	realloc_chunk(ledger, address, address + 0x10000, 2000, B);
}

static void act_realloc_in_place(struct ledger *ledger, uint64_t address)
{
	realloc_chunk(ledger, address, address, 500, B);
}

static void act_adopt(struct ledger *ledger, uint64_t address)
{
	ledger_adopt(ledger, address + 0x1000, address + 16);
}

static void act_park(struct ledger *ledger, uint64_t address)
{
	ledger_set_parked(ledger, address + 16, true);
}

static void act_set_block(struct ledger *ledger, uint64_t address)
{
	ledger_set_block(ledger, address + 16, address, 64);
}

static void act_drop(struct ledger *ledger, uint64_t address)
{
	ledger_drop_dead(ledger, address, ledger_sequence(ledger));
}

static void act_map(struct ledger *ledger, uint64_t address)
{
	map_memory(ledger, address & ~0xfffull, 4 * 4096, A);
}

static void act_unmap_part(struct ledger *ledger, uint64_t address)
{
	unmap_memory(ledger, (address & ~0xfffull) + 4096, 4096);
}

#define EVENTS_MAX 8

static size_t n_orders;

static void run_order(const struct event *events, const size_t *order, size_t n,
		      void (*verify)(struct ledger *ledger))
{
	struct ledger *ledger = new_ledger(0, 0);

	for (size_t i = 0; i < n; i++) {
		events[order[i]].act(ledger, events[order[i]].address);
		assert_true(ledger_check(ledger));
	}
	if (verify)
		verify(ledger);
	assert_true(ledger_check(ledger));
	ledger_free(ledger);
	n_orders++;
}

/* Heap's algorithm would do; choosing each remaining one in turn reads easier. */
static void permute(const struct event *events, size_t *order, size_t chosen, size_t n,
		    void (*verify)(struct ledger *ledger))
{
	if (chosen == n) {
		run_order(events, order, n, verify);
		return;
	}
	for (size_t i = chosen; i < n; i++) {
		size_t held = order[chosen];

		order[chosen] = order[i];
		order[i] = held;
		permute(events, order, chosen + 1, n, verify);
		order[i] = order[chosen];
		order[chosen] = held;
	}
}

static void all_orders(const struct event *events, size_t n, void (*verify)(struct ledger *ledger))
{
	size_t order[EVENTS_MAX];

	assert_true(n <= EVENTS_MAX);
	for (size_t i = 0; i < n; i++)
		order[i] = i;
	permute(events, order, 0, n, verify);
}

#define P 0x1000
#define Q 0x7000

/* Both blocks are dead in the heap. */
static void verify_both_dead(struct ledger *ledger)
{
	ledger_drop_dead(ledger, P, ledger_sequence(ledger));
	ledger_drop_dead(ledger, P + 16, ledger_sequence(ledger));
	ledger_drop_dead(ledger, Q, ledger_sequence(ledger));
	ledger_drop_dead(ledger, Q + 16, ledger_sequence(ledger));
	assert_int_equal(totals_of(ledger).outstanding_blocks, 0);
	assert_int_equal(totals_of(ledger).outstanding_bytes, 0);
	assert_int_equal(totals_of(ledger).allocations, 3);
	assert_int_equal(totals_of(ledger).frees, 3);
}

static void blocks_and_objects_at_two_addresses_in_all_orders(void **state)
{
	const struct event events[] = {
		{act_alloc, P},	 {act_create, P}, {act_free, P}, {act_alloc, P},
		{act_create, Q}, {act_alloc, Q},  {act_free, Q}, {act_free, P},
	};

	(void)state;
	n_orders = 0;
	all_orders(events, 8, verify_both_dead);
	assert_int_equal(n_orders, 40320);
}

/* P lives, with the object in it; what the heap says makes it whole. */
static void verify_alive(struct ledger *ledger)
{
	struct ledger_block block;

	ledger_set_block(ledger, P + 16, P, 64);
	ledger_set_parked(ledger, P, false);
	assert_int_equal(totals_of(ledger).outstanding_blocks, 1);
	assert_int_equal(totals_of(ledger).outstanding_bytes, 64);
	assert_int_equal(ledger_find(ledger, P + 40, &block), 0);
	assert_int_equal(block.address, P);
	assert_int_equal(block.object, P + 16);
	assert_int_equal(block.stack, B);
	assert_int_equal(block.type, DICT);
}

static void an_object_is_its_creators_whatever_came_first(void **state)
{
	const struct event events[] = {
		{act_alloc, P}, {act_create, P}, {act_park, P}, {act_set_block, P}};
	size_t order[] = {0, 1, 2, 3};

	(void)state;
	/* Told before the ALLOC that the elder begins at P, the ALLOC is a second one there. */
	run_order(events, order, 4, verify_alive);
	run_order(events, (size_t[]){1, 0, 2, 3}, 4, verify_alive);
	run_order(events, (size_t[]){1, 2, 0, 3}, 4, verify_alive);
	run_order(events, (size_t[]){2, 1, 0, 3}, 4, verify_alive);
	run_order(events, (size_t[]){3, 2, 1, 0}, 4, verify_alive);
	run_order(events, (size_t[]){0, 3, 2, 1}, 4, verify_alive);
}

static void the_heaps_word_in_all_orders(void **state)
{
	const struct event events[] = {
		{act_alloc, P},		 {act_create, P}, {act_park, P}, {act_set_block, P},
		{act_alloc, P + 0x1000}, {act_adopt, P},  {act_drop, P}, {act_free, P},
	};

	(void)state;
	all_orders(events, 8, NULL);
}

static void chunks_in_all_orders(void **state)
{
	const struct event events[] = {
		{act_native, P}, {act_realloc, P}, {act_realloc_in_place, P},
		{act_create, P}, {act_free, P},	   {act_free, P + 0x10000},
		{act_native, P},
	};

	(void)state;
	all_orders(events, 7, NULL);
}

static void mappings_in_all_orders(void **state)
{
	const struct event events[] = {
		{act_map, P},	   {act_unmap_part, P},	     {act_native, P + 16}, {act_map, P},
		{act_map, 0x3000}, {act_unmap_part, 0x3000}, {act_free, P + 16},
	};

	(void)state;
	all_orders(events, 7, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(blocks_and_objects_at_two_addresses_in_all_orders),
		cmocka_unit_test(an_object_is_its_creators_whatever_came_first),
		cmocka_unit_test(the_heaps_word_in_all_orders),
		cmocka_unit_test(chunks_in_all_orders),
		cmocka_unit_test(mappings_in_all_orders),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
