/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Prints the probe plan of an interpreter: a line a site, then the statistics.
 * For people who compare plans, and for tests.
 *
 *	plandump [--destructions] [--callers|--core-callers] MINOR FILE
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/reasons.h"
#include "probes/plan.h"
#include "target/image.h"

DEFINE_CLEANUP(struct image *, image_free)
DEFINE_CLEANUP(struct plan *, plan_free)

static const char *const kinds[SITE_KINDS] = {
	[SITE_ALLOC] = "alloc",	  [SITE_FREE] = "free",	      [SITE_FRESH] = "fresh",
	[SITE_CREATE] = "create", [SITE_DESTROY] = "destroy", [SITE_CALLER] = "caller",
};

static void print_plan(const struct plan *plan)
{
	for (size_t i = 0; i < plan->n_sites; i++) {
		const struct plan_site *site = &plan->sites[i];

		printf("%s %#llx offset=%#llx reg=%u value=%u displacement=%d condition=%u "
		       "size=%u %s\n",
		       kinds[site->kind] ? kinds[site->kind] : "?", (unsigned long long)site->vaddr,
		       (unsigned long long)site->offset, site->reg, site->value, site->displacement,
		       site->condition, site->size_register, site->function);
	}
	printf("# instructions %u dead %u undecodable %u unresolved %u not-emulated %u pruned %u "
	       "left-out %u\n",
	       plan->statistics.instructions, plan->statistics.dead,
	       plan->statistics.undecodable, plan->statistics.unresolved,
	       plan->statistics.not_emulated, plan->statistics.pruned, plan->statistics.left_out);
	for (unsigned kind = 0; kind < SITE_KINDS; kind++)
		if (plan->statistics.by_kind[kind] > 0)
			printf("# %s %u\n", kinds[kind] ? kinds[kind] : "?",
			       plan->statistics.by_kind[kind]);
}

static double cpu_seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static int dump(const char *path, const struct plan_python_options *options)
{
	CLEANUP(image_free) struct image *image = NULL;
	CLEANUP(plan_free) struct plan *plan = NULL;
	struct fault fault = FAULT_NONE;
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	double start, opened;
	int error = fd < 0 ? -errno : 0;

	start = cpu_seconds();
	if (!error)
		error = image_new(fd, &image, &fault);
	opened = cpu_seconds();
	if (!error)
		error = plan_make_python(image, options, &plan, &fault);
	if (error) {
		fprintf(stderr, "plandump: %s: %s (%s: %s)\n", path, strerror(-error),
			reason_sentence(fault.reason), fault.field ? fault.field : "-");
		return EXIT_FAILURE;
	}
	print_plan(plan);
	printf("# image %.3f s, plan %.3f s of CPU\n", opened - start, cpu_seconds() - opened);
	return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
	struct plan_python_options options = {0};
	int at = 1;

	for (; at < argc && argv[at][0] == '-'; at++) {
		options.destructions |= strcmp(argv[at], "--destructions") == 0;
		if (strcmp(argv[at], "--callers") == 0)
			options.callers = PLAN_CALLERS_ALL;
		if (strcmp(argv[at], "--core-callers") == 0)
			options.callers = PLAN_CALLERS_CORE;
	}
	if (argc - at != 2) {
		fprintf(stderr,
			"usage: plandump [--destructions] [--callers|--core-callers] MINOR FILE\n");
		return 2;
	}
	options.minor = (unsigned)strtoul(argv[at], NULL, 10);
	return dump(argv[at + 1], &options);
}
