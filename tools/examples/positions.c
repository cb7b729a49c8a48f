// SPDX-License-Identifier: MIT OR LGPL-2.1
/*
 * Typed requests: a client sends positions, as many as it likes, and gets their middle
 * back.  Nothing is copied: the server reads where the client has written.
 *
 *	positions serve
 *	positions ask [N]
 */
#include <evering.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct position {
	double x, y;
};

/* The name is what both programs agree on. */
static const struct evering_type position =
	EVERING_TYPE(struct position, "geo.position");

static int fail(const char *what, int ret)
{
	fprintf(stderr, "positions: %s: %s\n", what, strerror(-ret));
	return 1;
}

/* A completion with the middle of what @sqe has, or with an error. */
static int answer(struct evering *ep, const struct evering_sqe *sqe)
{
	struct evering_cqe *cqe = evering_get_cqe(ep);
	struct position middle = { 0, 0 };
	struct evering_token token;
	const void *values;
	int64_t n, i;

	if (!cqe)
		return -EAGAIN;
	cqe->user_data = sqe->user_data;
	n = evering_token_get(ep, evering_sqe_token(sqe), &position, &values);
	for (i = 0; i < n; i++) {
		middle.x += ((const struct position *)values)[i].x / (double)n;
		middle.y += ((const struct position *)values)[i].y / (double)n;
	}
	/* -EPROTOTYPE: positions of another kind; the client is told. */
	cqe->res = n < 0 ? (int)n : 0;
	if (n < 0)
		return evering_cqe_attach(ep, cqe, (struct evering_token){ 0 });
	n = evering_copy(ep, &middle, sizeof(middle), &position, &token);
	return n ? (int)n : evering_cqe_attach(ep, cqe, token);
}

static int serve(void)
{
	struct evering_service *service;
	const struct evering_sqe *sqe;
	struct evering *ep;
	int ret = evering_listen("positions", NULL, &service);

	if (ret)
		return fail("listen", ret);
	while (!(ret = evering_accept(service, &ep))) {
		while (evering_complete_and_wait_timeout(ep, &sqe, 1, NULL) >= 0 &&
		       !answer(ep, sqe))
			evering_sqe_seen(ep, sqe);
		evering_close(ep);
	}
	return fail("accept", ret);
}

static int ask(size_t n)
{
	const struct evering_geometry geometry = {
		.entries = { 8, 8 },
		.slot_size = { 64, 64 },
		.heap_size = { 1 << 20, 1 << 16 },
	};
	const struct evering_cqe *cqe;
	struct evering_token token;
	struct position *p, middle;
	struct evering *ep;
	size_t i;
	int ret = evering_connect("positions", &geometry, &ep);

	if (ret)
		return fail("connect", ret);
	ret = evering_alloc_array(ep, n, sizeof(*p), (void **)&p);
	if (ret)
		return fail("alloc", ret);
	for (i = 0; i < n; i++)
		p[i] = (struct position){ (double)i, (double)(2 * i) };
	ret = evering_tokenize(ep, p, n * sizeof(*p), &position, &token);
	if (!ret)
		ret = evering_sqe_attach(ep, evering_get_sqe(ep), 1, token);
	if (ret)
		return fail("attach", ret);
	/* From here on p is the server's to read, until the completion is seen. */
	ret = evering_submit_and_wait_timeout(ep, &cqe, 1, NULL);
	if (ret < 0)
		return fail("submit", ret);
	if (cqe->res < 0)
		return fail("the server", cqe->res);
	token = evering_cqe_token(cqe);
	ret = evering_token_read(ep, token, &position, &middle);
	if (ret)
		return fail("the answer", ret);
	printf("middle of %zu: %g, %g\n", n, middle.x, middle.y);
	evering_release(ep, token);
	evering_cqe_seen(ep, cqe);
	evering_close(ep);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "serve"))
		return serve();
	if ((argc == 2 || argc == 3) && !strcmp(argv[1], "ask"))
		return ask(argc == 3 ? strtoul(argv[2], NULL, 0) : 1000);
	fprintf(stderr, "usage: positions serve\n       positions ask [N]\n");
	return 2;
}
