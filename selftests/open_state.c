// SPDX-License-Identifier: GPL-2.0
/*
 * What OPEN, UNLINK and DUP refuse for what the uring is, and who has it: tokens
 * and names of nobody, sides that are taken, dead or of one endpoint only.
 */
#include <sys/param.h>

#include "ioctl_test.h"
#include "registry_test.h"

#define EACH_SIDE(kind, side)						\
	for (kind = 0; kind < NR_KINDS; kind++)				\
		for (side = 0; side < 2; side++)

#define OPEN(args)	device_call(EVERING_IOC_OPEN, &(args))
#define UNLINK(args)	device_call(EVERING_IOC_UNLINK, &(args))

/* A uring of each kind with an open side A; sides B are open where asked for. */
FIXTURE(each)
{
	int fd[NR_KINDS][2];
	uint64_t token[NR_KINDS];
	char name[NR_KINDS][16];
};

FIXTURE_SETUP(each)
{
	int kind;

	for (kind = 0; kind < NR_KINDS; kind++) {
		snprintf(self->name[kind], sizeof(self->name[kind]), "test.%d", kind);
		self->fd[kind][0] = do_create(kind, self->name[kind], 0600, &self->token[kind]);
		ASSERT_LE(0, self->fd[kind][0]);
		self->fd[kind][1] = -1;
	}
}

FIXTURE_TEARDOWN(each)
{
	int kind;

	for (kind = 0; kind < NR_KINDS; kind++) {
		close(self->fd[kind][0]);
		close(self->fd[kind][1]);
	}
}

static void open_sides_b(struct __test_metadata *_metadata, FIXTURE_DATA(each) *self)
{
	int kind;

	for (kind = 0; kind < NR_KINDS; kind++) {
		self->fd[kind][1] = open_token(self->token[kind], EVERING_SIDE_B);
		ASSERT_LE(0, self->fd[kind][1]);
	}
}

/* ------------------------------------------------------------ which uring */

TEST_F(each, open_and_unlink_want_either_a_token_or_a_name)
{
	struct evering_open open_it = open_args(self->token[0], self->name[0], 1);
	struct evering_unlink unlink_it = unlink_args(self->token[0], self->name[0]);

	EXPECT_EQ(-EINVAL, OPEN(open_it));
	EXPECT_EQ(-EINVAL, UNLINK(unlink_it));
	open_it.token = 0;
	unlink_it.token = 0;
	open_it.name[0] = 0;
	unlink_it.name[0] = 0;
	/* What stands behind the NUL is no name. */
	EXPECT_EQ(-EINVAL, OPEN(open_it));
	EXPECT_EQ(-EINVAL, UNLINK(unlink_it));
	open_it.token = self->token[0];
	EXPECT_LE(0, OPEN(open_it));
	unlink_it.token = self->token[0];
	EXPECT_EQ(0, UNLINK(unlink_it));
}

TEST_F(each, names_that_can_not_be_are_refused_by_all_three)
{
	static const char * const bad[] = { " ", "a b", "a\n", "\x7f", "\x80", "\xc3\xa4" };
	struct evering_create create = create_args(EVERING_KIND_BUFFER, "");
	struct evering_open open_it = open_args(0, "", EVERING_SIDE_B);
	struct evering_unlink unlink_it = unlink_args(0, "");
	struct counters before = count();
	int i, fd;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		strcpy(create.name, bad[i]);
		strcpy(open_it.name, bad[i]);
		strcpy(unlink_it.name, bad[i]);
		EXPECT_EQ(-EINVAL, device_call(EVERING_IOC_CREATE, &create)) TH_LOG("%d", i);
		EXPECT_EQ(-EINVAL, OPEN(open_it)) TH_LOG("%d", i);
		EXPECT_EQ(-EINVAL, UNLINK(unlink_it)) TH_LOG("%d", i);
	}
	memset(create.name, 'n', sizeof(create.name));
	memset(open_it.name, 'n', sizeof(open_it.name));
	memset(unlink_it.name, 'n', sizeof(unlink_it.name));
	EXPECT_EQ(-ENAMETOOLONG, device_call(EVERING_IOC_CREATE, &create));
	EXPECT_EQ(-ENAMETOOLONG, OPEN(open_it));
	EXPECT_EQ(-ENAMETOOLONG, UNLINK(unlink_it));
	EXPECT_TRUE(settles(&before));

	create.name[EVERING_NAME_MAX] = 0;
	open_it.name[EVERING_NAME_MAX] = 0;
	unlink_it.name[EVERING_NAME_MAX] = 0;
	fd = device_call(EVERING_IOC_CREATE, &create);
	EXPECT_LE(0, fd);
	EXPECT_LE(0, OPEN(open_it));
	/* All of it counts. */
	open_it.token = 0;
	open_it.name[EVERING_NAME_MAX - 1] = 0;
	EXPECT_EQ(-ENOENT, OPEN(open_it));
	EXPECT_EQ(0, UNLINK(unlink_it));
}

TEST_F(each, nobody_has_this_token_or_this_name)
{
	struct view v;
	int service = do_listen(NAME);
	int fd = do_connect(NAME, NULL), side;

	ASSERT_LE(0, service);
	ASSERT_LE(0, fd);
	ASSERT_TRUE(view_here(&v));
	for (side = 0; side < 2; side++) {
		EXPECT_EQ(-ENOENT, open_token(next_token_of(&v), side));
		EXPECT_EQ(-ENOENT, open_token(self->token[0] | 1ULL << 62, side));
		EXPECT_EQ(-ENOENT, open_token(-1ULL, side));
		EXPECT_EQ(-ENOENT, open_name("test.nobody", side));
		EXPECT_EQ(-ENOENT, open_name("test.", side));
		EXPECT_EQ(-ENOENT, open_name("test.00", side));
		/* Neither a service nor who is connected to it can be opened by name. */
		EXPECT_EQ(-ENOENT, open_name(NAME, side));
	}
	EXPECT_EQ(-ENOENT, unlink_token(next_token_of(&v)));
	EXPECT_EQ(-ENOENT, unlink_token(-1ULL));
	EXPECT_EQ(-ENOENT, unlink_name("test.nobody"));
	EXPECT_EQ(-ENOENT, unlink_name(NAME));
}

TEST_F(each, token_is_stale_after_the_last_close)
{
	int kind, side;

	open_sides_b(_metadata, self);
	EACH_SIDE(kind, side) {
		EXPECT_EQ(0, close(self->fd[kind][side]));
		self->fd[kind][side] = -1;
		if (!side)
			continue;
		EXPECT_EQ(-ESTALE, open_token(self->token[kind], 0)) TH_LOG("kind %d", kind);
		EXPECT_EQ(-ESTALE, open_token(self->token[kind], 1)) TH_LOG("kind %d", kind);
		EXPECT_EQ(-ESTALE, unlink_token(self->token[kind]));
		EXPECT_EQ(-ENOENT, open_name(self->name[kind], 1));
		EXPECT_EQ(-ENOENT, unlink_name(self->name[kind]));
	}
}

TEST_F(each, token_is_stale_after_unlink_and_the_name_is_free)
{
	struct evering_info info;
	int kind, fd;

	for (kind = 0; kind < NR_KINDS; kind++) {
		EXPECT_EQ(0, kind & 1 ? unlink_name(self->name[kind]) :
					unlink_token(self->token[kind]));
		EXPECT_EQ(-ESTALE, open_token(self->token[kind], 0));
		EXPECT_EQ(-ESTALE, open_token(self->token[kind], 1));
		EXPECT_EQ(-ESTALE, unlink_token(self->token[kind]));
		EXPECT_EQ(-ENOENT, open_name(self->name[kind], 1));
		EXPECT_EQ(-ENOENT, unlink_name(self->name[kind]));
		fd = do_create(kind, self->name[kind], 0600, NULL);
		EXPECT_LE(0, fd);
		/* The old one lives on, and its end takes nothing from the new one. */
		EXPECT_EQ(0, do_info(self->fd[kind][0], &info));
		EXPECT_EQ(self->token[kind], info.token);
		EXPECT_EQ(0, close(self->fd[kind][0]));
		self->fd[kind][0] = fd;
		fd = open_name(self->name[kind], EVERING_SIDE_B);
		EXPECT_LE(0, fd);
		close(fd);
	}
}

TEST_F(each, open_of_another_kind_is_eprototype)
{
	int kind, other, fd;

	for (kind = 0; kind < NR_KINDS; kind++) {
		struct evering_open args = open_args(self->token[kind], "", EVERING_SIDE_B);
		struct evering_open named = open_args(0, self->name[kind], EVERING_SIDE_B);

		for (other = 0; other < NR_KINDS; other++) {
			args.kind = other;
			named.kind = other;
			if (other != kind) {
				EXPECT_EQ(-EPROTOTYPE, OPEN(args));
				EXPECT_EQ(-EPROTOTYPE, OPEN(named));
			}
		}
		args.kind = NR_KINDS;
		EXPECT_EQ(-EOPNOTSUPP, OPEN(args));
		args.side = 2;
		args.kind = kind;
		EXPECT_EQ(-EINVAL, OPEN(args));
		args.side = EVERING_SIDE_B;
		fd = OPEN(args);
		EXPECT_LE(0, fd) TH_LOG("kind %d", kind);
		close(fd);
	}
}

/* -------------------------------------------------------------- which side */

TEST_F(each, side_that_is_taken_is_ebusy)
{
	int kind, side, fd;

	open_sides_b(_metadata, self);
	EACH_SIDE(kind, side) {
		fd = open_token(self->token[kind], side);
		EXPECT_EQ(many_on[kind][side] ? 0 : -EBUSY, MIN(fd, 0))
			TH_LOG("kind %d, side %d", kind, side);
		close(fd);
	}
}

TEST_F(each, side_that_has_died_is_epipe)
{
	int kind, side, fd, expected;

	open_sides_b(_metadata, self);
	EACH_SIDE(kind, side) {
		/* Once side B has gone as well, nobody is left. */
		expected = side == EVERING_SIDE_A ? -EPIPE : -ESTALE;
		EXPECT_EQ(0, close(self->fd[kind][side]));
		fd = open_token(self->token[kind], side);
		/* Of many, the first and the last are like any other. */
		if (many_on[kind][EVERING_SIDE_A])
			expected = 0;
		EXPECT_EQ(expected, MIN(fd, 0))
			TH_LOG("kind %d, side %d", kind, side);
		self->fd[kind][side] = fd;
	}
}

TEST_F(each, dead_side_b_is_epipe_too)
{
	int kind, fd;

	open_sides_b(_metadata, self);
	for (kind = 0; kind < NR_KINDS; kind++) {
		EXPECT_EQ(0, close(self->fd[kind][1]));
		fd = open_token(self->token[kind], EVERING_SIDE_B);
		EXPECT_EQ(many_on[kind][1] ? 0 : -EPIPE, MIN(fd, 0)) TH_LOG("kind %d", kind);
		self->fd[kind][1] = fd;
	}
}

TEST(open_of_a_connected_uring_is_eacces)
{
	int service = do_listen(NAME), side, state;
	struct evering_accept accepted;
	int fd[2] = { -1, -1 };
	uint64_t token;

	ASSERT_LE(0, service);
	fd[0] = do_connect(NAME, &token);
	ASSERT_LE(0, fd[0]);
	/* Before ACCEPT, after it, and when a side is free for good. */
	for (state = 0; state < 3; state++) {
		for (side = 0; side < 2; side++)
			EXPECT_EQ(-EACCES, open_token(token, side)) TH_LOG("state %d", state);
		if (state == 0)
			fd[1] = do_accept(service, &accepted);
		else
			close(fd[1]);
		EXPECT_LE(0, fd[1]);
	}
	EXPECT_EQ(0, unlink_token(token));
	EXPECT_EQ(-ESTALE, open_token(token, EVERING_SIDE_A));
}

/* Its backlog is not the registry's. */
TEST(unlink_of_a_connected_uring_leaves_it_connected)
{
	int service = do_listen(NAME), fd[2];
	struct evering_accept accepted;
	uint64_t token;

	ASSERT_LE(0, service);
	fd[0] = do_connect(NAME, &token);
	ASSERT_LE(0, fd[0]);
	EXPECT_EQ(0, unlink_token(token));
	EXPECT_EQ(-ESTALE, unlink_token(token));
	fd[1] = do_accept(service, &accepted);
	ASSERT_LE(0, fd[1]);
	EXPECT_EQ(token, accepted.token);
	EXPECT_EQ(EVERING_STATE_OPEN, peer_state(fd[0]));
	EXPECT_EQ(EVERING_STATE_OPEN, peer_state(fd[1]));
	EXPECT_LE(0, do_connect(NAME, NULL));
}

/* ------------------------------------------------------- control files, DUP */

TEST_F(each, read_only_control_file_opens_what_is_read_only)
{
	int control = open(DEVICE, O_RDONLY | O_CLOEXEC);
	int kind, side, fd;

	ASSERT_LE(0, control);
	for (kind = 0; kind < NR_KINDS; kind++) {
		struct evering_unlink args = unlink_args(self->token[kind], "");

		EXPECT_EQ(-EACCES, call(control, EVERING_IOC_UNLINK, &args));
		args = unlink_args(0, self->name[kind]);
		EXPECT_EQ(-EACCES, call(control, EVERING_IOC_UNLINK, &args));
	}
	EACH_SIDE(kind, side) {
		struct evering_open args = open_args(self->token[kind], "", side);

		fd = call(control, EVERING_IOC_OPEN, &args);
		EXPECT_EQ(read_only_on[kind][side] ? 0 : -EACCES, MIN(fd, 0))
			TH_LOG("kind %d, side %d", kind, side);
		close(fd);
	}
}

TEST_F(each, dup_of_a_side_of_one_endpoint_is_eopnotsupp)
{
	struct counters before;
	int kind, side, fd;

	open_sides_b(_metadata, self);
	before = count();
	EACH_SIDE(kind, side) {
		fd = do_dup(self->fd[kind][side]);
		if (many_on[kind][side]) {
			EXPECT_LE(0, fd) TH_LOG("kind %d, side %d", kind, side);
			EXPECT_EQ(before.endpoints + 1, count().endpoints);
		} else {
			EXPECT_EQ(-EOPNOTSUPP, fd) TH_LOG("kind %d, side %d", kind, side);
		}
		close(fd);
		EXPECT_TRUE(settles(&before));
	}
}

/* Also when others of its side live. */
TEST_F(each, dup_of_a_dead_endpoint_is_ebadfd)
{
	int kind, side, section, others;
	struct evering_info info;
	struct counters before;
	void *p;

	open_sides_b(_metadata, self);
	EACH_SIDE(kind, side) {
		int fd = self->fd[kind][side];

		if (!many_on[kind][side])
			continue;
		for (others = 1; others >= 0; others--) {
			int other = others ? do_dup(fd) : -1;

			EXPECT_EQ(0, do_info(fd, &info));
			section = read_only_on[kind][side] ? EVERING_SECTION_HEADER :
							     EVERING_SECTION_A + side;
			p = map_section(fd, &info.layout, section,
					read_only_on[kind][side] ? PROT_READ : RW);
			ASSERT_NE(MAP_FAILED, p);
			ASSERT_EQ(0, munmap(p, info.layout.section_size[section]));
			before = count();
			EXPECT_EQ(-EBADFD, do_dup(fd)) TH_LOG("kind %d, side %d", kind, side);
			EXPECT_TRUE(settles(&before));
			/* What it stood for can still be asked. */
			EXPECT_EQ(0, do_info(fd, &info));
			if (others) {
				close(fd);
				self->fd[kind][side] = other;
				fd = other;
			}
		}
	}
}

TEST_HARNESS_MAIN
