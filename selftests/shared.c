// SPDX-License-Identifier: GPL-2.0
/*
 * Sides of a channel that are many: requests and answers by threads and by
 * processes, full rings, reserved and cancelled entries, and what is refused.
 */
#include "shared_test.h"

#define ROUNDS	150U	/* requests of each who asks */
#define DEPTH	30U	/* so that three of them fill a ring */

RINGS(shared)

/* ------------------------------------------------------- requests and answers */

struct table {
	uint32_t answered[MANY * ROUNDS];
	uint32_t to_come;
	uint32_t errors;
};

struct role {
	pthread_t thread;
	struct table *table;
	struct evering *ep;
	int fd;		/* or -1, and @ep is there */
	unsigned int index;
	bool asks;
};

static int tell_error(struct role *r, const char *what, int ret)
{
	printf("# %s %u: %s: %d\n", r->asks ? "asker" : "worker", r->index, what, ret);
	__atomic_fetch_add(&r->table->errors, 1, __ATOMIC_RELAXED);
	return -1;
}

/* Until nothing is reserved; what comes meanwhile is held. */
static int submit_all(struct role *r)
{
	int ret = submit(r->ep);

	if (ret < 0 && ret != -EAGAIN)
		return tell_error(r, "submit", ret);
	while (reserved(r->ep)) {
		ret = wait_room(r->ep, FAR);
		if (ret < 0)
			return tell_error(r, "room", ret);
	}
	return 0;
}

/*
 * Answers are for any of those who ask, so who gets the last one says that it is
 * over, the workers say so too, and then all know.
 */
static int ask(struct role *r)
{
	const uint64_t *answer;
	unsigned int sent = 0;
	uint64_t *entry, value;
	int ret;

	for (;;) {
		bool full = false;

		while (sent < ROUNDS && reserved(r->ep) < DEPTH && !full) {
			entry = get(r->ep);
			if (entry)
				put_value(entry, r->index * ROUNDS + sent++);
			full = !entry;
		}
		ret = submit(r->ep);
		if (ret < 0 && ret != -EAGAIN)
			return tell_error(r, "submit", ret);
		/* Who answers may wait for room too: that is news then. */
		if (reserved(r->ep)) {
			ret = wait_room(r->ep, FAR);
			if (ret < 0)
				return tell_error(r, "room", ret);
		} else if (sent == ROUNDS || full) {
			/* Not before: the others may have taken all that was for it. */
			ret = wait_entries(r->ep, 1, FAR);
			if (ret == -ESHUTDOWN)
				return 0;
			if (ret)
				return tell_error(r, "answer", ret);
		}
		while (peek(r->ep, &answer, 1) == 1) {
			value = value_of(answer) - 1000000;
			if (value >= MANY * ROUNDS)
				return tell_error(r, "value", (int)value);
			__atomic_fetch_add(&r->table->answered[value], 1,
					   __ATOMIC_RELAXED);
			seen(r->ep, 1);
			if (__atomic_sub_fetch(&r->table->to_come, 1, __ATOMIC_RELAXED))
				continue;
			ret = evering_shutdown(r->ep, EVERING_SHUT_WR);
			if (ret)
				return tell_error(r, "shutdown", ret);
		}
	}
}

static int answer(struct role *r)
{
	const uint64_t *request[4];
	uint64_t *entry;
	int ret, n, i;

	for (;;) {
		ret = wait_entries(r->ep, 1, FAR);
		if (ret == -ESHUTDOWN)
			return evering_shutdown(r->ep, EVERING_SHUT_WR);
		if (ret)
			return tell_error(r, "request", ret);
		n = peek(r->ep, request, 4);
		if (n < 1)
			return tell_error(r, "peek", n);
		for (i = 0; i < n; i++) {
			if (value_of(request[i]) >= MANY * ROUNDS)
				return tell_error(r, "value", (int)value_of(request[i]));
			while (!(entry = get(r->ep))) {
				ret = wait_room(r->ep, FAR);
				if (ret < 0)
					return tell_error(r, "room", ret);
			}
			put_value(entry, value_of(request[i]) + 1000000);
		}
		seen(r->ep, n);
		if (submit_all(r))
			return -1;
	}
}

static void *play(void *arg)
{
	struct role *r = arg;

	if (r->fd >= 0) {
		int ret = evering_channel_from_fd(r->fd, &r->ep);

		if (ret) {
			tell_error(r, "from_fd", ret);
			return NULL;
		}
	}
	if (r->asks)
		ask(r);
	else
		answer(r);
	return NULL;
}

/* All roles; those who are many are processes where @fork says so. */
static void play_all(struct __test_metadata *_metadata, struct ends *e, bool forks)
{
	struct role role[2][MANY];
	pid_t pid[2][MANY] = { 0 };
	struct table *table;
	unsigned int asks, i;

	table = mmap(NULL, sizeof(*table), RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, table);
	table->to_come = e->makers * ROUNDS;
	/* Processes first, before there are threads. */
	for (asks = 0; asks < 2; asks++) {
		struct evering **ep = asks ? e->maker : e->taker;
		unsigned int n = asks ? e->makers : e->takers;

		for (i = 0; i < n; i++) {
			struct role *r = &role[asks][i];

			*r = (struct role){ .table = table, .ep = ep[i], .fd = -1,
					    .index = i, .asks = asks };
			if (!forks || n == 1)
				continue;
			r->fd = evering_dup(ep[i]);
			ASSERT_LE(0, r->fd);
			pid[asks][i] = fork_mortal();
			ASSERT_LE(0, pid[asks][i]);
			if (!pid[asks][i]) {
				play(r);
				_exit(0);
			}
			close(r->fd);
		}
	}
	for (asks = 0; asks < 2; asks++)
		for (i = 0; i < (asks ? e->makers : e->takers); i++)
			if (!pid[asks][i])
				ASSERT_EQ(0, pthread_create(&role[asks][i].thread, NULL,
							    play, &role[asks][i]));
	for (asks = 2; asks-- > 0;) {
		for (i = 0; i < (asks ? e->makers : e->takers); i++) {
			if (pid[asks][i]) {
				EXPECT_EQ(0, reap(pid[asks][i]));
			} else {
				pthread_join(role[asks][i].thread, NULL);
			}
		}
	}
	EXPECT_EQ(0, table->errors);
	for (i = 0; i < MANY * ROUNDS; i++)
		ASSERT_EQ(i < e->makers * ROUNDS, table->answered[i]) TH_LOG("%u", i);
	munmap(table, sizeof(*table));
}

TEST_F(shared, threads_get_one_answer_to_each_request)
{
	play_all(_metadata, &self->e, false);
}

TEST_F(shared, processes_get_one_answer_to_each_request)
{
	play_all(_metadata, &self->e, true);
}

/* ------------------------------------------------------------------ full rings */

static bool fill_up(struct ends *e)
{
	int i;

	for (i = 0; i < ENTRIES; i++)
		if (send_value(e->maker[i % e->makers], 100 + i) != 1)
			return false;
	return true;
}

TEST_F(shared, what_does_not_fit_stays_reserved)
{
	struct evering *maker = self->e.maker[0], *other = self->e.maker[MANY - 1];
	struct evering *taker = self->e.taker[0];
	struct evering_stats before, after;
	uint64_t *entry;
	int i;

	ASSERT_TRUE(turn(&self->e, 70));
	ASSERT_TRUE(fill_up(&self->e));
	if (!other) {
		EXPECT_EQ(NULL, get(maker));
		EXPECT_EQ(-EAGAIN, wait_room(maker, 0));
		EXPECT_EQ(-ETIME, wait_room(maker, 20));
		EXPECT_EQ(100, take_value(taker));
		EXPECT_EQ(1, send_value(maker, 200));
		EXPECT_EQ(NULL, get(maker));
		return;
	}
	for (i = 0; i < 10; i++) {
		entry = get(maker);
		ASSERT_NE(NULL, entry);
		put_value(entry, 200 + i);
	}
	EXPECT_EQ(-EAGAIN, submit(maker));
	EXPECT_EQ(10, reserved(maker));
	EXPECT_EQ(-EAGAIN, send_value(other, 300));
	EXPECT_EQ(1, reserved(other));
	EXPECT_EQ(-EAGAIN, wait_room(maker, 0));
	/* It sleeps for that time, and does not go round. */
	evering_stats(maker, &before);
	EXPECT_EQ(-ETIME, wait_room(maker, 30));
	evering_stats(maker, &after);
	EXPECT_LE(after.enters - before.enters, 2);
	EXPECT_EQ(10, reserved(maker));

	for (i = 0; i < 3; i++)
		EXPECT_EQ(100 + i, take_value(taker));
	EXPECT_EQ(3, submit(maker));
	EXPECT_EQ(7, reserved(maker));
	EXPECT_EQ(-EAGAIN, submit(maker));
	EXPECT_EQ(103, take_value(taker));
	EXPECT_EQ(1, submit(other));
	for (i = 4; i < ENTRIES; i++)
		ASSERT_EQ(100 + i, take_value(taker));
	/* Waiting for room sends what is reserved. */
	EXPECT_EQ(EVERING_READY_SPACE, wait_room(maker, 0));
	EXPECT_EQ(0, reserved(maker));
	for (i = 0; i < 3; i++)
		EXPECT_EQ(200 + i, take_value(taker));
	EXPECT_EQ(300, take_value(taker));
	for (i = 3; i < 10; i++)
		EXPECT_EQ(200 + i, take_value(taker));
	EXPECT_EQ(-EAGAIN, take_value(taker));
}

/* Gives @back entries back, then the one that was held, while the ring is full. */
static void hold_one(struct __test_metadata *_metadata, struct ends *e, int held)
{
	struct evering *holder = e->taker[0], *other = e->taker[1];
	struct evering *maker = e->maker[0];
	const uint64_t *entry;
	struct caller c;
	int i;

	ASSERT_TRUE(fill_up(e));
	for (i = 0; i < held; i++)
		ASSERT_EQ(100 + i, take_value(other));
	ASSERT_EQ(100 + held, hold_value(holder));
	for (i = held + 1; i < ENTRIES; i++)
		ASSERT_EQ(100 + i, take_value(other));
	ASSERT_EQ(-EAGAIN, take_value(other));

	/* Room up to the one that is held, though all that follows is free. */
	for (i = 0; i < held; i++)
		ASSERT_EQ(1, send_value(maker, 200 + i));
	EXPECT_EQ(e->makers > 1 ? -EAGAIN : -ENOBUFS, send_value(maker, 300));
	EXPECT_EQ(-EAGAIN, wait_room(maker, 0));
	EXPECT_EQ(-ETIME, wait_room(maker, 10));
	EXPECT_FALSE(poll_now(evering_fd(maker)) & POLLOUT);

	call_start(&c, maker, true, 0, FAR);
	ASSERT_TRUE(all_asleep(maker, 1));
	/* An entry goes in and out: room elsewhere wakes nobody. */
	for (i = 0; i < held; i++)
		ASSERT_EQ(200 + i, take_value(other));
	sleep_ms(10);
	EXPECT_FALSE(call_done(&c));
	ASSERT_EQ(1, peek(holder, &entry, 1));
	EXPECT_EQ(100 + held, value_of(entry));
	seen(holder, 1);
	EXPECT_EQ(EVERING_READY_SPACE, call_join(&c));
	EXPECT_EQ(0, reserved(maker));
	if (e->makers > 1)
		EXPECT_EQ(300, take_value(other));
	/* And all of it is free now. */
	for (i = 0; i < ENTRIES; i++)
		ASSERT_EQ(1, send_value(maker, 400 + i));
	EXPECT_EQ(e->makers > 1 ? -EAGAIN : -ENOBUFS, send_value(maker, 500));
	if (e->makers > 1)
		ASSERT_EQ(0, cancel(maker, (uint64_t *)ring_stamp(
			&maker->out.g, maker->out.slots, maker->out.tail)));
	for (i = 0; i < ENTRIES; i++)
		ASSERT_EQ(400 + i, take_value(e->taker[i % e->takers]));
	EXPECT_EQ(0, submit(maker));
}

TEST_F(shared, an_entry_that_is_held_is_not_written_over)
{
	static const int held[] = { 0, 1, 7, ENTRIES - 1, 0 };
	int i;

	if (self->e.takers == 1)
		return;
	for (i = 0; i < 5; i++) {
		hold_one(_metadata, &self->e, held[i]);
		ASSERT_TRUE(turn(&self->e, 37));
	}
}

TEST_F(shared, several_are_given_back_out_of_order)
{
	struct ends *e = &self->e;
	const uint64_t *entry[ENTRIES];
	int round, i;

	if (e->takers == 1)
		return;
	for (round = 0; round < 5; round++) {
		ASSERT_TRUE(fill_up(e));
		/* 0 to 9, 10 to 29, 30 to 63 */
		ASSERT_EQ(10, peek(e->taker[0], entry, 10));
		ASSERT_EQ(20, peek(e->taker[1], entry, 20));
		ASSERT_EQ(110, value_of(entry[0]));
		ASSERT_EQ(129, value_of(entry[19]));
		ASSERT_EQ(34, peek(e->taker[2], entry, ENTRIES));
		ASSERT_EQ(130, value_of(entry[0]));
		seen(e->taker[2], 34);
		seen(e->taker[1], 20);
		ASSERT_EQ(-EAGAIN, wait_room(e->maker[0], 0));
		/* The oldest five of the first ten. */
		seen(e->taker[0], 5);
		for (i = 0; i < 5; i++)
			ASSERT_EQ(1, send_value(e->maker[i % e->makers], i));
		ASSERT_EQ(-EAGAIN, wait_room(e->maker[0], 0));
		seen(e->taker[0], 5);
		for (i = 5; i < ENTRIES; i++)
			ASSERT_EQ(1, send_value(e->maker[i % e->makers], i));
		ASSERT_EQ(-EAGAIN, wait_room(e->maker[0], 0));
		for (i = 0; i < ENTRIES; i++)
			ASSERT_EQ(i, take_value(e->taker[i % e->takers]));
		ASSERT_TRUE(turn(e, 11));
	}
}

/* ------------------------------------------------------------ before submission */

TEST_F(shared, what_is_cancelled_does_not_come)
{
	struct evering *maker = self->e.maker[0], *taker = self->e.taker[0];
	uint64_t *entry[6];
	int i, round;

	for (round = 0; round < 30; round++) {
		for (i = 0; i < 6; i++) {
			entry[i] = get(maker);
			ASSERT_NE(NULL, entry[i]);
			put_value(entry[i], i);
		}
		EXPECT_EQ(0, cancel(maker, entry[0]));
		EXPECT_EQ(0, cancel(maker, entry[3]));
		EXPECT_EQ(0, cancel(maker, entry[5]));
		EXPECT_EQ(-EINVAL, cancel(maker, entry[3]));
		EXPECT_EQ(-EINVAL, cancel(maker, entry[3] + 1));
		EXPECT_EQ(6, reserved(maker));
		EXPECT_EQ(3, submit(maker));
		EXPECT_EQ(0, reserved(maker));
		EXPECT_EQ(-EINVAL, cancel(maker, entry[1]));
		EXPECT_EQ(1, take_value(taker));
		EXPECT_EQ(2, take_value(taker));
		EXPECT_EQ(4, take_value(taker));
		EXPECT_EQ(-EAGAIN, take_value(taker));

		ASSERT_EQ(0, cancel(maker, get(maker)));
		EXPECT_EQ(0, submit(maker));
		EXPECT_EQ(-EAGAIN, take_value(taker));
	}
	/* In a full ring too. */
	ASSERT_TRUE(fill_up(&self->e));
	if (self->e.makers == 1)
		return;
	ASSERT_EQ(-EAGAIN, send_value(maker, 1));
	ASSERT_EQ(0, cancel(maker, get(maker)));
	EXPECT_EQ(-EAGAIN, submit(maker));
	EXPECT_EQ(100, take_value(taker));
	EXPECT_EQ(1, submit(maker));
	EXPECT_EQ(0, reserved(maker));
}

TEST_F(shared, who_takes_time_holds_up_nobody)
{
	struct evering *slow = self->e.maker[0], *taker = self->e.taker[0];
	uint64_t *entry;
	int i;

	if (self->e.makers == 1)
		return;
	for (i = 0; i < ENTRIES; i++) {
		entry = get(slow);
		ASSERT_NE(NULL, entry);
		put_value(entry, 1000 + i);
	}
	EXPECT_EQ(NULL, get(slow));
	for (i = 0; i < 3 * ENTRIES; i++) {
		ASSERT_EQ(1, send_value(self->e.maker[1], i));
		ASSERT_EQ(i, take_value(taker));
	}
	EXPECT_EQ(ENTRIES, submit(slow));
	for (i = 0; i < ENTRIES; i++)
		ASSERT_EQ(1000 + i, take_value(taker));
	/* Gone with what it has not sent. */
	put_value(get(slow), 1);
	evering_close(slow);
	self->e.maker[0] = NULL;
	EXPECT_EQ(1, send_value(self->e.maker[1], 2));
	EXPECT_EQ(2, take_value(taker));
}

/* ----------------------------------------------------------- who is what, and may */

TEST_F(shared, each_has_a_name)
{
	const struct evering *all[2 * MANY];
	bool known[2][8] = { { false } };
	int i, n = 0;

	for (i = 0; i < MANY; i++) {
		if (i < self->e.makers)
			all[n++] = self->e.maker[i];
		if (i < self->e.takers)
			all[n++] = self->e.taker[i];
	}
	for (i = 0; i < n; i++) {
		struct evering_info info;

		ASSERT_EQ(0, evr_get_info(evering_fd(all[i]), EVERING_KIND_CHANNEL, &info));
		EXPECT_EQ(variant->flags, info.uring_flags);
		EXPECT_EQ(all[i]->side, info.side);
		EXPECT_EQ(evering_token(all[0]), info.token);
		if (!is_many(variant->flags, info.side)) {
			EXPECT_EQ(0, info.owner);
			continue;
		}
		ASSERT_LE(1, info.owner);
		ASSERT_GE(MANY, info.owner);
		EXPECT_FALSE(known[info.side][info.owner]);
		known[info.side][info.owner] = true;
	}
}

TEST_F(shared, what_one_or_many_may_not)
{
	struct evering *end[2] = { self->e.maker[0], self->e.taker[0] };
	struct evering_enter args;
	struct evering *ep;
	int i, fd;

	for (i = 0; i < 2; i++) {
		bool many = is_many(variant->flags, end[i]->side);

		fd = evering_dup(end[i]);
		if (many) {
			EXPECT_LE(0, fd);
		} else {
			EXPECT_EQ(-EOPNOTSUPP, fd);
		}
		args = wait_args(0, 1, 5);
		args.flags = EVERING_ENTER_WAKE_OWN;
		EXPECT_EQ(many ? 0 : -EINVAL, call(evering_fd(end[i]), EVERING_IOC_ENTER, &args));
		/* One at a time, where there are others. */
		EXPECT_EQ(many ? -EINVAL : -ETIME, do_wait(evering_fd(end[i]), 0, 2, 5));
		EXPECT_EQ(-ETIME, do_wait(evering_fd(end[i]), 0, 1, 5));
		/* Who has not mapped it takes nothing, so waits for nothing. */
		if (many) {
			EXPECT_EQ(-EBADFD, do_wait(fd, 0, 1, 5));
			EXPECT_EQ(-EBADFD, do_wait_space(fd, 0, 5));
			EXPECT_EQ(0, do_wake(fd));
			EXPECT_EQ(0, close(fd));
		}
	}
	/* Side A is not opened again by its token, side B where it may be many. */
	if (is_many(variant->flags, EVERING_SIDE_B)) {
		ASSERT_EQ(0, evering_channel_open(NULL, evering_token(end[0]), &ep));
		evering_close(ep);
	} else {
		EXPECT_EQ(-EBUSY, evering_channel_open(NULL, evering_token(end[0]), &ep));
	}
}

TEST(what_is_refused)
{
	struct evering_geometry small = least;
	struct evering_service_params params = { .mode = 0200, .backlog = 4 };
	struct evering_service *service;
	struct evering *ep, *b;
	unsigned int flags;

	for (flags = 1; flags <= (MULTI_A | MULTI_B); flags++) {
		small.entries[0] = ENTRIES / 2;
		EXPECT_EQ(-EINVAL, evering_channel_create(NULL, 0600, &small, flags, &ep));
		small.entries[0] = ENTRIES;
		small.entries[1] = ENTRIES / 2;
		EXPECT_EQ(-EINVAL, evering_channel_create(NULL, 0600, &small, flags, &ep));
		EXPECT_EQ(-EINVAL, evering_channel_create(NULL, 0600, &least, flags | 8, &ep));
		ASSERT_EQ(0, evering_channel_create(NULL, 0600, &least, flags | LEASE, &ep));
		evering_close(ep);
	}
	EXPECT_EQ(-EINVAL, evering_channel_create(NULL, 0600, &least, LEASE, &ep));

	params.flags = MULTI_A;
	EXPECT_EQ(-EINVAL, evering_listen(test_name(), &params, &service));
	params.flags = LEASE;
	EXPECT_EQ(-EINVAL, evering_listen(test_name(), &params, &service));
	params.flags = MULTI_B | 8;
	EXPECT_EQ(-EINVAL, evering_listen(test_name(), &params, &service));
	ASSERT_EQ(0, evering_listen(test_name(), NULL, &service));
	EXPECT_EQ(-EINVAL, evering_connect_multi(test_name(), &small, &ep));
	ASSERT_EQ(0, evering_connect(test_name(), &small, &ep));
	EXPECT_EQ(-EOPNOTSUPP, evering_dup(ep));
	evering_close(ep);
	evering_service_close(service);

	/* What the service says holds for whoever connects. */
	params.flags = MULTI_B | LEASE;
	ASSERT_EQ(0, evering_listen(test_name(), &params, &service));
	EXPECT_EQ(-EINVAL, evering_connect(test_name(), &small, &ep));
	ASSERT_EQ(0, evering_connect(test_name(), NULL, &ep));
	evering_close(ep);
	ASSERT_EQ(0, evering_accept(service, &b));
	evering_close(b);
	evering_service_close(service);
}

TEST(a_service_of_many_for_clients_that_are_many)
{
	struct evering_service_params params = {
		.mode = 0200, .backlog = 4, .flags = MULTI_B | LEASE,
	};
	struct evering *a, *b, *a2, *b2;
	struct evering_service *service;
	struct evering_info info;
	struct evering_peer peer;

	ASSERT_EQ(0, evering_listen(test_name(), &params, &service));
	ASSERT_EQ(0, evering_connect_multi(test_name(), NULL, &a));
	/* More of one side, before there is the other. */
	a2 = another(a);
	ASSERT_NE(NULL, a2);
	ASSERT_EQ(1, send_value(a2, 5));
	ASSERT_EQ(0, evering_accept(service, &b));
	b2 = another(b);
	ASSERT_NE(NULL, b2);
	ASSERT_EQ(0, evr_get_info(evering_fd(b2), EVERING_KIND_CHANNEL, &info));
	EXPECT_EQ(MULTI_A | MULTI_B | LEASE, info.uring_flags);
	EXPECT_EQ(5, take_value(b2));
	EXPECT_EQ(1, send_value(b, 6));
	EXPECT_EQ(6, take_value(a));
	ASSERT_EQ(0, evering_peer(a2, &peer));
	EXPECT_EQ(EVERING_STATE_OPEN, peer.state);
	EXPECT_EQ(getpid(), peer.pid);
	evering_close(a);
	evering_close(b);
	EXPECT_EQ(1, send_value(a2, 7));
	EXPECT_EQ(7, take_value(b2));
	evering_close(a2);
	evering_close(b2);
	evering_service_close(service);
}

TEST_F(shared, a_descriptor_that_is_mapped_stays_where_it_is)
{
	struct evering *many = self->e.makers > 1 ? self->e.maker[0] : self->e.taker[0];
	struct evering *ep;
	pid_t pid;

	pid = fork_mortal();
	if (!pid)
		_exit(evering_channel_from_fd(dup(evering_fd(many)), &ep) != -EPERM);
	EXPECT_EQ(0, reap(pid));
	EXPECT_EQ(-EPROTOTYPE, evering_channel_from_fd(
		device_call(EVERING_IOC_CREATE, &(struct evering_create){
			.size = sizeof(struct evering_create),
			.kind = EVERING_KIND_BUFFER,
			.geometry.heap_size = { 4096, 0 } }), &ep));
	EXPECT_EQ(-ENOTTY, evering_channel_from_fd(dup(2), &ep));
}

TEST_HARNESS_MAIN
