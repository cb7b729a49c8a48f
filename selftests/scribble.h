/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A hostile peer: writes over every word of its own section, at random, with a
 * liking for values that are nearly right.  Shared by the test in the virtual
 * machine and the one under AddressSanitizer.
 */
#ifndef EVERING_SCRIBBLE_H
#define EVERING_SCRIBBLE_H

#include <errno.h>
#include <stdint.h>
#include <time.h>
#include "evering.h"

static inline uint64_t scribble_random(uint64_t *seed)
{
	/* xorshift64: the same run for the same seed */
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

/* @near: a position around which the victim is */
static inline uint64_t scribble_value(uint64_t *seed, uint64_t near,
				      unsigned int lap_shift)
{
	static const uint64_t extreme[] = {
		0, 1, ~0ULL, ~0ULL - 1, 1ULL << 31, 1ULL << 32, 1ULL << 63,
		0xffffffffULL, 0x7fffffffULL,
	};
	uint64_t r = scribble_random(seed);

	switch (r >> 8 & 7) {
	case 0:
		return extreme[(r >> 16) % (sizeof(extreme) / sizeof(*extreme))];
	case 1:
		return scribble_random(seed);
	case 2:
	case 3:
		return near + (r >> 16) % 64 - 32;
	default:
		/* Mostly stamps that could be true. */
		return evering_stamp(evering_lap(near, lap_shift) +
					     (r >> 16) % 3 - 1,
				     r >> 20 & EVERING_STATE_MASK);
	}
}

/* One burst over the section of @size bytes at @words. */
static inline void scribble(uint64_t *words, uint64_t size, uint64_t slots_end,
			    uint64_t *seed, uint64_t near,
			    unsigned int lap_shift)
{
	unsigned int i;

	for (i = 0; i < 64; i++) {
		uint64_t r = scribble_random(seed);
		uint64_t value = scribble_value(seed, near, lap_shift);
		/* Cursors and slots more often than heap. */
		uint64_t range = r & 3 ? slots_end : size;
		/* A fair chance for the two words that end a stream. */
		uint64_t at = r >> 8;

		if ((r & 0xff) < 4)
			at = offsetof(struct evering_control, head) / 8;
		else if (at % (range / 8) ==
				 offsetof(struct evering_control, closed) / 8 &&
			 r >> 60)
			value = 0;
		__atomic_store_n(&words[at % (range / 8)], value,
				 __ATOMIC_RELAXED);
	}
}

/* What the victim has seen; a test of nothing would show in zeros. */
struct scribble_tally {
	uint64_t calls;
	uint64_t entries;
	uint64_t payload_bytes;
	uint64_t refused_payloads;
	uint64_t lies;
	uint64_t ends;
	uint64_t timeouts;
	uint64_t slowest_ns;
	int unexpected;
};

static inline uint64_t scribble_clock(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000U + (uint64_t)ts.tv_nsec;
}

static inline void scribble_note(struct scribble_tally *t, int ret)
{
	t->calls++;
	switch (ret) {
	case -EPROTO:
		t->lies++;
		break;
	case -EPIPE:
	case -ESHUTDOWN:
		t->ends++;
		break;
	case -ETIME:
	case -EAGAIN:
		t->timeouts++;
		break;
	default:
		if (ret < 0)
			t->unexpected = ret;
	}
}

static inline void scribble_read(struct scribble_tally *t,
				 const struct evering *ep, uint64_t offset,
				 uint64_t len)
{
	const volatile uint8_t *p = evering_payload(ep, offset, len);
	uint64_t i;

	t->entries++;
	if (!p) {
		t->refused_payloads++;
		return;
	}
	/* Both ends, and some of what is between. */
	for (i = 0; i < len; i += 512)
		(void)p[i];
	if (len)
		(void)p[len - 1];
	t->payload_bytes += len;
}

/* One round of everything that a client does. */
static inline void scribble_client(struct evering *ep, struct scribble_tally *t)
{
	const struct timespec soon = { 0, 2000000 };
	const struct evering_cqe *cqe, *cqes[16];
	uint64_t start = scribble_clock(), took;
	struct evering_sqe *sqe;
	int i, nr;

	while ((sqe = evering_get_sqe(ep))) {
		sqe->user_data = t->calls;
		if (t->calls & 1)
			evering_sqe_cancel(ep, sqe);
		t->calls++;
	}
	scribble_note(t, evering_submit(ep));
	scribble_note(t, evering_submit_and_wait_timeout(ep, &cqe, 1 + t->calls % 4, &soon));
	nr = evering_peek_batch_cqe(ep, cqes, 16);
	scribble_note(t, nr);
	for (i = 0; i < nr; i++)
		scribble_read(t, ep, cqes[i]->offset, (uint32_t)cqes[i]->res);
	if (nr > 0)
		evering_cq_advance(ep, (unsigned int)nr);
	scribble_note(t, evering_wait_sq_space(ep, &soon));
	scribble_note(t, evering_wait_cqe_timeout(ep, &cqe, &soon));
	took = scribble_clock() - start;
	if (took > t->slowest_ns)
		t->slowest_ns = took;
}

/* One round of everything that a server does. */
static inline void scribble_server(struct evering *ep, struct scribble_tally *t)
{
	const struct timespec soon = { 0, 2000000 };
	const struct evering_sqe *sqe, *sqes[16];
	uint64_t start = scribble_clock(), took;
	struct evering_cqe *cqe;
	int i, nr;

	scribble_note(t, evering_wait_sqes(ep, &sqe, 1 + t->calls % 4, &soon));
	nr = evering_peek_batch_sqe(ep, sqes, 16);
	scribble_note(t, nr);
	for (i = 0; i < nr; i++) {
		scribble_read(t, ep, sqes[i]->offset, sqes[i]->len);
		cqe = evering_get_cqe(ep);
		if (cqe)
			cqe->user_data = sqes[i]->user_data;
	}
	if (nr > 0)
		evering_sq_advance(ep, (unsigned int)nr);
	scribble_note(t, evering_complete_and_wait_timeout(ep, NULL, 1, &soon));
	scribble_note(t, evering_wait_cq_space(ep, &soon));
	took = scribble_clock() - start;
	if (took > t->slowest_ns)
		t->slowest_ns = took;
}

#endif /* EVERING_SCRIBBLE_H */
