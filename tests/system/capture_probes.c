/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * What arrives in the ring, held against what the processor itself did.  As
 * root; built and run by test_capture.py.
 */
#include "capture_child.h"

/* --- registers, flags, values --------------------------------------------------------------- */

static void every_register_is_read_by_its_number(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 16; i++) {
		shared->values[i] = 0x1000000000000ULL * (i + 1) + 0x1230 + i;
		plan_jump(i, SITE_FREE, (uint8_t)i, VALUE_REGISTER)->displacement =
			(int16_t)(8 * (int)i - 64);
	}
	probe();
	tell(do_run);
	consume_all();
	assert_int_equal(n_records, 16);
	for (unsigned i = 0; i < 16; i++) {
		assert_int_equal(records[i].header.kind, WIRE_FREE);
		assert_int_equal(records[i].header.site, i);
		assert_int_equal(records[i].header.tid, child);
		assert_int_equal(records[i].free.address,
				 shared->values[i] + (uint64_t)(8 * (int64_t)i - 64));
	}
	assert_int_equal(counters().hits[SITE_FREE], 16);
}

static void conditions_hold_where_the_processor_says_so(void **state)
{
	static const uint32_t bits[] = {0x001, 0x004, 0x040, 0x080, 0x800};

	(void)state;
	for (unsigned i = 0; i < 16; i++) {
		shared->values[7] = 0x1000;
		plan_jump(i, SITE_FREE, 7, VALUE_REGISTER)->condition = (uint8_t)i;
	}
	probe();
	for (unsigned combination = 0; combination < 32; combination++) {
		unsigned seen = 0;

		shared->flags = FLAGS_BASE;
		for (unsigned i = 0; i < 5; i++)
			shared->flags |= combination >> i & 1 ? bits[i] : 0;
		tell(do_run);
		consume_all();
		for (size_t i = 0; i < n_records; i++)
			seen |= 1u << records[i].header.site;
		assert_int_equal(seen, conditions_of(shared->flags));
	}
}

static void pools_are_found_in_every_way(void **state)
{
	const uint64_t pool = (uintptr_t)shared->pool;
	const uint32_t class = 4; /* 80 bytes */

	(void)state;
	memcpy(shared->pool + 0x24, &class, sizeof(class));
	*(uint64_t *)(shared->pool + 8) = pool + 48 + 160; /* freeblock */
	*(uint64_t *)(shared->pool + 512) = pool;
	shared->values[3] = pool;
	shared->values[6] = pool + 528;
	/* A fresh pool's class is in a register, only later in its header. */
	shared->values[10] = 0xffffffff00000000 | class;
	plan_jump(0, SITE_FRESH, 3, VALUE_POOL_FIRST);
	plan_jump(1, SITE_FRESH, 6, VALUE_POOL_FIRST_MEMORY)->displacement = -16;
	plan_jump(2, SITE_FRESH, 3, VALUE_POOL_BY_ZF);
	plan_jump(3, SITE_FRESH, 6, VALUE_POOL_BY_ZF_MEMORY)->displacement = -16;
	plan_jump(4, SITE_ALLOC, 3, VALUE_MEMORY)->displacement = 8;
	plan_jump(5, SITE_ALLOC, 3, VALUE_REGISTER)->displacement = 128;
	for (unsigned i = 1; i < 4; i++)
		plan_sites[i].size_register = 1 + 10;
	probe();
	for (unsigned zf = 0; zf < 2; zf++) {
		const uint64_t expected[] = {
			pool + 48,
			pool + 48,
			zf ? pool + 208 : pool + 48,
			zf ? pool + 208 : pool + 48,
			pool + 208,
			pool + 128,
		};

		shared->flags = FLAGS_BASE | (zf ? 0x40 : 0);
		tell(do_run);
		consume_all();
		assert_int_equal(n_records, 6);
		for (unsigned i = 0; i < 6; i++) {
			assert_int_equal(records[i].header.kind, WIRE_ALLOC);
			assert_int_equal(records[i].header.flags,
					 i == 0	 ? WIRE_FRESH_POOL | WIRE_SIZE_UNKNOWN
					 : i < 4 ? WIRE_FRESH_POOL
						 : 0);
			assert_int_equal(records[i].alloc.address, expected[i]);
			assert_int_equal(records[i].alloc.size, i == 0 ? 0 : 80);
			assert_int_equal(records[i].alloc.stack, WIRE_STACK_NONE);
		}
	}
}

static void what_cannot_be_read_is_counted(void **state)
{
	struct capture_counters now;

	(void)state;
	shared->values[1] = 0x1000; /* mapped nowhere */
	plan_jump(0, SITE_ALLOC, 1, VALUE_MEMORY);
	plan_jump(1, SITE_ALLOC, 1, VALUE_REGISTER); /* its pool is not there */
	plan_jump(2, SITE_CREATE, 1, VALUE_REGISTER);
	shared->tstate_current = 0x1000;
	probe();
	tell(do_run);
	consume_all();
	assert_int_equal(n_records, 2);
	assert_int_equal(records[0].alloc.size, 0);
	assert_int_equal(records[0].header.flags, WIRE_SIZE_UNKNOWN);
	assert_int_equal(records[0].alloc.stack, WIRE_STACK_UNREADABLE);
	assert_int_equal(records[1].create.type, 0);
	assert_int_equal(records[1].header.flags, WIRE_TYPE_UNKNOWN);
	now = counters();
	assert_int_equal(now.losses[WIRE_LOSS_BLOCK_UNREADABLE], 1);
	assert_int_equal(now.losses[WIRE_LOSS_SIZE_UNREADABLE], 1);
	assert_int_equal(now.losses[WIRE_LOSS_THREAD_STATE_UNREADABLE], 2);
}

/* --- stacks --------------------------------------------------------------------------------- */

static void invent_stack(void)
{
	uint64_t previous = 0;

	for (unsigned i = FRAMES; i-- > 0;) {
		uint8_t *frame = shared->data_stack[FRAMES - 1 - i];

		*(uint64_t *)(frame + 32) = 0x10000 + i * 0x100;
		*(uint64_t *)(frame + 48) = previous;
		*(uint64_t *)(frame + 56) = 0x20000 + i * 0x10;
		previous = (uintptr_t)frame;
	}
	shared->cframe[1] = previous;
	shared->tstate[7] = (uintptr_t)shared->cframe;
	shared->tstate_current = (uintptr_t)shared->tstate;
}

static void assert_stack_record(size_t at, uint64_t id)
{
	assert_int_equal(records[at].header.kind, WIRE_STACK);
	assert_int_equal(records[at].stack.id, id);
	assert_int_equal(records[at].stack.n_frames, FRAMES);
	assert_int_equal(records[at].stack.flags, 0);
	for (unsigned i = 0; i < FRAMES; i++) {
		assert_int_equal(records[at].stack.frames[i].code, 0x10000 + i * 0x100);
		assert_int_equal(records[at].stack.frames[i].position, 0x20000 + i * 0x10);
	}
}

static void a_stack_is_sent_once_and_before_it_is_used(void **state)
{
	uint64_t object[2] = {1, 0xabcd0};
	uint64_t id;

	(void)state;
	memcpy(shared->pool + 4096, object, sizeof(object));
	shared->values[1] = (uintptr_t)shared->pool + 4096;
	plan_jump(0, SITE_CREATE, 1, VALUE_REGISTER);
	plan_jump(1, SITE_CREATE, 1, VALUE_REGISTER);
	invent_stack();
	probe();
	tell(do_run);
	consume_all();
	assert_int_equal(n_records, 3);
	id = records[1].create.stack;
	assert_true(id >= WIRE_STACK_FIRST);
	assert_stack_record(0, id);
	assert_int_equal(records[1].create.type, 0xabcd0);
	assert_int_equal(records[2].create.stack, id);
	tell(do_run);
	consume_all();
	assert_int_equal(n_records, 2);
	assert_int_equal(records[1].create.stack, id);
	/* Forgotten, it is sent again, by another name. */
	assert_int_equal(capture_forget_stacks(capture), 0);
	tell(do_run);
	consume_all();
	assert_int_equal(n_records, 3);
	assert_int_not_equal(records[1].create.stack, id);
	assert_stack_record(0, records[1].create.stack);
}

/* --- the C library -------------------------------------------------------------------------- */

/* The child was forked from us, so that our chunks are its chunks. */
static void chunks_have_their_usable_size(void **state)
{
	NOT_UNDER_ASAN();
	void *blocks[] = {malloc(1), malloc(24), malloc(25), malloc(1000), malloc(1 << 20)};

	(void)state;
	stop(NULL);
	start(NULL);
	for (unsigned i = 0; i < ARRAY_SIZE(blocks); i++) {
		shared->values[8 + i] = (uintptr_t)blocks[i];
		/* Six registers are pushed between the return address and the sites. */
		plan_jump(i, SITE_NATIVE_ALLOC, (uint8_t)(8 + i), VALUE_REGISTER)->return_slot =
			i & 1 ? 1 + 6 : 0;
	}
	plan_jump(14, SITE_NATIVE_ALLOC, 0, VALUE_REGISTER); /* NULL: a malloc that failed */
	plan_jump(15, SITE_NATIVE_FREE, 0, VALUE_REGISTER);  /* free(NULL) */
	probe();
	tell(do_run);
	consume_all();
	assert_int_equal(n_records, ARRAY_SIZE(blocks));
	for (unsigned i = 0; i < ARRAY_SIZE(blocks); i++) {
		assert_int_equal(records[i].header.kind, WIRE_NATIVE_ALLOC);
		assert_int_equal(records[i].header.flags, i & 1 ? WIRE_FROM_INTERPRETER : 0);
		assert_int_equal(records[i].alloc.address, (uintptr_t)blocks[i]);
		assert_int_equal(records[i].alloc.size, malloc_usable_size(blocks[i]));
		free(blocks[i]);
	}
	assert_int_equal(counters().hits[SITE_NATIVE_ALLOC], ARRAY_SIZE(blocks) + 1);
	assert_int_equal(counters().hits[SITE_NATIVE_FREE], 1);
}

static void a_realloc_knows_its_old_address(void **state)
{
	const uint64_t size = 0x61;

	(void)state;
	memcpy(shared->pool + 504, &size, sizeof(size));
	shared->values[7] = 0x700000;
	shared->values[0] = (uintptr_t)shared->pool + 512;
	plan_jump(0, SITE_REALLOC_ENTER, 7, VALUE_REGISTER);
	plan_jump(1, SITE_REALLOC_RETURN, 0, VALUE_REGISTER);
	plan_jump(2, SITE_REALLOC_RETURN, 0, VALUE_REGISTER); /* its entry was not seen */
	probe();
	tell(do_run);
	consume_all();
	assert_int_equal(n_records, 2);
	assert_int_equal(records[0].header.kind, WIRE_NATIVE_REALLOC);
	assert_int_equal(records[0].realloc.old_address, 0x700000);
	assert_int_equal(records[0].realloc.address, (uintptr_t)shared->pool + 512);
	assert_int_equal(records[0].realloc.size, 0x60 - 8);
	assert_int_equal(records[1].realloc.old_address, 0);
}

static void mappings_are_seen_with_what_they_were(void **state)
{
	(void)state;
	NOT_UNDER_ASAN();
	probe_with(0, true);
	tell(do_mappings);
	consume_all();
	assert_int_equal(n_records, 4);
	assert_int_equal(records[0].header.kind, WIRE_MMAP);
	assert_int_equal(records[0].mapping.address, shared->values[0]);
	assert_int_equal(records[0].mapping.size, 4096);
	assert_int_equal(records[0].mapping.protection, PROT_READ);
	assert_int_equal(records[0].mapping.map_flags, MAP_PRIVATE | MAP_ANONYMOUS);
	assert_int_equal(records[1].header.kind, WIRE_MREMAP);
	assert_int_equal(records[1].mapping.old_address, shared->values[0]);
	assert_int_equal(records[1].mapping.old_size, 4096);
	assert_int_equal(records[1].mapping.address, shared->values[1]);
	assert_int_equal(records[1].mapping.size, 12288);
	assert_int_equal(records[2].header.kind, WIRE_MUNMAP);
	assert_int_equal(records[2].mapping.address, shared->values[1]);
	assert_int_equal(records[2].mapping.size, 12288);
	assert_int_equal(records[3].header.kind, WIRE_BRK);
	assert_int_equal(records[3].mapping.old_address, shared->values[2]);
	assert_int_equal(records[3].mapping.address, shared->values[3]);
	assert_int_equal(counters().mappings, 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(every_register_is_read_by_its_number),
		TEST(conditions_hold_where_the_processor_says_so),
		TEST(pools_are_found_in_every_way),
		TEST(what_cannot_be_read_is_counted),
		TEST(a_stack_is_sent_once_and_before_it_is_used),
		TEST(chunks_have_their_usable_size),
		TEST(a_realloc_knows_its_old_address),
		TEST(mappings_are_seen_with_what_they_were),
	};

	return capture_tests_begin() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
