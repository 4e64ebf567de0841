/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "probes/walk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

DEFINE_CLEANUP(struct walk *, walk_free)

int walk_new(struct code *code, struct walk **ret)
{
	CLEANUP(walk_free) struct walk *walk = calloc(1, sizeof(*walk));
	int error;

	if (!walk)
		return -ENOMEM;
	walk->code = code;
	error = symbols_new(&walk->symbols);
	if (error)
		return error;
	*ret = TAKE_PTR(walk);
	return 0;
}

void walk_free(struct walk *walk)
{
	if (!walk)
		return;
	symbols_free(walk->symbols);
	free(walk);
}

static void path_copy(struct walk_path *to, const struct walk_path *from)
{
	memcpy(to, from, offsetof(struct walk_path, state));
	state_copy(&to->state, &from->state);
}

/* The taken arm waits, the path itself goes on with the other. */
static void conditional(struct walk *walk, const struct walk_limits *limits)
{
	struct walk_path *path = &walk->path;
	const size_t target = code_target(walk->code, path->index);

	if (path->passed && target != CODE_NONE && path->branches < limits->path_forks &&
	    walk->n_waiting < WALK_DEPTH_MAX) {
		struct walk_path *taken = &walk->waiting[walk->n_waiting++];

		path_copy(taken, path);
		taken->index = target;
		taken->branches++;
	}
	if (path->passed)
		path->branches++;
	path->index = path->branches > limits->path_branches ? CODE_NONE
							     : code_next(walk->code, path->index);
}

static int plain(struct walk *walk, const struct walk_visitor *visitor, void *context)
{
	struct walk_path *path = &walk->path;
	const unsigned stores = path->state.n_stores;
	int error;

	error = state_step(walk->symbols, &path->state, walk->code, path->index);
	if (error == -ENOBUFS) {
		path->index = CODE_NONE;
		return 0;
	}
	if (error)
		return error;
	if (visitor->stored && path->state.n_stores != stores)
		visitor->stored(walk, path, context);
	path->index = code_next(walk->code, path->index);
	return 0;
}

/* Executes the instruction at path->index and leaves the next one there; CODE_NONE ends it. */
static int advance(struct walk *walk, const struct walk_limits *limits,
		   const struct walk_visitor *visitor, void *context)
{
	struct walk_path *path = &walk->path;
	size_t target;

	switch (code_at(walk->code, path->index)->flow) {
	case FLOW_CONDITIONAL:
		visitor->conditional(walk, path, context);
		conditional(walk, limits);
		return 0;
	case FLOW_CONDITIONAL_OTHER:
		conditional(walk, limits);
		return 0;
	case FLOW_JUMP:
		target = code_target(walk->code, path->index);
		if (target == CODE_NONE && visitor->call)
			visitor->call(walk, path, context);
		path->index = target;
		return 0;
	case FLOW_JUMP_INDIRECT:
		if (visitor->call)
			visitor->call(walk, path, context);
		path->index = CODE_NONE;
		return 0;
	case FLOW_STOP:
		path->index = CODE_NONE;
		return 0;
	case FLOW_CALL:
	case FLOW_CALL_INDIRECT:
		if (visitor->call && visitor->call(walk, path, context)) {
			path->index = CODE_NONE;
			return 0;
		}
		return plain(walk, visitor, context);
	default:
		return plain(walk, visitor, context);
	}
}

static void begin(struct walk *walk, size_t start)
{
	symbols_reset(walk->symbols);
	walk->n_waiting = 0;
	walk->path.index = start;
	walk->path.steps = walk->path.branches = 0;
	walk->path.passed = false;
	walk->path.n_pending = 0;
	state_begin(&walk->path.state);
}

int walk_run(struct walk *walk, size_t start, size_t pivot, const struct walk_limits *limits,
	     const struct walk_visitor *visitor, void *context)
{
	struct walk_path *path = &walk->path;
	unsigned steps = 0;

	begin(walk, start);
	for (;;) {
		while (path->index != CODE_NONE && path->steps < limits->path_steps) {
			int error;

			if (path->index == pivot)
				path->passed = true;
			path->steps++;
			steps++;
			error = advance(walk, limits, visitor, context);
			if (error)
				return error;
		}
		if (walk->n_waiting == 0 || steps > limits->steps)
			return 0;
		path_copy(path, &walk->waiting[--walk->n_waiting]);
	}
}

size_t walk_start_before(const struct code *code, size_t index, unsigned back)
{
	size_t start = index;

	for (unsigned i = 0; i < back; i++) {
		const size_t before = code_previous(code, start);

		if (before == CODE_NONE)
			break;
		switch (code_at(code, before)->flow) {
		case FLOW_NEXT:
		case FLOW_CONDITIONAL:
		case FLOW_CONDITIONAL_OTHER:
			start = before;
			continue;
		default:
			return start;
		}
	}
	return start;
}
