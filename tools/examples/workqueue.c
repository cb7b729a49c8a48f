// SPDX-License-Identifier: MIT OR LGPL-2.1
/*
 * A work queue with leases: what a worker has taken and not acknowledged goes to another
 * one when it dies, who is told that it is not the first.
 *
 *	workqueue submit N	makes the queue and N jobs, and waits until they are done
 *	workqueue work	until the queue ends; kill it with SIGKILL as often as you like
 */
#include <evering.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct job {
	uint64_t number;
	uint64_t upto;
};

static int fail(const char *what, int ret)
{
	fprintf(stderr, "workqueue: %s: %s\n", what, strerror(-ret));
	return 1;
}

static int submit(uint64_t n)
{
	struct evering_queue *queue;
	struct job job;
	int ret = evering_queue_create("jobs", 0600, 64, sizeof(job),
				       EVERING_QUEUE_PUSH | EVERING_QUEUE_LEASE, &queue);

	if (ret)
		return fail("create", ret);
	for (job.number = 0; job.number < n; job.number++) {
		job.upto = 100 * (job.number + 1);
		/* Waits for room, where the queue is full. */
		ret = evering_queue_push(queue, &job);
		if (ret)
			return fail("push", ret);
	}
	/* No more come: workers take what is left, and then learn of the end. */
	ret = evering_queue_shutdown(queue);
	if (ret)
		return fail("shutdown", ret);
	while (evering_queue_len(queue) > 0)
		nanosleep(&(struct timespec){ 0, 1000000 }, NULL);
	evering_queue_close(queue);
	printf("%llu jobs are done\n", (unsigned long long)n);
	return 0;
}

static int work(void)
{
	struct evering_queue_lease lease;
	struct evering_queue *queue;
	uint64_t sum, i;
	struct job job;
	int ret = evering_queue_open("jobs", 0, EVERING_QUEUE_POP, &queue);

	if (ret)
		return fail("open", ret);
	while (!(ret = evering_queue_lease(queue, &job, &lease))) {
		for (sum = 0, i = 1; i <= job.upto; i++)
			sum += i;
		printf("job %llu: %llu%s\n", (unsigned long long)job.number,
		       (unsigned long long)sum,
		       lease.deliveries > 1 ? " (another worker has begun it)" : "");
		fflush(stdout);
		/* Only now is it nobody else's. */
		ret = evering_queue_ack(queue, &lease);
		if (ret)
			return fail("ack", ret);
	}
	evering_queue_close(queue);
	return ret == -ESHUTDOWN || ret == -EPIPE ? 0 : fail("lease", ret);
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "submit"))
		return submit(strtoull(argv[2], NULL, 0));
	if (argc == 2 && !strcmp(argv[1], "work"))
		return work();
	fprintf(stderr, "usage: workqueue submit N\n       workqueue work\n");
	return 2;
}
