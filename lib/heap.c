/* SPDX-License-Identifier: MIT OR LGPL-2.1 */
/* The own heap: allocate, free, make tokens; and what tokens of the peer stand for. */
#include <errno.h>
#include <stdlib.h>

#include "heap.h"

#define LARGEST_ALIGN	4096U	/* heaps begin at a page */

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define EVR_ASAN
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define EVR_ASAN
#endif
#ifdef EVR_ASAN
#include <sanitizer/asan_interface.h>
#endif

/* Who touches what is not his is told so, where somebody listens. */
void evr_heap_poison(const struct evering *ep, uint32_t at, uint64_t bytes)
{
#ifdef EVR_ASAN
	__asan_poison_memory_region(ep->own_heap + (uint64_t)at * EVERING_GRANULE,
				    bytes);
#else
	(void)ep;
	(void)at;
	(void)bytes;
#endif
}

void evr_heap_unpoison(const struct evering *ep, uint32_t at, uint64_t bytes)
{
#ifdef EVR_ASAN
	__asan_unpoison_memory_region(ep->own_heap +
				      (uint64_t)at * EVERING_GRANULE, bytes);
#else
	(void)ep;
	(void)at;
	(void)bytes;
#endif
}

static int evr_heap_new(struct evering *ep)
{
	uint64_t bytes = ep->layout.geometry.heap_size[ep->side];
	struct evr_heap *heap;
	int ret;

	/* Books that others of the side have too would have to be shared. */
	if (!ep->own_heap || ep->shared)
		return -EOPNOTSUPP;
	heap = calloc(1, sizeof(*heap));
	if (!heap)
		return -ENOMEM;
	heap->attached = calloc(ep->out.g.entries, sizeof(*heap->attached));
	ret = heap->attached ? evr_granules_init(&heap->granules,
						 bytes / EVERING_GRANULE) :
			       -ENOMEM;
	if (ret) {
		free(heap->attached);
		free(heap);
		return ret;
	}
	ep->heap = heap;
	evr_heap_poison(ep, 0, bytes);
	return 0;
}

/* Makes the books with the first use, so that who has no use for them has none. */
int evr_heap_get(struct evering *ep)
{
	return likely(ep->heap) ? 0 : evr_heap_new(ep);
}

void evr_heap_destroy(struct evering *ep)
{
	if (!ep->heap)
		return;
	/* Whatever is mapped there next is innocent. */
	evr_heap_unpoison(ep, 0, ep->layout.geometry.heap_size[ep->side]);
	evr_granules_destroy(&ep->heap->granules);
	free(ep->heap->attached);
	free(ep->heap->flights);
	free(ep->heap);
}

/* The block that a word of a token, of whatever origin, stands for; NULL: none. */
struct evr_block *evr_heap_find(const struct evering *ep, uint64_t word,
				uint32_t *at)
{
	struct evr_block *block;

	*at = (uint32_t)word;
	if (!ep->heap || *at >= ep->heap->granules.nr)
		return NULL;
	block = &ep->heap->granules.blocks[*at];
	return block->state >= EVR_BLOCK_OWNED &&
	       word == evr_token_word(block->generation, *at) ? block : NULL;
}

/* The block that begins at @p and is not free; NULL: none. */
static struct evr_block *evr_heap_at(const struct evering *ep, const void *p,
				     uint32_t *at)
{
	uint64_t offset = (uintptr_t)p - (uintptr_t)ep->own_heap;
	struct evr_block *block;

	if (!ep->heap || offset % EVERING_GRANULE ||
	    offset / EVERING_GRANULE >= ep->heap->granules.nr)
		return NULL;
	*at = (uint32_t)(offset / EVERING_GRANULE);
	block = &ep->heap->granules.blocks[*at];
	return block->state >= EVR_BLOCK_OWNED ? block : NULL;
}

static uint64_t evr_block_bytes(const struct evr_block *block)
{
	return (uint64_t)block->size * EVERING_GRANULE;
}

void evr_heap_free_block(struct evering *ep, uint32_t at)
{
	struct evr_heap *heap = ep->heap;

	evr_heap_poison(ep, at, evr_block_bytes(&heap->granules.blocks[at]));
	evr_granules_free(&heap->granules, at);
	heap->blocks--;
}

/* Takes back what is no longer the peer's, as far as that can be known. */
void evr_heap_reclaim(struct evering *ep)
{
	struct evr_heap *heap = ep->heap;
	struct evr_granules *g = &heap->granules;
	uint32_t at, size;

	evr_release_drain(ep, UINT32_MAX);
	/* pairs with the kernel's release of state: nobody reads any more */
	if ((!ep->in_flight && !heap->lent) ||
	    load_acquire(&ep->peer_state->state) != EVERING_STATE_DEAD)
		return;
	for (at = 0; at < g->nr; at += size) {
		const struct evr_block *block = &g->blocks[at];

		/* What is freed becomes one with what was free before it. */
		size = block->size;
		if (block->state <= EVR_BLOCK_OWNED || !evr_is_sent(ep, block))
			continue;
		if (block->state == EVR_BLOCK_IN_FLIGHT)
			evr_flight_end(ep, at);
		else
			heap->lent--;
		evr_heap_free_block(ep, at);
	}
}

static int evr_heap_alloc(struct evering *ep, uint64_t bytes, uint32_t align,
			  uint32_t *at)
{
	uint64_t size = bytes / EVERING_GRANULE + !!(bytes % EVERING_GRANULE);
	struct evr_heap *heap;
	int ret;

	if (!bytes)
		return -EINVAL;
	if (ep->own_heap && bytes > ep->layout.geometry.heap_size[ep->side])
		return -ENOMEM;
	ret = evr_heap_get(ep);
	if (ret)
		return ret;
	heap = ep->heap;
	if (heap->lent)
		evr_release_drain(ep, EVR_DRAIN_BATCH);
	*at = evr_granules_alloc(&heap->granules, size, align);
	if (unlikely(*at == EVR_NO_GRANULE)) {
		evr_heap_reclaim(ep);
		*at = evr_granules_alloc(&heap->granules, size, align);
		if (*at == EVR_NO_GRANULE)
			return -ENOMEM;
	}
	heap->blocks++;
	if (heap->granules.used > heap->peak)
		heap->peak = heap->granules.used;
	evr_heap_unpoison(ep, *at, size * EVERING_GRANULE);
	return 0;
}

static void *evr_heap_address(const struct evering *ep, uint32_t at)
{
	return ep->own_heap + (uint64_t)at * EVERING_GRANULE;
}

EXPORT int evering_alloc_aligned(struct evering *ep, size_t size, size_t align,
				 void **block)
{
	uint32_t at;
	int ret;

	if (!align || align & (align - 1) || align > LARGEST_ALIGN)
		return -EINVAL;
	ret = evr_heap_alloc(ep, size, align <= EVERING_GRANULE ? 1 :
			     (uint32_t)(align / EVERING_GRANULE), &at);
	if (!ret)
		*block = evr_heap_address(ep, at);
	return ret;
}

EXPORT int evering_alloc(struct evering *ep, size_t size, void **block)
{
	return evering_alloc_aligned(ep, size, 1, block);
}

EXPORT int evering_alloc_array(struct evering *ep, size_t count, size_t size,
			       void **block)
{
	size_t bytes;

	if (__builtin_mul_overflow(count, size, &bytes))
		return -ENOMEM;
	return evering_alloc_aligned(ep, bytes, 1, block);
}

EXPORT int evering_free(struct evering *ep, void *p)
{
	struct evr_block *block;
	uint32_t at;

	if (!p)
		return 0;
	block = evr_heap_at(ep, p, &at);
	if (!block)
		return -EINVAL;
	if (block->state != EVR_BLOCK_OWNED)
		return -EBUSY;
	evr_heap_free_block(ep, at);
	return 0;
}

EXPORT size_t evering_block_size(const struct evering *ep, const void *p)
{
	const struct evr_block *block;
	uint32_t at;

	block = evr_heap_at(ep, p, &at);
	return block && block->state == EVR_BLOCK_OWNED ? evr_block_bytes(block) : 0;
}

EXPORT int evering_heap_stats(struct evering *ep,
			      struct evering_heap_stats *stats)
{
	struct evr_heap *heap = ep->heap;

	if (!ep->own_heap || ep->shared)
		return -EOPNOTSUPP;
	*stats = (struct evering_heap_stats){
		.size = ep->layout.geometry.heap_size[ep->side],
	};
	stats->largest = stats->size;
	/* Nobody has allocated; who lays it out himself never will. */
	if (!heap)
		return 0;
	evr_heap_reclaim(ep);
	*stats = (struct evering_heap_stats){
		.size = (uint64_t)heap->granules.nr * EVERING_GRANULE,
		.used = (uint64_t)heap->granules.used * EVERING_GRANULE,
		.peak = (uint64_t)heap->peak * EVERING_GRANULE,
		.largest = (uint64_t)evr_granules_largest(&heap->granules) *
			   EVERING_GRANULE,
		.blocks = heap->blocks,
		.in_flight = ep->in_flight,
		.lent = heap->lent,
		.refused = heap->refused,
	};
	return 0;
}

/* ------------------------------------------------------------------ tokens */

EXPORT int evering_tokenize(const struct evering *ep, const void *p, size_t len,
			    const struct evering_type *type,
			    struct evering_token *token)
{
	const struct evr_block *block;
	uint32_t at;

	block = evr_heap_at(ep, p, &at);
	if (!block || len > evr_block_bytes(block) || len > UINT32_MAX)
		return -EINVAL;
	if (!evr_type_fits(type, len) || !evr_type_aligned(type, p))
		return -EINVAL;
	if (block->state != EVR_BLOCK_OWNED)
		return -EBUSY;
	*token = (struct evering_token){
		.block = evr_token_word(block->generation, at),
		.len = (uint32_t)len,
		.type = evering_type_tag(type),
	};
	return 0;
}

EXPORT void *evering_token_block(const struct evering *ep,
				 struct evering_token token)
{
	const struct evr_block *block;
	uint32_t at;

	block = evr_heap_find(ep, token.block, &at);
	if (!block || block->state != EVR_BLOCK_OWNED)
		return NULL;
	return evr_heap_address(ep, at);
}

EXPORT int evering_copy(struct evering *ep, const void *from, size_t len,
			const struct evering_type *type,
			struct evering_token *token)
{
	void *block;
	int ret;

	ret = evering_alloc(ep, len, &block);
	if (ret)
		return ret;
	ret = evering_tokenize(ep, block, len, type, token);
	if (ret) {
		evering_free(ep, block);
		return ret;
	}
	memcpy(block, from, len);
	return 0;
}

EXPORT const void *evering_token_payload(const struct evering *ep,
					 struct evering_token token)
{
	if (evering_token_kind(token) != EVERING_TOKEN_KIND_CHANNEL)
		return NULL;
	return evering_payload(ep, (uint64_t)(uint32_t)token.block *
			       EVERING_GRANULE, token.len);
}

EXPORT int64_t evering_token_get(const struct evering *ep,
				 struct evering_token token,
				 const struct evering_type *type,
				 const void **values)
{
	const void *payload;

	if (evering_token_is_null(token))
		return -ENODATA;
	if ((type && !evr_type_ok(type)) || token.type != evering_type_tag(type))
		return -EPROTOTYPE;
	payload = evering_token_payload(ep, token);
	if (!payload || !token.len || !evr_type_fits(type, token.len) ||
	    !evr_type_aligned(type, payload))
		return -EBADMSG;
	*values = payload;
	return token.len / (type ? type->size : 1);
}

EXPORT int evering_token_read(const struct evering *ep,
			      struct evering_token token,
			      const struct evering_type *type, void *value)
{
	const void *payload;
	int64_t nr;

	if (!type)
		return -EINVAL;
	nr = evering_token_get(ep, token, type, &payload);
	if (nr < 0)
		return (int)nr;
	if (nr != 1)
		return -EBADMSG;
	memcpy(value, payload, type->size);
	/* Or the compiler may read the payload again where the copy is meant. */
	compiler_barrier();
	return 0;
}
