/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Where plans are kept between sessions. */
#ifndef PYLEAKD_SERVICE_PLAN_CACHE_H
#define PYLEAKD_SERVICE_PLAN_CACHE_H

/*
 * $PYLEAKD_CACHE_DIRECTORY, $CACHE_DIRECTORY (systemd), /var/cache/pyleakd for
 * root, $XDG_CACHE_HOME/pyleakd or ~/.cache/pyleakd otherwise; NULL: none of
 * them can be made, and plans are made anew each time. Static storage.
 */
const char *plan_cache_directory(void);

#endif
