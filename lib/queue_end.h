/* SPDX-License-Identifier: MIT OR LGPL-2.1 */
/* A queue as the library sees it: queue.c opens it, queue_items.c uses it. */
#ifndef EVERING_LIB_QUEUE_END_H
#define EVERING_LIB_QUEUE_END_H

#include "internal.h"
#include "lease.h"

/**
 * struct evr_queue_end - an endpoint of one side, and the ring as seen from it
 * @fd:		the endpoint, or -1
 * @ring:	the ring; what the other side writes is mapped read-only
 * @words:	who sleeps
 * @peer:	what the other side says of itself
 * @spin:	how long to spin; all threads share it
 * @memory:	as mapped
 * @layout:	private copy
 */
struct evr_queue_end {
	int fd;
	struct multi_ring ring;
	const struct evering_ring_words *words;
	const struct evering_control *peer;
	struct evr_spin spin;
	struct evr_memory memory;
	struct evering_layout layout;
};

/**
 * struct evering_queue - ends to push to and to pop from, by side
 * @end:	an end with fd -1 is not open
 * @token:	of the queue
 * @item_size:	bytes of an item
 */
struct evering_queue {
	struct evr_queue_end end[2];
	uint64_t token;
	size_t item_size;
};

static inline const struct evr_queue_end *
evr_any_end(const struct evering_queue *queue)
{
	return &queue->end[queue->end[EVERING_SIDE_A].fd < 0];
}

#endif /* EVERING_LIB_QUEUE_END_H */
