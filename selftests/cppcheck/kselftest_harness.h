/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The kselftest harness as cppcheck is to see it: what the real one expands to
 * takes it ten times as long, and is not ours to judge.
 */
struct __test_metadata {
	const char *name;
};

#define FIXTURE(f)		struct f
#define FIXTURE_DATA(f)		struct f
#define FIXTURE_VARIANT(f)	struct f##_variant
#define FIXTURE_VARIANT_ADD(f, v) static const struct f##_variant f##_##v =
#define FIXTURE_BODY(f, name)						\
	void f##_##name(struct __test_metadata *_metadata, struct f *self, \
			const struct f##_variant *variant)
#define FIXTURE_SETUP(f)	FIXTURE_BODY(f, setup)
#define FIXTURE_TEARDOWN(f)	FIXTURE_BODY(f, teardown)
#define FIXTURE_TEARDOWN_PARENT(f) FIXTURE_TEARDOWN(f)
#define TEST_F(f, name)		FIXTURE_BODY(f, name)
#define TEST_F_TIMEOUT(f, name, seconds) FIXTURE_BODY(f, name)
#define TEST(name)		void name(struct __test_metadata *_metadata)
#define TEST_HARNESS_MAIN	int main(void) { return 0; }
#define TH_LOG(...)		fprintf(stderr, __VA_ARGS__)
#define SKIP(statement, ...)	do { TH_LOG(__VA_ARGS__); statement; } while (0)

/* What follows EXPECT_* runs where it fails; after ASSERT_* nothing runs. */
#define EXPECT_TRUE(a)		if (!(a))
#define EXPECT_FALSE(a)		if (a)
#define EXPECT_EQ(a, b)		if ((a) != (b))
#define EXPECT_NE(a, b)		if ((a) == (b))
#define EXPECT_LT(a, b)		if ((a) >= (b))
#define EXPECT_LE(a, b)		if ((a) > (b))
#define EXPECT_GT(a, b)		if ((a) <= (b))
#define EXPECT_GE(a, b)		if ((a) < (b))
#define EXPECT_STREQ(a, b)	if (strcmp(a, b))
#define ASSERT_TRUE(a)		for (; !(a); abort())
#define ASSERT_FALSE(a)		for (; (a); abort())
#define ASSERT_EQ(a, b)		for (; (a) != (b); abort())
#define ASSERT_NE(a, b)		for (; (a) == (b); abort())
#define ASSERT_LT(a, b)		for (; (a) >= (b); abort())
#define ASSERT_LE(a, b)		for (; (a) > (b); abort())
#define ASSERT_GT(a, b)		for (; (a) <= (b); abort())
#define ASSERT_GE(a, b)		for (; (a) < (b); abort())
#define ASSERT_STREQ(a, b)	for (; strcmp(a, b); abort())
