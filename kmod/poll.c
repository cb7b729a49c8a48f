// SPDX-License-Identifier: GPL-2.0
/*
 * poll, epoll and io_uring poll of an endpoint.
 *
 * Pollers cannot be counted, nor asked what they wait for: HEADER announces that
 * there may be some, from every ->poll() until the next doorbell.
 */
#include <linux/poll.h>

#include "internal.h"

/*
 * Arm, then look.  Every call arms, also one that finds itself ready and one
 * that comes without a queue (epoll's and io_uring's second look): edge-
 * triggered and multishot pollers sleep after either.
 */
static void evr_arm_pollers(struct evr_uring *uring, unsigned int side,
			    __poll_t events, u64 head, u64 tail)
{
	struct evr_side *s = &uring->side[side];

	spin_lock(&s->sleepers.lock);
	if (events & (EPOLLIN | EPOLLRDNORM)) {
		u64 *at = &evr_ring_words(uring, !side)->poll_at;

		s->poll_armed = true;
		WRITE_ONCE(*at, min(READ_ONCE(*at), head));
	}
	if (events & (EPOLLOUT | EPOLLWRNORM)) {
		u64 *at = &evr_ring_words(uring, side)->poll_space_at;

		s->poll_armed = true;
		WRITE_ONCE(*at, min(READ_ONCE(*at), tail));
	}
	spin_unlock(&s->sleepers.lock);
	/* pairs with the library's barrier between the ring and the words */
	smp_mb();
}

/**
 * evr_disarm_pollers() - a doorbell wakes them, once
 * @uring:	the uring
 * @side:	theirs; its sleepers.lock is held
 *
 * Return: whether there may be any to wake.
 */
bool evr_disarm_pollers(struct evr_uring *uring, unsigned int side)
{
	struct evr_side *s = &uring->side[side];
	bool armed = s->poll_armed;

	lockdep_assert_held(&s->sleepers.lock);
	if (armed) {
		s->poll_armed = false;
		WRITE_ONCE(evr_ring_words(uring, !side)->poll_at,
			   EVERING_NOBODY);
		WRITE_ONCE(evr_ring_words(uring, side)->poll_space_at,
			   EVERING_NOBODY);
	}
	return armed;
}

/**
 * evr_poll() - ->poll of an endpoint
 * @file:	the endpoint
 * @table:	from the caller
 *
 * Return: EPOLLIN to take, EPOLLOUT for room, EPOLLRDHUP at the end of the
 * peer's stream, EPOLLHUP for a dead peer, EPOLLERR for a dead endpoint.
 */
__poll_t evr_poll(struct file *file, struct poll_table_struct *table)
{
	struct evr_endpoint *ep = file->private_data;
	struct evr_uring *uring = ep->uring;
	const struct evering_control *own = uring->side[ep->side].control;
	const struct evering_control *other = uring->side[!ep->side].control;
	u64 head = READ_ONCE(own->head);
	u64 tail = READ_ONCE(own->tail);
	__poll_t mask = 0, events;
	bool takes, makes, shared, closed;

	poll_wait(file, &uring->side[ep->side].pollers, table);
	shared = uring->side[ep->side].shared;
	takes = evr_has_ring(uring, !ep->side);
	/* Where many read all of it, each keeps its position to itself. */
	if (ep->read_only) {
		head = READ_ONCE(ep->poll_at);
		takes = takes && head != EVERING_NOBODY;
	}
	makes = evr_has_ring(uring, ep->side) &&
		(evr_has_claims(uring, ep->side) ||
		 !uring->side[!ep->side].many);
	if (shared && takes)
		head = evr_walked(uring, ep->side, false);
	if (shared && makes)
		tail = evr_walked(uring, ep->side, true);
	events = poll_requested_events(table);
	if (!takes)
		events &= ~(EPOLLIN | EPOLLRDNORM);
	if (!makes)
		events &= ~(EPOLLOUT | EPOLLWRNORM);
	evr_arm_pollers(uring, ep->side, events, head, tail);

	/* pairs with evr_shutdown() */
	closed = smp_load_acquire(&other->closed);
	/* pairs with evr_side_set_state() */
	if (smp_load_acquire(&uring->side[!ep->side].state) ==
	    EVERING_STATE_DEAD)
		mask |= EPOLLHUP | EPOLLRDHUP | EPOLLIN | EPOLLOUT;
	/* Another one of this side may have closed it. */
	if (shared && makes && READ_ONCE(own->closed))
		mask |= EPOLLOUT;
	/* pairs with evr_shutdown() */
	if (smp_load_acquire(&other->rclosed))
		mask |= EPOLLOUT;
	if (READ_ONCE(ep->dead))
		mask |= EPOLLERR;
	if (takes && (evr_entries_ready(uring, ep->side, head) ||
		      evr_orphans(uring, ep->side, 1)))
		mask |= EPOLLIN;
	if (makes && evr_room_ready(uring, ep->side, tail))
		mask |= EPOLLOUT;
	if (closed) {
		mask |= EPOLLRDHUP;
		/* Not yet the end, where something may still come: evr_look(). */
		if (!evr_being_written(uring, ep->side, head) &&
		    !evr_leased(uring, ep->side, ep->owner))
			mask |= EPOLLIN;
	}
	/* Who publishes to many does not wait for them. */
	if (!makes && evr_has_ring(uring, ep->side))
		mask |= EPOLLOUT;
	if (mask & EPOLLIN)
		mask |= EPOLLRDNORM;
	if (mask & EPOLLOUT)
		mask |= EPOLLWRNORM;
	return mask;
}
