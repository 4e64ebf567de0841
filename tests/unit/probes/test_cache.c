/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Plans on disk: what is stored comes back, and nothing else does. */
#include "idioms.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "probes/builder.h"
#include "probes/plan.h"

DEFINE_CLEANUP(struct plan *, plan_free)

#define SITES 20
#define FILE_BYTES_MAX 65536

/* This program's own file is the image, its own jumps are the sites. */
struct fixture {
	char directory[64];
	struct image *image;
	struct plan *plan;
};

static int open_image(struct image **ret)
{
	_cleanup_close_ int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

	return fd < 0 ? -errno : image_new(fd, ret, NULL);
}

static void fill_plan(struct fixture *fixture)
{
	CLEANUP(code_free) struct code *code = NULL;
	struct plan_builder builder = {.image = fixture->image};
	unsigned n = 0;

	assert_int_equal(code_new(fixture->image, &code, NULL), 0);
	assert_int_equal(plan_new(fixture->image, &fixture->plan), 0);
	builder.code = code;
	builder.plan = fixture->plan;
	for (size_t i = 0; i < code_count(code) && n < SITES; i++) {
		const struct plan_site site = {
			.kind = (uint8_t)(n % (SITE_DESTROY + 1)),
			.reg = (uint8_t)(n % 16),
			.value = (uint8_t)(n % (VALUE_POOL_BY_ZF_MEMORY + 1)),
			.displacement = (int16_t)(n * 100 - 1000),
			.condition = (uint8_t)(n % (WIRE_CONDITION_ALWAYS + 1)),
			.function = n == 7 ? "reallocarray" : NULL,
		};

		if (code_at(code, i)->flow != FLOW_CONDITIONAL || !code_is_emulated(code, i))
			continue;
		assert_int_equal(plan_builder_add(&builder, i, &site), 0);
		n = (unsigned)fixture->plan->n_sites;
	}
	assert_int_equal(n, SITES);
	fixture->plan->statistics.unresolved = 3;
	assert_int_equal(plan_builder_finish(&builder), 0);
}

static int set_up(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	assert_non_null(fixture);
	snprintf(fixture->directory, sizeof(fixture->directory), "/tmp/probes-cache-XXXXXX");
	assert_non_null(mkdtemp(fixture->directory));
	/* The cache makes its own. */
	assert_int_equal(rmdir(fixture->directory), 0);
	assert_int_equal(open_image(&fixture->image), 0);
	fill_plan(fixture);
	*state = fixture;
	return 0;
}

/* Calls visit with each file's path; returns how many there were. */
static unsigned each_file(const struct fixture *fixture, void (*visit)(const char *path))
{
	_cleanup_closedir_ DIR *entries = opendir(fixture->directory);
	struct dirent *entry;
	unsigned n = 0;

	while (entries && (entry = readdir(entries))) {
		char path[512];

		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		snprintf(path, sizeof(path), "%s/%s", fixture->directory, entry->d_name);
		visit(path);
		n++;
	}
	return n;
}

static void remove_file(const char *path)
{
	unlink(path);
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;

	each_file(fixture, remove_file);
	rmdir(fixture->directory);
	plan_free(fixture->plan);
	image_free(fixture->image);
	free(fixture);
	return 0;
}

static char found_path[512];

static void note_path(const char *path)
{
	snprintf(found_path, sizeof(found_path), "%s", path);
}

static void store(struct fixture *fixture)
{
	assert_int_equal(plan_store(fixture->directory, "python-11", fixture->plan), 0);
	assert_int_equal(each_file(fixture, note_path), 1);
}

static int load(struct fixture *fixture, struct plan **ret)
{
	return plan_load(fixture->directory, "python-11", fixture->image, ret);
}

static size_t read_cache(uint8_t data[static FILE_BYTES_MAX])
{
	_cleanup_fclose_ FILE *file = fopen(found_path, "rb");

	assert_non_null(file);
	return fread(data, 1, FILE_BYTES_MAX, file);
}

static void write_cache(const uint8_t *data, size_t size)
{
	_cleanup_fclose_ FILE *file = fopen(found_path, "wb");

	assert_non_null(file);
	assert_int_equal(fwrite(data, 1, size, file), size);
}

static void what_is_stored_comes_back(void **state)
{
	struct fixture *fixture = *state;
	CLEANUP(plan_free) struct plan *plan = NULL;

	store(fixture);
	assert_int_equal(load(fixture, &plan), 0);
	assert_int_equal(plan->n_sites, fixture->plan->n_sites);
	assert_int_equal(plan->file_size, fixture->plan->file_size);
	assert_memory_equal(plan->build_id, fixture->plan->build_id, IMAGE_BUILD_ID_MAX);
	assert_memory_equal(&plan->statistics, &fixture->plan->statistics,
			    sizeof(plan->statistics));
	for (size_t i = 0; i < plan->n_sites; i++) {
		const struct plan_site *a = &plan->sites[i], *b = &fixture->plan->sites[i];

		assert_int_equal(a->vaddr, b->vaddr);
		assert_int_equal(a->offset, b->offset);
		assert_int_equal(a->displacement, b->displacement);
		assert_int_equal(a->kind, b->kind);
		assert_int_equal(a->reg, b->reg);
		assert_int_equal(a->value, b->value);
		assert_int_equal(a->condition, b->condition);
		assert_int_equal(a->length, b->length);
		assert_memory_equal(a->bytes, b->bytes, PLAN_SITE_BYTES);
		assert_int_equal(a->emulated, b->emulated);
		assert_string_equal(a->function, b->function);
	}
}

static void the_directory_is_for_its_owner_only(void **state)
{
	struct fixture *fixture = *state;
	struct stat status;

	store(fixture);
	assert_int_equal(stat(fixture->directory, &status), 0);
	assert_int_equal(status.st_mode & 0777, 0700);
	assert_int_equal(stat(found_path, &status), 0);
	assert_int_equal(status.st_mode & 0777, 0600);
}

static void what_was_never_stored_is_not_found(void **state)
{
	struct fixture *fixture = *state;
	struct plan *plan = NULL;

	assert_int_equal(load(fixture, &plan), -ENOENT);
	store(fixture);
	assert_int_equal(plan_load(fixture->directory, "python-12", fixture->image, &plan),
			 -ENOENT);
	assert_null(plan);
}

static void flavours_cannot_lead_out_of_the_directory(void **state)
{
	struct fixture *fixture = *state;
	struct plan *plan = NULL;

	assert_int_equal(plan_store(fixture->directory, "../x", fixture->plan), -EINVAL);
	assert_int_equal(plan_store(fixture->directory, "", fixture->plan), -EINVAL);
	assert_int_equal(plan_store(fixture->directory, "a/b", fixture->plan), -EINVAL);
	assert_int_equal(plan_load(fixture->directory, "..", fixture->image, &plan), -EINVAL);
}

static void storing_again_replaces_and_leaves_nothing_behind(void **state)
{
	struct fixture *fixture = *state;
	CLEANUP(plan_free) struct plan *plan = NULL;

	store(fixture);
	fixture->plan->statistics.unresolved = 5;
	store(fixture);
	assert_int_equal(load(fixture, &plan), 0);
	assert_int_equal(plan->statistics.unresolved, 5);
}

static void a_cache_that_is_cut_off_anywhere_is_not_used(void **state)
{
	struct fixture *fixture = *state;
	uint8_t data[FILE_BYTES_MAX];
	struct plan *plan = NULL;
	size_t size;

	store(fixture);
	size = read_cache(data);
	for (size_t cut = 0; cut < size; cut++) {
		write_cache(data, cut);
		assert_int_equal(load(fixture, &plan), -ENOENT);
	}
	data[size] = 0;
	write_cache(data, size + 1);
	assert_int_equal(load(fixture, &plan), -ENOENT);
	write_cache(data, size);
	assert_int_equal(load(fixture, &plan), 0);
	plan_free(plan);
}

static void a_changed_bit_anywhere_is_noticed(void **state)
{
	struct fixture *fixture = *state;
	uint8_t data[FILE_BYTES_MAX];
	struct plan *plan = NULL;
	size_t size;

	store(fixture);
	size = read_cache(data);
	for (size_t i = 0; i < size; i++) {
		data[i] ^= (uint8_t)(1U << i % 8);
		write_cache(data, size);
		assert_int_equal(load(fixture, &plan), -ENOENT);
		data[i] ^= (uint8_t)(1U << i % 8);
	}
}

/* A plan of which one field is out of bounds, stored with a checksum that is right. */
static void expect_refused(struct fixture *fixture, struct plan_site *site)
{
	struct plan *plan = NULL;

	(void)site;
	assert_int_equal(plan_store(fixture->directory, "python-11", fixture->plan), 0);
	assert_int_equal(load(fixture, &plan), -ENOENT);
	assert_null(plan);
}

static void each_field_is_bounded_whatever_the_checksum_says(void **state)
{
	struct fixture *fixture = *state;
	struct plan_site *site = &fixture->plan->sites[3];
	const struct plan_site good = *site;

	site->kind = SITE_KINDS;
	expect_refused(fixture, site);
	*site = good;
	site->reg = 16;
	expect_refused(fixture, site);
	*site = good;
	site->value = VALUE_POOL_BY_ZF_MEMORY + 1;
	expect_refused(fixture, site);
	*site = good;
	site->condition = WIRE_CONDITION_ALWAYS + 1;
	expect_refused(fixture, site);
	*site = good;
	site->length = 16;
	expect_refused(fixture, site);
	*site = good;
	site->length = 0;
	expect_refused(fixture, site);
	*site = good;
	site->offset++;
	expect_refused(fixture, site);
	*site = good;
	site->vaddr = fixture->plan->sites[2].vaddr - 1; /* not ascending, and other bytes */
	expect_refused(fixture, site);
	*site = good;
	site->vaddr = 1;
	expect_refused(fixture, site);
	*site = good;
	site->bytes[0] ^= 1;
	expect_refused(fixture, site);
	*site = good;
	site->emulated = false;
	expect_refused(fixture, site);
}

static void a_plan_of_another_image_is_not_used(void **state)
{
	struct fixture *fixture = *state;
	struct plan *plan = NULL;

	fixture->plan->file_size++;
	store(fixture);
	assert_int_equal(load(fixture, &plan), -ENOENT);
	fixture->plan->file_size--;
	/* Another image's name. */
	fixture->plan->build_id[0] ^= 0xff;
	assert_int_equal(plan_store(fixture->directory, "python-11", fixture->plan), 0);
	assert_int_equal(load(fixture, &plan), -ENOENT);
	assert_null(plan);
}

static void a_link_is_not_followed(void **state)
{
	struct fixture *fixture = *state;
	struct plan *plan = NULL;
	char moved[600];

	store(fixture);
	snprintf(moved, sizeof(moved), "%s.moved", found_path);
	assert_int_equal(rename(found_path, moved), 0);
	assert_int_equal(symlink(moved, found_path), 0);
	assert_int_equal(load(fixture, &plan), -ENOENT);
}

static void an_empty_plan_is_not_stored(void **state)
{
	struct fixture *fixture = *state;
	struct plan plan = *fixture->plan;

	plan.n_sites = 0;
	assert_int_equal(plan_store(fixture->directory, "python-11", &plan), -EINVAL);
}

static void ignore_path(const char *path)
{
	(void)path;
}

static void the_oldest_plans_go(void **state)
{
	struct fixture *fixture = *state;
	char flavour[16];

	for (unsigned i = 0; i < 70; i++) {
		snprintf(flavour, sizeof(flavour), "f%u", i);
		assert_int_equal(plan_store(fixture->directory, flavour, fixture->plan), 0);
	}
	assert_int_equal(each_file(fixture, ignore_path), 64);
}

static void a_directory_that_cannot_be_made_is_said(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(plan_store("/proc/self/nothing/here", "python-11", fixture->plan),
			 -ENOENT);
	assert_int_equal(plan_store("/proc/version", "python-11", fixture->plan), -ENOTDIR);
}

#define FIXTURE_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		FIXTURE_TEST(what_is_stored_comes_back),
		FIXTURE_TEST(the_directory_is_for_its_owner_only),
		FIXTURE_TEST(what_was_never_stored_is_not_found),
		FIXTURE_TEST(flavours_cannot_lead_out_of_the_directory),
		FIXTURE_TEST(storing_again_replaces_and_leaves_nothing_behind),
		FIXTURE_TEST(a_cache_that_is_cut_off_anywhere_is_not_used),
		FIXTURE_TEST(a_changed_bit_anywhere_is_noticed),
		FIXTURE_TEST(each_field_is_bounded_whatever_the_checksum_says),
		FIXTURE_TEST(a_plan_of_another_image_is_not_used),
		FIXTURE_TEST(a_link_is_not_followed),
		FIXTURE_TEST(an_empty_plan_is_not_stored),
		FIXTURE_TEST(the_oldest_plans_go),
		FIXTURE_TEST(a_directory_that_cannot_be_made_is_said),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
