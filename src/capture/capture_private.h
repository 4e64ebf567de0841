/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* What the files of a capture share. */
#ifndef PYLEAKD_CAPTURE_CAPTURE_PRIVATE_H
#define PYLEAKD_CAPTURE_CAPTURE_PRIVATE_H

#include <sched.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "base/cleanup.h"
#include "capture/capture.h"
#include "capture/kernel.h"
#include "capture/kernel_log.h"
#include "capture/settings.h"
#include "capture/tracefs_link.h"
#include "capture/windows.h"
#include "pyleakd/settings.h"

#include "capture.skel.h"

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
	uint8_t group;	 /* 1 + the open group that it is in; 0: none */
	bool missing;	 /* its breakpoint did not appear, once; where there are groups */
};

/* Sites that go in and out together, by one link for each of their programs. */
struct site_set {
	struct capture_site **sites; /* sorted by program and then by address */
	size_t n_sites;
	bool new_pools;	 /* they tell new pools instead of what they otherwise do */
	uint64_t cookie; /* what all of their cookies have besides */
	uint64_t event;	 /* the cookie of their events: 1 + the group, or 0 */
	struct probe_link links[SITE_PROGRAMS];
};

/* One file with its sites, sorted by program and then by address. */
struct probed_file {
	char *path;
	uint64_t bias;
	struct capture_site *sites;
	size_t n_sites;
	struct site_set all; /* attached where there are no windows */
};

struct capture_group {
	struct probed_file *file; /* NULL: not defined */
	struct site_set set;
	bool is_open;
	bool read_back; /* its breakpoints were looked for once */
	struct capture_group_use use;
};

/* priority.c: of this thread. */
enum priority_raised { PRIORITY_AS_IT_WAS, PRIORITY_IS_REAL_TIME, PRIORITY_IS_NICE };

struct priority {
	struct capture_priority_use *use;
	enum priority_raised raised;
	uint64_t raised_at_cpu_ns; /* CPU time of this thread */
	int policy, nice;	   /* as they were */
	struct sched_param param;
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
	int statistics; /* of programs' run time, a file; 0: off */
	size_t n_attached;
	struct tracefs_kept kept; /* events that were groups' */

	/* Where sites go in by group. */
	bool windows;
	int memory_fd; /* /proc/PID/mem while attached; of the program that ran then */
	struct capture_group groups[CAPTURE_GROUPS_MAX];
	struct window_site *window_sites; /* the programs' own, mapped from load on */
	struct pool_set *pool_sets;
	struct capture_priority_use priority_use;
	struct priority hurry; /* raised while a window is open */

	struct capture_refusal refusals[REFUSALS_MAX];
	size_t n_refusals;
	char load_refusal[KERNEL_LOG_TEXT_BYTES]; /* of the last load; "": it succeeded */
	/* While it is consumed. */
	capture_consumer *consume;
	void *consume_context;
	size_t consume_left;
	uint64_t malformed;
};

/* capture.c: -EOWNERDEAD, NO_LEADER; -ESRCH, NOT_MAPPED. */
int capture_check_leader(pid_t pid, struct fault *reterr_fault);

/* sites.c */
int probed_file_init(struct probed_file *file, const struct capture_file *options,
		     bool empty_programs);
void probed_file_done(struct probed_file *file);
/* Refuses what is dangerous by itself, and what differs in the file on disk. */
int sites_guard(struct capture *capture, struct probed_file *file, struct fault *reterr_fault);
/* Compares the running text with the plan; -ESRCH: the target is gone. */
int sites_compare(struct capture *capture, const struct probed_file *file,
		  const struct site_set *set, int memory_fd);
/* After attaching: counts breakpoints that are not there; returns how many are. */
size_t sites_read_back(struct capture *capture, const struct probed_file *file,
		       const struct site_set *set, int memory_fd);
int site_set_init(struct site_set *set, struct probed_file *file, const uint16_t *sites,
		  size_t n_sites);
void site_set_done(struct site_set *set);
void sites_refuse(struct capture *capture, enum reason reason, const struct capture_site *site);
/* Forgets refusals that concern the last attach only. */
void sites_refusals_reset(struct capture *capture);
uint64_t sites_cost_bytes(const struct probed_file *file);

/* links.c */
/* priority, which may be NULL, is looked after between two links. */
int links_attach(struct capture *capture, const struct probed_file *file, struct site_set *set,
		 struct priority *priority, struct fault *reterr_fault);
void links_detach(struct site_set *set, struct priority *priority);
int links_release_others(const struct capture *capture, const struct probed_file *file,
			 const struct site_set *set);
int links_attach_host(struct capture *capture, struct fault *reterr_fault);
void links_detach_host(struct capture *capture);
struct bpf_program *capture_program(const struct capture *capture, enum site_program program);

/* cookies.c */
__u64 site_cookie(const struct capture_site *site);
/* Of the table of cookies by address, where it takes one; before the programs are loaded. */
void cookies_sizes(struct capture *capture);
int cookies_fill(struct capture *capture); /* behind */

/* windows.c */
/* After the plans were fitted: where each site's counter will be. */
void windows_settings(struct capture *capture);
void windows_sizes(struct capture *capture); /* of the maps; before they are loaded */
int windows_map(struct capture *capture);    /* behind */
void windows_done(struct capture *capture);
int windows_release_others(const struct capture *capture);

/* priority.c */
void priority_raise(struct priority *priority, struct capture_priority_use *use);
/* May be called more than once. */
void priority_give_back(struct priority *priority);
/* Gives it back if that is due. */
void priority_look(struct priority *priority);

/* ring.c */
int ring_open(struct capture *capture);

/* For DEFINE_CLEANUP users. */
DEFINE_CLEANUP(struct capture *, capture_free)

#endif
