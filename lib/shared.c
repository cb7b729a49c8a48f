/* SPDX-License-Identifier: MIT OR LGPL-2.1 */
/* Submitting and taking together with others of the same side. */
#include <errno.h>
#include <stdlib.h>

#include "exchange.h"
#include "shared.h"

/* The private rings are made by now. */
int evr_shared_new(struct evering *ep, unsigned int owner, bool lease)
{
	size_t slots = ep->out.g.entries << ep->out.g.slot_shift;
	struct evr_shared *shared;

	shared = calloc(1, sizeof(*shared));
	if (!shared)
		return -ENOMEM;
	shared->staged = calloc(1, slots);
	shared->claims = calloc(ep->in.g.entries, sizeof(*shared->claims));
	if (!shared->staged || !shared->claims) {
		evr_shared_free(shared);
		return -ENOMEM;
	}
	evr_multi_ring(&shared->out, &ep->layout, &ep->memory, ep->side, ep->side,
		       owner, lease);
	evr_multi_ring(&shared->in, &ep->layout, &ep->memory, ep->side, !ep->side,
		       owner, lease);
	ep->out.slots = shared->staged;
	ep->out.head = &shared->sent;
	ep->out.claims = NULL;
	ep->shared = shared;
	ep->usual = false;
	return 0;
}

void evr_shared_free(struct evr_shared *shared)
{
	if (!shared)
		return;
	free(shared->staged);
	free(shared->claims);
	free(shared);
}

/* ----------------------------------------------------------------- submitting */

/* The oldest that are reserved and not cancelled, one behind the other. */
static unsigned int evr_next_run(struct ring_out *r, unsigned int most)
{
	unsigned int n = 0;

	while (r->tail != r->reserved && ring_is_cancelled(r, r->tail)) {
		ring_take_cancelled(r, r->tail);
		r->tail++;
	}
	while (n < most && r->tail + n != r->reserved &&
	       !ring_is_cancelled(r, r->tail + n))
		n++;
	return n;
}

/* The staged entry @i, to the slot at @pos. */
static void evr_copy_staged(struct evering *ep, unsigned int i, uint64_t pos)
{
	size_t bytes = (size_t)1 << ep->out.g.slot_shift;

	memcpy((char *)multi_stamp(&ep->shared->out, pos) + 8,
	       (char *)ring_stamp(&ep->out.g, ep->out.slots, ep->out.tail + i) + 8,
	       bytes - 8);
}

/*
 * As many as there is room for.  Returns how many, @due saying whether the doorbell
 * must be rung; or -errno, and then nothing has been sent.
 */
int evr_shared_submit(struct evering *ep, bool *due)
{
	struct evr_shared *shared = ep->shared;
	enum multi_verdict verdict = MULTI_OK;
	unsigned int count, wanted, i;
	uint64_t pos = 0, last = 0;
	int sent = 0;

	for (;;) {
		wanted = evr_next_run(&ep->out, EVERING_MAX_COUNT);
		if (!wanted)
			break;
		verdict = multi_reserve(&shared->out, wanted, &pos, &count);
		if (verdict != MULTI_OK)
			break;
		for (i = 1; i < count; i++) {
			evr_copy_staged(ep, i, pos + i);
			multi_commit_inner(&shared->out, pos + i);
		}
		evr_copy_staged(ep, 0, pos);
		multi_commit(&shared->out, pos, count);
		last = pos + count - 1;
		ep->out.tail += count;
		sent += (int)count;
	}
	store_release(&shared->sent, ep->out.tail);
	/* Perhaps the peer waits for what was claimed and then skipped. */
	if (verdict == MULTI_CLOSED)
		last = EVERING_NOBODY - 1;
	if (sent || verdict == MULTI_CLOSED)
		*due = multi_wake_due(ep->out.words, last);
	if (sent || verdict == MULTI_OK)
		return sent;
	/* Who gets an error rings no more. */
	if (*due)
		evr_ring_doorbell(ep);
	*due = false;
	if (verdict == MULTI_LIE)
		ep->error = -EPROTO;
	if (ep->error)
		return ep->error;
	return verdict == MULTI_CLOSED ? -ESHUTDOWN : -EAGAIN;
}

/* ---------------------------------------------------------------------- taking */

/* Slots that end at @last are free: the peer may wait for them, or our own side. */
static void evr_shared_released(struct evering *ep, uint64_t last)
{
	const struct multi_ring *in = &ep->shared->in;
	unsigned int flags = 0;

	if (unlikely(multi_space_due(in, ep->in.words, last)))
		flags |= EVERING_ENTER_WAKE_PEER;
	/* After the end, the others wait for what may come back. */
	if (in->lease && multi_own_due(ep->in.words) && load_once(in->closed))
		flags |= EVERING_ENTER_WAKE_OWN;
	/* A doorbell that fails has nobody to wake. */
	if (unlikely(flags))
		evr_enter(ep, flags, 0, 0);
}

static void evr_copy_entry(struct evering *ep, uint64_t pos, uint64_t word)
{
	uint64_t index = (ep->in.first + ep->in.copied) & ep->in.g.mask;
	size_t bytes = (size_t)1 << ep->in.g.slot_shift;
	char *copy = ring_copy_at(&ep->in, ep->in.copied);

	/* A copy of this copy must not look committed. */
	*(uint64_t *)(void *)copy = 0;
	memcpy(copy + 8, (char *)multi_stamp(&ep->shared->in, pos) + 8, bytes - 8);
	compiler_barrier();
	ep->shared->claims[index] = (struct evr_claim){ .pos = pos, .word = word };
	ep->in.copied++;
	ep->in.next++;
}

/* Takes until @wanted are there; one by one, as they are given back one by one. */
enum evering_slot_state evr_shared_take(struct evering *ep, uint64_t wanted)
{
	struct multi_ring *in = &ep->shared->in;
	uint64_t pos = 0, word = 0, skips = 0;
	unsigned int count;

	while (ep->in.copied < wanted && !ring_exhausted(&ep->in)) {
		switch (multi_take_any(in, 1, &pos, &count, &word)) {
		case MULTI_OK:
			break;
		case MULTI_LIE:
			return EVERING_SLOT_LIE;
		case MULTI_CLOSED:
			ep->shared->over = true;
			return EVERING_SLOT_NOT_YET;
		default:
			ep->shared->over = false;
			return EVERING_SLOT_NOT_YET;
		}
		if (evering_word_state(load_once(multi_stamp(in, pos))) ==
		    EVERING_COMMITTED) {
			evr_copy_entry(ep, pos, word);
			continue;
		}
		multi_give_back(in, pos, 1, word);
		evr_shared_released(ep, pos);
		/* A peer that feeds skipped slots does not keep us here. */
		if (skips++ == in->g.entries)
			return EVERING_SLOT_NOT_YET;
	}
	return ep->in.copied < wanted ? EVERING_SLOT_NOT_YET : EVERING_SLOT_READY;
}

/* The program is done with the oldest @n copies. */
void evr_shared_seen(struct evering *ep, uint64_t n)
{
	uint64_t last = 0, i;

	for (i = 0; i < n; i++) {
		const struct evr_claim *claim =
			&ep->shared->claims[(ep->in.first + i) & ep->in.g.mask];

		multi_ack(&ep->shared->in, claim->pos, claim->word);
		if (!i || (int64_t)(claim->pos - last) > 0)
			last = claim->pos;
	}
	ring_seen(&ep->in, n);
	ep->in.published = ep->in.head;
	if (n)
		evr_shared_released(ep, last);
}
