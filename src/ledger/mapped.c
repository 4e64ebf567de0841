/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "ledger/state.h"

/* From the kernel's ABI on x86-64 and arm64 (asm-generic/mman-common.h, mman.h). */
#define PROTECTION_NONE 0x0
#define FLAG_STACK 0x20000

#define PAGE_BYTES 4096
/*
 * The C library maps memory for a chunk of its own from 128 KiB on (glibc,
 * M_MMAP_THRESHOLD, which can be set lower), or for a whole heap, whose first
 * chunk begins 16 bytes from its start.  Smaller chunks elsewhere need no look.
 */
#define CHUNK_OFFSET 16
#define CHUNK_LOOK_BYTES (16u << 10)

/* Cuts [start, end) out of the mapping at the index; it overlaps. The next index to look at. */
static size_t cut_one(struct ledger *ledger, size_t index, uint64_t start, uint64_t end)
{
	struct mapping *mapping = &ledger->mappings.items[index];
	struct mapping rest = *mapping;

	if (start <= mapping->start && end >= mapping->end) {
		account_unmap_bytes(ledger, mapping->stack, mapping->end - mapping->start, 1);
		mappings_remove(&ledger->mappings, index);
		return index;
	}
	if (start <= mapping->start) {
		account_unmap_bytes(ledger, mapping->stack, end - mapping->start, 0);
		mapping->start = end;
		return index + 1;
	}
	mapping->end = start;
	if (end >= rest.end) {
		account_unmap_bytes(ledger, rest.stack, rest.end - start, 0);
		return index + 1;
	}
	account_unmap_bytes(ledger, rest.stack, end - start, 0);
	rest.start = end;
	account_split(ledger, &rest);
	return index + 1;
}

static void cut(struct ledger *ledger, uint64_t start, uint64_t end)
{
	size_t index = mappings_after(&ledger->mappings, start);

	while (index < ledger->mappings.count && ledger->mappings.items[index].start < end)
		index = cut_one(ledger, index, start, end);
}

static uint64_t range_end(uint64_t address, uint64_t size)
{
	size = (size + PAGE_BYTES - 1) & ~(PAGE_BYTES - 1ull);
	return size > UINT64_MAX - address ? UINT64_MAX : address + size;
}

static void map(struct ledger *ledger, uint64_t address, uint64_t size, uint32_t stack)
{
	const struct mapping mapping = {
		.start = address,
		.end = range_end(address, size),
		.allocated = ledger->sequence,
		.stack = stack,
	};

	if (address && mapping.end > address)
		account_map(ledger, &mapping);
}

/*
 * Address space that is only reserved takes no memory: PROT_NONE (thread stacks
 * and the C library's thread arenas begin so, and are opened by mprotect), and
 * stacks without a guard page.
 */
static void consume_mmap(struct ledger *ledger, const struct wire_mapping *record)
{
	uint64_t end = range_end(record->address, record->size);

	cut(ledger, record->address, end); /* what was there before is gone (MAP_FIXED) */
	ledger->totals.allocations++;
	if (record->protection == PROTECTION_NONE || record->map_flags & FLAG_STACK)
		return;
	map(ledger, record->address, record->size, account_stack(ledger, record->stack));
}

static void consume_munmap(struct ledger *ledger, const struct wire_mapping *record)
{
	ledger->totals.frees++;
	cut(ledger, record->address, range_end(record->address, record->size));
}

/* Who makes it grow is charged for it, else it stays whose it was; as with realloc. */
static void consume_mremap(struct ledger *ledger, const struct wire_mapping *record)
{
	uint32_t stack = account_stack(ledger, record->stack);
	const struct mapping *old = mappings_find(&ledger->mappings, record->old_address);

	if (old && record->size <= record->old_size)
		stack = old->stack;
	ledger->totals.allocations++;
	ledger->totals.frees++;
	if (!old)
		ledger->totals.frees_of_unknown++;
	cut(ledger, record->old_address, range_end(record->old_address, record->old_size));
	cut(ledger, record->address, range_end(record->address, record->size));
	map(ledger, record->address, record->size, stack);
}

/* The break is the C library's heap, and what it gives out of it is counted: a statistic only. */
static void consume_brk(struct ledger *ledger, const struct wire_mapping *record)
{
	if (!record->old_address)
		return;
	if (record->address > record->old_address)
		ledger->totals.break_grown_bytes += record->address - record->old_address;
	else
		ledger->totals.break_shrunk_bytes += record->old_address - record->address;
}

void mapped_consume(struct ledger *ledger, const struct wire_mapping *record)
{
	switch (record->header.kind) {
	case WIRE_MMAP:
		consume_mmap(ledger, record);
		break;
	case WIRE_MUNMAP:
		consume_munmap(ledger, record);
		break;
	case WIRE_MREMAP:
		consume_mremap(ledger, record);
		break;
	default:
		consume_brk(ledger, record);
		break;
	}
}

/* An aligned chunk may begin later in its mapping, but then it is most of it. */
static bool is_chunks_mapping(const struct mapping *mapping, uint64_t address, uint64_t size)
{
	return address - mapping->start < PAGE_BYTES ||
	       (size <= mapping->end - address && size >= (mapping->end - mapping->start) / 2);
}

void mapped_note_chunk(struct ledger *ledger, uint64_t address, uint64_t size)
{
	struct mapping *mapping;

	if (!ledger->mappings.count ||
	    (size < CHUNK_LOOK_BYTES && address % PAGE_BYTES != CHUNK_OFFSET))
		return;
	mapping = mappings_find(&ledger->mappings, address);
	if (mapping && is_chunks_mapping(mapping, address, size))
		cut(ledger, mapping->start, mapping->end);
}

void mapped_note_pool(struct ledger *ledger, uint64_t address)
{
	const struct mapping *mapping = mappings_find(&ledger->mappings, address);

	if (mapping)
		cut(ledger, mapping->start, mapping->end);
}

void ledger_forget_mapping(struct ledger *ledger, uint64_t address, uint64_t size)
{
	cut(ledger, address, size > UINT64_MAX - address ? UINT64_MAX : address + size);
}
