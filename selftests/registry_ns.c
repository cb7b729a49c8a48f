// SPDX-License-Identifier: GPL-2.0
/*
 * Registries of network namespaces: each has its own, a control file stays with
 * the one in which it was opened, and users are shown as its owner knows them.
 */
#include <sys/stat.h>

#include "ioctl_test.h"
#include "registry_test.h"

#define OVERFLOW_ID	65534

/* ------------------------------------------------------ network namespaces */

TEST(namespaces_do_not_see_each_other)
{
	struct counters before = count();
	uint64_t token, outside_next;
	struct view outside;
	int fd = do_create(EVERING_KIND_BUFFER, BUFFER, 0666, &token);
	pid_t pid;

	ASSERT_LE(0, fd);
	ASSERT_TRUE(view_here(&outside));
	outside_next = next_token_of(&outside);
	pid = spawn();
	if (!pid) {
		struct view inside;
		uint64_t mine[2];
		int side, ret;

		MUST(!unshare(CLONE_NEWNET));
		MUST(view_here(&inside));
		/* Nobody has been here before. */
		MUST(inside.header->magic == EVERING_REGISTRY_MAGIC);
		MUST(inside.header->capacity == outside.header->capacity);
		MUST(inside.header->used == 0);
		MUST(active_of(&inside) == 0);
		MUST(epoch_of(&inside) == 0);
		MUST(entry_of(&inside, token).state == EVERING_ENTRY_FREE);
		for (side = 0; side < 2; side++) {
			MUST(open_name(BUFFER, side) == -ENOENT);
			MUST(open_token(token, side) == -ENOENT);
		}
		MUST(unlink_token(token) == -ENOENT);
		MUST(unlink_name(BUFFER) == -ENOENT);
		/* The name is free here, and tokens differ from those outside. */
		MUST(do_create(EVERING_KIND_TOPIC, BUFFER, 0666, &mine[0]) >= 0);
		MUST(do_create(EVERING_KIND_TOPIC, BUFFER, 0666, NULL) == -EEXIST);
		MUST(do_create(EVERING_KIND_TOPIC, "", 0666, &mine[1]) >= 0);
		MUST(mine[0] != token && mine[1] != token && mine[0] != mine[1]);
		MUST(active_of(&inside) == 2);
		MUST(entry_of(&inside, mine[0]).kind == EVERING_KIND_TOPIC);
		MUST(active_of(&outside) == 1);
		/* It is older than those here, and was never one of them. */
		for (side = 0; side < 2; side++) {
			ret = open_token(token, side);
			MUST(ret == -ENOENT || ret == -ESTALE);
		}
		ret = unlink_token(token);
		MUST(ret == -ENOENT || ret == -ESTALE);
		_exit(0);
	}
	EXPECT_EQ(0, reap(pid));
	EXPECT_EQ(1, active_of(&outside));
	EXPECT_EQ(outside_next, next_token_of(&outside));
	EXPECT_EQ(EVERING_ENTRY_ACTIVE, entry_of(&outside, token).state);
	EXPECT_LE(0, open_name(BUFFER, EVERING_SIDE_B));
	EXPECT_EQ(EVERING_KIND_BUFFER, entry_of(&outside, token).kind);
	/* All that was made inside has gone. */
	EXPECT_EQ(before.urings + 1, count().urings);
}

TEST(control_file_stays_with_its_namespace)
{
	int control = open(DEVICE, O_RDWR | O_CLOEXEC);
	struct view v;
	pid_t pid;

	ASSERT_LE(0, control);
	ASSERT_TRUE(view_map(&v, control));
	pid = spawn();
	if (!pid) {
		struct evering_create args = create_args(EVERING_KIND_BUFFER, BUFFER);
		struct evering_open open_it;
		struct evering_unlink unlink_it = unlink_args(0, BUFFER);
		struct view late;

		MUST(!unshare(CLONE_NEWNET));
		MUST(call(control, EVERING_IOC_CREATE, &args) >= 0);
		MUST(active_of(&v) == 1);
		MUST(entry_of(&v, args.token).state == EVERING_ENTRY_ACTIVE);
		/* Mapped here, it is that of the file still. */
		MUST(view_map(&late, control));
		MUST(entry_of(&late, args.token).token == args.token);
		open_it = open_args(0, BUFFER, EVERING_SIDE_B);
		MUST(call(control, EVERING_IOC_OPEN, &open_it) >= 0);
		MUST(open_it.token == args.token);
		MUST(open_name(BUFFER, EVERING_SIDE_B) == -ENOENT);
		MUST(call(control, EVERING_IOC_UNLINK, &unlink_it) == 0);
		MUST(entry_of(&v, args.token).state == EVERING_ENTRY_MARKED);
		_exit(0);
	}
	EXPECT_EQ(0, reap(pid));
	EXPECT_EQ(0, active_of(&v));
}

/* An endpoint, a control file or a mapping is enough to keep it. */
TEST(registry_lives_as_long_as_anything_of_it)
{
	int old = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	struct counters before = count();
	uint64_t token;
	struct view v;
	int fd;

	ASSERT_LE(0, old);
	ASSERT_EQ(0, unshare(CLONE_NEWNET));
	fd = do_create(EVERING_KIND_BUFFER, BUFFER, 0666, &token);
	EXPECT_TRUE(view_here(&v));
	ASSERT_EQ(0, setns(old, CLONE_NEWNET));
	ASSERT_LE(0, fd);
	close(v.control);
	/* Namespaces are taken down by a kernel thread. */
	sleep_ms(100);
	EXPECT_EQ(token, entry_of(&v, token).token);
	EXPECT_EQ(EVERING_ENTRY_ACTIVE, entry_of(&v, token).state);
	EXPECT_EQ(-ENOENT, open_name(BUFFER, EVERING_SIDE_B));
	munmap((void *)v.header, v.bytes);
	sleep_ms(100);
	/* DUP needs no control file. */
	EXPECT_LE(0, close(do_dup(fd)));
	EXPECT_EQ(before.urings + 1, count().urings);
	close(fd);
	EXPECT_TRUE(settles(&before));
}

#define MAX_NAMESPACES	"/proc/sys/user/max_net_namespaces"

/* Only one may there be, so that one that stays is in the way of the next. */
FIXTURE(one_namespace)
{
	unsigned long long most;
	int old;
};

FIXTURE_SETUP(one_namespace)
{
	self->old = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, self->old);
	self->most = read_number(MAX_NAMESPACES);
	ASSERT_TRUE(write_number(MAX_NAMESPACES, 1));
}

FIXTURE_TEARDOWN(one_namespace)
{
	EXPECT_TRUE(write_number(MAX_NAMESPACES, self->most));
}

/* Once those before have been taken down. */
static bool unshare_within(unsigned int ms)
{
	uint64_t end = now_ns() + ms * MS;

	do {
		if (!unshare(CLONE_NEWNET))
			return true;
		sleep_ms(10);
	} while (errno == ENOSPC && now_ns() < end);
	return false;
}

TEST_F(one_namespace, ends_with_the_last_thing_that_is_in_it)
{
	uint64_t token;
	struct view v;
	int fd, what;

	for (what = 0; what < 4; what++) {
		ASSERT_TRUE(unshare_within(PATIENCE)) TH_LOG("after %d", what - 1);
		ASSERT_TRUE(view_here(&v));
		/* What failed must not keep it either. */
		fd = open_token(1, EVERING_SIDE_A);
		EXPECT_EQ(-ENOENT, fd);
		fd = what == 3 ? do_listen(NAME) :
		     what == 2 ? do_create(EVERING_KIND_TOPIC, BUFFER, 0600, &token) : -1;
		ASSERT_EQ(0, setns(self->old, CLONE_NEWNET));
		/* 0: a control file; 1: a mapping; 2: an endpoint; 3: a service */
		if (what != 1)
			munmap((void *)v.header, v.bytes);
		if (what != 0)
			close(v.control);
		EXPECT_FALSE(unshare_within(200)) TH_LOG("what %d", what);
		EXPECT_EQ(ENOSPC, errno);
		if (what == 1)
			munmap((void *)v.header, v.bytes);
		close(what ? fd : v.control);
	}
	EXPECT_TRUE(unshare_within(PATIENCE));
	EXPECT_EQ(0, setns(self->old, CLONE_NEWNET));
}

/* Children that make urings in namespaces of their own, and are killed. */
TEST(all_of_a_namespace_goes_with_its_processes)
{
	struct counters before = count();
	int out[2], i;
	pid_t pid[4];

	ASSERT_EQ(0, pipe(out));
	for (i = 0; i < 4; i++) {
		pid[i] = spawn();
		if (!pid[i]) {
			struct evering_accept accepted;
			int kind, service;
			uint64_t token;

			MUST(!unshare(CLONE_NEWNET));
			for (kind = 0; kind < NR_KINDS; kind++) {
				MUST(do_create(kind, "", 0600, &token) >= 0);
				MUST(open_token(token, EVERING_SIDE_B) >= 0);
			}
			service = do_listen(NAME);
			MUST(service >= 0);
			MUST(do_connect(NAME, NULL) >= 0);
			MUST(do_accept(service, &accepted) >= 0);
			MUST(do_connect(NAME, NULL) >= 0);
			say(out[1], 1);
			for (;;)
				pause();
		}
	}
	for (i = 0; i < 4; i++)
		EXPECT_EQ(1, hear(out[0]));
	EXPECT_EQ(before.urings + 4 * (NR_KINDS + 2), count().urings);
	for (i = 0; i < 4; i++)
		end(pid[i]);
	EXPECT_TRUE(settles(&before));
}

/* --------------------------------------------------------- user namespaces */

TEST(users_are_shown_as_the_owner_of_the_network_knows_them)
{
	int go[2], out[2], net, fd, old = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	uint64_t token, outside;
	struct view here;
	char path[64];
	pid_t pid;

	ASSERT_EQ(0, pipe(go));
	ASSERT_EQ(0, pipe(out));
	ASSERT_TRUE(view_here(&here));
	pid = spawn();
	if (!pid) {
		struct evering_registry_entry e;
		struct view v;

		become(OWNER);
		MUST(do_create(EVERING_KIND_BUFFER, "", 0600, &token) >= 0);
		say(out[1], token);
		become_root_of_namespace(1000, CLONE_NEWNET);
		MUST(view_here(&v));
		MUST(do_create(EVERING_KIND_BUFFER, "", 0600, &token) >= 0);
		e = entry_of(&v, token);
		MUST(e.uid == 0 && e.gid == 0 && e.pid == getpid());
		say(out[1], 1);
		/* One of the real root, whom this namespace does not know. */
		token = hear(go[0]);
		e = entry_of(&v, token);
		MUST(e.token == token);
		MUST(e.uid == OVERFLOW_ID && e.gid == OVERFLOW_ID);
		MUST(e.pid == getppid());
		_exit(0);
	}
	outside = hear(out[0]);
	ASSERT_NE(NOT_SENT, outside);
	/* Who looks does not matter, nor where the creator is now. */
	EXPECT_EQ(outside, entry_of(&here, outside).token);
	EXPECT_EQ(1000, entry_of(&here, outside).uid);
	EXPECT_EQ(1000, entry_of(&here, outside).gid);
	ASSERT_EQ(1, hear(out[0]));
	EXPECT_EQ(1000, entry_of(&here, outside).uid);
	snprintf(path, sizeof(path), "/proc/%d/ns/net", pid);
	net = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, net);
	ASSERT_EQ(0, setns(net, CLONE_NEWNET));
	fd = do_create(EVERING_KIND_BUFFER, "", 0600, &token);
	ASSERT_EQ(0, setns(old, CLONE_NEWNET));
	ASSERT_LE(0, fd);
	say(go[1], token);
	EXPECT_EQ(0, reap(pid));
}

/* "As it saw itself": for a person who looks into the container. */
TEST(pid_is_that_of_the_creators_own_namespace)
{
	uint64_t token;
	pid_t pid, inner;
	struct view v;

	ASSERT_TRUE(view_here(&v));
	pid = spawn();
	if (!pid) {
		MUST(!unshare(CLONE_NEWPID));
		inner = spawn();
		if (!inner) {
			MUST(do_create(EVERING_KIND_BUFFER, "", 0600, &token) >= 0);
			MUST(entry_of(&v, token).pid == 1);
			_exit(0);
		}
		_exit(reap(inner));
	}
	EXPECT_EQ(0, reap(pid));
}

TEST_HARNESS_MAIN
