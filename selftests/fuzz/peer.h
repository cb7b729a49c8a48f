/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Fuzzing what the library reads of a peer, with libFuzzer: an input is a program of
 * calls by this side, and of words that the peer writes between them.
 */
#ifndef EVERING_FUZZ_PEER_H
#define EVERING_FUZZ_PEER_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The input that is left. */
struct input {
	const uint8_t *at;
	size_t left;
};

/* The next @bytes of it, at most 8, as a number; beyond its end there are zeroes. */
static inline uint64_t take(struct input *in, size_t bytes)
{
	uint64_t value = 0;
	size_t n = bytes < in->left ? bytes : in->left;

	memcpy(&value, in->at, n);
	in->at += n;
	in->left -= n;
	return value;
}

#define MUST(what)							      \
	do {								      \
		if (!(what)) {						      \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__,      \
				__LINE__, #what);			      \
			abort();					      \
		}							      \
	} while (0)

#endif /* EVERING_FUZZ_PEER_H */
