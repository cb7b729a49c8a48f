// SPDX-License-Identifier: GPL-2.0
/*
 * Thousands of processes make, open, map, copy, unlink and leave urings in random
 * order, and are killed at random moments, while one reader watches the registry:
 * no entry is ever torn, no token comes twice, and at the end nothing is left.
 *
 * CHURN_PROCESSES in the environment says how many.
 */
#include <sys/resource.h>

#include "registry_reader.h"

#define PROCESSES	1000
#define AT_A_TIME	8
#define RECENT		16		/* urings that are worth looking for */
#define HELD		6		/* endpoints of a process */

/* -------------------------------------------------------------- processes */

struct held {
	int fd;
	uint32_t n;
	int side;
	struct evering_layout layout;
	void *map[3];
};

static int control, service;
static uint32_t seed;

static struct held *keep(struct held *held, int fd, uint32_t n, int side,
			 const struct evering_layout *layout)
{
	struct held *h = &held[rnd(&seed) % HELD];
	int i;

	for (i = 0; h->fd && i < 3; i++)
		if (h->map[i] && rnd(&seed) % 2)
			munmap(h->map[i], h->layout.section_size[i]);
	if (h->fd)
		close(h->fd);
	*h = (struct held){ .fd = fd, .n = n, .side = side, .layout = *layout };
	return h;
}

static void make(struct held *held)
{
	uint32_t n = COUNT(board->next);
	struct recipe r = recipe_of(n);
	struct evering_connect connect = dirty_connect(SERVICE);
	struct evering_create create = create_args(r.kind, r.name);
	struct evering_layout *layout = &create.layout;
	int fd;

	MUST(n < MAX_URINGS);
	STORE(board->maker[n], getpid());
	create.mode = r.mode;
	create.side = r.side;
	create.geometry = connect.geometry = r.geometry;
	/* Just this thread, which is the only one. */
	MUST(!syscall(SYS_setresgid, -1, n + 1, -1));
	MUST(!syscall(SYS_setresuid, -1, r.uid, -1));
	if (r.flags & EVERING_ENTRY_CONNECTED) {
		fd = call(control, EVERING_IOC_CONNECT, &connect);
		create.token = connect.token;
		layout = &connect.layout;
	} else {
		fd = call(control, EVERING_IOC_CREATE, &create);
	}
	MUST(!syscall(SYS_setresuid, -1, 0, -1));
	MUST(!syscall(SYS_setresgid, -1, 0, -1));
	if (r.flags & EVERING_ENTRY_CONNECTED && fd == -EAGAIN)
		return;
	MUST(fd >= 0);
	MUST(!memcmp(&layout->geometry, &r.geometry, sizeof(r.geometry)));
	COUNT(*(r.flags & EVERING_ENTRY_CONNECTED ? &board->connected : &board->created));
	STORE(board->token[n], create.token);
	keep(held, fd, n, r.side, layout);
}

static void take(struct held *held)
{
	uint32_t n = LOAD(board->next) - 1 - rnd(&seed) % RECENT;
	int side = rnd(&seed) % 2, fd;
	struct evering_open args;
	struct recipe r;
	uint64_t token;

	if (n >= MAX_URINGS)
		return;
	r = recipe_of(n);
	token = LOAD(board->token[n]);
	if (rnd(&seed) % 2 && r.flags & EVERING_ENTRY_NAMED) {
		fd = do_open(control, 0, r.name, side, &args);
		MUST(fd >= 0 || fd == -ENOENT || fd == -ESTALE || fd == -EBUSY || fd == -EPIPE);
		if (fd >= 0)
			COUNT(board->named);
	} else if (token) {
		fd = do_open(control, token, "", side, &args);
		MUST(fd >= 0 || fd == -ESTALE || fd == -EBUSY || fd == -EPIPE || fd == -EACCES);
		MUST(fd < 0 || args.token == token);
	} else {
		return;
	}
	MUST((fd != -EBUSY && fd != -EPIPE) || !many(&r, side));
	MUST(fd != -EACCES || r.flags & EVERING_ENTRY_CONNECTED);
	if (fd < 0) {
		COUNT(board->gone);
		return;
	}
	COUNT(board->opened);
	MUST(!(r.flags & EVERING_ENTRY_CONNECTED));
	MUST(args.kind == r.kind);
	MUST(!memcmp(&args.layout.geometry, &r.geometry, sizeof(r.geometry)));
	keep(held, fd, n, side, &args.layout);
}

static uint64_t word_of(uint32_t n, uint32_t i)
{
	return (uint64_t)mix(n, i) << 32 | (n + 1);
}

/* In its memory is what its own people have written, or nothing. */
static void use(struct held *h)
{
	struct recipe r = recipe_of(h->n);
	int i, section;

	if (!h->map[0]) {
		for (section = 0; section < 3; section++) {
			bool own = section == OWN(h->side) && !read_only(&r, h->side);

			h->map[section] = map_section(h->fd, &h->layout, section,
						      own ? RW : PROT_READ);
			MUST(h->map[section] != MAP_FAILED);
		}
		COUNT(board->mapped);
	}
	MUST(((struct evering_header *)h->map[0])->magic == EVERING_HEADER_MAGIC);
	for (i = 0; i < 16; i++) {
		int side = r.geometry.heap_size[1] ? i % 2 : 0;
		uint32_t word = rnd(&seed) % (r.geometry.heap_size[side] / 8);
		uint64_t *p = (uint64_t *)((char *)h->map[OWN(side)] +
					   h->layout.heap_offset[side]) + word;
		uint64_t is = __atomic_load_n(p, __ATOMIC_RELAXED);

		MUST(!is || is == word_of(h->n, word));
		if (side == h->side && !read_only(&r, side))
			__atomic_store_n(p, word_of(h->n, word), __ATOMIC_RELAXED);
	}
}

static void dup_it(struct held *held, struct held *h)
{
	struct recipe r = recipe_of(h->n);
	struct held old = *h;
	int fd = do_dup(h->fd);

	if (!many(&r, h->side)) {
		MUST(fd == -EOPNOTSUPP);
		return;
	}
	MUST(fd >= 0);
	COUNT(board->dups);
	keep(held, fd, old.n, old.side, &old.layout);
}

static void unlink_it(struct held *h)
{
	struct recipe r = recipe_of(h->n);
	uint64_t token = LOAD(board->token[h->n]);
	int ret;

	if (r.flags & EVERING_ENTRY_NAMED && rnd(&seed) % 2) {
		ret = do_unlink(control, 0, r.name);
		MUST(!ret || ret == -ENOENT || ret == -ESTALE);
	} else if (token) {
		ret = do_unlink(control, token, "");
		MUST(!ret || ret == -ESTALE);
	} else {
		return;
	}
	if (!ret)
		COUNT(board->unlinked);
}

static void live(void)
{
	struct held held[HELD] = { 0 }, *h;
	int life, fd;

	setpriority(PRIO_PROCESS, 0, 10);
	seed = rnd_seed(LOAD(board->next));
	for (life = 4 + rnd(&seed) % 16; life; life--) {
		struct evering_accept accepted;

		h = &held[rnd(&seed) % HELD];
		switch (rnd(&seed) % 8) {
		case 0:
		case 1:
			make(held);
			break;
		case 2:
		case 3:
			take(held);
			break;
		case 4:
			if (h->fd)
				dup_it(held, h);
			break;
		case 5:
			if (h->fd && !(rnd(&seed) % 4))
				unlink_it(h);
			break;
		case 6:
			fd = do_accept(service, &accepted);
			MUST(fd >= 0 || fd == -EAGAIN);
			if (fd < 0)
				break;
			COUNT(board->accepted);
			MUST(accepted.gid < LOAD(board->next) + 1);
			keep(held, fd, accepted.gid - 1, EVERING_SIDE_B, &accepted.layout);
			break;
		default:
			if (h->fd)
				use(h);
			/* Let others see it. */
			usleep(rnd(&seed) % 1024);
		}
	}
	_exit(0);
}

/* ------------------------------------------------------------------- test */

/* Starts and kills them; false as soon as one has found something wrong. */
static bool churn(unsigned int nr, pid_t reader, unsigned int *killed)
{
	unsigned int started = 0, alive = 0, i;
	uint32_t seed = rnd_seed(0);
	pid_t pids[AT_A_TIME] = { 0 }, pid;
	bool good = true;
	int status;

	/* He who kills must come to run. */
	setpriority(PRIO_PROCESS, 0, -10);
	while (alive || (good && started < nr)) {
		for (i = 0; good && i < AT_A_TIME && started < nr; i++) {
			if (pids[i])
				continue;
			pids[i] = fork();
			if (!pids[i])
				live();
			if (pids[i] < 0)
				return false;
			started++;
			alive++;
		}
		usleep(rnd(&seed) % 512);
		i = rnd(&seed) % AT_A_TIME;
		if (pids[i] && rnd(&seed) % 2)
			kill(pids[i], SIGKILL);
		while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
			/* The reader is not to end before it is told to. */
			if (pid == reader)
				return false;
			for (i = 0; pids[i] != pid; i++)
				;
			pids[i] = 0;
			alive--;
			if (status == SIGKILL)
				(*killed)++;
			else if (status)
				good = false;
		}
	}
	return good;
}

FIXTURE(churn)
{
	struct registry r;
	unsigned int processes;
};

FIXTURE_SETUP(churn)
{
	const char *processes = getenv("CHURN_PROCESSES");

	self->processes = processes ? atoi(processes) : PROCESSES;
	board = shared_new(sizeof(*board));
	ASSERT_NE(NULL, board);
	ASSERT_EQ(0, registry_map(&self->r));
	control = self->r.control;
}

FIXTURE_TEARDOWN(churn)
{
}

TEST_F_TIMEOUT(churn, nothing_torn_nothing_twice_nothing_left, 400)
{
	uint32_t active = self->r.header->active_count;
	unsigned long long refs = read_number(REFCNT);
	uint64_t first = self->r.header->next_token;
	struct counters before = count();
	unsigned int killed = 0;
	uint64_t begin = now_ns();
	pid_t reader;
	int i;

	service = listen_with(SERVICE, 8, 0222);
	ASSERT_LE(0, service);
	reader = spawn();
	if (!reader)
		watch(&self->r);
	ASSERT_LT(0, reader);
	EXPECT_TRUE(churn(self->processes, reader, &killed));
	/* Whoever waits there has died. */
	close(service);
	STORE(board->stop, true);
	if (!board->complaint[0])
		EXPECT_EQ(0, reap(reader));
	EXPECT_STREQ("", board->complaint);
	TH_LOG("%u processes, %u killed, in %llu ms", self->processes, killed,
	       (now_ns() - begin) / MS);
	TH_LOG("%u created, %u connected, %u accepted, %u opened, %u by name, %u not any more",
	       board->created, board->connected, board->accepted, board->opened, board->named,
	       board->gone);
	TH_LOG("%u mapped, %u copied, %u unlinked", board->mapped, board->dups,
	       board->unlinked);
	TH_LOG("%llu looks, %llu at something, %llu disturbed, %llu tokens seen",
	       (unsigned long long)board->looks, (unsigned long long)board->busy,
	       (unsigned long long)board->disturbed, (unsigned long long)board->tokens);
	/* All of it did happen, in the sight of the reader. */
	EXPECT_LT(self->processes / 10, killed);
	EXPECT_LT(self->processes / 10, board->created);
	EXPECT_LT(self->processes / 10, board->opened);
	EXPECT_LT(self->processes / 50, board->named);
	EXPECT_LT(self->processes / 50, board->accepted);
	EXPECT_LT(self->processes / 50, board->gone);
	EXPECT_LT(self->processes / 50, board->mapped);
	EXPECT_LT(self->processes / 50, board->dups);
	EXPECT_LT(self->processes / 100, board->unlinked);
	EXPECT_LT(self->processes / 10, board->tokens);
	EXPECT_LT(0, board->disturbed);
	EXPECT_LE(first + ((uint64_t)(board->created + board->connected) <<
			   EVERING_TOKEN_INDEX_BITS), self->r.header->next_token);

	EXPECT_TRUE(settles(&before));
	EXPECT_EQ(active, self->r.header->active_count);
	EXPECT_EQ(refs, read_number(REFCNT));
	for (i = 0; i < self->r.header->used; i++)
		EXPECT_EQ(EVERING_ENTRY_FREE, entry_of(&self->r, i)->state);
}

TEST_HARNESS_MAIN
