/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* The tracing check of _Py_NewReference and _Py_Dealloc as compilers write it. */
#include "idioms.h"

#include "probes/tracing_flag.h"

#define MATCHES __attribute__((cleanup(matches_done))) struct matches

#define FLAG 0x700044 /* where the idioms take the flag to be */
#define RUNTIME 0x700000
#define FAR_FLAG 0x702848 /* in the runtime, at a displacement that occurs nowhere else */

static const struct tracing_flag tracing = {.vaddr = FLAG, .size_bytes = 4};
static const struct tracing_flag tracer = {
	.vaddr = FAR_FLAG,
	.size_bytes = 8,
	.anchor = RUNTIME,
	.displacement = FAR_FLAG - RUNTIME,
};

static const struct match *match_one(struct code *code, const struct tracing_flag *flag,
				     struct matches *matches, size_t index, unsigned kind)
{
	assert_int_equal(match_creations_of(code, flag, true, matches), 0);
	assert_int_equal(matches->n, 1);
	return matches_find(matches, index, kind);
}

#define EXPECT_ONE(name_, flag, kind_)                                                             \
	CLEANUP(code_free) struct code *code = DECODE(name_);                                      \
	MATCHES matches = {0};                                                                     \
	const struct match *match =                                                                \
		match_one(code, flag, &matches, INDEX_OF(code, name_, site), kind_);               \
                                                                                                   \
	assert_non_null(match);                                                                    \
	assert_true(match->named)

#define EXPECT_NAME(reg_, memory_, displacement_)                                                  \
	assert_int_equal(match->name.reg, reg_);                                                   \
	assert_int_equal(match->name.memory, memory_);                                             \
	assert_int_equal(match->name.displacement, displacement_)

#define EXPECT_NONE(name_, flag)                                                                   \
	CLEANUP(code_free) struct code *code = DECODE(name_);                                      \
	MATCHES matches = {0};                                                                     \
                                                                                                   \
	assert_int_equal(match_creations_of(code, flag, true, &matches), 0);                       \
	assert_int_equal(matches.n, 0)

/* --- up to 3.12: check, tracer called, count set to 1 ---------------------------------------- */

IDIOM_SITE(old_both, "mov rbx, rax\n"
		     "cmp dword ptr ds:[0x700044], 0\n"
		     "old_both_site: jne 1f\n"
		     "2: mov qword ptr [rbx], 1\n"
		     "ret\n"
		     "1: mov rdi, rbx\n"
		     "call 3f\n"
		     "jmp 2b\n"
		     "3: ret");

static void a_creation_is_the_object_whose_count_becomes_one(void **state)
{
	(void)state;
	EXPECT_ONE(old_both, &tracing, SITE_CREATE);
	EXPECT_NAME(CODE_RBX, false, 0);
}

IDIOM_SITE(old_load, "mov eax, dword ptr ds:[0x700044]\n"
		     "mov r12, rdx\n"
		     "test eax, eax\n"
		     "old_load_site: je 2f\n"
		     "mov rdi, r12\n"
		     "call 3f\n"
		     "2: mov qword ptr [r12], 1\n"
		     "3: ret");

static void the_flag_may_be_loaded_first_and_the_jump_have_the_other_sense(void **state)
{
	(void)state;
	EXPECT_ONE(old_load, &tracing, SITE_CREATE);
	EXPECT_NAME(12, false, 0);
}

IDIOM_SITE(old_displaced, "cmp dword ptr ds:[0x700044], 0\n"
			  "old_displaced_site: jne 1f\n"
			  "2: mov qword ptr [rbp+16], 1\n"
			  "ret\n"
			  "1: lea rdi, [rbp+16]\n"
			  "call 3f\n"
			  "jmp 2b\n"
			  "3: ret");

static void the_object_may_lie_behind_its_header(void **state)
{
	(void)state;
	EXPECT_ONE(old_displaced, &tracing, SITE_CREATE);
	EXPECT_NAME(CODE_RBP, false, 16);
}

/* Where profile-guided optimisation inlined the tracer, only the count's store tells. */
IDIOM_SITE(old_after, "cmp dword ptr ds:[0x700044], 0\n"
		      "old_after_site: jne 1f\n"
		      "2: mov qword ptr [rbx], 1\n"
		      "ret\n"
		      "1: mov edi, 5\n"
		      "call 3f\n"
		      "jmp 2b\n"
		      "3: ret");

static void the_count_alone_is_enough(void **state)
{
	(void)state;
	EXPECT_ONE(old_after, &tracing, SITE_CREATE);
	EXPECT_NAME(CODE_RBX, false, 0);
}

/* A 1 before the test is an ob_size there. */
IDIOM_SITE(old_size, "mov qword ptr [rax+16], 1\n"
		     "cmp dword ptr ds:[0x700044], 0\n"
		     "old_size_site: jne 1f\n"
		     "2: mov qword ptr [rax], 1\n"
		     "ret\n"
		     "1: mov rdi, rax\n"
		     "mov rbx, rax\n"
		     "call 3f\n"
		     "mov rax, rbx\n"
		     "jmp 2b\n"
		     "3: ret");

static void a_one_before_the_check_is_a_size(void **state)
{
	(void)state;
	EXPECT_ONE(old_size, &tracing, SITE_CREATE);
	EXPECT_NAME(CODE_RAX, false, 0);
}

/* tracemalloc tests its flag itself, before it takes a lock. */
IDIOM(old_tracemalloc, "cmp dword ptr ds:[0x700044], 0\n"
		       "jne 1f\n"
		       "mov eax, -2\n"
		       "ret\n"
		       "1: mov rdi, rbx\n"
		       "call 3f\n"
		       "3: ret");

static void tracemallocs_own_tests_are_no_creations(void **state)
{
	(void)state;
	EXPECT_NONE(old_tracemalloc, &tracing);
}

IDIOM(old_other, "cmp dword ptr ds:[0x700048], 0\n"
		 "jne 1f\n"
		 "2: mov qword ptr [rbx], 1\n"
		 "ret\n"
		 "1: mov rdi, rbx\n"
		 "call 3f\n"
		 "jmp 2b\n"
		 "3: ret");

static void another_flag_is_no_creation(void **state)
{
	(void)state;
	EXPECT_NONE(old_other, &tracing);
}

/* --- from 3.13: count set to 1, check, tracer called with what happened ---------------------- */

IDIOM_SITE(new_both, "mov rax, qword ptr ds:[0x702848]\n"
		     "mov qword ptr [rbx], 1\n"
		     "test rax, rax\n"
		     "new_both_site: jne 1f\n"
		     "ret\n"
		     "1: xor esi, esi\n"
		     "mov rdi, rbx\n"
		     "call rax\n"
		     "ret");

static void a_tracer_is_told_of_creations_by_a_zero(void **state)
{
	(void)state;
	EXPECT_ONE(new_both, &tracer, SITE_CREATE);
	EXPECT_NAME(CODE_RBX, false, 0);
}

IDIOM_SITE(new_destroy, "mov rax, qword ptr ds:[0x702848]\n"
			"mov rbp, [rdi+8]\n"
			"mov rbx, rdi\n"
			"test rax, rax\n"
			"new_destroy_site: jne 1f\n"
			"ret\n"
			"1: mov esi, 1\n"
			"mov rdi, rbx\n"
			"call rax\n"
			"ret");

static void a_tracer_is_told_of_destructions_by_a_one(void **state)
{
	(void)state;
	EXPECT_ONE(new_destroy, &tracer, SITE_DESTROY);
	EXPECT_NAME(CODE_RBX, false, 0);
}

static void destructions_are_left_out_unless_they_are_asked_for(void **state)
{
	CLEANUP(code_free) struct code *code = DECODE(new_destroy);
	MATCHES matches = {0};

	(void)state;
	assert_int_equal(match_creations_of(code, &tracer, false, &matches), 0);
	assert_int_equal(matches.n, 0);
}

/* Two sites of Debian's 3.13: the flag's load takes the object's register. */
IDIOM_SITE(new_spilled, "mov [rsp], rax\n"
			"mov qword ptr [rax], 1\n"
			"mov rax, qword ptr ds:[0x702848]\n"
			"test rax, rax\n"
			"new_spilled_site: jne 1f\n"
			"ret\n"
			"1: mov rdi, [rsp]\n"
			"xor esi, esi\n"
			"call rax\n"
			"ret");

static void an_object_whose_register_went_to_the_flag_is_in_its_slot(void **state)
{
	(void)state;
	EXPECT_ONE(new_spilled, &tracer, SITE_CREATE);
	EXPECT_NAME(CODE_RSP, true, 0);
}

IDIOM_SITE(new_kept, "mov [rbp-0x60], rdx\n"
		     "mov qword ptr [rdx], 1\n"
		     "mov rax, qword ptr ds:[0x702848]\n"
		     "test rax, rax\n"
		     "new_kept_site: jne 1f\n"
		     "ret\n"
		     "1: mov rdi, [rbp-0x60]\n"
		     "xor esi, esi\n"
		     "call rax\n"
		     "ret");

static void a_register_is_preferred_to_a_slot(void **state)
{
	(void)state;
	EXPECT_ONE(new_kept, &tracer, SITE_CREATE);
	EXPECT_NAME(CODE_RDX, false, 0);
}

/* Profile-guided optimisation compares the tracer with the one it knows, and inlines that. */
IDIOM_SITE(new_devirtualised, "mov rax, qword ptr ds:[0x702848]\n"
			      "mov qword ptr [r12], 1\n"
			      "test rax, rax\n"
			      "new_devirtualised_site: je 9f\n"
			      "cmp rax, 0x66af00\n"
			      "jne 1f\n"
			      "mov ecx, 7\n"
			      "ret\n"
			      "1: xor esi, esi\n"
			      "mov rdi, r12\n"
			      "call rax\n"
			      "9: ret");

static void the_call_may_come_behind_another_jump(void **state)
{
	(void)state;
	EXPECT_ONE(new_devirtualised, &tracer, SITE_CREATE);
	EXPECT_NAME(12, false, 0);
}

IDIOM_SITE(new_tail, "mov rax, qword ptr ds:[0x702848]\n"
		     "mov qword ptr [rdi], 1\n"
		     "test rax, rax\n"
		     "new_tail_site: je 9f\n"
		     "xor esi, esi\n"
		     "jmp rax\n"
		     "9: ret");

static void the_call_may_be_a_tail_call(void **state)
{
	(void)state;
	EXPECT_ONE(new_tail, &tracer, SITE_CREATE);
	EXPECT_NAME(CODE_RDI, false, 0);
}

/* The runtime's address was hoisted out of sight: the displacement has to do. */
IDIOM_SITE(new_hoisted, "mov rax, [r15+0x2848]\n"
			"mov qword ptr [rbx], 1\n"
			"test rax, rax\n"
			"new_hoisted_site: jne 1f\n"
			"ret\n"
			"1: xor esi, esi\n"
			"mov rdi, rbx\n"
			"call rax\n"
			"ret");

static void the_runtimes_address_may_have_been_taken_long_before(void **state)
{
	(void)state;
	EXPECT_ONE(new_hoisted, &tracer, SITE_CREATE);
	EXPECT_NAME(CODE_RBX, false, 0);
}

/* A list's ob_size of 1 right behind its count. */
IDIOM_SITE(new_size, "mov rcx, qword ptr ds:[0x702848]\n"
		     "mov qword ptr [rax], 1\n"
		     "mov qword ptr [rax+16], 1\n"
		     "test rcx, rcx\n"
		     "new_size_site: jne 1f\n"
		     "ret\n"
		     "1: mov rdi, [r13+0x40]\n"
		     "call 2f\n"
		     "2: ret");

static void of_two_ones_the_first_is_the_count(void **state)
{
	(void)state;
	EXPECT_ONE(new_size, &tracer, SITE_CREATE);
	EXPECT_NAME(CODE_RAX, false, 0);
}

/* Deallocating a static object is a fatal error, and takes no register. */
IDIOM(new_static, "mov rax, qword ptr ds:[0x702848]\n"
		  "test rax, rax\n"
		  "je 9f\n"
		  "mov esi, 1\n"
		  "mov edi, 0x9f5840\n"
		  "call rax\n"
		  "9: ret");

static void static_objects_do_not_die(void **state)
{
	(void)state;
	EXPECT_NONE(new_static, &tracer);
}

/* PyRefTracer_GetTracer and its kind. */
IDIOM(new_other, "mov rax, qword ptr ds:[0x702848]\n"
		 "test rax, rax\n"
		 "je 9f\n"
		 "mov rdi, rbx\n"
		 "call rax\n"
		 "9: ret");

static void a_check_without_witnesses_is_no_creation(void **state)
{
	(void)state;
	EXPECT_NONE(new_other, &tracer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_creation_is_the_object_whose_count_becomes_one),
		cmocka_unit_test(the_flag_may_be_loaded_first_and_the_jump_have_the_other_sense),
		cmocka_unit_test(the_object_may_lie_behind_its_header),
		cmocka_unit_test(the_count_alone_is_enough),
		cmocka_unit_test(a_one_before_the_check_is_a_size),
		cmocka_unit_test(tracemallocs_own_tests_are_no_creations),
		cmocka_unit_test(another_flag_is_no_creation),
		cmocka_unit_test(a_tracer_is_told_of_creations_by_a_zero),
		cmocka_unit_test(a_tracer_is_told_of_destructions_by_a_one),
		cmocka_unit_test(destructions_are_left_out_unless_they_are_asked_for),
		cmocka_unit_test(an_object_whose_register_went_to_the_flag_is_in_its_slot),
		cmocka_unit_test(a_register_is_preferred_to_a_slot),
		cmocka_unit_test(the_call_may_come_behind_another_jump),
		cmocka_unit_test(the_call_may_be_a_tail_call),
		cmocka_unit_test(the_runtimes_address_may_have_been_taken_long_before),
		cmocka_unit_test(of_two_ones_the_first_is_the_count),
		cmocka_unit_test(static_objects_do_not_die),
		cmocka_unit_test(a_check_without_witnesses_is_no_creation),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
