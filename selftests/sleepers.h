/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Those who sleep on an endpoint, in ENTER or in poll(), and what HEADER tells
 * of them: what the tests of waiting, waking and readiness share.
 */
#ifndef SLEEPERS_H
#define SLEEPERS_H

#include <pthread.h>
#include <stdio.h>
#include <sys/epoll.h>

#include "evering_test.h"
#include "evering.h"

#define SQ		EVERING_RING_SQ
#define CQ		EVERING_RING_CQ
#define SQ_ENTRIES	8	/* in what channel_open() opens */
#define CQ_ENTRIES	16
#define FAR		10000	/* ms; who sleeps that long has lost a wake-up */
#define SOON		2000	/* ms; late, even on a slow machine */

/* Waits for @cond, but not for ever; its value. */
#define UNTIL(cond) ({							\
	uint64_t __end = now_ns() + 5000 * MS;				\
	while (!(cond) && now_ns() < __end)				\
		sleep_ms(1);						\
	(cond);								\
})

/* A name of its own for every test, lest one that fails take others along. */
static inline const char *test_name(void)
{
	static char name[32];

	snprintf(name, sizeof(name), "test.%d", getpid());
	return name;
}

static inline void close_rings(struct channel *c)
{
	close(c->fd[0]);
	close(c->fd[1]);
	close(c->service);
}

static inline int do_shutdown(int fd, unsigned int how)
{
	struct evering_shutdown args = { .size = sizeof(args), .how = how };

	return call(fd, EVERING_IOC_SHUTDOWN, &args);
}

/* The death of an endpoint. */
static inline int unmap_own(struct channel *c, int side)
{
	return munmap(c->map[side][EVERING_SECTION_A + side],
		      c->layout.section_size[EVERING_SECTION_A + side]);
}

/* 0 or -errno. */
static inline int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	int ret = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		ret = -errno;
	close(fd);
	return ret;
}

/* ------------------------------------------------------------------- words */

static inline uint64_t load(const __u64 *word)
{
	return __atomic_load_n(word, __ATOMIC_RELAXED);
}

/* By whichever side is mapped here. */
static inline struct evering_ring_words *words(struct channel *c, int ring)
{
	return &header_of(c, c->map[0][EVERING_SECTION_HEADER] ? 0 : 1)->ring[ring];
}

static inline uint64_t wake_at(struct channel *c, int ring)
{
	return load(&words(c, ring)->wake_at);
}

static inline uint64_t space_at(struct channel *c, int ring)
{
	return load(&words(c, ring)->space_at);
}

static inline uint64_t poll_at(struct channel *c, int ring)
{
	return load(&words(c, ring)->poll_at);
}

static inline uint64_t poll_space_at(struct channel *c, int ring)
{
	return load(&words(c, ring)->poll_space_at);
}

/* Nobody sleeps in ENTER. */
static inline bool nobody(struct channel *c)
{
	return wake_at(c, SQ) == EVERING_NOBODY && space_at(c, SQ) == EVERING_NOBODY &&
	       wake_at(c, CQ) == EVERING_NOBODY && space_at(c, CQ) == EVERING_NOBODY;
}

/* ------------------------------------------------------------------- rings */

static inline uint64_t entries_of(struct channel *c, int ring)
{
	return c->layout.geometry.entries[ring];
}

static inline uint64_t lap_of(struct channel *c, int ring, uint64_t pos)
{
	return evering_lap(pos, __builtin_ctzll(entries_of(c, ring)));
}

/* What a consumer at @pos may conclude. */
static inline enum evering_slot_state judge(struct channel *c, int ring, uint64_t pos)
{
	return evering_judge(__atomic_load_n(stamp_of(c, ring, pos), __ATOMIC_ACQUIRE),
			     lap_of(c, ring, pos));
}

static inline void commit_range(struct channel *c, int ring, uint64_t from, uint64_t to)
{
	for (; from < to; from++)
		commit(c, ring, from, EVERING_COMMITTED);
}

static inline void fill(struct channel *c, int ring)
{
	commit_range(c, ring, 0, entries_of(c, ring));
}

/* Is the doorbell due after a commit of @pos?  As lib/ring.h has it. */
static inline bool wake_due(struct channel *c, int ring, uint64_t pos)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return pos >= wake_at(c, ring) || pos >= poll_at(c, ring);
}

/* The consumer of @ring gives back all before @head: is the doorbell due? */
static inline bool release(struct channel *c, int ring, uint64_t head)
{
	uint64_t end = head + entries_of(c, ring);

	__atomic_store_n(&control_of(c, !ring)->head, head, __ATOMIC_RELEASE);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return end > space_at(c, ring) || end > poll_space_at(c, ring);
}

/* Commits @pos, and rings the doorbell if that is due: was it? */
static inline bool put(struct channel *c, int ring, uint64_t pos)
{
	stamp_of(c, ring, pos)[1] = pos;
	commit(c, ring, pos, EVERING_COMMITTED);
	if (!wake_due(c, ring, pos))
		return false;
	do_wake(c->fd[ring]);
	return true;
}

/* Takes all that is there, and checks the numbers; how many, or -EILSEQ. */
static inline int drain(struct channel *c, int ring)
{
	uint64_t begin = control_of(c, !ring)->head, head = begin;

	while (judge(c, ring, head) == EVERING_SLOT_READY) {
		if (stamp_of(c, ring, head)[1] != head)
			return -EILSEQ;
		/* One by one, so that a full ring drains while it is filled. */
		if (release(c, ring, ++head))
			do_wake(c->fd[!ring]);
	}
	return head - begin;
}

/* ---------------------------------------------------------- calls that sleep */

static inline struct evering_enter space_args(uint64_t pos, unsigned int timeout_ms)
{
	struct evering_enter args = wait_args(0, 0, timeout_ms);

	args.flags = EVERING_ENTER_WAIT_SPACE;
	args.space_pos = pos;
	return args;
}

static inline struct evering_enter both_args(uint64_t pos, unsigned int nr,
					     uint64_t space_pos, unsigned int timeout_ms)
{
	struct evering_enter args = wait_args(pos, nr, timeout_ms);

	args.flags |= EVERING_ENTER_WAIT_SPACE;
	args.space_pos = space_pos;
	return args;
}

/*
 * ENTER.  Success beats time-out, so a wake-up that was lost may look like one
 * that came late: who waited FAR has lost one, whatever ENTER says.
 */
static inline int enter(int fd, struct evering_enter args)
{
	uint64_t begin = now_ns();
	int ret = call(fd, EVERING_IOC_ENTER, &args);
	uint64_t end = now_ns();

	return end >= args.deadline && end >= begin + FAR * MS / 2 ? -ETIMEDOUT : ret;
}

static inline int wait_for(int fd, uint64_t pos, unsigned int nr, unsigned int timeout_ms)
{
	return enter(fd, wait_args(pos, nr, timeout_ms));
}

/* The same for what looks once more when its time is over. */
static inline bool lost(uint64_t begin)
{
	return now_ns() >= begin + FAR * MS;
}

/* poll() of one descriptor; what it says, or -errno. */
static inline int poll_for(int fd, short events, int timeout_ms)
{
	struct pollfd p = { .fd = fd, .events = events };
	uint64_t begin = now_ns();
	int ret = poll(&p, 1, timeout_ms);

	if (ret < 0)
		return -errno;
	return lost(begin) ? -ETIMEDOUT : p.revents;
}

static inline int watch(int ep, int op, int fd, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.fd = fd };

	return epoll_ctl(ep, op, fd, &event) ? -errno : 0;
}

/* The events of the one descriptor in @ep; 0 for none until the time-out. */
static inline int events_of(int ep, int timeout_ms)
{
	struct epoll_event event;
	uint64_t begin = now_ns();
	int ret = epoll_wait(ep, &event, 1, timeout_ms);

	if (ret < 0)
		return -errno;
	if (lost(begin))
		return -ETIMEDOUT;
	return ret ? event.events : 0;
}

/* ---------------------------------------------------------------- sleepers */

/* A thread in ENTER, or in poll(). */
struct sleeper {
	pthread_t thread;
	int fd;
	struct evering_enter args;
	short events;		/* of poll() */
	pid_t tid;
	int ret;
	uint64_t returned;
	bool done;
};

static inline void *sleeper_thread(void *arg)
{
	struct sleeper *s = arg;

	__atomic_store_n(&s->tid, gettid(), __ATOMIC_RELEASE);
	if (s->args.size)
		s->ret = enter(s->fd, s->args);
	else
		s->ret = poll_for(s->fd, s->events, FAR);
	s->returned = now_ns();
	__atomic_store_n(&s->done, true, __ATOMIC_RELEASE);
	return NULL;
}

static inline void start(struct sleeper *s, int fd, struct evering_enter args)
{
	*s = (struct sleeper){ .fd = fd, .args = args };
	if (pthread_create(&s->thread, NULL, sleeper_thread, s))
		abort();
}

/* Does a thread sleep in system call @nr? */
static inline bool asleep(const pid_t *tid, int nr)
{
	char path[64], text[64] = "";
	int fd;

	snprintf(path, sizeof(path), "/proc/self/task/%d/syscall",
		 __atomic_load_n(tid, __ATOMIC_ACQUIRE));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	if (read(fd, text, sizeof(text) - 1) < 0)
		text[0] = '\0';
	close(fd);
	return text[0] >= '0' && text[0] <= '9' && atoi(text) == nr;
}

/* Returns once it sleeps, or false. */
static inline bool start_poll(struct sleeper *s, int fd, short events)
{
	*s = (struct sleeper){ .fd = fd, .events = events };
	if (pthread_create(&s->thread, NULL, sleeper_thread, s))
		abort();
	return UNTIL(asleep(&s->tid, NR_POLL));
}

static inline bool done(struct sleeper *s)
{
	return __atomic_load_n(&s->done, __ATOMIC_ACQUIRE);
}

/* What its call has returned. */
static inline int join(struct sleeper *s)
{
	pthread_join(s->thread, NULL);
	return s->ret;
}

/* A line of fdinfo: of "side-a" or "side-b", what follows @key. */
static inline bool side_info(int fd, int side, const char *key, char value[32])
{
	char path[64], line[256], label[] = "side-a:";
	bool found = false;
	FILE *f;

	label[5] += side;
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	f = fopen(path, "r");
	if (!f)
		return false;
	while (!found && fgets(line, sizeof(line), f)) {
		char *at = strstr(line, key);

		if (!strncmp(line, label, strlen(label)) && at)
			found = sscanf(at + strlen(key), "%31s", value) == 1;
	}
	fclose(f);
	return found;
}

/* In ENTER. */
static inline int nr_sleepers(int fd, int side)
{
	char value[32];

	return side_info(fd, side, " sleepers=", value) ? atoi(value) : -1;
}

#endif /* SLEEPERS_H */
