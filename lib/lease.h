/* SPDX-License-Identifier: MIT OR LGPL-2.1 */
/*
 * Entries of a ring with many consumers that stay a consumer's until it is done with
 * them, or gives them back, or dies: then its claim is an ORPHAN, for another one.
 *
 * Nobody can be told which one that is.  A count is raised, and who finds it changed
 * looks at all claims, until a look finds none.
 *
 * Which access pairs with which, besides those of multi.h
 *
 *	nack, or heal: claim, orphan_seq, <-> take: orphan_seq, acquire, claims
 *		release			    who sees the raise sees the ORPHAN
 *	ack: claim, full barrier,	<-> kernel: wake_at, full barrier, claims
 *		wake_at, closed		    who waits for the end is woken for it
 */
#ifndef EVERING_LIB_LEASE_H
#define EVERING_LIB_LEASE_H

#include "multi.h"

/* Has something become an ORPHAN since a look that found none? */
static inline bool multi_orphans_due(const struct multi_ring *r)
{
	return r->lease && unlikely(load_once(r->orphan_seq) !=
				    load_once(&r->orphans_seen));
}

/* Next time, look again: the kernel has seen one. */
static inline void multi_expect_orphans(struct multi_ring *r)
{
	store_once(&r->orphans_seen, load_once(r->orphan_seq) - 1);
}

/* The position of slot @i in the lap of @word, near the cursor. */
static inline uint64_t multi_claimed_at(const struct multi_ring *r, uint64_t word,
					uint64_t i)
{
	uint64_t head = load_once(r->head);
	int64_t ahead = evering_word_ahead(word, multi_lap(r, head));

	return (((head >> r->g.lap_shift) + (uint64_t)ahead) << r->g.lap_shift) | i;
}

/**
 * multi_take_orphan() - take what another one has given back, or died with
 * @r:		the ring
 * @pos:	out: where
 * @word:	out: the claim, to give it back with
 *
 * Return: whether there was one.
 */
static inline bool multi_take_orphan(struct multi_ring *r, uint64_t *pos,
				     uint64_t *word)
{
	/* Before the look: what comes later raises it again. */
	uint64_t seq = load_acquire(r->orphan_seq), i;

	for (i = 0; i <= r->g.mask; i++) {
		uint64_t orphan = load_acquire(&r->claims[i]);
		unsigned int deliveries = evering_word_count(orphan);

		if (evering_word_state(orphan) != EVERING_ORPHAN)
			continue;
		if (deliveries < EVERING_MAX_COUNT)
			deliveries++;
		*word = evering_word(orphan >> EVERING_LAP_SHIFT, deliveries,
				     r->owner, EVERING_RETAKEN);
		*pos = multi_claimed_at(r, orphan, i);
		if (multi_put_claim(&r->claims[i], orphan, *word))
			return true;
	}
	store_once(&r->orphans_seen, seq);
	return false;
}

/* Done with the one entry that @word claims at @pos; ends with a full barrier. */
static inline bool multi_ack(struct multi_ring *r, uint64_t pos, uint64_t word)
{
	uint64_t idle = evering_word(multi_lap(r, pos), 1, r->owner, EVERING_IDLE);

	if (!__atomic_compare_exchange_n(multi_claim(r, pos), &word, idle, false,
					 __ATOMIC_RELEASE, __ATOMIC_RELAXED))
		return false;
	multi_help_done(r->head, pos, 1);
	return true;
}

/* The number of times that what @word claims has been delivered. */
static inline unsigned int multi_deliveries(uint64_t word)
{
	return evering_word_state(word) == EVERING_RETAKEN ?
	       evering_word_count(word) : 1;
}

/* Gives it to somebody else; ends with a full barrier, too. */
static inline bool multi_nack(struct multi_ring *r, uint64_t pos, uint64_t word)
{
	uint64_t orphan = evering_word(multi_lap(r, pos), multi_deliveries(word),
				       r->owner, EVERING_ORPHAN);

	if (!__atomic_compare_exchange_n(multi_claim(r, pos), &word, orphan, false,
					 __ATOMIC_RELEASE, __ATOMIC_RELAXED))
		return false;
	multi_help(r->head, pos, 1);
	__atomic_fetch_add(r->orphan_seq, 1, __ATOMIC_RELEASE);
	full_barrier();
	return true;
}

/*
 * May something come back, after multi_take() has said that it was the end?
 * What this one holds itself does not count.
 */
static inline bool multi_leased(const struct multi_ring *r)
{
	uint64_t head, i;

	if (!r->lease)
		return false;
	/*
	 * From the oldest: of a claim of several, only the first slot says so, and
	 * whoever gives them back changes that one last.
	 */
	head = load_acquire(r->head);
	for (i = 0; i <= r->g.mask; i++) {
		uint64_t word = load_acquire(multi_claim(r, head + i));
		unsigned int state = evering_word_state(word);

		if (state == EVERING_ORPHAN ||
		    (state != EVERING_IDLE &&
		     evering_word_owner(word) != r->owner))
			return true;
	}
	return false;
}

/**
 * multi_take_any() - claim entries to read, those that came back first
 * @r:		the ring
 * @wanted:	most entries, as for multi_take()
 * @pos:	out: the first
 * @count:	out: how many
 * @word:	out: the claim, for multi_give_back()
 *
 * Return: as multi_take().
 */
static inline enum multi_verdict multi_take_any(struct multi_ring *r,
						unsigned int wanted,
						uint64_t *pos,
						unsigned int *count,
						uint64_t *word)
{
	enum multi_verdict verdict;

	if (multi_orphans_due(r) && multi_take_orphan(r, pos, word)) {
		*count = 1;
		return MULTI_OK;
	}
	verdict = multi_take(r, wanted, pos, count);
	if (likely(verdict == MULTI_OK))
		*word = evering_word(multi_lap(r, *pos), *count, r->owner,
				     EVERING_TAKEN);
	else if (verdict == MULTI_CLOSED && multi_leased(r))
		verdict = MULTI_NONE;
	return verdict;
}

/* What multi_take_any() has claimed has been read. */
static inline void multi_give_back(struct multi_ring *r, uint64_t pos,
				   unsigned int count, uint64_t word)
{
	if (unlikely(evering_word_state(word) == EVERING_RETAKEN))
		multi_ack(r, pos, word);
	else
		multi_release(r, pos, count);
}

/*
 * A lease was given back, or is done with after the end of the stream: must the
 * own side be woken?
 */
static inline bool multi_own_due(const struct evering_ring_words *words)
{
	return load_acquire(&words->wake_at) != EVERING_NOBODY ||
	       load_acquire(&words->poll_at) != EVERING_NOBODY;
}

#endif /* EVERING_LIB_LEASE_H */
