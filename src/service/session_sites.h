/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* What every mode's report says of a site; index as in session->stacks. */
#ifndef PYLEAKD_SERVICE_SESSION_SITES_H
#define PYLEAKD_SERVICE_SESSION_SITES_H

#include <stdint.h>

#include "judge/judge.h"
#include "report/snapshot.h"

struct session;

/* The strings stay the session's. */
void session_site_frames(const struct session *session, uint32_t index, struct snapshot_site *ret);
void session_site_judged(const struct judgement *judgement, struct snapshot_site *ret);

#endif
