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
#include <linux/sched/signal.h>

#include "compat.h"
#include "words.h"
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
 * @found:	what whoever woke it has seen, or given to it; valid once @entry is off
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

/* ----------------------------------------------------------------- a look */

/* EVERING_READY_* for what @args asks. */
static unsigned int evr_ready(const struct evr_endpoint *ep,
			      const struct evering_enter *args, u32 wanted)
{
	unsigned int ready = 0;

	/* Alone on its side, it has no name there. */
	if ((args->flags & EVERING_ENTER_WAIT) && !ep->owner) {
		if (evr_stamps_ready(ep->uring, !ep->side, args->wait_pos, wanted))
			ready |= EVERING_READY_ENTRIES;
	} else if (args->flags & EVERING_ENTER_WAIT) {
		if (evr_entries_ready(ep->uring, ep->side, args->wait_pos))
			ready |= EVERING_READY_ENTRIES;
		if (evr_orphans(ep->uring, ep->side, 1))
			ready |= EVERING_READY_ORPHANS;
	}
	if ((args->flags & EVERING_ENTER_WAIT_SPACE) &&
	    evr_room_ready(ep->uring, ep->side, args->space_pos))
		ready |= EVERING_READY_SPACE;
	return ready;
}

/*
 * A sleeper's look: the end first, then the ring, so that what was committed
 * before the end is taken before the end is told.
 *
 * Return: EVERING_READY_*, 0 for nothing yet, or -errno for never.
 */
static int evr_look(const struct evr_endpoint *ep,
		    const struct evering_enter *args)
{
	struct evr_uring *uring = ep->uring;
	const struct evr_side *peer = &uring->side[!ep->side];
	const struct evering_control *control = peer->control;
	bool space = args->flags & EVERING_ENTER_WAIT_SPACE;
	/* pairs with evr_side_set_state() */
	bool dead = smp_load_acquire(&peer->state) == EVERING_STATE_DEAD;
	/* pairs with evr_shutdown() */
	bool closed = smp_load_acquire(&control->closed);
	/* pairs with evr_shutdown() */
	bool rclosed = smp_load_acquire(&control->rclosed);
	bool no_room = dead || rclosed;
	bool end = dead || closed || (no_room && space);
	unsigned int ready;

	ready = evr_ready(ep, args, end ? 1 : args->min_complete);
	/* Room where nobody will take what is put there is none. */
	if (no_room)
		ready &= ~EVERING_READY_SPACE;
	/* Others of the own side may have closed it. */
	if (space && ep->owner &&
	    READ_ONCE(uring->side[ep->side].control->closed))
		return -ESHUTDOWN;
	if (ready)
		return ready;
	if (READ_ONCE(peer->generation) != args->generation)
		return -ECONNRESET;
	if (dead)
		return -EPIPE;
	if (rclosed && space)
		return -EPIPE;
	/* Who waits for room as well may still get that. */
	if (!closed || space)
		return 0;
	/* Nothing more is added, but this may still be committed, or come back. */
	if (evr_being_written(uring, ep->side, args->wait_pos) ||
	    evr_leased(uring, ep->side, ep->owner))
		return 0;
	return -ESHUTDOWN;
}

/*
 * All that one who is alone on his side waits for?  Then nothing else counts, and a
 * doorbell is rung because it is so.
 */
static bool evr_all_there(const struct evr_endpoint *ep,
			  const struct evering_enter *args)
{
	return !(args->flags & EVERING_ENTER_WAIT_SPACE) &&
	       evr_stamps_ready(ep->uring, !ep->side, args->wait_pos,
				args->min_complete);
}

/* ------------------------------------------------------- words and doorbell */

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
 * @entries:	where its side is shared: entries that may still wake one each
 * @orphans:	likewise, entries to take again
 * @space:	likewise, free slots
 */
struct evr_bell {
	unsigned int woken;
	unsigned int entries;
	unsigned int orphans;
	unsigned int space;
};

/* What a sleeper of a shared side is woken for; it has it then. */
static int evr_give(struct evr_bell *bell, u32 flags)
{
	int given = 0;

	if ((flags & EVERING_ENTER_WAIT) && bell->orphans) {
		bell->orphans--;
		given |= EVERING_READY_ORPHANS;
	} else if ((flags & EVERING_ENTER_WAIT) && bell->entries) {
		bell->entries--;
		given |= EVERING_READY_ENTRIES;
	}
	if ((flags & EVERING_ENTER_WAIT_SPACE) && bell->space) {
		bell->space--;
		given |= EVERING_READY_SPACE;
	}
	return given;
}

/*
 * A sleeper more or less.  evr_doorbell() and fdinfo read it without the lock: it may
 * be too high for a moment, but never too low, or an orphan would wake nobody.
 */
static void evr_count_sleeper(struct evr_side *s, int by)
{
	lockdep_assert_held(&s->sleepers.lock);
	WRITE_ONCE(s->nr_sleepers, s->nr_sleepers + by);
}

/* The doorbell's @key is set; with NULL everybody wakes and looks. */
static int evr_wake_one(struct wait_queue_entry *entry, unsigned int mode,
			int flags, void *key)
{
	struct evr_waiter *w = container_of(entry, struct evr_waiter, entry);
	struct evr_endpoint *ep = w->ep;
	struct evr_side *s = &ep->uring->side[ep->side];
	struct evr_bell *bell = key, before;

	if (!bell) {
		w->found = 0;
	} else if (likely(!ep->owner)) {
		w->found = evr_all_there(ep, w->args) ? EVERING_READY_ENTRIES :
							evr_look(ep, w->args);
		if (!w->found)
			return 0;
	} else {
		before = *bell;
		/* All that there is has been given: nobody behind gets any. */
		if (!bell->entries && !bell->orphans && !bell->space)
			return -1;
		w->found = evr_give(bell, w->args->flags);
		if (!w->found)
			return 0;
	}
	ep->nr_sleepers--;
	/* Takes the entry off the list; after that @w and @ep may be gone. */
	if (!autoremove_wake_function(entry, mode, flags, NULL)) {
		/* It runs already, and looks for itself. */
		ep->nr_sleepers++;
		if (bell && ep->owner)
			*bell = before;
		return 0;
	}
	evr_count_sleeper(s, -1);
	if (bell)
		bell->woken++;
	return 1;
}

/* Has somebody ended what the many of @side may be asleep for? */
static bool evr_ended(const struct evr_uring *uring, unsigned int side)
{
	const struct evering_control *peer = uring->side[!side].control;

	return READ_ONCE(uring->side[side].control->closed) ||
	       READ_ONCE(peer->closed) || READ_ONCE(peer->rclosed);
}

/*
 * What there is for the many of @side.  No count comes with a doorbell: commits
 * may be out of order.  @orphans were there before the lock was taken; whoever
 * has come to sleep since looks for himself.
 */
static void evr_bell_news(struct evr_uring *uring, unsigned int side,
			  unsigned int orphans, u64 orphan_seq,
			  struct evr_bell *bell)
{
	struct evr_side *s = &uring->side[side];

	/* Another doorbell may have looked later than this one. */
	if ((s64)(orphan_seq - s->orphans_given) > 0) {
		bell->orphans = min_t(u64, orphans,
				      orphan_seq - s->orphans_given);
		s->orphans_given = orphan_seq;
		/* Who was woken for an entry may have taken an orphan instead. */
		s->given[0] = 0;
	}
	bell->entries = evr_news(uring, side, false, s->nr_sleepers);
	bell->space = evr_news(uring, side, true, s->nr_sleepers);
}

/**
 * evr_doorbell() - a ring has changed for @side
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
	unsigned int orphans = 0;
	u64 orphan_seq = 0;
	bool polled;

	if (s->shared) {
		/* The last entries wake one each, and their end all others. */
		if (evr_ended(uring, side)) {
			evr_wake_all(uring, side);
			return;
		}
		/* Before the look: what comes later has a doorbell of its own. */
		orphan_seq = READ_ONCE(s->control->orphan_seq);
		orphans = evr_orphans(uring, side, READ_ONCE(s->nr_sleepers));
	}
	spin_lock(&s->sleepers.lock);
	if (s->shared)
		evr_bell_news(uring, side, orphans, orphan_seq, &bell);
	if (sync)
		__wake_up_locked_sync_key(&s->sleepers, TASK_NORMAL, &bell);
	else
		__wake_up_locked_key(&s->sleepers, TASK_NORMAL, &bell);
	evr_announce(uring, side);
	polled = s->poll_armed && evr_disarm_pollers(uring, side);
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

static void evr_ungive(struct evr_side *s)
{
	lockdep_assert_held(&s->sleepers.lock);
	s->given[0] = 0;
	s->given[1] = 0;
	s->orphans_given = 0;
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
	evr_ungive(s);
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
	bool shared = w->ep->owner;

	w->wake_at = EVERING_NOBODY;
	w->space_at = EVERING_NOBODY;
	if (args->flags & EVERING_ENTER_WAIT) {
		w->wake_at = shared ? evr_walked(uring, side, false) :
				    args->wait_pos;
		/* Of many producers, the first entry may come last. */
		if (args->min_complete > 1 && !uring->side[!side].shared)
			w->wake_at += args->min_complete - 1;
	}
	if (args->flags & EVERING_ENTER_WAIT_SPACE)
		w->space_at = shared ? evr_walked(uring, side, true) :
				     args->space_pos;
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
		} else if (ep->nr_sleepers >=
			   (ep->uring->kind == EVERING_KIND_QUEUE ?
			    EVR_MAX_QUEUE_SLEEPERS : EVR_MAX_SLEEPERS)) {
			ret = -EBUSY;
		} else {
			evr_waiter_aim(w);
			ep->nr_sleepers++;
			evr_count_sleeper(s, 1);
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
 * One of many leaves with an error.  What it has been given meanwhile, it does
 * not take: that is for the others.
 */
static void evr_pass_on(struct evr_uring *uring, unsigned int side)
{
	struct evr_side *s = &uring->side[side];

	spin_lock(&s->sleepers.lock);
	evr_ungive(s);
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
			ret = evr_look(ep, args) ?:
			      evr_give_up(ep, slept) ?: -EBUSY;
		if (ret)
			return ret;
		/*
		 * Its full barrier stands between the words just announced and
		 * the look; pairs with the library's between the ring and the
		 * words.
		 */
		set_current_state(TASK_INTERRUPTIBLE);
		ret = evr_look(ep, args) ?: evr_give_up(ep, slept);
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
			ep->nr_sleepers--;
			evr_count_sleeper(s, -1);
			evr_announce(uring, ep->side);
		}
		spin_unlock(&s->sleepers.lock);
	}
	if (ret < 0 && ep->owner)
		evr_pass_on(uring, ep->side);
	return ret;
}
