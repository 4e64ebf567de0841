/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* The body of a function: what control can reach from its entry, callees and covered functions not.
 */
#include "probes/native_private.h"

bool native_is_covered(const struct native *native, size_t index)
{
	for (size_t i = 0; i < native->n_covered; i++)
		if (native->covered[i] == index)
			return index != CODE_NONE;
	return false;
}

void native_cover(struct native *native, size_t index)
{
	if (index != CODE_NONE && native->n_covered < NATIVE_COVERED_MAX &&
	    !native_is_covered(native, index))
		native->covered[native->n_covered++] = index;
}

bool native_is_function_start(const struct native *native, size_t index)
{
	const struct image_range *ranges = native->entries->functions;
	const uint64_t vaddr = code_vaddr(native->code, index);
	size_t low = 0, high = native->entries->n_functions;

	while (low < high) {
		const size_t middle = low + (high - low) / 2;

		if (ranges[middle].start < vaddr)
			low = middle + 1;
		else if (ranges[middle].start > vaddr)
			high = middle;
		else
			return true;
	}
	return false;
}

size_t native_next(const struct native *native, size_t index)
{
	const size_t next = code_next(native->code, index);

	return next == CODE_NONE || native_is_function_start(native, next) ? CODE_NONE : next;
}

size_t native_target(const struct native *native, size_t index)
{
	const size_t target = code_target(native->code, index);
	uint64_t outside;

	if (target != CODE_NONE || !native->entries->resolve)
		return target;
	outside = code_branch_address(native->code, index);
	return outside ? native->entries->resolve(outside, native->entries->context) : CODE_NONE;
}

static void add(struct native *native, size_t index)
{
	struct native_body *body = &native->body;

	if (index == CODE_NONE || native->seen[index / 8] & 1 << index % 8)
		return;
	if (native_is_covered(native, index)) {
		body->calls_covered = true;
		return;
	}
	if (body->n == NATIVE_BODY_MAX) {
		body->cut = true;
		return;
	}
	native->seen[index / 8] |= (uint8_t)(1 << index % 8);
	body->at[body->n++] = (uint32_t)index;
}

static void follow(struct native *native, size_t index)
{
	const size_t target = native_target(native, index);

	switch (code_at(native->code, index)->flow) {
	case FLOW_CONDITIONAL:
	case FLOW_CONDITIONAL_OTHER:
		add(native, target);
		break;
	case FLOW_JUMP:
		add(native, target);
		return;
	case FLOW_CALL:
		if (native_is_covered(native, target))
			native->body.calls_covered = true;
		break;
	case FLOW_JUMP_INDIRECT:
	case FLOW_STOP:
		return;
	default:
		break;
	}
	add(native, native_next(native, index));
}

void native_body_collect(struct native *native, size_t entry)
{
	struct native_body *body = &native->body;

	for (size_t i = 0; i < body->n; i++)
		native->seen[body->at[i] / 8] &= (uint8_t) ~(1 << body->at[i] % 8);
	body->n = 0;
	body->cut = body->calls_covered = false;
	add(native, entry);
	for (size_t i = 0; i < body->n; i++)
		follow(native, body->at[i]);
}
