// SPDX-License-Identifier: GPL-2.0
/*
 * The library's calls that open something, on a device that refuses: each of their
 * allocations, system calls and mappings fails once, and must leave nothing behind.
 */
#include "device.h"
#include "kselftest_harness.h"

/* -------------------------------------------------------- what is to fail */

static const struct evering_geometry many = {
	.entries = { 64, 128 },
	.slot_size = { 64, 128 },
	.heap_size = { 8192, 4096 },
};

/* Each opens something, and closes it where that worked. */
static int try_listen(void)
{
	struct evering_service *service;
	int ret = evering_listen("x", NULL, &service);

	if (!ret)
		evering_service_close(service);
	return ret;
}

static int channel_closed(int ret, struct evering **ep)
{
	if (!ret)
		evering_close(*ep);
	return ret;
}

static int try_connect(void)
{
	struct evering *ep = NULL;
	int ret = evering_connect("x", NULL, &ep);

	return channel_closed(ret, &ep);
}

static int try_connect_multi(void)
{
	struct evering *ep = NULL;
	int ret = evering_connect_multi("x", &many, &ep);

	return channel_closed(ret, &ep);
}

static int try_accept(void)
{
	struct evering_service *service;
	struct evering *ep = NULL;
	int ret;

	geometry = many;
	flags = EVERING_URING_MULTI_B | EVERING_URING_LEASE;
	ret = evering_listen("x", NULL, &service);
	if (ret)
		return ret;
	ret = channel_closed(evering_accept(service, &ep), &ep);
	if (!ret)
		ret = channel_closed(evering_accept_timeout(service, &ep,
							    &(struct timespec){ 0 }), &ep);
	evering_service_close(service);
	return ret;
}

static int try_channel(void)
{
	struct evering *ep = NULL;
	int ret = evering_channel_create("x", 0600, NULL, 0, &ep);

	ret = channel_closed(ret, &ep);
	if (!ret)
		ret = channel_closed(evering_channel_open("x", 0, &ep), &ep);
	return ret;
}

static int try_channel_from_fd(void)
{
	struct evering *ep = NULL;
	int ret;

	geometry = many;
	flags = EVERING_URING_MULTI_A;
	ret = evering_channel_from_fd(endpoint(EVERING_KIND_CHANNEL, 0, 1), &ep);
	return channel_closed(ret, &ep);
}

static int queue_closed(int ret, struct evering_queue **queue)
{
	if (!ret)
		evering_queue_close(*queue);
	return ret;
}

static int try_queue(void)
{
	const unsigned int both = EVERING_QUEUE_PUSH | EVERING_QUEUE_POP;
	struct evering_queue *queue = NULL;
	int ret = evering_queue_create("x", 0600, 64, 200, both, &queue);

	ret = queue_closed(ret, &queue);
	if (!ret)
		ret = queue_closed(evering_queue_open("x", 0, both, &queue), &queue);
	if (!ret)
		ret = queue_closed(evering_queue_open(NULL, 1, EVERING_QUEUE_POP,
						      &queue), &queue);
	return ret;
}

static int buffer_closed(int ret, struct evering_buffer **buffer)
{
	if (!ret)
		evering_buffer_close(*buffer);
	return ret;
}

static int try_buffer(void)
{
	struct evering_buffer *buffer = NULL;
	int ret = buffer_closed(evering_buffer_create("x", 0600, 10000, &buffer), &buffer);

	if (!ret)
		ret = buffer_closed(evering_buffer_open("x", 0, O_RDONLY, &buffer), &buffer);
	if (!ret)
		ret = buffer_closed(evering_buffer_from_fd(
			endpoint(EVERING_KIND_BUFFER, 1, 1), &buffer), &buffer);
	return ret ? ret : evering_unlink("x", 0);
}

/* As many requests at once as make the books grow. */
static int try_payloads(void)
{
	struct evering *ep = NULL;
	struct evering_token token;
	unsigned int i;
	int ret = evering_channel_create("x", 0600, &many, 0, &ep);

	if (ret)
		return ret;
	for (i = 0; i < 40 && !ret; i++) {
		struct evering_sqe *sqe = evering_get_sqe(ep);

		ret = evering_copy(ep, "payload", 8, NULL, &token);
		if (ret)
			break;
		ret = evering_sqe_attach(ep, sqe, i, token);
		/* Refused, it stays the program's. */
		if (ret && !evering_token_block(ep, token))
			ret = -ENOTRECOVERABLE;
	}
	evering_close(ep);
	return ret;
}

static int try_topic(void)
{
	struct evering_publisher *publisher = NULL;
	struct evering_subscriber *subscriber;
	int ret = evering_publisher_create("x", 0600, 8, 10000, &publisher);

	if (ret)
		return ret;
	ret = evering_subscriber_open("x", 0, 0, &subscriber);
	if (!ret)
		evering_subscriber_close(subscriber);
	evering_publisher_close(publisher);
	return ret;
}

static int try_types(void)
{
	static const struct evering_type type[] = {
		EVERING_TYPE(char, "1"), EVERING_TYPE(char, "2"),
		EVERING_TYPE(char, "3"), EVERING_TYPE(char, "4"),
		EVERING_TYPE(char, "5"), EVERING_TYPE(char, "6"),
		EVERING_TYPE(char, "7"), EVERING_TYPE(char, "8"),
		EVERING_TYPE(char, "9"),
	};
	struct evering_types *types;
	unsigned int i;
	int ret = evering_types_new(&types);

	if (ret)
		return ret;
	for (i = 0; i < 9 && !ret; i++)
		ret = evering_types_add(types, &type[i]);
	if (!ret && evering_types_find(types, evering_type_tag(&type[8])) != &type[8])
		ret = -ENOTRECOVERABLE;
	evering_types_free(types);
	return ret;
}

static int try_registry(void)
{
	struct evering_registry_view *view;
	int ret = evering_registry_open(&view);

	if (!ret)
		evering_registry_close(view);
	return ret;
}

/* ------------------------------------------------------------------ the tests */

FIXTURE(refuses)
{
	int lowest;
};

FIXTURE_VARIANT(refuses)
{
	int (*call)(void);
	unsigned int steps;	/* at least */
};

FIXTURE_VARIANT_ADD(refuses, listen) { try_listen, 3 };
FIXTURE_VARIANT_ADD(refuses, connect) { try_connect, 8 };
FIXTURE_VARIANT_ADD(refuses, connect_multi) { try_connect_multi, 12 };
FIXTURE_VARIANT_ADD(refuses, accept) { try_accept, 20 };
FIXTURE_VARIANT_ADD(refuses, channel) { try_channel, 16 };
FIXTURE_VARIANT_ADD(refuses, channel_from_fd) { try_channel_from_fd, 10 };
FIXTURE_VARIANT_ADD(refuses, queue) { try_queue, 20 };
FIXTURE_VARIANT_ADD(refuses, buffer) { try_buffer, 11 };
FIXTURE_VARIANT_ADD(refuses, payloads) { try_payloads, 13 };
FIXTURE_VARIANT_ADD(refuses, topic) { try_topic, 11 };
FIXTURE_VARIANT_ADD(refuses, types) { try_types, 3 };
FIXTURE_VARIANT_ADD(refuses, registry) { try_registry, 4 };

FIXTURE_SETUP(refuses)
{
	self->lowest = lowest_fd();
}

FIXTURE_TEARDOWN(refuses)
{
}

TEST_F(refuses, and_nothing_is_left)
{
	unsigned int i;
	int ret;

	for (i = 0; ; i++) {
		steps = fail_with = 0;
		memory = mappings = 0;
		fail_at = i;
		ret = variant->call();
		fail_at = NOBODY_ASKS;
		EXPECT_EQ(0, memory) TH_LOG("step %u", i);
		EXPECT_EQ(0, mappings) TH_LOG("step %u", i);
		ASSERT_EQ(self->lowest, lowest_fd()) TH_LOG("step %u", i);
		ASSERT_EQ(-fail_with, ret) TH_LOG("step %u", i);
		if (!ret)
			break;
	}
	EXPECT_LE(variant->steps, i);
}

/* A buffer has no rings, and no rules for them. */
TEST(a_module_of_another_version)
{
	int lowest = lowest_fd();

	memory = mappings = 0;
	abi_version = EVERING_ABI_VERSION - 1;
	EXPECT_EQ(-EPROTONOSUPPORT, try_connect());
	EXPECT_EQ(-EPROTONOSUPPORT, try_connect_multi());
	EXPECT_EQ(-EPROTONOSUPPORT, try_accept());
	EXPECT_EQ(-EPROTONOSUPPORT, try_channel());
	EXPECT_EQ(-EPROTONOSUPPORT, try_channel_from_fd());
	EXPECT_EQ(-EPROTONOSUPPORT, try_queue());
	EXPECT_EQ(0, try_buffer());
	abi_version = EVERING_ABI_VERSION;
	EXPECT_EQ(0, memory);
	EXPECT_EQ(0, mappings);
	EXPECT_EQ(lowest, lowest_fd());
}

/* A cache that cannot grow, or look again, is the one it was. */
TEST(cache_refuses_and_stays)
{
	struct {
		struct evering_registry header;
		struct evering_registry_entry entry[32];
	} pages = { .header = registry };
	struct evering_registry_view view = { .header = &pages.header };
	struct evering_buffer *buffer[32], *again;
	struct evering_buffer_cache *cache;
	unsigned int i, k, refused = 0;
	int ret, lowest = lowest_fd();

	geometry = (struct evering_geometry){ .heap_size = { 4096 } };
	pages.header.used = 32;
	pages.header.next_token = 1U << EVERING_TOKEN_INDEX_BITS;
	for (i = 1; i < 32; i++) {
		pages.entry[i].token = i;
		pages.entry[i].state = EVERING_ENTRY_ACTIVE;
	}
	memory = mappings = 0;
	for (i = 0; i < 2; i++) {
		steps = 0;
		fail_at = i;
		EXPECT_EQ(-ENOMEM, evering_buffer_cache_new(&view, O_RDONLY, &cache));
		EXPECT_EQ(0, memory);
	}
	fail_at = NOBODY_ASKS;
	ASSERT_EQ(0, evering_buffer_cache_new(&view, O_RDONLY, &cache));
	for (i = 1; i < 32; i++) {
		for (k = 0; ; k++) {
			steps = fail_with = 0;
			fail_at = k;
			ret = evering_buffer_cache_get(cache, i, &buffer[i]);
			fail_at = NOBODY_ASKS;
			ASSERT_EQ(-fail_with, ret);
			if (!ret)
				break;
			refused++;
		}
	}
	/* To open one takes four steps; a table that has grown for it stays so. */
	EXPECT_EQ(31 * 4, refused);
	for (i = 1; i < 32; i++) {
		ASSERT_EQ(0, evering_buffer_cache_get(cache, i, &again));
		EXPECT_EQ(buffer[i], again);
	}
	/* Two have gone.  Who cannot be told so, asks again. */
	pages.entry[3].state = EVERING_ENTRY_MARKED;
	pages.entry[5].token = 5 + (1U << EVERING_TOKEN_INDEX_BITS);
	pages.header.global_epoch++;
	steps = fail_at = 0;
	EXPECT_EQ(-ENOMEM, evering_buffer_cache_get(cache, 7, &again));
	fail_at = NOBODY_ASKS;
	EXPECT_EQ(31, mappings);
	EXPECT_EQ(0, evering_buffer_cache_get(cache, 7, &again));
	EXPECT_EQ(buffer[7], again);
	EXPECT_EQ(29, mappings);
	evering_buffer_cache_free(cache);
	EXPECT_EQ(0, memory);
	EXPECT_EQ(0, mappings);
	EXPECT_EQ(lowest, lowest_fd());
}

TEST(names_that_are_too_long)
{
	char name[EVERING_NAME_MAX + 2] = { 0 };
	struct evering_service *service;
	struct evering_buffer *buffer;
	struct evering_queue *queue;
	struct evering *ep;

	memset(name, 'x', sizeof(name) - 1);
	memory = 0;
	EXPECT_EQ(-ENAMETOOLONG, evering_listen(name, NULL, &service));
	EXPECT_EQ(-ENAMETOOLONG, evering_connect(name, NULL, &ep));
	EXPECT_EQ(-ENAMETOOLONG, evering_connect_multi(name, NULL, &ep));
	EXPECT_EQ(-ENAMETOOLONG, evering_channel_create(name, 0600, NULL, 0, &ep));
	EXPECT_EQ(-ENAMETOOLONG, evering_channel_open(name, 0, &ep));
	EXPECT_EQ(-ENAMETOOLONG, evering_queue_create(name, 0600, 64, 8,
						      EVERING_QUEUE_POP, &queue));
	EXPECT_EQ(-ENAMETOOLONG, evering_queue_open(name, 0, EVERING_QUEUE_PUSH, &queue));
	EXPECT_EQ(-ENAMETOOLONG, evering_buffer_create(name, 0600, 1, &buffer));
	EXPECT_EQ(-ENAMETOOLONG, evering_buffer_open(name, 0, O_RDWR, &buffer));
	EXPECT_EQ(-ENAMETOOLONG, evering_unlink(name, 0));
	EXPECT_EQ(0, memory);
	name[EVERING_NAME_MAX] = 0;
	EXPECT_EQ(0, evering_listen(name, NULL, &service));
	evering_service_close(service);
}

TEST(what_nobody_can_want)
{
	struct evering_service_params params = { .reserved = 1 };
	struct evering_service *service;
	struct evering_buffer *buffer;
	struct evering_queue *queue;
	struct evering *ep;

	EXPECT_EQ(-EINVAL, evering_listen("x", &params, &service));
	params = (struct evering_service_params){ .__resv = 1 };
	EXPECT_EQ(-EINVAL, evering_listen("x", &params, &service));
	EXPECT_EQ(-EINVAL, evering_queue_create("x", 0600, 64, 8, 0, &queue));
	EXPECT_EQ(-EINVAL, evering_queue_create("x", 0600, 64, 0, EVERING_QUEUE_POP, &queue));
	EXPECT_EQ(-EINVAL, evering_queue_create("x", 0600, 64, 4089, EVERING_QUEUE_POP, &queue));
	EXPECT_EQ(-EINVAL, evering_queue_create("x", 0600, 64, 8, 1U << 31, &queue));
	EXPECT_EQ(-EINVAL, evering_queue_open("x", 0, EVERING_QUEUE_LEASE, &queue));
	EXPECT_EQ(-EINVAL, evering_buffer_create("x", 0600, 0, &buffer));
	EXPECT_EQ(-EINVAL, evering_buffer_create("x", 0600, UINT64_MAX, &buffer));
	EXPECT_EQ(-EINVAL, evering_buffer_open("x", 0, O_WRONLY, &buffer));
	ASSERT_EQ(0, evering_listen("x", NULL, &service));
	EXPECT_LE(0, fcntl(evering_service_fd(service), F_GETFD));
	EXPECT_EQ(-EINVAL, evering_accept_timeout(service, &ep,
						  &(struct timespec){ 0, -1 }));
	evering_service_close(service);
	/* One end only, and what it is not. */
	ASSERT_EQ(0, evering_queue_create("x", 0600, 64, 8, EVERING_QUEUE_POP, &queue));
	EXPECT_EQ(-1, evering_queue_fd(queue, EVERING_QUEUE_PUSH));
	EXPECT_EQ(-1, evering_queue_fd(queue, EVERING_QUEUE_PUSH | EVERING_QUEUE_POP));
	EXPECT_LE(0, evering_queue_fd(queue, EVERING_QUEUE_POP));
	evering_queue_close(queue);
	/* Nothing is closed. */
	evering_close(NULL);
	evering_service_close(NULL);
	evering_queue_close(NULL);
	evering_buffer_close(NULL);
	evering_buffer_cache_free(NULL);
	evering_registry_close(NULL);
}

TEST(descriptors_of_another_kind)
{
	struct evering_buffer *buffer;
	int fd, lowest = lowest_fd();
	struct evering *ep;

	geometry = many;
	fd = endpoint(EVERING_KIND_QUEUE, 0, 1);
	EXPECT_EQ(-EPROTOTYPE, evering_channel_from_fd(fd, &ep));
	EXPECT_EQ(lowest, lowest_fd());
	fd = endpoint(EVERING_KIND_CHANNEL, 0, 1);
	EXPECT_EQ(-EPROTOTYPE, evering_buffer_from_fd(fd, &buffer));
	EXPECT_EQ(lowest, lowest_fd());
}

TEST(registry_of_another_module)
{
	struct evering_registry_view *view;
	int lowest = lowest_fd();

	registry.version++;
	EXPECT_EQ(-EPROTO, evering_registry_open(&view));
	registry.version--;
	registry.magic++;
	EXPECT_EQ(-EPROTO, evering_registry_open(&view));
	registry.magic--;
	EXPECT_EQ(lowest, lowest_fd());
	ASSERT_EQ(0, evering_registry_open(&view));
	EXPECT_EQ(EVERING_REGISTRY_MAGIC, evering_registry_header(view)->magic);
	EXPECT_EQ(0, evering_registry_epoch(view));
	evering_registry_close(view);
}

TEST_HARNESS_MAIN
