// SPDX-License-Identifier: GPL-2.0
/*
 * Clients and workers of one channel, killed at random while they call: those that
 * live are never stuck, every request and every answer is accounted for, and nothing
 * stays behind.
 *
 * KILLS in the environment says how many (default 100, shared by the variants).
 */
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <evering.h>

#include "evering_test.h"
#include "processes.h"

#define MANY		3
#define MOST		(1U << 20)	/* requests of one client */
#define BATCH		6
#define STUCK_MS	8000

/* What is known of one request, or of the answer to it: how often. */
struct known {
	uint8_t sent;		/* its submission has returned */
	uint8_t taken;		/* somebody has got it */
	uint8_t done;		/* and has given it back */
};

enum { REQUEST, ANSWER };	/* by the ring */

struct table {
	uint32_t stop;		/* send no more */
	uint32_t stopped;	/* clients that do not */
	uint32_t errors;
	uint64_t next[MANY];	/* of each client */
	struct known known[2][MANY][MOST];
};

struct player {
	pthread_t thread;
	pid_t pid;
	struct table *table;
	struct evering *ep;
	unsigned int side;
	unsigned int index;
};

static int error(struct player *p, const char *what, int ret)
{
	printf("# side %u, %u: %s: %d\n", p->side, p->index, what, ret);
	__atomic_fetch_add(&p->table->errors, 1, __ATOMIC_RELAXED);
	return -1;
}

static struct known *known(struct table *t, int ring, uint64_t id)
{
	uint64_t client = id >> 32, number = id & UINT32_MAX;

	return client < MANY && number < MOST ? &t->known[ring][client][number] : NULL;
}

static void count(uint8_t *what)
{
	__atomic_fetch_add(what, 1, __ATOMIC_RELAXED);
}

/* One request or answer; both look the same but for the sign of the check. */
static void fill_in(uint64_t *entry, uint64_t id, int ring)
{
	int i;

	entry[1] = id;
	for (i = 2; i < 8; i++)
		entry[i] = id * (i + 10 * ring);
}

static bool filled_in(const uint64_t *entry, int ring)
{
	int i;

	for (i = 2; i < 8; i++)
		if (entry[i] != entry[1] * (i + 10 * ring))
			return false;
	return true;
}

/* ------------------------------------------------------------------- clients */

/* Takes all answers that are there. */
static int take_answers(struct player *p)
{
	const struct evering_cqe *cqe[BATCH];
	struct known *k[BATCH];
	int n, i;

	while ((n = evering_peek_batch_cqe(p->ep, cqe, BATCH)) > 0) {
		for (i = 0; i < n; i++) {
			k[i] = known(p->table, ANSWER, cqe[i]->user_data);
			if (!k[i] || !filled_in((const uint64_t *)cqe[i], ANSWER))
				return error(p, "answer", (int)cqe[i]->user_data);
			count(&k[i]->taken);
		}
		if (cqe[0]->user_data % 32 == 0)
			usleep(300);
		evering_cq_advance(p->ep, n);
		for (i = 0; i < n; i++)
			count(&k[i]->done);
	}
	return 0;
}

static int send_one(struct player *p)
{
	struct timespec stuck = { STUCK_MS / 1000, 0 };
	uint64_t number = __atomic_fetch_add(&p->table->next[p->index], 1, __ATOMIC_RELAXED);
	uint64_t id = (uint64_t)p->index << 32 | number;
	struct evering_sqe *sqe;
	int ret;

	if (number >= MOST)
		return error(p, "too many", 0);
	while (!(sqe = evering_get_sqe(p->ep))) {
		ret = evering_wait_sq_space(p->ep, &stuck);
		if (ret < 0)
			return error(p, "stuck without room", ret);
		if (take_answers(p))
			return -1;
	}
	fill_in((uint64_t *)sqe, id, REQUEST);
	ret = evering_submit(p->ep);
	if (ret < 0 && ret != -EAGAIN)
		return error(p, "submit", ret);
	while (evering_sq_reserved(p->ep)) {
		ret = evering_wait_sq_space(p->ep, &stuck);
		if (ret < 0)
			return error(p, "stuck before a full ring", ret);
		if (take_answers(p))
			return -1;
	}
	count(&known(p->table, REQUEST, id)->sent);
	return 0;
}

static void be_client(struct player *p)
{
	struct timespec stuck = { STUCK_MS / 1000, 0 };
	const struct evering_cqe *cqe;
	int ret, n = 0;

	while (!__atomic_load_n(&p->table->stop, __ATOMIC_ACQUIRE)) {
		if (send_one(p))
			return;
		/* Full rings now and then, and waits now and then. */
		if (++n % 100 < 50) {
			if (take_answers(p))
				return;
			sched_yield();
		}
	}
	__atomic_fetch_add(&p->table->stopped, 1, __ATOMIC_RELEASE);
	do {
		if (take_answers(p))
			return;
		ret = evering_wait_cqe_timeout(p->ep, &cqe, &stuck);
	} while (!ret);
	if (ret != -ESHUTDOWN)
		error(p, "stuck before the end", ret);
}

/* ------------------------------------------------------------------- workers */

static int answer(struct player *p, uint64_t id)
{
	struct timespec stuck = { STUCK_MS / 1000, 0 };
	struct evering_cqe *cqe;
	int ret;

	while (!(cqe = evering_get_cqe(p->ep))) {
		ret = evering_wait_cq_space(p->ep, &stuck);
		if (ret < 0)
			return error(p, "stuck without room", ret);
	}
	fill_in((uint64_t *)cqe, id, ANSWER);
	ret = evering_complete(p->ep);
	if (ret < 0 && ret != -EAGAIN)
		return error(p, "complete", ret);
	while (evering_cq_reserved(p->ep)) {
		ret = evering_wait_cq_space(p->ep, &stuck);
		if (ret < 0)
			return error(p, "stuck before a full ring", ret);
	}
	count(&known(p->table, ANSWER, id)->sent);
	return 0;
}

/* Several at a time, so that who is killed mostly holds some. */
static void be_worker(struct player *p)
{
	struct timespec stuck = { STUCK_MS / 1000, 0 };
	const struct evering_sqe *sqe[BATCH];
	struct known *k[BATCH];
	unsigned int seed = (unsigned int)getpid();
	int ret, n, i;

	for (;;) {
		ret = evering_wait_sqe_timeout(p->ep, NULL, &stuck);
		if (ret == -ESHUTDOWN)
			return;
		if (ret) {
			error(p, "stuck without requests", ret);
			return;
		}
		n = evering_peek_batch_sqe(p->ep, sqe, 1 + rand_r(&seed) % BATCH);
		for (i = 0; i < n; i++) {
			k[i] = known(p->table, REQUEST, sqe[i]->user_data);
			if (!k[i] || !filled_in((const uint64_t *)sqe[i], REQUEST)) {
				error(p, "request", (int)sqe[i]->user_data);
				return;
			}
			count(&k[i]->taken);
		}
		if (rand_r(&seed) % 8 == 0)
			usleep(rand_r(&seed) % 1000);
		for (i = 0; i < n; i++)
			if (answer(p, sqe[i]->user_data))
				return;
		evering_sq_advance(p->ep, n);
		for (i = 0; i < n; i++)
			count(&k[i]->done);
	}
}

static void *play(void *arg)
{
	struct player *p = arg;

	if (p->side == EVERING_SIDE_A)
		be_client(p);
	else
		be_worker(p);
	return NULL;
}

/* ------------------------------------------------------------------ the campaign */

FIXTURE(shared_kill)
{
	struct table *table;
	struct evering *ep[2];
	struct counters before;
};

FIXTURE_VARIANT(shared_kill)
{
	unsigned int flags;
};

#define VARIANT(name, flags_)						\
FIXTURE_VARIANT_ADD(shared_kill, name)					\
{									\
	.flags = flags_,						\
}

VARIANT(many_clients_many_workers, EVERING_URING_MULTI_A | EVERING_URING_MULTI_B);
VARIANT(many_clients_many_workers_lease,
	EVERING_URING_MULTI_A | EVERING_URING_MULTI_B | EVERING_URING_LEASE);
VARIANT(many_clients_one_worker, EVERING_URING_MULTI_A);
VARIANT(one_client_many_workers, EVERING_URING_MULTI_B);
VARIANT(one_client_many_workers_lease, EVERING_URING_MULTI_B | EVERING_URING_LEASE);

#define VARIANTS	5

FIXTURE_SETUP(shared_kill)
{
	const struct evering_geometry geometry = {
		.entries = { 64, 64 }, .slot_size = { 64, 64 },
	};

	self->before = counters_now();
	self->table = mmap(NULL, sizeof(*self->table), PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	ASSERT_NE(MAP_FAILED, self->table);
	ASSERT_EQ(0, evering_channel_create(NULL, 0600, &geometry, variant->flags,
					    &self->ep[EVERING_SIDE_A]));
	ASSERT_EQ(0, evering_channel_open(NULL, evering_token(self->ep[EVERING_SIDE_A]),
					  &self->ep[EVERING_SIDE_B]));
}

FIXTURE_TEARDOWN(shared_kill)
{
	evering_close(self->ep[EVERING_SIDE_A]);
	evering_close(self->ep[EVERING_SIDE_B]);
	munmap(self->table, sizeof(*self->table));
	EXPECT_TRUE(counters_return(&self->before));
}

/* A process with one more endpoint. */
static bool start(struct player *p, const struct evering *of)
{
	int fd = evering_dup(of), ret;

	if (fd < 0)
		return false;
	p->pid = fork_mortal();
	if (!p->pid) {
		ret = evering_channel_from_fd(fd, &p->ep);
		if (ret)
			error(p, "from_fd", ret);
		else
			play(p);
		_exit(0);
	}
	close(fd);
	return p->pid > 0;
}

struct healed {
	uint64_t redelivered[2], lost[2];	/* by ring */
};

static struct healed healed_now(struct evering *ep)
{
	struct healed h = { { 0 }, { 0 } };
	char path[64], line[256];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", evering_fd(ep));
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f)) {
		sscanf(line, "redelivered: %lu %lu", &h.redelivered[0], &h.redelivered[1]);
		sscanf(line, "lost: %lu %lu", &h.lost[0], &h.lost[1]);
	}
	if (f)
		fclose(f);
	return h;
}

/* What is known of one ring when all is over. */
struct tally {
	uint64_t sent;		/* for sure */
	uint64_t taken;
	uint64_t missing;	/* sent, and nobody has got it */
	uint64_t unseen;	/* sent or got, and nobody was done with it */
	uint64_t again;		/* got once more */
	uint64_t ghosts;	/* got, and there was nothing to answer */
};

static struct tally judge(struct table *t, int ring)
{
	struct tally y = { 0 };
	uint64_t n;
	int i;

	for (i = 0; i < MANY; i++) {
		for (n = 0; n < t->next[i]; n++) {
			const struct known *k = &t->known[ring][i][n];

			y.sent += k->sent;
			y.taken += k->taken > 0;
			y.missing += k->sent && !k->taken;
			y.unseen += (k->sent || k->taken) && !k->done;
			y.again += k->taken > 1 ? k->taken - 1 : 0;
			y.ghosts += ring == ANSWER && k->taken &&
				    !t->known[REQUEST][i][n].taken;
		}
	}
	return y;
}

TEST_F_TIMEOUT(shared_kill, everything_is_accounted_for, 600)
{
	const char *wanted = getenv("KILLS");
	unsigned long kills = (wanted ? strtoul(wanted, NULL, 0) : 100) / VARIANTS, k;
	bool lease = variant->flags & EVERING_URING_LEASE;
	unsigned int seed = (unsigned int)now_ns();
	struct player player[2][MANY] = { 0 };
	unsigned long killed[2] = { 0, 0 };
	struct table *t = self->table;
	struct healed h;
	struct tally y;
	int side, i, n[2];

	for (side = 0; side < 2; side++) {
		bool many = variant->flags & (EVERING_URING_MULTI_A << side);

		n[side] = many ? MANY : 1;
		for (i = 0; i < n[side]; i++) {
			player[side][i] = (struct player){
				.table = t, .ep = self->ep[side], .side = side, .index = i,
			};
			if (many)
				ASSERT_TRUE(start(&player[side][i], self->ep[side]));
		}
	}
	/* Who is alone is not killed, but must not be stuck. */
	for (side = 0; side < 2; side++)
		if (n[side] == 1)
			ASSERT_EQ(0, pthread_create(&player[side][0].thread, NULL, play,
						    &player[side][0]));

	for (k = 0; k < kills && !t->errors; k++) {
		usleep(rand_r(&seed) % 20000);
		side = rand_r(&seed) % 2;
		if (n[side] == 1)
			side = !side;
		i = rand_r(&seed) % MANY;
		ASSERT_EQ(0, kill(player[side][i].pid, SIGKILL));
		/* Killed, and not gone by itself with an error. */
		EXPECT_EQ(-SIGKILL, reap(player[side][i].pid));
		killed[side]++;
		ASSERT_TRUE(start(&player[side][i], self->ep[side]));
	}
	__atomic_store_n(&t->stop, 1, __ATOMIC_RELEASE);
	for (i = 0; i < 1000 && !t->errors; i++) {
		if (__atomic_load_n(&t->stopped, __ATOMIC_ACQUIRE) == n[EVERING_SIDE_A])
			break;
		sleep_ms(10);
	}
	EXPECT_EQ(n[EVERING_SIDE_A], t->stopped);
	/* First no more requests, and when all are answered no more answers. */
	for (side = EVERING_SIDE_A; side <= EVERING_SIDE_B; side++) {
		ASSERT_EQ(0, evering_shutdown(self->ep[side], EVERING_SHUT_WR));
		for (i = 0; i < n[!side]; i++) {
			if (n[!side] == 1) {
				pthread_join(player[!side][i].thread, NULL);
			} else {
				EXPECT_EQ(0, reap(player[!side][i].pid));
			}
		}
	}
	EXPECT_EQ(0, t->errors);

	h = healed_now(self->ep[0]);
	for (i = REQUEST; i <= ANSWER; i++) {
		/* Killed between giving a batch back and saying so. */
		unsigned long unsure = BATCH * killed[i == REQUEST ? EVERING_SIDE_B : EVERING_SIDE_A];

		y = judge(t, i);
		TH_LOG("%s: unsure %lu: sent %lu, taken %lu, missing %lu, unseen %lu, again %lu; lost %lu, redelivered %lu",
		       i == REQUEST ? "requests" : "answers", unsure, y.sent, y.taken,
		       y.missing, y.unseen, y.again, h.lost[i], h.redelivered[i]);
		EXPECT_EQ(0, y.ghosts);
		EXPECT_LT(kills, y.taken);
		if (lease) {
			/* What was sent has come; again only where it was redelivered. */
			EXPECT_EQ(0, h.lost[i]);
			EXPECT_EQ(0, y.missing);
			EXPECT_LE(y.unseen, unsure);
			EXPECT_LE(y.again, h.redelivered[i] +
					   (i == ANSWER ? h.redelivered[REQUEST] : 0));
		} else {
			EXPECT_EQ(0, h.redelivered[i]);
			EXPECT_EQ(0, y.again);
			EXPECT_LE(y.missing, h.lost[i]);
			EXPECT_LE(y.unseen, h.lost[i] + unsure);
			EXPECT_LE(h.lost[i], y.unseen + killed[i]);
		}
	}
}

TEST_HARNESS_MAIN
