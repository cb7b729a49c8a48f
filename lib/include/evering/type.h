/* SPDX-License-Identifier: MIT OR LGPL-2.1 */
/*
 * Types of payloads: a name that two programs have agreed on, and what it looks like
 * in memory.
 *
 *	static const struct evering_type position =
 *		EVERING_TYPE(struct position, "geo.position");
 *
 * Only the name decides: it is the same type in every build of every program that
 * declares it.  Give it another name when its layout changes.
 *
 * Included by <evering.h>, whose conventions hold.
 */
#ifndef EVERING_TYPE_H
#define EVERING_TYPE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define EVERING_TYPE_NAME_MAX	64	/* bytes, without NUL */

/**
 * struct evering_type - a type
 * @name:	1 to EVERING_TYPE_NAME_MAX bytes
 * @id:		FNV-1a of the name, 64 bits
 * @size:	bytes of a value, never 0
 * @align:	bytes, a power of two
 */
struct evering_type {
	const char *name;
	uint64_t id;
	uint32_t size;
	uint32_t align;
};

/* FNV-1a of a string literal, a constant: each step beyond its end does nothing. */
#define EVERING_FNV_IN(s, i)	((i) < sizeof(s) - 1)
#define EVERING_FNV_1(h, s, i)						       \
	(((h) ^ (uint8_t)(EVERING_FNV_IN(s, i) ?				       \
			  (s)[EVERING_FNV_IN(s, i) ? (i) : 0] : 0)) *	       \
	 (EVERING_FNV_IN(s, i) ? 0x100000001b3ULL : 1))
#define EVERING_FNV_4(h, s, i)						       \
	EVERING_FNV_1(EVERING_FNV_1(EVERING_FNV_1(EVERING_FNV_1(h, s, i),      \
		s, (i) + 1), s, (i) + 2), s, (i) + 3)
#define EVERING_FNV_16(h, s, i)						       \
	EVERING_FNV_4(EVERING_FNV_4(EVERING_FNV_4(EVERING_FNV_4(h, s, i),      \
		s, (i) + 4), s, (i) + 8), s, (i) + 12)
#define EVERING_TYPE_ID(s)						       \
	EVERING_FNV_16(EVERING_FNV_16(EVERING_FNV_16(EVERING_FNV_16(	       \
		0xcbf29ce484222325ULL, s, 0), s, 16), s, 32), s, 48)

/*
 * The initializer of a struct evering_type, also of one that is static.  The name is a
 * string literal; one that is empty or too long has id 0, which evering_types_add() and
 * whatever takes a type refuse.
 */
#define EVERING_TYPE(type, type_name)					       \
	{								       \
		type_name,						       \
		sizeof("" type_name) > 1 &&				       \
		sizeof("" type_name) - 1 <= EVERING_TYPE_NAME_MAX ?	       \
			EVERING_TYPE_ID("" type_name) : 0,		       \
		sizeof(type), __alignof__(type)				       \
	}

/**
 * evering_type_tag() - what stands for a type in a token
 * @type:	NULL: of no type
 *
 * Return: the two halves of its id folded into one, never 0; 0 for NULL.
 */
static inline uint32_t evering_type_tag(const struct evering_type *type)
{
	uint32_t tag;

	if (!type)
		return 0;
	tag = (uint32_t)(type->id ^ type->id >> 32);
	return tag ? tag : 1;
}

/*
 * The types that a program knows.  Two names with one id, or one tag, are found when
 * they are added, not when a payload is taken for what it is not.
 */
struct evering_types;

/**
 * evering_types_new() - an empty set of types
 * @types:	out; evering_types_free() it
 *
 * A set may be searched by any number of threads, while none adds to it.
 *
 * Return: 0; -ENOMEM.
 */
int evering_types_new(struct evering_types **types);

/** evering_types_free() - end of a set; NULL is allowed */
void evering_types_free(struct evering_types *types);

/**
 * evering_types_add() - one more type
 * @types:	the set
 * @type:	kept, not copied
 *
 * One that is there already, the same in all, is no error.
 *
 * Return: 0; -EEXIST: this name has another size or alignment; -ENOTUNIQ: another
 * name has this tag: choose another; -EINVAL: no name, size or alignment, or not the
 * id of the name; -ENOMEM.
 */
int evering_types_add(struct evering_types *types,
		      const struct evering_type *type);

/**
 * evering_types_find() - the type that a token says
 * @types:	the set
 * @tag:	of the token
 *
 * Return: NULL: no such type.
 */
const struct evering_type *evering_types_find(const struct evering_types *types,
					      uint32_t tag);

#ifdef __cplusplus
}
#endif

#endif /* EVERING_TYPE_H */
