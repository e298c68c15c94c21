/* SPDX-License-Identifier: MIT */
/*
 * UDP of local sockets: every way to send a datagram arrives with its true destination, every answer comes from where
 * it was sent to, and what is not to be taken is not. The stand-in proxy answers each datagram with
 * "steered DST PORT size SEGMENT", the origin with "direct".
 */
#include <netinet/udp.h>
#include <sys/mman.h>

#include "steer/udp_endpoint.h"
#include "steer/udp_ports.h"
#include "steer_world.h"

#ifndef UDP_GRO
#define UDP_GRO 104
#endif
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

#define PORT 53
#define OTHER_PORT 9999              /* not steered */
#define MANY_PROCESSES 2
#define MANY_SOCKETS 10000           /* of each process */
#define MANY_HOSTS 496
#define SEGMENTS 10
#define SEGMENT_BYTES 1200

/* --- the stand-in proxy ------------------------------------------------------------------------------------------ */

static void answer_datagram(struct steer *s, int fd)
{
	static char data[65536], text[96], line[LINE_MAX_LEN];
	char control[256] __attribute__((aligned(8))), back[256] __attribute__((aligned(8))) = { 0 };
	struct sockaddr_storage peer, local = { 0 };
	struct iovec iov = { data, sizeof(data) - 1 };
	struct msghdr msg = { &peer, sizeof(peer), &iov, 1, control, sizeof(control), 0 };
	struct msghdr reply = { .msg_name = &peer, .msg_iov = &iov, .msg_iovlen = 1, .msg_control = back };
	struct steer_origin origin;
	unsigned int ifindex = 0;
	int segment = 0;
	ssize_t len = recvmsg(fd, &msg, 0);

	if (len < 0)
		return;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
		struct in_pktinfo *v4 = (struct in_pktinfo *)(void *)CMSG_DATA(c);
		struct in6_pktinfo *v6 = (struct in6_pktinfo *)(void *)CMSG_DATA(c);
		struct cmsghdr *to = (struct cmsghdr *)(void *)back;

		if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO) {
			memcpy(&segment, CMSG_DATA(c), sizeof(segment));
		} else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
			ifindex = (unsigned int)v4->ipi_ifindex;
			local.ss_family = AF_INET;
			((struct sockaddr_in *)&local)->sin_addr = v4->ipi_addr;
			*to = (struct cmsghdr){ CMSG_LEN(sizeof(*v4)), IPPROTO_IP, IP_PKTINFO };
			*(struct in_pktinfo *)(void *)CMSG_DATA(to) =
				(struct in_pktinfo){ .ipi_spec_dst = v4->ipi_addr };
			reply.msg_controllen = CMSG_SPACE(sizeof(*v4));
		} else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
			ifindex = v6->ipi6_ifindex;
			local.ss_family = AF_INET6;
			((struct sockaddr_in6 *)&local)->sin6_addr = v6->ipi6_addr;
			*to = (struct cmsghdr){ CMSG_LEN(sizeof(*v6)), IPPROTO_IPV6, IPV6_PKTINFO };
			*(struct in6_pktinfo *)(void *)CMSG_DATA(to) = (struct in6_pktinfo){ v6->ipi6_addr, 0 };
			reply.msg_controllen = CMSG_SPACE(sizeof(*v6));
		}
	}
	if (ifindex != if_nametoindex("lo"))
		return;
	if (!steer_find_flow(s, (struct sockaddr *)&local, &origin))
		snprintf(line, sizeof(line), "unknown");
	else
		snprintf(line, sizeof(line), "steered %s %zd %d pid=%u if=%u",
			 address_text(&origin.dst, text, sizeof(text)), len, segment, origin.pid, origin.bound_if);
	iov = (struct iovec){ line, strlen(line) };
	reply.msg_namelen = msg.msg_namelen;
	if (sendmsg(fd, &reply, 0) < 0)
		fprintf(stderr, "# proxy: %s\n", strerror(errno));
}

static _Noreturn void udp_proxy(const struct steer_options *options, int command_fd, int answer_fd)
{
	char command[LINE_MAX_LEN], answer[LINE_MAX_LEN] = "ok\n";
	struct udp_endpoint at = { 0 };
	struct steer *s = NULL;
	int fds[2] = { -1, -1 };
	struct err e = { 0 };
	ssize_t len;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	log_init(to_stderr, getenv("DEBUG") ? LOG_DEBUG : LOG_WARN);
	if (udp_endpoint_open(&at, &e) < 0 || (fds[0] = udp_endpoint_socket(&at, 4, &e)) < 0 ||
	    (fds[1] = udp_endpoint_socket(&at, 6, &e)) < 0 || steer_open(&s, options, &e) < 0 ||
	    steer_set_endpoint(s, 1, 1, &e) < 0 || steer_set_udp_endpoint(s, at.port4, at.port6, &e) < 0 ||
	    steer_attach(s, &e) < 0)
		snprintf(answer, sizeof(answer), "%.*s\n", ERR_TEXT_MAX, e.text);
	if (write(answer_fd, answer, strlen(answer)) < 0 || strcmp(answer, "ok\n") != 0)
		_exit(1);
	for (;;) {
		struct pollfd p[] = { { command_fd, POLLIN, 0 }, { steer_fd(s), POLLIN, 0 },
				      { fds[0], POLLIN, 0 },     { fds[1], POLLIN, 0 } };

		poll(p, ARRAY_SIZE(p), -1);
		if (p[1].revents)
			steer_poll(s);
		for (int i = 0; i < 64; i++) {
			if (p[2].revents)
				answer_datagram(s, fds[0]);
			if (p[3].revents)
				answer_datagram(s, fds[1]);
		}
		if (!p[0].revents)
			continue;
		len = read(command_fd, command, sizeof(command) - 1);
		if (len <= 0) {
			steer_free(s);
			udp_endpoint_close(&at);
			_exit(0);
		}
		command[len] = 0;
		command[strcspn(command, "\n")] = 0;
		proxy_command(s, command, answer);
		if (write(answer_fd, answer, strlen(answer)) < 0)
			_exit(1);
	}
}

static void udp_proxy_start(struct world *w, const char *ports, bool block_quic, bool loopback_dns)
{
	struct udp_ports udp;
	struct steer_options options = { .cgroup = w->cgroup, .udp = &udp, .block_quic = block_quic,
					 .loopback_dns = loopback_dns };
	int to[2], from[2];
	const char *answer;
	struct err e;

	if (udp_ports_parse(&udp, str_of(ports), &e) < 0 || pipe2(to, O_CLOEXEC) < 0 || pipe2(from, O_CLOEXEC) < 0)
		die("%s", "cannot start the steering process");
	w->proxy = fork();
	if (w->proxy == 0) {
		close(to[1]);
		close(from[0]);
		enter_cgroup(w);
		udp_proxy(&options, to[0], from[1]);
	}
	close(to[0]);
	close(from[1]);
	w->command = to[1];
	w->answer = from[0];
	answer = proxy_say(w, "%s", "");
	if (strcmp(answer, "ok") != 0)
		die("the steering process did not start: %s", answer);
	proxy_say(w, "spec !nobody-at-all");
}

/* --- the origin, in its own namespace ----------------------------------------------------------------------------- */

static int udp_bound(int family, const char *ip, uint16_t port)
{
	struct sockaddr_storage at;
	socklen_t len = address_of(&at, ip, port);
	int fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0), one = 1;

	if (family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&at, len) < 0)
		die("cannot bind %s %d: %s", ip, port, strerror(errno));
	return fd;
}

static pid_t origin_start(pid_t in)
{
	int ready[2], ns, fds[4];
	char path[64], byte = 0;
	pid_t pid;

	if (pipe(ready) < 0)
		die("pipe");
	pid = fork();
	if (pid)
		return read(ready[0], &byte, 1) == 1 ? pid : (die("no origin"), 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	snprintf(path, sizeof(path), "/proc/%d/ns/net", in);
	ns = open(path, O_RDONLY);
	if (in && (ns < 0 || setns(ns, CLONE_NEWNET) < 0))
		die("setns: %s", strerror(errno));
	fds[0] = udp_bound(AF_INET, in ? "0.0.0.0" : "127.0.0.1", PORT);
	fds[1] = udp_bound(AF_INET6, in ? "::" : "::1", PORT);
	fds[2] = udp_bound(AF_INET, in ? "0.0.0.0" : "127.0.0.1", OTHER_PORT);
	fds[3] = udp_bound(AF_INET6, in ? "::" : "::1", OTHER_PORT);
	if (write(ready[1], &byte, 1) != 1)
		_exit(1);
	for (;;) {
		struct pollfd p[4];

		for (int i = 0; i < 4; i++)
			p[i] = (struct pollfd){ fds[i], POLLIN, 0 };
		poll(p, 4, -1);
		for (int i = 0; i < 4; i++) {
			struct sockaddr_storage peer;
			socklen_t len = sizeof(peer);
			char data[65536];

			if (p[i].revents &&
			    recvfrom(fds[i], data, sizeof(data), 0, (struct sockaddr *)&peer, &len) >= 0)
				sendto(fds[i], "direct", 6, 0, (struct sockaddr *)&peer, len);
		}
	}
}

/* --- clients ------------------------------------------------------------------------------------------------------ */

struct exchange {
	const char *ip;                      /* "::ffff:a.b.c.d" on a socket of IPv6 */
	uint16_t port;
	bool connects;
	const char *bind;                    /* NULL: not bound */
	const char *device;
	const char *want;                    /* what the answer begins with */
	int error;                           /* of connect() or sendto() */
};

static int udp_socket(int family)
{
	int fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct timeval limit = { .tv_sec = 20 };

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	return fd;
}

static bool is_at(const struct sockaddr_storage *a, const struct sockaddr_storage *b)
{
	char x[96], y[96];

	return strcmp(address_text(a, x, sizeof(x)), address_text(b, y, sizeof(y))) == 0;
}

/* The next answer: who sent it, and what it says. */
static bool hear(int fd, const struct sockaddr_storage *from, const char *want)
{
	struct sockaddr_storage peer = { 0 };
	socklen_t len = sizeof(peer);
	char line[LINE_MAX_LEN] = "", text[96], text2[96];
	ssize_t got = recvfrom(fd, line, sizeof(line) - 1, 0, (struct sockaddr *)&peer, &len);

	if (got >= 0 && starts(line, want) && is_at(&peer, from))
		return true;
	printf("# wanted \"%s\" from %s, got \"%s\" from %s (%s)\n", want, address_text(from, text, sizeof(text)), line,
	       address_text(&peer, text2, sizeof(text2)), got < 0 ? strerror(errno) : "no error");
	return false;
}

/* getpeername and getsockname of a connected socket are those that it would have without us. */
static bool names_fit(int fd, const struct sockaddr_storage *to, const char *source)
{
	struct sockaddr_storage peer, own;
	socklen_t len = sizeof(peer), own_len = sizeof(own);
	char text[96];

	if (getpeername(fd, (struct sockaddr *)&peer, &len) < 0 ||
	    getsockname(fd, (struct sockaddr *)&own, &own_len) < 0)
		return false;
	address_text(&own, text, sizeof(text));
	if (is_at(&peer, to) && (!source || (starts(text, source) && text[strlen(source)] == ' ')))
		return true;
	printf("# own name %s\n", text);
	return false;
}

static bool exchanges(void *arg)
{
	const struct exchange *x = arg;
	struct sockaddr_storage to, own;
	socklen_t len = address_of(&to, x->ip, x->port);
	int fd = udp_socket(to.ss_family), ret;
	bool mapped = starts(x->ip, "::ffff:");
	const char *source = mapped ? "::ffff:" CLIENT4 : to.ss_family == AF_INET ? CLIENT4 : CLIENT6;

	if (x->bind && bind(fd, (struct sockaddr *)&own, address_of(&own, x->bind, 0)) < 0)
		return false;
	if (x->device && setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, x->device, (socklen_t)strlen(x->device)) < 0)
		return false;
	ret = x->connects ? connect(fd, (struct sockaddr *)&to, len) : 0;
	if (ret == 0 && x->connects)
		ret = (int)send(fd, "hello", 5, 0);
	else if (ret == 0)
		ret = (int)sendto(fd, "hello", 5, 0, (struct sockaddr *)&to, len);
	if (x->error)
		return ret < 0 && errno == x->error;
	if (ret < 0) {
		printf("# %s: %s\n", x->ip, strerror(errno));
		return false;
	}
	return hear(fd, &to, x->want) && (!x->connects || starts(x->want, "direct") || names_fit(fd, &to, source));
}

static void test_ways(struct world *w)
{
	static struct exchange cases[] = {
		{ ORIGIN4, PORT, false, NULL, NULL, "steered " ORIGIN4 " 53 5 0 ", 0 },
		{ ORIGIN4, PORT, true, NULL, NULL, "steered " ORIGIN4 " 53 5 0 ", 0 },
		{ ORIGIN6, PORT, false, NULL, NULL, "steered " ORIGIN6 " 53 5 0 ", 0 },
		{ ORIGIN6, PORT, true, NULL, NULL, "steered " ORIGIN6 " 53 5 0 ", 0 },
		{ "::ffff:" ORIGIN4, PORT, false, NULL, NULL, "steered " ORIGIN4 " 53 5 0 ", 0 },
		{ "::ffff:" ORIGIN4, PORT, true, NULL, NULL, "steered " ORIGIN4 " 53 5 0 ", 0 },
		{ ORIGIN4, PORT, false, CLIENT4, NULL, "steered " ORIGIN4, 0 },
		{ ORIGIN4, PORT, true, CLIENT4, NULL, "steered " ORIGIN4, 0 },
		{ ORIGIN6, PORT, false, CLIENT6, NULL, "steered " ORIGIN6, 0 },
		{ ORIGIN6, PORT, true, CLIENT6, NULL, "steered " ORIGIN6, 0 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		ok(as_client(w, "plain", exchanges, &cases[i]), "%s %s, %s%s",
		   cases[i].connects ? "connected to" : "sent to", cases[i].ip,
		   cases[i].bind ? "bound to " : "not bound", cases[i].bind ? cases[i].bind : "");
}

static void test_direct(struct world *w)
{
	static struct exchange device = { ORIGIN4, PORT, false, NULL, "mbA", "direct", 0 };
	static struct exchange device_connected = { ORIGIN4, PORT, true, NULL, "mbA", "direct", 0 };
	static struct exchange port = { ORIGIN4, OTHER_PORT, false, NULL, NULL, "direct", 0 };
	static struct exchange loopback = { "127.0.0.1", PORT, false, NULL, NULL, "direct", 0 };
	static struct exchange plain = { ORIGIN4, PORT, false, NULL, NULL, "direct", 0 };
	static struct exchange unreachable = { "2001:db8::53", PORT, false, NULL, NULL, "", ENETUNREACH };
	static struct exchange connected = { "2001:db8::53", PORT, true, NULL, NULL, "", ENETUNREACH };

	ok(as_client(w, "plain", exchanges, &device), "a socket that is bound to a device sends directly");
	ok(as_client(w, "plain", exchanges, &device_connected), "and so does one that connects");
	ok(atoi(proxy_say(w, "stat direct-udp-bound-device")) == 2, "which is counted");
	ok(as_client(w, "plain", exchanges, &port), "a port that was not asked for");
	ok(atoi(proxy_say(w, "stat direct-udp-port")) >= 1, "is counted");
	ok(as_client(w, "plain", exchanges, &loopback), "loopback is left alone");
	proxy_say(w, "spec taken");
	ok(as_client(w, "plain", exchanges, &plain), "so is who is not selected");
	proxy_say(w, "spec !nobody-at-all");
	run("ip -6 route del default");
	proxy_say(w, "poll");
	ok(as_client(w, "plain", exchanges, &unreachable), "an unreachable network stays unreachable to sendto()");
	ok(as_client(w, "plain", exchanges, &connected), "and to connect()");
	run("ip -6 route add default via " ORIGIN6);
	proxy_say(w, "poll");
}

/* Each answer has to carry the destination that it answers for. */
static bool interleaves(void *arg __unused)
{
	static const char *const ips[] = { ORIGIN4, "192.0.2.7", "198.51.100.9", "203.0.113.250" };
	struct sockaddr_storage to[4];
	int fd = udp_socket(AF_INET);
	bool good = true;
	char want[96];

	for (int i = 0; i < 40 && good; i++) {
		socklen_t len = address_of(&to[i % 4], ips[i % 4], PORT);

		good = sendto(fd, "x", 1, 0, (struct sockaddr *)&to[i % 4], len) == 1;
		if (i % 4 != 3)
			continue;
		for (int k = 0; k < 4 && good; k++) {
			snprintf(want, sizeof(want), "steered %s 53 ", ips[k]);
			good = hear(fd, &to[k], want);
		}
	}
	return good;
}

static bool sends_segments(void *arg)
{
	const char *ip = arg;
	struct sockaddr_storage to;
	socklen_t len = address_of(&to, ip, PORT);
	int fd = udp_socket(to.ss_family), size = SEGMENT_BYTES;
	static char data[SEGMENTS * SEGMENT_BYTES];
	char want[96];

	snprintf(want, sizeof(want), "steered %s 53 %d %d ", ip, SEGMENTS * SEGMENT_BYTES, SEGMENT_BYTES);
	return setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &size, sizeof(size)) == 0 &&
	       sendto(fd, data, sizeof(data), 0, (struct sockaddr *)&to, len) == sizeof(data) && hear(fd, &to, want);
}

static bool names_its_source(void *arg __unused)
{
	char control[64] __attribute__((aligned(8))) = { 0 };
	struct sockaddr_storage to;
	struct iovec iov = { (char *)"x", 1 };
	struct msghdr msg = { &to, address_of(&to, ORIGIN4, PORT), &iov, 1, control,
			      CMSG_SPACE(sizeof(struct in_pktinfo)), 0 };
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
	struct in_pktinfo info = { 0 };
	int fd = udp_socket(AF_INET);

	*c = (struct cmsghdr){ CMSG_LEN(sizeof(info)), IPPROTO_IP, IP_PKTINFO };
	inet_pton(AF_INET, CLIENT4, &info.ipi_spec_dst);
	memcpy(CMSG_DATA(c), &info, sizeof(info));
	return sendmsg(fd, &msg, 0) == 1 && hear(fd, &to, "steered " ORIGIN4);
}

/* What is sent elsewhere from a connected socket is sent; the kernel lets nobody but its peer answer. */
static bool sends_elsewhere(void *arg __unused)
{
	struct sockaddr_storage to, other, unasked;
	socklen_t len = address_of(&to, ORIGIN4, PORT), other_len = address_of(&other, "192.0.2.7", PORT);
	socklen_t unasked_len = address_of(&unasked, "192.0.2.7", OTHER_PORT);
	int fd = udp_socket(AF_INET);

	return connect(fd, (struct sockaddr *)&to, len) == 0 &&
	       sendto(fd, "x", 1, 0, (struct sockaddr *)&other, other_len) == 1 &&
	       sendto(fd, "x", 1, 0, (struct sockaddr *)&unasked, unasked_len) == 1 && send(fd, "x", 1, 0) == 1 &&
	       hear(fd, &to, "steered " ORIGIN4 " 53 ") &&
	       sendto(fd, "x", 1, 0, (struct sockaddr *)&to, len) == 1 && hear(fd, &to, "steered " ORIGIN4 " 53 ") &&
	       recv(fd, &(char){ 0 }, 1, MSG_DONTWAIT) < 0;
}

static bool goes_on(void *arg __unused)
{
	struct sockaddr_storage to;
	socklen_t len = address_of(&to, ORIGIN4, PORT);
	int fd = udp_socket(AF_INET);
	bool good = true;

	for (int i = 0; i < 5000 && good; i++)
		good = sendto(fd, "x", 1, 0, (struct sockaddr *)&to, len) == 1 &&
		       hear(fd, &to, "steered " ORIGIN4 " 53 1 ");
	return good;
}

/* An unconnected socket, and what happens to it when the policy changes. */
static bool follows_policy(void *arg)
{
	struct world *w = arg;
	struct sockaddr_storage to;
	socklen_t len = address_of(&to, ORIGIN4, PORT);
	int fd = udp_socket(AF_INET);
	bool good;

	good = sendto(fd, "x", 1, 0, (struct sockaddr *)&to, len) == 1 && hear(fd, &to, "steered " ORIGIN4);
	proxy_say(w, "spec somebody-else");
	good = good && sendto(fd, "x", 1, 0, (struct sockaddr *)&to, len) == 1 && hear(fd, &to, "direct");
	proxy_say(w, "spec !nobody-at-all");
	return good && sendto(fd, "x", 1, 0, (struct sockaddr *)&to, len) == 1 && hear(fd, &to, "steered " ORIGIN4);
}

/* Datagrams of a socket that is closed at once still have their destination. */
static bool leaves_at_once(void *arg)
{
	struct sockaddr_storage to;
	socklen_t len = address_of(&to, ORIGIN4, PORT);
	int fd = udp_socket(AF_INET);

	(void)arg;
	return sendto(fd, "x", 1, 0, (struct sockaddr *)&to, len) == 1 && close(fd) == 0;
}

/* A socket keeps the address that its first connect() gave it, also when that was our doing. */
static bool connects_twice(void *arg)
{
	const char *first = ((const char **)arg)[0], *second = ((const char **)arg)[1];
	struct sockaddr_storage a, b, c;
	socklen_t len = address_of(&a, first, PORT);
	int fd = udp_socket(a.ss_family);
	char want[96];

	snprintf(want, sizeof(want), "steered %s 53 ", second);
	address_of(&b, second, PORT);
	address_of(&c, second, OTHER_PORT);
	return connect(fd, (struct sockaddr *)&a, len) == 0 && connect(fd, (struct sockaddr *)&b, len) == 0 &&
	       send(fd, "x", 1, 0) == 1 && hear(fd, &b, want) && names_fit(fd, &b, NULL) &&
	       connect(fd, (struct sockaddr *)&c, len) == 0 && send(fd, "x", 1, 0) == 1 && names_fit(fd, &c, NULL);
}

static bool reconnects(void *arg __unused)
{
	struct sockaddr_storage to, none = { .ss_family = AF_UNSPEC };
	int fd = udp_socket(AF_INET);
	bool good = true;

	for (int i = 0; i < 3 && good; i++) {
		const char *ip = i == 1 ? "192.0.2.99" : ORIGIN4;
		socklen_t len = address_of(&to, ip, i == 2 ? OTHER_PORT : PORT);
		char want[96];

		snprintf(want, sizeof(want), i == 2 ? "direct" : "steered %s 53 ", ip);
		good = connect(fd, (struct sockaddr *)&to, len) == 0 && send(fd, "x", 1, 0) == 1 &&
		       hear(fd, &to, want) &&
		       names_fit(fd, &to, i == 2 ? NULL : CLIENT4) &&
		       connect(fd, (struct sockaddr *)&none, sizeof(none)) == 0;
	}
	return good;
}

/* Where the datagrams of a connected socket really go, as the kernel lists it. */
static bool find_virtual(int fd, int family, struct sockaddr_storage *at)
{
	FILE *f = fopen(family == AF_INET ? "/proc/net/udp" : "/proc/net/udp6", "re");
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)at;
	struct sockaddr_in *v4 = (struct sockaddr_in *)at;
	unsigned long inode;
	char line[512], ip[40];
	unsigned int port, word;
	bool found = false;
	struct stat st;

	if (!f || fstat(fd, &st) < 0)
		return false;
	*at = (struct sockaddr_storage){ .ss_family = (sa_family_t)family };
	while (!found && fgets(line, sizeof(line), f))
		found = sscanf(line, "%*s %*s %39[0-9A-F]:%x %*s %*s %*s %*s %*s %*s %lu", ip, &port, &inode) == 3 &&
			inode == st.st_ino;
	fclose(f);
	for (int i = 0; found && i < (family == AF_INET ? 1 : 4); i++) {
		if (sscanf(ip + 8 * i, "%8X", &word) != 1)
			return false;
		memcpy(family == AF_INET ? (char *)&v4->sin_addr : (char *)&v6->sin6_addr + 4 * i, &word, sizeof(word));
	}
	v4->sin_port = htons((uint16_t)port);    /* at the same place in both */
	return found;
}

/* Who writes the address of somebody else's flow by hand would be taken for him. */
static bool steals(void *arg)
{
	const char *ip = arg;
	struct sockaddr_storage to, at;
	socklen_t len = address_of(&to, ip, PORT);
	int fd = udp_socket(to.ss_family), thief = udp_socket(to.ss_family);
	char want[96];
	bool good;

	snprintf(want, sizeof(want), "steered %s 53 ", ip);
	good = connect(fd, (struct sockaddr *)&to, len) == 0 && find_virtual(fd, to.ss_family, &at);
	if (!good)
		printf("# the flow has no address\n");
	for (int i = 0; i < 3 && good; i++) {
		if (i && at.ss_family == AF_INET)        /* one that nobody has */
			((struct sockaddr_in *)&at)->sin_addr.s_addr ^= htonl(1u << (17 + i));
		else if (i)
			((struct sockaddr_in6 *)&at)->sin6_addr.s6_addr[13] ^= (uint8_t)i;
		good = sendto(thief, "x", 1, 0, (struct sockaddr *)&at, len) < 0 && errno == EPERM &&
		       connect(thief, (struct sockaddr *)&at, len) < 0 && errno == EPERM;
		if (!good)
			printf("# try %d\n", i);
	}
	find_virtual(fd, to.ss_family, &at);
	return good && send(fd, "x", 1, 0) == 1 && hear(fd, &to, want) &&
	       sendto(fd, "x", 1, 0, (struct sockaddr *)&at, len) == 1 && hear(fd, &to, want) &&
	       sendto(thief, "x", 1, 0, (struct sockaddr *)&to, len) == 1 && hear(thief, &to, want);
}

static void test_kinds(struct world *w)
{
	ok(as_client(w, "plain", steals, (char *)ORIGIN4), "nobody sends in the name of somebody else's flow");
	ok(as_client(w, "plain", steals, (char *)ORIGIN6), "over IPv6, too");
	ok(as_client(w, "plain", interleaves, NULL), "one socket, four destinations: each answer carries its own");
	ok(as_client(w, "plain", sends_segments, (char *)ORIGIN4), "segments arrive as one, with their size");
	ok(as_client(w, "plain", sends_segments, (char *)ORIGIN6), "over IPv6, too");
	ok(as_client(w, "plain", names_its_source, NULL), "a source that a control message names");
	ok(as_client(w, "plain", sends_elsewhere, NULL), "a connected socket that sends elsewhere");
	ok(as_client(w, "plain", goes_on, NULL), "5000 questions and answers on one socket");
	ok(as_client(w, "plain", follows_policy, w), "a change of policy counts from the next datagram on");
	ok(as_client(w, "plain", leaves_at_once, NULL), "a socket that is closed after its datagram");
	ok(as_client(w, "plain", connects_twice, (const char *[]){ ORIGIN4, "192.0.2.7" }), "connected, and again");
	ok(as_client(w, "plain", connects_twice, (const char *[]){ ORIGIN6, "fd77::7" }), "over IPv6, too");
	ok(as_client(w, "plain", reconnects, NULL),
	   "connected, disconnected, connected elsewhere, and to what is not ours");
}

/* --- many --------------------------------------------------------------------------------------------------------- */

struct totals {
	uint32_t wrong, lost;
};

static bool asks_many(void *arg)
{
	struct totals *t = arg;
	uint32_t seed = (uint32_t)getpid();

	for (int i = 0; i < MANY_SOCKETS; i++) {
		uint32_t host = (seed = seed * 1664525 + 1013904223) >> 8;
		struct sockaddr_storage to, peer = { 0 };
		socklen_t len, peer_len = sizeof(peer);
		char ip[32], want[64], got[LINE_MAX_LEN] = "";
		int fd = udp_socket(AF_INET);
		ssize_t n;

		snprintf(ip, sizeof(ip), "198.18.%u.%u", host % MANY_HOSTS / 248, host % MANY_HOSTS % 248 + 1);
		snprintf(want, sizeof(want), "steered %s 53 ", ip);
		len = address_of(&to, ip, PORT);
		if (i % 2)
			n = connect(fd, (struct sockaddr *)&to, len) < 0 ? -1 : send(fd, "x", 1, 0);
		else
			n = sendto(fd, "x", 1, 0, (struct sockaddr *)&to, len);
		if (n == 1)
			n = recvfrom(fd, got, sizeof(got) - 1, 0, (struct sockaddr *)&peer, &peer_len);
		if (n <= 0)
			__sync_fetch_and_add(&t->lost, 1);
		else if (!starts(got, want) || !is_at(&peer, &to))
			__sync_fetch_and_add(&t->wrong, 1);
		close(fd);
	}
	return true;
}

static void test_many(struct world *w)
{
	struct totals *t = mmap(NULL, sizeof(*t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t pids[MANY_PROCESSES];

	for (int i = 0; i < MANY_PROCESSES; i++)
		pids[i] = client_start(w, "many", asks_many, t);
	for (int i = 0; i < MANY_PROCESSES; i++)
		ok(client_end(pids[i]), "%d sockets, one after the other, are done", MANY_SOCKETS);
	ok(t->wrong == 0, "%u wrong destinations or sources", t->wrong);
	ok(t->lost == 0, "%u answers lost", t->lost);
	munmap(t, sizeof(*t));
}

/* More destinations than there are places: what has none goes direct, and nobody else's place is taken. */
static bool fills(void *arg __unused)
{
	struct sockaddr_storage first, to;
	socklen_t len = address_of(&first, "198.19.0.1", PORT);
	int fd = udp_socket(AF_INET);
	bool good;

	good = sendto(fd, "x", 1, 0, (struct sockaddr *)&first, len) == 1 && hear(fd, &first, "steered 198.19.0.1 53 ");
	shutdown(fd, SHUT_RD);
	for (uint32_t i = 0; i < STEER_VIRTUAL_MAX + 1000; i++) {
		char ip[32], junk[LINE_MAX_LEN];

		snprintf(ip, sizeof(ip), "198.18.%u.%u", i >> 8 & 0xff, i & 0xff);
		len = address_of(&to, ip, (uint16_t)(PORT + (i >> 16)));
		if (sendto(fd, "x", 1, MSG_DONTWAIT, (struct sockaddr *)&to, len) < 0 && errno != EAGAIN)
			good = false;
		while (recv(fd, junk, sizeof(junk), MSG_DONTWAIT) > 0)
			;
	}
	return good;
}

static void test_full(struct world *w)
{
	ok(as_client(w, "plain", fills, NULL), "more flows than there are places");
	ok(atoi(proxy_say(w, "stat udp-full")) > 0, "go direct, and are counted");
}

/* --- loopback, QUIC, the end -------------------------------------------------------------------------------------- */

static void test_loopback_dns(struct world *w)
{
	static struct exchange v4 = { "127.0.0.53", PORT, false, NULL, NULL, "steered 127.0.0.53 53 ", 0 };
	static struct exchange v6 = { "::1", PORT, false, NULL, NULL, "steered ::1 53 ", 0 };
	static struct exchange other = { "127.0.0.1", OTHER_PORT, false, NULL, NULL, "direct", 0 };

	udp_proxy_start(w, "all", false, true);
	ok(as_client(w, "plain", exchanges, &v4), "DNS on loopback is taken where that is wanted");
	ok(as_client(w, "plain", exchanges, &v6), "over IPv6, too");
	ok(as_client(w, "plain", exchanges, &other), "and nothing else there");
	proxy_stop(w);
}

static void test_quic(struct world *w)
{
	static struct exchange cases[] = {
		{ ORIGIN4, 443, true, NULL, NULL, "", ECONNREFUSED },
		{ ORIGIN4, 443, false, NULL, NULL, "", ECONNREFUSED },
		{ ORIGIN6, 443, true, NULL, NULL, "", ECONNREFUSED },
		{ ORIGIN6, 443, false, NULL, NULL, "", ECONNREFUSED },
		{ "::ffff:" ORIGIN4, 443, true, NULL, NULL, "", ECONNREFUSED },
		{ "::ffff:" ORIGIN4, 443, false, NULL, NULL, "", ECONNREFUSED },
	};
	static struct exchange dns = { ORIGIN4, PORT, true, NULL, NULL, "direct", 0 };

	udp_proxy_start(w, "none", true, false);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		ok(as_client(w, "plain", exchanges, &cases[i]), "QUIC to %s is refused by %s", cases[i].ip,
		   cases[i].connects ? "connect()" : "sendto()");
	ok(atoi(proxy_say(w, "stat quic-blocked")) == (int)ARRAY_SIZE(cases), "which is counted");
	ok(as_client(w, "plain", exchanges, &dns), "nothing else is touched");
	proxy_say(w, "spec somebody-else");
	cases[0].error = 0;
	cases[0].want = "direct";
	ok(!as_client(w, "plain", exchanges, &(struct exchange){ ORIGIN4, 443, true, NULL, NULL, "", ECONNREFUSED }),
	   "nor who is not selected");
	proxy_stop(w);
}

static int left_routes(void)
{
	char line[256];
	FILE *f = popen("ip -6 route show table local proto 109", "r");
	int count = 0;

	while (f && fgets(line, sizeof(line), f))
		count++;
	if (f)
		pclose(f);
	return count;
}

static void test_death(struct world *w)
{
	static struct exchange v4 = { ORIGIN4, PORT, false, NULL, NULL, "direct", 0 };
	static struct exchange v6 = { ORIGIN6, PORT, true, NULL, NULL, "direct", 0 };

	kill(w->proxy, SIGKILL);
	waitpid(w->proxy, NULL, 0);
	w->proxy = 0;
	close(w->command);
	close(w->answer);
	ok(as_client(w, "plain", exchanges, &v4), "when the proxy is killed, datagrams go direct at once");
	ok(as_client(w, "plain", exchanges, &v6), "and connected sockets over IPv6");
	ok(left_routes() == 1, "its route is left, and nothing uses it");
	udp_proxy_start(w, "53", false, false);
	ok(left_routes() == 1, "the next one removes it and has its own");
	v4.want = "steered " ORIGIN4;
	v6.want = "steered " ORIGIN6;
	ok(as_client(w, "plain", exchanges, &v4), "and takes over IPv4");
	ok(as_client(w, "plain", exchanges, &v6), "and IPv6");
	proxy_stop(w);
	ok(left_routes() == 0, "an orderly end leaves none");
}

int main(void)
{
	struct world w;
	pid_t far, near;

	world_start(&w);
	far = origin_start(w.origin);
	near = origin_start(0);
	udp_proxy_start(&w, "53", false, false);
	test_ways(&w);
	test_direct(&w);
	test_kinds(&w);
	test_many(&w);
	proxy_stop(&w);
	udp_proxy_start(&w, "53,54", false, false);
	test_full(&w);
	test_death(&w);
	test_loopback_dns(&w);
	test_quic(&w);
	kill(far, SIGKILL);
	kill(near, SIGKILL);
	waitpid(far, NULL, 0);
	waitpid(near, NULL, 0);
	world_stop(&w);
	return tap_end();
}
