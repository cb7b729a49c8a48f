// SPDX-License-Identifier: GPL-2.0
/*
 * A fuzzer for /dev/evering: programs of system calls, made at random, by several
 * threads and processes, while they write at random over what they have mapped.
 *
 * Where the kernel has KCOV and the module is built for it, a program that runs
 * something new is kept, and others are made from it.  What is wrong is told by the
 * kernel (a warning, and the machine stops: fuzz/run.sh goes on from the log), or
 * seen here: something is left behind, a process cannot be killed, an errno that the
 * module does not give.  Such a program is made as short as it can be.
 */
#include <ctype.h>
#include <dirent.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "coverage.h"
#include "steps.h"

#define MOST_STEPS	24U
#define NR_THREADS	3U
#define MOST_PROGRAMS	4096U
#define COUNTERS	"/sys/class/misc/evering/"
/* A program has this long, in ms, and then what is left of it is killed. */
#define PROGRAM_MS	150
#define PATIENCE_MS	20000	/* for what must happen on a slow machine */
#define REPEATS		20U	/* a race may not show each time */

struct program {
	unsigned int nr;
	struct step steps[MOST_STEPS];
};

enum wrong {
	NOTHING,
	LEAK,		/* a counter is not zero when all processes are gone */
	STUCK,		/* a process cannot be killed */
	ERRNO,
};

static const char * const wrong_name[] = {
	"nothing", "something is left behind", "a process cannot be killed",
	"an errno that is not the module's",
};

static struct coverage *coverage;
static struct program corpus[MOST_PROGRAMS];
static unsigned int nr_corpus;
static uint64_t seed;
static uint64_t nr_run;

static uint64_t draw(uint64_t below)
{
	/* xorshift64: the same programs for the same seed, but for what is kept */
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (seed >> 11) % below;
}

static void die(const char *what)
{
	printf("Bail out! %s: %s\n", what, strerror(errno));
	exit(1);
}

/* -------------------------------------------------------------- programs as text */

/* A step is its operation, thread and bytes in hexadecimal; between two, a dot. */
static void print_program(const char *before, const struct program *p)
{
	unsigned int i, j;

	printf("# %s ", before);
	for (i = 0; i < p->nr; i++) {
		printf("%s%02x%02x", i ? "." : "", p->steps[i].op, p->steps[i].thread);
		for (j = 0; j < NR_BYTES; j++)
			printf("%02x", p->steps[i].byte[j]);
	}
	printf("\n");
	fflush(stdout);
}

/* For people. */
static void print_steps(const struct program *p)
{
	unsigned int i, j;

	for (i = 0; i < p->nr; i++) {
		printf("#   thread %u: %s", p->steps[i].thread,
		       operations[p->steps[i].op].name);
		for (j = 0; j < NR_BYTES; j++)
			printf(" %02x", p->steps[i].byte[j]);
		printf("\n");
	}
}

static bool parse_byte(const char **text, uint8_t *byte)
{
	char digits[3] = { (*text)[0], (*text)[0] ? (*text)[1] : 0, 0 };

	if (!isxdigit(digits[0]) || !isxdigit(digits[1]))
		return false;
	*byte = (uint8_t)strtoul(digits, NULL, 16);
	*text += 2;
	return true;
}

static bool parse_program(const char *text, struct program *p)
{
	unsigned int i;

	for (p->nr = 0; p->nr < MOST_STEPS; text++) {
		struct step *s = &p->steps[p->nr++];

		if (!parse_byte(&text, &s->op) || !parse_byte(&text, &s->thread) ||
		    s->op >= NR_OPERATIONS || s->thread >= NR_THREADS)
			return false;
		for (i = 0; i < NR_BYTES; i++)
			if (!parse_byte(&text, &s->byte[i]))
				return false;
		if (*text != '.')
			return !*text || isspace(*text);
	}
	return false;
}

/* ------------------------------------------------------------ running a program */

struct worker {
	const struct program *program;
	unsigned int thread;
};

static void *work(void *arg)
{
	const struct worker *w = arg;
	unsigned int i;

	coverage_start();
	for (i = 0; i < w->program->nr; i++)
		if (w->program->steps[i].thread == w->thread)
			do_step(&w->program->steps[i], coverage);
	return NULL;
}

/* In a process of its own, which may leave others. */
static void run_here(const struct program *p)
{
	struct worker workers[NR_THREADS];
	pthread_t threads[NR_THREADS];
	struct sigaction action = { .sa_handler = on_no_access };
	pid_t self = getpid();
	unsigned int i;

	setpgid(0, 0);
	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
	for (i = 0; i < NR_FDS; i++)
		places[i].fd = -1;
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_fd < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, post))
		_exit(2);
	/* All but few programs would begin so. */
	keep_fd(open(DEVICE, O_RDWR | O_CLOEXEC), CONTROL, 0, NULL, 0);
	for (i = 0; i < NR_THREADS; i++) {
		workers[i] = (struct worker){ p, i };
		if (i && pthread_create(&threads[i], NULL, work, &workers[i]))
			_exit(2);
	}
	work(&workers[0]);
	/* A child that was forked has no other threads. */
	if (getpid() == self)
		for (i = 1; i < NR_THREADS; i++)
			pthread_join(threads[i], NULL);
	_exit(0);
}

static uint64_t counter(const char *name)
{
	char path[128], text[32] = "";
	int fd;

	snprintf(path, sizeof(path), COUNTERS "%s", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, text, sizeof(text) - 1) < 0)
		die(path);
	close(fd);
	return strtoull(text, NULL, 10);
}

static bool at_rest(void)
{
	return !counter("urings") && !counter("endpoints") && !counter("services") &&
	       !counter("bytes");
}

/* Does @done() come true in time? */
static bool comes(bool (*done)(void), unsigned int ms)
{
	uint64_t end = fuzz_clock() + ms * 1000000ULL;

	while (!done()) {
		if (fuzz_clock() > end)
			return false;
		usleep(500);
	}
	return true;
}

/* Takes what has ended; are there no more? */
static bool all_reaped(void)
{
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
	return waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD;
}

static enum wrong run(const struct program *p)
{
	pid_t pid;

	*common = (struct common){ 0 };
	nr_run++;
	pid = fork();
	if (pid < 0)
		die("fork");
	if (!pid)
		run_here(p);
	setpgid(pid, pid);
	if (!comes(all_reaped, PROGRAM_MS)) {
		kill(-pid, SIGKILL);
		if (!comes(all_reaped, PATIENCE_MS))
			return STUCK;
	}
	if (!comes(at_rest, PATIENCE_MS))
		return LEAK;
	return common->bad_errno ? ERRNO : NOTHING;
}

/* ------------------------------------------------------------- making programs */

static struct step new_step(void)
{
	static unsigned int total;
	unsigned int i, at;
	struct step s;

	if (!total)
		for (i = 0; i < NR_OPERATIONS; i++)
			total += operations[i].weight;
	at = (unsigned int)draw(total);
	for (i = 0; at >= operations[i].weight; i++)
		at -= operations[i].weight;
	s.op = (uint8_t)i;
	s.thread = (uint8_t)(draw(2) ? 0 : draw(NR_THREADS));
	for (i = 0; i < NR_BYTES; i++)
		s.byte[i] = (uint8_t)(draw(4) ? draw(128) : draw(256));
	return s;
}

static void insert(struct program *p, unsigned int at, struct step s)
{
	if (p->nr == MOST_STEPS)
		return;
	memmove(&p->steps[at + 1], &p->steps[at], (p->nr - at) * sizeof(s));
	p->steps[at] = s;
	p->nr++;
}

static void drop(struct program *p, unsigned int at)
{
	p->nr--;
	memmove(&p->steps[at], &p->steps[at + 1], (p->nr - at) * sizeof(p->steps[0]));
}

static void mutate(struct program *p)
{
	const struct program *other;
	unsigned int at, i;

	switch (draw(8)) {
	case 0:
	case 1:
	case 2:
		insert(p, (unsigned int)draw(p->nr + 1), new_step());
		break;
	case 3:
		if (p->nr > 1)
			drop(p, (unsigned int)draw(p->nr));
		break;
	case 4:
		at = (unsigned int)draw(p->nr);
		insert(p, at, p->steps[at]);
		break;
	case 5:
		p->steps[draw(p->nr)].thread = (uint8_t)draw(NR_THREADS);
		break;
	case 6:		/* the end of another one */
		other = &corpus[draw(nr_corpus)];
		at = (unsigned int)draw(p->nr + 1);
		for (i = (unsigned int)draw(other->nr); i < other->nr && at < MOST_STEPS; i++)
			p->steps[at++] = other->steps[i];
		p->nr = at;
		break;
	default:
		p->steps[draw(p->nr)].byte[draw(NR_BYTES)] = (uint8_t)draw(256);
	}
	if (!p->nr)
		insert(p, 0, new_step());
}

static void make(struct program *p)
{
	unsigned int i, n;

	if (!nr_corpus || !draw(16)) {
		p->nr = 0;
		for (i = 0, n = 4 + (unsigned int)draw(MOST_STEPS - 4); i < n; i++)
			insert(p, p->nr, new_step());
		return;
	}
	/* What was found last is most worth a try. */
	n = draw(2) ? nr_corpus - 1 - (unsigned int)draw(nr_corpus < 32 ? nr_corpus : 32) :
		      (unsigned int)draw(nr_corpus);
	*p = corpus[n];
	for (i = 0, n = 1 + (unsigned int)draw(4); i < n; i++)
		mutate(p);
}

/* ------------------------------------------------------------------ what is wrong */

static bool again(const struct program *p, enum wrong what)
{
	unsigned int i;

	for (i = 0; i < REPEATS; i++)
		if (run(p) == what)
			return true;
	return false;
}

/* Without all the steps that it is wrong without. */
static void shorten(struct program *p, enum wrong what)
{
	unsigned int i;

	for (i = p->nr; i-- > 0 && p->nr > 1; ) {
		struct program less = *p;

		drop(&less, i);
		if (again(&less, what))
			*p = less;
	}
}

/* What is stuck, or left, would spoil every other program: there is no going on. */
static int report(const struct program *found, enum wrong what)
{
	struct program p = *found;

	print_program("found:", &p);
	printf("# %s", wrong_name[what]);
	if (what == ERRNO)
		printf(": %s: %s", operations[common->bad_op].name,
		       strerror((int)common->bad_errno));
	if (what == LEAK)
		printf(": urings %" PRIu64 " endpoints %" PRIu64 " services %" PRIu64
		       " bytes %" PRIu64, counter("urings"), counter("endpoints"),
		       counter("services"), counter("bytes"));
	printf("\n");
	if (what == ERRNO) {
		shorten(&p, what);
		print_program("short:", &p);
	}
	print_steps(&p);
	printf("not ok 1 %s\n", wrong_name[what]);
	return 1;
}

static void usage(FILE *to)
{
	fprintf(to,
		"usage: fuzz_device [-s SEED] [-t SECONDS]\n"
		"       fuzz_device -r PROGRAM...\n"
		"\n"
		"Runs programs made at random against /dev/evering, and says in TAP whether\n"
		"something was wrong.  Each is printed before it runs: where the kernel dies, the\n"
		"last one is to blame.\n"
		"\n"
		"  -s SEED     of the random numbers (default 1)\n"
		"  -t SECONDS  for so long (default 10)\n"
		"  -r          run these programs, as they are printed, %u times each\n",
		REPEATS);
}

static int replay(char **texts)
{
	enum wrong what;
	struct program p;
	unsigned int i;

	for (; *texts; texts++) {
		if (!parse_program(*texts, &p)) {
			fprintf(stderr, "fuzz_device: not a program: %s\n", *texts);
			return 2;
		}
		print_program("program", &p);
		for (i = 0; i < REPEATS; i++) {
			what = run(&p);
			if (what)
				return report(&p, what);
		}
	}
	printf("ok 1 %" PRIu64 " runs\n", nr_run);
	return 0;
}

static int fuzz(unsigned int seconds)
{
	uint64_t end = fuzz_clock() + seconds * 1000000000ULL, next = 0;
	uint32_t edges = 0;
	struct program p;
	enum wrong what;

	while (fuzz_clock() < end) {
		make(&p);
		print_program("program", &p);
		what = run(&p);
		if (what)
			return report(&p, what);
		if (coverage->nr_edges != edges && nr_corpus < MOST_PROGRAMS) {
			edges = coverage->nr_edges;
			corpus[nr_corpus++] = p;
		}
		if (fuzz_clock() > next) {
			next = fuzz_clock() + 10000000000ULL;
			printf("# show: %" PRIu64 " programs, %u kept, %u edges\n",
			       nr_run, nr_corpus, edges);
		}
	}
	printf("# %" PRIu64 " programs, %u kept, %u edges%s, %u steps too long\n", nr_run,
	       nr_corpus, edges, coverage_here() ? "" : " (no KCOV here)", coverage->lost);
	/* Nothing would have been tested. */
	printf("%s 1 nothing wrong in %" PRIu64 " programs\n",
	       nr_run > 20 && (edges || !coverage_here()) ? "ok" : "not ok", nr_run);
	return nr_run <= 20;
}

int main(int argc, char **argv)
{
	unsigned int seconds = 10;
	bool again_only = false;
	int opt;

	seed = 1;
	while ((opt = getopt(argc, argv, "s:t:rh")) != -1) {
		switch (opt) {
		case 's':
			seed = strtoull(optarg, NULL, 0);
			break;
		case 't':
			seconds = (unsigned int)strtoul(optarg, NULL, 0);
			break;
		case 'r':
			again_only = true;
			break;
		case 'h':
			usage(stdout);
			return 0;
		default:
			usage(stderr);
			return 2;
		}
	}
	if (!seed || again_only != (optind < argc)) {
		usage(stderr);
		return 2;
	}
	coverage = mmap(NULL, sizeof(*coverage), PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	common = mmap(NULL, sizeof(*common), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (coverage == MAP_FAILED || common == MAP_FAILED)
		die("mmap");
	/* Whoever is left without a parent is ours. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	printf("TAP version 13\n1..1\n# seed %" PRIu64 "\n", seed);
	return again_only ? replay(argv + optind) : fuzz(seconds);
}
