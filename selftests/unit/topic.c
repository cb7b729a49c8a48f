// SPDX-License-Identifier: GPL-2.0
/*
 * Topics on a device in user space: what is read is what was published, what is
 * missed is counted, and a publisher may write what it likes.
 */
#include <pthread.h>

#include "device.h"
#include "scribble.h"
#include "kselftest_harness.h"

#define ENTRIES	16U
#define HEAP	8192U

static const struct timespec now = { 0 };

FIXTURE(topic)
{
	struct evering_publisher *publisher;
	struct evering_subscriber *reader;
	struct evering_header *header;
	struct evering_control *control;
	struct evering_message m;
	struct evering_layout layout;
};

static void *map(unsigned int section)
{
	return mmap(NULL, fakes[topic_fd].layout.section_size[section],
		    PROT_READ | PROT_WRITE, MAP_SHARED, topic_fd,
		    EVERING_MMAP_OFFSET(section));
}

FIXTURE_SETUP(topic)
{
	ASSERT_EQ(0, evering_publisher_create("x", 0600, ENTRIES, HEAP, &self->publisher));
	ASSERT_EQ(0, evering_subscriber_open("x", 0, 0, &self->reader));
	self->header = map(EVERING_SECTION_HEADER);
	self->control = map(EVERING_SECTION_A);
	self->layout = fakes[topic_fd].layout;
	self->header->ring[0].wake_at = EVERING_NOBODY;
	self->header->ring[0].poll_at = EVERING_NOBODY;
	on_enter = NULL;
}

FIXTURE_TEARDOWN(topic)
{
	evering_subscriber_close(self->reader);
	evering_publisher_close(self->publisher);
}

static void fill(uint8_t *bytes, size_t len, uint64_t number)
{
	size_t i;

	for (i = 0; i < len; i++)
		bytes[i] = (uint8_t)(number * 37 + i);
}

static bool filled(const uint8_t *bytes, size_t len, uint64_t number)
{
	size_t i;

	for (i = 0; i < len; i++)
		if (bytes[i] != (uint8_t)(number * 37 + i))
			return false;
	return true;
}

static int publish(struct evering_publisher *p, size_t len, uint64_t number)
{
	void *payload;
	int ret = evering_publisher_reserve(p, len, &payload);

	if (ret)
		return ret;
	fill(payload, len, number);
	return evering_publisher_commit(p, len, NULL);
}

static const struct evering_type word = EVERING_TYPE(uint32_t, "word");

TEST_F(topic, one_message_after_the_other)
{
	uint32_t words[3] = { 1, 2, 3 }, copy[3];

	EXPECT_EQ(-EAGAIN, evering_subscriber_next(self->reader, &self->m, &now));
	EXPECT_EQ(-EAGAIN, evering_subscriber_latest(self->reader, &self->m, &now));
	ASSERT_EQ(0, evering_publish(self->publisher, words, sizeof(words), &word));
	ASSERT_EQ(0, evering_publish(self->publisher, NULL, 0, NULL));
	ASSERT_EQ(0, evering_subscriber_next(self->reader, &self->m, NULL));
	EXPECT_EQ(0, self->m.number);
	EXPECT_EQ(0, self->m.lost);
	EXPECT_EQ(12, self->m.len);
	EXPECT_EQ(evering_type_tag(&word), self->m.type);
	EXPECT_EQ(0, (uintptr_t)self->m.payload % EVERING_GRANULE);
	EXPECT_EQ(-EMSGSIZE, evering_subscriber_copy(self->reader, &self->m, copy, 11));
	EXPECT_EQ(0, evering_subscriber_copy(self->reader, &self->m, copy, 12));
	EXPECT_EQ(0, memcmp(words, copy, 12));
	ASSERT_EQ(0, evering_subscriber_next(self->reader, &self->m, NULL));
	EXPECT_EQ(1, self->m.number);
	EXPECT_EQ(0, self->m.len);
	EXPECT_EQ(0, self->m.type);
	EXPECT_EQ(0, evering_subscriber_check(self->reader, &self->m));
	EXPECT_EQ(-EAGAIN, evering_subscriber_next(self->reader, &self->m, &now));
}

TEST_F(topic, what_cannot_be)
{
	const struct timespec wrong = { 0, -1 };
	struct evering_type bad = word;
	void *payload;

	EXPECT_EQ(-EMSGSIZE, evering_publisher_reserve(self->publisher, HEAP + 1, &payload));
	EXPECT_EQ(-EMSGSIZE, evering_publisher_reserve(self->publisher, SIZE_MAX, &payload));
	EXPECT_EQ(-EINVAL, evering_publisher_commit(self->publisher, 0, NULL));
	EXPECT_EQ(-EINVAL, evering_publisher_cancel(self->publisher));
	EXPECT_EQ(-EINVAL, evering_publish(self->publisher, "abc", 3, &word));
	bad.id = 0;
	EXPECT_EQ(-EINVAL, evering_publish(self->publisher, "abcd", 4, &bad));
	ASSERT_EQ(0, evering_publisher_reserve(self->publisher, 100, &payload));
	EXPECT_EQ(-EBUSY, evering_publisher_reserve(self->publisher, 100, &payload));
	EXPECT_EQ(-EBUSY, evering_publish(self->publisher, "abcd", 4, NULL));
	EXPECT_EQ(-EINVAL, evering_publisher_commit(self->publisher, 101, NULL));
	EXPECT_EQ(-EINVAL, evering_publisher_commit(self->publisher, 99, &word));
	EXPECT_EQ(0, evering_publisher_commit(self->publisher, 60, &word));
	ASSERT_EQ(0, evering_subscriber_next(self->reader, &self->m, &now));
	EXPECT_EQ(60, self->m.len);
	EXPECT_EQ(-EINVAL, evering_subscriber_next(self->reader, &self->m, &wrong));
	EXPECT_EQ(-EINVAL, evering_publisher_create("y", 0600, 1, 4096, &self->publisher));
	EXPECT_EQ(-EINVAL, evering_publisher_create("y", 0600, 8, 0, &self->publisher));
	EXPECT_EQ(-EINVAL, evering_publisher_create("y", 0600, 8, UINT64_MAX,
						    &self->publisher));
}

TEST_F(topic, names_and_handles)
{
	char name[EVERING_NAME_MAX + 2];
	struct evering_subscriber *reader;

	memset(name, 'x', sizeof(name) - 1);
	name[sizeof(name) - 1] = 0;
	EXPECT_EQ(-ENAMETOOLONG, evering_publisher_create(name, 0600, 8, 4096,
							  &self->publisher));
	EXPECT_EQ(-ENAMETOOLONG, evering_subscriber_open(name, 0, 0, &reader));
	EXPECT_EQ(1, evering_publisher_token(self->publisher));
	EXPECT_LE(0, evering_subscriber_fd(self->reader));
	evering_subscriber_close(NULL);
	evering_publisher_close(NULL);
}

/* Nothing was published, and no number is left out. */
TEST_F(topic, cancelled)
{
	unsigned int i;
	void *payload;

	for (i = 0; i < 100; i++) {
		ASSERT_EQ(0, evering_publisher_reserve(self->publisher, 3000, &payload));
		EXPECT_EQ(0, evering_publisher_cancel(self->publisher));
		EXPECT_EQ(-EAGAIN, evering_subscriber_next(self->reader, &self->m, &now));
		ASSERT_EQ(0, publish(self->publisher, 3000, i));
		ASSERT_EQ(0, evering_subscriber_next(self->reader, &self->m, &now));
		EXPECT_EQ(i, self->m.number);
		EXPECT_EQ(0, self->m.lost);
		EXPECT_TRUE(filled(self->m.payload, 3000, i));
	}
}

TEST_F(topic, too_slow_and_told_so)
{
	uint64_t got = 0, lost = 0, last = 0, i;

	for (i = 0; i < 1000; i++) {
		ASSERT_EQ(0, publish(self->publisher, 100, i));
		if (i % 50 > 3)
			continue;
		while (!evering_subscriber_next(self->reader, &self->m, &now)) {
			EXPECT_TRUE(filled(self->m.payload, 100, self->m.number));
			EXPECT_EQ(self->m.number, got + lost + self->m.lost);
			got++;
			lost += self->m.lost;
			last = self->m.number;
		}
		EXPECT_EQ(i, last);
	}
	EXPECT_LT(0, lost);
	/* The last of those that are there, at the end. */
	while (!evering_subscriber_next(self->reader, &self->m, &now)) {
		got++;
		lost += self->m.lost;
	}
	EXPECT_EQ(1000, got + lost);
}

TEST_F(topic, the_latest)
{
	uint64_t i;

	for (i = 0; i < 200; i++) {
		ASSERT_EQ(0, publish(self->publisher, 1000, i));
		if (i % 7)
			continue;
		ASSERT_EQ(0, evering_subscriber_latest(self->reader, &self->m, &now));
		EXPECT_EQ(i, self->m.number);
		EXPECT_EQ(i ? 6 : 0, self->m.lost);
		EXPECT_TRUE(filled(self->m.payload, 1000, i));
		EXPECT_EQ(-EAGAIN, evering_subscriber_latest(self->reader, &self->m, &now));
	}
}

TEST_F(topic, who_comes_late)
{
	struct evering_subscriber *late;
	uint64_t i;

	for (i = 0; i < 40; i++)
		ASSERT_EQ(0, publish(self->publisher, 1000, i));
	/* 8 KiB hold eight of them. */
	ASSERT_EQ(0, evering_subscriber_open("x", 0, 3, &late));
	ASSERT_EQ(0, evering_subscriber_next(late, &self->m, &now));
	EXPECT_EQ(37, self->m.number);
	EXPECT_EQ(0, self->m.lost);
	evering_subscriber_close(late);
	ASSERT_EQ(0, evering_subscriber_open("x", 0, EVERING_HISTORY_ALL, &late));
	ASSERT_EQ(0, evering_subscriber_next(late, &self->m, &now));
	EXPECT_EQ(32, self->m.number);
	EXPECT_EQ(0, self->m.lost);
	evering_subscriber_close(late);
	ASSERT_EQ(0, evering_subscriber_open("x", 0, 0, &late));
	EXPECT_EQ(-EAGAIN, evering_subscriber_next(late, &self->m, &now));
	evering_subscriber_close(late);
}

/* Every message that says it is there is whole, whatever sizes come together. */
TEST_F(topic, what_is_there_is_whole)
{
	struct evering_message seen[ENTRIES] = { { 0 } };
	struct evering_subscriber *all;
	uint32_t seed = 7;
	uint64_t i, k, alive = 0;

	for (i = 0; i < 20000; i++) {
		size_t len;

		seed = seed * 1664525 + 1013904223;
		len = (seed >> 8) % (seed & 3 ? 700 : HEAP + 1);
		ASSERT_EQ(0, publish(self->publisher, len, i));
		ASSERT_EQ(0, evering_subscriber_latest(self->reader, &self->m, &now));
		ASSERT_EQ(i, self->m.number);
		seen[i % ENTRIES] = self->m;
		for (k = 0; k < ENTRIES && k <= i; k++) {
			struct evering_message *m = &seen[(i - k) % ENTRIES];

			if (evering_subscriber_check(self->reader, m))
				continue;
			alive++;
			ASSERT_TRUE(filled(m->payload, m->len, m->number)) {
				TH_LOG("%lu of %lu", m->number, i);
			}
		}
		ASSERT_EQ(0, evering_subscriber_check(self->reader, &self->m));
		if (i % 1000)
			continue;
		/* What one who comes now finds is just that. */
		ASSERT_EQ(0, evering_subscriber_open("x", 0, EVERING_HISTORY_ALL, &all));
		for (k = 0; !evering_subscriber_next(all, &self->m, &now); k++)
			EXPECT_EQ(0, self->m.lost);
		EXPECT_EQ(i, self->m.number);
		EXPECT_LE(1, k);
		evering_subscriber_close(all);
	}
	/* Not that it gives up more than it must: about three of 700 / 2 and 4096. */
	EXPECT_LT(3 * i, alive);
}

TEST_F(topic, written_over_while_it_is_read)
{
	char copy[1000];
	unsigned int i;
	void *payload;

	ASSERT_EQ(0, publish(self->publisher, 1000, 0));
	ASSERT_EQ(0, evering_subscriber_next(self->reader, &self->m, &now));
	for (i = 1; i < 8; i++) {
		ASSERT_EQ(0, publish(self->publisher, 1000, i));
		EXPECT_EQ(0, evering_subscriber_check(self->reader, &self->m));
	}
	/* Before a byte of it is touched. */
	ASSERT_EQ(0, evering_publisher_reserve(self->publisher, 1, &payload));
	EXPECT_EQ(-ESTALE, evering_subscriber_check(self->reader, &self->m));
	EXPECT_EQ(-ESTALE, evering_subscriber_copy(self->reader, &self->m, copy, 1000));
	EXPECT_EQ(0, evering_publisher_cancel(self->publisher));
	EXPECT_EQ(-ESTALE, evering_subscriber_check(self->reader, &self->m));
}

TEST_F(topic, its_end)
{
	ASSERT_EQ(0, publish(self->publisher, 10, 0));
	self->control->closed = 1;
	EXPECT_EQ(0, evering_subscriber_next(self->reader, &self->m, NULL));
	EXPECT_EQ(-ESHUTDOWN, evering_subscriber_next(self->reader, &self->m, NULL));
	ASSERT_EQ(0, publish(self->publisher, 10, 1));
	self->header->side[EVERING_SIDE_A].state = EVERING_STATE_DEAD;
	EXPECT_EQ(0, evering_subscriber_latest(self->reader, &self->m, NULL));
	EXPECT_EQ(1, self->m.number);
	EXPECT_EQ(-EPIPE, evering_subscriber_latest(self->reader, &self->m, NULL));
	EXPECT_EQ(-EPIPE, evering_subscriber_next(self->reader, &self->m, &now));
}

/* ----------------------------------------------------------------- waiting */

static unsigned int enters;
static struct evering_enter last;

static int wakes(const struct evering_enter *args)
{
	enters++;
	last = *args;
	return 0;
}

static int interrupts(const struct evering_enter *args)
{
	(void)args;
	errno = EINTR;
	return -1;
}

static struct evering_publisher *publisher_that_publishes;

static int publishes(const struct evering_enter *args)
{
	if (!(args->flags & EVERING_ENTER_WAIT))
		return 0;
	enters++;
	publish(publisher_that_publishes, 8, 0);
	return EVERING_READY_ENTRIES;
}

TEST_F(topic, a_bell_only_for_who_sleeps)
{
	enters = 0;
	on_enter = wakes;
	ASSERT_EQ(0, publish(self->publisher, 10, 0));
	EXPECT_EQ(0, enters);
	self->header->ring[0].wake_at = 2;
	ASSERT_EQ(0, publish(self->publisher, 10, 1));
	EXPECT_EQ(0, enters);
	ASSERT_EQ(0, publish(self->publisher, 10, 2));
	EXPECT_EQ(1, enters);
	EXPECT_EQ(EVERING_ENTER_WAKE_PEER, last.flags);
	/* Or polls. */
	self->header->ring[0].wake_at = EVERING_NOBODY;
	self->header->ring[0].poll_at = 3;
	ASSERT_EQ(0, publish(self->publisher, 10, 3));
	EXPECT_EQ(2, enters);
}

TEST_F(topic, arms_its_poll)
{
	on_enter = wakes;
	ASSERT_EQ(0, evering_subscriber_arm(self->reader));
	EXPECT_EQ(EVERING_ENTER_POLL_AT, last.flags);
	EXPECT_EQ(0, last.wait_pos);
	ASSERT_EQ(0, publish(self->publisher, 10, 0));
	ASSERT_EQ(0, evering_subscriber_next(self->reader, &self->m, NULL));
	ASSERT_EQ(0, evering_subscriber_arm(self->reader));
	EXPECT_EQ(1, last.wait_pos);
	self->control->floor = 1ULL << 63;
	EXPECT_EQ(-EPROTO, evering_subscriber_next(self->reader, &self->m, NULL));
	EXPECT_EQ(-EPROTO, evering_subscriber_arm(self->reader));
}

TEST_F(topic, waits_in_the_kernel)
{
	const struct timespec soon = { 0, 2000000 };

	enters = 0;
	on_enter = wakes;
	EXPECT_EQ(-ETIME, evering_subscriber_next(self->reader, &self->m, &soon));
	EXPECT_LE(1, enters);
	EXPECT_EQ(EVERING_ENTER_WAIT, last.flags);
	EXPECT_EQ(0, last.wait_pos);
	EXPECT_EQ(1, last.min_complete);
	on_enter = interrupts;
	EXPECT_EQ(-EINTR, evering_subscriber_next(self->reader, &self->m, NULL));
	publisher_that_publishes = self->publisher;
	on_enter = publishes;
	enters = 0;
	EXPECT_EQ(0, evering_subscriber_next(self->reader, &self->m, NULL));
	EXPECT_EQ(0, self->m.number);
	EXPECT_EQ(0, evering_subscriber_latest(self->reader, &self->m, NULL));
	EXPECT_EQ(1, self->m.number);
	EXPECT_EQ(2, enters);
}

/* -------------------------------------------------------------------- lies */

static struct evering_sqe *slot_at(FIXTURE_DATA(topic) *self, uint64_t number)
{
	return (void *)((char *)self->control + self->layout.slots_offset[0] +
			number % ENTRIES * 64);
}

TEST_F(topic, a_payload_beyond_the_heap)
{
	static const struct { uint64_t offset; uint32_t len; } bad[] = {
		{ HEAP, 1 }, { HEAP + 1, 0 }, { 0, HEAP + 1 }, { UINT64_MAX, 2 },
		{ HEAP - 8, 9 }, { 1ULL << 63, UINT32_MAX },
	};
	unsigned int i;

	for (i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		struct evering_subscriber *reader;

		ASSERT_EQ(0, evering_subscriber_open("x", 0, 0, &reader));
		ASSERT_EQ(0, publish(self->publisher, 8, i));
		slot_at(self, 0)->offset = bad[i].offset;
		slot_at(self, 0)->len = bad[i].len;
		EXPECT_EQ(-EPROTO, evering_subscriber_next(reader, &self->m, NULL));
		/* For good. */
		ASSERT_EQ(0, publish(self->publisher, 8, i));
		EXPECT_EQ(-EPROTO, evering_subscriber_latest(reader, &self->m, NULL));
		evering_subscriber_close(reader);
		evering_publisher_close(self->publisher);
		ASSERT_EQ(0, evering_publisher_create("x", 0600, ENTRIES, HEAP,
						      &self->publisher));
		self->control = map(EVERING_SECTION_A);
	}
}

TEST_F(topic, stamps_of_another_time)
{
	ASSERT_EQ(0, publish(self->publisher, 8, 0));
	slot_at(self, 0)->stamp = evering_stamp(9, EVERING_COMMITTED);
	/* Overtaken, it says, but nothing has come after it. */
	EXPECT_EQ(-EPROTO, evering_subscriber_next(self->reader, &self->m, NULL));
}

TEST_F(topic, a_tail_far_away)
{
	ASSERT_EQ(0, publish(self->publisher, 8, 0));
	self->control->tail = (1ULL << 40) + 1;
	EXPECT_EQ(-EPROTO, evering_subscriber_latest(self->reader, &self->m, NULL));
}

/* Or one would be told the same number twice. */
TEST_F(topic, numbers_do_not_begin_again)
{
	struct evering_subscriber *late;

	ASSERT_EQ(0, publish(self->publisher, 8, 0));
	self->control->floor = 1ULL << 63;
	EXPECT_EQ(-EPROTO, evering_subscriber_next(self->reader, &self->m, NULL));
	self->control->floor = 0;
	self->control->tail = UINT64_MAX;
	ASSERT_EQ(0, evering_subscriber_open("x", 0, 1, &late));
	EXPECT_EQ(-EPROTO, evering_subscriber_next(late, &self->m, NULL));
	evering_subscriber_close(late);
	self->control->tail = 0;
	ASSERT_EQ(0, evering_subscriber_open("x", 0, 1, &late));
	self->control->tail = UINT64_MAX;
	EXPECT_EQ(-EPROTO, evering_subscriber_latest(late, &self->m, NULL));
	evering_subscriber_close(late);
}

/* Nobody goes backwards, is kept for ever, or is given what is not in the heap. */
TEST_F(topic, nonsense)
{
	uint64_t seed = 88172645463325252ULL;
	unsigned int i, k, opened = 0;

	for (i = 0; i < 20000; i++) {
		struct evering_subscriber *reader;
		uint64_t before = 0;

		for (k = 0; k < self->layout.heap_offset[0] / 8; k++)
			((uint64_t *)(void *)self->control)[k] =
				scribble_value(&seed, 20, 4);
		/* Some of it close to what could be; and no end that ends the test. */
		self->control->closed = 0;
		for (k = 0; k < 4; k++)
			slot_at(self, seed >> (k * 8))->stamp =
				evering_stamp(1 + (seed >> 40) % 3, seed >> 50 & 3);
		self->control->tail = seed >> 60;
		if (seed & 1 << 20)
			self->control->floor = seed >> 61;
		ASSERT_EQ(0, evering_subscriber_open("x", 0, (uint32_t)(seed >> 60),
						     &reader));
		opened++;
		for (k = 0; k < 40; k++) {
			int ret = seed >> k & 1 ?
				evering_subscriber_next(reader, &self->m, &now) :
				evering_subscriber_latest(reader, &self->m, &now);
			const char *heap = (const char *)self->m.payload;

			if (ret)
				continue;
			ASSERT_GE(self->m.number, before);
			before = self->m.number + 1;
			for (ret = 0; ret < (int)self->m.len; ret += 64)
				opened += !!heap[ret];
		}
		evering_subscriber_close(reader);
	}
	EXPECT_LE(i, opened);
}

/* ----------------------------------------------------------------- threads */

enum { MESSAGES = 200000, READERS = 3 };

static bool all_published;

static void *publish_all(void *arg)
{
	struct evering_publisher *p = arg;
	uint64_t i;

	for (i = 0; i < MESSAGES; i++)
		if (publish(p, i % 3 ? i % 300 : i % 4000, i))
			abort();
	__atomic_store_n(&all_published, true, __ATOMIC_RELEASE);
	return NULL;
}

struct tally {
	struct evering_subscriber *reader;
	uint64_t got, lost, torn, wrong;
};

static void *read_all(void *arg)
{
	struct tally *t = arg;
	struct evering_message m;
	uint8_t copy[4000];
	bool last = false;

	for (;;) {
		bool published = __atomic_load_n(&all_published, __ATOMIC_ACQUIRE);

		if (evering_subscriber_next(t->reader, &m, &now)) {
			if (last)
				return NULL;
			last = published;
			continue;
		}
		t->got++;
		t->lost += m.lost;
		if (m.number != t->got + t->lost - 1)
			t->wrong++;
		if (evering_subscriber_copy(t->reader, &m, copy, sizeof(copy)))
			t->torn++;
		else if (!filled(copy, m.len, m.number))
			t->wrong++;
	}
}

TEST_F(topic, read_while_it_is_written)
{
	struct tally tally[READERS] = { { 0 } };
	pthread_t publisher, reader[READERS];
	unsigned int i;

	for (i = 0; i < READERS; i++)
		ASSERT_EQ(0, evering_subscriber_open("x", 0, 0, &tally[i].reader));
	for (i = 0; i < READERS; i++)
		ASSERT_EQ(0, pthread_create(&reader[i], NULL, read_all, &tally[i]));
	ASSERT_EQ(0, pthread_create(&publisher, NULL, publish_all, self->publisher));
	pthread_join(publisher, NULL);
	for (i = 0; i < READERS; i++) {
		pthread_join(reader[i], NULL);
		EXPECT_EQ(MESSAGES, tally[i].got + tally[i].lost);
		EXPECT_EQ(0, tally[i].wrong);
		EXPECT_LT(tally[i].torn, tally[i].got);
		evering_subscriber_close(tally[i].reader);
	}
}

TEST_HARNESS_MAIN
