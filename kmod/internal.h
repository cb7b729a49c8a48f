/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Objects of the module and what protects them.
 *
 * Who calls whom: main -> service, open -> endpoint -> mapping; these -> uring ->
 * registry, account, wait.  A mapping that goes calls back into its endpoint's
 * death.
 *
 * Lifetimes
 *	A service lives while its file is open; a CONNECT in progress holds it
 *	too (kref).  An endpoint is its file.  A uring lives while the file of
 *	one of its endpoints does, or while it waits in a service's backlog
 *	(kref); its entry in the registry is active until no endpoint is alive,
 *	or until UNLINK.  A registry lives as long as its network
 *	namespace, which control files, services and urings hold.
 *
 * Locks, outermost first
 *	mmap_lock		held by mm around ->mmap, ->open, ->close
 *	evr_registry.lock	spinlock: names, states of entries, and what the
 *				registry's pages show
 *	evr_uring.lock		spinlock: state, endpoints, credentials and
 *				generation of sides; an endpoint's mm, maps,
 *				attached and dead
 *	evr_side.sleepers.lock	spinlock: the list of sleepers of that side,
 *				poll arms, and the words in HEADER and in the
 *				registry that announce both
 * and by themselves
 *	evr_service.lock	spinlock: its backlog, closed
 *	evr_users_lock		spinlock: what each user has
 *
 * State and endpoints of a side change under both evr_registry.lock and
 * evr_uring.lock, so either will do to read them.  Inside evr_registry.lock only
 * evr_uring.lock and the xarray's are taken, inside sleepers.lock only the
 * scheduler's.  No lock is held around copy_*_user() or an allocation.
 */
#ifndef _EVERING_INTERNAL_H
#define _EVERING_INTERNAL_H

#include <linux/atomic.h>
#include <linux/cred.h>
#include <linux/fs.h>
#include <linux/idr.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/spinlock.h>
#include <linux/uaccess.h>
#include <linux/wait.h>
#include <linux/evering.h>

#include "registry.h"

#ifndef CONFIG_64BIT
#error "evering needs a 64-bit kernel: its words are read and written whole"
#endif

/* Objects alive, in /sys/class/misc/evering/: zero once nobody uses it. */
enum evr_counter {
	EVR_URINGS,
	EVR_ENDPOINTS,
	EVR_SERVICES,
	EVR_BYTES,		/* of shared memory */
	EVR_NR_COUNTERS
};

extern atomic_long_t evr_counters[EVR_NR_COUNTERS];

extern const struct file_operations evr_service_fops;
extern const struct file_operations evr_endpoint_fops;

/**
 * struct evr_id - who a process is, independent of namespaces
 * @uid: effective user
 * @gid: effective group
 * @pid: thread group; a reference
 */
struct evr_id {
	kuid_t uid;
	kgid_t gid;
	struct pid *pid;
};

/**
 * struct evr_section - one mapping's worth of shared pages
 * @pages:	allocated one by one, so that each is charged and refcounted
 * @nr_pages:	how many
 */
struct evr_section {
	struct page **pages;
	unsigned long nr_pages;
};

/**
 * struct evr_side - one side of a uring
 * @control:	the head of its section: an attacker's words
 * @sleepers:	evr_waiter entries; its lock is sleepers.lock, see above
 * @pollers:	epoll, poll, io_uring poll
 * @nr_sleepers: entries of @sleepers; sleepers.lock
 * @given:	where the side is shared: positions of the ring that it consumes,
 *		and of the one that it produces, below which a sleeper has been
 *		woken for each entry, and for each room; sleepers.lock
 * @orphans_given: a sleeper has been woken for each that became an ORPHAN up to
 *		this orphan_seq; sleepers.lock
 * @orphans_none: an orphan_seq, after which no word was an ORPHAN
 * @poll_armed:	HEADER announces a poller of this side; sleepers.lock
 * @many:	it may have more than one endpoint; constant
 * @shared:	these also share positions, as they do not where they only read
 * @owners:	names of its endpoints, where these write into slots
 * @state:	EVERING_STATE_*
 * @endpoints:	that are alive
 * @generation:	lives before this one; 0, as no side that sleepers wait for can
 *		be taken again yet
 * @id:		who took this side first; evr_uring.lock.  Nobody: INVALID_UID
 */
struct evr_side {
	struct evering_control *control;
	wait_queue_head_t sleepers;
	wait_queue_head_t pollers;
	unsigned int nr_sleepers;
	u64 given[2];
	u64 orphans_given;
	u64 orphans_none;
	bool poll_armed;
	bool many;
	bool shared;
	struct ida owners;
	u32 state;
	u32 endpoints;
	u32 generation;
	struct evr_id id;
};

/**
 * struct evr_uring - two rings, two heaps, two sides
 * @ref:	one for each endpoint file, one for the backlog, and one for a
 *		CONNECT in progress
 * @lock:	see the head of this file
 * @registry:	a reference
 * @user:	who is charged for @bytes
 * @creator:	constant
 * @kind:	EVERING_KIND_*
 * @mode:	permission bits
 * @lease:	EVERING_URING_LEASE; constant
 * @entry_flags: EVERING_ENTRY_NAMED and so on
 * @entry_state: EVERING_ENTRY_*; evr_registry.lock
 * @entry:	what the registry shows of it
 * @token:	never used twice; 0 before evr_registry_reserve()
 * @bytes:	of shared memory
 * @layout:	constant; never read back from shared memory
 * @shift:	log2 of entries, by ring
 * @section:	by EVERING_SECTION_*
 * @header:	section HEADER; the kernel alone writes it
 * @side:	by EVERING_SIDE_*
 * @backlog:	entry in evr_service.backlog; the service's lock
 * @name:	its own, or that of the service it was connected to and then
 *		never bound, or empty
 */
struct evr_uring {
	struct kref ref;
	spinlock_t lock;	/* sides, ids, mapping of endpoints */
	struct evr_registry *registry;
	struct evr_user *user;
	struct evr_id creator;
	u32 kind;
	u32 mode;
	bool lease;
	u32 entry_flags;
	u32 entry_state;
	struct evering_registry_entry *entry;
	u64 token;
	u64 bytes;
	struct evering_layout layout;
	unsigned int shift[2];
	struct evr_section section[3];
	struct evering_header *header;
	struct evr_side side[2];
	struct list_head backlog;
	struct evr_name name;
};

/**
 * struct evr_kind - what a kind of uring has
 * @name:	for fdinfo
 * @ring:	has the SQ, the CQ
 * @heap:	has heap A, heap B
 * @many:	side A, B may have more than one endpoint, whatever the flags
 * @read_only:	endpoints of side A, B may not write at all
 */
struct evr_kind {
	const char *name;
	bool ring[2];
	bool heap[2];
	bool many[2];
	bool read_only[2];
};

/**
 * struct evr_uring_params - what a uring is created from
 * @registry:	where it gets its entry
 * @kind:	EVERING_KIND_*, checked
 * @mode:	permission bits, checked
 * @flags:	EVERING_URING_*
 * @entry_flags: EVERING_ENTRY_NAMED, EVERING_ENTRY_CONNECTED
 * @name:	checked, or empty
 * @geometry:	from user space
 */
struct evr_uring_params {
	struct evr_registry *registry;
	u32 kind;
	u32 mode;
	u32 flags;
	u32 entry_flags;
	const char *name;
	struct evering_geometry geometry;
};

/**
 * struct evr_endpoint - one participant: file->private_data
 * @uring:	a reference
 * @side:	EVERING_SIDE_*; constant
 * @nr_sleepers: of its threads, in evr_side.sleepers; sleepers.lock
 * @mm:		of the one process that maps it, from its first mmap on (a
 *		reference to the struct, not to the memory)
 * @maps:	mappings of any section in @mm
 * @own_maps:	of these, of the own section: 0 or 1, and 2 within mremap
 * @mapped:	the own section has been mapped, or is being mapped
 * @owner:	what it writes into the words of slots, or 0; constant
 * @read_only:	has no own section; constant
 * @poll_at:	read_only: the position that polls wait for, or EVERING_NOBODY; one word,
 *		whoever writes it last is right
 * @attached:	counts among the endpoints of its side until it is dead
 * @dead:	final; announced to the peer
 */
struct evr_endpoint {
	struct evr_uring *uring;
	unsigned int side;
	unsigned int nr_sleepers;
	unsigned int owner;
	struct mm_struct *mm;
	unsigned int maps;
	unsigned int own_maps;
	u64 poll_at;
	bool mapped;
	bool read_only;
	bool attached;
	bool dead;
};

/* main.c */
int evr_copy_other_args(void *args, size_t known, const void __user *uarg,
			u32 size);
int evr_return_args(const void *args, size_t known, void __user *uarg);
int evr_check_name(const char *name);
u64 evr_max_uring_bytes(void);

/* id.c */
void evr_id_get(struct evr_id *id);
void evr_id_put(struct evr_id *id);
int evr_may(struct user_namespace *ns, const struct evr_id *owner, u32 mode,
	    u32 want);
int evr_may_unlink(struct user_namespace *ns, const struct evr_id *owner);

/* account.c */
struct evr_user;
int evr_charge(u64 bytes, struct evr_user **charged);
void evr_uncharge(struct evr_user *user, u64 bytes);
void evr_user_limits(u64 *bytes, u64 *entries);

/* service.c */
int evr_listen(struct file *control, void __user *uarg);
int evr_connect(struct file *control, void __user *uarg);

/* open.c */
int evr_create(struct file *control, void __user *uarg);
int evr_open(struct file *control, void __user *uarg);
int evr_unlink(struct file *control, void __user *uarg);

/* Who may attach an endpoint to a side. */
enum evr_attach {
	EVR_ATTACH_FIRST,	/* CREATE, CONNECT, ACCEPT: the side is theirs */
	EVR_ATTACH_OPEN,	/* OPEN: while the entry is active */
	EVR_ATTACH_DUP,		/* DUP: while the side has an endpoint */
};

/* uring.c */
const struct evr_kind *evr_kind(u32 kind);
struct evr_uring *evr_uring_create(const struct evr_uring_params *params);
void evr_uring_put(struct evr_uring *uring);
int evr_uring_attach(struct evr_uring *uring, unsigned int side,
		     enum evr_attach how);
void evr_uring_detach(struct evr_uring *uring, unsigned int side, bool wrote);
void evr_uring_kill_side(struct evr_uring *uring, unsigned int side);

/**
 * struct evr_new_endpoint - an endpoint that nobody can see yet
 * @file:	its file
 * @fd:		will be its descriptor
 */
struct evr_new_endpoint {
	struct file *file;
	int fd;
};

/* endpoint.c */
struct file *evr_endpoint_file(struct evr_uring *uring, unsigned int side);
int evr_endpoint_new(struct evr_uring *uring, unsigned int side,
		     struct evr_new_endpoint *new);
int evr_endpoint_attach(struct file *file, enum evr_attach how);
int evr_endpoint_install(const struct evr_new_endpoint *new, int ret);
void evr_endpoint_die(struct evr_endpoint *ep);

/* ready.c */
unsigned int evr_news(struct evr_uring *uring, unsigned int side, bool space,
		      unsigned int most);
bool evr_entries_ready(const struct evr_uring *uring, unsigned int side, u64 pos);
bool evr_room_ready(const struct evr_uring *uring, unsigned int side, u64 pos);
u64 evr_walked(const struct evr_uring *uring, unsigned int side, bool space);
bool evr_being_written(const struct evr_uring *uring, unsigned int side, u64 pos);
unsigned int evr_orphans(struct evr_uring *uring, unsigned int side,
			 unsigned int most);
bool evr_leased(const struct evr_uring *uring, unsigned int side,
		unsigned int owner);

/* heal.c */
void evr_heal(struct evr_uring *uring, unsigned int side, unsigned int owner);

/* mapping.c */
int evr_mmap(struct file *file, struct vm_area_struct *vma);

/* wait.c */
void evr_side_init(struct evr_uring *uring, unsigned int side);
void evr_doorbell(struct evr_uring *uring, unsigned int side, bool sync);
void evr_wake_all(struct evr_uring *uring, unsigned int side);
int evr_wait(struct evr_endpoint *ep, const struct evering_enter *args);
int evr_sleep_until(u64 deadline);

/* poll.c */
bool evr_disarm_pollers(struct evr_uring *uring, unsigned int side);
__poll_t evr_poll(struct file *file, struct poll_table_struct *table);

/* ----------------------------------------------------- ioctl arguments */

/*
 * Fetches an extensible argument struct, once.  @args begins with u32 size;
 * @known is sizeof(*@args), which is the size of its first version, and a
 * constant here, which spares ENTER the checks of a copy of any size.
 *
 * 0, -EFAULT, -EINVAL for a size below the first version, -E2BIG for a tail
 * that is not known here and not zero.
 */
static __always_inline int evr_copy_args(void *args, size_t known,
					 const void __user *uarg)
{
	u32 size;

	if (get_user(size, (const u32 __user *)uarg))
		return -EFAULT;
	if (unlikely(size != known))
		return evr_copy_other_args(args, known, uarg, size);
	if (copy_from_user(args, uarg, known))
		return -EFAULT;
	/* The user may have changed it between the two fetches. */
	*(u32 *)args = size;
	return 0;
}

/* ------------------------------------------------------- shared memory */

/* A 64-bit word of a section.  @offset comes from the private layout. */
static inline u64 *evr_word(const struct evr_section *section, u64 offset)
{
	char *page = page_address(section->pages[offset >> PAGE_SHIFT]);

	return (u64 *)(page + offset_in_page(offset));
}

/* Who consumes the ring that @producer fills takes entries with a claim word. */
static inline bool evr_has_claims(const struct evr_uring *uring,
				  unsigned int producer)
{
	return uring->layout.claims_offset[producer];
}

static inline bool evr_has_ring(const struct evr_uring *uring,
				unsigned int producer)
{
	return uring->layout.geometry.entries[producer];
}

static inline struct evering_ring_words *evr_ring_words(struct evr_uring *uring,
							unsigned int ring)
{
	return &uring->header->ring[ring];
}

/* The section that @side writes. */
static inline const struct evr_section *
evr_own_section(const struct evr_uring *uring, unsigned int side)
{
	return &uring->section[EVERING_SECTION_A + side];
}

#endif /* _EVERING_INTERNAL_H */
