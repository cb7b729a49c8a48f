// SPDX-License-Identifier: GPL-2.0
/* Sleeping and waking: ENTER, SHUTDOWN, and the words that tell of a sleeper. */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "evering_test.h"
#include "evering.h"

#define SQ		EVERING_RING_SQ
#define CQ		EVERING_RING_CQ
#define SQ_ENTRIES	8	/* in what fixture "wait" opens */
#define CQ_ENTRIES	16
#define FAR		10000	/* ms; who sleeps that long has lost a wake-up */
#define SOON		2000	/* ms; late, even on a slow machine */
#define MAX_SLEEPERS	16	/* of one side, in the kernel */

/* Waits for @cond, but not for ever; its value. */
#define UNTIL(cond) ({							\
	uint64_t __end = now_ns() + 5000 * MS;				\
	while (!(cond) && now_ns() < __end)				\
		sleep_ms(1);						\
	(cond);								\
})

/* Where the kernel and the peer may stumble. */
static const uint64_t hostile[] = {
	0, 1, SQ_ENTRIES, CQ_ENTRIES, 1ULL << 32, 1ULL << 63, ~0ULL,
	~0ULL - SQ_ENTRIES, ~0ULL - CQ_ENTRIES,
};

#define NR_HOSTILE	ARRAY_SIZE(hostile)

/* ------------------------------------------------------------- a channel */

static uint64_t load(const __u64 *word)
{
	return __atomic_load_n(word, __ATOMIC_RELAXED);
}

/* By whichever side is mapped here. */
static struct evering_ring_words *words(struct channel *c, int ring)
{
	return &header_of(c, c->map[0][EVERING_SECTION_HEADER] ? 0 : 1)->ring[ring];
}

static uint64_t wake_at(struct channel *c, int ring)
{
	return load(&words(c, ring)->wake_at);
}

static uint64_t space_at(struct channel *c, int ring)
{
	return load(&words(c, ring)->space_at);
}

static bool nobody(struct channel *c)
{
	int ring;

	for (ring = 0; ring < 2; ring++)
		if (wake_at(c, ring) != EVERING_NOBODY ||
		    space_at(c, ring) != EVERING_NOBODY)
			return false;
	return true;
}

static uint64_t entries_of(struct channel *c, int ring)
{
	return c->layout.geometry.entries[ring];
}

static uint64_t lap_of(struct channel *c, int ring, uint64_t pos)
{
	return evering_lap(pos, __builtin_ctzll(entries_of(c, ring)));
}

/* What a consumer at @pos may conclude. */
static enum evering_slot_state judge(struct channel *c, int ring, uint64_t pos)
{
	return evering_judge(__atomic_load_n(stamp_of(c, ring, pos),
					     __ATOMIC_ACQUIRE),
			     lap_of(c, ring, pos));
}

/* Is the doorbell due after a commit of @pos?  As lib/ring.h has it. */
static bool wake_due(struct channel *c, int ring, uint64_t pos)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return pos >= load(&words(c, ring)->wake_at) ||
	       pos >= load(&words(c, ring)->poll_at);
}

/* The consumer of @ring gives back all before @head: is the doorbell due? */
static bool release(struct channel *c, int ring, uint64_t head)
{
	uint64_t end = head + entries_of(c, ring);

	__atomic_store_n(&control_of(c, !ring)->head, head, __ATOMIC_RELEASE);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return end > load(&words(c, ring)->space_at) ||
	       end > load(&words(c, ring)->poll_space_at);
}

static void commit_range(struct channel *c, int ring, uint64_t from, uint64_t to)
{
	for (; from < to; from++)
		commit(c, ring, from, EVERING_COMMITTED);
}

static struct evering_connect connect_rings(const char *name, unsigned int sq,
					    unsigned int cq)
{
	struct evering_connect args = connect_args(name);

	args.geometry.entries[SQ] = sq;
	args.geometry.entries[CQ] = cq;
	return args;
}

/* A name of its own for every test, lest one that fails take others along. */
static const char *test_name(void)
{
	static char name[32];

	snprintf(name, sizeof(name), "test.wait.%d", getpid());
	return name;
}

/* Both ends here; 0 or -errno. */
static int open_rings(struct channel *c, unsigned int sq, unsigned int cq)
{
	struct evering_connect args = connect_rings(test_name(), sq, cq);
	struct evering_accept accepted;
	int ret;

	memset(c, 0, sizeof(*c));
	c->service = do_listen(test_name());
	if (c->service < 0)
		return c->service;
	c->fd[0] = device_call(EVERING_IOC_CONNECT, &args);
	if (c->fd[0] < 0)
		return c->fd[0];
	c->fd[1] = do_accept(c->service, &accepted);
	if (c->fd[1] < 0)
		return c->fd[1];
	c->layout = args.layout;
	ret = map_side(c, 0);
	return ret ? ret : map_side(c, 1);
}

/* -------------------------------------------------------------- ENTER */

static struct evering_enter space_args(uint64_t pos, unsigned int timeout_ms)
{
	struct evering_enter args = wait_args(0, 0, timeout_ms);

	args.flags = EVERING_ENTER_WAIT_SPACE;
	args.space_pos = pos;
	return args;
}

static struct evering_enter both_args(uint64_t pos, unsigned int nr,
				      uint64_t space_pos, unsigned int timeout_ms)
{
	struct evering_enter args = wait_args(pos, nr, timeout_ms);

	args.flags |= EVERING_ENTER_WAIT_SPACE;
	args.space_pos = space_pos;
	return args;
}

/*
 * Success beats time-out, so a wake-up that was lost may look like one that
 * came late: who waited FAR has lost one, whatever ENTER says.
 */
static int timed_enter(int fd, struct evering_enter *args)
{
	uint64_t begin = now_ns();
	int ret = call(fd, EVERING_IOC_ENTER, args);
	uint64_t end = now_ns();

	return end >= args->deadline && end >= begin + FAR * MS / 2 ?
	       -ETIMEDOUT : ret;
}

static int enter(int fd, struct evering_enter args)
{
	return timed_enter(fd, &args);
}

static int wait_for(int fd, uint64_t pos, unsigned int nr,
		    unsigned int timeout_ms)
{
	return enter(fd, wait_args(pos, nr, timeout_ms));
}

static int do_shutdown(int fd, unsigned int how)
{
	struct evering_shutdown args = { .size = sizeof(args), .how = how };

	return call(fd, EVERING_IOC_SHUTDOWN, &args);
}

/* A thread in ENTER. */
struct sleeper {
	pthread_t thread;
	int fd;
	struct evering_enter args;
	pid_t tid;
	int ret;
	uint64_t returned;
	bool done;
};

static void *sleeper_thread(void *arg)
{
	struct sleeper *s = arg;

	__atomic_store_n(&s->tid, gettid(), __ATOMIC_RELEASE);
	s->ret = timed_enter(s->fd, &s->args);
	s->returned = now_ns();
	__atomic_store_n(&s->done, true, __ATOMIC_RELEASE);
	return NULL;
}

static void start(struct sleeper *s, int fd, struct evering_enter args)
{
	memset(s, 0, sizeof(*s));
	s->fd = fd;
	s->args = args;
	if (pthread_create(&s->thread, NULL, sleeper_thread, s))
		abort();
}

static bool done(struct sleeper *s)
{
	return __atomic_load_n(&s->done, __ATOMIC_ACQUIRE);
}

/* What its ENTER has returned. */
static int join(struct sleeper *s)
{
	pthread_join(s->thread, NULL);
	return s->ret;
}

/*
 * How often a thread has gone to sleep, once it sleeps; -1: it does not.  One
 * that is announced may not sleep yet; then it sees to itself what a doorbell
 * would do for it.
 */
static long times_slept(struct sleeper *s)
{
	uint64_t end = now_ns() + 5000 * MS;
	char path[64], line[256];

	snprintf(path, sizeof(path), "/proc/self/task/%d/status",
		 __atomic_load_n(&s->tid, __ATOMIC_ACQUIRE));
	while (now_ns() < end) {
		FILE *f = fopen(path, "r");
		bool asleep = false;
		long times = -1;

		if (!f)
			return -1;
		while (fgets(line, sizeof(line), f)) {
			if (!strncmp(line, "State:\tS", 8))
				asleep = true;
			if (sscanf(line, "voluntary_ctxt_switches: %ld",
				   &times) == 1)
				break;
		}
		fclose(f);
		if (asleep)
			return times;
		sleep_ms(1);
	}
	return -1;
}

/* A line of fdinfo: of "side-a" or "side-b", what follows @key. */
static bool side_info(int fd, int side, const char *key, char value[32])
{
	char path[64], line[256], label[] = "side-a:";
	bool found = false;
	FILE *f;

	label[5] += side;
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	f = fopen(path, "r");
	if (!f)
		return false;
	while (!found && fgets(line, sizeof(line), f)) {
		char *at = strstr(line, key);

		if (!strncmp(line, label, strlen(label)) && at)
			found = sscanf(at + strlen(key), "%31s", value) == 1;
	}
	fclose(f);
	return found;
}

static int nr_sleepers(int fd, int side)
{
	char value[32];

	return side_info(fd, side, " sleepers=", value) ? atoi(value) : -1;
}

static bool is_dead(int fd, int side)
{
	char value[32];

	return side_info(fd, side, "state=", value) && !strcmp(value, "dead");
}

FIXTURE(wait)
{
	struct channel c;
};

FIXTURE_SETUP(wait)
{
	ASSERT_EQ(0, open_rings(&self->c, SQ_ENTRIES, CQ_ENTRIES));
}

FIXTURE_TEARDOWN(wait)
{
	close(self->c.fd[0]);
	close(self->c.fd[1]);
	close(self->c.service);
}

/* -------------------------------------------------------------- words */

TEST_F(wait, nobody_is_announced_while_nobody_sleeps)
{
	struct channel *c = &self->c;
	struct evering_enter args;

	EXPECT_TRUE(nobody(c));
	EXPECT_EQ(0, nr_sleepers(c->fd[0], 0));
	EXPECT_EQ(0, nr_sleepers(c->fd[0], 1));

	/* Nor after calls that end at once. */
	EXPECT_EQ(0, do_wake(c->fd[0]));
	EXPECT_TRUE(nobody(c));
	EXPECT_EQ(-ETIME, wait_for(c->fd[0], 0, 1, 0));
	EXPECT_TRUE(nobody(c));
	commit(c, CQ, 0, EVERING_COMMITTED);
	EXPECT_EQ(EVERING_READY_ENTRIES, wait_for(c->fd[0], 0, 1, FAR));
	EXPECT_TRUE(nobody(c));
	EXPECT_EQ(EVERING_READY_SPACE, enter(c->fd[0], space_args(0, FAR)));
	EXPECT_TRUE(nobody(c));
	args = wait_args(1, 1, FAR);
	args.generation++;
	EXPECT_EQ(-ECONNRESET, enter(c->fd[0], args));
	EXPECT_TRUE(nobody(c));
	EXPECT_EQ(0, nr_sleepers(c->fd[0], 0));
	EXPECT_EQ(0, nr_sleepers(c->fd[0], 1));
}

TEST_F(wait, wake_at_is_the_last_entry_wanted)
{
	static const unsigned int wanted[] = { 1, 3, CQ_ENTRIES, 2 };
	struct channel *c = &self->c;
	struct sleeper s;
	uint64_t pos = 0;
	int i, n;

	for (i = 0; i < 4; i++) {
		uint64_t last = pos + wanted[i] - 1;

		start(&s, c->fd[0], wait_args(pos, wanted[i], FAR));
		ASSERT_TRUE(UNTIL(wake_at(c, CQ) != EVERING_NOBODY));
		ASSERT_LE(0, times_slept(&s));
		EXPECT_EQ(last, wake_at(c, CQ));
		EXPECT_EQ(last, load(&header_of(c, 1)->ring[CQ].wake_at));
		EXPECT_EQ(EVERING_NOBODY, space_at(c, CQ));
		EXPECT_EQ(EVERING_NOBODY, wake_at(c, SQ));
		EXPECT_EQ(EVERING_NOBODY, space_at(c, SQ));
		EXPECT_EQ(1, nr_sleepers(c->fd[1], 0));
		for (n = 0; n < wanted[i]; n++) {
			EXPECT_FALSE(done(&s));
			commit(c, CQ, pos + n, EVERING_COMMITTED);
			EXPECT_EQ(pos + n == last, wake_due(c, CQ, pos + n));
		}
		ASSERT_EQ(0, do_wake(c->fd[1]));
		/* Taken back by the doorbell, not by the one who wakes. */
		EXPECT_EQ(EVERING_NOBODY, wake_at(c, CQ));
		EXPECT_EQ(0, nr_sleepers(c->fd[1], 0));
		EXPECT_EQ(EVERING_READY_ENTRIES, join(&s));
		pos += wanted[i];
	}
}

TEST_F(wait, space_at_is_the_position_that_waits)
{
	struct channel *c = &self->c;
	struct sleeper s;
	uint64_t head = 0, tail;

	commit_range(c, SQ, 0, SQ_ENTRIES);
	for (tail = SQ_ENTRIES; tail < 3 * SQ_ENTRIES; tail++) {
		start(&s, c->fd[0], space_args(tail, FAR));
		ASSERT_TRUE(UNTIL(space_at(c, SQ) != EVERING_NOBODY));
		ASSERT_LE(0, times_slept(&s));
		EXPECT_EQ(tail, space_at(c, SQ));
		EXPECT_EQ(tail, load(&header_of(c, 1)->ring[SQ].space_at));
		EXPECT_EQ(EVERING_NOBODY, wake_at(c, SQ));
		EXPECT_EQ(EVERING_NOBODY, wake_at(c, CQ));
		EXPECT_EQ(EVERING_NOBODY, space_at(c, CQ));
		/* Not due for room that was there before; due for the next. */
		EXPECT_FALSE(release(c, SQ, head));
		EXPECT_FALSE(done(&s));
		EXPECT_TRUE(release(c, SQ, ++head));
		ASSERT_EQ(0, do_wake(c->fd[1]));
		EXPECT_EQ(EVERING_NOBODY, space_at(c, SQ));
		EXPECT_EQ(EVERING_READY_SPACE, join(&s));
		commit(c, SQ, tail, EVERING_COMMITTED);
	}
}

TEST_F(wait, words_tell_of_the_first_of_several)
{
	struct channel *c = &self->c;
	struct sleeper far, near, space;

	commit_range(c, SQ, 0, SQ_ENTRIES);
	start(&far, c->fd[0], wait_args(0, 5, FAR));
	ASSERT_TRUE(UNTIL(wake_at(c, CQ) == 4));
	start(&space, c->fd[0], space_args(SQ_ENTRIES, FAR));
	ASSERT_TRUE(UNTIL(space_at(c, SQ) == SQ_ENTRIES));
	EXPECT_EQ(4, wake_at(c, CQ));
	start(&near, c->fd[0], wait_args(0, 2, FAR));
	ASSERT_TRUE(UNTIL(wake_at(c, CQ) == 1));
	EXPECT_EQ(3, nr_sleepers(c->fd[0], 0));
	ASSERT_LE(0, times_slept(&far));
	ASSERT_LE(0, times_slept(&near));
	ASSERT_LE(0, times_slept(&space));

	commit_range(c, CQ, 0, 2);
	ASSERT_EQ(0, do_wake(c->fd[1]));
	EXPECT_EQ(4, wake_at(c, CQ));
	EXPECT_EQ(SQ_ENTRIES, space_at(c, SQ));
	EXPECT_EQ(EVERING_READY_ENTRIES, join(&near));
	EXPECT_EQ(2, nr_sleepers(c->fd[0], 0));
	EXPECT_FALSE(done(&far));
	EXPECT_FALSE(done(&space));

	release(c, SQ, 1);
	ASSERT_EQ(0, do_wake(c->fd[1]));
	EXPECT_EQ(4, wake_at(c, CQ));
	EXPECT_EQ(EVERING_NOBODY, space_at(c, SQ));
	EXPECT_EQ(EVERING_READY_SPACE, join(&space));
	EXPECT_FALSE(done(&far));

	commit_range(c, CQ, 2, 5);
	ASSERT_EQ(0, do_wake(c->fd[1]));
	EXPECT_EQ(EVERING_READY_ENTRIES, join(&far));
	EXPECT_TRUE(nobody(c));
}

/* The words of both sides are apart: each rings for the other. */
TEST_F(wait, both_sides_sleep_at_once)
{
	struct channel *c = &self->c;
	struct sleeper a, b;

	start(&a, c->fd[0], wait_args(0, 1, FAR));
	start(&b, c->fd[1], wait_args(0, 2, FAR));
	ASSERT_TRUE(UNTIL(wake_at(c, CQ) == 0 && wake_at(c, SQ) == 1));
	EXPECT_EQ(1, nr_sleepers(c->fd[0], 0));
	EXPECT_EQ(1, nr_sleepers(c->fd[0], 1));
	commit(c, CQ, 0, EVERING_COMMITTED);
	ASSERT_EQ(0, do_wake(c->fd[1]));
	EXPECT_EQ(EVERING_READY_ENTRIES, join(&a));
	EXPECT_EQ(1, wake_at(c, SQ));
	EXPECT_FALSE(done(&b));
	commit_range(c, SQ, 0, 2);
	ASSERT_EQ(0, do_wake(c->fd[0]));
	EXPECT_EQ(EVERING_READY_ENTRIES, join(&b));
	EXPECT_TRUE(nobody(c));
}

TEST_F(wait, words_are_back_after_a_time_out)
{
	struct channel *c = &self->c;
	struct sleeper longer, s;

	commit_range(c, SQ, 0, SQ_ENTRIES);
	start(&longer, c->fd[0], wait_args(0, 7, FAR));
	ASSERT_TRUE(UNTIL(wake_at(c, CQ) == 6));
	start(&s, c->fd[0], both_args(0, 1, SQ_ENTRIES, 300));
	ASSERT_TRUE(UNTIL(wake_at(c, CQ) == 0));
	EXPECT_EQ(SQ_ENTRIES, space_at(c, SQ));
	EXPECT_EQ(-ETIME, join(&s));
	/* To what is still wanted. */
	EXPECT_EQ(6, wake_at(c, CQ));
	EXPECT_EQ(EVERING_NOBODY, space_at(c, SQ));
	EXPECT_EQ(1, nr_sleepers(c->fd[0], 0));
	EXPECT_FALSE(done(&longer));
	commit_range(c, CQ, 0, 7);
	ASSERT_EQ(0, do_wake(c->fd[1]));
	EXPECT_EQ(EVERING_READY_ENTRIES, join(&longer));
	EXPECT_TRUE(nobody(c));
	EXPECT_EQ(0, nr_sleepers(c->fd[0], 0));
}

/* ----------------------------------------------------------- doorbells */

TEST_F(wait, a_doorbell_too_early_wakes_nobody)
{
	struct channel *c = &self->c;
	struct sleeper s;
	long slept;
	int i;

	commit_range(c, SQ, 0, SQ_ENTRIES);
	start(&s, c->fd[0], both_args(0, 3, SQ_ENTRIES, FAR));
	ASSERT_TRUE(UNTIL(wake_at(c, CQ) == 2));
	sleep_ms(20);
	slept = times_slept(&s);
	ASSERT_LE(1, slept);
	for (i = 0; i < 100; i++) {
		/* Nothing; then too little. */
		if (i == 30)
			commit(c, CQ, 0, EVERING_COMMITTED);
		if (i == 60)
			commit(c, CQ, 1, EVERING_COMMITTED);
		EXPECT_EQ(0, do_wake(c->fd[1]));
		EXPECT_EQ(2, wake_at(c, CQ));
		EXPECT_EQ(SQ_ENTRIES, space_at(c, SQ));
		/* The other way round it is nobody's business here. */
		EXPECT_EQ(0, do_wake(c->fd[0]));
	}
	/* It has not even run. */
	EXPECT_EQ(slept, times_slept(&s));
	EXPECT_FALSE(done(&s));
	EXPECT_EQ(2, wake_at(c, CQ));
	EXPECT_EQ(SQ_ENTRIES, space_at(c, SQ));
	EXPECT_EQ(1, nr_sleepers(c->fd[0], 0));

	commit(c, CQ, 2, EVERING_COMMITTED);
	EXPECT_EQ(0, do_wake(c->fd[1]));
	EXPECT_EQ(EVERING_READY_ENTRIES, join(&s));
}

TEST_F(wait, a_doorbell_wakes_those_whose_wish_has_come_true)
{
	struct channel *c = &self->c;
	struct sleeper s[5];
	long slept[5];
	int i;

	for (i = 0; i < 5; i++)
		start(&s[i], c->fd[0], wait_args(0, 2 * i + 1, FAR));
	ASSERT_TRUE(UNTIL(nr_sleepers(c->fd[0], 0) == 5));
	sleep_ms(20);
	for (i = 0; i < 5; i++)
		slept[i] = times_slept(&s[i]);
	commit_range(c, CQ, 0, 5);
	ASSERT_EQ(0, do_wake(c->fd[1]));
	/* One, three and five are there. */
	EXPECT_EQ(6, wake_at(c, CQ));
	for (i = 0; i < 3; i++)
		EXPECT_EQ(EVERING_READY_ENTRIES, join(&s[i]));
	sleep_ms(20);
	for (i = 3; i < 5; i++) {
		EXPECT_FALSE(done(&s[i]));
		EXPECT_EQ(slept[i], times_slept(&s[i]));
	}
	EXPECT_EQ(2, nr_sleepers(c->fd[0], 0));
	commit_range(c, CQ, 5, 9);
	ASSERT_EQ(0, do_wake(c->fd[1]));
	EXPECT_EQ(EVERING_READY_ENTRIES, join(&s[3]));
	EXPECT_EQ(EVERING_READY_ENTRIES, join(&s[4]));
	EXPECT_TRUE(nobody(c));
}

struct player {
	pthread_t thread;
	struct channel *c;
	int side;
	unsigned int rounds;
	unsigned int enters;
	unsigned int doorbells;
	int ret;
};

/* Side A serves; a round trip is one commit and one wait on each side. */
static void *play(void *arg)
{
	struct player *p = arg;
	int theirs = !p->side;
	unsigned int i;

	for (i = 0; i < p->rounds + p->side; i++) {
		struct evering_enter args = wait_args(i, 1, FAR);

		/* B answers what it has waited for before. */
		if (i >= p->side) {
			uint64_t pos = i - p->side;

			commit(p->c, p->side, pos, EVERING_COMMITTED);
			if (wake_due(p->c, p->side, pos)) {
				args.flags |= EVERING_ENTER_WAKE_PEER;
				p->doorbells++;
			}
		}
		if (i == p->rounds)	/* the last answer; nothing follows */
			args.flags &= ~EVERING_ENTER_WAIT;
		p->enters++;
		p->ret = enter(p->c->fd[p->side], args);
		if (i == p->rounds)
			break;
		if (p->ret != EVERING_READY_ENTRIES)
			return NULL;
		if (judge(p->c, theirs, i) != EVERING_SLOT_READY) {
			p->ret = -EPROTO;
			return NULL;
		}
		release(p->c, theirs, i + 1);
	}
	return NULL;
}

TEST_F(wait, one_call_wakes_the_peer_and_waits)
{
	struct player p[2] = {
		{ .c = &self->c, .side = 0, .rounds = 2000 },
		{ .c = &self->c, .side = 1, .rounds = 2000 },
	};
	int i;

	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, pthread_create(&p[i].thread, NULL, play, &p[i]));
	for (i = 0; i < 2; i++)
		pthread_join(p[i].thread, NULL);
	EXPECT_EQ(EVERING_READY_ENTRIES, p[0].ret);
	EXPECT_EQ(0, p[1].ret);
	EXPECT_EQ(2000, p[0].enters);
	EXPECT_EQ(2001, p[1].enters);
	/* And most of them have found the peer asleep. */
	EXPECT_LT(1000, p[0].doorbells + p[1].doorbells);
	EXPECT_TRUE(nobody(&self->c));
}

/* ------------------------------------------------------ what ends a wait */

TEST_F(wait, an_entry_that_is_there_ends_it_at_once)
{
	struct channel *c = &self->c;
	struct evering_enter args = wait_args(0, 1, 0);

	args.deadline = EVERING_NO_DEADLINE;
	commit(c, CQ, 0, EVERING_COMMITTED);
	EXPECT_EQ(EVERING_READY_ENTRIES, enter(c->fd[0], args));
	args.wait_pos = 1;
	commit(c, CQ, 1, EVERING_SKIPPED);
	EXPECT_EQ(EVERING_READY_ENTRIES, enter(c->fd[0], args));
	/* Still being written. */
	commit(c, CQ, 2, EVERING_RESERVED);
	EXPECT_EQ(-ETIME, wait_for(c->fd[0], 2, 1, 5));
	commit(c, CQ, 2, EVERING_COMMITTED);
	EXPECT_EQ(EVERING_READY_ENTRIES, wait_for(c->fd[0], 2, 1, FAR));
	/* What was there a lap ago is not there now. */
	EXPECT_EQ(-ETIME, wait_for(c->fd[0], CQ_ENTRIES, 1, 5));
	/* Side B likewise. */
	EXPECT_EQ(-ETIME, wait_for(c->fd[1], 0, 1, 5));
	commit(c, SQ, 0, EVERING_COMMITTED);
	EXPECT_EQ(EVERING_READY_ENTRIES, wait_for(c->fd[1], 0, 1, FAR));
}

TEST_F(wait, min_complete_is_exact)
{
	static const unsigned int wanted[] = { 1, 2, 3, CQ_ENTRIES };
	struct channel *c = &self->c;
	uint64_t pos = 5;
	int i;

	commit_range(c, CQ, 0, pos);
	for (i = 0; i < 4; i++) {
		unsigned int n = wanted[i];

		commit_range(c, CQ, pos, pos + n - 1);
		EXPECT_EQ(-ETIME, wait_for(c->fd[0], pos, n, 5));
		commit(c, CQ, pos + n - 1, EVERING_SKIPPED);
		EXPECT_EQ(EVERING_READY_ENTRIES,
			  wait_for(c->fd[0], pos, n, FAR));
		pos += n;
	}
}

TEST_F(wait, room_ends_it)
{
	struct channel *c = &self->c;
	struct evering_enter args = space_args(SQ_ENTRIES - 1, 0);

	args.deadline = EVERING_NO_DEADLINE;
	commit_range(c, SQ, 0, SQ_ENTRIES - 1);
	EXPECT_EQ(EVERING_READY_SPACE, enter(c->fd[0], args));
	commit(c, SQ, SQ_ENTRIES - 1, EVERING_COMMITTED);
	EXPECT_EQ(-ETIME, enter(c->fd[0], space_args(SQ_ENTRIES, 5)));
	release(c, SQ, 1);
	args.space_pos = SQ_ENTRIES;
	EXPECT_EQ(EVERING_READY_SPACE, enter(c->fd[0], args));
	EXPECT_EQ(-ETIME, enter(c->fd[0], space_args(SQ_ENTRIES + 1, 5)));
	/* Side B likewise, in its own ring. */
	commit_range(c, CQ, 0, CQ_ENTRIES);
	EXPECT_EQ(-ETIME, enter(c->fd[1], space_args(CQ_ENTRIES, 5)));
	release(c, CQ, CQ_ENTRIES);
	EXPECT_EQ(EVERING_READY_SPACE,
		  enter(c->fd[1], space_args(CQ_ENTRIES, FAR)));
}

TEST_F(wait, either_wish_ends_a_wait_for_both)
{
	struct channel *c = &self->c;
	struct sleeper s;

	commit_range(c, SQ, 0, SQ_ENTRIES);
	EXPECT_EQ(-ETIME, enter(c->fd[0], both_args(0, 2, SQ_ENTRIES, 5)));

	start(&s, c->fd[0], both_args(0, 2, SQ_ENTRIES, FAR));
	ASSERT_TRUE(UNTIL(wake_at(c, CQ) == 1));
	EXPECT_EQ(SQ_ENTRIES, space_at(c, SQ));
	commit_range(c, CQ, 0, 2);
	EXPECT_TRUE(wake_due(c, CQ, 1));
	ASSERT_EQ(0, do_wake(c->fd[1]));
	EXPECT_EQ(EVERING_READY_ENTRIES, join(&s));
	EXPECT_TRUE(nobody(c));

	start(&s, c->fd[0], both_args(2, 1, SQ_ENTRIES, FAR));
	ASSERT_TRUE(UNTIL(wake_at(c, CQ) == 2));
	EXPECT_TRUE(release(c, SQ, 1));
	ASSERT_EQ(0, do_wake(c->fd[1]));
	EXPECT_EQ(EVERING_READY_SPACE, join(&s));
	EXPECT_TRUE(nobody(c));

	/* Both are there, whether it sleeps or not. */
	commit(c, SQ, SQ_ENTRIES, EVERING_COMMITTED);
	start(&s, c->fd[0], both_args(2, 1, SQ_ENTRIES + 1, FAR));
	ASSERT_TRUE(UNTIL(wake_at(c, CQ) == 2));
	commit(c, CQ, 2, EVERING_COMMITTED);
	release(c, SQ, 2);
	ASSERT_EQ(0, do_wake(c->fd[1]));
	EXPECT_EQ(EVERING_READY_ENTRIES | EVERING_READY_SPACE, join(&s));
	EXPECT_EQ(EVERING_READY_ENTRIES | EVERING_READY_SPACE,
		  enter(c->fd[0], both_args(2, 1, SQ_ENTRIES + 1, FAR)));
	/* Only what was asked for is answered. */
	EXPECT_EQ(EVERING_READY_ENTRIES, wait_for(c->fd[0], 2, 1, FAR));
	EXPECT_EQ(EVERING_READY_SPACE,
		  enter(c->fd[0], space_args(SQ_ENTRIES + 1, FAR)));
}

TEST_F(wait, who_does_not_wait_gets_zero)
{
	struct channel *c = &self->c;
	struct evering_enter args = wait_args(0, 1, 0);

	commit(c, CQ, 0, EVERING_COMMITTED);
	args.flags = 0;
	EXPECT_EQ(0, enter(c->fd[0], args));
	args.flags = EVERING_ENTER_WAKE_PEER;
	EXPECT_EQ(0, enter(c->fd[0], args));
	/* What belongs to waits is not looked at. */
	args.min_complete = 0;
	args.generation = 77;
	EXPECT_EQ(0, enter(c->fd[0], args));
	args.flags = EVERING_ENTER_WAIT_SPACE;
	args.generation = 0;
	EXPECT_EQ(EVERING_READY_SPACE, enter(c->fd[0], args));
}

/* -------------------------------------------------------------- arguments */

TEST_F(wait, wrong_values_are_refused)
{
	struct channel *c = &self->c;
	struct evering_enter args;
	unsigned int bit;

	EXPECT_EQ(-EINVAL, wait_for(c->fd[0], 0, 0, 5));
	EXPECT_EQ(-EINVAL, wait_for(c->fd[0], 0, CQ_ENTRIES + 1, 5));
	EXPECT_EQ(-EINVAL, wait_for(c->fd[0], 0, ~0U, 5));
	EXPECT_EQ(-ETIME, wait_for(c->fd[0], 0, CQ_ENTRIES, 5));
	/* By the ring that is consumed. */
	EXPECT_EQ(-EINVAL, wait_for(c->fd[1], 0, SQ_ENTRIES + 1, 5));
	EXPECT_EQ(-ETIME, wait_for(c->fd[1], 0, SQ_ENTRIES, 5));
	EXPECT_EQ(-EINVAL, enter(c->fd[0], both_args(0, 0, 0, 5)));
	for (bit = 3; bit < 32; bit++) {
		args = wait_args(0, 1, 5);
		args.flags |= 1U << bit;
		EXPECT_EQ(-EINVAL, enter(c->fd[0], args));
	}
	EXPECT_TRUE(nobody(c));
}

TEST_F(wait, another_generation_is_told)
{
	struct channel *c = &self->c;
	struct evering_enter args;
	int flags;

	commit_range(c, SQ, 0, SQ_ENTRIES);
	for (flags = EVERING_ENTER_WAIT;
	     flags <= (EVERING_ENTER_WAIT | EVERING_ENTER_WAIT_SPACE); flags += 2) {
		args = both_args(0, 1, SQ_ENTRIES, FAR);
		args.flags = flags;
		args.generation = header_of(c, 0)->side[1].generation + 1;
		EXPECT_EQ(-ECONNRESET, enter(c->fd[0], args));
		args.generation = ~0U;
		EXPECT_EQ(-ECONNRESET, enter(c->fd[0], args));
	}
	/* What is there is taken first. */
	commit(c, CQ, 0, EVERING_COMMITTED);
	args = wait_args(0, 1, FAR);
	args.generation = 1;
	EXPECT_EQ(EVERING_READY_ENTRIES, enter(c->fd[0], args));
	release(c, SQ, 1);
	args = space_args(SQ_ENTRIES, FAR);
	args.generation = 1;
	EXPECT_EQ(EVERING_READY_SPACE, enter(c->fd[0], args));
}

/* What ENTER of side A returns for any positions; see kmod/wait.c. */
static int expected(struct channel *c, const struct evering_enter *args)
{
	uint64_t last = args->wait_pos + args->min_complete - 1;
	int ready = 0;

	if ((args->flags & EVERING_ENTER_WAIT) &&
	    judge(c, CQ, args->wait_pos) != EVERING_SLOT_NOT_YET &&
	    judge(c, CQ, last) != EVERING_SLOT_NOT_YET)
		ready |= EVERING_READY_ENTRIES;
	if ((args->flags & EVERING_ENTER_WAIT_SPACE) &&
	    args->space_pos - load(&control_of(c, 1)->head) != SQ_ENTRIES)
		ready |= EVERING_READY_SPACE;
	if (!ready && (args->flags & ~EVERING_ENTER_WAKE_PEER))
		return -ETIME;
	return ready;
}

/* One call, and it must return what is to be expected, and soon. */
static void enter_as_expected(struct __test_metadata *_metadata,
			      struct channel *c, struct evering_enter args)
{
	uint64_t begin = now_ns();

	ASSERT_EQ(expected(c, &args), enter(c->fd[0], args)) {
		TH_LOG("flags %x wait_pos %llx min_complete %u space_pos %llx",
		       args.flags, args.wait_pos, args.min_complete,
		       args.space_pos);
	}
	ASSERT_LT(now_ns(), begin + SOON * MS);
}

static void enter_at(struct __test_metadata *_metadata, struct channel *c,
		     uint64_t wait_pos, uint64_t space_pos)
{
	static const unsigned int wanted[] = { 1, 2, CQ_ENTRIES };
	int i;

	for (i = 0; i < 3 * 8; i++) {
		/* Where both are the same it sleeps, for a moment. */
		struct evering_enter args = both_args(wait_pos, wanted[i / 8],
						      space_pos,
						      wait_pos == space_pos);

		args.flags = i % 8;
		enter_as_expected(_metadata, c, args);
	}
}

TEST_F(wait, hostile_positions_do_no_harm)
{
	struct channel *c = &self->c;
	int i, round;

	/* Empty rings, then full ones. */
	for (round = 0; round < 2; round++) {
		for (i = 0; i < NR_HOSTILE * NR_HOSTILE; i++)
			enter_at(_metadata, c, hostile[i % NR_HOSTILE],
				 hostile[i / NR_HOSTILE]);
		commit_range(c, CQ, 0, CQ_ENTRIES);
		commit_range(c, SQ, 0, SQ_ENTRIES);
	}
	EXPECT_TRUE(nobody(c));
	EXPECT_EQ(0, nr_sleepers(c->fd[0], 0));
	/* It has only fooled itself. */
	commit(c, CQ, CQ_ENTRIES, EVERING_COMMITTED);
	EXPECT_EQ(EVERING_READY_ENTRIES, wait_for(c->fd[0], CQ_ENTRIES, 1, FAR));
}

static void poll_at_heads(struct __test_metadata *_metadata, struct channel *c,
			  uint64_t head, uint64_t tail, uint64_t peers_head)
{
	short events = 0;

	control_of(c, 0)->head = head;
	control_of(c, 0)->tail = tail;
	control_of(c, 1)->head = peers_head;
	/* The peer's hint is nobody's. */
	control_of(c, 1)->tail = ~tail;
	if (judge(c, CQ, head) != EVERING_SLOT_NOT_YET)
		events |= POLLIN;
	if (tail - peers_head != SQ_ENTRIES)
		events |= POLLOUT;
	ASSERT_EQ(events, poll_now(c->fd[0])) {
		TH_LOG("head %llx tail %llx peer's head %llx",
		       (unsigned long long)head, (unsigned long long)tail,
		       (unsigned long long)peers_head);
	}
}

TEST_F(wait, hostile_heads_do_no_harm)
{
	struct channel *c = &self->c;
	int i, j, k;

	for (i = 0; i < NR_HOSTILE * NR_HOSTILE; i++) {
		uint64_t peers = hostile[i / NR_HOSTILE];
		uint64_t pos = hostile[i % NR_HOSTILE];

		control_of(c, 1)->head = peers;
		/* Its own head is nothing to a producer. */
		control_of(c, 0)->head = hostile[i * 7 % NR_HOSTILE];
		ASSERT_EQ(pos - peers != SQ_ENTRIES ? EVERING_READY_SPACE : -ETIME,
			  enter(c->fd[0], space_args(pos, 0)));
	}
	for (i = 0; i < NR_HOSTILE; i++)
		for (j = 0; j < NR_HOSTILE; j++)
			for (k = 0; k < NR_HOSTILE; k++)
				poll_at_heads(_metadata, c, hostile[i],
					      hostile[j], hostile[k]);
	/* fdinfo reads them too. */
	EXPECT_EQ(0, nr_sleepers(c->fd[0], 0));
}

/* A head that sleepers wait for and that then goes astray: no hang. */
TEST_F(wait, a_head_that_lies_counts_as_room)
{
	struct channel *c = &self->c;
	struct sleeper s;
	int i;

	for (i = 1; i < NR_HOSTILE; i++) {
		control_of(c, 1)->head = 0;
		start(&s, c->fd[0], space_args(SQ_ENTRIES, FAR));
		ASSERT_TRUE(UNTIL(space_at(c, SQ) == SQ_ENTRIES));
		control_of(c, 1)->head = hostile[i];
		ASSERT_EQ(0, do_wake(c->fd[1]));
		EXPECT_EQ(EVERING_READY_SPACE, join(&s));
	}
}

/* ----------------------------------------------------------- stamps that lie */

static void judge_stamp(struct __test_metadata *_metadata, struct channel *c,
			uint64_t pos, uint64_t stamp, bool ready)
{
	*stamp_of(c, CQ, pos) = stamp;
	control_of(c, 0)->head = pos;
	EXPECT_EQ(ready, judge(c, CQ, pos) != EVERING_SLOT_NOT_YET);
	EXPECT_EQ(ready ? EVERING_READY_ENTRIES : -ETIME,
		  wait_for(c->fd[0], pos, 1, 0)) {
		TH_LOG("pos %llx stamp %llx", (unsigned long long)pos,
		       (unsigned long long)stamp);
	}
	EXPECT_EQ(ready, !!(poll_now(c->fd[0]) & POLLIN));
}

TEST_F(wait, stamps_are_judged_as_the_specification_says)
{
	const uint64_t half = 1ULL << (63 - EVERING_LAP_SHIFT);
	/* How far off a lap is that tells something, whatever the state. */
	const uint64_t lies[] = {
		1, 2, 100, half - 1, half, half + 1, (uint64_t)-3, (uint64_t)-2,
	};
	/* EMPTY to SKIPPED in the right lap; EMPTY is a lie. */
	static const bool now[] = { true, false, true, true };
	/* Count and owner do not matter here. */
	static const uint64_t others[] = {
		0, 0xffULL << EVERING_COUNT_SHIFT,
		0xfffULL << EVERING_OWNER_SHIFT,
		0xfffffULL << EVERING_OWNER_SHIFT,
	};
	static const uint64_t positions[] = { 5, 3 * CQ_ENTRIES + 7, 1ULL << 40 };
	struct channel *c = &self->c;
	int i, j;

	for (i = 0; i < 3 * 4 * 4; i++) {
		uint64_t pos = positions[i / 16], lap = lap_of(c, CQ, pos);
		uint64_t rest = others[i / 4 % 4] | (i % 4);

		judge_stamp(_metadata, c, pos,
			    lap << EVERING_LAP_SHIFT | rest, now[i % 4]);
		judge_stamp(_metadata, c, pos,
			    (lap - 1) << EVERING_LAP_SHIFT | rest, false);
		for (j = 0; j < ARRAY_SIZE(lies); j++)
			judge_stamp(_metadata, c, pos,
				    (lap + lies[j]) << EVERING_LAP_SHIFT | rest,
				    true);
	}
}

TEST_F(wait, garbage_in_stamps_does_no_harm)
{
	struct channel *c = &self->c;
	uint64_t garbage = 0x9e3779b97f4a7c15;
	int i;

	for (i = 0; i < 5000; i++) {
		struct evering_enter args = wait_args(i, 1, 0);
		int slot;

		garbage ^= garbage << 13;
		garbage ^= garbage >> 7;
		garbage ^= garbage << 17;
		/* Often near to what would be right. */
		slot = garbage % CQ_ENTRIES;
		*stamp_of(c, CQ, slot) = i % 3 ? garbage :
			(lap_of(c, CQ, i) + garbage % 5 - 2) <<
			EVERING_LAP_SHIFT | (garbage >> 60);
		args.min_complete = 1 + garbage % CQ_ENTRIES;
		ASSERT_EQ(expected(c, &args), enter(c->fd[0], args));
	}
	EXPECT_TRUE(nobody(c));
}

/* -------------------------------------------------------------- deadlines */

TEST_F(wait, a_deadline_in_the_past)
{
	const uint64_t past[] = { 0, 1, now_ns() - 1000 * MS, now_ns() };
	struct channel *c = &self->c;
	struct evering_enter args = wait_args(0, 1, 0);
	uint64_t begin = now_ns();
	int i;

	commit_range(c, SQ, 0, SQ_ENTRIES);
	args.space_pos = SQ_ENTRIES;
	for (i = 0; i < 4; i++) {
		args.deadline = past[i];
		args.flags = EVERING_ENTER_WAIT;
		EXPECT_EQ(-ETIME, enter(c->fd[0], args));
		args.flags = EVERING_ENTER_WAIT_SPACE;
		EXPECT_EQ(-ETIME, enter(c->fd[0], args));
		args.flags = EVERING_ENTER_WAIT | EVERING_ENTER_WAIT_SPACE;
		EXPECT_EQ(-ETIME, enter(c->fd[0], args));
	}
	/* Success beats time-out. */
	commit(c, CQ, 0, EVERING_COMMITTED);
	for (i = 0; i < 4; i++) {
		args.deadline = past[i];
		EXPECT_EQ(EVERING_READY_ENTRIES, enter(c->fd[0], args));
	}
	EXPECT_LT(now_ns(), begin + SOON * MS);
}

TEST_F(wait, an_entry_beats_a_time_out)
{
	struct channel *c = &self->c;
	struct sleeper s;

	commit_range(c, SQ, 0, SQ_ENTRIES);
	start(&s, c->fd[0], both_args(0, 1, SQ_ENTRIES, 300));
	ASSERT_TRUE(UNTIL(wake_at(c, CQ) == 0));
	ASSERT_LE(0, times_slept(&s));
	/* No doorbell: it finds this when it wakes by itself. */
	commit(c, CQ, 0, EVERING_COMMITTED);
	release(c, SQ, 1);
	EXPECT_EQ(EVERING_READY_ENTRIES | EVERING_READY_SPACE, join(&s));
	EXPECT_LE(s.args.deadline, s.returned);
}

TEST_F(wait, a_time_out_comes_in_time)
{
	static const unsigned int timeouts[] = { 1, 20, 200 };
	struct channel *c = &self->c;
	int i;

	commit_range(c, SQ, 0, SQ_ENTRIES);
	for (i = 0; i < 3; i++) {
		struct evering_enter args = wait_args(0, 1, timeouts[i]);

		EXPECT_EQ(-ETIME, enter(c->fd[0], args));
		EXPECT_LE(args.deadline, now_ns());
		EXPECT_GT(args.deadline + SOON * MS, now_ns());
		args = space_args(SQ_ENTRIES, timeouts[i]);
		EXPECT_EQ(-ETIME, enter(c->fd[0], args));
		EXPECT_LE(args.deadline, now_ns());
		EXPECT_GT(args.deadline + SOON * MS, now_ns());
	}
}

/* Doorbells in between, too early ones, do not move a deadline. */
TEST_F(wait, a_deadline_stays_where_it_is)
{
	struct channel *c = &self->c;
	struct sleeper s;

	start(&s, c->fd[0], wait_args(0, 2, 300));
	commit(c, CQ, 0, EVERING_COMMITTED);
	while (!done(&s) && now_ns() < s.args.deadline + SOON * MS) {
		do_wake(c->fd[1]);
		/* Shutdown of the own side wakes everybody, for nothing. */
		EXPECT_EQ(0, do_shutdown(c->fd[0], EVERING_SHUT_WR));
		sleep_ms(5);
	}
	EXPECT_EQ(-ETIME, join(&s));
	EXPECT_LE(s.args.deadline, s.returned);
	EXPECT_GT(s.args.deadline + SOON * MS, s.returned);
}

TEST_F(wait, without_a_deadline_it_sleeps_until_woken)
{
	const uint64_t never[] = {
		EVERING_NO_DEADLINE, EVERING_NO_DEADLINE - 1, 1ULL << 63,
		(1ULL << 63) - 1, (1ULL << 63) - 2,
	};
	struct channel *c = &self->c;
	struct sleeper s[5];
	int i;

	for (i = 0; i < 5; i++) {
		struct evering_enter args = wait_args(0, 1, 0);

		args.deadline = never[i];
		start(&s[i], c->fd[0], args);
	}
	ASSERT_TRUE(UNTIL(nr_sleepers(c->fd[0], 0) == 5));
	sleep_ms(200);
	EXPECT_EQ(5, nr_sleepers(c->fd[0], 0));
	for (i = 0; i < 5; i++)
		EXPECT_FALSE(done(&s[i]));
	commit(c, CQ, 0, EVERING_COMMITTED);
	ASSERT_EQ(0, do_wake(c->fd[1]));
	for (i = 0; i < 5; i++)
		EXPECT_EQ(EVERING_READY_ENTRIES, join(&s[i]));
}

/*
 * In a time namespace that is @offset seconds ahead; the exit status tells
 * where it went wrong.
 */
static int wait_by_another_clock(int64_t offset, uint64_t hosts)
{
	int64_t ahead = now_ns() - hosts;
	struct evering_enter args;
	struct sleeper far, never;
	uint64_t begin;
	struct channel c;

	/* A deadline that is taken for the host's may be ages away. */
	alarm(10);
	if (ahead < offset * 1000 * (int64_t)MS ||
	    ahead > (offset * 1000 + SOON) * (int64_t)MS)
		return 10;
	if (open_rings(&c, SQ_ENTRIES, CQ_ENTRIES))
		return 11;
	args = wait_args(0, 1, 150);
	if (enter(c.fd[0], args) != -ETIME)
		return 12;
	if (now_ns() < args.deadline || now_ns() > args.deadline + SOON * MS)
		return 13;
	/* A moment that may lie before the host's clock began. */
	begin = now_ns();
	args.deadline = 1;
	if (enter(c.fd[0], args) != -ETIME)
		return 14;
	args.deadline = begin - 500 * MS;
	if (enter(c.fd[0], args) != -ETIME)
		return 15;
	if (now_ns() > begin + SOON * MS)
		return 16;
	/* As far away as can be stays so. */
	args.deadline = (1ULL << 63) - 2;
	start(&far, c.fd[0], args);
	args.deadline = EVERING_NO_DEADLINE;
	start(&never, c.fd[0], args);
	if (!UNTIL(nr_sleepers(c.fd[0], 0) == 2))
		return 17;
	sleep_ms(100);
	if (done(&far) || done(&never))
		return 18;
	commit(&c, CQ, 0, EVERING_COMMITTED);
	do_wake(c.fd[1]);
	if (join(&far) != EVERING_READY_ENTRIES ||
	    join(&never) != EVERING_READY_ENTRIES)
		return 19;
	return 0;
}

/* 0 or -errno. */
static int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	int ret = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		ret = -errno;
	close(fd);
	return ret;
}

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME	0x80
#endif
#define NO_TIME_NS	99

static int in_time_namespace(int offset)
{
	uint64_t hosts;
	char text[32];
	pid_t pid;

	snprintf(text, sizeof(text), "monotonic %d 0", offset);
	if (unshare(CLONE_NEWTIME) ||
	    write_file("/proc/self/timens_offsets", text))
		return NO_TIME_NS;
	hosts = now_ns();
	/* The namespace is the children's. */
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		_exit(wait_by_another_clock(offset, hosts));
	}
	return reap(pid);
}

TEST(a_deadline_is_by_the_clock_of_the_callers_time_namespace)
{
	/* The host's clock began when it booted: no further back than that. */
	static const int offsets[] = { 1000, -1, 0 };
	int i;

	for (i = 0; i < 3; i++) {
		pid_t pid = fork();
		int status;

		if (!pid) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			_exit(in_time_namespace(offsets[i]));
		}
		status = reap(pid);
		if (status == NO_TIME_NS)
			SKIP(return, "no time namespaces here");
		EXPECT_EQ(0, status) {
			TH_LOG("offset %d s", offsets[i]);
		}
	}
}

/* ---------------------------------------------------------------- signals */

static int signals;

static void on_signal(int sig)
{
	__atomic_fetch_add(&signals, 1, __ATOMIC_RELAXED);
}

static int handled(void)
{
	return __atomic_load_n(&signals, __ATOMIC_RELAXED);
}

static void handle_signal(int flags)
{
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = flags };

	signals = 0;
	sigaction(SIGUSR1, &action, NULL);
}

TEST_F(wait, a_signal_ends_it)
{
	struct channel *c = &self->c;
	struct sleeper s, other;
	int round;

	handle_signal(0);
	commit_range(c, SQ, 0, SQ_ENTRIES);
	start(&other, c->fd[0], wait_args(0, 4, FAR));
	ASSERT_TRUE(UNTIL(wake_at(c, CQ) == 3));
	for (round = 1; round <= 3; round++) {
		struct evering_enter args = both_args(0, 1, SQ_ENTRIES, FAR);

		if (round == 2)
			args.deadline = EVERING_NO_DEADLINE;
		start(&s, c->fd[0], args);
		ASSERT_TRUE(UNTIL(wake_at(c, CQ) == 0));
		EXPECT_EQ(SQ_ENTRIES, space_at(c, SQ));
		pthread_kill(s.thread, SIGUSR1);
		EXPECT_EQ(-EINTR, join(&s));
		EXPECT_EQ(round, handled());
		/* Who goes takes its word along and leaves that of others. */
		EXPECT_EQ(3, wake_at(c, CQ));
		EXPECT_EQ(EVERING_NOBODY, space_at(c, SQ));
		EXPECT_EQ(1, nr_sleepers(c->fd[0], 0));
	}
	EXPECT_FALSE(done(&other));
	pthread_kill(other.thread, SIGUSR1);
	EXPECT_EQ(-EINTR, join(&other));
	EXPECT_TRUE(nobody(c));
}

TEST_F(wait, a_restarted_call_ends_at_its_deadline)
{
	struct channel *c = &self->c;
	struct sleeper s;
	int i;

	handle_signal(SA_RESTART);
	start(&s, c->fd[0], wait_args(0, 1, 500));
	for (i = 1; i <= 5; i++) {
		ASSERT_TRUE(UNTIL(wake_at(c, CQ) == 0));
		sleep_ms(30);
		pthread_kill(s.thread, SIGUSR1);
		EXPECT_TRUE(UNTIL(handled() == i));
	}
	EXPECT_EQ(-ETIME, join(&s));
	EXPECT_EQ(5, handled());
	EXPECT_LE(s.args.deadline, s.returned);
	EXPECT_GT(s.args.deadline + SOON * MS, s.returned);
	EXPECT_TRUE(nobody(c));
}

TEST_F(wait, a_restarted_call_is_woken_like_any_other)
{
	struct channel *c = &self->c;
	struct sleeper s;
	int i;

	handle_signal(SA_RESTART);
	start(&s, c->fd[0], wait_args(0, 1, FAR));
	for (i = 1; i <= 3; i++) {
		ASSERT_TRUE(UNTIL(wake_at(c, CQ) == 0));
		pthread_kill(s.thread, SIGUSR1);
		EXPECT_TRUE(UNTIL(handled() == i));
	}
	ASSERT_TRUE(UNTIL(wake_at(c, CQ) == 0));
	EXPECT_FALSE(done(&s));
	commit(c, CQ, 0, EVERING_COMMITTED);
	EXPECT_TRUE(wake_due(c, CQ, 0));
	ASSERT_EQ(0, do_wake(c->fd[1]));
	EXPECT_EQ(EVERING_READY_ENTRIES, join(&s));
	EXPECT_EQ(3, handled());
}

/* Success beats signal: nothing is told of a signal that may be lost. */
TEST_F(wait, an_entry_beats_a_signal)
{
	struct channel *c = &self->c;
	struct sleeper s;

	handle_signal(0);
	commit_range(c, SQ, 0, SQ_ENTRIES);
	start(&s, c->fd[0], both_args(0, 1, SQ_ENTRIES, FAR));
	ASSERT_TRUE(UNTIL(wake_at(c, CQ) == 0));
	/* No doorbell: the signal is all that wakes it. */
	commit(c, CQ, 0, EVERING_COMMITTED);
	pthread_kill(s.thread, SIGUSR1);
	EXPECT_EQ(EVERING_READY_ENTRIES, join(&s));
	EXPECT_EQ(1, handled());
	EXPECT_TRUE(nobody(c));

	start(&s, c->fd[0], both_args(1, 1, SQ_ENTRIES, FAR));
	ASSERT_TRUE(UNTIL(wake_at(c, CQ) == 1));
	release(c, SQ, 1);
	pthread_kill(s.thread, SIGUSR1);
	EXPECT_EQ(EVERING_READY_SPACE, join(&s));
	EXPECT_EQ(2, handled());
	EXPECT_TRUE(nobody(c));
}

/* ------------------------------------------------------------------- SIGKILL */

/* A child that has side @side of the parent's service, and sleeps for ever. */
static void sleep_for_ever(int service, const char *name, int side)
{
	struct evering_connect args = connect_rings(name, SQ_ENTRIES, CQ_ENTRIES);
	struct evering_accept accepted;
	struct channel c = { .service = service };
	struct evering_enter enter_args;
	struct sleeper s[2];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (side == 0) {
		c.fd[0] = device_call(EVERING_IOC_CONNECT, &args);
		c.layout = args.layout;
	} else {
		c.fd[1] = do_accept(service, &accepted);
		c.layout = accepted.layout;
	}
	if (c.fd[side] < 0 || map_side(&c, side))
		_exit(1);
	commit_range(&c, side, 0, entries_of(&c, side));
	enter_args = both_args(0, 1, entries_of(&c, side), 0);
	enter_args.deadline = EVERING_NO_DEADLINE;
	start(&s[0], c.fd[side], enter_args);
	start(&s[1], c.fd[side], enter_args);
	enter(c.fd[side], enter_args);
	_exit(2);
}

FIXTURE(killed)
{
	struct channel c;	/* the side that lives */
	const char *name;
	pid_t pid;
};

FIXTURE_VARIANT(killed)
{
	int side;
};

FIXTURE_VARIANT_ADD(killed, client) { .side = 0 };
FIXTURE_VARIANT_ADD(killed, server) { .side = 1 };

FIXTURE_SETUP(killed)
{
	struct evering_accept accepted;
	struct channel *c = &self->c;

	self->name = test_name();
	c->service = do_listen(self->name);
	ASSERT_LE(0, c->service);
	if (variant->side == 1) {
		struct evering_connect args =
			connect_rings(self->name, SQ_ENTRIES, CQ_ENTRIES);

		c->fd[0] = device_call(EVERING_IOC_CONNECT, &args);
		ASSERT_LE(0, c->fd[0]);
		c->layout = args.layout;
	}
	self->pid = fork();
	ASSERT_LE(0, self->pid);
	if (!self->pid)
		sleep_for_ever(c->service, self->name, variant->side);
	if (variant->side == 0) {
		struct pollfd p = { .fd = c->service, .events = POLLIN };

		ASSERT_EQ(1, poll(&p, 1, FAR));
		c->fd[1] = do_accept(c->service, &accepted);
		ASSERT_LE(0, c->fd[1]);
		c->layout = accepted.layout;
	}
	ASSERT_EQ(0, map_side(c, !variant->side));
}

FIXTURE_TEARDOWN(killed)
{
	kill(self->pid, SIGKILL);
	waitpid(self->pid, NULL, 0);
}

TEST_F(killed, sleeper_leaves_no_trace)
{
	int side = variant->side, fd = self->c.fd[!side];
	struct channel *c = &self->c;

	ASSERT_TRUE(UNTIL(nr_sleepers(fd, side) == 3));
	EXPECT_FALSE(is_dead(fd, side));
	EXPECT_EQ(0, wake_at(c, !side));
	EXPECT_EQ(entries_of(c, side), space_at(c, side));
	ASSERT_EQ(0, kill(self->pid, SIGKILL));
	ASSERT_EQ(-SIGKILL, reap(self->pid));
	EXPECT_TRUE(nobody(c));
	EXPECT_EQ(0, nr_sleepers(fd, side));
	EXPECT_TRUE(is_dead(fd, side));
	EXPECT_EQ(0, nr_sleepers(fd, !side));
}

TEST_F(killed, sleeper_leaves_its_peer_what_it_has_sent)
{
	int side = variant->side, fd = self->c.fd[!side];
	struct channel *c = &self->c;
	uint64_t n = entries_of(c, side);
	struct sleeper s, space;

	ASSERT_TRUE(UNTIL(nr_sleepers(fd, side) == 3));
	commit_range(c, !side, 0, entries_of(c, !side));
	/* Two more than there will ever be. */
	start(&s, fd, wait_args(2, n, FAR));
	start(&space, fd, space_args(entries_of(c, !side), FAR));
	ASSERT_TRUE(UNTIL(nr_sleepers(fd, !side) == 2));
	ASSERT_EQ(0, kill(self->pid, SIGKILL));
	/* Woken by the death, and told what is left. */
	EXPECT_EQ(EVERING_READY_ENTRIES, join(&s));
	EXPECT_EQ(-EPIPE, join(&space));
	ASSERT_EQ(-SIGKILL, reap(self->pid));
	EXPECT_TRUE(nobody(c));
	EXPECT_EQ(EVERING_READY_ENTRIES, wait_for(fd, 0, n, FAR));
	EXPECT_EQ(EVERING_READY_ENTRIES, wait_for(fd, n - 1, 1, FAR));
	EXPECT_EQ(-EPIPE, wait_for(fd, n, 1, FAR));
	EXPECT_EQ(-EPIPE, enter(fd, both_args(n, 1, 0, FAR)));
	EXPECT_EQ(-EPIPE, enter(fd, space_args(0, FAR)));
	EXPECT_EQ(-EPIPE, do_wake(fd));
}

TEST_F(killed, sleeper_ends_a_wait_for_entries_that_never_come)
{
	int side = variant->side, fd = self->c.fd[!side];
	struct channel *c = &self->c;
	uint64_t n = entries_of(c, side);
	struct sleeper s, both;

	ASSERT_TRUE(UNTIL(nr_sleepers(fd, side) == 3));
	commit_range(c, !side, 0, entries_of(c, !side));
	start(&s, fd, wait_args(n, 1, FAR));
	start(&both, fd, both_args(n, 1, entries_of(c, !side), FAR));
	ASSERT_TRUE(UNTIL(nr_sleepers(fd, !side) == 2));
	ASSERT_EQ(0, kill(self->pid, SIGKILL));
	EXPECT_EQ(-EPIPE, join(&s));
	EXPECT_EQ(-EPIPE, join(&both));
	ASSERT_EQ(-SIGKILL, reap(self->pid));
}

/* --------------------------------------------------------- many of one side */

TEST_F(wait, only_so_many_of_one_side_sleep)
{
	struct sleeper s[MAX_SLEEPERS + 4];
	struct channel *c = &self->c;
	int i, refused = 0, ended = 0;

	/* Entry 0 is there, and nobody but the last one below wants it. */
	commit(c, CQ, 0, EVERING_COMMITTED);
	commit_range(c, SQ, 0, SQ_ENTRIES);
	for (i = 0; i < MAX_SLEEPERS + 4; i++)
		start(&s[i], c->fd[0],
		      i % 2 ? wait_args(1, 1 + i % CQ_ENTRIES, FAR) :
			      both_args(1, 2, SQ_ENTRIES, FAR));
	ASSERT_TRUE(UNTIL(nr_sleepers(c->fd[0], 0) == MAX_SLEEPERS));
	sleep_ms(50);
	EXPECT_EQ(MAX_SLEEPERS, nr_sleepers(c->fd[0], 0));
	for (i = 0; i < MAX_SLEEPERS + 4; i++) {
		if (!done(&s[i]))
			continue;
		refused++;
		EXPECT_EQ(-EBUSY, s[i].ret);
	}
	EXPECT_EQ(4, refused);
	EXPECT_EQ(-EBUSY, wait_for(c->fd[0], 1, 1, FAR));
	EXPECT_EQ(-EBUSY, enter(c->fd[0], space_args(SQ_ENTRIES, FAR)));
	/* Not too many to see what is there. */
	EXPECT_EQ(EVERING_READY_ENTRIES, wait_for(c->fd[0], 0, 1, FAR));
	/* The other side has places of its own. */
	EXPECT_EQ(-ETIME, wait_for(c->fd[1], SQ_ENTRIES, 1, 20));
	EXPECT_EQ(MAX_SLEEPERS, nr_sleepers(c->fd[0], 0));

	EXPECT_EQ(0, do_shutdown(c->fd[1], EVERING_SHUT_WR | EVERING_SHUT_RD));
	for (i = 0; i < MAX_SLEEPERS + 4; i++) {
		int ret = join(&s[i]);

		/* Who waits for room as well learns of the end of that. */
		ended += ret == (i % 2 ? -ESHUTDOWN : -EPIPE);
	}
	EXPECT_EQ(MAX_SLEEPERS, ended);
	EXPECT_TRUE(nobody(c));
	EXPECT_EQ(0, nr_sleepers(c->fd[0], 0));
}

TEST_F(wait, a_place_is_free_again)
{
	struct sleeper s[MAX_SLEEPERS];
	struct channel *c = &self->c;
	int i, round;

	for (round = 0; round < 3; round++) {
		for (i = 0; i < MAX_SLEEPERS; i++)
			start(&s[i], c->fd[0], wait_args(round, 1,
							 round ? FAR : 200));
		if (!round) {
			for (i = 0; i < MAX_SLEEPERS; i++)
				EXPECT_EQ(-ETIME, join(&s[i]));
		} else {
			ASSERT_TRUE(UNTIL(nr_sleepers(c->fd[0], 0) ==
					  MAX_SLEEPERS));
			EXPECT_EQ(-EBUSY, wait_for(c->fd[0], round, 1, FAR));
		}
		commit(c, CQ, round, EVERING_COMMITTED);
		ASSERT_EQ(0, do_wake(c->fd[1]));
		for (i = 0; round && i < MAX_SLEEPERS; i++)
			EXPECT_EQ(EVERING_READY_ENTRIES, join(&s[i]));
		EXPECT_EQ(0, nr_sleepers(c->fd[0], 0));
	}
}

/* --------------------------------------------------------------- SHUTDOWN */

FIXTURE(shutdown)
{
	struct channel c;
};

/* The side that shuts down. */
FIXTURE_VARIANT(shutdown)
{
	int side;
};

FIXTURE_VARIANT_ADD(shutdown, client) { .side = 0 };
FIXTURE_VARIANT_ADD(shutdown, server) { .side = 1 };

FIXTURE_SETUP(shutdown)
{
	ASSERT_EQ(0, open_rings(&self->c, SQ_ENTRIES, CQ_ENTRIES));
}

FIXTURE_TEARDOWN(shutdown)
{
	close(self->c.fd[0]);
	close(self->c.fd[1]);
	close(self->c.service);
}

TEST_F(shutdown, wrong_values_are_refused)
{
	struct channel *c = &self->c;
	int fd = c->fd[variant->side];
	struct evering_shutdown args = {
		.size = sizeof(args),
		.how = EVERING_SHUT_WR,
	};
	unsigned int bit;

	EXPECT_EQ(-EINVAL, do_shutdown(fd, 0));
	for (bit = 2; bit < 32; bit++) {
		EXPECT_EQ(-EINVAL, do_shutdown(fd, 1U << bit));
		EXPECT_EQ(-EINVAL, do_shutdown(fd, EVERING_SHUT_WR | 1U << bit));
	}
	args.flags = 1;
	EXPECT_EQ(-EINVAL, call(fd, EVERING_IOC_SHUTDOWN, &args));
	args.flags = 0;
	args.__resv = 1;
	EXPECT_EQ(-EINVAL, call(fd, EVERING_IOC_SHUTDOWN, &args));
	args.__resv = 0;
	args.size--;
	EXPECT_EQ(-EINVAL, call(fd, EVERING_IOC_SHUTDOWN, &args));
	/* And nothing has ended. */
	EXPECT_EQ(0, control_of(c, variant->side)->closed);
	EXPECT_EQ(0, control_of(c, variant->side)->rclosed);
	EXPECT_EQ(-ETIME, wait_for(c->fd[!variant->side], 0, 1, 5));
	EXPECT_EQ(EVERING_READY_SPACE,
		  enter(c->fd[!variant->side], space_args(0, FAR)));
}

TEST_F(shutdown, of_writing_lets_the_peer_take_the_rest)
{
	int side = variant->side, fd = self->c.fd[!side];
	struct channel *c = &self->c;
	unsigned int all = entries_of(c, side);

	commit_range(c, side, 0, 3);
	ASSERT_EQ(0, do_shutdown(c->fd[side], EVERING_SHUT_WR));
	EXPECT_EQ(1, control_of(c, side)->closed);
	EXPECT_EQ(0, control_of(c, side)->rclosed);
	/* More than there is: what there is. */
	EXPECT_EQ(EVERING_READY_ENTRIES, wait_for(fd, 0, all, FAR));
	EXPECT_EQ(EVERING_READY_ENTRIES, wait_for(fd, 1, 3, FAR));
	EXPECT_EQ(EVERING_READY_ENTRIES, wait_for(fd, 2, 1, FAR));
	EXPECT_EQ(-ESHUTDOWN, wait_for(fd, 3, 1, FAR));
	EXPECT_EQ(-ESHUTDOWN, wait_for(fd, 3, all, FAR));
	/* Again is allowed, and changes nothing. */
	ASSERT_EQ(0, do_shutdown(c->fd[side], EVERING_SHUT_WR));
	EXPECT_EQ(-ESHUTDOWN, wait_for(fd, 3, 1, FAR));

	/* The other direction goes on. */
	EXPECT_EQ(EVERING_READY_SPACE, enter(fd, space_args(0, FAR)));
	EXPECT_EQ(EVERING_READY_SPACE, enter(fd, both_args(3, 1, 0, FAR)));
	EXPECT_EQ(-ETIME, wait_for(c->fd[side], 0, 1, 5));
	commit(c, !side, 0, EVERING_COMMITTED);
	EXPECT_EQ(EVERING_READY_ENTRIES, wait_for(c->fd[side], 0, 1, FAR));
	EXPECT_EQ(0, do_wake(fd));
	EXPECT_EQ(0, do_wake(c->fd[side]));
}

TEST_F(shutdown, of_writing_leaves_hope_for_room)
{
	int side = variant->side, fd = self->c.fd[!side];
	struct channel *c = &self->c;
	uint64_t all = entries_of(c, !side);
	struct sleeper s;

	commit_range(c, !side, 0, all);
	ASSERT_EQ(0, do_shutdown(c->fd[side], EVERING_SHUT_WR));
	EXPECT_EQ(-ESHUTDOWN, wait_for(fd, 0, 1, FAR));
	EXPECT_EQ(-ETIME, enter(fd, both_args(0, 1, all, 20)));
	start(&s, fd, both_args(0, 1, all, FAR));
	ASSERT_TRUE(UNTIL(space_at(c, !side) == all));
	sleep_ms(20);
	EXPECT_FALSE(done(&s));
	EXPECT_TRUE(release(c, !side, 1));
	ASSERT_EQ(0, do_wake(c->fd[side]));
	EXPECT_EQ(EVERING_READY_SPACE, join(&s));
}

TEST_F(shutdown, of_reading_ends_the_peers_wait_for_room)
{
	int side = variant->side, fd = self->c.fd[!side];
	struct channel *c = &self->c;

	ASSERT_EQ(0, do_shutdown(c->fd[side], EVERING_SHUT_RD));
	EXPECT_EQ(0, control_of(c, side)->closed);
	EXPECT_EQ(1, control_of(c, side)->rclosed);
	/* Also where there is some. */
	EXPECT_EQ(-EPIPE, enter(fd, space_args(0, FAR)));
	EXPECT_EQ(-EPIPE, enter(fd, both_args(0, 1, 0, FAR)));
	/* It may still send. */
	EXPECT_EQ(-ETIME, wait_for(fd, 0, 1, 5));
	commit(c, side, 0, EVERING_COMMITTED);
	EXPECT_EQ(EVERING_READY_ENTRIES, wait_for(fd, 0, 1, FAR));
	EXPECT_EQ(EVERING_READY_ENTRIES, enter(fd, both_args(0, 1, 0, FAR)));
	EXPECT_EQ(EVERING_READY_SPACE, enter(c->fd[side], space_args(1, FAR)));
}

TEST_F(shutdown, wakes_those_who_wait_for_entries)
{
	int side = variant->side, fd = self->c.fd[!side];
	struct channel *c = &self->c;
	struct sleeper rest, none, own;

	commit_range(c, side, 0, 3);
	start(&rest, fd, wait_args(0, 5, FAR));
	start(&none, fd, wait_args(3, 1, FAR));
	start(&own, c->fd[side], wait_args(0, 1, FAR));
	ASSERT_TRUE(UNTIL(nr_sleepers(fd, !side) == 2 && nr_sleepers(fd, side) == 1));
	ASSERT_EQ(0, do_shutdown(c->fd[side], EVERING_SHUT_WR));
	EXPECT_EQ(EVERING_READY_ENTRIES, join(&rest));
	EXPECT_EQ(-ESHUTDOWN, join(&none));
	/* The own side has looked, and waits on as before. */
	ASSERT_TRUE(UNTIL(wake_at(c, !side) == 0));
	EXPECT_FALSE(done(&own));
	commit(c, !side, 0, EVERING_COMMITTED);
	EXPECT_TRUE(wake_due(c, !side, 0));
	ASSERT_EQ(0, do_wake(fd));
	EXPECT_EQ(EVERING_READY_ENTRIES, join(&own));
	EXPECT_TRUE(nobody(c));
}

/*
 * Woken for nothing, again and again: they must be announced again each time,
 * else nobody will ever ring the doorbell for them.
 */
TEST_F(shutdown, leaves_its_own_sleepers_announced)
{
	int side = variant->side, fd = self->c.fd[side], i;
	uint64_t end = now_ns() + 1500 * MS;
	struct channel *c = &self->c;
	struct sleeper own[4];

	for (i = 0; i < 4; i++)
		start(&own[i], fd, wait_args(0, 1, FAR));
	ASSERT_TRUE(UNTIL(nr_sleepers(fd, side) == 4));
	do {
		uint64_t late = now_ns() + SOON * MS;

		ASSERT_EQ(0, do_shutdown(fd, EVERING_SHUT_WR));
		while (wake_at(c, !side) && now_ns() < late)
			sched_yield();
		ASSERT_EQ(0, wake_at(c, !side));
	} while (now_ns() < end);
	EXPECT_TRUE(UNTIL(nr_sleepers(fd, side) == 4)) {
		TH_LOG("only %d are left", nr_sleepers(fd, side));
	}
	commit(c, !side, 0, EVERING_COMMITTED);
	EXPECT_TRUE(wake_due(c, !side, 0));
	ASSERT_EQ(0, do_wake(c->fd[!side]));
	for (i = 0; i < 4; i++)
		EXPECT_EQ(EVERING_READY_ENTRIES, join(&own[i]));
}

TEST_F(shutdown, wakes_those_who_wait_for_room)
{
	int side = variant->side, fd = self->c.fd[!side];
	struct channel *c = &self->c;
	uint64_t all = entries_of(c, !side);
	struct sleeper space, both, entries;

	commit_range(c, !side, 0, all);
	start(&space, fd, space_args(all, FAR));
	start(&both, fd, both_args(0, 1, all, FAR));
	start(&entries, fd, wait_args(0, 2, FAR));
	ASSERT_TRUE(UNTIL(nr_sleepers(fd, !side) == 3));
	ASSERT_EQ(0, do_shutdown(c->fd[side], EVERING_SHUT_RD));
	EXPECT_EQ(-EPIPE, join(&space));
	EXPECT_EQ(-EPIPE, join(&both));
	ASSERT_TRUE(UNTIL(wake_at(c, side) == 1));
	EXPECT_FALSE(done(&entries));
	commit_range(c, side, 0, 2);
	ASSERT_EQ(0, do_wake(c->fd[side]));
	EXPECT_EQ(EVERING_READY_ENTRIES, join(&entries));
}

/* ---------------------------------------------------------- lost wake-ups */

FIXTURE(stress)
{
	struct channel c;
};

FIXTURE_VARIANT(stress)
{
	unsigned int entries;
};

FIXTURE_VARIANT_ADD(stress, ring_of_1) { .entries = 1 };
FIXTURE_VARIANT_ADD(stress, ring_of_2) { .entries = 2 };
FIXTURE_VARIANT_ADD(stress, ring_of_8) { .entries = 8 };

FIXTURE_SETUP(stress)
{
	ASSERT_EQ(0, open_rings(&self->c, variant->entries, 1));
}

FIXTURE_TEARDOWN(stress)
{
	close(self->c.fd[0]);
	close(self->c.fd[1]);
	close(self->c.service);
}

struct party {
	struct channel *c;
	uint64_t random;
	uint64_t end;		/* when to stop sending */
	uint64_t messages;
	uint64_t sleeps;
	uint64_t doorbells;
	int ret;
};

static unsigned int draw(struct party *p, unsigned int n)
{
	p->random ^= p->random << 13;
	p->random ^= p->random >> 7;
	p->random ^= p->random << 17;
	return (p->random >> 20) % n;
}

/* Mostly none, so that both sides meet at every point of the protocol. */
static void dawdle(struct party *p)
{
	unsigned int kind = draw(p, 64), i;

	if (kind < 20)
		for (i = draw(p, 300); i; i--)
			__asm__ __volatile__("" ::: "memory");
	else if (kind < 24)
		sched_yield();
	else if (kind < 26)
		usleep(draw(p, 60));
}

/* One ENTER as the library would do it; 0 where none is needed. */
static int party_enter(struct party *p, int side, struct evering_enter args,
		       bool due)
{
	if (due) {
		args.flags |= EVERING_ENTER_WAKE_PEER;
		p->doorbells++;
	}
	if (args.flags & (EVERING_ENTER_WAIT | EVERING_ENTER_WAIT_SPACE))
		p->sleeps++;
	return args.flags ? enter(p->c->fd[side], args) : 0;
}

/* Side A: numbers its requests. */
static void *produce(void *arg)
{
	struct party *p = arg;
	uint64_t tail = 0, n = entries_of(p->c, SQ);
	const __u64 *head = &control_of(p->c, 1)->head;
	bool due = false;

	while (now_ns() < p->end) {
		unsigned int i, batch = 1 + draw(p, n);

		for (i = 0; i < batch; i++) {
			while (tail - __atomic_load_n(head, __ATOMIC_ACQUIRE) == n) {
				/* Whoever sleeps has said what it has done. */
				if (tail)
					due = wake_due(p->c, SQ, tail - 1);
				p->ret = party_enter(p, 0, space_args(tail, FAR),
						     due);
				if (p->ret != EVERING_READY_SPACE)
					return NULL;
			}
			stamp_of(p->c, SQ, tail)[1] = tail;
			commit(p->c, SQ, tail++, EVERING_COMMITTED);
		}
		due = wake_due(p->c, SQ, tail - 1);
		dawdle(p);
		if (due)
			p->ret = party_enter(p, 0, (struct evering_enter){
					.size = sizeof(struct evering_enter),
				}, due);
		if (p->ret < 0)
			return NULL;
		dawdle(p);
	}
	p->messages = tail;
	p->ret = do_shutdown(p->c->fd[0], EVERING_SHUT_WR);
	return NULL;
}

/* Side B: sleeps for each or for several, and checks the numbers. */
static void consume(struct party *p)
{
	uint64_t head = 0, n = entries_of(p->c, SQ);
	bool due = false;

	for (;;) {
		unsigned int wanted = draw(p, 2) ? 1 : 1 + draw(p, n);
		unsigned int there = 0, taken, i;

		p->ret = party_enter(p, 1, wait_args(head, wanted, FAR), due);
		if (p->ret == -ESHUTDOWN) {
			p->ret = 0;
			break;
		}
		if (p->ret != EVERING_READY_ENTRIES)
			return;
		while (there < n &&
		       judge(p->c, SQ, head + there) == EVERING_SLOT_READY)
			there++;
		/* Fewer only at the end. */
		if (!there || (there < wanted && !control_of(p->c, 0)->closed)) {
			p->ret = -EPROTO;
			return;
		}
		taken = 1 + draw(p, there);
		for (i = 0; i < taken; i++, head++)
			if (stamp_of(p->c, SQ, head)[1] != head) {
				p->ret = -EILSEQ;
				return;
			}
		due = release(p->c, SQ, head);
		dawdle(p);
		/* At once, or together with the next wait. */
		if (due && draw(p, 2)) {
			p->ret = party_enter(p, 1, (struct evering_enter){
					.size = sizeof(struct evering_enter),
				}, due);
			due = false;
			dawdle(p);
		}
	}
	p->messages = head;
}

TEST_F(stress, no_wake_up_is_lost)
{
	uint64_t end = now_ns() + 2700 * MS;
	struct party a = { .c = &self->c, .random = now_ns() | 1, .end = end };
	struct party b = { .c = &self->c, .random = (now_ns() << 7) | 1 };
	pthread_t producer;

	ASSERT_EQ(0, pthread_create(&producer, NULL, produce, &a));
	consume(&b);
	EXPECT_EQ(0, b.ret);
	if (b.ret) /* lest the producer wait for what will not come */
		do_shutdown(self->c.fd[1], EVERING_SHUT_RD);
	pthread_join(producer, NULL);
	EXPECT_EQ(0, a.ret);
	EXPECT_EQ(a.messages, b.messages);
	TH_LOG("%llu messages, %llu + %llu waits, %llu + %llu doorbells",
	       (unsigned long long)a.messages, (unsigned long long)a.sleeps,
	       (unsigned long long)b.sleeps, (unsigned long long)a.doorbells,
	       (unsigned long long)b.doorbells);
	/* Both kinds of sleep have happened. */
	EXPECT_LT(100, a.messages);
	EXPECT_LT(10, a.sleeps);
	EXPECT_LT(10, a.doorbells);
	EXPECT_LT(10, b.doorbells);
	EXPECT_TRUE(nobody(&self->c));
}

/* ---------------------------------------------------------------- the cost */

static uint64_t cpu_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

struct idler {
	pthread_t thread;
	struct evering *ep;
	bool client;
	int ret;
	uint64_t cpu;
};

static void *idle(void *arg)
{
	const struct timespec second = { .tv_sec = 1 };
	uint64_t begin = cpu_ns(CLOCK_THREAD_CPUTIME_ID);
	const struct evering_cqe *cqe;
	const struct evering_sqe *sqe;
	struct idler *i = arg;

	if (i->client)
		i->ret = evering_wait_cqe_timeout(i->ep, &cqe, &second);
	else
		i->ret = evering_wait_sqe_timeout(i->ep, &sqe, &second);
	i->cpu = cpu_ns(CLOCK_THREAD_CPUTIME_ID) - begin;
	return NULL;
}

/* What the server tells of itself. */
struct served {
	struct evering_stats stats;
	uint64_t messages;
	int ret;
};

struct cost {
	struct evering_service *service;
	struct evering *client;
	pid_t pid;		/* the server's */
	struct served *served;	/* shared with it */
};

FIXTURE(cost)
{
	struct cost c;
};

FIXTURE_SETUP(cost)
{
	ASSERT_EQ(0, evering_listen(test_name(), NULL, &self->c.service));
	self->c.served = mmap(NULL, sizeof(*self->c.served), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->c.served);
}

FIXTURE_TEARDOWN(cost)
{
	evering_close(self->c.client);
	if (self->c.pid) {
		kill(self->c.pid, SIGKILL);
		waitpid(self->c.pid, NULL, 0);
	}
	evering_service_close(self->c.service);
}

static uint64_t used_us(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000ULL +
	       usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
}

TEST_F(cost, idle_endpoints_cost_nothing)
{
	struct idler idler[2] = { { .client = true }, { .client = false } };
	uint64_t begin, us;
	struct evering *server;
	int i;

	ASSERT_EQ(0, evering_connect(test_name(), NULL, &self->c.client));
	ASSERT_EQ(0, evering_accept(self->c.service, &server));
	idler[0].ep = self->c.client;
	idler[1].ep = server;
	begin = now_ns();
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, pthread_create(&idler[i].thread, NULL, idle,
					    &idler[i]));
	/* Neither by the clocks of the threads, spinning included ... */
	sleep_ms(100);
	us = used_us();
	sleep_ms(850);
	us = used_us() - us;
	for (i = 0; i < 2; i++) {
		pthread_join(idler[i].thread, NULL);
		EXPECT_EQ(-ETIME, idler[i].ret);
	}
	EXPECT_LE(begin + 1000 * MS, now_ns());
	EXPECT_GT(20 * MS, idler[0].cpu + idler[1].cpu);
	/* ... nor by that of the process, once they sleep. */
	EXPECT_GT(20000, us);
	TH_LOG("%llu us, asleep %llu us",
	       (unsigned long long)(idler[0].cpu + idler[1].cpu) / 1000,
	       (unsigned long long)us);
	evering_close(server);
}

/* Answers what is there, in one batch, until the client is gone. */
static int serve(struct evering_service *service, int spin,
		 struct served *served)
{
	const struct timespec far = { .tv_sec = FAR / 1000 };
	const struct evering_sqe *sqes[64];
	struct evering *ep;
	int ret, i;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	ret = evering_accept(service, &ep);
	if (ret)
		return ret;
	if (spin >= 0)
		evering_set_spin(ep, spin);
	ret = evering_wait_sqes(ep, NULL, 1, &far);
	while (ret >= 0) {
		ret = evering_peek_batch_sqe(ep, sqes, 64);
		for (i = 0; i < ret; i++) {
			struct evering_cqe *cqe = evering_get_cqe(ep);

			/* The client keeps fewer in flight than there are. */
			if (!cqe)
				return -ENOSPC;
			cqe->user_data = sqes[i]->user_data;
			cqe->res = ~sqes[i]->len;
		}
		if (ret <= 0)
			break;
		served->messages += ret;
		evering_sq_advance(ep, ret);
		ret = evering_complete_and_wait_timeout(ep, NULL, 1, &far);
	}
	evering_stats(ep, &served->stats);
	evering_close(ep);
	return ret;
}

/* The service, its process and a client; 0 or -errno. */
static int cost_start(struct cost *c, int spin)
{
	int ret;

	c->pid = fork();
	if (!c->pid) {
		c->served->ret = serve(c->service, spin, c->served);
		_exit(0);
	}
	ret = evering_connect(test_name(), NULL, &c->client);
	if (!ret && spin >= 0)
		evering_set_spin(c->client, spin);
	return ret;
}

/* What the server returns when the client has gone. */
static int cost_end(struct cost *c)
{
	int status;

	evering_close(c->client);
	c->client = NULL;
	status = reap(c->pid);
	c->pid = 0;
	return status ? status : c->served->ret;
}

TEST_F(cost, of_streaming_is_few_system_calls)
{
	const unsigned int messages = 20000, in_flight = 32;
	unsigned int sent = 0, received = 0;
	struct evering_stats stats;

	ASSERT_EQ(0, cost_start(&self->c, -1));
	while (received < messages) {
		const struct evering_cqe *cqes[64];
		int i, n;

		while (sent < messages && sent - received < in_flight) {
			struct evering_sqe *sqe = evering_get_sqe(self->c.client);

			ASSERT_NE(NULL, sqe);
			sqe->user_data = sent;
			sqe->len = sent++;
		}
		n = sent - received < 16 ? sent - received : 16;
		ASSERT_LE(0, evering_submit_and_wait(self->c.client, n));
		n = evering_peek_batch_cqe(self->c.client, cqes, 64);
		ASSERT_LT(0, n);
		for (i = 0; i < n; i++) {
			ASSERT_EQ(received, cqes[i]->user_data);
			ASSERT_EQ(~received, cqes[i]->res);
			received++;
		}
		evering_cq_advance(self->c.client, n);
	}
	evering_stats(self->c.client, &stats);
	EXPECT_EQ(-EPIPE, cost_end(&self->c));
	EXPECT_EQ(messages, self->c.served->messages);
	TH_LOG("ENTERs: client %llu (%llu doorbells, %llu spins), server %llu (%llu, %llu)",
	       (unsigned long long)stats.enters,
	       (unsigned long long)stats.doorbells,
	       (unsigned long long)stats.spins,
	       (unsigned long long)self->c.served->stats.enters,
	       (unsigned long long)self->c.served->stats.doorbells,
	       (unsigned long long)self->c.served->stats.spins);
	EXPECT_GT(messages / 20, stats.enters);
	EXPECT_GT(messages / 20, self->c.served->stats.enters);
}

/*
 * On one CPU both sides run in turn, so that their calls can be counted
 * exactly; and no idle CPU has to be woken, which is slow in a machine that is
 * emulated.
 */
static int use_one_cpu(void)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(0, &set);
	return sched_setaffinity(0, sizeof(set), &set);
}

/* Blocking round trips; 0 or -errno. */
static int round_trips(struct evering *client, unsigned int n)
{
	const struct timespec far = { .tv_sec = FAR / 1000 };
	const struct evering_cqe *cqe;
	uint64_t begin;
	unsigned int i;
	int ret;

	for (i = 0; i < n; i++) {
		struct evering_sqe *sqe = evering_get_sqe(client);

		if (!sqe)
			return -ENOSPC;
		sqe->user_data = i;
		begin = now_ns();
		ret = evering_submit_and_wait_timeout(client, &cqe, 1, &far);
		if (ret != 1)
			return ret < 0 ? ret : -EPROTO;
		if (now_ns() >= begin + FAR * MS)
			return -ETIMEDOUT;
		if (!cqe || cqe->user_data != i)
			return -EILSEQ;
		evering_cqe_seen(client, cqe);
	}
	return 0;
}

#define ROUND_TRIPS	2000

TEST_F(cost, of_a_blocking_round_trip_is_one_system_call_a_side)
{
	struct evering_stats before, after;

	ASSERT_EQ(0, use_one_cpu());
	ASSERT_EQ(0, cost_start(&self->c, 0));
	ASSERT_EQ(0, round_trips(self->c.client, 10));
	evering_stats(self->c.client, &before);
	ASSERT_EQ(0, round_trips(self->c.client, ROUND_TRIPS));
	evering_stats(self->c.client, &after);
	EXPECT_EQ(-EPIPE, cost_end(&self->c));
	TH_LOG("ENTERs: client %llu, server %llu",
	       (unsigned long long)(after.enters - before.enters),
	       (unsigned long long)self->c.served->stats.enters);
	EXPECT_GE(ROUND_TRIPS + 2, after.enters - before.enters);
	EXPECT_GE(ROUND_TRIPS + 10 + 2, self->c.served->stats.enters);
	/* They did sleep: fewer only where one was preempted in between. */
	EXPECT_LE(ROUND_TRIPS - 20, after.enters - before.enters);
	EXPECT_LE(ROUND_TRIPS - 20, self->c.served->stats.enters);
}

#define TRACEFS		"/sys/kernel/tracing"
#define INSTANCE	TRACEFS "/instances/evering"
#define SYS_ENTER	INSTANCE "/events/raw_syscalls/sys_enter"

/* How many ENTERs, and other ioctls, the kernel has seen of a process. */
static bool count_traced(pid_t pid, unsigned int *enters, unsigned int *others)
{
	char line[512], who[16], args[16];
	FILE *f = fopen(INSTANCE "/trace", "r");

	if (!f)
		return false;
	snprintf(who, sizeof(who), "-%d ", pid);
	snprintf(args, sizeof(args), ", %lx, ", (long)EVERING_IOC_ENTER);
	*enters = *others = 0;
	while (fgets(line, sizeof(line), f)) {
		if (line[0] == '#' || !strstr(line, who))
			continue;
		if (strstr(line, args))
			(*enters)++;
		else
			(*others)++;
	}
	fclose(f);
	return true;
}

TEST_F(cost, of_a_blocking_round_trip_as_the_kernel_counts)
{
	unsigned int client, server, others;
	struct evering_stats before, after;
	char filter[96];

	if (mkdir(INSTANCE, 0700) && errno != EEXIST)
		SKIP(return, "no tracefs");
	if (access(SYS_ENTER "/filter", W_OK))
		SKIP(return, "no raw_syscalls events");
	ASSERT_EQ(0, use_one_cpu());
	ASSERT_EQ(0, cost_start(&self->c, 0));
	ASSERT_EQ(0, round_trips(self->c.client, 10));
	snprintf(filter, sizeof(filter),
		 "id == %d && (common_pid == %d || common_pid == %d)",
		 SYS_ioctl, getpid(), self->c.pid);
	ASSERT_EQ(0, write_file(INSTANCE "/buffer_size_kb", "2048"));
	ASSERT_EQ(0, write_file(SYS_ENTER "/filter", filter));
	ASSERT_EQ(0, write_file(SYS_ENTER "/enable", "1"));
	evering_stats(self->c.client, &before);
	ASSERT_EQ(0, round_trips(self->c.client, ROUND_TRIPS));
	evering_stats(self->c.client, &after);
	ASSERT_EQ(0, write_file(SYS_ENTER "/enable", "0"));

	ASSERT_TRUE(count_traced(getpid(), &client, &others));
	/* The library counts what the kernel sees, and does nothing else. */
	EXPECT_EQ(after.enters - before.enters, client);
	EXPECT_EQ(0, others);
	EXPECT_GE(ROUND_TRIPS + 2, client);
	EXPECT_LE(ROUND_TRIPS - 20, client);
	ASSERT_TRUE(count_traced(self->c.pid, &server, &others));
	EXPECT_EQ(0, others);
	EXPECT_GE(ROUND_TRIPS + 2, server);
	EXPECT_LE(ROUND_TRIPS - 20, server);
	TH_LOG("ENTERs: client %u, server %u", client, server);
	EXPECT_EQ(-EPIPE, cost_end(&self->c));
	rmdir(INSTANCE);
}

TEST_HARNESS_MAIN
