// SPDX-License-Identifier: GPL-2.0
/*
 * The geometry of a channel: its bounds, the layout that the kernel makes of it,
 * and the limits of the administrator and of the service.  An overflow here would
 * let a client write beyond its memory, or use up that of the machine.
 */
#include <limits.h>

#include "ioctl_test.h"

static void bad_geometry(struct __test_metadata *_metadata,
			 const struct evering_geometry *g)
{
	struct counters before = count();
	struct evering_connect args;
	int lowest = lowest_fd();

	EXPECT_EQ(-EINVAL, connect_geometry(g, &args)) {
		TH_LOG("entries %u %u, slots %u %u, heaps %llx %llx",
		       g->entries[0], g->entries[1], g->slot_size[0],
		       g->slot_size[1], g->heap_size[0], g->heap_size[1]);
	}
	EXPECT_EQ(NOT_SENT, args.token);
	EXPECT_EQ(lowest, lowest_fd());
	EXPECT_TRUE(settles(&before));
}

TEST(geometry_entries_out_of_bounds)
{
	static const uint32_t bad[] = {
		0, 3, 5, 7, 9, 255, 65535, 65537, 98304, 131072,
		1U << 31, UINT_MAX,
	};
	int service = listen_with(NAME, 1, 0222), i, ring;
	struct evering_connect args;

	ASSERT_LE(0, service);
	for (i = 0; i < ARRAY_SIZE(bad); i++)
		for (ring = 0; ring < 2; ring++) {
			struct evering_geometry g = small;

			g.entries[ring] = bad[i];
			bad_geometry(_metadata, &g);
		}
	/* Nor has any of them kept the only place in the backlog. */
	EXPECT_LE(0, connect_geometry(&small, &args));
}

TEST(geometry_slot_size_out_of_bounds)
{
	static const uint32_t bad[] = {
		0, 1, 8, 32, 63, 65, 96, 4095, 4097, 6144, 8192, 65536,
		1U << 31, UINT_MAX,
	};
	int service = listen_with(NAME, 1, 0222), i, ring;
	struct evering_connect args;

	ASSERT_LE(0, service);
	for (i = 0; i < ARRAY_SIZE(bad); i++)
		for (ring = 0; ring < 2; ring++) {
			struct evering_geometry g = small;

			g.slot_size[ring] = bad[i];
			bad_geometry(_metadata, &g);
		}
	EXPECT_LE(0, connect_geometry(&small, &args));
}

TEST(geometry_heap_out_of_bounds)
{
	const uint64_t limit = read_number(LIMIT);
	const uint64_t bad[] = {
		1, 64, 2048, 4095, 4097, 6144,
		limit, limit + 4096, 1ULL << 40,
		1ULL << 63, (1ULL << 63) - 4096, (1ULL << 63) + 4096,
		/* With a section and the others these wrap around. */
		-4096ULL, -8192ULL, -12288ULL, -16384ULL, -1ULL,
	};
	int service = listen_with(NAME, 1, 0222), i, ring;
	struct evering_connect args;
	struct evering_geometry g;

	ASSERT_LE(0, service);
	ASSERT_EQ(0, limit % 4096);
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		for (ring = 0; ring < 2; ring++) {
			g = small;
			g.heap_size[ring] = bad[i];
			bad_geometry(_metadata, &g);
		}
		g.heap_size[0] = bad[i];
		bad_geometry(_metadata, &g);
	}
	/* Each by itself is allowed. */
	g = small;
	g.heap_size[0] = limit / 2;
	g.heap_size[1] = limit / 2;
	bad_geometry(_metadata, &g);
	/* the largest rings: 256 MiB each */
	g = small;
	g.entries[0] = EVERING_MAX_ENTRIES;
	g.entries[1] = EVERING_MAX_ENTRIES;
	g.slot_size[0] = EVERING_MAX_SLOT_SIZE;
	g.slot_size[1] = EVERING_MAX_SLOT_SIZE;
	if (limit < 512UL << 20)
		bad_geometry(_metadata, &g);
	EXPECT_LE(0, connect_geometry(&small, &args));
}

static void check_layout(struct __test_metadata *_metadata,
			 const struct evering_layout *l,
			 const struct evering_geometry *g)
{
	int i;

	EXPECT_EQ(0, memcmp(&l->geometry, g, sizeof(*g)));
	for (i = 0; i < 3; i++) {
		EXPECT_LT(0, l->section_size[i]);
		EXPECT_EQ(0, l->section_size[i] % PAGE);
	}
	EXPECT_LE(sizeof(struct evering_header), l->section_size[0]);
	for (i = 0; i < 2; i++) {
		uint64_t section = l->section_size[EVERING_SECTION_A + i];
		uint64_t slots = (uint64_t)g->entries[i] * g->slot_size[i];
		uint64_t releases = 0;

		if (i == EVERING_SIDE_A && g->heap_size[1]) {
			releases = 8 * evering_release_entries(g->heap_size[1]);
			EXPECT_EQ(0, l->release_offset % 8);
			EXPECT_LE(l->slots_offset[0] + slots, l->release_offset);
			EXPECT_LE(l->release_offset + releases, l->heap_offset[0]);
		}
		EXPECT_LE(sizeof(struct evering_control), l->slots_offset[i]);
		/* No slot of 64 bytes lies in two cache lines. */
		EXPECT_EQ(0, l->slots_offset[i] % 64);
		EXPECT_LE(l->slots_offset[i] + slots, section);
		EXPECT_LE(l->slots_offset[i] + slots, l->heap_offset[i]);
		EXPECT_LE(l->heap_offset[i] + g->heap_size[i], section);
		if (g->heap_size[i])
			EXPECT_EQ(0, l->heap_offset[i] % PAGE);
		/* At most two partial pages are wasted. */
		EXPECT_GT(sizeof(struct evering_control) + slots + releases +
			  g->heap_size[i] + 2 * PAGE, section);
	}
	if (!g->heap_size[1])
		EXPECT_EQ(0, l->release_offset);
}

/* A power of two, at least the blocks that there can be, but not for ever. */
TEST(entries_of_the_release_ring)
{
	EXPECT_EQ(1, evering_release_entries(0));
	EXPECT_EQ(32, evering_release_entries(4096));
	EXPECT_EQ(128, evering_release_entries(3 * 4096));
	EXPECT_EQ(EVERING_MAX_RELEASES, evering_release_entries(512 << 10));
	EXPECT_EQ(EVERING_MAX_RELEASES, evering_release_entries(1ULL << 62));
}

/* Where many take what side B lends, there is nobody to hand it back. */
TEST(no_release_ring_for_many)
{
	struct evering_geometry g = {
		{ 64, 64 }, { 64, 64 }, { 4096, 4096 },
	};
	struct evering_create args = {
		.size = sizeof(args),
		.kind = EVERING_KIND_CHANNEL,
		.geometry = g,
	};
	int fd;

	args.flags = EVERING_URING_MULTI_A;
	fd = device_call(EVERING_IOC_CREATE, &args);
	ASSERT_LE(0, fd);
	EXPECT_EQ(0, args.layout.release_offset);
	close(fd);
	args.flags = EVERING_URING_MULTI_B;
	fd = device_call(EVERING_IOC_CREATE, &args);
	ASSERT_LE(0, fd);
	EXPECT_NE(0, args.layout.release_offset);
	close(fd);
}

TEST(layout_is_consistent)
{
	static const struct evering_geometry good[] = {
		{ { 1, 1 }, { 64, 64 }, { 0, 0 } },
		{ { 1, 1 }, { 4096, 4096 }, { 4096, 4096 } },
		{ { 2, 4 }, { 128, 64 }, { 0, 4096 } },
		{ { 8, 16 }, { 64, 256 }, { 8192, 0 } },
		/* 512 + 56 * 64 would be a page: round about that edge */
		{ { 32, 64 }, { 64, 64 }, { 4096, 12288 } },
		{ { 256, 256 }, { 64, 64 }, { 0, 0 } },
		{ { 1024, 1 }, { 1024, 2048 }, { 65536, 1 << 20 } },
		{ { 65536, 1 }, { 64, 64 }, { 0, 0 } },
		{ { 1, 65536 }, { 64, 64 }, { 4096, 4096 } },
	};
	int service = do_listen(NAME), i, s;

	ASSERT_LE(0, service);
	for (i = 0; i < ARRAY_SIZE(good); i++) {
		struct counters before = count();
		struct evering_connect args;
		struct evering_accept accepted;
		struct evering_header *header;
		uint64_t bytes;
		int fd[2];

		fd[0] = connect_geometry(&good[i], &args);
		ASSERT_LE(0, fd[0]) TH_LOG("geometry %d", i);
		check_layout(_metadata, &args.layout, &good[i]);
		bytes = uring_bytes(&args.layout);
		EXPECT_GE(read_number(LIMIT), bytes);
		EXPECT_EQ(before.bytes + bytes, count().bytes);

		fd[1] = do_accept(service, &accepted);
		ASSERT_LE(0, fd[1]);
		EXPECT_EQ(args.token, accepted.token);
		EXPECT_EQ(0, memcmp(&args.layout, &accepted.layout,
				    sizeof(args.layout)));

		header = map_section(fd[0], &args.layout, EVERING_SECTION_HEADER,
				     PROT_READ);
		ASSERT_NE(MAP_FAILED, header);
		EXPECT_EQ(EVERING_HEADER_MAGIC, header->magic);
		EXPECT_EQ(0, memcmp("GRVE", header, 4));
		EXPECT_EQ(EVERING_ABI_VERSION, header->abi_version);
		EXPECT_EQ(args.token, header->token);
		EXPECT_EQ(0, memcmp(&args.layout, &header->layout,
				    sizeof(args.layout)));

		for (s = EVERING_SECTION_A; s <= EVERING_SECTION_B; s++) {
			uint64_t size = args.layout.section_size[s];
			char *section = map_section(fd[s - 1], &args.layout, s,
						    PROT_READ | PROT_WRITE);

			ASSERT_NE(MAP_FAILED, section);
			/* All of it is there, and zero. */
			EXPECT_EQ(0, section[0]);
			EXPECT_EQ(0, section[size - 1]);
			section[size - 1] = 1;
			munmap(section, size);
		}
		/* Not before: an endpoint with no mapping left is dead. */
		munmap(header, args.layout.section_size[0]);
		close(fd[0]);
		close(fd[1]);
		EXPECT_TRUE(settles(&before));
	}
}

/* The parameter of the module is everybody's: it is put back. */
FIXTURE(limit)
{
	unsigned long long old;
	int service;
};

FIXTURE_SETUP(limit)
{
	self->old = read_number(LIMIT);
	self->service = listen_with(NAME, 1, 0222);
	ASSERT_LE(0, self->service);
}

FIXTURE_TEARDOWN(limit)
{
	write_number(LIMIT, self->old);
	close(self->service);
}

TEST_F(limit, max_uring_bytes_is_exact)
{
	struct evering_query query = { .size = sizeof(query) };
	struct evering_connect args;
	struct evering_accept accepted;
	uint64_t bytes;
	int fd;

	fd = connect_geometry(&small, &args);
	ASSERT_LE(0, fd);
	bytes = uring_bytes(&args.layout);
	close(fd);
	close(do_accept(self->service, &accepted));

	ASSERT_TRUE(write_number(LIMIT, bytes - 1));
	ASSERT_EQ(0, device_call(EVERING_IOC_QUERY, &query));
	EXPECT_EQ(bytes - 1, query.max_uring_bytes);
	bad_geometry(_metadata, &small);
	bad_geometry(_metadata, &small);

	ASSERT_TRUE(write_number(LIMIT, bytes));
	ASSERT_EQ(0, device_call(EVERING_IOC_QUERY, &query));
	EXPECT_EQ(bytes, query.max_uring_bytes);
	EXPECT_LE(0, connect_geometry(&small, &args));
}

/* With no bound from the administrator the sums must still not wrap. */
TEST_F(limit, nothing_wraps_without_max_uring_bytes)
{
	static const uint64_t bad[][2] = {
		{ -4096ULL, 0 }, { 0, -4096ULL }, { -8192ULL, 4096 },
		{ 1ULL << 63, 1ULL << 63 }, { -4096ULL, -4096ULL },
		{ 1ULL << 63, (1ULL << 63) - 4096 },
		{ (1ULL << 63) - 4096, (1ULL << 63) - 4096 },
	};
	struct evering_connect args;
	int i;

	ASSERT_TRUE(write_number(LIMIT, ULONG_MAX));
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		struct evering_geometry g = small;
		struct counters before = count();
		int ret;

		g.heap_size[0] = bad[i][0];
		g.heap_size[1] = bad[i][1];
		ret = connect_geometry(&g, &args);
		/* What does fit in 64 bits is merely too much memory. */
		EXPECT_TRUE(ret == -EINVAL || ret == -ENOMEM)
			TH_LOG("%d: %d", i, ret);
		EXPECT_TRUE(settles(&before));
	}
	EXPECT_LE(0, connect_geometry(&small, &args));
}

TEST(service_limits)
{
	struct evering_listen listen = listen_args(NAME);
	struct evering_geometry most = {
		.entries = { 8, 8 },
		.slot_size = { 128, 128 },
		.heap_size = { 8192, 8192 },
	};
	struct evering_connect args;
	struct evering_accept accepted;
	struct counters before;
	int service, i;

	listen.backlog = 1;
	listen.max_entries = 8;
	listen.max_slot_size = 128;
	listen.max_heap_size = 8192;
	service = device_call(EVERING_IOC_LISTEN, &listen);
	ASSERT_LE(0, service);
	before = count();
	for (i = 0; i < 2; i++) {
		struct evering_geometry g = most;

		g.entries[i] = 16;
		EXPECT_EQ(-ERANGE, connect_geometry(&g, &args));
		g = most;
		g.slot_size[i] = 256;
		EXPECT_EQ(-ERANGE, connect_geometry(&g, &args));
		g = most;
		g.heap_size[i] = 12288;
		EXPECT_EQ(-ERANGE, connect_geometry(&g, &args));
		EXPECT_EQ(NOT_SENT, args.token);
	}
	EXPECT_TRUE(settles(&before));

	EXPECT_LE(0, connect_geometry(&most, &args));
	EXPECT_LE(0, do_accept(service, &accepted));
	/* Smaller is as good. */
	EXPECT_LE(0, connect_geometry(&small, &args));
}

TEST(service_limit_zero_is_none)
{
	struct evering_geometry g = {
		.entries = { 4096, 1 },
		.slot_size = { 64, 4096 },
		.heap_size = { 1 << 20, 0 },
	};
	struct evering_connect args;
	int service = do_listen(NAME);

	ASSERT_LE(0, service);
	EXPECT_LE(0, connect_geometry(&g, &args));
}

TEST_HARNESS_MAIN
