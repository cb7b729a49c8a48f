/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the stress tests of the registry share: a reader's view of it, calls with
 * their usual arguments, workers that hammer at the same time, and the module
 * itself, which some of them load anew.
 */
#ifndef REGISTRY_STRESS_H
#define REGISTRY_STRESS_H

#include <sched.h>

#include "ioctl_test.h"

#define MODULE_FILE	"/evering.ko"	/* where init has it from */
#define REFCNT		"/sys/module/evering/refcnt"

/* ------------------------------------------------------- a reader's view */

struct registry {
	int control;
	size_t bytes;
	const struct evering_registry *header;
};

/* 0 or -errno. */
static inline int registry_map(struct registry *r)
{
	struct evering_query query = { .size = sizeof(query) };
	void *map;
	int ret;

	*r = (struct registry){ .control = open(DEVICE, O_RDWR | O_CLOEXEC) };
	if (r->control < 0)
		return -errno;
	ret = call(r->control, EVERING_IOC_QUERY, &query);
	if (ret)
		return ret;
	r->bytes = query.registry_bytes;
	map = mmap(NULL, r->bytes, PROT_READ, MAP_SHARED, r->control, 0);
	if (map == MAP_FAILED)
		return -errno;
	r->header = map;
	return 0;
}

static inline void registry_unmap(struct registry *r)
{
	munmap((void *)r->header, r->bytes);
	close(r->control);
}

static inline uint64_t epoch_now(const struct registry *r)
{
	return __atomic_load_n(&r->header->global_epoch, __ATOMIC_ACQUIRE);
}

static inline const struct evering_registry_entry *
entry_of(const struct registry *r, uint32_t index)
{
	const char *base = (const char *)r->header;

	return (const void *)(base + r->header->entries_offset +
			      (size_t)index * r->header->entry_size);
}

/*
 * A consistent copy of an entry.  False if the kernel never lets go of it; how
 * often it was in the way is added to @disturbed.
 */
static inline bool snapshot(const struct registry *r, uint32_t index,
			    struct evering_registry_entry *copy, uint64_t *disturbed)
{
	const struct evering_registry_entry *entry = entry_of(r, index);
	const uint64_t *from = (const uint64_t *)entry;
	uint64_t words[sizeof(*copy) / sizeof(uint64_t)];
	uint64_t end = 0;
	uint32_t seq;
	bool stable;
	int i;

	for (;;) {
		seq = __atomic_load_n(&entry->seq, __ATOMIC_ACQUIRE);
		for (i = 0; i < ARRAY_SIZE(words); i++)
			words[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
		stable = !(seq & 1) && __atomic_load_n(&entry->seq, __ATOMIC_RELAXED) == seq;
		if (stable)
			break;
		if (disturbed)
			(*disturbed)++;
		if (!end)
			end = now_ns() + PATIENCE * MS;
		else if (now_ns() > end)
			break;
	}
	memcpy(copy, words, sizeof(words));
	return stable;
}

/* ------------------------------------------------------------------ calls */

/* The least that a kind can be. */
static inline struct evering_geometry least(uint32_t kind)
{
	struct evering_geometry g = { 0 };

	if (kind == EVERING_KIND_BUFFER)
		g.heap_size[0] = PAGE;
	if (kind != EVERING_KIND_BUFFER)
		g.entries[0] = 1, g.slot_size[0] = EVERING_MIN_SLOT_SIZE;
	if (kind == EVERING_KIND_QUEUE)
		g.entries[0] = EVERING_MIN_MULTI;
	if (kind == EVERING_KIND_CHANNEL)
		g.entries[1] = 1, g.slot_size[1] = EVERING_MIN_SLOT_SIZE;
	return g;
}

static QUIET struct evering_create create_args(uint32_t kind, const char *name)
{
	struct evering_create args = {
		.size = sizeof(args),
		.kind = kind,
		.mode = 0666,
		.geometry = least(kind),
		.token = NOT_SENT,
	};

	strncpy(args.name, name, EVERING_NAME_MAX);
	return args;
}

static inline int do_create(int control, uint32_t kind, const char *name, uint64_t *token)
{
	struct evering_create args = create_args(kind, name);
	int ret = call(control, EVERING_IOC_CREATE, &args);

	*token = args.token;
	return ret;
}

static QUIET int do_open(int control, uint64_t token, const char *name, uint32_t side,
			 struct evering_open *args)
{
	*args = (struct evering_open){
		.size = sizeof(*args),
		.token = token,
		.kind = EVERING_KIND_ANY,
		.side = side,
	};
	strncpy(args->name, name, EVERING_NAME_MAX);
	return call(control, EVERING_IOC_OPEN, args);
}

static QUIET int do_unlink(int control, uint64_t token, const char *name)
{
	struct evering_unlink args = { .size = sizeof(args), .token = token };

	strncpy(args.name, name, EVERING_NAME_MAX);
	return call(control, EVERING_IOC_UNLINK, &args);
}

static inline int do_dup(int fd)
{
	struct evering_dup args = { .size = sizeof(args) };

	return call(fd, EVERING_IOC_DUP, &args);
}

/* ---------------------------------------------------------------- workers */

static inline void *shared_new(size_t bytes)
{
	void *p = mmap(NULL, bytes, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

/* Not rand(): it takes a lock, and children of one parent would get the same. */
static inline uint32_t rnd(uint32_t *state)
{
	uint32_t x = *state ?: 1;

	x ^= x << 13;
	x ^= x >> 17;
	x ^= x << 5;
	return *state = x;
}

static inline uint32_t rnd_seed(uint32_t salt)
{
	return ((uint32_t)now_ns() ^ getpid() << 12) * 2654435761U + salt;
}

/* A random while, from nothing up to some tens of system calls. */
static inline void dawdle(uint32_t *seed)
{
	uint32_t i, n = rnd(seed) % 8 ? rnd(seed) % 2000 : rnd(seed) % 40000;

	for (i = 0; i < n; i++)
		__asm__ volatile("" ::: "memory");
}

#define LOAD(x)		__atomic_load_n(&(x), __ATOMIC_ACQUIRE)
#define STORE(x, value)	__atomic_store_n(&(x), value, __ATOMIC_RELEASE)
#define COUNT(x)	__atomic_fetch_add(&(x), 1, __ATOMIC_RELAXED)

/* ----------------------------------------------------------------- module */

static inline int module_load(const char *parameters)
{
	int fd = open(MODULE_FILE, O_RDONLY | O_CLOEXEC);
	int ret;

	if (fd < 0)
		return -errno;
	ret = syscall(SYS_finit_module, fd, parameters, 0) ? -errno : 0;
	close(fd);
	return ret;
}

static inline int module_unload(void)
{
	return syscall(SYS_delete_module, "evering", O_NONBLOCK) ? -errno : 0;
}

/* Waits for files whose release is deferred.  0 or -errno. */
static inline int module_reload(const char *parameters)
{
	uint64_t end = now_ns() + PATIENCE * MS;
	int ret;

	while ((ret = module_unload()) == -EWOULDBLOCK && now_ns() < end)
		sleep_ms(5);
	return ret && ret != -ENOENT ? ret : module_load(parameters);
}

#endif /* REGISTRY_STRESS_H */
