/* SPDX-License-Identifier: MIT OR LGPL-2.1 */
/* Services and endpoints of /dev/evering. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "shared.h"

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
	int ret = evr_ioctl(ep->fd, EVERING_IOC_ENTER, args);

	if (ret > 0 && (ret & EVERING_READY_ORPHANS) && ep->shared)
		multi_expect_orphans(&ep->shared->in);
	return ret;
}

static void evr_device_detach(struct evering *ep)
{
	evr_unmap_sections(&ep->memory, ep->side, &ep->layout);
	close(ep->fd);
}

static const struct evr_backend evr_device = {
	.enter = evr_device_enter,
	.detach = evr_device_detach,
};

/* One of many has a name, which only the kernel knows. */
static int evr_join(struct evering *ep)
{
	struct evering_info info;
	int ret;

	if (!ep->layout.claims_offset[!ep->side])
		return 0;
	ret = evr_get_info(ep->fd, EVERING_KIND_CHANNEL, &info);
	if (ret)
		return ret;
	return evr_shared_new(ep, info.owner,
			      info.uring_flags & EVERING_URING_LEASE);
}

/* Takes @fd, also where it fails. */
static int evr_attach(int fd, unsigned int side,
		      const struct evering_layout *layout, uint64_t token,
		      struct evering **out)
{
	struct evr_memory memory;
	struct evering *ep;
	int ret;

	ret = evr_map_sections(fd, side, layout, &memory);
	if (ret)
		goto close;
	ret = evr_endpoint_new(side, layout, &memory, &evr_device, &ep);
	if (ret)
		goto unmap;
	ep->fd = fd;
	ep->token = token;
	ret = evr_join(ep);
	if (ret) {
		evering_close(ep);
		return ret;
	}
	*out = ep;
	return 0;

unmap:
	evr_unmap_sections(&memory, side, layout);
close:
	close(fd);
	return ret;
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
		if (params->__resv || params->reserved)
			return -EINVAL;
		args.flags = params->flags;
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
	ret = evr_control(O_RDWR, EVERING_IOC_LISTEN, &args);
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

static int evr_connect(const char *name, const struct evering_geometry *geometry,
		       unsigned int flags, struct evering **ep)
{
	struct evering_connect args = {
		.size = sizeof(args),
		.flags = flags,
		.geometry = geometry ? *geometry : evr_default_geometry,
	};
	int fd, ret;

	ret = evr_copy_name(args.name, name);
	if (ret)
		return ret;
	fd = evr_control(O_RDWR, EVERING_IOC_CONNECT, &args);
	if (fd < 0)
		return fd;
	return evr_attach(fd, EVERING_SIDE_A, &args.layout, args.token, ep);
}

EXPORT int evering_connect(const char *name,
			   const struct evering_geometry *geometry,
			   struct evering **ep)
{
	return evr_connect(name, geometry, 0, ep);
}

EXPORT int evering_connect_multi(const char *name,
				 const struct evering_geometry *geometry,
				 struct evering **ep)
{
	return evr_connect(name, geometry, EVERING_URING_MULTI_A, ep);
}

/* --------------------------------------------------------- without service */

EXPORT int evering_channel_create(const char *name, uint32_t mode,
				  const struct evering_geometry *geometry,
				  unsigned int flags, struct evering **ep)
{
	struct evering_create args = {
		.size = sizeof(args),
		.flags = flags,
		.kind = EVERING_KIND_CHANNEL,
		.mode = mode,
		.side = EVERING_SIDE_A,
		.geometry = geometry ? *geometry : evr_default_geometry,
	};
	int fd, ret;

	ret = evr_copy_name(args.name, name);
	if (ret)
		return ret;
	fd = evr_control(O_RDWR, EVERING_IOC_CREATE, &args);
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
	fd = evr_control(O_RDWR, EVERING_IOC_OPEN, &args);
	if (fd < 0)
		return fd;
	return evr_attach(fd, EVERING_SIDE_B, &args.layout, args.token, ep);
}

EXPORT int evering_channel_from_fd(int fd, struct evering **ep)
{
	struct evering_info info;
	int ret;

	ret = evr_get_info(fd, EVERING_KIND_CHANNEL, &info);
	if (ret) {
		close(fd);
		return ret;
	}
	return evr_attach(fd, info.side, &info.layout, info.token, ep);
}

/* ---------------------------------------------------------------- endpoint */

EXPORT int evering_dup(const struct evering *ep)
{
	struct evering_dup args = { .size = sizeof(args) };

	return evr_ioctl(ep->fd, EVERING_IOC_DUP, &args);
}

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
