// SPDX-License-Identifier: GPL-2.0
/*
 * Producers and consumers of one queue, killed at random while they push, pop and
 * sleep: every item is accounted for, nobody is stuck, and nothing stays behind.
 *
 * KILLS in the environment says how many (default 300).
 */
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <evering.h>

#include "evering_test.h"
#include "processes.h"

#define WORKERS		3
#define MOST_ITEMS	(1U << 22)	/* of one producer */

#define PUSHED	1U	/* its push has returned */
#define SEEN	2U	/* a consumer has returned with it */
#define GONE	4U	/* its producer was killed, and heal has skipped it */

struct item {
	uint64_t producer;
	uint64_t number;
	uint64_t check[5];
};

struct shared {
	uint64_t token;
	uint32_t stop;
	uint64_t errors;
	uint64_t next[WORKERS];		/* the producer's next number */
	uint64_t ended[WORKERS];	/* consumers that were told of the end */
	struct item box[WORKERS];	/* what a consumer pops into */
	unsigned char known[WORKERS][MOST_ITEMS];
};

static void error(struct shared *s)
{
	__atomic_fetch_add(&s->errors, 1, __ATOMIC_RELAXED);
}

static void learn(struct shared *s, const struct item *item, unsigned char what)
{
	if (item->producer >= WORKERS || item->number >= MOST_ITEMS ||
	    __atomic_fetch_or(&s->known[item->producer][item->number], what,
			      __ATOMIC_RELAXED) & what)
		error(s);
}

static void produce(struct shared *s, int index)
{
	struct evering_queue *q;
	int j;

	if (evering_queue_open(NULL, s->token, EVERING_QUEUE_PUSH, &q))
		_exit(1);
	while (!__atomic_load_n(&s->stop, __ATOMIC_RELAXED)) {
		struct item item = { .producer = index };

		item.number = __atomic_fetch_add(&s->next[index], 1, __ATOMIC_RELAXED);
		if (item.number >= MOST_ITEMS)
			break;
		for (j = 0; j < 5; j++)
			item.check[j] = item.number * (j + 3) + index;
		if (evering_queue_push(q, &item)) {
			error(s);
			break;
		}
		learn(s, &item, PUSHED);
	}
	_exit(0);
}

static void consume(struct shared *s, int index)
{
	volatile struct item *box = &s->box[index];
	uint64_t last[WORKERS] = { 0 };
	struct evering_queue *q;
	struct item item;
	int j, ret;

	if (evering_queue_open(NULL, s->token, EVERING_QUEUE_POP, &q))
		_exit(1);
	for (;;) {
		/* Nothing in it: the number is beyond all. */
		box->number = MOST_ITEMS;
		ret = evering_queue_pop(q, (void *)(uintptr_t)box);
		if (ret == -ESHUTDOWN) {
			s->ended[index] = 1;
			_exit(0);
		}
		item = *(struct item *)(uintptr_t)box;
		if (ret || item.producer >= WORKERS) {
			error(s);
			_exit(1);
		}
		for (j = 0; j < 5; j++)
			if (item.check[j] != item.number * (j + 3) + item.producer)
				error(s);
		if (item.number < last[item.producer])
			error(s);
		last[item.producer] = item.number;
		learn(s, &item, SEEN);
	}
}

static pid_t start(struct shared *s, int side, int index)
{
	pid_t pid = fork_mortal();

	if (!pid) {
		if (side == EVERING_SIDE_A)
			produce(s, index);
		else
			consume(s, index);
	}
	return pid;
}

/* What the kernel has counted, by fdinfo. */
static void heal_counts(struct evering_queue *q, uint64_t *healed, uint64_t *lost)
{
	char path[64], line[256];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d",
		 evering_queue_fd(q, EVERING_QUEUE_POP));
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f)) {
		sscanf(line, "healed: %lu", healed);
		sscanf(line, "lost: %lu", lost);
	}
	if (f)
		fclose(f);
}

/* The consumer has died: was what it has in its box given to it? */
static void open_box(struct shared *s, int index, bool lost)
{
	struct item *box = &s->box[index];

	if (lost || box->number >= MOST_ITEMS || box->producer >= WORKERS)
		return;
	if (!(s->known[box->producer][box->number] & SEEN))
		learn(s, box, SEEN);
}

FIXTURE(queue_kill)
{
	struct shared *s;
	struct evering_queue *q;
	struct counters before;
};

FIXTURE_VARIANT(queue_kill)
{
	unsigned int entries;
};

FIXTURE_VARIANT_ADD(queue_kill, mostly_full)
{
	.entries = 64,
};

FIXTURE_VARIANT_ADD(queue_kill, roomy)
{
	.entries = 1024,
};

FIXTURE_SETUP(queue_kill)
{
	self->before = counters_now();
	self->s = mmap(NULL, sizeof(*self->s), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->s);
	ASSERT_EQ(0, evering_queue_create(NULL, 0600, variant->entries,
					  sizeof(struct item),
					  EVERING_QUEUE_PUSH | EVERING_QUEUE_POP,
					  &self->q));
	self->s->token = evering_queue_token(self->q);
}

FIXTURE_TEARDOWN(queue_kill)
{
	evering_queue_close(self->q);
	munmap(self->s, sizeof(*self->s));
	EXPECT_TRUE(counters_return(&self->before));
}

TEST_F_TIMEOUT(queue_kill, every_item_is_accounted_for, 600)
{
	const char *wanted = getenv("KILLS");
	unsigned long kills = wanted ? strtoul(wanted, NULL, 0) : 300, k;
	uint64_t healed = 0, lost = 0, missing = 0, unsure = 0, seen = 0, n;
	unsigned int seed = (unsigned int)now_ns();
	struct shared *s = self->s;
	pid_t pid[2][WORKERS];
	int side, i;

	for (side = 0; side < 2; side++) {
		for (i = 0; i < WORKERS; i++) {
			pid[side][i] = start(s, side, i);
			ASSERT_LT(0, pid[side][i]);
		}
	}
	for (k = 0; k < kills && !s->errors; k++) {
		uint64_t healed_was = healed, lost_was = lost;

		usleep(rand_r(&seed) % 20000);
		side = rand_r(&seed) % 2;
		i = rand_r(&seed) % WORKERS;
		ASSERT_EQ(0, kill(pid[side][i], SIGKILL));
		reap(pid[side][i]);
		heal_counts(self->q, &healed, &lost);
		if (side == EVERING_SIDE_A) {
			ASSERT_LE(healed - healed_was, 1);
			ASSERT_EQ(lost_was, lost);
			/* The number that it was at is used up. */
			if (healed != healed_was && s->next[i])
				s->known[i][s->next[i] - 1] |= GONE;
		} else {
			ASSERT_EQ(healed_was, healed);
			ASSERT_LE(lost - lost_was, 1);
			open_box(s, i, lost != lost_was);
		}
		pid[side][i] = start(s, side, i);
		ASSERT_LT(0, pid[side][i]);
	}
	s->stop = 1;
	for (i = 0; i < WORKERS; i++)
		EXPECT_EQ(0, reap(pid[EVERING_SIDE_A][i]));
	ASSERT_EQ(0, evering_queue_shutdown(self->q));
	for (i = 0; i < WORKERS; i++) {
		EXPECT_EQ(0, reap(pid[EVERING_SIDE_B][i]));
		EXPECT_EQ(1, s->ended[i]);
	}

	for (i = 0; i < WORKERS; i++) {
		for (n = 0; n < s->next[i] && n < MOST_ITEMS; n++) {
			unsigned char known = s->known[i][n];

			seen += !!(known & SEEN);
			missing += (known & PUSHED) && !(known & SEEN);
			/* Killed in its push: accepted, or not. */
			unsure += !(known & (PUSHED | SEEN | GONE));
			EXPECT_NE(SEEN | GONE, known & (SEEN | GONE));
		}
	}
	TH_LOG("kills %lu: seen %lu, healed %lu, lost %lu, missing %lu, unsure %lu",
	       k, seen, healed, lost, missing, unsure);
	EXPECT_EQ(0, s->errors);
	EXPECT_LE(missing, lost);
	EXPECT_LE(lost, missing + unsure);
	EXPECT_LT(kills, seen);
	EXPECT_EQ(0, evering_queue_len(self->q));
}

TEST_HARNESS_MAIN
