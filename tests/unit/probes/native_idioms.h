/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Little C libraries, as compilers write them: code with a malloc, a free and what a test adds. */
#ifndef PYLEAKD_TESTS_PROBES_NATIVE_IDIOMS_H
#define PYLEAKD_TESTS_PROBES_NATIVE_IDIOMS_H

#include <string.h>

#include "idioms.h"

#include "probes/native_private.h"

#define OUTSIDE "(from_here + 0x100000)" /* nothing is decoded there: a PLT */

/* A library of malloc and free; SITE_n are the places at which something is expected. */
#define LIBRARY(name, text)                                                                        \
	IDIOM(name, ".set from_here, .\n" text "\n" #name "_free: test rdi, rdi\n" #name           \
		    "_free_site: je 77f\n"                                                         \
		    "mov rax, [rdi-8]\n"                                                           \
		    "77: ret\n");                                                                  \
	extern const uint8_t name##_malloc[], name##_free[], name##_free_site[]

#define PLACE(name, label) extern const uint8_t name##_##label[]

struct library {
	struct code *code;
	struct native_sites sites;
	struct native_entries entries;
	struct image_range functions[4];
};

static inline void library_done(struct library *library)
{
	code_free(library->code);
}

#define LIBRARY_OF __attribute__((cleanup(library_done))) struct library

static inline void decode(struct library *library, const uint8_t *begin, const uint8_t *end)
{
	memset(library, 0, sizeof(*library));
	library->code = decode_idiom(begin, end);
	for (size_t i = 0; i < NATIVE_FUNCTIONS; i++)
		library->entries.at[i] = CODE_NONE;
	library->entries.functions = library->functions;
}

static inline size_t index_of(const struct library *library, const uint8_t *begin,
			      const uint8_t *place)
{
	const size_t index = code_index(library->code, IDIOM_VADDR + (uint64_t)(place - begin));

	assert_int_not_equal(index, CODE_NONE);
	return index;
}

#define AT(library, name, label) index_of(library, name##_begin, name##_##label)
#define ENTRY(library, name, which, label) ((library)->entries.at[which] = AT(library, name, label))

/* A function begins there, as the unwind tables would have it. */
#define FUNCTION(library, name, label)                                                             \
	((library)->functions[(library)->entries.n_functions++] =                                  \
		 (struct image_range){IDIOM_VADDR + (uint64_t)(name##_##label - name##_begin),     \
				      IDIOM_VADDR + (uint64_t)(name##_end - name##_begin)})

#define OPEN(library, name)                                                                        \
	do {                                                                                       \
		decode(library, name##_begin, name##_end);                                         \
		ENTRY(library, name, NATIVE_MALLOC, malloc);                                       \
		ENTRY(library, name, NATIVE_FREE, free);                                           \
	} while (0)

#define MATCH(library)                                                                             \
	assert_int_equal(native_match((library)->code, &(library)->entries, &(library)->sites), 0)

/* Sites of returns, free's and realloc's entries not counted. */
static inline size_t count_returns(const struct library *library)
{
	size_t n = 0;

	for (size_t i = 0; i < library->sites.n; i++)
		n += library->sites.items[i].site.kind != SITE_NATIVE_FREE &&
		     library->sites.items[i].site.kind != SITE_REALLOC_ENTER;
	return n;
}

/* The n-th site at an instruction; NULL. */
static inline const struct plan_site *site_at(const struct library *library, size_t index, size_t n)
{
	for (size_t i = 0; i < library->sites.n; i++)
		if (library->sites.items[i].at == index && n-- == 0)
			return &library->sites.items[i].site;
	return NULL;
}

static inline void assert_register(const struct plan_site *site, unsigned reg, int displacement)
{
	assert_non_null(site);
	assert_int_equal(site->value, VALUE_REGISTER);
	assert_int_equal(site->reg, reg);
	assert_int_equal(site->displacement, displacement);
}

/* One return site, at this place, in this register, and nothing unresolved. */
static inline void assert_only(const struct library *library, size_t index, unsigned reg,
			       unsigned condition)
{
	const struct plan_site *site = site_at(library, index, 0);

	assert_int_equal(library->sites.unresolved, 0);
	assert_int_equal(count_returns(library), 1);
	assert_register(site, reg, 0);
	assert_int_equal(site->condition, condition);
}

static inline void assert_unresolved(const struct library *library)
{
	assert_int_equal(count_returns(library), 0);
	assert_int_equal(library->sites.unresolved, 1);
}

#endif
