/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* The report of sessions that have ended, in the form that was asked for. */
#ifndef PYLEAKD_SERVICE_FINAL_REPORT_H
#define PYLEAKD_SERVICE_FINAL_REPORT_H

#include <stdbool.h>

#include "report/snapshot.h"
#include "service/options.h"
#include "service/output.h"
#include "service/session.h"

/* Colour where the sink is a terminal and NO_COLOR is not set. */
bool report_has_colour(bool terminal);
int report_write(const struct snapshot *snapshot, const struct options *options, bool terminal,
		 const struct sink *sink);

/*
 * Finishes the sessions that are not finished yet, and writes what all of them
 * say. ret_leak: a site's verdict is leak. 0, or -errno (told on the log).
 */
int final_report(struct session **sessions, size_t n, const struct session_clock *clock,
		 const struct options *options, struct output *output, bool *ret_leak);
/* The same of what a recorded session said. */
int final_report_recorded(const struct snapshot *snapshot, const struct options *options,
			  struct output *output, bool *ret_leak);

#endif
