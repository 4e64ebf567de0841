/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Which addresses of a process are a file's on disk: pages that are absent
 * there (evicted, or never touched) can be read without harm, the kernel maps
 * them from the page cache.  Files on tmpfs and memfds are left out: what is
 * absent there may be swapped out.
 */
#ifndef PYLEAKD_CPYTHON_FILE_MAPPINGS_H
#define PYLEAKD_CPYTHON_FILE_MAPPINGS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct file_mappings;

int file_mappings_new(pid_t pid, struct file_mappings **ret);
void file_mappings_free(struct file_mappings *mappings);
/*
 * Answers are kept: a mapping that goes and comes back as anonymous memory is
 * then read although absent, which maps the zero page and costs the target
 * nothing.
 */
bool file_mappings_has(struct file_mappings *mappings, uint64_t address);

#endif
