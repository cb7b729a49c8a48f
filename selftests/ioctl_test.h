/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the tests of the single ioctls share: small files, what a call leaves
 * behind, other tasks, and calls with their usual arguments.
 */
#ifndef IOCTL_TEST_H
#define IOCTL_TEST_H

#include <ctype.h>
#include <pthread.h>

#include "evering_test.h"

#define NAME		"test.ioctl"
#define COUNTERS	"/sys/class/misc/evering/"
#define LIMIT		"/sys/module/evering/parameters/max_uring_bytes"
#define PAGE		4096U
#define PATIENCE	10000	/* ms; for what must happen on a slow machine */
#define NOT_SENT	0xcccccccccccccccc

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
static inline char *read_text(const char *path, char *text, size_t size)
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

static inline unsigned long long read_number(const char *path)
{
	char text[64];

	return strtoull(read_text(path, text, sizeof(text)), NULL, 10);
}

static inline bool write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC | O_TRUNC);
	bool ok = fd >= 0 && write(fd, text, strlen(text)) == strlen(text);

	if (fd >= 0)
		close(fd);
	return ok;
}

static inline bool write_number(const char *path, unsigned long long number)
{
	char text[32];

	snprintf(text, sizeof(text), "%llu", number);
	return write_text(path, text);
}

/* ------------------------------------------------------- what is left over */

struct counters {
	unsigned long long urings, endpoints, services, bytes;
};

static inline struct counters count(void)
{
	return (struct counters){
		.urings = read_number(COUNTERS "urings"),
		.endpoints = read_number(COUNTERS "endpoints"),
		.services = read_number(COUNTERS "services"),
		.bytes = read_number(COUNTERS "bytes"),
	};
}

/* A release may be a moment late, a leak stays. */
static inline bool settles(const struct counters *expected)
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
static inline int lowest_fd(void)
{
	int fd = dup(STDERR_FILENO);

	close(fd);
	return fd;
}

/* ------------------------------------------------------------ other tasks */

/* A child that a failing test does not leave behind. */
static inline pid_t spawn(void)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (!pid)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	return pid;
}

static inline void end(pid_t pid)
{
	kill(pid, SIGKILL);
	reap(pid);
}

static inline void say(int fd, uint64_t word)
{
	MUST(write(fd, &word, sizeof(word)) == sizeof(word));
}

static inline bool is_silent(int fd, int ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, ms) == 0;
}

/* The next word from a pipe; NOT_SENT when none comes. */
static inline uint64_t hear(int fd)
{
	uint64_t word;

	if (is_silent(fd, PATIENCE) || read(fd, &word, sizeof(word)) != sizeof(word))
		return NOT_SENT;
	return word;
}

/* Has task @tid gone to sleep in an ioctl? */
static inline bool sleeps_in_ioctl(pid_t tid)
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

/* ------------------------------------------------------------------ calls */

/* gcc must not see that a name fills its field, and warn that no NUL is copied. */
#define QUIET		__attribute__((noinline, unused))

/* Pre-filled, so that an output nobody wrote shows. */
static inline struct evering_connect dirty_connect(const char *name)
{
	struct evering_connect args = connect_args(name);

	memset(&args.layout, 0xcc, sizeof(args.layout));
	args.token = NOT_SENT;
	return args;
}

static QUIET int do_connect(const char *name, uint64_t *token)
{
	struct evering_connect args = dirty_connect(name);
	int ret = device_call(EVERING_IOC_CONNECT, &args);

	if (token)
		*token = args.token;
	return ret;
}

/* A service with a backlog and a mode of its own. */
static QUIET int listen_with(const char *name, unsigned int backlog, unsigned int mode)
{
	struct evering_listen args = listen_args(name);

	args.backlog = backlog;
	args.mode = mode;
	return device_call(EVERING_IOC_LISTEN, &args);
}

static inline int do_peer(int fd, struct evering_peer *args)
{
	memset(args, 0xcc, sizeof(*args));
	args->size = sizeof(*args);
	args->flags = 0;
	return call(fd, EVERING_IOC_PEER, args);
}

static inline int peer_state(int fd)
{
	struct evering_peer args;
	int ret = do_peer(fd, &args);

	return ret ? ret : args.state;
}

static inline struct evering_accept blocking_accept(uint64_t deadline)
{
	struct evering_accept args;

	memset(&args, 0xcc, sizeof(args));
	args.size = sizeof(args);
	args.flags = 0;
	args.deadline = deadline;
	args.__resv = 0;
	return args;
}

static const struct evering_geometry small = {
	.entries = { 4, 4 },
	.slot_size = { 64, 64 },
	.heap_size = { 4096, 4096 },
};

static inline int connect_geometry(const struct evering_geometry *geometry,
				   struct evering_connect *args)
{
	*args = dirty_connect(NAME);
	args->geometry = *geometry;
	return device_call(EVERING_IOC_CONNECT, args);
}

/* What a channel counts for in "bytes". */
static inline uint64_t uring_bytes(const struct evering_layout *l)
{
	return l->section_size[0] + l->section_size[1] + l->section_size[2];
}

/* ----------------------------------------------------------- a thread in WAIT */

struct sleeper {
	pthread_t thread;
	pid_t tid;
	int fd;
	int ret;
};

static inline void *sleep_in_wait(void *arg)
{
	struct sleeper *s = arg;

	__atomic_store_n(&s->tid, syscall(SYS_gettid), __ATOMIC_RELEASE);
	s->ret = do_wait(s->fd, 0, 1, PATIENCE);
	return NULL;
}

/* A thread of this process that sleeps in WAIT for position 0. */
static inline bool start_sleeper(struct sleeper *s, int fd)
{
	*s = (struct sleeper){ .fd = fd };
	if (pthread_create(&s->thread, NULL, sleep_in_wait, s))
		return false;
	while (!__atomic_load_n(&s->tid, __ATOMIC_ACQUIRE))
		sleep_ms(1);
	return sleeps_in_ioctl(s->tid);
}

#endif /* IOCTL_TEST_H */
