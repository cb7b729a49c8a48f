/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Objects of the module and what protects them.
 *
 * Who calls whom: main -> service -> endpoint -> mapping; these -> uring ->
 * wait.  A mapping that goes calls back into its endpoint's death.
 *
 * Lifetimes
 *	A service lives while its file is open; a CONNECT in progress holds it
 *	too (kref).  An endpoint is its file.  A uring lives while one of its
 *	endpoints does, or while it waits in a service's backlog (kref).
 *
 * Locks, outermost first
 *	mmap_lock		held by mm around ->mmap, ->open, ->close
 *	evr_net.lock		mutex: the names of one network namespace
 *	evr_service.lock	spinlock: its backlog, closed
 *	evr_uring.lock		spinlock: side state, credentials and
 *				generation; an endpoint's mm, maps and dead
 *	evr_side.sleepers.lock	spinlock: the list of sleepers of that side,
 *				poll arms, and the words in HEADER that
 *				announce both
 * Under mmap_lock come evr_uring.lock, sleepers.lock and, for wake-ups, the
 * locks of pollers; otherwise none of these nests in another, and inside
 * sleepers.lock only the scheduler's are taken.  No lock is held around
 * copy_*_user() or an allocation.
 */
#ifndef _EVERING_INTERNAL_H
#define _EVERING_INTERNAL_H

#include <linux/atomic.h>
#include <linux/cred.h>
#include <linux/fs.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/spinlock.h>
#include <linux/uaccess.h>
#include <linux/wait.h>
#include <linux/evering.h>

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
 * @poll_armed:	HEADER announces a poller of this side; sleepers.lock
 * @state:	EVERING_STATE_*; written under evr_uring.lock
 * @generation:	lives before this one; 0, as no side can be taken again yet
 * @id:		who holds this side; evr_uring.lock
 */
struct evr_side {
	struct evering_control *control;
	wait_queue_head_t sleepers;
	wait_queue_head_t pollers;
	unsigned int nr_sleepers;
	bool poll_armed;
	u32 state;
	u32 generation;
	struct evr_id id;
};

/**
 * struct evr_uring - two rings, two heaps, two sides
 * @ref:	one for each endpoint file, one for the backlog, and one for a
 *		CONNECT in progress
 * @lock:	see the head of this file
 * @token:	never used twice
 * @layout:	constant; never read back from shared memory
 * @shift:	log2 of entries, by ring
 * @section:	by EVERING_SECTION_*
 * @header:	section HEADER; the kernel alone writes it
 * @side:	by EVERING_SIDE_*
 * @backlog:	entry in evr_service.backlog; the service's lock
 * @name:	of the service it was connected to
 */
struct evr_uring {
	struct kref ref;
	spinlock_t lock;	/* side state, ids, mapping of endpoints */
	u64 token;
	struct evering_layout layout;
	unsigned int shift[2];
	struct evr_section section[3];
	struct evering_header *header;
	struct evr_side side[2];
	struct list_head backlog;
	char name[EVERING_NAME_MAX + 1];
};

/**
 * struct evr_endpoint - one participant: file->private_data
 * @uring:	a reference
 * @side:	EVERING_SIDE_*; constant
 * @mm:		of the one process that maps it, from its first mmap on (a
 *		reference to the struct, not to the memory)
 * @maps:	mappings of any section in @mm
 * @own_maps:	of these, of the own section: 0 or 1, and 2 within mremap
 * @mapped:	the own section has been mapped, or is being mapped
 * @dead:	final; announced to the peer
 */
struct evr_endpoint {
	struct evr_uring *uring;
	unsigned int side;
	struct mm_struct *mm;
	unsigned int maps;
	unsigned int own_maps;
	bool mapped;
	bool dead;
};

/* main.c */
int evr_copy_other_args(void *args, size_t known, const void __user *uarg,
			u32 size);
int evr_return_args(const void *args, size_t known, void __user *uarg);
int evr_check_name(const char *name);
void evr_id_get(struct evr_id *id);
void evr_id_put(struct evr_id *id);
u64 evr_max_uring_bytes(void);

/* service.c */
int evr_listen(struct file *control, void __user *uarg);
int evr_connect(struct file *control, void __user *uarg);
int evr_services_init(void);
void evr_services_exit(void);

/* uring.c */
struct evr_uring *evr_uring_create(const struct evering_geometry *geometry,
				   const char *name);
void evr_uring_put(struct evr_uring *uring);
void evr_uring_open_side(struct evr_uring *uring, unsigned int side);
void evr_uring_kill_side(struct evr_uring *uring, unsigned int side);

/* endpoint.c */
struct file *evr_endpoint_open(struct evr_uring *uring, unsigned int side);
void evr_endpoint_die(struct evr_endpoint *ep);

/* mapping.c */
int evr_mmap(struct file *file, struct vm_area_struct *vma);

/* wait.c */
void evr_side_init(struct evr_uring *uring, unsigned int side);
void evr_doorbell(struct evr_uring *uring, unsigned int side, bool sync);
void evr_wake_all(struct evr_uring *uring, unsigned int side);
int evr_wait(struct evr_endpoint *ep, const struct evering_enter *args);
__poll_t evr_poll(struct file *file, struct poll_table_struct *table);
int evr_sleep_until(u64 deadline);

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

/* The section that @side writes. */
static inline const struct evr_section *
evr_own_section(const struct evr_uring *uring, unsigned int side)
{
	return &uring->section[EVERING_SECTION_A + side];
}

#endif /* _EVERING_INTERNAL_H */
