/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The cookie of the site that was hit.  A link to many uprobes has one for each
 * of its sites; an event of tracefs has one for all, so that the site's is looked
 * up by the address of the instruction.  The verifier takes the switch for a constant:
 * only one of the two is in the loaded programs.
 */
#ifndef PYLEAKD_BPF_COOKIE_H
#define PYLEAKD_BPF_COOKIE_H

/* Filled before the programs are attached, and read only from then on. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, __u64);
	__type(value, struct site_cookies);
} site_cookies SEC(".maps");

/* Is the site in the group whose event this hit is of? Events have the group's number + 1. */
static __always_inline bool in_this_group(__u64 cookie, __u64 event)
{
	__u32 place = window_place(cookie);
	const struct window_site *site = bpf_map_lookup_elem(&window_sites, &place);

	return site && site->group + 1 == event;
}

/*
 * Of an address's two sites the one whose condition holds.  Where they are in
 * two groups, each group's event comes, and means its own.
 */
static __always_inline __u64 cookie_choose(struct pt_regs *ctx, const struct site_cookies *found)
{
	bool holds = condition_holds(cookie_condition(found->cookies[0]), ctx->flags);
	__u64 event;

	if (!settings.windows)
		return found->cookies[!holds];
	event = bpf_get_attach_cookie(ctx);
	if (!in_this_group(found->cookies[0], event))
		return found->cookies[1];
	return found->cookies[!holds && in_this_group(found->cookies[1], event)];
}

/* False: its condition does not hold. */
static __always_inline bool cookie_by_address(struct pt_regs *ctx, __u32 program, __u64 *ret)
{
	__u64 address = program == PROGRAM_NATIVE_RETURN ? 0 : ctx->ip;
	__u64 key = SITE_COOKIES_KEY(program, address);
	const struct site_cookies *found = bpf_map_lookup_elem(&site_cookies, &key);

	if (!found) {
		count_loss(WIRE_LOSS_UNKNOWN_SITE);
		return false;
	}
	*ret = found->n > 1 ? cookie_choose(ctx, found) : found->cookies[0];
	return condition_holds(cookie_condition(*ret), ctx->flags);
}

/* False: the site's condition does not hold, so that nothing has happened. */
static __always_inline bool cookie_take(struct pt_regs *ctx, __u32 program, __u64 *ret)
{
	if (settings.cookie_by_address)
		return cookie_by_address(ctx, program, ret);
	*ret = bpf_get_attach_cookie(ctx);
	return condition_holds(cookie_condition(*ret), ctx->flags);
}

#endif
