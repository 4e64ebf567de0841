/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The JSON report.  Written a member and a site at a time, so that a report of
 * 65,536 sites needs the memory of one.
 */
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "base/buffer.h"
#include "base/cleanup.h"
#include "report/names.h"
#include "report/snapshot.h"

#define SCHEMA 1
#define NAME_BYTES_MAX (1u << 20)
/* Doubles of up to 15 digits keep what they say in decimal (DBL_DIG): 0.1 stays 0.1. */
#define DUMP_FLAGS (JSON_ENCODE_ANY | JSON_REAL_PRECISION(15))

static void json_decref_p(json_t **value)
{
	json_decref(*value);
}

#define _cleanup_json_ __attribute__((cleanup(json_decref_p)))

/* --- fields as rows: a key, and where its value stands in a struct --- */

enum kind {
	KIND_TEXT,
	KIND_COUNT,
	KIND_SIGNED,
	KIND_PID,
	KIND_NUMBER,
	KIND_VERDICT,
	KIND_FLAG,
	KIND_MOMENT,
};

struct field {
	const char *key;
	enum kind kind;
	size_t offset;
};

static const struct field target_fields[] = {
	{"pid", KIND_PID, offsetof(struct snapshot, pid)},
	{"command", KIND_TEXT, offsetof(struct snapshot, command)},
	{"python", KIND_TEXT, offsetof(struct snapshot, python)},
	{"started", KIND_NUMBER, offsetof(struct snapshot, target_started)},
};

static const struct field session_fields[] = {
	{"mode", KIND_TEXT, offsetof(struct snapshot, mode)},
	{"started", KIND_NUMBER, offsetof(struct snapshot, session_started)},
	{"duration_seconds", KIND_NUMBER, offsetof(struct snapshot, duration_seconds)},
	{"budget_ratio", KIND_NUMBER, offsetof(struct snapshot, budget_ratio)},
	{"overhead_ratio", KIND_NUMBER, offsetof(struct snapshot, overhead_ratio)},
	{"windows", KIND_COUNT, offsetof(struct snapshot, windows)},
	{"events", KIND_COUNT, offsetof(struct snapshot, events)},
	{"events_lost", KIND_COUNT, offsetof(struct snapshot, events_lost)},
	{"coverage_ratio", KIND_NUMBER, offsetof(struct snapshot, coverage_ratio)},
	{"moment", KIND_MOMENT, offsetof(struct snapshot, moment)},
	{"reconciled_seconds", KIND_NUMBER, offsetof(struct snapshot, reconciled_seconds)},
};

static const struct field totals_fields[] = {
	{"resident_bytes", KIND_COUNT, offsetof(struct snapshot, resident_bytes)},
	{"python_live_bytes", KIND_COUNT, offsetof(struct snapshot, python_live_bytes)},
	{"python_live_blocks", KIND_COUNT, offsetof(struct snapshot, python_live_blocks)},
	{"python_growth_bytes_per_second", KIND_NUMBER,
	 offsetof(struct snapshot, python_growth_bytes_per_second)},
	{"native_live_bytes", KIND_COUNT, offsetof(struct snapshot, native_live_bytes)},
	{"parked_bytes", KIND_COUNT, offsetof(struct snapshot, parked_bytes)},
	{"parked_blocks", KIND_COUNT, offsetof(struct snapshot, parked_blocks)},
};

/* What coverage_ratio rests on: the ledger against the pools' own books. */
static const struct field books_fields[] = {
	{"born_live_blocks", KIND_COUNT, offsetof(struct snapshot, born_live_blocks)},
	{"born_held_blocks", KIND_COUNT, offsetof(struct snapshot, born_held_blocks)},
	{"held_checked_blocks", KIND_COUNT, offsetof(struct snapshot, held_checked_blocks)},
	{"held_live_blocks", KIND_COUNT, offsetof(struct snapshot, held_live_blocks)},
	{"seen_allocations", KIND_COUNT, offsetof(struct snapshot, seen_allocations)},
	{"seen_net_blocks", KIND_SIGNED, offsetof(struct snapshot, seen_net_blocks)},
	{"pools_net_blocks", KIND_SIGNED, offsetof(struct snapshot, pools_net_blocks)},
};

static const struct field site_fields[] = {
	{"verdict", KIND_VERDICT, offsetof(struct snapshot_site, verdict)},
	{"outstanding_bytes", KIND_COUNT, offsetof(struct snapshot_site, outstanding_bytes)},
	{"outstanding_objects", KIND_COUNT, offsetof(struct snapshot_site, outstanding_objects)},
	{"growth_bytes_per_second", KIND_NUMBER,
	 offsetof(struct snapshot_site, growth_bytes_per_second)},
	{"confidence_ratio", KIND_NUMBER, offsetof(struct snapshot_site, confidence_ratio)},
	{"domain", KIND_TEXT, offsetof(struct snapshot_site, domain)},
	{"cut", KIND_FLAG, offsetof(struct snapshot_site, cut)},
	{"other", KIND_FLAG, offsetof(struct snapshot_site, other)},
};

static const struct field evidence_fields[] = {
	{"survivors", KIND_COUNT, offsetof(struct snapshot_evidence, survivors)},
	{"windows", KIND_COUNT, offsetof(struct snapshot_evidence, windows)},
	{"new_pools", KIND_COUNT, offsetof(struct snapshot_evidence, new_pools)},
	{"new_pool_bytes", KIND_COUNT, offsetof(struct snapshot_evidence, new_pool_bytes)},
	{"brk_calls", KIND_COUNT, offsetof(struct snapshot_evidence, breaks)},
	{"brk_bytes", KIND_COUNT, offsetof(struct snapshot_evidence, break_bytes)},
	{"mapped_bytes", KIND_COUNT, offsetof(struct snapshot_evidence, mapped_bytes)},
	{"growth_bytes", KIND_COUNT, offsetof(struct snapshot_evidence, growth_bytes)},
};

static const struct field type_fields[] = {
	{"name", KIND_TEXT, offsetof(struct snapshot_type, name)},
	{"objects", KIND_COUNT, offsetof(struct snapshot_type, objects)},
	{"bytes", KIND_COUNT, offsetof(struct snapshot_type, bytes)},
};

static const struct field refusal_fields[] = {
	{"what", KIND_TEXT, offsetof(struct snapshot_refusal, what)},
	{"why", KIND_TEXT, offsetof(struct snapshot_refusal, why)},
	{"count", KIND_COUNT, offsetof(struct snapshot_refusal, count)},
};

/* --- values; each returns a new reference, NULL where there is no memory --- */

static json_t *json_name(const char *text)
{
	_cleanup_buffer_ struct buffer buffer = buffer_init(NAME_BYTES_MAX);
	int r = names_add_utf8(&buffer, text);

	if (r == -E2BIG) /* the rest is left out: what fits may end within a character */
		buffer_clear(&buffer);
	else if (r < 0)
		return NULL;
	return json_string(buffer.data ? buffer.data : "");
}

static json_t *json_number(double value)
{
	return isfinite(value) ? json_real(value) : json_null();
}

/* JSON's integers are signed here; no count of bytes gets there. */
static json_t *json_count(uint64_t value)
{
	return json_integer(value > INT64_MAX ? INT64_MAX : (json_int_t)value);
}

static json_t *json_pair(json_t *low, json_t *high)
{
	return json_pack("[o, o]", low, high);
}

static json_t *json_field(const struct field *field, const void *row)
{
	const void *value = (const char *)row + field->offset;

	switch (field->kind) {
	case KIND_TEXT:
		return json_name(*(const char *const *)value);
	case KIND_COUNT:
		return json_count(*(const uint64_t *)value);
	case KIND_SIGNED:
		return json_integer(*(const int64_t *)value);
	case KIND_PID:
		return json_integer(*(const int32_t *)value);
	case KIND_NUMBER:
		return json_number(*(const double *)value);
	case KIND_VERDICT:
		return json_string(verdict_name(*(const enum verdict *)value));
	case KIND_MOMENT:
		return json_string(snapshot_moment_key(*(const enum snapshot_moment *)value));
	case KIND_FLAG:
		return json_boolean(*(const bool *)value);
	}
	return json_null();
}

static json_t *json_row(const struct field *fields, size_t n, const void *row)
{
	_cleanup_json_ json_t *object = json_object();

	for (size_t i = 0; i < n; i++)
		if (json_object_set_new(object, fields[i].key, json_field(&fields[i], row)) < 0)
			return NULL;
	return TAKE_PTR(object);
}

/* An array of n rows of size bytes each. */
static json_t *json_rows(const struct field *fields, size_t n_fields, const void *rows, size_t n,
			 size_t size)
{
	_cleanup_json_ json_t *array = json_array();

	for (size_t i = 0; i < n; i++)
		if (json_array_append_new(
			    array, json_row(fields, n_fields, (const char *)rows + i * size)) < 0)
			return NULL;
	return TAKE_PTR(array);
}

static json_t *json_types(const struct snapshot_type *types, size_t n)
{
	return json_rows(type_fields, ARRAY_SIZE(type_fields), types, n, sizeof(*types));
}

static json_t *json_frame(const struct snapshot_frame *frame)
{
	return json_pack("{s: o, s: o, s: I}", "function", json_name(frame->function), "file",
			 json_name(frame->file), "line", (json_int_t)frame->line);
}

static json_t *json_stack(const struct snapshot_site *site)
{
	_cleanup_json_ json_t *array = json_array();

	for (size_t i = 0; i < site->n_frames; i++)
		if (json_array_append_new(array, json_frame(&site->frames[i])) < 0)
			return NULL;
	return TAKE_PTR(array);
}

static json_t *json_losses(const struct snapshot *snapshot)
{
	_cleanup_json_ json_t *array = json_array();

	for (size_t i = 0; i < snapshot->n_losses; i++) {
		const struct snapshot_loss *loss = &snapshot->losses[i];

		if (json_array_append_new(array, json_pack("{s: s, s: s, s: o}", "reason",
							   reason_label(loss->reason), "sentence",
							   reason_sentence(loss->reason), "count",
							   json_count(loss->count))) < 0)
			return NULL;
	}
	return TAKE_PTR(array);
}

/* Outstanding bytes, 95 %; a point where they are exact. */
static json_t *json_interval(const struct snapshot_site *site)
{
	if (!site->estimated)
		return json_pair(json_count(site->outstanding_bytes),
				 json_count(site->outstanding_bytes));
	return json_pair(json_count(site->outstanding_low), json_count(site->outstanding_high));
}

static json_t *json_id(uint64_t id)
{
	char text[17];

	snprintf(text, sizeof(text), "%016llx", (unsigned long long)id);
	return json_string(text);
}

/* What only sampled sites have. */
static int add_evidence(const struct snapshot_site *site, json_t *object)
{
	if (!site->estimated)
		return 0;
	if (json_object_set_new(object, "evidence",
				json_row(evidence_fields, ARRAY_SIZE(evidence_fields),
					 &site->evidence)) < 0 ||
	    json_object_set_new(object, "finding", json_id(site->finding)) < 0)
		return -ENOMEM;
	return json_object_set_new(object, "zombies", json_boolean(site->zombies));
}

static json_t *json_site(const struct snapshot_site *site)
{
	_cleanup_json_ json_t *object = json_object(), *rest = NULL;

	rest = json_row(site_fields, ARRAY_SIZE(site_fields), site);
	if (json_object_set_new(object, "id", json_id(site->id)) < 0 || !rest ||
	    json_object_update(object, rest) < 0 ||
	    add_evidence(site, object) < 0 ||
	    json_object_set_new(object, "outstanding_bytes_interval", json_interval(site)) < 0 ||
	    json_object_set_new(
		    object, "growth_interval",
		    json_pair(json_number(site->growth_low), json_number(site->growth_high))) < 0 ||
	    json_object_set_new(object, "types", json_types(site->types, site->n_types)) < 0 ||
	    json_object_set_new(object, "stack", json_stack(site)) < 0)
		return NULL;
	return TAKE_PTR(object);
}

/* --- writing --- */

static int write_text(const struct sink *sink, const char *text)
{
	return sink->write(sink->context, text, strlen(text));
}

/* Takes the reference. */
static int write_value(const struct sink *sink, json_t *taken)
{
	_cleanup_json_ json_t *value = taken;
	_cleanup_free_ char *text = value ? json_dumps(value, DUMP_FLAGS) : NULL;

	return text ? write_text(sink, text) : -ENOMEM;
}

static int write_sites(const struct snapshot *snapshot, const struct sink *sink)
{
	int r = write_text(sink, ", \"sites\": [");

	for (size_t i = 0; r >= 0 && i < snapshot->n_sites; i++) {
		r = i > 0 ? write_text(sink, ", ") : 0;
		if (r >= 0)
			r = write_value(sink, json_site(&snapshot->sites[i]));
	}
	return r < 0 ? r : write_text(sink, "]");
}

/* Takes the reference. key with its quotes and what stands before and behind it. */
static int write_member(const struct sink *sink, const char *key, json_t *taken)
{
	_cleanup_json_ json_t *value = taken;
	int r = write_text(sink, key);

	return r < 0 ? r : write_value(sink, TAKE_PTR(value));
}

static int write_head(const struct snapshot *snapshot, const struct sink *sink)
{
	int r = write_member(sink, "{\"schema\": ", json_integer(SCHEMA));

	if (r >= 0)
		r = write_member(sink, ", \"pyleakd\": ", json_string(PYLEAKD_VERSION));
	if (r >= 0)
		r = write_member(sink, ", \"target\": ",
				 json_row(target_fields, ARRAY_SIZE(target_fields), snapshot));
	if (r >= 0)
		r = write_member(sink, ", \"session\": ",
				 json_row(session_fields, ARRAY_SIZE(session_fields), snapshot));
	if (r >= 0)
		r = write_member(sink, ", \"totals\": ",
				 json_row(totals_fields, ARRAY_SIZE(totals_fields), snapshot));
	if (r >= 0)
		r = write_member(sink, ", \"books\": ",
				 json_row(books_fields, ARRAY_SIZE(books_fields), snapshot));
	return r;
}

static int write_tail(const struct snapshot *snapshot, const struct sink *sink)
{
	int r = write_member(sink, ", \"refused\": ",
			     json_rows(refusal_fields, ARRAY_SIZE(refusal_fields),
				       snapshot->refused, snapshot->n_refused,
				       sizeof(*snapshot->refused)));

	if (r >= 0)
		r = write_member(sink, ", \"losses\": ", json_losses(snapshot));
	if (r >= 0 && snapshot->n_heap_types > 0)
		r = write_member(sink, ", \"heap_types\": ",
				 json_types(snapshot->heap_types, snapshot->n_heap_types));
	return r < 0 ? r : write_text(sink, "}\n");
}

int report_json(const struct snapshot *snapshot, const struct sink *sink)
{
	int r = write_head(snapshot, sink);

	if (r >= 0)
		r = write_sites(snapshot, sink);
	if (r >= 0)
		r = write_tail(snapshot, sink);
	return r < 0 ? r : 0;
}
