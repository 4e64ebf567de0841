/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Where the final report goes: a file that is written whole or not at all, or
 * a stream.
 *
 *	output_new     before the session: would it be writable?   nothing is there yet
 *	output_sink    the report: into a temporary file beside it
 *	output_commit  in place
 *	output_free    without a commit: nothing is left, a file that was there stays
 *
 * NULL, "-" and /dev/stdout are the standard output; devices are opened at
 * once.  So are FIFOs that somebody reads; the others when the first byte is
 * written, and a reader is waited for OUTPUT_READER_MS: then it is -ENXIO.
 */
#ifndef PYLEAKD_SERVICE_OUTPUT_H
#define PYLEAKD_SERVICE_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>

#include "report/snapshot.h"

#define OUTPUT_BUFFER_BYTES (64u << 10)
#define OUTPUT_MESSAGE_BYTES 512
#define OUTPUT_READER_MS 1000

struct output;

/*
 * -errno where nothing could be written there (no such directory, no
 * permission, a directory, a read-only file system), found out by creating and
 * removing a file where it would go; ret_message (OUTPUT_MESSAGE_BYTES) then
 * says "what went wrong: what to do", without a newline.
 */
int output_new(const char *path, struct output **ret, char *ret_message);
void output_free(struct output *output);

/* Valid as long as the output. Its errors stick and are told by output_commit() too. */
const struct sink *output_sink(struct output *output);

/* Everything that was written is there from now on. 0, or -errno and nothing has changed. */
int output_commit(struct output *output);

bool output_is_terminal(const struct output *output);

#endif
