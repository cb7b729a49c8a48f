// SPDX-License-Identifier: GPL-2.0
/*
 * How much one user may have: the limits that the administrator sets for all,
 * and that of a memory cgroup.  What is refused must not have been counted.
 */
#include <sys/resource.h>
#include <sys/stat.h>

#include "ioctl_test.h"
#include "registry_test.h"

#define PARAMETERS	"/sys/module/evering/parameters/"
#define USER_ENTRIES	PARAMETERS "user_entries"
#define USER_BYTES	PARAMETERS "user_bytes"
/* of a buffer with a heap of one page: HEADER, A with its control page, B */
#define ONE_PAGE_BYTES	(4 * PAGE)

/* ------------------------------------------------------- limits of one side */

TEST(a_side_has_4095_endpoints)
{
	struct evering_create args = create_args(EVERING_KIND_QUEUE, "");
	int *fd = calloc(EVERING_MAX_OWNER, sizeof(*fd)), i;
	struct rlimit files, more;
	struct counters before;
	struct evering_info info;
	uint32_t freed;

	ASSERT_NE(NULL, fd);
	ASSERT_EQ(0, getrlimit(RLIMIT_NOFILE, &files));
	more = files;
	more.rlim_cur = more.rlim_max = 2 * EVERING_MAX_OWNER;
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &more));
	fd[0] = device_call(EVERING_IOC_CREATE, &args);
	for (i = 1; i < (int)EVERING_MAX_OWNER; i++) {
		ASSERT_LE(0, fd[i - 1]);
		fd[i] = do_dup(fd[0]);
	}
	ASSERT_LE(0, fd[i - 1]);
	before = count();
	EXPECT_EQ(-EBUSY, do_dup(fd[0]));
	EXPECT_EQ(-EBUSY, open_token(args.token, EVERING_SIDE_A));
	EXPECT_TRUE(settles(&before));
	/* The other side has its own, and the name of who goes is the next one's. */
	i = open_token(args.token, EVERING_SIDE_B);
	EXPECT_LE(0, i);
	close(i);
	ASSERT_EQ(0, do_info(fd[1000], &info));
	freed = info.owner;
	close(fd[1000]);
	fd[1000] = do_dup(fd[0]);
	ASSERT_LE(0, fd[1000]);
	ASSERT_EQ(0, do_info(fd[1000], &info));
	EXPECT_EQ(freed, info.owner);
	for (i = 0; i < (int)EVERING_MAX_OWNER; i++)
		close(fd[i]);
	free(fd);
	EXPECT_EQ(0, setrlimit(RLIMIT_NOFILE, &files));
}

/* ------------------------------------------------------- limits of one user */

FIXTURE(limits)
{
	unsigned long long entries, bytes;
};

FIXTURE_SETUP(limits)
{
	self->entries = read_number(USER_ENTRIES);
	self->bytes = read_number(USER_BYTES);
	ASSERT_LT(0, self->entries);
	ASSERT_LT(0, self->bytes);
}

FIXTURE_TEARDOWN(limits)
{
	/* Should a test have ended as somebody else */
	EXPECT_EQ(0, seteuid(0));
	EXPECT_TRUE(write_number(USER_ENTRIES, self->entries));
	EXPECT_TRUE(write_number(USER_BYTES, self->bytes));
}

/* What one page costs, so that sums are easy. */
static int create_page(const char *name)
{
	struct evering_create args = create_args(EVERING_KIND_BUFFER, name);

	args.geometry.heap_size[0] = PAGE;
	return device_call(EVERING_IOC_CREATE, &args);
}

TEST_F(limits, query_tells_them)
{
	struct evering_query args = { .size = sizeof(args) };

	ASSERT_TRUE(write_number(USER_ENTRIES, 7));
	ASSERT_TRUE(write_number(USER_BYTES, 123 * PAGE));
	ASSERT_EQ(0, device_call(EVERING_IOC_QUERY, &args));
	EXPECT_EQ(7, args.user_entries);
	EXPECT_EQ(123 * PAGE, args.user_bytes);
}

TEST_F(limits, entries_are_urings_and_services_of_a_user)
{
	pid_t pid;

	ASSERT_TRUE(write_number(USER_ENTRIES, 3));
	pid = spawn();
	if (!pid) {
		struct counters before;
		int fd[3];

		become(OWNER);
		fd[0] = do_listen(NAME);
		fd[1] = do_connect(NAME, NULL);
		fd[2] = create_page(BUFFER);
		MUST(fd[0] >= 0 && fd[1] >= 0 && fd[2] >= 0);
		before = count();
		MUST(create_page("") == -EDQUOT);
		MUST(do_connect(NAME, NULL) == -EDQUOT);
		MUST(do_listen(NAME ".2") == -EDQUOT);
		MUST(settles(&before));
		/* What is opened and duplicated is there already. */
		MUST(open_name(BUFFER, EVERING_SIDE_B) >= 0 && do_dup(fd[2]) >= 0);
		close(fd[1]);
		close(fd[0]);
		/* Room for two, and what fails takes none of it. */
		MUST(create_page(BUFFER) == -EEXIST);
		fd[0] = do_listen(NAME);
		MUST(fd[0] >= 0);
		MUST(do_listen(NAME) == -EEXIST);
		fd[1] = create_page("");
		MUST(fd[1] >= 0);
		MUST(create_page("") == -EDQUOT);
		close(fd[0]);
		MUST(create_page("") >= 0);
		MUST(create_page("") == -EDQUOT);
		_exit(0);
	}
	EXPECT_EQ(0, reap(pid));
}

TEST_F(limits, bytes_are_those_of_all_sections)
{
	pid_t pid;

	ASSERT_TRUE(write_number(USER_BYTES, 2 * ONE_PAGE_BYTES + PAGE));
	pid = spawn();
	if (!pid) {
		struct counters before = count();
		int fd[2];

		become(OWNER);
		fd[0] = create_page("");
		fd[1] = create_page("");
		MUST(fd[0] >= 0 && fd[1] >= 0);
		MUST(count().bytes == before.bytes + 2 * ONE_PAGE_BYTES);
		before = count();
		MUST(create_page("") == -EDQUOT);
		MUST(create_page("") == -EDQUOT);
		MUST(settles(&before));
		/* Services have no bytes, and clients have their own. */
		MUST(do_listen(NAME) >= 0);
		MUST(do_connect(NAME, NULL) == -EDQUOT);
		close(fd[0]);
		MUST(create_page("") >= 0);
		MUST(create_page("") == -EDQUOT);
		_exit(0);
	}
	EXPECT_EQ(0, reap(pid));
}

TEST_F(limits, who_has_created_it_pays_until_it_is_gone)
{
	int out[2], go[2];
	pid_t pid;

	ASSERT_EQ(0, pipe(out));
	ASSERT_EQ(0, pipe(go));
	ASSERT_TRUE(write_number(USER_ENTRIES, 1));
	pid = spawn();
	if (!pid) {
		int fd;

		become(OWNER);
		fd = do_create(EVERING_KIND_BUFFER, BUFFER, 0666, NULL);
		MUST(fd >= 0);
		say(out[1], 1);
		MUST(hear(go[0]) == 1);
		close(fd);
		/* Somebody else still reads it. */
		MUST(create_page("") == -EDQUOT);
		MUST(unlink_name(BUFFER) == 0);
		MUST(create_page("") == -EDQUOT);
		say(out[1], 2);
		MUST(hear(go[0]) == 2);
		MUST(create_page("") >= 0);
		_exit(0);
	}
	ASSERT_EQ(1, hear(out[0]));
	/* It is no concern of the reader, or of any other user. */
	ASSERT_EQ(0, setresuid(1001, 1001, 0));
	int reader = open_name(BUFFER, EVERING_SIDE_B);

	EXPECT_LE(0, reader);
	EXPECT_LE(0, create_page(""));
	EXPECT_EQ(-EDQUOT, create_page(""));
	say(go[1], 1);
	EXPECT_EQ(2, hear(out[0]));
	close(reader);
	say(go[1], 2);
	EXPECT_EQ(0, reap(pid));
	ASSERT_EQ(0, setresuid(0, 0, 0));
}

/* As resource limits do, these ask for the real user and the real root. */
TEST_F(limits, cap_sys_resource_is_exempt)
{
	int who;
	pid_t pid;

	ASSERT_TRUE(write_number(USER_ENTRIES, 1));
	ASSERT_TRUE(write_number(USER_BYTES, ONE_PAGE_BYTES));
	EXPECT_LE(0, create_page(""));
	EXPECT_LE(0, create_page(""));
	EXPECT_LE(0, do_listen(NAME));
	for (who = 0; who < 3; who++) {
		pid = spawn();
		if (!pid) {
			switch (who) {
			case 0:
				/* root, which has two already */
				drop_capability(CAP_SYS_RESOURCE);
				MUST(create_page("") == -EDQUOT);
				_exit(0);
			case 1:
				/* root by its real user, though it acts as another */
				MUST(!seteuid(1000));
				MUST(create_page("") == -EDQUOT);
				_exit(0);
			case 2:
				become(OWNER);
				MUST(create_page("") >= 0);
				become_root_of_namespace(1000, 0);
				MUST(create_page("") == -EDQUOT);
				_exit(0);
			}
		}
		EXPECT_EQ(0, reap(pid)) TH_LOG("who %d", who);
	}
	EXPECT_LE(0, create_page(""));
}

/* ------------------------------------------------------- limits of a cgroup */

#define CGROUPS	"/sys/fs/cgroup/"
#define GROUP	CGROUPS "evering.open/"

FIXTURE(memory)
{
	bool missing;
};

FIXTURE_SETUP(memory)
{
	char text[256];

	if (!strstr(read_text(CGROUPS "cgroup.controllers", text, sizeof(text)), "memory")) {
		self->missing = true;
		return;
	}
	ASSERT_TRUE(write_text(CGROUPS "cgroup.subtree_control", "+memory"));
	/* From a test that has failed, perhaps */
	rmdir(GROUP);
	ASSERT_EQ(0, mkdir(GROUP, 0755));
	ASSERT_TRUE(write_number(GROUP "memory.max", 4 << 20));
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

TEST_F(memory, create_beyond_the_limit_of_the_cgroup_is_enomem)
{
	pid_t pid;

	if (self->missing)
		SKIP(return, "no memory controller in " CGROUPS);
	pid = spawn();
	if (!pid) {
		struct evering_create args = create_args(EVERING_KIND_BUFFER, BUFFER);
		struct counters before = count();
		struct view v;
		int i;

		MUST(write_text(GROUP "cgroup.procs", "0"));
		MUST(view_here(&v));
		args.geometry.heap_size[0] = 64 << 20;
		for (i = 0; i < 3; i++) {
			MUST(device_call(EVERING_IOC_CREATE, &args) == -ENOMEM);
			MUST(args.token == NOT_WRITTEN);
			MUST(settles(&before));
			MUST(active_of(&v) == 0);
			MUST(open_name(BUFFER, EVERING_SIDE_B) == -ENOENT);
		}
		/* There is still room for what is small, under the same name. */
		MUST(create_page(BUFFER) >= 0);
		MUST(active_of(&v) == 1);
		_exit(0);
	}
	EXPECT_EQ(0, reap(pid));
}

TEST_HARNESS_MAIN
