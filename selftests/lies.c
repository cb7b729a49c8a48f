// SPDX-License-Identifier: GPL-2.0
/*
 * Heads, positions and stamps that are wrong.  A process writes its section as it
 * likes, and the kernel reads it in ENTER and in poll(): it may answer nonsense to
 * who has lied, but must neither hang nor stumble.
 */
#include "sleepers.h"

/* Where the kernel and the peer may stumble. */
static const uint64_t hostile[] = {
	0, 1, SQ_ENTRIES, CQ_ENTRIES, 1ULL << 32, 1ULL << 63, ~0ULL,
	~0ULL - SQ_ENTRIES, ~0ULL - CQ_ENTRIES,
};

#define NR_HOSTILE	ARRAY_SIZE(hostile)

FIXTURE(lies)
{
	struct channel c;
};

FIXTURE_SETUP(lies)
{
	ASSERT_EQ(0, channel_open(&self->c, test_name()));
}

FIXTURE_TEARDOWN(lies)
{
	close_rings(&self->c);
}

/* --------------------------------------------------- heads and positions */

/* What ENTER of side A returns for any positions; see kmod/wait.c. */
static int expected(struct channel *c, const struct evering_enter *args)
{
	uint64_t last = args->wait_pos + args->min_complete - 1;
	int ready = 0;

	if ((args->flags & EVERING_ENTER_WAIT) &&
	    judge(c, CQ, args->wait_pos) != EVERING_SLOT_NOT_YET &&
	    judge(c, CQ, last) != EVERING_SLOT_NOT_YET)
		ready |= EVERING_READY_ENTRIES;
	if ((args->flags & EVERING_ENTER_WAIT_SPACE) &&
	    args->space_pos - load(&control_of(c, 1)->head) != SQ_ENTRIES)
		ready |= EVERING_READY_SPACE;
	if (!ready && (args->flags & ~EVERING_ENTER_WAKE_PEER))
		return -ETIME;
	return ready;
}

/* One call, and it must return what is to be expected, and soon. */
static void enter_as_expected(struct __test_metadata *_metadata,
			      struct channel *c, struct evering_enter args)
{
	uint64_t begin = now_ns();

	ASSERT_EQ(expected(c, &args), enter(c->fd[0], args)) {
		TH_LOG("flags %x wait_pos %llx min_complete %u space_pos %llx",
		       args.flags, args.wait_pos, args.min_complete,
		       args.space_pos);
	}
	ASSERT_LT(now_ns(), begin + SOON * MS);
}

static void enter_at(struct __test_metadata *_metadata, struct channel *c,
		     uint64_t wait_pos, uint64_t space_pos)
{
	static const unsigned int wanted[] = { 1, 2, CQ_ENTRIES };
	int i;

	for (i = 0; i < 3 * 8; i++) {
		/* Where both are the same it sleeps, for a moment. */
		struct evering_enter args = both_args(wait_pos, wanted[i / 8],
						      space_pos,
						      wait_pos == space_pos);

		args.flags = i % 8;
		enter_as_expected(_metadata, c, args);
	}
}

TEST_F(lies, hostile_positions_do_no_harm)
{
	struct channel *c = &self->c;
	int i, round;

	/* Empty rings, then full ones. */
	for (round = 0; round < 2; round++) {
		for (i = 0; i < NR_HOSTILE * NR_HOSTILE; i++)
			enter_at(_metadata, c, hostile[i % NR_HOSTILE],
				 hostile[i / NR_HOSTILE]);
		fill(c, CQ);
		fill(c, SQ);
	}
	EXPECT_TRUE(nobody(c));
	EXPECT_EQ(0, nr_sleepers(c->fd[0], 0));
	/* It has only fooled itself. */
	commit(c, CQ, CQ_ENTRIES, EVERING_COMMITTED);
	EXPECT_EQ(EVERING_READY_ENTRIES, wait_for(c->fd[0], CQ_ENTRIES, 1, FAR));
}

static void poll_at_heads(struct __test_metadata *_metadata, struct channel *c,
			  uint64_t head, uint64_t tail, uint64_t peers_head)
{
	short events = 0;

	control_of(c, 0)->head = head;
	control_of(c, 0)->tail = tail;
	control_of(c, 1)->head = peers_head;
	/* The peer's hint is nobody's. */
	control_of(c, 1)->tail = ~tail;
	if (judge(c, CQ, head) != EVERING_SLOT_NOT_YET)
		events |= POLLIN;
	if (tail - peers_head != SQ_ENTRIES)
		events |= POLLOUT;
	ASSERT_EQ(events, poll_now(c->fd[0])) {
		TH_LOG("head %llx tail %llx peer's head %llx",
		       (unsigned long long)head, (unsigned long long)tail,
		       (unsigned long long)peers_head);
	}
}

TEST_F(lies, hostile_heads_do_no_harm)
{
	struct channel *c = &self->c;
	int i, j, k;

	for (i = 0; i < NR_HOSTILE * NR_HOSTILE; i++) {
		uint64_t peers = hostile[i / NR_HOSTILE];
		uint64_t pos = hostile[i % NR_HOSTILE];

		control_of(c, 1)->head = peers;
		/* Its own head is nothing to a producer. */
		control_of(c, 0)->head = hostile[i * 7 % NR_HOSTILE];
		ASSERT_EQ(pos - peers != SQ_ENTRIES ? EVERING_READY_SPACE : -ETIME,
			  enter(c->fd[0], space_args(pos, 0)));
	}
	for (i = 0; i < NR_HOSTILE; i++)
		for (j = 0; j < NR_HOSTILE; j++)
			for (k = 0; k < NR_HOSTILE; k++)
				poll_at_heads(_metadata, c, hostile[i],
					      hostile[j], hostile[k]);
	/* fdinfo reads them too. */
	EXPECT_EQ(0, nr_sleepers(c->fd[0], 0));
}

/* A head that sleepers wait for and that then goes astray: no hang. */
TEST_F(lies, a_head_that_lies_counts_as_room)
{
	struct channel *c = &self->c;
	struct sleeper s;
	int i;

	for (i = 1; i < NR_HOSTILE; i++) {
		control_of(c, 1)->head = 0;
		start(&s, c->fd[0], space_args(SQ_ENTRIES, FAR));
		ASSERT_TRUE(UNTIL(space_at(c, SQ) == SQ_ENTRIES));
		control_of(c, 1)->head = hostile[i];
		ASSERT_EQ(0, do_wake(c->fd[1]));
		EXPECT_EQ(EVERING_READY_SPACE, join(&s));
	}
}

/* ---------------------------------------------------------------- stamps */

static void judge_stamp(struct __test_metadata *_metadata, struct channel *c,
			uint64_t pos, uint64_t stamp, bool ready)
{
	*stamp_of(c, CQ, pos) = stamp;
	control_of(c, 0)->head = pos;
	EXPECT_EQ(ready, judge(c, CQ, pos) != EVERING_SLOT_NOT_YET);
	EXPECT_EQ(ready ? EVERING_READY_ENTRIES : -ETIME,
		  wait_for(c->fd[0], pos, 1, 0)) {
		TH_LOG("pos %llx stamp %llx", (unsigned long long)pos,
		       (unsigned long long)stamp);
	}
	EXPECT_EQ(ready, !!(poll_now(c->fd[0]) & POLLIN));
}

TEST_F(lies, stamps_are_judged_as_the_specification_says)
{
	const uint64_t half = 1ULL << (63 - EVERING_LAP_SHIFT);
	/* How far off a lap is that tells something, whatever the state. */
	const uint64_t lies[] = {
		1, 2, 100, half - 1, half, half + 1, (uint64_t)-3, (uint64_t)-2,
	};
	/* EMPTY to SKIPPED in the right lap; EMPTY is a lie. */
	static const bool now[] = { true, false, true, true };
	/* Count and owner do not matter here. */
	static const uint64_t others[] = {
		0, 0xffULL << EVERING_COUNT_SHIFT,
		0xfffULL << EVERING_OWNER_SHIFT,
		0xfffffULL << EVERING_OWNER_SHIFT,
	};
	static const uint64_t positions[] = { 5, 3 * CQ_ENTRIES + 7, 1ULL << 40 };
	struct channel *c = &self->c;
	int i, j;

	for (i = 0; i < 3 * 4 * 4; i++) {
		uint64_t pos = positions[i / 16], lap = lap_of(c, CQ, pos);
		uint64_t rest = others[i / 4 % 4] | (i % 4);

		judge_stamp(_metadata, c, pos,
			    lap << EVERING_LAP_SHIFT | rest, now[i % 4]);
		judge_stamp(_metadata, c, pos,
			    (lap - 1) << EVERING_LAP_SHIFT | rest, false);
		for (j = 0; j < ARRAY_SIZE(lies); j++)
			judge_stamp(_metadata, c, pos,
				    (lap + lies[j]) << EVERING_LAP_SHIFT | rest,
				    true);
	}
}

TEST_F(lies, garbage_in_stamps_does_no_harm)
{
	struct channel *c = &self->c;
	uint64_t garbage = 0x9e3779b97f4a7c15;
	int i;

	for (i = 0; i < 5000; i++) {
		struct evering_enter args = wait_args(i, 1, 0);
		int slot;

		garbage ^= garbage << 13;
		garbage ^= garbage >> 7;
		garbage ^= garbage << 17;
		/* Often near to what would be right. */
		slot = garbage % CQ_ENTRIES;
		*stamp_of(c, CQ, slot) = i % 3 ? garbage :
			(lap_of(c, CQ, i) + garbage % 5 - 2) <<
			EVERING_LAP_SHIFT | (garbage >> 60);
		args.min_complete = 1 + garbage % CQ_ENTRIES;
		ASSERT_EQ(expected(c, &args), enter(c->fd[0], args));
	}
	EXPECT_TRUE(nobody(c));
}

TEST_HARNESS_MAIN
