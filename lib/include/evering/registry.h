/* SPDX-License-Identifier: MIT OR LGPL-2.1 */
/*
 * The registry: what there is in this network namespace, read from pages that
 * the kernel alone writes.  No system call after evering_registry_open().
 *
 * Included by <evering.h>, whose conventions hold.  A view may be used by any
 * number of threads.
 */
#ifndef EVERING_REGISTRY_H
#define EVERING_REGISTRY_H

#include <stdint.h>
#include <linux/evering.h>

#ifdef __cplusplus
extern "C" {
#endif

struct evering_registry_view;

/**
 * evering_registry_open() - map the registry
 * @view:	out; evering_registry_close() it
 *
 * It is that of the network namespace that the caller is in now.
 *
 * Return: 0; -ENOENT: the module is not loaded; -EACCES: no right to read
 * /dev/evering; -EPROTO: another version; -ENOMEM; -EMFILE.
 */
int evering_registry_open(struct evering_registry_view **view);

/**
 * evering_registry_close() - unmap it
 * @view:	NULL is allowed
 */
void evering_registry_close(struct evering_registry_view *view);

/**
 * evering_registry_header() - counts and limits
 * @view:	the registry
 *
 * Return: struct evering_registry as mapped: read each word once.
 */
const struct evering_registry *
evering_registry_header(const struct evering_registry_view *view);

/**
 * evering_registry_epoch() - has anything gone?
 * @view:	the registry
 *
 * Read it, then open a token.  For as long as it reads the same, the token's
 * entry is active.
 *
 * Return: global_epoch, with acquire.
 */
uint64_t evering_registry_epoch(const struct evering_registry_view *view);

/**
 * evering_registry_for_each() - look at all entries
 * @view:	the registry
 * @fn:		called with a copy that is consistent in itself; what it returns
 *		other than 0 ends the walk
 * @arg:	for @fn
 *
 * Entries may come and go meanwhile: those that stay are seen once.
 *
 * Return: what @fn returned last, or 0; -EAGAIN: an entry did not hold still.
 */
int evering_registry_for_each(const struct evering_registry_view *view,
			      int (*fn)(const struct evering_registry_entry *entry,
					void *arg),
			      void *arg);

/**
 * evering_registry_find() - the active entry of a token, without a search
 * @view:	the registry
 * @token:	of the entry
 * @entry:	out: a consistent copy, also with -ESTALE of whatever is there
 *
 * Return: 0; -ENOENT: no such token yet; -ESTALE: no longer, or not yet, active;
 * -EAGAIN: the entry did not hold still.
 */
int evering_registry_find(const struct evering_registry_view *view,
			  uint64_t token, struct evering_registry_entry *entry);

/**
 * evering_registry_find_name() - the active entry that OPEN would find by name
 * @view:	the registry
 * @name:	to look for, through all entries
 * @entry:	out: a consistent copy
 *
 * Return: 0; -ENOENT; -EAGAIN as evering_registry_for_each().
 */
int evering_registry_find_name(const struct evering_registry_view *view,
			       const char *name,
			       struct evering_registry_entry *entry);

#ifdef __cplusplus
}
#endif

#endif /* EVERING_REGISTRY_H */
