/* SPDX-License-Identifier: GPL-2.0 */
/* The registry of a network namespace: its urings, and all names. */
#ifndef _EVERING_REGISTRY_H
#define _EVERING_REGISTRY_H

#include <linux/list.h>
#include <linux/spinlock.h>
#include <linux/xarray.h>
#include <linux/evering.h>

struct evr_uring;
struct net;
struct vm_area_struct;

/* Whose name it is: services and urings do not see each other's. */
enum evr_name_owner { EVR_NAME_SERVICE, EVR_NAME_URING };

/**
 * struct evr_name - a name that is, or will be, bound
 * @node:	in evr_registry.names; evr_registry.lock
 * @owner:	what it names; constant
 * @name:	constant
 */
struct evr_name {
	struct hlist_node node;
	enum evr_name_owner owner;
	char name[EVERING_NAME_MAX + 1];
};

/**
 * struct evr_registry - made when /dev/evering is first opened in a namespace
 * @net:	its namespace, at whose end it is freed; whoever uses the
 *		registry holds a reference to that
 * @lock:	see the head of internal.h
 * @names:	hash table of evr_name
 * @salt:	of its hash
 * @name_bits:	log2 of its buckets
 * @urings:	by index; an entry is taken out under @lock
 * @pages:	what user space can map: the header, then the entries.  Set once,
 *		by cmpxchg(); entry pages when they are first needed
 * @nr_pages:	how many @pages there can be
 * @header:	in pages[0]; what it shows is kept there and nowhere else, as
 *		only the kernel can write it.  Under @lock
 */
struct evr_registry {
	struct net *net;
	spinlock_t lock;	/* names, states of entries, what pages show */
	struct hlist_head *names;
	unsigned long salt;
	unsigned int name_bits;
	struct xarray urings;
	struct page **pages;
	unsigned long nr_pages;
	struct evering_registry *header;
};

int evr_registries_init(void);
void evr_registries_exit(void);
struct evr_registry *evr_registry_get(struct net *net);
void evr_registry_put(struct evr_registry *registry);
int evr_registry_mmap(struct evr_registry *registry, struct vm_area_struct *vma);
u64 evr_registry_bytes(const struct evr_registry *registry);

int evr_name_bind(struct evr_registry *registry, struct evr_name *name);
void evr_name_unbind(struct evr_registry *registry, struct evr_name *name);
struct evr_name *evr_name_find(struct evr_registry *registry,
			       enum evr_name_owner owner, const char *name);

int evr_registry_reserve(struct evr_uring *uring);
void evr_registry_release(struct evr_uring *uring);
int evr_registry_activate(struct evr_uring *uring);
bool evr_registry_retire(struct evr_uring *uring);
void evr_registry_update(struct evr_uring *uring);
struct evr_uring *evr_registry_find(struct evr_registry *registry, u64 token,
				    const char *name);

#endif /* _EVERING_REGISTRY_H */
