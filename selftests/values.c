// SPDX-License-Identifier: GPL-2.0
/*
 * What each ioctl says and takes by itself: the values of QUERY, the bounds of
 * fields, the numbers that exist, and the mode of the device.  They are the
 * ABI, which programs already built rely on.
 */
#include <limits.h>
#include <sys/stat.h>

#include "ioctl_test.h"

#define OTHER		"test.ioctl.other"

TEST(query_values)
{
	struct evering_query args;

	memset(&args, 0xcc, sizeof(args));
	args.size = sizeof(args);
	args.flags = 0;
	ASSERT_EQ(0, device_call(EVERING_IOC_QUERY, &args));
	EXPECT_EQ(sizeof(args), args.size);
	EXPECT_EQ(0, args.flags);
	EXPECT_EQ(EVERING_ABI_VERSION, args.abi_version);
	EXPECT_EQ(65536, args.max_entries);
	EXPECT_EQ(4096, args.max_slot_size);
	EXPECT_EQ(4096, args.max_backlog);
	EXPECT_EQ(0, args.features);
	EXPECT_EQ(read_number(LIMIT), args.max_uring_bytes);
	EXPECT_LT(0, args.max_uring_bytes);
}

TEST(unknown_ioctl_numbers)
{
	char args[PAGE] = { 64 };
	struct channel c;
	int control = open(DEVICE, O_RDWR | O_CLOEXEC);
	unsigned int nr;

	ASSERT_LE(0, control);
	ASSERT_EQ(0, channel_open(&c, NAME));
	for (nr = 0; nr < 256; nr++) {
		unsigned int request = _IO(EVERING_IOC_MAGIC, nr);
		unsigned int foreign = _IO(EVERING_IOC_MAGIC ^ 1, nr);

		if (nr > 0x05)
			EXPECT_EQ(-ENOTTY, call(control, request, args));
		if (nr != 0x10)
			EXPECT_EQ(-ENOTTY, call(c.service, request, args));
		if (nr < 0x20 || nr > 0x24)
			EXPECT_EQ(-ENOTTY, call(c.fd[0], request, args));
		EXPECT_EQ(-ENOTTY, call(control, foreign, args));
		EXPECT_EQ(-ENOTTY, call(c.service, foreign, args));
		EXPECT_EQ(-ENOTTY, call(c.fd[1], foreign, args));
	}
}

TEST(accept_reserved_field)
{
	struct evering_accept args = blocking_accept(0);
	int service = do_listen(NAME);
	int client = do_connect(NAME, NULL);

	ASSERT_LE(0, service);
	ASSERT_LE(0, client);
	args.__resv = 1;
	EXPECT_EQ(-EINVAL, call(service, EVERING_IOC_ACCEPT, &args));
	args.__resv = 1U << 31;
	EXPECT_EQ(-EINVAL, call(service, EVERING_IOC_ACCEPT, &args));
	args.__resv = 0;
	EXPECT_LE(0, call(service, EVERING_IOC_ACCEPT, &args));
	EXPECT_EQ(0, args.__resv);
}

TEST(shutdown_values)
{
	struct evering_shutdown args = { .size = sizeof(args) };
	struct channel c;

	ASSERT_EQ(0, channel_open(&c, NAME));
	EXPECT_EQ(-EINVAL, call(c.fd[0], EVERING_IOC_SHUTDOWN, &args));
	args.how = EVERING_SHUT_WR | EVERING_SHUT_RD | 4;
	EXPECT_EQ(-EINVAL, call(c.fd[0], EVERING_IOC_SHUTDOWN, &args));
	args.how = 1U << 31;
	EXPECT_EQ(-EINVAL, call(c.fd[0], EVERING_IOC_SHUTDOWN, &args));
	args.how = EVERING_SHUT_WR;
	args.__resv = 1;
	EXPECT_EQ(-EINVAL, call(c.fd[0], EVERING_IOC_SHUTDOWN, &args));
	EXPECT_EQ(0, control_of(&c, 0)->closed);
	EXPECT_EQ(0, control_of(&c, 0)->rclosed);

	args.__resv = 0;
	EXPECT_EQ(0, call(c.fd[0], EVERING_IOC_SHUTDOWN, &args));
	EXPECT_EQ(1, control_of(&c, 0)->closed);
	EXPECT_EQ(0, control_of(&c, 0)->rclosed);
	args.how = EVERING_SHUT_RD;
	EXPECT_EQ(0, call(c.fd[1], EVERING_IOC_SHUTDOWN, &args));
	EXPECT_EQ(0, control_of(&c, 1)->closed);
	EXPECT_EQ(1, control_of(&c, 1)->rclosed);
}

TEST(enter_min_complete)
{
	struct channel c;

	ASSERT_EQ(0, channel_open(&c, NAME));
	/* Side A consumes the CQ with 16 entries, side B the SQ with 8. */
	EXPECT_EQ(-EINVAL, do_wait(c.fd[0], 0, 0, 0));
	EXPECT_EQ(-EINVAL, do_wait(c.fd[0], 0, 17, 0));
	EXPECT_EQ(-EINVAL, do_wait(c.fd[0], 0, UINT_MAX, 0));
	EXPECT_EQ(-ETIME, do_wait(c.fd[0], 0, 16, 0));
	EXPECT_EQ(-EINVAL, do_wait(c.fd[1], 0, 9, 0));
	EXPECT_EQ(-ETIME, do_wait(c.fd[1], 0, 8, 0));
	/* Not asked to wait for entries, so it does not matter. */
	EXPECT_EQ(0, do_wake(c.fd[0]));
}

TEST(read_only_device)
{
	struct evering_query query = { .size = sizeof(query) };
	struct evering_listen listen = listen_args(OTHER);
	struct evering_connect connect = dirty_connect(NAME);
	int service = do_listen(NAME);
	int fd = open(DEVICE, O_RDONLY | O_CLOEXEC);
	struct counters before = count();

	ASSERT_LE(0, service);
	ASSERT_LE(0, fd);
	EXPECT_EQ(0, call(fd, EVERING_IOC_QUERY, &query));
	EXPECT_EQ(EVERING_ABI_VERSION, query.abi_version);
	EXPECT_EQ(-EACCES, call(fd, EVERING_IOC_LISTEN, &listen));
	EXPECT_EQ(-EACCES, call(fd, EVERING_IOC_CONNECT, &connect));
	EXPECT_EQ(NOT_SENT, connect.token);
	EXPECT_TRUE(settles(&before));
	close(fd);

	fd = open(DEVICE, O_WRONLY | O_CLOEXEC);
	ASSERT_LE(0, fd);
	EXPECT_LE(0, call(fd, EVERING_IOC_LISTEN, &listen));
	EXPECT_LE(0, call(fd, EVERING_IOC_CONNECT, &connect));
}

TEST(device_mode)
{
	struct stat st;

	ASSERT_EQ(0, stat(DEVICE, &st));
	EXPECT_TRUE(S_ISCHR(st.st_mode));
	EXPECT_EQ(0666, st.st_mode & 07777);
}

TEST(listen_values)
{
	struct evering_listen args = listen_args(NAME);
	struct counters before = count();
	const uint32_t bad_modes[] = { 01000, 04222, 0100222, 1U << 31 };
	int fd, i;

	for (i = 0; i < ARRAY_SIZE(bad_modes); i++) {
		args.mode = bad_modes[i];
		EXPECT_EQ(-EINVAL, device_call(EVERING_IOC_LISTEN, &args));
	}
	args.mode = 0777;
	args.backlog = 0;
	EXPECT_EQ(-EINVAL, device_call(EVERING_IOC_LISTEN, &args));
	args.backlog = EVERING_MAX_BACKLOG + 1;
	EXPECT_EQ(-EINVAL, device_call(EVERING_IOC_LISTEN, &args));
	args.backlog = UINT_MAX;
	EXPECT_EQ(-EINVAL, device_call(EVERING_IOC_LISTEN, &args));
	EXPECT_TRUE(settles(&before));

	args.backlog = EVERING_MAX_BACKLOG;
	fd = device_call(EVERING_IOC_LISTEN, &args);
	EXPECT_LE(0, fd);
	close(fd);
	args.backlog = 1;
	args.mode = 0;
	EXPECT_LE(0, device_call(EVERING_IOC_LISTEN, &args));
}

TEST_HARNESS_MAIN
