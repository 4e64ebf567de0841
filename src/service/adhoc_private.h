/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* What the files of an ad hoc session share. */
#ifndef PYLEAKD_SERVICE_ADHOC_PRIVATE_H
#define PYLEAKD_SERVICE_ADHOC_PRIVATE_H

#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "service/events.h"
#include "service/options.h"
#include "service/output.h"
#include "service/session.h"
#include "service/turn.h"

#define ADHOC_TARGETS_MAX 1024

struct adhoc {
	const struct options *options;
	struct session_options session_options;
	struct turn turn; /* windows of several targets open one after the other */
	sd_event *event;
	sd_event_source *step; /* the timer of what is due next; the loop's */
	bool looping; /* the sessions' time has begun */
	double next_step_seconds;
	uint64_t started_ns; /* monotonic */
	struct output *output;
	struct recording_writer *recording; /* of the first target; NULL: none is kept */
	/* One a target, in the order in which they came; both of ADHOC_TARGETS_MAX. */
	struct session **sessions;
	struct session_sources *exits;
	size_t n_targets, n_running;
	unsigned early_looks; /* taken before the first interval's end */
	int signal; /* that was sent to us alone and ended the sessions; 0: none */
};

int adhoc_init(struct adhoc *adhoc, const struct options *options);
void adhoc_done(struct adhoc *adhoc);
/* Takes the session over on success. */
int adhoc_add(struct adhoc *adhoc, struct session *session);
bool adhoc_has_target(const struct adhoc *adhoc, pid_t pid);
/* Sessions for the processes that a target has forked already, and for theirs. */
void adhoc_follow_descendants(struct adhoc *adhoc, pid_t pid);
/* Takes what all rings have. */
int adhoc_consume(struct adhoc *adhoc);
/* Until the duration is over, a signal comes or no target runs any more. */
int adhoc_loop(struct adhoc *adhoc);
/* Seconds since the sessions' start. */
double adhoc_now(const struct adhoc *adhoc);
struct session_clock adhoc_clock(struct adhoc *adhoc);

#endif
