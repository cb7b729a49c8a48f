// SPDX-License-Identifier: GPL-2.0
/*
 * A round trip of 64 bytes between two spinning processes over shared memory:
 * the library's calls against the same protocol in a bare loop.
 *
 * Virtual CPUs wander between sharing a core and sitting far apart, and every
 * figure with them.  So each sample of the library stands between two of the
 * bare loop and counts only where these two agree; what is reported is the
 * ratio, pair by pair.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"

#define ENTRIES	128U
#define ROUNDS	20000U		/* a sample: a few milliseconds */
#define PAGE	4096UL

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

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set)) {
		fprintf(stderr, "evr-bench-spin: two CPUs are needed\n");
		exit(1);
	}
}

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

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void usage(FILE *to)
{
	fprintf(to,
		"usage: evr-bench-spin [-s SECONDS] [-t]\n"
		"\n"
		"A 64-byte round trip between two spinning processes, the library against the\n"
		"same protocol in a bare loop.  Nothing else should run meanwhile.\n"
		"\n"
		"  -s SECONDS  to measure (default 10)\n"
		"  -t          judge in TAP: a ratio of at most 1.10\n");
}

int main(int argc, char **argv)
{
	double *ratio, *bare, *lib;
	unsigned int kept = 0, tried = 0, seconds = 10, most;
	struct bare b = { 0 };
	struct evering *ep;
	struct shared *s;
	bool tap = false;
	uint64_t end;
	int opt, i;
	pid_t pid;

	while ((opt = getopt(argc, argv, "s:th")) != -1) {
		switch (opt) {
		case 's':
			seconds = (unsigned int)strtoul(optarg, NULL, 0);
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
	if (!seconds || seconds > 3600) {
		usage(stderr);
		return 2;
	}

	s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	most = seconds * 2000;
	ratio = calloc(3 * most, sizeof(double));
	if (s == MAP_FAILED || !ratio) {
		perror("evr-bench-spin");
		return 1;
	}
	bare = ratio + most;
	lib = bare + most;
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

	for (i = 0; i < 10; i++) {
		sample(s, ep, &b, BARE);
		sample(s, ep, &b, LIBRARY);
	}
	end = evr_now() + seconds * 1000000000ULL;
	while (evr_now() < end && kept < most) {
		double before = sample(s, ep, &b, BARE);
		double l = sample(s, ep, &b, LIBRARY);
		double after = sample(s, ep, &b, BARE);

		tried++;
		if (after > before * 1.1 || before > after * 1.1)
			continue;
		bare[kept] = (before + after) / 2;
		lib[kept] = l;
		ratio[kept++] = l / ((before + after) / 2);
	}
	store_release(&s->mode, QUIT);
	waitpid(pid, NULL, 0);

	qsort(ratio, kept, sizeof(double), by_value);
	qsort(bare, kept, sizeof(double), by_value);
	qsort(lib, kept, sizeof(double), by_value);
	if (kept) {
		printf("64 B there and back, two spinning processes, %u of %u samples in a steady regime\n",
		       kept, tried);
		printf("  %-12s %8s %8s %8s\n", "", "quarter", "median", "3/4");
		printf("  %-12s %8.1f %8.1f %8.1f ns\n", "bare loop", bare[kept / 4],
		       bare[kept / 2], bare[kept * 3 / 4]);
		printf("  %-12s %8.1f %8.1f %8.1f ns\n", "library", lib[kept / 4],
		       lib[kept / 2], lib[kept * 3 / 4]);
		printf("  %-12s %8.3f %8.3f %8.3f\n", "ratio", ratio[kept / 4],
		       ratio[kept / 2], ratio[kept * 3 / 4]);
	}
	if (tap) {
		printf("1..1\n");
		if (kept < 9)
			printf("ok 1 # SKIP only %u of %u samples in a steady regime\n",
			       kept, tried);
		else
			printf("%sok 1 the library's round trip is %.3f of a bare loop's, at most 1.10\n",
			       ratio[kept / 2] <= 1.10 ? "" : "not ", ratio[kept / 2]);
	}
	return 0;
}
