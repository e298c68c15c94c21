/* SPDX-License-Identifier: MIT */
/*
 * Forwarded connections, each in the way that some program makes them: a client in a namespace of its own, behind a
 * veth of the router, whose stand-in proxy answers "taken DST PORT from SRC", and an origin behind another veth, which
 * answers "direct SRC". Both ways of attaching.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io/socket.h"
#include "peers.h"
#include "steer/tc.h"

#define ORIGIN4 "10.77.0.2"
#define ORIGIN6 "fd77::2"
#define CLIENT4 "10.78.0.2"
#define CLIENT6 "fd78::2"
#define PORT 8080
#define THREADS 4
#define EACH 1500
#define WORKERS 3
#define WAIT_S 20

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

/* Answers one connection. fields: of the line, "taken DST PORT from SRC" or "direct SRC". */
static void answer(int listener, bool taken)
{
	struct sockaddr_storage peer, own;
	socklen_t peer_len = sizeof(peer), own_len = sizeof(own);
	char line[LINE_MAX_LEN], a[80], b[80];
	int fd = accept4(listener, (struct sockaddr *)&peer, &peer_len, SOCK_CLOEXEC);

	if (fd < 0)
		return;
	getsockname(fd, (struct sockaddr *)&own, &own_len);
	if (taken)
		snprintf(line, sizeof(line), "taken %s from %s\n", address_text(&own, a, sizeof(a)),
			 address_text(&peer, b, sizeof(b)));
	else
		snprintf(line, sizeof(line), "direct %s\n", address_text(&peer, b, sizeof(b)));
	if (send(fd, line, strlen(line), MSG_NOSIGNAL) < 0)
		fprintf(stderr, "# answer: %s\n", strerror(errno));
	shutdown(fd, SHUT_WR);
	/* Whoever closes first waits (TIME-WAIT): it is we, as often in the real one. */
	while (read(fd, line, sizeof(line)) > 0)
		;
	close(fd);
}

/* --- who is where ----------------------------------------------------------------------------------------------- */

/* A process in a fresh network namespace that says so, then runs fn and stays until it is killed. */
static pid_t in_namespace(void (*fn)(void))
{
	int ready[2];
	char byte = 0;
	pid_t pid;

	if (pipe2(ready, O_CLOEXEC) < 0)
		die("pipe");
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (unshare(CLONE_NEWNET) < 0)
			_exit(1);
		if (system("ip link set lo up") != 0)
			_exit(1);
		if (fn)
			fn();
		if (write(ready[1], &byte, 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	if (read(ready[0], &byte, 1) != 1)
		die("a namespace could not be made");
	close(ready[0]);
	close(ready[1]);
	return pid;
}

static void *serve_origin(void *arg)
{
	for (;;)
		answer((int)(intptr_t)arg, false);
	return NULL;
}

static void origin(void)
{
	const struct addr any[] = { addr_v4(INADDR_ANY, PORT), { .family = 6, .port = PORT } };
	struct err e;
	pthread_t thread;

	for (int i = 0; i < 2; i++) {
		int fd = socket_listen(&any[i], false, &e);

		if (fd < 0)
			_exit(1);
		fcntl(fd, F_SETFL, 0);
		pthread_create(&thread, NULL, serve_origin, (void *)(intptr_t)fd);
	}
}

static pid_t origin_pid, client_pid;

static void make_world(void)
{
	if (unshare(CLONE_NEWNET) < 0) {
		printf("1..0 # SKIP cannot create a network namespace: %s\n", strerror(errno));
		exit(SKIP);
	}
	origin_pid = in_namespace(origin);
	client_pid = in_namespace(NULL);
	run("ip link set lo up; sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
	run("ip link add toO type veth peer name eth netns %d && ip link add toC type veth peer name eth netns %d",
	    origin_pid, client_pid);
	run("ip addr add 10.77.0.1/24 dev toO; ip -6 addr add fd77::1/64 dev toO nodad; ip link set toO up;"
	    "ip addr add 10.78.0.1/24 dev toC; ip -6 addr add fd78::1/64 dev toC nodad; ip link set toC up");
	run("nsenter --net=/proc/%d/ns/net sh -ec 'ip addr add " ORIGIN4 "/24 dev eth; ip -6 addr add " ORIGIN6
	    "/64 dev eth nodad; ip link set eth up; ip route add default via 10.77.0.1;"
	    "ip -6 route add default via fd77::1'", origin_pid);
	run("nsenter --net=/proc/%d/ns/net sh -ec 'ip addr add " CLIENT4 "/24 dev eth; ip -6 addr add " CLIENT6
	    "/64 dev eth nodad; ip link set eth up; ip route add default via 10.78.0.1;"
	    "ip -6 route add default via fd78::1'", client_pid);
}

/* --- the stand-in proxy ----------------------------------------------------------------------------------------- */

static void *serve_taken(void *arg)
{
	for (;;)
		answer((int)(intptr_t)arg, true);
	return NULL;
}

static uint64_t stat_of(struct tc *t, const char *name)
{
	struct tc_stat stats[TC_REASONS];

	tc_stats(t, stats);
	for (int i = 0; i < TC_REASONS; i++)
		if (strcmp(stats[i].name, name) == 0)
			return stats[i].count;
	die("no counter %s", name);
}

static int set_mark(int fd, uint32_t mark)
{
	return setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof(mark));
}

static int take(struct tc *t, const char *spec_text)
{
	const struct addr loopback[] = { addr_v4(INADDR_LOOPBACK, 0), { .family = 6, .ip = { [15] = 1 } } };
	struct tc_spec spec;
	struct err e;
	int slot;

	if (tc_spec_parse(&spec, str_of(spec_text), &e) < 0 || (slot = tc_add(t, &spec, &e)) < 0)
		die("%s", e.text);
	for (uint32_t w = 0; w < WORKERS; w++)
		for (int i = 0; i < 2; i++) {
			pthread_t thread;
			int fd = socket_listen(&loopback[i], false, &e);

			if (fd < 0 || socket_set_transparent(fd) < 0 || set_mark(fd, tc_socket_mark(t)) < 0 ||
			    tc_set_listener(t, slot, w, i ? TC_TCP6 : TC_TCP4, fd, &e) < 0)
				die("no listener");
			fcntl(fd, F_SETFL, 0);
			pthread_create(&thread, NULL, serve_taken, (void *)(intptr_t)fd);
		}
	if (tc_start(t, slot, WORKERS, &e) < 0)
		die("%s", e.text);
	return slot;
}

/* --- clients ---------------------------------------------------------------------------------------------------- */

struct way {
	const char *name;
	int protocol;
	const char *to, *from;               /* from: bound to; NULL: not */
	uint16_t port;                       /* its own; 0: any */
	bool nonblocking, device, fast_open, fast_connect, again;
};

static int connect_so(int fd, const struct way *w, char *line)
{
	struct sockaddr_storage to;
	socklen_t len = address_of(&to, w->to, PORT);
	struct pollfd ready = { .fd = fd, .events = POLLOUT };
	int error = 0;
	socklen_t size = sizeof(error);

	if (w->fast_open)
		return sendto(fd, "x", 1, MSG_FASTOPEN, (struct sockaddr *)&to, len) == 1 ? 0 : -errno;
	if (connect(fd, (struct sockaddr *)&to, len) < 0) {
		if (errno != EINPROGRESS || poll(&ready, 1, WAIT_S * 1000) != 1)
			return -errno;
		getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
		if (error)
			return -error;
		fcntl(fd, F_SETFL, 0);
	}
	if (w->fast_connect && send(fd, "x", 1, MSG_NOSIGNAL) != 1)
		return -errno;
	if (w->again) {
		const struct sockaddr none = { .sa_family = AF_UNSPEC };

		read_line(fd, line);
		if (connect(fd, &none, sizeof(none)) < 0 || connect(fd, (struct sockaddr *)&to, len) < 0)
			return -errno;
	}
	return 0;
}

static _Thread_local unsigned int repeated;  /* packets of the last connection */

/* A connection made that way; 0 and the answer, or -errno. peer: what getpeername says. */
static int make(const struct way *w, char *line, struct sockaddr_storage *peer)
{
	const struct timeval limit = { .tv_sec = WAIT_S };
	bool v6 = strchr(w->to, ':');
	int fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC | (w->nonblocking ? SOCK_NONBLOCK : 0),
			w->protocol), one = 1, ret = 0;
	socklen_t len = sizeof(*peer), info_len = sizeof(struct tcp_info);
	struct tcp_info info;

	line[0] = 0;
	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	if (w->device)
		ret = setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "eth", 4);
	if (w->fast_connect)
		ret = setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &one, sizeof(one));
	if (w->from) {
		struct sockaddr_storage from;
		socklen_t from_len = address_of(&from, w->from, w->port);

		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
		ret = bind(fd, (struct sockaddr *)&from, from_len);
	}
	ret = ret < 0 ? -errno : connect_so(fd, w, line);
	if (ret == 0 && getpeername(fd, (struct sockaddr *)peer, &len) < 0)
		ret = -errno;
	if (ret == 0)
		ret = read_line(fd, line);
	if (ret == 0 && getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &info_len) == 0)
		repeated = info.tcpi_total_retrans;
	close(fd);
	return ret;
}

static const struct way ways[] = {
	{ .name = "IPv4", .to = ORIGIN4 },
	{ .name = "IPv6", .to = ORIGIN6 },
	{ .name = "IPv4 in an IPv6 socket", .to = "::ffff:" ORIGIN4 },
	{ .name = "non-blocking, IPv4", .to = ORIGIN4, .nonblocking = true },
	{ .name = "non-blocking, IPv6", .to = ORIGIN6, .nonblocking = true },
	{ .name = "bound to its address, IPv4", .to = ORIGIN4, .from = CLIENT4 },
	{ .name = "bound to its address, IPv6", .to = ORIGIN6, .from = CLIENT6 },
	{ .name = "bound to a device, IPv4", .to = ORIGIN4, .device = true },
	{ .name = "bound to a device, IPv6", .to = ORIGIN6, .device = true },
	{ .name = "Multipath TCP", .to = ORIGIN4, .protocol = IPPROTO_MPTCP },
	{ .name = "fast open by sendto()", .to = ORIGIN4, .fast_open = true },
	{ .name = "fast open by connect()", .to = ORIGIN6, .fast_connect = true },
	{ .name = "a socket that is used again", .to = ORIGIN4, .again = true },
};

/* The server closed first, so its end is in TIME-WAIT when the same addresses and ports come again. */
static void port_again(void)
{
	const struct way twice[] = { { .to = ORIGIN4, .from = CLIENT4, .port = 4444 },
				     { .to = ORIGIN6, .from = CLIENT6, .port = 4444 } };
	struct sockaddr_storage peer;
	char line[LINE_MAX_LEN];

	for (size_t i = 0; i < ARRAY_SIZE(twice); i++)
		for (int k = 0; k < 3; k++) {
			int ret = make(&twice[i], line, &peer);

			if (!ok(ret == 0 && strncmp(line, "taken", 5) == 0 && repeated == 0,
				"the same port again, to %s: %u packets were repeated", twice[i].to, repeated))
				printf("# got \"%s\" (%s)\n", line, strerror(-ret));
		}
}

static void try_way(const struct way *w)
{
	struct sockaddr_storage peer = { 0 };
	char line[LINE_MAX_LEN], want[LINE_MAX_LEN], says[80];
	const char *ip = starts(w->to, "::ffff:") ? w->to + 7 : w->to;
	int ret = make(w, line, &peer);

	if (ret == -EPROTONOSUPPORT || ret == -ENOPROTOOPT) {
		ok(true, "%s # SKIP %s", w->name, strerror(-ret));
		return;
	}
	snprintf(want, sizeof(want), "taken %s %d from %s ", ip, PORT, strchr(ip, ':') ? CLIENT6 : CLIENT4);
	if (!ok(ret == 0 && starts(line, want), "%s: taken, with its destination and its client", w->name))
		printf("# wanted \"%s\", got \"%s\" (%s)\n", want, line, strerror(-ret));
	snprintf(want, sizeof(want), "%s %d", w->to, PORT);
	if (!ok(strcmp(address_text(&peer, says, sizeof(says)), want) == 0, "%s: getpeername", w->name))
		printf("# wanted \"%s\", got \"%s\"\n", want, says);
}

static void *many(void *arg)
{
	const struct way way = { .to = (intptr_t)arg % 2 ? ORIGIN6 : ORIGIN4 };
	struct sockaddr_storage peer;
	char line[LINE_MAX_LEN];
	intptr_t failed = 0;

	for (int i = 0; i < EACH; i++)
		if (make(&way, line, &peer) != 0 || !starts(line, "taken " ) || !strstr(line, way.to))
			failed++;
	return (void *)failed;
}

static void try_many(void)
{
	pthread_t threads[THREADS];
	intptr_t failed = 0;

	for (intptr_t i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, many, (void *)i);
	for (int i = 0; i < THREADS; i++) {
		void *result;

		pthread_join(threads[i], &result);
		failed += (intptr_t)result;
	}
	ok(failed == 0, "%d connections of %d threads: %d were not taken", THREADS * EACH, THREADS, (int)failed);
}

static void direct(const char *why)
{
	const struct way way = { .to = ORIGIN4 };
	struct sockaddr_storage peer;
	char line[LINE_MAX_LEN];
	int ret = make(&way, line, &peer);

	if (!ok(ret == 0 && starts(line, "direct " CLIENT4), "%s: direct", why))
		printf("# got \"%s\" (%s)\n", line, strerror(-ret));
}

/* Runs fn as the client; its failures count. */
static void as_client(void (*fn)(void))
{
	int status, home, there;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/ns/net", client_pid);
	home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	there = open(path, O_RDONLY | O_CLOEXEC);
	status = setns(there, CLONE_NEWNET);
	if (home < 0 || status < 0)
		die("cannot enter the client's namespace");
	fn();
	if (setns(home, CLONE_NEWNET) < 0)
		die("cannot come back");
	close(home);
	close(there);
}

static void all_ways(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(ways); i++)
		try_way(&ways[i]);
}

/* From a port that a connection of the mode before has just been closed on by us. */
static void same_port_directly(void)
{
	const struct way way = { .to = ORIGIN4, .from = CLIENT4, .port = 4444 };
	struct sockaddr_storage peer;
	char line[LINE_MAX_LEN];
	int ret = make(&way, line, &peer);

	if (!ok(ret == 0 && starts(line, "direct " CLIENT4 " 4444") && repeated == 0,
		"the same port, directly: %u packets were repeated", repeated))
		printf("# got \"%s\" (%s)\n", line, strerror(-ret));
}

static void before(void)
{
	direct("before");
}

static void after(void)
{
	direct("when the mode is stopped");
}

static void try_attached(enum tc_how how, const char *name)
{
	struct tc *t;
	struct err e;
	int slot;

	as_client(before);
	if (tc_open(&t, &(struct tc_options){ .how = how }, &e) < 0)
		die("%s", e.text);
	slot = take(t, "toC");
	printf("# by %s\n", name);
	as_client(all_ways);
	as_client(port_again);
	as_client(try_many);
	/* A SYN to a socket in TIME-WAIT counts as established. */
	ok(stat_of(t, "taken") > EACH && stat_of(t, "taken") + stat_of(t, "established") > THREADS * EACH * 3,
	   "counted: %llu, %llu",
	   (unsigned long long)stat_of(t, "taken"), (unsigned long long)stat_of(t, "established"));
	tc_stop(t, slot);
	as_client(after);
	tc_free(t);
	as_client(same_port_directly);
	as_client(before);
}

int main(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGPIPE, SIG_IGN);
	log_init(to_stderr, getenv("DEBUG") ? LOG_DEBUG : LOG_WARN);
	if (geteuid() != 0)
		skip_all("needs root");
	make_world();
	try_attached(TC_AUTO, "tcx, or what there is");
	try_attached(TC_CLSACT, "clsact");
	run("for f in all toO toC; do sysctl -qw net.ipv4.conf.$f.rp_filter=1; done");
	try_attached(TC_AUTO, "tcx, with strict rp_filter");
	kill(origin_pid, SIGKILL);
	kill(client_pid, SIGKILL);
	return tap_end();
}
