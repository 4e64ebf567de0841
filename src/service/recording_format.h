/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The bytes of a recording; docs/recording.md says the same in words.  Little
 * endian, as everything that it holds is.  Kinds are never re-used.
 *
 *	header │ chunk │ chunk │ … │ trailer chunk
 *	         └ header (kind, size, sequence, CRC) │ item │ item │ …
 *	                                                └ header (kind, size) │ payload │ to 8 bytes
 */
#ifndef PYLEAKD_SERVICE_RECORDING_FORMAT_H
#define PYLEAKD_SERVICE_RECORDING_FORMAT_H

#include <stddef.h>
#include <stdint.h>

#include "service/recording.h"

/* As PNG's: a transfer that changes line ends or strips the eighth bit is noticed. */
#define RECORDING_MAGIC "\x89PYLEAK\n"
#define RECORDING_MAGIC_BYTES 8
#define RECORDING_CHUNK_BYTES_MAX (512u << 10) /* a chunk's items */
#define RECORDING_RECORD_BYTES_MAX                                                                 \
	(sizeof(struct wire_stack) + WIRE_MAX_FRAMES * sizeof(struct wire_frame))

struct recording_header {
	char magic[RECORDING_MAGIC_BYTES];
	uint32_t version;
	uint32_t wire_version;
	uint32_t reserved; /* 0 */
	uint32_t crc;	   /* CRC-32 (zlib's) of the bytes before it */
};

enum recording_chunk_kind {
	RECORDING_CHUNK_ITEMS = 1,
	RECORDING_CHUNK_TRAILER = 2,
	RECORDING_CHUNK_DEFLATED = 3, /* items, as one zlib stream */
};

struct recording_chunk {
	uint32_t kind;
	uint32_t size;	   /* bytes behind this header */
	uint32_t sequence; /* 0, 1, 2 … */
	uint32_t crc;	   /* of the 12 bytes before it and of what is behind it */
};

enum recording_item_kind {
	RECORDING_ITEM_RECORD = 1,  /* a ring record as it is */
	RECORDING_ITEM_READ = 2,    /* u64 address, bytes */
	RECORDING_ITEM_MARK = 3,    /* struct recording_mark_item */
	RECORDING_ITEM_FACT = 4,    /* key NUL value NUL */
	RECORDING_ITEM_LOSS = 5,    /* struct recording_loss_item */
	RECORDING_ITEM_REFUSAL = 6, /* what NUL why NUL */
	RECORDING_ITEM_ORDER = 7,   /* struct recording_order_item */
};

struct recording_item_header {
	uint32_t kind;
	uint32_t size; /* of the payload, without the zeros that fill it up to 8 bytes */
};

struct recording_mark_item {
	uint32_t kind;
	uint32_t reserved; /* 0 */
	double time_seconds;
	uint64_t resident_bytes;
	uint64_t value;
};

struct recording_loss_item {
	uint32_t reason;
	uint32_t reserved; /* 0 */
	uint64_t count;
};

/*
 * Where reads since the last record or mark don't commute: what follows is not
 * to be seen before so many of them were made, and that one may have failed.
 */
struct recording_order_item {
	uint64_t read;	/* 0: the first one since then */
	int32_t error;	/* 0, or -errno of that read */
	uint32_t reserved; /* 0 */
};

struct recording_trailer {
	uint64_t items; /* in all chunks before */
};

_Static_assert(sizeof(struct recording_header) == 24, "recording_header");
_Static_assert(sizeof(struct recording_chunk) == 16, "recording_chunk");
_Static_assert(sizeof(struct recording_item_header) == 8, "recording_item_header");
_Static_assert(sizeof(struct recording_mark_item) == 32, "recording_mark_item");
_Static_assert(sizeof(struct recording_loss_item) == 16, "recording_loss_item");
_Static_assert(sizeof(struct recording_order_item) == 16, "recording_order_item");
_Static_assert(sizeof(struct recording_trailer) == 8, "recording_trailer");

uint32_t recording_header_crc(const struct recording_header *header);
uint32_t recording_chunk_crc(const struct recording_chunk *chunk, const void *bytes);

/* Whether the record has the size that its kind wants; record may be unaligned. */
int recording_check_record(const void *record, size_t size);

#endif
