/* SPDX-License-Identifier: MIT OR LGPL-2.1 */
/* Services and endpoints of /dev/evering. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"

#define DEVICE "/dev/evering"

#define DEFAULT_MODE	0200
#define DEFAULT_BACKLOG	128
#define DEFAULT_ENTRIES	128

struct evering_service {
	int fd;
};

static int evr_ioctl(int fd, unsigned long request, const void *args)
{
	int ret = ioctl(fd, request, args);

	return ret < 0 ? -errno : ret;
}

/* One request to the control device. */
static int evr_control(unsigned long request, const void *args)
{
	int fd, ret;

	fd = open(DEVICE, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ret = evr_ioctl(fd, request, args);
	close(fd);
	return ret;
}

static int evr_copy_name(char *to, const char *name)
{
	size_t len = strlen(name);

	if (len > EVERING_NAME_MAX)
		return -ENAMETOOLONG;
	memcpy(to, name, len + 1);
	return 0;
}

/* ---------------------------------------------------------------- backend */

static int evr_device_enter(struct evering *ep,
			    const struct evering_enter *args)
{
	return evr_ioctl(ep->fd, EVERING_IOC_ENTER, args);
}

static void evr_unmap(const struct evr_memory *m, unsigned int side,
		      const struct evering_layout *layout)
{
	if (m->own)
		munmap(m->own, layout->section_size[EVERING_SECTION_A + side]);
	if (m->peer)
		munmap((void *)(uintptr_t)m->peer,
		       layout->section_size[EVERING_SECTION_A + !side]);
	if (m->header)
		munmap((void *)(uintptr_t)m->header,
		       layout->section_size[EVERING_SECTION_HEADER]);
}

static void evr_device_detach(struct evering *ep)
{
	evr_unmap(&ep->memory, ep->side, &ep->layout);
	close(ep->fd);
}

static const struct evr_backend evr_device = {
	.enter = evr_device_enter,
	.detach = evr_device_detach,
};

static int evr_map(int fd, const struct evering_layout *layout,
		   unsigned int section, int prot, void **at)
{
	void *p;

	/* MAP_POPULATE: faults now rather than in the middle of a message. */
	p = mmap(NULL, layout->section_size[section], prot,
		 MAP_SHARED | MAP_POPULATE, fd,
		 (off_t)EVERING_MMAP_OFFSET(section));
	if (p == MAP_FAILED)
		return -errno;
	*at = p;
	return 0;
}

/* Takes @fd, also where it fails. */
static int evr_attach(int fd, unsigned int side,
		      const struct evering_layout *layout, uint64_t token,
		      struct evering **ep)
{
	void *header = NULL, *own = NULL, *peer = NULL;
	struct evr_memory memory;
	int ret;

	/* The own section first: from then on a SIGKILL is noticed at once. */
	ret = evr_map(fd, layout, EVERING_SECTION_A + side,
		      PROT_READ | PROT_WRITE, &own);
	if (!ret)
		ret = evr_map(fd, layout, EVERING_SECTION_HEADER, PROT_READ,
			      &header);
	if (!ret)
		ret = evr_map(fd, layout, EVERING_SECTION_A + !side, PROT_READ,
			      &peer);
	memory.header = header;
	memory.own = own;
	memory.peer = peer;
	if (!ret)
		ret = evr_endpoint_new(side, layout, &memory, &evr_device, ep);
	if (ret) {
		evr_unmap(&memory, side, layout);
		close(fd);
		return ret;
	}
	(*ep)->fd = fd;
	(*ep)->token = token;
	return 0;
}

/* ----------------------------------------------------------------- service */

EXPORT int evering_listen(const char *name,
			  const struct evering_service_params *params,
			  struct evering_service **out)
{
	struct evering_listen args = {
		.size = sizeof(args),
		.mode = DEFAULT_MODE,
		.backlog = DEFAULT_BACKLOG,
	};
	struct evering_service *service;
	int ret;

	if (params) {
		if (params->reserved[0] || params->reserved[1])
			return -EINVAL;
		args.mode = params->mode;
		args.backlog = params->backlog;
		args.max_entries = params->max_entries;
		args.max_slot_size = params->max_slot_size;
		args.max_heap_size = params->max_heap_size;
	}
	ret = evr_copy_name(args.name, name);
	if (ret)
		return ret;
	service = malloc(sizeof(*service));
	if (!service)
		return -ENOMEM;
	ret = evr_control(EVERING_IOC_LISTEN, &args);
	if (ret < 0) {
		free(service);
		return ret;
	}
	service->fd = ret;
	*out = service;
	return 0;
}

EXPORT int evering_service_fd(const struct evering_service *service)
{
	return service->fd;
}

EXPORT void evering_service_close(struct evering_service *service)
{
	if (!service)
		return;
	close(service->fd);
	free(service);
}

EXPORT int evering_accept_timeout(struct evering_service *service,
				  struct evering **ep,
				  const struct timespec *timeout)
{
	struct evering_accept args = { .size = sizeof(args) };
	int fd;

	if (!evr_timeout_ok(timeout))
		return -EINVAL;
	args.deadline = evr_deadline(timeout);
	if (!args.deadline)
		args.flags = EVERING_ACCEPT_NONBLOCK;
	fd = evr_ioctl(service->fd, EVERING_IOC_ACCEPT, &args);
	if (fd < 0)
		return fd;
	return evr_attach(fd, EVERING_SIDE_B, &args.layout, args.token, ep);
}

EXPORT int evering_accept(struct evering_service *service, struct evering **ep)
{
	return evering_accept_timeout(service, ep, NULL);
}

/* ------------------------------------------------------------------ client */

EXPORT int evering_connect(const char *name,
			   const struct evering_geometry *geometry,
			   struct evering **ep)
{
	struct evering_connect args = {
		.size = sizeof(args),
		.geometry = {
			.entries = { DEFAULT_ENTRIES, DEFAULT_ENTRIES },
			.slot_size = { EVERING_MIN_SLOT_SIZE,
				       EVERING_MIN_SLOT_SIZE },
		},
	};
	int fd, ret;

	ret = evr_copy_name(args.name, name);
	if (ret)
		return ret;
	if (geometry)
		args.geometry = *geometry;
	fd = evr_control(EVERING_IOC_CONNECT, &args);
	if (fd < 0)
		return fd;
	return evr_attach(fd, EVERING_SIDE_A, &args.layout, args.token, ep);
}

/* ---------------------------------------------------------------- endpoint */

EXPORT int evering_shutdown(struct evering *ep, unsigned int how)
{
	struct evering_shutdown args = { .size = sizeof(args), .how = how };

	return evr_ioctl(ep->fd, EVERING_IOC_SHUTDOWN, &args);
}

EXPORT int evering_peer(struct evering *ep, struct evering_peer *peer)
{
	*peer = (struct evering_peer){ .size = sizeof(*peer) };
	return evr_ioctl(ep->fd, EVERING_IOC_PEER, peer);
}
