/* SPDX-License-Identifier: GPL-2.0 */
/* What differs between the kernels that the module builds for: 6.1 to 6.12. */
#ifndef _EVERING_COMPAT_H
#define _EVERING_COMPAT_H

#include <linux/mm.h>
#include <linux/nsproxy.h>
#include <linux/time_namespace.h>
#include <linux/version.h>

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
static inline void vm_flags_mod(struct vm_area_struct *vma, vm_flags_t set,
				vm_flags_t clear)
{
	vma->vm_flags = (vma->vm_flags | set) & ~clear;
}
#endif

/*
 * timens_ktime_to_host() for CLOCK_MONOTONIC; the kernel's own calls a
 * function that is not exported.
 */
static inline ktime_t evr_timens_to_host(ktime_t time)
{
#ifdef CONFIG_TIME_NS
	struct timens_offsets *offsets = &current->nsproxy->time_ns->offsets;
	ktime_t offset = timespec64_to_ktime(offsets->monotonic);

	if (time == KTIME_MAX || !offset)
		return time;
	/* A time before the host's clock began has passed. */
	if (offset > 0 && time < offset)
		return 0;
	if (offset < 0 && time > KTIME_MAX + offset)
		return KTIME_MAX;
	return time - offset;
#else
	return time;
#endif
}

#endif /* _EVERING_COMPAT_H */
