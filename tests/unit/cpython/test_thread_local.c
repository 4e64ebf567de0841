/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* The sequences as compilers and linkers write them, in this very program's text. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "cpython/thread_local.h"

/* clang-format off */
#define FUNCTION(name, body) \
	__asm__(".text\n.globl " #name "\n.type " #name ",@function\n" #name ":\n" body "\n\tret\n")

__asm__(".data\n.balign 16\n.globl the_slot\n.type the_slot,@object\n.size the_slot,16\n"
	"the_slot: .quad 3, 40\n.text\n");

FUNCTION(local_exec, "mov %fs:-24,%rax");
FUNCTION(initial_exec, "mov the_slot(%rip),%rax\n mov %fs:(%rax),%rax");
FUNCTION(initial_exec_relaxed, "mov $-8,%rax\n mov %fs:(%rax),%rax");
FUNCTION(initial_exec_by_sum, "mov the_slot(%rip),%rdx\n mov %fs:0,%rax\n mov 8(%rax,%rdx),%rax");
FUNCTION(dynamic_to_local, "mov %fs:0,%rax\n lea -16(%rax),%rax\n mov (%rax),%rax");
FUNCTION(dynamic_to_initial, "mov %fs:0,%rax\n add the_slot(%rip),%rax\n mov (%rax),%rax");
FUNCTION(local_dynamic_to_local, "mov %fs:0,%rax\n mov -32(%rax),%rax");
FUNCTION(general_dynamic, "sub $8,%rsp\n lea the_slot(%rip),%rdi\n call a_callee\n"
			  "mov (%rax),%rax\n add $8,%rsp");
FUNCTION(general_dynamic_without_plt, "lea the_slot(%rip),%rdi\n call *the_slot(%rip)\n"
				      "mov (%rax),%rax");
FUNCTION(local_dynamic, "lea the_slot(%rip),%rdi\n call a_callee\n mov 64(%rax),%rax");
FUNCTION(descriptor, "lea the_slot(%rip),%rax\n call *(%rax)\n mov %fs:(%rax),%rax");
FUNCTION(descriptor_by_sum, "lea the_slot(%rip),%rax\n call *(%rax)\n add %fs:0,%rax\n"
			    "mov (%rax),%rax");
FUNCTION(behind_a_canary, "mov %fs:0x28,%rdx\n mov %rdx,-8(%rsp)\n mov %fs:-40,%rax");
FUNCTION(behind_a_jump, "test %edi,%edi\n je 1f\n xor %eax,%eax\n ret\n 1: mov %fs:-48,%rax");
FUNCTION(canary_only, "mov %fs:0x28,%rax\n xor %eax,%eax");
FUNCTION(another_call, "mov %rsi,%rdi\n call a_callee\n mov (%rax),%rax");
FUNCTION(overwritten, "mov the_slot(%rip),%rax\n mov %rsi,%rax\n mov %fs:(%rax),%rax");
FUNCTION(a_callee, "nop");
/* clang-format on */

static struct image *image;

static int open_image(void **state)
{
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(image_new(fd, &image, NULL), 0);
	close(fd);
	return 0;
}

static int close_image(void **state)
{
	(void)state;
	image_free(image);
	return 0;
}

static int find(const char *function, struct thread_local_access *ret)
{
	struct image_symbol symbol;

	assert_int_equal(image_symbol(image, function, &symbol), 0);
	return thread_local_find(image, symbol.vaddr, ret);
}

static uint64_t slot(void)
{
	struct image_symbol symbol;

	assert_int_equal(image_symbol(image, "the_slot", &symbol), 0);
	return symbol.vaddr;
}

static void an_offset_in_the_code_is_read(void **state)
{
	static const struct {
		const char *function;
		int64_t offset;
	} rows[] = {
		{ "local_exec", -24 },		{ "initial_exec_relaxed", -8 },
		{ "dynamic_to_local", -16 },	{ "local_dynamic_to_local", -32 },
		{ "behind_a_canary", -40 },	{ "behind_a_jump", -48 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct thread_local_access access;

		assert_int_equal(find(rows[i].function, &access), 0);
		assert_int_equal(access.kind, THREAD_LOCAL_OFFSET);
		assert_int_equal(access.displacement, rows[i].offset);
	}
}

static void a_slot_and_what_it_means_are_read(void **state)
{
	static const struct {
		const char *function;
		enum thread_local_kind kind;
		int64_t displacement;
	} rows[] = {
		{ "initial_exec", THREAD_LOCAL_OFFSET_SLOT, 0 },
		{ "initial_exec_by_sum", THREAD_LOCAL_OFFSET_SLOT, 8 },
		{ "dynamic_to_initial", THREAD_LOCAL_OFFSET_SLOT, 0 },
		{ "general_dynamic", THREAD_LOCAL_MODULE_SLOT, 0 },
		{ "general_dynamic_without_plt", THREAD_LOCAL_MODULE_SLOT, 0 },
		{ "local_dynamic", THREAD_LOCAL_MODULE_SLOT, 64 },
		{ "descriptor", THREAD_LOCAL_DESCRIPTOR, 0 },
		{ "descriptor_by_sum", THREAD_LOCAL_DESCRIPTOR, 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct thread_local_access access;

		assert_int_equal(find(rows[i].function, &access), 0);
		assert_int_equal(access.kind, rows[i].kind);
		assert_int_equal(access.displacement, rows[i].displacement);
		assert_int_equal(access.slot, slot());
	}
}

static void what_reads_no_variable_is_not_found(void **state)
{
	static const char *const functions[] = { "canary_only", "another_call", "overwritten",
						 "a_callee" };

	(void)state;
	for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]); i++) {
		struct thread_local_access access;

		assert_int_equal(find(functions[i], &access), -ENOENT);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_offset_in_the_code_is_read),
		cmocka_unit_test(a_slot_and_what_it_means_are_read),
		cmocka_unit_test(what_reads_no_variable_is_not_found),
	};

	return cmocka_run_group_tests(tests, open_image, close_image);
}
