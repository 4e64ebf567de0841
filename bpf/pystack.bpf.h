/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Walks the Python frames of the current thread: from the thread state to the
 * innermost frame, and along its callers.
 *
 * From 3.11 on frames are not objects: those of a thread lie one behind the
 * other in its data stack, callers at lower addresses, in chunks of 16 KiB and
 * more (CPython, Include/internal/pycore_frame.h, Python/pystate.c
 * push_chunk).  So one read of the bytes below a frame brings most of its
 * callers along:
 *
 *	lower addresses                                 higher
 *	| page ...   [main] locals [handle] locals [load] |
 *	             ^-- window.start                     ^ end of the frame walked first
 *
 * The window ends with the frame that made it necessary and begins at most
 * WINDOW_BYTES before, never before that frame's page: a page further down may
 * not exist, and one byte that can't be read fails the whole read.  Frames of
 * generators and coroutines lie inside their objects, elsewhere in the heap;
 * they are read singly, and the window is kept for what follows.  Up to 3.10
 * every frame is such an object.
 *
 * Every read costs some 30 ns, 4 KiB no more than twice that, a frame found in the
 * window 6.
 */
#ifndef PYLEAKD_BPF_PYSTACK_H
#define PYLEAKD_BPF_PYSTACK_H

#include "helpers.h"

#define WINDOW_BYTES 4096 /* a power of two: offsets are masked for the verifier */
#define WINDOW_PAGE_BYTES 4096ULL
/* A frame that is this little below the window belongs to the same data stack. */
#define WINDOW_NEAR_BYTES 16384ULL
/* Entry frames (3.12+) are passed over, at most one for each Python frame. */
#define WALK_STEPS_MAX (2 * WIRE_MAX_FRAMES)
#define WALK_STRIDE 4

/* glibc's mark (sysdeps/generic/dl-dtv.h, TLS_DTV_UNALLOCATED); musl's is null. */
#define TLS_BLOCK_UNALLOCATED (~0ULL)

SETTINGS_STORAGE struct settings settings;

struct stack_window {
	__u64 start; /* address of the first byte */
	__u64 n; /* offsets below are frames of the window; 0: it is empty, and only begins there */
};

/*
 * What does not fit BPF's 512 bytes of stack; in the order of use, because
 * after a trap each page costs a TLB miss.
 */
struct stack_scratch {
	__u64 slot_bit;
	__u64 n_frames;
	struct stack_window window;
	/* The window; behind it, room for one frame that was read singly. */
	__u8 bytes[WINDOW_BYTES + SETTINGS_FRAME_BYTES_MAX];
	struct { /* a struct wire_stack as it is sent */
		struct wire_header header;
		__u64 id;
		__u32 n_frames;
		__u32 flags;
		struct wire_frame frames[WIRE_MAX_FRAMES];
	} record;
};

/*
 * What changes from frame to frame is kept in memory, of whose contents the
 * verifier knows nothing: it would try to follow every combination otherwise,
 * and give up after a million.
 */
#define IN_MEMORY(lvalue) (*(volatile __typeof__(lvalue) *)&(lvalue))

/* Reads the frame whose fields are at this address, and what lies before it in its page. */
static __always_inline int window_load(struct stack_scratch *scratch, __u64 at)
{
	__u64 before = at & (WINDOW_PAGE_BYTES - 1);

	if (before > WINDOW_BYTES - settings.frame_bytes)
		before = WINDOW_BYTES - settings.frame_bytes;
	if (read_user(scratch->bytes, before + settings.frame_bytes, at - before))
		return -1;
	IN_MEMORY(scratch->window.start) = at - before;
	IN_MEMORY(scratch->window.n) = before + 1;
	return 0;
}

/*
 * Reads a frame that the window does not hold. Returns the offset of its
 * fields in scratch->bytes, negative if they can't be read.  Apart, so that
 * those that it does hold find their registers where they left them.
 */
static __noinline long frame_read(struct stack_scratch *scratch, __u64 at)
{
	if (settings.owner_at != SETTINGS_ABSENT &&
	    IN_MEMORY(scratch->window.start) - at < WINDOW_NEAR_BYTES && !window_load(scratch, at))
		return (IN_MEMORY(scratch->window.n) - 1) & (WINDOW_BYTES - 1);
	if (read_user(scratch->bytes + WINDOW_BYTES, settings.frame_bytes, at))
		return -1;
	/* Back from a heap frame to another place of the data stack: a window is to end here. */
	if (settings.owner_at != SETTINGS_ABSENT &&
	    !scratch->bytes[WINDOW_BYTES + settings.owner_at]) {
		IN_MEMORY(scratch->window.start) = at;
		IN_MEMORY(scratch->window.n) = 0;
	}
	return WINDOW_BYTES;
}

/* Finds or reads a frame's fields, as frame_read() does. */
static __always_inline long frame_fetch(struct stack_scratch *scratch, __u64 at)
{
	__u64 offset = at - IN_MEMORY(scratch->window.start);

	if (offset >= IN_MEMORY(scratch->window.n))
		return frame_read(scratch, at);
	opaque(offset);
	return offset & (WINDOW_BYTES - 1);
}

static __always_inline __u64 hash_mix(__u64 hash, __u64 word)
{
	hash = (hash ^ word) * 0x9e3779b97f4a7c15ULL;
	return hash ^ hash >> 32;
}

/* Of a frame: what does not wait for the frames before it is multiplied beside them. */
static __always_inline __u64 hash_mix_frame(__u64 hash, __u64 code, __u64 position)
{
	return hash_mix(hash, code * 0xd6e8feb86659fd93ULL + position * 0xa0761d6478bd642fULL);
}

static __always_inline __u64 frame_position(const __u8 *fields)
{
	if (settings.position_bytes == 4)
		return load_u32(fields + settings.position_at);
	return load_u64(fields + settings.position_at);
}

static __always_inline bool frame_is_python(const __u8 *fields, __u64 code)
{
	if (settings.owner_at != SETTINGS_ABSENT && settings.owner_skip_from &&
	    fields[settings.owner_at] >= settings.owner_skip_from)
		return false;
	return code != 0; /* 3.14+: a frame that is being cleared */
}

struct frames_walk {
	struct stack_scratch *scratch;
	__u64 frame;
	__u64 hash;
	__u32 flags;
};

/* One frame, and on to its caller. True: the walk is over. */
static __always_inline bool frame_step(struct frames_walk *walk, struct stack_scratch *scratch)
{
	long offset = frame_fetch(scratch, walk->frame + settings.frame_from);
	const __u8 *fields;
	__u64 code, position, n_frames;

	if (offset < 0) {
		count_loss(WIRE_LOSS_FRAME_UNREADABLE);
		walk->flags = WIRE_STACK_BROKEN;
		return true;
	}
	fields = scratch->bytes + offset;
	code = load_u64(fields + settings.code_at) & ~settings.code_tag_mask;
	walk->frame = load_u64(fields + settings.previous_at);
	if (!frame_is_python(fields, code))
		return !walk->frame;
	n_frames = IN_MEMORY(scratch->n_frames);
	if (n_frames >= WIRE_MAX_FRAMES) {
		walk->flags = WIRE_STACK_CUT;
		return true;
	}
	position = frame_position(fields);
	scratch->record.frames[n_frames].code = code;
	scratch->record.frames[n_frames].position = position;
	IN_MEMORY(scratch->n_frames) = n_frames + 1;
	walk->hash = hash_mix_frame(walk->hash, code, position);
	return !walk->frame;
}

/* WALK_STRIDE frames at a time: a call for each would cost a third of what the frame does. */
static long frames_stride(__u32 index, void *context)
{
	struct frames_walk *shared = context;
	struct frames_walk walk = *shared;
	bool over = false;

	(void)index;
	for (int i = 0; i < WALK_STRIDE && !over; i++)
		over = frame_step(&walk, walk.scratch);
	*shared = walk;
	return over;
}

/*
 * Collects the frames from this one outwards into scratch->record, and gives
 * the stack its id: the same for the same frames, unless the seed changes.
 */
static __always_inline __u64 frames_walk(struct stack_scratch *scratch, __u64 frame, __u64 seed)
{
	struct frames_walk walk = {.scratch = scratch, .frame = frame, .hash = seed};
	__u64 n_frames;

	if (!frame)
		return WIRE_STACK_NONE;
	/* Empty, and near to the first frame. */
	scratch->window.start = frame + settings.frame_from;
	scratch->window.n = 0;
	scratch->n_frames = 0;
	repeat(WALK_STEPS_MAX / WALK_STRIDE, frames_stride, &walk);
	if (walk.frame && !walk.flags) /* out of steps */
		walk.flags = WIRE_STACK_CUT;
	n_frames = IN_MEMORY(scratch->n_frames);
	scratch->record.n_frames = n_frames;
	scratch->record.flags = walk.flags;
	if (!n_frames)
		return walk.flags & WIRE_STACK_BROKEN ? WIRE_STACK_UNREADABLE : WIRE_STACK_NONE;
	walk.hash = hash_mix(walk.hash, walk.flags);
	return walk.hash < WIRE_STACK_FIRST ? walk.hash + WIRE_STACK_FIRST : walk.hash;
}

/* The innermost frame of a thread state; 0 if it runs no Python. */
static __always_inline int tstate_frame(__u64 tstate, __u64 *ret)
{
	__u64 frame;

	if (read_user(&frame, sizeof(frame), tstate + settings.tstate_frame))
		return -1;
	if (settings.cframe_current_frame != SETTINGS_ABSENT && frame &&
	    read_user(&frame, sizeof(frame), frame + settings.cframe_current_frame))
		return -1;
	*ret = frame;
	return 0;
}

/*
 * This thread's block of a library that was loaded later; 0: it has none yet.
 * Blocks are made when they are first used, and so are the longer vectors that
 * they need: what lies behind a short one's end is somebody else's.
 */
static __always_inline int tls_block(__u64 *ret)
{
	__u64 vector, count, block;

	if (read_user(&vector, sizeof(vector), thread_pointer() + 8) ||
	    read_user(&count, sizeof(count), vector - settings.tls_count_before))
		return -1;
	*ret = 0;
	if (settings.tls_module > count)
		return 0;
	if (read_user(&block, sizeof(block), vector + settings.tls_entry_at))
		return -1;
	if (block != TLS_BLOCK_UNALLOCATED)
		*ret = block;
	return 0;
}

/*
 * The thread state of whoever holds the GIL: up to 3.11 a field of the
 * runtime, from 3.12 on thread-local, and then always this thread's own (0
 * while it has released its GIL).
 */
static __always_inline int tstate_current(__u64 *ret)
{
	__u64 address = settings.tstate_current_address;

	if (!address && settings.tls_module) {
		if (tls_block(&address))
			return -1;
		if (!address) {
			*ret = 0;
			return 0;
		}
		address += settings.tls_block_offset;
	} else if (!address) {
		address = thread_pointer() + settings.tstate_tls_offset;
	}
	return read_user(ret, sizeof(*ret), address);
}

static __always_inline bool tstate_is_of(__u64 tstate, __u64 pointer)
{
	__u64 thread_id;

	return !read_user(&thread_id, sizeof(thread_id), tstate + settings.tstate_thread_id) &&
	       thread_id == pointer;
}

/*
 * The thread state of this thread, with or without the GIL: malloc and mmap
 * don't ask for it.  0: it has none that is known.  The current one comes
 * first, for a thread may have several (sub-interpreters).
 */
static __always_inline int tstate_of_thread(__u64 *ret)
{
	__u64 pointer = thread_pointer();
	__u64 current;
	__u64 known;

	if (tstate_current(&current))
		return -1;
	known = thread_recall(pointer);
	if (current && tstate_is_of(current, pointer)) {
		if (known != current)
			thread_remember(pointer, current);
		*ret = current;
		return 0;
	}
	*ret = known && tstate_is_of(known, pointer) ? known : 0;
	return 0;
}

/*
 * The stack of the current thread.  with_gil: the caller can't but hold it
 * (pymalloc, creations), so that the current thread state is this thread's.
 */
static __always_inline __u64 stack_walk(struct stack_scratch *scratch, bool with_gil, __u64 seed)
{
	__u64 tstate = 0;
	__u64 frame = 0;

	if (with_gil ? tstate_current(&tstate) : tstate_of_thread(&tstate)) {
		count_loss(WIRE_LOSS_THREAD_STATE_UNREADABLE);
		return WIRE_STACK_UNREADABLE;
	}
	if (!tstate)
		return WIRE_STACK_NONE;
	if (tstate_frame(tstate, &frame)) {
		count_loss(WIRE_LOSS_THREAD_STATE_UNREADABLE);
		return WIRE_STACK_UNREADABLE;
	}
	return frames_walk(scratch, frame, seed);
}

#endif
