// SPDX-License-Identifier: GPL-2.0
/* Leases between processes: what a dead one held is another one's. */
#include "leases.h"

/* How a holder ends. */
enum end { KILLED, EXITS, CLOSES };

FIXTURE(lease_death)
{
	struct evering_queue *q;
	struct worker holder, other;
	struct counters before;
};

FIXTURE_VARIANT(lease_death)
{
	enum end end;
};

FIXTURE_VARIANT_ADD(lease_death, killed)
{
	.end = KILLED,
};

FIXTURE_VARIANT_ADD(lease_death, exits)
{
	.end = EXITS,
};

FIXTURE_VARIANT_ADD(lease_death, closes)
{
	.end = CLOSES,
};

FIXTURE_SETUP(lease_death)
{
	self->before = counters_now();
	ASSERT_EQ(0, create_queue(&self->q));
	ASSERT_TRUE(worker_start(&self->holder));
	ASSERT_TRUE(worker_start(&self->other));
}

FIXTURE_TEARDOWN(lease_death)
{
	worker_end(&self->holder);
	worker_end(&self->other);
	evering_queue_close(self->q);
	EXPECT_TRUE(counters_return(&self->before));
}

static void holder_ends(struct worker *w, enum end end)
{
	switch (end) {
	case KILLED:
		kill(w->pid, SIGKILL);
		break;
	case EXITS:
		tell(w->sock, EXIT);
		break;
	case CLOSES:
		tell(w->sock, CLOSE);
		break;
	}
}

static void holder_gone(struct worker *w, enum end end)
{
	if (end == CLOSES) {
		hear(w->sock);
		return;
	}
	reap(w->pid);
	w->pid = 0;
}

TEST_F(lease_death, hands_it_to_who_sleeps)
{
	ASSERT_EQ(0, try_push(self->q, 7));
	ASSERT_TRUE(takes(&self->holder, 7, 1));
	ASSERT_TRUE(waits(&self->other));
	holder_ends(&self->holder, variant->end);
	EXPECT_TRUE(gets(&self->other, 7, 2));
	EXPECT_TRUE(counted(self->q, 0, 1, 0));
	EXPECT_EQ(0, ask(&self->other, ACK));
}

TEST_F(lease_death, hands_it_to_who_comes_later)
{
	struct evering_queue_lease lease;

	ASSERT_EQ(0, try_push(self->q, 7));
	ASSERT_EQ(0, try_push(self->q, 8));
	ASSERT_TRUE(takes(&self->holder, 7, 1));
	/* Twice: what it held had come back already. */
	ASSERT_EQ(0, ask(&self->holder, NACK));
	ASSERT_TRUE(takes(&self->holder, 7, 2));
	holder_ends(&self->holder, variant->end);
	holder_gone(&self->holder, variant->end);
	/* Before the entry that nobody has had. */
	EXPECT_EQ(7, try_lease(self->q, &lease));
	EXPECT_EQ(3, lease.deliveries);
	EXPECT_EQ(0, evering_queue_ack(self->q, &lease));
	EXPECT_EQ(8, try_lease(self->q, &lease));
	EXPECT_EQ(1, lease.deliveries);
	EXPECT_EQ(0, evering_queue_ack(self->q, &lease));
	EXPECT_TRUE(counted(self->q, 0, 1, 0));
}

TEST_F(lease_death, takes_no_more_than_it_held)
{
	struct evering_queue_lease lease;
	int i;

	for (i = 1; i <= 3; i++)
		ASSERT_EQ(0, try_push(self->q, i));
	ASSERT_TRUE(takes(&self->holder, 1, 1));
	ASSERT_EQ(0, ask(&self->holder, ACK));
	ASSERT_TRUE(takes(&self->holder, 2, 1));
	ASSERT_EQ(0, ask(&self->holder, NACK));
	/* This one holds on. */
	ASSERT_TRUE(takes(&self->other, 2, 2));
	holder_ends(&self->holder, variant->end);
	holder_gone(&self->holder, variant->end);
	EXPECT_TRUE(counted(self->q, 0, 0, 0));
	EXPECT_EQ(3, try_lease(self->q, &lease));
	EXPECT_EQ(1, lease.deliveries);
	EXPECT_EQ(0, evering_queue_ack(self->q, &lease));
	EXPECT_EQ(-EAGAIN, try_lease(self->q, &lease));
	EXPECT_EQ(0, ask(&self->other, ACK));
	/* Its room is nobody's. */
	for (i = 0; i < ENTRIES; i++)
		ASSERT_EQ(0, try_push(self->q, i));
}

/* --------------------------------------------------- one of many that it held */

FIXTURE(lease_many)
{
	struct evering_queue *q;
	struct worker w[WORKERS];
	struct counters before;
};

FIXTURE_SETUP(lease_many)
{
	int i;

	self->before = counters_now();
	ASSERT_EQ(0, create_queue(&self->q));
	for (i = 0; i < WORKERS; i++)
		ASSERT_TRUE(worker_start(&self->w[i]));
}

FIXTURE_TEARDOWN(lease_many)
{
	int i;

	for (i = 0; i < WORKERS; i++)
		worker_end(&self->w[i]);
	evering_queue_close(self->q);
	EXPECT_TRUE(counters_return(&self->before));
}

/* Three who sleep, and one who has died of three. */
TEST_F(lease_many, all_that_a_dead_one_held_is_handed_on)
{
	int i, who, sum = 0;
	int ready[2];
	char byte;
	pid_t pid;

	for (i = 0; i < 3; i++)
		ASSERT_EQ(0, try_push(self->q, 1 << i));
	ASSERT_EQ(0, pipe(ready));
	pid = fork_mortal();
	if (!pid) {
		struct evering_queue_lease lease;
		struct evering_queue *q;

		if (evering_queue_open(NULL, token, EVERING_QUEUE_POP, &q))
			_exit(1);
		for (i = 0; i < 3; i++)
			if (try_lease(q, &lease) != 1 << i)
				_exit(2);
		if (write(ready[1], "x", 1) == 1)
			pause();
		_exit(3);
	}
	ASSERT_EQ(1, read(ready[0], &byte, 1));
	for (i = 0; i < 3; i++)
		ASSERT_TRUE(waits(&self->w[i]));
	kill(pid, SIGKILL);
	reap(pid);
	for (i = 0; i < 3; i++) {
		int deliveries;

		who = who_speaks(self->w, 10000);
		ASSERT_LE(0, who);
		sum += got(&self->w[who], &deliveries);
		EXPECT_EQ(2, deliveries);
		EXPECT_EQ(0, ask(&self->w[who], ACK));
	}
	EXPECT_EQ(7, sum);
	EXPECT_TRUE(counted(self->q, 0, 3, 0));
	close(ready[0]);
	close(ready[1]);
}

/* ------------------------------------------- killed between two instructions */

/* An endpoint without the library: it stops wherever the test wants. */
struct raw {
	struct evering_layout layout;
	char *own;
	uint64_t *claims;
	unsigned int owner;
};

static int raw_open(struct raw *raw)
{
	struct evering_open args = {
		.size = sizeof(args), .token = token, .kind = EVERING_KIND_QUEUE,
		.side = EVERING_SIDE_B,
	};
	struct evering_info info = { .size = sizeof(info) };
	int fd = device_call(EVERING_IOC_OPEN, &args);

	if (fd < 0 || call(fd, EVERING_IOC_INFO, &info))
		return -1;
	raw->owner = info.owner;
	raw->layout = args.layout;
	raw->own = map_section(fd, &args.layout, EVERING_SECTION_B, RW);
	if (raw->own == MAP_FAILED)
		return -1;
	raw->claims = (uint64_t *)(raw->own + args.layout.claims_offset[0]);
	return 0;
}

/* A child that does @what and says so, for the test to kill. */
static pid_t raw_start(void (*what)(struct raw *raw))
{
	struct raw raw;
	int ready[2];
	char byte;
	pid_t pid;

	if (pipe(ready))
		return -1;
	pid = fork_mortal();
	if (!pid) {
		if (raw_open(&raw))
			_exit(1);
		what(&raw);
		if (write(ready[1], "x", 1) == 1)
			pause();
		_exit(2);
	}
	close(ready[1]);
	if (read(ready[0], &byte, 1) != 1)
		pid = -1;
	close(ready[0]);
	return pid;
}

/* Four slots claimed in one step, the cursor not moved yet. */
static void claim_four(struct raw *raw)
{
	raw->claims[0] = evering_word(1, 4, raw->owner, EVERING_TAKEN);
}

TEST_F(lease_many, killed_in_a_pop_of_many_it_loses_none)
{
	struct evering_queue_slot slot;
	int i, who, sum = 0;
	pid_t pid;

	ASSERT_EQ(0, try_push(self->q, 1));
	ASSERT_EQ(0, try_push(self->q, 2));
	/* There is nothing in it to come back. */
	ASSERT_EQ(0, evering_queue_reserve(self->q, &slot));
	ASSERT_EQ(0, try_push(self->q, 4));
	ASSERT_EQ(0, evering_queue_cancel(self->q, &slot));
	pid = raw_start(claim_four);
	ASSERT_LT(0, pid);
	for (i = 0; i < 3; i++)
		ASSERT_TRUE(waits(&self->w[i]));
	kill(pid, SIGKILL);
	reap(pid);
	for (i = 0; i < 3; i++) {
		int deliveries;

		who = who_speaks(self->w, 10000);
		ASSERT_LE(0, who);
		sum += got(&self->w[who], &deliveries);
		EXPECT_EQ(2, deliveries);
		EXPECT_EQ(0, ask(&self->w[who], ACK));
	}
	EXPECT_EQ(7, sum);
	EXPECT_TRUE(counted(self->q, 0, 3, 0));
	/* All four can be used again. */
	for (i = 0; i < ENTRIES; i++)
		ASSERT_EQ(0, try_push(self->q, i));
	for (i = 0; i < ENTRIES; i++)
		ASSERT_EQ(i, try_pop(self->q));
}

/* Two of the four have been given back: they were read. */
static void give_back_two(struct raw *raw)
{
	claim_four(raw);
	raw->claims[1] = evering_word(1, 1, raw->owner, EVERING_IDLE);
	raw->claims[2] = evering_word(1, 1, raw->owner, EVERING_IDLE);
}

TEST_F(lease_many, killed_while_it_gives_many_back)
{
	pid_t pid;
	int i, a;

	for (i = 1; i <= 4; i++)
		ASSERT_EQ(0, try_push(self->q, i));
	pid = raw_start(give_back_two);
	ASSERT_LT(0, pid);
	kill(pid, SIGKILL);
	reap(pid);
	EXPECT_TRUE(counted(self->q, 0, 2, 0));
	a = try_pop(self->q);
	EXPECT_TRUE(a == 1 || a == 4);
	EXPECT_EQ(5 - a, try_pop(self->q));
	EXPECT_EQ(-EAGAIN, try_pop(self->q));
	for (i = 0; i < ENTRIES; i++)
		ASSERT_EQ(0, try_push(self->q, i));
}

/* A nack that has come half way: nobody has been told. */
static void orphan_silently(struct raw *raw)
{
	struct evering_control *control = (void *)raw->own;

	raw->claims[0] = evering_word(1, 1, raw->owner, EVERING_TAKEN);
	control->head = 1;
	raw->claims[0] = evering_word(1, 1, raw->owner, EVERING_ORPHAN);
}

TEST_F(lease_many, killed_in_a_nack_it_is_handed_on)
{
	pid_t pid;

	ASSERT_EQ(0, try_push(self->q, 5));
	pid = raw_start(orphan_silently);
	ASSERT_LT(0, pid);
	ASSERT_TRUE(waits(&self->w[0]));
	kill(pid, SIGKILL);
	reap(pid);
	EXPECT_TRUE(gets(&self->w[0], 5, 2));
	/* It came back by its own doing. */
	EXPECT_TRUE(counted(self->q, 0, 0, 0));
	EXPECT_EQ(0, ask(&self->w[0], ACK));
}

TEST_HARNESS_MAIN
