/* SPDX-License-Identifier: MIT */
/*
 * The sockets, and the route by rtnetlink. A route's metric is the port of its sockets: several programs can have one
 * each, and one whose port nobody has is a leftover.
 */
#include "steer/udp_endpoint.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/in6.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "abi/steer.h"
#include "base/log.h"
#include "steer/netlink.h"

#define OUR_PROTOCOL 109             /* of routes: who made it (ip route show proto 109) */
#define LEFT_MAX 64
#define RECEIVE_BYTES (4 << 20)

#ifndef UDP_GRO
#define UDP_GRO 104                  /* Linux 5.0 */
#endif

/* --- sockets --- */

static int set_int(int fd, int level, int name, int value)
{
	return setsockopt(fd, level, name, &value, sizeof(value)) < 0 ? -errno : 0;
}

static int bind_any(int fd, int family, uint16_t port)
{
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons(port) };
	int ret = family == 4 ? bind(fd, (struct sockaddr *)&v4, sizeof(v4)) :
				bind(fd, (struct sockaddr *)&v6, sizeof(v6));

	return ret < 0 ? -errno : 0;
}

/* Bound to the interface, a socket of IPv6 could not answer who has an interface's address; of IPv4 it can. */
static int prepare(int fd, int family, bool shared)
{
	int ret = shared ? set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1) : 0;

	if (ret == 0 && family == 4)
		ret = setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", sizeof("lo")) < 0 ? -errno : 0;
	if (ret == 0 && family == 6)
		ret = set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
	if (ret == 0 && family == 6)
		ret = set_int(fd, IPPROTO_IPV6, IPV6_FREEBIND, 1);
	if (ret == 0)
		ret = family == 4 ? set_int(fd, IPPROTO_IP, IP_PKTINFO, 1) :
				    set_int(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
	return ret;
}

static int open_socket(int family, uint16_t port, bool shared)
{
	int fd = socket(family == 4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), ret;

	if (fd < 0)
		return -errno;
	ret = prepare(fd, family, shared);
	if (ret == 0)
		ret = bind_any(fd, family, port);
	if (ret == 0)
		return fd;
	close(fd);
	return ret;
}

int udp_endpoint_socket(const struct udp_endpoint *at, int family, struct err *e)
{
	int fd = open_socket(family, family == 4 ? at->port4 : at->port6, true);

	if (fd < 0)
		return err_set(e, fd, "no socket for intercepted UDP of IPv%d: %s", family, strerror(-fd));
	/* Both only help: bursts wait instead of getting lost, and many datagrams come as one. */
	if (set_int(fd, SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BYTES) < 0)
		(void)set_int(fd, SOL_SOCKET, SO_RCVBUF, RECEIVE_BYTES);
	(void)set_int(fd, IPPROTO_UDP, UDP_GRO, 1);
	return fd;
}

/* Alone, so that it is nobody else's: sockets that share a port do not notice those of another program. */
static int find_port(int family, uint16_t *port)
{
	struct sockaddr_in6 at;                  /* the port is at the same place in both families */
	socklen_t len = sizeof(at);
	int fd = open_socket(family, 0, false), ret;

	if (fd < 0)
		return fd;
	ret = getsockname(fd, (struct sockaddr *)&at, &len) < 0 ? -errno : 0;
	*port = ntohs(at.sin6_port);
	close(fd);
	return ret;
}

/* --- the route --- */

static const struct in6_addr *prefix(void)
{
	static struct in6_addr a;
	uint32_t words[4] = { htonl(STEER_VIRTUAL6_0), htonl(STEER_VIRTUAL6_1) };

	memcpy(&a, words, sizeof(a));
	return &a;
}

static void put_route(struct nlmsghdr *nlh, uint16_t type, uint16_t flags, uint16_t metric)
{
	struct rtmsg *rtm;

	nlh->nlmsg_type = type;
	nlh->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags);
	rtm = mnl_nlmsg_put_extra_header(nlh, sizeof(*rtm));
	rtm->rtm_family = AF_INET6;
	rtm->rtm_dst_len = STEER_VIRTUAL6_BITS;
	rtm->rtm_table = RT_TABLE_LOCAL;
	rtm->rtm_protocol = OUR_PROTOCOL;
	rtm->rtm_type = RTN_LOCAL;
	mnl_attr_put(nlh, RTA_DST, sizeof(struct in6_addr), prefix());
	mnl_attr_put_u32(nlh, RTA_OIF, if_nametoindex("lo"));
	mnl_attr_put_u32(nlh, RTA_PRIORITY, metric);
}

static int change_route(struct mnl_socket *nl, uint16_t type, uint16_t flags, uint16_t metric)
{
	char buf[4096] __attribute__((aligned(8)));
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);

	put_route(nlh, type, flags, metric);
	if (mnl_socket_sendto(nl, nlh, nlh->nlmsg_len) < 0)
		return -errno;
	if (netlink_answer(mnl_socket_get_fd(nl), buf, sizeof(buf), 0, mnl_socket_get_portid(nl), NULL, NULL) < 0)
		return -errno;
	return 0;
}

struct left {
	uint16_t metrics[LEFT_MAX];
	uint32_t count;
};

static int attribute(const struct nlattr *attr, void *data)
{
	const struct nlattr **attrs = data;

	if (mnl_attr_get_type(attr) <= RTA_MAX)
		attrs[mnl_attr_get_type(attr)] = attr;
	return MNL_CB_OK;
}

static int on_route(const struct nlmsghdr *nlh, void *data)
{
	const struct rtmsg *rtm = mnl_nlmsg_get_payload(nlh);
	const struct nlattr *attrs[RTA_MAX + 1] = { NULL };
	struct left *left = data;

	if (nlh->nlmsg_type != RTM_NEWROUTE || rtm->rtm_protocol != OUR_PROTOCOL || rtm->rtm_type != RTN_LOCAL ||
	    rtm->rtm_dst_len != STEER_VIRTUAL6_BITS)
		return MNL_CB_OK;
	mnl_attr_parse(nlh, sizeof(*rtm), attribute, attrs);
	if (!attrs[RTA_DST] || !attrs[RTA_PRIORITY] || mnl_attr_get_payload_len(attrs[RTA_DST]) != 16 ||
	    memcmp(mnl_attr_get_payload(attrs[RTA_DST]), prefix(), 16) != 0 || left->count == LEFT_MAX)
		return MNL_CB_OK;
	left->metrics[left->count++] = (uint16_t)mnl_attr_get_u32(attrs[RTA_PRIORITY]);
	return MNL_CB_OK;
}

static int find_routes(struct mnl_socket *nl, struct left *left)
{
	char buf[32768] __attribute__((aligned(8)));
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	uint32_t port = mnl_socket_get_portid(nl);
	struct rtmsg *rtm;
	int ret;

	nlh->nlmsg_type = RTM_GETROUTE;
	nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	rtm = mnl_nlmsg_put_extra_header(nlh, sizeof(*rtm));
	rtm->rtm_family = AF_INET6;
	if (mnl_socket_sendto(nl, nlh, nlh->nlmsg_len) < 0)
		return -errno;
	do {
		ret = netlink_answer(mnl_socket_get_fd(nl), buf, sizeof(buf), 0, port, on_route, left);
	} while (ret > MNL_CB_STOP);
	return ret < 0 ? -errno : 0;
}

/* Whoever had the port is gone. */
static bool is_left(uint16_t port)
{
	int fd = open_socket(6, port, false);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static void remove_left(struct mnl_socket *nl)
{
	struct left left = { .count = 0 };

	if (find_routes(nl, &left) < 0)
		return;
	for (uint32_t i = 0; i < left.count; i++) {
		if (!is_left(left.metrics[i]))
			continue;
		log_line(LOG_DEBUG, "steer", "removing a route that an earlier run left (metric %u)", left.metrics[i]);
		(void)change_route(nl, RTM_DELROUTE, 0, left.metrics[i]);
	}
}

static struct mnl_socket *open_netlink(void)
{
	struct mnl_socket *nl = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);

	if (nl && mnl_socket_bind(nl, 0, MNL_SOCKET_AUTOPID) < 0) {
		mnl_socket_close(nl);
		return NULL;
	}
	return nl;
}

static int set_route(uint16_t port)
{
	struct mnl_socket *nl = open_netlink();
	int ret;

	if (!nl)
		return -errno;
	remove_left(nl);
	ret = change_route(nl, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, port);
	mnl_socket_close(nl);
	return ret == -EEXIST ? 0 : ret;
}

/* --- both --- */

int udp_endpoint_open(struct udp_endpoint *at, struct err *e)
{
	int ret = at->port4 ? 0 : find_port(4, &at->port4);

	if (ret < 0)
		return err_set(e, ret, "no port for intercepted UDP: %s", strerror(-ret));
	if (at->port6)
		return 0;
	ret = find_port(6, &at->port6);
	if (ret == 0)
		ret = set_route(at->port6);
	if (ret < 0) {
		at->port6 = 0;
		if (ret != -EAFNOSUPPORT && ret != -EADDRNOTAVAIL)
			log_line(LOG_WARN, "steer", "UDP of IPv6 is not intercepted: %s", strerror(-ret));
	}
	return 0;
}

void udp_endpoint_close(const struct udp_endpoint *at)
{
	struct mnl_socket *nl = at->port6 ? open_netlink() : NULL;

	if (!nl)
		return;
	(void)change_route(nl, RTM_DELROUTE, 0, at->port6);
	mnl_socket_close(nl);
}
