// SPDX-License-Identifier: GPL-2.0
/*
 * Payloads over a kernel in user space: blocks that are sent, lent, handed back,
 * left by the dead, and lied about.
 */
#include "heap.h"
#include "mock.h"
#include "kselftest_harness.h"

#define HEAP	(64U << 10)
#define LENDS	512U		/* granules of heap B */

static const struct evering_geometry geometry = {
	.entries = { 8, 8 },
	.slot_size = { 64, 64 },
	.heap_size = { HEAP, HEAP },
};

struct position {
	double x, y;
};

static const struct evering_type position =
	EVERING_TYPE(struct position, "geo.position");
static const struct evering_type number = EVERING_TYPE(uint32_t, "number");

FIXTURE(heap)
{
	struct mock *m;
	struct evering *client;
	struct evering *server;
	struct evering_heap_stats stats;
};

FIXTURE_SETUP(heap)
{
	self->m = mock_new(&geometry);
	self->client = self->m->ep[EVERING_SIDE_A];
	self->server = self->m->ep[EVERING_SIDE_B];
	evering_set_spin(self->client, 0);
	evering_set_spin(self->server, 0);
}

FIXTURE_TEARDOWN(heap)
{
	mock_free(self->m);
}

static struct evering_heap_stats stats_of(struct evering *ep)
{
	struct evering_heap_stats stats = { .size = 1 };

	evering_heap_stats(ep, &stats);
	return stats;
}

/* A request with a payload of @len bytes of @byte; 0 or -errno. */
static int send_payload(struct evering *ep, uint64_t user_data, size_t len,
			int byte, struct evering_token *token)
{
	struct evering_sqe *sqe = evering_get_sqe(ep);
	void *block;
	int ret;

	if (!sqe)
		return -EAGAIN;
	ret = evering_alloc(ep, len, &block);
	if (ret)
		return ret;
	memset(block, byte, len);
	ret = evering_tokenize(ep, block, len, NULL, token);
	if (!ret)
		ret = evering_sqe_attach(ep, sqe, user_data, *token);
	return ret ? ret : evering_submit(ep) - 1;
}

static int lend_payload(struct evering *ep, uint64_t user_data, size_t len,
			struct evering_token *token)
{
	struct evering_cqe *cqe = evering_get_cqe(ep);
	void *block;
	int ret;

	if (!cqe)
		return -EAGAIN;
	cqe->user_data = user_data;
	ret = evering_alloc(ep, len, &block);
	if (!ret)
		ret = evering_tokenize(ep, block, len, NULL, token);
	if (!ret)
		ret = evering_cqe_attach(ep, cqe, *token);
	if (ret) {
		evering_free(ep, block);
		evering_cqe_cancel(ep, cqe);
		return ret;
	}
	return evering_complete(ep) - 1;
}

static int complete(struct evering *ep, uint64_t user_data)
{
	struct evering_cqe *cqe = evering_get_cqe(ep);

	if (!cqe)
		return -EAGAIN;
	*cqe = (struct evering_cqe){ .user_data = user_data };
	return evering_complete(ep) - 1;
}

static int take_completion(struct evering *ep, struct evering_token *token)
{
	const struct evering_cqe *cqe;
	int ret = evering_peek_cqe(ep, &cqe);

	if (ret)
		return ret;
	*token = evering_cqe_token(cqe);
	evering_cqe_seen(ep, cqe);
	return 0;
}

/* -------------------------------------------------------------- allocating */

TEST_F(heap, allocate_and_free)
{
	void *a, *b;

	ASSERT_EQ(0, evering_alloc(self->client, 1, &a));
	ASSERT_EQ(0, evering_alloc(self->client, 129, &b));
	EXPECT_EQ(0, (uintptr_t)a % EVERING_GRANULE);
	EXPECT_EQ(128, evering_block_size(self->client, a));
	EXPECT_EQ(256, evering_block_size(self->client, b));
	memset(a, 1, 1);
	memset(b, 2, 129);
	self->stats = stats_of(self->client);
	EXPECT_EQ(HEAP, self->stats.size);
	EXPECT_EQ(384, self->stats.used);
	EXPECT_EQ(2, self->stats.blocks);
	EXPECT_EQ(HEAP - 384, self->stats.largest);
	EXPECT_EQ(0, evering_free(self->client, a));
	EXPECT_EQ(0, evering_free(self->client, b));
	EXPECT_EQ(0, evering_free(self->client, NULL));
	self->stats = stats_of(self->client);
	EXPECT_EQ(0, self->stats.used);
	EXPECT_EQ(0, self->stats.blocks);
	EXPECT_EQ(384, self->stats.peak);
	EXPECT_EQ(HEAP, self->stats.largest);
}

TEST_F(heap, wrong_sizes)
{
	void *block;

	EXPECT_EQ(-EINVAL, evering_alloc(self->client, 0, &block));
	EXPECT_EQ(-ENOMEM, evering_alloc(self->client, HEAP + 1, &block));
	EXPECT_EQ(-ENOMEM, evering_alloc(self->client, SIZE_MAX, &block));
	EXPECT_EQ(-ENOMEM, evering_alloc_array(self->client, SIZE_MAX / 2, 3, &block));
	EXPECT_EQ(-EINVAL, evering_alloc_array(self->client, 0, 3, &block));
	EXPECT_EQ(-EINVAL, evering_alloc_aligned(self->client, 1, 0, &block));
	EXPECT_EQ(-EINVAL, evering_alloc_aligned(self->client, 1, 48, &block));
	EXPECT_EQ(-EINVAL, evering_alloc_aligned(self->client, 1, 8192, &block));
	EXPECT_EQ(0, evering_alloc(self->client, HEAP, &block));
	EXPECT_EQ(-ENOMEM, evering_alloc(self->client, 1, &block));
}

TEST_F(heap, aligned_and_arrays)
{
	void *small, *page, *array;

	ASSERT_EQ(0, evering_alloc(self->client, 1, &small));
	ASSERT_EQ(0, evering_alloc_aligned(self->client, 100, 4096, &page));
	EXPECT_EQ(0, (uintptr_t)page % 4096);
	ASSERT_EQ(0, evering_alloc_array(self->client, 100, 12, &array));
	EXPECT_EQ(1280, evering_block_size(self->client, array));
}

TEST_F(heap, only_a_block_is_freed)
{
	char *block, on_the_stack;

	EXPECT_EQ(-EINVAL, evering_free(self->client, &on_the_stack));
	ASSERT_EQ(0, evering_alloc(self->client, 1000, (void **)&block));
	EXPECT_EQ(-EINVAL, evering_free(self->client, block + 1));
	EXPECT_EQ(-EINVAL, evering_free(self->client, block + EVERING_GRANULE));
	EXPECT_EQ(-EINVAL, evering_free(self->client, &on_the_stack));
	EXPECT_EQ(-EINVAL, evering_free(self->client, block + HEAP));
	EXPECT_EQ(-EINVAL, evering_free(self->client, block - 128));
	EXPECT_EQ(-EINVAL, evering_free(self->server, block));
	EXPECT_EQ(0, evering_block_size(self->client, block + 128));
	EXPECT_EQ(0, evering_free(self->client, block));
	EXPECT_EQ(-EINVAL, evering_free(self->client, block));
	EXPECT_EQ(0, evering_block_size(self->client, block));
}

TEST(no_heap)
{
	static const struct evering_geometry none = {
		.entries = { 4, 4 }, .slot_size = { 64, 64 },
	};
	struct mock *m = mock_new(&none);
	struct evering_heap_stats stats;
	struct evering_token token = { .block = evr_token_word(1, 0), .len = 1 };
	struct evering_sqe *sqe = evering_get_sqe(m->ep[0]);
	void *block;

	EXPECT_EQ(-EOPNOTSUPP, evering_alloc(m->ep[0], 1, &block));
	EXPECT_EQ(-EOPNOTSUPP, evering_heap_stats(m->ep[0], &stats));
	EXPECT_EQ(-EOPNOTSUPP, evering_copy(m->ep[0], "", 1, NULL, &token));
	EXPECT_EQ(-EINVAL, evering_sqe_attach(m->ep[0], sqe, 1, token));
	EXPECT_EQ(0, evering_sqe_attach(m->ep[0], sqe, 1, (struct evering_token){ 0 }));
	EXPECT_EQ(1, sqe->user_data);
	EXPECT_EQ(-EINVAL, evering_release(m->ep[0], token));
	EXPECT_EQ(NULL, evering_token_payload(m->ep[0], token));
	EXPECT_EQ(NULL, evering_token_block(m->ep[0], token));
	mock_free(m);
}

/* ------------------------------------------------------------------ tokens */

TEST_F(heap, tokens_of_blocks)
{
	struct evering_token token;
	void *block;

	ASSERT_EQ(0, evering_alloc(self->client, 128, &block));
	EXPECT_EQ(-EINVAL, evering_tokenize(self->client, block, 129, NULL, &token));
	EXPECT_EQ(-EINVAL, evering_tokenize(self->client, &token, 1, NULL, &token));
	EXPECT_EQ(-EINVAL, evering_tokenize(self->client, block, 15, &position, &token));
	EXPECT_EQ(-EINVAL, evering_tokenize(self->client, block, 0, &position, &token));
	EXPECT_EQ(-EINVAL, evering_tokenize(self->client, block, 16,
		&(struct evering_type)EVERING_TYPE(struct position, ""), &token));
	EXPECT_EQ(-EINVAL, evering_copy(self->client, "abc", 3, &number, &token));
	EXPECT_EQ(1, stats_of(self->client).blocks);
	EXPECT_EQ(0, evering_tokenize(self->client, block, 0, NULL, &token));
	EXPECT_EQ(0, evering_tokenize(self->client, block, 128, &position, &token));
	EXPECT_EQ(128, token.len);
	EXPECT_EQ(evering_type_tag(&position), token.type);
	EXPECT_EQ(EVERING_TOKEN_KIND_CHANNEL, evering_token_kind(token));
	EXPECT_EQ(block, evering_token_block(self->client, token));
	EXPECT_EQ(NULL, evering_token_block(self->server, token));
	ASSERT_EQ(0, evering_free(self->client, block));
	EXPECT_EQ(NULL, evering_token_block(self->client, token));
	/* What begins there now is another. */
	ASSERT_EQ(0, evering_alloc(self->client, 128, &block));
	EXPECT_EQ(NULL, evering_token_block(self->client, token));
}

TEST_F(heap, values_of_a_type)
{
	const struct position here[3] = { { 1, 2 }, { 3, 4 }, { 5, 6 } };
	struct position there = { 0, 0 };
	struct evering_token token, bad;
	const void *values = NULL;

	ASSERT_EQ(0, evering_copy(self->client, here, sizeof(here), &position, &token));
	ASSERT_EQ(3, evering_token_get(self->server, token, &position, &values));
	EXPECT_EQ(0, memcmp(here, values, sizeof(here)));
	EXPECT_EQ(-EPROTOTYPE, evering_token_get(self->server, token, &number, &values));
	EXPECT_EQ(-EBADMSG, evering_token_read(self->server, token, &position, &there));
	EXPECT_EQ(0, there.x);
	bad = token;
	bad.len = sizeof(here[0]);
	EXPECT_EQ(0, evering_token_read(self->server, bad, &position, &there));
	EXPECT_EQ(2, there.y);
	/* Lies, each of them. */
	bad.len = 17;
	EXPECT_EQ(-EBADMSG, evering_token_get(self->server, bad, &position, &values));
	bad.len = 0;
	EXPECT_EQ(-EBADMSG, evering_token_get(self->server, bad, &position, &values));
	bad.len = HEAP + 16;
	EXPECT_EQ(-EBADMSG, evering_token_get(self->server, bad, &position, &values));
	bad = token;
	bad.block = evr_token_word(0, HEAP / EVERING_GRANULE);
	EXPECT_EQ(-EBADMSG, evering_token_get(self->server, bad, &position, &values));
	bad.block = evr_token_word(0, UINT32_MAX);
	EXPECT_EQ(-EBADMSG, evering_token_read(self->server, bad, &position, &there));
	bad.block = 9ULL << 60;
	EXPECT_EQ(-EBADMSG, evering_token_get(self->server, bad, &position, &values));
	EXPECT_EQ(NULL, evering_token_payload(self->server, bad));
	bad.block = 0;
	EXPECT_EQ(-ENODATA, evering_token_get(self->server, bad, &position, &values));
	EXPECT_EQ(NULL, evering_token_payload(self->server, bad));
}

TEST_F(heap, values_of_no_type_and_of_wide_ones)
{
	const struct evering_type wide = { "wide", 1, 1024, 1024 };
	struct evering_token token;
	const void *values;
	char byte;
	void *block;

	ASSERT_EQ(0, evering_copy(self->client, "bytes", 5, NULL, &token));
	EXPECT_EQ(5, evering_token_get(self->server, token, NULL, &values));
	EXPECT_EQ(0, memcmp("bytes", values, 5));
	EXPECT_EQ(-EPROTOTYPE, evering_token_get(self->server, token, &number, &values));
	EXPECT_EQ(-EINVAL, evering_token_read(self->server, token, NULL, &byte));
	token.type = 1;
	EXPECT_EQ(-EPROTOTYPE, evering_token_get(self->server, token, NULL, &values));
	ASSERT_EQ(0, evering_alloc(self->client, 1024, &block));
	EXPECT_NE(0, (uintptr_t)block % 1024);
	EXPECT_EQ(-EINVAL, evering_tokenize(self->client, block, 1024, &wide, &token));
	ASSERT_EQ(0, evering_alloc_aligned(self->client, 1024, 1024, &block));
	EXPECT_EQ(0, evering_tokenize(self->client, block, 1024, &wide, &token));
	EXPECT_EQ(1, evering_token_get(self->server, token, &wide, &values));
	/* Where a liar puts it. */
	token.block++;
	EXPECT_EQ(-EBADMSG, evering_token_get(self->server, token, &wide, &values));
}

/* Who lays out the heap himself may ask as well. */
TEST_F(heap, statistics_of_a_heap_without_books)
{
	char *heap = evering_heap(self->client, NULL);
	void *block;

	self->stats = stats_of(self->client);
	EXPECT_EQ(HEAP, self->stats.size);
	EXPECT_EQ(HEAP, self->stats.largest);
	EXPECT_EQ(0, self->stats.used);
	EXPECT_EQ(-ENOMEM, evering_alloc(self->client, HEAP + 1, &block));
	memset(heap, 1, HEAP);
}

TEST(types)
{
	static const struct evering_type one = EVERING_TYPE(char, "test.t73304");
	static const struct evering_type same = EVERING_TYPE(char, "test.t78625");
	static const struct evering_type nameless = EVERING_TYPE(char, "");
	static const struct evering_type too_long = EVERING_TYPE(char,
		"sixty-five bytes, which is one more than the name of a type can h");
	static struct evering_type others[100];
	static char names[100][8];
	struct evering_type type = position;
	struct evering_types *types;
	unsigned int i;
	char *c;

	/* FNV-1a as published, so that other languages find the same. */
	EXPECT_EQ(0xaf63dc4c8601ec8cULL, EVERING_TYPE_ID("a"));
	EXPECT_EQ(0x85944171f73967e8ULL, EVERING_TYPE_ID("foobar"));
	EXPECT_EQ(0, evering_type_tag(NULL));
	type.id = 0x0000000500000005ULL;
	EXPECT_EQ(1, evering_type_tag(&type));

	ASSERT_EQ(0, evering_types_new(&types));
	EXPECT_EQ(NULL, evering_types_find(types, evering_type_tag(&position)));
	EXPECT_EQ(0, evering_types_add(types, &position));
	EXPECT_EQ(0, evering_types_add(types, &position));
	EXPECT_EQ(&position, evering_types_find(types, evering_type_tag(&position)));
	EXPECT_EQ(NULL, evering_types_find(types, 0));
	EXPECT_EQ(NULL, evering_types_find(types, evering_type_tag(&number)));
	type = position;
	type.size = 24;
	EXPECT_EQ(-EEXIST, evering_types_add(types, &type));
	/* Two names that come to one tag, found by trying. */
	EXPECT_EQ(0, evering_types_add(types, &one));
	EXPECT_EQ(evering_type_tag(&one), evering_type_tag(&same));
	EXPECT_EQ(-ENOTUNIQ, evering_types_add(types, &same));
	EXPECT_EQ(&one, evering_types_find(types, evering_type_tag(&one)));
	EXPECT_EQ(-EINVAL, evering_types_add(types, NULL));
	EXPECT_EQ(-EINVAL, evering_types_add(types, &too_long));
	EXPECT_EQ(-EINVAL, evering_types_add(types, &nameless));
	type = position;
	type.id++;
	EXPECT_EQ(-EINVAL, evering_types_add(types, &type));
	type = position;
	type.size = 0;
	EXPECT_EQ(-EINVAL, evering_types_add(types, &type));
	type.size = 16;
	type.align = 3;
	EXPECT_EQ(-EINVAL, evering_types_add(types, &type));
	type.align = 8;
	type.name = NULL;
	EXPECT_EQ(-EINVAL, evering_types_add(types, &type));
	for (i = 0; i < 100; i++) {
		snprintf(names[i], sizeof(names[i]), "t%u", i);
		others[i] = (struct evering_type){ names[i], 0xcbf29ce484222325ULL, 1, 1 };
		for (c = names[i]; *c; c++)
			others[i].id = (others[i].id ^ (uint8_t)*c) * 0x100000001b3ULL;
		ASSERT_EQ(0, evering_types_add(types, &others[i]));
	}
	for (i = 0; i < 100; i++)
		EXPECT_EQ(&others[i],
			  evering_types_find(types, evering_type_tag(&others[i])));
	EXPECT_EQ(&position, evering_types_find(types, evering_type_tag(&position)));
	evering_types_free(types);
	evering_types_free(NULL);
}

/* ---------------------------------------------------------------- requests */

TEST_F(heap, a_request_frees_its_block_when_it_is_completed)
{
	struct evering_token token, got;
	const struct evering_sqe *sqe;
	const char *payload;

	ASSERT_EQ(0, send_payload(self->client, 7, 3000, 'x', &token));
	EXPECT_EQ(-EBUSY, evering_free(self->client, evering_heap(self->client, NULL)));
	EXPECT_EQ(NULL, evering_token_block(self->client, token));
	EXPECT_EQ(1, stats_of(self->client).in_flight);

	ASSERT_EQ(0, evering_peek_sqe(self->server, &sqe));
	got = evering_sqe_token(sqe);
	EXPECT_EQ(0, memcmp(&token, &got, sizeof(got)));
	EXPECT_EQ(3000, sqe->len);
	EXPECT_EQ(7, sqe->user_data);
	payload = evering_token_payload(self->server, got);
	ASSERT_NE(NULL, payload);
	EXPECT_EQ('x', payload[0]);
	EXPECT_EQ('x', payload[2999]);
	evering_sqe_seen(self->server, sqe);
	/* Completions of others, and one that nobody has asked for. */
	ASSERT_EQ(0, complete(self->server, 6));
	ASSERT_EQ(0, take_completion(self->client, &got));
	EXPECT_EQ(1, stats_of(self->client).in_flight);
	ASSERT_EQ(0, complete(self->server, 7));
	EXPECT_EQ(1, stats_of(self->client).in_flight);
	ASSERT_EQ(0, take_completion(self->client, &got));
	EXPECT_TRUE(evering_token_is_null(got));
	self->stats = stats_of(self->client);
	EXPECT_EQ(0, self->stats.in_flight);
	EXPECT_EQ(0, self->stats.used);
	/* Twice is once. */
	ASSERT_EQ(0, complete(self->server, 7));
	ASSERT_EQ(0, take_completion(self->client, &got));
	EXPECT_EQ(0, stats_of(self->client).used);
}

TEST_F(heap, completions_in_any_order)
{
	enum { REQUESTS = 400 };
	uint64_t order[REQUESTS];
	struct evering_token token;
	const struct evering_sqe *sqe;
	unsigned int i, k, round;
	uint32_t seed = 5;

	for (round = 0; round < 3; round++) {
		for (i = 0; i < REQUESTS; i++) {
			/* Neighbours, multiples of a page, anything. */
			order[i] = round == 0 ? i : round == 1 ? i * 4096UL :
				i * 0x9e3779b97f4a7c15UL;
			ASSERT_EQ(0, send_payload(self->client, order[i], 100, 1, &token));
			ASSERT_EQ(0, evering_peek_sqe(self->server, &sqe));
			evering_sqe_seen(self->server, sqe);
		}
		EXPECT_EQ(REQUESTS, stats_of(self->client).in_flight);
		for (i = REQUESTS; i; i--) {
			seed = seed * 1664525 + 1013904223;
			k = (seed >> 8) % i;
			ASSERT_EQ(0, complete(self->server, order[k]));
			ASSERT_EQ(0, take_completion(self->client, &token));
			ASSERT_EQ(i - 1, stats_of(self->client).in_flight);
			order[k] = order[i - 1];
		}
		EXPECT_EQ(0, stats_of(self->client).used);
	}
}

TEST_F(heap, a_batch_of_completions)
{
	const struct evering_cqe *cqes[8];
	struct evering_token token;
	unsigned int i;

	for (i = 0; i < 4; i++)
		ASSERT_EQ(0, send_payload(self->client, i, 100, 1, &token));
	for (i = 0; i < 8; i++)
		ASSERT_EQ(0, complete(self->server, i));
	ASSERT_EQ(8, evering_peek_batch_cqe(self->client, cqes, 8));
	evering_cq_advance(self->client, 3);
	EXPECT_EQ(1, stats_of(self->client).in_flight);
	evering_cq_advance(self->client, 5);
	EXPECT_EQ(0, stats_of(self->client).blocks);
}

TEST_F(heap, attaching_what_cannot_be)
{
	struct evering_sqe *sqe = evering_get_sqe(self->client);
	struct evering_sqe *second = evering_get_sqe(self->client);
	struct evering_sqe *third = evering_get_sqe(self->client);
	struct evering_token a, b, bad;
	void *block;

	ASSERT_EQ(0, evering_copy(self->client, "abc", 3, NULL, &a));
	ASSERT_EQ(0, evering_copy(self->client, "def", 3, NULL, &b));
	/* A slot that is none, or not reserved, or the other side's. */
	EXPECT_EQ(-EINVAL, evering_sqe_attach(self->client, (void *)&a, 1, a));
	EXPECT_EQ(-EINVAL, evering_sqe_attach(self->client, third + 1, 1, a));
	EXPECT_EQ(-EINVAL, evering_sqe_attach(self->server, sqe, 1, a));
	EXPECT_EQ(-EINVAL, evering_cqe_attach(self->client, (void *)sqe, a));
	ASSERT_EQ(0, evering_sqe_cancel(self->client, third));
	EXPECT_EQ(-EINVAL, evering_sqe_attach(self->client, third, 1, a));
	/* A token that is forged, or too long. */
	bad = a;
	bad.block = evr_token_word(1, 1000);
	EXPECT_EQ(-EINVAL, evering_sqe_attach(self->client, sqe, 1, bad));
	bad.block = 5ULL << 60 | 1ULL << 32;
	EXPECT_EQ(-EINVAL, evering_sqe_attach(self->client, sqe, 1, bad));
	bad = a;
	bad.len = 129;
	EXPECT_EQ(-EINVAL, evering_sqe_attach(self->client, sqe, 1, bad));

	ASSERT_EQ(0, evering_sqe_attach(self->client, sqe, 1, a));
	EXPECT_EQ(-EBUSY, evering_sqe_attach(self->client, sqe, 2, b));
	EXPECT_EQ(-ESTALE, evering_sqe_attach(self->client, second, 2, a));
	EXPECT_EQ(-EEXIST, evering_sqe_attach(self->client, second, 1, b));
	/* None of that has cost anything. */
	block = evering_token_block(self->client, b);
	ASSERT_NE(NULL, block);
	EXPECT_EQ(0, memcmp("def", block, 3));
	EXPECT_EQ(0, evering_sqe_attach(self->client, second, 2,
					(struct evering_token){ 0 }));
	EXPECT_EQ(0, evering_sqe_attach(self->client, second, 2, b));
	EXPECT_EQ(2, evering_submit(self->client));
	EXPECT_EQ(2, stats_of(self->client).in_flight);
}

TEST_F(heap, a_cancelled_request_gives_the_block_back)
{
	struct evering_token token, other;
	struct evering_sqe *sqe;
	unsigned int lap;

	for (lap = 0; lap < 20; lap++) {
		sqe = evering_get_sqe(self->client);
		ASSERT_EQ(0, evering_copy(self->client, "abc", 3, NULL, &token));
		ASSERT_EQ(0, evering_sqe_attach(self->client, sqe, lap, token));
		ASSERT_EQ(0, evering_sqe_cancel(self->client, sqe));
		EXPECT_EQ(-EINVAL, evering_sqe_cancel(self->client, sqe));
		EXPECT_EQ(0, stats_of(self->client).in_flight);
		ASSERT_NE(NULL, evering_token_block(self->client, token));
		/* Its name is free. */
		sqe = evering_get_sqe(self->client);
		ASSERT_EQ(0, evering_sqe_attach(self->client, sqe, lap, token));
		ASSERT_EQ(1, evering_submit(self->client));
		/* In the slots are tokens of a lap ago, which say nothing. */
		sqe = evering_get_sqe(self->client);
		ASSERT_EQ(0, evering_sqe_cancel(self->client, sqe));
		ASSERT_EQ(0, evering_submit(self->client));
		EXPECT_EQ(1, stats_of(self->client).in_flight);
		ASSERT_EQ(0, evering_wait_sqe(self->server,
					      (const struct evering_sqe **)&sqe));
		evering_sqe_seen(self->server, sqe);
		EXPECT_EQ(-EAGAIN, evering_peek_sqe(self->server,
						    (const struct evering_sqe **)&sqe));
		ASSERT_EQ(0, complete(self->server, lap));
		ASSERT_EQ(0, take_completion(self->client, &other));
		EXPECT_EQ(0, stats_of(self->client).blocks);
	}
}

/* ----------------------------------------------------------------- lending */

TEST_F(heap, what_is_lent_comes_back)
{
	struct evering_token token, got;
	void *block;
	unsigned int i;

	for (i = 0; i < 5000; i++) {
		ASSERT_EQ(0, lend_payload(self->server, i, 1 + i % 9000, &token));
		ASSERT_EQ(0, take_completion(self->client, &got));
		EXPECT_EQ(0, memcmp(&token, &got, sizeof(got)));
		ASSERT_NE(NULL, evering_token_payload(self->client, got));
		EXPECT_EQ(1, stats_of(self->server).lent);
		block = (char *)evering_heap(self->server, NULL) +
			(uint32_t)token.block * EVERING_GRANULE;
		EXPECT_EQ(-EBUSY, evering_free(self->server, block));
		EXPECT_EQ(-EBUSY, evering_tokenize(self->server, block, 1, NULL, &token));
		EXPECT_EQ(0, evering_release(self->client, got));
		self->stats = stats_of(self->server);
		EXPECT_EQ(0, self->stats.lent);
		ASSERT_EQ(0, self->stats.used);
	}
	EXPECT_EQ(0, self->stats.refused);
}

/* An allocation finds what has come back by itself. */
TEST_F(heap, allocation_takes_back_what_it_needs)
{
	struct evering_token token[3];
	void *block;

	ASSERT_EQ(0, lend_payload(self->server, 1, HEAP / 2, &token[0]));
	ASSERT_EQ(0, lend_payload(self->server, 2, HEAP / 2, &token[1]));
	EXPECT_EQ(-ENOMEM, evering_alloc(self->server, 1, &block));
	EXPECT_EQ(0, evering_release(self->client, token[1]));
	EXPECT_EQ(0, evering_alloc(self->server, HEAP / 2, &block));
	EXPECT_EQ(-ENOMEM, evering_alloc(self->server, HEAP / 2, &block));
	EXPECT_EQ(0, evering_release(self->client, token[0]));
	EXPECT_EQ(0, evering_alloc(self->server, HEAP / 2, &block));
}

/* A heap that has more blocks than the release ring has entries. */
TEST(no_more_is_lent_than_can_come_back)
{
	enum { LENT = EVERING_MAX_RELEASES };
	static const struct evering_geometry large = {
		.entries = { 8, 8 }, .slot_size = { 64, 64 },
		.heap_size = { 0, (LENT + 64) * EVERING_GRANULE },
	};
	static struct evering_token token[LENT];
	struct mock *m = mock_new(&large);
	struct evering *client = m->ep[0], *server = m->ep[1];
	struct evering_token got;
	struct evering_cqe *cqe;
	unsigned int i, round;

	for (round = 0; round < 2; round++) {
		for (i = 0; i < LENT; i++) {
			ASSERT_EQ(0, lend_payload(server, i, 100, &token[i]));
			ASSERT_EQ(0, take_completion(client, &got));
		}
		EXPECT_EQ(LENT, stats_of(server).lent);
		ASSERT_EQ(0, evering_copy(server, "x", 1, NULL, &got));
		cqe = evering_get_cqe(server);
		EXPECT_EQ(-ENOBUFS, evering_cqe_attach(server, cqe, got));
		EXPECT_NE(NULL, evering_token_block(server, got));
		/* They come back, or nobody is there to have them. */
		if (round)
			mock_kill(m, EVERING_SIDE_A);
		for (i = LENT; i-- && !round; )
			EXPECT_EQ(0, evering_release(client, token[i]));
		EXPECT_EQ(0, evering_cqe_attach(server, cqe, got));
		EXPECT_EQ(1, stats_of(server).lent);
		/* Not sent after all: the program's again. */
		EXPECT_EQ(0, evering_cqe_cancel(server, cqe));
		EXPECT_EQ(0, stats_of(server).lent);
		ASSERT_NE(NULL, evering_token_block(server, got));
		EXPECT_EQ(0, evering_free(server, evering_token_block(server, got)));
		EXPECT_EQ(0, stats_of(server).used);
		evering_complete(server);
	}
	mock_free(m);
}

/* More than all that there could be is a lie, though every word of it were true. */
TEST_F(heap, too_many_releases_are_final)
{
	struct evering_token token, got;
	const struct evering_sqe *sqe;
	unsigned int i;

	ASSERT_EQ(0, lend_payload(self->server, 1, 100, &token));
	ASSERT_EQ(0, take_completion(self->client, &got));
	for (i = 0; i < LENDS; i++)
		EXPECT_EQ(0, evering_release(self->client, token));
	self->stats = stats_of(self->server);
	EXPECT_EQ(LENDS - 1, self->stats.refused);
	EXPECT_EQ(-EAGAIN, evering_peek_sqe(self->server, &sqe));
	for (i = 0; i <= LENDS; i++)
		EXPECT_EQ(0, evering_release(self->client, token));
	stats_of(self->server);
	EXPECT_EQ(-EPROTO, evering_peek_sqe(self->server, &sqe));
}

TEST_F(heap, only_what_is_lent_is_taken_back)
{
	struct evering_token lent, kept, got, bad;

	ASSERT_EQ(0, lend_payload(self->server, 1, 1000, &lent));
	ASSERT_EQ(0, evering_copy(self->server, "kept", 5, NULL, &kept));
	ASSERT_EQ(0, take_completion(self->client, &got));
	/* Never lent, not its beginning, another generation, beyond the heap. */
	EXPECT_EQ(0, evering_release(self->client, kept));
	bad = lent;
	bad.block++;
	bad.len = 1;
	EXPECT_EQ(0, evering_release(self->client, bad));
	bad.block = lent.block + (1ULL << 32);
	EXPECT_EQ(0, evering_release(self->client, bad));
	bad.block = evr_token_word(1, LENDS);
	EXPECT_EQ(-EINVAL, evering_release(self->client, bad));
	EXPECT_EQ(0, evering_release(self->client, (struct evering_token){ 0 }));
	EXPECT_EQ(-EINVAL, evering_release(self->server, lent));
	self->stats = stats_of(self->server);
	EXPECT_EQ(3, self->stats.refused);
	EXPECT_EQ(1, self->stats.lent);
	EXPECT_EQ(2, self->stats.blocks);
	/* Twice is once. */
	EXPECT_EQ(0, evering_release(self->client, lent));
	EXPECT_EQ(0, evering_release(self->client, lent));
	self->stats = stats_of(self->server);
	EXPECT_EQ(4, self->stats.refused);
	EXPECT_EQ(0, self->stats.lent);
	EXPECT_EQ(1, self->stats.blocks);
	EXPECT_NE(NULL, evering_token_block(self->server, kept));
}

/* More than was ever lent: a lie, for good. */
TEST_F(heap, a_lying_tail_is_final)
{
	struct evering_token lent;
	const struct evering_sqe *sqe;

	ASSERT_EQ(0, lend_payload(self->server, 1, 1000, &lent));
	mock_control(self->m, EVERING_SIDE_A)->release_tail = LENDS + 1;
	EXPECT_EQ(1, stats_of(self->server).lent);
	EXPECT_EQ(-EPROTO, evering_peek_sqe(self->server, &sqe));
}

/* Any words in the ring: counted, and nothing else. */
TEST_F(heap, a_ring_of_nonsense)
{
	struct evering_token lent, kept;
	uint64_t *ring = (void *)((char *)self->m->section[0] +
				  self->m->layout.release_offset);
	uint64_t word = 88172645463325252ULL;
	unsigned int i, round;

	ASSERT_EQ(0, evering_copy(self->server, "kept", 5, NULL, &kept));
	for (round = 1; round <= 100; round++) {
		ASSERT_EQ(0, lend_payload(self->server, round, 1000, &lent));
		ASSERT_EQ(0, take_completion(self->client, &lent));
		for (i = 0; i < LENDS; i++) {
			word ^= word << 13;
			word ^= word >> 7;
			word ^= word << 17;
			/* Half of them close to the truth. */
			ring[i] = word & 1 ? word :
				evr_token_word((word >> 8) % 4, (word >> 16) % LENDS);
		}
		mock_control(self->m, 0)->release_tail += LENDS;
		stats_of(self->server);
		EXPECT_NE(NULL, evering_token_block(self->server, kept));
		ASSERT_EQ(0, self->server->error);
	}
	self->stats = stats_of(self->server);
	EXPECT_EQ(LENDS * 100, self->stats.refused + (100 - self->stats.lent));
}

/* ---------------------------------------------------------------- not sent */

/* However the peer comes to know of it: what is not sent is the program's to cancel. */
TEST_F(heap, what_is_not_sent_is_not_ended_by_the_peer)
{
	struct evering_cqe *cqe;
	struct evering_sqe *sqe = evering_get_sqe(self->client);
	struct evering_token asked, answer, got, other;
	void *block;

	ASSERT_EQ(0, evering_copy(self->client, "asked", 6, NULL, &asked));
	block = evering_token_block(self->client, asked);
	ASSERT_EQ(0, evering_sqe_attach(self->client, sqe, 7, asked));
	ASSERT_EQ(0, complete(self->server, 7));
	ASSERT_EQ(0, take_completion(self->client, &got));
	EXPECT_EQ(-EBUSY, evering_free(self->client, block));
	ASSERT_EQ(0, evering_copy(self->client, "other", 6, NULL, &other));
	EXPECT_NE(block, evering_token_block(self->client, other));
	ASSERT_EQ(0, evering_sqe_cancel(self->client, sqe));
	EXPECT_EQ(block, evering_token_block(self->client, asked));
	EXPECT_EQ(0, evering_free(self->client, block));
	EXPECT_NE(NULL, evering_token_block(self->client, other));

	cqe = evering_get_cqe(self->server);
	ASSERT_EQ(0, evering_copy(self->server, "answer", 7, NULL, &answer));
	block = evering_token_block(self->server, answer);
	ASSERT_EQ(0, evering_cqe_attach(self->server, cqe, answer));
	EXPECT_EQ(0, evering_release(self->client, answer));
	EXPECT_EQ(1, stats_of(self->server).lent);
	EXPECT_EQ(1, stats_of(self->server).refused);
	mock_kill(self->m, EVERING_SIDE_A);
	EXPECT_EQ(1, stats_of(self->server).lent);
	ASSERT_EQ(0, evering_cqe_cancel(self->server, cqe));
	EXPECT_EQ(block, evering_token_block(self->server, answer));
	EXPECT_EQ(0, stats_of(self->server).lent);
}

TEST_F(heap, a_payload_is_not_replaced_by_none)
{
	const struct evering_token none = { .len = 5, .type = 7 };
	struct evering_cqe *cqe = evering_get_cqe(self->server);
	struct evering_sqe *sqe = evering_get_sqe(self->client);
	struct evering_token asked, answer;

	ASSERT_EQ(0, evering_copy(self->client, "asked", 6, NULL, &asked));
	ASSERT_EQ(0, evering_sqe_attach(self->client, sqe, 1, asked));
	EXPECT_EQ(-EBUSY, evering_sqe_attach(self->client, sqe, 2, none));
	EXPECT_EQ(1, sqe->user_data);
	ASSERT_EQ(0, evering_copy(self->server, "answer", 7, NULL, &answer));
	ASSERT_EQ(0, evering_cqe_attach(self->server, cqe, answer));
	EXPECT_EQ(-EBUSY, evering_cqe_attach(self->server, cqe, none));
	EXPECT_EQ(answer.block, cqe->offset);
	/* None is none, whatever else it says. */
	sqe = evering_get_sqe(self->client);
	EXPECT_EQ(0, evering_sqe_attach(self->client, sqe, 2, none));
	EXPECT_EQ(0, sqe->len);
	EXPECT_EQ(0, evering_sqe_token(sqe).type);
}

/* ------------------------------------------------------------------- death */

TEST_F(heap, the_dead_have_no_blocks)
{
	struct evering_token token;
	struct evering_sqe *sqe;
	unsigned int i;
	void *kept, *block, *last;

	for (i = 0; i < 4; i++) {
		ASSERT_EQ(0, send_payload(self->client, i, 5000, 'x', &token));
		ASSERT_EQ(0, lend_payload(self->server, i, 7000, &token));
	}
	ASSERT_EQ(0, evering_alloc(self->client, 100, &kept));
	sqe = evering_get_sqe(self->client);
	ASSERT_EQ(0, evering_copy(self->client, "last", 5, NULL, &token));
	ASSERT_EQ(0, evering_sqe_attach(self->client, sqe, 99, token));
	mock_kill(self->m, EVERING_SIDE_B);
	/* By the one who needs it, and by the one who asks. */
	EXPECT_EQ(5, self->client->in_flight);
	EXPECT_EQ(0, evering_alloc(self->client, HEAP - 4 * 5120 - 256, &block));
	/* What has not been sent, the dead never had. */
	self->stats = stats_of(self->client);
	EXPECT_EQ(1, self->stats.in_flight);
	EXPECT_EQ(3, self->stats.blocks);
	EXPECT_EQ(-EPIPE, evering_submit(self->client));
	EXPECT_EQ(NULL, evering_token_block(self->client, token));
	EXPECT_EQ(0, evering_sqe_cancel(self->client, sqe));
	last = evering_token_block(self->client, token);
	ASSERT_NE(NULL, last);
	EXPECT_EQ(0, memcmp("last", last, 5));
	EXPECT_EQ(0, evering_free(self->client, last));
	EXPECT_EQ(0, stats_of(self->client).in_flight);
	/* What comes late frees nothing any more. */
	for (i = 0; i < 4; i++)
		EXPECT_EQ(0, take_completion(self->client, &token));
	EXPECT_EQ(-EPIPE, take_completion(self->client, &token));
	EXPECT_EQ(2, stats_of(self->client).blocks);
	EXPECT_EQ(0, evering_free(self->client, kept));
	EXPECT_EQ(0, evering_free(self->client, block));
	EXPECT_EQ(0, stats_of(self->client).used);

	EXPECT_EQ(4, stats_of(self->server).lent);
	mock_kill(self->m, EVERING_SIDE_A);
	self->stats = stats_of(self->server);
	EXPECT_EQ(0, self->stats.lent);
	EXPECT_EQ(0, self->stats.used);
}

/* ------------------------------------------------------------- sanitizers */

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>

TEST_F(heap, what_was_sent_is_not_to_be_touched)
{
	struct evering_token token;
	struct evering_sqe *sqe = evering_get_sqe(self->client);
	char *block;

	ASSERT_EQ(0, evering_alloc(self->client, 100, (void **)&block));
	EXPECT_FALSE(__asan_address_is_poisoned(block + 127));
	EXPECT_TRUE(__asan_address_is_poisoned(block + 128));
	memset(block, 1, evering_block_size(self->client, block));
	ASSERT_EQ(0, evering_tokenize(self->client, block, 100, NULL, &token));
	EXPECT_FALSE(__asan_address_is_poisoned(block));
	ASSERT_EQ(0, evering_sqe_attach(self->client, sqe, 1, token));
	EXPECT_TRUE(__asan_address_is_poisoned(block));
	ASSERT_EQ(0, evering_sqe_cancel(self->client, sqe));
	EXPECT_FALSE(__asan_address_is_poisoned(block));
	ASSERT_EQ(0, evering_free(self->client, block));
	EXPECT_TRUE(__asan_address_is_poisoned(block));
}
#endif

/* ------------------------------------------------------------------ threads */

enum { MESSAGES = 30000, WINDOW = 8, HELD = 20 };

static void fill(uint32_t *words, size_t bytes, uint32_t value)
{
	size_t i;

	for (i = 0; i < bytes / 4; i++)
		words[i] = value + (uint32_t)i;
}

static bool is_filled(const uint32_t *words, size_t bytes, uint32_t value)
{
	size_t i;

	for (i = 0; i < bytes / 4; i++)
		if (words[i] != value + (uint32_t)i)
			return false;
	return true;
}

static size_t size_of(uint64_t n)
{
	return 4 + n * 2654435761U % 600 * 4;
}

struct echo {
	struct evering *server;
	const char *failed;
};

/* Answers each request with a block of its own. */
static void *serve(void *arg)
{
	struct echo *e = arg;
	const struct evering_sqe *sqe;
	struct evering *ep = e->server;
	unsigned int n;

	for (n = 0; n < MESSAGES; n++) {
		struct evering_token token;
		struct evering_cqe *cqe;
		const void *payload;
		size_t bytes;
		void *block;

		if (evering_complete_and_wait_timeout(ep, &sqe, 1,
				&(struct timespec){ 20, 0 }) < 0) {
			e->failed = "the server waits in vain";
			break;
		}
		token = evering_sqe_token(sqe);
		payload = evering_token_payload(ep, token);
		bytes = size_of(sqe->user_data);
		if (!payload || token.len != bytes ||
		    !is_filled(payload, bytes, (uint32_t)sqe->user_data)) {
			e->failed = "not what was sent";
			break;
		}
		cqe = evering_get_cqe(ep);
		if (!cqe || evering_alloc(ep, bytes, &block)) {
			e->failed = "no room for the answer";
			break;
		}
		fill(block, bytes, (uint32_t)sqe->user_data + 1);
		cqe->user_data = sqe->user_data;
		if (evering_tokenize(ep, block, bytes, NULL, &token) ||
		    evering_cqe_attach(ep, cqe, token)) {
			e->failed = "the answer cannot be sent";
			break;
		}
		evering_sqe_seen(ep, sqe);
	}
	evering_complete(ep);
	return NULL;
}

TEST_F(heap, both_at_once)
{
	struct echo e = { .server = self->server };
	struct evering_token held[HELD] = { { 0 } };
	uint64_t held_n[HELD] = { 0 };
	unsigned int sent = 0, got = 0, i;
	const struct evering_cqe *cqe;
	pthread_t server;

	ASSERT_EQ(0, pthread_create(&server, NULL, serve, &e));
	while (got < MESSAGES) {
		while (sent < MESSAGES && sent - got < WINDOW) {
			struct evering_sqe *sqe = evering_get_sqe(self->client);
			struct evering_token token;
			size_t bytes = size_of(sent);
			void *block;

			if (!sqe)
				break;
			ASSERT_EQ(0, evering_alloc(self->client, bytes, &block));
			fill(block, bytes, sent);
			ASSERT_EQ(0, evering_tokenize(self->client, block, bytes,
						      NULL, &token));
			ASSERT_EQ(0, evering_sqe_attach(self->client, sqe, sent, token));
			sent++;
		}
		ASSERT_LE(0, evering_submit_and_wait_timeout(self->client, &cqe, 1,
				&(struct timespec){ 20, 0 })) TH_LOG("%s", e.failed);
		/* Handed back some time after it has come. */
		i = got % HELD;
		if (!evering_token_is_null(held[i])) {
			const void *payload = evering_token_payload(self->client, held[i]);

			ASSERT_TRUE(is_filled(payload, size_of(held_n[i]),
					      (uint32_t)held_n[i] + 1));
			ASSERT_EQ(0, evering_release(self->client, held[i]));
		}
		held[i] = evering_cqe_token(cqe);
		held_n[i] = cqe->user_data;
		ASSERT_EQ(size_of(cqe->user_data), held[i].len);
		evering_cqe_seen(self->client, cqe);
		got++;
	}
	pthread_join(server, NULL);
	EXPECT_EQ(NULL, e.failed);
	for (i = 0; i < HELD; i++)
		EXPECT_EQ(0, evering_release(self->client, held[i]));
	self->stats = stats_of(self->client);
	EXPECT_EQ(0, self->stats.used);
	self->stats = stats_of(self->server);
	EXPECT_EQ(0, self->stats.used);
	EXPECT_EQ(0, self->stats.refused);
}

TEST_HARNESS_MAIN
