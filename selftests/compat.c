// SPDX-License-Identifier: GPL-2.0
/*
 * A 32-bit program: no ioctl is for it, and what it may map is what anybody may.
 * It inherits what a 64-bit one has opened, or opens the device itself; vm/compat32.c
 * is that program.
 */
#include "ioctl_test.h"

#define PROGRAM		"/bin/compat32"

/* The exit status of the program, with up to five numbers behind @file. */
static int run32(const char *what, const char *file, int n, const unsigned long *numbers)
{
	char text[5][24], *argv[9] = { PROGRAM, (char *)what, (char *)file };
	pid_t pid = spawn();
	int i;

	if (pid)
		return reap(pid);
	for (i = 0; i < n; i++) {
		snprintf(text[i], sizeof(text[i]), "%lu", numbers[i]);
		argv[3 + i] = text[i];
	}
	execv(PROGRAM, argv);
	_exit(errno);
}

static int ioctl32(const char *file, unsigned long request, size_t size)
{
	return run32("ioctl", file, 2, (unsigned long[]){ request, size });
}

static int mmap32(const char *file, size_t len, int prot, int flags, uint64_t offset)
{
	return run32("mmap", file, 4,
		     (unsigned long[]){ len, prot, flags, offset / 4096 });
}

FIXTURE(compat)
{
	struct counters before;
	struct channel c;
	char file[2][16];	/* the endpoints, as the program is told */
	char service[16];
	char control[16];
	uint64_t registry_bytes;
};

/* No O_CLOEXEC: exec keeps it. */
static void hand_down(int fd, char text[16])
{
	fcntl(fd, F_SETFD, 0);
	snprintf(text, 16, "%d", fd);
}

FIXTURE_SETUP(compat)
{
	struct evering_query query = { .size = sizeof(query) };
	struct evering_connect args = connect_args(NAME);
	struct evering_accept accepted;
	int fd;

	/* ENOEXEC: a kernel that runs no such programs at all. */
	if (ioctl32("0", 0, 4) == ENOEXEC)
		SKIP(return, "this kernel runs no 32-bit programs");
	self->before = count();
	fd = open(DEVICE, O_RDWR);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, call(fd, EVERING_IOC_QUERY, &query));
	self->registry_bytes = query.registry_bytes;
	hand_down(fd, self->control);
	self->c.service = do_listen(NAME);
	ASSERT_LE(0, self->c.service);
	hand_down(self->c.service, self->service);
	self->c.fd[0] = device_call(EVERING_IOC_CONNECT, &args);
	ASSERT_LE(0, self->c.fd[0]);
	hand_down(self->c.fd[0], self->file[0]);
	self->c.fd[1] = do_accept(self->c.service, &accepted);
	ASSERT_LE(0, self->c.fd[1]);
	hand_down(self->c.fd[1], self->file[1]);
	self->c.layout = args.layout;
}

FIXTURE_TEARDOWN(compat)
{
}

TEST_F(compat, no_ioctl)
{
	static const struct {
		unsigned int request;
		size_t size;
	} all[] = {
		{ EVERING_IOC_QUERY, sizeof(struct evering_query) },
		{ EVERING_IOC_LISTEN, sizeof(struct evering_listen) },
		{ EVERING_IOC_CONNECT, sizeof(struct evering_connect) },
		{ EVERING_IOC_CREATE, sizeof(struct evering_create) },
		{ EVERING_IOC_OPEN, sizeof(struct evering_open) },
		{ EVERING_IOC_UNLINK, sizeof(struct evering_unlink) },
		{ EVERING_IOC_ACCEPT, sizeof(struct evering_accept) },
		{ EVERING_IOC_ENTER, sizeof(struct evering_enter) },
		{ EVERING_IOC_SHUTDOWN, sizeof(struct evering_shutdown) },
		{ EVERING_IOC_PEER, sizeof(struct evering_peer) },
		{ EVERING_IOC_DUP, sizeof(struct evering_dup) },
		{ EVERING_IOC_INFO, sizeof(struct evering_info) },
		{ 0, sizeof(uint32_t) },
	};
	const char *files[] = { DEVICE, self->control, self->service, self->file[0] };
	struct counters made = count();
	const char *file;
	size_t i, k;

	for (i = 0; i < sizeof(files) / sizeof(*files); i++) {
		file = files[i];
		for (k = 0; k < sizeof(all) / sizeof(*all); k++) {
			unsigned int request = all[k].request;

			EXPECT_EQ(ENOTTY, ioctl32(file, request, all[k].size)) {
				TH_LOG("%s, ioctl %#x", file, request);
			}
		}
	}
	EXPECT_TRUE(settles(&made));
	/* Nobody has died of it. */
	EXPECT_EQ(0, map_side(&self->c, 0));
	EXPECT_EQ(0, map_side(&self->c, 1));
	EXPECT_EQ(EVERING_STATE_OPEN, state_of(&self->c, 0, 1));
	EXPECT_EQ(EVERING_STATE_OPEN, state_of(&self->c, 1, 0));
}

TEST_F(compat, the_registry_is_read)
{
	const char *files[] = { DEVICE, self->control };
	size_t bytes = self->registry_bytes;
	int i;

	for (i = 0; i < 2; i++) {
		EXPECT_EQ(0, mmap32(files[i], bytes, PROT_READ, MAP_SHARED, 0));
		EXPECT_EQ(EACCES, mmap32(files[i], bytes, RW, MAP_SHARED, 0));
		EXPECT_EQ(EINVAL, mmap32(files[i], bytes, PROT_READ, MAP_PRIVATE, 0));
		EXPECT_EQ(EINVAL, mmap32(files[i], 4096, PROT_READ, MAP_SHARED, 0));
		EXPECT_EQ(EINVAL, mmap32(files[i], bytes, PROT_READ, MAP_SHARED, 4096));
		EXPECT_EQ(EPERM, mmap32(files[i], bytes, PROT_READ | PROT_EXEC, MAP_SHARED, 0));
	}
}

/* What is another's stays so. */
TEST_F(compat, sections_of_another)
{
	const __u64 *size = self->c.layout.section_size;
	int section;

	ASSERT_EQ(0, map_side(&self->c, 0));
	for (section = 0; section < 3; section++) {
		int prot = section == EVERING_SECTION_A ? RW : PROT_READ;

		EXPECT_EQ(EPERM, mmap32(self->file[0], size[section], prot, MAP_SHARED,
					EVERING_MMAP_OFFSET(section)));
	}
	EXPECT_EQ(EINVAL, mmap32(self->file[0], 4096, PROT_READ, MAP_SHARED,
				 EVERING_MMAP_OFFSET(3)));
	EXPECT_EQ(EVERING_STATE_OPEN, state_of(&self->c, 0, 0));
}

/* What is nobody's becomes its own, and dies with it as with any other process. */
TEST_F(compat, sections_of_its_own)
{
	const __u64 *size = self->c.layout.section_size;

	ASSERT_EQ(0, map_side(&self->c, 0));
	EXPECT_EQ(EACCES, mmap32(self->file[1], size[0], RW, MAP_SHARED, 0));
	EXPECT_EQ(EACCES, mmap32(self->file[1], size[1], RW, MAP_SHARED,
				 EVERING_MMAP_OFFSET(EVERING_SECTION_A)));
	EXPECT_EQ(EINVAL, mmap32(self->file[1], size[2], RW, MAP_PRIVATE,
				 EVERING_MMAP_OFFSET(EVERING_SECTION_B)));
	EXPECT_EQ(EVERING_STATE_OPEN, state_of(&self->c, 1, 0));
	EXPECT_EQ(0, mmap32(self->file[1], size[2], RW, MAP_SHARED,
			    EVERING_MMAP_OFFSET(EVERING_SECTION_B)));
	EXPECT_EQ(EVERING_STATE_DEAD, state_of(&self->c, 1, 0));
	EXPECT_EQ(1, *((char *)self->c.map[0][2] + size[2] - 1));
	EXPECT_EQ(EBADFD, mmap32(self->file[1], size[2], RW, MAP_SHARED,
				 EVERING_MMAP_OFFSET(EVERING_SECTION_B)));
	close(self->c.fd[0]);
	close(self->c.fd[1]);
	close(self->c.service);
	munmap(self->c.map[0][0], size[0]);
	munmap(self->c.map[0][1], size[1]);
	munmap(self->c.map[0][2], size[2]);
	EXPECT_TRUE(settles(&self->before));
}

TEST_HARNESS_MAIN
