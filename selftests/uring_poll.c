// SPDX-License-Identifier: GPL-2.0
/*
 * Polls by io_uring, one-shot and multishot: armed without a thread that sleeps,
 * and holding the file beyond the process that asked.
 */
#include <liburing.h>

#include "sleepers.h"

FIXTURE(uring)
{
	struct channel c;
	struct io_uring ring;
	int refused;
};

FIXTURE_SETUP(uring)
{
	ASSERT_EQ(0, channel_open(&self->c, test_name()));
	self->refused = io_uring_queue_init(8, &self->ring, 0);
	if (self->refused)
		SKIP(return, "no io_uring here: %d", self->refused);
}

FIXTURE_TEARDOWN(uring)
{
	if (!self->refused)
		io_uring_queue_exit(&self->ring);
	close_rings(&self->c);
}

static int uring_poll(struct io_uring *ring, int fd, unsigned int events,
		      bool multishot)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);

	if (multishot)
		io_uring_prep_poll_multishot(sqe, fd, events);
	else
		io_uring_prep_poll_add(sqe, fd, events);
	return io_uring_submit(ring);
}

/* The result of the next completion, -ETIME for none. */
static int uring_next(struct io_uring *ring, unsigned int timeout_ms,
		      bool *more)
{
	struct __kernel_timespec timeout = {
		.tv_sec = timeout_ms / 1000,
		.tv_nsec = timeout_ms % 1000 * (long long)MS,
	};
	uint64_t begin = now_ns();
	struct io_uring_cqe *cqe;
	int ret;

	do {
		ret = io_uring_wait_cqe_timeout(ring, &cqe, &timeout);
	} while (ret == -EINTR);
	if (ret)
		return ret;
	ret = cqe->res;
	if (more)
		*more = cqe->flags & IORING_CQE_F_MORE;
	io_uring_cqe_seen(ring, cqe);
	return lost(begin) ? -ETIMEDOUT : ret;
}

static bool uring_idle(struct io_uring *ring)
{
	struct io_uring_cqe *cqe;

	return io_uring_peek_cqe(ring, &cqe) == -EAGAIN;
}

/* ------------------------------------------------ one-shot and multishot */

TEST_F(uring, one_shot)
{
	struct channel *c = &self->c;
	bool more;
	int i;

	for (i = 0; i < 100; i++) {
		ASSERT_EQ(1, uring_poll(&self->ring, c->fd[0], POLLIN, false));
		ASSERT_TRUE(uring_idle(&self->ring));
		EXPECT_GE(i, poll_at(c, CQ));
		ASSERT_TRUE(put(c, CQ, i));
		ASSERT_EQ(POLLIN, uring_next(&self->ring, FAR, &more));
		EXPECT_FALSE(more);
		/* Also one that comes later than what it asks for. */
		ASSERT_EQ(1, uring_poll(&self->ring, c->fd[0], POLLIN, false));
		ASSERT_EQ(POLLIN, uring_next(&self->ring, FAR, &more));
		ASSERT_EQ(1, drain(c, CQ));
	}
	fill(c, SQ);
	ASSERT_EQ(1, uring_poll(&self->ring, c->fd[0], POLLOUT, false));
	ASSERT_TRUE(uring_idle(&self->ring));
	EXPECT_TRUE(release(c, SQ, 1));
	ASSERT_EQ(0, do_wake(c->fd[1]));
	EXPECT_EQ(POLLOUT, uring_next(&self->ring, FAR, &more));
}

TEST_F(uring, sleeps_on_after_a_doorbell_too_early)
{
	struct channel *c = &self->c;
	bool more;
	int i;

	for (i = 0; i < 2; i++) {
		ASSERT_EQ(1, uring_poll(&self->ring, c->fd[0], POLLIN, i));
		ASSERT_EQ(0, do_wake(c->fd[1]));
		EXPECT_EQ(-ETIME, uring_next(&self->ring, 30, &more));
		ASSERT_TRUE(put(c, CQ, i));
		ASSERT_EQ(POLLIN, uring_next(&self->ring, FAR, &more));
		ASSERT_EQ(1, drain(c, CQ));
	}
}

TEST_F(uring, multishot_in_step)
{
	struct channel *c = &self->c;
	int rearmed = 0, i;
	bool more = false;

	for (i = 0; i < 500; i++) {
		if (!more) {
			rearmed++;
			ASSERT_EQ(1, uring_poll(&self->ring, c->fd[0], POLLIN,
						true));
		}
		ASSERT_TRUE(put(c, CQ, i));
		ASSERT_EQ(POLLIN, uring_next(&self->ring, FAR, &more));
		ASSERT_EQ(1, drain(c, CQ));
		/* At most one event of a doorbell. */
		ASSERT_TRUE(uring_idle(&self->ring));
	}
	TH_LOG("armed %d times", rearmed);
	/* Else this is no multishot poll. */
	EXPECT_GT(10, rearmed);
}

/* Side B at its own pace; waits for room without rest, that is not the point. */
struct sender {
	pthread_t thread;
	struct channel *c;
	uint64_t messages;
	bool stop;
};

static void *sender_thread(void *arg)
{
	struct sender *s = arg;
	uint64_t pos, x = 88172645463325252;

	for (pos = 0; pos < s->messages; pos++) {
		while (pos - load(&control_of(s->c, 0)->head) == CQ_ENTRIES) {
			if (__atomic_load_n(&s->stop, __ATOMIC_RELAXED))
				return NULL;
			usleep(20);
		}
		put(s->c, CQ, pos);
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		if (x % 4 == 0)
			usleep(x / 4 % 150);
	}
	return NULL;
}

TEST_F(uring, multishot_misses_nothing)
{
	struct sender s = { .c = &self->c, .messages = 500 };
	int rearmed = 0, events = 0, ret;
	struct channel *c = &self->c;
	bool more = false;

	ASSERT_EQ(0, pthread_create(&s.thread, NULL, sender_thread, &s));
	while (control_of(c, 0)->head < s.messages) {
		if (!more) {
			rearmed++;
			ret = uring_poll(&self->ring, c->fd[0], POLLIN, true);
			EXPECT_EQ(1, ret);
		}
		ret = uring_next(&self->ring, FAR, &more);
		EXPECT_EQ(POLLIN, ret);
		if (ret != POLLIN)
			break;
		events++;
		ret = drain(c, CQ);
		EXPECT_LE(0, ret);
	}
	__atomic_store_n(&s.stop, true, __ATOMIC_RELAXED);
	pthread_join(s.thread, NULL);
	EXPECT_EQ(s.messages, control_of(c, 0)->head);
	TH_LOG("%d events, armed %d times", events, rearmed);
}

/* --------------------------------------------------------------- the end */

TEST_F(uring, tells_of_the_end)
{
	struct channel *c = &self->c;
	bool more;

	ASSERT_EQ(1, uring_poll(&self->ring, c->fd[0], POLLIN | POLLRDHUP, true));
	ASSERT_TRUE(uring_idle(&self->ring));
	ASSERT_EQ(0, do_shutdown(c->fd[1], EVERING_SHUT_WR));
	EXPECT_EQ(POLLIN | POLLRDHUP, uring_next(&self->ring, FAR, &more));
	if (!more) {
		ASSERT_EQ(1, uring_poll(&self->ring, c->fd[0],
					POLLIN | POLLRDHUP, true));
	}
	ASSERT_EQ(0, unmap_own(c, 1));
	EXPECT_EQ(POLLIN | POLLRDHUP | POLLHUP,
		  uring_next(&self->ring, FAR, &more));
}

TEST_F(uring, tells_of_its_own_death)
{
	ASSERT_EQ(1, uring_poll(&self->ring, self->c.fd[0], POLLIN, false));
	ASSERT_TRUE(uring_idle(&self->ring));
	ASSERT_EQ(0, unmap_own(&self->c, 0));
	EXPECT_EQ(POLLERR, uring_next(&self->ring, FAR, NULL));
}

static long endpoints_alive(void)
{
	FILE *f = fopen("/sys/class/misc/evering/endpoints", "r");
	long n = -1;

	if (f) {
		if (fscanf(f, "%ld", &n) != 1)
			n = -1;
		fclose(f);
	}
	return n;
}

TEST_F(uring, closed_with_polls_pending)
{
	struct channel *c = &self->c;
	struct io_uring ring;
	uint64_t pos = 0;
	int i;

	for (i = 0; i < 20; i++) {
		ASSERT_EQ(0, io_uring_queue_init(8, &ring, 0));
		ASSERT_EQ(1, uring_poll(&ring, c->fd[0], POLLIN, i % 2));
		ASSERT_EQ(1, uring_poll(&ring, c->fd[0], POLLRDHUP, i % 2));
		ASSERT_GE(pos, poll_at(c, CQ));
		io_uring_queue_exit(&ring);
		/* The doorbell rings for somebody who has gone. */
		EXPECT_TRUE(put(c, CQ, pos++));
		/* And those who are there get what is theirs. */
		EXPECT_EQ(POLLIN, poll_for(c->fd[0], POLLIN, FAR));
		EXPECT_EQ(1, drain(c, CQ));
	}
	/* Nothing holds the file any more. */
	ASSERT_EQ(2, endpoints_alive());
	ASSERT_EQ(0, unmap_own(c, 0));
	for (i = 0; i < 3; i++) {
		if (i == EVERING_SECTION_A)
			continue;
		ASSERT_EQ(0, munmap(c->map[0][i], c->layout.section_size[i]));
	}
	close(c->fd[0]);
	EXPECT_TRUE(UNTIL(endpoints_alive() == 1));
	EXPECT_EQ(POLLHUP, poll_for(c->fd[1], 0, 0));
}

TEST_F(uring, of_a_process_that_exits)
{
	struct evering_connect args = connect_args(test_name());
	struct evering_accept accepted;
	pid_t pid;
	int fd;

	ASSERT_EQ(2, endpoints_alive());
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		struct channel c = { 0 };
		struct io_uring ring;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		c.fd[0] = device_call(EVERING_IOC_CONNECT, &args);
		c.layout = args.layout;
		if (c.fd[0] < 0 || map_side(&c, 0))
			_exit(1);
		if (io_uring_queue_init(8, &ring, 0))
			_exit(2);
		if (uring_poll(&ring, c.fd[0], POLLIN, true) != 1)
			_exit(3);
		_exit(header_of(&c, 0)->ring[CQ].poll_at ? 4 : 0);
	}
	ASSERT_EQ(0, reap(pid));
	fd = do_accept(self->c.service, &accepted);
	ASSERT_LE(0, fd);
	EXPECT_EQ(POLLHUP, poll_for(fd, 0, 0));
	close(fd);
	EXPECT_TRUE(UNTIL(endpoints_alive() == 2));
}

/* ------------------------------------------------------------- a service */

TEST_F(uring, of_a_service)
{
	struct evering_connect args = connect_args(test_name());
	int service = self->c.service, client[2], server[2], i;
	struct evering_accept accepted;
	bool more = false;

	for (i = 0; i < 2; i++) {
		ASSERT_EQ(1, uring_poll(&self->ring, service, POLLIN, i));
		ASSERT_TRUE(uring_idle(&self->ring));
		client[i] = device_call(EVERING_IOC_CONNECT, &args);
		ASSERT_LE(0, client[i]);
		EXPECT_EQ(POLLIN, uring_next(&self->ring, FAR, &more));
		server[i] = do_accept(service, &accepted);
		ASSERT_LE(0, server[i]);
		ASSERT_TRUE(uring_idle(&self->ring));
	}
	/* The second was multishot: once more. */
	close(client[0]);
	client[0] = device_call(EVERING_IOC_CONNECT, &args);
	ASSERT_LE(0, client[0]);
	EXPECT_TRUE(more);
	EXPECT_EQ(POLLIN, uring_next(&self->ring, FAR, NULL));
	for (i = 0; i < 2; i++) {
		close(client[i]);
		close(server[i]);
	}
}

TEST_HARNESS_MAIN
