/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* The daemon's pages: what its targets show, as text. */
#ifndef PYLEAKD_SERVICE_METRICS_H
#define PYLEAKD_SERVICE_METRICS_H

#include "base/buffer.h"
#include "service/targets.h"

struct metrics {
	const struct targets *targets;
	double started; /* seconds since 1970 */
};

/* /metrics and all the other pages (README); an http_page, with a struct metrics. */
unsigned metrics_page(void *context, const char *path, struct buffer *body, const char **ret_type);

#endif
