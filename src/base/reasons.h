/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Every reason for which something was lost, refused or could not be read: one
 * row each.  enum, sentence and metric label come from this table.  Numbers
 * stand in recordings and dashboards: append, never re-use; a retired row
 * keeps its number and is marked so.  0-99 are losses counted in BPF (their
 * order is enum wire_loss), 100-199 losses in the daemon, 200-299 reads of
 * foreign memory and files, 300-399 what is refused for the target's sake.
 *
 * X(number, NAME, label, sentence)
 */
#ifndef PYLEAKD_BASE_REASONS_H
#define PYLEAKD_BASE_REASONS_H

#define REASONS(X)                                                                              \
	X(0, RING_FULL, "ring_full", "the ring buffer was full")                                \
	X(1, STACK_MAP_FULL, "stack_map_full", "the table of known stacks was full")            \
	X(2, FRAME_UNREADABLE, "frame_unreadable", "a Python frame could not be read")          \
	X(3, THREAD_STATE_UNREADABLE, "thread_state_unreadable",                                \
	  "a thread state could not be read")                                                   \
	X(4, BLOCK_UNREADABLE, "block_unreadable", "a block's address could not be read")       \
	X(5, SIZE_UNREADABLE, "size_unreadable", "a block's size could not be read")            \
	X(6, THREAD_MAP_FULL, "thread_map_full", "too many threads inside allocator calls")     \
	X(7, UNKNOWN_SITE, "unknown_site", "a probe was hit that is not in the plan")           \
	X(8, STACK_RECORD_LOST, "stack_record_lost", "a stack's frames did not fit the ring")   \
	X(9, REENTERED, "reentered", "a probe was hit while another one was handled")           \
	X(10, POOL_MAP_FULL, "pool_map_full", "the table of known pools was full")              \
	X(100, RECORD_MALFORMED, "record_malformed", "a ring record was malformed")             \
	X(101, LEDGER_FULL, "ledger_full", "more blocks were outstanding than the cap allows")  \
	X(102, STACK_UNKNOWN, "stack_unknown", "a block's stack was never delivered")           \
	X(103, CODE_UNREADABLE, "code_unreadable", "a code object was gone before it was read") \
	X(104, FREE_MISSED, "free_missed", "a block died without its free having been seen")    \
	X(105, ALLOC_REPEATED, "alloc_repeated",                                                \
	  "an address was given out twice without a free between")                              \
	X(106, CODE_CACHE_FULL, "code_cache_full",                                              \
	  "more code objects were seen than are remembered")                                    \
	X(107, CHILD_MISSED, "child_missed",                                                    \
	  "a forked child was passed over: too many came at once")                              \
	X(200, READ_FAILED, "read_failed", "memory could not be read")                          \
	X(201, NOT_MAPPED, "not_mapped", "no such memory")                                      \
	X(202, SWAPPED, "swapped", "memory is swapped out and was left so")                     \
	X(203, OUT_OF_BOUNDS, "out_of_bounds", "a value is outside its bounds")                 \
	X(204, MALFORMED, "malformed", "a structure is malformed")                              \
	X(205, TOO_LARGE, "too_large", "a structure is larger than its limit")                  \
	X(206, CONTRADICTION, "contradiction", "the target contradicts its expected layout")    \
	X(207, NOT_FOUND, "not_found", "a structure was not found")                             \
	X(208, TRUNCATED, "truncated", "a file or recording is cut off")                        \
	X(209, UNSUPPORTED, "unsupported", "a version or format is not supported")              \
	X(210, UNDECODABLE, "undecodable", "machine code could not be decoded")                 \
	X(300, NO_HEADROOM, "no_headroom",                                                      \
	  "the target is too close to its memory limit for breakpoints")                        \
	X(301, TEXT_DIFFERS, "text_differs", "the target's text differs from its file")         \
	X(302, KERNEL_REFUSED_SITE, "kernel_refused_site",                                      \
	  "the kernel refused a breakpoint on this instruction")                                \
	X(303, BREAKPOINT_MISSING, "breakpoint_missing",                                        \
	  "a breakpoint did not appear in the target")                                          \
	X(304, UNSAFE_INSTRUCTION, "unsafe_instruction",                                        \
	  "a breakpoint on this instruction is unsafe on this kernel")                          \
	X(305, NO_LEADER, "no_leader", "the target's first thread is gone")                     \
	X(306, KERNEL_LACKS, "kernel_lacks", "the kernel lacks a feature")                      \
	X(307, FORK_IN_WINDOW, "fork_in_window", "the target forked while probed")              \
	X(308, BUILD_CHANGED, "build_changed", "the running build differs from the plan's")     \
	X(309, NO_PLAN, "no_plan", "no probe plan could be made for this build")                  \
	X(310, PROGRAMS_REFUSED, "programs_refused", "the kernel did not take the programs")      \
	X(399, NONE, "none", "no reason was given")

enum reason {
#define REASON_ENUM(number, name, label, sentence) REASON_##name = (number),
	REASONS(REASON_ENUM)
#undef REASON_ENUM
};

/* Static text; "unknown reason" and "unknown" for a number that has no row. */
const char *reason_sentence(enum reason reason);
const char *reason_label(enum reason reason);

#endif
