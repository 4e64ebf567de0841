/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* The check for NULL behind a constructor's call, as compilers write it. */
#include "idioms.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "probes/callers.h"
#include "probes/plan.h"

#define MATCHES __attribute__((cleanup(matches_done))) struct matches

DEFINE_CLEANUP(struct image *, image_free)
DEFINE_CLEANUP(struct plan *, plan_free)

#define AT(label, begin) (IDIOM_VADDR + (uint64_t)((label) - (begin)))

/* The constructor is the idiom's label "made". */
#define MATCH(name_)                                                                               \
	CLEANUP(code_free) struct code *code = DECODE(name_);                                      \
	const struct constructor constructor = {.name = "Py_New",                                  \
						.vaddr = AT(name_##_made, name_##_begin)};         \
	MATCHES matches = {0};                                                                     \
                                                                                                   \
	assert_int_equal(match_callers_of(code, NULL, &constructor, 1, &matches), 0)

#define EXPECT_SITE(name_, registers_)                                                             \
	const struct match *match;                                                                 \
	MATCH(name_);                                                                              \
	assert_int_equal(matches.n, 1);                                                            \
	match = matches_find(&matches, INDEX_OF(code, name_, site), SITE_CALLER);                  \
	assert_non_null(match);                                                                    \
	assert_int_equal(match->condition, CONDITION_NOT_EQUAL);                                   \
	assert_int_equal(match->registers, registers_);                                            \
	assert_string_equal(match->function, "Py_New")

#define EXPECT_NONE(name_)                                                                         \
	MATCH(name_);                                                                              \
	assert_int_equal(matches.n, 0)

#define BIT(reg) (1U << (reg))

#define CALLER_SITE(name, text)                                                                    \
	IDIOM_SITE(name, text "\n9: ret\n" #name "_made: ret");                                    \
	extern const uint8_t name##_made[]
#define CALLER_NONE(name, text)                                                                    \
	IDIOM(name, text "\n9: ret\n" #name "_made: ret");                                         \
	extern const uint8_t name##_made[]

CALLER_SITE(plain, "call plain_made\n"
		   "test rax, rax\n"
		   "plain_site: je 9f\n"
		   "mov rbx, rax");

static void the_object_is_what_was_returned(void **state)
{
	(void)state;
	EXPECT_SITE(plain, BIT(CODE_RAX));
}

CALLER_SITE(saved, "call saved_made\n"
		   "mov qword ptr [rsp+8], rax\n"
		   "mov r12, rax\n"
		   "mov edx, 5\n"
		   "test r12, r12\n"
		   "saved_site: jne 9f\n"
		   "xor eax, eax");

static void it_may_be_kept_elsewhere_and_the_jump_have_the_other_sense(void **state)
{
	(void)state;
	EXPECT_SITE(saved, BIT(CODE_RAX) | BIT(12));
}

CALLER_SITE(across, "call across_made\n"
		    "mov rbx, rax\n"
		    "mov rdi, rbp\n"
		    "call 8f\n"
		    "test rbx, rbx\n"
		    "across_site: je 9f\n"
		    "8: ret");

static void another_call_in_between_leaves_only_the_saved_register(void **state)
{
	(void)state;
	EXPECT_SITE(across, BIT(CODE_RBX));
}

CALLER_NONE(lost, "call lost_made\n"
		  "mov rdi, rbp\n"
		  "call 8f\n"
		  "test rax, rax\n"
		  "je 9f\n"
		  "8: ret");

static void another_calls_result_is_not_the_object(void **state)
{
	(void)state;
	EXPECT_NONE(lost);
}

CALLER_NONE(changed, "call changed_made\n"
		     "add rax, 16\n"
		     "test rax, rax\n"
		     "je 9f");

static void a_pointer_into_the_object_is_none(void **state)
{
	(void)state;
	EXPECT_NONE(changed);
}

/* The low half of an address may be 0. */
CALLER_NONE(half, "call half_made\n"
		  "test eax, eax\n"
		  "je 9f");

static void half_of_the_register_is_no_check(void **state)
{
	(void)state;
	EXPECT_NONE(half);
}

CALLER_NONE(compared, "call compared_made\n"
		      "cmp rax, rbx\n"
		      "je 9f");

CALLER_NONE(sign, "call sign_made\n"
		  "test rax, rax\n"
		  "jns 9f");

static void only_a_test_for_zero_is_a_check(void **state)
{
	(void)state;
	{
		EXPECT_NONE(compared);
	}
	{
		EXPECT_NONE(sign);
	}
}

/* What another arm brings along in rax needn't be new. */
CALLER_NONE(entered, "test rdi, rdi\n"
		     "je 1f\n"
		     "call entered_made\n"
		     "1: test rax, rax\n"
		     "je 9f");

static void a_check_that_is_reached_from_elsewhere_too_is_no_site(void **state)
{
	(void)state;
	EXPECT_NONE(entered);
}

CALLER_SITE(moved, "call moved_made\n"
		   "jmp 1f\n"
		   "2: ret\n"
		   "1: test rax, rax\n"
		   "moved_site: je 9f");

CALLER_NONE(fallen, "call fallen_made\n"
		    "jmp 1f\n"
		    "mov rax, rbx\n"
		    "1: test rax, rax\n"
		    "je 9f");

static void a_jump_is_followed_where_nothing_else_comes_to_its_target(void **state)
{
	(void)state;
	{
		EXPECT_SITE(moved, BIT(CODE_RAX));
	}
	{
		EXPECT_NONE(fallen);
	}
}

CALLER_NONE(other_first, "call other_first_made\n"
			 "test rbx, rbx\n"
			 "je 9f\n"
			 "test rax, rax\n"
			 "je 9f");

static void another_check_comes_first(void **state)
{
	(void)state;
	EXPECT_NONE(other_first);
}

CALLER_NONE(other_callee, "call 9f\n"
			  "test rax, rax\n"
			  "je 9f");

CALLER_NONE(tail, "jmp tail_made\n"
		  "test rax, rax\n"
		  "je 9f");

static void only_calls_of_constructors_count(void **state)
{
	(void)state;
	{
		EXPECT_NONE(other_callee);
	}
	{
		EXPECT_NONE(tail);
	}
}

static void where_another_site_is_already_there_is_none(void **state)
{
	CLEANUP(code_free) struct code *code = DECODE(plain);
	const struct constructor constructor = {"Py_New", AT(plain_made, plain_begin)};
	const struct match taken = {.at = (uint32_t)INDEX_OF(code, plain, site),
				    .kind = SITE_ALLOC};
	MATCHES matches = {0};

	(void)state;
	matches_add(&matches, &taken);
	assert_int_equal(match_callers_of(code, NULL, &constructor, 1, &matches), 0);
	assert_int_equal(matches.n, 1);
}

/* --- a whole interpreter, whose calls go through a PLT ---------------------------------------- */

static unsigned callers_of(const struct plan *plan, const char *function)
{
	unsigned n = 0;

	for (size_t i = 0; i < plan->n_sites; i++)
		n += plan->sites[i].kind == SITE_CALLER &&
		     strcmp(plan->sites[i].function, function) == 0;
	return n;
}

static int make_plan(const char *path, enum plan_callers callers, struct image **ret_image,
		     struct plan **ret_plan)
{
	const struct plan_python_options options = {.minor = 11, .callers = callers};
	struct fault fault = {0};
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	int error;

	if (fd < 0)
		return -ENOENT;
	error = image_new(fd, ret_image, &fault);
	return error ? error : plan_make_python(*ret_image, &options, ret_plan, &fault);
}

static void check_interpreter(const char *path)
{
	CLEANUP(image_free) struct image *image = NULL, *again = NULL, *third = NULL;
	CLEANUP(plan_free) struct plan *plan = NULL, *without = NULL, *core = NULL;

	assert_int_equal(make_plan(path, PLAN_CALLERS_ALL, &image, &plan), 0);
	assert_int_equal(make_plan(path, PLAN_CALLERS_NONE, &again, &without), 0);
	assert_int_equal(without->statistics.by_kind[SITE_CALLER], 0);
	assert_int_equal(without->n_sites + plan->statistics.by_kind[SITE_CALLER], plan->n_sites);
	assert_int_equal(plan->statistics.unresolved, 0);
	assert_int_equal(plan->statistics.not_emulated, 0);
	for (size_t i = 1; i < plan->n_sites; i++)
		assert_true(plan->sites[i].vaddr > plan->sites[i - 1].vaddr);
	assert_int_equal(make_plan(path, PLAN_CALLERS_CORE, &third, &core), 0);
	assert_int_equal(callers_of(core, "PyDict_New"), 0);
	assert_int_equal(callers_of(core, "_PyObject_GC_New"),
			 callers_of(plan, "_PyObject_GC_New"));
	/* 77 of 87, 290 of 297, 327 of 439, 111 of 111 calls in 3.11.7. */
	assert_in_range(callers_of(plan, "PyDict_New"), 60, 100);
	assert_in_range(callers_of(plan, "PyList_New"), 250, 330);
	assert_in_range(callers_of(plan, "PyLong_FromLong"), 280, 380);
	assert_in_range(callers_of(plan, "_PyObject_GC_New"), 100, 125);
}

static void most_callers_of_a_shared_library_have_a_site(void **state)
{
	const char *root = getenv("PYENV_ROOT"), *home = getenv("HOME");
	char pattern[512];
	glob_t found;

	(void)state;
	snprintf(pattern, sizeof(pattern), "%s%s/versions/3.11.*/lib/libpython3.11.so.1.0",
		 root ? root : home ? home : "", root ? "" : "/.pyenv");
	if (glob(pattern, 0, NULL, &found))
		skip();
	for (size_t i = 0; i < found.gl_pathc; i++)
		check_interpreter(found.gl_pathv[i]);
	globfree(&found);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_object_is_what_was_returned),
		cmocka_unit_test(it_may_be_kept_elsewhere_and_the_jump_have_the_other_sense),
		cmocka_unit_test(another_call_in_between_leaves_only_the_saved_register),
		cmocka_unit_test(another_calls_result_is_not_the_object),
		cmocka_unit_test(a_pointer_into_the_object_is_none),
		cmocka_unit_test(half_of_the_register_is_no_check),
		cmocka_unit_test(only_a_test_for_zero_is_a_check),
		cmocka_unit_test(a_check_that_is_reached_from_elsewhere_too_is_no_site),
		cmocka_unit_test(a_jump_is_followed_where_nothing_else_comes_to_its_target),
		cmocka_unit_test(another_check_comes_first),
		cmocka_unit_test(only_calls_of_constructors_count),
		cmocka_unit_test(where_another_site_is_already_there_is_none),
		cmocka_unit_test(most_callers_of_a_shared_library_have_a_site),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
