// SPDX-License-Identifier: GPL-2.0
/*
 * The registry as everybody can map it: that nobody can write to it, and that
 * what stands there of each uring is true at any time.
 */
#include "sections.h"
#include "registry_test.h"

#define NAME	"test.registry"

FIXTURE(registry)
{
	struct view v;
	int control;		/* to read and to write */
};

FIXTURE_SETUP(registry)
{
	catch_faults();
	self->control = open(DEVICE, O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, self->control);
	ASSERT_TRUE(view_map(&self->v, self->control));
}

FIXTURE_TEARDOWN(registry)
{
	munmap((void *)self->v.header, self->v.bytes);
	close(self->control);
}

#define ENTRY(token)	entry_of(&self->v, token)

/* ------------------------------------------------------------------ mapping */

TEST_F(registry, is_mapped_whole_shared_and_read_only)
{
	const size_t len = self->v.bytes;
	const int fd = self->control;

	EXPECT_EQ(0, len % PAGE);
	EXPECT_EQ(0, try_map(fd, len, PROT_READ, MAP_SHARED, 0));
	EXPECT_EQ(0, try_map(fd, len, PROT_NONE, MAP_SHARED, 0));
	EXPECT_EQ(-EINVAL, try_map(fd, len - PAGE, PROT_READ, MAP_SHARED, 0));
	EXPECT_EQ(-EINVAL, try_map(fd, PAGE, PROT_READ, MAP_SHARED, 0));
	EXPECT_EQ(-EINVAL, try_map(fd, len + PAGE, PROT_READ, MAP_SHARED, 0));
	EXPECT_EQ(-EINVAL, try_map(fd, len, PROT_READ, MAP_SHARED, PAGE));
	EXPECT_EQ(-EINVAL, try_map(fd, len - PAGE, PROT_READ, MAP_SHARED, PAGE));
	EXPECT_EQ(-EINVAL, try_map(fd, len, PROT_READ, MAP_SHARED, EVERING_MMAP_OFFSET(1)));
	EXPECT_EQ(-EINVAL, try_map(fd, len, PROT_READ, MAP_PRIVATE, 0));
	EXPECT_EQ(-EINVAL, try_map(fd, len, RW, MAP_PRIVATE, 0));
	EXPECT_EQ(-EACCES, try_map(fd, len, RW, MAP_SHARED, 0));
	EXPECT_EQ(-EACCES, try_map(fd, len, PROT_WRITE, MAP_SHARED, 0));
	EXPECT_EQ(-EPERM, try_map(fd, len, PROT_READ | PROT_EXEC, MAP_SHARED, 0));
	EXPECT_EQ(0, try_map(fd, len, PROT_READ, MAP_SHARED, 0));
}

TEST_F(registry, mapping_is_not_raised_or_grown)
{
	char *map = (char *)self->v.header, was = *map;
	int mem = open("/proc/self/mem", O_RDWR | O_CLOEXEC);

	ASSERT_LE(0, mem);
	EXPECT_EQ(-EACCES, try_mprotect(map, PAGE, RW));
	EXPECT_EQ(-EACCES, try_mprotect(map, self->v.bytes, RW));
	EXPECT_EQ(-EACCES, try_mprotect(map, PAGE, PROT_READ | PROT_EXEC));
	EXPECT_EQ(SIGSEGV, try_store(map));
	EXPECT_EQ(SIGSEGV, try_store(map + PAGE));
	EXPECT_EQ(-1, pwrite(mem, "\x77", 1, (uintptr_t)map));
	EXPECT_NE(0, try_mremap(map, self->v.bytes, self->v.bytes + PAGE, MREMAP_MAYMOVE, NULL));
	EXPECT_EQ(was, *map);
	/* All of it is there, used or not. */
	EXPECT_EQ(0, try_load(map + self->v.bytes - 1));
	close(mem);
}

TEST_F(registry, control_file_that_is_closed_or_read_only_shows_it_too)
{
	struct view v;
	uint64_t token;
	int fd;

	ASSERT_TRUE(view_here(&v));
	EXPECT_EQ(-EACCES, try_map(v.control, v.bytes, RW, MAP_SHARED, 0));
	EXPECT_EQ(-EACCES, try_mprotect((void *)v.header, v.bytes, RW));
	close(v.control);
	fd = do_create(EVERING_KIND_BUFFER, NAME, 0600, &token);
	ASSERT_LE(0, fd);
	EXPECT_EQ(token, entry_of(&v, token).token);
	/* Who may only write to it may not map it: mm wants to read as well. */
	close(v.control);
	v.control = open(DEVICE, O_WRONLY | O_CLOEXEC);
	ASSERT_LE(0, v.control);
	EXPECT_EQ(-EACCES, try_map(v.control, v.bytes, PROT_READ, MAP_SHARED, 0));
}

/* ------------------------------------------------------------------- header */

static unsigned long capacity_parameter(void)
{
	FILE *f = fopen("/sys/module/evering/parameters/registry_entries", "re");
	unsigned long n = 0;

	if (f) {
		if (fscanf(f, "%lu", &n) != 1)
			n = 0;
		fclose(f);
	}
	return n;
}

TEST_F(registry, header_tells_where_the_entries_are)
{
	const struct evering_registry *h = self->v.header;
	int i;

	EXPECT_EQ(0x42554652U, h->magic);
	EXPECT_EQ(0, memcmp(h, "RFUB", 4));
	EXPECT_EQ(1, h->version);
	EXPECT_EQ(capacity_parameter(), h->capacity);
	EXPECT_LE(16, h->capacity);
	EXPECT_GE(EVERING_MAX_REGISTRY, h->capacity);
	EXPECT_EQ(256, h->entry_size);
	EXPECT_LE(sizeof(*h), h->entries_offset);
	EXPECT_EQ(0, h->entries_offset % 256);
	EXPECT_LE(h->entries_offset + (uint64_t)h->capacity * h->entry_size, self->v.bytes);
	EXPECT_EQ(0, h->active_count);
	EXPECT_EQ(0, h->__resv0);
	for (i = 0; i < ARRAY_SIZE(h->__resv1); i++)
		EXPECT_EQ(0, h->__resv1[i]);
	for (i = 0; i < ARRAY_SIZE(h->__resv2); i++)
		EXPECT_EQ(0, h->__resv2[i]);
}

TEST_F(registry, header_counts_the_entries)
{
	const struct evering_registry *h = self->v.header;
	uint64_t token[8];
	int fd[8], i;

	for (i = 0; i < 8; i++) {
		fd[i] = do_create(i % NR_KINDS, "", 0600, &token[i]);
		ASSERT_LE(0, fd[i]);
		EXPECT_EQ(i + 1, h->active_count);
		EXPECT_LT(EVERING_TOKEN_INDEX(token[i]), h->used);
		EXPECT_GE(h->capacity, h->used);
		EXPECT_LT(token[i], h->next_token);
		EXPECT_EQ(token[i], ENTRY(token[i]).token);
	}
	for (i = 0; i < 8; i++) {
		close(fd[i]);
		EXPECT_EQ(7 - i, h->active_count);
	}
	for (i = 0; i < h->used; i++)
		EXPECT_EQ(EVERING_ENTRY_FREE, ENTRY(i).state);
}

/* ------------------------------------------------------------------ entries */

#define EXPECT_SIDE(is, expected_state, expected_endpoints) do {	\
	EXPECT_EQ(expected_state, (is).state);				\
	EXPECT_EQ(expected_endpoints, (is).endpoints);			\
	EXPECT_EQ(0, (is).sleepers);					\
	EXPECT_EQ(0, (is).__resv);					\
} while (0)

static void check_constant(struct __test_metadata *_metadata,
			   const struct evering_registry_entry *e, const char *name)
{
	char whole[EVERING_NAME_MAX + 1];
	int i;

	EXPECT_EQ(0, e->seq & 1);
	EXPECT_EQ(getpid(), e->pid);
	EXPECT_EQ(1000, e->uid);
	EXPECT_EQ(1001, e->gid);
	EXPECT_EQ(0, e->__resv0);
	EXPECT_EQ(0, e->__resv1);
	for (i = 0; i < ARRAY_SIZE(e->__resv2); i++)
		EXPECT_EQ(0, e->__resv2[i]);
	memset(whole, 0, sizeof(whole));
	strcpy(whole, name);
	EXPECT_EQ(0, memcmp(whole, e->name, sizeof(whole)));
}

TEST_F(registry, entry_of_each_kind_tells_what_was_created)
{
	struct evering_registry_entry e;
	struct evering_create args;
	int kind, named, fd;

	for (kind = 0; kind < NR_KINDS; kind++)
		for (named = 0; named < 2; named++) {
			args = create_args(kind, named ? NAME : "");
			args.mode = named ? 0640 : 0751;
			/* With the effective user, as files are. */
			ASSERT_EQ(0, setegid(1001));
			ASSERT_EQ(0, seteuid(1000));
			fd = call(self->control, EVERING_IOC_CREATE, &args);
			ASSERT_EQ(0, seteuid(0));
			ASSERT_EQ(0, setegid(0));
			ASSERT_LE(0, fd);
			e = ENTRY(args.token);
			check_constant(_metadata, &e, args.name);
			EXPECT_EQ(EVERING_ENTRY_ACTIVE, e.state);
			EXPECT_EQ(args.token, e.token);
			EXPECT_EQ(kind, e.kind);
			EXPECT_EQ(named ? EVERING_ENTRY_NAMED : 0, e.flags);
			EXPECT_EQ(args.mode, e.mode);
			EXPECT_EQ(bytes_of(&args.layout), e.bytes);
			EXPECT_EQ(0, memcmp(&of_kind[kind], &e.geometry, sizeof(e.geometry)));
			EXPECT_EQ(1, e.ref_count);
			EXPECT_SIDE(e.side[0], EVERING_STATE_OPEN, 1);
			EXPECT_SIDE(e.side[1], EVERING_STATE_PENDING, 0);
			close(fd);
		}
}

TEST_F(registry, entry_of_a_connected_channel_has_the_name_of_its_service)
{
	struct evering_connect args = connect_args(NAME);
	struct evering_listen listen = listen_args(NAME);
	struct evering_registry_entry e;
	struct evering_accept accepted;
	int service, fd[2];

	/* The right to connect is the service's, and opens nothing. */
	listen.mode = 0666;
	service = call(self->control, EVERING_IOC_LISTEN, &listen);
	ASSERT_LE(0, service);
	EXPECT_EQ(0, self->v.header->active_count);
	ASSERT_EQ(0, setegid(1001));
	ASSERT_EQ(0, seteuid(1000));
	fd[0] = call(self->control, EVERING_IOC_CONNECT, &args);
	ASSERT_EQ(0, seteuid(0));
	ASSERT_EQ(0, setegid(0));
	ASSERT_LE(0, fd[0]);
	e = ENTRY(args.token);
	check_constant(_metadata, &e, NAME);
	EXPECT_EQ(EVERING_ENTRY_ACTIVE, e.state);
	EXPECT_EQ(args.token, e.token);
	EXPECT_EQ(EVERING_KIND_CHANNEL, e.kind);
	EXPECT_EQ(EVERING_ENTRY_CONNECTED, e.flags);
	EXPECT_EQ(bytes_of(&args.layout), e.bytes);
	EXPECT_EQ(0, memcmp(&args.geometry, &e.geometry, sizeof(e.geometry)));
	EXPECT_EQ(1, e.ref_count);
	EXPECT_SIDE(e.side[0], EVERING_STATE_OPEN, 1);
	EXPECT_SIDE(e.side[1], EVERING_STATE_PENDING, 0);

	fd[1] = do_accept(service, &accepted);
	ASSERT_LE(0, fd[1]);
	EXPECT_EQ(args.token, accepted.token);
	e = ENTRY(args.token);
	EXPECT_EQ(2, e.ref_count);
	EXPECT_SIDE(e.side[1], EVERING_STATE_OPEN, 1);
	EXPECT_EQ(1000, e.uid);
	close(fd[0]);
	e = ENTRY(args.token);
	EXPECT_EQ(EVERING_ENTRY_ACTIVE, e.state);
	EXPECT_EQ(1, e.ref_count);
	EXPECT_SIDE(e.side[0], EVERING_STATE_DEAD, 0);
	EXPECT_SIDE(e.side[1], EVERING_STATE_OPEN, 1);
	close(fd[1]);
	EXPECT_EQ(EVERING_ENTRY_FREE, ENTRY(args.token).state);

	/* Nobody will accept it any more. */
	fd[0] = call(self->control, EVERING_IOC_CONNECT, &args);
	ASSERT_LE(0, fd[0]);
	close(service);
	e = ENTRY(args.token);
	EXPECT_EQ(EVERING_ENTRY_ACTIVE, e.state);
	EXPECT_SIDE(e.side[1], EVERING_STATE_DEAD, 0);
	close(fd[0]);
	EXPECT_EQ(EVERING_ENTRY_FREE, ENTRY(args.token).state);
}

TEST_F(registry, entry_counts_endpoints_as_they_come_and_go)
{
	struct evering_registry_entry e;
	struct channel c, other;
	int dup, i;

	ASSERT_EQ(0, uring_open(&c, EVERING_KIND_BUFFER));
	dup = do_dup(c.fd[0]);
	ASSERT_LE(0, dup);
	e = ENTRY(c.token);
	EXPECT_EQ(3, e.ref_count);
	EXPECT_SIDE(e.side[0], EVERING_STATE_OPEN, 2);
	EXPECT_SIDE(e.side[1], EVERING_STATE_OPEN, 1);
	/* A descriptor more is no endpoint more. */
	i = fcntl(dup, F_DUPFD_CLOEXEC, 0);
	EXPECT_EQ(3, ENTRY(c.token).ref_count);
	close(i);
	EXPECT_EQ(3, ENTRY(c.token).ref_count);
	close(dup);
	EXPECT_EQ(2, ENTRY(c.token).ref_count);
	/* Dead at munmap, before its file is closed. */
	munmap(c.map[0][1], c.layout.section_size[1]);
	e = ENTRY(c.token);
	EXPECT_EQ(EVERING_ENTRY_ACTIVE, e.state);
	EXPECT_EQ(1, e.ref_count);
	EXPECT_SIDE(e.side[0], EVERING_STATE_PENDING, 0);
	EXPECT_SIDE(e.side[1], EVERING_STATE_OPEN, 1);
	other = c;
	other.fd[0] = open_token(c.token, EVERING_SIDE_A);
	ASSERT_LE(0, other.fd[0]);
	EXPECT_EQ(2, ENTRY(c.token).ref_count);
	close(c.fd[0]);
	EXPECT_EQ(2, ENTRY(c.token).ref_count);
	unmap_and_close(&c, 1);
	e = ENTRY(c.token);
	EXPECT_EQ(1, e.ref_count);
	EXPECT_SIDE(e.side[0], EVERING_STATE_OPEN, 1);
	EXPECT_SIDE(e.side[1], EVERING_STATE_PENDING, 0);
	close(other.fd[0]);
}

static bool sleepers_become(const struct view *v, uint64_t token, int side, unsigned int nr)
{
	const struct evering_registry_entry *e = slot_of(v, EVERING_TOKEN_INDEX(token));
	int i;

	/* They may change without seq, and a thread that leaves is not yet gone. */
	for (i = 0; i < 2000; i++) {
		if (__atomic_load_n(&e->side[side].sleepers, __ATOMIC_RELAXED) == nr)
			return true;
		sleep_ms(1);
	}
	return false;
}

TEST_F(registry, entry_counts_who_sleeps_in_enter)
{
	struct sleeper s[3];
	struct channel c;
	uint32_t seq;
	int i, side;

	ASSERT_EQ(0, uring_open(&c, EVERING_KIND_CHANNEL));
	for (side = 0; side < 2; side++) {
		seq = ENTRY(c.token).seq;
		for (i = 0; i < 3; i++) {
			s[i] = (struct sleeper){ .fd = c.fd[side],
						 .enter = wait_args(0, 1, LONG_MS) };
			ASSERT_TRUE(sleeper_start(&s[i], sleep_in_enter, SYS_ioctl));
			EXPECT_EQ(i + 1, ENTRY(c.token).side[side].sleepers);
			EXPECT_EQ(0, ENTRY(c.token).side[!side].sleepers);
		}
		EXPECT_EQ(seq, ENTRY(c.token).seq);
		commit(&c, !side, 0, EVERING_COMMITTED);
		EXPECT_EQ(0, do_wake(c.fd[!side]));
		for (i = 0; i < 3; i++) {
			sleeper_join(&s[i], 0);
			EXPECT_EQ(EVERING_READY_ENTRIES, s[i].result);
		}
		EXPECT_TRUE(sleepers_become(&self->v, c.token, side, 0));
		/* Nor does one stay that has given up. */
		EXPECT_EQ(-ETIME, do_wait(c.fd[side], 1, 1, 20));
		EXPECT_EQ(0, ENTRY(c.token).side[side].sleepers);
	}
}

TEST_HARNESS_MAIN
