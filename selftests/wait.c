// SPDX-License-Identifier: GPL-2.0
/*
 * ENTER that waits: what ends it, what it answers, what it refuses, and how many
 * may sleep at once.  All that blocks in the library is this one call.
 */
#include "sleepers.h"

#define MAX_SLEEPERS	16	/* of one side, in the kernel */

FIXTURE(wait)
{
	struct channel c;
};

FIXTURE_SETUP(wait)
{
	ASSERT_EQ(0, channel_open(&self->c, test_name()));
}

FIXTURE_TEARDOWN(wait)
{
	close_rings(&self->c);
}

/* ------------------------------------------------------ what ends a wait */

TEST_F(wait, an_entry_that_is_there_ends_it_at_once)
{
	struct channel *c = &self->c;
	struct evering_enter args = wait_args(0, 1, 0);

	args.deadline = EVERING_NO_DEADLINE;
	commit(c, CQ, 0, EVERING_COMMITTED);
	EXPECT_EQ(EVERING_READY_ENTRIES, enter(c->fd[0], args));
	args.wait_pos = 1;
	commit(c, CQ, 1, EVERING_SKIPPED);
	EXPECT_EQ(EVERING_READY_ENTRIES, enter(c->fd[0], args));
	/* Still being written. */
	commit(c, CQ, 2, EVERING_RESERVED);
	EXPECT_EQ(-ETIME, wait_for(c->fd[0], 2, 1, 5));
	commit(c, CQ, 2, EVERING_COMMITTED);
	EXPECT_EQ(EVERING_READY_ENTRIES, wait_for(c->fd[0], 2, 1, FAR));
	/* What was there a lap ago is not there now. */
	EXPECT_EQ(-ETIME, wait_for(c->fd[0], CQ_ENTRIES, 1, 5));
	/* Side B likewise. */
	EXPECT_EQ(-ETIME, wait_for(c->fd[1], 0, 1, 5));
	commit(c, SQ, 0, EVERING_COMMITTED);
	EXPECT_EQ(EVERING_READY_ENTRIES, wait_for(c->fd[1], 0, 1, FAR));
}

TEST_F(wait, min_complete_is_exact)
{
	static const unsigned int wanted[] = { 1, 2, 3, CQ_ENTRIES };
	struct channel *c = &self->c;
	uint64_t pos = 5;
	int i;

	commit_range(c, CQ, 0, pos);
	for (i = 0; i < 4; i++) {
		unsigned int n = wanted[i];

		commit_range(c, CQ, pos, pos + n - 1);
		EXPECT_EQ(-ETIME, wait_for(c->fd[0], pos, n, 5));
		commit(c, CQ, pos + n - 1, EVERING_SKIPPED);
		EXPECT_EQ(EVERING_READY_ENTRIES,
			  wait_for(c->fd[0], pos, n, FAR));
		pos += n;
	}
}

TEST_F(wait, room_ends_it)
{
	struct channel *c = &self->c;
	struct evering_enter args = space_args(SQ_ENTRIES - 1, 0);

	args.deadline = EVERING_NO_DEADLINE;
	commit_range(c, SQ, 0, SQ_ENTRIES - 1);
	EXPECT_EQ(EVERING_READY_SPACE, enter(c->fd[0], args));
	commit(c, SQ, SQ_ENTRIES - 1, EVERING_COMMITTED);
	EXPECT_EQ(-ETIME, enter(c->fd[0], space_args(SQ_ENTRIES, 5)));
	release(c, SQ, 1);
	args.space_pos = SQ_ENTRIES;
	EXPECT_EQ(EVERING_READY_SPACE, enter(c->fd[0], args));
	EXPECT_EQ(-ETIME, enter(c->fd[0], space_args(SQ_ENTRIES + 1, 5)));
	/* Side B likewise, in its own ring. */
	fill(c, CQ);
	EXPECT_EQ(-ETIME, enter(c->fd[1], space_args(CQ_ENTRIES, 5)));
	release(c, CQ, CQ_ENTRIES);
	EXPECT_EQ(EVERING_READY_SPACE,
		  enter(c->fd[1], space_args(CQ_ENTRIES, FAR)));
}

TEST_F(wait, either_wish_ends_a_wait_for_both)
{
	struct channel *c = &self->c;
	struct sleeper s;

	fill(c, SQ);
	EXPECT_EQ(-ETIME, enter(c->fd[0], both_args(0, 2, SQ_ENTRIES, 5)));

	start(&s, c->fd[0], both_args(0, 2, SQ_ENTRIES, FAR));
	ASSERT_TRUE(UNTIL(wake_at(c, CQ) == 1));
	EXPECT_EQ(SQ_ENTRIES, space_at(c, SQ));
	commit_range(c, CQ, 0, 2);
	EXPECT_TRUE(wake_due(c, CQ, 1));
	ASSERT_EQ(0, do_wake(c->fd[1]));
	EXPECT_EQ(EVERING_READY_ENTRIES, join(&s));
	EXPECT_TRUE(nobody(c));

	start(&s, c->fd[0], both_args(2, 1, SQ_ENTRIES, FAR));
	ASSERT_TRUE(UNTIL(wake_at(c, CQ) == 2));
	EXPECT_TRUE(release(c, SQ, 1));
	ASSERT_EQ(0, do_wake(c->fd[1]));
	EXPECT_EQ(EVERING_READY_SPACE, join(&s));
	EXPECT_TRUE(nobody(c));

	/* Both are there, whether it sleeps or not. */
	commit(c, SQ, SQ_ENTRIES, EVERING_COMMITTED);
	start(&s, c->fd[0], both_args(2, 1, SQ_ENTRIES + 1, FAR));
	ASSERT_TRUE(UNTIL(wake_at(c, CQ) == 2));
	commit(c, CQ, 2, EVERING_COMMITTED);
	release(c, SQ, 2);
	ASSERT_EQ(0, do_wake(c->fd[1]));
	EXPECT_EQ(EVERING_READY_ENTRIES | EVERING_READY_SPACE, join(&s));
	EXPECT_EQ(EVERING_READY_ENTRIES | EVERING_READY_SPACE,
		  enter(c->fd[0], both_args(2, 1, SQ_ENTRIES + 1, FAR)));
	/* Only what was asked for is answered. */
	EXPECT_EQ(EVERING_READY_ENTRIES, wait_for(c->fd[0], 2, 1, FAR));
	EXPECT_EQ(EVERING_READY_SPACE,
		  enter(c->fd[0], space_args(SQ_ENTRIES + 1, FAR)));
}

TEST_F(wait, who_does_not_wait_gets_zero)
{
	struct channel *c = &self->c;
	struct evering_enter args = wait_args(0, 1, 0);

	commit(c, CQ, 0, EVERING_COMMITTED);
	args.flags = 0;
	EXPECT_EQ(0, enter(c->fd[0], args));
	args.flags = EVERING_ENTER_WAKE_PEER;
	EXPECT_EQ(0, enter(c->fd[0], args));
	/* What belongs to waits is not looked at. */
	args.min_complete = 0;
	args.generation = 77;
	EXPECT_EQ(0, enter(c->fd[0], args));
	args.flags = EVERING_ENTER_WAIT_SPACE;
	args.generation = 0;
	EXPECT_EQ(EVERING_READY_SPACE, enter(c->fd[0], args));
}

/* ------------------------------------------------------- what is refused */

TEST_F(wait, wrong_values_are_refused)
{
	struct channel *c = &self->c;
	struct evering_enter args;
	unsigned int bit;

	EXPECT_EQ(-EINVAL, wait_for(c->fd[0], 0, 0, 5));
	EXPECT_EQ(-EINVAL, wait_for(c->fd[0], 0, CQ_ENTRIES + 1, 5));
	EXPECT_EQ(-EINVAL, wait_for(c->fd[0], 0, ~0U, 5));
	EXPECT_EQ(-ETIME, wait_for(c->fd[0], 0, CQ_ENTRIES, 5));
	/* By the ring that is consumed. */
	EXPECT_EQ(-EINVAL, wait_for(c->fd[1], 0, SQ_ENTRIES + 1, 5));
	EXPECT_EQ(-ETIME, wait_for(c->fd[1], 0, SQ_ENTRIES, 5));
	EXPECT_EQ(-EINVAL, enter(c->fd[0], both_args(0, 0, 0, 5)));
	for (bit = 3; bit < 32; bit++) {
		args = wait_args(0, 1, 5);
		args.flags |= 1U << bit;
		EXPECT_EQ(-EINVAL, enter(c->fd[0], args));
	}
	EXPECT_TRUE(nobody(c));
}

TEST_F(wait, another_generation_is_told)
{
	struct channel *c = &self->c;
	struct evering_enter args;
	int flags;

	fill(c, SQ);
	for (flags = EVERING_ENTER_WAIT;
	     flags <= (EVERING_ENTER_WAIT | EVERING_ENTER_WAIT_SPACE); flags += 2) {
		args = both_args(0, 1, SQ_ENTRIES, FAR);
		args.flags = flags;
		args.generation = header_of(c, 0)->side[1].generation + 1;
		EXPECT_EQ(-ECONNRESET, enter(c->fd[0], args));
		args.generation = ~0U;
		EXPECT_EQ(-ECONNRESET, enter(c->fd[0], args));
	}
	/* What is there is taken first. */
	commit(c, CQ, 0, EVERING_COMMITTED);
	args = wait_args(0, 1, FAR);
	args.generation = 1;
	EXPECT_EQ(EVERING_READY_ENTRIES, enter(c->fd[0], args));
	release(c, SQ, 1);
	args = space_args(SQ_ENTRIES, FAR);
	args.generation = 1;
	EXPECT_EQ(EVERING_READY_SPACE, enter(c->fd[0], args));
}

/* ------------------------------------------------------ many of one side */

TEST_F(wait, only_so_many_of_one_side_sleep)
{
	struct sleeper s[MAX_SLEEPERS + 4];
	struct channel *c = &self->c;
	int i, refused = 0, ended = 0;

	/* Entry 0 is there, and nobody but the last one below wants it. */
	commit(c, CQ, 0, EVERING_COMMITTED);
	fill(c, SQ);
	for (i = 0; i < MAX_SLEEPERS + 4; i++)
		start(&s[i], c->fd[0],
		      i % 2 ? wait_args(1, 1 + i % CQ_ENTRIES, FAR) :
			      both_args(1, 2, SQ_ENTRIES, FAR));
	ASSERT_TRUE(UNTIL(nr_sleepers(c->fd[0], 0) == MAX_SLEEPERS));
	sleep_ms(50);
	EXPECT_EQ(MAX_SLEEPERS, nr_sleepers(c->fd[0], 0));
	for (i = 0; i < MAX_SLEEPERS + 4; i++) {
		if (!done(&s[i]))
			continue;
		refused++;
		EXPECT_EQ(-EBUSY, s[i].ret);
	}
	EXPECT_EQ(4, refused);
	EXPECT_EQ(-EBUSY, wait_for(c->fd[0], 1, 1, FAR));
	EXPECT_EQ(-EBUSY, enter(c->fd[0], space_args(SQ_ENTRIES, FAR)));
	/* Not too many to see what is there. */
	EXPECT_EQ(EVERING_READY_ENTRIES, wait_for(c->fd[0], 0, 1, FAR));
	/* The other side has places of its own. */
	EXPECT_EQ(-ETIME, wait_for(c->fd[1], SQ_ENTRIES, 1, 20));
	EXPECT_EQ(MAX_SLEEPERS, nr_sleepers(c->fd[0], 0));

	EXPECT_EQ(0, do_shutdown(c->fd[1], EVERING_SHUT_WR | EVERING_SHUT_RD));
	for (i = 0; i < MAX_SLEEPERS + 4; i++) {
		int ret = join(&s[i]);

		/* Who waits for room as well learns of the end of that. */
		ended += ret == (i % 2 ? -ESHUTDOWN : -EPIPE);
	}
	EXPECT_EQ(MAX_SLEEPERS, ended);
	EXPECT_TRUE(nobody(c));
	EXPECT_EQ(0, nr_sleepers(c->fd[0], 0));
}

TEST_F(wait, a_place_is_free_again)
{
	struct sleeper s[MAX_SLEEPERS];
	struct channel *c = &self->c;
	int i, round;

	for (round = 0; round < 3; round++) {
		for (i = 0; i < MAX_SLEEPERS; i++)
			start(&s[i], c->fd[0], wait_args(round, 1,
							 round ? FAR : 200));
		if (!round) {
			for (i = 0; i < MAX_SLEEPERS; i++)
				EXPECT_EQ(-ETIME, join(&s[i]));
		} else {
			ASSERT_TRUE(UNTIL(nr_sleepers(c->fd[0], 0) ==
					  MAX_SLEEPERS));
			EXPECT_EQ(-EBUSY, wait_for(c->fd[0], round, 1, FAR));
		}
		commit(c, CQ, round, EVERING_COMMITTED);
		ASSERT_EQ(0, do_wake(c->fd[1]));
		for (i = 0; round && i < MAX_SLEEPERS; i++)
			EXPECT_EQ(EVERING_READY_ENTRIES, join(&s[i]));
		EXPECT_EQ(0, nr_sleepers(c->fd[0], 0));
	}
}

TEST_HARNESS_MAIN
