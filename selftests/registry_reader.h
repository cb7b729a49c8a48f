/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Urings all of whose fields follow from one number, and a reader of the registry
 * who knows that: it judges every entry for as long as others make them.
 */
#ifndef REGISTRY_READER_H
#define REGISTRY_READER_H

#include <stddef.h>

#include "registry_stress.h"

#define MAX_URINGS	65536
#define SERVICE		"churn.service"

/* ---------------------------------------------------------------- recipes */

/*
 * All that the registry tells of a uring follows from one number, which is its
 * gid, so that a reader can tell whether the fields belong together.
 */
struct recipe {
	uint32_t kind, flags, mode, uid, side;
	struct evering_geometry geometry;
	char name[EVERING_NAME_MAX + 1];
};

static inline uint32_t mix(uint32_t n, uint32_t salt)
{
	uint64_t x = (n + 1) * 0x9e3779b97f4a7c15 + salt;

	return ((x ^ x >> 29) * 0xbf58476d1ce4e5b9) >> 32;
}

static inline struct recipe recipe_of(uint32_t n)
{
	struct recipe r = { 0 };
	uint32_t h = mix(n, 0);
	int i;

	r.uid = 1000 + h % 7777;
	r.kind = mix(n, 1) % 5;
	if (r.kind > EVERING_KIND_BUFFER) {
		r.kind = EVERING_KIND_CHANNEL;
		r.flags = EVERING_ENTRY_CONNECTED;
		snprintf(r.name, sizeof(r.name), SERVICE);
	} else {
		r.mode = h & 0777;
		if (r.kind < EVERING_KIND_TOPIC)
			r.side = h >> 9 & 1;
		if (h >> 10 & 1) {
			r.flags = EVERING_ENTRY_NAMED;
			snprintf(r.name, sizeof(r.name), "churn.%u.%0*x", n, 1 + n % 48, h);
		}
	}
	for (i = 0; i < 2; i++) {
		bool ring = i ? r.kind == EVERING_KIND_CHANNEL : r.kind != EVERING_KIND_BUFFER;

		if (ring) {
			r.geometry.entries[i] = 1 << (mix(n, 2 + i) & 3);
			if (r.kind == EVERING_KIND_QUEUE)
				r.geometry.entries[i] *= EVERING_MIN_MULTI;
			r.geometry.slot_size[i] = 64 << (mix(n, 4 + i) & 1);
		}
		if (i ? ring : true)
			r.geometry.heap_size[i] = (1 + mix(n, 6 + i) % 3) * PAGE;
	}
	return r;
}

static inline uint64_t bytes_of(const struct recipe *r)
{
	uint64_t bytes = PAGE, ring;
	int i;

	for (i = 0; i < 2; i++) {
		ring = sizeof(struct evering_control) +
		       r->geometry.entries[i] * r->geometry.slot_size[i];
		if (i && r->kind == EVERING_KIND_QUEUE)
			ring += r->geometry.entries[0] * sizeof(uint64_t);
		bytes += (ring + PAGE - 1) / PAGE * PAGE + r->geometry.heap_size[i];
	}
	return bytes;
}

static inline bool many(const struct recipe *r, int side)
{
	return r->kind == EVERING_KIND_BUFFER || r->kind == EVERING_KIND_QUEUE ||
	       (r->kind == EVERING_KIND_TOPIC && side);
}

static inline bool read_only(const struct recipe *r, int side)
{
	return r->kind >= EVERING_KIND_TOPIC && side;
}

/* ---------------------------------------------------------- what all share */

static struct board {
	bool stop;
	uint32_t next;			/* number of the next uring */
	uint32_t created, connected, accepted, opened, named, gone, mapped, dups, unlinked;
	pid_t maker[MAX_URINGS];
	uint64_t token[MAX_URINGS];
	/* the reader's */
	uint64_t looks, busy, disturbed, tokens;
	char complaint[200];
} *board;

/* ----------------------------------------------------------------- reader */

struct seen {
	uint64_t token;
	uint64_t epoch;		/* before it was last seen ACTIVE */
	uint32_t state;
};

#define RIGHT(cond) do {						\
	if (!(cond)) {							\
		snprintf(board->complaint, sizeof(board->complaint),	\
			 "entry %u: !(%s), token %llx state %u gid %u", index, #cond, \
			 (unsigned long long)e->token, e->state, e->gid); \
		_exit(1);						\
	}								\
} while (0)

static inline bool side_fits(const struct evering_registry_side *s, bool many)
{
	if (s->__resv)
		return false;
	if (many)
		return s->state == (s->endpoints ? EVERING_STATE_OPEN : EVERING_STATE_PENDING);
	if (s->endpoints)
		return s->endpoints == 1 && s->state == EVERING_STATE_OPEN;
	return s->state == EVERING_STATE_PENDING || s->state == EVERING_STATE_DEAD;
}

static inline void judge_uring(const struct evering_registry_entry *e, uint32_t index)
{
	uint32_t n = e->gid - 1;
	struct recipe r;
	uint64_t token;
	int i;

	RIGHT(n < LOAD(board->next));
	r = recipe_of(n);
	token = LOAD(board->token[n]);
	RIGHT(EVERING_TOKEN_INDEX(e->token) == index);
	RIGHT(!token || token == e->token);
	RIGHT(e->pid == LOAD(board->maker[n]));
	RIGHT(e->state <= EVERING_ENTRY_MARKED);
	RIGHT(e->kind == r.kind);
	/* No name leads to what is on its way out. */
	if (e->state == EVERING_ENTRY_MARKED)
		r.flags &= ~EVERING_ENTRY_NAMED;
	RIGHT(e->flags == r.flags);
	RIGHT(e->mode == r.mode);
	RIGHT(e->uid == r.uid);
	RIGHT(e->bytes == bytes_of(&r));
	RIGHT(!memcmp(&e->geometry, &r.geometry, sizeof(r.geometry)));
	RIGHT(!memcmp(e->name, r.name, sizeof(r.name)));
	RIGHT(e->ref_count == e->side[0].endpoints + e->side[1].endpoints);
	RIGHT(e->state != EVERING_ENTRY_ALLOCATING || e->ref_count <= 1);
	RIGHT(!e->__resv0 && !e->__resv1);
	for (i = 0; i < 2; i++)
		RIGHT(side_fits(&e->side[i], many(&r, i)));
	for (i = 0; i < 8; i++)
		RIGHT(!e->__resv2[i]);
}

static inline void judge_free(const struct evering_registry_entry *e, uint32_t index)
{
	static const struct evering_registry_entry nothing;

	RIGHT(e->token == 0);
	RIGHT(!memcmp(&e->state, &nothing.state,
		      sizeof(*e) - offsetof(struct evering_registry_entry, state)));
}

static inline void look(const struct registry *r, uint32_t index, struct seen *seen)
{
	struct evering_registry_entry copy, *e = &copy;
	uint64_t epoch = epoch_now(r);
	bool stable = snapshot(r, index, e, &board->disturbed);

	board->looks++;
	RIGHT(stable);
	if (e->state == EVERING_ENTRY_FREE) {
		judge_free(e, index);
	} else {
		judge_uring(e, index);
		board->busy++;
		board->tokens += e->token != seen->token;
		/* Never back, and never a second time. */
		RIGHT(e->token >= seen->token);
		RIGHT(e->token != seen->token || e->state >= seen->state);
		RIGHT(e->token < __atomic_load_n(&r->header->next_token, __ATOMIC_ACQUIRE));
		RIGHT(index < __atomic_load_n(&r->header->used, __ATOMIC_ACQUIRE));
	}
	/* Its memory may have gone, so the epoch has been raised. */
	if (seen->state == EVERING_ENTRY_ACTIVE && e->token != seen->token)
		RIGHT(epoch_now(r) > seen->epoch);
	if (e->token)
		seen->token = e->token;
	/* FREE: never this token again. */
	seen->state = e->token ? e->state : ~0U;
	if (e->state == EVERING_ENTRY_ACTIVE)
		seen->epoch = epoch;
}

static inline void watch(const struct registry *r)
{
	struct seen *seen = calloc(r->header->capacity, sizeof(*seen));
	const struct evering_registry_entry none = { 0 }, *e = &none;
	uint64_t epoch = 0, next = 0, now;
	uint32_t index = 0, used;

	while (!LOAD(board->stop)) {
		now = epoch_now(r);
		RIGHT(now >= epoch);
		epoch = now;
		now = __atomic_load_n(&r->header->next_token, __ATOMIC_ACQUIRE);
		RIGHT(now >= next);
		next = now;
		used = __atomic_load_n(&r->header->used, __ATOMIC_ACQUIRE);
		RIGHT(used <= r->header->capacity);
		RIGHT(__atomic_load_n(&r->header->active_count, __ATOMIC_RELAXED) <=
		      r->header->capacity);
		for (index = 0; index < used + 1 && index < r->header->capacity; index++)
			look(r, index, &seen[index]);
	}
	_exit(0);
}

#endif /* REGISTRY_READER_H */
