// SPDX-License-Identifier: MIT OR LGPL-2.1
/*
 * Digests what clients send: CRC32C of each chunk, SHA-256 of the whole.  The
 * chunks are read where the client has put them; nothing is copied but the
 * entries.  One client after the other.
 */
#include <errno.h>
#include <nettle/sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "digest.h"
#include "evering.h"

static void answer_chunk(struct evering *ep, const struct evering_sqe *sqe,
			 struct evering_cqe *cqe, struct sha256_ctx *sha)
{
	const uint8_t *p = evering_payload(ep, sqe->offset, sqe->len);
	struct digest_chunk chunk;

	if (!p) {
		cqe->res = -EFAULT;
		return;
	}
	chunk.crc32c = digest_crc32c(p, sqe->len);
	sha256_update(sha, sqe->len, p);
	memcpy(cqe->data, &chunk, sizeof(chunk));
	cqe->res = (int)sqe->len;
}

static void answer_finish(struct evering *ep, struct evering_cqe *cqe,
			  struct sha256_ctx *sha)
{
	struct digest_result result;
	struct evering_stats stats;

	/* Also makes the context ready for the next file. */
	sha256_digest(sha, sizeof(result.sha256), result.sha256);
	evering_stats(ep, &stats);
	result.enters = stats.enters;
	result.sleeps = stats.sleeps;
	result.doorbells = stats.doorbells;
	memcpy((char *)cqe + offsetof(struct evering_cqe, data), &result,
	       sizeof(result));
	cqe->res = 0;
}

static void answer(struct evering *ep, const struct evering_sqe *sqe,
		   struct evering_cqe *cqe, struct sha256_ctx *sha)
{
	cqe->user_data = sqe->user_data;
	cqe->flags = 0;
	switch (sqe->opcode) {
	case DIGEST_CHUNK:
		answer_chunk(ep, sqe, cqe, sha);
		break;
	case DIGEST_FINISH:
		answer_finish(ep, cqe, sha);
		break;
	default:
		cqe->res = -EOPNOTSUPP;
	}
}

/* Until the client hangs up; returns why. */
static int serve(struct evering *ep)
{
	const struct evering_sqe *sqe;
	struct sha256_ctx sha;
	struct evering_cqe *cqe;
	int ret;

	sha256_init(&sha);
	for (;;) {
		/* Sends the answers, wakes the client, waits: one call. */
		ret = evering_complete_and_wait(ep, 1);
		if (ret < 0)
			return ret;
		while (!evering_peek_sqe(ep, &sqe)) {
			cqe = evering_get_cqe(ep);
			if (!cqe)	/* the CQ is full: send what is in it */
				break;
			answer(ep, sqe, cqe, &sha);
			evering_sqe_seen(ep, sqe);
			/* In steps, so that the client has work meanwhile. */
			if (evering_cq_reserved(ep) == 4)
				evering_complete(ep);
		}
	}
}

int main(int argc, char **argv)
{
	const struct evering_service_params params = {
		.mode = 0222,
		.backlog = 8,
	};
	struct evering_service *service;
	struct evering *ep;
	int ret;

	if (argc != 2 || argv[1][0] == '-') {
		fprintf(argc == 2 && !strcmp(argv[1], "--help") ? stdout : stderr,
			"usage: evr-digest-server NAME	serve digests under NAME\n"
			"Try: evr-digest-server demo & evr-digest demo FILE\n");
		return argc == 2 && !strcmp(argv[1], "--help") ? 0 : 2;
	}
	ret = evering_listen(argv[1], &params, &service);
	if (ret) {
		fprintf(stderr, "evr-digest-server: listen on %s: %s%s\n",
			argv[1], strerror(-ret),
			ret == -ENOENT ? " (is evering.ko loaded? try: insmod evering.ko)" : "");
		return 1;
	}
	for (;;) {
		ret = evering_accept(service, &ep);
		if (ret) {
			fprintf(stderr, "evr-digest-server: accept: %s\n",
				strerror(-ret));
			return 1;
		}
		/* Only a CQ with room for the result will do. */
		if (evering_geometry(ep)->slot_size[EVERING_RING_CQ] < DIGEST_CQ_SLOT) {
			fprintf(stderr, "evr-digest-server: client with slots too small\n");
			evering_close(ep);
			continue;
		}
		ret = serve(ep);
		if (ret != -EPIPE && ret != -ESHUTDOWN)
			fprintf(stderr, "evr-digest-server: client lost: %s\n",
				strerror(-ret));
		evering_close(ep);
	}
}
