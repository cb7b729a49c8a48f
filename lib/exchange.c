/* SPDX-License-Identifier: MIT OR LGPL-2.1 */
/* The rare half of exchange.h. */
#include "exchange.h"

/* The doorbell alone.  A peer that has died meanwhile needs none. */
int evr_ring_doorbell(struct evering *ep)
{
	int ret = evr_enter(ep, EVERING_ENTER_WAKE_PEER, 0, 0);

	return ret == -EPIPE ? 0 : ret;
}

int evr_cancel(struct evering *ep, unsigned int side, const void *slot)
{
	if (ep->side != side || !ring_cancel(&ep->out, slot))
		return -EINVAL;
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
