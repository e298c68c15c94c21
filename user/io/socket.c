/* SPDX-License-Identifier: MIT */
/* Socket calls with their corners: mapped addresses, other namespaces, errors that tell a person what to do. */
#include "io/socket.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <unistd.h>

#ifndef SO_BINDTOIFINDEX
#define SO_BINDTOIFINDEX 62
#endif

#ifndef SO_ORIGINAL_DST              /* linux/netfilter_ipv4.h, which does not go with netinet/in.h everywhere */
#define SO_ORIGINAL_DST 80
#endif

#ifndef UDP_GRO
#define UDP_GRO 104                  /* Linux 5.0 */
#endif

#define DGRAM_RECEIVE_BYTES (4 << 20)
#define SOCKET_BACKLOG 4096          /* the kernel lowers it to net.core.somaxconn */

socklen_t socket_addr_write(const struct addr *a, struct sockaddr_storage *out)
{
	memset(out, 0, sizeof(*out));
	if (a->family == 4) {
		struct sockaddr_in *in = (struct sockaddr_in *)out;

		in->sin_family = AF_INET;
		in->sin_port = htons(a->port);
		memcpy(&in->sin_addr, a->ip + 12, 4);
		return sizeof(*in);
	}
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)out;

	in6->sin6_family = AF_INET6;
	in6->sin6_port = htons(a->port);
	memcpy(&in6->sin6_addr, a->ip, 16);
	return sizeof(*in6);
}

bool socket_addr_parse(const struct sockaddr_storage *from, struct addr *out)
{
	const struct sockaddr_in *in = (const struct sockaddr_in *)from;
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)from;

	*out = (struct addr){ 0 };
	if (from->ss_family == AF_INET) {
		*out = addr_v4(ntohl(in->sin_addr.s_addr), ntohs(in->sin_port));
		return true;
	}
	if (from->ss_family != AF_INET6)
		return false;
	memcpy(out->ip, &in6->sin6_addr, 16);
	out->port = ntohs(in6->sin6_port);
	out->family = IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr) ? 4 : 6;
	return true;
}

int socket_local(int fd, struct addr *out)
{
	struct sockaddr_storage ss = { 0 };
	socklen_t len = sizeof(ss);

	if (getsockname(fd, (struct sockaddr *)&ss, &len) < 0)
		return -errno;
	return socket_addr_parse(&ss, out) ? 0 : -EAFNOSUPPORT;
}

int socket_peer(int fd, struct addr *out)
{
	struct sockaddr_storage ss = { 0 };
	socklen_t len = sizeof(ss);

	if (getpeername(fd, (struct sockaddr *)&ss, &len) < 0)
		return -errno;
	return socket_addr_parse(&ss, out) ? 0 : -EAFNOSUPPORT;
}

static int set_int(int fd, int level, int name, int value)
{
	return setsockopt(fd, level, name, &value, sizeof(value)) < 0 ? -errno : 0;
}

static int listen_failed(int code, const struct addr *at, struct err *e)
{
	char text[ADDR_TEXT_MAX];

	addr_text(at, text);
	errno = -code;
	switch (-code) {
	case EADDRINUSE:
		return err_set(e, code, "cannot listen on %s: the port is in use; stop the program that has it "
			       "(ss -ltnp 'sport = :%u' shows it) or choose another port", text, at->port);
	case EACCES:
		return err_set(e, code, "cannot listen on %s: ports below 1024 need root or CAP_NET_BIND_SERVICE; "
			       "choose a higher port", text);
	case EADDRNOTAVAIL:
		return err_set(e, code, "cannot listen on %s: no interface has this address; `ip address` lists those "
			       "that exist", text);
	case EAFNOSUPPORT:
		return err_set(e, code, "cannot listen on %s: this kernel has IPv%u switched off; listen on the other "
			       "family", text, at->family);
	case EMFILE:
	case ENFILE:
		return err_set(e, code, "cannot listen on %s: no file descriptor is left; raise `ulimit -n`", text);
	default:
		return err_set(e, code, "cannot listen on %s: %m", text);
	}
}

int socket_set_transparent(int fd)
{
	struct addr at;
	int ret = socket_local(fd, &at);

	if (ret < 0)
		return ret;
	return at.family == 4 ? set_int(fd, IPPROTO_IP, IP_TRANSPARENT, 1) :
				set_int(fd, IPPROTO_IPV6, IPV6_TRANSPARENT, 1);
}

int socket_transparent_dgram(const struct addr *at, bool shared)
{
	struct sockaddr_storage ss;
	socklen_t len = socket_addr_write(at, &ss);
	int fd = socket(ss.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), ret;

	if (fd < 0)
		return -errno;
	ret = at->family == 4 ? set_int(fd, IPPROTO_IP, IP_TRANSPARENT, 1) :
				set_int(fd, IPPROTO_IPV6, IPV6_TRANSPARENT, 1);
	if (ret == 0 && at->family == 6)
		ret = set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
	if (ret == 0 && shared)
		ret = set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (ret == 0 && bind(fd, (struct sockaddr *)&ss, len) < 0)
		ret = -errno;
	if (ret == 0)
		return fd;
	close(fd);
	return ret;
}

/* Only addresses of this machine can be bound to. */
static bool is_own(const struct addr *a)
{
	struct sockaddr_storage ss;
	struct addr any_port = *a;
	socklen_t len;
	bool own;
	int fd;

	any_port.port = 0;
	len = socket_addr_write(&any_port, &ss);
	fd = socket(ss.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	own = fd >= 0 && bind(fd, (struct sockaddr *)&ss, len) == 0;
	if (fd >= 0)
		close(fd);
	return own;
}

static bool is_any(const struct addr *a)
{
	static const struct addr any6 = { .family = 6 };
	const struct addr any4 = addr_v4(INADDR_ANY, 0);

	return memcmp(a->ip, any4.ip, sizeof(a->ip)) == 0 || memcmp(a->ip, any6.ip, sizeof(a->ip)) == 0;
}

int socket_original(int fd, const struct addr *at, struct addr *out)
{
	struct sockaddr_storage ss = { 0 };
	socklen_t len = sizeof(ss);
	struct addr local;
	int ret = socket_local(fd, &local);

	if (ret < 0)
		return ret;
	/* SO_ORIGINAL_DST of IPv4 and IP6T_SO_ORIGINAL_DST are the same number. */
	ret = getsockopt(fd, local.family == 4 ? IPPROTO_IP : IPPROTO_IPV6, SO_ORIGINAL_DST, &ss, &len);
	if (ret == 0 && socket_addr_parse(&ss, out) && !addr_eq(out, &local))
		return 0;
	*out = local;
	if (local.port != at->port)
		return 0;
	if (memcmp(local.ip, at->ip, sizeof(local.ip)) == 0 || (is_any(at) && is_own(&local)))
		return -ENOENT;
	return 0;
}

int socket_listen(const struct addr *at, bool reuseport, struct err *e)
{
	struct sockaddr_storage ss;
	socklen_t len = socket_addr_write(at, &ss);
	int fd, ret;

	fd = socket(ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return listen_failed(-errno, at, e);
	ret = set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (ret == 0 && reuseport)
		ret = set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1);
	if (ret == 0 && ss.ss_family == AF_INET6)
		ret = set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
	if (ret == 0)
		ret = set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	if (ret == 0 && bind(fd, (struct sockaddr *)&ss, len) < 0)
		ret = -errno;
	if (ret == 0 && listen(fd, SOCKET_BACKLOG) < 0)
		ret = -errno;
	if (ret == 0)
		return fd;
	close(fd);
	return listen_failed(ret, at, e);
}

int socket_listen_dgram(const struct addr *at, bool reuseport, struct err *e)
{
	struct sockaddr_storage ss;
	socklen_t len = socket_addr_write(at, &ss);
	bool v6 = ss.ss_family == AF_INET6;
	int fd, ret;

	fd = socket(ss.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return listen_failed(-errno, at, e);
	ret = reuseport ? set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1) : 0;
	if (ret == 0 && v6)
		ret = set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
	if (ret == 0)
		ret = v6 ? set_int(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1) : set_int(fd, IPPROTO_IP, IP_PKTINFO, 1);
	if (ret == 0 && bind(fd, (struct sockaddr *)&ss, len) < 0)
		ret = -errno;
	if (ret < 0) {
		close(fd);
		return listen_failed(ret, at, e);
	}
	/* Both only help: bursts wait instead of getting lost, and many datagrams come as one. */
	(void)set_int(fd, SOL_SOCKET, SO_RCVBUF, DGRAM_RECEIVE_BYTES);
	(void)set_int(fd, IPPROTO_UDP, UDP_GRO, 1);
	return fd;
}

/* flags: what only the backend that asks wants of its sockets. */
static int socket_elsewhere(const struct io_dial *dial, int type, int flags, const struct io_netns *netns)
{
	int fd, ret;

	if (!netns)
		return -ENETDOWN;
	fd = netns->socket(netns->owner, dial->netns, dial->to.family, type == SOCK_DGRAM);
	if (fd < 0 || !(flags & SOCK_NONBLOCK) || fcntl(fd, F_SETFL, O_NONBLOCK) == 0)
		return fd;
	ret = -errno;
	close(fd);
	return ret;
}

static int prepare_dial(int fd, const struct io_dial *dial)
{
	struct sockaddr_storage from;
	int ret = 0;

	if (dial->mark && !dial->netns)
		ret = set_int(fd, SOL_SOCKET, SO_MARK, (int)dial->mark);
	if (ret == 0 && dial->bound_if)
		ret = set_int(fd, SOL_SOCKET, SO_BINDTOIFINDEX, (int)dial->bound_if);
	if (ret == 0 && dial->from.family) {
		socklen_t len = socket_addr_write(&dial->from, &from);

		/* Without a port the kernel chooses at connect, when it knows the whole tuple: far more are free. */
		if (dial->from.port == 0)
			(void)set_int(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
		if (bind(fd, (struct sockaddr *)&from, len) < 0)
			ret = -errno;
	}
	return ret;
}

static int open_dial(const struct io_dial *dial, int type, int flags, const struct io_netns *netns)
{
	int fd, ret;

	if (dial->netns) {
		fd = socket_elsewhere(dial, type, flags, netns);
	} else {
		fd = socket(dial->to.family == 4 ? AF_INET : AF_INET6, type | SOCK_CLOEXEC | flags, 0);
		fd = fd < 0 ? -errno : fd;
	}
	if (fd < 0)
		return fd;
	ret = type == SOCK_STREAM ? set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1) : 0;
	if (ret == 0)
		ret = prepare_dial(fd, dial);
	if (ret == 0)
		return fd;
	close(fd);
	return ret;
}

int socket_for_dial(const struct io_dial *dial, int flags, const struct io_netns *netns)
{
	return open_dial(dial, SOCK_STREAM, flags, netns);
}

int socket_for_dgram_dial(const struct io_dial *dial, const struct io_netns *netns)
{
	return open_dial(dial, SOCK_DGRAM, SOCK_NONBLOCK, netns);
}

bool socket_queue_full(int fd)
{
	struct tcp_info info;
	socklen_t len = sizeof(info);

	/* of a listener: how many wait, and how many may */
	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 && info.tcpi_state == TCP_LISTEN &&
	       info.tcpi_unacked >= info.tcpi_sacked;
}

void socket_reset(int fd)
{
	struct linger now = { .l_onoff = 1, .l_linger = 0 };

	(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(fd);
}

size_t socket_unsent(int fd)
{
	int bytes = 0;

	return ioctl(fd, SIOCOUTQNSD, &bytes) == 0 ? (size_t)bytes : 0;
}

bool socket_is_starved(int err)
{
	return err == -EMFILE || err == -ENFILE || err == -ENOBUFS || err == -ENOMEM;
}

uint32_t socket_iovecs(const struct chain *c, struct iovec *iov, uint32_t max, size_t *bytes)
{
	uint32_t n = MIN(c->count, max);

	*bytes = 0;
	for (uint32_t i = 0; i < n; i++) {
		const struct slice *s = chain_see(c, i);

		iov[i] = (struct iovec){ (void *)(uintptr_t)s->ptr, s->len };
		*bytes += s->len;
	}
	return n;
}
