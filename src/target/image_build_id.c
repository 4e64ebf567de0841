/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Which build a file is: its GNU build ID, or a hash where it has none. */
#include <errno.h>
#include <string.h>

#include "base/hash.h"
#include "target/image_private.h"

#define HASHED_BYTES 4096ULL /* of the head and of the tail each */

static uint64_t align_up(uint64_t value, uint64_t alignment)
{
	return (value + alignment - 1) & ~(alignment - 1);
}

static bool note_is_build_id(const Elf64_Nhdr *note, const uint8_t *name)
{
	return note->n_type == NT_GNU_BUILD_ID && note->n_namesz == sizeof("GNU") &&
	       memcmp(name, "GNU", sizeof("GNU")) == 0 && note->n_descsz > 0;
}

/* Each turn consumes at least a note's header, so the bytes bound the loop. */
static int find_build_id(struct image *image, struct bytes notes, uint64_t file_offset,
			 struct fault *reterr_fault)
{
	uint64_t at = 0;
	Elf64_Nhdr note;

	while (!image->has_build_id && bytes_read(notes, at, &note, sizeof(note))) {
		uint64_t name = at + sizeof(note);
		uint64_t description = align_up(name + note.n_namesz, 4);

		if (!bytes_have(notes, name, note.n_namesz) ||
		    !bytes_have(notes, description, note.n_descsz))
			return fault_set(reterr_fault, IMAGE_NOT_EXECUTABLE, REASON_MALFORMED,
					 file_offset + at, "PT_NOTE");
		if (note_is_build_id(&note, notes.data + name)) {
			if (note.n_descsz > IMAGE_BUILD_ID_MAX)
				return fault_set(reterr_fault, IMAGE_NOT_EXECUTABLE,
						 REASON_TOO_LARGE, file_offset + at, "build ID");
			memcpy(image->build_id, notes.data + description, note.n_descsz);
			image->build_id_size = note.n_descsz;
			image->has_build_id = true;
		}
		at = align_up(description + note.n_descsz, 4);
	}
	return 0;
}

/* Two hashes make 16 bytes: told apart by their seeds. */
static int hash_file(struct image *image, struct fault *reterr_fault)
{
	uint64_t size = image->file.size;
	uint64_t part = size < HASHED_BYTES ? size : HASHED_BYTES;
	struct bytes head, tail;
	int r;

	r = image_view(image, 0, part, "file", &head, reterr_fault);
	if (r < 0)
		return r;
	r = image_view(image, size - part, part, "file", &tail, reterr_fault);
	if (r < 0)
		return r;
	for (uint64_t seed = 0; seed < 2; seed++) {
		uint64_t hash = hash_bytes(head.data, head.size, hash_combine(seed, size));

		hash = hash_bytes(tail.data, tail.size, hash);
		memcpy(image->build_id + seed * sizeof(hash), &hash, sizeof(hash));
	}
	image->build_id_size = 2 * sizeof(uint64_t);
	return 0;
}

int image_read_build_id(struct image *image, struct fault *reterr_fault)
{
	for (size_t i = 0; i < image->n_notes && !image->has_build_id; i++) {
		struct image_range range = image->notes[i];
		struct bytes notes;
		int r;

		r = image_view(image, range.start, range.end - range.start, "PT_NOTE", &notes,
			       reterr_fault);
		if (r < 0)
			return r;
		r = find_build_id(image, notes, range.start, reterr_fault);
		if (r < 0)
			return r;
	}
	return image->has_build_id ? 0 : hash_file(image, reterr_fault);
}

size_t image_build_id(const struct image *image, uint8_t ret_id[static IMAGE_BUILD_ID_MAX])
{
	memcpy(ret_id, image->build_id, image->build_id_size);
	return image->build_id_size;
}

bool image_has_build_id(const struct image *image)
{
	return image->has_build_id;
}
