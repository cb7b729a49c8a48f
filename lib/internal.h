/* SPDX-License-Identifier: MIT OR LGPL-2.1 */
/* An endpoint as the library sees it, and the seams between its files. */
#ifndef EVERING_LIB_INTERNAL_H
#define EVERING_LIB_INTERNAL_H

#include "evering.h"
#include "ring.h"
#include "spin.h"

#define EXPORT __attribute__((visibility("default")))

#define EVR_BRIEF_SPINS		32U

struct evr_shared;
struct evr_heap;

/**
 * struct evr_backend - what is behind the shared memory
 * @enter:	EVERING_IOC_ENTER; returns EVERING_READY_* or -errno
 * @detach:	the sections and whatever else @attach brought; may be NULL
 */
struct evr_backend {
	int (*enter)(struct evering *ep, const struct evering_enter *args);
	void (*detach)(struct evering *ep);
};

/**
 * struct evr_memory - where an endpoint's sections are mapped
 * @header:	section HEADER, read-only
 * @own:	the section that this side writes
 * @peer:	the other one, read-only
 */
struct evr_memory {
	const struct evering_header *header;
	void *own;
	const void *peer;
};

/**
 * struct evering - an endpoint
 * @out:	the ring that this side produces
 * @in:		the ring that it consumes
 * @side:	EVERING_SIDE_*
 * @error:	0, or -EPROTO for good
 * @peer_state:	in HEADER
 * @control:	the own cursors
 * @peer_control: the peer's
 * @generation:	of the peer, as first seen
 * @spin:	how long to spin
 * @stats:	counters
 * @own_heap:	base of the own heap, or NULL
 * @peer_heap:	base of the peer's heap, or NULL
 * @heap:	NULL, or the books of the own heap
 * @in_flight:	requests that have a block of it
 * @released:	blocks of the peer's heap handed back so far
 * @layout:	private copy; the one in HEADER is not read
 * @token:	of the uring
 * @memory:	as mapped
 * @usual:	nobody is many, and slots are of 64 bytes: see exchange.h
 * @shared:	NULL, or its share in what the side has together
 * @peers_many:	the other side is shared
 * @fd:		of the backend
 * @backend:	its functions
 */
struct evering {
	struct ring_out out;
	struct ring_in in;
	unsigned int side;
	int error;
	bool usual;
	bool peers_many;
	struct evr_shared *shared;
	const struct evering_side_words *peer_state;
	struct evering_control *control;
	const struct evering_control *peer_control;
	uint32_t generation;
	struct evr_spin spin;
	struct evering_stats stats;
	char *own_heap;
	const char *peer_heap;
	struct evr_heap *heap;
	uint32_t in_flight;
	uint64_t released;
	struct evering_layout layout;
	uint64_t token;
	struct evr_memory memory;
	int fd;
	const struct evr_backend *backend;
};

/**
 * struct evering_registry_view - the registry, mapped
 * @header:	where it begins
 * @bytes:	of the mapping
 */
struct evering_registry_view {
	const struct evering_registry *header;
	uint64_t bytes;
};

/* device.c */
int evr_ioctl(int fd, unsigned long request, const void *args);
int evr_open_control(int flags);
int evr_control(int flags, unsigned long request, const void *args);
int evr_copy_name(char *to, const char *name);
int evr_map(int fd, uint64_t size, int prot, uint64_t offset, void **at);

#define EVR_HEAP_ALIGN	4096U

/* Bytes of a heap for @bytes; 0: none, or too many. */
static inline uint64_t evr_heap_bytes(uint64_t bytes)
{
	if (bytes > UINT64_MAX - EVR_HEAP_ALIGN)
		return 0;
	return (bytes + EVR_HEAP_ALIGN - 1) & ~(uint64_t)(EVR_HEAP_ALIGN - 1);
}

/* sections.c */
struct multi_ring;
int evr_map_header(int fd, const struct evering_layout *layout,
		   const struct evering_header **header);
int evr_map_sections(int fd, unsigned int side,
		     const struct evering_layout *layout, struct evr_memory *m);
void evr_unmap_sections(const struct evr_memory *m, unsigned int side,
			const struct evering_layout *layout);
void evr_ring_geometry(struct ring_geometry *g,
		       const struct evering_layout *layout, unsigned int ring);
void evr_multi_ring(struct multi_ring *r, const struct evering_layout *layout,
		    const struct evr_memory *m, unsigned int side,
		    unsigned int ring, unsigned int owner, bool lease);
int evr_get_info(int fd, unsigned int kind, struct evering_info *info);

/* endpoint.c */
unsigned int evr_default_spin(void);
int evr_endpoint_new(unsigned int side, const struct evering_layout *layout,
		     const struct evr_memory *memory,
		     const struct evr_backend *backend, struct evering **ep);

/* heap.c */
void evr_heap_destroy(struct evering *ep);

/* lend.c */
void evr_heap_completed(struct evering *ep, unsigned int nr);
void evr_heap_cancelled(struct evering *ep, uint64_t pos);

/* type.c */
bool evr_type_ok(const struct evering_type *type);
bool evr_type_fits(const struct evering_type *type, size_t len);
bool evr_type_aligned(const struct evering_type *type, const void *values);

/* wait.c */
uint64_t evr_now(void);
static inline bool evr_timeout_ok(const struct timespec *timeout)
{
	return !timeout ||
	       (timeout->tv_nsec >= 0 && timeout->tv_nsec < 1000000000);
}

uint64_t evr_deadline(const struct timespec *timeout);
int evr_enter(struct evering *ep, unsigned int flags, unsigned int wait_nr,
	      uint64_t deadline);
int evr_end(const struct evering *ep);
int evr_wait_entries(struct evering *ep, unsigned int wait_nr, bool wake,
		     uint64_t deadline);
int evr_wait_space(struct evering *ep, unsigned int side,
		   const struct timespec *timeout);

/* exchange.c */
int evr_ring_doorbell(struct evering *ep);
int evr_submit(struct evering *ep, unsigned int side);
int evr_submitted_wait(struct evering *ep, void *entry, unsigned int wait_nr,
		       const struct timespec *timeout, bool due, int submitted);
int evr_submit_and_wait_any(struct evering *ep, unsigned int side, void *entry,
			    unsigned int wait_nr,
			    const struct timespec *timeout);
int evr_wait_any(struct evering *ep, unsigned int side, void *entry,
		 unsigned int wait_nr, const struct timespec *timeout);
int evr_cancel(struct evering *ep, unsigned int side, const void *slot);
int evr_peek_again(struct evering *ep, enum evering_slot_state state,
		   unsigned int nr);

#endif /* EVERING_LIB_INTERNAL_H */
