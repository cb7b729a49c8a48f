// SPDX-License-Identifier: GPL-2.0
/* Readiness: poll, select, epoll, io_uring, and the words that arm them. */
#include <liburing.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/select.h>

#include "evering_test.h"
#include "evering.h"

#define SQ		EVERING_RING_SQ
#define CQ		EVERING_RING_CQ
#define SQ_ENTRIES	8
#define CQ_ENTRIES	16
#define FAR		10000	/* ms; who sleeps that long has lost a wake-up */

/* Waits for @cond, but not for ever; its value. */
#define UNTIL(cond) ({							\
	uint64_t __end = now_ns() + 5000 * MS;				\
	while (!(cond) && now_ns() < __end)				\
		sleep_ms(1);						\
	(cond);								\
})

/* ------------------------------------------------------------- a channel */

static uint64_t load(const __u64 *word)
{
	return __atomic_load_n(word, __ATOMIC_RELAXED);
}

static struct evering_ring_words *words(struct channel *c, int ring)
{
	return &header_of(c, ring)->ring[ring];
}

static uint64_t poll_at(struct channel *c, int ring)
{
	return load(&words(c, ring)->poll_at);
}

static uint64_t poll_space_at(struct channel *c, int ring)
{
	return load(&words(c, ring)->poll_space_at);
}

static uint64_t entries_of(struct channel *c, int ring)
{
	return c->layout.geometry.entries[ring];
}

/* Is the doorbell due after a commit of @pos?  As lib/ring.h has it. */
static bool wake_due(struct channel *c, int ring, uint64_t pos)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return pos >= load(&words(c, ring)->wake_at) ||
	       pos >= load(&words(c, ring)->poll_at);
}

/* The consumer of @ring gives back all before @head: is the doorbell due? */
static bool release(struct channel *c, int ring, uint64_t head)
{
	uint64_t end = head + entries_of(c, ring);

	__atomic_store_n(&control_of(c, !ring)->head, head, __ATOMIC_RELEASE);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return end > load(&words(c, ring)->space_at) ||
	       end > load(&words(c, ring)->poll_space_at);
}

static bool is_ready(struct channel *c, int ring, uint64_t pos)
{
	uint64_t lap = evering_lap(pos, __builtin_ctzll(entries_of(c, ring)));
	uint64_t stamp = __atomic_load_n(stamp_of(c, ring, pos),
					 __ATOMIC_ACQUIRE);

	return evering_judge(stamp, lap) == EVERING_SLOT_READY;
}

/* Commits @pos, and rings the doorbell if that is due: was it? */
static bool put(struct channel *c, int ring, uint64_t pos)
{
	stamp_of(c, ring, pos)[1] = pos;
	commit(c, ring, pos, EVERING_COMMITTED);
	if (!wake_due(c, ring, pos))
		return false;
	do_wake(c->fd[ring]);
	return true;
}

/* Takes all that is there, and checks the numbers; how many, or -EILSEQ. */
static int drain(struct channel *c, int ring)
{
	uint64_t begin = control_of(c, !ring)->head, head = begin;

	while (is_ready(c, ring, head)) {
		if (stamp_of(c, ring, head)[1] != head)
			return -EILSEQ;
		/* One by one, so that a full ring drains while it is filled. */
		if (release(c, ring, ++head))
			do_wake(c->fd[!ring]);
	}
	return head - begin;
}

static void fill(struct channel *c, int ring)
{
	uint64_t pos;

	for (pos = 0; pos < entries_of(c, ring); pos++)
		commit(c, ring, pos, EVERING_COMMITTED);
}

static int do_shutdown(int fd, unsigned int how)
{
	struct evering_shutdown args = { .size = sizeof(args), .how = how };

	return call(fd, EVERING_IOC_SHUTDOWN, &args);
}

/* The death of an endpoint. */
static int unmap_own(struct channel *c, int side)
{
	return munmap(c->map[side][EVERING_SECTION_A + side],
		      c->layout.section_size[EVERING_SECTION_A + side]);
}

/* A name of its own for every test, lest one that fails take others along. */
static const char *test_name(void)
{
	static char name[32];

	snprintf(name, sizeof(name), "test.poll.%d", getpid());
	return name;
}

/* Both ends here; 0 or -errno. */
static int open_rings(struct channel *c, unsigned int sq, unsigned int cq)
{
	struct evering_connect args = connect_args(test_name());
	struct evering_accept accepted;
	int ret;

	memset(c, 0, sizeof(*c));
	args.geometry.entries[SQ] = sq;
	args.geometry.entries[CQ] = cq;
	c->service = do_listen(test_name());
	if (c->service < 0)
		return c->service;
	c->fd[0] = device_call(EVERING_IOC_CONNECT, &args);
	if (c->fd[0] < 0)
		return c->fd[0];
	c->fd[1] = do_accept(c->service, &accepted);
	if (c->fd[1] < 0)
		return c->fd[1];
	c->layout = args.layout;
	ret = map_side(c, 0);
	return ret ? ret : map_side(c, 1);
}

static void close_rings(struct channel *c)
{
	close(c->fd[0]);
	close(c->fd[1]);
	close(c->service);
}

/*
 * Some calls look once more when their time is over, so a wake-up that was
 * lost may look like one that came late: who waited FAR has lost one.
 */
static bool lost(uint64_t begin)
{
	return now_ns() >= begin + FAR * MS;
}

/* poll() of one descriptor; what it says, or -errno. */
static int poll_for(int fd, short events, int timeout_ms)
{
	struct pollfd p = { .fd = fd, .events = events };
	uint64_t begin = now_ns();
	int ret = poll(&p, 1, timeout_ms);

	if (ret < 0)
		return -errno;
	return lost(begin) ? -ETIMEDOUT : p.revents;
}

/* A thread in poll(). */
struct poller {
	pthread_t thread;
	int fd;
	short events;
	pid_t tid;
	int ret;
	bool done;
};

static void *poller_thread(void *arg)
{
	struct poller *p = arg;

	__atomic_store_n(&p->tid, gettid(), __ATOMIC_RELEASE);
	p->ret = poll_for(p->fd, p->events, FAR);
	__atomic_store_n(&p->done, true, __ATOMIC_RELEASE);
	return NULL;
}

static bool done(struct poller *p)
{
	return __atomic_load_n(&p->done, __ATOMIC_ACQUIRE);
}

/* Does a thread sleep in system call @nr? */
static bool asleep(pid_t *tid, int nr)
{
	char path[64], text[64] = "";
	int fd;

	snprintf(path, sizeof(path), "/proc/self/task/%d/syscall",
		 __atomic_load_n(tid, __ATOMIC_ACQUIRE));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	if (read(fd, text, sizeof(text) - 1) < 0)
		text[0] = '\0';
	close(fd);
	return text[0] >= '0' && text[0] <= '9' && atoi(text) == nr;
}

/* Returns once it sleeps, or false. */
static bool start(struct poller *p, int fd, short events)
{
	memset(p, 0, sizeof(*p));
	p->fd = fd;
	p->events = events;
	if (pthread_create(&p->thread, NULL, poller_thread, p))
		abort();
	return UNTIL(asleep(&p->tid, SYS_poll));
}

static int join(struct poller *p)
{
	pthread_join(p->thread, NULL);
	return p->ret;
}

/* ------------------------------------------------------------------ poll() */

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
	ASSERT_EQ(0, open_rings(&self->c, SQ_ENTRIES, CQ_ENTRIES));
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

/* ------------------------------------------------------------------ words */

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
		EXPECT_EQ(head, load(&header_of(c, self->in)->ring[self->in].poll_at));
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

/* ---------------------------------------------------------- sleeping in poll() */

TEST_F(poll, sleeps_until_an_entry_comes)
{
	struct channel *c = &self->c;
	struct poller p;
	uint64_t pos;

	for (pos = 0; pos < 20; pos++) {
		ASSERT_TRUE(start(&p, self->fd, POLLIN));
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
	struct poller p;

	fill(c, self->out);
	for (tail = n; tail < n + 20; tail++) {
		ASSERT_TRUE(start(&p, self->fd, POLLOUT));
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
	struct poller p;
	int i;

	ASSERT_TRUE(start(&p, self->fd, POLLIN));
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
	struct poller in, out, rdhup, deaf;

	fill(c, self->out);
	ASSERT_TRUE(start(&in, self->fd, POLLIN));
	ASSERT_TRUE(start(&out, self->fd, POLLOUT));
	ASSERT_TRUE(start(&rdhup, self->fd, POLLRDHUP));
	ASSERT_TRUE(start(&deaf, self->fd, 0));
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
	struct poller in, out, rdhup, deaf;

	fill(c, self->out);
	ASSERT_TRUE(start(&in, self->fd, POLLIN));
	ASSERT_TRUE(start(&out, self->fd, POLLOUT));
	ASSERT_TRUE(start(&rdhup, self->fd, POLLRDHUP));
	ASSERT_TRUE(start(&deaf, self->fd, 0));
	ASSERT_EQ(0, unmap_own(c, self->in));
	EXPECT_EQ(POLLHUP | POLLIN, join(&in));
	EXPECT_EQ(POLLHUP | POLLOUT, join(&out));
	EXPECT_EQ(POLLHUP | POLLRDHUP, join(&rdhup));
	EXPECT_EQ(POLLHUP, join(&deaf));
}

TEST_F(poll, is_woken_by_its_own_death)
{
	struct channel *c = &self->c;
	struct poller in, out, deaf, peer;

	fill(c, self->out);
	fill(c, self->in);
	release(c, self->in, entries_of(c, self->in));
	ASSERT_TRUE(start(&in, self->fd, POLLIN));
	ASSERT_TRUE(start(&out, self->fd, POLLOUT));
	ASSERT_TRUE(start(&deaf, self->fd, 0));
	ASSERT_TRUE(start(&peer, self->peer, 0));
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
	struct poller in, deaf;
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
	ASSERT_TRUE(start(&in, fd, POLLIN));
	ASSERT_TRUE(start(&deaf, fd, 0));
	ASSERT_EQ(0, kill(pid, SIGKILL));
	EXPECT_EQ(POLLHUP | POLLIN, join(&in));
	EXPECT_EQ(POLLHUP, join(&deaf));
	EXPECT_EQ(-SIGKILL, reap(pid));
}

/* ----------------------------------------------------------------- select() */

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
		ASSERT_TRUE(UNTIL(asleep(&s.tid, SYS_select) ||
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

/* -------------------------------------------------------------------- epoll */

FIXTURE(epoll)
{
	struct channel c;	/* side A watches the CQ */
	int ep;
};

FIXTURE_SETUP(epoll)
{
	ASSERT_EQ(0, open_rings(&self->c, SQ_ENTRIES, CQ_ENTRIES));
	self->ep = epoll_create1(EPOLL_CLOEXEC);
	ASSERT_LE(0, self->ep);
}

FIXTURE_TEARDOWN(epoll)
{
	close(self->ep);
	close_rings(&self->c);
}

static int watch(int ep, int op, int fd, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.fd = fd };

	return epoll_ctl(ep, op, fd, &event) ? -errno : 0;
}

/* The events of the one descriptor in @ep; 0 for none until the time-out. */
static int events_of(int ep, int timeout_ms)
{
	struct epoll_event event;
	uint64_t begin = now_ns();
	int ret = epoll_wait(ep, &event, 1, timeout_ms);

	if (ret < 0)
		return -errno;
	if (lost(begin))
		return -ETIMEDOUT;
	return ret ? event.events : 0;
}

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

/* A thread in epoll_wait(), again and again or once. */
struct waiter {
	pthread_t thread;
	struct channel *c;
	int ep;
	bool once;
	pthread_mutex_t *lock;
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
		pthread_mutex_lock(w->lock);
		ret = drain(w->c, CQ);
		pthread_mutex_unlock(w->lock);
		if (ret < 0)
			w->error = ret;
	}
	return NULL;
}

static bool start_waiter(struct waiter *w)
{
	if (pthread_create(&w->thread, NULL, waiter_thread, w))
		abort();
	return UNTIL(asleep(&w->tid, SYS_epoll_wait));
}

static bool drained(struct channel *c, uint64_t pos)
{
	return load(&control_of(c, 0)->head) == pos;
}

TEST_F(epoll, exclusive_waiters_miss_nothing)
{
	pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	struct channel *c = &self->c;
	struct waiter w[2];
	uint64_t pos = 0;
	int i;

	memset(w, 0, sizeof(w));
	for (i = 0; i < 2; i++) {
		w[i].c = c;
		w[i].lock = &lock;
		w[i].ep = epoll_create1(EPOLL_CLOEXEC);
		ASSERT_EQ(0, watch(w[i].ep, EPOLL_CTL_ADD, c->fd[0],
				   EPOLLIN | EPOLLEXCLUSIVE));
		ASSERT_TRUE(start_waiter(&w[i]));
	}
	while (pos < 500) {
		/* In turn to two who sleep and to two who are on their way. */
		if (pos % 50 == 0) {
			ASSERT_TRUE(UNTIL(asleep(&w[0].tid, SYS_epoll_wait)));
			ASSERT_TRUE(UNTIL(asleep(&w[1].tid, SYS_epoll_wait)));
		}
		put(c, CQ, pos++);
		ASSERT_TRUE(UNTIL(drained(c, pos)));
	}
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

/* One of them takes its wake-up along and never looks again. */
TEST_F(epoll, exclusive_waiter_does_not_take_it_from_the_other)
{
	pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	struct channel *c = &self->c;
	struct waiter w[2];
	uint64_t pos = 0;
	int i;

	memset(w, 0, sizeof(w));
	for (i = 0; i < 2; i++) {
		w[i].c = c;
		w[i].lock = &lock;
		w[i].ep = epoll_create1(EPOLL_CLOEXEC);
		w[i].once = !i;
		ASSERT_EQ(0, watch(w[i].ep, EPOLL_CTL_ADD, c->fd[0],
				   EPOLLIN | EPOLLEXCLUSIVE));
		ASSERT_TRUE(start_waiter(&w[i]));
	}
	while (pos < 100) {
		put(c, CQ, pos++);
		ASSERT_TRUE(UNTIL(drained(c, pos)));
	}
	__atomic_store_n(&w[1].once, true, __ATOMIC_RELAXED);
	ASSERT_EQ(0, do_shutdown(c->fd[1], EVERING_SHUT_WR));
	for (i = 0; i < 2; i++) {
		pthread_join(w[i].thread, NULL);
		EXPECT_EQ(0, w[i].error);
		close(w[i].ep);
	}
}

struct enterer {
	pthread_t thread;
	int fd;
	struct evering_enter args;
	pid_t tid;
	int ret;
	bool done;
};

static void *enter_thread(void *arg)
{
	struct enterer *e = arg;
	uint64_t begin = now_ns();

	__atomic_store_n(&e->tid, gettid(), __ATOMIC_RELEASE);
	e->ret = call(e->fd, EVERING_IOC_ENTER, &e->args);
	if (lost(begin))
		e->ret = -ETIMEDOUT;
	__atomic_store_n(&e->done, true, __ATOMIC_RELEASE);
	return NULL;
}

static bool start_enter(struct enterer *e, int fd, uint64_t pos, unsigned int nr)
{
	memset(e, 0, sizeof(*e));
	e->fd = fd;
	e->args = wait_args(pos, nr, FAR);
	if (pthread_create(&e->thread, NULL, enter_thread, e))
		abort();
	return UNTIL(asleep(&e->tid, SYS_ioctl));
}

TEST_F(epoll, and_a_sleeper_are_both_told)
{
	struct channel *c = &self->c;
	struct enterer e;
	uint64_t pos;

	ASSERT_EQ(0, watch(self->ep, EPOLL_CTL_ADD, c->fd[0],
			   EPOLLIN | EPOLLET));
	for (pos = 0; pos < 100; pos++) {
		ASSERT_EQ(0, events_of(self->ep, 0));
		ASSERT_TRUE(start_enter(&e, c->fd[0], pos, 1));
		ASSERT_EQ(pos, load(&words(c, CQ)->wake_at));
		ASSERT_TRUE(put(c, CQ, pos));
		ASSERT_EQ(EPOLLIN, events_of(self->ep, FAR));
		pthread_join(e.thread, NULL);
		ASSERT_EQ(EVERING_READY_ENTRIES, e.ret);
		ASSERT_EQ(1, drain(c, CQ));
	}
}

TEST_F(epoll, is_told_while_a_sleeper_waits_for_more)
{
	struct channel *c = &self->c;
	struct enterer e;
	uint64_t pos;

	ASSERT_EQ(0, watch(self->ep, EPOLL_CTL_ADD, c->fd[0],
			   EPOLLIN | EPOLLET));
	ASSERT_TRUE(start_enter(&e, c->fd[0], 0, 5));
	for (pos = 0; pos < 5; pos++) {
		EXPECT_FALSE(__atomic_load_n(&e.done, __ATOMIC_ACQUIRE));
		EXPECT_EQ(4, load(&words(c, CQ)->wake_at));
		ASSERT_TRUE(put(c, CQ, pos));
		ASSERT_EQ(EPOLLIN, events_of(self->ep, FAR));
	}
	pthread_join(e.thread, NULL);
	EXPECT_EQ(EVERING_READY_ENTRIES, e.ret);
}

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

/* ----------------------------------------------------------- service */

TEST_F(epoll, service_tells_of_clients)
{
	struct evering_connect args = connect_args(test_name());
	int service = self->c.service, i, client[3], server[3];
	struct evering_accept accepted;
	struct waiter w = { .ep = self->ep, .once = true };
	struct poller p;

	EXPECT_EQ(0, poll_for(service, POLLIN | POLLOUT, 0));
	ASSERT_EQ(0, watch(self->ep, EPOLL_CTL_ADD, service, EPOLLIN | EPOLLET));
	EXPECT_EQ(0, events_of(self->ep, 0));
	ASSERT_TRUE(start(&p, service, POLLIN));
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

/* ----------------------------------------------------------- io_uring */

FIXTURE(uring)
{
	struct channel c;
	struct io_uring ring;
	int refused;
};

FIXTURE_SETUP(uring)
{
	ASSERT_EQ(0, open_rings(&self->c, SQ_ENTRIES, CQ_ENTRIES));
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

/* ------------------------------------------------------------- the library */

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

/* ---------------------------------------------------------- lost wake-ups */

FIXTURE(stress)
{
	struct channel c;
};

FIXTURE_VARIANT(stress)
{
	unsigned int entries;
};

FIXTURE_VARIANT_ADD(stress, ring_of_1) { .entries = 1 };
FIXTURE_VARIANT_ADD(stress, ring_of_4) { .entries = 4 };

FIXTURE_SETUP(stress)
{
	ASSERT_EQ(0, open_rings(&self->c, variant->entries, 1));
}

FIXTURE_TEARDOWN(stress)
{
	close_rings(&self->c);
}

struct party {
	struct channel *c;
	uint64_t random;
	uint64_t end;		/* when to stop sending */
	uint64_t messages;
	uint64_t polls;
	uint64_t doorbells;
	int ret;
};

static unsigned int draw(struct party *p, unsigned int n)
{
	p->random ^= p->random << 13;
	p->random ^= p->random >> 7;
	p->random ^= p->random << 17;
	return (p->random >> 20) % n;
}

/* Mostly none, so that both sides meet at every point of the protocol. */
static void dawdle(struct party *p)
{
	unsigned int kind = draw(p, 64), i;

	if (kind < 20)
		for (i = draw(p, 300); i; i--)
			__asm__ __volatile__("" ::: "memory");
	else if (kind < 24)
		sched_yield();
	else if (kind < 26)
		usleep(draw(p, 60));
}

/* Side A; polls for room when there is none. */
static void *produce(void *arg)
{
	struct party *p = arg;
	uint64_t tail = 0, n = entries_of(p->c, SQ);
	const __u64 *head = &control_of(p->c, 1)->head;

	while (now_ns() < p->end) {
		while (tail - __atomic_load_n(head, __ATOMIC_ACQUIRE) == n) {
			p->polls++;
			p->ret = poll_for(p->c->fd[0], POLLOUT, FAR);
			if (p->ret != POLLOUT)
				return NULL;
			p->ret = 0;
		}
		p->doorbells += put(p->c, SQ, tail++);
		dawdle(p);
	}
	p->messages = tail;
	p->ret = do_shutdown(p->c->fd[0], EVERING_SHUT_WR);
	return NULL;
}

/* Side B; edge-triggered. */
static void consume(struct party *p, int ep)
{
	uint64_t head = 0;

	for (;;) {
		int events = events_of(ep, FAR);
		bool last = events & EPOLLRDHUP;

		p->polls++;
		if (events <= 0) {
			p->ret = -ETIME;
			return;
		}
		while (is_ready(p->c, SQ, head)) {
			if (stamp_of(p->c, SQ, head)[1] != head) {
				p->ret = -EILSEQ;
				return;
			}
			head++;
			dawdle(p);
			if (release(p->c, SQ, head)) {
				p->doorbells++;
				do_wake(p->c->fd[1]);
			}
		}
		dawdle(p);
		if (last)
			break;
	}
	p->messages = head;
}

TEST_F(stress, no_edge_is_lost)
{
	struct party a = {
		.c = &self->c,
		.random = now_ns() | 1,
		.end = now_ns() + 2500 * MS,
	};
	struct party b = { .c = &self->c, .random = (now_ns() << 7) | 1 };
	int ep = epoll_create1(EPOLL_CLOEXEC);
	pthread_t producer;

	ASSERT_EQ(0, watch(ep, EPOLL_CTL_ADD, self->c.fd[1],
			   EPOLLIN | EPOLLRDHUP | EPOLLET));
	ASSERT_EQ(0, pthread_create(&producer, NULL, produce, &a));
	consume(&b, ep);
	EXPECT_EQ(0, b.ret);
	if (b.ret) /* lest the producer wait for what will not come */
		do_shutdown(self->c.fd[1], EVERING_SHUT_RD);
	pthread_join(producer, NULL);
	EXPECT_EQ(0, a.ret);
	EXPECT_EQ(a.messages, b.messages);
	TH_LOG("%llu messages, %llu + %llu polls, %llu + %llu doorbells",
	       (unsigned long long)a.messages, (unsigned long long)a.polls,
	       (unsigned long long)b.polls, (unsigned long long)a.doorbells,
	       (unsigned long long)b.doorbells);
	/* Both kinds of sleep have happened. */
	EXPECT_LT(100, a.messages);
	EXPECT_LT(10, a.polls);
	EXPECT_LT(10, a.doorbells);
	EXPECT_LT(10, b.doorbells);
	close(ep);
}

TEST_HARNESS_MAIN
