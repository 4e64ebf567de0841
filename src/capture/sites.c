/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* The sites of a file: which program each goes to, and which are too dangerous. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "capture/capture_private.h"

#define BREAKPOINT 0xcc
#define PAGE_BYTES 4096ULL
/* Page tables of the copies, and the page that single-stepped instructions run in. */
#define COST_MARGIN_BYTES (64ULL << 10)

enum site_program site_program_of_kind(uint8_t kind)
{
	static const uint8_t programs[SITE_KINDS] = {
		[SITE_ALLOC] = PROGRAM_ALLOC,
		[SITE_FREE] = PROGRAM_FREE,
		[SITE_FRESH] = PROGRAM_ALLOC,
		[SITE_CREATE] = PROGRAM_CREATE,
		[SITE_DESTROY] = PROGRAM_FREE,
		[SITE_NATIVE_ALLOC] = PROGRAM_NATIVE_ALLOC,
		[SITE_NATIVE_FREE] = PROGRAM_FREE,
		[SITE_REALLOC_ENTER] = PROGRAM_REALLOC_ENTER,
		[SITE_REALLOC_RETURN] = PROGRAM_REALLOC_RETURN,
		[SITE_NATIVE_ALLOC_ENTER] = PROGRAM_NATIVE_ENTER,
		[SITE_NATIVE_ALLOC_URETPROBE] = PROGRAM_NATIVE_RETURN,
		[SITE_CALLER] = PROGRAM_CREATE,
	};

	return kind < SITE_KINDS ? programs[kind] : PROGRAM_NOTHING;
}

static int compare_sites(const void *left, const void *right)
{
	const struct capture_site *a = left, *b = right;

	if (a->program != b->program)
		return a->program < b->program ? -1 : 1;
	return a->plan->offset < b->plan->offset ? -1 : a->plan->offset > b->plan->offset;
}

/* sites: indices into the file's own, sorted ones; NULL: all of them. */
int site_set_init(struct site_set *set, struct probed_file *file, const uint16_t *sites,
		  size_t n_sites)
{
	struct capture_site **pointers = calloc(n_sites ? n_sites : 1, sizeof(*pointers));

	if (!pointers)
		return -ENOMEM;
	for (size_t i = 0; i < n_sites; i++)
		pointers[i] = &file->sites[sites ? sites[i] : i];
	*set = (struct site_set){.sites = pointers, .n_sites = n_sites};
	return 0;
}

void site_set_done(struct site_set *set)
{
	for (size_t i = 0; i < SITE_PROGRAMS; i++)
		probe_link_done(&set->links[i]);
	free(set->sites);
	*set = (struct site_set){0};
}

int probed_file_init(struct probed_file *file, const struct capture_file *options,
		     bool empty_programs)
{
	const struct plan *plan = options->plan;
	_cleanup_free_ struct capture_site *sites = NULL;
	_cleanup_free_ char *path = strdup(options->path);
	int r;

	if (!path)
		return -ENOMEM;
	if (plan->n_sites > PLAN_SITES_MAX)
		return -E2BIG;
	sites = calloc(plan->n_sites ? plan->n_sites : 1, sizeof(*sites));
	if (!sites)
		return -ENOMEM;
	for (size_t i = 0; i < plan->n_sites; i++) {
		uint8_t program = site_program_of_kind(plan->sites[i].kind);

		/* A uretprobe stays one, or the bench would measure something else. */
		if (empty_programs && program != PROGRAM_NATIVE_RETURN)
			program = PROGRAM_NOTHING;
		sites[i] = (struct capture_site){
			.plan = &plan->sites[i],
			.index = (uint16_t)i,
			.program = program,
		};
	}
	qsort(sites, plan->n_sites, sizeof(*sites), compare_sites);
	*file = (struct probed_file){
		.path = TAKE_PTR(path),
		.bias = options->bias,
		.sites = TAKE_PTR(sites),
		.n_sites = plan->n_sites,
	};
	r = site_set_init(&file->all, file, NULL, file->n_sites);
	if (r < 0)
		probed_file_done(file);
	return r;
}

void probed_file_done(struct probed_file *file)
{
	links_detach(&file->all, NULL);
	site_set_done(&file->all);
	free(file->path);
	free(file->sites);
	*file = (struct probed_file){0};
}

void sites_refuse(struct capture *capture, enum reason reason, const struct capture_site *site)
{
	struct capture_refusal *refusal = capture->refusals;
	size_t i;

	for (i = 0; i < capture->n_refusals; i++, refusal++) {
		if (refusal->reason == reason && refusal->kind == site->plan->kind) {
			refusal->sites++;
			if (site->plan->vaddr < refusal->vaddr)
				refusal->vaddr = site->plan->vaddr;
			return;
		}
	}
	if (i == REFUSALS_MAX) /* more than all reasons of sites times all kinds */
		return;
	*refusal = (struct capture_refusal){
		.reason = reason,
		.sites = 1,
		.vaddr = site->plan->vaddr,
		.kind = site->plan->kind,
	};
	capture->n_refusals++;
}

void sites_refusals_reset(struct capture *capture)
{
	size_t kept = 0;

	for (size_t i = 0; i < capture->n_refusals; i++) {
		enum reason reason = capture->refusals[i].reason;

		if (reason != REASON_TEXT_DIFFERS && reason != REASON_BREAKPOINT_MISSING)
			capture->refusals[kept++] = capture->refusals[i];
	}
	capture->n_refusals = kept;
}

static void refuse_for_good(struct capture *capture, struct capture_site *site, enum reason reason)
{
	site->state = SITE_REFUSED;
	sites_refuse(capture, reason, site);
}

/*
 * Kernels from the "optimized uprobes" series on (6.18) until 7.2 turn a
 * 5-byte NOP into a call that overwrites the red zone of the code around it.
 * And prefixes that the kernel turns down (arch/x86/kernel/uprobes.c,
 * is_prefix_bad(); on one of them a whole link fails).
 */
static bool is_unsafe(const struct plan_site *site)
{
	static const uint8_t nop5[] = {0x0f, 0x1f, 0x44, 0x00, 0x00};

	if (site->length == sizeof(nop5) && !memcmp(site->bytes, nop5, sizeof(nop5)))
		return true;
	for (size_t i = 0; i < site->length; i++) {
		switch (site->bytes[i]) {
		case 0x26: /* ES */
		case 0x2e: /* CS */
		case 0x36: /* SS */
		case 0x3e: /* DS */
		case 0xf0: /* LOCK */
			return true;
		case 0x64: /* FS */
		case 0x65: /* GS */
		case 0x66:
		case 0x67:
		case 0xf2:
		case 0xf3:
			continue;
		}
		break;
	}
	return false;
}

/*
 * The kernel takes the instruction from the file, so that is what has to be
 * the plan's; it does not check that it begins there.
 */
int sites_guard(struct capture *capture, struct probed_file *file, struct fault *reterr_fault)
{
	_cleanup_close_ int fd = open(file->path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return fault_set(reterr_fault, -errno, REASON_READ_FAILED, 0, "probed file");
	for (size_t i = 0; i < file->n_sites; i++) {
		struct capture_site *site = &file->sites[i];
		const struct plan_site *plan = site->plan;
		uint8_t bytes[PLAN_SITE_BYTES];

		if (!plan->length || plan->length > PLAN_SITE_BYTES ||
		    site_program_of_kind(plan->kind) == PROGRAM_NOTHING || is_unsafe(plan))
			refuse_for_good(capture, site, REASON_UNSAFE_INSTRUCTION);
		else if (pread(fd, bytes, plan->length, (off_t)plan->offset) != plan->length ||
			 memcmp(bytes, plan->bytes, plan->length))
			refuse_for_good(capture, site, REASON_BUILD_CHANGED);
	}
	return 0;
}

/* Somebody else's breakpoint hides one byte, which sites_guard() has seen in the file. */
static bool text_matches(const uint8_t *text, const struct plan_site *plan)
{
	return (text[0] == plan->bytes[0] || text[0] == BREAKPOINT) &&
	       !memcmp(text + 1, plan->bytes + 1, plan->length - 1u);
}

int sites_compare(struct capture *capture, const struct probed_file *file,
		  const struct site_set *set, int memory_fd)
{
	for (size_t i = 0; i < set->n_sites; i++) {
		struct capture_site *site = set->sites[i];
		const struct plan_site *plan = site->plan;
		uint8_t text[PLAN_SITE_BYTES];
		ssize_t n;

		if (site->state == SITE_REFUSED)
			continue;
		n = pread(memory_fd, text, plan->length, (off_t)(plan->vaddr + file->bias));
		if (n == 0 || (n < 0 && errno == ESRCH))
			return -ESRCH; /* /proc/PID/mem of what has exited is empty */
		if (n == plan->length && text_matches(text, plan)) {
			site->state = SITE_WANTED;
			continue;
		}
		if (site->state != SITE_DIFFERS || !capture->windows) /* said before */
			sites_refuse(capture, REASON_TEXT_DIFFERS, site);
		site->state = SITE_DIFFERS;
	}
	return 0;
}

size_t sites_read_back(struct capture *capture, const struct probed_file *file,
		       const struct site_set *set, int memory_fd)
{
	size_t found = 0;

	for (size_t i = 0; i < set->n_sites; i++) {
		struct capture_site *site = set->sites[i];
		uint8_t byte;

		if (site->state != SITE_WANTED)
			continue;
		if (pread(memory_fd, &byte, 1, (off_t)(site->plan->vaddr + file->bias)) == 1 &&
		    byte == BREAKPOINT) {
			found++;
			continue;
		}
		if (!site->missing || !capture->windows) /* said before */
			sites_refuse(capture, REASON_BREAKPOINT_MISSING, site);
		site->missing = true;
	}
	return found;
}

static int compare_pages(const void *left, const void *right)
{
	uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;

	return a < b ? -1 : a > b;
}

/* Without room to sort, as if each site had a page of its own. */
uint64_t sites_cost_bytes(const struct probed_file *file)
{
	_cleanup_free_ uint64_t *pages = calloc(file->n_sites + 1, sizeof(*pages));
	uint64_t distinct = 0;
	size_t n = 0;

	if (!pages)
		return file->n_sites * PAGE_BYTES + COST_MARGIN_BYTES;
	for (size_t i = 0; i < file->n_sites; i++) {
		if (file->sites[i].state != SITE_REFUSED)
			pages[n++] = file->sites[i].plan->vaddr / PAGE_BYTES;
	}
	qsort(pages, n, sizeof(*pages), compare_pages);
	for (size_t i = 0; i < n; i++)
		distinct += i == 0 || pages[i] != pages[i - 1];
	return n ? distinct * PAGE_BYTES + COST_MARGIN_BYTES : 0;
}
