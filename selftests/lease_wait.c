// SPDX-License-Identifier: GPL-2.0
/*
 * Leases between processes: given back, they wake who sleeps or polls, and the
 * end waits for them.
 */
#include "leases.h"

FIXTURE(lease_wait)
{
	struct evering_queue *q;
	struct worker w[WORKERS];
	struct counters before;
};

FIXTURE_SETUP(lease_wait)
{
	int i;

	self->before = counters_now();
	ASSERT_EQ(0, create_queue(&self->q));
	for (i = 0; i < WORKERS; i++)
		ASSERT_TRUE(worker_start(&self->w[i]));
}

FIXTURE_TEARDOWN(lease_wait)
{
	int i;

	for (i = 0; i < WORKERS; i++)
		worker_end(&self->w[i]);
	evering_queue_close(self->q);
	EXPECT_TRUE(counters_return(&self->before));
}

/* --------------------------------------------------------------- given back */

TEST_F(lease_wait, given_back_it_wakes_one)
{
	struct evering_queue_lease lease;
	long slept[WORKERS];
	int i, who;

	ASSERT_EQ(0, try_push(self->q, 5));
	ASSERT_EQ(5, try_lease(self->q, &lease));
	for (i = 0; i < WORKERS; i++)
		ASSERT_TRUE(waits(&self->w[i]));
	ASSERT_TRUE(all_asleep(self->q, 'b', WORKERS));
	for (i = 0; i < WORKERS; i++)
		slept[i] = sleeps(self->w[i].pid);
	ASSERT_EQ(0, evering_queue_nack(self->q, &lease));
	who = who_speaks(self->w, 10000);
	ASSERT_LE(0, who);
	EXPECT_TRUE(gets(&self->w[who], 5, 2));
	ASSERT_TRUE(all_asleep(self->q, 'b', WORKERS - 1));
	sleep_ms(50);
	EXPECT_EQ(-1, who_speaks(self->w, 0));
	/* The others have not even looked. */
	for (i = 0; i < WORKERS; i++)
		EXPECT_EQ(slept[i], i == who ? slept[i] : sleeps(self->w[i].pid));
	/* And again, by who was woken: one of the others. */
	ASSERT_EQ(0, ask(&self->w[who], NACK));
	i = who_speaks(self->w, 10000);
	ASSERT_LE(0, i);
	EXPECT_NE(who, i);
	EXPECT_TRUE(gets(&self->w[i], 5, 3));
	EXPECT_EQ(0, ask(&self->w[i], ACK));
	ASSERT_TRUE(all_asleep(self->q, 'b', WORKERS - 2));
}

TEST_F(lease_wait, each_that_is_given_back_wakes_one)
{
	struct evering_queue_lease lease[2];
	int i, who, sum = 0;

	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, try_push(self->q, 1 + i));
		ASSERT_EQ(1 + i, try_lease(self->q, &lease[i]));
	}
	for (i = 0; i < WORKERS; i++)
		ASSERT_TRUE(waits(&self->w[i]));
	ASSERT_TRUE(all_asleep(self->q, 'b', WORKERS));
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, evering_queue_nack(self->q, &lease[i]));
	for (i = 0; i < 2; i++) {
		int deliveries;

		who = who_speaks(self->w, 10000);
		ASSERT_LE(0, who);
		sum += got(&self->w[who], &deliveries);
		EXPECT_EQ(2, deliveries);
	}
	EXPECT_EQ(3, sum);
	ASSERT_TRUE(all_asleep(self->q, 'b', 1));
	sleep_ms(50);
	EXPECT_EQ(1, asleep_on(self->q, 'b'));
	/* An entry that is new wakes the last. */
	ASSERT_EQ(0, try_push(self->q, 9));
	who = who_speaks(self->w, 10000);
	ASSERT_LE(0, who);
	EXPECT_TRUE(gets(&self->w[who], 9, 1));
}

/* While it is still being written what comes next. */
TEST_F(lease_wait, given_back_before_an_entry_is_there)
{
	struct evering_queue_lease lease;
	struct evering_queue_slot slot;

	ASSERT_EQ(0, try_push(self->q, 5));
	ASSERT_EQ(5, try_lease(self->q, &lease));
	ASSERT_EQ(0, evering_queue_reserve(self->q, &slot));
	ASSERT_TRUE(waits(&self->w[0]));
	ASSERT_EQ(0, evering_queue_nack(self->q, &lease));
	EXPECT_TRUE(gets(&self->w[0], 5, 2));
	ASSERT_EQ(0, evering_queue_cancel(self->q, &slot));
	EXPECT_EQ(0, ask(&self->w[0], ACK));
	EXPECT_EQ(-EAGAIN, try_lease(self->q, &lease));
}

static void *pop_one(void *arg)
{
	struct item item;
	int ret = evering_queue_pop(arg, &item);

	return (void *)(intptr_t)(ret ? ret : (int)item.number);
}

TEST_F(lease_wait, a_pop_waits_for_it_too)
{
	pthread_t pop;
	void *got;

	ASSERT_EQ(0, try_push(self->q, 5));
	ASSERT_TRUE(takes(&self->w[0], 5, 1));
	ASSERT_EQ(0, pthread_create(&pop, NULL, pop_one, self->q));
	ASSERT_TRUE(all_asleep(self->q, 'b', 1));
	ASSERT_EQ(0, ask(&self->w[0], NACK));
	pthread_join(pop, &got);
	EXPECT_EQ(5, (intptr_t)got);
	EXPECT_EQ(-EINVAL, ask(&self->w[0], ACK));
}

/* ------------------------------------------------------------------------- poll */

TEST_F(lease_wait, poll_tells_of_what_came_back)
{
	struct pollfd in = {
		.fd = evering_queue_fd(self->q, EVERING_QUEUE_POP),
		.events = POLLIN,
	};
	struct evering_queue_lease lease;

	ASSERT_EQ(0, try_push(self->q, 5));
	EXPECT_EQ(1, poll(&in, 1, 0));
	ASSERT_TRUE(takes(&self->w[0], 5, 1));
	EXPECT_EQ(0, poll(&in, 1, 0));
	ASSERT_EQ(0, ask(&self->w[0], NACK));
	EXPECT_EQ(1, poll(&in, 1, 0));
	EXPECT_EQ(5, try_lease(self->q, &lease));
	EXPECT_EQ(0, poll(&in, 1, 0));
	EXPECT_EQ(0, evering_queue_ack(self->q, &lease));
	EXPECT_EQ(0, poll(&in, 1, 0));
}

static void *poll_in(void *arg)
{
	struct pollfd in = {
		.fd = evering_queue_fd(arg, EVERING_QUEUE_POP), .events = POLLIN,
	};

	return (void *)(intptr_t)poll(&in, 1, 10000);
}

TEST_F(lease_wait, poll_is_woken_by_what_comes_back)
{
	struct evering_queue_lease lease;
	uint64_t since = now_ns();
	pthread_t thread;
	void *ret;
	int i;

	ASSERT_EQ(0, try_push(self->q, 5));
	ASSERT_TRUE(takes(&self->w[0], 5, 1));
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, pthread_create(&thread, NULL, poll_in, self->q));
		sleep_ms(100);
		/* By its hand, and by its death. */
		if (i)
			kill(self->w[1].pid, SIGKILL);
		else
			tell(self->w[0].sock, NACK);
		pthread_join(thread, &ret);
		EXPECT_EQ(1, (intptr_t)ret);
		if (!i)
			ASSERT_TRUE(takes(&self->w[1], 5, 2));
	}
	EXPECT_EQ(5, try_lease(self->q, &lease));
	EXPECT_EQ(3, lease.deliveries);
	/* Nobody has sat out his time. */
	EXPECT_GT(10000 * MS, now_ns() - since);
}

TEST_F(lease_wait, edge_triggered_epoll_tells_of_each)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLET };
	struct evering_queue_lease lease;
	int ep = epoll_create1(EPOLL_CLOEXEC);
	int i;

	ASSERT_LE(0, ep);
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, try_push(self->q, i));
		ASSERT_TRUE(takes(&self->w[i], i, 1));
	}
	ASSERT_EQ(0, epoll_ctl(ep, EPOLL_CTL_ADD,
			       evering_queue_fd(self->q, EVERING_QUEUE_POP), &event));
	EXPECT_EQ(0, epoll_wait(ep, &event, 1, 0));
	ASSERT_EQ(0, ask(&self->w[0], NACK));
	EXPECT_EQ(1, epoll_wait(ep, &event, 1, 10000));
	EXPECT_EQ(EPOLLIN, event.events);
	EXPECT_EQ(0, epoll_wait(ep, &event, 1, 20));
	/* What it was told of is still there, and there is one more. */
	ASSERT_EQ(0, ask(&self->w[1], NACK));
	EXPECT_EQ(1, epoll_wait(ep, &event, 1, 10000));
	for (i = 0; i < 2; i++) {
		EXPECT_LE(0, try_lease(self->q, &lease));
		EXPECT_EQ(2, lease.deliveries);
		EXPECT_EQ(0, evering_queue_ack(self->q, &lease));
	}
	EXPECT_EQ(-EAGAIN, try_lease(self->q, &lease));
	kill(self->w[2].pid, SIGKILL);
	EXPECT_EQ(1, epoll_wait(ep, &event, 1, 10000));
	EXPECT_EQ(EPOLLIN, event.events);
	EXPECT_EQ(2, try_lease(self->q, &lease));
	EXPECT_EQ(2, lease.deliveries);
	close(ep);
}

/* ---------------------------------------------------------------------- the end */

TEST_F(lease_wait, the_end_waits_for_who_may_die)
{
	int who;

	ASSERT_EQ(0, try_push(self->q, 5));
	ASSERT_TRUE(takes(&self->w[0], 5, 1));
	ASSERT_TRUE(waits(&self->w[1]));
	ASSERT_EQ(0, evering_queue_shutdown(self->q));
	/* Woken to look, it sleeps again; so does who comes after the end. */
	ASSERT_TRUE(waits(&self->w[2]));
	sleep_ms(50);
	ASSERT_TRUE(all_asleep(self->q, 'b', 2));
	EXPECT_EQ(-1, who_speaks(self->w, 0));
	worker_end(&self->w[0]);
	who = who_speaks(self->w, 10000);
	ASSERT_LT(0, who);
	EXPECT_TRUE(gets(&self->w[who], 5, 2));
	/* Now this one may die. */
	sleep_ms(50);
	EXPECT_EQ(1, asleep_on(self->q, 'b'));
	EXPECT_EQ(0, ask(&self->w[who], ACK));
	EXPECT_TRUE(ends(&self->w[3 - who]));
	ASSERT_TRUE(takes(&self->w[who], -ESHUTDOWN, 2));
	EXPECT_TRUE(counted(self->q, 0, 1, 0));
}

TEST_F(lease_wait, the_end_comes_with_the_last_ack)
{
	int i;

	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, try_push(self->q, 1 + i));
		ASSERT_TRUE(takes(&self->w[i], 1 + i, 1));
	}
	ASSERT_EQ(0, evering_queue_shutdown(self->q));
	ASSERT_TRUE(waits(&self->w[2]));
	ASSERT_EQ(0, ask(&self->w[1], ACK));
	sleep_ms(50);
	EXPECT_EQ(1, asleep_on(self->q, 'b'));
	ASSERT_EQ(0, ask(&self->w[0], ACK));
	EXPECT_TRUE(ends(&self->w[2]));
}

TEST_F(lease_wait, given_back_after_the_end)
{
	ASSERT_EQ(0, try_push(self->q, 5));
	ASSERT_TRUE(takes(&self->w[0], 5, 1));
	ASSERT_EQ(0, evering_queue_shutdown(self->q));
	ASSERT_TRUE(waits(&self->w[1]));
	ASSERT_EQ(0, ask(&self->w[0], NACK));
	EXPECT_TRUE(gets(&self->w[1], 5, 2));
	/* Who gave it back waits for it as others do. */
	ASSERT_TRUE(waits(&self->w[0]));
	EXPECT_EQ(0, ask(&self->w[1], NACK));
	EXPECT_TRUE(gets(&self->w[0], 5, 3));
	EXPECT_EQ(0, ask(&self->w[0], ACK));
	EXPECT_TRUE(takes(&self->w[0], -ESHUTDOWN, 3));
}

TEST_F(lease_wait, what_one_holds_itself_does_not_hold_up_the_end)
{
	struct evering_queue_lease lease, more;
	struct item item;

	ASSERT_EQ(0, try_push(self->q, 5));
	ASSERT_EQ(5, try_lease(self->q, &lease));
	ASSERT_EQ(0, evering_queue_shutdown(self->q));
	EXPECT_EQ(-ESHUTDOWN, try_lease(self->q, &more));
	EXPECT_EQ(-ESHUTDOWN, evering_queue_lease(self->q, &item, &more));
	EXPECT_EQ(-ESHUTDOWN, evering_queue_pop(self->q, &item));
	/* Another one waits for it. */
	ASSERT_TRUE(waits(&self->w[0]));
	EXPECT_EQ(-ESHUTDOWN, try_lease(self->q, &more));
	EXPECT_EQ(0, evering_queue_ack(self->q, &lease));
	EXPECT_TRUE(ends(&self->w[0]));
}

/* Asleep, or in poll(), since before the end. */
TEST_F(lease_wait, nor_does_it_for_another_thread)
{
	struct pollfd in = {
		.fd = evering_queue_fd(self->q, EVERING_QUEUE_POP),
		.events = POLLIN,
	};
	struct evering_queue_lease lease;
	pthread_t pop;
	void *got;

	ASSERT_EQ(0, try_push(self->q, 5));
	ASSERT_EQ(5, try_lease(self->q, &lease));
	ASSERT_EQ(0, pthread_create(&pop, NULL, pop_one, self->q));
	ASSERT_TRUE(all_asleep(self->q, 'b', 1));
	EXPECT_EQ(0, poll(&in, 1, 0));
	ASSERT_EQ(0, evering_queue_shutdown(self->q));
	EXPECT_EQ(1, poll(&in, 1, 0));
	/* It would sleep here for ever. */
	ASSERT_TRUE(all_asleep(self->q, 'b', 0));
	pthread_join(pop, &got);
	EXPECT_EQ(-ESHUTDOWN, (intptr_t)got);
	EXPECT_EQ(0, evering_queue_ack(self->q, &lease));
}

/* Some are asleep in poll() instead. */
TEST_F(lease_wait, poll_tells_of_the_end_when_it_is_the_end)
{
	struct pollfd in = {
		.fd = evering_queue_fd(self->q, EVERING_QUEUE_POP),
		.events = POLLIN,
	};
	struct evering_queue_lease lease;
	pthread_t thread;
	void *ret;

	ASSERT_EQ(0, try_push(self->q, 5));
	ASSERT_TRUE(takes(&self->w[0], 5, 1));
	ASSERT_EQ(0, evering_queue_shutdown(self->q));
	EXPECT_EQ(0, poll(&in, 1, 0));
	EXPECT_EQ(-EAGAIN, try_lease(self->q, &lease));
	ASSERT_EQ(0, pthread_create(&thread, NULL, poll_in, self->q));
	sleep_ms(100);
	ASSERT_EQ(0, ask(&self->w[0], ACK));
	pthread_join(thread, &ret);
	EXPECT_EQ(1, (intptr_t)ret);
	EXPECT_EQ(-ESHUTDOWN, try_lease(self->q, &lease));
}

/* It may not be woken for an item that another one has, again and again. */
TEST_F(lease_wait, who_waits_for_the_end_does_not_go_round)
{
	long slept;

	ASSERT_EQ(0, try_push(self->q, 5));
	ASSERT_TRUE(takes(&self->w[0], 5, 1));
	ASSERT_EQ(0, evering_queue_shutdown(self->q));
	ASSERT_TRUE(waits(&self->w[1]));
	slept = sleeps(self->w[1].pid);
	sleep_ms(100);
	EXPECT_EQ(slept, sleeps(self->w[1].pid));
	EXPECT_TRUE(asleep_in(self->w[1].pid, self->w[1].pid, SYS_ioctl));
	ASSERT_EQ(0, ask(&self->w[0], ACK));
	EXPECT_TRUE(ends(&self->w[1]));
}

TEST_HARNESS_MAIN
