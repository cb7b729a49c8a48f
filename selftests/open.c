// SPDX-License-Identifier: GPL-2.0
/*
 * What CREATE, OPEN, UNLINK, DUP and INFO refuse, and that a refused call leaves
 * nothing behind: no descriptor, no memory, no name.
 */
#include <limits.h>
#include <sys/resource.h>

#include "ioctl_test.h"
#include "registry_test.h"

#define TAKEN		"test.taken"

/* ------------------------------------------ what they do with any argument */

FIXTURE(call)
{
	int control;
	int fd;			/* side A of the buffer TAKEN */
	uint64_t token;
	char *mem;		/* two pages, then one that is not there */
	struct counters before;
	int lowest;
};

FIXTURE_VARIANT(call)
{
	unsigned int request;
	size_t size;
	bool on_endpoint;
	bool gives_fd;
	bool gives_results;
};

FIXTURE_VARIANT_ADD(call, create)
{
	EVERING_IOC_CREATE, sizeof(struct evering_create), false, true, true
};

FIXTURE_VARIANT_ADD(call, open)
{
	EVERING_IOC_OPEN, sizeof(struct evering_open), false, true, true
};

FIXTURE_VARIANT_ADD(call, unlink)
{
	EVERING_IOC_UNLINK, sizeof(struct evering_unlink), false, false, false
};

FIXTURE_VARIANT_ADD(call, dup)
{
	EVERING_IOC_DUP, sizeof(struct evering_dup), true, true, false
};

FIXTURE_VARIANT_ADD(call, info)
{
	EVERING_IOC_INFO, sizeof(struct evering_info), true, false, true
};

FIXTURE_SETUP(call)
{
	self->control = open(DEVICE, O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, self->control);
	self->fd = do_create(EVERING_KIND_BUFFER, TAKEN, 0600, &self->token);
	ASSERT_LE(0, self->fd);
	self->mem = mmap(NULL, 3 * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->mem);
	ASSERT_EQ(0, munmap(self->mem + 2 * PAGE, PAGE));
	self->before = count();
	self->lowest = lowest_fd();
}

FIXTURE_TEARDOWN(call)
{
	close(self->fd);
	close(self->control);
}

/* An argument with which it works. */
static void fill(const FIXTURE_VARIANT(call) *variant, uint64_t token, void *mem, uint32_t size)
{
	memset(mem, 0, variant->size);
	switch (variant->request) {
	case EVERING_IOC_CREATE:
		*(struct evering_create *)mem = create_args(EVERING_KIND_BUFFER, BUFFER);
		break;
	case EVERING_IOC_OPEN:
		*(struct evering_open *)mem = open_args(token, "", EVERING_SIDE_B);
		break;
	case EVERING_IOC_UNLINK:
		*(struct evering_unlink *)mem = unlink_args(token, "");
		break;
	}
	*(uint32_t *)mem = size;
}

#define FILL(mem, size)	fill(variant, self->token, mem, size)
#define CALL(mem)	call(variant->on_endpoint ? self->fd : self->control, \
			     variant->request, mem)
#define REFUSED(mem, expected) do {					\
	EXPECT_EQ(expected, CALL(mem))					\
		TH_LOG("size %u", *(uint32_t *)(mem));			\
	EXPECT_EQ(self->lowest, lowest_fd());				\
	EXPECT_TRUE(settles(&self->before));				\
} while (0)
#define WORKS(mem) do {							\
	int got = CALL(mem);						\
	EXPECT_TRUE(variant->gives_fd ? got >= 0 : got == 0)		\
		TH_LOG("%d", got);					\
} while (0)

TEST_F(call, size_below_the_first_version_is_einval)
{
	const uint32_t sizes[] = { 0, 1, 4, variant->size - 8, variant->size - 1 };
	int i;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		FILL(self->mem, sizes[i]);
		REFUSED(self->mem, -EINVAL);
	}
	FILL(self->mem, variant->size);
	WORKS(self->mem);
}

TEST_F(call, unknown_tail_that_is_not_zero_is_e2big)
{
	FILL(self->mem, variant->size + 8);
	self->mem[variant->size + 7] = 1;
	REFUSED(self->mem, -E2BIG);
	FILL(self->mem, PAGE + 8);
	self->mem[variant->size + 7] = 0;
	REFUSED(self->mem, -E2BIG);
	FILL(self->mem, UINT_MAX);
	REFUSED(self->mem, -E2BIG);
	FILL(self->mem, PAGE);
	WORKS(self->mem);
}

TEST_F(call, every_flag_is_einval)
{
	int bit;

	for (bit = 0; bit < 32; bit++) {
		FILL(self->mem, variant->size);
		((uint32_t *)self->mem)[1] = 1U << bit;
		REFUSED(self->mem, -EINVAL);
	}
	FILL(self->mem, variant->size);
	WORKS(self->mem);
}

TEST_F(call, memory_that_cannot_be_read_is_efault)
{
	char *end = self->mem + 2 * PAGE, whole[512];

	EXPECT_EQ(-EFAULT, CALL(NULL));
	EXPECT_EQ(-EFAULT, CALL((void *)-1));
	EXPECT_EQ(-EFAULT, CALL(end));
	FILL(whole, variant->size);
	memcpy(end - 4, whole, 4);
	REFUSED(end - 4, -EFAULT);
	memcpy(end - variant->size + 1, whole, variant->size - 1);
	REFUSED(end - variant->size + 1, -EFAULT);
	FILL(end - variant->size, variant->size);
	WORKS(end - variant->size);
}

TEST_F(call, memory_that_cannot_be_written_is_efault)
{
	FILL(self->mem, variant->size);
	ASSERT_EQ(0, mprotect(self->mem, PAGE, PROT_READ));
	if (variant->gives_results) {
		REFUSED(self->mem, -EFAULT);
		/* Nor has it kept the name. */
		REFUSED(self->mem, -EFAULT);
		ASSERT_EQ(0, mprotect(self->mem, PAGE, RW));
	}
	WORKS(self->mem);
}

TEST_F(call, on_another_kind_of_file_is_enotty)
{
	FILL(self->mem, variant->size);
	EXPECT_EQ(-ENOTTY, call(variant->on_endpoint ? self->control : self->fd,
				variant->request, self->mem));
	WORKS(self->mem);
}

/* ------------------------------------------------------ what CREATE refuses */

#define CREATE(args)	device_call(EVERING_IOC_CREATE, &(args))

static void refused(struct __test_metadata *_metadata, const struct evering_create *args,
		    int expected)
{
	const struct evering_geometry *g = &args->geometry;
	struct counters before = count();
	struct evering_create copy = *args;
	int lowest = lowest_fd();

	EXPECT_EQ(expected, CREATE(copy)) {
		TH_LOG("kind %u, side %u, mode %o, entries %u %u, slots %u %u, heaps %llx %llx",
		       args->kind, args->side, args->mode, g->entries[0], g->entries[1],
		       g->slot_size[0], g->slot_size[1], g->heap_size[0], g->heap_size[1]);
	}
	EXPECT_EQ(0, memcmp(&copy, args, sizeof(copy))) TH_LOG("wrote to the argument");
	EXPECT_EQ(lowest, lowest_fd());
	EXPECT_TRUE(settles(&before));
	if (expected != -EEXIST)
		EXPECT_EQ(-ENOENT, open_name(BUFFER, EVERING_SIDE_B));
}

#define CREATE_REFUSED(args, expected)	refused(_metadata, &(args), expected)

TEST(create_with_bits_that_are_no_mode_is_einval)
{
	static const uint32_t modes[] = { 01000, 04600, 0100600, 1U << 31 };
	struct evering_create args = create_args(EVERING_KIND_CHANNEL, BUFFER);
	int i;

	for (i = 0; i < ARRAY_SIZE(modes); i++) {
		args.mode = modes[i];
		CREATE_REFUSED(args, -EINVAL);
	}
	args.mode = 0777;
	EXPECT_LE(0, CREATE(args));
}

TEST(create_with_a_reserved_field_is_einval)
{
	struct evering_create args = create_args(EVERING_KIND_CHANNEL, BUFFER);
	int bit;

	for (bit = 0; bit < 32; bit++) {
		args.__resv = 1U << bit;
		CREATE_REFUSED(args, -EINVAL);
	}
	args.__resv = 0;
	EXPECT_LE(0, CREATE(args));
}

/* Its creator would have made what nobody can write to. */
TEST(create_takes_side_b_of_channels_and_queues_only)
{
	struct evering_create args;
	int kind;

	for (kind = 0; kind < NR_KINDS; kind++) {
		args = create_args(kind, "");
		args.side = 2;
		CREATE_REFUSED(args, -EINVAL);
		args.side = UINT_MAX;
		CREATE_REFUSED(args, -EINVAL);
		args.side = EVERING_SIDE_B;
		if (read_only_on[kind][EVERING_SIDE_B])
			CREATE_REFUSED(args, -EINVAL);
		else
			EXPECT_LE(0, CREATE(args));
		args = create_args(kind, "");
		EXPECT_LE(0, CREATE(args));
	}
}

TEST(create_of_an_unknown_kind_is_eopnotsupp)
{
	static const uint32_t kinds[] = { NR_KINDS, 1U << 16, INT_MAX, EVERING_KIND_ANY };
	struct evering_create args = create_args(EVERING_KIND_BUFFER, BUFFER);
	int i;

	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		args.kind = kinds[i];
		CREATE_REFUSED(args, -EOPNOTSUPP);
	}
}

TEST(create_with_a_geometry_that_the_kind_does_not_have_is_einval)
{
	const uint64_t most = read_number(LIMIT);
	const struct {
		uint32_t kind;
		struct evering_geometry geometry;
	} wrong[] = {
		/* a ring of no slots, of an odd number, of too many, of wrong ones */
		{ EVERING_KIND_CHANNEL, { { 8, 0 }, { 64, 64 }, { 0, 0 } } },
		{ EVERING_KIND_CHANNEL, { { 8, 0 }, { 64, 0 }, { 0, 0 } } },
		{ EVERING_KIND_QUEUE, { { 0, 0 }, { 64, 0 }, { 0, 0 } } },
		{ EVERING_KIND_QUEUE, { { 0, 0 }, { 0, 0 }, { 4096, 0 } } },
		{ EVERING_KIND_TOPIC, { { 0, 0 }, { 0, 0 }, { 4096, 0 } } },
		{ EVERING_KIND_QUEUE, { { 65, 0 }, { 64, 0 }, { 0, 0 } } },
		{ EVERING_KIND_QUEUE, { { 32, 0 }, { 64, 0 }, { 0, 0 } } },
		{ EVERING_KIND_TOPIC, { { 131072, 0 }, { 64, 0 }, { 0, 0 } } },
		{ EVERING_KIND_TOPIC, { { 8, 0 }, { 32, 0 }, { 0, 0 } } },
		{ EVERING_KIND_QUEUE, { { 64, 0 }, { 8192, 0 }, { 0, 0 } } },
		/* a ring that the kind does not have */
		{ EVERING_KIND_QUEUE, { { 64, 64 }, { 64, 64 }, { 0, 0 } } },
		{ EVERING_KIND_QUEUE, { { 64, 64 }, { 64, 0 }, { 0, 0 } } },
		{ EVERING_KIND_QUEUE, { { 64, 0 }, { 64, 64 }, { 0, 0 } } },
		{ EVERING_KIND_TOPIC, { { 8, 8 }, { 64, 64 }, { 0, 0 } } },
		{ EVERING_KIND_TOPIC, { { 8, 0 }, { 64, 64 }, { 0, 0 } } },
		{ EVERING_KIND_BUFFER, { { 8, 0 }, { 64, 0 }, { 4096, 0 } } },
		{ EVERING_KIND_BUFFER, { { 0, 0 }, { 64, 0 }, { 4096, 0 } } },
		{ EVERING_KIND_BUFFER, { { 0, 8 }, { 0, 64 }, { 4096, 0 } } },
		/* a heap B */
		{ EVERING_KIND_QUEUE, { { 64, 0 }, { 64, 0 }, { 0, 4096 } } },
		{ EVERING_KIND_TOPIC, { { 8, 0 }, { 64, 0 }, { 4096, 4096 } } },
		{ EVERING_KIND_BUFFER, { { 0, 0 }, { 0, 0 }, { 4096, 4096 } } },
		{ EVERING_KIND_BUFFER, { { 0, 0 }, { 0, 0 }, { 0, 4096 } } },
		/* a buffer of nothing, of half a page, of more than there may be */
		{ EVERING_KIND_BUFFER, { { 0, 0 }, { 0, 0 }, { 0, 0 } } },
		{ EVERING_KIND_BUFFER, { { 0, 0 }, { 0, 0 }, { 2048, 0 } } },
		{ EVERING_KIND_BUFFER, { { 0, 0 }, { 0, 0 }, { most, 0 } } },
		{ EVERING_KIND_BUFFER, { { 0, 0 }, { 0, 0 }, { -4096ULL, 0 } } },
	};
	struct evering_create args;
	int i;

	for (i = 0; i < ARRAY_SIZE(wrong); i++) {
		args = create_args(wrong[i].kind, BUFFER);
		args.geometry = wrong[i].geometry;
		CREATE_REFUSED(args, -EINVAL);
	}
	for (i = 0; i < NR_KINDS; i++) {
		args = create_args(i, "");
		EXPECT_LE(0, CREATE(args)) TH_LOG("kind %d", i);
		/* Heaps are for those who want them, and are all of a buffer. */
		memset(args.geometry.heap_size, 0, sizeof(args.geometry.heap_size));
		if (i != EVERING_KIND_BUFFER)
			EXPECT_LE(0, CREATE(args)) TH_LOG("kind %d", i);
	}
}

TEST(create_of_a_taken_name_is_eexist)
{
	struct evering_create args = create_args(EVERING_KIND_CHANNEL, BUFFER);
	int service = do_listen(BUFFER);
	int fd = do_create(EVERING_KIND_BUFFER, BUFFER, 0600, NULL);
	int reader = open_name(BUFFER, EVERING_SIDE_B);
	struct counters before;

	/* Services have names of their own. */
	ASSERT_LE(0, service);
	ASSERT_LE(0, fd);
	ASSERT_LE(0, reader);
	before = count();
	EXPECT_EQ(-EEXIST, CREATE(args));
	EXPECT_TRUE(settles(&before));
	/* It lasts as long as any endpoint. */
	close(fd);
	EXPECT_EQ(-EEXIST, CREATE(args));
	close(reader);
	fd = CREATE(args);
	EXPECT_LE(0, fd);
	/* Those without a name do not stand in each other's way. */
	EXPECT_LE(0, do_create(EVERING_KIND_BUFFER, "", 0600, NULL));
	EXPECT_LE(0, do_create(EVERING_KIND_BUFFER, "", 0600, NULL));
}

TEST(create_through_a_read_only_control_file_is_eacces)
{
	struct evering_create args = create_args(EVERING_KIND_BUFFER, BUFFER);
	int control = open(DEVICE, O_RDONLY | O_CLOEXEC);
	struct counters before = count();

	ASSERT_LE(0, control);
	EXPECT_EQ(-EACCES, call(control, EVERING_IOC_CREATE, &args));
	EXPECT_TRUE(settles(&before));
	EXPECT_LE(0, CREATE(args));
}

static bool allow_fds(rlim_t nr)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		return false;
	limit.rlim_cur = nr;
	limit.rlim_max = nr > limit.rlim_max ? nr : limit.rlim_max;
	return !setrlimit(RLIMIT_NOFILE, &limit);
}

TEST(without_a_descriptor_left_all_fail_and_keep_nothing)
{
	struct evering_create create = create_args(EVERING_KIND_BUFFER, BUFFER);
	struct evering_open open_a, open_b;
	int control = open(DEVICE, O_RDWR | O_CLOEXEC);
	struct counters before;
	uint64_t token;
	int fd = do_create(EVERING_KIND_BUFFER, TAKEN, 0600, &token);
	struct view v;

	ASSERT_LE(0, control);
	ASSERT_LE(0, fd);
	ASSERT_TRUE(view_here(&v));
	open_a = open_args(token, "", EVERING_SIDE_A);
	open_b = open_args(0, TAKEN, EVERING_SIDE_B);
	before = count();
	ASSERT_TRUE(allow_fds(lowest_fd()));
	EXPECT_EQ(-EMFILE, call(control, EVERING_IOC_CREATE, &create));
	EXPECT_EQ(-EMFILE, call(control, EVERING_IOC_CREATE, &create));
	EXPECT_EQ(-EMFILE, call(control, EVERING_IOC_OPEN, &open_a));
	EXPECT_EQ(-EMFILE, call(control, EVERING_IOC_OPEN, &open_b));
	EXPECT_EQ(-EMFILE, do_dup(fd));
	ASSERT_TRUE(allow_fds(1024));
	EXPECT_EQ(NOT_WRITTEN, create.token);
	EXPECT_TRUE(settles(&before));
	EXPECT_EQ(1, active_of(&v));
	EXPECT_EQ(1, entry_of(&v, token).ref_count);
	/* The name is free, and the side as well. */
	EXPECT_LE(0, call(control, EVERING_IOC_CREATE, &create));
	EXPECT_LE(0, call(control, EVERING_IOC_OPEN, &open_a));
	EXPECT_LE(0, call(control, EVERING_IOC_OPEN, &open_b));
	EXPECT_LE(0, do_dup(fd));
}

TEST(create_in_a_full_registry_is_enospc)
{
	struct evering_create args = create_args(EVERING_KIND_BUFFER, "");
	struct evering_connect connect = connect_args(NAME);
	int control, service, last = -1;
	struct counters before;
	uint64_t token = 0;
	struct view v;
	uint32_t n;

	ASSERT_TRUE(allow_fds(EVERING_MAX_REGISTRY + 64));
	control = open(DEVICE, O_RDWR | O_CLOEXEC);
	service = do_listen(NAME);
	ASSERT_LE(0, service);
	ASSERT_TRUE(view_map(&v, control));
	args.geometry.heap_size[0] = PAGE;
	for (n = 0; n < v.header->capacity; n++) {
		args.token = NOT_WRITTEN;
		last = call(control, EVERING_IOC_CREATE, &args);
		ASSERT_LE(0, last) TH_LOG("uring %u", n);
		token = args.token;
	}
	before = count();
	EXPECT_EQ(v.header->capacity, active_of(&v));
	EXPECT_EQ(v.header->capacity, v.header->used);
	EXPECT_EQ(-ENOSPC, call(control, EVERING_IOC_CREATE, &args));
	EXPECT_EQ(-ENOSPC, call(control, EVERING_IOC_CONNECT, &connect));
	EXPECT_TRUE(settles(&before));
	close(last);
	EXPECT_LE(0, call(control, EVERING_IOC_CREATE, &args));
	EXPECT_EQ(EVERING_TOKEN_INDEX(token), EVERING_TOKEN_INDEX(args.token));
	EXPECT_LT(token, args.token);
	EXPECT_EQ(-ENOSPC, call(control, EVERING_IOC_CREATE, &args));
}

TEST_HARNESS_MAIN
