/* SPDX-License-Identifier: GPL-2.0 */
/* What the tests of the module share; each is a kselftest program. */
#ifndef EVERING_TEST_H
#define EVERING_TEST_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/evering.h>

#include "kselftest_harness.h"

/* How long is too long is said in tests.vm: a debug kernel has more time. */
#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT 240

#define DEVICE		"/dev/evering"
#define MS		1000000ULL

/* The system calls behind poll(), epoll_wait() and select(): arm64 has one each. */
#ifdef SYS_poll
#define NR_POLL		SYS_poll
#define NR_EPOLL_WAIT	SYS_epoll_wait
#define NR_SELECT	SYS_select
#else
#define NR_POLL		SYS_ppoll
#define NR_EPOLL_WAIT	SYS_epoll_pwait
#define NR_SELECT	SYS_pselect6
#endif

/* A raw uring: no library in between. */
struct channel {
	int service;
	int fd[2];
	struct evering_layout layout;
	uint64_t token;
	void *map[2][3];	/* by side and section */
};

static inline uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

static inline void sleep_ms(unsigned int ms)
{
	struct timespec ts = { ms / 1000, (ms % 1000) * 1000000L };

	while (nanosleep(&ts, &ts) && errno == EINTR)
		;
}

/* The kernel's answer as the library would give it. */
static inline int call(int fd, unsigned long request, void *args)
{
	int ret = ioctl(fd, request, args);

	return ret < 0 ? -errno : ret;
}

static inline int device_call(unsigned long request, void *args)
{
	int fd = open(DEVICE, O_RDWR | O_CLOEXEC);
	int ret;

	if (fd < 0)
		return -errno;
	ret = call(fd, request, args);
	close(fd);
	return ret;
}

static inline struct evering_listen listen_args(const char *name)
{
	struct evering_listen args = {
		.size = sizeof(args),
		.mode = 0222,
		.backlog = 4,
	};

	strncpy(args.name, name, EVERING_NAME_MAX);
	return args;
}

static inline int do_listen(const char *name)
{
	struct evering_listen args = listen_args(name);

	return device_call(EVERING_IOC_LISTEN, &args);
}

static inline struct evering_connect connect_args(const char *name)
{
	struct evering_connect args = {
		.size = sizeof(args),
		.geometry = {
			.entries = { 8, 16 },
			.slot_size = { 64, 64 },
			.heap_size = { 8192, 4096 },
		},
	};

	strncpy(args.name, name, EVERING_NAME_MAX);
	return args;
}

static inline int do_accept(int service, struct evering_accept *args)
{
	memset(args, 0xcc, sizeof(*args));
	args->size = sizeof(*args);
	args->flags = EVERING_ACCEPT_NONBLOCK;
	args->deadline = EVERING_NO_DEADLINE;
	args->__resv = 0;
	return call(service, EVERING_IOC_ACCEPT, args);
}

static inline void *map_section(int fd, const struct evering_layout *layout,
				int section, int prot)
{
	return mmap(NULL, layout->section_size[section], prot, MAP_SHARED, fd,
		    EVERING_MMAP_OFFSET(section));
}

/* One side's three mappings; 0 or -errno. */
static inline int map_side(struct channel *c, int side)
{
	int section;

	for (section = 0; section < 3; section++) {
		int prot = PROT_READ;

		if (section == EVERING_SECTION_A + side)
			prot |= PROT_WRITE;
		c->map[side][section] = map_section(c->fd[side], &c->layout,
						    section, prot);
		if (c->map[side][section] == MAP_FAILED)
			return -errno;
	}
	return 0;
}

/* Both ends in this process, mapped; 0 or -errno. */
static inline int channel_open(struct channel *c, const char *name)
{
	struct evering_connect args = connect_args(name);
	struct evering_accept accepted;
	int ret;

	memset(c, 0, sizeof(*c));
	c->service = do_listen(name);
	if (c->service < 0)
		return c->service;
	c->fd[0] = device_call(EVERING_IOC_CONNECT, &args);
	if (c->fd[0] < 0)
		return c->fd[0];
	c->fd[1] = do_accept(c->service, &accepted);
	if (c->fd[1] < 0)
		return c->fd[1];
	c->layout = args.layout;
	c->token = args.token;
	ret = map_side(c, 0);
	return ret ? ret : map_side(c, 1);
}

static inline struct evering_header *header_of(struct channel *c, int side)
{
	return c->map[side][EVERING_SECTION_HEADER];
}

static inline struct evering_control *control_of(struct channel *c, int side)
{
	return c->map[side][EVERING_SECTION_A + side];
}

static inline uint64_t *stamp_of(struct channel *c, int ring, uint64_t pos)
{
	char *own = c->map[ring][EVERING_SECTION_A + ring];
	uint64_t slot = pos & (c->layout.geometry.entries[ring] - 1);

	return (uint64_t *)(own + c->layout.slots_offset[ring] +
			    slot * c->layout.geometry.slot_size[ring]);
}

/* Commits position @pos of @ring as its producer would. */
static inline void commit(struct channel *c, int ring, uint64_t pos,
			  unsigned int state)
{
	unsigned int shift = __builtin_ctz(c->layout.geometry.entries[ring]);

	__atomic_store_n(stamp_of(c, ring, pos),
			 evering_stamp(evering_lap(pos, shift), state),
			 __ATOMIC_RELEASE);
	__atomic_store_n(&control_of(c, ring)->tail, pos + 1, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static inline struct evering_enter wait_args(uint64_t pos, unsigned int nr,
					     unsigned int timeout_ms)
{
	return (struct evering_enter){
		.size = sizeof(struct evering_enter),
		.flags = EVERING_ENTER_WAIT,
		.wait_pos = pos,
		.deadline = now_ns() + timeout_ms * MS,
		.min_complete = nr,
	};
}

static inline int do_wait(int fd, uint64_t pos, unsigned int nr,
			  unsigned int timeout_ms)
{
	struct evering_enter args = wait_args(pos, nr, timeout_ms);

	return call(fd, EVERING_IOC_ENTER, &args);
}

static inline int do_wake(int fd)
{
	struct evering_enter args = {
		.size = sizeof(args),
		.flags = EVERING_ENTER_WAKE_PEER,
	};

	return call(fd, EVERING_IOC_ENTER, &args);
}

static inline short poll_now(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN | POLLOUT | POLLRDHUP };

	return poll(&p, 1, 0) < 0 ? -1 : p.revents;
}

/* Exit status of a child, or -signal. */
static inline int reap(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) != pid)
		return -1000;
	return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

/* ------------------------------------------------------- what maps and ends */

#define RW		(PROT_READ | PROT_WRITE)
#define OWN(side)	(EVERING_SECTION_A + (side))

/* The state of @side, in the header that @viewer has mapped. */
static inline unsigned int state_of(struct channel *c, int side, int viewer)
{
	return __atomic_load_n(&header_of(c, viewer)->side[side].state, __ATOMIC_ACQUIRE);
}

static inline int do_wait_space(int fd, uint64_t pos, unsigned int timeout_ms)
{
	struct evering_enter args = wait_args(0, 1, timeout_ms);

	args.flags = EVERING_ENTER_WAIT_SPACE;
	args.space_pos = pos;
	return call(fd, EVERING_IOC_ENTER, &args);
}

#endif /* EVERING_TEST_H */
