/* SPDX-License-Identifier: MIT OR LGPL-2.1 */
/*
 * What client and server have in common: reserve, submit, peek, wait, seen.
 * @side is the side that the public function is for.
 */
#include <errno.h>

#include "internal.h"

/* The doorbell alone.  A peer that has died meanwhile needs none. */
static int evr_ring_doorbell(struct evering *ep)
{
	int ret = evr_enter(ep, EVERING_ENTER_WAKE_PEER, 0, 0);

	return ret == -EPIPE ? 0 : ret;
}

/* ----------------------------------------------------------------- sending */

void *evr_get(struct evering *ep, unsigned int side)
{
	if (ep->side != side || ring_room(&ep->out) != RING_ROOM)
		return NULL;
	return ring_reserve(&ep->out);
}

int evr_cancel(struct evering *ep, unsigned int side, const void *slot)
{
	if (ep->side != side || !ring_cancel(&ep->out, slot))
		return -EINVAL;
	return 0;
}

/* May this side submit? */
static int evr_may_submit(const struct evering *ep)
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
int evr_commit(struct evering *ep, bool *due)
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

int evr_submit_and_wait(struct evering *ep, unsigned int side,
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
		ret = evr_wait_entries(ep, wait_nr, due, evr_deadline(timeout));
		if (ret < 0)
			return ret;
	}
	if (entry)
		*entry = ep->in.copied ? ring_copy_at(&ep->in, 0) : NULL;
	return submitted;
}

/* --------------------------------------------------------------- receiving */

/* Slots that are done with go back; the peer may be waiting for them. */
static int evr_release(struct evering *ep)
{
	return ring_publish(&ep->in) ? evr_ring_doorbell(ep) : 0;
}

/* Nothing is copied: why, and is that final? */
static int evr_peek_again(struct evering *ep, enum evering_slot_state state,
			  unsigned int nr)
{
	int end = evr_end(ep);
	int ret;

	/* What was sent before the end is taken before the end is told. */
	if (end && state != EVERING_SLOT_LIE)
		state = ring_peek(&ep->in, nr);
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

int evr_peek(struct evering *ep, unsigned int side, const void **entries,
	     unsigned int nr)
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

int evr_wait(struct evering *ep, unsigned int side, const void **entry,
	     unsigned int wait_nr, const struct timespec *timeout)
{
	int ret = 0;

	if (ep->side != side || !wait_nr || wait_nr > ep->in.g.entries ||
	    !evr_timeout_ok(timeout))
		return -EINVAL;
	if (!ep->in.copied && ep->error)
		return ep->error;
	if (ring_peek(&ep->in, wait_nr) != EVERING_SLOT_READY)
		ret = evr_wait_entries(ep, wait_nr, false,
				       evr_deadline(timeout));
	if (!ret && entry)
		*entry = ring_copy_at(&ep->in, 0);
	return ret;
}

void evr_advance(struct evering *ep, unsigned int side, unsigned int nr)
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
