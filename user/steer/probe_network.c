/* SPDX-License-Identifier: MIT */
/*
 * Socket options, namespaces, and the proof of it all: a process in the temporary group connects to an address that
 * exists nowhere, in a network namespace of its own, and has to arrive at our listener with that address known.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/route.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "steer/probe_parts.h"
#include "steer/steer.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

#define NOWHERE "192.0.2.1"          /* RFC 5737: documentation */
#define NOWHERE_PORT 9
#define WAIT_MS 2000

static void probe_options(struct probe_list *list)
{
	static const struct probe_advice cookie = {
		true, "network namespace cookie", "connections cannot be told apart by namespace",
		"use Linux 5.15 or newer",
	};
	static const struct probe_advice mark = {
		false, "SO_MARK", "upstream sockets handed to other programs could be intercepted",
		"give the capability CAP_NET_ADMIN",
	};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	uint32_t value = steer_mark();
	uint64_t netns = 0;
	socklen_t len = sizeof(netns);

	if (getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &netns, &len) < 0)
		probe_add(list, &cookie, PROBE_MISSING, "SO_NETNS_COOKIE: %s", strerror(errno));
	else
		probe_add(list, &cookie, PROBE_OK, "this namespace is %llu", (unsigned long long)netns);
	if (setsockopt(fd, SOL_SOCKET, SO_MARK, &value, sizeof(value)) < 0)
		probe_add(list, &mark, PROBE_DEGRADED, "%s", strerror(errno));
	else
		probe_add(list, &mark, PROBE_OK, "mark %#x", value);
	close(fd);
}

/* Runs fn in a child: its exit status, or -1 when it did not end by itself. */
static int in_child(int (*fn)(void *), void *arg)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		_exit(fn(arg));
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

static int enter_first(void *arg)
{
	int fd = open("/proc/1/ns/net", O_RDONLY | O_CLOEXEC);

	(void)arg;
	return fd < 0 || setns(fd, CLONE_NEWNET) < 0 ? errno : 0;
}

/* One of our own, there and back. */
static int enter_own(void *arg)
{
	int fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);

	(void)arg;
	return fd < 0 || unshare(CLONE_NEWNET) < 0 || setns(fd, CLONE_NEWNET) < 0 ? errno : 0;
}

static void probe_namespaces(struct probe_list *list)
{
	static const struct probe_advice enter = {
		false, "entering network namespaces", "containers with a network of their own are not intercepted",
		"give the capabilities CAP_SYS_ADMIN and CAP_SYS_PTRACE",
	};
	int error = in_child(enter_own, NULL), first = in_child(enter_first, NULL);

	if (error)
		probe_add(list, &enter, PROBE_DEGRADED, "setns: %s", strerror(error < 0 ? EINTR : error));
	else if (first)
		probe_add(list, &enter, PROBE_OK, "entered one of our own; that of process 1 not: %s",
			  strerror(first < 0 ? EINTR : first));
	else
		probe_add(list, &enter, PROBE_OK, "entered that of process 1");
}

/* In a fresh namespace: lo up, and everything else said to be behind it. Returns 0 or -errno. */
static int make_network(void)
{
	struct ifreq request = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	char device[] = "lo";
	struct rtentry route = { .rt_flags = RTF_UP, .rt_dev = device };
	int fd, ret = 0;

	if (unshare(CLONE_NEWNET) < 0)
		return -errno;
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	route.rt_dst.sa_family = route.rt_genmask.sa_family = AF_INET;
	if (ioctl(fd, SIOCSIFFLAGS, &request) < 0 || ioctl(fd, SIOCADDRT, &route) < 0)
		ret = -errno;
	close(fd);
	return ret;
}

struct end_to_end {
	const struct probe_context *c;
	int go[2];                   /* to the client: everything is attached */
	int result[2];               /* why it failed */
	pid_t client;
};

static int listen_here(uint16_t *port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, 1) < 0 ||
	    getsockname(fd, (struct sockaddr *)&a, &len) < 0)
		return -errno;
	*port = ntohs(a.sin_port);
	return fd;
}

static int await(struct steer *s, int listener, pid_t client, struct err *e)
{
	struct pollfd ready = { .fd = listener, .events = POLLIN };
	struct sockaddr_storage peer;
	socklen_t len = sizeof(peer);
	struct steer_origin origin;
	const struct sockaddr_in *dst = (const struct sockaddr_in *)&origin.dst;
	struct in_addr nowhere;

	if (poll(&ready, 1, WAIT_MS) != 1)
		return err_set(e, -ETIMEDOUT, "the connection did not arrive");
	if (accept4(listener, (struct sockaddr *)&peer, &len, SOCK_CLOEXEC) < 0)
		return err_set(e, -errno, "accept: %m");
	if (!steer_take_origin(s, 0, (struct sockaddr *)&peer, &origin))
		return err_set(e, -ENOENT, "it arrived, but without its original destination");
	inet_pton(AF_INET, NOWHERE, &nowhere);
	if (dst->sin_family != AF_INET || dst->sin_addr.s_addr != nowhere.s_addr ||
	    dst->sin_port != htons(NOWHERE_PORT))
		return err_set(e, -EINVAL, "it arrived with a wrong original destination");
	if (!steer_pids_are_private(s) && origin.pid != (uint32_t)client)
		return err_set(e, -EINVAL, "it arrived with process %u instead of %d", origin.pid, client);
	return 0;
}

/* The spec selects everything, which in the temporary group is the client alone. */
static int set_up(struct steer *s, uint16_t port, struct err *e)
{
	struct intercept_spec *spec;
	int ret;

	ret = intercept_spec_parse(&spec, STR("!nobody-is-called-this"), e);
	if (ret < 0)
		return ret;
	ret = steer_set_endpoint(s, port, 0, e);
	if (ret == 0)
		ret = steer_set_spec(s, spec, e);
	if (ret == 0)
		ret = steer_attach(s, e);
	intercept_spec_free(spec);
	return ret;
}

static int steer_side(const struct end_to_end *t, struct err *e)
{
	char link[64], path[PATH_MAX] = "";
	struct steer_options options = { .cgroup = path };
	struct steer *s = NULL;
	uint16_t port = 0;
	int listener, ret;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", t->c->child_fd);
	if (readlink(link, path, sizeof(path) - 1) < 0)
		return err_set(e, -errno, "the temporary group has no path: %m");
	listener = listen_here(&port);
	if (listener < 0)
		return err_set(e, listener, "no listener: %s", strerror(-listener));
	ret = steer_open(&s, &options, e);
	if (ret == 0)
		ret = set_up(s, port, e);
	if (ret == 0 && write(t->go[1], "g", 1) != 1)
		ret = err_set(e, -errno, "the client is gone: %m");
	if (ret == 0)
		ret = await(s, listener, t->client, e);
	steer_free(s);
	close(listener);
	return ret;
}

static _Noreturn void client_side(const struct end_to_end *t)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(NOWHERE_PORT) };
	char byte;
	int fd;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	fd = openat(t->c->child_fd, "cgroup.procs", O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, "0", 1) != 1 || read(t->go[0], &byte, 1) != 1)
		_exit(1);
	inet_pton(AF_INET, NOWHERE, &to.sin_addr);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	_exit(connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0);
}

static int run_steer_side(void *arg)
{
	struct end_to_end *t = arg;
	struct err e = { .text = "" };

	if (steer_side(t, &e) == 0)
		return 0;
	return write(t->result[1], e.text, strlen(e.text)) < 0 ? 2 : 1;
}

/* In a child, for the namespace is for good. The client is not the steering process's child: those are exempt. */
static int direct(void *arg)
{
	struct end_to_end *t = arg;
	int ret = make_network();
	char text[128];

	if (ret < 0) {
		snprintf(text, sizeof(text), "no network namespace to try it in: %s", strerror(-ret));
		return write(t->result[1], text, strlen(text)) < 0 ? 2 : 1;
	}
	t->client = fork();
	if (t->client == 0)
		client_side(t);
	ret = t->client < 0 ? 3 : in_child(run_steer_side, t);
	if (t->client > 0) {
		kill(t->client, SIGKILL);
		waitpid(t->client, NULL, 0);
	}
	return ret;
}

static void probe_end_to_end(struct probe_list *list, const struct probe_context *c)
{
	static const struct probe_advice end = {
		true, "end to end", "everything above is theory", "see the first line above that is not ok",
	};
	static const struct probe_advice untried = {
		false, "end to end", "it was not tried", "make the cgroup tree writable for doctor",
	};
	struct end_to_end t = { .c = c };
	char text[PROBE_DETAIL_MAX] = "";
	int ret;

	if (c->child_fd < 0) {
		probe_add(list, &untried, PROBE_DEGRADED, "no temporary group");
		return;
	}
	if (pipe2(t.go, O_CLOEXEC) < 0)
		return probe_add(list, &end, PROBE_MISSING, "%s", strerror(errno));
	if (pipe2(t.result, O_CLOEXEC) < 0) {
		close(t.go[0]);
		close(t.go[1]);
		return probe_add(list, &end, PROBE_MISSING, "%s", strerror(errno));
	}
	ret = in_child(direct, &t);
	close(t.result[1]);
	if (ret == 0)
		probe_add(list, &end, PROBE_OK, "a connection to " NOWHERE ":%d was steered, with its origin",
			  NOWHERE_PORT);
	else if (read(t.result[0], text, sizeof(text) - 1) > 0)
		probe_add(list, &end, PROBE_MISSING, "%s", text);
	else
		probe_add(list, &end, PROBE_MISSING, "the try ended with %d", ret);
	close(t.result[0]);
	close(t.go[0]);
	close(t.go[1]);
}

void probe_network(struct probe_list *list, const struct probe_context *c)
{
	probe_options(list);
	probe_namespaces(list);
	probe_end_to_end(list, c);
}
