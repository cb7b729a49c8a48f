/* SPDX-License-Identifier: MIT OR LGPL-2.1 */
/*
 * Which granules of a heap are in use: two-level segregated fit (TLSF; Masmano,
 * Ripoll, Crespo, Real, 2004), with the books apart from the memory that they are
 * about.  Free takes a bounded number of steps, and so does allocate, unless nothing is
 * left that is surely large enough: then it looks at all that may be.  Neighbours that
 * are free are always one.
 *
 * Nothing here looks at the memory itself: others may write there.
 */
#ifndef EVERING_LIB_GRANULES_H
#define EVERING_LIB_GRANULES_H

#include <stdbool.h>
#include <stdint.h>

#define EVR_ROW_SHIFT	4	/* log2 of the lists for sizes between powers of two */
#define EVR_COLUMNS	(1U << EVR_ROW_SHIFT)
#define EVR_ROWS	(32 - EVR_ROW_SHIFT + 1)
#define EVR_NO_GRANULE	(~(uint32_t)0)

#define EVR_GENERATION_BITS	28
#define EVR_GENERATION_MASK	((1U << EVR_GENERATION_BITS) - 1)

/* What a granule begins.  Only those of a block that is not free are the user's. */
enum evr_block_state {
	EVR_BLOCK_NONE,		/* nothing: it is inside of a block */
	EVR_BLOCK_FREE,
	EVR_BLOCK_OWNED,	/* the program's */
	EVR_BLOCK_IN_FLIGHT,	/* a request's, until its completion */
	EVR_BLOCK_LENT,		/* the peer's, until it is handed back */
};

/**
 * struct evr_block - what is known of a granule that a block begins with
 * @size:	granules
 * @before:	size of the block just before it, 0 where there is none
 * @generation:	times that a block beginning here has been allocated; 28 bits
 * @state:	enum evr_block_state
 * @next:	FREE: in the list of its size, or EVR_NO_GRANULE
 * @prev:	likewise
 * @user_data:	IN_FLIGHT: of the request
 * @pos:	IN_FLIGHT, LENT: of the slot that it goes with
 */
struct evr_block {
	uint32_t size;
	uint32_t before;
	uint32_t generation;
	uint32_t state;
	union {
		struct {
			uint32_t next;
			uint32_t prev;
		};
		uint64_t user_data;
	};
	uint64_t pos;
};

/**
 * struct evr_granules - the books of a heap
 * @nr:		granules
 * @used:	of these, in blocks that are not free
 * @rows:	a bit for each row that has a list which is not empty
 * @columns:	a bit for each list of a row that is not empty
 * @list:	first free block of each size
 * @blocks:	one for each granule
 */
struct evr_granules {
	uint32_t nr;
	uint32_t used;
	uint32_t rows;
	uint32_t columns[EVR_ROWS];
	uint32_t list[EVR_ROWS][EVR_COLUMNS];
	struct evr_block *blocks;
};

int evr_granules_init(struct evr_granules *g, uint64_t nr);
void evr_granules_destroy(struct evr_granules *g);
uint32_t evr_granules_alloc(struct evr_granules *g, uint64_t size,
			    uint32_t align);
void evr_granules_free(struct evr_granules *g, uint32_t block);
uint32_t evr_granules_largest(const struct evr_granules *g);

#endif /* EVERING_LIB_GRANULES_H */
