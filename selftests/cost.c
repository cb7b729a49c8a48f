// SPDX-License-Identifier: GPL-2.0
/*
 * What the library costs: nothing while it is idle, few system calls per message
 * while it streams, and one call a side for a blocking round trip.
 */
#include <sched.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "sleepers.h"

/* What the server tells of itself. */
struct served {
	struct evering_stats stats;
	uint64_t messages;
	int ret;
};

struct cost {
	struct evering_service *service;
	struct evering *client;
	pid_t pid;		/* the server's */
	struct served *served;	/* shared with it */
};

FIXTURE(cost)
{
	struct cost c;
};

FIXTURE_SETUP(cost)
{
	ASSERT_EQ(0, evering_listen(test_name(), NULL, &self->c.service));
	self->c.served = mmap(NULL, sizeof(*self->c.served), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->c.served);
}

FIXTURE_TEARDOWN(cost)
{
	evering_close(self->c.client);
	if (self->c.pid) {
		kill(self->c.pid, SIGKILL);
		waitpid(self->c.pid, NULL, 0);
	}
	evering_service_close(self->c.service);
}

/* ------------------------------------------------------------------ idle */

static uint64_t cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

struct idler {
	pthread_t thread;
	struct evering *ep;
	bool client;
	int ret;
	uint64_t cpu;
};

static void *idle(void *arg)
{
	const struct timespec second = { .tv_sec = 1 };
	uint64_t begin = cpu_ns();
	const struct evering_cqe *cqe;
	const struct evering_sqe *sqe;
	struct idler *i = arg;

	if (i->client)
		i->ret = evering_wait_cqe_timeout(i->ep, &cqe, &second);
	else
		i->ret = evering_wait_sqe_timeout(i->ep, &sqe, &second);
	i->cpu = cpu_ns() - begin;
	return NULL;
}

static uint64_t used_us(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000ULL +
	       usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
}

TEST_F(cost, idle_endpoints_cost_nothing)
{
	struct idler idler[2] = { { .client = true }, { .client = false } };
	uint64_t begin, us;
	struct evering *server;
	int i;

	ASSERT_EQ(0, evering_connect(test_name(), NULL, &self->c.client));
	ASSERT_EQ(0, evering_accept(self->c.service, &server));
	idler[0].ep = self->c.client;
	idler[1].ep = server;
	begin = now_ns();
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, pthread_create(&idler[i].thread, NULL, idle,
					    &idler[i]));
	/* Neither by the clocks of the threads, spinning included ... */
	sleep_ms(100);
	us = used_us();
	sleep_ms(850);
	us = used_us() - us;
	for (i = 0; i < 2; i++) {
		pthread_join(idler[i].thread, NULL);
		EXPECT_EQ(-ETIME, idler[i].ret);
	}
	EXPECT_LE(begin + 1000 * MS, now_ns());
	EXPECT_GT(20 * MS, idler[0].cpu + idler[1].cpu);
	/* ... nor by that of the process, once they sleep. */
	EXPECT_GT(20000, us);
	TH_LOG("%llu us, asleep %llu us",
	       (unsigned long long)(idler[0].cpu + idler[1].cpu) / 1000,
	       (unsigned long long)us);
	evering_close(server);
}

/* ---------------------------------------------------------- system calls */

/* Answers what is there, in one batch, until the client is gone. */
static int serve(struct evering_service *service, int spin,
		 struct served *served)
{
	const struct timespec far = { .tv_sec = FAR / 1000 };
	const struct evering_sqe *sqes[64];
	struct evering *ep;
	int ret, i;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	ret = evering_accept(service, &ep);
	if (ret)
		return ret;
	if (spin >= 0)
		evering_set_spin(ep, spin);
	ret = evering_wait_sqes(ep, NULL, 1, &far);
	while (ret >= 0) {
		ret = evering_peek_batch_sqe(ep, sqes, 64);
		for (i = 0; i < ret; i++) {
			struct evering_cqe *cqe = evering_get_cqe(ep);

			/* The client keeps fewer in flight than there are. */
			if (!cqe)
				return -ENOSPC;
			cqe->user_data = sqes[i]->user_data;
			cqe->res = ~sqes[i]->len;
		}
		if (ret <= 0)
			break;
		served->messages += ret;
		evering_sq_advance(ep, ret);
		ret = evering_complete_and_wait_timeout(ep, NULL, 1, &far);
	}
	evering_stats(ep, &served->stats);
	evering_close(ep);
	return ret;
}

/* The service, its process and a client; 0 or -errno. */
static int cost_start(struct cost *c, int spin)
{
	int ret;

	c->pid = fork();
	if (!c->pid) {
		c->served->ret = serve(c->service, spin, c->served);
		_exit(0);
	}
	ret = evering_connect(test_name(), NULL, &c->client);
	if (!ret && spin >= 0)
		evering_set_spin(c->client, spin);
	return ret;
}

/* What the server returns when the client has gone. */
static int cost_end(struct cost *c)
{
	int status;

	evering_close(c->client);
	c->client = NULL;
	status = reap(c->pid);
	c->pid = 0;
	return status ? status : c->served->ret;
}

TEST_F(cost, of_streaming_is_few_system_calls)
{
	const unsigned int messages = 20000, in_flight = 32;
	unsigned int sent = 0, received = 0;
	struct evering_stats stats;

	ASSERT_EQ(0, cost_start(&self->c, -1));
	while (received < messages) {
		const struct evering_cqe *cqes[64];
		int i, n;

		while (sent < messages && sent - received < in_flight) {
			struct evering_sqe *sqe = evering_get_sqe(self->c.client);

			ASSERT_NE(NULL, sqe);
			sqe->user_data = sent;
			sqe->len = sent++;
		}
		n = sent - received < 16 ? sent - received : 16;
		ASSERT_LE(0, evering_submit_and_wait(self->c.client, n));
		n = evering_peek_batch_cqe(self->c.client, cqes, 64);
		ASSERT_LT(0, n);
		for (i = 0; i < n; i++) {
			ASSERT_EQ(received, cqes[i]->user_data);
			ASSERT_EQ(~received, cqes[i]->res);
			received++;
		}
		evering_cq_advance(self->c.client, n);
	}
	evering_stats(self->c.client, &stats);
	EXPECT_EQ(-EPIPE, cost_end(&self->c));
	EXPECT_EQ(messages, self->c.served->messages);
	TH_LOG("ENTERs: client %llu (%llu doorbells, %llu spins), server %llu (%llu, %llu)",
	       (unsigned long long)stats.enters,
	       (unsigned long long)stats.doorbells,
	       (unsigned long long)stats.spins,
	       (unsigned long long)self->c.served->stats.enters,
	       (unsigned long long)self->c.served->stats.doorbells,
	       (unsigned long long)self->c.served->stats.spins);
	EXPECT_GT(messages / 20, stats.enters);
	EXPECT_GT(messages / 20, self->c.served->stats.enters);
}

/*
 * On one CPU both sides run in turn, so that their calls can be counted
 * exactly; and no idle CPU has to be woken, which is slow in a machine that is
 * emulated.
 */
static int use_one_cpu(void)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(0, &set);
	return sched_setaffinity(0, sizeof(set), &set);
}

/* Blocking round trips; 0 or -errno. */
static int round_trips(struct evering *client, unsigned int n)
{
	const struct timespec far = { .tv_sec = FAR / 1000 };
	const struct evering_cqe *cqe;
	uint64_t begin;
	unsigned int i;
	int ret;

	for (i = 0; i < n; i++) {
		struct evering_sqe *sqe = evering_get_sqe(client);

		if (!sqe)
			return -ENOSPC;
		sqe->user_data = i;
		begin = now_ns();
		ret = evering_submit_and_wait_timeout(client, &cqe, 1, &far);
		if (ret != 1)
			return ret < 0 ? ret : -EPROTO;
		if (now_ns() >= begin + FAR * MS)
			return -ETIMEDOUT;
		if (!cqe || cqe->user_data != i)
			return -EILSEQ;
		evering_cqe_seen(client, cqe);
	}
	return 0;
}

#define ROUND_TRIPS	2000

TEST_F(cost, of_a_blocking_round_trip_is_one_system_call_a_side)
{
	struct evering_stats before, after;

	ASSERT_EQ(0, use_one_cpu());
	ASSERT_EQ(0, cost_start(&self->c, 0));
	ASSERT_EQ(0, round_trips(self->c.client, 10));
	evering_stats(self->c.client, &before);
	ASSERT_EQ(0, round_trips(self->c.client, ROUND_TRIPS));
	evering_stats(self->c.client, &after);
	EXPECT_EQ(-EPIPE, cost_end(&self->c));
	TH_LOG("ENTERs: client %llu, server %llu",
	       (unsigned long long)(after.enters - before.enters),
	       (unsigned long long)self->c.served->stats.enters);
	EXPECT_GE(ROUND_TRIPS + 2, after.enters - before.enters);
	EXPECT_GE(ROUND_TRIPS + 10 + 2, self->c.served->stats.enters);
	/* They did sleep: fewer only where one was preempted in between. */
	EXPECT_LE(ROUND_TRIPS - 20, after.enters - before.enters);
	EXPECT_LE(ROUND_TRIPS - 20, self->c.served->stats.enters);
}

#define TRACEFS		"/sys/kernel/tracing"
#define INSTANCE	TRACEFS "/instances/evering"
#define SYS_ENTER	INSTANCE "/events/raw_syscalls/sys_enter"

/* How many ENTERs, and other ioctls, the kernel has seen of a process. */
static bool count_traced(pid_t pid, unsigned int *enters, unsigned int *others)
{
	char line[512], who[16], args[16];
	FILE *f = fopen(INSTANCE "/trace", "r");

	if (!f)
		return false;
	snprintf(who, sizeof(who), "-%d ", pid);
	snprintf(args, sizeof(args), ", %lx, ", (long)EVERING_IOC_ENTER);
	*enters = *others = 0;
	while (fgets(line, sizeof(line), f)) {
		if (line[0] == '#' || !strstr(line, who))
			continue;
		if (strstr(line, args))
			(*enters)++;
		else
			(*others)++;
	}
	fclose(f);
	return true;
}

TEST_F(cost, of_a_blocking_round_trip_as_the_kernel_counts)
{
	unsigned int client, server, others;
	struct evering_stats before, after;
	char filter[96];

	if (mkdir(INSTANCE, 0700) && errno != EEXIST)
		SKIP(return, "no tracefs");
	if (access(SYS_ENTER "/filter", W_OK))
		SKIP(return, "no raw_syscalls events");
	ASSERT_EQ(0, use_one_cpu());
	ASSERT_EQ(0, cost_start(&self->c, 0));
	ASSERT_EQ(0, round_trips(self->c.client, 10));
	snprintf(filter, sizeof(filter),
		 "id == %d && (common_pid == %d || common_pid == %d)",
		 SYS_ioctl, getpid(), self->c.pid);
	ASSERT_EQ(0, write_file(INSTANCE "/buffer_size_kb", "2048"));
	ASSERT_EQ(0, write_file(SYS_ENTER "/filter", filter));
	ASSERT_EQ(0, write_file(SYS_ENTER "/enable", "1"));
	evering_stats(self->c.client, &before);
	ASSERT_EQ(0, round_trips(self->c.client, ROUND_TRIPS));
	evering_stats(self->c.client, &after);
	ASSERT_EQ(0, write_file(SYS_ENTER "/enable", "0"));

	ASSERT_TRUE(count_traced(getpid(), &client, &others));
	/* The library counts what the kernel sees, and does nothing else. */
	EXPECT_EQ(after.enters - before.enters, client);
	EXPECT_EQ(0, others);
	EXPECT_GE(ROUND_TRIPS + 2, client);
	EXPECT_LE(ROUND_TRIPS - 20, client);
	ASSERT_TRUE(count_traced(self->c.pid, &server, &others));
	EXPECT_EQ(0, others);
	EXPECT_GE(ROUND_TRIPS + 2, server);
	EXPECT_LE(ROUND_TRIPS - 20, server);
	TH_LOG("ENTERs: client %u, server %u", client, server);
	EXPECT_EQ(-EPIPE, cost_end(&self->c));
	rmdir(INSTANCE);
}

TEST_HARNESS_MAIN
