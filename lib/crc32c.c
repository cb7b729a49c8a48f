/* SPDX-License-Identifier: MIT OR LGPL-2.1 */
/* CRC-32C (Castagnoli): by the CPU's instruction where it has one. */
#include <string.h>

#include "checksum.h"

/* Four bits at a time: slow, for CPUs without the instruction. */
uint32_t evr_crc32c_plain(uint32_t crc, const void *data, size_t len)
{
	static const uint32_t table[16] = {
		0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1,
		0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d,
		0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
		0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
	};
	const uint8_t *bytes = data;
	size_t i;

	crc = ~crc;
	for (i = 0; i < len; i++) {
		crc ^= bytes[i];
		crc = crc >> 4 ^ table[crc & 15];
		crc = crc >> 4 ^ table[crc & 15];
	}
	return ~crc;
}

#if defined(__x86_64__)

__attribute__((target("sse4.2")))
static uint32_t evr_crc32c_fast(uint32_t crc, const void *data, size_t len)
{
	const uint8_t *bytes = data;
	uint64_t wide = ~crc, word;

	for (; len >= sizeof(word); len -= sizeof(word), bytes += sizeof(word)) {
		memcpy(&word, bytes, sizeof(word));
		wide = __builtin_ia32_crc32di(wide, word);
	}
	crc = (uint32_t)wide;
	for (; len; len--)
		crc = __builtin_ia32_crc32qi(crc, *bytes++);
	return ~crc;
}

static int evr_crc32c_is_fast(void)
{
	return __builtin_cpu_supports("sse4.2");
}

#elif defined(__aarch64__)

#include <arm_acle.h>
#include <sys/auxv.h>

#define EVR_HWCAP_CRC32	(1UL << 7)	/* HWCAP_CRC32 */

__attribute__((target("+crc")))
static uint32_t evr_crc32c_fast(uint32_t crc, const void *data, size_t len)
{
	const uint8_t *bytes = data;
	uint64_t word;

	crc = ~crc;
	for (; len >= sizeof(word); len -= sizeof(word), bytes += sizeof(word)) {
		memcpy(&word, bytes, sizeof(word));
		crc = __crc32cd(crc, word);
	}
	for (; len; len--)
		crc = __crc32cb(crc, *bytes++);
	return ~crc;
}

static int evr_crc32c_is_fast(void)
{
	return !!(getauxval(AT_HWCAP) & EVR_HWCAP_CRC32);
}

#else

#define evr_crc32c_fast	evr_crc32c_plain

static int evr_crc32c_is_fast(void)
{
	return 0;
}

#endif

/* Of what gave @crc, followed by @data. */
uint32_t evr_crc32c(uint32_t crc, const void *data, size_t len)
{
	return evr_crc32c_is_fast() ? evr_crc32c_fast(crc, data, len) :
				      evr_crc32c_plain(crc, data, len);
}
