// SPDX-License-Identifier: GPL-2.0
/*
 * A full registry: what calls cost in it is what they cost in an empty one, and
 * a call that finds no room says so and leaves nothing half-made.
 */
#include <sys/resource.h>

#include "registry_stress.h"

#define FEW		16U
#define MANY		EVERING_MAX_REGISTRY
#define AT_LEAST	16384U
#define SPARE		8U		/* for what is measured */

/* Four pages, and what the kernel and the holder's descriptors need. */
#define ENTRY_BYTES	(4 * PAGE + 3 * 1024ULL)

static unsigned long long memory_of(const char *what)
{
	char text[4096], *at;

	at = strstr(read_text("/proc/meminfo", text, sizeof(text)), what);
	return at ? strtoull(at + strlen(what) + 1, NULL, 10) << 10 : 0;
}

/* How many: SCALE_ENTRIES in the environment, but for a small machine. */
static unsigned int affordable(void)
{
	unsigned long long some = memory_of("MemAvailable") / 10 * 9 / ENTRY_BYTES;
	const char *wanted = getenv("SCALE_ENTRIES");
	unsigned int many = wanted ? (unsigned int)atoi(wanted) : AT_LEAST;

	return some < many ? some : many;
}

/* ---------------------------------------------------------------- holders */

static QUIET const char *name_of(unsigned int i, char *name)
{
	/* Every second one has a name. */
	if (i & 1)
		name[0] = '\0';
	else
		snprintf(name, 32, "scale.%u", i);
	return name;
}

/*
 * Apart from the process that measures, so that the size of a table of
 * descriptors is not measured as well.
 */
static pid_t hold(unsigned int nr, uint64_t *tokens, int *ready)
{
	struct rlimit limit = { nr + 64, nr + 64 };
	char name[32];
	unsigned int i;
	int pair[2], control;
	pid_t pid;

	if (pipe(pair))
		return -1;
	pid = spawn();
	if (pid) {
		close(pair[1]);
		*ready = pair[0];
		return pid;
	}
	MUST(!setrlimit(RLIMIT_NOFILE, &limit));
	control = open(DEVICE, O_RDWR | O_CLOEXEC);
	MUST(control >= 0);
	for (i = 0; i < nr; i++) {
		int fd = do_create(control, EVERING_KIND_BUFFER, name_of(i, name), &tokens[i]);

		if (fd < 0)
			fprintf(stderr, "# entry %u: %d\n", i, fd);
		MUST(fd >= 0);
	}
	MUST(write(pair[1], "", 1) == 1);
	for (;;)
		pause();
}

/* --------------------------------------------------------------- measures */

enum { CREATE, CREATE_NAMED, OPEN_TOKEN, OPEN_NAME, CLOSE, CONNECT_ACCEPT, NR_COSTS };

static const char * const what[NR_COSTS] = {
	"CREATE", "CREATE with name", "OPEN by token", "OPEN by name", "close",
	"CONNECT and ACCEPT",
};

#define BATCHES		5
#define CALLS		301

struct costs {
	uint64_t ns[NR_COSTS];
};

static uint64_t samples[NR_COSTS][CALLS];

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static int measure_once(int control, int service, unsigned int nr, const uint64_t *tokens,
			unsigned int i, uint32_t *seed)
{
	struct evering_connect connect = connect_args("scale.service");
	struct evering_accept accepted;
	struct evering_open args;
	uint64_t token, t[8];
	unsigned int some;
	char name[32];
	int fd[5];

	connect.geometry = least(EVERING_KIND_CHANNEL);
	t[0] = now_ns();
	fd[0] = do_create(control, EVERING_KIND_BUFFER, "", &token);
	t[1] = now_ns();
	if (fd[0] < 0)
		return fd[0];
	close(fd[0]);
	t[2] = now_ns();
	fd[1] = do_create(control, EVERING_KIND_BUFFER, "scale.measured", &token);
	t[3] = now_ns();
	if (fd[1] < 0)
		return fd[1];
	close(fd[1]);
	samples[CREATE][i] = t[1] - t[0];
	samples[CLOSE][i] = t[2] - t[1];
	samples[CREATE_NAMED][i] = t[3] - t[2];

	some = rnd(seed) % nr & ~1U;
	name_of(some, name);
	t[0] = now_ns();
	fd[2] = do_open(control, tokens[some], "", EVERING_SIDE_A, &args);
	t[1] = now_ns();
	if (fd[2] < 0)
		return fd[2];
	close(fd[2]);
	t[2] = now_ns();
	fd[2] = do_open(control, 0, name, EVERING_SIDE_B, &args);
	t[3] = now_ns();
	if (fd[2] < 0)
		return fd[2];
	close(fd[2]);
	if (args.token != tokens[some])
		return -EILSEQ;
	samples[OPEN_TOKEN][i] = t[1] - t[0];
	samples[OPEN_NAME][i] = t[3] - t[2];

	t[0] = now_ns();
	fd[3] = call(control, EVERING_IOC_CONNECT, &connect);
	fd[4] = do_accept(service, &accepted);
	t[1] = now_ns();
	if (fd[3] < 0)
		return fd[3];
	if (fd[4] < 0)
		return fd[4];
	close(fd[3]);
	close(fd[4]);
	samples[CONNECT_ACCEPT][i] = t[1] - t[0];
	return 0;
}

/* Medians; of several, the lowest, as a busy host makes them only higher. */
static int measure(int control, int service, unsigned int nr, const uint64_t *tokens,
		   struct costs *costs)
{
	uint32_t seed = rnd_seed(nr);
	int batch, call, cost, ret;

	memset(costs, 0xff, sizeof(*costs));
	for (batch = 0; batch < BATCHES; batch++) {
		for (call = 0; call < CALLS; call++) {
			ret = measure_once(control, service, nr, tokens, call, &seed);
			if (ret)
				return ret;
		}
		for (cost = 0; cost < NR_COSTS; cost++) {
			qsort(samples[cost], CALLS, sizeof(samples[cost][0]), compare);
			if (samples[cost][CALLS / 2] < costs->ns[cost])
				costs->ns[cost] = samples[cost][CALLS / 2];
		}
	}
	return 0;
}

/* ------------------------------------------------------------------ tests */

/* Loaded anew, with parameters of its own. */
FIXTURE(scale)
{
	pid_t holder;
	unsigned int many;
};

FIXTURE_SETUP(scale)
{
	char parameters[64];

	if (access(MODULE_FILE, R_OK))
		SKIP(return, "no module to load anew");
	self->many = affordable();
	snprintf(parameters, sizeof(parameters), "registry_entries=%u", self->many);
	ASSERT_EQ(0, module_reload(parameters));
}

/* In the parent, as the test itself has the module open. */
FIXTURE_TEARDOWN_PARENT(scale)
{
	EXPECT_EQ(0, module_reload(""));
}

static int hold_and_wait(struct _test_data_scale *self, unsigned int nr, uint64_t *tokens)
{
	int ready, ret;
	char byte;

	self->holder = hold(nr, tokens, &ready);
	if (self->holder < 0)
		return -1;
	ret = read(ready, &byte, 1) == 1 ? 0 : -1;
	close(ready);
	return ret;
}

static void end_holder(struct _test_data_scale *self)
{
	end(self->holder);
	self->holder = 0;
}

TEST_F_TIMEOUT(scale, cost_does_not_grow_with_the_registry, 150)
{
	uint64_t *tokens = shared_new(MANY * sizeof(*tokens)), token, begin;
	struct evering_connect connect = connect_args("scale.service");
	int service, cost, grown, fd[SPARE + 1], lowest;
	struct evering_accept accepted;
	unsigned int round = 0;
	struct costs few, many;
	struct counters before;
	struct registry r;
	unsigned int i;

	ASSERT_NE(NULL, tokens);
	ASSERT_LE(AT_LEAST, self->many);
	ASSERT_EQ(0, registry_map(&r));
	service = do_listen("scale.service");
	ASSERT_LE(0, service);
	before = count();
	/* What grows does so each time; a machine that slows down between the two, once. */
	for (grown = 1; grown && round < 4; round++) {
		if (round)
			end_holder(self);
		ASSERT_TRUE(settles(&before));
		ASSERT_EQ(0, hold_and_wait(self, FEW, tokens));
		EXPECT_EQ(FEW, r.header->active_count);
		ASSERT_EQ(0, measure(r.control, service, FEW, tokens, &few));
		end_holder(self);
		ASSERT_TRUE(settles(&before));

		begin = now_ns();
		ASSERT_EQ(0, hold_and_wait(self, self->many - SPARE, tokens));
		TH_LOG("%u entries made in %llu ms", self->many - SPARE,
		       (now_ns() - begin) / MS);
		EXPECT_EQ(self->many - SPARE, r.header->active_count);
		ASSERT_EQ(0, measure(r.control, service, self->many - SPARE, tokens, &many));
		for (cost = grown = 0; cost < NR_COSTS; cost++) {
			TH_LOG("%s: %llu ns with %u entries, %llu ns with %u", what[cost],
			       (unsigned long long)few.ns[cost], FEW,
			       (unsigned long long)many.ns[cost], self->many - SPARE);
			grown += 2 * few.ns[cost] < many.ns[cost];
		}
	}
	EXPECT_EQ(0, grown);

	/* To the last one. */
	for (i = 0; i < SPARE; i++) {
		fd[i] = do_create(r.control, EVERING_KIND_BUFFER, "", &token);
		EXPECT_LE(0, fd[i]);
	}
	EXPECT_EQ(self->many, r.header->active_count);
	EXPECT_EQ(self->many, r.header->used);
	before = count();
	EXPECT_EQ(self->many, before.urings);
	lowest = lowest_fd();
	EXPECT_EQ(-ENOSPC, do_create(r.control, EVERING_KIND_BUFFER, "scale.late", &token));
	EXPECT_EQ(-ENOSPC, call(r.control, EVERING_IOC_CONNECT, &connect));
	EXPECT_EQ(-EAGAIN, do_accept(service, &accepted));
	EXPECT_EQ(lowest, lowest_fd());
	EXPECT_TRUE(settles(&before));
	close(fd[0]);
	EXPECT_EQ(self->many - 1, r.header->active_count);
	fd[0] = do_create(r.control, EVERING_KIND_BUFFER, "scale.late", &token);
	EXPECT_LE(0, fd[0]);
	end_holder(self);
	EXPECT_EQ(SPARE, r.header->active_count);
}

/* ------------------------------------------------------------------- full */

#define SMALL		16
#define LATE		"full.late"

FIXTURE(full)
{
};

/* The service and one more than there can be: a charge that stays shows. */
FIXTURE_SETUP(full)
{
	if (access(MODULE_FILE, R_OK))
		SKIP(return, "no module to load anew");
	ASSERT_EQ(0, module_reload("registry_entries=16 user_entries=18"));
}

FIXTURE_TEARDOWN_PARENT(full)
{
	EXPECT_EQ(0, module_reload(""));
}

static void entries_now(struct registry *r, struct evering_registry_entry *entries)
{
	int i;

	for (i = 0; i < SMALL; i++)
		MUST(snapshot(r, i, &entries[i], NULL));
}

/* Neither in the registry, nor in counters, descriptors, names or the backlog. */
static void must_be_full(struct registry *r, int service)
{
	struct evering_registry_entry was[SMALL], is[SMALL];
	struct counters before = count();
	int lowest = lowest_fd(), i;
	struct evering_accept accepted;
	struct evering_open args;
	uint64_t token;

	entries_now(r, was);
	for (i = 0; i < 20; i++) {
		struct evering_connect connect = dirty_connect("full.service");

		MUST(do_create(r->control, EVERING_KIND_BUFFER, LATE, &token) == -ENOSPC);
		MUST(token == NOT_SENT);
		MUST(do_create(r->control, i % 3, "", &token) == -ENOSPC);
		MUST(call(r->control, EVERING_IOC_CONNECT, &connect) == -ENOSPC);
		MUST(connect.token == NOT_SENT);
	}
	MUST(lowest_fd() == lowest);
	MUST(settles(&before));
	MUST(do_accept(service, &accepted) == -EAGAIN);
	MUST(do_open(r->control, 0, LATE, EVERING_SIDE_A, &args) == -ENOENT);
	entries_now(r, is);
	MUST(!memcmp(was, is, sizeof(was)));
	MUST(r->header->active_count == SMALL);
	MUST(r->header->used == SMALL);
}

static void fill_and_empty(void)
{
	struct evering_connect connect = dirty_connect("full.service");
	struct evering_accept accepted;
	uint64_t token[SMALL], new;
	int service, fd[SMALL], i;
	struct registry r;

	/* Somebody whom a limit applies to. */
	MUST(!setresuid(1000, 1000, 1000));
	MUST(!registry_map(&r));
	MUST(r.header->capacity == SMALL);
	service = do_listen("full.service");
	MUST(service >= 0);
	for (i = 0; i < SMALL - 1; i++) {
		fd[i] = do_create(r.control, i % 4, "", &token[i]);
		MUST(fd[i] >= 0);
		MUST(r.header->active_count == i + 1);
	}
	fd[i] = call(r.control, EVERING_IOC_CONNECT, &connect);
	MUST(fd[i] >= 0);
	token[i] = connect.token;
	MUST(!close(do_accept(service, &accepted)));
	must_be_full(&r, service);

	/* Whoever goes makes room for one, who gets the same entry. */
	for (i = 0; i < SMALL; i++) {
		close(fd[i]);
		MUST(r.header->active_count == SMALL - 1);
		fd[i] = do_create(r.control, EVERING_KIND_BUFFER, LATE, &new);
		MUST(fd[i] >= 0);
		MUST(EVERING_TOKEN_INDEX(new) == i);
		MUST(EVERING_TOKEN_INDEX(token[i]) == i);
		MUST(new > token[i]);
		/* Room for the next, who may have the name as well. */
		close(fd[i]);
		fd[i] = do_create(r.control, i % 4, "", &new);
		MUST(fd[i] >= 0);
		must_be_full(&r, service);
	}

	/* So does one who only waits, once he is dead and accepted. */
	close(fd[0]);
	fd[0] = call(r.control, EVERING_IOC_CONNECT, &connect);
	MUST(fd[0] >= 0);
	close(fd[0]);
	MUST(do_create(r.control, EVERING_KIND_BUFFER, LATE, &new) == -ENOSPC);
	fd[0] = do_accept(service, &accepted);
	MUST(fd[0] >= 0);
	MUST(do_create(r.control, EVERING_KIND_BUFFER, LATE, &new) == -ENOSPC);
	close(fd[0]);
	MUST(do_create(r.control, EVERING_KIND_BUFFER, LATE, &new) >= 0);
	_exit(0);
}

TEST_F(full, registry_says_so_and_keeps_nothing)
{
	struct counters before = count();
	pid_t pid = spawn();

	if (!pid)
		fill_and_empty();
	ASSERT_LT(0, pid);
	EXPECT_EQ(0, reap(pid));
	EXPECT_TRUE(settles(&before));
}

TEST_HARNESS_MAIN
