/* SPDX-License-Identifier: MIT */
/* Far ends of the I/O suite on real sockets: non-blocking, on the loopback interface, driven by the test itself. */
#include "io_suite.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/socket.h"

#ifndef UDP_GRO
#define UDP_GRO 104
#endif

struct peer {
	int fd;
};

static struct peer *peer_new(int fd)
{
	struct peer *p;

	if (fd < 0)
		return NULL;
	p = malloc(sizeof(*p));
	if (!p)
		abort();
	p->fd = fd;
	return p;
}

static int real_listen(struct io *io __unused, struct addr *at)
{
	struct err e;
	int fd = socket_listen(&(struct addr){ .family = 4, .ip = { [10] = 0xff, 0xff, 127, 0, 0, 1 } }, false, &e);

	if (fd < 0 || socket_local(fd, at) < 0)
		abort();
	return fd;
}

static int real_dgram(struct io *io __unused, struct addr *at)
{
	const struct addr loopback = { .family = 4, .ip = { [10] = 0xff, 0xff, 127, 0, 0, 1 } };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
	struct sockaddr_storage ss;
	socklen_t len = socket_addr_write(&loopback, &ss);

	if (fd < 0 || bind(fd, (struct sockaddr *)&ss, len) < 0 || socket_local(fd, at) < 0 ||
	    setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &one, sizeof(one)) < 0 ||
	    setsockopt(fd, IPPROTO_UDP, UDP_GRO, &one, sizeof(one)) < 0)
		abort();
	return fd;
}

static struct peer *real_listen_peer(struct io *io, struct addr *at)
{
	return peer_new(real_listen(io, at));
}

static struct peer *real_connect(struct io *io __unused, const struct addr *to)
{
	struct sockaddr_storage ss;
	socklen_t len = socket_addr_write(to, &ss);
	int fd = socket(ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0 || (connect(fd, (struct sockaddr *)&ss, len) < 0 && errno != EINPROGRESS))
		abort();
	return peer_new(fd);
}

static struct peer *real_accept(struct peer *listener)
{
	return peer_new(accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC));
}

static ssize_t real_send(struct peer *p, const void *bytes, size_t len)
{
	ssize_t n = send(p->fd, bytes, len, MSG_NOSIGNAL);

	return n < 0 ? -errno : n;
}

static ssize_t real_recv(struct peer *p, void *bytes, size_t len)
{
	ssize_t n = recv(p->fd, bytes, len, 0);

	return n < 0 ? -errno : n;
}

static void real_shutdown(struct peer *p)
{
	shutdown(p->fd, SHUT_WR);
}

static void real_close(struct peer *p, bool reset)
{
	if (reset)
		socket_reset(p->fd);
	else
		close(p->fd);
	free(p);
}

#define DESCRIPTORS_MAX 4600         /* 2,000 connections, both ends, and some */

void io_world_real_init(void)
{
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = MIN(limit.rlim_max, (rlim_t)DESCRIPTORS_MAX);
	setrlimit(RLIMIT_NOFILE, &limit);
}

/* By using them all up: io_uring reads the limit when it begins to accept, so lowering it later would not be seen. */
static void real_starve(struct io *io __unused, bool on)
{
	static int taken[DESCRIPTORS_MAX];
	static int count;

	while (on && count < DESCRIPTORS_MAX && (taken[count] = dup(0)) >= 0)
		count++;
	while (!on && count)
		close(taken[--count]);
}

const struct io_world io_world_real = {
	.name = "real",
	.real = true,
	.listen = real_listen,
	.dgram = real_dgram,
	.connect = real_connect,
	.listen_peer = real_listen_peer,
	.accept = real_accept,
	.send = real_send,
	.recv = real_recv,
	.shutdown = real_shutdown,
	.close = real_close,
	.starve = real_starve,
};
