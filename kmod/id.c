// SPDX-License-Identifier: GPL-2.0
/* Who a process is, and what that allows. */
#include <linux/capability.h>
#include <linux/cred.h>
#include <linux/pid.h>
#include <linux/user_namespace.h>

#include "internal.h"

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

/* As for an inode: root of a namespace that knows the owner. */
static bool evr_capable_wrt(struct user_namespace *ns, const struct evr_id *owner,
			    int cap)
{
	return kuid_has_mapping(ns, owner->uid) &&
	       kgid_has_mapping(ns, owner->gid) && ns_capable(ns, cap);
}

/**
 * evr_may() - do mode bits allow it, as on a file?
 * @ns:		of the network namespace that the object belongs to
 * @owner:	of the object
 * @mode:	of the object
 * @want:	0004 to read, 0002 to write
 *
 * Return: 0 or -EACCES.
 */
int evr_may(struct user_namespace *ns, const struct evr_id *owner, u32 mode,
	    u32 want)
{
	if (uid_eq(current_fsuid(), owner->uid))
		mode >>= 6;
	else if (in_group_p(owner->gid))
		mode >>= 3;
	if ((mode & want) == want)
		return 0;
	return evr_capable_wrt(ns, owner, CAP_DAC_OVERRIDE) ? 0 : -EACCES;
}

/**
 * evr_may_unlink() - is the current process the owner, or may it act so?
 * @ns:		as for evr_may()
 * @owner:	of the object
 *
 * Return: 0 or -EACCES.
 */
int evr_may_unlink(struct user_namespace *ns, const struct evr_id *owner)
{
	if (uid_eq(current_fsuid(), owner->uid))
		return 0;
	return evr_capable_wrt(ns, owner, CAP_FOWNER) ? 0 : -EACCES;
}
