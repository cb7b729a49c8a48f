/* SPDX-License-Identifier: MIT OR LGPL-2.1 */
/* Items of a work queue: push, pop, lease, and the waits of these. */
#include <errno.h>

#include "queue_end.h"

/* ----------------------------------------------------------- ringing, waiting */

/* A doorbell that fails has nobody to wake. */
static void evr_queue_ring(struct evr_queue_end *end, unsigned int flags)
{
	struct evering_enter args = { .size = sizeof(args), .flags = flags };

	evr_ioctl(end->fd, EVERING_IOC_ENTER, &args);
}

/* The slots up to @last hold entries now, or are skipped. */
static inline void evr_ring_committed(struct evr_queue_end *end, uint64_t last)
{
	if (unlikely(multi_wake_due(end->words, last)))
		evr_queue_ring(end, EVERING_ENTER_WAKE_PEER);
}

/* The slots up to @last are free now. */
static inline void evr_ring_released(struct evr_queue_end *end, uint64_t last)
{
	unsigned int flags = 0;

	if (unlikely(multi_space_due(&end->ring, end->words, last)))
		flags |= EVERING_ENTER_WAKE_PEER;
	/* After the end, the others wait for what may come back. */
	if (end->ring.lease && multi_own_due(end->words) &&
	    load_once(end->ring.closed))
		flags |= EVERING_ENTER_WAKE_OWN;
	if (unlikely(flags))
		evr_queue_ring(end, flags);
}

static int evr_queue_sleep(struct evr_queue_end *end, unsigned int flags,
			   uint64_t deadline)
{
	struct evering_enter args = {
		.size = sizeof(args),
		.flags = flags,
		.deadline = deadline,
		.min_complete = 1,
	};
	int ret = evr_ioctl(end->fd, EVERING_IOC_ENTER, &args);

	if (ret < 0)
		return ret;
	if (ret & EVERING_READY_ORPHANS)
		multi_expect_orphans(&end->ring);
	return 0;
}

typedef int evr_attempt(struct evering_queue *queue, void *args);

/* Worth another attempt? */
static bool evr_not_yet(int ret)
{
	return ret == -EAGAIN || ret == -EINPROGRESS;
}

/* -EAGAIN: not for as long as it may spin. */
static int evr_queue_spin(struct evering_queue *queue, evr_attempt *attempt,
			  void *args, unsigned int spin_ns, uint64_t deadline)
{
	uint64_t limit = 0, now;
	unsigned int i;
	int ret;

	for (;;) {
		for (i = 0; i < EVR_SPINS_A_CLOCK; i++) {
			ret = attempt(queue, args);
			if (!evr_not_yet(ret))
				return ret;
			cpu_relax();
		}
		now = evr_now();
		if (!limit)
			limit = now + spin_ns < deadline ? now + spin_ns :
							   deadline;
		else if (now >= limit)
			return -EAGAIN;
	}
}

/* Tries, spins, and sleeps, until @attempt says more than "try again". */
static int evr_until(struct evering_queue *queue, evr_attempt *attempt, void *args,
		     unsigned int side, unsigned int flags,
		     const struct timespec *timeout)
{
	struct evr_queue_end *end = &queue->end[side];
	uint64_t deadline;
	int ret;

	if (!evr_timeout_ok(timeout))
		return -EINVAL;
	ret = attempt(queue, args);
	if (!evr_not_yet(ret))
		return ret;
	deadline = evr_deadline(timeout);
	if (!deadline)
		return ret;
	if (evr_may_spin(&end->spin)) {
		ret = evr_queue_spin(queue, attempt, args,
				     load_once(&end->spin.ns), deadline);
		evr_learn(&end->spin, !evr_not_yet(ret));
		if (!evr_not_yet(ret))
			return ret;
	}
	for (;;) {
		bool late;

		ret = evr_queue_sleep(end, flags, deadline);
		/* The end of the stream is the ring's to tell, in @attempt. */
		if (ret && ret != -ESHUTDOWN)
			return ret;
		/* Others may be faster each time, and a peer may see to it. */
		late = deadline != EVERING_NO_DEADLINE && evr_now() >= deadline;
		ret = attempt(queue, args);
		if (!evr_not_yet(ret))
			return ret;
		if (late)
			return -ETIME;
	}
}

/* ------------------------------------------------------------------- pushing */

static int evr_push_error(const struct evr_queue_end *end,
			  enum multi_verdict verdict)
{
	switch (verdict) {
	case MULTI_CLOSED:
		return -ESHUTDOWN;
	case MULTI_LIE:
		return -EPROTO;
	default:
		break;
	}
	return load_once(&end->peer->rclosed) ? -EPIPE : -EAGAIN;
}

static int evr_reserve(struct evering_queue *queue, unsigned int wanted,
		       uint64_t *pos, unsigned int *count)
{
	struct evr_queue_end *end = &queue->end[EVERING_SIDE_A];
	enum multi_verdict verdict;

	if (end->fd < 0)
		return -EBADF;
	if (unlikely(load_once(&end->peer->rclosed)))
		return -EPIPE;
	verdict = multi_reserve(&end->ring, wanted, pos, count);
	if (likely(verdict == MULTI_OK))
		return 0;
	/* Perhaps a consumer waits for what was claimed and then skipped. */
	if (verdict == MULTI_CLOSED)
		evr_ring_committed(end, EVERING_NOBODY - 1);
	return evr_push_error(end, verdict);
}

static void *evr_item(const struct evr_queue_end *end, uint64_t pos)
{
	return (char *)multi_stamp(&end->ring, pos) + sizeof(uint64_t);
}

static unsigned int evr_most(const struct evering_queue *queue, unsigned int nr)
{
	unsigned int most = evering_queue_capacity(queue);

	if (most > EVERING_MAX_COUNT)
		most = EVERING_MAX_COUNT;
	return nr < most ? nr : most;
}

EXPORT int evering_queue_try_push_bulk(struct evering_queue *queue,
				       const void *items, unsigned int nr)
{
	struct evr_queue_end *end = &queue->end[EVERING_SIDE_A];
	unsigned int count, i;
	uint64_t pos;
	int ret;

	if (!nr)
		return -EINVAL;
	ret = evr_reserve(queue, evr_most(queue, nr), &pos, &count);
	if (ret)
		return ret;
	for (i = 1; i < count; i++) {
		memcpy(evr_item(end, pos + i),
		       (const char *)items + i * queue->item_size,
		       queue->item_size);
		multi_commit_inner(&end->ring, pos + i);
	}
	memcpy(evr_item(end, pos), items, queue->item_size);
	multi_commit(&end->ring, pos, count);
	evr_ring_committed(end, pos + count - 1);
	return (int)count;
}

EXPORT int evering_queue_try_push(struct evering_queue *queue, const void *item)
{
	int ret = evering_queue_try_push_bulk(queue, item, 1);

	return ret < 0 ? ret : 0;
}

static int evr_try_push(struct evering_queue *queue, void *item)
{
	return evering_queue_try_push(queue, item);
}

EXPORT int evering_queue_push_timeout(struct evering_queue *queue,
				      const void *item,
				      const struct timespec *timeout)
{
	return evr_until(queue, evr_try_push, (void *)(uintptr_t)item,
			 EVERING_SIDE_A, EVERING_ENTER_WAIT_SPACE, timeout);
}

EXPORT int evering_queue_push(struct evering_queue *queue, const void *item)
{
	return evering_queue_push_timeout(queue, item, NULL);
}

EXPORT int evering_queue_reserve(struct evering_queue *queue,
				 struct evering_queue_slot *slot)
{
	unsigned int count;
	int ret;

	ret = evr_reserve(queue, 1, &slot->position, &count);
	if (!ret)
		slot->item = evr_item(&queue->end[EVERING_SIDE_A], slot->position);
	return ret;
}

/* Is it one that this endpoint has reserved? */
static bool evr_is_reserved(const struct evr_queue_end *end, uint64_t pos)
{
	return end->fd >= 0 &&
	       load_once(multi_stamp(&end->ring, pos)) ==
	       evering_word(multi_lap(&end->ring, pos), 1, end->ring.owner,
			    EVERING_RESERVED);
}

EXPORT int evering_queue_commit(struct evering_queue *queue,
				const struct evering_queue_slot *slot)
{
	struct evr_queue_end *end = &queue->end[EVERING_SIDE_A];

	if (!evr_is_reserved(end, slot->position))
		return -EINVAL;
	multi_commit(&end->ring, slot->position, 1);
	evr_ring_committed(end, slot->position);
	return 0;
}

EXPORT int evering_queue_cancel(struct evering_queue *queue,
				const struct evering_queue_slot *slot)
{
	struct evr_queue_end *end = &queue->end[EVERING_SIDE_A];

	if (!evr_is_reserved(end, slot->position))
		return -EINVAL;
	multi_cancel(&end->ring, slot->position, 1);
	/* What was committed behind it can be taken now. */
	evr_ring_committed(end, slot->position);
	return 0;
}

/* ------------------------------------------------------------------- popping */

/* Claims entries to read, at most @wanted. */
static int evr_claim(struct evr_queue_end *end, unsigned int wanted,
		     uint64_t *pos, unsigned int *count, uint64_t *word)
{
	if (end->fd < 0)
		return -EBADF;
	switch (multi_take_any(&end->ring, wanted, pos, count, word)) {
	case MULTI_OK:
		return 0;
	case MULTI_CLOSED:
		return -ESHUTDOWN;
	case MULTI_LIE:
		return -EPROTO;
	case MULTI_BUSY:
		return -EINPROGRESS;
	default:
		return -EAGAIN;
	}
}

/*
 * Copies the entries of a claim; some may carry nothing.  Returns how many, or
 * -EPROTO.
 */
static int evr_copy_items(const struct evering_queue *queue,
			  const struct evr_queue_end *end, uint64_t pos,
			  unsigned int count, void *items)
{
	unsigned int i;
	int n = 0;

	for (i = 0; i < count; i++) {
		switch (multi_entry(&end->ring, pos + i)) {
		case EVERING_SLOT_READY:
			memcpy((char *)items + (size_t)n++ * queue->item_size,
			       evr_item(end, pos + i), queue->item_size);
			break;
		case EVERING_SLOT_SKIP:
			break;
		default:
			return -EPROTO;
		}
	}
	return n;
}

EXPORT int evering_queue_try_pop_bulk(struct evering_queue *queue, void *items,
				      unsigned int nr)
{
	struct evr_queue_end *end = &queue->end[EVERING_SIDE_B];
	unsigned int count = 0, skips = 0;
	uint64_t pos = 0, word = 0;
	int ret;

	if (!nr)
		return -EINVAL;
	do {
		ret = evr_claim(end, evr_most(queue, nr), &pos, &count, &word);
		if (ret)
			return ret;
		ret = evr_copy_items(queue, end, pos, count, items);
		multi_give_back(&end->ring, pos, count, word);
		evr_ring_released(end, pos + count - 1);
		/* A peer that feeds skipped slots does not keep us here. */
		skips += count;
		if (!ret && skips > end->ring.g.entries)
			return -EAGAIN;
	} while (!ret);
	return ret;
}

EXPORT int evering_queue_try_pop(struct evering_queue *queue, void *item)
{
	int ret = evering_queue_try_pop_bulk(queue, item, 1);

	return ret < 0 ? ret : 0;
}

EXPORT int evering_queue_pop_timeout(struct evering_queue *queue, void *item,
				     const struct timespec *timeout)
{
	return evr_until(queue, evering_queue_try_pop, item, EVERING_SIDE_B,
			 EVERING_ENTER_WAIT, timeout);
}

EXPORT int evering_queue_pop(struct evering_queue *queue, void *item)
{
	return evering_queue_pop_timeout(queue, item, NULL);
}

/* ------------------------------------------------------------------- leasing */

EXPORT int evering_queue_try_lease(struct evering_queue *queue, void *item,
				   struct evering_queue_lease *lease)
{
	struct evr_queue_end *end = &queue->end[EVERING_SIDE_B];
	uint64_t pos = 0, word = 0, skips;
	unsigned int count;
	int ret;

	if (!evr_any_end(queue)->ring.lease)
		return -EOPNOTSUPP;
	for (skips = 0; skips <= end->ring.g.entries; skips++) {
		ret = evr_claim(end, 1, &pos, &count, &word);
		if (ret)
			return ret;
		ret = evr_copy_items(queue, end, pos, 1, item);
		if (ret > 0) {
			lease->position = pos;
			lease->claim = word;
			lease->deliveries = multi_deliveries(word);
			return 0;
		}
		multi_give_back(&end->ring, pos, 1, word);
		evr_ring_released(end, pos);
		if (ret)
			return ret;
	}
	return -EAGAIN;
}

struct evr_lease_args {
	void *item;
	struct evering_queue_lease *lease;
};

static int evr_try_lease(struct evering_queue *queue, void *args)
{
	const struct evr_lease_args *to = args;

	return evering_queue_try_lease(queue, to->item, to->lease);
}

EXPORT int evering_queue_lease_timeout(struct evering_queue *queue, void *item,
				       struct evering_queue_lease *lease,
				       const struct timespec *timeout)
{
	struct evr_lease_args to = { .item = item, .lease = lease };

	return evr_until(queue, evr_try_lease, &to, EVERING_SIDE_B,
			 EVERING_ENTER_WAIT, timeout);
}

EXPORT int evering_queue_lease(struct evering_queue *queue, void *item,
			       struct evering_queue_lease *lease)
{
	return evering_queue_lease_timeout(queue, item, lease, NULL);
}

/* Is it one of this endpoint, whether or not it has been given back? */
static bool evr_is_lease(const struct evr_queue_end *end,
			 const struct evering_queue_lease *lease)
{
	unsigned int state = evering_word_state(lease->claim);

	return end->fd >= 0 && end->ring.lease &&
	       (state == EVERING_TAKEN || state == EVERING_RETAKEN) &&
	       evering_word_owner(lease->claim) == end->ring.owner &&
	       !evering_word_ahead(lease->claim,
				   multi_lap(&end->ring, lease->position));
}

EXPORT int evering_queue_ack(struct evering_queue *queue,
			     const struct evering_queue_lease *lease)
{
	struct evr_queue_end *end = &queue->end[EVERING_SIDE_B];

	if (!evr_is_lease(end, lease) ||
	    !multi_ack(&end->ring, lease->position, lease->claim))
		return -EINVAL;
	evr_ring_released(end, lease->position);
	return 0;
}

EXPORT int evering_queue_nack(struct evering_queue *queue,
			      const struct evering_queue_lease *lease)
{
	struct evr_queue_end *end = &queue->end[EVERING_SIDE_B];

	if (!evr_is_lease(end, lease) ||
	    !multi_nack(&end->ring, lease->position, lease->claim))
		return -EINVAL;
	if (multi_own_due(end->words))
		evr_queue_ring(end, EVERING_ENTER_WAKE_OWN);
	return 0;
}

/* ------------------------------------------------------------------- forcing */

EXPORT int evering_queue_force_push(struct evering_queue *queue,
				    const void *item, void *oldest)
{
	int ret;

	if (queue->end[EVERING_SIDE_B].fd < 0)
		return -EBADF;
	ret = evering_queue_try_push(queue, item);
	if (ret != -EAGAIN)
		return ret;
	ret = evering_queue_try_pop(queue, oldest);
	if (ret)
		return ret;
	return evering_queue_try_push(queue, item) ? 2 : 1;
}
