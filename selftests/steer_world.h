/* SPDX-License-Identifier: MIT */
/*
 * A small world for the steering tests: a network namespace with the clients and a stand-in proxy, another one with an
 * origin behind a veth, and a child cgroup with clients and proxy. The proxy answers each connection with a line
 * "steered DST PORT pid=.. comm=.. exe=.. uid=.. if=..", the origin with "direct SOURCE": a client sees who served it.
 */
#pragma once

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "peers.h"
#include "steer/cgroup.h"
#include "steer/processes.h"
#include "steer/steer.h"
#include "steer/steer_guard.h"
#include "steer/steer_list.h"
#include "tap.h"

#define ORIGIN4 "10.77.0.2"
#define ORIGIN6 "fd77::2"
#define CLIENT4 "10.77.0.1"
#define CLIENT6 "fd77::1"
#define ORIGIN_PORT 8080
#define ORIGIN_PORTS 8               /* 8080 and the next ones */
#define LOOPBACK_PORT 8090           /* an origin on loopback beside the clients */

struct world {
	char cgroup[PATH_MAX];
	pid_t origin, local_origin, proxy;
	int command, answer;         /* pipes to and from the proxy */
};

static int listen_on(int family, const char *ip, uint16_t port)
{
	struct sockaddr_storage a = { .ss_family = (sa_family_t)family };
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

	if (family == AF_INET) {
		((struct sockaddr_in *)&a)->sin_port = htons(port);
		inet_pton(family, ip, &((struct sockaddr_in *)&a)->sin_addr);
	} else {
		((struct sockaddr_in6 *)&a)->sin6_port = htons(port);
		inet_pton(family, ip, &((struct sockaddr_in6 *)&a)->sin6_addr);
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
	}
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, 1024) < 0)
		die("cannot listen on %s %d: %s", ip, port, strerror(errno));
	return fd;
}

static uint16_t port_of(int fd)
{
	struct sockaddr_storage a;
	socklen_t len = sizeof(a);

	getsockname(fd, (struct sockaddr *)&a, &len);
	return ntohs(((struct sockaddr_in *)&a)->sin_port);
}

static void answer_and_close(int fd, const char *line)
{
	if (send(fd, line, strlen(line), MSG_NOSIGNAL) < 0)
		fprintf(stderr, "# answer: %s\n", strerror(errno));
	shutdown(fd, SHUT_WR);
	close(fd);
}

/* Says "direct SOURCE" to everybody. */
static _Noreturn void serve_direct(const int *listeners, int count)
{
	struct pollfd fds[ORIGIN_PORTS * 2];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (int i = 0; i < count; i++)
		fds[i] = (struct pollfd){ .fd = listeners[i], .events = POLLIN };
	for (;;) {
		poll(fds, (nfds_t)count, -1);
		for (int i = 0; i < count; i++) {
			struct sockaddr_storage peer;
			socklen_t len = sizeof(peer);
			char text[96], line[128];
			int fd;

			if (!(fds[i].revents & POLLIN))
				continue;
			fd = accept4(listeners[i], (struct sockaddr *)&peer, &len, SOCK_CLOEXEC);
			if (fd < 0)
				continue;
			snprintf(line, sizeof(line), "direct %s\n", address_text(&peer, text, sizeof(text)));
			answer_and_close(fd, line);
		}
	}
}

static void serve_steered(struct steer *s, int listener)
{
	struct sockaddr_storage peer;
	socklen_t len = sizeof(peer);
	struct steer_origin origin;
	char line[LINE_MAX_LEN], text[96];
	int fd = accept4(listener, (struct sockaddr *)&peer, &len, SOCK_CLOEXEC);

	if (fd < 0)
		return;
	if (steer_take_origin(s, 0, (struct sockaddr *)&peer, &origin))
		snprintf(line, sizeof(line), "steered %s pid=%u comm=%s exe=%s uid=%u if=%u\n",
			 address_text(&origin.dst, text, sizeof(text)), origin.pid, origin.comm, origin.exe, origin.uid,
			 origin.bound_if);
	else
		snprintf(line, sizeof(line), "unknown\n");
	answer_and_close(fd, line);
}

static uint64_t stat_of(struct steer *s, const char *name)
{
	struct steer_stat stats[STEER_REASONS];

	steer_stats(s, stats);
	for (int i = 0; i < STEER_REASONS; i++)
		if (strcmp(stats[i].name, name) == 0)
			return stats[i].count;
	die("no counter %s", name);
}

/* A connection of the proxy itself, or of a child of it: who answers? */
static void proxy_connects(char *line)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(ORIGIN_PORT) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct timeval limit = { .tv_sec = 1 };         /* connected to itself, it would wait for itself */
	ssize_t len = -1;

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	inet_pton(AF_INET, ORIGIN4, &to.sin_addr);
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0)
		len = read(fd, line, LINE_MAX_LEN - 1);
	if (len <= 0)
		len = snprintf(line, LINE_MAX_LEN, "nothing\n");
	line[len] = 0;
	close(fd);
}

static void child_connects(char *line)
{
	int result[2];
	ssize_t len;

	if (pipe(result) < 0)
		die("pipe");
	if (fork() == 0) {
		proxy_connects(line);
		_exit(write(result[1], line, strlen(line)) < 0);
	}
	len = read(result[0], line, LINE_MAX_LEN - 1);
	line[len < 0 ? 0 : len] = 0;
	wait(NULL);
	close(result[0]);
	close(result[1]);
}

static uint16_t proxy_ports[2];
static int lan_listener = -1;

/* One of the proxy's other listeners, not on loopback; connections to it are answered like steered ones. */
static unsigned int listen_on_lan(struct steer *s)
{
	struct err e;

	lan_listener = listen_on(AF_INET, CLIENT4, 0);
	if (steer_exclude_port(s, port_of(lan_listener), &e) < 0)
		die("%s", e.text);
	return port_of(lan_listener);
}

static void lease(struct steer *s, int seconds)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	steer_lease(s, seconds ? (uint64_t)(now.tv_sec + seconds) * 1000000000 : 0);
}

/* "10.0.0.0/8 443" */
static int bypass(struct steer *s, const char *text, struct err *e)
{
	struct steer_bypass_key key = { .family = AF_INET };
	unsigned int bits, port;
	char ip[64];

	if (sscanf(text, "%63[^/]/%u %u", ip, &bits, &port) != 3 || inet_pton(AF_INET, ip, key.ip) != 1)
		die("no destination: %s", text);
	key.port = htons((uint16_t)port);
	key.prefix_len = STEER_BYPASS_PREFIX(bits);
	return steer_bypass(s, &key, 1, e);
}

struct verdict_on {
	uint32_t pid;
	const char *text;
};

static bool see_verdict(void *owner, const struct steer_seen *seen)
{
	struct verdict_on *v = owner;

	if (seen->process->pid == v->pid)
		v->text = seen->verdict == STEER_VERDICT_SELECTED ? "steered" : "direct";
	return seen->process->pid < v->pid;
}

static int proxy_command(struct steer *s, char *command, char *answer)
{
	struct verdict_on on = { .text = "nobody" };
	struct intercept_spec *spec;
	struct err e = { 0 };
	int ret = 0;

	if (strncmp(command, "spec ", 5) == 0) {
		ret = intercept_spec_parse(&spec, str_of(command + 5), &e);
		if (ret == 0) {
			ret = steer_set_spec(s, spec, &e);
			intercept_spec_free(spec);
		}
	} else if (strncmp(command, "stat ", 5) == 0) {
		return snprintf(answer, LINE_MAX_LEN, "%llu\n", (unsigned long long)stat_of(s, command + 5));
	} else if (strncmp(command, "verdict ", 8) == 0) {
		on.pid = (uint32_t)atoi(command + 8);
		if (steer_list(s, 0, see_verdict, &on, &e) == 0)
			return snprintf(answer, LINE_MAX_LEN, "%s\n", on.text);
		ret = e.code;
	} else if (strcmp(command, "connect") == 0) {
		proxy_connects(answer);
		return 0;
	} else if (strcmp(command, "child-connect") == 0) {
		child_connects(answer);
		return 0;
	} else if (strcmp(command, "ports") == 0) {
		return snprintf(answer, LINE_MAX_LEN, "%u %u\n", proxy_ports[0], proxy_ports[1]);
	} else if (strcmp(command, "lan") == 0) {
		return snprintf(answer, LINE_MAX_LEN, "%u\n", listen_on_lan(s));
	} else if (strncmp(command, "exclude-tree ", 13) == 0) {
		ret = steer_exclude_tree(s, atoi(command + 13), &e);
	} else if (strncmp(command, "exclude-port ", 13) == 0) {
		ret = steer_exclude_port(s, (uint16_t)atoi(command + 13), &e);
	} else if (strncmp(command, "lease ", 6) == 0) {
		lease(s, atoi(command + 6));
	} else if (strncmp(command, "bypass ", 7) == 0) {
		ret = bypass(s, command + 7, &e);
	} else if (strcmp(command, "no-endpoint") == 0) {
		ret = steer_set_endpoint(s, 0, 0, &e);
	} else if (strcmp(command, "detach") == 0) {
		steer_detach_new(s);
	} else if (strcmp(command, "attach") == 0) {
		ret = steer_attach(s, &e);
	} else if (strcmp(command, "poll") == 0) {
		steer_poll(s);
	} else {
		die("no command %s", command);
	}
	return snprintf(answer, LINE_MAX_LEN, "%.*s\n", ERR_TEXT_MAX, ret == 0 ? "ok" : e.text);
}

static _Noreturn void proxy_main(const struct steer_options *options, int command_fd, int answer_fd)
{
	int l4 = listen_on(AF_INET, "127.0.0.1", 0), l6 = listen_on(AF_INET6, "::1", 0);
	char command[LINE_MAX_LEN], answer[LINE_MAX_LEN];
	struct steer *s = NULL;
	struct err e;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	proxy_ports[0] = port_of(l4);
	proxy_ports[1] = port_of(l6);
	log_init(to_stderr, getenv("DEBUG") ? LOG_DEBUG : LOG_WARN);
	if (steer_open(&s, options, &e) < 0 || steer_set_endpoint(s, port_of(l4), port_of(l6), &e) < 0 ||
	    steer_attach(s, &e) < 0)
		snprintf(answer, sizeof(answer), "%s\n", e.text);
	else
		snprintf(answer, sizeof(answer), "ok\n");
	if (write(answer_fd, answer, strlen(answer)) < 0 || strcmp(answer, "ok\n") != 0)
		_exit(1);
	for (;;) {
		struct pollfd fds[] = {
			{ .fd = command_fd, .events = POLLIN }, { .fd = steer_fd(s), .events = POLLIN },
			{ .fd = l4, .events = POLLIN },         { .fd = l6, .events = POLLIN },
			{ .fd = lan_listener, .events = POLLIN },
		};
		ssize_t len;

		poll(fds, ARRAY_SIZE(fds), -1);
		if (fds[1].revents)
			steer_poll(s);
		if (fds[2].revents)
			serve_steered(s, l4);
		if (fds[3].revents)
			serve_steered(s, l6);
		if (fds[4].revents)
			serve_steered(s, lan_listener);
		if (!fds[0].revents)
			continue;
		len = read(command_fd, command, sizeof(command) - 1);
		if (len <= 0) {
			steer_free(s);
			_exit(0);
		}
		command[len] = 0;
		command[strcspn(command, "\n")] = 0;
		proxy_command(s, command, answer);
		if (write(answer_fd, answer, strlen(answer)) < 0)
			_exit(1);
	}
}

static void enter_cgroup(const struct world *w)
{
	char path[PATH_MAX + 16], pid[16];
	int fd;

	snprintf(path, sizeof(path), "%s/cgroup.procs", w->cgroup);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	snprintf(pid, sizeof(pid), "%d", getpid());
	if (fd < 0 || write(fd, pid, strlen(pid)) < 0)
		die("cannot enter %s: %s", w->cgroup, strerror(errno));
	close(fd);
}

/* Sends a command to the proxy; the answer, without its newline, stays until the next one. */
static __printf(2, 3) const char *proxy_say(struct world *w, const char *fmt, ...)
{
	static char answer[LINE_MAX_LEN];
	char command[LINE_MAX_LEN];
	ssize_t len;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(command, sizeof(command), fmt, ap);
	va_end(ap);
	if (*command && write(w->command, command, strlen(command)) < 0)
		return "gone";
	len = read(w->answer, answer, sizeof(answer) - 1);
	answer[len < 0 ? 0 : len] = 0;
	answer[strcspn(answer, "\n")] = 0;
	return answer;
}

static __unused void proxy_start(struct world *w, bool loopback)
{
	struct steer_options options = { .cgroup = w->cgroup, .loopback = loopback };
	int to[2], from[2];
	const char *answer;

	if (pipe2(to, O_CLOEXEC) < 0 || pipe2(from, O_CLOEXEC) < 0)
		die("pipe");
	w->proxy = fork();
	if (w->proxy == 0) {
		close(to[1]);
		close(from[0]);
		enter_cgroup(w);        /* where only the rule about itself keeps it from being taken */
		proxy_main(&options, to[0], from[1]);
	}
	close(to[0]);
	close(from[1]);
	w->command = to[1];
	w->answer = from[0];
	answer = proxy_say(w, "%s", "");
	if (strcmp(answer, "ok") != 0)
		die("the steering process did not start: %s", answer);
}

static void proxy_stop(struct world *w)
{
	close(w->command);
	close(w->answer);
	if (w->proxy > 0)
		waitpid(w->proxy, NULL, 0);
	w->proxy = 0;
}

static void require(void)
{
	if (geteuid() != 0)
		skip_all("needs root");
	if (system("ip -V >/dev/null 2>&1") != 0)
		skip_all("needs the ip command (package iproute2)");
	if (access("/sys/kernel/btf/vmlinux", R_OK) < 0)
		skip_all("the kernel has no BTF");
}

/* Namespaces, veth, origins, cgroup: no proxy yet. */
static __unused void world_start(struct world *w)
{
	int ready[2], listeners[ORIGIN_PORTS * 2];
	char byte = 0;
	struct err e;
	size_t len;

	require();
	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGPIPE, SIG_IGN);
	*w = (struct world){ 0 };
	if (cgroup_mount(w->cgroup, &e) < 0)
		skip_all("%s", e.text);
	len = strlen(w->cgroup);
	snprintf(w->cgroup + len, sizeof(w->cgroup) - len, "/mitm-selftest-%d", getpid());
	if (mkdir(w->cgroup, 0755) < 0)
		skip_all("cannot create a cgroup: %s", strerror(errno));
	if (unshare(CLONE_NEWNET) < 0)
		skip_all("cannot create a network namespace: %s", strerror(errno));
	if (pipe(ready) < 0)
		die("pipe");
	w->origin = fork();
	if (w->origin == 0) {
		if (unshare(CLONE_NEWNET) < 0 || write(ready[1], &byte, 1) != 1)
			_exit(1);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (int i = 0; i < ORIGIN_PORTS * 2; i++)
			listeners[i] = listen_on(i % 2 ? AF_INET6 : AF_INET, i % 2 ? "::" : "0.0.0.0",
						 (uint16_t)(ORIGIN_PORT + i / 2));
		serve_direct(listeners, ORIGIN_PORTS * 2);
	}
	if (read(ready[0], &byte, 1) != 1)
		die("the origin did not start");
	run("ip link set lo up && ip link add mbA type veth peer name mbB && ip link set mbB netns %d", w->origin);
	run("ip addr add " CLIENT4 "/24 dev mbA && ip -6 addr add " CLIENT6 "/64 dev mbA nodad && ip link set mbA up");
	run("nsenter --net=/proc/%d/ns/net sh -c 'ip link set lo up; ip addr add " ORIGIN4 "/24 dev mbB;"
	    " ip -6 addr add " ORIGIN6 "/64 dev mbB nodad; ip link set mbB up'", w->origin);
	run("ip route add default via " ORIGIN4 " && ip -6 route add default via " ORIGIN6);
	w->local_origin = fork();
	if (w->local_origin == 0) {
		listeners[0] = listen_on(AF_INET, "127.0.0.1", LOOPBACK_PORT);
		listeners[1] = listen_on(AF_INET6, "::1", LOOPBACK_PORT);
		serve_direct(listeners, 2);
	}
	usleep(50000);
}

static __unused void world_stop(struct world *w)
{
	if (w->proxy)
		proxy_stop(w);
	kill(w->origin, SIGKILL);
	kill(w->local_origin, SIGKILL);
	waitpid(w->origin, NULL, 0);
	waitpid(w->local_origin, NULL, 0);
	for (int i = 0; i < 50 && rmdir(w->cgroup) < 0 && errno == EBUSY; i++)
		usleep(20000);
}

/* Connects fd (any options set); 0 or -errno. What comes then, if anything, is in line. */
static int finish(int fd, const struct sockaddr *to, socklen_t to_len, char *line)
{
	struct timeval limit = { .tv_sec = 3 };

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	line[0] = 0;
	if (connect(fd, to, to_len) < 0) {
		struct pollfd p = { .fd = fd, .events = POLLOUT };
		socklen_t size = sizeof(int);
		int error = errno;

		if (error != EINPROGRESS || poll(&p, 1, 3000) != 1)
			return -error;
		getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
		if (error)
			return -error;
		fcntl(fd, F_SETFL, 0);
	}
	(void)read_line(fd, line);
	return 0;
}

/* The simplest client: a fresh blocking socket to ip and port. */
static __unused int ask(const char *ip, uint16_t port, char *line)
{
	struct sockaddr_storage to;
	socklen_t len = address_of(&to, ip, port);
	int fd = socket(to.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0), ret;

	ret = finish(fd, (struct sockaddr *)&to, len, line);
	close(fd);
	return ret;
}

/* A process in the cgroup, named comm, that runs fn; returns its pid. */
static pid_t client_start(struct world *w, const char *comm, bool (*fn)(void *), void *arg)
{
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		enter_cgroup(w);
		prctl(PR_SET_NAME, comm);
		_exit(!fn(arg));
	}
	return pid;
}

static bool client_end(pid_t pid)
{
	int status;

	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* Runs fn in a child that is in the cgroup and named comm; true when it returned true. */
static __unused bool as_client(struct world *w, const char *comm, bool (*fn)(void *), void *arg)
{
	return client_end(client_start(w, comm, fn, arg));
}

/* For as_client(): the origin is asked over IPv4 and the answer has to begin with the argument. */
static __unused bool answers(void *with)
{
	char line[LINE_MAX_LEN];
	int ret = ask(ORIGIN4, ORIGIN_PORT, line);

	if (ret == 0 && starts(line, with))
		return true;
	printf("# wanted \"%s\", got \"%s\" (%s)\n", (char *)with, line, strerror(-ret));
	return false;
}
