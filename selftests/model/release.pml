/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Blocks that side B lends and side A hands back: lib/lend.c, with the inlines named
 * after its functions.
 *
 * Memory is in order, and a step is one access to what the other one sees; the
 * order itself is in litmus/entry.litmus and litmus/reuse.litmus.  What
 * goes from B to A goes through a ring of its own (channel.pml), a channel here.
 *
 * An honest side A releases each block once, after it has read it, in any order.  A
 * liar releases what it likes as well, LIES times; that may cost B what it has lent
 * to the liar, and nothing else.
 */

#ifndef BLOCKS
#define BLOCKS	3	/* of the heap */
#endif
#ifndef ENTRIES
#define ENTRIES	2	/* of the release ring */
#endif
#ifndef LENDS
#define LENDS	5	/* times that B lends a block */
#endif
#ifndef CANCELS
#define CANCELS	0	/* completions that are not sent after all */
#endif
#ifndef LIES
#define LIES	0	/* words of A that are not true */
#endif

#ifdef NO_GENERATION
#define same(a, b)	true
#else
#define same(a, b)	((a) == (b))
#endif

#ifdef UNSENT_COMES_BACK
#define is_lent(s)	((s) == LENT || (s) == ATTACHED)
#else
#define is_lent(s)	((s) == LENT)
#endif

#ifdef NO_LIMIT
#define may_lend	true
#else
#define may_lend	(lent < ENTRIES)
#endif

#define FREE	0
#define OWNED	1	/* B's own, not lent to anybody */
#define LENT	2
#define ATTACHED 3	/* to a slot that has not been sent */

/* What B knows, in private memory. */
byte state[BLOCKS];
byte generation[BLOCKS];
byte lent;		/* blocks */
byte released;		/* where the next word will be */

/* Shared. */
byte payload[BLOCKS];		/* B writes */
byte word_block[ENTRIES];	/* A writes */
byte word_generation[ENTRIES];
byte release_tail;

chan sent = [BLOCKS] of { byte, byte };

bool torn;	/* A has read what B wrote for somebody else */
bool ghost;	/* a true word was refused, or a false one believed */
bool lie;	/* an honest peer was called a liar */
bool cheated;	/* A has released block 0 while it had it, or had not got it yet */
bool caught;	/* more has come back than was lent */
bool holds[BLOCKS];	/* A has it, and may read it */

/* ---------------------------------------------------------------- side A */

inline evering_release(block, gen)
{
#ifdef TAIL_FIRST
	release_tail++;
	atomic {
		word_block[(release_tail - 1) % ENTRIES] = block;
		word_generation[(release_tail - 1) % ENTRIES] = gen;
	}
#else
	/* one word of 64 bits */
	atomic {
		word_block[release_tail % ENTRIES] = block;
		word_generation[release_tail % ENTRIES] = gen;
	}
	release_tail++;
#endif
}

active proctype side_a()
{
	byte has[BLOCKS];	/* generation of what it holds, by block */
	byte was[BLOCKS];	/* and of what it has held last */
	byte block, gen, lies = LIES;

end:	do
	:: sent?block,gen ->
		atomic {
			holds[block] = true;
			has[block] = gen;
		}
	:: atomic { holds[0] -> block = 0 } -> goto give
	:: atomic { BLOCKS > 1 && holds[1] -> block = 1 } -> goto give
	:: atomic { BLOCKS > 2 && holds[2] -> block = 2 } -> goto give
	:: atomic { lies -> lies-- } ->
		/* once more what it has released before */
		if
		:: was[0] -> evering_release(0, was[0])
		:: was[1] -> evering_release(1, was[1])
		:: evering_release(0, 0)
		/* a good guess; what becomes of that block is its own fault */
		:: cheated = true; evering_release(0, generation[0])
		fi
	od;
give:
#ifdef RELEASE_BEFORE_READ
	gen = has[block];
	atomic { holds[block] = false; was[block] = gen }
	evering_release(block, gen);
	if
	:: payload[block] != gen && !(cheated && block == 0) -> torn = true
	:: else
	fi;
#else
	gen = has[block];
	if
	:: payload[block] != gen && !(cheated && block == 0) -> torn = true
	:: else
	fi;
	atomic { holds[block] = false; was[block] = gen }
	evering_release(block, gen);
#endif
	goto end
}

/* ---------------------------------------------------------------- side B */

inline evr_release_drain()
{
	tail = release_tail;
	if
	:: tail - released > ENTRIES ->
		caught = true;
		/* An honest one never is. */
		lie = LIES == 0;
		goto stop
	:: else
	fi;
	do
	:: released != tail ->
		atomic {
			block = word_block[released % ENTRIES];
			gen = word_generation[released % ENTRIES];
			released++
		}
		if
		:: block < BLOCKS && is_lent(state[block]) &&
		   same(generation[block], gen) ->
			/* what A still reads is not its to have back */
			if
			:: holds[block] && !(cheated && block == 0) -> ghost = true
			:: else
			fi;
			atomic { state[block] = FREE; lent-- }
		:: else ->
			if
			:: LIES == 0 -> ghost = true
			:: else
			fi
		fi
	:: else -> break
	od
}

active proctype side_b()
{
	byte lends, tail, block, gen, i, cancels = CANCELS;

	do
	:: lends < LENDS ->
		evr_release_drain();
		i = 0;
		do
		:: i < BLOCKS && state[i] != FREE -> i++
		:: else -> break
		od;
		if
		:: i == BLOCKS			/* -ENOMEM */
		:: i < BLOCKS && !may_lend	/* -ENOBUFS */
		:: i < BLOCKS && may_lend ->
			state[i] = OWNED;
			generation[i]++;
			payload[i] = generation[i];
			/* evering_cqe_attach() */
			atomic { state[i] = ATTACHED; lent++ }
			if
			:: evr_release_drain()
			:: true
			fi;
			/* Still the program's to cancel? */
			ghost = ghost || state[i] != ATTACHED;
			if
			:: cancels ->
				cancels--;
				atomic { state[i] = FREE; lent-- }
			:: true ->
				/* evering_complete() */
				state[i] = LENT;
				lends++;
				sent!i,generation[i]
			fi
		fi
	:: else -> break
	od;
	/* A takes all and releases all; then nothing is lent. */
	do
	:: lent -> evr_release_drain()
	:: else -> break
	od;
stop:	skip
}

/* What must not be. */
active proctype watch()
{
end:	atomic { torn || ghost || lie ->
		assert(!(torn)); assert(!(ghost)); assert(!(lie)) }
}
