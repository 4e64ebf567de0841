/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* From what the other rooms found out to what the BPF programs are told. Pure. */
#ifndef PYLEAKD_CAPTURE_SETTINGS_H
#define PYLEAKD_CAPTURE_SETTINGS_H

#include "capture/capture.h"
#include "pyleakd/settings.h"

/*
 * Checks every offset and size, so that the programs don't have to. -EINVAL,
 * OUT_OF_BOUNDS: reterr_fault->field names the setting.
 */
int settings_fill(const struct capture_options *options, struct settings *ret,
		  struct fault *reterr_fault);

#endif
