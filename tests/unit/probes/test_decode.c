/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "idioms.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

IDIOM(mixed, "push rbp\n"
	     "mov rbp, rsp\n"
	     "mov rax, [rdi+8]\n"
	     "test rax, rax\n"
	     "je 1f\n"
	     "call 2f\n"
	     "1: ret\n"
	     "2: jmp 1b");

static void every_instruction_has_an_index_and_an_address(void **state)
{
	CLEANUP(code_free) struct code *code = DECODE(mixed);
	uint64_t vaddr = IDIOM_VADDR;

	(void)state;
	assert_int_equal(code_count(code), 8);
	for (size_t i = 0; i < code_count(code); i++) {
		const struct code_instruction *at = code_at(code, i);

		assert_int_equal(code_vaddr(code, i), vaddr);
		assert_int_equal(code_index(code, vaddr), i);
		assert_int_equal(code_index_from(code, vaddr), i);
		assert_memory_equal(code_instruction_bytes(code, i),
				    mixed_begin + (vaddr - IDIOM_VADDR), at->length);
		for (unsigned byte = 1; byte < at->length; byte++) {
			assert_int_equal(code_index(code, vaddr + byte), CODE_NONE);
			assert_int_equal(code_index_from(code, vaddr + byte), i + 1);
		}
		vaddr += at->length;
	}
	assert_int_equal(vaddr, IDIOM_VADDR + (uint64_t)(mixed_end - mixed_begin));
	assert_int_equal(code_index(code, vaddr), CODE_NONE);
	assert_int_equal(code_index(code, IDIOM_VADDR - 1), CODE_NONE);
	assert_int_equal(code_index_from(code, 0), 0);
	assert_int_equal(code_index_from(code, UINT64_MAX), code_count(code));
}

static void branches_know_where_they_lead(void **state)
{
	CLEANUP(code_free) struct code *code = DECODE(mixed);

	(void)state;
	assert_int_equal(code_at(code, 4)->flow, FLOW_CONDITIONAL);
	assert_int_equal(code_at(code, 4)->condition, CONDITION_EQUAL);
	assert_int_equal(code_target(code, 4), 6);
	assert_int_equal(code_at(code, 5)->flow, FLOW_CALL);
	assert_int_equal(code_target(code, 5), 7);
	assert_int_equal(code_branch_address(code, 5), code_vaddr(code, 7));
	assert_int_equal(code_at(code, 6)->flow, FLOW_STOP);
	assert_int_equal(code_target(code, 6), CODE_NONE);
	assert_int_equal(code_at(code, 7)->flow, FLOW_JUMP);
	assert_int_equal(code_target(code, 7), 6);
	assert_int_equal(code_target(code, 2), CODE_NONE);
	assert_int_equal(code_branch_address(code, 2), 0);
}

static int note_branch(size_t branch, void *context)
{
	unsigned *seen = context;

	*seen |= 1U << branch;
	return 0;
}

static int stop_at_once(size_t branch, void *context)
{
	(void)branch;
	++*(unsigned *)context;
	return 7;
}

static void an_instruction_knows_who_branches_to_it(void **state)
{
	CLEANUP(code_free) struct code *code = DECODE(mixed);
	unsigned seen = 0, visits = 0;

	(void)state;
	assert_int_equal(code_branches_to_visit(code, 6, note_branch, &seen), 0);
	assert_int_equal(seen, 1U << 4 | 1U << 7);
	seen = 0;
	assert_int_equal(code_branches_to_visit(code, 0, note_branch, &seen), 0);
	assert_int_equal(seen, 0);
	assert_int_equal(code_branches_to_visit(code, 6, stop_at_once, &visits), 7);
	assert_int_equal(visits, 1);
}

static void what_does_not_decode_is_counted_and_nothing_falls_through_it(void **state)
{
	static const uint8_t bytes[] = {0x90, 0x06, 0x06, 0x90, 0xc3}; /* 06: push es */
	const struct code_bytes range = {IDIOM_VADDR, bytes, sizeof(bytes)};
	CLEANUP(code_free) struct code *code = NULL;

	(void)state;
	assert_int_equal(code_new_from_bytes(&range, 1, &code), 0);
	assert_int_equal(code_undecodable(code), 2);
	assert_int_equal(code_count(code), 3);
	assert_int_equal(code_next(code, 0), CODE_NONE);
	assert_int_equal(code_previous(code, 1), CODE_NONE);
	assert_int_equal(code_next(code, 1), 2);
	assert_int_equal(code_previous(code, 2), 1);
	assert_int_equal(code_next(code, 2), CODE_NONE);
	assert_int_equal(code_previous(code, 0), CODE_NONE);
}

static void an_instruction_that_the_end_cuts_off_is_none(void **state)
{
	static const uint8_t bytes[] = {0x90, 0xe8, 0x00, 0x00};
	const struct code_bytes range = {IDIOM_VADDR, bytes, sizeof(bytes)};
	CLEANUP(code_free) struct code *code = NULL;

	(void)state;
	assert_int_equal(code_new_from_bytes(&range, 1, &code), 0);
	assert_int_equal(code_at(code, 0)->length, 1);
	assert_true(code_undecodable(code) > 0);
	for (size_t i = 0; i < code_count(code); i++)
		assert_true(code_vaddr(code, i) + code_at(code, i)->length <=
			    IDIOM_VADDR + sizeof(bytes));
}

static void branches_reach_from_range_to_range_and_no_further(void **state)
{
	static const uint8_t low[] = {0xe9, 0xfb, 0x0f, 0x00, 0x00, /* jmp 0x2000 */
				      0xe9, 0xf7, 0x0f, 0x00, 0x00, /* jmp 0x2001 */
				      0xe9, 0xf1, 0xdf, 0xff, 0xff /* jmp -0x1000 */};
	static const uint8_t high[] = {0x66, 0x90, 0xe9, 0xf9, 0xef, 0xff, 0xff /* jmp 0x1000 */};
	const struct code_bytes ranges[] = {
		{0x1000, low, sizeof(low)},
		{0x2000, high, sizeof(high)},
	};
	CLEANUP(code_free) struct code *code = NULL;

	(void)state;
	assert_int_equal(code_new_from_bytes(ranges, 2, &code), 0);
	assert_int_equal(code_count(code), 5);
	assert_int_equal(code_target(code, 0), 3);
	assert_int_equal(code_target(code, 1), CODE_NONE); /* into an instruction */
	assert_int_equal(code_target(code, 2), CODE_NONE); /* below everything */
	assert_int_equal(code_branch_address(code, 2), (uint64_t)-0x1000);
	assert_int_equal(code_target(code, 4), 0);
	assert_int_equal(code_next(code, 2), CODE_NONE);
	assert_int_equal(code_index_from(code, 0x1800), 3);
}

static void ranges_that_overlap_or_are_empty_are_refused(void **state)
{
	static const uint8_t nops[16] = {0x90};
	const struct code_bytes overlapping[] = {{0x1000, nops, 16}, {0x1008, nops, 16}};
	const struct code_bytes far[] = {{0x1000, nops, 16}, {0x1000000000, nops, 16}};
	const struct code_bytes empty = {0x1000, nops, 0};
	struct code *code = NULL;

	(void)state;
	assert_int_equal(code_new_from_bytes(overlapping, 2, &code), -EINVAL);
	assert_int_equal(code_new_from_bytes(far, 2, &code), -E2BIG);
	assert_int_equal(code_new_from_bytes(&empty, 1, &code), -ENOENT);
	assert_int_equal(code_new_from_bytes(NULL, 0, &code), -ENOENT);
	assert_null(code);
}

IDIOM(operands, "mov [rbx+rcx*4-16], eax\n"
		"mov rax, qword ptr [rip+0x100]\n"
		"mov rax, qword ptr fs:[0x28]\n"
		"cqo\n"
		"div rcx\n"
		"xchg [rdi], eax\n"
		"mov ah, 3\n"
		"movups [rax], xmm0\n"
		"rep stosq\n"
		"lea ecx, [rax-1]");

static void operands_say_what_they_are(void **state)
{
	CLEANUP(code_free) struct code *code = DECODE(operands);
	const struct code_operation *operation;
	uint64_t rip;

	(void)state;
	operation = code_operation(code, 0);
	assert_int_equal(operation->n_operands, 2);
	assert_int_equal(operation->operands[0].kind, OPERAND_MEMORY);
	assert_int_equal(operation->operands[0].base, CODE_RBX);
	assert_int_equal(operation->operands[0].index, CODE_RCX);
	assert_int_equal(operation->operands[0].scale, 4);
	assert_int_equal(operation->operands[0].value, -16);
	assert_int_equal(operation->operands[0].size_bytes, 4);
	assert_int_equal(operation->operands[1].reg, CODE_RAX);
	assert_int_equal(operation->operands[1].size_bytes, 4);
	assert_true(operation->writes_memory);
	assert_int_equal(operation->registers_written, 0);

	rip = code_vaddr(code, 2) + 0x100;
	operation = code_operation(code, 1);
	assert_int_equal(operation->operands[1].base, CODE_REGISTER_NONE);
	assert_int_equal(operation->operands[1].value, rip);
	assert_true(code_at(code, 1)->hints & HINT_REFERENCE);
	assert_int_equal(code_reference(code, 1), rip);

	operation = code_operation(code, 2);
	assert_true(operation->operands[1].segment);
	assert_false(operation->operands[1].segment_gs);
}

static void implicit_effects_are_known(void **state)
{
	CLEANUP(code_free) struct code *code = DECODE(operands);
	const struct code_operation *operation;

	(void)state;
	assert_int_equal(code_operation(code, 3)->registers_written, 1U << CODE_RDX);
	operation = code_operation(code, 4);
	assert_int_equal(operation->registers_written, 1U << CODE_RAX | 1U << CODE_RDX);
	assert_true(operation->writes_zero_flag);
	operation = code_operation(code, 5);
	assert_true(operation->writes_memory);
	assert_int_equal(operation->registers_written, 1U << CODE_RAX);
	operation = code_operation(code, 6);
	assert_int_equal(operation->operands[0].size_bytes, 1);
	assert_int_equal(operation->registers_written, 1U << CODE_RAX);
	assert_int_equal(code_operation(code, 7)->operands[0].size_bytes, 16);
	operation = code_operation(code, 8);
	assert_int_equal(operation->registers_written, 1U << CODE_RCX | 1U << CODE_RDI);
	assert_false(code_operation(code, 9)->writes_zero_flag);
}

IDIOM(hints, "mov rax, [r12+8]\n"
	     "mov rax, [rsp+8]\n"
	     "mov eax, [rdi+8]\n"
	     "mov [rdi+8], rax\n"
	     "inc dword ptr [r13+0]\n"
	     "mov dword ptr [rdi+0x24], 0xffff\n"
	     "mov dword ptr [rdi+0x24], ebp\n"
	     "mov rax, [rdi+rsi+8]");

static void the_sweep_notices_what_the_matchers_look_for(void **state)
{
	static const uint8_t expected[] = {
		HINT_LOAD_8, 0, 0, HINT_STORE_8, HINT_WRITE_0, 0, HINT_STORE_24, 0,
	};
	CLEANUP(code_free) struct code *code = DECODE(hints);

	(void)state;
	assert_int_equal(code_count(code), 8);
	for (size_t i = 0; i < 8; i++)
		assert_int_equal(code_at(code, i)->hints & ~HINT_REFERENCE, expected[i]);
}

IDIOM(emulated, "push rbx\n"
		"push r15\n"
		"nop\n"
		"jmp 1f\n"
		".byte 0xe9, 0, 0, 0, 0\n"
		"je 1f\n"
		".byte 0x0f, 0x85, 0, 0, 0, 0\n"
		"1: .byte 0xe8, 0, 0, 0, 0\n");
IDIOM(stepped, "mov rax, rbx\n"
	       "ret\n"
	       "pop rbx\n"
	       "push qword ptr [rax]\n"
	       "push 5\n"
	       "lea rax, [rbx]\n"
	       "call rax\n"
	       "jmp rax\n"
	       "endbr64\n"
	       "xchg r8, rax\n"			/* 49 90: not a nop */
	       ".byte 0x66, 0x90\n"		/* 66 nop */
	       ".byte 0x0f, 0x1f, 0x44, 0, 0\n" /* the five-byte nop */
	       ".byte 0x2e, 0x74, 0\n"		/* cs jcc */
	       ".byte 0x3e, 0x75, 0\n"		/* ds jcc */
	       ".byte 0x66, 0x53\n"		/* push bx */
	       ".byte 0xf2, 0xe9, 0, 0, 0, 0\n" /* bnd jmp */
	       "jrcxz 1f\n"
	       "1: nop");

static void what_the_kernel_emulates_is_known(void **state)
{
	CLEANUP(code_free) struct code *code = DECODE(emulated);
	CLEANUP(code_free) struct code *others = DECODE(stepped);

	(void)state;
	assert_int_equal(code_count(code), 8);
	for (size_t i = 0; i < code_count(code); i++)
		assert_true(code_is_emulated(code, i));
	assert_int_equal(code_count(others), 18);
	for (size_t i = 0; i + 1 < code_count(others); i++)
		assert_false(code_is_emulated(others, i));
}

/* Bytes without any sense must neither crash nor leave the ranges. */
static void noise_is_survived(void **state)
{
	uint8_t bytes[4096];
	uint64_t random = 0x9e3779b97f4a7c15;

	(void)state;
	for (unsigned round = 0; round < 50; round++) {
		const struct code_bytes range = {IDIOM_VADDR, bytes, sizeof(bytes)};
		__attribute__((cleanup(matches_done))) struct matches matches = {0};
		CLEANUP(code_free) struct code *code = NULL;
		uint32_t unresolved = 0;

		for (size_t i = 0; i < sizeof(bytes); i++) {
			random ^= random << 13;
			random ^= random >> 7;
			random ^= random << 17;
			bytes[i] = (uint8_t)random;
		}
		assert_int_equal(code_new_from_bytes(&range, 1, &code), 0);
		for (size_t i = 0; i < code_count(code); i++) {
			assert_non_null(code_operation(code, i));
			assert_true(code_target(code, i) == CODE_NONE ||
				    code_target(code, i) < code_count(code));
		}
		assert_int_equal(match_pymalloc(code, &matches), 0);
		assert_int_equal(match_fresh_pools(code, &matches, &unresolved), 0);
		assert_int_equal(matches.n, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_instruction_has_an_index_and_an_address),
		cmocka_unit_test(branches_know_where_they_lead),
		cmocka_unit_test(an_instruction_knows_who_branches_to_it),
		cmocka_unit_test(what_does_not_decode_is_counted_and_nothing_falls_through_it),
		cmocka_unit_test(an_instruction_that_the_end_cuts_off_is_none),
		cmocka_unit_test(branches_reach_from_range_to_range_and_no_further),
		cmocka_unit_test(ranges_that_overlap_or_are_empty_are_refused),
		cmocka_unit_test(operands_say_what_they_are),
		cmocka_unit_test(implicit_effects_are_known),
		cmocka_unit_test(the_sweep_notices_what_the_matchers_look_for),
		cmocka_unit_test(what_the_kernel_emulates_is_known),
		cmocka_unit_test(noise_is_survived),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
