/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Whether what a process, or a program, retains grows beyond noise: its history
 * at two scales, each judged as a site's is.  The short one notices within
 * minutes, the long one what is too slow for that.
 *
 *	short  64 points, one an interval        5 min at 5 s
 *	long   64 points, one in 16 intervals    85 min
 */
#ifndef PYLEAKD_SERVICE_RETAINED_H
#define PYLEAKD_SERVICE_RETAINED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "judge/trend.h"

#define RETAINED_POINTS 64
#define RETAINED_SCALE 16
/* Less than this over a scale's whole length is noise: of the heap; of what is resident. */
#define RETAINED_HEAP_BYTES_MIN (64u << 10)
#define RETAINED_RESIDENT_BYTES_MIN (1u << 20)

struct retained_series {
	struct point points[RETAINED_POINTS]; /* oldest first */
	size_t n;
};

struct retained {				     /* zeroed: nothing is known */
	struct retained_series heap[2], resident[2]; /* short, long */
	size_t intervals;
	bool growing;
	double growth_bytes_per_second; /* of the heap, over the short scale */
	double resident_growth_bytes_per_second;
};

/* The oldest point makes room. */
void retained_series_add(struct retained_series *series, double time_seconds, double bytes);

/* Times rise. heap_bytes: the census of live blocks. */
void retained_observe(struct retained *retained, double time_seconds, double heap_bytes,
		      double resident_bytes);

#endif
