// SPDX-License-Identifier: GPL-2.0
/* Service names of a network namespace: LISTEN and CONNECT. */
#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/module.h>
#include <linux/nsproxy.h>
#include <linux/poll.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/stringhash.h>
#include <net/net_namespace.h>
#include <net/netns/generic.h>

#include "service.h"
#include "trace.h"

#define EVR_NAME_BUCKETS	64

/* The names of one network namespace. */
struct evr_net {
	struct mutex lock;	/* names */
	struct hlist_head names[EVR_NAME_BUCKETS];
};

static unsigned int evr_net_id;

static struct hlist_head *evr_bucket(struct evr_net *en, const char *name)
{
	u32 hash = full_name_hash(NULL, name, strlen(name));

	return &en->names[hash % EVR_NAME_BUCKETS];
}

static struct evr_service *evr_find(struct evr_net *en, const char *name)
{
	struct evr_service *service;

	lockdep_assert_held(&en->lock);
	hlist_for_each_entry(service, evr_bucket(en, name), node)
		if (!strcmp(service->args.name, name))
			return service;
	return NULL;
}

static void evr_service_release_ref(struct kref *ref)
{
	struct evr_service *service = container_of(ref, struct evr_service, ref);

	evr_id_put(&service->id);
	put_net(service->net);
	kfree(service);
	atomic_long_dec(&evr_counters[EVR_SERVICES]);
}

static void evr_service_put(struct evr_service *service)
{
	kref_put(&service->ref, evr_service_release_ref);
}

/* Mode bits as on a file; only "write" means anything. */
static int evr_may_connect(const struct evr_service *service)
{
	struct user_namespace *ns = service->net->user_ns;
	u32 mode = service->args.mode;

	if (uid_eq(current_fsuid(), service->id.uid))
		mode >>= 6;
	else if (in_group_p(service->id.gid))
		mode >>= 3;
	if (mode & 0002)
		return 0;
	/* As for an inode: root of a namespace that knows the owner. */
	if (kuid_has_mapping(ns, service->id.uid) &&
	    kgid_has_mapping(ns, service->id.gid) &&
	    ns_capable(ns, CAP_DAC_OVERRIDE))
		return 0;
	return -EACCES;
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

	seq_printf(m, "kind:\tservice\nname:\t%s\nmode:\t%04o\nbacklog:\t%u\nwaiting:\t%u\n",
		   service->args.name, service->args.mode,
		   service->args.backlog, READ_ONCE(service->waiting));
}

static int evr_service_release(struct inode *inode, struct file *file)
{
	struct evr_service *service = file->private_data;
	struct evr_net *en = net_generic(service->net, evr_net_id);

	mutex_lock(&en->lock);
	hlist_del_init(&service->node);
	mutex_unlock(&en->lock);

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
	if (args->flags || args->mode & ~0777)
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
	struct evr_net *en;
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
	INIT_HLIST_NODE(&service->node);
	service->args = args;
	service->net = get_net(current->nsproxy->net_ns);
	evr_id_get(&service->id);
	atomic_long_inc(&evr_counters[EVR_SERVICES]);
	en = net_generic(service->net, evr_net_id);

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
	mutex_lock(&en->lock);
	if (evr_find(en, args.name))
		ret = -EEXIST;
	else
		hlist_add_head(&service->node, evr_bucket(en, args.name));
	mutex_unlock(&en->lock);
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
evr_find_service(const struct evering_connect *args)
{
	struct net *net = current->nsproxy->net_ns;
	struct evr_net *en = net_generic(net, evr_net_id);
	struct evr_service *service;
	int ret;

	mutex_lock(&en->lock);
	service = evr_find(en, args->name);
	if (service)
		kref_get(&service->ref);
	mutex_unlock(&en->lock);
	if (!service)
		return ERR_PTR(-ECONNREFUSED);

	ret = evr_may_connect(service);
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
	struct evr_service *service;
	struct evering_connect args;
	struct evr_uring *uring;
	struct file *file;
	int ret, fd;

	ret = evr_copy_args(&args, sizeof(args), uarg);
	if (ret)
		return ret;
	if (args.flags)
		return -EINVAL;
	ret = evr_check_name(args.name);
	if (ret)
		return ret;
	if (!(control->f_mode & FMODE_WRITE))
		return -EACCES;

	service = evr_find_service(&args);
	if (IS_ERR(service))
		return PTR_ERR(service);
	uring = evr_uring_create(&args.geometry, args.name);
	if (IS_ERR(uring)) {
		ret = PTR_ERR(uring);
		goto put_service;
	}
	/* Until ACCEPT, side B is whoever listens. */
	uring->side[EVERING_SIDE_B].id = service->id;
	get_pid(service->id.pid);
	evr_uring_open_side(uring, EVERING_SIDE_A);

	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0) {
		ret = fd;
		goto put_uring;
	}
	file = evr_endpoint_open(uring, EVERING_SIDE_A);
	if (IS_ERR(file)) {
		ret = PTR_ERR(file);
		goto put_fd;
	}
	args.layout = uring->layout;
	args.token = uring->token;
	ret = evr_return_args(&args, sizeof(args), uarg);
	if (ret)
		goto put_file;
	ret = evr_queue_client(service, uring);
	if (ret)
		goto put_file;

	trace_evering_connect(uring->token,
			      from_kuid_munged(&init_user_ns, current_euid()),
			      task_tgid_nr(current));
	evr_uring_put(uring);
	evr_service_put(service);
	fd_install(fd, file);
	return fd;

put_file:
	fput(file);
put_fd:
	put_unused_fd(fd);
put_uring:
	evr_uring_put(uring);
put_service:
	evr_service_put(service);
	return ret;
}

/* ------------------------------------------------------------- namespaces */

static int __net_init evr_net_init(struct net *net)
{
	struct evr_net *en = net_generic(net, evr_net_id);
	int i;

	mutex_init(&en->lock);
	for (i = 0; i < EVR_NAME_BUCKETS; i++)
		INIT_HLIST_HEAD(&en->names[i]);
	return 0;
}

/* A service holds its namespace, so there is nothing left to take down. */
static void __net_exit evr_net_exit(struct net *net)
{
	struct evr_net *en = net_generic(net, evr_net_id);
	int i;

	for (i = 0; i < EVR_NAME_BUCKETS; i++)
		WARN_ON_ONCE(!hlist_empty(&en->names[i]));
	mutex_destroy(&en->lock);
}

static struct pernet_operations evr_net_ops = {
	.init = evr_net_init,
	.exit = evr_net_exit,
	.id = &evr_net_id,
	.size = sizeof(struct evr_net),
};

/**
 * evr_services_init() - a table of names in every network namespace
 *
 * Return: 0 or -errno.
 */
int __init evr_services_init(void)
{
	return register_pernet_subsys(&evr_net_ops);
}

/**
 * evr_services_exit() - undo evr_services_init()
 */
void evr_services_exit(void)
{
	unregister_pernet_subsys(&evr_net_ops);
}
