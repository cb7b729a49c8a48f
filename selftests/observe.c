// SPDX-License-Identifier: GPL-2.0
/*
 * What an administrator sees of a channel: fdinfo and tracepoints.  When a
 * program hangs, they are all there is to tell whose turn it is.
 */
#include <ctype.h>

#include "ioctl_test.h"

/* ------------------------------------------------------------------ fdinfo */

/* What stands behind "@key:" in the fdinfo of @fd. */
static const char *fdinfo(int fd, const char *key)
{
	static char value[256];
	char path[64], text[4096], *line, *next;
	size_t len = strlen(key);

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	read_text(path, text, sizeof(text));
	for (line = text; line; line = next) {
		next = strchr(line, '\n');
		if (next)
			*next++ = 0;
		if (strncmp(line, key, len) || line[len] != ':')
			continue;
		line += len + 1;
		while (isspace(*line))
			line++;
		snprintf(value, sizeof(value), "%s", line);
		return value;
	}
	return "(none)";
}

/* Does the line @key of fdinfo have the word @word? */
static bool fdinfo_has(int fd, const char *key, const char *word)
{
	char line[256], *w, *rest = line;

	snprintf(line, sizeof(line), "%s", fdinfo(fd, key));
	while ((w = strsep(&rest, " ")))
		if (!strcmp(w, word))
			return true;
	fprintf(stderr, "# no %s in '%s'\n", word, fdinfo(fd, key));
	return false;
}

TEST(fdinfo_of_service)
{
	int service = listen_with(NAME, 3, 0620);
	struct evering_accept accepted;

	ASSERT_LE(0, service);
	EXPECT_STREQ("service", fdinfo(service, "kind"));
	EXPECT_STREQ(NAME, fdinfo(service, "name"));
	EXPECT_STREQ("0620", fdinfo(service, "mode"));
	EXPECT_STREQ("3", fdinfo(service, "backlog"));
	EXPECT_STREQ("0", fdinfo(service, "waiting"));
	ASSERT_LE(0, do_connect(NAME, NULL));
	ASSERT_LE(0, do_connect(NAME, NULL));
	EXPECT_STREQ("2", fdinfo(service, "waiting"));
	ASSERT_LE(0, do_accept(service, &accepted));
	EXPECT_STREQ("1", fdinfo(service, "waiting"));
}

TEST(fdinfo_of_endpoint)
{
	struct channel c;
	struct sleeper sleeper;
	char token[32];
	int i;

	ASSERT_EQ(0, channel_open(&c, NAME));
	snprintf(token, sizeof(token), "%llu", (unsigned long long)c.token);
	for (i = 0; i < 2; i++) {
		EXPECT_STREQ("channel", fdinfo(c.fd[i], "kind"));
		EXPECT_STREQ(i ? "b" : "a", fdinfo(c.fd[i], "side"));
		EXPECT_STREQ(token, fdinfo(c.fd[i], "token"));
		EXPECT_STREQ(NAME, fdinfo(c.fd[i], "name"));
		EXPECT_STREQ("8 16", fdinfo(c.fd[i], "entries"));
		EXPECT_STREQ("64 64", fdinfo(c.fd[i], "slot-size"));
		EXPECT_STREQ("8192 4096", fdinfo(c.fd[i], "heap-size"));
		EXPECT_STREQ("0", fdinfo(c.fd[i], "dead"));
		EXPECT_TRUE(fdinfo_has(c.fd[i], "side-a", "state=open"));
		EXPECT_TRUE(fdinfo_has(c.fd[i], "side-b", "state=open"));
		EXPECT_TRUE(fdinfo_has(c.fd[i], "side-a", "tail=0"));
		EXPECT_TRUE(fdinfo_has(c.fd[i], "side-b", "sleepers=0"));
	}

	ASSERT_TRUE(start_sleeper(&sleeper, c.fd[1]));
	EXPECT_TRUE(fdinfo_has(c.fd[0], "side-b", "sleepers=1"));
	EXPECT_TRUE(fdinfo_has(c.fd[1], "side-b", "sleepers=1"));
	EXPECT_TRUE(fdinfo_has(c.fd[1], "side-a", "sleepers=0"));
	commit(&c, EVERING_RING_SQ, 0, EVERING_COMMITTED);
	EXPECT_EQ(0, do_wake(c.fd[0]));
	ASSERT_EQ(0, pthread_join(sleeper.thread, NULL));
	EXPECT_EQ(EVERING_READY_ENTRIES, sleeper.ret);
	EXPECT_TRUE(fdinfo_has(c.fd[0], "side-b", "sleepers=0"));
	EXPECT_TRUE(fdinfo_has(c.fd[1], "side-a", "tail=1"));
	EXPECT_TRUE(fdinfo_has(c.fd[1], "side-b", "head=0"));

	control_of(&c, 1)->head = 1;
	control_of(&c, 1)->closed = 1;
	EXPECT_TRUE(fdinfo_has(c.fd[0], "side-b", "head=1"));
	EXPECT_TRUE(fdinfo_has(c.fd[0], "side-b", "closed=1"));
	EXPECT_TRUE(fdinfo_has(c.fd[0], "side-a", "closed=0"));
}

TEST(fdinfo_tells_life_and_death)
{
	int service = do_listen(NAME);
	struct evering_accept accepted;
	struct channel c = { 0 };
	struct evering_connect args = connect_args(NAME);

	ASSERT_LE(0, service);
	c.fd[0] = device_call(EVERING_IOC_CONNECT, &args);
	ASSERT_LE(0, c.fd[0]);
	EXPECT_TRUE(fdinfo_has(c.fd[0], "side-a", "state=open"));
	EXPECT_TRUE(fdinfo_has(c.fd[0], "side-b", "state=pending"));
	c.fd[1] = do_accept(service, &accepted);
	ASSERT_LE(0, c.fd[1]);
	EXPECT_TRUE(fdinfo_has(c.fd[0], "side-b", "state=open"));

	c.layout = args.layout;
	ASSERT_EQ(0, map_side(&c, 1));
	ASSERT_EQ(0, munmap(c.map[1][EVERING_SECTION_B],
			    c.layout.section_size[EVERING_SECTION_B]));
	EXPECT_TRUE(fdinfo_has(c.fd[0], "side-b", "state=dead"));
	EXPECT_STREQ("0", fdinfo(c.fd[0], "dead"));
	EXPECT_STREQ("1", fdinfo(c.fd[1], "dead"));
	EXPECT_TRUE(fdinfo_has(c.fd[1], "side-a", "state=open"));
}

/* ------------------------------------------------------------- tracepoints */

#define TRACING	"/sys/kernel/tracing/"

FIXTURE(trace)
{
	bool missing;
};

FIXTURE_SETUP(trace)
{
	if (access(TRACING "trace", W_OK)) {
		self->missing = true;
		return;
	}
	ASSERT_TRUE(write_text(TRACING "trace", "\n"));
	ASSERT_TRUE(write_text(TRACING "events/evering/enable", "1"));
}

FIXTURE_TEARDOWN(trace)
{
	if (self->missing)
		return;
	write_text(TRACING "events/evering/enable", "0");
	write_text(TRACING "trace", "\n");
}

/* How often @event stands in @trace with a line that has @fields. */
static int count_events(const char *trace, const char *event, const char *fields)
{
	size_t len = strlen(fields);
	char start[64];
	int n = 0;

	snprintf(start, sizeof(start), " evering_%s: ", event);
	while ((trace = strstr(trace, start))) {
		trace += strlen(start);
		if (!strncmp(trace, fields, len) &&
		    (trace[len] == ' ' || trace[len] == '\n'))
			n++;
	}
	return n;
}

TEST_F(trace, one_life_of_a_channel)
{
	char *text, *first, fields[128];
	struct sleeper sleeper;
	struct channel c;
	int i;

	if (self->missing)
		SKIP(return, "no tracefs at " TRACING);
	ASSERT_EQ(0, channel_open(&c, NAME));
	ASSERT_TRUE(start_sleeper(&sleeper, c.fd[1]));
	commit(&c, EVERING_RING_SQ, 0, EVERING_COMMITTED);
	ASSERT_EQ(0, do_wake(c.fd[0]));
	ASSERT_EQ(0, pthread_join(sleeper.thread, NULL));
	ASSERT_EQ(EVERING_READY_ENTRIES, sleeper.ret);
	for (i = 0; i < 6; i++)
		munmap(c.map[i / 3][i % 3], c.layout.section_size[i % 3]);
	/* Side A first, as the order of the lines tells */
	close(c.fd[0]);
	close(c.fd[1]);

	text = malloc(1 << 20);
	read_text(TRACING "trace", text, 1 << 20);
#define EVENTS(event, format, ...) ({					\
	snprintf(fields, sizeof(fields), "token=%llu" format,		\
		 (unsigned long long)c.token, ##__VA_ARGS__);		\
	count_events(text, event, fields);				\
})
	EXPECT_EQ(1, EVENTS("create", " kind=0 sq_entries=8 cq_entries=16 bytes=%llu",
			    (unsigned long long)uring_bytes(&c.layout)));
	EXPECT_EQ(1, EVENTS("connect", " uid=0 pid=%d", getpid()));
	EXPECT_EQ(1, EVENTS("accept", " uid=0 pid=%d", getpid()));
	EXPECT_EQ(1, EVENTS("wait", " side=1 flags=2 wait_pos=0 space_pos=0 min_complete=1"));
	EXPECT_EQ(1, EVENTS("wake", " side=1 woken=1 polled=0"));
	EXPECT_EQ(1, EVENTS("death", " side=0"));
	EXPECT_EQ(1, EVENTS("death", " side=1"));
	EXPECT_EQ(1, EVENTS("free", ""));
	EXPECT_EQ(2, EVENTS("death", ""));
	/* Side A has died first. */
	first = strstr(text, " evering_death: ");
	ASSERT_NE(NULL, first);
	*strchr(first, '\n') = 0;
	EXPECT_NE(NULL, strstr(first, " side=0")) TH_LOG("'%s'", first);
	free(text);
	close(c.service);
}

TEST_HARNESS_MAIN
