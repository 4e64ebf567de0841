/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "cpython/texts.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/hash.h"
#include "base/table.h"

/* Different texts of one 64-bit hash: they stand at the next keys. */
#define TEXT_COLLISIONS_MAX 8

struct texts {
	struct table by_hash; /* hash (+ collisions) → the text's address; owns the texts */
	size_t bytes, max_bytes;
};

int texts_new(size_t max_texts, size_t max_bytes, struct texts **ret)
{
	struct texts *texts = calloc(1, sizeof(*texts));

	if (!texts)
		return -ENOMEM;
	texts->max_bytes = max_bytes;
	texts->by_hash = table_init(max_texts);
	*ret = texts;
	return 0;
}

void texts_free(struct texts *texts)
{
	struct table_cell *cell;
	size_t iterator = 0;

	if (!texts)
		return;
	while (table_next(&texts->by_hash, &iterator, &cell))
		free((char *)(uintptr_t)cell->value);
	table_done(&texts->by_hash);
	free(texts);
}

static int texts_add(struct texts *texts, uint64_t key, const char *text, const char **ret)
{
	size_t size = strlen(text) + 1;
	_cleanup_free_ char *copy = NULL;
	int error;

	if (size > texts->max_bytes - texts->bytes)
		return -ENOSPC;
	copy = malloc(size);
	if (!copy)
		return -ENOMEM;
	memcpy(copy, text, size);
	error = table_put(&texts->by_hash, key, (uintptr_t)copy);
	if (error < 0)
		return error;
	texts->bytes += size;
	*ret = TAKE_PTR(copy);
	return 0;
}

int texts_keep(struct texts *texts, const char *text, const char **ret)
{
	uint64_t key = hash_string(text);

	for (uint64_t i = 0; i < TEXT_COLLISIONS_MAX; i++) {
		const uint64_t *known = table_find(&texts->by_hash, key + i);

		if (!known)
			return texts_add(texts, key + i, text, ret);
		if (strcmp((const char *)(uintptr_t)*known, text) == 0) {
			*ret = (const char *)(uintptr_t)*known;
			return 0;
		}
	}
	return -ENOSPC;
}
