// SPDX-License-Identifier: GPL-2.0
/*
 * Endpoints that share a side, in threads over plain memory: what the sanitizers
 * say to submitting, taking and giving back.  Sleeping is the kernel's, and so is
 * looked at in the virtual machine; here, who would sleep goes round.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

#include "shared.h"
#include "kselftest_harness.h"

#define ENTRIES		64U
#define MANY		3U
#define REQUESTS	20000U	/* of each client */
#define DEPTH		30U
#define BATCH		5U

static struct evering_header header = {
	.ring = {
		{ .wake_at = EVERING_NOBODY, .poll_at = EVERING_NOBODY,
		  .space_at = EVERING_NOBODY, .poll_space_at = EVERING_NOBODY },
		{ .wake_at = EVERING_NOBODY, .poll_at = EVERING_NOBODY,
		  .space_at = EVERING_NOBODY, .poll_space_at = EVERING_NOBODY },
	},
	.side = { { .state = EVERING_STATE_OPEN }, { .state = EVERING_STATE_OPEN } },
};

/* One side's section: its control words, its slots, and its claims. */
struct section {
	struct evering_control control;
	char slots[ENTRIES][64];
	uint64_t claims[ENTRIES];
} __attribute__((aligned(4096)));

/* What a single endpoint is told is true; one of many looks for itself. */
static bool is_ready(const struct evering *ep, const struct evering_enter *args)
{
	const struct ring_out *out = &ep->out;
	uint64_t pos = args->space_pos, word;

	if (ep->shared)
		return true;
	if (load_acquire(&ep->peer_control->closed))
		return true;
	if ((args->flags & EVERING_ENTER_WAIT) &&
	    ring_look(&ep->in, args->wait_pos) != EVERING_SLOT_NOT_YET)
		return true;
	if (!(args->flags & EVERING_ENTER_WAIT_SPACE))
		return false;
	if (!out->claims)
		return pos - load_acquire(out->head) != out->g.entries;
	word = load_acquire(&out->claims[pos & out->g.mask]);
	return evering_word_ahead(word, evering_lap(pos, out->g.lap_shift)) == -1 &&
	       evering_word_state(word) == EVERING_IDLE;
}

static uint64_t doorbells;

static int enter(struct evering *ep, const struct evering_enter *args)
{
	if (args->flags & EVERING_ENTER_WAKE_PEER)
		__atomic_fetch_add(&doorbells, 1, __ATOMIC_RELAXED);
	if (!(args->flags & (EVERING_ENTER_WAIT | EVERING_ENTER_WAIT_SPACE)))
		return 0;
	while (!is_ready(ep, args))
		sched_yield();
	sched_yield();
	/* The kernel would not wait for what the library knows. */
	if (ep->shared && ep->shared->over)
		return -ESHUTDOWN;
	if (load_acquire(&ep->peer_control->closed) && !ep->shared &&
	    ring_look(&ep->in, args->wait_pos) == EVERING_SLOT_NOT_YET)
		return -ESHUTDOWN;
	return EVERING_READY_ENTRIES;
}

static const struct evr_backend backend = { .enter = enter };

struct player {
	pthread_t thread;
	struct evering *ep;
	unsigned int index;
	unsigned char *answered;
	int ret;
};

FIXTURE(shared)
{
	struct section *section[2];
	struct player player[2][MANY];
	unsigned int n[2];
	unsigned char *answered;
};

FIXTURE_VARIANT(shared)
{
	unsigned int flags;
};

FIXTURE_VARIANT_ADD(shared, many_to_one)
{
	.flags = EVERING_URING_MULTI_A,
};

FIXTURE_VARIANT_ADD(shared, one_to_many)
{
	.flags = EVERING_URING_MULTI_B,
};

FIXTURE_VARIANT_ADD(shared, many_to_many)
{
	.flags = EVERING_URING_MULTI_A | EVERING_URING_MULTI_B,
};

FIXTURE_VARIANT_ADD(shared, many_to_many_lease)
{
	.flags = EVERING_URING_MULTI_A | EVERING_URING_MULTI_B | EVERING_URING_LEASE,
};

FIXTURE_SETUP(shared)
{
	struct evering_layout layout = {
		.geometry = { .entries = { ENTRIES, ENTRIES }, .slot_size = { 64, 64 } },
	};
	unsigned int side, i;

	self->answered = calloc(MANY, REQUESTS);
	for (side = 0; side < 2; side++) {
		self->section[side] = aligned_alloc(4096, sizeof(struct section));
		memset(self->section[side], 0, sizeof(struct section));
		layout.slots_offset[side] = offsetof(struct section, slots);
		layout.section_size[1 + side] = sizeof(struct section);
		self->n[side] = 1;
		if (variant->flags & (EVERING_URING_MULTI_A << side)) {
			self->n[side] = MANY;
			/* of the ring that it takes from, in its own section */
			layout.claims_offset[!side] = offsetof(struct section, claims);
		}
	}
	for (side = 0; side < 2; side++) {
		struct evr_memory memory = {
			.header = &header,
			.own = (void *)self->section[side],
			.peer = (void *)self->section[!side],
		};

		for (i = 0; i < self->n[side]; i++) {
			struct player *p = &self->player[side][i];

			p->index = i;
			p->answered = self->answered;
			ASSERT_EQ(0, evr_endpoint_new(side, &layout, &memory, &backend,
						      &p->ep));
			if (self->n[side] > 1)
				ASSERT_EQ(0, evr_shared_new(p->ep, i + 1, variant->flags &
							    EVERING_URING_LEASE));
		}
	}
}

FIXTURE_TEARDOWN(shared)
{
	unsigned int side, i;

	for (side = 0; side < 2; side++) {
		for (i = 0; i < self->n[side]; i++)
			evering_close(self->player[side][i].ep);
		free(self->section[side]);
	}
	free(self->answered);
}

/* As in selftests/shared.c: each takes as many as it has sent, and not before. */
static void *ask(void *arg)
{
	struct player *p = arg;
	unsigned int sent = 0, taken = 0;
	const struct evering_cqe *cqe;
	struct evering_sqe *sqe;

	while (taken < REQUESTS) {
		while (sent < REQUESTS && sent - taken < DEPTH &&
		       (sqe = evering_get_sqe(p->ep))) {
			if (sent % 11 == 3) {
				evering_sqe_cancel(p->ep, sqe);
				sqe = evering_get_sqe(p->ep);
				if (!sqe)
					break;
			}
			sqe->user_data = p->index * REQUESTS + sent;
			sqe->offset = ~sqe->user_data;
			sent++;
		}
		p->ret = evering_submit(p->ep);
		if (p->ret < 0 && p->ret != -EAGAIN)
			return NULL;
		p->ret = evering_sq_reserved(p->ep) ? evering_wait_sq_space(p->ep, NULL) :
						      evering_wait_cqe(p->ep, &cqe);
		if (p->ret < 0)
			return NULL;
		while (taken < sent && !evering_peek_cqe(p->ep, &cqe)) {
			if (cqe->offset != ~cqe->user_data ||
			    cqe->user_data >= MANY * REQUESTS) {
				p->ret = -EILSEQ;
				return NULL;
			}
			__atomic_fetch_add(&p->answered[cqe->user_data], 1,
					   __ATOMIC_RELAXED);
			evering_cqe_seen(p->ep, cqe);
			taken++;
		}
	}
	p->ret = 0;
	return NULL;
}

static void *answer(void *arg)
{
	const struct evering_sqe *sqe[BATCH];
	struct player *p = arg;
	struct evering_cqe *cqe;
	int n, i;

	for (;;) {
		p->ret = evering_wait_sqes(p->ep, NULL, 1, NULL);
		if (p->ret)
			return NULL;
		n = evering_peek_batch_sqe(p->ep, sqe, BATCH);
		for (i = 0; i < n; i++) {
			while (!(cqe = evering_get_cqe(p->ep)))
				evering_wait_cq_space(p->ep, NULL);
			cqe->user_data = sqe[i]->user_data;
			cqe->offset = sqe[i]->offset;
		}
		evering_sq_advance(p->ep, n);
		p->ret = evering_complete(p->ep);
		while (evering_cq_reserved(p->ep))
			evering_wait_cq_space(p->ep, NULL);
	}
}

TEST_F(shared, each_request_is_answered_once)
{
	unsigned int side, i;

	for (side = 0; side < 2; side++)
		for (i = 0; i < self->n[side]; i++)
			ASSERT_EQ(0, pthread_create(&self->player[side][i].thread, NULL,
						    side ? answer : ask,
						    &self->player[side][i]));
	for (i = 0; i < self->n[0]; i++) {
		pthread_join(self->player[0][i].thread, NULL);
		EXPECT_EQ(0, self->player[0][i].ret);
	}
	store_release(&self->section[0]->control.closed, 1);
	for (i = 0; i < self->n[1]; i++) {
		pthread_join(self->player[1][i].thread, NULL);
		EXPECT_EQ(-ESHUTDOWN, self->player[1][i].ret);
	}
	for (i = 0; i < MANY * REQUESTS; i++)
		ASSERT_EQ(i < self->n[0] * REQUESTS, self->answered[i]);
}

/* One holds the oldest: what comes behind it is not room. */
TEST_F(shared, what_is_held_is_not_written_over)
{
	struct evering *a = self->player[0][0].ep, *b = self->player[1][0].ep;
	struct evering *other = self->player[1][self->n[1] - 1].ep;
	const struct evering_sqe *sqe;
	unsigned int i, round, held;

	if (b == other)
		return;
	for (round = 0; round < 200; round++) {
		held = round % ENTRIES;
		for (i = 0; i < ENTRIES; i++) {
			evering_get_sqe(a)->user_data = i;
			ASSERT_EQ(1, evering_submit(a));
		}
		for (i = 0; i < ENTRIES; i++) {
			struct evering *ep = i == held ? b : other;

			ASSERT_EQ(0, evering_peek_sqe(ep, &sqe));
			ASSERT_EQ(i, sqe->user_data);
			if (ep == other)
				evering_sqe_seen(ep, sqe);
		}
		for (i = 0; i < held; i++) {
			evering_get_sqe(a)->user_data = 1000 + i;
			ASSERT_EQ(1, evering_submit(a));
		}
		EXPECT_EQ(-EAGAIN, evering_wait_sq_space(a, &(struct timespec){ 0, 0 }));
		for (i = 0; i < held; i++) {
			ASSERT_EQ(0, evering_peek_sqe(other, &sqe));
			ASSERT_EQ(1000 + i, sqe->user_data);
			evering_sqe_seen(other, sqe);
		}
		ASSERT_EQ(0, evering_peek_sqe(b, &sqe));
		ASSERT_EQ(held, sqe->user_data);
		evering_sqe_seen(b, sqe);
		EXPECT_EQ(EVERING_READY_SPACE,
			  evering_wait_sq_space(a, &(struct timespec){ 0, 0 }));
	}
}

/* Closes and opens, as fast as can be. */
struct door {
	pthread_t thread;
	uint32_t closed;
	uint32_t stop;
};

static void *slam(void *arg)
{
	struct door *door = arg;
	unsigned int i;

	while (!load_once(&door->stop)) {
		store_once(&door->closed, 1);
		for (i = 0; i < 20; i++)
			cpu_relax();
		store_once(&door->closed, 0);
		for (i = 0; i < 20; i++)
			cpu_relax();
	}
	return NULL;
}

/*
 * The end may come between a claim and the look whether it has come.  Then the slot
 * is skipped, and whoever sleeps there must be told, or he never hears of the end.
 */
TEST_F(shared, a_claim_that_came_too_late_rings)
{
	struct evering *a = self->player[0][0].ep, *b = self->player[1][0].ep;
	unsigned int skipped[2] = { 0 }, both;
	struct door door = { .closed = 0 };
	const struct evering_sqe *sqe;
	uint64_t tail, rung, until = evr_now() + 1000000000U;
	struct evering_sqe *gone;
	int ret;

	if (!a->shared)
		return;
	a->shared->out.closed = &door.closed;
	ASSERT_EQ(0, pthread_create(&door.thread, NULL, slam, &door));
	for (both = 0; both < 2; both++) {
		while (skipped[both] < 10 && evr_now() < until) {
			/* What is skipped takes up room as well. */
			do {
				while (!evering_peek_sqe(b, &sqe))
					evering_sqe_seen(b, sqe);
			} while (evering_sq_reserved(a) && evering_submit(a) < 0);
			while (!evering_peek_sqe(b, &sqe))
				evering_sqe_seen(b, sqe);
			tail = self->section[0]->control.tail;
			/* Alone, or behind one that goes out. */
			evering_get_sqe(a);
			if (both) {
				gone = evering_get_sqe(a);
				evering_get_sqe(a);
				ASSERT_EQ(0, evering_sqe_cancel(a, gone));
			}
			store_once(&header.ring[0].wake_at, tail + both);
			rung = doorbells;
			ret = evering_submit(a);
			store_once(&header.ring[0].wake_at, EVERING_NOBODY);
			if (ret != (both ? 1 : -ESHUTDOWN) ||
			    self->section[0]->control.tail != tail + 1 + both)
				continue;
			skipped[both]++;
			EXPECT_LT(rung, doorbells);
		}
	}
	store_once(&door.stop, 1);
	pthread_join(door.thread, NULL);
	TH_LOG("%u and %u", skipped[0], skipped[1]);
}

/* Skips what it is told to, a little later. */
struct skipper {
	pthread_t thread;
	struct multi_ring *ring;
	uint64_t pos;		/* + 1; 0: nothing */
	uint32_t stop;
};

static void *skip(void *arg)
{
	struct skipper *s = arg;
	unsigned int i, later = 0;

	while (!load_once(&s->stop)) {
		uint64_t pos = load_acquire(&s->pos);

		if (!pos)
			continue;
		for (i = 0; i < later % 64; i++)
			cpu_relax();
		later++;
		multi_cancel(s->ring, pos - 1, 1);
		store_release(&s->pos, 0);
	}
	return NULL;
}

/* Two claimed before the end; the first is skipped, and the second still comes. */
TEST_F(shared, the_end_is_behind_all_that_was_claimed)
{
	struct evering *a = self->player[0][0].ep, *b = self->player[1][0].ep;
	struct skipper s = { .pos = 0 };
	uint64_t pos[2], until = evr_now() + 1000000000U;
	const struct evering_sqe *sqe;
	unsigned int round, count;
	int ret;

	if (!a->shared)
		return;
	s.ring = &a->shared->out;
	ASSERT_EQ(0, pthread_create(&s.thread, NULL, skip, &s));
	for (round = 0; round < 3000 && evr_now() < until; round++) {
		ASSERT_EQ(MULTI_OK, multi_reserve(s.ring, 1, &pos[0], &count));
		ASSERT_EQ(MULTI_OK, multi_reserve(s.ring, 1, &pos[1], &count));
		store_release(&self->section[0]->control.closed, 1);
		store_release(&s.pos, pos[0] + 1);
		do {
			ret = evering_peek_sqe(b, &sqe);
		} while (ret == -EAGAIN && load_acquire(&s.pos));
		if (ret == -EAGAIN)
			ret = evering_peek_sqe(b, &sqe);
		EXPECT_EQ(-EAGAIN, ret) TH_LOG("round %u", round);
		while (load_acquire(&s.pos))
			;
		multi_commit(s.ring, pos[1], 1);
		ASSERT_EQ(0, evering_peek_sqe(b, &sqe));
		evering_sqe_seen(b, sqe);
		ASSERT_EQ(-ESHUTDOWN, evering_peek_sqe(b, &sqe));
		store_release(&self->section[0]->control.closed, 0);
		if (ret != -EAGAIN)
			break;
	}
	store_once(&s.stop, 1);
	pthread_join(s.thread, NULL);
}

/* Whoever looks for room helps the cursor of one who was interrupted. */
TEST_F(shared, a_cursor_that_lags_is_helped)
{
	struct evering *a = self->player[0][0].ep;

	if (!a->shared)
		return;
	evering_get_sqe(a)->user_data = 1;
	ASSERT_EQ(1, evering_submit(a));
	ASSERT_EQ(1, self->section[0]->control.tail);
	self->section[0]->control.tail = 0;
	EXPECT_EQ(EVERING_READY_SPACE,
		  evering_wait_sq_space(a, &(struct timespec){ 0, 0 }));
	EXPECT_EQ(1, self->section[0]->control.tail);
}

/* What many take is told by words of theirs, and one of them may lie. */
TEST_F(shared, a_claim_of_the_peers_that_lies)
{
	struct evering *a = self->player[0][0].ep;
	unsigned int i;

	if (!a->out.claims)
		return;
	for (i = 0; i < ENTRIES; i++) {
		evering_get_sqe(a)->user_data = i;
		ASSERT_EQ(1, evering_submit(a));
	}
	self->section[1]->claims[0] = evering_word(9, 1, 0, EVERING_IDLE);
	EXPECT_EQ(NULL, evering_get_sqe(a));
	EXPECT_EQ(-EPROTO, evering_wait_sq_space(a, NULL));
	EXPECT_EQ(-EPROTO, evering_submit(a));
}

TEST_HARNESS_MAIN
