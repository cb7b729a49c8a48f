/* SPDX-License-Identifier: MIT OR LGPL-2.1 */
/*
 * Work queues: many producers, many consumers, each entry to one of them.
 * Opening and closing, and what there is to ask.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "queue_end.h"

static void evr_end_close(struct evr_queue_end *end, unsigned int side)
{
	if (end->fd < 0)
		return;
	evr_unmap_sections(&end->memory, side, &end->layout);
	close(end->fd);
	end->fd = -1;
}

/* Takes @fd, also where it fails. */
static int evr_end_attach(struct evr_queue_end *end, int fd)
{
	struct evering_info info;
	int ret;

	ret = evr_get_info(fd, EVERING_KIND_QUEUE, &info);
	if (!ret)
		ret = evr_map_sections(fd, info.side, &info.layout, &end->memory);
	if (ret) {
		close(fd);
		return ret;
	}
	end->fd = fd;
	end->layout = info.layout;
	end->words = &end->memory.header->ring[EVERING_RING_SQ];
	end->peer = end->memory.peer;
	end->spin.ns = evr_default_spin();
	evr_multi_ring(&end->ring, &end->layout, &end->memory, info.side,
		       EVERING_RING_SQ, info.owner,
		       info.uring_flags & EVERING_URING_LEASE);
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
	ret = evr_control(O_RDWR, EVERING_IOC_OPEN, &args);
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
	queue->token = end->memory.header->token;
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
	bool lease = access & EVERING_QUEUE_LEASE;
	struct evering_create args = {
		.size = sizeof(args),
		.flags = lease ? EVERING_URING_LEASE : 0,
		.kind = EVERING_KIND_QUEUE,
		.mode = mode,
		.side = access & EVERING_QUEUE_PUSH ? EVERING_SIDE_A :
						      EVERING_SIDE_B,
	};
	struct evering_queue *queue;
	size_t slot = EVERING_MIN_SLOT_SIZE;
	int ret;

	access &= ~EVERING_QUEUE_LEASE;
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
	ret = evr_control(O_RDWR, EVERING_IOC_CREATE, &args);
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
			token = queue->end[EVERING_SIDE_A].memory.header->token;
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
	evr_end_close(&queue->end[EVERING_SIDE_A], EVERING_SIDE_A);
	evr_end_close(&queue->end[EVERING_SIDE_B], EVERING_SIDE_B);
	free(queue);
}

EXPORT int evering_queue_shutdown(struct evering_queue *queue)
{
	struct evering_shutdown args = { .size = sizeof(args) };
	const struct evr_queue_end *end = evr_any_end(queue);

	args.how = end == &queue->end[EVERING_SIDE_A] ? EVERING_SHUT_WR :
							EVERING_SHUT_RD;
	return evr_ioctl(end->fd, EVERING_IOC_SHUTDOWN, &args);
}

EXPORT void evering_queue_set_spin(struct evering_queue *queue,
				   unsigned int nanoseconds)
{
	unsigned int i;

	for (i = 0; i < 2; i++)
		queue->end[i].spin = (struct evr_spin){ .ns = nanoseconds };
}

EXPORT uint64_t evering_queue_token(const struct evering_queue *queue)
{
	return queue->token;
}

EXPORT size_t evering_queue_item_size(const struct evering_queue *queue)
{
	return queue->item_size;
}

EXPORT unsigned int evering_queue_capacity(const struct evering_queue *queue)
{
	return (unsigned int)evr_any_end(queue)->ring.g.entries;
}

EXPORT unsigned int evering_queue_len(const struct evering_queue *queue)
{
	const struct multi_ring *r = &evr_any_end(queue)->ring;
	uint64_t head = load_acquire(r->head);
	uint64_t tail = load_acquire(r->tail);
	uint64_t claim = load_acquire(multi_claim(r, head));
	uint64_t stamp = load_acquire(multi_stamp(r, tail));
	uint64_t len;

	/* Each may be one claim behind. */
	if (!evering_word_ahead(claim, multi_lap(r, head)))
		head += evering_claim_slots(claim);
	if (!evering_word_ahead(stamp, multi_lap(r, tail)))
		tail += evering_word_count(stamp);
	len = tail - head;
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
