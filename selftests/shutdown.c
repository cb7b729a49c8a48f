// SPDX-License-Identifier: GPL-2.0
/*
 * The end of a peer, by SHUTDOWN or by SIGKILL, as those who sleep in ENTER learn
 * of it: what was sent can still be taken, and nobody waits for what cannot come.
 */
#include <sched.h>

#include "sleepers.h"

/* -------------------------------------------------------------- SHUTDOWN */

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
	ASSERT_EQ(0, channel_open(&self->c, test_name()));
}

FIXTURE_TEARDOWN(shutdown)
{
	close_rings(&self->c);
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

	fill(c, !side);
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

	fill(c, !side);
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

/* --------------------------------------------------------------- SIGKILL */

static bool is_dead(int fd, int side)
{
	char value[32];

	return side_info(fd, side, "state=", value) && !strcmp(value, "dead");
}

/* A child that has side @side of the parent's service, and sleeps for ever. */
static void sleep_for_ever(int service, const char *name, int side)
{
	struct evering_connect args = connect_args(name);
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
	fill(&c, side);
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
		struct evering_connect args = connect_args(self->name);

		c->fd[0] = device_call(EVERING_IOC_CONNECT, &args);
		ASSERT_LE(0, c->fd[0]);
		c->layout = args.layout;
	}
	self->pid = fork();
	ASSERT_LE(0, self->pid);
	if (!self->pid)
		sleep_for_ever(c->service, self->name, variant->side);
	if (variant->side == 0) {
		ASSERT_EQ(POLLIN, poll_for(c->service, POLLIN, FAR));
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
	fill(c, !side);
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
	fill(c, !side);
	start(&s, fd, wait_args(n, 1, FAR));
	start(&both, fd, both_args(n, 1, entries_of(c, !side), FAR));
	ASSERT_TRUE(UNTIL(nr_sleepers(fd, !side) == 2));
	ASSERT_EQ(0, kill(self->pid, SIGKILL));
	EXPECT_EQ(-EPIPE, join(&s));
	EXPECT_EQ(-EPIPE, join(&both));
	ASSERT_EQ(-SIGKILL, reap(self->pid));
}

TEST_HARNESS_MAIN
