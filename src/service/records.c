/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* What a record does: to the ledger, to the stacks, to the session. */
#include <errno.h>
#include <string.h>

#include "base/hash.h"
#include "service/sampling.h"
#include "service/session_private.h"

/* A free may be that of a code object: what was read of it must not name later stacks. */
static void note_free(struct session *session, uint64_t address)
{
	if (code_cache_forget(session->codes, address))
		session->codes_died = true;
	if (session->reconcile)
		reconcile_note_free(session->reconcile, address);
}

static void learn_stack(struct session *session, const struct wire_stack *record)
{
	if (stacks_learn(session->stacks, record) < 0)
		session->losses[REASON_STACK_UNKNOWN]++;
}

static void note_child(struct session *session, const struct wire_process *record)
{
	if (!session->target) /* in a replay nobody asks for them */
		return;
	if (session->n_children == SESSION_CHILDREN_MAX) {
		session->losses[REASON_CHILD_MISSED]++;
		session->missed_children = true;
		return;
	}
	session->children[session->n_children++] = (pid_t)record->pid;
}

/* From here on nothing counts: neither records nor what the heap looks like. */
static void freeze(struct session *session, enum snapshot_moment moment)
{
	session->moment = moment;
	if (session->reconcile)
		reconcile_freeze(session->reconcile);
}

/* Types are named while they live, and a program that ends by itself takes them along. */
static void note_creation(struct session *session, const struct wire_create *record)
{
	uint64_t type = record->type;
	uint64_t *named = &session->named_types[hash_u64(type) % SESSION_NAMED_TYPES];
	const char *name;

	if (type && type == session->code_type)
		code_cache_expect(session->codes, record->address);
	if (!type || *named == type)
		return;
	*named = type;
	type_cache_name(session->types, type, &name, NULL);
}

void session_record(struct session *session, const struct wire_header *record, size_t size)
{
	(void)size;
	/*
	 * The program is over: what comes is another's, in an address space of its own, or of a
	 * thread that was in the midst of a free when the interpreter set out to end.
	 */
	if (session_is_over(session))
		return;
	if (session->sampling && sampling_record(session, record)) {
		session->events++;
		return;
	}
	switch (record->kind) {
	case WIRE_STACK:
		learn_stack(session, (const void *)record);
		return;
	case WIRE_FORK:
		note_child(session, (const void *)record);
		return;
	case WIRE_EXEC:
		freeze(session, MOMENT_EXEC);
		session_refuse(session, "all that came after",
			       "the process started another program (exec), and the session ended "
			       "there");
		return;
	case WIRE_EXIT:
		freeze(session, MOMENT_EXIT);
		return;
	case WIRE_FINALIZE:
		freeze(session, MOMENT_FINALIZATION);
		return;
	case WIRE_CREATE:
		note_creation(session, (const void *)record);
		break;
	case WIRE_ALLOC:
		if (session->reconcile)
			reconcile_note_pool(session->reconcile, true);
		break;
	case WIRE_FREE:
		if (session->reconcile)
			reconcile_note_pool(session->reconcile, false);
		note_free(session, ((const struct wire_free *)record)->address);
		break;
	case WIRE_NATIVE_FREE:
		note_free(session, ((const struct wire_free *)record)->address);
		break;
	case WIRE_NATIVE_REALLOC:
		note_free(session, ((const struct wire_realloc *)record)->old_address);
		break;
	}
	session->events++;
	ledger_consume(session->ledger, record);
}

size_t session_children(struct session *session, pid_t *ret, size_t n)
{
	size_t taken = session->n_children < n ? session->n_children : n;

	for (size_t i = 0; i < taken; i++)
		ret[i] = session->children[i];
	for (size_t i = taken; i < session->n_children; i++)
		session->children[i - taken] = session->children[i];
	session->n_children -= taken;
	return taken;
}

bool session_missed_children(struct session *session)
{
	bool missed = session->missed_children;

	session->missed_children = false;
	return missed;
}

void session_release_children(struct session *session)
{
	int r;

	/* Sampled, all that was attached has gone by now, in children too. */
	if (!session->capture || session->sampling)
		return;
	r = capture_release_children(session->capture);
	if (r < 0)
		session_refuse(session, "freeing a forked child of breakpoints",
			       "%s, and the kernel does not take them out of the child (%s)",
			       reason_sentence(REASON_FORK_IN_WINDOW), strerror(-r));
}
