/* SPDX-License-Identifier: MIT OR LGPL-2.1 */
/* The rare half of exchange.h. */
#include "exchange.h"

/* The doorbell alone.  A peer that has died meanwhile needs none. */
int evr_ring_doorbell(struct evering *ep)
{
	int ret = evr_enter(ep, EVERING_ENTER_WAKE_PEER, 0, 0);

	return ret == -EPIPE ? 0 : ret;
}

int evr_submit(struct evering *ep, unsigned int side)
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

/* They are committed, @due says for a peer that sleeps.  Now for the answer. */
int evr_submitted_wait(struct evering *ep, void *entry, unsigned int wait_nr,
		       const struct timespec *timeout, bool due, int submitted)
{
	int ret = evr_wait_entries(ep, wait_nr, due, evr_deadline(timeout));

	if (ret < 0)
		return ret;
	evr_put_oldest(ep, entry);
	return submitted;
}

/* A wait for nothing, which says what is there. */
static int evr_submit_and_peek(struct evering *ep, unsigned int side,
			       void *entry)
{
	int submitted = evr_submit(ep, side);

	/* What there is to say about the peer, the next call says. */
	if (submitted >= 0 && entry && evr_peek(ep, side, entry, 1) < 0)
		evr_put_oldest(ep, entry);
	return submitted;
}

int evr_submit_and_wait_any(struct evering *ep, unsigned int side, void *entry,
			    unsigned int wait_nr,
			    const struct timespec *timeout)
{
	int submitted;
	bool due;

	if (ep->side != side || wait_nr > ep->in.g.entries ||
	    !evr_timeout_ok(timeout))
		return -EINVAL;
	if (!wait_nr)
		return evr_submit_and_peek(ep, side, entry);
	submitted = evr_commit(ep, &due);
	if (submitted < 0)
		return submitted;
	return evr_submitted_wait(ep, entry, wait_nr, timeout, due, submitted);
}

int evr_wait_any(struct evering *ep, unsigned int side, void *entry,
		 unsigned int wait_nr, const struct timespec *timeout)
{
	if (ep->side != side || !wait_nr || wait_nr > ep->in.g.entries ||
	    !evr_timeout_ok(timeout))
		return -EINVAL;
	/* What is there needs no clock. */
	if (!ep->error && evr_take(ep, wait_nr) == EVERING_SLOT_READY) {
		evr_put_oldest(ep, entry);
		return 0;
	}
	return evr_submitted_wait(ep, entry, wait_nr, timeout, false, 0);
}

int evr_cancel(struct evering *ep, unsigned int side, const void *slot)
{
	uint64_t pos;

	if (ep->side != side || !ring_find_reserved(&ep->out, slot, &pos))
		return -EINVAL;
	ring_cancel(&ep->out, pos);
	if (ep->heap)
		evr_heap_cancelled(ep, pos);
	return 0;
}

/* Nothing is copied: why, and is that final? */
int evr_peek_again(struct evering *ep, enum evering_slot_state state,
		   unsigned int nr)
{
	int end = evr_end(ep);
	int ret;

	/* What was sent before the end is taken before the end is told. */
	if (end && state != EVERING_SLOT_LIE)
		state = evr_take(ep, nr);
	if (ep->in.copied)
		return 0;
	if (state == EVERING_SLOT_LIE)
		ep->error = -EPROTO;
	if (ep->error)
		return ep->error;
	if (end)
		return end;
	ret = evr_release(ep);
	return ret ? ret : -EAGAIN;
}
