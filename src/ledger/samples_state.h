/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* The insides of samples.h: what its files share. */
#ifndef PYLEAKD_LEDGER_SAMPLES_STATE_H
#define PYLEAKD_LEDGER_SAMPLES_STATE_H

#include "base/table.h"
#include "ledger/samples.h"

#define TICKS_PER_SECOND 64 /* 2 years in 32 bits */
#define TICKS_NEVER UINT32_MAX
#define LEVEL_MAX 31
#define SAMPLE_STEP 8 /* sizes are kept in steps of 8 bytes: what allocators give is a multiple */
/* CPython, Objects/obmalloc.c, 3.8-3.15: SMALL_REQUEST_THRESHOLD, ALIGNMENT. */
#define POOLS_BYTES_MAX 512
#define POOLS_CLASS_BYTES 16
#define NO_INDEX UINT32_MAX
#define OVER_WINDOWS 16 /* sightings may come so many windows late */

enum slot_state { SLOT_FREE, SLOT_CANDIDATE, SLOT_SAMPLE };

struct slot {
	uint64_t address;
	union {
		uint64_t fingerprint[SAMPLE_WORDS]; /* of a sample */
		uint64_t position; /* of a candidate: which of its window's sightings, from 1 */
	};
	uint32_t stack, type; /* indices; free: stack is the next free slot */
	uint32_t seen, due;   /* ticks */
	uint32_t own_steps, buffer_steps;
	uint16_t window; /* index; 0: none */
	uint16_t site;
	uint32_t state : 2;
	uint32_t kind : 2;
	uint32_t tier : 1;
	uint32_t size_class : 7;
	uint32_t level : 5;
	uint32_t zombie : 1;
	uint32_t unknown : 1; /* at the last look */
	uint32_t whole : 1;   /* all sites that make its type were in */
	uint32_t unproven : 1; /* too little was known of its type then */
	uint32_t changes : 2; /* looks at which it had changed, one after the other */
	uint32_t round : 9;   /* of samples_due in which it was handed out; 0: in none */
};
_Static_assert(sizeof(struct slot) == 64, "a sample costs 64 bytes");
#define ROUND_MAX ((1u << 9) - 1)
/* One that has changed at so many looks in a row is churn at that address. */
#define CHANGES_MAX 3

struct stack_record {
	uint64_t key;		      /* free: the next free record */
	uint32_t candidates, samples; /* both 0: free */
	uint32_t mark;		      /* of whoever goes through the stacks */
};

#define MAKERS_MAX SAMPLES_MAKERS_MAX

struct type_record {
	uint64_t key;
	uint32_t pending_window; /* that is not over, and has sightings of it */
	struct maker {
		uint16_t site;
		uint16_t pending; /* sightings in that window */
		float count;	  /* in complete windows; the old ones fade */
		float alone;	  /* outside of windows, while it is always on; these too */
	} makers[MAKERS_MAX];
};

struct site_record {
	uint8_t state; /* enum sample_site */
	bool was_in; /* in the window that is open */
	bool finer;  /* its sightings refine others */
	uint32_t slice; /* the last window that was not complete and had it */
	uint32_t sliced_until; /* ticks: it is expected in another by then */
	/* Ticks: always on since; and from … until it was taken out last, moments apart. */
	uint32_t on_since, first_on, off_since;
	/* Ticks: in the first window that did not learn, or always on; in the last such window. */
	uint32_t seen_since, seen_until;
	bool seen;
};

struct window_record {
	uint32_t window; /* 0: free, position is the next free one */
	uint32_t ordinal;
	uint32_t users; /* candidates and samples */
	uint8_t stream;
	bool ended, complete;
	double weight;	   /* guard included; 0: not known */
	double kept_ratio; /* of its sightings, by the guard */
	uint64_t position; /* sightings so far */
};

struct samples {
	struct samples_limits limits;
	struct samples_totals totals;
	struct table by_address; /* → index into slots */
	struct slot *slots;
	size_t n_slots, slots_capacity, slots_max;
	uint32_t free_slot;
	struct table by_stack; /* → index into stacks */
	struct stack_record *stacks;
	size_t n_stacks, stacks_capacity;
	uint32_t free_stack;
	struct table by_type; /* → index into types; types[0] stands for those without room */
	struct type_record *types;
	size_t n_types, types_capacity;
	struct table by_window; /* → index into windows; 0 is none */
	struct window_record *windows;
	size_t n_windows, windows_capacity;
	uint32_t free_window;
	uint32_t stream_windows[SAMPLES_STREAMS];
	uint32_t over[OVER_WINDOWS]; /* the last that ended */
	struct site_record *sites; /* SAMPLES_SITES_MAX */
	bool sites_told;
	uint64_t draws; /* of random numbers */
	size_t cursor;	/* where samples_due goes on */
	uint32_t next_due, round;
	uint32_t latest; /* ticks: of the last sighting */
};

static inline uint32_t ticks_of(double seconds)
{
	if (!(seconds > 0))
		return 0;
	if (seconds >= (double)(TICKS_NEVER - 1) / TICKS_PER_SECOND)
		return TICKS_NEVER - 1;
	return (uint32_t)(seconds * TICKS_PER_SECOND);
}

/* Its sightings may become samples: from then on, until then so far. */
static inline void samples_site_seen(struct site_record *site, uint32_t since, uint32_t until)
{
	if (!site->seen)
		site->seen_since = since;
	site->seen_until = until;
	site->seen = true;
}

static inline double expansion_of(const struct slot *slot)
{
	return (double)(1ull << slot->level);
}

/* Makes room for one more of size bytes in a growing array. -ENOMEM, -ENOSPC: n is max. */
int samples_grow(void **array, size_t *capacity, size_t n, size_t max, size_t size);
/* The slot is free afterwards, and what it held on to is given back. */
void samples_remove(struct samples *samples, struct slot *slot);
void samples_set_state(struct samples *samples, struct slot *slot, enum slot_state state);
uint64_t samples_draw(struct samples *samples);

/* The type's record; the one of all others where there is no room. Never NULL. */
uint32_t samples_type_index(struct samples *samples, uint64_t type);
void samples_types_see(struct samples *samples, uint32_t type, const struct sighting *sighting);
/* Outside of windows, at a site that is always on. */
void samples_types_see_alone(struct samples *samples, uint32_t type, uint16_t site);
/* The candidate's own sighting no longer counts: a finer site has shown the object once more. */
void samples_types_unsee(struct samples *samples, const struct slot *slot);
void samples_types_learn(struct samples *samples, const struct window_facts *facts);
/* What is known of where it is made, or the lack of it, speaks for nothing. */
bool samples_type_is_known(const struct samples *samples, uint32_t type);
/* Is a good part of the type made at sites whose state is below this one? */
bool samples_type_is_made_below(const struct samples *samples, uint32_t type,
				enum sample_site state);

/*
 * Windows that are not complete and that it was in come again; of what they see,
 * complete ones say nothing then, lest it counts twice.
 */
void samples_sites_window_end(struct samples *samples, const struct window_facts *facts);
/* Do the sites that make most of the type go round in slices, together? site: of a sighting. */
bool samples_type_is_sliced(const struct samples *samples, uint32_t type, uint16_t site,
			    uint32_t now);

/* The window's index, made where it is new; 0: no window, no room or no memory. */
uint16_t samples_window_index(struct samples *samples, uint32_t window);
bool samples_window_is_over(const struct samples *samples, uint32_t window);
void samples_window_unref(struct samples *samples, uint16_t index);

/* Half of those of the stacks that have most go, so that at least an eighth of the limit is free.
 */
void samples_thin(struct samples *samples, enum slot_state state);

/* Does the sample count, and from which window (index; 0: always-on)? */
bool samples_counts(const struct samples *samples, const struct slot *slot, uint16_t *ret_window);

#endif
