// SPDX-License-Identifier: GPL-2.0
/* Leases of a queue, without anybody asleep: taking, giving back, what is none. */
#include <linux/seccomp.h>

#include "leases.h"

FIXTURE(lease)
{
	struct evering_queue *q;
	struct counters before;
};

FIXTURE_SETUP(lease)
{
	self->before = counters_now();
	ASSERT_EQ(0, create_queue(&self->q));
}

FIXTURE_TEARDOWN(lease)
{
	evering_queue_close(self->q);
	EXPECT_TRUE(counters_return(&self->before));
}

TEST_F(lease, acknowledged_in_any_order)
{
	struct evering_queue_lease a, b, c;
	int i;

	for (i = 1; i <= 3; i++)
		ASSERT_EQ(0, try_push(self->q, i));
	ASSERT_EQ(1, try_lease(self->q, &a));
	ASSERT_EQ(2, try_lease(self->q, &b));
	ASSERT_EQ(3, try_lease(self->q, &c));
	EXPECT_EQ(1, a.deliveries);
	EXPECT_EQ(1, b.deliveries);
	EXPECT_EQ(1, c.deliveries);
	EXPECT_EQ(-EAGAIN, try_lease(self->q, &c));
	EXPECT_EQ(0, evering_queue_ack(self->q, &b));
	EXPECT_EQ(0, evering_queue_ack(self->q, &c));
	EXPECT_EQ(0, evering_queue_ack(self->q, &a));
	EXPECT_EQ(-EAGAIN, try_lease(self->q, &a));
	EXPECT_TRUE(counted(self->q, 0, 0, 0));
}

TEST_F(lease, over_many_laps)
{
	struct evering_queue_lease lease[ENTRIES];
	uint64_t i, j, back;

	for (j = 0; j < 10; j++) {
		for (i = 0; i < ENTRIES; i++)
			ASSERT_EQ(0, try_push(self->q, j * 1000 + i));
		ASSERT_EQ(-EAGAIN, try_push(self->q, 0));
		for (i = 0; i < ENTRIES; i++)
			ASSERT_EQ(j * 1000 + i, try_lease(self->q, &lease[i]));
		/* One comes back, each time another one. */
		back = (j * 7) % ENTRIES;
		ASSERT_EQ(0, evering_queue_nack(self->q, &lease[back]));
		ASSERT_EQ(j * 1000 + back, try_lease(self->q, &lease[back]));
		ASSERT_EQ(2, lease[back].deliveries);
		for (i = 0; i < ENTRIES; i++)
			ASSERT_EQ(0, evering_queue_ack(self->q, &lease[i]));
	}
	EXPECT_TRUE(counted(self->q, 0, 0, 0));
}

TEST_F(lease, deliveries_are_counted_up_to_a_limit)
{
	struct evering_queue_lease lease;
	unsigned int i;

	ASSERT_EQ(0, try_push(self->q, 7));
	for (i = 1; i <= 300; i++) {
		ASSERT_EQ(7, try_lease(self->q, &lease));
		ASSERT_EQ(i < 256 ? i : 256, lease.deliveries);
		ASSERT_EQ(0, evering_queue_nack(self->q, &lease));
	}
	ASSERT_EQ(7, try_lease(self->q, &lease));
	EXPECT_EQ(0, evering_queue_ack(self->q, &lease));
	/* The slot is as good as any. */
	for (i = 0; i < ENTRIES; i++)
		ASSERT_EQ(0, try_push(self->q, i));
	for (i = 0; i < ENTRIES; i++) {
		ASSERT_EQ(i, try_lease(self->q, &lease));
		ASSERT_EQ(1, lease.deliveries);
		ASSERT_EQ(0, evering_queue_ack(self->q, &lease));
	}
	/* What is given back is nobody's death. */
	EXPECT_TRUE(counted(self->q, 0, 0, 0));
}

TEST_F(lease, what_came_back_goes_first)
{
	struct evering_queue_lease a, b, c;
	int64_t first;
	int i;

	for (i = 1; i <= 3; i++)
		ASSERT_EQ(0, try_push(self->q, i));
	ASSERT_EQ(1, try_lease(self->q, &a));
	ASSERT_EQ(2, try_lease(self->q, &b));
	ASSERT_EQ(0, evering_queue_nack(self->q, &b));
	ASSERT_EQ(0, evering_queue_nack(self->q, &a));
	first = try_lease(self->q, &a);
	EXPECT_TRUE(first == 1 || first == 2);
	EXPECT_EQ(3 - first, try_lease(self->q, &b));
	EXPECT_EQ(2, a.deliveries);
	EXPECT_EQ(2, b.deliveries);
	EXPECT_EQ(3, try_lease(self->q, &c));
	EXPECT_EQ(1, c.deliveries);
	EXPECT_EQ(0, evering_queue_ack(self->q, &a));
	EXPECT_EQ(0, evering_queue_ack(self->q, &b));
	EXPECT_EQ(0, evering_queue_ack(self->q, &c));
}

/* ---------------------------------------------------------------- not a lease */

TEST_F(lease, a_queue_without_leases)
{
	const struct timespec soon = { .tv_nsec = 1000000 };
	struct evering_queue_lease lease = { 0 };
	struct evering_queue *q;
	struct item item;

	ASSERT_EQ(0, evering_queue_create(NULL, 0600, ENTRIES, sizeof(item), BOTH, &q));
	ASSERT_EQ(0, try_push(q, 1));
	EXPECT_EQ(-EOPNOTSUPP, evering_queue_try_lease(q, &item, &lease));
	EXPECT_EQ(-EOPNOTSUPP, evering_queue_lease(q, &item, &lease));
	EXPECT_EQ(-EOPNOTSUPP, evering_queue_lease_timeout(q, &item, &lease, &soon));
	EXPECT_EQ(-EINVAL, evering_queue_ack(q, &lease));
	EXPECT_EQ(-EINVAL, evering_queue_nack(q, &lease));
	/* What it would be, if it were one. */
	lease.claim = evering_word(1, 1, 1, EVERING_TAKEN);
	EXPECT_EQ(-EINVAL, evering_queue_ack(q, &lease));
	EXPECT_EQ(-EINVAL, evering_queue_nack(q, &lease));
	EXPECT_EQ(1, try_pop(q));
	evering_queue_close(q);
}

TEST_F(lease, given_back_twice)
{
	struct evering_queue_lease lease, again;

	ASSERT_EQ(0, try_push(self->q, 1));
	ASSERT_EQ(1, try_lease(self->q, &lease));
	ASSERT_EQ(0, evering_queue_nack(self->q, &lease));
	EXPECT_EQ(-EINVAL, evering_queue_nack(self->q, &lease));
	EXPECT_EQ(-EINVAL, evering_queue_ack(self->q, &lease));
	/* By the same endpoint: not the lease that it was. */
	ASSERT_EQ(1, try_lease(self->q, &again));
	EXPECT_EQ(-EINVAL, evering_queue_ack(self->q, &lease));
	EXPECT_EQ(-EINVAL, evering_queue_nack(self->q, &lease));
	EXPECT_EQ(0, evering_queue_ack(self->q, &again));
	EXPECT_EQ(-EINVAL, evering_queue_ack(self->q, &again));
	EXPECT_EQ(-EINVAL, evering_queue_nack(self->q, &again));
	EXPECT_EQ(-EAGAIN, try_lease(self->q, &again));
}

TEST_F(lease, of_a_lap_before)
{
	struct evering_queue_lease old, lease;
	unsigned int i;

	ASSERT_EQ(0, try_push(self->q, 1));
	ASSERT_EQ(1, try_lease(self->q, &old));
	ASSERT_EQ(0, evering_queue_ack(self->q, &old));
	for (i = 0; i < ENTRIES; i++) {
		ASSERT_EQ(0, try_push(self->q, i));
		ASSERT_EQ(i, try_lease(self->q, &lease));
		ASSERT_EQ(0, i < ENTRIES - 1 ? evering_queue_ack(self->q, &lease) : 0);
	}
	/* The same slot. */
	ASSERT_EQ(old.position + ENTRIES, lease.position);
	EXPECT_EQ(-EINVAL, evering_queue_ack(self->q, &old));
	EXPECT_EQ(-EINVAL, evering_queue_nack(self->q, &old));
	EXPECT_EQ(0, evering_queue_ack(self->q, &lease));
}

TEST_F(lease, forged)
{
	struct evering_queue_lease lease, forged = { 0 };
	int i;

	ASSERT_EQ(0, try_push(self->q, 1));
	ASSERT_EQ(0, try_push(self->q, 2));
	ASSERT_EQ(1, try_lease(self->q, &lease));
	EXPECT_EQ(-EINVAL, evering_queue_ack(self->q, &forged));
	EXPECT_EQ(-EINVAL, evering_queue_nack(self->q, &forged));
	/* An entry that nobody has, a lap that is not, each bit of the claim. */
	forged = lease;
	forged.position++;
	EXPECT_EQ(-EINVAL, evering_queue_ack(self->q, &forged));
	EXPECT_EQ(-EINVAL, evering_queue_nack(self->q, &forged));
	forged = lease;
	forged.position += ENTRIES;
	EXPECT_EQ(-EINVAL, evering_queue_ack(self->q, &forged));
	EXPECT_EQ(-EINVAL, evering_queue_nack(self->q, &forged));
	for (i = 0; i < 64; i++) {
		forged = lease;
		forged.claim ^= 1ULL << i;
		ASSERT_EQ(-EINVAL, evering_queue_ack(self->q, &forged));
		ASSERT_EQ(-EINVAL, evering_queue_nack(self->q, &forged));
	}
	/* It is not the claim that says so. */
	forged = lease;
	forged.deliveries = 99;
	EXPECT_EQ(0, evering_queue_nack(self->q, &forged));
	EXPECT_EQ(1, try_lease(self->q, &lease));
	EXPECT_EQ(2, lease.deliveries);
	EXPECT_EQ(0, evering_queue_ack(self->q, &lease));
	EXPECT_EQ(2, try_lease(self->q, &lease));
	EXPECT_EQ(0, evering_queue_ack(self->q, &lease));
}

TEST_F(lease, of_another_endpoint)
{
	struct evering_queue *consumer, *producer;
	struct evering_queue_lease lease, other;

	ASSERT_EQ(0, evering_queue_open(NULL, token, EVERING_QUEUE_POP, &consumer));
	ASSERT_EQ(0, evering_queue_open(NULL, token, EVERING_QUEUE_PUSH, &producer));
	ASSERT_EQ(0, try_push(producer, 1));
	EXPECT_EQ(-EBADF, try_lease(producer, &lease));
	ASSERT_EQ(1, try_lease(consumer, &lease));
	EXPECT_EQ(-EINVAL, evering_queue_ack(self->q, &lease));
	EXPECT_EQ(-EINVAL, evering_queue_nack(self->q, &lease));
	EXPECT_EQ(-EINVAL, evering_queue_ack(producer, &lease));
	EXPECT_EQ(-EINVAL, evering_queue_nack(producer, &lease));
	/* What one has given back is the other's. */
	ASSERT_EQ(0, evering_queue_nack(consumer, &lease));
	ASSERT_EQ(1, try_lease(self->q, &other));
	EXPECT_EQ(2, other.deliveries);
	EXPECT_EQ(-EINVAL, evering_queue_ack(consumer, &lease));
	EXPECT_EQ(-EINVAL, evering_queue_ack(consumer, &other));
	EXPECT_EQ(0, evering_queue_ack(self->q, &other));
	evering_queue_close(producer);
	evering_queue_close(consumer);
	EXPECT_TRUE(counted(self->q, 0, 0, 0));
}

/* ----------------------------------------------------------------------- room */

static void *push_one(void *arg)
{
	struct item item = { .number = 77 };

	return (void *)(intptr_t)evering_queue_push(arg, &item);
}

TEST_F(lease, keeps_its_room)
{
	const struct timespec soon = { .tv_nsec = 50000000 };
	struct evering_queue_lease lease[ENTRIES];
	struct pollfd out = {
		.fd = evering_queue_fd(self->q, EVERING_QUEUE_PUSH),
		.events = POLLOUT,
	};
	struct item item = { 0 };
	pthread_t push;
	void *got;
	int i;

	for (i = 0; i < ENTRIES; i++)
		ASSERT_EQ(0, try_push(self->q, i));
	for (i = 0; i < ENTRIES; i++)
		ASSERT_EQ(i, try_lease(self->q, &lease[i]));
	EXPECT_EQ(-EAGAIN, try_push(self->q, 0));
	EXPECT_EQ(-ETIME, evering_queue_push_timeout(self->q, &item, &soon));
	EXPECT_EQ(0, poll(&out, 1, 0));
	ASSERT_EQ(0, pthread_create(&push, NULL, push_one, self->q));
	ASSERT_TRUE(all_asleep(self->q, 'a', 1));
	/* Neither room behind the first, nor one that is given back, is room. */
	ASSERT_EQ(0, evering_queue_ack(self->q, &lease[1]));
	ASSERT_EQ(0, evering_queue_nack(self->q, &lease[0]));
	sleep_ms(50);
	EXPECT_EQ(1, asleep_on(self->q, 'a'));
	EXPECT_EQ(0, poll(&out, 1, 0));
	ASSERT_EQ(0, try_lease(self->q, &lease[0]));
	ASSERT_EQ(0, evering_queue_ack(self->q, &lease[0]));
	pthread_join(push, &got);
	EXPECT_EQ(0, (intptr_t)got);
	EXPECT_EQ(1, poll(&out, 1, 0));
	EXPECT_EQ(0, try_push(self->q, 78));
	EXPECT_EQ(-EAGAIN, try_push(self->q, 79));
	for (i = 2; i < ENTRIES; i++)
		ASSERT_EQ(0, evering_queue_ack(self->q, &lease[i]));
	EXPECT_EQ(77, try_pop(self->q));
	EXPECT_EQ(78, try_pop(self->q));
}

TEST_F(lease, slots_that_carry_nothing)
{
	struct evering_queue_slot slot[ENTRIES];
	struct evering_queue_lease lease;
	int i;

	/* 0, 2, 4 ... are cancelled. */
	for (i = 0; i < ENTRIES; i++)
		ASSERT_EQ(0, evering_queue_reserve(self->q, &slot[i]));
	for (i = 0; i < ENTRIES; i++) {
		((struct item *)slot[i].item)->number = i;
		ASSERT_EQ(0, i % 2 ? evering_queue_commit(self->q, &slot[i]) :
				     evering_queue_cancel(self->q, &slot[i]));
	}
	for (i = 1; i < ENTRIES; i += 2) {
		ASSERT_EQ(i, try_lease(self->q, &lease));
		ASSERT_EQ(1, lease.deliveries);
		ASSERT_EQ(0, evering_queue_ack(self->q, &lease));
	}
	EXPECT_EQ(-EAGAIN, try_lease(self->q, &lease));
	/* Nothing but such. */
	for (i = 0; i < ENTRIES; i++) {
		ASSERT_EQ(0, evering_queue_reserve(self->q, &slot[i]));
		ASSERT_EQ(0, evering_queue_cancel(self->q, &slot[i]));
	}
	EXPECT_EQ(-EAGAIN, try_lease(self->q, &lease));
	for (i = 0; i < ENTRIES; i++)
		ASSERT_EQ(0, try_push(self->q, i));
	EXPECT_TRUE(counted(self->q, 0, 0, 0));
}

/* ------------------------------------------------------------------- and pop */

TEST_F(lease, and_acknowledge_is_what_pop_does)
{
	struct item in[8] = { 0 }, out[8];
	struct evering_queue_lease lease;
	int i, j;

	for (j = 0; j < 3; j++) {
		for (i = 0; i < ENTRIES; i++)
			ASSERT_EQ(0, try_push(self->q, i));
		for (i = 0; i < ENTRIES; i++)
			ASSERT_EQ(i, try_pop(self->q));
		ASSERT_EQ(-EAGAIN, try_pop(self->q));
	}
	/* It takes what came back, and that first. */
	for (i = 0; i < 8; i++)
		in[i].number = i;
	ASSERT_EQ(8, evering_queue_try_push_bulk(self->q, in, 8));
	ASSERT_EQ(0, try_lease(self->q, &lease));
	ASSERT_EQ(0, evering_queue_nack(self->q, &lease));
	ASSERT_EQ(1, evering_queue_try_pop_bulk(self->q, out, 8));
	EXPECT_EQ(0, out[0].number);
	ASSERT_EQ(7, evering_queue_try_pop_bulk(self->q, out, 8));
	for (i = 0; i < 7; i++)
		EXPECT_EQ(i + 1, out[i].number);
	EXPECT_EQ(-EAGAIN, try_lease(self->q, &lease));
	for (i = 0; i < ENTRIES; i++)
		ASSERT_EQ(0, try_push(self->q, i));
}

TEST_F(lease, force_push_takes_no_leased_item)
{
	struct evering_queue_lease lease[ENTRIES];
	struct item item = { .number = 1000 }, oldest;
	int i;

	for (i = 0; i < ENTRIES; i++)
		ASSERT_EQ(0, try_push(self->q, i));
	for (i = 0; i < ENTRIES; i++)
		ASSERT_EQ(i, try_lease(self->q, &lease[i]));
	EXPECT_EQ(-EAGAIN, evering_queue_force_push(self->q, &item, &oldest));
	ASSERT_EQ(0, evering_queue_nack(self->q, &lease[0]));
	EXPECT_EQ(1, evering_queue_force_push(self->q, &item, &oldest));
	EXPECT_EQ(0, oldest.number);
}

/* ---------------------------------------------------------------------- costs */

/* With nobody asleep, all of it is done in memory. */
TEST_F(lease, makes_no_system_call)
{
	pid_t pid = fork_mortal();

	if (!pid) {
		struct evering_queue_lease a, b;
		struct evering_queue *q;
		int status = 0;

		if (evering_queue_open(NULL, token, BOTH, &q) || try_push(q, 1) ||
		    try_push(q, 2))
			_exit(1);
		/* From here on there is read, write and exit. */
		if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT))
			_exit(2);
		if (try_lease(q, &a) != 1 || try_lease(q, &b) != 2 ||
		    evering_queue_nack(q, &a) || evering_queue_ack(q, &b) ||
		    try_lease(q, &a) != 1 || a.deliveries != 2 ||
		    evering_queue_nack(q, &a) || try_pop(q) != 1)
			status = 3;
		syscall(SYS_exit, status);
	}
	EXPECT_EQ(0, reap(pid));
}

/* --------------------------------------------------------------- where it goes */

static unsigned int uring_flags(struct evering_queue *q, unsigned int access)
{
	struct evering_info info = { .size = sizeof(info) };

	return call(evering_queue_fd(q, access), EVERING_IOC_INFO, &info) ?
	       ~0U : info.uring_flags;
}

TEST_F(lease, is_told_by_info_and_fdinfo)
{
	char path[64], text[2048] = "";
	struct evering_queue *q;
	int fd;

	EXPECT_EQ(EVERING_URING_LEASE, uring_flags(self->q, EVERING_QUEUE_PUSH));
	EXPECT_EQ(EVERING_URING_LEASE, uring_flags(self->q, EVERING_QUEUE_POP));
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d",
		 evering_queue_fd(self->q, EVERING_QUEUE_POP));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, fd);
	EXPECT_LT(0, read(fd, text, sizeof(text) - 1));
	close(fd);
	EXPECT_NE(NULL, strstr(text, "\nlease:\t1\n"));
	ASSERT_EQ(0, evering_queue_create(NULL, 0600, ENTRIES, 8, BOTH, &q));
	EXPECT_EQ(0, uring_flags(q, EVERING_QUEUE_POP));
	evering_queue_close(q);
}

static int create(unsigned int kind, unsigned int flags)
{
	struct evering_create args = {
		.size = sizeof(args),
		.flags = flags,
		.kind = kind,
		.mode = 0600,
		.geometry.heap_size = { kind == EVERING_KIND_BUFFER ? 4096 : 0 },
	};
	int ring, fd;

	for (ring = 0; ring < 2; ring++) {
		if (kind == EVERING_KIND_BUFFER || (ring && kind != EVERING_KIND_CHANNEL))
			continue;
		args.geometry.entries[ring] = ENTRIES;
		args.geometry.slot_size[ring] = 64;
	}
	fd = device_call(EVERING_IOC_CREATE, &args);
	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

TEST_F(lease, only_where_many_take)
{
	struct evering_queue *q = NULL;

	EXPECT_EQ(0, create(EVERING_KIND_QUEUE, 0));
	EXPECT_EQ(0, create(EVERING_KIND_QUEUE, EVERING_URING_LEASE));
	EXPECT_EQ(0, create(EVERING_KIND_CHANNEL, 0));
	EXPECT_EQ(-EINVAL, create(EVERING_KIND_CHANNEL, EVERING_URING_LEASE));
	EXPECT_EQ(0, create(EVERING_KIND_CHANNEL,
			    EVERING_URING_LEASE | EVERING_URING_MULTI_A));
	EXPECT_EQ(0, create(EVERING_KIND_CHANNEL,
			    EVERING_URING_LEASE | EVERING_URING_MULTI_B));
	EXPECT_EQ(0, create(EVERING_KIND_BUFFER, 0));
	EXPECT_EQ(-EINVAL, create(EVERING_KIND_BUFFER, EVERING_URING_LEASE));
	EXPECT_GT(0, create(EVERING_KIND_TOPIC, EVERING_URING_LEASE));
	EXPECT_EQ(-EINVAL, create(EVERING_KIND_QUEUE, EVERING_URING_LEASE << 1));
	/* A flag of who creates it, and no access. */
	EXPECT_EQ(-EINVAL, evering_queue_create(NULL, 0600, ENTRIES, 8,
						EVERING_QUEUE_LEASE, &q));
	EXPECT_EQ(-EINVAL, evering_queue_open(NULL, token, BOTH | EVERING_QUEUE_LEASE, &q));
	EXPECT_EQ(-1, evering_queue_fd(self->q, EVERING_QUEUE_LEASE));
	EXPECT_EQ(NULL, q);
}

TEST_F(lease, of_a_service_only_with_many_servers)
{
	struct evering_listen args = listen_args("test.leases");
	struct evering_connect connect = connect_args("test.leases");
	int fd;

	args.flags = EVERING_URING_LEASE;
	EXPECT_EQ(-EINVAL, device_call(EVERING_IOC_LISTEN, &args));
	args.flags = EVERING_URING_LEASE | EVERING_URING_MULTI_A;
	EXPECT_EQ(-EINVAL, device_call(EVERING_IOC_LISTEN, &args));
	args.flags = EVERING_URING_LEASE | EVERING_URING_MULTI_B;
	fd = device_call(EVERING_IOC_LISTEN, &args);
	ASSERT_LE(0, fd);
	/* It is the service that says so. */
	connect.geometry.entries[0] = ENTRIES;
	connect.geometry.entries[1] = ENTRIES;
	connect.flags = EVERING_URING_LEASE;
	EXPECT_EQ(-EINVAL, device_call(EVERING_IOC_CONNECT, &connect));
	close(fd);
}

TEST_HARNESS_MAIN
