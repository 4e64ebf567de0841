/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Growth probes of the sampled mode: pools at addresses that were never pools,
 * new maxima of the break; mappings go to the session's ledger, which knows
 * them whole.  Always on, and governed: pools that empty and refill pass the
 * probes up to 70,000 times a second.
 *
 *	closed ──open: a census tells the pools that are there──▶ open
 *	   ▲  10, 20 … 60 s                                        │
 *	   └── its hits were more than its share: too hot ─────────┘
 */
#ifndef PYLEAKD_SERVICE_SAMPLING_GROWTH_H
#define PYLEAKD_SERVICE_SAMPLING_GROWTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pyleakd/wire.h"
#include "report/snapshot.h"

#define SAMPLING_GROUP_POOLS 14 /* of the capture's; behind SAMPLING_GROUP_NATIVE_SLICES */

struct census;
struct session;
struct sampling;
struct sampling_growth;
struct site_estimate;

/* census: of the session's start; NULL: there is none. */
int sampling_growth_start(struct session *session, struct sampling *sampling,
			  const struct census *census);
void sampling_growth_free(struct sampling_growth *growth);

/* Opens and closes. No window may be open. */
void sampling_growth_step(struct session *session, double now);
/* Tells the governor what the probes cost since the last call. */
void sampling_growth_count(struct session *session, double now);
/* The capture has closed all groups. */
void sampling_growth_closed(struct session *session, double now);

/* A WIRE_NEW_POOL, WIRE_BRK, or WIRE_LIMIT of their group; false: another record. */
bool sampling_growth_record(struct session *session, const struct wire_header *record);
/*
 * The size, or 0 where the block lies in memory that was mapped since the
 * session began: the mapping counts it.
 */
uint64_t sampling_growth_unmapped(const struct session *session, uint64_t address,
				  uint64_t size_bytes);

/*
 * Who needed more, into the sites' growth; and where samples explain hardly
 * anything of what a class gained, the steady ones share it.
 * explained: by samples of sites that were met often, by class as in struct samples_cell.
 */
int sampling_growth_estimate(const struct session *session, double time_seconds,
			     const double *explained, struct site_estimate *sites, size_t n);

void sampling_growth_add_refusals(const struct session *session, double time_seconds,
				  struct snapshot *snapshot);

#endif
