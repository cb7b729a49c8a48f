/* SPDX-License-Identifier: MIT OR LGPL-2.1 */
/*
 * The publisher of a topic.
 *
 * Payloads are taken from the heap in a circle, none goes across its end.  The messages
 * whose slot or payload is about to be written over are given up first, by floor, and
 * only then touched.
 *
 * Which access pairs with which
 *
 *	publish: floor; write fence; payload, entry
 *		<-> subscriber: entry, payload; read fence; floor
 *		who has read a byte of the new message sees that the old one is gone
 *	publish: entry, payload; stamp COMMITTED, release
 *		<-> subscriber: stamp, acquire; entry, payload
 *		a message is whole when its stamp is seen
 *	publish: stamp, full barrier, wake_at, poll_at
 *		<-> kernel: wake_at or poll_at, full barrier, stamp (kmod/wait.c,
 *		poll.c)
 *		one of the two sees the other: no lost wake-up
 *	publish: stamp COMMITTED; tail, release <-> subscriber: tail, acquire; stamp
 *		the last message before tail is there
 *	publish: stamps; floor, release <-> subscriber: floor, acquire; stamp
 *		who goes on from floor finds no stamp older than of the lap before
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"

/**
 * struct evr_extent - where the payload of a message lies
 * @offset:	in the heap, a multiple of EVERING_GRANULE
 * @bytes:	of the heap that it takes, another one
 */
struct evr_extent {
	uint64_t offset;
	uint64_t bytes;
};

/**
 * struct evering_publisher - a topic, to be written
 * @fd:		the endpoint
 * @token:	of the topic
 * @layout:	private copy
 * @header:	section HEADER
 * @control:	section A
 * @heap:	its heap
 * @size:	bytes of the heap
 * @g:		of the ring
 * @slots:	of the ring
 * @tail:	number of the next message
 * @oldest:	first message whose payload is whole
 * @next:	where the next payload may begin
 * @extents:	of the last entries messages
 * @reserved:	bytes that the program has asked for, if @is_reserved
 * @is_reserved: a message is being written
 */
struct evering_publisher {
	int fd;
	uint64_t token;
	struct evering_layout layout;
	const struct evering_header *header;
	struct evering_control *control;
	char *heap;
	uint64_t size;
	struct ring_geometry g;
	char *slots;
	uint64_t tail;
	uint64_t oldest;
	uint64_t next;
	struct evr_extent *extents;
	uint64_t reserved;
	bool is_reserved;
};

static void evr_publisher_free(struct evering_publisher *p)
{
	const __u64 *bytes = p->layout.section_size;

	if (p->control)
		munmap(p->control, bytes[EVERING_SECTION_A]);
	if (p->header)
		munmap((void *)(uintptr_t)p->header, bytes[EVERING_SECTION_HEADER]);
	free(p->extents);
	close(p->fd);
	free(p);
}

/* Takes @fd, also where it fails. */
static int evr_publisher_attach(int fd, const struct evering_layout *layout,
				uint64_t token, struct evering_publisher **out)
{
	struct evering_publisher *p = calloc(1, sizeof(*p));
	void *control = NULL;
	int ret;

	if (!p) {
		close(fd);
		return -ENOMEM;
	}
	p->fd = fd;
	p->token = token;
	p->layout = *layout;
	evr_ring_geometry(&p->g, layout, EVERING_RING_SQ);
	p->size = layout->geometry.heap_size[EVERING_SIDE_A];
	p->extents = calloc(p->g.entries, sizeof(*p->extents));
	ret = p->extents ? 0 : -ENOMEM;
	if (!ret)
		ret = evr_map(fd, layout->section_size[EVERING_SECTION_A],
			      PROT_READ | PROT_WRITE,
			      EVERING_MMAP_OFFSET(EVERING_SECTION_A),
			      &control);
	p->control = control;
	if (!ret)
		ret = evr_map_header(fd, layout, &p->header);
	if (ret) {
		evr_publisher_free(p);
		return ret;
	}
	p->slots = (char *)p->control + layout->slots_offset[EVERING_RING_SQ];
	p->heap = (char *)p->control + layout->heap_offset[EVERING_SIDE_A];
	*out = p;
	return 0;
}

EXPORT int evering_publisher_create(const char *name, uint32_t mode,
				    uint32_t entries, uint64_t bytes,
				    struct evering_publisher **publisher)
{
	struct evering_create args = {
		.size = sizeof(args),
		.kind = EVERING_KIND_TOPIC,
		.mode = mode,
		.side = EVERING_SIDE_A,
		.geometry.entries = { entries, 0 },
		.geometry.slot_size = { EVERING_MIN_SLOT_SIZE, 0 },
	};
	int fd, ret;

	if (entries < 2 || !evr_heap_bytes(bytes))
		return -EINVAL;
	ret = evr_copy_name(args.name, name);
	if (ret)
		return ret;
	args.geometry.heap_size[EVERING_SIDE_A] = evr_heap_bytes(bytes);
	fd = evr_control(O_RDWR, EVERING_IOC_CREATE, &args);
	if (fd < 0)
		return fd;
	return evr_publisher_attach(fd, &args.layout, args.token, publisher);
}

EXPORT void evering_publisher_close(struct evering_publisher *publisher)
{
	if (publisher)
		evr_publisher_free(publisher);
}

EXPORT uint64_t evering_publisher_token(const struct evering_publisher *publisher)
{
	return publisher->token;
}

static struct evering_sqe *evr_publisher_slot(const struct evering_publisher *p)
{
	return (void *)ring_stamp(&p->g, p->slots, p->tail);
}

static struct evr_extent *evr_extent(const struct evering_publisher *p,
				     uint64_t number)
{
	return &p->extents[number & p->g.mask];
}

/*
 * Gives up the messages, from the oldest on, whose payloads begin in @from ... @to - 1.
 * They lie there in the order of their numbers, and none begins before @from and
 * ends behind it: payloads are given up from the beginning.
 */
static void evr_give_up(struct evering_publisher *p, uint64_t from, uint64_t to)
{
	while (p->oldest != p->tail && evr_extent(p, p->oldest)->offset >= from &&
	       evr_extent(p, p->oldest)->offset < to)
		p->oldest++;
}

/* A place for @bytes, which is nobody's any more. */
static uint64_t evr_publisher_place(struct evering_publisher *p, uint64_t bytes)
{
	/* Its slot is another's now. */
	if (p->tail - p->oldest == p->g.entries)
		p->oldest++;
	if (bytes > p->size - p->next) {
		evr_give_up(p, p->next, p->size);
		p->next = 0;
	}
	evr_give_up(p, p->next, p->next + bytes);
	return p->next;
}

EXPORT int evering_publisher_reserve(struct evering_publisher *p, size_t len,
				     void **payload)
{
	uint64_t bytes, offset, oldest = p->oldest;

	if (p->is_reserved)
		return -EBUSY;
	if (len > p->size || len > UINT32_MAX)
		return -EMSGSIZE;
	/* One of no bytes takes a place too: places are in order. */
	bytes = (len + !len + EVERING_GRANULE - 1) & ~(uint64_t)(EVERING_GRANULE - 1);
	offset = evr_publisher_place(p, bytes);
	*evr_extent(p, p->tail) = (struct evr_extent){ offset, bytes };
	/* Release: who goes on from there finds the stamps that came before. */
	if (p->oldest != oldest)
		store_release(&p->control->floor, p->oldest);
	/* pairs with the read fence in evr_still() */
	write_fence();
	p->reserved = len;
	p->is_reserved = true;
	*payload = p->heap + offset;
	return 0;
}

/* Nobody may be awake to see it. */
static int evr_publisher_ring(struct evering_publisher *p)
{
	struct evering_enter args = {
		.size = sizeof(args),
		.flags = EVERING_ENTER_WAKE_PEER,
	};
	const struct evering_ring_words *words = &p->header->ring[EVERING_RING_SQ];
	uint64_t published = p->tail - 1;

	/* pairs with the kernel's, between these words and its look at the stamp */
	full_barrier();
	if (likely(published < load_once(&words->wake_at) &&
		   published < load_once(&words->poll_at)))
		return 0;
	return evr_ioctl(p->fd, EVERING_IOC_ENTER, &args);
}

EXPORT int evering_publisher_commit(struct evering_publisher *p, size_t len,
				    const struct evering_type *type)
{
	const struct evr_extent *extent = evr_extent(p, p->tail);
	struct evering_sqe *slot = evr_publisher_slot(p);
	uint32_t tag = evering_type_tag(type);

	if (!p->is_reserved || len > p->reserved || !evr_type_fits(type, len))
		return -EINVAL;
	slot->user_data = p->tail;
	slot->len = (uint32_t)len;
	slot->offset = extent->offset;
	memcpy(&slot->data[4], &tag, sizeof(tag));
	/* pairs with the acquire in evr_look_at() */
	store_release(&slot->stamp,
		      evering_stamp(evering_lap(p->tail, p->g.lap_shift),
				    EVERING_COMMITTED));
	p->next = extent->offset + extent->bytes;
	p->tail++;
	p->is_reserved = false;
	/* pairs with the acquire in evr_newest() */
	store_release(&p->control->tail, p->tail);
	return evr_publisher_ring(p);
}

EXPORT int evering_publisher_cancel(struct evering_publisher *p)
{
	if (!p->is_reserved)
		return -EINVAL;
	p->is_reserved = false;
	return 0;
}

EXPORT int evering_publish(struct evering_publisher *p, const void *from,
			   size_t len, const struct evering_type *type)
{
	void *payload;
	int ret;

	if (!evr_type_fits(type, len))
		return -EINVAL;
	ret = evering_publisher_reserve(p, len, &payload);
	if (ret)
		return ret;
	if (len)
		memcpy(payload, from, len);
	return evering_publisher_commit(p, len, type);
}
