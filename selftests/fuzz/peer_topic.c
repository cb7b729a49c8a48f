// SPDX-License-Identifier: GPL-2.0
/*
 * A subscriber, and a publisher that writes what it likes: it never goes backwards,
 * reads nothing beyond the topic, and every call comes to an end.
 */
#include "subscriber.c"
#include "peer.h"

#define ENTRIES	8U
#define HEAP	1024U
#define SLOTS	(sizeof(struct evering_control))
#define SECTION	(SLOTS + ENTRIES * 64 + HEAP)

/* The section ends where the memory does, so that one byte more is seen. */
static struct evering_subscriber *subscriber(uint8_t *section,
					     struct evering_header *header)
{
	struct evering_subscriber *s = calloc(1, sizeof(*s));

	s->fd = -1;
	s->layout.geometry.entries[0] = ENTRIES;
	s->layout.geometry.slot_size[0] = 64;
	evr_ring_geometry(&s->g, &s->layout, EVERING_RING_SQ);
	s->header = header;
	s->control = (void *)section;
	s->slots = (const char *)section + SLOTS;
	s->heap = s->slots + ENTRIES * 64;
	s->size = HEAP;
	return s;
}

static void commit(uint8_t *section, struct input *in)
{
	struct evering_control *control = (void *)section;
	uint64_t number = take(in, 1) % 64;
	struct evering_sqe *slot = (void *)(section + SLOTS + number % ENTRIES * 64);

	slot->offset = take(in, 2) % (HEAP + 200);
	slot->len = (uint32_t)take(in, 2) % (HEAP + 200);
	slot->stamp = evering_stamp(evering_lap(number, 3), (uint32_t)take(in, 1) & 3);
	if (take(in, 1) & 3)
		control->tail = number + 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	struct evering_header *header = calloc(1, sizeof(*header));
	uint8_t *section = calloc(1, SECTION), copy[HEAP];
	struct evering_subscriber *s = subscriber(section, header);
	struct evering_control *control = (void *)section;
	uint64_t next = 0;

	control->tail = take(&in, 1) % 20;
	evr_subscriber_start(s, (uint32_t)take(&in, 1));
	while (in.left) {
		const struct timespec now = { 0 };
		struct evering_message m;
		int ret;

		switch (take(&in, 1) % 6) {
		case 0:
		case 1:
			ret = take(&in, 1) & 1 ? evering_subscriber_next(s, &m, &now) :
				evering_subscriber_latest(s, &m, &now);
			MUST(ret == 0 || ret == -EAGAIN || ret == -EPROTO ||
			     ret == -EPIPE || ret == -ESHUTDOWN);
			if (ret)
				break;
			MUST(m.number >= next);
			next = m.number + 1;
			MUST(m.lost <= m.number);
			ret = evering_subscriber_copy(s, &m, copy, sizeof(copy));
			MUST(ret == 0 || ret == -ESTALE);
			break;
		case 2:
			commit(section, &in);
			break;
		case 3:
			((uint64_t *)(void *)section)[take(&in, 1) %
						      ((SLOTS + ENTRIES * 64) / 8)] =
				take(&in, 8);
			break;
		case 4:
			control->floor = take(&in, 1) % 64;
			break;
		case 5:
			if (!(take(&in, 1) % 16))
				header->side[0].state = EVERING_STATE_DEAD;
			break;
		}
	}
	free(s);
	free(section);
	free(header);
	return 0;
}
