/* SPDX-License-Identifier: MIT OR LGPL-2.1 */
/* What the digest client and server agree on. */
#ifndef DIGEST_H
#define DIGEST_H

#include <stdint.h>
#include <stddef.h>

enum digest_opcode {
	DIGEST_CHUNK = 1,	/* len bytes at offset: CRC32C comes back */
	DIGEST_FINISH = 2,	/* struct digest_result comes back */
};

/* Inline in a completion's data. */
struct digest_chunk {
	uint32_t crc32c;
};

struct digest_result {
	uint8_t sha256[32];	/* of all chunks since the last one */
	uint64_t enters;	/* system calls of the server so far */
	uint64_t sleeps;
	uint64_t doorbells;
};

#define DIGEST_CQ_SLOT	128U	/* holds struct digest_result */

/* CRC32C as iSCSI and ext4 use it, a nibble at a time. */
static inline uint32_t digest_crc32c(const uint8_t *p, size_t len)
{
	static const uint32_t table[16] = {
		0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1,
		0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d,
		0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
		0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
	};
	uint32_t crc = ~0U;

	while (len--) {
		crc ^= *p++;
		crc = crc >> 4 ^ table[crc & 15];
		crc = crc >> 4 ^ table[crc & 15];
	}
	return ~crc;
}

#endif /* DIGEST_H */
