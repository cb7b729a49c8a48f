// SPDX-License-Identifier: GPL-2.0
/*
 * The allocator of a channel's heap: what a pair of alloc and free costs, next to other
 * allocators that are given the same sizes in the same run, and whether a day of
 * random sizes ever finds no room.
 *
 * Samples of the allocators take turns.  What is allocated is not touched: the others
 * have their books in it and read it back, ours are apart.
 */
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"
#include "samples.h"

#define PAGE		4096UL
#define HEAP		(64UL << 20)
#define SAMPLES		51U
#define PAIRS		200000U		/* of a sample: a few milliseconds */
#define LIVE		4000U		/* blocks at a time, in the trace */
#define A_DAY		86400000UL	/* a thousand a second */
#define BAR_NS		30.0

static struct evering *heap_new(void)
{
	const struct evering_layout layout = {
		.geometry = {
			.entries = { 8, 8 },
			.slot_size = { 64, 64 },
			.heap_size = { HEAP, 0 },
		},
		.section_size = { PAGE, HEAP + PAGE, PAGE },
		.slots_offset = { sizeof(struct evering_control),
				  sizeof(struct evering_control) },
		.heap_offset = { PAGE, PAGE },
	};
	char *memory = mmap(NULL, HEAP + 3 * PAGE, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	const struct evr_memory sections = {
		.header = (void *)memory,
		.own = memory + PAGE,
		.peer = memory + HEAP + 2 * PAGE,
	};
	static const struct evr_backend none;
	struct evering *ep;

	if (memory == MAP_FAILED ||
	    evr_endpoint_new(EVERING_SIDE_A, &layout, &sections, &none, &ep)) {
		fprintf(stderr, "evr-bench-alloc: no memory\n");
		exit(2);
	}
	return ep;
}

/* An allocator: ours, or one that has malloc() and free(). */
struct allocator {
	const char *name;
	struct evering *ep;
	void *(*alloc)(size_t size);
	void (*free)(void *p);
	double ns[2][SAMPLES];	/* by the workload */
};

static inline void *get(const struct allocator *a, size_t size)
{
	void *p;

	if (!a->ep)
		return a->alloc(size);
	return evering_alloc(a->ep, size, &p) ? NULL : p;
}

static inline void put(const struct allocator *a, void *p)
{
	if (a->ep)
		evering_free(a->ep, p);
	else
		a->free(p);
}

static uint64_t random_number(uint64_t *seed)
{
	/* xorshift64: the same run for the same seed */
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

/* Most are small; one in sixteen is up to 64 KiB. */
static size_t random_size(uint64_t *seed)
{
	uint64_t r = random_number(seed);

	return 1 + (r >> 8) % (r & 15 ? 2048 : 65536);
}

static double now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static void die(const char *why)
{
	fprintf(stderr, "evr-bench-alloc: %s\n", why);
	exit(2);
}

/* One block at a time. */
static double pairs(const struct allocator *a)
{
	uint64_t seed = 1;
	double start = now_ns();
	unsigned int i;

	for (i = 0; i < PAIRS; i++) {
		void *p = get(a, random_size(&seed));

		if (!p)
			die("no room in an empty heap");
		put(a, p);
	}
	return (now_ns() - start) / PAIRS;
}

/* Many live at a time, and each goes at random. */
static double churn(const struct allocator *a)
{
	static void *live[LIVE];
	uint64_t seed = 2;
	double start = now_ns();
	unsigned int i;

	for (i = 0; i < PAIRS; i++) {
		void **slot = &live[random_number(&seed) % LIVE];

		if (*slot)
			put(a, *slot);
		*slot = get(a, random_size(&seed));
		if (!*slot)
			die("no room");
	}
	for (i = 0; i < LIVE; i++) {
		if (live[i])
			put(a, live[i]);
		live[i] = NULL;
	}
	return (now_ns() - start) / PAIRS;
}

/*
 * Blocks come and go until the heap is at @percent of its bytes, again and again, for
 * @steps steps.  Returns how often there was no room though so little was used.
 */
static unsigned long day(struct evering *ep, unsigned int percent,
			 unsigned long steps, unsigned long *used_most)
{
	static void *live[1 << 16];
	const uint64_t limit = HEAP / 100 * percent;
	uint64_t seed = 3, used = 0;
	unsigned long i, failed = 0;
	unsigned int nr = 0;

	*used_most = 0;
	for (i = 0; i < steps; i++) {
		size_t size = random_size(&seed);
		unsigned int which;

		if (nr < (1 << 16) && used + size + EVERING_GRANULE <= limit) {
			if (evering_alloc(ep, size, &live[nr])) {
				failed++;
				continue;
			}
			used += evering_block_size(ep, live[nr++]);
			if (used > *used_most)
				*used_most = used;
			continue;
		}
		which = (unsigned int)(random_number(&seed) % nr);
		used -= evering_block_size(ep, live[which]);
		evering_free(ep, live[which]);
		live[which] = live[--nr];
	}
	while (nr)
		evering_free(ep, live[--nr]);
	return failed;
}

/* jemalloc wants more thread-local memory than there is for what is loaded later. */
static void make_room_for_jemalloc(char **argv)
{
	if (getenv("GLIBC_TUNABLES"))
		return;
	if (!setenv("GLIBC_TUNABLES", "glibc.rtld.optional_static_tls=65536", 1))
		execv("/proc/self/exe", argv);
	/* Then there is none, and it is said below. */
}

static void usage(void)
{
	puts("usage: evr-bench-alloc [-t] [-d STEPS]\n"
	     "\n"
	     "Nanoseconds a pair of alloc and free, of random sizes, in a heap of 64 MiB:\n"
	     "one block at a time, and 4000 that live and go at random; next to malloc() of\n"
	     "the C library and of jemalloc (Debian's libjemalloc2), if there is one.\n"
	     "Then a day of random sizes, a thousand a second, at 80 of 100 of the heap.\n"
	     "\n"
	     "  -d STEPS  of the day (default 86400000)\n"
	     "  -t        judge: fail if a pair takes 30 ns or more, or the day ever finds\n"
	     "            no room");
}

int main(int argc, char **argv)
{
	struct allocator all[3] = {
		{ .name = "evering", .ep = heap_new() },
		{ .name = "malloc (glibc)", .alloc = malloc, .free = free },
	};
	unsigned long steps = A_DAY, failed, used_most;
	unsigned int nr = 2, i, k;
	bool judge = false;
	double start, pair;
	void *jemalloc;
	int c, ret = 0;

	while ((c = getopt(argc, argv, "td:h")) != -1) {
		switch (c) {
		case 't':
			judge = true;
			break;
		case 'd':
			steps = strtoul(optarg, NULL, 0);
			break;
		case 'h':
			usage();
			return 0;
		default:
			usage();
			return 2;
		}
	}
	make_room_for_jemalloc(argv);
	jemalloc = dlopen("libjemalloc.so.2", RTLD_NOW | RTLD_LOCAL);
	if (jemalloc) {
		all[nr].name = "jemalloc";
		*(void **)&all[nr].alloc = dlsym(jemalloc, "malloc");
		*(void **)&all[nr].free = dlsym(jemalloc, "free");
		nr++;
	} else {
		printf("no jemalloc here: %s\n", dlerror());
	}
	for (k = 0; k < SAMPLES; k++)
		for (i = 0; i < nr; i++) {
			all[i].ns[0][k] = pairs(&all[i]);
			all[i].ns[1][k] = churn(&all[i]);
		}
	printf("%-16s %18s %18s\n", "ns a pair", "one at a time", "4000 live");
	for (i = 0; i < nr; i++)
		printf("%-16s %18.1f %18.1f\n", all[i].name,
		       quantile(all[i].ns[0], SAMPLES, 0.5),
		       quantile(all[i].ns[1], SAMPLES, 0.5));
	pair = quantile(all[0].ns[0], SAMPLES, 0.5);
	if (judge && pair >= BAR_NS) {
		printf("FAILED a pair takes %.1f ns, not less than %.0f\n", pair,
		       BAR_NS);
		ret = 1;
	}

	start = now_ns();
	failed = day(all[0].ep, 80, steps, &used_most);
	printf("%lu steps at up to %lu of %lu KiB: no room %lu times; %.1f ns each\n",
	       steps, used_most >> 10, HEAP >> 10, failed,
	       (now_ns() - start) / (double)steps);
	if (judge && failed) {
		printf("FAILED there was room\n");
		ret = 1;
	}
	return ret;
}
