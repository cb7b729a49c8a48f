/* SPDX-License-Identifier: MIT OR LGPL-2.1 */
/* Services and endpoints of /dev/evering. */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"

#define DEFAULT_MODE	0200
#define DEFAULT_BACKLOG	128
#define DEFAULT_ENTRIES	128

struct evering_service {
	int fd;
};

static const struct evering_geometry evr_default_geometry = {
	.entries = { DEFAULT_ENTRIES, DEFAULT_ENTRIES },
	.slot_size = { EVERING_MIN_SLOT_SIZE, EVERING_MIN_SLOT_SIZE },
};

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

static int evr_map_section(int fd, const struct evering_layout *layout,
			   unsigned int section, int prot, void **at)
{
	return evr_map(fd, layout->section_size[section], prot,
		       EVERING_MMAP_OFFSET(section), at);
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
	ret = evr_map_section(fd, layout, EVERING_SECTION_A + side,
			      PROT_READ | PROT_WRITE, &own);
	if (!ret)
		ret = evr_map_section(fd, layout, EVERING_SECTION_HEADER,
				      PROT_READ, &header);
	if (!ret)
		ret = evr_map_section(fd, layout, EVERING_SECTION_A + !side,
				      PROT_READ, &peer);
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
		.geometry = geometry ? *geometry : evr_default_geometry,
	};
	int fd, ret;

	ret = evr_copy_name(args.name, name);
	if (ret)
		return ret;
	fd = evr_control(EVERING_IOC_CONNECT, &args);
	if (fd < 0)
		return fd;
	return evr_attach(fd, EVERING_SIDE_A, &args.layout, args.token, ep);
}

/* --------------------------------------------------------- without service */

EXPORT int evering_channel_create(const char *name, uint32_t mode,
				  const struct evering_geometry *geometry,
				  struct evering **ep)
{
	struct evering_create args = {
		.size = sizeof(args),
		.kind = EVERING_KIND_CHANNEL,
		.mode = mode,
		.side = EVERING_SIDE_A,
		.geometry = geometry ? *geometry : evr_default_geometry,
	};
	int fd, ret;

	ret = evr_copy_name(args.name, name);
	if (ret)
		return ret;
	fd = evr_control(EVERING_IOC_CREATE, &args);
	if (fd < 0)
		return fd;
	return evr_attach(fd, EVERING_SIDE_A, &args.layout, args.token, ep);
}

EXPORT int evering_channel_open(const char *name, uint64_t token,
				struct evering **ep)
{
	struct evering_open args = {
		.size = sizeof(args),
		.kind = EVERING_KIND_CHANNEL,
		.side = EVERING_SIDE_B,
		.token = token,
	};
	int fd, ret;

	ret = evr_copy_name(args.name, name);
	if (ret)
		return ret;
	fd = evr_control(EVERING_IOC_OPEN, &args);
	if (fd < 0)
		return fd;
	return evr_attach(fd, EVERING_SIDE_B, &args.layout, args.token, ep);
}

EXPORT int evering_channel_from_fd(int fd, struct evering **ep)
{
	struct evering_info info = { .size = sizeof(info) };
	int ret;

	ret = evr_ioctl(fd, EVERING_IOC_INFO, &info);
	if (!ret && info.kind != EVERING_KIND_CHANNEL)
		ret = -EPROTOTYPE;
	if (ret) {
		close(fd);
		return ret;
	}
	return evr_attach(fd, info.side, &info.layout, info.token, ep);
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
