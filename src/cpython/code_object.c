/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "cpython/code_object.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "cpython/refcount.h"
#include "cpython/type_flags.h"
#include "cpython/unicode.h"

#define CODE_HEAD_MAX 512 /* sizeof(PyCodeObject) is 176 to 208 */
#define BYTES_HEAD_MAX 64 /* what of sizeof(PyBytesObject) is before its data: 32 */
#define CODE_TYPE_NAME "code"
#define CODE_UNIT_BYTES 2
/* str, bytes and the subclasses of them that code.replace() was given. */
#define CODE_KNOWN_TYPES_MAX 1024

void code_reader_init(struct code_reader *reader, struct memory *memory,
		      const struct layout *layout, uint64_t code_type)
{
	*reader = (struct code_reader){
		.memory = memory,
		.layout = layout,
		.code_type = code_type,
		.type_flags = table_init(CODE_KNOWN_TYPES_MAX),
	};
}

void code_reader_done(struct code_reader *reader)
{
	table_done(&reader->type_flags);
}

/* PyCode_Type calls itself so, and nothing else does: types of users have no tp_name in our text.
 */
static int type_is_code(struct code_reader *reader, uint64_t type, struct fault *reterr_fault)
{
	char text[sizeof(CODE_TYPE_NAME)];
	uint64_t name;
	int error;

	if (reader->code_type) {
		if (type == reader->code_type)
			return 0;
		return fault_set(reterr_fault, -EBADMSG, REASON_MALFORMED, type, "ob_type");
	}
	error = memory_read_u64(reader->memory, type + reader->layout->type_name, &name,
				reterr_fault);
	if (error < 0)
		return error;
	error = memory_read(reader->memory, name, text, sizeof(text), reterr_fault);
	if (error < 0)
		return error;
	if (memcmp(text, CODE_TYPE_NAME, sizeof(text)) != 0)
		return fault_set(reterr_fault, -EBADMSG, REASON_MALFORMED, type, "ob_type");
	reader->code_type = type;
	return 0;
}

/* Whether an object's type has this flag: is it a str, a bytes? */
static int type_expect(struct code_reader *reader, uint64_t type, uint64_t flag, const char *field,
		       struct fault *reterr_fault)
{
	const uint64_t *known = table_find(&reader->type_flags, type);
	uint64_t flags = known ? *known : 0;
	int error;

	if (!known) {
		error = memory_read_u64(reader->memory, type + reader->layout->type_flags, &flags,
					reterr_fault);
		if (error < 0)
			return error;
		if (flags & flag) /* full, or no memory: it is asked again */
			(void)table_put(&reader->type_flags, type, flags);
	}
	if (!(flags & flag))
		return fault_set(reterr_fault, -EBADMSG, REASON_MALFORMED, type, field);
	return 0;
}

bool code_fingerprint_equal(const struct code_fingerprint *a, const struct code_fingerprint *b)
{
	return a->name == b->name && a->qualname == b->qualname && a->filename == b->filename &&
	       a->table == b->table && a->code == b->code && a->code_units == b->code_units &&
	       a->first_line == b->first_line && a->shown_length == b->shown_length &&
	       a->shown_hash == b->shown_hash;
}

/* A word that this version may not have: 0 then. */
static bool head_word(struct bytes head, uint32_t offset, bool present, uint64_t *ret)
{
	*ret = 0;
	return !present || bytes_read(head, offset, ret, sizeof(*ret));
}

static int fingerprint_parse(const struct layout *layout, struct bytes head,
			     struct code_fingerprint *ret)
{
	bool is_inline = layout->minor >= 11; /* co_code_adaptive: bpo-46841, 3.11 */
	struct code_fingerprint found = { 0 };

	if (!head_word(head, layout->code_name, true, &found.name) ||
	    !head_word(head, layout->code_qualname, layout->code_qualname != LAYOUT_ABSENT,
		       &found.qualname) ||
	    !head_word(head, layout->code_filename, true, &found.filename) ||
	    !head_word(head, layout->code_linetable, true, &found.table) ||
	    !head_word(head, layout->code_code, !is_inline, &found.code) ||
	    !head_word(head, layout->var_size, is_inline, &found.code_units) ||
	    !bytes_read(head, layout->code_firstlineno, &found.first_line,
			sizeof(found.first_line)))
		return -EBADMSG;
	if (found.first_line > INT32_MAX ||
	    found.code_units > CODE_TABLE_MAX_BYTES * (uint64_t)CODE_UNIT_BYTES)
		return -EBADMSG;
	found.shown = found.qualname ? found.qualname : found.name;
	*ret = found;
	return 0;
}

/* PyASCIIObject.length, and .hash behind it. */
struct name_witness {
	uint64_t length, hash;
};

/* The bytes of a code object, and in the same call the witness of the name that it should have. */
static int head_read(struct code_reader *reader, uint64_t address, struct bytes head,
		     uint64_t expected_name, struct name_witness *ret_witness,
		     struct fault *reterr_fault)
{
	uint64_t witness_address = expected_name + reader->layout->unicode_length;
	struct memory_piece pieces[] = {
		{ .address = address, .buffer = (void *)head.data, .size = head.size },
		{ .address = witness_address, .buffer = ret_witness, .size = sizeof(*ret_witness) },
	};

	if (!expected_name)
		return memory_read(reader->memory, address, (void *)head.data, head.size,
				   reterr_fault);
	memory_read_pieces(reader->memory, pieces, ARRAY_SIZE(pieces));
	if (pieces[0].error < 0)
		return fault_set(reterr_fault, pieces[0].error, REASON_READ_FAILED, address,
				 "code");
	if (pieces[1].error < 0)
		*ret_witness = (struct name_witness){ 0 };
	return 0;
}

static int code_expect(struct code_reader *reader, uint64_t address, struct bytes head,
		       struct fault *reterr_fault)
{
	const struct layout *layout = reader->layout;
	uint64_t type, refcount;

	if (!bytes_read(head, layout->object_type, &type, sizeof(type)) ||
	    !bytes_read(head, layout->object_refcount, &refcount, sizeof(refcount)) ||
	    !refcount_is_alive(layout->minor, refcount))
		return fault_set(reterr_fault, -EBADMSG, REASON_MALFORMED, address, "ob_refcnt");
	return type_is_code(reader, type, reterr_fault);
}

int code_read_fingerprint(struct code_reader *reader, uint64_t address,
			  const struct code_fingerprint *expected, struct code_fingerprint *ret,
			  struct fault *reterr_fault)
{
	uint8_t buffer[CODE_HEAD_MAX];
	struct bytes head = { buffer, reader->layout->code_basicsize };
	struct name_witness witness;
	struct code_fingerprint found;
	int error;

	if (head.size > sizeof(buffer))
		return fault_set(reterr_fault, -EBADMSG, REASON_OUT_OF_BOUNDS, address, "code");
	error = head_read(reader, address, head, expected ? expected->shown : 0, &witness,
			  reterr_fault);
	if (error < 0)
		return error;
	error = code_expect(reader, address, head, reterr_fault);
	if (error < 0)
		return error;
	if (fingerprint_parse(reader->layout, head, &found) < 0)
		return fault_set(reterr_fault, -EBADMSG, REASON_MALFORMED, address, "code");
	if (!expected || expected->shown != found.shown) {
		error = memory_read(reader->memory, found.shown + reader->layout->unicode_length,
				    &witness, sizeof(witness), reterr_fault);
		if (error < 0)
			return error;
	}
	found.shown_length = witness.length;
	found.shown_hash = witness.hash;
	*ret = found;
	return 0;
}

static int name_read(struct code_reader *reader, uint64_t address, const char *field, char **ret,
		     struct fault *reterr_fault)
{
	struct unicode unicode;
	int error = unicode_look(reader->memory, reader->layout, address, &unicode, reterr_fault);

	if (error < 0)
		return error;
	error = type_expect(reader, unicode.type, TYPE_UNICODE_SUBCLASS, field, reterr_fault);
	if (error < 0)
		return error;
	return unicode_text(reader->memory, &unicode, CODE_NAME_MAX_BYTES, ret, reterr_fault);
}

/* Length of a bytes object that is alive and within the limit. */
static int bytes_object_look(struct code_reader *reader, uint64_t address, const char *field,
			     uint64_t *ret_size, struct fault *reterr_fault)
{
	const struct layout *layout = reader->layout;
	uint8_t head[BYTES_HEAD_MAX];
	struct bytes whole = { head, layout->bytes_data };
	uint64_t type, size, refcount;
	int error;

	if (whole.size > sizeof(head))
		return fault_set(reterr_fault, -EBADMSG, REASON_OUT_OF_BOUNDS, address, field);
	error = memory_read(reader->memory, address, head, whole.size, reterr_fault);
	if (error < 0)
		return error;
	if (!bytes_read(whole, layout->object_type, &type, sizeof(type)) ||
	    !bytes_read(whole, layout->object_refcount, &refcount, sizeof(refcount)) ||
	    !bytes_read(whole, layout->var_size, &size, sizeof(size)) ||
	    !refcount_is_alive(layout->minor, refcount))
		return fault_set(reterr_fault, -EBADMSG, REASON_MALFORMED, address, field);
	error = type_expect(reader, type, TYPE_BYTES_SUBCLASS, field, reterr_fault);
	if (error < 0)
		return error;
	if (size > CODE_TABLE_MAX_BYTES)
		return fault_set(reterr_fault, -EBADMSG, REASON_TOO_LARGE, address, field);
	*ret_size = size;
	return 0;
}

static int line_table_read(struct code_reader *reader, uint64_t address, uint8_t **ret,
			   size_t *ret_bytes, struct fault *reterr_fault)
{
	_cleanup_free_ uint8_t *table = NULL;
	uint64_t size;
	int error = bytes_object_look(reader, address, "co_linetable", &size, reterr_fault);

	if (error < 0)
		return error;
	table = malloc(size + 1);
	if (!table)
		return fault_set(reterr_fault, -ENOMEM, REASON_READ_FAILED, address,
				 "co_linetable");
	if (size) {
		error = memory_read(reader->memory, address + reader->layout->bytes_data, table,
				    size, reterr_fault);
		if (error < 0)
			return error;
	}
	*ret = TAKE_PTR(table);
	*ret_bytes = size;
	return 0;
}

void code_object_done(struct code_object *object)
{
	free(object->function);
	free(object->file);
	free(object->table);
	*object = (struct code_object){ 0 };
}

static int code_size_read(struct code_reader *reader, const struct code_fingerprint *fingerprint,
			  uint64_t *ret_bytes, struct fault *reterr_fault)
{
	if (fingerprint->code)
		return bytes_object_look(reader, fingerprint->code, "co_code", ret_bytes,
					 reterr_fault);
	*ret_bytes = fingerprint->code_units * CODE_UNIT_BYTES;
	return 0;
}

int code_read(struct code_reader *reader, const struct code_fingerprint *fingerprint,
	      struct code_object *ret, struct fault *reterr_fault)
{
	__attribute__((cleanup(code_object_done))) struct code_object found = { 0 };
	int error = name_read(reader, fingerprint->shown, "co_name", &found.function, reterr_fault);

	if (error < 0)
		return error;
	error = name_read(reader, fingerprint->filename, "co_filename", &found.file, reterr_fault);
	if (error < 0)
		return error;
	error = line_table_read(reader, fingerprint->table, &found.table, &found.table_bytes,
				reterr_fault);
	if (error < 0)
		return error;
	error = code_size_read(reader, fingerprint, &found.code_bytes, reterr_fault);
	if (error < 0)
		return error;
	*ret = found;
	found = (struct code_object){ 0 };
	return 0;
}
