/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Invented snapshots that the golden reports are made of. */
#ifndef PYLEAKD_TESTS_REPORT_SNAPSHOTS_H
#define PYLEAKD_TESTS_REPORT_SNAPSHOTS_H

#include <math.h>

#include "base/cleanup.h"
#include "report/snapshot_build.h"

DEFINE_CLEANUP(struct snapshot *, snapshot_free)

static struct snapshot *snapshot_of(const char *mode)
{
	struct snapshot *snapshot;

	assert_int_equal(snapshot_new(&snapshot), 0);
	snapshot->pid = 4242;
	snapshot->command = snapshot_string(snapshot, "web.py");
	snapshot->python = snapshot_string(snapshot, "3.11.2");
	snapshot->target_started = 1700000000.25;
	snapshot->mode = snapshot_string(snapshot, mode);
	snapshot->session_started = 1700003600.5;
	snapshot->duration_seconds = 300;
	snapshot->resident_bytes = 412000000;
	snapshot->python_live_bytes = 231000000;
	snapshot->python_live_blocks = 2104331;
	snapshot->python_growth_bytes_per_second = 30000;
	return snapshot;
}

static struct snapshot *finished(struct snapshot *snapshot)
{
	assert_int_equal(snapshot_finish(snapshot), 0);
	return snapshot;
}

static void add_leak(struct snapshot *snapshot)
{
	static const struct snapshot_frame frames[] = {
		{"remember", "/srv/shop/app/cache.py", 88},
		{"View.get_user", "/srv/shop/app/views.py", 41},
		{"View.dispatch", "/srv/shop/app/views.py", 12},
		{"Flask.wsgi_app", "/opt/venv/lib/python3.11/site-packages/flask/app.py", 2190},
		{"BaseServer.handle", "/usr/lib/python3.11/socketserver.py", 360},
		{"<module>", "/srv/shop/web.py", 7},
	};
	static const struct snapshot_type types[] = {
		{"str", 9000, 2820000},
		{"dict", 10104, 5734000},
		{"tuple", 9000, 846000},
	};

	snapshot_add_site(snapshot, &(struct snapshot_site){
					    .verdict = VERDICT_LEAK,
					    .outstanding_bytes = 9400000,
					    .outstanding_objects = 28104,
					    .growth_bytes_per_second = 30000,
					    .growth_low = 29000.5,
					    .growth_high = 31250.25,
					    .confidence_ratio = 0.9987,
					    .domain = "object",
					    .n_types = ARRAY_SIZE(types),
					    .types = types,
					    .n_frames = ARRAY_SIZE(frames),
					    .frames = frames,
				    });
}

static void add_growing(struct snapshot *snapshot)
{
	static const struct snapshot_frame frames[] = {
		{"count", "/srv/shop/lib/stats.py", 19},
	};
	static const struct snapshot_type types[] = {{"int", 840, 26880}};

	snapshot_add_site(snapshot, &(struct snapshot_site){
					    .verdict = VERDICT_GROWING,
					    .outstanding_bytes = 26880,
					    .outstanding_objects = 840,
					    .growth_bytes_per_second = 200,
					    .growth_low = 100,
					    .growth_high = 300,
					    .confidence_ratio = 0.96,
					    .domain = "object",
					    .n_types = ARRAY_SIZE(types),
					    .types = types,
					    .n_frames = ARRAY_SIZE(frames),
					    .frames = frames,
				    });
}

static void add_stable(struct snapshot *snapshot, const char *function, uint64_t bytes)
{
	struct snapshot_frame frame = {function, "/usr/lib/python3.11/json/encoder.py", 250};

	snapshot_add_site(snapshot, &(struct snapshot_site){
					    .verdict = VERDICT_STABLE,
					    .outstanding_bytes = bytes,
					    .outstanding_objects = 1,
					    .growth_bytes_per_second = 0,
					    .confidence_ratio = 0.5,
					    .domain = "mem",
					    .n_frames = 1,
					    .frames = &frame,
				    });
}

static void add_specials(struct snapshot *snapshot)
{
	struct snapshot_site site = {.verdict = VERDICT_STABLE,
				     .outstanding_bytes = 66000,
				     .outstanding_objects = 1200,
				     .growth_low = NAN,
				     .growth_high = NAN,
				     .growth_bytes_per_second = NAN,
				     .confidence_ratio = NAN,
				     .domain = "native"};

	snapshot_add_site(snapshot, &site);
	site.other = true;
	site.domain = "object";
	site.outstanding_bytes = 64000;
	snapshot_add_site(snapshot, &site);
}

static struct snapshot *leaking(void)
{
	struct snapshot *snapshot = snapshot_of("exact");

	snapshot->overhead_ratio = 0.75;
	snapshot->events = 1204113;
	snapshot->coverage_ratio = 0.9998;
	snapshot->native_live_bytes = 66000;
	snapshot->parked_bytes = 4800;
	snapshot->parked_blocks = 100;
	add_stable(snapshot, "JSONEncoder.iterencode", 5000);
	add_growing(snapshot);
	add_specials(snapshot);
	add_leak(snapshot);
	return finished(snapshot);
}

static struct snapshot *incomplete(void)
{
	struct snapshot *snapshot = snapshot_of("exact");

	snapshot->events = 1000000;
	snapshot->events_lost = 12345;
	snapshot->coverage_ratio = 0.97204;
	snapshot->moment = MOMENT_FINALIZATION;
	snapshot->reconciled_seconds = 295;
	snapshot_add_loss(snapshot, REASON_FREE_MISSED, 45);
	snapshot_add_loss(snapshot, REASON_RING_FULL, 12000);
	snapshot_add_loss(snapshot, REASON_RING_FULL, 300);
	snapshot_add_loss(snapshot, REASON_REENTERED, 0);
	snapshot_add_loss(snapshot, REASON_CHILD_MISSED, 44);
	snapshot_add_refusal(
		snapshot, "probes in the C library",
		"the target is within 200 KiB of the memory limit of its cgroup "
		"(system.slice/web.service): raise the limit, or watch with --no-probes");
	snapshot_add_refusals(snapshot, "freeing a forked child of breakpoints",
			      "the target forked while probed", 1200);
	add_stable(snapshot, "JSONEncoder.iterencode", 5000);
	return finished(snapshot);
}

static struct snapshot *watched(void)
{
	static const struct snapshot_type types[] = {{"dict", 20000, 9400000},
						     {"app.cache.Session", 18204, 1019424},
						     {"str", 300000, 22000000}};
	struct snapshot *snapshot = snapshot_of("watch");

	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		snapshot_add_heap_type(snapshot, &types[i]);
	return finished(snapshot);
}

/* What a target may call its things to fool whoever reads the report. */
static struct snapshot *hostile(void)
{
	static const struct snapshot_frame frames[] = {
		{"\033]0;pwned\a<lambda>", "/srv/a b;c/\xff\xfe.py", 1},
		{"na\303\257ve.\316\261", "/srv/\342\200\256yp.exe", 2},
		{"a\nb\"\\\t", "", 0},
		{"very_long_name.of_a_function.that_nobody.would_write.but_somebody_did",
		 "/srv/deep/er/and/deeper/and/deeper/and/deeper/and/deeper/still/module.py",
		 UINT32_MAX},
	};
	static const struct snapshot_type types[] = {{"\xc3(\xed\xa0\x80", 1, 1}};
	struct snapshot *snapshot = snapshot_of("exact");

	snapshot->command = snapshot_string(snapshot, "\033[31mred\033[0m");
	for (size_t first = 0; first < 2; first++)
		snapshot_add_site(snapshot, &(struct snapshot_site){
						    .verdict = VERDICT_WARMING,
						    .outstanding_bytes = 100 + first,
						    .outstanding_objects = 1,
						    .growth_bytes_per_second = INFINITY,
						    .growth_low = NAN,
						    .growth_high = -INFINITY,
						    .confidence_ratio = NAN,
						    .domain = "object",
						    .n_types = 1,
						    .types = types,
						    .n_frames = 4 - 2 * first,
						    .frames = frames + 2 * first,
						    .cut = true,
					    });
	return finished(snapshot);
}

/* One leak of three lines, what pools alone tell of, and blocks that were never given back. */
static __attribute__((unused)) struct snapshot *sampled(void)
{
	static const struct snapshot_frame session[] = {
		{"load", "/srv/shop/app/models.py", 12},
		{"handle", "/srv/shop/app/web.py", 40},
	};
	static const struct snapshot_frame rows[] = {{"parse", "/srv/shop/app/rows.py", 7}};
	static const struct snapshot_frame names[] = {{"name", "/srv/shop/app/rows.py", 19}};
	static const struct snapshot_frame buffers[] = {{"pack", "/srv/shop/app/wire.py", 3}};
	static const struct snapshot_type types[] = {
		{"Session", 5000, 2000000}, {"dict", 5000, 900000}, {"str", 5000, 40000}};
	struct snapshot *snapshot = snapshot_of("sampled");
	struct snapshot_site site = {
		.verdict = VERDICT_LEAK,
		.outstanding_bytes = 2000000,
		.outstanding_objects = 5000,
		.estimated = true,
		.outstanding_low = 1500000,
		.outstanding_high = 2600000,
		.growth_bytes_per_second = 6666.5,
		.growth_low = 5000,
		.growth_high = 8666.5,
		.confidence_ratio = 0.99,
		.domain = "object",
		.n_types = 1,
		.types = types,
		.n_frames = 2,
		.frames = session,
		.evidence = {.survivors = 50,
			     .windows = 30,
			     .new_pools = 90,
			     .new_pool_bytes = 90 * 16384},
		.finding_number = 1,
		.finding_head = true,
	};

	snapshot_add_site(snapshot, &site);
	site.finding_head = false;
	site.outstanding_bytes = 900000;
	site.growth_bytes_per_second = 3000;
	site.types = types + 1;
	site.n_frames = 1;
	site.frames = rows;
	snapshot_add_site(snapshot, &site);
	site.outstanding_bytes = 40000;
	site.growth_bytes_per_second = 133.25;
	site.types = types + 2;
	site.frames = names;
	snapshot_add_site(snapshot, &site);
	site.finding_number = 0;
	site.zombies = true;
	site.verdict = VERDICT_GROWING;
	snapshot_add_site(snapshot, &site);
	site.zombies = false;
	site.n_types = 0;
	site.frames = buffers;
	site.outstanding_low = 0;
	site.domain = "native";
	site.evidence = (struct snapshot_evidence){
		.breaks = 12, .break_bytes = 12 * 135168, .growth_bytes = 40000};
	snapshot_add_site(snapshot, &site);
	snapshot->budget_ratio = 0.01;
	snapshot->windows = 61;
	snapshot->overhead_ratio = 0.0078125;
	return finished(snapshot);
}

static struct snapshot *empty(void)
{
	return finished(snapshot_of("exact"));
}

#endif
