// SPDX-License-Identifier: GPL-2.0
/*
 * What one user may have at a time.  The memory cgroup is charged as well; this
 * is for the user who has many, or none that is limited.  A user is a uid: who
 * commands several, as root of a user namespace does, has as many limits.
 */
#include <linux/capability.h>
#include <linux/hashtable.h>
#include <linux/module.h>
#include <linux/overflow.h>
#include <linux/slab.h>

#include "internal.h"

static unsigned long user_bytes = 1UL << 30;
module_param(user_bytes, ulong, 0644);
MODULE_PARM_DESC(user_bytes,
		 "most bytes of shared memory that one user has created");

/* Half of the default registry: one user alone cannot fill it. */
static unsigned long user_entries = 2048;
module_param(user_entries, ulong, 0644);
MODULE_PARM_DESC(user_entries, "most urings and services of one user");

/**
 * struct evr_user - a user who has something
 * @node:	in evr_users
 * @uid:	the real one, as for resource limits
 * @bytes:	of all urings
 * @entries:	urings and services; the structure goes with the last of them
 */
struct evr_user {
	struct hlist_node node;
	kuid_t uid;
	u64 bytes;
	u64 entries;
};

static DEFINE_SPINLOCK(evr_users_lock);	/* evr_users, bytes, entries */
static DEFINE_HASHTABLE(evr_users, 6);

/**
 * evr_user_limits() - the module parameters, which root may be changing
 * @bytes:	out
 * @entries:	out
 */
void evr_user_limits(u64 *bytes, u64 *entries)
{
	*bytes = READ_ONCE(user_bytes);
	*entries = READ_ONCE(user_entries);
}

static struct evr_user *evr_find_user(kuid_t uid)
{
	struct evr_user *user;

	lockdep_assert_held(&evr_users_lock);
	hash_for_each_possible(evr_users, user, node, __kuid_val(uid))
		if (uid_eq(user->uid, uid))
			return user;
	return NULL;
}

/**
 * evr_charge() - one more uring or service of the current user
 * @bytes:	that it takes
 * @charged:	out: for evr_uncharge()
 *
 * Return: 0; -EDQUOT: over a limit, and no CAP_SYS_RESOURCE; -ENOMEM.
 */
int evr_charge(u64 bytes, struct evr_user **charged)
{
	kuid_t uid = current_uid();
	struct evr_user *user, *new;
	u64 most_bytes, most_entries, sum;
	int ret = 0;

	evr_user_limits(&most_bytes, &most_entries);
	new = kzalloc(sizeof(*new), GFP_KERNEL_ACCOUNT);
	if (!new)
		return -ENOMEM;
	new->uid = uid;

again:
	spin_lock(&evr_users_lock);
	user = evr_find_user(uid) ?: new;
	if (user->entries >= most_entries ||
	    check_add_overflow(user->bytes, bytes, &sum) || sum > most_bytes) {
		spin_unlock(&evr_users_lock);
		if (capable(CAP_SYS_RESOURCE)) {
			most_bytes = U64_MAX;
			most_entries = U64_MAX;
			goto again;
		}
		ret = -EDQUOT;
		user = NULL;
		goto out;
	}
	if (user == new)
		hash_add(evr_users, &new->node, __kuid_val(uid));
	user->bytes = sum;
	user->entries++;
	spin_unlock(&evr_users_lock);
out:
	if (user != new)
		kfree(new);
	*charged = user;
	return ret;
}

/**
 * evr_uncharge() - undo evr_charge()
 * @user:	from there, or NULL
 * @bytes:	as there
 */
void evr_uncharge(struct evr_user *user, u64 bytes)
{
	bool last;

	if (!user)
		return;
	spin_lock(&evr_users_lock);
	user->bytes -= bytes;
	last = !--user->entries;
	if (last)
		hash_del(&user->node);
	spin_unlock(&evr_users_lock);
	if (last)
		kfree(user);
}
