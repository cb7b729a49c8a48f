// SPDX-License-Identifier: GPL-2.0
/*
 * The life of an entry, and the words by which a program knows that a token it
 * has kept is still good: states, tokens, the global epoch.
 */
#include <linux/userfaultfd.h>

#include "sections.h"
#include "registry_test.h"

#define NAME	"test.registry"

FIXTURE(life)
{
	struct view v;
	int control;
	struct counters before;
};

FIXTURE_SETUP(life)
{
	self->control = open(DEVICE, O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, self->control);
	ASSERT_TRUE(view_map(&self->v, self->control));
	self->before = counters_now();
}

FIXTURE_TEARDOWN(life)
{
	EXPECT_EQ(0, active_of(&self->v));
	EXPECT_TRUE(counters_return(&self->before));
	munmap((void *)self->v.header, self->v.bytes);
	close(self->control);
}

#define ENTRY(token)	entry_of(&self->v, token)
#define EPOCH()		epoch_of(&self->v)

static bool is_free(const struct view *v, uint64_t token)
{
	struct evering_registry_entry e = entry_of(v, token), blank = { .seq = e.seq };

	return !(e.seq & 1) && !memcmp(&e, &blank, sizeof(e));
}

/* ------------------------------------------------------------------- states */

TEST_F(life, from_active_to_marked_to_free)
{
	struct evering_registry_entry e, was;
	uint64_t epoch = EPOCH();
	struct channel c;

	ASSERT_EQ(0, uring_open(&c, EVERING_KIND_CHANNEL));
	was = ENTRY(c.token);
	EXPECT_EQ(EVERING_ENTRY_ACTIVE, was.state);
	EXPECT_EQ(1, active_of(&self->v));
	EXPECT_EQ(epoch, EPOCH());

	ASSERT_EQ(0, unlink_token(c.token));
	e = ENTRY(c.token);
	EXPECT_EQ(EVERING_ENTRY_MARKED, e.state);
	EXPECT_LT(was.seq, e.seq);
	EXPECT_EQ(0, active_of(&self->v));
	EXPECT_EQ(epoch + 1, EPOCH());
	/* Nothing else has changed, in the entry or for those who have it. */
	e.state = was.state;
	e.seq = was.seq;
	EXPECT_EQ(0, memcmp(&e, &was, sizeof(e)));
	expect_alive(_metadata, &c, 0);
	EXPECT_EQ(-ESTALE, unlink_token(c.token));
	EXPECT_EQ(-ESTALE, open_token(c.token, EVERING_SIDE_B));
	EXPECT_EQ(epoch + 1, EPOCH());

	unmap_and_close(&c, 0);
	e = ENTRY(c.token);
	EXPECT_EQ(EVERING_ENTRY_MARKED, e.state);
	EXPECT_EQ(c.token, e.token);
	EXPECT_EQ(1, e.ref_count);
	unmap_and_close(&c, 1);
	EXPECT_TRUE(is_free(&self->v, c.token));
	/* It was not active any more. */
	EXPECT_EQ(epoch + 1, EPOCH());
	EXPECT_EQ(0, active_of(&self->v));
}

/* Its name may be somebody else's by now. */
TEST_F(life, unlink_takes_the_name_and_not_what_it_was)
{
	uint64_t token[2];
	int fd[2], i;

	for (i = 0; i < 2; i++) {
		fd[i] = do_create(EVERING_KIND_BUFFER, NAME, 0600, &token[i]);
		ASSERT_LE(0, fd[i]);
		EXPECT_EQ(EVERING_ENTRY_NAMED, ENTRY(token[i]).flags);
		if (i == 0)
			EXPECT_EQ(0, unlink_name(NAME));
	}
	EXPECT_EQ(0, ENTRY(token[0]).flags);
	EXPECT_STREQ(NAME, ENTRY(token[0]).name);
	EXPECT_EQ(EVERING_ENTRY_NAMED, ENTRY(token[1]).flags);
	/* Nor does its end take the name from the other. */
	close(fd[0]);
	fd[0] = open_name(NAME, EVERING_SIDE_B);
	EXPECT_LE(0, fd[0]);
	close(fd[0]);
	close(fd[1]);
}

TEST_F(life, last_close_frees_at_once)
{
	uint64_t epoch = EPOCH();
	struct channel c;
	uint32_t seq;

	ASSERT_EQ(0, uring_open(&c, EVERING_KIND_BUFFER));
	seq = ENTRY(c.token).seq;
	unmap_and_close(&c, 1);
	EXPECT_EQ(EVERING_ENTRY_ACTIVE, ENTRY(c.token).state);
	EXPECT_EQ(epoch, EPOCH());
	unmap_and_close(&c, 0);
	EXPECT_TRUE(is_free(&self->v, c.token));
	EXPECT_LT(seq, ENTRY(c.token).seq);
	EXPECT_EQ(epoch + 1, EPOCH());
	EXPECT_EQ(0, active_of(&self->v));
}

/* All have died, but the memory is still there. */
TEST_F(life, marked_when_the_last_endpoint_has_died_and_its_file_has_not)
{
	struct evering_registry_entry e;
	uint64_t epoch = EPOCH();
	struct channel c;
	int section;

	ASSERT_EQ(0, uring_open(&c, EVERING_KIND_BUFFER));
	munmap(c.map[0][1], c.layout.section_size[1]);
	EXPECT_EQ(EVERING_ENTRY_ACTIVE, ENTRY(c.token).state);
	for (section = 0; section < 3; section++) {
		EXPECT_EQ(epoch, EPOCH());
		munmap(c.map[1][section], c.layout.section_size[section]);
	}
	e = ENTRY(c.token);
	EXPECT_EQ(EVERING_ENTRY_MARKED, e.state);
	EXPECT_EQ(c.token, e.token);
	EXPECT_EQ(0, e.ref_count);
	EXPECT_EQ(epoch + 1, EPOCH());
	EXPECT_EQ(0, active_of(&self->v));
	EXPECT_EQ(-ESTALE, open_token(c.token, EVERING_SIDE_A));
	close(c.fd[0]);
	close(c.fd[1]);
	/* Side A's other sections are still mapped. */
	EXPECT_EQ(EVERING_ENTRY_MARKED, ENTRY(c.token).state);
	munmap(c.map[0][0], c.layout.section_size[0]);
	munmap(c.map[0][2], c.layout.section_size[2]);
	EXPECT_TRUE(is_free(&self->v, c.token));
	EXPECT_EQ(epoch + 1, EPOCH());
}

TEST_F(life, epoch_is_raised_by_what_ends_and_nothing_else)
{
	struct evering_create args = create_args(EVERING_KIND_BUFFER, NAME);
	uint64_t epoch = EPOCH(), token;
	int service = do_listen(NAME), fd[5];
	struct evering_accept accepted;
	struct evering_info info;

	ASSERT_LE(0, service);
	fd[0] = do_create(EVERING_KIND_BUFFER, NAME, 0600, &token);
	ASSERT_LE(0, fd[0]);
	fd[1] = open_token(token, EVERING_SIDE_B);
	fd[2] = open_name(NAME, EVERING_SIDE_A);
	fd[3] = do_dup(fd[1]);
	ASSERT_LE(0, fd[1]);
	ASSERT_LE(0, fd[2]);
	ASSERT_LE(0, fd[3]);
	EXPECT_EQ(0, do_info(fd[3], &info));
	EXPECT_EQ(-EEXIST, call(self->control, EVERING_IOC_CREATE, &args));
	args.geometry.heap_size[0] = 0;
	EXPECT_EQ(-EINVAL, call(self->control, EVERING_IOC_CREATE, &args));
	EXPECT_EQ(-ENOENT, open_token(-1ULL, EVERING_SIDE_A));
	EXPECT_EQ(-ENOENT, unlink_name("test.nobody"));
	close(fd[0]);
	close(fd[1]);
	close(fd[2]);
	EXPECT_EQ(epoch, EPOCH());
	close(fd[3]);
	EXPECT_EQ(epoch + 1, EPOCH());

	/* Of those connected, too. */
	struct evering_connect connect = connect_args(NAME);

	fd[0] = call(self->control, EVERING_IOC_CONNECT, &connect);
	ASSERT_LE(0, fd[0]);
	fd[1] = do_accept(service, &accepted);
	ASSERT_LE(0, fd[1]);
	close(fd[0]);
	EXPECT_EQ(epoch + 1, EPOCH());
	close(fd[1]);
	EXPECT_EQ(epoch + 2, EPOCH());
	close(service);
	EXPECT_EQ(epoch + 2, EPOCH());
}

/* ------------------------------------------------------------------- tokens */

TEST_F(life, index_is_used_again_and_the_token_is_not)
{
	uint64_t token[2], next, epoch = EPOCH();
	int fd, i;

	fd = do_create(EVERING_KIND_BUFFER, "", 0600, &token[0]);
	ASSERT_LE(0, fd);
	for (i = 0; i < 50; i++) {
		next = next_token_of(&self->v);
		EXPECT_LT(token[0], next);
		close(fd);
		EXPECT_EQ(next, next_token_of(&self->v));
		fd = do_create(i % NR_KINDS, "", 0600, &token[1]);
		ASSERT_LE(0, fd);
		/* "all tokens so far are below it" */
		EXPECT_LE(next, token[1]);
		EXPECT_LT(token[1], next_token_of(&self->v));
		EXPECT_EQ(EVERING_TOKEN_INDEX(token[0]), EVERING_TOKEN_INDEX(token[1]));
		EXPECT_NE(token[0], token[1]);
		EXPECT_EQ(token[1], ENTRY(token[0]).token);
		EXPECT_EQ(-ESTALE, open_token(token[0], EVERING_SIDE_A));
		EXPECT_EQ(-ESTALE, open_token(token[0], EVERING_SIDE_B));
		EXPECT_EQ(-ESTALE, unlink_token(token[0]));
		next = next_token_of(&self->v);
		close(open_token(token[1], EVERING_SIDE_B));
		EXPECT_EQ(next, next_token_of(&self->v));
		EXPECT_EQ(epoch + i + 1, EPOCH());
		token[0] = token[1];
	}
	close(fd);
}

/* --------------------------------------------- what is made while others look */

/* A CREATE that stops where it writes its results: the page is write-protected. */
struct stalled {
	pthread_t thread;
	int uffd;
	int control;
	struct evering_create *args;
	int ret;
};

static void *create_in_thread(void *arg)
{
	struct stalled *s = arg;

	s->ret = call(s->control, EVERING_IOC_CREATE, s->args);
	return NULL;
}

static int protect(struct stalled *s, uint64_t mode)
{
	struct uffdio_writeprotect wp = {
		.range = { (uintptr_t)s->args, PAGE },
		.mode = mode,
	};

	return ioctl(s->uffd, UFFDIO_WRITEPROTECT, &wp) ? -errno : 0;
}

/* 0 when it stands, -errno where this kernel cannot do it. */
static int stall(struct stalled *s, int control, const struct evering_create *args)
{
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = UFFD_FEATURE_PAGEFAULT_FLAG_WP,
	};
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_WP };
	struct pollfd p = { .events = POLLIN };
	int ret;

	s->control = control;
	s->uffd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (s->uffd < 0 || ioctl(s->uffd, UFFDIO_API, &api))
		return -errno;
	s->args = mmap(NULL, PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (s->args == MAP_FAILED)
		return -errno;
	*s->args = *args;
	reg.range.start = (uintptr_t)s->args;
	reg.range.len = PAGE;
	if (ioctl(s->uffd, UFFDIO_REGISTER, &reg))
		return -errno;
	ret = protect(s, UFFDIO_WRITEPROTECT_MODE_WP);
	if (ret)
		return ret;
	if (pthread_create(&s->thread, NULL, create_in_thread, s))
		return -EAGAIN;
	p.fd = s->uffd;
	return poll(&p, 1, LONG_MS) == 1 ? 0 : -ETIME;
}

static int go_on(struct stalled *s)
{
	int ret = protect(s, 0);

	if (ret)
		return ret;
	pthread_join(s->thread, NULL);
	close(s->uffd);
	return s->ret;
}

static uint64_t token_being_made(const struct view *v)
{
	struct evering_registry_entry e;
	uint32_t i;

	for (i = 0; i < v->header->used; i++)
		if (entry_at(v, i, &e) && e.state == EVERING_ENTRY_ALLOCATING)
			return e.token;
	return 0;
}

TEST_F(life, what_is_being_made_cannot_be_opened)
{
	struct evering_create args = create_args(EVERING_KIND_BUFFER, NAME);
	uint64_t token, epoch = EPOCH();
	struct stalled s;
	int ret = stall(&s, self->control, &args), side, fd;

	if (ret)
		SKIP(return, "no userfaultfd with write protection: %d", ret);
	token = token_being_made(&self->v);
	EXPECT_NE(0, token);
	EXPECT_LT(token, next_token_of(&self->v));
	EXPECT_EQ(0, active_of(&self->v));
	for (side = 0; side < 2; side++) {
		EXPECT_EQ(-ESTALE, open_token(token, side));
		EXPECT_EQ(-ENOENT, open_name(NAME, side));
	}
	EXPECT_EQ(-ESTALE, unlink_token(token));
	EXPECT_EQ(-ENOENT, unlink_name(NAME));
	EXPECT_EQ(EVERING_ENTRY_ALLOCATING, ENTRY(token).state);
	EXPECT_EQ(epoch, EPOCH());

	ret = go_on(&s);
	EXPECT_LE(0, ret);
	EXPECT_EQ(token, s.args->token);
	EXPECT_EQ(EVERING_ENTRY_ACTIVE, ENTRY(token).state);
	EXPECT_EQ(1, active_of(&self->v));
	EXPECT_EQ(epoch, EPOCH());
	fd = open_name(NAME, EVERING_SIDE_B);
	EXPECT_LE(0, fd);
	close(fd);
	close(ret);
}

/* The second is done first. */
TEST_F(life, of_two_that_make_the_same_name_one_has_it)
{
	struct evering_create args = create_args(EVERING_KIND_BUFFER, NAME);
	uint64_t token[2], epoch = EPOCH();
	struct stalled s;
	int ret = stall(&s, self->control, &args), fd, reader;
	struct evering_info info;

	if (ret)
		SKIP(return, "no userfaultfd with write protection: %d", ret);
	token[0] = token_being_made(&self->v);
	fd = do_create(EVERING_KIND_TOPIC, NAME, 0600, &token[1]);
	EXPECT_LE(0, fd);
	EXPECT_EQ(-EEXIST, go_on(&s));
	EXPECT_EQ(-ESTALE, open_token(token[0], EVERING_SIDE_B));
	EXPECT_TRUE(is_free(&self->v, token[0]));
	/* It was never active, so nobody can have kept it. */
	EXPECT_EQ(epoch, EPOCH());
	EXPECT_EQ(1, active_of(&self->v));
	reader = open_name(NAME, EVERING_SIDE_B);
	EXPECT_EQ(0, do_info(reader, &info));
	EXPECT_EQ(token[1], info.token);
	close(reader);
	close(fd);
}

struct maker {
	pthread_t thread;
	bool stop;
	unsigned long made;
};

/* Two kinds with nothing in common but the index. */
static void *make_and_unmake(void *arg)
{
	struct maker *m = arg;
	int control = open(DEVICE, O_RDWR | O_CLOEXEC), fd;
	struct evering_create args;

	while (!__atomic_load_n(&m->stop, __ATOMIC_RELAXED)) {
		args = m->made & 1 ? create_args(EVERING_KIND_CHANNEL, "channel") :
				     create_args(EVERING_KIND_BUFFER, "buffer");
		args.mode = m->made & 1 ? 0111 : 0666;
		fd = call(control, EVERING_IOC_CREATE, &args);
		if (fd < 0)
			break;
		close(fd);
		m->made++;
	}
	close(control);
	return NULL;
}

TEST_F(life, copies_of_an_entry_fit_together)
{
	unsigned long blank = 0, channels = 0, buffers = 0, torn = 0;
	uint64_t end = now_ns() + 1000 * MS;
	struct evering_registry_entry e;
	struct maker m = { .stop = false };

	ASSERT_EQ(0, pthread_create(&m.thread, NULL, make_and_unmake, &m));
	while (now_ns() < end) {
		ASSERT_TRUE(entry_at(&self->v, 0, &e));
		if (!e.token && !e.mode && !e.bytes && !e.name[0] && !e.state)
			blank++;
		else if (e.token && e.mode == 0111 && e.kind == EVERING_KIND_CHANNEL &&
			 e.geometry.entries[1] && !strcmp(e.name, "channel"))
			channels++;
		else if (e.token && e.mode == 0666 && e.kind == EVERING_KIND_BUFFER &&
			 !e.geometry.entries[1] && !strcmp(e.name, "buffer"))
			buffers++;
		else
			torn++;
	}
	__atomic_store_n(&m.stop, true, __ATOMIC_RELAXED);
	pthread_join(m.thread, NULL);
	EXPECT_EQ(0, torn);
	EXPECT_LT(0, m.made);
	/* All have been seen, so a torn one would have been. */
	EXPECT_LT(0, blank);
	EXPECT_LT(0, channels);
	EXPECT_LT(0, buffers);
}

TEST_HARNESS_MAIN
