/* SPDX-License-Identifier: MIT OR LGPL-2.1 */
/*
 * Envelopes: what a message says of itself, in front of its body, wherever it lies: in
 * a payload, an item of a queue, a message of a topic, a file.
 *
 * A checksum finds what was damaged, not what was forged: a peer that lies computes it
 * as well.  And it is of the bytes as they are now: what somebody else can still write
 * to is copied first.
 *
 * Included by <evering.h>, whose conventions hold.
 */
#ifndef EVERING_ENVELOPE_H
#define EVERING_ENVELOPE_H

#include <stddef.h>
#include <stdint.h>
#include <linux/evering.h>
#include <evering/type.h>

#ifdef __cplusplus
extern "C" {
#endif

#define EVERING_ENVELOPE_VERSION	1U

/* In flags, one of these. */
#define EVERING_CHECKSUM_NONE	0U
#define EVERING_CHECKSUM_CRC32C	1U	/* by the CPU's instruction, if it has one */
#define EVERING_CHECKSUM_XXH3	2U	/* 64 bits */

/**
 * struct evering_envelope - of a message
 * @version:	EVERING_ENVELOPE_VERSION
 * @flags:	EVERING_CHECKSUM_*
 * @len:	bytes of the body
 * @type:	id of a struct evering_type, or 0
 * @checksum:	of body and envelope
 * @timestamp:	milliseconds since 1970 (CLOCK_REALTIME)
 * @max_age:	milliseconds after @timestamp that the message is good for; 0: for ever
 * @request_id:	the program's
 * @user_tag:	the program's
 * @__resv:	0
 */
struct evering_envelope {
	uint16_t version;
	uint16_t flags;
	uint32_t len;
	uint64_t type;
	uint64_t checksum;
	uint64_t timestamp;
	uint64_t max_age;
	uint64_t request_id;
	uint64_t user_tag;
	uint64_t __resv;
};
EVERING_SIZE_IS(struct evering_envelope, 64);

/**
 * evering_envelope_now() - the time, as in an envelope
 *
 * Return: milliseconds since 1970.
 */
uint64_t evering_envelope_now(void);

/**
 * evering_envelope_seal() - fill in version, flags, len and checksum
 * @envelope:	the others are the caller's; they do not change any more
 * @body:	@len bytes
 * @len:	at most UINT32_MAX
 * @checksum:	EVERING_CHECKSUM_*
 *
 * Return: 0; -EINVAL: no such checksum; -EMSGSIZE: too long.
 */
int evering_envelope_seal(struct evering_envelope *envelope, const void *body,
			  size_t len, unsigned int checksum);

/**
 * evering_envelope_check() - may the message be used?
 * @envelope:	of the message
 * @body:	behind it
 * @size:	bytes that are there: len is at most that
 * @now:	from evering_envelope_now(); 0: however old it is
 *
 * Return: 0; -EPROTONOSUPPORT: another version; -EBADMSG: damaged; -EKEYEXPIRED: too
 * old, timestamp + max_age < now; and otherwise whole.
 */
int evering_envelope_check(const struct evering_envelope *envelope,
			   const void *body, size_t size, uint64_t now);

#ifdef __cplusplus
}
#endif

#endif /* EVERING_ENVELOPE_H */
