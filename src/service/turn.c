/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "service/turn.h"

#include <stddef.h>

void turn_join(struct turn *turn)
{
	if (turn)
		turn->n_sharing++;
}

void turn_leave(struct turn *turn)
{
	if (turn && turn->n_sharing)
		turn->n_sharing--;
}

unsigned turn_sharing(const struct turn *turn)
{
	return turn && turn->n_sharing ? turn->n_sharing : 1;
}

bool turn_take(struct turn *turn, const void *who, uint64_t now_ns)
{
	bool is_awaited;

	if (!turn || turn->holder == who)
		return true;
	is_awaited = turn->next && turn->next != who && now_ns < turn->next_until_ns;
	if (turn->holder || is_awaited) {
		if (!is_awaited) {
			turn->next = who;
			turn->next_until_ns = now_ns + TURN_WAIT_NS;
		}
		return false;
	}
	turn->holder = who;
	turn->next = NULL;
	return true;
}

bool turn_is_anothers(const struct turn *turn, const void *who)
{
	return turn && turn->holder && turn->holder != who;
}

void turn_give(struct turn *turn, const void *who)
{
	if (!turn)
		return;
	if (turn->holder == who)
		turn->holder = NULL;
	if (turn->next == who)
		turn->next = NULL;
}
