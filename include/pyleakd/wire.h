/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The records that the BPF programs write into the ring and the daemon reads,
 * and the settings that the daemon hands to the BPF programs.
 *
 * The only header that both sides include.  Fixed widths, no padding that is
 * not named, sizes asserted at the end.  Kinds, flags and loss numbers stand
 * in recordings: append, never renumber, never re-use.
 *
 * Ring records have variable length; each begins with struct wire_header,
 * whose kind says which struct it is.  The consumer checks the length.
 */
#ifndef PYLEAKD_WIRE_H
#define PYLEAKD_WIRE_H

#ifndef __VMLINUX_H__ /* BPF programs bring their own kernel types */
#include <linux/types.h>
#endif

#define WIRE_VERSION 1
#define WIRE_MAX_FRAMES 128 /* deeper stacks are cut, WIRE_STACK_CUT */

/* Ids of stacks are 64-bit hashes of their frames; these are reserved. */
#define WIRE_STACK_NONE 0 /* the thread runs no Python frame */
#define WIRE_STACK_UNREADABLE 1 /* there is one, but it could not be read */
#define WIRE_STACK_FIRST 16 /* real hashes are at least this */

enum wire_kind {
	WIRE_ALLOC = 1, /* struct wire_alloc: a pymalloc block handed out */
	WIRE_FREE = 2, /* struct wire_free: a pymalloc block given back */
	WIRE_CREATE = 3, /* struct wire_create: _Py_NewReference of an object */
	WIRE_STACK = 4, /* struct wire_stack: frames of a stack, once an id and seed */
	WIRE_NATIVE_ALLOC = 5, /* struct wire_alloc: the C library's malloc family */
	WIRE_NATIVE_FREE = 6, /* struct wire_free */
	WIRE_NATIVE_REALLOC = 7, /* struct wire_realloc */
	WIRE_MMAP = 8, /* struct wire_mapping */
	WIRE_MUNMAP = 9, /* struct wire_mapping */
	WIRE_MREMAP = 10, /* struct wire_mapping */
	WIRE_BRK = 11, /* struct wire_mapping: address = the new break */
	WIRE_FORK = 12, /* struct wire_process */
	WIRE_EXEC = 13, /* struct wire_process */
	WIRE_EXIT = 14, /* struct wire_process: the whole thread group ended */
	WIRE_DESTROY = 15, /* struct wire_free: an object's deallocation began */
	/*
	 * struct wire_process: the interpreter has begun to tear its heap down (Py_FinalizeEx);
	 * the last record of pymalloc and the C library
	 */
	WIRE_FINALIZE = 16,
	WIRE_LIMIT = 17, /* struct wire_limit: a group's hit limit was reached, its records stop */
	/*
	 * struct wire_alloc: a pool at an address that was never one before; address: the pool's,
	 * size: of its blocks. Of groups made by capture_group_define_pools() only.
	 */
	WIRE_NEW_POOL = 18,
};

/* wire_header.flags */
#define WIRE_FRESH_POOL 0x01 /* ALLOC: first block of a pool just initialised */
#define WIRE_SIZE_UNKNOWN 0x02 /* ALLOC: the size could not be read, size is 0 */
#define WIRE_FROM_INTERPRETER 0x04 /* NATIVE_*: called from the interpreter's own text */
#define WIRE_TYPE_UNKNOWN 0x08 /* CREATE: ob_type could not be read, type is 0 */
#define WIRE_SHARES_MEMORY 0x10 /* FORK: a child in the same memory (vfork), until it executes */
#define WIRE_FROM_CALLER 0x20 /* CREATE: seen at a SITE_CALLER, after its creation */

struct wire_header {
	__u8 kind;
	__u8 flags;
	__u16 site; /* index into the plan, 0xffff when none */
	__u32 tid; /* thread id in the host's pid namespace */
};

struct wire_free {
	struct wire_header header;
	__u64 address;
};

struct wire_alloc {
	struct wire_header header;
	__u64 address; /* of the block */
	__u64 stack;
	__u64 size; /* bytes the block takes: size class, or usable size of the chunk */
};

struct wire_create {
	struct wire_header header;
	__u64 address; /* of the PyObject: the block may begin before it */
	__u64 stack;
	__u64 type; /* ob_type */
};

struct wire_realloc {
	struct wire_header header;
	__u64 old_address; /* 0: realloc(NULL, n) */
	__u64 address; /* 0: freed (realloc(p, 0)) */
	__u64 stack;
	__u64 size; /* usable size of the new chunk */
};

struct wire_mapping {
	struct wire_header header;
	__u64 address;
	__u64 size;
	/* MREMAP; BRK: the break before, or, where only new maxima are told, the last one */
	__u64 old_address;
	__u64 old_size;
	__u64 stack;
	__u32 protection; /* PROT_*, MMAP */
	__u32 map_flags; /* MAP_*, MMAP */
};

struct wire_process {
	struct wire_header header;
	__u32 pid; /* FORK: the child */
	__u32 reserved;
};

struct wire_limit {
	struct wire_header header; /* site: the group's number */
	__u64 hits; /* of the group since it was opened, this one included */
};

/* Raw frame: what the interpreter holds, interpreted by version in user space. */
struct wire_frame {
	__u64 code; /* address of the code object */
	__u64 position; /* f_lasti (3.8-3.10), prev_instr (3.11, 3.12), instr_ptr (3.13+) */
};

/* wire_stack.flags */
#define WIRE_STACK_CUT 0x01 /* more frames than WIRE_MAX_FRAMES */
#define WIRE_STACK_BROKEN 0x02 /* a caller's frame could not be read */

struct wire_stack {
	struct wire_header header;
	__u64 id;
	__u32 n_frames;
	__u32 flags;
	struct wire_frame frames[]; /* leaf first */
};

/*
 * Why something that was seen was not delivered.  One counter each in BPF, a
 * row each in src/base/reasons.h.
 */
enum wire_loss {
	WIRE_LOSS_RING_FULL = 0,
	WIRE_LOSS_STACK_MAP_FULL = 1,
	WIRE_LOSS_FRAME_UNREADABLE = 2,
	WIRE_LOSS_THREAD_STATE_UNREADABLE = 3,
	WIRE_LOSS_BLOCK_UNREADABLE = 4, /* the block's address is in memory that did not read */
	WIRE_LOSS_SIZE_UNREADABLE = 5,
	WIRE_LOSS_THREAD_MAP_FULL = 6, /* realloc/mmap entered, no room to remember */
	WIRE_LOSS_UNKNOWN_SITE = 7,
	WIRE_LOSS_STACK_RECORD = 8, /* the ring had no room for a stack's frames */
	WIRE_LOSS_REENTERED = 9, /* per-CPU scratch was in use */
	WIRE_LOSS_POOL_MAP_FULL = 10, /* a pool's address found no room: new or not, not told */
	WIRE_LOSS_MAX
};

/* What a probe has to do; struct plan_site.kind (src/probes/plan.h). */
enum wire_site_kind {
	SITE_ALLOC = 0,
	SITE_FREE = 1,
	SITE_FRESH = 2, /* first block of a pool */
	SITE_CREATE = 3,
	SITE_DESTROY = 4,
	SITE_NATIVE_ALLOC = 5, /* on the way to a return of malloc, calloc, memalign … */
	SITE_NATIVE_FREE = 6, /* at the entry of free */
	SITE_REALLOC_ENTER = 7, /* at the entry of realloc: remembers the old address */
	SITE_REALLOC_RETURN = 8, /* on the way to a return of realloc */
	SITE_NATIVE_ALLOC_ENTER = 9, /* fallback where no emulated site names the result */
	SITE_NATIVE_ALLOC_URETPROBE = 10, /* fallback: leaves an [uprobes] mapping */
	/*
	 * The check for NULL behind a constructor's call, once more for an object that passed a
	 * CREATE: tells WIRE_CREATE, if the object is new
	 */
	SITE_CALLER = 11,
	SITE_KINDS
};

/* How a site's pointer is found from the registers at the hit. */
enum wire_value {
	VALUE_REGISTER = 0, /* reg + displacement */
	VALUE_MEMORY = 1, /* *(u64 *)(reg + displacement) */
	VALUE_POOL_FIRST = 2, /* pool = reg + displacement; block = pool + 48 */
	VALUE_POOL_FIRST_MEMORY = 3, /* pool = *(u64 *)(reg + displacement); block = pool + 48 */
	/* pool = reg + displacement; ZF: *(u64 *)(pool + 8), else pool + 48 */
	VALUE_POOL_BY_ZF = 4,
	VALUE_POOL_BY_ZF_MEMORY = 5, /* the same, pool = *(u64 *)(reg + displacement) */
};

/*
 * x86 condition codes 0-15 as in the low nibble of jcc's opcode (Intel SDM
 * vol. 2, appendix B): the hit counts only if the condition holds in EFLAGS.
 */
#define WIRE_CONDITION_ALWAYS 16

/* Registers are numbered as in x86-64 encoding: rax 0 … rdi 7, r8 8 … r15 15. */

/*
 * The cookie of a site, all that a BPF program knows about it:
 *   bits 0-3 kind, 4-7 register, 8-11 value, 12-16 condition,
 *   17-23 return slot (1 + words from rsp to the return address, 0: not known),
 *   24-28 size register (FRESH: 1 + the register with the size class's index, 0: not known),
 *   29-30 file (windows: whose counters), 31 windows: tells new pools and nothing else,
 *   32-47 displacement (signed), 48-63 index into the plan.
 */
#define WIRE_COOKIE_RETURN_SLOT(slot) ((__u64)((slot) & 127) << 17)
#define WIRE_COOKIE_SIZE_REGISTER(reg) ((__u64)((reg) & 31) << 24)
#define WIRE_COOKIE_FILE(file) ((__u64)((file) & 3) << 29)
#define WIRE_COOKIE_NEW_POOLS ((__u64)1 << 31)
#define WIRE_COOKIE(kind, reg, value, condition, displacement, index)                   \
	((__u64)((kind) & 15) | (__u64)((reg) & 15) << 4 | (__u64)((value) & 15) << 8 |  \
	 (__u64)((condition) & 31) << 12 | (__u64)((displacement) & 0xffff) << 32 |      \
	 (__u64)((index) & 0xffff) << 48)

#ifndef __bpf__
_Static_assert(sizeof(struct wire_header) == 8, "wire_header");
_Static_assert(sizeof(struct wire_free) == 16, "wire_free");
_Static_assert(sizeof(struct wire_alloc) == 32, "wire_alloc");
_Static_assert(sizeof(struct wire_create) == 32, "wire_create");
_Static_assert(sizeof(struct wire_realloc) == 40, "wire_realloc");
_Static_assert(sizeof(struct wire_mapping) == 56, "wire_mapping");
_Static_assert(sizeof(struct wire_process) == 16, "wire_process");
_Static_assert(sizeof(struct wire_limit) == 16, "wire_limit");
_Static_assert(sizeof(struct wire_frame) == 16, "wire_frame");
_Static_assert(sizeof(struct wire_stack) == 24, "wire_stack");
#endif

#endif
