/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The other processes and the threads of a test: they talk, hand descriptors
 * on, sleep in a known system call, and must leave nothing behind in the module.
 */
#ifndef EVERING_PROCESSES_H
#define EVERING_PROCESSES_H

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <sys/epoll.h>

#include "evering_test.h"

#define PROMPT_NS	(1000 * MS)	/* on a slow, emulated machine */
#define LONG_MS		10000		/* in place of for ever */

/* ----------------------------------------------------------------- children */

/* Nothing that a test starts outlives it, if it fails or hangs. */
static inline void be_mortal(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	alarm(25);
}

static inline pid_t fork_mortal(void)
{
	pid_t pid = fork();

	if (!pid)
		be_mortal();
	return pid;
}

/* A child with a socket to its parent. */
static inline pid_t fork_talking(int *sock)
{
	struct timeval limit = { .tv_sec = 10 };
	int pair[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return -1;
	pid = fork_mortal();
	*sock = pair[!pid];
	close(pair[!!pid]);
	setsockopt(*sock, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	return pid;
}

/* Messages are ints, so that a pid is one. */
static inline void tell(int sock, int what)
{
	if (send(sock, &what, sizeof(what), MSG_NOSIGNAL) != sizeof(what))
		perror("# send");
}

static inline int hear(int sock)
{
	int what;

	return recv(sock, &what, sizeof(what), 0) == sizeof(what) ? what : -1;
}

static inline int send_fd(int sock, int fd)
{
	char byte = 0, control[CMSG_SPACE(sizeof(fd))] = { 0 };
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(cmsg), &fd, sizeof(fd));
	return sendmsg(sock, &msg, 0) == 1 ? 0 : -errno;
}

static inline int recv_fd(int sock)
{
	char byte, control[CMSG_SPACE(sizeof(int))];
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	int fd;

	if (recvmsg(sock, &msg, MSG_CMSG_CLOEXEC) != 1 || !CMSG_FIRSTHDR(&msg))
		return -1;
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(fd));
	return fd;
}

/* ----------------------------------------------------------------- sleepers */

/* Waits until a thread sleeps in system call @nr. */
static inline bool asleep_in(pid_t pid, pid_t tid, long nr)
{
	char path[64], text[32];
	int i, fd;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/syscall", pid, tid);
	for (i = 0; i < 5000; i++) {
		memset(text, 0, sizeof(text));
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd >= 0) {
			if (read(fd, text, sizeof(text) - 1) < 0)
				text[0] = '\0';
			close(fd);
			/* A task that runs is "running". */
			if (text[0] >= '0' && text[0] <= '9' && atol(text) == nr)
				return true;
		}
		sleep_ms(1);
	}
	printf("# pid %d tid %d is not in system call %ld: %s\n", pid, tid, nr, text);
	return false;
}

/* A thread that sleeps on an endpoint. */
struct sleeper {
	pthread_t thread;
	pid_t tid;
	int fd;
	struct evering_enter enter;
	int result;
	uint32_t events;
	uint64_t until;
};

static inline void *sleep_in_enter(void *arg)
{
	struct sleeper *s = arg;

	__atomic_store_n(&s->tid, gettid(), __ATOMIC_RELEASE);
	s->result = call(s->fd, EVERING_IOC_ENTER, &s->enter);
	s->until = now_ns();
	return NULL;
}

static inline void *sleep_in_poll(void *arg)
{
	struct sleeper *s = arg;
	struct pollfd p = { .fd = s->fd, .events = POLLIN | POLLRDHUP };

	__atomic_store_n(&s->tid, gettid(), __ATOMIC_RELEASE);
	s->result = poll(&p, 1, LONG_MS);
	s->until = now_ns();
	s->events = p.revents;
	return NULL;
}

static inline void *sleep_in_epoll(void *arg)
{
	struct sleeper *s = arg;
	/* HUP and ERR come unasked. */
	struct epoll_event event = { .events = EPOLLET };
	int epfd = epoll_create1(EPOLL_CLOEXEC);

	epoll_ctl(epfd, EPOLL_CTL_ADD, s->fd, &event);
	__atomic_store_n(&s->tid, gettid(), __ATOMIC_RELEASE);
	s->result = epoll_wait(epfd, &event, 1, LONG_MS);
	s->until = now_ns();
	s->events = event.events;
	close(epfd);
	return NULL;
}

/* Returns when it sleeps in system call @nr. */
static inline bool sleeper_start(struct sleeper *s, void *(*how)(void *), long nr)
{
	s->result = -1000;
	if (pthread_create(&s->thread, NULL, how, s))
		return false;
	while (!__atomic_load_n(&s->tid, __ATOMIC_ACQUIRE))
		sched_yield();
	return asleep_in(getpid(), s->tid, nr);
}

/* Nanoseconds from @since until it woke. */
static inline uint64_t sleeper_join(struct sleeper *s, uint64_t since)
{
	pthread_join(s->thread, NULL);
	return s->until - since;
}

/* ----------------------------------------------------------------- counters */

struct counters {
	long urings, endpoints, services, bytes;
};

static inline long counter(const char *name)
{
	char path[64], text[32] = "";
	int fd;

	snprintf(path, sizeof(path), "/sys/class/misc/evering/%s", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, text, sizeof(text) - 1) < 0)
		return -1;
	close(fd);
	return atol(text);
}

static inline struct counters counters_now(void)
{
	return (struct counters){
		.urings = counter("urings"),
		.endpoints = counter("endpoints"),
		.services = counter("services"),
		.bytes = counter("bytes"),
	};
}

/* Are they what they were?  Releases are deferred, but not for long. */
static inline bool counters_return(const struct counters *was)
{
	struct counters is;
	int i;

	for (i = 0; i < 200; i++) {
		is = counters_now();
		if (!memcmp(&is, was, sizeof(is)))
			return true;
		sleep_ms(10);
	}
	printf("# urings %ld endpoints %ld services %ld bytes %ld\n", is.urings, is.endpoints,
	       is.services, is.bytes);
	return false;
}

#endif /* EVERING_PROCESSES_H */
