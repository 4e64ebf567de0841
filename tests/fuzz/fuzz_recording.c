/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Recordings out of any bytes.  Sums are made right first, so that mutations
 * reach what lies behind them; the first byte says whether that is done.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "service/recording.h"
#include "service/recording_format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void make_header_right(uint8_t *bytes)
{
	struct recording_header header;

	memcpy(&header, bytes, sizeof(header));
	memcpy(header.magic, RECORDING_MAGIC, sizeof(header.magic));
	header.version = RECORDING_VERSION;
	header.wire_version = WIRE_VERSION;
	header.crc = recording_header_crc(&header);
	memcpy(bytes, &header, sizeof(header));
}

static void make_chunks_right(uint8_t *bytes, size_t size)
{
	size_t at = sizeof(struct recording_header);
	struct recording_chunk chunk;

	for (uint32_t sequence = 0; size - at >= sizeof(chunk); sequence++) {
		memcpy(&chunk, bytes + at, sizeof(chunk));
		if (chunk.size > size - at - sizeof(chunk))
			chunk.size = (uint32_t)(size - at - sizeof(chunk));
		chunk.sequence = sequence;
		chunk.crc = recording_chunk_crc(&chunk, bytes + at + sizeof(chunk));
		memcpy(bytes + at, &chunk, sizeof(chunk));
		at += sizeof(chunk) + chunk.size;
	}
}

static void look_around(struct recording_reader *reader, struct memory *memory,
			const struct recording_item *item)
{
	uint64_t address = item->record ? ((const uint64_t *)item->record)[1] : 0x1000;
	uint8_t buffer[600];

	memory_read(memory, address, buffer, sizeof(buffer), NULL);
	memory_read(memory, 0x1000, buffer, 16, NULL);
	for (unsigned reason = 0; reason < RECORDING_REASONS_MAX; reason += 100)
		recording_loss(reader, (enum reason)reason);
}

static void read_all(const uint8_t *bytes, size_t size)
{
	struct recording_reader *reader;
	struct recording_item item;
	struct memory *memory;
	const char *what, *why;
	double number;

	if (recording_reader_new_from_bytes(bytes, size, &reader, NULL) < 0)
		return;
	if (recording_memory(reader, &memory) < 0)
		abort();
	while (recording_next(reader, &item, NULL) > 0) {
		if (item.record && recording_check_record(item.record, item.size) < 0)
			abort();
		look_around(reader, memory, &item);
	}
	recording_fact_double(reader, "started", &number);
	for (size_t i = 0; i < recording_n_refusals(reader); i++) {
		recording_refusal(reader, i, &what, &why);
		if (strlen(what) + strlen(why) > 2 * RECORDING_VALUE_BYTES_MAX)
			abort();
	}
	memory_free(memory);
	recording_reader_free(reader);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *copy;

	if (size < 1 + sizeof(struct recording_header))
		return 0;
	copy = malloc(size - 1);
	if (!copy)
		return 0;
	memcpy(copy, data + 1, size - 1);
	if (data[0] & 1) {
		make_header_right(copy);
		make_chunks_right(copy, size - 1);
	}
	read_all(copy, size - 1);
	free(copy);
	return 0;
}
