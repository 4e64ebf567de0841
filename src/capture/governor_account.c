/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* The books: what was spent in each half second of the last minute, by purpose. */
#include <math.h>
#include <string.h>

#include "capture/governor_private.h"

static struct cell *cell_at(struct account *account, double now)
{
	int64_t index = (int64_t)floor(now / CELL_SECONDS);
	struct cell *cell = &account->cells[(uint64_t)index % CELLS];

	if (cell->index != index) {
		memset(cell, 0, sizeof(*cell));
		cell->index = index;
	}
	return cell;
}

void account_book(struct account *account, double now, enum purpose purpose, double cost)
{
	cell_at(account, now)->cost[purpose] += cost;
	account->total += cost;
}

void account_book_full(struct account *account, double now, double seconds)
{
	cell_at(account, now)->full += seconds;
}

static bool cell_counts(const struct cell *cell, double now)
{
	int64_t index = (int64_t)floor(now / CELL_SECONDS);

	return cell->index > index - CELLS && cell->index <= index;
}

double account_spent(const struct account *account, double now, enum purpose purpose)
{
	double sum = 0;

	for (size_t i = 0; i < CELLS; i++)
		if (cell_counts(&account->cells[i], now))
			sum += account->cells[i].cost[purpose];
	return sum;
}

double account_full(const struct account *account, double now)
{
	double sum = 0;

	for (size_t i = 0; i < CELLS; i++)
		if (cell_counts(&account->cells[i], now))
			sum += account->cells[i].full;
	return sum;
}

double account_budget(const struct account *account, double now, double base)
{
	return now >= account->burst_from && now < account->burst_until ? account->burst_ratio
									: base;
}

void account_note_budget(struct account *account, double now, double budget)
{
	cell_at(account, now)->budget = budget;
}

double account_base(const struct account *account, double now, double base)
{
	double sum = 0;
	size_t n = 0;

	for (size_t i = 0; i < CELLS; i++)
		if (cell_counts(&account->cells[i], now) && account->cells[i].budget > 0) {
			sum += account->cells[i].budget;
			n++;
		}
	return n > 0 ? sum / (double)n : base;
}

double account_allowed(const struct account *account, double now, double base)
{
	double from = fmax(account->burst_from, now - MINUTE);
	double until = fmin(account->burst_until, now);
	double burst = until > from ? (account->burst_ratio - base) * (until - from) : 0;

	return account_base(account, now, base) * MINUTE + burst;
}
