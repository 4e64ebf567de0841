/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Dead and living code in what BOLT left behind. */
#include "idioms.h"

#include <stdlib.h>

#include "probes/reachable.h"

DEFINE_CLEANUP(struct reachable *, reachable_free)

/*
 * Old code at 0x401000, a function every 16 bytes; what BOLT made of it at
 * 0x501000.
 */
#define NEW_VADDR 0x501000
#define FUNCTION_BYTES 16
#define FUNCTION(n) (IDIOM_VADDR + FUNCTION_BYTES * (n))

enum {
	CALLED,
	CALLED_BY_LIVE,
	TAKEN,
	STORED,
	JUMPED_INTO,
	NUMBER,
	CALLED_BY_DEAD,
	DEAD,
	FUNCTIONS
};

IDIOM(old, "ret\n"			 /* CALLED: calls CALLED_BY_LIVE below */
	   ".byte 0xe8, 0x0a, 0, 0, 0\n" /* call 0x401010 */
	   "ret\n"
	   ".balign 16, 0x90\n"
	   "ret\n" /* CALLED_BY_LIVE */
	   ".balign 16, 0x90\n"
	   "ret\n" /* TAKEN */
	   ".balign 16, 0x90\n"
	   "ret\n" /* STORED */
	   ".balign 16, 0x90\n"
	   "nop\n" /* JUMPED_INTO */
	   "ret\n"
	   ".balign 16, 0x90\n"
	   "nop\n" /* NUMBER */
	   "ret\n"
	   ".balign 16, 0x90\n"
	   "ret\n" /* CALLED_BY_DEAD */
	   ".balign 16, 0x90\n"
	   ".byte 0xe8, 0xeb, 0xff, 0xff, 0xff\n" /* DEAD: call 0x401060 */
	   "mov eax, 0x401234\n"
	   "ret\n"
	   ".balign 16, 0x90\n");

IDIOM(new, ".byte 0xe8, 0xfb, 0xff, 0xef, 0xff\n"	/* call 0x401000 */
	   "mov eax, 0x401020\n"			/* address of TAKEN */
	   "mov qword ptr [rip+0x100], 0x401030\n"	/* address of STORED */
	   ".byte 0x0f, 0x84, 0x26, 0x00, 0xf0, 0xff\n" /* je 0x401041 */
	   "mov ecx, 0x401051\n"			/* a number inside of NUMBER */
	   "ret\n");

static bool is_hinted(const struct code *code, size_t index, enum code_hint hint)
{
	return code_hinted(code, index, hint) == index;
}

/* Matchers begin in what is alive, and nowhere else. */
static void check_left_out(const struct reachable *reachable, struct code *code,
			   const bool *expected)
{
	size_t dead = 0, n = 0;

	reachable_leave_out_dead(reachable, code);
	for (size_t i = 0; i < code_count(code); i++) {
		const uint64_t vaddr = code_vaddr(code, i);
		const bool alive =
			vaddr >= NEW_VADDR || expected[(vaddr - IDIOM_VADDR) / FUNCTION_BYTES];

		assert_int_equal(code_at(code, i)->hints & HINT_DEAD, alive ? 0 : HINT_DEAD);
		dead += !alive;
		n += is_hinted(code, i, HINT_REFERENCE);
	}
	assert_true(dead > 0);
	assert_int_equal(code_left_out(code), dead);
	assert_int_equal(n, 3); /* the new code's; that of DEAD is none any more */
	reachable_leave_out_dead(reachable, code); /* none is counted twice */
	assert_int_equal(code_left_out(code), dead);
}

static void what_live_code_refers_to_is_alive(void **state)
{
	const struct code_bytes ranges[] = {
		{IDIOM_VADDR, old_begin, (size_t)(old_end - old_begin)},
		{NEW_VADDR, new_begin, (size_t)(new_end - new_begin)},
	};
	const struct image_range old = {IDIOM_VADDR, FUNCTION(FUNCTIONS)};
	static const bool expected[FUNCTIONS] = {
		[CALLED] = true, [CALLED_BY_LIVE] = true, [TAKEN] = true,
		[STORED] = true, [JUMPED_INTO] = true,
	};
	struct image_range functions[FUNCTIONS];
	CLEANUP(reachable_free) struct reachable *reachable = NULL;
	CLEANUP(code_free) struct code *code = NULL;

	(void)state;
	for (unsigned i = 0; i < FUNCTIONS; i++)
		functions[i] = (struct image_range){FUNCTION(i), FUNCTION(i + 1)};
	assert_int_equal(old_end - old_begin, 16 * FUNCTIONS);
	assert_int_equal(code_new_from_bytes(ranges, 2, &code), 0);
	assert_int_equal(code_undecodable(code), 0);
	assert_int_equal(reachable_new_of(functions, FUNCTIONS, old, &reachable), 0);
	reachable_follow(reachable, code);
	for (unsigned i = 0; i < FUNCTIONS; i++)
		assert_int_equal(reachable_is_live(reachable, FUNCTION(i) + 3), expected[i]);
	assert_true(reachable_is_live(reachable, NEW_VADDR));
	check_left_out(reachable, code, expected);
}

static void what_is_marked_brings_what_it_calls(void **state)
{
	const struct code_bytes range = {IDIOM_VADDR, old_begin, (size_t)(old_end - old_begin)};
	const struct image_range old = {IDIOM_VADDR, FUNCTION(FUNCTIONS)};
	struct image_range functions[FUNCTIONS];
	CLEANUP(reachable_free) struct reachable *reachable = NULL;
	CLEANUP(code_free) struct code *code = NULL;

	(void)state;
	for (unsigned i = 0; i < FUNCTIONS; i++)
		functions[i] = (struct image_range){FUNCTION(i), FUNCTION(i + 1)};
	assert_int_equal(code_new_from_bytes(&range, 1, &code), 0);
	assert_int_equal(reachable_new_of(functions, FUNCTIONS, old, &reachable), 0);
	reachable_mark_start(reachable, FUNCTION(DEAD));
	reachable_mark_start(reachable, FUNCTION(STORED) + 1); /* no function's start */
	reachable_mark_start(reachable, NEW_VADDR);
	reachable_follow(reachable, code);
	for (unsigned i = 0; i < FUNCTIONS; i++)
		assert_int_equal(reachable_is_live(reachable, FUNCTION(i)),
				 i == DEAD || i == CALLED_BY_DEAD);
}

static void between_functions_nothing_lives(void **state)
{
	const struct image_range old = {0x1000, 0x3000};
	const struct image_range functions[] = {{0x1000, 0x1010}, {0x1020, 0x1030}};
	CLEANUP(reachable_free) struct reachable *reachable = NULL;

	(void)state;
	assert_int_equal(reachable_new_of(functions, 2, old, &reachable), 0);
	reachable_mark(reachable, 0x1005);
	reachable_mark(reachable, 0x1018);
	assert_true(reachable_is_live(reachable, 0x100f));
	assert_false(reachable_is_live(reachable, 0x1010));
	assert_false(reachable_is_live(reachable, 0x1018));
	assert_false(reachable_is_live(reachable, 0x1020));
	assert_false(reachable_is_live(reachable, 0x2fff));
	assert_true(reachable_is_live(reachable, 0x3000));
	assert_true(reachable_is_live(reachable, 0xfff));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_live_code_refers_to_is_alive),
		cmocka_unit_test(what_is_marked_brings_what_it_calls),
		cmocka_unit_test(between_functions_nothing_lives),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
