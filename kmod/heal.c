// SPDX-License-Identifier: GPL-2.0
/*
 * What a dead endpoint of a shared side has left behind.
 *
 * Its words have its name in them (owner).  A slot that a producer had RESERVED
 * carries nothing: it and all that were claimed with it become SKIPPED.  An entry
 * that a consumer had TAKEN is given up as lost, and its slot can be used again;
 * or, as a lease, it becomes an ORPHAN, which another one takes.
 * The cursor is helped past the claim first, then the slots from the last to the
 * first: whoever meets the first sees all of them done.
 *
 * The living go on meanwhile, and so may another heal; each has words of its own.
 * All is in the hands of user space, so that everything may be a lie: nothing
 * here goes round more often than there are slots, and no word is written in
 * which somebody else has put something.
 */
#include <linux/sched.h>

#include "words.h"
#include "trace.h"

/* The position of slot @i in the lap of @word, near the cursor. */
static u64 evr_claimed_at(const struct evr_words *w, u64 word, u64 i)
{
	u64 cursor = READ_ONCE(*w->cursor);
	s64 ahead = evering_word_ahead(word, evering_lap(cursor, w->shift));

	return (((cursor >> w->shift) + ahead) << w->shift) | i;
}

/* A word that is not yet what it has to be, and whose slot is not another's. */
static bool evr_word_open(u64 word, u64 lap, unsigned int owner)
{
	s64 ahead = evering_word_ahead(word, lap);

	return ahead < 0 || (!ahead && evering_word_owner(word) == owner);
}

/*
 * Does a claim of @owner, which has not come to its end, begin at slot @i?  Helps
 * the cursor past it, and hands out its slots from the last to the first.
 *
 * Return: how many slots, or 0 where there is no such claim.
 */
static unsigned int evr_find_claim(const struct evr_words *w, u64 i,
				   unsigned int owner, u64 *pos, u64 *word)
{
	unsigned int state, count;
	u64 old;

	/* pairs with the claim: what its owner saw, we see */
	*word = smp_load_acquire(evr_word_at(w, i));
	state = evering_word_state(*word);
	if (evering_word_owner(*word) != owner ||
	    (w->claims ? state != EVERING_TAKEN && state != EVERING_RETAKEN :
			 state != EVERING_RESERVED))
		return 0;
	*pos = evr_claimed_at(w, *word, i);
	count = min_t(u64, evr_word_slots(w, *word), w->mask + 1);
	old = *pos;
	/* A cursor that is elsewhere has been helped, or is a lie. */
	(void)cmpxchg_release(w->cursor, old, old + count);
	return count;
}

static unsigned int evr_heal_producer(struct evr_uring *uring, unsigned int ring,
				      unsigned int owner)
{
	const struct evr_words stamps = evr_stamps(uring, ring);
	unsigned int count, healed = 0;
	u64 i, pos, first;

	for (i = 0; i <= stamps.mask; i++) {
		cond_resched();
		count = evr_find_claim(&stamps, i, owner, &pos, &first);
		if (!count)
			continue;
		healed += count;
		i += count - 1;		/* no other claim begins there */
		while (--count) {
			u64 *stamp = evr_word_at(&stamps, pos + count);
			u64 lap = evering_lap(pos + count, stamps.shift);
			u64 word = READ_ONCE(*stamp);

			/* Also what was COMMITTED: all or nothing. */
			if (evr_word_open(word, lap, owner))
				(void)cmpxchg_release(stamp, word,
						      evering_word(lap, 1, owner,
								   EVERING_SKIPPED));
		}
		/* pairs with the consumers' acquire: all slots, then the first */
		(void)cmpxchg_release(evr_word_at(&stamps, pos), first,
				      (first & ~(u64)EVERING_STATE_MASK) |
				      EVERING_SKIPPED);
	}
	return healed;
}

/* Is there an entry, which its consumer has not been done with? */
static bool evr_entry_held(const struct evr_words *stamps, u64 pos)
{
	/* pairs with the producer's release of the stamp */
	u64 word = smp_load_acquire(evr_word_at(stamps, pos));

	return !evering_word_ahead(word, evering_lap(pos, stamps->shift)) &&
	       evering_word_state(word) == EVERING_COMMITTED;
}

/**
 * struct evr_heal - what a consumer has left
 * @stamps:	of the ring
 * @claims:	of the ring
 * @owner:	of the dead
 * @lease:	entries are for another one
 * @redelivered: how many are
 * @lost:	how many are not
 */
struct evr_heal {
	const struct evr_words stamps;
	const struct evr_words claims;
	unsigned int owner;
	bool lease;
	unsigned int redelivered;
	unsigned int lost;
};

/* Slot @pos, where @word is, was the dead one's; @done says that it is free. */
static void evr_heal_claim(struct evr_heal *heal, u64 pos, u64 word, u64 done)
{
	u64 *claim = evr_word_at(&heal->claims, pos);

	if (!evr_entry_held(&heal->stamps, pos)) {
		/* Skipped: nothing to lose. */
	} else if (heal->lease) {
		unsigned int deliveries = 1;

		if (evering_word_state(word) == EVERING_RETAKEN)
			deliveries = evering_word_count(word);
		done = evering_word(evering_lap(pos, heal->claims.shift),
				    deliveries, heal->owner, EVERING_ORPHAN);
		heal->redelivered++;
	} else {
		heal->lost++;
	}
	/* pairs with the producers' acquire of claims, and with the next taker */
	(void)cmpxchg_release(claim, word, done);
}

static void evr_heal_consumer(struct evr_heal *heal)
{
	const struct evr_words *claims = &heal->claims;
	u64 i, pos, first;

	for (i = 0; i <= claims->mask; i++) {
		unsigned int count;

		cond_resched();
		count = evr_find_claim(claims, i, heal->owner, &pos, &first);
		if (!count)
			continue;
		i += count - 1;		/* no other claim begins there */
		while (--count) {
			u64 lap = evering_lap(pos + count, claims->shift);
			u64 word = READ_ONCE(*evr_word_at(claims, pos + count));

			/* Of this lap: it was given back, so it was read. */
			if (evering_word_ahead(word, lap) >= 0)
				continue;
			evr_heal_claim(heal, pos + count, word,
				       evering_word(lap, 1, heal->owner,
						    EVERING_IDLE));
		}
		/*
		 * Others take its count for all of them.  As a lease, those behind it
		 * may be ORPHANs by now.  It may have been taken again: then it is one.
		 */
		count = heal->lease ? 1 : evr_word_slots(claims, first);
		evr_heal_claim(heal, pos, first,
			       evering_word(evering_lap(pos, claims->shift),
					    count, heal->owner, EVERING_IDLE));
	}
}

/* What consumers look at before they look for orphans; a raise more is harmless. */
static void evr_raise_orphan_seq(struct evr_uring *uring, unsigned int side,
				 unsigned int by)
{
	u64 *seq = &uring->side[side].control->orphan_seq;
	u64 old;

	/*
	 * The words first; pairs with who sees the raise and then looks at them.
	 * If ours fails, somebody else's came after this.
	 */
	smp_mb();
	old = READ_ONCE(*seq);
	(void)cmpxchg(seq, old, old + by);
}

/**
 * evr_heal() - undo what a dead endpoint of a shared side was at
 * @uring:	the uring
 * @side:	of the endpoint
 * @owner:	of the endpoint; given to nobody else before this returns
 *
 * Called before the death is announced.  May be called under mmap_lock.
 */
void evr_heal(struct evr_uring *uring, unsigned int side, unsigned int owner)
{
	struct evering_ring_words *made = evr_ring_words(uring, side);
	struct evering_ring_words *taken = evr_ring_words(uring, !side);
	struct evr_heal heal = {
		.stamps = evr_stamps(uring, !side),
		.claims = evr_claims(uring, !side),
		.owner = owner,
		.lease = uring->lease,
	};
	unsigned int healed = 0;

	if (evr_has_ring(uring, side))
		healed = evr_heal_producer(uring, side, owner);
	if (evr_has_claims(uring, !side)) {
		evr_heal_consumer(&heal);
		/* It may have made one itself, and died before it said so. */
		if (uring->lease)
			evr_raise_orphan_seq(uring, side, heal.redelivered + 1);
	}
	if (!healed && !heal.redelivered && !heal.lost)
		return;

	spin_lock(&uring->lock);
	WRITE_ONCE(made->healed, made->healed + healed);
	WRITE_ONCE(taken->redelivered, taken->redelivered + heal.redelivered);
	WRITE_ONCE(taken->lost, taken->lost + heal.lost);
	spin_unlock(&uring->lock);
	trace_evering_heal(uring->token, side, owner, healed, heal.redelivered,
			   heal.lost);
}
