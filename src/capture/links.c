/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Links: of a file's sites, one for each program; and those of the host's tracepoints. */
#include <errno.h>
#include <unistd.h>

#include "capture/capture_private.h"

/*
 * Refused sites that are looked for one by one. Each costs a few attempts of
 * some 10 ms; a file with more of them is not what its plan says.
 */
#define REFUSED_SITES_MAX 64

#define ENOTSUPP 524 /* the kernel's own, in no header of user space */

struct bpf_program *capture_program(const struct capture *capture, enum site_program program)
{
	const struct capture_bpf *skeleton = capture->skeleton;

	switch (program) {
	case PROGRAM_ALLOC:
		return skeleton->progs.on_alloc;
	case PROGRAM_FREE:
		return skeleton->progs.on_free;
	case PROGRAM_CREATE:
		return skeleton->progs.on_create;
	case PROGRAM_NATIVE_ALLOC:
		return skeleton->progs.on_native_alloc;
	case PROGRAM_NATIVE_ENTER:
		return skeleton->progs.on_native_enter;
	case PROGRAM_NATIVE_RETURN:
		return skeleton->progs.on_native_return;
	case PROGRAM_REALLOC_ENTER:
		return skeleton->progs.on_realloc_enter;
	case PROGRAM_REALLOC_RETURN:
		return skeleton->progs.on_realloc_return;
	case PROGRAM_NEW_POOL:
		return skeleton->progs.on_new_pool;
	case PROGRAM_NOTHING:
	case SITE_PROGRAMS:
		break;
	}
	return skeleton->progs.on_nothing;
}

/* The sites of one program that are to be attached, as the kernel wants them. */
struct batch {
	struct bpf_program *program;
	bool uretprobe;
	struct capture_site **sites;
	unsigned long *offsets;
	__u64 *cookies;
	__u64 event_cookie;
	size_t n;
};

static void batch_done(struct batch *batch)
{
	free(batch->sites);
	free(batch->offsets);
	free(batch->cookies);
	*batch = (struct batch){0};
}

static int batch_init(struct batch *batch, const struct capture *capture,
		      const struct site_set *set, enum site_program program)
{
	*batch = (struct batch){
		.program = capture_program(capture, program),
		.uretprobe = program == PROGRAM_NATIVE_RETURN,
		.event_cookie = set->event,
		.sites = calloc(set->n_sites + 1, sizeof(struct capture_site *)),
		.offsets = calloc(set->n_sites + 1, sizeof(unsigned long)),
		.cookies = calloc(set->n_sites + 1, sizeof(__u64)),
	};
	if (!batch->sites || !batch->offsets || !batch->cookies) {
		batch_done(batch);
		return -ENOMEM;
	}
	for (size_t i = 0; i < set->n_sites; i++) {
		struct capture_site *site = set->sites[i];
		if ((set->new_pools ? PROGRAM_NEW_POOL : site->program) != program ||
		    site->state != SITE_WANTED)
			continue;
		batch->sites[batch->n] = site;
		batch->offsets[batch->n] = site->plan->offset;
		batch->cookies[batch->n] = site_cookie(site) | set->cookie;
		batch->n++;
	}
	return 0;
}

/* One link for the sites [from, from + n). */
static int batch_attach(const struct batch *batch, const struct capture *capture, pid_t pid,
			const char *path, size_t from, size_t n, struct tracefs_kept *kept,
			struct probe_link *link)
{
	const struct probe_sites sites = {
		.path = path,
		.offsets = batch->offsets + from,
		.cookies = batch->cookies + from,
		.event_cookie = batch->event_cookie,
		.kept = kept,
		.n = n,
		.uretprobe = batch->uretprobe,
	};

	return probe_link_attach(link, capture->features.attach, batch->program, pid, &sites);
}

/* Errors that one instruction can cause for a whole link, as opposed to a failure of its own. */
static bool is_refusal(int error)
{
	return error == -ENOTSUPP || error == -EOPNOTSUPP || error == -EINVAL || error == -EIO;
}

/*
 * Narrows [from, from + n), which the kernel turned down, to the sites at
 * fault, and marks them. Sites that go in are let go again: the file's one
 * link is made when all are known. Depth: the logarithm of PLAN_SITES_MAX.
 */
static int batch_bisect(const struct batch *batch, struct capture *capture, const char *path,
			size_t from, size_t n, size_t *refused)
{
	__attribute__((cleanup(probe_link_done))) struct probe_link link = {0};
	int r;

	r = batch_attach(batch, capture, capture->pid, path, from, n, NULL, &link);
	if (r == 0 || !is_refusal(r))
		return r;
	if (n == 1) {
		if (++*refused > REFUSED_SITES_MAX)
			return r;
		batch->sites[from]->state = SITE_REFUSED;
		sites_refuse(capture, REASON_KERNEL_REFUSED_SITE, batch->sites[from]);
		return 0;
	}
	r = batch_bisect(batch, capture, path, from, n / 2, refused);
	if (r < 0)
		return r;
	return batch_bisect(batch, capture, path, from + n / 2, n - n / 2, refused);
}

static int attach_program(struct capture *capture, const struct probed_file *file,
			  struct site_set *set, enum site_program program)
{
	__attribute__((cleanup(batch_done))) struct batch batch;
	size_t refused = 0;
	int r;

	r = batch_init(&batch, capture, set, program);
	if (r < 0 || batch.n == 0)
		return r;
	r = batch_attach(&batch, capture, capture->pid, file->path, 0, batch.n, &capture->kept,
			 &set->links[program]);
	if (!is_refusal(r))
		return r;
	r = batch_bisect(&batch, capture, file->path, 0, batch.n, &refused);
	if (r < 0)
		return r;
	batch_done(&batch);
	r = batch_init(&batch, capture, set, program);
	if (r < 0 || batch.n == 0)
		return r;
	return batch_attach(&batch, capture, capture->pid, file->path, 0, batch.n, &capture->kept,
			    &set->links[program]);
}

int links_attach(struct capture *capture, const struct probed_file *file, struct site_set *set,
		 struct priority *priority, struct fault *reterr_fault)
{
	/* Frees before allocations: an allocation whose free is missed would look like a leak. */
	static const uint8_t order[] = {
		PROGRAM_FREE,	      PROGRAM_REALLOC_ENTER, PROGRAM_REALLOC_RETURN,
		PROGRAM_NATIVE_ENTER, PROGRAM_NATIVE_RETURN, PROGRAM_NATIVE_ALLOC,
		PROGRAM_ALLOC,	      PROGRAM_CREATE,	     PROGRAM_NEW_POOL,
		PROGRAM_NOTHING,
	};

	for (size_t i = 0; i < ARRAY_SIZE(order); i++) {
		int r = attach_program(capture, file, set, order[i]);

		if (r < 0)
			return fault_set(reterr_fault, r, REASON_KERNEL_REFUSED_SITE, 0,
					 "attaching probes");
		priority_look(priority);
	}
	return 0;
}

void links_detach(struct site_set *set, struct priority *priority)
{
	/* The reverse: allocations first. */
	for (size_t i = SITE_PROGRAMS; i-- > 0;) {
		if (i == PROGRAM_FREE)
			continue;
		probe_link_detach(&set->links[i]);
		priority_look(priority);
	}
	probe_link_detach(&set->links[PROGRAM_FREE]);
}

/*
 * A child forked by the target has the breakpoints in its copy of the text,
 * and no link of its own.  When any link goes, the kernel takes its
 * breakpoints out of every process that no remaining link wants them in
 * (register_for_each_vma(), kernel/events/uprobes.c, 6.18): so a link that is
 * meant for ourselves, who don't map the file, is put in and let go.
 */
int links_release_others(const struct capture *capture, const struct probed_file *file,
			 const struct site_set *set)
{
	for (unsigned program = 0; program < SITE_PROGRAMS; program++) {
		__attribute__((cleanup(batch_done))) struct batch batch = {0};
		__attribute__((cleanup(probe_link_done))) struct probe_link link = {0};
		int r;

		if (!probe_link_is_attached(&set->links[program]))
			continue;
		r = batch_init(&batch, capture, set, program);
		if (r == 0 && batch.n)
			r = batch_attach(&batch, capture, getpid(), file->path, 0, batch.n, NULL,
					 &link);
		if (r < 0)
			return r;
	}
	return 0;
}

static int attach_host(struct capture *capture, struct bpf_program *program)
{
	struct bpf_link *link;

	if (capture->n_host_links == HOST_LINKS_MAX)
		return -E2BIG;
	link = bpf_program__attach(program);
	if (!link)
		return -errno;
	capture->host_links[capture->n_host_links++] = link;
	return 0;
}

int links_attach_host(struct capture *capture, struct fault *reterr_fault)
{
	struct bpf_program *program;
	int r;

	bpf_object__for_each_program(program, capture->skeleton->obj)
	{
		if (bpf_program__type(program) != BPF_PROG_TYPE_TRACING ||
		    !bpf_program__autoload(program))
			continue;
		r = attach_host(capture, program);
		if (r < 0)
			return fault_set(reterr_fault, r, REASON_KERNEL_LACKS, 0,
					 bpf_program__name(program));
	}
	return 0;
}

void links_detach_host(struct capture *capture)
{
	while (capture->n_host_links > 0)
		bpf_link__destroy(capture->host_links[--capture->n_host_links]);
}
