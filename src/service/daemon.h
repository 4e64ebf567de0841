/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* pyleakd --config FILE: finds the host's Python processes, looks at all of them, serves pages. */
#ifndef PYLEAKD_SERVICE_DAEMON_H
#define PYLEAKD_SERVICE_DAEMON_H

#include "service/options.h"

/* Until SIGTERM or SIGINT; SIGHUP reads the configuration anew. Returns the exit status. */
int daemon_run(const struct options *options);

#endif
