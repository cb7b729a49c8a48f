// SPDX-License-Identifier: GPL-2.0
/*
 * The backlog and ACCEPT: order, blocking, deadlines, signals, several acceptors,
 * poll.  A client that is lost here waits for ever, and so does its server.
 */
#include <sys/epoll.h>

#include "ioctl_test.h"

/* ------------------------------------------------------ who blocks in ACCEPT */

/* How many a child has had; seen by the test. */
static volatile sig_atomic_t *signals;

static bool share_signals(void)
{
	signals = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return (void *)signals != MAP_FAILED;
}

static void count_signal(int sig)
{
	(*signals)++;
}

/*
 * A child in a blocking ACCEPT; it says the token or -errno, and stays.  By
 * @flags its handler of SIGUSR1 restarts the call, or does not.
 */
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

static pid_t spawn_acceptor(int service, uint64_t deadline, int out)
{
	return spawn_interruptible(service, deadline, 0, out);
}

/* ---------------------------------------------------------------- backlog */

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

/* ---------------------------------------------------------------- blocking */

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

TEST(accept_interrupted)
{
	int service = do_listen(NAME), out[2];
	struct evering_accept accepted;
	uint64_t token;
	pid_t pid;

	ASSERT_TRUE(share_signals());
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

	ASSERT_TRUE(share_signals());
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

/* ------------------------------------------------------------ several wait */

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

TEST_HARNESS_MAIN
