// SPDX-License-Identifier: GPL-2.0
/* Services: LISTEN and CONNECT. */
#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/module.h>
#include <linux/poll.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <net/net_namespace.h>

#include "service.h"
#include "trace.h"

static void evr_service_release_ref(struct kref *ref)
{
	struct evr_service *service = container_of(ref, struct evr_service, ref);

	evr_id_put(&service->id);
	evr_uncharge(service->user, 0);
	evr_registry_put(service->registry);
	kfree(service);
	atomic_long_dec(&evr_counters[EVR_SERVICES]);
}

static void evr_service_put(struct evr_service *service)
{
	kref_put(&service->ref, evr_service_release_ref);
}

static int evr_within_limits(const struct evr_service *service,
			     const struct evering_geometry *geometry)
{
	const struct evering_listen *limits = &service->args;
	int i;

	for (i = 0; i < 2; i++) {
		if (limits->max_entries &&
		    geometry->entries[i] > limits->max_entries)
			return -ERANGE;
		if (limits->max_slot_size &&
		    geometry->slot_size[i] > limits->max_slot_size)
			return -ERANGE;
		if (limits->max_heap_size &&
		    geometry->heap_size[i] > limits->max_heap_size)
			return -ERANGE;
	}
	return 0;
}

/* --------------------------------------------------------------- the file */

static long evr_service_ioctl(struct file *file, unsigned int cmd,
			      unsigned long arg)
{
	switch (cmd) {
	case EVERING_IOC_ACCEPT:
		return evr_accept(file, (void __user *)arg);
	}
	return -ENOTTY;
}

static __poll_t evr_service_poll(struct file *file, poll_table *table)
{
	struct evr_service *service = file->private_data;

	poll_wait(file, &service->pollers, table);
	return evr_any_client(service) ? EPOLLIN | EPOLLRDNORM : 0;
}

static void evr_service_show(struct seq_file *m, struct file *file)
{
	struct evr_service *service = file->private_data;
	unsigned int waiting;

	spin_lock(&service->lock);
	waiting = service->waiting;
	spin_unlock(&service->lock);
	seq_printf(m, "kind:\tservice\nname:\t%s\nmode:\t%04o\nbacklog:\t%u\nwaiting:\t%u\n",
		   service->args.name, service->args.mode,
		   service->args.backlog, waiting);
}

static int evr_service_release(struct inode *inode, struct file *file)
{
	struct evr_service *service = file->private_data;

	spin_lock(&service->registry->lock);
	evr_name_unbind(service->registry, &service->name);
	spin_unlock(&service->registry->lock);

	evr_refuse_clients(service);
	evr_service_put(service);
	return 0;
}

const struct file_operations evr_service_fops = {
	.owner = THIS_MODULE,
	.release = evr_service_release,
	.unlocked_ioctl = evr_service_ioctl,
	.poll = evr_service_poll,
	.show_fdinfo = evr_service_show,
	.llseek = noop_llseek,
};

/* ----------------------------------------------------------------- LISTEN */

static int evr_check_listen(const struct evering_listen *args)
{
	/* Leases are for many consumers, and of the clients we do not know. */
	if (args->flags & ~(EVERING_URING_MULTI_B | EVERING_URING_LEASE) ||
	    args->flags == EVERING_URING_LEASE || args->mode & ~0777)
		return -EINVAL;
	if (!args->backlog || args->backlog > EVERING_MAX_BACKLOG)
		return -EINVAL;
	return evr_check_name(args->name);
}

/**
 * evr_listen() - EVERING_IOC_LISTEN
 * @control:	/dev/evering
 * @uarg:	struct evering_listen
 *
 * Return: the service's fd or -errno.
 */
int evr_listen(struct file *control, void __user *uarg)
{
	struct evr_service *service;
	struct evering_listen args;
	struct evr_registry *registry;
	struct file *file;
	int ret, fd;

	ret = evr_copy_args(&args, sizeof(args), uarg);
	if (ret)
		return ret;
	ret = evr_check_listen(&args);
	if (ret)
		return ret;
	if (!(control->f_mode & FMODE_WRITE))
		return -EACCES;

	service = kzalloc(sizeof(*service), GFP_KERNEL_ACCOUNT);
	if (!service)
		return -ENOMEM;
	kref_init(&service->ref);
	spin_lock_init(&service->lock);
	INIT_LIST_HEAD(&service->clients);
	init_waitqueue_head(&service->acceptors);
	init_waitqueue_head(&service->pollers);
	registry = control->private_data;
	get_net(registry->net);
	service->registry = registry;
	service->args = args;
	service->name.owner = EVR_NAME_SERVICE;
	strscpy_pad(service->name.name, args.name, sizeof(service->name.name));
	evr_id_get(&service->id);
	atomic_long_inc(&evr_counters[EVR_SERVICES]);
	ret = evr_charge(0, &service->user);
	if (ret) {
		evr_service_put(service);
		return ret;
	}

	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0) {
		evr_service_put(service);
		return fd;
	}
	file = anon_inode_getfile("[evering-service]", &evr_service_fops,
				  service, O_RDWR);
	if (IS_ERR(file)) {
		put_unused_fd(fd);
		evr_service_put(service);
		return PTR_ERR(file);
	}

	/* Nothing that may be slow under the lock of all names. */
	spin_lock(&registry->lock);
	ret = evr_name_bind(registry, &service->name);
	spin_unlock(&registry->lock);
	if (ret) {
		put_unused_fd(fd);
		fput(file);
		return ret;
	}
	fd_install(fd, file);
	return fd;
}

/* ---------------------------------------------------------------- CONNECT */

/*
 * A service with the right to connect.  A full backlog is refused here, before
 * anything is allocated; the place is taken in evr_queue_client(), so that
 * nobody holds one whom ACCEPT cannot reach.
 */
static struct evr_service *
evr_find_service(struct evr_registry *registry,
		 const struct evering_connect *args)
{
	struct evr_service *service = NULL;
	struct evr_name *name;
	int ret;

	spin_lock(&registry->lock);
	name = evr_name_find(registry, EVR_NAME_SERVICE, args->name);
	if (name) {
		service = container_of(name, struct evr_service, name);
		kref_get(&service->ref);
	}
	spin_unlock(&registry->lock);
	if (!service)
		return ERR_PTR(-ECONNREFUSED);

	ret = evr_may(registry->net->user_ns, &service->id, service->args.mode,
		      0002);
	if (!ret)
		ret = evr_within_limits(service, &args->geometry);
	if (!ret && evr_backlog_full(service))
		ret = -EAGAIN;
	if (ret) {
		evr_service_put(service);
		return ERR_PTR(ret);
	}
	return service;
}

/**
 * evr_connect() - EVERING_IOC_CONNECT
 * @control:	/dev/evering
 * @uarg:	struct evering_connect
 *
 * Return: the fd of side A or -errno.
 */
int evr_connect(struct file *control, void __user *uarg)
{
	struct evr_uring_params params;
	struct evr_service *service;
	struct evering_connect args;
	struct evr_new_endpoint new;
	struct evr_uring *uring;
	int ret;

	ret = evr_copy_args(&args, sizeof(args), uarg);
	if (ret)
		return ret;
	if (args.flags & ~EVERING_URING_MULTI_A)
		return -EINVAL;
	ret = evr_check_name(args.name);
	if (ret)
		return ret;
	if (!(control->f_mode & FMODE_WRITE))
		return -EACCES;

	service = evr_find_service(control->private_data, &args);
	if (IS_ERR(service))
		return PTR_ERR(service);
	params = (struct evr_uring_params) {
		.registry = control->private_data,
		.kind = EVERING_KIND_CHANNEL,
		.flags = args.flags | service->args.flags,
		.entry_flags = EVERING_ENTRY_CONNECTED,
		.name = args.name,
		.geometry = args.geometry,
	};
	uring = evr_uring_create(&params);
	if (IS_ERR(uring)) {
		ret = PTR_ERR(uring);
		goto put_service;
	}
	/* Until ACCEPT, side B is whoever listens. */
	uring->side[EVERING_SIDE_B].id = service->id;
	get_pid(service->id.pid);

	ret = evr_endpoint_new(uring, EVERING_SIDE_A, &new);
	if (ret)
		goto put_uring;
	args.layout = uring->layout;
	args.token = uring->token;
	ret = evr_return_args(&args, sizeof(args), uarg) ?:
	      evr_endpoint_attach(new.file, EVR_ATTACH_FIRST) ?:
	      evr_registry_activate(uring) ?:
	      evr_queue_client(service, uring);
	if (!ret)
		trace_evering_connect(uring->token,
				      from_kuid_munged(&init_user_ns,
						       current_euid()),
				      task_tgid_nr(current));
	ret = evr_endpoint_install(&new, ret);
put_uring:
	evr_uring_put(uring);
put_service:
	evr_service_put(service);
	return ret;
}
