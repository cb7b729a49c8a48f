// SPDX-License-Identifier: GPL-2.0
/*
 * poll() and select(): what is told, which words are announced to the peer for
 * it, and what wakes who sleeps there.
 */
#include <sys/select.h>

#include "sleepers.h"

FIXTURE(poll)
{
	struct channel c;
	int fd;		/* who polls */
	int peer;
	int in;		/* the ring that it consumes */
	int out;
};

FIXTURE_VARIANT(poll)
{
	int side;
};

FIXTURE_VARIANT_ADD(poll, client) { .side = 0 };
FIXTURE_VARIANT_ADD(poll, server) { .side = 1 };

FIXTURE_SETUP(poll)
{
	ASSERT_EQ(0, channel_open(&self->c, test_name()));
	self->fd = self->c.fd[variant->side];
	self->peer = self->c.fd[!variant->side];
	self->in = !variant->side;
	self->out = variant->side;
}

FIXTURE_TEARDOWN(poll)
{
	close_rings(&self->c);
}

TEST_F(poll, tells_what_there_is)
{
	struct channel *c = &self->c;

	EXPECT_EQ(POLLOUT, poll_now(self->fd));
	commit(c, self->in, 0, EVERING_COMMITTED);
	EXPECT_EQ(POLLIN | POLLOUT, poll_now(self->fd));
	EXPECT_EQ(POLLIN, poll_for(self->fd, POLLIN, 0));
	EXPECT_EQ(POLLRDNORM | POLLWRNORM,
		  poll_for(self->fd, POLLRDNORM | POLLWRNORM, 0));
	EXPECT_EQ(0, poll_for(self->fd, POLLRDHUP | POLLPRI, 0));
	/* It stays until it is taken. */
	EXPECT_EQ(POLLIN | POLLOUT, poll_now(self->fd));
	release(c, self->in, 1);
	EXPECT_EQ(POLLOUT, poll_now(self->fd));

	fill(c, self->out);
	EXPECT_EQ(0, poll_now(self->fd));
	commit(c, self->in, 1, EVERING_RESERVED);
	EXPECT_EQ(0, poll_now(self->fd));
	/* Somebody has to step over it. */
	commit(c, self->in, 1, EVERING_SKIPPED);
	EXPECT_EQ(POLLIN, poll_now(self->fd));
	release(c, self->out, 1);
	EXPECT_EQ(POLLIN | POLLOUT, poll_now(self->fd));
	release(c, self->in, 2);
	EXPECT_EQ(POLLOUT, poll_now(self->fd));
}

TEST_F(poll, tells_the_end_of_a_stream)
{
	struct channel *c = &self->c;

	fill(c, self->out);
	EXPECT_EQ(0, poll_now(self->fd));
	/* One's own end is no news. */
	ASSERT_EQ(0, do_shutdown(self->fd, EVERING_SHUT_WR | EVERING_SHUT_RD));
	EXPECT_EQ(0, poll_now(self->fd));
	ASSERT_EQ(0, do_shutdown(self->peer, EVERING_SHUT_RD));
	EXPECT_EQ(POLLOUT, poll_now(self->fd));
	ASSERT_EQ(0, do_shutdown(self->peer, EVERING_SHUT_WR));
	EXPECT_EQ(POLLIN | POLLOUT | POLLRDHUP, poll_now(self->fd));
	EXPECT_EQ(POLLRDHUP, poll_for(self->fd, POLLRDHUP, 0));
	EXPECT_EQ(0, poll_for(self->fd, 0, 0));
}

TEST_F(poll, tells_of_a_dead_peer)
{
	fill(&self->c, self->out);
	EXPECT_EQ(0, poll_now(self->fd));
	ASSERT_EQ(0, unmap_own(&self->c, self->in));
	EXPECT_EQ(POLLIN | POLLOUT | POLLRDHUP | POLLHUP, poll_now(self->fd));
	/* Without being asked. */
	EXPECT_EQ(POLLHUP, poll_for(self->fd, 0, 0));
}

TEST_F(poll, tells_of_its_own_death)
{
	fill(&self->c, self->out);
	EXPECT_EQ(0, poll_now(self->fd));
	ASSERT_EQ(0, unmap_own(&self->c, self->out));
	EXPECT_EQ(POLLERR, poll_now(self->fd));
	EXPECT_EQ(POLLERR, poll_for(self->fd, 0, 0));
	EXPECT_EQ(POLLIN | POLLOUT | POLLRDHUP | POLLHUP, poll_now(self->peer));
}

TEST_F(poll, times_out)
{
	uint64_t begin = now_ns();

	EXPECT_EQ(0, poll_for(self->fd, POLLIN, 100));
	EXPECT_LE(begin + 100 * MS, now_ns());
}

/* ----------------------------------------------------------------- words */

TEST_F(poll, announces_what_it_asks_for_and_no_more)
{
	const struct {
		short events;
		bool in;
		bool out;
	} cases[] = {
		{ POLLIN, true, false },
		{ POLLRDNORM, true, false },
		{ POLLOUT, false, true },
		{ POLLWRNORM, false, true },
		{ POLLIN | POLLOUT, true, true },
		{ POLLRDHUP, false, false },
		{ POLLPRI, false, false },
		{ 0, false, false },
	};
	struct channel *c = &self->c;
	int i;

	EXPECT_EQ(EVERING_NOBODY, poll_at(c, self->in));
	EXPECT_EQ(EVERING_NOBODY, poll_space_at(c, self->out));
	commit(c, self->in, 0, EVERING_COMMITTED);
	commit(c, self->in, 1, EVERING_COMMITTED);
	for (i = 0; i < 2 * ARRAY_SIZE(cases); i++) {
		/* Ready at 1, then not ready at 2. */
		uint64_t head = 1 + i / ARRAY_SIZE(cases), tail = head + 2;
		int n = i % ARRAY_SIZE(cases);

		release(c, self->in, head);
		control_of(c, self->out)->tail = tail;
		poll_for(self->fd, cases[n].events, 0);
		if (!cases[n].in)
			head = EVERING_NOBODY;
		if (!cases[n].out)
			tail = EVERING_NOBODY;
		EXPECT_EQ(head, poll_at(c, self->in)) {
			TH_LOG("events %x", cases[n].events);
		}
		EXPECT_EQ(tail, poll_space_at(c, self->out)) {
			TH_LOG("events %x", cases[n].events);
		}
		/* The peer sees the same. */
		EXPECT_EQ(head, load(&header_of(c, 1)->ring[self->in].poll_at));
		/* No sleeper, and nothing of the other side. */
		EXPECT_EQ(EVERING_NOBODY, load(&words(c, 0)->wake_at));
		EXPECT_EQ(EVERING_NOBODY, load(&words(c, 1)->wake_at));
		EXPECT_EQ(EVERING_NOBODY, load(&words(c, 0)->space_at));
		EXPECT_EQ(EVERING_NOBODY, load(&words(c, 1)->space_at));
		EXPECT_EQ(EVERING_NOBODY, poll_at(c, self->out));
		EXPECT_EQ(EVERING_NOBODY, poll_space_at(c, self->in));
		ASSERT_EQ(0, do_wake(self->peer));
		EXPECT_EQ(EVERING_NOBODY, poll_at(c, self->in));
		EXPECT_EQ(EVERING_NOBODY, poll_space_at(c, self->out));
	}
}

TEST_F(poll, is_taken_back_by_a_doorbell_alone)
{
	struct channel *c = &self->c;

	ASSERT_EQ(POLLOUT, poll_for(self->fd, POLLIN | POLLOUT, 0));
	ASSERT_EQ(0, poll_at(c, self->in));
	ASSERT_EQ(0, poll_space_at(c, self->out));
	/* Not by one's own calls. */
	EXPECT_EQ(-ETIME, do_wait(self->fd, 0, 1, 5));
	EXPECT_EQ(0, do_wake(self->fd));
	commit(c, self->in, 0, EVERING_COMMITTED);
	EXPECT_EQ(EVERING_READY_ENTRIES, do_wait(self->fd, 0, 1, FAR));
	release(c, self->in, 1);
	EXPECT_EQ(0, poll_at(c, self->in));
	EXPECT_EQ(0, poll_space_at(c, self->out));
	/* Nor by a later poll, whose place lies behind or which asks less. */
	control_of(c, self->out)->tail = 3;
	EXPECT_EQ(POLLOUT, poll_for(self->fd, POLLIN | POLLOUT, 0));
	EXPECT_EQ(0, poll_for(self->fd, POLLIN, 0));
	EXPECT_EQ(0, poll_at(c, self->in));
	EXPECT_EQ(0, poll_space_at(c, self->out));
	/* Nor by a sleeper of either side that comes and goes. */
	EXPECT_EQ(-ETIME, do_wait(self->peer, 0, 1, 5));
	EXPECT_EQ(0, poll_at(c, self->in));
	EXPECT_EQ(0, poll_space_at(c, self->out));
	/* By a doorbell, even one too early. */
	EXPECT_EQ(0, do_wake(self->peer));
	EXPECT_EQ(EVERING_NOBODY, poll_at(c, self->in));
	EXPECT_EQ(EVERING_NOBODY, poll_space_at(c, self->out));
	EXPECT_EQ(POLLOUT, poll_for(self->fd, POLLIN | POLLOUT, 0));
	EXPECT_EQ(1, poll_at(c, self->in));
	EXPECT_EQ(3, poll_space_at(c, self->out));
}

/* ---------------------------------------------------- sleeping in poll() */

TEST_F(poll, sleeps_until_an_entry_comes)
{
	struct channel *c = &self->c;
	struct sleeper p;
	uint64_t pos;

	for (pos = 0; pos < 20; pos++) {
		ASSERT_TRUE(start_poll(&p, self->fd, POLLIN));
		/* What the last one has left; then its own. */
		EXPECT_GE(pos, poll_at(c, self->in));
		ASSERT_EQ(0, do_wake(self->peer));
		EXPECT_TRUE(UNTIL(poll_at(c, self->in) == pos));
		EXPECT_FALSE(done(&p));
		EXPECT_TRUE(put(c, self->in, pos));
		EXPECT_EQ(POLLIN, join(&p));
		EXPECT_EQ(1, drain(c, self->in));
	}
}

TEST_F(poll, sleeps_until_there_is_room)
{
	struct channel *c = &self->c;
	uint64_t tail, n = entries_of(c, self->out);
	struct sleeper p;

	fill(c, self->out);
	for (tail = n; tail < n + 20; tail++) {
		ASSERT_TRUE(start_poll(&p, self->fd, POLLOUT));
		EXPECT_GE(tail, poll_space_at(c, self->out));
		ASSERT_EQ(0, do_wake(self->peer));
		EXPECT_TRUE(UNTIL(poll_space_at(c, self->out) == tail));
		EXPECT_FALSE(release(c, self->out, tail - n));
		EXPECT_FALSE(done(&p));
		EXPECT_TRUE(release(c, self->out, tail - n + 1));
		ASSERT_EQ(0, do_wake(self->peer));
		EXPECT_EQ(POLLOUT, join(&p));
		commit(c, self->out, tail, EVERING_COMMITTED);
	}
}

TEST_F(poll, sleeps_on_after_a_doorbell_too_early)
{
	struct channel *c = &self->c;
	struct sleeper p;
	int i;

	ASSERT_TRUE(start_poll(&p, self->fd, POLLIN));
	for (i = 0; i < 50; i++) {
		ASSERT_EQ(0, do_wake(self->peer));
		/* It has looked again, and said so again. */
		ASSERT_TRUE(UNTIL(poll_at(c, self->in) == 0));
		EXPECT_FALSE(done(&p));
	}
	EXPECT_TRUE(put(c, self->in, 0));
	EXPECT_EQ(POLLIN, join(&p));
}

TEST_F(poll, is_woken_by_shutdown)
{
	struct channel *c = &self->c;
	struct sleeper in, out, rdhup, deaf;

	fill(c, self->out);
	ASSERT_TRUE(start_poll(&in, self->fd, POLLIN));
	ASSERT_TRUE(start_poll(&out, self->fd, POLLOUT));
	ASSERT_TRUE(start_poll(&rdhup, self->fd, POLLRDHUP));
	ASSERT_TRUE(start_poll(&deaf, self->fd, 0));
	ASSERT_EQ(0, do_shutdown(self->peer, EVERING_SHUT_RD));
	EXPECT_EQ(POLLOUT, join(&out));
	EXPECT_FALSE(done(&in));
	EXPECT_FALSE(done(&rdhup));
	/* Those who sleep on have announced themselves again. */
	ASSERT_TRUE(UNTIL(poll_at(c, self->in) == 0));
	ASSERT_EQ(0, do_shutdown(self->peer, EVERING_SHUT_WR));
	EXPECT_EQ(POLLIN, join(&in));
	EXPECT_EQ(POLLRDHUP, join(&rdhup));
	EXPECT_FALSE(done(&deaf));
	ASSERT_EQ(0, unmap_own(c, self->in));
	EXPECT_EQ(POLLHUP, join(&deaf));
}

TEST_F(poll, is_woken_when_the_peer_dies)
{
	struct channel *c = &self->c;
	struct sleeper in, out, rdhup, deaf;

	fill(c, self->out);
	ASSERT_TRUE(start_poll(&in, self->fd, POLLIN));
	ASSERT_TRUE(start_poll(&out, self->fd, POLLOUT));
	ASSERT_TRUE(start_poll(&rdhup, self->fd, POLLRDHUP));
	ASSERT_TRUE(start_poll(&deaf, self->fd, 0));
	ASSERT_EQ(0, unmap_own(c, self->in));
	EXPECT_EQ(POLLHUP | POLLIN, join(&in));
	EXPECT_EQ(POLLHUP | POLLOUT, join(&out));
	EXPECT_EQ(POLLHUP | POLLRDHUP, join(&rdhup));
	EXPECT_EQ(POLLHUP, join(&deaf));
}

TEST_F(poll, is_woken_by_its_own_death)
{
	struct channel *c = &self->c;
	struct sleeper in, out, deaf, peer;

	fill(c, self->out);
	fill(c, self->in);
	release(c, self->in, entries_of(c, self->in));
	ASSERT_TRUE(start_poll(&in, self->fd, POLLIN));
	ASSERT_TRUE(start_poll(&out, self->fd, POLLOUT));
	ASSERT_TRUE(start_poll(&deaf, self->fd, 0));
	ASSERT_TRUE(start_poll(&peer, self->peer, 0));
	ASSERT_EQ(0, unmap_own(c, self->out));
	EXPECT_EQ(POLLERR, join(&in));
	EXPECT_EQ(POLLERR, join(&out));
	EXPECT_EQ(POLLERR, join(&deaf));
	EXPECT_EQ(POLLHUP, join(&peer));
}

/* A child with the other side of the ring, killed while we sleep. */
TEST_F(poll, is_woken_when_the_peer_is_killed)
{
	struct evering_connect args = connect_args(test_name());
	struct evering_accept accepted;
	struct sleeper in, deaf;
	pid_t pid;
	int fd;

	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		struct channel c = { 0 };

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		c.fd[0] = device_call(EVERING_IOC_CONNECT, &args);
		c.layout = args.layout;
		if (c.fd[0] < 0 || map_side(&c, 0))
			_exit(1);
		for (;;)
			pause();
	}
	ASSERT_EQ(POLLIN, poll_for(self->c.service, POLLIN, FAR));
	fd = do_accept(self->c.service, &accepted);
	ASSERT_LE(0, fd);
	ASSERT_TRUE(start_poll(&in, fd, POLLIN));
	ASSERT_TRUE(start_poll(&deaf, fd, 0));
	ASSERT_EQ(0, kill(pid, SIGKILL));
	EXPECT_EQ(POLLHUP | POLLIN, join(&in));
	EXPECT_EQ(POLLHUP, join(&deaf));
	EXPECT_EQ(-SIGKILL, reap(pid));
}

/* -------------------------------------------------------------- select() */

static int do_select(int fd, bool *in, bool *out, unsigned int timeout_ms)
{
	struct timeval timeout = {
		timeout_ms / 1000, (timeout_ms % 1000) * 1000,
	};
	uint64_t begin = now_ns();
	fd_set readable, writable;
	int ret;

	FD_ZERO(&readable);
	FD_ZERO(&writable);
	if (*in)
		FD_SET(fd, &readable);
	if (*out)
		FD_SET(fd, &writable);
	ret = select(fd + 1, &readable, &writable, NULL, &timeout);
	*in = FD_ISSET(fd, &readable);
	*out = FD_ISSET(fd, &writable);
	return lost(begin) ? -ETIMEDOUT : ret;
}

struct selector {
	int fd;
	pid_t tid;
	bool in, out;
	int ret;
};

static void *select_thread(void *arg)
{
	struct selector *s = arg;

	__atomic_store_n(&s->tid, gettid(), __ATOMIC_RELEASE);
	s->ret = do_select(s->fd, &s->in, &s->out, FAR);
	return NULL;
}

TEST_F(poll, select_works_too)
{
	struct channel *c = &self->c;
	struct selector s = { .fd = self->fd };
	bool in = true, out = true;
	pthread_t thread;
	uint64_t pos;

	EXPECT_EQ(1, do_select(self->fd, &in, &out, FAR));
	EXPECT_FALSE(in);
	EXPECT_TRUE(out);
	fill(c, self->out);
	for (pos = 0; pos < 10; pos++) {
		in = out = true;
		EXPECT_EQ(0, do_select(self->fd, &in, &out, 0));
		s.tid = 0;
		s.in = s.out = true;
		ASSERT_EQ(0, pthread_create(&thread, NULL, select_thread, &s));
		ASSERT_TRUE(UNTIL(asleep(&s.tid, NR_SELECT) ||
				  asleep(&s.tid, SYS_pselect6)));
		EXPECT_TRUE(put(c, self->in, pos));
		pthread_join(thread, NULL);
		EXPECT_EQ(1, s.ret);
		EXPECT_TRUE(s.in);
		EXPECT_FALSE(s.out);
		EXPECT_EQ(1, drain(c, self->in));
	}
	ASSERT_EQ(0, unmap_own(c, self->in));
	in = out = true;
	EXPECT_EQ(2, do_select(self->fd, &in, &out, FAR));
}

TEST_HARNESS_MAIN
