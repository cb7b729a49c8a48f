/* SPDX-License-Identifier: MIT OR LGPL-2.1 */
/*
 * Work queues: many producers, many consumers, each item to one of them.
 *
 * Any of them may be killed at any instruction: what it had reserved is skipped,
 * what it was just taking is lost and counted, all else goes on.  With
 * EVERING_QUEUE_LEASE nothing is lost: what a consumer has not acknowledged goes to
 * another one, who is told that it is not the first.
 * Producers of a queue trust each other, and so do consumers; the two sides need
 * not.
 *
 * Included by <evering.h>, whose conventions hold.  A queue may be used by any
 * number of threads, of which 1024 can wait at a time.  A thread that ends between
 * reserve and commit leaves its slot taken for as long as the process lives, and the
 * items behind it wait; one that is stopped or cancelled after it was woken keeps
 * the wake-up.  A slot whose memory the kernel still writes (direct I/O) when its
 * process dies may be somebody else's by then.
 *
 * Errors that any push or pop may return
 *	-EAGAIN		full, or empty, and the call was not to wait
 *	-EINPROGRESS	to pop, likewise: the oldest item is just being pushed
 *	-ESHUTDOWN	the queue has been shut down; and, to pop, is empty
 *	-EPIPE		to push: the consumers take no more
 *	-EPROTO		the other side has written what no honest one writes
 *	-EBADF		not opened for that
 *	-EBADFD, -EPERM, -EBUSY	see EVERING_IOC_ENTER
 */
#ifndef EVERING_QUEUE_H
#define EVERING_QUEUE_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>
#include <linux/evering.h>

#ifdef __cplusplus
extern "C" {
#endif

struct evering_queue;

#define EVERING_QUEUE_PUSH	(1U << 0)
#define EVERING_QUEUE_POP	(1U << 1)
#define EVERING_QUEUE_LEASE	(1U << 2)	/* only to create it */

/**
 * evering_queue_create() - a new queue
 * @name:	for evering_queue_open(), or NULL: the token is its only name
 * @mode:	who may open it, as on a file: 0200 this user to push, 0400 to pop,
 *		0020 and 0040 its group, 0002 and 0004 others.  For both, the
 *		creator needs 0400
 * @entries:	items that it holds: a power of two, 64 to EVERING_MAX_ENTRIES
 * @item_size:	bytes of an item, 1 to 4088; see evering_queue_item_size()
 * @access:	EVERING_QUEUE_PUSH, EVERING_QUEUE_POP or both; and, so that items
 *		can be leased, EVERING_QUEUE_LEASE
 * @queue:	out; evering_queue_close() it
 *
 * Return: 0; -EEXIST: the name is taken; -EINVAL: no such sizes, access or name;
 * else as evering_buffer_create().
 */
int evering_queue_create(const char *name, uint32_t mode, uint32_t entries,
			 size_t item_size, unsigned int access,
			 struct evering_queue **queue);

/**
 * evering_queue_open() - become a producer or consumer, or both
 * @name:	of the queue, or NULL: @token says which
 * @token:	of the queue, or 0
 * @access:	EVERING_QUEUE_PUSH, EVERING_QUEUE_POP or both
 * @queue:	out; evering_queue_close() it
 *
 * Return: as evering_buffer_open(); -EBUSY: there are 4095 already.
 */
int evering_queue_open(const char *name, uint64_t token, unsigned int access,
		       struct evering_queue **queue);

/**
 * evering_queue_close() - leave it
 * @queue:	NULL is allowed
 *
 * The queue goes with the last who has it open, and its items with it.
 */
void evering_queue_close(struct evering_queue *queue);

/**
 * evering_queue_shutdown() - no more items
 * @queue:	the queue
 *
 * By one who may push: pushes get -ESHUTDOWN, pops take what is there and then get
 * -ESHUTDOWN.  By one who may only pop: pushes get -EPIPE.
 *
 * Return: 0 or -errno.
 */
int evering_queue_shutdown(struct evering_queue *queue);

/** evering_queue_token() - for evering_queue_open() in any process */
uint64_t evering_queue_token(const struct evering_queue *queue);

/** evering_queue_item_size() - bytes of an item, as rounded up to fill a slot */
size_t evering_queue_item_size(const struct evering_queue *queue);

/** evering_queue_capacity() - items that it holds */
unsigned int evering_queue_capacity(const struct evering_queue *queue);

/** evering_queue_len() - items that it held a moment ago, about */
unsigned int evering_queue_len(const struct evering_queue *queue);

/**
 * evering_queue_fd() - to poll it
 * @queue:	the queue
 * @access:	EVERING_QUEUE_PUSH: EPOLLOUT for room; EVERING_QUEUE_POP: EPOLLIN
 *
 * Return: the descriptor, which stays the queue's; -1: not opened for that.
 */
int evering_queue_fd(const struct evering_queue *queue, unsigned int access);

/**
 * evering_queue_set_spin() - how long to spin before sleeping
 * @queue:	the queue
 * @nanoseconds: as for evering_set_spin(); while no other thread uses the queue
 */
void evering_queue_set_spin(struct evering_queue *queue, unsigned int nanoseconds);

/**
 * evering_queue_try_push() - add an item, if there is room
 * @queue:	the queue
 * @item:	evering_queue_item_size() bytes
 *
 * Return: 0, or -errno and then it has not been added.
 */
int evering_queue_try_push(struct evering_queue *queue, const void *item);

/** evering_queue_push() - evering_queue_try_push() that waits for room */
int evering_queue_push(struct evering_queue *queue, const void *item);

/** evering_queue_push_timeout() - the same; -ETIME: none came in time */
int evering_queue_push_timeout(struct evering_queue *queue, const void *item,
			       const struct timespec *timeout);

/**
 * evering_queue_try_push_bulk() - add as many as there is room for
 * @queue:	the queue
 * @items:	one after the other
 * @nr:		how many; at most 256 go in one call
 *
 * They are added one behind the other, all of them in one step.
 *
 * Return: how many were added, at least 1, or -errno.
 */
int evering_queue_try_push_bulk(struct evering_queue *queue, const void *items,
				unsigned int nr);

/**
 * struct evering_queue_slot - a place in the queue, to fill in
 * @item:	evering_queue_item_size() bytes
 * @position:	not for the program
 */
struct evering_queue_slot {
	void *item;
	uint64_t position;
};

/**
 * evering_queue_reserve() - a place for an item, if there is room
 * @queue:	the queue
 * @slot:	out; evering_queue_commit() or evering_queue_cancel() it soon: the
 *		items behind it wait
 *
 * Return: 0 or -errno.
 */
int evering_queue_reserve(struct evering_queue *queue,
			  struct evering_queue_slot *slot);

/**
 * evering_queue_commit() - the item has been filled in
 * @queue:	the queue
 * @slot:	from evering_queue_reserve()
 *
 * Return: 0; -EINVAL: not reserved, or not any more.
 */
int evering_queue_commit(struct evering_queue *queue,
			 const struct evering_queue_slot *slot);

/** evering_queue_cancel() - as evering_queue_commit(), but there is no item */
int evering_queue_cancel(struct evering_queue *queue,
			 const struct evering_queue_slot *slot);

/**
 * evering_queue_try_pop() - take the oldest item, if there is one
 * @queue:	the queue
 * @item:	out: evering_queue_item_size() bytes, the caller's own copy
 *
 * Return: 0, or -errno and then nothing has been taken.
 */
int evering_queue_try_pop(struct evering_queue *queue, void *item);

/** evering_queue_pop() - evering_queue_try_pop() that waits for one */
int evering_queue_pop(struct evering_queue *queue, void *item);

/** evering_queue_pop_timeout() - the same; -ETIME: none came in time */
int evering_queue_pop_timeout(struct evering_queue *queue, void *item,
			      const struct timespec *timeout);

/**
 * evering_queue_try_pop_bulk() - take as many as there are
 * @queue:	the queue
 * @items:	out: one after the other
 * @nr:		most to take; at most 256 come in one call
 *
 * Return: how many were taken, at least 1, or -errno.
 */
int evering_queue_try_pop_bulk(struct evering_queue *queue, void *items,
			       unsigned int nr);

/**
 * struct evering_queue_lease - an item that is not done with
 * @position:	of the item
 * @claim:	protocol; not for the program
 * @deliveries:	1, or more where somebody else has had it: he may have died of it,
 *		or after all of the work but the acknowledgement.  256: as often,
 *		or more
 */
struct evering_queue_lease {
	uint64_t position;
	uint64_t claim;
	unsigned int deliveries;
};

/**
 * evering_queue_try_lease() - take the oldest item, and say later that it is done
 * @queue:	created with EVERING_QUEUE_LEASE
 * @item:	out: evering_queue_item_size() bytes, the caller's own copy
 * @lease:	out: for evering_queue_ack() or evering_queue_nack(), by any thread
 *
 * Items that came back go first.  Until it is acknowledged, an item takes its room
 * in the queue.  After evering_queue_shutdown(), the end comes when nobody
 * else holds a lease any more: acknowledge before waiting for the next.
 *
 * Return: 0, or -errno and then nothing has been taken; -EOPNOTSUPP: no leases here.
 */
int evering_queue_try_lease(struct evering_queue *queue, void *item,
			    struct evering_queue_lease *lease);

/** evering_queue_lease() - evering_queue_try_lease() that waits for one */
int evering_queue_lease(struct evering_queue *queue, void *item,
			struct evering_queue_lease *lease);

/** evering_queue_lease_timeout() - the same; -ETIME: none came in time */
int evering_queue_lease_timeout(struct evering_queue *queue, void *item,
				struct evering_queue_lease *lease,
				const struct timespec *timeout);

/**
 * evering_queue_ack() - it is done
 * @queue:	the queue
 * @lease:	from evering_queue_lease() by this endpoint
 *
 * Return: 0; -EINVAL: no such lease, or no longer.
 */
int evering_queue_ack(struct evering_queue *queue,
		      const struct evering_queue_lease *lease);

/** evering_queue_nack() - as evering_queue_ack(), but somebody else shall do it */
int evering_queue_nack(struct evering_queue *queue,
		       const struct evering_queue_lease *lease);

/**
 * evering_queue_force_push() - add an item; where there is no room, for the oldest
 * @queue:	opened for both
 * @item:	to add
 * @oldest:	out: the one that was taken out, which is the caller's now
 *
 * Return: 0: there was room; 1: added, and @oldest taken out; 2: @oldest taken out
 * and @item not added, as another producer was faster or the queue has ended: call
 * again; -EINPROGRESS: full, and the oldest is just being written; -EAGAIN: or read;
 * -errno.
 */
int evering_queue_force_push(struct evering_queue *queue, const void *item,
			     void *oldest);

#ifdef __cplusplus
}
#endif

#endif /* EVERING_QUEUE_H */
