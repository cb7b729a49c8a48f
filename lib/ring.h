/* SPDX-License-Identifier: MIT OR LGPL-2.1 */
/*
 * The fast path: one ring that this side produces, one that it consumes.
 *
 * No system call, no lock, no allocation.  What the peer writes is read once,
 * judged by <linux/evering.h>, and copied before anybody looks inside.
 *
 * Which access pairs with which
 *
 *	commit: stamp, release		<-> peek: stamp, acquire
 *		the entry is whole when its stamp is seen
 *	release: head, release		<-> reserve: head, acquire
 *		the slot has been read when its room is seen
 *	commit: stamp, full barrier,	<-> kernel: wake_at or poll_at, full
 *		wake_at, poll_at	    barrier, stamp (kmod/wait.c)
 *		one of the two sees the other: no lost wake-up
 *	release: head, full barrier,	<-> kernel: space_at or poll_space_at,
 *		space_at, poll_space_at	    full barrier, head (kmod/wait.c)
 */
#ifndef EVERING_LIB_RING_H
#define EVERING_LIB_RING_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <linux/evering.h>

#define likely(x)	__builtin_expect(!!(x), 1)
#define unlikely(x)	__builtin_expect(!!(x), 0)

#define load_once(p)	__atomic_load_n(p, __ATOMIC_RELAXED)
#define load_acquire(p)	__atomic_load_n(p, __ATOMIC_ACQUIRE)
#define store_once(p, v)	__atomic_store_n(p, v, __ATOMIC_RELAXED)
#define store_release(p, v)	__atomic_store_n(p, v, __ATOMIC_RELEASE)
#define full_barrier()	__atomic_thread_fence(__ATOMIC_SEQ_CST)
#define read_fence()	__atomic_thread_fence(__ATOMIC_ACQUIRE)
#define write_fence()	__atomic_thread_fence(__ATOMIC_RELEASE)
#define compiler_barrier()	__asm__ __volatile__("" ::: "memory")

/* A full barrier just behind a compare-and-swap, which on x86 is one itself. */
static inline void barrier_after_swap(void)
{
#if defined(__x86_64__)
	compiler_barrier();
#else
	full_barrier();
#endif
}

static inline void cpu_relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ __volatile__("isb" ::: "memory");
#else
	compiler_barrier();
#endif
}

/* Brings the line of @p, to be written to soon, from the CPU that has it. */
static inline void prefetch_write(const void *p)
{
#if defined(__x86_64__)
	/* What a compiler takes for generic x86-64 would only read. */
	__asm__ __volatile__("prefetchw %0" : : "m" (*(const char *)p));
#else
	__builtin_prefetch(p, 1);
#endif
}

/**
 * struct ring_geometry - constants of one ring, in private memory
 * @entries:	slots
 * @mask:	entries - 1
 * @lap_shift:	log2(entries)
 * @slot_shift:	log2(bytes of a slot)
 */
struct ring_geometry {
	uint64_t entries;
	uint64_t mask;
	unsigned int lap_shift;
	unsigned int slot_shift;
};

/**
 * struct ring_out - the ring that this side produces
 * @g:		constants
 * @slots:	in the own section
 * @tail:	first position not yet committed
 * @reserved:	first position not yet handed to the program
 * @peer_head:	the consumer's head as last read
 * @head:	where to read it
 * @claims:	NULL, or where the consumers are many, and give back in any order:
 *		a word a slot, in their section; @peer_head is what is free then
 * @tail_hint:	where to publish @tail, for poll and fdinfo
 * @words:	who sleeps: wake_at and poll_at
 * @cancelled:	a bit for each slot between @tail and @reserved
 * @nr_cancelled: bits set there
 */
struct ring_out {
	struct ring_geometry g;
	char *slots;
	uint64_t tail;
	uint64_t reserved;
	uint64_t peer_head;
	const __u64 *head;
	const __u64 *claims;
	__u64 *tail_hint;
	const struct evering_ring_words *words;
	uint64_t *cancelled;
	unsigned int nr_cancelled;
};

/**
 * struct ring_in - the ring that this side consumes
 * @g:		constants
 * @slots:	in the peer's section, read-only
 * @head:	first position that is not released
 * @next:	first position that has not been looked at
 * @copied:	entries copied and not yet released; skipped slots are not
 *		entries, so this is at most @next - @head
 * @published:	what the peer can see of @head
 * @copies:	private copies of the entries; a ring of g.entries slots
 * @first:	index in @copies of the oldest
 * @head_word:	where to publish @head
 * @words:	who sleeps: space_at and poll_space_at
 */
struct ring_in {
	struct ring_geometry g;
	const char *slots;
	uint64_t head;
	uint64_t next;
	uint64_t copied;
	uint64_t published;
	char *copies;
	uint64_t first;
	__u64 *head_word;
	const struct evering_ring_words *words;
};

static inline uint64_t *ring_stamp(const struct ring_geometry *g,
				   const char *slots, uint64_t pos)
{
	return (uint64_t *)(slots + ((pos & g->mask) << g->slot_shift));
}

/* --------------------------------------------------------------- producing */

/* Slots between the one that is written to and the one that is fetched. */
#define RING_PREFETCH	8U

/* Its peer is done with the slot at @pos: what most entries need of it. */
static inline void ring_prefetch(const struct ring_geometry *g,
				 const char *slots, uint64_t pos)
{
	const char *slot = (const char *)ring_stamp(g, slots, pos);

	prefetch_write(slot);
	if (g->slot_shift > 6)
		prefetch_write(slot + 64);
}

enum ring_room { RING_ROOM, RING_FULL, RING_LIE };

/* Before many consumers: the slots up to the first that is not given back. */
static inline enum ring_room ring_room_of_many(struct ring_out *r)
{
	while (r->peer_head != r->tail) {
		uint64_t pos = r->peer_head;
		/* pairs with the release of the claim: the slot has been read */
		uint64_t word = load_acquire(&r->claims[pos & r->g.mask]);
		int64_t ahead = evering_word_ahead(
			word, evering_lap(pos, r->g.lap_shift));

		if (ahead != 0 && ahead != -1)
			return RING_LIE;
		if (ahead || evering_word_state(word) != EVERING_IDLE)
			break;
		r->peer_head++;
	}
	return r->reserved - r->peer_head < r->g.entries ? RING_ROOM : RING_FULL;
}

/* Is there room for the next reservation? */
static inline enum ring_room ring_room(struct ring_out *r)
{
	uint64_t head;

	if (likely(r->reserved - r->peer_head < r->g.entries))
		return RING_ROOM;
	if (unlikely(r->claims))
		return ring_room_of_many(r);
	head = load_acquire(r->head);
	/* Beyond what was ever committed, or a ring before it. */
	if (r->tail - head > r->g.entries)
		return RING_LIE;
	r->peer_head = head;
	return r->reserved - head < r->g.entries ? RING_ROOM : RING_FULL;
}

/* The slot to fill in; ring_room() has said RING_ROOM. */
static inline void *ring_reserve(struct ring_out *r)
{
	uint64_t ahead = r->reserved + RING_PREFETCH;

	if (likely(ahead - r->peer_head < r->g.entries))
		ring_prefetch(&r->g, r->slots, ahead);
	return ring_stamp(&r->g, r->slots, r->reserved++);
}

/* Is @slot one that is reserved, not yet committed and not cancelled? */
static inline bool ring_find_reserved(const struct ring_out *r,
				      const void *slot, uint64_t *pos)
{
	uint64_t offset = (uintptr_t)slot - (uintptr_t)r->slots;
	uint64_t index = offset >> r->g.slot_shift;
	uint64_t ahead = (index - r->tail) & r->g.mask;

	*pos = r->tail + ahead;
	return index <= r->g.mask && offset == index << r->g.slot_shift &&
	       ahead < r->reserved - r->tail &&
	       !(r->cancelled[index >> 6] & 1ULL << (index & 63));
}

/* ring_find_reserved() has found @pos. */
static inline void ring_cancel(struct ring_out *r, uint64_t pos)
{
	uint64_t index = pos & r->g.mask;

	r->cancelled[index >> 6] |= 1ULL << (index & 63);
	r->nr_cancelled++;
}

static inline bool ring_is_cancelled(const struct ring_out *r, uint64_t pos)
{
	uint64_t index = pos & r->g.mask;

	return r->cancelled[index >> 6] & 1ULL << (index & 63);
}

static inline unsigned int ring_take_cancelled(struct ring_out *r, uint64_t pos)
{
	uint64_t index = pos & r->g.mask;
	uint64_t bit = 1ULL << (index & 63);

	if (!ring_is_cancelled(r, pos))
		return EVERING_COMMITTED;
	r->cancelled[index >> 6] &= ~bit;
	r->nr_cancelled--;
	return EVERING_SKIPPED;
}

static inline void ring_commit_one(struct ring_out *r, unsigned int state)
{
	store_release(ring_stamp(&r->g, r->slots, r->tail),
		      evering_stamp(evering_lap(r->tail, r->g.lap_shift), state));
	r->tail++;
	store_once(r->tail_hint, r->tail);
}

/* Commits all that is reserved, in order.  Returns how many entries. */
static inline unsigned int ring_commit(struct ring_out *r)
{
	unsigned int entries = r->reserved - r->tail - r->nr_cancelled;

	while (r->tail != r->reserved) {
		unsigned int state = EVERING_COMMITTED;

		if (unlikely(r->nr_cancelled))
			state = ring_take_cancelled(r, r->tail);
		ring_commit_one(r, state);
	}
	return entries;
}

/* After a commit: must the doorbell be rung? */
static inline bool ring_wake_due(const struct ring_out *r)
{
	uint64_t last = r->tail - 1;

	full_barrier();
	return last >= load_once(&r->words->wake_at) ||
	       last >= load_once(&r->words->poll_at);
}

/* --------------------------------------------------------------- consuming */

static inline enum evering_slot_state ring_look(const struct ring_in *r,
						uint64_t pos)
{
	return evering_judge(load_acquire(ring_stamp(&r->g, r->slots, pos)),
			     evering_lap(pos, r->g.lap_shift));
}

/* The stamp to look at next ... */
static inline const uint64_t *ring_next_stamp(const struct ring_in *r)
{
	return ring_stamp(&r->g, r->slots, r->next);
}

/* ... and what an honest producer stores there; the rest is for ring_look(). */
static inline uint64_t ring_ready_stamp(const struct ring_in *r)
{
	return evering_stamp(evering_lap(r->next, r->g.lap_shift),
			     EVERING_COMMITTED);
}

/*
 * Claimed, by one of many producers?  He may still commit it, and so may those who
 * have claimed what is behind, even if it has been skipped by now.
 */
static inline bool ring_being_written(const struct ring_in *r)
{
	uint64_t stamp = load_acquire(ring_next_stamp(r));

	return stamp && !evering_word_ahead(stamp, evering_lap(r->next,
							       r->g.lap_shift));
}

static inline bool ring_ready(const struct ring_in *r)
{
	return load_acquire(ring_next_stamp(r)) == ring_ready_stamp(r);
}

static inline void *ring_copy_at(const struct ring_in *r, uint64_t i)
{
	return r->copies + (((r->first + i) & r->g.mask) << r->g.slot_shift);
}

/*
 * The entry at @next, into private memory: a peer that changes it afterwards
 * changes nothing that anybody looks at.  @bytes is the size of a slot; where
 * that is a constant, this is a few wide moves.
 */
static inline void ring_copy(struct ring_in *r, size_t bytes)
{
	const char *slot = (const char *)ring_next_stamp(r);
	char *copy = ring_copy_at(r, r->copied);

	/* A copy of this copy must not look committed. */
	*(uint64_t *)(void *)copy = 0;
	memcpy(copy + 8, slot + 8, bytes - 8);
	/* Or the compiler may read the slot again where it wants the copy. */
	compiler_barrier();
	r->copied++;
	r->next++;
}

/* Slots that may still come: the others are borrowed, or were skipped. */
static inline uint64_t ring_to_come(const struct ring_in *r)
{
	return r->head + r->g.entries - r->next;
}

/*
 * No slot is left to come: all are borrowed, or were skipped behind one that
 * is.  Only releasing some makes room for more.
 */
static inline bool ring_exhausted(const struct ring_in *r)
{
	return ring_to_come(r) == 0;
}

/*
 * Copies entries until @wanted are there.  Steps over at most one ring of
 * skipped slots, so that a peer that feeds them cannot keep us here.
 */
static inline enum evering_slot_state ring_peek(struct ring_in *r,
						uint64_t wanted)
{
	uint64_t skips = 0;

	while (r->copied < wanted) {
		if (unlikely(ring_exhausted(r)))
			return EVERING_SLOT_NOT_YET;
		switch (ring_look(r, r->next)) {
		case EVERING_SLOT_READY:
			if (likely(r->g.slot_shift == 6))
				ring_copy(r, 64);
			else
				ring_copy(r, 1UL << r->g.slot_shift);
			break;
		case EVERING_SLOT_SKIP:
			if (skips++ == r->g.entries)
				return EVERING_SLOT_NOT_YET;
			r->next++;
			if (!r->copied)
				r->head = r->next;
			break;
		case EVERING_SLOT_NOT_YET:
			return EVERING_SLOT_NOT_YET;
		case EVERING_SLOT_LIE:
			return EVERING_SLOT_LIE;
		}
	}
	return EVERING_SLOT_READY;
}

/* The program is done with the oldest @n copies; @n is at most copied. */
static inline void ring_seen(struct ring_in *r, uint64_t n)
{
	r->copied -= n;
	if (!r->copied) {
		r->head = r->next;
		r->first = 0;	/* always the same, warm line at depth one */
	} else {
		r->head += n;
		r->first += n;
	}
}

/* Gives the slots before head back.  Must the doorbell be rung? */
static inline bool ring_publish(struct ring_in *r)
{
	uint64_t end = r->head + r->g.entries;

	if (r->published == r->head)
		return false;
	r->published = r->head;
	store_release(r->head_word, r->head);
	full_barrier();
	return end > load_once(&r->words->space_at) ||
	       end > load_once(&r->words->poll_space_at);
}

#endif /* EVERING_LIB_RING_H */
