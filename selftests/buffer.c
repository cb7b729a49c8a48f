// SPDX-License-Identifier: GPL-2.0
/* The library's buffers, its cache of them, and its view of the registry. */
#include <fcntl.h>
#include <sys/socket.h>
#include <evering.h>

#include "evering_test.h"
#include "processes.h"

/* In a child, which has no harness: its exit status is the line that failed. */
#define MUST(cond) do { if (!(cond)) _exit(1 + __LINE__ % 250); } while (0)

#define NAME	"test.buffer"

FIXTURE(buffer)
{
	struct evering_registry_view *view;
	struct evering_buffer *mine;
	uint64_t token;
	struct counters before;
};

FIXTURE_SETUP(buffer)
{
	self->before = counters_now();
	ASSERT_EQ(0, evering_registry_open(&self->view));
	ASSERT_EQ(0, evering_buffer_create(NAME, 0600, 5000, &self->mine));
	self->token = evering_buffer_token(self->mine);
}

FIXTURE_TEARDOWN(buffer)
{
	evering_buffer_close(self->mine);
	evering_registry_close(self->view);
	EXPECT_TRUE(counters_return(&self->before));
}

TEST_F(buffer, what_one_writes_another_reads)
{
	struct evering_buffer *by_name, *by_token;
	char *bytes = evering_buffer_writable(self->mine);

	ASSERT_NE(NULL, bytes);
	EXPECT_EQ(8192, evering_buffer_size(self->mine));
	EXPECT_EQ(0, bytes[8191]);
	ASSERT_EQ(0, evering_buffer_open(NAME, 0, O_RDONLY, &by_name));
	ASSERT_EQ(0, evering_buffer_open(NULL, self->token, O_RDWR, &by_token));
	EXPECT_EQ(self->token, evering_buffer_token(by_name));
	EXPECT_EQ(8192, evering_buffer_size(by_name));
	EXPECT_EQ(NULL, evering_buffer_writable(by_name));
	bytes[8191] = 'a';
	EXPECT_EQ('a', ((const char *)evering_buffer_data(by_name))[8191]);
	((char *)evering_buffer_writable(by_token))[0] = 'b';
	EXPECT_EQ('b', bytes[0]);
	evering_buffer_close(by_name);
	evering_buffer_close(by_token);
}

TEST_F(buffer, lives_as_long_as_its_last_user)
{
	struct evering_buffer *other;
	struct evering_registry_entry entry;

	ASSERT_EQ(0, evering_buffer_open(NAME, 0, O_RDONLY, &other));
	((char *)evering_buffer_writable(self->mine))[0] = 'x';
	evering_buffer_close(self->mine);
	self->mine = NULL;
	EXPECT_EQ('x', *(const char *)evering_buffer_data(other));
	EXPECT_EQ(0, evering_registry_find(self->view, self->token, &entry));
	EXPECT_EQ(1, entry.ref_count);
	/* A new writer, after the first has gone. */
	ASSERT_EQ(0, evering_buffer_open(NAME, 0, O_RDWR, &self->mine));
	EXPECT_EQ('x', *(const char *)evering_buffer_data(self->mine));
	evering_buffer_close(other);
	evering_buffer_close(self->mine);
	self->mine = NULL;
	EXPECT_EQ(-ENOENT, evering_buffer_open(NAME, 0, O_RDONLY, &other));
	EXPECT_EQ(-ESTALE, evering_buffer_open(NULL, self->token, O_RDONLY, &other));
	EXPECT_EQ(-ESTALE, evering_registry_find(self->view, self->token, &entry));
}

TEST_F(buffer, unlinked_it_is_used_and_not_found)
{
	struct evering_buffer *other, *second;

	ASSERT_EQ(0, evering_buffer_open(NAME, 0, O_RDONLY, &other));
	ASSERT_EQ(0, evering_unlink(NAME, 0));
	EXPECT_EQ(-ENOENT, evering_unlink(NAME, 0));
	EXPECT_EQ(-ESTALE, evering_unlink(NULL, self->token));
	EXPECT_EQ(-ENOENT, evering_buffer_open(NAME, 0, O_RDONLY, &second));
	((char *)evering_buffer_writable(self->mine))[0] = 'x';
	EXPECT_EQ('x', *(const char *)evering_buffer_data(other));
	/* Its name is free. */
	ASSERT_EQ(0, evering_buffer_create(NAME, 0600, 1, &second));
	EXPECT_NE(self->token, evering_buffer_token(second));
	evering_buffer_close(second);
	evering_buffer_close(other);
}

TEST_F(buffer, errors)
{
	struct evering_buffer *b = NULL;
	struct evering *ep;
	char name[EVERING_NAME_MAX + 2];

	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = 0;
	EXPECT_EQ(-EEXIST, evering_buffer_create(NAME, 0600, 1, &b));
	EXPECT_EQ(-EINVAL, evering_buffer_create(NULL, 0600, 0, &b));
	EXPECT_EQ(-EINVAL, evering_buffer_create(NULL, 0600, ~0ULL, &b));
	EXPECT_EQ(-EINVAL, evering_buffer_create(NULL, 01000, 1, &b));
	EXPECT_EQ(-EINVAL, evering_buffer_create("no blanks", 0600, 1, &b));
	EXPECT_EQ(-ENAMETOOLONG, evering_buffer_create(name, 0600, 1, &b));
	EXPECT_EQ(-ENAMETOOLONG, evering_buffer_open(name, 0, O_RDONLY, &b));
	EXPECT_EQ(-ENAMETOOLONG, evering_unlink(name, 0));
	EXPECT_EQ(-EINVAL, evering_buffer_open(NULL, 0, O_RDONLY, &b));
	EXPECT_EQ(-EINVAL, evering_buffer_open(NAME, self->token, O_RDONLY, &b));
	EXPECT_EQ(-EINVAL, evering_buffer_open(NAME, 0, O_WRONLY, &b));
	EXPECT_EQ(-EINVAL, evering_unlink(NULL, 0));
	EXPECT_EQ(-ENOENT, evering_buffer_open("nobody", 0, O_RDONLY, &b));
	EXPECT_EQ(-ENOENT, evering_buffer_open(NULL, ~0ULL, O_RDONLY, &b));
	EXPECT_EQ(-EPROTOTYPE, evering_channel_open(NAME, 0, &ep));
	EXPECT_EQ(-ENOTTY, evering_buffer_from_fd(dup(2), &b));
	EXPECT_EQ(-EBADF, evering_buffer_from_fd(-1, &b));
	EXPECT_EQ(NULL, b);
}

TEST_F(buffer, passed_to_another_process)
{
	int pair[2], fd;
	pid_t pid;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair));
	pid = fork_mortal();
	if (!pid) {
		struct evering_buffer *b;

		/* What is mapped here stays the parent's. */
		MUST(evering_buffer_from_fd(dup(evering_buffer_fd(self->mine)), &b) == -EPERM);
		MUST(!evering_buffer_from_fd(recv_fd(pair[1]), &b));
		MUST(evering_buffer_token(b) == self->token);
		memcpy(evering_buffer_writable(b), "from a child", 12);
		_exit(0);
	}
	fd = evering_buffer_dup(self->mine);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, send_fd(pair[0], fd));
	close(fd);
	EXPECT_EQ(0, reap(pid));
	EXPECT_EQ(0, memcmp(evering_buffer_data(self->mine), "from a child", 12));
	close(pair[0]);
	close(pair[1]);
}

TEST_F(buffer, the_cache_knows_while_the_epoch_stands)
{
	struct evering_buffer_cache *cache;
	struct evering_buffer *first, *again, *other;
	struct evering_registry_entry entry;
	uint64_t epoch, token;
	int i;

	ASSERT_EQ(0, evering_buffer_cache_new(self->view, O_RDONLY, &cache));
	epoch = evering_registry_epoch(self->view);
	ASSERT_EQ(0, evering_buffer_cache_get(cache, self->token, &first));
	EXPECT_EQ(NULL, evering_buffer_writable(first));
	ASSERT_EQ(0, evering_registry_find(self->view, self->token, &entry));
	EXPECT_EQ(2, entry.ref_count);
	for (i = 0; i < 100; i++) {
		ASSERT_EQ(0, evering_buffer_cache_get(cache, self->token, &again));
		ASSERT_EQ(first, again);
	}
	/* Creating and opening moves nothing; it was opened once. */
	EXPECT_EQ(epoch, evering_registry_epoch(self->view));
	ASSERT_EQ(0, evering_registry_find(self->view, self->token, &entry));
	EXPECT_EQ(2, entry.ref_count);

	/* Another one goes: ours is kept. */
	ASSERT_EQ(0, evering_buffer_create(NULL, 0600, 1, &other));
	token = evering_buffer_token(other);
	ASSERT_EQ(0, evering_buffer_cache_get(cache, token, &again));
	evering_buffer_close(other);
	EXPECT_EQ(epoch, evering_registry_epoch(self->view));
	ASSERT_EQ(0, evering_unlink(NULL, token));
	EXPECT_EQ(epoch + 1, evering_registry_epoch(self->view));
	ASSERT_EQ(0, evering_buffer_cache_get(cache, self->token, &again));
	EXPECT_EQ(first, again);
	EXPECT_EQ(-ESTALE, evering_buffer_cache_get(cache, token, &again));

	/* Unlinked: it is not handed out any more, and not held. */
	ASSERT_EQ(0, evering_unlink(NULL, self->token));
	EXPECT_EQ(-ESTALE, evering_buffer_cache_get(cache, self->token, &again));
	EXPECT_EQ(-ESTALE, evering_registry_find(self->view, self->token, &entry));
	EXPECT_EQ(EVERING_ENTRY_MARKED, entry.state);
	EXPECT_EQ(1, entry.ref_count);
	evering_buffer_cache_free(cache);
}

TEST_F(buffer, the_cache_grows)
{
	struct evering_buffer_cache *cache;
	struct evering_buffer *b[100], *got;
	int i;

	ASSERT_EQ(0, evering_buffer_cache_new(self->view, O_RDWR, &cache));
	for (i = 0; i < 100; i++) {
		ASSERT_EQ(0, evering_buffer_create(NULL, 0600, 1, &b[i]));
		ASSERT_EQ(0, evering_buffer_cache_get(cache, evering_buffer_token(b[i]), &got));
		*(int *)evering_buffer_writable(got) = i;
	}
	for (i = 0; i < 100; i++) {
		ASSERT_EQ(0, evering_buffer_cache_get(cache, evering_buffer_token(b[i]), &got));
		ASSERT_EQ(i, *(const int *)evering_buffer_data(got));
		ASSERT_EQ(i, *(const int *)evering_buffer_data(b[i]));
	}
	for (i = 0; i < 100; i++)
		evering_buffer_close(b[i]);
	evering_buffer_cache_free(cache);
}

static int count(const struct evering_registry_entry *entry, void *arg)
{
	int *found = arg;

	if (!strncmp(entry->name, NAME, sizeof(NAME) - 1))
		(*found)++;
	return 0;
}

TEST_F(buffer, the_view_shows_what_there_is)
{
	const struct evering_registry *header = evering_registry_header(self->view);
	struct evering_registry_entry entry;
	struct evering_buffer *b[3];
	uint32_t active = header->active_count;
	char name[32];
	int i, found = 0;

	for (i = 0; i < 3; i++) {
		snprintf(name, sizeof(name), NAME ".%d", i);
		ASSERT_EQ(0, evering_buffer_create(name, 0640, 4096, &b[i]));
	}
	EXPECT_EQ(active + 3, header->active_count);
	EXPECT_EQ(0, evering_registry_for_each(self->view, count, &found));
	EXPECT_EQ(4, found);
	ASSERT_EQ(0, evering_registry_find_name(self->view, NAME ".1", &entry));
	EXPECT_EQ(evering_buffer_token(b[1]), entry.token);
	EXPECT_EQ(EVERING_KIND_BUFFER, entry.kind);
	EXPECT_EQ(0640, entry.mode);
	EXPECT_EQ(getpid(), entry.pid);
	EXPECT_EQ(-ENOENT, evering_registry_find_name(self->view, "nobody", &entry));
	for (i = 0; i < 3; i++)
		evering_buffer_close(b[i]);
	EXPECT_EQ(active, header->active_count);
}

TEST_F(buffer, a_channel_without_a_service)
{
	const struct evering_sqe *request;
	struct evering *client, *server;
	struct evering_sqe *sqe;

	ASSERT_EQ(0, evering_channel_create(NULL, 0400, NULL, 0, &client));
	ASSERT_EQ(0, evering_channel_open(NULL, evering_token(client), &server));
	sqe = evering_get_sqe(client);
	ASSERT_NE(NULL, sqe);
	sqe->user_data = 5;
	ASSERT_EQ(1, evering_submit(client));
	ASSERT_EQ(0, evering_wait_sqe(server, &request));
	EXPECT_EQ(5, request->user_data);
	evering_sqe_seen(server, request);
	EXPECT_EQ(-EPERM, ({
		int fd = dup(evering_fd(client)), ret = 0;
		pid_t pid = fork_mortal();

		if (!pid) {
			struct evering *ep;

			_exit(evering_channel_from_fd(fd, &ep) == -EPERM ? 7 : 8);
		}
		if (reap(pid) == 7)
			ret = -EPERM;
		close(fd);
		ret;
	}));
	evering_close(client);
	EXPECT_EQ(-EPIPE, evering_wait_sqe(server, &request));
	evering_close(server);
}

TEST_HARNESS_MAIN
