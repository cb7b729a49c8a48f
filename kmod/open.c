// SPDX-License-Identifier: GPL-2.0
/* Urings by token and by name: CREATE, OPEN, UNLINK. */
#include <net/net_namespace.h>

#include "internal.h"
#include "trace.h"

/* Copies a name that may be empty.  0, -EINVAL or -ENAMETOOLONG. */
static int evr_check_optional_name(const char *name)
{
	return name[0] ? evr_check_name(name) : 0;
}

/* Exactly one of token and name says which. */
static int evr_check_which(u64 token, const char *name)
{
	if (!token == !name[0])
		return -EINVAL;
	return evr_check_optional_name(name);
}

static int evr_check_create(const struct evering_create *args)
{
	const struct evr_kind *kind;

	if (args->__resv || args->mode & ~0777)
		return -EINVAL;
	kind = evr_kind(args->kind);
	if (!kind)
		return -EOPNOTSUPP;
	if (args->side > EVERING_SIDE_B || kind->read_only[args->side])
		return -EINVAL;
	return evr_check_optional_name(args->name);
}

/**
 * evr_create() - EVERING_IOC_CREATE
 * @control:	/dev/evering
 * @uarg:	struct evering_create
 *
 * Return: the endpoint's fd or -errno.
 */
int evr_create(struct file *control, void __user *uarg)
{
	struct evr_uring_params params;
	struct evering_create args;
	struct evr_new_endpoint new;
	struct evr_uring *uring;
	int ret;

	ret = evr_copy_args(&args, sizeof(args), uarg);
	if (ret)
		return ret;
	ret = evr_check_create(&args);
	if (ret)
		return ret;
	if (!(control->f_mode & FMODE_WRITE))
		return -EACCES;

	params = (struct evr_uring_params) {
		.registry = control->private_data,
		.kind = args.kind,
		.mode = args.mode,
		.flags = args.flags,
		.entry_flags = args.name[0] ? EVERING_ENTRY_NAMED : 0,
		.name = args.name,
		.geometry = args.geometry,
	};
	uring = evr_uring_create(&params);
	if (IS_ERR(uring))
		return PTR_ERR(uring);
	ret = evr_endpoint_new(uring, args.side, &new);
	if (ret)
		goto put_uring;
	args.layout = uring->layout;
	args.token = uring->token;
	ret = evr_return_args(&args, sizeof(args), uarg) ?:
	      evr_endpoint_attach(new.file, EVR_ATTACH_FIRST) ?:
	      evr_registry_activate(uring);
	ret = evr_endpoint_install(&new, ret);
put_uring:
	evr_uring_put(uring);
	return ret;
}

/* The right to open @side of what has been found. */
static int evr_may_open(const struct evr_uring *uring, const struct file *control,
			const struct evering_open *args)
{
	const struct evr_kind *kind = evr_kind(uring->kind);
	u32 want = args->side == EVERING_SIDE_A ? 0002 : 0004;

	/* Its sides are those of CONNECT and ACCEPT.  UNLINK may change other bits. */
	if (READ_ONCE(uring->entry_flags) & EVERING_ENTRY_CONNECTED)
		return -EACCES;
	if (!kind->read_only[args->side] && !(control->f_mode & FMODE_WRITE))
		return -EACCES;
	if (evr_may(uring->registry->net->user_ns, &uring->creator, uring->mode,
		    want))
		return -EACCES;
	if (args->kind != EVERING_KIND_ANY && args->kind != uring->kind)
		return -EPROTOTYPE;
	return 0;
}

/**
 * evr_open() - EVERING_IOC_OPEN
 * @control:	/dev/evering
 * @uarg:	struct evering_open
 *
 * Return: the endpoint's fd or -errno.
 */
int evr_open(struct file *control, void __user *uarg)
{
	struct evering_open args;
	struct evr_new_endpoint new;
	struct evr_uring *uring;
	int ret;

	ret = evr_copy_args(&args, sizeof(args), uarg);
	if (ret)
		return ret;
	if (args.flags || args.side > EVERING_SIDE_B)
		return -EINVAL;
	if (args.kind != EVERING_KIND_ANY && !evr_kind(args.kind))
		return -EOPNOTSUPP;
	ret = evr_check_which(args.token, args.name);
	if (ret)
		return ret;

	uring = evr_registry_find(control->private_data, args.token, args.name);
	if (IS_ERR(uring))
		return PTR_ERR(uring);
	ret = evr_may_open(uring, control, &args);
	if (ret)
		goto put_uring;
	ret = evr_endpoint_new(uring, args.side, &new);
	if (ret)
		goto put_uring;
	args.layout = uring->layout;
	args.token = uring->token;
	args.kind = uring->kind;
	ret = evr_return_args(&args, sizeof(args), uarg) ?:
	      evr_endpoint_attach(new.file, EVR_ATTACH_OPEN);
	if (!ret)
		trace_evering_open(uring->token,
				   from_kuid_munged(&init_user_ns,
						    current_euid()),
				   task_tgid_nr(current));
	ret = evr_endpoint_install(&new, ret);
put_uring:
	evr_uring_put(uring);
	return ret;
}

/**
 * evr_unlink() - EVERING_IOC_UNLINK
 * @control:	/dev/evering
 * @uarg:	struct evering_unlink
 *
 * Return: 0 or -errno.
 */
int evr_unlink(struct file *control, void __user *uarg)
{
	struct evering_unlink args;
	struct evr_uring *uring;
	int ret;

	ret = evr_copy_args(&args, sizeof(args), uarg);
	if (ret)
		return ret;
	if (args.flags)
		return -EINVAL;
	ret = evr_check_which(args.token, args.name);
	if (ret)
		return ret;
	if (!(control->f_mode & FMODE_WRITE))
		return -EACCES;

	uring = evr_registry_find(control->private_data, args.token, args.name);
	if (IS_ERR(uring))
		return PTR_ERR(uring);
	ret = evr_may_unlink(uring->registry->net->user_ns, &uring->creator);
	if (!ret) {
		spin_lock(&uring->registry->lock);
		if (!evr_registry_retire(uring))
			ret = -ESTALE;
		spin_unlock(&uring->registry->lock);
	}
	evr_uring_put(uring);
	return ret;
}
