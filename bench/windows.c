/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * What it takes to put groups of creation sites into a busy process and out
 * again, by how many there are; and how many hits come while that goes on,
 * when some of the sites are in and others are not.
 *
 *	windows [PID [ROUNDS [MILLISECONDS]]]
 *
 * Without a PID it starts bench/workloads/handler.py.
 */
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "base/clock.h"
#include "capture/windows.h"
#include "service/opening.h"

#define TARGET_PYTHON "/usr/bin/python3.11"
#define TARGET_PROGRAM "bench/workloads/handler.py"
#define TARGET_START_MS 1000
#define ROUNDS_MAX 1000
#define PAUSE_MS 20
#define RUNS_MIN 500 /* of a program, for a spell to count */

/* What is told of each round, in this order. */
enum column {
	ATTACH_MS,
	ATTACH_CPU_MS,
	DETACH_MS,
	DETACH_CPU_MS,
	HITS_ATTACHING,
	HITS_WINDOW,
	HITS_DETACHING,
	COLUMNS
};

struct rounds {
	double values[COLUMNS][ROUNDS_MAX];
	int n;
};

static int compare(const void *left, const void *right)
{
	double a = *(const double *)left, b = *(const double *)right;

	return a < b ? -1 : a > b;
}

static void print_rounds(struct rounds *rounds, size_t sites)
{
	printf("%5zu", sites);
	for (int i = 0; i < COLUMNS; i++) {
		double *values = rounds->values[i];

		qsort(values, (size_t)rounds->n, sizeof(*values), compare);
		if (i < HITS_ATTACHING)
			printf("  %6.2f (%6.2f)", values[rounds->n / 2], values[rounds->n - 1]);
		else
			printf("  %6.0f (%6.0f)", values[rounds->n / 2], values[rounds->n - 1]);
	}
	printf("\n");
	fflush(stdout);
}

static void drop(void *context, const struct wire_header *record, size_t size)
{
	(void)context;
	(void)record;
	(void)size;
}

static int measure_round(struct capture *capture, int window_ms, struct rounds *rounds)
{
	double *values[COLUMNS];
	struct capture_group_use use;
	struct fault fault = {0};
	uint64_t opened, closing;
	int r;

	for (int i = 0; i < COLUMNS; i++)
		values[i] = &rounds->values[i][rounds->n];
	r = capture_group_open(capture, 0, 0, &fault);
	if (r < 0)
		return r;
	opened = capture_group_hits(capture, 0);
	poll(NULL, 0, window_ms);
	closing = capture_group_hits(capture, 0);
	r = capture_group_close(capture, 0, &use);
	if (r < 0)
		return r;
	*values[ATTACH_MS] = (double)use.attach_ns / 1e6;
	*values[ATTACH_CPU_MS] = (double)use.attach_cpu_ns / 1e6;
	*values[DETACH_MS] = (double)use.detach_ns / 1e6;
	*values[DETACH_CPU_MS] = (double)use.detach_cpu_ns / 1e6;
	*values[HITS_ATTACHING] = (double)opened;
	*values[HITS_WINDOW] = (double)(closing - opened);
	*values[HITS_DETACHING] = (double)(use.hits - closing);
	rounds->n++;
	while (capture_consume(capture, drop, NULL, SIZE_MAX) > 0)
		;
	poll(NULL, 0, PAUSE_MS);
	return 0;
}

/* The hottest of the creation sites first, as they were counted. */
static uint16_t *hot_first(const struct capture *capture, const struct plan *plan, size_t *ret_n)
{
	uint64_t *hits = calloc(plan->n_sites, sizeof(*hits));
	uint16_t *sites = calloc(plan->n_sites, sizeof(*sites));
	size_t n = 0;

	if (!hits || !sites || capture_site_hits(capture, 0, hits, plan->n_sites) < 0)
		exit(1);
	for (size_t i = 0; i < plan->n_sites; i++) {
		size_t at = n;

		if (plan->sites[i].kind != SITE_CREATE)
			continue;
		for (; at > 0 && hits[sites[at - 1]] < hits[i]; at--)
			sites[at] = sites[at - 1];
		sites[at] = (uint16_t)i;
		n++;
	}
	free(hits);
	*ret_n = n;
	return sites;
}

/* Ten groups that share the sites: closed one after the other, and at once. */
#define MANY_GROUPS 10

static int open_many(struct capture *capture, const uint16_t *sites, size_t n_sites)
{
	int r = 0;

	for (unsigned group = 0; group < MANY_GROUPS && r == 0; group++) {
		size_t from = n_sites * group / MANY_GROUPS;
		size_t to = n_sites * (group + 1) / MANY_GROUPS;

		r = capture_group_define(capture, group, 0, sites + from, to - from);
		if (r == 0)
			r = capture_group_open(capture, group, 0, NULL);
	}
	return r;
}

static int measure_many(struct capture *capture, const uint16_t *sites, size_t n_sites,
			int n_rounds)
{
	static double one_by_one[ROUNDS_MAX], at_once[ROUNDS_MAX];

	for (int i = 0; i < 2 * n_rounds; i++) {
		uint64_t start;
		int r = open_many(capture, sites, n_sites);

		if (r < 0)
			return r;
		start = clock_monotonic_ns();
		for (unsigned group = 0; group < MANY_GROUPS && i % 2; group++)
			capture_group_close(capture, group, NULL);
		capture_close_all(capture);
		*(i % 2 ? &one_by_one[i / 2] : &at_once[i / 2]) =
			(double)(clock_monotonic_ns() - start) / 1e6;
		while (capture_consume(capture, drop, NULL, SIZE_MAX) > 0)
			;
	}
	qsort(one_by_one, (size_t)n_rounds, sizeof(double), compare);
	qsort(at_once, (size_t)n_rounds, sizeof(double), compare);
	printf("%d groups out: one by one %.0f ms (%.0f), at once %.0f (%.0f)\n", MANY_GROUPS,
	       one_by_one[n_rounds / 2], one_by_one[n_rounds - 1], at_once[n_rounds / 2],
	       at_once[n_rounds - 1]);
	return 0;
}

static struct capture_program program_of_creations(const struct capture *capture)
{
	struct capture_program programs[CAPTURE_PROGRAMS_MAX];
	int n = capture_programs(capture, programs, CAPTURE_PROGRAMS_MAX);

	for (int i = 0; i < n; i++) {
		if (!strcmp(programs[i].name, "on_create"))
			return programs[i];
	}
	return (struct capture_program){0};
}

/* Nanoseconds of a run by the kernel's statistics, of the best of some spells. */
static double best_run_ns(struct capture *capture, int n_rounds, int window_ms)
{
	double best = INFINITY;

	for (int i = 0; i < n_rounds; i++) {
		struct capture_program before = program_of_creations(capture), after;
		double ns;

		poll(NULL, 0, window_ms);
		after = program_of_creations(capture);
		ns = (double)(after.run_ns - before.run_ns) / (double)(after.runs - before.runs);
		if (after.runs - before.runs > RUNS_MIN && ns < best)
			best = ns;
		while (capture_consume(capture, drop, NULL, SIZE_MAX) > 0)
			;
	}
	return best;
}

static int measure_program(struct capture *capture, int n_rounds, int window_ms)
{
	int statistics = bpf_enable_stats(BPF_STATS_RUN_TIME);
	double recorded, silent;
	int r = capture_group_open(capture, 0, 0, NULL);

	if (r < 0)
		return r;
	recorded = best_run_ns(capture, n_rounds, window_ms);
	capture_group_refill(capture, 0, 1);
	silent = best_run_ns(capture, n_rounds, window_ms);
	printf("on_create: %.0f ns a hit at best, %.0f beyond the limit\n", recorded, silent);
	if (statistics >= 0)
		close(statistics);
	return capture_group_close(capture, 0, NULL);
}

static int measure(struct capture *capture, const struct plan *plan, int n_rounds, int window_ms)
{
	const size_t sizes[] = {1, 10, 100, SIZE_MAX};
	struct capture_priority_use priority;
	static struct rounds rounds;
	size_t n_sites = 0;
	uint16_t *sites = hot_first(capture, plan, &n_sites);
	int r = 0;

	/* Counts them all once, for the order. */
	r = capture_group_define(capture, 0, 0, sites, n_sites);
	if (r == 0)
		r = measure_round(capture, window_ms, &rounds);
	free(sites);
	sites = hot_first(capture, plan, &n_sites);
	printf("medians (maxima) of %d; windows of %d ms on the hottest creation sites\n", n_rounds,
	       window_ms);
	printf("sites  %15s  %15s  %15s  %15s  %15s  %15s  %15s\n", "attach ms", "of it CPU",
	       "detach ms", "of it CPU", "hits: attaching", "in the window", "detaching");
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]) && r == 0; i++) {
		size_t n = sizes[i] < n_sites ? sizes[i] : n_sites;

		r = capture_group_define(capture, 0, 0, sites, n);
		rounds.n = 0;
		while (r == 0 && rounds.n < n_rounds)
			r = measure_round(capture, window_ms, &rounds);
		if (r == 0)
			print_rounds(&rounds, n);
	}
	if (r == 0)
		r = measure_program(capture, n_rounds, window_ms);
	if (r == 0)
		r = measure_many(capture, sites, n_sites, n_rounds);
	free(sites);
	capture_priority_use(capture, &priority);
	printf("priority raised to real time %llu times, by nice %llu, refused %llu, "
	       "given back early %llu\n",
	       (unsigned long long)priority.real_time, (unsigned long long)priority.nice,
	       (unsigned long long)priority.refused, (unsigned long long)priority.cut_short);
	return r;
}

static int measure_target(pid_t pid, int n_rounds, int window_ms)
{
	char message[OPENING_MESSAGE_BYTES] = "";
	struct capture_file file;
	struct capture_options options = {
		.pid = pid, .files = &file, .n_files = 1, .windows = true};
	struct opening *opening = NULL;
	struct capture *capture = NULL;
	struct fault fault = {0};
	int r;

	r = opening_new(pid, &opening, message);
	if (r == 0)
		r = opening_plan(opening, &(struct opening_plan_options){0}, message);
	if (r == 0)
		r = opening_stack_layout(opening, &options.layout, NULL);
	if (r == 0) {
		file = (struct capture_file){opening->python.plan, opening->python.path,
					     opening->python.bias};
		r = capture_prepare(&options, &capture, &fault);
	}
	if (r == 0)
		r = capture_load(capture, &fault);
	if (r == 0)
		r = capture_attach(capture, &fault);
	if (r == 0)
		r = capture_activate(capture);
	if (r == 0)
		r = measure(capture, opening->python.plan, n_rounds, window_ms);
	if (r < 0)
		fprintf(stderr, "windows: %s%s: %s\n", message,
			fault.reason ? reason_sentence(fault.reason) : "", strerror(-r));
	capture_free(capture);
	opening_free(opening);
	return r;
}

/* Its input stays open, or it would end; its output is nobody's. */
static pid_t start_target(void)
{
	int input[2];
	pid_t pid;

	if (pipe(input) < 0)
		return -1;
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL); /* whatever becomes of us */
		dup2(input[0], STDIN_FILENO);
		dup2(open("/dev/null", O_WRONLY), STDOUT_FILENO);
		execl(TARGET_PYTHON, TARGET_PYTHON, TARGET_PROGRAM, (char *)NULL);
		_exit(127);
	}
	if (pid > 0)
		poll(NULL, 0, TARGET_START_MS);
	return pid;
}

int main(int argc, char **argv)
{
	pid_t pid = argc > 1 ? (pid_t)strtol(argv[1], NULL, 10) : start_target();
	int n_rounds = argc > 2 ? (int)strtol(argv[2], NULL, 10) : 20;
	int window_ms = argc > 3 ? (int)strtol(argv[3], NULL, 10) : 10;
	int r;

	if (pid <= 0 || n_rounds < 1 || n_rounds > ROUNDS_MAX)
		return 2;
	r = measure_target(pid, n_rounds, window_ms);
	if (argc == 1) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	return r < 0 ? 1 : 0;
}
