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

/*
 * Each probed page of text becomes a private copy, charged to the target's
 * group: -ENOSPC, or why that can't be told; ret_message (SESSION_MESSAGE_BYTES)
 * says why then. The capture is prepared.
 */
int probing_check_headroom(const struct session *session, char *ret_message);

#endif
