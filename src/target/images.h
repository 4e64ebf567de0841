/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Images of files that many processes map: one for all of them, for as long as
 * the file stays as it is (device, inode, size, times of change).
 */
#ifndef PYLEAKD_TARGET_IMAGES_H
#define PYLEAKD_TARGET_IMAGES_H

#include "base/fault.h"
#include "target/image.h"

#define IMAGES_MAX 64 /* kept without a user: those asked for last */

struct images;
int images_new(struct images **ret);
/* Images that somebody holds stay. */
void images_free(struct images *images);

/* As image_new(); the caller's, to image_free(). images NULL: one of its own. */
int images_open(struct images *images, int fd, struct image **ret, struct fault *reterr_fault);

#endif
