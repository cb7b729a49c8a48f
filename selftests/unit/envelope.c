// SPDX-License-Identifier: GPL-2.0
/* Envelopes: damaged anywhere, of another version, too old; and none of these. */
#include <errno.h>
#include <string.h>

#include "checksum.h"
#include "evering.h"
#include "kselftest_harness.h"

#define BODY	100U

static const unsigned int all[] = {
	EVERING_CHECKSUM_NONE, EVERING_CHECKSUM_CRC32C, EVERING_CHECKSUM_XXH3,
};

FIXTURE(envelope)
{
	struct evering_envelope e;
	uint8_t body[BODY];
};

FIXTURE_SETUP(envelope)
{
	unsigned int i;

	for (i = 0; i < BODY; i++)
		self->body[i] = (uint8_t)(i * 7);
	self->e = (struct evering_envelope){
		.type = EVERING_TYPE_ID("test.body"),
		.timestamp = 1000000,
		.max_age = 500,
		.request_id = 7,
		.user_tag = 8,
	};
}

FIXTURE_TEARDOWN(envelope)
{
}

/* As published, so that others find the same. */
TEST(crc32c)
{
	uint8_t bytes[300];
	uint32_t seed = 1;
	unsigned int i, k;

	EXPECT_EQ(0xe3069283, evr_crc32c(0, "123456789", 9));
	EXPECT_EQ(0xe3069283, evr_crc32c_plain(0, "123456789", 9));
	EXPECT_EQ(0, evr_crc32c(0, NULL, 0));
	memset(bytes, 0, 32);
	EXPECT_EQ(0x8a9136aa, evr_crc32c(0, bytes, 32));
	for (i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)((seed = seed * 1664525 + 1013904223) >> 16);
	/* Wherever it begins, however long, in one piece or two. */
	for (i = 0; i < 16; i++)
		for (k = i; k < sizeof(bytes); k++) {
			uint32_t crc = evr_crc32c_plain(0, bytes + i, k - i);

			ASSERT_EQ(crc, evr_crc32c(0, bytes + i, k - i));
			ASSERT_EQ(crc, evr_crc32c(evr_crc32c(0, bytes + i, (k - i) / 3),
						  bytes + i + (k - i) / 3,
						  k - i - (k - i) / 3));
		}
}

TEST_F(envelope, whole)
{
	unsigned int i;

	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, evering_envelope_seal(&self->e, self->body, BODY, all[i]));
		EXPECT_EQ(EVERING_ENVELOPE_VERSION, self->e.version);
		EXPECT_EQ(BODY, self->e.len);
		EXPECT_EQ(i != 0, self->e.checksum != 0);
		EXPECT_EQ(0, evering_envelope_check(&self->e, self->body, BODY, 1000000));
		EXPECT_EQ(0, evering_envelope_check(&self->e, self->body, BODY + 1, 0));
	}
	ASSERT_EQ(0, evering_envelope_seal(&self->e, NULL, 0, EVERING_CHECKSUM_XXH3));
	EXPECT_EQ(0, evering_envelope_check(&self->e, NULL, 0, 0));
	EXPECT_EQ(-EINVAL, evering_envelope_seal(&self->e, self->body, BODY, 3));
	EXPECT_EQ(-EMSGSIZE, evering_envelope_seal(&self->e, self->body,
						   UINT32_MAX + 1UL, 0));
}

/* Any bit of all of it, but of a body that has no checksum. */
TEST_F(envelope, damaged)
{
	struct evering_envelope e;
	unsigned int i, bit;
	int ret;

	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, evering_envelope_seal(&self->e, self->body, BODY, all[i]));
		for (bit = 0; bit < sizeof(e) * 8; bit++) {
			e = self->e;
			((uint8_t *)&e)[bit / 8] ^= (uint8_t)(1 << bit % 8);
			ret = evering_envelope_check(&e, self->body, BODY, 0);
			if (bit >= 16 && !i)
				continue;
			ASSERT_EQ(bit < 16 ? -EPROTONOSUPPORT : -EBADMSG, ret) {
				TH_LOG("%u: bit %u", i, bit);
			}
		}
		for (bit = 0; bit < BODY * 8 && i; bit++) {
			self->body[bit / 8] ^= (uint8_t)(1 << bit % 8);
			ASSERT_EQ(-EBADMSG, evering_envelope_check(&self->e, self->body,
								   BODY, 0));
			self->body[bit / 8] ^= (uint8_t)(1 << bit % 8);
		}
		EXPECT_EQ(-EBADMSG, evering_envelope_check(&self->e, self->body,
							   BODY - 1, 0));
	}
	/* One that has none says nothing else in its place. */
	ASSERT_EQ(0, evering_envelope_seal(&self->e, self->body, BODY, 0));
	self->e.checksum = 1;
	EXPECT_EQ(-EBADMSG, evering_envelope_check(&self->e, self->body, BODY, 0));
}

TEST_F(envelope, too_old)
{
	ASSERT_EQ(0, evering_envelope_seal(&self->e, self->body, BODY,
					   EVERING_CHECKSUM_CRC32C));
	EXPECT_EQ(0, evering_envelope_check(&self->e, self->body, BODY, 1000500));
	EXPECT_EQ(-EKEYEXPIRED, evering_envelope_check(&self->e, self->body, BODY, 1000501));
	/* A clock that goes back makes nothing old. */
	EXPECT_EQ(0, evering_envelope_check(&self->e, self->body, BODY, 1));
	/* Damaged is damaged, however old. */
	self->body[0]++;
	EXPECT_EQ(-EBADMSG, evering_envelope_check(&self->e, self->body, BODY, 1000501));
	self->body[0]--;
	self->e.max_age = 0;
	ASSERT_EQ(0, evering_envelope_seal(&self->e, self->body, BODY, 0));
	EXPECT_EQ(0, evering_envelope_check(&self->e, self->body, BODY, UINT64_MAX));
	self->e.max_age = UINT64_MAX;
	ASSERT_EQ(0, evering_envelope_seal(&self->e, self->body, BODY, 0));
	EXPECT_EQ(0, evering_envelope_check(&self->e, self->body, BODY, UINT64_MAX));
	EXPECT_LT(1700000000000UL, evering_envelope_now());
}

TEST_HARNESS_MAIN
