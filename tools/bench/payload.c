// SPDX-License-Identifier: GPL-2.0
/*
 * Payloads between two processes on two CPUs, over shared memory as the module lays it
 * out, without a kernel: nobody sleeps.
 *
 *	move	requests and answers with a block each, which nobody touches: what
 *		remains is the cost of passing it, which must not depend on its size
 *	copy	a copy into the heap by one, and out of it by the other, against the
 *		same two memcpy() with nothing but a flag between them
 *	publish	what a message costs its publisher, with one subscriber and with many
 *
 * Before that, every byte of payloads of 4 B to 4 MiB is checked, 200 in flight.
 */
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "publisher.c"
#include "subscriber.c"
#include "samples.h"

#define PAGE		4096UL
#define ENTRIES		256U
#define WINDOW		200U
#define HEAP		(1UL << 30)
#define RELEASES	(EVERING_MAX_RELEASES * 8UL)
#define LARGE		(4UL << 20)
#define SAMPLES		25U
#define MOVES		20000U		/* of a sample */
#define CHECKED		3000U
#define JUDGED_COPY	(32UL << 10)
#define READERS		16U
#define MESSAGE		(32UL << 10)
#define TOPIC_ENTRIES	64U
#define TOPIC_HEAP	(4UL << 20)

enum mode { IDLE, MOVE, COPY, BARE, CHECK, QUIT };

/* What the two tell each other outside of the channel. */
struct desk {
	uint32_t mode __attribute__((aligned(128)));
	uint32_t count;
	uint64_t bytes;
	uint32_t done __attribute__((aligned(128)));
	uint32_t wrong;
	/* The bare loop's flags. */
	uint64_t sent __attribute__((aligned(128)));
	uint64_t taken __attribute__((aligned(128)));
	/* Subscribers that are to read. */
	uint32_t readers __attribute__((aligned(128)));
	uint32_t ready;
};

static struct desk *desk;
static struct evering_layout layout;
static struct evr_memory memory[2];
static const struct evr_backend no_kernel;
static char *bare_buffer, *scratch;

static void die(const char *why)
{
	fprintf(stderr, "evr-bench-payload: %s\n", why);
	exit(2);
}

static double now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static void *shared(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		die("no memory");
	return p;
}

static struct evering_header *new_header(void)
{
	struct evering_header *header = shared(PAGE);
	int i;

	for (i = 0; i < 2; i++) {
		struct evering_ring_words *words = &header->ring[i];

		words->wake_at = words->poll_at = EVERING_NOBODY;
		words->space_at = words->poll_space_at = EVERING_NOBODY;
		header->side[i].state = EVERING_STATE_OPEN;
	}
	return header;
}

static void lay_out(void)
{
	struct evering_header *header = new_header();
	char *section[2];
	uint64_t size;
	int i;

	layout.section_size[EVERING_SECTION_HEADER] = PAGE;
	for (i = 0; i < 2; i++) {
		layout.geometry.entries[i] = ENTRIES;
		layout.geometry.slot_size[i] = 64;
		layout.geometry.heap_size[i] = HEAP;
		layout.slots_offset[i] = sizeof(struct evering_control);
		size = sizeof(struct evering_control) + ENTRIES * 64;
		if (i == EVERING_SIDE_A) {
			layout.release_offset = size;
			size += RELEASES;
		}
		size = (size + PAGE - 1) & ~(PAGE - 1);
		layout.heap_offset[i] = size;
		layout.section_size[EVERING_SECTION_A + i] = size + HEAP;
		section[i] = shared(size + HEAP);
	}
	for (i = 0; i < 2; i++)
		memory[i] = (struct evr_memory){ header, section[i], section[!i] };
}

static struct evering *endpoint(unsigned int side)
{
	struct evering *ep;

	if (evr_endpoint_new(side, &layout, &memory[side], &no_kernel, &ep))
		die("no endpoint");
	return ep;
}

/* From 4 B to 4 MiB, each power of two as often as another. */
static size_t checked_bytes(uint64_t n)
{
	uint64_t hash = (n + 1) * 0x9e3779b97f4a7c15UL;

	return 4 + (hash >> 20) % (4UL << (hash >> 44) % 21);
}

static void fill(uint8_t *bytes, size_t len, uint64_t n)
{
	memset(bytes, (int)(n * 7 + 1), len);
	memcpy(bytes, &n, len < 8 ? len : 8);
}

static bool filled(const uint8_t *bytes, size_t len, uint64_t n)
{
	uint8_t expected = (uint8_t)(n * 7 + 1);
	size_t i = len < 8 ? len : 8;

	if (memcmp(bytes, &n, i))
		return false;
	/* All the others are alike. */
	return i == len || (bytes[i] == expected &&
			    !memcmp(bytes + i, bytes + i + 1, len - i - 1));
}

/* A block of @len bytes, filled where that is to be checked. */
static struct evering_token block_of(struct evering *ep, size_t len, uint64_t n,
				     bool check)
{
	struct evering_token token;
	void *block;

	if (evering_alloc(ep, len, &block))
		die("the heap is full");
	if (check)
		fill(block, len, n);
	if (evering_tokenize(ep, block, len, NULL, &token))
		die("no token");
	return token;
}

/* ------------------------------------------------------------------ server */

static void serve_blocks(struct evering *ep, uint32_t count, bool check)
{
	const struct evering_sqe *sqe;
	struct evering_token token;
	struct evering_cqe *cqe;
	uint32_t n = 0;

	while (n < count) {
		if (evering_peek_sqe(ep, &sqe)) {
			cpu_relax();
			continue;
		}
		token = evering_sqe_token(sqe);
		if (check && !filled(evering_token_payload(ep, token), token.len,
				     sqe->user_data))
			desk->wrong++;
		while (!(cqe = evering_get_cqe(ep)))
			evering_complete(ep);
		cqe->user_data = sqe->user_data;
		if (evering_cqe_attach(ep, cqe, block_of(ep, token.len,
							 ~sqe->user_data, check)))
			die("the answer cannot be lent");
		evering_sqe_seen(ep, sqe);
		evering_complete(ep);
		n++;
	}
}

static void serve_copies(struct evering *ep, uint32_t count)
{
	const struct evering_sqe *sqe;
	struct evering_token token;
	struct evering_cqe *cqe;
	uint32_t n;

	for (n = 0; n < count; n++) {
		while (evering_peek_sqe(ep, &sqe))
			cpu_relax();
		token = evering_sqe_token(sqe);
		memcpy(scratch, evering_token_payload(ep, token), token.len);
		cqe = evering_get_cqe(ep);
		cqe->user_data = sqe->user_data;
		evering_sqe_seen(ep, sqe);
		evering_complete(ep);
	}
}

static void serve_bare(uint32_t count, size_t bytes)
{
	uint64_t from = load_once(&desk->taken), n;

	for (n = from + 1; n <= from + count; n++) {
		while (load_acquire(&desk->sent) != n)
			cpu_relax();
		memcpy(scratch, bare_buffer, bytes);
		store_release(&desk->taken, n);
	}
}

static void serve(void)
{
	struct evering *ep = endpoint(EVERING_SIDE_B);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	pin(1);
	for (;;) {
		uint32_t mode;

		while ((mode = load_acquire(&desk->mode)) == IDLE)
			cpu_relax();
		store_once(&desk->mode, IDLE);
		switch (mode) {
		case MOVE:
		case CHECK:
			serve_blocks(ep, desk->count, mode == CHECK);
			break;
		case COPY:
			serve_copies(ep, desk->count);
			break;
		case BARE:
			serve_bare(desk->count, desk->bytes);
			break;
		default:
			exit(0);
		}
		store_release(&desk->done, 1);
	}
}

/* ------------------------------------------------------------------ client */

static void start(enum mode mode, uint32_t count, uint64_t bytes)
{
	desk->count = count;
	desk->bytes = bytes;
	store_once(&desk->done, 0);
	store_release(&desk->mode, mode);
}

static void wait_done(void)
{
	while (!load_acquire(&desk->done))
		cpu_relax();
}

static void ask(struct evering *ep, uint64_t n, size_t len, bool check)
{
	struct evering_sqe *sqe;

	while (!(sqe = evering_get_sqe(ep)))
		;
	if (evering_sqe_attach(ep, sqe, n, block_of(ep, len, n, check)))
		die("the request cannot be sent");
	evering_submit(ep);
}

/* @len 0: many sizes, and every byte is checked.  Nanoseconds a request. */
static double move(struct evering *ep, size_t len, uint32_t count)
{
	const struct evering_cqe *cqe;
	uint32_t sent = 0, got = 0;
	bool check = !len;
	double begin;

	start(check ? CHECK : MOVE, count, len);
	begin = now_ns();
	while (got < count) {
		if (sent < count && sent - got < WINDOW) {
			ask(ep, sent, check ? checked_bytes(sent) : len, check);
			sent++;
		}
		while (!evering_peek_cqe(ep, &cqe)) {
			struct evering_token token = evering_cqe_token(cqe);

			if (check && (token.len != checked_bytes(cqe->user_data) ||
				      !filled(evering_token_payload(ep, token),
					      token.len, ~cqe->user_data)))
				desk->wrong++;
			evering_release(ep, token);
			evering_cqe_seen(ep, cqe);
			got++;
		}
	}
	begin = (now_ns() - begin) / count;
	wait_done();
	return begin;
}

/* One in flight. */
static double copies(struct evering *ep, const char *from, size_t len, uint32_t count)
{
	const struct evering_cqe *cqe;
	struct evering_token token;
	double begin;
	uint32_t n;

	start(COPY, count, len);
	begin = now_ns();
	for (n = 0; n < count; n++) {
		struct evering_sqe *sqe = evering_get_sqe(ep);

		if (evering_copy(ep, from, len, NULL, &token) ||
		    evering_sqe_attach(ep, sqe, n, token))
			die("the copy cannot be sent");
		evering_submit(ep);
		while (evering_peek_cqe(ep, &cqe))
			cpu_relax();
		evering_cqe_seen(ep, cqe);
	}
	begin = (now_ns() - begin) / count;
	wait_done();
	return begin;
}

static double bare_copies(const char *from, size_t len, uint32_t count)
{
	uint64_t first = load_once(&desk->sent), n;
	double begin;

	start(BARE, count, len);
	begin = now_ns();
	for (n = first + 1; n <= first + count; n++) {
		memcpy(bare_buffer, from, len);
		store_release(&desk->sent, n);
		while (load_acquire(&desk->taken) != n)
			cpu_relax();
	}
	begin = (now_ns() - begin) / count;
	wait_done();
	return begin;
}

/* ------------------------------------------------------------------- topic */

static struct evering_layout topic_layout(void)
{
	uint64_t slots = sizeof(struct evering_control) + TOPIC_ENTRIES * 64;
	uint64_t heap = (slots + PAGE - 1) & ~(PAGE - 1);

	return (struct evering_layout){
		.geometry.entries = { TOPIC_ENTRIES, 0 },
		.geometry.slot_size = { 64, 0 },
		.geometry.heap_size = { TOPIC_HEAP, 0 },
		.section_size = { PAGE, heap + TOPIC_HEAP, PAGE },
		.slots_offset = { sizeof(struct evering_control), 0 },
		.heap_offset = { heap, 0 },
	};
}

static void read_topic(const struct evering_layout *l,
		       const struct evering_header *header, const char *section,
		       uint32_t index)
{
	const struct timespec now = { 0 };
	struct evering_subscriber s = {
		.fd = -1,
		.header = header,
		.control = (const void *)section,
		.slots = section + l->slots_offset[0],
		.heap = section + l->heap_offset[0],
		.size = TOPIC_HEAP,
	};
	struct evering_message m;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	pin(1);
	evr_ring_geometry(&s.g, l, EVERING_RING_SQ);
	__atomic_fetch_add(&desk->ready, 1, __ATOMIC_RELEASE);
	for (;;) {
		if (load_once(&desk->readers) <= index) {
			usleep(1000);
			continue;
		}
		if (evering_subscriber_latest(&s, &m, &now)) {
			sched_yield();
			continue;
		}
		evering_subscriber_copy(&s, &m, scratch, LARGE);
	}
}

static double publishes(struct evering_publisher *p, const char *from,
			uint32_t readers)
{
	const uint32_t count = 4000;
	double begin;
	uint32_t n;

	store_once(&desk->readers, readers);
	usleep(5000);
	begin = now_ns();
	for (n = 0; n < count; n++)
		if (evering_publish(p, from, MESSAGE, NULL))
			die("cannot publish");
	return (now_ns() - begin) / count;
}

static void topic(const char *from, double *one, double *many)
{
	struct evering_layout l = topic_layout();
	struct evering_header *header = new_header();
	char *section = shared(l.section_size[EVERING_SECTION_A]);
	struct evering_publisher p = {
		.fd = -1,
		.header = header,
		.control = (void *)section,
		.slots = section + l.slots_offset[0],
		.heap = section + l.heap_offset[0],
		.size = TOPIC_HEAP,
		.extents = calloc(TOPIC_ENTRIES, sizeof(struct evr_extent)),
	};
	uint32_t i;

	evr_ring_geometry(&p.g, &l, EVERING_RING_SQ);
	for (i = 0; i < READERS; i++)
		if (!fork())
			read_topic(&l, header, section, i);
	while (load_acquire(&desk->ready) != READERS)
		usleep(1000);
	for (i = 0; i < SAMPLES; i++) {
		one[i] = publishes(&p, from, 1);
		many[i] = publishes(&p, from, READERS);
	}
}

/* -------------------------------------------------------------------- main */

static int judge_ratio(const char *what, double *ours, double *theirs, double bar,
		       bool judge)
{
	double ratio[SAMPLES], q;
	unsigned int i;

	for (i = 0; i < SAMPLES; i++)
		ratio[i] = ours[i] / theirs[i];
	q = quantile(ratio, SAMPLES, 0.5);
	printf("%-44s %10.0f %10.0f %8.2f  (%.2f to %.2f)\n", what,
	       quantile(ours, SAMPLES, 0.5), quantile(theirs, SAMPLES, 0.5), q,
	       quantile(ratio, SAMPLES, 0.1), quantile(ratio, SAMPLES, 0.9));
	if (!judge || q <= bar)
		return 0;
	printf("FAILED %s: %.2f, not at most %.2f\n", what, q, bar);
	return 1;
}

static void usage(void)
{
	puts("usage: evr-bench-payload [-t]\n"
	     "\n"
	     "Payloads between two processes on CPUs 0 and 1, nobody asleep: ours, what it\n"
	     "is compared with, both in ns, and the median of their ratios in one run.\n"
	     "\n"
	     "  -t  judge: fail where a bar is missed (copies from 32 KiB on), or a byte is\n"
	     "      wrong");
}

int main(int argc, char **argv)
{
	static const size_t lengths[] = { 4096, 32768, 262144, 1 << 20 };
	static double ours[SAMPLES], theirs[SAMPLES];
	struct evering *client;
	bool judge = false;
	unsigned int i, k;
	char what[64];
	int c, ret = 0;
	char *from;
	pid_t pid;

	while ((c = getopt(argc, argv, "th")) != -1) {
		if (c == 't') {
			judge = true;
			continue;
		}
		usage();
		return c == 'h' ? 0 : 2;
	}
	lay_out();
	desk = shared(sizeof(*desk));
	bare_buffer = shared(LARGE);
	from = malloc(LARGE);
	scratch = malloc(LARGE);
	if (!from || !scratch)
		die("no memory");
	memset(from, 1, LARGE);
	memset(scratch, 2, LARGE);
	pid = fork();
	if (!pid)
		serve();
	pin(0);
	client = endpoint(EVERING_SIDE_A);

	move(client, 0, CHECKED);
	printf("%u payloads of 4 B to 4 MiB there and back, %u in flight: %u wrong\n",
	       CHECKED, WINDOW, desk->wrong);
	if (judge && desk->wrong) {
		puts("FAILED payloads are wrong");
		ret = 1;
	}
	printf("%-44s %10s %10s %8s\n", "ns", "evering", "other", "ratio");
	for (i = 0; i < SAMPLES; i++) {
		theirs[i] = move(client, 64, MOVES);
		ours[i] = move(client, LARGE, MOVES);
	}
	ret |= judge_ratio("move there and back: 4 MiB, 64 B", ours, theirs, 1.3, judge);
	for (k = 0; k < sizeof(lengths) / sizeof(*lengths); k++) {
		uint32_t count = (uint32_t)((32UL << 20) / lengths[k]);

		for (i = 0; i < SAMPLES; i++) {
			theirs[i] = bare_copies(from, lengths[k], count);
			ours[i] = copies(client, from, lengths[k], count);
		}
		snprintf(what, sizeof(what), "copy %zu B, two memcpy()", lengths[k]);
		/* Below that, the cost is not in the bytes. */
		ret |= judge_ratio(what, ours, theirs, 1.2,
				   judge && lengths[k] >= JUDGED_COPY);
	}
	store_release(&desk->mode, QUIT);
	waitpid(pid, NULL, 0);
	topic(from, theirs, ours);
	ret |= judge_ratio("publish 32 KiB: 16 subscribers, 1", ours, theirs, 1.1, judge);
	return ret;
}
