/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* From the command line to running sessions, and from there to the exit status. */
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/text.h"
#include "service/adhoc.h"
#include "service/adhoc_private.h"
#include "service/descriptors.h"
#include "service/final_report.h"
#include "service/launch.h"
#include "service/output.h"
#include "service/plan_cache.h"

DEFINE_CLEANUP(struct session *, session_free)

static int open_and_start(struct adhoc *adhoc, pid_t pid, char *ret_message)
{
	CLEANUP(session_free) struct session *session = NULL;
	int r;

	r = session_open(pid, &adhoc->session_options, &session, ret_message);
	if (r < 0)
		return r;
	adhoc->session_options.recording = NULL; /* the first target's; others have none */
	r = session_start(session, ret_message);
	if (r < 0)
		return r;
	r = adhoc_add(adhoc, session);
	if (r < 0) {
		snprintf(ret_message, SESSION_MESSAGE_BYTES, "process %d can't be watched: %s", pid,
			 strerror(-r));
		return r;
	}
	TAKE_PTR(session);
	return 0;
}

/* The report of what was seen, whatever ended the session. */
static int finish(struct adhoc *adhoc)
{
	const struct session_clock clock = adhoc_clock(adhoc);
	bool leak = false;
	int r;

	r = final_report(adhoc->sessions, adhoc->n_targets, &clock, adhoc->options,
			 adhoc->output, &leak);
	if (r < 0)
		return STATUS_FAILED;
	return leak && adhoc->options->fail_on_leak ? STATUS_LEAK : STATUS_OK;
}

#define RING_BYTES_VARIABLE "PYLEAKD_RING_BYTES"
#define RING_BYTES_MAX (1u << 30)
#define SAMPLED_RING_BYTES (8u << 20)

/* 0: the default. Whether it is a size that the kernel takes, the capture knows. */
static int ring_bytes(size_t *ret)
{
	const char *text = getenv(RING_BYTES_VARIABLE);
	uint64_t bytes = 0;

	if (text && *text && parse_u64(text, 1, RING_BYTES_MAX, &bytes) < 0) {
		log_error(RING_BYTES_VARIABLE " is no number up to %u: give a power of two from "
					      "65536 on, or unset it",
			  RING_BYTES_MAX);
		return -EINVAL;
	}
	*ret = (size_t)bytes;
	return 0;
}

static int prepare(struct adhoc *adhoc, const struct options *options)
{
	char message[OUTPUT_MESSAGE_BYTES];
	int r;

	r = adhoc_init(adhoc, options);
	if (r < 0) {
		log_error("no event loop (%s): free memory or descriptors and try again",
			  strerror(-r));
		return r;
	}
	r = output_new(options->output, &adhoc->output, message);
	if (r < 0) {
		log_error("%s", message);
		return r;
	}
	adhoc->session_options = (struct session_options){
		.turn = &adhoc->turn,
		.no_probes = options->no_probes,
		.native = true,
		.sampled = options->mode == MODE_SAMPLED,
		.budget_ratio = (isnan(options->budget_percent) ? OPTIONS_BUDGET_PERCENT :
								  options->budget_percent) / 100,
		.plan_cache = plan_cache_directory(),
	};
	r = ring_bytes(&adhoc->session_options.ring_bytes);
	/* Few records come, and many may come at once in a window only. */
	if (adhoc->session_options.sampled && adhoc->session_options.ring_bytes == 0)
		adhoc->session_options.ring_bytes = SAMPLED_RING_BYTES;
	return r;
}

static int start_recording(struct adhoc *adhoc)
{
	int r;

	if (!adhoc->options->record)
		return 0;
	r = recording_writer_new(adhoc->options->record, &adhoc->recording);
	if (r < 0)
		log_error("%s can't be written (%s): choose another --record",
			  adhoc->options->record, strerror(-r));
	adhoc->session_options.recording = adhoc->recording;
	return r;
}

/*
 * A recording without its trailer reads as cut off, so an error here is told.
 * Behind adhoc_done(): sessions write to it for as long as they are there.
 */
static void end_recording(struct adhoc *adhoc)
{
	int r;

	if (!adhoc->recording)
		return;
	r = recording_finish(adhoc->recording);
	if (r < 0)
		log_warning("%s is incomplete (%s), ignoring", adhoc->options->record,
			    strerror(-r));
	recording_writer_free(adhoc->recording);
}

static int attach_all(struct adhoc *adhoc)
{
	char message[SESSION_MESSAGE_BYTES];
	int r;

	for (size_t i = 0; i < adhoc->options->n_pids; i++) {
		if (adhoc_has_target(adhoc, adhoc->options->pids[i])) /* an earlier one's child */
			continue;
		r = open_and_start(adhoc, adhoc->options->pids[i], message);
		if (r < 0) {
			log_error("%s", message);
			return r;
		}
		/* Attaching takes its time, and the rings of those before fill meanwhile. */
		r = adhoc_consume(adhoc);
		if (r < 0)
			return r;
		if (adhoc->options->subprocesses)
			adhoc_follow_descendants(adhoc, adhoc->options->pids[i]);
	}
	return 0;
}

int adhoc_attach(const struct options *options)
{
	struct adhoc adhoc;
	int status = STATUS_FAILED;
	int r;

	r = prepare(&adhoc, options);
	if (r == 0)
		r = start_recording(&adhoc);
	if (r == 0)
		r = attach_all(&adhoc);
	if (r == 0)
		r = adhoc_loop(&adhoc);
	if (r >= 0 && adhoc.n_targets)
		status = finish(&adhoc);
	adhoc_done(&adhoc);
	end_recording(&adhoc);
	return status;
}

/* Looks at a Python of which the loader has mapped or relocated only a part. */
#define HALF_LOADED_MAX 500

struct waiting {
	struct adhoc *adhoc;
	char *message;
	unsigned half_loaded;
};

/* Has the child's interpreter come far enough to be read? Then the session starts here. */
static int try_to_attach(pid_t pid, void *context)
{
	struct waiting *waiting = context;
	int r;

	r = open_and_start(waiting->adhoc, pid, waiting->message);
	if (r == -EAGAIN)
		return LAUNCH_SOON;
	/* The loader is at work, or a shell that will become one. */
	if (r == -ENOENT)
		return LAUNCH_OTHER_PROGRAM;
	if ((r == -EPROTO || r == -EFAULT) && waiting->half_loaded++ < HALF_LOADED_MAX)
		return LAUNCH_SOON;
	return r < 0 ? r : LAUNCH_READY;
}

static int run_command(struct adhoc *adhoc, struct launch *launch)
{
	char message[SESSION_MESSAGE_BYTES] = "";
	struct waiting waiting = { .adhoc = adhoc, .message = message };
	int r;

	descriptors_raise_limit();
	r = launch_until(launch, try_to_attach, &waiting);
	launch_release(launch);
	if (r > 0)
		return adhoc_loop(adhoc);
	if (r == 0)
		log_error("%s ended before a Python started in it: run a Python program",
			  adhoc->options->arguments[0]);
	else if (r == -ETIME)
		log_error("%s is no Python so far: attach to its Python with --pid",
			  adhoc->options->arguments[0]);
	else if (r == -EINTR)
		log_error("%s was ended before a Python started in it: give it more time",
			  adhoc->options->arguments[0]);
	else
		log_error("%s", message);
	return r == 0 ? -ENOENT : r;
}

int adhoc_run(const struct options *options)
{
	struct adhoc adhoc;
	struct launch launch;
	int status = STATUS_FAILED;
	int r;

	r = prepare(&adhoc, options);
	if (r == 0)
		r = start_recording(&adhoc);
	if (r == 0) {
		r = launch_start(options->arguments, &launch);
		if (r < 0)
			log_error("%s can't be run (%s): give a program that is there and may be "
				  "executed",
				  options->arguments[0], strerror(-r));
	}
	if (r == 0) {
		r = run_command(&adhoc, &launch);
		if (r >= 0 && adhoc.n_targets)
			status = finish(&adhoc);
		/* The report comes first: what a command that ends gives back is not in it. */
		if (adhoc.signal)
			kill(launch.pid, adhoc.signal);
		launch_wait(&launch);
		if (status == STATUS_OK)
			status = launch_exit_status(&launch);
	}
	adhoc_done(&adhoc);
	end_recording(&adhoc);
	return status;
}
