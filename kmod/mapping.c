// SPDX-License-Identifier: GPL-2.0
/* Who may map what: HEADER and the peer's section to read, one's own to write. */
#include <linux/nospec.h>
#include <linux/sched/mm.h>

#include "compat.h"
#include "internal.h"

static const struct evr_section *evr_vma_section(struct vm_area_struct *vma)
{
	struct evr_endpoint *ep = vma->vm_private_data;
	unsigned int i;

	i = vma->vm_pgoff >> (EVERING_MMAP_SHIFT - PAGE_SHIFT);
	return &ep->uring->section[i];
}

static bool evr_vma_is_own(struct vm_area_struct *vma)
{
	struct evr_endpoint *ep = vma->vm_private_data;

	return !ep->read_only &&
	       evr_vma_section(vma) == evr_own_section(ep->uring, ep->side);
}

/*
 * Only mappings of the endpoint's own process count: VM_DONTCOPY keeps them
 * from children, but MADV_DOFORK can undo that.
 */
static bool evr_vma_counts(struct vm_area_struct *vma)
{
	struct evr_endpoint *ep = vma->vm_private_data;

	return vma->vm_mm == READ_ONCE(ep->mm);
}

static void evr_vma_open(struct vm_area_struct *vma)
{
	struct evr_endpoint *ep = vma->vm_private_data;

	if (!evr_vma_counts(vma))
		return;
	spin_lock(&ep->uring->lock);
	ep->maps++;
	ep->own_maps += evr_vma_is_own(vma);
	spin_unlock(&ep->uring->lock);
}

static void evr_vma_close(struct vm_area_struct *vma)
{
	struct evr_endpoint *ep = vma->vm_private_data;
	bool own = evr_vma_is_own(vma);
	bool last;

	if (!evr_vma_counts(vma))
		return;
	spin_lock(&ep->uring->lock);
	ep->maps--;
	ep->own_maps -= own;
	/* All gone: killed before it came to map its own section. */
	last = !ep->maps || (own && !ep->own_maps);
	spin_unlock(&ep->uring->lock);
	/* mm has flushed the TLB: no store of the program comes after this. */
	if (last)
		evr_endpoint_die(ep);
}

/* In one piece, so that there is one moment at which it goes. */
static int evr_vma_may_split(struct vm_area_struct *vma, unsigned long addr)
{
	return -EINVAL;
}

/* mm moves it back, with ->open and ->close for the copy. */
static int evr_vma_mremap(struct vm_area_struct *vma)
{
	return -EINVAL;
}

static vm_fault_t evr_vma_fault(struct vm_fault *vmf)
{
	struct vm_area_struct *vma = vmf->vma;
	const struct evr_section *section = evr_vma_section(vma);
	struct evr_endpoint *ep = vma->vm_private_data;
	unsigned long i = vmf->pgoff - vma->vm_pgoff;
	struct page *page;

	if (vma->vm_mm != READ_ONCE(ep->mm) || i >= section->nr_pages)
		return VM_FAULT_SIGBUS;
	page = section->pages[array_index_nospec(i, section->nr_pages)];
	get_page(page);
	vmf->page = page;
	return 0;
}

static const struct vm_operations_struct evr_vm_ops = {
	.open = evr_vma_open,
	.close = evr_vma_close,
	.may_split = evr_vma_may_split,
	.mremap = evr_vma_mremap,
	.fault = evr_vma_fault,
};

/* The first mmap binds an endpoint to a process, for good. */
static int evr_bind(struct evr_endpoint *ep, bool own)
{
	int ret = 0;

	spin_lock(&ep->uring->lock);
	if (ep->dead) {
		ret = -EBADFD;
	} else if (ep->mm && ep->mm != current->mm) {
		ret = -EPERM;
	} else if (own && ep->mapped) {
		ret = -EBUSY;
	} else {
		if (!ep->mm) {
			mmgrab(current->mm);
			WRITE_ONCE(ep->mm, current->mm);
		}
		ep->maps++;
		if (own) {
			WRITE_ONCE(ep->mapped, true);
			ep->own_maps = 1;
		}
	}
	spin_unlock(&ep->uring->lock);
	return ret;
}

/**
 * evr_mmap() - map one section, whole
 * @file:	an endpoint
 * @vma:	at EVERING_MMAP_OFFSET(section)
 *
 * Return: 0, -EINVAL for a wrong offset, length or kind of mapping, -EACCES
 * for a write to what is not one's own, -EPERM for PROT_EXEC or a second
 * process, -EBUSY for a second mapping of the own section, -EBADFD.
 */
int evr_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct evr_endpoint *ep = file->private_data;
	unsigned long index, rest;
	bool own;
	int ret;

	index = vma->vm_pgoff >> (EVERING_MMAP_SHIFT - PAGE_SHIFT);
	rest = vma->vm_pgoff & ((1UL << (EVERING_MMAP_SHIFT - PAGE_SHIFT)) - 1);
	if (index > EVERING_SECTION_B || rest)
		return -EINVAL;
	index = array_index_nospec(index, EVERING_SECTION_B + 1);
	if (vma_pages(vma) != ep->uring->section[index].nr_pages)
		return -EINVAL;
	/* VM_MAYSHARE: a private mapping would be a copy of nobody's ring. */
	if (!(vma->vm_flags & VM_MAYSHARE))
		return -EINVAL;
	if (vma->vm_flags & VM_EXEC)
		return -EPERM;

	own = !ep->read_only && index == EVERING_SECTION_A + ep->side;
	if (!own && (vma->vm_flags & VM_WRITE))
		return -EACCES;
	if (own && !(vma->vm_flags & VM_WRITE))
		return -EINVAL;
	ret = evr_bind(ep, own);
	if (ret)
		return ret;

	/* Without VM_MAYWRITE mprotect() cannot raise it later. */
	vm_flags_mod(vma, VM_DONTEXPAND | VM_DONTDUMP | VM_DONTCOPY,
		     VM_MAYEXEC | (own ? 0 : VM_MAYWRITE));
	vma->vm_private_data = ep;
	vma->vm_ops = &evr_vm_ops;
	return 0;
}
