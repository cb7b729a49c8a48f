// SPDX-License-Identifier: GPL-2.0
/*
 * Who may connect, and as whom each side sees the other: mode bits, capabilities,
 * user and process namespaces.  Servers decide by what they are told here.
 */
#include <grp.h>
#include <pthread.h>
#include <sched.h>
#include <linux/capability.h>

#include "ioctl_test.h"

#define OVERFLOW_ID	65534

/* ------------------------------------------------------------ other users */

/* For good, and with no group but @gid and @extra. */
static void become(uid_t uid, gid_t gid, gid_t extra)
{
	MUST(!setgroups(1, &extra));
	MUST(!setresgid(gid, gid, gid));
	MUST(!setresuid(uid, uid, uid));
	/* Both are lost on the way; the latter lets /proc/self be written. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_DUMPABLE, 1);
}

static bool map_id(const char *path, unsigned int inside, unsigned int outside)
{
	char text[64];

	snprintf(text, sizeof(text), "%u %u 1", inside, outside);
	return write_text(path, text);
}

/* A user namespace in which uid and gid @id are root and all there is. */
static void become_root_of_namespace(uid_t id, int other_namespaces)
{
	MUST(!unshare(CLONE_NEWUSER | other_namespaces));
	MUST(write_text("/proc/self/setgroups", "deny"));
	MUST(map_id("/proc/self/uid_map", 0, id));
	MUST(map_id("/proc/self/gid_map", 0, id));
	MUST(getuid() == 0 && getgid() == 0);
}

/* A service of somebody else, held by this process. */
static int listen_as(uid_t uid, gid_t gid, unsigned int mode)
{
	int fd;

	MUST(!setegid(gid) && !seteuid(uid));
	fd = listen_with(NAME, 4, mode);
	MUST(!seteuid(0) && !setegid(0));
	return fd;
}

/* -------------------------------------------------------- who may connect */

/* The end of a child: what CONNECT says to it. */
static void connect_and_exit(void)
{
	int ret = do_connect(NAME, NULL);

	_exit(ret < 0 ? -ret : 0);
}

/* What CONNECT says to such a process: 0 or -errno. */
static int connect_as(uid_t uid, gid_t gid, gid_t extra)
{
	pid_t pid = spawn();

	if (!pid) {
		become(uid, gid, extra);
		connect_and_exit();
	}
	return -reap(pid);
}

#define OWNER	1000, 1000, 1000
#define MEMBER	1001, 1000, 1001	/* of the owner's group */
#define EXTRA	1001, 1001, 1000	/* the same, by a supplementary group */
#define OTHERS	1001, 1001, 1001
#define ROOT	0, 0, 0

TEST(mode_of_owner)
{
	ASSERT_LE(0, listen_as(1000, 1000, 0200));
	EXPECT_EQ(0, connect_as(OWNER));
	EXPECT_EQ(0, connect_as(1000, 1001, 1001));
	EXPECT_EQ(-EACCES, connect_as(MEMBER));
	EXPECT_EQ(-EACCES, connect_as(EXTRA));
	EXPECT_EQ(-EACCES, connect_as(OTHERS));
	EXPECT_EQ(0, connect_as(ROOT));
}

TEST(mode_of_group)
{
	ASSERT_LE(0, listen_as(1000, 1000, 0020));
	/* As on a file: who owns it is asked the owner's bit alone. */
	EXPECT_EQ(-EACCES, connect_as(OWNER));
	EXPECT_EQ(0, connect_as(MEMBER));
	EXPECT_EQ(0, connect_as(EXTRA));
	EXPECT_EQ(-EACCES, connect_as(OTHERS));
	EXPECT_EQ(0, connect_as(ROOT));
}

TEST(mode_of_others)
{
	ASSERT_LE(0, listen_as(1000, 1000, 0002));
	EXPECT_EQ(-EACCES, connect_as(OWNER));
	EXPECT_EQ(-EACCES, connect_as(MEMBER));
	EXPECT_EQ(-EACCES, connect_as(EXTRA));
	EXPECT_EQ(0, connect_as(OTHERS));
	EXPECT_EQ(0, connect_as(ROOT));
}

TEST(mode_of_nobody)
{
	struct counters before;

	/* Bits to read and to execute mean nothing. */
	ASSERT_LE(0, listen_as(1000, 1000, 0555));
	before = count();
	EXPECT_EQ(-EACCES, connect_as(OWNER));
	EXPECT_EQ(-EACCES, connect_as(MEMBER));
	EXPECT_EQ(-EACCES, connect_as(EXTRA));
	EXPECT_EQ(-EACCES, connect_as(OTHERS));
	EXPECT_TRUE(settles(&before));
	EXPECT_EQ(0, connect_as(ROOT));
}

TEST(mode_of_everybody)
{
	int service = listen_as(1000, 1000, 0222);

	ASSERT_LE(0, service);
	EXPECT_EQ(0, connect_as(OWNER));
	EXPECT_EQ(0, connect_as(MEMBER));
	EXPECT_EQ(0, connect_as(OTHERS));
	EXPECT_EQ(0, connect_as(ROOT));
}

TEST(mode_of_service_of_root)
{
	ASSERT_LE(0, listen_as(0, 0, 0220));
	EXPECT_EQ(-EACCES, connect_as(OTHERS));
	EXPECT_EQ(0, connect_as(1000, 1000, 0));
	EXPECT_EQ(0, connect_as(ROOT));
}

/* It is the capability that overrides, not the number of the user. */
TEST(root_without_capability)
{
	struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2];
	int service = listen_as(1000, 1000, 0220);
	pid_t pid;

	ASSERT_LE(0, service);
	pid = spawn();
	if (!pid) {
		MUST(!setgroups(0, NULL));
		MUST(!syscall(SYS_capget, &head, data));
		data[0].effective &= ~(1U << CAP_DAC_OVERRIDE);
		MUST(!syscall(SYS_capset, &head, data));
		connect_and_exit();
	}
	EXPECT_EQ(EACCES, reap(pid));
	EXPECT_EQ(0, connect_as(ROOT));
}

TEST(unprivileged_may_listen)
{
	pid_t pid = spawn();

	if (!pid) {
		struct evering_accept accepted;
		int service;

		become(OTHERS);
		service = listen_with(NAME, 1, 0200);
		MUST(service >= 0);
		MUST(do_connect(NAME, NULL) >= 0);
		MUST(do_accept(service, &accepted) >= 0);
		MUST(accepted.uid == 1001 && accepted.gid == 1001);
		_exit(0);
	}
	EXPECT_EQ(0, reap(pid));
}

/* -------------------------------------------------------- user namespaces */

TEST(names_of_user_and_network_namespace)
{
	int service = do_listen(NAME);
	pid_t pid;

	ASSERT_LE(0, service);
	pid = spawn();
	if (!pid) {
		struct evering_accept accepted;
		int mine;

		become(OWNER);
		MUST(do_listen(NAME) == -EEXIST);
		become_root_of_namespace(1000, CLONE_NEWNET);
		MUST(do_connect(NAME, NULL) == -ECONNREFUSED);
		/* Closed to all but the root of this namespace: us. */
		mine = listen_with(NAME, 4, 0);
		MUST(mine >= 0);
		MUST(do_connect(NAME, NULL) >= 0);
		MUST(do_accept(mine, &accepted) >= 0);
		MUST(accepted.uid == 0 && accepted.gid == 0);
		_exit(0);
	}
	EXPECT_EQ(0, reap(pid));
}

TEST(root_of_user_namespace_overrides_nothing_outside)
{
	int service = listen_with(NAME, 4, 0);
	pid_t pid;

	ASSERT_LE(0, service);
	pid = spawn();
	if (!pid) {
		become(OWNER);
		MUST(do_connect(NAME, NULL) == -EACCES);
		become_root_of_namespace(1000, 0);
		MUST(do_connect(NAME, NULL) == -EACCES);
		_exit(0);
	}
	EXPECT_EQ(0, reap(pid));
}

/* A service of somebody that the namespace does not know, in its network. */
TEST(root_of_user_namespace_overrides_no_stranger)
{
	int go[2], out[2], net, service;
	char path[64];
	pid_t pid;

	ASSERT_EQ(0, pipe(go));
	ASSERT_EQ(0, pipe(out));
	pid = spawn();
	if (!pid) {
		become(OWNER);
		become_root_of_namespace(1000, CLONE_NEWNET);
		say(out[1], 1);
		MUST(hear(go[0]) == 1);
		MUST(do_connect(NAME, NULL) == -EACCES);
		_exit(0);
	}
	ASSERT_EQ(1, hear(out[0]));
	snprintf(path, sizeof(path), "/proc/%d/ns/net", pid);
	net = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, net);
	ASSERT_EQ(0, setns(net, CLONE_NEWNET));
	service = listen_with(NAME, 4, 0);
	ASSERT_LE(0, service);
	say(go[1], 1);
	EXPECT_EQ(0, reap(pid));
}

/* ------------------------------------------------------ who the other is */

TEST(accept_and_peer_name_the_processes)
{
	int go[2], from_client[2], from_server[2], service;
	struct evering_accept accepted;
	struct evering_peer peer;
	pid_t client, server;

	ASSERT_EQ(0, pipe(go));
	ASSERT_EQ(0, pipe(from_client));
	ASSERT_EQ(0, pipe(from_server));
	service = listen_as(1004, 1005, 0222);
	ASSERT_LE(0, service);

	client = spawn();
	if (!client) {
		int fd;

		become(1000, 1001, 1001);
		fd = do_connect(NAME, NULL);
		MUST(fd >= 0);
		MUST(!do_peer(fd, &peer));
		MUST(peer.size == sizeof(peer) && peer.flags == 0);
		MUST(peer.state == EVERING_STATE_PENDING);
		MUST(peer.uid == 1004 && peer.gid == 1005);
		MUST(peer.pid == getppid());
		say(from_client[1], 1);
		server = hear(go[0]);
		MUST(!do_peer(fd, &peer));
		MUST(peer.state == EVERING_STATE_OPEN);
		MUST(peer.uid == 1002 && peer.gid == 1003);
		MUST(peer.pid == server);
		say(from_client[1], 2);
		MUST(hear(go[0]) == 1);
		MUST(!do_peer(fd, &peer));
		MUST(peer.state == EVERING_STATE_DEAD);
		MUST(peer.uid == 1002 && peer.gid == 1003);
		_exit(0);
	}
	ASSERT_EQ(1, hear(from_client[0]));
	server = spawn();
	if (!server) {
		int fd;

		become(1002, 1003, 1003);
		fd = do_accept(service, &accepted);
		MUST(fd >= 0);
		MUST(accepted.uid == 1000 && accepted.gid == 1001);
		MUST(accepted.pid == client);
		MUST(!do_peer(fd, &peer));
		MUST(peer.state == EVERING_STATE_OPEN);
		MUST(peer.uid == 1000 && peer.gid == 1001);
		MUST(peer.pid == client);
		say(from_server[1], getpid());
		for (;;)
			pause();
	}
	ASSERT_EQ(server, hear(from_server[0]));
	say(go[1], server);
	EXPECT_EQ(2, hear(from_client[0]));
	end(server);
	say(go[1], 1);
	EXPECT_EQ(0, reap(client));
}

static void *connect_in_thread(void *arg)
{
	*(int *)arg = do_connect(NAME, NULL);
	return NULL;
}

/* Processes, not threads. */
TEST(pid_is_that_of_the_process)
{
	int service = do_listen(NAME), fd;
	struct evering_accept accepted;
	pthread_t thread;

	ASSERT_LE(0, service);
	ASSERT_EQ(0, pthread_create(&thread, NULL, connect_in_thread, &fd));
	ASSERT_EQ(0, pthread_join(thread, NULL));
	ASSERT_LE(0, fd);
	ASSERT_LE(0, do_accept(service, &accepted));
	EXPECT_EQ(getpid(), accepted.pid);
	EXPECT_EQ(getuid(), accepted.uid);
}

TEST(invisible_peer_has_pid_zero)
{
	int service = do_listen(NAME), out[2], go[2], client;
	struct evering_accept accepted;
	struct evering_peer peer;
	pid_t pid, inner;

	ASSERT_LE(0, service);
	ASSERT_EQ(0, pipe(out));
	ASSERT_EQ(0, pipe(go));
	client = do_connect(NAME, NULL);
	ASSERT_LE(0, client);
	pid = spawn();
	if (!pid) {
		MUST(!unshare(CLONE_NEWPID));
		inner = spawn();
		if (!inner) {
			int fd[2];

			MUST(getpid() == 1);
			/* The client outside, seen from inside */
			fd[1] = do_accept(service, &accepted);
			MUST(fd[1] >= 0);
			MUST(accepted.pid == 0 && accepted.uid == 0);
			MUST(!do_peer(fd[1], &peer));
			MUST(peer.pid == 0);
			/* the listener outside */
			fd[0] = do_connect(NAME, NULL);
			MUST(fd[0] >= 0);
			MUST(!do_peer(fd[0], &peer));
			MUST(peer.state == EVERING_STATE_PENDING);
			MUST(peer.pid == 0 && peer.uid == 0);
			/* and itself */
			MUST(do_connect(NAME, NULL) >= 0);
			say(out[1], 1);
			MUST(hear(go[0]) == 1);
			MUST(do_accept(service, &accepted) >= 0);
			MUST(accepted.pid == 1);
			_exit(0);
		}
		say(out[1], inner);
		_exit(reap(inner));
	}
	inner = hear(out[0]);
	if (inner == 1)
		inner = hear(out[0]);
	else
		EXPECT_EQ(1, hear(out[0]));
	EXPECT_LT(1, inner);
	/* The client inside and the acceptor inside, seen from outside */
	EXPECT_LE(0, do_accept(service, &accepted));
	EXPECT_EQ(inner, accepted.pid);
	EXPECT_EQ(0, do_peer(client, &peer));
	EXPECT_EQ(inner, peer.pid);
	say(go[1], 1);
	EXPECT_EQ(0, reap(pid));
}

TEST(unmapped_user_is_overflow_user)
{
	int service = do_listen(NAME), client, fd;
	struct evering_accept accepted;
	struct evering_peer peer;
	pid_t pid;

	ASSERT_LE(0, service);
	client = do_connect(NAME, NULL);
	ASSERT_LE(0, client);
	pid = spawn();
	if (!pid) {
		become(OWNER);
		become_root_of_namespace(1000, 0);
		MUST(do_accept(service, &accepted) >= 0);
		MUST(accepted.uid == OVERFLOW_ID);
		MUST(accepted.gid == OVERFLOW_ID);
		MUST(accepted.pid == getppid());
		fd = do_connect(NAME, NULL);
		MUST(fd >= 0);
		MUST(!do_peer(fd, &peer));
		MUST(peer.uid == OVERFLOW_ID && peer.gid == OVERFLOW_ID);
		/* One that is mapped is shown as such. */
		MUST(do_connect(NAME, NULL) >= 0);
		_exit(0);
	}
	EXPECT_EQ(0, reap(pid));
	ASSERT_LE(0, do_accept(service, &accepted));
	EXPECT_EQ(1000, accepted.uid);
	EXPECT_EQ(1000, accepted.gid);
	EXPECT_EQ(pid, accepted.pid);
}

TEST_HARNESS_MAIN
