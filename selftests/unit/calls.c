// SPDX-License-Identifier: GPL-2.0
/* The library's calls one by one, over a kernel in user space. */
#include <sched.h>

#include "mock.h"
#include "kselftest_harness.h"

static const struct evering_geometry small = {
	.entries = { 4, 8 },
	.slot_size = { 64, 128 },
	.heap_size = { 8192, 4096 },
};

FIXTURE(calls)
{
	struct mock *m;
	struct evering *client;
	struct evering *server;
};

FIXTURE_SETUP(calls)
{
	self->m = mock_new(&small);
	self->client = self->m->ep[EVERING_SIDE_A];
	self->server = self->m->ep[EVERING_SIDE_B];
	evering_set_spin(self->client, 0);
	evering_set_spin(self->server, 0);
}

FIXTURE_TEARDOWN(calls)
{
	mock_free(self->m);
}

static int push(struct evering *ep, uint64_t user_data)
{
	struct evering_sqe *sqe = evering_get_sqe(ep);

	if (!sqe)
		return -1;
	sqe->user_data = user_data;
	return evering_submit(ep);
}

static int pop(struct evering *ep, uint64_t *user_data)
{
	const struct evering_sqe *sqe;
	int ret = evering_peek_sqe(ep, &sqe);

	if (ret)
		return ret;
	*user_data = sqe->user_data;
	evering_sqe_seen(ep, sqe);
	return 0;
}

TEST(judge)
{
	const uint64_t lap = 5;

	EXPECT_EQ(EVERING_SLOT_READY,
		  evering_judge(evering_stamp(lap, EVERING_COMMITTED), lap));
	EXPECT_EQ(EVERING_SLOT_SKIP,
		  evering_judge(evering_stamp(lap, EVERING_SKIPPED), lap));
	EXPECT_EQ(EVERING_SLOT_NOT_YET,
		  evering_judge(evering_stamp(lap, EVERING_RESERVED), lap));
	EXPECT_EQ(EVERING_SLOT_NOT_YET,
		  evering_judge(evering_stamp(lap - 1, EVERING_COMMITTED), lap));
	EXPECT_EQ(EVERING_SLOT_NOT_YET, evering_judge(0, 1));
	/* A program that clears whole entries clears stamps of any lap. */
	EXPECT_EQ(EVERING_SLOT_NOT_YET, evering_judge(0, lap));
	/* Nobody honest leaves these. */
	EXPECT_EQ(EVERING_SLOT_LIE,
		  evering_judge(evering_stamp(lap, EVERING_EMPTY), lap));
	EXPECT_EQ(EVERING_SLOT_LIE,
		  evering_judge(evering_stamp(lap + 1, EVERING_COMMITTED), lap));
	EXPECT_EQ(EVERING_SLOT_LIE,
		  evering_judge(evering_stamp(lap - 2, EVERING_COMMITTED), lap));
	EXPECT_EQ(EVERING_SLOT_LIE, evering_judge(~0ULL, lap));
	/* Laps wrap after 2^42. */
	EXPECT_EQ(0, evering_lap(~0ULL << 1, 0) & ~EVERING_LAP_MASK);
	EXPECT_EQ(EVERING_SLOT_NOT_YET,
		  evering_judge(evering_stamp(EVERING_LAP_MASK,
					      EVERING_COMMITTED), 0));
}

TEST_F(calls, full_and_empty_over_many_laps)
{
	uint64_t sent = 0, got = 0, value;
	int round;

	for (round = 0; round < 100; round++) {
		while (push(self->client, sent) == 1)
			sent++;
		EXPECT_EQ(4, sent - got);
		while (!pop(self->server, &value))
			ASSERT_EQ(got++, value);
		ASSERT_EQ(sent, got);
	}
	EXPECT_EQ(-EAGAIN, pop(self->server, &value));
	/* Nobody slept, so nobody entered the kernel. */
	EXPECT_EQ(0, self->m->enters[0] + self->m->enters[1]);
}

TEST_F(calls, positions_wrap_around_laps)
{
	const uint64_t start = (EVERING_LAP_MASK << 2) - 8;
	uint64_t value, i;

	/* A ring that has run for 2^44 entries. */
	for (i = start - 4; i != start; i++)
		*mock_stamp(self->m, 0, i) =
			evering_stamp(evering_lap(i, 2), EVERING_COMMITTED);
	self->client->out.tail = self->client->out.reserved = start;
	self->client->out.peer_head = start;
	self->server->in.head = self->server->in.next = start;
	self->server->in.published = start;
	mock_control(self->m, 1)->head = start;
	for (i = 0; i < 32; i++) {
		ASSERT_EQ(1, push(self->client, i));
		ASSERT_EQ(0, pop(self->server, &value));
		ASSERT_EQ(i, value);
		ASSERT_EQ(-EAGAIN, pop(self->server, &value));
	}
}

TEST_F(calls, cancel)
{
	struct evering_sqe *a, *b, *c;
	uint64_t value;

	a = evering_get_sqe(self->client);
	b = evering_get_sqe(self->client);
	c = evering_get_sqe(self->client);
	a->user_data = 1;
	c->user_data = 3;
	EXPECT_EQ(0, evering_sqe_cancel(self->client, b));
	EXPECT_EQ(-EINVAL, evering_sqe_cancel(self->client, b));
	EXPECT_EQ(-EINVAL, evering_sqe_cancel(self->client, NULL));
	EXPECT_EQ(-EINVAL, evering_sqe_cancel(self->client, a + 100));
	EXPECT_EQ(-EINVAL, evering_sqe_cancel(self->client, (void *)((char *)a + 8)));
	EXPECT_EQ(3, evering_sq_reserved(self->client));
	EXPECT_EQ(2, evering_submit(self->client));
	EXPECT_EQ(-EINVAL, evering_sqe_cancel(self->client, a));
	EXPECT_EQ(0, pop(self->server, &value));
	EXPECT_EQ(1, value);
	EXPECT_EQ(0, pop(self->server, &value));
	EXPECT_EQ(3, value);

	/* A ring of cancelled entries only gives its room back. */
	while ((a = evering_get_sqe(self->client)))
		ASSERT_EQ(0, evering_sqe_cancel(self->client, a));
	EXPECT_EQ(0, evering_submit(self->client));
	EXPECT_EQ(NULL, evering_get_sqe(self->client));
	EXPECT_EQ(-EAGAIN, pop(self->server, &value));
	EXPECT_NE(NULL, evering_get_sqe(self->client));
}

TEST_F(calls, a_cancelled_slot_does_not_hold_a_wait_up)
{
	const struct evering_sqe *sqe;
	int i;

	/* One entry, then a ring's rest of cancelled ones. */
	push(self->client, 7);
	for (i = 0; i < 3; i++)
		evering_sqe_cancel(self->client, evering_get_sqe(self->client));
	evering_submit(self->client);
	ASSERT_EQ(0, evering_wait_sqes(self->server, &sqe, 4, NULL));
	EXPECT_EQ(7, sqe->user_data);
	evering_sqe_seen(self->server, sqe);
	EXPECT_EQ(-EAGAIN, evering_peek_sqe(self->server, &sqe));
	EXPECT_NE(NULL, evering_get_sqe(self->client));
}

TEST_F(calls, nor_one_that_is_cancelled_later)
{
	const struct evering_sqe *sqe;
	struct evering_enter seen;
	int i;

	/* One entry, two cancelled: at most one more can ever come. */
	push(self->client, 7);
	for (i = 0; i < 2; i++)
		evering_sqe_cancel(self->client, evering_get_sqe(self->client));
	evering_submit(self->client);
	EXPECT_EQ(-ETIME, evering_wait_sqes(self->server, &sqe, 4,
					    &(struct timespec){ 0, 10000000 }));
	EXPECT_EQ(1, self->m->enters[1]);
	push(self->client, 8);
	EXPECT_EQ(0, evering_wait_sqes(self->server, &sqe, 4, NULL));
	EXPECT_EQ(7, sqe->user_data);
	/* What it had asked for while it slept. */
	seen = self->m->last[1];
	EXPECT_EQ(3, seen.wait_pos);
	EXPECT_EQ(1, seen.min_complete);
}

TEST_F(calls, clearing_an_entry_is_no_lie)
{
	struct evering_sqe *sqe;
	uint64_t value;
	int i;

	for (i = 0; i < 20; i++) {
		sqe = evering_get_sqe(self->client);
		memset(sqe, 0, sizeof(*sqe));
		ASSERT_EQ(-EAGAIN, pop(self->server, &value));
		*sqe = (struct evering_sqe){ .user_data = i };
		ASSERT_EQ(-EAGAIN, pop(self->server, &value));
		ASSERT_EQ(1, evering_submit(self->client));
		ASSERT_EQ(0, pop(self->server, &value));
		ASSERT_EQ(i, value);
	}
}

TEST_F(calls, a_head_that_lies_gives_no_slot_twice)
{
	int n = 0;

	/* Nothing is committed, yet the peer claims to have taken it. */
	while (n < 100 && evering_get_sqe(self->client)) {
		n++;
		mock_control(self->m, 1)->head = self->client->out.reserved;
	}
	EXPECT_EQ(4, n);
	mock_control(self->m, 1)->head = 5;
	EXPECT_EQ(-EPROTO, evering_wait_sq_space(self->client, NULL));
}

TEST_F(calls, waiting_for_room_with_an_entry_in_hand)
{
	const struct timespec short_time = { 0, 10000000 };
	const struct evering_sqe *sqe;

	push(self->client, 1);
	ASSERT_EQ(0, evering_peek_sqe(self->server, &sqe));
	while (evering_get_cqe(self->server))
		;
	evering_complete(self->server);
	/* The one in hand is no news. */
	EXPECT_EQ(-ETIME, evering_wait_cq_space(self->server, &short_time));
	EXPECT_GE(2, self->m->enters[1]);
	push(self->client, 2);
	EXPECT_EQ(EVERING_READY_ENTRIES,
		  evering_wait_cq_space(self->server, &short_time));
}

TEST_F(calls, room_comes_back_while_one_is_held)
{
	const struct evering_sqe *sqes[4];
	int i;

	for (i = 0; i < 4; i++)
		push(self->client, i);
	ASSERT_EQ(4, evering_peek_batch_sqe(self->server, sqes, 4));
	evering_sq_advance(self->server, 1);
	EXPECT_EQ(NULL, evering_get_sqe(self->client));
	/* Who looks for more gives room for more. */
	ASSERT_EQ(3, evering_peek_batch_sqe(self->server, sqes, 4));
	EXPECT_NE(NULL, evering_get_sqe(self->client));
	evering_sq_advance(self->server, 2);
	evering_sq_advance(self->server, 1);
	EXPECT_EQ(-EAGAIN, evering_peek_batch_sqe(self->server, sqes, 4));
}

TEST_F(calls, what_a_dead_peer_has_sent_is_taken_by_a_waiting_submit)
{
	const struct evering_sqe *sqe;

	push(self->client, 1);
	push(self->client, 2);
	mock_kill(self->m, EVERING_SIDE_A);
	ASSERT_EQ(0, evering_complete_and_wait_timeout(self->server, &sqe, 1, NULL));
	EXPECT_EQ(1, sqe->user_data);
	evering_sqe_seen(self->server, sqe);
	ASSERT_EQ(0, evering_complete_and_wait_timeout(self->server, &sqe, 1, NULL));
	evering_sqe_seen(self->server, sqe);
	EXPECT_EQ(-EPIPE, evering_complete_and_wait_timeout(self->server, &sqe, 1, NULL));
}

TEST_F(calls, submitting_without_waiting_peeks_all_the_same)
{
	const struct evering_sqe *sqe;

	ASSERT_EQ(0, evering_complete_and_wait_timeout(self->server, &sqe, 0, NULL));
	EXPECT_EQ(NULL, sqe);
	push(self->client, 5);
	ASSERT_EQ(0, evering_complete_and_wait_timeout(self->server, &sqe, 0, NULL));
	ASSERT_NE(NULL, sqe);
	EXPECT_EQ(5, sqe->user_data);
}

TEST_F(calls, submitting_without_waiting_gives_skipped_slots_back)
{
	const struct evering_sqe *sqe;
	int i;

	for (i = 0; i < 4; i++)
		ASSERT_EQ(0, evering_sqe_cancel(self->client,
						evering_get_sqe(self->client)));
	ASSERT_EQ(0, evering_submit(self->client));
	EXPECT_EQ(NULL, evering_get_sqe(self->client));
	ASSERT_EQ(0, evering_complete_and_wait_timeout(self->server, &sqe, 0, NULL));
	EXPECT_EQ(NULL, sqe);
	EXPECT_NE(NULL, evering_get_sqe(self->client));
}

TEST_F(calls, submitting_without_waiting_sees_a_lie)
{
	const struct evering_sqe *sqe;

	*mock_stamp(self->m, EVERING_SIDE_A, 0) = ~0ULL;
	EXPECT_EQ(0, evering_complete_and_wait_timeout(self->server, &sqe, 0, NULL));
	EXPECT_EQ(NULL, sqe);
	EXPECT_EQ(-EPROTO, evering_complete(self->server));
}

TEST_F(calls, no_room_and_nobody_to_make_it)
{
	const struct timespec now = { 0 };
	int i;

	for (i = 0; i < 4; i++)
		ASSERT_EQ(1, push(self->client, i));
	EXPECT_EQ(-EAGAIN, evering_wait_sq_space(self->client, &now));
	mock_shutdown(self->m, EVERING_SIDE_B, EVERING_SHUT_RD);
	EXPECT_EQ(-EPIPE, evering_wait_sq_space(self->client, &now));
	EXPECT_EQ(-EPIPE, evering_wait_sq_space(self->client, NULL));
}

TEST_F(calls, spinning_that_pays_again_is_trusted_again)
{
	const struct timespec soon = { .tv_nsec = 1 };
	const struct evering_sqe *sqe;
	int i;

	/* Nine waits in vain, with the rests between them. */
	evering_set_spin(self->server, 1);
	for (i = 0; i < 600; i++)
		ASSERT_EQ(-ETIME, evering_wait_sqe_timeout(self->server, &sqe, &soon));
	EXPECT_EQ(256, self->server->spin.penalty);
	self->server->spin.rest = 0;
	for (i = 0; i < 9; i++) {
		ASSERT_EQ(1, push(self->client, i));
		ASSERT_EQ(0, evering_wait_sqe(self->server, &sqe));
		evering_sqe_seen(self->server, sqe);
	}
	EXPECT_EQ(0, self->server->spin.penalty);
}

TEST_F(calls, large_slots_arrive_whole)
{
	struct evering_cqe *answer = evering_get_cqe(self->server);
	const struct evering_cqe *cqe;
	unsigned char *end = (unsigned char *)answer + 128;

	memset((char *)answer + 8, 0x5a, 120);
	end[-1] = 0xa5;
	ASSERT_EQ(1, evering_complete(self->server));
	evering_set_spin(self->client, 1000);
	ASSERT_EQ(0, evering_wait_cqe(self->client, &cqe));
	EXPECT_EQ(0xa5, ((const unsigned char *)cqe)[127]);
	EXPECT_EQ(0x5a, ((const unsigned char *)cqe)[126]);
	EXPECT_EQ(0x5a, ((const unsigned char *)cqe)[64]);
}

TEST_F(calls, batches_and_borrowed_entries)
{
	const struct evering_sqe *sqes[8];
	int i;

	for (i = 0; i < 4; i++)
		ASSERT_EQ(1, push(self->client, i));
	ASSERT_EQ(3, evering_peek_batch_sqe(self->server, sqes, 3));
	for (i = 0; i < 3; i++)
		EXPECT_EQ(i, sqes[i]->user_data);
	/* Borrowed: the slots are not given back. */
	EXPECT_EQ(NULL, evering_get_sqe(self->client));
	evering_sq_advance(self->server, 2);
	EXPECT_EQ(NULL, evering_get_sqe(self->client));
	ASSERT_EQ(2, evering_peek_batch_sqe(self->server, sqes, 2));
	EXPECT_EQ(2, sqes[0]->user_data);
	EXPECT_EQ(3, sqes[1]->user_data);
	evering_sq_advance(self->server, 100);
	for (i = 0; i < 4; i++)
		EXPECT_NE(NULL, evering_get_sqe(self->client));
	EXPECT_EQ(NULL, evering_get_sqe(self->client));
	EXPECT_EQ(-EINVAL, evering_peek_batch_sqe(self->server, sqes, 0));
}

TEST_F(calls, a_copy_does_not_change)
{
	const struct evering_sqe *sqe;
	struct evering_sqe *slot;

	slot = evering_get_sqe(self->client);
	slot->len = 1;
	evering_submit(self->client);
	ASSERT_EQ(0, evering_peek_sqe(self->server, &sqe));
	slot->len = 1 << 30;
	EXPECT_EQ(1, sqe->len);
	ASSERT_EQ(0, evering_peek_sqe(self->server, &sqe));
	EXPECT_EQ(1, sqe->len);
}

TEST_F(calls, wrong_side)
{
	const struct evering_cqe *cqe;
	const struct evering_sqe *sqe;

	EXPECT_EQ(NULL, evering_get_sqe(self->server));
	EXPECT_EQ(NULL, evering_get_cqe(self->client));
	EXPECT_EQ(-EINVAL, evering_submit(self->server));
	EXPECT_EQ(-EINVAL, evering_complete(self->client));
	EXPECT_EQ(-EINVAL, evering_peek_cqe(self->server, &cqe));
	EXPECT_EQ(-EINVAL, evering_peek_sqe(self->client, &sqe));
	EXPECT_EQ(-EINVAL, evering_wait_cqe(self->server, &cqe));
	EXPECT_EQ(-EINVAL, evering_wait_sq_space(self->server, NULL));
	EXPECT_EQ(0, evering_sq_reserved(self->server));
	EXPECT_EQ(0, evering_cq_reserved(self->client));
	push(self->client, 1);
	ASSERT_EQ(0, evering_peek_sqe(self->server, &sqe));
	evering_cq_advance(self->server, 1);
	ASSERT_EQ(0, evering_peek_sqe(self->server, &sqe));
	EXPECT_EQ(1, sqe->user_data);
	/* More than the ring can ever hold. */
	EXPECT_EQ(-EINVAL, evering_wait_cqes(self->client, &cqe, 9, NULL));
	EXPECT_EQ(-EINVAL, evering_wait_cqes(self->client, &cqe, 0, NULL));
	EXPECT_EQ(-EINVAL, evering_submit_and_wait(self->client, 9));
}

TEST_F(calls, timeouts)
{
	const struct timespec zero = { 0, 0 }, short_time = { 0, 20000000 };
	const struct timespec negative = { -1, 0 }, wrong = { 1, -1 }, wrong2 = { 0, 1000000000 };
	const struct evering_cqe *cqe;
	uint64_t before = evr_now();

	EXPECT_EQ(-EAGAIN, evering_wait_cqe_timeout(self->client, &cqe, &zero));
	EXPECT_EQ(-EAGAIN, evering_wait_cqe_timeout(self->client, &cqe, &negative));
	EXPECT_EQ(-EINVAL, evering_wait_cqe_timeout(self->client, &cqe, &wrong));
	EXPECT_EQ(-EINVAL, evering_wait_sq_space(self->client, &wrong2));
	evering_get_sqe(self->client);
	EXPECT_EQ(-EINVAL, evering_submit_and_wait_timeout(self->client, &cqe, 1, &wrong));
	EXPECT_EQ(1, evering_sq_reserved(self->client));
	EXPECT_EQ(0, self->m->enters[0]);
	EXPECT_EQ(-ETIME, evering_wait_cqe_timeout(self->client, &cqe, &short_time));
	EXPECT_LE(before + 20000000, evr_now());
	/* Far beyond what a clock can say is for ever, not yesterday. */
	EXPECT_EQ(EVERING_NO_DEADLINE,
		  evr_deadline(&(struct timespec){ INT64_MAX, 999999999 }));
	EXPECT_EQ(EVERING_NO_DEADLINE, evr_deadline(NULL));

	while (evering_get_sqe(self->client))
		;
	EXPECT_EQ(-ETIME, evering_wait_sq_space(self->client, &short_time));
	EXPECT_EQ(-EAGAIN, evering_wait_sq_space(self->client, &zero));
}

TEST_F(calls, payload_bounds)
{
	uint64_t size;
	char *heap = evering_heap(self->client, &size);

	ASSERT_EQ(8192, size);
	memset(heap, 'x', size);
	EXPECT_NE(NULL, evering_payload(self->server, 0, 8192));
	EXPECT_EQ('x', *(const char *)evering_payload(self->server, 8191, 1));
	EXPECT_NE(NULL, evering_payload(self->server, 8192, 0));
	EXPECT_EQ(NULL, evering_payload(self->server, 8192, 1));
	EXPECT_EQ(NULL, evering_payload(self->server, 1, 8192));
	EXPECT_EQ(NULL, evering_payload(self->server, ~0ULL, 1));
	EXPECT_EQ(NULL, evering_payload(self->server, 1, ~0ULL));
	EXPECT_EQ(NULL, evering_payload(self->server, ~0ULL, ~0ULL));
	EXPECT_EQ(NULL, evering_payload(self->client, 4096, 1));
}

TEST_F(calls, death_is_told_after_the_rest)
{
	uint64_t value;

	push(self->client, 1);
	push(self->client, 2);
	mock_kill(self->m, EVERING_SIDE_A);
	EXPECT_EQ(0, pop(self->server, &value));
	EXPECT_EQ(0, pop(self->server, &value));
	EXPECT_EQ(2, value);
	EXPECT_EQ(-EPIPE, pop(self->server, &value));
	EXPECT_NE(NULL, evering_get_cqe(self->server));
	EXPECT_EQ(-EPIPE, evering_complete(self->server));
	EXPECT_EQ(1, evering_cq_reserved(self->server));
	EXPECT_EQ(-EPIPE, evering_complete_and_wait(self->server, 1));
}

TEST_F(calls, fewer_at_the_end)
{
	const struct evering_sqe *sqe, *sqes[4];

	push(self->client, 1);
	push(self->client, 2);
	mock_shutdown(self->m, EVERING_SIDE_A, EVERING_SHUT_WR);
	ASSERT_EQ(0, evering_wait_sqes(self->server, &sqe, 4, NULL));
	EXPECT_EQ(2, evering_peek_batch_sqe(self->server, sqes, 4));
	evering_sq_advance(self->server, 2);
	EXPECT_EQ(-ESHUTDOWN, evering_wait_sqes(self->server, &sqe, 4, NULL));
	EXPECT_EQ(-ESHUTDOWN, evering_peek_sqe(self->server, &sqe));
	/* The other direction goes on. */
	EXPECT_NE(NULL, evering_get_cqe(self->server));
	EXPECT_EQ(1, evering_complete(self->server));
	/* Its own stream is ended. */
	EXPECT_NE(NULL, evering_get_sqe(self->client));
	EXPECT_EQ(-ESHUTDOWN, evering_submit(self->client));
}

TEST_F(calls, peer_takes_no_more)
{
	mock_shutdown(self->m, EVERING_SIDE_B, EVERING_SHUT_RD);
	EXPECT_NE(NULL, evering_get_sqe(self->client));
	EXPECT_EQ(-EPIPE, evering_submit(self->client));
	EXPECT_EQ(1, evering_sq_reserved(self->client));
}

TEST_F(calls, lying_stamp_is_final)
{
	const struct evering_sqe *sqe;

	push(self->client, 1);
	*mock_stamp(self->m, 0, 1) = ~0ULL;
	/* What is good before it is delivered. */
	ASSERT_EQ(0, evering_wait_sqes(self->server, &sqe, 2, NULL));
	EXPECT_EQ(1, sqe->user_data);
	evering_sqe_seen(self->server, sqe);
	EXPECT_EQ(-EPROTO, evering_peek_sqe(self->server, &sqe));
	*mock_stamp(self->m, 0, 1) = 0;
	EXPECT_EQ(-EPROTO, evering_peek_sqe(self->server, &sqe));
	EXPECT_EQ(-EPROTO, evering_complete(self->server));
}

TEST_F(calls, committed_out_of_order_is_a_lie)
{
	const struct evering_sqe *sqe;

	/* Ready for the kernel, which asks the first and the last. */
	*mock_stamp(self->m, 0, 0) = evering_stamp(1, EVERING_COMMITTED);
	*mock_stamp(self->m, 0, 2) = evering_stamp(1, EVERING_COMMITTED);
	ASSERT_EQ(0, evering_wait_sqe(self->server, &sqe));
	EXPECT_EQ(-ETIME, evering_wait_sqes(self->server, &sqe, 2,
					    &(struct timespec){ 0, 1000000 }));
	EXPECT_GE(3, self->m->enters[1]);
}

TEST_F(calls, lying_head_is_final)
{
	while (push(self->client, 0) == 1)
		;
	mock_control(self->m, 1)->head = 1000;
	EXPECT_EQ(NULL, evering_get_sqe(self->client));
	EXPECT_EQ(-EPROTO, evering_wait_sq_space(self->client, NULL));
	mock_control(self->m, 1)->head = 4;
	EXPECT_EQ(-EPROTO, evering_submit(self->client));
}

/* Whenever it would sleep, a lap of skipped slots has just come. */
static int feeds_skipped(struct evering *ep, const struct evering_enter *args)
{
	uint64_t pos = args->wait_pos;
	int i;

	(void)ep;
	if (evr_now() > args->deadline + 1000000000U)
		return -EBADFD;
	for (i = 0; i < 4; i++, pos++)
		store_release(mock_stamp(mock_current, 0, pos),
			      evering_stamp(evering_lap(pos, 2), EVERING_SKIPPED));
	return EVERING_READY_ENTRIES;
}

static const struct evr_backend skipping_backend = { .enter = feeds_skipped };

TEST_F(calls, skipped_slots_do_not_hold_a_timeout_up)
{
	const struct evering_sqe *sqe;

	self->server->backend = &skipping_backend;
	EXPECT_EQ(-ETIME, evering_wait_sqe_timeout(self->server, &sqe,
						   &(struct timespec){ 0, 50000000 }));
	self->server->backend = &mock_backend;
	EXPECT_GE(self->server->in.next, 8);
}

TEST(nobody_spins_on_the_only_cpu)
{
	cpu_set_t all, one;
	int cpu = 0;

	ASSERT_EQ(0, sched_getaffinity(0, sizeof(all), &all));
	while (!CPU_ISSET(cpu, &all))
		cpu++;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	ASSERT_EQ(0, sched_setaffinity(0, sizeof(one), &one));
	EXPECT_EQ(0, evr_default_spin());
	ASSERT_EQ(0, sched_setaffinity(0, sizeof(all), &all));
	EXPECT_EQ(CPU_COUNT(&all) > 1, !!evr_default_spin());
}

static int says_ready(struct evering *ep, const struct evering_enter *args)
{
	(void)ep;
	return args->flags & (EVERING_ENTER_WAIT | EVERING_ENTER_WAIT_SPACE) ?
		EVERING_READY_SPACE : -EBADFD;
}

static const struct evr_backend other_backend = { .enter = says_ready };

/* Room for the kernel, and a moment later none: a head that goes back. */
TEST_F(calls, room_that_is_taken_back_is_a_lie)
{
	while (push(self->client, 0) == 1)
		;
	self->client->backend = &other_backend;
	EXPECT_EQ(-EPROTO, evering_wait_sq_space(self->client, NULL));
	EXPECT_EQ(-EPROTO, evering_submit(self->client));
	self->client->backend = &mock_backend;
}

TEST_F(calls, a_doorbell_that_fails)
{
	const struct evering_sqe *sqes[4];
	int i;

	for (i = 0; i < 4; i++)
		push(self->client, i);
	ASSERT_EQ(4, evering_peek_batch_sqe(self->server, sqes, 4));
	evering_sq_advance(self->server, 1);
	store_once(&self->m->header->ring[0].space_at, 4);
	self->server->backend = &other_backend;
	/* More is asked for than there is, so room is given, and somebody waits for it. */
	EXPECT_EQ(-EBADFD, evering_peek_batch_sqe(self->server, sqes, 4));
	self->server->backend = &mock_backend;
	store_once(&self->m->header->ring[0].space_at, EVERING_NOBODY);
	EXPECT_EQ(3, evering_peek_batch_sqe(self->server, sqes, 4));
}

TEST_HARNESS_MAIN
