// SPDX-License-Identifier: GPL-2.0
/*
 * Two sides that meet at every point of the protocol, for seconds, in rings so
 * small that both sleep all the time: one wake-up that is lost, in ENTER or in
 * epoll, and somebody sleeps for ever.
 */
#include <sched.h>

#include "sleepers.h"

/* Both ends here, with a CQ that does not matter; 0 or -errno. */
static int open_rings(struct channel *c, unsigned int sq)
{
	struct evering_connect args = connect_args(test_name());
	struct evering_accept accepted;
	int ret;

	memset(c, 0, sizeof(*c));
	args.geometry.entries[SQ] = sq;
	args.geometry.entries[CQ] = 1;
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

struct party {
	struct channel *c;
	uint64_t random;
	uint64_t end;		/* when to stop sending */
	uint64_t messages;
	uint64_t sleeps;
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

/* After a run of both: nothing is missing, and they did sleep. */
static void compare(struct __test_metadata *_metadata, struct party *a, struct party *b)
{
	EXPECT_EQ(0, a->ret);
	EXPECT_EQ(0, b->ret);
	EXPECT_EQ(a->messages, b->messages);
	TH_LOG("%llu messages, %llu + %llu sleeps, %llu + %llu doorbells",
	       (unsigned long long)a->messages, (unsigned long long)a->sleeps,
	       (unsigned long long)b->sleeps, (unsigned long long)a->doorbells,
	       (unsigned long long)b->doorbells);
	EXPECT_LT(100, a->messages);
	EXPECT_LT(10, a->sleeps);
	EXPECT_LT(10, a->doorbells);
	EXPECT_LT(10, b->doorbells);
}

/* ----------------------------------------------------------------- ENTER */

FIXTURE(enter)
{
	struct channel c;
};

FIXTURE_VARIANT(enter)
{
	unsigned int entries;
};

FIXTURE_VARIANT_ADD(enter, ring_of_1) { .entries = 1 };
FIXTURE_VARIANT_ADD(enter, ring_of_2) { .entries = 2 };
FIXTURE_VARIANT_ADD(enter, ring_of_8) { .entries = 8 };

FIXTURE_SETUP(enter)
{
	ASSERT_EQ(0, open_rings(&self->c, variant->entries));
}

FIXTURE_TEARDOWN(enter)
{
	close_rings(&self->c);
}

/* One ENTER as the library would do it; 0 where none is needed. */
static int party_enter(struct party *p, int side, struct evering_enter args,
		       bool due)
{
	if (due) {
		args.flags |= EVERING_ENTER_WAKE_PEER;
		p->doorbells++;
	}
	if (args.flags & (EVERING_ENTER_WAIT | EVERING_ENTER_WAIT_SPACE))
		p->sleeps++;
	return args.flags ? enter(p->c->fd[side], args) : 0;
}

/* Side A: numbers its requests. */
static void *produce(void *arg)
{
	struct party *p = arg;
	uint64_t tail = 0, n = entries_of(p->c, SQ);
	const __u64 *head = &control_of(p->c, 1)->head;
	bool due = false;

	while (now_ns() < p->end) {
		unsigned int i, batch = 1 + draw(p, n);

		for (i = 0; i < batch; i++) {
			while (tail - __atomic_load_n(head, __ATOMIC_ACQUIRE) == n) {
				/* Whoever sleeps has said what it has done. */
				if (tail)
					due = wake_due(p->c, SQ, tail - 1);
				p->ret = party_enter(p, 0, space_args(tail, FAR),
						     due);
				if (p->ret != EVERING_READY_SPACE)
					return NULL;
			}
			stamp_of(p->c, SQ, tail)[1] = tail;
			commit(p->c, SQ, tail++, EVERING_COMMITTED);
		}
		due = wake_due(p->c, SQ, tail - 1);
		dawdle(p);
		if (due)
			p->ret = party_enter(p, 0, (struct evering_enter){
					.size = sizeof(struct evering_enter),
				}, due);
		if (p->ret < 0)
			return NULL;
		dawdle(p);
	}
	p->messages = tail;
	p->ret = do_shutdown(p->c->fd[0], EVERING_SHUT_WR);
	return NULL;
}

/* Side B: sleeps for each or for several, and checks the numbers. */
static void consume(struct party *p)
{
	uint64_t head = 0, n = entries_of(p->c, SQ);
	bool due = false;

	for (;;) {
		unsigned int wanted = draw(p, 2) ? 1 : 1 + draw(p, n);
		unsigned int there = 0, taken, i;

		p->ret = party_enter(p, 1, wait_args(head, wanted, FAR), due);
		if (p->ret == -ESHUTDOWN) {
			p->ret = 0;
			break;
		}
		if (p->ret != EVERING_READY_ENTRIES)
			return;
		while (there < n &&
		       judge(p->c, SQ, head + there) == EVERING_SLOT_READY)
			there++;
		/* Fewer only at the end. */
		if (!there || (there < wanted && !control_of(p->c, 0)->closed)) {
			p->ret = -EPROTO;
			return;
		}
		taken = 1 + draw(p, there);
		for (i = 0; i < taken; i++, head++)
			if (stamp_of(p->c, SQ, head)[1] != head) {
				p->ret = -EILSEQ;
				return;
			}
		due = release(p->c, SQ, head);
		dawdle(p);
		/* At once, or together with the next wait. */
		if (due && draw(p, 2)) {
			p->ret = party_enter(p, 1, (struct evering_enter){
					.size = sizeof(struct evering_enter),
				}, due);
			due = false;
			dawdle(p);
		}
	}
	p->messages = head;
}

TEST_F(enter, no_wake_up_is_lost)
{
	struct party a = { .c = &self->c, .random = now_ns() | 1 };
	struct party b = { .c = &self->c, .random = (now_ns() << 7) | 1 };
	pthread_t producer;

	a.end = now_ns() + 2700 * MS;
	ASSERT_EQ(0, pthread_create(&producer, NULL, produce, &a));
	consume(&b);
	if (b.ret) /* lest the producer wait for what will not come */
		do_shutdown(self->c.fd[1], EVERING_SHUT_RD);
	pthread_join(producer, NULL);
	compare(_metadata, &a, &b);
	EXPECT_TRUE(nobody(&self->c));
}

/* ------------------------------------------------------ poll() and epoll */

FIXTURE(poll)
{
	struct channel c;
};

FIXTURE_VARIANT(poll)
{
	unsigned int entries;
};

FIXTURE_VARIANT_ADD(poll, ring_of_1) { .entries = 1 };
FIXTURE_VARIANT_ADD(poll, ring_of_4) { .entries = 4 };

FIXTURE_SETUP(poll)
{
	ASSERT_EQ(0, open_rings(&self->c, variant->entries));
}

FIXTURE_TEARDOWN(poll)
{
	close_rings(&self->c);
}

/* Side A; polls for room when there is none. */
static void *produce_polling(void *arg)
{
	struct party *p = arg;
	uint64_t tail = 0, n = entries_of(p->c, SQ);
	const __u64 *head = &control_of(p->c, 1)->head;

	while (now_ns() < p->end) {
		while (tail - __atomic_load_n(head, __ATOMIC_ACQUIRE) == n) {
			p->sleeps++;
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
static void consume_edges(struct party *p, int ep)
{
	uint64_t head = 0;

	for (;;) {
		int events = events_of(ep, FAR);
		bool last = events & EPOLLRDHUP;

		p->sleeps++;
		if (events <= 0) {
			p->ret = -ETIME;
			return;
		}
		while (judge(p->c, SQ, head) == EVERING_SLOT_READY) {
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

TEST_F(poll, no_edge_is_lost)
{
	struct party a = { .c = &self->c, .random = now_ns() | 1 };
	struct party b = { .c = &self->c, .random = (now_ns() << 7) | 1 };
	int ep = epoll_create1(EPOLL_CLOEXEC);
	pthread_t producer;

	ASSERT_EQ(0, watch(ep, EPOLL_CTL_ADD, self->c.fd[1], EPOLLIN | EPOLLRDHUP | EPOLLET));
	a.end = now_ns() + 2500 * MS;
	ASSERT_EQ(0, pthread_create(&producer, NULL, produce_polling, &a));
	consume_edges(&b, ep);
	if (b.ret) /* lest the producer wait for what will not come */
		do_shutdown(self->c.fd[1], EVERING_SHUT_RD);
	pthread_join(producer, NULL);
	compare(_metadata, &a, &b);
	close(ep);
}

TEST_HARNESS_MAIN
