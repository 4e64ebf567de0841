/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* allocate_from_new_pool as compilers write it: which jumps stand for it, and how they name the
 * pool. */
#include "idioms.h"

#define MATCHES __attribute__((cleanup(matches_done))) struct matches

/* A pool that gets a size class: the stores of which P consists, pool in rax, class in ebp. */
#define INITIALISE                                                                                 \
	"mov [rax+0x24], ebp\n"                                                                    \
	"add ebp, 1\n"                                                                             \
	"lea rbx, [rax+0x30]\n"                                                                    \
	"mov ecx, 0x4000\n"                                                                        \
	"mov edx, ebp\n"                                                                           \
	"shl ebp, 5\n"                                                                             \
	"shl edx, 4\n"                                                                             \
	"add ebp, 0x30\n"                                                                          \
	"sub ecx, edx\n"                                                                           \
	"add rdx, rbx\n"                                                                           \
	"mov [rax+0x28], ebp\n"                                                                    \
	"mov [rax+0x2c], ecx\n"                                                                    \
	"mov [rax+8], rdx\n"                                                                       \
	"mov qword ptr [rdx], 0\n"                                                                 \
	"mov rax, rbx\n"                                                                           \
	"ret\n"

#define REUSE                                                                                      \
	"9: mov rbx, [rax+8]\n"                                                                    \
	"mov rdx, [rbx]\n"                                                                         \
	"mov [rax+8], rdx\n"                                                                       \
	"mov rax, rbx\n"                                                                           \
	"ret\n"

IDIOM_SITE(z, "mov ecx, [rax+0x24]\n"
	      "mov dword ptr [rax], 1\n"
	      "cmp ebp, ecx\n"
	      "z_site: je 9f\n" INITIALISE REUSE);

static void match_fresh_idiom(struct code *code, struct matches *matches, uint32_t unresolved)
{
	uint32_t found = 0;

	assert_int_equal(match_fresh_pools(code, matches, &found), 0);
	assert_int_equal(found, unresolved);
}

static void the_comparison_of_the_size_class_tells_both_cases_by_its_flag(void **state)
{
	CLEANUP(code_free) struct code *code = DECODE(z);
	MATCHES matches = {0};
	const struct match *match;

	(void)state;
	match_fresh_idiom(code, &matches, 0);
	assert_int_equal(matches.n, 1);
	match = matches_find(&matches, INDEX_OF(code, z, site), SITE_FRESH);
	assert_non_null(match);
	assert_int_equal(match->value, VALUE_POOL_BY_ZF);
	assert_int_equal(match->condition, WIRE_CONDITION_ALWAYS);
	assert_true(match->named);
	assert_int_equal(match->name.reg, CODE_RAX);
	assert_int_equal(match->name.displacement, 0);
}

IDIOM_SITE(z_memory, "mov dword ptr [rax], 1\n"
		     "cmp [rax+0x24], ebp\n"
		     "z_memory_site: jne 1f\n" REUSE "1: " INITIALISE);

static void the_size_class_may_be_compared_in_memory_and_jumped_to(void **state)
{
	CLEANUP(code_free) struct code *code = DECODE(z_memory);
	MATCHES matches = {0};
	const struct match *match;

	(void)state;
	match_fresh_idiom(code, &matches, 0);
	assert_int_equal(matches.n, 1);
	match = matches_find(&matches, INDEX_OF(code, z_memory, site), SITE_FRESH);
	assert_non_null(match);
	assert_int_equal(match->value, VALUE_POOL_BY_ZF);
}

/* Debian's 3.9 loads the size class long before, on one of two ways that meet. */
IDIOM_SITE(z_early, "mov ecx, [rax+0x24]\n"
		    "test rdi, rdi\n"
		    "je 1f\n"
		    "2: mov ecx, 0xffff\n"
		    "1: lea edx, [rbx+rbx]\n"
		    "movq xmm4, rax\n"
		    "mov rsi, [rdx*8+0x9074c0]\n"
		    "punpcklqdq xmm4, xmm4\n"
		    "movq xmm3, rsi\n"
		    "punpcklqdq xmm3, xmm3\n"
		    "movups [rax+16], xmm3\n"
		    "movups [rsi+16], xmm4\n"
		    "mov dword ptr [rax], 1\n"
		    "cmp ebp, ecx\n"
		    "z_early_site: jne 3f\n"
		    "jmp 9f\n"
		    "3: " INITIALISE REUSE);

static void the_size_class_may_have_been_loaded_long_before(void **state)
{
	CLEANUP(code_free) struct code *code = DECODE(z_early);
	MATCHES matches = {0};
	const struct match *match;

	(void)state;
	match_fresh_idiom(code, &matches, 0);
	assert_int_equal(matches.n, 1);
	match = matches_find(&matches, INDEX_OF(code, z_early, site), SITE_FRESH);
	assert_non_null(match);
	assert_int_equal(match->value, VALUE_POOL_BY_ZF);
}

/* BOLT moves the comparison away from the count. */
IDIOM_SITE(z_moved, "2: cmp ebp, ecx\n"
		    "z_moved_site: je 9f\n" INITIALISE REUSE "mov ecx, [rax+0x24]\n"
		    "mov dword ptr [rax], 1\n"
		    "jmp 2b\n");

static void the_comparison_may_stand_apart_from_the_count(void **state)
{
	CLEANUP(code_free) struct code *code = DECODE(z_moved);
	MATCHES matches = {0};
	const struct match *match;

	(void)state;
	match_fresh_idiom(code, &matches, 0);
	match = matches_find(&matches, INDEX_OF(code, z_moved, site), SITE_FRESH);
	assert_non_null(match);
	assert_int_equal(match->value, VALUE_POOL_BY_ZF);
}

/* gcc 14 threads a pool just carved from its arena past the comparison. */
IDIOM_SITE(threaded, "mov dword ptr [rax], 1\n"
		     "cmp [rax+0x24], ebp\n"
		     "je 9f\n"
		     "1: " INITIALISE REUSE "test ecx, ecx\n"
		     "threaded_site: jne 2f\n"
		     "ret\n"
		     "2: mov rax, [r12+8]\n"
		     "mov dword ptr [rax+0x24], 0xffff\n"
		     "mov dword ptr [rax], 1\n"
		     "jmp 1b\n");

static void a_carved_pool_comes_by_a_jump_of_its_own(void **state)
{
	CLEANUP(code_free) struct code *code = DECODE(threaded);
	MATCHES matches = {0};
	const struct match *match;

	(void)state;
	match_fresh_idiom(code, &matches, 0);
	assert_int_equal(matches.n, 2);
	match = matches_find(&matches, INDEX_OF(code, threaded, site), SITE_FRESH);
	assert_non_null(match);
	assert_int_equal(match->value, VALUE_POOL_FIRST_MEMORY);
	assert_int_equal(match->condition, CONDITION_NOT_EQUAL);
	assert_int_equal(match->name.reg, 12);
	assert_int_equal(match->name.displacement, 8);
}

/* The same arm, but fallen into rather than taken. */
IDIOM_SITE(fallen, "mov dword ptr [rax], 1\n"
		   "cmp [rax+0x24], ebp\n"
		   "je 9f\n"
		   "1: " INITIALISE REUSE "test ecx, ecx\n"
		   "fallen_site: je 2f\n"
		   "mov rax, rdx\n"
		   "mov dword ptr [rax], 1\n"
		   "jmp 1b\n"
		   "2: ret\n");

static void an_arm_that_falls_through_has_the_opposite_condition(void **state)
{
	CLEANUP(code_free) struct code *code = DECODE(fallen);
	MATCHES matches = {0};
	const struct match *match;

	(void)state;
	match_fresh_idiom(code, &matches, 0);
	match = matches_find(&matches, INDEX_OF(code, fallen, site), SITE_FRESH);
	assert_non_null(match);
	assert_int_equal(match->value, VALUE_POOL_FIRST);
	assert_int_equal(match->condition, CONDITION_NOT_EQUAL);
	assert_int_equal(match->name.reg, CODE_RDX);
}

IDIOM_SITE(both, "mov rax, rdx\n"
		 "test ecx, ecx\n"
		 "both_site: je 1f\n"
		 "nop\n"
		 "1: " INITIALISE);

static void a_jump_whose_arms_both_lead_there_counts_always(void **state)
{
	CLEANUP(code_free) struct code *code = DECODE(both);
	MATCHES matches = {0};
	const struct match *match;

	(void)state;
	match_fresh_idiom(code, &matches, 0);
	assert_int_equal(matches.n, 1);
	match = matches_find(&matches, INDEX_OF(code, both, site), SITE_FRESH);
	assert_non_null(match);
	assert_int_equal(match->condition, WIRE_CONDITION_ALWAYS);
	assert_int_equal(match->value, VALUE_POOL_FIRST);
}

/* CPython 3.8 aligns a new arena behind the jump; the pool is known at the jump away from there. */
IDIOM_SITE(aligned, "and ecx, 0xfff\n"
		    "jne 2f\n"
		    "ret\n"
		    "1: mov rax, [r12+8]\n"
		    "mov dword ptr [rax], 1\n" INITIALISE "2: mov edx, 0x1000\n"
		    "sub edx, ecx\n"
		    "add rax, rdx\n"
		    "mov [r12+8], rax\n"
		    "aligned_site: jmp 1b\n");

static void a_pool_that_is_computed_behind_the_jump_is_named_at_the_next_one(void **state)
{
	CLEANUP(code_free) struct code *code = DECODE(aligned);
	MATCHES matches = {0};
	const struct match *match;

	(void)state;
	match_fresh_idiom(code, &matches, 0);
	assert_int_equal(matches.n, 1);
	match = matches_find(&matches, INDEX_OF(code, aligned, site), SITE_FRESH);
	assert_non_null(match);
	assert_int_equal(match->value, VALUE_POOL_FIRST_MEMORY);
	assert_int_equal(match->condition, WIRE_CONDITION_ALWAYS);
	assert_int_equal(match->name.reg, 12);
	assert_int_equal(match->name.displacement, 8);
}

IDIOM(called, "test ecx, ecx\n"
	      "call 1f\n"
	      "ret\n"
	      "1: " INITIALISE);

static void a_way_in_that_has_no_jump_is_counted_as_unresolved(void **state)
{
	CLEANUP(code_free) struct code *code = DECODE(called);
	MATCHES matches = {0};

	(void)state;
	match_fresh_idiom(code, &matches, 1);
	assert_int_equal(matches.n, 0);
}

/* A carved pool without a class yet. */
IDIOM(dummy, "je 1f\n"
	     "1: mov dword ptr [rax+0x24], 0xffff\n"
	     "mov [rax+0x28], ebp\n"
	     "mov [rax+0x2c], ecx\n"
	     "lea rdx, [rax+0x30]\n"
	     "mov [rax+8], rdx\n"
	     "mov qword ptr [rdx], 0\n"
	     "ret");

static void a_pool_without_a_size_class_is_not_handed_out(void **state)
{
	CLEANUP(code_free) struct code *code = DECODE(dummy);
	MATCHES matches = {0};

	(void)state;
	match_fresh_idiom(code, &matches, 0);
	assert_int_equal(matches.n, 0);
}

/* The parser's AST nodes: line, column and end at the same offsets, but no list behind. */
IDIOM(ast_node, "je 1f\n"
		"1: mov [rax+8], rdi\n"
		"mov [rax+0x24], ebp\n"
		"mov [rax+0x28], ecx\n"
		"mov [rax+0x2c], edx\n"
		"mov dword ptr [rax], 1\n"
		"ret");

static void a_node_of_the_parser_is_no_pool(void **state)
{
	CLEANUP(code_free) struct code *code = DECODE(ast_node);
	MATCHES matches = {0};

	(void)state;
	match_fresh_idiom(code, &matches, 0);
	assert_int_equal(matches.n, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_comparison_of_the_size_class_tells_both_cases_by_its_flag),
		cmocka_unit_test(the_size_class_may_be_compared_in_memory_and_jumped_to),
		cmocka_unit_test(the_size_class_may_have_been_loaded_long_before),
		cmocka_unit_test(the_comparison_may_stand_apart_from_the_count),
		cmocka_unit_test(a_carved_pool_comes_by_a_jump_of_its_own),
		cmocka_unit_test(an_arm_that_falls_through_has_the_opposite_condition),
		cmocka_unit_test(a_jump_whose_arms_both_lead_there_counts_always),
		cmocka_unit_test(a_pool_that_is_computed_behind_the_jump_is_named_at_the_next_one),
		cmocka_unit_test(a_way_in_that_has_no_jump_is_counted_as_unresolved),
		cmocka_unit_test(a_pool_without_a_size_class_is_not_handed_out),
		cmocka_unit_test(a_node_of_the_parser_is_no_pool),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
