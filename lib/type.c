/* SPDX-License-Identifier: MIT OR LGPL-2.1 */
/* Sets of types, by the tag that a token has. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

#define FIRST_SLOTS	16U

/**
 * struct evering_types - tag -> type
 * @slots:	hash table, open addressing; NULL is free
 * @nr_slots:	a power of two
 * @nr:		in use, at most half
 */
struct evering_types {
	const struct evering_type **slots;
	uint32_t nr_slots;
	uint32_t nr;
};

/* Where the type with @tag is, or where it would go.  Tags are hashes already. */
static uint32_t evr_types_slot(const struct evering_types *types, uint32_t tag)
{
	uint32_t i;

	for (i = tag & (types->nr_slots - 1); types->slots[i];
	     i = (i + 1) & (types->nr_slots - 1))
		if (evering_type_tag(types->slots[i]) == tag)
			break;
	return i;
}

static int evr_types_grow(struct evering_types *types)
{
	struct evering_types larger = {
		.nr_slots = types->nr_slots ? types->nr_slots * 2 : FIRST_SLOTS,
		.nr = types->nr,
	};
	uint32_t i;

	larger.slots = calloc(larger.nr_slots, sizeof(*larger.slots));
	if (!larger.slots)
		return -ENOMEM;
	for (i = 0; i < types->nr_slots; i++) {
		const struct evering_type *type = types->slots[i];

		if (type)
			larger.slots[evr_types_slot(&larger, evering_type_tag(type))] =
				type;
	}
	free(types->slots);
	*types = larger;
	return 0;
}

bool evr_type_ok(const struct evering_type *type)
{
	return type && type->name && type->id && type->size && type->align &&
	       !(type->align & (type->align - 1));
}

/* Are @len bytes a whole number of values?  Of no type, anything is. */
bool evr_type_fits(const struct evering_type *type, size_t len)
{
	return !type || (evr_type_ok(type) && len && !(len % type->size));
}

bool evr_type_aligned(const struct evering_type *type, const void *values)
{
	return !type || !((uintptr_t)values & (type->align - 1));
}

/* EVERING_TYPE_ID() of a name that is not a constant; 0 for what is no name. */
static uint64_t evr_type_id(const char *name)
{
	size_t len = strnlen(name, EVERING_TYPE_NAME_MAX + 1), i;
	uint64_t id = 0xcbf29ce484222325U;

	if (!len || len > EVERING_TYPE_NAME_MAX)
		return 0;
	for (i = 0; i < len; i++)
		id = (id ^ (uint8_t)name[i]) * 0x100000001b3U;
	return id;
}

EXPORT int evering_types_new(struct evering_types **out)
{
	struct evering_types *types = calloc(1, sizeof(*types));
	int ret;

	if (!types)
		return -ENOMEM;
	ret = evr_types_grow(types);
	if (ret) {
		free(types);
		return ret;
	}
	*out = types;
	return 0;
}

EXPORT void evering_types_free(struct evering_types *types)
{
	if (!types)
		return;
	free(types->slots);
	free(types);
}

EXPORT int evering_types_add(struct evering_types *types,
			     const struct evering_type *type)
{
	const struct evering_type *other;
	uint32_t slot;
	int ret;

	/* It may be made by hand. */
	if (!evr_type_ok(type) || type->id != evr_type_id(type->name))
		return -EINVAL;
	slot = evr_types_slot(types, evering_type_tag(type));
	other = types->slots[slot];
	if (other) {
		if (strcmp(other->name, type->name))
			return -ENOTUNIQ;
		return other->size == type->size &&
		       other->align == type->align ? 0 : -EEXIST;
	}
	if (types->nr * 2 >= types->nr_slots) {
		ret = evr_types_grow(types);
		if (ret)
			return ret;
		slot = evr_types_slot(types, evering_type_tag(type));
	}
	types->slots[slot] = type;
	types->nr++;
	return 0;
}

EXPORT const struct evering_type *
evering_types_find(const struct evering_types *types, uint32_t tag)
{
	return tag ? types->slots[evr_types_slot(types, tag)] : NULL;
}
