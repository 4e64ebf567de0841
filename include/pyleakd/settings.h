/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * What the daemon tells the BPF programs before they are loaded, and what it
 * reads back of their counters.  The settings become read-only data, which the
 * verifier takes for constants: what a version of CPython does not have is not
 * even in the loaded program.
 *
 * Included by both sides, and by the host build of the frame walker.
 */
#ifndef PYLEAKD_SETTINGS_H
#define PYLEAKD_SETTINGS_H

#include "pyleakd/wire.h"

/* The programs that sites are attached to; which, goes by a site's kind (capture/sites.c). */
enum site_program {
	PROGRAM_ALLOC,
	PROGRAM_FREE,
	PROGRAM_CREATE,
	PROGRAM_NATIVE_ALLOC,
	PROGRAM_NATIVE_ENTER,
	PROGRAM_NATIVE_RETURN, /* a uretprobe */
	PROGRAM_REALLOC_ENTER,
	PROGRAM_REALLOC_RETURN,
	PROGRAM_NEW_POOL, /* of fresh-pool sites in groups that tell new pools */
	PROGRAM_NOTHING,
	SITE_PROGRAMS
};

#define SETTINGS_ABSENT 0xffffffffu /* this version has no such field */

/* Of a frame, the bytes from its first to its last field that is read; 3.8's need 88. */
#define SETTINGS_FRAME_BYTES_MAX 128
/* Any other field's offset is below this; the largest is in 3.14's thread state, some 600. */
#define SETTINGS_OFFSET_MAX 4096

struct settings {
	__u64 tstate_current_address; /* 0: thread-local */
	__s64 tstate_tls_offset;      /* from the thread pointer */
	__u64 tls_block_offset;	      /* or, with a tls_module, from its block in the thread */
	__u64 code_tag_mask;	      /* bits to clear in a frame's reference to its code */
	__u64 interpreter_start, interpreter_end; /* its text in the target */
	__u64 finalizing_address; /* of _PyRuntime's finalizing thread state; 0: not known */
	__u64 wakeup_bytes; /* outstanding in the ring when the consumer is woken */
	__u32 target;	    /* thread group, as the host counts it */
	__u32 tstate_frame;
	__u32 tstate_thread_id;
	__u32 cframe_current_frame; /* SETTINGS_ABSENT: tstate_frame is the frame itself */
	/* A frame is read from frame + frame_from, frame_bytes long; the _at are inside of that. */
	__u32 frame_from;
	__u32 frame_bytes;
	__u32 code_at;
	__u32 previous_at;
	__u32 position_at;
	__u32 position_bytes;  /* 4 or 8 */
	__u32 owner_at;	       /* SETTINGS_ABSENT: frames are objects of their own (up to 3.10) */
	__u32 owner_skip_from; /* owners from this on are no Python frames; 0: all are */
	__u32 object_type;     /* offset of ob_type */
	__u32 pool_bytes;      /* a power of two */
	__u32 pool_size_index; /* offset of szidx in a pool's header */
	/*
	 * Of a library that was loaded later, each thread's block is listed in the thread's
	 * own vector, at tls_entry_at; how many entries that has is said tls_count_before its
	 * address.
	 */
	__u32 tls_module; /* 0: the offset from the thread pointer holds */
	__u32 tls_entry_at;
	__u32 tls_count_before;
	/*
	 * Sites go in by group and are counted one by one (bpf/window.bpf.h): a site's counter is
	 * at site_base[file] + its index, or, as one that tells new pools, n_window_sites behind.
	 */
	__u32 windows; /* 0: none of this */
	__u32 n_window_sites;
	__u32 site_base[4]; /* by the cookie's file */
	/*
	 * Where a program is attached by an event of tracefs, which has one cookie for all its
	 * sites: a site's is looked up by its address (bpf/cookie.bpf.h).
	 */
	__u32 cookie_by_address;
	__u32 reserved;
};

/*
 * The cookies of the sites at one address that have the same program: the arms
 * of a jump, one for each of its two conditions.
 */
#define SITE_COOKIES_MAX 2

struct site_cookies {
	__u64 cookies[SITE_COOKIES_MAX];
	__u64 n;
};

/* Addresses of user space have 47 bits, or 56. A return probe's address is its caller's: 0. */
#define SITE_COOKIES_KEY(program, address) ((__u64)(program) << 56 | (__u64)(address))

/* One for each CPU; the daemon adds them up. */
struct counters {
	__u64 hits[16];	  /* by enum wire_site_kind; the cookie has four bits for it */
	__u64 losses[16]; /* by enum wire_loss */
	__u64 mappings;
};

/*
 * Groups of sites.  A group's programs fall silent once it was hit limit times;
 * armed is the limit whose passing is still to be told, so that whoever
 * compares and swaps it with 0 is the one that tells.  Both sides change it,
 * atomically.  A cache line, as groups are hit on all CPUs.
 */
#define WINDOW_GROUPS_MAX 16
#define WINDOW_NO_LIMIT (~0ULL)

struct window_group {
	__u64 hits; /* since it was opened, silent ones included */
	__u64 limit;
	__u64 armed;   /* 0: told */
	__u64 untaken; /* hits within the limit at which the site's condition did not hold */
	__u64 reserved[4];
};

/* Of a site that was in none so far, or whose address is in another one's event. */
#define WINDOW_NO_GROUP 0xffffffffULL

struct window_site {
	__u64 hits; /* since the programs were loaded */
	__u64 group;
};

/*
 * Addresses that were pools: a table of bit sets, of 64 neighbouring pools
 * each, in which both sides claim and set with atomic instructions.  A key is
 * the pools' common address bits + 1 (0: free), and stands at most
 * POOL_SET_PROBES places behind its own.  Nothing is ever taken out.
 *
 *	place = hash(key)      [ 0 | key 7: 0…0110 | key 9: 1…1111 | 0 ]
 */
#define POOL_SETS 32768 /* a power of two; pools of 16 KiB: 32 GiB, of 4 KiB: 8 GiB, when full */
#define POOL_SET_PROBES 16
#define POOL_SET_BITS 64

struct pool_set {
	__u64 key;
	__u64 bits;
};

static inline __u32 pool_set_place(__u64 key)
{
	return (__u32)(key * 0x9e3779b97f4a7c15ULL >> 32);
}

#ifndef __bpf__
_Static_assert(sizeof(struct window_group) == 64, "window_group");
_Static_assert(sizeof(struct settings) == 168, "settings");
_Static_assert(SITE_KINDS <= 16 && WIRE_LOSS_MAX <= 16, "counters");
#endif

#endif
