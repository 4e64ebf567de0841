/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * mmap, munmap and mremap within the budget.  Told, each costs two trampolines,
 * a stack and a record; a server that reads into buffers of 256 KiB makes
 * 20,000 of these calls a second.
 */
#include <math.h>
#include <stdio.h>

#include "report/snapshot_build.h"
#include "service/sampling_private.h"

#define CALL_SECONDS 1.5e-6
/* Between looks at their counter, a system call: they come at 600,000 a second. */
#define COUNT_SECONDS 0.1
#define COUNT_OFF_SECONDS 0.5
/* A program that starts maps its libraries: so much at once, whatever the budget. */
#define CREDIT_SECONDS_MIN 0.005
#define CREDIT_OF_SECONDS 10.0
#define BACK_OFF_FIRST 10.0
#define BACK_OFF_MAX 60.0
/* Of user space. */
#define ADDRESSES_END (1ull << 47)

static double credit_max(const struct session *session)
{
	double a_second = SAMPLING_GROWTH_SHARE * session->sampling->budget_ratio;

	return fmax(CREDIT_OF_SECONDS * a_second, CREDIT_SECONDS_MIN);
}

/* What was seen before says nothing of what is mapped when they are told again. */
static void turn_off(struct session *session, double now)
{
	struct sampling_mappings *mappings = &session->sampling->mappings;

	capture_mappings(session->capture, false);
	session_drain(session);
	ledger_forget_mapping(session->ledger, 0, ADDRESSES_END);
	mappings->back_off = mappings->too_hot ? fmin(2 * mappings->back_off, BACK_OFF_MAX) :
						 BACK_OFF_FIRST;
	mappings->off = true;
	mappings->off_since = now;
	mappings->again_at = now + mappings->back_off;
	mappings->too_hot++;
}

static void turn_on(struct session *session, double now)
{
	struct sampling_mappings *mappings = &session->sampling->mappings;

	capture_mappings(session->capture, true);
	mappings->off = false;
	mappings->off_seconds += now - mappings->off_since;
	mappings->credit = credit_max(session);
}

double sampling_mappings_count(struct session *session, double now)
{
	struct sampling_mappings *mappings = &session->sampling->mappings;
	double a_second = SAMPLING_GROWTH_SHARE * session->sampling->budget_ratio;
	double seconds = now - mappings->counted_at, cost;
	uint64_t calls = mappings->calls;

	if (mappings->off && now >= mappings->again_at)
		turn_on(session, now);
	if (seconds < (mappings->off ? COUNT_OFF_SECONDS : COUNT_SECONDS) ||
	    capture_counters(session->capture, &session->counters) < 0)
		return 0;
	if (mappings->counted_at == 0)
		mappings->credit = credit_max(session);
	mappings->counted_at = now;
	mappings->calls = session->counters.mappings;
	cost = (double)(mappings->calls - calls) * CALL_SECONDS;
	mappings->credit = fmin(mappings->credit + seconds * a_second - cost, credit_max(session));
	if (!mappings->off && mappings->credit < 0)
		turn_off(session, now);
	return cost;
}

void sampling_mappings_add_refusal(const struct session *session, double time_seconds,
				   struct snapshot *snapshot)
{
	const struct sampling_mappings *mappings = &session->sampling->mappings;
	double off = mappings->off_seconds +
		     (mappings->off ? time_seconds - mappings->off_since : 0);
	char why[SESSION_MESSAGE_BYTES];

	if (!mappings->too_hot)
		return;
	snprintf(why, sizeof(why),
		 "mmap and munmap are called more often than the budget pays for (%.0f times a "
		 "second; not looked at for %.1f of %.1f s)",
		 (double)mappings->calls / fmax(time_seconds - off, 1), off, time_seconds);
	snapshot_add_refusal(snapshot, "mappings", why);
}
