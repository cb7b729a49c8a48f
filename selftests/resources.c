// SPDX-License-Identifier: GPL-2.0
/*
 * What a channel costs its owner: file descriptors and memory, and what happens
 * when there are none left.  A user must not take more than his limits allow, and
 * a call that fails on them must give back all it took.
 */
#include <sys/resource.h>
#include <sys/stat.h>

#include "ioctl_test.h"

/* -------------------------------------------------------- file descriptors */

static bool is_cloexec(int fd)
{
	return fcntl(fd, F_GETFD) == FD_CLOEXEC;
}

/* Limits this process to descriptors below @nr. */
static bool allow_fds(rlim_t nr)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		return false;
	limit.rlim_cur = nr;
	return !setrlimit(RLIMIT_NOFILE, &limit);
}

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
	struct rlimit old;
	struct counters before;
	int service, client;
	uint64_t token;

	ASSERT_LE(0, control);
	ASSERT_EQ(0, getrlimit(RLIMIT_NOFILE, &old));

	before = count();
	ASSERT_TRUE(allow_fds(lowest_fd()));
	EXPECT_EQ(-EMFILE, call(control, EVERING_IOC_LISTEN, &listen));
	ASSERT_TRUE(allow_fds(old.rlim_cur));
	EXPECT_TRUE(settles(&before));
	/* The name is still free. */
	listen.backlog = 1;
	service = call(control, EVERING_IOC_LISTEN, &listen);
	ASSERT_LE(0, service);

	before = count();
	ASSERT_TRUE(allow_fds(lowest_fd()));
	EXPECT_EQ(-EMFILE, call(control, EVERING_IOC_CONNECT, &connect));
	EXPECT_EQ(-EMFILE, call(control, EVERING_IOC_CONNECT, &connect));
	ASSERT_TRUE(allow_fds(old.rlim_cur));
	EXPECT_EQ(NOT_SENT, connect.token);
	EXPECT_TRUE(settles(&before));
	EXPECT_EQ(-EAGAIN, do_accept(service, &accepted));
	/* So is the one place in the backlog. */
	client = do_connect(NAME, &token);
	ASSERT_LE(0, client);

	before = count();
	ASSERT_TRUE(allow_fds(lowest_fd()));
	accept = blocking_accept(0);
	EXPECT_EQ(-EMFILE, call(service, EVERING_IOC_ACCEPT, &accept));
	EXPECT_EQ(-EMFILE, do_accept(service, &accepted));
	ASSERT_TRUE(allow_fds(old.rlim_cur));
	EXPECT_TRUE(settles(&before));
	EXPECT_EQ(EVERING_STATE_PENDING, peer_state(client));
	EXPECT_LE(0, do_accept(service, &accepted));
	EXPECT_EQ(token, accepted.token);
	EXPECT_EQ(EVERING_STATE_OPEN, peer_state(client));
}

/* ------------------------------------------------------------------ memory */

#define CGROUPS	"/sys/fs/cgroup/"
#define GROUP	CGROUPS "evering.resources/"

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
				((volatile char *)c.map[side][section])[at];
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

TEST_HARNESS_MAIN
