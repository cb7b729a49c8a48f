/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the steps of a program work on, descriptors and mappings, and how a byte chooses
 * one, or a value.
 */
#ifndef FUZZ_PLACES_H
#define FUZZ_PLACES_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <linux/evering.h>

#define DEVICE		"/dev/evering"
#define PAGE		4096UL
#define NR_FDS		12
#define NR_MAPS		12
#define NR_BYTES	6
#define MOST_PROCESSES	4	/* of a program */

struct step {
	uint8_t op;
	uint8_t thread;
	uint8_t byte[NR_BYTES];
};

enum fd_kind { NONE, CONTROL, SERVICE, ENDPOINT };

/*
 * All threads of a process race for these, which is what they are for.  The kind is
 * a hint.
 */
struct place {
	int fd;
	enum fd_kind kind;
	struct evering_layout layout;
	uint64_t token;
};

struct mapping {
	char *start;
	size_t bytes;
	bool writable;
};

static struct place places[NR_FDS];
static struct mapping maps[NR_MAPS];
static int epoll_fd = -1;
static int post[2];		/* where descriptors are passed */

/* Shared by all processes of a program. */
struct common {
	uint32_t processes;
	uint32_t bad_errno;	/* one that the module should not give */
	uint32_t bad_op;
};

static struct common *common;

/* -------------------------------------------------------------------- choices */

/* The last has no end. */
static void fuzz_name(char name[EVERING_NAME_MAX + 1], uint8_t byte)
{
	/* Mostly one that is there, or will be: who listens and who connects must meet. */
	static const char * const names[] = {
		"fuzz", "fuzz", "fuzz.b", "", "fuzz", "no name", "\x7f",
	};

	if (byte >> 5 == 7)
		memset(name, 'n', EVERING_NAME_MAX + 1);
	else
		snprintf(name, EVERING_NAME_MAX + 1, "%s", names[byte >> 5]);
}

static const struct evering_geometry geometries[] = {
	/* by kind */
	{ { 8, 16 }, { 64, 64 }, { 8192, 4096 } },
	{ { 64, 0 }, { 64, 0 }, { 0, 0 } },
	{ { 8, 0 }, { 128, 0 }, { 4096, 0 } },
	{ { 0, 0 }, { 0, 0 }, { 12288, 0 } },
	{ { 64, 64 }, { 64, 128 }, { 0, 0 } },
	{ { 128, 64 }, { 64, 64 }, { 4096, 0 } },
	{ { 1, 1 }, { 64, 4096 }, { 0, 0 } },
	{ { 65536, 65536 }, { 4096, 4096 }, { 0, 0 } },
	{ { 3, 8 }, { 64, 64 }, { 0, 0 } },
	{ { 8, 8 }, { 32, 64 }, { 0, 0 } },
	{ { 8, 8 }, { 64, 64 }, { 4097, ~0ULL } },
	{ { 8, 8 }, { 64, 64 }, { 1ULL << 63, 1ULL << 63 } },
	{ { 0, 0 }, { 0, 0 }, { 0, 0 } },
	{ { 1U << 31, 8 }, { 64, 1U << 31 }, { 0, 0 } },
};

#define PICK(table, byte)	((table)[(byte) % (sizeof(table) / sizeof((table)[0]))])

static inline uint64_t fuzz_clock(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000U + (uint64_t)ts.tv_nsec;
}

/* Mostly soon, sometimes past, rarely never. */
static inline uint64_t fuzz_deadline(uint8_t byte)
{
	if (byte == 0xff)
		return EVERING_NO_DEADLINE;
	return fuzz_clock() + byte % 4 * 1000000U;
}

/* One of @kind, from place @byte on; the high bit: whatever is there. */
static struct place *find_fd(enum fd_kind kind, uint8_t byte)
{
	unsigned int i;

	for (i = 0; i < NR_FDS; i++) {
		struct place *p = &places[(byte + i) % NR_FDS];

		if (byte & 0x80 || (p->fd >= 0 && p->kind == kind))
			return p;
	}
	return &places[byte % NR_FDS];
}

static struct mapping *find_map(bool writable, uint8_t byte)
{
	unsigned int i;

	for (i = 0; i < NR_MAPS; i++) {
		struct mapping *m = &maps[(byte + i) % NR_MAPS];

		if (m->start && (m->writable || !writable))
			return m;
	}
	return &maps[byte % NR_MAPS];
}

static void keep_fd(int fd, enum fd_kind kind, uint8_t byte,
		    const struct evering_layout *layout, uint64_t token)
{
	struct place *p = &places[byte % NR_FDS];

	if (fd < 0)
		return;
	if (p->fd >= 0)
		close(p->fd);
	p->fd = fd;
	p->kind = kind;
	p->token = token;
	if (layout)
		p->layout = *layout;
}

/* Nearly right, near right, or anything. */
static uint64_t fuzz_word(uint8_t byte, uint8_t more)
{
	static const uint64_t extreme[] = {
		0, 1, ~0ULL, ~0ULL - 1, 1ULL << 31, 1ULL << 32, 1ULL << 63, 255, 65536,
	};

	switch (byte >> 6) {
	case 0:
		return PICK(extreme, byte);
	case 1:
		return more % 80;
	case 2:
		return evering_word(1 + more % 3, 1U + (byte & 15) * 17U, more >> 4,
				    more & 3);
	default:
		return (uint64_t)byte * 0x9e3779b97f4a7c15ULL + more;
	}
}

#endif /* FUZZ_PLACES_H */
