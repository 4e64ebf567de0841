/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Hierarchies of control groups as directories of our own, of either version. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "target/cgroup.h"

#define MB (1ULL << 20)
#define UNLIMITED_V1 "9223372036854771712"

static const char mounts_v1[] =
	"30 22 0:27 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
	"31 30 0:28 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
	"34 30 0:31 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n"
	"40 30 0:37 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
static const char mounts_v2[] =
	"30 22 0:27 / /sys/fs/cgroup rw,nosuid shared:4 master:2 - cgroup2 cgroup rw,nsdelegate\n";

static int make_root(void **state)
{
	char *root = strdup(P_tmpdir "/test-cgroup.XXXXXX");

	*state = root;
	return !mkdtemp(root);
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *ftw)
{
	(void)status;
	(void)type;
	(void)ftw;
	return remove(path);
}

static int remove_root(void **state)
{
	_cleanup_free_ char *root = *state;

	return nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* Writes below the root, with all directories on the way. */
static void put(const char *root, const char *path, const char *content)
{
	char full[1024];

	snprintf(full, sizeof(full), "%s%s", root, path);
	for (char *slash = full + strlen(root) + 1; (slash = strchr(slash, '/')); slash++) {
		*slash = '\0';
		mkdir(full, 0755);
		*slash = '/';
	}
	assert_int_equal(file_write_whole(full, content, strlen(content), 0644), 0);
}

static void assert_group(const struct cgroup_headroom *headroom, const char *root, const char *path)
{
	char full[1024];

	snprintf(full, sizeof(full), "%s%s", root, path);
	assert_string_equal(headroom->group, full);
}

static void of_several_levels_the_tightest_one_counts(void **state)
{
	const char *root = *state;
	struct cgroup_headroom headroom;

	put(root, "/sys/fs/cgroup/a.slice/memory.max", "104857600\n"); /* 100 MiB */
	put(root, "/sys/fs/cgroup/a.slice/memory.current", "99614720\n"); /* 95 MiB */
	put(root, "/sys/fs/cgroup/a.slice/web/memory.max", "52428800\n"); /* 50 MiB */
	put(root, "/sys/fs/cgroup/a.slice/web/memory.current", "10485760\n"); /* 10 MiB */
	put(root, "/sys/fs/cgroup/a.slice/web/memory.high", "max\n");
	assert_int_equal(cgroup_headroom_of("0::/a.slice/web\n", mounts_v2, root, &headroom), 0);
	assert_int_equal(headroom.free_bytes, 5 * MB);
	assert_int_equal(headroom.limit_bytes, 100 * MB);
	assert_int_equal(headroom.usage_bytes, 95 * MB);
	assert_group(&headroom, root, "/sys/fs/cgroup/a.slice");
}

static void a_high_mark_below_the_maximum_is_the_limit(void **state)
{
	const char *root = *state;
	struct cgroup_headroom headroom;

	put(root, "/sys/fs/cgroup/web/memory.max", "104857600\n");
	put(root, "/sys/fs/cgroup/web/memory.high", "20971520\n");
	put(root, "/sys/fs/cgroup/web/memory.current", "19922944\n");
	assert_int_equal(cgroup_headroom_of("0::/web\n", mounts_v2, root, &headroom), 0);
	assert_int_equal(headroom.free_bytes, MB);
	assert_int_equal(headroom.limit_bytes, 20 * MB);
}

static void clean_inactive_file_pages_can_be_reclaimed_and_dirty_ones_not(void **state)
{
	const char *root = *state;
	struct cgroup_headroom headroom;

	put(root, "/sys/fs/cgroup/web/memory.max", "104857600\n");
	put(root, "/sys/fs/cgroup/web/memory.current", "104857600\n");
	put(root, "/sys/fs/cgroup/web/memory.stat",
	    "anon 1\nfile 2\nfile_dirty 1048576\nfile_writeback 1048576\n"
	    "inactive_anon 99999999\ninactive_file 8388608\nactive_file 5\n");
	assert_int_equal(cgroup_headroom_of("0::/web\n", mounts_v2, root, &headroom), 0);
	assert_int_equal(headroom.free_bytes, 0);
	assert_int_equal(headroom.reclaimable_bytes, 6 * MB);
}

static void reclaimable_and_free_may_be_set_by_different_levels(void **state)
{
	const char *root = *state;
	struct cgroup_headroom headroom;

	put(root, "/sys/fs/cgroup/a/memory.max", "10485760\n");
	put(root, "/sys/fs/cgroup/a/memory.current", "8388608\n"); /* 2 free, nothing to drop */
	put(root, "/sys/fs/cgroup/a/b/memory.max", "5242880\n");
	put(root, "/sys/fs/cgroup/a/b/memory.current", "4194304\n"); /* 1 free, 4 to drop */
	put(root, "/sys/fs/cgroup/a/b/memory.stat", "inactive_file 4194304\n");
	assert_int_equal(cgroup_headroom_of("0::/a/b\n", mounts_v2, root, &headroom), 0);
	assert_int_equal(headroom.free_bytes, MB);
	assert_group(&headroom, root, "/sys/fs/cgroup/a/b");
	assert_int_equal(headroom.reclaimable_bytes, 2 * MB);
}

static void usage_above_the_limit_is_no_headroom_at_all(void **state)
{
	const char *root = *state;
	struct cgroup_headroom headroom;

	put(root, "/sys/fs/cgroup/web/memory.max", "1048576\n");
	put(root, "/sys/fs/cgroup/web/memory.current", "2097152\n");
	assert_int_equal(cgroup_headroom_of("0::/web\n", mounts_v2, root, &headroom), 0);
	assert_int_equal(headroom.free_bytes, 0);
}

static void without_a_limit_anywhere_it_is_unlimited(void **state)
{
	const char *root = *state;
	struct cgroup_headroom headroom;

	put(root, "/sys/fs/cgroup/web/memory.max", "max\n");
	put(root, "/sys/fs/cgroup/web/memory.current", "2097152\n");
	assert_int_equal(cgroup_headroom_of("0::/web\n", mounts_v2, root, &headroom), 0);
	assert_true(headroom.free_bytes == CGROUP_UNLIMITED);
	assert_true(headroom.reclaimable_bytes == CGROUP_UNLIMITED);
	assert_string_equal(headroom.group, "");
}

static void version_1_is_read_at_every_level_with_its_own_names(void **state)
{
	const char *root = *state;
	struct cgroup_headroom headroom;

	put(root, "/sys/fs/cgroup/memory/memory.limit_in_bytes", UNLIMITED_V1 "\n");
	put(root, "/sys/fs/cgroup/memory/memory.usage_in_bytes", "999999999\n");
	put(root, "/sys/fs/cgroup/memory/docker/memory.limit_in_bytes", UNLIMITED_V1 "\n");
	put(root, "/sys/fs/cgroup/memory/docker/c1/memory.limit_in_bytes", "52428800\n");
	put(root, "/sys/fs/cgroup/memory/docker/c1/memory.usage_in_bytes", "50331648\n");
	put(root, "/sys/fs/cgroup/memory/docker/c1/memory.stat",
	    "inactive_file 1\ntotal_inactive_file 3145728\ntotal_dirty 1048576\n");
	put(root, "/sys/fs/cgroup/unified/memory.max", "1\n"); /* not asked */
	put(root, "/sys/fs/cgroup/unified/memory.current", "1\n");
	assert_int_equal(cgroup_headroom_of("5:cpu,cpuacct:/x\n4:memory:/docker/c1\n0::/\n",
					    mounts_v1, root, &headroom),
			 0);
	assert_int_equal(headroom.free_bytes, 2 * MB);
	assert_int_equal(headroom.reclaimable_bytes, 4 * MB);
	assert_group(&headroom, root, "/sys/fs/cgroup/memory/docker/c1");
}

static void version_1_s_limit_of_memory_and_swap_counts_too(void **state)
{
	const char *root = *state;
	struct cgroup_headroom headroom;

	put(root, "/sys/fs/cgroup/memory/c1/memory.limit_in_bytes", "52428800\n");
	put(root, "/sys/fs/cgroup/memory/c1/memory.usage_in_bytes", "1048576\n");
	put(root, "/sys/fs/cgroup/memory/c1/memory.memsw.limit_in_bytes", "52428800\n");
	put(root, "/sys/fs/cgroup/memory/c1/memory.memsw.usage_in_bytes", "51380224\n");
	assert_int_equal(cgroup_headroom_of("4:memory:/c1\n", mounts_v1, root, &headroom), 0);
	assert_int_equal(headroom.free_bytes, MB);
}

static void a_mount_of_a_part_of_the_hierarchy_is_followed(void **state)
{
	static const char mounts[] =
		"1 0 0:5 /docker/c1 /sys/fs/cgroup/mem\\040ory rw - cgroup cgroup rw,memory\n";
	const char *root = *state;
	struct cgroup_headroom headroom;

	put(root, "/sys/fs/cgroup/mem ory/memory.limit_in_bytes", "2097152\n");
	put(root, "/sys/fs/cgroup/mem ory/memory.usage_in_bytes", "1048576\n");
	put(root, "/sys/fs/cgroup/mem ory/x/memory.limit_in_bytes", UNLIMITED_V1 "\n");
	assert_int_equal(cgroup_headroom_of("4:memory:/docker/c1/x\n", mounts, root, &headroom), 0);
	assert_int_equal(headroom.free_bytes, MB);
	assert_int_equal(cgroup_headroom_of("4:memory:/docker/c1\n", mounts, root, &headroom), 0);
	assert_int_equal(headroom.free_bytes, MB);
	/* Not below what is mounted, though its name begins alike. */
	assert_int_equal(cgroup_headroom_of("4:memory:/docker/c11\n", mounts, root, &headroom),
			 -ENODATA);
}

static void a_group_outside_of_our_view_is_not_guessed_at(void **state)
{
	const char *root = *state;
	struct cgroup_headroom headroom = { .free_bytes = 77 };

	put(root, "/sys/fs/cgroup/other/memory.max", "1\n");
	put(root, "/sys/fs/cgroup/other/memory.current", "1\n");
	assert_int_equal(cgroup_headroom_of("0::/../other\n", mounts_v2, root, &headroom),
			 -ENODATA);
	assert_int_equal(cgroup_headroom_of("0::/x/../other\n", mounts_v2, root, &headroom),
			 -ENODATA);
	assert_int_equal(cgroup_headroom_of("0::/gone (deleted)\n", mounts_v2, root, &headroom),
			 -ENODATA);
	assert_int_equal(cgroup_headroom_of("0::/other\n", "", root, &headroom), -ENODATA);
	assert_int_equal(cgroup_headroom_of("4:memory:/x\n0::/other\n", mounts_v2, root, &headroom),
			 -ENODATA);
	assert_int_equal(headroom.free_bytes, 77);
}

static void a_mount_from_above_our_namespace_reaches_its_groups(void **state)
{
	static const char mounts[] =
		"1 0 0:5 /.. /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
	const char *root = *state;
	struct cgroup_headroom headroom;

	put(root, "/sys/fs/cgroup/other/memory.max", "3145728\n");
	put(root, "/sys/fs/cgroup/other/memory.current", "2097152\n");
	assert_int_equal(cgroup_headroom_of("0::/../other\n", mounts, root, &headroom), 0);
	assert_int_equal(headroom.free_bytes, MB);
}

static void a_limit_that_cannot_be_read_is_an_error_not_a_headroom(void **state)
{
	const char *root = *state;
	struct cgroup_headroom headroom = { .free_bytes = 77 };

	put(root, "/sys/fs/cgroup/a/memory.max", "much\n");
	put(root, "/sys/fs/cgroup/a/memory.current", "1\n");
	assert_int_equal(cgroup_headroom_of("0::/a\n", mounts_v2, root, &headroom), -EBADMSG);
	put(root, "/sys/fs/cgroup/b/memory.max", "5\n"); /* and no usage */
	assert_int_equal(cgroup_headroom_of("0::/b\n", mounts_v2, root, &headroom), -ENODATA);
	put(root, "/sys/fs/cgroup/c/memory.max/x", ""); /* a directory */
	assert_int_equal(cgroup_headroom_of("0::/c\n", mounts_v2, root, &headroom), -EISDIR);
	assert_int_equal(headroom.free_bytes, 77);
}

static void odd_lines_are_passed_over(void **state)
{
	static const char mounts[] =
		"\n"
		"nonsense\n"
		"1 2 3\n"
		"30 22 0:27 / /sys/fs/cgroup rw shared:1\n" /* no separator */
		"30 22 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup rw";
	const char *root = *state;
	struct cgroup_headroom headroom;

	put(root, "/sys/fs/cgroup/a:b/memory.max", "2097152\n");
	put(root, "/sys/fs/cgroup/a:b/memory.current", "1048576\n");
	assert_int_equal(cgroup_headroom_of("\nx\n1:\n7:net_memory:/y\n0::/a:b", mounts, root,
					    &headroom),
			 0);
	assert_int_equal(headroom.free_bytes, MB);
	/* A kernel without control groups says nothing. */
	assert_int_equal(cgroup_headroom_of("", mounts, root, &headroom), 0);
	assert_true(headroom.free_bytes == CGROUP_UNLIMITED);
}

static void our_own_group_can_be_asked_or_is_out_of_view(void **state)
{
	struct cgroup_headroom headroom = { .free_bytes = 0 };
	int r = cgroup_headroom(getpid(), &headroom);

	(void)state;
	assert_true(r == 0 || r == -ENODATA);
	if (r == 0) {
		assert_true(headroom.free_bytes > 0);
		assert_true(headroom.reclaimable_bytes >= headroom.free_bytes);
	}
	assert_int_equal(cgroup_headroom(0x3fffffff, &headroom), -ESRCH);
}

#define GROUPS(test) cmocka_unit_test_setup_teardown(test, make_root, remove_root)

int main(void)
{
	const struct CMUnitTest tests[] = {
		GROUPS(of_several_levels_the_tightest_one_counts),
		GROUPS(a_high_mark_below_the_maximum_is_the_limit),
		GROUPS(clean_inactive_file_pages_can_be_reclaimed_and_dirty_ones_not),
		GROUPS(reclaimable_and_free_may_be_set_by_different_levels),
		GROUPS(usage_above_the_limit_is_no_headroom_at_all),
		GROUPS(without_a_limit_anywhere_it_is_unlimited),
		GROUPS(version_1_is_read_at_every_level_with_its_own_names),
		GROUPS(version_1_s_limit_of_memory_and_swap_counts_too),
		GROUPS(a_mount_of_a_part_of_the_hierarchy_is_followed),
		GROUPS(a_group_outside_of_our_view_is_not_guessed_at),
		GROUPS(a_mount_from_above_our_namespace_reaches_its_groups),
		GROUPS(a_limit_that_cannot_be_read_is_an_error_not_a_headroom),
		GROUPS(odd_lines_are_passed_over),
		cmocka_unit_test(our_own_group_can_be_asked_or_is_out_of_view),
	};

	return cmocka_run_group_tests_name("target/cgroup", tests, NULL, NULL);
}
