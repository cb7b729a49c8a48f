// SPDX-License-Identifier: GPL-2.0
/*
 * Who may map what, and how: by role, whole, at its offset, shared, never to
 * execute, the own section once.  That a side cannot write what is another's
 * is what lets two processes that distrust each other share memory.
 */
#include "sections.h"

/* ------------------------------------------------------------------- roles */

TEST_F(sections, begin_as_zero)
{
	struct evering_layout *layout = &self->c.layout;
	int side;

	for (side = 0; side < 2; side++) {
		char *own = self->c.map[side][OWN(side)];
		uint64_t i, sum = 0;

		for (i = 0; i < layout->section_size[OWN(side)]; i++)
			sum += own[i] != 0;
		EXPECT_EQ(0, sum);
	}
	EXPECT_EQ(EVERING_HEADER_MAGIC, header_of(&self->c, 0)->magic);
	EXPECT_EQ(self->c.token, header_of(&self->c, 0)->token);
	EXPECT_EQ(0, memcmp(header_of(&self->c, 0), header_of(&self->c, 1),
			    sizeof(struct evering_header)));
	EXPECT_EQ(0, memcmp(&header_of(&self->c, 0)->layout, layout, sizeof(*layout)));
	EXPECT_ALIVE();
}

TEST_F(sections, every_byte_arrives_at_the_other_side)
{
	int side;

	for (side = 0; side < 2; side++) {
		unsigned char *own = self->c.map[side][OWN(side)];
		unsigned char *seen = self->c.map[!side][OWN(side)];
		size_t i, size = self->c.layout.section_size[OWN(side)];

		ASSERT_NE(own, seen);
		for (i = 0; i < size; i++)
			own[i] = i / PAGE * 57 + i % 251 + side;
		EXPECT_EQ(0, memcmp(own, seen, size));
		for (i = 0; i < size; i += PAGE)
			EXPECT_EQ((i / PAGE * 57 + i % 251 + side) & 0xff, seen[i]);
		/* Read both ways, so that no side has a copy of its own. */
		memset(own, 0, size);
		EXPECT_EQ(0, seen[0] | seen[size - 1]);
	}
	EXPECT_ALIVE();
}

TEST_F(sections, others_cannot_be_mapped_to_write)
{
	struct channel *c = &self->c;
	int side;

	for (side = 0; side < 2; side++) {
		EXPECT_EQ(-EACCES, try_section(c->fd[side], &c->layout, HEADER, RW, MAP_SHARED));
		EXPECT_EQ(-EACCES, try_section(c->fd[side], &c->layout, HEADER,
					       PROT_WRITE, MAP_SHARED));
		EXPECT_EQ(-EACCES, try_section(c->fd[side], &c->layout,
					       PEER(side), RW, MAP_SHARED));
		EXPECT_EQ(-EACCES, try_section(c->fd[side], &c->layout,
					       PEER(side), PROT_WRITE,
					       MAP_SHARED));
		/* Nothing is wrong with it but that. */
		EXPECT_EQ(0, try_section(c->fd[side], &c->layout, HEADER, PROT_READ, MAP_SHARED));
		EXPECT_EQ(0, try_section(c->fd[side], &c->layout, PEER(side),
					 PROT_READ, MAP_SHARED));
	}
	EXPECT_ALIVE();
}

TEST_F(sections, others_cannot_be_made_writable)
{
	struct channel *c = &self->c;
	int side;

	for (side = 0; side < 2; side++) {
		void **map = c->map[side];
		size_t len = c->layout.section_size[PEER(side)];

		EXPECT_EQ(-EACCES, try_mprotect(map[HEADER], PAGE, RW));
		EXPECT_EQ(-EACCES, try_mprotect(map[HEADER], PAGE, PROT_WRITE));
		EXPECT_EQ(-EACCES, try_mprotect(map[PEER(side)], len, RW));
		EXPECT_EQ(-EACCES, try_mprotect(map[PEER(side)], len, PROT_WRITE));
		/* A detour makes no difference. */
		EXPECT_EQ(0, try_mprotect(map[HEADER], PAGE, PROT_NONE));
		EXPECT_EQ(SIGSEGV, try_load(map[HEADER]));
		EXPECT_EQ(-EACCES, try_mprotect(map[HEADER], PAGE, RW));
		EXPECT_EQ(0, try_mprotect(map[HEADER], PAGE, PROT_READ));
	}
	EXPECT_ALIVE();
}

TEST_F(sections, a_store_to_others_faults)
{
	struct channel *c = &self->c;
	int side;

	for (side = 0; side < 2; side++) {
		*heap_of(c, !side, !side) = 1;
		EXPECT_EQ(SIGSEGV, try_store(c->map[side][HEADER]));
		EXPECT_EQ(SIGSEGV, try_store(heap_of(c, !side, side)));
		EXPECT_EQ(1, *heap_of(c, !side, side));
		EXPECT_EQ(0, try_store(heap_of(c, side, side)));
		EXPECT_EQ(0x55, *heap_of(c, side, !side));
	}
	EXPECT_EQ(EVERING_HEADER_MAGIC, header_of(c, 0)->magic);
	EXPECT_ALIVE();
}

/* A store that only a child with an endpoint of its own would do by mistake. */
TEST_F(sections, a_store_to_others_kills)
{
	int side;

	for (side = 0; side < 2; side++) {
		pid_t pid = fork_mortal();

		if (!pid) {
			struct channel mine;

			signal(SIGSEGV, SIG_DFL);
			if (channel_open(&mine, "test.store"))
				_exit(1);
			*(volatile char *)mine.map[side][PEER(side)] = 1;
			_exit(2);
		}
		EXPECT_EQ(-SIGSEGV, reap(pid));
	}
	EXPECT_ALIVE();
}

/* A debugger's write ignores PROT_WRITE wherever the kernel lets it. */
TEST_F(sections, proc_mem_does_not_write_others)
{
	struct channel *c = &self->c;
	int fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	uint64_t word = 0x123456789abcdef0, read = 0;
	int side;

	ASSERT_LE(0, fd);
	for (side = 0; side < 2; side++) {
		char *own = heap_of(c, side, side);
		char *other = heap_of(c, !side, side);

		memset(heap_of(c, !side, !side), 0, sizeof(word));
		EXPECT_EQ(-1, pwrite(fd, &word, sizeof(word), (uintptr_t)c->map[side][HEADER]));
		EXPECT_EQ(-1, pwrite(fd, &word, sizeof(word), (uintptr_t)other));
		EXPECT_EQ(0, *other);
		EXPECT_EQ(0, *heap_of(c, !side, !side));
		/* It does work where writing is allowed. */
		EXPECT_EQ(sizeof(word), pwrite(fd, &word, sizeof(word), (uintptr_t)own));
		EXPECT_EQ(0, memcmp(heap_of(c, side, !side), &word, sizeof(word)));
		EXPECT_EQ(sizeof(read), pread(fd, &read, sizeof(read), (uintptr_t)own));
		EXPECT_EQ(word, read);
	}
	EXPECT_EQ(EVERING_HEADER_MAGIC, header_of(c, 0)->magic);
	EXPECT_EQ(EVERING_HEADER_MAGIC, header_of(c, 1)->magic);
	EXPECT_ALIVE();
}

TEST_F(sections, cannot_be_mapped_private)
{
	struct channel *c = &self->c;
	int side, section;

	for (side = 0; side < 2; side++) {
		for (section = 0; section < 3; section++) {
			EXPECT_EQ(-EINVAL, try_section(c->fd[side], &c->layout,
						       section, RW,
						       MAP_PRIVATE));
			EXPECT_EQ(-EINVAL, try_section(c->fd[side], &c->layout,
						       section, PROT_READ,
						       MAP_PRIVATE));
		}
	}
	EXPECT_ALIVE();
}

TEST_F(sections, cannot_be_executed)
{
	struct channel *c = &self->c;
	int side, section;

	for (side = 0; side < 2; side++) {
		for (section = 0; section < 3; section++) {
			size_t len = c->layout.section_size[section];
			int prot = PROT_READ | PROT_EXEC;

			if (section == OWN(side))
				prot |= PROT_WRITE;
			EXPECT_EQ(-EPERM, try_section(c->fd[side], &c->layout,
						      section, prot,
						      MAP_SHARED));
			EXPECT_EQ(-EACCES, try_mprotect(c->map[side][section], len, prot));
		}
	}
	EXPECT_ALIVE();
}

TEST_F(sections, descriptor_cannot_be_reopened)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", self->c.fd[0]);
	EXPECT_EQ(-1, open(path, O_RDONLY));
	EXPECT_EQ(-1, open(path, O_RDWR));
	EXPECT_ALIVE();
}

/* ------------------------------------------------------- lengths and offsets */

TEST_F(sections, are_mapped_whole)
{
	struct channel *c = &self->c;
	int side, section;

	for (side = 0; side < 2; side++) {
		for (section = 0; section < 3; section++) {
			size_t len = c->layout.section_size[section];
			uint64_t offset = EVERING_MMAP_OFFSET(section);
			int prot = section == OWN(side) ? RW : PROT_READ;

			EXPECT_EQ(-EINVAL, try_map(c->fd[side], 0, prot, MAP_SHARED, offset));
			EXPECT_EQ(-EINVAL, try_map(c->fd[side], len + PAGE,
						   prot, MAP_SHARED, offset));
			EXPECT_EQ(-EINVAL, try_map(c->fd[side], len << 20, prot,
						   MAP_SHARED, offset));
			if (len == PAGE)
				continue;
			EXPECT_EQ(-EINVAL, try_map(c->fd[side], len - PAGE,
						   prot, MAP_SHARED, offset));
			EXPECT_EQ(-EINVAL, try_map(c->fd[side], PAGE, prot, MAP_SHARED, offset));
		}
	}
	EXPECT_ALIVE();
}

TEST_F(sections, begin_at_their_offset)
{
	struct channel *c = &self->c;
	int side, section;

	for (side = 0; side < 2; side++) {
		for (section = 0; section < 3; section++) {
			size_t len = c->layout.section_size[section];
			uint64_t offset = EVERING_MMAP_OFFSET(section) + PAGE;
			int prot = section == OWN(side) ? RW : PROT_READ;

			EXPECT_EQ(-EINVAL, try_map(c->fd[side], len, prot, MAP_SHARED, offset));
			/* Within the section, were there such mappings. */
			if (len > PAGE)
				EXPECT_EQ(-EINVAL,
					  try_map(c->fd[side], len - PAGE, prot,
						  MAP_SHARED, offset));
			offset = EVERING_MMAP_OFFSET(section + 1) - PAGE;
			EXPECT_EQ(-EINVAL, try_map(c->fd[side], len, prot, MAP_SHARED, offset));
		}
	}
	EXPECT_ALIVE();
}

TEST_F(sections, are_three)
{
	static const uint64_t offsets[] = {
		EVERING_MMAP_OFFSET(3),
		EVERING_MMAP_OFFSET(4),
		EVERING_MMAP_OFFSET(1) << 2,
		1ULL << 52,
		1ULL << 62,
		1ULL << 63,
		(1ULL << 63) + EVERING_MMAP_OFFSET(1),
		0xfffULL << 52,
		-EVERING_MMAP_OFFSET(1),
		-PAGE,
		-PAGE - PAGE,
	};
	struct channel *c = &self->c;
	size_t i;
	int side, section;

	for (i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
		for (side = 0; side < 2; side++) {
			for (section = 0; section < 3; section++) {
				size_t len = c->layout.section_size[section];
				int ret = try_map(c->fd[side], len, PROT_READ,
						  MAP_SHARED, offsets[i]);

				if (ret == -EOVERFLOW)
					continue;	/* mm's own answer */
				EXPECT_EQ(-EINVAL, ret) {
					TH_LOG("offset %llx length %zx",
					       (unsigned long long)offsets[i],
					       len);
				}
			}
		}
	}
	EXPECT_ALIVE();
}

/* --------------------------------------------------------- the own section */

TEST(own_section_needs_prot_write)
{
	struct channel c;
	int side;

	ASSERT_EQ(0, channel_unmapped(&c, _metadata->name));
	for (side = 0; side < 2; side++) {
		EXPECT_EQ(-EINVAL, try_section(c.fd[side], &c.layout, OWN(side),
					       PROT_READ, MAP_SHARED));
		EXPECT_EQ(-EINVAL, try_section(c.fd[side], &c.layout, OWN(side),
					       PROT_NONE, MAP_SHARED));
	}
	/* That has used nothing up. */
	ASSERT_EQ(0, map_side(&c, 0));
	ASSERT_EQ(0, map_side(&c, 1));
	expect_alive(_metadata, &c, 0);
}

TEST_F(sections, own_is_mapped_once)
{
	struct channel *c = &self->c;
	int side;

	for (side = 0; side < 2; side++) {
		EXPECT_EQ(-EBUSY, try_section(c->fd[side], &c->layout, OWN(side), RW, MAP_SHARED));
		EXPECT_EQ(-EBUSY, try_section(c->fd[side], &c->layout,
					      OWN(side), PROT_WRITE,
					      MAP_SHARED));
	}
	EXPECT_ALIVE();
}

/* Only the own section is the endpoint's life. */
TEST_F(sections, others_come_and_go)
{
	struct channel *c = &self->c;
	void *again;
	int i;

	for (i = 0; i < 3; i++) {
		again = map_section(c->fd[0], &c->layout, HEADER, PROT_READ);
		ASSERT_NE(MAP_FAILED, again);
		EXPECT_EQ(0, memcmp(again, c->map[0][HEADER], PAGE));
		EXPECT_EQ(0, try_munmap(c->map[0][HEADER], PAGE));
		c->map[0][HEADER] = again;
		EXPECT_ALIVE();
	}
	EXPECT_EQ(0, try_munmap(c->map[0][PEER(0)], c->layout.section_size[PEER(0)]));
	EXPECT_EQ(0, try_munmap(c->map[0][HEADER], PAGE));
	EXPECT_EQ(EVERING_STATE_OPEN, state_of(c, 0, 1));
	EXPECT_EQ(0, do_wake(c->fd[0]));
	for (i = 0; i < 3; i++)
		if (i != OWN(0))
			c->map[0][i] = map_section(c->fd[0], &c->layout, i, PROT_READ);
	EXPECT_ALIVE();
}

TEST_F(sections, own_may_lose_its_rights_for_a_while)
{
	struct channel *c = &self->c;
	size_t len = c->layout.section_size[OWN(0)];
	void *own = c->map[0][OWN(0)];

	*heap_of(c, 0, 0) = 0x77;
	EXPECT_EQ(0, try_mprotect(own, len, PROT_READ));
	EXPECT_EQ(SIGSEGV, try_store(own));
	EXPECT_EQ(EVERING_STATE_OPEN, state_of(c, 0, 1));
	EXPECT_EQ(0, try_mprotect(own, len, PROT_NONE));
	EXPECT_EQ(SIGSEGV, try_load(own));
	EXPECT_EQ(EVERING_STATE_OPEN, state_of(c, 0, 1));
	EXPECT_EQ(0x77, *heap_of(c, 0, 1));
	EXPECT_EQ(0, try_mprotect(own, len, RW));
	EXPECT_EQ(0x77, *heap_of(c, 0, 0));
	EXPECT_ALIVE();
}

TEST_HARNESS_MAIN
