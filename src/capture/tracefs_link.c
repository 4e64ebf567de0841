/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "capture/tracefs_link.h"

#include <errno.h>

static int attach_multi(struct probe_link *link, struct bpf_program *program, pid_t pid,
			const struct probe_sites *sites)
{
	LIBBPF_OPTS(bpf_uprobe_multi_opts, options, .offsets = sites->offsets,
		    .cookies = sites->cookies, .cnt = sites->n, .retprobe = sites->uretprobe);
	struct bpf_link *multi =
		bpf_program__attach_uprobe_multi(program, pid, sites->path, NULL, &options);

	if (!multi)
		return -errno;
	link->multi = multi;
	return 0;
}

static void give_back(struct probe_link *link)
{
	if (link->event && link->kept)
		tracefs_kept_put(link->kept, link->event);
	else
		tracefs_event_free(link->event);
	link->event = NULL;
}

static int attach_tracefs(struct probe_link *link, const struct bpf_program *program, pid_t pid,
			  const struct probe_sites *sites)
{
	const struct tracefs_sites wanted = {
		.path = sites->path,
		.offsets = sites->offsets,
		.n = sites->n,
		.uretprobe = sites->uretprobe,
		.program_fd = bpf_program__fd(program),
		.cookie = sites->event_cookie,
	};
	int r;

	if (link->event && !tracefs_event_is(link->event, &wanted))
		give_back(link);
	link->kept = sites->kept;
	if (!link->event && link->kept)
		link->event = tracefs_kept_take(link->kept, &wanted);
	if (!link->event) {
		r = tracefs_event_new(&wanted, &link->event);
		if (r < 0)
			return r;
	}
	return tracefs_event_attach(link->event, pid);
}

int probe_link_attach(struct probe_link *link, enum kernel_attach how, struct bpf_program *program,
		      pid_t pid, const struct probe_sites *sites)
{
	switch (how) {
	case KERNEL_ATTACH_MULTI:
		return attach_multi(link, program, pid, sites);
	case KERNEL_ATTACH_TRACEFS:
		return attach_tracefs(link, program, pid, sites);
	case KERNEL_ATTACH_NONE:
		break;
	}
	return -EOPNOTSUPP;
}

void probe_link_detach(struct probe_link *link)
{
	bpf_link__destroy(link->multi); /* NULL is legal */
	link->multi = NULL;
	if (link->event)
		tracefs_event_detach(link->event);
}

bool probe_link_is_attached(const struct probe_link *link)
{
	return link->multi || (link->event && tracefs_event_is_attached(link->event));
}

void probe_link_done(struct probe_link *link)
{
	probe_link_detach(link);
	give_back(link);
}

/* One loaded for a link to many uprobes is turned down by a perf event, and by older kernels. */
void probe_program_prepare(struct bpf_program *program, enum kernel_attach how)
{
	if (how == KERNEL_ATTACH_TRACEFS)
		bpf_program__set_expected_attach_type(program, 0);
}
