/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "service/daemon.h"

#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "service/config.h"
#include "service/events.h"
#include "service/http.h"
#include "service/metrics.h"
#include "service/targets.h"

#define US_PER_SECOND 1e6
#define STATUS_BYTES 192

struct daemon {
	const char *config_path; /* NULL: all defaults */
	struct config config;
	sd_event *event;
	struct targets *targets;
	struct metrics metrics;
	struct http *http;
	char status[STATUS_BYTES]; /* that was told last */
};

/* --- what systemd is told --- */

/* Only what is new: whoever listens may be slow, and sending waits for it. */
static void tell_status(struct daemon *daemon)
{
	struct targets *targets = daemon->targets;
	char status[STATUS_BYTES];

	snprintf(status, sizeof(status),
		 "STATUS=%zu Python processes, %zu of them sampled, %zu unreadable; "
		 "%zu looked at more rarely, cpu-percent being reached",
		 targets->n, targets_count(targets, TARGET_SAMPLED),
		 targets_count(targets, TARGET_UNREADABLE), targets_count_paced(targets));
	if (strcmp(status, daemon->status) == 0)
		return;
	memcpy(daemon->status, status, sizeof(status));
	sd_notify(0, status);
}

/* --- timers --- */

static int on_scan(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct daemon *daemon = userdata;
	int r;

	(void)usec;
	r = targets_scan(daemon->targets);
	if (r < 0)
		log_warning("the processes could not be looked through (%s), ignoring",
			    strerror(-r));
	tell_status(daemon);
	return sd_event_source_set_time_relative(source,
						 daemon->config.scan_interval_ns / NS_PER_US);
}

static int on_work(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct daemon *daemon = userdata;
	double in_seconds = targets_work(daemon->targets);

	(void)usec;
	return sd_event_source_set_time_relative(source, (uint64_t)(in_seconds * US_PER_SECOND));
}

/* --- signals --- */

static int on_end(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata)
{
	struct daemon *daemon = userdata;

	(void)source;
	(void)info;
	sd_notify(0, "STOPPING=1\nSTATUS=taking all probes out");
	return sd_event_exit(daemon->event, 0);
}

static bool listens_elsewhere(const struct config *a, const struct config *b)
{
	return strcmp(a->listen_host, b->listen_host) != 0 || a->listen_port != b->listen_port;
}

/* What is wrong in the new file leaves the old one in force. */
static int on_reload(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata)
{
	char message[CONFIG_MESSAGE_BYTES];
	struct daemon *daemon = userdata;
	struct config config;

	(void)source;
	(void)info;
	if (!daemon->config_path)
		return 0;
	sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%llu",
		   (unsigned long long)(clock_monotonic_ns() / NS_PER_US));
	if (config_load(daemon->config_path, &config, message) < 0) {
		log_warning("%s; the old configuration stays, ignoring", message);
	} else {
		if (listens_elsewhere(&daemon->config, &config))
			log_warning("another address to listen at needs a restart, ignoring");
		config_done(&daemon->config);
		daemon->config = config;
		log_notice("the configuration was read anew");
	}
	sd_notify(0, "READY=1");
	return 0;
}

/* --- the whole --- */

static int add_sources(struct daemon *daemon)
{
	int r;

	r = events_add_signal(daemon->event, SIGTERM, on_end, daemon);
	if (r == 0)
		r = events_add_signal(daemon->event, SIGINT, on_end, daemon);
	if (r == 0)
		r = events_add_signal(daemon->event, SIGHUP, on_reload, daemon);
	if (r == 0)
		r = events_add_timer(daemon->event, 0, on_scan, SD_EVENT_PRIORITY_NORMAL, daemon,
				     NULL);
	if (r == 0)
		r = events_add_timer(daemon->event, 0, on_work, SD_EVENT_PRIORITY_IDLE, daemon,
				     NULL);
	return r;
}

static int prepare(struct daemon *daemon)
{
	char message[HTTP_MESSAGE_BYTES];
	int r;

	r = sd_event_new(&daemon->event);
	if (r == 0)
		r = sd_event_set_watchdog(daemon->event, true) < 0 ? -EIO : 0;
	if (r == 0)
		r = targets_new(daemon->event, &daemon->config, &daemon->targets);
	if (r == 0)
		r = add_sources(daemon);
	if (r < 0) {
		log_error("no event loop (%s): free memory or descriptors and try again",
			  strerror(-r));
		return r;
	}
	daemon->metrics = (struct metrics){
		.targets = daemon->targets,
		.started = (double)clock_realtime_ns() / NS_PER_SECOND,
	};
	r = http_new(daemon->event, daemon->config.listen_host, daemon->config.listen_port,
		     metrics_page, &daemon->metrics, &daemon->http, message);
	if (r < 0)
		log_error("%s", message);
	return r;
}

static int load(struct daemon *daemon, const struct options *options)
{
	char message[CONFIG_MESSAGE_BYTES];
	int r;

	daemon->config_path = options->config;
	if (!daemon->config_path && access(CONFIG_FILE_DEFAULT, F_OK) == 0)
		daemon->config_path = CONFIG_FILE_DEFAULT;
	if (!daemon->config_path) {
		config_init(&daemon->config);
		return 0;
	}
	r = config_load(daemon->config_path, &daemon->config, message);
	if (r < 0)
		log_error("%s", message);
	return r;
}

static void daemon_done(struct daemon *daemon)
{
	http_free(daemon->http);
	targets_free(daemon->targets);
	sd_event_unref(daemon->event);
	config_done(&daemon->config);
}

/*
 * A census takes and gives back tens of megabytes.  glibc learns from that to
 * keep such blocks in its heap, between what stays: the thresholds are fixed
 * where they begin, so that they come from mappings of their own, and go.
 */
#define MALLOC_THRESHOLD_BYTES (128 << 10)

static void keep_own_memory_small(void)
{
	mallopt(M_MMAP_THRESHOLD, MALLOC_THRESHOLD_BYTES);
	mallopt(M_TRIM_THRESHOLD, MALLOC_THRESHOLD_BYTES);
}

int daemon_run(const struct options *options)
{
	struct daemon daemon = {0};
	int r;

	keep_own_memory_small();
	r = load(&daemon, options);
	if (r == 0)
		r = prepare(&daemon);
	if (r == 0) {
		log_notice("listening at %s port %u", daemon.config.listen_host,
			   http_port(daemon.http));
		sd_notify(0, "READY=1");
		r = sd_event_loop(daemon.event);
		if (r < 0)
			log_error("the event loop failed (%s): restart pyleakd", strerror(-r));
	}
	daemon_done(&daemon);
	return r < 0 ? STATUS_FAILED : STATUS_OK;
}
