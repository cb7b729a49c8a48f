/* SPDX-License-Identifier: GPL-2.0 */
/* Who sleeps on a queue, in all processes, as fdinfo says. */
#ifndef QUEUE_SLEEPERS_H
#define QUEUE_SLEEPERS_H

#include <evering.h>

#include "evering_test.h"

static inline int asleep_on(struct evering_queue *q, char side)
{
	int fd = evering_queue_fd(q, EVERING_QUEUE_POP), found = -1;
	char path[64], line[256];
	FILE *f;

	/* Either end tells of both sides. */
	if (fd < 0)
		fd = evering_queue_fd(q, EVERING_QUEUE_PUSH);
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, "side-", 5) && line[5] == side)
			sscanf(strstr(line, "sleepers="), "sleepers=%d", &found);
	if (f)
		fclose(f);
	return found;
}

static inline bool all_asleep(struct evering_queue *q, char side, int n)
{
	int i;

	for (i = 0; i < 1000 && asleep_on(q, side) != n; i++)
		sleep_ms(5);
	return asleep_on(q, side) == n;
}

#endif /* QUEUE_SLEEPERS_H */
