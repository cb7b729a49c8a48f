// SPDX-License-Identifier: GPL-2.0
/*
 * A message that somebody sends: what is called whole is what sealing makes of it again,
 * and not with any one bit changed.
 */
#include <errno.h>

#include "evering.h"
#include "peer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct evering_envelope e, again;
	struct input in = { data, size };
	uint64_t now = take(&in, 2);
	uint8_t *body;
	size_t bit;
	int ret;

	if (in.left < sizeof(e))
		return 0;
	memcpy(&e, in.at, sizeof(e));
	in.at += sizeof(e);
	in.left -= sizeof(e);
	/* Ends where the memory does. */
	body = malloc(in.left + !in.left);
	memcpy(body, in.at, in.left);
	/* Half of the time, what no checksum could find by trying. */
	if (e.user_tag & 1)
		evering_envelope_seal(&e, body, e.len % (in.left + 1), e.flags % 3);
	ret = evering_envelope_check(&e, body, in.left, now);
	MUST(ret == 0 || ret == -EBADMSG || ret == -EPROTONOSUPPORT || ret == -EKEYEXPIRED);
	if (!ret) {
		MUST(e.len <= in.left);
		again = e;
		MUST(!evering_envelope_seal(&again, body, e.len, e.flags));
		MUST(!memcmp(&again, &e, sizeof(e)));
		bit = now % ((sizeof(e) + e.len) * 8);
		if (e.flags && bit >= 16) {
			if (bit < sizeof(e) * 8)
				((uint8_t *)&e)[bit / 8] ^= (uint8_t)(1 << bit % 8);
			else
				body[bit / 8 - sizeof(e)] ^= (uint8_t)(1 << bit % 8);
			MUST(evering_envelope_check(&e, body, in.left, now) == -EBADMSG);
		}
	}
	free(body);
	return 0;
}
