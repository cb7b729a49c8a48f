/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The rings that queue.c compares, behind one push and one pop: the library's as
 * lib/queue.c and lib/exchange.h use them, and rte_ring in its modes of
 * synchronization.  All is inline, and the kind a constant: nobody pays for the choice.
 */
#ifndef EVERING_BENCH_RINGS_H
#define EVERING_BENCH_RINGS_H

#include <rte_ring.h>
#include <rte_ring_elem.h>

/* DPDK has its own, which do the same. */
#undef likely
#undef unlikely
#include "multi.h"

#define ENTRIES		1024U
#define LAP_SHIFT	10U
#define ITEM		64U

#define ALWAYS_INLINE	inline __attribute__((always_inline))

enum kind {
	MULTI_56,		/* slots of 64 bytes */
	MULTI_64,		/* slots of 128 bytes */
	SINGLE_56,
	SINGLE_64,
	RTE_MPMC,
	RTE_RTS,
	RTE_HTS,
	RTE_SPSC,
	WORD,			/* no ring: one word, to learn where the CPUs are */
};

static const char * const kind_name[] = {
	"multi 56 B", "multi 64 B", "single 56 B", "single 64 B",
	"MP/MC", "RTS", "HTS", "SP/SC", "word",
};

/* An element, and the program's side of a slot. */
struct item {
	uint64_t number;
	uint64_t producer;
	uint64_t rest[4];
	uint64_t check56;	/* the last that a slot of 64 bytes has room for */
	uint64_t check64;
};

/* One ring of ours: a section a side, and the words that the kernel writes. */
struct our_ring {
	struct evering_ring_words words;
	struct evering_control producers;
	char slots[ENTRIES * 128];
	struct evering_control consumers;
	uint64_t claims[ENTRIES];
} __attribute__((aligned(4096)));

union any_ring {
	struct our_ring ours;
	struct {
		struct rte_ring head;
		struct item items[ENTRIES];
	} rte;
	uint64_t word;
};

/* One end of one ring, in private memory. */
struct end {
	union any_ring *ring;
	struct multi_ring multi;
	struct ring_out out;
	struct ring_in in;
	uint64_t words_seen;
};

/* ---------------------------------------------------- our ring, many and many */

/* As multi_wake_due() and multi_space_due(); nobody sleeps here. */
static ALWAYS_INLINE void nobody_sleeps(uint64_t at, const __u64 *word,
					const __u64 *poll_word)
{
	if (unlikely(at >= load_once(word) || at >= load_once(poll_word)))
		abort();
}

static ALWAYS_INLINE unsigned int multi_push(struct end *e,
					     const struct item *items,
					     unsigned int nr, size_t bytes)
{
	const struct our_ring *ring = &e->ring->ours;
	unsigned int count, i;
	uint64_t pos;

	if (unlikely(load_once(&ring->consumers.rclosed)))
		abort();
	switch (multi_reserve(&e->multi, nr, &pos, &count)) {
	case MULTI_OK:
		break;
	case MULTI_NONE:
		return 0;
	default:
		abort();
	}
	/* The compiler does not know that count <= nr. */
	for (i = 1; i < count && i < nr; i++) {
		memcpy(multi_stamp(&e->multi, pos + i) + 1, items + i, bytes);
		multi_commit_inner(&e->multi, pos + i);
	}
	memcpy(multi_stamp(&e->multi, pos) + 1, items, bytes);
	multi_commit(&e->multi, pos, count);
	nobody_sleeps(pos + count - 1, &ring->words.wake_at,
		      &ring->words.poll_at);
	return count;
}

static ALWAYS_INLINE unsigned int multi_pop(struct end *e, struct item *items,
					    unsigned int nr, size_t bytes)
{
	const struct our_ring *ring = &e->ring->ours;
	unsigned int count, i, n = 0;
	uint64_t pos;

	switch (multi_take(&e->multi, nr, &pos, &count)) {
	case MULTI_OK:
		break;
	case MULTI_NONE:
	case MULTI_BUSY:
		return 0;
	default:
		abort();
	}
	for (i = 0; i < count; i++) {
		if (unlikely(multi_entry(&e->multi, pos + i) != EVERING_SLOT_READY))
			abort();
		memcpy(items + n++, multi_stamp(&e->multi, pos + i) + 1, bytes);
	}
	multi_release(&e->multi, pos, count);
	nobody_sleeps(pos + count - 1 + ENTRIES, &ring->words.space_at,
		      &ring->words.poll_space_at);
	return n;
}

/* ------------------------------------------------------ our ring, one and one */

static ALWAYS_INLINE unsigned int single_push(struct end *e,
					      const struct item *items,
					      unsigned int nr, size_t bytes)
{
	unsigned int i;

	for (i = 0; i < nr && ring_room(&e->out) == RING_ROOM; i++)
		memcpy((uint64_t *)ring_reserve(&e->out) + 1, items + i, bytes);
	if (!i)
		return 0;
	if (unlikely(load_acquire(&e->ring->ours.consumers.rclosed)))
		abort();
	ring_commit(&e->out);
	if (unlikely(ring_wake_due(&e->out)))
		abort();
	return i;
}

/* The library's copy is the program's. */
static ALWAYS_INLINE unsigned int single_pop(struct end *e, unsigned int nr)
{
	if (ring_peek(&e->in, nr) == EVERING_SLOT_LIE)
		abort();
	return (unsigned int)(nr < e->in.copied ? nr : e->in.copied);
}

static ALWAYS_INLINE const struct item *single_at(const struct end *e,
						  unsigned int i)
{
	return (const void *)((char *)ring_copy_at(&e->in, i) + 8);
}

/* As evr_advance(): all that were copied have been read. */
static ALWAYS_INLINE void single_seen(struct end *e, unsigned int nr)
{
	ring_seen(&e->in, nr);
	if (unlikely(ring_publish(&e->in)))
		abort();
}

/* ------------------------------------------------------------------ any ring */

static ALWAYS_INLINE unsigned int push(struct end *e, enum kind kind,
				       const struct item *items, unsigned int nr)
{
	struct rte_ring *rte = &e->ring->rte.head;

	switch (kind) {
	case MULTI_56:
		return multi_push(e, items, nr, 56);
	case MULTI_64:
		return multi_push(e, items, nr, 64);
	case SINGLE_56:
		return single_push(e, items, nr, 56);
	case SINGLE_64:
		return single_push(e, items, nr, 64);
	case RTE_MPMC:
		return rte_ring_mp_enqueue_burst_elem(rte, items, ITEM, nr, NULL);
	case RTE_RTS:
		return rte_ring_mp_rts_enqueue_burst_elem(rte, items, ITEM, nr,
							  NULL);
	case RTE_HTS:
		return rte_ring_mp_hts_enqueue_burst_elem(rte, items, ITEM, nr,
							  NULL);
	case RTE_SPSC:
		return rte_ring_sp_enqueue_burst_elem(rte, items, ITEM, nr, NULL);
	case WORD:
		store_release(&e->ring->word, ++e->words_seen);
		return 1;
	}
	return 0;
}

static ALWAYS_INLINE unsigned int pop(struct end *e, enum kind kind,
				      struct item *items, unsigned int nr)
{
	struct rte_ring *rte = &e->ring->rte.head;

	switch (kind) {
	case MULTI_56:
		return multi_pop(e, items, nr, 56);
	case MULTI_64:
		return multi_pop(e, items, nr, 64);
	case SINGLE_56:
	case SINGLE_64:
		return single_pop(e, nr);
	case RTE_MPMC:
		return rte_ring_mc_dequeue_burst_elem(rte, items, ITEM, nr, NULL);
	case RTE_RTS:
		return rte_ring_mc_rts_dequeue_burst_elem(rte, items, ITEM, nr,
							  NULL);
	case RTE_HTS:
		return rte_ring_mc_hts_dequeue_burst_elem(rte, items, ITEM, nr,
							  NULL);
	case RTE_SPSC:
		return rte_ring_sc_dequeue_burst_elem(rte, items, ITEM, nr, NULL);
	case WORD:
		if (load_acquire(&e->ring->word) == e->words_seen)
			return 0;
		e->words_seen++;
		return 1;
	}
	return 0;
}

/* What pop() has brought ... */
static ALWAYS_INLINE const struct item *popped(const struct end *e,
					       enum kind kind,
					       const struct item *items,
					       unsigned int i)
{
	if (kind == SINGLE_56 || kind == SINGLE_64)
		return single_at(e, i);
	return &items[i];
}

/* ... and has been read. */
static ALWAYS_INLINE void seen(struct end *e, enum kind kind, unsigned int nr)
{
	if (kind == SINGLE_56 || kind == SINGLE_64)
		single_seen(e, nr);
}

/* Both ends of @ring as @owner sees them; the ring is all zero. */
static void end_init(struct end *e, union any_ring *ring, enum kind kind,
		     unsigned int owner)
{
	static char copies[ENTRIES * 128] __attribute__((aligned(128)));
	static uint64_t cancelled[ENTRIES / 64];
	struct our_ring *ours = &ring->ours;
	struct ring_geometry g = {
		.entries = ENTRIES,
		.mask = ENTRIES - 1,
		.lap_shift = LAP_SHIFT,
		.slot_shift = kind == MULTI_64 || kind == SINGLE_64 ? 7 : 6,
	};

	*e = (struct end) {
		.ring = ring,
		.multi = {
			.g = g,
			.slots = ours->slots,
			.claims = ours->claims,
			.tail = (uint64_t *)&ours->producers.tail,
			.head = (uint64_t *)&ours->consumers.head,
			.closed = &ours->producers.closed,
			.owner = owner,
		},
		.out = {
			.g = g,
			.slots = ours->slots,
			.head = &ours->consumers.head,
			.tail_hint = &ours->producers.tail,
			.words = &ours->words,
			.cancelled = cancelled,
		},
		.in = {
			.g = g,
			.slots = ours->slots,
			.copies = copies,
			.head_word = &ours->consumers.head,
			.words = &ours->words,
		},
	};
}

static void ring_init(union any_ring *ring, enum kind kind)
{
	static const unsigned int flags[] = {
		[RTE_MPMC] = 0,
		[RTE_RTS] = RING_F_MP_RTS_ENQ | RING_F_MC_RTS_DEQ,
		[RTE_HTS] = RING_F_MP_HTS_ENQ | RING_F_MC_HTS_DEQ,
		[RTE_SPSC] = RING_F_SP_ENQ | RING_F_SC_DEQ,
	};

	memset(ring, 0, sizeof(*ring));
	if (kind >= RTE_MPMC && kind <= RTE_SPSC) {
		/* Cannot fail: the flags are known, and the size is a power of two. */
		if (rte_ring_init(&ring->rte.head, "bench", ENTRIES, flags[kind]))
			abort();
	} else if (kind != WORD) {
		ring->ours.words = (struct evering_ring_words) {
			.wake_at = EVERING_NOBODY, .poll_at = EVERING_NOBODY,
			.space_at = EVERING_NOBODY, .poll_space_at = EVERING_NOBODY,
		};
	}
}

#endif /* EVERING_BENCH_RINGS_H */
