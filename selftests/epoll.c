// SPDX-License-Identifier: GPL-2.0
/*
 * epoll: levels, edges, one-shot, nested and exclusive, beside those who sleep in
 * ENTER, for endpoints and services, and under the library.  Event loops rely on
 * every edge.
 */
#include "sleepers.h"

FIXTURE(epoll)
{
	struct channel c;	/* side A watches the CQ */
	int ep;
};

FIXTURE_SETUP(epoll)
{
	ASSERT_EQ(0, channel_open(&self->c, test_name()));
	self->ep = epoll_create1(EPOLL_CLOEXEC);
	ASSERT_LE(0, self->ep);
}

FIXTURE_TEARDOWN(epoll)
{
	close(self->ep);
	close_rings(&self->c);
}

/* ------------------------------------------------------ levels and edges */

TEST_F(epoll, level_triggered)
{
	struct channel *c = &self->c;
	uint64_t pos;

	ASSERT_EQ(0, watch(self->ep, EPOLL_CTL_ADD, c->fd[0], EPOLLIN));
	EXPECT_EQ(0, events_of(self->ep, 0));
	for (pos = 0; pos < 500; pos++) {
		ASSERT_TRUE(put(c, CQ, pos));
		ASSERT_EQ(EPOLLIN, events_of(self->ep, FAR));
		/* As long as it is there. */
		ASSERT_EQ(EPOLLIN, events_of(self->ep, FAR));
		ASSERT_EQ(1, drain(c, CQ));
		ASSERT_EQ(0, events_of(self->ep, 0));
	}
	ASSERT_EQ(0, watch(self->ep, EPOLL_CTL_MOD, c->fd[0], EPOLLOUT));
	EXPECT_EQ(EPOLLOUT, events_of(self->ep, FAR));
	fill(c, SQ);
	EXPECT_EQ(0, events_of(self->ep, 0));
	EXPECT_TRUE(release(c, SQ, 1));
	ASSERT_EQ(0, do_wake(c->fd[1]));
	EXPECT_EQ(EPOLLOUT, events_of(self->ep, FAR));
}

TEST_F(epoll, edge_triggered)
{
	struct channel *c = &self->c;
	uint64_t pos = 0;
	int i, n;

	ASSERT_EQ(0, watch(self->ep, EPOLL_CTL_ADD, c->fd[0],
			   EPOLLIN | EPOLLET));
	ASSERT_EQ(0, events_of(self->ep, 0));
	for (i = 0; i < 2000; i++) {
		bool due = false;

		for (n = 0; n <= i % 3; n++)
			due |= put(c, CQ, pos++);
		ASSERT_TRUE(due);
		ASSERT_EQ(EPOLLIN, events_of(self->ep, FAR));
		/* Once. */
		ASSERT_EQ(0, events_of(self->ep, 0));
		ASSERT_EQ(n, drain(c, CQ));
		/* Looking once more arms it as well. */
		if (i % 7)
			continue;
		ASSERT_EQ(0, events_of(self->ep, 0));
	}
}

/* What was not drained does not keep the next commit from being told. */
TEST_F(epoll, edge_triggered_without_draining)
{
	struct channel *c = &self->c;
	uint64_t pos = 0;
	int i;

	ASSERT_EQ(0, watch(self->ep, EPOLL_CTL_ADD, c->fd[0],
			   EPOLLIN | EPOLLET));
	for (i = 0; i < 50; i++) {
		while (pos < (i + 1) * CQ_ENTRIES) {
			ASSERT_TRUE(put(c, CQ, pos++));
			ASSERT_EQ(EPOLLIN, events_of(self->ep, FAR));
			ASSERT_EQ(0, events_of(self->ep, 0));
		}
		ASSERT_EQ(CQ_ENTRIES, drain(c, CQ));
	}
}

TEST_F(epoll, edge_triggered_for_room)
{
	struct channel *c = &self->c;
	uint64_t head;

	fill(c, SQ);
	ASSERT_EQ(0, watch(self->ep, EPOLL_CTL_ADD, c->fd[0],
			   EPOLLOUT | EPOLLET));
	ASSERT_EQ(0, events_of(self->ep, 0));
	for (head = 1; head < 500; head++) {
		ASSERT_TRUE(release(c, SQ, head));
		ASSERT_EQ(0, do_wake(c->fd[1]));
		ASSERT_EQ(EPOLLOUT, events_of(self->ep, FAR));
		ASSERT_EQ(0, events_of(self->ep, 0));
		commit(c, SQ, head + SQ_ENTRIES - 1, EVERING_COMMITTED);
	}
}

TEST_F(epoll, one_shot)
{
	struct channel *c = &self->c;
	uint64_t pos = 0;
	int i;

	ASSERT_EQ(0, watch(self->ep, EPOLL_CTL_ADD, c->fd[0],
			   EPOLLIN | EPOLLONESHOT));
	for (i = 0; i < 200; i++) {
		ASSERT_TRUE(put(c, CQ, pos++));
		ASSERT_EQ(EPOLLIN, events_of(self->ep, FAR));
		put(c, CQ, pos++);
		ASSERT_EQ(0, events_of(self->ep, 0));
		/* Armed again with something there, then with nothing. */
		if (i % 2) {
			ASSERT_EQ(0, watch(self->ep, EPOLL_CTL_MOD, c->fd[0],
					   EPOLLIN | EPOLLONESHOT));
			ASSERT_EQ(EPOLLIN, events_of(self->ep, FAR));
		}
		ASSERT_EQ(2, drain(c, CQ));
		ASSERT_EQ(0, watch(self->ep, EPOLL_CTL_MOD, c->fd[0],
				   EPOLLIN | EPOLLONESHOT));
	}
}

TEST_F(epoll, nested)
{
	struct channel *c = &self->c;
	int level = epoll_create1(EPOLL_CLOEXEC);
	int edge = epoll_create1(EPOLL_CLOEXEC);
	uint64_t pos;

	ASSERT_EQ(0, watch(self->ep, EPOLL_CTL_ADD, c->fd[0], EPOLLIN));
	ASSERT_EQ(0, watch(level, EPOLL_CTL_ADD, self->ep, EPOLLIN));
	ASSERT_EQ(0, watch(edge, EPOLL_CTL_ADD, self->ep, EPOLLIN | EPOLLET));
	for (pos = 0; pos < 300; pos++) {
		ASSERT_EQ(0, events_of(level, 0));
		ASSERT_EQ(0, events_of(edge, 0));
		ASSERT_TRUE(put(c, CQ, pos));
		ASSERT_EQ(EPOLLIN, events_of(edge, FAR));
		ASSERT_EQ(EPOLLIN, events_of(level, FAR));
		ASSERT_EQ(EPOLLIN, events_of(self->ep, 0));
		ASSERT_EQ(1, drain(c, CQ));
		ASSERT_EQ(0, events_of(self->ep, 0));
	}
	close(level);
	close(edge);
}

/* ----------------------------------------------------- several that wait */

static pthread_mutex_t draining = PTHREAD_MUTEX_INITIALIZER;

/* A thread in epoll_wait(), again and again or once. */
struct waiter {
	pthread_t thread;
	struct channel *c;
	int ep;
	bool once;
	pid_t tid;
	int events;
	int wakes;
	int error;
};

static void *waiter_thread(void *arg)
{
	struct waiter *w = arg;
	int ret;

	__atomic_store_n(&w->tid, gettid(), __ATOMIC_RELEASE);
	for (;;) {
		w->events = events_of(w->ep, FAR);
		if (w->events <= 0) {
			w->error = -ETIMEDOUT;
			break;
		}
		w->wakes++;
		if (__atomic_load_n(&w->once, __ATOMIC_RELAXED))
			break;
		pthread_mutex_lock(&draining);
		ret = drain(w->c, CQ);
		pthread_mutex_unlock(&draining);
		if (ret < 0)
			w->error = ret;
	}
	return NULL;
}

static bool start_waiter(struct waiter *w)
{
	if (pthread_create(&w->thread, NULL, waiter_thread, w))
		abort();
	return UNTIL(asleep(&w->tid, NR_EPOLL_WAIT));
}

static bool drained(struct channel *c, uint64_t pos)
{
	return load(&control_of(c, 0)->head) == pos;
}

static void start_exclusive(struct __test_metadata *_metadata, struct channel *c,
			    struct waiter w[2])
{
	int i;

	for (i = 0; i < 2; i++) {
		w[i].c = c;
		w[i].ep = epoll_create1(EPOLL_CLOEXEC);
		ASSERT_EQ(0, watch(w[i].ep, EPOLL_CTL_ADD, c->fd[0], EPOLLIN | EPOLLEXCLUSIVE));
		ASSERT_TRUE(start_waiter(&w[i]));
	}
}

static void end_exclusive(struct __test_metadata *_metadata, struct channel *c,
			  struct waiter w[2])
{
	int i;

	for (i = 0; i < 2; i++)
		__atomic_store_n(&w[i].once, true, __ATOMIC_RELAXED);
	ASSERT_EQ(0, do_shutdown(c->fd[1], EVERING_SHUT_WR));
	for (i = 0; i < 2; i++) {
		pthread_join(w[i].thread, NULL);
		EXPECT_EQ(0, w[i].error);
		EXPECT_LT(0, w[i].wakes);
		close(w[i].ep);
	}
}

TEST_F(epoll, exclusive_waiters_miss_nothing)
{
	struct channel *c = &self->c;
	struct waiter w[2] = { 0 };
	uint64_t pos = 0;

	start_exclusive(_metadata, c, w);
	while (pos < 500) {
		/* In turn to two who sleep and to two who are on their way. */
		if (pos % 50 == 0) {
			ASSERT_TRUE(UNTIL(asleep(&w[0].tid, NR_EPOLL_WAIT)));
			ASSERT_TRUE(UNTIL(asleep(&w[1].tid, NR_EPOLL_WAIT)));
		}
		put(c, CQ, pos++);
		ASSERT_TRUE(UNTIL(drained(c, pos)));
	}
	end_exclusive(_metadata, c, w);
}

/* One of them takes its wake-up along and never looks again. */
TEST_F(epoll, exclusive_waiter_does_not_take_it_from_the_other)
{
	struct waiter w[2] = { { .once = true } };
	struct channel *c = &self->c;
	uint64_t pos = 0;

	start_exclusive(_metadata, c, w);
	while (pos < 100) {
		put(c, CQ, pos++);
		ASSERT_TRUE(UNTIL(drained(c, pos)));
	}
	end_exclusive(_metadata, c, w);
}

TEST_F(epoll, and_a_sleeper_are_both_told)
{
	struct channel *c = &self->c;
	struct sleeper s;
	uint64_t pos;

	ASSERT_EQ(0, watch(self->ep, EPOLL_CTL_ADD, c->fd[0],
			   EPOLLIN | EPOLLET));
	for (pos = 0; pos < 100; pos++) {
		ASSERT_EQ(0, events_of(self->ep, 0));
		start(&s, c->fd[0], wait_args(pos, 1, FAR));
		ASSERT_TRUE(UNTIL(asleep(&s.tid, SYS_ioctl)));
		ASSERT_EQ(pos, wake_at(c, CQ));
		ASSERT_TRUE(put(c, CQ, pos));
		ASSERT_EQ(EPOLLIN, events_of(self->ep, FAR));
		ASSERT_EQ(EVERING_READY_ENTRIES, join(&s));
		ASSERT_EQ(1, drain(c, CQ));
	}
}

TEST_F(epoll, is_told_while_a_sleeper_waits_for_more)
{
	struct channel *c = &self->c;
	struct sleeper s;
	uint64_t pos;

	ASSERT_EQ(0, watch(self->ep, EPOLL_CTL_ADD, c->fd[0],
			   EPOLLIN | EPOLLET));
	start(&s, c->fd[0], wait_args(0, 5, FAR));
	ASSERT_TRUE(UNTIL(asleep(&s.tid, SYS_ioctl)));
	for (pos = 0; pos < 5; pos++) {
		EXPECT_FALSE(done(&s));
		EXPECT_EQ(4, wake_at(c, CQ));
		ASSERT_TRUE(put(c, CQ, pos));
		ASSERT_EQ(EPOLLIN, events_of(self->ep, FAR));
	}
	EXPECT_EQ(EVERING_READY_ENTRIES, join(&s));
}

/* --------------------------------------------------------------- the end */

TEST_F(epoll, tells_of_the_end)
{
	struct channel *c = &self->c;
	int level = epoll_create1(EPOLL_CLOEXEC);
	struct waiter w = { .c = c, .ep = self->ep, .once = true };
	struct waiter v = { .c = c, .ep = level, .once = true };

	ASSERT_EQ(0, watch(self->ep, EPOLL_CTL_ADD, c->fd[0],
			   EPOLLIN | EPOLLRDHUP | EPOLLET));
	ASSERT_EQ(0, watch(level, EPOLL_CTL_ADD, c->fd[0], 0));
	ASSERT_TRUE(start_waiter(&w));
	ASSERT_EQ(0, do_shutdown(c->fd[1], EVERING_SHUT_WR));
	pthread_join(w.thread, NULL);
	EXPECT_EQ(EPOLLIN | EPOLLRDHUP, w.events);
	EXPECT_EQ(0, events_of(self->ep, 0));
	w.tid = 0;
	ASSERT_TRUE(start_waiter(&w));
	ASSERT_TRUE(start_waiter(&v));
	ASSERT_EQ(0, unmap_own(c, 1));
	pthread_join(w.thread, NULL);
	pthread_join(v.thread, NULL);
	EXPECT_EQ(EPOLLIN | EPOLLRDHUP | EPOLLHUP, w.events);
	EXPECT_EQ(EPOLLHUP, v.events);
	close(level);
}

TEST_F(epoll, tells_of_its_own_death)
{
	struct channel *c = &self->c;
	struct waiter w = { .c = c, .ep = self->ep, .once = true };

	ASSERT_EQ(0, watch(self->ep, EPOLL_CTL_ADD, c->fd[0],
			   EPOLLIN | EPOLLET));
	ASSERT_TRUE(start_waiter(&w));
	ASSERT_EQ(0, unmap_own(c, 0));
	pthread_join(w.thread, NULL);
	EXPECT_EQ(EPOLLERR, w.events);
}

/* ------------------------------------------------------------- a service */

TEST_F(epoll, service_tells_of_clients)
{
	struct evering_connect args = connect_args(test_name());
	int service = self->c.service, i, client[3], server[3];
	struct evering_accept accepted;
	struct waiter w = { .ep = self->ep, .once = true };
	struct sleeper p;

	EXPECT_EQ(0, poll_for(service, POLLIN | POLLOUT, 0));
	ASSERT_EQ(0, watch(self->ep, EPOLL_CTL_ADD, service, EPOLLIN | EPOLLET));
	EXPECT_EQ(0, events_of(self->ep, 0));
	ASSERT_TRUE(start_poll(&p, service, POLLIN));
	ASSERT_TRUE(start_waiter(&w));
	for (i = 0; i < 3; i++) {
		client[i] = device_call(EVERING_IOC_CONNECT, &args);
		ASSERT_LE(0, client[i]);
		if (!i) {
			/* Both who sleep. */
			EXPECT_EQ(POLLIN, join(&p));
			pthread_join(w.thread, NULL);
			EXPECT_EQ(EPOLLIN, w.events);
		} else {
			EXPECT_EQ(EPOLLIN, events_of(self->ep, FAR));
		}
		EXPECT_EQ(0, events_of(self->ep, 0));
		EXPECT_EQ(POLLIN, poll_for(service, POLLIN | POLLOUT, 0));
	}
	for (i = 0; i < 3; i++) {
		EXPECT_EQ(POLLIN | POLLRDNORM,
			  poll_for(service, POLLIN | POLLRDNORM, 0));
		server[i] = do_accept(service, &accepted);
		ASSERT_LE(0, server[i]);
	}
	EXPECT_EQ(0, poll_for(service, POLLIN, 0));
	EXPECT_EQ(-EAGAIN, do_accept(service, &accepted));
	for (i = 0; i < 3; i++) {
		close(client[i]);
		close(server[i]);
	}
}

/* ----------------------------------------------------------- the library */

#define REQUESTS	2000

/* Edge-triggered: takes all there is, then waits for the next edge. */
static int serve(struct evering_service *service)
{
	int ep = epoll_create1(EPOLL_CLOEXEC);
	const struct evering_sqe *sqe;
	struct evering *server;
	int ret;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	ret = evering_accept(service, &server);
	if (ret)
		return 1;
	if (watch(ep, EPOLL_CTL_ADD, evering_fd(server), EPOLLIN | EPOLLET))
		return 2;
	for (;;) {
		if (events_of(ep, FAR) <= 0)
			return 3;
		while ((ret = evering_peek_sqe(server, &sqe)) == 0) {
			struct evering_cqe *cqe = evering_get_cqe(server);

			if (!cqe)
				return 4;
			cqe->user_data = sqe->user_data;
			cqe->res = ~sqe->len;
			evering_sqe_seen(server, sqe);
			ret = evering_complete(server);
			if (ret != 1)
				break;
		}
		if (ret != -EAGAIN)
			break;
	}
	evering_close(server);
	return ret == -EPIPE ? 0 : 5;
}

TEST(library_in_an_epoll_loop)
{
	unsigned int sent = 0, received = 0, events = 0;
	const struct evering_geometry geometry = {
		.entries = { SQ_ENTRIES, CQ_ENTRIES },
		.slot_size = { 64, 64 },
	};
	int ep = epoll_create1(EPOLL_CLOEXEC);
	const struct evering_cqe *cqe;
	struct evering_service *service;
	struct evering *client;
	pid_t pid;
	int ret;

	ASSERT_EQ(0, evering_listen(test_name(), NULL, &service));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		_exit(serve(service));
	ASSERT_EQ(0, evering_connect(test_name(), &geometry, &client));
	ASSERT_EQ(0, watch(ep, EPOLL_CTL_ADD, evering_fd(client), EPOLLIN));
	while (received < REQUESTS) {
		/* 1 to 8 in flight. */
		unsigned int goal = sent + 1 + sent % SQ_ENTRIES;

		while (sent < goal && sent < REQUESTS &&
		       sent - received < SQ_ENTRIES) {
			struct evering_sqe *sqe = evering_get_sqe(client);

			if (!sqe)
				break;
			sqe->user_data = sent;
			sqe->len = sent++;
		}
		ASSERT_LE(0, evering_submit(client));
		ASSERT_EQ(EPOLLIN, events_of(ep, FAR));
		events++;
		while ((ret = evering_peek_cqe(client, &cqe)) == 0) {
			ASSERT_EQ(received, cqe->user_data);
			ASSERT_EQ(~received, cqe->res);
			evering_cqe_seen(client, cqe);
			received++;
		}
		ASSERT_EQ(-EAGAIN, ret);
	}
	EXPECT_EQ(REQUESTS, received);
	EXPECT_EQ(0, events_of(ep, 0));
	TH_LOG("%u events", events);
	evering_close(client);
	EXPECT_EQ(0, reap(pid));
	evering_service_close(service);
	close(ep);
}

TEST_HARNESS_MAIN
