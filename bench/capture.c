/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The probes alone, without ledger and report, on one process: events a
 * second, what is lost, and what each program takes by the kernel's own
 * statistics (BPF_ENABLE_STATS) beyond one that does nothing on the same
 * sites.
 *
 *	capture [PID [SECONDS [native]]]
 *
 * Without a PID it starts bench/workloads/ten_frames.py.
 */
#include <errno.h>
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
#include "capture/capture.h"
#include "service/opening.h"

#define POLL_MS 5
#define TARGET_PYTHON "/usr/bin/python3.11"
#define TARGET_PROGRAM "bench/workloads/ten_frames.py"
#define TARGET_START_MS 1000
/*
 * Averages over short spells, of which the fastest is kept: other load on the
 * machine disturbs, and nothing speeds a program up.
 */
#define SPELL_RUNS_MIN 500

struct spells {
	struct capture_program last[CAPTURE_PROGRAMS_MAX];
	double best_ns[CAPTURE_PROGRAMS_MAX];
	int n;
};

static void spells_look(struct spells *spells, const struct capture *capture)
{
	struct capture_program now[CAPTURE_PROGRAMS_MAX];

	spells->n = capture_programs(capture, now, CAPTURE_PROGRAMS_MAX);
	for (int i = 0; i < spells->n; i++) {
		uint64_t runs = now[i].runs - spells->last[i].runs;
		double ns = (double)(now[i].run_ns - spells->last[i].run_ns) / (double)runs;

		if (runs < SPELL_RUNS_MIN)
			continue;
		if (spells->best_ns[i] == 0 || ns < spells->best_ns[i])
			spells->best_ns[i] = ns;
		spells->last[i] = now[i];
	}
}

/* nothing_ns: of the empty program; 0: it is what was measured. */
static void spells_print(const struct spells *spells, double nothing_ns)
{
	for (int i = 0; i < spells->n; i++) {
		const struct capture_program *program = &spells->last[i];

		if (!program->runs)
			continue;
		printf("%-18s %9llu runs, %6.1f ns on average, %6.1f at best", program->name,
		       (unsigned long long)program->runs,
		       (double)program->run_ns / (double)program->runs, spells->best_ns[i]);
		if (nothing_ns > 0 && spells->best_ns[i] > 0)
			printf(", %6.1f of them beyond the empty program",
			       spells->best_ns[i] - nothing_ns);
		printf("\n");
	}
}

struct seen {
	uint64_t records;
	uint64_t bytes;
	uint64_t stacks;
	uint64_t frames; /* of stacks that were sent */
};

static void take(void *context, const struct wire_header *record, size_t size)
{
	struct seen *seen = context;

	seen->records++;
	seen->bytes += size;
	if (record->kind == WIRE_STACK) {
		seen->stacks++;
		seen->frames += ((const struct wire_stack *)record)->n_frames;
	}
}

static int watch(struct capture *capture, double seconds, struct spells *spells, struct seen *seen)
{
	struct pollfd poll_fd = {.fd = capture_fd(capture), .events = POLLIN};
	uint64_t end = clock_monotonic_ns() + (uint64_t)(seconds * 1e9);
	int statistics = bpf_enable_stats(BPF_STATS_RUN_TIME);
	int r = 0;

	while (r >= 0 && clock_monotonic_ns() < end) {
		poll(&poll_fd, 1, POLL_MS);
		r = capture_consume(capture, take, seen, SIZE_MAX);
		spells_look(spells, capture);
	}
	capture_deactivate(capture);
	if (r >= 0)
		r = capture_consume(capture, take, seen, SIZE_MAX);
	if (statistics >= 0)
		close(statistics);
	return r < 0 ? r : 0;
}

static void print_counters(const struct capture *capture, const struct seen *seen, double elapsed,
			   double cpu_seconds)
{
	struct capture_counters counters;

	if (capture_counters(capture, &counters) < 0)
		return;
	for (int i = 0; i < SITE_KINDS; i++) {
		if (counters.hits[i])
			printf("sites of kind %-2d    %9llu hits, %.0f a second\n", i,
			       (unsigned long long)counters.hits[i],
			       (double)counters.hits[i] / elapsed);
	}
	for (int i = 0; i < WIRE_LOSS_MAX; i++) {
		if (counters.losses[i])
			printf("lost (%s): %llu\n", reason_label((enum reason)i),
			       (unsigned long long)counters.losses[i]);
	}
	printf("records            %9llu, %.1f MB a second, %llu stacks of %.1f frames; the "
	       "consumer took %.0f ns each\n",
	       (unsigned long long)seen->records, (double)seen->bytes / 1e6 / elapsed,
	       (unsigned long long)seen->stacks,
	       seen->stacks ? (double)seen->frames / (double)seen->stacks : 0.0,
	       seen->records ? cpu_seconds * 1e9 / (double)seen->records : 0.0);
}

/* Prepares, attaches, watches and prints; ret_best_ns: of the program with the most runs. */
static int measure(const struct capture_options *options, double seconds, double nothing_ns,
		   double *ret_best_ns)
{
	struct capture *capture = NULL;
	struct fault fault = {0};
	struct spells spells = {0};
	struct seen seen = {0};
	uint64_t start = clock_monotonic_ns(), loaded, attached, cpu;
	int r;

	r = capture_prepare(options, &capture, &fault);
	if (r == 0)
		r = capture_load(capture, &fault);
	loaded = clock_monotonic_ns();
	if (r == 0)
		r = capture_attach(capture, &fault);
	attached = clock_monotonic_ns();
	if (r < 0) {
		fprintf(stderr, "capture: %s (%s): %s\n", reason_sentence(fault.reason),
			fault.field ? fault.field : "", strerror(-r));
		capture_free(capture);
		return r;
	}
	printf("%zu sites, %llu KiB of the target's text; prepared and loaded in %.0f ms, "
	       "attached in %.1f\n",
	       capture_attached_sites(capture),
	       (unsigned long long)capture_cost_bytes(capture) >> 10,
	       (double)(loaded - start) / 1e6, (double)(attached - loaded) / 1e6);
	cpu = clock_process_cpu_ns();
	capture_activate(capture);
	r = watch(capture, seconds, &spells, &seen);
	cpu = clock_process_cpu_ns() - cpu;
	spells_print(&spells, nothing_ns);
	if (!options->empty_programs)
		print_counters(capture, &seen, seconds, (double)cpu / 1e9);
	for (int i = 0; i < spells.n; i++) {
		if (spells.last[i].runs && !strcmp(spells.last[i].name, "on_nothing"))
			*ret_best_ns = spells.best_ns[i];
	}
	start = clock_monotonic_ns();
	capture_detach(capture);
	printf("detached in %.0f ms\n", (double)(clock_monotonic_ns() - start) / 1e6);
	capture_free(capture);
	return r;
}

static int measure_target(pid_t pid, double seconds, bool native)
{
	char message[OPENING_MESSAGE_BYTES] = "";
	struct capture_file files[2];
	struct capture_options options = {.pid = pid, .files = files, .native = native};
	struct opening *opening = NULL;
	double nothing_ns = 0;
	int r;

	r = opening_new(pid, &opening, message);
	if (r == 0)
		r = opening_plan(opening, native, NULL, message);
	if (r == 0)
		r = opening_stack_layout(opening, &options.layout, NULL);
	if (r < 0) {
		fprintf(stderr, "capture: %s: %s\n", message, strerror(-r));
		opening_free(opening);
		return r;
	}
	files[options.n_files++] = (struct capture_file){opening->python.plan, opening->python.path,
							 opening->python.bias};
	if (opening->libc.plan)
		files[options.n_files++] = (struct capture_file){
			opening->libc.plan, opening->libc.path, opening->libc.bias};
	options.empty_programs = true;
	r = measure(&options, seconds / 2, 0, &nothing_ns);
	options.empty_programs = false;
	if (r == 0)
		r = measure(&options, seconds, nothing_ns, &nothing_ns);
	opening_free(opening);
	return r;
}

static pid_t start_target(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL); /* whatever becomes of us */
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
	double seconds = argc > 2 ? strtod(argv[2], NULL) : 4;
	int r;

	if (pid <= 0)
		return 2;
	r = measure_target(pid, seconds, argc > 3 && !strcmp(argv[3], "native"));
	if (argc == 1) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	return r < 0 ? 1 : 0;
}
