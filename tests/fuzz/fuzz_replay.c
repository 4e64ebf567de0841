/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Whole replays of sessions that nobody had: an interpreter whose facts are
 * mutated, and items of any bytes.
 *
 *	u8 minor │ u16 n │ n bytes: key NUL value NUL … (replace the facts) │ items
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cpython/layout.h"
#include "report/snapshot_build.h"
#include "service/recording_format.h"
#include "service/replay.h"

#define FACTS_MAX 32

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct forged {
	size_t size;
	uint8_t bytes[RECORDING_CHUNK_BYTES_MAX];
};

static void add(struct forged *forged, const void *bytes, size_t size)
{
	if (size > sizeof(forged->bytes) - forged->size)
		size = sizeof(forged->bytes) - forged->size;
	if (size)
		memcpy(forged->bytes + forged->size, bytes, size);
	forged->size += size;
}

static void add_fact(struct forged *forged, const char *key, const char *value)
{
	static const uint8_t zeros[8];
	size_t key_size = strlen(key) + 1, value_size = strlen(value) + 1;
	struct recording_item_header header = {
		.kind = RECORDING_ITEM_FACT,
		.size = (uint32_t)(key_size + value_size),
	};

	add(forged, &header, sizeof(header));
	add(forged, key, key_size);
	add(forged, value, value_size);
	add(forged, zeros, -(size_t)header.size % 8);
}

static void add_layout(struct forged *forged, unsigned minor)
{
	const struct layout *row = layout_find(minor, 0);
	char text[RECORDING_VALUE_BYTES_MAX];
	int n;

	if (!row)
		return;
	n = snprintf(text, sizeof(text), "pool_size_bytes=%u arena_size_bytes=%u",
		     row->pool_size_bytes, row->arena_size_bytes);
#define ADD(field)                                                                                 \
	if (row->field != LAYOUT_ABSENT)                                                           \
		n += snprintf(text + n, sizeof(text) - (size_t)n, " " #field "=%u", row->field);
	LAYOUT_FIELDS(ADD)
#undef ADD
	add_fact(forged, "interpreter.layout", text);
}

static void add_facts(struct forged *forged, unsigned minor)
{
	static const char *const facts[][2] = {
		{"pid", "4242"},
		{"command", "web.py"},
		{"python", "3"},
		{"target_started", "1"},
		{"session_started", "2"},
		{"probed", "1"},
		{"interpreter.version", "3"},
		{"interpreter.micro", "0"},
		{"interpreter.bias", "0"},
		{"interpreter.arenas", "4096"},
		{"interpreter.maxarenas", "4104"},
		{"interpreter.allocator", "pymalloc"},
		{"interpreter.jit", "0"},
		{"interpreter.symbols", "_PyRuntime=8192 PyCode_Type=12288"},
	};
	char text[16];

	for (size_t i = 0; i < ARRAY_SIZE(facts); i++)
		add_fact(forged, facts[i][0], facts[i][1]);
	snprintf(text, sizeof(text), "%u", minor);
	add_fact(forged, "interpreter.minor", text);
	add_layout(forged, minor);
}

/* Pairs of strings out of the input's bytes. */
static void add_input_facts(struct forged *forged, const uint8_t *data, size_t size)
{
	_cleanup_free_ char *text = calloc(1, size + 2);
	size_t at = 0;

	if (!text)
		return;
	memcpy(text, data, size);
	for (unsigned i = 0; i < FACTS_MAX && at < size; i++) {
		const char *key = text + at;
		const char *value = key + strlen(key) + 1;

		if (value >= text + size)
			break;
		add_fact(forged, key, value);
		at = (size_t)(value - text) + strlen(value) + 1;
	}
}

static void run(const uint8_t *bytes, size_t size)
{
	struct recording_reader *reader;
	struct snapshot *snapshot;
	struct memory *memory;

	if (recording_reader_new_from_bytes(bytes, size, &reader, NULL) < 0)
		abort();
	if (recording_memory(reader, &memory) < 0)
		abort();
	if (replay_report(reader, memory, &snapshot, NULL) == 0)
		snapshot_free(snapshot);
	memory_free(memory);
	recording_reader_free(reader);
}

static void forge(const struct forged *items)
{
	struct recording_header header = {.version = RECORDING_VERSION,
					  .wire_version = WIRE_VERSION};
	struct recording_chunk chunk = {.kind = RECORDING_CHUNK_ITEMS,
					.size = (uint32_t)items->size};
	size_t size = sizeof(header) + sizeof(chunk) + items->size;
	_cleanup_free_ uint8_t *bytes = malloc(size);

	if (!bytes)
		return;
	memcpy(header.magic, RECORDING_MAGIC, sizeof(header.magic));
	header.crc = recording_header_crc(&header);
	chunk.crc = recording_chunk_crc(&chunk, items->bytes);
	memcpy(bytes, &header, sizeof(header));
	memcpy(bytes + sizeof(header), &chunk, sizeof(chunk));
	memcpy(bytes + sizeof(header) + sizeof(chunk), items->bytes, items->size);
	run(bytes, size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ struct forged *forged = calloc(1, sizeof(*forged));
	size_t n_facts;

	if (!forged || size < 3)
		return 0;
	n_facts = (size_t)(data[1] | data[2] << 8);
	if (n_facts > size - 3)
		n_facts = size - 3;
	add_facts(forged, 8 + data[0] % 8);
	add_input_facts(forged, data + 3, n_facts);
	add(forged, data + 3 + n_facts, size - 3 - n_facts);
	forge(forged);
	return 0;
}
