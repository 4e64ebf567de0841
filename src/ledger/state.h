/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * What a ledger is made of, and the acts from which every change is made.  Only
 * account.c writes sums: a block is charged and discharged whole, so that the
 * sums follow from what is held.
 */
#ifndef PYLEAKD_LEDGER_STATE_H
#define PYLEAKD_LEDGER_STATE_H

#include "ledger/ledger.h"
#include "ledger/mappings.h"
#include "ledger/stacks.h"
#include "ledger/blocks.h"

/*
 * How far before an object of a type its block begins, as seen last.  A small
 * cache, hit by hash: it only decides whether the free of a block that is not
 * held can be an elder's.
 */
#define HEADERS_CACHED 512
struct type_header {
	uint64_t type; /* 0: empty */
	uint64_t bytes;
};

struct ledger {
	struct blocks blocks; /* by their starts */
	struct blocks elders; /* by their objects: start not known */
	struct mappings mappings;
	struct stacks stacks;
	struct type_header headers[HEADERS_CACHED];
	size_t max_blocks; /* of all three together */
	uint64_t sequence;
	struct ledger_totals totals;
};

/* The domain that an entry's bits say. */
static inline enum ledger_domain entry_domain(const struct entry *entry)
{
	return (enum ledger_domain)entry->domain;
}

/* The stack's index, "other" where there is no room; may merge, which changes indices. */
uint32_t account_stack(struct ledger *ledger, uint64_t id);

/* A new block: NULL and counted as LEDGER_FULL where there is no room. Not charged yet. */
struct entry *account_insert(struct ledger *ledger, struct blocks *table, uint64_t address);
/* It is held as it stands, or (discharge) no longer. */
void account_charge(struct ledger *ledger, const struct entry *entry);
void account_discharge(struct ledger *ledger, const struct entry *entry);
/* Given out to the stack; freed from it. */
void account_give(struct ledger *ledger, uint32_t stack, uint64_t bytes, uint64_t blocks);
void account_take(struct ledger *ledger, uint32_t stack, uint64_t bytes, uint64_t blocks);
/* Moves a block that is discharged just now. */
void account_move(struct ledger *ledger, struct entry *entry, uint32_t stack);
/* Discharges, counts as freed and removes. */
void account_drop(struct ledger *ledger, struct blocks *table, struct entry *entry);
void account_lose(struct ledger *ledger, enum reason reason);

/* Mapped memory comes; or goes, in part (blocks 0) or with the last of it (1). */
void account_map(struct ledger *ledger, const struct mapping *mapping);
void account_unmap_bytes(struct ledger *ledger, uint32_t stack, uint64_t bytes, uint64_t blocks);
/* What is left behind a hole: charged already, but a mapping of its own from now on. */
void account_split(struct ledger *ledger, const struct mapping *rest);

/* search.c: the block that holds the object, in either table; NULL. */
struct entry *search_object(const struct ledger *ledger, uint64_t object);
/* The block that begins at the address, or holds the object at it, and its table. */
struct entry *search_held(struct ledger *ledger, uint64_t address, struct blocks **ret_table);
/* The block that contains the address, LEDGER_FIND_REACH at most from its start. */
struct entry *search_containing(const struct ledger *ledger, uint64_t address);
/* The elder whose object lies in the block [start, start + size), or NULL. */
struct entry *search_elder(const struct ledger *ledger, uint64_t start, uint64_t size);
void search_learn_header(struct ledger *ledger, uint64_t type, uint64_t bytes);

/* mapped.c */
void mapped_consume(struct ledger *ledger, const struct wire_mapping *record);
/* A chunk of the C library begins here: a mapping that was made for it is not counted twice. */
void mapped_note_chunk(struct ledger *ledger, uint64_t address, uint64_t size);
/* A pool of pymalloc's was just made here: what was mapped for it is an arena, counted by block. */
void mapped_note_pool(struct ledger *ledger, uint64_t address);

#endif
