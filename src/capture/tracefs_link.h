/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * A program on many instructions of a file in one process, by either of the two
 * means that kernels have (enum kernel_attach).
 */
#ifndef PYLEAKD_CAPTURE_TRACEFS_LINK_H
#define PYLEAKD_CAPTURE_TRACEFS_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include <bpf/libbpf.h>

#include "capture/kernel.h"
#include "capture/tracefs.h"

struct probe_link {
	struct bpf_link *multi;
	/* Stays defined when it is detached: an event that is attached again needs not be made. */
	struct tracefs_event *event;
	struct tracefs_kept *kept; /* where it goes then; NULL: it is removed */
};

struct probe_sites {
	const char *path;
	const unsigned long *offsets; /* in the file; rising */
	const __u64 *cookies;	      /* of links to many uprobes only; may be NULL */
	__u64 event_cookie;	      /* of an event, for all its sites */
	struct tracefs_kept *kept;    /* events of before, and where this one goes; or NULL */
	size_t n;
	bool uretprobe;
};

/* -errno, the kernel's; the link is as if it had been detached then. */
int probe_link_attach(struct probe_link *link, enum kernel_attach how, struct bpf_program *program,
		      pid_t pid, const struct probe_sites *sites);
void probe_link_detach(struct probe_link *link);
bool probe_link_is_attached(const struct probe_link *link);
/* Detaches, and leaves nothing but what is kept. */
void probe_link_done(struct probe_link *link);

/* Before it is loaded: as the kernel wants it for this means. */
void probe_program_prepare(struct bpf_program *program, enum kernel_attach how);

#endif
