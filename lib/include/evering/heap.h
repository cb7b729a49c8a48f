/* SPDX-License-Identifier: MIT OR LGPL-2.1 */
/*
 * Payloads of a channel: blocks of memory that one side writes and the other reads
 * in place.
 *
 * Each side allocates from its own heap.  The books are in its private memory, so
 * that the peer, who can read the heap and cannot write it, can break nothing.
 *
 *	request		evering_alloc(), fill in, evering_tokenize(),
 *			evering_sqe_attach(); the library frees the block when the
 *			completion with its user_data has been seen
 *	completion	the same with evering_cqe_attach(); the client reads, and hands
 *			the block back with evering_release()
 *
 * That is how to *move* a payload: its bytes are touched by nobody but the two
 * programs, however many there are, and from attach on the block is not the sender's
 * any more.  Where the library is built with the address sanitizer, a sender that
 * touches it faults.  To send a *copy* of something, evering_copy() makes the token.
 *
 * The peer may be hostile, and may change the bytes while they are read: copy what
 * is checked, as evering_token_read() does.
 *
 * A request that is never completed keeps its block until the server is dead; and where
 * requests are delivered again (EVERING_URING_LEASE), a server that completes one twice
 * may read a payload that is not there any more the second time.
 *
 * The books take 32 bytes of private memory for each granule that a block begins at.
 *
 * Included by <evering.h>, whose conventions hold.  The first allocation turns
 * evering_heap() over to the allocator: a program that lays it out by itself does not
 * call these.  A side that has many endpoints cannot: -EOPNOTSUPP.
 */
#ifndef EVERING_HEAP_H
#define EVERING_HEAP_H

#include <stddef.h>
#include <stdint.h>
#include <evering/token.h>
#include <evering/type.h>

#ifdef __cplusplus
extern "C" {
#endif

struct evering;

/**
 * evering_alloc() - a block of the own heap
 * @ep:		the endpoint
 * @size:	bytes, at least 1
 * @block:	out: not cleared, aligned to EVERING_GRANULE; it is given back by
 *		evering_free(), or by the way that it is sent, or with the endpoint
 *
 * Return: 0; -ENOMEM: the heap has no such block, or the process no memory for the
 * books; -EINVAL: 0 bytes; -EOPNOTSUPP: no heap, or many endpoints.
 */
int evering_alloc(struct evering *ep, size_t size, void **block);

/**
 * evering_alloc_aligned() - a block that begins at a multiple of @align
 * @ep:		the endpoint
 * @size:	bytes, at least 1
 * @align:	a power of two, at most 4096
 * @block:	out
 *
 * Return: as evering_alloc(); -EINVAL: no such alignment.
 */
int evering_alloc_aligned(struct evering *ep, size_t size, size_t align,
			  void **block);

/**
 * evering_alloc_array() - a block for @count values of @size bytes
 * @ep:		the endpoint
 * @count:	at least 1
 * @size:	at least 1
 * @block:	out
 *
 * Return: as evering_alloc(); -ENOMEM also where the product is too large.
 */
int evering_alloc_array(struct evering *ep, size_t count, size_t size,
			void **block);

/**
 * evering_free() - give a block back
 * @ep:		the endpoint
 * @block:	from evering_alloc(); NULL is allowed
 *
 * Return: 0; -EINVAL: no block begins there, or not any more; -EBUSY: it has been
 * sent.
 */
int evering_free(struct evering *ep, void *block);

/**
 * evering_block_size() - bytes that may be written to
 * @ep:		the endpoint
 * @block:	from evering_alloc()
 *
 * Return: what was asked for, rounded up to a multiple of EVERING_GRANULE; 0: not a
 * block of the program's.
 */
size_t evering_block_size(const struct evering *ep, const void *block);

/* ----------------------------------------------------------------- sending */

/**
 * evering_tokenize() - the token of a block
 * @ep:		the endpoint
 * @block:	from evering_alloc()
 * @len:	bytes that are meant, from its beginning
 * @type:	of the value or the array of values there, or NULL
 * @token:	out
 *
 * The block stays the program's.
 *
 * Return: 0; -EINVAL: no block, or it has not that many bytes; or @len is not a
 * multiple of the size of @type, or the block not aligned for it, or @type is none;
 * -EBUSY: it has been sent.
 */
int evering_tokenize(const struct evering *ep, const void *block, size_t len,
		     const struct evering_type *type,
		     struct evering_token *token);

/**
 * evering_token_block() - the block of an own token
 * @ep:		the endpoint
 * @token:	from evering_tokenize() or evering_copy()
 *
 * Return: NULL: it was sent, or freed, or is no token of this endpoint.
 */
void *evering_token_block(const struct evering *ep, struct evering_token token);

/**
 * evering_copy() - the token of a copy
 * @ep:		the endpoint
 * @from:	@len bytes
 * @len:	at least 1
 * @type:	as in evering_tokenize()
 * @token:	out: what was allocated is the program's, as evering_token_block()
 *
 * Return: as evering_alloc() and evering_tokenize().
 */
int evering_copy(struct evering *ep, const void *from, size_t len,
		 const struct evering_type *type, struct evering_token *token);

/**
 * evering_sqe_attach() - send a payload with a request
 * @ep:		the endpoint
 * @sqe:	from evering_get_sqe(), not yet submitted
 * @user_data:	of the request; set here.  Nothing else may have it, request or
 *		completion, until the program is done with this completion: it is
 *		by this that the block is found again
 * @token:	of a block of the program's, or null
 *
 * Fills in offset, len and the first EVERING_TOKEN_DATA bytes of data.  The block is
 * the request's from now on, until the program is done with the completion
 * (evering_cqe_seen()); the server that is dead needs it no more either.
 * evering_sqe_cancel() makes it the program's again.
 *
 * Return: 0, else nothing has happened: -ESTALE: the token's block was freed or sent;
 * -EINVAL: not a token of this endpoint, or no such slot; -EEXIST: @user_data is in
 * use by another one with a payload; -EBUSY: this one has a payload; -EOPNOTSUPP: this
 * side has many endpoints; -ENOMEM: for the books.
 */
int evering_sqe_attach(struct evering *ep, struct evering_sqe *sqe,
		       uint64_t user_data, struct evering_token token);

/**
 * evering_cqe_attach() - lend a payload with a completion
 * @ep:		the endpoint
 * @cqe:	from evering_get_cqe(), not yet submitted
 * @token:	of a block of the program's, or null
 *
 * Fills in offset and the first EVERING_TOKEN_DATA bytes of data.  The block is the
 * client's until it hands it back, or dies.  evering_cqe_cancel() makes it the
 * program's again.
 *
 * Return: 0, else nothing has happened: -ENOBUFS: as much is lent as can be
 * (evering_release_entries() blocks); -EOPNOTSUPP: the client's side has many
 * endpoints; else as evering_sqe_attach().
 */
int evering_cqe_attach(struct evering *ep, struct evering_cqe *cqe,
		       struct evering_token token);

/* --------------------------------------------------------------- receiving */

/**
 * evering_token_payload() - what a token of the peer stands for, whatever its type
 * @ep:		the endpoint
 * @token:	from an entry
 *
 * Return: its len bytes, read-only, or NULL: it stands for nothing, or for what does
 * not lie in the peer's heap.
 */
const void *evering_token_payload(const struct evering *ep,
				  struct evering_token token);

/**
 * evering_token_get() - values of a type, in place
 * @ep:		the endpoint
 * @token:	from an entry
 * @type:	that they must have; NULL: bytes of no type
 * @values:	out: read-only, aligned for @type
 *
 * The token stays as good as it was, also where this fails: try another type.
 *
 * Return: how many, at least 1; -ENODATA: the token stands for nothing; -EPROTOTYPE:
 * it is of another type; -EBADMSG: the peer lies: not in its heap, not aligned, or not a
 * whole number of values.
 */
int64_t evering_token_get(const struct evering *ep, struct evering_token token,
			  const struct evering_type *type,
			  const void **values);

/**
 * evering_token_read() - a copy of one value, which the peer cannot change
 * @ep:		the endpoint
 * @token:	from an entry
 * @type:	that it must have
 * @value:	out: room for one
 *
 * Return: 0; -EBADMSG also where there are several; -EINVAL: no @type; else as
 * evering_token_get().
 */
int evering_token_read(const struct evering *ep, struct evering_token token,
		       const struct evering_type *type, void *value);

/**
 * evering_release() - hand the payload of a completion back
 * @ep:		the endpoint, of the client
 * @token:	from the completion; null is allowed
 *
 * Once, when the program is done with the bytes.  What the server has not lent,
 * or has got back, it counts and takes no notice of; but more than all that it could have
 * lent, before it has looked, is a lie, and ends the channel with -EPROTO.
 *
 * Return: 0; -EINVAL: of side B, or not in its heap; -EOPNOTSUPP: this side has
 * many endpoints.
 */
int evering_release(struct evering *ep, struct evering_token token);

/* -------------------------------------------------------------- statistics */

/**
 * struct evering_heap_stats - the own heap
 * @size:	bytes
 * @used:	bytes in blocks that are not free
 * @peak:	most that were used at a time
 * @largest:	bytes of the largest block that could be had
 * @blocks:	that are not free
 * @in_flight:	of these, with requests that are not completed
 * @lent:	of these, with the peer
 * @refused:	releases of what was not lent, or not any more
 * @reserved:	0
 */
struct evering_heap_stats {
	uint64_t size;
	uint64_t used;
	uint64_t peak;
	uint64_t largest;
	uint64_t blocks;
	uint64_t in_flight;
	uint64_t lent;
	uint64_t refused;
	uint64_t reserved[4];
};

/**
 * evering_heap_stats() - look at the own heap
 * @ep:		the endpoint
 * @stats:	out
 *
 * Takes what has been handed back first; what a dead peer had is free.
 *
 * Return: 0; -EOPNOTSUPP: no heap, or many endpoints.
 */
int evering_heap_stats(struct evering *ep, struct evering_heap_stats *stats);

#ifdef __cplusplus
}
#endif

#endif /* EVERING_HEAP_H */
