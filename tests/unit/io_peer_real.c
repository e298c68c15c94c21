/* SPDX-License-Identifier: MIT */
/* Far ends of the I/O suite on real sockets: non-blocking, on the loopback interface, driven by the test itself. */
#include "io_suite.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/socket.h"

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

/* The limit counts numbers, not descriptors: below the lowest free one nothing can be opened any more. */
static void real_starve(struct io *io __unused, bool on)
{
	static struct rlimit before;
	struct rlimit now;
	int lowest;

	if (!on) {
		setrlimit(RLIMIT_NOFILE, &before);
		return;
	}
	lowest = dup(0);
	close(lowest);
	getrlimit(RLIMIT_NOFILE, &before);
	now = before;
	now.rlim_cur = (rlim_t)lowest;
	setrlimit(RLIMIT_NOFILE, &now);
}

const struct io_world io_world_real = {
	.name = "real",
	.real = true,
	.listen = real_listen,
	.connect = real_connect,
	.listen_peer = real_listen_peer,
	.accept = real_accept,
	.send = real_send,
	.recv = real_recv,
	.shutdown = real_shutdown,
	.close = real_close,
	.starve = real_starve,
};
