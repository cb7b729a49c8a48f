/* SPDX-License-Identifier: MIT OR LGPL-2.1 */
/* The sections of an endpoint: mapped, and the rings in them found. */
#include <errno.h>
#include <sys/mman.h>

#include "internal.h"
#include "multi.h"

void evr_unmap_sections(const struct evr_memory *m, unsigned int side,
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

static int evr_map_section(int fd, const struct evering_layout *layout,
			   unsigned int section, int prot, void **at)
{
	return evr_map(fd, layout->section_size[section], prot,
		       EVERING_MMAP_OFFSET(section), at);
}

/*
 * What heals the rings and what uses them must agree to the letter: with a module of
 * another version entries would be lost, and nobody told.
 */
int evr_map_header(int fd, const struct evering_layout *layout,
		   const struct evering_header **header)
{
	void *at;
	int ret = evr_map_section(fd, layout, EVERING_SECTION_HEADER, PROT_READ,
				  &at);

	if (ret)
		return ret;
	*header = at;
	return (*header)->abi_version == EVERING_ABI_VERSION ? 0 :
							       -EPROTONOSUPPORT;
}

/* All of them or none. */
int evr_map_sections(int fd, unsigned int side,
		     const struct evering_layout *layout, struct evr_memory *m)
{
	void *own = NULL, *peer = NULL;
	int ret;

	*m = (struct evr_memory){ 0 };
	/* The own section first: from then on a SIGKILL is noticed at once. */
	ret = evr_map_section(fd, layout, EVERING_SECTION_A + side,
			      PROT_READ | PROT_WRITE, &own);
	m->own = own;
	if (!ret)
		ret = evr_map_header(fd, layout, &m->header);
	if (!ret)
		ret = evr_map_section(fd, layout, EVERING_SECTION_A + !side,
				      PROT_READ, &peer);
	m->peer = peer;
	if (ret)
		evr_unmap_sections(m, side, layout);
	return ret;
}

void evr_ring_geometry(struct ring_geometry *g,
		       const struct evering_layout *layout, unsigned int ring)
{
	g->entries = layout->geometry.entries[ring];
	g->mask = g->entries - 1;
	g->lap_shift = (unsigned int)__builtin_ctzll(g->entries);
	g->slot_shift =
		(unsigned int)__builtin_ctz(layout->geometry.slot_size[ring]);
}

/* As seen by @owner of @side, which is many; it never writes to @m->peer. */
void evr_multi_ring(struct multi_ring *r, const struct evering_layout *layout,
		    const struct evr_memory *m, unsigned int side,
		    unsigned int ring, unsigned int owner, bool lease)
{
	char *peer = (char *)(uintptr_t)m->peer;
	char *makes = side == ring ? m->own : peer;
	char *takes = side == ring ? peer : m->own;
	struct evering_control *producers = (void *)makes;
	struct evering_control *consumers = (void *)takes;
	uint64_t claims = layout->claims_offset[ring];

	*r = (struct multi_ring){
		.slots = makes + layout->slots_offset[ring],
		.claims = claims ? (uint64_t *)(void *)(takes + claims) : NULL,
		.tail = (uint64_t *)&producers->tail,
		.head = (uint64_t *)&consumers->head,
		.closed = &producers->closed,
		.orphan_seq = (uint64_t *)&consumers->orphan_seq,
		.owner = owner,
		.lease = lease,
	};
	evr_ring_geometry(&r->g, layout, ring);
}

/* What @fd is, where it is of @kind. */
int evr_get_info(int fd, unsigned int kind, struct evering_info *info)
{
	int ret;

	*info = (struct evering_info){ .size = sizeof(*info) };
	ret = evr_ioctl(fd, EVERING_IOC_INFO, info);
	if (!ret && info->kind != kind)
		ret = -EPROTOTYPE;
	return ret;
}
