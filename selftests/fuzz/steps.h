/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What a program of the fuzzer is made of, and how a step is done: each is one system
 * call on the device, or a few stores to shared memory.
 *
 * Arguments are bytes.  What a step needs, it looks for, from the place that a byte
 * says on: a descriptor of the right kind, a mapping that can be written to.  So most
 * steps get past the first check, and some are meant not to.
 */
#ifndef FUZZ_STEPS_H
#define FUZZ_STEPS_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "coverage.h"
#include "places.h"

static __thread sigjmp_buf no_access;

/* ----------------------------------------------------------------------- calls */

/* As the documentation has them, for any of the ioctls. */
static bool known_errno(int err)
{
	static const int known[] = {
		EINVAL, E2BIG, ENOTTY, EFAULT, EEXIST, ENAMETOOLONG, EACCES, EDQUOT,
		ECONNREFUSED, EAGAIN, ERANGE, ENOMEM, ENOSPC, EOPNOTSUPP, ENOENT,
		ESTALE, EPROTOTYPE, EBUSY, EPIPE, ETIME, EINTR, EMFILE, ESHUTDOWN,
		ECONNRESET, EBADFD, EPERM, EBADF, ENFILE, EOVERFLOW,
	};
	unsigned int i;

	for (i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (known[i] == err)
			return true;
	return false;
}

/* The last byte says whether one of the arguments' is spoilt, or their size. */
static int fuzz_ioctl(const struct step *s, int fd, unsigned long request, void *args,
		      size_t size)
{
	const uint8_t *byte = s->byte;
	char *bytes = args;
	int ret;

	if (byte[5] >> 4 == 15)
		bytes[byte[4] % size] ^= (char)(byte[3] | 1);
	else if (byte[5] >> 4 == 14)
		*(uint32_t *)args = byte[4] * 4U;
	ret = ioctl(fd, request, args);
	if (ret < 0 && !known_errno(errno) && !common->bad_errno) {
		common->bad_op = s->op;
		common->bad_errno = (uint32_t)errno;
	}
	return ret;
}

static void do_open_device(const struct step *s)
{
	int flags = s->byte[1] % 8 ? O_RDWR : O_RDONLY;

	keep_fd(open(DEVICE, flags | O_CLOEXEC), CONTROL, s->byte[0], NULL, 0);
}

static void do_query(const struct step *s)
{
	struct evering_query args = { .size = sizeof(args) };

	fuzz_ioctl(s, find_fd(CONTROL, s->byte[0])->fd, EVERING_IOC_QUERY, &args,
		   sizeof(args));
}

static void do_listen(const struct step *s)
{
	static const uint32_t flags[] = { 0, EVERING_URING_MULTI_B,
		EVERING_URING_MULTI_B | EVERING_URING_LEASE, EVERING_URING_LEASE };
	struct evering_listen args = {
		.size = sizeof(args),
		.flags = PICK(flags, s->byte[2]),
		.mode = s->byte[2] & 0x80 ? 0 : 0222,
		/* Full is rare if there is room for more than one. */
		.backlog = s->byte[3] % 16 < 8 ? 1 : s->byte[3] % 5,
		.max_entries = s->byte[3] & 0x40 ? 64 : 0,
		.max_heap_size = s->byte[3] & 0x80 ? 4096 : 0,
	};

	fuzz_name(args.name, s->byte[1]);
	keep_fd(fuzz_ioctl(s, find_fd(CONTROL, s->byte[0])->fd, EVERING_IOC_LISTEN,
			   &args, sizeof(args)), SERVICE, s->byte[4], NULL, 0);
}

static void do_connect(const struct step *s)
{
	struct evering_connect args = {
		.size = sizeof(args),
		.flags = s->byte[2] & 1 ? EVERING_URING_MULTI_A : 0,
		.geometry = s->byte[2] & 0xc0 ? geometries[4] :
						PICK(geometries, s->byte[3]),
	};
	int fd;

	fuzz_name(args.name, s->byte[1]);
	fd = fuzz_ioctl(s, find_fd(CONTROL, s->byte[0])->fd, EVERING_IOC_CONNECT, &args,
			sizeof(args));
	keep_fd(fd, ENDPOINT, s->byte[4], &args.layout, args.token);
}

static void do_create(const struct step *s)
{
	uint32_t kind = s->byte[2] % 4;
	struct evering_create args = {
		.size = sizeof(args),
		.flags = s->byte[2] >> 4 & 7,
		.kind = kind,
		.mode = s->byte[3] & 0x20 ? 0600 : 0666,
		.side = s->byte[3] >> 7,
		.geometry = s->byte[3] & 0x40 ? PICK(geometries, s->byte[3] & 15) :
						geometries[kind],
	};
	int fd;

	/* Where it fits, mostly. */
	if (kind == EVERING_KIND_CHANNEL && args.flags)
		args.geometry = geometries[4 + (s->byte[3] & 1)];
	if (kind != EVERING_KIND_CHANNEL && s->byte[2] & 0xc)
		args.flags &= EVERING_URING_LEASE;
	if (kind > EVERING_KIND_QUEUE && s->byte[2] & 0xc)
		args.flags = 0;
	fuzz_name(args.name, s->byte[1]);
	fd = fuzz_ioctl(s, find_fd(CONTROL, s->byte[0])->fd, EVERING_IOC_CREATE, &args,
			sizeof(args));
	keep_fd(fd, ENDPOINT, s->byte[4], &args.layout, args.token);
}

static void do_open(const struct step *s)
{
	struct evering_open args = {
		.size = sizeof(args),
		.kind = s->byte[2] & 0x70 ? EVERING_KIND_ANY : s->byte[2] & 7,
		.side = s->byte[2] >> 7,
	};
	int fd;

	if (s->byte[1] & 1)
		args.token = find_fd(ENDPOINT, s->byte[3])->token + (s->byte[3] == 255);
	else
		fuzz_name(args.name, s->byte[1]);
	fd = fuzz_ioctl(s, find_fd(CONTROL, s->byte[0])->fd, EVERING_IOC_OPEN, &args,
			sizeof(args));
	keep_fd(fd, ENDPOINT, s->byte[4], &args.layout, args.token);
}

static void do_unlink(const struct step *s)
{
	struct evering_unlink args = { .size = sizeof(args) };

	if (s->byte[1] & 1)
		args.token = find_fd(ENDPOINT, s->byte[3])->token;
	else
		fuzz_name(args.name, s->byte[1]);
	fuzz_ioctl(s, find_fd(CONTROL, s->byte[0])->fd, EVERING_IOC_UNLINK, &args,
		   sizeof(args));
}

static void do_accept(const struct step *s)
{
	struct evering_accept args = {
		.size = sizeof(args),
		.flags = s->byte[1] & 1,
		.deadline = fuzz_deadline(s->byte[2]),
	};
	int fd = fuzz_ioctl(s, find_fd(SERVICE, s->byte[0])->fd, EVERING_IOC_ACCEPT,
			    &args, sizeof(args));

	keep_fd(fd, ENDPOINT, s->byte[4], &args.layout, args.token);
}

static void do_enter(const struct step *s)
{
	const uint8_t *byte = s->byte;
	struct evering_enter args = {
		.size = sizeof(args),
		.flags = byte[1] & (byte[1] & 0x80 ? 63 : 15),
		.wait_pos = fuzz_word(byte[2] & 0x7f, byte[3]),
		.space_pos = fuzz_word(byte[3] & 0x7f, byte[2]),
		.deadline = fuzz_deadline(byte[4]),
		.min_complete = byte[1] >> 4 & 7 ? 1U : byte[4] % 70,
		.generation = byte[2] & 0x80 ? 1U : 0U,
	};

	fuzz_ioctl(s, find_fd(ENDPOINT, byte[0])->fd, EVERING_IOC_ENTER, &args,
		   sizeof(args));
}

static void do_shutdown(const struct step *s)
{
	struct evering_shutdown args = {
		.size = sizeof(args),
		.how = s->byte[1] & (s->byte[1] & 0x80 ? 7 : 3),
	};

	fuzz_ioctl(s, find_fd(ENDPOINT, s->byte[0])->fd, EVERING_IOC_SHUTDOWN, &args,
		   sizeof(args));
}

static void do_peer(const struct step *s)
{
	struct evering_peer args = { .size = sizeof(args) };

	fuzz_ioctl(s, find_fd(ENDPOINT, s->byte[0])->fd, EVERING_IOC_PEER, &args,
		   sizeof(args));
}

static void do_dup(const struct step *s)
{
	struct place *p = find_fd(ENDPOINT, s->byte[0]);
	struct evering_dup args = { .size = sizeof(args) };

	keep_fd(fuzz_ioctl(s, p->fd, EVERING_IOC_DUP, &args, sizeof(args)), ENDPOINT,
		s->byte[4], &p->layout, p->token);
}

static void do_info(const struct step *s)
{
	struct evering_info args = { .size = sizeof(args) };

	fuzz_ioctl(s, find_fd(ENDPOINT, s->byte[0])->fd, EVERING_IOC_INFO, &args,
		   sizeof(args));
}

static void do_ioctl(const struct step *s)
{
	char args[256];

	memset(args, s->byte[3], sizeof(args));
	*(uint32_t *)(void *)args = s->byte[4];
	fuzz_ioctl(s, places[s->byte[0] % NR_FDS].fd,
		   _IO(s->byte[2] & 0xf0 ? EVERING_IOC_MAGIC : 0xEC, s->byte[1] & 0x3f),
		   args, sizeof(args));
}

/* --------------------------------------------------------------------- memory */

static void do_mmap(const struct step *s)
{
	static const int prots[] = { PROT_READ | PROT_WRITE, PROT_READ, PROT_NONE,
				     PROT_READ | PROT_EXEC };
	struct place *p = find_fd(s->byte[1] == 0xff ? CONTROL : ENDPOINT, s->byte[0]);
	unsigned int section = s->byte[1] % 3;
	size_t bytes = p->layout.section_size[section];
	struct mapping *m = &maps[s->byte[2] % NR_MAPS];
	int prot = PICK(prots, s->byte[3] >> 4);
	uint64_t offset = EVERING_MMAP_OFFSET(section);
	void *start;

	if (s->byte[1] == 0xff)
		bytes = PAGE * (s->byte[4] + 1UL), offset = 0;
	if (s->byte[4] >= 0xf8)
		bytes += PAGE;
	if (s->byte[4] == 0xf7)
		offset += PAGE;
	if (!bytes || bytes > 1UL << 24)
		bytes = PAGE;
	start = mmap(NULL, bytes, prot, s->byte[3] & 8 ? MAP_PRIVATE : MAP_SHARED, p->fd,
		     (off_t)offset);
	if (start == MAP_FAILED)
		return;
	if (m->start)
		munmap(m->start, m->bytes);
	m->bytes = bytes;
	m->writable = prot & PROT_WRITE;
	m->start = start;
}

static void do_munmap(const struct step *s)
{
	struct mapping m = *find_map(false, s->byte[0]);
	size_t skip = s->byte[1] & 0x80 ? PAGE * (s->byte[1] & 3) : 0;

	if (!m.start || skip >= m.bytes)
		return;
	munmap(m.start + skip, s->byte[2] & 0x80 ? PAGE : m.bytes - skip);
	if (!skip)
		find_map(false, s->byte[0])->start = NULL;
}

static void do_mremap(const struct step *s)
{
	struct mapping *m = find_map(false, s->byte[0]);
	void *start;

	if (!m->start)
		return;
	start = mremap(m->start, m->bytes, s->byte[1] & 1 ? m->bytes + PAGE :
		       s->byte[1] & 2 ? PAGE : m->bytes,
		       MREMAP_MAYMOVE | (s->byte[1] & 4 ? MREMAP_DONTUNMAP : 0));
	if (start != MAP_FAILED)
		m->start = start;
}

static void do_mprotect(const struct step *s)
{
	static const int prots[] = { PROT_READ, PROT_READ | PROT_WRITE, PROT_NONE,
				     PROT_READ | PROT_EXEC };
	struct mapping *m = find_map(false, s->byte[0]);

	if (m->start && !mprotect(m->start, s->byte[2] & 0x80 ? PAGE : m->bytes,
				  PICK(prots, s->byte[1])))
		m->writable = s->byte[1] % 4 == 1;
}

static void do_madvise(const struct step *s)
{
	static const int advice[] = { MADV_DONTNEED, MADV_DONTFORK, MADV_DOFORK,
		MADV_REMOVE, MADV_WILLNEED, MADV_COLD, MADV_WIPEONFORK, MADV_HUGEPAGE };
	struct mapping *m = find_map(false, s->byte[0]);

	if (m->start)
		madvise(m->start, m->bytes, PICK(advice, s->byte[1]));
}

/* Words of its own section: near their beginning, where the cursors are, or beyond. */
static void do_scribble(const struct step *s)
{
	struct mapping m = *find_map(true, s->byte[0]);
	volatile uint64_t *word;
	unsigned int i, nr = 1U << s->byte[5] % 8;
	uint64_t at = s->byte[1];

	if (!m.start || !m.writable)
		return;
	if (s->byte[4] & 0x80)
		at += (uint64_t)s->byte[4] << 5;
	for (i = 0; i < nr; i++) {
		word = (volatile uint64_t *)(void *)m.start +
		       (at + i * (1U + (s->byte[4] & 15))) % (m.bytes / 8);
		*word = fuzz_word(s->byte[2], (uint8_t)(s->byte[3] + i));
	}
}

static void do_touch(const struct step *s)
{
	struct mapping m = *find_map(false, s->byte[0]);
	size_t i;

	for (i = 0; m.start && i < m.bytes; i += PAGE)
		(void)*(volatile char *)(m.start + i);
}

/* ---------------------------------------------------------- files and processes */

static void do_close(const struct step *s)
{
	struct place *p = &places[s->byte[0] % NR_FDS];
	int fd = p->fd;

	p->fd = -1;
	if (fd >= 0)
		close(fd);
}

static void do_poll(const struct step *s)
{
	struct pollfd p[2] = {
		{ .fd = places[s->byte[0] % NR_FDS].fd, .events = s->byte[1] & 0x3f },
		{ .fd = places[s->byte[2] % NR_FDS].fd, .events = POLLIN | POLLOUT },
	};

	poll(p, s->byte[3] & 1 ? 2 : 1, s->byte[4] % 4);
}

static void do_epoll(const struct step *s)
{
	static const int ops[] = { EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLL_CTL_DEL };
	struct epoll_event event = {
		.events = EPOLLIN | EPOLLOUT |
			  (s->byte[1] & 1 ? (uint32_t)EPOLLET : 0) |
			  (s->byte[1] & 2 ? (uint32_t)EPOLLEXCLUSIVE : 0) |
			  (s->byte[1] & 4 ? (uint32_t)EPOLLONESHOT : 0),
	};

	if (s->byte[2] & 1)
		epoll_wait(epoll_fd, &event, 1, s->byte[3] % 4);
	else
		epoll_ctl(epoll_fd, PICK(ops, s->byte[3]),
			  places[s->byte[0] % NR_FDS].fd, &event);
}

static void do_send(const struct step *s)
{
	struct place *p = &places[s->byte[0] % NR_FDS];
	struct iovec iov = { .iov_base = p, .iov_len = sizeof(*p) };
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control = {
		.header = {
			.cmsg_len = CMSG_LEN(sizeof(int)),
			.cmsg_level = SOL_SOCKET,
			.cmsg_type = SCM_RIGHTS,
		},
	};
	struct msghdr message = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};

	memcpy(CMSG_DATA(&control.header), &p->fd, sizeof(int));
	sendmsg(post[0], &message, MSG_DONTWAIT);
}

static void do_receive(const struct step *s)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control;
	struct place p = { .fd = -1 };
	struct iovec iov = { .iov_base = &p, .iov_len = sizeof(p) };
	struct msghdr message = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	int fd;

	if (recvmsg(post[1], &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) != sizeof(p) ||
	    !CMSG_FIRSTHDR(&message))
		return;
	memcpy(&fd, CMSG_DATA(&control.header), sizeof(fd));
	keep_fd(fd, p.kind, s->byte[1], &p.layout, p.token);
}

static void do_dup2(const struct step *s)
{
	struct place *p = &places[s->byte[0] % NR_FDS];
	int fd = p->fd >= 0 ? dup(p->fd) : -1;

	keep_fd(fd, p->kind, s->byte[1], &p->layout, p->token);
}

/* The child goes on with what is left of this thread's steps, and so do we. */
static void do_fork(const struct step *s)
{
	(void)s;
	if (__atomic_fetch_add(&common->processes, 1, __ATOMIC_RELAXED) >= MOST_PROCESSES)
		return;
	if (!fork())
		coverage_start();
}

static void do_exit(const struct step *s)
{
	(void)s;
	_exit(0);
}

/* Alone: the other threads have theirs. */
static void do_setuid(const struct step *s)
{
	syscall(SYS_setresuid, -1, s->byte[0] & 1 ? 1000 : 0, -1);
}

static void do_unshare(const struct step *s)
{
	/* A new one takes long. */
	if (s->byte[0] < 32)
		unshare(CLONE_NEWNET);
}

static void do_fdinfo(const struct step *s)
{
	char path[64], text[1024];
	int fd;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d",
		 places[s->byte[0] % NR_FDS].fd);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	while (read(fd, text, sizeof(text)) > 0)
		;
	close(fd);
}

static void do_nonblock(const struct step *s)
{
	fcntl(places[s->byte[0] % NR_FDS].fd, F_SETFL, s->byte[1] & 1 ? O_NONBLOCK : 0);
}

static void do_nap(const struct step *s)
{
	struct timespec ts = { 0, s->byte[0] * 8000L };

	nanosleep(&ts, NULL);
}

/* ------------------------------------------------------------------------ table */

/* In the text of programs, and so the order stays; how often, in a new step. */
static const struct operation {
	const char *name;
	void (*call)(const struct step *s);
	unsigned int weight;
} operations[] = {
	{ "open_device", do_open_device, 4 },
	{ "query", do_query, 1 },
	{ "listen", do_listen, 4 },
	{ "connect", do_connect, 6 },
	{ "create", do_create, 8 },
	{ "open", do_open, 8 },
	{ "unlink", do_unlink, 3 },
	{ "accept", do_accept, 6 },
	{ "enter", do_enter, 16 },
	{ "shutdown", do_shutdown, 3 },
	{ "peer", do_peer, 1 },
	{ "dup", do_dup, 5 },
	{ "info", do_info, 1 },
	{ "ioctl", do_ioctl, 1 },
	{ "mmap", do_mmap, 16 },
	{ "munmap", do_munmap, 4 },
	{ "mremap", do_mremap, 1 },
	{ "mprotect", do_mprotect, 1 },
	{ "madvise", do_madvise, 2 },
	{ "scribble", do_scribble, 12 },
	{ "touch", do_touch, 2 },
	{ "close", do_close, 4 },
	{ "poll", do_poll, 4 },
	{ "epoll", do_epoll, 3 },
	{ "send", do_send, 2 },
	{ "receive", do_receive, 2 },
	{ "dup2", do_dup2, 2 },
	{ "fork", do_fork, 3 },
	{ "exit", do_exit, 1 },
	{ "setuid", do_setuid, 1 },
	{ "unshare", do_unshare, 1 },
	{ "fdinfo", do_fdinfo, 1 },
	{ "nonblock", do_nonblock, 1 },
	{ "nap", do_nap, 2 },
};

#define NR_OPERATIONS	(sizeof(operations) / sizeof(operations[0]))

/* Another thread has unmapped it, or it cannot be written to. */
static void on_no_access(int sig)
{
	(void)sig;
	siglongjmp(no_access, 1);
}

static void do_step(const struct step *s, struct coverage *c)
{
	coverage_begin_step();
	if (!sigsetjmp(no_access, 1))
		operations[s->op].call(s);
	coverage_end_step(c);
}

#endif /* FUZZ_STEPS_H */
