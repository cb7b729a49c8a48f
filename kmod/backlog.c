// SPDX-License-Identifier: GPL-2.0
/* Clients that wait for a server: the backlog of a service, and ACCEPT. */
#include <linux/file.h>
#include <linux/sched/signal.h>
#include <linux/user_namespace.h>

#include "service.h"
#include "trace.h"

/**
 * evr_backlog_full() - would a client be refused now?
 * @service: the service
 *
 * Return: a hint; evr_queue_client() decides.
 */
bool evr_backlog_full(struct evr_service *service)
{
	bool full;

	spin_lock(&service->lock);
	full = service->waiting >= service->args.backlog;
	spin_unlock(&service->lock);
	return full;
}

static void evr_leave_backlog(struct evr_service *service)
{
	spin_lock(&service->lock);
	service->waiting--;
	spin_unlock(&service->lock);
}

static void evr_client_waits(struct evr_service *service)
{
	wake_up(&service->acceptors);
	wake_up_all(&service->pollers);
}

/**
 * evr_any_client() - would ACCEPT find somebody?
 * @service: the service
 *
 * Return: whether a client waits.
 */
bool evr_any_client(struct evr_service *service)
{
	bool any;

	spin_lock(&service->lock);
	any = !list_empty(&service->clients);
	spin_unlock(&service->lock);
	return any;
}

static struct evr_uring *evr_next_client(struct evr_service *service)
{
	struct evr_uring *uring;

	spin_lock(&service->lock);
	uring = list_first_entry_or_null(&service->clients, struct evr_uring,
					 backlog);
	if (uring)
		list_del_init(&uring->backlog);
	spin_unlock(&service->lock);
	return uring;
}

/**
 * evr_queue_client() - a client is ready to be accepted
 * @service:	its service
 * @uring:	takes a reference
 *
 * Publishes: from here on ACCEPT may run on another CPU.
 *
 * Return: 0, -ECONNREFUSED when the service has closed, -EAGAIN when its
 * backlog is full.
 */
int evr_queue_client(struct evr_service *service, struct evr_uring *uring)
{
	int ret = 0;

	kref_get(&uring->ref);
	spin_lock(&service->lock);
	if (service->closed) {
		ret = -ECONNREFUSED;
	} else if (service->waiting >= service->args.backlog) {
		ret = -EAGAIN;
	} else {
		service->waiting++;
		list_add_tail(&uring->backlog, &service->clients);
	}
	spin_unlock(&service->lock);
	if (ret)
		evr_uring_put(uring);
	else
		evr_client_waits(service);
	return ret;
}

/**
 * evr_refuse_clients() - the service closes
 * @service: the service; from here on no CONNECT can add to its backlog
 *
 * Who waits in it learns that side B is dead.
 */
void evr_refuse_clients(struct evr_service *service)
{
	struct evr_uring *uring;

	spin_lock(&service->lock);
	service->closed = true;
	spin_unlock(&service->lock);
	while ((uring = evr_next_client(service))) {
		evr_uring_kill_side(uring, EVERING_SIDE_B);
		evr_uring_put(uring);
	}
}

/* ACCEPT could not take it after all: it is the next one's again. */
static void evr_return_client(struct evr_service *service,
			      struct evr_uring *uring)
{
	spin_lock(&service->lock);
	list_add(&uring->backlog, &service->clients);
	spin_unlock(&service->lock);
	evr_client_waits(service);
}

static struct evr_uring *evr_wait_client(struct evr_service *service,
					 bool nonblock, u64 deadline)
{
	struct evr_uring *uring;
	DEFINE_WAIT(wait);
	int ret = 0;

	uring = evr_next_client(service);
	if (uring)
		return uring;
	if (nonblock)
		return ERR_PTR(-EAGAIN);

	for (;;) {
		prepare_to_wait_exclusive(&service->acceptors, &wait,
					  TASK_INTERRUPTIBLE);
		uring = evr_next_client(service);
		if (uring)
			break;
		if (signal_pending(current))
			ret = -ERESTARTSYS;
		if (ret)
			break;
		ret = evr_sleep_until(deadline);
	}
	finish_wait(&service->acceptors, &wait);
	/*
	 * Whatever the reason for leaving, the one wake-up for a client that
	 * is still there may have hit us while we were queued: pass it on.
	 */
	if (evr_any_client(service))
		wake_up(&service->acceptors);
	return uring ?: ERR_PTR(ret);
}

/**
 * evr_accept() - EVERING_IOC_ACCEPT
 * @service_file: the service
 * @uarg:	struct evering_accept
 *
 * Return: the fd of side B or -errno.
 */
int evr_accept(struct file *service_file, void __user *uarg)
{
	struct evr_service *service = service_file->private_data;
	struct evering_accept args;
	struct evr_uring *uring;
	struct file *file;
	bool nonblock;
	int ret, fd;

	ret = evr_copy_args(&args, sizeof(args), uarg);
	if (ret)
		return ret;
	if (args.flags & ~EVERING_ACCEPT_NONBLOCK || args.__resv)
		return -EINVAL;

	nonblock = args.flags & EVERING_ACCEPT_NONBLOCK ||
		   service_file->f_flags & O_NONBLOCK;
	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0)
		return fd;
	uring = evr_wait_client(service, nonblock, args.deadline);
	if (IS_ERR(uring)) {
		ret = PTR_ERR(uring);
		goto put_fd;
	}
	file = evr_endpoint_file(uring, EVERING_SIDE_B);
	if (IS_ERR(file)) {
		ret = PTR_ERR(file);
		goto return_client;
	}
	args.layout = uring->layout;
	args.token = uring->token;
	spin_lock(&uring->lock);
	args.uid = from_kuid_munged(current_user_ns(),
				    uring->side[EVERING_SIDE_A].id.uid);
	args.gid = from_kgid_munged(current_user_ns(),
				    uring->side[EVERING_SIDE_A].id.gid);
	args.pid = pid_vnr(uring->side[EVERING_SIDE_A].id.pid);
	spin_unlock(&uring->lock);
	ret = evr_return_args(&args, sizeof(args), uarg);
	if (ret)
		goto put_file;

	ret = evr_endpoint_attach(file, EVR_ATTACH_FIRST);
	if (ret)
		goto put_file;
	trace_evering_accept(uring->token,
			     from_kuid_munged(&init_user_ns, current_euid()),
			     task_tgid_nr(current));
	evr_leave_backlog(service);
	evr_uring_put(uring);	/* the backlog's */
	fd_install(fd, file);
	return fd;

put_file:
	fput(file);
return_client:
	evr_return_client(service, uring);
put_fd:
	put_unused_fd(fd);
	return ret;
}
