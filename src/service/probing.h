/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Putting the probes into a session's target, behind its guards. */
#ifndef PYLEAKD_SERVICE_PROBING_H
#define PYLEAKD_SERVICE_PROBING_H

#include "service/session.h"

/*
 * Memory that must stay free below the tightest limit above the target, beyond
 * what the breakpoints' private copies of text pages take: the target's own
 * allocations go on while the probes are put in.
 */
#define PROBING_MARGIN_BYTES (1u << 20)

/* 0, or -errno: no probe is in, and why is among the session's refusals. */
int probing_start(struct session *session);

#endif
