/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Inside of maps.h: what its files share. */
#ifndef PYLEAKD_TARGET_MAPS_PRIVATE_H
#define PYLEAKD_TARGET_MAPS_PRIVATE_H

#include "target/maps.h"

struct maps {
	char *text; /* the entries' paths lie in it */
	struct maps_entry *entries; /* ascending, none overlaps another */
	size_t n;
	pid_t tid; /* a thread that had memory when they were read; 0: parsed from text */
};

#endif
