// SPDX-License-Identifier: GPL-2.0
/*
 * Topics between processes: subscribers read every byte that they believe in, know what
 * they have missed, and are killed, or see their publisher killed, at random.
 *
 * KILLS in the environment says how many of each (default 30).
 */
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>

#include "evering_test.h"
#include "evering.h"

#define NAME	"test.topic"
#define READERS	4U
#define ENTRIES	64U
#define HEAP	(64U << 10)

static const struct timespec long_enough = { 20, 0 }, now = { 0 };

static size_t words_of(uint64_t n)
{
	uint64_t hash = n * 0x9e3779b97f4a7c15UL;

	return 1 + (hash >> 40) % (hash & 7 ? 60 : 2000);
}

static int publish(struct evering_publisher *p, uint64_t n)
{
	size_t i, nr = words_of(n);
	uint64_t *words;
	int ret = evering_publisher_reserve(p, nr * 8, (void **)&words);

	if (ret)
		return ret;
	for (i = 0; i < nr; i++)
		words[i] = n * 31 + i;
	return evering_publisher_commit(p, nr * 8, NULL);
}

/* What one subscriber has seen, for the others to read. */
struct tally {
	uint64_t got;
	uint64_t lost;
	uint64_t torn;
	int ret;	/* why it has stopped */
	uint32_t wrong;
};

static void subscribe(struct tally *t, struct evering_subscriber *s)
{
	static uint64_t words[2000];
	struct evering_message m;

	for (;;) {
		size_t i, nr;

		t->ret = evering_subscriber_next(s, &m, &long_enough);
		if (t->ret)
			return;
		t->got++;
		t->lost += m.lost;
		nr = words_of(m.number);
		if (m.number != t->got + t->lost - 1 || m.len != nr * 8)
			t->wrong++;
		else if (evering_subscriber_copy(s, &m, words, sizeof(words)))
			t->torn++;
		else
			for (i = 0; i < nr; i++)
				t->wrong += words[i] != m.number * 31 + i;
	}
}

FIXTURE(topic)
{
	struct evering_publisher *publisher;
	struct evering_subscriber *reader;
	struct evering_message m;
	struct tally *tally;
	unsigned int kills;
	pid_t pid[READERS];
};

FIXTURE_SETUP(topic)
{
	const char *kills = getenv("KILLS");

	self->kills = kills ? (unsigned int)atoi(kills) : 30;
	self->tally = mmap(NULL, READERS * sizeof(*self->tally), PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->tally);
	ASSERT_EQ(0, evering_publisher_create(NAME, 0600, ENTRIES, HEAP,
					      &self->publisher));
}

FIXTURE_TEARDOWN(topic)
{
	evering_publisher_close(self->publisher);
}

/* A process that subscribes; it has subscribed when this returns. */
static pid_t start_reader(struct tally *t)
{
	struct evering_subscriber *s;
	int ready[2];
	pid_t pid;
	char byte;

	memset(t, 0, sizeof(*t));
	if (pipe(ready))
		return -1;
	pid = fork();
	if (!pid) {
		t->ret = evering_subscriber_open(NAME, 0, 0, &s);
		if (t->ret)
			_exit(1);
		close(ready[0]);
		close(ready[1]);
		subscribe(t, s);
		_exit(0);
	}
	close(ready[1]);
	if (read(ready[0], &byte, 1))
		return -1;
	close(ready[0]);
	return pid;
}

TEST_F(topic, from_one_process_to_others)
{
	unsigned int i;

	for (i = 0; i < READERS; i++) {
		self->pid[i] = start_reader(&self->tally[i]);
		ASSERT_LT(0, self->pid[i]);
	}
	for (i = 0; i < 20000; i++) {
		ASSERT_EQ(0, publish(self->publisher, i));
		/* Let them come after it now and then. */
		if (i % 500 == 0)
			nanosleep(&(struct timespec){ 0, 2000000 }, NULL);
	}
	evering_publisher_close(self->publisher);
	self->publisher = NULL;
	for (i = 0; i < READERS; i++) {
		struct tally *t = &self->tally[i];

		ASSERT_EQ(self->pid[i], waitpid(self->pid[i], NULL, 0));
		EXPECT_EQ(-EPIPE, t->ret);
		EXPECT_EQ(20000, t->got + t->lost);
		EXPECT_EQ(0, t->wrong);
		EXPECT_LT(0, t->got - t->torn);
	}
}

/* A subscriber cannot write, by any mapping, and takes part in nothing else. */
TEST_F(topic, cannot_be_written_by_who_reads_it)
{
	struct evering_open args = { .size = sizeof(args), .side = EVERING_SIDE_B,
				     .kind = EVERING_KIND_TOPIC, .name = NAME };
	int fd = device_call(EVERING_IOC_OPEN, &args);

	ASSERT_LE(0, fd);
	EXPECT_EQ(MAP_FAILED, map_section(fd, &args.layout, EVERING_SECTION_A,
					  PROT_READ | PROT_WRITE));
	close(fd);
	/* There is one publisher. */
	args.side = EVERING_SIDE_A;
	args.token = 0;
	EXPECT_GT(0, device_call(EVERING_IOC_OPEN, &args));
}

TEST_F(topic, wakes_who_sleeps)
{
	unsigned int i;
	uint64_t got;

	self->pid[0] = start_reader(&self->tally[0]);
	ASSERT_LT(0, self->pid[0]);
	for (i = 0; i < 50; i++) {
		/* Long enough for it to be asleep. */
		nanosleep(&(struct timespec){ 0, 3000000 }, NULL);
		ASSERT_EQ(0, publish(self->publisher, i));
		do {
			got = *(volatile uint64_t *)&self->tally[0].got;
		} while (got != i + 1);
	}
	evering_publisher_close(self->publisher);
	self->publisher = NULL;
	ASSERT_EQ(self->pid[0], waitpid(self->pid[0], NULL, 0));
	EXPECT_EQ(-EPIPE, self->tally[0].ret);
	EXPECT_EQ(0, self->tally[0].lost);
	EXPECT_EQ(0, self->tally[0].wrong);
}

/* Level or edge, until the end. */
TEST_F(topic, is_polled)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLET };
	struct pollfd fd = { .events = POLLIN };
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	unsigned int i;

	ASSERT_LE(0, epoll);
	ASSERT_EQ(0, evering_subscriber_open(NAME, 0, 0, &self->reader));
	fd.fd = evering_subscriber_fd(self->reader);
	/* Where it is, nobody has said yet. */
	ASSERT_EQ(0, publish(self->publisher, 0));
	EXPECT_EQ(0, poll(&fd, 1, 0));
	ASSERT_EQ(0, evering_subscriber_arm(self->reader));
	EXPECT_EQ(1, poll(&fd, 1, 0));
	EXPECT_EQ(POLLIN, fd.revents);
	ASSERT_EQ(0, evering_subscriber_next(self->reader, &self->m, &now));
	ASSERT_EQ(0, evering_subscriber_arm(self->reader));
	EXPECT_EQ(0, poll(&fd, 1, 0));

	ASSERT_EQ(0, epoll_ctl(epoll, EPOLL_CTL_ADD, fd.fd, &event));
	EXPECT_EQ(0, epoll_wait(epoll, &event, 1, 0));
	for (i = 1; i < 200; i++) {
		ASSERT_EQ(0, publish(self->publisher, i));
		ASSERT_EQ(1, epoll_wait(epoll, &event, 1, 5000)) TH_LOG("%u", i);
		EXPECT_EQ(EPOLLIN, event.events);
		ASSERT_EQ(0, evering_subscriber_next(self->reader, &self->m, &now));
		EXPECT_EQ(i, self->m.number);
		EXPECT_EQ(0, self->m.lost);
		ASSERT_EQ(-EAGAIN, evering_subscriber_next(self->reader, &self->m, &now));
		ASSERT_EQ(0, evering_subscriber_arm(self->reader));
		ASSERT_EQ(0, epoll_wait(epoll, &event, 1, 0));
	}
	evering_publisher_close(self->publisher);
	self->publisher = NULL;
	ASSERT_EQ(1, epoll_wait(epoll, &event, 1, 5000));
	EXPECT_EQ(-EPIPE, evering_subscriber_next(self->reader, &self->m, NULL));
	evering_subscriber_close(self->reader);
	close(epoll);
}

/* One who sleeps in poll is woken, wherever the others are. */
TEST_F(topic, wakes_who_polls)
{
	struct evering_subscriber *behind;
	unsigned int i;
	int status;
	pid_t pid;

	ASSERT_EQ(0, evering_subscriber_open(NAME, 0, 0, &behind));
	ASSERT_EQ(0, evering_subscriber_arm(behind));
	for (i = 0; i < 20; i++) {
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid) {
			struct pollfd fd = { .events = POLLIN };

			if (evering_subscriber_open(NAME, 0, 0, &self->reader) ||
			    evering_subscriber_arm(self->reader))
				_exit(1);
			fd.fd = evering_subscriber_fd(self->reader);
			if (poll(&fd, 1, 0) || poll(&fd, 1, 10000) != 1)
				_exit(2);
			_exit(evering_subscriber_next(self->reader, &self->m, &now) ? 3 : 0);
		}
		nanosleep(&(struct timespec){ 0, 30000000 }, NULL);
		ASSERT_EQ(0, publish(self->publisher, i));
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		EXPECT_EQ(0, status);
	}
	evering_subscriber_close(behind);
}

/* Only a reader of a topic has no other way to say where it is. */
TEST_F(topic, nobody_else_arms)
{
	struct evering_enter args = { .size = sizeof(args),
				      .flags = EVERING_ENTER_POLL_AT };
	struct evering_buffer *writer, *reader;
	struct evering *channel;

	ASSERT_EQ(0, evering_channel_create(NAME "2", 0600, NULL, 0, &channel));
	EXPECT_EQ(-EINVAL, call(evering_fd(channel), EVERING_IOC_ENTER, &args));
	evering_close(channel);
	ASSERT_EQ(0, evering_buffer_create(NAME "3", 0600, 4096, &writer));
	ASSERT_EQ(0, evering_buffer_open(NAME "3", 0, O_RDONLY, &reader));
	EXPECT_EQ(-EINVAL, call(evering_buffer_fd(reader), EVERING_IOC_ENTER, &args));
	evering_buffer_close(reader);
	evering_buffer_close(writer);
}

/* Nobody waits for the dead, and nobody sees that one has died. */
TEST_F_TIMEOUT(topic, subscribers_are_killed, 600)
{
	uint64_t published = 0;
	unsigned int i;

	ASSERT_EQ(0, evering_subscriber_open(NAME, 0, 0, &self->reader));
	for (i = 0; i < self->kills; i++) {
		struct tally *t = &self->tally[i % READERS];
		uint64_t until = published + 100 + i * 37 % 400;
		pid_t pid = start_reader(t);

		ASSERT_LT(0, pid);
		/* It began where the publisher was. */
		t->lost += published;
		for (; published < until; published++)
			ASSERT_EQ(0, publish(self->publisher, published));
		ASSERT_EQ(0, kill(pid, SIGKILL));
		ASSERT_EQ(pid, waitpid(pid, NULL, 0));
		EXPECT_EQ(0, t->wrong);
		EXPECT_EQ(0, evering_subscriber_latest(self->reader, &self->m, &now));
		EXPECT_EQ(published - 1, self->m.number);
	}
	evering_subscriber_close(self->reader);
}

/* What was published can be read, what was being written cannot, and that is all. */
TEST_F_TIMEOUT(topic, publishers_are_killed, 600)
{
	unsigned int i, k;

	evering_publisher_close(self->publisher);
	self->publisher = NULL;
	for (k = 0; k < self->kills; k++) {
		int ready[2];
		pid_t pid;
		char byte;

		ASSERT_EQ(0, pipe(ready));
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid) {
			uint64_t n;

			if (evering_publisher_create(NAME, 0600, ENTRIES, HEAP,
						     &self->publisher))
				_exit(1);
			if (read(ready[0], &byte, 1) != 1)
				_exit(1);
			for (n = 0; !publish(self->publisher, n); n++)
				;
			_exit(1);
		}
		/* It is there when somebody finds it. */
		while (evering_subscriber_open(NAME, 0, 0, &self->reader))
			nanosleep(&(struct timespec){ 0, 100000 }, NULL);
		evering_subscriber_close(self->reader);
		for (i = 0; i < READERS; i++) {
			self->pid[i] = start_reader(&self->tally[i]);
			ASSERT_LT(0, self->pid[i]);
		}
		ASSERT_EQ(1, write(ready[1], "", 1));
		nanosleep(&(struct timespec){ 0, (1000 + k * 7919 % 20000) * 1000L }, NULL);
		ASSERT_EQ(0, kill(pid, SIGKILL));
		ASSERT_EQ(pid, waitpid(pid, NULL, 0));
		for (i = 0; i < READERS; i++) {
			struct tally *t = &self->tally[i];

			ASSERT_EQ(self->pid[i], waitpid(self->pid[i], NULL, 0));
			EXPECT_EQ(-EPIPE, t->ret);
			EXPECT_EQ(0, t->wrong);
			/* All of them have seen as far. */
			EXPECT_EQ(self->tally[0].got + self->tally[0].lost,
				  t->got + t->lost);
		}
		close(ready[0]);
		close(ready[1]);
	}
}

TEST_HARNESS_MAIN
