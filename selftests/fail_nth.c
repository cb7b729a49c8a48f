// SPDX-License-Identifier: GPL-2.0
/*
 * Every allocation and every copy from or to user space that a call makes fails
 * once, one after the other: the call says so, nothing is kept, and the next one
 * works.  Needs a kernel with fault injection, as the debug kernel kasan is.
 */
#include <sched.h>

#include "ioctl_test.h"
#include "registry_test.h"

#define NTH	"/proc/thread-self/fail-nth"
#define MOST	1000	/* points in one call */

static int nth;		/* of this thread; open, so that its own open cannot fail */

/* The copy of the number itself is a point as well, and is tried again. */
static void fail_at(unsigned int n)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%u", n);

	while (pwrite(nth, text, len, 0) != len)
		MUST(errno == EFAULT);
}

/* Has there been an n-th point? */
static bool has_failed(void)
{
	char text[16] = "";
	ssize_t len = pread(nth, text, sizeof(text) - 1, 0);

	fail_at(0);
	return len > 0 && !atoi(text);
}

/* Not only those that cannot wait; and say nothing, a trace looks like an error. */
static bool faults_on(void)
{
	static const char * const settings[][2] = {
		{ "failslab/ignore-gfp-wait", "N" },
		{ "failslab/verbose", "0" },
		{ "fail_page_alloc/ignore-gfp-wait", "N" },
		{ "fail_page_alloc/min-order", "0" },
		{ "fail_page_alloc/verbose", "0" },
		{ "fail_usercopy/verbose", "0" },
	};
	char path[128];
	int i;

	for (i = 0; i < ARRAY_SIZE(settings); i++) {
		snprintf(path, sizeof(path), "/sys/kernel/debug/%s", settings[i][0]);
		if (!write_line(path, settings[i][1]))
			return false;
	}
	nth = open(NTH, O_RDWR | O_CLOEXEC);
	return nth >= 0;
}

/* ------------------------------------------------------------- what is called */

/* Made anew for each point. */
struct stage {
	int control;
	int service;
	struct channel c;	/* a queue; or side A of a channel that waits */
	void *map;
	size_t bytes;
};

struct subject {
	void (*prepare)(struct stage *s);
	int (*call)(struct stage *s);		/* >= 0, or -errno */
	void (*undo)(struct stage *s, int ret);	/* what a call that worked has made */
};

static void stage_empty(struct stage *s)
{
	*s = (struct stage){ .control = -1, .service = -1, .c.fd = { -1, -1 } };
}

static void stage_close(struct stage *s)
{
	int side, section;

	if (s->map)
		munmap(s->map, s->bytes);
	for (side = 0; side < 2; side++) {
		for (section = 0; section < 3; section++)
			if (s->c.map[side][section])
				munmap(s->c.map[side][section],
				       s->c.layout.section_size[section]);
		if (s->c.fd[side] >= 0)
			close(s->c.fd[side]);
	}
	if (s->service >= 0)
		close(s->service);
	if (s->control >= 0)
		close(s->control);
}

static void close_it(struct stage *s, int fd)
{
	close(fd);
}

static void nothing(struct stage *s, int ret)
{
}

static void control(struct stage *s)
{
	s->control = open(DEVICE, O_RDWR | O_CLOEXEC);
	MUST(s->control >= 0);
}

static int call_open_device(struct stage *s)
{
	int fd = open(DEVICE, O_RDWR | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/* One that has no registry yet. */
static void new_namespace(struct stage *s)
{
	MUST(!unshare(CLONE_NEWNET));
}

/* The first page of its entries is made with the first of them. */
static void new_registry(struct stage *s)
{
	new_namespace(s);
	control(s);
}

static int call_query(struct stage *s)
{
	struct evering_query args = { .size = sizeof(args) };

	return call(s->control, EVERING_IOC_QUERY, &args);
}

static int call_listen(struct stage *s)
{
	struct evering_listen args = listen_args(NAME);

	return call(s->control, EVERING_IOC_LISTEN, &args);
}

static void service(struct stage *s)
{
	control(s);
	s->service = call_listen(s);
	MUST(s->service >= 0);
}

static int call_connect(struct stage *s)
{
	struct evering_connect args = connect_args(NAME);

	return call(s->control, EVERING_IOC_CONNECT, &args);
}

static int call_accept(struct stage *s)
{
	struct evering_accept args;

	return do_accept(s->service, &args);
}

static void accept_and_close(struct stage *s, int fd)
{
	int other = call_accept(s);

	MUST(other >= 0);
	close(other);
	close(fd);
}

static void client(struct stage *s)
{
	service(s);
	s->c.fd[0] = call_connect(s);
	MUST(s->c.fd[0] >= 0);
}

static int create(struct stage *s, uint32_t kind)
{
	struct evering_create args = create_args(kind, NAME);

	return call(s->control, EVERING_IOC_CREATE, &args);
}

static int call_create_channel(struct stage *s)
{
	return create(s, EVERING_KIND_CHANNEL);
}

static int call_create_queue(struct stage *s)
{
	return create(s, EVERING_KIND_QUEUE);
}

static int call_create_topic(struct stage *s)
{
	return create(s, EVERING_KIND_TOPIC);
}

static int call_create_buffer(struct stage *s)
{
	return create(s, EVERING_KIND_BUFFER);
}

/* Side A of a queue; side B is free. */
static void queue(struct stage *s)
{
	struct evering_create args = create_args(EVERING_KIND_QUEUE, NAME);

	control(s);
	s->c.fd[0] = call(s->control, EVERING_IOC_CREATE, &args);
	MUST(s->c.fd[0] >= 0);
	s->c.layout = args.layout;
	s->c.token = args.token;
}

static int call_open_token(struct stage *s)
{
	struct evering_open args = open_args(s->c.token, "", EVERING_SIDE_B);

	return call(s->control, EVERING_IOC_OPEN, &args);
}

static int call_open_name(struct stage *s)
{
	struct evering_open args = open_args(0, NAME, EVERING_SIDE_B);

	return call(s->control, EVERING_IOC_OPEN, &args);
}

static int call_unlink(struct stage *s)
{
	struct evering_unlink args = unlink_args(0, NAME);

	return call(s->control, EVERING_IOC_UNLINK, &args);
}

static int call_dup(struct stage *s)
{
	return do_dup(s->c.fd[0]);
}

static int call_info(struct stage *s)
{
	struct evering_info args;

	return do_info(s->c.fd[0], &args);
}

static int call_peer(struct stage *s)
{
	struct evering_peer args;

	return do_peer(s->c.fd[0], &args);
}

static int call_shutdown(struct stage *s)
{
	struct evering_shutdown args = { .size = sizeof(args), .how = EVERING_SHUT_WR };

	return call(s->c.fd[0], EVERING_IOC_SHUTDOWN, &args);
}

static int call_wake(struct stage *s)
{
	return do_wake(s->c.fd[0]);
}

/* Nothing comes, so that it goes to sleep: that is success here. */
static int call_wait(struct stage *s)
{
	int ret = do_wait(s->c.fd[0], 0, 1, 5);

	return ret == -ETIME ? 0 : ret;
}

static int call_poll(struct stage *s)
{
	struct pollfd p = { .fd = s->c.fd[0], .events = POLLIN };

	return poll(&p, 1, 5) < 0 ? -errno : 0;
}

static int map_of(struct stage *s, int section, int prot)
{
	void *map = map_section(s->c.fd[0], &s->c.layout, section, prot);

	if (map == MAP_FAILED)
		return -errno;
	s->c.map[0][section] = map;
	return 0;
}

static int call_map_header(struct stage *s)
{
	return map_of(s, EVERING_SECTION_HEADER, PROT_READ);
}

static int call_map_own(struct stage *s)
{
	return map_of(s, EVERING_SECTION_A, RW);
}

static int call_map_peer(struct stage *s)
{
	return map_of(s, EVERING_SECTION_B, PROT_READ);
}

static int call_map_registry(struct stage *s)
{
	void *map = mmap(NULL, s->bytes, PROT_READ, MAP_SHARED, s->control, 0);

	if (map == MAP_FAILED)
		return -errno;
	s->map = map;
	return 0;
}

static void registry(struct stage *s)
{
	control(s);
	s->bytes = registry_bytes(s->control);
	MUST(s->bytes);
}

static void mapped_registry(struct stage *s)
{
	new_namespace(s);
	registry(s);
	MUST(!call_map_registry(s));
}

/* A fault that finds no memory is taken again. */
static int call_touch_registry(struct stage *s)
{
	return ((volatile char *)s->map)[s->bytes - PAGE];
}

/* ------------------------------------------------------------------- the test */

FIXTURE(fail_nth)
{
	unsigned int failed;
};

FIXTURE_VARIANT(fail_nth)
{
	struct subject subject;
};

#define SUBJECT(name, prepare, undo)					\
	FIXTURE_VARIANT_ADD(fail_nth, name) { { prepare, call_##name, undo } }

SUBJECT(open_device, stage_empty, close_it);
FIXTURE_VARIANT_ADD(fail_nth, open_first)
{
	{ new_namespace, call_open_device, close_it }
};
SUBJECT(query, control, nothing);
SUBJECT(listen, control, close_it);
SUBJECT(connect, service, accept_and_close);
SUBJECT(accept, client, close_it);
SUBJECT(create_channel, control, close_it);
SUBJECT(create_queue, control, close_it);
FIXTURE_VARIANT_ADD(fail_nth, create_first)
{
	{ new_registry, call_create_queue, close_it }
};
SUBJECT(create_topic, control, close_it);
SUBJECT(create_buffer, control, close_it);
SUBJECT(open_token, queue, close_it);
SUBJECT(open_name, queue, close_it);
SUBJECT(unlink, queue, nothing);
SUBJECT(dup, queue, close_it);
SUBJECT(info, queue, nothing);
SUBJECT(peer, queue, nothing);
SUBJECT(shutdown, client, nothing);
SUBJECT(wake, client, nothing);
SUBJECT(wait, client, nothing);
SUBJECT(poll, client, nothing);
SUBJECT(map_header, queue, nothing);
SUBJECT(map_own, queue, nothing);
SUBJECT(map_peer, queue, nothing);
SUBJECT(map_registry, registry, nothing);
SUBJECT(touch_registry, mapped_registry, nothing);

FIXTURE_SETUP(fail_nth)
{
	if (access(NTH, W_OK))
		SKIP(return, "this kernel cannot inject faults");
	ASSERT_TRUE(faults_on());
}

FIXTURE_TEARDOWN(fail_nth)
{
	close(nth);
}

TEST_F_TIMEOUT(fail_nth, says_so_keeps_nothing_and_works_then, 300)
{
	const struct subject *subject = &variant->subject;
	struct counters before;
	int ret, lowest;
	unsigned int n;
	struct stage s;
	bool failed;

	for (n = 1; n < MOST; n++) {
		stage_empty(&s);
		subject->prepare(&s);
		before = count();
		lowest = lowest_fd();
		fail_at(n);
		ret = subject->call(&s);
		failed = has_failed();
		if (ret < 0) {
			EXPECT_TRUE(failed && (ret == -ENOMEM || ret == -EFAULT)) {
				TH_LOG("point %u: %d", n, ret);
			}
			EXPECT_EQ(lowest, lowest_fd());
			EXPECT_TRUE(settles(&before));
			self->failed++;
			ret = subject->call(&s);
			EXPECT_LE(0, ret) {
				TH_LOG("after point %u: %d", n, ret);
			}
		}
		if (ret >= 0)
			subject->undo(&s, ret);
		stage_close(&s);
		if (!failed)
			break;
	}
	TH_LOG("%u points, %u errors", n - 1, self->failed);
	EXPECT_GT(MOST, n);
	/* Nothing would have been tested. */
	EXPECT_LT(1, n);
}

TEST_HARNESS_MAIN
