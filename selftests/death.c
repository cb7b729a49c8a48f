// SPDX-License-Identifier: GPL-2.0
/* The end of a process, and how soon and in which order its peer learns it. */
#include <pthread.h>
#include <sched.h>
#include <sys/epoll.h>

#include "evering_test.h"
#include "evering.h"

#define PAGE		4096UL
#define RW		(PROT_READ | PROT_WRITE)
#define OWN(side)	(EVERING_SECTION_A + (side))
#define PROMPT_NS	(1000 * MS)	/* on a slow, emulated machine */
#define LONG_MS		10000		/* in place of for ever */

/* Not those of the test, so that they cannot be mistaken for it. */
#define PEER_UID	1234
#define PEER_GID	2345

/* ---------------------------------------------------------------- counters */

struct counters {
	long urings, endpoints, services, bytes;
};

static long counter(const char *name)
{
	char path[64], text[32] = "";
	int fd;

	snprintf(path, sizeof(path), "/sys/class/misc/evering/%s", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, text, sizeof(text) - 1) < 0)
		return -1;
	close(fd);
	return atol(text);
}

static struct counters counters_now(void)
{
	return (struct counters){
		.urings = counter("urings"),
		.endpoints = counter("endpoints"),
		.services = counter("services"),
		.bytes = counter("bytes"),
	};
}

/* Are they what they were?  Releases are deferred, but not for long. */
static bool counters_return(const struct counters *was)
{
	struct counters is;
	int i;

	for (i = 0; i < 200; i++) {
		is = counters_now();
		if (!memcmp(&is, was, sizeof(is)))
			return true;
		sleep_ms(10);
	}
	printf("# urings %ld endpoints %ld services %ld bytes %ld\n", is.urings,
	       is.endpoints, is.services, is.bytes);
	return false;
}

/* ------------------------------------------------------------ who sleeps in */

/* Waits until a thread sleeps in system call @nr. */
static bool asleep_in(pid_t pid, pid_t tid, long nr)
{
	char path[64], text[32];
	int i, fd;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/syscall", pid, tid);
	for (i = 0; i < 5000; i++) {
		memset(text, 0, sizeof(text));
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd >= 0) {
			if (read(fd, text, sizeof(text) - 1) < 0)
				text[0] = '\0';
			close(fd);
			/* A task that runs is "running". */
			if (text[0] >= '0' && text[0] <= '9' &&
			    atol(text) == nr)
				return true;
		}
		sleep_ms(1);
	}
	printf("# pid %d tid %d is not in system call %ld: %s\n", pid, tid, nr,
	       text);
	return false;
}

/* ----------------------------------------------------------- other processes */

/* Messages are ints, so that a pid is one. */
static void tell(int sock, int what)
{
	if (send(sock, &what, sizeof(what), MSG_NOSIGNAL) != sizeof(what))
		perror("# send");
}

static int hear(int sock)
{
	int what;

	return recv(sock, &what, sizeof(what), 0) == sizeof(what) ? what : -1;
}

/* Nothing that a test starts outlives it, if it fails or hangs. */
static void be_mortal(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	alarm(25);
}

static pid_t fork_talking(int *sock)
{
	struct timeval limit = { .tv_sec = 10 };
	int pair[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return -1;
	pid = fork();
	if (!pid)
		be_mortal();
	*sock = pair[!pid];
	close(pair[!!pid]);
	setsockopt(*sock, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	return pid;
}

static int send_fd(int sock, int fd)
{
	char byte = 0, control[CMSG_SPACE(sizeof(fd))] = { 0 };
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(cmsg), &fd, sizeof(fd));
	return sendmsg(sock, &msg, 0) == 1 ? 0 : -errno;
}

static int recv_fd(int sock)
{
	char byte, control[CMSG_SPACE(sizeof(int))];
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	int fd;

	if (recvmsg(sock, &msg, MSG_CMSG_CLOEXEC) != 1 || !CMSG_FIRSTHDR(&msg))
		return -1;
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(fd));
	return fd;
}

/* ---------------------------------------------------------------- the peer */

/*
 * A process with one endpoint that does what it is told.  Each command is
 * answered with its own number, unless it is the last.
 */
enum command {
	MAP = 1,		/* map all three sections */
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

static void obey(struct peer *p);

static void *obey_in_thread(void *arg)
{
	obey(arg);
	return NULL;
}

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
		if (pthread_create(&thread, NULL, touch_and_go, p) ||
		    pthread_join(thread, NULL))
			_exit(21);
		break;
	case VFORK_AND_EXEC:
		vfork_and_exec();
		break;
	case LEAVE_MAIN_THREAD:
		if (pthread_create(&thread, NULL, obey_in_thread, p))
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
		if (mmap(own, len, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
			 -1, 0) != own)
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

static void obey(struct peer *p)
{
	for (;;)
		obey_one(p, hear(p->sock));
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
struct watch {
	struct channel c;
	int side;		/* that we watch from */
	int fd;			/* of that side */
	int other;		/* the side of the process */
	pid_t pid;
	int sock;
	uint64_t pos;
};

FIXTURE(peer)
{
	struct watch w;
};

FIXTURE_VARIANT(peer)
{
	int dies;
};

FIXTURE_VARIANT_ADD(peer, client)
{
	.dies = EVERING_SIDE_A,
};

FIXTURE_VARIANT_ADD(peer, server)
{
	.dies = EVERING_SIDE_B,
};

FIXTURE_SETUP(peer)
{
	struct evering_connect args = connect_args(_metadata->name);
	struct evering_accept accepted;

	/* Grandchildren are ours when their parent is gone. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	self->w.other = variant->dies;
	self->w.side = !self->w.other;
	self->w.c.service = do_listen(_metadata->name);
	ASSERT_LE(0, self->w.c.service);
	self->w.pid = fork_talking(&self->w.sock);
	if (!self->w.pid) {
		struct peer p = { .side = self->w.other, .sock = self->w.sock };

		be_peer(&p, self->w.c.service, _metadata->name);
	}
	ASSERT_LT(0, self->w.pid);
	if (self->w.side == EVERING_SIDE_A) {
		self->w.fd = device_call(EVERING_IOC_CONNECT, &args);
		self->w.c.layout = args.layout;
		ASSERT_EQ(0, hear(self->w.sock));
	} else {
		ASSERT_EQ(0, hear(self->w.sock));
		self->w.fd = do_accept(self->w.c.service, &accepted);
		self->w.c.layout = accepted.layout;
	}
	ASSERT_LE(0, self->w.fd);
	self->w.c.fd[self->w.side] = self->w.fd;
	ASSERT_EQ(0, map_side(&self->w.c, self->w.side));
}

FIXTURE_TEARDOWN(peer)
{
	kill(self->w.pid, SIGKILL);
	while (wait(NULL) > 0)
		;
}

#define TELL(command) do {						\
	tell(self->w.sock, command);					\
	ASSERT_EQ(command, hear(self->w.sock));				\
} while (0)

static unsigned int state_of(struct channel *c, int viewer, int side)
{
	return __atomic_load_n(&header_of(c, viewer)->side[side].state,
			       __ATOMIC_ACQUIRE);
}

static int do_wait_space(int fd, uint64_t pos, unsigned int timeout_ms)
{
	struct evering_enter args = wait_args(0, 1, timeout_ms);

	args.flags = EVERING_ENTER_WAIT_SPACE;
	args.space_pos = pos;
	return call(fd, EVERING_IOC_ENTER, &args);
}

static void expect_open(struct __test_metadata *_metadata,
			struct watch *w)
{
	struct evering_peer peer = { .size = sizeof(peer) };

	EXPECT_EQ(EVERING_STATE_OPEN,
		  state_of(&w->c, w->side, w->other));
	EXPECT_EQ(0, poll_now(w->fd) & (POLLHUP | POLLRDHUP | POLLERR));
	EXPECT_EQ(0, call(w->fd, EVERING_IOC_PEER, &peer));
	EXPECT_EQ(EVERING_STATE_OPEN, peer.state);
	EXPECT_EQ(w->pid, peer.pid);
	EXPECT_EQ(0, do_wake(w->fd));
	/* What is not there within this time has not been announced. */
	EXPECT_EQ(-ETIME, do_wait(w->fd, w->pos, 1, 50));
}

/* Poll goes by what this side says that it has taken. */
static void take(struct watch *w)
{
	struct evering_control *own = control_of(&w->c, w->side);

	__atomic_store_n(&own->head, ++w->pos, __ATOMIC_RELEASE);
}

/* An entry there and one back. */
static void expect_echo(struct __test_metadata *_metadata,
			struct watch *w)
{
	tell(w->sock, ECHO);
	EXPECT_EQ(ECHO, hear(w->sock));
	commit(&w->c, w->side, w->pos, EVERING_COMMITTED);
	EXPECT_EQ(0, do_wake(w->fd));
	EXPECT_EQ(EVERING_READY_ENTRIES,
		  do_wait(w->fd, w->pos, 1, LONG_MS));
	take(w);
}

static void expect_dead(struct __test_metadata *_metadata,
			struct watch *w)
{
	struct evering_peer peer = { .size = sizeof(peer) };
	struct evering_enter args = wait_args(w->pos, 1, LONG_MS);
	short revents;

	EXPECT_EQ(EVERING_STATE_DEAD,
		  state_of(&w->c, w->side, w->other));
	EXPECT_EQ(EVERING_STATE_OPEN,
		  state_of(&w->c, w->side, w->side));

	/* It still is whom it was. */
	EXPECT_EQ(0, call(w->fd, EVERING_IOC_PEER, &peer));
	EXPECT_EQ(EVERING_STATE_DEAD, peer.state);
	EXPECT_EQ(PEER_UID, peer.uid);
	EXPECT_EQ(PEER_GID, peer.gid);
	EXPECT_EQ(w->pid, peer.pid);

	revents = poll_now(w->fd);
	EXPECT_EQ(POLLHUP | POLLRDHUP | POLLIN | POLLOUT, revents);

	EXPECT_EQ(-EPIPE, do_wake(w->fd));
	EXPECT_EQ(-EPIPE, do_wait(w->fd, w->pos, 1, LONG_MS));
	EXPECT_EQ(-EPIPE, do_wait(w->fd, w->pos, 8, LONG_MS));
	/* Room where nobody will take what is put there is none. */
	EXPECT_EQ(-EPIPE, do_wait_space(w->fd, w->pos, LONG_MS));
	args.flags |= EVERING_ENTER_WAKE_PEER;
	EXPECT_EQ(-EPIPE, call(w->fd, EVERING_IOC_ENTER, &args));
	args.flags |= EVERING_ENTER_WAIT_SPACE;
	EXPECT_EQ(-EPIPE, call(w->fd, EVERING_IOC_ENTER, &args));
}

/* ---------------------------------------------------------------- sleepers */

/* A thread that sleeps until it is told of the death. */
struct sleeper {
	pthread_t thread;
	pid_t tid;
	int fd;
	struct evering_enter enter;
	int result;
	uint32_t events;
	uint64_t until;
};

static void *sleep_in_enter(void *arg)
{
	struct sleeper *s = arg;

	__atomic_store_n(&s->tid, gettid(), __ATOMIC_RELEASE);
	s->result = call(s->fd, EVERING_IOC_ENTER, &s->enter);
	s->until = now_ns();
	return NULL;
}

static void *sleep_in_poll(void *arg)
{
	struct sleeper *s = arg;
	struct pollfd p = { .fd = s->fd, .events = POLLIN | POLLRDHUP };

	__atomic_store_n(&s->tid, gettid(), __ATOMIC_RELEASE);
	s->result = syscall(SYS_poll, &p, 1, LONG_MS);
	s->until = now_ns();
	s->events = p.revents;
	return NULL;
}

static void *sleep_in_epoll(void *arg)
{
	struct sleeper *s = arg;
	/* HUP and ERR come unasked. */
	struct epoll_event event = { .events = EPOLLET };
	int epfd = epoll_create1(EPOLL_CLOEXEC);

	epoll_ctl(epfd, EPOLL_CTL_ADD, s->fd, &event);
	__atomic_store_n(&s->tid, gettid(), __ATOMIC_RELEASE);
	s->result = syscall(SYS_epoll_wait, epfd, &event, 1, LONG_MS);
	s->until = now_ns();
	s->events = event.events;
	close(epfd);
	return NULL;
}

static bool sleeper_start(struct sleeper *s, void *(*how)(void *), long nr)
{
	s->result = -1000;
	if (pthread_create(&s->thread, NULL, how, s))
		return false;
	while (!__atomic_load_n(&s->tid, __ATOMIC_ACQUIRE))
		sched_yield();
	return asleep_in(getpid(), s->tid, nr);
}

/* Nanoseconds from @since until it woke. */
static uint64_t sleeper_join(struct sleeper *s, uint64_t since)
{
	pthread_join(s->thread, NULL);
	return s->until - since;
}

/*
 * Everybody who can sleep on an endpoint sleeps, then the peer ends, by
 * @command or, if that is 0, by SIGKILL.
 */
static void watch_death(struct __test_metadata *_metadata,
			struct watch *w, int command)
{
	uint64_t room = w->c.layout.geometry.entries[w->side];
	struct sleeper entries = {
		.fd = w->fd,
		.enter = wait_args(w->pos, 1, LONG_MS),
	};
	struct sleeper space = {
		.fd = w->fd,
		.enter = wait_args(0, 1, LONG_MS),
	};
	struct sleeper poller = { .fd = w->fd };
	struct sleeper epoller = { .fd = w->fd };
	uint64_t start, took[4];

	space.enter.flags = EVERING_ENTER_WAIT_SPACE;
	space.enter.space_pos = room;
	ASSERT_TRUE(sleeper_start(&entries, sleep_in_enter, SYS_ioctl));
	ASSERT_TRUE(sleeper_start(&space, sleep_in_enter, SYS_ioctl));
	ASSERT_TRUE(sleeper_start(&poller, sleep_in_poll, SYS_poll));
	ASSERT_TRUE(sleeper_start(&epoller, sleep_in_epoll, SYS_epoll_wait));
	EXPECT_EQ(EVERING_STATE_OPEN,
		  state_of(&w->c, w->side, w->other));

	start = now_ns();
	if (command)
		tell(w->sock, command);
	else
		kill(w->pid, SIGKILL);
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
	EXPECT_GT(PROMPT_NS, took[0]);
	EXPECT_EQ(-EPIPE, space.result);
	EXPECT_GT(PROMPT_NS, took[1]);
	EXPECT_EQ(1, poller.result);
	EXPECT_EQ(POLLHUP | POLLRDHUP | POLLIN, poller.events);
	EXPECT_GT(PROMPT_NS, took[2]);
	EXPECT_EQ(1, epoller.result);
	EXPECT_EQ(EPOLLHUP, epoller.events);
	EXPECT_GT(PROMPT_NS, took[3]);
	expect_dead(_metadata, w);
}

/* -------------------------------------------------------- the ways to die */

TEST_F(peer, killed)
{
	TELL(MAP);
	expect_echo(_metadata, &self->w);
	watch_death(_metadata, &self->w, 0);
	EXPECT_EQ(-SIGKILL, reap(self->w.pid));
	/* Also when there is no such process any more. */
	expect_dead(_metadata, &self->w);
}

TEST_F(peer, killed_before_it_maps)
{
	watch_death(_metadata, &self->w, 0);
	EXPECT_EQ(-SIGKILL, reap(self->w.pid));
	expect_dead(_metadata, &self->w);
}

TEST_F(peer, killed_while_stopped)
{
	int status;

	TELL(MAP);
	kill(self->w.pid, SIGSTOP);
	ASSERT_EQ(self->w.pid, waitpid(self->w.pid, &status, WUNTRACED));
	ASSERT_TRUE(WIFSTOPPED(status));
	watch_death(_metadata, &self->w, 0);
	EXPECT_EQ(-SIGKILL, reap(self->w.pid));
}

TEST_F(peer, killed_while_it_waits)
{
	TELL(MAP);
	TELL(ECHO);
	ASSERT_TRUE(asleep_in(self->w.pid, self->w.pid, SYS_ioctl));
	watch_death(_metadata, &self->w, 0);
	EXPECT_EQ(-SIGKILL, reap(self->w.pid));
}

TEST_F(peer, exits)
{
	TELL(MAP);
	expect_echo(_metadata, &self->w);
	watch_death(_metadata, &self->w, EXIT);
	EXPECT_EQ(0, reap(self->w.pid));
	expect_dead(_metadata, &self->w);
}

TEST_F(peer, executes_another_program)
{
	int status;

	TELL(MAP);
	expect_echo(_metadata, &self->w);
	watch_death(_metadata, &self->w, EXEC);
	/* The process lives, and has the descriptor. */
	EXPECT_EQ(0, waitpid(self->w.pid, &status, WNOHANG));
	EXPECT_TRUE(asleep_in(self->w.pid, self->w.pid, SYS_clock_nanosleep) ||
		    asleep_in(self->w.pid, self->w.pid, SYS_nanosleep));
	expect_dead(_metadata, &self->w);
	kill(self->w.pid, SIGKILL);
	EXPECT_EQ(-SIGKILL, reap(self->w.pid));
}

TEST_F(peer, unmaps_its_section)
{
	TELL(MAP);
	expect_echo(_metadata, &self->w);
	watch_death(_metadata, &self->w, UNMAP);
	EXPECT_EQ(UNMAP, hear(self->w.sock));
	tell(self->w.sock, ENTER_ITSELF);
	EXPECT_EQ(-EBADFD, hear(self->w.sock));
}

TEST_F(peer, maps_over_its_section)
{
	TELL(MAP);
	expect_echo(_metadata, &self->w);
	watch_death(_metadata, &self->w, MAP_OVER);
	EXPECT_EQ(MAP_OVER, hear(self->w.sock));
	tell(self->w.sock, ENTER_ITSELF);
	EXPECT_EQ(-EBADFD, hear(self->w.sock));
}

TEST_F(peer, closes_what_it_never_mapped)
{
	watch_death(_metadata, &self->w, CLOSE);
	EXPECT_EQ(CLOSE, hear(self->w.sock));
}

/* Mapped, the descriptor is not its life. */
TEST_F(peer, closes_what_it_has_mapped)
{
	TELL(MAP);
	TELL(CLOSE);
	expect_open(_metadata, &self->w);
	TELL(COMMIT);
	EXPECT_EQ(EVERING_READY_ENTRIES,
		  do_wait(self->w.fd, self->w.pos, 1, LONG_MS));
	take(&self->w);
	watch_death(_metadata, &self->w, UNMAP);
}

/* ------------------------------------------------------ what is not a death */

TEST_F(peer, stopped_is_not_dead)
{
	int status;

	TELL(MAP);
	expect_echo(_metadata, &self->w);
	TELL(ECHO);
	ASSERT_TRUE(asleep_in(self->w.pid, self->w.pid, SYS_ioctl));
	kill(self->w.pid, SIGSTOP);
	ASSERT_EQ(self->w.pid, waitpid(self->w.pid, &status, WUNTRACED));
	ASSERT_TRUE(WIFSTOPPED(status));
	EXPECT_EQ(-ETIME, do_wait(self->w.fd, self->w.pos, 1, 300));
	expect_open(_metadata, &self->w);
	/* It does not answer either. */
	commit(&self->w.c, self->w.side, self->w.pos, EVERING_COMMITTED);
	EXPECT_EQ(0, do_wake(self->w.fd));
	EXPECT_EQ(-ETIME, do_wait(self->w.fd, self->w.pos, 1, 100));
	kill(self->w.pid, SIGCONT);
	EXPECT_EQ(EVERING_READY_ENTRIES,
		  do_wait(self->w.fd, self->w.pos, 1, LONG_MS));
	take(&self->w);
	expect_open(_metadata, &self->w);
}

TEST_F(peer, a_thread_that_exits_is_no_death)
{
	TELL(MAP);
	TELL(THREAD_COMES_AND_GOES);
	expect_open(_metadata, &self->w);
	expect_echo(_metadata, &self->w);
	watch_death(_metadata, &self->w, EXIT);
}

TEST_F(peer, the_main_thread_that_exits_is_no_death)
{
	TELL(MAP);
	tell(self->w.sock, LEAVE_MAIN_THREAD);
	expect_open(_metadata, &self->w);
	expect_echo(_metadata, &self->w);
	expect_open(_metadata, &self->w);
	watch_death(_metadata, &self->w, EXIT);
	EXPECT_EQ(0, reap(self->w.pid));
}

TEST_F(peer, the_last_thread_that_exits_is)
{
	TELL(MAP);
	tell(self->w.sock, LEAVE_MAIN_THREAD);
	expect_echo(_metadata, &self->w);
	watch_death(_metadata, &self->w, EXIT_THREAD);
	EXPECT_EQ(0, reap(self->w.pid));
}

TEST_F(peer, killed_without_its_main_thread)
{
	TELL(MAP);
	tell(self->w.sock, LEAVE_MAIN_THREAD);
	expect_echo(_metadata, &self->w);
	watch_death(_metadata, &self->w, 0);
	EXPECT_EQ(-SIGKILL, reap(self->w.pid));
}

/* A child that borrows the memory and leaves it for another program. */
TEST_F(peer, a_vforked_child_that_executes_is_no_death)
{
	TELL(MAP);
	TELL(VFORK_AND_EXEC);
	expect_open(_metadata, &self->w);
	expect_echo(_metadata, &self->w);
	watch_death(_metadata, &self->w, EXIT);
}

TEST_F(peer, a_descriptor_in_a_child_is_no_life)
{
	pid_t child;
	int status;

	TELL(MAP);
	expect_echo(_metadata, &self->w);
	tell(self->w.sock, FORK_AND_PAUSE);
	child = hear(self->w.sock);
	ASSERT_LT(0, child);
	ASSERT_NE(self->w.pid, child);
	tell(self->w.sock, ENTER_ITSELF);
	EXPECT_EQ(-EPERM, hear(self->w.sock));
	expect_open(_metadata, &self->w);

	watch_death(_metadata, &self->w, 0);
	EXPECT_EQ(-SIGKILL, reap(self->w.pid));
	EXPECT_EQ(0, waitpid(child, &status, WNOHANG));
	tell(self->w.sock, ENTER_ITSELF);
	EXPECT_EQ(-EBADFD, hear(self->w.sock));
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
	kill(self->w.pid, SIGKILL);
	EXPECT_EQ(-SIGKILL, reap(self->w.pid));
	EXPECT_EQ(EVERING_STATE_DEAD,
		  state_of(&self->w.c, self->w.side, self->w.other));

	for (i = 0; i < 3; i++) {
		EXPECT_EQ(EVERING_READY_ENTRIES,
			  do_wait(self->w.fd, i, 1, LONG_MS));
		EXPECT_EQ(EVERING_READY_ENTRIES, do_wait(self->w.fd, i, 1, 0));
		/* Fewer than wanted, but no more will come. */
		EXPECT_EQ(EVERING_READY_ENTRIES,
			  do_wait(self->w.fd, i, 8, LONG_MS));
	}
	EXPECT_EQ(-EPIPE, do_wait(self->w.fd, 3, 1, LONG_MS));
	EXPECT_EQ(-EPIPE, do_wait(self->w.fd, 3, 8, LONG_MS));
	self->w.pos = 3;
	expect_dead(_metadata, &self->w);
}

TEST_F(peer, who_waits_for_many_gets_what_there_is)
{
	struct sleeper s = {
		.fd = self->w.fd,
		.enter = wait_args(0, 8, LONG_MS),
	};
	uint64_t start;
	int i;

	TELL(MAP);
	ASSERT_TRUE(sleeper_start(&s, sleep_in_enter, SYS_ioctl));
	for (i = 0; i < 3; i++)
		TELL(COMMIT);
	sleep_ms(50);
	ASSERT_TRUE(asleep_in(getpid(), s.tid, SYS_ioctl));
	start = now_ns();
	kill(self->w.pid, SIGKILL);
	EXPECT_GT(PROMPT_NS, sleeper_join(&s, start));
	EXPECT_EQ(EVERING_READY_ENTRIES, s.result);
	EXPECT_EQ(-EPIPE, do_wait(self->w.fd, 3, 1, LONG_MS));
}

TEST_F(peer, who_waits_for_room_or_entries_gets_the_entries_first)
{
	struct sleeper s = {
		.fd = self->w.fd,
		.enter = wait_args(0, 8, LONG_MS),
	};
	uint64_t start;

	s.enter.flags |= EVERING_ENTER_WAIT_SPACE;
	s.enter.space_pos = self->w.c.layout.geometry.entries[self->w.side];
	TELL(MAP);
	ASSERT_TRUE(sleeper_start(&s, sleep_in_enter, SYS_ioctl));
	TELL(COMMIT);
	start = now_ns();
	kill(self->w.pid, SIGKILL);
	EXPECT_GT(PROMPT_NS, sleeper_join(&s, start));
	EXPECT_EQ(EVERING_READY_ENTRIES, s.result);
	s.enter.wait_pos = 1;
	EXPECT_EQ(-EPIPE, call(self->w.fd, EVERING_IOC_ENTER, &s.enter));
}

/* ------------------------------------------------------ the own endpoint */

TEST(own_section_unmapped_is_the_own_death)
{
	struct evering_shutdown shutdown = {
		.size = sizeof(shutdown),
		.how = EVERING_SHUT_WR,
	};
	struct evering_peer peer = { .size = sizeof(peer) };
	struct channel c;
	int side, section;

	for (side = 0; side < 2; side++) {
		ASSERT_EQ(0, channel_open(&c, _metadata->name));
		EXPECT_EQ(0, munmap(c.map[side][OWN(side)],
				    c.layout.section_size[OWN(side)]));
		EXPECT_EQ(-EBADFD, do_wait(c.fd[side], 0, 1, LONG_MS));
		EXPECT_EQ(-EBADFD, do_wait_space(c.fd[side], 0, LONG_MS));
		EXPECT_EQ(-EBADFD, do_wake(c.fd[side]));
		EXPECT_EQ(-EBADFD,
			  call(c.fd[side], EVERING_IOC_SHUTDOWN, &shutdown));
		for (section = 0; section < 3; section++) {
			int prot = section == OWN(side) ? RW : PROT_READ;

			errno = 0;
			EXPECT_EQ(MAP_FAILED, map_section(c.fd[side], &c.layout,
							  section, prot));
			EXPECT_EQ(EBADFD, errno);
		}
		EXPECT_EQ(POLLERR, poll_now(c.fd[side]) & (POLLERR | POLLHUP));
		EXPECT_EQ(0, call(c.fd[side], EVERING_IOC_PEER, &peer));
		EXPECT_EQ(EVERING_STATE_OPEN, peer.state);

		EXPECT_EQ(EVERING_STATE_DEAD, state_of(&c, !side, side));
		EXPECT_EQ(-EPIPE, do_wait(c.fd[!side], 0, 1, LONG_MS));
		EXPECT_EQ(POLLHUP, poll_now(c.fd[!side]) & (POLLERR | POLLHUP));
		close(c.service);
	}
}

TEST(own_section_unmapped_wakes_who_waits)
{
	struct channel c;
	int side;

	for (side = 0; side < 2; side++) {
		struct sleeper waiter = { 0 }, space = { 0 }, poller = { 0 };
		struct sleeper other = { 0 };
		uint64_t start, took;

		ASSERT_EQ(0, channel_open(&c, _metadata->name));
		waiter.fd = space.fd = poller.fd = c.fd[side];
		waiter.enter = wait_args(0, 1, LONG_MS);
		space.enter = wait_args(0, 1, LONG_MS);
		space.enter.flags = EVERING_ENTER_WAIT_SPACE;
		space.enter.space_pos = c.layout.geometry.entries[side];
		other.fd = c.fd[!side];
		other.enter = wait_args(0, 1, LONG_MS);
		ASSERT_TRUE(sleeper_start(&waiter, sleep_in_enter, SYS_ioctl));
		ASSERT_TRUE(sleeper_start(&space, sleep_in_enter, SYS_ioctl));
		ASSERT_TRUE(sleeper_start(&poller, sleep_in_poll, SYS_poll));
		ASSERT_TRUE(sleeper_start(&other, sleep_in_enter, SYS_ioctl));

		start = now_ns();
		EXPECT_EQ(0, munmap(c.map[side][OWN(side)],
				    c.layout.section_size[OWN(side)]));
		took = sleeper_join(&waiter, start);
		EXPECT_GT(PROMPT_NS, took);
		EXPECT_GT(PROMPT_NS, sleeper_join(&space, start));
		EXPECT_GT(PROMPT_NS, sleeper_join(&poller, start));
		EXPECT_GT(PROMPT_NS, sleeper_join(&other, start));
		TH_LOG("known after %llu us", (unsigned long long)took / 1000);
		EXPECT_EQ(-EBADFD, waiter.result);
		EXPECT_EQ(-EBADFD, space.result);
		EXPECT_EQ(1, poller.result);
		EXPECT_EQ(POLLERR, poller.events);
		EXPECT_EQ(-EPIPE, other.result);
		close(c.service);
	}
}

/* ------------------------------------------------------- at random moments */

#define STREAM_ENTRIES	64
#define STREAM_PAYLOAD	64
#define ROUNDS		200

/* What a child tells without being asked, in memory shared with the test. */
struct log {
	uint64_t sent;		/* messages that were submitted */
};

static const struct evering_geometry stream_geometry = {
	.entries = { STREAM_ENTRIES, STREAM_ENTRIES },
	.slot_size = { 64, 128 },
	.heap_size = { STREAM_ENTRIES * STREAM_PAYLOAD,
		       STREAM_ENTRIES * STREAM_PAYLOAD },
};

static uint64_t mix(uint64_t seq, uint64_t salt)
{
	uint64_t x = (seq + 1) * 0x9e3779b97f4a7c15 + salt;

	return (x ^ x >> 29) * 0xbf58476d1ce4e5b9;
}

static void fill(void *to, size_t len, uint64_t seq)
{
	uint64_t *words = to;
	size_t i;

	for (i = 0; i < len / 8; i++)
		words[i] = mix(seq, i);
}

static bool filled(const void *from, size_t len, uint64_t seq)
{
	const uint64_t *words = from;
	size_t i;

	for (i = 0; i < len / 8; i++)
		if (words[i] != mix(seq, i))
			return false;
	return true;
}

/* Its slot in the heap is free when its slot in the ring is. */
static uint64_t payload_of(uint64_t seq)
{
	return seq % STREAM_ENTRIES * STREAM_PAYLOAD;
}

static void stream_requests(struct evering *ep, struct log *log)
{
	char *heap = evering_heap(ep, NULL);
	uint64_t seq = 0;
	unsigned int i;

	for (;;) {
		for (i = 0; i <= mix(seq, 99) % 5; i++) {
			struct evering_sqe *sqe;

			while (!(sqe = evering_get_sqe(ep)))
				if (evering_wait_sq_space(ep, NULL) < 0)
					_exit(30);
			sqe->user_data = seq;
			sqe->opcode = mix(seq, 1);
			sqe->flags = mix(seq, 2);
			sqe->len = STREAM_PAYLOAD;
			sqe->offset = payload_of(seq);
			fill(sqe->data, sizeof(sqe->data), seq);
			fill(heap + payload_of(seq), STREAM_PAYLOAD, seq);
			seq++;
		}
		if (evering_submit(ep) < 0)
			_exit(31);
		__atomic_store_n(&log->sent, seq, __ATOMIC_RELEASE);
	}
}

static void stream_completions(struct evering *ep, struct log *log)
{
	char *heap = evering_heap(ep, NULL);
	uint64_t seq = 0;
	unsigned int i;

	for (;;) {
		for (i = 0; i <= mix(seq, 99) % 5; i++) {
			struct evering_cqe *cqe;

			while (!(cqe = evering_get_cqe(ep)))
				if (evering_wait_cq_space(ep, NULL) < 0)
					_exit(32);
			cqe->user_data = seq;
			cqe->res = mix(seq, 1);
			cqe->flags = mix(seq, 2);
			cqe->offset = payload_of(seq);
			fill(cqe->data, 96, seq);
			fill(heap + payload_of(seq), STREAM_PAYLOAD, seq);
			seq++;
		}
		if (evering_complete(ep) < 0)
			_exit(33);
		__atomic_store_n(&log->sent, seq, __ATOMIC_RELEASE);
	}
}

/* All that comes; its end in @end.  Returns how many were right. */
static uint64_t drain_requests(struct evering *ep, int *end)
{
	const struct timespec limit = { LONG_MS / 1000, 0 };
	const struct evering_sqe *sqe;
	const void *payload;
	uint64_t seq;

	for (seq = 0;; seq++) {
		*end = evering_wait_sqe_timeout(ep, &sqe, &limit);
		if (*end)
			return seq;
		payload = evering_payload(ep, sqe->offset, sqe->len);
		if (sqe->user_data != seq ||
		    sqe->opcode != (uint16_t)mix(seq, 1) ||
		    sqe->flags != (uint16_t)mix(seq, 2) ||
		    sqe->len != STREAM_PAYLOAD ||
		    sqe->offset != payload_of(seq) ||
		    !filled(sqe->data, sizeof(sqe->data), seq) ||
		    !payload || !filled(payload, STREAM_PAYLOAD, seq)) {
			*end = -EBADMSG;
			return seq;
		}
		evering_sqe_seen(ep, sqe);
	}
}

static uint64_t drain_completions(struct evering *ep, int *end)
{
	const struct timespec limit = { LONG_MS / 1000, 0 };
	const struct evering_cqe *cqe;
	const void *payload;
	uint64_t seq;

	for (seq = 0;; seq++) {
		*end = evering_wait_cqe_timeout(ep, &cqe, &limit);
		if (*end)
			return seq;
		payload = evering_payload(ep, cqe->offset, STREAM_PAYLOAD);
		if (cqe->user_data != seq ||
		    cqe->res != (int32_t)mix(seq, 1) ||
		    cqe->flags != (uint32_t)mix(seq, 2) ||
		    cqe->offset != payload_of(seq) ||
		    !filled(cqe->data, 96, seq) ||
		    !payload || !filled(payload, STREAM_PAYLOAD, seq)) {
			*end = -EBADMSG;
			return seq;
		}
		evering_cqe_seen(ep, cqe);
	}
}

/* Kills @pid at some time after @go is set, or after it was started. */
struct killer {
	pthread_t thread;
	pid_t pid;
	unsigned int us;
	bool wait;
	bool go;
};

static void *kill_later(void *arg)
{
	struct killer *k = arg;
	struct timespec ts = { .tv_nsec = k->us * 1000L };
	int i;

	for (i = 0; k->wait && i < 5000; i++) {
		struct timespec tick = { .tv_nsec = 100000 };

		if (__atomic_load_n(&k->go, __ATOMIC_ACQUIRE))
			break;
		nanosleep(&tick, NULL);
	}
	nanosleep(&ts, NULL);
	kill(k->pid, SIGKILL);
	return NULL;
}

/* In one of four rounds the child is hit while it still connects. */
static bool killer_start(struct killer *k, pid_t pid, int round,
			 unsigned int *seed)
{
	k->pid = pid;
	k->wait = round % 4;
	k->go = false;
	k->us = k->wait ? 100 + rand_r(seed) % 4000 : rand_r(seed) % 10000;
	return !pthread_create(&k->thread, NULL, kill_later, k);
}

static void killer_go(struct killer *k)
{
	__atomic_store_n(&k->go, true, __ATOMIC_RELEASE);
}

static struct log *log_new(void)
{
	return mmap(NULL, PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

TEST(client_killed_at_random_moments)
{
	const struct timespec now = { 0, 0 }, moment = { 0, 20000000 };
	const struct timespec limit = { LONG_MS / 1000, 0 };
	struct counters before = counters_now();
	struct evering_service *service;
	unsigned int seed = now_ns(), connected = 0, talked = 0;
	struct log *log = log_new();
	uint64_t total = 0;
	int round;

	TH_LOG("seed %u", seed);
	ASSERT_NE(MAP_FAILED, (void *)log);
	ASSERT_EQ(0, evering_listen(_metadata->name, NULL, &service));
	for (round = 0; round < ROUNDS; round++) {
		struct evering *ep = NULL;
		struct killer killer;
		uint64_t got;
		int ret, end;
		pid_t pid;

		log->sent = 0;
		pid = fork();
		if (!pid) {
			be_mortal();
			ret = evering_connect(_metadata->name,
					      &stream_geometry, &ep);
			if (ret)
				_exit(34);
			stream_requests(ep, log);
		}
		ASSERT_LT(0, pid);
		ASSERT_TRUE(killer_start(&killer, pid, round, &seed));
		ret = evering_accept_timeout(service, &ep,
					     killer.wait ? &limit : &moment);
		killer_go(&killer);
		if (ret == -ETIME) {
			/* Dead before it came to connect?  Then it is certain. */
			ASSERT_EQ(0, pthread_join(killer.thread, NULL));
			ASSERT_EQ(-SIGKILL, reap(pid));
			ret = evering_accept_timeout(service, &ep, &now);
			if (ret) {
				ASSERT_EQ(-EAGAIN, ret);
				continue;
			}
			pid = 0;
		}
		ASSERT_EQ(0, ret);
		got = drain_requests(ep, &end);
		EXPECT_EQ(-EPIPE, end) {
			TH_LOG("round %d, message %llu", round,
			       (unsigned long long)got);
		}
		if (pid) {
			ASSERT_EQ(0, pthread_join(killer.thread, NULL));
			ASSERT_EQ(-SIGKILL, reap(pid));
		}
		/* The last batch may have gone out without being logged. */
		EXPECT_LE(log->sent, got);
		EXPECT_GE(log->sent + 5, got);
		connected++;
		talked += got > 0;
		total += got;
		evering_close(ep);
	}
	evering_service_close(service);
	TH_LOG("%u connected, %u sent something, %llu messages", connected,
	       talked, (unsigned long long)total);
	EXPECT_LE(ROUNDS / 4, talked);
	EXPECT_LE(ROUNDS, total);
	EXPECT_TRUE(counters_return(&before));
}

TEST(server_killed_at_random_moments)
{
	struct counters before = counters_now();
	unsigned int seed = now_ns(), connected = 0, talked = 0;
	struct log *log = log_new();
	uint64_t total = 0;
	int round;

	TH_LOG("seed %u", seed);
	ASSERT_NE(MAP_FAILED, (void *)log);
	for (round = 0; round < ROUNDS; round++) {
		struct evering_service *service;
		struct evering *ep = NULL;
		struct killer killer;
		bool reaped = false;
		uint64_t got;
		int ret, end, status;
		pid_t pid;

		log->sent = 0;
		pid = fork();
		if (!pid) {
			be_mortal();
			if (evering_listen(_metadata->name, NULL, &service))
				_exit(35);
			if (evering_accept(service, &ep))
				_exit(36);
			stream_completions(ep, log);
		}
		ASSERT_LT(0, pid);
		ASSERT_TRUE(killer_start(&killer, pid, round, &seed));
		for (;;) {
			ret = evering_connect(_metadata->name,
					      &stream_geometry, &ep);
			if (ret != -ECONNREFUSED || reaped)
				break;
			reaped = waitpid(pid, &status, WNOHANG) == pid;
			usleep(200);
		}
		killer_go(&killer);
		got = 0;
		if (ret) {
			ASSERT_EQ(-ECONNREFUSED, ret);
		} else {
			got = drain_completions(ep, &end);
			EXPECT_EQ(-EPIPE, end) {
				TH_LOG("round %d, message %llu", round,
				       (unsigned long long)got);
			}
		}
		ASSERT_EQ(0, pthread_join(killer.thread, NULL));
		if (!reaped)
			ASSERT_EQ(pid, waitpid(pid, &status, 0));
		ASSERT_TRUE(WIFSIGNALED(status)) {
			TH_LOG("exit status %d", WEXITSTATUS(status));
		}
		EXPECT_LE(log->sent, got);
		EXPECT_GE(log->sent + 5, got);
		connected += !ret;
		talked += got > 0;
		total += got;
		if (!ret)
			evering_close(ep);
	}
	TH_LOG("%u connected, %u sent something, %llu messages", connected,
	       talked, (unsigned long long)total);
	EXPECT_LE(ROUNDS / 4, talked);
	EXPECT_LE(ROUNDS, total);
	EXPECT_TRUE(counters_return(&before));
}

/* The library tells the end as the kernel does, to all who wait. */
TEST(library_tells_the_end)
{
	struct evering *client, *server;
	struct evering_service *service;
	const struct evering_cqe *cqe;
	struct evering_cqe *answer;
	struct timespec limit = { LONG_MS / 1000, 0 };
	uint64_t start;
	int sock, i;
	pid_t pid;

	pid = fork_talking(&sock);
	if (!pid) {
		if (evering_listen(_metadata->name, NULL, &service))
			_exit(1);
		tell(sock, 1);
		if (evering_accept(service, &server))
			_exit(2);
		for (i = 0; i < 3; i++) {
			answer = evering_get_cqe(server);
			answer->user_data = i;
			evering_complete(server);
		}
		tell(sock, 2);
		for (;;)
			pause();
	}
	ASSERT_LT(0, pid);
	ASSERT_EQ(1, hear(sock));
	ASSERT_EQ(0, evering_connect(_metadata->name, NULL, &client));
	ASSERT_EQ(2, hear(sock));
	/* Our own ring is full, so there is room to wait for. */
	while (evering_get_sqe(client))
		;
	ASSERT_LT(0, evering_submit(client));
	ASSERT_EQ(NULL, evering_get_sqe(client));
	start = now_ns();
	kill(pid, SIGKILL);
	EXPECT_EQ(-SIGKILL, reap(pid));
	/* More than there are, and the end. */
	EXPECT_EQ(0, evering_wait_cqes(client, &cqe, 5, &limit));
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, evering_wait_cqe_timeout(client, &cqe, &limit));
		EXPECT_EQ(i, cqe->user_data);
		evering_cqe_seen(client, cqe);
	}
	EXPECT_EQ(-EPIPE, evering_wait_cqe_timeout(client, &cqe, &limit));
	EXPECT_EQ(-EPIPE, evering_peek_cqe(client, &cqe));
	EXPECT_EQ(-EPIPE, evering_wait_sq_space(client, &limit));
	EXPECT_EQ(-EPIPE, evering_submit(client));
	EXPECT_GT(5 * PROMPT_NS, now_ns() - start);
	evering_close(client);
}

/* ---------------------------------------------- killed inside a system call */

/* SIGKILL, and how long until there is nothing left of it but a status. */
static uint64_t kill_and_reap(pid_t pid, int *status)
{
	uint64_t start = now_ns();

	kill(pid, SIGKILL);
	*status = reap(pid);
	return now_ns() - start;
}

TEST(killed_in_enter)
{
	struct counters before = counters_now();
	struct evering_connect args = connect_args(_metadata->name);
	int service, i, status;

	service = do_listen(_metadata->name);
	ASSERT_LE(0, service);
	for (i = 0; i < 4; i++) {
		pid_t pid = fork();

		if (!pid) {
			struct evering_enter enter = wait_args(0, 1, 0);
			struct channel c = { 0 };

			be_mortal();
			c.fd[0] = device_call(EVERING_IOC_CONNECT, &args);
			c.layout = args.layout;
			/* Also without a mapping, and waiting for both. */
			if (i & 1 && map_side(&c, 0))
				_exit(1);
			if (i & 2) {
				enter.flags |= EVERING_ENTER_WAIT_SPACE;
				enter.space_pos = args.geometry.entries[0];
			}
			enter.deadline = EVERING_NO_DEADLINE;
			call(c.fd[0], EVERING_IOC_ENTER, &enter);
			_exit(2);
		}
		ASSERT_LT(0, pid);
		EXPECT_TRUE(asleep_in(pid, pid, SYS_ioctl));
		EXPECT_GT(PROMPT_NS, kill_and_reap(pid, &status));
		EXPECT_EQ(-SIGKILL, status);
	}
	close(service);
	EXPECT_TRUE(counters_return(&before));
}

static pid_t fork_acceptor(int service)
{
	struct evering_accept accept = {
		.size = sizeof(accept),
		.deadline = EVERING_NO_DEADLINE,
	};
	pid_t pid = fork();

	if (!pid) {
		be_mortal();
		_exit(call(service, EVERING_IOC_ACCEPT, &accept) < 0);
	}
	return pid;
}

TEST(killed_in_accept)
{
	struct counters before = counters_now();
	struct evering_connect args = connect_args(_metadata->name);
	int service, i, fd, status;
	pid_t pids[3];

	service = do_listen(_metadata->name);
	ASSERT_LE(0, service);
	for (i = 0; i < 3; i++) {
		pids[i] = fork_acceptor(service);
		ASSERT_LT(0, pids[i]);
		ASSERT_TRUE(asleep_in(pids[i], pids[i], SYS_ioctl));
	}
	/* The first in the queue, whom the next client would wake. */
	EXPECT_GT(PROMPT_NS, kill_and_reap(pids[0], &status));
	EXPECT_EQ(-SIGKILL, status);
	fd = device_call(EVERING_IOC_CONNECT, &args);
	ASSERT_LE(0, fd);
	EXPECT_EQ(0, reap(pids[1]));
	EXPECT_EQ(-EPIPE, do_wait(fd, 0, 1, LONG_MS));
	close(fd);

	EXPECT_GT(PROMPT_NS, kill_and_reap(pids[2], &status));
	EXPECT_EQ(-SIGKILL, status);
	close(service);
	EXPECT_TRUE(counters_return(&before));
}

/* A client wakes one acceptor: not one that is being killed, for nothing. */
TEST(killed_in_accept_while_a_client_comes)
{
	struct counters before = counters_now();
	struct evering_connect args = connect_args(_metadata->name);
	unsigned int seed = now_ns();
	int service, fd, i, status;
	pid_t pids[2];

	TH_LOG("seed %u", seed);
	service = do_listen(_metadata->name);
	ASSERT_LE(0, service);
	for (i = 0; i < 40; i++) {
		uint64_t start = 0;

		pids[0] = fork_acceptor(service);
		ASSERT_LT(0, pids[0]);
		ASSERT_TRUE(asleep_in(pids[0], pids[0], SYS_ioctl));
		pids[1] = fork_acceptor(service);
		ASSERT_LT(0, pids[1]);
		ASSERT_TRUE(asleep_in(pids[1], pids[1], SYS_ioctl));

		if (i & 1) {
			kill(pids[0], SIGKILL);
			start = now_ns() + rand_r(&seed) % 200000;
		}
		while (now_ns() < start)
			;
		fd = device_call(EVERING_IOC_CONNECT, &args);
		kill(pids[0], SIGKILL);
		ASSERT_LE(0, fd);
		/* Whoever took it is gone at once. */
		ASSERT_EQ(-EPIPE, do_wait(fd, 0, 1, LONG_MS)) {
			TH_LOG("round %d", i);
		}
		close(fd);
		kill_and_reap(pids[1], &status);
		EXPECT_TRUE(status == -SIGKILL || !status);
		status = reap(pids[0]);
		EXPECT_TRUE(status == -SIGKILL || !status);
	}
	close(service);
	EXPECT_TRUE(counters_return(&before));
}

/*
 * Hundreds of megabytes are given out page by page.  Who is killed meanwhile
 * gets no more of them, and never comes to stand in the backlog.
 */
TEST(killed_in_connect)
{
	struct counters before = counters_now();
	struct evering_connect args = connect_args(_metadata->name);
	struct evering_accept accepted;
	long all, seen = 0;
	int service, i, fd = -1, status;

	args.geometry.heap_size[0] = 100UL << 20;
	args.geometry.heap_size[1] = 100UL << 20;
	all = 200UL << 20;
	service = do_listen(_metadata->name);
	ASSERT_LE(0, service);
	/* On a busy machine the kill may come too late; not every time. */
	for (i = 0; i < 20; i++) {
		uint64_t took;
		pid_t pid;

		pid = fork();
		if (!pid) {
			be_mortal();
			_exit(device_call(EVERING_IOC_CONNECT, &args) < 0);
		}
		ASSERT_LT(0, pid);
		took = now_ns() + LONG_MS / 2 * MS;
		do {
			seen = counter("bytes") - before.bytes;
		} while (seen < all / 20 && now_ns() < took);
		took = kill_and_reap(pid, &status);
		EXPECT_GT(5 * PROMPT_NS, took);
		EXPECT_TRUE(status == -SIGKILL || !status);
		fd = do_accept(service, &accepted);
		if (fd < 0)
			break;
		close(fd);
	}
	TH_LOG("killed at %ld of %ld bytes, try %d", seen, all, i + 1);
	EXPECT_EQ(-EAGAIN, fd);
	before.services++;
	EXPECT_TRUE(counters_return(&before));

	/* Its place in the backlog is free again: there are four. */
	args = connect_args(_metadata->name);
	for (i = 0; i < 4; i++)
		EXPECT_LE(0, device_call(EVERING_IOC_CONNECT, &args));
	EXPECT_EQ(-EAGAIN, device_call(EVERING_IOC_CONNECT, &args));
}

TEST(both_killed_leave_nothing)
{
	struct counters before = counters_now();
	int i, status[2], socks[2];
	pid_t pids[2];

	for (i = 0; i < 10; i++) {
		struct evering_service *service;
		struct evering *ep;

		pids[1] = fork_talking(&socks[1]);
		if (!pids[1]) {
			if (evering_listen(_metadata->name, NULL, &service))
				_exit(1);
			tell(socks[1], 1);
			if (evering_accept(service, &ep))
				_exit(2);
			evering_wait_sqe(ep, &(const struct evering_sqe *){ 0 });
			_exit(3);
		}
		ASSERT_LT(0, pids[1]);
		ASSERT_EQ(1, hear(socks[1]));
		pids[0] = fork_talking(&socks[0]);
		if (!pids[0]) {
			if (evering_connect(_metadata->name, NULL, &ep))
				_exit(1);
			tell(socks[0], 1);
			evering_wait_cqe(ep, &(const struct evering_cqe *){ 0 });
			_exit(3);
		}
		ASSERT_LT(0, pids[0]);
		ASSERT_EQ(1, hear(socks[0]));
		if (i & 1) {
			ASSERT_TRUE(asleep_in(pids[0], pids[0], SYS_ioctl));
			ASSERT_TRUE(asleep_in(pids[1], pids[1], SYS_ioctl));
		}
		kill(pids[0], SIGKILL);
		kill(pids[1], SIGKILL);
		status[0] = reap(pids[0]);
		status[1] = reap(pids[1]);
		/* The second may have learnt of the first before it died. */
		EXPECT_EQ(-SIGKILL, status[0]);
		EXPECT_TRUE(status[1] == -SIGKILL || status[1] == 3);
		close(socks[0]);
		close(socks[1]);
	}
	EXPECT_TRUE(counters_return(&before));
}

/* ------------------------------------------------------------- the service */

TEST(service_killed_with_clients_that_wait)
{
	struct counters before = counters_now();
	struct evering_connect args = connect_args(_metadata->name);
	struct evering_peer peer = { .size = sizeof(peer) };
	struct sleeper waiter = { 0 }, poller = { 0 };
	struct channel c = { 0 };
	int sock, fd, service;
	uint64_t start, took;
	pid_t pid;

	pid = fork_talking(&sock);
	if (!pid) {
		service = do_listen(_metadata->name);
		tell(sock, service < 0);
		for (;;)
			pause();
	}
	ASSERT_LT(0, pid);
	ASSERT_EQ(0, hear(sock));
	c.fd[0] = device_call(EVERING_IOC_CONNECT, &args);
	ASSERT_LE(0, c.fd[0]);
	c.layout = args.layout;
	ASSERT_EQ(0, map_side(&c, 0));
	/* A second one, not mapped. */
	fd = device_call(EVERING_IOC_CONNECT, &args);
	ASSERT_LE(0, fd);
	EXPECT_EQ(EVERING_STATE_PENDING, state_of(&c, 0, 1));
	commit(&c, 0, 0, EVERING_COMMITTED);
	EXPECT_EQ(0, do_wake(c.fd[0]));
	EXPECT_EQ(0, poll_now(c.fd[0]) & (POLLIN | POLLHUP));

	waiter.fd = poller.fd = c.fd[0];
	waiter.enter = wait_args(0, 1, LONG_MS);
	ASSERT_TRUE(sleeper_start(&waiter, sleep_in_enter, SYS_ioctl));
	ASSERT_TRUE(sleeper_start(&poller, sleep_in_poll, SYS_poll));
	start = now_ns();
	kill(pid, SIGKILL);
	took = sleeper_join(&waiter, start);
	EXPECT_GT(PROMPT_NS, took);
	EXPECT_GT(PROMPT_NS, sleeper_join(&poller, start));
	TH_LOG("known after %llu us", (unsigned long long)took / 1000);
	EXPECT_EQ(-EPIPE, waiter.result);
	EXPECT_EQ(POLLHUP | POLLRDHUP | POLLIN, poller.events);
	EXPECT_EQ(EVERING_STATE_DEAD, state_of(&c, 0, 1));
	EXPECT_EQ(-EPIPE, do_wait(fd, 0, 1, LONG_MS));
	EXPECT_EQ(-EPIPE, do_wake(c.fd[0]));
	EXPECT_EQ(-SIGKILL, reap(pid));
	EXPECT_EQ(0, call(fd, EVERING_IOC_PEER, &peer));
	EXPECT_EQ(EVERING_STATE_DEAD, peer.state);
	EXPECT_EQ(pid, peer.pid);

	EXPECT_EQ(-ECONNREFUSED, device_call(EVERING_IOC_CONNECT, &args));
	service = do_listen(_metadata->name);
	EXPECT_LE(0, service);
	close(service);
	close(fd);
	close(c.fd[0]);
	munmap(c.map[0][0], c.layout.section_size[0]);
	munmap(c.map[0][1], c.layout.section_size[1]);
	munmap(c.map[0][2], c.layout.section_size[2]);
	EXPECT_TRUE(counters_return(&before));
}

/* An accepted client has its own peer; the name is not its life. */
TEST(service_closed_after_accept_is_no_death)
{
	struct channel c;

	ASSERT_EQ(0, channel_open(&c, _metadata->name));
	close(c.service);
	sleep_ms(20);
	EXPECT_EQ(EVERING_STATE_OPEN, state_of(&c, 0, 1));
	EXPECT_EQ(EVERING_STATE_OPEN, state_of(&c, 1, 0));
	EXPECT_EQ(0, do_wake(c.fd[0]));
	EXPECT_EQ(0, do_wake(c.fd[1]));
	EXPECT_EQ(-ETIME, do_wait(c.fd[0], 0, 1, 20));
}

/* ------------------------------------------------------ descriptors in flight */

/* A child connects, perhaps maps, sends us the descriptor, and dies. */
static pid_t sender(const char *name, bool map, int *sock, int *flight)
{
	int pair[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return -1;
	pid = fork_talking(sock);
	if (!pid) {
		struct evering_connect args = connect_args(name);
		struct channel c = { 0 };

		c.fd[0] = device_call(EVERING_IOC_CONNECT, &args);
		c.layout = args.layout;
		if (c.fd[0] < 0 || (map && map_side(&c, 0)) ||
		    send_fd(pair[1], c.fd[0]))
			_exit(1);
		tell(*sock, 0);
		hear(*sock);
		_exit(0);
	}
	close(pair[1]);
	*flight = pair[0];
	return pid;
}

/* Our side of that, mapped; 0 or a number to search for. */
static int flight_start(struct channel *c, const char *name, bool map,
			int *flight, pid_t *pid)
{
	struct evering_accept accepted;
	int sock;

	c->service = do_listen(name);
	if (c->service < 0)
		return 1;
	*pid = sender(name, map, &sock, flight);
	if (*pid < 0 || hear(sock))
		return 2;
	c->fd[1] = do_accept(c->service, &accepted);
	if (c->fd[1] < 0)
		return 3;
	c->layout = accepted.layout;
	return map_side(c, 1) ? 4 : 0;
}

/* Nobody's, but it may become somebody's. */
TEST(a_descriptor_in_flight_is_alive)
{
	struct channel c;
	struct sleeper s = { 0 };
	uint64_t start, took;
	int flight;
	pid_t pid;

	ASSERT_EQ(0, flight_start(&c, _metadata->name, false, &flight, &pid));
	kill(pid, SIGKILL);
	EXPECT_EQ(-SIGKILL, reap(pid));
	EXPECT_EQ(EVERING_STATE_OPEN, state_of(&c, 1, 0));
	EXPECT_EQ(0, poll_now(c.fd[1]) & (POLLIN | POLLHUP | POLLRDHUP));
	EXPECT_EQ(0, do_wake(c.fd[1]));
	EXPECT_EQ(-ETIME, do_wait(c.fd[1], 0, 1, 100));

	s.fd = c.fd[1];
	s.enter = wait_args(0, 1, LONG_MS);
	ASSERT_TRUE(sleeper_start(&s, sleep_in_enter, SYS_ioctl));
	start = now_ns();
	close(flight);
	took = sleeper_join(&s, start);
	TH_LOG("known after %llu us", (unsigned long long)took / 1000);
	EXPECT_GT(PROMPT_NS, took);
	EXPECT_EQ(-EPIPE, s.result);
	EXPECT_EQ(EVERING_STATE_DEAD, state_of(&c, 1, 0));
}

TEST(who_receives_a_descriptor_of_the_dead_goes_on)
{
	struct channel c;
	int flight;
	pid_t pid;

	ASSERT_EQ(0, flight_start(&c, _metadata->name, false, &flight, &pid));
	kill(pid, SIGKILL);
	EXPECT_EQ(-SIGKILL, reap(pid));
	c.fd[0] = recv_fd(flight);
	ASSERT_LE(0, c.fd[0]);
	close(flight);
	ASSERT_EQ(0, map_side(&c, 0));
	EXPECT_EQ(EVERING_STATE_OPEN, state_of(&c, 1, 0));
	commit(&c, 0, 0, EVERING_COMMITTED);
	EXPECT_EQ(0, do_wake(c.fd[0]));
	EXPECT_EQ(EVERING_READY_ENTRIES, do_wait(c.fd[1], 0, 1, 0));
	EXPECT_EQ(0, munmap(c.map[0][OWN(0)], c.layout.section_size[OWN(0)]));
	EXPECT_EQ(-EPIPE, do_wait(c.fd[1], 1, 1, LONG_MS));
}

/* Mapped, it was the sender's, and is nobody else's now. */
TEST(a_mapped_one_in_flight_dies_with_its_sender)
{
	struct channel c;
	int flight;
	pid_t pid;

	ASSERT_EQ(0, flight_start(&c, _metadata->name, true, &flight, &pid));
	EXPECT_EQ(EVERING_STATE_OPEN, state_of(&c, 1, 0));
	kill(pid, SIGKILL);
	EXPECT_EQ(-SIGKILL, reap(pid));
	EXPECT_EQ(EVERING_STATE_DEAD, state_of(&c, 1, 0));
	EXPECT_EQ(-EPIPE, do_wait(c.fd[1], 0, 1, LONG_MS));
	c.fd[0] = recv_fd(flight);
	ASSERT_LE(0, c.fd[0]);
	EXPECT_EQ(-EBADFD, map_side(&c, 0));
	EXPECT_EQ(-EBADFD, do_wake(c.fd[0]));
}

TEST_HARNESS_MAIN
