/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* When breakpoints may not go in, or not stay: no headroom, and targets that fork often. */
#include <errno.h>
#include <math.h>
#include <stdio.h>

#include "report/snapshot_build.h"
#include "service/probing.h"
#include "service/sampling_private.h"

/*
 * Closing all at a fork takes some 0.1 s and bringing eight groups back as much
 * again, in which forks everywhere on the host wait: at 20 a minute that is 7 %
 * of the time, of the 10 % that windows may take (HOST_SHARE).
 */
#define FORKS_OFTEN 20.0
#define FORKS_SELDOM 10.0
#define FORKS_FADE_SECONDS 60.0

bool sampling_has_room(struct session *session, double time_seconds)
{
	struct sampling_room *room = &session->sampling->room;
	char message[SESSION_MESSAGE_BYTES];
	int r = probing_check_headroom(session, message);
	bool lacks = r < 0 && r != -ESRCH; /* of one that is gone the attach will tell */

	if (lacks)
		snprintf(room->why, sizeof(room->why), "%s", message);
	if (lacks && !room->lacks)
		room->since = time_seconds;
	if (!lacks && room->lacks)
		room->seconds += time_seconds - room->since;
	room->lacks = lacks;
	return !lacks;
}

static void fade(struct sampling_forks *forks, double time_seconds)
{
	forks->a_minute *= exp(-fmax(time_seconds - forks->at, 0) / FORKS_FADE_SECONDS);
	forks->at = time_seconds;
}

/* With a gap between the two thresholds: what goes in and out is what costs. */
static void decide(struct session *session, double time_seconds)
{
	struct sampling_forks *forks = &session->sampling->forks;
	bool often = forks->a_minute > (forks->often ? FORKS_SELDOM : FORKS_OFTEN);

	if (often == forks->often)
		return;
	if (often)
		forks->often_since = time_seconds;
	else
		forks->often_seconds += time_seconds - forks->often_since;
	forks->often = often;
	governor_windows_only(session->sampling->governor, time_seconds, often);
}

void sampling_note_fork(struct session *session, double time_seconds)
{
	struct sampling_forks *forks = &session->sampling->forks;

	if (forks->groups && time_seconds - forks->group_began < SAMPLING_FORK_PAUSE_SECONDS)
		return;
	forks->group_began = time_seconds;
	fade(forks, time_seconds);
	forks->a_minute++;
	forks->groups++;
	decide(session, time_seconds);
}

void sampling_forks_fade(struct session *session, double time_seconds)
{
	struct sampling_forks *forks = &session->sampling->forks;

	if (!forks->often)
		return;
	fade(forks, time_seconds);
	decide(session, time_seconds);
}

/*
 * Without probes on frees nobody tells when the interpreter begins to tear its
 * heap down: what was read is of before, if the word is not set behind it.
 */
bool sampling_heap_ended(struct session *session)
{
	bool finalizing;

	if (!session_is_over(session) &&
	    interpreter_is_finalizing(session->interpreter, &finalizing, NULL) == 0 && finalizing)
		session->moment = MOMENT_FINALIZATION;
	return session_is_over(session);
}

void sampling_add_refusals(const struct session *session, double time_seconds,
			   struct snapshot *snapshot)
{
	const struct sampling_room *room = &session->sampling->room;
	const struct sampling_forks *forks = &session->sampling->forks;
	char why[SESSION_MESSAGE_BYTES + 64];
	double seconds;

	seconds = room->seconds + (room->lacks ? time_seconds - room->since : 0);
	if (room->lacks || seconds > 0) {
		snprintf(why, sizeof(why), "%s (for %.1f of %.1f s)", room->why, seconds,
			 time_seconds);
		snapshot_add_refusal(snapshot, "probes", why);
	}
	seconds = forks->often_seconds + (forks->often ? time_seconds - forks->often_since : 0);
	if (forks->often || seconds > 0) {
		snprintf(why, sizeof(why),
			 "it forks often, and children inherit what is in: short windows only, in "
			 "between (for %.1f of %.1f s)",
			 seconds, time_seconds);
		snapshot_add_refusal(snapshot, "probes that stay", why);
	}
}
