/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Against a child whose memory is known: it inherits what this process lays out before the fork. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "cpython/memory.h"
#include "failing_memory.h"

#define PAGE 4096
#define PIECES 3000 /* more than one batch */

struct fixture {
	pid_t child;
	struct memory *memory;
	uint8_t *touched; /* two pages of known bytes, then one without access */
	uint8_t *untouched; /* anonymous, never written to */
	const uint8_t *file; /* a file's pages, never looked at */
	uint8_t file_content[2 * PAGE];
};

static uint8_t *map(size_t size)
{
	uint8_t *start = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			      0);

	assert_ptr_not_equal(start, MAP_FAILED);
	return start;
}

static void map_file(struct fixture *fixture)
{
	/* Not /tmp, which may be tmpfs, whose absent pages are left alone. */
	char path[] = "./pyleakd-test-XXXXXX";
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	unlink(path);
	for (size_t i = 0; i < sizeof(fixture->file_content); i++)
		fixture->file_content[i] = (uint8_t)(i * 13);
	assert_int_equal(write(fd, fixture->file_content, sizeof(fixture->file_content)),
			 sizeof(fixture->file_content));
	fixture->file = mmap(NULL, sizeof(fixture->file_content), PROT_READ, MAP_PRIVATE, fd, 0);
	assert_ptr_not_equal(fixture->file, MAP_FAILED);
	close(fd);
}

static pid_t start_child(void)
{
	pid_t child = fork();

	assert_true(child >= 0);
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	return child;
}

static int set_up(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));
	struct fault fault;

	fixture->touched = map(3 * PAGE);
	for (size_t i = 0; i < 2 * PAGE; i++)
		fixture->touched[i] = (uint8_t)(i * 7 + 1);
	munmap(fixture->touched + 2 * PAGE, PAGE);
	fixture->untouched = map(16 * PAGE);
	map_file(fixture);
	fixture->child = start_child();
	assert_int_equal(memory_new_process(fixture->child, &fixture->memory, &fault), 0);
	*state = fixture;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;

	kill(fixture->child, SIGKILL);
	waitpid(fixture->child, NULL, 0);
	memory_free(fixture->memory);
	munmap(fixture->touched, 2 * PAGE);
	munmap(fixture->untouched, 16 * PAGE);
	munmap((void *)fixture->file, sizeof(fixture->file_content));
	free(fixture);
	return 0;
}

static void memory_of_another_process_reads_as_it_is(void **state)
{
	struct fixture *fixture = *state;
	uint8_t buffer[5000];
	uint64_t word;
	uint32_t half;

	assert_int_equal(memory_read(fixture->memory, (uint64_t)fixture->touched + 100, buffer,
				     sizeof(buffer), NULL), 0);
	assert_memory_equal(buffer, fixture->touched + 100, sizeof(buffer));
	assert_int_equal(memory_read_u64(fixture->memory, (uint64_t)fixture->touched + 4092, &word,
					 NULL), 0);
	assert_memory_equal(&word, fixture->touched + 4092, sizeof(word));
	assert_int_equal(memory_read_u32(fixture->memory, (uint64_t)fixture->touched, &half, NULL),
			 0);
	assert_memory_equal(&half, fixture->touched, sizeof(half));
	assert_int_equal(memory_statistics(fixture->memory).read_bytes, 5012);
}

static void a_failed_read_gives_the_address_and_no_value(void **state)
{
	struct fixture *fixture = *state;
	uint64_t end = (uint64_t)fixture->touched + 2 * PAGE, word = 42;
	uint8_t buffer[64];
	struct fault fault = { 0 };

	assert_int_equal(memory_read_u64(fixture->memory, end - 4, &word, &fault), -EFAULT);
	assert_int_equal(fault.reason, REASON_NOT_MAPPED);
	assert_int_equal(fault.where, end);
	assert_int_equal(word, 42);
	assert_int_equal(memory_read(fixture->memory, 0, buffer, sizeof(buffer), &fault), -EFAULT);
	assert_int_equal(fault.where, 0);
	assert_int_equal(memory_read(fixture->memory, UINT64_MAX - 8, buffer, sizeof(buffer),
				     &fault), -EFAULT);
	assert_int_equal(memory_read(fixture->memory, 1ULL << 62, buffer, sizeof(buffer), &fault),
			 -EFAULT);
	assert_int_equal(memory_statistics(fixture->memory).failed_reads, 4);
}

static bool is_present(pid_t pid, uint64_t address)
{
	char path[64];
	uint64_t entry = 0;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/pagemap", pid);
	fd = open(path, O_RDONLY);
	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &entry, sizeof(entry), (off_t)(address / PAGE * 8)), 8);
	close(fd);
	return entry >> 63;
}

static void absent_anonymous_memory_is_left_absent(void **state)
{
	struct fixture *fixture = *state;
	uint64_t address = (uint64_t)fixture->untouched + 3 * PAGE, word;
	struct memory_piece piece = { address, &word, sizeof(word), 0 };
	struct fault fault;

	assert_int_equal(memory_read_u64(fixture->memory, address, &word, &fault), -EFAULT);
	assert_int_equal(fault.reason, REASON_NOT_MAPPED);
	memory_read_pieces(fixture->memory, &piece, 1);
	assert_int_equal(piece.error, -EFAULT);
	assert_false(is_present(fixture->child, address));
}

static void absent_pages_of_a_file_are_read(void **state)
{
	struct fixture *fixture = *state;
	uint8_t buffer[2 * PAGE];

	assert_false(is_present(fixture->child, (uint64_t)fixture->file));
	assert_int_equal(memory_read(fixture->memory, (uint64_t)fixture->file, buffer,
				     sizeof(buffer), NULL), 0);
	assert_memory_equal(buffer, fixture->file_content, sizeof(buffer));
}

static void pieces_succeed_and_fail_each_for_itself(void **state)
{
	struct fixture *fixture = *state;
	struct memory_piece *pieces = calloc(PIECES, sizeof(*pieces));
	uint8_t(*buffers)[16] = calloc(PIECES, sizeof(*buffers));

	for (size_t i = 0; i < PIECES; i++) {
		uint64_t good = (uint64_t)fixture->touched + i * 2;
		uint64_t bad = i % 6 == 0 ? 0x1000 : (uint64_t)fixture->untouched + i;

		pieces[i] = (struct memory_piece){ i % 3 ? good : bad, buffers[i], 16, 1 };
	}
	memory_read_pieces(fixture->memory, pieces, PIECES);
	for (size_t i = 0; i < PIECES; i++) {
		assert_int_equal(pieces[i].error, i % 3 ? 0 : -EFAULT);
		if (i % 3)
			assert_memory_equal(buffers[i], fixture->touched + i * 2, 16);
	}
	assert_int_equal(memory_statistics(fixture->memory).failed_reads, PIECES / 3);
	free(buffers);
	free(pieces);
}

static void a_string_ends_before_the_page_that_is_not_there(void **state)
{
	struct fixture *fixture = *state;
	char buffer[PAGE], *end = (char *)fixture->touched + 2 * PAGE;
	struct fault fault;

	/* The child has a copy of its own: this process's is changed before another fork. */
	memcpy(end - 6, "snake", 6);
	memory_free(fixture->memory);
	kill(fixture->child, SIGKILL);
	waitpid(fixture->child, NULL, 0);
	fixture->child = start_child();
	assert_int_equal(memory_new_process(fixture->child, &fixture->memory, NULL), 0);

	assert_int_equal(memory_read_string(fixture->memory, (uint64_t)end - 6, buffer,
					    sizeof(buffer), NULL), 0);
	assert_string_equal(buffer, "snake");
	assert_int_equal(memory_read_string(fixture->memory, (uint64_t)end - 6, buffer, 6, NULL),
			 0);
	assert_int_equal(memory_read_string(fixture->memory, (uint64_t)end - 6, buffer, 5, &fault),
			 -EOVERFLOW);
	assert_int_equal(fault.reason, REASON_TOO_LARGE);
}

static void a_process_that_is_gone_is_no_memory(void **state)
{
	struct fixture *fixture = *state;
	struct memory_piece piece = { (uint64_t)fixture->touched, &(uint64_t){ 0 }, 8, 0 };
	uint64_t word;

	kill(fixture->child, SIGKILL);
	waitpid(fixture->child, NULL, 0);
	assert_int_equal(memory_read_u64(fixture->memory, (uint64_t)fixture->touched, &word, NULL),
			 -ESRCH);
	memory_read_pieces(fixture->memory, &piece, 1);
	assert_int_equal(piece.error, -ESRCH);
}

static void after_an_exec_nothing_of_the_new_program_is_read(void **state)
{
	struct fixture *fixture = *state;
	uint64_t word, address = (uint64_t)fixture->touched;
	struct memory *memory;
	int pipe_ends[2];
	char byte;
	pid_t child;

	assert_int_equal(pipe2(pipe_ends, O_CLOEXEC), 0);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		close(pipe_ends[1]);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (read(pipe_ends[0], &byte, 1) == 1)
			execl("/bin/sleep", "sleep", "60", NULL);
		_exit(1);
	}
	assert_int_equal(memory_new_process(child, &memory, NULL), 0);
	assert_int_equal(memory_read_u64(memory, address, &word, NULL), 0);
	close(pipe_ends[0]);
	assert_int_equal(write(pipe_ends[1], "x", 1), 1);
	for (int i = 0; i < 1000 && !memory_read_u64(memory, address, &word, NULL); i++)
		usleep(2000);
	assert_int_equal(memory_read_u64(memory, address, &word, NULL), -ESRCH);
	close(pipe_ends[1]);
	memory_free(memory);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
}

static void no_process_gives_no_memory(void **state)
{
	struct memory *memory = NULL;
	struct fault fault;

	(void)state;
	assert_int_equal(memory_new_process(0x7ffffffe, &memory, &fault), -ESRCH);
	assert_null(memory);
}

struct observed {
	size_t n;
	uint64_t address;
	size_t size;
	int error;
};

static void observe(void *context, uint64_t address, const void *bytes, size_t size, int error)
{
	struct observed *observed = context;

	assert_true((bytes == NULL) == (error < 0));
	*observed = (struct observed){ observed->n + 1, address, size, error };
}

static void the_observer_sees_what_was_read_and_what_failed(void **state)
{
	struct fixture *fixture = *state;
	struct observed observed = { 0 };
	struct memory_piece piece = { (uint64_t)fixture->touched + 8, &(uint64_t){ 0 }, 8, 0 };
	uint32_t half;
	uint64_t word;

	memory_observe(fixture->memory, observe, &observed);
	memory_read_u64(fixture->memory, 0x10, &word, NULL);
	assert_int_equal(observed.n, 1);
	assert_int_equal(observed.address, 0x10);
	assert_int_equal(observed.error, -EFAULT);
	memory_read_u32(fixture->memory, (uint64_t)fixture->touched, &half, NULL);
	assert_int_equal(observed.n, 2);
	assert_int_equal(observed.address, (uint64_t)fixture->touched);
	assert_int_equal(observed.size, 4);
	assert_int_equal(observed.error, 0);
	memory_read_pieces(fixture->memory, &piece, 1);
	assert_int_equal(observed.n, 3);
	memory_observe(fixture->memory, NULL, NULL);
	memory_read_u32(fixture->memory, (uint64_t)fixture->touched, &half, NULL);
	assert_int_equal(observed.n, 3);
}

static void a_source_without_pieces_reads_them_one_by_one(void **state)
{
	struct fixture *fixture = *state;
	struct failing_memory failing = { .inner = fixture->memory, .fail_at = 2 };
	struct memory *memory;
	uint64_t words[3] = { 0 };
	struct memory_piece pieces[3];

	for (size_t i = 0; i < 3; i++)
		pieces[i] = (struct memory_piece){ (uint64_t)fixture->touched + i * 8, &words[i], 8,
						   0 };
	assert_int_equal(failing_memory_new(&failing, &memory), 0);
	memory_read_pieces(memory, pieces, 3);
	assert_int_equal(pieces[0].error, 0);
	assert_int_equal(pieces[1].error, -EFAULT);
	assert_int_equal(pieces[2].error, 0);
	assert_memory_equal(&words[2], fixture->touched + 16, 8);
	assert_true(failing_visited(&failing));
	memory_free(memory);
}

int main(void)
{
#define WITH_CHILD(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		WITH_CHILD(memory_of_another_process_reads_as_it_is),
		WITH_CHILD(a_failed_read_gives_the_address_and_no_value),
		WITH_CHILD(absent_anonymous_memory_is_left_absent),
		WITH_CHILD(absent_pages_of_a_file_are_read),
		WITH_CHILD(pieces_succeed_and_fail_each_for_itself),
		WITH_CHILD(a_string_ends_before_the_page_that_is_not_there),
		WITH_CHILD(a_process_that_is_gone_is_no_memory),
		WITH_CHILD(the_observer_sees_what_was_read_and_what_failed),
		WITH_CHILD(a_source_without_pieces_reads_them_one_by_one),
		WITH_CHILD(after_an_exec_nothing_of_the_new_program_is_read),
		cmocka_unit_test(no_process_gives_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
