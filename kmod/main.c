// SPDX-License-Identifier: GPL-2.0
/* Module, control device, and what every ioctl does with its argument. */
#include <linux/ctype.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/sysfs.h>

#include "internal.h"
#define CREATE_TRACE_POINTS
#include "trace.h"

static unsigned long max_uring_bytes = 256UL << 20;
module_param(max_uring_bytes, ulong, 0644);
MODULE_PARM_DESC(max_uring_bytes, "most bytes of shared memory in one uring");

atomic_long_t evr_counters[EVR_NR_COUNTERS];

/**
 * evr_max_uring_bytes() - the module parameter, which root may be changing
 *
 * Return: bytes.
 */
u64 evr_max_uring_bytes(void)
{
	return READ_ONCE(max_uring_bytes);
}

/**
 * evr_copy_other_args() - evr_copy_args() for a size that is not ours
 * @args:	filled
 * @known:	sizeof(*@args)
 * @uarg:	the user's
 * @size:	as fetched from there
 *
 * Return: as evr_copy_args().
 */
int evr_copy_other_args(void *args, size_t known, const void __user *uarg,
			u32 size)
{
	int ret;

	if (size < known)
		return -EINVAL;
	if (size > PAGE_SIZE)
		return -E2BIG;
	ret = copy_struct_from_user(args, known, uarg, size);
	if (ret)
		return ret;
	*(u32 *)args = size;
	return 0;
}

/**
 * evr_return_args() - give an argument struct with its results back
 * @args:	from evr_copy_args()
 * @known:	sizeof(*@args)
 * @uarg:	the user's
 *
 * Return: 0 or -EFAULT.
 */
int evr_return_args(const void *args, size_t known, void __user *uarg)
{
	return copy_to_user(uarg, args, known) ? -EFAULT : 0;
}

/**
 * evr_check_name() - is this a service name?
 * @name:	EVERING_NAME_MAX + 1 bytes from user space
 *
 * Printable ASCII without blanks, so that a name cannot forge a line in
 * fdinfo, in a log or in a trace.
 *
 * Return: 0, -EINVAL, or -ENAMETOOLONG where there is no NUL.
 */
int evr_check_name(const char *name)
{
	size_t len = strnlen(name, EVERING_NAME_MAX + 1);
	size_t i;

	if (len > EVERING_NAME_MAX)
		return -ENAMETOOLONG;
	if (!len)
		return -EINVAL;
	for (i = 0; i < len; i++)
		if (!isascii(name[i]) || !isgraph(name[i]))
			return -EINVAL;
	return 0;
}

/**
 * evr_id_get() - remember the current process
 * @id: filled; give it back with evr_id_put()
 */
void evr_id_get(struct evr_id *id)
{
	id->uid = current_euid();
	id->gid = current_egid();
	id->pid = get_task_pid(current, PIDTYPE_TGID);
}

/**
 * evr_id_put() - forget a process
 * @id: from evr_id_get(), or zeroed
 */
void evr_id_put(struct evr_id *id)
{
	put_pid(id->pid);
	id->pid = NULL;
}

static int evr_query(void __user *uarg)
{
	struct evering_query args;
	int ret;

	ret = evr_copy_args(&args, sizeof(args), uarg);
	if (ret)
		return ret;
	if (args.flags)
		return -EINVAL;

	args.abi_version = EVERING_ABI_VERSION;
	args.max_entries = EVERING_MAX_ENTRIES;
	args.max_slot_size = EVERING_MAX_SLOT_SIZE;
	args.max_backlog = EVERING_MAX_BACKLOG;
	args.features = 0;
	args.max_uring_bytes = evr_max_uring_bytes();
	return evr_return_args(&args, sizeof(args), uarg);
}

static long evr_control_ioctl(struct file *file, unsigned int cmd,
			      unsigned long arg)
{
	void __user *uarg = (void __user *)arg;

	switch (cmd) {
	case EVERING_IOC_QUERY:
		return evr_query(uarg);
	case EVERING_IOC_LISTEN:
		return evr_listen(file, uarg);
	case EVERING_IOC_CONNECT:
		return evr_connect(file, uarg);
	}
	return -ENOTTY;
}

/*
 * There is no .compat_ioctl anywhere in this module: a 32-bit program gets
 * -ENOTTY, since it could not access the 64-bit words in one piece.
 */
static const struct file_operations evr_control_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = evr_control_ioctl,
	.llseek = noop_llseek,
};

#define EVR_COUNTER_ATTR(_name, _counter)				\
static ssize_t _name##_show(struct device *dev,				\
			    struct device_attribute *attr, char *buf)	\
{									\
	return sysfs_emit(buf, "%ld\n",					\
			  atomic_long_read(&evr_counters[_counter]));	\
}									\
static DEVICE_ATTR_RO(_name)

EVR_COUNTER_ATTR(urings, EVR_URINGS);
EVR_COUNTER_ATTR(endpoints, EVR_ENDPOINTS);
EVR_COUNTER_ATTR(services, EVR_SERVICES);
EVR_COUNTER_ATTR(bytes, EVR_BYTES);

static struct attribute *evr_attrs[] = {
	&dev_attr_urings.attr,
	&dev_attr_endpoints.attr,
	&dev_attr_services.attr,
	&dev_attr_bytes.attr,
	NULL,
};
ATTRIBUTE_GROUPS(evr);

static struct miscdevice evr_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "evering",
	.fops = &evr_control_fops,
	.mode = 0666,
	.groups = evr_groups,
};

static int __init evr_init(void)
{
	int ret;

	BUILD_BUG_ON(sizeof(struct evering_header) > PAGE_SIZE);
	BUILD_BUG_ON(sizeof(struct evering_control) > PAGE_SIZE);

	ret = evr_services_init();
	if (ret)
		return ret;
	ret = misc_register(&evr_device);
	if (ret)
		evr_services_exit();
	return ret;
}

static void __exit evr_exit(void)
{
	misc_deregister(&evr_device);
	evr_services_exit();
}

module_init(evr_init);
module_exit(evr_exit);

MODULE_AUTHOR("The evering developers");
MODULE_DESCRIPTION("Submission and completion rings between processes");
MODULE_LICENSE("GPL");
