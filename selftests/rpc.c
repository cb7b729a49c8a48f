// SPDX-License-Identifier: GPL-2.0
/* The library over the device: requests, completions, payloads, and ends. */
#include "evering_test.h"
#include "evering.h"

#define NAME "test.rpc"

FIXTURE(rpc)
{
	struct evering_service *service;
	struct evering *client;
	struct evering *server;
};

FIXTURE_SETUP(rpc)
{
	const struct evering_geometry geometry = {
		.entries = { 8, 16 },
		.slot_size = { 64, 128 },
		.heap_size = { 8192, 4096 },
	};

	ASSERT_EQ(0, evering_listen(NAME, NULL, &self->service));
	ASSERT_EQ(0, evering_connect(NAME, &geometry, &self->client));
	ASSERT_EQ(0, evering_accept(self->service, &self->server));
}

FIXTURE_TEARDOWN(rpc)
{
	evering_close(self->client);
	evering_close(self->server);
	evering_service_close(self->service);
}

TEST_F(rpc, one_request)
{
	const struct evering_cqe *cqe;
	const struct evering_sqe *request;
	struct evering_sqe *sqe;
	struct evering_cqe *answer;

	ASSERT_EQ(-EAGAIN, evering_peek_sqe(self->server, &request));
	sqe = evering_get_sqe(self->client);
	ASSERT_NE(NULL, sqe);
	sqe->user_data = 0x1234;
	sqe->opcode = 7;
	sqe->flags = 3;
	sqe->len = 5;
	sqe->offset = 4096;
	memset(sqe->data, 0x5a, sizeof(sqe->data));
	EXPECT_EQ(1, evering_sq_reserved(self->client));
	EXPECT_EQ(-EAGAIN, evering_peek_sqe(self->server, &request));
	EXPECT_EQ(1, evering_submit(self->client));
	EXPECT_EQ(0, evering_sq_reserved(self->client));

	ASSERT_EQ(0, evering_wait_sqe(self->server, &request));
	EXPECT_EQ(0x1234, request->user_data);
	EXPECT_EQ(7, request->opcode);
	EXPECT_EQ(3, request->flags);
	EXPECT_EQ(5, request->len);
	EXPECT_EQ(4096, request->offset);
	EXPECT_EQ(0x5a, request->data[31]);
	/* Peeking again is the same entry. */
	ASSERT_EQ(0, evering_peek_sqe(self->server, &request));
	EXPECT_EQ(0x1234, request->user_data);

	answer = evering_get_cqe(self->server);
	ASSERT_NE(NULL, answer);
	answer->user_data = request->user_data;
	answer->res = -42;
	answer->flags = 9;
	/* A slot of 128 bytes carries 96 bytes inline. */
	memset(answer->data, 0xa5, 96);
	evering_sqe_seen(self->server, request);
	EXPECT_EQ(1, evering_complete(self->server));

	ASSERT_EQ(0, evering_wait_cqe(self->client, &cqe));
	EXPECT_EQ(0x1234, cqe->user_data);
	EXPECT_EQ(-42, cqe->res);
	EXPECT_EQ(9, cqe->flags);
	EXPECT_EQ(0xa5, ((const uint8_t *)cqe)[127]);
	evering_cqe_seen(self->client, cqe);
	EXPECT_EQ(-EAGAIN, evering_peek_cqe(self->client, &cqe));
}

TEST_F(rpc, payloads_are_read_in_place)
{
	const struct evering_cqe *cqe;
	const struct evering_sqe *request;
	struct evering_sqe *sqe;
	struct evering_cqe *answer;
	const char *text;
	uint64_t size;
	char *heap;

	heap = evering_heap(self->client, &size);
	ASSERT_EQ(8192, size);
	strcpy(heap + 100, "question");
	sqe = evering_get_sqe(self->client);
	sqe->offset = 100;
	sqe->len = 9;
	ASSERT_EQ(1, evering_submit(self->client));

	ASSERT_EQ(0, evering_wait_sqe(self->server, &request));
	text = evering_payload(self->server, request->offset, request->len);
	ASSERT_NE(NULL, text);
	EXPECT_STREQ("question", text);
	/* The same memory, seen from two sides. */
	heap[100] = 'Q';
	EXPECT_EQ('Q', text[0]);
	EXPECT_EQ(NULL, evering_payload(self->server, request->offset, 8192));
	heap = evering_heap(self->server, &size);
	ASSERT_EQ(4096, size);
	strcpy(heap + 4096 - 7, "answer");
	answer = evering_get_cqe(self->server);
	answer->offset = 4096 - 7;
	answer->res = 7;
	evering_sqe_seen(self->server, request);
	ASSERT_EQ(1, evering_complete(self->server));

	ASSERT_EQ(0, evering_wait_cqe(self->client, &cqe));
	text = evering_payload(self->client, cqe->offset, cqe->res);
	ASSERT_NE(NULL, text);
	EXPECT_STREQ("answer", text);
	EXPECT_EQ(NULL, evering_payload(self->client, cqe->offset, 8));
}

TEST_F(rpc, who_and_what)
{
	const struct evering_geometry *geometry;
	struct evering_peer peer;

	EXPECT_EQ(evering_token(self->client), evering_token(self->server));
	geometry = evering_geometry(self->server);
	EXPECT_EQ(8, geometry->entries[EVERING_RING_SQ]);
	EXPECT_EQ(128, geometry->slot_size[EVERING_RING_CQ]);
	ASSERT_EQ(0, evering_peer(self->client, &peer));
	EXPECT_EQ(EVERING_STATE_OPEN, peer.state);
	EXPECT_EQ(getpid(), peer.pid);
	EXPECT_EQ(getuid(), peer.uid);
	EXPECT_EQ(-EINVAL, evering_shutdown(self->client, 0));
	EXPECT_EQ(-EINVAL, evering_shutdown(self->client, 4));
}

TEST_F(rpc, one_stream_ends_and_the_other_goes_on)
{
	const struct evering_cqe *cqe;
	const struct evering_sqe *request;

	evering_get_sqe(self->client)->user_data = 1;
	ASSERT_EQ(1, evering_submit(self->client));
	ASSERT_EQ(0, evering_shutdown(self->client, EVERING_SHUT_WR));
	EXPECT_NE(NULL, evering_get_sqe(self->client));
	EXPECT_EQ(-ESHUTDOWN, evering_submit(self->client));

	ASSERT_EQ(0, evering_wait_sqe(self->server, &request));
	evering_get_cqe(self->server)->user_data = request->user_data;
	evering_sqe_seen(self->server, request);
	EXPECT_EQ(-ESHUTDOWN, evering_complete_and_wait(self->server, 1));
	/* The answer went out all the same. */
	ASSERT_EQ(0, evering_wait_cqe(self->client, &cqe));
	EXPECT_EQ(1, cqe->user_data);
}

TEST(errors_of_names)
{
	struct evering_service *service, *second;
	struct evering *ep;
	char name[EVERING_NAME_MAX + 2];

	memset(name, 'n', sizeof(name));
	name[sizeof(name) - 1] = 0;
	EXPECT_EQ(-ENAMETOOLONG, evering_listen(name, NULL, &service));
	EXPECT_EQ(-ENAMETOOLONG, evering_connect(name, NULL, &ep));
	EXPECT_EQ(-EINVAL, evering_listen("", NULL, &service));
	EXPECT_EQ(-EINVAL, evering_connect("two words", NULL, &ep));
	EXPECT_EQ(-ECONNREFUSED, evering_connect("test.nobody", NULL, &ep));
	ASSERT_EQ(0, evering_listen(NAME, NULL, &service));
	EXPECT_EQ(-EEXIST, evering_listen(NAME, NULL, &second));
	EXPECT_EQ(-EAGAIN, evering_accept_timeout(service, &ep,
						  &(struct timespec){ 0, 0 }));
	EXPECT_EQ(-ETIME, evering_accept_timeout(service, &ep,
						 &(struct timespec){ 0, 1000000 }));
	EXPECT_EQ(-EINVAL, evering_connect(NAME, &(struct evering_geometry){
		.entries = { 3, 4 }, .slot_size = { 64, 64 } }, &ep));
	evering_service_close(service);
	/* NULL is nothing to close. */
	evering_service_close(NULL);
	evering_close(NULL);
}

TEST_HARNESS_MAIN
