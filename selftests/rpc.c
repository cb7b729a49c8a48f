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

TEST_HARNESS_MAIN
