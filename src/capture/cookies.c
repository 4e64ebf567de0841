/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* What the programs know of a site: its cookie, or where to look it up. */
#include <errno.h>

#include "capture/capture_private.h"

__u64 site_cookie(const struct capture_site *site)
{
	const struct plan_site *plan = site->plan;

	return WIRE_COOKIE(plan->kind, plan->reg, plan->value, plan->condition, plan->displacement,
			   site->index) |
	       WIRE_COOKIE_RETURN_SLOT(plan->return_slot) |
	       WIRE_COOKIE_SIZE_REGISTER(plan->size_register);
}

static size_t n_sites(const struct capture *capture)
{
	size_t n = 0;

	for (size_t i = 0; i < capture->n_files; i++)
		n += capture->files[i].n_sites;
	return n;
}

void cookies_sizes(struct capture *capture)
{
	/* A fresh-pool site is there once as what it is, once as one that tells new pools. */
	size_t n = 2 * n_sites(capture);

	if (capture->settings.cookie_by_address && n)
		bpf_map__set_max_entries(capture->skeleton->maps.site_cookies, (uint32_t)n);
}

/* Conditions come in pairs of which one holds (Intel SDM vol. 2, appendix B). */
static bool exclude_each_other(__u64 one, __u64 other)
{
	__u64 a = one >> 12 & 31, b = other >> 12 & 31;

	return a != WIRE_CONDITION_ALWAYS && (a ^ 1) == b;
}

/* -E2BIG: more sites there than one hit can tell apart. */
static int add_cookie(struct capture *capture, __u64 key, __u64 cookie)
{
	int table = bpf_map__fd(capture->skeleton->maps.site_cookies);
	struct site_cookies cookies;

	if (bpf_map_lookup_elem(table, &key, &cookies))
		cookies = (struct site_cookies){0};
	if (cookies.n == SITE_COOKIES_MAX ||
	    (cookies.n && !exclude_each_other(cookies.cookies[0], cookie)))
		return -E2BIG;
	cookies.cookies[cookies.n++] = cookie;
	return bpf_map_update_elem(table, &key, &cookies, BPF_ANY) ? -errno : 0;
}

/* One that would take another's hits, and a second return probe: its hits count as the first's. */
static int add_site(struct capture *capture, struct capture_site *site, uint64_t bias, __u64 more)
{
	bool returns = site->program == PROGRAM_NATIVE_RETURN;
	uint64_t address = site->plan->vaddr + bias;
	__u64 cookie = site_cookie(site) | more;
	int r;

	r = add_cookie(capture, SITE_COOKIES_KEY(site->program, returns ? 0 : address), cookie);
	if (r == -E2BIG && !returns) {
		site->state = SITE_REFUSED;
		sites_refuse(capture, REASON_KERNEL_REFUSED_SITE, site);
	}
	if (r == -E2BIG)
		return 0;
	if (r == 0 && capture->windows && site->plan->kind == SITE_FRESH)
		r = add_cookie(capture, SITE_COOKIES_KEY(PROGRAM_NEW_POOL, address),
			       cookie | WIRE_COOKIE_NEW_POOLS);
	return r;
}

/* Once for all groups: what a site's cookie has besides is the same in each. */
int cookies_fill(struct capture *capture)
{
	int r = 0;

	if (!capture->settings.cookie_by_address || capture->empty_programs)
		return 0;
	for (size_t i = 0; i < capture->n_files; i++) {
		const struct probed_file *file = &capture->files[i];

		for (size_t j = 0; j < file->n_sites && r == 0; j++)
			if (file->sites[j].state != SITE_REFUSED)
				r = add_site(capture, &file->sites[j], file->bias,
					     capture->windows ? WIRE_COOKIE_FILE(i) : 0);
	}
	return r;
}
