// SPDX-License-Identifier: MIT OR LGPL-2.1
/*
 * A topic: one process publishes prices, any number follow them.  None of them can hold
 * the publisher up, or write to what the others read.
 *
 *	ticker publish N	N prices, one a millisecond
 *	ticker follow		every price, and how many were missed
 *	ticker latest		the newest, whenever there is one
 */
#include <evering.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct price {
	uint64_t cents;
	char of[24];
};

static const struct evering_type price = EVERING_TYPE(struct price, "ticker.price");

static int fail(const char *what, int ret)
{
	fprintf(stderr, "ticker: %s: %s\n", what, strerror(-ret));
	return 1;
}

static int publish(uint64_t n)
{
	struct evering_publisher *publisher;
	struct price *p;
	uint64_t i;
	int ret = evering_publisher_create("ticker", 0644, 256, 1 << 16, &publisher);

	if (ret)
		return fail("create", ret);
	for (i = 0; i < n; i++) {
		nanosleep(&(struct timespec){ 0, 1000000 }, NULL);
		/* Written where it is read; evering_publish() would copy it there. */
		ret = evering_publisher_reserve(publisher, sizeof(*p), (void **)&p);
		if (ret)
			return fail("reserve", ret);
		*p = (struct price){ .cents = 10000 + i % 500, .of = "evering" };
		ret = evering_publisher_commit(publisher, sizeof(*p), &price);
		if (ret)
			return fail("commit", ret);
	}
	evering_publisher_close(publisher);
	return 0;
}

static int follow(int latest)
{
	unsigned long long got = 0, lost = 0;
	struct evering_subscriber *subscriber;
	struct evering_message m;
	struct price p = { 0 };
	int ret = evering_subscriber_open("ticker", 0, 0, &subscriber);

	if (ret)
		return fail("open", ret);
	for (;;) {
		ret = latest ? evering_subscriber_latest(subscriber, &m, NULL) :
			       evering_subscriber_next(subscriber, &m, NULL);
		if (ret)
			break;
		lost += m.lost;
		if (m.type != evering_type_tag(&price))
			continue;
		/* -ESTALE: the publisher has come round and written over it. */
		if (evering_subscriber_copy(subscriber, &m, &p, sizeof(p)))
			lost++;
		else
			got++;
	}
	printf("%llu prices, %llu missed; the last of %s: %llu.%02llu\n", got, lost, p.of,
	       (unsigned long long)p.cents / 100, (unsigned long long)p.cents % 100);
	evering_subscriber_close(subscriber);
	return ret == -EPIPE ? 0 : fail("follow", ret);
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "publish"))
		return publish(strtoull(argv[2], NULL, 0));
	if (argc == 2 && !strcmp(argv[1], "follow"))
		return follow(0);
	if (argc == 2 && !strcmp(argv[1], "latest"))
		return follow(1);
	fprintf(stderr, "usage: ticker publish N\n       ticker follow\n       ticker latest\n");
	return 2;
}
