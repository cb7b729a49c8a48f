// SPDX-License-Identifier: GPL-2.0
/*
 * What all ioctls do alike with their argument: its size, flags, padding and
 * memory, and the file it is called on.  Argument structures grow with new
 * versions, so what is refused today decides what can be added tomorrow; and a
 * refused call must leave nothing behind.
 */
#include <limits.h>

#include "ioctl_test.h"

#define OTHER		"test.ioctl.other"

enum object { CONTROL, SERVICE, ENDPOINT, NR_OBJECTS };

/* One variant for each ioctl. */
FIXTURE(args)
{
	int fd[NR_OBJECTS];
	int server;
	int waiting[3];
	uint64_t token;		/* of waiting[0] */
	char *mem;		/* two pages, then one that is not there */
	struct counters before;
	int lowest;
};

FIXTURE_VARIANT(args)
{
	unsigned int request;
	enum object object;
	size_t size;
	uint32_t flags;		/* known ones */
	bool gives_fd;
	bool gives_results;
};

FIXTURE_VARIANT_ADD(args, query)
{
	EVERING_IOC_QUERY, CONTROL, sizeof(struct evering_query), 0, false, true
};

FIXTURE_VARIANT_ADD(args, listen)
{
	EVERING_IOC_LISTEN, CONTROL, sizeof(struct evering_listen),
	EVERING_URING_MULTI_B | EVERING_URING_LEASE, true, false
};

FIXTURE_VARIANT_ADD(args, connect)
{
	EVERING_IOC_CONNECT, CONTROL, sizeof(struct evering_connect),
	EVERING_URING_MULTI_A, true, true
};

FIXTURE_VARIANT_ADD(args, accept)
{
	EVERING_IOC_ACCEPT, SERVICE, sizeof(struct evering_accept),
	EVERING_ACCEPT_NONBLOCK, true, true
};

FIXTURE_VARIANT_ADD(args, enter)
{
	EVERING_IOC_ENTER, ENDPOINT, sizeof(struct evering_enter),
	EVERING_ENTER_WAKE_PEER | EVERING_ENTER_WAKE_OWN | EVERING_ENTER_WAIT |
	EVERING_ENTER_WAIT_SPACE, false, false
};

FIXTURE_VARIANT_ADD(args, shutdown)
{
	EVERING_IOC_SHUTDOWN, ENDPOINT, sizeof(struct evering_shutdown), 0, false,
	false
};

FIXTURE_VARIANT_ADD(args, peer)
{
	EVERING_IOC_PEER, ENDPOINT, sizeof(struct evering_peer), 0, false, true
};

FIXTURE_SETUP(args)
{
	struct evering_accept accepted;
	int i;

	self->fd[CONTROL] = open(DEVICE, O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, self->fd[CONTROL]);
	self->fd[SERVICE] = listen_with(NAME, 16, 0222);
	ASSERT_LE(0, self->fd[SERVICE]);
	self->fd[ENDPOINT] = do_connect(NAME, NULL);
	ASSERT_LE(0, self->fd[ENDPOINT]);
	self->server = do_accept(self->fd[SERVICE], &accepted);
	ASSERT_LE(0, self->server);
	for (i = 0; i < 3; i++) {
		self->waiting[i] = do_connect(NAME, i ? NULL : &self->token);
		ASSERT_LE(0, self->waiting[i]);
	}
	self->mem = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->mem);
	ASSERT_EQ(0, munmap(self->mem + 2 * PAGE, PAGE));
	self->before = count();
	self->lowest = lowest_fd();
}

FIXTURE_TEARDOWN(args)
{
	int i;

	for (i = 0; i < NR_OBJECTS; i++)
		close(self->fd[i]);
	for (i = 0; i < 3; i++)
		close(self->waiting[i]);
	close(self->server);
}

/* An argument with which the ioctl works. */
static void fill(const FIXTURE_VARIANT(args) *variant, void *mem)
{
	uint32_t *head = mem;

	memset(mem, 0xcc, variant->size);
	switch (variant->request) {
	case EVERING_IOC_LISTEN:
		*(struct evering_listen *)mem = listen_args(OTHER);
		break;
	case EVERING_IOC_CONNECT:
		*(struct evering_connect *)mem = dirty_connect(NAME);
		break;
	case EVERING_IOC_ACCEPT:
		*(struct evering_accept *)mem = blocking_accept(0);
		break;
	case EVERING_IOC_SHUTDOWN:
		((struct evering_shutdown *)mem)->how = EVERING_SHUT_WR;
		((struct evering_shutdown *)mem)->__resv = 0;
		break;
	}
	head[0] = variant->size;
	head[1] = 0;
	/* NONBLOCK, WAKE_PEER */
	if (variant->request == EVERING_IOC_ACCEPT ||
	    variant->request == EVERING_IOC_ENTER)
		head[1] = 1;
}

static void fill_size(const FIXTURE_VARIANT(args) *variant, void *mem, uint32_t size)
{
	fill(variant, mem);
	*(uint32_t *)mem = size;
}

#define CALL(mem) call(self->fd[variant->object], variant->request, mem)

static void kept_nothing(struct __test_metadata *_metadata, FIXTURE_DATA(args) *self)
{
	EXPECT_EQ(self->lowest, lowest_fd());
	EXPECT_TRUE(settles(&self->before));
}

/*
 * Fails as @expected, keeps nothing and writes nothing to @len bytes.  A test
 * calls works() as well, so that it is this one thing that was refused.
 */
static void refused(struct __test_metadata *_metadata, FIXTURE_DATA(args) *self,
		    const FIXTURE_VARIANT(args) *variant, void *mem, size_t len,
		    int expected)
{
	char *copy = malloc(len + 8);
	int ret;

	memcpy(copy, mem, len);
	ret = CALL(mem);
	EXPECT_EQ(expected, ret) {
		TH_LOG("size %u, flags %x", ((uint32_t *)copy)[0],
		       ((uint32_t *)copy)[1]);
	}
	EXPECT_EQ(0, memcmp(copy, mem, len)) TH_LOG("wrote to the argument");
	kept_nothing(_metadata, self);
	free(copy);
}

static void works(struct __test_metadata *_metadata, FIXTURE_DATA(args) *self,
		  const FIXTURE_VARIANT(args) *variant, void *mem)
{
	struct evering_connect *connect = mem;
	int ret = CALL(mem);

	if (!variant->gives_fd) {
		EXPECT_EQ(0, ret);
		return;
	}
	EXPECT_LE(0, ret);
	if (variant->request == EVERING_IOC_CONNECT)
		EXPECT_NE(NOT_SENT, connect->token);
	close(ret);
}

#define REFUSED(mem, len, expected) \
	refused(_metadata, self, variant, mem, len, expected)
#define WORKS(mem) works(_metadata, self, variant, mem)

TEST_F(args, size_zero)
{
	fill_size(variant, self->mem, 0);
	REFUSED(self->mem, PAGE, -EINVAL);
	fill(variant, self->mem);
	WORKS(self->mem);
}

TEST_F(args, size_below_first_version)
{
	const uint32_t sizes[] = { 1, 4, 8, variant->size - 8,
				   variant->size - 1 };
	int i;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		fill_size(variant, self->mem, sizes[i]);
		REFUSED(self->mem, PAGE, -EINVAL);
	}
	fill(variant, self->mem);
	WORKS(self->mem);
}

TEST_F(args, larger_size_with_zero_tail_works)
{
	const uint32_t sizes[] = { variant->size + 1, variant->size + 8, PAGE };
	int i, k;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		fill_size(variant, self->mem, sizes[i]);
		/* Beyond the size anything may stand. */
		self->mem[sizes[i]] = 0x55;
		WORKS(self->mem);
		EXPECT_EQ(sizes[i], *(uint32_t *)self->mem);
		for (k = variant->size; k < sizes[i]; k++)
			ASSERT_EQ(0, self->mem[k]) TH_LOG("wrote beyond what it knows");
		EXPECT_EQ(0x55, self->mem[sizes[i]]);
		self->mem[sizes[i]] = 0;
	}
}

TEST_F(args, larger_size_with_nonzero_tail)
{
	const uint32_t sizes[] = { variant->size + 1, variant->size + 8, PAGE };
	int i;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		fill_size(variant, self->mem, sizes[i]);
		/* first and last byte of the tail */
		self->mem[variant->size] = 1;
		REFUSED(self->mem, PAGE, -E2BIG);
		self->mem[variant->size] = 0;
		self->mem[sizes[i] - 1] = 0x80;
		REFUSED(self->mem, PAGE, -E2BIG);
		self->mem[sizes[i] - 1] = 0;
	}
	WORKS(self->mem);
}

TEST_F(args, size_beyond_a_page)
{
	const uint32_t sizes[] = { PAGE + 1, 2 * PAGE, INT_MAX, 1U << 31,
				   UINT_MAX };
	int i;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		fill_size(variant, self->mem, sizes[i]);
		REFUSED(self->mem, 2 * PAGE, -E2BIG);
	}
	*(uint32_t *)self->mem = PAGE;
	WORKS(self->mem);
}

TEST_F(args, unknown_flags)
{
	int bit;

	for (bit = 0; bit < 32; bit++) {
		if (variant->flags & 1U << bit)
			continue;
		fill(variant, self->mem);
		((uint32_t *)self->mem)[1] |= 1U << bit;
		REFUSED(self->mem, PAGE, -EINVAL);
	}
	fill(variant, self->mem);
	WORKS(self->mem);
}

TEST_F(args, bad_pointer)
{
	void *const bad[] = {
		NULL,
		(void *)1,
		self->mem + 2 * PAGE,
		(void *)0x0000800000000000,	/* no address, or nothing there */
		(void *)0xffff888000000000,	/* the kernel's */
		(void *)-(long)variant->size,
		(void *)-1,
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		EXPECT_EQ(-EFAULT, CALL(bad[i])) TH_LOG("%p", bad[i]);
		kept_nothing(_metadata, self);
	}
	fill(variant, self->mem);
	WORKS(self->mem);
}

/* Bytes 0 to n are there and the others are not. */
TEST_F(args, struct_reaches_into_unmapped_page)
{
	char *end = self->mem + 2 * PAGE;
	const size_t sizes[] = { 2, 4, 8, variant->size / 2, variant->size - 4,
				 variant->size - 1 };
	char whole[PAGE];
	int i;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		fill(variant, whole);
		memcpy(end - sizes[i], whole, sizes[i]);
		REFUSED(end - sizes[i], sizes[i], -EFAULT);
	}
	/* A tail that is not there cannot be zero. */
	fill_size(variant, end - variant->size, variant->size + 8);
	REFUSED(end - variant->size, variant->size, -EFAULT);

	/* Up to the last byte of a page, and not beyond. */
	fill(variant, end - variant->size);
	WORKS(end - variant->size);
}

TEST_F(args, read_only_page)
{
	struct evering_accept accepted;

	fill(variant, self->mem);
	ASSERT_EQ(0, mprotect(self->mem, PAGE, PROT_READ));
	if (!variant->gives_results) {
		WORKS(self->mem);
		return;
	}
	REFUSED(self->mem, PAGE, -EFAULT);
	/* More of them than there are places in the backlog. */
	for (int i = 0; i < 20; i++)
		EXPECT_EQ(-EFAULT, CALL(self->mem));
	EXPECT_TRUE(settles(&self->before));

	/* The half with the head can be written, the other cannot. */
	ASSERT_EQ(0, mprotect(self->mem, PAGE, PROT_READ | PROT_WRITE));
	fill(variant, self->mem + PAGE - 8);
	ASSERT_EQ(0, mprotect(self->mem + PAGE, PAGE, PROT_READ));
	EXPECT_EQ(-EFAULT, CALL(self->mem + PAGE - 8));
	kept_nothing(_metadata, self);

	/* Who waited still waits, in the same order. */
	EXPECT_EQ(EVERING_STATE_PENDING, peer_state(self->waiting[0]));
	fill(variant, self->mem);
	WORKS(self->mem);
	if (variant->request == EVERING_IOC_ACCEPT) {
		EXPECT_EQ(self->token,
			  ((struct evering_accept *)self->mem)->token);
	} else {
		EXPECT_LE(0, do_accept(self->fd[SERVICE], &accepted));
		EXPECT_EQ(self->token, accepted.token);
	}
}

TEST_F(args, wrong_object)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int i;

	self->lowest = lowest_fd();
	ASSERT_LE(0, null);
	fill(variant, self->mem);
	for (i = 0; i < NR_OBJECTS; i++) {
		if (i == variant->object)
			continue;
		EXPECT_EQ(-ENOTTY, call(self->fd[i], variant->request, self->mem));
		EXPECT_EQ(-ENOTTY, call(self->fd[i], variant->request, NULL));
	}
	EXPECT_EQ(-ENOTTY, call(null, variant->request, self->mem));
	kept_nothing(_metadata, self);
	WORKS(self->mem);
}

/* A direction or a size in the number makes another ioctl of it. */
TEST_F(args, number_with_direction)
{
	int fd = self->fd[variant->object];

	fill(variant, self->mem);
	EXPECT_EQ(-ENOTTY, call(fd, variant->request | _IOC_READ << _IOC_DIRSHIFT,
				self->mem));
	EXPECT_EQ(-ENOTTY, call(fd, variant->request | _IOC_WRITE << _IOC_DIRSHIFT,
				self->mem));
	EXPECT_EQ(-ENOTTY, call(fd, variant->request |
				variant->size << _IOC_SIZESHIFT, self->mem));
	WORKS(self->mem);
}

#ifdef __x86_64__
static long syscall32(long nr, long a, long b, long c)
{
	long ret;

	__asm__ volatile("int $0x80" : "=a" (ret)
		     : "0" (nr), "b" (a), "c" (b), "d" (c)
		     : "memory", "r8", "r9", "r10", "r11");
	return (int)ret;
}
#endif

TEST_F(args, caller_of_32_bits)
{
#ifdef __x86_64__
	void *low = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	pid_t pid;

	ASSERT_NE(MAP_FAILED, low);
	ASSERT_GT(1ULL << 32, (uintptr_t)low);
	/* Whether the kernel serves 32-bit programs at all: getpid() */
	pid = spawn();
	if (!pid)
		_exit(syscall32(20, 0, 0, 0) == getpid() ? 0 : 1);
	if (reap(pid))
		SKIP(return, "this kernel has no int $0x80");

	fill(variant, low);
	EXPECT_EQ(-ENOTTY, syscall32(54, self->fd[variant->object],
				     variant->request, (long)low));
	kept_nothing(_metadata, self);
	/* The same memory and numbers, from a 64-bit caller */
	WORKS(low);
#else
	SKIP(return, "only x86-64 has int $0x80");
#endif
}

TEST_F(args, blank_call_works)
{
	fill(variant, self->mem);
	WORKS(self->mem);
	EXPECT_EQ(variant->size, *(uint32_t *)self->mem);
}

TEST_HARNESS_MAIN
