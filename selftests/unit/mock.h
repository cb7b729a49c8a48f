/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A kernel in user space, so that library and ring code run on the host under
 * the sanitizers: two endpoints over shared memory, and an ENTER that does
 * what kmod/wait.c does with a mutex and a condition variable.
 *
 * The sections are mapped as the module maps them, the peer's read-only, each
 * between inaccessible pages: a stray access faults.
 */
#ifndef EVERING_MOCK_H
#define EVERING_MOCK_H

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"

#define MOCK_PAGE 4096UL

struct mock_sleeper {
	const struct evering_enter *args;	/* NULL: nobody */
	bool woken;
};

struct mock {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	struct evering_layout layout;
	struct evering_header *header;	/* the kernel's, writable */
	void *section[2];		/* likewise */
	struct mock_sleeper sleeper[2];
	struct evering *ep[2];
	unsigned int enters[2];
	struct evering_enter last[2];	/* as asked for by each side */
};

/* One at a time in a process: kselftest forks for each test. */
static struct mock *mock_current;

static inline void *mock_reserve(uint64_t size)
{
	char *p = mmap(NULL, size + 2 * MOCK_PAGE, PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p + MOCK_PAGE;
}

static inline void *mock_map(int fd, uint64_t size, int prot)
{
	return mmap(mock_reserve(size), size, prot, MAP_SHARED | MAP_FIXED, fd,
		    0);
}

static inline struct evering_control *mock_control(struct mock *m, int side)
{
	return m->section[side];
}

static inline uint64_t *mock_stamp(struct mock *m, unsigned int ring,
				   uint64_t pos)
{
	uint64_t slot = pos & (m->layout.geometry.entries[ring] - 1);

	return (uint64_t *)((char *)m->section[ring] +
			    m->layout.slots_offset[ring] +
			    slot * m->layout.geometry.slot_size[ring]);
}

static inline bool mock_slot_ready(struct mock *m, unsigned int ring,
				   uint64_t pos)
{
	unsigned int shift =
		(unsigned int)__builtin_ctz(m->layout.geometry.entries[ring]);

	return evering_judge(load_acquire(mock_stamp(m, ring, pos)),
			     evering_lap(pos, shift)) != EVERING_SLOT_NOT_YET;
}

/* evr_look() */
static inline int mock_look(struct mock *m, unsigned int side,
			    const struct evering_enter *args)
{
	struct evering_control *control = mock_control(m, !side);
	bool dead = load_acquire(&m->header->side[!side].state) ==
		    EVERING_STATE_DEAD;
	bool closed = load_acquire(&control->closed);
	bool rclosed = load_acquire(&control->rclosed);
	bool end = dead || closed ||
		   (rclosed && args->flags & EVERING_ENTER_WAIT_SPACE);
	uint32_t wanted = end ? 1 : args->min_complete;
	int ready = 0;

	if (args->flags & EVERING_ENTER_WAIT &&
	    mock_slot_ready(m, !side, args->wait_pos + wanted - 1) &&
	    mock_slot_ready(m, !side, args->wait_pos))
		ready |= EVERING_READY_ENTRIES;
	if (args->flags & EVERING_ENTER_WAIT_SPACE && !dead && !rclosed &&
	    args->space_pos - load_acquire(&control->head) !=
		    m->layout.geometry.entries[side])
		ready |= EVERING_READY_SPACE;
	if (ready)
		return ready;
	if (args->generation != m->header->side[!side].generation)
		return -ECONNRESET;
	if (dead || (rclosed && args->flags & EVERING_ENTER_WAIT_SPACE))
		return -EPIPE;
	if (closed && !(args->flags & EVERING_ENTER_WAIT_SPACE))
		return -ESHUTDOWN;
	return 0;
}

/* evr_announce() */
static inline void mock_announce(struct mock *m, unsigned int side)
{
	const struct evering_enter *args = m->sleeper[side].args;
	uint64_t wake_at = EVERING_NOBODY, space_at = EVERING_NOBODY;

	if (args && args->flags & EVERING_ENTER_WAIT)
		wake_at = args->wait_pos + args->min_complete - 1;
	if (args && args->flags & EVERING_ENTER_WAIT_SPACE)
		space_at = args->space_pos;
	store_once(&m->header->ring[!side].wake_at, wake_at);
	store_once(&m->header->ring[side].space_at, space_at);
}

/* evr_doorbell(), and evr_wake_all() with @all */
static inline void mock_wake(struct mock *m, unsigned int side, bool all)
{
	struct mock_sleeper *s = &m->sleeper[side];

	if (!s->args || (!all && !mock_look(m, side, s->args)))
		return;
	s->args = NULL;
	s->woken = true;
	mock_announce(m, side);
	pthread_cond_broadcast(&m->cond);
}

/* evr_wait() */
static inline int mock_wait(struct mock *m, unsigned int side,
			    const struct evering_enter *args)
{
	struct mock_sleeper *s = &m->sleeper[side];
	struct timespec until = {
		.tv_sec = (time_t)(args->deadline / 1000000000U),
		.tv_nsec = (long)(args->deadline % 1000000000U),
	};
	int ret, slept = 0;

	for (;;) {
		s->args = args;
		s->woken = false;
		mock_announce(m, side);
		full_barrier();
		ret = mock_look(m, side, args);
		if (!ret)
			ret = slept;
		if (ret)
			break;
		while (!s->woken && !slept) {
			if (args->deadline == EVERING_NO_DEADLINE)
				pthread_cond_wait(&m->cond, &m->lock);
			else if (pthread_cond_timedwait(&m->cond, &m->lock,
							&until) == ETIMEDOUT)
				slept = -ETIME;
		}
	}
	s->args = NULL;
	mock_announce(m, side);
	return ret;
}

static inline int mock_enter(struct evering *ep,
			     const struct evering_enter *args)
{
	struct mock *m = mock_current;
	unsigned int side = ep->side;
	int ret = 0;

	pthread_mutex_lock(&m->lock);
	m->enters[side]++;
	m->last[side] = *args;
	if (args->flags & EVERING_ENTER_WAKE_PEER)
		mock_wake(m, !side, false);
	if (args->flags & (EVERING_ENTER_WAIT | EVERING_ENTER_WAIT_SPACE))
		ret = mock_wait(m, side, args);
	pthread_mutex_unlock(&m->lock);
	return ret;
}

static const struct evr_backend mock_backend = { .enter = mock_enter };

/* evr_uring_kill_side() */
static inline void mock_kill(struct mock *m, unsigned int side)
{
	pthread_mutex_lock(&m->lock);
	store_release(&m->header->side[side].state, EVERING_STATE_DEAD);
	mock_wake(m, EVERING_SIDE_A, true);
	mock_wake(m, EVERING_SIDE_B, true);
	pthread_mutex_unlock(&m->lock);
}

/* evr_shutdown() */
static inline void mock_shutdown(struct mock *m, unsigned int side,
				 unsigned int how)
{
	pthread_mutex_lock(&m->lock);
	if (how & EVERING_SHUT_WR)
		store_release(&mock_control(m, (int)side)->closed, 1);
	if (how & EVERING_SHUT_RD)
		store_release(&mock_control(m, (int)side)->rclosed, 1);
	mock_wake(m, EVERING_SIDE_A, true);
	mock_wake(m, EVERING_SIDE_B, true);
	pthread_mutex_unlock(&m->lock);
}

/* A channel whose ends are m->ep[EVERING_SIDE_*]. */
static inline struct mock *mock_new(const struct evering_geometry *geometry)
{
	struct mock *m = calloc(1, sizeof(*m));
	struct evering_layout *l = &m->layout;
	struct evr_memory memory[2];
	pthread_condattr_t attr;
	unsigned int i;
	int fd;

	pthread_mutex_init(&m->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&m->cond, &attr);

	l->geometry = *geometry;
	l->section_size[0] = MOCK_PAGE;
	fd = memfd_create("header", 0);
	if (ftruncate(fd, (off_t)MOCK_PAGE))
		abort();
	m->header = mock_map(fd, MOCK_PAGE, PROT_READ | PROT_WRITE);
	for (i = 0; i < 2; i++) {
		struct evering_ring_words *words = &m->header->ring[i];

		words->wake_at = words->poll_at = EVERING_NOBODY;
		words->space_at = words->poll_space_at = EVERING_NOBODY;
		m->header->side[i].state = EVERING_STATE_OPEN;
		memory[i].header = mock_map(fd, MOCK_PAGE, PROT_READ);
	}
	close(fd);
	for (i = 0; i < 2; i++) {
		uint64_t size = sizeof(struct evering_control) +
				(uint64_t)geometry->entries[i] *
					geometry->slot_size[i];

		l->slots_offset[i] = sizeof(struct evering_control);
		if (i == EVERING_SIDE_A && geometry->heap_size[EVERING_SIDE_B]) {
			l->release_offset = size;
			size += 8 * evering_release_entries(
					geometry->heap_size[EVERING_SIDE_B]);
		}
		size = (size + MOCK_PAGE - 1) & ~(MOCK_PAGE - 1);
		l->heap_offset[i] = size;
		size += geometry->heap_size[i];
		l->section_size[1 + i] = size;
		fd = memfd_create("section", 0);
		if (ftruncate(fd, (off_t)size))
			abort();
		m->section[i] = mock_map(fd, size, PROT_READ | PROT_WRITE);
		memory[i].own = mock_map(fd, size, PROT_READ | PROT_WRITE);
		memory[!i].peer = mock_map(fd, size, PROT_READ);
		close(fd);
	}
	for (i = 0; i < 2; i++)
		if (evr_endpoint_new(i, l, &memory[i], &mock_backend,
				     &m->ep[i]))
			abort();
	mock_current = m;
	return m;
}

static inline void mock_free(struct mock *m)
{
	evering_close(m->ep[0]);
	evering_close(m->ep[1]);
	free(m);
	mock_current = NULL;
}

#endif /* EVERING_MOCK_H */
