/* SPDX-License-Identifier: MIT OR LGPL-2.1 */
/*
 * What client and server have in common: reserve, submit, peek, wait, seen.
 * @side is the side that the public function is for; it is a constant there.
 *
 * A round trip between two spinning processes on one core is a hundred
 * nanoseconds, and each saved register in it shows.  So all of this is inlined
 * and calls nothing; what is rare is called last, its result passed on as it
 * is, in exchange.c.
 */
#ifndef EVERING_LIB_EXCHANGE_H
#define EVERING_LIB_EXCHANGE_H

#include <errno.h>

#include "shared.h"

/* ----------------------------------------------------------------- sending */

static inline void *evr_get(struct evering *ep, unsigned int side)
{
	if (ep->side != side || ring_room(&ep->out) != RING_ROOM)
		return NULL;
	return ring_reserve(&ep->out);
}

/* Will what is sent never be read? */
static inline bool evr_nobody_reads(const struct evering *ep)
{
	return load_acquire(&ep->peer_state->state) == EVERING_STATE_DEAD ||
	       load_acquire(&ep->peer_control->rclosed);
}

/* May this side submit? */
static inline int evr_may_submit(const struct evering *ep)
{
	if (ep->error)
		return ep->error;
	if (load_once(&ep->control->closed))
		return -ESHUTDOWN;
	return evr_nobody_reads(ep) ? -EPIPE : 0;
}

/* Returns entries committed, or -errno and then nothing has happened. */
static inline int evr_commit(struct evering *ep, bool *due)
{
	int ret;

	*due = false;
	/* With nothing to send, the end of the peer is the reader's to learn. */
	if (ep->out.tail == ep->out.reserved)
		return ep->error;
	ret = evr_may_submit(ep);
	if (ret)
		return ret;
	if (unlikely(ep->shared))
		return evr_shared_submit(ep, due);
	ret = (int)ring_commit(&ep->out);
	*due = ring_wake_due(&ep->out);
	return ret;
}

/* @entry points to the program's pointer, of whichever type, or is NULL. */
static inline void evr_put_oldest(const struct evering *ep, void *entry)
{
	const void *oldest = ep->in.copied ? ring_copy_at(&ep->in, 0) : NULL;

	if (entry)
		memcpy(entry, &oldest, sizeof(oldest));
}

/* Is this the usual wait, for one usual entry with nothing borrowed? */
static inline bool evr_is_usual_wait(const struct evering *ep,
				     unsigned int side, unsigned int wait_nr,
				     const struct timespec *timeout)
{
	if (timeout && (timeout->tv_sec < 0 ||
			(!timeout->tv_sec && !timeout->tv_nsec) ||
			!evr_timeout_ok(timeout)))
		return false;
	return ep->side == side && wait_nr == 1 && !ep->error &&
	       !ep->in.copied && ep->in.published == ep->in.head &&
	       ep->usual && ep->spin.ns && !ep->spin.rest;
}

/*
 * The first microsecond of the usual wait, where an answer that is on its way
 * arrives.  No clock, no look at the peer; evr_wait_entries() goes on where
 * this ends.
 */
static inline bool evr_spin_briefly(struct evering *ep)
{
	const uint64_t *stamp = ring_next_stamp(&ep->in);
	uint64_t ready = ring_ready_stamp(&ep->in);
	unsigned int i;

	for (i = 0; load_acquire(stamp) != ready; i++) {
		if (i == EVR_BRIEF_SPINS)
			return false;
		cpu_relax();
	}
	ring_copy(&ep->in, 64);
	if (i)
		ep->stats.spins++;
	if (unlikely(ep->spin.penalty))
		ep->spin.penalty /= 2;
	return true;
}

static inline int evr_submit_and_wait(struct evering *ep, unsigned int side,
				      void *entry, unsigned int wait_nr,
				      const struct timespec *timeout)
{
	bool due;

	if (unlikely(!evr_is_usual_wait(ep, side, wait_nr, timeout) ||
		     ep->out.reserved - ep->out.tail != 1 ||
		     ep->out.nr_cancelled || evr_may_submit(ep)))
		return evr_submit_and_wait_any(ep, side, entry, wait_nr, timeout);
	ring_commit_one(&ep->out, EVERING_COMMITTED);
	due = ring_wake_due(&ep->out);
	/* A peer that sleeps is woken first. */
	if (unlikely(due) || !evr_spin_briefly(ep))
		return evr_submitted_wait(ep, entry, 1, timeout, due, 1);
	evr_put_oldest(ep, entry);
	return 1;
}

/* --------------------------------------------------------------- receiving */

/* Copies entries until @wanted are there, as ring_peek(). */
static inline enum evering_slot_state evr_take(struct evering *ep,
					       uint64_t wanted)
{
	return unlikely(ep->shared) ? evr_shared_take(ep, wanted) :
				      ring_peek(&ep->in, wanted);
}

/* Slots that are done with go back; the peer may be waiting for them. */
static inline int evr_release(struct evering *ep)
{
	return ring_publish(&ep->in) ? evr_ring_doorbell(ep) : 0;
}

static inline int evr_peek(struct evering *ep, unsigned int side,
			   void *entries, unsigned int nr)
{
	enum evering_slot_state state;
	unsigned int i;
	int ret;

	if (ep->side != side || !nr)
		return -EINVAL;
	/* After a lie nothing more is taken. */
	state = EVERING_SLOT_LIE;
	if (likely(!ep->error))
		state = evr_take(ep, nr);
	if (!ep->in.copied) {
		ret = evr_peek_again(ep, state, nr);
		if (ret)
			return ret;
	}
	if (nr > ep->in.copied) {
		nr = ep->in.copied;
		/* Who looks for more gives room for more. */
		ret = evr_release(ep);
		if (ret)
			return ret;
	}
	for (i = 0; i < nr; i++) {
		const void *copy = ring_copy_at(&ep->in, i);

		memcpy((char *)entries + i * sizeof(copy), &copy, sizeof(copy));
	}
	return (int)nr;
}

static inline int evr_wait(struct evering *ep, unsigned int side,
			   void *entry, unsigned int wait_nr,
			   const struct timespec *timeout)
{
	if (unlikely(!evr_is_usual_wait(ep, side, wait_nr, timeout)) ||
	    !evr_spin_briefly(ep))
		return evr_wait_any(ep, side, entry, wait_nr, timeout);
	evr_put_oldest(ep, entry);
	return 0;
}

static inline void evr_advance(struct evering *ep, unsigned int side,
			       unsigned int nr)
{
	if (unlikely(ep->side != side) || !ep->in.copied)
		return;
	if (nr > ep->in.copied)
		nr = ep->in.copied;
	if (unlikely(ep->shared)) {
		evr_shared_seen(ep, nr);
		return;
	}
	if (unlikely(ep->in_flight))
		evr_heap_completed(ep, nr);
	ring_seen(&ep->in, nr);
	/*
	 * Not one by one where a batch is borrowed.  A doorbell that fails has
	 * no peer to wake, or this endpoint is dead; the next call that returns
	 * something says so.
	 */
	if ((!ep->in.copied ||
	     ep->in.head - ep->in.published > ep->in.g.entries / 2) &&
	    unlikely(ring_publish(&ep->in)))
		evr_ring_doorbell(ep);
}

#endif /* EVERING_LIB_EXCHANGE_H */
