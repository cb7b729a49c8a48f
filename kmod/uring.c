// SPDX-License-Identifier: GPL-2.0
/* A uring: geometry, pages, sides, and its end. */
#include <linux/log2.h>
#include <linux/nospec.h>
#include <linux/overflow.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <net/net_namespace.h>

#include "internal.h"
#include "trace.h"

#define EVR_HEAP_ALIGN	4096U

static const struct evr_kind evr_kinds[] = {
	[EVERING_KIND_CHANNEL] = {
		.name = "channel",
		.ring = { true, true },
		.heap = { true, true },
	},
	[EVERING_KIND_QUEUE] = {
		.name = "queue",
		.ring = { true, false },
		.heap = { true, false },
		.many = { true, true },
	},
	[EVERING_KIND_TOPIC] = {
		.name = "topic",
		.ring = { true, false },
		.heap = { true, false },
		.many = { false, true },
		.read_only = { false, true },
	},
	[EVERING_KIND_BUFFER] = {
		.name = "buffer",
		.heap = { true, false },
		.many = { true, true },
		.read_only = { false, true },
	},
};

/**
 * evr_kind() - what a kind of uring has
 * @kind:	EVERING_KIND_*, or anything else from user space
 *
 * Return: NULL: there is no such kind.
 */
const struct evr_kind *evr_kind(u32 kind)
{
	if (kind >= ARRAY_SIZE(evr_kinds))
		return NULL;
	return &evr_kinds[array_index_nospec(kind, ARRAY_SIZE(evr_kinds))];
}

/* Whole pages of @bytes, or 0 where that does not fit. */
static u64 evr_page_round(u64 bytes)
{
	u64 sum;

	if (check_add_overflow(bytes, (u64)PAGE_SIZE - 1, &sum))
		return 0;
	return sum & PAGE_MASK;
}

/* May a uring of this kind be like that? */
static bool evr_flags_valid(const struct evr_kind *kind, u32 flags)
{
	const u32 many = EVERING_URING_MULTI_A | EVERING_URING_MULTI_B;

	if (flags & ~(many | EVERING_URING_LEASE))
		return false;
	/* Elsewhere the kind says it. */
	if ((flags & many) && kind != &evr_kinds[EVERING_KIND_CHANNEL])
		return false;
	return !(flags & EVERING_URING_LEASE) || (flags & many) ||
	       kind == &evr_kinds[EVERING_KIND_QUEUE];
}

/* Do the endpoints of @side share positions? */
static bool evr_shared(const struct evr_kind *kind, u32 flags, unsigned int side)
{
	return !kind->read_only[side] &&
	       (kind->many[side] || (flags & (EVERING_URING_MULTI_A << side)));
}

/* Are these sizes of a ring that is there, or those of one that is not? */
static bool evr_ring_valid(bool present, u32 entries, u32 slot)
{
	if (!present)
		return !entries && !slot;
	return is_power_of_2(entries) && entries <= EVERING_MAX_ENTRIES &&
	       is_power_of_2(slot) && slot >= EVERING_MIN_SLOT_SIZE &&
	       slot <= EVERING_MAX_SLOT_SIZE;
}

/* The only place that turns what a user asks for into offsets. */
static int evr_layout(const struct evr_kind *kind, u32 flags,
		      const struct evering_geometry *geometry,
		      struct evering_layout *layout)
{
	u64 total;
	int ring;

	memset(layout, 0, sizeof(*layout));
	layout->geometry = *geometry;
	layout->section_size[EVERING_SECTION_HEADER] = PAGE_SIZE;
	total = PAGE_SIZE;

	for (ring = 0; ring < 2; ring++) {
		u32 entries = geometry->entries[ring];
		u32 slot = geometry->slot_size[ring];
		u64 heap = geometry->heap_size[ring];
		u64 size;

		if (!evr_ring_valid(kind->ring[ring], entries, slot))
			return -EINVAL;
		if (kind->ring[ring] && entries < EVERING_MIN_MULTI &&
		    (evr_shared(kind, flags, 0) || evr_shared(kind, flags, 1)))
			return -EINVAL;
		if (!IS_ALIGNED(heap, EVR_HEAP_ALIGN) ||
		    (heap && !kind->heap[ring]))
			return -EINVAL;

		/* At most 64 Ki slots of 4 KiB: no overflow up to here. */
		layout->slots_offset[ring] = sizeof(struct evering_control);
		size = sizeof(struct evering_control) + (u64)entries * slot;
		/* The claims of the ring that this side consumes. */
		if (kind->ring[!ring] && evr_shared(kind, flags, ring)) {
			layout->claims_offset[!ring] = size;
			size += (u64)geometry->entries[!ring] * sizeof(u64);
		}
		/* What comes back of heap B, from one who takes it. */
		if (ring == EVERING_SIDE_A && geometry->heap_size[EVERING_SIDE_B] &&
		    !evr_shared(kind, flags, EVERING_SIDE_A)) {
			u64 heap_b = geometry->heap_size[EVERING_SIDE_B];

			layout->release_offset = size;
			size += evering_release_entries(heap_b) * sizeof(u64);
		}
		if (heap)
			size = evr_page_round(size);
		layout->heap_offset[ring] = size;
		if (check_add_overflow(size, heap, &size))
			return -EINVAL;
		size = evr_page_round(size);
		if (!size || check_add_overflow(total, size, &total))
			return -EINVAL;
		layout->section_size[EVERING_SECTION_A + ring] = size;
	}
	/* There has to be something to share. */
	if (!kind->ring[EVERING_RING_SQ] && !geometry->heap_size[0])
		return -EINVAL;
	return total > evr_max_uring_bytes() ? -EINVAL : 0;
}

static void evr_section_free(struct evr_section *section)
{
	unsigned long i;

	/* A page that somebody has pinned outlives this. */
	for (i = 0; i < section->nr_pages; i++) {
		put_page(section->pages[i]);
		cond_resched();
	}
	atomic_long_sub(section->nr_pages << PAGE_SHIFT,
			&evr_counters[EVR_BYTES]);
	kvfree(section->pages);
}

/*
 * Page by page: charged to the caller's memory cgroup and freed when the last
 * mapping lets go.  __GFP_RETRY_MAYFAIL: a cgroup at its limit is -ENOMEM
 * here, not a visit of the OOM killer.
 */
static int evr_section_alloc(struct evr_section *section, u64 bytes)
{
	const gfp_t gfp = GFP_KERNEL_ACCOUNT | __GFP_ZERO | __GFP_NOWARN |
			  __GFP_RETRY_MAYFAIL;
	unsigned long nr = bytes >> PAGE_SHIFT;

	section->pages = kvcalloc(nr, sizeof(*section->pages), gfp);
	if (!section->pages)
		return -ENOMEM;

	while (section->nr_pages < nr) {
		struct page *page;

		if (fatal_signal_pending(current))
			return -EINTR;
		page = alloc_page(gfp);
		if (!page)
			return -ENOMEM;
		section->pages[section->nr_pages++] = page;
		atomic_long_add(PAGE_SIZE, &evr_counters[EVR_BYTES]);
		cond_resched();
	}
	return 0;
}

static void evr_uring_free(struct evr_uring *uring)
{
	int i;

	evr_registry_release(uring);
	for (i = 0; i < ARRAY_SIZE(uring->section); i++)
		evr_section_free(&uring->section[i]);
	for (i = 0; i < ARRAY_SIZE(uring->side); i++) {
		evr_id_put(&uring->side[i].id);
		ida_destroy(&uring->side[i].owners);
	}
	evr_id_put(&uring->creator);
	evr_uncharge(uring->user, uring->bytes);
	evr_registry_put(uring->registry);
	kfree(uring);
	atomic_long_dec(&evr_counters[EVR_URINGS]);
}

static void evr_uring_release(struct kref *ref)
{
	struct evr_uring *uring = container_of(ref, struct evr_uring, ref);

	trace_evering_free(uring->token);
	evr_uring_free(uring);
}

/**
 * evr_uring_put() - drop a reference
 * @uring: the uring; gone, perhaps, on return
 */
void evr_uring_put(struct evr_uring *uring)
{
	kref_put(&uring->ref, evr_uring_release);
}

static void evr_header_init(struct evr_uring *uring)
{
	struct evering_header *header;

	header = page_address(uring->section[EVERING_SECTION_HEADER].pages[0]);
	uring->header = header;
	header->magic = EVERING_HEADER_MAGIC;
	header->abi_version = EVERING_ABI_VERSION;
	header->token = uring->token;
	header->layout = uring->layout;
}

/**
 * evr_uring_create() - everything that a uring will ever need
 * @params:	what it is to be
 *
 * All memory is allocated here, so that shortage is -ENOMEM now and never
 * SIGBUS later.
 *
 * Return: a uring with one reference, both sides PENDING, its entry reserved, or
 * ERR_PTR(): -EINVAL for a geometry or flags out of bounds, -EDQUOT, -ENOSPC, -ENOMEM,
 * -EINTR when killed.
 */
struct evr_uring *evr_uring_create(const struct evr_uring_params *params)
{
	const struct evr_kind *kind = evr_kind(params->kind);
	struct evering_layout layout;
	struct evr_uring *uring;
	int ret, i;

	if (!evr_flags_valid(kind, params->flags))
		return ERR_PTR(-EINVAL);
	ret = evr_layout(kind, params->flags, &params->geometry, &layout);
	if (ret)
		return ERR_PTR(ret);

	uring = kzalloc(sizeof(*uring), GFP_KERNEL_ACCOUNT);
	if (!uring)
		return ERR_PTR(-ENOMEM);
	atomic_long_inc(&evr_counters[EVR_URINGS]);

	kref_init(&uring->ref);
	spin_lock_init(&uring->lock);
	INIT_LIST_HEAD(&uring->backlog);
	get_net(params->registry->net);
	uring->registry = params->registry;
	evr_id_get(&uring->creator);
	uring->kind = params->kind;
	uring->mode = params->mode;
	uring->lease = params->flags & EVERING_URING_LEASE;
	uring->entry_flags = params->entry_flags;
	uring->name.owner = EVR_NAME_URING;
	strscpy_pad(uring->name.name, params->name, sizeof(uring->name.name));
	uring->layout = layout;
	for (i = 0; i < 2; i++) {
		uring->side[i].shared = evr_shared(kind, params->flags, i);
		uring->side[i].many = kind->many[i] || uring->side[i].shared;
		uring->side[i].id.uid = INVALID_UID;
		uring->side[i].id.gid = INVALID_GID;
		ida_init(&uring->side[i].owners);
		if (kind->ring[i])
			uring->shift[i] = ilog2(layout.geometry.entries[i]);
	}
	for (i = 0; i < ARRAY_SIZE(uring->section); i++)
		uring->bytes += layout.section_size[i];

	ret = evr_charge(uring->bytes, &uring->user);
	if (ret)
		goto free;
	for (i = 0; i < ARRAY_SIZE(uring->section); i++) {
		ret = evr_section_alloc(&uring->section[i],
					layout.section_size[i]);
		if (ret)
			goto free;
	}
	/* Last, so that the registry does not fill with what fails. */
	ret = evr_registry_reserve(uring);
	if (ret)
		goto free;

	evr_header_init(uring);
	for (i = 0; i < 2; i++)
		evr_side_init(uring, i);
	trace_evering_create(uring->token, uring->kind,
			     layout.geometry.entries[0],
			     layout.geometry.entries[1], uring->bytes);
	return uring;

free:
	evr_uring_free(uring);
	return ERR_PTR(ret);
}

/* Readers load state with acquire: a generation is seen with its state. */
static void evr_side_set_state(struct evr_uring *uring, unsigned int side,
			       u32 state)
{
	struct evering_side_words *words = &uring->header->side[side];

	lockdep_assert_held(&uring->registry->lock);
	lockdep_assert_held(&uring->lock);
	WRITE_ONCE(words->generation, uring->side[side].generation);
	/* pairs with evr_look() and evr_poll() */
	smp_store_release(&uring->side[side].state, state);
	/* pairs with the library's load of state */
	smp_store_release(&words->state, state);
}

static bool evr_uring_alive(const struct evr_uring *uring)
{
	return uring->side[EVERING_SIDE_A].endpoints ||
	       uring->side[EVERING_SIDE_B].endpoints;
}

/**
 * evr_uring_attach() - one more endpoint of a side
 * @uring:	the uring
 * @side:	the side
 * @how:	what must hold; looked at and done in one step
 *
 * Return: 0; -ESTALE: the entry is not active, or -EBADFD with
 * %EVR_ATTACH_DUP; -EPIPE: the side is dead; -EBUSY: it is taken.
 */
int evr_uring_attach(struct evr_uring *uring, unsigned int side,
		     enum evr_attach how)
{
	struct evr_side *s = &uring->side[side];
	struct evr_id id;
	int ret = 0;

	evr_id_get(&id);
	spin_lock(&uring->registry->lock);
	spin_lock(&uring->lock);
	if (how == EVR_ATTACH_OPEN &&
	    (uring->entry_state != EVERING_ENTRY_ACTIVE ||
	     !evr_uring_alive(uring))) {
		ret = -ESTALE;
	} else if (how == EVR_ATTACH_DUP && !s->endpoints) {
		ret = -EBADFD;
	} else if (s->state == EVERING_STATE_DEAD) {
		ret = -EPIPE;
	} else if (s->endpoints && !s->many) {
		ret = -EBUSY;
	} else {
		if (!s->endpoints++) {
			swap(s->id, id);
			evr_side_set_state(uring, side, EVERING_STATE_OPEN);
		}
	}
	spin_unlock(&uring->lock);
	if (!ret)
		evr_registry_update(uring);
	spin_unlock(&uring->registry->lock);
	evr_id_put(&id);
	return ret;
}

/**
 * evr_uring_detach() - an endpoint has died
 * @uring:	the uring
 * @side:	of the endpoint; what it has committed stays readable
 * @wrote:	one of many that may have died between a commit and its doorbell, or
 *		that has been healed
 */
void evr_uring_detach(struct evr_uring *uring, unsigned int side, bool wrote)
{
	struct evr_side *s = &uring->side[side];
	bool alive, last;

	spin_lock(&uring->registry->lock);
	spin_lock(&uring->lock);
	last = !--s->endpoints;
	if (last)
		evr_side_set_state(uring, side,
				   evr_kind(uring->kind)->many[side] ?
				   EVERING_STATE_PENDING : EVERING_STATE_DEAD);
	alive = evr_uring_alive(uring);
	spin_unlock(&uring->lock);
	evr_registry_update(uring);
	if (!alive)
		evr_registry_retire(uring);
	spin_unlock(&uring->registry->lock);

	trace_evering_death(uring->token, side);
	/* Its own threads, and those for whom a side has ended: at once. */
	evr_wake_all(uring, side);
	if (last || wrote)
		evr_wake_all(uring, !side);
}

/**
 * evr_uring_kill_side() - a side will never get an endpoint
 * @uring:	the uring, in no backlog any more
 * @side:	the side, PENDING
 */
void evr_uring_kill_side(struct evr_uring *uring, unsigned int side)
{
	spin_lock(&uring->registry->lock);
	spin_lock(&uring->lock);
	evr_side_set_state(uring, side, EVERING_STATE_DEAD);
	spin_unlock(&uring->lock);
	evr_registry_update(uring);
	spin_unlock(&uring->registry->lock);
	trace_evering_death(uring->token, side);
	evr_wake_all(uring, !side);
}
