// SPDX-License-Identifier: GPL-2.0
/* A uring: geometry, pages, sides, and its end. */
#include <linux/log2.h>
#include <linux/overflow.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "internal.h"
#include "trace.h"

#define EVR_HEAP_ALIGN	4096U

/* Whole pages of @bytes, or 0 where that does not fit. */
static u64 evr_page_round(u64 bytes)
{
	u64 sum;

	if (check_add_overflow(bytes, (u64)PAGE_SIZE - 1, &sum))
		return 0;
	return sum & PAGE_MASK;
}

/* The only place that turns what a user asks for into offsets. */
static int evr_layout(const struct evering_geometry *geometry,
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

		if (!is_power_of_2(entries) || entries > EVERING_MAX_ENTRIES)
			return -EINVAL;
		if (!is_power_of_2(slot) || slot < EVERING_MIN_SLOT_SIZE ||
		    slot > EVERING_MAX_SLOT_SIZE)
			return -EINVAL;
		if (!IS_ALIGNED(heap, EVR_HEAP_ALIGN))
			return -EINVAL;

		/* At most 64 Ki slots of 4 KiB: no overflow up to here. */
		layout->slots_offset[ring] = sizeof(struct evering_control);
		size = sizeof(struct evering_control) + (u64)entries * slot;
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

	for (i = 0; i < ARRAY_SIZE(uring->section); i++)
		evr_section_free(&uring->section[i]);
	for (i = 0; i < ARRAY_SIZE(uring->side); i++)
		evr_id_put(&uring->side[i].id);
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
 * @geometry:	from user space
 * @name:	of its service
 *
 * All memory is allocated here, so that shortage is -ENOMEM now and never
 * SIGBUS later.
 *
 * Return: a uring with one reference, both sides PENDING, or ERR_PTR():
 * -EINVAL for a geometry out of bounds, -ENOMEM, -EINTR when killed.
 */
struct evr_uring *evr_uring_create(const struct evering_geometry *geometry,
				   const char *name)
{
	static atomic64_t last_token;
	struct evering_layout layout;
	struct evr_uring *uring;
	u64 bytes = 0;
	int ret, i;

	ret = evr_layout(geometry, &layout);
	if (ret)
		return ERR_PTR(ret);

	uring = kzalloc(sizeof(*uring), GFP_KERNEL_ACCOUNT);
	if (!uring)
		return ERR_PTR(-ENOMEM);
	atomic_long_inc(&evr_counters[EVR_URINGS]);

	kref_init(&uring->ref);
	spin_lock_init(&uring->lock);
	INIT_LIST_HEAD(&uring->backlog);
	uring->layout = layout;
	uring->token = atomic64_inc_return(&last_token);
	strscpy(uring->name, name, sizeof(uring->name));
	for (i = 0; i < 2; i++)
		uring->shift[i] = ilog2(layout.geometry.entries[i]);

	for (i = 0; i < ARRAY_SIZE(uring->section); i++) {
		ret = evr_section_alloc(&uring->section[i],
					layout.section_size[i]);
		if (ret) {
			evr_uring_free(uring);
			return ERR_PTR(ret);
		}
		bytes += layout.section_size[i];
	}

	evr_header_init(uring);
	for (i = 0; i < 2; i++)
		evr_side_init(uring, i);
	trace_evering_create(uring->token, layout.geometry.entries[0],
			     layout.geometry.entries[1], bytes);
	return uring;
}

/* Readers load state with acquire: a generation is seen with its state. */
static void evr_side_set_state(struct evr_uring *uring, unsigned int side,
			       u32 state)
{
	struct evering_side_words *words = &uring->header->side[side];

	lockdep_assert_held(&uring->lock);
	WRITE_ONCE(words->generation, uring->side[side].generation);
	/* pairs with evr_look() and evr_poll() */
	smp_store_release(&uring->side[side].state, state);
	/* pairs with the library's load of state */
	smp_store_release(&words->state, state);
}

/**
 * evr_uring_open_side() - the current process takes a side
 * @uring:	the uring
 * @side:	PENDING until now, or DEAD and then it stays so
 */
void evr_uring_open_side(struct evr_uring *uring, unsigned int side)
{
	struct evr_id id, old;

	evr_id_get(&id);
	spin_lock(&uring->lock);
	old = uring->side[side].id;
	uring->side[side].id = id;
	if (uring->side[side].state == EVERING_STATE_PENDING)
		evr_side_set_state(uring, side, EVERING_STATE_OPEN);
	spin_unlock(&uring->lock);
	evr_id_put(&old);
}

/**
 * evr_uring_kill_side() - a side has lost its last endpoint, or never got one
 * @uring:	the uring
 * @side:	the side; what it has committed stays readable
 *
 * Wakes whoever waits on either side, so that the living learn it at once.
 */
void evr_uring_kill_side(struct evr_uring *uring, unsigned int side)
{
	spin_lock(&uring->lock);
	evr_side_set_state(uring, side, EVERING_STATE_DEAD);
	spin_unlock(&uring->lock);
	trace_evering_death(uring->token, side);
	evr_wake_all(uring, EVERING_SIDE_A);
	evr_wake_all(uring, EVERING_SIDE_B);
}
