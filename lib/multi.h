/* SPDX-License-Identifier: MIT OR LGPL-2.1 */
/*
 * A ring with many producers, many consumers or both, any of whom may be killed
 * between any two instructions.  Who is alone on a side works as in ring.h.
 *
 * A slot is claimed with its owner's name in it before the cursor moves, so at
 * no instant is it taken by nobody: the kernel finds what a dead process held.
 * Cursors are hints.  Whoever stands at one looks at the word of the own side
 * there first, and where that is of this lap, the cursor is behind: it is helped
 * past the claim, by compare-and-swap, and all starts over.
 *
 * A claim is of a run of slots.  Only its first word says RESERVED or TAKEN, and
 * that word is the last to say COMMITTED or IDLE: the run is accepted, or given
 * back, as a whole by that one store.  So whoever looks for a run asks the first
 * word, and takes its count for the others: their lines may be the other side's.
 *
 * Which access pairs with which
 *
 *	commit: first stamp, release	<-> take: stamps, acquire
 *		all entries of the run are whole when its first stamp is seen
 *	release: first claim, release	<-> reserve: claims, acquire
 *		all of the run has been read when its room is seen
 *	help: cursor, release		<-> cursor, acquire
 *		who sees the cursor sees the word that it was moved past
 *	reserve: stamp, full barrier,	<-> close: closed, full barrier
 *		closed			    take: closed, full barrier, stamp
 *		nothing is accepted after a consumer was told of the end
 */
#ifndef EVERING_LIB_MULTI_H
#define EVERING_LIB_MULTI_H

#include "ring.h"

/* Slots that a producer asks about in advance, and most that it claims at a time. */
#define MULTI_AHEAD	EVERING_MAX_COUNT

/**
 * struct multi_ring - a ring as seen from a side that is many
 * @g:		constants
 * @slots:	in the producers' section
 * @claims:	a word a slot, in the consumers' section; NULL: one consumer, who
 *		gives back in order
 * @tail:	the producers' cursor, in their section
 * @head:	the consumers' cursor, in theirs
 * @closed:	the producers accept no more
 * @orphan_seq:	raised after a claim became an ORPHAN, in the consumers' section
 * @orphans_seen: an orphan_seq, after which there was no ORPHAN; of all threads
 * @room:	slots before it were given back; of all threads
 * @owner:	who this is, on its side
 * @lease:	what has been taken comes back, if its consumer dies
 */
struct multi_ring {
	struct ring_geometry g;
	char *slots;
	uint64_t *claims;
	uint64_t *tail;
	uint64_t *head;
	const uint32_t *closed;
	uint64_t *orphan_seq;
	uint64_t orphans_seen;
	uint64_t room;
	unsigned int owner;
	bool lease;
};

enum multi_verdict {
	MULTI_OK,
	MULTI_NONE,	/* full, or empty */
	MULTI_BUSY,	/* the next entry is being written */
	MULTI_CLOSED,	/* accepts no more, or the end of the stream */
	MULTI_LIE,	/* no honest peer leaves this */
};

static inline uint64_t *multi_stamp(const struct multi_ring *r, uint64_t pos)
{
	return ring_stamp(&r->g, r->slots, pos);
}

static inline uint64_t *multi_claim(const struct multi_ring *r, uint64_t pos)
{
	return &r->claims[pos & r->g.mask];
}

static inline uint64_t multi_lap(const struct multi_ring *r, uint64_t pos)
{
	return evering_lap(pos, r->g.lap_shift);
}

/* Moves a cursor past the @count slots of a claim at @pos, unless it has moved. */
static inline void multi_help(uint64_t *cursor, uint64_t pos, unsigned int count)
{
	__atomic_compare_exchange_n(cursor, &pos, pos + count, false,
				    __ATOMIC_RELEASE, __ATOMIC_RELAXED);
}

/*
 * multi_help() of a claim that is done with, and a full barrier: the swap is one,
 * whether or not it succeeds, but only if it is executed.
 */
static inline void multi_help_done(uint64_t *cursor, uint64_t pos,
				   unsigned int count)
{
	/* A swap that is known to fail would take the line all the same. */
	if (load_once(cursor) == pos) {
		multi_help(cursor, pos, count);
		barrier_after_swap();
	} else {
		full_barrier();
	}
}

/* Puts a claim of @count slots into @at, where @word still is. */
static inline bool multi_put_claim(uint64_t *at, uint64_t word, uint64_t claim)
{
	return __atomic_compare_exchange_n(at, &word, claim, false,
					   __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}

/* --------------------------------------------------------------- producing */

/* Is the slot at @pos, whose stamp is @word, done with in the lap before? */
static inline bool multi_stamp_old(const struct multi_ring *r, uint64_t pos,
				   uint64_t word)
{
	uint64_t lap = multi_lap(r, pos);

	if (!word)
		return lap == 1;
	return evering_word_ahead(word, lap) == -1 &&
	       evering_word_state(word) >= EVERING_COMMITTED;
}

/* Has the entry of the lap before been consumed, and given back? */
static inline bool multi_claim_idle(const struct multi_ring *r, uint64_t pos,
				    uint64_t word)
{
	return evering_word_ahead(word, multi_lap(r, pos)) == -1 &&
	       evering_word_state(word) == EVERING_IDLE;
}

/*
 * Slots from @pos on, at most @most, of which the entry of the lap before has been
 * given back.
 */
static inline unsigned int multi_idle(const struct multi_ring *r, uint64_t pos,
				      unsigned int most)
{
	unsigned int n = 0;

	while (n < most) {
		uint64_t word = load_acquire(multi_claim(r, pos + n));

		if (!multi_claim_idle(r, pos + n, word))
			return n;
		n += evering_word_count(word);
	}
	return most;
}

/*
 * Up to where slots were given back, as far as is known.  What was given back stays
 * so until somebody of our side has claimed the slot, and then its stamp says so.
 * So one looks further than one needs to: each look takes a line from the consumer
 * who writes there.
 */
static inline uint64_t multi_room_end(struct multi_ring *r, uint64_t pos,
				      unsigned int wanted)
{
	/* pairs with the store below, by another thread */
	uint64_t end = load_acquire(&r->room);

	if (likely((int64_t)(end - pos) >= (int64_t)wanted))
		return end;
	if (!r->claims) {
		/* pairs with the release of head */
		end = load_acquire(r->head) + r->g.entries;
		/* A lie, or we are late: multi_no_room() tells. */
		if (end - pos > r->g.entries)
			return pos;
	} else {
		/* A lie must not reach further than the ring does. */
		uint64_t ahead = r->g.entries < MULTI_AHEAD ? r->g.entries :
							      MULTI_AHEAD;

		if ((int64_t)(end - pos) < 0)
			end = pos;
		end += multi_idle(r, end, (unsigned int)(pos + ahead - end));
	}
	/* Another thread may know more, or less. */
	store_release(&r->room, end);
	return end;
}

/*
 * Slots from @pos on that are free, at most @wanted.  The own stamps are asked
 * as well: a peer that lies in its claims must not make us write to a slot that
 * another producer is writing to.
 */
static inline unsigned int multi_room(struct multi_ring *r, uint64_t pos,
				      unsigned int wanted)
{
	uint64_t end = multi_room_end(r, pos, wanted), word;
	unsigned int n;

	/* Brought to be written to, before they are read: one transfer, not two. */
	for (n = 0; n < wanted && (int64_t)(end - pos - n) > RING_PREFETCH; n++)
		ring_prefetch(&r->g, r->slots, pos + n + RING_PREFETCH);
	if (wanted > end - pos)
		wanted = (unsigned int)(end - pos);
	for (n = 0; n < wanted; n += evering_word_count(word)) {
		word = load_acquire(multi_stamp(r, pos + n));
		if (!multi_stamp_old(r, pos + n, word))
			return n;
	}
	return wanted;
}

/* No room at @pos: why?  Holds where neither cursor nor stamp have moved. */
static inline enum multi_verdict multi_no_room(const struct multi_ring *r,
					       uint64_t pos)
{
	int64_t ahead;
	uint64_t used;

	if (load_once(r->closed))
		return MULTI_CLOSED;
	if (!r->claims) {
		used = pos - load_acquire(r->head);
		/* Just now; or given back before one of us has written to it. */
		if (used < r->g.entries &&
		    !multi_stamp_old(r, pos, load_acquire(multi_stamp(r, pos))))
			return MULTI_LIE;
		return used <= r->g.entries ? MULTI_NONE : MULTI_LIE;
	}
	ahead = evering_word_ahead(load_acquire(multi_claim(r, pos)),
				   multi_lap(r, pos));
	/* A lap behind and in use, or two behind: not yet consumed. */
	if (ahead == -1 || ahead == -2)
		return MULTI_NONE;
	return MULTI_LIE;
}

/* Would multi_reserve() find no room? */
static inline bool multi_full(struct multi_ring *r)
{
	for (;;) {
		uint64_t p = load_acquire(r->tail);
		uint64_t word = load_acquire(multi_stamp(r, p));
		int64_t ahead = evering_word_ahead(word, multi_lap(r, p));
		enum multi_verdict why;

		if (ahead == 0) {
			multi_help(r->tail, p, evering_word_count(word));
			continue;
		}
		if (ahead < 0 && multi_room(r, p, 1))
			return false;
		why = multi_no_room(r, p);
		/* As in multi_reserve(). */
		if (load_acquire(r->tail) == p &&
		    load_acquire(multi_stamp(r, p)) == word)
			return why == MULTI_NONE;
	}
}

/* The slot at @pos, which is not the first of its claim, is done with. */
static inline void multi_mark_inner(struct multi_ring *r, uint64_t pos,
				    unsigned int state)
{
	store_once(multi_stamp(r, pos),
		   evering_word(multi_lap(r, pos), 1, r->owner, state));
}

/*
 * And now the first, and with it all @count of them.  Ends with a full barrier.
 *
 * The cursor is helped last: a consumer that waits for the first slot should find
 * it committed, and not take its line away when it is only reserved.  Whoever wants
 * to claim what is behind does not wait for that, but helps.
 */
static inline void multi_mark_first(struct multi_ring *r, uint64_t pos,
				    unsigned int count, unsigned int state)
{
	store_release(multi_stamp(r, pos),
		      evering_word(multi_lap(r, pos), count, r->owner, state));
	multi_help_done(r->tail, pos, count);
}

/*
 * The entry at @pos, which is not the first of its claim, has been written.  Said
 * as soon as it has been, while its line is here.
 */
static inline void multi_commit_inner(struct multi_ring *r, uint64_t pos)
{
	multi_mark_inner(r, pos, EVERING_COMMITTED);
}

/*
 * So has the first, and all others of its claim are committed: @count slots are
 * accepted.  The first should be written last: a consumer is looking at it.  Ends
 * with a full barrier.
 */
static inline void multi_commit(struct multi_ring *r, uint64_t pos,
				unsigned int count)
{
	multi_mark_first(r, pos, count, EVERING_COMMITTED);
}

/* All of a claim carries nothing.  Ends with a full barrier. */
static inline void multi_cancel(struct multi_ring *r, uint64_t pos,
				unsigned int count)
{
	unsigned int i;

	for (i = 1; i < count; i++)
		multi_mark_inner(r, pos + i, EVERING_SKIPPED);
	multi_mark_first(r, pos, count, EVERING_SKIPPED);
}

/**
 * multi_reserve() - claim slots to write to
 * @r:		the ring
 * @wanted:	most slots, 1 to EVERING_MAX_COUNT and to entries
 * @pos:	out: the first
 * @count:	out: how many
 *
 * Return: MULTI_OK, and then multi_commit_inner() for all but the first, and
 * multi_commit(), or multi_cancel() is due; MULTI_NONE, MULTI_CLOSED, MULTI_LIE.
 */
static inline enum multi_verdict multi_reserve(struct multi_ring *r,
					       unsigned int wanted,
					       uint64_t *pos,
					       unsigned int *count)
{
	/* Or each that tries would leave a skipped slot. */
	while (likely(!load_once(r->closed))) {
		uint64_t p = load_acquire(r->tail);
		uint64_t lap = multi_lap(r, p);
		uint64_t word = load_acquire(multi_stamp(r, p)), claim;
		int64_t ahead = evering_word_ahead(word, lap);
		unsigned int n;

		if (ahead == 0) {
			multi_help(r->tail, p, evering_word_count(word));
			continue;
		}
		n = ahead < 0 ? multi_room(r, p, wanted) : 0;
		if (!n) {
			enum multi_verdict why = multi_no_room(r, p);

			/*
			 * Of this lap, or of none: if the slot has been claimed
			 * meanwhile, the peer may be a lap further, and that
			 * before anybody has helped the cursor.
			 */
			if (load_acquire(r->tail) != p ||
			    load_acquire(multi_stamp(r, p)) != word)
				continue;
			return why;
		}
		claim = evering_word(lap, n, r->owner, EVERING_RESERVED);
		if (!multi_put_claim(multi_stamp(r, p), word, claim))
			continue;
		*pos = p;
		*count = n;
		/* pairs with close and with take, see above */
		barrier_after_swap();
		if (likely(!load_once(r->closed)))
			return MULTI_OK;
		multi_cancel(r, p, n);
		break;
	}
	return MULTI_CLOSED;
}

/* --------------------------------------------------------------- consuming */

static inline bool multi_stamp_ready(const struct multi_ring *r, uint64_t pos,
				     uint64_t word)
{
	return evering_word_ahead(word, multi_lap(r, pos)) == 0 &&
	       evering_word_state(word) >= EVERING_COMMITTED;
}

/*
 * Entries from @pos on, at most @wanted; the own claims as in multi_room().  The
 * count of a stamp is the peer's word: see multi_entry().
 */
static inline unsigned int multi_ready(const struct multi_ring *r, uint64_t pos,
				       unsigned int wanted)
{
	unsigned int n = 0, run;

	while (n < wanted) {
		uint64_t word = load_acquire(multi_stamp(r, pos + n));
		unsigned int count = evering_word_count(word);

		if (!multi_stamp_ready(r, pos + n, word))
			break;
		if (count > wanted - n)
			count = wanted - n;
		run = multi_idle(r, pos + n, count);
		n += run;
		if (run != count)
			break;
	}
	return n;
}

/* Not yet given back by who took the entry of the lap before, or one older? */
static inline bool multi_claim_held(const struct multi_ring *r, uint64_t pos,
				    uint64_t word)
{
	return evering_word_ahead(word, multi_lap(r, pos)) < 0 &&
	       !multi_claim_idle(r, pos, word);
}

/* Nothing at @pos: why?  Holds where neither cursor nor claim have moved. */
static inline enum multi_verdict multi_not_ready(const struct multi_ring *r,
						 uint64_t pos)
{
	bool closed = load_acquire(r->closed);
	uint64_t word;

	/* pairs with reserve: who claimed before this is seen */
	if (unlikely(closed))
		full_barrier();
	word = load_acquire(multi_stamp(r, pos));
	switch (evering_judge(word, multi_lap(r, pos))) {
	case EVERING_SLOT_READY:
	case EVERING_SLOT_SKIP:
		/* Written to, while the entry before it was still somebody's? */
		if (multi_claim_held(r, pos, load_acquire(multi_claim(r, pos))))
			return MULTI_LIE;
		/* Just now; or a claim of our side that it cannot have. */
		return MULTI_BUSY;
	case EVERING_SLOT_LIE:
		return MULTI_LIE;
	case EVERING_SLOT_NOT_YET:
		break;
	}
	if (word && evering_word_ahead(word, multi_lap(r, pos)) == 0)
		return MULTI_BUSY;
	return closed ? MULTI_CLOSED : MULTI_NONE;
}

/**
 * multi_take() - claim entries to read
 * @r:		the ring
 * @wanted:	most entries, 1 to EVERING_MAX_COUNT and to entries
 * @pos:	out: the first
 * @count:	out: how many; multi_entry() tells what each is
 *
 * Return: MULTI_OK, and then multi_release() is due; MULTI_NONE, MULTI_BUSY;
 * MULTI_CLOSED: the end of the stream; MULTI_LIE.
 */
static inline enum multi_verdict multi_take(struct multi_ring *r,
					    unsigned int wanted, uint64_t *pos,
					    unsigned int *count)
{
	for (;;) {
		uint64_t c = load_acquire(r->head);
		uint64_t lap = multi_lap(r, c);
		uint64_t word = load_acquire(multi_claim(r, c)), claim;
		int64_t ahead = evering_word_ahead(word, lap);
		unsigned int n;

		if (ahead == 0) {
			multi_help(r->head, c, evering_claim_slots(word));
			continue;
		}
		n = ahead < 0 ? multi_ready(r, c, wanted) : 0;
		if (!n) {
			enum multi_verdict why = multi_not_ready(r, c);

			/* Of this lap, or of none, as in multi_reserve(). */
			if (load_acquire(r->head) != c ||
			    load_acquire(multi_claim(r, c)) != word)
				continue;
			return why;
		}
		claim = evering_word(lap, n, r->owner, EVERING_TAKEN);
		if (!multi_put_claim(multi_claim(r, c), word, claim))
			continue;
		*pos = c;
		*count = n;
		return MULTI_OK;
	}
}

/*
 * What is in the slot at @pos, which has been claimed: EVERING_SLOT_READY, _SKIP, or
 * _LIE where the first stamp has said that it would be one of these, and it is not.
 */
static inline enum evering_slot_state multi_entry(const struct multi_ring *r,
						  uint64_t pos)
{
	enum evering_slot_state state =
		evering_judge(load_once(multi_stamp(r, pos)), multi_lap(r, pos));

	return likely(state != EVERING_SLOT_NOT_YET) ? state : EVERING_SLOT_LIE;
}

/*
 * What multi_take() has claimed has been read.  Only now is the cursor helped, as
 * by a producer.  Ends with a full barrier.
 */
static inline void multi_release(struct multi_ring *r, uint64_t pos,
				 unsigned int count)
{
	unsigned int i;

	for (i = 1; i < count; i++)
		store_once(multi_claim(r, pos + i),
			   evering_word(multi_lap(r, pos + i), 1, r->owner,
					EVERING_IDLE));
	store_release(multi_claim(r, pos),
		      evering_word(multi_lap(r, pos), count, r->owner,
				   EVERING_IDLE));
	multi_help_done(r->head, pos, count);
}

/* --------------------------------------------------------------- who sleeps */

/*
 * Whoever has committed or given back looks at who sleeps, after the full barrier at
 * the end of that.  It pairs with the kernel's, between the words and its look at the
 * ring.
 */

/* Slots up to @last are committed: must the doorbell be rung? */
static inline bool multi_wake_due(const struct evering_ring_words *words,
				  uint64_t last)
{
	return last >= load_once(&words->wake_at) ||
	       last >= load_once(&words->poll_at);
}

/* Slots up to @last are given back: must it? */
static inline bool multi_space_due(const struct multi_ring *r,
				   const struct evering_ring_words *words,
				   uint64_t last)
{
	uint64_t at = last + r->g.entries;

	return at >= load_once(&words->space_at) ||
	       at >= load_once(&words->poll_space_at);
}

#endif /* EVERING_LIB_MULTI_H */
