/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "target/place.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "target/proc.h"

#define CGROUP_TEXT_MAX (64u << 10)
#define CONTAINER_DIGITS 64

static bool ends_in(const char *text, size_t size, const char *suffix)
{
	size_t n = strlen(suffix);

	return size > n && memcmp(text + size - n, suffix, n) == 0;
}

static void copy(char *to, const char *from, size_t size)
{
	size_t n = size < PLACE_NAME_MAX ? size : PLACE_NAME_MAX - 1;

	memcpy(to, from, n);
	to[n] = '\0';
	text_make_printable(to);
}

/* "docker-<id>.scope", "cri-containerd-<id>.scope", or the id alone: where it begins; or NULL. */
static const char *container_in(const char *name, size_t size)
{
	size_t digits = 0;

	if (ends_in(name, size, ".scope"))
		size -= strlen(".scope");
	while (digits < size && strchr("0123456789abcdef", name[size - digits - 1]))
		digits++;
	if (digits != CONTAINER_DIGITS || (digits < size && name[size - digits - 1] != '-'))
		return NULL;
	return name + size - digits;
}

/* The innermost of each kind. */
static void take_path(const char *path, size_t size, struct place *ret)
{
	const char *end = path + size;

	while (path < end) {
		const char *slash = memchr(path, '/', (size_t)(end - path));
		size_t n = (size_t)((slash ? slash : end) - path);
		const char *container = container_in(path, n);

		if (container)
			copy(ret->container, container, CONTAINER_DIGITS);
		else if (ends_in(path, n, ".service") || ends_in(path, n, ".scope"))
			copy(ret->unit, path, n);
		path += n + 1;
	}
}

void place_of_text(const char *cgroup, struct place *ret)
{
	*ret = (struct place){0};
	/* "0::/path" is version 2's; "N:controllers:/path" are version 1's. */
	while (*cgroup) {
		size_t size = strcspn(cgroup, "\n");
		const char *first = memchr(cgroup, ':', size);
		const char *end = cgroup + size;
		const char *second =
			first ? memchr(first + 1, ':', (size_t)(end - first - 1)) : NULL;
		struct place found = {0};

		if (second)
			take_path(second + 1, (size_t)(end - second - 1), &found);
		if (found.unit[0] && (second == first + 1 || !ret->unit[0]))
			memcpy(ret->unit, found.unit, sizeof(ret->unit));
		if (found.container[0])
			memcpy(ret->container, found.container, sizeof(ret->container));
		cgroup = end + (*end == '\n');
	}
}

int place_of(pid_t pid, struct place *ret)
{
	_cleanup_free_ char *text = NULL;
	int r = proc_read(pid, "cgroup", CGROUP_TEXT_MAX, &text, NULL);

	if (r < 0)
		return r;
	place_of_text(text, ret);
	return 0;
}
