/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* What the files of a capture share. */
#ifndef PYLEAKD_CAPTURE_CAPTURE_PRIVATE_H
#define PYLEAKD_CAPTURE_CAPTURE_PRIVATE_H

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "base/cleanup.h"
#include "capture/capture.h"
#include "capture/kernel.h"
#include "capture/settings.h"
#include "pyleakd/settings.h"

#include "capture.skel.h"

/* The programs that sites are attached to; which, goes by a site's kind (sites.c). */
enum site_program {
	PROGRAM_ALLOC,
	PROGRAM_FREE,
	PROGRAM_CREATE,
	PROGRAM_NATIVE_ALLOC,
	PROGRAM_NATIVE_ENTER,
	PROGRAM_NATIVE_RETURN, /* a uretprobe */
	PROGRAM_REALLOC_ENTER,
	PROGRAM_REALLOC_RETURN,
	PROGRAM_NOTHING,
	SITE_PROGRAMS
};

enum site_program site_program_of_kind(uint8_t kind);

enum site_state {
	SITE_WANTED,  /* attached as soon as the file's links are */
	SITE_DIFFERS, /* its bytes in the target differ: looked at again before each attach */
	SITE_REFUSED, /* for good */
};

struct capture_site {
	const struct plan_site *plan;
	uint16_t index;	 /* into the plan */
	uint8_t state;	 /* enum site_state */
	uint8_t program; /* enum site_program */
};

/* One file with its sites, sorted by program and then by address. */
struct probed_file {
	char *path;
	uint64_t bias;
	struct capture_site *sites;
	size_t n_sites;
	struct bpf_link *links[SITE_PROGRAMS];
};

/* One for each reason and kind of site. */
#define REFUSALS_MAX 64
/* Process and mapping programs: three and up to five. */
#define HOST_LINKS_MAX 8

struct capture {
	pid_t pid;
	bool native;
	bool empty_programs;
	size_t ring_bytes;
	struct settings settings;
	struct kernel_features features;
	struct probed_file files[CAPTURE_FILES_MAX];
	size_t n_files;

	struct capture_bpf *skeleton; /* from load on */
	struct ring_buffer *ring;
	struct bpf_link *host_links[HOST_LINKS_MAX];
	size_t n_host_links;
	size_t n_attached;

	struct capture_refusal refusals[REFUSALS_MAX];
	size_t n_refusals;
	/* While it is consumed. */
	capture_consumer *consume;
	void *consume_context;
	size_t consume_left;
	uint64_t malformed;
};

/* sites.c */
int probed_file_init(struct probed_file *file, const struct capture_file *options,
		     bool empty_programs);
void probed_file_done(struct probed_file *file);
/* Refuses what is dangerous by itself, and what differs in the file on disk. */
int sites_guard(struct capture *capture, struct probed_file *file, struct fault *reterr_fault);
/* Compares the running text with the plan; -ESRCH: the target is gone. */
int sites_compare(struct capture *capture, struct probed_file *file, int memory_fd);
/* After attaching: counts breakpoints that are not there; returns how many are. */
size_t sites_read_back(struct capture *capture, const struct probed_file *file, int memory_fd);
void sites_refuse(struct capture *capture, enum reason reason, const struct capture_site *site);
/* Forgets refusals that concern the last attach only. */
void sites_refusals_reset(struct capture *capture);
uint64_t sites_cost_bytes(const struct probed_file *file);

/* links.c */
int links_attach_file(struct capture *capture, struct probed_file *file,
		      struct fault *reterr_fault);
void links_detach_file(struct probed_file *file);
int links_release_others(const struct capture *capture, struct probed_file *file);
int links_attach_host(struct capture *capture, struct fault *reterr_fault);
void links_detach_host(struct capture *capture);
struct bpf_program *capture_program(const struct capture *capture, enum site_program program);

/* ring.c */
int ring_open(struct capture *capture);

/* For DEFINE_CLEANUP users. */
DEFINE_CLEANUP(struct capture *, capture_free)

#endif
