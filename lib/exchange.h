/* SPDX-License-Identifier: MIT OR LGPL-2.1 */
/*
 * What client and server have in common: reserve, submit, peek, wait, seen.
 * @side is the side that the public function is for; it is a constant there,
 * and all of this is inlined: a round trip between two spinning processes is a
 * hundred nanoseconds, and each call in it would show.
 */
#ifndef EVERING_LIB_EXCHANGE_H
#define EVERING_LIB_EXCHANGE_H

#include <errno.h>

#include "internal.h"

/* ----------------------------------------------------------------- sending */

static inline void *evr_get(struct evering *ep, unsigned int side)
{
	if (ep->side != side || ring_room(&ep->out) != RING_ROOM)
		return NULL;
	return ring_reserve(&ep->out);
}

/* May this side submit? */
static inline int evr_may_submit(const struct evering *ep)
{
	if (ep->error)
		return ep->error;
	if (load_once(&ep->control->closed))
		return -ESHUTDOWN;
	if (load_once(&ep->peer_state->state) == EVERING_STATE_DEAD ||
	    load_once(&ep->peer_control->rclosed))
		return -EPIPE;
	return 0;
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
	ret = (int)ring_commit(&ep->out);
	*due = ring_wake_due(&ep->out);
	return ret;
}

static inline int evr_submit(struct evering *ep, unsigned int side)
{
	int submitted, ret;
	bool due;

	if (ep->side != side)
		return -EINVAL;
	submitted = evr_commit(ep, &due);
	if (submitted < 0 || !due)
		return submitted;
	ret = evr_ring_doorbell(ep);
	return ret < 0 ? ret : submitted;
}

/*
 * The first microsecond of a wait, where an answer that is on its way arrives.
 * No clock, no look at the peer; evr_wait_entries() goes on where this ends.
 */
static inline bool evr_spin_briefly(struct evering *ep, unsigned int wait_nr,
				    const struct timespec *timeout)
{
	unsigned int i;

	if (!ep->spin_ns || ep->spin_rest || ep->in.copied >= wait_nr)
		return false;
	if (timeout && timeout->tv_sec <= 0 && !timeout->tv_nsec)
		return false;
	for (i = 0; i < EVR_BRIEF_SPINS; i++) {
		if (ring_exhausted(&ep->in))
			return false;
		if (ring_ready(&ep->in)) {
			ring_copy(&ep->in);
			if (ep->in.copied >= wait_nr) {
				ep->stats.spins++;
				return true;
			}
			continue;
		}
		cpu_relax();
	}
	return false;
}

static inline int evr_submit_and_wait(struct evering *ep, unsigned int side,
				      const void **entry, unsigned int wait_nr,
				      const struct timespec *timeout)
{
	int submitted, ret;
	bool due;

	if (ep->side != side || wait_nr > ep->in.g.entries ||
	    !evr_timeout_ok(timeout))
		return -EINVAL;
	if (!wait_nr) {
		submitted = evr_submit(ep, side);
		if (submitted >= 0 && entry)
			ring_peek(&ep->in, 1);
	} else {
		submitted = evr_commit(ep, &due);
		if (submitted < 0)
			return submitted;
		/* A peer that sleeps is woken first; room is given first. */
		if (due || ep->in.published != ep->in.head ||
		    !evr_spin_briefly(ep, wait_nr, timeout)) {
			ret = evr_wait_entries(ep, wait_nr, due,
					       evr_deadline(timeout));
			if (ret < 0)
				return ret;
		}
	}
	if (entry)
		*entry = ep->in.copied ? ring_copy_at(&ep->in, 0) : NULL;
	return submitted;
}

/* --------------------------------------------------------------- receiving */

/* Slots that are done with go back; the peer may be waiting for them. */
static inline int evr_release(struct evering *ep)
{
	return ring_publish(&ep->in) ? evr_ring_doorbell(ep) : 0;
}

static inline int evr_peek(struct evering *ep, unsigned int side,
			   const void **entries, unsigned int nr)
{
	enum evering_slot_state state;
	unsigned int i;
	int ret;

	if (ep->side != side || !nr)
		return -EINVAL;
	if (!ep->in.copied && ep->error)
		return ep->error;
	state = ring_peek(&ep->in, nr);
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
	for (i = 0; i < nr; i++)
		entries[i] = ring_copy_at(&ep->in, i);
	return (int)nr;
}

static inline int evr_wait(struct evering *ep, unsigned int side,
			   const void **entry, unsigned int wait_nr,
			   const struct timespec *timeout)
{
	int ret = 0;

	if (ep->side != side || !wait_nr || wait_nr > ep->in.g.entries ||
	    !evr_timeout_ok(timeout))
		return -EINVAL;
	if (!ep->in.copied && ep->error)
		return ep->error;
	if (ring_peek(&ep->in, wait_nr) != EVERING_SLOT_READY &&
	    !evr_spin_briefly(ep, wait_nr, timeout))
		ret = evr_wait_entries(ep, wait_nr, false,
				       evr_deadline(timeout));
	if (!ret && entry)
		*entry = ring_copy_at(&ep->in, 0);
	return ret;
}

static inline void evr_advance(struct evering *ep, unsigned int side,
			       unsigned int nr)
{
	if (ep->side != side || !ep->in.copied)
		return;
	if (nr > ep->in.copied)
		nr = ep->in.copied;
	ring_seen(&ep->in, nr);
	/*
	 * Not one by one where a batch is borrowed.  A doorbell that fails has
	 * no peer to wake, or this endpoint is dead; the next call that returns
	 * something says so.
	 */
	if (!ep->in.copied ||
	    ep->in.head - ep->in.published > ep->in.g.entries / 2)
		(void)evr_release(ep);
}

#endif /* EVERING_LIB_EXCHANGE_H */
