/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "service/probing.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/text.h"
#include "capture/kernel.h"
#include "capture/kernel_log.h"
#include "service/session_private.h"
#include "target/cgroup.h"

#define PROBES "probes"

/* Why a phase failed: the fault's sentence, with the error where that says more. */
static void refuse_phase(struct session *session, const char *phase, int error,
			 const struct fault *fault)
{
	const char *why = session->capture ? capture_load_refusal(session->capture) : "";
	const char *more = kernel_error_is_of_the_asking(error) ? kernel_error_text(error) : NULL;

	if (more == fault->field)
		more = NULL; /* it is said already */

	if (why[0])
		session_refuse(session, PROBES, "%s: %s", phase, why);
	else if (fault->reason == REASON_NONE)
		session_refuse(session, PROBES, "%s: %s", phase, strerror(-error));
	else
		session_refuse(session, PROBES, "%s: %s%s%s%s%s", phase,
			       reason_sentence(fault->reason), fault->field ? ": " : "",
			       fault->field ? fault->field : "", more ? ": " : "",
			       more ? more : "");
}

int probing_check_headroom(const struct session *session, char *ret_message)
{
	char free_text[TEXT_NUMBER_MAX], cost_text[TEXT_NUMBER_MAX], margin_text[TEXT_NUMBER_MAX];
	struct cgroup_headroom headroom;
	uint64_t cost_bytes = capture_cost_bytes(session->capture);
	int r;

	r = cgroup_headroom(session->facts.pid, &headroom);
	if (r == -ENODATA) /* no group of ours to see limits it */
		return 0;
	if (r < 0) {
		snprintf(ret_message, SESSION_MESSAGE_BYTES, "its memory limits can't be read: %s",
			 strerror(-r));
		return r;
	}
	if (headroom.reclaimable_bytes == CGROUP_UNLIMITED ||
	    headroom.reclaimable_bytes >= cost_bytes + PROBING_MARGIN_BYTES)
		return 0;
	snprintf(ret_message, SESSION_MESSAGE_BYTES,
		 "%s: %s are left below the limit of %.200s, breakpoints take %s, and %s are to "
		 "stay free",
		 reason_sentence(REASON_NO_HEADROOM),
		 text_bytes(free_text, (double)headroom.reclaimable_bytes), headroom.group,
		 text_bytes(cost_text, (double)cost_bytes),
		 text_bytes(margin_text, PROBING_MARGIN_BYTES));
	return -ENOSPC;
}

/* Of a target that has begun to end already, the end is not told by this word any more. */
static uint64_t finalizing_address(const struct session *session)
{
	bool finalizing;

	if (interpreter_is_finalizing(session->interpreter, &finalizing, NULL) < 0 || finalizing)
		return 0;
	return interpreter_finalizing_address(session->interpreter);
}

static int prepare(struct session *session, struct fault *reterr_fault)
{
	struct opening *target = session->target;
	struct capture_file files[CAPTURE_FILES_MAX];
	struct capture_options options = {
		.pid = session->facts.pid,
		.files = files,
		.interpreter_start = target->python.text_start,
		.interpreter_end = target->python.text_end,
		.finalizing_address = finalizing_address(session),
		.ring_bytes = session->options.ring_bytes,
		.native = session->options.native,
		.windows = session->options.sampled,
	};
	int r;

	r = opening_stack_layout(target, &options.layout, reterr_fault);
	if (r < 0)
		return r;
	files[options.n_files++] = (struct capture_file){
		.plan = target->python.plan,
		.path = target->python.path,
		.bias = target->python.bias,
	};
	if (target->libc.plan)
		files[options.n_files++] = (struct capture_file){
			.plan = target->libc.plan,
			.path = target->libc.path,
			.bias = target->libc.bias,
		};
	return capture_prepare(&options, &session->capture, reterr_fault);
}

static int attach(struct session *session, struct fault *reterr_fault)
{
	int r;

	r = capture_load(session->capture, reterr_fault);
	if (r < 0)
		return r;
	r = capture_attach(session->capture, reterr_fault);
	if (r < 0)
		return r;
	return capture_activate(session->capture);
}

/* Sites that the kernel or a guard turned down, while the rest went in. */
static void tell_refused_sites(struct session *session)
{
	const struct capture_refusal *refusals;
	size_t n = capture_refusals(session->capture, &refusals);
	char what[64];

	for (size_t i = 0; i < n; i++) {
		snprintf(what, sizeof(what), "%u probe site%s", refusals[i].sites,
			 refusals[i].sites == 1 ? "" : "s");
		session_refuse(session, what, "%s (the first at 0x%llx)",
			       reason_sentence(refusals[i].reason),
			       (unsigned long long)refusals[i].vaddr);
	}
}

/* Sites that the plan could not make use of: what passes there leaves no trace. */
static void tell_unresolved(struct session *session, const char *whose, const struct plan *plan)
{
	char what[64];

	if (!plan || !plan->statistics.unresolved)
		return;
	snprintf(what, sizeof(what), "%u places of %s", plan->statistics.unresolved, whose);
	session_refuse(session, what,
		       "they allocate or free, but their machine code does not tell what: what "
		       "passes there is not seen");
}

static void drop_capture(struct session *session)
{
	capture_free(session->capture);
	session->capture = NULL;
}

static int start(struct session *session)
{
	struct fault fault = FAULT_NONE;
	char message[SESSION_MESSAGE_BYTES];
	int r;

	r = prepare(session, &fault);
	if (r < 0) {
		refuse_phase(session, "they could not be prepared", r, &fault);
		return r;
	}
	if (!session->options.sampled) /* which asks before each opening */
		r = probing_check_headroom(session, message);
	if (r < 0) {
		session_refuse(session, PROBES, "%s", message);
		return r;
	}
	r = attach(session, &fault);
	if (r < 0)
		refuse_phase(session, "they could not be attached", r, &fault);
	return r;
}

int probing_start(struct session *session)
{
	struct opening *target = session->target;
	char message[OPENING_MESSAGE_BYTES];
	int r;

	r = opening_plan(target,
			 &(struct opening_plan_options){
				 .native = session->options.native,
				 .callers = session->options.sampled &&
					    getenv("PYLEAKD_CALLERS"), /* bench/callers.py */
				 .plan_cache = session->options.plan_cache,
			 },
			 message);
	if (r < 0) {
		session_refuse(session, PROBES, "%s", message);
		return r;
	}
	if (session->options.native && !target->libc.plan)
		session_refuse(session, "native allocations", "%s", target->native_refusal);
	r = start(session);
	if (r < 0) {
		drop_capture(session);
		return r;
	}
	tell_refused_sites(session);
	tell_unresolved(session, "the interpreter", target->python.plan);
	tell_unresolved(session, "the C library", target->libc.plan);
	session->hit_seconds = capture_trap_ns() / NS_PER_SECOND;
	return 0;
}
