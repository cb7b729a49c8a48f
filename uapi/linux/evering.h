/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * evering: submission and completion rings between processes.
 *
 * This file is the specification: the ioctls of /dev/evering, the memory of a
 * uring word by word, who writes each word and who reads it.
 *
 * A uring is two rings and two heaps in three sections of shared memory:
 *
 *	HEADER	written by the kernel alone; everybody maps it read-only
 *	A	written by side A, the client; side B maps it read-only
 *	B	written by side B, the server; side A maps it read-only
 *
 * Every word has one writing side.  A peer can lie in its own words and can
 * never damage those of the other side.  Zero-filled sections A and B are a
 * valid, empty uring.  There are no pointers in shared memory.
 *
 * Only 64-bit programs are served: a 32-bit ioctl gets -ENOTTY.  What such a
 * program may map is what any other may; it has no use for it but to read the
 * registry.
 */
#ifndef _UAPI_LINUX_EVERING_H
#define _UAPI_LINUX_EVERING_H

#include <linux/ioctl.h>
#include <linux/types.h>

#ifdef __cplusplus
#define EVERING_STATIC_ASSERT(cond) static_assert(cond, #cond)
#else
#define EVERING_STATIC_ASSERT(cond) _Static_assert(cond, #cond)
#endif
#define EVERING_OFFSET_IS(type, member, offset) \
	EVERING_STATIC_ASSERT(__builtin_offsetof(type, member) == (offset))
#define EVERING_SIZE_IS(type, bytes) \
	EVERING_STATIC_ASSERT(sizeof(type) == (bytes))

#define EVERING_ABI_VERSION	3
#define EVERING_HEADER_MAGIC	0x45565247U	/* "GRVE" in memory */

#define EVERING_NAME_MAX	63	/* bytes in a name, without NUL */
#define EVERING_MAX_ENTRIES	65536U	/* slots in a ring */
#define EVERING_MIN_SLOT_SIZE	64U
#define EVERING_MIN_MULTI	64U	/* slots, where a side is many */
#define EVERING_MAX_SLOT_SIZE	4096U
#define EVERING_MAX_BACKLOG	4096U	/* connections that wait for ACCEPT */

/* Sides, and the rings they produce: A writes the SQ, B writes the CQ. */
#define EVERING_SIDE_A		0	/* client, submitter */
#define EVERING_SIDE_B		1	/* server, completer */
#define EVERING_RING_SQ		0
#define EVERING_RING_CQ		1

/* Sections, in the order of their mmap offsets on an endpoint. */
#define EVERING_SECTION_HEADER	0
#define EVERING_SECTION_A	1
#define EVERING_SECTION_B	2
/*
 * Each is mapped whole, MAP_SHARED: its own once, to read and write, the others
 * to read.  An endpoint belongs to the process that maps it first, and
 * is dead when its own section is unmapped or no section is mapped any more.
 * "Process" means its memory: a vfork() child that has not yet called exec
 * shares it and keeps it.
 */
#define EVERING_MMAP_SHIFT	40
#define EVERING_MMAP_OFFSET(section) ((__u64)(section) << EVERING_MMAP_SHIFT)

/* ------------------------------------------------------------------ slots */

/*
 * A slot is a stamp and an entry.  Positions count entries from 0 and never
 * wrap; position p lives in slot p & (entries - 1) in lap
 * (p >> log2(entries)) + 1, so that a zero stamp is lap 0: never written.
 *
 *	stamp = lap << 22 | (count - 1) << 14 | owner << 2 | state
 *
 * The producer stores the stamp last (release); the consumer loads it first
 * (acquire).  count is 1 and owner is 0 where a side is a single producer.
 */
#define EVERING_EMPTY		0U	/* lap 0 only */
#define EVERING_RESERVED	1U	/* its owner is writing */
#define EVERING_COMMITTED	2U
#define EVERING_SKIPPED		3U	/* carries nothing: step over it */
#define EVERING_STATE_MASK	3U

#define EVERING_LAP_SHIFT	22
#define EVERING_COUNT_SHIFT	14
#define EVERING_OWNER_SHIFT	2
#define EVERING_LAP_MASK	((((__u64)1) << (64 - EVERING_LAP_SHIFT)) - 1)

static inline __u64 evering_lap(__u64 pos, unsigned int log2_entries)
{
	return ((pos >> log2_entries) + 1) & EVERING_LAP_MASK;
}

/* The stamp of a single producer: count 1, owner 0. */
static inline __u64 evering_stamp(__u64 lap, unsigned int state)
{
	return lap << EVERING_LAP_SHIFT | state;
}

/*
 * Where the consumers of a ring are many, each slot also has a claim word of the
 * same form, in the consumers' section.
 */
#define EVERING_IDLE		0U	/* consumed up to this lap */
#define EVERING_TAKEN		1U	/* its owner is reading */
#define EVERING_ORPHAN		2U	/* a lease that was given back: take it again */
#define EVERING_RETAKEN		3U	/* its owner is reading what was an ORPHAN */

/*
 * Where a side is many, a word says whose it is, and how many slots, from its
 * own on, were claimed with it.  Only the first slot of a claim is marked
 * RESERVED or TAKEN; it is the last to be marked as done, with the same count.
 * Done with a count, it answers for all of them, and nobody looks at the others: who
 * leaves one of them not done, an ORPHAN, leaves the first one with count 1.
 */
#define EVERING_MAX_OWNER	4095U
#define EVERING_MAX_COUNT	256U

static inline __u64 evering_word(__u64 lap, unsigned int count,
				 unsigned int owner, unsigned int state)
{
	return lap << EVERING_LAP_SHIFT |
	       (__u64)(count - 1) << EVERING_COUNT_SHIFT |
	       (__u64)owner << EVERING_OWNER_SHIFT | state;
}

static inline unsigned int evering_word_state(__u64 word)
{
	return (unsigned int)word & EVERING_STATE_MASK;
}

static inline unsigned int evering_word_owner(__u64 word)
{
	return (unsigned int)(word >> EVERING_OWNER_SHIFT) & EVERING_MAX_OWNER;
}

static inline unsigned int evering_word_count(__u64 word)
{
	return ((unsigned int)(word >> EVERING_COUNT_SHIFT) &
		(EVERING_MAX_COUNT - 1)) + 1;
}

/*
 * Slots of the claim that claim word @word begins.  An ORPHAN, and what has been
 * taken again, is one slot, whose count says how often it has been delivered;
 * EVERING_MAX_COUNT: as often, or more.
 */
static inline unsigned int evering_claim_slots(__u64 word)
{
	return evering_word_state(word) & EVERING_ORPHAN ? 1 :
		evering_word_count(word);
}

/* Laps from @lap to that of @word; laps wrap around. */
static inline __s64 evering_word_ahead(__u64 word, __u64 lap)
{
	return (__s64)(word - (lap << EVERING_LAP_SHIFT)) >> EVERING_LAP_SHIFT;
}

/* What a consumer at a slot of lap @lap may conclude from its stamp. */
enum evering_slot_state {
	EVERING_SLOT_NOT_YET,	/* nothing there: wait */
	EVERING_SLOT_READY,	/* an entry: take it */
	EVERING_SLOT_SKIP,	/* nothing, and it will stay so: step over */
	EVERING_SLOT_LIE,	/* no honest producer leaves this: -EPROTO */
};

/*
 * The one rule for library and kernel.  If they judged differently, a lying
 * producer could make its peer spin between "ready" (kernel) and "empty"
 * (library).
 */
static inline enum evering_slot_state evering_judge(__u64 stamp, __u64 lap)
{
	__u64 ahead = ((stamp >> EVERING_LAP_SHIFT) - lap) & EVERING_LAP_MASK;

	/* Never written, or cleared by a program that clears whole entries. */
	if (!stamp)
		return EVERING_SLOT_NOT_YET;
	if (ahead == 0) {
		switch (stamp & EVERING_STATE_MASK) {
		case EVERING_COMMITTED:
			return EVERING_SLOT_READY;
		case EVERING_SKIPPED:
			return EVERING_SLOT_SKIP;
		case EVERING_RESERVED:
			return EVERING_SLOT_NOT_YET;
		}
		return EVERING_SLOT_LIE;
	}
	/* The lap before is what an honest producer has left there. */
	return ahead == EVERING_LAP_MASK ? EVERING_SLOT_NOT_YET : EVERING_SLOT_LIE;
}

/**
 * struct evering_sqe - a request, in slots of the SQ
 * @stamp:	protocol; not for the program
 * @user_data:	comes back in the completion, unchanged
 * @opcode:	meaning agreed between client and server
 * @flags:	likewise
 * @len:	bytes of payload
 * @offset:	where the payload begins in heap A, or another name for it that the
 *		two have agreed on
 * @data:	inline bytes; slots larger than 64 bytes make it longer
 *
 * In a topic, @user_data is the number of the message, and the second four bytes of
 * @data are what its type is called in tokens.
 */
struct evering_sqe {
	__u64 stamp;
	__u64 user_data;
	__u16 opcode;
	__u16 flags;
	__u32 len;
	__u64 offset;
	__u8 data[32];
};
EVERING_SIZE_IS(struct evering_sqe, 64);
EVERING_OFFSET_IS(struct evering_sqe, offset, 24);
EVERING_OFFSET_IS(struct evering_sqe, data, 32);

/**
 * struct evering_cqe - a completion, in slots of the CQ
 * @stamp:	protocol; not for the program
 * @user_data:	that of the request
 * @res:	result: bytes or a count, or -errno
 * @flags:	meaning agreed between client and server
 * @offset:	where the payload begins in heap B, or another name for it
 * @data:	inline bytes; slots larger than 64 bytes make it longer
 */
struct evering_cqe {
	__u64 stamp;
	__u64 user_data;
	__s32 res;
	__u32 flags;
	__u64 offset;
	__u8 data[32];
};
EVERING_SIZE_IS(struct evering_cqe, 64);
EVERING_OFFSET_IS(struct evering_cqe, offset, 24);
EVERING_OFFSET_IS(struct evering_cqe, data, 32);

/* --------------------------------------------------------------- geometry */

/*
 * What a uring is used for.  A kind is a choice of rings and of who may be on
 * their ends; the memory is laid out by the same rules for all.
 *
 *		SQ	CQ	side A			side B
 *	channel	yes	yes	one, or many: MULTI_A	one, or many: MULTI_B
 *	queue	yes	no	many, each takes slots	many, each takes entries
 *	topic	yes	no	one, publishes		many, read only
 *	buffer	no	no	many, read and write	many, read only
 */
#define EVERING_KIND_CHANNEL	0U
#define EVERING_KIND_QUEUE	1U
#define EVERING_KIND_TOPIC	2U
#define EVERING_KIND_BUFFER	3U
#define EVERING_KIND_ANY	(~(__u32)0)	/* in OPEN */

/*
 * A side of a channel that is many: its endpoints share what they send and what
 * comes for them, each entry going to one of them.
 */
#define EVERING_URING_MULTI_A	(1U << 0)
#define EVERING_URING_MULTI_B	(1U << 1)
/*
 * Where many take entries: an entry stays with its consumer until that is done
 * with it, and if the consumer dies before, another one gets it.  Without this it
 * is lost, and counted.
 */
#define EVERING_URING_LEASE	(1U << 2)

/**
 * struct evering_geometry - the sizes that the creator asks for
 * @entries:	slots of SQ and CQ; powers of two, 1 to EVERING_MAX_ENTRIES, at
 *		least EVERING_MIN_MULTI where a side writes or takes and is many,
 *		and 0 for a ring that the kind does not have
 * @slot_size:	bytes of a slot of SQ and CQ; powers of two, 64 to 4096, and 0
 *		for a ring that the kind does not have
 * @heap_size:	bytes of heap A and heap B; multiples of 4096, may be 0.  Only
 *		channels have a heap B; a buffer is its heap A.
 */
struct evering_geometry {
	__u32 entries[2];
	__u32 slot_size[2];
	__u64 heap_size[2];
};
EVERING_SIZE_IS(struct evering_geometry, 32);

/*
 * The release ring.  Side B lends side A blocks of its heap, and side A hands each
 * back by a word that says which; what the word means is agreed between the two.
 * The n-th one lies at n & (entries - 1).  Side B lends no more blocks than there are
 * entries, so that none is overwritten before it has been read, and where it reads
 * is nobody else's business.
 */
#define EVERING_GRANULE		128U	/* no block is smaller */
#define EVERING_MAX_RELEASES	4096U

/* Entries, of 8 bytes, for a heap B of @heap_size bytes: a power of two. */
static inline __u32 evering_release_entries(__u64 heap_size)
{
	__u32 entries = 1;

	while (entries < EVERING_MAX_RELEASES &&
	       entries < heap_size / EVERING_GRANULE)
		entries *= 2;
	return entries;
}

/**
 * struct evering_layout - where everything lies
 * @geometry:		as created
 * @section_size:	bytes to map of HEADER, A and B; whole pages
 * @slots_offset:	of the SQ in section A, of the CQ in section B
 * @heap_offset:	of heap A in section A, of heap B in section B
 * @claims_offset:	of the claim words of the SQ in section B, of those of the
 *			CQ in section A; 0 where there are none
 * @release_offset:	of the release ring of heap B, in section A; 0 where there is
 *			none: without a heap B, and where side A is many
 */
struct evering_layout {
	struct evering_geometry geometry;
	__u64 section_size[3];
	__u64 slots_offset[2];
	__u64 heap_offset[2];
	__u64 claims_offset[2];
	__u64 release_offset;
};
EVERING_SIZE_IS(struct evering_layout, 112);

/* ---------------------------------------------------------- section HEADER */

#define EVERING_NOBODY		(~(__u64)0)	/* in wake_at and the like */

/**
 * struct evering_ring_words - who sleeps on one ring; written by the kernel
 * @wake_at:	a consumer sleeps; ring the doorbell for a commit at or beyond
 * @poll_at:	the same for poll, epoll and io_uring poll
 * @healed:	slots that a dead producer had taken, and that are SKIPPED now
 * @lost:	entries that a dead consumer had taken, and that nobody will see
 * @redelivered: entries that a dead consumer had leased, and that are ORPHANs now
 * @space_at:	a producer sleeps for room at this position; ring the doorbell
 *		when head + entries > space_at, or, where consumers are many, the
 *		slot of a position p with p + entries >= space_at is given back
 * @poll_space_at: the same for poll
 *
 * The committing side stores its stamps, then a full barrier, then loads
 * @wake_at and @poll_at; the releasing side stores head, then a full barrier,
 * then loads @space_at and @poll_space_at.  Each pairs with the full barrier
 * between the kernel's store to the word and its look at the ring.
 */
struct evering_ring_words {
	__u64 wake_at;
	__u64 poll_at;
	__u64 healed;
	__u64 lost;
	__u64 redelivered;
	__u64 __resv1[11];
	__u64 space_at;
	__u64 poll_space_at;
	__u64 __resv2[14];
};
EVERING_SIZE_IS(struct evering_ring_words, 256);
EVERING_OFFSET_IS(struct evering_ring_words, space_at, 128);

#define EVERING_STATE_PENDING	0	/* nobody has it: before ACCEPT or OPEN */
#define EVERING_STATE_OPEN	1
#define EVERING_STATE_DEAD	2

/**
 * struct evering_side_words - the state of one side; written by the kernel
 * @state:	EVERING_STATE_*; DEAD is final.  A side that by its kind has many
 *		endpoints is PENDING again when the last of them has gone.
 * @generation:	counts the lives of this side; WAIT takes the one it has seen.
 *		0 where the side may have many endpoints
 */
struct evering_side_words {
	__u32 state;
	__u32 generation;
	__u64 __resv[15];
};
EVERING_SIZE_IS(struct evering_side_words, 128);

/**
 * struct evering_header - section HEADER
 * @magic:	EVERING_HEADER_MAGIC
 * @abi_version: EVERING_ABI_VERSION
 * @token:	of the uring, see struct evering_registry_entry
 * @layout:	as CONNECT and ACCEPT return it
 * @ring:	by EVERING_RING_*
 * @side:	by EVERING_SIDE_*
 */
struct evering_header {
	__u32 magic;
	__u32 abi_version;
	__u64 token;
	struct evering_layout layout;
	__u8 __resv[128];
	struct evering_ring_words ring[2];
	struct evering_side_words side[2];
};
EVERING_OFFSET_IS(struct evering_header, layout, 16);
EVERING_OFFSET_IS(struct evering_header, ring, 256);
EVERING_OFFSET_IS(struct evering_header, side, 768);
EVERING_SIZE_IS(struct evering_header, 1024);

/* ---------------------------------------------------------- sections A, B */

/**
 * struct evering_control - the head of a section; written by its side
 * @tail:	next position this side will commit; a hint, read by the kernel
 *		for poll and fdinfo
 * @floor:	of a topic: what lies before this position is being written over; stored
 *		before the first byte of that is, and never goes back
 * @head:	next position this side will take; store-release, once what lies
 *		before it has been read
 * @closed:	this side submits no more (end of stream)
 * @rclosed:	this side takes no more
 * @orphan_seq:	raised after a claim word of this side became an ORPHAN: its
 *		consumers then look at all of them
 * @release_tail: section A: blocks of heap B that side A has handed back so far, in
 *		the release ring; store-release
 *
 * The slots of the ring that the side produces follow at slots_offset, its
 * heap at heap_offset.
 */
struct evering_control {
	__u64 tail;
	__u64 floor;
	__u64 __resv1[14];
	__u64 head;
	__u64 __resv2[15];
	__u32 closed;
	__u32 rclosed;
	__u64 orphan_seq;
	__u64 __resv3[14];
	__u64 release_tail;
	__u64 __resv4[15];
};
EVERING_OFFSET_IS(struct evering_control, head, 128);
EVERING_OFFSET_IS(struct evering_control, closed, 256);
EVERING_OFFSET_IS(struct evering_control, release_tail, 384);
EVERING_SIZE_IS(struct evering_control, 512);

/* --------------------------------------------------------------- registry */

#define EVERING_REGISTRY_MAGIC	 0x42554652U	/* "RFUB" in memory */
#define EVERING_REGISTRY_VERSION 1U
#define EVERING_MAX_REGISTRY	 65536U		/* entries */

/*
 * A token names a uring in its network namespace.  The low bits are its index
 * in the registry, the others a generation that is never given twice while the
 * module is loaded: a stale token is refused.
 */
#define EVERING_TOKEN_INDEX_BITS 16
#define EVERING_TOKEN_INDEX(token) \
	((__u32)((token) & ((1U << EVERING_TOKEN_INDEX_BITS) - 1)))

#define EVERING_ENTRY_FREE	 0U
#define EVERING_ENTRY_ALLOCATING 1U	/* being made: cannot be opened yet */
#define EVERING_ENTRY_ACTIVE	 2U
#define EVERING_ENTRY_MARKED	 3U	/* for deletion: cannot be opened any more */

#define EVERING_ENTRY_NAMED	 (1U << 0)	/* OPEN finds it by its name */
#define EVERING_ENTRY_CONNECTED	 (1U << 1)	/* by CONNECT: OPEN refuses it */

/**
 * struct evering_registry - what mmap of /dev/evering begins with
 * @magic:	EVERING_REGISTRY_MAGIC
 * @version:	EVERING_REGISTRY_VERSION
 * @capacity:	entries that there can be
 * @entry_size:	bytes from one entry to the next
 * @entries_offset: of entry 0, from the start of the mapping
 * @used:	only entries below this index have ever been used
 * @active_count: entries that are ACTIVE
 * @next_token:	all tokens of this namespace so far are below it
 * @global_epoch: raised after an entry has left ACTIVE, before UNLINK returns and
 *		before its memory goes.  Who reads it, opens a token, and later
 *		finds it unchanged, knows that nobody has been told otherwise.
 *
 * The whole of it is mapped at offset 0, read-only, with the size that QUERY
 * tells.  It is that of the network namespace in which /dev/evering was opened.
 */
struct evering_registry {
	__u32 magic;
	__u32 version;
	__u32 capacity;
	__u32 entry_size;
	__u32 entries_offset;
	__u32 used;
	__u32 active_count;
	__u32 __resv0;
	__u64 next_token;
	__u64 __resv1[11];
	__u64 global_epoch;
	__u64 __resv2[15];
};
EVERING_OFFSET_IS(struct evering_registry, global_epoch, 128);
EVERING_SIZE_IS(struct evering_registry, 256);

/**
 * struct evering_registry_side - one side of an entry
 * @state:	EVERING_STATE_*
 * @endpoints:	that are alive
 * @sleepers:	threads in ENTER; changes at any time
 * @__resv:	0
 */
struct evering_registry_side {
	__u32 state;
	__u32 endpoints;
	__u32 sleepers;
	__u32 __resv;
};

/**
 * struct evering_registry_entry - one uring
 * @seq:	odd while the kernel changes the entry.  Who finds it even and
 *		the same before (acquire) and after (acquire fence) has a
 *		consistent copy, @sleepers apart.
 * @state:	EVERING_ENTRY_*
 * @token:	0 where the entry is FREE
 * @kind:	EVERING_KIND_*
 * @flags:	EVERING_ENTRY_NAMED, while it is ACTIVE; EVERING_ENTRY_CONNECTED
 * @mode:	who may open it: 0200 the owner side A, 0400 side B, and so on
 * @uid:	of the creator, in the user namespace that owns the network
 *		namespace
 * @gid:	likewise
 * @pid:	of the creator, as it saw itself; for people, not for programs
 * @ref_count:	endpoints that are alive, of both sides
 * @__resv0:	0
 * @bytes:	of shared memory
 * @__resv1:	0
 * @geometry:	as created
 * @side:	by EVERING_SIDE_*
 * @name:	its own, or that of the service it was connected to, or empty
 * @__resv2:	0
 */
struct evering_registry_entry {
	__u32 seq;
	__u32 state;
	__u64 token;
	__u32 kind;
	__u32 flags;
	__u32 mode;
	__u32 uid;
	__u32 gid;
	__s32 pid;
	__u32 ref_count;
	__u32 __resv0;
	__u64 bytes;
	__u64 __resv1;
	struct evering_geometry geometry;
	struct evering_registry_side side[2];
	char name[EVERING_NAME_MAX + 1];
	__u64 __resv2[8];
};
EVERING_OFFSET_IS(struct evering_registry_entry, geometry, 64);
EVERING_OFFSET_IS(struct evering_registry_entry, name, 128);
EVERING_SIZE_IS(struct evering_registry_entry, 256);

/* ------------------------------------------------------------------ ioctls */

/*
 * Every argument begins with its size as the caller knows it; a smaller, older
 * size works for ever.
 *
 *	-EINVAL		a size below the first version, an unknown flag,
 *			a wrong value
 *	-E2BIG		a tail that this kernel does not know and is not zero,
 *			a size above a page
 *	-ENOTTY		an unknown ioctl, a 32-bit caller
 *	-EFAULT		memory that cannot be read or written
 */
#define EVERING_IOC_MAGIC	0xEB

/* on /dev/evering */
#define EVERING_IOC_QUERY	_IO(EVERING_IOC_MAGIC, 0x00)
#define EVERING_IOC_LISTEN	_IO(EVERING_IOC_MAGIC, 0x01) /* returns an fd */
#define EVERING_IOC_CONNECT	_IO(EVERING_IOC_MAGIC, 0x02) /* returns an fd */
#define EVERING_IOC_CREATE	_IO(EVERING_IOC_MAGIC, 0x03) /* returns an fd */
#define EVERING_IOC_OPEN	_IO(EVERING_IOC_MAGIC, 0x04) /* returns an fd */
#define EVERING_IOC_UNLINK	_IO(EVERING_IOC_MAGIC, 0x05)
/* on a service */
#define EVERING_IOC_ACCEPT	_IO(EVERING_IOC_MAGIC, 0x10) /* returns an fd */
/* on an endpoint */
#define EVERING_IOC_ENTER	_IO(EVERING_IOC_MAGIC, 0x20)
#define EVERING_IOC_SHUTDOWN	_IO(EVERING_IOC_MAGIC, 0x21)
#define EVERING_IOC_PEER	_IO(EVERING_IOC_MAGIC, 0x22)
#define EVERING_IOC_DUP		_IO(EVERING_IOC_MAGIC, 0x23) /* returns an fd */
#define EVERING_IOC_INFO	_IO(EVERING_IOC_MAGIC, 0x24)

#define EVERING_NO_DEADLINE	(~(__u64)0)

/**
 * struct evering_query - EVERING_IOC_QUERY: what this module can do
 * @size:		in: sizeof(struct evering_query)
 * @flags:		in: 0
 * @abi_version:	out: EVERING_ABI_VERSION
 * @max_entries:	out: most slots of a ring
 * @max_slot_size:	out: most bytes of a slot
 * @max_backlog:	out: most connections that wait for ACCEPT
 * @features:		out: EVERING_FEATURE_*, none yet
 * @max_uring_bytes:	out: most bytes of a uring, its three sections together
 * @registry_bytes:	out: to map of /dev/evering at offset 0
 * @user_bytes:		out: most bytes of all urings that one user has created
 * @user_entries:	out: most urings and services of one user
 */
struct evering_query {
	__u32 size;
	__u32 flags;
	__u32 abi_version;
	__u32 max_entries;
	__u32 max_slot_size;
	__u32 max_backlog;
	__u64 features;
	__u64 max_uring_bytes;
	__u64 registry_bytes;
	__u64 user_bytes;
	__u64 user_entries;
};
EVERING_SIZE_IS(struct evering_query, 64);

/**
 * struct evering_listen - EVERING_IOC_LISTEN: bind a service name
 * @size:		sizeof(struct evering_listen)
 * @flags:		for all connections: 0 or EVERING_URING_MULTI_B, and with
 *			that EVERING_URING_LEASE
 * @name:		1 to EVERING_NAME_MAX printable ASCII bytes without blanks,
 *			then NUL
 * @mode:		who may connect, as on a file: 0200 the owner (the
 *			caller's uid), 0020 its group, 0002 others
 * @backlog:		connections that may wait for ACCEPT, 1 to max_backlog
 * @max_entries:	most slots that a client may ask for; 0 = no own limit
 * @max_slot_size:	likewise, bytes of a slot
 * @max_heap_size:	likewise, bytes of each heap
 *
 * Names belong to the network namespace in which /dev/evering was opened; those
 * of services are apart from those of urings.  -EEXIST: the name is taken;
 * -ENAMETOOLONG: no NUL; -EACCES: /dev/evering is not open for writing;
 * -EDQUOT: the user has too many urings and services.
 */
struct evering_listen {
	__u32 size;
	__u32 flags;
	char name[EVERING_NAME_MAX + 1];
	__u32 mode;
	__u32 backlog;
	__u32 max_entries;
	__u32 max_slot_size;
	__u64 max_heap_size;
};
EVERING_SIZE_IS(struct evering_listen, 96);

/**
 * struct evering_connect - EVERING_IOC_CONNECT: a new uring, as side A
 * @size:	in: sizeof(struct evering_connect)
 * @flags:	in: 0 or EVERING_URING_MULTI_A
 * @name:	in: of the service
 * @geometry:	in: of the uring
 * @layout:	out
 * @token:	out
 *
 * Returns at once; requests may be queued before the server accepts.
 * -ECONNREFUSED: nobody listens; -EACCES: no right; -EAGAIN: backlog full;
 * -ERANGE: more than the service allows; -EINVAL: no such geometry;
 * -ENOMEM: the memory, or the caller's cgroup, does not allow it; -EDQUOT: the
 * user has as much as one may have; -ENOSPC: the registry is full.
 */
struct evering_connect {
	__u32 size;
	__u32 flags;
	char name[EVERING_NAME_MAX + 1];
	struct evering_geometry geometry;
	struct evering_layout layout;
	__u64 token;
};
EVERING_SIZE_IS(struct evering_connect, 224);

/**
 * struct evering_create - EVERING_IOC_CREATE: a new uring
 * @size:	in: sizeof(struct evering_create)
 * @flags:	in: EVERING_URING_*: MULTI_A and MULTI_B for a channel, LEASE where
 *		consumers are many
 * @name:	in: for OPEN; empty where the token is to be the only name
 * @kind:	in: EVERING_KIND_*
 * @mode:	in: who may open it, as on a file.  Write (0222) opens side A,
 *		read (0444) opens side B.
 * @side:	in: that the caller takes; side A but in channels and queues
 * @__resv:	in: 0
 * @geometry:	in
 * @layout:	out
 * @token:	out
 *
 * The entry in the registry, and with it the name, lasts as long as an endpoint
 * of the uring is alive.
 * -EEXIST: the name is taken; -EACCES: /dev/evering is not open for writing;
 * -ENAMETOOLONG: no NUL; -EOPNOTSUPP: no such kind; else as in struct
 * evering_connect.  What is charged is given back when the last endpoint is
 * closed, whoever has it.
 */
struct evering_create {
	__u32 size;
	__u32 flags;
	char name[EVERING_NAME_MAX + 1];
	__u32 kind;
	__u32 mode;
	__u32 side;
	__u32 __resv;
	struct evering_geometry geometry;
	struct evering_layout layout;
	__u64 token;
};
EVERING_SIZE_IS(struct evering_create, 240);

/**
 * struct evering_open - EVERING_IOC_OPEN: an endpoint of a uring that is there
 * @size:	in: sizeof(struct evering_open)
 * @flags:	in: 0
 * @token:	in: of the uring, or 0 to look for @name; out
 * @name:	in: of the uring, or empty to look for @token
 * @kind:	in: that it must have, or EVERING_KIND_ANY; out
 * @side:	in: to take
 * @layout:	out
 *
 * Side B of a topic or a buffer is read-only: its descriptor is O_RDONLY.
 * @token and @kind are written as well: set them again for another call.
 * -ENOENT: no such name, or a token that was not given yet; -ESTALE: below
 * next_token, and not active, any more or yet; also a name whose uring goes just
 * now; -EACCES: no right, or for a side that writes /dev/evering is not open for
 * writing, or the uring was made by CONNECT; -EPROTOTYPE: another kind, and
 * -EOPNOTSUPP: one that there is not; -EBUSY:
 * the side is taken; -EPIPE: the side has died; -EINVAL: both token and name, or
 * neither; -ENAMETOOLONG: no NUL.
 */
struct evering_open {
	__u32 size;
	__u32 flags;
	__u64 token;
	char name[EVERING_NAME_MAX + 1];
	__u32 kind;
	__u32 side;
	struct evering_layout layout;
};
EVERING_SIZE_IS(struct evering_open, 200);

/**
 * struct evering_unlink - EVERING_IOC_UNLINK: take it out of the registry
 * @size:	sizeof(struct evering_unlink)
 * @flags:	0
 * @token:	of the uring, or 0 to look for @name
 * @name:	of the uring, or empty to look for @token
 *
 * Nobody can open it any more, and its name is free.  Its endpoints live on.
 * -ENOENT, -ESTALE, -EINVAL, -ENAMETOOLONG: as in struct evering_open; -EACCES:
 * it belongs to another user, or /dev/evering is not open for writing.
 */
struct evering_unlink {
	__u32 size;
	__u32 flags;
	__u64 token;
	char name[EVERING_NAME_MAX + 1];
};
EVERING_SIZE_IS(struct evering_unlink, 80);

#define EVERING_ACCEPT_NONBLOCK	(1U << 0)

/**
 * struct evering_accept - EVERING_IOC_ACCEPT: the next client, as side B
 * @size:	in: sizeof(struct evering_accept)
 * @flags:	in: EVERING_ACCEPT_NONBLOCK; O_NONBLOCK on the service does the
 *		same
 * @deadline:	in: CLOCK_MONOTONIC nanoseconds, or EVERING_NO_DEADLINE
 * @layout:	out
 * @token:	out
 * @uid:	out: of the client, in the caller's user namespace
 * @gid:	out
 * @pid:	out: in the caller's pid namespace, 0 if it has none there
 * @__resv:	0
 *
 * A client that has died in the meantime is accepted like any other: what it
 * has sent is there to be read, and then comes -EPIPE.
 * -EAGAIN: nobody waits; -ETIME: nobody came until the deadline; -EINTR: a
 * signal; -EMFILE: no descriptor is free, whether or not somebody waits.
 */
struct evering_accept {
	__u32 size;
	__u32 flags;
	__u64 deadline;
	struct evering_layout layout;
	__u64 token;
	__u32 uid;
	__u32 gid;
	__s32 pid;
	__u32 __resv;
};
EVERING_SIZE_IS(struct evering_accept, 152);

#define EVERING_ENTER_WAKE_PEER	 (1U << 0)	/* ring the doorbell */
#define EVERING_ENTER_WAIT	 (1U << 1)	/* sleep for entries */
#define EVERING_ENTER_WAIT_SPACE (1U << 2)	/* sleep for room */
#define EVERING_ENTER_WAKE_OWN	 (1U << 3)	/* a doorbell for the own side */
#define EVERING_ENTER_POLL_AT	 (1U << 4)	/* what poll waits for; read-only sides */

#define EVERING_READY_ENTRIES	(1U << 0)	/* in what ENTER returns */
#define EVERING_READY_SPACE	(1U << 1)
#define EVERING_READY_ORPHANS	(1U << 2)	/* a lease was given back */

/**
 * struct evering_enter - EVERING_IOC_ENTER: wake the peer, sleep, or both
 * @size:	sizeof(struct evering_enter)
 * @flags:	EVERING_ENTER_*
 * @wait_pos:	WAIT: the position that the caller will take next; any where it has
 *		an owner, see struct evering_info.  POLL_AT: the same, for all
 *		polls of this endpoint from now on; EVERING_NOBODY: none
 * @space_pos:	WAIT_SPACE: the position that the caller will commit next; any
 *		where it has an owner
 * @deadline:	CLOCK_MONOTONIC nanoseconds, or EVERING_NO_DEADLINE
 * @min_complete: WAIT: entries wanted from @wait_pos on, 1 to entries; 1 where
 *		the caller has an owner
 * @generation:	WAIT*: the peer's generation as last seen
 *
 * Returns EVERING_READY_* bits, 0 where it was not asked to wait; with both
 * waits, either one ends the call.  WAKE_OWN is for who has given a lease back,
 * and for who has acknowledged one after the end of the stream: the others of
 * its side may wait for that.  POLL_AT is for a reader of a topic, whose position nobody
 * else knows: without it, its polls tell of the end alone.
 * -EPIPE: the peer is dead, or takes no more (WAIT_SPACE), and nothing is left
 * to take; -ESHUTDOWN: the peer has ended its stream and all is taken (WAIT
 * alone: with WAIT_SPACE there may still come room), or another endpoint of the
 * own side has ended that of this side (WAIT_SPACE);
 * -ECONNRESET: another life of the peer; -EBUSY: too many threads of this
 * side sleep already; -ETIME: the deadline; -EINTR: a
 * signal; -EBADFD: this endpoint is dead, or has an owner and is not mapped; -EPERM:
 * it belongs to another process.  Success beats time-out and signal.
 */
struct evering_enter {
	__u32 size;
	__u32 flags;
	__u64 wait_pos;
	__u64 space_pos;
	__u64 deadline;
	__u32 min_complete;
	__u32 generation;
};
EVERING_SIZE_IS(struct evering_enter, 40);

#define EVERING_SHUT_WR		(1U << 0)	/* submit no more */
#define EVERING_SHUT_RD		(1U << 1)	/* take no more */

/**
 * struct evering_shutdown - EVERING_IOC_SHUTDOWN: end of stream
 * @size:	sizeof(struct evering_shutdown)
 * @flags:	0
 * @how:	EVERING_SHUT_WR, EVERING_SHUT_RD or both
 * @__resv:	0
 *
 * -EOPNOTSUPP: of a buffer, or by one who may only read; -EBADFD, -EPERM: as ENTER.
 */
struct evering_shutdown {
	__u32 size;
	__u32 flags;
	__u32 how;
	__u32 __resv;
};
EVERING_SIZE_IS(struct evering_shutdown, 16);

/**
 * struct evering_peer - EVERING_IOC_PEER: who is at the other side
 * @size:	in: sizeof(struct evering_peer)
 * @flags:	in: 0
 * @state:	out: EVERING_STATE_*
 * @uid:	out: in the caller's user namespace
 * @gid:	out
 * @pid:	out: in the caller's pid namespace, 0 if it has none there
 *
 * These are of the process that called CONNECT or ACCEPT, CREATE or OPEN; where a
 * side has many endpoints, of the one that came to it when it was PENDING.
 * Before ACCEPT, side B is the process that called LISTEN; a side that nobody has
 * had belongs to nobody (65534, pid 0).
 */
struct evering_peer {
	__u32 size;
	__u32 flags;
	__u32 state;
	__u32 uid;
	__u32 gid;
	__s32 pid;
};
EVERING_SIZE_IS(struct evering_peer, 24);

/**
 * struct evering_dup - EVERING_IOC_DUP: one more endpoint of the same side
 * @size:	sizeof(struct evering_dup)
 * @flags:	0
 *
 * For another process, which maps it: an endpoint belongs to one.
 * -EOPNOTSUPP: this side has one endpoint only; -EBADFD: this one is dead.
 */
struct evering_dup {
	__u32 size;
	__u32 flags;
};
EVERING_SIZE_IS(struct evering_dup, 8);

/**
 * struct evering_info - EVERING_IOC_INFO: what a descriptor that came by a Unix
 * socket stands for
 * @size:	in: sizeof(struct evering_info)
 * @flags:	in: 0
 * @kind:	out: EVERING_KIND_*
 * @side:	out: EVERING_SIDE_*
 * @mode:	out: as created
 * @read_only:	out: 1 where no section may be mapped to write
 * @owner:	out: what this endpoint writes into the words of slots, 1 to
 *		EVERING_MAX_OWNER where many share its positions, else 0.  Given to another
 *		only when what this one has left is healed
 * @uring_flags: out: EVERING_URING_* that are not clear from @kind
 * @token:	out
 * @layout:	out
 * @name:	out: its own, or that of the service it was connected to
 */
struct evering_info {
	__u32 size;
	__u32 flags;
	__u32 kind;
	__u32 side;
	__u32 mode;
	__u32 read_only;
	__u32 owner;
	__u32 uring_flags;
	__u64 token;
	struct evering_layout layout;
	char name[EVERING_NAME_MAX + 1];
};
EVERING_SIZE_IS(struct evering_info, 216);

#endif /* _UAPI_LINUX_EVERING_H */
