/* SPDX-License-Identifier: MIT OR LGPL-2.1 */
/*
 * evering: request/response between processes through rings in shared memory;
 * shared buffers in <evering/buffer.h>, what there is in <evering/registry.h>.
 *
 * A client connects to a service by name, a server accepts.  Each then has an
 * endpoint (struct evering).  The client fills submission queue entries, the
 * server answers with completion queue entries; names follow liburing where
 * the thing is the same.
 *
 * Conventions
 *	Functions return 0 or a count, else a negative errno value; errno is
 *	not used.  Functions that return a pointer say when it is NULL.
 *	Time-outs are relative; NULL means for ever, zero means do not wait;
 *	nanoseconds out of range are -EINVAL, and then nothing has happened.
 *
 * Threads
 *	An endpoint is used by one thread at a time, but for evering_fd(), and
 *	for evering_shutdown() of a direction that no thread is using.  A service may be used by any number of threads.
 *	There is no global state.
 *
 * Processes
 *	An endpoint belongs to the process that made it.  A child made by
 *	fork() does not inherit the memory: it must not touch the endpoint,
 *	nor what evering_heap() and evering_payload() have returned.
 *
 * Errors that any call on an endpoint may return
 *	-EPIPE		the peer is dead, and all that it sent has been taken;
 *			or it takes no more (when submitting)
 *	-ESHUTDOWN	the peer has ended its stream, and all has been taken;
 *			or this side has ended its own (when submitting)
 *	-EPROTO		the peer has written what no honest peer writes; final
 *	-EINVAL		wrong side, or a wrong value
 *	-EBADFD		this endpoint's memory has been unmapped
 *	-EPERM		it belongs to another process
 *	-ECONNRESET, -EBUSY	see EVERING_IOC_ENTER; not between two users of
 *			this library
 *
 * And any call that makes an endpoint or opens a queue
 *	-EPROTONOSUPPORT	the module that is loaded is of another version than
 *			this library
 */
#ifndef EVERING_H
#define EVERING_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>
#include <linux/evering.h>
#include <evering/buffer.h>
#include <evering/envelope.h>
#include <evering/heap.h>
#include <evering/queue.h>
#include <evering/registry.h>
#include <evering/token.h>
#include <evering/topic.h>
#include <evering/type.h>

#ifdef __cplusplus
extern "C" {
#endif

struct evering;
struct evering_service;

/* ---------------------------------------------------------------- services */

/**
 * struct evering_service_params - how to listen
 * @mode:	who may connect, as on a file: 0200 this user, 0020 its group,
 *		0002 others; 0: the privileged alone
 * @backlog:	connections that may wait to be accepted, at least 1
 * @max_entries: most slots of a ring that a client may ask for; 0: the
 *		module's limit
 * @max_slot_size: likewise, bytes of a slot
 * @max_heap_size: likewise, bytes of each heap
 * @flags:	0, or EVERING_URING_MULTI_B: endpoints can be added to the accepted one
 *		with evering_dup(); with that EVERING_URING_LEASE: what a worker had not
 *		seen when it died, another one gets, else it is lost and counted
 * @__resv:	0
 * @reserved:	0
 *
 * The client pays for the shared memory; the server's private copies of a full
 * ring of requests, entries times slot size, are its own.
 */
struct evering_service_params {
	uint32_t mode;
	uint32_t backlog;
	uint32_t max_entries;
	uint32_t max_slot_size;
	uint64_t max_heap_size;
	uint32_t flags;
	uint32_t __resv;
	uint64_t reserved;
};

/**
 * evering_listen() - bind a service name
 * @name:	1 to EVERING_NAME_MAX printable characters
 * @params:	NULL: this user only, a backlog of 128, no own limits
 * @service:	out; evering_service_close() it
 *
 * Return: 0; -EEXIST: the name is taken; -ENAMETOOLONG; -EINVAL; -ENOENT: no
 * /dev/evering, the module is not loaded; -EACCES: no right to it; -ENOMEM;
 * -EMFILE.
 */
int evering_listen(const char *name, const struct evering_service_params *params,
		   struct evering_service **service);

/**
 * evering_service_fd() - to poll for EPOLLIN: a client waits
 * @service:	the service
 *
 * Return: the descriptor, which stays the service's.
 */
int evering_service_fd(const struct evering_service *service);

/**
 * evering_service_close() - take the name back
 * @service:	NULL is allowed
 *
 * Clients that nobody has accepted get -EPIPE; accepted ones live on.
 */
void evering_service_close(struct evering_service *service);

/**
 * evering_accept_timeout() - take the next client
 * @service:	the service
 * @ep:		out: an endpoint of side B; evering_close() it
 * @timeout:	see above
 *
 * A client may be dead by now: what it sent can be taken, then comes -EPIPE.
 *
 * Return: 0; -EAGAIN: nobody waits and @timeout is zero; -ETIME; -EINTR: a
 * signal; -ENOMEM; -EMFILE.
 */
int evering_accept_timeout(struct evering_service *service,
			   struct evering **ep, const struct timespec *timeout);

/**
 * evering_accept() - evering_accept_timeout() without a time-out
 * @service:	the service
 * @ep:		out
 *
 * Return: as there.
 */
int evering_accept(struct evering_service *service, struct evering **ep);

/* --------------------------------------------------------------- endpoints */

/**
 * evering_connect() - become a client of a service
 * @name:	of the service
 * @geometry:	NULL: 128 slots of 64 bytes in each ring, no heaps
 * @ep:		out: an endpoint of side A; evering_close() it
 *
 * Does not wait for the server: requests may be submitted at once.  All memory
 * is allocated here and charged to the caller.
 *
 * Return: 0; -ECONNREFUSED: nobody listens; -EACCES: no right to the service
 * or to /dev/evering; -EAGAIN: its backlog is full; -ERANGE: it allows less;
 * -EINVAL: no such geometry; -ENAMETOOLONG; -ENOENT: the module is not loaded;
 * -EDQUOT: the user has as much as one may have; -ENOSPC: the registry is full;
 * -ENOMEM; -EMFILE.
 */
int evering_connect(const char *name, const struct evering_geometry *geometry,
		    struct evering **ep);

/**
 * evering_connect_multi() - evering_connect(), for more than one thread or process
 * @name:	of the service
 * @geometry:	as there, but 64 slots at least in each ring
 * @ep:		out; the others come with evering_dup()
 *
 * Return: as evering_connect().
 */
int evering_connect_multi(const char *name, const struct evering_geometry *geometry,
			  struct evering **ep);

/**
 * evering_dup() - one more endpoint of the same side
 * @ep:		of a side that may have many
 *
 * For another thread, or another process (inherited, or passed over a Unix
 * socket), which gives the descriptor to evering_channel_from_fd().  Each
 * endpoint is used by one thread at a time.
 *
 * They share the rings: what comes goes to one of them, in whatever order they
 * take it.  What is submitted is moved to the ring only then, so that nobody waits
 * for an entry that another one is filling in; -EAGAIN from a submission: the ring
 * is full, and all stays reserved.  A side has ended when the last of its
 * endpoints is gone, and evering_shutdown() by any of them ends it for all.
 *
 * Return: a descriptor, close-on-exec; -EOPNOTSUPP: one endpoint only; -EBADFD;
 * -EBUSY: there are 4095 already; -EMFILE; -ENOMEM.
 */
int evering_dup(const struct evering *ep);

/**
 * evering_channel_create() - a channel without a service, as side A
 * @name:	for evering_channel_open(), or NULL: the token is its only name
 * @mode:	who may open side B, as on a file: 0400 this user, 0040 its group,
 *		0004 others
 * @geometry:	as for evering_connect()
 * @flags:	0, or EVERING_URING_MULTI_A, _MULTI_B, and with one of them
 *		EVERING_URING_LEASE; see evering_dup(), struct evering_service_params
 * @ep:		out; evering_close() it
 *
 * Return: 0; -EEXIST: the name is taken; else as evering_connect().
 */
int evering_channel_create(const char *name, uint32_t mode,
			   const struct evering_geometry *geometry,
			   unsigned int flags, struct evering **ep);

/**
 * evering_channel_open() - its other end, side B
 * @name:	of the channel, or NULL: @token says which
 * @token:	of the channel, or 0
 * @ep:		out; evering_close() it
 *
 * Return: 0; -ENOENT: there is none, and for a token never was, or the module is
 * not loaded; -ESTALE: the token's channel is no longer to be had; -EBUSY: side B
 * is taken; -EPIPE: it was, and is dead; -EACCES: no right; -EPROTOTYPE: not a
 * channel; -EINVAL: name and token, or neither; -ENAMETOOLONG; -ENOMEM; -EMFILE.
 */
int evering_channel_open(const char *name, uint64_t token, struct evering **ep);

/**
 * evering_channel_from_fd() - an endpoint whose descriptor has been passed
 * @fd:		an endpoint that no process has mapped yet; taken, also where this
 *		fails
 * @ep:		out: of the side that it is; evering_close() it
 *
 * From evering_dup(), or from those who call EVERING_IOC_CREATE, EVERING_IOC_OPEN or
 * EVERING_IOC_ACCEPT for others: an endpoint of this library is mapped, and so stays
 * where it is.
 *
 * Return: 0; -EPROTOTYPE: not of a channel; -ENOTTY: something else; -EPERM:
 * another process has mapped it; -EBADFD; -EBADF; -ENOMEM.
 */
int evering_channel_from_fd(int fd, struct evering **ep);

/**
 * evering_close() - end an endpoint, at once for the peer too
 * @ep:		NULL is allowed; entries and heap pointers go with it
 */
void evering_close(struct evering *ep);

/**
 * evering_fd() - to poll an endpoint
 * @ep:		the endpoint
 *
 * EPOLLIN: there is something to take (or an end to learn of); EPOLLOUT: there
 * is room beyond what is submitted; EPOLLRDHUP: the peer has ended its stream; EPOLLHUP: it is dead.
 * Works with poll, epoll (edge-triggered too) and io_uring.
 *
 * Return: the descriptor, which stays the endpoint's.
 */
int evering_fd(const struct evering *ep);

/**
 * evering_shutdown() - end of stream
 * @ep:		the endpoint
 * @how:	EVERING_SHUT_WR: submit no more; EVERING_SHUT_RD: take no more
 *
 * The peer takes what was submitted before, then gets -ESHUTDOWN.  Not while
 * another thread is submitting.
 *
 * Return: 0, -EINVAL.
 */
int evering_shutdown(struct evering *ep, unsigned int how);

/**
 * evering_peer() - who is at the other side, by the kernel's word
 * @ep:		the endpoint
 * @peer:	out: state, uid, gid, pid
 *
 * Return: 0.
 */
int evering_peer(struct evering *ep, struct evering_peer *peer);

/**
 * evering_token() - the number that names this uring
 * @ep:		the endpoint
 *
 * Return: equal on both sides, never used twice while the module is loaded.
 */
uint64_t evering_token(const struct evering *ep);

/**
 * evering_geometry() - what the rings look like
 * @ep:		the endpoint
 *
 * Return: constant, valid until evering_close().
 */
const struct evering_geometry *evering_geometry(const struct evering *ep);

/**
 * evering_set_spin() - how long to spin before sleeping
 * @ep:		the endpoint
 * @nanoseconds: at most, in one wait; 0: never.  The default is 50000, and 0
 *		where the thread that makes the endpoint may use only one CPU.
 *
 * Spinning that has not paid lately is left out by itself.
 */
void evering_set_spin(struct evering *ep, unsigned int nanoseconds);

/**
 * struct evering_stats - what this endpoint has done
 * @enters:	system calls, all of them EVERING_IOC_ENTER
 * @doorbells:	of these, how many woke the peer
 * @sleeps:	of these, how many could sleep
 * @spins:	waits that spinning ended
 * @reserved:	0
 */
struct evering_stats {
	uint64_t enters;
	uint64_t doorbells;
	uint64_t sleeps;
	uint64_t spins;
	uint64_t reserved[4];
};

/**
 * evering_stats() - read the counters
 * @ep:		the endpoint
 * @stats:	out
 */
void evering_stats(const struct evering *ep, struct evering_stats *stats);

/* ---------------------------------------------------------------- payloads */

/**
 * evering_heap() - the own payload memory
 * @ep:		the endpoint
 * @size:	out, may be NULL: bytes
 *
 * The peer reads it and cannot write it.  What lies where is up to the
 * program; entries carry offsets.
 *
 * Return: its beginning, NULL where the geometry has none.
 */
void *evering_heap(struct evering *ep, uint64_t *size);

/**
 * evering_payload() - what an entry of the peer points to
 * @ep:		the endpoint
 * @offset:	from the entry
 * @len:	bytes, from the entry
 *
 * The peer may change the bytes at any time: copy them before checking them.
 *
 * Return: the bytes, or NULL where they would not lie in the peer's heap.
 */
const void *evering_payload(const struct evering *ep, uint64_t offset,
			    uint64_t len);

/* ------------------------------------------------------------------ client */

/**
 * evering_get_sqe() - reserve a request
 * @ep:		the endpoint
 *
 * Fill it in; it goes out with evering_submit().  The slot holds what was there
 * a lap ago.  Leave stamp alone, or set it to 0 as clearing the whole entry does.
 *
 * Return: NULL: no room; evering_wait_sq_space() tells why.
 */
struct evering_sqe *evering_get_sqe(struct evering *ep);

/**
 * evering_sqe_cancel() - do not send a reserved request after all
 * @ep:		the endpoint
 * @sqe:	from evering_get_sqe(), not yet submitted
 *
 * Its slot goes out as skipped with the next submission.
 *
 * Return: 0; -EINVAL: not reserved, submitted, or cancelled already.
 */
int evering_sqe_cancel(struct evering *ep, const struct evering_sqe *sqe);

/**
 * evering_submit() - send what is reserved
 * @ep:		the endpoint
 *
 * A system call only where the server sleeps.
 *
 * Return: requests sent; -EPIPE, -ESHUTDOWN: nothing was sent, all stays
 * reserved, and what the peer has sent can still be taken; -EPROTO: the peer has
 * broken the protocol, for good; -EBADFD, -EPERM: sent, but nobody could be woken.
 */
int evering_submit(struct evering *ep);

/**
 * evering_submit_and_wait_timeout() - send, wake and wait in one
 * @ep:		the endpoint
 * @cqe:	out, may be NULL: the first completion, as evering_peek_cqe()
 * @wait_nr:	completions to wait for, 0 to entries of the CQ
 * @timeout:	see above
 *
 * What is reserved has been sent, unless evering_sq_reserved() says otherwise.
 * Fewer than @wait_nr may be there at the end of the peer, and where cancelled
 * entries of the peer take up the rest of the ring.
 *
 * Return: requests sent; -ETIME; -EINTR; as evering_submit().
 */
int evering_submit_and_wait_timeout(struct evering *ep,
				    const struct evering_cqe **cqe,
				    unsigned int wait_nr,
				    const struct timespec *timeout);

/**
 * evering_submit_and_wait() - the same without a time-out
 * @ep:		the endpoint
 * @wait_nr:	completions to wait for
 *
 * Return: as evering_submit_and_wait_timeout().
 */
int evering_submit_and_wait(struct evering *ep, unsigned int wait_nr);

/**
 * evering_sq_reserved() - requests that are reserved and not submitted
 * @ep:		the endpoint
 *
 * Return: how many, cancelled ones included.
 */
unsigned int evering_sq_reserved(const struct evering *ep);

/**
 * evering_wait_sq_space() - send what is reserved, then wait for room
 * @ep:		the endpoint
 * @timeout:	see above
 *
 * Of many on a side, each that is told of room should use it: nobody else is woken
 * for it.  Completions end the wait too: a server that waits for room itself would never
 * make any.  Those that an earlier call has waited for or handed out are not
 * news: take them first.
 *
 * Return: EVERING_READY_SPACE, EVERING_READY_ENTRIES or both; -ETIME; -EINTR;
 * -EAGAIN for a zero @timeout; -EPIPE: nobody makes room any more.
 */
int evering_wait_sq_space(struct evering *ep, const struct timespec *timeout);

/**
 * evering_peek_cqe() - the oldest completion, if there is one
 * @ep:		the endpoint
 * @cqe:	out: a private copy, valid until evering_cqe_seen()
 *
 * Never a system call that sleeps.
 *
 * Return: 0, -EAGAIN.
 */
int evering_peek_cqe(struct evering *ep, const struct evering_cqe **cqe);

/**
 * evering_peek_batch_cqe() - the oldest completions
 * @ep:		the endpoint
 * @cqes:	out: room for @nr pointers
 * @nr:		at most
 *
 * Return: how many, -EAGAIN.
 */
int evering_peek_batch_cqe(struct evering *ep, const struct evering_cqe **cqes,
			   unsigned int nr);

/**
 * evering_wait_cqes() - wait for completions
 * @ep:		the endpoint
 * @cqe:	out, may be NULL: the oldest
 * @wait_nr:	how many, 1 to entries of the CQ
 * @timeout:	see above
 *
 * Return: 0, also where there are fewer, as above; -ETIME; -EINTR; -EAGAIN for
 * a zero @timeout.
 */
int evering_wait_cqes(struct evering *ep, const struct evering_cqe **cqe,
		      unsigned int wait_nr, const struct timespec *timeout);

/**
 * evering_wait_cqe() - wait for a completion
 * @ep:		the endpoint
 * @cqe:	out
 *
 * Return: as evering_wait_cqes().
 */
int evering_wait_cqe(struct evering *ep, const struct evering_cqe **cqe);

/**
 * evering_wait_cqe_timeout() - wait for a completion, but not for ever
 * @ep:		the endpoint
 * @cqe:	out
 * @timeout:	see above
 *
 * Return: as evering_wait_cqes().
 */
int evering_wait_cqe_timeout(struct evering *ep, const struct evering_cqe **cqe,
			     const struct timespec *timeout);

/**
 * evering_cqe_seen() - done with the oldest completion
 * @ep:		the endpoint
 * @cqe:	that one
 */
void evering_cqe_seen(struct evering *ep, const struct evering_cqe *cqe);

/**
 * evering_cq_advance() - done with the oldest completions
 * @ep:		the endpoint
 * @nr:		how many; more than were peeked at counts as those
 */
void evering_cq_advance(struct evering *ep, unsigned int nr);

/* ------------------------------------------------------------------ server */

/* The mirror of the client: requests come in, completions go out. */

/** evering_get_cqe() - reserve a completion, as evering_get_sqe() */
struct evering_cqe *evering_get_cqe(struct evering *ep);

/** evering_cqe_cancel() - as evering_sqe_cancel() */
int evering_cqe_cancel(struct evering *ep, const struct evering_cqe *cqe);

/** evering_complete() - send what is reserved, as evering_submit() */
int evering_complete(struct evering *ep);

/** evering_complete_and_wait_timeout() - as evering_submit_and_wait_timeout() */
int evering_complete_and_wait_timeout(struct evering *ep,
				      const struct evering_sqe **sqe,
				      unsigned int wait_nr,
				      const struct timespec *timeout);

/** evering_complete_and_wait() - as evering_submit_and_wait() */
int evering_complete_and_wait(struct evering *ep, unsigned int wait_nr);

/** evering_cq_reserved() - as evering_sq_reserved() */
unsigned int evering_cq_reserved(const struct evering *ep);

/** evering_wait_cq_space() - as evering_wait_sq_space() */
int evering_wait_cq_space(struct evering *ep, const struct timespec *timeout);

/** evering_peek_sqe() - as evering_peek_cqe() */
int evering_peek_sqe(struct evering *ep, const struct evering_sqe **sqe);

/** evering_peek_batch_sqe() - as evering_peek_batch_cqe() */
int evering_peek_batch_sqe(struct evering *ep, const struct evering_sqe **sqes,
			   unsigned int nr);

/** evering_wait_sqes() - as evering_wait_cqes() */
int evering_wait_sqes(struct evering *ep, const struct evering_sqe **sqe,
		      unsigned int wait_nr, const struct timespec *timeout);

/** evering_wait_sqe() - as evering_wait_cqe() */
int evering_wait_sqe(struct evering *ep, const struct evering_sqe **sqe);

/** evering_wait_sqe_timeout() - as evering_wait_cqe_timeout() */
int evering_wait_sqe_timeout(struct evering *ep, const struct evering_sqe **sqe,
			     const struct timespec *timeout);

/** evering_sqe_seen() - as evering_cqe_seen() */
void evering_sqe_seen(struct evering *ep, const struct evering_sqe *sqe);

/** evering_sq_advance() - as evering_cq_advance() */
void evering_sq_advance(struct evering *ep, unsigned int nr);

#ifdef __cplusplus
}
#endif

#endif /* EVERING_H */
