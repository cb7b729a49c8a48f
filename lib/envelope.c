/* SPDX-License-Identifier: MIT OR LGPL-2.1 */
#include <errno.h>
#include <time.h>

#include "checksum.h"
#include "internal.h"

/* Inline: no other library is needed at run time. */
#define XXH_INLINE_ALL
#include <xxhash.h>

EXPORT uint64_t evering_envelope_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000U + (uint64_t)ts.tv_nsec / 1000000U;
}

/* Of the body, then of the envelope without its checksum. */
static uint64_t evr_envelope_sum(const struct evering_envelope *envelope,
				 const void *body)
{
	struct evering_envelope e = *envelope;

	e.checksum = 0;
	switch (e.flags) {
	case EVERING_CHECKSUM_CRC32C:
		return evr_crc32c(evr_crc32c(0, body, e.len), &e, sizeof(e));
	case EVERING_CHECKSUM_XXH3:
		return XXH3_64bits_withSeed(&e, sizeof(e),
					    XXH3_64bits(body, e.len));
	}
	return 0;
}

EXPORT int evering_envelope_seal(struct evering_envelope *envelope,
				 const void *body, size_t len,
				 unsigned int checksum)
{
	if (checksum > EVERING_CHECKSUM_XXH3)
		return -EINVAL;
	if (len > UINT32_MAX)
		return -EMSGSIZE;
	envelope->version = EVERING_ENVELOPE_VERSION;
	envelope->flags = (uint16_t)checksum;
	envelope->len = (uint32_t)len;
	envelope->__resv = 0;
	envelope->checksum = evr_envelope_sum(envelope, body);
	return 0;
}

EXPORT int evering_envelope_check(const struct evering_envelope *envelope,
				  const void *body, size_t size, uint64_t now)
{
	uint64_t until;

	if (envelope->version != EVERING_ENVELOPE_VERSION)
		return -EPROTONOSUPPORT;
	/* Without a checksum there is none: or flags themselves are damaged. */
	if (envelope->flags > EVERING_CHECKSUM_XXH3 || envelope->len > size ||
	    envelope->__resv ||
	    envelope->checksum != evr_envelope_sum(envelope, body))
		return -EBADMSG;
	if (envelope->max_age && now &&
	    !__builtin_add_overflow(envelope->timestamp, envelope->max_age, &until) &&
	    until < now)
		return -EKEYEXPIRED;
	return 0;
}
