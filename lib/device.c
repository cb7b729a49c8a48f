/* SPDX-License-Identifier: MIT OR LGPL-2.1 */
/* What is asked of /dev/evering, and mapped from it. */
#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"

#define DEVICE "/dev/evering"

int evr_ioctl(int fd, unsigned long request, const void *args)
{
	int ret = ioctl(fd, request, args);

	return ret < 0 ? -errno : ret;
}

/* To read is enough to look at the registry, and to open what is read-only. */
int evr_open_control(int flags)
{
	int fd = open(DEVICE, flags | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/* One request to the control device, opened with @flags. */
int evr_control(int flags, unsigned long request, const void *args)
{
	int fd, ret;

	fd = evr_open_control(flags);
	if (fd < 0)
		return fd;
	ret = evr_ioctl(fd, request, args);
	close(fd);
	return ret;
}

/* NULL is the empty name.  @to has EVERING_NAME_MAX + 1 bytes. */
int evr_copy_name(char *to, const char *name)
{
	size_t len = name ? strlen(name) : 0;

	if (len > EVERING_NAME_MAX)
		return -ENAMETOOLONG;
	if (len)
		memcpy(to, name, len);
	to[len] = 0;
	return 0;
}

int evr_map(int fd, uint64_t size, int prot, uint64_t offset, void **at)
{
	void *p;

	/* MAP_POPULATE: faults now rather than in the middle of a message. */
	p = mmap(NULL, size, prot, MAP_SHARED | MAP_POPULATE, fd, (off_t)offset);
	if (p == MAP_FAILED)
		return -errno;
	*at = p;
	return 0;
}
