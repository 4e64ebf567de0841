/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* pymalloc_alloc and pymalloc_free as compilers write them, and what only looks like them. */
#include "idioms.h"

#define MATCHES __attribute__((cleanup(matches_done))) struct matches

static void match_idiom(struct code *code, struct matches *matches)
{
	assert_non_null(code);
	assert_int_equal(match_pymalloc(code, matches), 0);
}

/* The one match, at name_site, of this kind. */
#define EXPECT_ONE(name, kind_)                                                                    \
	CLEANUP(code_free) struct code *code = DECODE(name);                                       \
	MATCHES matches = {0};                                                                     \
	const struct match *match;                                                                 \
                                                                                                   \
	match_idiom(code, &matches);                                                               \
	assert_int_equal(matches.n, 1);                                                            \
	match = matches_find(&matches, INDEX_OF(code, name, site), kind_);                         \
	assert_non_null(match)

#define EXPECT_NONE(name)                                                                          \
	CLEANUP(code_free) struct code *code = DECODE(name);                                       \
	MATCHES matches = {0};                                                                     \
                                                                                                   \
	match_idiom(code, &matches);                                                               \
	assert_int_equal(matches.n, 0)

#define BIT(reg) (1U << (reg))
#define R9 9

/* --- allocate ------------------------------------------------------------------------------- */

IDIOM_SITE(alloc_inc, "mov rax, [rdi+8]\n"
		      "inc dword ptr [rdi]\n"
		      "mov rdx, [rax]\n"
		      "mov [rdi+8], rdx\n"
		      "test rdx, rdx\n"
		      "alloc_inc_site: je 1f\n"
		      "ret\n"
		      "1: xor eax, eax\n"
		      "ret");

static void an_allocation_is_the_head_of_the_pools_list_taken_off(void **state)
{
	(void)state;
	EXPECT_ONE(alloc_inc, SITE_ALLOC);
	assert_int_equal(match->registers, BIT(CODE_RAX));
}

IDIOM_SITE(alloc_jne, "mov r9, [rbx+8]\n"
		      "add dword ptr [rbx], 1\n"
		      "mov rax, [r9]\n"
		      "mov [rbx+8], rax\n"
		      "cmp rax, 0\n"
		      "alloc_jne_site: jne 1f\n"
		      "call 1f\n"
		      "1: mov rax, r9\n"
		      "ret");

static void the_jump_may_have_the_other_sense(void **state)
{
	(void)state;
	EXPECT_ONE(alloc_jne, SITE_ALLOC);
	assert_int_equal(match->registers, BIT(R9));
}

IDIOM_SITE(alloc_sub, "mov rax, [rdi+8]\n"
		      "sub dword ptr [rdi], -1\n"
		      "mov rdx, [rax]\n"
		      "mov [rdi+8], rdx\n"
		      "test rdx, rdx\n"
		      "alloc_sub_site: je 1f\n"
		      "1: ret");

static void subtracting_minus_one_counts_up(void **state)
{
	(void)state;
	EXPECT_ONE(alloc_sub, SITE_ALLOC);
	assert_int_equal(match->registers, BIT(CODE_RAX));
}

IDIOM_SITE(alloc_lea, "mov ecx, [rdi]\n"
		      "mov rax, [rdi+8]\n"
		      "lea ecx, [rcx+1]\n"
		      "mov rdx, [rax]\n"
		      "mov [rdi], ecx\n"
		      "mov [rdi+8], rdx\n"
		      "test rdx, rdx\n"
		      "alloc_lea_site: je 1f\n"
		      "1: ret");

static void the_count_may_be_kept_apart(void **state)
{
	(void)state;
	EXPECT_ONE(alloc_lea, SITE_ALLOC);
	assert_int_equal(match->registers, BIT(CODE_RAX));
}

IDIOM_SITE(alloc_two, "mov rax, [rdi+8]\n"
		      "inc dword ptr [rdi]\n"
		      "mov rbp, rax\n"
		      "mov rdx, [rax]\n"
		      "mov [rdi+8], rdx\n"
		      "test rdx, rdx\n"
		      "alloc_two_site: je 1f\n"
		      "1: ret");

static void all_registers_that_hold_the_block_are_known(void **state)
{
	(void)state;
	EXPECT_ONE(alloc_two, SITE_ALLOC);
	assert_int_equal(match->registers, BIT(CODE_RAX) | BIT(CODE_RBP));
}

/* CPython 3.15 of Debian keeps one allocation's block in a slot of its frame only. */
IDIOM_SITE(alloc_spilled, "mov rcx, [rdx+8]\n"
			  "add dword ptr [rdx], 1\n"
			  "mov [rbp-0x70], rcx\n"
			  "mov rcx, [rcx]\n"
			  "mov [rdx+8], rcx\n"
			  "test rcx, rcx\n"
			  "alloc_spilled_site: je 1f\n"
			  "1: ret");

static void a_spilled_block_is_read_from_its_slot(void **state)
{
	(void)state;
	EXPECT_ONE(alloc_spilled, SITE_ALLOC);
	assert_int_equal(match->registers, 0);
	assert_true(match->named);
	assert_true(match->name.memory);
	assert_int_equal(match->name.reg, CODE_RBP);
	assert_int_equal(match->name.displacement, -0x70);
}

IDIOM_SITE(alloc_pushed, "mov rcx, [rdx+8]\n"
			 "inc dword ptr [rdx]\n"
			 "push rcx\n"
			 "push rbx\n"
			 "mov rcx, [rcx]\n"
			 "mov [rdx+8], rcx\n"
			 "test rcx, rcx\n"
			 "alloc_pushed_site: je 1f\n"
			 "1: ret");

static void a_slot_is_named_from_where_the_stack_pointer_is_at_the_jump(void **state)
{
	(void)state;
	EXPECT_ONE(alloc_pushed, SITE_ALLOC);
	assert_true(match->named && match->name.memory);
	assert_int_equal(match->name.reg, CODE_RSP);
	assert_int_equal(match->name.displacement, 8);
}

/* Where two ways meet before the jump, a copy that was made on one of them only is no name. */
IDIOM_SITE(alloc_join, "mov rax, [rdi+8]\n"
		       "inc dword ptr [rdi]\n"
		       "cmp esi, 5\n"
		       "jb 1f\n"
		       "mov rcx, rax\n"
		       "1: mov rdx, [rax]\n"
		       "mov [rdi+8], rdx\n"
		       "test rdx, rdx\n"
		       "alloc_join_site: je 2f\n"
		       "2: ret");

static void a_name_holds_on_all_paths(void **state)
{
	(void)state;
	EXPECT_ONE(alloc_join, SITE_ALLOC);
	assert_int_equal(match->registers, BIT(CODE_RAX));
}

/* BOLT moves blocks apart: control runs backwards through direct jumps. */
IDIOM_SITE(alloc_backwards, "3: test rdx, rdx\n"
			    "alloc_backwards_site: je 4f\n"
			    "4: ret\n"
			    "2: mov [rdi+8], rdx\n"
			    "inc dword ptr [rdi]\n"
			    "jmp 3b\n"
			    "mov rax, [rdi+8]\n"
			    "mov rdx, [rax]\n"
			    "jmp 2b");

static void jumps_are_followed_backwards(void **state)
{
	(void)state;
	EXPECT_ONE(alloc_backwards, SITE_ALLOC);
	assert_int_equal(match->registers, BIT(CODE_RAX));
}

IDIOM_SITE(alloc_after, "mov rax, [rdi+8]\n"
			"mov rdx, [rax]\n"
			"mov [rdi+8], rdx\n"
			"test rdx, rdx\n"
			"alloc_after_site: je 1f\n"
			"mov eax, 1\n"
			"inc dword ptr [rdi]\n"
			"ret\n"
			"1: inc dword ptr [rdi]\n"
			"ret");

static void the_count_may_change_behind_the_jump(void **state)
{
	(void)state;
	EXPECT_ONE(alloc_after, SITE_ALLOC);
	assert_int_equal(match->registers, BIT(CODE_RAX));
}

/* --- free ----------------------------------------------------------------------------------- */

IDIOM_SITE(free_dec, "mov rax, [rbx+8]\n"
		     "mov [rdi], rax\n"
		     "mov [rbx+8], rdi\n"
		     "dec dword ptr [rbx]\n"
		     "test rax, rax\n"
		     "free_dec_site: je 1f\n"
		     "1: ret");

static void a_free_is_a_block_put_at_the_head_of_the_pools_list(void **state)
{
	(void)state;
	EXPECT_ONE(free_dec, SITE_FREE);
	assert_int_equal(match->registers, BIT(CODE_RDI));
	assert_true(match->pool_named);
	assert_int_equal(match->pool.reg, CODE_RBX);
	assert_int_equal(match->pool.displacement, 8);
}

IDIOM_SITE(free_clang, "mov rax, [rbx+8]\n"
		       "mov [r14], rax\n"
		       "mov [rbx+8], r14\n"
		       "mov ecx, [rbx]\n"
		       "add ecx, 0xffffffff\n"
		       "mov [rbx], ecx\n"
		       "test rax, rax\n"
		       "free_clang_site: je 1f\n"
		       "1: ret");

static void adding_all_ones_counts_down(void **state)
{
	(void)state;
	EXPECT_ONE(free_clang, SITE_FREE);
	assert_int_equal(match->registers, BIT(14));
}

/* 7 of 48 copies in Debian's 3.11 lose the block's register to the count. */
IDIOM_SITE(free_lost, "mov rax, [rbx+8]\n"
		      "mov [rcx], rax\n"
		      "mov [rbx+8], rcx\n"
		      "mov ecx, [rbx]\n"
		      "lea ecx, [rcx-1]\n"
		      "mov [rbx], ecx\n"
		      "test rax, rax\n"
		      "free_lost_site: jne 1f\n"
		      "1: ret");

static void a_block_that_lost_its_register_is_read_from_the_pool(void **state)
{
	(void)state;
	EXPECT_ONE(free_lost, SITE_FREE);
	assert_int_equal(match->registers, 0);
	assert_false(match->named);
	assert_true(match->pool_named);
	assert_int_equal(match->pool.reg, CODE_RBX);
	assert_int_equal(match->pool.displacement, 8);
}

/* PyObject_GC_Del frees op - 16, computed beyond a call: the link goes through another name. */
IDIOM_SITE(free_link, "mov rax, [rbx+8]\n"
		      "mov [rbp-16], rax\n"
		      "mov ecx, [rbx]\n"
		      "sub ecx, 1\n"
		      "mov [rbx+8], r12\n"
		      "mov [rbx], ecx\n"
		      "test rax, rax\n"
		      "free_link_site: je 1f\n"
		      "1: ret");

static void the_link_may_be_stored_through_another_name(void **state)
{
	(void)state;
	EXPECT_ONE(free_link, SITE_FREE);
	assert_int_equal(match->registers, BIT(12));
}

IDIOM_SITE(free_displaced, "mov rax, [rbx+8]\n"
			   "lea rcx, [rbp-16]\n"
			   "mov [rcx], rax\n"
			   "mov [rbx+8], rcx\n"
			   "mov ecx, [rbx]\n"
			   "sub ecx, 1\n"
			   "mov [rbx], ecx\n"
			   "test rax, rax\n"
			   "free_displaced_site: je 1f\n"
			   "1: ret");

static void a_block_may_be_a_register_and_a_displacement(void **state)
{
	(void)state;
	EXPECT_ONE(free_displaced, SITE_FREE);
	assert_int_equal(match->registers, 0);
	assert_true(match->named);
	assert_false(match->name.memory);
	assert_int_equal(match->name.reg, CODE_RBP);
	assert_int_equal(match->name.displacement, -16);
}

/* CPython 3.8 tests before it counts, and counts on both arms. */
IDIOM_SITE(free_after, "mov rax, [rbx+8]\n"
		       "mov [rdi], rax\n"
		       "mov [rbx+8], rdi\n"
		       "test rax, rax\n"
		       "free_after_site: je 1f\n"
		       "mov eax, [rbx]\n"
		       "sub eax, 1\n"
		       "mov [rbx], eax\n"
		       "ret\n"
		       "1: dec dword ptr [rbx]\n"
		       "ret");

static void a_free_may_count_behind_the_jump(void **state)
{
	(void)state;
	EXPECT_ONE(free_after, SITE_FREE);
	assert_int_equal(match->registers, BIT(CODE_RDI));
}

/* --- look-alikes ----------------------------------------------------------------------------- */

IDIOM(list_pop, "mov rax, [rdi+8]\n"
		"mov rdx, [rax]\n"
		"mov [rdi+8], rdx\n"
		"test rdx, rdx\n"
		"je 1f\n"
		"1: ret");

static void a_list_without_a_count_is_no_pool(void **state)
{
	(void)state;
	EXPECT_NONE(list_pop);
}

IDIOM(other_count, "mov rax, [rdi+8]\n"
		   "inc dword ptr [rsi]\n"
		   "mov rdx, [rax]\n"
		   "mov [rdi+8], rdx\n"
		   "test rdx, rdx\n"
		   "je 1f\n"
		   "1: ret");

static void a_count_of_something_else_is_no_pools(void **state)
{
	(void)state;
	EXPECT_NONE(other_count);
}

IDIOM(wide_count, "mov rax, [rdi+8]\n"
		  "inc qword ptr [rdi]\n"
		  "mov rdx, [rax]\n"
		  "mov [rdi+8], rdx\n"
		  "test rdx, rdx\n"
		  "je 1f\n"
		  "1: ret");

static void a_count_of_64_bits_is_a_reference_count(void **state)
{
	(void)state;
	EXPECT_NONE(wide_count);
}

IDIOM(count_by_two, "mov rax, [rdi+8]\n"
		    "add dword ptr [rdi], 2\n"
		    "mov rdx, [rax]\n"
		    "mov [rdi+8], rdx\n"
		    "test rdx, rdx\n"
		    "je 1f\n"
		    "1: ret");

static void counting_by_two_is_no_allocation(void **state)
{
	(void)state;
	EXPECT_NONE(count_by_two);
}

IDIOM(counted_down, "mov rax, [rdi+8]\n"
		    "dec dword ptr [rdi]\n"
		    "mov rdx, [rax]\n"
		    "mov [rdi+8], rdx\n"
		    "test rdx, rdx\n"
		    "je 1f\n"
		    "1: ret");

static void a_pop_that_counts_down_is_no_allocation(void **state)
{
	(void)state;
	EXPECT_NONE(counted_down);
}

IDIOM(other_test, "mov rax, [rdi+8]\n"
		  "inc dword ptr [rdi]\n"
		  "mov rdx, [rax]\n"
		  "mov [rdi+8], rdx\n"
		  "test rax, rax\n"
		  "je 1f\n"
		  "1: ret");

static void a_test_of_another_value_is_no_site(void **state)
{
	(void)state;
	EXPECT_NONE(other_test);
}

IDIOM(narrow_test, "mov rax, [rdi+8]\n"
		   "inc dword ptr [rdi]\n"
		   "mov rdx, [rax]\n"
		   "mov [rdi+8], rdx\n"
		   "test edx, edx\n"
		   "je 1f\n"
		   "1: ret");

static void a_test_of_half_a_pointer_is_no_site(void **state)
{
	(void)state;
	EXPECT_NONE(narrow_test);
}

IDIOM(flags_lost, "mov rax, [rdi+8]\n"
		  "inc dword ptr [rdi]\n"
		  "mov rdx, [rax]\n"
		  "mov [rdi+8], rdx\n"
		  "test rdx, rdx\n"
		  "shl rcx, 3\n"
		  "je 1f\n"
		  "1: ret");

static void flags_that_were_changed_since_the_test_say_nothing(void **state)
{
	(void)state;
	EXPECT_NONE(flags_lost);
}

IDIOM(not_linked, "mov rax, [rbx+8]\n"
		  "mov [rsp-8], rax\n"
		  "mov [rbx+8], rdi\n"
		  "dec dword ptr [rbx]\n"
		  "test rax, rax\n"
		  "je 1f\n"
		  "1: ret");

static void a_spill_is_no_link(void **state)
{
	(void)state;
	EXPECT_NONE(not_linked);
}

IDIOM(put_back, "mov rax, [rbx+8]\n"
		"mov [rdi], rax\n"
		"mov [rbx+8], rax\n"
		"dec dword ptr [rbx]\n"
		"test rax, rax\n"
		"je 1f\n"
		"1: ret");

static void a_list_whose_head_stays_is_no_free(void **state)
{
	(void)state;
	EXPECT_NONE(put_back);
}

IDIOM(frame_list, "mov rax, [rsp+8]\n"
		  "lea rdi, [rsp]\n"
		  "mov rax, [rdi+8]\n"
		  "inc dword ptr [rdi]\n"
		  "mov rdx, [rax]\n"
		  "mov [rdi+8], rdx\n"
		  "test rdx, rdx\n"
		  "je 1f\n"
		  "1: ret");

static void no_pool_is_on_the_stack(void **state)
{
	(void)state;
	EXPECT_NONE(frame_list);
}

IDIOM(across_call, "mov rax, [rdi+8]\n"
		   "inc dword ptr [rdi]\n"
		   "mov rdx, [rax]\n"
		   "mov [rdi+8], rdx\n"
		   "call 1f\n"
		   "1: test rdx, rdx\n"
		   "je 2f\n"
		   "2: ret");

static void a_call_takes_the_scratch_registers(void **state)
{
	(void)state;
	EXPECT_NONE(across_call);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_allocation_is_the_head_of_the_pools_list_taken_off),
		cmocka_unit_test(the_jump_may_have_the_other_sense),
		cmocka_unit_test(subtracting_minus_one_counts_up),
		cmocka_unit_test(the_count_may_be_kept_apart),
		cmocka_unit_test(all_registers_that_hold_the_block_are_known),
		cmocka_unit_test(a_spilled_block_is_read_from_its_slot),
		cmocka_unit_test(a_slot_is_named_from_where_the_stack_pointer_is_at_the_jump),
		cmocka_unit_test(a_name_holds_on_all_paths),
		cmocka_unit_test(jumps_are_followed_backwards),
		cmocka_unit_test(the_count_may_change_behind_the_jump),
		cmocka_unit_test(a_free_is_a_block_put_at_the_head_of_the_pools_list),
		cmocka_unit_test(adding_all_ones_counts_down),
		cmocka_unit_test(a_block_that_lost_its_register_is_read_from_the_pool),
		cmocka_unit_test(the_link_may_be_stored_through_another_name),
		cmocka_unit_test(a_block_may_be_a_register_and_a_displacement),
		cmocka_unit_test(a_free_may_count_behind_the_jump),
		cmocka_unit_test(a_list_without_a_count_is_no_pool),
		cmocka_unit_test(a_count_of_something_else_is_no_pools),
		cmocka_unit_test(a_count_of_64_bits_is_a_reference_count),
		cmocka_unit_test(counting_by_two_is_no_allocation),
		cmocka_unit_test(a_pop_that_counts_down_is_no_allocation),
		cmocka_unit_test(a_test_of_another_value_is_no_site),
		cmocka_unit_test(a_test_of_half_a_pointer_is_no_site),
		cmocka_unit_test(flags_that_were_changed_since_the_test_say_nothing),
		cmocka_unit_test(a_spill_is_no_link),
		cmocka_unit_test(a_list_whose_head_stays_is_no_free),
		cmocka_unit_test(no_pool_is_on_the_stack),
		cmocka_unit_test(a_call_takes_the_scratch_registers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
