/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* With a terminal on standard output, an ad hoc session shows its report as it grows. */
#ifndef PYLEAKD_SERVICE_LIVE_VIEW_H
#define PYLEAKD_SERVICE_LIVE_VIEW_H

#include <stddef.h>

#include "service/options.h"
#include "service/session.h"

/* Does nothing unless text goes to a terminal. */
void live_view_show(struct session *const *sessions, size_t n, double time_seconds,
		    const struct options *options);

#endif
