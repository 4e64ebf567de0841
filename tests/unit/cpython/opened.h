/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* An interpreter that runs a script of this folder, opened as a target is. */
#ifndef TESTS_CPYTHON_OPENED_H
#define TESTS_CPYTHON_OPENED_H

#include "interpreters.h"
#include "live.h"

/* The script says its version first. errors: as in child_start_with(). */
static inline void opened_start(struct child *child, struct live *live, struct interpreter **ret,
				const char *command, const char *script, int errors)
{
	struct fault fault = { 0 };
	const char *rest;

	child_start_with(child, command, script, errors);
	child_layout(child, &rest);
	assert_true(live_open(live, child->pid));
	if (live_interpreter(live, ret, &fault) != 0)
		fail_msg("%s: %s", reason_sentence(fault.reason), fault.field);
}

static inline void opened_stop(struct child *child, struct live *live,
			       struct interpreter *interpreter)
{
	interpreter_free(interpreter);
	live_close(live);
	child_stop(child);
}

#endif
