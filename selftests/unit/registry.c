// SPDX-License-Identifier: GPL-2.0
/* The library's reader of the registry, while somebody writes as the kernel does. */
#include <pthread.h>

#include "internal.h"
#include "kselftest_harness.h"

#define ENTRIES	8U

/* What is mapped: the header, then entries. */
struct pages {
	struct evering_registry header;
	struct evering_registry_entry entry[ENTRIES];
};

FIXTURE(registry)
{
	struct pages pages;
	struct evering_registry_view view;
	bool stop;
	uint64_t written;
};

FIXTURE_SETUP(registry)
{
	self->pages.header = (struct evering_registry) {
		.capacity = ENTRIES,
		.entry_size = sizeof(struct evering_registry_entry),
		.entries_offset = sizeof(struct evering_registry),
		.used = ENTRIES - 1,
		.next_token = 1000U << EVERING_TOKEN_INDEX_BITS,
	};
	self->view.header = &self->pages.header;
}

FIXTURE_TEARDOWN(registry)
{
}

static uint64_t token_of(uint64_t generation, unsigned int index)
{
	return generation << EVERING_TOKEN_INDEX_BITS | index;
}

/* evr_entry_write_begin(), as far as C11 can say it. */
static void write_begin(struct evering_registry_entry *entry)
{
	store_once(&entry->seq, entry->seq + 1);
	__atomic_thread_fence(__ATOMIC_RELEASE);
}

/* evr_entry_write_end() */
static void write_end(struct evering_registry_entry *entry)
{
	store_release(&entry->seq, entry->seq + 1);
}

/* All words of entry and name say @generation. */
static void write_entry(struct evering_registry_entry *entry, uint64_t generation)
{
	unsigned int i;

	write_begin(entry);
	store_once(&entry->state, EVERING_ENTRY_ACTIVE);
	store_once(&entry->token, token_of(generation, 1));
	store_once(&entry->mode, (uint32_t)generation);
	store_once(&entry->bytes, generation);
	for (i = 0; i < sizeof(entry->name); i += 4)
		store_once((uint32_t *)(void *)(entry->name + i),
			   (uint32_t)generation);
	write_end(entry);
}

static void *writer(void *arg)
{
	FIXTURE_DATA(registry) *self = arg;
	uint64_t generation = 1;

	while (!load_once(&self->stop))
		write_entry(&self->pages.entry[1], generation++);
	self->written = generation;
	return NULL;
}

static int check_entry(const struct evering_registry_entry *entry, void *arg)
{
	uint32_t word;
	unsigned int i;

	(void)arg;
	if (entry->token != token_of(entry->bytes, 1) ||
	    entry->mode != (uint32_t)entry->bytes)
		return -1;
	for (i = 0; i < sizeof(entry->name); i += 4) {
		memcpy(&word, entry->name + i, sizeof(word));
		if (word != (uint32_t)entry->bytes)
			return -2;
	}
	return 1;
}

TEST_F(registry, no_copy_is_torn)
{
	unsigned int seen = 0, restless = 0;
	uint64_t end = evr_now() + 3000000000U;
	pthread_t thread;
	int ret;

	write_entry(&self->pages.entry[1], 1);
	ASSERT_EQ(0, pthread_create(&thread, NULL, writer, self));
	while (evr_now() < end) {
		ret = evering_registry_for_each(&self->view, check_entry, NULL);
		/* A writer that never rests, unlike the kernel's, may starve us. */
		if (ret == -EAGAIN)
			restless++;
		else
			ASSERT_EQ(1, ret);
		seen += ret == 1;
	}
	store_once(&self->stop, true);
	pthread_join(thread, NULL);
	TH_LOG("%u copies, %u given up, %llu written", seen, restless,
	       (unsigned long long)self->written);
	EXPECT_LT(0, seen);
	EXPECT_LT(100, self->written);
}

TEST_F(registry, one_that_is_being_written_is_not_read)
{
	struct evering_registry_entry entry;

	write_entry(&self->pages.entry[1], 7);
	self->pages.header.next_token = token_of(1000, 0);
	ASSERT_EQ(0, evering_registry_find(&self->view, token_of(7, 1), &entry));
	write_begin(&self->pages.entry[1]);
	EXPECT_EQ(-EAGAIN, evering_registry_find(&self->view, token_of(7, 1), &entry));
	EXPECT_EQ(-EAGAIN, evering_registry_for_each(&self->view, check_entry, NULL));
	EXPECT_EQ(-EAGAIN, evering_registry_find_name(&self->view, "x", &entry));
}

TEST_F(registry, tokens_that_are_not_there)
{
	struct evering_registry_entry entry;

	write_entry(&self->pages.entry[1], 7);
	EXPECT_EQ(-ENOENT, evering_registry_find(&self->view, 0, &entry));
	EXPECT_EQ(-ENOENT, evering_registry_find(&self->view, token_of(1000, 1), &entry));
	EXPECT_EQ(-ENOENT, evering_registry_find(&self->view, ~0ULL, &entry));
	/* An index that has never been used, or that there cannot be. */
	EXPECT_EQ(-ENOENT, evering_registry_find(&self->view, token_of(5, ENTRIES - 1), &entry));
	EXPECT_EQ(-ENOENT, evering_registry_find(&self->view, token_of(5, 65535), &entry));
	EXPECT_EQ(-ESTALE, evering_registry_find(&self->view, token_of(6, 1), &entry));
	EXPECT_EQ(-ESTALE, evering_registry_find(&self->view, token_of(7, 2), &entry));
	EXPECT_EQ(0, evering_registry_find(&self->view, token_of(7, 1), &entry));
	self->pages.entry[1].state = EVERING_ENTRY_MARKED;
	EXPECT_EQ(-ESTALE, evering_registry_find(&self->view, token_of(7, 1), &entry));
}

TEST_F(registry, names)
{
	struct evering_registry_entry *named = &self->pages.entry[3], entry;

	named->state = EVERING_ENTRY_ACTIVE;
	named->token = token_of(9, 3);
	strcpy(named->name, "someone");
	EXPECT_EQ(-ENOENT, evering_registry_find_name(&self->view, "someone", &entry));
	named->flags = EVERING_ENTRY_NAMED;
	EXPECT_EQ(0, evering_registry_find_name(&self->view, "someone", &entry));
	EXPECT_EQ(token_of(9, 3), entry.token);
	EXPECT_EQ(-ENOENT, evering_registry_find_name(&self->view, "some", &entry));
	named->state = EVERING_ENTRY_MARKED;
	EXPECT_EQ(-ENOENT, evering_registry_find_name(&self->view, "someone", &entry));
	/* A name that fills its field. */
	named->state = EVERING_ENTRY_ACTIVE;
	memset(named->name, 'x', EVERING_NAME_MAX);
	EXPECT_EQ(-ENOENT, evering_registry_find_name(&self->view, "x", &entry));
}

TEST_HARNESS_MAIN
