/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * What the running kernel says of programs and maps that it does not take, and
 * what is made of it.  As root; built and run by test_capture.py.
 */
#include <errno.h>
#include <linux/capability.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "capture/capture_private.h"
#include "capture/kernel_log.h"

#include "probe.skel.h"

static struct probe_bpf *skeleton; /* small, and without relocations */
static struct kernel_log heard;
static char text[KERNEL_LOG_TEXT_BYTES];

static int open_skeleton(void **state)
{
	(void)state;
	skeleton = probe_bpf__open();
	if (!skeleton)
		return -1;
	bpf_program__set_autoload(skeleton->progs.on_hit, false);
	return 0;
}

static int destroy_skeleton(void **state)
{
	(void)state;
	probe_bpf__destroy(skeleton);
	return 0;
}

/* -errno of the load; heard and text are what is made of it. */
static int load(struct bpf_object *object)
{
	int r;

	kernel_log_begin(&heard);
	r = bpf_object__load(object);
	kernel_log_end();
	if (r < 0)
		kernel_log_explain(&heard, "loading", r, text);
	return r;
}

static void what_is_whole_is_loaded_and_nothing_is_said(void **state)
{
	(void)state;
	assert_int_equal(load(skeleton->obj), 0);
	assert_string_equal(heard.object, "");
	assert_string_equal(heard.verifier, "");
}

static void replace_program(struct bpf_insn *instructions, size_t n)
{
	assert_int_equal(bpf_program__set_insns(skeleton->progs.on_nothing, instructions, n), 0);
}

/* kernel/bpf/verifier.c: "R%d !read_ok" */
static void the_last_line_of_the_verifiers_log_is_told(void **state)
{
	static struct bpf_insn reads_what_was_never_written[] = {
		{.code = BPF_ALU64 | BPF_MOV | BPF_X, .dst_reg = BPF_REG_0, .src_reg = BPF_REG_7},
		{.code = BPF_JMP | BPF_EXIT},
	};

	(void)state;
	replace_program(reads_what_was_never_written, 2);
	assert_true(load(skeleton->obj) < 0);
	assert_string_equal(heard.object, "prog 'on_nothing'");
	assert_string_equal(heard.verifier, "R7 !read_ok");
	assert_non_null(strstr(text, "loading prog 'on_nothing': "));
	assert_non_null(strstr(text, "\"R7 !read_ok\""));
	assert_non_null(strstr(text, "--no-probes"));
}

/* Before the verifier: bpf_prog_load() takes a million instructions at most. */
static void a_program_that_is_too_long_is_told_as_that(void **state)
{
	enum { TOO_MANY = 1000001 };
	_cleanup_free_ struct bpf_insn *many = calloc(TOO_MANY, sizeof(*many));

	(void)state;
	replace_program(many, TOO_MANY);
	assert_int_equal(load(skeleton->obj), -E2BIG);
	assert_string_equal(heard.object, "prog 'on_nothing'");
	assert_non_null(strstr(text, "(E2BIG)"));
}

/* kernel/bpf/hashtab.c: a key has at least one byte; a ring's has none. */
static void a_map_that_the_kernel_does_not_take_is_named(void **state)
{
	struct capture_bpf *capture = capture_bpf__open();

	(void)state;
	assert_non_null(capture);
	bpf_map__set_type(capture->maps.ring, BPF_MAP_TYPE_HASH);
	assert_int_equal(load(capture->obj), -EINVAL);
	capture_bpf__destroy(capture);
	assert_string_equal(heard.object, "map 'ring'");
	assert_string_equal(heard.verifier, "");
	assert_non_null(strstr(text, "loading map 'ring': "));
	assert_non_null(strstr(text, "(EINVAL)"));
}

static void no_descriptor_left_is_told_as_that(void **state)
{
	struct rlimit before, none;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = (struct rlimit){.rlim_cur = 3, .rlim_max = before.rlim_max};
	setrlimit(RLIMIT_NOFILE, &none);
	assert_int_equal(load(skeleton->obj), -EMFILE);
	setrlimit(RLIMIT_NOFILE, &before);
	assert_non_null(strstr(text, "LimitNOFILE"));
}

/* As a process without capabilities: in a child, which could not get them back. */
static void what_is_not_permitted_is_told_with_the_capabilities(void **state)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[2] = {{0}};
	int status;
	pid_t pid;

	(void)state;
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		if (syscall(SYS_capset, &header, none) < 0 || load(skeleton->obj) != -EPERM)
			_exit(1);
		_exit(strstr(text, "CAP_BPF") && strstr(text, "seccomp") ? 0 : 2);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_skeleton, destroy_skeleton)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(what_is_whole_is_loaded_and_nothing_is_said),
		TEST(the_last_line_of_the_verifiers_log_is_told),
		TEST(a_program_that_is_too_long_is_told_as_that),
		TEST(a_map_that_the_kernel_does_not_take_is_named),
		TEST(no_descriptor_left_is_told_as_that),
		TEST(what_is_not_permitted_is_told_with_the_capabilities),
	};

	return cmocka_run_group_tests_name("capture/refusals", tests, NULL, NULL);
}
