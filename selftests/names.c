// SPDX-License-Identifier: GPL-2.0
/*
 * Names of services: which are valid, who holds one and for how long, and that
 * each network namespace has its own.  By its name alone a client finds its
 * server, so a wrong answer connects strangers.
 */
#include <sched.h>

#include "ioctl_test.h"

/* The same answer from LISTEN and CONNECT. */
static void bad_name(struct __test_metadata *_metadata, const char *bytes,
		     int expected)
{
	struct evering_listen listen = listen_args("x");
	struct evering_connect connect = dirty_connect("x");

	memcpy(listen.name, bytes, sizeof(listen.name));
	memcpy(connect.name, bytes, sizeof(connect.name));
	EXPECT_EQ(expected, device_call(EVERING_IOC_LISTEN, &listen))
		TH_LOG("name begins with %02x %02x", bytes[0] & 255, bytes[1] & 255);
	EXPECT_EQ(expected, device_call(EVERING_IOC_CONNECT, &connect))
		TH_LOG("name begins with %02x %02x", bytes[0] & 255, bytes[1] & 255);
}

TEST(name_empty)
{
	char name[EVERING_NAME_MAX + 1] = "";

	bad_name(_metadata, name, -EINVAL);
	/* What stands behind the NUL is no name. */
	strcpy(name + 1, NAME);
	bad_name(_metadata, name, -EINVAL);
}

TEST(name_of_63_characters)
{
	char name[EVERING_NAME_MAX + 1] = "";
	struct evering_accept accepted;
	uint64_t token;
	int service;

	memset(name, 'n', EVERING_NAME_MAX);
	service = listen_with(name, 4, 0222);
	ASSERT_LE(0, service);
	ASSERT_LE(0, do_connect(name, &token));
	ASSERT_LE(0, do_accept(service, &accepted));
	EXPECT_EQ(token, accepted.token);
	/* All of them count. */
	name[EVERING_NAME_MAX - 1] = 'm';
	EXPECT_EQ(-ECONNREFUSED, do_connect(name, NULL));
	name[EVERING_NAME_MAX - 1] = 0;
	EXPECT_EQ(-ECONNREFUSED, do_connect(name, NULL));
	EXPECT_LE(0, listen_with(name, 4, 0222));
}

TEST(name_without_nul)
{
	char name[EVERING_NAME_MAX + 1];

	memset(name, 'n', sizeof(name));
	bad_name(_metadata, name, -ENAMETOOLONG);
}

TEST(name_of_unprintable_bytes)
{
	static const int at[] = { 0, 3, 62 };
	struct counters before = count();
	char name[EVERING_NAME_MAX + 1];
	int byte, i;

	for (byte = 1; byte < 256; byte++) {
		if (byte > ' ' && byte < 0x7f)
			continue;
		for (i = 0; i < ARRAY_SIZE(at); i++) {
			memset(name, 'n', sizeof(name));
			name[EVERING_NAME_MAX] = 0;
			name[at[i]] = byte;
			bad_name(_metadata, name, -EINVAL);
		}
	}
	EXPECT_TRUE(settles(&before));
}

TEST(name_of_all_printable_bytes)
{
	char name[EVERING_NAME_MAX + 1] = "";
	int byte, len = 0, fd;

	for (byte = '!'; byte <= '~'; byte++) {
		name[len++] = byte;
		if (len < EVERING_NAME_MAX && byte < '~')
			continue;
		name[len] = 0;
		fd = listen_with(name, 4, 0222);
		EXPECT_LE(0, fd) TH_LOG("'%s'", name);
		EXPECT_LE(0, do_connect(name, NULL));
		len = 0;
	}
}

TEST(name_taken)
{
	int service = do_listen(NAME), copy;
	struct counters before = count();

	ASSERT_LE(0, service);
	EXPECT_EQ(-EEXIST, do_listen(NAME));
	EXPECT_EQ(-EEXIST, do_listen(NAME));
	EXPECT_TRUE(settles(&before));

	/* Until the last descriptor is closed. */
	copy = dup(service);
	close(service);
	EXPECT_EQ(-EEXIST, do_listen(NAME));
	close(copy);
	EXPECT_EQ(-ECONNREFUSED, do_connect(NAME, NULL));
	EXPECT_LE(0, do_listen(NAME));
}

TEST(name_free_again_while_clients_live)
{
	struct evering_accept accepted;
	struct channel c;
	uint64_t token;
	int service;

	ASSERT_EQ(0, channel_open(&c, NAME));
	close(c.service);
	service = do_listen(NAME);
	ASSERT_LE(0, service);
	EXPECT_LE(0, do_connect(NAME, &token));
	EXPECT_LE(0, do_accept(service, &accepted));
	EXPECT_EQ(token, accepted.token);
	/* The old channel does not care. */
	EXPECT_EQ(EVERING_STATE_OPEN, peer_state(c.fd[0]));
	commit(&c, EVERING_RING_SQ, 0, EVERING_COMMITTED);
	EXPECT_EQ(EVERING_READY_ENTRIES, do_wait(c.fd[1], 0, 1, PATIENCE));
}

TEST(tokens_are_never_used_twice)
{
	uint64_t token, last = 0;
	int service = do_listen(NAME), fd, i;
	struct evering_accept accepted;

	ASSERT_LE(0, service);
	for (i = 0; i < 50; i++) {
		fd = do_connect(NAME, &token);
		ASSERT_LE(0, fd);
		EXPECT_LT(last, token);
		EXPECT_NE(NOT_SENT, token);
		last = token;
		close(fd);
		close(do_accept(service, &accepted));
		EXPECT_EQ(token, accepted.token);
	}
}

TEST(nobody_listens)
{
	struct counters before = count();
	char prefix[] = NAME;
	int service, fd;

	prefix[sizeof(prefix) - 2] = 0;
	EXPECT_EQ(-ECONNREFUSED, do_connect(NAME, NULL));
	service = do_listen(NAME);
	ASSERT_LE(0, service);
	fd = do_connect(NAME, NULL);
	EXPECT_LE(0, fd);
	EXPECT_EQ(-ECONNREFUSED, do_connect(NAME "2", NULL));
	EXPECT_EQ(-ECONNREFUSED, do_connect(prefix, NULL));
	close(fd);
	close(service);
	EXPECT_EQ(-ECONNREFUSED, do_connect(NAME, NULL));
	EXPECT_TRUE(settles(&before));
}

TEST(names_of_network_namespaces)
{
	int service = do_listen(NAME);
	int control = open(DEVICE, O_RDWR | O_CLOEXEC);
	struct evering_accept accepted;
	pid_t pid;

	ASSERT_LE(0, service);
	ASSERT_LE(0, control);
	pid = spawn();
	if (!pid) {
		struct evering_connect connect = dirty_connect(NAME);
		struct evering_listen listen = listen_args(NAME);
		int mine, client;

		MUST(!unshare(CLONE_NEWNET));
		/* As with a socket, where it was made counts. */
		MUST(call(control, EVERING_IOC_LISTEN, &listen) == -EEXIST);
		MUST(call(control, EVERING_IOC_CONNECT, &connect) >= 0);
		MUST(do_accept(service, &accepted) >= 0);
		MUST(do_connect(NAME, NULL) == -ECONNREFUSED);
		mine = do_listen(NAME);
		MUST(mine >= 0);
		MUST(do_listen(NAME) == -EEXIST);
		client = do_connect(NAME, NULL);
		MUST(client >= 0);
		MUST(do_accept(service, &accepted) == -EAGAIN);
		MUST(do_accept(mine, &accepted) >= 0);
		_exit(0);
	}
	EXPECT_EQ(0, reap(pid));
	EXPECT_EQ(-EAGAIN, do_accept(service, &accepted));
	EXPECT_EQ(-EEXIST, do_listen(NAME));
	EXPECT_LE(0, do_connect(NAME, NULL));
	EXPECT_LE(0, do_accept(service, &accepted));
}

/* A service keeps its namespace when the last process has left it. */
TEST(service_outlives_network_namespace)
{
	int old = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	struct evering_accept accepted;
	int service, client;

	ASSERT_LE(0, old);
	ASSERT_EQ(0, unshare(CLONE_NEWNET));
	service = do_listen(NAME);
	client = do_connect(NAME, NULL);
	ASSERT_EQ(0, setns(old, CLONE_NEWNET));
	ASSERT_LE(0, service);
	ASSERT_LE(0, client);
	/* Namespaces are taken down by a kernel thread. */
	sleep_ms(100);
	EXPECT_EQ(-ECONNREFUSED, do_connect(NAME, NULL));
	EXPECT_LE(0, do_listen(NAME));
	EXPECT_LE(0, do_accept(service, &accepted));
	EXPECT_EQ(EVERING_STATE_OPEN, peer_state(client));
	close(service);
}

TEST_HARNESS_MAIN
