/* SPDX-License-Identifier: GPL-2.0 */
/* Leases: the queue, processes that take leases of it, and what is counted. */
#ifndef LEASES_H
#define LEASES_H

#include <pthread.h>
#include <evering.h>

#include "evering_test.h"
#include "processes.h"
#include "queue_sleepers.h"

#define ENTRIES	64U
#define BOTH	(EVERING_QUEUE_PUSH | EVERING_QUEUE_POP)

struct item {
	uint64_t number;
	char rest[48];
};

/* Of the queue, for the other processes.  No name, lest one test fail by another. */
static uint64_t token;

static inline int create_queue(struct evering_queue **q)
{
	int ret = evering_queue_create(NULL, 0600, ENTRIES, sizeof(struct item),
				       BOTH | EVERING_QUEUE_LEASE, q);

	if (!ret)
		token = evering_queue_token(*q);
	return ret;
}

static inline int try_push(struct evering_queue *q, uint64_t number)
{
	struct item item = { .number = number };

	return evering_queue_try_push(q, &item);
}

/* The number, or -errno. */
static inline int64_t try_lease(struct evering_queue *q,
				struct evering_queue_lease *lease)
{
	struct item item;
	int ret = evering_queue_try_lease(q, &item, lease);

	return ret ? ret : (int64_t)item.number;
}

static inline int64_t try_pop(struct evering_queue *q)
{
	struct item item;
	int ret = evering_queue_try_pop(q, &item);

	return ret ? ret : (int64_t)item.number;
}

/* ------------------------------------------------------------------ counters */

/* Of fdinfo, the line of @key: SQ and CQ. */
static inline bool counter_of(struct evering_queue *q, const char *key, uint64_t value[2])
{
	char path[64], line[256];
	size_t len = strlen(key);
	bool found = false;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d",
		 evering_queue_fd(q, EVERING_QUEUE_POP));
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, key, len) && line[len] == ':')
			found = sscanf(line + len + 1, "%lu %lu", &value[0],
				       &value[1]) == 2;
	if (f)
		fclose(f);
	return found;
}

/* Do fdinfo and HEADER both say so of the SQ, and nothing of the CQ? */
static inline bool counted(struct evering_queue *q, uint64_t healed,
			   uint64_t redelivered, uint64_t lost)
{
	uint64_t h[2], r[2], l[2];
	const struct evering_header *header;
	bool same;

	header = mmap(NULL, getpagesize(), PROT_READ, MAP_SHARED,
		      evering_queue_fd(q, EVERING_QUEUE_POP),
		      (off_t)EVERING_MMAP_OFFSET(EVERING_SECTION_HEADER));
	if (header == MAP_FAILED || !counter_of(q, "healed", h) ||
	    !counter_of(q, "redelivered", r) || !counter_of(q, "lost", l)) {
		printf("# neither HEADER nor fdinfo\n");
		return false;
	}
	same = h[0] == healed && r[0] == redelivered && l[0] == lost &&
	       !h[1] && !r[1] && !l[1] &&
	       header->ring[0].healed == healed &&
	       header->ring[0].redelivered == redelivered &&
	       header->ring[0].lost == lost && !header->ring[1].healed &&
	       !header->ring[1].redelivered && !header->ring[1].lost;
	if (!same)
		printf("# fdinfo: healed %lu %lu, redelivered %lu %lu, lost %lu %lu\n",
		       h[0], h[1], r[0], r[1], l[0], l[1]);
	munmap((void *)(uintptr_t)header, getpagesize());
	return same;
}

/* How often a process has gone to sleep: who was woken for nothing sleeps again. */
static inline long sleeps(pid_t pid)
{
	char path[64], line[256];
	long found = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f))
		sscanf(line, "voluntary_ctxt_switches: %ld", &found);
	if (f)
		fclose(f);
	return found;
}

/* ------------------------------------------------------------------- workers */

#define WORKERS	3

/* A process that takes leases when it is told to; one at a time is in its hand. */
struct worker {
	pid_t pid;
	int sock;
};

enum order { LEASE = 1, ACK, NACK, CLOSE, EXIT };

static inline void work(int sock)
{
	struct evering_queue_lease lease = { 0 };
	struct evering_queue *q;
	struct item item;
	int ret;

	ret = evering_queue_open(NULL, token, EVERING_QUEUE_POP, &q);
	tell(sock, ret);
	if (ret)
		_exit(1);
	evering_queue_set_spin(q, 0);
	for (;;) {
		switch (hear(sock)) {
		case LEASE:
			ret = evering_queue_lease(q, &item, &lease);
			tell(sock, ret ? ret : (int)item.number);
			tell(sock, lease.deliveries);
			break;
		case ACK:
			tell(sock, evering_queue_ack(q, &lease));
			break;
		case NACK:
			tell(sock, evering_queue_nack(q, &lease));
			break;
		case CLOSE:
			evering_queue_close(q);
			tell(sock, 0);
			pause();
			break;
		default:
			_exit(0);
		}
	}
}

static inline bool worker_start(struct worker *w)
{
	w->pid = fork_talking(&w->sock);
	if (!w->pid)
		work(w->sock);
	return w->pid > 0 && !hear(w->sock);
}

static inline int ask(struct worker *w, enum order order)
{
	tell(w->sock, order);
	return hear(w->sock);
}

/* What it has got, or -errno; and how often that has been delivered. */
static inline int got(struct worker *w, int *deliveries)
{
	int number = hear(w->sock);

	*deliveries = hear(w->sock);
	return number;
}

/* It shall take an item that is there, for the @deliveries-th time. */
static inline bool takes(struct worker *w, int number, int deliveries)
{
	int n, d;

	tell(w->sock, LEASE);
	n = got(w, &d);
	if (n != number || d != deliveries)
		printf("# has got %d, deliveries %d\n", n, d);
	return n == number && d == deliveries;
}

/* It shall wait for one, and sleeps when this returns. */
static inline bool waits(struct worker *w)
{
	tell(w->sock, LEASE);
	return asleep_in(w->pid, w->pid, SYS_ioctl);
}

/* What it waited for has come. */
static inline bool gets(struct worker *w, int number, int deliveries)
{
	int d, n = got(w, &d);

	if (n != number || d != deliveries)
		printf("# has got %d, deliveries %d\n", n, d);
	return n == number && d == deliveries;
}

/* It is told of the end. */
static inline bool ends(struct worker *w)
{
	int d, n = got(w, &d);

	if (n != -ESHUTDOWN)
		printf("# has got %d instead of the end\n", n);
	return n == -ESHUTDOWN;
}

static inline void worker_end(struct worker *w)
{
	if (w->pid <= 0)
		return;
	kill(w->pid, SIGKILL);
	reap(w->pid);
	close(w->sock);
	w->pid = 0;
	w->sock = -1;
}

/* Which of the workers has a message; -1 for none. */
static inline int who_speaks(struct worker *w, int timeout_ms)
{
	struct pollfd p[WORKERS];
	int i;

	for (i = 0; i < WORKERS; i++)
		p[i] = (struct pollfd){ .fd = w[i].sock, .events = POLLIN };
	if (poll(p, WORKERS, timeout_ms) <= 0)
		return -1;
	for (i = 0; i < WORKERS; i++)
		if (p[i].revents)
			return i;
	return -1;
}

#endif /* LEASES_H */
