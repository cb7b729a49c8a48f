/* SPDX-License-Identifier: MIT OR LGPL-2.1 */
/* An endpoint over mapped sections: making, ending, and asking about it. */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>

#include "shared.h"

/* How long to spin, where the caller says nothing. */
unsigned int evr_default_spin(void)
{
	cpu_set_t set;

	/* More CPUs than fit the set are more than one. */
	if (!sched_getaffinity(0, sizeof(set), &set) && CPU_COUNT(&set) == 1)
		return 0;
	return EVR_DEFAULT_SPIN_NS;
}

static void evr_set_rings(struct evering *ep)
{
	const struct evering_layout *layout = &ep->layout;
	const struct evr_memory *m = &ep->memory;
	unsigned int mine = ep->side, theirs = !ep->side;

	ep->control = m->own;
	ep->peer_control = m->peer;
	ep->peer_state = &m->header->side[theirs];
	ep->generation = load_once(&ep->peer_state->generation);

	evr_ring_geometry(&ep->out.g, layout, mine);
	ep->out.slots = (char *)m->own + layout->slots_offset[mine];
	ep->out.head = &ep->peer_control->head;
	ep->peers_many = layout->claims_offset[mine];
	if (ep->peers_many)
		ep->out.claims = (const __u64 *)(const void *)
			((const char *)m->peer + layout->claims_offset[mine]);
	ep->out.tail_hint = &ep->control->tail;
	ep->out.words = &m->header->ring[mine];

	evr_ring_geometry(&ep->in.g, layout, theirs);
	ep->in.slots = (const char *)m->peer + layout->slots_offset[theirs];
	ep->in.head_word = &ep->control->head;
	ep->in.words = &m->header->ring[theirs];

	if (layout->geometry.heap_size[mine])
		ep->own_heap = (char *)m->own + layout->heap_offset[mine];
	if (layout->geometry.heap_size[theirs])
		ep->peer_heap = (const char *)m->peer +
				layout->heap_offset[theirs];
}

/*
 * @layout is trusted: it comes from the kernel, and from nowhere in @memory.
 * The caller keeps @memory where this fails.
 */
int evr_endpoint_new(unsigned int side, const struct evering_layout *layout,
		     const struct evr_memory *memory,
		     const struct evr_backend *backend, struct evering **out)
{
	struct evering *ep;
	void *copies;

	/* The hot words of both rings begin a cache line. */
	ep = aligned_alloc(64, (sizeof(*ep) + 63) & ~(size_t)63);
	if (!ep)
		return -ENOMEM;
	memset(ep, 0, sizeof(*ep));
	ep->side = side;
	ep->layout = *layout;
	ep->memory = *memory;
	ep->backend = backend;
	ep->fd = -1;
	evr_set_rings(ep);

	ep->out.cancelled = calloc((ep->out.g.entries + 63) / 64,
				   sizeof(uint64_t));
	copies = aligned_alloc(64, ep->in.g.entries << ep->in.g.slot_shift);
	ep->in.copies = copies;
	if (!ep->out.cancelled || !copies) {
		free(copies);
		free(ep->out.cancelled);
		free(ep);
		return -ENOMEM;
	}
	ep->usual = ep->in.g.slot_shift == 6 && !ep->peers_many;
	ep->spin.ns = evr_default_spin();
	*out = ep;
	return 0;
}

EXPORT void evering_close(struct evering *ep)
{
	if (!ep)
		return;
	evr_heap_destroy(ep);
	if (ep->backend->detach)
		ep->backend->detach(ep);
	evr_shared_free(ep->shared);
	free(ep->in.copies);
	free(ep->out.cancelled);
	free(ep);
}

EXPORT int evering_fd(const struct evering *ep)
{
	return ep->fd;
}

EXPORT uint64_t evering_token(const struct evering *ep)
{
	return ep->token;
}

EXPORT const struct evering_geometry *evering_geometry(const struct evering *ep)
{
	return &ep->layout.geometry;
}

EXPORT void evering_set_spin(struct evering *ep, unsigned int nanoseconds)
{
	ep->spin.ns = nanoseconds;
	ep->spin.rest = 0;
	ep->spin.penalty = 0;
}

EXPORT void evering_stats(const struct evering *ep, struct evering_stats *stats)
{
	*stats = ep->stats;
}

EXPORT void *evering_heap(struct evering *ep, uint64_t *size)
{
	if (size)
		*size = ep->layout.geometry.heap_size[ep->side];
	return ep->own_heap;
}

EXPORT const void *evering_payload(const struct evering *ep, uint64_t offset,
				   uint64_t len)
{
	uint64_t size = ep->layout.geometry.heap_size[!ep->side];

	/* Both are the peer's word. */
	if (!ep->peer_heap || offset > size || len > size - offset)
		return NULL;
	return ep->peer_heap + offset;
}
