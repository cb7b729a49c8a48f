/* SPDX-License-Identifier: GPL-2.0 */
/* What the benchmarks on this machine's own CPUs have in common. */
#ifndef EVERING_BENCH_SAMPLES_H
#define EVERING_BENCH_SAMPLES_H

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#define MAX_SAMPLES	1000U

/* Where the two CPUs are, told by what a bare loop takes. */
enum regime { NEAR, FAR, NR_REGIMES };
static const char * const regime_name[] = { "near", "far" };

/**
 * struct samples - of one regime
 * @nr:		how many
 * @ratio:	@ours by @theirs
 * @theirs:	nanoseconds of what the library is compared with
 * @ours:	of the library
 */
struct samples {
	unsigned int nr;
	double ratio[MAX_SAMPLES];
	double theirs[MAX_SAMPLES];
	double ours[MAX_SAMPLES];
};

static inline void add(struct samples *s, double ratio, double theirs,
		       double ours)
{
	if (s->nr == MAX_SAMPLES)
		return;
	s->ratio[s->nr] = ratio;
	s->theirs[s->nr] = theirs;
	s->ours[s->nr++] = ours;
}

static inline int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static inline double quantile(double *values, unsigned int nr, double q)
{
	qsort(values, nr, sizeof(*values), by_value);
	return values[(unsigned int)((nr - 1) * q + 0.5)];
}

static inline void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set)) {
		fprintf(stderr, "bench: two CPUs are needed\n");
		exit(1);
	}
}

#endif /* EVERING_BENCH_SAMPLES_H */
