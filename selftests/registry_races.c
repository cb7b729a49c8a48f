// SPDX-License-Identifier: GPL-2.0
/*
 * Two things at the same time, over and over: whatever the order, each call does
 * all of it or nothing, and what it says is what has happened.
 */
#include "registry_race.h"

/* ------------------------------------------- OPEN against the last release */

static void find_it(int me)
{
	uint32_t seed = rnd_seed(me);
	struct evering_open args;
	char name[32];

	while (!LOAD(race->stop)) {
		unsigned int round = LOAD(race->round);
		uint64_t token = rnd(&seed) % 2 ? LOAD(race->token[round % SLOTS]) : 0;
		int fd;

		if (!round)
			continue;
		fd = do_open(reg.control, token, token ? "" : round_name(round, name),
			     EVERING_SIDE_A, &args);
		if (fd >= 0) {
			/* Nobody unlinks, so it is active while we have it. */
			must_work(fd, args.token, &args.layout, EVERING_ENTRY_ACTIVE);
			close(fd);
			COUNT(race->worked);
		} else {
			/* A token that was told is never unknown. */
			MUST(fd == -ESTALE || (!token && fd == -ENOENT));
			COUNT(race->refused);
		}
	}
}

TEST_F(race, of_open_and_the_last_release)
{
	unsigned int round;
	uint64_t token;

	start(self, find_it);
	for (round = 1; going(self); round++) {
		int fd = offer(round, &token);

		ASSERT_LE(0, fd);
		dawdle(&self->seed);
		/* Dead by munmap, by close, or by what comes first in exit. */
		if (round % 2) {
			struct evering_layout layout = { .section_size = { PAGE, 2 * PAGE, PAGE } };
			void *own = map_section(fd, &layout, EVERING_SECTION_A, RW);

			ASSERT_NE(MAP_FAILED, own);
			munmap(own, layout.section_size[EVERING_SECTION_A]);
		}
		close(fd);
	}
	EXPECT_EQ(0, stop(self));
	TH_LOG("%u rounds, %u opened, %u too late", round, race->worked, race->refused);
	EXPECT_LT(5, race->worked);
	EXPECT_LT(5, race->refused);
}

/* ------------------------------------------------------ OPEN against UNLINK */

static void find_linked(int me)
{
	uint32_t seed = rnd_seed(me);
	struct evering_open args;
	char name[32];

	while (!LOAD(race->stop)) {
		unsigned int round = LOAD(race->round);
		uint64_t told = LOAD(race->token[round % SLOTS]);
		uint64_t token = rnd(&seed) % 2 ? told : 0;
		uint64_t gone = LOAD(race->gone);
		int fd;

		if (!round)
			continue;
		fd = do_open(reg.control, token, token ? "" : round_name(round, name),
			     EVERING_SIDE_A, &args);
		if (fd >= 0) {
			/* Not one whose UNLINK had returned before. */
			MUST(args.token > gone);
			must_work(fd, args.token, &args.layout, EVERING_ENTRY_MARKED);
			close(fd);
			COUNT(race->worked);
		} else {
			MUST(fd == -ESTALE || (!token && fd == -ENOENT));
			COUNT(race->refused);
		}
	}
}

TEST_F(race, of_open_and_unlink)
{
	unsigned int round;
	uint64_t token, again;
	char name[32];
	int fd, heir, ret;

	start(self, find_linked);
	for (round = 1; going(self); round++) {
		fd = offer(round, &token);
		ASSERT_LE(0, fd);
		dawdle(&self->seed);
		if (round % 2)
			ret = do_unlink(reg.control, token, "");
		else
			ret = do_unlink(reg.control, 0, round_name(round, name));
		ASSERT_EQ(0, ret);
		STORE(race->gone, token);
		/* The name is free at once, who has it open keeps it. */
		heir = do_create(reg.control, EVERING_KIND_BUFFER, round_name(round, name),
				 &again);
		ASSERT_LE(0, heir);
		ASSERT_EQ(-ESTALE, do_unlink(reg.control, token, ""));
		ASSERT_EQ(EVERING_STATE_PENDING, peer_state(fd));
		close(fd);
		close(heir);
	}
	EXPECT_EQ(0, stop(self));
	TH_LOG("%u rounds, %u opened, %u too late", round, race->worked, race->refused);
	EXPECT_LT(5, race->worked);
	EXPECT_LT(5, race->refused);
}

/* ----------------------------------------------------------- exactly one wins */

#define ROUNDS		30	/* at least, if the machine is slow */

/* All at once; then the first one looks at what became of it. */
static void compete(int me, int (*once)(unsigned int round))
{
	unsigned int round;

	for (round = 1;; round++) {
		int fd;

		meet(WORKERS + 1, 3 * round - 2);
		if (LOAD(race->stop))
			return;
		fd = once(round);
		race->result[me] = fd;
		meet(WORKERS + 1, 3 * round - 1);
		/* The judge looks at it now. */
		meet(WORKERS + 1, 3 * round);
		if (fd >= 0)
			close(fd);
	}
}

/* The winner, or -1 where there is none or more than one. */
static int judge(int lost)
{
	int i, winner = -1;

	for (i = 0; i < WORKERS; i++) {
		if (race->result[i] >= 0 && winner < 0)
			winner = i;
		else if (race->result[i] != lost)
			return -1;
	}
	return winner;
}

static int create_same(unsigned int round)
{
	uint64_t token;

	return do_create(reg.control, EVERING_KIND_BUFFER, "race.same", &token);
}

static void create_all(int me)
{
	compete(me, create_same);
}

TEST_F(race, of_many_for_one_name)
{
	unsigned int round, won[WORKERS] = { 0 };
	struct evering_open args;
	int winner = 0, fd;

	start(self, create_all);
	for (round = 1; winner >= 0; round++) {
		if (!going(self) && round > ROUNDS)
			STORE(race->stop, true);
		meet(WORKERS + 1, 3 * round - 2);
		if (race->stop)
			break;
		meet(WORKERS + 1, 3 * round - 1);
		winner = judge(-EEXIST);
		if (winner >= 0)
			won[winner]++;
		/* One entry is active, and it is what the name finds. */
		EXPECT_EQ(1, reg.header->active_count);
		fd = do_open(reg.control, 0, "race.same", EVERING_SIDE_B, &args);
		EXPECT_LE(0, fd);
		close(fd);
		meet(WORKERS + 1, 3 * round);
		/* They close it in their time; the next must find the name free. */
		while (LOAD(reg.header->active_count))
			sched_yield();
	}
	EXPECT_LE(0, winner) {
		TH_LOG("round %u: %d, %d and %d", round, race->result[0], race->result[1],
		       race->result[2]);
	}
	EXPECT_EQ(0, stop(self));
	TH_LOG("%u rounds, %u to %u to %u", round, won[0], won[1], won[2]);
	/* It is not always the same one. */
	EXPECT_GT(round - 1, won[0]);
	EXPECT_GT(round - 1, won[1]);
}

static int open_same(unsigned int round)
{
	struct evering_open args;

	return do_open(reg.control, race->token[0], "", EVERING_SIDE_B, &args);
}

static void open_all(int me)
{
	compete(me, open_same);
}

TEST_F(race, of_many_for_one_side)
{
	unsigned int round, won[WORKERS] = { 0 };
	struct evering_open args;
	int winner = 0, fd;
	uint64_t token;

	start(self, open_all);
	for (round = 1; winner >= 0; round++) {
		fd = do_create(reg.control, EVERING_KIND_CHANNEL, "", &token);
		ASSERT_LE(0, fd);
		STORE(race->token[0], token);
		if (!going(self) && round > ROUNDS)
			STORE(race->stop, true);
		meet(WORKERS + 1, 3 * round - 2);
		if (race->stop)
			break;
		meet(WORKERS + 1, 3 * round - 1);
		winner = judge(-EBUSY);
		if (winner >= 0)
			won[winner]++;
		EXPECT_EQ(2, entry_of(&reg, EVERING_TOKEN_INDEX(token))->ref_count);
		EXPECT_EQ(EVERING_STATE_OPEN, peer_state(fd));
		meet(WORKERS + 1, 3 * round);
		while (peer_state(fd) == EVERING_STATE_OPEN)
			sched_yield();
		/* Dead is final: nobody takes it up. */
		EXPECT_EQ(-EPIPE, do_open(reg.control, token, "", EVERING_SIDE_B, &args));
		close(fd);
	}
	close(fd);
	EXPECT_LE(0, winner) {
		TH_LOG("round %u: %d, %d and %d", round, race->result[0], race->result[1],
		       race->result[2]);
	}
	EXPECT_EQ(0, stop(self));
	TH_LOG("%u rounds, %u to %u to %u", round, won[0], won[1], won[2]);
	/* It is not always the same one. */
	EXPECT_GT(round - 1, won[0]);
	EXPECT_GT(round - 1, won[1]);
}

/* ------------------------------------------------------------------- epoch */

/*
 * What a program does that keeps tokens which it has looked up, or found in its
 * map: the epoch, then the token, then the epoch tells whether it still holds.
 */
static void keep_tokens(int me)
{
	uint32_t seed = rnd_seed(me);
	struct evering_registry_entry entry;
	struct evering_open args;

	while (!LOAD(race->stop)) {
		uint64_t epoch = epoch_now(&reg);
		uint64_t token = LOAD(race->token[LOAD(race->round) % SLOTS]);
		uint32_t index = EVERING_TOKEN_INDEX(token);
		int fd = token ? do_open(reg.control, token, "", EVERING_SIDE_A, &args) : -1;
		int i;

		if (fd < 0)
			continue;
		if (rnd(&seed) % 2) {
			close(fd);
			fd = -1;
		}
		COUNT(race->worked);
		/* Not for ever, as it may be what keeps it alive. */
		for (i = 0; i < 300 && epoch_now(&reg) == epoch; i++) {
			int again;

			MUST(snapshot(&reg, index, &entry, NULL));
			if (entry.token != token) {
				/* Its memory may have gone. */
				MUST(epoch_now(&reg) != epoch);
			} else if (entry.state != EVERING_ENTRY_ACTIVE) {
				/* It rises in the same step, as a call sees it. */
				COUNT(race->not_found);
				again = do_open(reg.control, ~0ULL, "", 0, &args);
				MUST(again == -ENOENT);
				MUST(epoch_now(&reg) != epoch);
			}
			if (rnd(&seed) % 4)
				continue;
			again = do_open(reg.control, token, "", EVERING_SIDE_B, &args);
			if (again >= 0) {
				close(again);
				continue;
			}
			MUST(again == -ESTALE);
			MUST(epoch_now(&reg) != epoch);
			COUNT(race->refused);
		}
		if (fd >= 0)
			close(fd);
	}
}

TEST_F(race, of_cached_tokens_and_the_epoch)
{
	uint64_t first = epoch_now(&reg), token;
	unsigned int round;

	start(self, keep_tokens);
	for (round = 1; going(self); round++) {
		int fd = offer(round, &token), i;

		ASSERT_LE(0, fd);
		for (i = rnd(&self->seed) % 16; i; i--)
			dawdle(&self->seed);
		if (round % 2)
			ASSERT_EQ(0, do_unlink(reg.control, token, ""));
		close(fd);
		/* Those who have it open may be its last. */
		while (epoch_now(&reg) == first + round - 1 && going(self))
			sched_yield();
		if (going(self))
			ASSERT_EQ(first + round, epoch_now(&reg));
	}
	EXPECT_EQ(0, stop(self));
	/* Once for each that has left ACTIVE. */
	EXPECT_EQ(first + round - 1, epoch_now(&reg));
	TH_LOG("%u rounds, %u cached, %u refused, %u seen before the epoch", round,
	       race->worked, race->refused, race->not_found);
	EXPECT_LT(5, race->worked);
	EXPECT_LT(0, race->refused);
}

TEST_HARNESS_MAIN
