/* SPDX-License-Identifier: GPL-2.0 */
/* A service: shared by service.c, which has its name, and backlog.c. */
#ifndef _EVERING_SERVICE_H
#define _EVERING_SERVICE_H

#include "internal.h"

/**
 * struct evr_service - a name that clients connect to
 * @ref:	the file, and each CONNECT in progress
 * @name:	bound while the file is open
 * @registry:	that knows the name; a reference
 * @user:	who is charged for it
 * @id:		who listens; constant
 * @args:	as given to LISTEN; constant
 * @lock:	protects @clients, @waiting and @closed
 * @clients:	evr_uring.backlog entries, first come first served
 * @waiting:	how many; an ACCEPT in progress holds its client's place
 * @closed:	the file is gone
 * @acceptors:	sleepers in ACCEPT, exclusive: one client wakes one
 * @pollers:	a queue of their own, so that none of them takes that wake-up
 */
struct evr_service {
	struct kref ref;
	struct evr_name name;
	struct evr_registry *registry;
	struct evr_user *user;
	struct evr_id id;
	struct evering_listen args;
	spinlock_t lock;	/* clients, waiting, closed */
	struct list_head clients;
	unsigned int waiting;
	bool closed;
	wait_queue_head_t acceptors;
	wait_queue_head_t pollers;
};

/* backlog.c */
bool evr_backlog_full(struct evr_service *service);
bool evr_any_client(struct evr_service *service);
int evr_queue_client(struct evr_service *service, struct evr_uring *uring);
void evr_refuse_clients(struct evr_service *service);
int evr_accept(struct file *service_file, void __user *uarg);

#endif /* _EVERING_SERVICE_H */
