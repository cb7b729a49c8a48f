// SPDX-License-Identifier: MIT OR LGPL-2.1
/*
 * Sends a file to the digest server, in chunks by payload, and checks what
 * comes back: CRC32C of each chunk, SHA-256 of the whole.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "digest.h"
#include "evering.h"

#define CHUNK	16384U

struct transfer {
	struct evering *ep;
	int fd;
	uint64_t size;
	unsigned int depth;	/* requests in flight, at most */
	bool kill_server;	/* in the middle */
	uint8_t *heap;		/* depth chunks */
	uint32_t *crc;		/* of the chunk in flight in each */
	uint64_t sent, answered, bytes;
	uint64_t killed_at, answered_at_kill, knew_after;
	struct digest_result result;
};

static uint64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000U + (uint64_t)ts.tv_nsec;
}

static int fail(const char *what, int error)
{
	fprintf(stderr, "evr-digest: %s: %s%s\n", what, strerror(-error),
		error == -ENOENT ? " (is evering.ko loaded? try: insmod evering.ko)" :
		error == -ECONNREFUSED ? " (start evr-digest-server first)" : "");
	return 1;
}

/* Chunks are answered in order, so chunk n uses buffer n % depth. */
static int send_chunk(struct transfer *t)
{
	unsigned int slot = (unsigned int)(t->sent % t->depth);
	uint8_t *buffer = t->heap + (size_t)slot * CHUNK;
	struct evering_sqe *sqe;
	ssize_t len;

	len = pread(t->fd, buffer, CHUNK, (off_t)(t->sent * CHUNK));
	if (len <= 0)
		return len ? -errno : -EIO;
	t->crc[slot] = digest_crc32c(buffer, (size_t)len);
	sqe = evering_get_sqe(t->ep);
	if (!sqe)
		return -ENOSPC;
	sqe->user_data = t->sent++;
	sqe->opcode = DIGEST_CHUNK;
	sqe->flags = 0;
	sqe->len = (uint32_t)len;
	sqe->offset = (uint64_t)slot * CHUNK;
	return 0;
}

static int take_answer(struct transfer *t, const struct evering_cqe *cqe)
{
	struct digest_chunk chunk;

	if (cqe->user_data != t->answered)
		return -EPROTO;
	if (cqe->res < 0)
		return cqe->res;
	memcpy(&chunk, cqe->data, sizeof(chunk));
	if (chunk.crc32c != t->crc[t->answered % t->depth])
		return -EBADMSG;
	t->answered++;
	t->bytes += (uint64_t)cqe->res;
	return 0;
}

static int take_answers(struct transfer *t)
{
	const struct evering_cqe *cqe;
	int ret;

	while (!(ret = evering_peek_cqe(t->ep, &cqe))) {
		ret = take_answer(t, cqe);
		evering_cqe_seen(t->ep, cqe);
		if (ret)
			return ret;
	}
	return ret == -EAGAIN ? 0 : ret;
}

static int kill_server(struct transfer *t)
{
	struct evering_peer peer;
	int ret;

	/* By the kernel's word, not by a number in shared memory. */
	ret = evering_peer(t->ep, &peer);
	if (ret)
		return ret;
	t->answered_at_kill = t->answered;
	t->killed_at = now();
	if (kill(peer.pid, SIGKILL))
		return -errno;
	return 0;
}

static int transfer_file(struct transfer *t)
{
	uint64_t chunks = (t->size + CHUNK - 1) / CHUNK;
	int ret;

	while (t->answered < chunks) {
		uint64_t want;

		while (t->sent < chunks && t->sent - t->answered < t->depth) {
			ret = send_chunk(t);
			if (ret)
				return ret;
		}
		/* Half of what is in flight, so that neither side idles. */
		want = t->sent - t->answered > t->depth / 2 ? (t->depth + 1) / 2 : 1;
		ret = evering_submit_and_wait(t->ep, (unsigned int)want);
		if (ret >= 0)
			ret = take_answers(t);
		if (ret < 0)
			return ret;
		if (t->kill_server && !t->killed_at && t->answered >= chunks / 2) {
			ret = kill_server(t);
			if (ret)
				return ret;
		}
	}
	return 0;
}

static int finish(struct transfer *t)
{
	const struct evering_cqe *cqe;
	struct evering_sqe *sqe;
	int ret;

	sqe = evering_get_sqe(t->ep);
	sqe->user_data = ~0ULL;
	sqe->opcode = DIGEST_FINISH;
	sqe->flags = 0;
	sqe->len = 0;
	sqe->offset = 0;
	ret = evering_submit_and_wait_timeout(t->ep, &cqe, 1, NULL);
	if (ret < 0)
		return ret;
	ret = cqe->res;
	memcpy(&t->result, (const char *)cqe + offsetof(struct evering_cqe, data),
	       sizeof(t->result));
	evering_cqe_seen(t->ep, cqe);
	return ret;
}

static void print_table(const struct transfer *t, uint64_t took)
{
	struct evering_stats stats;
	double seconds = (double)took / 1e9;
	double requests = (double)t->answered;

	evering_stats(t->ep, &stats);
	printf("  %-22s %12u\n", "in flight", t->depth);
	printf("  %-22s %12" PRIu64 "\n", "bytes", t->bytes);
	printf("  %-22s %12" PRIu64 "\n", "requests", t->answered);
	printf("  %-22s %12.3f s\n", "wall time", seconds);
	printf("  %-22s %12.1f MB/s, %.0f requests/s\n", "rate",
	       (double)t->bytes / seconds / 1e6, requests / seconds);
	printf("  %-22s %12.3f client, %.3f server\n", "system calls/request",
	       (double)stats.enters / requests,
	       (double)t->result.enters / requests);
	printf("  %-22s %12" PRIu64 " client, %" PRIu64 " server\n", "sleeps",
	       stats.sleeps, t->result.sleeps);
	printf("  %-22s %12" PRIu64 " client, %" PRIu64 " server\n",
	       "wake-ups of the peer", stats.doorbells, t->result.doorbells);
}

static int check_digest(const struct transfer *t, const char *expected)
{
	char hex[65];
	int i;

	for (i = 0; i < 32; i++)
		sprintf(hex + 2 * i, "%02x", t->result.sha256[i]);
	if (expected && strcmp(hex, expected)) {
		printf("  SHA-256 %s: WRONG, expected %s\n", hex, expected);
		return 1;
	}
	printf("  SHA-256 %s%s\n", hex, expected ? ": as computed outside" : "");
	return 0;
}

/* How far side B had come, by the kernel's record; -errno. */
static long long sent_by_server(const struct transfer *t)
{
	char path[64], line[256];
	long long tail = -ENODATA;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", evering_fd(t->ep));
	f = fopen(path, "re");
	if (!f)
		return -errno;
	while (fgets(line, sizeof(line), f))
		if (!strncmp(line, "side-b:", 7) && strstr(line, "tail="))
			tail = strtoll(strstr(line, "tail=") + 5, NULL, 10);
	fclose(f);
	return tail;
}

/* The server is gone: is what it sent here, and did we learn it at once? */
static int print_death(const struct transfer *t, int ret)
{
	long long sent = sent_by_server(t);

	if (ret != -EPIPE)
		return fail("the server was killed, and", ret ? ret : -ESTALE);
	printf("  killed with SIGKILL after %" PRIu64 " answers, %" PRIu64 " requests in flight\n",
	       t->answered_at_kill, t->sent - t->answered_at_kill);
	printf("  known %.3f ms later: %s\n", (double)t->knew_after / 1e6, strerror(EPIPE));
	printf("  answers it had sent: %lld, answers read: %" PRIu64 "\n", sent,
	       t->answered);
	/* It may have died between an answer and the record of it. */
	return sent < 0 || t->answered < (uint64_t)sent;
}

static void usage(FILE *to)
{
	fprintf(to,
		"usage: evr-digest [-d DEPTH] [-c SHA256] [-k] NAME FILE\n"
		"\n"
		"Sends FILE to the digest server NAME, checks CRC32C of each chunk, and prints\n"
		"what it cost.\n"
		"\n"
		"  -d DEPTH   requests in flight, 1 to 64 (default 32)\n"
		"  -c SHA256  what the digest of the whole must be\n"
		"  -k         kill the server in the middle and tell what happens\n");
}

int main(int argc, char **argv)
{
	struct evering_geometry geometry = {
		.entries = { 64, 64 },
		.slot_size = { 64, DIGEST_CQ_SLOT },
	};
	struct transfer t = { .depth = 32 };
	const char *expected = NULL;
	uint64_t start, took;
	struct stat st;
	int opt, ret;

	if (argc == 2 && !strcmp(argv[1], "--help")) {
		usage(stdout);
		return 0;
	}
	while ((opt = getopt(argc, argv, "d:c:kh")) != -1) {
		switch (opt) {
		case 'd':
			t.depth = (unsigned int)strtoul(optarg, NULL, 0);
			break;
		case 'c':
			expected = optarg;
			break;
		case 'k':
			t.kill_server = true;
			break;
		case 'h':
			usage(stdout);
			return 0;
		default:
			usage(stderr);
			return 2;
		}
	}
	if (optind + 2 != argc || !t.depth || t.depth > 64) {
		usage(stderr);
		return 2;
	}
	t.fd = open(argv[optind + 1], O_RDONLY | O_CLOEXEC);
	if (t.fd < 0 || fstat(t.fd, &st)) {
		fprintf(stderr, "evr-digest: %s: %s\n", argv[optind + 1], strerror(errno));
		return 1;
	}
	t.size = (uint64_t)st.st_size;
	geometry.heap_size[EVERING_SIDE_A] = (uint64_t)t.depth * CHUNK;
	ret = evering_connect(argv[optind], &geometry, &t.ep);
	if (ret)
		return fail("connect", ret);
	t.heap = evering_heap(t.ep, NULL);
	t.crc = calloc(t.depth, sizeof(*t.crc));
	if (!t.crc)
		return fail("memory", -ENOMEM);

	start = now();
	ret = transfer_file(&t);
	took = now() - start;
	if (t.kill_server) {
		t.knew_after = now() - t.killed_at;
		ret = print_death(&t, ret);
	} else {
		if (!ret)
			ret = finish(&t);
		if (ret < 0)
			return fail("transfer", ret);
		print_table(&t, took);
		ret = check_digest(&t, expected);
	}
	evering_close(t.ep);
	free(t.crc);
	close(t.fd);
	return ret;
}
