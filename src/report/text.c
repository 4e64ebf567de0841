/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The report for a person at three in the morning: the answer, then why, then
 * what could not be seen.
 */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "report/names.h"
#include "report/text_private.h"

#define COLUMNS_DEFAULT 100
#define COLUMNS_MIN 60
#define COLUMNS_MAX 1000
#define FRAMES_SHOWN 3
#define TYPES_SHOWN 4
#define HEAP_TYPES_SHOWN 20
#define LOSSES_SHOWN 4
#define SAMPLED_SECONDS_MIN 30 /* below, samples tell little */
/* Below, the report says at its top that it is incomplete; of samples it is an estimate itself. */
#define COVERAGE_ENOUGH 0.999
#define COVERAGE_ENOUGH_SAMPLED 0.8

static void text_done(struct text *text)
{
	paths_done(&text->paths);
	buffer_done(&text->line);
}

/* --- the first lines --- */

static void add_title(struct text *text)
{
	const struct snapshot *snapshot = text->snapshot;
	_cleanup_buffer_ struct buffer command = buffer_init(LINE_BYTES_MAX);
	char number[TEXT_NUMBER_MAX];

	line_add_coloured(text, BOLD, "pyleakd " PYLEAKD_VERSION);
	if (name_for_terminal(&command, snapshot->command, 40) == 0 && command.size > 0)
		line_add(text, BOLD, GAP, command.data);
	line_printf(text, NULL, GAP, "pid %" PRId32, snapshot->pid);
	line_printf(text, NULL, GAP, "Python %s", snapshot->python);
	line_add(text, NULL, GAP, text_duration(number, snapshot->duration_seconds));
	if (isnan(snapshot->overhead_ratio))
		line_add(text, NULL, GAP, snapshot->mode);
	else
		line_printf(text, NULL, GAP, "%s, slowed by %.1f %%", snapshot->mode,
			    100 * snapshot->overhead_ratio);
	if (!isnan(snapshot->coverage_ratio))
		line_printf(text, NULL, GAP, "coverage %.2f %%",
			    floor(10000 * snapshot->coverage_ratio) / 100);
	line_end(text);
}

static void add_loss(struct text *text, const struct snapshot_loss *loss)
{
	char number[TEXT_NUMBER_MAX];

	line_pad(text, INDENT);
	line_printf(text, NULL, "", "%s %s: %s", text_count(number, loss->count),
		    loss->count == 1 ? "time" : "times", reason_sentence(loss->reason));
	line_end(text);
}

static void add_losses(struct text *text)
{
	const struct snapshot *snapshot = text->snapshot;
	char lost[TEXT_NUMBER_MAX], all[TEXT_NUMBER_MAX];
	size_t shown = 0;

	if (snapshot->events_lost > 0) {
		line_begin(text, YELLOW, "LOST");
		line_printf(text, YELLOW, "",
			    "%s of %s events: what they allocated or freed is not below",
			    text_count(lost, snapshot->events_lost),
			    text_count(all, snapshot->events + snapshot->events_lost));
		line_end(text);
	} else if (snapshot->n_losses > 0) {
		line_begin(text, YELLOW, "NOTED");
	}
	for (; shown < snapshot->n_losses && shown < LOSSES_SHOWN; shown++)
		add_loss(text, &snapshot->losses[shown]);
	if (shown == snapshot->n_losses)
		return;
	line_pad(text, INDENT);
	line_printf(text, NULL, "", "%zu more reasons: --format json", snapshot->n_losses - shown);
	line_end(text);
}

/* Text of ours or of an error, with words of the target's in it: broken at its blanks. */
static void add_words(struct text *text, const char *words)
{
	_cleanup_buffer_ struct buffer fit = buffer_init(LINE_BYTES_MAX);
	const char *word;
	char *rest;

	if (names_add_terminal(&fit, words) < 0 || fit.size == 0)
		return;
	rest = fit.data;
	while ((word = strsep(&rest, " ")))
		line_add(text, NULL, " ", word);
}

static void add_refusals(struct text *text)
{
	char number[TEXT_NUMBER_MAX];

	for (size_t i = 0; i < text->snapshot->n_refused; i++) {
		const struct snapshot_refusal *refusal = &text->snapshot->refused[i];

		line_begin(text, YELLOW, "NOT DONE");
		add_words(text, refusal->what);
		buffer_add_char(&text->line, ':');
		text->column++;
		add_words(text, refusal->why);
		if (refusal->count > 1)
			line_printf(text, NULL, " ", "(%s times)",
				    text_count(number, refusal->count));
		line_end(text);
	}
}

/* Of which moment it is, where that is not the session's end. */
static void add_moment(struct text *text)
{
	const struct snapshot *snapshot = text->snapshot;
	char number[TEXT_NUMBER_MAX];

	if (snapshot->moment == MOMENT_SESSION_END)
		return;
	line_begin(text, NULL, "as of");
	line_add(text, NULL, "", snapshot_moment_sentence(snapshot->moment));
	if (!isnan(snapshot->reconciled_seconds))
		line_printf(text, NULL, GAP, "its heap was last read at %s",
			    text_duration(number, snapshot->reconciled_seconds));
	line_end(text);
}

static void add_incompleteness(struct text *text)
{
	const struct snapshot *snapshot = text->snapshot;
	bool sampled = strcmp(snapshot->mode, "sampled") == 0;

	add_losses(text);
	/* False where it is not known. */
	if (snapshot->coverage_ratio < (sampled ? COVERAGE_ENOUGH_SAMPLED : COVERAGE_ENOUGH)) {
		line_begin(text, YELLOW, "UNSEEN");
		line_printf(
			text, YELLOW, "",
			sampled ? "%.2f %% of what is new in the heap was made where no probe is"
				: "%.2f %% of what is new in the heap is in no site below",
			100 - floor(10000 * snapshot->coverage_ratio) / 100);
		line_end(text);
	}
	add_refusals(text);
}

/* --- the answer --- */

static size_t count_verdict(const struct snapshot *snapshot, enum verdict verdict)
{
	size_t n = 0;

	for (size_t i = 0; i < snapshot->n_sites; i++)
		n += snapshot->sites[i].verdict == verdict;
	return n;
}

/* Samples tell a line by the parts of the session in which it was met. */
static bool is_early_for_samples(const struct snapshot *snapshot)
{
	return strcmp(snapshot->mode, "sampled") == 0 &&
	       snapshot->duration_seconds < SAMPLED_SECONDS_MIN;
}

/* Said where no site says it: nothing grows, or it is too early to tell. */
static void add_answer(struct text *text)
{
	const struct snapshot *snapshot = text->snapshot;
	size_t stable = count_verdict(snapshot, VERDICT_STABLE);
	char number[TEXT_NUMBER_MAX];

	if (count_verdict(snapshot, VERDICT_LEAK) + count_verdict(snapshot, VERDICT_GROWING) > 0)
		return;
	if (snapshot->n_heap_types > 0 && snapshot->n_sites == 0)
		line_add_coloured(text, NULL,
				  "watched without probes: no line can be named, "
				  "only what the heap holds");
	else if (strcmp(snapshot->mode, "watch") == 0 && snapshot->n_sites == 0)
		line_add_coloured(text, YELLOW,
				  "watched without probes, and pymalloc has no pools to look at: "
				  "nothing can be told");
	else if (stable == 0 && is_early_for_samples(snapshot))
		line_printf(text, YELLOW, "",
			    "too early to tell what grows: samples need %d seconds, --mode exact "
			    "%d intervals",
			    SAMPLED_SECONDS_MIN, JUDGE_INTERVALS_MIN + 1);
	else if (snapshot->n_sites == 0 && strcmp(snapshot->mode, "sampled") == 0)
		line_add_coloured(text, GREEN,
				  "no sample of what was allocated since the start is left");
	else if (snapshot->n_sites == 0)
		line_add_coloured(text, GREEN,
				  "nothing that was allocated since the start is left");
	else if (stable == 0)
		line_printf(text, YELLOW, "",
			    "too early to tell what grows: watch for more than %d intervals",
			    JUDGE_INTERVALS_MIN);
	else
		line_printf(text, GREEN, "", "no leak: nothing grows among %s %s",
			    text_count(number, snapshot->n_sites),
			    snapshot->n_sites == 1 ? "site" : "sites");
	line_end(text);
	line_end(text);
}

static const char *verdict_colour(enum verdict verdict)
{
	switch (verdict) {
	case VERDICT_LEAK:
		return RED;
	case VERDICT_GROWING:
		return YELLOW;
	case VERDICT_STABLE:
	case VERDICT_WARMING:
		break;
	}
	return NULL;
}

static void add_verdict(struct text *text, const struct snapshot_site *site)
{
	bool told = site->verdict == VERDICT_LEAK || site->verdict == VERDICT_GROWING;
	char number[TEXT_NUMBER_MAX], objects[TEXT_NUMBER_MAX];

	line_begin(text, verdict_colour(site->verdict),
		   site->verdict == VERDICT_LEAK ? "LEAK" : verdict_name(site->verdict));
	if (told && !isnan(site->growth_bytes_per_second))
		line_printf(text, verdict_colour(site->verdict), "", "%s%s a minute",
			    site->growth_bytes_per_second < 0 ? "" : "+",
			    text_bytes(number, 60 * site->growth_bytes_per_second));
	line_printf(text, NULL, GAP, "%s in %s %s",
		    text_bytes(number, (double)site->outstanding_bytes),
		    text_count(objects, site->outstanding_objects),
		    site->outstanding_objects == 1 ? "object" : "objects");
	if (site->zombies)
		line_add(text, NULL, GAP, "reference count 0, never given back");
	if (strcmp(site->domain, "native") == 0)
		line_add(text, NULL, GAP, "from the C library");
	if (told && !isnan(site->confidence_ratio))
		line_printf(text, NULL, GAP, "sure to %.3f",
			    floor(1000 * site->confidence_ratio) / 1000);
	line_end(text);
}

/* --- its frames --- */

/* What the frames' lines need; the widths are those of the widest. */
struct frame_texts {
	struct buffer location[FRAMES_SHOWN], function[FRAMES_SHOWN];
	size_t n, location_columns, function_columns;
};

static void frame_texts_done(struct frame_texts *texts)
{
	for (size_t i = 0; i < FRAMES_SHOWN; i++) {
		buffer_done(&texts->location[i]);
		buffer_done(&texts->function[i]);
	}
}

static size_t larger(size_t a, size_t b)
{
	return a > b ? a : b;
}

static int frame_texts_add(const struct text *text, const struct snapshot_frame *frame,
			   struct frame_texts *texts)
{
	struct buffer *location = &texts->location[texts->n];
	struct buffer *function = &texts->function[texts->n];

	*location = buffer_init(LINE_BYTES_MAX);
	*function = buffer_init(LINE_BYTES_MAX);
	texts->n++;
	if (*frame->file) {
		name_for_terminal(location, paths_shorten(&text->paths, frame->file),
				  LOCATION_COLUMNS_MAX);
		if (frame->line > 0)
			buffer_printf(location, ":%" PRIu32, frame->line);
		name_for_terminal(function, frame->function, FUNCTION_COLUMNS_MAX);
	} else { /* code that could not be read, for one */
		name_for_terminal(location, frame->function, LOCATION_COLUMNS_MAX);
		name_for_terminal(function, "", FUNCTION_COLUMNS_MAX);
	}
	if (location->error < 0 || function->error < 0)
		return location->error < 0 ? location->error : function->error;
	texts->location_columns = larger(texts->location_columns, names_columns(location->data));
	texts->function_columns = larger(texts->function_columns, names_columns(function->data));
	return 0;
}

static void add_types(struct text *text, const struct snapshot_site *site)
{
	for (size_t i = 0; i < site->n_types && i < TYPES_SHOWN; i++) {
		_cleanup_buffer_ struct buffer name = buffer_init(LINE_BYTES_MAX);
		double share = site->outstanding_bytes > 0 ? (double)site->types[i].bytes /
								     (double)site->outstanding_bytes
							   : 0;

		if (share < 0.005 && i > 0)
			break;
		if (name_for_terminal(&name, site->types[i].name, FUNCTION_COLUMNS_MAX) < 0)
			return;
		line_printf(text, NULL, i > 0 ? "  " : GAP, "%s %.0f %%", name.data,
			    100 * fmin(share, 1));
	}
}

static void add_frame_note(struct text *text, const struct snapshot_site *site, size_t index)
{
	size_t more = site->n_frames - index - 1;

	if (index == 0)
		add_types(text, site);
	if (index + 1 < FRAMES_SHOWN || (more == 0 && !site->cut))
		return;
	line_printf(text, NULL, GAP, "(%zu more %s%s: --format json)", more,
		    more == 1 ? "frame" : "frames", site->cut ? ", then cut" : "");
}

static int add_frames(struct text *text, const struct snapshot_site *site)
{
	__attribute__((cleanup(frame_texts_done))) struct frame_texts texts = {0};

	for (size_t i = 0; i < site->n_frames && i < FRAMES_SHOWN; i++) {
		int r = frame_texts_add(text, &site->frames[i], &texts);

		if (r < 0)
			return r;
	}
	for (size_t i = 0; i < texts.n; i++) {
		line_pad(text, INDENT);
		line_add_coloured(text, i == 0 ? BOLD : NULL, texts.location[i].data);
		line_pad(text, INDENT + texts.location_columns + 3);
		line_add_coloured(text, i == 0 ? BOLD : NULL, texts.function[i].data);
		if (i == 0 && site->n_types > 0)
			line_pad(text,
				 INDENT + texts.location_columns + 3 + texts.function_columns);
		add_frame_note(text, site, i);
		line_end(text);
	}
	return 0;
}

static int add_site(struct text *text, const struct snapshot_site *site)
{
	int r;

	add_verdict(text, site);
	if (site->n_frames == 0) {
		line_pad(text, INDENT);
		line_add_coloured(text, BOLD,
				  site->other ? "other sites, merged" : "[no Python frame]");
		add_types(text, site);
		line_end(text);
	}
	r = add_frames(text, site);
	text_add_members(text, site);
	line_end(text);
	return r;
}

static int write_sites(struct text *text, const struct sink *sink)
{
	const struct snapshot *snapshot = text->snapshot;
	size_t shown = 0, rest = 0;
	uint64_t rest_bytes = 0;
	char sites[TEXT_NUMBER_MAX], bytes[TEXT_NUMBER_MAX];

	for (size_t i = 0; i < snapshot->n_sites; i++) {
		int r;

		if (text_is_member(&snapshot->sites[i]))
			continue;
		if (shown == text->options->top) {
			rest++;
			rest_bytes += snapshot->sites[i].outstanding_bytes;
			continue;
		}
		shown++;
		r = add_site(text, &snapshot->sites[i]);
		if (r >= 0)
			r = line_write(text, sink);
		if (r < 0)
			return r;
	}
	if (rest == 0)
		return 0;
	line_begin(text, NULL, "more");
	line_printf(text, NULL, "", "%s in %s other %s: --top N, --format json",
		    text_bytes(bytes, (double)rest_bytes), text_count(sites, rest),
		    rest == 1 ? "site" : "sites");
	line_end(text);
	line_end(text);
	return 0;
}

/* --- the last lines --- */

static void add_heap_types(struct text *text)
{
	const struct snapshot *snapshot = text->snapshot;
	char bytes[TEXT_NUMBER_MAX], objects[TEXT_NUMBER_MAX];

	for (size_t i = 0; i < snapshot->n_heap_types && i < HEAP_TYPES_SHOWN; i++) {
		const struct snapshot_type *type = &snapshot->heap_types[i];
		_cleanup_buffer_ struct buffer name = buffer_init(LINE_BYTES_MAX);

		if (name_for_terminal(&name, type->name, LOCATION_COLUMNS_MAX) < 0)
			return;
		line_begin(text, NULL, i == 0 ? "heap" : "");
		line_printf(text, NULL, "", "%10s in %12s objects" GAP "%s",
			    text_bytes(bytes, (double)type->bytes),
			    text_count(objects, type->objects), name.data);
		line_end(text);
	}
	if (snapshot->n_heap_types > HEAP_TYPES_SHOWN) {
		line_pad(text, INDENT);
		line_printf(text, NULL, "", "%zu more types: --format json",
			    snapshot->n_heap_types - HEAP_TYPES_SHOWN);
		line_end(text);
	}
	if (snapshot->n_heap_types > 0)
		line_end(text);
}

static void add_memory(struct text *text)
{
	const struct snapshot *snapshot = text->snapshot;
	double growth = 60 * snapshot->python_growth_bytes_per_second;
	char bytes[TEXT_NUMBER_MAX], number[TEXT_NUMBER_MAX];

	line_begin(text, NULL, "memory");
	line_printf(text, NULL, "", "%s resident",
		    text_bytes(bytes, (double)snapshot->resident_bytes));
	if (snapshot->python_live_blocks > 0)
		line_printf(text, NULL, GAP, "Python objects %s in %s blocks",
			    text_bytes(bytes, (double)snapshot->python_live_bytes),
			    text_count(number, snapshot->python_live_blocks));
	if (isfinite(growth) && fabs(growth) >= 0.5)
		line_printf(text, NULL, " ", "(%s%s a minute)", growth < 0 ? "" : "+",
			    text_bytes(bytes, growth));
	if (snapshot->parked_blocks > 0)
		line_printf(text, NULL, GAP, "on free lists %s",
			    text_bytes(bytes, (double)snapshot->parked_bytes));
	if (snapshot->native_live_bytes > 0)
		line_printf(text, NULL, GAP, "C library %s",
			    text_bytes(bytes, (double)snapshot->native_live_bytes));
	line_end(text);
}

static void add_seen(struct text *text)
{
	const struct snapshot *snapshot = text->snapshot;
	char number[TEXT_NUMBER_MAX], lost[TEXT_NUMBER_MAX];

	line_begin(text, NULL, "seen");
	if (strcmp(snapshot->mode, "watch") == 0 && snapshot->events == 0) {
		line_add(text, NULL, "", "no events: there were no probes");
		line_end(text);
		return;
	}
	line_printf(text, NULL, "", "%s events, %s lost", text_count(number, snapshot->events),
		    snapshot->events_lost ? text_count(lost, snapshot->events_lost) : "none");
	line_printf(text, NULL, GAP, "%s %s", text_count(number, snapshot->n_sites),
		    snapshot->n_sites == 1 ? "site" : "sites");
	line_end(text);
}

/* The first so many hold all that is shown. */
static size_t sites_shown(const struct snapshot *snapshot, size_t top)
{
	size_t n = 0, heads = 0;

	for (; n < snapshot->n_sites && heads <= top; n++)
		heads += !text_is_member(&snapshot->sites[n]);
	return heads > top ? n - 1 : n;
}

int report_text(const struct snapshot *snapshot, const struct report_options *options,
		const struct sink *sink)
{
	__attribute__((cleanup(text_done))) struct text text = {
		.snapshot = snapshot,
		.options = options,
		.columns = options->columns ? options->columns : COLUMNS_DEFAULT,
		.line = buffer_init(LINE_BYTES_MAX),
	};
	int r;

	if (text.columns < COLUMNS_MIN)
		text.columns = COLUMNS_MIN;
	if (text.columns > COLUMNS_MAX)
		text.columns = COLUMNS_MAX;
	r = paths_init(&text.paths, snapshot, sites_shown(snapshot, options->top), FRAMES_SHOWN);
	if (r < 0)
		return r;
	add_title(&text);
	add_moment(&text);
	add_incompleteness(&text);
	line_end(&text);
	add_answer(&text);
	r = write_sites(&text, sink);
	if (r < 0)
		return r;
	add_heap_types(&text);
	add_memory(&text);
	add_seen(&text);
	return line_write(&text, sink);
}
