// SPDX-License-Identifier: GPL-2.0
/*
 * A section stays in one piece and in its place: no munmap(), mmap(),
 * mprotect() or mremap() takes a part of it, moves, copies or grows it.  The
 * module tells an owner's life by this one mapping, so it must not be in two.
 */
#include "sections.h"

/* ------------------------------------------------------------ in one piece */

TEST_F(sections, cannot_be_unmapped_in_part)
{
	struct channel *c = &self->c;
	int side, section;

	for (side = 0; side < 2; side++) {
		for (section = OWN(0); section <= OWN(1); section++) {
			char *p = c->map[side][section];
			size_t len = c->layout.section_size[section];

			ASSERT_LE(2 * PAGE, len);
			EXPECT_EQ(-EINVAL, try_munmap(p, PAGE));
			EXPECT_EQ(-EINVAL, try_munmap(p, len - PAGE));
			EXPECT_EQ(-EINVAL, try_munmap(p + PAGE, PAGE));
			EXPECT_EQ(-EINVAL, try_munmap(p + len - PAGE, PAGE));
		}
	}
	EXPECT_ALIVE();
}

/* A range that begins or ends in the middle of a section. */
TEST(unmapping_across_the_border_is_all_or_nothing)
{
	struct channel c;
	char *region, *own;
	size_t len;

	catch_faults();
	ASSERT_EQ(0, channel_unmapped(&c, _metadata->name));
	ASSERT_EQ(0, map_side(&c, 1));
	len = c.layout.section_size[OWN(0)];
	region = mmap(NULL, len + 2 * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, region);
	region[0] = 1;
	region[len + PAGE] = 2;
	own = mmap(region + PAGE, len, RW, MAP_SHARED | MAP_FIXED, c.fd[0],
		   EVERING_MMAP_OFFSET(OWN(0)));
	ASSERT_EQ(region + PAGE, own);
	c.map[0][OWN(0)] = own;
	c.map[0][HEADER] = map_section(c.fd[0], &c.layout, HEADER, PROT_READ);
	c.map[0][PEER(0)] = map_section(c.fd[0], &c.layout, PEER(0), PROT_READ);

	EXPECT_EQ(-EINVAL, try_munmap(region, 2 * PAGE));
	EXPECT_EQ(-EINVAL, try_munmap(own + PAGE, len));
	EXPECT_EQ(1, region[0]);
	EXPECT_EQ(2, region[len + PAGE]);
	expect_alive(_metadata, &c, 0);

	EXPECT_EQ(0, try_munmap(region, len + 2 * PAGE));
	EXPECT_EQ(SIGSEGV, try_load(own));
	EXPECT_EQ(EVERING_STATE_DEAD, state_of(&c, 0, 1));
}

TEST_F(sections, cannot_be_mapped_over_in_part)
{
	struct channel *c = &self->c;
	int section;

	for (section = OWN(0); section <= OWN(1); section++) {
		char *p = c->map[0][section];
		size_t len = c->layout.section_size[section];

		EXPECT_EQ(MAP_FAILED,
			  mmap(p, PAGE, RW,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
		EXPECT_EQ(MAP_FAILED,
			  mmap(p + len - PAGE, PAGE, RW,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	}
	EXPECT_ALIVE();
}

TEST_F(sections, keep_their_rights_in_one_piece)
{
	struct channel *c = &self->c;
	int section;

	for (section = OWN(0); section <= OWN(1); section++) {
		char *p = c->map[0][section];
		size_t len = c->layout.section_size[section];

		EXPECT_EQ(-EINVAL, try_mprotect(p, PAGE, PROT_NONE));
		EXPECT_EQ(-EINVAL, try_mprotect(p + len - PAGE, PAGE, PROT_NONE));
		EXPECT_EQ(-EINVAL, try_madvise(p, PAGE, MADV_DOFORK));
		EXPECT_EQ(-EINVAL, try_madvise(p + PAGE, PAGE, MADV_DOFORK));
	}
	EXPECT_ALIVE();
}

/* ------------------------------------------------------------------ mremap */

TEST_F(sections, do_not_shrink)
{
	struct channel *c = &self->c;
	int section;

	for (section = OWN(0); section <= OWN(1); section++) {
		void *p = c->map[0][section];
		size_t len = c->layout.section_size[section];

		EXPECT_GT(0, try_mremap(p, len, len - PAGE, 0, NULL));
		EXPECT_GT(0, try_mremap(p, len, PAGE, MREMAP_MAYMOVE, NULL));
		EXPECT_GT(0, try_mremap(p, len, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, reserve(len)));
		EXPECT_ALIVE();
	}
}

TEST_F(sections, do_not_grow)
{
	struct channel *c = &self->c;
	int section;

	for (section = 0; section < 3; section++) {
		void *p = c->map[0][section];
		size_t len = c->layout.section_size[section];

		EXPECT_GT(0, try_mremap(p, len, len + PAGE, 0, NULL));
		EXPECT_GT(0, try_mremap(p, len, len + PAGE, MREMAP_MAYMOVE, NULL));
		EXPECT_GT(0, try_mremap(p, len, 2 * len,
					MREMAP_MAYMOVE | MREMAP_FIXED,
					reserve(2 * len)));
		EXPECT_ALIVE();
	}
}

/* Where nothing is in the way of growing in place. */
TEST(sections_do_not_grow_into_free_memory)
{
	struct channel c;
	int section;

	catch_faults();
	ASSERT_EQ(0, channel_unmapped(&c, _metadata->name));
	ASSERT_EQ(0, map_side(&c, 1));
	for (section = 0; section < 3; section++) {
		size_t len = c.layout.section_size[section];
		char *p = reserve(2 * len);

		ASSERT_NE(MAP_FAILED, p);
		c.map[0][section] = mmap(p, len,
					 section == OWN(0) ? RW : PROT_READ,
					 MAP_SHARED | MAP_FIXED, c.fd[0],
					 EVERING_MMAP_OFFSET(section));
		ASSERT_EQ(p, c.map[0][section]);
		ASSERT_EQ(0, munmap(p + len, len));
		EXPECT_GT(0, try_mremap(p, len, len + PAGE, 0, NULL));
		EXPECT_GT(0, try_mremap(p, len, 2 * len, MREMAP_MAYMOVE, NULL));
		EXPECT_EQ(SIGSEGV, try_load(p + len));
	}
	expect_alive(_metadata, &c, 0);
}

TEST_F(sections, do_not_move)
{
	struct channel *c = &self->c;
	int section, i;

	for (section = 0; section < 3; section++) {
		void *p = c->map[0][section];
		size_t len = c->layout.section_size[section];
		void *to = reserve(len);

		/* More than once: each try makes and ends a copy. */
		for (i = 0; i < 3; i++) {
			EXPECT_GT(0, try_mremap(p, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, to));
			EXPECT_NE(0, try_load(to));
			EXPECT_ALIVE();
		}
	}
	/* The first to go is still the last. */
	EXPECT_EQ(0, try_munmap(c->map[0][OWN(0)], c->layout.section_size[OWN(0)]));
	EXPECT_EQ(EVERING_STATE_DEAD, state_of(c, 0, 1));
}

TEST_F(sections, do_not_move_in_part)
{
	struct channel *c = &self->c;
	int section;

	for (section = OWN(0); section <= OWN(1); section++) {
		char *p = c->map[0][section];
		size_t len = c->layout.section_size[section];
		void *to = reserve(len);

		EXPECT_GT(0, try_mremap(p, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to));
		EXPECT_GT(0, try_mremap(p + len - PAGE, PAGE, PAGE,
					MREMAP_MAYMOVE | MREMAP_FIXED, to));
		EXPECT_ALIVE();
	}
}

TEST_F(sections, are_not_duplicated)
{
	struct channel *c = &self->c;
	int section;

	for (section = 0; section < 3; section++) {
		void *p = c->map[0][section];
		size_t len = c->layout.section_size[section];

		EXPECT_GT(0, try_mremap(p, 0, len, MREMAP_MAYMOVE, NULL));
		EXPECT_GT(0, try_mremap(p, 0, len, MREMAP_MAYMOVE | MREMAP_FIXED, reserve(len)));
		EXPECT_ALIVE();
	}
}

TEST_F(sections, are_not_moved_and_left_behind)
{
	struct channel *c = &self->c;
	int section;

	for (section = 0; section < 3; section++) {
		void *p = c->map[0][section];
		size_t len = c->layout.section_size[section];
		int flags = MREMAP_MAYMOVE | MREMAP_DONTUNMAP;

		EXPECT_GT(0, try_mremap(p, len, len, flags, NULL));
		EXPECT_GT(0, try_mremap(p, len, len, flags | MREMAP_FIXED, reserve(len)));
		EXPECT_ALIVE();
	}
}

TEST_F(sections, are_not_moved_over_in_part)
{
	struct channel *c = &self->c;
	char *own = c->map[0][OWN(0)];
	void *page = mmap(NULL, PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(MAP_FAILED, page);
	EXPECT_GT(0, try_mremap(page, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, own));
	EXPECT_GT(0, try_mremap(page, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, own + PAGE));
	EXPECT_ALIVE();
}

TEST_HARNESS_MAIN
