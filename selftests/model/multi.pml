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
 * while the old one is healed; or, with STAYS_DEAD, others have to do his work.
 *
 * LEASES: who takes an entry says later that it is done (ack), or that another
 * shall have it (nack).  What the dead had is not lost but goes to another.
 *
 * SINGLE_PRODUCER, SINGLE_CONSUMER: that side is one, and works as lib/ring.h.
 *
 * LIAR: the producers' side writes what it likes.  Then nothing is said of the
 * entries, only that each consumer is told, or goes on, or sleeps.  So too with
 * LIAR_CONSUMER, and two producers never share a slot.
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
#ifndef NACKS
#define NACKS	0	/* leases that are given back undone */
#endif
#ifndef LIES
#define LIES	3	/* words that a liar writes */
#endif
#ifndef LIE_STATES
#define LIE_STATES	1	/* from this one on */
#endif
#ifndef LIE_LAPS
#define LIE_LAPS	3	/* up to this one */
#endif
#ifndef LIE_COUNTS
#define LIE_COUNTS	1	/* slots that a lie speaks for, at most */
#endif

/* ------------------------------------------------------------------- words */

#define RESERVED	1
#define COMMITTED	2
#define SKIPPED		3

#define IDLE		0
#define TAKEN		1
#define ORPHAN		2	/* to be taken again */
#define RETAKEN		3

#define LAP(pos)	((pos) / N + 1)
#define evering_word(lap, count, owner, state) \
	((lap) * 128 + ((count) - 1) * 32 + (owner) * 4 + (state))
/* Nobody asks whose a word was that is done with. */
#define done_word(lap, count, state)	evering_word(lap, count, 0, state)
#define evering_word_state(word)	((word) % 4)
#define evering_word_owner(word)	((word) / 4 % 8)
#define evering_word_count(word)	((word) / 32 % 4 + 1)
#define evering_word_ahead(word, lap)	((word) / 128 - (lap))
#define MAX_COUNT	4

/* A lease that is not the first says how often, not how many. */
#ifdef ORPHAN_COUNTS_AS_SLOTS
#define claimed_slots(word)	evering_word_count(word)
#else
#define claimed_slots(word)	(evering_word_state(word) >= ORPHAN -> 1 : \
				 evering_word_count(word))
#endif

/* evering_judge() */
#define READY(word, lap)	(evering_word_ahead(word, lap) == 0 && \
				 evering_word_state(word) >= COMMITTED)
#define NOT_YET(word, lap)	((word) == 0 || \
				 (evering_word_ahead(word, lap) == 0 && \
				  evering_word_state(word) == RESERVED) || \
				 evering_word_ahead(word, lap) == -1)

/* evr_entry_lost(): of what a dead consumer had */
#ifdef SKIPPED_IS_LOST
#define is_lost(stamp)	(evering_word_state(stamp) >= COMMITTED)
#else
#define is_lost(stamp)	(evering_word_state(stamp) == COMMITTED)
#endif

/*
 * Somebody has claimed it; and if he has skipped it meanwhile, what is behind it
 * may still be committed.
 */
#ifdef ONLY_RESERVED
#define being_written(word, lap)	(evering_word_ahead(word, lap) == 0 && \
					 evering_word_state(word) == RESERVED)
#else
#define being_written(word, lap)	(evering_word_ahead(word, lap) == 0)
#endif
#define evr_being_written(pos)	being_written(multi_stamp(pos), LAP(pos))

/* ------------------------------------------------------------------ memory */

/* What is going on in a slot. */
#define FREE		0
#define WRITING		1	/* claimed by a producer */
#define WRITTEN		2
#define ACCEPTED	3
#define DROPPED		4	/* carries nothing */
#define READING		5	/* claimed by a consumer */
#define ORPHANED	6	/* was, and has to be again */

typedef Slot {
	short stamp;
	short claim;
	byte phase;
	byte producer;
	byte number;		/* of its entry; 0 if it has none */
#ifdef LEASES
	byte deliveries;	/* of its entry, so far */
#endif
};

Slot slot[N];
byte tail, head;
bit closed;
bit close_said;		/* CLOSE_IN_TWO_STEPS */
#if defined(SINGLE_CONSUMER) || defined(LIAR_CONSUMER)
bit dead;		/* the consumers' side */
#else
#define dead	false
#endif
#ifdef LEASES
byte orphan_seq;
byte nacks;
#endif

#define multi_stamp(pos)	slot[(pos) % N].stamp
#define multi_claim(pos)	slot[(pos) % N].claim
#define phase_at(pos)		slot[(pos) % N].phase
#define producer_at(pos)	slot[(pos) % N].producer
#define number_at(pos)		slot[(pos) % N].number

/* -------------------------------------------------------- what must be true */

byte unclaimed;		/* entries accepted, and not yet claimed */
byte held;		/* claimed, and neither given back nor lost */
#ifdef WALKER
byte claimed;		/* first position that no consumer has claimed */
#endif
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
bit miscounted;		/* lost and delivered, or neither; or how often */

#define unfinished	(working > 0)

#ifdef LIAR
/* Who lies has no entries to speak of. */
#define begin_writing(pos, count)	skip
#define begin_reading(pos, count)	skip
#define begin_reading_again(pos, times)	skip
#define end_reading(pos)		skip
#define orphaned(pos)			skip
#define check_told(own)			skip
#define check_lost(pos)			skip

/* Nobody sleeps but for one who says that he is writing. */
inline check_at_rest()
{
	assert(!unfinished || (evr_being_written(head) &&
		evering_word_state(multi_stamp(head)) == RESERVED))
}
#else

/* A producer has claimed. */
inline begin_writing(pos, count)
{
	for (j : 0 .. (count) - 1) {
#ifdef LIAR_CONSUMER
		/* He may lose what was accepted, and must not make us tear. */
		torn = torn || phase_at(pos + j) == WRITING ||
			phase_at(pos + j) == WRITTEN;
#else
		torn = torn || phase_at(pos + j) != FREE;
#endif
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
#ifdef LEASES
				; slot[(pos + j) % N].deliveries = 1
#endif
			fi
		fi;
		phase_at(pos + j) = READING
	}
	j = 0;
#ifdef WALKER
	claimed = pos + count;
#endif
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
#ifdef LEASES
	slot[(pos) % N].deliveries = 0;
#endif
	assert(!torn)
}

#ifdef LEASES
/* It is nobody's: its owner has died, or said nack. */
inline orphaned(pos)
{
	torn = (phase_at(pos) != READING);
	ghost = (number_at(pos) == 0);
	phase_at(pos) = ORPHANED;
	assert(!torn);
	assert(!ghost)
}

/* Only what is nobody's is delivered again, and then it is marked. */
inline begin_reading_again(pos, times)
{
	torn = (phase_at(pos) != ORPHANED);
	phase_at(pos) = READING;
	slot[(pos) % N].deliveries =
		(slot[(pos) % N].deliveries < MAX_COUNT ->
		 slot[(pos) % N].deliveries + 1 : MAX_COUNT);
	miscounted = (slot[(pos) % N].deliveries != times);
	assert(!torn);
	assert(!miscounted)
}
#endif

/* A consumer was told of the end. */
inline check_told(own)
{
	told = true;
	early = (unclaimed > 0);
#ifdef LEASES
	early = early || held > own;
#endif
	assert(!early)
}

/* Of what a dead consumer had, the entries are lost, and nothing else. */
inline check_lost(pos)
{
	miscounted = (phase_at(pos) != READING ||
		      is_lost(multi_stamp(pos)) != (number_at(pos) > 0));
	assert(!miscounted)
}

inline check_at_rest()
{
	assert(!unfinished);
	if
	:: dead -> goto checked		/* and all that was left to it */
	:: else
	fi;
#ifndef CLOSES			/* or else what is left was SKIPPED */
	j = tail;
	c = head;
#if KILLS
	/* Killed when he had committed, or given back, and not helped the cursor. */
	if
	:: evering_word_ahead(multi_stamp(j), LAP(j)) == 0 ->
		j = j + evering_word_count(multi_stamp(j))
	:: else
	fi;
	if
	:: evering_word_ahead(multi_claim(c), LAP(c)) == 0 ->
		c = c + claimed_slots(multi_claim(c))
	:: else
	fi;
#endif
	astray = (j != c);
	c = 0;
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
	assert(!miscounted);
checked:
	skip
}
#endif

active proctype Quiescence()
{
	byte j, c;

	timeout;
	d_step { check_at_rest() }
}

/* ----------------------------------------------------------------- helpers */

#define MULTI_OK	1
#define MULTI_NONE	2
#define MULTI_BUSY	3
#define MULTI_CLOSED	4
#define MULTI_LIE	5

#ifdef END_BELL
/* Who sleeps for the end does not look by himself: somebody has to ring. */
bit asleep[CONSUMERS], rung[CONSUMERS];

inline ring_all()
{
	for (j : 0 .. CONSUMERS - 1) {
		rung[j] = rung[j] || asleep[j]
	}
	j = 0
}
#endif

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
#define PAST(slots)	1
#else
#define PAST(slots)	slots
#endif

inline multi_help(cursor, pos, slots)
{
#ifdef PLAIN_CURSOR
	cursor = pos + PAST(slots)
#else
	if
	:: cursor == pos -> cursor = pos + PAST(slots)
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

/* Claims that are looked at in advance */
#define MULTI_AHEAD	N

/*
 * Up to where slots were given back, as far as this producer knows: room.  What was
 * given back stays so until one of his own side has claimed it.
 */
#ifdef ROOM_STAYS
#define room_known(pos)	(room + N - (pos) >= wanted)	/* in the lap before */
#else
#define room_known(pos)	(room - (pos) >= wanted)
#endif

/* What is behind is as good as none. */
#ifdef ROOM_STAYS
#define forget_room(pos)	skip
#else
#define forget_room(pos)	room = (room > (pos) -> room : 0)
#endif

inline multi_room_end(pos)
{
	if
	:: room_known(pos) -> end = pos + wanted
	:: else ->
#ifdef SINGLE_CONSUMER
		atomic {
			end = head + N;
			if
			:: end - pos < 0 || end - pos > N -> end = pos
			:: else -> room = end
			fi
		}
#else
		end = (room < pos -> pos : room);
		do		/* multi_idle() */
		::	atomic {
				if
				:: end < pos + MULTI_AHEAD &&
				   multi_claim_idle(end, multi_claim(end)) ->
					end = end + evering_word_count(multi_claim(end))
#ifdef NO_INNER_CLAIM
				:: end < pos + MULTI_AHEAD && end > pos -> end++
#endif
				:: else -> break
				fi
			}
		od;
		atomic {
			end = (end > pos + MULTI_AHEAD -> pos + MULTI_AHEAD : end);
			room = end
		}
#endif
	fi
}

inline multi_room(pos, count)
{
	multi_room_end(pos);
	do
	::	atomic {
			if
			:: count == wanted || pos + count >= end -> break
			:: else
			fi;
			if
			:: multi_stamp_old(pos + count,
					   multi_stamp(pos + count)) ->
				count = count +
					evering_word_count(multi_stamp(pos + count))
#ifdef NO_INNER_STAMP
			:: count > 0 -> count++
#endif
			:: else -> not_own(count)
			fi
		}
	od;
	atomic {
		count = (count > wanted -> wanted : count);
		count = (pos + count > end -> end - pos : count);
		end = 0
	}
}

#ifdef SINGLE_CONSUMER
inline multi_no_room(pos)
{
	atomic { v = head };
	atomic {
		if
		:: closed -> why = MULTI_CLOSED
#ifndef ROOM_NOT_OWN
		:: !closed && pos - v >= 0 && pos - v < N &&
		   !multi_stamp_old(pos, multi_stamp(pos)) -> why = MULTI_LIE
		:: !closed && pos - v >= 0 && pos - v < N &&
		   multi_stamp_old(pos, multi_stamp(pos)) -> why = MULTI_NONE
#else
		:: !closed && pos - v >= 0 && pos - v < N -> why = MULTI_NONE
#endif
		:: !closed && pos - v == N -> why = MULTI_NONE
		:: else -> why = MULTI_LIE
		fi;
		v = 0
	}
}

#define has_room(pos)	((pos) - head >= 0 && (pos) - head < N)
#else
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

#ifdef ROOM_BY_HEAD
#define has_room(pos)	((pos) - head < N)
#else
#define has_room(pos)	multi_claim_idle(pos, multi_claim(pos))
#endif
#endif

/* kmod/ready.c: what ends a sleep; first, a head or claim that cannot be. */
#define evr_room_lie(pos)						\
	(evering_word_ahead(multi_claim(pos), LAP(pos)) > -1 ||		\
	 evering_word_ahead(multi_claim(pos), LAP(pos)) < -2)
#ifdef SINGLE_CONSUMER
#define evr_slot_free(pos)	((pos) - head != N)	/* evr_head_ready() */
#elif defined(ROOM_NOT_OWN)
#define evr_slot_free(pos)	(evr_room_lie(pos) || has_room(pos))
#else
#define evr_slot_free(pos)						\
	(evr_room_lie(pos) ||						\
	 (has_room(pos) && multi_stamp_old(pos, multi_stamp(pos))))
#endif

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

/* The entries are written between or behind the inner stamps. */
inline multi_commit(pos, count)
{
#ifdef FIRST_STAMP_FIRST
	step(end_writing(pos, count));
	mark_first_stamp(pos, count, COMMITTED);
	mark_inner_stamps(pos, count, COMMITTED);
#else
	mark_inner_stamps(pos, count, COMMITTED);	/* multi_commit_inner() */
	step(end_writing(pos, count));
	mark_first_stamp(pos, count, COMMITTED);
#endif
	step(multi_help(tail, pos, count))
}

inline multi_cancel(pos, count)
{
	mark_inner_stamps(pos, count, SKIPPED);
	mark_first_stamp(pos, count, SKIPPED);
	step(multi_help(tail, pos, count))
}

/* Who is told has done with that ring. */
inline told_lie()
{
#if defined(LIAR) || defined(LIAR_CONSUMER)
	why = MULTI_CLOSED
#else
	lie = true;
	assert(!lie)
#endif
}

/* Sets p, n and why; word is the own one that the verdict rests on. */
inline multi_reserve()
{
	why = 0;
again:	atomic {
		p = tail;
		forget_room(p)
	};
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
	atomic { multi_help(tail, p, evering_word_count(word)); retry };
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
	step(why = MULTI_OK;
#ifndef NO_CLOSED_LOOK
	     why = (closed -> MULTI_CLOSED : MULTI_OK)
#endif
	    );
	if
	:: why == MULTI_CLOSED -> multi_cancel(p, n)
	:: else
	fi;
judged:	skip
}

/* --------------------------------------------------------------- consuming */

/* The counts of the words stand for the slots behind them; v: up to where. */
inline multi_ready(pos, count)
{
	do
	::	atomic {
			if
			:: v > count
			:: v <= count &&
			   READY(multi_stamp(pos + count), LAP(pos + count)) ->
				v = count + evering_word_count(multi_stamp(pos + count))
			:: else -> break
			fi
		}
		atomic {
			if
			:: multi_claim_idle(pos + count,
					    multi_claim(pos + count)) ->
				count = count +
					evering_word_count(multi_claim(pos + count))
			:: else -> not_own(count)
			fi;
			count = (count > v -> v : count);
			if
			:: count >= wanted -> count = wanted; break
			:: else
			fi
		}
	od;
	atomic { v = 0 }
}

/* multi_entry() of all: is one not what the first has said?  v */
inline multi_entries(pos, count)
{
	do
	:: i < count ->
		atomic {
			v = (READY(multi_stamp(pos + i), LAP(pos + i)) -> v : 1);
			i++
		}
	:: else -> break
	od;
	atomic { i = 0 }
}

/* The end is told if closed was seen before the stamp. */
inline look_closed()
{
#ifdef CLOSE_IN_TWO_STEPS
	atomic { why = (close_said -> MULTI_CLOSED : MULTI_NONE) }
#else
	atomic { why = (closed -> MULTI_CLOSED : MULTI_NONE) }
#endif
}

/* A claim that no honest producer goes over: the lap before is in use. */
#define multi_claim_in_use(pos, word)					\
	(evering_word_ahead(word, LAP(pos)) < 0 && !multi_claim_idle(pos, word))

/* kmod/ready.c: what ends a sleep. */
#define evr_slot_lie(pos)						\
	(READY(multi_stamp(pos), LAP(pos)) ->				\
	 multi_claim_in_use(pos, multi_claim(pos)) :			\
	 !NOT_YET(multi_stamp(pos), LAP(pos)))
#define evr_slot_full(pos)						\
	(evr_slot_lie(pos) || (READY(multi_stamp(pos), LAP(pos)) &&	\
			       multi_claim_idle(pos, multi_claim(pos))))

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
#elif defined(ONLY_RESERVED)
		:: READY(v, LAP(pos)) && evering_word_state(v) == COMMITTED ->
			why = MULTI_BUSY
		:: READY(v, LAP(pos)) && evering_word_state(v) == SKIPPED
#else
		:: READY(v, LAP(pos)) -> why = MULTI_BUSY
#endif
		:: !READY(v, LAP(pos)) && !NOT_YET(v, LAP(pos)) ->
			why = MULTI_LIE
		:: NOT_YET(v, LAP(pos)) && v &&
		   evering_word_ahead(v, LAP(pos)) == 0 -> why = MULTI_BUSY
		:: else
		fi;
#if !defined(ENDLESS_BUSY) && !defined(SINGLE_CONSUMER)
		if
		:: READY(v, LAP(pos))
		:: else -> v = 0; goto not_ready_judged
		fi;
#endif
		v = 0
	}
#if !defined(ENDLESS_BUSY) && !defined(SINGLE_CONSUMER)
	atomic {		/* after the stamp */
		v = multi_claim(pos);
		if
		:: multi_claim_in_use(pos, v) -> why = MULTI_LIE
		:: else
		fi;
		v = 0
	}
#endif
not_ready_judged:
	skip
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
	atomic { multi_help(head, p, claimed_slots(word)); retry };
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
	step(why = MULTI_OK);
judged:	skip
}

#ifdef LEASES
/* One that a dead consumer has left, or one who said nack: p and why. */
inline multi_take_orphan()
{
#ifndef ORPHANS_NOT_SCANNED
	atomic { seq = orphan_seq };
	if
	:: seq == orphans_seen -> goto no_orphan
	:: else
	fi;
	do
	:: at < N ->
		atomic {
			word = multi_claim(at);
			if
			:: evering_word_state(word) == ORPHAN
			:: else -> word = 0; at++; goto next_orphan
			fi
		};
		atomic {
			if
			:: multi_claim(at) == word ->
				n = evering_word_count(word);
				n = (n < MAX_COUNT -> n + 1 : n);
				p = (word / 128 - 1) * N + at;
				multi_claim(at) = evering_word(LAP(p), n, owner,
							       RETAKEN);
				begin_reading_again(p, n);
				n = 1;
				why = MULTI_OK;
				word = 0; at = 0; seq = 0;
				goto taken
			:: else -> word = 0; at++
			fi
		};
next_orphan:	skip
	:: else -> break
	od;
#ifdef SEQ_READ_AFTER_SCAN
	atomic { orphans_seen = orphan_seq; at = 0 };
#else
	atomic { orphans_seen = seq; at = 0 };
#endif
no_orphan:
	atomic { seq = 0 }
#else
	skip
#endif
}

#define multi_ack(pos)							\
	step(assert(evering_word_owner(multi_claim(pos)) == owner);	\
	     multi_claim(pos) = done_word(LAP(pos), 1, IDLE);		\
	     end_reading(pos));						\
	step(multi_help(head, pos, 1))

inline multi_nack(pos)
{
	step(v = multi_claim(pos);
	     assert(evering_word_owner(v) == owner);
	     multi_claim(pos) = done_word(LAP(pos), evering_word_count(v),
					  ORPHAN);
	     v = 0;
	     orphaned(pos));
	step(multi_help(head, pos, 1));
	step(orphan_seq++)
}

/* The lease of another, or nobody's.  Without HOLDS who asks has none. */
#ifdef HOLDS
#define leased_by_other(word)						\
	(evering_word_state(word) != IDLE &&				\
	 (evering_word_state(word) == ORPHAN ||				\
	  evering_word_owner(word) != owner))
#define my_leases	(kept -> 1 : 0)

inline ack_kept()
{
	if
	:: kept -> multi_ack(kept - 1); kept = 0
	:: else
	fi
}
#else
#define leased_by_other(word)	(evering_word_state(word) != IDLE)
#define my_leases	0
#endif

/*
 * At the end: may an entry come back?  The oldest first, and so the first slot
 * of a claim before the others, which are not marked while that is.
 */
inline multi_leased()
{
#ifndef END_IGNORES_LEASES
	atomic { at = head };
	do
	:: i < N ->
		atomic {
#ifdef END_SCANS_FROM_ZERO
			v = multi_claim(i);
#else
			v = multi_claim(at + i);
#endif
			if
			:: !leased_by_other(v) -> v = 0; i++
			:: else ->
				v = 0;
				why = MULTI_NONE;
#ifdef HOLDS
				ended = true;
#endif
				break
			fi
		}
	:: else -> break
	od;
	atomic { i = 0; at = 0 }
#else
	skip
#endif
}

/* N is 2 to 4. */
#define leased(i)	leased_by_other(slot[i].claim)
#ifdef ORPHANS_NOT_SCANNED
#define lease_news	false
#else
#define lease_news	(orphan_seq != orphans_seen)
#endif
#ifdef END_IGNORES_LEASES
#define may_end		true
#else
#define may_end		(!leased(0) && !leased(1) && !leased(N - 1) && \
			 !leased(N - 2))
#endif
#else
#define lease_news	false
#define may_end		true
#define my_leases	0
#endif

/* Whatever is given back may have been what others wait for at the end. */
#ifdef NO_END_BELL
#define rings_not(pos)	true
#elif defined(ACKS_ALONE_RING)
#define rings_not(pos)	(number_at(pos) == 0)	/* SKIPPED */
#else
#define rings_not(pos)	false
#endif

inline end_bell()
{
#ifdef END_BELL
	step(if
	     :: closed -> ring_all()
	     :: else
	     fi)
#else
	skip
#endif
}

#if defined(HOLDS) && !defined(HOLDERS_SLEEP)
#define at_end		ended
#define kept_some	(kept > 0)
#else
#define at_end		false
#define kept_some	false
#endif

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
	release_inner_claims(pos, count);
#else
	release_inner_claims(pos, count);
	release_first_claim(pos, count);
#endif
	step(multi_help(head, pos, count))
}

/* ------------------------------------------------- the kernel, at a death */

#ifdef HEAL_OF_ANYBODY
#define is_his(word)	true
#else
#define is_his(word)	(evering_word_owner(word) == owner)
#endif

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
		   is_his(word) ->
			p = claimed_at(word, at);
#ifndef HEAL_DOES_NOT_HELP
			atomic { multi_help(tail, p, evering_word_count(word)) };
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

/* Given back, or given on; nobody but the dead has written there since. */
inline heal_claim(pos, count)
{
	atomic { check_lost(pos) };
	atomic {
#ifdef LEASES
		if
		:: is_lost(multi_stamp(pos)) ->
			multi_claim(pos) = done_word(LAP(pos), 1, ORPHAN);
			orphaned(pos);
			left = true
		:: else ->
			multi_claim(pos) = done_word(LAP(pos), count, IDLE);
			end_reading(pos)
		fi
#else
		multi_claim(pos) = done_word(LAP(pos), count, IDLE);
		end_reading(pos)
#endif
	}
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
			heal_claim(pos + i, 1)
		fi;
		i--
	:: else -> break
	od
}

#ifdef LEASES
inline heal_retaken(pos, times)
{
#ifdef ORPHAN_COUNTS_AS_SLOTS
	heal_inner_claims(pos, times);
#endif
	atomic {
		multi_claim(pos) = done_word(LAP(pos), times, ORPHAN);
		orphaned(pos);
		left = true
	}
}
#endif

/* Those behind the first may be ORPHANs: then it does not speak for them. */
#if defined(LEASES) && !defined(HEAL_KEEPS_COUNT)
#define HEALED_SLOTS(word)	1
#else
#define HEALED_SLOTS(word)	evering_word_count(word)
#endif

/* evr_heal_consumer() */
inline heal_consumer()
{
	do
	:: at < N ->
		word = multi_claim(at);
		if
		:: evering_word_state(word) == TAKEN &&
		   is_his(word) ->
			p = claimed_at(word, at);
#ifndef HEAL_DOES_NOT_HELP
			atomic { multi_help(head, p, evering_word_count(word)) };
#endif
#if defined(HEAL_FIRST_FIRST) || defined(HEAL_LEASE_FIRST_FIRST)
			heal_claim(p, HEALED_SLOTS(word));
			heal_inner_claims(p, evering_word_count(word))
#else
			heal_inner_claims(p, evering_word_count(word));
			heal_claim(p, HEALED_SLOTS(word))
#endif
#ifdef LEASES
		:: evering_word_state(word) == RETAKEN &&
		   is_his(word) ->
			p = claimed_at(word, at);
			heal_retaken(p, evering_word_count(word))
#endif
		:: else
		fi;
		atomic { word = 0; p = 0; at++ }
	:: else -> break
	od;
#ifdef LEASES
	/* Also where it left none: nack takes two steps. */
	atomic {
#ifdef NO_SEQ_AFTER_HEAL
		orphan_seq = orphan_seq + left;
#else
		orphan_seq++;
#endif
		left = false
	}
#endif
#ifdef END_BELL
	atomic { ring_all() }	/* the death is announced */
#endif
}

#if defined(NEW_NAME) || defined(NAME_REUSED)
proctype Heal(byte owner; bit producer)
{
	byte at, p, i, j;
	short word, v;
#ifdef LEASES
	bit left;
#endif

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

/* The end, as consumers see it. */
#ifdef CLOSE_IN_TWO_STEPS
#define consumers_closed	close_said
#else
#define consumers_closed	closed
#endif

#ifdef LIAR
/* Writes what it likes, and where. */
proctype Producer(byte me)
{
	byte lies, i, lap, state, count;

	do
	:: true -> break
	:: lies < LIES ->
		select (i : 0 .. N - 1);
		select (lap : 1 .. LIE_LAPS);
		select (state : LIE_STATES .. 3);
		select (count : 1 .. LIE_COUNTS);
		atomic {
			slot[i].stamp = evering_word(lap, count, 1, state);
			i = 0; lap = 0; state = 0; count = 0;
			lies++
		}
	od;
	atomic { lies = 0; running--; working-- }
}
#elif defined(SINGLE_PRODUCER)
/* lib/ring.h; its tail is a hint, and where its successor goes on. */
proctype Producer(byte me)
{
	byte number, wanted, p, n, i, j;

alive:	do
	:: number == MSGS -> break
	:: else ->
		want((MSGS - number), BATCH);
		do		/* ring_room(), ring_reserve() */
		:: n == wanted -> break
		::	atomic {
				n < wanted;
				if
				:: has_room(p + n) ->
					begin_writing(p + n, 1);
					n++
				:: else -> break
				fi
			}
		od;
		if
		:: n > 0 -> step(end_writing(p, n))
		:: else -> has_room(p)
		fi;
		do		/* ring_commit() */
		:: i < n ->
			if
			:: step(multi_stamp(p) = done_word(LAP(p), 1, COMMITTED);
				accept(p, 1))
			:: atomic { skips > 0 -> skips-- };
				step(multi_stamp(p) =
					done_word(LAP(p), 1, SKIPPED);
				     drop(p))
			fi;
			step(p++; i++; tail = p)
		:: else -> break
		od;
		atomic { n = 0; i = 0; wanted = 0 }
	od;
	goto done;
killed:	atomic {
		for (j : 0 .. N - 1) {
			if	/* nobody has seen these */
			:: phase_at(j) == WRITING || phase_at(j) == WRITTEN ->
				phase_at(j) = FREE;
				producer_at(j) = 0;
				number_at(j) = 0
			:: else
			fi
		}
		j = 0; n = 0; i = 0; wanted = 0; p = 0
	};
	atomic { p = tail };
#ifndef NO_TAIL_WALK
	do
	::	atomic {
			if
			:: evering_word_ahead(multi_stamp(p), LAP(p)) >= 0 -> p++
			:: else -> break
			fi
		}
	od;
	tail = p;
#endif
	atomic {	/* not over what may have been accepted */
		astray = (evering_word_ahead(multi_stamp(p), LAP(p)) >= 0);
		assert(!astray)
	};
#ifdef RESTARTS
	goto alive;
#endif
done:	atomic { number = 0; p = 0; running--; working-- }
}
#else
proctype Producer(byte me)
{
	byte owner, number, wanted, p, n, i, j, at, why, room, end;
	short word, v;
#ifdef JUDGE_STRICTLY
	bit own;
#endif

	owner = me + 1;
alive:	do
	:: number == MSGS || why == MULTI_CLOSED || dead -> break
	:: else ->
		want((MSGS - number), BATCH);
		multi_reserve();
		if
		:: why == MULTI_OK ->
			if
			:: multi_commit(p, n)
			:: atomic { skips > 0 -> skips-- };
				multi_cancel(p, n)
			fi
		:: why == MULTI_NONE ->
			/* Until what was seen has changed. */
			tail != p || multi_stamp(p) != word || closed || dead ||
			evr_slot_free(p)
		:: why == MULTI_LIE -> told_lie()
		:: why == MULTI_CLOSED
		fi;
		atomic {
			forget_room(p + n);
			p = 0; n = 0; word = 0; wanted = 0;
			why = (why == MULTI_CLOSED -> why : 0)
		}
	od;
	atomic { why = 0; number = 0; owner = 0; room = 0; running--; working-- }
	goto done;
killed:	atomic { room = 0; end = 0 };
	die();
#if defined(NEW_NAME) || defined(NAME_REUSED)
	heal_meanwhile(true, PRODUCERS);
#else
	heal_producer();
	at = 0;
#endif
	goto alive;
done:	skip
}
#endif

#ifdef LIAR_CONSUMER
/* Gives back what it likes, read or not. */
proctype Consumer(byte me)
{
	byte lies, i, lap, state, count;

	do
	:: true -> break
#ifdef SINGLE_CONSUMER
	:: lies < LIES ->
		select (i : 0 .. PRODUCERS * MSGS + 1);
		atomic { head = i; i = 0; lies++ }
#else
	:: lies < LIES ->
		select (i : 0 .. N - 1);
		select (lap : 0 .. 2);
		select (state : 0 .. 1);
		select (count : 1 .. LIE_COUNTS);
		atomic {
			slot[i].claim = evering_word(lap, count, 1, state);
			i = 0; lap = 0; state = 0; count = 0;
			lies++
		}
#endif
	od;
	atomic { lies = 0; dead = true; working-- }
}
#elif defined(SINGLE_CONSUMER)
/* lib/ring.h: what is before its head is free, and not all that it has read. */
proctype Consumer(byte me)
{
	byte p, n, i, j, why;
	short v;

	do
	:: why == MULTI_CLOSED -> break
	:: else ->
		do		/* ring_peek() */
		:: n == TAKES -> break
		:: n > 0 -> break
		::	atomic {
				n < TAKES;
				if
				:: READY(multi_stamp(p + n), LAP(p + n)) ->
					begin_reading(p + n, 1);
#ifdef PUBLISH_TOO_EARLY
					head = p + n + 1;
#endif
					n++
				:: else -> break
				fi
			}
		od;
		if
		:: n > 0 ->	/* ring_seen(), ring_publish() */
			step(for (i : 0 .. n - 1) {
				end_reading(p + i)
			     }
			     i = 0;
			     p = p + n;
			     head = p)
		:: else ->
			multi_not_ready(p);
			if
			:: why == MULTI_NONE || why == MULTI_BUSY ->
				READY(multi_stamp(p), LAP(p)) ||
				(closed && !evr_being_written(p))
			:: why == MULTI_LIE -> told_lie()
			:: why == MULTI_CLOSED -> atomic { check_told(0) }
			fi
		fi;
		atomic { n = 0; why = (why == MULTI_CLOSED -> why : 0) }
	od;
	goto done;
killed:	atomic { dead = true; n = 0 };
done:	atomic { why = 0; p = 0; working-- }
}
#else
/* What ends a sleep. */
#ifdef END_BELL
#define moved(pos, word)	(head != pos)
#else
#define moved(pos, word)	(head != pos || multi_claim(pos) != word)
#endif
#define news(pos, word)							\
	(moved(pos, word) || evr_slot_full(pos) || lease_news)
#define end_news(pos)							\
	(consumers_closed && !evr_being_written(pos) && (may_end || kept_some))

proctype Consumer(byte me)
{
	byte owner, wanted, p, n, i, j, at, why;
	short word, v;
#ifdef JUDGE_STRICTLY
	bit own;
#endif
#ifdef LEASES
	byte seq, orphans_seen;
	bit left;
#endif
#ifdef HOLDS
	byte kept;		/* position + 1 of a lease that is not the last */
	bit ended;		/* but for the leases */
#endif

	owner = me + 1;
alive:	do
	:: why == MULTI_CLOSED -> break
	:: else ->
#ifdef LEASES
		multi_take_orphan();
#endif
		want(TAKES, TAKES);
		multi_take();
#ifdef LEASES
		if
		:: why == MULTI_CLOSED -> multi_leased()
		:: else
		fi;
taken:
#endif
		if
#ifdef HOLDS
		:: why == MULTI_OK && !kept && number_at(p) > 0 ->
			atomic { kept = p + 1 }
		:: why == MULTI_OK && (kept || number_at(p) == 0) ->
			multi_ack(p);
			ack_kept()
#elif defined(LEASES)
		:: why == MULTI_OK && n == 1 && !rings_not(p) ->
			multi_ack(p);
			end_bell()
		:: why == MULTI_OK && n == 1 && rings_not(p) -> multi_ack(p)
		:: atomic { why == MULTI_OK && n == 1 && nacks > 0 &&
			    number_at(p) > 0 -> nacks-- };
			multi_nack(p)
		:: why == MULTI_OK && n > 1 ->
			multi_release(p, n)
#if !defined(ACKS_ALONE_RING) && !defined(NO_END_BELL)
			; end_bell()
#endif
#elif defined(LIAR) && LIE_COUNTS > 1
		:: why == MULTI_OK ->
			multi_entries(p, n);
			multi_release(p, n);
			if
			:: v -> told_lie(); v = 0
			:: else
			fi
#else
		:: why == MULTI_OK -> multi_release(p, n)
#endif
		:: (why == MULTI_NONE || why == MULTI_BUSY) &&
		   !(at_end && kept_some) ->
#ifdef END_BELL
			atomic { asleep[me] = true };
			if
			:: news(p, word) || end_news(p)
			:: else -> news(p, word) || rung[me]
			fi;
			atomic { asleep[me] = false; rung[me] = false }
#else
			news(p, word) || end_news(p)
#endif
		:: why == MULTI_LIE -> told_lie()
#if defined(HOLDS) && !defined(HOLDERS_SLEEP)
		/* He is told that he holds what others wait for. */
		:: (why == MULTI_NONE || why == MULTI_BUSY) &&
		   at_end && kept_some -> ack_kept()
#endif
		:: why == MULTI_CLOSED -> atomic { check_told(my_leases) }
		fi;
		atomic {
			p = 0; n = 0; word = 0; wanted = 0;
#ifdef HOLDS
			ended = false;
#endif
			why = (why == MULTI_CLOSED -> why : 0)
		}
	od;
#ifdef HOLDS
	ack_kept();
#endif
	atomic {
		why = 0; owner = 0; working--;
#ifdef LEASES
		orphans_seen = 0
#endif
	}
	goto done;
killed:	die();
#ifdef LEASES
	atomic {
		seq = 0; orphans_seen = 0;
#ifdef HOLDS
		kept = 0; ended = false
#endif
	};
#endif
#if defined(NEW_NAME) || defined(NAME_REUSED)
	heal_meanwhile(false, CONSUMERS);
#else
	heal_consumer();
	at = 0;
#endif
#ifdef STAYS_DEAD
	atomic { owner = 0; working-- };
#else
	goto alive;
#endif
done:	skip
}
#endif

#ifdef WALKER
/* evr_walk(): where the consumers' cursor would be if all had helped it. */
proctype Walker()
{
	byte pos;
	short word;

	atomic { pos = head };
	do
	::	atomic {
			word = multi_claim(pos);
			if
			:: evering_word_ahead(word, LAP(pos)) < 0 -> break
			:: evering_word_ahead(word, LAP(pos)) == 0 ->
				pos = pos + claimed_slots(word)
			:: else -> goto reload
			fi
		}
		goto walked;
reload:		atomic { pos = head };
walked:		word = 0
	od;
	atomic {
		/* Not beyond what is claimed. */
		astray = (pos > claimed);
		assert(!astray);
		pos = 0; word = 0
	}
}
#endif

proctype Closer()
{
#ifdef END_BELL
	byte j;
#endif

#ifndef CLOSES
	running == 0;		/* by default when all has been sent */
#endif
	closed = true;
#ifdef END_BELL
	atomic { ring_all() };
#endif
#ifdef CLOSE_IN_TWO_STEPS
	if
	:: close_said = true
	:: atomic { kills > 0 -> kills-- }
	fi
#endif
}

init {
	byte j;

	atomic {
		kills = KILLS;
		skips = SKIPS;
#ifdef LEASES
		nacks = NACKS;
#endif
		running = PRODUCERS;
		working = PRODUCERS + CONSUMERS;
		run Closer();
#ifdef WALKER
		run Walker();
#endif
		for (j : 0 .. PRODUCERS - 1) {
			run Producer(j)
		}
		for (j : 0 .. CONSUMERS - 1) {
			run Consumer(j)
		}
		j = 0
	}
}
