// SPDX-License-Identifier: GPL-2.0
/*
 * The library's rings against DPDK's rte_ring, between processes, in shared
 * memory of the same size: lib/multi.h against MP/MC, lib/ring.h against SP/SC.
 *
 * rte_ring keeps elements of 64 bytes.  A slot of 64 bytes here carries 8 of
 * stamp and 56 of payload, so there is a second row with 64 bytes of payload in
 * slots of 128.  Both sides copy from and to the program's memory.  Ours do what
 * lib/queue.c and lib/exchange.h do besides: a look whether the peer still takes
 * anything, and for each batch a full barrier and a look at who sleeps.
 *
 * Each sample starts its processes anew, since two that poll each other fall into
 * step in one way or another for as long as they live.  Each sample of ours
 * stands between two of rte_ring, and what counts is the ratio; where the CPUs
 * are is asked before and after (see spin.c).
 */
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "rings.h"
#include "samples.h"

#define MAX_BATCH	32U
#define MAX_WORKERS	4U
#define WARM_US		1000U
#define PROBE_US	400U
#define NEAR_NS		140.0	/* less than this for a word there and back is near */
#define MIN_ROUNDS	5U	/* for a regime to be judged */

/**
 * struct progress - of one worker; on a line of its own
 * @arrived:	may be started
 * @ended:	has sent all that it sends
 * @count:	items passed on, or round trips
 * @cpu:	nanoseconds that it ran
 * @wall:	nanoseconds from go to its end
 */
struct progress {
	uint32_t arrived;
	uint32_t ended;
	uint64_t count;
	uint64_t cpu;
	uint64_t wall;
} __attribute__((aligned(128)));

struct shared {
	union any_ring ring[2];
	uint32_t go __attribute__((aligned(128)));
	uint32_t stop __attribute__((aligned(128)));
	struct progress progress[MAX_WORKERS];
};

static struct shared *s;

/**
 * struct workload - what the processes do
 * @name:	for people
 * @producers:	and as many consumers; 0: a round trip between two
 * @batch:	items that are passed on at a time
 * @us:		a sample
 */
struct workload {
	const char *name;
	unsigned int producers;
	unsigned int batch;
	unsigned int us;
};

static __attribute__((noreturn, format(printf, 1, 2)))
void die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fprintf(stderr, "evr-bench-queue: ");
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, "\n");
	exit(1);
}

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000000U + (uint64_t)ts.tv_nsec;
}

/* ------------------------------------------------------------------- workers */

static ALWAYS_INLINE void item_fill(struct item *item, unsigned int producer,
				    uint64_t number)
{
	item->number = number;
	item->producer = producer;
	item->check56 = ~number;
	item->check64 = number + producer;
}

/* Is @item whole, and what its producer has sent? */
static ALWAYS_INLINE void item_check(const struct item *item, enum kind kind)
{
	if (kind == WORD)
		return;
	if (unlikely(item->check56 != ~item->number ||
		     item->producer >= MAX_WORKERS))
		abort();
	if (kind != MULTI_56 && kind != SINGLE_56 &&
	    unlikely(item->check64 != item->number + item->producer))
		abort();
}

/* Nothing to do: spin where the CPU is ours, else let another run. */
static ALWAYS_INLINE void idle(bool crowded)
{
	if (crowded)
		sched_yield();
	else
		cpu_relax();
}

static ALWAYS_INLINE void produce(struct end *e, enum kind kind,
				  unsigned int batch, unsigned int index,
				  bool crowded)
{
	struct progress *progress = &s->progress[index];
	struct item items[MAX_BATCH] = { 0 };
	uint64_t number = 0;
	unsigned int i, n;

	while (!load_once(&s->stop)) {
		for (i = 0; i < batch; i++)
			item_fill(&items[i], index, number + i);
		while (!(n = push(e, kind, items, batch)) && !load_once(&s->stop))
			idle(crowded);
		number += n;
	}
	progress->count = number;
	store_release(&progress->ended, 1);
}

static bool producers_ended(unsigned int producers)
{
	unsigned int i;

	for (i = 0; i < producers; i++)
		if (!load_acquire(&s->progress[i].ended))
			return false;
	return true;
}

static ALWAYS_INLINE void consume(struct end *e, enum kind kind,
				  unsigned int batch, unsigned int index,
				  unsigned int producers, bool crowded)
{
	struct progress *progress = &s->progress[index];
	uint64_t next[MAX_WORKERS] = { 0 }, count = 0;
	struct item items[MAX_BATCH];
	unsigned int i, n;

	for (;;) {
		bool ended = unlikely(load_once(&s->stop)) &&
			     producers_ended(producers);

		n = pop(e, kind, items, batch);
		if (!n) {
			if (ended)
				return;
			idle(crowded);
			continue;
		}
		for (i = 0; i < n; i++) {
			const struct item *item = popped(e, kind, items, i);

			item_check(item, kind);
			/* All of a producer's, where nobody else takes them. */
			if (unlikely(crowded ?
				     item->number < next[item->producer] :
				     item->number != next[item->producer]))
				abort();
			next[item->producer] = item->number + 1;
		}
		seen(e, kind, n);
		count += n;
		store_once(&progress->count, count);
	}
}

/* One message is in flight, in @e[0] to the server or in @e[1] from it. */
static ALWAYS_INLINE void call(struct end *e, enum kind kind)
{
	struct item item = { 0 };
	const struct item *reply;
	uint64_t number = 0;

	while (!load_once(&s->stop)) {
		item_fill(&item, 0, number);
		while (!push(&e[0], kind, &item, 1))
			cpu_relax();
		while (!pop(&e[1], kind, &item, 1))
			cpu_relax();
		reply = popped(&e[1], kind, &item, 0);
		item_check(reply, kind);
		if (kind != WORD && reply->number != number)
			abort();
		number++;
		seen(&e[1], kind, 1);
		store_once(&s->progress[0].count, number);
	}
	store_release(&s->progress[0].ended, 1);
}

static ALWAYS_INLINE void serve(struct end *e, enum kind kind)
{
	struct item item = { 0 };
	const struct item *request;

	for (;;) {
		while (!pop(&e[0], kind, &item, 1)) {
			if (unlikely(load_acquire(&s->progress[0].ended)))
				return;
			cpu_relax();
		}
		request = popped(&e[0], kind, &item, 0);
		while (!push(&e[1], kind, request, 1))
			cpu_relax();
		seen(&e[0], kind, 1);
	}
}

static ALWAYS_INLINE void work(struct end *e, enum kind kind,
			       const struct workload *w, unsigned int index)
{
	if (!w->producers || kind == WORD) {
		if (index)
			serve(e, kind);
		else
			call(e, kind);
	} else if (w->producers > 1) {
		if (index < w->producers)
			produce(e, kind, w->batch, index, true);
		else
			consume(e, kind, w->batch, index, w->producers, true);
	} else if (index) {
		consume(e, kind, w->batch, index, 1, false);
	} else {
		produce(e, kind, w->batch, index, false);
	}
}

/* A loop of its own for each kind: neither pays for the choice. */
#define WORK(kind) \
	static void work_##kind(struct end *e, const struct workload *w, \
				unsigned int index) \
	{ \
		work(e, kind, w, index); \
	}

WORK(MULTI_56)
WORK(MULTI_64)
WORK(SINGLE_56)
WORK(SINGLE_64)
WORK(RTE_MPMC)
WORK(RTE_RTS)
WORK(RTE_HTS)
WORK(RTE_SPSC)
WORK(WORD)

static void (*const work_of[])(struct end *e, const struct workload *w,
			       unsigned int index) = {
	[MULTI_56] = work_MULTI_56,
	[MULTI_64] = work_MULTI_64,
	[SINGLE_56] = work_SINGLE_56,
	[SINGLE_64] = work_SINGLE_64,
	[RTE_MPMC] = work_RTE_MPMC,
	[RTE_RTS] = work_RTE_RTS,
	[RTE_HTS] = work_RTE_HTS,
	[RTE_SPSC] = work_RTE_SPSC,
	[WORD] = work_WORD,
};

static __attribute__((noreturn)) void worker(enum kind kind,
					     const struct workload *w,
					     unsigned int index)
{
	struct progress *progress = &s->progress[index];
	struct end e[2];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* A ring that has lost something makes somebody wait for ever. */
	alarm(20);
	/* Each CPU gets as many producers as consumers, or one of both. */
	pin((int)(index % 2 ^ (w->producers > 1 && index >= 2)));
	end_init(&e[0], &s->ring[0], kind, index + 1);
	end_init(&e[1], &s->ring[1], kind, index + 1);
	store_release(&progress->arrived, 1);
	while (!load_acquire(&s->go))
		idle(w->producers > 1);
	progress->cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
	progress->wall = clock_ns(CLOCK_MONOTONIC);
	work_of[kind](e, w, index);
	progress->cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - progress->cpu;
	progress->wall = clock_ns(CLOCK_MONOTONIC) - progress->wall;
	_exit(0);
}

/* -------------------------------------------------------------- measurement */

static uint64_t passed(const struct workload *w, unsigned int workers)
{
	uint64_t count = 0;
	unsigned int i;

	for (i = w->producers; i < workers; i++)
		count += load_once(&s->progress[i].count);
	return count;
}

/* Had the workers the two CPUs for themselves, but for what they cannot help? */
static bool undisturbed(unsigned int workers)
{
	uint64_t cpu = 0, wall = 0;
	unsigned int i;

	for (i = 0; i < workers; i++) {
		cpu += s->progress[i].cpu;
		if (wall < s->progress[i].wall)
			wall = s->progress[i].wall;
	}
	return (double)cpu >= 0.9 * 2 * (double)wall;
}

/* Nanoseconds an item, or a round trip; infinite where something interfered. */
static double sample(enum kind kind, const struct workload *w)
{
	unsigned int i, workers = w->producers ? w->producers * 2 : 2;
	uint64_t start, end, before, after, sent = 0;
	pid_t pids[MAX_WORKERS];
	int status;

	ring_init(&s->ring[0], kind);
	ring_init(&s->ring[1], kind);
	memset(s->progress, 0, sizeof(s->progress));
	s->go = 0;
	s->stop = 0;
	for (i = 0; i < workers; i++) {
		pids[i] = fork();
		if (pids[i] < 0)
			die("fork: %s", strerror(errno));
		if (!pids[i])
			worker(kind, w, i);
	}
	for (i = 0; i < workers; i++)
		while (!load_acquire(&s->progress[i].arrived))
			usleep(20);
	store_release(&s->go, 1);
	usleep(WARM_US);
	before = passed(w, workers);
	start = clock_ns(CLOCK_MONOTONIC);
	usleep(w->us);
	after = passed(w, workers);
	end = clock_ns(CLOCK_MONOTONIC);
	store_release(&s->stop, 1);
	for (i = 0; i < workers; i++)
		if (waitpid(pids[i], &status, 0) != pids[i] || status)
			die("%s, %s: worker %u ended with %#x: a message is lost, torn or out of order",
			    kind_name[kind], w->name, i, (unsigned int)status);
	for (i = 0; i < w->producers; i++)
		sent += s->progress[i].count;
	if (w->producers && sent != passed(w, workers))
		die("%s, %s: not all that was sent has arrived",
		    kind_name[kind], w->name);
	if (!undisturbed(workers))
		return INFINITY;
	return (double)(end - start) / (double)(after - before);
}

static const struct workload probe = { "probe", 0, 1, PROBE_US };
static const struct workload bulk1 = { "bulk 1", 1, 1, 3000 };
static const struct workload bulk8 = { "bulk 8", 1, 8, 3000 };
static const struct workload bulk32 = { "bulk 32", 1, 32, 3000 };
static const struct workload round_trip = { "round trip", 0, 1, 3000 };
static const struct workload crowd1 = { "2 and 2, bulk 1", 2, 1, 60000 };
static const struct workload crowd8 = { "2 and 2, bulk 8", 2, 8, 60000 };

/**
 * struct row - one comparison
 * @ours:	kind of ring
 * @theirs:	kind of ring
 * @workload:	for both
 * @bar:	most of @theirs that @ours may take, or 0: not judged
 * @others:	sync modes of rte_ring besides; the best of them all counts
 */
struct row {
	enum kind ours, theirs;
	const struct workload *workload;
	double bar;
	bool others;
};

static const struct row rows[] = {
	{ MULTI_56, RTE_MPMC, &bulk1, 1.0, false },
	{ MULTI_56, RTE_MPMC, &bulk8, 0.85, false },
	{ MULTI_56, RTE_MPMC, &bulk32, 0.85, false },
	{ MULTI_56, RTE_MPMC, &round_trip, 0.75, false },
	{ MULTI_64, RTE_MPMC, &bulk1, 0, false },
	{ MULTI_64, RTE_MPMC, &bulk8, 0, false },
	{ MULTI_64, RTE_MPMC, &bulk32, 0, false },
	{ MULTI_64, RTE_MPMC, &round_trip, 0, false },
	{ SINGLE_56, RTE_SPSC, &bulk1, 0.8, false },
	{ SINGLE_56, RTE_SPSC, &bulk8, 0, false },
	{ SINGLE_56, RTE_SPSC, &bulk32, 1.1, false },
	{ SINGLE_56, RTE_SPSC, &round_trip, 0.8, false },
	{ SINGLE_64, RTE_SPSC, &bulk1, 0, false },
	{ SINGLE_64, RTE_SPSC, &bulk8, 0, false },
	{ SINGLE_64, RTE_SPSC, &bulk32, 0, false },
	{ SINGLE_64, RTE_SPSC, &round_trip, 0, false },
	{ MULTI_56, RTE_MPMC, &crowd1, 1.3, true },
	{ MULTI_56, RTE_MPMC, &crowd8, 1.3, true },
};

#define NR_ROWS	(sizeof(rows) / sizeof(*rows))

static struct samples results[NR_ROWS][NR_REGIMES];
static unsigned int dropped;

static double least(double a, double b)
{
	return a < b ? a : b;
}

/* NR_REGIMES where something interfered. */
static enum regime where(void)
{
	double ns = sample(WORD, &probe);

	if (!isfinite(ns))
		return NR_REGIMES;
	return ns < NEAR_NS ? NEAR : FAR;
}

/* In fresh memory: where its pages are is part of what varies. */
static void measure(unsigned int i)
{
	const struct row *row = &rows[i];
	enum regime regime;
	double theirs, ours;

	s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (s == MAP_FAILED)
		die("mmap: %s", strerror(errno));
	regime = where();
	if (row->others) {
		ours = sample(row->ours, row->workload);
		theirs = sample(row->theirs, row->workload);
		theirs = least(theirs, sample(RTE_RTS, row->workload));
		theirs = least(theirs, sample(RTE_HTS, row->workload));
	} else {
		theirs = sample(row->theirs, row->workload);
		ours = sample(row->ours, row->workload);
		theirs = (theirs + sample(row->theirs, row->workload)) / 2;
	}
	if (where() != regime || regime == NR_REGIMES || !isfinite(ours) || !isfinite(theirs))
		dropped++;
	else
		add(&results[i][regime], ours / theirs, theirs, ours);
	munmap(s, sizeof(*s));
}

static void print_table(void)
{
	unsigned int i, j;

	printf("ns an item or a round trip between processes, %u slots: 56 B (slots of 64 B) or 64 B\n"
	       "(slots of 128 B) of ours, 64 B of rte_ring; medians, and of the ratio all quarters\n"
	       "  %-11s %-6s %-15s %-4s %4s %8s %8s   %s\n", ENTRIES, "ours",
	       "theirs", "workload", "CPUs", "nr", "theirs", "ours",
	       "ours by theirs");
	for (i = 0; i < NR_ROWS; i++) {
		for (j = 0; j < NR_REGIMES; j++) {
			struct samples *r = &results[i][j];

			if (!r->nr)
				continue;
			printf("  %-11s %-6s %-15s %-4s %4u %8.1f %8.1f   %.2f [%.2f %.2f %.2f] %.2f\n",
			       kind_name[rows[i].ours],
			       rows[i].others ? "best" : kind_name[rows[i].theirs],
			       rows[i].workload->name, regime_name[j], r->nr,
			       quantile(r->theirs, r->nr, 0.5),
			       quantile(r->ours, r->nr, 0.5),
			       quantile(r->ratio, r->nr, 0),
			       quantile(r->ratio, r->nr, 0.25),
			       quantile(r->ratio, r->nr, 0.5),
			       quantile(r->ratio, r->nr, 0.75),
			       quantile(r->ratio, r->nr, 1));
		}
	}
	printf("  %u dropped: something else had a CPU, or the CPUs moved\n", dropped);
}

static int print_tap(void)
{
	unsigned int i, j, nr = 0, test = 0;
	int failed = 0;

	for (i = 0; i < NR_ROWS; i++)
		nr += rows[i].bar > 0 ? NR_REGIMES : 0;
	printf("1..%u\n", nr);
	for (i = 0; i < NR_ROWS; i++) {
		for (j = 0; rows[i].bar > 0 && j < NR_REGIMES; j++) {
			struct samples *r = &results[i][j];
			double ratio;

			if (r->nr < MIN_ROUNDS) {
				printf("ok %u # SKIP %s, %s, %s: only %u rounds ran in that regime\n",
				       ++test, kind_name[rows[i].ours],
				       rows[i].workload->name, regime_name[j],
				       r->nr);
				continue;
			}
			ratio = quantile(r->ratio, r->nr, 0.5);
			failed |= ratio > rows[i].bar;
			printf("%sok %u %s, %s, %s: %.3f of rte_ring's %s, at most %.2f\n",
			       ratio <= rows[i].bar ? "" : "not ", ++test,
			       kind_name[rows[i].ours], rows[i].workload->name,
			       regime_name[j], ratio,
			       rows[i].others ? "best" : kind_name[rows[i].theirs],
			       rows[i].bar);
		}
	}
	return failed;
}

static void usage(FILE *to)
{
	fprintf(to,
		"usage: evr-bench-queue [-r ROUNDS] [-o ROW]... [-t]\n"
		"\n"
		"The library's rings against DPDK's rte_ring, between processes in shared memory.\n"
		"Nothing else should run meanwhile.\n"
		"\n"
		"  -r ROUNDS  to measure (default 25)\n"
		"  -o ROW     only these rows of the table, from 0\n"
		"  -t         judge in TAP\n");
}

int main(int argc, char **argv)
{
	bool only[NR_ROWS] = { 0 }, all = true, tap = false;
	unsigned long rounds = 25, round, row;
	unsigned int i;
	int opt;

	while ((opt = getopt(argc, argv, "r:o:th")) != -1) {
		switch (opt) {
		case 'r':
			rounds = strtoul(optarg, NULL, 0);
			break;
		case 'o':
			row = strtoul(optarg, NULL, 0);
			if (row >= NR_ROWS) {
				usage(stderr);
				return 2;
			}
			only[row] = true;
			all = false;
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
	if (!rounds || rounds > MAX_SAMPLES) {
		usage(stderr);
		return 2;
	}
	for (round = 0; round < rounds; round++) {
		if (isatty(STDERR_FILENO))
			fprintf(stderr, "\rround %lu of %lu ", round + 1, rounds);
		for (i = 0; i < NR_ROWS; i++)
			if (all || only[i])
				measure(i);
	}
	if (isatty(STDERR_FILENO))
		fprintf(stderr, "\r                    \r");
	print_table();
	return tap ? print_tap() : 0;
}
