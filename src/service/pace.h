/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * What one target may cost pyleakd in CPU of its own: a share of a core on
 * average.  What is not spent is saved up, for so long only; what was spent
 * beyond that is owed, and waited for.
 *
 *	saved  ____          ____/‾‾‾‾   0.3 s at most (1 % of half a minute)
 *	0 ─────────\────────/───────────
 *	owed        \__/\__/             looks come more rarely
 */
#ifndef PYLEAKD_SERVICE_PACE_H
#define PYLEAKD_SERVICE_PACE_H

#include <stdbool.h>

#define PACE_SAVED_SECONDS 30.0 /* of time: its share of a core is what is saved at most */
#define PACE_AVERAGE_SECONDS 60.0
/* However much is owed, something is done so often: the ring is to be emptied. */
#define PACE_PAUSE_SECONDS_MAX 10.0

struct pace {
	double at;	      /* all times are the caller's, in seconds */
	double owed_seconds;  /* of CPU; negative: saved */
	double average_ratio; /* of a core, over the last minute or so */
};

/* All is saved that may be. ratio: of a core. */
void pace_init(struct pace *pace, double now, double ratio);
/* So much CPU went until now, in all that was done since the last call. */
void pace_spend(struct pace *pace, double now, double cpu_seconds, double ratio);
/* Whether the limit is reached: more was spent than was saved. */
bool pace_is_over(const struct pace *pace, double now, double ratio);
/* Until what is owed is paid, PACE_PAUSE_SECONDS_MAX at most; 0: nothing is. */
double pace_pause(const struct pace *pace, double now, double ratio);
/* The share of a core that it took lately. */
double pace_average(const struct pace *pace, double now);

#endif
