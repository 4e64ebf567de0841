/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Probes in one process, and the ring they write to.  The only user of libbpf.
 * Four phases, each of which fails on its own and leaves nothing behind:
 *
 *	prepare   features of this kernel probed, guards asked, plans fitted
 *	load      the BPF programs loaded, maps filled
 *	attach    bytes of every site compared in the target before, breakpoints
 *	          read back after; what the kernel refuses is dropped and counted
 *	activate  records flow (those of forks, execs and exits do so once attached)
 */
#ifndef PYLEAKD_CAPTURE_CAPTURE_H
#define PYLEAKD_CAPTURE_CAPTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/fault.h"
#include "probes/plan.h"
#include "pyleakd/wire.h"

#define CAPTURE_RING_BYTES_DEFAULT (64u << 20)
#define CAPTURE_FILES_MAX 4

struct capture;

/* How the BPF frame walker finds the stack; filled by cpython's layouts. */
struct capture_stack_layout {
	uint32_t minor; /* 8 … 15 */
	/* Current thread state: absolute address of the pointer to it, or 0 ... */
	uint64_t tstate_current_address;
	/* ... and then its offset from the thread pointer (%fs), negative. */
	int64_t tstate_tls_offset;
	/* Not 0: the block of this module counts, tls_module_offset into it, and not the above. */
	uint64_t tls_module;
	uint64_t tls_module_offset;
	uint32_t tls_dtv_entry_bytes; /* 16: glibc's vectors; 8: musl's */
	/* Offsets in bytes; UINT32_MAX: this version has no such field. */
	uint32_t tstate_frame;	       /* frame, or cframe, or current_frame */
	uint32_t cframe_current_frame; /* 3.11, 3.12 */
	uint32_t tstate_thread_id;     /* pthread_t */
	uint32_t tstate_interp;
	uint32_t frame_code;		/* f_code or f_executable */
	uint32_t frame_previous;	/* f_back or previous */
	uint32_t frame_position;	/* f_lasti, prev_instr, instr_ptr */
	uint32_t frame_position_bytes;	/* 4 for f_lasti, else 8 */
	uint32_t frame_owner;		/* 3.11+ */
	uint32_t frame_owner_skip_from; /* owner values from this on are no Python frames (0: none)
					 */
	uint64_t code_tag_mask;		/* bits to clear in frame_code (3.14+: 3), else 0 */
	uint64_t code_type_address;	/* PyCode_Type: only 3.13+ need it, else 0 */
	uint32_t object_type;		/* offset of ob_type */
	uint32_t pool_size;		/* 4096 or 16384 */
	uint32_t pool_size_index; /* offset of szidx in a pool's header; 0: where it always was */
};

/* One file to probe: its plan, and how to open and find it in the target. */
struct capture_file {
	const struct plan *plan; /* stays the caller's and must outlive the capture */
	const char *path; /* as this process can open it: /proc/PID/map_files/… or root/… */
	uint64_t bias;	  /* of the mapping in the target: address = vaddr + bias */
};

struct capture_options {
	pid_t pid;
	const struct capture_file *files;
	size_t n_files;
	struct capture_stack_layout layout;
	/* The interpreter's own text in the target, to tell who calls malloc. */
	uint64_t interpreter_start, interpreter_end;
	/* Of the word in which the runtime names whoever tears it down; 0: its end is not told. */
	uint64_t finalizing_address;
	size_t ring_bytes;   /* power of two; 0: default */
	bool native;	     /* probe the C library and memory mappings too */
	bool windows;	     /* attach no sites: they go in by group (windows.h) */
	bool empty_programs; /* bench: programs that return at once on the same sites */
};

struct capture_refusal {
	enum reason reason;
	uint32_t sites; /* how many */
	uint64_t vaddr; /* of the first one */
	uint8_t kind;
};

/*
 * -EOPNOTSUPP KERNEL_LACKS (field: what), -EINVAL OUT_OF_BOUNDS (field: which
 * setting), -ESRCH NOT_MAPPED: no such process, -EOWNERDEAD NO_LEADER.  Where
 * the programs or their maps did not load, or could not be asked for at all:
 * PROGRAMS_REFUSED.  Other errors of the phases carry KERNEL_LACKS where libbpf
 * or the kernel failed, with the act that failed as the field.
 */
int capture_prepare(const struct capture_options *options, struct capture **ret,
		    struct fault *reterr_fault);
int capture_load(struct capture *capture, struct fault *reterr_fault);
/* Why the last load failed and what to do about it, the capture's; "": it did not. */
const char *capture_load_refusal(const struct capture *capture);
int capture_attach(struct capture *capture, struct fault *reterr_fault);
/*
 * Not again after WIRE_FINALIZE, with which the programs deactivate themselves: what the
 * interpreter frees on its way out is no record's.
 */
int capture_activate(struct capture *capture);
/* Records stop; then the probes go. Both may be called at any time, any number of times. */
void capture_deactivate(struct capture *capture);
void capture_detach(struct capture *capture);
void capture_free(struct capture *capture); /* detaches */

/*
 * What attaching will cost the target's memory: every probed page of its text
 * becomes a private copy, charged to its group. Known once it is prepared.
 */
uint64_t capture_cost_bytes(const struct capture *capture);

/*
 * Takes the breakpoints out of children that the target has forked and that
 * are no targets themselves: they inherit them, and run trapped and unseen.
 */
int capture_release_children(struct capture *capture);

/* Sites that were refused or dropped, by reason. Valid until the capture is freed. */
size_t capture_refusals(const struct capture *capture, const struct capture_refusal **ret);
size_t capture_attached_sites(const struct capture *capture);

/* The ring's epoll descriptor; readable when there are records. */
int capture_fd(const struct capture *capture);
/*
 * Hands records to consume until the ring is empty or max_records were handed
 * over. A record that is too short for its kind is counted, not handed over.
 * Returns how many were taken, malformed ones included, or -errno.
 */
bool capture_record_is_whole(const void *record, size_t size);
typedef void capture_consumer(void *context, const struct wire_header *record, size_t size);
int capture_consume(struct capture *capture, capture_consumer *consume, void *context,
		    size_t max_records);
/*
 * Where the ring's producer stands now; capture_consumed() >= this means that
 * every record written before was consumed.
 */
uint64_t capture_produced(const struct capture *capture);
uint64_t capture_consumed(const struct capture *capture);

struct capture_counters {
	uint64_t hits[SITE_KINDS];
	uint64_t mappings;
	uint64_t losses[WIRE_LOSS_MAX];
	uint64_t malformed;
};
int capture_counters(const struct capture *capture, struct capture_counters *ret);

/* Whether mmap, munmap and mremap are told; they are at first. brk always is. */
void capture_mappings(struct capture *capture, bool told);

/*
 * What the kernel counts of each program while statistics are on
 * (bpf_enable_stats), for calibration. Returns how many there are, at most
 * max; names are static.
 */
struct capture_program {
	const char *name;
	bool of_site; /* run at hits of sites; otherwise at calls and events of the kernel's */
	uint64_t runs;
	uint64_t run_ns;
};
#define CAPTURE_PROGRAMS_MAX 24
int capture_programs(const struct capture *capture, struct capture_program *ret, size_t max);
/*
 * Turns them on or off, for all programs of the host; some 50 ns a run.  Off with the capture's
 * end.  -EPERM without CAP_SYS_ADMIN.
 */
int capture_time_programs(struct capture *capture, bool on);

/* A code object's address was re-used: stacks that are seen again are sent again. */
int capture_forget_stacks(struct capture *capture);

/* Thread states known in user space, for allocations without the GIL: pthread_t → thread state. */
int capture_add_thread(struct capture *capture, uint64_t pthread_address, uint64_t tstate);

#endif
