/* SPDX-License-Identifier: MIT OR LGPL-2.1 */
/*
 * An endpoint whose side is shared with others.
 *
 * What it reserves is private until it is submitted: a program that takes its time,
 * or is killed, holds up nobody.  What it takes stays claimed until it has been
 * seen, as where it is alone.  The rings of struct evering are private ones then,
 * of which shared.c moves entries to and from the ones that are shared.
 */
#ifndef EVERING_LIB_SHARED_H
#define EVERING_LIB_SHARED_H

#include "internal.h"
#include "lease.h"

/* A claim on one entry. */
struct evr_claim {
	uint64_t pos;
	uint64_t word;
};

/**
 * struct evr_shared - what struct evering has where its side is shared
 * @out:	the ring that this side produces
 * @in:		the ring that it consumes
 * @claims:	of the copies in ring_in; a ring of as many
 * @staged:	memory of the private ring_out
 * @sent:	its head: all that has been submitted
 * @over:	the ring said that nothing more will come
 */
struct evr_shared {
	struct multi_ring out;
	struct multi_ring in;
	struct evr_claim *claims;
	char *staged;
	__u64 sent;
	bool over;
};

int evr_shared_new(struct evering *ep, unsigned int owner, bool lease);
void evr_shared_free(struct evr_shared *shared);
int evr_shared_submit(struct evering *ep, bool *due);
enum evering_slot_state evr_shared_take(struct evering *ep, uint64_t wanted);
void evr_shared_seen(struct evering *ep, uint64_t n);

#endif /* EVERING_LIB_SHARED_H */
