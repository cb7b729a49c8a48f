// SPDX-License-Identifier: GPL-2.0
/*
 * A hostile process writes at random over every word that it can write, and
 * enters the kernel with random positions, while the process at the other side
 * uses the library.  The victim may get errors and wrong bytes; it must not
 * crash, hang, or read outside.
 *
 * HOSTILE_SECONDS in the environment says for how long, on each side.
 */
#include <stdlib.h>

#include "evering_test.h"
#include "scribble.h"

#define NAME "test.hostile"

#define SECONDS		5
#define MOST_SECONDS	300
#define LATE_SECONDS	25

/* Less than this, and the test has not seen what it is there to see. */
static const struct scribble_tally enough = {
	.calls = 1001,
	.entries = 4,
	.refused_payloads = 1,
	.lies = 11,
	.ends = 11,
};

static const struct evering_geometry few_slots = {
	.entries = { 8, 16 },
	.slot_size = { 64, 256 },
	.heap_size = { 16384, 8192 },
};

static const struct evering_geometry more_slots = {
	.entries = { 64, 64 },
	.slot_size = { 64, 256 },
	.heap_size = { 16384, 8192 },
};

static uint64_t end_of_test(void)
{
	const char *seconds = getenv("HOSTILE_SECONDS");

	return now_ns() + (seconds ? atoi(seconds) : SECONDS) * 1000 * MS;
}

/* Longer, where a slow machine has not done enough yet. */
static bool goes_on(const struct scribble_tally *t, uint64_t end)
{
	uint64_t now = now_ns();

	if (now < end)
		return true;
	return now < end + LATE_SECONDS * 1000 * MS &&
	       (t->calls < enough.calls || t->entries < enough.entries ||
		t->refused_payloads < enough.refused_payloads ||
		t->lies < enough.lies || t->ends < enough.ends);
}

/* ENTER with anything in it; the deadline keeps the attacker itself going. */
static void random_enter(int fd, uint64_t *seed, uint64_t near)
{
	struct evering_enter args = {
		.size = sizeof(args),
		.flags = scribble_random(seed) & 15,
		.wait_pos = scribble_value(seed, near, 3),
		.space_pos = scribble_value(seed, near, 3),
		.deadline = now_ns() + scribble_random(seed) % 100000,
		.min_complete = scribble_random(seed) % 20,
		.generation = scribble_random(seed) % 8 == 0,
	};

	ioctl(fd, EVERING_IOC_ENTER, &args);
}

/* Until the victim has had enough and hangs up. */
static void attack(struct channel *c, int side, uint64_t *seed)
{
	const struct evering_layout *l = &c->layout;
	uint64_t slots_end = l->slots_offset[side] +
			     (uint64_t)l->geometry.entries[side] *
				     l->geometry.slot_size[side];
	struct evering_side_words *victim = &header_of(c, side)->side[!side];

	while (__atomic_load_n(&victim->state, __ATOMIC_ACQUIRE) != EVERING_STATE_DEAD) {
		struct evering_control *seen = c->map[side][EVERING_SECTION_A + !side];
		uint64_t near = scribble_random(seed) & 1 ?
			__atomic_load_n(&seen->head, __ATOMIC_RELAXED) :
			__atomic_load_n(&seen->tail, __ATOMIC_RELAXED);

		scribble(c->map[side][EVERING_SECTION_A + side],
			 l->section_size[EVERING_SECTION_A + side], slots_end,
			 seed, near, __builtin_ctz(l->geometry.entries[!side]));
		random_enter(c->fd[side], seed, near);
		do_wake(c->fd[side]);
		poll_now(c->fd[side]);
	}
}

static void hostile_server(int service)
{
	uint64_t seed = 88172645463325252ULL;

	for (;;) {
		struct evering_accept args;
		struct channel c = { 0 };

		c.fd[1] = do_accept(service, &args);
		if (c.fd[1] < 0) {
			struct pollfd p = { .fd = service, .events = POLLIN };

			poll(&p, 1, 1000);
			continue;
		}
		c.layout = args.layout;
		if (map_side(&c, 1))
			_exit(1);
		attack(&c, 1, &seed);
		munmap(c.map[1][0], c.layout.section_size[0]);
		munmap(c.map[1][1], c.layout.section_size[1]);
		munmap(c.map[1][2], c.layout.section_size[2]);
		close(c.fd[1]);
	}
}

static void hostile_client(const struct evering_geometry *geometry, uint32_t flags)
{
	uint64_t seed = 1181783497276652981ULL;

	for (;;) {
		struct evering_connect args = connect_args(NAME);
		struct channel c = { 0 };

		args.geometry = *geometry;
		args.flags = flags;
		c.fd[0] = device_call(EVERING_IOC_CONNECT, &args);
		if (c.fd[0] < 0) {
			sleep_ms(1);
			continue;
		}
		c.layout = args.layout;
		if (map_side(&c, 0))
			_exit(1);
		attack(&c, 0, &seed);
		munmap(c.map[0][0], c.layout.section_size[0]);
		munmap(c.map[0][1], c.layout.section_size[1]);
		munmap(c.map[0][2], c.layout.section_size[2]);
		close(c.fd[0]);
	}
}

/* Rounds on one channel until the lie that ends it; -EPROTO is final. */
static void suffer(struct evering *ep, struct scribble_tally *t, uint64_t end,
		   void (*round)(struct evering *ep, struct scribble_tally *t))
{
	uint64_t lies = t->lies;
	int i;

	for (i = 0; i < 1000 && t->lies == lies && goes_on(t, end); i++)
		round(ep, t);
}

FIXTURE(hostile)
{
	struct evering_service *service;
	const struct evering_geometry *geometry;
};

FIXTURE_VARIANT(hostile)
{
	bool many_clients;
	uint32_t service_flags;
};

FIXTURE_VARIANT_ADD(hostile, one_and_one)
{
	.many_clients = false,
};

FIXTURE_VARIANT_ADD(hostile, many_and_one)
{
	.many_clients = true,
};

FIXTURE_VARIANT_ADD(hostile, many_and_many_leased)
{
	.many_clients = true,
	.service_flags = EVERING_URING_MULTI_B | EVERING_URING_LEASE,
};

FIXTURE_SETUP(hostile)
{
	const struct evering_service_params params = {
		.mode = 0200,
		.backlog = 128,
		.flags = variant->service_flags,
	};

	self->geometry = variant->many_clients ? &more_slots : &few_slots;
	ASSERT_EQ(0, evering_listen(NAME, &params, &self->service));
}

FIXTURE_TEARDOWN(hostile)
{
	evering_service_close(self->service);
}

#define REPORT(t)							\
do {									\
	TH_LOG("calls %llu entries %llu payload %llu refused %llu lies %llu ends %llu timeouts %llu slowest %llu us", \
	       (unsigned long long)(t).calls,				\
	       (unsigned long long)(t).entries,				\
	       (unsigned long long)(t).payload_bytes,			\
	       (unsigned long long)(t).refused_payloads,		\
	       (unsigned long long)(t).lies,				\
	       (unsigned long long)(t).ends,				\
	       (unsigned long long)(t).timeouts,			\
	       (unsigned long long)(t).slowest_ns / 1000);		\
	EXPECT_EQ(0, (t).unexpected);					\
	/* Each wait is over in milliseconds; a machine may be slow. */	\
	EXPECT_GT(5000000000ULL, (t).slowest_ns);			\
	EXPECT_LE(enough.calls, (t).calls);				\
	EXPECT_LE(enough.entries, (t).entries);				\
	EXPECT_LE(enough.refused_payloads, (t).refused_payloads);	\
	EXPECT_LE(enough.lies, (t).lies);				\
	EXPECT_LE(enough.ends, (t).ends);				\
} while (0)

TEST_F_TIMEOUT(hostile, server_scribbles, MOST_SECONDS + 60)
{
	uint64_t end = end_of_test();
	struct scribble_tally t = { 0 };
	pid_t pid;

	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		hostile_server(evering_service_fd(self->service));
	while (goes_on(&t, end)) {
		struct evering *ep;
		int ret = variant->many_clients ?
			  evering_connect_multi(NAME, self->geometry, &ep) :
			  evering_connect(NAME, self->geometry, &ep);

		if (ret == -EAGAIN) {
			sleep_ms(1);
			continue;
		}
		ASSERT_EQ(0, ret);
		suffer(ep, &t, end, scribble_client);
		evering_close(ep);
	}
	kill(pid, SIGKILL);
	EXPECT_EQ(-SIGKILL, reap(pid));
	REPORT(t);
}

TEST_F_TIMEOUT(hostile, client_scribbles, MOST_SECONDS + 60)
{
	const struct timespec soon = { 1, 0 };
	uint64_t end = end_of_test();
	struct scribble_tally t = { 0 };
	pid_t pid;

	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		hostile_client(self->geometry,
			       variant->many_clients ? EVERING_URING_MULTI_A : 0);
	while (goes_on(&t, end)) {
		struct evering *ep;
		int ret = evering_accept_timeout(self->service, &ep, &soon);

		ASSERT_EQ(0, ret);
		suffer(ep, &t, end, scribble_server);
		evering_close(ep);
	}
	kill(pid, SIGKILL);
	EXPECT_EQ(-SIGKILL, reap(pid));
	REPORT(t);
}

TEST_HARNESS_MAIN
