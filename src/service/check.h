/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* pyleakd check: what this host and a target support, and what to do about what they don't. */
#ifndef PYLEAKD_SERVICE_CHECK_H
#define PYLEAKD_SERVICE_CHECK_H

#include "service/options.h"

/* Returns the exit status: 1 where exact tracing is not possible here. */
int check_run(const struct options *options, const struct sink *sink);

#endif
