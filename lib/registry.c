/* SPDX-License-Identifier: MIT OR LGPL-2.1 */
/* Reading the registry, which the kernel alone writes. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"

/* A kernel that changes one entry all the time is not what stops us. */
#define MOST_TRIES	(1U << 20)

EXPORT int evering_registry_open(struct evering_registry_view **out)
{
	struct evering_query query = { .size = sizeof(query) };
	struct evering_registry_view *view;
	void *at;
	int fd, ret;

	view = calloc(1, sizeof(*view));
	if (!view)
		return -ENOMEM;
	fd = evr_open_control(O_RDONLY);
	if (fd < 0) {
		free(view);
		return fd;
	}
	ret = evr_ioctl(fd, EVERING_IOC_QUERY, &query);
	/* Not evr_map(): it would make pages for entries that nobody has used. */
	if (!ret) {
		at = mmap(NULL, query.registry_bytes, PROT_READ, MAP_SHARED, fd, 0);
		if (at == MAP_FAILED)
			ret = -errno;
	}
	close(fd);
	if (ret) {
		free(view);
		return ret;
	}
	view->header = at;
	view->bytes = query.registry_bytes;
	if (view->header->magic != EVERING_REGISTRY_MAGIC ||
	    view->header->version != EVERING_REGISTRY_VERSION) {
		evering_registry_close(view);
		return -EPROTO;
	}
	*out = view;
	return 0;
}

EXPORT void evering_registry_close(struct evering_registry_view *view)
{
	if (!view)
		return;
	munmap((void *)(uintptr_t)view->header, view->bytes);
	free(view);
}

EXPORT const struct evering_registry *
evering_registry_header(const struct evering_registry_view *view)
{
	return view->header;
}

EXPORT uint64_t evering_registry_epoch(const struct evering_registry_view *view)
{
	/* pairs with the kernel's release of global_epoch after a state */
	return load_acquire(&view->header->global_epoch);
}

/* Word by word: the kernel may be writing. */
static void evr_copy_words(void *to, const void *from, size_t bytes)
{
	const uint32_t *words = from;
	size_t i;

	for (i = 0; i < bytes / sizeof(*words); i++) {
		uint32_t word = load_once(&words[i]);

		memcpy((char *)to + i * sizeof(word), &word, sizeof(word));
	}
}

/* A copy of one entry as it was at one moment. */
static int evr_entry_copy(const struct evering_registry_view *view,
			  uint32_t index, struct evering_registry_entry *copy)
{
	const struct evering_registry *header = view->header;
	const struct evering_registry_entry *entry = (const void *)
		((const char *)header + header->entries_offset +
		 (uint64_t)index * header->entry_size);
	unsigned int i;

	for (i = 0; i < MOST_TRIES; i++) {
		/* pairs with the kernel's barrier after the sequence is odd */
		uint32_t seq = load_acquire(&entry->seq);

		if (!(seq & 1)) {
			evr_copy_words(copy, entry, sizeof(*copy));
			/* pairs with the kernel's before it is even again */
			__atomic_thread_fence(__ATOMIC_ACQUIRE);
			if (load_once(&entry->seq) == seq)
				return 0;
		}
		if (i % 64 == 63)
			sched_yield();
	}
	return -EAGAIN;
}

EXPORT int evering_registry_for_each(const struct evering_registry_view *view,
				     int (*fn)(const struct evering_registry_entry *entry,
					       void *arg),
				     void *arg)
{
	struct evering_registry_entry entry;
	uint32_t i;
	int ret;

	for (i = 0; i < load_once(&view->header->used); i++) {
		ret = evr_entry_copy(view, i, &entry);
		if (!ret && entry.state != EVERING_ENTRY_FREE)
			ret = fn(&entry, arg);
		if (ret)
			return ret;
	}
	return 0;
}

EXPORT int evering_registry_find(const struct evering_registry_view *view,
				 uint64_t token,
				 struct evering_registry_entry *entry)
{
	uint32_t index = EVERING_TOKEN_INDEX(token);
	int ret;

	if (!token || token >= load_once(&view->header->next_token))
		return -ENOENT;
	if (index >= load_once(&view->header->used))
		return -ENOENT;
	ret = evr_entry_copy(view, index, entry);
	if (ret)
		return ret;
	if (entry->token != token || entry->state != EVERING_ENTRY_ACTIVE)
		return -ESTALE;
	return 0;
}

struct evr_wanted {
	const char *name;
	struct evering_registry_entry *entry;
};

static int evr_has_name(const struct evering_registry_entry *entry, void *arg)
{
	struct evr_wanted *wanted = arg;

	if (!(entry->flags & EVERING_ENTRY_NAMED) ||
	    entry->state != EVERING_ENTRY_ACTIVE ||
	    strncmp(entry->name, wanted->name, sizeof(entry->name)) != 0)
		return 0;
	*wanted->entry = *entry;
	return 1;
}

EXPORT int evering_registry_find_name(const struct evering_registry_view *view,
				      const char *name,
				      struct evering_registry_entry *entry)
{
	struct evr_wanted wanted = { .name = name, .entry = entry };
	int ret = evering_registry_for_each(view, evr_has_name, &wanted);

	if (ret < 0)
		return ret;
	return ret ? 0 : -ENOENT;
}
