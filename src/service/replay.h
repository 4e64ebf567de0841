/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * pyleakd replay: everything behind the capture once more, from a recording.
 * A recording that is cut off is played as far as it goes, and its report says
 * so.
 */
#ifndef PYLEAKD_SERVICE_REPLAY_H
#define PYLEAKD_SERVICE_REPLAY_H

#include "report/snapshot.h"
#include "service/options.h"
#include "service/recording.h"

/*
 * The last report that can be made of a recording, to be freed with
 * snapshot_free(). memory: recording_memory()'s, or one over it. -EBADMSG: it
 * lacks what every report needs, reterr_fault->field says which fact.
 */
int replay_report(struct recording_reader *reader, struct memory *memory, struct snapshot **ret,
		  struct fault *reterr_fault);

/* Returns the exit status. */
int replay_run(const struct options *options);

#endif
