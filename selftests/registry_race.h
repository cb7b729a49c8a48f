/* SPDX-License-Identifier: GPL-2.0 */
/* What the races around the registry share. */
#ifndef REGISTRY_RACE_H
#define REGISTRY_RACE_H

#include "registry_stress.h"

#define SECONDS		3
#define SLOTS		64	/* of rounds that somebody may still be in */
#define WORKERS		3

/* What all sides of a race share. */
static struct race {
	bool stop;
	unsigned int round;
	uint64_t token[SLOTS];		/* by round */
	uint64_t gone;			/* the last one that is certainly gone */
	unsigned int arrived;
	unsigned int worked, refused, not_found;
	int result[WORKERS + 1];
} *race;

static struct registry reg;

/* Around every race: nothing is left of it. */
FIXTURE(race)
{
	struct counters before;
	unsigned long long refs;
	pid_t pid[WORKERS];
	uint32_t seed;
	uint64_t end;
};

FIXTURE_SETUP(race)
{
	race = shared_new(sizeof(*race));
	ASSERT_NE(NULL, race);
	ASSERT_EQ(0, registry_map(&reg));
	self->before = count();
	self->refs = read_number(REFCNT);
	self->seed = rnd_seed(1);
	self->end = now_ns() + SECONDS * 1000 * MS;
}

FIXTURE_TEARDOWN(race)
{
	EXPECT_TRUE(settles(&self->before));
	EXPECT_EQ(0, reg.header->active_count);
}

static inline bool going(struct _test_data_race *self)
{
	return now_ns() < self->end;
}

static inline void start(struct _test_data_race *self, void (*worker)(int me))
{
	int i;

	for (i = 0; i < WORKERS; i++) {
		self->pid[i] = spawn();
		if (self->pid[i])
			continue;
		worker(i);
		_exit(0);
	}
}

/* How many of them have found something wrong. */
static inline int stop(struct _test_data_race *self)
{
	int i, bad = 0;

	STORE(race->stop, true);
	for (i = 0; i < WORKERS; i++)
		bad += reap(self->pid[i]) != 0;
	return bad;
}

static QUIET const char *round_name(unsigned int round, char *name)
{
	snprintf(name, 32, "race.%u", round);
	return name;
}

/* A buffer with a name, for everybody to find.  The fd, or -errno. */
static inline int offer(unsigned int round, uint64_t *token)
{
	char name[32];
	int fd = do_create(reg.control, EVERING_KIND_BUFFER, round_name(round, name), token);

	STORE(race->token[round % SLOTS], *token);
	STORE(race->round, round);
	return fd;
}

/* It can be mapped, written and asked, and the registry knows of it. */
static inline void must_work_in(const struct registry *r, int fd, uint64_t token,
				const struct evering_layout *layout, uint32_t state)
{
	struct evering_info info = { .size = sizeof(info) };
	struct evering_registry_entry entry;
	struct evering_header *header;
	char *own;

	header = map_section(fd, layout, EVERING_SECTION_HEADER, PROT_READ);
	own = map_section(fd, layout, EVERING_SECTION_A, RW);
	MUST(header != MAP_FAILED && own != MAP_FAILED);
	MUST(header->token == token);
	MUST(LOAD(header->side[0].state) == EVERING_STATE_OPEN);
	own[layout->heap_offset[0]] = 1;
	MUST(!call(fd, EVERING_IOC_INFO, &info));
	MUST(info.token == token && info.kind == EVERING_KIND_BUFFER);
	MUST(snapshot(r, EVERING_TOKEN_INDEX(token), &entry, NULL));
	MUST(entry.token == token);
	MUST(entry.side[0].endpoints >= 1);
	MUST(entry.ref_count == entry.side[0].endpoints + entry.side[1].endpoints);
	MUST(entry.state >= EVERING_ENTRY_ACTIVE && entry.state <= state);
	munmap(header, layout->section_size[EVERING_SECTION_HEADER]);
	munmap(own, layout->section_size[EVERING_SECTION_A]);
}

static inline void must_work(int fd, uint64_t token, const struct evering_layout *layout,
			     uint32_t state)
{
	must_work_in(&reg, fd, token, layout, state);
}

/* Returns when all @nr have come here @times times, or it is over. */
static inline void meet(unsigned int nr, unsigned int times)
{
	__atomic_add_fetch(&race->arrived, 1, __ATOMIC_ACQ_REL);
	while (LOAD(race->arrived) < nr * times && !LOAD(race->stop))
		sched_yield();
}

#endif /* REGISTRY_RACE_H */
