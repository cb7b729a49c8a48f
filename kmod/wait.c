// SPDX-License-Identifier: GPL-2.0
/*
 * Sleeping and waking.
 *
 * A sleeper announces itself in HEADER, passes a full barrier, looks at the
 * ring, and sleeps.  Its peer, in user space, changes the ring, passes a full
 * barrier, and looks at HEADER.  One of the two sees the other.
 *
 * What the kernel reads in sections A and B is written by user space and may
 * be anything; it is read once, and decides no more than who wakes when.
 */
#include <linux/hrtimer.h>
#include <linux/poll.h>
#include <linux/sched/signal.h>

#include "compat.h"
#include "internal.h"
#include "trace.h"

/*
 * An endpoint is one producer and one consumer, so one thread sleeps, or two.
 * The bound keeps the walk under sleepers.lock short whatever a program does;
 * where a side has many endpoints, each of them adds what it costs to be one.
 */
#define EVR_MAX_SLEEPERS	16
/* Of a queue, any number of threads pop and push. */
#define EVR_MAX_QUEUE_SLEEPERS	1024

/**
 * struct evr_waiter - one ENTER that sleeps; on its stack
 * @entry:	in evr_side.sleepers
 * @ep:		who sleeps; holds its uring
 * @args:	what it waits for
 * @wake_at:	when the doorbell is due for its entries, or EVERING_NOBODY
 * @space_at:	and for its room
 * @found:	what evr_look() said to whoever woke it; valid once @entry is off
 *		the list, 0 for "look again"
 */
struct evr_waiter {
	struct wait_queue_entry entry;
	struct evr_endpoint *ep;
	const struct evering_enter *args;
	u64 wake_at;
	u64 space_at;
	int found;
};

/* -------------------------------------------------------- looking at rings */

static bool evr_has_ring(const struct evr_uring *uring, unsigned int producer)
{
	return uring->layout.geometry.entries[producer];
}

/*
 * Is there something to learn at position @pos of the ring that @producer
 * writes?  A lie counts: the library turns it into -EPROTO.
 */
static bool evr_slot_ready(const struct evr_uring *uring,
			   unsigned int producer, u64 pos)
{
	const struct evering_layout *layout = &uring->layout;
	u64 mask = layout->geometry.entries[producer] - 1;
	u64 offset = layout->slots_offset[producer] +
		     (pos & mask) * layout->geometry.slot_size[producer];
	u64 *stamp = evr_word(evr_own_section(uring, producer), offset);

	/*
	 * The AND bounds the index, for speculation too.  Pairs with the
	 * library's release of the stamp.
	 */
	return evering_judge(smp_load_acquire(stamp),
			     evering_lap(pos, uring->shift[producer])) !=
	       EVERING_SLOT_NOT_YET;
}

/*
 * @wanted entries from @pos on?  A single producer commits in order, so the
 * last one tells of all.  The first is asked too, after it: to a caller that
 * looks at @pos, a liar must not seem ready for ever.
 */
static bool evr_entries_ready(const struct evr_uring *uring,
			      unsigned int producer, u64 pos, u32 wanted)
{
	return evr_slot_ready(uring, producer, pos + wanted - 1) &&
	       (wanted == 1 || evr_slot_ready(uring, producer, pos));
}

/*
 * Room for @producer at @pos?  A head that cannot be counts as room, and the
 * library turns it into -EPROTO.
 */
static bool evr_space_ready(const struct evr_uring *uring,
			    unsigned int producer, u64 pos)
{
	u64 head = READ_ONCE(uring->side[!producer].control->head);

	return pos - head != uring->layout.geometry.entries[producer];
}

/* EVERING_READY_* for what @args asks. */
static unsigned int evr_ready(const struct evr_uring *uring, unsigned int side,
			      const struct evering_enter *args, u32 wanted)
{
	unsigned int ready = 0;

	if (evr_is_queue(uring)) {
		if ((args->flags & EVERING_ENTER_WAIT) &&
		    evr_queue_ready(uring, side, false))
			ready |= EVERING_READY_ENTRIES;
		if ((args->flags & EVERING_ENTER_WAIT_SPACE) &&
		    evr_queue_ready(uring, side, true))
			ready |= EVERING_READY_SPACE;
		return ready;
	}

	if ((args->flags & EVERING_ENTER_WAIT) &&
	    evr_entries_ready(uring, !side, args->wait_pos, wanted))
		ready |= EVERING_READY_ENTRIES;
	if ((args->flags & EVERING_ENTER_WAIT_SPACE) &&
	    evr_space_ready(uring, side, args->space_pos))
		ready |= EVERING_READY_SPACE;
	return ready;
}

/*
 * A sleeper's look: the end first, then the ring, so that what was committed
 * before the end is taken before the end is told.
 *
 * Return: EVERING_READY_*, 0 for nothing yet, or -errno for never.
 */
static int evr_look(const struct evr_uring *uring, unsigned int side,
		    const struct evering_enter *args)
{
	const struct evr_side *peer = &uring->side[!side];
	const struct evering_control *control = peer->control;
	/* pairs with evr_side_set_state() */
	bool dead = smp_load_acquire(&peer->state) == EVERING_STATE_DEAD;
	/* pairs with evr_shutdown() */
	bool closed = smp_load_acquire(&control->closed);
	/* pairs with evr_shutdown() */
	bool rclosed = smp_load_acquire(&control->rclosed);
	bool no_room = dead || rclosed;
	bool end = dead || closed ||
		   (no_room && (args->flags & EVERING_ENTER_WAIT_SPACE));
	unsigned int ready;

	ready = evr_ready(uring, side, args, end ? 1 : args->min_complete);
	/* Room where nobody will take what is put there is none. */
	if (no_room)
		ready &= ~EVERING_READY_SPACE;
	/* Others of the own side may have closed the queue. */
	if (evr_is_queue(uring) && (args->flags & EVERING_ENTER_WAIT_SPACE) &&
	    READ_ONCE(uring->side[side].control->closed))
		return -ESHUTDOWN;
	if (ready)
		return ready;
	if (READ_ONCE(peer->generation) != args->generation)
		return -ECONNRESET;
	if (dead)
		return -EPIPE;
	if (rclosed && (args->flags & EVERING_ENTER_WAIT_SPACE))
		return -EPIPE;
	if (closed && evr_is_queue(uring) && evr_queue_written(uring, side))
		return 0;
	/* Who waits for room as well may still get that. */
	if (closed && !(args->flags & EVERING_ENTER_WAIT_SPACE))
		return -ESHUTDOWN;
	return 0;
}

/* ------------------------------------------------------- words and doorbell */

static struct evering_ring_words *evr_ring_words(struct evr_uring *uring,
						 unsigned int ring)
{
	return &uring->header->ring[ring];
}

/*
 * Announce the sleepers that are on the list.  The word says when the doorbell
 * is due first, so it is the least of what they wait for.
 */
static void evr_announce(struct evr_uring *uring, unsigned int side)
{
	u64 wake_at = EVERING_NOBODY, space_at = EVERING_NOBODY;
	struct evr_waiter *w;

	lockdep_assert_held(&uring->side[side].sleepers.lock);
	list_for_each_entry(w, &uring->side[side].sleepers.head, entry.entry) {
		wake_at = min(wake_at, w->wake_at);
		space_at = min(space_at, w->space_at);
	}
	/* Both pair with the full barrier before the library's load of them. */
	WRITE_ONCE(evr_ring_words(uring, !side)->wake_at, wake_at);
	WRITE_ONCE(evr_ring_words(uring, side)->space_at, space_at);
	WRITE_ONCE(uring->entry->side[side].sleepers,
		   uring->side[side].nr_sleepers);
}

/**
 * struct evr_bell - one doorbell
 * @woken:	sleepers that it has woken
 * @entries:	of a queue: entries that may still wake one each
 * @space:	likewise, free slots
 */
struct evr_bell {
	unsigned int woken;
	unsigned int entries;
	unsigned int space;
};

/* Of a queue, what @found a sleeper may be woken for; it has it then. */
static int evr_give(struct evr_bell *bell, int found)
{
	if (found <= 0)
		return found;
	if ((found & EVERING_READY_ENTRIES) && bell->entries)
		bell->entries--;
	else
		found &= ~EVERING_READY_ENTRIES;
	if ((found & EVERING_READY_SPACE) && bell->space)
		bell->space--;
	else
		found &= ~EVERING_READY_SPACE;
	return found;
}

/* The doorbell's @key is set; with NULL everybody wakes and looks. */
static int evr_wake_one(struct wait_queue_entry *entry, unsigned int mode,
			int flags, void *key)
{
	struct evr_waiter *w = container_of(entry, struct evr_waiter, entry);
	struct evr_endpoint *ep = w->ep;
	struct evr_side *s = &ep->uring->side[ep->side];
	struct evr_bell *bell = key, before = {};

	/* All that there is has been given: nobody behind needs to look. */
	if (bell && evr_is_queue(ep->uring) && !bell->entries && !bell->space)
		return -1;
	if (bell)
		before = *bell;
	w->found = bell ? evr_look(ep->uring, ep->side, w->args) : 0;
	if (bell && evr_is_queue(ep->uring))
		w->found = evr_give(bell, w->found);
	if (bell && !w->found)
		return 0;
	s->nr_sleepers--;
	ep->nr_sleepers--;
	/* Takes the entry off the list; after that @w and @ep may be gone. */
	if (!autoremove_wake_function(entry, mode, flags, NULL)) {
		/* It runs already, and looks for itself. */
		ep->nr_sleepers++;
		s->nr_sleepers++;
		if (bell)
			*bell = before;
		return 0;
	}
	if (bell)
		bell->woken++;
	return 1;
}

static bool evr_disarm_pollers(struct evr_uring *uring, unsigned int side)
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

/* Has somebody ended this queue, for whom the others may be asleep? */
static bool evr_queue_ended(const struct evr_uring *uring)
{
	return READ_ONCE(uring->side[EVERING_SIDE_A].control->closed) ||
	       READ_ONCE(uring->side[EVERING_SIDE_B].control->rclosed);
}

/**
 * evr_doorbell() - the peer of @side has changed a ring
 * @uring:	the uring
 * @side:	the side to wake
 * @sync:	the caller is about to sleep
 *
 * Wakes the sleepers whose wish has come true, and the pollers.
 */
void evr_doorbell(struct evr_uring *uring, unsigned int side, bool sync)
{
	struct evr_side *s = &uring->side[side];
	struct evr_bell bell = {};
	bool polled;

	/* The last entries wake one each, and their end all of the others. */
	if (evr_is_queue(uring) && evr_queue_ended(uring)) {
		evr_wake_all(uring, side);
		return;
	}
	spin_lock(&s->sleepers.lock);
	if (evr_is_queue(uring)) {
		/* No count comes with it: commits may be out of order. */
		if (evr_has_ring(uring, !side))
			bell.entries = evr_queue_news(uring, side, false,
						     s->nr_sleepers);
		if (evr_has_ring(uring, side))
			bell.space = evr_queue_news(uring, side, true,
						   s->nr_sleepers);
	}
	if (sync)
		__wake_up_locked_sync_key(&s->sleepers, TASK_NORMAL, &bell);
	else
		__wake_up_locked_key(&s->sleepers, TASK_NORMAL, &bell);
	evr_announce(uring, side);
	polled = evr_disarm_pollers(uring, side);
	spin_unlock(&s->sleepers.lock);

	/*
	 * Without a key: io_uring's multishot poll would post from the key and
	 * never call ->poll() again, which is what arms the words.  All of
	 * them, exclusive ones too: all have been disarmed.
	 */
	if (polled)
		wake_up_all(&s->pollers);
	trace_evering_wake(uring->token, side, bell.woken, polled);
}

/**
 * evr_wake_all() - something has ended: everybody looks again
 * @uring:	the uring
 * @side:	the side to wake
 */
void evr_wake_all(struct evr_uring *uring, unsigned int side)
{
	struct evr_side *s = &uring->side[side];

	spin_lock(&s->sleepers.lock);
	/* Whoever was woken for something may be gone: nothing is given. */
	s->given[0] = 0;
	s->given[1] = 0;
	/* No entry is exclusive, so this is all of them. */
	__wake_up_locked_key(&s->sleepers, TASK_NORMAL, NULL);
	evr_announce(uring, side);
	evr_disarm_pollers(uring, side);
	spin_unlock(&s->sleepers.lock);
	wake_up_all(&s->pollers);
}

/**
 * evr_side_init() - the section is there, and nobody sleeps
 * @uring:	being created
 * @side:	EVERING_SIDE_*
 */
void evr_side_init(struct evr_uring *uring, unsigned int side)
{
	struct evering_ring_words *words = evr_ring_words(uring, side);

	uring->side[side].control =
		page_address(evr_own_section(uring, side)->pages[0]);
	init_waitqueue_head(&uring->side[side].sleepers);
	init_waitqueue_head(&uring->side[side].pollers);
	words->wake_at = EVERING_NOBODY;
	words->poll_at = EVERING_NOBODY;
	words->space_at = EVERING_NOBODY;
	words->poll_space_at = EVERING_NOBODY;
}

/* ----------------------------------------------------------------- waiting */

/**
 * evr_sleep_until() - schedule(), task state already set
 * @deadline:	CLOCK_MONOTONIC nanoseconds in the caller's time namespace, or
 *		EVERING_NO_DEADLINE
 *
 * Return: 0 after a wake-up, -ETIME.
 */
int evr_sleep_until(u64 deadline)
{
	ktime_t expires;

	if (deadline == EVERING_NO_DEADLINE) {
		schedule();
		return 0;
	}
	expires = evr_timens_to_host(min_t(u64, deadline, KTIME_MAX));
	if (!schedule_hrtimeout_range(&expires, current->timer_slack_ns,
				      HRTIMER_MODE_ABS))
		return -ETIME;
	return 0;
}

/* When the doorbell is due for what @w waits for. */
static void evr_waiter_aim(struct evr_waiter *w)
{
	const struct evering_enter *args = w->args;
	struct evr_uring *uring = w->ep->uring;
	unsigned int side = w->ep->side;

	w->wake_at = EVERING_NOBODY;
	w->space_at = EVERING_NOBODY;
	if (args->flags & EVERING_ENTER_WAIT)
		w->wake_at = evr_is_queue(uring) ?
			     evr_queue_at(uring, side, false) :
			     args->wait_pos + args->min_complete - 1;
	if (args->flags & EVERING_ENTER_WAIT_SPACE)
		w->space_at = evr_is_queue(uring) ?
			      evr_queue_at(uring, side, true) : args->space_pos;
}

/*
 * On the list and announced, at first and again after a wake-up for nothing.
 * Asked under the lock: a waker wakes first and takes off the list afterwards,
 * so without it we might take ourselves for listed and sleep unlisted.
 *
 * Return: 0 when listed, what a waker has found, or -EBUSY.
 */
static int evr_enqueue(struct evr_side *s, struct evr_waiter *w)
{
	struct evr_endpoint *ep = w->ep;
	int ret = 0;

	spin_lock(&s->sleepers.lock);
	if (list_empty(&w->entry.entry)) {
		if (w->found) {
			ret = w->found;
		} else if (ep->nr_sleepers >= (evr_is_queue(ep->uring) ?
					       EVR_MAX_QUEUE_SLEEPERS :
					       EVR_MAX_SLEEPERS)) {
			ret = -EBUSY;
		} else {
			evr_waiter_aim(w);
			s->nr_sleepers++;
			ep->nr_sleepers++;
			__add_wait_queue_entry_tail(&s->sleepers, &w->entry);
			evr_announce(ep->uring, ep->side);
		}
	}
	spin_unlock(&s->sleepers.lock);
	return ret;
}

/* Reasons to leave without success, @slept being -ETIME or 0. */
static int evr_give_up(const struct evr_endpoint *ep, int slept)
{
	if (READ_ONCE(ep->dead))
		return -EBADFD;
	if (signal_pending(current))
		return -ERESTARTSYS;
	return slept;
}

/*
 * A sleeper of a queue leaves with an error.  What it has been given meanwhile,
 * it does not take: that is for the others.
 */
static void evr_pass_on(struct evr_uring *uring, unsigned int side)
{
	struct evr_side *s = &uring->side[side];

	spin_lock(&s->sleepers.lock);
	s->given[0] = 0;
	s->given[1] = 0;
	spin_unlock(&s->sleepers.lock);
	evr_doorbell(uring, side, false);
}

/**
 * evr_wait() - the waiting half of EVERING_IOC_ENTER
 * @ep:		who waits
 * @args:	checked by the caller
 *
 * Return: EVERING_READY_*, or -errno as in struct evering_enter.
 */
int evr_wait(struct evr_endpoint *ep, const struct evering_enter *args)
{
	struct evr_uring *uring = ep->uring;
	struct evr_side *s = &uring->side[ep->side];
	struct evr_waiter w = {
		.ep = ep,
		.args = args,
	};
	int ret, slept = 0;

	trace_evering_wait(uring->token, ep->side, args->flags, args->wait_pos,
			   args->space_pos, args->min_complete);
	init_waitqueue_func_entry(&w.entry, evr_wake_one);
	w.entry.private = current;
	INIT_LIST_HEAD(&w.entry.entry);

	for (;;) {
		ret = evr_enqueue(s, &w);
		if (ret == -EBUSY)
			ret = evr_look(uring, ep->side, args) ?:
			      evr_give_up(ep, slept) ?: -EBUSY;
		if (ret)
			return ret;
		/*
		 * Its full barrier stands between the words just announced and
		 * the look; pairs with the library's between the ring and the
		 * words.
		 */
		set_current_state(TASK_INTERRUPTIBLE);
		ret = evr_look(uring, ep->side, args) ?: evr_give_up(ep, slept);
		if (ret)
			break;
		slept = evr_sleep_until(args->deadline);
		/* Whoever woke us has looked; success beats all else. */
		if (list_empty_careful(&w.entry.entry) && w.found)
			return w.found;
	}
	__set_current_state(TASK_RUNNING);

	/* Whoever woke us has taken us off the list. */
	if (!list_empty_careful(&w.entry.entry)) {
		spin_lock(&s->sleepers.lock);
		if (!list_empty(&w.entry.entry)) {
			list_del_init(&w.entry.entry);
			s->nr_sleepers--;
			ep->nr_sleepers--;
			evr_announce(uring, ep->side);
		}
		spin_unlock(&s->sleepers.lock);
	}
	if (ret < 0 && evr_is_queue(uring))
		evr_pass_on(uring, ep->side);
	return ret;
}

/* -------------------------------------------------------------------- poll */

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
	bool takes, makes, queue;

	poll_wait(file, &uring->side[ep->side].pollers, table);
	/* Where many read all of it, each keeps its position to itself. */
	queue = evr_is_queue(uring);
	takes = evr_has_ring(uring, !ep->side) &&
		(queue || !uring->side[ep->side].many);
	makes = evr_has_ring(uring, ep->side) &&
		(queue || !uring->side[!ep->side].many);
	if (queue && takes)
		head = evr_queue_at(uring, ep->side, false);
	if (queue && makes)
		tail = evr_queue_at(uring, ep->side, true);
	events = poll_requested_events(table);
	if (!takes)
		events &= ~(EPOLLIN | EPOLLRDNORM);
	if (!makes)
		events &= ~(EPOLLOUT | EPOLLWRNORM);
	evr_arm_pollers(uring, ep->side, events, head, tail);

	/* pairs with evr_side_set_state() */
	if (smp_load_acquire(&uring->side[!ep->side].state) ==
	    EVERING_STATE_DEAD)
		mask |= EPOLLHUP | EPOLLRDHUP | EPOLLIN | EPOLLOUT;
	/* pairs with evr_shutdown() */
	if (smp_load_acquire(&other->closed))
		mask |= queue && evr_queue_written(uring, ep->side) ?
			EPOLLRDHUP : EPOLLRDHUP | EPOLLIN;
	/* Of a queue, another of this side may have closed it. */
	if (queue && makes && READ_ONCE(own->closed))
		mask |= EPOLLOUT;
	/* pairs with evr_shutdown() */
	if (smp_load_acquire(&other->rclosed))
		mask |= EPOLLOUT;
	if (READ_ONCE(ep->dead))
		mask |= EPOLLERR;
	if (takes && (queue ? evr_queue_ready(uring, ep->side, false) :
			      evr_slot_ready(uring, !ep->side, head)))
		mask |= EPOLLIN;
	if (makes && (queue ? evr_queue_ready(uring, ep->side, true) :
			      evr_space_ready(uring, ep->side, tail)))
		mask |= EPOLLOUT;
	/* Who publishes to many does not wait for them. */
	if (!makes && evr_has_ring(uring, ep->side))
		mask |= EPOLLOUT;
	if (mask & EPOLLIN)
		mask |= EPOLLRDNORM;
	if (mask & EPOLLOUT)
		mask |= EPOLLWRNORM;
	return mask;
}
