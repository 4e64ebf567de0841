/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The probes alone, without ledger and report, on one process: events a
 * second, what is lost, and what each program takes by the kernel's own
 * statistics (BPF_ENABLE_STATS) beyond one that does nothing on the same
 * sites.
 *
 *	capture [-p PID] [-s SECONDS] [-n] [-e] [-r RING_BYTES] [-w MILLISECONDS]
 *
 * Without a PID it starts bench/workloads/ten_frames.py.  -n: the C library
 * too.  -e: the empty program only and no statistics, which cost time
 * themselves.  -r and -w: a ring of another size, emptied only so often, to
 * show that what is lost is counted.
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
#include "cpython/interpreter.h"
#include "service/opening.h"

#define POLL_MS 5
#define SECONDS_DEFAULT 4
#define SETTLE_MS 20 /* for programs that were running when they were switched off */
#define TARGET_PYTHON "/usr/bin/python3.11"
#define TARGET_PROGRAM "bench/workloads/ten_frames.py"
#define TARGET_START_MS 1000
/*
 * Averages over short spells, of which the fastest is kept: other load on the
 * machine disturbs, and nothing speeds a program up.
 */
#define SPELL_RUNS_MIN 500

struct arguments {
	pid_t pid; /* 0: start one */
	double seconds;
	bool native;
	bool empty_only;
	size_t ring_bytes; /* 0: the default */
	int wait_ms;	   /* 0: as the ring wakes us */
};

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
	uint64_t objects; /* of them allocations, frees and creations of pymalloc's */
	uint64_t bytes;
	uint64_t stacks;
	uint64_t frames; /* of stacks that were sent */
};

static void take(void *context, const struct wire_header *record, size_t size)
{
	struct seen *seen = context;

	seen->records++;
	seen->bytes += size;
	if (record->kind <= WIRE_CREATE)
		seen->objects++;
	if (record->kind == WIRE_STACK) {
		seen->stacks++;
		seen->frames += ((const struct wire_stack *)record)->n_frames;
	}
}

static int watch(struct capture *capture, const struct arguments *arguments, double seconds,
		 struct spells *spells, struct seen *seen)
{
	struct pollfd poll_fd = {.fd = capture_fd(capture), .events = POLLIN};
	uint64_t end = clock_monotonic_ns() + (uint64_t)(seconds * 1e9);
	int statistics = arguments->empty_only ? -1 : bpf_enable_stats(BPF_STATS_RUN_TIME);
	int r = 0;

	while (r >= 0 && clock_monotonic_ns() < end) {
		if (arguments->wait_ms)
			poll(NULL, 0, arguments->wait_ms);
		else
			poll(&poll_fd, 1, POLL_MS);
		r = capture_consume(capture, take, seen, SIZE_MAX);
		spells_look(spells, capture);
	}
	capture_deactivate(capture);
	poll(NULL, 0, SETTLE_MS);
	if (r >= 0)
		r = capture_consume(capture, take, seen, SIZE_MAX);
	if (statistics >= 0)
		close(statistics);
	return r < 0 ? r : 0;
}

/* A hit of pymalloc's sites or of a creation is one record, or counted as lost. */
static void print_losses(const struct capture_counters *counters, const struct seen *seen)
{
	uint64_t hits = counters->hits[SITE_ALLOC] + counters->hits[SITE_FREE] +
			counters->hits[SITE_FRESH] + counters->hits[SITE_CREATE];
	uint64_t lost = counters->losses[WIRE_LOSS_RING_FULL] +
			counters->losses[WIRE_LOSS_BLOCK_UNREADABLE];

	for (int i = 0; i < WIRE_LOSS_MAX; i++) {
		if (counters->losses[i])
			printf("lost (%s): %llu\n", reason_label((enum reason)i),
			       (unsigned long long)counters->losses[i]);
	}
	printf("of pymalloc's and creations' %llu hits, %llu records came and %llu are counted as "
	       "lost: %s\n",
	       (unsigned long long)hits, (unsigned long long)seen->objects,
	       (unsigned long long)lost, hits == seen->objects + lost ? "all" : "NOT ALL");
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
	print_losses(&counters, seen);
	printf("records            %9llu, %.1f MB a second, %llu stacks of %.1f frames; the "
	       "consumer took %.0f ns each\n",
	       (unsigned long long)seen->records, (double)seen->bytes / 1e6 / elapsed,
	       (unsigned long long)seen->stacks,
	       seen->stacks ? (double)seen->frames / (double)seen->stacks : 0.0,
	       seen->records ? cpu_seconds * 1e9 / (double)seen->records : 0.0);
}

/* Prepares, attaches, watches and prints; ret_best_ns: of the program with the most runs. */
static int measure(const struct capture_options *options, const struct arguments *arguments,
		   double seconds, double nothing_ns, double *ret_best_ns)
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
	fflush(stdout); /* exact.py waits for it */
	cpu = clock_process_cpu_ns();
	capture_activate(capture);
	r = watch(capture, arguments, seconds, &spells, &seen);
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

static int measure_both(struct capture_options *options, const struct arguments *arguments)
{
	double nothing_ns = 0;
	int r;

	options->empty_programs = true;
	r = measure(options, arguments,
		    arguments->empty_only ? arguments->seconds : arguments->seconds / 2, 0,
		    &nothing_ns);
	if (r < 0 || arguments->empty_only)
		return r;
	options->empty_programs = false;
	return measure(options, arguments, arguments->seconds, nothing_ns, &nothing_ns);
}

static int measure_target(pid_t pid, const struct arguments *arguments)
{
	char message[OPENING_MESSAGE_BYTES] = "";
	struct capture_file files[2];
	struct capture_options options = {.pid = pid,
					  .files = files,
					  .native = arguments->native,
					  .ring_bytes = arguments->ring_bytes};
	struct opening *opening = NULL;
	int r;

	r = opening_new(pid, &opening, message);
	if (r == 0)
		r = opening_plan(opening,
				 &(struct opening_plan_options){.native = arguments->native},
				 message);
	if (r == 0)
		r = opening_stack_layout(opening, &options.layout, NULL);
	if (r < 0) {
		fprintf(stderr, "capture: %s: %s\n", message, strerror(-r));
		opening_free(opening);
		return r;
	}
	options.finalizing_address = interpreter_finalizing_address(opening->interpreter);
	files[options.n_files++] = (struct capture_file){opening->python.plan, opening->python.path,
							 opening->python.bias};
	if (opening->libc.plan)
		files[options.n_files++] = (struct capture_file){
			opening->libc.plan, opening->libc.path, opening->libc.bias};
	r = measure_both(&options, arguments);
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

static int parse(int argc, char **argv, struct arguments *ret)
{
	struct arguments arguments = {.seconds = SECONDS_DEFAULT};
	int option;

	while ((option = getopt(argc, argv, "p:s:ner:w:")) >= 0) {
		switch (option) {
		case 'p':
			arguments.pid = (pid_t)strtol(optarg, NULL, 10);
			break;
		case 's':
			arguments.seconds = strtod(optarg, NULL);
			break;
		case 'n':
			arguments.native = true;
			break;
		case 'e':
			arguments.empty_only = true;
			break;
		case 'r':
			arguments.ring_bytes = strtoul(optarg, NULL, 10);
			break;
		case 'w':
			arguments.wait_ms = (int)strtol(optarg, NULL, 10);
			break;
		default:
			return -EINVAL;
		}
	}
	*ret = arguments;
	return optind == argc ? 0 : -EINVAL;
}

int main(int argc, char **argv)
{
	struct arguments arguments;
	pid_t pid;
	int r;

	if (parse(argc, argv, &arguments) < 0) {
		fprintf(stderr, "usage: capture [-p PID] [-s SECONDS] [-n] [-e] [-r RING_BYTES] "
				"[-w MILLISECONDS]\n");
		return 2;
	}
	pid = arguments.pid ? arguments.pid : start_target();
	if (pid <= 0)
		return 1;
	r = measure_target(pid, &arguments);
	if (!arguments.pid) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	return r < 0 ? 1 : 0;
}
