// SPDX-License-Identifier: GPL-2.0
/* The ioctls one by one: arguments, names, rights, namespaces, resources. */
#include <ctype.h>
#include <grp.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <linux/capability.h>

#include "evering_test.h"

#define NAME		"test.api"
#define OTHER		"test.api.other"
#define COUNTERS	"/sys/class/misc/evering/"
#define LIMIT		"/sys/module/evering/parameters/max_uring_bytes"
#define PAGE		4096U
#define PATIENCE	10000	/* ms; for what must happen on a slow machine */
#define NOT_SENT	0xcccccccccccccccc
#define OVERFLOW_ID	65534

/* In a child, where the harness cannot see: say why, and end. */
#define MUST(cond) do {							\
	if (!(cond)) {							\
		int err = errno;					\
		fprintf(stderr, "# %s:%d: in a child: !(%s), errno %d\n", \
			__FILE__, __LINE__, #cond, err);		\
		_exit(255);						\
	}								\
} while (0)

/* ---------------------------------------------------------------- files */

/* The text of a small file; empty when there is none. */
static char *read_text(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t len = 0;
	ssize_t n;

	while (fd >= 0 && len < size - 1) {
		n = read(fd, text + len, size - 1 - len);
		if (n <= 0)
			break;
		len += n;
	}
	if (fd >= 0)
		close(fd);
	text[len] = 0;
	return text;
}

static unsigned long long read_number(const char *path)
{
	char text[64];

	return strtoull(read_text(path, text, sizeof(text)), NULL, 10);
}

static bool write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC | O_TRUNC);
	bool ok = fd >= 0 && write(fd, text, strlen(text)) == strlen(text);

	if (fd >= 0)
		close(fd);
	return ok;
}

static bool write_number(const char *path, unsigned long long number)
{
	char text[32];

	snprintf(text, sizeof(text), "%llu", number);
	return write_text(path, text);
}

/* ------------------------------------------------------- what is left over */

struct counters {
	unsigned long long urings, endpoints, services, bytes;
};

static struct counters count(void)
{
	return (struct counters){
		.urings = read_number(COUNTERS "urings"),
		.endpoints = read_number(COUNTERS "endpoints"),
		.services = read_number(COUNTERS "services"),
		.bytes = read_number(COUNTERS "bytes"),
	};
}

/* A release may be a moment late, a leak stays. */
static bool settles(const struct counters *expected)
{
	uint64_t end = now_ns() + 2000 * MS;
	struct counters now;

	do {
		now = count();
		if (!memcmp(&now, expected, sizeof(now)))
			return true;
		sleep_ms(5);
	} while (now_ns() < end);
	fprintf(stderr, "# urings %llu, endpoints %llu, services %llu, bytes %llu are left\n",
		now.urings - expected->urings,
		now.endpoints - expected->endpoints,
		now.services - expected->services,
		now.bytes - expected->bytes);
	return false;
}

/* Tells whether a failed call has kept a file descriptor. */
static int lowest_fd(void)
{
	int fd = dup(STDERR_FILENO);

	close(fd);
	return fd;
}

static bool is_cloexec(int fd)
{
	return fcntl(fd, F_GETFD) == FD_CLOEXEC;
}

/* ------------------------------------------------------------ other tasks */

/* A child that a failing test does not leave behind. */
static pid_t spawn(void)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (!pid)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	return pid;
}

/* For good, and with no group but @gid and @extra. */
static void become(uid_t uid, gid_t gid, gid_t extra)
{
	MUST(!setgroups(1, &extra));
	MUST(!setresgid(gid, gid, gid));
	MUST(!setresuid(uid, uid, uid));
	/* Both are lost on the way; the latter lets /proc/self be written. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_DUMPABLE, 1);
}

static void say(int fd, uint64_t word)
{
	MUST(write(fd, &word, sizeof(word)) == sizeof(word));
}

/* The next word from a pipe; NOT_SENT when none comes. */
static uint64_t hear(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	uint64_t word;

	if (poll(&p, 1, PATIENCE) != 1 ||
	    read(fd, &word, sizeof(word)) != sizeof(word))
		return NOT_SENT;
	return word;
}

static bool is_silent(int fd, int ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, ms) == 0;
}

/* Has task @tid gone to sleep in an ioctl? */
static bool sleeps_in_ioctl(pid_t tid)
{
	uint64_t end = now_ns() + PATIENCE * MS;
	char path[64], text[256];

	snprintf(path, sizeof(path), "/proc/%d/syscall", tid);
	do {
		/* "running", or the number and arguments */
		read_text(path, text, sizeof(text));
		if (isdigit(text[0]) && atoi(text) == SYS_ioctl)
			return true;
		sleep_ms(2);
	} while (now_ns() < end);
	return false;
}

static bool map_id(const char *path, unsigned int inside, unsigned int outside)
{
	char text[64];

	snprintf(text, sizeof(text), "%u %u 1", inside, outside);
	return write_text(path, text);
}

/* A user namespace in which uid and gid @id are root and all there is. */
static void become_root_of_namespace(uid_t id, int other_namespaces)
{
	MUST(!unshare(CLONE_NEWUSER | other_namespaces));
	MUST(write_text("/proc/self/setgroups", "deny"));
	MUST(map_id("/proc/self/uid_map", 0, id));
	MUST(map_id("/proc/self/gid_map", 0, id));
	MUST(getuid() == 0 && getgid() == 0);
}

/* ------------------------------------------------------------------ calls */

/* Pre-filled, so that an output nobody wrote shows. */
static struct evering_connect dirty_connect(const char *name)
{
	struct evering_connect args = connect_args(name);

	memset(&args.layout, 0xcc, sizeof(args.layout));
	args.token = NOT_SENT;
	return args;
}

static __attribute__((noinline)) int
do_connect(const char *name, uint64_t *token)
{
	struct evering_connect args = dirty_connect(name);
	int ret = device_call(EVERING_IOC_CONNECT, &args);

	if (token)
		*token = args.token;
	return ret;
}

/*
 * A service with a backlog and a mode of its own.  noinline: gcc must not see
 * that a name fills its field and warn of a missing NUL, which is not missing.
 */
static __attribute__((noinline)) int
listen_with(const char *name, unsigned int backlog, unsigned int mode)
{
	struct evering_listen args = listen_args(name);

	args.backlog = backlog;
	args.mode = mode;
	return device_call(EVERING_IOC_LISTEN, &args);
}

/* A service of somebody else, held by this process. */
static int listen_as(uid_t uid, gid_t gid, unsigned int mode)
{
	int fd;

	MUST(!setegid(gid) && !seteuid(uid));
	fd = listen_with(NAME, 4, mode);
	MUST(!seteuid(0) && !setegid(0));
	return fd;
}

static int do_peer(int fd, struct evering_peer *args)
{
	memset(args, 0xcc, sizeof(*args));
	args->size = sizeof(*args);
	args->flags = 0;
	return call(fd, EVERING_IOC_PEER, args);
}

static int peer_state(int fd)
{
	struct evering_peer args;
	int ret = do_peer(fd, &args);

	return ret ? ret : args.state;
}

static struct evering_accept blocking_accept(uint64_t deadline)
{
	struct evering_accept args;

	memset(&args, 0xcc, sizeof(args));
	args.size = sizeof(args);
	args.flags = 0;
	args.deadline = deadline;
	args.__resv = 0;
	return args;
}

/* A child in a blocking ACCEPT; it says the token or -errno, and stays. */
static pid_t spawn_acceptor(int service, uint64_t deadline, int out)
{
	struct evering_accept args = blocking_accept(deadline);
	pid_t pid = spawn();
	int ret;

	if (pid)
		return pid;
	ret = call(service, EVERING_IOC_ACCEPT, &args);
	say(out, ret < 0 ? ret : args.token);
	for (;;)
		pause();
}

static void end(pid_t pid)
{
	kill(pid, SIGKILL);
	reap(pid);
}

/* ------------------------------------------------- what all arguments share */

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
	EVERING_IOC_LISTEN, CONTROL, sizeof(struct evering_listen), 0, true, false
};

FIXTURE_VARIANT_ADD(args, connect)
{
	EVERING_IOC_CONNECT, CONTROL, sizeof(struct evering_connect), 0, true, true
};

FIXTURE_VARIANT_ADD(args, accept)
{
	EVERING_IOC_ACCEPT, SERVICE, sizeof(struct evering_accept),
	EVERING_ACCEPT_NONBLOCK, true, true
};

FIXTURE_VARIANT_ADD(args, enter)
{
	EVERING_IOC_ENTER, ENDPOINT, sizeof(struct evering_enter),
	EVERING_ENTER_WAKE_PEER | EVERING_ENTER_WAIT | EVERING_ENTER_WAIT_SPACE,
	false, false
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
	head[1] = variant->flags & 1;	/* NONBLOCK, WAKE_PEER */
}

#define CALL(mem) call(self->fd[variant->object], variant->request, mem)

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
	EXPECT_EQ(self->lowest, lowest_fd());
	EXPECT_TRUE(settles(&self->before));
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

TEST_F(args, size_zero)
{
	fill(variant, self->mem);
	*(uint32_t *)self->mem = 0;
	refused(_metadata, self, variant, self->mem, PAGE, -EINVAL);
	fill(variant, self->mem);
	works(_metadata, self, variant, self->mem);
}

TEST_F(args, size_below_first_version)
{
	const uint32_t sizes[] = { 1, 4, 8, variant->size - 8,
				   variant->size - 1 };
	int i;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		fill(variant, self->mem);
		*(uint32_t *)self->mem = sizes[i];
		refused(_metadata, self, variant, self->mem, PAGE, -EINVAL);
	}
	fill(variant, self->mem);
	works(_metadata, self, variant, self->mem);
}

TEST_F(args, larger_size_with_zero_tail_works)
{
	const uint32_t sizes[] = { variant->size + 1, variant->size + 8, PAGE };
	int i, k;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		fill(variant, self->mem);
		*(uint32_t *)self->mem = sizes[i];
		/* Beyond the size anything may stand. */
		self->mem[sizes[i]] = 0x55;
		works(_metadata, self, variant, self->mem);
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
		fill(variant, self->mem);
		*(uint32_t *)self->mem = sizes[i];
		/* first and last byte of the tail */
		self->mem[variant->size] = 1;
		refused(_metadata, self, variant, self->mem, PAGE, -E2BIG);
		self->mem[variant->size] = 0;
		self->mem[sizes[i] - 1] = 0x80;
		refused(_metadata, self, variant, self->mem, PAGE, -E2BIG);
		self->mem[sizes[i] - 1] = 0;
	}
	works(_metadata, self, variant, self->mem);
}

TEST_F(args, size_beyond_a_page)
{
	const uint32_t sizes[] = { PAGE + 1, 2 * PAGE, INT_MAX, 1U << 31,
				   UINT_MAX };
	int i;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		fill(variant, self->mem);
		*(uint32_t *)self->mem = sizes[i];
		refused(_metadata, self, variant, self->mem, 2 * PAGE, -E2BIG);
	}
	*(uint32_t *)self->mem = PAGE;
	works(_metadata, self, variant, self->mem);
}

TEST_F(args, unknown_flags)
{
	int bit;

	for (bit = 0; bit < 32; bit++) {
		if (variant->flags & 1U << bit)
			continue;
		fill(variant, self->mem);
		((uint32_t *)self->mem)[1] |= 1U << bit;
		refused(_metadata, self, variant, self->mem, PAGE, -EINVAL);
	}
	fill(variant, self->mem);
	works(_metadata, self, variant, self->mem);
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
		EXPECT_EQ(self->lowest, lowest_fd());
		EXPECT_TRUE(settles(&self->before));
	}
	fill(variant, self->mem);
	works(_metadata, self, variant, self->mem);
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
		refused(_metadata, self, variant, end - sizes[i], sizes[i],
			-EFAULT);
	}
	/* A tail that is not there cannot be zero. */
	fill(variant, end - variant->size);
	*(uint32_t *)(end - variant->size) += 8;
	refused(_metadata, self, variant, end - variant->size, variant->size,
		-EFAULT);

	/* Up to the last byte of a page, and not beyond. */
	fill(variant, end - variant->size);
	works(_metadata, self, variant, end - variant->size);
}

TEST_F(args, read_only_page)
{
	struct evering_accept accepted;

	fill(variant, self->mem);
	ASSERT_EQ(0, mprotect(self->mem, PAGE, PROT_READ));
	if (!variant->gives_results) {
		works(_metadata, self, variant, self->mem);
		return;
	}
	refused(_metadata, self, variant, self->mem, PAGE, -EFAULT);
	/* More of them than there are places in the backlog. */
	for (int i = 0; i < 20; i++)
		EXPECT_EQ(-EFAULT, CALL(self->mem));
	EXPECT_TRUE(settles(&self->before));

	/* The half with the head can be written, the other cannot. */
	ASSERT_EQ(0, mprotect(self->mem, PAGE, PROT_READ | PROT_WRITE));
	fill(variant, self->mem + PAGE - 8);
	ASSERT_EQ(0, mprotect(self->mem + PAGE, PAGE, PROT_READ));
	EXPECT_EQ(-EFAULT, CALL(self->mem + PAGE - 8));
	EXPECT_EQ(self->lowest, lowest_fd());
	EXPECT_TRUE(settles(&self->before));

	/* Who waited still waits, in the same order. */
	EXPECT_EQ(EVERING_STATE_PENDING, peer_state(self->waiting[0]));
	fill(variant, self->mem);
	works(_metadata, self, variant, self->mem);
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
	EXPECT_EQ(self->lowest, lowest_fd());
	EXPECT_TRUE(settles(&self->before));
	works(_metadata, self, variant, self->mem);
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
	works(_metadata, self, variant, self->mem);
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
	EXPECT_EQ(self->lowest, lowest_fd());
	EXPECT_TRUE(settles(&self->before));
	/* The same memory and numbers, from a 64-bit caller */
	works(_metadata, self, variant, low);
#else
	SKIP(return, "only x86-64 has int $0x80");
#endif
}

TEST_F(args, blank_call_works)
{
	fill(variant, self->mem);
	works(_metadata, self, variant, self->mem);
	EXPECT_EQ(variant->size, *(uint32_t *)self->mem);
}

/* ------------------------------------------------------- the single ioctls */

TEST(query_values)
{
	struct evering_query args;

	memset(&args, 0xcc, sizeof(args));
	args.size = sizeof(args);
	args.flags = 0;
	ASSERT_EQ(0, device_call(EVERING_IOC_QUERY, &args));
	EXPECT_EQ(sizeof(args), args.size);
	EXPECT_EQ(0, args.flags);
	EXPECT_EQ(1, args.abi_version);
	EXPECT_EQ(65536, args.max_entries);
	EXPECT_EQ(4096, args.max_slot_size);
	EXPECT_EQ(4096, args.max_backlog);
	EXPECT_EQ(0, args.features);
	EXPECT_EQ(read_number(LIMIT), args.max_uring_bytes);
	EXPECT_LT(0, args.max_uring_bytes);
}

TEST(unknown_ioctl_numbers)
{
	char args[PAGE] = { 64 };
	struct channel c;
	int control = open(DEVICE, O_RDWR | O_CLOEXEC);
	unsigned int nr;

	ASSERT_LE(0, control);
	ASSERT_EQ(0, channel_open(&c, NAME));
	for (nr = 0; nr < 256; nr++) {
		unsigned int request = _IO(EVERING_IOC_MAGIC, nr);
		unsigned int foreign = _IO(EVERING_IOC_MAGIC ^ 1, nr);

		if (nr > 0x02)
			EXPECT_EQ(-ENOTTY, call(control, request, args));
		if (nr != 0x10)
			EXPECT_EQ(-ENOTTY, call(c.service, request, args));
		if (nr < 0x20 || nr > 0x22)
			EXPECT_EQ(-ENOTTY, call(c.fd[0], request, args));
		EXPECT_EQ(-ENOTTY, call(control, foreign, args));
		EXPECT_EQ(-ENOTTY, call(c.service, foreign, args));
		EXPECT_EQ(-ENOTTY, call(c.fd[1], foreign, args));
	}
}

TEST(accept_reserved_field)
{
	struct evering_accept args = blocking_accept(0);
	int service = do_listen(NAME);
	int client = do_connect(NAME, NULL);

	ASSERT_LE(0, service);
	ASSERT_LE(0, client);
	args.__resv = 1;
	EXPECT_EQ(-EINVAL, call(service, EVERING_IOC_ACCEPT, &args));
	args.__resv = 1U << 31;
	EXPECT_EQ(-EINVAL, call(service, EVERING_IOC_ACCEPT, &args));
	args.__resv = 0;
	EXPECT_LE(0, call(service, EVERING_IOC_ACCEPT, &args));
	EXPECT_EQ(0, args.__resv);
}

TEST(shutdown_values)
{
	struct evering_shutdown args = { .size = sizeof(args) };
	struct channel c;

	ASSERT_EQ(0, channel_open(&c, NAME));
	EXPECT_EQ(-EINVAL, call(c.fd[0], EVERING_IOC_SHUTDOWN, &args));
	args.how = EVERING_SHUT_WR | EVERING_SHUT_RD | 4;
	EXPECT_EQ(-EINVAL, call(c.fd[0], EVERING_IOC_SHUTDOWN, &args));
	args.how = 1U << 31;
	EXPECT_EQ(-EINVAL, call(c.fd[0], EVERING_IOC_SHUTDOWN, &args));
	args.how = EVERING_SHUT_WR;
	args.__resv = 1;
	EXPECT_EQ(-EINVAL, call(c.fd[0], EVERING_IOC_SHUTDOWN, &args));
	EXPECT_EQ(0, control_of(&c, 0)->closed);
	EXPECT_EQ(0, control_of(&c, 0)->rclosed);

	args.__resv = 0;
	EXPECT_EQ(0, call(c.fd[0], EVERING_IOC_SHUTDOWN, &args));
	EXPECT_EQ(1, control_of(&c, 0)->closed);
	EXPECT_EQ(0, control_of(&c, 0)->rclosed);
	args.how = EVERING_SHUT_RD;
	EXPECT_EQ(0, call(c.fd[1], EVERING_IOC_SHUTDOWN, &args));
	EXPECT_EQ(0, control_of(&c, 1)->closed);
	EXPECT_EQ(1, control_of(&c, 1)->rclosed);
}

TEST(enter_min_complete)
{
	struct channel c;

	ASSERT_EQ(0, channel_open(&c, NAME));
	/* Side A consumes the CQ with 16 entries, side B the SQ with 8. */
	EXPECT_EQ(-EINVAL, do_wait(c.fd[0], 0, 0, 0));
	EXPECT_EQ(-EINVAL, do_wait(c.fd[0], 0, 17, 0));
	EXPECT_EQ(-EINVAL, do_wait(c.fd[0], 0, UINT_MAX, 0));
	EXPECT_EQ(-ETIME, do_wait(c.fd[0], 0, 16, 0));
	EXPECT_EQ(-EINVAL, do_wait(c.fd[1], 0, 9, 0));
	EXPECT_EQ(-ETIME, do_wait(c.fd[1], 0, 8, 0));
	/* Not asked to wait for entries, so it does not matter. */
	EXPECT_EQ(0, do_wake(c.fd[0]));
}

TEST(read_only_device)
{
	struct evering_query query = { .size = sizeof(query) };
	struct evering_listen listen = listen_args(OTHER);
	struct evering_connect connect = dirty_connect(NAME);
	int service = do_listen(NAME);
	int fd = open(DEVICE, O_RDONLY | O_CLOEXEC);
	struct counters before = count();

	ASSERT_LE(0, service);
	ASSERT_LE(0, fd);
	EXPECT_EQ(0, call(fd, EVERING_IOC_QUERY, &query));
	EXPECT_EQ(EVERING_ABI_VERSION, query.abi_version);
	EXPECT_EQ(-EACCES, call(fd, EVERING_IOC_LISTEN, &listen));
	EXPECT_EQ(-EACCES, call(fd, EVERING_IOC_CONNECT, &connect));
	EXPECT_EQ(NOT_SENT, connect.token);
	EXPECT_TRUE(settles(&before));
	close(fd);

	fd = open(DEVICE, O_WRONLY | O_CLOEXEC);
	ASSERT_LE(0, fd);
	EXPECT_LE(0, call(fd, EVERING_IOC_LISTEN, &listen));
	EXPECT_LE(0, call(fd, EVERING_IOC_CONNECT, &connect));
}

TEST(device_mode)
{
	struct stat st;

	ASSERT_EQ(0, stat(DEVICE, &st));
	EXPECT_TRUE(S_ISCHR(st.st_mode));
	EXPECT_EQ(0666, st.st_mode & 07777);
}

TEST(listen_values)
{
	struct evering_listen args = listen_args(NAME);
	struct counters before = count();
	const uint32_t bad_modes[] = { 01000, 04222, 0100222, 1U << 31 };
	int fd, i;

	for (i = 0; i < ARRAY_SIZE(bad_modes); i++) {
		args.mode = bad_modes[i];
		EXPECT_EQ(-EINVAL, device_call(EVERING_IOC_LISTEN, &args));
	}
	args.mode = 0777;
	args.backlog = 0;
	EXPECT_EQ(-EINVAL, device_call(EVERING_IOC_LISTEN, &args));
	args.backlog = EVERING_MAX_BACKLOG + 1;
	EXPECT_EQ(-EINVAL, device_call(EVERING_IOC_LISTEN, &args));
	args.backlog = UINT_MAX;
	EXPECT_EQ(-EINVAL, device_call(EVERING_IOC_LISTEN, &args));
	EXPECT_TRUE(settles(&before));

	args.backlog = EVERING_MAX_BACKLOG;
	fd = device_call(EVERING_IOC_LISTEN, &args);
	EXPECT_LE(0, fd);
	close(fd);
	args.backlog = 1;
	args.mode = 0;
	EXPECT_LE(0, device_call(EVERING_IOC_LISTEN, &args));
}

/* ------------------------------------------------------------------ names */

/* The same answer from LISTEN and CONNECT. */
static void bad_name(struct __test_metadata *_metadata, const char *bytes,
		     int expected)
{
	struct evering_listen listen = listen_args("x");
	struct evering_connect connect = dirty_connect("x");

	memcpy(listen.name, bytes, sizeof(listen.name));
	memcpy(connect.name, bytes, sizeof(connect.name));
	EXPECT_EQ(expected, device_call(EVERING_IOC_LISTEN, &listen))
		TH_LOG("name begins with %02x %02x", bytes[0] & 255, bytes[1] & 255);
	EXPECT_EQ(expected, device_call(EVERING_IOC_CONNECT, &connect))
		TH_LOG("name begins with %02x %02x", bytes[0] & 255, bytes[1] & 255);
}

TEST(name_empty)
{
	char name[EVERING_NAME_MAX + 1] = "";

	bad_name(_metadata, name, -EINVAL);
	/* What stands behind the NUL is no name. */
	strcpy(name + 1, NAME);
	bad_name(_metadata, name, -EINVAL);
}

TEST(name_of_63_characters)
{
	char name[EVERING_NAME_MAX + 1] = "";
	struct evering_accept accepted;
	uint64_t token;
	int service;

	memset(name, 'n', EVERING_NAME_MAX);
	service = listen_with(name, 4, 0222);
	ASSERT_LE(0, service);
	ASSERT_LE(0, do_connect(name, &token));
	ASSERT_LE(0, do_accept(service, &accepted));
	EXPECT_EQ(token, accepted.token);
	/* All of them count. */
	name[EVERING_NAME_MAX - 1] = 'm';
	EXPECT_EQ(-ECONNREFUSED, do_connect(name, NULL));
	name[EVERING_NAME_MAX - 1] = 0;
	EXPECT_EQ(-ECONNREFUSED, do_connect(name, NULL));
	EXPECT_LE(0, listen_with(name, 4, 0222));
}

TEST(name_without_nul)
{
	char name[EVERING_NAME_MAX + 1];

	memset(name, 'n', sizeof(name));
	bad_name(_metadata, name, -ENAMETOOLONG);
}

TEST(name_of_unprintable_bytes)
{
	static const int at[] = { 0, 3, 62 };
	struct counters before = count();
	char name[EVERING_NAME_MAX + 1];
	int byte, i;

	for (byte = 1; byte < 256; byte++) {
		if (byte > ' ' && byte < 0x7f)
			continue;
		for (i = 0; i < ARRAY_SIZE(at); i++) {
			memset(name, 'n', sizeof(name));
			name[EVERING_NAME_MAX] = 0;
			name[at[i]] = byte;
			bad_name(_metadata, name, -EINVAL);
		}
	}
	EXPECT_TRUE(settles(&before));
}

TEST(name_of_all_printable_bytes)
{
	char name[EVERING_NAME_MAX + 1] = "";
	int byte, len = 0, fd;

	for (byte = '!'; byte <= '~'; byte++) {
		name[len++] = byte;
		if (len < EVERING_NAME_MAX && byte < '~')
			continue;
		name[len] = 0;
		fd = listen_with(name, 4, 0222);
		EXPECT_LE(0, fd) TH_LOG("'%s'", name);
		EXPECT_LE(0, do_connect(name, NULL));
		len = 0;
	}
}

TEST(name_taken)
{
	int service = do_listen(NAME), copy;
	struct counters before = count();

	ASSERT_LE(0, service);
	EXPECT_EQ(-EEXIST, do_listen(NAME));
	EXPECT_EQ(-EEXIST, do_listen(NAME));
	EXPECT_TRUE(settles(&before));

	/* Until the last descriptor is closed. */
	copy = dup(service);
	close(service);
	EXPECT_EQ(-EEXIST, do_listen(NAME));
	close(copy);
	EXPECT_EQ(-ECONNREFUSED, do_connect(NAME, NULL));
	EXPECT_LE(0, do_listen(NAME));
}

TEST(name_free_again_while_clients_live)
{
	struct evering_accept accepted;
	struct channel c;
	uint64_t token;
	int service;

	ASSERT_EQ(0, channel_open(&c, NAME));
	close(c.service);
	service = do_listen(NAME);
	ASSERT_LE(0, service);
	EXPECT_LE(0, do_connect(NAME, &token));
	EXPECT_LE(0, do_accept(service, &accepted));
	EXPECT_EQ(token, accepted.token);
	/* The old channel does not care. */
	EXPECT_EQ(EVERING_STATE_OPEN, peer_state(c.fd[0]));
	commit(&c, EVERING_RING_SQ, 0, EVERING_COMMITTED);
	EXPECT_EQ(EVERING_READY_ENTRIES, do_wait(c.fd[1], 0, 1, PATIENCE));
}

TEST(tokens_are_never_used_twice)
{
	uint64_t token, last = 0;
	int service = do_listen(NAME), fd, i;
	struct evering_accept accepted;

	ASSERT_LE(0, service);
	for (i = 0; i < 50; i++) {
		fd = do_connect(NAME, &token);
		ASSERT_LE(0, fd);
		EXPECT_LT(last, token);
		EXPECT_NE(NOT_SENT, token);
		last = token;
		close(fd);
		close(do_accept(service, &accepted));
		EXPECT_EQ(token, accepted.token);
	}
}

/* --------------------------------------------------------------- geometry */

static int connect_geometry(const struct evering_geometry *geometry,
			    struct evering_connect *args)
{
	*args = dirty_connect(NAME);
	args->geometry = *geometry;
	return device_call(EVERING_IOC_CONNECT, args);
}

static const struct evering_geometry small = {
	.entries = { 4, 4 },
	.slot_size = { 64, 64 },
	.heap_size = { 4096, 4096 },
};

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

		EXPECT_LE(sizeof(struct evering_control), l->slots_offset[i]);
		/* No slot of 64 bytes lies in two cache lines. */
		EXPECT_EQ(0, l->slots_offset[i] % 64);
		EXPECT_LE(l->slots_offset[i] + slots, section);
		EXPECT_LE(l->slots_offset[i] + slots, l->heap_offset[i]);
		EXPECT_LE(l->heap_offset[i] + g->heap_size[i], section);
		if (g->heap_size[i])
			EXPECT_EQ(0, l->heap_offset[i] % PAGE);
		/* At most two partial pages are wasted. */
		EXPECT_GT(sizeof(struct evering_control) + slots +
			  g->heap_size[i] + 2 * PAGE, section);
	}
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
		uint64_t bytes = 0;
		int fd[2];

		fd[0] = connect_geometry(&good[i], &args);
		ASSERT_LE(0, fd[0]) TH_LOG("geometry %d", i);
		check_layout(_metadata, &args.layout, &good[i]);
		for (s = 0; s < 3; s++)
			bytes += args.layout.section_size[s];
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
	uint64_t bytes = 0;
	int fd, s;

	fd = connect_geometry(&small, &args);
	ASSERT_LE(0, fd);
	for (s = 0; s < 3; s++)
		bytes += args.layout.section_size[s];
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
	fd = connect_geometry(&small, &args);
	EXPECT_LE(0, fd);
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
	int service, fd, i;

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

	fd = connect_geometry(&most, &args);
	EXPECT_LE(0, fd);
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

/* ----------------------------------------------------------- who may connect */

/* What CONNECT says to such a process: 0 or -errno. */
static int connect_as(uid_t uid, gid_t gid, gid_t extra)
{
	pid_t pid = spawn();
	int ret;

	if (!pid) {
		become(uid, gid, extra);
		ret = do_connect(NAME, NULL);
		_exit(ret < 0 ? -ret : 0);
	}
	return -reap(pid);
}

#define OWNER	1000, 1000, 1000
#define MEMBER	1001, 1000, 1001	/* of the owner's group */
#define EXTRA	1001, 1001, 1000	/* the same, by a supplementary group */
#define OTHERS	1001, 1001, 1001
#define ROOT	0, 0, 0

TEST(mode_of_owner)
{
	ASSERT_LE(0, listen_as(1000, 1000, 0200));
	EXPECT_EQ(0, connect_as(OWNER));
	EXPECT_EQ(0, connect_as(1000, 1001, 1001));
	EXPECT_EQ(-EACCES, connect_as(MEMBER));
	EXPECT_EQ(-EACCES, connect_as(EXTRA));
	EXPECT_EQ(-EACCES, connect_as(OTHERS));
	EXPECT_EQ(0, connect_as(ROOT));
}

TEST(mode_of_group)
{
	ASSERT_LE(0, listen_as(1000, 1000, 0020));
	/* As on a file: who owns it is asked the owner's bit alone. */
	EXPECT_EQ(-EACCES, connect_as(OWNER));
	EXPECT_EQ(0, connect_as(MEMBER));
	EXPECT_EQ(0, connect_as(EXTRA));
	EXPECT_EQ(-EACCES, connect_as(OTHERS));
	EXPECT_EQ(0, connect_as(ROOT));
}

TEST(mode_of_others)
{
	ASSERT_LE(0, listen_as(1000, 1000, 0002));
	EXPECT_EQ(-EACCES, connect_as(OWNER));
	EXPECT_EQ(-EACCES, connect_as(MEMBER));
	EXPECT_EQ(-EACCES, connect_as(EXTRA));
	EXPECT_EQ(0, connect_as(OTHERS));
	EXPECT_EQ(0, connect_as(ROOT));
}

TEST(mode_of_nobody)
{
	struct counters before;

	/* Bits to read and to execute mean nothing. */
	ASSERT_LE(0, listen_as(1000, 1000, 0555));
	before = count();
	EXPECT_EQ(-EACCES, connect_as(OWNER));
	EXPECT_EQ(-EACCES, connect_as(MEMBER));
	EXPECT_EQ(-EACCES, connect_as(EXTRA));
	EXPECT_EQ(-EACCES, connect_as(OTHERS));
	EXPECT_TRUE(settles(&before));
	EXPECT_EQ(0, connect_as(ROOT));
}

TEST(mode_of_everybody)
{
	int service = listen_as(1000, 1000, 0222);

	ASSERT_LE(0, service);
	EXPECT_EQ(0, connect_as(OWNER));
	EXPECT_EQ(0, connect_as(MEMBER));
	EXPECT_EQ(0, connect_as(OTHERS));
	EXPECT_EQ(0, connect_as(ROOT));
}

TEST(mode_of_service_of_root)
{
	ASSERT_LE(0, listen_as(0, 0, 0220));
	EXPECT_EQ(-EACCES, connect_as(OTHERS));
	EXPECT_EQ(0, connect_as(1000, 1000, 0));
	EXPECT_EQ(0, connect_as(ROOT));
}

/* It is the capability that overrides, not the number of the user. */
TEST(root_without_capability)
{
	struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2];
	int service = listen_as(1000, 1000, 0220);
	pid_t pid;
	int ret;

	ASSERT_LE(0, service);
	pid = spawn();
	if (!pid) {
		MUST(!setgroups(0, NULL));
		MUST(!syscall(SYS_capget, &head, data));
		data[0].effective &= ~(1U << CAP_DAC_OVERRIDE);
		MUST(!syscall(SYS_capset, &head, data));
		ret = do_connect(NAME, NULL);
		_exit(ret < 0 ? -ret : 0);
	}
	EXPECT_EQ(EACCES, reap(pid));
	EXPECT_EQ(0, connect_as(ROOT));
}

TEST(unprivileged_may_listen)
{
	pid_t pid = spawn();

	if (!pid) {
		struct evering_accept accepted;
		int service;

		become(OTHERS);
		service = listen_with(NAME, 1, 0200);
		MUST(service >= 0);
		MUST(do_connect(NAME, NULL) >= 0);
		MUST(do_accept(service, &accepted) >= 0);
		MUST(accepted.uid == 1001 && accepted.gid == 1001);
		_exit(0);
	}
	EXPECT_EQ(0, reap(pid));
}

/* ---------------------------------------------------- the backlog and ACCEPT */

TEST(nobody_listens)
{
	struct counters before = count();
	int service, fd;

	EXPECT_EQ(-ECONNREFUSED, do_connect(NAME, NULL));
	service = do_listen(NAME);
	ASSERT_LE(0, service);
	fd = do_connect(NAME, NULL);
	EXPECT_LE(0, fd);
	EXPECT_EQ(-ECONNREFUSED, do_connect(NAME "2", NULL));
	EXPECT_EQ(-ECONNREFUSED, do_connect("test.ap", NULL));
	close(fd);
	close(service);
	EXPECT_EQ(-ECONNREFUSED, do_connect(NAME, NULL));
	EXPECT_TRUE(settles(&before));
}

TEST(backlog_full)
{
	int service = listen_with(NAME, 2, 0222);
	struct evering_accept accepted;
	struct counters before;
	uint64_t token[3];

	ASSERT_LE(0, service);
	ASSERT_LE(0, do_connect(NAME, &token[0]));
	ASSERT_LE(0, do_connect(NAME, &token[1]));
	before = count();
	EXPECT_EQ(-EAGAIN, do_connect(NAME, NULL));
	EXPECT_EQ(-EAGAIN, do_connect(NAME, NULL));
	EXPECT_TRUE(settles(&before));

	/* First come, first served; and one place is free again, not two. */
	ASSERT_LE(0, do_accept(service, &accepted));
	EXPECT_EQ(token[0], accepted.token);
	ASSERT_LE(0, do_connect(NAME, &token[2]));
	EXPECT_EQ(-EAGAIN, do_connect(NAME, NULL));
	ASSERT_LE(0, do_accept(service, &accepted));
	EXPECT_EQ(token[1], accepted.token);
	ASSERT_LE(0, do_accept(service, &accepted));
	EXPECT_EQ(token[2], accepted.token);
	EXPECT_EQ(-EAGAIN, do_accept(service, &accepted));
}

TEST(accept_of_client_that_has_died)
{
	int service = listen_with(NAME, 1, 0222);
	struct evering_accept accepted;
	struct channel c = { 0 };
	pid_t pid;

	ASSERT_LE(0, service);
	pid = spawn();
	if (!pid) {
		struct evering_connect args = connect_args(NAME);

		c.fd[0] = device_call(EVERING_IOC_CONNECT, &args);
		MUST(c.fd[0] >= 0);
		c.layout = args.layout;
		MUST(!map_side(&c, 0));
		commit(&c, EVERING_RING_SQ, 0, EVERING_COMMITTED);
		_exit(0);
	}
	ASSERT_EQ(0, reap(pid));
	/* It keeps its place, since it will be accepted. */
	EXPECT_EQ(-EAGAIN, do_connect(NAME, NULL));

	c.fd[1] = do_accept(service, &accepted);
	ASSERT_LE(0, c.fd[1]);
	EXPECT_EQ(pid, accepted.pid);
	EXPECT_EQ(EVERING_STATE_DEAD, peer_state(c.fd[1]));
	c.layout = accepted.layout;
	ASSERT_EQ(0, map_side(&c, 1));
	EXPECT_EQ(EVERING_STATE_DEAD, header_of(&c, 1)->side[0].state);
	EXPECT_EQ(EVERING_STATE_OPEN, header_of(&c, 1)->side[1].state);
	/* What it has sent is there, and then comes the end. */
	EXPECT_EQ(EVERING_READY_ENTRIES, do_wait(c.fd[1], 0, 1, 0));
	EXPECT_EQ(-EPIPE, do_wait(c.fd[1], 1, 1, PATIENCE));
	EXPECT_EQ(POLLHUP, poll_now(c.fd[1]) & POLLHUP);
	EXPECT_LE(0, do_connect(NAME, NULL));
}

struct sleeper {
	pthread_t thread;
	pid_t tid;
	int fd;
	int ret;
};

static void *sleep_in_wait(void *arg)
{
	struct sleeper *s = arg;

	__atomic_store_n(&s->tid, syscall(SYS_gettid), __ATOMIC_RELEASE);
	s->ret = do_wait(s->fd, 0, 1, PATIENCE);
	return NULL;
}

/* A thread of this process that sleeps in WAIT for position 0. */
static bool start_sleeper(struct sleeper *s, int fd)
{
	*s = (struct sleeper){ .fd = fd };
	if (pthread_create(&s->thread, NULL, sleep_in_wait, s))
		return false;
	while (!__atomic_load_n(&s->tid, __ATOMIC_ACQUIRE))
		sleep_ms(1);
	return sleeps_in_ioctl(s->tid);
}

TEST(service_closed_with_clients_waiting)
{
	struct counters before = count();
	int service = do_listen(NAME);
	struct sleeper sleeper;
	uint64_t start;
	int fd[2], i;

	ASSERT_LE(0, service);
	for (i = 0; i < 2; i++) {
		fd[i] = do_connect(NAME, NULL);
		ASSERT_LE(0, fd[i]);
		EXPECT_EQ(EVERING_STATE_PENDING, peer_state(fd[i]));
		EXPECT_EQ(0, poll_now(fd[i]) & (POLLHUP | POLLIN));
	}
	ASSERT_TRUE(start_sleeper(&sleeper, fd[0]));
	start = now_ns();
	close(service);
	ASSERT_EQ(0, pthread_join(sleeper.thread, NULL));
	EXPECT_EQ(-EPIPE, sleeper.ret);
	EXPECT_GT(PATIENCE * MS / 2, now_ns() - start);

	for (i = 0; i < 2; i++) {
		EXPECT_EQ(EVERING_STATE_DEAD, peer_state(fd[i]));
		EXPECT_EQ(-EPIPE, do_wait(fd[i], 0, 1, PATIENCE));
		EXPECT_EQ(-EPIPE, do_wake(fd[i]));
		EXPECT_EQ(POLLHUP, poll_now(fd[i]) & POLLHUP);
		close(fd[i]);
	}
	EXPECT_TRUE(settles(&before));
}

TEST(accept_nonblocking)
{
	/* The deadline is for a kernel that blocks after all. */
	struct evering_accept args = blocking_accept(now_ns() + PATIENCE * MS);
	int service = do_listen(NAME);
	uint64_t token;

	ASSERT_LE(0, service);
	args.flags = EVERING_ACCEPT_NONBLOCK;
	EXPECT_EQ(-EAGAIN, call(service, EVERING_IOC_ACCEPT, &args));
	EXPECT_EQ(NOT_SENT, args.token);

	ASSERT_EQ(0, fcntl(service, F_SETFL, O_NONBLOCK));
	args.flags = 0;
	EXPECT_EQ(-EAGAIN, call(service, EVERING_IOC_ACCEPT, &args));
	ASSERT_LE(0, do_connect(NAME, &token));
	EXPECT_LE(0, call(service, EVERING_IOC_ACCEPT, &args));
	EXPECT_EQ(token, args.token);

	/* Without the flag it blocks again. */
	ASSERT_EQ(0, fcntl(service, F_SETFL, 0));
	args = blocking_accept(now_ns() + 20 * MS);
	EXPECT_EQ(-ETIME, call(service, EVERING_IOC_ACCEPT, &args));
}

TEST(accept_deadline)
{
	struct evering_accept args;
	int service = do_listen(NAME);
	uint64_t deadline, token;

	ASSERT_LE(0, service);
	deadline = now_ns() + 100 * MS;
	args = blocking_accept(deadline);
	EXPECT_EQ(-ETIME, call(service, EVERING_IOC_ACCEPT, &args));
	EXPECT_LE(deadline, now_ns());
	EXPECT_GT(deadline + PATIENCE * MS, now_ns());
	EXPECT_EQ(NOT_SENT, args.token);

	/* one that has passed, and the beginning of time */
	args = blocking_accept(now_ns() - MS);
	EXPECT_EQ(-ETIME, call(service, EVERING_IOC_ACCEPT, &args));
	args = blocking_accept(0);
	EXPECT_EQ(-ETIME, call(service, EVERING_IOC_ACCEPT, &args));

	/* Success beats it. */
	ASSERT_LE(0, do_connect(NAME, &token));
	args = blocking_accept(0);
	EXPECT_LE(0, call(service, EVERING_IOC_ACCEPT, &args));
	EXPECT_EQ(token, args.token);
}

/* A deadline beyond what the clock can count is far, not past. */
TEST(accept_deadline_beyond_the_clock)
{
	static const uint64_t far[] = {
		EVERING_NO_DEADLINE - 1, 1ULL << 63, INT64_MAX, INT64_MAX - 1,
	};
	int service = do_listen(NAME), out[2], i;
	uint64_t token;
	pid_t pid;

	ASSERT_LE(0, service);
	ASSERT_EQ(0, pipe(out));
	for (i = 0; i < ARRAY_SIZE(far); i++) {
		pid = spawn_acceptor(service, far[i], out[1]);
		EXPECT_TRUE(sleeps_in_ioctl(pid));
		EXPECT_TRUE(is_silent(out[0], 20));
		EXPECT_LE(0, do_connect(NAME, &token));
		EXPECT_EQ(token, hear(out[0]));
		end(pid);
	}
}

TEST(accept_woken_by_another_process)
{
	int service = do_listen(NAME), out[2];
	pid_t acceptor, client;

	ASSERT_LE(0, service);
	ASSERT_EQ(0, pipe(out));
	acceptor = spawn_acceptor(service, EVERING_NO_DEADLINE, out[1]);
	ASSERT_TRUE(sleeps_in_ioctl(acceptor));
	ASSERT_TRUE(is_silent(out[0], 50));
	client = spawn();
	if (!client) {
		uint64_t token, heard;
		int fd = do_connect(NAME, &token);

		MUST(fd >= 0);
		heard = hear(out[0]);
		MUST(heard == token);
		MUST(peer_state(fd) == EVERING_STATE_OPEN);
		_exit(0);
	}
	EXPECT_EQ(0, reap(client));
	end(acceptor);
}

static volatile sig_atomic_t *signals;

static void count_signal(int sig)
{
	(*signals)++;
}

/* A child in ACCEPT, with a handler that restarts calls or does not. */
static pid_t spawn_interruptible(int service, uint64_t deadline, int flags,
				 int out)
{
	struct evering_accept args = blocking_accept(deadline);
	struct sigaction action = {
		.sa_handler = count_signal,
		.sa_flags = flags,
	};
	pid_t pid = spawn();
	int ret;

	if (pid)
		return pid;
	MUST(!sigaction(SIGUSR1, &action, NULL));
	ret = call(service, EVERING_IOC_ACCEPT, &args);
	say(out, ret < 0 ? ret : args.token);
	for (;;)
		pause();
}

TEST(accept_interrupted)
{
	int service = do_listen(NAME), out[2];
	struct evering_accept accepted;
	uint64_t token;
	pid_t pid;

	signals = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, (void *)signals);
	ASSERT_LE(0, service);
	ASSERT_EQ(0, pipe(out));
	pid = spawn_interruptible(service, EVERING_NO_DEADLINE, 0, out[1]);
	ASSERT_TRUE(sleeps_in_ioctl(pid));
	kill(pid, SIGUSR1);
	EXPECT_EQ(-EINTR, (int64_t)hear(out[0]));
	EXPECT_EQ(1, *signals);

	/* It has gone from the queue: the next client is not lost on it. */
	ASSERT_LE(0, do_connect(NAME, &token));
	ASSERT_LE(0, do_accept(service, &accepted));
	EXPECT_EQ(token, accepted.token);
	end(pid);
}

TEST(accept_restarted)
{
	int service = do_listen(NAME), out[2], i;
	uint64_t token, deadline;
	pid_t pid;

	signals = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, (void *)signals);
	ASSERT_LE(0, service);
	ASSERT_EQ(0, pipe(out));
	pid = spawn_interruptible(service, EVERING_NO_DEADLINE, SA_RESTART, out[1]);
	for (i = 0; i < 3; i++) {
		ASSERT_TRUE(sleeps_in_ioctl(pid));
		kill(pid, SIGUSR1);
		EXPECT_TRUE(is_silent(out[0], 20));
	}
	EXPECT_LT(0, *signals);
	ASSERT_TRUE(sleeps_in_ioctl(pid));
	ASSERT_LE(0, do_connect(NAME, &token));
	EXPECT_EQ(token, hear(out[0]));
	end(pid);

	/* The deadline is a point in time and does not move. */
	*signals = 0;
	deadline = now_ns() + 1500 * MS;
	pid = spawn_interruptible(service, deadline, SA_RESTART, out[1]);
	ASSERT_TRUE(sleeps_in_ioctl(pid));
	kill(pid, SIGUSR1);
	EXPECT_EQ(-ETIME, (int64_t)hear(out[0]));
	EXPECT_EQ(1, *signals);
	EXPECT_LE(deadline, now_ns());
	end(pid);
}

TEST(blocked_acceptors_get_one_client_each)
{
	int service = do_listen(NAME), out[2], i, k;
	bool seen[3] = { false };
	uint64_t token[3], got;
	pid_t pid[3];

	ASSERT_LE(0, service);
	ASSERT_EQ(0, pipe(out));
	for (i = 0; i < 3; i++) {
		pid[i] = spawn_acceptor(service, EVERING_NO_DEADLINE, out[1]);
		ASSERT_TRUE(sleeps_in_ioctl(pid[i]));
	}
	ASSERT_LE(0, do_connect(NAME, &token[0]));
	EXPECT_EQ(token[0], hear(out[0]));
	EXPECT_TRUE(is_silent(out[0], 50));

	/* two at once */
	ASSERT_LE(0, do_connect(NAME, &token[1]));
	ASSERT_LE(0, do_connect(NAME, &token[2]));
	for (i = 1; i < 3; i++) {
		got = hear(out[0]);
		for (k = 1; k < 3; k++)
			seen[k] |= got == token[k];
	}
	EXPECT_TRUE(seen[1]);
	EXPECT_TRUE(seen[2]);
	for (i = 0; i < 3; i++)
		end(pid[i]);
}

/* The wake-up that one acceptor cannot use is another's. */
TEST(failed_acceptor_passes_client_on)
{
	int service = do_listen(NAME), out[2], fd;
	struct evering_accept *args;
	pid_t bad, good;
	uint64_t token;

	ASSERT_LE(0, service);
	ASSERT_EQ(0, pipe(out));
	args = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, args);
	*args = blocking_accept(EVERING_NO_DEADLINE);
	ASSERT_EQ(0, mprotect(args, PAGE, PROT_READ));
	bad = spawn();
	if (!bad)
		_exit(-call(service, EVERING_IOC_ACCEPT, args));
	/* First in the queue, so first to be woken */
	ASSERT_TRUE(sleeps_in_ioctl(bad));
	good = spawn_acceptor(service, EVERING_NO_DEADLINE, out[1]);
	ASSERT_TRUE(sleeps_in_ioctl(good));

	fd = do_connect(NAME, &token);
	ASSERT_LE(0, fd);
	EXPECT_EQ(EFAULT, reap(bad));
	EXPECT_EQ(token, hear(out[0]));
	EXPECT_EQ(EVERING_STATE_OPEN, peer_state(fd));
	end(good);
}

TEST(service_poll)
{
	struct pollfd p = { .events = POLLIN | POLLOUT };
	struct evering_accept accepted;
	int out[2];
	pid_t pid;

	p.fd = do_listen(NAME);
	ASSERT_LE(0, p.fd);
	ASSERT_EQ(0, pipe(out));
	EXPECT_EQ(0, poll(&p, 1, 0));
	pid = spawn();
	if (!pid) {
		say(out[1], 1);
		/* for ever: a poll that times out looks once more */
		MUST(poll(&p, 1, -1) == 1);
		say(out[1], p.revents);
		_exit(0);
	}
	EXPECT_EQ(1, hear(out[0]));
	EXPECT_TRUE(is_silent(out[0], 50));
	ASSERT_LE(0, do_connect(NAME, NULL));
	EXPECT_EQ(POLLIN, hear(out[0]));
	end(pid);
	EXPECT_EQ(1, poll(&p, 1, 0));
	EXPECT_EQ(POLLIN, p.revents);
	EXPECT_LE(0, do_accept(p.fd, &accepted));
	EXPECT_EQ(0, poll(&p, 1, 0));
}

/* An exclusive poller that does nothing must not keep a client waiting. */
TEST(exclusive_poller_takes_no_wakeup)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLEXCLUSIVE };
	int service = do_listen(NAME), out[2];
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	uint64_t token;
	pid_t pid;

	ASSERT_LE(0, service);
	ASSERT_LE(0, epoll);
	ASSERT_EQ(0, pipe(out));
	ASSERT_EQ(0, epoll_ctl(epoll, EPOLL_CTL_ADD, service, &event));
	pid = spawn_acceptor(service, EVERING_NO_DEADLINE, out[1]);
	ASSERT_TRUE(sleeps_in_ioctl(pid));
	ASSERT_LE(0, do_connect(NAME, &token));
	EXPECT_EQ(token, hear(out[0]));
	end(pid);
}

/* ------------------------------------------------------ network namespaces */

TEST(names_of_network_namespaces)
{
	int service = do_listen(NAME);
	int control = open(DEVICE, O_RDWR | O_CLOEXEC);
	struct evering_accept accepted;
	pid_t pid;

	ASSERT_LE(0, service);
	ASSERT_LE(0, control);
	pid = spawn();
	if (!pid) {
		struct evering_connect connect = dirty_connect(NAME);
		struct evering_listen listen = listen_args(NAME);
		int mine, client;

		MUST(!unshare(CLONE_NEWNET));
		/* Where the caller is counts, not where the device was opened. */
		MUST(call(control, EVERING_IOC_CONNECT, &connect) == -ECONNREFUSED);
		MUST(do_connect(NAME, NULL) == -ECONNREFUSED);
		mine = call(control, EVERING_IOC_LISTEN, &listen);
		MUST(mine >= 0);
		MUST(do_listen(NAME) == -EEXIST);
		client = do_connect(NAME, NULL);
		MUST(client >= 0);
		MUST(do_accept(service, &accepted) == -EAGAIN);
		MUST(do_accept(mine, &accepted) >= 0);
		_exit(0);
	}
	EXPECT_EQ(0, reap(pid));
	EXPECT_EQ(-EAGAIN, do_accept(service, &accepted));
	EXPECT_EQ(-EEXIST, do_listen(NAME));
	EXPECT_LE(0, do_connect(NAME, NULL));
	EXPECT_LE(0, do_accept(service, &accepted));
}

/* A service keeps its namespace when the last process has left it. */
TEST(service_outlives_network_namespace)
{
	int old = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	struct evering_accept accepted;
	int service, client;

	ASSERT_LE(0, old);
	ASSERT_EQ(0, unshare(CLONE_NEWNET));
	service = do_listen(NAME);
	client = do_connect(NAME, NULL);
	ASSERT_EQ(0, setns(old, CLONE_NEWNET));
	ASSERT_LE(0, service);
	ASSERT_LE(0, client);
	/* Namespaces are taken down by a kernel thread. */
	sleep_ms(100);
	EXPECT_EQ(-ECONNREFUSED, do_connect(NAME, NULL));
	EXPECT_LE(0, do_listen(NAME));
	EXPECT_LE(0, do_accept(service, &accepted));
	EXPECT_EQ(EVERING_STATE_OPEN, peer_state(client));
	close(service);
}

TEST(names_of_user_and_network_namespace)
{
	int service = do_listen(NAME);
	pid_t pid;

	ASSERT_LE(0, service);
	pid = spawn();
	if (!pid) {
		struct evering_accept accepted;
		int mine;

		become(OWNER);
		MUST(do_listen(NAME) == -EEXIST);
		become_root_of_namespace(1000, CLONE_NEWNET);
		MUST(do_connect(NAME, NULL) == -ECONNREFUSED);
		/* Closed to all but the root of this namespace: us. */
		mine = listen_with(NAME, 4, 0);
		MUST(mine >= 0);
		MUST(do_connect(NAME, NULL) >= 0);
		MUST(do_accept(mine, &accepted) >= 0);
		MUST(accepted.uid == 0 && accepted.gid == 0);
		_exit(0);
	}
	EXPECT_EQ(0, reap(pid));
}

TEST(root_of_user_namespace_overrides_nothing_outside)
{
	int service = listen_with(NAME, 4, 0);
	pid_t pid;

	ASSERT_LE(0, service);
	pid = spawn();
	if (!pid) {
		become(OWNER);
		MUST(do_connect(NAME, NULL) == -EACCES);
		become_root_of_namespace(1000, 0);
		MUST(do_connect(NAME, NULL) == -EACCES);
		_exit(0);
	}
	EXPECT_EQ(0, reap(pid));
}

/* A service of somebody that the namespace does not know, in its network. */
TEST(root_of_user_namespace_overrides_no_stranger)
{
	int go[2], out[2], net, service;
	char path[64];
	pid_t pid;

	ASSERT_EQ(0, pipe(go));
	ASSERT_EQ(0, pipe(out));
	pid = spawn();
	if (!pid) {
		become(OWNER);
		become_root_of_namespace(1000, CLONE_NEWNET);
		say(out[1], 1);
		MUST(hear(go[0]) == 1);
		MUST(do_connect(NAME, NULL) == -EACCES);
		_exit(0);
	}
	ASSERT_EQ(1, hear(out[0]));
	snprintf(path, sizeof(path), "/proc/%d/ns/net", pid);
	net = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, net);
	ASSERT_EQ(0, setns(net, CLONE_NEWNET));
	service = listen_with(NAME, 4, 0);
	ASSERT_LE(0, service);
	say(go[1], 1);
	EXPECT_EQ(0, reap(pid));
}

/* ------------------------------------------------------------- credentials */

TEST(accept_and_peer_name_the_processes)
{
	int go[2], from_client[2], from_server[2], service;
	struct evering_accept accepted;
	struct evering_peer peer;
	pid_t client, server;

	ASSERT_EQ(0, pipe(go));
	ASSERT_EQ(0, pipe(from_client));
	ASSERT_EQ(0, pipe(from_server));
	service = listen_as(1004, 1005, 0222);
	ASSERT_LE(0, service);

	client = spawn();
	if (!client) {
		int fd;

		become(1000, 1001, 1001);
		fd = do_connect(NAME, NULL);
		MUST(fd >= 0);
		MUST(!do_peer(fd, &peer));
		MUST(peer.size == sizeof(peer) && peer.flags == 0);
		MUST(peer.state == EVERING_STATE_PENDING);
		MUST(peer.uid == 1004 && peer.gid == 1005);
		MUST(peer.pid == getppid());
		say(from_client[1], 1);
		server = hear(go[0]);
		MUST(!do_peer(fd, &peer));
		MUST(peer.state == EVERING_STATE_OPEN);
		MUST(peer.uid == 1002 && peer.gid == 1003);
		MUST(peer.pid == server);
		say(from_client[1], 2);
		MUST(hear(go[0]) == 1);
		MUST(!do_peer(fd, &peer));
		MUST(peer.state == EVERING_STATE_DEAD);
		MUST(peer.uid == 1002 && peer.gid == 1003);
		_exit(0);
	}
	ASSERT_EQ(1, hear(from_client[0]));
	server = spawn();
	if (!server) {
		int fd;

		become(1002, 1003, 1003);
		fd = do_accept(service, &accepted);
		MUST(fd >= 0);
		MUST(accepted.uid == 1000 && accepted.gid == 1001);
		MUST(accepted.pid == client);
		MUST(!do_peer(fd, &peer));
		MUST(peer.state == EVERING_STATE_OPEN);
		MUST(peer.uid == 1000 && peer.gid == 1001);
		MUST(peer.pid == client);
		say(from_server[1], getpid());
		for (;;)
			pause();
	}
	ASSERT_EQ(server, hear(from_server[0]));
	say(go[1], server);
	EXPECT_EQ(2, hear(from_client[0]));
	end(server);
	say(go[1], 1);
	EXPECT_EQ(0, reap(client));
}

static void *connect_in_thread(void *arg)
{
	*(int *)arg = do_connect(NAME, NULL);
	return NULL;
}

/* Processes, not threads. */
TEST(pid_is_that_of_the_process)
{
	int service = do_listen(NAME), fd;
	struct evering_accept accepted;
	pthread_t thread;

	ASSERT_LE(0, service);
	ASSERT_EQ(0, pthread_create(&thread, NULL, connect_in_thread, &fd));
	ASSERT_EQ(0, pthread_join(thread, NULL));
	ASSERT_LE(0, fd);
	ASSERT_LE(0, do_accept(service, &accepted));
	EXPECT_EQ(getpid(), accepted.pid);
	EXPECT_EQ(getuid(), accepted.uid);
}

TEST(invisible_peer_has_pid_zero)
{
	int service = do_listen(NAME), out[2], go[2], client;
	struct evering_accept accepted;
	struct evering_peer peer;
	pid_t pid, inner;

	ASSERT_LE(0, service);
	ASSERT_EQ(0, pipe(out));
	ASSERT_EQ(0, pipe(go));
	client = do_connect(NAME, NULL);
	ASSERT_LE(0, client);
	pid = spawn();
	if (!pid) {
		MUST(!unshare(CLONE_NEWPID));
		inner = spawn();
		if (!inner) {
			int fd[2];

			MUST(getpid() == 1);
			/* The client outside, seen from inside */
			fd[1] = do_accept(service, &accepted);
			MUST(fd[1] >= 0);
			MUST(accepted.pid == 0 && accepted.uid == 0);
			MUST(!do_peer(fd[1], &peer));
			MUST(peer.pid == 0);
			/* the listener outside */
			fd[0] = do_connect(NAME, NULL);
			MUST(fd[0] >= 0);
			MUST(!do_peer(fd[0], &peer));
			MUST(peer.state == EVERING_STATE_PENDING);
			MUST(peer.pid == 0 && peer.uid == 0);
			/* and itself */
			MUST(do_connect(NAME, NULL) >= 0);
			say(out[1], 1);
			MUST(hear(go[0]) == 1);
			MUST(do_accept(service, &accepted) >= 0);
			MUST(accepted.pid == 1);
			_exit(0);
		}
		say(out[1], inner);
		_exit(reap(inner));
	}
	inner = hear(out[0]);
	if (inner == 1)
		inner = hear(out[0]);
	else
		EXPECT_EQ(1, hear(out[0]));
	EXPECT_LT(1, inner);
	/* The client inside and the acceptor inside, seen from outside */
	EXPECT_LE(0, do_accept(service, &accepted));
	EXPECT_EQ(inner, accepted.pid);
	EXPECT_EQ(0, do_peer(client, &peer));
	EXPECT_EQ(inner, peer.pid);
	say(go[1], 1);
	EXPECT_EQ(0, reap(pid));
}

TEST(unmapped_user_is_overflow_user)
{
	int service = do_listen(NAME), client, fd;
	struct evering_accept accepted;
	struct evering_peer peer;
	pid_t pid;

	ASSERT_LE(0, service);
	client = do_connect(NAME, NULL);
	ASSERT_LE(0, client);
	pid = spawn();
	if (!pid) {
		become(OWNER);
		become_root_of_namespace(1000, 0);
		MUST(do_accept(service, &accepted) >= 0);
		MUST(accepted.uid == OVERFLOW_ID);
		MUST(accepted.gid == OVERFLOW_ID);
		MUST(accepted.pid == getppid());
		fd = do_connect(NAME, NULL);
		MUST(fd >= 0);
		MUST(!do_peer(fd, &peer));
		MUST(peer.uid == OVERFLOW_ID && peer.gid == OVERFLOW_ID);
		/* One that is mapped is shown as such. */
		MUST(do_connect(NAME, NULL) >= 0);
		_exit(0);
	}
	EXPECT_EQ(0, reap(pid));
	ASSERT_LE(0, do_accept(service, &accepted));
	EXPECT_EQ(1000, accepted.uid);
	EXPECT_EQ(1000, accepted.gid);
	EXPECT_EQ(pid, accepted.pid);
}

/* -------------------------------------------------------- file descriptors */

TEST(descriptors_are_close_on_exec)
{
	struct channel c;

	ASSERT_EQ(0, channel_open(&c, NAME));
	EXPECT_TRUE(is_cloexec(c.service));
	EXPECT_TRUE(is_cloexec(c.fd[0]));
	EXPECT_TRUE(is_cloexec(c.fd[1]));
}

TEST(no_descriptor_left)
{
	int control = open(DEVICE, O_RDWR | O_CLOEXEC);
	struct evering_listen listen = listen_args(NAME);
	struct evering_connect connect = dirty_connect(NAME);
	struct evering_accept accept, accepted;
	struct rlimit old, none;
	struct counters before;
	int service, client;
	uint64_t token;

	ASSERT_LE(0, control);
	ASSERT_EQ(0, getrlimit(RLIMIT_NOFILE, &old));
	none = old;

	none.rlim_cur = lowest_fd();
	before = count();
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &none));
	EXPECT_EQ(-EMFILE, call(control, EVERING_IOC_LISTEN, &listen));
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &old));
	EXPECT_TRUE(settles(&before));
	/* The name is still free. */
	listen.backlog = 1;
	service = call(control, EVERING_IOC_LISTEN, &listen);
	ASSERT_LE(0, service);

	none.rlim_cur = lowest_fd();
	before = count();
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &none));
	EXPECT_EQ(-EMFILE, call(control, EVERING_IOC_CONNECT, &connect));
	EXPECT_EQ(-EMFILE, call(control, EVERING_IOC_CONNECT, &connect));
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &old));
	EXPECT_EQ(NOT_SENT, connect.token);
	EXPECT_TRUE(settles(&before));
	EXPECT_EQ(-EAGAIN, do_accept(service, &accepted));
	/* So is the one place in the backlog. */
	client = do_connect(NAME, &token);
	ASSERT_LE(0, client);

	none.rlim_cur = lowest_fd();
	before = count();
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &none));
	accept = blocking_accept(0);
	EXPECT_EQ(-EMFILE, call(service, EVERING_IOC_ACCEPT, &accept));
	EXPECT_EQ(-EMFILE, do_accept(service, &accepted));
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &old));
	EXPECT_TRUE(settles(&before));
	EXPECT_EQ(EVERING_STATE_PENDING, peer_state(client));
	EXPECT_LE(0, do_accept(service, &accepted));
	EXPECT_EQ(token, accepted.token);
	EXPECT_EQ(EVERING_STATE_OPEN, peer_state(client));
}

/* ------------------------------------------------------------------ fdinfo */

/* What stands behind "@key:" in the fdinfo of @fd. */
static const char *fdinfo(int fd, const char *key)
{
	static char value[256];
	char path[64], text[4096], *line, *next;
	size_t len = strlen(key);

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	read_text(path, text, sizeof(text));
	for (line = text; line; line = next) {
		next = strchr(line, '\n');
		if (next)
			*next++ = 0;
		if (strncmp(line, key, len) || line[len] != ':')
			continue;
		line += len + 1;
		while (isspace(*line))
			line++;
		snprintf(value, sizeof(value), "%s", line);
		return value;
	}
	return "(none)";
}

/* Does the line @key of fdinfo have the word @word? */
static bool fdinfo_has(int fd, const char *key, const char *word)
{
	char line[256], *w, *rest = line;

	snprintf(line, sizeof(line), "%s", fdinfo(fd, key));
	while ((w = strsep(&rest, " ")))
		if (!strcmp(w, word))
			return true;
	fprintf(stderr, "# no %s in '%s'\n", word, fdinfo(fd, key));
	return false;
}

TEST(fdinfo_of_service)
{
	int service = listen_with(NAME, 3, 0620);
	struct evering_accept accepted;

	ASSERT_LE(0, service);
	EXPECT_STREQ("service", fdinfo(service, "kind"));
	EXPECT_STREQ(NAME, fdinfo(service, "name"));
	EXPECT_STREQ("0620", fdinfo(service, "mode"));
	EXPECT_STREQ("3", fdinfo(service, "backlog"));
	EXPECT_STREQ("0", fdinfo(service, "waiting"));
	ASSERT_LE(0, do_connect(NAME, NULL));
	ASSERT_LE(0, do_connect(NAME, NULL));
	EXPECT_STREQ("2", fdinfo(service, "waiting"));
	ASSERT_LE(0, do_accept(service, &accepted));
	EXPECT_STREQ("1", fdinfo(service, "waiting"));
}

TEST(fdinfo_of_endpoint)
{
	struct channel c;
	struct sleeper sleeper;
	char token[32];
	int i;

	ASSERT_EQ(0, channel_open(&c, NAME));
	snprintf(token, sizeof(token), "%llu", (unsigned long long)c.token);
	for (i = 0; i < 2; i++) {
		EXPECT_STREQ("channel", fdinfo(c.fd[i], "kind"));
		EXPECT_STREQ(i ? "b" : "a", fdinfo(c.fd[i], "side"));
		EXPECT_STREQ(token, fdinfo(c.fd[i], "token"));
		EXPECT_STREQ(NAME, fdinfo(c.fd[i], "name"));
		EXPECT_STREQ("8 16", fdinfo(c.fd[i], "entries"));
		EXPECT_STREQ("64 64", fdinfo(c.fd[i], "slot-size"));
		EXPECT_STREQ("8192 4096", fdinfo(c.fd[i], "heap-size"));
		EXPECT_STREQ("0", fdinfo(c.fd[i], "dead"));
		EXPECT_TRUE(fdinfo_has(c.fd[i], "side-a", "state=open"));
		EXPECT_TRUE(fdinfo_has(c.fd[i], "side-b", "state=open"));
		EXPECT_TRUE(fdinfo_has(c.fd[i], "side-a", "tail=0"));
		EXPECT_TRUE(fdinfo_has(c.fd[i], "side-b", "sleepers=0"));
	}

	ASSERT_TRUE(start_sleeper(&sleeper, c.fd[1]));
	EXPECT_TRUE(fdinfo_has(c.fd[0], "side-b", "sleepers=1"));
	EXPECT_TRUE(fdinfo_has(c.fd[1], "side-b", "sleepers=1"));
	EXPECT_TRUE(fdinfo_has(c.fd[1], "side-a", "sleepers=0"));
	commit(&c, EVERING_RING_SQ, 0, EVERING_COMMITTED);
	EXPECT_EQ(0, do_wake(c.fd[0]));
	ASSERT_EQ(0, pthread_join(sleeper.thread, NULL));
	EXPECT_EQ(EVERING_READY_ENTRIES, sleeper.ret);
	EXPECT_TRUE(fdinfo_has(c.fd[0], "side-b", "sleepers=0"));
	EXPECT_TRUE(fdinfo_has(c.fd[1], "side-a", "tail=1"));
	EXPECT_TRUE(fdinfo_has(c.fd[1], "side-b", "head=0"));

	control_of(&c, 1)->head = 1;
	control_of(&c, 1)->closed = 1;
	EXPECT_TRUE(fdinfo_has(c.fd[0], "side-b", "head=1"));
	EXPECT_TRUE(fdinfo_has(c.fd[0], "side-b", "closed=1"));
	EXPECT_TRUE(fdinfo_has(c.fd[0], "side-a", "closed=0"));
}

TEST(fdinfo_tells_life_and_death)
{
	int service = do_listen(NAME);
	struct evering_accept accepted;
	struct channel c = { 0 };
	struct evering_connect args = connect_args(NAME);

	ASSERT_LE(0, service);
	c.fd[0] = device_call(EVERING_IOC_CONNECT, &args);
	ASSERT_LE(0, c.fd[0]);
	EXPECT_TRUE(fdinfo_has(c.fd[0], "side-a", "state=open"));
	EXPECT_TRUE(fdinfo_has(c.fd[0], "side-b", "state=pending"));
	c.fd[1] = do_accept(service, &accepted);
	ASSERT_LE(0, c.fd[1]);
	EXPECT_TRUE(fdinfo_has(c.fd[0], "side-b", "state=open"));

	c.layout = args.layout;
	ASSERT_EQ(0, map_side(&c, 1));
	ASSERT_EQ(0, munmap(c.map[1][EVERING_SECTION_B],
			    c.layout.section_size[EVERING_SECTION_B]));
	EXPECT_TRUE(fdinfo_has(c.fd[0], "side-b", "state=dead"));
	EXPECT_STREQ("0", fdinfo(c.fd[0], "dead"));
	EXPECT_STREQ("1", fdinfo(c.fd[1], "dead"));
	EXPECT_TRUE(fdinfo_has(c.fd[1], "side-a", "state=open"));
}

/* ------------------------------------------------------------------ memory */

#define CGROUPS	"/sys/fs/cgroup/"
#define GROUP	CGROUPS "evering.api/"

/* A memory cgroup, for one child after the other. */
FIXTURE(memory)
{
	bool missing;
};

FIXTURE_SETUP(memory)
{
	char text[256];

	if (!strstr(read_text(CGROUPS "cgroup.controllers", text, sizeof(text)),
		    "memory")) {
		self->missing = true;
		return;
	}
	ASSERT_TRUE(write_text(CGROUPS "cgroup.subtree_control", "+memory"));
	/* From a test that has failed, perhaps */
	rmdir(GROUP);
	ASSERT_EQ(0, mkdir(GROUP, 0755));
}

FIXTURE_TEARDOWN(memory)
{
	int i;

	if (self->missing)
		return;
	/* Who has just died is still leaving. */
	for (i = 0; i < 100 && rmdir(GROUP) && errno == EBUSY; i++)
		sleep_ms(20);
	write_text(CGROUPS "cgroup.subtree_control", "-memory");
}

/*
 * Each CPU charges up to 64 pages ahead, which would be 4 KiB of each of 64
 * channels.  A limit that is too low, for a moment, gives them back.
 */
static unsigned long long memory_now(void)
{
	write_text(GROUP "memory.high", "0");
	write_text(GROUP "memory.high", "max");
	sleep_ms(50);
	return read_number(GROUP "memory.current");
}

#define CHANNELS 64

/* Both ends, mapped and touched: all that it can ever cost. */
static void open_and_touch(int service)
{
	const struct evering_geometry geometry = {
		.entries = { 256, 256 },
		.slot_size = { 64, 64 },
	};
	struct evering_connect args;
	struct evering_accept accepted;
	struct channel c = { 0 };
	int side, section;
	uint64_t at;

	c.fd[0] = connect_geometry(&geometry, &args);
	MUST(c.fd[0] >= 0);
	c.fd[1] = do_accept(service, &accepted);
	MUST(c.fd[1] >= 0);
	c.layout = args.layout;
	for (side = 0; side < 2; side++) {
		MUST(!map_side(&c, side));
		for (section = 0; section < 3; section++)
			for (at = 0; at < c.layout.section_size[section]; at += PAGE)
				*(volatile char *)(c.map[side][section] + at);
		memset(control_of(&c, side), 1, c.layout.section_size[1 + side]);
	}
}

TEST_F(memory, channel_costs_at_most_64_kib)
{
	unsigned long long before, after, each;
	int go[2], out[2], i;
	pid_t pid;

	if (self->missing)
		SKIP(return, "no memory controller in " CGROUPS);
	ASSERT_EQ(0, pipe(go));
	ASSERT_EQ(0, pipe(out));
	pid = spawn();
	if (!pid) {
		int service;

		MUST(write_text(GROUP "cgroup.procs", "0"));
		service = do_listen(NAME);
		MUST(service >= 0);
		/* What every process pays once, whatever it opens */
		open_and_touch(service);
		say(out[1], 1);
		MUST(hear(go[0]) == 1);
		for (i = 0; i < CHANNELS; i++)
			open_and_touch(service);
		say(out[1], 2);
		for (;;)
			pause();
	}
	ASSERT_EQ(1, hear(out[0]));
	before = memory_now();
	say(go[1], 1);
	ASSERT_EQ(2, hear(out[0]));
	after = memory_now();
	end(pid);
	ASSERT_LT(before, after);
	each = (after - before) / CHANNELS;
	fprintf(stderr, "# show: a channel of 2 x 256 slots costs %llu bytes of memory\n",
		each);
	EXPECT_GE(64 << 10, each);
	/* Its 11 pages, so what is asked above has been charged. */
	EXPECT_LE(44 << 10, each);
	/* And the group gets it back. */
	EXPECT_GT(before + CHANNELS * PAGE, memory_now());
}

TEST_F(memory, connect_beyond_limit_is_enomem)
{
	struct counters before;
	char text[512], *kills;
	int go[2], out[2];
	pid_t pid;

	if (self->missing)
		SKIP(return, "no memory controller in " CGROUPS);
	ASSERT_EQ(0, pipe(go));
	ASSERT_EQ(0, pipe(out));
	ASSERT_TRUE(write_number(GROUP "memory.max", 4 << 20));
	pid = spawn();
	if (!pid) {
		struct evering_geometry large = small;
		struct evering_connect args;
		int service, side;

		MUST(write_text(GROUP "cgroup.procs", "0"));
		service = listen_with(NAME, 1, 0222);
		MUST(service >= 0);
		say(out[1], 1);
		MUST(hear(go[0]) == 1);
		for (side = 0; side < 2; side++) {
			large = small;
			large.heap_size[side] = 64 << 20;
			MUST(connect_geometry(&large, &args) == -ENOMEM);
			MUST(args.token == NOT_SENT);
		}
		say(out[1], 2);
		MUST(hear(go[0]) == 2);
		/* There is still room for what is small. */
		MUST(connect_geometry(&small, &args) >= 0);
		_exit(0);
	}
	ASSERT_EQ(1, hear(out[0]));
	before = count();
	say(go[1], 1);
	EXPECT_EQ(2, hear(out[0]));
	EXPECT_TRUE(settles(&before));
	EXPECT_GT(2 << 20, memory_now());
	say(go[1], 2);
	EXPECT_EQ(0, reap(pid));

	read_text(GROUP "memory.events", text, sizeof(text));
	kills = strstr(text, "oom_kill ");
	ASSERT_NE(NULL, kills);
	EXPECT_EQ(0, atoi(kills + strlen("oom_kill ")));
	/* It did come to the limit. */
	kills = strstr(text, "max ");
	ASSERT_NE(NULL, kills);
	EXPECT_LT(0, atoi(kills + strlen("max ")));
}

/* ------------------------------------------------------------- tracepoints */

#define TRACING	"/sys/kernel/tracing/"

FIXTURE(trace)
{
	bool missing;
};

FIXTURE_SETUP(trace)
{
	if (access(TRACING "trace", W_OK)) {
		self->missing = true;
		return;
	}
	ASSERT_TRUE(write_text(TRACING "trace", "\n"));
	ASSERT_TRUE(write_text(TRACING "events/evering/enable", "1"));
}

FIXTURE_TEARDOWN(trace)
{
	if (self->missing)
		return;
	write_text(TRACING "events/evering/enable", "0");
	write_text(TRACING "trace", "\n");
}

/* How often @event stands in @trace with a line that has @fields. */
static int count_events(const char *trace, const char *event, const char *fields)
{
	size_t len = strlen(fields);
	char start[64];
	int n = 0;

	snprintf(start, sizeof(start), " evering_%s: ", event);
	while ((trace = strstr(trace, start))) {
		trace += strlen(start);
		if (!strncmp(trace, fields, len) &&
		    (trace[len] == ' ' || trace[len] == '\n'))
			n++;
	}
	return n;
}

TEST_F(trace, one_life_of_a_channel)
{
	char *text, *first, fields[128];
	struct sleeper sleeper;
	struct channel c;
	uint64_t bytes = 0;
	int i;

	if (self->missing)
		SKIP(return, "no tracefs at " TRACING);
	ASSERT_EQ(0, channel_open(&c, NAME));
	ASSERT_TRUE(start_sleeper(&sleeper, c.fd[1]));
	commit(&c, EVERING_RING_SQ, 0, EVERING_COMMITTED);
	ASSERT_EQ(0, do_wake(c.fd[0]));
	ASSERT_EQ(0, pthread_join(sleeper.thread, NULL));
	ASSERT_EQ(EVERING_READY_ENTRIES, sleeper.ret);
	for (i = 0; i < 6; i++)
		munmap(c.map[i / 3][i % 3], c.layout.section_size[i % 3]);
	/* Side A first, as the order of the lines tells */
	close(c.fd[0]);
	close(c.fd[1]);
	for (i = 0; i < 3; i++)
		bytes += c.layout.section_size[i];

	text = malloc(1 << 20);
	read_text(TRACING "trace", text, 1 << 20);
#define EVENTS(event, format, ...) ({					\
	snprintf(fields, sizeof(fields), "token=%llu" format,		\
		 (unsigned long long)c.token, ##__VA_ARGS__);		\
	count_events(text, event, fields);				\
})
	EXPECT_EQ(1, EVENTS("create", " sq_entries=8 cq_entries=16 bytes=%llu",
			    (unsigned long long)bytes));
	EXPECT_EQ(1, EVENTS("connect", " uid=0 pid=%d", getpid()));
	EXPECT_EQ(1, EVENTS("accept", " uid=0 pid=%d", getpid()));
	EXPECT_EQ(1, EVENTS("wait", " side=1 flags=2 wait_pos=0 space_pos=0 min_complete=1"));
	EXPECT_EQ(1, EVENTS("wake", " side=1 woken=1 polled=0"));
	EXPECT_EQ(1, EVENTS("death", " side=0"));
	EXPECT_EQ(1, EVENTS("death", " side=1"));
	EXPECT_EQ(1, EVENTS("free", ""));
	EXPECT_EQ(2, EVENTS("death", ""));
	/* Side A has died first. */
	first = strstr(text, " evering_death: ");
	ASSERT_NE(NULL, first);
	*strchr(first, '\n') = 0;
	EXPECT_NE(NULL, strstr(first, " side=0")) TH_LOG("'%s'", first);
	free(text);
	close(c.service);
}

TEST_HARNESS_MAIN
