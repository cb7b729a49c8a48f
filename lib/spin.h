/* SPDX-License-Identifier: MIT OR LGPL-2.1 */
/*
 * How long to spin before a sleep.
 *
 * A wait spins for at most @ns, about what a sleep and a wake-up cost, so that it
 * never costs more than twice the better choice.  Where spinning did not help, the
 * next 1, 2, 4 ... EVR_MAX_PENALTY waits sleep at once: two processes on one CPU, or
 * a peer that takes its time, pay next to nothing for it.
 */
#ifndef EVERING_LIB_SPIN_H
#define EVERING_LIB_SPIN_H

#include "ring.h"

#define EVR_DEFAULT_SPIN_NS	50000U
#define EVR_MAX_PENALTY		256U
#define EVR_SPINS_A_CLOCK	32U	/* looks between two looks at the clock */

/**
 * struct evr_spin - what waiting has been like lately
 * @ns:		most to spin in one wait
 * @rest:	waits still to go without spinning
 * @penalty:	what @rest becomes when spinning does not pay
 *
 * Where threads share one, what they overwrite of each other is a guess less.
 */
struct evr_spin {
	unsigned int ns;
	unsigned int rest;
	unsigned int penalty;
};

static inline bool evr_may_spin(struct evr_spin *spin)
{
	unsigned int rest = load_once(&spin->rest);

	if (!load_once(&spin->ns))
		return false;
	if (!rest)
		return true;
	store_once(&spin->rest, rest - 1);
	return false;
}

/* A wait has spun; was that the end of it? */
static inline void evr_learn(struct evr_spin *spin, bool paid)
{
	unsigned int penalty = load_once(&spin->penalty);

	if (paid) {
		store_once(&spin->penalty, penalty / 2);
		return;
	}
	penalty = penalty ? penalty * 2 : 1;
	if (penalty > EVR_MAX_PENALTY)
		penalty = EVR_MAX_PENALTY;
	store_once(&spin->penalty, penalty);
	store_once(&spin->rest, penalty);
}

#endif /* EVERING_LIB_SPIN_H */
