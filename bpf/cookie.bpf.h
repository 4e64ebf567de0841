/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The cookie of the site that was hit.  A link to many uprobes has one for each
 * of its sites; an event of tracefs has none, so that it is looked up by the
 * address of the instruction.  The verifier takes the switch for a constant:
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

/* The one whose condition holds; false: none does. */
static __always_inline bool cookie_by_address(const struct pt_regs *ctx, __u32 program, __u64 *ret)
{
	__u64 address = program == PROGRAM_NATIVE_RETURN ? 0 : ctx->ip;
	__u64 key = SITE_COOKIES_KEY(program, address);
	const struct site_cookies *found = bpf_map_lookup_elem(&site_cookies, &key);
	__u64 cookie;

	if (!found) {
		count_loss(WIRE_LOSS_UNKNOWN_SITE);
		return false;
	}
	cookie = found->cookies[0];
	if (found->n > 1 && !condition_holds(cookie_condition(cookie), ctx->flags))
		cookie = found->cookies[1];
	*ret = cookie;
	return condition_holds(cookie_condition(cookie), ctx->flags);
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
