/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Sleeping and waking on a queue: lib/queue_items.c, kmod/wait.c, kmod/ready.c, side
 * by side.  Many producers that sleep for room, many consumers that sleep, or
 * poll, for entries.
 *
 * Inlines carry the names of the functions they stand for; read them next to
 * the code.  Each worker is a process of one thread, in user space and in its
 * own system calls.
 *
 * The ring is that of multi.pml, whose claims are taken for granted here:
 * multi_reserve() and multi_take() are one step, of one slot, and leave their
 * cursor one claim behind.  What is committed, or given back, is so in any order.
 *
 * Memory is sequentially consistent, and a step is one access to what others
 * can change, but for the kernel's walk from a cursor, and for what is done
 * under sleepers.lock and looks at no ring.  Where a full barrier is missing, the
 * load after it comes first (the mutations NO_*_BARRIER); channel.pml has store
 * buffers.
 *
 * Who has popped an entry may be busy with it for ever: what others sleep for is
 * not his any more.
 *
 * A step of the living may be his last, and SIGKILL ends a sleep.  What he has
 * claimed is healed, and then his death is announced.
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
#ifndef POLLERS
#define POLLERS	0	/* consumers that poll and do not sleep */
#endif
#ifndef MSGS
#define MSGS	1	/* entries of each producer */
#endif
#ifndef KILLS
#define KILLS	0	/* SIGKILLs, at any step of any worker */
#endif
#ifndef SIGNALS
#define SIGNALS	0	/* sleeps that a signal or the deadline ends */
#endif
#ifndef STRAYS
#define STRAYS	0	/* deaths of others, who held nothing */
#endif

#ifndef NACKS
#define NACKS	0	/* LEASES: of entries; no orphans but by deaths */
#endif

#define WORKERS	(PRODUCERS + CONSUMERS)

#define PRODUCER	0
#define CONSUMER	1
#define PEER(side)	(1 - (side))
#define polls(w)	((w) >= PRODUCERS && (w) < PRODUCERS + POLLERS)

/* Who does not walk from the cursor does not look at what has been claimed. */
#ifdef LOOK_AT_HEAD
#define READY_WALKS_ONCE
#define NEWS_WALKS_ONCE
#endif

/* ------------------------------------------------------------------- words */

#define RESERVED	1
#define COMMITTED	2
#define SKIPPED		3

#define IDLE		0
#define TAKEN		1
#define ORPHAN		2	/* LEASES: nacked, or its consumer has died */
#define RETAKEN		3

#define LAP(pos)			((pos) / N + 1)
#define evering_word(pos, state)	(LAP(pos) * 4 + (state))
#define word_state(word)		((word) % 4)
#define word_ahead(word, pos)		((word) / 4 - LAP(pos))

/* ------------------------------------------------------------------ memory */

byte stamp[N], claim[N];
byte tail, head;
bit closed;
#ifdef LEASES
byte orphan_seq;
byte orphans_given, orphans_none;	/* of struct evr_side */
#else
#define orphan_seq	0
#endif

#define stamp_at(pos)	stamp[(pos) % N]
#define claim_at(pos)	claim[(pos) % N]

#define NOBODY		255

/* struct evr_side, and its words in HEADER */
typedef Side {
	bit lock;		/* sleepers.lock */
	byte nr_sleepers;
	byte list[4];		/* sleepers, the first to come first */
	byte given;
	byte at;		/* wake_at, or space_at */
	bit poll_armed;
	byte poll_at;
};

Side side[2];

/* struct evr_waiter, and its task */
#define TASK_RUNNING		0
#define TASK_INTERRUPTIBLE	1

bit task[WORKERS];
bit listed[WORKERS];
byte aim[WORKERS];	/* wake_at, or space_at */
byte found[WORKERS];
bit event[WORKERS];	/* of one that polls: woken */

/* -------------------------------------------------------- what must be true */

bit done[WORKERS];	/* dead, or will not wait any more */
byte committed, taken, lost, released;
byte woken[2];		/* by doorbells */
bit reset;		/* somebody was woken for nothing: an end, or a pass-on */
byte kills, signals, strays, nacks;

bit overslept;		/* somebody sleeps for what is there, or for an end */
bit crowd;		/* more were woken than there was to get */
bit miscounted;		/* lost and delivered, or neither */

#define is_full(pos)							\
	(word_ahead(stamp_at(pos), pos) == 0 &&				\
	 word_state(stamp_at(pos)) >= COMMITTED && is_idle(pos))
#define is_idle(pos)							\
	(word_ahead(claim_at(pos), pos) == -1 &&			\
	 word_state(claim_at(pos)) == IDLE)
#define is_old(pos)							\
	((stamp_at(pos) == 0 && LAP(pos) == 1) ||			\
	 (stamp_at(pos) != 0 && word_ahead(stamp_at(pos), pos) == -1 &&	\
	  word_state(stamp_at(pos)) >= COMMITTED))
#define is_free(pos)	(is_idle(pos) && is_old(pos))
/* Somebody has claimed it: all that has not been claimed comes after the end. */
#define is_written(pos)	(word_ahead(stamp_at(pos), pos) == 0)

#ifdef LEASES
#define is_orphan(i)	((i) < N && claim[(i) % N] % 4 == ORPHAN)
#define any_orphan	(is_orphan(0) || is_orphan(1))	/* N is 2 at most */
#define orphans		(is_orphan(0) + is_orphan(1))
#else
#define any_orphan	false
#endif

/* Where the cursors would be if all had helped them. */
inline true_head(p)
{
	p = head;
	do
	:: word_ahead(claim_at(p), p) == 0 -> p++
	:: else -> break
	od
}

inline true_tail(p)
{
	p = tail;
	do
	:: word_ahead(stamp_at(p), p) == 0 -> p++
	:: else -> break
	od
}

inline check_wakes(s)
{
	/*
	 * One wake-up for each entry, and for each slot given back; and for each
	 * orphan, with which all that is in the ring is given again.
	 */
	crowd = !reset &&
		woken[s] > (s == CONSUMER -> committed + orphan_seq * (N + 1) :
					     released);
	assert(!crowd)
}

#ifdef LEASES
#define left()	orphans
#else
#define left()	0
#endif

/* Nothing can happen any more: who sleeps now sleeps for ever. */
active proctype Quiescence()
{
	byte p, w;

	timeout;
	d_step {
		true_head(p);
		for (w : PRODUCERS .. WORKERS - 1) {
			overslept = overslept || (!done[w] &&
				(is_full(p) || any_orphan ||
				 (closed && !is_written(p))))
		}
		true_tail(p);
		for (w : 0 .. PRODUCERS - 1) {
			overslept = overslept || (!done[w] &&
				(is_free(p) || closed))
		}
		assert(!overslept);
		true_head(p);
		w = 0;			/* what nobody wants */
		do
		:: is_full(p) ->
			w = w + (word_state(stamp_at(p)) == COMMITTED);
			p++
		:: else -> break
		od;
		miscounted = (committed != taken + lost + w + left() || is_written(p));
		assert(!miscounted)
	}
}

/* ------------------------------------------------------- kmod/ready.c: looks */

#define NOTHING		0
#define READY		1
#define PASSED		2	/* somebody has claimed it since the walk */
#define ESHUTDOWN	3
#define EINTR		4
#define ORPHANS		5	/* EVERING_READY_ORPHANS */

/* In one step: its last load says where the claims end at that instant. */
inline evr_walk(s, p)
{
	atomic {
#ifdef LOOK_AT_HEAD
		p = (s == CONSUMER -> head : tail)
#else
		if
		:: s == CONSUMER -> true_head(p)
		:: s == PRODUCER -> true_tail(p)
		fi
#endif
	}
}

/* evr_slot_full(), evr_slot_free() */
#define word_lie(word, pos)						\
	((word) != 0 && (word_ahead(word, pos) > 0 ||			\
			 word_ahead(word, pos) < -1))
#define idle_word(word, pos)						\
	(word_ahead(word, pos) == -1 && word_state(word) == IDLE)
#define full_words(st, cl, pos)						\
	(word_lie(st, pos) ||						\
	 (word_ahead(st, pos) == 0 && word_state(st) >= COMMITTED &&	\
	  idle_word(cl, pos)))
#define free_words(st, cl, pos)						\
	((idle_word(cl, pos) &&						\
	  ((st == 0 && LAP(pos) == 1) ||				\
	   (word_ahead(st, pos) == -1 && word_state(st) >= COMMITTED))) || \
	 (!idle_word(cl, pos) && word_ahead(cl, pos) != -1 &&		\
	  word_ahead(cl, pos) != -2))

#define claimed_at(s, p)						\
	((s) == CONSUMER -> word_ahead(claim_at(p), p) >= 0 :		\
			    word_ahead(stamp_at(p), p) >= 0)

/*
 * Reads the stamp, then the claim, and if they are nothing new, the own word again:
 * evr_claimed().  COARSE: all at once.
 */
inline evr_news_at(s, p, r)
{
#ifndef COARSE
	atomic { v = stamp_at(p) };
#endif
	atomic {
#ifdef COARSE
		v = stamp_at(p);
#endif
		if
		:: s == CONSUMER && full_words(v, claim_at(p), p) -> r = READY
		:: s == PRODUCER && free_words(v, claim_at(p), p) -> r = READY
		:: else -> r = NOTHING
		fi;
		v = 0
#ifdef COARSE
		; r = (r == NOTHING && claimed_at(s, p) -> PASSED : r)
	}
#else
	}
	if
	:: r == NOTHING -> evr_claimed(s, p, r)
	:: else
	fi
#endif
}

inline evr_claimed(s, p, r)
{
	atomic { r = (claimed_at(s, p) -> PASSED : NOTHING) }
}

/* The caller tries again, and asks again only if others have got it. */
inline evr_shared_ready(s, r)
{
	evr_walk(s, pos);
	evr_news_at(s, pos, r);
	atomic {
#ifdef READY_WALKS_ONCE
		r = (r == PASSED -> NOTHING : r);
#else
		r = (r == PASSED -> READY : r);
#endif
		pos = 0
	}
}

inline evr_being_written(r)
{
	evr_walk(CONSUMER, pos);
	atomic {
		r = (is_written(pos) -> NOTHING : ESHUTDOWN);
		pos = 0
	}
}

/* Under the lock.  At most one for each sleeper. */
inline evr_news(s, n)
{
	evr_walk(s, pos);
	atomic {
#ifdef GIVEN_NOT_CLAMPED
		skip
#else
		if
#ifdef NO_GIVEN
		:: side[s].given = pos
#else
		:: side[s].given < pos || side[s].given > pos + N ->
			side[s].given = pos
		:: else
#endif
		fi
#endif
	}
	do
	:: n < side[s].nr_sleepers && side[s].given >= pos &&
	   side[s].given < pos + N ->
		evr_news_at(s, side[s].given, f);
		if
		:: f == READY -> side[s].given++; n++
#ifndef NEWS_WALKS_ONCE
		:: f == PASSED -> side[s].given++	/* needs no wake */
#endif
		:: else -> break
		fi
	:: else -> break
	od;
	atomic { f = NOTHING; pos = 0 }
}

#ifdef LEASES
/* Under no lock; @r: how many, at most @most */
inline evr_orphans(most, r)
{
	atomic { v = orphan_seq };
	atomic {
		if
		:: v == orphans_none
		:: else ->
			r = (orphans < most -> orphans : most);
			orphans_none = (!any_orphan && most > 0 -> v :
								   orphans_none)
		fi;
		v = 0
	}
}

#define set_orphans_given(s, seq)					\
	orphans_given = (s == CONSUMER -> seq : orphans_given)
#else
#define set_orphans_given(s, seq)	skip
#endif

/* ----------------------------------------------------------- kmod/wait.c */

/* The end first, then the ring. */
inline evr_look(s, r)
{
#ifdef CLOSES
	atomic { shut = closed };
#endif
	evr_shared_ready(s, r);
#ifdef LEASES
	if
	:: s == CONSUMER ->
		evr_orphans(1, pos);
		atomic { r = (pos > 0 -> ORPHANS : r); pos = 0 }
	:: else
	fi;
#endif
#ifdef CLOSES
	if
	:: s == PRODUCER -> atomic { r = (closed -> ESHUTDOWN : r) }
	:: s == CONSUMER && r == NOTHING && shut -> evr_being_written(r)
	:: else
	fi;
	shut = 0
#endif
}

/* The word says when the doorbell is due first. */
inline evr_announce(s)
{
	side[s].at = NOBODY;
	for (j : 0 .. 3) {
		if
		:: j < side[s].nr_sleepers &&
		   aim[side[s].list[j]] < side[s].at ->
			side[s].at = aim[side[s].list[j]]
		:: else
		fi
	}
	j = 0
}

/* Takes number @k off the list. */
inline unlist(s, k)
{
	listed[side[s].list[k]] = 0;
	aim[side[s].list[k]] = 0;
	j = k;
	side[s].nr_sleepers--;
	do
	:: j < side[s].nr_sleepers ->
		side[s].list[j] = side[s].list[j + 1];
		j++
	:: else -> break
	od;
	side[s].list[j] = 0;
	j = 0
}

inline evr_disarm_pollers(s)
{
	if
	:: side[s].poll_armed ->
		side[s].poll_armed = 0;
		side[s].poll_at = NOBODY;
		polled = 1
	:: else
	fi
}

inline wake_up_pollers(s)
{
	if
	:: polled ->
		atomic {
			for (j : PRODUCERS .. PRODUCERS + POLLERS - 1) {
#ifdef DISARM_WAKES_ONE
				if
				:: polled && !event[j] ->
					event[j] = 1; polled = 0
				:: else
				fi
#else
				event[j] = 1
#endif
			}
			j = 0;
			polled = 0
		}
	:: else
	fi
}

/*
 * A doorbell's evr_wake_one(): who runs already stays on the list, and what he
 * was to get is for the next.  A wake-up and the way off the list are one step:
 * between them only the lock could tell.
 */
inline evr_wake_one(s)
{
	w = side[s].list[i];
	found[w] = f;
	if
	:: task[w] == TASK_INTERRUPTIBLE ->
		task[w] = TASK_RUNNING;
		unlist(s, i);
		if
		:: f == READY -> bell--
		:: f == ORPHANS -> orphaned--
		fi;
		woken[s]++
	:: else ->
#ifdef NO_RESTORE
		bell = bell - (f == READY);
		orphaned = orphaned - (f == ORPHANS);
#endif
		i++
	fi;
	w = 0
}

/* With NULL as the key */
inline evr_wake_all(s)
{
	atomic {
		side[s].lock == 0;
#ifndef WAKE_ALL_KEEPS_GIVEN
		side[s].given = 0;
		set_orphans_given(s, 0);
#endif
		reset = 1;
		i = 0;
		do
		:: i < side[s].nr_sleepers ->
			w = side[s].list[i];
			found[w] = NOTHING;
			if
			:: task[w] == TASK_INTERRUPTIBLE ->
				task[w] = TASK_RUNNING;
				unlist(s, i)
			:: else -> i++
			fi
		:: else -> break
		od;
		i = 0;
		w = 0;
		evr_announce(s);
		evr_disarm_pollers(s);
		polled = (s == CONSUMER)
	}
	wake_up_pollers(s)
}

#ifdef LEASES
inline evr_bell_news(s)
{
	atomic {
		if
		:: s == CONSUMER && seq > orphans_given ->
			orphaned = (orphaned < seq - orphans_given -> orphaned :
				    seq - orphans_given);
			orphans_given = seq;
#ifndef ORPHANS_COUNTED		/* and nothing but counted */
			/* Who has been woken for an entry may take an orphan. */
			side[s].given = 0
#endif
		:: else -> orphaned = 0
		fi;
		seq = 0
	}
	evr_news(s, bell)
}
#else
#define evr_bell_news(s)	evr_news(s, bell)
#endif

/*
 * Each of the first sleepers gets an orphan, or an entry, or room.  @count came with
 * the commit; nobody asks for it.
 */
inline evr_ring_all(s, count)
{
#ifdef LEASES
	if
	:: s == CONSUMER ->
		atomic { seq = orphan_seq; i = side[s].nr_sleepers };
		evr_orphans(i, orphaned);
		i = 0
	:: else
	fi;
#endif
	atomic { side[s].lock == 0; side[s].lock = 1 };
#ifdef COUNT_FROM_COMMIT
	bell = (count < side[s].nr_sleepers -> count : side[s].nr_sleepers);
#else
	evr_bell_news(s);
#endif
	do
	::	atomic {
			bell + orphaned > 0 && i < side[s].nr_sleepers ->
			f = (orphaned > 0 -> ORPHANS : READY);	/* evr_give() */
			evr_wake_one(s);
			f = NOTHING;
			check_wakes(s)
		}
	:: else -> break
	od;
	atomic {
		bell = 0;
		orphaned = 0;
		i = 0;
		evr_announce(s);
		evr_disarm_pollers(s);
		side[s].lock = 0
	}
	wake_up_pollers(s)
}

inline evr_doorbell(s)
{
#if defined(CLOSES) && !defined(END_WAKES_ONE)
	if
	:: closed -> evr_wake_all(s)
	:: else -> evr_ring_all(s, 1)
	fi
#else
	evr_ring_all(s, 1)
#endif
}

inline evr_enqueue(s, me, r)
{
	atomic {
		side[s].lock == 0;
		if
		:: listed[me]
		:: else ->
			r = found[me];
			if
			:: r != NOTHING
			:: else ->
				evr_walk(s, aim[me]);	/* evr_waiter_aim() */
				listed[me] = 1;
				side[s].list[side[s].nr_sleepers] = me;
				side[s].nr_sleepers++;
#ifndef NO_KERNEL_BARRIER
				evr_announce(s)
#endif
			fi
		fi
	}
}

inline evr_pass_on(s)
{
#ifndef NO_PASS_ON
#ifndef PASS_ON_KEEPS_GIVEN
	atomic {
		side[s].lock == 0;
		side[s].given = 0;
		set_orphans_given(s, 0);
		reset = 1
	}
#endif
	evr_doorbell(s)
#else
	skip
#endif
}

/* SIGKILL leaves @dying. */
inline evr_wait(s, me, r)
{
	found[me] = NOTHING;
	do
	::	evr_enqueue(s, me, r);
		if
		:: r != NOTHING -> break
		:: else
		fi;
		task[me] = TASK_INTERRUPTIBLE;	/* and a full barrier */
		evr_look(s, r);
#ifdef NO_KERNEL_BARRIER
		atomic { side[s].lock == 0; evr_announce(s) };
#endif
		if
		:: r != NOTHING -> break
		:: r == NOTHING && slept -> r = EINTR; break
		:: else
		fi;
end_sleep:	if		/* evr_sleep_until() */
		:: task[me] == TASK_RUNNING
		:: atomic {
			signals > 0 ->
			signals--;
			task[me] = TASK_RUNNING;
			slept = 1
		   }
		:: atomic {
			kills > 0 ->
			kills--;
			task[me] = TASK_RUNNING;
			slept = 1;
			dying = 1
		   }
		fi;
		/* Whoever woke us has looked; success beats all else. */
		atomic { r = (listed[me] -> NOTHING : found[me]) };
		if
		:: r != NOTHING -> break
		:: else
		fi
	od;
	atomic {
		task[me] = TASK_RUNNING;
		slept = 0
	}
	if
	:: listed[me] ->
		atomic {
			side[s].lock == 0;
			if
			:: listed[me] ->
				do
				:: side[s].list[i] == me -> break
				:: else -> i++
				od;
				unlist(s, i);
				i = 0;
				evr_announce(s)
			:: else
			fi
		}
	:: else
	fi;
	found[me] = NOTHING;
	if
	:: r == EINTR || r == ESHUTDOWN -> evr_pass_on(s)
	:: else
	fi
}

/* ------------------------------------------------------- kmod/wait.c: poll */

/* For entries */
inline evr_poll(s, r)
{
#ifdef POLL_ARM_ONLY_WHEN_NOT_READY
	evr_look(s, r);
	if
	:: r != NOTHING
	:: else ->
#endif
	atomic {
		side[s].lock == 0;
		side[s].poll_armed = 1;
		evr_walk(s, i);
		side[s].poll_at = (i < side[s].poll_at -> i : side[s].poll_at);
		i = 0
	}
	evr_look(s, r)
#ifdef POLL_ARM_ONLY_WHEN_NOT_READY
	fi
#endif
}

/*
 * What an edge-triggered epoll or a multishot poll of io_uring does: ->poll()
 * at registration, and once after each wake-up.
 */
inline poll_sleep(s, me, r)
{
	do
	::	r = NOTHING;
end_poll:	if
		:: atomic { event[me] -> event[me] = 0 }
		:: atomic { kills > 0 -> kills--; dying = 1; r = EINTR } ->
			break
		fi;
		evr_poll(s, r);
		if
		:: r != NOTHING -> break
		:: else
		fi
	od
}

/* ------------------------------------------------------- kmod/endpoint.c */

/* After the heal */
inline evr_uring_detach(s)
{
#ifdef NO_DEATH_WAKE
	skip
#else
	evr_wake_all(s);
	evr_wake_all(PEER(s))
#endif
}

proctype Closer()
{
	byte i, j, w;
	bit polled;

	closed = 1;
	evr_wake_all(PRODUCER);
	evr_wake_all(CONSUMER)
}

/* Deaths of others */
proctype Stranger()
{
	byte i, j, w;
	bit polled;

end:	do
	:: atomic { strays > 0 -> strays-- };
		evr_wake_all(PRODUCER);
		evr_wake_all(CONSUMER)
	od
}

/* ------------------------------------------------------------ lib/queue_items.c */

/* An access, or his death before it. */
#if KILLS
#define step(access)							\
	if								\
	:: atomic { access }						\
	:: atomic { kills > 0 -> kills--; goto killed }			\
	fi
#else
#define step(access)	atomic { access }
#endif

/* The access that others see, a full barrier, and the load of the words. */
#define due_at(s, pos)	((pos) >= side[s].at || (pos) >= side[s].poll_at)

inline evr_queue_ring(s)
{
	if
	:: due -> due = 0; evr_doorbell(s)
	:: else
	fi
}

#ifdef SPACE_OFF_BY_N
#define RELEASED(pos)	(pos)
#else
#define RELEASED(pos)	((pos) + N)
#endif

#define MULTI_OK	1
#define MULTI_NONE	2
#define MULTI_CLOSED	3
#define MULTI_NACKED	4

/* A claim, and not the cursor. */
inline multi_reserve()
{
	atomic {
		true_tail(p);
		tail = p;			/* helped */
		if
		:: closed -> why = MULTI_CLOSED
		:: else ->
			if
			:: is_free(p) ->
				stamp_at(p) = evering_word(p, RESERVED);
				why = MULTI_OK
			:: else -> why = MULTI_NONE
			fi
		fi
	}
}

inline multi_take()
{
	atomic {
		true_head(p);
		head = p;
		if
		:: is_full(p) ->
			claim_at(p) = evering_word(p, TAKEN);
			why = MULTI_OK
		:: else ->
			why = (closed && !is_written(p) -> MULTI_CLOSED :
							   MULTI_NONE)
		fi
	}
}

/* Orphans come before new entries. */
inline take_orphan()
{
	atomic {
		if
		:: orphan_seq != seen ->
			p = 0;
			do
			:: p < N && !is_orphan(p) -> p++
			:: else -> break
			od;
			if
			:: p == N -> seen = orphan_seq; p = 0
			:: else ->
				p = (claim_at(p) / 4 - 1) * N + p;
				claim_at(p) = evering_word(p, RETAKEN);
				why = MULTI_OK
			fi
		:: else
		fi
	}
}

#define multi_help(cursor, p)	cursor = (cursor == p -> p + 1 : cursor)

proctype Producer(byte me)
{
	byte sent, p, why;
	byte pos, v, i, j, w, f, bell, orphaned, r;
	bit due, slept, dying, polled, shut;
#ifdef LEASES
	byte seq;
#endif

	do
	:: sent == MSGS -> break
	:: else ->
		step(skip);
		multi_reserve();
		if
		:: why == MULTI_OK ->
			step(multi_help(tail, p));
#ifdef CLOSES
			step(why = (closed -> MULTI_CLOSED : MULTI_OK));
			if
			:: why == MULTI_CLOSED ->
				step(stamp_at(p) = evering_word(p, SKIPPED);
				     why = 0);
				goto told
			:: else
			fi;
#endif
#ifdef NO_PRODUCER_BARRIER
			step(due = due_at(CONSUMER, p));
#endif
			step(stamp_at(p) = evering_word(p, COMMITTED);
			     why = 0;
			     committed++;
			     sent++);
#ifndef NO_PRODUCER_BARRIER
			step(due = due_at(CONSUMER, p); p = 0);
#endif
progress_push:
			evr_queue_ring(CONSUMER)
		:: why == MULTI_NONE ->
			atomic { why = 0; p = 0 };
			evr_wait(PRODUCER, me, r);
			if
			:: dying -> goto killed
			:: r == EINTR && !dying -> r = 0;
				if
				:: skip		/* and tries again */
				:: break
				fi
			:: else -> r = 0
			fi;
			/* The deadline may pass just then. */
		:: why == MULTI_CLOSED ->
			why = 0;
			goto told
		fi
	od;
	goto out;
told:	/* Perhaps somebody waits for what was claimed and then skipped. */
#ifndef NO_SKIP_RING
	step(due = due_at(CONSUMER, NOBODY - 1));
	evr_queue_ring(CONSUMER);
#endif
	goto out;
killed:	if
	:: why == MULTI_OK || why == MULTI_CLOSED ->
		if
		:: is_written(p) ->
			atomic { multi_help(tail, p) };
			atomic { stamp_at(p) = evering_word(p, SKIPPED) }
		:: else
		fi
	:: else
	fi;
	evr_uring_detach(PRODUCER);
out:	atomic {
		p = 0; why = 0; sent = 0; due = 0; r = 0; dying = 0;
		done[me] = 1
	}
}

proctype Consumer(byte me)
{
	byte p, why;
	byte pos, v, i, j, w, f, bell, orphaned, r;
	bit due, slept, dying, polled, shut, waited;
#ifdef LEASES
	byte seen, seq;
#endif

	if
	:: polls(me) ->
		evr_poll(CONSUMER, r);
		atomic { event[me] = event[me] || r; r = 0 }
	:: else
	fi;
	do
	::	step(skip);
#ifdef LEASES
		take_orphan();
		if
		:: why == MULTI_OK
		:: else -> multi_take()
		fi;
#else
		multi_take();
#endif
		if
		:: why == MULTI_OK ->
			waited = 0;
			step(multi_help(head, p));
#ifdef LEASES
			if
			:: skip		/* acks, below */
			:: atomic { nacks > 0 -> nacks-- };
				step(claim_at(p) = evering_word(p, ORPHAN);
				     why = MULTI_NACKED);
				step(orphan_seq++);
				step(due = (side[CONSUMER].at != NOBODY ||
					    side[CONSUMER].poll_at != NOBODY);
				     why = 0; p = 0);
				evr_queue_ring(CONSUMER);
				break		/* and is away for ever */
			fi;
#endif
#ifdef NO_RELEASE_BARRIER
			step(due = due_at(PRODUCER, RELEASED(p)));
#endif
			step(claim_at(p) = evering_word(p, IDLE);
			     released++;
			     if
			     :: word_state(stamp_at(p)) == COMMITTED ->
				taken++; why = 0
			     :: else -> why = MULTI_NONE	/* goes on */
			     fi);
#ifndef NO_RELEASE_BARRIER
			step(due = due_at(PRODUCER, RELEASED(p)); p = 0);
#endif
progress_pop:
			evr_queue_ring(PRODUCER);
			if
			:: why == 0 -> break	/* and is busy for ever */
			:: skip
			fi;
			why = 0
		:: why == MULTI_NONE ->
			atomic { why = 0; p = 0 };
			if
			:: atomic { waited && signals > 0 -> signals-- };
				break		/* late */
			:: waited = 1
			fi;
			if
			:: polls(me) -> poll_sleep(CONSUMER, me, r)
			:: else -> evr_wait(CONSUMER, me, r)
			fi;
			if
			:: dying -> goto killed
			:: r == EINTR && !dying -> r = 0;
				if
				:: skip		/* and tries again */
				:: break
				fi
#ifdef LEASES
			:: r == ORPHANS ->	/* multi_expect_orphans() */
				atomic { seen = orphan_seq - 1; r = 0 }
#endif
			:: else -> r = 0
			fi
		:: why == MULTI_CLOSED -> break
		fi
	od;
	goto out;
killed:	if
#ifdef LEASES
	:: why == MULTI_NACKED -> orphan_seq++
	:: why == MULTI_OK ->
		atomic { multi_help(head, p) };
		atomic { claim_at(p) = evering_word(p, ORPHAN) };
		orphan_seq++
#else
	:: why == MULTI_OK ->
		atomic { multi_help(head, p) };
		atomic {
			claim_at(p) = evering_word(p, IDLE);
			released++;
			lost = lost + (word_state(stamp_at(p)) == COMMITTED)
		}
#endif
	:: else
	fi;
	evr_uring_detach(CONSUMER);
out:	atomic {
		p = 0; why = 0; due = 0; r = 0; dying = 0; waited = 0;
#ifdef LEASES
		seen = 0;
#endif
		done[me] = 1
	}
}

init {
	byte w;

	atomic {
		side[PRODUCER].at = NOBODY;
		side[CONSUMER].at = NOBODY;
		side[PRODUCER].poll_at = NOBODY;
		side[CONSUMER].poll_at = NOBODY;
		/*
		 * Less than the whole budget as well: otherwise a signal that
		 * is still to come would hide a sleep without end.
		 */
		kills = KILLS;
		do
		:: kills > 0 -> kills--
		:: break
		od;
		signals = SIGNALS;
		do
		:: signals > 0 -> signals--
		:: break
		od;
		strays = STRAYS;
		nacks = NACKS;
#if STRAYS
		run Stranger();
#endif
#ifdef CLOSES
		run Closer();
#endif
		for (w : 0 .. PRODUCERS - 1) {
			run Producer(w)
		}
		for (w : PRODUCERS .. WORKERS - 1) {
			run Consumer(w)
		}
		w = 0
	}
}
