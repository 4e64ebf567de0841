/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>

#include "base/table.h"

#define KEYS 4096

/* A table of another kind as the truth: an array over a small range of keys. */
struct truth {
	bool present[KEYS];
	uint64_t value[KEYS];
	size_t n;
};

static uint64_t next_random(uint64_t *state)
{
	*state = *state * 6364136223846793005ULL + 1442695040888963407ULL;
	return *state >> 33;
}

static void put_both(struct table *table, struct truth *truth, uint64_t key, uint64_t value)
{
	assert_int_equal(table_put(table, key, value), 0);
	truth->n += !truth->present[key];
	truth->present[key] = true;
	truth->value[key] = value;
}

static void remove_both(struct table *table, struct truth *truth, uint64_t key)
{
	uint64_t value = 0;

	assert_int_equal(table_remove(table, key, &value), truth->present[key]);
	if (truth->present[key])
		assert_int_equal(value, truth->value[key]);
	truth->n -= truth->present[key];
	truth->present[key] = false;
}

static void assert_same(const struct table *table, const struct truth *truth)
{
	struct table_cell *cell;
	size_t iterator = 0, n = 0;

	assert_int_equal(table_size(table), truth->n);
	for (uint64_t key = 0; key < KEYS; key++) {
		const uint64_t *value = table_find(table, key);

		assert_int_equal(value != NULL, truth->present[key]);
		if (value)
			assert_int_equal(*value, truth->value[key]);
	}
	for (; table_next(table, &iterator, &cell); n++)
		assert_true(truth->present[cell->key]);
	assert_int_equal(n, truth->n);
}

static void a_table_agrees_with_an_array_over_many_random_operations(void **state)
{
	_cleanup_table_ struct table table = table_init(KEYS);
	struct truth truth = { 0 };
	uint64_t random = 7;

	(void)state;
	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < 2000; i++) {
			uint64_t key = next_random(&random) % KEYS;

			if (next_random(&random) % (round % 2 ? 3 : 2) != 0)
				remove_both(&table, &truth, key);
			else
				put_both(&table, &truth, key, next_random(&random));
		}
		assert_same(&table, &truth);
	}
}

static void a_full_table_refuses_new_keys_but_replaces_old_ones(void **state)
{
	_cleanup_table_ struct table table = table_init(3);

	(void)state;
	for (uint64_t key = 0; key < 3; key++)
		assert_int_equal(table_put(&table, key, key), 0);
	assert_int_equal(table_put(&table, 3, 3), -ENOSPC);
	assert_null(table_find(&table, 3));
	assert_int_equal(table_put(&table, 2, 20), 0);
	assert_int_equal(*table_find(&table, 2), 20);
	assert_true(table_remove(&table, 0, NULL));
	assert_int_equal(table_put(&table, 3, 3), 0);
}

static void an_empty_table_finds_and_removes_nothing(void **state)
{
	struct table table = table_init(10);
	struct table_cell *cell;
	size_t iterator = 0;

	(void)state;
	assert_null(table_find(&table, 0));
	assert_false(table_has(&table, 0));
	assert_int_equal(table_get(&table, 0, NULL), -ENOENT);
	assert_false(table_remove(&table, 0, NULL));
	assert_false(table_next(&table, &iterator, &cell));
	assert_int_equal(table_memory_bytes(&table), 0);
	table_clear(&table);
	table_done(&table);
}

static void all_64_bits_of_keys_count_and_any_number_is_a_key(void **state)
{
	const uint64_t keys[] = { 0, UINT64_MAX, 1, 1ULL << 63, 1ULL << 32, 0xffffffff };
	_cleanup_table_ struct table table = table_init(10);

	(void)state;
	for (size_t i = 0; i < 6; i++)
		assert_int_equal(table_put(&table, keys[i], i), 0);
	for (size_t i = 0; i < 6; i++) {
		uint64_t value;

		assert_int_equal(table_get(&table, keys[i], &value), 0);
		assert_int_equal(value, i);
	}
}

static void clearing_keeps_the_memory_and_forgets_the_entries(void **state)
{
	struct table *table;
	size_t bytes;

	(void)state;
	assert_int_equal(table_new(1000, &table), 0);
	for (uint64_t key = 0; key < 1000; key++)
		assert_int_equal(table_put(table, key, key), 0);
	bytes = table_memory_bytes(table);
	table_clear(table);
	assert_int_equal(table_size(table), 0);
	assert_false(table_has(table, 5));
	assert_int_equal(table_memory_bytes(table), bytes);
	table_free(table);
	table_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_table_agrees_with_an_array_over_many_random_operations),
		cmocka_unit_test(a_full_table_refuses_new_keys_but_replaces_old_ones),
		cmocka_unit_test(an_empty_table_finds_and_removes_nothing),
		cmocka_unit_test(all_64_bits_of_keys_count_and_any_number_is_a_key),
		cmocka_unit_test(clearing_keeps_the_memory_and_forgets_the_entries),
	};

	return cmocka_run_group_tests_name("base/table", tests, NULL, NULL);
}
