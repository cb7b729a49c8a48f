/* SPDX-License-Identifier: GPL-2.0 */
/* The words of slots, stamps and claims: used by ready.c, wait.c and heal.c. */
#ifndef _EVERING_WORDS_H
#define _EVERING_WORDS_H

#include "internal.h"

/**
 * struct evr_words - the stamps of a ring, or its claim words
 * @section:	where they are
 * @offset:	of the word of slot 0
 * @stride:	from one to the next
 * @mask:	entries - 1
 * @shift:	log2 of entries
 * @claims:	they are claim words
 * @cursor:	that those who write the words move
 */
struct evr_words {
	const struct evr_section *section;
	u64 offset;
	u64 stride;
	u64 mask;
	unsigned int shift;
	bool claims;
	u64 *cursor;
};

static inline u64 *evr_word_at(const struct evr_words *w, u64 pos)
{
	return evr_word(w->section, w->offset + (pos & w->mask) * w->stride);
}

/* Written by the producers of @ring. */
static inline struct evr_words evr_stamps(const struct evr_uring *uring,
				   unsigned int ring)
{
	const struct evering_layout *layout = &uring->layout;

	return (struct evr_words) {
		.section = evr_own_section(uring, ring),
		.offset = layout->slots_offset[ring],
		.stride = layout->geometry.slot_size[ring],
		.mask = layout->geometry.entries[ring] - 1,
		.shift = uring->shift[ring],
		.cursor = &uring->side[ring].control->tail,
	};
}

/* Written by its consumers. */
static inline struct evr_words evr_claims(const struct evr_uring *uring,
				   unsigned int ring)
{
	const struct evering_layout *layout = &uring->layout;

	return (struct evr_words) {
		.section = evr_own_section(uring, !ring),
		.offset = layout->claims_offset[ring],
		.stride = sizeof(u64),
		.mask = layout->geometry.entries[ring] - 1,
		.shift = uring->shift[ring],
		.claims = true,
		.cursor = &uring->side[!ring].control->head,
	};
}

/* Slots of the claim that @word begins. */
static inline unsigned int evr_word_slots(const struct evr_words *w, u64 word)
{
	return w->claims ? evering_claim_slots(word) : evering_word_count(word);
}

/* More claims than these can only be behind a cursor that somebody holds back. */
#define EVR_MAX_WALK	64

/*
 * Where the cursor would be if all had helped it.  It is behind by one claim at
 * most, but others go on while we walk.
 *
 * Return: false where it does not come to rest.
 */
static inline bool evr_walk(const struct evr_words *w, u64 *pos)
{
	int i;

	*pos = READ_ONCE(*w->cursor);
	for (i = 0; i < EVR_MAX_WALK; i++) {
		/* pairs with the claim, and with who has helped the cursor */
		u64 word = smp_load_acquire(evr_word_at(w, *pos));
		s64 ahead = evering_word_ahead(word, evering_lap(*pos, w->shift));

		if (ahead < 0)
			return true;
		if (ahead)
			*pos = READ_ONCE(*w->cursor);
		else
			*pos += evr_word_slots(w, word);
	}
	return false;
}

/*
 * A stamp that says more than "not yet", at @pos of the ring that @producer fills?
 * The usual look of a usual sleeper, so it is short.
 */
static inline bool evr_stamp_ready(const struct evr_uring *uring,
				   unsigned int producer, u64 pos)
{
	const struct evering_layout *layout = &uring->layout;
	u64 mask = layout->geometry.entries[producer] - 1;
	u64 offset = layout->slots_offset[producer] +
		     (pos & mask) * layout->geometry.slot_size[producer];
	u64 *stamp = evr_word(evr_own_section(uring, producer), offset);

	/*
	 * The AND bounds the index, for speculation too.  Pairs with the
	 * library's release of the stamp.
	 */
	return evering_judge(smp_load_acquire(stamp),
			     evering_lap(pos, uring->shift[producer])) !=
	       EVERING_SLOT_NOT_YET;
}

/*
 * A single producer commits in order, so the last of @wanted tells of all.  The
 * first is asked too, after it: to a caller that looks at @pos, a liar must not
 * seem ready for ever.
 */
static inline bool evr_stamps_ready(const struct evr_uring *uring,
				    unsigned int producer, u64 pos, u32 wanted)
{
	return evr_stamp_ready(uring, producer, pos + wanted - 1) &&
	       (wanted == 1 || evr_stamp_ready(uring, producer, pos));
}

#endif /* _EVERING_WORDS_H */
