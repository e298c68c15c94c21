/* SPDX-License-Identifier: MIT */
/* Who it is that connects, when it is not the thread that a program began with: io_uring's ways, and other threads. */
#include <liburing.h>
#include <pthread.h>

#include "steer_world.h"

#define THREADS 8
#define CONNECTIONS 1250             /* of each thread */
#define STEERED4 "steered " ORIGIN4 " 8080 "
#define STEERED6 "steered " ORIGIN6 " 8080 "

/* --- io_uring --------------------------------------------------------------------------------------------------- */

struct ring_dial {
	const char *name, *ip, *want;
	unsigned int setup, flags;           /* of the ring, of the request */
};

static struct io_uring_cqe *submit(struct io_uring *ring)
{
	struct __kernel_timespec limit = { .tv_sec = 20 };
	struct io_uring_cqe *cqe = NULL;

	io_uring_submit(ring);
	return io_uring_wait_cqe_timeout(ring, &cqe, &limit) < 0 ? NULL : cqe;
}

/* Connects and reads by the ring alone; 0 or -errno. */
static int ring_ask(struct io_uring *ring, const struct ring_dial *d, int fd, char *line)
{
	struct sockaddr_storage to;
	socklen_t len = address_of(&to, d->ip, ORIGIN_PORT);
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
	struct io_uring_cqe *cqe;
	int ret = -ETIME;

	io_uring_prep_connect(sqe, fd, (struct sockaddr *)&to, len);
	sqe->flags |= (__u8)d->flags;
	cqe = submit(ring);
	if (cqe)
		ret = cqe->res;
	if (ret < 0)
		return ret;
	io_uring_cqe_seen(ring, cqe);
	sqe = io_uring_get_sqe(ring);
	io_uring_prep_recv(sqe, fd, line, LINE_MAX_LEN - 1, MSG_WAITALL);
	sqe->flags |= (__u8)d->flags;
	cqe = submit(ring);
	ret = cqe ? cqe->res : -ETIME;
	if (cqe)
		io_uring_cqe_seen(ring, cqe);
	line[MAX(ret, 0)] = 0;
	return MIN(ret, 0);
}

static bool ring_dials(void *arg)
{
	const struct ring_dial *d = arg;
	struct sockaddr_storage to, peer;
	socklen_t len = address_of(&to, d->ip, ORIGIN_PORT), peer_len = sizeof(peer);
	char line[LINE_MAX_LEN] = "", pid[32];
	int fd = socket(to.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0), ret;
	struct io_uring ring;

	ret = io_uring_queue_init(4, &ring, d->setup);
	if (ret == 0)
		ret = ring_ask(&ring, d, fd, line);
	snprintf(pid, sizeof(pid), " pid=%d ", getpid());
	if (ret < 0 || !starts(line, d->want) || (starts(line, "steered") && !strstr(line, pid))) {
		printf("# %s: %s, \"%s\", my pid is %d\n", d->name, strerror(-ret), line, getpid());
		return false;
	}
	return getpeername(fd, (struct sockaddr *)&peer, &peer_len) == 0 && memcmp(&peer, &to, len) == 0;
}

static const char *no_ring(unsigned int setup)
{
	struct io_uring ring;
	int ret = io_uring_queue_init(4, &ring, setup);

	if (ret == 0)
		io_uring_queue_exit(&ring);
	return ret < 0 ? strerror(-ret) : NULL;
}

static void test_rings(struct world *w)
{
	static struct ring_dial dials[] = {
		{ "io_uring at once, IPv4", ORIGIN4, STEERED4, 0, 0 },
		{ "io_uring at once, IPv6", ORIGIN6, STEERED6, 0, 0 },
		{ "io_uring by its workers (IOSQE_ASYNC), IPv4", ORIGIN4, STEERED4, 0, IOSQE_ASYNC },
		{ "io_uring by its workers (IOSQE_ASYNC), IPv6", ORIGIN6, STEERED6, 0, IOSQE_ASYNC },
		{ "io_uring by the kernel's thread (SQPOLL), IPv4", ORIGIN4, STEERED4, IORING_SETUP_SQPOLL, 0 },
		{ "io_uring by the kernel's thread (SQPOLL), IPv6", ORIGIN6, STEERED6, IORING_SETUP_SQPOLL, 0 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(dials); i++) {
		struct ring_dial direct = dials[i];
		const char *missing = no_ring(dials[i].setup);

		direct.want = "direct ";
		if (missing) {
			ok(true, "%s # SKIP no such ring can be made: %s", dials[i].name, missing);
			continue;
		}
		ok(as_client(w, "mbclient", ring_dials, &dials[i]), "%s: taken, as the process that it is",
		   dials[i].name);
		ok(as_client(w, "bystander", ring_dials, &direct), "%s: direct, of one that is not selected",
		   dials[i].name);
	}
}

/* --- threads ---------------------------------------------------------------------------------------------------- */

struct asker {
	const char *comm, *want;
	unsigned int times, wrong;
};

static void *ask_often(void *arg)
{
	struct asker *a = arg;
	const struct linger reset = { .l_onoff = 1 };

	prctl(PR_SET_NAME, a->comm);
	for (unsigned int i = 0; i < a->times; i++) {
		uint16_t port = (uint16_t)(ORIGIN_PORT + (i + (unsigned int)gettid()) % ORIGIN_PORTS);
		const char *ip = i % 3 ? ORIGIN4 : ORIGIN6;
		char line[LINE_MAX_LEN], want[96];
		struct sockaddr_storage to;
		socklen_t len = address_of(&to, ip, port);
		int fd = socket(to.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

		setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
		snprintf(want, sizeof(want), "steered %s %u pid=%d ", ip, port, getpid());
		if (finish(fd, (struct sockaddr *)&to, len, line) < 0 || !starts(line, a->want ? a->want : want))
			a->wrong++;
		close(fd);
	}
	return NULL;
}

/* By a thread that has a name of its own, as browsers and Java programs have them. */
static bool asks_by_thread(void *arg)
{
	struct asker *a = arg;
	pthread_t thread;

	if (pthread_create(&thread, NULL, ask_often, a) != 0)
		return false;
	pthread_join(thread, NULL);
	return a->wrong == 0;
}

static bool asks_by_threads(void *arg)
{
	struct asker askers[THREADS];
	pthread_t threads[THREADS];
	unsigned int wrong = 0;

	for (int i = 0; i < THREADS; i++) {
		askers[i] = *(struct asker *)arg;
		if (pthread_create(&threads[i], NULL, ask_often, &askers[i]) != 0)
			return false;
	}
	for (int i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		wrong += askers[i].wrong;
	}
	if (wrong)
		printf("# %u of %u wrong\n", wrong, THREADS * askers[0].times);
	return wrong == 0;
}

static void test_threads(struct world *w)
{
	struct asker named = { .comm = "Socket Thread", .times = 1 };
	struct asker marked = { .comm = "mbclient-thread", .times = 1 };
	struct asker other = { .comm = "Socket Thread", .want = "direct ", .times = 1 };
	struct asker many = { .comm = "pool-1-thread-1", .times = CONNECTIONS };

	ok(as_client(w, "mbclient", asks_by_thread, &named), "a thread with another name is its program's");
	ok(as_client(w, "bystander", asks_by_thread, &marked), "a thread's own name counts, too");
	ok(as_client(w, "bystander", asks_by_thread, &other), "a thread of a program that is not selected goes direct");
	ok(as_client(w, "mbclient", asks_by_threads, &many), "%d connections of %d threads: each has its own origin",
	   THREADS * CONNECTIONS, THREADS);
	ok(atoi(proxy_say(w, "stat connection-lost")) == 0, "none was lost on the way");
}

int main(void)
{
	struct world w;

	world_start(&w);
	proxy_start(&w, false);
	ok(strcmp(proxy_say(&w, "spec mbclient"), "ok") == 0, "a spec is accepted");
	test_rings(&w);
	test_threads(&w);
	world_stop(&w);
	return tap_end();
}
