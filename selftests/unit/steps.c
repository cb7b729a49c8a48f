// SPDX-License-Identifier: GPL-2.0
/*
 * Others of a shared side act between two instructions of this one: at its full
 * barriers, where it has done one thing and not yet looked at another.
 */
#include <stdlib.h>

#include "ring.h"

/* What happens at the next barrier but @barriers_to_go. */
static void (*at_barrier)(void);
static unsigned int barriers_to_go;

static void barrier_and_others(void)
{
	void (*others)(void) = at_barrier;

	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!others || barriers_to_go--)
		return;
	at_barrier = NULL;
	others();
}

#undef full_barrier
#define full_barrier() barrier_and_others()
#define barrier_after_swap() barrier_and_others()
#include "../../lib/client.c"
#include "../../lib/endpoint.c"
#include "../../lib/exchange.c"
#include "../../lib/sections.c"
#include "../../lib/server.c"
#include "../../lib/shared.c"
#include "../../lib/wait.c"

#include "kselftest_harness.h"

/* Nothing here has a device. */
int evr_ioctl(int fd, unsigned long request, const void *args)
{
	(void)fd, (void)request, (void)args;
	return -EBADF;
}

int evr_map(int fd, uint64_t size, int prot, uint64_t offset, void **at)
{
	(void)fd, (void)size, (void)prot, (void)offset, (void)at;
	return -EBADF;
}

#define ENTRIES		64U
#define SLOTS		sizeof(struct evering_control)
#define CLAIMS		(SLOTS + ENTRIES * 64U)
#define SECTION		8192U

static struct {
	struct evering_header header;
	_Alignas(64) char section[2][SECTION];
} mem;

static unsigned int doorbells, waits;
static int wait_result;
static void (*while_asleep)(void);

static int enter(struct evering *ep, const struct evering_enter *args)
{
	(void)ep;
	if (args->flags & EVERING_ENTER_WAKE_PEER)
		doorbells++;
	if (!(args->flags & (EVERING_ENTER_WAIT | EVERING_ENTER_WAIT_SPACE)))
		return 0;
	waits++;
	if (while_asleep)
		while_asleep();
	return wait_result;
}

static const struct evr_backend backend = { .enter = enter };

static struct evering_control *control(unsigned int side)
{
	return (void *)mem.section[side];
}

static uint64_t *stamp_at(unsigned int ring, uint64_t pos)
{
	return (void *)(mem.section[ring] + SLOTS + pos % ENTRIES * 64);
}

/* The word of lap 1 of a claim of one slot. */
static uint64_t first_lap(unsigned int owner, unsigned int state)
{
	return evering_word(1, 1, owner, state);
}

FIXTURE(steps)
{
	struct evering *ep;
};

FIXTURE_SETUP(steps)
{
	unsigned int i;

	memset(&mem, 0, sizeof(mem));
	for (i = 0; i < 2; i++) {
		struct evering_ring_words *words = &mem.header.ring[i];

		words->wake_at = words->poll_at = EVERING_NOBODY;
		words->space_at = words->poll_space_at = EVERING_NOBODY;
		mem.header.side[i].state = EVERING_STATE_OPEN;
	}
	wait_result = -EINTR;
}

FIXTURE_TEARDOWN(steps)
{
	evering_close(self->ep);
}

/* @many: bits of sides that are; the endpoint is owner 1 of its side then. */
static struct evering *endpoint(unsigned int side, unsigned int many)
{
	struct evr_memory memory = {
		.header = &mem.header,
		.own = mem.section[side],
		.peer = mem.section[!side],
	};
	struct evering_layout layout = { 0 };
	struct evering *ep;
	unsigned int i;

	for (i = 0; i < 2; i++) {
		layout.geometry.entries[i] = ENTRIES;
		layout.geometry.slot_size[i] = 64;
		layout.slots_offset[i] = SLOTS;
		if (many & 1U << i)
			layout.claims_offset[!i] = CLAIMS;
	}
	if (evr_endpoint_new(side, &layout, &memory, &backend, &ep) ||
	    ((many & 1U << side) && evr_shared_new(ep, 1, false)))
		return NULL;
	evering_set_spin(ep, 0);
	return ep;
}

#define A_MANY		1U
#define B_MANY		2U

/* ------------------------------------------------------------ after the end */

/* The peer sleeps for the first slot that is being written. */
static void shut_down(void)
{
	uint64_t pos = 0;

	control(0)->closed = 1;
	while (evering_word_state(*stamp_at(0, pos)) != EVERING_RESERVED)
		pos++;
	mem.header.ring[0].wake_at = pos;
}

TEST_F(steps, who_finds_it_closed_wakes_who_waits_for_his_slot)
{
	self->ep = endpoint(EVERING_SIDE_A, A_MANY);
	ASSERT_NE(NULL, evering_get_sqe(self->ep));
	at_barrier = shut_down;
	EXPECT_EQ(-ESHUTDOWN, evering_submit(self->ep));
	EXPECT_EQ(EVERING_SKIPPED, evering_word_state(*stamp_at(0, 0)));
	EXPECT_EQ(1, doorbells);
}

TEST_F(steps, also_after_some_were_sent)
{
	struct evering_sqe *sqe;

	self->ep = endpoint(EVERING_SIDE_A, A_MANY);
	/* One that is cancelled makes two claims of what is around it. */
	ASSERT_NE(NULL, evering_get_sqe(self->ep));
	sqe = evering_get_sqe(self->ep);
	ASSERT_NE(NULL, evering_get_sqe(self->ep));
	ASSERT_EQ(0, evering_sqe_cancel(self->ep, sqe));
	/* That of the first claim, and that of its commit. */
	barriers_to_go = 2;
	at_barrier = shut_down;
	EXPECT_EQ(1, evering_submit(self->ep));
	EXPECT_EQ(EVERING_COMMITTED, evering_word_state(*stamp_at(0, 0)));
	EXPECT_EQ(EVERING_SKIPPED, evering_word_state(*stamp_at(0, 1)));
	EXPECT_EQ(1, doorbells);
}

/* Two had claimed slots before the end; one skips his, the other may commit. */
static void two_before_the_end(void)
{
	*stamp_at(0, 0) = first_lap(1, EVERING_RESERVED);
	*stamp_at(0, 1) = first_lap(2, EVERING_RESERVED);
	control(0)->tail = 2;
	control(0)->closed = 1;
}

static void skip_the_first(void)
{
	*stamp_at(0, 0) = first_lap(1, EVERING_SKIPPED);
}

static void must_still_come(struct __test_metadata *_metadata, struct evering *ep)
{
	const struct evering_sqe *sqe;

	*stamp_at(0, 1) = first_lap(2, EVERING_COMMITTED);
	EXPECT_EQ(0, evering_peek_sqe(ep, &sqe));
	evering_sqe_seen(ep, sqe);
	EXPECT_EQ(-ESHUTDOWN, evering_peek_sqe(ep, &sqe));
}

TEST_F(steps, no_end_while_one_behind_a_skipped_slot_may_commit)
{
	const struct evering_sqe *sqe;

	self->ep = endpoint(EVERING_SIDE_B, A_MANY);
	two_before_the_end();
	at_barrier = skip_the_first;
	EXPECT_EQ(-EINTR, evering_wait_sqe(self->ep, &sqe));
	EXPECT_EQ(1, waits);
	must_still_come(_metadata, self->ep);
}

TEST_F(steps, nor_for_who_only_looks)
{
	const struct evering_sqe *sqe;

	self->ep = endpoint(EVERING_SIDE_B, A_MANY);
	two_before_the_end();
	at_barrier = skip_the_first;
	EXPECT_EQ(-EAGAIN, evering_peek_sqe(self->ep, &sqe));
	must_still_come(_metadata, self->ep);
}

/* What the kernel had taken for the end, before the ring changed. */
TEST_F(steps, of_many_the_ring_has_the_last_word)
{
	const struct timespec soon = { 0, 1000000 };
	const struct evering_sqe *sqe;

	self->ep = endpoint(EVERING_SIDE_B, A_MANY | B_MANY);
	two_before_the_end();
	while_asleep = skip_the_first;
	wait_result = -ESHUTDOWN;
	EXPECT_EQ(-ETIME, evering_wait_sqe_timeout(self->ep, &sqe, &soon));
	must_still_come(_metadata, self->ep);
}

/* ------------------------------------------------------------------------ lies */

/* A slot that one of our side is still writing to, and the peer gives back. */
TEST_F(steps, room_where_somebody_writes_is_a_lie)
{
	const struct timespec soon = { 0, 20000000 };
	unsigned int i;

	self->ep = endpoint(EVERING_SIDE_A, A_MANY);
	for (i = 0; i < ENTRIES; i++)
		*stamp_at(0, i) = first_lap(2, i ? EVERING_COMMITTED :
						   EVERING_RESERVED);
	control(0)->tail = ENTRIES;
	control(1)->head = 1;
	wait_result = EVERING_READY_SPACE;
	ASSERT_NE(NULL, evering_get_sqe(self->ep));
	EXPECT_EQ(-EPROTO, evering_submit(self->ep));
	EXPECT_EQ(-EPROTO, evering_wait_sq_space(self->ep, &soon));
}

/* The peer skips one slot after the other, for as long as somebody steps over. */
static uint64_t fed;

static void feed(void)
{
	*stamp_at(0, fed) = evering_word(evering_lap(fed, 6), 1, 1, EVERING_SKIPPED);
	control(0)->tail = ++fed;
	barriers_to_go = 0;
	at_barrier = feed;
}

TEST_F(steps, skipped_slots_without_end_do_not_keep_a_call)
{
	const struct evering_sqe *sqe;

	self->ep = endpoint(EVERING_SIDE_B, A_MANY | B_MANY);
	feed();
	EXPECT_EQ(-EAGAIN, evering_peek_sqe(self->ep, &sqe));
	EXPECT_LE(ENTRIES, fed);
	EXPECT_GE(3 * ENTRIES, fed);
	at_barrier = NULL;
}

/* An entry written over one that somebody of our side still reads. */
TEST_F(steps, an_entry_where_somebody_reads_is_a_lie)
{
	const struct evering_sqe *sqe;
	uint64_t *claims;

	self->ep = endpoint(EVERING_SIDE_B, A_MANY | B_MANY);
	claims = (void *)(mem.section[1] + CLAIMS);
	claims[0] = first_lap(2, EVERING_TAKEN);
	control(1)->head = ENTRIES;
	*stamp_at(0, 0) = evering_word(2, 1, 1, EVERING_COMMITTED);
	control(0)->tail = ENTRIES + 1;
	control(0)->closed = 1;
	EXPECT_EQ(-EPROTO, evering_peek_sqe(self->ep, &sqe));
}

TEST_HARNESS_MAIN
