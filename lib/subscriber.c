/* SPDX-License-Identifier: MIT OR LGPL-2.1 */
/*
 * A subscriber of a topic.  All that it reads is the publisher's, who may be writing,
 * or lying; which access pairs with which stands in publisher.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"

#define EVR_MOST_LOOKS	16U	/* before a publisher that is faster is slept on */

/**
 * struct evering_subscriber - a topic, to be read
 * @fd:		the endpoint
 * @layout:	private copy
 * @header:	section HEADER
 * @control:	section A, read-only as all of it
 * @heap:	its heap
 * @size:	bytes of the heap
 * @g:		of the ring
 * @slots:	of the ring
 * @next:	number of the message that comes next
 * @lost:	missed since the last one
 * @error:	0, or -EPROTO for good
 * @spin:	how long to spin
 */
struct evering_subscriber {
	int fd;
	struct evering_layout layout;
	const struct evering_header *header;
	const struct evering_control *control;
	const char *heap;
	uint64_t size;
	struct ring_geometry g;
	const char *slots;
	uint64_t next;
	uint64_t lost;
	int error;
	struct evr_spin spin;
};

/* ----------------------------------------------------------------- looking */

/* Where the publisher is, by its own word. */
static uint64_t evr_newest(const struct evering_subscriber *s)
{
	/* pairs with the release in evering_publisher_commit() */
	return load_acquire(&s->control->tail);
}

static const struct evering_sqe *evr_message_slot(const struct evering_subscriber *s,
						  uint64_t number)
{
	return (const void *)ring_stamp(&s->g, s->slots, number);
}

/* Was all that has been read until now of message @number? */
static bool evr_still(const struct evering_subscriber *s, uint64_t number)
{
	/* pairs with the write fence in evering_publisher_reserve() */
	read_fence();
	return load_once(&s->control->floor) <= number;
}

/* Goes on with message @number. */
static int evr_skip_to(struct evering_subscriber *s, uint64_t number)
{
	/*
	 * The next one is there no more, and nothing has come after it; or more has
	 * than anybody lives to publish, and numbers would begin again.
	 */
	if (number <= s->next || number > INT64_MAX) {
		s->error = -EPROTO;
		return -EPROTO;
	}
	s->lost += number - s->next;
	s->next = number;
	return 0;
}

/* The next one has been written over: the oldest that will stay for a while. */
static int evr_overtaken(struct evering_subscriber *s)
{
	uint64_t newest = evr_newest(s), oldest = 0, floor;

	/* The next one takes the slot of the oldest. */
	if (newest >= s->g.entries)
		oldest = newest - s->g.entries + 1 + s->g.entries / 8;
	/* pairs with the release in evering_publisher_reserve() */
	floor = load_acquire(&s->control->floor);
	return evr_skip_to(s, floor > oldest ? floor : oldest);
}

/* Fills in @m from the slot, unless it is written to meanwhile. */
static int evr_take_message(struct evering_subscriber *s,
			    struct evering_message *m)
{
	const struct evering_sqe *slot = evr_message_slot(s, s->next);
	uint64_t offset = load_once(&slot->offset);
	uint32_t len = load_once(&slot->len);
	uint32_t type = load_once((const uint32_t *)(const void *)&slot->data[4]);

	if (!evr_still(s, s->next))
		return -EAGAIN;
	if (offset > s->size || len > s->size - offset) {
		s->error = -EPROTO;
		return -EPROTO;
	}
	*m = (struct evering_message){
		.number = s->next++,
		.lost = s->lost,
		.payload = s->heap + offset,
		.len = len,
		.type = type,
	};
	s->lost = 0;
	return 0;
}

/* 0: @m is the next message; -EAGAIN: not there yet; -EPROTO. */
static int evr_look_at(struct evering_subscriber *s, struct evering_message *m)
{
	unsigned int i;
	int ret;

	if (s->error)
		return s->error;
	for (i = 0; i < EVR_MOST_LOOKS; i++) {
		uint64_t lap = evering_lap(s->next, s->g.lap_shift);
		/* pairs with the release in evering_publisher_commit() */
		uint64_t stamp = load_acquire(&evr_message_slot(s, s->next)->stamp);
		int64_t ahead = evering_word_ahead(stamp, lap);

		if (ahead > 0 || load_once(&s->control->floor) > s->next) {
			ret = evr_overtaken(s);
			if (ret)
				return ret;
			continue;
		}
		switch (evering_judge(stamp, lap)) {
		case EVERING_SLOT_NOT_YET:
			return -EAGAIN;
		case EVERING_SLOT_READY:
			ret = evr_take_message(s, m);
			if (ret != -EAGAIN)
				return ret;
			break;
		case EVERING_SLOT_SKIP:
			s->next++;
			break;
		case EVERING_SLOT_LIE:
			s->error = -EPROTO;
			return -EPROTO;
		}
	}
	/* Faster than us; whoever waits is not asleep for long. */
	return -EAGAIN;
}

/* -EAGAIN, or what came after the last message. */
static int evr_topic_end(const struct evering_subscriber *s)
{
	/* pairs with the kernel's release of state, after all that was published */
	if (load_acquire(&s->header->side[EVERING_SIDE_A].state) ==
	    EVERING_STATE_DEAD)
		return -EPIPE;
	/* pairs with the kernel's release of closed */
	return load_acquire(&s->control->closed) ? -ESHUTDOWN : -EAGAIN;
}

static int evr_try_next(struct evering_subscriber *s, struct evering_message *m)
{
	int ret = evr_look_at(s, m), end;

	if (ret != -EAGAIN)
		return ret;
	end = evr_topic_end(s);
	if (end == -EAGAIN)
		return end;
	/* What was published before the end is taken before that is told. */
	ret = evr_look_at(s, m);
	return ret == -EAGAIN ? end : ret;
}

static int evr_try_latest(struct evering_subscriber *s, struct evering_message *m)
{
	uint64_t newest = evr_newest(s);
	int ret;

	/* One that says it has less than we have seen is found out by the stamps. */
	if (!s->error && newest && newest - 1 > s->next) {
		ret = evr_skip_to(s, newest - 1);
		if (ret)
			return ret;
	}
	return evr_try_next(s, m);
}

/* ----------------------------------------------------------------- waiting */

typedef int (*evr_try)(struct evering_subscriber *s, struct evering_message *m);

static int evr_spin_for(struct evering_subscriber *s, evr_try try,
			struct evering_message *m, uint64_t deadline)
{
	uint64_t limit = 0, now;
	unsigned int i;
	int ret;

	for (;;) {
		for (i = 0; i < EVR_SPINS_A_CLOCK; i++) {
			ret = try(s, m);
			if (ret != -EAGAIN)
				return ret;
			cpu_relax();
		}
		now = evr_now();
		if (!limit)
			limit = now + s->spin.ns < deadline ?
				now + s->spin.ns : deadline;
		else if (now >= limit)
			return -EAGAIN;
	}
}

static int evr_wait_for(struct evering_subscriber *s, evr_try try,
			struct evering_message *m, const struct timespec *timeout)
{
	uint64_t deadline;
	int ret;

	if (!evr_timeout_ok(timeout))
		return -EINVAL;
	ret = try(s, m);
	if (ret != -EAGAIN)
		return ret;
	deadline = evr_deadline(timeout);
	if (!deadline)
		return -EAGAIN;
	if (evr_may_spin(&s->spin)) {
		ret = evr_spin_for(s, try, m, deadline);
		evr_learn(&s->spin, ret != -EAGAIN);
	}
	while (ret == -EAGAIN) {
		const struct evering_enter args = {
			.size = sizeof(args),
			.flags = EVERING_ENTER_WAIT,
			.wait_pos = s->next,
			.deadline = deadline,
			.min_complete = 1,
			.generation = load_once(
				&s->header->side[EVERING_SIDE_A].generation),
		};
		int slept = evr_ioctl(s->fd, EVERING_IOC_ENTER, &args);

		ret = try(s, m);
		if (ret != -EAGAIN)
			return ret;
		if (slept < 0)
			return slept;
		/* One that is always faster is no reason to overstay. */
		if (deadline != EVERING_NO_DEADLINE && evr_now() >= deadline)
			return -ETIME;
	}
	return ret;
}

EXPORT int evering_subscriber_next(struct evering_subscriber *subscriber,
				   struct evering_message *message,
				   const struct timespec *timeout)
{
	return evr_wait_for(subscriber, evr_try_next, message, timeout);
}

EXPORT int evering_subscriber_latest(struct evering_subscriber *subscriber,
				     struct evering_message *message,
				     const struct timespec *timeout)
{
	return evr_wait_for(subscriber, evr_try_latest, message, timeout);
}

EXPORT int evering_subscriber_arm(struct evering_subscriber *s)
{
	const struct evering_enter args = {
		.size = sizeof(args),
		.flags = EVERING_ENTER_POLL_AT,
		.wait_pos = s->next,
	};

	return s->error ? s->error : evr_ioctl(s->fd, EVERING_IOC_ENTER, &args);
}

EXPORT int evering_subscriber_check(const struct evering_subscriber *subscriber,
				    const struct evering_message *message)
{
	return evr_still(subscriber, message->number) ? 0 : -ESTALE;
}

EXPORT int evering_subscriber_copy(const struct evering_subscriber *subscriber,
				   const struct evering_message *message,
				   void *to, size_t size)
{
	if (size < message->len)
		return -EMSGSIZE;
	memcpy(to, message->payload, message->len);
	return evering_subscriber_check(subscriber, message);
}

/* ---------------------------------------------------------- opening, closing */

EXPORT void evering_subscriber_close(struct evering_subscriber *s)
{
	const __u64 *bytes;

	if (!s)
		return;
	bytes = s->layout.section_size;
	if (s->control)
		munmap((void *)(uintptr_t)s->control, bytes[EVERING_SECTION_A]);
	if (s->header)
		munmap((void *)(uintptr_t)s->header, bytes[EVERING_SECTION_HEADER]);
	close(s->fd);
	free(s);
}

/* From the oldest of the last @history messages that is there. */
static void evr_subscriber_start(struct evering_subscriber *s, uint32_t history)
{
	uint64_t newest = evr_newest(s);
	/* pairs with the release in evering_publisher_reserve() */
	uint64_t floor = load_acquire(&s->control->floor);

	if (history >= s->g.entries)
		history = (uint32_t)s->g.entries - 1;
	if (newest > INT64_MAX)
		s->error = -EPROTO;
	s->next = newest > history ? newest - history : 0;
	/* What is gone already has not been missed. */
	if (floor > s->next && floor <= newest)
		s->next = floor;
}

/* Takes @fd, also where it fails. */
static int evr_subscriber_attach(int fd, const struct evering_layout *layout,
				 uint32_t history,
				 struct evering_subscriber **out)
{
	struct evering_subscriber *s = calloc(1, sizeof(*s));
	void *control = NULL;
	int ret;

	if (!s) {
		close(fd);
		return -ENOMEM;
	}
	s->fd = fd;
	s->layout = *layout;
	evr_ring_geometry(&s->g, layout, EVERING_RING_SQ);
	s->size = layout->geometry.heap_size[EVERING_SIDE_A];
	s->spin.ns = evr_default_spin();
	ret = evr_map(fd, layout->section_size[EVERING_SECTION_A], PROT_READ,
		      EVERING_MMAP_OFFSET(EVERING_SECTION_A), &control);
	s->control = control;
	if (!ret)
		ret = evr_map_header(fd, layout, &s->header);
	if (ret) {
		evering_subscriber_close(s);
		return ret;
	}
	s->slots = (const char *)s->control + layout->slots_offset[EVERING_RING_SQ];
	s->heap = (const char *)s->control + layout->heap_offset[EVERING_SIDE_A];
	evr_subscriber_start(s, history);
	*out = s;
	return 0;
}

EXPORT int evering_subscriber_open(const char *name, uint64_t token,
				   uint32_t history,
				   struct evering_subscriber **subscriber)
{
	struct evering_open args = {
		.size = sizeof(args),
		.kind = EVERING_KIND_TOPIC,
		.side = EVERING_SIDE_B,
		.token = token,
	};
	int fd, ret;

	ret = evr_copy_name(args.name, name);
	if (ret)
		return ret;
	fd = evr_control(O_RDONLY, EVERING_IOC_OPEN, &args);
	if (fd < 0)
		return fd;
	return evr_subscriber_attach(fd, &args.layout, history, subscriber);
}

EXPORT int evering_subscriber_fd(const struct evering_subscriber *subscriber)
{
	return subscriber->fd;
}
