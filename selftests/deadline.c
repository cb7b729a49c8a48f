// SPDX-License-Identifier: GPL-2.0
/*
 * Waits that end by the clock or by a signal: at the deadline, neither sooner nor
 * much later, restarted or not, by the caller's clock; and never at the cost of an
 * entry that is there.
 */
#include <sched.h>

#include "sleepers.h"

FIXTURE(deadline)
{
	struct channel c;
};

FIXTURE_SETUP(deadline)
{
	ASSERT_EQ(0, channel_open(&self->c, test_name()));
}

FIXTURE_TEARDOWN(deadline)
{
	close_rings(&self->c);
}

/* ------------------------------------------------------------- the clock */

TEST_F(deadline, a_deadline_in_the_past)
{
	const uint64_t past[] = { 0, 1, now_ns() - 1000 * MS, now_ns() };
	struct channel *c = &self->c;
	struct evering_enter args = wait_args(0, 1, 0);
	uint64_t begin = now_ns();
	int i;

	fill(c, SQ);
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

TEST_F(deadline, an_entry_beats_a_time_out)
{
	struct channel *c = &self->c;
	struct sleeper s;

	fill(c, SQ);
	start(&s, c->fd[0], both_args(0, 1, SQ_ENTRIES, 300));
	ASSERT_TRUE(UNTIL(wake_at(c, CQ) == 0));
	ASSERT_TRUE(UNTIL(asleep(&s.tid, SYS_ioctl)));
	/* No doorbell: it finds this when it wakes by itself. */
	commit(c, CQ, 0, EVERING_COMMITTED);
	release(c, SQ, 1);
	EXPECT_EQ(EVERING_READY_ENTRIES | EVERING_READY_SPACE, join(&s));
	EXPECT_LE(s.args.deadline, s.returned);
}

TEST_F(deadline, a_time_out_comes_in_time)
{
	static const unsigned int timeouts[] = { 1, 20, 200 };
	struct channel *c = &self->c;
	int i;

	fill(c, SQ);
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
TEST_F(deadline, a_deadline_stays_where_it_is)
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

TEST_F(deadline, without_a_deadline_it_sleeps_until_woken)
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
	if (channel_open(&c, test_name()))
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

/* --------------------------------------------------------------- signals */

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

TEST_F(deadline, a_signal_ends_it)
{
	struct channel *c = &self->c;
	struct sleeper s, other;
	int round;

	handle_signal(0);
	fill(c, SQ);
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

TEST_F(deadline, a_restarted_call_ends_at_its_deadline)
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

TEST_F(deadline, a_restarted_call_is_woken_like_any_other)
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
TEST_F(deadline, an_entry_beats_a_signal)
{
	struct channel *c = &self->c;
	struct sleeper s;

	handle_signal(0);
	fill(c, SQ);
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

TEST_HARNESS_MAIN
