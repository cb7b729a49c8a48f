/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the tests of mappings share: both sides of a uring, mapped, tries that
 * mm may refuse or answer by a signal, and the proof that no try did harm.
 */
#ifndef EVERING_SECTIONS_H
#define EVERING_SECTIONS_H

#include <setjmp.h>

#include "processes.h"

#define PAGE		4096UL
#define HEADER		EVERING_SECTION_HEADER
#define PEER(side)	(EVERING_SECTION_A + !(side))

/* -------------------------------------------------- tries: 0, or -errno */

/* What it maps it unmaps again. */
static inline int try_map(int fd, size_t len, int prot, int flags, uint64_t offset)
{
	void *p = mmap(NULL, len, prot, flags, fd, offset);

	if (p == MAP_FAILED)
		return -errno;
	munmap(p, len);
	return 0;
}

static inline int try_section(int fd, const struct evering_layout *layout, int section,
			      int prot, int flags)
{
	return try_map(fd, layout->section_size[section], prot, flags,
		       EVERING_MMAP_OFFSET(section));
}

static inline int try_mprotect(void *p, size_t len, int prot)
{
	return mprotect(p, len, prot) ? -errno : 0;
}

static inline int try_munmap(void *p, size_t len)
{
	return munmap(p, len) ? -errno : 0;
}

static inline int try_madvise(void *p, size_t len, int advice)
{
	return madvise(p, len, advice) ? -errno : 0;
}

static inline int try_mremap(void *old, size_t old_len, size_t new_len, int flags, void *new)
{
	return mremap(old, old_len, new_len, flags, new) == MAP_FAILED ? -errno : 0;
}

/* Room to move to; nothing there may be lost. */
static inline void *reserve(size_t len)
{
	return mmap(NULL, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

/* ------------------------------- tries: 0, or the signal that they bring */

static sigjmp_buf fault_env;

static inline void fault_handler(int sig)
{
	siglongjmp(fault_env, sig);
}

static inline void catch_faults(void)
{
	struct sigaction action = { .sa_handler = fault_handler };

	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
}

static inline int try_load(void *p)
{
	int sig = sigsetjmp(fault_env, 1);

	if (!sig)
		(void)*(volatile char *)p;
	return sig;
}

static inline int try_store(void *p)
{
	int sig = sigsetjmp(fault_env, 1);

	if (!sig)
		*(volatile char *)p = 0x55;
	return sig;
}

/* ------------------------------------------------------------------ a uring */

/* Connected and accepted; nobody has mapped anything yet. */
static inline int channel_unmapped(struct channel *c, const char *name)
{
	struct evering_connect args = connect_args(name);
	struct evering_accept accepted;

	memset(c, 0, sizeof(*c));
	c->service = do_listen(name);
	if (c->service < 0)
		return c->service;
	c->fd[0] = device_call(EVERING_IOC_CONNECT, &args);
	if (c->fd[0] < 0)
		return c->fd[0];
	c->fd[1] = do_accept(c->service, &accepted);
	if (c->fd[1] < 0)
		return c->fd[1];
	c->layout = args.layout;
	c->token = args.token;
	return 0;
}

/* The heap of @side as @viewer sees it. */
static inline char *heap_of(struct channel *c, int side, int viewer)
{
	return (char *)c->map[viewer][OWN(side)] + c->layout.heap_offset[side];
}

static inline int peer_state(int fd)
{
	struct evering_peer peer = { .size = sizeof(peer) };
	int ret = call(fd, EVERING_IOC_PEER, &peer);

	return ret ? ret : peer.state;
}

/*
 * Both endpoints live, and what they write arrives: through the mappings that
 * the test has, where they have been from the beginning.
 */
static inline void expect_alive(struct __test_metadata *_metadata, struct channel *c,
				uint64_t pos)
{
	int side;

	for (side = 0; side < 2; side++) {
		EXPECT_EQ(EVERING_STATE_OPEN, state_of(c, side, 0));
		EXPECT_EQ(EVERING_STATE_OPEN, state_of(c, side, 1));
		EXPECT_EQ(EVERING_STATE_OPEN, peer_state(c->fd[side]));
		EXPECT_EQ(0, poll_now(c->fd[side]) & (POLLHUP | POLLERR));

		memset(heap_of(c, side, side), 0x11 + pos, PAGE);
		EXPECT_EQ(0, memcmp(heap_of(c, side, side), heap_of(c, side, !side), PAGE));
		EXPECT_EQ(0x11 + pos, *heap_of(c, side, !side));

		EXPECT_EQ(-ETIME, do_wait(c->fd[!side], pos, 1, 0));
		commit(c, side, pos, EVERING_COMMITTED);
		EXPECT_EQ(EVERING_READY_ENTRIES, do_wait(c->fd[!side], pos, 1, 0));
		EXPECT_EQ(0, do_wake(c->fd[side]));
	}
}

FIXTURE(sections)
{
	struct channel c;
	uint64_t pos;
};

FIXTURE_SETUP(sections)
{
	ASSERT_EQ(0, channel_open(&self->c, _metadata->name));
	catch_faults();
}

/* The end of the process ends everything. */
FIXTURE_TEARDOWN(sections)
{
}

#define EXPECT_ALIVE()	expect_alive(_metadata, &self->c, self->pos++)

#endif /* EVERING_SECTIONS_H */
