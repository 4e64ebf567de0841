/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * What the ledger costs: nanoseconds an event with N blocks outstanding, and
 * bytes a block.  Events as in a Python program: a block is given out, mostly
 * an object is created in it (behind a collector's head in half of the cases),
 * an earlier one is freed: a young one (the last 64) in 9 of 10 cases, any else.
 *
 *	cc -O2 -D_GNU_SOURCE -Iinclude -Isrc -o bench-ledger bench/ledger.c src/ledger/[a-z]*.c
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ledger/ledger.h"

#define EVENTS 6000000u
#define YOUNG 64
#define STACKS 2000

static double now_seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static uint64_t seed = 88172645463325252ull;

static uint64_t random_next(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static uint64_t resident_bytes(void)
{
	unsigned long size, resident = 0;
	FILE *file = fopen("/proc/self/statm", "re");

	if (!file)
		return 0;
	if (fscanf(file, "%lu %lu", &size, &resident) != 2)
		resident = 0;
	fclose(file);
	return resident * 4096;
}

/* A pool of 64-byte blocks: their addresses, the free ones in the back. */
struct heap {
	uint64_t *blocks;
	size_t live, n;
};

static void give(struct ledger *ledger, struct heap *heap)
{
	uint64_t address = heap->blocks[heap->live++];
	uint64_t stack = 16 + random_next() % STACKS;
	struct wire_alloc alloc = {
		.header.kind = WIRE_ALLOC, .address = address, .stack = stack, .size = 64};
	struct wire_create create = {.header.kind = WIRE_CREATE,
				     .address = address + (address & 64 ? 16 : 0),
				     .stack = stack,
				     .type = 0x5000 + address % 4096 / 64 * 16};

	ledger_consume(ledger, &alloc.header);
	ledger_consume(ledger, &create.header);
}

static void take(struct ledger *ledger, struct heap *heap)
{
	size_t young = heap->live < YOUNG ? heap->live : YOUNG;
	size_t index = random_next() % 10 ? heap->live - 1 - random_next() % young
					  : random_next() % heap->live;
	struct wire_free record = {.header.kind = WIRE_FREE, .address = heap->blocks[index]};

	ledger_consume(ledger, &record.header);
	heap->live--;
	heap->blocks[index] = heap->blocks[heap->live];
	heap->blocks[heap->live] = record.address;
}

static int measure(size_t blocks)
{
	struct heap heap = {.blocks = calloc(blocks + 1024, 8), .n = blocks + 1024};
	struct ledger *ledger = NULL;
	uint64_t before, resident;
	double started, filled, ended;

	if (!heap.blocks || ledger_new(NULL, &ledger) < 0)
		return 1;
	for (size_t i = 0; i < heap.n; i++)
		heap.blocks[i] = 0x7f0000000000ull + i * 64;
	before = resident_bytes();
	started = now_seconds();
	while (heap.live < blocks)
		give(ledger, &heap);
	filled = now_seconds();
	resident = resident_bytes();
	for (unsigned int i = 0; i < EVENTS / 3; i++) {
		take(ledger, &heap);
		give(ledger, &heap);
	}
	ended = now_seconds();
	printf("%8zu blocks: filling %5.1f ns an event, at work %5.1f ns, %5.1f bytes a block, "
	       "%s\n",
	       blocks, (filled - started) * 1e9 / (2.0 * (double)blocks),
	       (ended - filled) * 1e9 / EVENTS, (double)(resident - before) / (double)blocks,
	       ledger_check(ledger) ? "conserved" : "NOT CONSERVED");
	ledger_free(ledger);
	free(heap.blocks);
	return 0;
}

int main(void)
{
	static const size_t sizes[] = {10000, 100000, 1000000, 4000000};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		if (measure(sizes[i]))
			return 1;
	}
	return 0;
}
