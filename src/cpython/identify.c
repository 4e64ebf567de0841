/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Which CPython an image is, from the image alone: exported data of known
 * names, and the version string that Py_GetVersion formats.
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "cpython/instructions.h"
#include "cpython/interpreter_private.h"

#define VERSION_TEXT_MAX 31
#define MINOR_MIN 8
#define MINOR_MAX 15

/* Static strings for *ret_why; tested and printed, never parsed. */
static const char *const why_python2 = "Python 2";
static const char *const why_old = "a CPython older than 3.8";
static const char *const why_new = "a CPython newer than 3.15";
static const char *const why_free_threaded = "a free-threaded build";
static const char *const why_no_version = "a CPython whose version could not be found";

struct parsed_version {
	unsigned major;
	struct interpreter_version version;
};

/* Bounded decimal: at most three digits. Returns how many characters, 0: none. */
static size_t parse_number(const char *text, unsigned *ret)
{
	size_t n = 0;
	unsigned value = 0;

	while (n < 3 && isdigit((unsigned char)text[n]))
		value = value * 10 + (unsigned)(text[n++] - '0');
	if (n)
		*ret = value;
	return n;
}

/* "3.11.2", "3.15.0b4", "3.13.0rc1+": PY_VERSION in Include/patchlevel.h, and nothing else. */
static bool parse_version(const char *text, struct parsed_version *ret)
{
	struct parsed_version parsed = { 0 };
	size_t n, at;

	at = parse_number(text, &parsed.major);
	if (at != 1 || text[at] != '.')
		return false;
	n = parse_number(text + ++at, &parsed.version.minor);
	if (!n || text[at += n] != '.')
		return false;
	n = parse_number(text + ++at, &parsed.version.micro);
	if (!n)
		return false;
	at += n;
	at += strspn(text + at, "abrc");
	at += strspn(text + at, "0123456789");
	at += text[at] == '+';
	if (text[at] || at > VERSION_TEXT_MAX)
		return false;
	memcpy(parsed.version.text, text, at + 1);
	*ret = parsed;
	return true;
}

/* Py_Version (3.11+): PY_VERSION_HEX; Include/patchlevel.h says how it is put together. */
static bool version_of_hex(uint32_t hex, struct parsed_version *ret)
{
	static const char *const levels[16] = {
		[0xa] = "a", [0xb] = "b", [0xc] = "rc", [0xf] = ""
	};
	const char *level = levels[hex >> 4 & 15];

	if (!level)
		return false;
	ret->major = hex >> 24;
	ret->version.minor = hex >> 16 & 0xff;
	ret->version.micro = hex >> 8 & 0xff;
	if (*level)
		snprintf(ret->version.text, sizeof(ret->version.text), "%u.%u.%u%s%u", ret->major,
			 ret->version.minor, ret->version.micro, level, hex & 15);
	else
		snprintf(ret->version.text, sizeof(ret->version.text), "%u.%u.%u", ret->major,
			 ret->version.minor, ret->version.micro);
	return true;
}

static bool find_hex_version(const struct image *image, struct parsed_version *ret)
{
	struct image_symbol symbol;
	const void *bytes;
	uint32_t hex;

	if (image_symbol(image, "Py_Version", &symbol))
		return false;
	bytes = image_bytes(image, symbol.vaddr, sizeof(hex));
	if (!bytes)
		return false;
	memcpy(&hex, bytes, sizeof(hex));
	return version_of_hex(hex, ret);
}

/* A short string of the file, if there is a whole one at vaddr. */
static bool short_string(const struct image *image, uint64_t vaddr,
			 char ret[static VERSION_TEXT_MAX + 1])
{
	for (size_t size = VERSION_TEXT_MAX + 1; size; size--) {
		const char *bytes = image_bytes(image, vaddr, size);

		if (!bytes)
			continue; /* the segment ends before */
		if (!memchr(bytes, 0, size))
			return false;
		memcpy(ret, bytes, size);
		return true;
	}
	return false;
}

/* The string that Py_GetVersion passes to PyOS_snprintf as PY_VERSION. */
static bool find_text_version(const struct image *image, struct parsed_version *ret)
{
	struct references references;

	if (references_of_function(image, "Py_GetVersion", &references))
		return false;
	for (size_t i = 0; i < references.n; i++) {
		char text[VERSION_TEXT_MAX + 1];

		if (short_string(image, references.entries[i].vaddr, text) &&
		    parse_version(text, ret))
			return true;
	}
	return false;
}

static bool find_version(const struct image *image, struct parsed_version *ret)
{
	struct parsed_version text, hex;
	bool has_hex = find_hex_version(image, &hex);

	if (find_text_version(image, &text) &&
	    (!has_hex || (text.version.minor == hex.version.minor &&
			  text.version.micro == hex.version.micro))) {
		*ret = text;
		return true;
	}
	if (has_hex)
		*ret = hex;
	return has_hex;
}

static bool has_symbol(const struct image *image, const char *name)
{
	struct image_symbol symbol;

	return !image_symbol(image, name, &symbol);
}

/*
 * Objects/object.c of 3.13-3.15: the function is there only where Py_GIL_DISABLED
 * is defined.  _PyRuntime's debug offsets say so too.
 */
static bool is_free_threaded(const struct image *image)
{
	struct image_symbol runtime;
	uint64_t flag;
	const uint8_t *bytes;

	if (has_symbol(image, "_Py_MergeZeroLocalRefcount"))
		return true;
	if (image_symbol(image, "_PyRuntime", &runtime))
		return false;
	bytes = image_bytes(image, runtime.vaddr, 24);
	if (!bytes || memcmp(bytes, DEBUG_OFFSETS_COOKIE, 8))
		return false;
	memcpy(&flag, bytes + 16, sizeof(flag)); /* _Py_DebugOffsets.free_threaded */
	return flag != 0;
}

static const char *unsupported(const struct image *image, const struct parsed_version *parsed)
{
	if (parsed->major == 2)
		return why_python2;
	if (parsed->major != 3 || parsed->version.minor > MINOR_MAX)
		return why_new;
	if (parsed->version.minor < MINOR_MIN)
		return why_old;
	if (parsed->version.minor >= 13 && is_free_threaded(image))
		return why_free_threaded;
	return NULL;
}

int interpreter_identify(const struct image *image, struct interpreter_version *ret_version,
			 const char **ret_why, struct fault *reterr_fault)
{
	struct parsed_version parsed;
	const char *why;

	/* An interpreter has both; Py_GetVersion alone is what Python 2 and 3.6 have. */
	if (!has_symbol(image, "Py_GetVersion") && !has_symbol(image, "Py_Version"))
		return fault_set(reterr_fault, -ENOENT, REASON_NOT_FOUND, 0, "Py_GetVersion");
	if (!find_version(image, &parsed)) {
		if (!has_symbol(image, "_PyRuntime"))
			return fault_set(reterr_fault, -ENOENT, REASON_NOT_FOUND, 0, "_PyRuntime");
		*ret_why = why_no_version;
		return fault_set(reterr_fault, -EOPNOTSUPP, REASON_UNSUPPORTED, 0, "version");
	}
	*ret_version = parsed.version;
	why = unsupported(image, &parsed);
	if (why) {
		*ret_why = why;
		return fault_set(reterr_fault, -EOPNOTSUPP, REASON_UNSUPPORTED, 0, "version");
	}
	if (!has_symbol(image, "_PyRuntime"))
		return fault_set(reterr_fault, -ENOENT, REASON_NOT_FOUND, 0, "_PyRuntime");
	return 0;
}
