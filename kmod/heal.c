// SPDX-License-Identifier: GPL-2.0
/*
 * What a dead endpoint of a queue has left behind.
 *
 * Its words have its name in them (owner).  A slot that a producer had RESERVED
 * carries nothing: it and all that were claimed with it become SKIPPED.  An entry
 * that a consumer had TAKEN is given up as lost, and its slot can be used again.
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
 * A claim of @owner begins at slot @i.  Helps the cursor past it, and hands out
 * its slots from the last to the first.
 *
 * Return: how many slots, or 0 where there is no such claim.
 */
static unsigned int evr_find_claim(const struct evr_words *w, u64 i,
				   unsigned int owner, unsigned int state,
				   u64 *pos, u64 *word)
{
	unsigned int count;
	u64 old;

	/* pairs with the claim: what its owner saw, we see */
	*word = smp_load_acquire(evr_word_at(w, i));
	if (evering_word_state(*word) != state ||
	    evering_word_owner(*word) != owner)
		return 0;
	*pos = evr_claimed_at(w, *word, i);
	count = min_t(u64, evering_word_count(*word), w->mask + 1);
	old = *pos;
	/* A cursor that is elsewhere has been helped, or is a lie. */
	(void)cmpxchg_release(w->cursor, old, old + count);
	return count;
}

static unsigned int evr_heal_producer(struct evr_uring *uring, unsigned int ring,
				      unsigned int owner)
{
	const struct evr_words stamps = evr_stamps(uring, ring);
	unsigned int healed = 0, count;
	u64 i, pos, first;

	for (i = 0; i <= stamps.mask; i++) {
		cond_resched();
		count = evr_find_claim(&stamps, i, owner, EVERING_RESERVED,
				       &pos, &first);
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

/* Was there an entry, which nobody will see now? */
static bool evr_entry_lost(const struct evr_words *stamps, u64 pos)
{
	/* pairs with the producer's release of the stamp */
	u64 word = smp_load_acquire(evr_word_at(stamps, pos));

	return !evering_word_ahead(word, evering_lap(pos, stamps->shift)) &&
	       evering_word_state(word) == EVERING_COMMITTED;
}

static unsigned int evr_heal_consumer(struct evr_uring *uring, unsigned int ring,
				      unsigned int owner, unsigned int *lost)
{
	const struct evr_words stamps = evr_stamps(uring, ring);
	const struct evr_words claims = evr_claims(uring, ring);
	unsigned int healed = 0, count;
	u64 i, pos, first;

	for (i = 0; i <= claims.mask; i++) {
		cond_resched();
		count = evr_find_claim(&claims, i, owner, EVERING_TAKEN, &pos,
				       &first);
		if (!count)
			continue;
		healed += count;
		i += count - 1;		/* no other claim begins there */
		while (--count) {
			u64 *claim = evr_word_at(&claims, pos + count);
			u64 lap = evering_lap(pos + count, claims.shift);
			u64 word = READ_ONCE(*claim);

			/* Of this lap: it was given back, so it was read. */
			if (evering_word_ahead(word, lap) >= 0)
				continue;
			*lost += evr_entry_lost(&stamps, pos + count);
			(void)cmpxchg_release(claim, word,
					      evering_word(lap, 1, owner,
							   EVERING_IDLE));
		}
		*lost += evr_entry_lost(&stamps, pos);
		/* pairs with the producers' acquire, as above */
		(void)cmpxchg_release(evr_word_at(&claims, pos), first,
				      (first & ~(u64)EVERING_STATE_MASK) |
				      EVERING_IDLE);
	}
	return healed;
}

/**
 * evr_heal() - undo what a dead endpoint of a queue was at
 * @uring:	a queue
 * @side:	of the endpoint
 * @owner:	of the endpoint; given to nobody else before this returns
 *
 * Called before the death is announced.  May be called under mmap_lock.
 */
void evr_heal(struct evr_uring *uring, unsigned int side, unsigned int owner)
{
	struct evering_ring_words *words = &uring->header->ring[EVERING_RING_SQ];
	unsigned int healed, lost = 0;

	if (side == EVERING_SIDE_A)
		healed = evr_heal_producer(uring, EVERING_RING_SQ, owner);
	else
		healed = evr_heal_consumer(uring, EVERING_RING_SQ, owner, &lost);
	if (!healed)
		return;

	spin_lock(&uring->lock);
	if (side == EVERING_SIDE_A)
		WRITE_ONCE(words->healed, words->healed + healed);
	WRITE_ONCE(words->lost, words->lost + lost);
	spin_unlock(&uring->lock);
	trace_evering_heal(uring->token, side, owner, healed, lost);
}
