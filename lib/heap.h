/* SPDX-License-Identifier: MIT OR LGPL-2.1 */
/* The heap of one side of a channel: its blocks, and whose each of them is. */
#ifndef EVERING_LIB_HEAP_H
#define EVERING_LIB_HEAP_H

#include "granules.h"
#include "internal.h"

#define EVR_DRAIN_BATCH	16U	/* that an allocation takes back at most */

/**
 * struct evr_attachment - the payload of a slot that is reserved
 * @pos:	of the slot; one of another lap is over
 * @block:	as in a token; 0: none yet
 */
struct evr_attachment {
	uint64_t pos;
	uint64_t block;
};

/**
 * struct evr_heap - the books, all in private memory
 * @granules:	which are in use
 * @peak:	most granules in use so far
 * @blocks:	that are not free
 * @attached:	one for each slot of the own ring
 * @flights:	hash table of granule + 1, by user_data; open addressing, 0 is free
 * @nr_flights:	a power of two, or 0
 * @flight_shift: 64 - log2(@nr_flights)
 * @lent:	blocks that the peer has
 * @released:	where the next block that comes back will be in the release ring
 * @refused:	of those, not lent or not any more
 */
struct evr_heap {
	struct evr_granules granules;
	uint32_t peak;
	uint32_t blocks;
	struct evr_attachment *attached;
	uint32_t *flights;
	uint32_t nr_flights;
	unsigned int flight_shift;
	uint32_t lent;
	uint64_t released;
	uint64_t refused;
};

/* heap.c */
int evr_heap_get(struct evering *ep);
struct evr_block *evr_heap_find(const struct evering *ep, uint64_t block,
				uint32_t *at);
void evr_heap_free_block(struct evering *ep, uint32_t at);
void evr_heap_reclaim(struct evering *ep);
void evr_heap_poison(const struct evering *ep, uint32_t at, uint64_t bytes);
void evr_heap_unpoison(const struct evering *ep, uint32_t at, uint64_t bytes);

/* lend.c */
void evr_release_drain(struct evering *ep, uint32_t most);
void evr_flight_end(struct evering *ep, uint32_t at);

/* Has the slot that @block goes with been sent?  Else the program may yet cancel it. */
static inline bool evr_is_sent(const struct evering *ep,
			       const struct evr_block *block)
{
	return block->pos < ep->out.tail;
}

static inline uint64_t evr_token_word(uint32_t generation, uint32_t granule)
{
	return (uint64_t)EVERING_TOKEN_KIND_CHANNEL << 60 |
	       (uint64_t)generation << 32 | granule;
}

#endif /* EVERING_LIB_HEAP_H */
