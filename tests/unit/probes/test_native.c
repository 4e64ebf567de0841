/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* The returns of the malloc family: which jumps foretell them, and how they name the block. */
#include "native_idioms.h"

/* --- where the result is ------------------------------------------------------------------- */

LIBRARY(simple, "simple_malloc: push rbx\n"
		"call " OUTSIDE "\n"
		"test al, 0xf\n"
		"simple_site: jne 1f\n"
		"mov qword ptr [rax+8], 0\n"
		"pop rbx\n"
		"ret\n"
		"1: ud2\n");
PLACE(simple, site);

static void the_arm_that_runs_to_the_return_is_the_site(void **state)
{
	LIBRARY_OF library;
	const struct plan_site *site;

	(void)state;
	OPEN(&library, simple);
	MATCH(&library);
	assert_only(&library, AT(&library, simple, site), CODE_RAX, CONDITION_EQUAL);
	site = site_at(&library, AT(&library, simple, site), 0);
	assert_int_equal(site->kind, SITE_NATIVE_ALLOC);
	assert_string_equal(site->function, "malloc");
	assert_int_equal(site->return_slot, 2); /* above rbx */
}

LIBRARY(saved, "saved_malloc: push rbp\n"
	       "push rbx\n"
	       "sub rsp, 0x18\n"
	       "call " OUTSIDE "\n"
	       "mov rbx, rax\n"
	       "cmp dword ptr [rip], 0\n"
	       "saved_site: je 1f\n"
	       "ud2\n"
	       "1: mov rdi, rbp\n"
	       "call " OUTSIDE "\n"
	       "add rsp, 0x18\n"
	       "mov rax, rbx\n"
	       "pop rbx\n"
	       "pop rbp\n"
	       "rep ret\n");
PLACE(saved, site);

static void a_callee_saved_register_carries_the_block_over_a_call(void **state)
{
	LIBRARY_OF library;

	(void)state;
	OPEN(&library, saved);
	MATCH(&library);
	assert_only(&library, AT(&library, saved, site), CODE_RBX, CONDITION_EQUAL);
	assert_int_equal(site_at(&library, AT(&library, saved, site), 0)->return_slot, 6);
}

LIBRARY(chunk, "chunk_malloc: mov rdx, [rdi]\n"
	       "test rdx, rdx\n"
	       "chunk_site: je 1f\n"
	       "lea rax, [rdx+0x10]\n"
	       "bnd ret\n"
	       "1: ud2\n");
PLACE(chunk, site);

static void a_block_lies_two_words_above_its_chunk(void **state)
{
	LIBRARY_OF library;
	const struct plan_site *site;

	(void)state;
	OPEN(&library, chunk);
	MATCH(&library);
	site = site_at(&library, AT(&library, chunk, site), 0);
	assert_register(site, CODE_RDX, 16);
	assert_int_equal(site->return_slot, 1);
	assert_int_equal(library.sites.unresolved, 0);
}

LIBRARY(spilled, "spilled_malloc: sub rsp, 0x18\n"
		 "call " OUTSIDE "\n"
		 "mov [rsp+8], rax\n"
		 "xor eax, eax\n"
		 "cmp dword ptr [rip], 1\n"
		 "spilled_site: jne 1f\n"
		 "ud2\n"
		 "1: mov rdi, rbx\n"
		 "call " OUTSIDE "\n"
		 "mov rax, [rsp+8]\n"
		 "add rsp, 0x18\n"
		 "ret\n");
PLACE(spilled, site);

static void a_block_in_a_slot_of_the_frame_is_read_from_there(void **state)
{
	LIBRARY_OF library;
	const struct plan_site *site;

	(void)state;
	OPEN(&library, spilled);
	MATCH(&library);
	assert_int_equal(library.sites.unresolved, 0);
	site = site_at(&library, AT(&library, spilled, site), 0);
	assert_non_null(site);
	assert_int_equal(site->value, VALUE_MEMORY);
	assert_int_equal(site->reg, CODE_RSP);
	assert_int_equal(site->displacement, 8);
}

LIBRARY(framed, "framed_malloc: push rbp\n"
		"mov rbp, rsp\n"
		"call " OUTSIDE "\n"
		"test rax, rax\n"
		"framed_site: jns 1f\n"
		"ud2\n"
		"1: leave\n"
		"ret\n");
PLACE(framed, site);

static void behind_a_frame_pointer_the_return_address_is_not_known(void **state)
{
	LIBRARY_OF library;

	(void)state;
	OPEN(&library, framed);
	MATCH(&library);
	assert_int_equal(count_returns(&library), 1);
	assert_int_equal(site_at(&library, AT(&library, framed, site), 0)->return_slot, 0);
}

/* --- arms ---------------------------------------------------------------------------------- */

LIBRARY(both, "both_malloc: push rbp\n"
	      "call " OUTSIDE "\n"
	      "mov rbp, rax\n"
	      "sub dword ptr [rbx], 1\n"
	      "both_site: jg 2f\n"
	      "1: mov rax, rbp\n"
	      "pop rbp\n"
	      "ret\n"
	      "2: call " OUTSIDE "\n"
	      "jmp 1b\n");
PLACE(both, site);

static void two_arms_with_the_same_block_are_one_site(void **state)
{
	LIBRARY_OF library;

	(void)state;
	OPEN(&library, both);
	MATCH(&library);
	assert_only(&library, AT(&library, both, site), CODE_RBP, WIRE_CONDITION_ALWAYS);
}

LIBRARY(apart, "apart_malloc: mov rdx, [rsi]\n"
	       "cmp rdx, rcx\n"
	       "apart_site: jb 1f\n"
	       "mov rax, rdx\n"
	       "ret\n"
	       "1: mov rax, rcx\n"
	       "ret\n");
PLACE(apart, site);

static void two_arms_with_different_blocks_are_two_sites(void **state)
{
	LIBRARY_OF library;
	const struct plan_site *fallen, *taken;

	(void)state;
	OPEN(&library, apart);
	MATCH(&library);
	assert_int_equal(count_returns(&library), 2);
	fallen = site_at(&library, AT(&library, apart, site), 0);
	taken = site_at(&library, AT(&library, apart, site), 1);
	assert_register(fallen, CODE_RDX, 0);
	assert_register(taken, CODE_RCX, 0);
	assert_int_equal(fallen->condition, 3); /* not below */
	assert_int_equal(taken->condition, 2);	/* below */
}

LIBRARY(nothing, "nothing_malloc: push rbx\n"
		 "call " OUTSIDE "\n"
		 "test rax, rax\n"
		 "nothing_site: jne 1f\n"
		 "mov dword ptr [rbp], 12\n"
		 "xor eax, eax\n"
		 "1: pop rbx\n"
		 "ret\n");
PLACE(nothing, site);

static void an_arm_that_returns_nothing_is_none(void **state)
{
	LIBRARY_OF library;

	(void)state;
	OPEN(&library, nothing);
	MATCH(&library);
	assert_only(&library, AT(&library, nothing, site), CODE_RAX, CONDITION_NOT_EQUAL);
}

/* --- late jumps ---------------------------------------------------------------------------- */

LIBRARY(late, "late_malloc: push rbx\n"
	      "cmp qword ptr [rcx+rdx*8], 0\n"
	      "je 2f\n"
	      "mov r8, [rcx+rdx*8]\n"
	      "mov r9, [r8]\n"
	      "mov [rcx+rdx*8], r9\n"
	      "late_site: jmp 1f\n"
	      "2: ud2\n"
	      "1: pop rbx\n"
	      "mov rax, r8\n"
	      "ret\n");
PLACE(late, site);

static void a_block_loaded_behind_the_last_condition_is_named_by_a_direct_jump(void **state)
{
	LIBRARY_OF library;

	(void)state;
	OPEN(&library, late);
	MATCH(&library);
	assert_only(&library, AT(&library, late, site), CODE_R8, WIRE_CONDITION_ALWAYS);
}

/* An arm that could be named goes through the late jump of another that can't. */
LIBRARY(late_shared, "late_shared_malloc: test rdi, rdi\n"
		     "je 3f\n"
		     "test rsi, rsi\n"
		     "je 2f\n"
		     "mov r8, [rcx+rdx*8]\n"
		     "jmp 4f\n"
		     "2: ud2\n"
		     "3: mov r8, r9\n"
		     "4: nop\n"
		     "late_shared_site: jmp 1f\n"
		     "ud2\n"
		     "1: mov rax, r8\n"
		     "ret\n");
PLACE(late_shared, site);

static void lines_that_meet_before_a_late_jump_have_that_one_site(void **state)
{
	LIBRARY_OF library;

	(void)state;
	OPEN(&library, late_shared);
	MATCH(&library);
	assert_only(&library, AT(&library, late_shared, site), CODE_R8, WIRE_CONDITION_ALWAYS);
}

LIBRARY(counted, "counted_malloc: jrcxz 2f\n"
		 "mov rax, rbx\n"
		 "counted_site: jmp 1f\n"
		 "2: ud2\n"
		 "1: ret\n");
PLACE(counted, site);

static void an_arm_of_a_jump_that_is_not_emulated_takes_a_late_one(void **state)
{
	LIBRARY_OF library;

	(void)state;
	OPEN(&library, counted);
	MATCH(&library);
	assert_only(&library, AT(&library, counted, site), CODE_RAX, WIRE_CONDITION_ALWAYS);
}

/* --- what can't be named ------------------------------------------------------------------- */

LIBRARY(cmov, "cmov_malloc: call " OUTSIDE "\n"
	      "lea rdx, [rax+0x10]\n"
	      "test byte ptr [rip], 1\n"
	      "jne 1f\n"
	      "cmp rax, rbx\n"
	      "cmove rdx, rcx\n"
	      "mov rax, rdx\n"
	      "ret\n"
	      "1: ud2\n");

static void a_conditional_move_before_the_return_is_unresolved(void **state)
{
	LIBRARY_OF library;

	(void)state;
	OPEN(&library, cmov);
	MATCH(&library);
	assert_unresolved(&library);
}

/* posix_memalign(&p, ...) inside: the slot is what the callee makes it. */
LIBRARY(escaped, "escaped_malloc: sub rsp, 0x18\n"
		 "test rdi, rdi\n"
		 "je 1f\n"
		 "lea rdi, [rsp+8]\n"
		 "call " OUTSIDE "\n"
		 "mov rax, [rsp+8]\n"
		 "add rsp, 0x18\n"
		 "ret\n"
		 "1: ud2\n");

static void a_slot_whose_address_a_callee_was_given_is_unresolved(void **state)
{
	LIBRARY_OF library;

	(void)state;
	OPEN(&library, escaped);
	MATCH(&library);
	assert_unresolved(&library);
}

LIBRARY(reloaded, "reloaded_malloc: push rbx\n"
		  "test rdi, rdi\n"
		  "je 1f\n"
		  "call " OUTSIDE "\n"
		  "mov rax, [rbx]\n"
		  "pop rbx\n"
		  "ret\n"
		  "1: ud2\n");

static void memory_read_behind_a_call_is_unresolved(void **state)
{
	LIBRARY_OF library;

	(void)state;
	OPEN(&library, reloaded);
	MATCH(&library);
	assert_unresolved(&library);
}

LIBRARY(overwritten, "overwritten_malloc: test rdi, rdi\n"
		     "je 1f\n"
		     "mov [rcx], rdx\n"
		     "mov rax, [rbx]\n"
		     "ret\n"
		     "1: ud2\n");

static void memory_read_behind_a_store_to_elsewhere_is_unresolved(void **state)
{
	LIBRARY_OF library;

	(void)state;
	OPEN(&library, overwritten);
	MATCH(&library);
	assert_unresolved(&library);
}

LIBRARY(unmoved, "unmoved_malloc: test rdi, rdi\n"
		 "unmoved_site: je 1f\n"
		 "mov rax, [rbx+8]\n"
		 "ret\n"
		 "1: ud2\n");
PLACE(unmoved, site);

static void memory_that_nothing_changed_is_a_name(void **state)
{
	LIBRARY_OF library;
	const struct plan_site *site;

	(void)state;
	OPEN(&library, unmoved);
	MATCH(&library);
	site = site_at(&library, AT(&library, unmoved, site), 0);
	assert_non_null(site);
	assert_int_equal(site->value, VALUE_MEMORY);
	assert_int_equal(site->reg, CODE_RBX);
	assert_int_equal(site->displacement, 8);
}

LIBRARY(straight, "straight_malloc: sub rsp, 8\n"
		  "call " OUTSIDE "\n"
		  "add rsp, 8\n"
		  "ret\n");

static void a_function_without_a_condition_is_unresolved(void **state)
{
	LIBRARY_OF library;

	(void)state;
	OPEN(&library, straight);
	MATCH(&library);
	assert_unresolved(&library);
}

LIBRARY(long_line, "long_line_malloc: test rax, rax\n"
		   "js 1f\n"
		   ".rept 200\n"
		   "add ecx, edx\n"
		   ".endr\n"
		   "ret\n"
		   "1: ud2\n");

static void a_line_that_is_too_long_is_unresolved(void **state)
{
	LIBRARY_OF library;

	(void)state;
	OPEN(&library, long_line);
	MATCH(&library);
	/* From the entry it ends at the jump: only the arm counts. */
	assert_unresolved(&library);
}

LIBRARY(local, "local_malloc: test rdi, rdi\n"
	       "je 1f\n"
	       "lea rax, [rsp-0x20]\n"
	       "ret\n"
	       "1: ud2\n");

static void an_address_of_the_stack_is_no_block(void **state)
{
	LIBRARY_OF library;

	(void)state;
	OPEN(&library, local);
	MATCH(&library);
	assert_unresolved(&library);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_arm_that_runs_to_the_return_is_the_site),
		cmocka_unit_test(a_callee_saved_register_carries_the_block_over_a_call),
		cmocka_unit_test(a_block_lies_two_words_above_its_chunk),
		cmocka_unit_test(a_block_in_a_slot_of_the_frame_is_read_from_there),
		cmocka_unit_test(behind_a_frame_pointer_the_return_address_is_not_known),
		cmocka_unit_test(two_arms_with_the_same_block_are_one_site),
		cmocka_unit_test(two_arms_with_different_blocks_are_two_sites),
		cmocka_unit_test(an_arm_that_returns_nothing_is_none),
		cmocka_unit_test(
			a_block_loaded_behind_the_last_condition_is_named_by_a_direct_jump),
		cmocka_unit_test(lines_that_meet_before_a_late_jump_have_that_one_site),
		cmocka_unit_test(an_arm_of_a_jump_that_is_not_emulated_takes_a_late_one),
		cmocka_unit_test(a_conditional_move_before_the_return_is_unresolved),
		cmocka_unit_test(a_slot_whose_address_a_callee_was_given_is_unresolved),
		cmocka_unit_test(memory_read_behind_a_call_is_unresolved),
		cmocka_unit_test(memory_read_behind_a_store_to_elsewhere_is_unresolved),
		cmocka_unit_test(memory_that_nothing_changed_is_a_name),
		cmocka_unit_test(a_function_without_a_condition_is_unresolved),
		cmocka_unit_test(a_line_that_is_too_long_is_unresolved),
		cmocka_unit_test(an_address_of_the_stack_is_no_block),
	};

	return cmocka_run_group_tests_name("native", tests, NULL, NULL);
}
