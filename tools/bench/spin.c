// SPDX-License-Identifier: GPL-2.0
/*
 * A round trip of 64 bytes between two spinning processes over shared memory:
 * the library's calls against the same protocol in a bare loop.
 *
 * Virtual CPUs wander between sharing a core and sitting far apart, and every
 * figure with them.  So each sample of the library stands between two of the
 * bare loop and counts only where these two agree; what counts is the ratio.
 *
 * Two processes that poll each other fall into step in one way or another, for
 * as long as they live, and a few nanoseconds decide in which.  So many pairs
 * of processes are started one after the other, each gives the median of its
 * samples, and what is judged is the median of the pairs.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"
#include "samples.h"

#define ENTRIES	128U
#define ROUNDS	20000U		/* a sample: a few milliseconds */
#define PAGE	4096UL
#define MIN_SAMPLES	9U	/* for a pair to count */
#define NEAR_NS		200.0	/* less than this in the bare loop is near */
#define MIN_PAIRS	5U	/* for a regime to be judged */

enum mode { IDLE, BARE, LIBRARY, QUIT };

struct shared {
	uint32_t mode __attribute__((aligned(128)));
	uint32_t done __attribute__((aligned(128)));
	/* The bare loop's words, laid out as the library's. */
	uint64_t slots[2][ENTRIES][8] __attribute__((aligned(128)));
	uint64_t head[2][16];
	uint64_t tail[2][16];
	struct evering_ring_words words[2];
	/* The library's sections. */
	char header[PAGE] __attribute__((aligned(4096)));
	char section[2][8 * PAGE] __attribute__((aligned(4096)));
};

struct bare {
	uint64_t sent, taken;
};

/* ------------------------------------------------------- the bare protocol */

/* Its ring: entry, stamp, full barrier, is somebody asleep? */
static inline void bare_send(struct shared *s, struct bare *b, int ring,
			     uint64_t value)
{
	uint64_t *slot = s->slots[ring][b->sent % ENTRIES];

	slot[1] = value;
	slot[2] = 0;
	slot[3] = 0;
	store_release(&slot[0], (b->sent / ENTRIES + 1) << 22 | 2);
	store_once(&s->tail[ring][0], ++b->sent);
	full_barrier();
	if (b->sent - 1 >= load_once(&s->words[ring].wake_at) ||
	    b->sent - 1 >= load_once(&s->words[ring].poll_at))
		abort();
}

/* Stamp, copy, head, full barrier, does somebody wait for room? */
static inline uint64_t bare_take(struct shared *s, struct bare *b, int ring,
				 uint64_t *copy)
{
	const uint64_t *slot = s->slots[ring][b->taken % ENTRIES];
	uint64_t stamp = (b->taken / ENTRIES + 1) << 22 | 2;

	while (load_acquire(&slot[0]) != stamp)
		cpu_relax();
	memcpy(copy, slot + 1, 56);
	compiler_barrier();
	store_release(&s->head[ring][0], ++b->taken);
	full_barrier();
	if (b->taken - 1 + ENTRIES >= load_once(&s->words[ring].space_at) ||
	    b->taken - 1 + ENTRIES >= load_once(&s->words[ring].poll_space_at))
		abort();
	return copy[0];
}

/* ------------------------------------------------------------- the library */

/* Nobody sleeps here, so nothing may enter the kernel. */
static int no_enter(struct evering *ep, const struct evering_enter *args)
{
	(void)ep;
	(void)args;
	abort();
}

static const struct evr_backend backend = { .enter = no_enter };

static struct evering *endpoint(struct shared *s, unsigned int side)
{
	static const struct evering_layout layout = {
		.geometry = {
			.entries = { ENTRIES, ENTRIES },
			.slot_size = { 64, 64 },
		},
		.slots_offset = { sizeof(struct evering_control),
				  sizeof(struct evering_control) },
	};
	struct evr_memory memory = {
		.header = (struct evering_header *)s->header,
		.own = s->section[side],
		.peer = s->section[!side],
	};
	struct evering *ep;

	if (evr_endpoint_new(side, &layout, &memory, &backend, &ep))
		exit(1);
	/* Longer than any preemption: nobody is to sleep here. */
	evering_set_spin(ep, UINT32_MAX);
	return ep;
}

static void library_call(struct evering *ep, uint64_t value)
{
	struct evering_sqe *sqe = evering_get_sqe(ep);
	const struct evering_cqe *cqe;

	sqe->user_data = value;
	sqe->opcode = 1;
	sqe->flags = 0;
	sqe->len = 0;
	sqe->offset = 0;
	if (evering_submit_and_wait_timeout(ep, &cqe, 1, NULL) < 0 ||
	    cqe->user_data != value)
		abort();
	evering_cqe_seen(ep, cqe);
}

static void library_serve(struct evering *ep)
{
	const struct evering_sqe *sqe;
	struct evering_cqe *cqe;

	/* Sends the last answer, then spins for the next request. */
	if (evering_complete_and_wait_timeout(ep, &sqe, 1, NULL) < 0)
		abort();
	cqe = evering_get_cqe(ep);
	cqe->user_data = sqe->user_data;
	cqe->res = 0;
	cqe->flags = 0;
	cqe->offset = 0;
	evering_sqe_seen(ep, sqe);
}

/* ------------------------------------------------------------- measurement */

static void serve(struct shared *s)
{
	struct evering *ep = endpoint(s, EVERING_SIDE_B);
	struct bare b = { 0 };
	uint64_t copy[7];
	unsigned int i;

	pin(1);
	for (;;) {
		switch (load_acquire(&s->mode)) {
		case BARE:
			for (i = 0; i < ROUNDS; i++)
				bare_send(s, &b, 1, bare_take(s, &b, 0, copy));
			break;
		case LIBRARY:
			for (i = 0; i < ROUNDS; i++)
				library_serve(ep);
			evering_complete(ep);
			break;
		case QUIT:
			_exit(0);
		default:
			cpu_relax();
			continue;
		}
		store_release(&s->mode, IDLE);
		store_release(&s->done, 1);
	}
}

/* Nanoseconds a round trip. */
static double sample(struct shared *s, struct evering *ep, struct bare *b,
		     enum mode mode)
{
	uint64_t start, value, copy[7];
	unsigned int i;

	store_release(&s->mode, mode);
	start = evr_now();
	for (i = 0; i < ROUNDS; i++) {
		value = start + i;
		if (mode == LIBRARY) {
			library_call(ep, value);
			continue;
		}
		bare_send(s, b, 0, value);
		if (bare_take(s, b, 1, copy) != value)
			abort();
	}
	value = evr_now() - start;
	while (!load_acquire(&s->done))
		cpu_relax();
	store_release(&s->done, 0);
	return (double)value / ROUNDS;
}


/* One pair of processes, for @ms.  A line for each regime that it was in. */
static int one_pair(unsigned int ms)
{
	static struct samples samples[NR_REGIMES];
	struct bare b = { 0 };
	struct evering *ep;
	struct shared *s;
	uint64_t end;
	pid_t pid;
	int i;

	s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (s == MAP_FAILED) {
		perror("evr-bench-spin");
		return 1;
	}
	for (i = 0; i < 2; i++) {
		struct evering_header *h = (struct evering_header *)s->header;
		struct evering_ring_words nobody = {
			.wake_at = EVERING_NOBODY, .poll_at = EVERING_NOBODY,
			.space_at = EVERING_NOBODY, .poll_space_at = EVERING_NOBODY,
		};

		s->words[i] = h->ring[i] = nobody;
		h->side[i].state = EVERING_STATE_OPEN;
	}
	pid = fork();
	if (pid < 0) {
		perror("evr-bench-spin: fork");
		return 1;
	}
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		serve(s);
	}
	pin(0);
	ep = endpoint(s, EVERING_SIDE_A);

	for (i = 0; i < 5; i++) {
		sample(s, ep, &b, BARE);
		sample(s, ep, &b, LIBRARY);
	}
	end = evr_now() + ms * 1000000ULL;
	while (evr_now() < end) {
		double before = sample(s, ep, &b, BARE);
		double lib = sample(s, ep, &b, LIBRARY);
		double after = sample(s, ep, &b, BARE);
		double bare = (before + after) / 2;

		if (after <= before * 1.1 && before <= after * 1.1)
			add(&samples[bare < NEAR_NS ? NEAR : FAR], lib / bare,
			    bare, lib);
	}
	store_release(&s->mode, QUIT);
	waitpid(pid, NULL, 0);

	for (i = 0; i < NR_REGIMES; i++)
		if (samples[i].nr >= MIN_SAMPLES)
			printf("%d %f %f %f\n", i,
			       quantile(samples[i].ratio, samples[i].nr, 0.5),
			       quantile(samples[i].theirs, samples[i].nr, 0.5),
			       quantile(samples[i].ours, samples[i].nr, 0.5));
	return 0;
}

/* Runs this program again as a pair, and adds what it prints to @pairs. */
static int run_pair(const char *self, struct samples *pairs)
{
	double ratio, bare, lib;
	char command[4096];
	FILE *pair;
	int regime;

	snprintf(command, sizeof(command), "exec '%s' -1", self);
	pair = popen(command, "r");
	if (!pair) {
		perror("evr-bench-spin: popen");
		return 1;
	}
	while (fscanf(pair, "%d %lf %lf %lf", &regime, &ratio, &bare, &lib) == 4)
		add(&pairs[regime == NEAR ? NEAR : FAR], ratio, bare, lib);
	return pclose(pair) ? 1 : 0;
}

static void print_table(struct samples *pairs)
{
	unsigned int i;

	printf("64 B there and back, two spinning processes; medians, and of the ratio all quarters\n"
	       "  %-5s %6s %12s %12s   %s\n", "CPUs", "pairs", "bare loop", "library",
	       "library by bare loop");
	for (i = 0; i < NR_REGIMES; i++) {
		struct samples *p = &pairs[i];

		if (!p->nr)
			continue;
		printf("  %-5s %6u %9.1f ns %9.1f ns   %.2f [%.2f %.2f %.2f] %.2f\n",
		       regime_name[i], p->nr, quantile(p->theirs, p->nr, 0.5),
		       quantile(p->ours, p->nr, 0.5), quantile(p->ratio, p->nr, 0),
		       quantile(p->ratio, p->nr, 0.25), quantile(p->ratio, p->nr, 0.5),
		       quantile(p->ratio, p->nr, 0.75), quantile(p->ratio, p->nr, 1));
	}
}

static int print_tap(struct samples *pairs)
{
	int failed = 0;
	unsigned int i;

	printf("1..%d\n", NR_REGIMES);
	for (i = 0; i < NR_REGIMES; i++) {
		struct samples *p = &pairs[i];
		double ratio;

		if (p->nr < MIN_PAIRS) {
			printf("ok %u # SKIP %s: only %u pairs ran in that regime\n",
			       i + 1, regime_name[i], p->nr);
			continue;
		}
		ratio = quantile(p->ratio, p->nr, 0.5);
		failed |= ratio > 1.10;
		printf("%sok %u %s: the library's round trip is %.3f of a bare loop's, at most 1.10\n",
		       ratio <= 1.10 ? "" : "not ", i + 1, regime_name[i], ratio);
	}
	return failed;
}

static void usage(FILE *to)
{
	fprintf(to,
		"usage: evr-bench-spin [-p PAIRS] [-t]\n"
		"\n"
		"A 64-byte round trip between two spinning processes, the library against the\n"
		"same protocol in a bare loop.  Nothing else should run meanwhile.\n"
		"\n"
		"  -p PAIRS  of processes to start, one after the other (default 25)\n"
		"  -t        judge in TAP: a ratio of at most 1.10\n");
}

int main(int argc, char **argv)
{
	static struct samples pairs[NR_REGIMES];
	unsigned long nr = 25, i;
	bool tap = false;
	int opt;

	while ((opt = getopt(argc, argv, "p:th1")) != -1) {
		switch (opt) {
		case 'p':
			nr = strtoul(optarg, NULL, 0);
			break;
		case 't':
			tap = true;
			break;
		case 'h':
			usage(stdout);
			return 0;
		case '1':	/* from run_pair() */
			return one_pair(500);
		default:
			usage(stderr);
			return 2;
		}
	}
	if (!nr || nr > MAX_SAMPLES) {
		usage(stderr);
		return 2;
	}
	for (i = 0; i < nr; i++) {
		if (isatty(STDERR_FILENO))
			fprintf(stderr, "\rpair %lu of %lu ", i + 1, nr);
		if (run_pair(argv[0], pairs))
			return 1;
	}
	if (isatty(STDERR_FILENO))
		fprintf(stderr, "\r                    \r");
	print_table(pairs);
	return tap ? print_tap(pairs) : 0;
}
