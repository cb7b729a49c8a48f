// SPDX-License-Identifier: GPL-2.0
/*
 * What HEADER announces of those who sleep in ENTER, and whom a doorbell wakes.
 * The peer decides by these words whether to ring: a word that is missing is a
 * wake-up lost, one too many is a system call for nothing.
 */
#include "sleepers.h"

FIXTURE(doorbell)
{
	struct channel c;
};

FIXTURE_SETUP(doorbell)
{
	ASSERT_EQ(0, channel_open(&self->c, test_name()));
}

FIXTURE_TEARDOWN(doorbell)
{
	close_rings(&self->c);
}

/*
 * How often a thread has gone to sleep, once it sleeps; -1: it does not.  One
 * that is announced may not sleep yet; then it sees to itself what a doorbell
 * would do for it.
 */
static long times_slept(struct sleeper *s)
{
	uint64_t end = now_ns() + 5000 * MS;
	char path[64], line[256];

	snprintf(path, sizeof(path), "/proc/self/task/%d/status",
		 __atomic_load_n(&s->tid, __ATOMIC_ACQUIRE));
	while (now_ns() < end) {
		FILE *f = fopen(path, "r");
		bool asleep = false;
		long times = -1;

		if (!f)
			return -1;
		while (fgets(line, sizeof(line), f)) {
			if (!strncmp(line, "State:\tS", 8))
				asleep = true;
			if (sscanf(line, "voluntary_ctxt_switches: %ld",
				   &times) == 1)
				break;
		}
		fclose(f);
		if (asleep)
			return times;
		sleep_ms(1);
	}
	return -1;
}

/* ----------------------------------------------------------------- words */

TEST_F(doorbell, nobody_is_announced_while_nobody_sleeps)
{
	struct channel *c = &self->c;
	struct evering_enter args;

	EXPECT_TRUE(nobody(c));
	EXPECT_EQ(0, nr_sleepers(c->fd[0], 0));
	EXPECT_EQ(0, nr_sleepers(c->fd[0], 1));

	/* Nor after calls that end at once. */
	EXPECT_EQ(0, do_wake(c->fd[0]));
	EXPECT_TRUE(nobody(c));
	EXPECT_EQ(-ETIME, wait_for(c->fd[0], 0, 1, 0));
	EXPECT_TRUE(nobody(c));
	commit(c, CQ, 0, EVERING_COMMITTED);
	EXPECT_EQ(EVERING_READY_ENTRIES, wait_for(c->fd[0], 0, 1, FAR));
	EXPECT_TRUE(nobody(c));
	EXPECT_EQ(EVERING_READY_SPACE, enter(c->fd[0], space_args(0, FAR)));
	EXPECT_TRUE(nobody(c));
	args = wait_args(1, 1, FAR);
	args.generation++;
	EXPECT_EQ(-ECONNRESET, enter(c->fd[0], args));
	EXPECT_TRUE(nobody(c));
	EXPECT_EQ(0, nr_sleepers(c->fd[0], 0));
	EXPECT_EQ(0, nr_sleepers(c->fd[0], 1));
}

TEST_F(doorbell, wake_at_is_the_last_entry_wanted)
{
	static const unsigned int wanted[] = { 1, 3, CQ_ENTRIES, 2 };
	struct channel *c = &self->c;
	struct sleeper s;
	uint64_t pos = 0;
	int i, n;

	for (i = 0; i < 4; i++) {
		uint64_t last = pos + wanted[i] - 1;

		start(&s, c->fd[0], wait_args(pos, wanted[i], FAR));
		ASSERT_TRUE(UNTIL(wake_at(c, CQ) != EVERING_NOBODY));
		ASSERT_LE(0, times_slept(&s));
		EXPECT_EQ(last, wake_at(c, CQ));
		EXPECT_EQ(last, load(&header_of(c, 1)->ring[CQ].wake_at));
		EXPECT_EQ(EVERING_NOBODY, space_at(c, CQ));
		EXPECT_EQ(EVERING_NOBODY, wake_at(c, SQ));
		EXPECT_EQ(EVERING_NOBODY, space_at(c, SQ));
		EXPECT_EQ(1, nr_sleepers(c->fd[1], 0));
		for (n = 0; n < wanted[i]; n++) {
			EXPECT_FALSE(done(&s));
			commit(c, CQ, pos + n, EVERING_COMMITTED);
			EXPECT_EQ(pos + n == last, wake_due(c, CQ, pos + n));
		}
		ASSERT_EQ(0, do_wake(c->fd[1]));
		/* Taken back by the doorbell, not by the one who wakes. */
		EXPECT_EQ(EVERING_NOBODY, wake_at(c, CQ));
		EXPECT_EQ(0, nr_sleepers(c->fd[1], 0));
		EXPECT_EQ(EVERING_READY_ENTRIES, join(&s));
		pos += wanted[i];
	}
}

TEST_F(doorbell, space_at_is_the_position_that_waits)
{
	struct channel *c = &self->c;
	struct sleeper s;
	uint64_t head = 0, tail;

	fill(c, SQ);
	for (tail = SQ_ENTRIES; tail < 3 * SQ_ENTRIES; tail++) {
		start(&s, c->fd[0], space_args(tail, FAR));
		ASSERT_TRUE(UNTIL(space_at(c, SQ) != EVERING_NOBODY));
		ASSERT_LE(0, times_slept(&s));
		EXPECT_EQ(tail, space_at(c, SQ));
		EXPECT_EQ(tail, load(&header_of(c, 1)->ring[SQ].space_at));
		EXPECT_EQ(EVERING_NOBODY, wake_at(c, SQ));
		EXPECT_EQ(EVERING_NOBODY, wake_at(c, CQ));
		EXPECT_EQ(EVERING_NOBODY, space_at(c, CQ));
		/* Not due for room that was there before; due for the next. */
		EXPECT_FALSE(release(c, SQ, head));
		EXPECT_FALSE(done(&s));
		EXPECT_TRUE(release(c, SQ, ++head));
		ASSERT_EQ(0, do_wake(c->fd[1]));
		EXPECT_EQ(EVERING_NOBODY, space_at(c, SQ));
		EXPECT_EQ(EVERING_READY_SPACE, join(&s));
		commit(c, SQ, tail, EVERING_COMMITTED);
	}
}

TEST_F(doorbell, words_tell_of_the_first_of_several)
{
	struct channel *c = &self->c;
	struct sleeper far, near, space;

	fill(c, SQ);
	start(&far, c->fd[0], wait_args(0, 5, FAR));
	ASSERT_TRUE(UNTIL(wake_at(c, CQ) == 4));
	start(&space, c->fd[0], space_args(SQ_ENTRIES, FAR));
	ASSERT_TRUE(UNTIL(space_at(c, SQ) == SQ_ENTRIES));
	EXPECT_EQ(4, wake_at(c, CQ));
	start(&near, c->fd[0], wait_args(0, 2, FAR));
	ASSERT_TRUE(UNTIL(wake_at(c, CQ) == 1));
	EXPECT_EQ(3, nr_sleepers(c->fd[0], 0));
	ASSERT_LE(0, times_slept(&far));
	ASSERT_LE(0, times_slept(&near));
	ASSERT_LE(0, times_slept(&space));

	commit_range(c, CQ, 0, 2);
	ASSERT_EQ(0, do_wake(c->fd[1]));
	EXPECT_EQ(4, wake_at(c, CQ));
	EXPECT_EQ(SQ_ENTRIES, space_at(c, SQ));
	EXPECT_EQ(EVERING_READY_ENTRIES, join(&near));
	EXPECT_EQ(2, nr_sleepers(c->fd[0], 0));
	EXPECT_FALSE(done(&far));
	EXPECT_FALSE(done(&space));

	release(c, SQ, 1);
	ASSERT_EQ(0, do_wake(c->fd[1]));
	EXPECT_EQ(4, wake_at(c, CQ));
	EXPECT_EQ(EVERING_NOBODY, space_at(c, SQ));
	EXPECT_EQ(EVERING_READY_SPACE, join(&space));
	EXPECT_FALSE(done(&far));

	commit_range(c, CQ, 2, 5);
	ASSERT_EQ(0, do_wake(c->fd[1]));
	EXPECT_EQ(EVERING_READY_ENTRIES, join(&far));
	EXPECT_TRUE(nobody(c));
}

/* The words of both sides are apart: each rings for the other. */
TEST_F(doorbell, both_sides_sleep_at_once)
{
	struct channel *c = &self->c;
	struct sleeper a, b;

	start(&a, c->fd[0], wait_args(0, 1, FAR));
	start(&b, c->fd[1], wait_args(0, 2, FAR));
	ASSERT_TRUE(UNTIL(wake_at(c, CQ) == 0 && wake_at(c, SQ) == 1));
	EXPECT_EQ(1, nr_sleepers(c->fd[0], 0));
	EXPECT_EQ(1, nr_sleepers(c->fd[0], 1));
	commit(c, CQ, 0, EVERING_COMMITTED);
	ASSERT_EQ(0, do_wake(c->fd[1]));
	EXPECT_EQ(EVERING_READY_ENTRIES, join(&a));
	EXPECT_EQ(1, wake_at(c, SQ));
	EXPECT_FALSE(done(&b));
	commit_range(c, SQ, 0, 2);
	ASSERT_EQ(0, do_wake(c->fd[0]));
	EXPECT_EQ(EVERING_READY_ENTRIES, join(&b));
	EXPECT_TRUE(nobody(c));
}

TEST_F(doorbell, words_are_back_after_a_time_out)
{
	struct channel *c = &self->c;
	struct sleeper longer, s;

	fill(c, SQ);
	start(&longer, c->fd[0], wait_args(0, 7, FAR));
	ASSERT_TRUE(UNTIL(wake_at(c, CQ) == 6));
	start(&s, c->fd[0], both_args(0, 1, SQ_ENTRIES, 300));
	ASSERT_TRUE(UNTIL(wake_at(c, CQ) == 0));
	EXPECT_EQ(SQ_ENTRIES, space_at(c, SQ));
	EXPECT_EQ(-ETIME, join(&s));
	/* To what is still wanted. */
	EXPECT_EQ(6, wake_at(c, CQ));
	EXPECT_EQ(EVERING_NOBODY, space_at(c, SQ));
	EXPECT_EQ(1, nr_sleepers(c->fd[0], 0));
	EXPECT_FALSE(done(&longer));
	commit_range(c, CQ, 0, 7);
	ASSERT_EQ(0, do_wake(c->fd[1]));
	EXPECT_EQ(EVERING_READY_ENTRIES, join(&longer));
	EXPECT_TRUE(nobody(c));
	EXPECT_EQ(0, nr_sleepers(c->fd[0], 0));
}

/* ------------------------------------------------------------- doorbells */

TEST_F(doorbell, a_doorbell_too_early_wakes_nobody)
{
	struct channel *c = &self->c;
	struct sleeper s;
	long slept;
	int i;

	fill(c, SQ);
	start(&s, c->fd[0], both_args(0, 3, SQ_ENTRIES, FAR));
	ASSERT_TRUE(UNTIL(wake_at(c, CQ) == 2));
	sleep_ms(20);
	slept = times_slept(&s);
	ASSERT_LE(1, slept);
	for (i = 0; i < 100; i++) {
		/* Nothing; then too little. */
		if (i == 30)
			commit(c, CQ, 0, EVERING_COMMITTED);
		if (i == 60)
			commit(c, CQ, 1, EVERING_COMMITTED);
		EXPECT_EQ(0, do_wake(c->fd[1]));
		EXPECT_EQ(2, wake_at(c, CQ));
		EXPECT_EQ(SQ_ENTRIES, space_at(c, SQ));
		/* The other way round it is nobody's business here. */
		EXPECT_EQ(0, do_wake(c->fd[0]));
	}
	/* It has not even run. */
	EXPECT_EQ(slept, times_slept(&s));
	EXPECT_FALSE(done(&s));
	EXPECT_EQ(2, wake_at(c, CQ));
	EXPECT_EQ(SQ_ENTRIES, space_at(c, SQ));
	EXPECT_EQ(1, nr_sleepers(c->fd[0], 0));

	commit(c, CQ, 2, EVERING_COMMITTED);
	EXPECT_EQ(0, do_wake(c->fd[1]));
	EXPECT_EQ(EVERING_READY_ENTRIES, join(&s));
}

TEST_F(doorbell, a_doorbell_wakes_those_whose_wish_has_come_true)
{
	struct channel *c = &self->c;
	struct sleeper s[5];
	long slept[5];
	int i;

	for (i = 0; i < 5; i++)
		start(&s[i], c->fd[0], wait_args(0, 2 * i + 1, FAR));
	ASSERT_TRUE(UNTIL(nr_sleepers(c->fd[0], 0) == 5));
	sleep_ms(20);
	for (i = 0; i < 5; i++)
		slept[i] = times_slept(&s[i]);
	commit_range(c, CQ, 0, 5);
	ASSERT_EQ(0, do_wake(c->fd[1]));
	/* One, three and five are there. */
	EXPECT_EQ(6, wake_at(c, CQ));
	for (i = 0; i < 3; i++)
		EXPECT_EQ(EVERING_READY_ENTRIES, join(&s[i]));
	sleep_ms(20);
	for (i = 3; i < 5; i++) {
		EXPECT_FALSE(done(&s[i]));
		EXPECT_EQ(slept[i], times_slept(&s[i]));
	}
	EXPECT_EQ(2, nr_sleepers(c->fd[0], 0));
	commit_range(c, CQ, 5, 9);
	ASSERT_EQ(0, do_wake(c->fd[1]));
	EXPECT_EQ(EVERING_READY_ENTRIES, join(&s[3]));
	EXPECT_EQ(EVERING_READY_ENTRIES, join(&s[4]));
	EXPECT_TRUE(nobody(c));
}

struct player {
	pthread_t thread;
	struct channel *c;
	int side;
	unsigned int rounds;
	unsigned int enters;
	unsigned int doorbells;
	int ret;
};

/* Side A serves; a round trip is one commit and one wait on each side. */
static void *play(void *arg)
{
	struct player *p = arg;
	int theirs = !p->side;
	unsigned int i;

	for (i = 0; i < p->rounds + p->side; i++) {
		struct evering_enter args = wait_args(i, 1, FAR);

		/* B answers what it has waited for before. */
		if (i >= p->side) {
			uint64_t pos = i - p->side;

			commit(p->c, p->side, pos, EVERING_COMMITTED);
			if (wake_due(p->c, p->side, pos)) {
				args.flags |= EVERING_ENTER_WAKE_PEER;
				p->doorbells++;
			}
		}
		if (i == p->rounds)	/* the last answer; nothing follows */
			args.flags &= ~EVERING_ENTER_WAIT;
		p->enters++;
		p->ret = enter(p->c->fd[p->side], args);
		if (i == p->rounds)
			break;
		if (p->ret != EVERING_READY_ENTRIES)
			return NULL;
		if (judge(p->c, theirs, i) != EVERING_SLOT_READY) {
			p->ret = -EPROTO;
			return NULL;
		}
		release(p->c, theirs, i + 1);
	}
	return NULL;
}

TEST_F(doorbell, one_call_wakes_the_peer_and_waits)
{
	struct player p[2] = {
		{ .c = &self->c, .side = 0, .rounds = 2000 },
		{ .c = &self->c, .side = 1, .rounds = 2000 },
	};
	int i;

	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, pthread_create(&p[i].thread, NULL, play, &p[i]));
	for (i = 0; i < 2; i++)
		pthread_join(p[i].thread, NULL);
	EXPECT_EQ(EVERING_READY_ENTRIES, p[0].ret);
	EXPECT_EQ(0, p[1].ret);
	EXPECT_EQ(2000, p[0].enters);
	EXPECT_EQ(2001, p[1].enters);
	/* And most of them have found the peer asleep. */
	EXPECT_LT(1000, p[0].doorbells + p[1].doorbells);
	EXPECT_TRUE(nobody(&self->c));
}

TEST_HARNESS_MAIN
