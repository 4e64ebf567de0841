/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * What a hit does besides where sites go in by group: it is counted at its
 * site, and its group's limit may silence it.  Only behind settings.windows,
 * which the verifier takes for a constant: without, nothing of it is in the
 * loaded programs.
 */
#ifndef PYLEAKD_BPF_WINDOW_H
#define PYLEAKD_BPF_WINDOW_H

struct window_group window_groups[WINDOW_GROUPS_MAX] __attribute__((aligned(64)));

/* Their sizes are set when they are loaded; user space maps both. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct window_site);
} window_sites SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct pool_set);
} pool_sets SEC(".maps");

/* False: there was no room for it, and the next hit tries again. */
static __always_inline bool limit_emit(__u64 group, __u64 hits, __u32 tid)
{
	struct wire_limit *record = bpf_ringbuf_reserve(&ring, sizeof(*record), 0);

	if (!record)
		return false;
	record->header.kind = WIRE_LIMIT;
	record->header.flags = 0;
	record->header.site = group;
	record->header.tid = tid;
	record->hits = hits;
	bpf_ringbuf_submit(record, BPF_RB_FORCE_WAKEUP);
	return true;
}

/*
 * Once for each limit: a refill stores the new one to armed first, so that
 * whoever still compares with the old one finds that it does not match.
 */
static __noinline int limit_tell(__u64 number, __u64 hits, __u32 tid)
{
	struct window_group *group = &window_groups[number & (WINDOW_GROUPS_MAX - 1)];
	__u64 limit = IN_MEMORY(group->limit);

	/* A limit of 0 is one that nobody waits for: the group is to be silent. */
	if (!limit || hits <= limit || IN_MEMORY(group->armed) != limit ||
	    __sync_val_compare_and_swap(&group->armed, limit, 0) != limit)
		return 0;
	if (!limit_emit(number, hits, tid))
		__sync_val_compare_and_swap(&group->armed, 0, limit);
	return 0;
}

/* Where a site's counter is. */
static __always_inline __u32 window_place(__u64 cookie)
{
	__u32 place = settings.site_base[cookie >> 29 & 3] + (__u32)(cookie >> 48);

	return cookie & WIRE_COOKIE_NEW_POOLS ? place + settings.n_window_sites : place;
}

/*
 * Counts a hit, whether the site's condition holds or not: the target has paid
 * for the trap. False: it does not, or its group has had as many as it may.
 */
static __always_inline bool window_admits(__u64 cookie, __u32 tid, bool taken)
{
	__u32 place = window_place(cookie);
	struct window_group *group;
	struct window_site *site;
	__u64 number, hits;

	site = bpf_map_lookup_elem(&window_sites, &place);
	if (!site) {
		count_loss(WIRE_LOSS_UNKNOWN_SITE);
		return false;
	}
	__sync_fetch_and_add(&site->hits, 1);
	number = site->group & (WINDOW_GROUPS_MAX - 1);
	group = &window_groups[number];
	hits = __sync_fetch_and_add(&group->hits, 1);
	if (hits < IN_MEMORY(group->limit)) {
		if (!taken)
			__sync_fetch_and_add(&group->untaken, 1);
		return taken;
	}
	limit_tell(number, hits + 1, tid);
	return false;
}

/* Its 64 pools' set, made if need be; 0: no room. */
static __always_inline struct pool_set *pool_set_claim(__u64 key)
{
	__u32 place = pool_set_place(key);

	for (int i = 0; i < POOL_SET_PROBES; i++) {
		__u32 index = (place + i) & (POOL_SETS - 1);
		struct pool_set *set = bpf_map_lookup_elem(&pool_sets, &index);
		__u64 found;

		if (!set)
			return 0;
		found = IN_MEMORY(set->key);
		if (!found)
			found = __sync_val_compare_and_swap(&set->key, 0, key);
		if (!found || found == key)
			return set;
	}
	return 0;
}

/* Whether no pool has been at this address; from now on one has. */
static __noinline bool pool_is_new(__u64 pool)
{
	__u64 number = pool / settings.pool_bytes;
	__u64 bit = 1ULL << (number % POOL_SET_BITS);
	struct pool_set *set = pool_set_claim(number / POOL_SET_BITS + 1);

	if (!set) {
		count_loss(WIRE_LOSS_POOL_MAP_FULL);
		return false;
	}
	return !(__sync_fetch_and_or(&set->bits, bit) & bit);
}

#endif
