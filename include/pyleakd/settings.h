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
};

/* One for each CPU; the daemon adds them up. */
struct counters {
	__u64 hits[16];	  /* by enum wire_site_kind; the cookie has four bits for it */
	__u64 losses[16]; /* by enum wire_loss */
	__u64 mappings;
};

#ifndef __bpf__
_Static_assert(sizeof(struct settings) == 128, "settings");
_Static_assert(SITE_KINDS <= 16 && WIRE_LOSS_MAX <= 16, "counters");
#endif

#endif
