/* SPDX-License-Identifier: MIT OR LGPL-2.1 */
/*
 * Topics: one publisher, any number of subscribers who read in place.
 *
 * A message is written once, however many read it.  Subscribers map the topic
 * read-only, so that none can damage what the others read, and none holds the
 * publisher up: who is too slow misses messages, and is told exactly how many.
 *
 * That a message is good is known only after it has been read: the publisher may
 * write over it at any moment.  evering_subscriber_copy() copies and checks; who reads
 * in place asks evering_subscriber_check() before he believes what he has read.
 *
 * Included by <evering.h>, whose conventions hold.  A publisher and a subscriber are
 * used by one thread at a time each.
 *
 * Errors that any call may return
 *	-EPERM, -EBADFD	see EVERING_IOC_ENTER
 */
#ifndef EVERING_TOPIC_H
#define EVERING_TOPIC_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>
#include <evering/type.h>

#ifdef __cplusplus
extern "C" {
#endif

struct evering_publisher;
struct evering_subscriber;

/* ------------------------------------------------------------- publishing */

/**
 * evering_publisher_create() - a new topic
 * @name:	for evering_subscriber_open(), or NULL: the token is its only name
 * @mode:	who may subscribe, as on a file: 0400 this user, 0040 its group, 0004
 *		others
 * @entries:	messages that can be there at a time: a power of two, 2 to
 *		EVERING_MAX_ENTRIES
 * @bytes:	of all their payloads, rounded up to a multiple of 4096.  For the last
 *		H messages to be there, (H + 2) times the largest
 * @publisher:	out; evering_publisher_close() it, and the topic ends
 *
 * Return: 0; -EEXIST: the name is taken; -EINVAL: no such sizes or name; else as
 * evering_buffer_create().
 */
int evering_publisher_create(const char *name, uint32_t mode, uint32_t entries,
			     uint64_t bytes,
			     struct evering_publisher **publisher);

/**
 * evering_publisher_close() - end of the topic
 * @publisher:	NULL is allowed
 *
 * Subscribers read what is there, then get -EPIPE.
 */
void evering_publisher_close(struct evering_publisher *publisher);

/**
 * evering_publisher_token() - the number that names the topic
 * @publisher:	of the topic
 *
 * Return: for evering_subscriber_open().
 */
uint64_t evering_publisher_token(const struct evering_publisher *publisher);

/**
 * evering_publisher_reserve() - room for a message, to be written in place
 * @publisher:	of the topic
 * @len:	bytes, at most those of the topic
 * @payload:	out: aligned to EVERING_GRANULE; holds what was there before
 *
 * The oldest messages go for it, whoever reads them.
 *
 * Return: 0; -EMSGSIZE: more than the topic has; -EBUSY: something is reserved.
 */
int evering_publisher_reserve(struct evering_publisher *publisher, size_t len,
			      void **payload);

/**
 * evering_publisher_commit() - publish what is reserved
 * @publisher:	of the topic
 * @len:	bytes, at most what was reserved
 * @type:	of what they are, or NULL
 *
 * A system call only where a subscriber sleeps.
 *
 * Return: 0; -EINVAL: nothing is reserved, or less, or @type is none or @len not a
 * multiple of its size: it stays reserved.
 */
int evering_publisher_commit(struct evering_publisher *publisher, size_t len,
			     const struct evering_type *type);

/**
 * evering_publisher_cancel() - publish nothing after all
 * @publisher:	of the topic
 *
 * Return: 0; -EINVAL: nothing is reserved.
 */
int evering_publisher_cancel(struct evering_publisher *publisher);

/**
 * evering_publish() - a copy of something
 * @publisher:	of the topic
 * @from:	@len bytes
 * @len:	at most those of the topic
 * @type:	as above
 *
 * Return: 0; as evering_publisher_reserve() and evering_publisher_commit().
 */
int evering_publish(struct evering_publisher *publisher, const void *from,
		    size_t len, const struct evering_type *type);

/* ------------------------------------------------------------- subscribing */

/**
 * struct evering_message - one message of a topic
 * @number:	messages that were published before it
 * @lost:	of these, how many this subscriber has missed since the one that it
 *		got before
 * @payload:	read-only; good until evering_subscriber_check() says otherwise
 * @len:	bytes
 * @type:	evering_type_tag() of what they are, 0: of no type
 */
struct evering_message {
	uint64_t number;
	uint64_t lost;
	const void *payload;
	uint32_t len;
	uint32_t type;
};

#define EVERING_HISTORY_ALL	UINT32_MAX

/**
 * evering_subscriber_open() - read a topic
 * @name:	of the topic, or NULL: @token says which
 * @token:	of the topic, or 0
 * @history:	messages before now that are wanted too, as far as they are there;
 *		EVERING_HISTORY_ALL: all that are
 * @subscriber:	out; evering_subscriber_close() it
 *
 * Return: 0; -EPROTOTYPE: not a topic; else as evering_buffer_open().
 */
int evering_subscriber_open(const char *name, uint64_t token, uint32_t history,
			    struct evering_subscriber **subscriber);

/** evering_subscriber_close() - read no more; NULL is allowed */
void evering_subscriber_close(struct evering_subscriber *subscriber);

/**
 * evering_subscriber_fd() - to poll for messages and for the end of the topic
 * @subscriber:	of the topic
 *
 * EPOLLIN: there is a message beyond those that had been seen at the last
 * evering_subscriber_arm(); EPOLLRDHUP, EPOLLHUP: the publisher has ended the topic, or is
 * dead.  Works with poll, epoll (edge-triggered too) and io_uring.
 *
 * Return: the descriptor, which stays the subscriber's.
 */
int evering_subscriber_fd(const struct evering_subscriber *subscriber);

/**
 * evering_subscriber_arm() - tell the kernel what poll is to wait for
 * @subscriber:	of the topic
 *
 * The next message: the kernel cannot see how far a subscriber has read.  To be called
 * before its descriptor is polled for the first time, and whenever all messages have
 * been taken, up to -EAGAIN.
 *
 * Return: 0; -EPROTO.
 */
int evering_subscriber_arm(struct evering_subscriber *subscriber);

/**
 * evering_subscriber_next() - the oldest message that has not been seen
 * @subscriber:	of the topic
 * @message:	out
 * @timeout:	relative; NULL: for ever; zero: do not wait
 *
 * Return: 0; -EAGAIN, -ETIME: there is none yet; -EPIPE, -ESHUTDOWN: the publisher is
 * dead, or has ended the topic, and all that is there has been seen; -EPROTO: the publisher has written what no honest
 * one writes, for good; -EINTR; -EINVAL: nanoseconds out of range.
 */
int evering_subscriber_next(struct evering_subscriber *subscriber,
			    struct evering_message *message,
			    const struct timespec *timeout);

/**
 * evering_subscriber_latest() - the newest message, if it has not been seen
 * @subscriber:	of the topic
 * @message:	out; those between count as lost
 * @timeout:	as above
 *
 * Return: as evering_subscriber_next().
 */
int evering_subscriber_latest(struct evering_subscriber *subscriber,
			      struct evering_message *message,
			      const struct timespec *timeout);

/**
 * evering_subscriber_check() - was that still the message?
 * @subscriber:	of the topic
 * @message:	from it
 *
 * To be called after the payload was read.
 *
 * Return: 0: all that was read before is good; -ESTALE: it may be of other messages.
 */
int evering_subscriber_check(const struct evering_subscriber *subscriber,
			     const struct evering_message *message);

/**
 * evering_subscriber_copy() - the payload, checked
 * @subscriber:	of the topic
 * @message:	from it
 * @to:		room for @size bytes
 * @size:	at least the message's len
 *
 * Return: 0; -ESTALE: the publisher was faster, and what lies at @to is nothing;
 * -EMSGSIZE.
 */
int evering_subscriber_copy(const struct evering_subscriber *subscriber,
			    const struct evering_message *message, void *to,
			    size_t size);

#ifdef __cplusplus
}
#endif

#endif /* EVERING_TOPIC_H */
