// SPDX-License-Identifier: GPL-2.0
/* The allocator's books: any order of any sizes, every step checked as a whole. */
#include "granules.h"
#include "ring.h"
#include "kselftest_harness.h"

static uint32_t next_random(uint32_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 17;
	*seed ^= *seed << 5;
	return *seed;
}

/* From the definition: sixteen lists to each power of two, the small ones in one row. */
static unsigned int size_row(uint32_t size)
{
	unsigned int row = 0;

	while (size >> row >= 16)
		row++;
	return row;
}

/* Walks all of it.  NULL, or what is wrong. */
static const char *check(const struct evr_granules *g)
{
	uint32_t at, prev, before = 0, used = 0, free_blocks = 0, listed = 0;
	unsigned int row, column;
	bool was_free = false;

	for (at = 0; at < g->nr; at += before) {
		const struct evr_block *b = &g->blocks[at];

		if (!b->size || b->size > g->nr - at)
			return "a size beyond the end";
		if (b->before != before)
			return "a block that does not know the one before";
		if (b->state == EVR_BLOCK_NONE)
			return "a block that is none";
		if (b->state == EVR_BLOCK_FREE && was_free)
			return "two free neighbours";
		was_free = b->state == EVR_BLOCK_FREE;
		free_blocks += was_free;
		if (!was_free)
			used += b->size;
		before = b->size;
	}
	if (used != g->used)
		return "a wrong sum";
	for (row = 0; row < EVR_ROWS; row++) {
		if (!!(g->rows & 1U << row) != !!g->columns[row])
			return "a row that is not what its columns say";
		for (column = 0; column < EVR_COLUMNS; column++) {
			at = g->list[row][column];
			if (!!(g->columns[row] & 1U << column) != (at != EVR_NO_GRANULE))
				return "a column that is not what its list says";
			for (prev = EVR_NO_GRANULE; at != EVR_NO_GRANULE;
			     prev = at, at = g->blocks[at].next) {
				if (g->blocks[at].state != EVR_BLOCK_FREE)
					return "a block in use, in a list";
				if (g->blocks[at].prev != prev)
					return "a list that does not lead back";
				if (size_row(g->blocks[at].size) != row)
					return "a block in the wrong list";
				if (++listed > free_blocks)
					break;
			}
		}
	}
	return listed == free_blocks ? NULL : "a free block in no list, or in two";
}

TEST(what_is_allocated_is_apart_and_comes_back)
{
	enum { NR = 5000, LIVE = 300, STEPS = 30000 };
	static uint8_t owner[NR];
	uint32_t live[LIVE] = { 0 }, seed = 1, i, k, at, align;
	unsigned int failures = 0;
	bool have[LIVE] = { false };
	struct evr_granules g;
	const char *wrong;

	ASSERT_EQ(0, evr_granules_init(&g, NR));
	for (i = 0; i < STEPS; i++) {
		uint32_t which = next_random(&seed) % LIVE;

		if (have[which]) {
			at = live[which];
			for (k = 0; k < g.blocks[at].size; k++)
				owner[at + k] = 0;
			evr_granules_free(&g, at);
			have[which] = false;
		} else {
			uint32_t size = 1 + next_random(&seed) %
				(1U << next_random(&seed) % 9);

			align = 1U << next_random(&seed) % 6;
			if (next_random(&seed) % 2)
				align = 1;
			at = evr_granules_alloc(&g, size, align);
			if (at != EVR_NO_GRANULE) {
				ASSERT_EQ(0, at % align);
				ASSERT_EQ(size, g.blocks[at].size);
				for (k = 0; k < size; k++) {
					ASSERT_EQ(0, owner[at + k]);
					owner[at + k] = 1;
				}
				live[which] = at;
				have[which] = true;
			} else {
				/* Only if there is no such block. */
				for (at = 0; at + size <= NR; at += align) {
					for (k = 0; k < size && !owner[at + k]; k++)
						;
					ASSERT_LT(k, size) TH_LOG("%u at %u, by %u",
								  size, at, align);
				}
				failures++;
			}
		}
		wrong = check(&g);
		ASSERT_EQ(NULL, wrong) TH_LOG("step %u: %s", i, wrong);
	}
	EXPECT_LT(100, failures);
	for (i = 0; i < LIVE; i++)
		if (have[i])
			evr_granules_free(&g, live[i]);
	EXPECT_EQ(NULL, check(&g));
	EXPECT_EQ(0, g.used);
	EXPECT_EQ(NR, evr_granules_largest(&g));
	evr_granules_destroy(&g);
}

TEST(all_of_it_at_once)
{
	static const uint32_t sizes[] = { 1, 2, 15, 16, 17, 31, 33, 1000, 4097, 65535 };
	unsigned int i;

	for (i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		struct evr_granules g;
		uint32_t n, at;

		ASSERT_EQ(0, evr_granules_init(&g, sizes[i]));
		EXPECT_EQ(EVR_NO_GRANULE, evr_granules_alloc(&g, sizes[i] + 1UL, 1));
		EXPECT_EQ(EVR_NO_GRANULE, evr_granules_alloc(&g, 1UL << 32, 1));
		EXPECT_EQ(EVR_NO_GRANULE, evr_granules_alloc(&g, UINT64_MAX, 1));
		EXPECT_EQ(0, evr_granules_alloc(&g, sizes[i], 1));
		EXPECT_EQ(0, evr_granules_largest(&g));
		EXPECT_EQ(EVR_NO_GRANULE, evr_granules_alloc(&g, 1, 1));
		EXPECT_EQ(NULL, check(&g));
		evr_granules_free(&g, 0);
		/* and by ones, each of which comes back in another order */
		for (n = 0; n < sizes[i]; n++)
			ASSERT_NE(EVR_NO_GRANULE, evr_granules_alloc(&g, 1, 1));
		EXPECT_EQ(EVR_NO_GRANULE, evr_granules_alloc(&g, 1, 1));
		for (at = 0; at < sizes[i]; at += 2)
			evr_granules_free(&g, at);
		EXPECT_EQ(NULL, check(&g));
		EXPECT_EQ(EVR_NO_GRANULE, evr_granules_alloc(&g, 2, 1));
		for (at = 1; at < sizes[i]; at += 2)
			evr_granules_free(&g, at);
		EXPECT_EQ(NULL, check(&g));
		EXPECT_EQ(0, evr_granules_alloc(&g, sizes[i], 1));
		evr_granules_destroy(&g);
	}
}

/* A heap that is aligned as it is needs no room for a gap. */
TEST(aligned_to_the_last_granule)
{
	struct evr_granules g;

	ASSERT_EQ(0, evr_granules_init(&g, 32));
	EXPECT_EQ(EVR_NO_GRANULE, evr_granules_alloc(&g, 1, 64));
	EXPECT_EQ(0, evr_granules_alloc(&g, 32, 32));
	evr_granules_free(&g, 0);
	EXPECT_EQ(0, evr_granules_alloc(&g, 1, 1));
	EXPECT_EQ(16, evr_granules_alloc(&g, 16, 16));
	EXPECT_EQ(8, evr_granules_alloc(&g, 8, 8));
	EXPECT_EQ(NULL, check(&g));
	evr_granules_destroy(&g);
}

TEST(generations_tell_blocks_apart)
{
	struct evr_granules g;
	uint32_t first;

	ASSERT_EQ(0, evr_granules_init(&g, 8));
	ASSERT_EQ(0, evr_granules_alloc(&g, 8, 1));
	first = g.blocks[0].generation;
	evr_granules_free(&g, 0);
	ASSERT_EQ(0, evr_granules_alloc(&g, 3, 1));
	EXPECT_EQ(first + 1, g.blocks[0].generation);
	evr_granules_free(&g, 0);
	g.blocks[0].generation = EVR_GENERATION_MASK;
	ASSERT_EQ(0, evr_granules_alloc(&g, 3, 1));
	EXPECT_EQ(0, g.blocks[0].generation);
	evr_granules_destroy(&g);
}

TEST_HARNESS_MAIN
