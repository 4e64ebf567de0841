/* SPDX-License-Identifier: MIT OR GPL-2.0 */
#include "capture/windows.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "capture/capture_private.h"

_Static_assert(CAPTURE_GROUPS_MAX <= WINDOW_GROUPS_MAX, "groups");
_Static_assert(CAPTURE_FILES_MAX <= 4, "the cookie has two bits for the file");

/* --- what the programs share with us ------------------------------------------------------- */

void windows_settings(struct capture *capture)
{
	struct settings *settings = &capture->settings;

	if (!capture->windows)
		return;
	settings->windows = 1;
	for (size_t i = 0; i < capture->n_files; i++) {
		settings->site_base[i] = settings->n_window_sites;
		settings->n_window_sites += (uint32_t)capture->files[i].n_sites;
	}
}

/* Entries: once as what the site is, once as one that tells new pools. */
static size_t n_counters(const struct capture *capture)
{
	return capture->settings.n_window_sites ? 2 * (size_t)capture->settings.n_window_sites : 1;
}

static size_t whole_pages(size_t bytes)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	return (bytes + page - 1) & ~(page - 1);
}

void windows_sizes(struct capture *capture)
{
	if (!capture->windows)
		return;
	bpf_map__set_max_entries(capture->skeleton->maps.window_sites,
				 (uint32_t)n_counters(capture));
	bpf_map__set_max_entries(capture->skeleton->maps.pool_sets, POOL_SETS);
}

static int map_values(const struct bpf_map *map, size_t bytes, void **ret)
{
	void *values = mmap(NULL, whole_pages(bytes), PROT_READ | PROT_WRITE, MAP_SHARED,
			    bpf_map__fd(map), 0);

	if (values == MAP_FAILED)
		return -errno;
	*ret = values;
	return 0;
}

int windows_map(struct capture *capture)
{
	void *values;
	int r;

	if (!capture->windows)
		return 0;
	r = map_values(capture->skeleton->maps.window_sites,
		       n_counters(capture) * sizeof(struct window_site), &values);
	if (r < 0)
		return r;
	capture->window_sites = values;
	for (size_t i = 0; i < n_counters(capture); i++)
		capture->window_sites[i].group = WINDOW_NO_GROUP;
	r = map_values(capture->skeleton->maps.pool_sets, POOL_SETS * sizeof(struct pool_set),
		       &values);
	if (r == 0)
		capture->pool_sets = values;
	return r;
}

void windows_done(struct capture *capture)
{
	if (capture->window_sites)
		munmap(capture->window_sites,
		       whole_pages(n_counters(capture) * sizeof(struct window_site)));
	if (capture->pool_sets)
		munmap(capture->pool_sets, whole_pages(POOL_SETS * sizeof(struct pool_set)));
	capture->window_sites = NULL;
	capture->pool_sets = NULL;
	for (size_t i = 0; i < CAPTURE_GROUPS_MAX; i++)
		site_set_done(&capture->groups[i].set);
}

static struct window_group *shared_group(const struct capture *capture, unsigned group)
{
	return &capture->skeleton->bss->window_groups[group];
}

static size_t counter_of(const struct capture *capture, const struct capture_group *group,
			 const struct capture_site *site)
{
	return capture->settings.site_base[group->file - capture->files] + site->index +
	       (group->set.new_pools ? capture->settings.n_window_sites : 0);
}

/* --- definition ------------------------------------------------------------------------------ */

/* Where each site of the plan stands among the sorted ones; -EINVAL: one is named twice. */
static int find_sites(const struct probed_file *file, const uint16_t *sites, size_t n_sites,
		      uint16_t *ret_places)
{
	_cleanup_free_ bool *wanted = calloc(file->n_sites + 1, sizeof(*wanted));
	size_t n = 0;

	if (!wanted)
		return -ENOMEM;
	for (size_t i = 0; i < n_sites; i++) {
		if (sites[i] >= file->n_sites || wanted[sites[i]])
			return -EINVAL;
		wanted[sites[i]] = true;
	}
	for (size_t i = 0; i < file->n_sites; i++) {
		if (wanted[file->sites[i].index])
			ret_places[n++] = (uint16_t)i;
	}
	return 0;
}

static int define(struct capture *capture, unsigned number, unsigned file, const uint16_t *sites,
		  size_t n_sites, bool new_pools)
{
	_cleanup_free_ uint16_t *places = calloc(n_sites + 1, sizeof(*places));
	struct capture_group *group;
	struct site_set set;
	int r;

	if (!places)
		return -ENOMEM;
	if (!capture->windows || number >= CAPTURE_GROUPS_MAX || file >= capture->n_files)
		return -EINVAL;
	group = &capture->groups[number];
	if (group->is_open)
		return -EBUSY;
	r = find_sites(&capture->files[file], sites, n_sites, places);
	if (r == 0)
		r = site_set_init(&set, &capture->files[file], places, n_sites);
	if (r < 0)
		return r;
	set.new_pools = new_pools;
	set.event = number + 1;
	set.cookie = WIRE_COOKIE_FILE(file) | (new_pools ? WIRE_COOKIE_NEW_POOLS : 0);
	site_set_done(&group->set);
	*group = (struct capture_group){.file = &capture->files[file], .set = set};
	return 0;
}

int capture_group_define(struct capture *capture, unsigned group, unsigned file,
			 const uint16_t *sites, size_t n_sites)
{
	return define(capture, group, file, sites, n_sites, false);
}

int capture_group_define_pools(struct capture *capture, unsigned group, unsigned file)
{
	_cleanup_free_ uint16_t *sites = NULL;
	const struct probed_file *probed;
	size_t n = 0;

	if (file >= capture->n_files)
		return -EINVAL;
	probed = &capture->files[file];
	sites = calloc(probed->n_sites + 1, sizeof(*sites));
	if (!sites)
		return -ENOMEM;
	for (size_t i = 0; i < probed->n_sites; i++) {
		if (probed->sites[i].plan->kind == SITE_FRESH)
			sites[n++] = probed->sites[i].index;
	}
	return define(capture, group, file, sites, n, true);
}

/* --- known pools ------------------------------------------------------------------------------ */

/* The programs do the same at the same time (bpf/window.bpf.h, pool_set_claim()). */
static struct pool_set *claim_pool_set(struct pool_set *sets, uint64_t key)
{
	uint32_t place = pool_set_place(key);

	for (uint32_t i = 0; i < POOL_SET_PROBES; i++) {
		struct pool_set *set = &sets[(place + i) & (POOL_SETS - 1)];
		__u64 found = 0;

		if (__atomic_compare_exchange_n(&set->key, &found, key, false, __ATOMIC_ACQ_REL,
						__ATOMIC_ACQUIRE) ||
		    found == key)
			return set;
	}
	return NULL;
}

int capture_know_pools(struct capture *capture, const uint64_t *addresses, size_t n)
{
	size_t without_room = 0;

	if (!capture->pool_sets)
		return -EBADF;
	for (size_t i = 0; i < n; i++) {
		uint64_t number = addresses[i] / capture->settings.pool_bytes;
		struct pool_set *set =
			claim_pool_set(capture->pool_sets, number / POOL_SET_BITS + 1);

		if (set)
			__atomic_fetch_or(&set->bits, 1ULL << (number % POOL_SET_BITS),
					  __ATOMIC_RELEASE);
		else
			without_room++;
	}
	return without_room > INT32_MAX ? INT32_MAX : (int)without_room;
}

int capture_know_pool(struct capture *capture, uint64_t address)
{
	return capture_know_pools(capture, &address, 1);
}

/* --- limits and counters ---------------------------------------------------------------------- */

static uint64_t load(const __u64 *shared)
{
	return __atomic_load_n(shared, __ATOMIC_ACQUIRE);
}

/* The order matters: bpf/window.bpf.h, limit_tell(). */
static void set_limit(struct window_group *shared, uint64_t limit)
{
	__atomic_store_n(&shared->armed, limit == WINDOW_NO_LIMIT ? 0 : limit, __ATOMIC_SEQ_CST);
	__atomic_store_n(&shared->limit, limit, __ATOMIC_SEQ_CST);
}

static struct capture_group *defined_group(const struct capture *capture, unsigned number)
{
	if (number >= CAPTURE_GROUPS_MAX || !capture->groups[number].file)
		return NULL;
	return (struct capture_group *)&capture->groups[number];
}

static uint64_t limit_of(uint64_t hits, uint64_t hits_max)
{
	if (hits_max == CAPTURE_SILENT)
		return 0;
	return hits_max ? hits + hits_max : WINDOW_NO_LIMIT;
}

int capture_group_refill(struct capture *capture, unsigned number, uint64_t hits_max)
{
	const struct capture_group *group = defined_group(capture, number);
	struct window_group *shared;

	if (!group)
		return -EINVAL;
	if (!group->is_open)
		return -EALREADY;
	shared = shared_group(capture, number);
	set_limit(shared, limit_of(load(&shared->hits), hits_max));
	return 0;
}

uint64_t capture_group_hits(const struct capture *capture, unsigned number)
{
	if (!capture->skeleton || number >= CAPTURE_GROUPS_MAX)
		return 0;
	return load(&shared_group(capture, number)->hits);
}

int capture_site_hits(const struct capture *capture, unsigned file, uint64_t *ret, size_t n_sites)
{
	const struct window_site *sites;

	if (!capture->window_sites)
		return -EBADF;
	if (file >= capture->n_files || n_sites > capture->files[file].n_sites)
		return -EINVAL;
	sites = capture->window_sites + capture->settings.site_base[file];
	for (size_t i = 0; i < n_sites; i++)
		ret[i] = load(&sites[i].hits);
	return 0;
}

bool capture_group_is_open(const struct capture *capture, unsigned number)
{
	return number < CAPTURE_GROUPS_MAX && capture->groups[number].is_open;
}

/* What of a use the programs know; before the next opening begins to count anew. */
static void look(const struct capture *capture, unsigned number, struct capture_group_use *use)
{
	const struct window_group *shared = shared_group(capture, number);

	use->hits = load(&shared->hits);
	use->untaken = load(&shared->untaken);
	use->limited = use->hits > load(&shared->limit);
}

int capture_group_look(const struct capture *capture, unsigned number,
		       struct capture_group_use *ret)
{
	const struct capture_group *group = defined_group(capture, number);

	if (!group)
		return -EINVAL;
	*ret = group->use;
	if (group->is_open)
		look(capture, number, ret);
	return 0;
}

void capture_priority_use(const struct capture *capture, struct capture_priority_use *ret)
{
	*ret = capture->priority_use;
}

/* --- opening and closing ---------------------------------------------------------------------- */

static void mark_sites(const struct capture *capture, const struct capture_group *group,
		       uint8_t mark)
{
	for (size_t i = 0; i < group->set.n_sites && !group->set.new_pools; i++) {
		struct capture_site *site = group->set.sites[i];

		if (mark || site->group == group - capture->groups + 1)
			site->group = mark;
	}
}

static size_t wanted_sites(const struct capture_group *group)
{
	size_t n = 0;

	for (size_t i = 0; i < group->set.n_sites; i++)
		n += group->set.sites[i]->state == SITE_WANTED;
	return n;
}

static bool is_taken(const struct capture_group *group)
{
	for (size_t i = 0; i < group->set.n_sites && !group->set.new_pools; i++) {
		if (group->set.sites[i]->group)
			return true;
	}
	return false;
}

/* WINDOW_NO_GROUP: another group's event that comes to the same address is not this one's. */
static void tell_sites(const struct capture *capture, const struct capture_group *group,
		       uint64_t number)
{
	for (size_t i = 0; i < group->set.n_sites; i++) {
		size_t at = counter_of(capture, group, group->set.sites[i]);

		__atomic_store_n(&capture->window_sites[at].group, number, __ATOMIC_RELEASE);
	}
}

/* Before any of its programs can run. */
static void tell_programs(const struct capture *capture, unsigned number, uint64_t hits_max)
{
	const struct capture_group *group = &capture->groups[number];
	struct window_group *shared = shared_group(capture, number);

	__atomic_store_n(&shared->untaken, 0, __ATOMIC_RELEASE);
	__atomic_store_n(&shared->hits, 0, __ATOMIC_RELEASE);
	set_limit(shared, limit_of(0, hits_max));
	tell_sites(capture, group, number);
}

/* Attaches; what it took stands in use. */
static int put_in(struct capture *capture, struct capture_group *group, struct fault *reterr_fault)
{
	__attribute__((cleanup(priority_give_back))) struct priority priority;
	uint64_t cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID);
	int r;

	priority_raise(&priority, &capture->priority_use);
	r = links_attach(capture, group->file, &group->set, &priority, reterr_fault);
	if (r < 0)
		links_detach(&group->set, &priority);
	group->use.attach_cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID) - cpu;
	return r;
}

static int check_group(const struct capture *capture, unsigned number, struct fault *reterr_fault)
{
	const struct capture_group *group = defined_group(capture, number);

	if (!group)
		return fault_set(reterr_fault, -EINVAL, REASON_OUT_OF_BOUNDS, number, "group");
	if (!capture->window_sites || capture->memory_fd < 0)
		return fault_set(reterr_fault, -EBADF, REASON_OUT_OF_BOUNDS, number,
				 "not attached");
	if (group->is_open || is_taken(group))
		return fault_set(reterr_fault, -EBUSY, REASON_OUT_OF_BOUNDS, number, "group");
	return capture_check_leader(capture->pid, reterr_fault);
}

int capture_group_open(struct capture *capture, unsigned number, uint64_t hits_max,
		       struct fault *reterr_fault)
{
	struct capture_group *group;
	int r;

	r = check_group(capture, number, reterr_fault);
	if (r < 0)
		return r;
	group = &capture->groups[number];
	group->use = (struct capture_group_use){.opening_at_ns = clock_monotonic_ns()};
	r = sites_compare(capture, group->file, &group->set, capture->memory_fd);
	if (r < 0)
		return fault_set(reterr_fault, r, REASON_NOT_MAPPED, 0, "process");
	tell_programs(capture, number, hits_max);
	r = put_in(capture, group, reterr_fault);
	if (r < 0)
		return r;
	group->is_open = true;
	mark_sites(capture, group, (uint8_t)(number + 1));
	group->use.sites = wanted_sites(group);
	group->use.opened_at_ns = clock_monotonic_ns();
	group->use.attach_ns = group->use.opened_at_ns - group->use.opening_at_ns;
	capture->n_attached += group->use.sites;
	if (!group->read_back) {
		size_t found =
			sites_read_back(capture, group->file, &group->set, capture->memory_fd);

		capture->n_attached -= group->use.sites - found;
		group->use.sites = found;
		group->read_back = true;
	}
	return 0;
}

static void closing_begins(const struct capture *capture, struct capture_group *group)
{
	group->use.closing_at_ns = clock_monotonic_ns();
	group->use.produced_at_closing = capture_produced(capture);
}

/* Touches nothing but the group: several may go at once. */
static void take_out(struct capture_group *group, struct capture_priority_use *priority_use)
{
	__attribute__((cleanup(priority_give_back))) struct priority priority;
	uint64_t cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID);
	struct capture_group_use *use = &group->use;

	priority_raise(&priority, priority_use);
	links_detach(&group->set, &priority);
	use->closed_at_ns = clock_monotonic_ns();
	use->detach_ns = use->closed_at_ns - use->closing_at_ns;
	use->detach_cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID) - cpu;
}

static void closing_ends(struct capture *capture, struct capture_group *group)
{
	look(capture, (unsigned)(group - capture->groups), &group->use);
	if (capture->settings.cookie_by_address)
		tell_sites(capture, group, WINDOW_NO_GROUP);
	group->is_open = false;
	mark_sites(capture, group, 0);
	capture->n_attached -= group->use.sites;
}

int capture_group_close(struct capture *capture, unsigned number, struct capture_group_use *ret)
{
	struct capture_group *group = defined_group(capture, number);

	if (!group)
		return -EINVAL;
	if (!group->is_open)
		return -EALREADY;
	closing_begins(capture, group);
	take_out(group, &capture->priority_use);
	closing_ends(capture, group);
	if (ret)
		*ret = group->use;
	return 0;
}

/* --- all at once ------------------------------------------------------------------------------ */

struct closing {
	struct capture_group *group;
	double hits_per_ns;
	struct capture_priority_use priority_use;
	pthread_t thread;
	bool apart; /* the thread runs */
};

static int compare_heat(const void *left, const void *right)
{
	const struct closing *a = left, *b = right;

	return a->hits_per_ns > b->hits_per_ns ? -1 : a->hits_per_ns < b->hits_per_ns;
}

/* The open ones, the hottest first: its breakpoints are what costs most while they stay. */
static size_t open_groups(struct capture *capture, uint32_t groups,
			  struct closing ret[static CAPTURE_GROUPS_MAX])
{
	uint64_t now = clock_monotonic_ns();
	size_t n = 0;

	for (unsigned i = 0; i < CAPTURE_GROUPS_MAX; i++) {
		struct capture_group *group = &capture->groups[i];

		if (!group->is_open || !(groups & 1u << i))
			continue;
		ret[n++] = (struct closing){
			.group = group,
			.hits_per_ns = (double)capture_group_hits(capture, i) /
				       (double)(now - group->use.opened_at_ns + 1),
		};
	}
	qsort(ret, n, sizeof(*ret), compare_heat);
	return n;
}

static void *close_apart(void *context)
{
	struct closing *closing = context;

	take_out(closing->group, &closing->priority_use);
	return NULL;
}

static void priority_use_add(struct capture_priority_use *sum,
			     const struct capture_priority_use *more)
{
	sum->real_time += more->real_time;
	sum->nice += more->nice;
	sum->refused += more->refused;
	sum->cut_short += more->cut_short;
}

/*
 * In threads, because closing a link is waiting, for all programs of the host
 * to have left (some 40 ms), and waits at the same time are one: ten groups
 * took 390 ms one after the other, and take 90.  They end before this returns.
 */
int capture_groups_close(struct capture *capture, uint32_t groups)
{
	struct closing closings[CAPTURE_GROUPS_MAX];
	size_t n = open_groups(capture, groups, closings);
	sigset_t all, before;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are the caller's */
	for (size_t i = 0; i < n; i++) {
		struct closing *closing = &closings[i];

		closing_begins(capture, closing->group);
		closing->apart =
			n > 1 && pthread_create(&closing->thread, NULL, close_apart, closing) == 0;
		if (!closing->apart)
			close_apart(closing);
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	for (size_t i = 0; i < n; i++) {
		if (closings[i].apart)
			pthread_join(closings[i].thread, NULL);
		closing_ends(capture, closings[i].group);
		priority_use_add(&capture->priority_use, &closings[i].priority_use);
	}
	return (int)n;
}

int capture_close_all(struct capture *capture)
{
	return capture_groups_close(capture, UINT32_MAX);
}

int windows_release_others(const struct capture *capture)
{
	int r = 0;

	for (unsigned i = 0; i < CAPTURE_GROUPS_MAX && r == 0; i++) {
		const struct capture_group *group = &capture->groups[i];

		if (group->is_open)
			r = links_release_others(capture, group->file, &group->set);
	}
	return r;
}
