/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Messages as libbpf 1.1 to 1.5 prints them, and what is said of each error. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "capture/kernel_log.h"

static void the_verifiers_last_line_is_the_one_before_its_figures(void **state)
{
	struct kernel_log log = {0};

	(void)state;
	kernel_log_take(&log,
			"libbpf: prog 'on_alloc': BPF program load failed: Invalid argument\n");
	assert_string_equal(log.object, "prog 'on_alloc'");
	assert_string_equal(log.verifier, "");
	kernel_log_take(&log, "libbpf: prog 'on_alloc': -- BEGIN PROG LOAD LOG --\n"
			      "0: R1=ctx(off=0,imm=0) R10=fp0\n"
			      "0: (b7) r0 = 0\n"
			      "invalid access to map value, value_size=8 off=8 size=8\n"
			      "R0 max value is outside of the allowed memory range\n"
			      "verification time 24 usec\n"
			      "stack depth 16\n"
			      "processed 1 insns (limit 1000000) max_states_per_insn 0\n"
			      "-- END PROG LOAD LOG --\n");
	kernel_log_take(&log, "libbpf: prog 'on_alloc': failed to load: -22\n");
	kernel_log_take(&log, "libbpf: failed to load object 'capture_bpf'\n");
	assert_string_equal(log.object, "prog 'on_alloc'");
	assert_string_equal(log.verifier, "R0 max value is outside of the allowed memory range");
}

static void a_log_is_held_to_its_bounds_whatever_is_in_it(void **state)
{
	struct kernel_log log = {0};
	char message[1000];

	(void)state;
	memset(message, 'x', sizeof(message));
	memcpy(message, "prog '", 6);
	message[sizeof(message) - 1] = '\0';
	kernel_log_take(&log, message); /* a name without an end is none */
	assert_string_equal(log.object, "");
	message[sizeof(message) - 2] = '\'';
	kernel_log_take(&log, message);
	assert_int_equal(strlen(log.object), sizeof(log.object) - 1);
	kernel_log_take(&log, "prog 'a': -- BEGIN PROG LOAD LOG --\n");
	kernel_log_take(&log, "prog 'a': -- BEGIN PROG LOAD LOG --\nprocessed 3 insns\n");
	kernel_log_take(&log, "prog 'a': -- BEGIN PROG LOAD LOG ---- END PROG LOAD LOG --\n");
	assert_string_equal(log.verifier, "");
	kernel_log_take(&log, "prog 'a': -- BEGIN PROG LOAD LOG --\n\x1b[31mred\tcut");
	assert_string_equal(log.verifier, " [31mred cut");
	memset(message, 'x', sizeof(message));
	memcpy(message, "prog 'a': -- BEGIN PROG LOAD LOG --\n", 36);
	message[sizeof(message) - 1] = '\0';
	kernel_log_take(&log, message);
	assert_int_equal(strlen(log.verifier), sizeof(log.verifier) - 1);
}

/* What whoever reads it has to find in the words. */
static void each_error_is_told_with_what_to_do(void **state)
{
	static const struct {
		int error;
		const char *words[3];
	} rows[] = {
		{EPERM, {"EPERM", "CAP_BPF", "locked down"}},
		{EACCES, {"EACCES", "CAP_BPF", "CAP_PERFMON"}},
		{ENOMEM, {"ENOMEM", "memory.max", "PYLEAKD_RING_BYTES"}},
		{E2BIG, {"E2BIG", "PYLEAKD_RING_BYTES", "--no-probes"}},
		{ENOSPC, {"ENOSPC", "bpftool", "--no-probes"}},
		{EINVAL, {"EINVAL", "Linux 5.15", "--no-probes"}},
		{ENOSYS, {"ENOSYS", "CONFIG_BPF_SYSCALL", "seccomp"}},
		{EMFILE, {"EMFILE", "ulimit -n", "LimitNOFILE"}},
		{ENFILE, {"ENFILE", "fs.file-max", ":"}},
		{524, {"ENOTSUPP", "bpf_jit_enable", "bpf_jit_limit"}},
		{ENOLINK, {"Link has been severed", "pyleakd check", "--no-probes"}},
	};
	const struct kernel_log log = {.object = "map 'ring'"};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char text[KERNEL_LOG_TEXT_BYTES];

		kernel_log_explain(&log, "loading", -rows[i].error, text);
		assert_non_null(strstr(text, "loading map 'ring': "));
		for (size_t k = 0; k < ARRAY_SIZE(rows[i].words); k++)
			if (!strstr(text, rows[i].words[k]))
				fail_msg("%s: no \"%s\"", text, rows[i].words[k]);
		assert_true(strlen(text) < sizeof(text) - 1); /* whole */
	}
}

static void what_the_verifier_says_goes_before_what_the_error_may_mean(void **state)
{
	const struct kernel_log log = {.object = "prog 'on_free'", .verifier = "R1 !read_ok"};
	char text[KERNEL_LOG_TEXT_BYTES];

	(void)state;
	kernel_log_explain(&log, "loading", -EACCES, text);
	assert_non_null(strstr(text, "verifier refuses it (EACCES), saying \"R1 !read_ok\""));
	assert_null(strstr(text, "CAP_BPF"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_verifiers_last_line_is_the_one_before_its_figures),
		cmocka_unit_test(a_log_is_held_to_its_bounds_whatever_is_in_it),
		cmocka_unit_test(each_error_is_told_with_what_to_do),
		cmocka_unit_test(what_the_verifier_says_goes_before_what_the_error_may_mean),
	};

	return cmocka_run_group_tests_name("capture/kernel_log", tests, NULL, NULL);
}
