/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Long random runs against a model that is too simple to be wrong: an array of
 * places, each with what is in it.  Also what happens at the caps.
 */
#include "records.h"

#define PLACES 4000
#define BASE 0x560000000000ull
#define STEP 1024
#define STACKS 300

struct place {
	bool held;
	uint64_t size, stack, object, type;
	bool parked;
};

struct model {
	struct ledger *ledger;
	struct place places[PLACES];
	uint64_t seed;
	uint64_t known_frees;
};

static uint64_t pick(struct model *model, uint64_t n)
{
	return random_next(&model->seed) % n;
}

static uint64_t address_of(size_t place)
{
	return BASE + place * STEP;
}

static void step_give(struct model *model, size_t index, uint64_t stack)
{
	struct place *place = &model->places[index];
	uint64_t size = 16 * (1 + pick(model, 32));

	if (place->held)
		return;
	*place = (struct place){.held = true, .size = size, .stack = stack};
	give_block(model->ledger, address_of(index), size, stack);
}

static void step_create(struct model *model, size_t index, uint64_t stack)
{
	struct place *place = &model->places[index];
	uint64_t header = 16 * pick(model, 4);

	if (!place->held || header >= place->size)
		return;
	place->stack = stack;
	place->object = address_of(index) + header;
	place->type = 16 * (1 + pick(model, 10));
	place->parked = false;
	create_object(model->ledger, place->object, place->type, stack);
}

static void step_free(struct model *model, size_t index)
{
	struct place *place = &model->places[index];

	if (!place->held)
		return;
	place->held = false;
	model->known_frees++;
	free_block(model->ledger, address_of(index));
}

static void step_park(struct model *model, size_t index)
{
	struct place *place = &model->places[index];

	if (!place->held || !place->object)
		return;
	place->parked = pick(model, 2);
	ledger_set_parked(model->ledger, address_of(index), place->parked);
}

static void step_realloc(struct model *model, size_t index, uint64_t stack)
{
	struct place *place = &model->places[index];
	uint64_t size = 16 * (1 + pick(model, 32));

	if (!place->held || place->object)
		return;
	if (size > place->size)
		place->stack = stack;
	place->size = size;
	realloc_chunk(model->ledger, address_of(index), address_of(index), size, stack);
}

static void verify_sums(const struct model *model)
{
	uint64_t bytes[STACKS + 1] = {0}, blocks[STACKS + 1] = {0}, parked = 0;

	for (size_t i = 0; i < PLACES; i++) {
		const struct place *place = &model->places[i];

		if (place->held && place->parked)
			parked += place->size;
		if (!place->held || place->parked)
			continue;
		bytes[place->stack] += place->size;
		blocks[place->stack]++;
	}
	for (uint64_t stack = 1; stack <= STACKS; stack++) {
		struct ledger_stack found = stack_of(model->ledger, stack);

		assert_int_equal(found.outstanding_bytes, bytes[stack]);
		assert_int_equal(found.outstanding_blocks, blocks[stack]);
	}
	assert_int_equal(totals_of(model->ledger).parked_bytes, parked);
	assert_true(ledger_check(model->ledger));
}

static void verify_places(const struct model *model)
{
	for (size_t i = 0; i < PLACES; i++) {
		const struct place *place = &model->places[i];
		struct ledger_block block;

		if (!place->held) {
			assert_true(ledger_find(model->ledger, address_of(i), &block) < 0);
			continue;
		}
		assert_int_equal(
			ledger_find(model->ledger, address_of(i) + place->size - 1, &block), 0);
		assert_int_equal(block.address, address_of(i));
		assert_int_equal(block.size_bytes, place->size);
		assert_int_equal(block.stack, place->stack);
		assert_int_equal(block.object, place->object);
		assert_int_equal(block.type, place->object ? place->type : 0);
		assert_int_equal(block.parked, place->parked);
	}
}

static void step(struct model *model)
{
	size_t index = pick(model, PLACES);
	uint64_t stack = 1 + pick(model, STACKS);

	switch (pick(model, 8)) {
	case 0:
	case 1:
	case 2:
		step_give(model, index, stack);
		break;
	case 3:
		step_create(model, index, stack);
		break;
	case 4:
	case 5:
		step_free(model, index);
		break;
	case 6:
		step_park(model, index);
		break;
	default:
		step_realloc(model, index, stack);
		break;
	}
}

static void a_long_random_run_agrees_with_the_model(void **state)
{
	struct model *model = calloc(1, sizeof(*model));

	(void)state;
	assert_non_null(model);
	model->seed = 88172645463325252ull;
	model->ledger = new_ledger(0, 0);
	for (int round = 0; round < 20; round++) {
		for (int i = 0; i < 30000; i++)
			step(model);
		verify_sums(model);
		verify_places(model);
	}
	assert_int_equal(totals_of(model->ledger).frees_of_unknown, 0);
	assert_int_equal(totals_of(model->ledger).creations_of_unknown, 0);
	assert_int_equal(totals_of(model->ledger).losses[REASON_ALLOC_REPEATED], 0);
	ledger_free(model->ledger);
	free(model);
}

static void merged_stacks_lose_no_byte(void **state)
{
	struct ledger *ledger = new_ledger(0, 40);
	uint64_t expected = 0;
	struct ledger_stack *stacks = NULL;
	uint64_t bytes = 0, blocks = 0;
	size_t n = 0;

	(void)state;
	give_block(ledger, 0x10, 512, 7); /* the largest stays itself */
	for (uint64_t i = 1; i <= 200; i++)
		give_block(ledger, 0x10 + i * 1024, 512, 7);
	for (uint64_t i = 0; i < 5000; i++) {
		give_block(ledger, BASE + i * 64, 16 + i % 3 * 16, 1000 + i);
		if (i % 5 == 0)
			create_object(ledger, BASE + i * 64, 0x70, 500000 + i);
		expected += 16 + i % 3 * 16;
	}
	map_memory(ledger, 0x7f0000000000, 4096, 999999);
	assert_true(ledger_check(ledger));
	assert_int_equal(ledger_stacks(ledger, &stacks, &n), 0);
	assert_true(n <= 41);
	for (size_t i = 0; i < n; i++) {
		bytes += stacks[i].outstanding_bytes;
		blocks += stacks[i].outstanding_blocks;
	}
	free(stacks);
	assert_int_equal(bytes, expected + 201 * 512 + 4096);
	assert_int_equal(blocks, 5000 + 201 + 1);
	assert_int_equal(bytes_of(ledger, 7), 201 * 512);
	assert_true(bytes_of(ledger, UINT64_MAX) > 0);
	assert_true(totals_of(ledger).merged_stacks >= 4900);
	/* Frees of merged blocks leave "other". */
	for (uint64_t i = 0; i < 5000; i++)
		free_block(ledger, BASE + i * 64);
	assert_int_equal(totals_of(ledger).outstanding_bytes, 201 * 512 + 4096);
	assert_int_equal(bytes_of(ledger, UINT64_MAX), 0);
	assert_true(ledger_check(ledger));
	ledger_free(ledger);
}

static void beyond_the_cap_blocks_are_counted_and_frees_still_work(void **state)
{
	struct ledger *ledger = new_ledger(1000, 0);

	(void)state;
	for (uint64_t i = 1; i <= 1500; i++)
		give_block(ledger, i * 64, 32, 5);
	create_object(ledger, 0x900000, 0x70, 5);
	map_memory(ledger, 0x7f0000000000, 4096, 5);
	assert_int_equal(totals_of(ledger).outstanding_blocks, 1000);
	assert_int_equal(totals_of(ledger).losses[REASON_LEDGER_FULL], 502);
	assert_int_equal(totals_of(ledger).allocations, 1501);
	for (uint64_t i = 1; i <= 1000; i++)
		free_block(ledger, i * 64);
	assert_int_equal(totals_of(ledger).outstanding_blocks, 0);
	give_block(ledger, 64, 32, 5);
	assert_int_equal(totals_of(ledger).outstanding_blocks, 1);
	assert_true(ledger_check(ledger));
	ledger_free(ledger);
}

/* Any bytes of a record's length are taken without harm. */
static void nonsense_records_break_nothing(void **state)
{
	struct ledger *ledger = new_ledger(5000, 30);
	uint64_t seed = 4711;

	(void)state;
	for (int i = 0; i < 300000; i++) {
		struct wire_mapping record;
		uint64_t *words = (uint64_t *)&record;
		uint64_t mask = random_next(&seed) % 2 ? UINT64_MAX : 0xfff0;

		for (size_t word = 0; word < sizeof(record) / 8; word++)
			words[word] = random_next(&seed) & mask;
		record.header.kind = (__u8)(random_next(&seed) % 18);
		ledger_consume(ledger, &record.header);
		if (i % 1000 == 0)
			assert_true(ledger_check(ledger));
	}
	assert_true(ledger_check(ledger));
	ledger_free(ledger);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_long_random_run_agrees_with_the_model),
		cmocka_unit_test(merged_stacks_lose_no_byte),
		cmocka_unit_test(beyond_the_cap_blocks_are_counted_and_frees_still_work),
		cmocka_unit_test(nonsense_records_break_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
