/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * What a duty of its own for each site buys over one duty for all: creation
 * sites counted under services and under calls that leak (as root), then the
 * governor run over these rates, in arithmetic, for ten minutes.
 *
 *	governor [BUDGET [HIT_NANOSECONDS]]	(0.01, and this kernel's trap and 500)
 */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "capture/governor.h"
#include "capture/kernel.h"
#include "capture/windows.h"
#include "service/opening.h"

#define TARGET_PYTHON "/usr/bin/python3.11"
#define TARGET_PROGRAM "bench/workloads/heat.py"
#define WARM_UP_LINES 3
#define COUNTED_LINES 4
#define PROGRAM_NS 500 /* of a creation's program with a short stack, beyond the trap */
#define STEP_SECONDS 0.005
#define RUN_SECONDS 600.0
/* bench/windows, a busy target */
#define ATTACH_SECONDS 0.012
#define DETACH_SECONDS 0.035
/* The share of both in which the sites are as if in: a mean, by the hits that come in them. */
#define EDGE 0.05

static const char *const services[] = {"json", "sql"};
static const char *const leaks[] = {"dict", "instance", "tuple", "closure", "bytes", "list"};
#define N_LEAKS (sizeof(leaks) / sizeof(*leaks))

struct heat {
	size_t n;
	uint8_t *kinds;	 /* enum wire_site_kind; not creations: not governed */
	double *hits;	 /* of each site, a request */
	double requests; /* a second of the target's CPU time, unprobed */
};

struct target {
	pid_t pid;
	FILE *lines;
	double requests, cpu;
};

static void fail(const char *what)
{
	fprintf(stderr, "governor: %s\n", what);
	exit(1);
}

static void target_start(struct target *target, const char *mode)
{
	int ends[2];

	if (pipe(ends) < 0)
		fail("no pipe");
	target->pid = fork();
	if (target->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(ends[1], STDOUT_FILENO);
		execl(TARGET_PYTHON, TARGET_PYTHON, TARGET_PROGRAM, mode, (char *)NULL);
		_exit(127);
	}
	close(ends[1]);
	target->lines = fdopen(ends[0], "r");
	if (target->pid < 0 || !target->lines)
		fail("no target");
	setvbuf(target->lines, NULL, _IONBF, 0);
}

static void target_read(struct target *target, int lines)
{
	char line[256];

	for (int i = 0; i < lines; i++)
		if (!fgets(line, sizeof(line), target->lines) ||
		    sscanf(line, "{\"requests\": %lf, \"cpu\": %lf}", &target->requests,
			   &target->cpu) != 2)
			fail("the target says nothing");
}

/* Up to the present: what was said while nobody listened is passed over. */
static void target_catch_up(struct target *target)
{
	struct pollfd lines = {.fd = fileno(target->lines), .events = POLLIN};

	while (poll(&lines, 1, 0) > 0)
		target_read(target, 1);
	target_read(target, 1);
}

static void target_end(struct target *target)
{
	kill(target->pid, SIGKILL);
	waitpid(target->pid, NULL, 0);
	fclose(target->lines);
}

static void drop(void *context, const struct wire_header *record, size_t size)
{
	(void)context;
	(void)record;
	(void)size;
}

static struct capture *attach(struct opening *opening, struct capture_file *file)
{
	struct capture_options options = {
		.pid = opening->id.pid, .files = file, .n_files = 1, .windows = true};
	struct capture *capture = NULL;

	if (opening_stack_layout(opening, &options.layout, NULL) < 0)
		fail("no stack layout");
	*file = (struct capture_file){opening->python.plan, opening->python.path,
				      opening->python.bias};
	if (capture_prepare(&options, &capture, NULL) < 0 || capture_load(capture, NULL) < 0 ||
	    capture_attach(capture, NULL) < 0 || capture_activate(capture) < 0)
		fail("no capture: as root?");
	return capture;
}

/* All creation sites at once; a limit of one hit: they are counted, and no record is made. */
static void count(struct target *target, struct capture *capture, const struct plan *plan,
		  struct heat *heat)
{
	uint16_t *sites = calloc(plan->n_sites, sizeof(*sites));
	uint64_t *before = calloc(plan->n_sites, sizeof(*before));
	uint64_t *after = calloc(plan->n_sites, sizeof(*after));
	double requests;
	size_t n = 0;

	heat->n = plan->n_sites;
	heat->hits = calloc(heat->n, sizeof(*heat->hits));
	heat->kinds = malloc(heat->n);
	if (!heat->hits || !heat->kinds || !sites || !before || !after)
		fail("no memory");
	memset(heat->kinds, GOVERNOR_NOT_GOVERNED, heat->n);
	for (size_t i = 0; i < plan->n_sites; i++) {
		if (plan->sites[i].kind != SITE_CREATE)
			continue;
		heat->kinds[i] = SITE_CREATE;
		sites[n++] = (uint16_t)i;
	}
	if (capture_group_define(capture, 0, 0, sites, n) < 0 ||
	    capture_group_open(capture, 0, 1, NULL) < 0)
		fail("sites can't be attached");
	target_catch_up(target);
	requests = target->requests;
	capture_site_hits(capture, 0, before, heat->n);
	target_read(target, COUNTED_LINES);
	capture_site_hits(capture, 0, after, heat->n);
	capture_group_close(capture, 0, NULL);
	capture_consume(capture, drop, NULL, SIZE_MAX);
	for (size_t i = 0; i < heat->n; i++)
		heat->hits[i] = (double)(after[i] - before[i]) / (target->requests - requests);
	free(sites);
	free(before);
	free(after);
}

static struct heat measure(const char *mode)
{
	char message[OPENING_MESSAGE_BYTES] = "";
	struct opening *opening = NULL;
	struct capture_file file;
	struct capture *capture;
	struct target target;
	struct heat heat = {0};
	double requests, cpu;

	target_start(&target, mode);
	target_read(&target, WARM_UP_LINES);
	requests = target.requests;
	cpu = target.cpu;
	target_read(&target, COUNTED_LINES);
	heat.requests = (target.requests - requests) / (target.cpu - cpu);
	if (opening_new(target.pid, &opening, message) < 0 ||
	    opening_plan(opening, &(struct opening_plan_options){0}, message) < 0)
		fail(message);
	capture = attach(opening, &file);
	count(&target, capture, opening->python.plan, &heat);
	capture_free(capture);
	opening_free(opening);
	target_end(&target);
	return heat;
}

/* --- the governor over these rates ---------------------------------------------------------- */

struct run {
	const struct heat *heat;
	double hit;
	uint8_t *in;
	double *exact, *seen; /* hits; seconds at full speed while the site was in */
	uint64_t *hits;
	double now, own, group_hits[GOVERNOR_GROUPS];
	double limits[GOVERNOR_GROUPS];
	struct governor_status status;
	double overhead;
};

static void advance(struct run *run, double seconds)
{
	double rate = 0, own;

	for (size_t i = 0; i < run->heat->n; i++)
		rate += run->in[i] ? run->heat->hits[i] * run->heat->requests : 0;
	own = seconds / (1 + rate * run->hit);
	for (size_t i = 0; i < run->heat->n; i++) {
		double hits = own * run->heat->hits[i] * run->heat->requests;

		if (!run->in[i])
			continue;
		run->seen[i] += own;
		run->exact[i] += hits;
		run->hits[i] = (uint64_t)run->exact[i];
		run->group_hits[run->in[i] - 1] += hits;
	}
	run->now += seconds;
	run->own += own;
}

static void act(struct run *run, struct governor *governor, const struct governor_step *step)
{
	unsigned group = step->group;

	if (step->act == GOVERNOR_OPEN) {
		advance(run, ATTACH_SECONDS * (1 - EDGE));
		run->group_hits[group] = 0;
		run->limits[group] = (double)step->hits_max;
		for (size_t i = 0; i < step->n_sites; i++)
			run->in[step->sites[i]] = (uint8_t)(group + 1);
		advance(run, ATTACH_SECONDS * EDGE);
		governor_note_opened(governor, group, run->now, ATTACH_SECONDS);
		return;
	}
	advance(run, DETACH_SECONDS * EDGE);
	for (size_t i = 0; i < run->heat->n; i++)
		run->in[i] = run->in[i] == group + 1 ? 0 : run->in[i];
	advance(run, DETACH_SECONDS * (1 - EDGE));
	governor_note_closed(governor, group, run->now, DETACH_SECONDS,
			     (uint64_t)run->group_hits[group],
			     run->group_hits[group] > run->limits[group]);
	governor_note_hits(governor, run->now, run->hits);
}

static void look(struct run *run, struct governor *governor, double *next_note)
{
	for (unsigned i = 0; i < GOVERNOR_GROUPS; i++)
		if (run->group_hits[i] > run->limits[i])
			governor_note_limit(governor, i, run->now);
	if (run->now < *next_note)
		return;
	*next_note = run->now + 0.1;
	governor_note_hits(governor, run->now, run->hits);
	for (unsigned i = 0; i < GOVERNOR_ALWAYS_ON_GROUPS; i++)
		run->limits[i] = run->group_hits[i] + (double)governor_allowance(governor, i);
}

static void govern(struct run *run, double budget)
{
	struct governor_options options = {.budget_ratio = budget,
					   .hit_seconds = run->hit,
					   .n_sites = run->heat->n,
					   .site_kinds = run->heat->kinds,
					   .seed = 1};
	struct governor *governor = NULL;
	double next_note = 0;

	if (governor_new(&options, 0, &governor) < 0)
		fail("no governor");
	while (run->now < RUN_SECONDS) {
		struct governor_step step;

		governor_step(governor, run->now, &step);
		if (step.act != GOVERNOR_WAIT) {
			act(run, governor, &step);
			continue;
		}
		step.at = step.at < next_note ? step.at : next_note;
		step.at -= run->now;
		step.at = step.at > STEP_SECONDS ? STEP_SECONDS : step.at;
		advance(run, step.at > 0.0001 ? step.at : 0.0001);
		look(run, governor, &next_note);
	}
	governor_status(governor, run->now, &run->status);
	run->overhead = governor_overhead_total(governor, run->now);
	governor_free(governor);
}

static void run_init(struct run *run, const struct heat *heat, double hit)
{
	*run = (struct run){.heat = heat,
			    .hit = hit,
			    .in = calloc(heat->n, 1),
			    .exact = calloc(heat->n, sizeof(double)),
			    .seen = calloc(heat->n, sizeof(double)),
			    .hits = calloc(heat->n, sizeof(uint64_t))};
	if (!run->in || !run->exact || !run->seen || !run->hits)
		fail("no memory");
}

static void heat_done(struct heat *heat)
{
	free(heat->kinds);
	free(heat->hits);
}

static void run_done(struct run *run)
{
	free(run->in);
	free(run->exact);
	free(run->seen);
	free(run->hits);
}

static void print_leak(const char *name, const struct heat *leak, const struct heat *nothing,
		       const struct run *run, double uniform)
{
	double made = 0, one_duty = 0, own_duty = 0, best = 0;

	for (size_t i = 0; i < leak->n; i++) {
		double share = run->seen[i] / run->own;

		if (leak->hits[i] < 0.5 || nothing->hits[i] > 0.5)
			continue;
		made += leak->hits[i];
		one_duty += leak->hits[i] * uniform;
		own_duty += leak->hits[i] * share;
		best = share > best ? share : best;
	}
	if (made > 0)
		printf("  %-10s %5.1f objects a call; seen %.5f with one duty, %.5f with each "
		       "site's own: %6.0f times; best site %5.1f %%\n",
		       name, made, one_duty, own_duty, own_duty / one_duty, best * 100);
}

static void compare(const char *service, double budget, double hit, const struct heat *leaking,
		    const struct heat *nothing)
{
	struct heat heat = measure(service);
	double rate = 0, uniform;
	size_t sites = 0;
	struct run run;

	for (size_t i = 0; i < heat.n; i++) {
		rate += heat.hits[i] * heat.requests;
		sites += heat.hits[i] > 0;
	}
	uniform = budget / (rate * hit) < 1 ? budget / (rate * hit) : 1;
	run_init(&run, &heat, hit);
	govern(&run, budget);
	printf("%s: %.2f million creations a second of CPU at %zu sites; on %zu, lukewarm %zu, hot "
	       "%zu; overhead %.2f %%, one duty %.5f\n",
	       service, rate / 1e6, sites, run.status.sites_always_on, run.status.sites_lukewarm,
	       run.status.sites_hot, run.overhead * 100, uniform);
	for (size_t i = 0; i < N_LEAKS; i++)
		print_leak(leaks[i], &leaking[i], nothing, &run, uniform);
	run_done(&run);
	heat_done(&heat);
}

int main(int argc, char **argv)
{
	double budget = argc > 1 ? strtod(argv[1], NULL) : 0.01;
	double hit =
		argc > 2 ? strtod(argv[2], NULL) * 1e-9 : (capture_trap_ns() + PROGRAM_NS) * 1e-9;
	struct heat nothing = measure("nothing"), leaking[N_LEAKS];

	printf("budget %.2f %%, %.0f ns a hit\n", budget * 100, hit * 1e9);
	for (size_t i = 0; i < N_LEAKS; i++)
		leaking[i] = measure(leaks[i]);
	for (size_t i = 0; i < sizeof(services) / sizeof(*services); i++)
		compare(services[i], budget, hit, leaking, &nothing);
	for (size_t i = 0; i < N_LEAKS; i++)
		heat_done(&leaking[i]);
	heat_done(&nothing);
	return 0;
}
