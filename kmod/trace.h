/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Tracepoints.  All arguments are scalars, so that raw_tp programs read them
 * without the module's BTF.  A token names a uring, a side is EVERING_SIDE_*.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM evering

#if !defined(_EVERING_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _EVERING_TRACE_H

#include <linux/tracepoint.h>

TRACE_EVENT(evering_create,
	TP_PROTO(u64 token, u32 kind, u32 sq_entries, u32 cq_entries, u64 bytes),
	TP_ARGS(token, kind, sq_entries, cq_entries, bytes),
	TP_STRUCT__entry(
		__field(u64, token)
		__field(u32, kind)
		__field(u32, sq_entries)
		__field(u32, cq_entries)
		__field(u64, bytes)
	),
	TP_fast_assign(
		__entry->token = token;
		__entry->kind = kind;
		__entry->sq_entries = sq_entries;
		__entry->cq_entries = cq_entries;
		__entry->bytes = bytes;
	),
	TP_printk("token=%llu kind=%u sq_entries=%u cq_entries=%u bytes=%llu",
		  __entry->token, __entry->kind, __entry->sq_entries,
		  __entry->cq_entries, __entry->bytes)
);

/* Who takes a side, in the initial namespaces. */
DECLARE_EVENT_CLASS(evering_attach,
	TP_PROTO(u64 token, u32 uid, int pid),
	TP_ARGS(token, uid, pid),
	TP_STRUCT__entry(
		__field(u64, token)
		__field(u32, uid)
		__field(int, pid)
	),
	TP_fast_assign(
		__entry->token = token;
		__entry->uid = uid;
		__entry->pid = pid;
	),
	TP_printk("token=%llu uid=%u pid=%d", __entry->token, __entry->uid,
		  __entry->pid)
);

DEFINE_EVENT(evering_attach, evering_connect,
	TP_PROTO(u64 token, u32 uid, int pid), TP_ARGS(token, uid, pid));

DEFINE_EVENT(evering_attach, evering_accept,
	TP_PROTO(u64 token, u32 uid, int pid), TP_ARGS(token, uid, pid));

DEFINE_EVENT(evering_attach, evering_open,
	TP_PROTO(u64 token, u32 uid, int pid), TP_ARGS(token, uid, pid));

/* One ENTER that sleeps, unless it finds at once what it waits for. */
TRACE_EVENT(evering_wait,
	TP_PROTO(u64 token, u32 side, u32 flags, u64 wait_pos, u64 space_pos,
		 u32 min_complete),
	TP_ARGS(token, side, flags, wait_pos, space_pos, min_complete),
	TP_STRUCT__entry(
		__field(u64, token)
		__field(u32, side)
		__field(u32, flags)
		__field(u64, wait_pos)
		__field(u64, space_pos)
		__field(u32, min_complete)
	),
	TP_fast_assign(
		__entry->token = token;
		__entry->side = side;
		__entry->flags = flags;
		__entry->wait_pos = wait_pos;
		__entry->space_pos = space_pos;
		__entry->min_complete = min_complete;
	),
	TP_printk("token=%llu side=%u flags=%x wait_pos=%llu space_pos=%llu min_complete=%u",
		  __entry->token, __entry->side, __entry->flags,
		  __entry->wait_pos, __entry->space_pos, __entry->min_complete)
);

/* One doorbell; @side is the one that is woken. */
TRACE_EVENT(evering_wake,
	TP_PROTO(u64 token, u32 side, u32 woken, u32 polled),
	TP_ARGS(token, side, woken, polled),
	TP_STRUCT__entry(
		__field(u64, token)
		__field(u32, side)
		__field(u32, woken)
		__field(u32, polled)
	),
	TP_fast_assign(
		__entry->token = token;
		__entry->side = side;
		__entry->woken = woken;
		__entry->polled = polled;
	),
	TP_printk("token=%llu side=%u woken=%u polled=%u", __entry->token,
		  __entry->side, __entry->woken, __entry->polled)
);

TRACE_EVENT(evering_death,
	TP_PROTO(u64 token, u32 side),
	TP_ARGS(token, side),
	TP_STRUCT__entry(
		__field(u64, token)
		__field(u32, side)
	),
	TP_fast_assign(
		__entry->token = token;
		__entry->side = side;
	),
	TP_printk("token=%llu side=%u", __entry->token, __entry->side)
);

/*
 * What a dead endpoint has left: slots it had claimed to write to, entries it had
 * taken and that go to another one, and those that nobody will see.
 */
TRACE_EVENT(evering_heal,
	TP_PROTO(u64 token, u32 side, u32 owner, u32 healed, u32 redelivered,
		 u32 lost),
	TP_ARGS(token, side, owner, healed, redelivered, lost),
	TP_STRUCT__entry(
		__field(u64, token)
		__field(u32, side)
		__field(u32, owner)
		__field(u32, healed)
		__field(u32, redelivered)
		__field(u32, lost)
	),
	TP_fast_assign(
		__entry->token = token;
		__entry->side = side;
		__entry->owner = owner;
		__entry->healed = healed;
		__entry->redelivered = redelivered;
		__entry->lost = lost;
	),
	TP_printk("token=%llu side=%u owner=%u healed=%u redelivered=%u lost=%u",
		  __entry->token, __entry->side, __entry->owner,
		  __entry->healed, __entry->redelivered, __entry->lost)
);

TRACE_EVENT(evering_free,
	TP_PROTO(u64 token),
	TP_ARGS(token),
	TP_STRUCT__entry(__field(u64, token)),
	TP_fast_assign(__entry->token = token;),
	TP_printk("token=%llu", __entry->token)
);

#endif /* _EVERING_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
