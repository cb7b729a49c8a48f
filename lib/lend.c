/* SPDX-License-Identifier: MIT OR LGPL-2.1 */
/*
 * Blocks that are with the peer: sent with a request, until its completion; lent with
 * a completion, until they come back through the release ring.
 *
 * Which access pairs with which
 *
 *	client: entry; release_tail, release <-> server: release_tail, acquire; entry
 *		the entry is there when it is counted
 *	client: reads the payload; release_tail, release
 *				<-> server: release_tail, acquire; writes the payload
 *		nobody reads what is being written again
 */
#include <errno.h>
#include <stdlib.h>

#include "exchange.h"
#include "heap.h"

/* ------------------------------------------------- requests by user_data */

#define FIRST_FLIGHTS	64U

static uint32_t evr_flight_home(const struct evr_heap *heap, uint64_t user_data)
{
	/* Fibonacci hashing: its highest bits depend on all of the key. */
	return (uint32_t)(user_data * 0x9e3779b97f4a7c15U >> heap->flight_shift);
}

/* Where the request with @user_data is, or where it would go. */
static uint32_t evr_flight_slot(const struct evr_heap *heap, uint64_t user_data)
{
	uint32_t i = evr_flight_home(heap, user_data);

	while (heap->flights[i] &&
	       heap->granules.blocks[heap->flights[i] - 1].user_data != user_data)
		i = (i + 1) & (heap->nr_flights - 1);
	return i;
}

static int evr_flights_grow(struct evr_heap *heap)
{
	uint32_t *old = heap->flights, nr_old = heap->nr_flights, i;
	uint32_t nr = nr_old ? nr_old * 2 : FIRST_FLIGHTS;
	uint32_t *flights = nr ? calloc(nr, sizeof(*flights)) : NULL;

	if (!flights)
		return -ENOMEM;
	heap->flights = flights;
	heap->nr_flights = nr;
	heap->flight_shift = 64 - (unsigned int)__builtin_ctz(nr);
	for (i = 0; i < nr_old; i++)
		if (old[i])
			flights[evr_flight_slot(heap, heap->granules
					.blocks[old[i] - 1].user_data)] = old[i];
	free(old);
	return 0;
}

static int evr_flight_add(struct evering *ep, uint64_t user_data, uint32_t at)
{
	struct evr_heap *heap = ep->heap;
	uint32_t i;
	int ret;

	if (heap->nr_flights &&
	    heap->flights[evr_flight_slot(heap, user_data)])
		return -EEXIST;
	/* At most half full: a search is short, and ends. */
	if (ep->in_flight >= heap->nr_flights / 2) {
		ret = evr_flights_grow(heap);
		if (ret)
			return ret;
	}
	heap->granules.blocks[at].user_data = user_data;
	i = evr_flight_slot(heap, user_data);
	heap->flights[i] = at + 1;
	ep->in_flight++;
	return 0;
}

/* Takes the one in slot @i out, and moves up those that stood behind it. */
static void evr_flight_del(struct evering *ep, uint32_t i)
{
	struct evr_heap *heap = ep->heap;
	uint32_t mask = heap->nr_flights - 1, j = i;

	for (;;) {
		uint32_t home;

		heap->flights[i] = 0;
		do {
			j = (j + 1) & mask;
			if (!heap->flights[j]) {
				ep->in_flight--;
				return;
			}
			home = evr_flight_home(heap, heap->granules
					.blocks[heap->flights[j] - 1].user_data);
			/* Not if it would come to stand before its home. */
		} while (((j - home) & mask) < ((j - i) & mask));
		heap->flights[i] = heap->flights[j];
		i = j;
	}
}

/* The request that the block at @at is with is over. */
void evr_flight_end(struct evering *ep, uint32_t at)
{
	const struct evr_heap *heap = ep->heap;

	evr_flight_del(ep, evr_flight_slot(heap, heap->granules.blocks[at].user_data));
}

/* The program is done with the oldest @nr completions. */
void evr_heap_completed(struct evering *ep, unsigned int nr)
{
	struct evr_heap *heap = ep->heap;
	unsigned int i;

	for (i = 0; i < nr && ep->in_flight; i++) {
		const struct evering_cqe *cqe = ring_copy_at(&ep->in, i);
		uint32_t slot = evr_flight_slot(heap, cqe->user_data);
		uint32_t at = heap->flights[slot];

		/* What has not been asked cannot have been answered. */
		if (!at || !evr_is_sent(ep, &heap->granules.blocks[at - 1]))
			continue;
		evr_flight_del(ep, slot);
		evr_heap_free_block(ep, at - 1);
	}
}

/* --------------------------------------------------- what has come back */

static uint32_t evr_release_entries(const struct evering *ep)
{
	return evering_release_entries(
			ep->layout.geometry.heap_size[EVERING_SIDE_B]);
}

/* Frees at most @most of the blocks that the client has handed back. */
void evr_release_drain(struct evering *ep, uint32_t most)
{
	struct evr_heap *heap = ep->heap;
	uint32_t entries = evr_release_entries(ep);
	const uint64_t *ring;
	uint64_t tail;

	if (ep->side != EVERING_SIDE_B || !ep->layout.release_offset)
		return;
	ring = (const uint64_t *)(const void *)
		((const char *)ep->memory.peer + ep->layout.release_offset);
	/* pairs with evering_release() */
	tail = load_acquire(&ep->peer_control->release_tail);
	/* No more is lent than there are entries. */
	if (tail - heap->released > entries) {
		ep->error = -EPROTO;
		return;
	}
	for (; heap->released != tail && most; heap->released++, most--) {
		uint64_t word = load_once(&ring[heap->released & (entries - 1)]);
		struct evr_block *block;
		uint32_t at;

		block = evr_heap_find(ep, word, &at);
		if (!block || block->state != EVR_BLOCK_LENT ||
		    !evr_is_sent(ep, block)) {
			heap->refused++;
			continue;
		}
		evr_heap_free_block(ep, at);
		heap->lent--;
	}
}

EXPORT int evering_release(struct evering *ep, struct evering_token token)
{
	uint32_t mask = evr_release_entries(ep) - 1;
	uint64_t *ring;

	if (evering_token_is_null(token))
		return 0;
	if (ep->side != EVERING_SIDE_A || !evering_token_payload(ep, token))
		return -EINVAL;
	if (!ep->layout.release_offset)
		return -EOPNOTSUPP;
	ring = (uint64_t *)(void *)((char *)ep->memory.own +
				    ep->layout.release_offset);
	store_once(&ring[ep->released & mask], token.block);
	ep->released++;
	/* pairs with evr_release_drain() */
	store_release(&ep->control->release_tail, ep->released);
	return 0;
}

/* --------------------------------------------------------------- attaching */

/*
 * The block of @token, which is the program's; and where its slot notes it, NULL for
 * a token that stands for nothing.
 */
static int evr_attach_to(struct evering *ep, unsigned int side, const void *slot,
			 struct evering_token *token, uint32_t *at,
			 struct evr_attachment **note)
{
	struct evr_block *block;
	uint64_t pos;

	if (ep->side != side || !ring_find_reserved(&ep->out, slot, &pos))
		return -EINVAL;
	*note = NULL;
	if (!ep->heap) {
		if (evering_token_is_null(*token))
			goto null;
		return ep->shared ? -EOPNOTSUPP : -EINVAL;
	}
	*note = &ep->heap->attached[pos & ep->out.g.mask];
	/* What it says of another lap is over. */
	if ((*note)->pos != pos)
		**note = (struct evr_attachment){ .pos = pos };
	if ((*note)->block)
		return -EBUSY;
	if (evering_token_is_null(*token))
		goto null;
	if (evering_token_kind(*token) != EVERING_TOKEN_KIND_CHANNEL ||
	    (uint32_t)token->block >= ep->heap->granules.nr)
		return -EINVAL;
	block = evr_heap_find(ep, token->block, at);
	if (!block || block->state != EVR_BLOCK_OWNED)
		return -ESTALE;
	if (token->len > (uint64_t)block->size * EVERING_GRANULE)
		return -EINVAL;
	return 0;

null:
	*token = (struct evering_token){ 0 };
	*note = NULL;
	return 0;
}

static void evr_put_token(uint8_t *data, struct evering_token token)
{
	memcpy(data, &token.len, sizeof(token.len));
	memcpy(data + sizeof(token.len), &token.type, sizeof(token.type));
}

/* From now on it is the peer's to read, and nobody's to write. */
static void evr_hand_over(struct evering *ep, uint32_t at,
			  enum evr_block_state state, struct evr_attachment *note)
{
	struct evr_block *block = &ep->heap->granules.blocks[at];

	note->block = evr_token_word(block->generation, at);
	block->pos = note->pos;
	block->state = state;
	evr_heap_poison(ep, at, (uint64_t)block->size * EVERING_GRANULE);
}

EXPORT int evering_sqe_attach(struct evering *ep, struct evering_sqe *sqe,
			      uint64_t user_data, struct evering_token token)
{
	struct evr_attachment *note;
	uint32_t at;
	int ret;

	ret = evr_attach_to(ep, EVERING_SIDE_A, sqe, &token, &at, &note);
	if (ret)
		return ret;
	if (note) {
		ret = evr_flight_add(ep, user_data, at);
		if (ret)
			return ret;
		evr_hand_over(ep, at, EVR_BLOCK_IN_FLIGHT, note);
	}
	sqe->user_data = user_data;
	sqe->offset = token.block;
	sqe->len = token.len;
	evr_put_token(sqe->data, token);
	return 0;
}

EXPORT int evering_cqe_attach(struct evering *ep, struct evering_cqe *cqe,
			      struct evering_token token)
{
	struct evr_attachment *note;
	uint32_t at;
	int ret;

	ret = evr_attach_to(ep, EVERING_SIDE_B, cqe, &token, &at, &note);
	if (ret)
		return ret;
	if (note) {
		if (!ep->layout.release_offset)
			return -EOPNOTSUPP;
		if (ep->heap->lent == evr_release_entries(ep)) {
			evr_heap_reclaim(ep);
			if (ep->error)
				return ep->error;
			if (ep->heap->lent == evr_release_entries(ep))
				return -ENOBUFS;
		}
		evr_hand_over(ep, at, EVR_BLOCK_LENT, note);
		ep->heap->lent++;
	}
	cqe->offset = token.block;
	evr_put_token(cqe->data, token);
	return 0;
}

/* The slot at @pos is not sent: what was attached to it is the program's again. */
void evr_heap_cancelled(struct evering *ep, uint64_t pos)
{
	struct evr_heap *heap = ep->heap;
	struct evr_attachment *note = &heap->attached[pos & ep->out.g.mask];
	struct evr_block *block;
	uint32_t at;

	if (note->pos != pos || !note->block)
		return;
	block = evr_heap_find(ep, note->block, &at);
	note->block = 0;
	/* Nobody else ends what has not been sent. */
	if (!block)
		return;
	if (block->state == EVR_BLOCK_IN_FLIGHT)
		evr_flight_end(ep, at);
	else
		heap->lent--;
	block->state = EVR_BLOCK_OWNED;
	evr_heap_unpoison(ep, at, (uint64_t)block->size * EVERING_GRANULE);
}
