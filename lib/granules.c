/* SPDX-License-Identifier: MIT OR LGPL-2.1 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "granules.h"
#include "ring.h"

/**
 * struct evr_size_class - the list that a size belongs to
 * @row:	log2 of the size, but 0 for all below EVR_COLUMNS, which are exact
 * @column:	which part of the way to the next power of two
 */
struct evr_size_class {
	unsigned int row;
	unsigned int column;
};

static unsigned int evr_log2(uint32_t n)
{
	return 31 - (unsigned int)__builtin_clz(n);
}

static struct evr_size_class evr_class_of(uint32_t size)
{
	unsigned int log2;

	if (size < EVR_COLUMNS)
		return (struct evr_size_class){ 0, size };
	log2 = evr_log2(size);
	return (struct evr_size_class){
		.row = log2 - EVR_ROW_SHIFT + 1,
		.column = size >> (log2 - EVR_ROW_SHIFT) & (EVR_COLUMNS - 1),
	};
}

static void evr_list_add(struct evr_granules *g, uint32_t at)
{
	struct evr_block *block = &g->blocks[at];
	struct evr_size_class class = evr_class_of(block->size);
	uint32_t *first = &g->list[class.row][class.column];

	block->state = EVR_BLOCK_FREE;
	block->prev = EVR_NO_GRANULE;
	block->next = *first;
	if (*first != EVR_NO_GRANULE)
		g->blocks[*first].prev = at;
	*first = at;
	g->columns[class.row] |= 1U << class.column;
	g->rows |= 1U << class.row;
}

static void evr_list_del(struct evr_granules *g, uint32_t at)
{
	struct evr_block *block = &g->blocks[at];
	struct evr_size_class class;

	block->state = EVR_BLOCK_NONE;
	if (block->next != EVR_NO_GRANULE)
		g->blocks[block->next].prev = block->prev;
	if (block->prev != EVR_NO_GRANULE) {
		g->blocks[block->prev].next = block->next;
		return;
	}
	class = evr_class_of(block->size);
	g->list[class.row][class.column] = block->next;
	if (block->next != EVR_NO_GRANULE)
		return;
	g->columns[class.row] &= ~(1U << class.column);
	if (!g->columns[class.row])
		g->rows &= ~(1U << class.row);
}

/* The first of a list all of whose blocks are large enough. */
static uint32_t evr_find_fast(const struct evr_granules *g, uint32_t size)
{
	struct evr_size_class class;
	uint32_t columns, rows, round = 0;

	if (size >= EVR_COLUMNS)
		round = (1U << (evr_log2(size) - EVR_ROW_SHIFT)) - 1;
	if (size > UINT32_MAX - round)
		return EVR_NO_GRANULE;
	class = evr_class_of(size + round);
	columns = g->columns[class.row] & ~0U << class.column;
	if (!columns) {
		/* No shift by 32: there are fewer rows than bits. */
		rows = g->rows & ~0U << (class.row + 1);
		if (!rows)
			return EVR_NO_GRANULE;
		class.row = (unsigned int)__builtin_ctz(rows);
		columns = g->columns[class.row];
	}
	return g->list[class.row][__builtin_ctz(columns)];
}

/* Granules from @at to the next multiple of @align, a power of two. */
static uint32_t evr_gap(uint32_t at, uint32_t align)
{
	return -at & (align - 1);
}

/* Of a list, one with @size granules from a multiple of @align on. */
static uint32_t evr_find_in(const struct evr_granules *g, uint32_t at,
			    uint32_t size, uint32_t align)
{
	for (; at != EVR_NO_GRANULE; at = g->blocks[at].next)
		if (g->blocks[at].size >= (uint64_t)size + evr_gap(at, align))
			break;
	return at;
}

/* Looks at all that are at least in the list of @size. */
static uint32_t evr_find_any(const struct evr_granules *g, uint32_t size,
			     uint32_t align)
{
	struct evr_size_class class = evr_class_of(size);
	unsigned int row, column;
	uint32_t at;

	for (row = class.row; row < EVR_ROWS; row++) {
		if (!(g->rows & 1U << row))
			continue;
		for (column = row == class.row ? class.column : 0;
		     column < EVR_COLUMNS; column++) {
			at = evr_find_in(g, g->list[row][column], size, align);
			if (at != EVR_NO_GRANULE)
				return at;
		}
	}
	return EVR_NO_GRANULE;
}

/* The block after that at @at is now behind one of @size granules. */
static void evr_tell_next(struct evr_granules *g, uint32_t at, uint32_t size)
{
	if (at + size < g->nr)
		g->blocks[at + size].before = size;
}

/* Makes one free block of @size granules at @at, which is in no list. */
static void evr_put(struct evr_granules *g, uint32_t at, uint32_t size)
{
	g->blocks[at].size = size;
	evr_tell_next(g, at, size);
	evr_list_add(g, at);
}

int evr_granules_init(struct evr_granules *g, uint64_t nr)
{
	memset(g, 0, sizeof(*g));
	memset(g->list, 0xff, sizeof(g->list));
	/* Of more than half a terabyte, the first half a terabyte is used. */
	g->nr = nr < EVR_NO_GRANULE ? (uint32_t)nr : EVR_NO_GRANULE;
	/* Pages of this that no block begins in are never touched. */
	g->blocks = calloc(g->nr, sizeof(*g->blocks));
	if (!g->blocks)
		return -ENOMEM;
	evr_put(g, 0, g->nr);
	return 0;
}

void evr_granules_destroy(struct evr_granules *g)
{
	free(g->blocks);
}

/*
 * @size and @align in granules; @align is a power of two.  Returns the first granule
 * of an OWNED block, or EVR_NO_GRANULE.
 */
uint32_t evr_granules_alloc(struct evr_granules *g, uint64_t size,
			    uint32_t align)
{
	uint32_t at, found, gap, whole;
	struct evr_block *block;

	if (size > g->nr || align > g->nr)
		return EVR_NO_GRANULE;
	at = EVR_NO_GRANULE;
	/* Room for the largest gap. */
	if (likely(size + align - 1 <= g->nr))
		at = evr_find_fast(g, (uint32_t)size + align - 1);
	if (unlikely(at == EVR_NO_GRANULE))
		at = evr_find_any(g, (uint32_t)size, align);
	if (at == EVR_NO_GRANULE)
		return EVR_NO_GRANULE;
	evr_list_del(g, at);
	whole = g->blocks[at].size;
	gap = evr_gap(at, align);
	found = at + gap;
	if (unlikely(gap)) {
		evr_put(g, at, gap);
		whole -= gap;
	}
	block = &g->blocks[found];
	block->size = (uint32_t)size;
	block->state = EVR_BLOCK_OWNED;
	block->generation = (block->generation + 1) & EVR_GENERATION_MASK;
	if (whole != size) {
		g->blocks[found + size].before = (uint32_t)size;
		evr_put(g, found + (uint32_t)size, whole - (uint32_t)size);
	} else {
		evr_tell_next(g, found, whole);
	}
	g->used += (uint32_t)size;
	return found;
}

/* @block begins a block that is not free. */
void evr_granules_free(struct evr_granules *g, uint32_t block)
{
	uint32_t size = g->blocks[block].size;
	uint32_t next = block + size;
	uint32_t before = g->blocks[block].before;

	g->used -= size;
	g->blocks[block].state = EVR_BLOCK_NONE;
	if (next < g->nr && g->blocks[next].state == EVR_BLOCK_FREE) {
		evr_list_del(g, next);
		size += g->blocks[next].size;
	}
	if (before && g->blocks[block - before].state == EVR_BLOCK_FREE) {
		block -= before;
		evr_list_del(g, block);
		size += before;
	}
	evr_put(g, block, size);
}

/* Granules of the largest block that is free. */
uint32_t evr_granules_largest(const struct evr_granules *g)
{
	unsigned int row, column;
	uint32_t at, largest = 0;

	if (!g->rows)
		return 0;
	row = evr_log2(g->rows);
	column = evr_log2(g->columns[row]);
	for (at = g->list[row][column]; at != EVR_NO_GRANULE;
	     at = g->blocks[at].next)
		if (g->blocks[at].size > largest)
			largest = g->blocks[at].size;
	return largest;
}
