// SPDX-License-Identifier: GPL-2.0
/*
 * What is opened by token or by name works: it is the uring that was created,
 * each side of it may do what its kind allows, and it lives as long as anybody
 * has it, whoever that is.
 */
#include <sys/uio.h>

#include "sections.h"
#include "registry_test.h"

/* ------------------------------------------------------------------- kinds */

FIXTURE(kind)
{
	struct counters before;
};

FIXTURE_VARIANT(kind)
{
	int kind;
};

FIXTURE_VARIANT_ADD(kind, channel) { EVERING_KIND_CHANNEL };
FIXTURE_VARIANT_ADD(kind, queue) { EVERING_KIND_QUEUE };
FIXTURE_VARIANT_ADD(kind, topic) { EVERING_KIND_TOPIC };
FIXTURE_VARIANT_ADD(kind, buffer) { EVERING_KIND_BUFFER };

FIXTURE_SETUP(kind)
{
	self->before = counters_now();
	catch_faults();
}

FIXTURE_TEARDOWN(kind)
{
	EXPECT_TRUE(counters_return(&self->before));
}

static void check_layout(struct __test_metadata *_metadata, const struct evering_layout *l,
			 const struct evering_geometry *g)
{
	int i;

	EXPECT_EQ(0, memcmp(&l->geometry, g, sizeof(*g)));
	EXPECT_EQ(PAGE, l->section_size[0]);
	for (i = 0; i < 2; i++) {
		uint64_t slots = (uint64_t)g->entries[i] * g->slot_size[i];

		EXPECT_LT(0, l->section_size[1 + i]);
		EXPECT_EQ(0, l->section_size[1 + i] % PAGE);
		EXPECT_LE(sizeof(struct evering_control), l->slots_offset[i]);
		EXPECT_LE(l->slots_offset[i] + slots, l->heap_offset[i]);
		EXPECT_LE(l->heap_offset[i] + g->heap_size[i], l->section_size[1 + i]);
		if (g->heap_size[i])
			EXPECT_EQ(0, l->heap_offset[i] % PAGE);
	}
}

static void check_info(struct __test_metadata *_metadata, int fd, int side,
		       const struct evering_create *created)
{
	struct evering_info info;
	char name[EVERING_NAME_MAX + 1];

	ASSERT_EQ(0, do_info(fd, &info));
	EXPECT_EQ(sizeof(info), info.size);
	EXPECT_EQ(0, info.flags);
	EXPECT_EQ(created->kind, info.kind);
	EXPECT_EQ(side, info.side);
	EXPECT_EQ(created->mode, info.mode);
	EXPECT_EQ(read_only_on[created->kind][side], info.read_only);
	EXPECT_EQ(created->token, info.token);
	EXPECT_EQ(0, memcmp(&created->layout, &info.layout, sizeof(info.layout)));
	/* Nothing of the kernel's stands behind it. */
	memset(name, 0, sizeof(name));
	strcpy(name, created->name);
	EXPECT_EQ(0, memcmp(name, info.name, sizeof(name)));
}

TEST_F(kind, all_calls_tell_the_same_of_it)
{
	struct evering_create create = create_args(variant->kind, BUFFER);
	const struct evering_header *header;
	struct evering_open open_it;
	int fd, other, side, by_name;

	create.mode = 0640;
	fd = device_call(EVERING_IOC_CREATE, &create);
	ASSERT_LE(0, fd);
	EXPECT_EQ(sizeof(create), create.size);
	EXPECT_NE(NOT_WRITTEN, create.token);
	check_layout(_metadata, &create.layout, &of_kind[variant->kind]);
	EXPECT_EQ(self->before.bytes + (long)bytes_of(&create.layout), counter("bytes"));
	check_info(_metadata, fd, EVERING_SIDE_A, &create);
	EXPECT_EQ(FD_CLOEXEC, fcntl(fd, F_GETFD));

	/* Side A first, where it can be had again. */
	for (side = !many_on[variant->kind][0]; side < 2; side++)
		for (by_name = 0; by_name < (many_on[variant->kind][side] ? 2 : 1); by_name++) {
			open_it = by_name ? open_args(0, BUFFER, side) :
					    open_args(create.token, "", side);
			if (by_name)
				open_it.kind = variant->kind;
			other = device_call(EVERING_IOC_OPEN, &open_it);
			ASSERT_LE(0, other);
			EXPECT_EQ(create.token, open_it.token);
			EXPECT_EQ(variant->kind, open_it.kind);
			EXPECT_EQ(0, memcmp(&create.layout, &open_it.layout,
					    sizeof(create.layout)));
			check_info(_metadata, other, side, &create);
			EXPECT_EQ(FD_CLOEXEC, fcntl(other, F_GETFD));
			EXPECT_EQ(read_only_on[variant->kind][side] ? O_RDONLY : O_RDWR,
				  fcntl(other, F_GETFL) & O_ACCMODE);
			header = map_section(other, &create.layout, HEADER, PROT_READ);
			ASSERT_NE(MAP_FAILED, header);
			EXPECT_EQ(EVERING_HEADER_MAGIC, header->magic);
			EXPECT_EQ(create.token, header->token);
			EXPECT_EQ(0, memcmp(&create.layout, &header->layout,
					    sizeof(create.layout)));
			EXPECT_EQ(EVERING_STATE_OPEN, header->side[side].state);
			munmap((void *)header, PAGE);
			close(other);
		}
	close(fd);
}

/* By name, where by_name has not been tried above. */
TEST_F(kind, side_b_is_found_by_name_and_dies_as_its_kind_says)
{
	struct channel c = { .fd[0] = do_create(variant->kind, BUFFER, 0600, NULL) };
	struct evering_peer peer = { .size = sizeof(peer) };
	struct evering_info info;

	ASSERT_LE(0, c.fd[0]);
	ASSERT_EQ(0, do_info(c.fd[0], &info));
	c.layout = info.layout;
	ASSERT_EQ(0, map_side(&c, 0));
	EXPECT_EQ(EVERING_STATE_PENDING, state_of(&c, 1, 0));
	/* Nobody is not root. */
	EXPECT_EQ(0, call(c.fd[0], EVERING_IOC_PEER, &peer));
	EXPECT_EQ(EVERING_STATE_PENDING, peer.state);
	EXPECT_EQ(65534, peer.uid);
	EXPECT_EQ(65534, peer.gid);
	EXPECT_EQ(0, peer.pid);
	c.fd[1] = open_name(BUFFER, EVERING_SIDE_B);
	ASSERT_LE(0, c.fd[1]);
	EXPECT_EQ(EVERING_STATE_OPEN, state_of(&c, 1, 0));
	EXPECT_EQ(EVERING_STATE_OPEN, peer_state(c.fd[1]));
	EXPECT_EQ(0, call(c.fd[0], EVERING_IOC_PEER, &peer));
	EXPECT_EQ(0, peer.uid);
	EXPECT_EQ(getpid(), peer.pid);
	close(c.fd[1]);
	EXPECT_EQ(many_on[variant->kind][1] ? EVERING_STATE_PENDING : EVERING_STATE_DEAD,
		  state_of(&c, 1, 0));
	EXPECT_EQ(state_of(&c, 1, 0), peer_state(c.fd[0]));
	unmap_and_close(&c, 0);
}

/* One map, to read and to write, of one's own; the others are there to be read. */
TEST_F(kind, each_side_writes_its_own_section_or_nothing)
{
	struct channel c;
	int side, section, expected;

	ASSERT_EQ(0, uring_open(&c, variant->kind));
	for (side = 0; side < 2; side++)
		for (section = 0; section < 3; section++) {
			bool own = !read_only_on[variant->kind][side] && section == OWN(side);
			void *p = c.map[side][section];

			expected = own ? -EBUSY : -EACCES;
			EXPECT_EQ(expected, try_section(c.fd[side], &c.layout, section, RW,
							MAP_SHARED)) {
				TH_LOG("side %d, section %d", side, section);
			}
			EXPECT_EQ(0, try_load(p));
			EXPECT_EQ(own ? 0 : SIGSEGV, try_store(p));
			EXPECT_EQ(own ? 0 : -EACCES,
				  try_mprotect(p, c.layout.section_size[section], RW));
			EXPECT_EQ(own ? 0 : SIGSEGV, try_store(p));
			EXPECT_EQ(-EINVAL, try_section(c.fd[side], &c.layout, section, PROT_READ,
						       MAP_PRIVATE));
		}
	unmap_and_close(&c, 0);
	unmap_and_close(&c, 1);
}

static void try_to_write(struct __test_metadata *_metadata, int mem, struct channel *c,
			 int section)
{
	volatile char *p = c->map[1][section];
	char path[64], target[64], byte = 0x77, was = *p;
	struct iovec from = { &byte, 1 }, to = { (void *)p, 1 };
	unsigned long len = c->layout.section_size[section];

	/* As a debugger would, and through its file. */
	EXPECT_EQ(-1, pwrite(mem, &byte, 1, (uintptr_t)p));
	EXPECT_EQ(-1, process_vm_writev(getpid(), &from, 1, &to, 1, 0));
	snprintf(path, sizeof(path), "/proc/self/map_files/%lx-%lx", (unsigned long)p,
		 (unsigned long)p + len);
	EXPECT_LT(0, readlink(path, target, sizeof(target)));
	EXPECT_EQ(-1, open(path, O_RDWR | O_CLOEXEC));
	EXPECT_EQ(-EACCES, try_section(c->fd[1], &c->layout, section, RW, MAP_SHARED));
	EXPECT_NE(0, try_section(c->fd[1], &c->layout, section, RW, MAP_PRIVATE));
	EXPECT_EQ(was, *p);
}

TEST(no_way_round_leads_from_read_only_to_writing)
{
	int mem = open("/proc/self/mem", O_RDWR | O_CLOEXEC), kind, section;
	struct channel c;
	char path[64];

	ASSERT_LE(0, mem);
	for (kind = EVERING_KIND_TOPIC; kind <= EVERING_KIND_BUFFER; kind++) {
		ASSERT_EQ(0, uring_open(&c, kind));
		EXPECT_EQ(0, fcntl(c.fd[1], F_SETFL, O_RDWR | O_NONBLOCK));
		EXPECT_EQ(O_RDONLY, fcntl(c.fd[1], F_GETFL) & O_ACCMODE);
		EXPECT_EQ(-1, write(c.fd[1], path, 1));
		EXPECT_EQ(-1, ftruncate(c.fd[1], 0));
		snprintf(path, sizeof(path), "/proc/self/fd/%d", c.fd[1]);
		EXPECT_EQ(-1, open(path, O_RDWR | O_CLOEXEC));
		for (section = 0; section < 3; section++)
			try_to_write(_metadata, mem, &c, section);
		unmap_and_close(&c, 0);
		unmap_and_close(&c, 1);
	}
}

/* ------------------------------------------------------ requests and buffers */

/* Whoever creates it, and whoever opens it. */
TEST(created_channel_carries_requests_and_answers)
{
	struct evering_create args;
	struct channel c;
	int creator, i;

	for (creator = 0; creator < 2; creator++) {
		memset(&c, 0, sizeof(c));
		args = create_args(EVERING_KIND_CHANNEL, "");
		args.side = creator;
		c.fd[creator] = device_call(EVERING_IOC_CREATE, &args);
		ASSERT_LE(0, c.fd[creator]);
		c.layout = args.layout;
		c.fd[!creator] = open_token(args.token, !creator);
		ASSERT_LE(0, c.fd[!creator]);
		ASSERT_EQ(0, map_side(&c, 0));
		ASSERT_EQ(0, map_side(&c, 1));
		for (i = 0; i < 20; i++)
			expect_alive(_metadata, &c, i);
		unmap_and_close(&c, 0);
		EXPECT_EQ(-EPIPE, do_wait(c.fd[1], 20, 1, 0));
		unmap_and_close(&c, 1);
	}
}

/* As a service's client: what is queued waits for who opens side B later. */
TEST(request_waits_for_who_opens_the_other_side)
{
	struct evering_create args = create_args(EVERING_KIND_CHANNEL, BUFFER);
	struct channel c = { .fd[0] = device_call(EVERING_IOC_CREATE, &args) };
	pid_t pid;

	ASSERT_LE(0, c.fd[0]);
	c.layout = args.layout;
	ASSERT_EQ(0, map_side(&c, 0));
	strcpy(heap_of(&c, 0, 0), "what is your name");
	commit(&c, EVERING_RING_SQ, 0, EVERING_COMMITTED);
	pid = fork_mortal();
	if (!pid) {
		/* An endpoint of the parent's is not the child's. */
		MUST(do_wait(c.fd[0], 0, 1, 0) == -EPERM);
		c.fd[1] = open_name(BUFFER, EVERING_SIDE_B);
		MUST(c.fd[1] >= 0);
		MUST(!map_side(&c, 1));
		MUST(do_wait(c.fd[1], 0, 1, 0) == EVERING_READY_ENTRIES);
		MUST(!strcmp(heap_of(&c, 0, 1), "what is your name"));
		strcpy(heap_of(&c, 1, 1), BUFFER);
		commit(&c, EVERING_RING_CQ, 0, EVERING_COMMITTED);
		do_wake(c.fd[1]);
		_exit(0);
	}
	EXPECT_EQ(EVERING_READY_ENTRIES, do_wait(c.fd[0], 0, 1, LONG_MS));
	EXPECT_STREQ(BUFFER, heap_of(&c, 1, 0));
	EXPECT_EQ(0, reap(pid));
	EXPECT_EQ(-EPIPE, do_wait(c.fd[0], 1, 1, 0));
}

TEST(buffer_has_many_writers_and_many_readers)
{
	struct channel c[4];
	char *heap;
	int i, k;

	memset(c, 0, sizeof(c));
	ASSERT_EQ(0, uring_open(&c[0], EVERING_KIND_BUFFER));
	for (i = 1; i < 4; i++) {
		c[i].layout = c[0].layout;
		/* Some by DUP, some by token */
		c[i].fd[0] = i & 1 ? do_dup(c[0].fd[0]) : open_token(c[0].token, 0);
		c[i].fd[1] = i & 1 ? open_token(c[0].token, 1) : do_dup(c[0].fd[1]);
		ASSERT_LE(0, c[i].fd[0]);
		ASSERT_LE(0, c[i].fd[1]);
		ASSERT_EQ(0, map_as_allowed(&c[i], EVERING_KIND_BUFFER, 0));
		ASSERT_EQ(0, map_as_allowed(&c[i], EVERING_KIND_BUFFER, 1));
	}
	for (i = 0; i < 4; i++) {
		heap = heap_of(&c[i], 0, 0);
		heap[i] = '0' + i;
		heap[8191] = 'a' + i;
		for (k = 0; k < 4; k++) {
			EXPECT_EQ('0' + i, heap_of(&c[k], 0, 1)[i]);
			EXPECT_EQ('a' + i, heap_of(&c[k], 0, 1)[8191]);
		}
	}
	/* Pending after the last of them, and not before. */
	for (i = 3; i >= 0; i--) {
		EXPECT_EQ(EVERING_STATE_OPEN, state_of(&c[0], 1, 0));
		unmap_and_close(&c[i], 1);
	}
	EXPECT_EQ(EVERING_STATE_PENDING, state_of(&c[0], 1, 0));
	EXPECT_EQ(EVERING_STATE_OPEN, state_of(&c[0], 0, 0));
	for (i = 0; i < 2; i++) {
		c[0].fd[1] = open_token(c[0].token, 1);
		ASSERT_LE(0, c[0].fd[1]);
		EXPECT_EQ(EVERING_STATE_OPEN, state_of(&c[0], 1, 0));
		ASSERT_EQ(0, map_as_allowed(&c[0], EVERING_KIND_BUFFER, 1));
		EXPECT_EQ('d', heap_of(&c[0], 0, 1)[8191]);
		unmap_and_close(&c[0], 1);
		EXPECT_EQ(EVERING_STATE_PENDING, state_of(&c[0], 1, 0));
	}
}

/* Nor does it end with its creator: it is memory, not a connection. */
TEST(buffer_survives_its_creator_while_a_reader_lives)
{
	struct counters before = counters_now();
	struct channel c = { 0 };
	struct evering_info info;
	int sock = -1;
	pid_t pid = fork_talking(&sock);

	if (!pid) {
		MUST(!uring_open(&c, EVERING_KIND_BUFFER));
		MUST(!munmap(c.map[1][1], c.layout.section_size[1]) && !close(c.fd[1]));
		strcpy(heap_of(&c, 0, 0), "heritage");
		MUST(send(sock, &c.token, sizeof(c.token), 0) == sizeof(c.token));
		MUST(hear(sock) == 1);
		_exit(0);
	}
	ASSERT_EQ(sizeof(c.token), recv(sock, &c.token, sizeof(c.token), 0));
	c.fd[1] = open_token(c.token, EVERING_SIDE_B);
	ASSERT_LE(0, c.fd[1]);
	ASSERT_EQ(0, do_info(c.fd[1], &info));
	c.layout = info.layout;
	tell(sock, 1);
	ASSERT_EQ(0, reap(pid));
	ASSERT_EQ(0, map_as_allowed(&c, EVERING_KIND_BUFFER, 1));
	EXPECT_STREQ("heritage", heap_of(&c, 0, 1));
	EXPECT_EQ(EVERING_STATE_PENDING, state_of(&c, 0, 1));
	EXPECT_EQ(EVERING_STATE_PENDING, peer_state(c.fd[1]));
	/* And can be written again. */
	c.fd[0] = open_token(c.token, EVERING_SIDE_A);
	ASSERT_LE(0, c.fd[0]);
	ASSERT_EQ(0, map_side(&c, 0));
	EXPECT_EQ(EVERING_STATE_OPEN, state_of(&c, 0, 1));
	heap_of(&c, 0, 0)[0] = 'H';
	EXPECT_STREQ("Heritage", heap_of(&c, 0, 1));
	unmap_and_close(&c, 0);
	unmap_and_close(&c, 1);
	EXPECT_EQ(-ESTALE, open_token(c.token, EVERING_SIDE_B));
	EXPECT_TRUE(counters_return(&before));
}

/* What makes a descriptor enough: the other process needs no name and no right. */
TEST(descriptors_passed_over_a_socket_outlive_the_creator)
{
	struct counters before = counters_now();
	struct evering_info info;
	struct channel c = { 0 };
	int side, sock = -1;
	pid_t pid = fork_talking(&sock);

	if (!pid) {
		MUST(!uring_open(&c, EVERING_KIND_BUFFER));
		strcpy(heap_of(&c, 0, 0), "heritage");
		for (side = 0; side < 2; side++) {
			int dup = do_dup(c.fd[side]);

			MUST(dup >= 0 && !send_fd(sock, dup));
		}
		/* Those that are mapped here are dead with this process. */
		MUST(!send_fd(sock, c.fd[0]));
		_exit(0);
	}
	ASSERT_EQ(0, reap(pid));
	for (side = 0; side < 2; side++) {
		c.fd[side] = recv_fd(sock);
		ASSERT_LE(0, c.fd[side]);
		ASSERT_EQ(0, do_info(c.fd[side], &info));
		EXPECT_EQ(EVERING_KIND_BUFFER, info.kind);
		EXPECT_EQ(side, info.side);
		c.layout = info.layout;
		ASSERT_EQ(0, map_as_allowed(&c, info.kind, side));
		EXPECT_STREQ("heritage", heap_of(&c, 0, side));
	}
	heap_of(&c, 0, 0)[0] = 'H';
	EXPECT_STREQ("Heritage", heap_of(&c, 0, 1));
	c.service = recv_fd(sock);
	ASSERT_LE(0, c.service);
	EXPECT_EQ(-EBADFD, try_section(c.service, &c.layout, HEADER, PROT_READ, MAP_SHARED));
	EXPECT_EQ(-EBADFD, do_dup(c.service));
	close(c.service);
	unmap_and_close(&c, 0);
	unmap_and_close(&c, 1);
	EXPECT_TRUE(counters_return(&before));
}

/* The program that comes after has no use for them, and would keep them alive. */
TEST(exec_ends_all_endpoints)
{
	struct counters before = counters_now();
	struct channel c;
	int sock = -1;
	pid_t pid = fork_talking(&sock);

	if (!pid) {
		MUST(!uring_open(&c, EVERING_KIND_BUFFER));
		MUST(do_dup(c.fd[0]) >= 0 && do_dup(c.fd[1]) >= 0);
		MUST(counter("endpoints") == before.endpoints + 4);
		tell(sock, 1);
		execl("/bin/busybox", "sleep", "20", NULL);
		_exit(255);
	}
	ASSERT_EQ(1, hear(sock));
	EXPECT_TRUE(counters_return(&before));
	EXPECT_EQ(0, waitpid(pid, NULL, WNOHANG));
	kill(pid, SIGKILL);
	EXPECT_EQ(-SIGKILL, reap(pid));
}

TEST_HARNESS_MAIN
