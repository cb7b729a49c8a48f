/* SPDX-License-Identifier: MIT OR LGPL-2.1 */
/*
 * Buffers: named or nameless shared memory with an owner and permission bits.
 *
 * What is a file left behind in /dev/shm elsewhere is gone here with the last
 * process that uses it.  Who opens a buffer read-only cannot write to it by any
 * means.  Buffers have no rings: when to read what is agreed elsewhere, and a
 * reader must expect a hostile writer to change the bytes at any time.
 *
 * Included by <evering.h>, whose conventions hold.  A buffer may be used by any
 * number of threads, a cache by one at a time.
 */
#ifndef EVERING_BUFFER_H
#define EVERING_BUFFER_H

#include <stdint.h>
#include <linux/evering.h>

#ifdef __cplusplus
extern "C" {
#endif

struct evering_buffer;
struct evering_buffer_cache;
struct evering_registry_view;

/**
 * evering_buffer_create() - new shared memory, open to write
 * @name:	for evering_buffer_open(), or NULL: the token is its only name
 * @mode:	who may open it, as on a file: 0400 this user to read, 0200 to read
 *		and write, 0040 and 0020 its group, 0004 and 0002 others
 * @size:	bytes, rounded up to a multiple of 4096; zeroed, and charged to the
 *		caller now
 * @buffer:	out; evering_buffer_close() it
 *
 * Return: 0; -EEXIST: the name is taken; -EINVAL: no such size or name;
 * -ENAMETOOLONG; -EDQUOT: the user has as much as one may have; -ENOSPC: the
 * registry is full; -ENOMEM; -EACCES: no right to /dev/evering; -ENOENT: the
 * module is not loaded; -EMFILE.
 */
int evering_buffer_create(const char *name, uint32_t mode, uint64_t size,
			  struct evering_buffer **buffer);

/**
 * evering_buffer_open() - map a buffer that is there
 * @name:	of the buffer, or NULL: @token says which
 * @token:	of the buffer, or 0
 * @flags:	O_RDONLY or O_RDWR
 * @buffer:	out; evering_buffer_close() it
 *
 * Return: 0; -ENOENT: there is none, and for a token never was, or the module is
 * not loaded; -ESTALE: the token's buffer is no longer to be had; -EACCES: no
 * right; -EPROTOTYPE: not a buffer; -EINVAL: name and token, or neither, or other
 * flags; -ENAMETOOLONG; -ENOMEM; -EMFILE.
 */
int evering_buffer_open(const char *name, uint64_t token, int flags,
			struct evering_buffer **buffer);

/**
 * evering_buffer_from_fd() - map a buffer whose descriptor has been passed
 * @fd:		from evering_buffer_dup() in another process; taken, also where
 *		this fails
 * @buffer:	out; evering_buffer_close() it
 *
 * Return: 0; -EPROTOTYPE: an endpoint, and not of a buffer; -ENOTTY: something
 * else; -EPERM: another process has mapped it; -EBADFD; -EBADF; -ENOMEM.
 */
int evering_buffer_from_fd(int fd, struct evering_buffer **buffer);

/**
 * evering_buffer_dup() - a descriptor to pass to another process
 * @buffer:	the buffer
 *
 * With the same right to write, or without.  Pass it over a Unix socket
 * (SCM_RIGHTS) and close it.
 *
 * Return: the descriptor, close-on-exec, the caller's; -EMFILE; -ENOMEM.
 */
int evering_buffer_dup(const struct evering_buffer *buffer);

/**
 * evering_buffer_close() - unmap it
 * @buffer:	NULL is allowed; pointers into it go with it
 */
void evering_buffer_close(struct evering_buffer *buffer);

/**
 * evering_buffer_data() - the bytes
 * @buffer:	the buffer
 *
 * Return: evering_buffer_size() bytes, page-aligned, to read.
 */
const void *evering_buffer_data(const struct evering_buffer *buffer);

/**
 * evering_buffer_writable() - the bytes, to write
 * @buffer:	the buffer
 *
 * Return: as evering_buffer_data(), or NULL where it was opened O_RDONLY.
 */
void *evering_buffer_writable(struct evering_buffer *buffer);

/** evering_buffer_size() - bytes, as rounded up by evering_buffer_create() */
uint64_t evering_buffer_size(const struct evering_buffer *buffer);

/** evering_buffer_token() - for evering_buffer_open() in any process */
uint64_t evering_buffer_token(const struct evering_buffer *buffer);

/** evering_buffer_fd() - the descriptor, which stays the buffer's */
int evering_buffer_fd(const struct evering_buffer *buffer);

/**
 * evering_unlink() - take a buffer or channel out of the registry
 * @name:	its name, or NULL: @token says which
 * @token:	its token, or 0
 *
 * Nobody can open it any more; who has it open goes on using it.
 *
 * Return: 0; -ENOENT, -ESTALE, -EINVAL, -ENAMETOOLONG: as
 * evering_buffer_open(); -EACCES: it belongs to another user.
 */
int evering_unlink(const char *name, uint64_t token);

/* ------------------------------------------------------------------ cache */

/**
 * evering_buffer_cache_new() - keep buffers open that messages name by token
 * @view:	the registry; must outlive the cache
 * @flags:	O_RDONLY or O_RDWR, for all of them
 * @cache:	out; evering_buffer_cache_free() it
 *
 * Return: 0 or -ENOMEM.
 */
int evering_buffer_cache_new(const struct evering_registry_view *view,
			     int flags, struct evering_buffer_cache **cache);

/**
 * evering_buffer_cache_get() - the buffer that a token stands for
 * @cache:	the cache
 * @token:	of the buffer
 * @buffer:	out: the cache's, valid until the next call on @cache
 *
 * A token that has been asked for before costs no system call while no buffer
 * or channel of the namespace goes; after that, one look at the registry for each
 * buffer that is kept.  The cache counts among a buffer's users until then.
 *
 * Return: as evering_buffer_open(), which opens what is not there yet.
 */
int evering_buffer_cache_get(struct evering_buffer_cache *cache, uint64_t token,
			     struct evering_buffer **buffer);

/**
 * evering_buffer_cache_free() - close all that it holds
 * @cache:	NULL is allowed
 */
void evering_buffer_cache_free(struct evering_buffer_cache *cache);

#ifdef __cplusplus
}
#endif

#endif /* EVERING_BUFFER_H */
