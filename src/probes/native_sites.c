/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Which instructions of a body become sites.  A path from entry to return ends
 * with a straight line, and that begins behind exactly one conditional jump:
 * the arm is the site, so that each block comes once.  Where the block can't
 * be named there, a direct jump on the line is the site instead ("late").
 */
#include <errno.h>

#include "probes/native_private.h"

#define ENTRY_STEPS 16

int native_site_add(struct native *native, size_t index, const struct plan_site *site)
{
	struct native_sites *sites = native->sites;

	/* Bodies may share what is no function of its own. */
	for (size_t i = 0; i < sites->n; i++)
		if (sites->items[i].at == index &&
		    sites->items[i].site.condition == site->condition)
			return 0;
	if (sites->n == NATIVE_SITES_MAX)
		return -E2BIG;
	sites->items[sites->n++] = (struct native_site){(uint32_t)index, *site};
	return 0;
}

static bool passes_late_jump(const struct native *native, const struct native_line *line)
{
	for (size_t i = 0; i < line->n_jumps; i++)
		for (size_t k = 0; k < native->n_late; k++)
			if (line->jumps[i] == native->late[k])
				return true;
	return false;
}

/*
 * An arm on which the block is loaded after the conditional jump (glibc 2.31's
 * thread cache) may pass a direct jump, which is emulated as well, when it has
 * it.  That jump becomes a site, for all arms that pass it.  The last one that
 * will do: lines that meet go on as one, so that all of them choose the same.
 */
static int late_jump(struct native *native, enum native_function function,
		     const struct native_line *arm)
{
	struct native_line line;
	struct plan_site site;
	int r;

	for (size_t i = arm->n_jumps; i-- > 0;) {
		const size_t target = native_target(native, arm->jumps[i]);

		if (target == CODE_NONE || native->n_late == NATIVE_LATE_MAX ||
		    !code_is_emulated(native->code, arm->jumps[i]))
			continue;
		r = native_line_match(native, function, target, &line, &site);
		if (r < 0 && r != -ENOENT)
			return r;
		if (r != 1)
			continue;
		native->late[native->n_late++] = arm->jumps[i];
		return native_site_add(native, arm->jumps[i], &site);
	}
	native->sites->unresolved++;
	return 0;
}

/* named_by_jump: a conditional jump on the flags leads there, which will do if the block has a
 * name. */
static int find_late_jump(struct native *native, enum native_function function, size_t index,
			  bool named_by_jump)
{
	struct native_line line;
	struct plan_site site;
	int r;

	if (index == CODE_NONE)
		return 0;
	r = native_line_match(native, function, index, &line, &site);
	if (r < 0 && r != -ENOENT)
		return r;
	if (r == 0 || (r == 1 && named_by_jump) || passes_late_jump(native, &line))
		return 0;
	return late_jump(native, function, &line);
}

static size_t arm_entry(const struct native *native, size_t jump, bool taken)
{
	return taken ? native_target(native, jump) : native_next(native, jump);
}

static int find_late_jumps(struct native *native, enum native_function function)
{
	const struct native_body *body = &native->body;
	int r;

	r = find_late_jump(native, function, body->at[0], false);
	for (size_t i = 0; i < body->n && r == 0; i++) {
		const uint8_t flow = code_at(native->code, body->at[i])->flow;

		if (flow != FLOW_CONDITIONAL && flow != FLOW_CONDITIONAL_OTHER)
			continue;
		for (int taken = 0; taken <= 1 && r == 0; taken++)
			r = find_late_jump(native, function, arm_entry(native, body->at[i], taken),
					   flow == FLOW_CONDITIONAL);
	}
	return r;
}

static bool same_value(const struct plan_site *a, const struct plan_site *b)
{
	return a->reg == b->reg && a->value == b->value && a->displacement == b->displacement &&
	       a->return_slot == b->return_slot;
}

static int match_jump(struct native *native, enum native_function function, size_t jump)
{
	const uint8_t condition = code_at(native->code, jump)->condition;
	struct native_line line;
	struct plan_site sites[2];
	int n = 0;
	int r = 0;

	for (int taken = 0; taken <= 1; taken++) {
		const size_t entry = arm_entry(native, jump, taken);

		if (entry == CODE_NONE)
			continue;
		r = native_line_match(native, function, entry, &line, &sites[n]);
		if (r < 0 && r != -ENOENT)
			return r;
		if (r == 1 && !passes_late_jump(native, &line))
			sites[n++].condition = taken ? condition : condition ^ 1;
	}
	if (n == 2 && same_value(&sites[0], &sites[1])) {
		sites[0].condition = WIRE_CONDITION_ALWAYS;
		n = 1;
	}
	r = 0;
	for (int i = 0; i < n && r == 0; i++)
		r = native_site_add(native, jump, &sites[i]);
	return r;
}

int native_match_body(struct native *native, enum native_function function)
{
	const struct native_body *body = &native->body;
	int r;

	native->n_late = 0;
	native->sites->unresolved += body->cut;
	r = find_late_jumps(native, function);
	for (size_t i = 0; i < body->n && r == 0; i++)
		if (code_at(native->code, body->at[i])->flow == FLOW_CONDITIONAL)
			r = match_jump(native, function, body->at[i]);
	return r;
}

static int is_branch(size_t branch, void *context)
{
	(void)branch;
	(void)context;
	return 1;
}

/* Can the instruction be reached from anywhere but the one above? */
static bool is_jumped_to(const struct native *native, size_t index)
{
	return code_branches_to_visit(native->code, index, is_branch, NULL) != 0;
}

/* The lowest-numbered register that holds the first argument; CODE_REGISTER_NONE. */
static uint8_t argument_holder(const struct state *state)
{
	const uint16_t holders = state_registers_of(state, symbols_initial(CODE_RDI));

	return holders ? (uint8_t)__builtin_ctz(holders) : CODE_REGISTER_NONE;
}

/*
 * The first emulated instruction of a function at which its first argument is
 * still in a register: on the straight line from the entry, which nothing else
 * jumps into.
 */
int native_match_entry(struct native *native, enum native_function function, uint8_t kind)
{
	struct plan_site site = {.kind = kind, .condition = WIRE_CONDITION_ALWAYS};
	size_t index = native->entries->at[function];
	struct state state;
	int r;

	if (index == CODE_NONE)
		return 0;
	symbols_reset(native->symbols);
	state_begin(&state);
	for (unsigned step = 0; step < ENTRY_STEPS && index != CODE_NONE; step++) {
		if (step > 0 && is_jumped_to(native, index))
			break;
		site.reg = argument_holder(&state);
		if (code_is_emulated(native->code, index) && site.reg != CODE_REGISTER_NONE)
			return native_site_add(native, index, &site);
		if (code_at(native->code, index)->flow != FLOW_NEXT)
			break;
		r = state_step(native->symbols, &state, native->code, index);
		if (r < 0)
			return r;
		index = native_next(native, index);
	}
	native->sites->unresolved++;
	return 0;
}
