/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cpython/liveness.h"
#include "cpython/liveness_private.h"
#include "failing_memory.h"
#include "opened.h"

#define MAX_TYPES 10000
#define LOOKS_MAX 40000
#define ANSWERS "lcdrpzu" /* by enum liveness_answer */

struct target {
	struct child child;
	struct live live;
	struct interpreter *interpreter;
	struct type_cache *types;
	struct liveness *liveness;
	struct glibc *glibc; /* NULL: it runs with another C library */
	char (*kinds)[24];
	struct liveness_look *looks;
	size_t n;
};

/* The C library that the process has loaded; false: it is none of glibc's. */
static bool libc_open(pid_t pid, struct image **ret, uint64_t *ret_bias)
{
	_cleanup_fclose_ FILE *maps = NULL;
	char path[64], line[8192], name[4096];

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	maps = fopen(path, "re");
	while (maps && fgets(line, sizeof(line), maps)) {
		_cleanup_close_ int fd = -1;
		uint64_t start, end, offset;

		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %*s %" SCNx64 " %*s %*s %4095s", &start,
			   &end, &offset, name) < 4 ||
		    offset || (!strstr(name, "/libc.so") && !strstr(name, "/libc-2.")))
			continue;
		fd = live_open_file(pid, start, end, name);
		*ret_bias = start;
		return fd >= 0 && image_new(fd, ret, NULL) == 0;
	}
	return false;
}

static void glibc_start(struct target *target)
{
	struct image *image;
	uint64_t bias;

	target->glibc = NULL;
	if (!libc_open(target->child.pid, &image, &bias))
		return;
	assert_int_equal(glibc_new(target->live.memory, image, bias, &target->glibc, NULL), 0);
	image_free(image);
	liveness_set_glibc(target->liveness, target->glibc);
}

static void target_start(struct target *target, const char *command)
{
	opened_start(&target->child, &target->live, &target->interpreter, command, "liveness.py",
		     -1);
	assert_int_equal(type_cache_new(target->interpreter, MAX_TYPES, &target->types), 0);
	assert_int_equal(liveness_new(target->interpreter, target->types, &target->liveness), 0);
	glibc_start(target);
	target->kinds = calloc(LOOKS_MAX, sizeof(*target->kinds));
	target->looks = calloc(LOOKS_MAX, sizeof(*target->looks));
	assert_non_null(target->kinds);
	assert_non_null(target->looks);
	target->n = 0;
}

static void target_stop(struct target *target)
{
	liveness_free(target->liveness);
	glibc_free(target->glibc);
	type_cache_free(target->types);
	opened_stop(&target->child, &target->live, target->interpreter);
	free(target->kinds);
	free(target->looks);
}

/* Takes the objects that the child tells of. */
static void target_make(struct target *target, const char *command)
{
	target->n = 0;
	for (child_ask(&target->child, command); target->child.line[0];
	     child_hear(&target->child)) {
		struct liveness_look *look = &target->looks[target->n];

		assert_true(target->n < LOOKS_MAX);
		assert_int_equal(sscanf(target->child.line, "%lu %lu %23s", &look->address,
					&look->type, target->kinds[target->n]),
				 3);
		target->n++;
	}
}

static void target_look(struct target *target)
{
	struct fault fault = {0};

	if (liveness_look(target->liveness, target->looks, target->n, &fault) != 0)
		fail_msg("%s: %s", reason_sentence(fault.reason), fault.field);
}

static void check_all_live(const struct target *target, const char *name)
{
	for (size_t i = 0; i < target->n; i++) {
		const struct liveness_look *look = &target->looks[i];

		if (look->answer != LIVENESS_LIVE || !look->has_fingerprint)
			fail_msg("%s: a %s at %lx: %c", name, target->kinds[i], look->address,
				 ANSWERS[look->answer]);
		assert_true(look->block && look->block <= look->address);
		if (look->size_class != LIVENESS_NO_CLASS)
			assert_int_equal(look->size_bytes, (look->size_class + 1) * 16);
		else
			assert_true(look->size_bytes > 512);
		assert_true(look->address < look->block + look->size_bytes);
	}
}

/* Reads what each may be by now; allowed[i] belongs to looks[i], which come in the same order. */
static void target_again(struct target *target, char (*allowed)[8])
{
	size_t n = 0;

	for (child_ask(&target->child, "again"); target->child.line[0];
	     child_hear(&target->child)) {
		uint64_t address;

		assert_true(n < target->n);
		assert_int_equal(sscanf(target->child.line, "%lu %7s", &address, allowed[n]), 2);
		assert_int_equal(address, target->looks[n].address);
		n++;
	}
	assert_int_equal(n, target->n);
}

static void check_fates(const char *name, const char *command)
{
	char(*allowed)[8] = calloc(LOOKS_MAX, sizeof(*allowed));
	size_t seen[LIVENESS_UNKNOWN + 1] = {0}, wrong = 0, by_chance = 0, n_chance;
	struct target target;

	assert_non_null(allowed);
	target_start(&target, command);
	target_make(&target, "make");
	assert_true(target.n > 1000);
	target_look(&target);
	check_all_live(&target, name);
	target_look(&target);
	check_all_live(&target, name);
	target_again(&target, allowed);
	n_chance = target.n / 200;
	target_look(&target);
	for (size_t i = 0; i < target.n; i++) {
		uint8_t answer = target.looks[i].answer;

		seen[answer]++;
		if (strchr(allowed[i], ANSWERS[answer]))
			continue;
		/* What holds pointers only may point at other things at the same addresses. */
		if (answer == LIVENESS_LIVE && strchr(allowed[i], 'd') && ++by_chance < n_chance)
			continue;
		/* A chunk that was given back may lie in what is no arena's any more. */
		if (answer == LIVENESS_UNKNOWN && strchr(allowed[i], 'd') &&
		    strncmp(target.kinds[i], "big", 3) == 0 && ++by_chance < n_chance)
			continue;
		wrong++;
		print_error("%s: a %s at %lx: %c, not one of %s\n", name, target.kinds[i],
			    target.looks[i].address, ANSWERS[answer], allowed[i]);
	}
	assert_int_equal(wrong, 0);
	print_message("%s: %zu live, %zu changed, %zu dead, %zu reused, %zu parked\n", name,
		      seen[LIVENESS_LIVE], seen[LIVENESS_CHANGED], seen[LIVENESS_DEAD],
		      seen[LIVENESS_REUSED], seen[LIVENESS_PARKED]);
	assert_true(seen[LIVENESS_LIVE] && seen[LIVENESS_CHANGED] && seen[LIVENESS_DEAD]);
	target_stop(&target);
	free(allowed);
}

static void an_object_lives_until_it_is_dead_or_another_ones(void **state)
{
	(void)state;
	for_each_interpreter(check_fates);
}

/* What an allocator takes for so many bytes. */
static uint64_t taken_bytes(uint64_t bytes)
{
	return bytes <= 512 ? (bytes + 15) / 16 * 16 : (bytes + 8 + 15) / 16 * 16 - 8;
}

static void check_sizes(const char *name, const char *command)
{
	struct target target;

	target_start(&target, command);
	target_make(&target, "sizes");
	target_look(&target);
	for (size_t i = 0; i < target.n; i++) {
		const struct liveness_look *look = &target.looks[i];
		uint64_t wanted = strtoull(target.kinds[i], NULL, 10);

		assert_int_equal(look->answer, LIVENESS_LIVE);
		assert_false(look->buffers_unread);
		assert_int_equal(look->n_buffers, 1);
		/* A remainder too small for a chunk stays; a mapping of its own takes whole pages.
		 */
		if (look->buffer_sizes[0] - taken_bytes(wanted) <= (wanted > 512 ? 16 : 0) ||
		    (wanted > 100000 && look->buffer_sizes[0] - wanted < 4096))
			continue;
		fail_msg("%s: a buffer of %lu is said to take %lu", name, wanted,
			 look->buffer_sizes[0]);
	}
	print_message("%s: %zu\n", name, target.n);
	target_stop(&target);
}

static void buffers_have_the_sizes_that_their_allocators_gave(void **state)
{
	(void)state;
	for_each_interpreter(check_sizes);
}

static void check_zombies(const char *name, const char *command)
{
	struct target target;

	target_start(&target, command);
	target_make(&target, "zombies");
	target_look(&target);
	for (size_t i = 0; i < target.n; i++) {
		assert_int_equal(target.looks[i].answer, LIVENESS_ZOMBIE);
		assert_true(target.looks[i].block && target.looks[i].size_bytes);
	}
	print_message("%s: %zu\n", name, target.n);
	target_stop(&target);
}

static void a_dead_object_whose_block_was_never_given_back_is_a_zombie(void **state)
{
	(void)state;
	for_each_interpreter(check_zombies);
}

struct torture {
	struct failing_memory failing;
	struct memory *memory;
	struct type_cache *types;
	struct liveness *liveness;
};

static void torture_start(struct torture *torture, const struct target *target,
			  const struct interpreter_arenas *states, size_t n_states,
			  unsigned long fail_at, bool from_there_on)
{
	const struct layout *layout = interpreter_layout(target->interpreter);

	torture->failing = (struct failing_memory){
		.inner = target->live.memory,
		.fail_at = fail_at,
		.from_there_on = from_there_on,
	};
	assert_int_equal(failing_memory_new(&torture->failing, &torture->memory), 0);
	assert_int_equal(type_cache_new_in(torture->memory, layout, 0, MAX_TYPES, &torture->types),
			 0);
	assert_int_equal(liveness_new_in(torture->memory, layout, states, n_states, torture->types,
					 &torture->liveness),
			 0);
}

static void torture_end(struct torture *torture)
{
	liveness_free(torture->liveness);
	type_cache_free(torture->types);
	memory_free(torture->memory);
}

#define TORTURED 30 /* objects */

/* Returns whether the fault was met. What is not known for want of a read is never dead or another.
 */
static bool torture_once(const struct target *target, const struct liveness_look *looks,
			 const struct interpreter_arenas *states, size_t n_states,
			 unsigned long fail_at, bool from_there_on)
{
	struct liveness_look mine[TORTURED];
	struct torture torture;
	bool visited;

	memcpy(mine, looks, sizeof(mine));
	torture_start(&torture, target, states, n_states, fail_at, from_there_on);
	if (liveness_look(torture.liveness, mine, TORTURED, NULL) == 0)
		for (size_t i = 0; i < TORTURED; i++)
			if (mine[i].answer != looks[i].answer && mine[i].answer != LIVENESS_UNKNOWN)
				fail_msg("read %lu failed: %c for %c", fail_at,
					 ANSWERS[mine[i].answer], ANSWERS[looks[i].answer]);
	visited = failing_visited(&torture.failing);
	torture_end(&torture);
	return visited;
}

static void check_torture(const char *name, const char *command)
{
	_cleanup_free_ struct interpreter_arenas *states = NULL;
	struct liveness_look looks[TORTURED];
	struct target target;
	unsigned long n = 1;
	size_t n_states;

	if (strncmp(name, "pyenv", 5) == 0) /* of versions that others are of as well */
		return;
	target_start(&target, command);
	target_make(&target, "make");
	target_look(&target);
	for (size_t i = 0; i < TORTURED; i++)
		looks[i] = target.looks[i * (target.n / TORTURED)];
	assert_int_equal(interpreter_arenas(target.interpreter, &states, &n_states, NULL), 0);
	while (torture_once(&target, looks, states, n_states, n, n % 2))
		n++;
	print_message("%s: %lu reads\n", name, n - 1);
	assert_true(n > TORTURED);
	target_stop(&target);
}

static void a_read_that_fails_makes_nothing_dead(void **state)
{
	(void)state;
	for_each_interpreter(check_torture);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_object_lives_until_it_is_dead_or_another_ones),
		cmocka_unit_test(buffers_have_the_sizes_that_their_allocators_gave),
		cmocka_unit_test(a_dead_object_whose_block_was_never_given_back_is_a_zombie),
		cmocka_unit_test(a_read_that_fails_makes_nothing_dead),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
