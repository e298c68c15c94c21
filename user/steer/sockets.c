/* SPDX-License-Identifier: MIT */
#include "steer/sockets.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <libmnl/libmnl.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

struct listing {
	void (*see)(void *owner, const struct socket_seen *s);
	void *owner;
};

int sockets_open(int netns_fd)
{
	int home = -1, fd, ret = 0;

	if (netns_fd >= 0) {
		home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
		if (home < 0 || setns(netns_fd, CLONE_NEWNET) < 0) {
			ret = -errno;
			if (home >= 0)
				close(home);
			return ret;
		}
	}
	fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
	ret = fd < 0 ? -errno : fd;
	if (home >= 0) {
		/* Somewhere else than its caller believes, a thread can only do harm. */
		BUG_ON(setns(home, CLONE_NEWNET) < 0);
		close(home);
	}
	return ret;
}

int sockets_netns_cookie(int fd, uint64_t *cookie)
{
	socklen_t len = sizeof(*cookie);

	return getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, cookie, &len) < 0 ? -errno : 0;
}

static struct addr address_of(uint8_t family, const __be32 ip[4], __be16 port)
{
	struct addr a = { .family = 6, .port = ntohs(port) };

	if (family == AF_INET)
		return addr_v4(ntohl(ip[0]), a.port);
	memcpy(a.ip, ip, sizeof(a.ip));
	return a;
}

static int on_socket(const struct nlmsghdr *nlh, void *owner)
{
	const struct inet_diag_msg *m = mnl_nlmsg_get_payload(nlh);
	const struct listing *l = owner;
	const struct nlattr *attr;
	struct socket_seen s = {
		.inode = m->idiag_inode,
		.state = 1u << (m->idiag_state & 31),
		.local = address_of(m->idiag_family, m->id.idiag_src, m->id.idiag_sport),
		.peer = address_of(m->idiag_family, m->id.idiag_dst, m->id.idiag_dport),
	};

	mnl_attr_for_each(attr, nlh, sizeof(*m))
		if (mnl_attr_get_type(attr) == INET_DIAG_CGROUP_ID &&
		    mnl_attr_get_payload_len(attr) == sizeof(s.cgroup_id))
			s.cgroup_id = mnl_attr_get_u64(attr);
	l->see(l->owner, &s);
	return MNL_CB_OK;
}

static int list_family(int fd, uint8_t family, uint8_t protocol, uint32_t states, struct listing *l)
{
	_Alignas(struct nlmsghdr) char buf[16384];
	const struct inet_diag_req_v2 request = {
		.sdiag_family = family,
		.sdiag_protocol = protocol,
		.idiag_states = states,
		.id.idiag_cookie = { INET_DIAG_NOCOOKIE, INET_DIAG_NOCOOKIE },
	};
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	int ret = MNL_CB_OK;

	nlh->nlmsg_type = SOCK_DIAG_BY_FAMILY;
	nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	memcpy(mnl_nlmsg_put_extra_header(nlh, sizeof(request)), &request, sizeof(request));
	if (send(fd, nlh, nlh->nlmsg_len, 0) < 0)
		return -errno;
	while (ret > MNL_CB_STOP) {
		ssize_t len = recv(fd, buf, sizeof(buf), 0);

		ret = len < 0 ? -1 : mnl_cb_run(buf, (size_t)len, 0, 0, on_socket, l);
	}
	return ret < 0 ? -errno : 0;
}

int sockets_list(int fd, uint8_t protocol, uint32_t states, void (*see)(void *owner, const struct socket_seen *s),
		 void *owner)
{
	struct listing l = { .see = see, .owner = owner };
	int ret = list_family(fd, AF_INET, protocol, states, &l);

	return ret < 0 ? ret : list_family(fd, AF_INET6, protocol, states, &l);
}
