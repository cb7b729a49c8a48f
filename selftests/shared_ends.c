// SPDX-License-Identifier: GPL-2.0
/*
 * Sides of a channel that are many, and end: one of them dies with what it was at,
 * the last of them goes, and one of them says that it is the end for all.
 */
#include "shared_test.h"

RINGS(shared_ends)

#define HELD	3

/* The ring that is looked at. */
static unsigned int ring_of(const struct ends *e)
{
	return e->maker[0]->side;
}

static uint64_t lost_by(struct ends *e)
{
	return healing_of(evering_fd(e->maker[0])).lost[ring_of(e)];
}

static uint64_t redelivered_by(struct ends *e)
{
	return healing_of(evering_fd(e->maker[0])).redelivered[ring_of(e)];
}

static uint64_t healed_by(struct ends *e)
{
	return healing_of(evering_fd(e->maker[0])).healed[ring_of(e)];
}

/*
 * A process that does as @how says with an endpoint of its own, says so, and
 * sleeps until it is killed.
 */
static pid_t start_child(const struct evering *of, int (*how)(struct evering *ep),
			 int *pipe_fd)
{
	int fd = evering_dup(of), ends[2];
	struct evering *ep;
	char byte = 1;
	pid_t pid;

	if (fd < 0 || pipe(ends))
		return -1;
	pid = fork_mortal();
	if (!pid) {
		if (evering_channel_from_fd(fd, &ep))
			_exit(1);
		evering_set_spin(ep, 0);
		byte = (char)how(ep);
		if (write(ends[1], &byte, 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(fd);
	close(ends[1]);
	*pipe_fd = ends[0];
	return pid;
}

/* Waits for what it says. */
static int child_says(int *pipe_fd)
{
	char byte = -1;

	if (read(*pipe_fd, &byte, 1) != 1)
		byte = -1;
	close(*pipe_fd);
	return byte;
}

static int kill_child(pid_t pid)
{
	kill(pid, SIGKILL);
	return reap(pid);
}

static int hold_some(struct evering *ep)
{
	const uint64_t *entry[HELD];
	int ret = wait_entries(ep, 1, FAR);

	return ret ? ret : peek(ep, entry, HELD);
}

static int reserve_some(struct evering *ep)
{
	int i;

	for (i = 0; i < HELD; i++)
		put_value(get(ep), 1000 + i);
	return HELD;
}

static int sleep_for_one(struct evering *ep)
{
	return wait_entries(ep, 1, FAR);
}

/* --------------------------------------------------------------- one of many dies */

TEST_F(shared_ends, a_worker_dies_with_what_it_holds)
{
	struct evering *maker = self->e.maker[0], *other = self->e.taker[1];
	bool lease = variant->flags & LEASE;
	struct caller c;
	pid_t pid;
	int i, fd;

	if (self->e.takers == 1)
		return;
	ASSERT_TRUE(turn(&self->e, 50));
	for (i = 0; i < HELD; i++)
		ASSERT_EQ(1, send_value(maker, 10 + i));
	pid = start_child(other, hold_some, &fd);
	ASSERT_LT(0, pid);
	ASSERT_EQ(HELD, child_says(&fd));
	/* Nothing of it is anybody else's. */
	EXPECT_EQ(-EAGAIN, take_value(other));
	ASSERT_EQ(1, send_value(maker, 20));
	EXPECT_EQ(20, take_value(other));

	call_start(&c, other, false, 1, FAR);
	ASSERT_TRUE(all_asleep(other, 1));
	EXPECT_EQ(-SIGKILL, kill_child(pid));
	if (lease) {
		EXPECT_EQ(0, call_join(&c));
		for (i = 0; i < HELD; i++)
			EXPECT_EQ(10 + i, take_value(self->e.taker[1 + i % 2]));
		EXPECT_EQ(0, lost_by(&self->e));
		EXPECT_EQ(HELD, redelivered_by(&self->e));
	} else {
		EXPECT_TRUE(UNTIL(lost_by(&self->e) == HELD));
		EXPECT_EQ(0, redelivered_by(&self->e));
		EXPECT_FALSE(call_done(&c));
		ASSERT_EQ(1, send_value(maker, 30));
		EXPECT_EQ(0, call_join(&c));
		EXPECT_EQ(30, take_value(other));
	}
	EXPECT_EQ(-EAGAIN, take_value(other));
	/* Its slots are free. */
	for (i = 0; i < ENTRIES; i++)
		ASSERT_EQ(1, send_value(maker, i));
	for (i = 0; i < ENTRIES; i++)
		ASSERT_EQ(i, take_value(other));
}

TEST_F(shared_ends, who_waits_for_room_learns_of_a_death)
{
	struct evering *maker = self->e.maker[0];
	struct caller c;
	pid_t pid;
	int i, fd;

	if (self->e.takers == 1)
		return;
	for (i = 0; i < ENTRIES; i++)
		ASSERT_EQ(1, send_value(maker, i));
	pid = start_child(self->e.taker[0], hold_some, &fd);
	ASSERT_LT(0, pid);
	ASSERT_EQ(HELD, child_says(&fd));
	for (i = HELD; i < ENTRIES; i++)
		ASSERT_EQ(i, take_value(self->e.taker[0]));
	call_start(&c, maker, true, 0, FAR);
	ASSERT_TRUE(all_asleep(maker, 1));
	EXPECT_EQ(-SIGKILL, kill_child(pid));
	if (variant->flags & LEASE) {
		sleep_ms(10);
		EXPECT_FALSE(call_done(&c));
		EXPECT_EQ(0, take_value(self->e.taker[1]));
	}
	EXPECT_EQ(EVERING_READY_SPACE, call_join(&c));
}

/* A heap of deaths while asleep: the entry is another one's, or counted. */
TEST_F(shared_ends, a_worker_dies_as_it_is_woken)
{
	struct ends *e = &self->e;
	int i, fd, round;
	int64_t value;
	pid_t pid;

	if (e->takers == 1)
		return;
	for (round = 0; round < 12; round++) {
		uint64_t lost_was = lost_by(e);
		struct caller c;

		pid = start_child(e->taker[0], sleep_for_one, &fd);
		ASSERT_LT(0, pid);
		ASSERT_TRUE(all_asleep(e->taker[0], 1));
		call_start(&c, e->taker[1], false, 1, FAR);
		ASSERT_TRUE(all_asleep(e->taker[0], 2));
		if (round % 2) {
			ASSERT_EQ(1, send_value(e->maker[0], round));
			kill_child(pid);
		} else {
			kill(pid, SIGKILL);
			ASSERT_EQ(1, send_value(e->maker[0], round));
			reap(pid);
		}
		close(fd);
		if (variant->flags & LEASE)
			EXPECT_TRUE(UNTIL(call_done(&c)));
		for (i = 0; i < 500 && !call_done(&c) && lost_by(e) == lost_was; i++)
			sleep_ms(1);
		EXPECT_TRUE(call_done(&c) || lost_by(e) == lost_was + 1);
		if (!call_done(&c))
			ASSERT_EQ(1, send_value(e->maker[0], round));
		EXPECT_EQ(0, call_join(&c));
		value = take_value(e->taker[1]);
		EXPECT_EQ(round, value);
	}
}

TEST_F(shared_ends, a_maker_dies_with_what_it_has_reserved)
{
	struct ends *e = &self->e;
	uint64_t pos, other;
	struct caller c;
	struct raw r;
	pid_t pid;
	int fd;

	if (e->makers == 1)
		return;
	/* Not submitted: as if it had never been. */
	pid = start_child(e->maker[0], reserve_some, &fd);
	ASSERT_LT(0, pid);
	ASSERT_EQ(HELD, child_says(&fd));
	ASSERT_EQ(1, send_value(e->maker[0], 1));
	EXPECT_EQ(-SIGKILL, kill_child(pid));
	EXPECT_EQ(1, take_value(e->taker[0]));
	EXPECT_EQ(-EAGAIN, take_value(e->taker[0]));
	EXPECT_EQ(0, healed_by(e));

	/* Between claim and commit: others wait for it, until it is dead. */
	ASSERT_EQ(0, raw_open(&r, evering_dup(e->maker[0])));
	ASSERT_TRUE(raw_claim(&r, &pos));
	ASSERT_EQ(1, send_value(e->maker[0], 2));
	EXPECT_EQ(-EAGAIN, take_value(e->taker[0]));
	EXPECT_EQ(-ETIME, wait_entries(e->taker[0], 1, 5));
	call_start(&c, e->taker[0], false, 1, FAR);
	ASSERT_TRUE(all_asleep(e->taker[0], 1));
	close(r.fd);
	evr_unmap_sections(&r.memory, ring_of(e), &r.layout);
	EXPECT_EQ(0, call_join(&c));
	EXPECT_EQ(2, take_value(e->taker[0]));
	EXPECT_EQ(1, healed_by(e));
	EXPECT_EQ(-EAGAIN, take_value(e->taker[0]));

	/* Skipped by those who have it: a whole lap of it, twice. */
	ASSERT_EQ(0, raw_open(&r, evering_dup(e->maker[0])));
	for (other = 0; other < 2 * ENTRIES; other++) {
		ASSERT_TRUE(raw_claim(&r, &pos));
		multi_cancel(&r.out, pos, 1);
		EXPECT_EQ(-EAGAIN, take_value(e->taker[other % e->takers]));
	}
	close(r.fd);
	evr_unmap_sections(&r.memory, ring_of(e), &r.layout);
	ASSERT_EQ(1, send_value(e->maker[1], 3));
	EXPECT_EQ(3, take_value(e->taker[0]));
}

/* ---------------------------------------------------------------- the last of them */

TEST_F(shared_ends, the_last_maker_is_gone)
{
	struct ends *e = &self->e;
	struct caller c[MANY];
	int i, n = e->takers;

	ASSERT_EQ(1, send_value(e->maker[0], 1));
	ASSERT_EQ(1, send_value(e->maker[e->makers - 1], 2));
	for (i = 0; i < e->makers; i++) {
		EXPECT_FALSE(poll_now(evering_fd(e->taker[0])) & POLLHUP);
		evering_close(e->maker[i]);
		e->maker[i] = NULL;
	}
	EXPECT_TRUE(poll_now(evering_fd(e->taker[0])) & POLLHUP);
	EXPECT_EQ(1, take_value(e->taker[n - 1]));
	EXPECT_EQ(2, wait_value(e->taker[0], FAR));
	for (i = 0; i < n; i++) {
		EXPECT_EQ(-EPIPE, take_value(e->taker[i]));
		EXPECT_EQ(-EPIPE, wait_value(e->taker[i], FAR));
		EXPECT_EQ(-EPIPE, send_value(e->taker[i], 5));
		EXPECT_EQ(1, reserved(e->taker[i]));
		call_start(&c[i], e->taker[i], false, 1, FAR);
	}
	for (i = 0; i < n; i++)
		EXPECT_EQ(-EPIPE, call_join(&c[i]));
}

TEST_F(shared_ends, sleepers_learn_of_the_last_one)
{
	struct ends *e = &self->e;
	struct caller c[MANY];
	int i, n = e->takers;

	for (i = 0; i < n; i++)
		call_start(&c[i], e->taker[i], false, 1, FAR);
	ASSERT_TRUE(all_asleep(e->taker[0], n));
	for (i = 0; i < e->makers; i++) {
		EXPECT_EQ(0, calls_done(c, n));
		evering_close(e->maker[i]);
		e->maker[i] = NULL;
	}
	for (i = 0; i < n; i++)
		EXPECT_EQ(-EPIPE, call_join(&c[i]));
}

TEST_F(shared_ends, the_last_taker_is_gone)
{
	struct ends *e = &self->e;
	struct caller c[MANY];
	int i, n = e->makers;

	for (i = 0; i < ENTRIES; i++)
		ASSERT_EQ(1, send_value(e->maker[0], i));
	for (i = 0; i < n; i++)
		call_start(&c[i], e->maker[i], true, 0, FAR);
	ASSERT_TRUE(all_asleep(e->maker[0], n));
	for (i = 0; i < e->takers; i++) {
		EXPECT_EQ(0, calls_done(c, n));
		evering_close(e->taker[i]);
		e->taker[i] = NULL;
	}
	for (i = 0; i < n; i++) {
		EXPECT_EQ(-EPIPE, call_join(&c[i]));
		if (n > 1)
			EXPECT_EQ(-EPIPE, send_value(e->maker[i], 1));
		EXPECT_EQ(-EPIPE, wait_value(e->maker[i], FAR));
	}
}

/* ------------------------------------------------------------------ the end for all */

TEST_F(shared_ends, one_says_that_no_more_comes)
{
	struct ends *e = &self->e;
	int i, n = e->makers, m = e->takers;
	struct caller c[MANY];

	ASSERT_EQ(1, send_value(e->maker[0], 1));
	put_value(get(e->maker[n - 1]), 2);
	ASSERT_EQ(0, evering_shutdown(e->maker[0], EVERING_SHUT_WR));
	EXPECT_EQ(-ESHUTDOWN, submit(e->maker[n - 1]));
	EXPECT_EQ(1, reserved(e->maker[n - 1]));
	for (i = 0; i < n; i++) {
		EXPECT_EQ(-ESHUTDOWN, send_value(e->maker[i], 3));
		/* That there is no room any more, the submission says. */
		EXPECT_EQ(-ESHUTDOWN, wait_room(e->maker[i], 5));
	}
	EXPECT_EQ(1, take_value(e->taker[m - 1]));
	for (i = 0; i < m; i++) {
		EXPECT_EQ(-ESHUTDOWN, take_value(e->taker[i]));
		call_start(&c[i], e->taker[i], false, 1, FAR);
	}
	for (i = 0; i < m; i++)
		EXPECT_EQ(-ESHUTDOWN, call_join(&c[i]));
	EXPECT_TRUE(poll_now(evering_fd(e->taker[0])) & POLLRDHUP);
	/* The other direction goes on. */
	EXPECT_EQ(1, send_value(e->taker[0], 4));
	EXPECT_EQ(4, wait_value(e->maker[n - 1], FAR));
}

TEST_F(shared_ends, sleepers_learn_of_the_end)
{
	struct ends *e = &self->e;
	int i, n = e->makers, m = e->takers;
	struct caller in[MANY], out[MANY];

	for (i = 0; i < ENTRIES; i++)
		ASSERT_EQ(1, send_value(e->maker[0], i));
	for (i = 0; i < n; i++)
		call_start(&out[i], e->maker[i], true, 0, FAR);
	ASSERT_TRUE(all_asleep(e->maker[0], n));
	if (n > 1) {
		/* Of many, another one may have ended it. */
		ASSERT_EQ(0, evering_shutdown(e->maker[0], EVERING_SHUT_WR));
		for (i = 0; i < n; i++)
			EXPECT_NE(-ETIMEDOUT, call_join(&out[i]));
	}
	for (i = 0; i < ENTRIES; i++)
		ASSERT_EQ(i, take_value(e->taker[i % m]));
	if (n == 1) {
		EXPECT_EQ(EVERING_READY_SPACE, call_join(&out[0]));
		for (i = 0; i < m; i++)
			call_start(&in[i], e->taker[i], false, 1, FAR);
		ASSERT_TRUE(all_asleep(e->taker[0], m));
		ASSERT_EQ(0, evering_shutdown(e->maker[0], EVERING_SHUT_WR));
		for (i = 0; i < m; i++)
			EXPECT_EQ(-ESHUTDOWN, call_join(&in[i]));
	}
}

TEST_F(shared_ends, what_was_claimed_before_the_end_still_comes)
{
	struct ends *e = &self->e;
	int i, m = e->takers, got = 0;
	struct caller c[MANY];
	uint64_t pos, pos2;
	struct raw r;

	if (e->makers == 1)
		return;
	ASSERT_TRUE(turn(e, 40));
	ASSERT_EQ(0, raw_open(&r, evering_dup(e->maker[0])));
	ASSERT_TRUE(raw_claim(&r, &pos));
	ASSERT_TRUE(raw_claim(&r, &pos2));
	ASSERT_EQ(0, evering_shutdown(e->maker[0], EVERING_SHUT_WR));
	/* Not the end, nor an entry. */
	for (i = 0; i < m; i++) {
		EXPECT_EQ(-EAGAIN, take_value(e->taker[i]));
		EXPECT_EQ(-ETIME, wait_entries(e->taker[i], 1, 5));
		EXPECT_FALSE(poll_now(evering_fd(e->taker[i])) & POLLIN);
		call_start(&c[i], e->taker[i], false, 1, FAR);
	}
	ASSERT_TRUE(all_asleep(e->taker[0], m));
	raw_commit(&r, pos, 8);
	/* One has it, and the other is not the end either. */
	ASSERT_TRUE(UNTIL(calls_done(c, m) == 1));
	sleep_ms(5);
	EXPECT_EQ(1, calls_done(c, m));
	raw_commit(&r, pos2, 9);
	ASSERT_TRUE(UNTIL(calls_done(c, m) >= (m > 1 ? 2 : 1)));
	/* As a lease, it may come back until it has been seen. */
	for (i = 0; i < m; i++)
		while (call_done(&c[i]) && take_value(e->taker[i]) >= 8)
			got++;
	EXPECT_EQ(2, got);
	for (i = 0; i < m; i++) {
		int ret = call_join(&c[i]);

		EXPECT_TRUE(!ret || ret == -ESHUTDOWN) TH_LOG("%d", ret);
	}
	for (i = 0; i < m; i++) {
		EXPECT_EQ(-ESHUTDOWN, take_value(e->taker[i]));
		EXPECT_EQ(-ESHUTDOWN, wait_value(e->taker[i], FAR));
	}
	close(r.fd);
}

TEST_F(shared_ends, who_claimed_before_the_end_dies)
{
	struct ends *e = &self->e;
	int i, m = e->takers;
	struct caller c[MANY];
	uint64_t pos;
	struct raw r;

	if (e->makers == 1)
		return;
	ASSERT_EQ(0, raw_open(&r, evering_dup(e->maker[0])));
	ASSERT_TRUE(raw_claim(&r, &pos));
	ASSERT_EQ(0, evering_shutdown(e->maker[0], EVERING_SHUT_WR));
	for (i = 0; i < m; i++)
		call_start(&c[i], e->taker[i], false, 1, FAR);
	ASSERT_TRUE(all_asleep(e->taker[0], m));
	close(r.fd);
	evr_unmap_sections(&r.memory, ring_of(e), &r.layout);
	for (i = 0; i < m; i++)
		EXPECT_EQ(-ESHUTDOWN, call_join(&c[i]));
}

TEST_F(shared_ends, one_says_that_no_more_is_taken)
{
	struct ends *e = &self->e;
	struct caller c[MANY];
	int i, n = e->makers;

	for (i = 0; i < ENTRIES; i++)
		ASSERT_EQ(1, send_value(e->maker[0], i));
	for (i = 0; i < n; i++)
		call_start(&c[i], e->maker[i], true, 0, FAR);
	ASSERT_TRUE(all_asleep(e->maker[0], n));
	ASSERT_EQ(0, evering_shutdown(e->taker[e->takers - 1], EVERING_SHUT_RD));
	for (i = 0; i < n; i++) {
		EXPECT_EQ(-EPIPE, call_join(&c[i]));
		if (n > 1)
			EXPECT_EQ(-EPIPE, send_value(e->maker[i], 1));
	}
}

TEST_F(shared_ends, the_end_waits_for_a_lease)
{
	struct ends *e = &self->e;
	struct caller c[2];
	pid_t pid;
	int i, fd;

	if (!(variant->flags & LEASE))
		return;
	/* Seen: the end, for those who sleep for it. */
	ASSERT_EQ(1, send_value(e->maker[0], 1));
	ASSERT_EQ(1, hold_value(e->taker[0]));
	pid = start_child(e->taker[0], hold_some, &fd);
	ASSERT_LT(0, pid);
	ASSERT_EQ(1, send_value(e->maker[0], 2));
	ASSERT_EQ(1, child_says(&fd));
	ASSERT_EQ(0, evering_shutdown(e->maker[0], EVERING_SHUT_WR));
	for (i = 0; i < 2; i++) {
		EXPECT_EQ(-EAGAIN, take_value(e->taker[1 + i]));
		EXPECT_FALSE(poll_now(evering_fd(e->taker[1 + i])) & POLLIN);
		call_start(&c[i], e->taker[1 + i], false, 1, FAR);
	}
	ASSERT_TRUE(all_asleep(e->taker[1], 2));
	EXPECT_EQ(-SIGKILL, kill_child(pid));
	ASSERT_TRUE(UNTIL(calls_done(c, 2) == 1));
	i = call_done(&c[0]) ? 0 : 1;
	EXPECT_EQ(0, call_join(&c[i]));
	EXPECT_EQ(2, take_value(e->taker[1 + i]));
	sleep_ms(5);
	EXPECT_FALSE(call_done(&c[!i]));
	seen(e->taker[0], 1);
	EXPECT_EQ(-ESHUTDOWN, call_join(&c[!i]));
	for (i = 0; i < 3; i++)
		EXPECT_EQ(-ESHUTDOWN, take_value(e->taker[i]));
}

TEST_HARNESS_MAIN
