/* SPDX-License-Identifier: MIT */
/*
 * Several threads take sockets of several network namespaces while they come and go. With the privilege to make maps
 * and namespaces; skipped without. Meant for SAN=thread as well.
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "steer/namespaces.h"
#include "steer/netns.h"

#define PLACES  6
#define THREADS 4
#define SOCKETS 300                  /* of each thread */
#define MARK    0x1234u

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

/* What stands in for the program: one socket that listens in each namespace. */
struct desk {
	struct namespaces *n;
	uint64_t known[PLACES];
	uint32_t opened, closed;
	atomic_uint listening;
	bool refuse;                     /* opened() fails */
};

static int maps[4];

static int on_open(void *owner, struct steer_endpoint *ep, void **sockets, struct err *e)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(at);
	struct desk *d = owner;
	int *fd;

	if (ep->tcp4)
		return 0;
	fd = malloc(sizeof(*fd));
	*fd = socket(AF_INET, SOCK_STREAM, 0);
	if (bind(*fd, (struct sockaddr *)&at, sizeof(at)) < 0 || listen(*fd, 8) < 0 ||
	    getsockname(*fd, (struct sockaddr *)&at, &len) < 0)
		return err_set(e, -errno, "cannot listen: %m");
	ep->tcp4 = at.sin_port;
	*sockets = fd;
	atomic_fetch_add(&d->listening, 1);
	return 0;
}

static void on_drop(void *owner, void *sockets)
{
	struct desk *d = owner;

	close(*(int *)sockets);
	free(sockets);
	atomic_fetch_sub(&d->listening, 1);
}

static int on_opened(void *owner, uint64_t netns, void *sockets, struct err *e)
{
	struct desk *d = owner;

	on_drop(owner, sockets);
	if (d->refuse)
		return err_set(e, -ESHUTDOWN, "no");
	if (d->opened < PLACES)
		d->known[d->opened] = netns;
	d->opened++;
	return 0;
}

static void on_closed(void *owner, uint64_t netns __unused)
{
	((struct desk *)owner)->closed++;
}

/* A process in a namespace of its own, whose loopback interface is up. */
static pid_t live_elsewhere(void)
{
	int ready[2];
	char byte = 0;
	pid_t pid;

	assert_int_equal(pipe(ready), 0);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (unshare(CLONE_NEWNET) < 0 || system("ip link set lo up") != 0 || write(ready[1], &byte, 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	return pid;
}

static void leave(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void poll_until(struct desk *d, const uint32_t *count, uint32_t wanted)
{
	for (int i = 0; i < 600 && *count < wanted; i++) {
		struct pollfd p = { .fd = namespaces_fd(d->n), .events = POLLIN };

		poll(&p, 1, 100);
		namespaces_poll(d->n);
	}
	assert_int_equal(*count, wanted);
}

static struct desk *start(const struct steer_netns_ops *ops)
{
	struct desk *d = ops->owner;
	const struct namespaces_config config = {
		.ops = ops, .ep_map = maps[0], .route_map = maps[1], .asked_map = maps[2], .events_map = maps[3],
		.mark = MARK,
	};
	struct err e = { 0 };

	if (namespaces_new(&d->n, &config, &e) < 0)
		fail_msg("%s", e.text);
	return d;
}

struct taker {
	pthread_t thread;
	struct desk *desk;
	uint32_t number, wrong;
};

static void *take_many(void *arg)
{
	struct taker *t = arg;

	for (uint32_t i = 0; i < SOCKETS; i++) {
		uint64_t want = t->desk->known[(t->number + i) % PLACES], is = 0;
		socklen_t len = sizeof(is), mark_len = sizeof(uint32_t);
		uint32_t mark = 0;
		int fd = namespaces_socket(t->desk->n, want, i % 3 ? 4 : 6, i % 2);

		if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &is, &len) < 0 || is != want ||
		    getsockopt(fd, SOL_SOCKET, SO_MARK, &mark, &mark_len) < 0 || mark != MARK)
			t->wrong++;
		if (fd >= 0)
			close(fd);
	}
	return NULL;
}

static void test_threads(void **state)
{
	struct desk desk = { 0 };
	const struct steer_netns_ops ops = { &desk, on_open, on_opened, on_closed, on_drop, NULL };
	struct desk *d = start(&ops);
	struct namespace_state now;
	struct taker takers[THREADS];
	pid_t pids[PLACES];

	(void)state;
	for (uint32_t i = 0; i < PLACES; i++) {
		pids[i] = live_elsewhere();
		namespaces_want(d->n, (uint32_t)pids[i]);
		namespaces_want(d->n, (uint32_t)pids[i]);
	}
	namespaces_want(d->n, (uint32_t)getpid());       /* at home: nothing to do */
	poll_until(d, &d->opened, PLACES);
	for (uint32_t i = 0; i < THREADS; i++) {
		takers[i] = (struct taker){ .desk = d, .number = i };
		assert_int_equal(pthread_create(&takers[i].thread, NULL, take_many, &takers[i]), 0);
	}
	for (uint32_t i = 0; i < THREADS; i++) {
		pthread_join(takers[i].thread, NULL);
		assert_int_equal(takers[i].wrong, 0);
	}
	assert_int_equal(namespaces_count(d->n), PLACES);
	assert_true(namespaces_state(d->n, netns_inode_of((uint32_t)pids[0], 0), &now));
	assert_int_equal(now.cookie, d->known[0]);
	assert_true(now.tcp4 != 0 && now.tcp6 == 0 && now.routes > 0);
	assert_false(namespaces_state(d->n, 1, &now));
	/* two leave; who asks for their sockets then is told */
	leave(pids[0]);
	leave(pids[1]);
	poll_until(d, &d->closed, 2);
	assert_int_equal(namespaces_count(d->n), PLACES - 2);
	assert_int_equal(namespaces_socket(d->n, d->known[0], 4, false), -ENETDOWN);
	for (uint32_t i = 2; i < PLACES; i++)
		leave(pids[i]);
	namespaces_free(d->n);
	assert_int_equal(atomic_load(&d->listening), 0);
}

/* What nobody serves is let go; what nobody was told of is dropped at the end. */
static void test_refused(void **state)
{
	struct desk desk = { .refuse = true };
	const struct steer_netns_ops ops = { &desk, on_open, on_opened, on_closed, on_drop, NULL };
	struct desk *d = start(&ops);
	pid_t pid = live_elsewhere(), gone = live_elsewhere();

	(void)state;
	leave(gone);
	namespaces_want(d->n, (uint32_t)gone);
	namespaces_want(d->n, (uint32_t)pid);
	poll_until(d, &d->closed, 1);
	assert_int_equal(namespaces_count(d->n), 0);
	namespaces_want(d->n, (uint32_t)pid);
	for (int i = 0; i < 600 && !atomic_load(&d->listening); i++)
		usleep(10000);
	assert_int_equal(atomic_load(&d->listening), 1);
	namespaces_free(d->n);
	assert_int_equal(atomic_load(&d->listening), 0);
	leave(pid);
}

static bool make_maps(void)
{
	LIBBPF_OPTS(bpf_map_create_opts, no_prealloc, .map_flags = BPF_F_NO_PREALLOC);

	maps[0] = bpf_map_create(BPF_MAP_TYPE_HASH, "t_ep", sizeof(uint64_t), sizeof(struct steer_endpoint), 64, NULL);
	maps[1] = bpf_map_create(BPF_MAP_TYPE_LPM_TRIE, "t_route", sizeof(struct steer_route_key),
				 sizeof(struct steer_route), 4096, &no_prealloc);
	maps[2] = bpf_map_create(BPF_MAP_TYPE_HASH, "t_asked", sizeof(uint64_t), sizeof(uint64_t), 64, NULL);
	maps[3] = bpf_map_create(BPF_MAP_TYPE_RINGBUF, "t_ev", 0, 0, 4096, NULL);
	return maps[0] >= 0 && maps[1] >= 0 && maps[2] >= 0 && maps[3] >= 0;
}

static bool can_unshare(void)
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(unshare(CLONE_NEWNET) < 0);
	return waitpid(pid, &status, 0) == pid && status == 0;
}

int main(void)
{
	static const struct CMUnitTest tests[] = { cmocka_unit_test(test_threads), cmocka_unit_test(test_refused) };

	if (!can_unshare() || !make_maps()) {
		print_message("# network namespaces and BPF maps are not permitted here\n");
		return 77;
	}
	return cmocka_run_group_tests_name("namespaces", tests, NULL, NULL);
}
