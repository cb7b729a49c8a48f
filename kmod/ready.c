// SPDX-License-Identifier: GPL-2.0
/*
 * Is there an entry to take, is there room for one?
 *
 * Who is alone on its side says where it stands.  Where a side is shared, nobody
 * there knows, and the kernel walks from the cursor itself.
 *
 * What is read here is written by user space and may be anything; it is read
 * once.  Wherever the library will find a lie, the answer is yes: it is the
 * library that turns it into -EPROTO.
 */
#include "words.h"

/* The ring of which @side wants room, or entries. */
static unsigned int evr_ring_of(unsigned int side, bool space)
{
	return space ? side : !side;
}

/* The words that @side writes there, and by which it finds its place. */
static struct evr_words evr_own_words(const struct evr_uring *uring,
				      unsigned int side, bool space)
{
	return space ? evr_stamps(uring, side) : evr_claims(uring, !side);
}

/* ----------------------------------------------- a ring that nobody claims from */

/* Room before a consumer that gives back in order. */
static bool evr_head_ready(const struct evr_uring *uring, unsigned int ring,
			   u64 pos)
{
	u64 head = READ_ONCE(uring->side[!ring].control->head);

	return pos - head != uring->layout.geometry.entries[ring];
}

/* --------------------------------------------------- a ring with claim words */

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
	struct evr_slot slot = {
		.stamp_ahead = evering_word_ahead(stamp, lap),
		.claim_ahead = evering_word_ahead(claim, lap),
		.stamp = evering_word_state(stamp),
		.zero = !stamp && lap == 1,
		.idle = evering_word_ahead(claim, lap) == -1 &&
			evering_word_state(claim) == EVERING_IDLE,
		.lie = evering_judge(stamp, lap) == EVERING_SLOT_LIE,
	};

	/* Written to, while the entry of the lap before was still a consumer's. */
	if (!slot.stamp_ahead && slot.stamp >= EVERING_COMMITTED &&
	    slot.claim_ahead < 0 && !slot.idle)
		slot.lie = true;
	return slot;
}

/* Is there an entry to take? */
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

static bool evr_news_at(const struct evr_uring *uring, unsigned int side,
			bool space, u64 pos)
{
	unsigned int ring = evr_ring_of(side, space);
	struct evr_words stamps, claims;
	struct evr_slot slot;

	if (!evr_has_claims(uring, ring))
		return space ? evr_head_ready(uring, ring, pos) :
			       evr_stamp_ready(uring, ring, pos);
	stamps = evr_stamps(uring, ring);
	claims = evr_claims(uring, ring);
	slot = evr_slot_at(&stamps, &claims, pos);
	return space ? evr_slot_free(&slot) : evr_slot_full(&slot);
}

/* Has another one of a shared side claimed what we have walked to? */
static bool evr_claimed(const struct evr_words *own, u64 pos)
{
	/* pairs with the claim */
	u64 word = smp_load_acquire(evr_word_at(own, pos));

	return evering_word_ahead(word, evering_lap(pos, own->shift)) >= 0;
}

/*
 * Is there something at the cursor of a shared side?  If there is not, but the
 * cursor has moved on meanwhile, there may be something behind: the caller tries,
 * and asks again only if others have got it.
 */
static bool evr_shared_ready(const struct evr_uring *uring, unsigned int side,
			     bool space)
{
	const struct evr_words own = evr_own_words(uring, side, space);
	u64 pos;

	return !evr_walk(&own, &pos) || evr_news_at(uring, side, space, pos) ||
	       evr_claimed(&own, pos);
}

/* ------------------------------------------------------------------- questions */

/**
 * evr_news() - how many sleepers may be woken?
 * @uring:	the uring
 * @side:	the side that sleeps, which is shared; its sleepers.lock is held
 * @space:	for room, or else for entries
 * @most:	not more than these
 *
 * Return: entries, or free slots, from the cursor on that nobody has been woken
 * for yet.  They are given now.
 */
unsigned int evr_news(struct evr_uring *uring, unsigned int side, bool space,
		      unsigned int most)
{
	const struct evr_words own = evr_own_words(uring, side, space);
	u64 *given = &uring->side[side].given[space];
	unsigned int n = 0, passed = 0;
	u64 pos;

	lockdep_assert_held(&uring->side[side].sleepers.lock);
	if (!evr_has_ring(uring, evr_ring_of(side, space)))
		return 0;
	if (!evr_walk(&own, &pos))
		return most;
	/* Wakes that are out for positions that have been passed are used up. */
	if ((s64)(*given - pos) < 0 || *given - pos > own.mask + 1)
		*given = pos;
	while (n < most && *given - pos <= own.mask) {
		if (evr_news_at(uring, side, space, *given))
			n++;
		else if (!evr_claimed(&own, *given))
			break;
		/* What others have got meanwhile needs no wake. */
		else if (passed++ == EVR_MAX_WALK)
			return most;
		(*given)++;
	}
	return n;
}

/**
 * evr_entries_ready() - may a call that takes an entry succeed now?
 * @uring:	the uring
 * @side:	the side that takes
 * @pos:	where it stands; ignored where it is shared
 *
 * Return: whether it may.
 */
bool evr_entries_ready(const struct evr_uring *uring, unsigned int side, u64 pos)
{
	if (uring->side[side].shared)
		return evr_shared_ready(uring, side, false);
	return evr_stamp_ready(uring, !side, pos);
}

/**
 * evr_room_ready() - may a call that adds an entry succeed now?
 * @uring:	the uring
 * @side:	the side that adds
 * @pos:	where it stands; ignored where it is shared
 *
 * Return: whether it may.
 */
bool evr_room_ready(const struct evr_uring *uring, unsigned int side, u64 pos)
{
	if (uring->side[side].shared)
		return evr_shared_ready(uring, side, true);
	return evr_news_at(uring, side, true, pos);
}

/**
 * evr_walked() - where would a doorbell be due?
 * @uring:	the uring
 * @side:	the side that is about to sleep, which is shared
 * @space:	for room, or else for an entry
 *
 * Return: the position of the next room, or of the next entry.
 */
u64 evr_walked(const struct evr_uring *uring, unsigned int side, bool space)
{
	const struct evr_words own = evr_own_words(uring, side, space);
	u64 pos;

	/* A position that is too low rings more often, and misses nothing. */
	evr_walk(&own, &pos);
	return pos;
}

/**
 * evr_being_written() - may something still come after the end of the stream?
 * @uring:	the uring
 * @side:	the side that takes, and has found nothing
 * @pos:	where it stands; ignored where it is shared
 *
 * Of many producers, who claimed a slot before the end may still commit it; and so
 * may those behind him, if he has just skipped his.  Whatever he does with it, he
 * rings.
 *
 * Return: whether the end has to wait for that.
 */
bool evr_being_written(const struct evr_uring *uring, unsigned int side, u64 pos)
{
	struct evr_words stamps, claims;
	u64 stamp;

	if (!evr_has_ring(uring, !side) || !uring->side[!side].shared)
		return false;
	if (evr_has_claims(uring, !side)) {
		claims = evr_claims(uring, !side);
		if (!evr_walk(&claims, &pos))
			return false;
	}
	stamps = evr_stamps(uring, !side);
	stamp = READ_ONCE(*evr_word_at(&stamps, pos));
	return stamp && !evering_word_ahead(stamp, evering_lap(pos, stamps.shift));
}

/* ---------------------------------------------------------------------- leases */

/**
 * evr_orphans() - leases that were given back, or whose holder has died
 * @uring:	the uring
 * @side:	the side that takes
 * @most:	not more than these
 *
 * As often as something has become an ORPHAN, this may have to look at all
 * claim words; not under a lock that others spin for.
 *
 * Return: how many there are to take again.
 */
unsigned int evr_orphans(struct evr_uring *uring, unsigned int side,
			 unsigned int most)
{
	struct evr_side *s = &uring->side[side];
	struct evr_words claims;
	unsigned int n = 0;
	u64 seq, i;

	if (!uring->lease || !evr_has_claims(uring, !side))
		return 0;
	/* pairs with the raise, after the word became an ORPHAN */
	seq = smp_load_acquire(&s->control->orphan_seq);
	if (seq == READ_ONCE(s->orphans_none))
		return 0;
	claims = evr_claims(uring, !side);
	for (i = 0; i <= claims.mask && n < most; i++) {
		u64 word = READ_ONCE(*evr_word_at(&claims, i));

		n += evering_word_state(word) == EVERING_ORPHAN;
	}
	if (i > claims.mask && !n)
		WRITE_ONCE(s->orphans_none, seq);
	return n;
}

/**
 * evr_leased() - may something come back after the end of the stream?
 * @uring:	the uring
 * @side:	the side that takes
 * @owner:	who asks; what it holds itself does not count
 *
 * Return: whether another one of @side holds an entry.
 */
bool evr_leased(const struct evr_uring *uring, unsigned int side,
		unsigned int owner)
{
	struct evr_words claims;
	u64 head, i;

	if (!uring->lease || !evr_has_claims(uring, !side))
		return false;
	claims = evr_claims(uring, !side);
	/*
	 * From the oldest: of a claim of several, only the first slot says so, and
	 * whoever gives them back, or heals, changes that one last.
	 */
	head = READ_ONCE(*claims.cursor);
	for (i = 0; i <= claims.mask; i++) {
		/* pairs with the release of a claim */
		u64 word = smp_load_acquire(evr_word_at(&claims, head + i));
		unsigned int state = evering_word_state(word);

		if (state == EVERING_ORPHAN ||
		    (state != EVERING_IDLE && evering_word_owner(word) != owner))
			return true;
	}
	return false;
}
