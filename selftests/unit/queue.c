// SPDX-License-Identifier: GPL-2.0
/* The library's queues, on a device that says what it likes and a peer that lies. */
#include "device.h"
#include "kselftest_harness.h"

#define ENTRIES		64U
#define BOTH		(EVERING_QUEUE_PUSH | EVERING_QUEUE_POP)

/* The queue as its sections are: what the library only reads is written here. */
FIXTURE(queue)
{
	struct evering_queue *queue;
	struct evering_header *header;
	struct evering_control *producers;
	struct evering_control *consumers;
	uint64_t *claims;
	char *slots;
	uint64_t item;
};

static FIXTURE_DATA(queue) *current;

static void *map(int fd, unsigned int section)
{
	return mmap(NULL, fakes[fd].layout.section_size[section],
		    PROT_READ | PROT_WRITE, MAP_SHARED, fd, EVERING_MMAP_OFFSET(section));
}

/* Only the end that takes is open: both would be two different files. */
static void open_queue(FIXTURE_DATA(queue) *self, unsigned int access)
{
	const struct evering_layout *l;
	int fd;

	if (evering_queue_create("x", 0600, ENTRIES, sizeof(uint64_t), access, &self->queue))
		abort();
	access &= BOTH;
	evering_queue_set_spin(self->queue, 0);
	fd = evering_queue_fd(self->queue, access);
	l = &fakes[fd].layout;
	self->header = map(fd, EVERING_SECTION_HEADER);
	self->producers = map(fd, EVERING_SECTION_A);
	self->consumers = map(fd, EVERING_SECTION_B);
	self->slots = (char *)self->producers + l->slots_offset[0];
	self->claims = (void *)((char *)self->consumers + l->claims_offset[0]);
	self->header->ring[0].wake_at = self->header->ring[0].poll_at = EVERING_NOBODY;
	self->header->ring[0].space_at = EVERING_NOBODY;
	self->header->ring[0].poll_space_at = EVERING_NOBODY;
	current = self;
}

FIXTURE_SETUP(queue)
{
}

FIXTURE_TEARDOWN(queue)
{
	evering_queue_close(self->queue);
}

static void set_stamp(FIXTURE_DATA(queue) *self, uint64_t pos, unsigned int state)
{
	*(uint64_t *)(void *)(self->slots + pos % ENTRIES * 64) =
		evering_stamp(pos / ENTRIES + 1, state);
}

static int ready(const struct evering_enter *args)
{
	(void)args;
	return EVERING_READY_ENTRIES | EVERING_READY_SPACE;
}

TEST_F(queue, nothing_in_time)
{
	const struct timespec zero = { 0 }, soon = { 0, 3000000 }, wrong = { 0, -1 };
	uint64_t before;

	open_queue(self, EVERING_QUEUE_POP);
	EXPECT_EQ(-EINVAL, evering_queue_pop_timeout(self->queue, &self->item, &wrong));
	EXPECT_EQ(-EAGAIN, evering_queue_pop_timeout(self->queue, &self->item, &zero));
	/* Ready, and nothing is there: others were faster, each time. */
	on_enter = ready;
	before = evr_now();
	EXPECT_EQ(-ETIME, evering_queue_pop_timeout(self->queue, &self->item, &soon));
	EXPECT_LE(before + 3000000, evr_now());
}

TEST_F(queue, the_wrong_end)
{
	open_queue(self, EVERING_QUEUE_PUSH);
	EXPECT_EQ(-EBADF, evering_queue_try_pop(self->queue, &self->item));
	EXPECT_EQ(-EBADF, evering_queue_force_push(self->queue, &self->item, &self->item));
	EXPECT_EQ(-EINVAL, evering_queue_try_push_bulk(self->queue, &self->item, 0));
	EXPECT_EQ(-EINVAL, evering_queue_try_pop_bulk(self->queue, &self->item, 0));
	evering_queue_close(self->queue);
	open_queue(self, EVERING_QUEUE_POP);
	EXPECT_EQ(-EBADF, evering_queue_try_push(self->queue, &self->item));
}

TEST_F(queue, a_claim_that_lies)
{
	open_queue(self, EVERING_QUEUE_PUSH);
	self->claims[0] = evering_word(5, 1, 0, EVERING_IDLE);
	EXPECT_EQ(-EPROTO, evering_queue_try_push(self->queue, &self->item));
	EXPECT_EQ(-EPROTO, evering_queue_try_push_bulk(self->queue, &self->item, 1));
}

TEST_F(queue, a_stamp_that_lies)
{
	struct evering_queue_lease lease;

	open_queue(self, EVERING_QUEUE_POP | EVERING_QUEUE_LEASE);
	set_stamp(self, 5 * ENTRIES, EVERING_COMMITTED);
	EXPECT_EQ(-EPROTO, evering_queue_try_pop(self->queue, &self->item));
	EXPECT_EQ(-EPROTO, evering_queue_try_lease(self->queue, &self->item, &lease));
}

/* The first of a claim speaks for those behind it. */
TEST_F(queue, a_count_that_lies)
{
	struct evering_queue_lease lease;
	char items[8][56];	/* a slot holds so much */

	open_queue(self, EVERING_QUEUE_POP);
	set_stamp(self, 0, EVERING_COMMITTED);
	*(uint64_t *)(void *)self->slots =
		evering_word(1, EVERING_MAX_COUNT, 3, EVERING_COMMITTED);
	set_stamp(self, 1, EVERING_COMMITTED);
	EXPECT_EQ(2, evering_queue_try_pop_bulk(self->queue, items, 2));
	EXPECT_EQ(-EAGAIN, evering_queue_try_pop_bulk(self->queue, items, 8));
	*(uint64_t *)(void *)(self->slots + 128) =
		evering_word(1, EVERING_MAX_COUNT, 3, EVERING_COMMITTED);
	set_stamp(self, 4, EVERING_RESERVED);
	EXPECT_EQ(-EPROTO, evering_queue_try_pop_bulk(self->queue, items, 8));
	/* Told once; who takes can go on, from behind what was claimed. */
	EXPECT_EQ(10, self->consumers->head);
	EXPECT_EQ(-EAGAIN, evering_queue_try_pop_bulk(self->queue, items, 8));
	set_stamp(self, 10, EVERING_COMMITTED);
	EXPECT_EQ(0, evering_queue_try_pop(self->queue, items));
	evering_queue_close(self->queue);

	/* Who takes one asks one. */
	open_queue(self, EVERING_QUEUE_POP | EVERING_QUEUE_LEASE);
	*(uint64_t *)(void *)self->slots =
		evering_word(1, EVERING_MAX_COUNT, 3, EVERING_COMMITTED);
	EXPECT_EQ(0, evering_queue_try_lease(self->queue, items, &lease));
	EXPECT_EQ(-EAGAIN, evering_queue_try_lease(self->queue, items, &lease));
}

/* What the peer gives back too early is not written over. */
TEST_F(queue, a_claim_that_counts_too_much)
{
	struct evering_queue_slot slot;
	char items[ENTRIES + 1][56] = { 0 };

	open_queue(self, EVERING_QUEUE_PUSH);
	EXPECT_EQ(3, evering_queue_try_push_bulk(self->queue, items, 3));
	EXPECT_EQ(0, evering_queue_reserve(self->queue, &slot));
	EXPECT_EQ(60, evering_queue_try_push_bulk(self->queue, items, ENTRIES + 1));
	EXPECT_EQ(-EAGAIN, evering_queue_try_push(self->queue, items));
	self->claims[0] = evering_word(1, EVERING_MAX_COUNT, 1, EVERING_IDLE);
	EXPECT_EQ(3, evering_queue_try_push_bulk(self->queue, items, ENTRIES + 1));
	EXPECT_EQ(-EAGAIN, evering_queue_try_push(self->queue, items));
	EXPECT_EQ(0, evering_queue_commit(self->queue, &slot));
	EXPECT_EQ(61, evering_queue_try_push_bulk(self->queue, items, ENTRIES + 1));
}

TEST_F(queue, cursors_that_lie)
{
	open_queue(self, EVERING_QUEUE_POP);
	self->producers->tail = 7;
	EXPECT_EQ(7, evering_queue_len(self->queue));
	self->producers->tail = 1000;
	EXPECT_EQ(ENTRIES, evering_queue_len(self->queue));
	self->consumers->head = 1001;
	EXPECT_EQ(0, evering_queue_len(self->queue));
}

/* Whenever a slot is given back, all are skipped again, a lap later. */
static uint64_t fed;

static int feed(const struct evering_enter *args)
{
	uint64_t lap = current->consumers->head / ENTRIES, pos;

	(void)args;
	fed++;
	for (pos = lap * ENTRIES; pos < (lap + 1) * ENTRIES; pos++) {
		uint64_t at = pos < current->consumers->head ? pos + ENTRIES : pos;

		set_stamp(current, at, EVERING_SKIPPED);
	}
	current->header->ring[0].space_at = current->consumers->head;
	return 0;
}

TEST_F(queue, skipped_slots_without_end)
{
	struct evering_queue_lease lease;

	open_queue(self, EVERING_QUEUE_POP | EVERING_QUEUE_LEASE);
	on_enter = feed;
	feed(NULL);
	EXPECT_EQ(-EAGAIN, evering_queue_try_pop(self->queue, &self->item));
	EXPECT_LT(ENTRIES, self->consumers->head);
	EXPECT_EQ(-EAGAIN, evering_queue_try_lease(self->queue, &self->item, &lease));
	EXPECT_LT(2 * ENTRIES, self->consumers->head);
	TH_LOG("%llu times fed", (unsigned long long)fed);
	EXPECT_LT(10, fed);
}

TEST_HARNESS_MAIN
