/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Fuzzes the readers of /proc texts: maps, stat and command lines. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "target/maps.h"
#include "target/process.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int condition)
{
	if (!condition)
		abort();
}

static void check_entries(const struct maps *maps)
{
	const struct maps_entry *entries;
	size_t n = maps_entries(maps, &entries);

	for (size_t i = 0; i < n; i++) {
		check(entries[i].start < entries[i].end);
		check(i == 0 || entries[i - 1].end <= entries[i].start);
		check(strlen(entries[i].path) < 1 << 20);
		check(maps_find(maps, entries[i].start) == &entries[i]);
		check(maps_find(maps, entries[i].end - 1) == &entries[i]);
		maps_entry_names_python(&entries[i]);
	}
}

static void check_files(const struct maps *maps)
{
	struct maps_file *files;
	size_t n;

	check(maps_executable_files(maps, &files, &n) == 0);
	for (size_t i = 0; i < n; i++) {
		check(files[i].text->permissions & MAPS_EXECUTE);
		check(files[i].start <= files[i].text->start);
		check(files[i].text->end <= files[i].end);
		check(files[i].n_text > 0);
	}
	free(files);
}

static void check_name(const uint8_t *data, size_t size)
{
	char name[PROCESS_NAME_MAX];
	char *text = malloc(size + 1);

	memcpy(text, data, size);
	text[size] = '\0';
	process_display_name_of(text, size, "comm", name);
	check(strlen(name) < sizeof(name));
	for (const char *at = name; *at; at++)
		check((unsigned char)*at >= 0x20 && *at != 0x7f);
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct process_stat stat;
	struct maps *maps;

	if (process_stat_parse((const char *)data, size, &stat) == 0)
		check(strlen(stat.name) < sizeof(stat.name));
	check_name(data, size);
	if (maps_parse((const char *)data, size, &maps, NULL) < 0)
		return 0;
	check_entries(maps);
	check_files(maps);
	maps_free(maps);
	return 0;
}
