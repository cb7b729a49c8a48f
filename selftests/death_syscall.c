// SPDX-License-Identifier: GPL-2.0
/*
 * Killed inside ENTER, ACCEPT or CONNECT: the process is gone at once, nothing
 * of it stays, and what it stood in line for goes to the next.  A call that
 * cannot be killed would hang a machine; a wake-up spent on the dead, a client.
 */
#include "processes.h"

/* ---------------------------------------------- killed inside a system call */

/* SIGKILL, and how long until there is nothing left of it but a status. */
static uint64_t kill_and_reap(pid_t pid, int *status)
{
	uint64_t start = now_ns();

	kill(pid, SIGKILL);
	*status = reap(pid);
	return now_ns() - start;
}

TEST(killed_in_enter)
{
	struct counters before = counters_now();
	struct evering_connect args = connect_args(_metadata->name);
	int service, i, status;

	service = do_listen(_metadata->name);
	ASSERT_LE(0, service);
	for (i = 0; i < 4; i++) {
		pid_t pid = fork_mortal();

		if (!pid) {
			struct evering_enter enter = wait_args(0, 1, 0);
			struct channel c = { 0 };

			c.fd[0] = device_call(EVERING_IOC_CONNECT, &args);
			c.layout = args.layout;
			/* Also without a mapping, and waiting for both. */
			if (i & 1 && map_side(&c, 0))
				_exit(1);
			if (i & 2) {
				enter.flags |= EVERING_ENTER_WAIT_SPACE;
				enter.space_pos = args.geometry.entries[0];
			}
			enter.deadline = EVERING_NO_DEADLINE;
			call(c.fd[0], EVERING_IOC_ENTER, &enter);
			_exit(2);
		}
		ASSERT_LT(0, pid);
		EXPECT_TRUE(asleep_in(pid, pid, SYS_ioctl));
		EXPECT_GT(PROMPT_NS, kill_and_reap(pid, &status));
		EXPECT_EQ(-SIGKILL, status);
	}
	close(service);
	EXPECT_TRUE(counters_return(&before));
}

static pid_t fork_acceptor(int service)
{
	struct evering_accept accept = {
		.size = sizeof(accept),
		.deadline = EVERING_NO_DEADLINE,
	};
	pid_t pid = fork_mortal();

	if (!pid)
		_exit(call(service, EVERING_IOC_ACCEPT, &accept) < 0);
	return pid;
}

TEST(killed_in_accept)
{
	struct counters before = counters_now();
	struct evering_connect args = connect_args(_metadata->name);
	int service, i, fd, status;
	pid_t pids[3];

	service = do_listen(_metadata->name);
	ASSERT_LE(0, service);
	for (i = 0; i < 3; i++) {
		pids[i] = fork_acceptor(service);
		ASSERT_LT(0, pids[i]);
		ASSERT_TRUE(asleep_in(pids[i], pids[i], SYS_ioctl));
	}
	/* The first in the queue, whom the next client would wake. */
	EXPECT_GT(PROMPT_NS, kill_and_reap(pids[0], &status));
	EXPECT_EQ(-SIGKILL, status);
	fd = device_call(EVERING_IOC_CONNECT, &args);
	ASSERT_LE(0, fd);
	EXPECT_EQ(0, reap(pids[1]));
	EXPECT_EQ(-EPIPE, do_wait(fd, 0, 1, LONG_MS));
	close(fd);

	EXPECT_GT(PROMPT_NS, kill_and_reap(pids[2], &status));
	EXPECT_EQ(-SIGKILL, status);
	close(service);
	EXPECT_TRUE(counters_return(&before));
}

/* A client wakes one acceptor: not one that is being killed, for nothing. */
TEST(killed_in_accept_while_a_client_comes)
{
	struct counters before = counters_now();
	struct evering_connect args = connect_args(_metadata->name);
	unsigned int seed = now_ns();
	int service, fd, i, status;
	pid_t pids[2];

	TH_LOG("seed %u", seed);
	service = do_listen(_metadata->name);
	ASSERT_LE(0, service);
	for (i = 0; i < 40; i++) {
		uint64_t start = 0;

		pids[0] = fork_acceptor(service);
		ASSERT_LT(0, pids[0]);
		ASSERT_TRUE(asleep_in(pids[0], pids[0], SYS_ioctl));
		pids[1] = fork_acceptor(service);
		ASSERT_LT(0, pids[1]);
		ASSERT_TRUE(asleep_in(pids[1], pids[1], SYS_ioctl));

		if (i & 1) {
			kill(pids[0], SIGKILL);
			start = now_ns() + rand_r(&seed) % 200000;
		}
		while (now_ns() < start)
			;
		fd = device_call(EVERING_IOC_CONNECT, &args);
		kill(pids[0], SIGKILL);
		ASSERT_LE(0, fd);
		/* Whoever took it is gone at once. */
		ASSERT_EQ(-EPIPE, do_wait(fd, 0, 1, LONG_MS)) {
			TH_LOG("round %d", i);
		}
		close(fd);
		kill_and_reap(pids[1], &status);
		EXPECT_TRUE(status == -SIGKILL || !status);
		status = reap(pids[0]);
		EXPECT_TRUE(status == -SIGKILL || !status);
	}
	close(service);
	EXPECT_TRUE(counters_return(&before));
}

/*
 * Hundreds of megabytes are given out page by page.  Who is killed meanwhile
 * gets no more of them, and never comes to stand in the backlog.
 */
TEST(killed_in_connect)
{
	struct counters before = counters_now();
	struct evering_connect args = connect_args(_metadata->name);
	struct evering_accept accepted;
	long all, seen = 0;
	int service, i, fd = -1, status;

	args.geometry.heap_size[0] = 100UL << 20;
	args.geometry.heap_size[1] = 100UL << 20;
	all = 200UL << 20;
	service = do_listen(_metadata->name);
	ASSERT_LE(0, service);
	/* On a busy machine the kill may come too late; not every time. */
	for (i = 0; i < 20; i++) {
		uint64_t took;
		pid_t pid;

		pid = fork_mortal();
		if (!pid)
			_exit(device_call(EVERING_IOC_CONNECT, &args) < 0);
		ASSERT_LT(0, pid);
		took = now_ns() + LONG_MS / 2 * MS;
		do {
			seen = counter("bytes") - before.bytes;
		} while (seen < all / 20 && now_ns() < took);
		took = kill_and_reap(pid, &status);
		EXPECT_GT(5 * PROMPT_NS, took);
		EXPECT_TRUE(status == -SIGKILL || !status);
		fd = do_accept(service, &accepted);
		if (fd < 0)
			break;
		close(fd);
	}
	TH_LOG("killed at %ld of %ld bytes, try %d", seen, all, i + 1);
	EXPECT_EQ(-EAGAIN, fd);
	before.services++;
	EXPECT_TRUE(counters_return(&before));

	/* Its place in the backlog is free again: there are four. */
	args = connect_args(_metadata->name);
	for (i = 0; i < 4; i++)
		EXPECT_LE(0, device_call(EVERING_IOC_CONNECT, &args));
	EXPECT_EQ(-EAGAIN, device_call(EVERING_IOC_CONNECT, &args));
}

TEST_HARNESS_MAIN
