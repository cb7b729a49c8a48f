// SPDX-License-Identifier: GPL-2.0
/*
 * The ways a process ends or seems to, and what its peer learns: at once, in
 * whatever it sleeps, after all that was sent, and not when it merely stopped,
 * lost a thread or forked.  Clients and servers rely on this to never hang.
 */
#include "processes.h"

/* Not those of the test, so that they cannot be mistaken for it. */
#define PEER_UID	1234
#define PEER_GID	2345

/* ---------------------------------------------------------------- the peer */

/*
 * A process with one endpoint that does what it is told.  Each command is
 * answered with its own number, unless it is the last.
 */
enum command {
	KILL,			/* an end too, but not told */
	MAP,			/* map all three sections */
	ECHO,			/* wait for an entry, then commit one */
	COMMIT,			/* commit an entry and do not say so */
	THREAD_COMES_AND_GOES,
	VFORK_AND_EXEC,
	LEAVE_MAIN_THREAD,	/* a second thread obeys from now on */
	FORK_AND_PAUSE,		/* answers the child's pid; the child obeys */
	/* the ends */
	EXIT,
	EXIT_THREAD,		/* the calling thread alone */
	EXEC,
	UNMAP,
	MAP_OVER,
	CLOSE,
	ENTER_ITSELF,		/* answers what ENTER returns */
};

struct peer {
	struct channel c;
	int side;
	int sock;
	uint64_t pos;
};

static void *obey(void *arg);

static void *touch_and_go(void *arg)
{
	struct peer *p = arg;

	(void)*(volatile char *)p->c.map[p->side][OWN(p->side)];
	do_wait(p->c.fd[p->side], p->pos, 1, 1);
	return NULL;
}

static void echo(struct peer *p)
{
	int fd = p->c.fd[p->side];

	if (do_wait(fd, p->pos, 1, LONG_MS) != EVERING_READY_ENTRIES)
		_exit(40);
	commit(&p->c, p->side, p->pos++, EVERING_COMMITTED);
	if (do_wake(fd))
		_exit(41);
}

static void vfork_and_exec(void)
{
	pid_t pid = vfork();

	if (!pid) {
		execl("/bin/busybox", "busybox", "true", NULL);
		_exit(42);
	}
	if (reap(pid))
		_exit(43);
}

static void obey_one(struct peer *p, int command)
{
	int fd = p->c.fd[p->side];
	void *own = p->c.map[p->side][OWN(p->side)];
	size_t len = p->c.layout.section_size[OWN(p->side)];
	int answer = command;
	pthread_t thread;
	pid_t pid;

	switch (command) {
	case MAP:
		if (map_side(&p->c, p->side))
			_exit(20);
		break;
	case ECHO:
		tell(p->sock, ECHO);
		echo(p);
		return;
	case COMMIT:
		commit(&p->c, p->side, p->pos++, EVERING_COMMITTED);
		break;
	case THREAD_COMES_AND_GOES:
		if (pthread_create(&thread, NULL, touch_and_go, p) || pthread_join(thread, NULL))
			_exit(21);
		break;
	case VFORK_AND_EXEC:
		vfork_and_exec();
		break;
	case LEAVE_MAIN_THREAD:
		if (pthread_create(&thread, NULL, obey, p))
			_exit(22);
		pthread_exit(NULL);
	case FORK_AND_PAUSE:
		pid = fork();
		if (pid) {
			for (;;)
				pause();
		}
		alarm(25);
		answer = getpid();
		break;
	case EXIT:
		_exit(0);
	case EXIT_THREAD:
		for (;;)
			syscall(SYS_exit, 0);
	case EXEC:
		/* It is the memory that goes, not the descriptor. */
		fcntl(fd, F_SETFD, 0);
		execl("/bin/busybox", "busybox", "sleep", "20", NULL);
		_exit(23);
	case UNMAP:
		if (munmap(own, len))
			_exit(24);
		break;
	case MAP_OVER:
		if (mmap(own, len, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != own)
			_exit(25);
		break;
	case CLOSE:
		close(fd);
		break;
	case ENTER_ITSELF:
		answer = do_wait(fd, p->pos, 1, 0);
		break;
	default:
		_exit(26);	/* the test is gone */
	}
	tell(p->sock, answer);
}

static void *obey(void *arg)
{
	struct peer *p = arg;

	for (;;)
		obey_one(p, hear(p->sock));
	return NULL;
}

/* The endpoint is made here, by nobody else, with credentials of its own. */
static void be_peer(struct peer *p, int service, const char *name)
{
	struct evering_accept accepted = {
		.size = sizeof(accepted),
		.deadline = now_ns() + LONG_MS * MS,
	};
	struct evering_connect args = connect_args(name);

	if (setegid(PEER_GID) || seteuid(PEER_UID))
		_exit(10);
	be_mortal();	/* again: the change of user has undone it */
	if (p->side == EVERING_SIDE_A) {
		p->c.fd[0] = device_call(EVERING_IOC_CONNECT, &args);
		p->c.layout = args.layout;
	} else {
		p->c.fd[1] = call(service, EVERING_IOC_ACCEPT, &accepted);
		p->c.layout = accepted.layout;
	}
	if (p->c.fd[p->side] < 0)
		_exit(11);
	close(service);
	tell(p->sock, 0);
	obey(p);
}

/* ----------------------------------------------------------------- fixture */

/* The test watches one side, which it has mapped; the peer is the other. */
FIXTURE(peer)
{
	struct channel c;
	int side;		/* that we watch from */
	int fd;			/* of that side */
	int other;		/* the side of the process */
	pid_t pid;
	int sock;
	uint64_t pos;
};

FIXTURE_VARIANT(peer)
{
	int dies;
};

FIXTURE_VARIANT_ADD(peer, client) { .dies = EVERING_SIDE_A };
FIXTURE_VARIANT_ADD(peer, server) { .dies = EVERING_SIDE_B };

FIXTURE_SETUP(peer)
{
	struct evering_connect args = connect_args(_metadata->name);
	struct evering_accept accepted;

	/* Grandchildren are ours when their parent is gone. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	self->other = variant->dies;
	self->side = !self->other;
	self->c.service = do_listen(_metadata->name);
	ASSERT_LE(0, self->c.service);
	self->pid = fork_talking(&self->sock);
	if (!self->pid) {
		struct peer p = { .side = self->other, .sock = self->sock };

		be_peer(&p, self->c.service, _metadata->name);
	}
	ASSERT_LT(0, self->pid);
	if (self->side == EVERING_SIDE_A) {
		self->fd = device_call(EVERING_IOC_CONNECT, &args);
		self->c.layout = args.layout;
		ASSERT_EQ(0, hear(self->sock));
	} else {
		ASSERT_EQ(0, hear(self->sock));
		self->fd = do_accept(self->c.service, &accepted);
		self->c.layout = accepted.layout;
	}
	ASSERT_LE(0, self->fd);
	self->c.fd[self->side] = self->fd;
	ASSERT_EQ(0, map_side(&self->c, self->side));
}

FIXTURE_TEARDOWN(peer)
{
	kill(self->pid, SIGKILL);
	while (wait(NULL) > 0)
		;
}

#define TELL(command) do {						\
	tell(self->sock, command);					\
	ASSERT_EQ(command, hear(self->sock));				\
} while (0)
#define EXPECT_OPEN()		expect_open(_metadata, self)
#define EXPECT_ECHO()		expect_echo(_metadata, self)
#define EXPECT_DEAD()		expect_dead(_metadata, self)
#define WATCH_DEATH(command)	watch_death(_metadata, self, command)

static void expect_open(struct __test_metadata *_metadata, FIXTURE_DATA(peer) *self)
{
	struct evering_peer peer = { .size = sizeof(peer) };

	EXPECT_EQ(EVERING_STATE_OPEN, state_of(&self->c, self->other, self->side));
	EXPECT_EQ(0, poll_now(self->fd) & (POLLHUP | POLLRDHUP | POLLERR));
	EXPECT_EQ(0, call(self->fd, EVERING_IOC_PEER, &peer));
	EXPECT_EQ(EVERING_STATE_OPEN, peer.state);
	EXPECT_EQ(self->pid, peer.pid);
	EXPECT_EQ(0, do_wake(self->fd));
	/* What is not there within this time has not been announced. */
	EXPECT_EQ(-ETIME, do_wait(self->fd, self->pos, 1, 50));
}

/* Poll goes by what this side says that it has taken. */
static void take(FIXTURE_DATA(peer) *self)
{
	struct evering_control *own = control_of(&self->c, self->side);

	__atomic_store_n(&own->head, ++self->pos, __ATOMIC_RELEASE);
}

/* An entry there and one back. */
static void expect_echo(struct __test_metadata *_metadata, FIXTURE_DATA(peer) *self)
{
	tell(self->sock, ECHO);
	EXPECT_EQ(ECHO, hear(self->sock));
	commit(&self->c, self->side, self->pos, EVERING_COMMITTED);
	EXPECT_EQ(0, do_wake(self->fd));
	EXPECT_EQ(EVERING_READY_ENTRIES, do_wait(self->fd, self->pos, 1, LONG_MS));
	take(self);
}

static void expect_dead(struct __test_metadata *_metadata, FIXTURE_DATA(peer) *self)
{
	struct evering_peer peer = { .size = sizeof(peer) };
	struct evering_enter args = wait_args(self->pos, 1, LONG_MS);
	short revents;

	EXPECT_EQ(EVERING_STATE_DEAD, state_of(&self->c, self->other, self->side));
	EXPECT_EQ(EVERING_STATE_OPEN, state_of(&self->c, self->side, self->side));

	/* It still is whom it was. */
	EXPECT_EQ(0, call(self->fd, EVERING_IOC_PEER, &peer));
	EXPECT_EQ(EVERING_STATE_DEAD, peer.state);
	EXPECT_EQ(PEER_UID, peer.uid);
	EXPECT_EQ(PEER_GID, peer.gid);
	EXPECT_EQ(self->pid, peer.pid);

	revents = poll_now(self->fd);
	EXPECT_EQ(POLLHUP | POLLRDHUP | POLLIN | POLLOUT, revents);

	EXPECT_EQ(-EPIPE, do_wake(self->fd));
	EXPECT_EQ(-EPIPE, do_wait(self->fd, self->pos, 1, LONG_MS));
	EXPECT_EQ(-EPIPE, do_wait(self->fd, self->pos, 8, LONG_MS));
	/* Room where nobody will take what is put there is none. */
	EXPECT_EQ(-EPIPE, do_wait_space(self->fd, self->pos, LONG_MS));
	args.flags |= EVERING_ENTER_WAKE_PEER;
	EXPECT_EQ(-EPIPE, call(self->fd, EVERING_IOC_ENTER, &args));
	args.flags |= EVERING_ENTER_WAIT_SPACE;
	EXPECT_EQ(-EPIPE, call(self->fd, EVERING_IOC_ENTER, &args));
}

/* Everybody who can sleep on an endpoint sleeps, then the peer ends by @command. */
static void watch_death(struct __test_metadata *_metadata, FIXTURE_DATA(peer) *self, int command)
{
	struct sleeper entries = { .fd = self->fd, .enter = wait_args(self->pos, 1, LONG_MS) };
	struct sleeper space = { .fd = self->fd, .enter = wait_args(0, 1, LONG_MS) };
	struct sleeper poller = { .fd = self->fd };
	struct sleeper epoller = { .fd = self->fd };
	uint64_t start, took[4];
	int i;

	space.enter.flags = EVERING_ENTER_WAIT_SPACE;
	space.enter.space_pos = self->c.layout.geometry.entries[self->side];
	ASSERT_TRUE(sleeper_start(&entries, sleep_in_enter, SYS_ioctl));
	ASSERT_TRUE(sleeper_start(&space, sleep_in_enter, SYS_ioctl));
	ASSERT_TRUE(sleeper_start(&poller, sleep_in_poll, NR_POLL));
	ASSERT_TRUE(sleeper_start(&epoller, sleep_in_epoll, NR_EPOLL_WAIT));
	EXPECT_EQ(EVERING_STATE_OPEN, state_of(&self->c, self->other, self->side));

	start = now_ns();
	if (command == KILL)
		kill(self->pid, SIGKILL);
	else
		tell(self->sock, command);
	took[0] = sleeper_join(&entries, start);
	took[1] = sleeper_join(&space, start);
	took[2] = sleeper_join(&poller, start);
	took[3] = sleeper_join(&epoller, start);
	TH_LOG("known after %llu %llu %llu %llu us",
	       (unsigned long long)took[0] / 1000,
	       (unsigned long long)took[1] / 1000,
	       (unsigned long long)took[2] / 1000,
	       (unsigned long long)took[3] / 1000);

	EXPECT_EQ(-EPIPE, entries.result);
	EXPECT_EQ(-EPIPE, space.result);
	EXPECT_EQ(1, poller.result);
	EXPECT_EQ(POLLHUP | POLLRDHUP | POLLIN, poller.events);
	EXPECT_EQ(1, epoller.result);
	EXPECT_EQ(EPOLLHUP, epoller.events);
	for (i = 0; i < 4; i++)
		EXPECT_GT(PROMPT_NS, took[i]);
	EXPECT_DEAD();
	if (command == KILL) {
		EXPECT_EQ(-SIGKILL, reap(self->pid));
	}
}

static bool stop(pid_t pid)
{
	int status;

	kill(pid, SIGSTOP);
	return waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status);
}

/* --------------------------------------------------------- the ways to die */

TEST_F(peer, killed)
{
	TELL(MAP);
	EXPECT_ECHO();
	WATCH_DEATH(KILL);
	/* Also when there is no such process any more. */
	EXPECT_DEAD();
}

TEST_F(peer, killed_before_it_maps)
{
	WATCH_DEATH(KILL);
	EXPECT_DEAD();
}

TEST_F(peer, killed_while_stopped)
{
	TELL(MAP);
	ASSERT_TRUE(stop(self->pid));
	WATCH_DEATH(KILL);
}

TEST_F(peer, killed_while_it_waits)
{
	TELL(MAP);
	TELL(ECHO);
	ASSERT_TRUE(asleep_in(self->pid, self->pid, SYS_ioctl));
	WATCH_DEATH(KILL);
}

TEST_F(peer, exits)
{
	TELL(MAP);
	EXPECT_ECHO();
	WATCH_DEATH(EXIT);
	EXPECT_EQ(0, reap(self->pid));
	EXPECT_DEAD();
}

TEST_F(peer, executes_another_program)
{
	int status;

	TELL(MAP);
	EXPECT_ECHO();
	WATCH_DEATH(EXEC);
	/* The process lives, and has the descriptor. */
	EXPECT_EQ(0, waitpid(self->pid, &status, WNOHANG));
	EXPECT_TRUE(asleep_in(self->pid, self->pid, SYS_clock_nanosleep) ||
		    asleep_in(self->pid, self->pid, SYS_nanosleep));
	EXPECT_DEAD();
	kill(self->pid, SIGKILL);
	EXPECT_EQ(-SIGKILL, reap(self->pid));
}

TEST_F(peer, unmaps_its_section)
{
	TELL(MAP);
	EXPECT_ECHO();
	WATCH_DEATH(UNMAP);
	EXPECT_EQ(UNMAP, hear(self->sock));
	tell(self->sock, ENTER_ITSELF);
	EXPECT_EQ(-EBADFD, hear(self->sock));
}

TEST_F(peer, maps_over_its_section)
{
	TELL(MAP);
	EXPECT_ECHO();
	WATCH_DEATH(MAP_OVER);
	EXPECT_EQ(MAP_OVER, hear(self->sock));
	tell(self->sock, ENTER_ITSELF);
	EXPECT_EQ(-EBADFD, hear(self->sock));
}

TEST_F(peer, closes_what_it_never_mapped)
{
	WATCH_DEATH(CLOSE);
	EXPECT_EQ(CLOSE, hear(self->sock));
}

/* Mapped, the descriptor is not its life. */
TEST_F(peer, closes_what_it_has_mapped)
{
	TELL(MAP);
	TELL(CLOSE);
	EXPECT_OPEN();
	TELL(COMMIT);
	EXPECT_EQ(EVERING_READY_ENTRIES, do_wait(self->fd, self->pos, 1, LONG_MS));
	take(self);
	WATCH_DEATH(UNMAP);
}

/* ------------------------------------------------------ what is not a death */

TEST_F(peer, stopped_is_not_dead)
{
	TELL(MAP);
	EXPECT_ECHO();
	TELL(ECHO);
	ASSERT_TRUE(asleep_in(self->pid, self->pid, SYS_ioctl));
	ASSERT_TRUE(stop(self->pid));
	EXPECT_EQ(-ETIME, do_wait(self->fd, self->pos, 1, 300));
	EXPECT_OPEN();
	/* It does not answer either. */
	commit(&self->c, self->side, self->pos, EVERING_COMMITTED);
	EXPECT_EQ(0, do_wake(self->fd));
	EXPECT_EQ(-ETIME, do_wait(self->fd, self->pos, 1, 100));
	kill(self->pid, SIGCONT);
	EXPECT_EQ(EVERING_READY_ENTRIES, do_wait(self->fd, self->pos, 1, LONG_MS));
	take(self);
	EXPECT_OPEN();
}

TEST_F(peer, a_thread_that_exits_is_no_death)
{
	TELL(MAP);
	TELL(THREAD_COMES_AND_GOES);
	EXPECT_OPEN();
	EXPECT_ECHO();
	WATCH_DEATH(EXIT);
}

TEST_F(peer, the_main_thread_that_exits_is_no_death)
{
	TELL(MAP);
	tell(self->sock, LEAVE_MAIN_THREAD);
	EXPECT_OPEN();
	EXPECT_ECHO();
	EXPECT_OPEN();
	WATCH_DEATH(EXIT);
	EXPECT_EQ(0, reap(self->pid));
}

TEST_F(peer, the_last_thread_that_exits_is)
{
	TELL(MAP);
	tell(self->sock, LEAVE_MAIN_THREAD);
	EXPECT_ECHO();
	WATCH_DEATH(EXIT_THREAD);
	EXPECT_EQ(0, reap(self->pid));
}

TEST_F(peer, killed_without_its_main_thread)
{
	TELL(MAP);
	tell(self->sock, LEAVE_MAIN_THREAD);
	EXPECT_ECHO();
	WATCH_DEATH(KILL);
}

/* A child that borrows the memory and leaves it for another program. */
TEST_F(peer, a_vforked_child_that_executes_is_no_death)
{
	TELL(MAP);
	TELL(VFORK_AND_EXEC);
	EXPECT_OPEN();
	EXPECT_ECHO();
	WATCH_DEATH(EXIT);
}

TEST_F(peer, a_descriptor_in_a_child_is_no_life)
{
	pid_t child;
	int status;

	TELL(MAP);
	EXPECT_ECHO();
	tell(self->sock, FORK_AND_PAUSE);
	child = hear(self->sock);
	ASSERT_LT(0, child);
	ASSERT_NE(self->pid, child);
	tell(self->sock, ENTER_ITSELF);
	EXPECT_EQ(-EPERM, hear(self->sock));
	EXPECT_OPEN();

	WATCH_DEATH(KILL);
	EXPECT_EQ(0, waitpid(child, &status, WNOHANG));
	tell(self->sock, ENTER_ITSELF);
	EXPECT_EQ(-EBADFD, hear(self->sock));
	kill(child, SIGKILL);
	EXPECT_EQ(-SIGKILL, reap(child));
}

/* --------------------------------------------------------- what was sent */

TEST_F(peer, what_was_committed_is_taken_first)
{
	uint64_t i;

	TELL(MAP);
	for (i = 0; i < 3; i++)
		TELL(COMMIT);
	kill(self->pid, SIGKILL);
	EXPECT_EQ(-SIGKILL, reap(self->pid));
	EXPECT_EQ(EVERING_STATE_DEAD, state_of(&self->c, self->other, self->side));

	for (i = 0; i < 3; i++) {
		EXPECT_EQ(EVERING_READY_ENTRIES, do_wait(self->fd, i, 1, LONG_MS));
		EXPECT_EQ(EVERING_READY_ENTRIES, do_wait(self->fd, i, 1, 0));
		/* Fewer than wanted, but no more will come. */
		EXPECT_EQ(EVERING_READY_ENTRIES, do_wait(self->fd, i, 8, LONG_MS));
	}
	EXPECT_EQ(-EPIPE, do_wait(self->fd, 3, 1, LONG_MS));
	EXPECT_EQ(-EPIPE, do_wait(self->fd, 3, 8, LONG_MS));
	self->pos = 3;
	EXPECT_DEAD();
}

TEST_F(peer, who_waits_for_many_gets_what_there_is)
{
	struct sleeper s = { .fd = self->fd, .enter = wait_args(0, 8, LONG_MS) };
	uint64_t start;
	int i;

	TELL(MAP);
	ASSERT_TRUE(sleeper_start(&s, sleep_in_enter, SYS_ioctl));
	for (i = 0; i < 3; i++)
		TELL(COMMIT);
	sleep_ms(50);
	ASSERT_TRUE(asleep_in(getpid(), s.tid, SYS_ioctl));
	start = now_ns();
	kill(self->pid, SIGKILL);
	EXPECT_GT(PROMPT_NS, sleeper_join(&s, start));
	EXPECT_EQ(EVERING_READY_ENTRIES, s.result);
	EXPECT_EQ(-EPIPE, do_wait(self->fd, 3, 1, LONG_MS));
}

TEST_F(peer, who_waits_for_room_or_entries_gets_the_entries_first)
{
	struct sleeper s = { .fd = self->fd, .enter = wait_args(0, 8, LONG_MS) };
	uint64_t start;

	s.enter.flags |= EVERING_ENTER_WAIT_SPACE;
	s.enter.space_pos = self->c.layout.geometry.entries[self->side];
	TELL(MAP);
	ASSERT_TRUE(sleeper_start(&s, sleep_in_enter, SYS_ioctl));
	TELL(COMMIT);
	start = now_ns();
	kill(self->pid, SIGKILL);
	EXPECT_GT(PROMPT_NS, sleeper_join(&s, start));
	EXPECT_EQ(EVERING_READY_ENTRIES, s.result);
	s.enter.wait_pos = 1;
	EXPECT_EQ(-EPIPE, call(self->fd, EVERING_IOC_ENTER, &s.enter));
}

TEST_HARNESS_MAIN
