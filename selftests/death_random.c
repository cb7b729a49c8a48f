// SPDX-License-Identifier: GPL-2.0
/*
 * Programs of the library killed at random moments of a stream: all that was
 * submitted arrives whole, then the end and nothing else, and nothing is left
 * in the kernel.  No moment may be one that loses a message or hangs a peer.
 */
#include "processes.h"
#include "evering.h"

/* ------------------------------------------------------- at random moments */

#define STREAM_ENTRIES	64
#define STREAM_PAYLOAD	64
#define ROUNDS		200

/* What a child tells without being asked, in memory shared with the test. */
struct log {
	uint64_t sent;		/* messages that were submitted */
};

static const struct evering_geometry stream_geometry = {
	.entries = { STREAM_ENTRIES, STREAM_ENTRIES },
	.slot_size = { 64, 128 },
	.heap_size = { STREAM_ENTRIES * STREAM_PAYLOAD,
		       STREAM_ENTRIES * STREAM_PAYLOAD },
};

static uint64_t mix(uint64_t seq, uint64_t salt)
{
	uint64_t x = (seq + 1) * 0x9e3779b97f4a7c15 + salt;

	return (x ^ x >> 29) * 0xbf58476d1ce4e5b9;
}

static void fill(void *to, size_t len, uint64_t seq)
{
	uint64_t *words = to;
	size_t i;

	for (i = 0; i < len / 8; i++)
		words[i] = mix(seq, i);
}

static bool filled(const void *from, size_t len, uint64_t seq)
{
	const uint64_t *words = from;
	size_t i;

	for (i = 0; i < len / 8; i++)
		if (words[i] != mix(seq, i))
			return false;
	return true;
}

/* Its slot in the heap is free when its slot in the ring is. */
static uint64_t payload_of(uint64_t seq)
{
	return seq % STREAM_ENTRIES * STREAM_PAYLOAD;
}

static void stream_requests(struct evering *ep, struct log *log)
{
	char *heap = evering_heap(ep, NULL);
	uint64_t seq = 0;
	unsigned int i;

	for (;;) {
		for (i = 0; i <= mix(seq, 99) % 5; i++) {
			struct evering_sqe *sqe;

			while (!(sqe = evering_get_sqe(ep)))
				if (evering_wait_sq_space(ep, NULL) < 0)
					_exit(30);
			sqe->user_data = seq;
			sqe->opcode = mix(seq, 1);
			sqe->flags = mix(seq, 2);
			sqe->len = STREAM_PAYLOAD;
			sqe->offset = payload_of(seq);
			fill(sqe->data, sizeof(sqe->data), seq);
			fill(heap + payload_of(seq), STREAM_PAYLOAD, seq);
			seq++;
		}
		if (evering_submit(ep) < 0)
			_exit(31);
		__atomic_store_n(&log->sent, seq, __ATOMIC_RELEASE);
	}
}

static void stream_completions(struct evering *ep, struct log *log)
{
	char *heap = evering_heap(ep, NULL);
	uint64_t seq = 0;
	unsigned int i;

	for (;;) {
		for (i = 0; i <= mix(seq, 99) % 5; i++) {
			struct evering_cqe *cqe;

			while (!(cqe = evering_get_cqe(ep)))
				if (evering_wait_cq_space(ep, NULL) < 0)
					_exit(32);
			cqe->user_data = seq;
			cqe->res = mix(seq, 1);
			cqe->flags = mix(seq, 2);
			cqe->offset = payload_of(seq);
			fill(cqe->data, 96, seq);
			fill(heap + payload_of(seq), STREAM_PAYLOAD, seq);
			seq++;
		}
		if (evering_complete(ep) < 0)
			_exit(33);
		__atomic_store_n(&log->sent, seq, __ATOMIC_RELEASE);
	}
}

/* All that comes; its end in @end.  Returns how many were right. */
static uint64_t drain_requests(struct evering *ep, int *end)
{
	const struct timespec limit = { LONG_MS / 1000, 0 };
	const struct evering_sqe *sqe;
	const void *payload;
	uint64_t seq;

	for (seq = 0;; seq++) {
		*end = evering_wait_sqe_timeout(ep, &sqe, &limit);
		if (*end)
			return seq;
		payload = evering_payload(ep, sqe->offset, sqe->len);
		if (sqe->user_data != seq ||
		    sqe->opcode != (uint16_t)mix(seq, 1) ||
		    sqe->flags != (uint16_t)mix(seq, 2) ||
		    sqe->len != STREAM_PAYLOAD ||
		    sqe->offset != payload_of(seq) ||
		    !filled(sqe->data, sizeof(sqe->data), seq) ||
		    !payload || !filled(payload, STREAM_PAYLOAD, seq)) {
			*end = -EBADMSG;
			return seq;
		}
		evering_sqe_seen(ep, sqe);
	}
}

static uint64_t drain_completions(struct evering *ep, int *end)
{
	const struct timespec limit = { LONG_MS / 1000, 0 };
	const struct evering_cqe *cqe;
	const void *payload;
	uint64_t seq;

	for (seq = 0;; seq++) {
		*end = evering_wait_cqe_timeout(ep, &cqe, &limit);
		if (*end)
			return seq;
		payload = evering_payload(ep, cqe->offset, STREAM_PAYLOAD);
		if (cqe->user_data != seq ||
		    cqe->res != (int32_t)mix(seq, 1) ||
		    cqe->flags != (uint32_t)mix(seq, 2) ||
		    cqe->offset != payload_of(seq) ||
		    !filled(cqe->data, 96, seq) ||
		    !payload || !filled(payload, STREAM_PAYLOAD, seq)) {
			*end = -EBADMSG;
			return seq;
		}
		evering_cqe_seen(ep, cqe);
	}
}

/* Kills @pid at some time after @go is set, or after it was started. */
struct killer {
	pthread_t thread;
	pid_t pid;
	unsigned int us;
	bool wait;
	bool go;
};

static void *kill_later(void *arg)
{
	struct killer *k = arg;
	struct timespec ts = { .tv_nsec = k->us * 1000L };
	int i;

	for (i = 0; k->wait && i < 5000; i++) {
		struct timespec tick = { .tv_nsec = 100000 };

		if (__atomic_load_n(&k->go, __ATOMIC_ACQUIRE))
			break;
		nanosleep(&tick, NULL);
	}
	nanosleep(&ts, NULL);
	kill(k->pid, SIGKILL);
	return NULL;
}

/* In one of four rounds the child is hit while it still connects. */
static bool killer_start(struct killer *k, pid_t pid, int round, unsigned int *seed)
{
	k->pid = pid;
	k->wait = round % 4;
	k->go = false;
	k->us = k->wait ? 100 + rand_r(seed) % 4000 : rand_r(seed) % 10000;
	return !pthread_create(&k->thread, NULL, kill_later, k);
}

static void killer_go(struct killer *k)
{
	__atomic_store_n(&k->go, true, __ATOMIC_RELEASE);
}

static struct log *log_new(void)
{
	return mmap(NULL, sizeof(struct log), RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

TEST(client_killed_at_random_moments)
{
	const struct timespec now = { 0, 0 }, moment = { 0, 20000000 };
	const struct timespec limit = { LONG_MS / 1000, 0 };
	struct counters before = counters_now();
	struct evering_service *service;
	unsigned int seed = now_ns(), connected = 0, talked = 0;
	struct log *log = log_new();
	uint64_t total = 0;
	int round;

	TH_LOG("seed %u", seed);
	ASSERT_NE(MAP_FAILED, (void *)log);
	ASSERT_EQ(0, evering_listen(_metadata->name, NULL, &service));
	for (round = 0; round < ROUNDS; round++) {
		struct evering *ep = NULL;
		struct killer killer;
		uint64_t got;
		int ret, end;
		pid_t pid;

		log->sent = 0;
		pid = fork_mortal();
		if (!pid) {
			ret = evering_connect(_metadata->name, &stream_geometry, &ep);
			if (ret)
				_exit(34);
			stream_requests(ep, log);
		}
		ASSERT_LT(0, pid);
		ASSERT_TRUE(killer_start(&killer, pid, round, &seed));
		ret = evering_accept_timeout(service, &ep, killer.wait ? &limit : &moment);
		killer_go(&killer);
		if (ret == -ETIME) {
			/* Dead before it came to connect?  Then it is certain. */
			ASSERT_EQ(0, pthread_join(killer.thread, NULL));
			ASSERT_EQ(-SIGKILL, reap(pid));
			ret = evering_accept_timeout(service, &ep, &now);
			if (ret) {
				ASSERT_EQ(-EAGAIN, ret);
				continue;
			}
			pid = 0;
		}
		ASSERT_EQ(0, ret);
		got = drain_requests(ep, &end);
		EXPECT_EQ(-EPIPE, end) {
			TH_LOG("round %d, message %llu", round, (unsigned long long)got);
		}
		if (pid) {
			ASSERT_EQ(0, pthread_join(killer.thread, NULL));
			ASSERT_EQ(-SIGKILL, reap(pid));
		}
		/* The last batch may have gone out without being logged. */
		EXPECT_LE(log->sent, got);
		EXPECT_GE(log->sent + 5, got);
		connected++;
		talked += got > 0;
		total += got;
		evering_close(ep);
	}
	evering_service_close(service);
	TH_LOG("%u connected, %u sent something, %llu messages", connected,
	       talked, (unsigned long long)total);
	EXPECT_LE(ROUNDS / 4, talked);
	EXPECT_LE(ROUNDS, total);
	EXPECT_TRUE(counters_return(&before));
}

TEST(server_killed_at_random_moments)
{
	struct counters before = counters_now();
	unsigned int seed = now_ns(), connected = 0, talked = 0;
	struct log *log = log_new();
	uint64_t total = 0;
	int round;

	TH_LOG("seed %u", seed);
	ASSERT_NE(MAP_FAILED, (void *)log);
	for (round = 0; round < ROUNDS; round++) {
		struct evering_service *service;
		struct evering *ep = NULL;
		struct killer killer;
		bool reaped = false;
		uint64_t got;
		int ret, end, status;
		pid_t pid;

		log->sent = 0;
		pid = fork_mortal();
		if (!pid) {
			if (evering_listen(_metadata->name, NULL, &service))
				_exit(35);
			if (evering_accept(service, &ep))
				_exit(36);
			stream_completions(ep, log);
		}
		ASSERT_LT(0, pid);
		ASSERT_TRUE(killer_start(&killer, pid, round, &seed));
		for (;;) {
			ret = evering_connect(_metadata->name, &stream_geometry, &ep);
			if (ret != -ECONNREFUSED || reaped)
				break;
			reaped = waitpid(pid, &status, WNOHANG) == pid;
			usleep(200);
		}
		killer_go(&killer);
		got = 0;
		if (ret) {
			ASSERT_EQ(-ECONNREFUSED, ret);
		} else {
			got = drain_completions(ep, &end);
			EXPECT_EQ(-EPIPE, end) {
				TH_LOG("round %d, message %llu", round, (unsigned long long)got);
			}
		}
		ASSERT_EQ(0, pthread_join(killer.thread, NULL));
		if (!reaped)
			ASSERT_EQ(pid, waitpid(pid, &status, 0));
		ASSERT_TRUE(WIFSIGNALED(status)) {
			TH_LOG("exit status %d", WEXITSTATUS(status));
		}
		EXPECT_LE(log->sent, got);
		EXPECT_GE(log->sent + 5, got);
		connected += !ret;
		talked += got > 0;
		total += got;
		if (!ret)
			evering_close(ep);
	}
	TH_LOG("%u connected, %u sent something, %llu messages", connected,
	       talked, (unsigned long long)total);
	EXPECT_LE(ROUNDS / 4, talked);
	EXPECT_LE(ROUNDS, total);
	EXPECT_TRUE(counters_return(&before));
}

/* The library tells the end as the kernel does, to all who wait. */
TEST(library_tells_the_end)
{
	struct evering *client, *server;
	struct evering_service *service;
	const struct evering_cqe *cqe;
	struct evering_cqe *answer;
	struct timespec limit = { LONG_MS / 1000, 0 };
	uint64_t start;
	int sock, i;
	pid_t pid;

	pid = fork_talking(&sock);
	if (!pid) {
		if (evering_listen(_metadata->name, NULL, &service))
			_exit(1);
		tell(sock, 1);
		if (evering_accept(service, &server))
			_exit(2);
		for (i = 0; i < 3; i++) {
			answer = evering_get_cqe(server);
			answer->user_data = i;
			evering_complete(server);
		}
		tell(sock, 2);
		for (;;)
			pause();
	}
	ASSERT_LT(0, pid);
	ASSERT_EQ(1, hear(sock));
	ASSERT_EQ(0, evering_connect(_metadata->name, NULL, &client));
	ASSERT_EQ(2, hear(sock));
	/* Our own ring is full, so there is room to wait for. */
	while (evering_get_sqe(client))
		;
	ASSERT_LT(0, evering_submit(client));
	ASSERT_EQ(NULL, evering_get_sqe(client));
	start = now_ns();
	kill(pid, SIGKILL);
	EXPECT_EQ(-SIGKILL, reap(pid));
	/* More than there are, and the end. */
	EXPECT_EQ(0, evering_wait_cqes(client, &cqe, 5, &limit));
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, evering_wait_cqe_timeout(client, &cqe, &limit));
		EXPECT_EQ(i, cqe->user_data);
		evering_cqe_seen(client, cqe);
	}
	EXPECT_EQ(-EPIPE, evering_wait_cqe_timeout(client, &cqe, &limit));
	EXPECT_EQ(-EPIPE, evering_peek_cqe(client, &cqe));
	EXPECT_EQ(-EPIPE, evering_wait_sq_space(client, &limit));
	/* With nothing to send there is nothing to fail. */
	EXPECT_EQ(0, evering_submit(client));
	EXPECT_GT(5 * PROMPT_NS, now_ns() - start);
	evering_close(client);
}

TEST(both_killed_leave_nothing)
{
	struct counters before = counters_now();
	int i, status[2], socks[2];
	pid_t pids[2];

	for (i = 0; i < 10; i++) {
		struct evering_service *service;
		struct evering *ep;

		pids[1] = fork_talking(&socks[1]);
		if (!pids[1]) {
			if (evering_listen(_metadata->name, NULL, &service))
				_exit(1);
			tell(socks[1], 1);
			if (evering_accept(service, &ep))
				_exit(2);
			evering_wait_sqe(ep, &(const struct evering_sqe *){ 0 });
			_exit(3);
		}
		ASSERT_LT(0, pids[1]);
		ASSERT_EQ(1, hear(socks[1]));
		pids[0] = fork_talking(&socks[0]);
		if (!pids[0]) {
			if (evering_connect(_metadata->name, NULL, &ep))
				_exit(1);
			tell(socks[0], 1);
			evering_wait_cqe(ep, &(const struct evering_cqe *){ 0 });
			_exit(3);
		}
		ASSERT_LT(0, pids[0]);
		ASSERT_EQ(1, hear(socks[0]));
		if (i & 1) {
			ASSERT_TRUE(asleep_in(pids[0], pids[0], SYS_ioctl));
			ASSERT_TRUE(asleep_in(pids[1], pids[1], SYS_ioctl));
		}
		kill(pids[0], SIGKILL);
		kill(pids[1], SIGKILL);
		status[0] = reap(pids[0]);
		status[1] = reap(pids[1]);
		/* The second may have learnt of the first before it died. */
		EXPECT_EQ(-SIGKILL, status[0]);
		EXPECT_TRUE(status[1] == -SIGKILL || status[1] == 3);
		close(socks[0]);
		close(socks[1]);
	}
	EXPECT_TRUE(counters_return(&before));
}

TEST_HARNESS_MAIN
