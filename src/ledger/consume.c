/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "ledger/state.h"

/* A block that is given out. */
struct birth {
	uint64_t address, size;
	uint32_t stack;
	enum ledger_domain domain;
	bool pool;
};

static void birth_apply(struct ledger *ledger, struct entry *entry, const struct birth *birth)
{
	entry->allocated = ledger->sequence;
	entry->domain = birth->domain;
	entry->pool = birth->pool;
	entry->stack = birth->stack;
	entry_set_size(entry, birth->size);
	account_give(ledger, entry->stack, entry_size(entry), 1);
	account_charge(ledger, entry);
}

/* Held, and given out once more: its free was missed. */
static void give_again(struct ledger *ledger, struct entry *entry, const struct birth *birth)
{
	account_lose(ledger, REASON_ALLOC_REPEATED);
	account_discharge(ledger, entry);
	account_take(ledger, entry->stack, entry_size(entry), 1);
	*entry = (struct entry){.address = birth->address, .repeated = 1};
	birth_apply(ledger, entry, birth);
}

static void create_in(struct ledger *ledger, struct entry *entry, uint64_t object, uint64_t type,
		      uint32_t stack)
{
	account_discharge(ledger, entry);
	if (entry->stack != stack) {
		account_move(ledger, entry, stack);
		ledger->totals.moves++;
	}
	entry->created = ledger->sequence;
	entry->owner = 0;
	entry->parked = 0;
	entry->domain = LEDGER_OBJECT;
	entry->type = type;
	entry_set_object(entry, object);
	account_charge(ledger, entry);
	if (!entry->startless)
		search_learn_header(ledger, type, object - entry->address);
}

/*
 * An elder's object lies in the block that was just given out.  A moment ago:
 * the creation was delivered before its block.  Longer ago: it was freed unseen.
 */
static void settle_elder(struct ledger *ledger, uint64_t start, uint64_t size)
{
	struct entry *elder = search_elder(ledger, start, size ? size : 1);
	struct entry *entry;
	struct entry was;

	if (!elder)
		return;
	was = *elder;
	account_drop(ledger, &ledger->elders, elder);
	entry = blocks_find(&ledger->blocks, start);
	if (!entry || was.created + LEDGER_SWAPPED_RECORDS < ledger->sequence) {
		account_lose(ledger, REASON_ALLOC_REPEATED);
		return;
	}
	create_in(ledger, entry, was.address, was.type, was.stack);
}

static void give(struct ledger *ledger, const struct birth *birth)
{
	struct entry *entry = blocks_find(&ledger->blocks, birth->address);

	ledger->totals.allocations++;
	if (entry) {
		give_again(ledger, entry, birth);
	} else {
		entry = account_insert(ledger, &ledger->blocks, birth->address);
		if (entry)
			birth_apply(ledger, entry, birth);
	}
	settle_elder(ledger, birth->address, birth->size);
	if (!birth->pool)
		mapped_note_chunk(ledger, birth->address, birth->size);
}

/* The held entry that this address gives back: begins there, or is an elder that lies there. */
static struct entry *search_freed(struct ledger *ledger, uint64_t address,
				  struct blocks **ret_table)
{
	struct entry *entry = blocks_find(&ledger->blocks, address);

	*ret_table = &ledger->blocks;
	if (entry)
		return entry;
	*ret_table = &ledger->elders;
	return search_elder(ledger, address, LEDGER_CREATE_REACH + 1);
}

static void take(struct ledger *ledger, uint64_t address)
{
	struct blocks *table;
	struct entry *entry = search_freed(ledger, address, &table);

	ledger->totals.frees++;
	if (entry)
		account_drop(ledger, table, entry);
	else
		ledger->totals.frees_of_unknown++;
}

static struct birth birth_of(struct ledger *ledger, const struct wire_alloc *record)
{
	bool pool = record->header.kind == WIRE_ALLOC;

	return (struct birth){
		.address = record->address,
		.size = record->header.flags & WIRE_SIZE_UNKNOWN ? 0 : record->size,
		.stack = account_stack(ledger, record->stack),
		.pool = pool,
		.domain = pool						 ? LEDGER_MEM
			  : record->header.flags & WIRE_FROM_INTERPRETER ? LEDGER_RAW
									 : LEDGER_NATIVE,
	};
}

static void consume_alloc(struct ledger *ledger, const struct wire_alloc *record)
{
	struct birth birth = birth_of(ledger, record);

	if (record->address)
		give(ledger, &birth);
	if (birth.pool && record->header.flags & WIRE_FRESH_POOL)
		mapped_note_pool(ledger, record->address);
}

/*
 * realloc's record comes when it returns; the C library may have called its own
 * malloc for it before (glibc 2.36, malloc.c: __libc_realloc of NULL, of a
 * mapped chunk, of another arena's), whose record then stands here already.
 */
static bool is_same_allocation(const struct entry *entry, const struct birth *birth)
{
	return !entry->pool && !entry->object_step && entry->stack == birth->stack &&
	       entry_size(entry) == birth->size;
}

/* In place.  Who makes it grow is charged for it; else it stays whose it was. */
static void resize(struct ledger *ledger, struct entry *entry, const struct birth *birth)
{
	uint64_t before = entry_size(entry);

	account_discharge(ledger, entry);
	account_take(ledger, entry->stack, before, 1);
	if (birth->size > before) {
		entry->stack = birth->stack;
		entry->allocated = ledger->sequence;
		entry->owner = 0;
	}
	entry_set_size(entry, birth->size);
	account_give(ledger, entry->stack, entry_size(entry), 1);
	account_charge(ledger, entry);
}

/* What lived in the old block lives in the new one. */
static void inherit(struct ledger *ledger, const struct birth *birth, const struct entry *was)
{
	struct entry *entry = blocks_find(&ledger->blocks, birth->address);

	if (!entry || !was->object_step)
		return;
	account_discharge(ledger, entry);
	entry->object_step = was->object_step;
	entry->type = was->type;
	entry->created = was->created;
	entry->domain = was->domain;
	account_charge(ledger, entry);
}

/* Removes the old block; what it was into *ret. False: it was not held. */
static bool take_old(struct ledger *ledger, uint64_t address, struct entry *ret)
{
	struct blocks *table;
	struct entry *entry = search_freed(ledger, address, &table);

	if (!entry) {
		ledger->totals.frees_of_unknown++;
		return false;
	}
	/* The old chunk was given to another thread before this record: it is that thread's now. */
	if (entry->repeated) {
		entry->repeated = 0;
		return false;
	}
	*ret = *entry;
	account_drop(ledger, table, entry);
	return true;
}

static void realloc_moved(struct ledger *ledger, const struct wire_realloc *record,
			  struct birth *birth)
{
	struct entry was = {0};
	struct entry *entry;
	bool held = false;

	if (record->old_address) {
		ledger->totals.frees++;
		held = take_old(ledger, record->old_address, &was);
	}
	if (held && birth->size <= entry_size(&was))
		birth->stack = was.stack;
	entry = blocks_find(&ledger->blocks, birth->address);
	if (entry && is_same_allocation(entry, birth))
		mapped_note_chunk(ledger, birth->address, birth->size);
	else
		give(ledger, birth);
	if (held)
		inherit(ledger, birth, &was);
}

static void consume_realloc(struct ledger *ledger, const struct wire_realloc *record)
{
	const struct wire_alloc as_alloc = {
		.header = record->header,
		.address = record->address,
		.stack = record->stack,
		.size = record->size,
	};
	struct birth birth = birth_of(ledger, &as_alloc);
	struct entry *entry;

	if (!record->address) {
		if (record->old_address)
			take(ledger, record->old_address);
		return;
	}
	entry = blocks_find(&ledger->blocks, record->address);
	if (record->address != record->old_address) {
		realloc_moved(ledger, record, &birth);
	} else if (entry) {
		ledger->totals.allocations++;
		ledger->totals.frees++;
		resize(ledger, entry, &birth);
		mapped_note_chunk(ledger, birth.address, birth.size);
	} else {
		ledger->totals.frees++;
		ledger->totals.frees_of_unknown++;
		give(ledger, &birth);
	}
}

/* In no block that we know: it is older than the attach, and came from a free list. */
static void create_elder(struct ledger *ledger, const struct wire_create *record, uint32_t stack)
{
	struct entry *entry;

	ledger->totals.creations_of_unknown++;
	entry = account_insert(ledger, &ledger->elders, record->address);
	if (!entry)
		return;
	entry->created = ledger->sequence;
	entry->type = record->type;
	entry->domain = LEDGER_OBJECT;
	entry->pool = 1;
	entry->startless = 1;
	entry->stack = stack;
	entry_set_object(entry, record->address);
	account_give(ledger, stack, 0, 1);
	account_charge(ledger, entry);
}

static void consume_create(struct ledger *ledger, const struct wire_create *record)
{
	uint32_t stack = account_stack(ledger, record->stack);
	uint64_t type = record->header.flags & WIRE_TYPE_UNKNOWN ? 0 : record->type;
	struct entry *entry;

	if (!record->address)
		return;
	ledger->totals.creations++;
	entry = search_object(ledger, record->address);
	if (entry)
		create_in(ledger, entry, record->address, type, stack);
	else
		create_elder(ledger, record, stack);
}

/* An address of free(NULL) is no block. */
static void consume_free(struct ledger *ledger, const struct wire_free *record)
{
	if (record->address)
		take(ledger, record->address);
}

void ledger_consume(struct ledger *ledger, const struct wire_header *record)
{
	const void *body = record;

	ledger->sequence++;
	switch ((enum wire_kind)record->kind) {
	case WIRE_ALLOC:
	case WIRE_NATIVE_ALLOC:
		consume_alloc(ledger, body);
		break;
	case WIRE_FREE:
	case WIRE_NATIVE_FREE:
		consume_free(ledger, body);
		break;
	case WIRE_CREATE:
		consume_create(ledger, body);
		break;
	case WIRE_NATIVE_REALLOC:
		consume_realloc(ledger, body);
		break;
	case WIRE_MMAP:
	case WIRE_MUNMAP:
	case WIRE_MREMAP:
	case WIRE_BRK:
		mapped_consume(ledger, body);
		break;
	case WIRE_DESTROY: /* a death is the block's free, or its parking */
		break;
	case WIRE_STACK:
	case WIRE_FORK:
	case WIRE_EXEC:
	case WIRE_EXIT:
	default:
		ledger->sequence--; /* not taken */
		break;
	}
}
