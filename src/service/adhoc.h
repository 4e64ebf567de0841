/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * An ad hoc session: one or more targets watched until the duration is over,
 * a signal comes or the last target is gone; then the report.
 */
#ifndef PYLEAKD_SERVICE_ADHOC_H
#define PYLEAKD_SERVICE_ADHOC_H

#include "service/options.h"

/* pyleakd --pid …: returns the exit status. */
int adhoc_attach(const struct options *options);
/* pyleakd run -- COMMAND: the command's exit status, or 1 and 3 as for --pid. */
int adhoc_run(const struct options *options);

#endif
