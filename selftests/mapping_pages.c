// SPDX-License-Identifier: GPL-2.0
/*
 * What mm and other system calls may do with the pages of a section: drop
 * them from page tables, lock, read, write and pin them.  Data stays, rights
 * hold for the kernel's accesses too, and nobody gets another uring's pages.
 */
#include <linux/userfaultfd.h>
#include <sys/uio.h>

#include "sections.h"

/* ----------------------------------------------------------------- madvise */

TEST_F(sections, keep_their_data_when_dropped_from_page_tables)
{
	static const int advices[] = {
		MADV_DONTNEED, MADV_COLD, MADV_PAGEOUT, MADV_DONTNEED,
	};
	struct channel *c = &self->c;
	size_t i;
	int side;

	for (side = 0; side < 2; side++) {
		char *own = heap_of(c, side, side);
		char *seen = heap_of(c, side, !side);

		for (i = 0; i < sizeof(advices) / sizeof(advices[0]); i++) {
			memset(own, 0x40 + i, PAGE);
			(void)*(volatile char *)seen;
			/* COLD and PAGEOUT may refuse; they must not harm. */
			EXPECT_TRUE(!try_madvise(own, PAGE, advices[i]) ||
				    advices[i] != MADV_DONTNEED);
			EXPECT_TRUE(!try_madvise(seen, PAGE, advices[i]) ||
				    advices[i] != MADV_DONTNEED);
			EXPECT_EQ(0x40 + i, own[0]);
			EXPECT_EQ(0x40 + i, own[PAGE - 1]);
			EXPECT_EQ(0x40 + i, seen[0]);
			EXPECT_EQ(0, memcmp(own, seen, PAGE));
		}
		EXPECT_EQ(0, try_madvise(c->map[side][HEADER], PAGE, MADV_DONTNEED));
	}
	EXPECT_EQ(EVERING_HEADER_MAGIC, header_of(c, 0)->magic);
	EXPECT_ALIVE();
}

TEST_F(sections, keep_their_data_and_their_privacy)
{
	static const int advices[] = {
		MADV_REMOVE, MADV_DODUMP, MADV_FREE, MADV_WIPEONFORK,
	};
	struct channel *c = &self->c;
	int side, section;
	size_t i;

	for (side = 0; side < 2; side++) {
		memset(heap_of(c, side, side), 0x66, PAGE);
		for (section = 0; section < 3; section++) {
			void *p = c->map[side][section];
			size_t len = c->layout.section_size[section];

			for (i = 0; i < sizeof(advices) / sizeof(*advices); i++)
				EXPECT_GT(0, try_madvise(p, len, advices[i])) {
					TH_LOG("side %d section %d advice %d",
					       side, section, advices[i]);
				}
		}
		EXPECT_EQ(0x66, heap_of(c, side, side)[0]);
		EXPECT_EQ(0x66, heap_of(c, side, !side)[PAGE - 1]);
	}
	EXPECT_ALIVE();
}

TEST_F(sections, are_populated_by_their_rights)
{
	struct channel *c = &self->c;
	int section;

	for (section = 0; section < 3; section++) {
		void *p = c->map[0][section];
		size_t len = c->layout.section_size[section];

		EXPECT_EQ(0, try_madvise(p, len, MADV_POPULATE_READ));
		if (section == OWN(0)) {
			EXPECT_EQ(0, try_madvise(p, len, MADV_POPULATE_WRITE));
		} else {
			EXPECT_GT(0, try_madvise(p, len, MADV_POPULATE_WRITE));
		}
	}
	EXPECT_ALIVE();
}

TEST_F(sections, may_be_locked)
{
	struct channel *c = &self->c, late;
	int section;

	for (section = 0; section < 3; section++) {
		void *p = c->map[0][section];
		size_t len = c->layout.section_size[section];

		EXPECT_EQ(0, mlock(p, len));
		EXPECT_EQ(0, munlock(p, len));
		/* A part: it is for mm to say, but not to split. */
		mlock(p, PAGE);
		munlock(p, PAGE);
		EXPECT_ALIVE();
	}
	EXPECT_EQ(0, mlockall(MCL_CURRENT | MCL_FUTURE));
	EXPECT_EQ(0, channel_open(&late, "test.late"));
	expect_alive(_metadata, &late, 0);
	EXPECT_ALIVE();
	EXPECT_EQ(0, munlockall());
	expect_alive(_metadata, &late, 1);
	EXPECT_ALIVE();
}

/* --------------------------------------------------------------------- I/O */

TEST_F(sections, are_read_and_written_by_system_calls)
{
	struct channel *c = &self->c;
	char out[PAGE], in[PAGE];
	int side, pipes[2], file;

	ASSERT_EQ(0, pipe(pipes));
	file = open("/tmp/evering.mapping", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ASSERT_LE(0, file);
	unlink("/tmp/evering.mapping");
	for (side = 0; side < 2; side++) {
		char *own = heap_of(c, side, side);
		char *seen = heap_of(c, side, !side);

		memset(out, 0x21 + side, sizeof(out));
		ASSERT_EQ(PAGE, write(pipes[1], out, PAGE));
		EXPECT_EQ(PAGE, read(pipes[0], own, PAGE));
		EXPECT_EQ(0, memcmp(seen, out, PAGE));
		/* And from the other side's mapping, which is read-only. */
		EXPECT_EQ(PAGE, write(pipes[1], seen, PAGE));
		EXPECT_EQ(PAGE, read(pipes[0], in, PAGE));
		EXPECT_EQ(0, memcmp(in, out, PAGE));

		memset(out, 0x31 + side, sizeof(out));
		EXPECT_EQ(PAGE, pwrite(file, out, PAGE, 0));
		EXPECT_EQ(PAGE, pread(file, own, PAGE, 0));
		EXPECT_EQ(0, memcmp(seen, out, PAGE));
		EXPECT_EQ(PAGE, pwrite(file, seen, PAGE, PAGE));
		EXPECT_EQ(PAGE, pread(file, in, PAGE, PAGE));
		EXPECT_EQ(0, memcmp(in, out, PAGE));
	}
	EXPECT_ALIVE();
}

TEST_F(sections, of_others_are_not_written_by_system_calls)
{
	struct channel *c = &self->c;
	char out[8] = "garbage", in[8];
	int side, pipes[2];

	ASSERT_EQ(0, pipe2(pipes, O_NONBLOCK));
	for (side = 0; side < 2; side++) {
		memset(heap_of(c, !side, !side), 0, PAGE);
		ASSERT_EQ(8, write(pipes[1], out, 8));
		errno = 0;
		EXPECT_EQ(-1, read(pipes[0], c->map[side][HEADER], 8));
		EXPECT_EQ(EFAULT, errno);
		errno = 0;
		EXPECT_EQ(-1, read(pipes[0], heap_of(c, !side, side), 8));
		EXPECT_EQ(EFAULT, errno);
		EXPECT_EQ(0, *heap_of(c, !side, !side));
		while (read(pipes[0], in, 8) > 0)
			;
	}
	EXPECT_EQ(EVERING_HEADER_MAGIC, header_of(c, 0)->magic);
	EXPECT_ALIVE();
}

/* Pages in a pipe are pinned, and stay what they are after the uring. */
TEST(a_pinned_page_outlives_its_uring)
{
	struct channel c;
	struct iovec iov;
	char in[PAGE];
	int pipes[2], side, section;
	size_t i;

	ASSERT_EQ(0, channel_open(&c, _metadata->name));
	ASSERT_EQ(0, pipe(pipes));
	memset(heap_of(&c, 0, 0), 0x5c, PAGE);
	iov = (struct iovec){ heap_of(&c, 0, 0), PAGE };
	ASSERT_EQ(PAGE, vmsplice(pipes[1], &iov, 1, 0));
	iov = (struct iovec){ c.map[1][HEADER], PAGE };
	ASSERT_EQ(PAGE, vmsplice(pipes[1], &iov, 1, 0));

	for (side = 0; side < 2; side++) {
		for (section = 0; section < 3; section++)
			EXPECT_EQ(0, try_munmap(c.map[side][section],
						c.layout.section_size[section]));
		close(c.fd[side]);
	}
	close(c.service);
	/* Somebody else would get the pages, were they free. */
	for (i = 0; i < 4; i++) {
		ASSERT_EQ(0, channel_open(&c, _metadata->name));
		memset(heap_of(&c, 0, 0), 0xff, PAGE);
		memset(heap_of(&c, 1, 1), 0xff, PAGE);
		close(c.service);
	}
	ASSERT_EQ(PAGE, read(pipes[0], in, PAGE));
	EXPECT_EQ(0x5c, in[0]);
	for (i = 1; i < PAGE; i++)
		if (in[i] != in[0])
			break;
	EXPECT_EQ(PAGE, i);
	ASSERT_EQ(PAGE, read(pipes[0], in, PAGE));
	EXPECT_EQ(EVERING_HEADER_MAGIC, *(uint32_t *)in);
	EXPECT_EQ(EVERING_STATE_DEAD, ((struct evering_header *)in)->side[0].state);
}

TEST_F(sections, are_seen_but_not_written_by_another_process)
{
	struct channel *c = &self->c;
	pid_t parent = getpid(), pid;

	memset(heap_of(c, 0, 0), 0x42, PAGE);
	memset(heap_of(c, 1, 1), 0x43, PAGE);
	pid = fork_mortal();
	if (!pid) {
		char in[PAGE], out[8] = "garbage";
		struct iovec local = { in, PAGE };
		struct iovec remote = { heap_of(c, 0, 0), PAGE };

		if (process_vm_readv(parent, &local, 1, &remote, 1, 0) != PAGE ||
		    in[0] != 0x42 || in[PAGE - 1] != 0x42)
			_exit(1);
		remote.iov_base = heap_of(c, 1, 0);
		if (process_vm_readv(parent, &local, 1, &remote, 1, 0) != PAGE || in[0] != 0x43)
			_exit(2);
		remote.iov_base = c->map[0][HEADER];
		if (process_vm_readv(parent, &local, 1, &remote, 1, 0) != PAGE ||
		    *(uint32_t *)in != EVERING_HEADER_MAGIC)
			_exit(3);

		local = (struct iovec){ out, sizeof(out) };
		remote = (struct iovec){ c->map[0][HEADER], sizeof(out) };
		if (process_vm_writev(parent, &local, 1, &remote, 1, 0) != -1 || errno != EFAULT)
			_exit(4);
		remote.iov_base = heap_of(c, 1, 0);
		if (process_vm_writev(parent, &local, 1, &remote, 1, 0) != -1 || errno != EFAULT)
			_exit(5);
		/* It does work where the process itself may write. */
		remote.iov_base = heap_of(c, 0, 0);
		if (process_vm_writev(parent, &local, 1, &remote, 1, 0) != sizeof(out))
			_exit(6);
		_exit(0);
	}
	EXPECT_EQ(0, reap(pid));
	EXPECT_EQ(EVERING_HEADER_MAGIC, header_of(c, 0)->magic);
	EXPECT_EQ(0x43, *heap_of(c, 1, 1));
	EXPECT_EQ(0, memcmp(heap_of(c, 0, 1), "garbage", 8));
	EXPECT_ALIVE();
}

/* ------------------------------------------------------------- userfaultfd */

TEST_F(sections, are_not_served_by_userfaultfd)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct channel *c = &self->c;
	int fd, side, section;
	size_t i;

	fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		SKIP(return, "no userfaultfd here");
	ASSERT_EQ(0, ioctl(fd, UFFDIO_API, &api));
	for (side = 0; side < 2; side++) {
		for (section = 0; section < 3; section++) {
			static const uint64_t modes[] = {
				UFFDIO_REGISTER_MODE_MISSING,
				UFFDIO_REGISTER_MODE_WP,
				UFFDIO_REGISTER_MODE_MINOR,
			};
			struct uffdio_register arg = {
				.range.start = (uintptr_t)c->map[side][section],
				.range.len = c->layout.section_size[section],
			};

			for (i = 0; i < 3; i++) {
				arg.mode = modes[i];
				EXPECT_EQ(-1, ioctl(fd, UFFDIO_REGISTER, &arg));
			}
		}
	}
	EXPECT_ALIVE();
}

TEST_HARNESS_MAIN
