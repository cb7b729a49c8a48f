// SPDX-License-Identifier: GPL-2.0
/*
 * The registry: every uring of a network namespace has an entry here, with a
 * token that resolves without a search, and perhaps a name.  User space maps it
 * read-only.
 *
 * An entry is FREE, then ALLOCATING from evr_registry_reserve() on, ACTIVE from
 * evr_registry_activate() on, MARKED when it is unlinked or its last endpoint
 * has died, and FREE again when the last reference to the uring goes.
 */
#include <linux/hash.h>
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/nospec.h>
#include <linux/random.h>
#include <linux/slab.h>
#include <linux/stringhash.h>
#include <net/net_namespace.h>
#include <net/netns/generic.h>

#include "compat.h"
#include "internal.h"

#define EVR_ENTRIES_A_PAGE (PAGE_SIZE / sizeof(struct evering_registry_entry))

static unsigned int registry_entries = 4096;
module_param(registry_entries, uint, 0444);
MODULE_PARM_DESC(registry_entries,
		 "urings in a network namespace, 16 to 65536 (default 4096)");

/* Of all namespaces, so that a token means one uring in a trace. */
static atomic64_t evr_generation;

static unsigned int evr_net_id;

struct evr_net {
	struct evr_registry *registry;	/* set once, by cmpxchg() */
};

/* ------------------------------------------------------------------ names */

static struct hlist_head *evr_bucket(struct evr_registry *registry,
				     const char *name)
{
	/* Salted, or names could be chosen that all fall into one bucket. */
	u32 hash = full_name_hash((void *)registry->salt, name, strlen(name));

	return &registry->names[hash_32(hash, registry->name_bits)];
}

/**
 * evr_name_find() - who has this name?
 * @registry:	locked by the caller
 * @owner:	of which kind
 * @name:	to look for
 *
 * Return: it, or NULL; valid under the lock.
 */
struct evr_name *evr_name_find(struct evr_registry *registry,
			       enum evr_name_owner owner, const char *name)
{
	struct evr_name *n;

	lockdep_assert_held(&registry->lock);
	hlist_for_each_entry(n, evr_bucket(registry, name), node)
		if (n->owner == owner && !strcmp(n->name, name))
			return n;
	return NULL;
}

/**
 * evr_name_bind() - take a name
 * @registry:	locked by the caller
 * @name:	initialised, unbound
 *
 * Return: 0, or -EEXIST where it is taken.
 */
int evr_name_bind(struct evr_registry *registry, struct evr_name *name)
{
	if (evr_name_find(registry, name->owner, name->name))
		return -EEXIST;
	hlist_add_head(&name->node, evr_bucket(registry, name->name));
	return 0;
}

/**
 * evr_name_unbind() - give a name back
 * @registry:	locked by the caller
 * @name:	bound or not
 */
void evr_name_unbind(struct evr_registry *registry, struct evr_name *name)
{
	lockdep_assert_held(&registry->lock);
	hlist_del_init(&name->node);
}

/* ------------------------------------------------------------------ pages */

/* Page @i of what user space sees, made when it is first needed. */
static struct page *evr_registry_page(struct evr_registry *registry,
				      unsigned long i, gfp_t gfp)
{
	/* pairs with the cmpxchg() below: zeroed before it is seen */
	struct page *page = smp_load_acquire(&registry->pages[i]);
	struct page *other;

	if (page)
		return page;
	page = alloc_page(gfp | GFP_KERNEL_ACCOUNT | __GFP_ZERO);
	if (!page)
		return NULL;
	other = cmpxchg(&registry->pages[i], NULL, page);
	if (!other)
		return page;
	__free_page(page);
	return other;
}

static vm_fault_t evr_registry_fault(struct vm_fault *vmf)
{
	struct evr_registry *registry = vmf->vma->vm_private_data;
	struct page *page;

	if (vmf->pgoff >= registry->nr_pages)
		return VM_FAULT_SIGBUS;
	page = evr_registry_page(registry,
				 array_index_nospec(vmf->pgoff,
						    registry->nr_pages), 0);
	if (!page)
		return VM_FAULT_OOM;
	get_page(page);
	vmf->page = page;
	return 0;
}

static const struct vm_operations_struct evr_registry_vm_ops = {
	.fault = evr_registry_fault,
};

/**
 * evr_registry_mmap() - map the registry, whole and read-only
 * @registry:	of the control file, which the mapping keeps open
 * @vma:	at offset 0
 *
 * Return: 0; -EINVAL for a wrong offset, length or kind of mapping; -EACCES for
 * PROT_WRITE, -EPERM for PROT_EXEC.
 */
int evr_registry_mmap(struct evr_registry *registry, struct vm_area_struct *vma)
{
	if (vma->vm_pgoff || vma_pages(vma) != registry->nr_pages ||
	    !(vma->vm_flags & VM_MAYSHARE))
		return -EINVAL;
	if (vma->vm_flags & VM_EXEC)
		return -EPERM;
	if (vma->vm_flags & VM_WRITE)
		return -EACCES;
	vm_flags_mod(vma, VM_DONTEXPAND | VM_DONTDUMP,
		     VM_MAYEXEC | VM_MAYWRITE);
	vma->vm_private_data = registry;
	vma->vm_ops = &evr_registry_vm_ops;
	return 0;
}

/**
 * evr_registry_bytes() - what there is to map
 * @registry:	the registry
 *
 * Return: bytes.
 */
u64 evr_registry_bytes(const struct evr_registry *registry)
{
	return (u64)registry->nr_pages << PAGE_SHIFT;
}

/* ---------------------------------------------------------------- entries */

/* Between these two a reader sees an odd sequence, or one that changes. */
static void evr_entry_write_begin(struct evering_registry_entry *entry)
{
	WRITE_ONCE(entry->seq, entry->seq + 1);
	/* pairs with the reader's acquire fence between the entry and seq */
	smp_wmb();
}

static void evr_entry_write_end(struct evering_registry_entry *entry)
{
	/* pairs with the reader's acquire of seq before the entry */
	smp_wmb();
	WRITE_ONCE(entry->seq, entry->seq + 1);
}

static void evr_entry_show_state(struct evr_uring *uring)
{
	struct evering_registry_entry *entry = uring->entry;
	u32 ref_count = 0;
	int i;

	for (i = 0; i < 2; i++) {
		const struct evr_side *side = &uring->side[i];

		WRITE_ONCE(entry->side[i].state, side->state);
		WRITE_ONCE(entry->side[i].endpoints, side->endpoints);
		ref_count += side->endpoints;
	}
	WRITE_ONCE(entry->ref_count, ref_count);
	WRITE_ONCE(entry->flags, uring->entry_flags);
	WRITE_ONCE(entry->state, uring->entry_state);
}

/**
 * evr_registry_update() - show that sides or state of an entry have changed
 * @uring:	its registry is locked by the caller
 */
void evr_registry_update(struct evr_uring *uring)
{
	lockdep_assert_held(&uring->registry->lock);
	evr_entry_write_begin(uring->entry);
	evr_entry_show_state(uring);
	evr_entry_write_end(uring->entry);
}

/* What does not change, and the state. */
static void evr_entry_show(struct evr_uring *uring)
{
	struct evering_registry_entry *entry = uring->entry;

	evr_entry_write_begin(entry);
	entry->token = uring->token;
	entry->kind = uring->kind;
	entry->mode = uring->mode;
	entry->uid = from_kuid_munged(uring->registry->net->user_ns,
				      uring->creator.uid);
	entry->gid = from_kgid_munged(uring->registry->net->user_ns,
				      uring->creator.gid);
	entry->pid = task_tgid_vnr(current);
	entry->bytes = uring->bytes;
	entry->geometry = uring->layout.geometry;
	memcpy(entry->name, uring->name.name, sizeof(entry->name));
	evr_entry_show_state(uring);
	evr_entry_write_end(entry);
}

/* All but seq, which goes on. */
static void evr_entry_clear(struct evering_registry_entry *entry)
{
	const size_t seq = offsetofend(struct evering_registry_entry, seq);

	evr_entry_write_begin(entry);
	memset((char *)entry + seq, 0, sizeof(*entry) - seq);
	evr_entry_write_end(entry);
}

/**
 * evr_registry_reserve() - an entry and a token for a uring that is being made
 * @uring:	its registry, kind, name and so on are set
 *
 * Return: 0; -ENOSPC: full; -ENOMEM.
 */
int evr_registry_reserve(struct evr_uring *uring)
{
	struct evr_registry *registry = uring->registry;
	struct evering_registry *header = registry->header;
	struct page *page;
	u64 generation;
	u32 index;
	int ret;

	/* Not found before its token is set, and not opened before ACTIVE. */
	ret = xa_alloc(&registry->urings, &index, uring,
		       XA_LIMIT(0, header->capacity - 1), GFP_KERNEL_ACCOUNT);
	if (ret)
		return ret == -EBUSY ? -ENOSPC : ret;
	page = evr_registry_page(registry, 1 + index / EVR_ENTRIES_A_PAGE,
				 __GFP_NOWARN | __GFP_RETRY_MAYFAIL);
	if (!page) {
		ret = -ENOMEM;
		goto erase;
	}
	generation = atomic64_inc_return(&evr_generation);
	if (generation >> (64 - EVERING_TOKEN_INDEX_BITS)) {
		ret = -ENOSPC;
		goto erase;
	}

	spin_lock(&registry->lock);
	uring->entry = (struct evering_registry_entry *)page_address(page) +
		       index % EVR_ENTRIES_A_PAGE;
	uring->entry_state = EVERING_ENTRY_ALLOCATING;
	uring->token = generation << EVERING_TOKEN_INDEX_BITS | index;
	if (index >= header->used)
		WRITE_ONCE(header->used, index + 1);
	generation = (generation + 1) << EVERING_TOKEN_INDEX_BITS;
	if (generation > header->next_token)
		WRITE_ONCE(header->next_token, generation);
	evr_entry_show(uring);
	spin_unlock(&registry->lock);
	return 0;

erase:
	/* Under the lock: who finds it there may look at it. */
	spin_lock(&registry->lock);
	xa_erase(&registry->urings, index);
	spin_unlock(&registry->lock);
	return ret;
}

/**
 * evr_registry_release() - the entry of a uring that is going, or was not made
 * @uring:	nobody refers to it any more
 */
void evr_registry_release(struct evr_uring *uring)
{
	struct evr_registry *registry = uring->registry;

	if (!uring->token)
		return;
	spin_lock(&registry->lock);
	evr_registry_retire(uring);
	evr_entry_clear(uring->entry);
	/* Under the lock: who finds it there may look at it. */
	xa_erase(&registry->urings, EVERING_TOKEN_INDEX(uring->token));
	spin_unlock(&registry->lock);
}

/**
 * evr_registry_activate() - from here on OPEN finds it
 * @uring:	reserved
 *
 * Return: 0, or -EEXIST where its name is taken.
 */
int evr_registry_activate(struct evr_uring *uring)
{
	struct evr_registry *registry = uring->registry;
	int ret = 0;

	spin_lock(&registry->lock);
	if (uring->entry_flags & EVERING_ENTRY_NAMED)
		ret = evr_name_bind(registry, &uring->name);
	if (!ret) {
		uring->entry_state = EVERING_ENTRY_ACTIVE;
		evr_registry_update(uring);
		WRITE_ONCE(registry->header->active_count,
			   registry->header->active_count + 1);
	}
	spin_unlock(&registry->lock);
	return ret;
}

/**
 * evr_registry_retire() - from here on OPEN does not find it
 * @uring:	reserved, its registry locked by the caller; no harm where it is not
 *		active
 *
 * Return: whether it was active.
 */
bool evr_registry_retire(struct evr_uring *uring)
{
	struct evering_registry *header = uring->registry->header;

	lockdep_assert_held(&uring->registry->lock);
	if (uring->entry_state != EVERING_ENTRY_ACTIVE)
		return false;
	uring->entry_state = EVERING_ENTRY_MARKED;
	evr_name_unbind(uring->registry, &uring->name);
	/* evr_may_open() reads it without the lock */
	WRITE_ONCE(uring->entry_flags, uring->entry_flags & ~EVERING_ENTRY_NAMED);
	evr_registry_update(uring);
	WRITE_ONCE(header->active_count, header->active_count - 1);
	/* pairs with the library's acquire: who sees the epoch sees the state */
	smp_store_release(&header->global_epoch, header->global_epoch + 1);
	return true;
}

/**
 * evr_registry_find() - a uring by token or by name
 * @registry:	where to look
 * @token:	of the uring, or 0
 * @name:	of the uring, where @token is 0
 *
 * The reference taken here keeps the object, not the entry: whether that is
 * still active is asked again in the step that attaches an endpoint.
 *
 * Return: a reference; -ENOENT: there is and was none; -ESTALE: not active.
 */
struct evr_uring *evr_registry_find(struct evr_registry *registry, u64 token,
				    const char *name)
{
	struct evr_uring *uring = NULL;
	struct evr_name *n;
	int ret = -ENOENT;

	spin_lock(&registry->lock);
	if (token) {
		uring = xa_load(&registry->urings, EVERING_TOKEN_INDEX(token));
		if (uring && uring->token != token)
			uring = NULL;
		if (token < registry->header->next_token)
			ret = -ESTALE;
	} else {
		n = evr_name_find(registry, EVR_NAME_URING, name);
		if (n)
			uring = container_of(n, struct evr_uring, name);
	}
	if (uring && uring->entry_state != EVERING_ENTRY_ACTIVE)
		uring = NULL;
	if (uring && !kref_get_unless_zero(&uring->ref))
		uring = NULL;
	spin_unlock(&registry->lock);
	return uring ?: ERR_PTR(ret);
}

/* ------------------------------------------------------------- namespaces */

static void evr_registry_free(struct evr_registry *registry)
{
	unsigned long i;

	for (i = 0; registry->pages && i < registry->nr_pages; i++)
		if (registry->pages[i])
			put_page(registry->pages[i]);
	xa_destroy(&registry->urings);
	kvfree(registry->pages);
	kvfree(registry->names);
	kfree(registry);
}

static struct evr_registry *evr_registry_new(struct net *net)
{
	unsigned int capacity = clamp(registry_entries, 16U,
				      EVERING_MAX_REGISTRY);
	struct evr_registry *registry;
	struct page *page;

	registry = kzalloc(sizeof(*registry), GFP_KERNEL_ACCOUNT);
	if (!registry)
		return NULL;
	registry->net = net;
	spin_lock_init(&registry->lock);
	xa_init_flags(&registry->urings, XA_FLAGS_ALLOC | XA_FLAGS_ACCOUNT);
	registry->salt = get_random_long();
	registry->name_bits = ilog2(capacity);
	registry->names = kvcalloc(1UL << registry->name_bits,
				   sizeof(*registry->names), GFP_KERNEL_ACCOUNT);
	registry->nr_pages = 1 + DIV_ROUND_UP(capacity, EVR_ENTRIES_A_PAGE);
	registry->pages = kvcalloc(registry->nr_pages, sizeof(*registry->pages),
				   GFP_KERNEL_ACCOUNT);
	if (!registry->names || !registry->pages)
		goto free;
	page = evr_registry_page(registry, 0, __GFP_NOWARN | __GFP_RETRY_MAYFAIL);
	if (!page)
		goto free;
	registry->header = page_address(page);
	registry->header->magic = EVERING_REGISTRY_MAGIC;
	registry->header->version = EVERING_REGISTRY_VERSION;
	registry->header->capacity = capacity;
	registry->header->entry_size = sizeof(struct evering_registry_entry);
	registry->header->entries_offset = PAGE_SIZE;
	return registry;

free:
	evr_registry_free(registry);
	return NULL;
}

/**
 * evr_registry_get() - the registry of a network namespace
 * @net:	the namespace
 *
 * Return: with a reference to @net, or ERR_PTR(-ENOMEM).
 */
struct evr_registry *evr_registry_get(struct net *net)
{
	struct evr_net *en = net_generic(net, evr_net_id);
	/* pairs with the cmpxchg() below: complete before it is seen */
	struct evr_registry *registry = smp_load_acquire(&en->registry);
	struct evr_registry *other;

	if (!registry) {
		registry = evr_registry_new(net);
		if (!registry)
			return ERR_PTR(-ENOMEM);
		other = cmpxchg(&en->registry, NULL, registry);
		if (other) {
			evr_registry_free(registry);
			registry = other;
		}
	}
	get_net(net);
	return registry;
}

/**
 * evr_registry_put() - undo evr_registry_get()
 * @registry:	the registry
 */
void evr_registry_put(struct evr_registry *registry)
{
	put_net(registry->net);
}

/* Whoever uses a registry holds its namespace, so there is nothing left. */
static void __net_exit evr_net_exit(struct net *net)
{
	struct evr_net *en = net_generic(net, evr_net_id);

	if (!en->registry)
		return;
	WARN_ON_ONCE(!xa_empty(&en->registry->urings));
	evr_registry_free(en->registry);
}

static struct pernet_operations evr_net_ops = {
	.exit = evr_net_exit,
	.id = &evr_net_id,
	.size = sizeof(struct evr_net),
};

/**
 * evr_registries_init() - room for a registry in every network namespace
 *
 * Return: 0 or -errno.
 */
int __init evr_registries_init(void)
{
	return register_pernet_subsys(&evr_net_ops);
}

/**
 * evr_registries_exit() - undo evr_registries_init()
 */
void evr_registries_exit(void)
{
	unregister_pernet_subsys(&evr_net_ops);
}
