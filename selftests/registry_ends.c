// SPDX-License-Identifier: GPL-2.0
/*
 * The end of a process, of an endpoint or of a network namespace, while somebody
 * else is just about to use it.
 */
#include <pthread.h>
#include <sys/resource.h>
#include <sys/time.h>

#include "registry_race.h"

#define SERVICE		"race.service"

/* ------------------------------------------- ACCEPT against a client's death */

/* What ACCEPT has returned is as good as any other. */
static void must_be_accepted(int fd, const struct evering_accept *accepted)
{
	struct evering_registry_entry entry;
	int state;

	MUST(snapshot(&reg, EVERING_TOKEN_INDEX(accepted->token), &entry, NULL));
	MUST(entry.token == accepted->token);
	MUST(entry.flags == EVERING_ENTRY_CONNECTED);
	MUST(entry.side[1].state == EVERING_STATE_OPEN);
	MUST(entry.ref_count == 1 + entry.side[0].endpoints);
	/* It leaves the registry only if nobody was there at some time. */
	MUST(entry.state == EVERING_ENTRY_ACTIVE ||
	     (entry.state == EVERING_ENTRY_MARKED && entry.side[0].state == EVERING_STATE_DEAD));
	state = peer_state(fd);
	MUST(state == EVERING_STATE_OPEN || state == EVERING_STATE_DEAD);
	if (state == EVERING_STATE_DEAD)
		MUST(do_wait(fd, 0, 1, PATIENCE) == -EPIPE);
}

static int connect_least(uint64_t *token)
{
	struct evering_connect args = dirty_connect(SERVICE);
	int fd;

	args.geometry = least(EVERING_KIND_CHANNEL);
	fd = call(reg.control, EVERING_IOC_CONNECT, &args);
	*token = args.token;
	return fd;
}

static void connect_and_go(int me)
{
	uint32_t seed = rnd_seed(me);
	uint64_t token;
	int fd;

	while (!LOAD(race->stop)) {
		fd = connect_least(&token);
		MUST(fd >= 0 || fd == -EAGAIN);
		if (fd < 0) {
			COUNT(race->refused);
			sched_yield();
			continue;
		}
		COUNT(race->worked);
		dawdle(&seed);
		close(fd);
	}
}

TEST_F(race, of_accept_and_the_close_of_a_client)
{
	int service = listen_with(SERVICE, 2, 0222), fd, dead = 0, state;
	struct evering_accept accepted;
	unsigned int nr = 0;
	uint64_t token;

	ASSERT_LE(0, service);
	start(self, connect_and_go);
	for (;;) {
		/* Whoever had connected when they ended is accepted, and no more. */
		if (!going(self) && !race->stop)
			EXPECT_EQ(0, stop(self));
		fd = do_accept(service, &accepted);
		if (fd == -EAGAIN && race->stop)
			break;
		if (fd == -EAGAIN)
			continue;
		ASSERT_LE(0, fd);
		must_be_accepted(fd, &accepted);
		state = peer_state(fd);
		dead += state == EVERING_STATE_DEAD;
		close(fd);
		nr++;
	}
	EXPECT_EQ(race->worked, nr);
	TH_LOG("%u connected, %d dead when accepted, %u refused", nr, dead, race->refused);
	EXPECT_LT(20, nr);
	/* How many were still alive is the scheduler's to say. */
	EXPECT_LT(0, dead);
	/* The backlog has its two places. */
	ASSERT_LE(0, connect_least(&token));
	ASSERT_LE(0, connect_least(&token));
	EXPECT_EQ(-EAGAIN, connect_least(&token));
	close_range(reg.control + 1, ~0U, 0);
}

/* Killed by a timer, so at any instruction, in CONNECT as well. */
static void be_killed(uint32_t us)
{
	struct itimerval timer = { .it_value.tv_usec = us };
	uint64_t token;

	setitimer(ITIMER_REAL, &timer, NULL);
	MUST(connect_least(&token) >= 0);
	STORE(race->token[0], token);
	for (;;)
		;
}

TEST_F(race, of_accept_and_the_kill_of_a_client)
{
	int service = listen_with(SERVICE, 1, 0222), fd, late;
	unsigned int round, nr = 0, nobody = 0;
	struct evering_accept args, again;
	uint64_t token;
	pid_t pid;

	ASSERT_LE(0, service);
	for (round = 1; going(self); round++) {
		uint32_t us = 1 + rnd(&self->seed) % 1500;

		race->token[0] = 0;
		pid = spawn();
		if (!pid)
			be_killed(us);
		args = blocking_accept(now_ns() + (uint64_t)(rnd(&self->seed) % 4000) * 1000);
		fd = call(service, EVERING_IOC_ACCEPT, &args);
		if (fd >= 0)
			must_be_accepted(fd, &args);
		else
			ASSERT_EQ(-ETIME, fd);
		ASSERT_EQ(-SIGALRM, reap(pid));
		/* Once if it has connected, and if not, not at all. */
		late = do_accept(service, &again);
		ASSERT_TRUE(late == -EAGAIN || (late >= 0 && fd < 0));
		if (late >= 0) {
			args = again;
			fd = late;
		}
		if (race->token[0])
			ASSERT_LE(0, fd);
		if (fd >= 0) {
			must_be_accepted(fd, &args);
			ASSERT_EQ(EVERING_STATE_DEAD, peer_state(fd));
			close(fd);
			nr++;
		} else {
			nobody++;
		}
		/* Its place in the backlog, which is the only one, is free. */
		fd = connect_least(&token);
		ASSERT_LE(0, fd);
		close(fd);
		fd = do_accept(service, &again);
		ASSERT_LE(0, fd);
		ASSERT_EQ(token, again.token);
		close(fd);
	}
	TH_LOG("%u rounds, %u accepted, %u killed before", round, nr, nobody);
	EXPECT_LT(5, nr);
	EXPECT_LT(0, nobody);
	close(service);
}

/* ------------------------------------------ DUP against an endpoint's death */

#define DUPS	2000	/* more than there is time for, mostly */

static struct duper {
	int fd;
	unsigned int round, begun, done, nr, bad;
	uint64_t token;
	bool alone;		/* close each at once, so that none keeps it alive */
	int result[DUPS + 1];
	bool stop;
} duper;

/* Apart, where there are two of them. */
static void run_on(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

static void *dup_many(void *arg)
{
	struct evering_registry_entry entry;
	unsigned int round = 0;
	int i;

	run_on(1);
	for (;;) {
		while (LOAD(duper.round) == round && !LOAD(duper.stop))
			sched_yield();
		if (LOAD(duper.stop))
			return NULL;
		STORE(duper.begun, ++round);
		for (i = 0; i < DUPS; i++) {
			duper.result[i] = do_dup(duper.fd);
			if (duper.result[i] < 0)
				break;
			if (!duper.alone)
				continue;
			/* While one lives, it is there to be opened. */
			if (!snapshot(&reg, EVERING_TOKEN_INDEX(duper.token), &entry, NULL) ||
			    entry.token != duper.token || entry.state != EVERING_ENTRY_ACTIVE)
				duper.bad++;
			close(duper.result[i]);
		}
		duper.nr = i;
		STORE(duper.done, round);
	}
}

TEST_F(race, of_dup_and_the_death_of_the_endpoint)
{
	struct evering_layout layout = { .section_size = { PAGE, 2 * PAGE, PAGE },
					 .heap_offset = { PAGE } };
	unsigned int round, split = 0, all = 0, none = 0;
	struct evering_registry_entry entry;
	struct evering_open args;
	const struct rlimit limit = { DUPS + 64, DUPS + 64 };
	pthread_t thread;
	uint64_t token;

	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &limit));
	ASSERT_EQ(0, pthread_create(&thread, NULL, dup_many, NULL));
	run_on(0);
	for (round = 1; going(self); round++) {
		int alive, fd, i, opened;
		void *own;

		fd = do_create(reg.control, EVERING_KIND_BUFFER, "", &token);
		ASSERT_LE(0, fd);
		own = map_section(fd, &layout, EVERING_SECTION_A, RW);
		ASSERT_NE(MAP_FAILED, own);
		duper.fd = fd;
		duper.token = token;
		duper.alone = round % 2;
		STORE(duper.round, round);
		while (LOAD(duper.begun) != round)
			sched_yield();
		dawdle(&self->seed);
		munmap(own, 2 * PAGE);
		while (LOAD(duper.done) != round)
			sched_yield();

		ASSERT_EQ(0, duper.bad);
		if (duper.nr < DUPS)
			ASSERT_EQ(-EBADFD, duper.result[duper.nr]);
		alive = duper.alone ? 0 : duper.nr;
		/* Whoever copies it later finds it dead, whatever lives. */
		ASSERT_EQ(-EBADFD, do_dup(fd));
		ASSERT_TRUE(snapshot(&reg, EVERING_TOKEN_INDEX(token), &entry, NULL));
		ASSERT_EQ(token, entry.token);
		ASSERT_EQ(alive, entry.ref_count);
		ASSERT_EQ(alive ? EVERING_ENTRY_ACTIVE : EVERING_ENTRY_MARKED, entry.state);
		opened = do_open(reg.control, token, "", EVERING_SIDE_B, &args);
		if (alive) {
			ASSERT_LE(0, opened);
			close(opened);
			must_work(duper.result[alive - 1], token, &layout, EVERING_ENTRY_ACTIVE);
		} else {
			ASSERT_EQ(-ESTALE, opened);
		}
		split += duper.nr && duper.nr < DUPS;
		all += duper.nr == DUPS;
		none += !duper.nr;
		for (i = 0; i < alive; i++)
			close(duper.result[i]);
		close(fd);
		ASSERT_TRUE(snapshot(&reg, EVERING_TOKEN_INDEX(token), &entry, NULL));
		ASSERT_EQ(EVERING_ENTRY_FREE, entry.state);
	}
	STORE(duper.stop, true);
	pthread_join(thread, NULL);
	TH_LOG("%u rounds: %u before it died, %u while, %u after", round, all, split, none);
	EXPECT_LT(0, split);
}

/* --------------------------------------------- the end of network namespaces */

static void be_in_namespace(uint32_t us)
{
	struct itimerval timer = { .it_value.tv_usec = us };
	bool again = false;
	struct registry mine;
	uint64_t token;
	int fd;

	MUST(!unshare(CLONE_NEWNET));
	STORE(race->round, race->round + 1);
	setitimer(ITIMER_REAL, &timer, NULL);
	for (;;) {
		MUST(!registry_map(&mine));
		/* As often as there are namespaces; later, the test may have it. */
		fd = do_create(mine.control, EVERING_KIND_BUFFER, "race.net", &token);
		MUST(fd >= 0 || (fd == -EEXIST && again));
		if (fd >= 0) {
			MUST(do_create(mine.control, EVERING_KIND_QUEUE, "race.net",
				       &token) == -EEXIST);
			MUST(mine.header->active_count == 1 || mine.header->active_count == 2);
			again = true;
		}
		usleep(us % 512);
		if (fd >= 0)
			close(fd);
		registry_unmap(&mine);
	}
}

/* Through what it leaves open, a namespace is all there until that goes. */
TEST_F(race, of_the_end_of_a_namespace_and_its_use)
{
	int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), round, ns, fd, late, ret;
	unsigned int found = 0, not_found = 0;
	struct evering_registry_entry entry;
	struct evering_open args;
	struct registry there;
	uint64_t token;
	char path[64];
	pid_t pid;

	ASSERT_LE(0, home);
	for (round = 1; going(self); round++) {
		race->round = 0;
		pid = spawn();
		if (!pid)
			be_in_namespace(1 + rnd(&self->seed) % 30000);
		while (!LOAD(race->round))
			sched_yield();
		snprintf(path, sizeof(path), "/proc/%d/ns/net", pid);
		ns = open(path, O_RDONLY | O_CLOEXEC);
		if (ns < 0 || round % 4 == 0) {
			ASSERT_EQ(-SIGALRM, reap(pid));
			pid = 0;
		}
		if (ns < 0)
			continue;
		ASSERT_EQ(0, setns(ns, CLONE_NEWNET));
		close(ns);
		ASSERT_EQ(0, registry_map(&there));
		fd = do_open(there.control, 0, "race.net", EVERING_SIDE_A, &args);
		ASSERT_TRUE(fd >= 0 || fd == -ENOENT || fd == -ESTALE);
		found += fd >= 0;
		not_found += fd < 0;
		if (fd >= 0)
			must_work_in(&there, fd, args.token, &args.layout,
				     EVERING_ENTRY_ACTIVE);
		late = do_create(there.control, EVERING_KIND_BUFFER, "race.late", &token);
		ASSERT_LE(0, late);
		ASSERT_EQ(0, setns(home, CLONE_NEWNET));
		/* Ours is another one, that may have had later tokens. */
		ASSERT_EQ(-ENOENT, do_open(reg.control, 0, "race.late", 0, &args));
		ret = do_open(reg.control, token, "", 0, &args);
		ASSERT_TRUE(ret == -ENOENT || ret == -ESTALE);
		close(there.control);
		if (pid)
			ASSERT_EQ(-SIGALRM, reap(pid));
		/* Namespaces are taken down by a kernel thread, in its time. */
		if (round % 4 == 0)
			sleep_ms(60);
		/* The map alone holds it now, and shows what the last one does. */
		ASSERT_TRUE(snapshot(&there, EVERING_TOKEN_INDEX(token), &entry, NULL));
		ASSERT_EQ(token, entry.token);
		ASSERT_EQ(EVERING_ENTRY_ACTIVE, entry.state);
		ASSERT_STREQ("race.late", entry.name);
		if (fd >= 0)
			close(fd);
		close(late);
		ASSERT_TRUE(snapshot(&there, EVERING_TOKEN_INDEX(token), &entry, NULL));
		ASSERT_EQ(EVERING_ENTRY_FREE, entry.state);
		ASSERT_EQ(0, there.header->active_count);
		munmap((void *)there.header, there.bytes);
	}
	TH_LOG("%d namespaces, the name found in %u, not in %u", round, found, not_found);
	EXPECT_LT(5, round);
	EXPECT_LT(0, found);
	EXPECT_LT(0, not_found);
	EXPECT_EQ(self->refs, read_number(REFCNT));
}

TEST_HARNESS_MAIN
