/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Paths as people know them: what all of a report's files share goes, and so
 * does the way to the standard library and to site-packages.
 *
 *	/srv/shop/app/cache.py                                 → app/cache.py
 *	/srv/shop/lib/stats.py                                 → lib/stats.py
 *	/usr/lib/python3.11/json/encoder.py                    → json/encoder.py
 *	/opt/v/lib/python3.11/site-packages/flask/app.py       → flask/app.py
 *
 * A short form that would stand for two files is not used for either.
 */
#ifndef PYLEAKD_REPORT_PATHS_H
#define PYLEAKD_REPORT_PATHS_H

#include <stddef.h>

#include "base/table.h"
#include "report/snapshot.h"

struct paths {
	const char *shared;  /* some path that begins with what is shared; the snapshot's */
	size_t shared_bytes; /* up to and with a '/' */
	struct table full;   /* hash of a short form → hash of its path, 0: of several */
};

/* Of the first n_sites sites' first n_frames frames. Fails only for want of memory. */
int paths_init(struct paths *paths, const struct snapshot *snapshot, size_t n_sites,
	       size_t n_frames);
void paths_done(struct paths *paths);

/* The short form, which is a part of path. */
const char *paths_shorten(const struct paths *paths, const char *path);

#endif
