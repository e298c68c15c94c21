/* SPDX-License-Identifier: MIT */
/*
 * Reads routes by rtnetlink for their prefixes, then asks the kernel about one address of each by connecting a UDP
 * socket (which sends nothing): so policy rules, other tables and dead links are in the answer.
 */
#include "steer/route.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "abi/steer.h"
#include "base/mem.h"
#include "steer/netlink.h"

#define DISCARD_PORT 9

struct list_of_routes {
	struct route *routes;
	uint32_t count, cap;
	bool failed;
};

static void add(struct list_of_routes *list, const struct route *route)
{
	if (list->count == list->cap) {
		uint32_t cap = list->cap ? list->cap * 2 : 64;
		struct route *grown = mem_realloc(list->routes, cap * sizeof(*grown));

		if (!grown) {
			list->failed = true;
			return;
		}
		list->routes = grown;
		list->cap = cap;
	}
	list->routes[list->count++] = *route;
}

static int destination(const struct nlattr *attr, void *data)
{
	const struct nlattr **found = data;

	if (mnl_attr_get_type(attr) == RTA_DST)
		*found = attr;
	return MNL_CB_OK;
}

static int on_route(const struct nlmsghdr *nlh, void *data)
{
	const struct rtmsg *rtm = mnl_nlmsg_get_payload(nlh);
	const struct nlattr *dst = NULL;
	struct route route = { 0 };

	if (nlh->nlmsg_type != RTM_NEWROUTE || (rtm->rtm_flags & (RTM_F_CLONED | RTNH_F_DEAD)))
		return MNL_CB_OK;
	if (rtm->rtm_family != AF_INET && rtm->rtm_family != AF_INET6)
		return MNL_CB_OK;
	mnl_attr_parse(nlh, sizeof(*rtm), destination, &dst);
	route.family = rtm->rtm_family;
	route.prefix = rtm->rtm_dst_len;
	/* such routes in other tables serve transparent proxies: they are no addresses of ours */
	route.local = rtm->rtm_type == RTN_LOCAL && rtm->rtm_table == RT_TABLE_LOCAL;
	/* thrown: by another table perhaps */
	route.reachable = rtm->rtm_type == RTN_UNICAST || rtm->rtm_type == RTN_LOCAL || rtm->rtm_type == RTN_THROW;
	if (dst)
		memcpy(route.ip, mnl_attr_get_payload(dst), MIN(mnl_attr_get_payload_len(dst), sizeof(route.ip)));
	add(data, &route);
	return MNL_CB_OK;
}

static int dump_family(struct mnl_socket *nl, uint8_t family, struct list_of_routes *list)
{
	char buf[32768] __attribute__((aligned(8)));
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	uint32_t seq = family, port = mnl_socket_get_portid(nl);
	struct rtmsg *rtm;
	int ret;

	nlh->nlmsg_type = RTM_GETROUTE;
	nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	nlh->nlmsg_seq = seq;
	rtm = mnl_nlmsg_put_extra_header(nlh, sizeof(*rtm));
	rtm->rtm_family = family;
	if (mnl_socket_sendto(nl, nlh, nlh->nlmsg_len) < 0)
		return -errno;
	do {
		ret = netlink_answer(mnl_socket_get_fd(nl), buf, sizeof(buf), seq, port, on_route, list);
		if (ret < 0)
			return errno == EINTR ? -EAGAIN : -errno;   /* EINTR: the table changed meanwhile */
	} while (ret > MNL_CB_STOP);
	return 0;
}

static int dump(struct list_of_routes *list)
{
	struct mnl_socket *nl = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
	int ret, tries = 5;

	if (!nl)
		return -errno;
	ret = mnl_socket_bind(nl, 0, MNL_SOCKET_AUTOPID) < 0 ? -errno : 0;
	while (ret == 0 && tries-- > 0) {
		list->count = 0;
		ret = dump_family(nl, AF_INET, list);
		if (ret == 0)
			ret = dump_family(nl, AF_INET6, list);
		if (ret != -EAGAIN)
			break;
		ret = 0;                        /* the last try is taken as it is; another change will be notified */
	}
	mnl_socket_close(nl);
	return ret == -EAFNOSUPPORT || ret == -EOPNOTSUPP ? 0 : ret;
}

int route_compare(const struct route *x, const struct route *y)
{
	if (x->prefix != y->prefix)
		return x->prefix < y->prefix ? -1 : 1;
	if (x->family != y->family)
		return x->family < y->family ? -1 : 1;
	return memcmp(x->ip, y->ip, sizeof(x->ip));
}

static int compare(const void *a, const void *b)
{
	return route_compare(a, b);
}

/* The same prefix in several tables or with several metrics is reachable if one of them is. */
static void merge(struct list_of_routes *list)
{
	uint32_t kept = 0;

	if (list->count)
		qsort(list->routes, list->count, sizeof(*list->routes), compare);
	for (uint32_t i = 0; i < list->count; i++) {
		if (kept && route_compare(&list->routes[kept - 1], &list->routes[i]) == 0) {
			list->routes[kept - 1].reachable |= list->routes[i].reachable;
			list->routes[kept - 1].local |= list->routes[i].local;
		} else {
			list->routes[kept++] = list->routes[i];
		}
	}
	list->count = kept;
}

/* Asks for one address. False: the kernel calls it unreachable. */
static bool ask(int fd, uint8_t family, const uint8_t *ip, uint8_t *src)
{
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	} to = { .any.sa_family = AF_UNSPEC };
	socklen_t len = sizeof(to);

	if (connect(fd, &to.any, sizeof(to)) < 0 && errno != EAFNOSUPPORT)
		return true;
	to.any.sa_family = family;
	if (family == AF_INET) {
		to.v4.sin_port = htons(DISCARD_PORT);
		memcpy(&to.v4.sin_addr, ip, sizeof(to.v4.sin_addr));
	} else {
		to.v6.sin6_port = htons(DISCARD_PORT);
		memcpy(&to.v6.sin6_addr, ip, sizeof(to.v6.sin6_addr));
	}
	if (connect(fd, &to.any, family == AF_INET ? sizeof(to.v4) : sizeof(to.v6)) < 0)
		return errno != ENETUNREACH && errno != EHOSTUNREACH && errno != ENETDOWN && errno != EACCES &&
		       errno != EADDRNOTAVAIL;
	if (getsockname(fd, &to.any, &len) < 0)
		return true;
	if (family == AF_INET)
		memcpy(src, &to.v4.sin_addr, sizeof(to.v4.sin_addr));
	else
		memcpy(src, &to.v6.sin6_addr, sizeof(to.v6.sin6_addr));
	return true;
}

/* The default route is asked for addresses that are somebody's: those of documentation may be blackholed. */
static void probe_default(int fd, struct route *route)
{
	static const char *const v4[] = { "192.0.2.1", "1.1.1.1", "8.8.8.8" };
	static const char *const v6[] = { "2001:db8::1", "2606:4700:4700::1111", "2001:4860:4860::8888" };
	uint8_t ip[16];

	route->reachable = false;
	for (size_t i = 0; i < ARRAY_SIZE(v4) && !route->reachable; i++) {
		inet_pton(route->family, route->family == AF_INET ? v4[i] : v6[i], ip);
		route->reachable = ask(fd, route->family, ip, route->src);
	}
}

static void probe(int fd, struct route *route)
{
	uint8_t ip[16];

	if (!route->reachable || fd < 0)
		return;
	if (route->prefix == 0) {
		probe_default(fd, route);
		return;
	}
	memcpy(ip, route->ip, sizeof(ip));
	if (route->prefix < (route->family == AF_INET ? 32 : 128))
		ip[route->family == AF_INET ? 3 : 15] |= 1;
	if (route->family == AF_INET6 && (ip[0] == 0xff || (ip[0] == 0xfe && (ip[1] & 0xc0) == 0x80)))
		return;                         /* multicast and link-local need a scope, and are never steered */
	route->reachable = ask(fd, route->family, ip, route->src);
}

int route_dump(struct route **out, uint32_t *count, struct err *e)
{
	struct list_of_routes list = { 0 };
	int ret = dump(&list), fd4, fd6;

	if (ret == 0 && list.failed)
		ret = -ENOMEM;
	if (ret < 0) {
		mem_free(list.routes);
		return err_set(e, ret, "cannot read the routes: %s", strerror(-ret));
	}
	merge(&list);
	fd4 = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	fd6 = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	/* who has a namespace of his own may have a million: no more are asked about than are ever used */
	for (uint32_t i = 0; i < MIN(list.count, (uint32_t)STEER_ROUTE_EACH_MAX); i++)
		probe(list.routes[i].family == AF_INET ? fd4 : fd6, &list.routes[i]);
	if (fd4 >= 0)
		close(fd4);
	if (fd6 >= 0)
		close(fd6);
	*out = list.routes;
	*count = list.count;
	return 0;
}

int route_monitor_open(struct err *e)
{
	struct sockaddr_nl local = {
		.nl_family = AF_NETLINK,
		.nl_groups = RTMGRP_LINK | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE | RTMGRP_IPV4_IFADDR |
			     RTMGRP_IPV6_IFADDR,
	};
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, NETLINK_ROUTE);

	if (fd < 0)
		return err_set(e, -errno, "cannot open a netlink socket: %m");
	if (bind(fd, (struct sockaddr *)&local, sizeof(local)) < 0) {
		int ret = err_set(e, -errno, "cannot listen for changes of the routes: %m");

		close(fd);
		return ret;
	}
	return fd;
}

bool route_monitor_drain(int fd)
{
	char buf[16384];
	bool changed = false;

	for (;;) {
		if (recv(fd, buf, sizeof(buf), 0) >= 0 || errno == ENOBUFS)
			changed = true;         /* ENOBUFS: so much changed that messages were lost */
		else if (errno != EINTR)
			return changed;
	}
}
