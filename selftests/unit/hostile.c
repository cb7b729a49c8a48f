// SPDX-License-Identifier: GPL-2.0
/*
 * The library against a peer that writes anything anywhere it can, under
 * AddressSanitizer and between inaccessible pages.  Not for ThreadSanitizer:
 * a hostile peer is a data race by trade.
 */
#include "mock.h"
#include "scribble.h"
#include "kselftest_harness.h"

#ifndef SECONDS
#define SECONDS 5
#endif

struct attack {
	struct mock *m;
	unsigned int side;	/* of the attacker */
	bool stop;
};

static void *attacker(void *arg)
{
	struct attack *a = arg;
	struct mock *m = a->m;
	const struct evering_layout *l = &m->layout;
	struct evering *victim = m->ep[!a->side];
	uint64_t seed = 88172645463325252ULL;
	uint64_t slots_end = l->slots_offset[a->side] +
			     (uint64_t)l->geometry.entries[a->side] *
				     l->geometry.slot_size[a->side];

	while (!load_once(&a->stop)) {
		/* Near where the victim takes, near where it submits. */
		uint64_t near = scribble_random(&seed) & 1 ?
				load_once(&victim->in.next) :
				load_once(&victim->out.reserved);

		scribble(m->section[a->side], l->section_size[1 + a->side],
			 slots_end, &seed, near, victim->in.g.lap_shift);
		mock_enter(m->ep[a->side], &(struct evering_enter){
			.flags = EVERING_ENTER_WAKE_PEER });
		if (scribble_random(&seed) % 8 == 0)
			sched_yield();
	}
	return NULL;
}

FIXTURE(hostile)
{
	struct attack attack;
};

FIXTURE_VARIANT(hostile)
{
	unsigned int side;
	void (*round)(struct evering *ep, struct scribble_tally *t);
};

FIXTURE_VARIANT_ADD(hostile, server) { EVERING_SIDE_B, scribble_client };
FIXTURE_VARIANT_ADD(hostile, client) { EVERING_SIDE_A, scribble_server };

FIXTURE_SETUP(hostile)
{
	const struct evering_geometry geometry = {
		.entries = { 8, 16 },
		.slot_size = { 64, 256 },
		.heap_size = { 16384, 8192 },
	};

	self->attack.m = mock_new(&geometry);
	self->attack.side = variant->side;
}

FIXTURE_TEARDOWN(hostile)
{
	mock_free(self->attack.m);
}

TEST_F_TIMEOUT(hostile, errors_or_wrong_bytes_and_nothing_else, SECONDS + 30)
{
	struct evering *ep = self->attack.m->ep[!variant->side];
	uint64_t end = evr_now() + SECONDS * 1000000000ULL;
	struct scribble_tally t = { 0 };
	pthread_t thread;

	ASSERT_EQ(0, pthread_create(&thread, NULL, attacker, &self->attack));
	/* On a busy machine the attacker seldom gets to run beside us. */
	while (evr_now() < end ||
	       ((t.entries <= 20 || !t.payload_bytes || t.ends <= 10) &&
		evr_now() < end + 20000000000ULL)) {
		variant->round(ep, &t);
		/* Final for a program; here the game goes on. */
		ep->error = 0;
	}
	store_once(&self->attack.stop, true);
	pthread_join(thread, NULL);

	TH_LOG("calls %llu entries %llu payload %llu refused %llu lies %llu ends %llu timeouts %llu slowest %llu us",
	       (unsigned long long)t.calls, (unsigned long long)t.entries,
	       (unsigned long long)t.payload_bytes,
	       (unsigned long long)t.refused_payloads,
	       (unsigned long long)t.lies, (unsigned long long)t.ends,
	       (unsigned long long)t.timeouts,
	       (unsigned long long)t.slowest_ns / 1000);
	EXPECT_EQ(0, t.unexpected);
	EXPECT_GT(1000000000ULL, t.slowest_ns);
	EXPECT_LT(1000, t.calls);
	EXPECT_LT(20, t.entries);
	EXPECT_LT(0, t.refused_payloads);
	EXPECT_LT(0, t.payload_bytes);
	EXPECT_LT(10, t.lies);
	EXPECT_LT(10, t.ends);
}

TEST_HARNESS_MAIN
