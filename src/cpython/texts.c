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
	struct table *by_hash; /* hash (+ collisions) → the text's address; owns the texts */
	size_t bytes, max_bytes;
};

DEFINE_CLEANUP(struct texts *, texts_free)

int texts_new(size_t max_texts, size_t max_bytes, struct texts **ret)
{
	CLEANUP(texts_free) struct texts *texts = calloc(1, sizeof(*texts));
	int error;

	if (!texts)
		return -ENOMEM;
	texts->max_bytes = max_bytes;
	error = table_new(max_texts, &texts->by_hash);
	if (error < 0)
		return error;
	*ret = TAKE_PTR(texts);
	return 0;
}

static int text_free(uint64_t key, uint64_t text, void *context)
{
	(void)key;
	(void)context;
	free((char *)(uintptr_t)text);
	return 0;
}

void texts_free(struct texts *texts)
{
	if (!texts)
		return;
	if (texts->by_hash)
		table_visit(texts->by_hash, text_free, NULL);
	table_free(texts->by_hash);
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
	error = table_put(texts->by_hash, key, (uintptr_t)copy);
	if (error < 0)
		return error;
	texts->bytes += size;
	*ret = TAKE_PTR(copy);
	return 0;
}

int texts_keep(struct texts *texts, const char *text, const char **ret)
{
	uint64_t key = hash_string(text), known;

	for (uint64_t i = 0; i < TEXT_COLLISIONS_MAX; i++) {
		if (table_get(texts->by_hash, key + i, &known) < 0)
			return texts_add(texts, key + i, text, ret);
		if (strcmp((const char *)(uintptr_t)known, text) == 0) {
			*ret = (const char *)(uintptr_t)known;
			return 0;
		}
	}
	return -ENOSPC;
}
