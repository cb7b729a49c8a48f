// SPDX-License-Identifier: GPL-2.0
/*
 * One side of a channel, and a peer that writes what it likes into its own section:
 * entries, cursors, tokens, released blocks.  Whatever that is, what this side has
 * allocated and not sent stays its own, to the last byte; all that it has sent and
 * cancelled comes back; and nothing is read beyond the peer's memory.
 */
#include "heap.h"
#include "mock.h"
#include "peer.h"

#define BLOCKS	24U

static const struct evering_geometry geometry = {
	.entries = { 8, 4 },
	.slot_size = { 64, 128 },
	.heap_size = { 8192, 8192 },
};

static const struct evering_type type = EVERING_TYPE(uint32_t, "fuzz");

/* A block that this side has allocated. */
struct mine {
	uint8_t *block;		/* NULL: none */
	size_t size;
	uint8_t fill;
	void *slot;		/* attached to, and not sent */
	struct evering_token token;
};

struct run {
	struct mock *m;
	struct evering *ep;
	unsigned int side;
	unsigned int theirs;	/* the ring that the peer produces */
	uint64_t tail;		/* of the peer, if it were honest */
	struct mine mine[BLOCKS];
	void *reserved[8];
	unsigned int nr_reserved;
};

/* The own memory, also where the library has poisoned it. */
static uint8_t *plain(const struct run *r, const uint8_t *block)
{
	return (uint8_t *)r->m->section[r->side] + r->m->layout.heap_offset[r->side] +
	       (block - (uint8_t *)r->ep->own_heap);
}

static void check(const struct run *r)
{
	unsigned int i;
	size_t k;

	for (i = 0; i < BLOCKS; i++) {
		const struct mine *mine = &r->mine[i];
		const uint8_t *bytes;

		if (!mine->block)
			continue;
		bytes = plain(r, mine->block);
		for (k = 0; k < mine->size; k++)
			MUST(bytes[k] == mine->fill);
		MUST(evering_block_size(r->ep, mine->block) >=
		     (mine->slot ? 0 : mine->size));
	}
}

static void allocate(struct run *r, struct input *in)
{
	struct mine *mine = &r->mine[take(in, 1) % BLOCKS];
	size_t size = take(in, 2) % 2000;
	void *block;

	if (mine->block)
		return;
	if (evering_alloc_aligned(r->ep, size, 1U << take(in, 1) % 14, &block))
		return;
	*mine = (struct mine){ .block = block, .size = size, .fill = (uint8_t)take(in, 1) };
	memset(block, mine->fill, size);
	MUST(!evering_tokenize(r->ep, block, size, NULL, &mine->token));
}

static void give_back(struct run *r, struct input *in)
{
	struct mine *mine = &r->mine[take(in, 1) % BLOCKS];

	if (!mine->block)
		return;
	if (mine->slot) {
		MUST(evering_free(r->ep, mine->block) == -EBUSY);
		return;
	}
	MUST(evering_token_block(r->ep, mine->token) == mine->block);
	MUST(!evering_free(r->ep, mine->block));
	MUST(evering_free(r->ep, mine->block) == -EINVAL);
	mine->block = NULL;
}

static void reserve(struct run *r)
{
	void *slot = r->side ? (void *)evering_get_cqe(r->ep) :
			       (void *)evering_get_sqe(r->ep);

	if (slot)
		r->reserved[r->nr_reserved++] = slot;
}

static void attach(struct run *r, struct input *in)
{
	struct mine *mine = &r->mine[take(in, 1) % BLOCKS];
	void *slot = r->reserved[take(in, 1) % 8];
	uint64_t user_data = take(in, 1) % 16;
	struct evering_token token = { 0 };
	int ret;

	/* Now and then one that is none, or is wrong. */
	if (mine->block)
		token = mine->token;
	if (!(take(in, 1) % 8))
		token.block ^= 1ULL << take(in, 1) % 64;
	ret = r->side ? evering_cqe_attach(r->ep, slot, token) :
			evering_sqe_attach(r->ep, slot, user_data, token);
	if (ret || evering_token_is_null(token))
		return;
	/* It was wrong in just the bits that do not matter, or another one's. */
	for (mine = r->mine; mine < r->mine + BLOCKS; mine++)
		if (mine->block && mine->token.block == token.block)
			mine->slot = slot;
}

static void cancel(struct run *r, struct input *in)
{
	unsigned int i = take(in, 1) % 8, k;
	void *slot = r->reserved[i];
	int ret = r->side ? evering_cqe_cancel(r->ep, slot) :
			    evering_sqe_cancel(r->ep, slot);

	if (ret)
		return;
	for (k = 0; k < BLOCKS; k++)
		if (r->mine[k].block && r->mine[k].slot == slot) {
			r->mine[k].slot = NULL;
			MUST(evering_token_block(r->ep, r->mine[k].token) ==
			     r->mine[k].block);
		}
}

static void submit(struct run *r)
{
	unsigned int k;

	if ((r->side ? evering_complete(r->ep) : evering_submit(r->ep)) < 0)
		return;
	/* What was sent may be gone at any time. */
	for (k = 0; k < BLOCKS; k++)
		if (r->mine[k].slot)
			r->mine[k].block = r->mine[k].slot = NULL;
	memset(r->reserved, 0, sizeof(r->reserved));
	r->nr_reserved = 0;
}

static void read_token(struct run *r, struct evering_token token)
{
	const void *values;
	uint32_t value, sum = 0;
	int64_t nr, i;

	nr = evering_token_get(r->ep, token, &type, &values);
	for (i = 0; i < nr; i++)
		sum += ((const uint32_t *)values)[i];
	if (!evering_token_read(r->ep, token, &type, &value))
		MUST(nr == 1 && sum == value);
	nr = evering_token_get(r->ep, token, NULL, &values);
	for (i = 0; i < nr; i++)
		sum += ((const uint8_t *)values)[i];
	evering_release(r->ep, token);
}

static void look(struct run *r, struct input *in)
{
	const struct evering_sqe *sqe;
	const struct evering_cqe *cqe;
	bool keep = take(in, 1) & 1;

	if (r->side) {
		if (evering_peek_sqe(r->ep, &sqe))
			return;
		read_token(r, evering_sqe_token(sqe));
		if (!keep)
			evering_sqe_seen(r->ep, sqe);
	} else {
		if (evering_peek_cqe(r->ep, &cqe))
			return;
		read_token(r, evering_cqe_token(cqe));
		if (!keep)
			evering_cqe_seen(r->ep, cqe);
	}
}

/* As an honest peer would, but for what is in it. */
static void peer_commits(struct run *r, struct input *in)
{
	uint64_t *stamp = mock_stamp(r->m, r->theirs, r->tail);
	struct evering_sqe *entry = (void *)stamp;
	uint32_t tag = evering_type_tag(&type);
	uint16_t len = (uint16_t)take(in, 2);

	entry->user_data = take(in, 1) % 16;
	entry->offset = evr_token_word((uint32_t)take(in, 1) % 4, (uint32_t)take(in, 1));
	memset(entry->data, 0, sizeof(entry->data));
	memcpy(entry->data, &len, sizeof(len));
	memcpy(entry->data + 4, &tag, sizeof(tag));
	store_release(stamp, evering_stamp(evering_lap(r->tail, r->side ? 3 : 2),
					   EVERING_COMMITTED));
	r->tail++;
}

static void peer_releases(struct run *r, struct input *in)
{
	struct evering_control *control = mock_control(r->m, !r->side);
	uint64_t *ring = (void *)((char *)r->m->section[EVERING_SIDE_A] +
				  r->m->layout.release_offset);
	uint64_t word = evr_token_word((uint32_t)take(in, 1) % 4,
				       (uint32_t)take(in, 1) % 70);

	if (!r->side)
		return;
	ring[control->release_tail % 64] = word;
	control->release_tail++;
}

static void peer_writes(struct run *r, struct input *in)
{
	uint64_t words = r->m->layout.heap_offset[!r->side] / 8;
	uint64_t *section = r->m->section[!r->side];

	section[take(in, 2) % words] = take(in, 8);
}

/* A channel as new; the memory is the same each time. */
static struct mock *fresh(void)
{
	static struct mock *m;
	struct evr_memory memory;
	unsigned int i;

	if (!m)
		return m = mock_new(&geometry);
	memset(m->header, 0, sizeof(*m->header));
	for (i = 0; i < 2; i++) {
		m->header->ring[i].wake_at = m->header->ring[i].poll_at = EVERING_NOBODY;
		m->header->ring[i].space_at = EVERING_NOBODY;
		m->header->ring[i].poll_space_at = EVERING_NOBODY;
		m->header->side[i].state = EVERING_STATE_OPEN;
		memset(m->section[i], 0, m->layout.section_size[1 + i]);
		memory = m->ep[i]->memory;
		evering_close(m->ep[i]);
		MUST(!evr_endpoint_new(i, &m->layout, &memory, &mock_backend, &m->ep[i]));
	}
	return m;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	struct evering_heap_stats stats;
	struct run r = { .m = fresh() };

	r.side = take(&in, 1) & 1;
	r.theirs = !r.side;
	r.ep = r.m->ep[r.side];
	evering_set_spin(r.ep, 0);
	while (in.left) {
		switch (take(&in, 1) % 13) {
		case 0: allocate(&r, &in); break;
		case 1: give_back(&r, &in); break;
		case 2: reserve(&r); break;
		case 3: attach(&r, &in); break;
		case 4: cancel(&r, &in); break;
		case 5: submit(&r); break;
		case 6: look(&r, &in); break;
		case 7: peer_commits(&r, &in); break;
		case 8: peer_releases(&r, &in); break;
		case 9: peer_writes(&r, &in); break;
		case 10:
			MUST(!evering_heap_stats(r.ep, &stats));
			MUST(stats.used <= stats.size && stats.largest <= stats.size);
			break;
		case 11: mock_control(r.m, !r.side)->head++; break;
		case 12:
			if (!(take(&in, 1) % 16))
				mock_kill(r.m, !r.side);
			break;
		}
		check(&r);
	}
	return 0;
}
