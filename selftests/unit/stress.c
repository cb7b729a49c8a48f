// SPDX-License-Identifier: GPL-2.0
/*
 * Client and server as threads over a kernel in user space: everything that
 * was submitted comes back, in order, whole, whoever sleeps when.  Runs under
 * ThreadSanitizer, which sees an ordering that is missing, and under
 * AddressSanitizer.
 */
#include "mock.h"
#include "kselftest_harness.h"

#ifndef MESSAGES
#define MESSAGES 60000U
#endif

/* A wake-up that is lost shows as a time-out. */
static const struct timespec safety = { 20, 0 };

struct run {
	struct mock *m;
	unsigned int seed;
	unsigned int window;	/* requests in flight, at most */
	unsigned int spin_ns;
	const char *failed;
};

static uint32_t next_random(unsigned int *seed)
{
	/* xorshift: the same run for the same seed */
	*seed ^= *seed << 13;
	*seed ^= *seed >> 17;
	*seed ^= *seed << 5;
	return *seed;
}

static void fail(struct run *r, const char *why)
{
	store_once(&r->failed, why);
}

static void fill(uint8_t *data, uint64_t value)
{
	unsigned int i;

	for (i = 0; i < 32; i++)
		data[i] = (uint8_t)(value * 31 + i);
}

static bool check(const uint8_t *data, uint64_t value)
{
	unsigned int i;

	for (i = 0; i < 32; i++)
		if (data[i] != (uint8_t)(value * 31 + i))
			return false;
	return true;
}

/* Takes requests in batches of random size, answers each, in order. */
static void *serve(void *arg)
{
	struct run *r = arg;
	struct evering *ep = r->m->ep[EVERING_SIDE_B];
	const struct evering_sqe *sqes[8];
	unsigned int seed = r->seed * 7 + 1;
	uint64_t expected = 0;
	int i, nr, ret;

	evering_set_spin(ep, r->spin_ns);
	for (;;) {
		ret = evering_wait_sqes(ep, NULL, 1 + next_random(&seed) % 2,
					&safety);
		if (ret == -ESHUTDOWN)
			return NULL;
		if (ret) {
			fail(r, ret == -ETIME ? "server: lost wake-up" : "server: wait");
			return NULL;
		}
		nr = evering_peek_batch_sqe(ep, sqes, 1 + next_random(&seed) % 8);
		for (i = 0; i < nr; i++) {
			struct evering_cqe *cqe;

			if (sqes[i]->user_data != expected ||
			    !check(sqes[i]->data, expected)) {
				fail(r, "server: wrong request");
				return NULL;
			}
			expected++;
			while (!(cqe = evering_get_cqe(ep))) {
				ret = evering_wait_cq_space(ep, &safety);
				if (ret < 0) {
					fail(r, "server: no room");
					return NULL;
				}
				if (!(ret & EVERING_READY_SPACE))
					sched_yield();
			}
			cqe->user_data = sqes[i]->user_data;
			cqe->res = (int)sqes[i]->len;
			fill(cqe->data, ~sqes[i]->user_data);
		}
		evering_sq_advance(ep, nr);
		ret = evering_complete(ep);
		if (ret < 0) {
			fail(r, "server: complete");
			return NULL;
		}
	}
}

static bool take_answers(struct run *r, uint64_t *got, unsigned int wait_nr)
{
	struct evering *ep = r->m->ep[EVERING_SIDE_A];
	const struct evering_cqe *cqe;
	int ret;

	ret = evering_submit_and_wait_timeout(ep, &cqe, wait_nr, &safety);
	if (ret < 0) {
		fail(r, ret == -ETIME ? "client: lost wake-up" : "client: submit_and_wait");
		return false;
	}
	while (!evering_peek_cqe(ep, &cqe)) {
		if (cqe->user_data != *got || cqe->res != (int)(*got & 0xffff) ||
		    !check(cqe->data, ~*got)) {
			fail(r, "client: wrong completion");
			return false;
		}
		(*got)++;
		evering_cqe_seen(ep, cqe);
	}
	return true;
}

static void *request(void *arg)
{
	struct run *r = arg;
	struct evering *ep = r->m->ep[EVERING_SIDE_A];
	unsigned int seed = r->seed * 13 + 5;
	uint64_t sent = 0, got = 0;

	evering_set_spin(ep, r->spin_ns);
	while (got < MESSAGES && !load_once(&r->failed)) {
		unsigned int batch = 1 + next_random(&seed) % r->window;
		unsigned int wait_nr;

		while (batch-- && sent < MESSAGES && sent - got < r->window) {
			struct evering_sqe *sqe = evering_get_sqe(ep);

			if (!sqe)
				break;
			if (next_random(&seed) % 16 == 0) {
				evering_sqe_cancel(ep, sqe);
				continue;
			}
			sqe->user_data = sent;
			sqe->len = sent & 0xffff;
			fill(sqe->data, sent);
			sent++;
		}
		/*
		 * The server may wait for two requests before it answers, so
		 * it is sure to answer all but one of a full window.
		 */
		wait_nr = next_random(&seed) % 3;
		if (wait_nr > r->window - 1)
			wait_nr = r->window - 1;
		if (sent - got < r->window)
			wait_nr = 0;
		if (sent == MESSAGES) {
			evering_submit(ep);
			mock_shutdown(r->m, EVERING_SIDE_A, EVERING_SHUT_WR);
			while (got < MESSAGES && !load_once(&r->failed)) {
				const struct evering_cqe *cqe;

				if (evering_wait_cqe_timeout(ep, &cqe, &safety)) {
					fail(r, "client: lost wake-up at the end");
					break;
				}
				got++;
				evering_cqe_seen(ep, cqe);
			}
			return NULL;
		}
		if (!take_answers(r, &got, wait_nr))
			break;
	}
	return NULL;
}

FIXTURE(stress)
{
	struct run run;
};

FIXTURE_VARIANT(stress)
{
	uint32_t sq, cq;
	unsigned int window;
	unsigned int spin_ns;
};

FIXTURE_VARIANT_ADD(stress, tiny_sleeping) { 2, 2, 2, 0 };
FIXTURE_VARIANT_ADD(stress, small_sleeping) { 8, 4, 8, 0 };
FIXTURE_VARIANT_ADD(stress, small_spinning) { 8, 8, 6, 20000 };
FIXTURE_VARIANT_ADD(stress, big_mixed) { 64, 128, 40, 2000 };

FIXTURE_SETUP(stress)
{
	struct evering_geometry geometry = {
		.entries = { variant->sq, variant->cq },
		.slot_size = { 64, 64 },
	};

	self->run = (struct run){
		.m = mock_new(&geometry),
		.seed = 12345,
		.window = variant->window,
		.spin_ns = variant->spin_ns,
	};
}

FIXTURE_TEARDOWN(stress)
{
	mock_free(self->run.m);
}

TEST_F_TIMEOUT(stress, nothing_lost_nothing_torn, 100)
{
	pthread_t client, server;

	ASSERT_EQ(0, pthread_create(&server, NULL, serve, &self->run));
	ASSERT_EQ(0, pthread_create(&client, NULL, request, &self->run));
	pthread_join(client, NULL);
	if (load_once(&self->run.failed))
		mock_kill(self->run.m, EVERING_SIDE_A);
	pthread_join(server, NULL);
	EXPECT_EQ(NULL, load_once(&self->run.failed))
		TH_LOG("%s", load_once(&self->run.failed));
}

TEST_HARNESS_MAIN
