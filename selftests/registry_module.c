// SPDX-License-Identifier: GPL-2.0
/*
 * The module is unloaded and loaded again while others open the device: either
 * they get all of it, or there is none.
 */
#include "registry_race.h"

FIXTURE(module)
{
	uint32_t seed;
};

FIXTURE_SETUP(module)
{
	if (access(MODULE_FILE, R_OK))
		SKIP(return, "no module to load anew");
	race = shared_new(sizeof(*race));
	ASSERT_NE(NULL, race);
	self->seed = rnd_seed(2);
}

FIXTURE_TEARDOWN_PARENT(module)
{
	/* It may have been stopped at any moment. */
	if (access(REFCNT, F_OK))
		EXPECT_EQ(0, module_load(""));
}

static void open_module(int me)
{
	uint32_t seed = rnd_seed(me);
	struct registry r;
	uint64_t token;
	int ret;

	while (!LOAD(race->stop)) {
		ret = registry_map(&r);
		if (ret) {
			MUST(ret == -ENOENT || ret == -ENXIO || ret == -ENODEV);
			COUNT(race->refused);
		} else {
			/* Whoever is in is served. */
			MUST(r.header->magic == EVERING_REGISTRY_MAGIC);
			ret = do_create(r.control, EVERING_KIND_BUFFER, "", &token);
			MUST(ret >= 0);
			MUST(entry_of(&r, EVERING_TOKEN_INDEX(token))->token == token);
			/* Either may be what holds it last. */
			if (rnd(&seed) % 2) {
				registry_unmap(&r);
				close(ret);
			} else {
				close(ret);
				registry_unmap(&r);
			}
			COUNT(race->worked);
		}
		usleep(rnd(&seed) % 2048);
	}
}

TEST_F(module, rmmod_waits_for_those_who_have_it_open)
{
	uint64_t end = now_ns() + SECONDS * 1000 * MS;
	unsigned int unloaded = 0, busy = 0;
	pid_t pid[WORKERS];	/* not in self, which children share */
	struct registry r;
	int i, ret;

	for (i = 0; i < WORKERS; i++) {
		pid[i] = spawn();
		if (!pid[i]) {
			open_module(i);
			_exit(0);
		}
	}
	while (now_ns() < end) {
		ret = module_unload();
		if (ret) {
			ASSERT_TRUE(ret == -EWOULDBLOCK || ret == -EBUSY) {
				TH_LOG("delete_module: %d", ret);
			}
			busy++;
			usleep(rnd(&self->seed) % 512);
			continue;
		}
		unloaded++;
		usleep(rnd(&self->seed) % 512);
		ASSERT_EQ(0, module_load(""));
	}
	STORE(race->stop, true);
	for (i = 0; i < WORKERS; i++)
		EXPECT_EQ(0, reap(pid[i]));
	TH_LOG("%u times unloaded, %u times busy; %u opened, %u not", unloaded, busy,
	       race->worked, race->refused);
	EXPECT_LT(0, unloaded);
	EXPECT_LT(0, busy);
	EXPECT_LT(0, race->worked);
	/* Nothing but the one that is loaded now. */
	ASSERT_EQ(0, registry_map(&r));
	EXPECT_EQ(0, r.header->active_count);
	EXPECT_EQ(0, count().urings);
	EXPECT_EQ(1, read_number(REFCNT));
	registry_unmap(&r);
	EXPECT_EQ(0, read_number(REFCNT));
}

TEST_HARNESS_MAIN
