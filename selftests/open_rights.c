// SPDX-License-Identifier: GPL-2.0
/*
 * Who may open and who may unlink: mode bits, capabilities, user namespaces.  A
 * wrong answer shows one user's memory to another.
 */
#include "ioctl_test.h"
#include "registry_test.h"

/* A uring of somebody else, held by this process. */
static int create_as(uid_t uid, gid_t gid, uint32_t kind, const char *name, uint32_t mode,
		     uint64_t *token)
{
	int fd;

	MUST(!setegid(gid) && !seteuid(uid));
	fd = do_create(kind, name, mode, token);
	MUST(!seteuid(0) && !setegid(0));
	return fd;
}

/* -------------------------------------------------------------- mode bits */

/* For each single bit of a mode, a buffer of user and group 1000. */
FIXTURE(modes)
{
	int fd[9];
};

FIXTURE_SETUP(modes)
{
	char name[16];
	int bit;

	for (bit = 0; bit < 9; bit++) {
		snprintf(name, sizeof(name), "mode.%o", 1 << bit);
		self->fd[bit] = create_as(1000, 1000, EVERING_KIND_BUFFER, name, 1 << bit, NULL);
		ASSERT_LE(0, self->fd[bit]);
	}
}

FIXTURE_TEARDOWN(modes)
{
	int bit;

	for (bit = 0; bit < 9; bit++)
		close(self->fd[bit]);
}

/* In a child: does each side open for the bits in its @mask, and no other? */
static void opens_for(uint32_t side_a, uint32_t side_b)
{
	uint32_t masks[2] = { side_a, side_b };
	char name[16];
	int bit, side, fd;

	for (bit = 0; bit < 9; bit++) {
		snprintf(name, sizeof(name), "mode.%o", 1 << bit);
		for (side = 0; side < 2; side++) {
			fd = open_name(name, side);
			if (masks[side] & 1 << bit)
				MUST(fd >= 0);
			else
				MUST(fd == -EACCES);
			close(fd);
		}
	}
}

static int opens_as(uid_t uid, gid_t gid, gid_t extra, uint32_t side_a, uint32_t side_b)
{
	pid_t pid = spawn();

	if (!pid) {
		become(uid, gid, extra);
		opens_for(side_a, side_b);
		_exit(0);
	}
	return reap(pid);
}

TEST_F(modes, owner_group_and_others_have_a_bit_for_each_side)
{
	EXPECT_EQ(0, opens_as(OWNER, 0200, 0400));
	/* As on a file: the owner has no use for the bits of the group. */
	EXPECT_EQ(0, opens_as(1000, 1001, 1001, 0200, 0400));
	EXPECT_EQ(0, opens_as(MEMBER, 0020, 0040));
	EXPECT_EQ(0, opens_as(EXTRA, 0020, 0040));
	EXPECT_EQ(0, opens_as(OTHERS, 0002, 0004));
}

TEST_F(modes, root_overrides_them_by_its_capability)
{
	pid_t pid;

	EXPECT_EQ(0, opens_as(0, 0, 0, 0777, 0777));
	pid = spawn();
	if (!pid) {
		gid_t none = 0;

		MUST(!setgroups(1, &none));
		drop_capability(CAP_DAC_OVERRIDE);
		opens_for(0002, 0004);
		_exit(0);
	}
	EXPECT_EQ(0, reap(pid));
}

TEST_F(modes, root_of_a_user_namespace_is_like_any_other_here)
{
	int user;
	pid_t pid;

	for (user = 1000; user < 1002; user++) {
		pid = spawn();
		if (!pid) {
			become(user, user, user);
			become_root_of_namespace(user, 0);
			opens_for(user == 1000 ? 0200 : 0002, user == 1000 ? 0400 : 0004);
			_exit(0);
		}
		EXPECT_EQ(0, reap(pid)) TH_LOG("user %d", user);
	}
}

TEST(sides_of_all_kinds_ask_their_bits)
{
	uint64_t token[NR_KINDS][2];
	int kind, side, ret;
	pid_t pid;

	for (kind = 0; kind < NR_KINDS; kind++)
		for (side = 0; side < 2; side++) {
			struct evering_create args = create_args(kind, "");

			/* What the other side would need is not enough. */
			args.mode = side ? 0222 : 0444;
			args.side = many_on[kind][1] ? 0 : !side;
			EXPECT_LE(0, device_call(EVERING_IOC_CREATE, &args));
			token[kind][side] = args.token;
		}
	pid = spawn();
	if (!pid) {
		become(OTHERS);
		for (kind = 0; kind < NR_KINDS; kind++)
			for (side = 0; side < 2; side++) {
				ret = open_token(token[kind][side], side);
				MUST(ret == -EACCES);
			}
		_exit(0);
	}
	EXPECT_EQ(0, reap(pid));
}

/* ----------------------------------------------------------------- UNLINK */

TEST(unlink_is_for_the_owner_and_for_root)
{
	uint64_t token;
	int fd = create_as(1000, 1000, EVERING_KIND_BUFFER, BUFFER, 0777, &token);
	int user;
	pid_t pid;

	ASSERT_LE(0, fd);
	for (user = 0; user < 4; user++) {
		pid = spawn();
		if (!pid) {
			switch (user) {
			case 0:
				become(MEMBER);
				break;
			case 1:
				become(OTHERS);
				break;
			case 2:
				become(OTHERS);
				become_root_of_namespace(1001, 0);
				break;
			case 3:
				drop_capability(CAP_FOWNER);
				break;
			}
			MUST(unlink_token(token) == -EACCES);
			MUST(unlink_name(BUFFER) == -EACCES);
			MUST(open_name(BUFFER, EVERING_SIDE_A) >= 0);
			_exit(0);
		}
		EXPECT_EQ(0, reap(pid)) TH_LOG("user %d", user);
	}
	EXPECT_EQ(0, unlink_token(token));
	EXPECT_EQ(-ESTALE, open_token(token, EVERING_SIDE_B));

	fd = create_as(1000, 1000, EVERING_KIND_BUFFER, BUFFER, 0, NULL);
	ASSERT_LE(0, fd);
	pid = spawn();
	if (!pid) {
		/* The owner, whatever the mode */
		become(OWNER);
		MUST(open_name(BUFFER, EVERING_SIDE_A) == -EACCES);
		MUST(unlink_name(BUFFER) == 0);
		MUST(unlink_name(BUFFER) == -ENOENT);
		_exit(0);
	}
	EXPECT_EQ(0, reap(pid));
}

/* In a network of the namespace, of somebody that it does and does not know. */
TEST(root_of_a_user_namespace_overrides_whom_it_knows)
{
	int go[2], out[2], net, fd[2];
	uint64_t known, stranger;
	char path[64];
	pid_t pid;

	ASSERT_EQ(0, pipe(go));
	ASSERT_EQ(0, pipe(out));
	pid = spawn();
	if (!pid) {
		become(OWNER);
		become_root_of_namespace(1000, CLONE_NEWNET);
		say(out[1], 1);
		known = hear(go[0]);
		stranger = hear(go[0]);
		MUST(open_token(known, EVERING_SIDE_A) >= 0);
		MUST(open_token(known, EVERING_SIDE_B) >= 0);
		MUST(open_token(stranger, EVERING_SIDE_A) == -EACCES);
		MUST(open_token(stranger, EVERING_SIDE_B) == -EACCES);
		MUST(unlink_token(stranger) == -EACCES);
		MUST(unlink_token(known) == 0);
		_exit(0);
	}
	ASSERT_EQ(1, hear(out[0]));
	snprintf(path, sizeof(path), "/proc/%d/ns/net", pid);
	net = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, net);
	ASSERT_EQ(0, setns(net, CLONE_NEWNET));
	fd[0] = create_as(1000, 1000, EVERING_KIND_BUFFER, "", 0, &known);
	fd[1] = do_create(EVERING_KIND_BUFFER, "", 0, &stranger);
	ASSERT_LE(0, fd[0]);
	ASSERT_LE(0, fd[1]);
	say(go[1], known);
	say(go[1], stranger);
	EXPECT_EQ(0, reap(pid));
}

TEST_HARNESS_MAIN
