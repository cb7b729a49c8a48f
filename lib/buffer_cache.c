/* SPDX-License-Identifier: MIT OR LGPL-2.1 */
/*
 * Tokens that come in messages, and the buffers that they stand for.
 *
 * A pair is good for as long as the registry's epoch stands, so that a token
 * which has been seen before costs a load and a look into a hash table.  When
 * the epoch has moved, those pairs go whose entry is not active any more.
 */
#include <errno.h>
#include <stdlib.h>

#include "internal.h"

#define FIRST_SLOTS	16U

/**
 * struct evering_buffer_cache - token -> buffer
 * @view:	the registry; not owned
 * @flags:	how buffers are opened
 * @epoch:	of the registry, when all of @slots were last known to be active
 * @slots:	hash table, open addressing; NULL is free
 * @nr_slots:	a power of two
 * @nr:		in use, at most half
 */
struct evering_buffer_cache {
	const struct evering_registry_view *view;
	int flags;
	uint64_t epoch;
	struct evering_buffer **slots;
	uint32_t nr_slots;
	uint32_t nr;
};

EXPORT int evering_buffer_cache_new(const struct evering_registry_view *view,
				    int flags, struct evering_buffer_cache **out)
{
	struct evering_buffer_cache *cache = calloc(1, sizeof(*cache));

	if (!cache)
		return -ENOMEM;
	cache->view = view;
	cache->flags = flags;
	cache->epoch = evering_registry_epoch(view);
	cache->nr_slots = FIRST_SLOTS;
	cache->slots = calloc(cache->nr_slots, sizeof(*cache->slots));
	if (!cache->slots) {
		free(cache);
		return -ENOMEM;
	}
	*out = cache;
	return 0;
}

EXPORT void evering_buffer_cache_free(struct evering_buffer_cache *cache)
{
	uint32_t i;

	if (!cache)
		return;
	for (i = 0; i < cache->nr_slots; i++)
		evering_buffer_close(cache->slots[i]);
	free(cache->slots);
	free(cache);
}

/* Where @token is, or where it would go. */
static uint32_t evr_cache_slot(struct evering_buffer **slots, uint32_t nr_slots,
			       uint64_t token)
{
	/* Fibonacci hashing; the index is in the low bits, the age above. */
	uint32_t i = (uint32_t)((token * 0x9e3779b97f4a7c15U) >> 32);

	for (;; i++) {
		i &= nr_slots - 1;
		if (!slots[i] || evering_buffer_token(slots[i]) == token)
			return i;
	}
}

/* All that pass into a table of @nr_slots; the others are closed. */
static int evr_cache_rebuild(struct evering_buffer_cache *cache,
			     uint32_t nr_slots, bool check)
{
	struct evering_buffer **slots = calloc(nr_slots, sizeof(*slots));
	struct evering_registry_entry entry;
	uint32_t i, nr = 0;

	if (!slots)
		return -ENOMEM;
	for (i = 0; i < cache->nr_slots; i++) {
		struct evering_buffer *buffer = cache->slots[i];
		uint64_t token;

		if (!buffer)
			continue;
		token = evering_buffer_token(buffer);
		/* One that cannot be told is opened again when it is wanted. */
		if (check && evering_registry_find(cache->view, token, &entry)) {
			evering_buffer_close(buffer);
			continue;
		}
		slots[evr_cache_slot(slots, nr_slots, token)] = buffer;
		nr++;
	}
	free(cache->slots);
	cache->slots = slots;
	cache->nr_slots = nr_slots;
	cache->nr = nr;
	return 0;
}

EXPORT int evering_buffer_cache_get(struct evering_buffer_cache *cache,
				    uint64_t token,
				    struct evering_buffer **buffer)
{
	/* Before anything is looked at: what moves it later is seen later. */
	uint64_t epoch = evering_registry_epoch(cache->view);
	uint32_t slot;
	int ret;

	if (epoch != cache->epoch) {
		ret = evr_cache_rebuild(cache, cache->nr_slots, true);
		if (ret)
			return ret;
		cache->epoch = epoch;
	}
	slot = evr_cache_slot(cache->slots, cache->nr_slots, token);
	if (!cache->slots[slot]) {
		if (cache->nr * 2 >= cache->nr_slots) {
			ret = evr_cache_rebuild(cache, cache->nr_slots * 2, false);
			if (ret)
				return ret;
			slot = evr_cache_slot(cache->slots, cache->nr_slots, token);
		}
		ret = evering_buffer_open(NULL, token, cache->flags,
					  &cache->slots[slot]);
		if (ret)
			return ret;
		cache->nr++;
	}
	*buffer = cache->slots[slot];
	return 0;
}
