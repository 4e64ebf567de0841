/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * A recorded session: the ring's records and what was read of the target, in
 * the order in which they were taken, so that a replay runs everything after
 * capture again.  The format is described in docs/recording.md.
 *
 *	header │ facts … reads … │ record │ reads │ record │ tick │ reads │ … │ trailer
 *	                                   └ made while that record was handled
 *
 * The reader is one step ahead: with an item that it hands over, the memory is
 * as the item's handling saw it; where that saw something change, reads are
 * counted, so that a replay sees it change at the same read.
 *
 * Recordings are foreign bytes: what is read of them is bounded and checked.
 * They hold a target's memory: they are created for the owner's eyes only.
 */
#ifndef PYLEAKD_SERVICE_RECORDING_H
#define PYLEAKD_SERVICE_RECORDING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/fault.h"
#include "base/reasons.h"
#include "cpython/memory.h"
#include "pyleakd/wire.h"

#define RECORDING_VERSION 1
#define RECORDING_CHUNK_BYTES (256u << 10)   /* a chunk is written when it has grown to this */
#define RECORDING_READ_BYTES_MAX (64u << 10) /* longer reads become several items */
#define RECORDING_BYTES_MAX (64ULL << 30)    /* of a file; beyond, -EFBIG, and it is cut off */
#define RECORDING_FACTS_MAX 256
#define RECORDING_KEY_BYTES_MAX 64 /* NUL included */
#define RECORDING_VALUE_BYTES_MAX 4096
#define RECORDING_REFUSALS_MAX 64
#define RECORDING_REASONS_MAX 400

/* Numbers stand in recordings. */
enum recording_mark_kind {
	RECORDING_STARTED = 1,	    /* the probes are in, or the watch began */
	RECORDING_TICK = 2,	    /* an interval ended: what follows is its reconciliation */
	RECORDING_DRAINED = 3,	    /* within one: the ring was taken up to here */
	RECORDING_STOPPED = 4,	    /* the probes are out */
	RECORDING_FORGET_CODES = 5, /* code objects are compared with the target from here on */
	RECORDING_REPORTED = 6,	    /* a report was made; the last one is the session's */
};

struct recording_mark {
	enum recording_mark_kind kind;
	double time_seconds;	 /* since the session's start */
	uint64_t resident_bytes; /* of the target; UINT64_MAX: not known */
	uint64_t value;		 /* the session's to use */
};

/* --- writing --- */

struct recording_writer;

/*
 * Creates path (mode 0600; a file that is there is emptied) with its header
 * and the facts "pyleakd", "kernel" and "machine". -errno where that fails.
 */
int recording_writer_new(const char *path, struct recording_writer **ret);
/* Without recording_finish(): what was written is on disk, without a trailer. */
void recording_writer_free(struct recording_writer *writer);

/*
 * Each adds to the stream, in the order of the calls. The first failure (of
 * the disk, of memory, -EFBIG) sticks and is returned by each call after it; a
 * session may ignore them and ask recording_error().
 */
int recording_write_record(struct recording_writer *writer, const struct wire_header *record,
			   size_t size);
int recording_write_mark(struct recording_writer *writer, const struct recording_mark *mark);
int recording_write_tick(struct recording_writer *writer, double time_seconds);
/* What must be known before a replay can begin; see docs/recording.md. Later values replace. */
int recording_write_fact(struct recording_writer *writer, const char *key, const char *value);
int recording_write_fact_u64(struct recording_writer *writer, const char *key, uint64_t value);
int recording_write_fact_double(struct recording_writer *writer, const char *key, double value);
/* How often a reason has occurred since the session's start. */
int recording_write_loss(struct recording_writer *writer, enum reason reason, uint64_t count);
int recording_write_refusal(struct recording_writer *writer, const char *what, const char *why);
/* Only what differs from what the recording already says of these addresses is written. */
int recording_write_read(struct recording_writer *writer, uint64_t address, const void *bytes,
			 size_t size);
/* A read that failed; written where the reader would not know by itself. */
int recording_write_failed_read(struct recording_writer *writer, uint64_t address, size_t size,
				int error);
/* Both as a memory_observer, its context the writer. */
void recording_observe_read(void *writer, uint64_t address, const void *bytes, size_t size,
			    int error);

/* The trailer, and everything on disk. 0, or the first failure. */
int recording_finish(struct recording_writer *writer);
int recording_error(const struct recording_writer *writer);
uint64_t recording_bytes(const struct recording_writer *writer);

/* --- reading --- */

struct recording_reader;

/*
 * Opens a recording, and reads up to its first record or mark: the facts and
 * the memory as of then are there. -EBADMSG: not a recording, or one of an
 * unknown version (UNSUPPORTED). -errno of the file.
 */
int recording_reader_new(const char *path, struct recording_reader **ret,
			 struct fault *reterr_fault);
/* Of bytes, which stay the caller's and must outlive the reader. */
int recording_reader_new_from_bytes(const void *bytes, size_t size, struct recording_reader **ret,
				    struct fault *reterr_fault);
void recording_reader_free(struct recording_reader *reader);

/* NULL, or -ENOENT: it has no such fact; -EBADMSG: it is not a number. The text is the reader's. */
const char *recording_fact(const struct recording_reader *reader, const char *key);
int recording_fact_u64(const struct recording_reader *reader, const char *key, uint64_t *ret);
int recording_fact_double(const struct recording_reader *reader, const char *key, double *ret);

struct recording_item {
	const struct wire_header *record; /* NULL: a mark. Validated: sizes fit its kind */
	size_t size;			  /* of the record, in bytes */
	struct recording_mark mark;
};

/*
 * The next record or mark, valid until the call after this one: 1; 0 at the
 * end. -EBADMSG, with the offset in reterr_fault: damaged there, nothing
 * behind it is read (TRUNCATED: cut off; MALFORMED). -errno of the file.
 */
int recording_next(struct recording_reader *reader, struct recording_item *ret,
		   struct fault *reterr_fault);

/*
 * The target's memory as the recording knows it at the present item: reads of
 * what was never read fail with -EFAULT, and those that failed in the session
 * as they did there. Its user's to free, before the reader.
 */
int recording_memory(struct recording_reader *reader, struct memory **ret);

/* As of the present item. */
uint64_t recording_loss(const struct recording_reader *reader, enum reason reason);
size_t recording_n_refusals(const struct recording_reader *reader);
void recording_refusal(const struct recording_reader *reader, size_t index, const char **ret_what,
		       const char **ret_why);
/* Once recording_next() has returned 0 or -EBADMSG: it has no trailer, or is damaged. */
bool recording_is_truncated(const struct recording_reader *reader);
/* Records that were not handed over because they fit no kind. */
uint64_t recording_malformed_records(const struct recording_reader *reader);

#endif
