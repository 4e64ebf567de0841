/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "service/site_sums.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"

static void add(struct site_sum *sum, const struct ledger_stack *stack)
{
	sum->outstanding_bytes += stack->outstanding_bytes;
	sum->outstanding_blocks += stack->outstanding_blocks;
	for (size_t i = 0; i < LEDGER_DOMAINS; i++)
		sum->domain_bytes[i] += stack->domain_bytes[i];
}

int site_sums(const struct ledger *ledger, const struct stacks *stacks, struct site_sum **ret,
	      size_t *ret_n)
{
	_cleanup_free_ struct ledger_stack *by_stack = NULL;
	_cleanup_free_ struct site_sum *sums = NULL;
	_cleanup_free_ uint8_t *touched = NULL;
	size_t n_sites = stacks_n_sites(stacks);
	size_t n_stacks, n = 0;
	int r;

	r = ledger_stacks(ledger, &by_stack, &n_stacks);
	if (r < 0)
		return r;
	sums = calloc(n_sites, sizeof(*sums));
	touched = calloc(n_sites, 1);
	if (!sums || !touched)
		return -ENOMEM;
	for (size_t i = 0; i < n_stacks; i++) {
		uint32_t site = stacks_site_of(stacks, by_stack[i].stack);

		add(&sums[site], &by_stack[i]);
		touched[site] = 1;
	}
	for (uint32_t site = 0; site < n_sites; site++) {
		if (!touched[site])
			continue;
		sums[site].site = site;
		sums[n++] = sums[site];
	}
	*ret = TAKE_PTR(sums);
	*ret_n = n;
	return 0;
}
