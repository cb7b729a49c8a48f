// SPDX-License-Identifier: GPL-2.0
/* An endpoint: its file, ENTER, SHUTDOWN, PEER, fdinfo, and its death. */
#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/module.h>
#include <linux/sched/mm.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/user_namespace.h>

#include "internal.h"
#include "trace.h"

#define EVR_ENTER_FLAGS (EVERING_ENTER_WAKE_PEER | EVERING_ENTER_WAKE_OWN | \
			 EVERING_ENTER_WAIT | EVERING_ENTER_WAIT_SPACE | \
			 EVERING_ENTER_POLL_AT)
#define EVR_SHUT_FLAGS	(EVERING_SHUT_WR | EVERING_SHUT_RD)

/* May the current process act through this endpoint? */
static int evr_endpoint_check(struct evr_endpoint *ep)
{
	struct mm_struct *mm = READ_ONCE(ep->mm);

	if (READ_ONCE(ep->dead))
		return -EBADFD;
	/* An fd that a child has inherited is not its endpoint. */
	if (mm && mm != current->mm)
		return -EPERM;
	return 0;
}

static int evr_enter(struct evr_endpoint *ep, void __user *uarg)
{
	struct evr_uring *uring = ep->uring;
	unsigned int peer = !ep->side;
	struct evering_enter args;
	bool wait;
	int ret;

	ret = evr_copy_args(&args, sizeof(args), uarg);
	if (ret)
		return ret;
	if (args.flags & ~EVR_ENTER_FLAGS)
		return -EINVAL;
	/* The ring that this side consumes is the one that its peer produces. */
	if ((args.flags & EVERING_ENTER_WAIT) &&
	    (!args.min_complete ||
	     args.min_complete > uring->layout.geometry.entries[peer]))
		return -EINVAL;
	/* A ring that is not there, or that never makes its producer wait. */
	if ((args.flags & EVERING_ENTER_WAIT_SPACE) &&
	    (!uring->layout.geometry.entries[ep->side] ||
	     (uring->side[peer].many && !evr_has_claims(uring, ep->side))))
		return -EINVAL;
	/* All others have a word that says where they are. */
	if ((args.flags & EVERING_ENTER_POLL_AT) &&
	    (!ep->read_only || !evr_has_ring(uring, peer)))
		return -EINVAL;
	wait = args.flags & (EVERING_ENTER_WAIT | EVERING_ENTER_WAIT_SPACE);
	if (ep->owner) {
		/* Whoever waits with others gets one at a time. */
		if ((args.flags & EVERING_ENTER_WAIT) && args.min_complete != 1)
			return -EINVAL;
		/* Only of who has mapped it do we learn of his death. */
		if (wait && !READ_ONCE(ep->mapped))
			return -EBADFD;
	} else if (args.flags & EVERING_ENTER_WAKE_OWN) {
		return -EINVAL;
	}
	ret = evr_endpoint_check(ep);
	if (ret)
		return ret;

	if (args.flags & EVERING_ENTER_POLL_AT)
		WRITE_ONCE(ep->poll_at, args.wait_pos);
	if (args.flags & EVERING_ENTER_WAKE_PEER)
		evr_doorbell(uring, peer, wait);
	if (args.flags & EVERING_ENTER_WAKE_OWN)
		evr_doorbell(uring, ep->side, false);
	if (wait)
		return evr_wait(ep, &args);
	if ((args.flags & EVERING_ENTER_WAKE_PEER) &&
	    READ_ONCE(uring->side[peer].state) == EVERING_STATE_DEAD)
		return -EPIPE;
	return 0;
}

static int evr_shutdown(struct evr_endpoint *ep, void __user *uarg)
{
	struct evering_control *control = ep->uring->side[ep->side].control;
	struct evering_shutdown args;
	int ret;

	ret = evr_copy_args(&args, sizeof(args), uarg);
	if (ret)
		return ret;
	if (args.flags || args.__resv || !args.how || args.how & ~EVR_SHUT_FLAGS)
		return -EINVAL;
	/* Of many, any endpoint says it for its whole side. */
	if (ep->read_only || ep->uring->kind == EVERING_KIND_BUFFER)
		return -EOPNOTSUPP;
	ret = evr_endpoint_check(ep);
	if (ret)
		return ret;

	/* All that this thread has committed is seen by who sees the end. */
	if (args.how & EVERING_SHUT_WR)
		/* pairs with evr_look() and the library's load of closed */
		smp_store_release(&control->closed, 1);
	if (args.how & EVERING_SHUT_RD)
		/* pairs with evr_look() and the library's load of rclosed */
		smp_store_release(&control->rclosed, 1);
	evr_wake_all(ep->uring, EVERING_SIDE_A);
	evr_wake_all(ep->uring, EVERING_SIDE_B);
	return 0;
}

static int evr_peer(struct evr_endpoint *ep, void __user *uarg)
{
	struct evr_side *peer = &ep->uring->side[!ep->side];
	struct user_namespace *ns = current_user_ns();
	struct evering_peer args;
	int ret;

	ret = evr_copy_args(&args, sizeof(args), uarg);
	if (ret)
		return ret;
	if (args.flags)
		return -EINVAL;

	spin_lock(&ep->uring->lock);
	args.state = peer->state;
	args.uid = from_kuid_munged(ns, peer->id.uid);
	args.gid = from_kgid_munged(ns, peer->id.gid);
	args.pid = pid_vnr(peer->id.pid);
	spin_unlock(&ep->uring->lock);
	return evr_return_args(&args, sizeof(args), uarg);
}

static int evr_info(struct evr_endpoint *ep, void __user *uarg)
{
	const struct evr_uring *uring = ep->uring;
	struct evering_info args;
	int ret;

	ret = evr_copy_args(&args, sizeof(args), uarg);
	if (ret)
		return ret;
	if (args.flags)
		return -EINVAL;

	args.kind = uring->kind;
	args.side = ep->side;
	args.mode = uring->mode;
	args.read_only = ep->read_only;
	args.owner = ep->owner;
	args.uring_flags = 0;
	if (uring->kind == EVERING_KIND_CHANNEL) {
		if (uring->side[EVERING_SIDE_A].shared)
			args.uring_flags |= EVERING_URING_MULTI_A;
		if (uring->side[EVERING_SIDE_B].shared)
			args.uring_flags |= EVERING_URING_MULTI_B;
	}
	if (uring->lease)
		args.uring_flags |= EVERING_URING_LEASE;
	args.token = uring->token;
	args.layout = uring->layout;
	memcpy(args.name, uring->name.name, sizeof(args.name));
	return evr_return_args(&args, sizeof(args), uarg);
}

/*
 * Whoever has the descriptor may do this, also a child that has inherited it:
 * the new endpoint belongs to the process that maps it.
 */
static int evr_dup(struct evr_endpoint *ep, void __user *uarg)
{
	struct evr_new_endpoint new;
	struct evering_dup args;
	int ret;

	ret = evr_copy_args(&args, sizeof(args), uarg);
	if (ret)
		return ret;
	if (args.flags)
		return -EINVAL;
	if (!ep->uring->side[ep->side].many)
		return -EOPNOTSUPP;
	if (READ_ONCE(ep->dead))
		return -EBADFD;

	ret = evr_endpoint_new(ep->uring, ep->side, &new);
	if (ret)
		return ret;
	ret = evr_endpoint_attach(new.file, EVR_ATTACH_DUP);
	return evr_endpoint_install(&new, ret);
}

static long evr_endpoint_ioctl(struct file *file, unsigned int cmd,
			       unsigned long arg)
{
	struct evr_endpoint *ep = file->private_data;
	void __user *uarg = (void __user *)arg;

	switch (cmd) {
	case EVERING_IOC_ENTER:
		return evr_enter(ep, uarg);
	case EVERING_IOC_SHUTDOWN:
		return evr_shutdown(ep, uarg);
	case EVERING_IOC_PEER:
		return evr_peer(ep, uarg);
	case EVERING_IOC_DUP:
		return evr_dup(ep, uarg);
	case EVERING_IOC_INFO:
		return evr_info(ep, uarg);
	}
	return -ENOTTY;
}

static void evr_show_side(struct seq_file *m, struct evr_uring *uring,
			  unsigned int side)
{
	static const char * const states[] = { "pending", "open", "dead" };
	struct evr_side *s = &uring->side[side];
	const struct evering_control *control = s->control;
	u32 state, endpoints;

	spin_lock(&uring->lock);
	state = s->state;
	endpoints = s->endpoints;
	spin_unlock(&uring->lock);
	seq_printf(m, "side-%c:\tstate=%s endpoints=%u tail=%llu head=%llu closed=%u rclosed=%u sleepers=%u\n",
		   'a' + side, states[state], endpoints,
		   READ_ONCE(control->tail), READ_ONCE(control->head),
		   READ_ONCE(control->closed), READ_ONCE(control->rclosed),
		   READ_ONCE(s->nr_sleepers));
}

/* A counter of both rings. */
static void evr_show_words(struct seq_file *m, const char *name, const u64 *sq,
			   const u64 *cq)
{
	seq_printf(m, "%s:\t%llu %llu\n", name, READ_ONCE(*sq), READ_ONCE(*cq));
}

static void evr_endpoint_show(struct seq_file *m, struct file *file)
{
	struct evr_endpoint *ep = file->private_data;
	struct evr_uring *uring = ep->uring;
	const struct evering_geometry *geometry = &uring->layout.geometry;
	const struct evering_ring_words *words = uring->header->ring;

	seq_printf(m, "kind:\t%s\nside:\t%c\ntoken:\t%llu\nname:\t%s\nmode:\t%04o\n",
		   evr_kind(uring->kind)->name, 'a' + ep->side, uring->token,
		   uring->name.name, uring->mode);
	seq_printf(m, "entries:\t%u %u\nslot-size:\t%u %u\nheap-size:\t%llu %llu\n",
		   geometry->entries[0], geometry->entries[1],
		   geometry->slot_size[0], geometry->slot_size[1],
		   geometry->heap_size[0], geometry->heap_size[1]);
	seq_printf(m, "dead:\t%d\nowner:\t%u\nlease:\t%d\n",
		   READ_ONCE(ep->dead), ep->owner, uring->lease);
	evr_show_words(m, "healed", &words[0].healed, &words[1].healed);
	evr_show_words(m, "redelivered", &words[0].redelivered,
		       &words[1].redelivered);
	evr_show_words(m, "lost", &words[0].lost, &words[1].lost);
	evr_show_side(m, uring, EVERING_SIDE_A);
	evr_show_side(m, uring, EVERING_SIDE_B);
}

/**
 * evr_endpoint_die() - announce the end of an endpoint, once
 * @ep: the endpoint
 *
 * Called when its own section is unmapped, or the last of its sections (exit,
 * SIGKILL, exec, munmap), and when its file is released, whichever is first.
 * May be called under mmap_lock.
 */
void evr_endpoint_die(struct evr_endpoint *ep)
{
	bool was_alive, wrote;

	spin_lock(&ep->uring->lock);
	was_alive = ep->attached && !ep->dead;
	WRITE_ONCE(ep->dead, true);
	spin_unlock(&ep->uring->lock);
	if (!was_alive)
		return;
	/* Healed before it is announced; who never wrote left nothing. */
	wrote = ep->owner && ep->mapped;
	if (wrote)
		evr_heal(ep->uring, ep->side, ep->owner);
	evr_uring_detach(ep->uring, ep->side, wrote);
}

static int evr_endpoint_release(struct inode *inode, struct file *file)
{
	struct evr_endpoint *ep = file->private_data;

	evr_endpoint_die(ep);
	if (ep->owner)
		ida_free(&ep->uring->side[ep->side].owners, ep->owner);
	evr_uring_put(ep->uring);
	if (ep->mm)
		mmdrop(ep->mm);
	kfree(ep);
	atomic_long_dec(&evr_counters[EVR_ENDPOINTS]);
	return 0;
}

const struct file_operations evr_endpoint_fops = {
	.owner = THIS_MODULE,
	.release = evr_endpoint_release,
	.unlocked_ioctl = evr_endpoint_ioctl,
	.mmap = evr_mmap,
	.poll = evr_poll,
	.show_fdinfo = evr_endpoint_show,
	.llseek = noop_llseek,
};

/* 0, or -EBUSY where all names are taken, -ENOMEM. */
static int evr_endpoint_name(struct evr_endpoint *ep)
{
	int ret;

	ret = ida_alloc_range(&ep->uring->side[ep->side].owners, 1,
			      EVERING_MAX_OWNER, GFP_KERNEL_ACCOUNT);
	if (ret < 0)
		return ret == -ENOSPC ? -EBUSY : ret;
	ep->owner = ret;
	return 0;
}

/**
 * evr_endpoint_file() - an endpoint for one side of a uring
 * @uring:	gets a reference
 * @side:	EVERING_SIDE_*
 *
 * It is nobody yet: evr_endpoint_attach() is what its peer sees.
 *
 * Return: its file or ERR_PTR().
 */
struct file *evr_endpoint_file(struct evr_uring *uring, unsigned int side)
{
	struct evr_endpoint *ep;
	struct file *file;
	int ret;

	ep = kzalloc(sizeof(*ep), GFP_KERNEL_ACCOUNT);
	if (!ep)
		return ERR_PTR(-ENOMEM);
	ep->uring = uring;
	ep->side = side;
	ep->read_only = evr_kind(uring->kind)->read_only[side];
	ep->poll_at = EVERING_NOBODY;
	if (uring->side[side].shared &&
	    (evr_has_ring(uring, 0) || evr_has_ring(uring, 1))) {
		ret = evr_endpoint_name(ep);
		if (ret)
			goto free;
	}
	/* O_RDONLY: mm itself refuses a mapping that could be written. */
	file = anon_inode_getfile("[evering]", &evr_endpoint_fops, ep,
				  ep->read_only ? O_RDONLY : O_RDWR);
	if (IS_ERR(file)) {
		ret = PTR_ERR(file);
		goto free_name;
	}
	kref_get(&uring->ref);
	atomic_long_inc(&evr_counters[EVR_ENDPOINTS]);
	return file;

free_name:
	if (ep->owner)
		ida_free(&uring->side[side].owners, ep->owner);
free:
	kfree(ep);
	return ERR_PTR(ret);
}

/**
 * evr_endpoint_new() - evr_endpoint_file() and a descriptor for it
 * @uring:	gets a reference
 * @side:	EVERING_SIDE_*
 * @new:	out; evr_endpoint_install() it
 *
 * Return: 0 or -errno.
 */
int evr_endpoint_new(struct evr_uring *uring, unsigned int side,
		     struct evr_new_endpoint *new)
{
	new->fd = get_unused_fd_flags(O_CLOEXEC);
	if (new->fd < 0)
		return new->fd;
	new->file = evr_endpoint_file(uring, side);
	if (IS_ERR(new->file)) {
		put_unused_fd(new->fd);
		return PTR_ERR(new->file);
	}
	return 0;
}

/**
 * evr_endpoint_install() - into the caller's descriptors, or away
 * @new:	from evr_endpoint_new()
 * @ret:	0, or why it shall not be
 *
 * Return: its descriptor, or @ret.
 */
int evr_endpoint_install(const struct evr_new_endpoint *new, int ret)
{
	if (ret) {
		put_unused_fd(new->fd);
		fput(new->file);
		return ret;
	}
	fd_install(new->fd, new->file);
	return new->fd;
}

/**
 * evr_endpoint_attach() - from here on it is alive
 * @file:	of a new endpoint, in nobody's hands yet
 * @how:	as for evr_uring_attach()
 *
 * Return: as evr_uring_attach().
 */
int evr_endpoint_attach(struct file *file, enum evr_attach how)
{
	struct evr_endpoint *ep = file->private_data;
	int ret;

	ret = evr_uring_attach(ep->uring, ep->side, how);
	if (!ret)
		ep->attached = true;
	return ret;
}
