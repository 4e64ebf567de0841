/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * What the probes do to one process, without ledger and report: events a
 * second, what is lost, and what each program takes beyond the trap by the
 * kernel's own statistics (BPF_ENABLE_STATS).
 *
 *	capture PID SECONDS [empty] [native]
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bpf/bpf.h>

#include "base/clock.h"
#include "capture/capture.h"
#include "service/opening.h"

#define POLL_MS 5

struct seen {
	uint64_t by_kind[16];
	uint64_t bytes;
	uint64_t frames; /* of stacks that were sent */
};

static void take(void *context, const struct wire_header *record, size_t size)
{
	struct seen *seen = context;

	seen->by_kind[record->kind & 15]++;
	seen->bytes += size;
	if (record->kind == WIRE_STACK)
		seen->frames += ((const struct wire_stack *)record)->n_frames;
}

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

static void spells_print(const struct spells *spells)
{
	for (int i = 0; i < spells->n; i++) {
		if (spells->last[i].runs)
			printf("program %-18s %10llu runs %7.1f ns, at best %.1f\n",
			       spells->last[i].name, (unsigned long long)spells->last[i].runs,
			       (double)spells->last[i].run_ns / (double)spells->last[i].runs,
			       spells->best_ns[i]);
	}
}

static int run(struct capture *capture, double seconds)
{
	uint64_t end = clock_monotonic_ns() + (uint64_t)(seconds * 1e9);
	uint64_t start = clock_monotonic_ns();
	uint64_t cpu = clock_process_cpu_ns();
	struct capture_counters counters;
	struct spells spells = {0};
	struct seen seen = {0};
	struct pollfd poll_fd = {.fd = capture_fd(capture), .events = POLLIN};
	int statistics = bpf_enable_stats(BPF_STATS_RUN_TIME);
	double elapsed;

	capture_activate(capture);
	while (clock_monotonic_ns() < end) {
		poll(&poll_fd, 1, POLL_MS);
		if (capture_consume(capture, take, &seen, SIZE_MAX) < 0)
			return 1;
		spells_look(&spells, capture);
	}
	capture_deactivate(capture);
	capture_consume(capture, take, &seen, SIZE_MAX);
	elapsed = (double)(clock_monotonic_ns() - start) / 1e9;
	cpu = clock_process_cpu_ns() - cpu;
	spells_print(&spells);
	close(statistics);
	if (capture_counters(capture, &counters) < 0)
		return 1;
	for (int i = 0; i < SITE_KINDS; i++) {
		if (counters.hits[i])
			printf("site kind %d: %llu hits, %.0f/s\n", i,
			       (unsigned long long)counters.hits[i],
			       (double)counters.hits[i] / elapsed);
	}
	for (int i = 0; i < 16; i++) {
		if (seen.by_kind[i])
			printf("record kind %d: %llu\n", i, (unsigned long long)seen.by_kind[i]);
	}
	for (int i = 0; i < WIRE_LOSS_MAX; i++) {
		if (counters.losses[i])
			printf("lost (%s): %llu\n", reason_label((enum reason)i),
			       (unsigned long long)counters.losses[i]);
	}
	printf("mappings %llu, malformed %llu, %.1f MB/s, frames a stack %.1f, consumer %.1f %% "
	       "of a CPU\n",
	       (unsigned long long)counters.mappings, (unsigned long long)counters.malformed,
	       (double)seen.bytes / 1e6 / elapsed,
	       seen.by_kind[WIRE_STACK] ? (double)seen.frames / (double)seen.by_kind[WIRE_STACK]
					: 0.0,
	       (double)cpu / 1e7 / elapsed);
	return 0;
}

static int attach(struct opening *opening, struct capture_options *options, struct capture **ret)
{
	struct fault fault = {0};
	uint64_t start;
	int r;

	r = capture_prepare(options, ret, &fault);
	if (r < 0)
		goto failed;
	printf("cost %llu KiB\n", (unsigned long long)capture_cost_bytes(*ret) >> 10);
	start = clock_monotonic_ns();
	r = capture_load(*ret, &fault);
	printf("load %.1f ms\n", (double)(clock_monotonic_ns() - start) / 1e6);
	start = clock_monotonic_ns();
	if (r == 0)
		r = capture_attach(*ret, &fault);
	if (r < 0)
		goto failed;
	printf("attach %.1f ms, %zu sites\n", (double)(clock_monotonic_ns() - start) / 1e6,
	       capture_attached_sites(*ret));
	return 0;
failed:
	fprintf(stderr, "capture: %s (%s): %s\n", reason_sentence(fault.reason),
		fault.field ? fault.field : "", strerror(-r));
	return r;
}

int main(int argc, char **argv)
{
	char message[OPENING_MESSAGE_BYTES] = "";
	struct capture_file files[2];
	struct capture_options options = {.files = files};
	struct capture *capture = NULL;
	struct opening *opening = NULL;
	uint64_t start;
	int r;

	if (argc < 3)
		return 2;
	options.pid = (pid_t)strtol(argv[1], NULL, 10);
	for (int i = 3; i < argc; i++) {
		options.empty_programs |= !strcmp(argv[i], "empty");
		options.native |= !strcmp(argv[i], "native");
	}
	r = opening_new(options.pid, &opening, message);
	if (r == 0)
		r = opening_plan(opening, options.native, NULL, message);
	if (r == 0)
		r = opening_stack_layout(opening, &options.layout, NULL);
	if (r < 0) {
		fprintf(stderr, "capture: %s: %s\n", message, strerror(-r));
		opening_free(opening);
		return 1;
	}
	files[options.n_files++] = (struct capture_file){opening->python.plan, opening->python.path,
							 opening->python.bias};
	if (opening->libc.plan)
		files[options.n_files++] = (struct capture_file){
			opening->libc.plan, opening->libc.path, opening->libc.bias};
	r = attach(opening, &options, &capture);
	if (r == 0)
		r = run(capture, strtod(argv[2], NULL));
	start = clock_monotonic_ns();
	if (capture)
		capture_detach(capture);
	printf("detach %.1f ms\n", (double)(clock_monotonic_ns() - start) / 1e6);
	capture_free(capture);
	opening_free(opening);
	return r ? 1 : 0;
}
