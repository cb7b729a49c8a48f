// SPDX-License-Identifier: GPL-2.0
/*
 * Sides of a channel that are many, and sleep: one is woken for each entry and for
 * each room, whoever leaves without it passes it on, and poll tells all of them.
 */
#include "shared_test.h"

RINGS(shared_wait)

static void ignore(int signal)
{
}

static int calls_that_got(const struct caller *c, int n)
{
	int i, got = 0;

	for (i = 0; i < n; i++)
		got += call_done(&c[i]) && !c[i].ret;
	return got;
}

/* --------------------------------------------------------------- one for each */

TEST_F(shared_wait, an_entry_wakes_one)
{
	struct evering *maker = self->e.maker[0], *taker = self->e.taker[0];
	struct caller c[MANY];
	int i, j, n = self->e.takers;
	long slept[MANY];

	ASSERT_TRUE(turn(&self->e, 70));
	for (i = 0; i < n; i++)
		call_start(&c[i], self->e.taker[i], false, 1, FAR);
	ASSERT_TRUE(all_asleep(taker, n));
	for (i = 0; i < n; i++)
		slept[i] = times_asleep(&c[i].tid);
	for (j = 1; j <= n; j++) {
		ASSERT_EQ(1, send_value(maker, j));
		ASSERT_TRUE(UNTIL(calls_done(c, n) == j));
		EXPECT_TRUE(all_asleep(taker, n - j));
		/* The others have not so much as looked. */
		for (i = 0; i < n; i++)
			if (!call_done(&c[i]))
				EXPECT_EQ(slept[i], times_asleep(&c[i].tid));
	}
	for (i = 0; i < n; i++)
		EXPECT_EQ(0, call_join(&c[i]));
	for (i = 0, j = 0; i < n; i++)
		j += take_value(self->e.taker[i]);
	EXPECT_EQ(n * (n + 1) / 2, j);
}

TEST_F(shared_wait, several_entries_at_once_wake_as_many)
{
	struct evering *maker = self->e.maker[0];
	struct caller c[MANY];
	int i, n = self->e.takers;

	for (i = 0; i < n; i++)
		call_start(&c[i], self->e.taker[i], false, 1, FAR);
	ASSERT_TRUE(all_asleep(self->e.taker[0], n));
	for (i = 0; i + 1 < MANY; i++)
		put_value(get(maker), i);
	ASSERT_EQ(MANY - 1, submit(maker));
	ASSERT_TRUE(UNTIL(calls_done(c, n) == (n > 1 ? MANY - 1 : 1)));
	if (n > 1) {
		sleep_ms(10);
		EXPECT_EQ(MANY - 1, calls_done(c, n));
		ASSERT_EQ(1, send_value(maker, 9));
	}
	for (i = 0; i < n; i++)
		EXPECT_EQ(0, call_join(&c[i]));
}

TEST_F(shared_wait, a_room_wakes_one)
{
	struct evering *maker = self->e.maker[0];
	struct caller c[MANY];
	int i, j, n = self->e.makers;
	long slept[MANY];

	ASSERT_TRUE(turn(&self->e, 100));
	for (i = 0; i < ENTRIES; i++)
		ASSERT_EQ(1, send_value(maker, i));
	for (i = 0; i < n; i++)
		call_start(&c[i], self->e.maker[i], true, 0, FAR);
	ASSERT_TRUE(all_asleep(maker, n));
	for (i = 0; i < n; i++)
		slept[i] = times_asleep(&c[i].tid);
	for (j = 1; j <= n; j++) {
		ASSERT_EQ(j - 1, take_value(self->e.taker[j % self->e.takers]));
		ASSERT_TRUE(UNTIL(calls_done(c, n) == j));
		EXPECT_TRUE(all_asleep(maker, n - j));
		for (i = 0; i < n; i++)
			if (!call_done(&c[i]))
				EXPECT_EQ(slept[i], times_asleep(&c[i].tid));
	}
	for (i = 0; i < n; i++)
		EXPECT_EQ(EVERING_READY_SPACE, call_join(&c[i]));
}

/* What is reserved goes out in the room that comes, and then there is none. */
TEST_F(shared_wait, room_is_used_before_it_is_told_of)
{
	struct evering *maker = self->e.maker[0];
	struct caller c[MANY];
	int i, n = self->e.makers;

	if (n == 1)
		return;
	for (i = 0; i < ENTRIES; i++)
		ASSERT_EQ(1, send_value(maker, i));
	for (i = 0; i < n; i++) {
		ASSERT_EQ(-EAGAIN, send_value(self->e.maker[i], 1000));
		call_start(&c[i], self->e.maker[i], true, 0, FAR);
	}
	for (i = 0; i < n; i++) {
		ASSERT_TRUE(all_asleep(maker, n));
		ASSERT_EQ(i, take_value(self->e.taker[0]));
	}
	ASSERT_TRUE(UNTIL(all_asleep(maker, n)));
	EXPECT_EQ(0, calls_done(c, n));
	for (i = 0; i < n; i++)
		ASSERT_EQ(n + i, take_value(self->e.taker[0]));
	for (i = 0; i < n; i++) {
		EXPECT_EQ(EVERING_READY_SPACE, call_join(&c[i]));
		EXPECT_EQ(0, reserved(self->e.maker[i]));
	}
	for (i = 2 * n; i < ENTRIES; i++)
		ASSERT_EQ(i, take_value(self->e.taker[0]));
	for (i = 0; i < n; i++)
		ASSERT_EQ(1000, take_value(self->e.taker[0]));
}

/* -------------------------------------------------------------- more than one */

TEST_F(shared_wait, one_who_takes_waits_for_several)
{
	struct evering *taker = self->e.taker[0];
	struct caller c;
	struct raw r;
	uint64_t pos[3];
	int i;

	if (self->e.takers > 1) {
		/* Of many, nobody keeps some while it waits for more. */
		EXPECT_EQ(-ETIME, wait_entries(taker, 3, 5));
		ASSERT_EQ(1, send_value(self->e.maker[0], 1));
		EXPECT_EQ(0, wait_entries(taker, 3, FAR));
		EXPECT_EQ(1, take_value(taker));
		EXPECT_EQ(-EINVAL, wait_entries(taker, ENTRIES + 1, 5));
		return;
	}
	/* The one that comes first in the ring is committed last. */
	ASSERT_EQ(0, raw_open(&r, evering_dup(self->e.maker[0])));
	for (i = 0; i < 3; i++)
		ASSERT_TRUE(raw_claim(&r, &pos[i]));
	call_start(&c, taker, false, 3, FAR);
	ASSERT_TRUE(all_asleep(taker, 1));
	raw_commit(&r, pos[2], 2);
	raw_commit(&r, pos[1], 1);
	sleep_ms(10);
	EXPECT_FALSE(call_done(&c));
	EXPECT_TRUE(raw_commit(&r, pos[0], 0));
	EXPECT_EQ(0, call_join(&c));
	for (i = 0; i < 3; i++)
		EXPECT_EQ(i, take_value(taker));

	/* A hole in the middle: awake for the first, and asleep again. */
	for (i = 0; i < 3; i++)
		ASSERT_TRUE(raw_claim(&r, &pos[i]));
	call_start(&c, taker, false, 3, FAR);
	ASSERT_TRUE(all_asleep(taker, 1));
	raw_commit(&r, pos[2], 5);
	raw_commit(&r, pos[0], 3);
	sleep_ms(10);
	EXPECT_FALSE(call_done(&c));
	ASSERT_TRUE(all_asleep(taker, 1));
	raw_commit(&r, pos[1], 4);
	EXPECT_EQ(0, call_join(&c));
	for (i = 3; i < 6; i++)
		EXPECT_EQ(i, take_value(taker));
	/* And by those who use the library. */
	call_start(&c, taker, false, 3, FAR);
	for (i = 0; i < 3; i++) {
		EXPECT_FALSE(call_done(&c));
		ASSERT_TRUE(all_asleep(taker, 1));
		ASSERT_EQ(1, send_value(self->e.maker[i], i));
	}
	EXPECT_EQ(0, call_join(&c));
	close(r.fd);
}

/* ------------------------------------------------------- who leaves without one */

TEST_F(shared_wait, time_is_over)
{
	struct evering *taker = self->e.taker[0], *maker = self->e.maker[0];
	struct evering_stats before, after;
	uint64_t begin = now_ns();

	EXPECT_EQ(-EAGAIN, wait_entries(taker, 1, 0));
	evering_stats(taker, &before);
	EXPECT_EQ(-ETIME, wait_entries(taker, 1, 30));
	evering_stats(taker, &after);
	EXPECT_EQ(1, after.enters - before.enters);
	EXPECT_LE(30 * MS, now_ns() - begin);
	ASSERT_EQ(1, send_value(maker, 1));
	EXPECT_EQ(0, wait_entries(taker, 1, 0));
	EXPECT_EQ(1, take_value(taker));
}

TEST_F(shared_wait, a_signal_ends_it_and_the_entry_goes_to_another)
{
	struct evering *maker = self->e.maker[0];
	struct sigaction act = { .sa_handler = ignore };
	int i, n = self->e.takers, round;
	struct caller c[MANY];

	ASSERT_EQ(0, sigaction(SIGUSR1, &act, NULL));
	call_start(&c[0], self->e.taker[0], false, 1, FAR);
	ASSERT_TRUE(all_asleep(self->e.taker[0], 1));
	pthread_kill(c[0].thread, SIGUSR1);
	EXPECT_EQ(-EINTR, call_join(&c[0]));
	if (n == 1)
		return;
	/* The signal and the entry at once: somebody gets it. */
	for (round = 0; round < 20; round++) {
		for (i = 0; i < n; i++)
			call_start(&c[i], self->e.taker[i], false, 1, FAR);
		ASSERT_TRUE(all_asleep(self->e.taker[0], n));
		pthread_kill(c[0].thread, SIGUSR1);
		if (round % 4 == 1)
			sched_yield();
		ASSERT_EQ(1, send_value(maker, round));
		pthread_kill(c[1].thread, SIGUSR1);
		/* Who is interrupted may take it on its way out. */
		EXPECT_TRUE(UNTIL(calls_that_got(c, n) == 1));
		while (calls_done(c, n) < n) {
			for (i = 0; i < n; i++)
				if (!call_done(&c[i]))
					pthread_kill(c[i].thread, SIGUSR1);
			sleep_ms(1);
		}
		for (i = 0; i < n; i++) {
			int ret = call_join(&c[i]);

			EXPECT_TRUE(!ret || ret == -EINTR) TH_LOG("%d", ret);
			if (!ret)
				EXPECT_EQ(round, take_value(self->e.taker[i]));
		}
		ASSERT_EQ(1, calls_that_got(c, n));
		ASSERT_EQ(-EAGAIN, take_value(self->e.taker[0]));
	}
}

TEST_F(shared_wait, a_deadline_that_comes_with_the_entry)
{
	struct evering *maker = self->e.maker[0];
	int i, n = self->e.takers, round;
	struct caller c[MANY];

	if (n == 1)
		return;
	/* The first in the queue, whose time is over just now. */
	for (round = 0; round < 15; round++) {
		call_start(&c[0], self->e.taker[0], false, 1, 4);
		call_start(&c[1], self->e.taker[1], false, 1, FAR);
		while (now_ns() % (2 * MS) < (round % 10) * 200000ULL)
			;
		sleep_ms(2 + round % 3);
		ASSERT_EQ(1, send_value(maker, round));
		ASSERT_TRUE(UNTIL(call_done(&c[0])));
		if (!call_join(&c[0])) {
			EXPECT_EQ(round, take_value(self->e.taker[0]));
			ASSERT_EQ(1, send_value(maker, round));
		} else {
			EXPECT_EQ(-ETIME, c[0].ret);
		}
		ASSERT_EQ(0, call_join(&c[1]));
		EXPECT_EQ(round, take_value(self->e.taker[1]));
		for (i = 0; i < n; i++)
			ASSERT_EQ(-EAGAIN, take_value(self->e.taker[i]));
	}
}

/* A wait for room ends with an entry, or the peer could not go on. */
TEST_F(shared_wait, entries_end_a_wait_for_room)
{
	struct evering *maker = self->e.maker[0], *taker = self->e.taker[0];
	struct caller c;
	int i;

	for (i = 0; i < ENTRIES; i++)
		ASSERT_EQ(1, send_value(maker, i));
	call_start(&c, maker, true, 0, FAR);
	ASSERT_TRUE(all_asleep(maker, 1));
	/* The other ring: what the taker makes. */
	ASSERT_EQ(1, send_value(taker, 77));
	EXPECT_EQ(EVERING_READY_ENTRIES, call_join(&c));
	/* Held, it is no news. */
	EXPECT_EQ(-ETIME, wait_room(maker, 5));
	EXPECT_EQ(77, take_value(maker));
}

/* ----------------------------------------------------------------------- poll */

TEST_F(shared_wait, poll_says_what_there_is)
{
	struct evering *maker = self->e.maker[0], *taker = self->e.taker[0];
	int i;

	ASSERT_TRUE(turn(&self->e, 33));
	for (i = 0; i < self->e.takers; i++)
		EXPECT_EQ(POLLOUT, poll_now(evering_fd(self->e.taker[i])));
	ASSERT_EQ(1, send_value(maker, 0));
	for (i = 0; i < self->e.takers; i++)
		EXPECT_EQ(POLLIN | POLLOUT, poll_now(evering_fd(self->e.taker[i])));
	for (i = 0; i < self->e.makers; i++)
		EXPECT_EQ(POLLOUT, poll_now(evering_fd(self->e.maker[i])));
	/* What another one holds is not there. */
	EXPECT_EQ(0, hold_value(self->e.taker[self->e.takers - 1]));
	if (self->e.takers > 1)
		EXPECT_EQ(POLLOUT, poll_now(evering_fd(taker)));
	for (i = 1; i < ENTRIES; i++)
		ASSERT_EQ(1, send_value(maker, i));
	for (i = 0; i < self->e.makers; i++)
		EXPECT_EQ(0, poll_now(evering_fd(self->e.maker[i])));
	seen(self->e.taker[self->e.takers - 1], 1);
	for (i = 0; i < self->e.makers; i++)
		EXPECT_EQ(POLLOUT, poll_now(evering_fd(self->e.maker[i])));
	for (i = 1; i < ENTRIES; i++)
		ASSERT_EQ(i, take_value(taker));
	EXPECT_EQ(POLLOUT, poll_now(evering_fd(taker)));
}

TEST_F(shared_wait, poll_wakes_all_that_sleep)
{
	struct sleeper s[MANY];
	int i;

	for (i = 0; i < self->e.takers; i++)
		ASSERT_TRUE(start_poll(&s[i], evering_fd(self->e.taker[i]), POLLIN));
	ASSERT_EQ(1, send_value(self->e.maker[0], 0));
	for (i = 0; i < self->e.takers; i++)
		EXPECT_EQ(POLLIN, join(&s[i]));
	EXPECT_EQ(0, take_value(self->e.taker[0]));
	for (i = 0; i < ENTRIES; i++)
		ASSERT_EQ(1, send_value(self->e.maker[0], i));
	for (i = 0; i < self->e.makers; i++)
		ASSERT_TRUE(start_poll(&s[i], evering_fd(self->e.maker[i]), POLLOUT));
	EXPECT_EQ(0, take_value(self->e.taker[0]));
	for (i = 0; i < self->e.makers; i++)
		EXPECT_EQ(POLLOUT, join(&s[i]));
}

TEST_F(shared_wait, poll_and_sleep_together)
{
	struct evering *taker = self->e.taker[0];
	struct sleeper s;
	struct caller c;

	call_start(&c, taker, false, 1, FAR);
	ASSERT_TRUE(all_asleep(taker, 1));
	ASSERT_TRUE(start_poll(&s, evering_fd(self->e.taker[self->e.takers - 1]), POLLIN));
	put_value(get(self->e.maker[0]), 1);
	put_value(get(self->e.maker[0]), 2);
	ASSERT_EQ(2, submit(self->e.maker[0]));
	EXPECT_EQ(0, call_join(&c));
	EXPECT_EQ(POLLIN, join(&s));
}

TEST_F(shared_wait, an_edge_for_each_that_comes)
{
	struct ends *e = &self->e;
	int in[MANY], out[MANY], i, round;

	for (i = 0; i < e->takers; i++) {
		in[i] = epoll_create1(EPOLL_CLOEXEC);
		ASSERT_EQ(0, watch(in[i], EPOLL_CTL_ADD, evering_fd(e->taker[i]),
				   EPOLLIN | EPOLLET));
		EXPECT_EQ(0, events_of(in[i], 0));
	}
	for (round = 0; round < ENTRIES + 4; round++) {
		ASSERT_EQ(1, send_value(e->maker[round % e->makers], round));
		for (i = 0; i < e->takers; i++)
			ASSERT_EQ(EPOLLIN, events_of(in[i], FAR));
		ASSERT_EQ(round, take_value(e->taker[round % e->takers]));
	}
	for (i = 0; i < ENTRIES; i++)
		ASSERT_EQ(1, send_value(e->maker[i % e->makers], i));
	for (i = 0; i < e->makers; i++) {
		out[i] = epoll_create1(EPOLL_CLOEXEC);
		ASSERT_EQ(0, watch(out[i], EPOLL_CTL_ADD, evering_fd(e->maker[i]),
				   EPOLLOUT | EPOLLET));
		EXPECT_EQ(0, events_of(out[i], 0));
	}
	for (round = 0; round < ENTRIES + 4; round++) {
		ASSERT_EQ(round % ENTRIES, take_value(e->taker[round % e->takers]));
		for (i = 0; i < e->makers; i++)
			ASSERT_EQ(EPOLLOUT, events_of(out[i], FAR));
		ASSERT_EQ(1, send_value(e->maker[round % e->makers], round % ENTRIES));
	}
	for (i = 0; i < e->takers; i++)
		close(in[i]);
	for (i = 0; i < e->makers; i++)
		close(out[i]);
}

/* Given back behind one that is held: no room, and an edge once that goes. */
TEST_F(shared_wait, poll_for_room_behind_what_is_held)
{
	struct ends *e = &self->e;
	int i, out = epoll_create1(EPOLL_CLOEXEC);

	if (e->takers == 1)
		return;
	for (i = 0; i < ENTRIES; i++)
		ASSERT_EQ(1, send_value(e->maker[0], i));
	ASSERT_EQ(0, hold_value(e->taker[0]));
	ASSERT_EQ(0, watch(out, EPOLL_CTL_ADD, evering_fd(e->maker[0]), EPOLLOUT | EPOLLET));
	EXPECT_EQ(0, events_of(out, 0));
	for (i = 1; i < ENTRIES; i++)
		ASSERT_EQ(i, take_value(e->taker[1]));
	EXPECT_EQ(0, events_of(out, 5));
	EXPECT_FALSE(poll_now(evering_fd(e->maker[0])) & POLLOUT);
	seen(e->taker[0], 1);
	EXPECT_EQ(EPOLLOUT, events_of(out, FAR));
	close(out);
}

TEST_HARNESS_MAIN
