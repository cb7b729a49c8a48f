/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A publisher that does not wait, and a subscriber that believes what it has read only
 * after it has looked again: lib/publisher.c and lib/subscriber.c, with the inlines
 * named after their functions.
 *
 * Memory is in order, and a step is one access to what is shared; the fences that
 * keep it in order are named in lib/publisher.c.  The heap is CELLS granules, each of
 * which holds the number of the message that was written there; a message takes one
 * or two.  The publisher may be killed at any step, or cancel.
 */

#ifndef N
#define N	2	/* slots */
#endif
#ifndef CELLS
#define CELLS	3
#endif
#ifndef MSGS
#define MSGS	4
#endif
#ifndef KILLS
#define KILLS	0	/* or 1 */
#endif
#ifndef CANCELS
#define CANCELS	0
#endif

#define COMMITTED	2
#define STATE(stamp)	((stamp) & 3)
#define LAP(stamp)	((stamp) >> 2)
#define stamp_of(number, state) ((((number) / N + 1) << 2) | (state))

byte stamp[N];
byte slot_offset[N];
byte slot_len[N];
byte cell[CELLS];	/* number + 1 of the message */
byte tail;
byte floor;
bool killed, dead;

bool torn;		/* what was believed was not the message */
bool lie;		/* an honest publisher was called a liar */
bool early;		/* the end was told, and there was more */

/* --------------------------------------------------------------- publisher */

byte oldest, next_cell;
byte extent_offset[N], extent_cells[N];

inline evr_give_up(from, to)
{
	do
	:: oldest != p && extent_offset[oldest % N] >= from &&
	   extent_offset[oldest % N] < to -> oldest++
	:: else -> break
	od
}

/* In private memory, all of it: one step. */
inline evr_publisher_place(cells)
{
	if
#ifndef SLOT_KEEPS
	:: p - oldest == N -> oldest++
#endif
	:: else
	fi;
	if
	:: next_cell + cells > CELLS ->
#ifndef WRAP_KEEPS
		evr_give_up(next_cell, CELLS);
#endif
		next_cell = 0
	:: else
	fi;
	evr_give_up(next_cell, next_cell + cells);
	extent_offset[p % N] = next_cell;
	extent_cells[p % N] = cells
}

inline store_floor()
{
#ifndef NO_FLOOR
	if
	:: floor != oldest -> floor = oldest
	:: else
	fi
#else
	skip
#endif
}

inline write_payload()
{
	i = 0;
	do
	:: i < cells -> cell[extent_offset[p % N] + i] = p + 1; i++
	:: else -> break
	od
}

active proctype publisher()
{
	byte p, i, cells, cancels = CANCELS;

	{
	do
	:: p < MSGS ->
		atomic {
			if
			:: cells = 1
			:: cells = 2
			fi;
			evr_publisher_place(cells)
		}
		/* evering_publisher_reserve() */
#ifndef FLOOR_LATE
		store_floor();
#endif
		write_payload();
#ifdef FLOOR_LATE
		store_floor();
#endif
		if
		:: cancels -> cancels--
		:: true ->
			/* evering_publisher_commit() */
			slot_offset[p % N] = extent_offset[p % N];
			slot_len[p % N] = cells;
			stamp[p % N] = stamp_of(p, COMMITTED);
			atomic { next_cell = extent_offset[p % N] + cells; p++ }
			tail = p
		fi
	:: p == MSGS -> break
	od
	}
	unless { killed };
	dead = true
}

active proctype killer()
{
end:	KILLS -> killed = true
}

/* -------------------------------------------------------------- subscriber */

inline evr_still(number)
{
	still = floor <= (number)
}

inline evr_overtaken()
{
	newest = tail;
	to = 0;
	if
	:: newest >= N -> to = newest - N + 1
	:: else
	fi;
	if
	:: floor > to -> to = floor
	:: else
	fi;
	if
	:: to <= next -> lie = true; goto stop
	:: else -> next = to
	fi
}

active proctype subscriber()
{
	byte next, s, off, length, i, newest, to;
	bool still, whole, ended;

	do
	:: true ->
		s = stamp[next % N];
		if
		:: s && LAP(s) > next / N + 1 -> evr_overtaken()
		:: !(s && LAP(s) > next / N + 1) ->
			if
			:: floor > next -> evr_overtaken()
			:: else ->
				if
				:: s == stamp_of(next, COMMITTED) ->
					/* evr_take_message() */
					off = slot_offset[next % N];
					length = slot_len[next % N];
					evr_still(next);
					if
					:: still ->
						/* the program reads, then asks */
						i = 0;
						whole = true;
						do
						:: i < length ->
							whole = whole && cell[off + i] == next + 1;
							i++
						:: else -> break
						od;
#ifndef NOT_CHECKED
						evr_still(next);
#endif
						if
						:: still && !whole -> torn = true
						:: else
						fi;
						next++
					:: else
					fi
				:: else ->
					/* nothing there; the end? */
					if
					:: ended ->
						if
						:: next != tail && next != tail + 1 -> early = true
						:: else
						fi;
						break
					:: !ended && dead -> ended = true
					:: !ended && !dead
					fi
				fi
			fi
		fi
	od;
stop:	skip
}

/* What must not be. */
active proctype watch()
{
end:	atomic { torn || lie || early ->
		assert(!(torn)); assert(!(lie)); assert(!(early)) }
}
