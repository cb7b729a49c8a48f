// SPDX-License-Identifier: GPL-2.0
/* Queues through the library: pushing, popping, waiting, closing. */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <evering.h>

#include "evering_test.h"
#include "processes.h"
#include "queue_sleepers.h"

#define NAME	"test.queue"
#define ENTRIES	64U
#define BOTH	(EVERING_QUEUE_PUSH | EVERING_QUEUE_POP)

struct item {
	uint64_t number;
	char rest[48];
};

FIXTURE(queue)
{
	struct evering_queue *q;
	struct counters before;
};

FIXTURE_SETUP(queue)
{
	self->before = counters_now();
	ASSERT_EQ(0, evering_queue_create(NAME, 0600, ENTRIES, sizeof(struct item),
					  BOTH, &self->q));
}

FIXTURE_TEARDOWN(queue)
{
	evering_queue_close(self->q);
	EXPECT_TRUE(counters_return(&self->before));
}

static int try_push(struct evering_queue *q, uint64_t number)
{
	struct item item = { .number = number };

	return evering_queue_try_push(q, &item);
}

/* The number, or -errno. */
static int64_t try_pop(struct evering_queue *q)
{
	struct item item;
	int ret = evering_queue_try_pop(q, &item);

	return ret ? ret : (int64_t)item.number;
}

TEST_F(queue, first_in_first_out_over_many_laps)
{
	uint64_t i, j;

	ASSERT_EQ(sizeof(struct item), evering_queue_item_size(self->q));
	ASSERT_EQ(ENTRIES, evering_queue_capacity(self->q));
	for (j = 0; j < 10; j++) {
		for (i = 0; i < ENTRIES; i++)
			ASSERT_EQ(0, try_push(self->q, j * 1000 + i));
		EXPECT_EQ(ENTRIES, evering_queue_len(self->q));
		EXPECT_EQ(-EAGAIN, try_push(self->q, 0));
		for (i = 0; i < ENTRIES; i++)
			ASSERT_EQ(j * 1000 + i, try_pop(self->q));
		EXPECT_EQ(0, evering_queue_len(self->q));
		EXPECT_EQ(-EAGAIN, try_pop(self->q));
	}
}

TEST_F(queue, in_bulk)
{
	struct item in[100] = { 0 }, out[100];
	int i;

	for (i = 0; i < 100; i++)
		in[i].number = i;
	EXPECT_EQ(-EINVAL, evering_queue_try_push_bulk(self->q, in, 0));
	EXPECT_EQ(-EINVAL, evering_queue_try_pop_bulk(self->q, out, 0));
	ASSERT_EQ(40, evering_queue_try_push_bulk(self->q, in, 40));
	/* As many as there is room for. */
	ASSERT_EQ(24, evering_queue_try_push_bulk(self->q, in + 40, 60));
	ASSERT_EQ(-EAGAIN, evering_queue_try_push_bulk(self->q, in, 1));
	ASSERT_EQ(10, evering_queue_try_pop_bulk(self->q, out, 10));
	ASSERT_EQ(54, evering_queue_try_pop_bulk(self->q, out + 10, 100));
	for (i = 0; i < 64; i++)
		ASSERT_EQ(i, out[i].number);
}

TEST_F(queue, reserve_commit_cancel)
{
	struct evering_queue_slot a, b, c;

	ASSERT_EQ(0, evering_queue_reserve(self->q, &a));
	ASSERT_EQ(0, evering_queue_reserve(self->q, &b));
	ASSERT_EQ(0, evering_queue_reserve(self->q, &c));
	((struct item *)b.item)->number = 2;
	((struct item *)c.item)->number = 3;
	ASSERT_EQ(0, evering_queue_commit(self->q, &c));
	ASSERT_EQ(0, evering_queue_commit(self->q, &b));
	EXPECT_EQ(-EINVAL, evering_queue_commit(self->q, &b));
	EXPECT_EQ(-EINVAL, evering_queue_cancel(self->q, &c));
	/* They wait for the first. */
	EXPECT_EQ(-EINPROGRESS, try_pop(self->q));
	ASSERT_EQ(0, evering_queue_cancel(self->q, &a));
	EXPECT_EQ(2, try_pop(self->q));
	EXPECT_EQ(3, try_pop(self->q));
	EXPECT_EQ(-EAGAIN, try_pop(self->q));
}

TEST_F(queue, force_push_returns_the_oldest)
{
	struct item item = { .number = 1000 }, oldest;
	uint64_t i;

	for (i = 0; i < ENTRIES; i++)
		ASSERT_EQ(0, try_push(self->q, i));
	ASSERT_EQ(1, evering_queue_force_push(self->q, &item, &oldest));
	EXPECT_EQ(0, oldest.number);
	for (i = 1; i < ENTRIES; i++)
		ASSERT_EQ(i, try_pop(self->q));
	EXPECT_EQ(1000, try_pop(self->q));
	EXPECT_EQ(0, evering_queue_force_push(self->q, &item, &oldest));
}

TEST_F(queue, force_push_where_the_oldest_is_not_to_be_had)
{
	struct item item = { 0 }, oldest;
	struct evering_queue_slot slot;
	int i;

	ASSERT_EQ(0, evering_queue_reserve(self->q, &slot));
	for (i = 1; i < ENTRIES; i++)
		ASSERT_EQ(0, try_push(self->q, i));
	EXPECT_EQ(-EINPROGRESS, evering_queue_force_push(self->q, &item, &oldest));
	ASSERT_EQ(0, evering_queue_cancel(self->q, &slot));
	EXPECT_EQ(1, evering_queue_force_push(self->q, &item, &oldest));
	EXPECT_EQ(1, oldest.number);
}

static void *pop_one(void *arg)
{
	struct item item;
	int ret = evering_queue_pop(arg, &item);

	return (void *)(intptr_t)(ret ? ret : (int)item.number);
}

TEST_F(queue, a_lying_consumer_gives_no_room)
{
	const struct timespec soon = { .tv_nsec = 50000000 };
	struct evering_queue_slot slot;
	struct item item = { 0 };
	struct evering_open args = {
		.size = sizeof(args), .name = NAME, .kind = EVERING_KIND_QUEUE,
		.side = EVERING_SIDE_B,
	};
	uint64_t *claims, size, since;
	int fd, i;

	fd = device_call(EVERING_IOC_OPEN, &args);
	ASSERT_LE(0, fd);
	size = args.layout.section_size[EVERING_SECTION_B];
	claims = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		      (off_t)EVERING_MMAP_OFFSET(EVERING_SECTION_B));
	ASSERT_NE(MAP_FAILED, claims);
	ASSERT_EQ(0, evering_queue_reserve(self->q, &slot));
	for (i = 1; i < ENTRIES; i++)
		ASSERT_EQ(0, try_push(self->q, i));
	/* As if what is still being written had been consumed. */
	claims[args.layout.claims_offset[0] / 8] = evering_word(1, 1, 1, EVERING_IDLE);
	since = now_ns();
	EXPECT_EQ(-ETIME, evering_queue_push_timeout(self->q, &item, &soon));
	EXPECT_GT(2000000000ULL, now_ns() - since);
	EXPECT_EQ(0, evering_queue_commit(self->q, &slot));
	munmap(claims, size);
	close(fd);
}

TEST_F(queue, shut_down_it_is_drained)
{
	struct item item;

	ASSERT_EQ(0, try_push(self->q, 1));
	ASSERT_EQ(0, try_push(self->q, 2));
	ASSERT_EQ(0, evering_queue_shutdown(self->q));
	EXPECT_EQ(-ESHUTDOWN, try_push(self->q, 3));
	EXPECT_EQ(-ESHUTDOWN, evering_queue_push(self->q, &item));
	EXPECT_EQ(1, try_pop(self->q));
	ASSERT_EQ(0, evering_queue_pop(self->q, &item));
	EXPECT_EQ(2, item.number);
	EXPECT_EQ(-ESHUTDOWN, try_pop(self->q));
	EXPECT_EQ(-ESHUTDOWN, evering_queue_pop(self->q, &item));
}

TEST_F(queue, consumers_that_take_no_more)
{
	struct evering_queue *consumer;
	struct item item = { 0 };

	ASSERT_EQ(0, evering_queue_open(NAME, 0, EVERING_QUEUE_POP, &consumer));
	EXPECT_EQ(-EBADF, try_push(consumer, 1));
	EXPECT_EQ(-EBADF, evering_queue_push(consumer, &item));
	ASSERT_EQ(0, evering_queue_shutdown(consumer));
	EXPECT_EQ(-EPIPE, try_push(self->q, 1));
	EXPECT_EQ(-EPIPE, evering_queue_push(self->q, &item));
	evering_queue_close(consumer);
}

TEST_F(queue, errors)
{
	struct evering_queue *q = NULL;
	struct evering_buffer *b;
	struct item item;
	const struct timespec soon = { .tv_nsec = 1000000 };
	const struct timespec wrong = { .tv_nsec = -1 };
	int i;

	EXPECT_EQ(-EEXIST, evering_queue_create(NAME, 0600, 64, 8, BOTH, &q));
	EXPECT_EQ(-EINVAL, evering_queue_create(NULL, 0600, 32, 8, BOTH, &q));
	EXPECT_EQ(-EINVAL, evering_queue_create(NULL, 0600, 65, 8, BOTH, &q));
	EXPECT_EQ(-EINVAL, evering_queue_create(NULL, 0600, 1 << 17, 8, BOTH, &q));
	EXPECT_EQ(-EINVAL, evering_queue_create(NULL, 0600, 64, 0, BOTH, &q));
	EXPECT_EQ(-EINVAL, evering_queue_create(NULL, 0600, 64, 4089, BOTH, &q));
	EXPECT_EQ(-EINVAL, evering_queue_create(NULL, 0600, 64, 8, 0, &q));
	EXPECT_EQ(-EINVAL, evering_queue_open(NAME, 0, 4, &q));
	EXPECT_EQ(-ENOENT, evering_queue_open("nobody", 0, BOTH, &q));
	EXPECT_EQ(-EPROTOTYPE, evering_buffer_open(NAME, 0, O_RDWR, &b));
	EXPECT_EQ(NULL, q);
	EXPECT_EQ(-EINVAL, evering_queue_pop_timeout(self->q, &item, &wrong));
	EXPECT_EQ(-ETIME, evering_queue_pop_timeout(self->q, &item, &soon));
	for (i = 0; i < 64; i++)
		ASSERT_EQ(0, try_push(self->q, i));
	EXPECT_EQ(-ETIME, evering_queue_push_timeout(self->q, &item, &soon));
}

static void *push_one(void *arg)
{
	struct item item = { .number = 77 };

	return (void *)(intptr_t)evering_queue_push(arg, &item);
}

TEST_F(queue, each_entry_wakes_one)
{
	pthread_t thread[4];
	void *got;
	int i, sum = 0;

	for (i = 0; i < 4; i++)
		ASSERT_EQ(0, pthread_create(&thread[i], NULL, pop_one, self->q));
	ASSERT_TRUE(all_asleep(self->q, 'b', 4));
	ASSERT_EQ(0, try_push(self->q, 1));
	ASSERT_TRUE(all_asleep(self->q, 'b', 3));
	sleep_ms(50);
	EXPECT_EQ(3, asleep_on(self->q, 'b'));
	ASSERT_EQ(0, try_push(self->q, 2));
	ASSERT_EQ(0, try_push(self->q, 4));
	ASSERT_TRUE(all_asleep(self->q, 'b', 1));
	ASSERT_EQ(0, evering_queue_shutdown(self->q));
	for (i = 0; i < 4; i++) {
		pthread_join(thread[i], &got);
		sum += (int)(intptr_t)got;
	}
	EXPECT_EQ(7 - ESHUTDOWN, sum);
}

TEST_F(queue, each_room_wakes_one)
{
	pthread_t thread[3];
	void *got;
	int i;

	for (i = 0; i < ENTRIES; i++)
		ASSERT_EQ(0, try_push(self->q, i));
	for (i = 0; i < 3; i++)
		ASSERT_EQ(0, pthread_create(&thread[i], NULL, push_one, self->q));
	ASSERT_TRUE(all_asleep(self->q, 'a', 3));
	EXPECT_EQ(0, try_pop(self->q));
	ASSERT_TRUE(all_asleep(self->q, 'a', 2));
	sleep_ms(50);
	EXPECT_EQ(2, asleep_on(self->q, 'a'));
	EXPECT_EQ(1, try_pop(self->q));
	EXPECT_EQ(2, try_pop(self->q));
	for (i = 0; i < 3; i++) {
		pthread_join(thread[i], &got);
		EXPECT_EQ(0, (intptr_t)got);
	}
	for (i = 3; i < ENTRIES; i++)
		ASSERT_EQ(i, try_pop(self->q));
	for (i = 0; i < 3; i++)
		ASSERT_EQ(77, try_pop(self->q));
}

struct numbered_push {
	struct evering_queue *q;
	uint64_t number;
};

static void *push_numbered(void *arg)
{
	const struct numbered_push *push = arg;
	struct item item = { .number = push->number };

	return (void *)(intptr_t)evering_queue_push(push->q, &item);
}

/* Who has waited longest for room is the first to get it. */
TEST_F(queue, room_is_given_in_the_order_of_waiting)
{
	struct numbered_push push[8];
	pthread_t thread[8];
	void *got;
	int i;

	for (i = 0; i < ENTRIES; i++)
		ASSERT_EQ(0, try_push(self->q, i));
	for (i = 0; i < 8; i++) {
		push[i] = (struct numbered_push){ self->q, 100 + i };
		ASSERT_EQ(0, pthread_create(&thread[i], NULL, push_numbered, &push[i]));
		ASSERT_TRUE(all_asleep(self->q, 'a', i + 1));
	}
	for (i = 0; i < 8; i++) {
		EXPECT_EQ(i, try_pop(self->q));
		pthread_join(thread[i], &got);
		EXPECT_EQ(0, (intptr_t)got);
		EXPECT_EQ(7 - i, asleep_on(self->q, 'a'));
	}
	for (i = 8; i < ENTRIES; i++)
		ASSERT_EQ(i, try_pop(self->q));
	for (i = 0; i < 8; i++)
		ASSERT_EQ(100 + i, try_pop(self->q));
}

TEST_F(queue, poll_tells_of_entries_and_of_room)
{
	struct pollfd in = {
		.fd = evering_queue_fd(self->q, EVERING_QUEUE_POP),
		.events = POLLIN,
	};
	struct pollfd out = {
		.fd = evering_queue_fd(self->q, EVERING_QUEUE_PUSH),
		.events = POLLOUT,
	};
	pid_t pid;
	int i;

	EXPECT_EQ(0, poll(&in, 1, 0));
	EXPECT_EQ(1, poll(&out, 1, 0));
	pid = fork_mortal();
	if (!pid) {
		struct evering_queue *q;

		if (evering_queue_open(NAME, 0, EVERING_QUEUE_PUSH, &q))
			_exit(1);
		sleep_ms(100);
		_exit(try_push(q, 5) ? 2 : 0);
	}
	EXPECT_EQ(1, poll(&in, 1, 10000));
	EXPECT_EQ(5, try_pop(self->q));
	EXPECT_EQ(0, reap(pid));
	EXPECT_EQ(0, poll(&in, 1, 0));
	for (i = 0; i < ENTRIES; i++)
		ASSERT_EQ(0, try_push(self->q, i));
	EXPECT_EQ(0, poll(&out, 1, 0));
	pid = fork_mortal();
	if (!pid) {
		struct evering_queue *q;

		if (evering_queue_open(NAME, 0, EVERING_QUEUE_POP, &q))
			_exit(1);
		sleep_ms(100);
		_exit(try_pop(q) ? 2 : 0);
	}
	EXPECT_EQ(1, poll(&out, 1, 10000));
	EXPECT_EQ(0, reap(pid));
}

/* Closed while one is still writing, and one waits for room. */
TEST_F(queue, the_end_waits_for_who_was_before_it)
{
	struct evering_queue_slot slot;
	pthread_t pop, push;
	struct item item;
	void *got;
	int i;

	ASSERT_EQ(0, evering_queue_reserve(self->q, &slot));
	for (i = 1; i < ENTRIES; i++)
		ASSERT_EQ(0, try_push(self->q, i));
	ASSERT_EQ(0, pthread_create(&pop, NULL, pop_one, self->q));
	ASSERT_EQ(0, pthread_create(&push, NULL, push_one, self->q));
	ASSERT_TRUE(all_asleep(self->q, 'b', 1));
	ASSERT_TRUE(all_asleep(self->q, 'a', 1));
	ASSERT_EQ(0, evering_queue_shutdown(self->q));
	pthread_join(push, &got);
	EXPECT_EQ(-ESHUTDOWN, (intptr_t)got);
	/* It sleeps on, and does not go round. */
	sleep_ms(50);
	EXPECT_TRUE(all_asleep(self->q, 'b', 1));
	((struct item *)slot.item)->number = 1234;
	ASSERT_EQ(0, evering_queue_commit(self->q, &slot));
	pthread_join(pop, &got);
	EXPECT_EQ(1234, (intptr_t)got);
	for (i = 1; i < ENTRIES; i++)
		ASSERT_EQ(i, try_pop(self->q));
	EXPECT_EQ(-ESHUTDOWN, evering_queue_pop(self->q, &item));
}

/* Its cursor for a ring that there is not may say anything. */
TEST_F(queue, a_producer_has_nothing_to_consume)
{
	struct evering_open args = {
		.size = sizeof(args), .name = NAME, .kind = EVERING_KIND_QUEUE,
		.side = EVERING_SIDE_A,
	};
	struct evering_control *control;
	struct pollfd in = { .events = POLLIN | POLLOUT };
	uint64_t size;
	int i;

	in.fd = device_call(EVERING_IOC_OPEN, &args);
	ASSERT_LE(0, in.fd);
	size = args.layout.section_size[EVERING_SECTION_A];
	control = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, in.fd,
		       (off_t)EVERING_MMAP_OFFSET(EVERING_SECTION_A));
	ASSERT_NE(MAP_FAILED, control);
	for (i = 0; i < ENTRIES; i++)
		ASSERT_EQ(0, try_push(self->q, i));
	control->head = 0xfffffff0;
	{
		struct evering_shutdown down = {
			.size = sizeof(down), .how = EVERING_SHUT_WR,
		};

		/* Side B says that it submits no more, which it never did. */
		ASSERT_EQ(0, call(evering_queue_fd(self->q, EVERING_QUEUE_POP),
				  EVERING_IOC_SHUTDOWN, &down));
	}
	EXPECT_LE(0, poll(&in, 1, 0));
	EXPECT_EQ(-ETIME, do_wait_space(in.fd, 0, 10));
	munmap(control, size);
	close(in.fd);
}

/* One gets the last item, and the other must not wait for another. */
TEST_F(queue, the_last_item_ends_the_wait_of_all)
{
	struct evering_queue_slot slot;
	pthread_t pop[2];
	void *got[2];
	int i;

	ASSERT_EQ(0, evering_queue_reserve(self->q, &slot));
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, pthread_create(&pop[i], NULL, pop_one, self->q));
	ASSERT_TRUE(all_asleep(self->q, 'b', 2));
	ASSERT_EQ(0, evering_queue_shutdown(self->q));
	sleep_ms(50);
	ASSERT_TRUE(all_asleep(self->q, 'b', 2));
	((struct item *)slot.item)->number = 1234;
	ASSERT_EQ(0, evering_queue_commit(self->q, &slot));
	for (i = 0; i < 2; i++)
		pthread_join(pop[i], &got[i]);
	EXPECT_EQ(1234 - ESHUTDOWN, (intptr_t)got[0] + (intptr_t)got[1]);
}

/* Killed between reserve and commit, it holds nobody up. */
TEST_F(queue, a_dead_producer_is_skipped)
{
	struct item item;
	int ready[2];
	char byte;
	pid_t pid;

	ASSERT_EQ(0, pipe(ready));
	pid = fork_mortal();
	if (!pid) {
		struct evering_queue_slot slot;
		struct evering_queue *q;

		if (evering_queue_open(NAME, 0, EVERING_QUEUE_PUSH, &q) ||
		    evering_queue_reserve(q, &slot) || write(ready[1], "x", 1) != 1)
			_exit(1);
		pause();
	}
	ASSERT_EQ(1, read(ready[0], &byte, 1));
	ASSERT_EQ(0, try_push(self->q, 9));
	EXPECT_EQ(-EINPROGRESS, try_pop(self->q));
	kill(pid, SIGKILL);
	/* Woken by the death. */
	ASSERT_EQ(0, evering_queue_pop(self->q, &item));
	EXPECT_EQ(9, item.number);
	reap(pid);
	close(ready[0]);
	close(ready[1]);
}

TEST_HARNESS_MAIN
