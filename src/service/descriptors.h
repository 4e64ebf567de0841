/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* How many files this process may have open. */
#ifndef PYLEAKD_SERVICE_DESCRIPTORS_H
#define PYLEAKD_SERVICE_DESCRIPTORS_H

/*
 * As many as the hard limit lets it: a session has some 40 open (links,
 * programs, maps, the target's memory), and the usual limit of 1024 would end
 * with the 25th target.  Where that fails the limit stays as it was.  A command
 * that is run must be started before: it is to have its own limit.
 */
void descriptors_raise_limit(void);

#endif
