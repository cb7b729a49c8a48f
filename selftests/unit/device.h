/* SPDX-License-Identifier: GPL-2.0 */
/*
 * /dev/evering in user space, for what opens something: endpoints are files in
 * memory, in which mmap finds a section where the module has it.  Each allocation,
 * system call and mapping of the library comes by here, and can be made to fail.
 *
 * To be linked with --wrap; see selftests/Makefile.
 */
#ifndef EVERING_DEVICE_H
#define EVERING_DEVICE_H

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"

#define PAGE		4096U
#define MOST_FDS	256
#define NOBODY_ASKS	(~0U)

/* What an endpoint of the device is. */
struct fake {
	unsigned int kind;
	unsigned int side;
	unsigned int flags;
	uint64_t token;
	struct evering_layout layout;
};

static struct fake fakes[MOST_FDS];
/* Of which the next one is, where nobody asks for something else. */
static struct evering_geometry geometry;
static unsigned int flags;
static uint32_t abi_version = EVERING_ABI_VERSION;

/* What ENTER does; by itself it wakes nobody, and no sleep lasts. */
static int (*on_enter)(const struct evering_enter *args);

/* ----------------------------------------------------------------- what fails */

static unsigned int steps, fail_at = NOBODY_ASKS;
static int fail_with;
static long memory, mappings;	/* more than before */

static bool fails(int error)
{
	if (steps++ != fail_at)
		return false;
	fail_with = errno = error;
	return true;
}

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__real_aligned_alloc(size_t align, size_t size);
void *__wrap_aligned_alloc(size_t align, size_t size);
void __real_free(void *p);
void __wrap_free(void *p);
int __real_open(const char *path, int how, ...);
int __wrap_open(const char *path, int how, ...);
int __wrap_ioctl(int fd, unsigned long request, ...);
void *__real_mmap(void *at, size_t size, int prot, int how, int fd, off_t offset);
void *__wrap_mmap(void *at, size_t size, int prot, int how, int fd, off_t offset);
int __real_munmap(void *at, size_t size);
int __wrap_munmap(void *at, size_t size);

static void *counted(void *p)
{
	memory += !!p;
	return p;
}

void *__wrap_malloc(size_t size)
{
	return fails(ENOMEM) ? NULL : counted(__real_malloc(size));
}

void *__wrap_calloc(size_t n, size_t size)
{
	return fails(ENOMEM) ? NULL : counted(__real_calloc(n, size));
}

void *__wrap_aligned_alloc(size_t align, size_t size)
{
	return fails(ENOMEM) ? NULL : counted(__real_aligned_alloc(align, size));
}

void __wrap_free(void *p)
{
	memory -= !!p;
	__real_free(p);
}

void *__wrap_mmap(void *at, size_t size, int prot, int how, int fd, off_t offset)
{
	void *p;

	if (fails(ENOMEM))
		return MAP_FAILED;
	p = __real_mmap(at, size, prot, how, fd, offset);
	mappings += p != MAP_FAILED;
	return p;
}

int __wrap_munmap(void *at, size_t size)
{
	mappings--;
	return __real_munmap(at, size);
}

/* ---------------------------------------------------------------- the device */

static struct evering_registry registry = {
	.magic = EVERING_REGISTRY_MAGIC,
	.version = EVERING_REGISTRY_VERSION,
	.entry_size = sizeof(struct evering_registry_entry),
	.entries_offset = sizeof(struct evering_registry),
};

int __wrap_open(const char *path, int how, ...)
{
	int fd;
	va_list args;

	va_start(args, how);
	fd = how & O_CREAT ? va_arg(args, int) : 0;
	va_end(args);
	if (strcmp(path, "/dev/evering") != 0)
		return __real_open(path, how, fd);
	if (fails(EMFILE))
		return -1;
	fd = memfd_create("control", MFD_CLOEXEC);
	if (ftruncate(fd, PAGE) ||
	    pwrite(fd, &registry, sizeof(registry), 0) != sizeof(registry))
		abort();
	return fd;
}

static uint64_t whole_pages(uint64_t size)
{
	return (size + PAGE - 1) & ~(uint64_t)(PAGE - 1);
}

static int endpoint(unsigned int kind, unsigned int side, uint64_t token)
{
	struct evering_header header = {
		.abi_version = abi_version,
		.token = token,
	};
	int fd = memfd_create("endpoint", MFD_CLOEXEC);
	struct evering_layout *l;
	unsigned int i;

	if (fd < 0 || fd >= MOST_FDS)
		abort();
	fakes[fd] = (struct fake){
		.kind = kind, .side = side, .flags = flags, .token = token,
		.layout.geometry = geometry,
		.layout.section_size[EVERING_SECTION_HEADER] = PAGE,
	};
	l = &fakes[fd].layout;
	for (i = 0; i < 2; i++) {
		uint64_t slots = (uint64_t)geometry.entries[i] * geometry.slot_size[i];

		l->slots_offset[i] = sizeof(struct evering_control);
		l->heap_offset[i] = whole_pages(l->slots_offset[i] + slots);
		l->section_size[1 + i] = l->heap_offset[i] + geometry.heap_size[i];
		/* The claims on what it takes are in the section of a side that is many. */
		if (kind == EVERING_KIND_QUEUE ? i : flags & (EVERING_URING_MULTI_A << i)) {
			l->claims_offset[!i] = l->section_size[1 + i];
			l->section_size[1 + i] += whole_pages(8 * geometry.entries[!i]);
		}
	}
	if (ftruncate(fd, (off_t)(EVERING_MMAP_OFFSET(EVERING_SECTION_B) +
				  l->section_size[EVERING_SECTION_B])) ||
	    pwrite(fd, &header, sizeof(header), 0) != sizeof(header))
		abort();
	return fd;
}

/* The topic that was created last, once more: the same memory. */
static int topic_fd = -1;

static int open_topic(void)
{
	int fd = topic_fd < 0 ? -1 : fcntl(topic_fd, F_DUPFD_CLOEXEC, 0);

	if (fd < 0 || fd >= MOST_FDS)
		abort();
	fakes[fd] = fakes[topic_fd];
	return fd;
}

static int answer_info(const struct fake *fake, struct evering_info *info)
{
	info->kind = fake->kind;
	info->side = fake->side;
	info->read_only = fake->kind == EVERING_KIND_BUFFER && fake->side;
	info->owner = 1;
	info->uring_flags = fake->flags;
	info->token = fake->token;
	info->layout = fake->layout;
	return 0;
}

int __wrap_ioctl(int fd, unsigned long request, ...)
{
	struct evering_connect *connect;
	struct evering_accept *accept;
	struct evering_create *create;
	struct evering_query *query;
	struct evering_open *open;
	va_list list;
	void *args;

	va_start(list, request);
	args = va_arg(list, void *);
	va_end(list);
	if (fails(EIO))
		return -1;
	switch (request) {
	case EVERING_IOC_QUERY:
		query = args;
		query->registry_bytes = PAGE;
		return 0;
	case EVERING_IOC_LISTEN:
		return memfd_create("service", MFD_CLOEXEC);
	case EVERING_IOC_CONNECT:
		connect = args;
		geometry = connect->geometry;
		flags = connect->flags;
		fd = endpoint(EVERING_KIND_CHANNEL, EVERING_SIDE_A, 1);
		connect->layout = fakes[fd].layout;
		return fd;
	case EVERING_IOC_ACCEPT:
		accept = args;
		fd = endpoint(EVERING_KIND_CHANNEL, EVERING_SIDE_B, 1);
		accept->layout = fakes[fd].layout;
		return fd;
	case EVERING_IOC_CREATE:
		create = args;
		geometry = create->geometry;
		flags = create->flags;
		create->token = 1;
		fd = endpoint(create->kind, create->side, 1);
		create->layout = fakes[fd].layout;
		if (create->kind == EVERING_KIND_TOPIC)
			topic_fd = fd;
		return fd;
	case EVERING_IOC_OPEN:
		open = args;
		fd = open->kind == EVERING_KIND_TOPIC ? open_topic() :
			endpoint(open->kind, open->side, open->token ? open->token : 1);
		open->layout = fakes[fd].layout;
		open->token = fakes[fd].token;
		return fd;
	case EVERING_IOC_INFO:
		return answer_info(&fakes[fd], args);
	case EVERING_IOC_ENTER:
		return on_enter ? on_enter(args) : 0;
	case EVERING_IOC_UNLINK:
	case EVERING_IOC_SHUTDOWN:
		return 0;
	}
	errno = ENOTTY;
	return -1;
}

/* The lowest descriptor that is free. */
static inline int lowest_fd(void)
{
	int fd = dup(STDERR_FILENO);

	close(fd);
	return fd;
}

#endif /* EVERING_DEVICE_H */
