/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "cpython/unicode.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "cpython/refcount.h"

#define UNICODE_HEAD_MAX 64 /* sizeof(PyASCIIObject): 48 up to 3.11, 40 since */
#define UNICODE_MAX_CODE_POINT 0x10ffffu
#define UNICODE_REPLACEMENT 0xfffdu
#define UTF8_MAX_BYTES 4

/* A string longer than this is none: no address space holds it. */
#define UNICODE_LENGTH_MAX (1ull << 46)

static int unicode_parse(const struct layout *layout, struct bytes head, struct unicode *ret)
{
	struct unicode found = { 0 };
	uint64_t refcount;
	uint32_t state;

	if (!bytes_read(head, layout->object_refcount, &refcount, sizeof(refcount)) ||
	    !bytes_read(head, layout->object_type, &found.type, sizeof(found.type)) ||
	    !bytes_read(head, layout->unicode_length, &found.length, sizeof(found.length)) ||
	    !bytes_read(head, layout->unicode_state, &state, sizeof(state)))
		return -EBADMSG;
	found.kind = state >> layout->unicode_kind_shift & 7;
	found.compact = state >> layout->unicode_compact_shift & 1;
	found.ascii = state >> layout->unicode_ascii_shift & 1;
	if (found.length > UNICODE_LENGTH_MAX || !refcount_is_alive(layout->minor, refcount))
		return -EBADMSG;
	if (found.kind != 1 && (found.ascii || (found.kind != 2 && found.kind != 4)))
		return -EBADMSG;
	*ret = found;
	return 0;
}

int unicode_look(struct memory *memory, const struct layout *layout, uint64_t address,
		 struct unicode *ret, struct fault *reterr_fault)
{
	uint8_t head[UNICODE_HEAD_MAX];
	size_t size = layout->unicode_ascii_data;
	struct unicode found;
	int error;

	if (size > sizeof(head))
		return fault_set(reterr_fault, -EBADMSG, REASON_OUT_OF_BOUNDS, address, "str");
	error = memory_read(memory, address, head, size, reterr_fault);
	if (error < 0)
		return error;
	if (unicode_parse(layout, (struct bytes){ head, size }, &found) < 0)
		return fault_set(reterr_fault, -EBADMSG, REASON_MALFORMED, address, "str");
	found.address = address;
	if (found.compact) {
		found.data = address + (found.ascii ? layout->unicode_ascii_data
						    : layout->unicode_compact_data);
	} else {
		error = memory_read_u64(memory, address + layout->unicode_data, &found.data,
					reterr_fault);
		if (error < 0)
			return error;
	}
	*ret = found;
	return 0;
}

static uint32_t code_point_at(const uint8_t *data, size_t index, unsigned kind)
{
	uint32_t value = 0;

	memcpy(&value, data + index * kind, kind); /* little-endian, as x86-64 and arm64 are */
	return value;
}

/* Returns the number of bytes. */
static size_t utf8_encode(uint32_t c, char ret[static UTF8_MAX_BYTES])
{
	if (c == 0 || (c >= 0xd800 && c <= 0xdfff))
		c = UNICODE_REPLACEMENT;
	if (c < 0x80) {
		ret[0] = (char)c;
		return 1;
	}
	if (c < 0x800) {
		ret[0] = (char)(0xc0 | c >> 6);
		ret[1] = (char)(0x80 | (c & 0x3f));
		return 2;
	}
	if (c < 0x10000) {
		ret[0] = (char)(0xe0 | c >> 12);
		ret[1] = (char)(0x80 | (c >> 6 & 0x3f));
		ret[2] = (char)(0x80 | (c & 0x3f));
		return 3;
	}
	ret[0] = (char)(0xf0 | c >> 18);
	ret[1] = (char)(0x80 | (c >> 12 & 0x3f));
	ret[2] = (char)(0x80 | (c >> 6 & 0x3f));
	ret[3] = (char)(0x80 | (c & 0x3f));
	return 4;
}

static int utf8_of(const uint8_t *data, size_t length, unsigned kind, char *text, size_t max_bytes)
{
	size_t used = 0;

	for (size_t i = 0; i < length; i++) {
		uint32_t c = code_point_at(data, i, kind);
		char encoded[UTF8_MAX_BYTES];
		size_t n;

		if (c > UNICODE_MAX_CODE_POINT)
			return -EBADMSG;
		n = utf8_encode(c, encoded);
		if (used + n >= max_bytes)
			break;
		memcpy(text + used, encoded, n);
		used += n;
	}
	text[used] = '\0';
	return 0;
}

int unicode_text(struct memory *memory, const struct unicode *unicode, size_t max_bytes, char **ret,
		 struct fault *reterr_fault)
{
	/* A code point takes at least a byte, so more of them are not needed. */
	size_t length = unicode->length < max_bytes ? unicode->length : max_bytes;
	_cleanup_free_ uint8_t *data = malloc(length * unicode->kind + 1);
	_cleanup_free_ char *text = malloc(max_bytes);
	int error;

	if (!data || !text)
		return fault_set(reterr_fault, -ENOMEM, REASON_READ_FAILED, unicode->data, "str");
	if (length) {
		error = memory_read(memory, unicode->data, data, length * unicode->kind,
				    reterr_fault);
		if (error < 0)
			return error;
	}
	if (utf8_of(data, length, unicode->kind, text, max_bytes) < 0)
		return fault_set(reterr_fault, -EBADMSG, REASON_MALFORMED, unicode->address, "str");
	*ret = TAKE_PTR(text);
	return 0;
}
