/* SPDX-License-Identifier: MIT OR LGPL-2.1 */
/* Waiting: spin while that has paid lately, then sleep in the kernel. */
#include <errno.h>

#include "exchange.h"

uint64_t evr_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000U + (uint64_t)ts.tv_nsec;
}

/* NULL: EVERING_NO_DEADLINE; zero or less: 0, which means do not wait. */
uint64_t evr_deadline(const struct timespec *timeout)
{
	uint64_t ns;

	if (!timeout)
		return EVERING_NO_DEADLINE;
	if (timeout->tv_sec < 0 || (!timeout->tv_sec && timeout->tv_nsec <= 0))
		return 0;
	if (__builtin_mul_overflow((uint64_t)timeout->tv_sec, 1000000000U, &ns) ||
	    __builtin_add_overflow(ns, (uint64_t)timeout->tv_nsec, &ns) ||
	    __builtin_add_overflow(ns, evr_now(), &ns))
		return EVERING_NO_DEADLINE;
	return ns;
}

int evr_enter(struct evering *ep, unsigned int flags, unsigned int wait_nr,
	      uint64_t deadline)
{
	struct evering_enter args = {
		.size = sizeof(args),
		.flags = flags,
		.wait_pos = ep->in.next,
		.space_pos = ep->out.reserved,
		.deadline = deadline,
		.min_complete = wait_nr,
		.generation = ep->generation,
	};

	ep->stats.enters++;
	if (flags & EVERING_ENTER_WAKE_PEER)
		ep->stats.doorbells++;
	if (flags & (EVERING_ENTER_WAIT | EVERING_ENTER_WAIT_SPACE))
		ep->stats.sleeps++;
	return ep->backend->enter(ep, &args);
}

/* Has the peer ended?  The caller looks at the ring once more after a yes. */
int evr_end(const struct evering *ep)
{
	/* pairs with the kernel's release of state, after all that was sent */
	if (load_acquire(&ep->peer_state->state) == EVERING_STATE_DEAD)
		return -EPIPE;
	/* pairs with the release of closed, after all that was sent */
	if (!load_acquire(&ep->peer_control->closed))
		return 0;
	/* One of them may have claimed its slot before that. */
	if (unlikely(ep->shared) && !ep->shared->over)
		return 0;
	if (unlikely(ep->peers_many) && !ep->shared) {
		/* pairs with multi_reserve(): claimed before closed was set */
		full_barrier();
		if (ring_being_written(&ep->in))
			return 0;
	}
	return -ESHUTDOWN;
}

/* Are @wait_nr entries here, or is there no point in waiting for them? */
static inline bool evr_settled(struct evering *ep, unsigned int wait_nr)
{
	if (!ep->error && evr_take(ep, wait_nr) == EVERING_SLOT_LIE)
		ep->error = -EPROTO;
	return ep->in.copied >= wait_nr || ep->error ||
	       ring_exhausted(&ep->in);
}

/* Does the one stamp that comes next say something? */
static inline bool evr_worth_a_look(const struct evering *ep)
{
	/* With others, what comes next is in no place that is known. */
	return unlikely(ep->shared) || ring_ready(&ep->in) ||
	       ring_look(&ep->in, ep->in.next) != EVERING_SLOT_NOT_YET;
}

/*
 * Looks at the one stamp that comes next, and only now and then at the clock
 * and at the peer: each look more is latency.
 *
 * 1: settled; 0: the time is over; else the end of the peer.
 */
static int evr_spin(struct evering *ep, unsigned int wait_nr, uint64_t deadline)
{
	uint64_t limit = 0;
	unsigned int i;
	int end;

	for (;;) {
		for (i = 0; i < EVR_SPINS_A_CLOCK; i++) {
			if (evr_worth_a_look(ep)) {
				if (evr_settled(ep, wait_nr))
					return 1;
				/* It may have stepped over a whole ring. */
				if (!ep->shared)
					break;
			}
			cpu_relax();
		}
		end = evr_end(ep);
		if (end)
			return end;
		if (!limit) {
			limit = evr_now() + ep->spin.ns;
			if (limit > deadline)
				limit = deadline;
		} else if (evr_now() >= limit) {
			return 0;
		}
	}
}

/* One sleep for entries.  1: settled; 0: not yet; else -errno. */
static int evr_sleep(struct evering *ep, unsigned int wait_nr, bool wake,
		     uint64_t deadline)
{
	uint64_t next = ep->in.next, wanted;
	unsigned int flags = EVERING_ENTER_WAIT;
	int ret;

	if (wake)
		flags |= EVERING_ENTER_WAKE_PEER;
	/*
	 * Not for more than can come: cancelled entries of the peer take slots
	 * too, and behind a borrowed entry they cannot be given back.
	 */
	wanted = wait_nr - ep->in.copied;
	if (wanted > ring_to_come(&ep->in))
		wanted = ring_to_come(&ep->in);
	/* Nor for more than others leave us. */
	if (ep->shared)
		wanted = 1;
	ret = evr_enter(ep, flags, (unsigned int)wanted, deadline);
	/* Of many, only the ring knows what is the end. */
	if (ret < 0 && !(ret == -ESHUTDOWN && ep->shared))
		return ret;
	/*
	 * The last entry that we want is there and the first is not: nobody
	 * commits out of order but to keep us going round here.
	 */
	if (evr_settled(ep, wait_nr))
		return 1;
	if (ret < 0 && ep->shared->over)
		return ret;
	if (ep->in.next == next && !ep->shared) {
		ep->error = -EPROTO;
		return 1;
	}
	/* A peer that feeds skipped slots is no reason to overstay. */
	if (deadline != EVERING_NO_DEADLINE && evr_now() >= deadline)
		return -ETIME;
	return 0;
}

/* Nothing is there yet.  1: settled; else -errno. */
static int evr_wait_on(struct evering *ep, unsigned int wait_nr, bool *wake,
		       uint64_t deadline)
{
	int ret;

	if (evr_may_spin(&ep->spin)) {
		if (*wake)
			evr_enter(ep, EVERING_ENTER_WAKE_PEER, 0, 0);
		*wake = false;
		ret = evr_spin(ep, wait_nr, deadline);
		evr_learn(&ep->spin, ret);
		if (ret) {
			ep->stats.spins++;
			return ret;
		}
	}
	do {
		/*
		 * Slots that were just stepped over are given back before the
		 * sleep, or the peer might wait for their room.
		 */
		*wake |= ring_publish(&ep->in);
		ret = evr_sleep(ep, wait_nr, *wake, deadline);
		*wake = false;
	} while (!ret);
	return ret;
}

/*
 * Waits until @wait_nr entries are copied, or fewer where more will not come.
 * @wake: the doorbell is due; it is rung in any case.
 */
int evr_wait_entries(struct evering *ep, unsigned int wait_nr, bool wake,
		     uint64_t deadline)
{
	int ret = 1;

	/* With others, who waits for several would keep what he has from them. */
	if (ep->shared && wait_nr > 1)
		wait_nr = 1;
	/* Room that the peer may need in order to go on. */
	wake |= ring_publish(&ep->in);
	if (!evr_settled(ep, wait_nr)) {
		ret = evr_end(ep);
		if (!ret)
			ret = deadline ? evr_wait_on(ep, wait_nr, &wake,
						     deadline) :
					 -EAGAIN;
		/* What was sent before the end is taken before it is told. */
		if (ret < 0)
			evr_settled(ep, wait_nr);
		wake |= ring_publish(&ep->in);
	}
	if (wake)
		evr_enter(ep, EVERING_ENTER_WAKE_PEER, 0, 0);

	if (ep->in.copied >= wait_nr)
		return 0;
	/* Fewer than wanted, but more will not come before these are taken. */
	if (ep->in.copied && (ret > 0 || ret == -EPIPE || ret == -ESHUTDOWN))
		return 0;
	return ep->error ? ep->error : ret;
}

/* Room for one more; of many, what is reserved has to go out first. */
static enum ring_room evr_room(struct evering *ep, bool *wake)
{
	bool due;
	int ret;

	if (!ep->shared)
		return ring_room(&ep->out);
	ret = evr_commit(ep, &due);
	*wake |= due;
	/* Why it cannot go out at all, the next submission says. */
	if (ret < 0 && ret != -EAGAIN)
		return RING_ROOM;
	return ep->out.tail != ep->out.reserved || multi_full(&ep->shared->out) ?
	       RING_FULL : RING_ROOM;
}

/*
 * What a submitter may do now: EVERING_READY_*, or -errno, or 0 to wait.  The
 * @held entries that it has not released are no news to it.
 */
static int evr_look_for_space(struct evering *ep, uint64_t held, bool *wake)
{
	int ready = 0;

	switch (evr_room(ep, wake)) {
	case RING_ROOM:
		ready |= EVERING_READY_SPACE;
		break;
	case RING_LIE:
		ep->error = -EPROTO;
		break;
	case RING_FULL:
		break;
	}
	if (ep->error)
		return ep->error;
	if (evr_take(ep, held + 1) == EVERING_SLOT_LIE)
		ep->error = -EPROTO;
	if (ep->in.copied > held)
		ready |= EVERING_READY_ENTRIES;
	else if (ep->error)
		return ep->error;
	return ready;
}

int evr_wait_space(struct evering *ep, unsigned int side,
		   const struct timespec *timeout)
{
	uint64_t deadline = evr_deadline(timeout);
	uint64_t held = ep->in.copied;
	bool wake;
	int ret;

	if (ep->side != side || !evr_timeout_ok(timeout))
		return -EINVAL;
	/* What is reserved takes room too, and the peer must see it first. */
	ret = evr_commit(ep, &wake);
	if (ret < 0 && ret != -EAGAIN)
		return ret;
	wake |= ring_publish(&ep->in);
	for (;;) {
		unsigned int flags = EVERING_ENTER_WAIT_SPACE;
		/* The end first: what came before it is still found. */
		bool end = evr_nobody_reads(ep);
		uint64_t next;

		ret = evr_look_for_space(ep, held, &wake);
		if (!ret && end)
			ret = -EPIPE;
		if (ret || !deadline)
			break;
		/* Slots stepped over are given back before the sleep. */
		wake |= ring_publish(&ep->in);
		next = ep->in.next;
		if (!ring_exhausted(&ep->in))
			flags |= EVERING_ENTER_WAIT;
		if (wake)
			flags |= EVERING_ENTER_WAKE_PEER;
		ret = evr_enter(ep, flags, 1, deadline);
		wake = false;
		if (ret < 0)
			break;
		ret = evr_look_for_space(ep, held, &wake);
		if (ret)
			break;
		/* Ready in the kernel and not here: a word that goes back. */
		if (ep->in.next == next && !ep->shared) {
			ret = ep->error = -EPROTO;
			break;
		}
		/* A peer that feeds skipped slots is no reason to overstay. */
		if (deadline != EVERING_NO_DEADLINE && evr_now() >= deadline) {
			ret = -ETIME;
			break;
		}
	}
	wake |= ring_publish(&ep->in);
	if (wake)
		evr_enter(ep, EVERING_ENTER_WAKE_PEER, 0, 0);
	return ret ? ret : -EAGAIN;
}
