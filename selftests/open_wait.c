// SPDX-License-Identifier: GPL-2.0
/*
 * ENTER, SHUTDOWN and poll where a ring, or a peer to wait for, is missing: on
 * queues, topics and buffers.  What cannot come true is refused at once, and
 * nobody sleeps for it.
 */
#include "sections.h"
#include "registry_test.h"

#define READERS	3

/* Side A and the first side B in @c, every side B in @b; all are mapped. */
struct ends {
	struct channel c;
	struct channel b[READERS];
	int reader[READERS];
};

static int ends_open(struct ends *g, int kind)
{
	int i, ret;

	memset(g, 0, sizeof(*g));
	ret = uring_open(&g->c, kind);
	g->b[0] = g->c;
	for (i = 0; !ret && i < (many_on[kind][1] ? READERS : 1); i++) {
		if (i) {
			g->b[i].layout = g->c.layout;
			g->b[i].fd[1] = open_token(g->c.token, EVERING_SIDE_B);
			if (g->b[i].fd[1] < 0)
				return g->b[i].fd[1];
			ret = map_as_allowed(&g->b[i], kind, 1);
		}
		g->reader[i] = g->b[i].fd[1];
	}
	return ret;
}

static void close_readers(struct ends *g)
{
	int i;

	for (i = 0; i < READERS; i++)
		unmap_and_close(&g->b[i], 1);
}

static int do_shutdown(int fd, uint32_t how)
{
	struct evering_shutdown args = { .size = sizeof(args), .how = how };

	return call(fd, EVERING_IOC_SHUTDOWN, &args);
}

static int do_nothing(int fd)
{
	struct evering_enter args = { .size = sizeof(args) };

	return call(fd, EVERING_IOC_ENTER, &args);
}

static void sleeps_for_entries(struct sleeper *s, int fd, uint64_t pos)
{
	*s = (struct sleeper){ .fd = fd, .enter = wait_args(pos, 1, LONG_MS) };
}

/* ------------------------------------------------------------------ buffers */

TEST(buffer_has_nothing_to_wait_for)
{
	struct ends g;
	uint64_t since;
	int side, how;

	ASSERT_EQ(0, ends_open(&g, EVERING_KIND_BUFFER));
	for (side = 0; side < 2; side++) {
		int fd = g.c.fd[side];
		struct pollfd p = { .fd = fd, .events = -1 };

		since = now_ns();
		EXPECT_EQ(-EINVAL, do_wait(fd, 0, 1, LONG_MS));
		EXPECT_EQ(-EINVAL, do_wait(fd, 0, 0, LONG_MS));
		EXPECT_EQ(-EINVAL, do_wait(fd, -1ULL, UINT32_MAX, LONG_MS));
		EXPECT_EQ(-EINVAL, do_wait_space(fd, 0, LONG_MS));
		EXPECT_EQ(-EINVAL, do_wait_space(fd, -1ULL, LONG_MS));
		EXPECT_GT(PROMPT_NS, now_ns() - since);
		EXPECT_EQ(0, do_wake(fd));
		EXPECT_EQ(0, do_nothing(fd));
		/* Poll is ready for nothing, and stays so. */
		EXPECT_EQ(0, poll(&p, 1, 50)) TH_LOG("events %x", p.revents);
		/* The end of one of many is not the end of the stream. */
		for (how = EVERING_SHUT_WR; how <= 3; how++)
			EXPECT_EQ(-EOPNOTSUPP, do_shutdown(fd, how));
		EXPECT_EQ(-EINVAL, do_shutdown(fd, 0));
		EXPECT_EQ(-EINVAL, do_shutdown(fd, 4));
	}
	EXPECT_EQ(0, control_of(&g.c, 0)->closed);
	EXPECT_EQ(0, ((struct evering_control *)g.c.map[1][2])->closed);
}

/* The peers may go, and come again: that is no hang-up. */
TEST(buffer_without_peers_is_not_hung_up)
{
	struct ends g;

	ASSERT_EQ(0, ends_open(&g, EVERING_KIND_BUFFER));
	close_readers(&g);
	EXPECT_EQ(EVERING_STATE_PENDING, state_of(&g.c, 1, 0));
	EXPECT_EQ(0, poll_now(g.c.fd[0]) & (POLLHUP | POLLERR | POLLRDHUP));
	EXPECT_EQ(0, do_wake(g.c.fd[0]));
	/* But who is dead is told so. */
	munmap(g.c.map[0][1], g.c.layout.section_size[1]);
	EXPECT_EQ(POLLERR, poll_now(g.c.fd[0]) & (POLLHUP | POLLERR));
	EXPECT_EQ(-EBADFD, do_wake(g.c.fd[0]));
}

/* ------------------------------------------------------------------- topics */

TEST(topic_refuses_to_wait_for_readers)
{
	struct ends g;
	uint64_t since = now_ns();
	int i;

	ASSERT_EQ(0, ends_open(&g, EVERING_KIND_TOPIC));
	/* No answers, and no reader that could hold the publisher up. */
	EXPECT_EQ(-EINVAL, do_wait(g.c.fd[0], 0, 1, LONG_MS));
	EXPECT_EQ(-EINVAL, do_wait_space(g.c.fd[0], 0, LONG_MS));
	EXPECT_EQ(-EINVAL, do_wait_space(g.c.fd[0], 4, LONG_MS));
	for (i = 0; i < READERS; i++)
		EXPECT_EQ(-EINVAL, do_wait_space(g.reader[i], 0, LONG_MS));
	EXPECT_EQ(-EINVAL, do_wait(g.reader[0], 0, 5, LONG_MS));
	EXPECT_GT(PROMPT_NS, now_ns() - since);
	/* There is room however much has been published. */
	for (i = 0; i < 9; i++) {
		EXPECT_EQ(POLLOUT, poll_now(g.c.fd[0]));
		commit(&g.c, EVERING_RING_SQ, i, EVERING_COMMITTED);
		EXPECT_EQ(0, do_wake(g.c.fd[0]));
	}
}

TEST(topic_wakes_all_its_readers)
{
	struct sleeper s[READERS];
	struct ends g;
	uint64_t since;
	int i;

	ASSERT_EQ(0, ends_open(&g, EVERING_KIND_TOPIC));
	for (i = 0; i < READERS; i++) {
		EXPECT_EQ(-ETIME, do_wait(g.reader[i], 0, 1, 0));
		sleeps_for_entries(&s[i], g.reader[i], 0);
		ASSERT_TRUE(sleeper_start(&s[i], sleep_in_enter, SYS_ioctl));
	}
	commit(&g.c, EVERING_RING_SQ, 0, EVERING_COMMITTED);
	since = now_ns();
	EXPECT_EQ(0, do_wake(g.c.fd[0]));
	for (i = 0; i < READERS; i++) {
		EXPECT_GT(PROMPT_NS, sleeper_join(&s[i], since));
		EXPECT_EQ(EVERING_READY_ENTRIES, s[i].result);
	}
	/* Each reads on by itself. */
	EXPECT_EQ(EVERING_READY_ENTRIES, do_wait(g.reader[1], 0, 1, 0));
	EXPECT_EQ(-ETIME, do_wait(g.reader[1], 1, 1, 0));
}

TEST(topic_tells_its_readers_of_the_end)
{
	struct sleeper s[READERS];
	struct ends g;
	uint64_t since;
	int i, how;

	for (how = 0; how < 2; how++) {
		ASSERT_EQ(0, ends_open(&g, EVERING_KIND_TOPIC));
		commit(&g.c, EVERING_RING_SQ, 0, EVERING_COMMITTED);
		for (i = 0; i < READERS; i++) {
			sleeps_for_entries(&s[i], g.reader[i], 1);
			ASSERT_TRUE(sleeper_start(&s[i], sleep_in_enter, SYS_ioctl));
		}
		since = now_ns();
		if (how)
			munmap(g.c.map[0][1], g.c.layout.section_size[1]);
		else
			EXPECT_EQ(0, do_shutdown(g.c.fd[0], EVERING_SHUT_WR));
		for (i = 0; i < READERS; i++) {
			EXPECT_GT(PROMPT_NS, sleeper_join(&s[i], since));
			EXPECT_EQ(how ? -EPIPE : -ESHUTDOWN, s[i].result);
			/* What was published before can still be read. */
			EXPECT_EQ(EVERING_READY_ENTRIES, do_wait(g.reader[i], 0, 1, 0));
			EXPECT_EQ(how ? -EPIPE : 0, do_wake(g.reader[i]));
			EXPECT_EQ(POLLRDHUP | (how ? POLLHUP : 0),
				  poll_now(g.reader[i]) & (POLLRDHUP | POLLHUP | POLLERR));
		}
	}
}

TEST(topic_is_polled_by_its_readers)
{
	struct sleeper s[READERS];
	struct ends g;
	uint64_t since;
	int i;

	ASSERT_EQ(0, ends_open(&g, EVERING_KIND_TOPIC));
	for (i = 0; i < READERS; i++) {
		s[i] = (struct sleeper){ .fd = g.reader[i] };
		ASSERT_TRUE(sleeper_start(&s[i], sleep_in_poll, NR_POLL));
	}
	/* The end is for all of them; where each is, the kernel does not know. */
	since = now_ns();
	EXPECT_EQ(0, do_shutdown(g.c.fd[0], EVERING_SHUT_WR));
	for (i = 0; i < READERS; i++) {
		EXPECT_GT(PROMPT_NS, sleeper_join(&s[i], since));
		EXPECT_EQ(1, s[i].result);
		EXPECT_TRUE(s[i].events & POLLRDHUP);
	}
}

TEST(topic_readers_cannot_end_it)
{
	struct ends g;
	int i, how;

	ASSERT_EQ(0, ends_open(&g, EVERING_KIND_TOPIC));
	for (i = 0; i < READERS; i++)
		for (how = EVERING_SHUT_WR; how <= 3; how++)
			EXPECT_EQ(-EOPNOTSUPP, do_shutdown(g.reader[i], how));
	close_readers(&g);
	EXPECT_EQ(EVERING_STATE_PENDING, state_of(&g.c, 1, 0));
	/* Nobody reads any more; perhaps somebody will. */
	EXPECT_EQ(POLLOUT, poll_now(g.c.fd[0]));
	EXPECT_EQ(0, do_wake(g.c.fd[0]));
	commit(&g.c, EVERING_RING_SQ, 0, EVERING_COMMITTED);
	g.reader[0] = open_token(g.c.token, EVERING_SIDE_B);
	ASSERT_LE(0, g.reader[0]);
	EXPECT_EQ(EVERING_READY_ENTRIES, do_wait(g.reader[0], 0, 1, 0));
}

/* One reader with many threads is in nobody's way but its own. */
TEST(topic_has_sixteen_sleepers_of_each_reader)
{
	struct sleeper s[17];
	struct ends g;
	uint64_t since;
	int i;

	ASSERT_EQ(0, ends_open(&g, EVERING_KIND_TOPIC));
	for (i = 0; i < 17; i++) {
		if (i == 16)
			EXPECT_EQ(-EBUSY, do_wait(g.reader[0], 0, 1, LONG_MS));
		sleeps_for_entries(&s[i], g.reader[i / 16], 0);
		ASSERT_TRUE(sleeper_start(&s[i], sleep_in_enter, SYS_ioctl));
	}
	commit(&g.c, EVERING_RING_SQ, 0, EVERING_COMMITTED);
	since = now_ns();
	EXPECT_EQ(0, do_wake(g.c.fd[0]));
	for (i = 0; i < 17; i++) {
		EXPECT_GT(PROMPT_NS, sleeper_join(&s[i], since));
		EXPECT_EQ(EVERING_READY_ENTRIES, s[i].result);
	}
	EXPECT_EQ(-ETIME, do_wait(g.reader[0], 1, 1, 0));
}

/* Or it would ring the doorbell at every entry, and nobody would be the wiser. */
TEST(topic_that_is_polled_arms_no_word)
{
	const struct evering_ring_words *words;
	struct ends g;
	int i;

	ASSERT_EQ(0, ends_open(&g, EVERING_KIND_TOPIC));
	words = &header_of(&g.c, 0)->ring[EVERING_RING_SQ];
	for (i = 0; i < READERS; i++)
		EXPECT_EQ(0, poll_now(g.reader[i]));
	EXPECT_EQ(POLLOUT, poll_now(g.c.fd[0]));
	EXPECT_EQ(EVERING_NOBODY, words->poll_at);
	EXPECT_EQ(EVERING_NOBODY, words->poll_space_at);
	commit(&g.c, EVERING_RING_SQ, 0, EVERING_COMMITTED);
	EXPECT_EQ(0, poll_now(g.reader[0]));
}

/* ------------------------------------------------------------------- queues */

/* What the kernel walks by: the positions in the call do not matter. */
TEST(queue_goes_one_way)
{
	struct sleeper s;
	struct ends g;
	uint64_t since, pos, *claims;

	ASSERT_EQ(0, ends_open(&g, EVERING_KIND_QUEUE));
	ASSERT_NE(0, g.c.layout.claims_offset[0]);
	EXPECT_EQ(0, g.c.layout.claims_offset[1]);
	claims = (uint64_t *)(void *)((char *)control_of(&g.c, 1) +
				      g.c.layout.claims_offset[0]);
	since = now_ns();
	EXPECT_EQ(-EINVAL, do_wait(g.c.fd[0], 0, 1, LONG_MS));
	EXPECT_EQ(-EINVAL, do_wait(g.c.fd[1], 0, 2, LONG_MS));
	EXPECT_EQ(-EINVAL, do_wait_space(g.c.fd[1], 0, LONG_MS));
	EXPECT_GT(PROMPT_NS, now_ns() - since);
	EXPECT_EQ(POLLOUT, poll_now(g.c.fd[0]));
	EXPECT_EQ(0, poll_now(g.c.fd[1]));
	for (pos = 0; pos < 64; pos++) {
		EXPECT_EQ(EVERING_READY_SPACE, do_wait_space(g.c.fd[0], 0, 0));
		/* The cursor lags behind, as after a kill. */
		commit(&g.c, EVERING_RING_SQ, pos, EVERING_COMMITTED);
		EXPECT_EQ(EVERING_READY_ENTRIES, do_wait(g.c.fd[1], 0, 1, 0));
		control_of(&g.c, 0)->tail = pos;
	}
	EXPECT_EQ(-ETIME, do_wait_space(g.c.fd[0], 0, 0));
	EXPECT_EQ(0, poll_now(g.c.fd[0]));
	EXPECT_EQ(POLLIN, poll_now(g.c.fd[1]));
	s = (struct sleeper){ .fd = g.c.fd[0], .enter = wait_args(0, 0, LONG_MS) };
	s.enter.flags = EVERING_ENTER_WAIT_SPACE;
	ASSERT_TRUE(sleeper_start(&s, sleep_in_enter, SYS_ioctl));
	/* Another slot than the next is of no use. */
	claims[1] = evering_word(1, 1, 1, EVERING_IDLE);
	EXPECT_EQ(0, do_wake(g.c.fd[1]));
	EXPECT_TRUE(asleep_in(getpid(), s.tid, SYS_ioctl));
	__atomic_store_n(&claims[0], evering_word(1, 1, 1, EVERING_IDLE), __ATOMIC_SEQ_CST);
	since = now_ns();
	EXPECT_EQ(0, do_wake(g.c.fd[1]));
	EXPECT_GT(PROMPT_NS, sleeper_join(&s, since));
	EXPECT_EQ(EVERING_READY_SPACE, s.result);
	/* Nothing at the next position, though behind it there is. */
	*stamp_of(&g.c, EVERING_RING_SQ, 2) = 0;
	EXPECT_EQ(-ETIME, do_wait(g.c.fd[1], 0, 1, 0));
	/* The reader may say that it takes no more. */
	EXPECT_EQ(0, do_shutdown(g.c.fd[1], EVERING_SHUT_RD));
	EXPECT_EQ(-EPIPE, do_wait_space(g.c.fd[0], 9, 0));
}

TEST_HARNESS_MAIN
