/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Plans on disk: one file a build and flavour.
 *
 *	header | sites, fixed width | checksum of all before
 *
 * What is read back is foreign bytes.  Beyond the checksum, which guards
 * against accidents only, every field is checked against its bounds, each
 * site's bytes against the image, and whether they are an instruction that the
 * kernel emulates against those bytes.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/hash.h"
#include "probes/builder.h"
#include "probes/callers.h"
#include "probes/decode.h"
#include "probes/plan.h"

#define CACHE_MAGIC "PYLKPLAN"
#define CACHE_VERSION 6	    /* of the format, and of what the matchers find */
#define CACHE_FILES_MAX 64  /* the oldest go when there are more */
#define CACHE_SCAN_MAX 4096 /* directory entries looked at */
#define CACHE_SUFFIX ".plan"
#define CACHE_NAME_MAX (2 * IMAGE_BUILD_ID_MAX + 64)
#define FLAVOUR_MAX 32	   /* bytes */
#define INSTRUCTION_MAX 15 /* bytes */

struct cache_header {
	char magic[8];
	uint32_t version;
	uint32_t n_sites;
	char program[16]; /* the version of the program that made it */
	uint64_t file_size;
	uint32_t build_id_size;
	uint32_t site_size; /* sizeof(struct cache_site) */
	uint8_t build_id[IMAGE_BUILD_ID_MAX];
	uint32_t instructions, undecodable, unresolved, not_emulated, pruned;
	uint32_t left_out, dead, reserved;
};

struct cache_site {
	uint64_t vaddr, offset;
	int16_t displacement;
	uint8_t kind, reg, value, condition, length, emulated;
	uint8_t function; /* index into function_names */
	uint8_t return_slot, size_register;
	uint8_t reserved[5];
	uint8_t bytes[PLAN_SITE_BYTES];
};

_Static_assert(sizeof(struct cache_header) == 8 + 8 + 16 + 8 + 8 + IMAGE_BUILD_ID_MAX + 32,
	       "no padding in cache_header");
_Static_assert(sizeof(struct cache_site) == 16 + 8 + 8 + PLAN_SITE_BYTES,
	       "no padding in cache_site");

#define CACHE_SIZE_MAX                                                                             \
	(sizeof(struct cache_header) + PLAN_SITES_MAX * sizeof(struct cache_site) +                \
	 sizeof(uint64_t))

/* Sites name functions by static strings: append, never renumber. 0 is none. */
static const char *const function_names[] = {
	NULL,
	"pymalloc_alloc",
	"pymalloc_free",
	"allocate_from_new_pool",
	"_Py_NewReference",
	"_Py_Dealloc",
	"malloc",
	"calloc",
	"realloc",
	"reallocarray",
	"memalign",
	"aligned_alloc",
	"posix_memalign",
	"free",
	"valloc",
	"pvalloc",
#define NAME(name, core) #name,
	CALLERS_CONSTRUCTORS(NAME)
#undef NAME
};

DEFINE_CLEANUP(struct plan *, plan_free)

static uint8_t function_index(const char *name)
{
	for (unsigned i = 1; name && i < ARRAY_SIZE(function_names); i++)
		if (strcmp(function_names[i], name) == 0)
			return (uint8_t)i;
	return 0;
}

/* Flavours become part of a file's name. */
static bool flavour_is_valid(const char *flavour)
{
	const size_t length = strlen(flavour);

	return length > 0 && length <= FLAVOUR_MAX &&
	       strspn(flavour, "abcdefghijklmnopqrstuvwxyz0123456789-_") == length;
}

static int cache_name(const uint8_t *build_id, size_t build_id_size, const char *flavour,
		      char ret[static CACHE_NAME_MAX])
{
	if (build_id_size == 0 || build_id_size > IMAGE_BUILD_ID_MAX || !flavour_is_valid(flavour))
		return -EINVAL;
	for (size_t i = 0; i < build_id_size; i++)
		snprintf(ret + 2 * i, 3, "%02x", build_id[i]);
	snprintf(ret + 2 * build_id_size, CACHE_NAME_MAX - 2 * build_id_size, "-%s%s", flavour,
		 CACHE_SUFFIX);
	return 0;
}

static int open_directory(const char *directory, int *ret_fd)
{
	int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	*ret_fd = fd;
	return 0;
}

/* All of a regular file of ours, if it isn't larger than any plan can be. */
static int read_file(int directory, const char *name, uint8_t **ret, size_t *ret_size)
{
	_cleanup_close_ int fd = openat(directory, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	_cleanup_free_ uint8_t *data = NULL;
	struct stat status;
	size_t size = 0;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &status) < 0)
		return -errno;
	if (!S_ISREG(status.st_mode) || status.st_uid != geteuid() || status.st_size <= 0 ||
	    (uint64_t)status.st_size > CACHE_SIZE_MAX)
		return -ENOENT;
	data = malloc((size_t)status.st_size);
	if (!data)
		return -ENOMEM;
	while (size < (size_t)status.st_size) {
		const ssize_t n = read(fd, data + size, (size_t)status.st_size - size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -ENOENT;
		size += (size_t)n;
	}
	*ret = TAKE_PTR(data);
	*ret_size = size;
	return 0;
}

static void fill_program(char program[static 16])
{
	memset(program, 0, 16);
	memcpy(program, PYLEAKD_VERSION,
	       sizeof(PYLEAKD_VERSION) < 16 ? sizeof(PYLEAKD_VERSION) : 16);
}

/* Is it whole, ours, of this version, and of this image? */
static bool header_matches(struct bytes file, const struct image *image, struct cache_header *ret)
{
	uint8_t build_id[IMAGE_BUILD_ID_MAX];
	const size_t build_id_size = image_build_id(image, build_id);
	struct cache_header header;
	char program[16];
	uint64_t checksum;
	size_t size;

	fill_program(program);
	if (!bytes_read(file, 0, &header, sizeof(header)) ||
	    memcmp(header.magic, CACHE_MAGIC, sizeof(header.magic)) != 0 ||
	    header.version != CACHE_VERSION || header.site_size != sizeof(struct cache_site) ||
	    memcmp(header.program, program, sizeof(program)) != 0 || header.n_sites == 0 ||
	    header.n_sites > PLAN_SITES_MAX || header.file_size != image_file_size(image) ||
	    header.build_id_size != build_id_size ||
	    memcmp(header.build_id, build_id, build_id_size) != 0)
		return false;
	size = sizeof(header) + header.n_sites * sizeof(struct cache_site);
	if (file.size != size + sizeof(checksum) ||
	    !bytes_read(file, size, &checksum, sizeof(checksum)) ||
	    checksum != hash_bytes(file.data, size, CACHE_VERSION))
		return false;
	*ret = header;
	return true;
}

static bool site_is_valid(const struct cache_site *site, const struct image *image)
{
	const void *bytes;
	uint64_t offset;

	if (site->kind >= SITE_KINDS || site->reg > 15 || site->value > VALUE_POOL_BY_ZF_MEMORY ||
	    site->condition > WIRE_CONDITION_ALWAYS || site->length == 0 ||
	    site->length > INSTRUCTION_MAX || site->emulated > 1 ||
	    site->function >= ARRAY_SIZE(function_names) ||
	    site->return_slot > PLAN_RETURN_SLOT_MAX || site->size_register > CODE_REGISTERS)
		return false;
	if (image_text_offset(image, site->vaddr, &offset) || offset != site->offset)
		return false;
	bytes = image_bytes(image, site->vaddr, site->length);
	return bytes && memcmp(bytes, site->bytes, site->length) == 0 &&
	       site->emulated == instruction_is_emulated(site->bytes, site->length);
}

static struct plan_site site_of(const struct cache_site *cached)
{
	struct plan_site site = {
		.vaddr = cached->vaddr,
		.offset = cached->offset,
		.displacement = cached->displacement,
		.kind = cached->kind,
		.reg = cached->reg,
		.value = cached->value,
		.condition = cached->condition,
		.length = cached->length,
		.emulated = cached->emulated,
		.return_slot = cached->return_slot,
		.size_register = cached->size_register,
		.function = function_names[cached->function],
	};

	memcpy(site.bytes, cached->bytes, cached->length);
	return site;
}

static int fill_plan(struct plan *plan, struct bytes file, const struct cache_header *header,
		     const struct image *image)
{
	plan->statistics.instructions = header->instructions;
	plan->statistics.undecodable = header->undecodable;
	plan->statistics.unresolved = header->unresolved;
	plan->statistics.not_emulated = header->not_emulated;
	plan->statistics.dead = header->dead;
	plan->statistics.pruned = header->pruned;
	plan->statistics.left_out = header->left_out;
	plan->sites = calloc(header->n_sites, sizeof(*plan->sites));
	if (!plan->sites)
		return -ENOMEM;
	for (uint32_t i = 0; i < header->n_sites; i++) {
		struct cache_site cached;

		if (!bytes_read(file, sizeof(*header) + i * sizeof(cached), &cached,
				sizeof(cached)) ||
		    !site_is_valid(&cached, image) ||
		    (i > 0 && cached.vaddr < plan->sites[i - 1].vaddr))
			return -ENOENT;
		plan->sites[i] = site_of(&cached);
		plan->statistics.by_kind[cached.kind]++;
	}
	plan->n_sites = header->n_sites;
	return 0;
}

int plan_load(const char *directory, const char *flavour, const struct image *image,
	      struct plan **ret)
{
	CLEANUP(plan_free) struct plan *plan = NULL;
	_cleanup_close_ int directory_fd = -1;
	_cleanup_free_ uint8_t *data = NULL;
	struct cache_header header;
	char name[CACHE_NAME_MAX];
	struct bytes file;
	size_t size = 0;
	int error;

	error = plan_new(image, &plan);
	if (error)
		return error;
	error = cache_name(plan->build_id, plan->build_id_size, flavour, name);
	if (error)
		return error;
	if (open_directory(directory, &directory_fd))
		return -ENOENT;
	error = read_file(directory_fd, name, &data, &size);
	if (error)
		return error == -ENOMEM ? error : -ENOENT;
	file = (struct bytes){data, size};
	if (!header_matches(file, image, &header))
		return -ENOENT;
	error = fill_plan(plan, file, &header, image);
	if (error)
		return error;
	*ret = TAKE_PTR(plan);
	return 0;
}

static void fill_header(struct cache_header *ret, const struct plan *plan)
{
	*ret = (struct cache_header){
		.magic = CACHE_MAGIC,
		.version = CACHE_VERSION,
		.n_sites = (uint32_t)plan->n_sites,
		.file_size = plan->file_size,
		.build_id_size = plan->build_id_size,
		.site_size = sizeof(struct cache_site),
		.instructions = plan->statistics.instructions,
		.undecodable = plan->statistics.undecodable,
		.unresolved = plan->statistics.unresolved,
		.not_emulated = plan->statistics.not_emulated,
		.dead = plan->statistics.dead,
		.pruned = plan->statistics.pruned,
		.left_out = plan->statistics.left_out,
	};
	fill_program(ret->program);
	memcpy(ret->build_id, plan->build_id, plan->build_id_size);
}

static void fill_site(struct cache_site *ret, const struct plan_site *site)
{
	*ret = (struct cache_site){
		.vaddr = site->vaddr,
		.offset = site->offset,
		.displacement = site->displacement,
		.kind = site->kind,
		.reg = site->reg,
		.value = site->value,
		.condition = site->condition,
		.length = site->length,
		.emulated = site->emulated,
		.return_slot = site->return_slot,
		.size_register = site->size_register,
		.function = function_index(site->function),
	};
	memcpy(ret->bytes, site->bytes, PLAN_SITE_BYTES);
}

static int serialise(const struct plan *plan, uint8_t **ret, size_t *ret_size)
{
	const size_t size = sizeof(struct cache_header) + plan->n_sites * sizeof(struct cache_site);
	_cleanup_free_ uint8_t *data = malloc(size + sizeof(uint64_t));
	struct cache_header header;
	uint64_t checksum;

	if (!data)
		return -ENOMEM;
	fill_header(&header, plan);
	memcpy(data, &header, sizeof(header));
	for (size_t i = 0; i < plan->n_sites; i++) {
		struct cache_site site;

		fill_site(&site, &plan->sites[i]);
		memcpy(data + sizeof(header) + i * sizeof(site), &site, sizeof(site));
	}
	checksum = hash_bytes(data, size, CACHE_VERSION);
	memcpy(data + size, &checksum, sizeof(checksum));
	*ret = TAKE_PTR(data);
	*ret_size = size + sizeof(checksum);
	return 0;
}

static int write_all(int fd, const uint8_t *data, size_t size)
{
	while (size > 0) {
		const ssize_t n = write(fd, data, size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		data += n;
		size -= (size_t)n;
	}
	return 0;
}

/* Written under another name first, so that a reader sees all of it or none. */
static int write_file(int directory, const char *name, const uint8_t *data, size_t size)
{
	char temporary[CACHE_NAME_MAX + 32];
	int error;

	snprintf(temporary, sizeof(temporary), ".%s.%ld", name, (long)getpid());
	{
		_cleanup_close_ int fd =
			openat(directory, temporary,
			       O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

		if (fd < 0 && errno == EEXIST) { /* of a process of this id that died */
			unlinkat(directory, temporary, 0);
			return -EAGAIN;
		}
		if (fd < 0)
			return -errno;
		error = write_all(fd, data, size);
	}
	if (!error && renameat(directory, temporary, directory, name) < 0)
		error = -errno;
	if (error)
		unlinkat(directory, temporary, 0);
	return error;
}

static bool has_suffix(const char *name)
{
	const size_t length = strlen(name), suffix = sizeof(CACHE_SUFFIX) - 1;

	return length > suffix && strcmp(name + length - suffix, CACHE_SUFFIX) == 0;
}

/* Removes the least recently written plan if there are more than CACHE_FILES_MAX. */
static void evict(int directory)
{
	const int copy = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_closedir_ DIR *entries = copy < 0 ? NULL : fdopendir(copy);
	char oldest[sizeof(((struct dirent *)NULL)->d_name)] = "";
	struct timespec oldest_time = {0};
	struct dirent *entry;
	size_t n = 0;

	if (!entries) {
		if (copy >= 0)
			close(copy);
		return;
	}
	for (unsigned i = 0; i < CACHE_SCAN_MAX && (entry = readdir(entries)); i++) {
		struct stat status;

		if (!has_suffix(entry->d_name) ||
		    fstatat(directory, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		n++;
		if (oldest[0] == '\0' || status.st_mtim.tv_sec < oldest_time.tv_sec ||
		    (status.st_mtim.tv_sec == oldest_time.tv_sec &&
		     status.st_mtim.tv_nsec < oldest_time.tv_nsec)) {
			oldest_time = status.st_mtim;
			snprintf(oldest, sizeof(oldest), "%s", entry->d_name);
		}
	}
	if (n > CACHE_FILES_MAX)
		unlinkat(directory, oldest, 0);
}

int plan_store(const char *directory, const char *flavour, const struct plan *plan)
{
	_cleanup_close_ int directory_fd = -1;
	_cleanup_free_ uint8_t *data = NULL;
	char name[CACHE_NAME_MAX];
	size_t size = 0;
	int error;

	if (plan->n_sites == 0 || plan->n_sites > PLAN_SITES_MAX)
		return -EINVAL;
	error = cache_name(plan->build_id, plan->build_id_size, flavour, name);
	if (error)
		return error;
	error = serialise(plan, &data, &size);
	if (error)
		return error;
	if (mkdir(directory, 0700) < 0 && errno != EEXIST)
		return -errno;
	error = open_directory(directory, &directory_fd);
	if (error)
		return error;
	error = write_file(directory_fd, name, data, size);
	if (error == -EAGAIN)
		error = write_file(directory_fd, name, data, size);
	if (!error)
		evict(directory_fd);
	return error;
}
