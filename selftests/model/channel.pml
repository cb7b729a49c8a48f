/* SPDX-License-Identifier: GPL-2.0 */
/*
 * One ring of a channel: lib/ring.h, lib/wait.c and kmod/wait.c, side by side.
 *
 * Inlines carry the names of the functions they stand for; read them next to
 * the code.  One producer, one consumer, each one thread; each is a CPU with a
 * store buffer, in user space and in its own system calls (proctype Kernel).
 *
 * Memory.  A store waits in its CPU's buffer, in order, until StoreBuffers
 * flushes it, at any time; a load sees the own buffer first; a full barrier
 * waits for an empty buffer.  So a store may pass a later load, which is what
 * the full barriers are about.  spin_lock() is only an acquire, as on arm64;
 * spin_unlock() is a store like any other.  What x86 and arm64 share beyond
 * this is assumed: acquire and release keep their own order.
 *
 * A step is one access to what others can change.  A store into the own buffer
 * is no such access, so those of the kernel stand in one step with the access
 * before them.  Those of user space are steps of their own, because SIGKILL
 * may fall between any two.
 *
 * The program's choices, the budgets, and the mutations that run.sh must see
 * fail, are macros; run.sh lists them.
 */

#ifndef N
#define N	2	/* slots */
#endif
#ifndef MSGS
#define MSGS	3	/* entries to send */
#endif
#ifndef SKIPS
#define SKIPS	0	/* reservations that are cancelled */
#endif
#ifndef BATCH
#define BATCH	1	/* most reservations in one commit */
#endif
#ifndef WANT
#define WANT	1	/* largest wait_nr */
#endif
#ifndef KILLS
#define KILLS	0	/* SIGKILLs, at any step of any side */
#endif
#ifndef SIGNALS
#define SIGNALS	0	/* sleeps that a signal or the deadline ends */
#endif
#ifndef QUITS
#define QUITS	0	/* may the consumer shut down or exit early? */
#endif
#ifndef STRAYS
#define STRAYS	0	/* wake-ups of all for an end that ends no sleep */
#endif
#ifndef BUFFER
#define BUFFER	4	/* stores in a store buffer */
#endif

/* ------------------------------------------------------------------ memory */

#define PRODUCER	0
#define CONSUMER	1
#define PEER(side)	(1 - (side))

#define STAMP(p)	((p) % N)
#define BODY(p)		(N + (p) % N)		/* first half of an entry */
#define BODY2(p)	(2 * N + (p) % N)	/* second half */
#define CURSOR(side)	(3 * N + (side))	/* where this side stands */
#define TAIL		CURSOR(PRODUCER)
#define HEAD		CURSOR(CONSUMER)
#define AT(side)	(3 * N + 2 + (side))	/* when to wake this side */
#define WAKE_AT		AT(CONSUMER)
#define SPACE_AT	AT(PRODUCER)
#define POLL(side)	(3 * N + 4 + (side))	/* the same for its pollers */
#define POLL_AT		POLL(CONSUMER)
#define POLL_SPACE_AT	POLL(PRODUCER)
#define STATE(side)	(3 * N + 6 + (side))	/* the kernel's: 1 is DEAD */
#define USTATE(side)	(3 * N + 8 + (side))	/* the one in HEADER */
#define SHUT(side)	(3 * N + 10 + (side))	/* this side has shut down */
#define CLOSED		SHUT(PRODUCER)
#define RCLOSED		SHUT(CONSUMER)
#define LOCK(side)	(3 * N + 12 + (side))	/* sleepers.lock */
#define QUEUED(side)	(3 * N + 14 + (side))	/* is its waiter listed? */
#define EVENT(side)	(3 * N + 16 + (side))	/* its pollers were woken */
#define FOUND(side)	(3 * N + 18 + (side))	/* evr_waiter.found */
#define WORDS		(3 * N + 20)

#define NOBODY		255

typedef Store {
	byte addr;
	byte val;
};

typedef Cpu {
	byte n;			/* stores that wait */
	Store s[BUFFER];	/* the oldest first */
	byte sees[WORDS];	/* memory, but for the own stores that wait */
};

byte mem[WORDS];
Cpu cpu[2];

#define load(c, a, r)		r = cpu[c].sees[a]
#define full_barrier(c)		(cpu[c].n == 0)

/* Blocks while the buffer is full. */
inline store(c, a, v)
{
	cpu[c].n < BUFFER;
	cpu[c].s[cpu[c].n].addr = a;
	cpu[c].s[cpu[c].n].val = v;
	cpu[c].sees[a] = v;
	cpu[c].n++
}

/* Not a barrier for what came before.  Waits for the own unlock as well. */
inline spin_lock(side)
{
	mem[LOCK(side)] == 0;
	mem[LOCK(side)] = 1
}

#define spin_unlock(c, side)	store(c, LOCK(side), 0)

/* The oldest store of @c; the other CPU sees it unless its own one hides it. */
inline flush(c)
{
	d_step {
		cpu[c].n > 0 ->
		a = cpu[c].s[0].addr;
		v = cpu[c].s[0].val;
		cpu[c].n--;
		i = 0;
		do
		:: i < cpu[c].n ->
			cpu[c].s[i].addr = cpu[c].s[i + 1].addr;
			cpu[c].s[i].val = cpu[c].s[i + 1].val;
			i++
		:: else -> break
		od;
		cpu[c].s[i].addr = 0;
		cpu[c].s[i].val = 0;

		mem[a] = v;
		i = 0;
		do
		:: i < cpu[PEER(c)].n && cpu[PEER(c)].s[i].addr != a -> i++
		:: else -> break
		od;
		if
		:: i == cpu[PEER(c)].n -> cpu[PEER(c)].sees[a] = v
		:: else
		fi;
		i = 0;
		a = 0;
		v = 0
	}
}

active proctype StoreBuffers()
{
	byte i, a, v;

end:	do
	:: flush(PRODUCER)
	:: flush(CONSUMER)
	od
}

/* ------------------------------------------------------------------- slots */

#define COMMITTED	2
#define SKIPPED		3
#define LAP(p)		((p) / N + 1)
#define evering_stamp(lap, state)	((lap) * 4 + (state))

/* evering_judge(), for one lap and the lap before. */
#ifdef NO_LAP
#define NOT_YET(stamp, p)	((stamp) == 0)
#else
#define NOT_YET(stamp, p)	((stamp) / 4 == LAP(p) - 1)
#define LIE(stamp, p)		(!NOT_YET(stamp, p) && (stamp) / 4 != LAP(p))
#endif
#ifndef LIE
#define LIE(stamp, p)		false
#endif

/* -------------------------------------------------------- what must be true */

byte committed;		/* entries whose stamp was stored */
byte taken;		/* entries that were copied */
byte kills, signals, skips, strays, quits;
bool doomed[2];		/* SIGKILL is pending, or the program exits */
bool stopped[2];	/* dead, or done */
bool quit;		/* the consumer has ended early, of itself */

#define lost_wakeup	(!stopped[PRODUCER] || !stopped[CONSUMER])
#define all_delivered	(taken == committed)

/* SIGKILL, at any time. */
active proctype Killer()
{
end:	do
	:: atomic { kills > 0 -> kills--; doomed[PRODUCER] = true }
	:: atomic { kills > 0 -> kills--; doomed[CONSUMER] = true }
	od
}

active proctype Quiescence()
{
	/* Nothing can happen any more: who sleeps now sleeps for ever. */
	timeout;
	assert(!lost_wakeup);
	/* Where nobody was killed or has quit, nothing is left behind. */
	assert(doomed[PRODUCER] || doomed[CONSUMER] || quit ||
	       (all_delivered && committed == MSGS))
}

/* ----------------------------------------------------- kmod/wait.c: sleepers */

#define NOTHING		0
#define READY		1
#define EPIPE		2
#define ESHUTDOWN	3
#define EINTR		4

#define TASK_RUNNING		0
#define TASK_INTERRUPTIBLE	1

/* struct evering_enter; written by its side before its waiter is listed */
byte w_pos[2], w_min[2];
bit task[2];
bool poll_armed[2];

/*
 * What waits is the thread of @side; the looks may run on the other CPU.
 * The end first, then the ring.
 */
inline evr_look_end(c, side)
{
	atomic { load(c, STATE(PEER(side)), dead) };
	atomic { load(c, SHUT(PEER(side)), shut) }
}

inline evr_slot_ready(c, p, ret)
{
	atomic {
		load(c, STAMP(p), v);
		ret = (NOT_YET(v, p) -> NOTHING : READY);
		v = 0
	}
}

inline evr_space_ready(c, p, ret)
{
	atomic {
		load(c, HEAD, v);
		ret = (p - v != N -> READY : NOTHING);
		v = 0
	}
}

inline evr_entries_ready(c, p, wanted, ret)
{
	evr_slot_ready(c, (p + wanted - 1), ret);
	if
	:: ret == READY && wanted > 1 -> evr_slot_ready(c, p, ret)
	:: else
	fi
}

inline evr_ready(c, side, ret)
{
	if
	:: side == CONSUMER && (dead || shut) ->
		evr_slot_ready(c, w_pos[side], ret)
	:: side == CONSUMER && !(dead || shut) ->
		evr_entries_ready(c, w_pos[side], w_min[side], ret)
	:: side == PRODUCER -> evr_space_ready(c, w_pos[side], ret)
	fi
}

inline evr_look(c, side, ret)
{
#ifdef RING_BEFORE_END
	evr_ready(c, side, ret);
	evr_look_end(c, side);
#else
	evr_look_end(c, side);
	evr_ready(c, side, ret);
#endif
	d_step {
		if
		:: side == PRODUCER && (dead || shut) -> ret = EPIPE
		:: side == CONSUMER && ret == NOTHING && dead -> ret = EPIPE
		:: side == CONSUMER && ret == NOTHING && shut && !dead ->
			ret = ESHUTDOWN
		:: else
		fi;
		dead = 0;
		shut = 0
	}
}

#ifdef WAKE_AT_OFF_BY_ONE
#define LATE	1
#else
#define LATE	0
#endif

/* Under the lock of @side: the word says when the doorbell is due. */
inline evr_announce(c, side)
{
	load(c, QUEUED(side), v);
	if
	:: v -> v = w_pos[side] + w_min[side] - 1 + LATE
	:: else -> v = NOBODY
	fi;
	store(c, AT(side), v);
	v = 0
}

inline evr_disarm_pollers(c, side)
{
	v = poll_armed[side];
	if
	:: v ->
		poll_armed[side] = false;
		store(c, POLL(side), NOBODY)
	:: else
	fi
}

/*
 * try_to_wake_up() of the waiter: a full barrier, then the state of the task.
 * Who does not sleep is not woken and stays on the list.  Whoever is woken may
 * run before the store that takes him off the list is seen.
 */
inline wake_task(c, side)
{
	full_barrier(c);
	if
	:: task[side] == TASK_INTERRUPTIBLE ->
		task[side] = TASK_RUNNING;
		store(c, QUEUED(side), 0)
	:: else
	fi
}

/* evr_wake_one() with a key, then the pollers after the unlock */
inline evr_doorbell(c, side)
{
	atomic {
		spin_lock(side);
		load(c, QUEUED(side), v);
	}
	if
	:: v ->
		v = 0;
		evr_look(c, side, woken);
		if
		:: woken != NOTHING ->
			atomic { store(c, FOUND(side), woken) };
			atomic { wake_task(c, side) }
		:: else
		fi;
		woken = NOTHING
	:: else
	fi;
	atomic {
#ifdef DOORBELL_CLEARS_WORD
		store(c, AT(side), NOBODY);
#else
		evr_announce(c, side);
#endif
		evr_disarm_pollers(c, side);
		spin_unlock(c, side);
		if
		:: v -> store(c, EVENT(side), 1)
		:: else
		fi;
		v = 0
	}
}

/* evr_wake_one() without a key */
inline evr_wake_all(c, side)
{
	atomic {
		spin_lock(side);
		load(c, QUEUED(side), v);
		if
		:: v -> store(c, FOUND(side), NOTHING); wake_task(c, side)
		:: else
		fi;
		evr_announce(c, side);
		evr_disarm_pollers(c, side);
		spin_unlock(c, side);
		store(c, EVENT(side), 1);
		v = 0
	}
}

/*
 * Whether this waiter is on the list is asked under the lock, every time round,
 * as prepare_to_wait() does.  What list_empty_careful() says without it may be
 * over at once: a waker has woken us and is about to take us off.  Off the list
 * with something found is the end of the wait.
 */
inline evr_enqueue(c, ret)
{
	atomic {
		spin_lock(c);
		load(c, QUEUED(c), v);
		if
		:: v -> v = 0
		:: else ->
			load(c, FOUND(c), ret);
			if
			:: ret != NOTHING
			:: else ->
				store(c, QUEUED(c), 1);
				evr_announce(c, c)
			fi
		fi;
		spin_unlock(c, c)
	}
}

inline evr_wait(c, ret)
{
	atomic { store(c, FOUND(c), NOTHING) };
	do
	::
#ifdef UNLOCKED_RECHECK
		atomic { load(c, QUEUED(c), v) };	/* list_empty_careful() */
		if
		:: v -> v = 0
		:: else -> evr_enqueue(c, ret)
		fi;
#else
		evr_enqueue(c, ret);
#endif
		if
		:: ret != NOTHING -> break
		:: else
		fi;
		atomic {		/* set_current_state() */
#ifndef NO_KERNEL_BARRIER
			full_barrier(c);
#endif
			task[c] = TASK_INTERRUPTIBLE
		}
		evr_look(c, c, ret);
		if
		:: ret != NOTHING -> break
		:: ret == NOTHING && slept -> ret = slept; break
		:: else
		fi;
		if		/* evr_sleep_until() */
		:: task[c] == TASK_RUNNING
		:: atomic {
			signals > 0 ->
			signals--;
			task[c] = TASK_RUNNING;
			slept = EINTR
		   }
		:: atomic {
			doomed[c] ->
			task[c] = TASK_RUNNING;
			slept = EINTR
		   }
		fi;
		/* Whoever woke us has looked; success beats all else. */
		atomic { load(c, QUEUED(c), v) };
		if
		:: !v -> atomic { load(c, FOUND(c), ret) }
		:: else -> v = 0
		fi;
		if
		:: ret != NOTHING -> break
		:: else
		fi
	od;
	atomic {
		task[c] = TASK_RUNNING;
		slept = NOTHING;
		load(c, QUEUED(c), v)
	}
	if
	:: v ->
		atomic {
			spin_lock(c);
			load(c, QUEUED(c), v);
			if
			:: v ->
				store(c, QUEUED(c), 0);
				evr_announce(c, c)
			:: else
			fi;
			spin_unlock(c, c);
			v = 0
		}
	:: else
	fi
}

/* ------------------------------------------------------- kmod/wait.c: poll */

inline evr_arm_pollers(c, p)
{
	atomic {
		spin_lock(c);
		poll_armed[c] = true;
		load(c, POLL(c), v);
		v = (v < p -> v : p);
		store(c, POLL(c), v);
		v = 0;
		spin_unlock(c, c)
	}
}

/*
 * ->poll() for entries by the consumer, for room by the producer.  It knows
 * the position only from the word of the own section.
 */
inline evr_poll(c, ret)
{
	atomic { load(c, CURSOR(c), w_pos[c]); w_min[c] = 1 };
#ifdef POLL_ARM_ONLY_WHEN_NOT_READY
	evr_ready(c, c, ret);
	if
	:: ret == READY
	:: else ->
#endif
	evr_arm_pollers(c, w_pos[c]);
#ifndef NO_POLL_BARRIER
	full_barrier(c);	/* smp_mb() */
#endif
	evr_look_end(c, c);
	evr_ready(c, c, ret);
	d_step {
		if
		:: dead || shut -> ret = READY
		:: else
		fi;
		dead = 0;
		shut = 0
	}
#ifdef POLL_ARM_ONLY_WHEN_NOT_READY
	fi;
#endif
}

/*
 * What an edge-triggered epoll or a multishot poll of io_uring does: ->poll()
 * at registration, and once after each wake-up.
 */
inline poll_register(c)
{
	evr_poll(c, ret);
	atomic {
		if
		:: ret == READY -> mem[EVENT(c)] = 1
		:: else
		fi;
		ret = NOTHING
	}
}

inline poll_sleep(c, ret)
{
	do
	::	if
		:: atomic { mem[EVENT(c)] == 1 -> mem[EVENT(c)] = 0 }
		:: doomed[c] -> ret = EINTR; break
		fi;
#ifdef POLL_KEYED
		/* io_uring posts from the key and does not call ->poll(). */
		ret = READY;
#else
		evr_poll(c, ret);
#endif
		if
		:: ret == READY -> break
		:: else
		fi
	od
}

/* ------------------------------------------------------- kmod/endpoint.c */

/*
 * Both of these wake everybody on both sides.  On the own side nobody sleeps:
 * its one thread is here.
 */
inline evr_shutdown(c)
{
	atomic { store(c, SHUT(c), 1) };
#ifndef NO_SHUTDOWN_WAKE
	evr_wake_all(c, PEER(c))
#endif
}

/* The state for the kernel, then the state for the library. */
inline evr_endpoint_die(c)
{
	atomic {
		store(c, STATE(c), 1);
		store(c, USTATE(c), 1)
	};
#ifndef NO_DEATH_WAKE
	evr_wake_all(c, PEER(c))
#endif
}

#define USER		0	/* not in a system call */
#define ENTER		1
#define SHUTDOWN	2
#define SHUTDOWN_OTHER	3	/* of the other ring */
#define POLL_ADD	4
#define POLL_WAIT	5
#define EXIT		6

byte call[2];		/* what a thread is doing */
bool wake_peer[2];	/* ENTER: EVERING_ENTER_WAKE_PEER */
byte result[2];

/* The thread of side @me, inside the kernel. */
proctype Kernel(bit me)
{
	byte v, ret, slept, woken;
	bit dead, shut;

end:	do
	:: call[me] != USER ->
		if
		:: call[me] == ENTER ->
			if
			:: wake_peer[me] -> evr_doorbell(me, PEER(me))
			:: else
			fi;
			if
			:: w_min[me] -> evr_wait(me, ret)
			:: else
			fi
		:: call[me] == SHUTDOWN -> evr_shutdown(me)
		/* Nobody who sleeps for this ring has reason to wake up. */
		:: call[me] == SHUTDOWN_OTHER -> evr_wake_all(me, PEER(me))
		:: call[me] == POLL_ADD -> poll_register(me)
		:: call[me] == POLL_WAIT -> poll_sleep(me, ret)
		:: call[me] == EXIT -> evr_endpoint_die(me)
		fi;
		atomic {
			result[me] = ret;
			ret = NOTHING;
			w_pos[me] = 0;
			w_min[me] = 0;
			wake_peer[me] = false;
			call[me] = USER
		}
	od
}

inline syscall(c, nr)
{
	call[c] = nr;
	call[c] == USER
}

/* lib/wait.c; a wait for entries or for room, by side; none with @nr 0 */
inline evr_enter(c, wake, p, nr)
{
	d_step {
		wake_peer[c] = wake;
		w_pos[c] = p;
		w_min[c] = nr;
		call[c] = ENTER
	}
	call[c] == USER
}

/* SIGKILL takes effect in user space; exit() is the same. */
#define killed(c)	(doomed[c] && call[c] == USER)

/* --------------------------------------------------- lib/ring.h: producing */

inline ring_room(room)
{
	if
	:: reserved - peer_head < N -> room = true
	:: else ->
		atomic {
			load(PRODUCER, HEAD, peer_head);
			room = (reserved - peer_head < N);
			assert(room || reserved - peer_head == N)	/* LIE */
		}
	fi
}

/* ring_commit(): stamps in order, then the hint */
inline ring_commit()
{
	do
	:: atomic {
		tail < reserved ->
		if
		:: cancelled[tail % N] ->
			cancelled[tail % N] = false;
			store(PRODUCER, STAMP(tail),
			      evering_stamp(LAP(tail), SKIPPED))
		:: else ->
			store(PRODUCER, STAMP(tail),
			      evering_stamp(LAP(tail), COMMITTED));
			committed++
		fi;
		tail++
	   }
	:: tail == reserved -> break
	od;
#ifdef PRODUCER_POLLS
	atomic { store(PRODUCER, TAIL, tail) }
#endif
}

inline ring_wake_due()
{
	atomic {
#ifndef NO_PRODUCER_BARRIER
		full_barrier(PRODUCER);
#endif
		load(PRODUCER, WAKE_AT, v);
		due = (tail - 1 >= v);
		v = 0
	}
	if
	:: due
	:: else ->
		atomic {
			load(PRODUCER, POLL_AT, v);
			due = (tail - 1 >= v);
			v = 0
		}
	fi
}

/* evr_may_submit() with the peer's end, then commit */
inline evr_commit()
{
	atomic { load(PRODUCER, USTATE(CONSUMER), v) };
	if
	:: v -> v = 0; goto ended
	:: else
	fi;
	atomic { load(PRODUCER, RCLOSED, v) };
	if
	:: v -> v = 0; goto ended
	:: else
	fi;
	if
	:: tail != reserved ->
		ring_commit();
		ring_wake_due()
	:: else
	fi
}

inline evr_submit()
{
	evr_commit();
	if
	:: due -> evr_enter(PRODUCER, true, 0, 0)
	:: else
	fi;
	due = false
}

/* lib/wait.c, with the ring that the producer consumes silent */
inline evr_wait_space()
{
	evr_commit();
	ring_room(room);
	if
	:: !room ->
		evr_enter(PRODUCER, due, reserved, 1);
		due = false;
		if
		:: result[PRODUCER] == READY ->
			ring_room(room);
			assert(room)	/* -EPROTO */
		:: result[PRODUCER] == EPIPE -> goto ended
		:: result[PRODUCER] == EINTR
		fi
	:: else
	fi;
	if
	:: due -> evr_enter(PRODUCER, true, 0, 0)
	:: else
	fi;
	due = false
}

/* What a program does that waits for EPOLLOUT instead. */
inline poll_for_space()
{
	evr_submit();
	ring_room(room);
	if
	:: room
	:: else -> syscall(PRODUCER, POLL_WAIT)
	fi
}

proctype Producer()
{
	byte reserved, tail, peer_head, filled;
	bool cancelled[N];
	byte v;
	bool due, room;

	{
#ifdef PRODUCER_POLLS
		syscall(PRODUCER, POLL_ADD);
#endif
		do
		:: filled < MSGS ->
			/* evr_get() */
			room = false;
			do
			:: ring_room(room);
				if
				:: room -> room = false; break
				:: else
				fi;
#ifdef PRODUCER_POLLS
				poll_for_space();
#else
				evr_wait_space();
#endif
				room = false
			od;
			reserved++;	/* ring_reserve() */
			if
			:: atomic {	/* the program fills it in */
				filled++;
#ifdef STAMP_FIRST
				store(PRODUCER, STAMP(reserved - 1),
				      evering_stamp(LAP(reserved - 1),
						    COMMITTED));
#endif
				store(PRODUCER, BODY(reserved - 1), filled)
			   };
			   atomic { store(PRODUCER, BODY2(reserved - 1), filled) }
			:: atomic {	/* or changes its mind: ring_cancel() */
				skips > 0 ->
				skips--;
				cancelled[(reserved - 1) % N] = true
			   }
			fi;
			if
			:: evr_submit()
			:: reserved - tail < BATCH && filled < MSGS
			fi
		:: strays > 0 -> strays--; syscall(PRODUCER, SHUTDOWN_OTHER)
		:: filled == MSGS && tail == reserved -> break
		od;
#ifndef NOBODY_ENDS
		if
		:: syscall(PRODUCER, SHUTDOWN)
		:: doomed[PRODUCER] = true; false	/* exit() */
		fi;
#endif
ended:		skip
	} unless {
		killed(PRODUCER);
		syscall(PRODUCER, EXIT)
	};
	stopped[PRODUCER] = true
}

/* --------------------------------------------------- lib/ring.h: consuming */

#define ring_exhausted()	(next - head == N)

inline ring_peek(wanted)
{
	do
	:: copied >= wanted || ring_exhausted() -> break
	:: else ->
		atomic { load(CONSUMER, STAMP(next), v) };	/* ring_look() */
		assert(!LIE(v, next));
		if
		:: NOT_YET(v, next) -> v = 0; break
		:: !NOT_YET(v, next) && v % 4 == SKIPPED ->
			d_step {
				v = 0;
				next++;
				head = (copied -> head : next)
			}
		:: !NOT_YET(v, next) && v % 4 == COMMITTED ->
#ifdef PUBLISH_BEFORE_COPY
			atomic { store(CONSUMER, HEAD, next + 1) };
#endif
			/* ring_copy(): two loads, so that tearing would show */
			atomic { load(CONSUMER, BODY(next), v) };
			atomic {
				load(CONSUMER, BODY2(next), w);
				assert(v == w);		/* whole */
				assert(v == taken + 1);	/* in order, once */
				assert(taken < committed);
				taken++;
				v = 0;
				w = 0;
				copied++;
				next++
			}
progress:		skip
		fi
	od
}

inline ring_seen(nr)
{
	d_step {
		copied = copied - nr;
		head = (copied -> head + nr : next)
	}
}

#ifdef SPACE_OFF_BY_N
#define RELEASED(head)	(head)
#else
#define RELEASED(head)	((head) + N)
#endif

/* Sets wake when the doorbell is due, and leaves it alone otherwise. */
inline ring_publish()
{
	if
	:: published == head
	:: else ->
		atomic {
			published = head;
			store(CONSUMER, HEAD, head)
		}
		atomic {
#ifndef NO_RELEASE_BARRIER
			full_barrier(CONSUMER);
#endif
			load(CONSUMER, SPACE_AT, v);
			wake = wake || RELEASED(published) > v;
			v = 0
		}
		if
		:: wake
		:: else ->
			atomic {
				load(CONSUMER, POLL_SPACE_AT, v);
				wake = RELEASED(published) > v;
				v = 0
			}
		fi
	fi
}

/* lib/wait.c: has the peer ended? */
inline evr_end()
{
	atomic {
		load(CONSUMER, USTATE(PRODUCER), v);
		ret = (v -> EPIPE : NOTHING);
		v = 0
	}
	if
	:: ret
	:: else ->
		atomic {
			load(CONSUMER, CLOSED, v);
			ret = (v -> ESHUTDOWN : NOTHING);
			v = 0
		}
	fi
}

#ifdef EXHAUSTED_NOT_SETTLED
#define settled()	(copied >= wait_nr)
#else
#define settled()	(copied >= wait_nr || ring_exhausted())
#endif

/* lib/exchange.c: evr_ring_doorbell() where it is due */
inline ring_doorbell()
{
	if
	:: wake -> evr_enter(CONSUMER, true, 0, 0)
	:: else
	fi;
	wake = false
}

/* lib/wait.c: sleep until settled, or an error */
inline evr_wait_on()
{
	do
	::
#if !defined(NO_PUBLISH_BEFORE_SLEEP) && !defined(PUBLISH_TOO_EARLY)
		ring_publish();
#endif
		/* evr_sleep() */
		pos = next;
		evr_enter(CONSUMER, wake, next, wait_nr - copied);
		wake = false;
		if
		:: result[CONSUMER] == READY
		:: else -> ret = result[CONSUMER]; break
		fi;
		ring_peek(wait_nr);		/* evr_settled() */
		if
		:: settled() -> break
		:: else
		fi;
		assert(next != pos);		/* -EPROTO */
#ifdef PUBLISH_TOO_EARLY
		ring_publish();
		ring_peek(wait_nr);
		if
		:: settled() -> break
		:: else
		fi
#endif
	od;
	pos = 0
}

/* lib/wait.c, without spinning: that only looks again */
inline evr_wait_entries()
{
#ifndef NO_PUBLISH_BEFORE_SLEEP
	ring_publish();
#endif
	ring_peek(wait_nr);			/* evr_settled() */
	if
	:: settled()
	:: else ->
		evr_end();
		if
		:: ret
		:: else -> evr_wait_on()
		fi;
		/* What was sent before the end is taken before it is told. */
		if
#if defined(RING_BEFORE_END)
		/* A library that takes the kernel's word for it. */
		:: ret && ret != result[CONSUMER] -> ring_peek(wait_nr)
#elif !defined(NO_LAST_LOOK)
		:: ret -> ring_peek(wait_nr)
#endif
		:: else
		fi;
		ring_publish()
	fi;
	ring_doorbell();
	ret = (copied -> NOTHING : ret)
}

/* For a program that polls: evr_peek(), and a sleep after -EAGAIN. */
inline evr_peek()
{
	evr_end();
	if
	:: ret -> ring_peek(wait_nr)
	:: else
	fi;
	if
	:: copied -> ret = NOTHING
	:: !copied && ret
	:: else ->
		ring_publish();
		ring_doorbell();
		syscall(CONSUMER, POLL_WAIT)
	fi
}

inline evr_advance(nr)
{
	ring_seen(nr);
	if
	:: copied
	:: else ->
		ring_publish();
		ring_doorbell()
	fi
}

#ifdef NOBODY_ENDS
#define LEFT	(MSGS - taken + copied)
#else
#define LEFT	255
#endif

proctype Consumer()
{
	byte head, next, copied, published;
	byte v, w, pos, ret, wait_nr;
	bool wake;

	{
#ifdef CONSUMER_POLLS
		syscall(CONSUMER, POLL_ADD);
#endif
		do
#ifdef NOBODY_ENDS
		:: taken == MSGS && copied == 0 -> break
		:: taken < MSGS || copied > 0 ->
#else
		:: atomic { quits > 0 -> quits--; quit = true };
			if
			:: syscall(CONSUMER, SHUTDOWN)
			:: doomed[CONSUMER] = true; false	/* exit() */
			fi;
			break
		:: true ->
#endif
			/* The last ones may be fewer. */
			if
			:: wait_nr = 1
			:: WANT > 1 && LEFT >= 2 -> wait_nr = 2
			:: WANT > 2 && LEFT >= 3 -> wait_nr = 3
			:: WANT > 3 && LEFT >= 4 -> wait_nr = 4
			fi;
			/* evr_wait() */
			ring_peek(wait_nr);
			if
			:: copied >= wait_nr
			:: else ->
#ifdef CONSUMER_POLLS
				evr_peek()
#else
				evr_wait_entries()
#endif
			fi;
			wait_nr = 0;
			if
			:: ret == EPIPE || ret == ESHUTDOWN ->
				assert(all_delivered);	/* before it is told */
				break
			:: else -> ret = 0
			fi;
			if
			:: copied > 1 -> evr_advance(1)
			:: copied > 0 -> evr_advance(copied)
			:: copied == 0
			fi
		od
	} unless {
		killed(CONSUMER);
		syscall(CONSUMER, EXIT)
	};
	stopped[CONSUMER] = true
}

inline evr_side_init(a)
{
	mem[a] = NOBODY;
	cpu[PRODUCER].sees[a] = NOBODY;
	cpu[CONSUMER].sees[a] = NOBODY
}

init {
	atomic {
		evr_side_init(WAKE_AT);
		evr_side_init(SPACE_AT);
		evr_side_init(POLL_AT);
		evr_side_init(POLL_SPACE_AT);
		skips = SKIPS;
		strays = STRAYS;
		quits = QUITS;
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
		run Kernel(PRODUCER);
		run Kernel(CONSUMER);
		run Producer();
		run Consumer()
	}
}
