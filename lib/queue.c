/* SPDX-License-Identifier: MIT OR LGPL-2.1 */
/* Work queues: many producers, many consumers, each entry to one of them. */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"
#include "multi.h"

#define BRIEF_SPINS	256U

/**
 * struct evr_queue_end - an endpoint of one side, and the ring as seen from it
 * @fd:		the endpoint, or -1
 * @ring:	the ring; what the other side writes is mapped read-only
 * @header:	section HEADER
 * @section:	sections A and B, by side
 * @layout:	private copy
 */
struct evr_queue_end {
	int fd;
	struct multi_ring ring;
	const struct evering_header *header;
	char *section[2];
	struct evering_layout layout;
};

/**
 * struct evering_queue - ends to push to and to pop from, by side
 * @end:	an end with fd -1 is not open
 * @token:	of the queue
 * @item_size:	bytes of an item
 */
struct evering_queue {
	struct evr_queue_end end[2];
	uint64_t token;
	size_t item_size;
};

/* ------------------------------------------------------------ open and close */

static void evr_end_unmap(struct evr_queue_end *end)
{
	unsigned int i;

	if (end->fd < 0)
		return;
	for (i = 0; i < 2; i++)
		if (end->section[i])
			munmap(end->section[i],
			       end->layout.section_size[EVERING_SECTION_A + i]);
	if (end->header)
		munmap((void *)(uintptr_t)end->header,
		       end->layout.section_size[EVERING_SECTION_HEADER]);
	close(end->fd);
	end->fd = -1;
}

static void evr_end_ring(struct evr_queue_end *end, unsigned int owner)
{
	const struct evering_layout *l = &end->layout;
	struct evering_control *producers = (void *)end->section[EVERING_SIDE_A];
	struct evering_control *consumers = (void *)end->section[EVERING_SIDE_B];
	uint64_t entries = l->geometry.entries[EVERING_RING_SQ];

	end->ring = (struct multi_ring) {
		.g = {
			.entries = entries,
			.mask = entries - 1,
			.lap_shift = (unsigned int)__builtin_ctzll(entries),
			.slot_shift = (unsigned int)__builtin_ctz(
				l->geometry.slot_size[EVERING_RING_SQ]),
		},
		.slots = end->section[EVERING_SIDE_A] +
			 l->slots_offset[EVERING_RING_SQ],
		.claims = (uint64_t *)(void *)(end->section[EVERING_SIDE_B] +
				l->claims_offset[EVERING_RING_SQ]),
		.tail = (uint64_t *)&producers->tail,
		.head = (uint64_t *)&consumers->head,
		.closed = &producers->closed,
		.owner = owner,
	};
}

/* Takes @fd, also where it fails. */
static int evr_end_attach(struct evr_queue_end *end, int fd)
{
	struct evering_info info = { .size = sizeof(info) };
	unsigned int i, side;
	void *at;
	int ret;

	end->fd = fd;
	ret = evr_ioctl(fd, EVERING_IOC_INFO, &info);
	if (!ret && info.kind != EVERING_KIND_QUEUE)
		ret = -EPROTOTYPE;
	if (ret) {
		evr_end_unmap(end);
		return ret;
	}
	end->layout = info.layout;
	/* The own section first: from then on a SIGKILL is noticed at once. */
	for (i = 0; !ret && i < 2; i++) {
		side = i ? !info.side : info.side;
		ret = evr_map(fd, info.layout.section_size[EVERING_SECTION_A + side],
			      i ? PROT_READ : PROT_READ | PROT_WRITE,
			      EVERING_MMAP_OFFSET(EVERING_SECTION_A + side), &at);
		if (!ret)
			end->section[side] = at;
	}
	if (!ret)
		ret = evr_map(fd, info.layout.section_size[EVERING_SECTION_HEADER],
			      PROT_READ, EVERING_MMAP_OFFSET(EVERING_SECTION_HEADER),
			      &at);
	if (ret) {
		evr_end_unmap(end);
		return ret;
	}
	end->header = at;
	evr_end_ring(end, info.owner);
	return 0;
}

static int evr_end_open(struct evr_queue_end *end, const char *name,
			uint64_t token, unsigned int side)
{
	struct evering_open args = {
		.size = sizeof(args),
		.kind = EVERING_KIND_QUEUE,
		.side = side,
		.token = token,
	};
	int ret;

	ret = evr_copy_name(args.name, name);
	if (ret)
		return ret;
	ret = evr_control(EVERING_IOC_OPEN, &args);
	return ret < 0 ? ret : evr_end_attach(end, ret);
}

static struct evering_queue *evr_queue_new(void)
{
	struct evering_queue *queue = calloc(1, sizeof(*queue));

	if (queue) {
		queue->end[EVERING_SIDE_A].fd = -1;
		queue->end[EVERING_SIDE_B].fd = -1;
	}
	return queue;
}

/* The ends are open. */
static void evr_queue_ready(struct evering_queue *queue)
{
	struct evr_queue_end *end = &queue->end[EVERING_SIDE_A];

	if (end->fd < 0)
		end = &queue->end[EVERING_SIDE_B];
	queue->token = end->header->token;
	queue->item_size = end->layout.geometry.slot_size[EVERING_RING_SQ] -
			   sizeof(uint64_t);
}

static bool evr_access_ok(unsigned int access)
{
	return access && !(access & ~(EVERING_QUEUE_PUSH | EVERING_QUEUE_POP));
}

EXPORT int evering_queue_create(const char *name, uint32_t mode,
				uint32_t entries, size_t item_size,
				unsigned int access, struct evering_queue **out)
{
	struct evering_create args = {
		.size = sizeof(args),
		.kind = EVERING_KIND_QUEUE,
		.mode = mode,
		.side = access & EVERING_QUEUE_PUSH ? EVERING_SIDE_A :
						      EVERING_SIDE_B,
	};
	struct evering_queue *queue;
	size_t slot = EVERING_MIN_SLOT_SIZE;
	int ret;

	if (!evr_access_ok(access) || !item_size ||
	    item_size > EVERING_MAX_SLOT_SIZE - sizeof(uint64_t))
		return -EINVAL;
	while (slot - sizeof(uint64_t) < item_size)
		slot *= 2;
	args.geometry.entries[EVERING_RING_SQ] = entries;
	args.geometry.slot_size[EVERING_RING_SQ] = (uint32_t)slot;
	ret = evr_copy_name(args.name, name);
	if (ret)
		return ret;
	queue = evr_queue_new();
	if (!queue)
		return -ENOMEM;
	ret = evr_control(EVERING_IOC_CREATE, &args);
	if (ret >= 0)
		ret = evr_end_attach(&queue->end[args.side], ret);
	if (!ret && access == (EVERING_QUEUE_PUSH | EVERING_QUEUE_POP))
		ret = evr_end_open(&queue->end[EVERING_SIDE_B], NULL, args.token,
				   EVERING_SIDE_B);
	if (ret) {
		evering_queue_close(queue);
		return ret;
	}
	evr_queue_ready(queue);
	*out = queue;
	return 0;
}

EXPORT int evering_queue_open(const char *name, uint64_t token,
			      unsigned int access, struct evering_queue **out)
{
	struct evering_queue *queue;
	int ret = 0;

	if (!evr_access_ok(access))
		return -EINVAL;
	queue = evr_queue_new();
	if (!queue)
		return -ENOMEM;
	if (access & EVERING_QUEUE_PUSH) {
		ret = evr_end_open(&queue->end[EVERING_SIDE_A], name, token,
				   EVERING_SIDE_A);
		/* The same one, whatever becomes of the name. */
		if (!ret) {
			name = NULL;
			token = queue->end[EVERING_SIDE_A].header->token;
		}
	}
	if (!ret && access & EVERING_QUEUE_POP)
		ret = evr_end_open(&queue->end[EVERING_SIDE_B], name, token,
				   EVERING_SIDE_B);
	if (ret) {
		evering_queue_close(queue);
		return ret;
	}
	evr_queue_ready(queue);
	*out = queue;
	return 0;
}

EXPORT void evering_queue_close(struct evering_queue *queue)
{
	if (!queue)
		return;
	evr_end_unmap(&queue->end[EVERING_SIDE_A]);
	evr_end_unmap(&queue->end[EVERING_SIDE_B]);
	free(queue);
}

EXPORT int evering_queue_shutdown(struct evering_queue *queue)
{
	struct evering_shutdown args = { .size = sizeof(args) };
	unsigned int side = EVERING_SIDE_A;

	if (queue->end[side].fd < 0)
		side = EVERING_SIDE_B;
	args.how = side == EVERING_SIDE_A ? EVERING_SHUT_WR : EVERING_SHUT_RD;
	return evr_ioctl(queue->end[side].fd, EVERING_IOC_SHUTDOWN, &args);
}

EXPORT uint64_t evering_queue_token(const struct evering_queue *queue)
{
	return queue->token;
}

EXPORT size_t evering_queue_item_size(const struct evering_queue *queue)
{
	return queue->item_size;
}

static const struct evr_queue_end *evr_any_end(const struct evering_queue *queue)
{
	return &queue->end[queue->end[EVERING_SIDE_A].fd < 0];
}

EXPORT unsigned int evering_queue_capacity(const struct evering_queue *queue)
{
	return (unsigned int)evr_any_end(queue)->ring.g.entries;
}

EXPORT unsigned int evering_queue_len(const struct evering_queue *queue)
{
	const struct multi_ring *r = &evr_any_end(queue)->ring;
	uint64_t head = load_acquire(r->head);
	uint64_t len = load_acquire(r->tail) - head;

	/* Both move; a peer's may be a lie. */
	if ((int64_t)len < 0)
		return 0;
	return (unsigned int)(len < r->g.entries ? len : r->g.entries);
}

EXPORT int evering_queue_fd(const struct evering_queue *queue,
			    unsigned int access)
{
	if (access == EVERING_QUEUE_PUSH)
		return queue->end[EVERING_SIDE_A].fd;
	return access == EVERING_QUEUE_POP ? queue->end[EVERING_SIDE_B].fd : -1;
}

/* ----------------------------------------------------------- ringing, waiting */

/*
 * Slots up to @at are committed, or given back: rings if somebody sleeps for that.
 * A doorbell that fails has nobody to wake.
 */
static void evr_queue_ring(struct evr_queue_end *end, uint64_t at,
			  const uint64_t *word, const uint64_t *poll_word)
{
	struct evering_enter args = {
		.size = sizeof(args),
		.flags = EVERING_ENTER_WAKE_PEER,
	};

	/* pairs with the kernel's, between the word and its look at the ring */
	full_barrier();
	if (unlikely(at >= load_once(word) || at >= load_once(poll_word)))
		evr_ioctl(end->fd, EVERING_IOC_ENTER, &args);
}

/* The slots up to @last hold entries now, or are skipped. */
static void evr_ring_committed(struct evr_queue_end *end, uint64_t last)
{
	const struct evering_ring_words *words =
		&end->header->ring[EVERING_RING_SQ];

	evr_queue_ring(end, last, (const uint64_t *)&words->wake_at,
		       (const uint64_t *)&words->poll_at);
}

/* The slots up to @last are free now. */
static void evr_ring_released(struct evr_queue_end *end, uint64_t last)
{
	const struct evering_ring_words *words =
		&end->header->ring[EVERING_RING_SQ];

	evr_queue_ring(end, last + end->ring.g.entries,
		       (const uint64_t *)&words->space_at,
		       (const uint64_t *)&words->poll_space_at);
}

static int evr_queue_sleep(struct evr_queue_end *end, unsigned int flags,
			   uint64_t deadline)
{
	struct evering_enter args = {
		.size = sizeof(args),
		.flags = flags,
		.deadline = deadline,
		.min_complete = 1,
	};
	int ret = evr_ioctl(end->fd, EVERING_IOC_ENTER, &args);

	return ret < 0 ? ret : 0;
}

/* Tries, spins a little, and sleeps, until @attempt says more than "try again". */
static int evr_until(struct evering_queue *queue,
		     int (*attempt)(struct evering_queue *queue, void *item),
		     void *item, unsigned int side, unsigned int flags,
		     const struct timespec *timeout)
{
	unsigned int spins = 0;
	uint64_t deadline;
	bool late = false;
	int ret;

	if (!evr_timeout_ok(timeout))
		return -EINVAL;
	deadline = evr_deadline(timeout);
	for (;;) {
		ret = attempt(queue, item);
		if (ret != -EAGAIN || !deadline)
			return ret;
		if (late)
			return -ETIME;
		if (spins++ < BRIEF_SPINS) {
			cpu_relax();
			continue;
		}
		ret = evr_queue_sleep(&queue->end[side], flags, deadline);
		/* The end of the stream is the ring's to tell, in @attempt. */
		if (ret && ret != -ESHUTDOWN)
			return ret;
		/* Others may be faster each time, and a peer may see to it. */
		late = deadline != EVERING_NO_DEADLINE && evr_now() >= deadline;
	}
}

/* ------------------------------------------------------------------- pushing */

static int evr_push_error(const struct evr_queue_end *end,
			  enum multi_verdict verdict)
{
	const struct evering_control *consumers =
		(const void *)end->section[EVERING_SIDE_B];

	switch (verdict) {
	case MULTI_CLOSED:
		return -ESHUTDOWN;
	case MULTI_LIE:
		return -EPROTO;
	default:
		break;
	}
	return load_once(&consumers->rclosed) ? -EPIPE : -EAGAIN;
}

static int evr_reserve(struct evering_queue *queue, unsigned int wanted,
		       uint64_t *pos, unsigned int *count)
{
	struct evr_queue_end *end = &queue->end[EVERING_SIDE_A];
	const struct evering_control *consumers;
	enum multi_verdict verdict;

	if (end->fd < 0)
		return -EBADF;
	consumers = (const void *)end->section[EVERING_SIDE_B];
	if (unlikely(load_once(&consumers->rclosed)))
		return -EPIPE;
	verdict = multi_reserve(&end->ring, wanted, pos, count);
	if (likely(verdict == MULTI_OK))
		return 0;
	/* Perhaps a consumer waits for what was claimed and then skipped. */
	if (verdict == MULTI_CLOSED)
		evr_ring_committed(end, EVERING_NOBODY - 1);
	return evr_push_error(end, verdict);
}

static void *evr_item(const struct evr_queue_end *end, uint64_t pos)
{
	return (char *)multi_stamp(&end->ring, pos) + sizeof(uint64_t);
}

static unsigned int evr_most(const struct evering_queue *queue, unsigned int nr)
{
	unsigned int most = evering_queue_capacity(queue);

	if (most > EVERING_MAX_COUNT)
		most = EVERING_MAX_COUNT;
	return nr < most ? nr : most;
}

EXPORT int evering_queue_try_push_bulk(struct evering_queue *queue,
				       const void *items, unsigned int nr)
{
	struct evr_queue_end *end = &queue->end[EVERING_SIDE_A];
	unsigned int count, i;
	uint64_t pos;
	int ret;

	if (!nr)
		return -EINVAL;
	ret = evr_reserve(queue, evr_most(queue, nr), &pos, &count);
	if (ret)
		return ret;
	for (i = 0; i < count; i++)
		memcpy(evr_item(end, pos + i),
		       (const char *)items + i * queue->item_size,
		       queue->item_size);
	multi_commit(&end->ring, pos, count);
	evr_ring_committed(end, pos + count - 1);
	return (int)count;
}

EXPORT int evering_queue_try_push(struct evering_queue *queue, const void *item)
{
	int ret = evering_queue_try_push_bulk(queue, item, 1);

	return ret < 0 ? ret : 0;
}

static int evr_try_push(struct evering_queue *queue, void *item)
{
	return evering_queue_try_push(queue, item);
}

EXPORT int evering_queue_push_timeout(struct evering_queue *queue,
				      const void *item,
				      const struct timespec *timeout)
{
	return evr_until(queue, evr_try_push, (void *)(uintptr_t)item,
			 EVERING_SIDE_A, EVERING_ENTER_WAIT_SPACE, timeout);
}

EXPORT int evering_queue_push(struct evering_queue *queue, const void *item)
{
	return evering_queue_push_timeout(queue, item, NULL);
}

EXPORT int evering_queue_reserve(struct evering_queue *queue,
				 struct evering_queue_slot *slot)
{
	unsigned int count;
	int ret;

	ret = evr_reserve(queue, 1, &slot->position, &count);
	if (!ret)
		slot->item = evr_item(&queue->end[EVERING_SIDE_A], slot->position);
	return ret;
}

/* Is it one that this endpoint has reserved? */
static bool evr_is_reserved(const struct evr_queue_end *end, uint64_t pos)
{
	return end->fd >= 0 &&
	       load_once(multi_stamp(&end->ring, pos)) ==
	       evering_word(multi_lap(&end->ring, pos), 1, end->ring.owner,
			    EVERING_RESERVED);
}

EXPORT int evering_queue_commit(struct evering_queue *queue,
				const struct evering_queue_slot *slot)
{
	struct evr_queue_end *end = &queue->end[EVERING_SIDE_A];

	if (!evr_is_reserved(end, slot->position))
		return -EINVAL;
	multi_commit(&end->ring, slot->position, 1);
	evr_ring_committed(end, slot->position);
	return 0;
}

EXPORT int evering_queue_cancel(struct evering_queue *queue,
				const struct evering_queue_slot *slot)
{
	struct evr_queue_end *end = &queue->end[EVERING_SIDE_A];

	if (!evr_is_reserved(end, slot->position))
		return -EINVAL;
	multi_cancel(&end->ring, slot->position, 1);
	/* What was committed behind it can be taken now. */
	evr_ring_committed(end, slot->position);
	return 0;
}

/* ------------------------------------------------------------------- popping */

EXPORT int evering_queue_try_pop_bulk(struct evering_queue *queue, void *items,
				      unsigned int nr)
{
	struct evr_queue_end *end = &queue->end[EVERING_SIDE_B];
	unsigned int count, i, n = 0, skips = 0;
	enum multi_verdict verdict;
	uint64_t pos;

	if (!nr)
		return -EINVAL;
	if (end->fd < 0)
		return -EBADF;
	while (!n) {
		/* A peer that feeds skipped slots does not keep us here. */
		if (skips > end->ring.g.entries)
			return -EAGAIN;
		verdict = multi_take(&end->ring, evr_most(queue, nr), &pos, &count);
		if (verdict == MULTI_CLOSED)
			return -ESHUTDOWN;
		if (verdict == MULTI_LIE)
			return -EPROTO;
		if (verdict != MULTI_OK)
			return -EAGAIN;
		for (i = 0; i < count; i++) {
			uint64_t word = load_once(multi_stamp(&end->ring, pos + i));

			if (evering_word_state(word) != EVERING_COMMITTED) {
				skips++;
				continue;
			}
			memcpy((char *)items + n++ * queue->item_size,
			       evr_item(end, pos + i), queue->item_size);
		}
		multi_release(&end->ring, pos, count);
		evr_ring_released(end, pos + count - 1);
	}
	return (int)n;
}

EXPORT int evering_queue_try_pop(struct evering_queue *queue, void *item)
{
	int ret = evering_queue_try_pop_bulk(queue, item, 1);

	return ret < 0 ? ret : 0;
}

EXPORT int evering_queue_pop_timeout(struct evering_queue *queue, void *item,
				     const struct timespec *timeout)
{
	return evr_until(queue, evering_queue_try_pop, item, EVERING_SIDE_B,
			 EVERING_ENTER_WAIT, timeout);
}

EXPORT int evering_queue_pop(struct evering_queue *queue, void *item)
{
	return evering_queue_pop_timeout(queue, item, NULL);
}

EXPORT int evering_queue_force_push(struct evering_queue *queue,
				    const void *item, void *oldest)
{
	int ret;

	if (queue->end[EVERING_SIDE_B].fd < 0)
		return -EBADF;
	ret = evering_queue_try_push(queue, item);
	if (ret != -EAGAIN)
		return ret;
	ret = evering_queue_try_pop(queue, oldest);
	if (ret)
		return ret;
	return evering_queue_try_push(queue, item) ? 2 : 1;
}
