// SPDX-License-Identifier: GPL-2.0
/*
 * Whose an endpoint is: of the process that first maps any of it.  No child and
 * no receiver of the descriptor can use, spoil or prolong it, whatever fork()
 * and madvise() make of the mappings; the owner needs the descriptor no more.
 */
#include "sections.h"

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
		if (recv(sock, &c.layout, sizeof(c.layout), 0) != sizeof(c.layout))
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
		/* What it has seen may have come before the doorbell. */
		_exit(hear(sock) != 'd');
	}
	ASSERT_LT(0, pid);
	ASSERT_EQ(0, channel_unmapped(&c, _metadata->name));
	ASSERT_EQ(0, map_side(&c, 1));
	/* A try that is refused makes no owner. */
	EXPECT_EQ(-EACCES, try_section(c.fd[0], &c.layout, HEADER, RW, MAP_SHARED));
	EXPECT_EQ(-EINVAL, try_section(c.fd[0], &c.layout, OWN(0), PROT_READ, MAP_SHARED));
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
	tell(sock, 'd');
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
		ret |= madvise(c->map[side][section], c->layout.section_size[section], MADV_DOFORK);
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
				sig = try_store(p + PAGE * (section != HEADER));
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

		if (try_mremap(own, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, reserve(len)) >= 0)
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
		tell(sock, grandchild);
		for (;;)
			pause();
	}
	ASSERT_LT(0, pid);
	grandchild = hear(sock);
	ASSERT_LT(0, grandchild);
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
		EXPECT_EQ(0, memcmp(heap_of(c, side, side), heap_of(c, side, !side), PAGE));
	}
	EXPECT_EQ(0, try_munmap(c->map[0][OWN(0)], c->layout.section_size[OWN(0)]));
	EXPECT_EQ(EVERING_STATE_DEAD, state_of(c, 0, 1));
	EXPECT_EQ(EVERING_STATE_OPEN, state_of(c, 1, 1));
	/* What a dead side has written stays to be read. */
	EXPECT_EQ(0x39, *heap_of(c, 0, 1));
	EXPECT_EQ(0, try_munmap(c->map[1][OWN(1)], c->layout.section_size[OWN(1)]));
	EXPECT_EQ(EVERING_STATE_DEAD, state_of(c, 1, 0));
	EXPECT_EQ(0x39, *heap_of(c, 1, 0));
}

TEST_HARNESS_MAIN
