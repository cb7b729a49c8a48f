/* SPDX-License-Identifier: MIT OR LGPL-2.1 */
/* Buffers: shared memory that goes with the last of its users. */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"

/**
 * struct evering_buffer - one endpoint of a uring of kind buffer
 * @fd:		the endpoint
 * @token:	of the buffer
 * @writable:	opened to write
 * @section:	section A as mapped
 * @section_size: bytes
 * @data:	heap A in it
 * @size:	bytes
 */
struct evering_buffer {
	int fd;
	uint64_t token;
	bool writable;
	void *section;
	uint64_t section_size;
	char *data;
	uint64_t size;
};

/* Takes @fd, also where it fails. */
static int evr_buffer_attach(int fd, bool writable,
			     const struct evering_layout *layout,
			     uint64_t token, struct evering_buffer **out)
{
	struct evering_buffer *buffer;
	int ret = -ENOMEM;

	buffer = calloc(1, sizeof(*buffer));
	if (!buffer)
		goto close;
	buffer->fd = fd;
	buffer->token = token;
	buffer->writable = writable;
	buffer->section_size = layout->section_size[EVERING_SECTION_A];
	ret = evr_map(fd, buffer->section_size,
		      writable ? PROT_READ | PROT_WRITE : PROT_READ,
		      EVERING_MMAP_OFFSET(EVERING_SECTION_A), &buffer->section);
	if (ret)
		goto close;
	buffer->data = (char *)buffer->section +
		       layout->heap_offset[EVERING_SIDE_A];
	buffer->size = layout->geometry.heap_size[EVERING_SIDE_A];
	*out = buffer;
	return 0;

close:
	free(buffer);
	close(fd);
	return ret;
}

EXPORT int evering_buffer_create(const char *name, uint32_t mode, uint64_t size,
				 struct evering_buffer **buffer)
{
	struct evering_create args = {
		.size = sizeof(args),
		.kind = EVERING_KIND_BUFFER,
		.mode = mode,
		.side = EVERING_SIDE_A,
	};
	int fd, ret;

	if (!evr_heap_bytes(size))
		return -EINVAL;
	ret = evr_copy_name(args.name, name);
	if (ret)
		return ret;
	args.geometry.heap_size[EVERING_SIDE_A] = evr_heap_bytes(size);
	fd = evr_control(O_RDWR, EVERING_IOC_CREATE, &args);
	if (fd < 0)
		return fd;
	return evr_buffer_attach(fd, true, &args.layout, args.token, buffer);
}

EXPORT int evering_buffer_open(const char *name, uint64_t token, int flags,
			       struct evering_buffer **buffer)
{
	bool writable = flags == O_RDWR;
	struct evering_open args = {
		.size = sizeof(args),
		.kind = EVERING_KIND_BUFFER,
		.side = writable ? EVERING_SIDE_A : EVERING_SIDE_B,
		.token = token,
	};
	int fd, ret;

	if (flags != O_RDWR && flags != O_RDONLY)
		return -EINVAL;
	ret = evr_copy_name(args.name, name);
	if (ret)
		return ret;
	fd = evr_control(flags, EVERING_IOC_OPEN, &args);
	if (fd < 0)
		return fd;
	return evr_buffer_attach(fd, writable, &args.layout, args.token, buffer);
}

EXPORT int evering_buffer_from_fd(int fd, struct evering_buffer **buffer)
{
	struct evering_info info = { .size = sizeof(info) };
	int ret;

	ret = evr_ioctl(fd, EVERING_IOC_INFO, &info);
	if (!ret && info.kind != EVERING_KIND_BUFFER)
		ret = -EPROTOTYPE;
	if (ret) {
		close(fd);
		return ret;
	}
	return evr_buffer_attach(fd, !info.read_only, &info.layout, info.token,
				 buffer);
}

EXPORT int evering_buffer_dup(const struct evering_buffer *buffer)
{
	struct evering_dup args = { .size = sizeof(args) };

	return evr_ioctl(buffer->fd, EVERING_IOC_DUP, &args);
}

EXPORT void evering_buffer_close(struct evering_buffer *buffer)
{
	if (!buffer)
		return;
	munmap(buffer->section, buffer->section_size);
	close(buffer->fd);
	free(buffer);
}

EXPORT const void *evering_buffer_data(const struct evering_buffer *buffer)
{
	return buffer->data;
}

EXPORT void *evering_buffer_writable(struct evering_buffer *buffer)
{
	return buffer->writable ? buffer->data : NULL;
}

EXPORT uint64_t evering_buffer_size(const struct evering_buffer *buffer)
{
	return buffer->size;
}

EXPORT uint64_t evering_buffer_token(const struct evering_buffer *buffer)
{
	return buffer->token;
}

EXPORT int evering_buffer_fd(const struct evering_buffer *buffer)
{
	return buffer->fd;
}

EXPORT int evering_unlink(const char *name, uint64_t token)
{
	struct evering_unlink args = { .size = sizeof(args), .token = token };
	int ret;

	ret = evr_copy_name(args.name, name);
	return ret ? ret : evr_control(O_RDWR, EVERING_IOC_UNLINK, &args);
}
