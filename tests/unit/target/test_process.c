/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "target/maps.h"
#include "target/process.h"

#define NO_SUCH_PID 0x3fffffff

DEFINE_CLEANUP(struct maps *, maps_free)

static void a_stat_line_is_read_whatever_the_name_is(void **state)
{
	static const char *const names[] = { "cat", "a b",	 "x) S 1 2 3", "((",
					     "))",  "new\nline", "",		"12 (y) Z" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		struct process_stat stat;
		char text[512];
		int n = snprintf(text, sizeof(text),
				 "42 (%s) S 7 42 42 0 -1 2097152 1 2 3 4 5 6 7 8 "
				 "20 -5 3 0 98765 1 2",
				 names[i]);

		assert_int_equal(process_stat_parse(text, (size_t)n, &stat), 0);
		assert_string_equal(stat.name, names[i]);
		assert_int_equal(stat.state, 'S');
		assert_int_equal(stat.parent, 7);
		assert_int_equal(stat.n_threads, 3);
		assert_int_equal(stat.start_ticks, 98765);
		assert_true(process_is_kernel_thread(&stat));
	}
}

static void what_is_no_stat_line_is_refused(void **state)
{
	static const char *const texts[] = {
		"",
		"42",
		"42 (cat",
		"42 cat) S 7",
		"42 )cat( S 7 42 42 0 -1 0 1 2 3 4 5 6 7 8 20 0 3 0 98765",
		"42 (cat) S",
		"42 (cat)",
		"42 (cat) S 7 42 42 0 -1 0 1 2 3 4 5 6 7 8 20 0 3 0",
		"42 (cat) S 7 42 42 0 -1 0 1 2 3 4 5 6 7 8 20 0 3 0 ",
		"42 (cat) S 7 x 42 0 -1 0 1 2 3 4 5 6 7 8 20 0 3 0 98765",
		"42 (cat) S 7  42 42 0 -1 0 1 2 3 4 5 6 7 8 20 0 3 0 98765",
	};
	struct process_stat stat = { .start_ticks = 5 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		assert_int_equal(process_stat_parse(texts[i], strlen(texts[i]), &stat), -EBADMSG);
	assert_int_equal(stat.start_ticks, 5);
}

static void a_process_is_called_as_people_call_it(void **state)
{
	static const struct {
		const char *cmdline;
		size_t size;
		const char *name;
	} rows[] = {
#define ROW(cmdline, name) { cmdline, sizeof(cmdline), name }
		ROW("/usr/bin/python3\0web.py\0--port\0" "80", "web.py"),
		ROW("python3.11\0/srv/app/web.py", "web.py"),
		ROW("/usr/bin/python3\0-m\0flask\0run", "flask"),
		ROW("/usr/bin/python3\0-mflask\0run", "flask"),
		ROW("/usr/bin/python3\0-Bum\0flask", "flask"),
		ROW("/usr/bin/python3\0-X\0dev\0-W\0error\0/srv/a.py", "a.py"),
		ROW("/usr/bin/python3\0-Xdev\0-Werror\0-u\0a.py", "a.py"),
		ROW("/usr/bin/python3\0--check-hash-based-pycs\0never\0a.py", "a.py"),
		ROW("/usr/bin/python3\0-c\0import x; x.y('/a/b.py')", "python3"),
		ROW("/usr/bin/python3\0-", "python3"),
		ROW("/usr/bin/python3", "python3"),
		ROW("/usr/bin/python3\0-m", "python3"),
		ROW("/usr/bin/python3\0", "python3"),
		ROW("/usr/bin/python3\0/usr/local/bin/gunicorn\0app:app", "gunicorn"),
		ROW("gunicorn: worker [/srv/app]\0\0\0\0", "gunicorn: worker [/srv/app]"),
		ROW("/usr/sbin/uwsgi\0--ini\0/etc/x.ini", "uwsgi"),
		ROW("/opt/my app/run\0x", "run"),
		ROW("", "comm"),
		ROW("\0\0", "comm"),
		ROW("python3\0evil\x1b[2J\n.py", "evil?[2J?.py"),
		ROW("/", "/"),
#undef ROW
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char name[PROCESS_NAME_MAX];

		process_display_name_of(rows[i].cmdline, rows[i].size - 1, "comm", name);
		assert_string_equal(name, rows[i].name);
	}
}

static void a_long_name_is_cut_and_ends_in_nul(void **state)
{
	char cmdline[3000], name[PROCESS_NAME_MAX];

	(void)state;
	memset(cmdline, 'x', sizeof(cmdline));
	cmdline[sizeof(cmdline) - 1] = '\0';
	process_display_name_of(cmdline, sizeof(cmdline) - 1, "comm", name);
	assert_int_equal(strlen(name), PROCESS_NAME_MAX - 1);
}

static void we_ourselves_live_and_nobody_else_has_our_start_time(void **state)
{
	struct process_id id;
	double started;

	(void)state;
	assert_int_equal(process_identify(getpid(), &id), 0);
	assert_true(process_is_alive(&id));
	id.start_ticks++;
	assert_false(process_is_alive(&id));
	id.start_ticks--;
	assert_int_equal(process_started(&id, &started), 0);
	assert_in_range((uint64_t)started, (uint64_t)time(NULL) - 3600, (uint64_t)time(NULL) + 1);
}

static void a_pid_that_nobody_has_is_said_to_be_none(void **state)
{
	struct process_thread *threads = NULL;
	struct process_memory memory;
	char name[PROCESS_NAME_MAX];
	struct process_id id;
	pid_t *children = NULL;
	bool filter;
	pid_t tid;
	size_t n;

	(void)state;
	assert_int_equal(process_identify(NO_SUCH_PID, &id), -ESRCH);
	assert_int_equal(process_identify(0, &id), -ESRCH);
	assert_int_equal(process_identify(-1, &id), -ESRCH);
	assert_int_equal(process_threads(NO_SUCH_PID, &threads, &n), -ESRCH);
	assert_int_equal(process_living_thread(NO_SUCH_PID, &tid), -ESRCH);
	assert_int_equal(process_children(NO_SUCH_PID, &children, &n), -ESRCH);
	assert_int_equal(process_memory(NO_SUCH_PID, &memory), -ESRCH);
	assert_int_equal(process_has_seccomp_filter(NO_SUCH_PID, &filter), -ESRCH);
	assert_int_equal(process_display_name(NO_SUCH_PID, name), -ESRCH);
	assert_int_equal(process_in_other_namespace(NO_SUCH_PID, "mnt", &filter), -ESRCH);
	assert_null(threads);
	assert_null(children);
}

/* Runs body in a child that then waits to be killed; returns when body has run. */
static pid_t start_child(void (*body)(void))
{
	int ready[2];
	char byte;
	pid_t pid;

	assert_int_equal(pipe(ready), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (body)
			body();
		if (write(ready[1], "x", 1) == 1)
			for (;;)
				pause();
		_exit(1);
	}
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	close(ready[1]);
	return pid;
}

static void end_child(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void a_zombie_is_not_alive_although_it_has_its_pid(void **state)
{
	struct process_id id;
	pid_t pid = start_child(NULL);
	siginfo_t info;
	pid_t tid;

	(void)state;
	assert_int_equal(process_identify(pid, &id), 0);
	assert_true(process_is_alive(&id));
	kill(pid, SIGKILL);
	waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT);
	assert_false(process_is_alive(&id));
	assert_int_equal(process_living_thread(pid, &tid), -ESRCH);
	assert_false(process_leader_is_gone(pid));
	waitpid(pid, NULL, 0);
	assert_int_equal(process_identify(pid, &id), -ESRCH);
}

static void *wait_forever(void *unused)
{
	(void)unused;
	for (;;)
		pause();
	return NULL;
}

static int ready_pipe[2];

static void *report_and_wait(void *unused)
{
	char state = 0;

	/* Until the first thread is a zombie. */
	while (state != 'Z') {
		struct process_stat stat;

		if (process_stat(getpid(), &stat) == 0)
			state = stat.state;
		usleep(1000);
	}
	if (write(ready_pipe[1], "x", 1) != 1)
		_exit(1);
	return wait_forever(unused);
}

static pid_t start_without_leader(void)
{
	char byte;
	pid_t pid;

	assert_int_equal(pipe(ready_pipe), 0);
	pid = fork();
	if (pid == 0) {
		pthread_t thread;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		pthread_create(&thread, NULL, report_and_wait, NULL);
		syscall(SYS_exit, 0); /* this thread alone */
	}
	assert_int_equal(read(ready_pipe[0], &byte, 1), 1);
	close(ready_pipe[0]);
	close(ready_pipe[1]);
	return pid;
}

static void a_process_goes_on_without_its_first_thread(void **state)
{
	CLEANUP(maps_free) struct maps *maps = NULL;
	pid_t pid = start_without_leader();
	const struct maps_entry *entries;
	struct process_memory memory;
	char name[PROCESS_NAME_MAX];
	struct process_id id;
	pid_t tid;

	(void)state;
	assert_int_equal(process_identify(pid, &id), 0);
	assert_true(process_is_alive(&id));
	assert_true(process_leader_is_gone(pid));
	assert_int_equal(process_living_thread(pid, &tid), 0);
	assert_true(tid != pid);
	assert_int_equal(process_memory(pid, &memory), 0);
	assert_true(memory.resident_bytes > 0);
	assert_int_equal(process_display_name(pid, name), 0);
	assert_string_equal(name, "test_process");
	assert_int_equal(maps_load(pid, &maps, NULL), 0);
	assert_true(maps_entries(maps, &entries) > 3);
	end_child(pid);
}

static void start_two_threads(void)
{
	pthread_t thread;

	pthread_create(&thread, NULL, wait_forever, NULL);
	pthread_create(&thread, NULL, wait_forever, NULL);
}

static void all_threads_are_listed_with_both_their_ids(void **state)
{
	_cleanup_free_ struct process_thread *threads = NULL;
	pid_t pid = start_child(start_two_threads);
	size_t n;

	(void)state;
	assert_int_equal(process_threads(pid, &threads, &n), 0);
	assert_int_equal(n, 3);
	assert_int_equal(threads[0].tid, pid);
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(threads[i].inner_tid, threads[i].tid);
		assert_true(i == 0 || threads[i].tid > threads[i - 1].tid);
	}
	assert_false(process_leader_is_gone(pid));
	end_child(pid);
}

static void in_a_pid_namespace_the_first_process_is_1(void **state)
{
	_cleanup_free_ struct process_thread *threads = NULL;
	_cleanup_free_ pid_t *children = NULL;
	pid_t ids[PROCESS_NAMESPACES_MAX];
	struct process_id id;
	bool other = false;
	pid_t pid;
	size_t n;

	(void)state;
	pid = (pid_t)syscall(SYS_clone, CLONE_NEWPID | SIGCHLD, NULL, NULL, NULL, NULL);
	if (pid < 0 && errno == EPERM)
		skip();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		wait_forever(NULL);
	}
	assert_int_equal(process_identify(pid, &id), 0);
	assert_int_equal(process_namespace_ids(pid, ids), 2);
	assert_int_equal(ids[0], pid);
	assert_int_equal(ids[1], 1);
	assert_int_equal(process_threads(pid, &threads, &n), 0);
	assert_int_equal(n, 1);
	assert_int_equal(threads[0].tid, pid);
	assert_int_equal(threads[0].inner_tid, 1);
	assert_int_equal(process_in_other_namespace(pid, "pid", &other), 0);
	assert_true(other);
	assert_int_equal(process_in_other_namespace(pid, "net", &other), 0);
	assert_false(other);
	end_child(pid);
}

static void children_are_listed_until_they_are_gone(void **state)
{
	_cleanup_free_ pid_t *children = NULL;
	pid_t first = start_child(NULL), second = start_child(NULL);
	size_t n, found = 0;

	(void)state;
	assert_int_equal(process_children(getpid(), &children, &n), 0);
	for (size_t i = 0; i < n; i++)
		found += children[i] == first || children[i] == second;
	assert_int_equal(found, 2);
	end_child(first);
	end_child(second);
	free(TAKE_PTR(children));
	assert_int_equal(process_children(getpid(), &children, &n), 0);
	for (size_t i = 0; i < n; i++)
		assert_true(children[i] != first && children[i] != second);
}

#define TOUCHED_BYTES (32UL << 20)

static void touch_memory(void)
{
	char *memory = mmap(NULL, TOUCHED_BYTES, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	memset(memory, 1, TOUCHED_BYTES);
}

static void touched_memory_is_resident_and_anonymous(void **state)
{
	pid_t pid = start_child(touch_memory);
	struct process_memory memory;

	(void)state;
	assert_int_equal(process_memory(pid, &memory), 0);
	assert_true(memory.anonymous_bytes + memory.swapped_bytes >= TOUCHED_BYTES - (1 << 20));
	assert_true(memory.resident_bytes + memory.swapped_bytes >= TOUCHED_BYTES - (1 << 20));
	assert_true(memory.anonymous_bytes <= memory.resident_bytes);
	end_child(pid);
}

static void filter_nothing(void)
{
	struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog program = { 1, &allow };

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
		_exit(1);
}

static void a_seccomp_filter_is_seen(void **state)
{
	pid_t filtered = start_child(filter_nothing), free_one = start_child(NULL);
	bool ours = false, filter = false;

	(void)state;
	assert_int_equal(process_has_seccomp_filter(filtered, &filter), 0);
	assert_true(filter);
	/* The whole test may run under a filter. */
	assert_int_equal(process_has_seccomp_filter(getpid(), &ours), 0);
	assert_int_equal(process_has_seccomp_filter(free_one, &filter), 0);
	assert_int_equal(filter, ours);
	end_child(filtered);
	end_child(free_one);
}

static void a_kernel_thread_has_neither_memory_nor_maps(void **state)
{
	struct process_memory memory;
	struct process_stat stat;
	struct maps *maps = NULL;
	const struct maps_entry *entries;

	(void)state;
	/* kthreadd, where the machine's own processes can be seen. */
	if (process_stat(2, &stat) < 0 || strcmp(stat.name, "kthreadd") != 0)
		skip();
	assert_true(process_is_kernel_thread(&stat));
	assert_int_equal(process_memory(2, &memory), -ESRCH);
	if (maps_load(2, &maps, NULL) == 0)
		assert_int_equal(maps_entries(maps, &entries), 0);
	maps_free(maps);
	assert_int_equal(process_stat(getpid(), &stat), 0);
	assert_false(process_is_kernel_thread(&stat));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_stat_line_is_read_whatever_the_name_is),
		cmocka_unit_test(what_is_no_stat_line_is_refused),
		cmocka_unit_test(a_process_is_called_as_people_call_it),
		cmocka_unit_test(a_long_name_is_cut_and_ends_in_nul),
		cmocka_unit_test(we_ourselves_live_and_nobody_else_has_our_start_time),
		cmocka_unit_test(a_pid_that_nobody_has_is_said_to_be_none),
		cmocka_unit_test(a_zombie_is_not_alive_although_it_has_its_pid),
		cmocka_unit_test(a_process_goes_on_without_its_first_thread),
		cmocka_unit_test(all_threads_are_listed_with_both_their_ids),
		cmocka_unit_test(in_a_pid_namespace_the_first_process_is_1),
		cmocka_unit_test(children_are_listed_until_they_are_gone),
		cmocka_unit_test(touched_memory_is_resident_and_anonymous),
		cmocka_unit_test(a_seccomp_filter_is_seen),
		cmocka_unit_test(a_kernel_thread_has_neither_memory_nor_maps),
	};

	return cmocka_run_group_tests_name("target/process", tests, NULL, NULL);
}
