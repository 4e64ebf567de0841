/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "target/process.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/text.h"
#include "target/proc.h"

#define STAT_BYTES_MAX 4096
#define CHILDREN_BYTES_MAX (1U << 20)
#define PIDS_MAX (4U << 20)	/* PID_MAX_LIMIT of include/linux/threads.h */
#define KTHREAD_FLAG 0x00200000 /* PF_KTHREAD of include/linux/sched.h */
#define EXITING_FLAG 0x00000004 /* PF_EXITING */

/* The fields behind the name, from "state" (field 3, index 0) to "starttime" (field 22). */
enum { STAT_PARENT = 1, STAT_FLAGS = 6, STAT_THREADS = 17, STAT_START = 19, STAT_FIELDS = 20 };

/* Numbers from index 1 on; those with a sign are not needed and count as 0. */
static int scan_stat_fields(const char *at, const char *end, uint64_t fields[static STAT_FIELDS])
{
	for (size_t i = 1; i < STAT_FIELDS; i++) {
		fields[i] = 0;
		if (at == end || *at++ != ' ')
			return -EBADMSG;
		if (at < end && *at == '-')
			at++;
		if (!scan_decimal(&at, end, &fields[i]))
			return -EBADMSG;
	}
	return 0;
}

/*
 * "PID (name) S ppid …": the name may hold blanks, parentheses and newlines, so
 * it ends at the last parenthesis: no field behind it has one.
 */
int process_stat_parse(const char *text, size_t size, struct process_stat *ret)
{
	const char *open = memchr(text, '(', size);
	const char *close = memrchr(text, ')', size);
	struct process_stat stat = {0};
	uint64_t fields[STAT_FIELDS];
	size_t length;

	if (!open || !close || close < open || text + size - close < 3 || close[1] != ' ')
		return -EBADMSG;
	if (scan_stat_fields(close + 3, text + size, fields) < 0)
		return -EBADMSG;
	length = (size_t)(close - open - 1);
	if (length >= sizeof(stat.name))
		length = sizeof(stat.name) - 1;
	memcpy(stat.name, open + 1, length);
	stat.state = close[2];
	stat.parent = (pid_t)fields[STAT_PARENT];
	stat.flags = (uint32_t)fields[STAT_FLAGS];
	stat.n_threads = (uint32_t)fields[STAT_THREADS];
	stat.start_ticks = fields[STAT_START];
	*ret = stat;
	return 0;
}

int process_stat(pid_t pid, struct process_stat *ret)
{
	_cleanup_free_ char *text = NULL;
	size_t size;
	int r = proc_read(pid, "stat", STAT_BYTES_MAX, &text, &size);

	if (r < 0)
		return r;
	return process_stat_parse(text, size, ret);
}

int process_identify(pid_t pid, struct process_id *ret)
{
	struct process_stat stat;
	int r;

	if (pid <= 0)
		return -ESRCH;
	r = process_stat(pid, &stat);
	if (r < 0)
		return r;
	*ret = (struct process_id){.pid = pid, .start_ticks = stat.start_ticks};
	return 0;
}

static bool state_is_dead(char state)
{
	return state == 'Z' || state == 'X' || state == 'x';
}

bool process_is_alive(const struct process_id *id)
{
	struct process_stat stat;

	if (process_stat(id->pid, &stat) < 0 || stat.start_ticks != id->start_ticks)
		return false;
	/* A first thread that has ended stays as a zombie, counted, until the last one ends. */
	return !state_is_dead(stat.state) || stat.n_threads > 1;
}

bool process_is_kernel_thread(const struct process_stat *stat)
{
	return stat->flags & KTHREAD_FLAG;
}

bool process_is_exiting(const struct process_stat *stat)
{
	return stat->flags & EXITING_FLAG;
}

int process_started(const struct process_id *id, double *ret_seconds)
{
	double boot_seconds = (double)(clock_realtime_ns() - clock_boottime_ns()) / 1e9;
	long ticks_per_second = sysconf(_SC_CLK_TCK);

	if (ticks_per_second <= 0)
		return -EINVAL;
	*ret_seconds = boot_seconds + (double)id->start_ticks / (double)ticks_per_second;
	return 0;
}

/* The ids of an "NSpid:" line; how many. */
static size_t scan_namespace_ids(const char *status, pid_t ret[static PROCESS_NAMESPACES_MAX])
{
	const char *at = proc_field(status, "NSpid");
	size_t n = 0;
	uint64_t id;

	while (at && n < PROCESS_NAMESPACES_MAX && scan_decimal(&at, at + strlen(at), &id)) {
		ret[n++] = (pid_t)id;
		at += strspn(at, " \t");
	}
	return n;
}

int process_namespace_ids(pid_t pid, pid_t ret[static PROCESS_NAMESPACES_MAX])
{
	_cleanup_free_ char *status = NULL;
	int r = proc_read(pid, "status", PROC_STATUS_MAX, &status, NULL);

	return r < 0 ? r : (int)scan_namespace_ids(status, ret);
}

static int list_tasks(pid_t pid, pid_t **ret, size_t *ret_n)
{
	char path[PROC_PATH_MAX];

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	return proc_list_ids(path, PROCESS_THREADS_MAX, ret, ret_n);
}

int process_threads(pid_t pid, struct process_thread **ret, size_t *ret_n)
{
	_cleanup_free_ struct process_thread *threads = NULL;
	_cleanup_free_ pid_t *tids = NULL;
	size_t n_tids, n = 0;
	int r;

	r = list_tasks(pid, &tids, &n_tids);
	if (r < 0)
		return r;
	threads = calloc(n_tids + 1, sizeof(*threads));
	if (!threads)
		return -ENOMEM;
	for (size_t i = 0; i < n_tids; i++) {
		_cleanup_free_ char *status = NULL;
		pid_t ids[PROCESS_NAMESPACES_MAX];
		size_t n_ids;

		if (proc_read_task(pid, tids[i], "status", PROC_STATUS_MAX, &status, NULL) < 0)
			continue;
		n_ids = scan_namespace_ids(status, ids);
		if (n_ids > 0)
			threads[n++] = (struct process_thread){tids[i], ids[n_ids - 1]};
	}
	if (n == 0)
		return -ESRCH;
	*ret = TAKE_PTR(threads);
	*ret_n = n;
	return 0;
}

static bool task_is_living(pid_t pid, pid_t tid)
{
	_cleanup_free_ char *text = NULL;
	struct process_stat stat;
	size_t size;

	return proc_read_task(pid, tid, "stat", STAT_BYTES_MAX, &text, &size) == 0 &&
	       process_stat_parse(text, size, &stat) == 0 && !state_is_dead(stat.state);
}

int process_living_thread(pid_t pid, pid_t *ret_tid)
{
	_cleanup_free_ pid_t *tids = NULL;
	size_t n;
	int r;

	if (task_is_living(pid, pid)) {
		*ret_tid = pid;
		return 0;
	}
	r = list_tasks(pid, &tids, &n);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++)
		if (task_is_living(pid, tids[i])) {
			*ret_tid = tids[i];
			return 0;
		}
	return -ESRCH;
}

bool process_leader_is_gone(pid_t pid)
{
	pid_t tid;

	return process_living_thread(pid, &tid) == 0 && tid != pid;
}

struct pid_list {
	pid_t *pids;
	size_t n;
};

static int add_child(struct pid_list *list, uint64_t child)
{
	if (list->n == PROCESS_CHILDREN_MAX || child == 0 || child > INT_MAX)
		return -E2BIG;
	list->pids[list->n++] = (pid_t)child;
	return 0;
}

/* "12 13 14 " */
static int add_children_of_task(struct pid_list *list, pid_t pid, pid_t tid)
{
	_cleanup_free_ char *text = NULL;
	const char *at, *end;
	uint64_t child;
	size_t size;
	int r = proc_read_task(pid, tid, "children", CHILDREN_BYTES_MAX, &text, &size);

	if (r < 0)
		return r;
	for (at = text, end = text + size; scan_decimal(&at, end, &child);
	     at += strspn(at, " \n")) {
		r = add_child(list, child);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Each thread has its own children; one that ended meanwhile handed them on. */
static int children_by_tasks(struct pid_list *list, pid_t pid)
{
	_cleanup_free_ pid_t *tids = NULL;
	size_t n;
	int r = list_tasks(pid, &tids, &n);

	for (size_t i = 0; r == 0 && i < n; i++) {
		r = add_children_of_task(list, pid, tids[i]);
		if (r == -ESRCH && tids[i] != pid)
			r = 0;
	}
	return r;
}

/* For kernels without CONFIG_PROC_CHILDREN. */
static int children_by_parents(struct pid_list *list, pid_t pid)
{
	_cleanup_free_ pid_t *pids = NULL;
	size_t n;
	int r = proc_list_ids("/proc", PIDS_MAX, &pids, &n);

	for (size_t i = 0; r == 0 && i < n; i++) {
		struct process_stat stat;

		if (process_stat(pids[i], &stat) == 0 && stat.parent == pid)
			r = add_child(list, (uint64_t)pids[i]);
	}
	return r;
}

static int compare_pids(const void *a, const void *b)
{
	const pid_t *left = a, *right = b;

	return (*left > *right) - (*left < *right);
}

int process_children(pid_t pid, pid_t **ret, size_t *ret_n)
{
	_cleanup_free_ pid_t *pids = calloc(PROCESS_CHILDREN_MAX, sizeof(*pids));
	struct pid_list list = {.pids = pids};
	struct process_id id;
	int r;

	if (!pids)
		return -ENOMEM;
	r = process_identify(pid, &id);
	if (r < 0)
		return r;
	if (children_by_tasks(&list, pid) == -ESRCH) {
		list.n = 0;
		r = children_by_parents(&list, pid);
		if (r < 0)
			return r;
	}
	qsort(pids, list.n, sizeof(*pids), compare_pids);
	*ret = TAKE_PTR(pids);
	*ret_n = list.n;
	return 0;
}

int process_memory(pid_t pid, struct process_memory *ret)
{
	_cleanup_free_ char *status = NULL;
	struct process_memory memory = {0};
	pid_t tid;
	int r = process_living_thread(pid, &tid);

	if (r < 0)
		return r;
	r = proc_read_task(pid, tid, "status", PROC_STATUS_MAX, &status, NULL);
	if (r < 0)
		return r;
	if (!proc_field_u64(status, "VmRSS", &memory.resident_bytes))
		return -ESRCH; /* a kernel thread, or exiting */
	/* VmSwap is absent without CONFIG_SWAP: then nothing is swapped out. */
	proc_field_u64(status, "RssAnon", &memory.anonymous_bytes);
	proc_field_u64(status, "RssFile", &memory.file_bytes);
	proc_field_u64(status, "RssShmem", &memory.shared_bytes);
	proc_field_u64(status, "VmSwap", &memory.swapped_bytes);
	*ret = memory;
	return 0;
}

int process_cpu_ns(pid_t pid, uint64_t *ret)
{
	struct timespec time;
	clockid_t clock;
	int r = clock_getcpuclockid(pid, &clock);

	if (r != 0)
		return -r;
	if (clock_gettime(clock, &time) < 0)
		return -errno;
	*ret = (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
	return 0;
}

int process_has_seccomp_filter(pid_t pid, bool *ret)
{
	const uint64_t mode_filter = 2; /* SECCOMP_MODE_FILTER of linux/seccomp.h */
	_cleanup_free_ pid_t *tids = NULL;
	bool found = false;
	size_t n;
	int r = list_tasks(pid, &tids, &n);

	if (r < 0)
		return r;
	for (size_t i = 0; i < n && !found; i++) {
		_cleanup_free_ char *status = NULL;
		uint64_t mode;

		if (proc_read_task(pid, tids[i], "status", PROC_STATUS_MAX, &status, NULL) == 0)
			found = proc_field_u64(status, "Seccomp", &mode) && mode == mode_filter;
	}
	*ret = found;
	return 0;
}

static int namespace_of(const char *pid, const char *kind, char *ret, size_t size)
{
	char path[PROC_PATH_MAX];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%s/ns/%s", pid, kind);
	n = readlink(path, ret, size - 1);
	if (n < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	ret[n] = '\0';
	return 0;
}

int process_in_other_namespace(pid_t pid, const char *kind, bool *ret)
{
	char ours[64], theirs[64], number[TEXT_NUMBER_MAX];
	int r;

	snprintf(number, sizeof(number), "%d", pid);
	r = namespace_of(number, kind, theirs, sizeof(theirs));
	if (r < 0)
		return r;
	r = namespace_of("self", kind, ours, sizeof(ours));
	if (r < 0)
		return r;
	*ret = strcmp(ours, theirs) != 0;
	return 0;
}
