/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the tests of CREATE, OPEN, UNLINK and the registry share: calls with
 * their usual arguments, the registry as it is mapped, and other users.  To be
 * included after ioctl_test.h or sections.h.
 */
#ifndef EVERING_REGISTRY_TEST_H
#define EVERING_REGISTRY_TEST_H

#include <grp.h>
#include <sched.h>
#include <stdio.h>
#include <linux/capability.h>

#include "evering_test.h"

#define BUFFER		"test.buffer"
#define NR_KINDS	4

/* As in ioctl_test.h, for who goes without it. */
#ifndef MUST
#define MUST(cond) do {							\
	if (!(cond)) {							\
		int err = errno;					\
		fprintf(stderr, "# %s:%d: in a child: !(%s), errno %d\n", \
			__FILE__, __LINE__, #cond, err);		\
		_exit(255);						\
	}								\
} while (0)
#endif

/* gcc must not see that a name fills its field, and warn that no NUL is copied. */
#define UNSEEN		__attribute__((noinline, unused))

/* ------------------------------------------------------------------- calls */

static const struct evering_geometry of_kind[NR_KINDS] = {
	[EVERING_KIND_CHANNEL] = { { 8, 4 }, { 64, 128 }, { 4096, 8192 } },
	[EVERING_KIND_QUEUE] = { { 64, 0 }, { 64, 0 }, { 4096, 0 } },
	[EVERING_KIND_TOPIC] = { { 4, 0 }, { 64, 0 }, { 8192, 0 } },
	[EVERING_KIND_BUFFER] = { { 0, 0 }, { 0, 0 }, { 8192, 0 } },
};

/* Which sides the table in the header calls "many", and which "read only". */
static const bool many_on[NR_KINDS][2] = {
	[EVERING_KIND_QUEUE] = { true, true },
	[EVERING_KIND_TOPIC] = { false, true },
	[EVERING_KIND_BUFFER] = { true, true },
};

static const bool read_only_on[NR_KINDS][2] = {
	[EVERING_KIND_TOPIC] = { false, true },
	[EVERING_KIND_BUFFER] = { false, true },
};

/* Outputs are pre-filled, so that one that nobody wrote shows. */
#define NOT_WRITTEN	0xcccccccccccccccc

static UNSEEN struct evering_create create_args(uint32_t kind, const char *name)
{
	struct evering_create args = {
		.size = sizeof(args),
		.kind = kind,
		.mode = 0600,
		.side = EVERING_SIDE_A,
		.geometry = of_kind[kind],
		.token = NOT_WRITTEN,
	};

	strncpy(args.name, name, EVERING_NAME_MAX);
	memset(&args.layout, 0xcc, sizeof(args.layout));
	return args;
}

static UNSEEN struct evering_open open_args(uint64_t token, const char *name, uint32_t side)
{
	struct evering_open args = {
		.size = sizeof(args),
		.token = token,
		.kind = EVERING_KIND_ANY,
		.side = side,
	};

	strncpy(args.name, name, EVERING_NAME_MAX);
	memset(&args.layout, 0xcc, sizeof(args.layout));
	return args;
}

static UNSEEN struct evering_unlink unlink_args(uint64_t token, const char *name)
{
	struct evering_unlink args = { .size = sizeof(args), .token = token };

	strncpy(args.name, name, EVERING_NAME_MAX);
	return args;
}

static UNSEEN int do_create(uint32_t kind, const char *name, uint32_t mode, uint64_t *token)
{
	struct evering_create args = create_args(kind, name);
	int ret;

	args.mode = mode;
	ret = device_call(EVERING_IOC_CREATE, &args);
	if (token)
		*token = args.token;
	return ret;
}

static inline int open_token(uint64_t token, uint32_t side)
{
	struct evering_open args = open_args(token, "", side);

	return device_call(EVERING_IOC_OPEN, &args);
}

static inline int open_name(const char *name, uint32_t side)
{
	struct evering_open args = open_args(0, name, side);

	return device_call(EVERING_IOC_OPEN, &args);
}

static inline int unlink_token(uint64_t token)
{
	struct evering_unlink args = unlink_args(token, "");

	return device_call(EVERING_IOC_UNLINK, &args);
}

static inline int unlink_name(const char *name)
{
	struct evering_unlink args = unlink_args(0, name);

	return device_call(EVERING_IOC_UNLINK, &args);
}

static inline int do_dup(int fd)
{
	struct evering_dup args = { .size = sizeof(args) };

	return call(fd, EVERING_IOC_DUP, &args);
}

static inline int do_info(int fd, struct evering_info *args)
{
	memset(args, 0xcc, sizeof(*args));
	args->size = sizeof(*args);
	args->flags = 0;
	return call(fd, EVERING_IOC_INFO, args);
}

static inline uint64_t bytes_of(const struct evering_layout *l)
{
	return l->section_size[0] + l->section_size[1] + l->section_size[2];
}

/* ---------------------------------------------------------------- both sides */

/* Each side with each section, as far as it may. */
static inline int map_as_allowed(struct channel *c, int kind, int side)
{
	int section;

	if (!read_only_on[kind][side])
		return map_side(c, side);
	for (section = 0; section < 3; section++) {
		c->map[side][section] = map_section(c->fd[side], &c->layout, section, PROT_READ);
		if (c->map[side][section] == MAP_FAILED)
			return -errno;
	}
	return 0;
}

/* Created as side A and opened as side B, both mapped; 0 or -errno. */
static inline int uring_open(struct channel *c, int kind)
{
	struct evering_create args = create_args(kind, "");
	int ret;

	memset(c, 0, sizeof(*c));
	c->fd[0] = device_call(EVERING_IOC_CREATE, &args);
	if (c->fd[0] < 0)
		return c->fd[0];
	c->layout = args.layout;
	c->token = args.token;
	c->fd[1] = open_token(c->token, EVERING_SIDE_B);
	if (c->fd[1] < 0)
		return c->fd[1];
	ret = map_as_allowed(c, kind, 0);
	return ret ? ret : map_as_allowed(c, kind, 1);
}

static inline void unmap_and_close(struct channel *c, int side)
{
	int section;

	for (section = 0; section < 3; section++)
		munmap(c->map[side][section], c->layout.section_size[section]);
	close(c->fd[side]);
}

/* ------------------------------------------------------- the registry mapped */

struct view {
	int control;
	size_t bytes;
	const struct evering_registry *header;
};

static inline size_t registry_bytes(int control)
{
	struct evering_query args = { .size = sizeof(args) };

	return call(control, EVERING_IOC_QUERY, &args) ? 0 : args.registry_bytes;
}

/* That of @control, which stays the caller's. */
static inline bool view_map(struct view *v, int control)
{
	v->control = control;
	v->bytes = registry_bytes(control);
	v->header = mmap(NULL, v->bytes, PROT_READ, MAP_SHARED, control, 0);
	return v->header != MAP_FAILED;
}

/* That of the namespace that this process is in; for the rest of its life. */
static inline bool view_here(struct view *v)
{
	return view_map(v, open(DEVICE, O_RDONLY | O_CLOEXEC));
}

static inline const struct evering_registry_entry *slot_of(const struct view *v, uint32_t index)
{
	return (const void *)((const char *)v->header + v->header->entries_offset +
			      (size_t)index * v->header->entry_size);
}

/* As the header says it is to be read: a copy that fits together, or false. */
static inline bool entry_at(const struct view *v, uint32_t index,
			    struct evering_registry_entry *copy)
{
	const struct evering_registry_entry *e = slot_of(v, index);
	uint64_t end = now_ns() + 5000 * MS;
	uint32_t seq;

	/* Who changes it holds a spinlock, and may be on a virtual CPU that stands. */
	while (now_ns() < end) {
		seq = __atomic_load_n(&e->seq, __ATOMIC_ACQUIRE);
		if (seq & 1)
			continue;
		memcpy(copy, e, sizeof(*copy));
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
		if (__atomic_load_n(&e->seq, __ATOMIC_RELAXED) == seq)
			return true;
	}
	return false;
}

static inline struct evering_registry_entry entry_of(const struct view *v, uint64_t token)
{
	struct evering_registry_entry copy;

	if (!entry_at(v, EVERING_TOKEN_INDEX(token), &copy))
		memset(&copy, 0xcc, sizeof(copy));
	return copy;
}

static inline uint64_t epoch_of(const struct view *v)
{
	return __atomic_load_n(&v->header->global_epoch, __ATOMIC_ACQUIRE);
}

static inline uint32_t active_of(const struct view *v)
{
	return __atomic_load_n(&v->header->active_count, __ATOMIC_RELAXED);
}

static inline uint64_t next_token_of(const struct view *v)
{
	return __atomic_load_n(&v->header->next_token, __ATOMIC_RELAXED);
}

/* ------------------------------------------------------------- other users */

#define OWNER	1000, 1000, 1000
#define MEMBER	1001, 1000, 1001	/* of the owner's group */
#define EXTRA	1001, 1001, 1000	/* the same, by a supplementary group */
#define OTHERS	1001, 1001, 1001

/* For good, and with no group but @gid and @extra. */
static inline void become(uid_t uid, gid_t gid, gid_t extra)
{
	MUST(!setgroups(1, &extra));
	MUST(!setresgid(gid, gid, gid));
	MUST(!setresuid(uid, uid, uid));
	/* Both are lost on the way; the latter lets /proc/self be written. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_DUMPABLE, 1);
}

static inline void drop_capability(int cap)
{
	struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2];

	MUST(!syscall(SYS_capget, &head, data));
	data[cap / 32].effective &= ~(1U << cap % 32);
	MUST(!syscall(SYS_capset, &head, data));
}

static inline bool write_line(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool ok = fd >= 0 && write(fd, text, strlen(text)) == strlen(text);

	if (fd >= 0)
		close(fd);
	return ok;
}

/* A user namespace in which uid and gid @id are root and all there is. */
static inline void become_root_of_namespace(uid_t id, int other_namespaces)
{
	char map[32];

	snprintf(map, sizeof(map), "0 %u 1", id);
	MUST(!unshare(CLONE_NEWUSER | other_namespaces));
	MUST(write_line("/proc/self/setgroups", "deny"));
	MUST(write_line("/proc/self/uid_map", map));
	MUST(write_line("/proc/self/gid_map", map));
	MUST(getuid() == 0 && getgid() == 0);
}

#endif /* EVERING_REGISTRY_TEST_H */
