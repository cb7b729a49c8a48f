/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A ring of many producers and many consumers, killed and healed: lib/multi.h,
 * and the heal of a dead owner, one word at a time.
 *
 * Inlines carry the names of the functions they stand for; read them next to
 * the code.
 *
 * Memory is sequentially consistent, and a step is one access to what others
 * can change: barriers and orders are not what this model is about.
 *
 * A slot is being written to from the claim until its producer says that it is
 * whole, and being read from the claim until it is given back.  Whoever finds a
 * slot in a phase where he must not touch it has found a torn entry.
 *
 * The look at closed before a claim is left out: it saves slots, and decides
 * nothing that the one after the claim does not.
 *
 * Who is told "nothing there" sleeps until what he has seen has changed.  So no
 * run is without end but where somebody goes round in circles; and where a
 * run ends, all must be done.
 *
 * A step of the living may be his last.  He goes on at once under a new name,
 * while the old one is healed.
 *
 * The program's choices, the budgets, and the mutations that run.sh must see
 * fail, are macros; run.sh lists them.
 */

#ifndef N
#define N	2	/* slots */
#endif
#ifndef PRODUCERS
#define PRODUCERS	2
#endif
#ifndef CONSUMERS
#define CONSUMERS	2
#endif
#ifndef MSGS
#define MSGS	2	/* entries of each producer */
#endif
#ifndef BATCH
#define BATCH	1	/* most slots that a producer asks for */
#endif
#ifndef TAKES
#define TAKES	BATCH	/* most entries that a consumer asks for */
#endif
#ifndef SKIPS
#define SKIPS	0	/* claims that are cancelled */
#endif
#ifndef KILLS
#define KILLS	0	/* SIGKILLs, at any step of any worker */
#endif

/* ------------------------------------------------------------------- words */

#define RESERVED	1
#define COMMITTED	2
#define SKIPPED		3

#define IDLE		0
#define TAKEN		1

#define LAP(pos)	((pos) / N + 1)
#define evering_word(lap, count, owner, state) \
	((lap) * 128 + ((count) - 1) * 32 + (owner) * 4 + (state))
/* Nobody asks whose a word was that is done with. */
#define done_word(lap, count, state)	evering_word(lap, count, 0, state)
#define evering_word_state(word)	((word) % 4)
#define evering_word_owner(word)	((word) / 4 % 8)
#define evering_word_count(word)	((word) / 32 % 4 + 1)
#define evering_word_ahead(word, lap)	((word) / 128 - (lap))

/* evering_judge() */
#define READY(word, lap)	(evering_word_ahead(word, lap) == 0 && \
				 evering_word_state(word) >= COMMITTED)
#define NOT_YET(word, lap)	((word) == 0 || \
				 (evering_word_ahead(word, lap) == 0 && \
				  evering_word_state(word) == RESERVED) || \
				 evering_word_ahead(word, lap) == -1)

/* ------------------------------------------------------------------ memory */

/* What is going on in a slot. */
#define FREE		0
#define WRITING		1	/* claimed by a producer */
#define WRITTEN		2
#define ACCEPTED	3
#define DROPPED		4	/* carries nothing */
#define READING		5	/* claimed by a consumer */

typedef Slot {
	short stamp;
	short claim;
	byte phase;
	byte producer;
	byte number;		/* of its entry; 0 if it has none */
};

Slot slot[N];
byte tail, head;
bit closed;

#define multi_stamp(pos)	slot[(pos) % N].stamp
#define multi_claim(pos)	slot[(pos) % N].claim
#define phase_at(pos)		slot[(pos) % N].phase
#define producer_at(pos)	slot[(pos) % N].producer
#define number_at(pos)		slot[(pos) % N].number

/* -------------------------------------------------------- what must be true */

byte unclaimed;		/* entries accepted, and not yet claimed */
byte held;		/* claimed, and neither given back nor lost */
byte last[PRODUCERS];	/* number of the last one claimed */
byte kills, skips;
byte running;		/* producers that are not done */
byte working;		/* workers and heals that are not done */
bit told;		/* a consumer was told of the end */

/* What went wrong. */
bit torn;		/* an entry was touched by two at a time */
bit ghost;		/* an entry was read that was not accepted, or twice */
bit disordered;		/* the entries of one producer */
bit late;		/* accepted after the end was told */
bit early;		/* the end told before all was claimed */
bit lie;		/* MULTI_LIE, where nobody lies */
bit astray;		/* a cursor */
bit miscounted;		/* lost and delivered, or neither */

#define unfinished	(working > 0)

/* A producer has claimed. */
inline begin_writing(pos, count)
{
	for (j : 0 .. (count) - 1) {
		torn = torn || phase_at(pos + j) != FREE;
		phase_at(pos + j) = WRITING
	}
	j = 0;
	assert(!torn)
}

inline end_writing(pos, count)
{
	for (j : 0 .. (count) - 1) {
		torn = torn || phase_at(pos + j) != WRITING;
		phase_at(pos + j) = WRITTEN;
		producer_at(pos + j) = me;
		number++;
		number_at(pos + j) = number
	}
	j = 0;
	assert(!torn)
}

/* Its first stamp says COMMITTED. */
inline accept(pos, count)
{
	for (j : 0 .. (count) - 1) {
		torn = torn || phase_at(pos + j) != WRITTEN;
		phase_at(pos + j) = ACCEPTED
	}
	j = 0;
	unclaimed = unclaimed + count;
	late = told;
	assert(!torn);
	assert(!late)
}

/* Its stamp says SKIPPED. */
inline drop(pos)
{
	torn = (phase_at(pos) != WRITING && phase_at(pos) != WRITTEN &&
		phase_at(pos) != DROPPED);
	phase_at(pos) = DROPPED;
	producer_at(pos) = 0;
	number_at(pos) = 0;
	assert(!torn)
}

/* A consumer has claimed. */
inline begin_reading(pos, count)
{
	for (j : 0 .. (count) - 1) {
		if
		:: !READY(multi_stamp(pos + j), LAP(pos + j)) -> torn = true
		:: phase_at(pos + j) == WRITING || phase_at(pos + j) == READING ->
			torn = true
		:: else ->
			if
			:: evering_word_state(multi_stamp(pos + j)) == SKIPPED ->
				ghost = ghost || phase_at(pos + j) != DROPPED
			:: else ->
				ghost = ghost || phase_at(pos + j) != ACCEPTED;
				disordered = disordered ||
					number_at(pos + j) <=
					last[producer_at(pos + j)];
				last[producer_at(pos + j)] = number_at(pos + j);
				unclaimed--;
				held++
			fi
		fi;
		phase_at(pos + j) = READING
	}
	j = 0;
	assert(!torn);
	assert(!ghost);
	assert(!disordered)
}

/* Its claim says IDLE. */
inline end_reading(pos)
{
	torn = (phase_at(pos) != READING);
	if
	:: number_at(pos) -> held--
	:: else
	fi;
	phase_at(pos) = FREE;
	producer_at(pos) = 0;
	number_at(pos) = 0;
	assert(!torn)
}

inline check_at_rest()
{
	assert(!unfinished);
#ifndef CLOSES
	astray = (tail != head);	/* or else what is left was SKIPPED */
#endif
	assert(!astray);
	for (j : 0 .. N - 1) {
		torn = torn || (slot[j].phase != FREE &&
				slot[j].phase != DROPPED);
		miscounted = miscounted ||
			evering_word_state(slot[j].claim) != IDLE ||
			evering_word_state(slot[j].stamp) == RESERVED
	}
	j = 0;
	assert(!torn);
	/* accepted = delivered + lost */
	miscounted = miscounted || unclaimed || held;
	assert(!miscounted)
}

active proctype Quiescence()
{
	byte j;

	timeout;
	d_step { check_at_rest() }
}

/* ----------------------------------------------------------------- helpers */

#define MULTI_OK	1
#define MULTI_NONE	2
#define MULTI_BUSY	3
#define MULTI_CLOSED	4
#define MULTI_LIE	5

/*
 * An access of a worker who holds a claim, or his death.  The death of one who
 * holds nothing is his not going on, which others cannot tell.
 */
#define step(access)							\
	if								\
	:: atomic { access }						\
	:: atomic { kills > 0 -> kills--; goto killed }			\
	fi

#define try_again							\
	p = 0; n = 0; word = 0; why = 0; goto again

/* An own word says no, though the one at the cursor was looked at before. */
#ifdef JUDGE_STRICTLY
#define not_own(count)	own = (count == 0); break
#define retry		own = 0; try_again
#else
#define not_own(count)	break
#define retry		try_again
#endif

#ifdef HELP_BY_ONE
#define PAST(word)	1
#else
#define PAST(word)	evering_word_count(word)
#endif

inline multi_help(cursor, pos, word)
{
#ifdef PLAIN_CURSOR
	cursor = pos + PAST(word)
#else
	if
	:: cursor == pos -> cursor = pos + PAST(word)
	:: else
	fi
#endif
}

/*
 * Does the verdict hold, that is, has nothing moved that it rests on?  "Nothing
 * there" need not be asked: its sleep ends at once if something has.
 */
inline multi_hold(cursor, pos, at, word)
{
#ifndef NO_RELOAD
	if
	:: why == MULTI_LIE || why == MULTI_CLOSED ->
		atomic {
			if
			:: cursor != pos -> retry
			:: else
			fi
		}
#ifndef RELOAD_ONLY_CURSOR
		atomic {
			if
			:: at != word -> retry
			:: else
			fi
		}
#endif
	:: else
	fi
#else
	skip
#endif
}

/* --------------------------------------------------------------- producing */

#define multi_stamp_old(pos, word)					\
	((word) == 0 && LAP(pos) == 1 ||				\
	 (word) != 0 && evering_word_ahead(word, LAP(pos)) == -1 &&	\
	 evering_word_state(word) >= COMMITTED)

#define multi_claim_idle(pos, word)					\
	(evering_word_ahead(word, LAP(pos)) == -1 &&			\
	 evering_word_state(word) == IDLE)

inline multi_room(pos, count)
{
	do
	::	atomic {
			if
			:: multi_claim_idle(pos + count,
					    multi_claim(pos + count))
#ifdef NO_INNER_CLAIM
			:: count > 0
#endif
			:: else -> break
			fi
		}
		atomic {
			if
			:: multi_stamp_old(pos + count,
					   multi_stamp(pos + count))
#ifdef NO_INNER_STAMP
			:: count > 0
#endif
			:: else -> not_own(count)
			fi;
			count++;
			if
			:: count == wanted -> break
			:: else
			fi
		}
	od
}

inline multi_no_room(pos)
{
	atomic { v = multi_claim(pos) };
	atomic {
		if
		:: closed -> why = MULTI_CLOSED
#ifdef JUDGE_STRICTLY
		:: !closed && own -> why = MULTI_LIE
		:: !closed && !own &&
#else
		:: !closed &&
#endif
		   (evering_word_ahead(v, LAP(pos)) == -1 ||
		    evering_word_ahead(v, LAP(pos)) == -2) ->
			why = MULTI_NONE
		:: else -> why = MULTI_LIE
		fi;
		v = 0
	}
}

inline mark_inner_stamps(pos, count, state)
{
	i = 1;
	do
	:: i < count ->
		step(multi_stamp(pos + i) =
			done_word(LAP(pos + i), 1, state);
		     if
		     :: state == SKIPPED -> drop(pos + i)
		     :: else
		     fi);
		i++
	:: else -> break
	od;
	i = 0
}

inline mark_first_stamp(pos, count, state)
{
	step(multi_stamp(pos) = done_word(LAP(pos), count, state);
	     if
	     :: state == SKIPPED -> drop(pos)
	     :: else -> accept(pos, count)
	     fi)
}

inline multi_mark_stamps(pos, count, state)
{
#ifdef FIRST_STAMP_FIRST
	mark_first_stamp(pos, count, state);
	mark_inner_stamps(pos, count, state)
#else
	mark_inner_stamps(pos, count, state);
	mark_first_stamp(pos, count, state)
#endif
}

#define multi_commit(pos, count)	multi_mark_stamps(pos, count, COMMITTED)
#define multi_cancel(pos, count)	multi_mark_stamps(pos, count, SKIPPED)

/* Sets p, n and why; word is the own one that the verdict rests on. */
inline multi_reserve()
{
	why = 0;
again:	atomic { p = tail };
#ifdef ROOM_FIRST
	multi_room(p, n);
	if
	:: n == 0 ->
		multi_no_room(p);
		atomic {
			if
			:: tail != p -> retry
			:: else -> word = multi_stamp(p); goto judged
			fi
		}
	:: else
	fi;
#endif
	atomic {
		word = multi_stamp(p);
		if
		:: evering_word_ahead(word, LAP(p)) > 0 -> n = 0; goto no_room
		:: evering_word_ahead(word, LAP(p)) < 0 -> goto not_behind
		:: else
		fi
	}
#ifdef PRODUCER_DOES_NOT_HELP
	goto no_room;
#else
	atomic { multi_help(tail, p, word); retry };
#endif
not_behind:
#ifndef ROOM_FIRST
	multi_room(p, n);
#endif
	if
	:: n == 0 ->
no_room:	multi_no_room(p);
		multi_hold(tail, p, multi_stamp(p), word);
		goto judged
	:: else
	fi;
	atomic {			/* multi_put_claim() */
		if
		:: multi_stamp(p) != word -> retry
		:: else
		fi;
		word = 0;
		multi_stamp(p) = evering_word(LAP(p), n, owner, RESERVED);
		begin_writing(p, n)
	}
	step(multi_help(tail, p, evering_word(LAP(p), n, owner, RESERVED)));
	step(why = MULTI_OK;
#ifndef NO_CLOSED_LOOK
	     why = (closed -> MULTI_CLOSED : MULTI_OK)
#endif
	    );
	if
	:: why == MULTI_CLOSED -> multi_mark_stamps(p, n, SKIPPED)
	:: else
	fi;
judged:	skip
}

/* --------------------------------------------------------------- consuming */

inline multi_ready(pos, count)
{
	do
	::	atomic {
			if
			:: READY(multi_stamp(pos + count), LAP(pos + count))
			:: else -> break
			fi
		}
		atomic {
			if
			:: multi_claim_idle(pos + count,
					    multi_claim(pos + count))
			:: else -> not_own(count)
			fi;
			count++;
			if
			:: count == wanted -> break
			:: else
			fi
		}
	od
}

/* The end is told if closed was seen before the stamp. */
inline look_closed()
{
	atomic { why = (closed -> MULTI_CLOSED : MULTI_NONE) }
}

inline multi_not_ready(pos)
{
#ifdef NO_SECOND_LOOK
	atomic { v = multi_stamp(pos) };
	look_closed();
#else
	look_closed();
	atomic { v = multi_stamp(pos) };
#endif
	atomic {
		if
#ifdef JUDGE_STRICTLY
		:: own -> why = MULTI_LIE
		:: !own && READY(v, LAP(pos)) -> why = MULTI_BUSY
#else
		:: READY(v, LAP(pos)) -> why = MULTI_BUSY
#endif
		:: !READY(v, LAP(pos)) && !NOT_YET(v, LAP(pos)) ->
			why = MULTI_LIE
		:: NOT_YET(v, LAP(pos)) && v &&
		   evering_word_ahead(v, LAP(pos)) == 0 -> why = MULTI_BUSY
		:: else
		fi;
		v = 0
	}
}

/* As multi_reserve(). */
inline multi_take()
{
	why = 0;
again:	atomic { p = head };
#ifdef READY_FIRST
	multi_ready(p, n);
	if
	:: n == 0 ->
		multi_not_ready(p);
		atomic {
			if
			:: head != p -> retry
			:: else -> word = multi_claim(p); goto judged
			fi
		}
	:: else
	fi;
#endif
	atomic {
		word = multi_claim(p);
		if
		:: evering_word_ahead(word, LAP(p)) > 0 -> n = 0; goto not_ready
		:: evering_word_ahead(word, LAP(p)) < 0 -> goto not_behind
		:: else
		fi
	}
#ifdef CONSUMER_DOES_NOT_HELP
	goto not_ready;
#else
	atomic { multi_help(head, p, word); retry };
#endif
not_behind:
#ifndef READY_FIRST
	multi_ready(p, n);
#endif
	if
	:: n == 0 ->
not_ready:	multi_not_ready(p);
		multi_hold(head, p, multi_claim(p), word);
		goto judged
	:: else
	fi;
	atomic {			/* multi_put_claim() */
		if
		:: multi_claim(p) != word -> retry
		:: else
		fi;
		word = 0;
		multi_claim(p) = evering_word(LAP(p), n, owner, TAKEN);
		begin_reading(p, n)
	}
	step(multi_help(head, p, evering_word(LAP(p), n, owner, TAKEN));
	     why = MULTI_OK);
judged:	skip
}

inline release_inner_claims(pos, count)
{
	i = 1;
	do
	:: i < count ->
		step(multi_claim(pos + i) =
			done_word(LAP(pos + i), 1, IDLE);
		     end_reading(pos + i));
		i++
	:: else -> break
	od;
	i = 0
}

inline release_first_claim(pos, count)
{
	step(multi_claim(pos) = done_word(LAP(pos), count, IDLE);
	     end_reading(pos))
}

inline multi_release(pos, count)
{
#ifdef FIRST_CLAIM_FIRST
	release_first_claim(pos, count);
	release_inner_claims(pos, count)
#else
	release_inner_claims(pos, count);
	release_first_claim(pos, count)
#endif
}

/* ------------------------------------------------- the kernel, at a death */

/* Where the slot @i was claimed in the lap that @word says. */
#define claimed_at(word, i)	(((word) / 128 - 1) * N + (i))

inline heal_inner_stamps(pos, count)
{
	i = count - 1;
	do
	:: i > 0 ->
		atomic { multi_stamp(pos + i) =
			done_word(LAP(pos + i), 1, SKIPPED);
		     drop(pos + i) };
		i--
	:: else -> break
	od
}

inline heal_first_stamp(pos, count)
{
	atomic { multi_stamp(pos) = done_word(LAP(pos), count, SKIPPED);
	     drop(pos) }
}

inline heal_producer()
{
	do
	:: at < N ->
		word = multi_stamp(at);
		if
		:: evering_word_state(word) == RESERVED &&
		   evering_word_owner(word) == owner ->
			p = claimed_at(word, at);
#ifndef HEAL_DOES_NOT_HELP
			atomic { multi_help(tail, p, word) };
#endif
#ifdef HEAL_FIRST_FIRST
			heal_first_stamp(p, evering_word_count(word));
			heal_inner_stamps(p, evering_word_count(word))
#else
			heal_inner_stamps(p, evering_word_count(word));
			heal_first_stamp(p, evering_word_count(word))
#endif
		:: else
		fi;
		atomic { word = 0; p = 0; at++ }
	:: else -> break
	od
}

inline count_lost(pos)
{
	atomic { v = multi_stamp(pos);
	     miscounted = (phase_at(pos) != READING ||
			   (evering_word_state(v) == COMMITTED) !=
			   (number_at(pos) > 0));
	     v = 0;
	     assert(!miscounted) }
}

inline heal_inner_claims(pos, count)
{
	i = count - 1;
	do
	:: i > 0 ->
		v = multi_claim(pos + i);
		if		/* given back already, so read */
		:: evering_word_ahead(v, LAP(pos + i)) == 0 -> v = 0
		:: else ->
			v = 0;
			count_lost(pos + i);
			atomic { multi_claim(pos + i) =
				done_word(LAP(pos + i), 1, IDLE);
			     end_reading(pos + i) }
		fi;
		i--
	:: else -> break
	od
}

inline heal_first_claim(pos, count)
{
	count_lost(pos);
	atomic { multi_claim(pos) = done_word(LAP(pos), count, IDLE);
	     end_reading(pos) }
}

inline heal_consumer()
{
	do
	:: at < N ->
		word = multi_claim(at);
		if
		:: evering_word_state(word) == TAKEN &&
		   evering_word_owner(word) == owner ->
			p = claimed_at(word, at);
#ifndef HEAL_DOES_NOT_HELP
			atomic { multi_help(head, p, word) };
#endif
#ifdef HEAL_FIRST_FIRST
			heal_first_claim(p, evering_word_count(word));
			heal_inner_claims(p, evering_word_count(word))
#else
			heal_inner_claims(p, evering_word_count(word));
			heal_first_claim(p, evering_word_count(word))
#endif
		:: else
		fi;
		atomic { word = 0; p = 0; at++ }
	:: else -> break
	od
}

#if defined(NEW_NAME) || defined(NAME_REUSED)
proctype Heal(byte owner; bit producer)
{
	byte at, p, i, j;
	short word, v;

	if
	:: producer -> heal_producer()
	:: else -> heal_consumer()
	fi;
	atomic { at = 0; working-- }
}
#endif

/* What this life has claimed stays claimed, until it is healed. */
inline die()
{
	atomic {
		p = 0; n = 0; word = 0; why = 0;
		i = 0; v = 0; wanted = 0
	}
}

/* The next life does not wait for that. */
inline heal_meanwhile(is_producer, workers)
{
	atomic {
		working++;
		run Heal(owner, is_producer);
#ifndef NAME_REUSED
		owner = owner + workers
#endif
	}
}

/* ----------------------------------------------------------------- workers */

inline want(left, most)
{
	if
	:: wanted = (left < most -> left : most)
#ifndef WHOLE			/* always the most */
	:: most >= 2 && left >= 2 -> wanted = (left < most -> left : most) - 1
	:: most >= 3 && left >= 3 -> wanted = 1
#endif
	fi
}

proctype Producer(byte me)
{
	byte owner, number, wanted, p, n, i, j, at, why;
	short word, v;
#ifdef JUDGE_STRICTLY
	bit own;
#endif

	owner = me + 1;
alive:	do
	:: number == MSGS || why == MULTI_CLOSED -> break
	:: else ->
		want((MSGS - number), BATCH);
		multi_reserve();
		if
		:: why == MULTI_OK ->
			if
			:: step(end_writing(p, n));
				multi_commit(p, n)
			:: atomic { skips > 0 -> skips-- };
				multi_cancel(p, n)
			fi
		:: why == MULTI_NONE ->
			/* Until what was seen has changed. */
			tail != p || multi_stamp(p) != word || closed ||
			(multi_claim_idle(p, multi_claim(p)) &&
			 multi_stamp_old(p, multi_stamp(p)))
		:: why == MULTI_LIE ->
			lie = true;
			assert(!lie)
		:: why == MULTI_CLOSED
		fi;
		atomic {
			p = 0; n = 0; word = 0; wanted = 0;
			why = (why == MULTI_CLOSED -> why : 0)
		}
	od;
	atomic { why = 0; number = 0; owner = 0; running--; working-- }
	goto done;
killed:	die();
#if defined(NEW_NAME) || defined(NAME_REUSED)
	heal_meanwhile(true, PRODUCERS);
#else
	heal_producer();
	at = 0;
#endif
	goto alive;
done:	skip
}

proctype Consumer(byte me)
{
	byte owner, wanted, p, n, i, j, at, why;
	short word, v;
#ifdef JUDGE_STRICTLY
	bit own;
#endif

	owner = me + 1;
alive:	do
	:: why == MULTI_CLOSED -> break
	:: else ->
		want(TAKES, TAKES);
		multi_take();
		if
		:: why == MULTI_OK -> multi_release(p, n)
		:: why == MULTI_NONE || why == MULTI_BUSY ->
			head != p || multi_claim(p) != word ||
			READY(multi_stamp(p), LAP(p)) ||
			(closed && why == MULTI_NONE)
		:: why == MULTI_LIE ->
			lie = true;
			assert(!lie)
		:: why == MULTI_CLOSED ->
			atomic {
				told = true;
				early = (unclaimed > 0);
				assert(!early)
			}
		fi;
		atomic {
			p = 0; n = 0; word = 0; wanted = 0;
			why = (why == MULTI_CLOSED -> why : 0)
		}
	od;
	atomic { why = 0; owner = 0; working-- }
	goto done;
killed:	die();
#if defined(NEW_NAME) || defined(NAME_REUSED)
	heal_meanwhile(false, CONSUMERS);
#else
	heal_consumer();
	at = 0;
#endif
	goto alive;
done:	skip
}

proctype Closer()
{
#ifndef CLOSES
	running == 0;		/* by default when all has been sent */
#endif
	closed = true
}

init {
	byte j;

	atomic {
		kills = KILLS;
		skips = SKIPS;
		running = PRODUCERS;
		working = PRODUCERS + CONSUMERS;
		run Closer();
		for (j : 0 .. PRODUCERS - 1) {
			run Producer(j)
		}
		for (j : 0 .. CONSUMERS - 1) {
			run Consumer(j)
		}
		j = 0
	}
}
