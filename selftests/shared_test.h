/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Channels of which one side is many, or both.  A test looks at one ring, from
 * its makers to its takers; each is one endpoint, or three.
 */
#ifndef SHARED_TEST_H
#define SHARED_TEST_H

#include "sleepers.h"
#include "../lib/internal.h"
#include "../lib/multi.h"

#define ENTRIES		64	/* of both rings: EVERING_MIN_MULTI */
#define MANY		3
#define MULTI_A		EVERING_URING_MULTI_A
#define MULTI_B		EVERING_URING_MULTI_B
#define LEASE		EVERING_URING_LEASE

static const struct evering_geometry least = {
	.entries = { ENTRIES, ENTRIES },
	.slot_size = { 64, 64 },
};

/* A child that does not outlive a test that fails or hangs. */
static inline pid_t fork_mortal(void)
{
	pid_t pid = fork();

	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		alarm(25);
	}
	return pid;
}

/* ------------------------------------------------- requests and answers alike */

/* An entry as words: the stamp, user_data, ..., and four of data. */
static inline uint64_t *get(struct evering *ep)
{
	return ep->side ? (uint64_t *)evering_get_cqe(ep) :
			  (uint64_t *)evering_get_sqe(ep);
}

static inline int cancel(struct evering *ep, const uint64_t *entry)
{
	return ep->side ? evering_cqe_cancel(ep, (const void *)entry) :
			  evering_sqe_cancel(ep, (const void *)entry);
}

static inline int submit(struct evering *ep)
{
	return ep->side ? evering_complete(ep) : evering_submit(ep);
}

static inline unsigned int reserved(struct evering *ep)
{
	return ep->side ? evering_cq_reserved(ep) : evering_sq_reserved(ep);
}

static inline struct timespec time_of(unsigned int ms)
{
	return (struct timespec){ ms / 1000, (ms % 1000) * 1000000L };
}

/* Who sleeps FAR has lost a wake-up, even if it then finds what it wants. */
static inline int in_time(int ret, uint64_t begin)
{
	return lost(begin) ? -ETIMEDOUT : ret;
}

static inline int wait_room(struct evering *ep, unsigned int ms)
{
	struct timespec timeout = time_of(ms);
	uint64_t begin = now_ns();

	return in_time(ep->side ? evering_wait_cq_space(ep, &timeout) :
				  evering_wait_sq_space(ep, &timeout), begin);
}

static inline int peek(struct evering *ep, const uint64_t **entries, unsigned int nr)
{
	return ep->side ? evering_peek_batch_sqe(ep, (void *)entries, nr) :
			  evering_peek_batch_cqe(ep, (void *)entries, nr);
}

static inline int wait_entries(struct evering *ep, unsigned int nr, unsigned int ms)
{
	struct timespec timeout = time_of(ms);
	uint64_t begin = now_ns();

	return in_time(ep->side ? evering_wait_sqes(ep, NULL, nr, &timeout) :
				  evering_wait_cqes(ep, NULL, nr, &timeout), begin);
}

static inline void seen(struct evering *ep, unsigned int nr)
{
	if (ep->side)
		evering_sq_advance(ep, nr);
	else
		evering_cq_advance(ep, nr);
}

static inline void put_value(uint64_t *entry, uint64_t value)
{
	int i;

	for (i = 1; i < 8; i++)
		entry[i] = value * i;
}

/* What put_value() has put there, or ~0 for what nobody has. */
static inline uint64_t value_of(const uint64_t *entry)
{
	int i;

	for (i = 1; i < 8; i++)
		if (entry[i] != entry[1] * i)
			return ~0ULL;
	return entry[1];
}

/* Reserves and submits one; what the submission says, -ENOBUFS without room. */
static inline int send_value(struct evering *ep, uint64_t value)
{
	uint64_t *entry = get(ep);

	if (!entry)
		return -ENOBUFS;
	put_value(entry, value);
	return submit(ep);
}

/* Takes one that is there, without being done with it; its value, or -errno. */
static inline int64_t hold_value(struct evering *ep)
{
	const uint64_t *entry;
	int ret = peek(ep, &entry, 1);

	return ret < 0 ? ret : (int64_t)value_of(entry);
}

static inline int64_t take_value(struct evering *ep)
{
	int64_t value = hold_value(ep);

	if (value >= 0)
		seen(ep, 1);
	return value;
}

static inline int64_t wait_value(struct evering *ep, unsigned int ms)
{
	int ret = wait_entries(ep, 1, ms);

	return ret ? ret : take_value(ep);
}

/* ----------------------------------------------------------------- endpoints */

struct ends {
	struct evering *maker[MANY];
	struct evering *taker[MANY];
	int makers;
	int takers;
};

static inline bool is_many(unsigned int flags, unsigned int side)
{
	return flags & (MULTI_A << side);
}

/* One more of the same side, in this process; NULL if that fails. */
static inline struct evering *another(const struct evering *ep)
{
	struct evering *ep2;
	int fd = evering_dup(ep);

	if (fd < 0 || evering_channel_from_fd(fd, &ep2))
		return NULL;
	return ep2;
}

/* Those that make entries are of side @from. */
static inline bool ends_open(struct ends *e, unsigned int flags, unsigned int from)
{
	struct evering *side[2];
	int i;

	memset(e, 0, sizeof(*e));
	if (evering_channel_create(NULL, 0600, &least, flags, &side[0]))
		return false;
	if (evering_channel_open(NULL, evering_token(side[0]), &side[1]))
		return false;
	e->maker[0] = side[from];
	e->taker[0] = side[!from];
	e->makers = is_many(flags, from) ? MANY : 1;
	e->takers = is_many(flags, !from) ? MANY : 1;
	for (i = 1; i < e->makers; i++)
		e->maker[i] = another(e->maker[0]);
	for (i = 1; i < e->takers; i++)
		e->taker[i] = another(e->taker[0]);
	for (i = 0; i < MANY; i++) {
		if ((i < e->makers && !e->maker[i]) || (i < e->takers && !e->taker[i]))
			return false;
		/* Sleeping is what is looked at here. */
		if (i < e->makers)
			evering_set_spin(e->maker[i], 0);
		if (i < e->takers)
			evering_set_spin(e->taker[i], 0);
	}
	return true;
}

static inline void ends_close(struct ends *e)
{
	int i;

	for (i = 0; i < MANY; i++) {
		evering_close(e->maker[i]);
		evering_close(e->taker[i]);
	}
}

/* So that a test does not begin with the first lap. */
static inline bool turn(struct ends *e, unsigned int entries)
{
	unsigned int i;

	for (i = 0; i < entries; i++)
		if (send_value(e->maker[i % e->makers], i) != 1 ||
		    take_value(e->taker[i % e->takers]) != i)
			return false;
	return true;
}

/* ------------------------------------------------------- without the library */

/* One of many, whose words a test writes itself. */
struct raw {
	int fd;
	struct evering_layout layout;
	struct evr_memory memory;
	struct multi_ring out;
	struct multi_ring in;
	const struct evering_ring_words *out_words;
};

/* Takes the descriptor; 0 or -errno. */
static inline int raw_open(struct raw *r, int fd)
{
	struct evering_info info;
	int ret = evr_get_info(fd, EVERING_KIND_CHANNEL, &info);
	bool lease = info.uring_flags & LEASE;

	if (ret)
		return ret;
	r->fd = fd;
	r->layout = info.layout;
	ret = evr_map_sections(fd, info.side, &r->layout, &r->memory);
	if (ret)
		return ret;
	evr_multi_ring(&r->out, &r->layout, &r->memory, info.side, info.side,
		       info.owner, lease);
	evr_multi_ring(&r->in, &r->layout, &r->memory, info.side, !info.side,
		       info.owner, lease);
	r->out_words = &r->memory.header->ring[info.side];
	return 0;
}

/* Claims one slot, as a producer that then takes its time; false: no room. */
static inline bool raw_claim(struct raw *r, uint64_t *pos)
{
	unsigned int count;

	return multi_reserve(&r->out, 1, pos, &count) == MULTI_OK;
}

/* Commits it.  Was the doorbell due?  Then it has been rung. */
static inline bool raw_commit(struct raw *r, uint64_t pos, uint64_t value)
{
	put_value(multi_stamp(&r->out, pos), value);
	multi_commit(&r->out, pos, 1);
	if (!multi_wake_due(r->out_words, pos))
		return false;
	do_wake(r->fd);
	return true;
}

/* ------------------------------------------------------------ what is counted */

struct healing {
	uint64_t healed[2], redelivered[2], lost[2];	/* by ring */
};

static inline struct healing healing_of(int fd)
{
	struct healing h = { 0 };
	char path[64], line[256];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f)) {
		sscanf(line, "healed: %lu %lu", &h.healed[0], &h.healed[1]);
		sscanf(line, "redelivered: %lu %lu", &h.redelivered[0],
		       &h.redelivered[1]);
		sscanf(line, "lost: %lu %lu", &h.lost[0], &h.lost[1]);
	}
	if (f)
		fclose(f);
	return h;
}

static inline bool all_asleep(struct evering *ep, int n)
{
	return UNTIL(nr_sleepers(evering_fd(ep), ep->side) == n);
}

/* --------------------------------------------------------------- who sleeps */

/* A thread in one call of the library. */
struct caller {
	pthread_t thread;
	pid_t tid;
	struct evering *ep;
	bool room;		/* waits for that */
	unsigned int nr, ms;
	int ret;
	bool done;
};

static inline void *caller_thread(void *arg)
{
	struct caller *c = arg;

	__atomic_store_n(&c->tid, gettid(), __ATOMIC_RELEASE);
	c->ret = c->room ? wait_room(c->ep, c->ms) : wait_entries(c->ep, c->nr, c->ms);
	__atomic_store_n(&c->done, true, __ATOMIC_RELEASE);
	return NULL;
}

static inline void call_start(struct caller *c, struct evering *ep, bool room,
			      unsigned int nr, unsigned int ms)
{
	*c = (struct caller){ .ep = ep, .room = room, .nr = nr, .ms = ms };
	if (pthread_create(&c->thread, NULL, caller_thread, c))
		abort();
}

static inline int call_join(struct caller *c)
{
	pthread_join(c->thread, NULL);
	return c->ret;
}

static inline bool call_done(const struct caller *c)
{
	return __atomic_load_n(&c->done, __ATOMIC_ACQUIRE);
}

static inline int calls_done(const struct caller *c, int n)
{
	int i, done = 0;

	for (i = 0; i < n; i++)
		done += call_done(&c[i]);
	return done;
}

/* How often a thread has gone to sleep, once it sleeps; -1: it does not. */
static inline long times_asleep(const pid_t *tid)
{
	uint64_t end = now_ns() + 5000 * MS;
	char path[64], line[256];

	snprintf(path, sizeof(path), "/proc/self/task/%d/status",
		 __atomic_load_n(tid, __ATOMIC_ACQUIRE));
	while (now_ns() < end) {
		/* Off its CPU, too: a thread is called a sleeper before that. */
		bool off = asleep(tid, SYS_ioctl), sleeps = false;
		FILE *f = fopen(path, "r");
		long times = -1;

		if (!f)
			return -1;
		while (fgets(line, sizeof(line), f)) {
			if (!strncmp(line, "State:\tS", 8))
				sleeps = true;
			if (sscanf(line, "voluntary_ctxt_switches: %ld", &times) == 1)
				break;
		}
		fclose(f);
		if (off && sleeps)
			return times;
		sleep_ms(1);
	}
	return -1;
}

/* ------------------------------------------------------------------ variants */

#define RING(fixture, name, flags_, from_)				\
FIXTURE_VARIANT_ADD(fixture, name)					\
{									\
	.flags = flags_, .from = from_,					\
}

/* A fixture: all ways in which makers and takers are one or many. */
#define RINGS(fixture)							\
FIXTURE(fixture)							\
{									\
	struct ends e;							\
};									\
FIXTURE_VARIANT(fixture)						\
{									\
	unsigned int flags;						\
	unsigned int from;						\
};									\
RING(fixture, many_to_one, MULTI_A, EVERING_SIDE_A);			\
RING(fixture, one_to_many, MULTI_B, EVERING_SIDE_A);			\
RING(fixture, many_to_many, MULTI_A | MULTI_B, EVERING_SIDE_A);		\
RING(fixture, many_b_to_one, MULTI_B, EVERING_SIDE_B);			\
RING(fixture, one_b_to_many, MULTI_A, EVERING_SIDE_B);			\
RING(fixture, one_to_many_lease, MULTI_B | LEASE, EVERING_SIDE_A);	\
RING(fixture, many_b_to_many_lease, MULTI_A | MULTI_B | LEASE, EVERING_SIDE_B); \
FIXTURE_SETUP(fixture)							\
{									\
	ASSERT_TRUE(ends_open(&self->e, variant->flags, variant->from));\
}									\
FIXTURE_TEARDOWN(fixture)						\
{									\
	ends_close(&self->e);						\
}

#endif /* SHARED_TEST_H */
