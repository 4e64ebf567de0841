/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Windows open one at a time, host-wide: sessions that share a turn take it for
 * as long as one of theirs is open.  Whoever found it taken goes before the
 * last holder, if it still wants to when it is free.
 */
#ifndef PYLEAKD_SERVICE_TURN_H
#define PYLEAKD_SERVICE_TURN_H

#include <stdbool.h>
#include <stdint.h>

/* How soon to ask again; and how long whoever asked is waited for. */
#define TURN_ASK_SECONDS 0.002
#define TURN_WAIT_NS (20 * 1000000ULL)

struct turn {		    /* zeroed: free */
	const void *holder; /* NULL: nobody */
	const void *next;   /* who asked while it was taken; NULL: nobody */
	uint64_t next_until_ns;
	unsigned n_sharing; /* sessions */
};

/* What windows may take of the host is shared by those that have joined. */
void turn_join(struct turn *turn);
void turn_leave(struct turn *turn);
/* At least 1. */
unsigned turn_sharing(const struct turn *turn);

/* now_ns: monotonic. A NULL turn is everybody's. */
bool turn_take(struct turn *turn, const void *who, uint64_t now_ns);
/* Somebody else has it: what takes long would leave a window of theirs open. */
bool turn_is_anothers(const struct turn *turn, const void *who);
/* Nothing where it is not who's. */
void turn_give(struct turn *turn, const void *who);

#endif
