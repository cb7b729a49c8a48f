// SPDX-License-Identifier: GPL-2.0
/*
 * Payloads between two processes, one of which is killed at random: every byte that
 * arrives is right, and once the survivor has finished, its heap is empty.
 *
 * KILLS in the environment says how many on each side (default 40).
 */
#include <stdlib.h>
#include <sys/mman.h>

#include "evering_test.h"
#include "evering.h"

#define NAME	"test.payload"
#define WINDOW	16U
#define HELD	24U

static const struct evering_geometry geometry = {
	.entries = { 32, 32 },
	.slot_size = { 64, 64 },
	.heap_size = { 256 << 10, 256 << 10 },
};

static const struct timespec long_enough = { 20, 0 };

static const struct evering_type words_type = EVERING_TYPE(uint64_t, "test.words");

/* Up to three pages, most of them small. */
static size_t words_of(uint64_t n)
{
	uint64_t hash = n * 0x9e3779b97f4a7c15UL;

	return 1 + (hash >> 40) % (hash & 7 ? 40 : 1500);
}

static void fill(uint64_t *words, size_t nr, uint64_t seed)
{
	size_t i;

	for (i = 0; i < nr; i++)
		words[i] = seed * 31 + i;
}

static bool filled(const uint64_t *words, size_t nr, uint64_t seed)
{
	size_t i;

	for (i = 0; i < nr; i++)
		if (words[i] != seed * 31 + i)
			return false;
	return true;
}

static int make(struct evering *ep, uint64_t n, uint64_t seed,
		struct evering_token *token)
{
	size_t nr = words_of(n);
	void *block;
	int ret = evering_alloc_array(ep, nr, 8, &block);

	if (ret)
		return ret;
	fill(block, nr, seed);
	return evering_tokenize(ep, block, nr * 8, &words_type, token);
}

static bool is_right(struct evering *ep, uint64_t n, uint64_t seed,
		     struct evering_token token)
{
	const void *words;
	int64_t nr = evering_token_get(ep, token, &words_type, &words);

	return nr == (int64_t)words_of(n) && filled(words, words_of(n), seed);
}

/* Answers until the client has ended; NULL, or what went wrong. */
static const char *serve(struct evering *ep)
{
	const struct evering_sqe *sqe;
	struct evering_cqe *cqe = NULL;
	struct evering_token token = { 0 };
	int ret;

	for (;;) {
		ret = evering_complete_and_wait_timeout(ep, &sqe, 1, &long_enough);
		/* What could not be sent is still this side's. */
		if (ret == -EPIPE && evering_cq_reserved(ep) &&
		    (evering_cqe_cancel(ep, cqe) ||
		     evering_free(ep, evering_token_block(ep, token))))
			return "an answer is neither sent nor here";
		if (ret == -EPIPE || ret == -ESHUTDOWN)
			return NULL;
		if (ret < 0)
			return "the server cannot wait";
		if (!is_right(ep, sqe->user_data, sqe->user_data, evering_sqe_token(sqe)))
			return "a request is not what was sent";
		cqe = evering_get_cqe(ep);
		if (!cqe)
			return "no slot for the answer";
		cqe->user_data = sqe->user_data;
		if (make(ep, sqe->user_data, ~sqe->user_data, &token) ||
		    evering_cqe_attach(ep, cqe, token))
			return "an answer cannot be sent";
		evering_sqe_seen(ep, sqe);
	}
}

/* Asks until the server has gone, or @most times. */
static const char *ask(struct evering *ep, uint64_t most)
{
	struct evering_token held[HELD] = { { 0 } }, token;
	struct evering_token tokens[WINDOW];
	struct evering_sqe *asked[WINDOW];
	uint64_t sent = 0, got = 0;
	const struct evering_cqe *cqe;
	unsigned int unsent, i;
	int ret = 0;

	while (got < most) {
		while (sent < most && sent - got < WINDOW) {
			struct evering_sqe *sqe = evering_get_sqe(ep);

			if (!sqe)
				break;
			if (make(ep, sent, sent, &token) ||
			    evering_sqe_attach(ep, sqe, sent, token))
				return "a request cannot be sent";
			tokens[sent % WINDOW] = token;
			asked[sent++ % WINDOW] = sqe;
		}
		ret = evering_submit_and_wait_timeout(ep, &cqe, 1, &long_enough);
		/* The dead send nothing; what they have sent is there. */
		if (ret == -EPIPE)
			ret = evering_peek_cqe(ep, &cqe);
		if (ret == -EPIPE) {
			/* What could not be sent is still this side's. */
			for (unsent = evering_sq_reserved(ep); unsent; unsent--) {
				i = --sent % WINDOW;
				if (evering_sqe_cancel(ep, asked[i]) ||
				    evering_free(ep, evering_token_block(ep, tokens[i])))
					return "a request is neither sent nor here";
			}
			return NULL;
		}
		if (ret < 0)
			return "the client cannot wait";
		if (evering_release(ep, held[got % HELD]))
			return "cannot be handed back";
		held[got % HELD] = evering_cqe_token(cqe);
		if (!is_right(ep, cqe->user_data, ~cqe->user_data, held[got % HELD]))
			return "an answer is not what was sent";
		evering_cqe_seen(ep, cqe);
		got++;
	}
	for (got = 0; got < HELD; got++)
		if (evering_release(ep, held[got]))
			return "cannot be handed back";
	return NULL;
}

FIXTURE(payload)
{
	struct evering_service *service;
	struct evering *ep;
	struct evering_heap_stats stats;
	unsigned int kills;
	pid_t child;
};

FIXTURE_SETUP(payload)
{
	const char *kills = getenv("KILLS");

	self->kills = kills ? (unsigned int)atoi(kills) : 40;
	ASSERT_EQ(0, evering_listen(NAME, NULL, &self->service));
}

FIXTURE_TEARDOWN(payload)
{
	evering_service_close(self->service);
}

/* Kills @pid after a while, another one each time; its pid, to wait for. */
static pid_t kill_later(pid_t pid, unsigned int n)
{
	pid_t killer = fork();

	if (killer)
		return killer;
	nanosleep(&(struct timespec){ 0, (1000 + n * 7919 % 60000) * 1000L }, NULL);
	_exit(kill(pid, SIGKILL));
}

TEST_F(payload, come_back_while_both_live)
{
	const struct evering_cqe *cqe;
	int status;

	self->child = fork();
	ASSERT_LE(0, self->child);
	if (!self->child) {
		if (evering_connect(NAME, &geometry, &self->ep))
			_exit(1);
		if (ask(self->ep, 3000))
			_exit(2);
		if (evering_heap_stats(self->ep, &self->stats) ||
		    self->stats.used || self->stats.in_flight)
			_exit(3);
		/* Lives on until the server has looked. */
		evering_shutdown(self->ep, EVERING_SHUT_WR);
		_exit(evering_wait_cqe_timeout(self->ep, &cqe, &long_enough) != -EPIPE);
	}
	ASSERT_EQ(0, evering_accept_timeout(self->service, &self->ep, &long_enough));
	EXPECT_EQ(NULL, serve(self->ep));
	ASSERT_EQ(0, evering_heap_stats(self->ep, &self->stats));
	EXPECT_EQ(0, self->stats.used);
	EXPECT_EQ(0, self->stats.lent);
	EXPECT_EQ(0, self->stats.refused);
	EXPECT_LT(0, self->stats.peak);
	evering_close(self->ep);
	ASSERT_EQ(self->child, waitpid(self->child, &status, 0));
	EXPECT_EQ(0, status);
}

/* Of several who share a side, nobody could keep the books. */
TEST_F(payload, not_of_a_side_with_many)
{
	static const struct evering_geometry many = {
		.entries = { 64, 64 },
		.slot_size = { 64, 64 },
		.heap_size = { 64 << 10, 64 << 10 },
	};
	struct evering_heap_stats stats;
	const struct evering_sqe *asked;
	struct evering_token token;
	struct evering_sqe *sqe;
	struct evering_cqe *cqe;
	struct evering *peer;
	void *block;

	ASSERT_EQ(0, evering_channel_create("test.many", 0600, &many,
					    EVERING_URING_MULTI_A, &self->ep));
	ASSERT_EQ(0, evering_channel_open("test.many", 0, &peer));
	EXPECT_EQ(-EOPNOTSUPP, evering_alloc(self->ep, 1, &block));
	EXPECT_EQ(-EOPNOTSUPP, evering_heap_stats(self->ep, &stats));
	ASSERT_EQ(0, evering_copy(peer, "answer", 7, NULL, &token));
	sqe = evering_get_sqe(self->ep);
	EXPECT_EQ(-EOPNOTSUPP, evering_sqe_attach(self->ep, sqe, 1, token));
	EXPECT_EQ(-EOPNOTSUPP, evering_release(self->ep, token));
	cqe = evering_get_cqe(peer);
	EXPECT_EQ(-EOPNOTSUPP, evering_cqe_attach(peer, cqe, token));
	EXPECT_NE(NULL, evering_token_block(peer, token));
	evering_close(peer);
	evering_close(self->ep);

	/* A client may send to many; they have no payload to answer with. */
	ASSERT_EQ(0, evering_channel_create("test.many", 0600, &many,
					    EVERING_URING_MULTI_B, &self->ep));
	ASSERT_EQ(0, evering_channel_open("test.many", 0, &peer));
	ASSERT_EQ(0, evering_copy(self->ep, "asked", 6, NULL, &token));
	ASSERT_EQ(0, evering_sqe_attach(self->ep, evering_get_sqe(self->ep), 1, token));
	ASSERT_EQ(1, evering_submit(self->ep));
	ASSERT_EQ(0, evering_wait_sqe(peer, &asked));
	EXPECT_STREQ("asked", evering_token_payload(peer, evering_sqe_token(asked)));
	EXPECT_EQ(-EOPNOTSUPP, evering_alloc(peer, 1, &block));
	evering_close(peer);
	EXPECT_EQ(0, evering_heap_stats(self->ep, &stats));
	EXPECT_EQ(0, stats.used);
	evering_close(self->ep);
}

TEST_F_TIMEOUT(payload, of_killed_clients, 600)
{
	unsigned int i;
	pid_t killer;

	for (i = 0; i < self->kills; i++) {
		self->child = fork();
		ASSERT_LE(0, self->child);
		if (!self->child) {
			if (!evering_connect(NAME, &geometry, &self->ep))
				ask(self->ep, UINT64_MAX);
			_exit(1);
		}
		ASSERT_EQ(0, evering_accept_timeout(self->service, &self->ep,
						    &long_enough));
		killer = kill_later(self->child, i);
		ASSERT_EQ(NULL, serve(self->ep));
		ASSERT_EQ(0, evering_heap_stats(self->ep, &self->stats));
		EXPECT_EQ(0, self->stats.lent);
		EXPECT_EQ(0, self->stats.used) TH_LOG("kill %u", i);
		EXPECT_EQ(0, self->stats.refused);
		evering_close(self->ep);
		ASSERT_EQ(self->child, waitpid(self->child, NULL, 0));
		ASSERT_EQ(killer, waitpid(killer, NULL, 0));
	}
}

TEST_F_TIMEOUT(payload, of_killed_servers, 600)
{
	struct evering_peer peer;
	unsigned int i;
	pid_t killer;

	for (i = 0; i < self->kills; i++) {
		self->child = fork();
		ASSERT_LE(0, self->child);
		if (!self->child) {
			if (!evering_accept_timeout(self->service, &self->ep,
						    &long_enough))
				serve(self->ep);
			_exit(1);
		}
		ASSERT_EQ(0, evering_connect(NAME, &geometry, &self->ep));
		/* One that dies before it has accepted is not its server. */
		do {
			ASSERT_EQ(0, evering_peer(self->ep, &peer));
		} while (peer.state == EVERING_STATE_PENDING);
		killer = kill_later(self->child, i);
		ASSERT_EQ(NULL, ask(self->ep, UINT64_MAX));
		ASSERT_EQ(0, evering_heap_stats(self->ep, &self->stats));
		EXPECT_EQ(0, self->stats.in_flight);
		EXPECT_EQ(0, self->stats.used) TH_LOG("kill %u", i);
		evering_close(self->ep);
		ASSERT_EQ(self->child, waitpid(self->child, NULL, 0));
		ASSERT_EQ(killer, waitpid(killer, NULL, 0));
	}
}

TEST_HARNESS_MAIN
