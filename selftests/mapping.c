// SPDX-License-Identifier: GPL-2.0
/* Who may map what, and what the memory manager must not do to a section. */
#include <linux/userfaultfd.h>
#include <setjmp.h>
#include <sys/uio.h>

#include "evering_test.h"

#define PAGE		4096UL
#define RW		(PROT_READ | PROT_WRITE)

/* The sections, by who writes them. */
#define HEADER		EVERING_SECTION_HEADER
#define OWN(side)	(EVERING_SECTION_A + (side))
#define PEER(side)	(EVERING_SECTION_A + !(side))

/* ----------------------------------------------------------------- helpers */

/* 0, having unmapped it again, or -errno. */
static int try_map(int fd, size_t len, int prot, int flags, uint64_t offset)
{
	void *p = mmap(NULL, len, prot, flags, fd, offset);

	if (p == MAP_FAILED)
		return -errno;
	munmap(p, len);
	return 0;
}

static int try_section(int fd, const struct evering_layout *layout, int section,
		       int prot, int flags)
{
	return try_map(fd, layout->section_size[section], prot, flags,
		       EVERING_MMAP_OFFSET(section));
}

static int try_mprotect(void *p, size_t len, int prot)
{
	return mprotect(p, len, prot) ? -errno : 0;
}

static int try_munmap(void *p, size_t len)
{
	return munmap(p, len) ? -errno : 0;
}

static int try_madvise(void *p, size_t len, int advice)
{
	return madvise(p, len, advice) ? -errno : 0;
}

static sigjmp_buf fault_env;

static void fault_handler(int sig)
{
	siglongjmp(fault_env, sig);
}

static void catch_faults(void)
{
	struct sigaction action = { .sa_handler = fault_handler };

	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
}

/* The signal that a load or a store brings, or 0. */
static int try_load(void *p)
{
	int sig = sigsetjmp(fault_env, 1);

	if (!sig)
		(void)*(volatile char *)p;
	return sig;
}

static int try_store(void *p)
{
	int sig = sigsetjmp(fault_env, 1);

	if (!sig)
		*(volatile char *)p = 0x55;
	return sig;
}

static int send_fd(int sock, int fd)
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

static int recv_fd(int sock)
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

/* A child that cannot outlive a test that hangs or fails. */
static pid_t fork_mortal(void)
{
	pid_t pid = fork();

	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		alarm(20);
	}
	return pid;
}

/* A child with a socket of one byte messages to its parent. */
static pid_t fork_talking(int *sock)
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

static void tell(int sock, char what)
{
	if (send(sock, &what, 1, MSG_NOSIGNAL) != 1)
		perror("# send");
}

static int hear(int sock)
{
	char what;

	return recv(sock, &what, 1, 0) == 1 ? what : -1;
}

/* ----------------------------------------------------------------- fixture */

FIXTURE(sections)
{
	struct channel c;
	uint64_t pos;
};

/* Connected and accepted; nobody has mapped anything yet. */
static int channel_unmapped(struct channel *c, const char *name)
{
	struct evering_connect args = connect_args(name);
	struct evering_accept accepted;

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
	return 0;
}

FIXTURE_SETUP(sections)
{
	ASSERT_EQ(0, channel_unmapped(&self->c, _metadata->name));
	ASSERT_EQ(0, map_side(&self->c, 0));
	ASSERT_EQ(0, map_side(&self->c, 1));
	catch_faults();
}

/* The end of the process ends everything. */
FIXTURE_TEARDOWN(sections)
{
}

/* The heap of @side as @viewer sees it. */
static char *heap_of(struct channel *c, int side, int viewer)
{
	return (char *)c->map[viewer][OWN(side)] + c->layout.heap_offset[side];
}

static unsigned int state_of(struct channel *c, int side, int viewer)
{
	return __atomic_load_n(&header_of(c, viewer)->side[side].state,
			       __ATOMIC_ACQUIRE);
}

static int peer_state(int fd)
{
	struct evering_peer peer = { .size = sizeof(peer) };
	int ret = call(fd, EVERING_IOC_PEER, &peer);

	return ret ? ret : peer.state;
}

/*
 * Both endpoints live, and what they write arrives: through the mappings that
 * the test has, where they have been from the beginning.
 */
static void expect_alive(struct __test_metadata *_metadata,
			 struct channel *c, uint64_t pos)
{
	int side;

	for (side = 0; side < 2; side++) {
		EXPECT_EQ(EVERING_STATE_OPEN, state_of(c, side, 0));
		EXPECT_EQ(EVERING_STATE_OPEN, state_of(c, side, 1));
		EXPECT_EQ(EVERING_STATE_OPEN, peer_state(c->fd[side]));
		EXPECT_EQ(0, poll_now(c->fd[side]) & (POLLHUP | POLLERR));

		memset(heap_of(c, side, side), 0x11 + pos, 4096);
		EXPECT_EQ(0, memcmp(heap_of(c, side, side),
				    heap_of(c, side, !side), 4096));
		EXPECT_EQ(0x11 + pos, *heap_of(c, side, !side));

		EXPECT_EQ(-ETIME, do_wait(c->fd[!side], pos, 1, 0));
		commit(c, side, pos, EVERING_COMMITTED);
		EXPECT_EQ(EVERING_READY_ENTRIES,
			  do_wait(c->fd[!side], pos, 1, 0));
		EXPECT_EQ(0, do_wake(c->fd[side]));
	}
}

#define EXPECT_ALIVE()	expect_alive(_metadata, &self->c, self->pos++)

/* ------------------------------------------------------------------- roles */

TEST_F(sections, begin_as_zero)
{
	struct evering_layout *layout = &self->c.layout;
	int side;

	for (side = 0; side < 2; side++) {
		char *own = self->c.map[side][OWN(side)];
		uint64_t i, sum = 0;

		for (i = 0; i < layout->section_size[OWN(side)]; i++)
			sum += own[i] != 0;
		EXPECT_EQ(0, sum);
	}
	EXPECT_EQ(EVERING_HEADER_MAGIC, header_of(&self->c, 0)->magic);
	EXPECT_EQ(self->c.token, header_of(&self->c, 0)->token);
	EXPECT_EQ(0, memcmp(header_of(&self->c, 0), header_of(&self->c, 1),
			    sizeof(struct evering_header)));
	EXPECT_EQ(0, memcmp(&header_of(&self->c, 0)->layout, layout,
			    sizeof(*layout)));
	EXPECT_ALIVE();
}

TEST_F(sections, every_byte_arrives_at_the_other_side)
{
	int side;

	for (side = 0; side < 2; side++) {
		unsigned char *own = self->c.map[side][OWN(side)];
		unsigned char *seen = self->c.map[!side][OWN(side)];
		size_t i, size = self->c.layout.section_size[OWN(side)];

		ASSERT_NE(own, seen);
		for (i = 0; i < size; i++)
			own[i] = i / PAGE * 57 + i % 251 + side;
		EXPECT_EQ(0, memcmp(own, seen, size));
		for (i = 0; i < size; i += PAGE)
			EXPECT_EQ((i / PAGE * 57 + i % 251 + side) & 0xff, seen[i]);
		/* Read both ways, so that no side has a copy of its own. */
		memset(own, 0, size);
		EXPECT_EQ(0, seen[0] | seen[size - 1]);
	}
	EXPECT_ALIVE();
}

TEST_F(sections, others_cannot_be_mapped_to_write)
{
	struct channel *c = &self->c;
	int side;

	for (side = 0; side < 2; side++) {
		EXPECT_EQ(-EACCES, try_section(c->fd[side], &c->layout, HEADER,
					       RW, MAP_SHARED));
		EXPECT_EQ(-EACCES, try_section(c->fd[side], &c->layout, HEADER,
					       PROT_WRITE, MAP_SHARED));
		EXPECT_EQ(-EACCES, try_section(c->fd[side], &c->layout,
					       PEER(side), RW, MAP_SHARED));
		EXPECT_EQ(-EACCES, try_section(c->fd[side], &c->layout,
					       PEER(side), PROT_WRITE,
					       MAP_SHARED));
		/* Nothing is wrong with it but that. */
		EXPECT_EQ(0, try_section(c->fd[side], &c->layout, HEADER,
					 PROT_READ, MAP_SHARED));
		EXPECT_EQ(0, try_section(c->fd[side], &c->layout, PEER(side),
					 PROT_READ, MAP_SHARED));
	}
	EXPECT_ALIVE();
}

TEST_F(sections, others_cannot_be_made_writable)
{
	struct channel *c = &self->c;
	int side;

	for (side = 0; side < 2; side++) {
		void **map = c->map[side];
		size_t len = c->layout.section_size[PEER(side)];

		EXPECT_EQ(-EACCES, try_mprotect(map[HEADER], PAGE, RW));
		EXPECT_EQ(-EACCES, try_mprotect(map[HEADER], PAGE, PROT_WRITE));
		EXPECT_EQ(-EACCES, try_mprotect(map[PEER(side)], len, RW));
		EXPECT_EQ(-EACCES,
			  try_mprotect(map[PEER(side)], len, PROT_WRITE));
		/* A detour makes no difference. */
		EXPECT_EQ(0, try_mprotect(map[HEADER], PAGE, PROT_NONE));
		EXPECT_EQ(SIGSEGV, try_load(map[HEADER]));
		EXPECT_EQ(-EACCES, try_mprotect(map[HEADER], PAGE, RW));
		EXPECT_EQ(0, try_mprotect(map[HEADER], PAGE, PROT_READ));
	}
	EXPECT_ALIVE();
}

TEST_F(sections, a_store_to_others_faults)
{
	struct channel *c = &self->c;
	int side;

	for (side = 0; side < 2; side++) {
		*heap_of(c, !side, !side) = 1;
		EXPECT_EQ(SIGSEGV, try_store(c->map[side][HEADER]));
		EXPECT_EQ(SIGSEGV, try_store(heap_of(c, !side, side)));
		EXPECT_EQ(1, *heap_of(c, !side, side));
		EXPECT_EQ(0, try_store(heap_of(c, side, side)));
		EXPECT_EQ(0x55, *heap_of(c, side, !side));
	}
	EXPECT_EQ(EVERING_HEADER_MAGIC, header_of(c, 0)->magic);
	EXPECT_ALIVE();
}

/* A store that only a child with an endpoint of its own would do by mistake. */
TEST_F(sections, a_store_to_others_kills)
{
	int side;

	for (side = 0; side < 2; side++) {
		pid_t pid = fork_mortal();

		if (!pid) {
			struct channel mine;

			signal(SIGSEGV, SIG_DFL);
			if (channel_open(&mine, "test.store"))
				_exit(1);
			*(volatile char *)mine.map[side][PEER(side)] = 1;
			_exit(2);
		}
		EXPECT_EQ(-SIGSEGV, reap(pid));
	}
	EXPECT_ALIVE();
}

/* A debugger's write ignores PROT_WRITE wherever the kernel lets it. */
TEST_F(sections, proc_mem_does_not_write_others)
{
	struct channel *c = &self->c;
	int fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	uint64_t word = 0x123456789abcdef0, read = 0;
	int side;

	ASSERT_LE(0, fd);
	for (side = 0; side < 2; side++) {
		char *own = heap_of(c, side, side);
		char *other = heap_of(c, !side, side);

		memset(heap_of(c, !side, !side), 0, sizeof(word));
		EXPECT_EQ(-1, pwrite(fd, &word, sizeof(word),
				     (uintptr_t)c->map[side][HEADER]));
		EXPECT_EQ(-1, pwrite(fd, &word, sizeof(word),
				     (uintptr_t)other));
		EXPECT_EQ(0, *other);
		EXPECT_EQ(0, *heap_of(c, !side, !side));
		/* It does work where writing is allowed. */
		EXPECT_EQ(sizeof(word), pwrite(fd, &word, sizeof(word),
					       (uintptr_t)own));
		EXPECT_EQ(0, memcmp(heap_of(c, side, !side), &word,
				    sizeof(word)));
		EXPECT_EQ(sizeof(read), pread(fd, &read, sizeof(read),
					      (uintptr_t)own));
		EXPECT_EQ(word, read);
	}
	EXPECT_EQ(EVERING_HEADER_MAGIC, header_of(c, 0)->magic);
	EXPECT_EQ(EVERING_HEADER_MAGIC, header_of(c, 1)->magic);
	EXPECT_ALIVE();
}

TEST_F(sections, cannot_be_mapped_private)
{
	struct channel *c = &self->c;
	int side, section;

	for (side = 0; side < 2; side++) {
		for (section = 0; section < 3; section++) {
			EXPECT_EQ(-EINVAL, try_section(c->fd[side], &c->layout,
						       section, RW,
						       MAP_PRIVATE));
			EXPECT_EQ(-EINVAL, try_section(c->fd[side], &c->layout,
						       section, PROT_READ,
						       MAP_PRIVATE));
		}
	}
	EXPECT_ALIVE();
}

TEST_F(sections, cannot_be_executed)
{
	struct channel *c = &self->c;
	int side, section;

	for (side = 0; side < 2; side++) {
		for (section = 0; section < 3; section++) {
			size_t len = c->layout.section_size[section];
			int prot = PROT_READ | PROT_EXEC;

			if (section == OWN(side))
				prot |= PROT_WRITE;
			EXPECT_EQ(-EPERM, try_section(c->fd[side], &c->layout,
						      section, prot,
						      MAP_SHARED));
			EXPECT_EQ(-EACCES, try_mprotect(c->map[side][section],
							len, prot));
		}
	}
	EXPECT_ALIVE();
}

TEST_F(sections, descriptor_cannot_be_reopened)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", self->c.fd[0]);
	EXPECT_EQ(-1, open(path, O_RDONLY));
	EXPECT_EQ(-1, open(path, O_RDWR));
	EXPECT_ALIVE();
}

/* ------------------------------------------------------- lengths and offsets */

TEST_F(sections, are_mapped_whole)
{
	struct channel *c = &self->c;
	int side, section;

	for (side = 0; side < 2; side++) {
		for (section = 0; section < 3; section++) {
			size_t len = c->layout.section_size[section];
			uint64_t offset = EVERING_MMAP_OFFSET(section);
			int prot = section == OWN(side) ? RW : PROT_READ;

			EXPECT_EQ(-EINVAL, try_map(c->fd[side], 0, prot,
						   MAP_SHARED, offset));
			EXPECT_EQ(-EINVAL, try_map(c->fd[side], len + PAGE,
						   prot, MAP_SHARED, offset));
			EXPECT_EQ(-EINVAL, try_map(c->fd[side], len << 20, prot,
						   MAP_SHARED, offset));
			if (len == PAGE)
				continue;
			EXPECT_EQ(-EINVAL, try_map(c->fd[side], len - PAGE,
						   prot, MAP_SHARED, offset));
			EXPECT_EQ(-EINVAL, try_map(c->fd[side], PAGE, prot,
						   MAP_SHARED, offset));
		}
	}
	EXPECT_ALIVE();
}

TEST_F(sections, begin_at_their_offset)
{
	struct channel *c = &self->c;
	int side, section;

	for (side = 0; side < 2; side++) {
		for (section = 0; section < 3; section++) {
			size_t len = c->layout.section_size[section];
			uint64_t offset = EVERING_MMAP_OFFSET(section) + PAGE;
			int prot = section == OWN(side) ? RW : PROT_READ;

			EXPECT_EQ(-EINVAL, try_map(c->fd[side], len, prot,
						   MAP_SHARED, offset));
			/* Within the section, were there such mappings. */
			if (len > PAGE)
				EXPECT_EQ(-EINVAL,
					  try_map(c->fd[side], len - PAGE, prot,
						  MAP_SHARED, offset));
			offset = EVERING_MMAP_OFFSET(section + 1) - PAGE;
			EXPECT_EQ(-EINVAL, try_map(c->fd[side], len, prot,
						   MAP_SHARED, offset));
		}
	}
	EXPECT_ALIVE();
}

TEST_F(sections, are_three)
{
	static const uint64_t offsets[] = {
		EVERING_MMAP_OFFSET(3),
		EVERING_MMAP_OFFSET(4),
		EVERING_MMAP_OFFSET(1) << 2,
		1ULL << 52,
		1ULL << 62,
		1ULL << 63,
		(1ULL << 63) + EVERING_MMAP_OFFSET(1),
		0xfffULL << 52,
		-EVERING_MMAP_OFFSET(1),
		-PAGE,
		-2 * PAGE,
	};
	struct channel *c = &self->c;
	size_t i;
	int side, section;

	for (i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
		for (side = 0; side < 2; side++) {
			for (section = 0; section < 3; section++) {
				size_t len = c->layout.section_size[section];
				int ret = try_map(c->fd[side], len, PROT_READ,
						  MAP_SHARED, offsets[i]);

				if (ret == -EOVERFLOW)
					continue;	/* mm's own answer */
				EXPECT_EQ(-EINVAL, ret) {
					TH_LOG("offset %llx length %zx",
					       (unsigned long long)offsets[i],
					       len);
				}
			}
		}
	}
	EXPECT_ALIVE();
}

/* --------------------------------------------------------- the own section */

TEST(own_section_needs_prot_write)
{
	struct channel c;
	int side;

	ASSERT_EQ(0, channel_unmapped(&c, _metadata->name));
	for (side = 0; side < 2; side++) {
		EXPECT_EQ(-EINVAL, try_section(c.fd[side], &c.layout, OWN(side),
					       PROT_READ, MAP_SHARED));
		EXPECT_EQ(-EINVAL, try_section(c.fd[side], &c.layout, OWN(side),
					       PROT_NONE, MAP_SHARED));
	}
	/* That has used nothing up. */
	ASSERT_EQ(0, map_side(&c, 0));
	ASSERT_EQ(0, map_side(&c, 1));
	expect_alive(_metadata, &c, 0);
}

TEST_F(sections, own_is_mapped_once)
{
	struct channel *c = &self->c;
	int side;

	for (side = 0; side < 2; side++) {
		EXPECT_EQ(-EBUSY, try_section(c->fd[side], &c->layout,
					      OWN(side), RW, MAP_SHARED));
		EXPECT_EQ(-EBUSY, try_section(c->fd[side], &c->layout,
					      OWN(side), PROT_WRITE,
					      MAP_SHARED));
	}
	EXPECT_ALIVE();
}

/* Only the own section is the endpoint's life. */
TEST_F(sections, others_come_and_go)
{
	struct channel *c = &self->c;
	void *again;
	int i;

	for (i = 0; i < 3; i++) {
		again = map_section(c->fd[0], &c->layout, HEADER, PROT_READ);
		ASSERT_NE(MAP_FAILED, again);
		EXPECT_EQ(0, memcmp(again, c->map[0][HEADER], PAGE));
		EXPECT_EQ(0, try_munmap(c->map[0][HEADER], PAGE));
		c->map[0][HEADER] = again;
		EXPECT_ALIVE();
	}
	EXPECT_EQ(0, try_munmap(c->map[0][PEER(0)],
				c->layout.section_size[PEER(0)]));
	EXPECT_EQ(0, try_munmap(c->map[0][HEADER], PAGE));
	EXPECT_EQ(EVERING_STATE_OPEN, state_of(c, 0, 1));
	EXPECT_EQ(0, do_wake(c->fd[0]));
	for (i = 0; i < 3; i++)
		if (i != OWN(0))
			c->map[0][i] = map_section(c->fd[0], &c->layout, i,
						   PROT_READ);
	EXPECT_ALIVE();
}

TEST_F(sections, own_may_lose_its_rights_for_a_while)
{
	struct channel *c = &self->c;
	size_t len = c->layout.section_size[OWN(0)];
	void *own = c->map[0][OWN(0)];

	*heap_of(c, 0, 0) = 0x77;
	EXPECT_EQ(0, try_mprotect(own, len, PROT_READ));
	EXPECT_EQ(SIGSEGV, try_store(own));
	EXPECT_EQ(EVERING_STATE_OPEN, state_of(c, 0, 1));
	EXPECT_EQ(0, try_mprotect(own, len, PROT_NONE));
	EXPECT_EQ(SIGSEGV, try_load(own));
	EXPECT_EQ(EVERING_STATE_OPEN, state_of(c, 0, 1));
	EXPECT_EQ(0x77, *heap_of(c, 0, 1));
	EXPECT_EQ(0, try_mprotect(own, len, RW));
	EXPECT_EQ(0x77, *heap_of(c, 0, 0));
	EXPECT_ALIVE();
}

/* -------------------------------------------------------- a second process */

/* 0 if all of side A is refused with @error, else a number to search for. */
static int refused(struct channel *c, int fd, int error)
{
	struct evering_shutdown shutdown = {
		.size = sizeof(shutdown),
		.how = EVERING_SHUT_WR,
	};
	int section;

	for (section = 0; section < 3; section++)
		if (try_section(fd, &c->layout, section,
				section == OWN(0) ? RW : PROT_READ,
				MAP_SHARED) != error)
			return 10 + section;
	if (do_wait(fd, 0, 1, 0) != error)
		return 20;
	if (do_wake(fd) != error)
		return 21;
	if (call(fd, EVERING_IOC_SHUTDOWN, &shutdown) != error)
		return 22;
	return 0;
}

TEST_F(sections, are_not_a_childs)
{
	pid_t pid = fork_mortal();

	if (!pid)
		_exit(refused(&self->c, self->c.fd[0], -EPERM));
	EXPECT_EQ(0, reap(pid));
	EXPECT_EQ(0, control_of(&self->c, 0)->closed);
	EXPECT_ALIVE();
}

TEST_F(sections, are_not_anothers_that_is_given_the_descriptor)
{
	struct channel *c = &self->c;
	pid_t pid;
	int sock;

	pid = fork_talking(&sock);
	if (!pid) {
		/* What it has inherited is not what it is asked about. */
		close(c->fd[0]);
		close(c->fd[1]);
		_exit(refused(c, recv_fd(sock), -EPERM));
	}
	ASSERT_LT(0, pid);
	EXPECT_EQ(0, send_fd(sock, c->fd[0]));
	EXPECT_EQ(0, reap(pid));
	EXPECT_EQ(0, control_of(c, 0)->closed);
	EXPECT_ALIVE();
}

/* Whoever maps first owns it, not whoever connected. */
TEST(an_unmapped_descriptor_may_be_given_away)
{
	struct channel c;
	pid_t pid;
	int sock;

	pid = fork_talking(&sock);
	if (!pid) {
		c.fd[0] = recv_fd(sock);
		if (recv(sock, &c.layout, sizeof(c.layout), 0) !=
		    sizeof(c.layout))
			_exit(1);
		if (map_side(&c, 0))
			_exit(2);
		tell(sock, 'm');
		if (hear(sock) != 'c')
			_exit(3);
		*heap_of(&c, 0, 0) = 0x33;
		commit(&c, 0, 0, EVERING_COMMITTED);
		if (do_wake(c.fd[0]))
			_exit(4);
		if (do_wait(c.fd[0], 0, 1, 5000) != EVERING_READY_ENTRIES)
			_exit(5);
		_exit(0);
	}
	ASSERT_LT(0, pid);
	ASSERT_EQ(0, channel_unmapped(&c, _metadata->name));
	ASSERT_EQ(0, map_side(&c, 1));
	/* A try that is refused makes no owner. */
	EXPECT_EQ(-EACCES, try_section(c.fd[0], &c.layout, HEADER, RW,
				       MAP_SHARED));
	EXPECT_EQ(-EINVAL, try_section(c.fd[0], &c.layout, OWN(0), PROT_READ,
				       MAP_SHARED));
	EXPECT_EQ(-ETIME, do_wait(c.fd[0], 0, 1, 0));
	ASSERT_EQ(0, send_fd(sock, c.fd[0]));
	ASSERT_EQ(sizeof(c.layout), send(sock, &c.layout, sizeof(c.layout), 0));
	ASSERT_EQ('m', hear(sock));
	EXPECT_EQ(0, refused(&c, c.fd[0], -EPERM));

	EXPECT_EQ(EVERING_STATE_OPEN, state_of(&c, 0, 1));
	tell(sock, 'c');
	EXPECT_EQ(EVERING_READY_ENTRIES, do_wait(c.fd[1], 0, 1, 5000));
	EXPECT_EQ(0x33, *heap_of(&c, 0, 1));
	commit(&c, 1, 0, EVERING_COMMITTED);
	EXPECT_EQ(0, do_wake(c.fd[1]));
	EXPECT_EQ(0, reap(pid));
	/* Its owner's death is its death, though we still hold the file. */
	EXPECT_EQ(EVERING_STATE_DEAD, state_of(&c, 0, 1));
	EXPECT_EQ(-EPIPE, do_wait(c.fd[1], 1, 1, 5000));
	EXPECT_EQ(0, refused(&c, c.fd[0], -EBADFD));
}

/* Any of the sections makes the owner, and its last mapping is his life. */
TEST(a_child_that_maps_one_section_is_the_owner)
{
	struct channel c;
	pid_t pid;
	int section;

	for (section = 0; section < 3; section++) {
		int sock;

		ASSERT_EQ(0, channel_unmapped(&c, _metadata->name));
		ASSERT_EQ(0, map_side(&c, 1));
		pid = fork_talking(&sock);
		if (!pid) {
			if (map_section(c.fd[0], &c.layout, section,
					section == OWN(0) ? RW : PROT_READ) ==
			    MAP_FAILED)
				_exit(1);
			tell(sock, 'm');
			hear(sock);
			_exit(0);
		}
		ASSERT_LT(0, pid);
		ASSERT_EQ('m', hear(sock));
		EXPECT_EQ(0, refused(&c, c.fd[0], -EPERM));
		EXPECT_EQ(EVERING_STATE_OPEN, state_of(&c, 0, 1));
		tell(sock, 'x');
		EXPECT_EQ(0, reap(pid));
		EXPECT_EQ(EVERING_STATE_DEAD, state_of(&c, 0, 1));
		EXPECT_EQ(0, refused(&c, c.fd[0], -EBADFD));
		close(sock);
		close(c.fd[0]);
		close(c.fd[1]);
		close(c.service);
	}
}

/* ------------------------------------------------------------ in one piece */

TEST_F(sections, cannot_be_unmapped_in_part)
{
	struct channel *c = &self->c;
	int side, section;

	for (side = 0; side < 2; side++) {
		for (section = OWN(0); section <= OWN(1); section++) {
			char *p = c->map[side][section];
			size_t len = c->layout.section_size[section];

			ASSERT_LE(2 * PAGE, len);
			EXPECT_EQ(-EINVAL, try_munmap(p, PAGE));
			EXPECT_EQ(-EINVAL, try_munmap(p, len - PAGE));
			EXPECT_EQ(-EINVAL, try_munmap(p + PAGE, PAGE));
			EXPECT_EQ(-EINVAL, try_munmap(p + len - PAGE, PAGE));
		}
	}
	EXPECT_ALIVE();
}

/* A range that begins or ends in the middle of a section. */
TEST(unmapping_across_the_border_is_all_or_nothing)
{
	struct channel c;
	char *region, *own;
	size_t len;

	catch_faults();
	ASSERT_EQ(0, channel_unmapped(&c, _metadata->name));
	ASSERT_EQ(0, map_side(&c, 1));
	len = c.layout.section_size[OWN(0)];
	region = mmap(NULL, len + 2 * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS,
		      -1, 0);
	ASSERT_NE(MAP_FAILED, region);
	region[0] = 1;
	region[len + PAGE] = 2;
	own = mmap(region + PAGE, len, RW, MAP_SHARED | MAP_FIXED, c.fd[0],
		   EVERING_MMAP_OFFSET(OWN(0)));
	ASSERT_EQ(region + PAGE, own);
	c.map[0][OWN(0)] = own;
	c.map[0][HEADER] = map_section(c.fd[0], &c.layout, HEADER, PROT_READ);
	c.map[0][PEER(0)] = map_section(c.fd[0], &c.layout, PEER(0), PROT_READ);

	EXPECT_EQ(-EINVAL, try_munmap(region, 2 * PAGE));
	EXPECT_EQ(-EINVAL, try_munmap(own + PAGE, len));
	EXPECT_EQ(1, region[0]);
	EXPECT_EQ(2, region[len + PAGE]);
	expect_alive(_metadata, &c, 0);

	EXPECT_EQ(0, try_munmap(region, len + 2 * PAGE));
	EXPECT_EQ(SIGSEGV, try_load(own));
	EXPECT_EQ(EVERING_STATE_DEAD, state_of(&c, 0, 1));
}

TEST_F(sections, cannot_be_mapped_over_in_part)
{
	struct channel *c = &self->c;
	int section;

	for (section = OWN(0); section <= OWN(1); section++) {
		char *p = c->map[0][section];
		size_t len = c->layout.section_size[section];

		EXPECT_EQ(MAP_FAILED,
			  mmap(p, PAGE, RW,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
		EXPECT_EQ(MAP_FAILED,
			  mmap(p + len - PAGE, PAGE, RW,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	}
	EXPECT_ALIVE();
}

TEST_F(sections, keep_their_rights_in_one_piece)
{
	struct channel *c = &self->c;
	int section;

	for (section = OWN(0); section <= OWN(1); section++) {
		char *p = c->map[0][section];
		size_t len = c->layout.section_size[section];

		EXPECT_EQ(-EINVAL, try_mprotect(p, PAGE, PROT_NONE));
		EXPECT_EQ(-EINVAL, try_mprotect(p + len - PAGE, PAGE, PROT_NONE));
		EXPECT_EQ(-EINVAL, try_madvise(p, PAGE, MADV_DOFORK));
		EXPECT_EQ(-EINVAL, try_madvise(p + PAGE, PAGE, MADV_DOFORK));
	}
	EXPECT_ALIVE();
}

/* ------------------------------------------------------------------ mremap */

static int try_mremap(void *old, size_t old_len, size_t new_len, int flags,
		      void *new)
{
	return mremap(old, old_len, new_len, flags, new) == MAP_FAILED ?
		-errno : 0;
}

/* Room to move to; nothing there may be lost. */
static void *reserve(size_t len)
{
	return mmap(NULL, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

TEST_F(sections, do_not_shrink)
{
	struct channel *c = &self->c;
	int section;

	for (section = OWN(0); section <= OWN(1); section++) {
		void *p = c->map[0][section];
		size_t len = c->layout.section_size[section];

		EXPECT_GT(0, try_mremap(p, len, len - PAGE, 0, NULL));
		EXPECT_GT(0, try_mremap(p, len, PAGE, MREMAP_MAYMOVE, NULL));
		EXPECT_GT(0, try_mremap(p, len, PAGE,
					MREMAP_MAYMOVE | MREMAP_FIXED,
					reserve(len)));
		EXPECT_ALIVE();
	}
}

TEST_F(sections, do_not_grow)
{
	struct channel *c = &self->c;
	int section;

	for (section = 0; section < 3; section++) {
		void *p = c->map[0][section];
		size_t len = c->layout.section_size[section];

		EXPECT_GT(0, try_mremap(p, len, len + PAGE, 0, NULL));
		EXPECT_GT(0, try_mremap(p, len, len + PAGE, MREMAP_MAYMOVE,
					NULL));
		EXPECT_GT(0, try_mremap(p, len, 2 * len,
					MREMAP_MAYMOVE | MREMAP_FIXED,
					reserve(2 * len)));
		EXPECT_ALIVE();
	}
}

/* Where nothing is in the way of growing in place. */
TEST(sections_do_not_grow_into_free_memory)
{
	struct channel c;
	int section;

	catch_faults();
	ASSERT_EQ(0, channel_unmapped(&c, _metadata->name));
	ASSERT_EQ(0, map_side(&c, 1));
	for (section = 0; section < 3; section++) {
		size_t len = c.layout.section_size[section];
		char *p = reserve(2 * len);

		ASSERT_NE(MAP_FAILED, p);
		c.map[0][section] = mmap(p, len,
					 section == OWN(0) ? RW : PROT_READ,
					 MAP_SHARED | MAP_FIXED, c.fd[0],
					 EVERING_MMAP_OFFSET(section));
		ASSERT_EQ(p, c.map[0][section]);
		ASSERT_EQ(0, munmap(p + len, len));
		EXPECT_GT(0, try_mremap(p, len, len + PAGE, 0, NULL));
		EXPECT_GT(0, try_mremap(p, len, 2 * len, MREMAP_MAYMOVE, NULL));
		EXPECT_EQ(SIGSEGV, try_load(p + len));
	}
	expect_alive(_metadata, &c, 0);
}

TEST_F(sections, do_not_move)
{
	struct channel *c = &self->c;
	int section, i;

	for (section = 0; section < 3; section++) {
		void *p = c->map[0][section];
		size_t len = c->layout.section_size[section];
		void *to = reserve(len);

		/* More than once: each try makes and ends a copy. */
		for (i = 0; i < 3; i++) {
			EXPECT_GT(0, try_mremap(p, len, len,
						MREMAP_MAYMOVE | MREMAP_FIXED,
						to));
			EXPECT_NE(0, try_load(to));
			EXPECT_ALIVE();
		}
	}
	/* The first to go is still the last. */
	EXPECT_EQ(0, try_munmap(c->map[0][OWN(0)],
				c->layout.section_size[OWN(0)]));
	EXPECT_EQ(EVERING_STATE_DEAD, state_of(c, 0, 1));
}

TEST_F(sections, do_not_move_in_part)
{
	struct channel *c = &self->c;
	int section;

	for (section = OWN(0); section <= OWN(1); section++) {
		char *p = c->map[0][section];
		size_t len = c->layout.section_size[section];
		void *to = reserve(len);

		EXPECT_GT(0, try_mremap(p, PAGE, PAGE,
					MREMAP_MAYMOVE | MREMAP_FIXED, to));
		EXPECT_GT(0, try_mremap(p + len - PAGE, PAGE, PAGE,
					MREMAP_MAYMOVE | MREMAP_FIXED, to));
		EXPECT_ALIVE();
	}
}

TEST_F(sections, are_not_duplicated)
{
	struct channel *c = &self->c;
	int section;

	for (section = 0; section < 3; section++) {
		void *p = c->map[0][section];
		size_t len = c->layout.section_size[section];

		EXPECT_GT(0, try_mremap(p, 0, len, MREMAP_MAYMOVE, NULL));
		EXPECT_GT(0, try_mremap(p, 0, len,
					MREMAP_MAYMOVE | MREMAP_FIXED,
					reserve(len)));
		EXPECT_ALIVE();
	}
}

TEST_F(sections, are_not_moved_and_left_behind)
{
	struct channel *c = &self->c;
	int section;

	for (section = 0; section < 3; section++) {
		void *p = c->map[0][section];
		size_t len = c->layout.section_size[section];
		int flags = MREMAP_MAYMOVE | MREMAP_DONTUNMAP;

		EXPECT_GT(0, try_mremap(p, len, len, flags, NULL));
		EXPECT_GT(0, try_mremap(p, len, len, flags | MREMAP_FIXED,
					reserve(len)));
		EXPECT_ALIVE();
	}
}

TEST_F(sections, are_not_moved_over_in_part)
{
	struct channel *c = &self->c;
	char *own = c->map[0][OWN(0)];
	void *page = mmap(NULL, PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(MAP_FAILED, page);
	EXPECT_GT(0, try_mremap(page, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
				own));
	EXPECT_GT(0, try_mremap(page, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
				own + PAGE));
	EXPECT_ALIVE();
}

/* -------------------------------------------------------------------- fork */

TEST_F(sections, are_not_inherited)
{
	struct channel *c = &self->c;
	int side, section;
	pid_t pid;

	EXPECT_ALIVE();		/* so that all of them are in page tables */
	pid = fork_mortal();
	if (!pid) {
		for (side = 0; side < 2; side++)
			for (section = 0; section < 3; section++)
				if (try_load(c->map[side][section]) != SIGSEGV)
					_exit(10 + section);
		_exit(0);
	}
	EXPECT_EQ(0, reap(pid));
	EXPECT_ALIVE();
}

TEST_F(sections, survive_a_killed_child)
{
	pid_t pid = fork_mortal();

	if (!pid) {
		kill(getpid(), SIGKILL);
		_exit(1);
	}
	EXPECT_EQ(-SIGKILL, reap(pid));
	EXPECT_ALIVE();
}

static int inherit(struct channel *c, int side)
{
	int section, ret = 0;

	for (section = 0; section < 3; section++)
		ret |= madvise(c->map[side][section],
			       c->layout.section_size[section], MADV_DOFORK);
	return ret;
}

/* A child that got the mapping against our will finds nothing in it. */
TEST_F(sections, inherited_by_madvise_are_empty)
{
	struct channel *c = &self->c;
	int side, section;
	pid_t pid;

	ASSERT_EQ(0, inherit(c, 0));
	ASSERT_EQ(0, inherit(c, 1));
	EXPECT_ALIVE();
	pid = fork_mortal();
	if (!pid) {
		for (side = 0; side < 2; side++) {
			for (section = 0; section < 3; section++) {
				char *p = c->map[side][section];
				int sig = try_load(p);

				if (sig != SIGBUS && sig != SIGSEGV)
					_exit(10 + section);
				sig = try_store(p + PAGE *
						(section != HEADER));
				if (sig != SIGBUS && sig != SIGSEGV)
					_exit(20 + section);
			}
		}
		_exit(0);
	}
	EXPECT_EQ(0, reap(pid));
	EXPECT_ALIVE();
}

/* What the child does with its empty mappings is not our life. */
TEST_F(sections, inherited_by_madvise_do_not_count)
{
	struct channel *c = &self->c;
	pid_t pid;

	ASSERT_EQ(0, inherit(c, 0));
	pid = fork_mortal();
	if (!pid) {
		char *own = c->map[0][OWN(0)];
		size_t len = c->layout.section_size[OWN(0)];
		pid_t grandchild;

		if (try_mremap(own, len, len, MREMAP_MAYMOVE | MREMAP_FIXED,
			       reserve(len)) >= 0)
			_exit(1);
		if (!try_munmap(own, PAGE))
			_exit(2);
		grandchild = fork_mortal();
		if (!grandchild)
			_exit(0);
		if (reap(grandchild))
			_exit(3);
		if (try_munmap(own, len))
			_exit(4);
		if (refused(c, c->fd[0], -EPERM))
			_exit(5);
		_exit(0);
	}
	EXPECT_EQ(0, reap(pid));
	EXPECT_ALIVE();
}

TEST(a_child_by_madvise_does_not_keep_its_parent_alive)
{
	int service, fd, sock, status;
	struct evering_accept accepted;
	struct channel c = { 0 };
	uint64_t killed;
	pid_t pid, grandchild;

	/* So that the grandchild can be waited for here. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	service = do_listen(_metadata->name);
	ASSERT_LE(0, service);
	pid = fork_talking(&sock);
	if (!pid) {
		struct evering_connect args = connect_args(_metadata->name);

		c.fd[0] = device_call(EVERING_IOC_CONNECT, &args);
		c.layout = args.layout;
		if (c.fd[0] < 0 || map_side(&c, 0) || inherit(&c, 0))
			_exit(1);
		grandchild = fork();
		if (!grandchild) {
			alarm(20);
			for (;;)
				pause();
		}
		send(sock, &grandchild, sizeof(grandchild), 0);
		for (;;)
			pause();
	}
	ASSERT_LT(0, pid);
	ASSERT_EQ(sizeof(grandchild),
		  recv(sock, &grandchild, sizeof(grandchild), 0));
	fd = do_accept(service, &accepted);
	ASSERT_LE(0, fd);
	c.fd[1] = fd;
	c.layout = accepted.layout;
	ASSERT_EQ(0, map_side(&c, 1));
	EXPECT_EQ(-ETIME, do_wait(fd, 0, 1, 50));

	killed = now_ns();
	kill(pid, SIGKILL);
	EXPECT_EQ(-EPIPE, do_wait(fd, 0, 1, 10000));
	killed = now_ns() - killed;
	TH_LOG("the peer knew after %llu us", (unsigned long long)killed / 1000);
	EXPECT_GT(1000 * MS, killed);
	EXPECT_EQ(EVERING_STATE_DEAD, state_of(&c, 0, 1));
	EXPECT_EQ(-SIGKILL, reap(pid));
	EXPECT_EQ(0, waitpid(grandchild, &status, WNOHANG));
	kill(grandchild, SIGKILL);
	EXPECT_EQ(-SIGKILL, reap(grandchild));
}

/* ----------------------------------------------------------------- madvise */

TEST_F(sections, keep_their_data_when_dropped_from_page_tables)
{
	static const int advices[] = {
		MADV_DONTNEED, MADV_COLD, MADV_PAGEOUT, MADV_DONTNEED,
	};
	struct channel *c = &self->c;
	size_t i;
	int side;

	for (side = 0; side < 2; side++) {
		char *own = heap_of(c, side, side);
		char *seen = heap_of(c, side, !side);

		for (i = 0; i < sizeof(advices) / sizeof(advices[0]); i++) {
			memset(own, 0x40 + i, PAGE);
			(void)*(volatile char *)seen;
			/* COLD and PAGEOUT may refuse; they must not harm. */
			EXPECT_TRUE(!try_madvise(own, PAGE, advices[i]) ||
				    advices[i] != MADV_DONTNEED);
			EXPECT_TRUE(!try_madvise(seen, PAGE, advices[i]) ||
				    advices[i] != MADV_DONTNEED);
			EXPECT_EQ(0x40 + i, own[0]);
			EXPECT_EQ(0x40 + i, own[PAGE - 1]);
			EXPECT_EQ(0x40 + i, seen[0]);
			EXPECT_EQ(0, memcmp(own, seen, PAGE));
		}
		EXPECT_EQ(0, try_madvise(c->map[side][HEADER], PAGE,
					 MADV_DONTNEED));
	}
	EXPECT_EQ(EVERING_HEADER_MAGIC, header_of(c, 0)->magic);
	EXPECT_ALIVE();
}

TEST_F(sections, keep_their_data_and_their_privacy)
{
	static const int advices[] = {
		MADV_REMOVE, MADV_DODUMP, MADV_FREE, MADV_WIPEONFORK,
	};
	struct channel *c = &self->c;
	int side, section;
	size_t i;

	for (side = 0; side < 2; side++) {
		memset(heap_of(c, side, side), 0x66, PAGE);
		for (section = 0; section < 3; section++) {
			void *p = c->map[side][section];
			size_t len = c->layout.section_size[section];

			for (i = 0; i < sizeof(advices) / sizeof(*advices); i++)
				EXPECT_GT(0, try_madvise(p, len, advices[i])) {
					TH_LOG("side %d section %d advice %d",
					       side, section, advices[i]);
				}
		}
		EXPECT_EQ(0x66, heap_of(c, side, side)[0]);
		EXPECT_EQ(0x66, heap_of(c, side, !side)[PAGE - 1]);
	}
	EXPECT_ALIVE();
}

TEST_F(sections, are_populated_by_their_rights)
{
	struct channel *c = &self->c;
	int section;

	for (section = 0; section < 3; section++) {
		void *p = c->map[0][section];
		size_t len = c->layout.section_size[section];

		EXPECT_EQ(0, try_madvise(p, len, MADV_POPULATE_READ));
		if (section == OWN(0)) {
			EXPECT_EQ(0, try_madvise(p, len, MADV_POPULATE_WRITE));
		} else {
			EXPECT_GT(0, try_madvise(p, len, MADV_POPULATE_WRITE));
		}
	}
	EXPECT_ALIVE();
}

TEST_F(sections, may_be_locked)
{
	struct channel *c = &self->c, late;
	int section;

	for (section = 0; section < 3; section++) {
		void *p = c->map[0][section];
		size_t len = c->layout.section_size[section];

		EXPECT_EQ(0, mlock(p, len));
		EXPECT_EQ(0, munlock(p, len));
		/* A part: it is for mm to say, but not to split. */
		mlock(p, PAGE);
		munlock(p, PAGE);
		EXPECT_ALIVE();
	}
	EXPECT_EQ(0, mlockall(MCL_CURRENT | MCL_FUTURE));
	EXPECT_EQ(0, channel_open(&late, "test.late"));
	expect_alive(_metadata, &late, 0);
	EXPECT_ALIVE();
	EXPECT_EQ(0, munlockall());
	expect_alive(_metadata, &late, 1);
	EXPECT_ALIVE();
}

/* --------------------------------------------------------------------- I/O */

TEST_F(sections, are_read_and_written_by_system_calls)
{
	struct channel *c = &self->c;
	char out[PAGE], in[PAGE];
	int side, pipes[2], file;

	ASSERT_EQ(0, pipe(pipes));
	file = open("/tmp/evering.mapping", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ASSERT_LE(0, file);
	unlink("/tmp/evering.mapping");
	for (side = 0; side < 2; side++) {
		char *own = heap_of(c, side, side);
		char *seen = heap_of(c, side, !side);

		memset(out, 0x21 + side, sizeof(out));
		ASSERT_EQ(PAGE, write(pipes[1], out, PAGE));
		EXPECT_EQ(PAGE, read(pipes[0], own, PAGE));
		EXPECT_EQ(0, memcmp(seen, out, PAGE));
		/* And from the other side's mapping, which is read-only. */
		EXPECT_EQ(PAGE, write(pipes[1], seen, PAGE));
		EXPECT_EQ(PAGE, read(pipes[0], in, PAGE));
		EXPECT_EQ(0, memcmp(in, out, PAGE));

		memset(out, 0x31 + side, sizeof(out));
		EXPECT_EQ(PAGE, pwrite(file, out, PAGE, 0));
		EXPECT_EQ(PAGE, pread(file, own, PAGE, 0));
		EXPECT_EQ(0, memcmp(seen, out, PAGE));
		EXPECT_EQ(PAGE, pwrite(file, seen, PAGE, PAGE));
		EXPECT_EQ(PAGE, pread(file, in, PAGE, PAGE));
		EXPECT_EQ(0, memcmp(in, out, PAGE));
	}
	EXPECT_ALIVE();
}

TEST_F(sections, of_others_are_not_written_by_system_calls)
{
	struct channel *c = &self->c;
	char out[8] = "garbage", in[8];
	int side, pipes[2];

	ASSERT_EQ(0, pipe2(pipes, O_NONBLOCK));
	for (side = 0; side < 2; side++) {
		memset(heap_of(c, !side, !side), 0, PAGE);
		ASSERT_EQ(8, write(pipes[1], out, 8));
		errno = 0;
		EXPECT_EQ(-1, read(pipes[0], c->map[side][HEADER], 8));
		EXPECT_EQ(EFAULT, errno);
		errno = 0;
		EXPECT_EQ(-1, read(pipes[0], heap_of(c, !side, side), 8));
		EXPECT_EQ(EFAULT, errno);
		EXPECT_EQ(0, *heap_of(c, !side, !side));
		while (read(pipes[0], in, 8) > 0)
			;
	}
	EXPECT_EQ(EVERING_HEADER_MAGIC, header_of(c, 0)->magic);
	EXPECT_ALIVE();
}

/* Pages in a pipe are pinned, and stay what they are after the uring. */
TEST(a_pinned_page_outlives_its_uring)
{
	struct channel c;
	struct iovec iov;
	char in[PAGE];
	int pipes[2], side, section;
	size_t i;

	ASSERT_EQ(0, channel_open(&c, _metadata->name));
	ASSERT_EQ(0, pipe(pipes));
	memset(heap_of(&c, 0, 0), 0x5c, PAGE);
	iov = (struct iovec){ heap_of(&c, 0, 0), PAGE };
	ASSERT_EQ(PAGE, vmsplice(pipes[1], &iov, 1, 0));
	iov = (struct iovec){ c.map[1][HEADER], PAGE };
	ASSERT_EQ(PAGE, vmsplice(pipes[1], &iov, 1, 0));

	for (side = 0; side < 2; side++) {
		for (section = 0; section < 3; section++)
			EXPECT_EQ(0, try_munmap(c.map[side][section],
						c.layout.section_size[section]));
		close(c.fd[side]);
	}
	close(c.service);
	/* Somebody else would get the pages, were they free. */
	for (i = 0; i < 4; i++) {
		ASSERT_EQ(0, channel_open(&c, _metadata->name));
		memset(heap_of(&c, 0, 0), 0xff, PAGE);
		memset(heap_of(&c, 1, 1), 0xff, PAGE);
		close(c.service);
	}
	ASSERT_EQ(PAGE, read(pipes[0], in, PAGE));
	EXPECT_EQ(0x5c, in[0]);
	for (i = 1; i < PAGE; i++)
		if (in[i] != in[0])
			break;
	EXPECT_EQ(PAGE, i);
	ASSERT_EQ(PAGE, read(pipes[0], in, PAGE));
	EXPECT_EQ(EVERING_HEADER_MAGIC, *(uint32_t *)in);
	EXPECT_EQ(EVERING_STATE_DEAD,
		  ((struct evering_header *)in)->side[0].state);
}

TEST_F(sections, are_seen_but_not_written_by_another_process)
{
	struct channel *c = &self->c;
	pid_t parent = getpid(), pid;

	memset(heap_of(c, 0, 0), 0x42, PAGE);
	memset(heap_of(c, 1, 1), 0x43, PAGE);
	pid = fork_mortal();
	if (!pid) {
		char in[PAGE], out[8] = "garbage";
		struct iovec local = { in, PAGE };
		struct iovec remote = { heap_of(c, 0, 0), PAGE };

		if (process_vm_readv(parent, &local, 1, &remote, 1, 0) != PAGE ||
		    in[0] != 0x42 || in[PAGE - 1] != 0x42)
			_exit(1);
		remote.iov_base = heap_of(c, 1, 0);
		if (process_vm_readv(parent, &local, 1, &remote, 1, 0) != PAGE ||
		    in[0] != 0x43)
			_exit(2);
		remote.iov_base = c->map[0][HEADER];
		if (process_vm_readv(parent, &local, 1, &remote, 1, 0) != PAGE ||
		    *(uint32_t *)in != EVERING_HEADER_MAGIC)
			_exit(3);

		local = (struct iovec){ out, sizeof(out) };
		remote = (struct iovec){ c->map[0][HEADER], sizeof(out) };
		if (process_vm_writev(parent, &local, 1, &remote, 1, 0) != -1 ||
		    errno != EFAULT)
			_exit(4);
		remote.iov_base = heap_of(c, 1, 0);
		if (process_vm_writev(parent, &local, 1, &remote, 1, 0) != -1 ||
		    errno != EFAULT)
			_exit(5);
		/* It does work where the process itself may write. */
		remote.iov_base = heap_of(c, 0, 0);
		if (process_vm_writev(parent, &local, 1, &remote, 1, 0) !=
		    sizeof(out))
			_exit(6);
		_exit(0);
	}
	EXPECT_EQ(0, reap(pid));
	EXPECT_EQ(EVERING_HEADER_MAGIC, header_of(c, 0)->magic);
	EXPECT_EQ(0x43, *heap_of(c, 1, 1));
	EXPECT_EQ(0, memcmp(heap_of(c, 0, 1), "garbage", 8));
	EXPECT_ALIVE();
}

/* ------------------------------------------------------- without descriptor */

TEST_F(sections, live_on_without_their_descriptors)
{
	struct channel *c = &self->c;
	int side;

	close(c->fd[0]);
	close(c->fd[1]);
	close(c->service);
	sleep_ms(20);	/* a release is deferred */
	for (side = 0; side < 2; side++) {
		EXPECT_EQ(EVERING_STATE_OPEN, state_of(c, side, 0));
		EXPECT_EQ(EVERING_STATE_OPEN, state_of(c, side, 1));
		memset(heap_of(c, side, side), 0x39, PAGE);
		EXPECT_EQ(0, memcmp(heap_of(c, side, side),
				    heap_of(c, side, !side), PAGE));
	}
	EXPECT_EQ(0, try_munmap(c->map[0][OWN(0)],
				c->layout.section_size[OWN(0)]));
	EXPECT_EQ(EVERING_STATE_DEAD, state_of(c, 0, 1));
	EXPECT_EQ(EVERING_STATE_OPEN, state_of(c, 1, 1));
	/* What a dead side has written stays to be read. */
	EXPECT_EQ(0x39, *heap_of(c, 0, 1));
	EXPECT_EQ(0, try_munmap(c->map[1][OWN(1)],
				c->layout.section_size[OWN(1)]));
	EXPECT_EQ(EVERING_STATE_DEAD, state_of(c, 1, 0));
	EXPECT_EQ(0x39, *heap_of(c, 1, 0));
}

/* ------------------------------------------------------------- userfaultfd */

TEST_F(sections, are_not_served_by_userfaultfd)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct channel *c = &self->c;
	int fd, side, section;
	size_t i;

	fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		SKIP(return, "no userfaultfd here");
	ASSERT_EQ(0, ioctl(fd, UFFDIO_API, &api));
	for (side = 0; side < 2; side++) {
		for (section = 0; section < 3; section++) {
			static const uint64_t modes[] = {
				UFFDIO_REGISTER_MODE_MISSING,
				UFFDIO_REGISTER_MODE_WP,
				UFFDIO_REGISTER_MODE_MINOR,
			};
			struct uffdio_register arg = {
				.range.start = (uintptr_t)c->map[side][section],
				.range.len = c->layout.section_size[section],
			};

			for (i = 0; i < 3; i++) {
				arg.mode = modes[i];
				EXPECT_EQ(-1, ioctl(fd, UFFDIO_REGISTER, &arg));
			}
		}
	}
	EXPECT_ALIVE();
}

TEST_HARNESS_MAIN
