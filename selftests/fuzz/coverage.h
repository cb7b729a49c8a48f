/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What of the module a thread runs, by KCOV: where the kernel has it, and the module
 * is built for it.
 */
#ifndef FUZZ_COVERAGE_H
#define FUZZ_COVERAGE_H

#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <linux/kcov.h>

#define KCOV_FILE	"/sys/kernel/debug/kcov"
#define KCOV_WORDS	(1UL << 16)
#define EDGES		(1U << 16)

/**
 * struct coverage - what all programs so far have run; shared by all processes
 * @edges:	by a hash of two places that follow each other: was it seen?
 * @nr_edges:	how many were
 * @lost:	steps that ran more places than there is room for
 */
struct coverage {
	uint8_t edges[EDGES];
	uint32_t nr_edges;
	uint32_t lost;
};

/* The places that this thread has run: their number, and then they. */
static __thread uint64_t *trace;

static inline bool coverage_here(void)
{
	return !access(KCOV_FILE, R_OK | W_OK);
}

/* Of the calling thread, from now on; without KCOV, nothing. */
static inline void coverage_start(void)
{
	int fd = open(KCOV_FILE, O_RDWR | O_CLOEXEC);
	void *map;

	trace = NULL;
	if (fd < 0)
		return;
	if (!ioctl(fd, KCOV_INIT_TRACE, KCOV_WORDS)) {
		map = mmap(NULL, KCOV_WORDS * sizeof(uint64_t), PROT_READ | PROT_WRITE,
			   MAP_SHARED, fd, 0);
		if (map != MAP_FAILED && !ioctl(fd, KCOV_ENABLE, KCOV_TRACE_PC))
			trace = map;
	}
	/* KCOV stays on until the thread ends. */
	close(fd);
}

static inline void coverage_begin_step(void)
{
	if (trace)
		__atomic_store_n(&trace[0], 0, __ATOMIC_RELAXED);
}

static inline void coverage_end_step(struct coverage *c)
{
	uint64_t n, i, place, before = 0;

	if (!trace)
		return;
	n = __atomic_load_n(&trace[0], __ATOMIC_RELAXED);
	if (n >= KCOV_WORDS - 1)
		__atomic_fetch_add(&c->lost, 1, __ATOMIC_RELAXED);
	for (i = 1; i <= n; i++) {
		place = trace[i] * 0x9e3779b97f4a7c15ULL >> 40;
		if (!__atomic_exchange_n(&c->edges[(place ^ before) % EDGES], 1,
					 __ATOMIC_RELAXED))
			__atomic_fetch_add(&c->nr_edges, 1, __ATOMIC_RELAXED);
		before = place >> 1;
	}
}

#endif /* FUZZ_COVERAGE_H */
