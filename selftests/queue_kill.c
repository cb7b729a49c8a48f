// SPDX-License-Identifier: GPL-2.0
/*
 * Producers and consumers of one queue, killed at random while they push, pop and
 * sleep: every item is accounted for, nobody is stuck, and nothing stays behind.
 *
 * KILLS in the environment says how many a variant (default 100).
 */
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <evering.h>

#include "evering_test.h"
#include "processes.h"

#define WORKERS		3
#define MOST_ITEMS	(1U << 22)	/* of one producer */
#define BULK		8		/* most that are pushed or popped at a time */
#define HANDS		4		/* leases that a consumer holds at a time */

#define PUSHED	1U	/* its push has returned */
#define SEEN	2U	/* a consumer has returned with it, or it is acknowledged */
#define GONE	4U	/* its producer was killed, and heal has skipped it */

/* As large as there are: many are killed while they copy one. */
struct item {
	uint64_t producer;
	uint64_t number;
	uint64_t check[509];
};

/* What a consumer was doing with a lease when it was killed. */
enum phase {
	NONE,		/* nothing in this hand */
	ASKING,		/* it is in the call, and may have been given one */
	HELD,
	ACKING,		/* it is in the call, and may have given it back */
	NACKING,
};

/**
 * struct hand - one lease of a consumer, as its parent finds it
 * @word:	enum phase, and above it how many have been given back; one word,
 *		so that there is no instant in between
 * @item:	an empty one has a number that is beyond all
 * @lease:	of it
 */
struct hand {
	uint64_t word;
	struct item item;
	struct evering_queue_lease lease;
};

#define NACK	256U	/* one more in hand.word */

struct shared {
	uint64_t token;
	uint32_t stop;
	uint64_t errors;
	uint64_t next[WORKERS];		/* the producer's next number */
	uint64_t first[WORKERS];	/* the first that it is just pushing */
	uint64_t ended[WORKERS];	/* consumers that were told of the end */
	struct item box[WORKERS][BULK];	/* what a consumer pops into */
	struct hand hand[WORKERS][HANDS]; /* what it has leased */
	unsigned char known[WORKERS][MOST_ITEMS];
	/* How often it was leased, as the consumers tell ... */
	unsigned char times[WORKERS][MOST_ITEMS];
	/* ... and as the queue told who acknowledged it. */
	unsigned char deliveries[WORKERS][MOST_ITEMS];
};

#define error(s) do {							\
	__atomic_fetch_add(&(s)->errors, 1, __ATOMIC_RELAXED);		\
	fprintf(stderr, "# %s:%d\n", __func__, __LINE__);		\
} while (0)

static void fill_in(struct item *item, uint64_t producer, uint64_t number)
{
	int j;

	item->producer = producer;
	item->number = number;
	for (j = 0; j < 509; j++)
		item->check[j] = number * (j + 3) + producer;
}

static bool valid(const struct item *item)
{
	int j;

	if (item->producer >= WORKERS || item->number >= MOST_ITEMS)
		return false;
	for (j = 0; j < 509; j++)
		if (item->check[j] != item->number * (j + 3) + item->producer)
			return false;
	return true;
}

static unsigned char *known(struct shared *s, const struct item *item)
{
	return &s->known[item->producer][item->number];
}

static void learn(struct shared *s, const struct item *item, unsigned char what)
{
	if (__atomic_fetch_or(known(s, item), what, __ATOMIC_RELAXED) & what)
		error(s);
}

static unsigned int any(unsigned int *seed, unsigned int n)
{
	return (unsigned int)rand_r(seed) % n;
}

/* ------------------------------------------------------------------- producers */

/* Pushes some of them, waiting if it has to; how many, or -errno. */
static int push_some(struct evering_queue *q, const struct item *items, int nr,
		     bool in_place)
{
	struct evering_queue_slot slot;
	int ret = -EAGAIN;

	if (nr > 1) {
		ret = evering_queue_try_push_bulk(q, items, nr);
	} else if (in_place) {
		ret = evering_queue_reserve(q, &slot);
		if (!ret) {
			fill_in(slot.item, items->producer, items->number);
			ret = evering_queue_commit(q, &slot);
		}
		if (!ret)
			return 1;
	}
	if (ret != -EAGAIN)
		return ret;
	ret = evering_queue_push(q, items);
	return ret ? ret : 1;
}

static void produce(struct shared *s, int index)
{
	unsigned int seed = (unsigned int)now_ns();
	struct item items[BULK];
	struct evering_queue *q;
	uint64_t number;
	int i, j, nr, n;

	if (evering_queue_open(NULL, s->token, EVERING_QUEUE_PUSH, &q))
		_exit(1);
	while (!__atomic_load_n(&s->stop, __ATOMIC_RELAXED)) {
		nr = any(&seed, 4) ? 1 : 1 + any(&seed, BULK);
		number = __atomic_fetch_add(&s->next[index], nr, __ATOMIC_RELAXED);
		if (number + nr > MOST_ITEMS)
			break;
		for (i = 0; i < nr; i++)
			fill_in(&items[i], index, number + i);
		for (i = 0; i < nr; i += n) {
			__atomic_store_n(&s->first[index], number + i,
					 __ATOMIC_RELEASE);
			n = push_some(q, items + i, nr - i, any(&seed, 2));
			if (n <= 0) {
				error(s);
				_exit(1);
			}
			for (j = 0; j < n; j++)
				learn(s, &items[i + j], PUSHED);
		}
	}
	_exit(0);
}

/* ------------------------------------------------------------ consumers that pop */

/* Pops some into its box, waiting if it has to; how many, or -errno. */
static int pop_some(struct evering_queue *q, struct item *box, int nr)
{
	int ret = nr > 1 ? evering_queue_try_pop_bulk(q, box, nr) : -EAGAIN;

	if (ret != -EAGAIN && ret != -EINPROGRESS)
		return ret;
	ret = evering_queue_pop(q, box);
	return ret ? ret : 1;
}

static void consume(struct shared *s, int index)
{
	unsigned int seed = (unsigned int)now_ns();
	uint64_t last[WORKERS] = { 0 };
	struct item *box = s->box[index];
	struct evering_queue *q;
	int i, n;

	if (evering_queue_open(NULL, s->token, EVERING_QUEUE_POP, &q))
		_exit(1);
	for (;;) {
		/* Nothing in it: the number is beyond all. */
		for (i = 0; i < BULK; i++)
			__atomic_store_n(&box[i].number, MOST_ITEMS, __ATOMIC_RELEASE);
		n = pop_some(q, box, any(&seed, 4) ? 1 : 1 + any(&seed, BULK));
		if (n == -ESHUTDOWN) {
			s->ended[index] = 1;
			_exit(0);
		}
		if (n <= 0) {
			error(s);
			_exit(1);
		}
		for (i = 0; i < n; i++) {
			if (!valid(&box[i])) {
				error(s);
				_exit(1);
			}
			if (box[i].number < last[box[i].producer])
				error(s);
			last[box[i].producer] = box[i].number;
			learn(s, &box[i], SEEN);
		}
	}
}

/*
 * A consumer has died, and @lost of what it had claimed are.  What it had given
 * back before is in its box: it was given these.
 *
 * Return: how many of those there are, where it is not clear which.
 */
static uint64_t open_box(struct shared *s, int index, uint64_t lost)
{
	struct item *box = s->box[index];
	uint64_t i, n = 0;

	while (n < BULK && box[n].number < MOST_ITEMS)
		n++;
	for (i = 0; i < n && !lost; i++) {
		if (!valid(&box[i]))
			error(s);
		else if (!(*known(s, &box[i]) & SEEN))
			learn(s, &box[i], SEEN);
	}
	/* Not for the next one, who may be killed before it comes to that. */
	for (i = 0; i < BULK; i++)
		box[i].number = MOST_ITEMS;
	/* Killed while it copied, it has lost all that it had. */
	return lost && n > lost ? n - lost : 0;
}

/* ---------------------------------------------------------- consumers that lease */

static void enter_phase(struct hand *h, enum phase phase)
{
	__atomic_store_n(&h->word, (h->word & ~(uint64_t)(NACK - 1)) | phase,
			 __ATOMIC_RELEASE);
}

static int lease_one(struct shared *s, struct evering_queue *q, struct hand *h,
		     bool wait, uint64_t last[WORKERS])
{
	unsigned int times;
	int ret;

	__atomic_store_n(&h->item.number, MOST_ITEMS, __ATOMIC_RELEASE);
	enter_phase(h, ASKING);
	ret = wait ? evering_queue_lease(q, &h->item, &h->lease) :
		     evering_queue_try_lease(q, &h->item, &h->lease);
	enter_phase(h, ret ? NONE : HELD);
	if (ret)
		return ret;
	if (!valid(&h->item)) {
		error(s);
		_exit(1);
	}
	/* Who has it for the second time is told so; and nobody has it again. */
	times = 1 + __atomic_fetch_add(&s->times[h->item.producer][h->item.number], 1,
				       __ATOMIC_RELAXED);
	if (h->lease.deliveries < times || *known(s, &h->item) & SEEN)
		error(s);
	if (h->lease.deliveries == 1) {
		if (h->item.number < last[h->item.producer])
			error(s);
		last[h->item.producer] = h->item.number;
	}
	return 0;
}

static void acknowledged(struct shared *s, const struct hand *h)
{
	/* In this order: who has been SEEN has its deliveries. */
	s->deliveries[h->item.producer][h->item.number] =
		h->lease.deliveries < 255 ? h->lease.deliveries : 255;
	learn(s, &h->item, SEEN);
}

static void give_back(struct shared *s, struct evering_queue *q, struct hand *h,
		      bool nack)
{
	if (nack) {
		enter_phase(h, NACKING);
		if (evering_queue_nack(q, &h->lease))
			error(s);
		__atomic_store_n(&h->word, (h->word & ~(uint64_t)(NACK - 1)) + NACK,
				 __ATOMIC_RELEASE);
		return;
	}
	enter_phase(h, ACKING);
	if (evering_queue_ack(q, &h->lease))
		error(s);
	acknowledged(s, h);
	enter_phase(h, NONE);
}

static void lease_and_give_back(struct shared *s, int index)
{
	unsigned int seed = (unsigned int)now_ns();
	uint64_t last[WORKERS] = { 0 };
	struct hand *hand = s->hand[index];
	unsigned int held, i, first;
	struct evering_queue *q;
	int ret;

	if (evering_queue_open(NULL, s->token, EVERING_QUEUE_POP, &q))
		_exit(1);
	for (;;) {
		ret = lease_one(s, q, &hand[0], true, last);
		if (ret == -ESHUTDOWN) {
			s->ended[index] = 1;
			_exit(0);
		}
		if (ret) {
			error(s);
			_exit(1);
		}
		held = 1;
		while (held < HANDS && !any(&seed, 3) &&
		       !lease_one(s, q, &hand[held], false, last))
			held++;
		if (!any(&seed, 16))
			usleep(any(&seed, 2000));
		first = any(&seed, held);
		for (i = 0; i < held; i++)
			give_back(s, q, &hand[(first + i) % held], !any(&seed, 8));
	}
}

/*
 * A consumer has died, and @redelivered of what it held are for others.
 *
 * Return: how many it has given back itself.
 */
static uint64_t open_hands(struct shared *s, int index, uint64_t redelivered)
{
	uint64_t held = 0, nacks = 0;
	struct hand *unsure = NULL;
	bool returned;
	int i;

	for (i = 0; i < HANDS; i++) {
		struct hand *h = &s->hand[index][i];
		enum phase phase = h->word % NACK;

		held += phase == HELD;
		nacks += h->word / NACK;
		if (phase == NONE || phase == HELD)
			continue;
		if (unsure)
			error(s);
		unsure = h;
	}
	/* All that it held; and what it was in a call for, or not. */
	if (redelivered < held || redelivered > held + !!unsure)
		error(s);
	returned = redelivered > held;
	switch (unsure ? unsure->word % NACK : NONE) {
	case ASKING:
		if (unsure->item.number != MOST_ITEMS && !returned) {
			fprintf(stderr, "# it held %lu and was taking %lu of %lu (%x, claim %llx), redelivered %lu\n",
				held, unsure->item.number, unsure->item.producer,
				*known(s, &unsure->item),
				(unsigned long long)unsure->lease.claim, redelivered);
			error(s);
		}
		break;
	case ACKING:
		/* If it was returned, another one may have acknowledged it by now. */
		if (!returned && !(*known(s, &unsure->item) & SEEN))
			acknowledged(s, unsure);
		break;
	case NACKING:
		nacks += !returned;
		break;
	}
	memset(s->hand[index], 0, sizeof(s->hand[index]));
	return nacks;
}

/* ------------------------------------------------------------------ the campaign */

/* What the kernel has counted, by fdinfo. */
struct counts {
	unsigned int endpoints[2];
	uint64_t healed;
	uint64_t redelivered;
	uint64_t lost;
};

static struct counts counts_now(struct shared *s, struct evering_queue *q)
{
	char path[64], line[256];
	struct counts counts = { 0 };
	int lines = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d",
		 evering_queue_fd(q, EVERING_QUEUE_POP));
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "side-a: state=%*s endpoints=%u",
			   &counts.endpoints[EVERING_SIDE_A]) == 1 ||
		    sscanf(line, "side-b: state=%*s endpoints=%u",
			   &counts.endpoints[EVERING_SIDE_B]) == 1 ||
		    sscanf(line, "healed: %lu", &counts.healed) == 1 ||
		    sscanf(line, "redelivered: %lu", &counts.redelivered) == 1 ||
		    sscanf(line, "lost: %lu", &counts.lost) == 1)
			lines++;
	}
	if (f)
		fclose(f);
	if (lines != 5)
		error(s);
	return counts;
}

/*
 * Counted once the dead one is healed.  That is before it can be reaped, but where
 * somebody else has its memory in his hands, as who reads of it in /proc.
 */
static struct counts counts_after_death(struct shared *s, struct evering_queue *q,
					int side)
{
	struct counts counts;
	int i;

	for (i = 0; i < 1000; i++) {
		counts = counts_now(s, q);
		/* The other workers, and the parent. */
		if (counts.endpoints[side] <= WORKERS)
			return counts;
		sleep_ms(1);
	}
	error(s);
	return counts;
}

/**
 * struct campaign - what the parent knows
 * @s:		shared with all workers
 * @q:		the queue
 * @lease:	consumers lease
 * @pid:	of the workers, by side
 * @counts:	of the kernel, after the last death
 * @given:	popped, and it is not clear which
 * @nacks:	leases that were given back by their holders
 */
struct campaign {
	struct shared *s;
	struct evering_queue *q;
	bool lease;
	pid_t pid[2][WORKERS];
	struct counts counts;
	uint64_t given;
	uint64_t nacks;
};

FIXTURE(queue_kill)
{
	struct campaign c;
	struct counters before;
};

FIXTURE_VARIANT(queue_kill)
{
	unsigned int entries;
	bool lease;
};

FIXTURE_VARIANT_ADD(queue_kill, mostly_full)
{
	.entries = 64,
};

FIXTURE_VARIANT_ADD(queue_kill, roomy)
{
	.entries = 1024,
};

FIXTURE_VARIANT_ADD(queue_kill, mostly_full_lease)
{
	.entries = 64,
	.lease = true,
};

FIXTURE_VARIANT_ADD(queue_kill, roomy_lease)
{
	.entries = 1024,
	.lease = true,
};

FIXTURE_SETUP(queue_kill)
{
	struct campaign *c = &self->c;
	int i;

	self->before = counters_now();
	c->s = mmap(NULL, sizeof(*c->s), PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, c->s);
	c->lease = variant->lease;
	ASSERT_EQ(0, evering_queue_create(NULL, 0600, variant->entries,
					  sizeof(struct item),
					  EVERING_QUEUE_PUSH | EVERING_QUEUE_POP |
					  (c->lease ? EVERING_QUEUE_LEASE : 0),
					  &c->q));
	c->s->token = evering_queue_token(c->q);
	/* Empty, before a consumer comes to that. */
	for (i = 0; i < WORKERS * BULK; i++)
		c->s->box[i / BULK][i % BULK].number = MOST_ITEMS;
}

FIXTURE_TEARDOWN(queue_kill)
{
	evering_queue_close(self->c.q);
	munmap(self->c.s, sizeof(*self->c.s));
	EXPECT_TRUE(counters_return(&self->before));
}

static bool start(struct campaign *c, int side, int index)
{
	pid_t pid = fork_mortal();

	c->pid[side][index] = pid;
	if (pid)
		return pid > 0;
	setpriority(PRIO_PROCESS, 0, 0);
	if (side == EVERING_SIDE_A)
		produce(c->s, index);
	else if (c->lease)
		lease_and_give_back(c->s, index);
	else
		consume(c->s, index);
	_exit(1);
}

/* One has died: is what the kernel has counted what this one can have left? */
static void account(struct campaign *c, int side, int index)
{
	struct counts was = c->counts;
	uint64_t healed, redelivered, lost, n;

	c->counts = counts_after_death(c->s, c->q, side);
	healed = c->counts.healed - was.healed;
	redelivered = c->counts.redelivered - was.redelivered;
	lost = c->counts.lost - was.lost;
	if (side == EVERING_SIDE_A) {
		if (healed > BULK || redelivered || lost)
			error(c->s);
		/* The numbers that it was at are used up. */
		for (n = 0; n < healed; n++)
			c->s->known[index][c->s->first[index] + n] |= GONE;
		return;
	}
	if (healed || (c->lease ? lost : redelivered || lost > BULK))
		error(c->s);
	if (c->lease)
		c->nacks += open_hands(c->s, index, redelivered);
	else
		c->given += open_box(c->s, index, lost);
}

/**
 * struct sums - over all items that were given a number
 * @seen:	popped, or acknowledged
 * @missing:	pushed and not seen
 * @unsure:	neither: killed in its push, which may have been accepted
 * @again:	deliveries of what was acknowledged, but the first
 */
struct sums {
	uint64_t seen, missing, unsure, again;
};

static struct sums sum_up(struct shared *s)
{
	struct sums sums = { 0 };
	uint64_t n;
	int i;

	for (i = 0; i < WORKERS; i++) {
		for (n = 0; n < s->next[i] && n < MOST_ITEMS; n++) {
			unsigned char k = s->known[i][n];

			sums.seen += !!(k & SEEN);
			sums.missing += (k & PUSHED) && !(k & SEEN);
			sums.unsure += !(k & (PUSHED | SEEN | GONE));
			if ((k & GONE) && (k & (SEEN | PUSHED)))
				error(s);
			if (s->deliveries[i][n])
				sums.again += s->deliveries[i][n] - 1;
		}
	}
	return sums;
}

TEST_F_TIMEOUT(queue_kill, every_item_is_accounted_for, 600)
{
	const char *wanted = getenv("KILLS");
	unsigned long kills = wanted ? strtoul(wanted, NULL, 0) : 100, k;
	unsigned int seed = (unsigned int)now_ns();
	uint64_t since = now_ns();
	struct campaign *c = &self->c;
	struct sums sums;
	int side, i;

	setpriority(PRIO_PROCESS, 0, -10);
	for (side = 0; side < 2; side++)
		for (i = 0; i < WORKERS; i++)
			ASSERT_TRUE(start(c, side, i));
	for (k = 0; k < kills && !c->s->errors; k++) {
		usleep(any(&seed, 15000));
		side = any(&seed, 2);
		i = any(&seed, WORKERS);
		ASSERT_EQ(0, kill(c->pid[side][i], SIGKILL));
		/* It shall not wait for the others until it may die. */
		setpriority(PRIO_PROCESS, c->pid[side][i], -20);
		ASSERT_EQ(-SIGKILL, reap(c->pid[side][i]));
		account(c, side, i);
		ASSERT_TRUE(start(c, side, i));
	}
	c->s->stop = 1;
	for (i = 0; i < WORKERS; i++)
		EXPECT_EQ(0, reap(c->pid[EVERING_SIDE_A][i]));
	ASSERT_EQ(0, evering_queue_shutdown(c->q));
	/* One dies at the end; it holds up none of the others. */
	usleep(any(&seed, 2000));
	kill(c->pid[EVERING_SIDE_B][0], SIGKILL);
	reap(c->pid[EVERING_SIDE_B][0]);
	account(c, EVERING_SIDE_B, 0);
	for (i = 1; i < WORKERS; i++) {
		EXPECT_EQ(0, reap(c->pid[EVERING_SIDE_B][i]));
		EXPECT_EQ(1, c->s->ended[i]);
		account(c, EVERING_SIDE_B, i);
	}

	sums = sum_up(c->s);
	TH_LOG("kills %lu in %llu ms: seen %lu, healed %lu, redelivered %lu, given back %lu, lost %lu, missing %lu, unsure %lu",
	       k, (now_ns() - since) / MS, sums.seen, c->counts.healed,
	       c->counts.redelivered, c->nacks, c->counts.lost, sums.missing,
	       sums.unsure);
	EXPECT_EQ(0, c->s->errors);
	EXPECT_LT(kills, sums.seen);
	EXPECT_EQ(0, evering_queue_len(c->q));
	if (c->lease) {
		EXPECT_EQ(0, sums.missing);
		/* Each came back as often as it was given back, or its holder died. */
		EXPECT_EQ(c->nacks + c->counts.redelivered, sums.again);
	} else {
		EXPECT_LE(sums.missing, c->counts.lost + c->given);
		EXPECT_LE(c->counts.lost + c->given, sums.missing + sums.unsure);
	}
}

TEST_HARNESS_MAIN
