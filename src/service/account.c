/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* An interval's end: the books held against the heap, the sites' sums told to the judgement. */
#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "service/session_private.h"
#include "service/site_sums.h"

static int tell_judge(struct session *session, double time_seconds)
{
	_cleanup_free_ struct site_sum *sums = NULL;
	size_t n;
	int r;

	r = site_sums(session->ledger, session->stacks, &sums, &n);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++) {
		r = judge_observe(session->judge, stacks_site(session->stacks, sums[i].site)->key,
				  time_seconds, sums[i].outstanding_bytes,
				  sums[i].outstanding_blocks);
		if (r < 0 && r != -ENOSPC)
			return r;
	}
	return 0;
}

/* Names are read while their types live. */
static int name_type(const struct ledger_block *block, void *context)
{
	const char *name;

	if (block->type)
		type_cache_name(context, block->type, &name, NULL);
	return 0;
}

int session_account(struct session *session, double time_seconds, enum session_look look)
{
	struct fault fault = FAULT_NONE;
	int r;

	if (session->reconcile) {
		r = reconcile_run(session->reconcile, look == SESSION_LOOK_COMPLETE,
				  &session->books, &fault);
		if (r == -ENOMEM)
			return r;
		/* A heap that can't be read (any more) leaves the last books standing. */
		session->books_valid |= r == 0;
		if (r == 0)
			session->reconciled_seconds = time_seconds;
	}
	ledger_blocks_visit(session->ledger, name_type, session->types);
	if (look == SESSION_LOOK_EARLY)
		return 0;
	if (session->books_valid)
		judge_observe(session->judge, SESSION_HEAP_KEY, time_seconds,
			      session->books.pool_live_bytes, session->books.pool_live_blocks);
	return tell_judge(session, time_seconds);
}
