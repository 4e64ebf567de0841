/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "target/maps.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "target/maps_private.h"
#include "target/proc.h"
#include "target/process.h"

DEFINE_CLEANUP(struct maps *, maps_free)

#define DELETED " (deleted)"

void maps_free(struct maps *maps)
{
	if (!maps)
		return;
	free(maps->entries);
	free(maps->text);
	free(maps);
}

static bool expect(const char **at, const char *end, char character)
{
	if (*at == end || **at != character)
		return false;
	(*at)++;
	return true;
}

static bool scan_permissions(const char **at, const char *end, uint32_t *ret)
{
	static const struct {
		char set, unset;
		uint32_t bit;
	} places[] = {{'r', '-', MAPS_READ},
		      {'w', '-', MAPS_WRITE},
		      {'x', '-', MAPS_EXECUTE},
		      {'s', 'p', MAPS_SHARED}};

	*ret = 0;
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		if (expect(at, end, places[i].set))
			*ret |= places[i].bit;
		else if (!expect(at, end, places[i].unset))
			return false;
	}
	return true;
}

/* "START-END rwxp OFFSET MAJOR:MINOR INODE", then blanks and the path. */
static bool scan_numbers(const char **at, const char *end, struct maps_entry *entry)
{
	uint64_t major, minor;

	if (!scan_hex(at, end, &entry->start) || !expect(at, end, '-') ||
	    !scan_hex(at, end, &entry->end) || !expect(at, end, ' ') ||
	    !scan_permissions(at, end, &entry->permissions) || !expect(at, end, ' ') ||
	    !scan_hex(at, end, &entry->offset) || !expect(at, end, ' ') ||
	    !scan_hex(at, end, &major) || !expect(at, end, ':') || !scan_hex(at, end, &minor) ||
	    !expect(at, end, ' ') || !scan_decimal(at, end, &entry->inode) || major > UINT32_MAX ||
	    minor > UINT32_MAX)
		return false;
	entry->device_major = (uint32_t)major;
	entry->device_minor = (uint32_t)minor;
	return entry->start < entry->end;
}

/*
 * A path's bytes are its own but for newlines, which the kernel writes as \012
 * (seq_path with "\n" in fs/proc/task_mmu.c); a backslash is not escaped.
 */
static void unescape_newlines(char *path)
{
	char *to = path;

	for (const char *from = path; *from; to++) {
		if (strncmp(from, "\\012", 4) == 0) {
			*to = '\n';
			from += 4;
		} else {
			*to = *from++;
		}
	}
	*to = '\0';
}

static void cut_deleted(char *path, bool *ret_deleted)
{
	size_t length = strlen(path);
	size_t suffix = strlen(DELETED);

	*ret_deleted = length > suffix && strcmp(path + length - suffix, DELETED) == 0;
	if (*ret_deleted)
		path[length - suffix] = '\0';
}

/* line: up to end, where its newline was made a NUL. */
static bool parse_line(char *line, char *end, struct maps_entry *ret)
{
	struct maps_entry entry = {0};
	const char *at = line;
	char *path;

	if (memchr(line, '\0', (size_t)(end - line)) || !scan_numbers(&at, end, &entry))
		return false;
	path = line + (at - line);
	if (*path != '\0' && *path != ' ')
		return false;
	path += strspn(path, " ");
	if (entry.inode != 0)
		cut_deleted(path, &entry.deleted);
	unescape_newlines(path);
	entry.path = path;
	*ret = entry;
	return true;
}

static size_t count_lines(const char *text, size_t size)
{
	size_t n = 1;

	for (size_t i = 0; i < size; i++)
		n += text[i] == '\n';
	return n;
}

/* Parses maps->text, a copy of its own, whose byte at size is NUL. */
static int parse_lines(struct maps *maps, size_t size, struct fault *reterr_fault)
{
	char *line = maps->text;
	char *text_end = maps->text + size;
	uint64_t last_end = 0;

	while (line < text_end) {
		char *end = memchr(line, '\n', (size_t)(text_end - line));
		struct maps_entry *entry = &maps->entries[maps->n];

		if (!end)
			end = text_end;
		*end = '\0';
		if (!parse_line(line, end, entry) || entry->start < last_end)
			return fault_set(reterr_fault, -EBADMSG, REASON_MALFORMED,
					 (uint64_t)(line - maps->text), "maps");
		last_end = entry->end;
		maps->n++;
		line = end + 1;
	}
	return 0;
}

int maps_parse(const char *text, size_t size, struct maps **ret, struct fault *reterr_fault)
{
	CLEANUP(maps_free) struct maps *maps = calloc(1, sizeof(*maps));
	size_t n_lines;
	int r;

	if (!maps)
		return fault_set(reterr_fault, -ENOMEM, REASON_READ_FAILED, 0, "maps");
	if (size > MAPS_BYTES_MAX)
		return fault_set(reterr_fault, -EBADMSG, REASON_TOO_LARGE, size, "maps");
	n_lines = count_lines(text, size);
	if (n_lines > MAPS_ENTRIES_MAX)
		return fault_set(reterr_fault, -EBADMSG, REASON_TOO_LARGE, size, "maps");
	maps->text = malloc(size + 1);
	maps->entries = calloc(n_lines, sizeof(*maps->entries));
	if (!maps->text || !maps->entries)
		return fault_set(reterr_fault, -ENOMEM, REASON_READ_FAILED, 0, "maps");
	memcpy(maps->text, text, size);
	maps->text[size] = '\0';
	r = parse_lines(maps, size, reterr_fault);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(maps);
	return 0;
}

int maps_load(pid_t pid, struct maps **ret, struct fault *reterr_fault)
{
	_cleanup_free_ char *text = NULL;
	struct maps *maps;
	size_t size;
	pid_t tid;
	int r;

	r = process_living_thread(pid, &tid);
	if (r == 0)
		r = proc_read_task(pid, tid, "maps", MAPS_BYTES_MAX, &text, &size);
	if (r < 0)
		return fault_set(reterr_fault, r, REASON_READ_FAILED, 0, "maps");
	r = maps_parse(text, size, &maps, reterr_fault);
	if (r < 0)
		return r;
	maps->tid = tid;
	*ret = maps;
	return 0;
}

size_t maps_entries(const struct maps *maps, const struct maps_entry **ret)
{
	*ret = maps->entries;
	return maps->n;
}

const struct maps_entry *maps_find(const struct maps *maps, uint64_t address)
{
	size_t low = 0, high = maps->n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (maps->entries[middle].end <= address)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == maps->n || maps->entries[low].start > address)
		return NULL;
	return &maps->entries[low];
}
