// SPDX-License-Identifier: GPL-2.0
/*
 * A blocking round trip of 64 bytes, one in flight, both sides sleeping, two
 * processes: evering against what else a program could use.  Under QEMU's
 * -icount the clock counts instructions, one a nanosecond; see `make icount`.
 */
#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "evering.h"

#define MESSAGE	64
#define NAME	"bench.rpc"

/* Shared by the two processes of one measurement. */
struct shared {
	uint32_t request, reply;	/* futex words: rounds done */
	char message[2][MESSAGE];
	uint64_t server_enters;
};

struct bench {
	struct shared *shared;
	int fds[4];
	struct evering_service *service;
	struct evering *ep;
	unsigned int rounds;
};

struct method {
	const char *name;
	void (*prepare)(struct bench *b);	/* before fork */
	void (*attach)(struct bench *b, bool server);
	void (*serve)(struct bench *b);		/* one round */
	void (*call)(struct bench *b);		/* one round */
	void (*finish)(struct bench *b, bool server);
};

static void die(const char *what)
{
	fprintf(stderr, "evr-bench-rpc: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void check(int ret, const char *what)
{
	if (ret < 0) {
		errno = -ret;
		die(what);
	}
}

/* --------------------------------------------------------------- evering */

static void evering_prepare(struct bench *b)
{
	check(evering_listen(NAME, NULL, &b->service), "listen");
}

static void evering_attach(struct bench *b, bool server)
{
	if (server)
		check(evering_accept(b->service, &b->ep), "accept");
	else
		check(evering_connect(NAME, NULL, &b->ep), "connect");
	evering_set_spin(b->ep, 0);
}

static void evering_serve(struct bench *b)
{
	const struct evering_sqe *sqe;
	struct evering_cqe *cqe;

	/* Waits in the call that has sent the last answer. */
	check(evering_complete_and_wait_timeout(b->ep, &sqe, 1, NULL), "serve");
	cqe = evering_get_cqe(b->ep);
	cqe->user_data = sqe->user_data;
	cqe->res = sqe->opcode;
	evering_sqe_seen(b->ep, sqe);
}

static void evering_call(struct bench *b)
{
	struct evering_sqe *sqe = evering_get_sqe(b->ep);
	const struct evering_cqe *cqe;

	sqe->user_data = 1;
	sqe->opcode = 2;
	check(evering_submit_and_wait_timeout(b->ep, &cqe, 1, NULL), "call");
	evering_cqe_seen(b->ep, cqe);
}

static void evering_finish(struct bench *b, bool server)
{
	struct evering_stats stats;

	if (server) {
		evering_complete(b->ep);
		evering_stats(b->ep, &stats);
		b->shared->server_enters = stats.enters;
	}
}

/* ----------------------------------------------------- futex, shared memory */

static void futex(uint32_t *word, int op, uint32_t value)
{
	syscall(SYS_futex, word, op, value, NULL, NULL, 0);
}

static void futex_post(uint32_t *word)
{
	__atomic_fetch_add(word, 1, __ATOMIC_SEQ_CST);
	futex(word, FUTEX_WAKE, 1);
}

static void futex_await(uint32_t *word, uint32_t seen)
{
	while (__atomic_load_n(word, __ATOMIC_ACQUIRE) == seen)
		futex(word, FUTEX_WAIT, seen);
}

static void futex_serve(struct bench *b)
{
	char message[MESSAGE];

	futex_await(&b->shared->request, b->rounds);
	memcpy(message, b->shared->message[0], MESSAGE);
	memcpy(b->shared->message[1], message, MESSAGE);
	futex_post(&b->shared->reply);
}

static void futex_call(struct bench *b)
{
	char message[MESSAGE] = "";

	memcpy(b->shared->message[0], message, MESSAGE);
	futex_post(&b->shared->request);
	futex_await(&b->shared->reply, b->rounds);
	memcpy(message, b->shared->message[1], MESSAGE);
}

/* ------------------------------------------- file descriptors, two each way */

static void transfer(ssize_t ret, size_t size)
{
	if (ret != (ssize_t)size)
		die("short transfer");
}

static void fd_serve(struct bench *b)
{
	char message[MESSAGE];

	transfer(read(b->fds[0], message, MESSAGE), MESSAGE);
	transfer(write(b->fds[3], message, MESSAGE), MESSAGE);
}

static void fd_call(struct bench *b)
{
	char message[MESSAGE] = "";

	transfer(write(b->fds[1], message, MESSAGE), MESSAGE);
	transfer(read(b->fds[2], message, MESSAGE), MESSAGE);
}

static void pipe_prepare(struct bench *b)
{
	if (pipe(b->fds) || pipe(b->fds + 2))
		die("pipe");
}

static void socket_prepare(struct bench *b, int type)
{
	int pair[2];

	if (socketpair(AF_UNIX, type, 0, pair))
		die("socketpair");
	b->fds[0] = b->fds[3] = pair[0];
	b->fds[1] = b->fds[2] = pair[1];
}

static void stream_prepare(struct bench *b)
{
	socket_prepare(b, SOCK_STREAM);
}

static void seqpacket_prepare(struct bench *b)
{
	socket_prepare(b, SOCK_SEQPACKET);
}

/* ------------------------------------------------ eventfd, shared memory */

static void eventfd_prepare(struct bench *b)
{
	b->fds[0] = eventfd(0, 0);
	b->fds[1] = eventfd(0, 0);
	if (b->fds[0] < 0 || b->fds[1] < 0)
		die("eventfd");
}

static void event_post(int fd)
{
	uint64_t one = 1;

	transfer(write(fd, &one, 8), 8);
}

static void event_await(int fd)
{
	uint64_t count;

	transfer(read(fd, &count, 8), 8);
}

static void eventfd_serve(struct bench *b)
{
	char message[MESSAGE];

	event_await(b->fds[0]);
	memcpy(message, b->shared->message[0], MESSAGE);
	memcpy(b->shared->message[1], message, MESSAGE);
	event_post(b->fds[1]);
}

static void eventfd_call(struct bench *b)
{
	char message[MESSAGE] = "";

	memcpy(b->shared->message[0], message, MESSAGE);
	event_post(b->fds[0]);
	event_await(b->fds[1]);
	memcpy(message, b->shared->message[1], MESSAGE);
}

static const struct method methods[] = {
	{ "evering", evering_prepare, evering_attach, evering_serve,
	  evering_call, evering_finish },
	{ "futex + shared memory", NULL, NULL, futex_serve, futex_call, NULL },
	{ "eventfd + shared memory", eventfd_prepare, NULL, eventfd_serve,
	  eventfd_call, NULL },
	{ "pipe", pipe_prepare, NULL, fd_serve, fd_call, NULL },
	{ "Unix stream socket", stream_prepare, NULL, fd_serve, fd_call, NULL },
	{ "Unix seqpacket socket", seqpacket_prepare, NULL, fd_serve, fd_call,
	  NULL },
};

#define NR_METHODS (sizeof(methods) / sizeof(*methods))

/* ------------------------------------------------------------ measurement */

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		die("sched_setaffinity: two CPUs are needed");
}

static uint64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000U + (uint64_t)ts.tv_nsec;
}

static void serve_all(const struct method *m, struct bench *b, int cpu,
		      unsigned int rounds)
{
	pin(cpu);
	if (m->attach)
		m->attach(b, true);
	for (b->rounds = 0; b->rounds < rounds; b->rounds++)
		m->serve(b);
	if (m->finish)
		m->finish(b, true);
	/* The client has its last answer before this ends anything. */
	futex_await(&b->shared->request, m->call == futex_call ? rounds : 0);
	_exit(0);
}

/* Nanoseconds a round, the server on @cpu; ENTERs of both sides if evering. */
static double measure(const struct method *m, int cpu, unsigned int warm,
		      unsigned int rounds, double *enters)
{
	struct bench b = { 0 };
	uint64_t start = 0, end;
	int status;
	pid_t pid;

	b.shared = mmap(NULL, sizeof(*b.shared), PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (b.shared == MAP_FAILED)
		die("mmap");
	if (m->prepare)
		m->prepare(&b);
	pid = fork();
	if (pid < 0)
		die("fork");
	if (!pid)
		serve_all(m, &b, cpu, warm + rounds);

	pin(0);
	if (m->attach)
		m->attach(&b, false);
	for (b.rounds = 0; b.rounds < warm + rounds; b.rounds++) {
		if (b.rounds == warm)
			start = now();
		m->call(&b);
	}
	end = now();
	futex_post(&b.shared->request);
	if (waitpid(pid, &status, 0) != pid || status)
		die("server");
	*enters = 0;
	if (b.ep) {
		struct evering_stats stats;

		evering_stats(b.ep, &stats);
		*enters = (double)(stats.enters + b.shared->server_enters) /
			  (warm + rounds);
	}
	evering_close(b.ep);
	evering_service_close(b.service);
	munmap(b.shared, sizeof(*b.shared));
	return (double)(end - start) / rounds;
}

static void usage(FILE *to)
{
	fprintf(to,
		"usage: evr-bench-rpc [-n ROUNDS] [-w WARM] [-t]\n"
		"\n"
		"A blocking round trip of 64 bytes between two processes, by evering and by\n"
		"other means, with the server on another CPU and on the same one.\n"
		"\n"
		"  -n ROUNDS  to measure (default 2000)\n"
		"  -w WARM    rounds before that (default 1000)\n"
		"  -t         judge the ratios, in TAP: only where the clock counts\n"
		"             instructions (QEMU -icount); times are too noisy\n");
}

int main(int argc, char **argv)
{
	unsigned int rounds = 2000, warm = 1000;
	double ns[NR_METHODS][2], enters[NR_METHODS][2];
	bool tap = false;
	unsigned int i;
	int opt, cpu;

	while ((opt = getopt(argc, argv, "n:w:th")) != -1) {
		switch (opt) {
		case 'n':
			rounds = (unsigned int)strtoul(optarg, NULL, 0);
			break;
		case 'w':
			warm = (unsigned int)strtoul(optarg, NULL, 0);
			break;
		case 't':
			tap = true;
			break;
		case 'h':
			usage(stdout);
			return 0;
		default:
			usage(stderr);
			return 2;
		}
	}
	if (!rounds) {
		usage(stderr);
		return 2;
	}

	for (i = 0; i < NR_METHODS; i++)
		for (cpu = 0; cpu < 2; cpu++)
			ns[i][cpu] = measure(&methods[i], cpu, warm, rounds,
					     &enters[i][cpu]);

	printf("# show: %-26s %14s %14s %10s\n", "64 B there and back",
	       "server: CPU 1", "CPU 0", "of evering");
	for (i = 0; i < NR_METHODS; i++)
		printf("# show: %-26s %14.0f %14.0f %9.2fx\n", methods[i].name,
		       ns[i][1], ns[i][0], ns[i][1] / ns[0][1]);
	printf("# show: ENTER system calls a round trip, both sides: %.3f\n",
	       enters[0][1]);
	if (tap) {
		double stream = ns[0][1] / ns[4][1];
		double shm = ns[0][1] / ns[1][1];

		printf("1..3\n");
		printf("%sok 1 %.3f of a Unix stream socket, at most 0.75\n",
		       stream <= 0.75 ? "" : "not ", stream);
		printf("%sok 2 %.3f of futex and shared memory, at most 0.90\n",
		       shm <= 0.90 ? "" : "not ", shm);
		/* One a side, and one to begin with. */
		printf("%sok 3 %.4f ENTERs a round trip, 2 and a start\n",
		       enters[0][1] <= 2.002 ? "" : "not ", enters[0][1]);
	}
	return 0;
}
