// SPDX-License-Identifier: GPL-2.0
/* Module, control device, and what every ioctl does with its argument. */
#include <linux/ctype.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/nsproxy.h>
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
 * evr_check_name() - is this a name?
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

static int evr_query(struct file *control, void __user *uarg)
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
	args.registry_bytes = evr_registry_bytes(control->private_data);
	evr_user_limits(&args.user_bytes, &args.user_entries);
	return evr_return_args(&args, sizeof(args), uarg);
}

static long evr_control_ioctl(struct file *file, unsigned int cmd,
			      unsigned long arg)
{
	void __user *uarg = (void __user *)arg;

	switch (cmd) {
	case EVERING_IOC_QUERY:
		return evr_query(file, uarg);
	case EVERING_IOC_LISTEN:
		return evr_listen(file, uarg);
	case EVERING_IOC_CONNECT:
		return evr_connect(file, uarg);
	case EVERING_IOC_CREATE:
		return evr_create(file, uarg);
	case EVERING_IOC_OPEN:
		return evr_open(file, uarg);
	case EVERING_IOC_UNLINK:
		return evr_unlink(file, uarg);
	}
	return -ENOTTY;
}

/* A control file belongs to a network namespace, as a socket does. */
static int evr_control_open(struct inode *inode, struct file *file)
{
	struct evr_registry *registry;

	registry = evr_registry_get(current->nsproxy->net_ns);
	if (IS_ERR(registry))
		return PTR_ERR(registry);
	file->private_data = registry;
	return 0;
}

static int evr_control_release(struct inode *inode, struct file *file)
{
	evr_registry_put(file->private_data);
	return 0;
}

static int evr_control_mmap(struct file *file, struct vm_area_struct *vma)
{
	return evr_registry_mmap(file->private_data, vma);
}

/*
 * There is no .compat_ioctl anywhere in this module: a 32-bit program gets
 * -ENOTTY, since it could not access the 64-bit words in one piece.
 */
static const struct file_operations evr_control_fops = {
	.owner = THIS_MODULE,
	.open = evr_control_open,
	.release = evr_control_release,
	.unlocked_ioctl = evr_control_ioctl,
	.mmap = evr_control_mmap,
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
	BUILD_BUG_ON(sizeof(struct evering_registry) > PAGE_SIZE);
	BUILD_BUG_ON(PAGE_SIZE % sizeof(struct evering_registry_entry));

	ret = evr_registries_init();
	if (ret)
		return ret;
	ret = misc_register(&evr_device);
	if (ret)
		evr_registries_exit();
	return ret;
}

static void __exit evr_exit(void)
{
	misc_deregister(&evr_device);
	evr_registries_exit();
}

module_init(evr_init);
module_exit(evr_exit);

MODULE_AUTHOR("The evering developers");
MODULE_DESCRIPTION("Submission and completion rings between processes");
MODULE_LICENSE("GPL");
