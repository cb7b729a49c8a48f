// SPDX-License-Identifier: GPL-2.0
/*
 * What an endpoint lives by besides its process: its own section while that is
 * mapped, else its descriptor, also one in flight, and until it is accepted
 * the service.  Who outlives it must be told, and who holds it learns it too.
 */
#include "processes.h"

/* ------------------------------------------------------ the own endpoint */

TEST(own_section_unmapped_is_the_own_death)
{
	struct evering_shutdown shutdown = {
		.size = sizeof(shutdown),
		.how = EVERING_SHUT_WR,
	};
	struct evering_peer peer = { .size = sizeof(peer) };
	struct channel c;
	int side, section;

	for (side = 0; side < 2; side++) {
		ASSERT_EQ(0, channel_open(&c, _metadata->name));
		EXPECT_EQ(0, munmap(c.map[side][OWN(side)], c.layout.section_size[OWN(side)]));
		EXPECT_EQ(-EBADFD, do_wait(c.fd[side], 0, 1, LONG_MS));
		EXPECT_EQ(-EBADFD, do_wait_space(c.fd[side], 0, LONG_MS));
		EXPECT_EQ(-EBADFD, do_wake(c.fd[side]));
		EXPECT_EQ(-EBADFD, call(c.fd[side], EVERING_IOC_SHUTDOWN, &shutdown));
		for (section = 0; section < 3; section++) {
			int prot = section == OWN(side) ? RW : PROT_READ;

			errno = 0;
			EXPECT_EQ(MAP_FAILED, map_section(c.fd[side], &c.layout, section, prot));
			EXPECT_EQ(EBADFD, errno);
		}
		EXPECT_EQ(POLLERR, poll_now(c.fd[side]) & (POLLERR | POLLHUP));
		EXPECT_EQ(0, call(c.fd[side], EVERING_IOC_PEER, &peer));
		EXPECT_EQ(EVERING_STATE_OPEN, peer.state);

		EXPECT_EQ(EVERING_STATE_DEAD, state_of(&c, side, !side));
		EXPECT_EQ(-EPIPE, do_wait(c.fd[!side], 0, 1, LONG_MS));
		EXPECT_EQ(POLLHUP, poll_now(c.fd[!side]) & (POLLERR | POLLHUP));
		close(c.service);
	}
}

TEST(own_section_unmapped_wakes_who_waits)
{
	struct channel c;
	int side;

	for (side = 0; side < 2; side++) {
		struct sleeper waiter = { 0 }, space = { 0 }, poller = { 0 };
		struct sleeper other = { 0 };
		uint64_t start, took;

		ASSERT_EQ(0, channel_open(&c, _metadata->name));
		waiter.fd = space.fd = poller.fd = c.fd[side];
		waiter.enter = wait_args(0, 1, LONG_MS);
		space.enter = wait_args(0, 1, LONG_MS);
		space.enter.flags = EVERING_ENTER_WAIT_SPACE;
		space.enter.space_pos = c.layout.geometry.entries[side];
		other.fd = c.fd[!side];
		other.enter = wait_args(0, 1, LONG_MS);
		ASSERT_TRUE(sleeper_start(&waiter, sleep_in_enter, SYS_ioctl));
		ASSERT_TRUE(sleeper_start(&space, sleep_in_enter, SYS_ioctl));
		ASSERT_TRUE(sleeper_start(&poller, sleep_in_poll, NR_POLL));
		ASSERT_TRUE(sleeper_start(&other, sleep_in_enter, SYS_ioctl));

		start = now_ns();
		EXPECT_EQ(0, munmap(c.map[side][OWN(side)], c.layout.section_size[OWN(side)]));
		took = sleeper_join(&waiter, start);
		EXPECT_GT(PROMPT_NS, took);
		EXPECT_GT(PROMPT_NS, sleeper_join(&space, start));
		EXPECT_GT(PROMPT_NS, sleeper_join(&poller, start));
		EXPECT_GT(PROMPT_NS, sleeper_join(&other, start));
		TH_LOG("known after %llu us", (unsigned long long)took / 1000);
		EXPECT_EQ(-EBADFD, waiter.result);
		EXPECT_EQ(-EBADFD, space.result);
		EXPECT_EQ(1, poller.result);
		EXPECT_EQ(POLLERR, poller.events);
		EXPECT_EQ(-EPIPE, other.result);
		close(c.service);
	}
}

/* ------------------------------------------------------------- the service */

TEST(service_killed_with_clients_that_wait)
{
	struct counters before = counters_now();
	struct evering_connect args = connect_args(_metadata->name);
	struct evering_peer peer = { .size = sizeof(peer) };
	struct sleeper waiter = { 0 }, poller = { 0 };
	struct channel c = { 0 };
	int sock, fd, service;
	uint64_t start, took;
	pid_t pid;

	pid = fork_talking(&sock);
	if (!pid) {
		service = do_listen(_metadata->name);
		tell(sock, service < 0);
		for (;;)
			pause();
	}
	ASSERT_LT(0, pid);
	ASSERT_EQ(0, hear(sock));
	c.fd[0] = device_call(EVERING_IOC_CONNECT, &args);
	ASSERT_LE(0, c.fd[0]);
	c.layout = args.layout;
	ASSERT_EQ(0, map_side(&c, 0));
	/* A second one, not mapped. */
	fd = device_call(EVERING_IOC_CONNECT, &args);
	ASSERT_LE(0, fd);
	EXPECT_EQ(EVERING_STATE_PENDING, state_of(&c, 1, 0));
	commit(&c, 0, 0, EVERING_COMMITTED);
	EXPECT_EQ(0, do_wake(c.fd[0]));
	EXPECT_EQ(0, poll_now(c.fd[0]) & (POLLIN | POLLHUP));

	waiter.fd = poller.fd = c.fd[0];
	waiter.enter = wait_args(0, 1, LONG_MS);
	ASSERT_TRUE(sleeper_start(&waiter, sleep_in_enter, SYS_ioctl));
	ASSERT_TRUE(sleeper_start(&poller, sleep_in_poll, NR_POLL));
	start = now_ns();
	kill(pid, SIGKILL);
	took = sleeper_join(&waiter, start);
	EXPECT_GT(PROMPT_NS, took);
	EXPECT_GT(PROMPT_NS, sleeper_join(&poller, start));
	TH_LOG("known after %llu us", (unsigned long long)took / 1000);
	EXPECT_EQ(-EPIPE, waiter.result);
	EXPECT_EQ(POLLHUP | POLLRDHUP | POLLIN, poller.events);
	EXPECT_EQ(EVERING_STATE_DEAD, state_of(&c, 1, 0));
	EXPECT_EQ(-EPIPE, do_wait(fd, 0, 1, LONG_MS));
	EXPECT_EQ(-EPIPE, do_wake(c.fd[0]));
	EXPECT_EQ(-SIGKILL, reap(pid));
	EXPECT_EQ(0, call(fd, EVERING_IOC_PEER, &peer));
	EXPECT_EQ(EVERING_STATE_DEAD, peer.state);
	EXPECT_EQ(pid, peer.pid);

	EXPECT_EQ(-ECONNREFUSED, device_call(EVERING_IOC_CONNECT, &args));
	service = do_listen(_metadata->name);
	EXPECT_LE(0, service);
	close(service);
	close(fd);
	close(c.fd[0]);
	munmap(c.map[0][0], c.layout.section_size[0]);
	munmap(c.map[0][1], c.layout.section_size[1]);
	munmap(c.map[0][2], c.layout.section_size[2]);
	EXPECT_TRUE(counters_return(&before));
}

/* An accepted client has its own peer; the name is not its life. */
TEST(service_closed_after_accept_is_no_death)
{
	struct channel c;

	ASSERT_EQ(0, channel_open(&c, _metadata->name));
	close(c.service);
	sleep_ms(20);
	EXPECT_EQ(EVERING_STATE_OPEN, state_of(&c, 1, 0));
	EXPECT_EQ(EVERING_STATE_OPEN, state_of(&c, 0, 1));
	EXPECT_EQ(0, do_wake(c.fd[0]));
	EXPECT_EQ(0, do_wake(c.fd[1]));
	EXPECT_EQ(-ETIME, do_wait(c.fd[0], 0, 1, 20));
}

/* ------------------------------------------------------ descriptors in flight */

/* A child connects, perhaps maps, sends us the descriptor, and dies. */
static pid_t sender(const char *name, bool map, int *sock, int *flight)
{
	int pair[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return -1;
	pid = fork_talking(sock);
	if (!pid) {
		struct evering_connect args = connect_args(name);
		struct channel c = { 0 };

		c.fd[0] = device_call(EVERING_IOC_CONNECT, &args);
		c.layout = args.layout;
		if (c.fd[0] < 0 || (map && map_side(&c, 0)) || send_fd(pair[1], c.fd[0]))
			_exit(1);
		tell(*sock, 0);
		hear(*sock);
		_exit(0);
	}
	close(pair[1]);
	*flight = pair[0];
	return pid;
}

/* Our side of that, mapped; 0 or a number to search for. */
static int flight_start(struct channel *c, const char *name, bool map, int *flight, pid_t *pid)
{
	struct evering_accept accepted;
	int sock;

	c->service = do_listen(name);
	if (c->service < 0)
		return 1;
	*pid = sender(name, map, &sock, flight);
	if (*pid < 0 || hear(sock))
		return 2;
	c->fd[1] = do_accept(c->service, &accepted);
	if (c->fd[1] < 0)
		return 3;
	c->layout = accepted.layout;
	return map_side(c, 1) ? 4 : 0;
}

/* Nobody's, but it may become somebody's. */
TEST(a_descriptor_in_flight_is_alive)
{
	struct channel c;
	struct sleeper s = { 0 };
	uint64_t start, took;
	int flight;
	pid_t pid;

	ASSERT_EQ(0, flight_start(&c, _metadata->name, false, &flight, &pid));
	kill(pid, SIGKILL);
	EXPECT_EQ(-SIGKILL, reap(pid));
	EXPECT_EQ(EVERING_STATE_OPEN, state_of(&c, 0, 1));
	EXPECT_EQ(0, poll_now(c.fd[1]) & (POLLIN | POLLHUP | POLLRDHUP));
	EXPECT_EQ(0, do_wake(c.fd[1]));
	EXPECT_EQ(-ETIME, do_wait(c.fd[1], 0, 1, 100));

	s.fd = c.fd[1];
	s.enter = wait_args(0, 1, LONG_MS);
	ASSERT_TRUE(sleeper_start(&s, sleep_in_enter, SYS_ioctl));
	start = now_ns();
	close(flight);
	took = sleeper_join(&s, start);
	TH_LOG("known after %llu us", (unsigned long long)took / 1000);
	EXPECT_GT(PROMPT_NS, took);
	EXPECT_EQ(-EPIPE, s.result);
	EXPECT_EQ(EVERING_STATE_DEAD, state_of(&c, 0, 1));
}

TEST(who_receives_a_descriptor_of_the_dead_goes_on)
{
	struct channel c;
	int flight;
	pid_t pid;

	ASSERT_EQ(0, flight_start(&c, _metadata->name, false, &flight, &pid));
	kill(pid, SIGKILL);
	EXPECT_EQ(-SIGKILL, reap(pid));
	c.fd[0] = recv_fd(flight);
	ASSERT_LE(0, c.fd[0]);
	close(flight);
	ASSERT_EQ(0, map_side(&c, 0));
	EXPECT_EQ(EVERING_STATE_OPEN, state_of(&c, 0, 1));
	commit(&c, 0, 0, EVERING_COMMITTED);
	EXPECT_EQ(0, do_wake(c.fd[0]));
	EXPECT_EQ(EVERING_READY_ENTRIES, do_wait(c.fd[1], 0, 1, 0));
	EXPECT_EQ(0, munmap(c.map[0][OWN(0)], c.layout.section_size[OWN(0)]));
	EXPECT_EQ(-EPIPE, do_wait(c.fd[1], 1, 1, LONG_MS));
}

/* Mapped, it was the sender's, and is nobody else's now. */
TEST(a_mapped_one_in_flight_dies_with_its_sender)
{
	struct channel c;
	int flight;
	pid_t pid;

	ASSERT_EQ(0, flight_start(&c, _metadata->name, true, &flight, &pid));
	EXPECT_EQ(EVERING_STATE_OPEN, state_of(&c, 0, 1));
	kill(pid, SIGKILL);
	EXPECT_EQ(-SIGKILL, reap(pid));
	EXPECT_EQ(EVERING_STATE_DEAD, state_of(&c, 0, 1));
	EXPECT_EQ(-EPIPE, do_wait(c.fd[1], 0, 1, LONG_MS));
	c.fd[0] = recv_fd(flight);
	ASSERT_LE(0, c.fd[0]);
	EXPECT_EQ(-EBADFD, map_side(&c, 0));
	EXPECT_EQ(-EBADFD, do_wake(c.fd[0]));
}

TEST_HARNESS_MAIN
