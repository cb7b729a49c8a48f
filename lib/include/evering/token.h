/* SPDX-License-Identifier: MIT OR LGPL-2.1 */
/*
 * Tokens: what an entry carries of a payload, 16 bytes, by value.
 *
 * A token names a block in the heap of who sends it, how much of it is meant and of
 * which type that is.  It is good in every process that has the uring, wherever that
 * has mapped it.  It is no more than a claim of its sender: the functions of
 * <evering/heap.h> check it before they return a pointer.
 *
 * Included by <evering.h>.
 */
#ifndef EVERING_TOKEN_H
#define EVERING_TOKEN_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <linux/evering.h>

#ifdef __cplusplus
extern "C" {
#endif

#define EVERING_TOKEN_KIND_NULL		0U	/* no payload */
#define EVERING_TOKEN_KIND_CHANNEL	1U	/* a block of the sender's heap */

/**
 * struct evering_token - a payload
 * @block:	kind << 60 | generation << 32 | granule: the block begins at granule *
 *		EVERING_GRANULE bytes into the heap, and its generation tells it from
 *		those that began there before
 * @len:	bytes that are meant
 * @type:	evering_type_tag() of what they are, 0: of no type
 */
struct evering_token {
	uint64_t block;
	uint32_t len;
	uint32_t type;
};
EVERING_SIZE_IS(struct evering_token, 16);

/** evering_token_kind() - EVERING_TOKEN_KIND_* of a token */
static inline unsigned int evering_token_kind(struct evering_token token)
{
	return (unsigned int)(token.block >> 60);
}

/** evering_token_is_null() - does it stand for nothing? */
static inline bool evering_token_is_null(struct evering_token token)
{
	return evering_token_kind(token) == EVERING_TOKEN_KIND_NULL;
}

/*
 * In an entry: @block in its offset, @len and @type in the first eight bytes of its
 * data; a request has @len in its own len as well.
 */
#define EVERING_TOKEN_DATA	8U	/* bytes of data that it takes */

/** evering_sqe_token() - the payload of a request, as its sender says */
static inline struct evering_token
evering_sqe_token(const struct evering_sqe *sqe)
{
	struct evering_token token;

	token.block = sqe->offset;
	memcpy(&token.len, &sqe->data[0], sizeof(token.len));
	memcpy(&token.type, &sqe->data[4], sizeof(token.type));
	return token;
}

/** evering_cqe_token() - the payload of a completion, as its sender says */
static inline struct evering_token
evering_cqe_token(const struct evering_cqe *cqe)
{
	struct evering_token token;

	token.block = cqe->offset;
	memcpy(&token.len, &cqe->data[0], sizeof(token.len));
	memcpy(&token.type, &cqe->data[4], sizeof(token.type));
	return token;
}

#ifdef __cplusplus
}
#endif

#endif /* EVERING_TOKEN_H */
