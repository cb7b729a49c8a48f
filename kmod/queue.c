// SPDX-License-Identifier: GPL-2.0
/*
 * What there is in a queue.  Many take and many add, so no caller knows where it
 * stands: the kernel walks from the cursor itself.
 */
#include "words.h"

/* What the two words of a slot say; the rules are those of lib/multi.h. */
struct evr_slot {
	s64 stamp_ahead;
	s64 claim_ahead;
	unsigned int stamp;	/* state */
	bool zero;		/* never written */
	bool idle;		/* consumed in the lap before, and given back */
	bool lie;		/* a stamp that no honest producer leaves */
};

static struct evr_slot evr_slot_at(const struct evr_words *stamps,
				   const struct evr_words *claims, u64 pos)
{
	u64 lap = evering_lap(pos, stamps->shift);
	/* pairs with the producer's release of the stamp */
	u64 stamp = smp_load_acquire(evr_word_at(stamps, pos));
	/* pairs with the consumer's release of the claim */
	u64 claim = smp_load_acquire(evr_word_at(claims, pos));

	return (struct evr_slot) {
		.stamp_ahead = evering_word_ahead(stamp, lap),
		.claim_ahead = evering_word_ahead(claim, lap),
		.stamp = evering_word_state(stamp),
		.zero = !stamp && lap == 1,
		.idle = evering_word_ahead(claim, lap) == -1 &&
			evering_word_state(claim) == EVERING_IDLE,
		.lie = evering_judge(stamp, lap) == EVERING_SLOT_LIE,
	};
}

/* Is there an entry to take, or a lie for the library to find? */
static bool evr_slot_full(const struct evr_slot *slot)
{
	return slot->lie || (!slot->stamp_ahead &&
			     slot->stamp >= EVERING_COMMITTED && slot->idle);
}

/* Is it free, or its claim a lie? */
static bool evr_slot_free(const struct evr_slot *slot)
{
	if (slot->idle)
		return slot->zero || (slot->stamp_ahead == -1 &&
				      slot->stamp >= EVERING_COMMITTED);
	return slot->claim_ahead != -1 && slot->claim_ahead != -2;
}

static bool evr_slot_news(const struct evr_words *stamps,
			  const struct evr_words *claims, u64 pos, bool space)
{
	struct evr_slot slot = evr_slot_at(stamps, claims, pos);

	return space ? evr_slot_free(&slot) : evr_slot_full(&slot);
}

/**
 * evr_queue_news() - how many sleepers may be woken?
 * @uring:	a queue
 * @side:	the side that sleeps; its sleepers.lock is held by the caller
 * @space:	for room, or else for entries
 * @most:	not more than these
 *
 * Return: entries, or free slots, from the cursor on that nobody has been woken
 * for yet.  They are given now.
 */
unsigned int evr_queue_news(struct evr_uring *uring, unsigned int side,
				  bool space, unsigned int most)
{
	unsigned int ring = space ? side : !side;
	const struct evr_words stamps = evr_stamps(uring, ring);
	const struct evr_words claims = evr_claims(uring, ring);
	u64 *given = &uring->side[side].given[space];
	unsigned int n = 0;
	u64 pos;

	lockdep_assert_held(&uring->side[side].sleepers.lock);
	if (!evr_walk(space ? &stamps : &claims, &pos))
		return most;
	/* Wakes that are out for positions that have been passed are used up. */
	if ((s64)(*given - pos) < 0 || *given - pos > stamps.mask + 1)
		*given = pos;
	while (n < most && *given - pos <= stamps.mask &&
	       evr_slot_news(&stamps, &claims, *given, space)) {
		(*given)++;
		n++;
	}
	return n;
}

/**
 * evr_queue_ready() - may a call of this side succeed now?
 * @uring:	a queue
 * @side:	the side
 * @space:	to push, or else to pop
 *
 * Return: whether it may; also where the library will find a lie.
 */
bool evr_queue_ready(const struct evr_uring *uring, unsigned int side,
			   bool space)
{
	unsigned int ring = space ? side : !side;
	const struct evr_words stamps = evr_stamps(uring, ring);
	const struct evr_words claims = evr_claims(uring, ring);
	u64 pos;

	if (!evr_walk(space ? &stamps : &claims, &pos))
		return true;
	return evr_slot_news(&stamps, &claims, pos, space);
}

/**
 * evr_queue_written() - is the next entry being written?
 * @uring:	a queue
 * @side:	the side that pops
 *
 * Who claimed a slot before the queue was closed may still commit it.
 *
 * Return: whether the end has to wait for that.
 */
bool evr_queue_written(const struct evr_uring *uring, unsigned int side)
{
	const struct evr_words stamps = evr_stamps(uring, !side);
	const struct evr_words claims = evr_claims(uring, !side);
	struct evr_slot slot;
	u64 pos;

	/* The side that pushes consumes no ring, and there is nothing to look at. */
	if (!uring->layout.geometry.entries[!side])
		return false;
	if (!evr_walk(&claims, &pos))
		return false;
	slot = evr_slot_at(&stamps, &claims, pos);
	return !slot.stamp_ahead && slot.stamp == EVERING_RESERVED;
}

/**
 * evr_queue_at() - where would a doorbell be due?
 * @uring:	a queue
 * @side:	the side that is about to sleep
 * @space:	for room, or else for an entry
 *
 * Return: the position of the next room, or of the next entry.
 */
u64 evr_queue_at(const struct evr_uring *uring, unsigned int side,
		       bool space)
{
	unsigned int ring = space ? side : !side;
	const struct evr_words words = space ? evr_stamps(uring, ring) :
					       evr_claims(uring, ring);
	u64 pos;

	/* A position that is too low rings more often, and misses nothing. */
	evr_walk(&words, &pos);
	return pos;
}
