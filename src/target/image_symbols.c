/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Symbols of .symtab and .dynsym in one table with a hash over the names.
 *
 *   buckets[hash & mask] -> entry -> next -> ...
 *
 * Inserting compares nothing, so a file full of equal names costs no more than
 * another; a look-up walks one chain and takes the entry of the lowest rank.
 */
#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/hash.h"
#include "target/image_private.h"

/* A symbol of .dynsym that .symtab has too is looked for among so many of its bucket. */
#define DUPLICATE_SEARCH_MAX 64
#define VERSION_HIDDEN 0x8000 /* of a .gnu.version entry: not the default version */

enum {
	RANK_DYNAMIC = 1,
	RANK_LOCAL = 2,
	RANK_OLD_VERSION = 4,
};

struct symbol_source {
	struct bytes table;    /* Elf64_Sym each */
	struct bytes strings;  /* its last byte is NUL */
	struct bytes versions; /* .gnu.version, or empty */
	uint64_t offset;       /* in the file, for faults */
	uint8_t rank;
};

bool image_symbol_is_address(const Elf64_Sym *symbol)
{
	unsigned type = ELF64_ST_TYPE(symbol->st_info);

	if (symbol->st_shndx == SHN_UNDEF || symbol->st_shndx == SHN_ABS ||
	    symbol->st_shndx == SHN_COMMON)
		return false;
	return type == STT_NOTYPE || type == STT_OBJECT || type == STT_FUNC ||
	       type == STT_GNU_IFUNC;
}

static int find_symtab(struct image *image, struct symbol_source *ret, struct fault *reterr_fault)
{
	const Elf64_Shdr *symtab = NULL, *strtab;
	int r;

	for (size_t i = 0; i < image->n_sections && !symtab; i++)
		if (image->sections[i].elf.sh_type == SHT_SYMTAB)
			symtab = &image->sections[i].elf;
	if (!symtab || symtab->sh_size == 0)
		return 0;
	if (symtab->sh_entsize != sizeof(Elf64_Sym) || symtab->sh_link >= image->n_sections)
		return fault_set(reterr_fault, IMAGE_NOT_EXECUTABLE, REASON_MALFORMED,
				 symtab->sh_offset, ".symtab");
	if (symtab->sh_size / sizeof(Elf64_Sym) > IMAGE_SYMBOLS_MAX)
		return fault_set(reterr_fault, IMAGE_NOT_EXECUTABLE, REASON_TOO_LARGE,
				 symtab->sh_offset, ".symtab");
	strtab = &image->sections[symtab->sh_link].elf;
	r = image_view(image, symtab->sh_offset, symtab->sh_size, ".symtab", &ret->table,
		       reterr_fault);
	if (r < 0)
		return r;
	r = image_view(image, strtab->sh_offset, strtab->sh_size, ".strtab", &ret->strings,
		       reterr_fault);
	if (r < 0)
		return r;
	if (strtab->sh_type != SHT_STRTAB || ret->strings.size == 0 ||
	    ret->strings.data[ret->strings.size - 1] != '\0')
		return fault_set(reterr_fault, IMAGE_NOT_EXECUTABLE, REASON_MALFORMED,
				 strtab->sh_offset, ".strtab");
	ret->offset = symtab->sh_offset;
	return 0;
}

static int find_dynsym(const struct image *image, struct symbol_source *ret,
		       struct fault *reterr_fault)
{
	const struct image_dynamic *dynamic = &image->dynamic;
	struct bytes from;

	if (dynamic->n_symbols == 0)
		return 0;
	if (!image_bytes_from(image, dynamic->symtab, &from) ||
	    !bytes_slice(from, 0, dynamic->n_symbols * sizeof(Elf64_Sym), &ret->table) ||
	    dynamic->strings.size == 0)
		return fault_set(reterr_fault, IMAGE_NOT_EXECUTABLE, REASON_OUT_OF_BOUNDS,
				 image->dynamic_header.p_offset, "DT_SYMTAB");
	if (dynamic->versym != 0 &&
	    (!image_bytes_from(image, dynamic->versym, &from) ||
	     !bytes_slice(from, 0, dynamic->n_symbols * sizeof(Elf64_Half), &ret->versions)))
		return fault_set(reterr_fault, IMAGE_NOT_EXECUTABLE, REASON_OUT_OF_BOUNDS,
				 image->dynamic_header.p_offset, "DT_VERSYM");
	ret->strings = dynamic->strings;
	ret->offset = image->dynamic_header.p_offset;
	ret->rank = RANK_DYNAMIC;
	return 0;
}

static size_t source_count(const struct symbol_source *source)
{
	return source->table.size / sizeof(Elf64_Sym);
}

static Elf64_Sym source_symbol(const struct symbol_source *source, size_t index)
{
	Elf64_Sym symbol;

	memcpy(&symbol, source->table.data + index * sizeof(symbol), sizeof(symbol));
	return symbol;
}

static bool version_is_hidden(const struct symbol_source *source, size_t index)
{
	Elf64_Half version = 0;

	return bytes_read(source->versions, index * sizeof(version), &version, sizeof(version)) &&
	       (version & VERSION_HIDDEN);
}

/*
 * Checks every name's bounds, and counts the bytes that copies without
 * "@VERSION" will take.  The sum of the lengths is bounded because names may
 * overlap: few bytes of a file can be many bytes of names.
 */
static int measure_names(const struct symbol_source *source, uint64_t *total_bytes,
			 uint64_t *versioned_bytes, struct fault *reterr_fault)
{
	for (size_t i = 0; i < source_count(source); i++) {
		Elf64_Sym symbol = source_symbol(source, i);
		const char *name;
		size_t length;

		if (!image_symbol_is_address(&symbol))
			continue;
		if (symbol.st_name >= source->strings.size)
			return fault_set(reterr_fault, IMAGE_NOT_EXECUTABLE, REASON_OUT_OF_BOUNDS,
					 source->offset, "st_name");
		name = (const char *)source->strings.data + symbol.st_name;
		length = strlen(name);
		*total_bytes += length + 1;
		if (*total_bytes > IMAGE_NAMES_MAX)
			return fault_set(reterr_fault, IMAGE_NOT_EXECUTABLE, REASON_TOO_LARGE,
					 source->offset, "symbol names");
		if (memchr(name, '@', length))
			*versioned_bytes += length + 1;
	}
	return 0;
}

static uint32_t *bucket_of(const struct image_symbols *symbols, const char *name)
{
	return &symbols->buckets[hash_string(name) & (symbols->n_buckets - 1)];
}

static bool is_duplicate(const struct image_symbols *symbols, const uint32_t *bucket,
			 const struct image_symbol_entry *entry)
{
	uint32_t at = *bucket;

	for (unsigned i = 0; at != 0 && i < DUPLICATE_SEARCH_MAX; i++) {
		const struct image_symbol_entry *other = &symbols->entries[at - 1];

		if (other->symbol.vaddr == entry->symbol.vaddr &&
		    strcmp(other->symbol.name, entry->symbol.name) == 0)
			return true;
		at = other->next;
	}
	return false;
}

/* "name@VERSION" is an old version, "name@@VERSION" the default one (binutils). */
static void strip_version(struct image_symbol_entry *entry, char **stripped_at)
{
	const char *version = strchr(entry->symbol.name, '@');
	size_t length;

	if (!version || version == entry->symbol.name)
		return;
	if (version[1] != '@')
		entry->rank |= RANK_OLD_VERSION;
	length = (size_t)(version - entry->symbol.name);
	memcpy(*stripped_at, entry->symbol.name, length);
	(*stripped_at)[length] = '\0';
	entry->symbol.name = *stripped_at;
	*stripped_at += length + 1;
}

static void add_symbols(struct image_symbols *symbols, const struct symbol_source *source,
			char **stripped_at)
{
	for (size_t i = 0; i < source_count(source); i++) {
		Elf64_Sym elf = source_symbol(source, i);
		struct image_symbol_entry *entry = &symbols->entries[symbols->n];
		uint32_t *bucket;

		if (!image_symbol_is_address(&elf) || source->strings.data[elf.st_name] == '\0')
			continue;
		*entry = (struct image_symbol_entry){
			.symbol =
				{
					.name = (const char *)source->strings.data + elf.st_name,
					.vaddr = elf.st_value,
					.size = elf.st_size,
					.function = ELF64_ST_TYPE(elf.st_info) == STT_FUNC,
					.indirect = ELF64_ST_TYPE(elf.st_info) == STT_GNU_IFUNC,
				},
			.rank = source->rank,
		};
		if (ELF64_ST_BIND(elf.st_info) == STB_LOCAL)
			entry->rank |= RANK_LOCAL;
		if (version_is_hidden(source, i))
			entry->rank |= RANK_OLD_VERSION;
		strip_version(entry, stripped_at);
		bucket = bucket_of(symbols, entry->symbol.name);
		if (source->rank == RANK_DYNAMIC && is_duplicate(symbols, bucket, entry))
			continue;
		entry->next = *bucket;
		*bucket = (uint32_t)++symbols->n;
	}
}

static int allocate_symbols(struct image_symbols *symbols, size_t n_max, uint64_t stripped_bytes)
{
	size_t n_buckets = 16;

	while (n_buckets < n_max)
		n_buckets *= 2;
	symbols->entries = calloc(n_max + 1, sizeof(*symbols->entries));
	symbols->buckets = calloc(n_buckets, sizeof(*symbols->buckets));
	symbols->stripped_names = malloc(stripped_bytes + 1);
	symbols->n_buckets = n_buckets;
	if (!symbols->entries || !symbols->buckets || !symbols->stripped_names)
		return -ENOMEM; /* image_symbols_done() frees what there is */
	return 0;
}

int image_read_symbols(struct image *image, struct fault *reterr_fault)
{
	struct symbol_source sources[2] = {0};
	uint64_t total_bytes = 0, versioned_bytes = 0;
	char *stripped_at;
	int r;

	r = find_symtab(image, &sources[0], reterr_fault);
	if (r < 0)
		return r;
	r = find_dynsym(image, &sources[1], reterr_fault);
	if (r < 0)
		return r;
	for (size_t i = 0; i < ARRAY_SIZE(sources); i++) {
		r = measure_names(&sources[i], &total_bytes, &versioned_bytes, reterr_fault);
		if (r < 0)
			return r;
	}
	r = allocate_symbols(&image->symbols, source_count(&sources[0]) + source_count(&sources[1]),
			     versioned_bytes);
	if (r < 0)
		return fault_set(reterr_fault, r, REASON_READ_FAILED, 0, "symbols");
	stripped_at = image->symbols.stripped_names;
	for (size_t i = 0; i < ARRAY_SIZE(sources); i++)
		add_symbols(&image->symbols, &sources[i], &stripped_at);
	return 0;
}

void image_symbols_done(struct image_symbols *symbols)
{
	free(symbols->entries);
	free(symbols->buckets);
	free(symbols->stripped_names);
	*symbols = (struct image_symbols){0};
}

int image_symbol(const struct image *image, const char *name, struct image_symbol *ret)
{
	const struct image_symbols *symbols = &image->symbols;
	const struct image_symbol_entry *best = NULL;

	for (uint32_t at = *bucket_of(symbols, name); at != 0; at = symbols->entries[at - 1].next) {
		const struct image_symbol_entry *entry = &symbols->entries[at - 1];

		/* A chain is latest first; of equal ranks the file's first one wins. */
		if ((!best || entry->rank <= best->rank) && strcmp(entry->symbol.name, name) == 0)
			best = entry;
	}
	if (!best)
		return -ENOENT;
	*ret = best->symbol;
	return 0;
}

int image_symbols_visit(const struct image *image,
			int (*visit)(const struct image_symbol *symbol, void *context),
			void *context)
{
	for (size_t i = 0; i < image->symbols.n; i++) {
		int r = visit(&image->symbols.entries[i].symbol, context);

		if (r != 0)
			return r;
	}
	return 0;
}
