// SPDX-License-Identifier: GPL-2.0
/*
 * Many producers and many consumers on one ring, killed at any instruction and
 * healed, as the kernel would heal: every message is accounted for.
 *
 * Processes are killed with SIGKILL; threads, which the thread sanitizer wants,
 * abandon what they have claimed.  Either goes on under a new name.
 */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "lease.h"
#include "kselftest_harness.h"

#define WORKERS		3U	/* on each side */
#define MOST_MESSAGES	(1U << 20)	/* of one producer */
#define MOST_ENTRIES	64U

struct entry {
	uint64_t stamp;
	uint64_t producer;
	uint64_t number;
	uint64_t check[5];
};

/* What is known of one message; each bit is set at most once. */
#define PUSHED	1U	/* its push has returned */
#define SEEN	2U	/* a consumer has read it */
#define LOST	4U	/* a heal has found it with a dead consumer */

struct shared {
	struct entry slots[MOST_ENTRIES] __attribute__((aligned(128)));
	uint64_t claims[MOST_ENTRIES] __attribute__((aligned(128)));
	uint64_t tail __attribute__((aligned(128)));
	uint64_t head __attribute__((aligned(128)));
	uint32_t closed __attribute__((aligned(128)));
	uint64_t orphan_seq __attribute__((aligned(128)));
	uint32_t stop;		/* producers make no more */
	uint32_t last_owner[2];
	uint64_t next[WORKERS];	/* number of the message after */
	uint64_t errors;	/* torn, unordered, twice, beyond the end */
	uint64_t kills, skips;
	uint64_t orphans;	/* that heals have left, or consumers given back */
	uint32_t ended[WORKERS];	/* consumers that were told of the end */
	unsigned char known[WORKERS][MOST_MESSAGES];
};

struct worker {
	struct shared *s;
	struct multi_ring ring;
	unsigned int index;
	unsigned int side;
	uint64_t seed;
	bool abandons;
};

FIXTURE(multi)
{
	struct shared *s;
};

FIXTURE_VARIANT(multi)
{
	unsigned int entries;
	unsigned int batch;
	bool lease;
};

FIXTURE_VARIANT_ADD(multi, two_slots)
{
	.entries = 2, .batch = 1,
};

FIXTURE_VARIANT_ADD(multi, four_slots_in_batches)
{
	.entries = 4, .batch = 3,
};

FIXTURE_VARIANT_ADD(multi, many_slots_in_batches)
{
	.entries = 64, .batch = 8,
};

FIXTURE_VARIANT_ADD(multi, four_slots_leased)
{
	.entries = 4, .batch = 3, .lease = true,
};

FIXTURE_VARIANT_ADD(multi, many_slots_leased)
{
	.entries = 64, .batch = 8, .lease = true,
};

FIXTURE_SETUP(multi)
{
	self->s = mmap(NULL, sizeof(*self->s), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->s);
}

FIXTURE_TEARDOWN(multi)
{
	munmap(self->s, sizeof(*self->s));
}

static void ring_init(struct multi_ring *r, struct shared *s, unsigned int entries,
		      bool lease)
{
	*r = (struct multi_ring) {
		.g = {
			.entries = entries,
			.mask = entries - 1,
			.lap_shift = (unsigned int)__builtin_ctz(entries),
			.slot_shift = 6,
		},
		.slots = (char *)s->slots,
		.claims = s->claims,
		.tail = &s->tail,
		.head = &s->head,
		.closed = &s->closed,
		.orphan_seq = &s->orphan_seq,
		.lease = lease,
	};
}

static uint64_t draw(struct worker *w)
{
	w->seed = w->seed * 6364136223846793005U + 1442695040888963407U;
	return w->seed >> 33;
}

static void error(struct shared *s)
{
	__atomic_fetch_add(&s->errors, 1, __ATOMIC_RELAXED);
}

static void learn(struct shared *s, uint64_t producer, uint64_t number,
		  unsigned char what)
{
	if (__atomic_fetch_or(&s->known[producer][number], what,
			      __ATOMIC_RELAXED) & what)
		error(s);
}

static struct entry *entry_at(const struct multi_ring *r, uint64_t pos)
{
	return (struct entry *)(void *)multi_stamp(r, pos);
}

/* ------------------------------------------------------------------ healing */

/* Where the slot @i was claimed in the lap that @word says. */
static uint64_t claimed_at(const struct multi_ring *r, uint64_t word, uint64_t i)
{
	return ((word >> EVERING_LAP_SHIFT) - 1) << r->g.lap_shift | i;
}

static void heal_producer(struct multi_ring *r)
{
	uint64_t i, j;

	for (i = 0; i < r->g.entries; i++) {
		uint64_t word = load_acquire(multi_stamp(r, i));
		uint64_t pos = claimed_at(r, word, i);

		if (evering_word_state(word) != EVERING_RESERVED ||
		    evering_word_owner(word) != r->owner)
			continue;
		multi_help(r->tail, pos, evering_word_count(word));
		for (j = evering_word_count(word) - 1; j; j--)
			store_release(multi_stamp(r, pos + j),
				      evering_word(multi_lap(r, pos + j), 1,
						   r->owner, EVERING_SKIPPED));
		store_release(multi_stamp(r, pos),
			      (word & ~(uint64_t)EVERING_STATE_MASK) | EVERING_SKIPPED);
	}
}

/* The slot at @pos was the dead one's: lost, or for somebody else. */
static void heal_claim(struct shared *s, struct multi_ring *r, uint64_t pos,
		       uint64_t word, uint64_t idle)
{
	const struct entry *e = entry_at(r, pos);

	if (evering_word_state(load_acquire(multi_stamp(r, pos))) ==
	    EVERING_COMMITTED) {
		if (r->lease) {
			idle = evering_word(multi_lap(r, pos), multi_deliveries(word),
					    r->owner, EVERING_ORPHAN);
			__atomic_fetch_add(&s->orphans, 1, __ATOMIC_RELAXED);
		} else {
			learn(s, e->producer, e->number, LOST);
		}
	}
	store_release(multi_claim(r, pos), idle);
}

static void heal_consumer(struct shared *s, struct multi_ring *r)
{
	uint64_t i, j;

	for (i = 0; i < r->g.entries; i++) {
		uint64_t word = load_acquire(multi_claim(r, i));
		uint64_t pos = claimed_at(r, word, i);
		unsigned int state = evering_word_state(word);

		if ((state != EVERING_TAKEN && state != EVERING_RETAKEN) ||
		    evering_word_owner(word) != r->owner)
			continue;
		multi_help(r->head, pos, evering_claim_slots(word));
		for (j = evering_claim_slots(word) - 1; j; j--) {
			uint64_t lap = multi_lap(r, pos + j);
			uint64_t inner = load_acquire(multi_claim(r, pos + j));

			/* Given back already, so read. */
			if (evering_word_ahead(inner, lap) >= 0)
				continue;
			heal_claim(s, r, pos + j, inner,
				   evering_word(lap, 1, r->owner, EVERING_IDLE));
		}
		/* As a lease, those behind it may be ORPHANs by now. */
		heal_claim(s, r, pos, word,
			   evering_word(multi_lap(r, pos),
					r->lease ? 1 : evering_claim_slots(word),
					r->owner, EVERING_IDLE));
	}
	if (r->lease)
		__atomic_fetch_add(&s->orphan_seq, 1, __ATOMIC_ACQ_REL);
}

static void heal(struct worker *w)
{
	if (w->side == EVERING_SIDE_A)
		heal_producer(&w->ring);
	else
		heal_consumer(w->s, &w->ring);
}

/* Names are not given again while one may still be healed. */
static void rename_worker(struct worker *w)
{
	w->ring.owner = __atomic_add_fetch(&w->s->last_owner[w->side], 1,
					   __ATOMIC_RELAXED) %
			EVERING_MAX_OWNER + 1;
}

/* A thread's death: what it has claimed stays claimed, until it is healed. */
static bool abandon(struct worker *w)
{
	if (!w->abandons || draw(w) % 32)
		return false;
	heal(w);
	rename_worker(w);
	__atomic_fetch_add(&w->s->kills, 1, __ATOMIC_RELAXED);
	return true;
}

/* ------------------------------------------------------------------ workers */

static void produce(struct worker *w, unsigned int batch)
{
	struct shared *s = w->s;
	unsigned int wanted, n, i;
	uint64_t pos, first;

	while (!load_once(&s->stop) &&
	       load_once(&s->next[w->index]) < MOST_MESSAGES - batch) {
		wanted = (unsigned int)(draw(w) % batch) + 1;
		switch (multi_reserve(&w->ring, wanted, &pos, &n)) {
		case MULTI_OK:
			break;
		case MULTI_NONE:
			sched_yield();
			continue;
		default:
			error(s);
			return;
		}
		if (draw(w) % 16 == 0) {
			multi_cancel(&w->ring, pos, n);
			__atomic_fetch_add(&s->skips, n, __ATOMIC_RELAXED);
			continue;
		}
		/* Numbers are used up before they can be seen. */
		first = load_once(&s->next[w->index]);
		store_once(&s->next[w->index], first + n);
		for (i = 0; i < n; i++) {
			struct entry *e = entry_at(&w->ring, pos + i);
			unsigned int j;

			e->producer = w->index;
			e->number = first + i;
			for (j = 0; j < 5; j++)
				e->check[j] = (first + i) * (j + 3) + w->index;
			if (i)
				multi_commit_inner(&w->ring, pos + i);
		}
		if (abandon(w))
			continue;
		multi_commit(&w->ring, pos, n);
		for (i = 0; i < n; i++)
			learn(s, w->index, first + i, PUSHED);
	}
}

/*
 * One entry of a claim; @again: somebody else has had it, and may have seen it.
 * What is leased is seen before it is given back, or a kill in between would leave
 * it done with and not known.
 */
static void read_entry(struct worker *w, uint64_t pos, uint64_t *last, bool again)
{
	const struct entry *e = entry_at(&w->ring, pos);
	struct shared *s = w->s;
	unsigned int j;

	if (evering_word_state(load_once(&e->stamp)) == EVERING_SKIPPED)
		return;
	for (j = 0; j < 5; j++)
		if (e->check[j] != e->number * (j + 3) + e->producer)
			error(s);
	if (e->producer >= WORKERS || e->number >= MOST_MESSAGES) {
		error(s);
		return;
	}
	/* In order, but for what comes back. */
	if (!again) {
		if (e->number < last[e->producer])
			error(s);
		last[e->producer] = e->number;
	}
	if (__atomic_fetch_or(&s->known[e->producer][e->number], SEEN,
			      __ATOMIC_RELAXED) & SEEN && !again)
		error(s);
}

/* One that is leased: done with, or now and then for somebody else. */
static void end_lease(struct worker *w, uint64_t pos, uint64_t word)
{
	if (draw(w) % 16) {
		if (!multi_ack(&w->ring, pos, word))
			error(w->s);
	} else {
		if (!multi_nack(&w->ring, pos, word))
			error(w->s);
		__atomic_fetch_add(&w->s->orphans, 1, __ATOMIC_RELAXED);
	}
}

static void consume(struct worker *w, unsigned int batch)
{
	uint64_t last[WORKERS] = { 0 };
	struct shared *s = w->s;
	unsigned int wanted, n, i;
	uint64_t pos, word;
	bool again;

	for (;;) {
		wanted = (unsigned int)(draw(w) % batch) + 1;
		switch (multi_take_any(&w->ring, wanted, &pos, &n, &word)) {
		case MULTI_OK:
			break;
		case MULTI_NONE:
		case MULTI_BUSY:
			sched_yield();
			continue;
		case MULTI_CLOSED:
			store_once(&s->ended[w->index], 1);
			return;
		default:
			error(s);
			return;
		}
		again = evering_word_state(word) == EVERING_RETAKEN;
		if (abandon(w))
			continue;
		for (i = 0; i < n; i++)
			read_entry(w, pos + i, last, again);
		if (w->ring.lease && n == 1)
			end_lease(w, pos, word);
		else
			multi_give_back(&w->ring, pos, n, word);
	}
}

/* ------------------------------------------------------------------- judging */

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

struct tally {
	uint64_t pushed, seen, lost, missing, ghosts;
};

static struct tally judge(const struct shared *s)
{
	struct tally t = { 0 };
	unsigned int i;
	uint64_t n;

	for (i = 0; i < WORKERS; i++) {
		for (n = 0; n < s->next[i] + MOST_ENTRIES && n < MOST_MESSAGES; n++) {
			unsigned char known = s->known[i][n];

			t.pushed += !!(known & PUSHED);
			t.seen += !!(known & SEEN);
			t.lost += !!(known & LOST);
			t.missing += (known & PUSHED) && !(known & (SEEN | LOST));
			t.ghosts += known && n >= s->next[i];
		}
	}
	return t;
}

#define SAY_AND_JUDGE() do {						\
	struct tally t = judge(self->s);				\
									\
	TH_LOG("pushed %llu seen %llu lost %llu orphans %llu skipped %llu kills %llu laps %llu", \
	       (unsigned long long)t.pushed, (unsigned long long)t.seen, \
	       (unsigned long long)t.lost,				\
	       (unsigned long long)self->s->orphans,			\
	       (unsigned long long)self->s->skips,			\
	       (unsigned long long)self->s->kills,			\
	       (unsigned long long)(self->s->tail / variant->entries));	\
	EXPECT_EQ(0, self->s->errors);					\
	EXPECT_EQ(0, t.missing);					\
	EXPECT_EQ(0, t.ghosts);						\
	if (variant->lease) {						\
		EXPECT_EQ(0, t.lost);					\
		EXPECT_LT(0, self->s->orphans);				\
	}								\
	EXPECT_LT(1000, t.seen);					\
	EXPECT_LT(20, self->s->kills);					\
} while (0)

struct thread {
	struct worker w;
	pthread_t thread;
	unsigned int batch;
};

static void *run_thread(void *arg)
{
	struct thread *t = arg;

	if (t->w.side == EVERING_SIDE_A)
		produce(&t->w, t->batch);
	else
		consume(&t->w, t->batch);
	return NULL;
}

static void worker_init(struct worker *w, struct shared *s, unsigned int entries,
			bool lease, unsigned int side, unsigned int index)
{
	*w = (struct worker) {
		.s = s, .side = side, .index = index,
		.seed = now_ms() * 7919 + side * 104729 + index,
	};
	ring_init(&w->ring, s, entries, lease);
	rename_worker(w);
}

TEST_F(multi, threads_that_abandon_lose_nothing_uncounted)
{
	struct thread t[2][WORKERS];
	unsigned int side, i;

	for (side = 0; side < 2; side++) {
		for (i = 0; i < WORKERS; i++) {
			worker_init(&t[side][i].w, self->s, variant->entries,
				    variant->lease, side, i);
			t[side][i].w.abandons = true;
			t[side][i].batch = variant->batch;
			ASSERT_EQ(0, pthread_create(&t[side][i].thread, NULL, run_thread,
						    &t[side][i]));
		}
	}
	usleep(2000000);
	store_once(&self->s->stop, 1);
	for (i = 0; i < WORKERS; i++)
		pthread_join(t[EVERING_SIDE_A][i].thread, NULL);
	store_release(&self->s->closed, 1);
	for (i = 0; i < WORKERS; i++)
		pthread_join(t[EVERING_SIDE_B][i].thread, NULL);
	SAY_AND_JUDGE();
}

/* Closing while producers push: what a push has accepted is still delivered. */
TEST_F(multi, nothing_is_accepted_after_the_end)
{
	struct thread t[2][WORKERS];
	unsigned int side, i, round;
	struct tally tally;

	for (round = 0; round < 200; round++) {
		for (i = 0; i < WORKERS; i++)
			memset(self->s->known[i], 0, self->s->next[i] + MOST_ENTRIES);
		memset(self->s, 0, offsetof(struct shared, known));
		for (side = 0; side < 2; side++) {
			for (i = 0; i < WORKERS; i++) {
				worker_init(&t[side][i].w, self->s, variant->entries,
					    variant->lease, side, i);
				t[side][i].batch = variant->batch;
				ASSERT_EQ(0, pthread_create(&t[side][i].thread, NULL,
							    run_thread, &t[side][i]));
			}
		}
		usleep(round * 10);
		/* Producers find it closed, which produce() counts as an error. */
		store_release(&self->s->closed, 1);
		for (i = 0; i < WORKERS; i++) {
			pthread_join(t[EVERING_SIDE_A][i].thread, NULL);
			pthread_join(t[EVERING_SIDE_B][i].thread, NULL);
		}
		tally = judge(self->s);
		ASSERT_EQ(0, tally.missing);
		ASSERT_EQ(tally.pushed, tally.seen);
		ASSERT_EQ(WORKERS, self->s->errors);
	}
}

#ifndef __SANITIZE_THREAD__
static pid_t start(struct worker *w, unsigned int batch)
{
	pid_t parent = getpid(), pid = fork();

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	if (w->side == EVERING_SIDE_A)
		produce(w, batch);
	else
		consume(w, batch);
	_exit(0);
}

TEST_F(multi, processes_that_are_killed_lose_nothing_uncounted)
{
	struct worker w[2][WORKERS];
	pid_t pid[2][WORKERS];
	uint64_t end = now_ms() + 3000;
	unsigned int side, i;

	for (side = 0; side < 2; side++) {
		for (i = 0; i < WORKERS; i++) {
			worker_init(&w[side][i], self->s, variant->entries, variant->lease,
				    side, i);
			pid[side][i] = start(&w[side][i], variant->batch);
			ASSERT_LT(0, pid[side][i]);
		}
	}
	while (now_ms() < end) {
		usleep(200 + draw(&w[0][0]) % 2000);
		side = draw(&w[0][0]) % 2;
		i = draw(&w[0][0]) % WORKERS;
		ASSERT_EQ(0, kill(pid[side][i], SIGKILL));
		ASSERT_EQ(pid[side][i], waitpid(pid[side][i], NULL, 0));
		heal(&w[side][i]);
		self->s->kills++;
		worker_init(&w[side][i], self->s, variant->entries, variant->lease,
				    side, i);
		w[side][i].seed += self->s->kills;
		pid[side][i] = start(&w[side][i], variant->batch);
		ASSERT_LT(0, pid[side][i]);
	}
	store_once(&self->s->stop, 1);
	for (i = 0; i < WORKERS; i++)
		ASSERT_EQ(pid[EVERING_SIDE_A][i], waitpid(pid[EVERING_SIDE_A][i], NULL, 0));
	store_release(&self->s->closed, 1);
	for (i = 0; i < WORKERS; i++) {
		ASSERT_EQ(pid[EVERING_SIDE_B][i], waitpid(pid[EVERING_SIDE_B][i], NULL, 0));
		EXPECT_EQ(1, self->s->ended[i]);
	}
	SAY_AND_JUDGE();
}
#endif

TEST_HARNESS_MAIN
