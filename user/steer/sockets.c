/* SPDX-License-Identifier: MIT */
#include "steer/sockets.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "steer/netlink.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

struct listing {
	void (*see)(void *owner, const struct socket_seen *s, const struct inet_diag_sockid *id);
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

	mnl_attr_for_each(attr, nlh, sizeof(*m)) {
		uint16_t type = mnl_attr_get_type(attr), len = mnl_attr_get_payload_len(attr);

		if (type == INET_DIAG_CGROUP_ID && len == sizeof(s.cgroup_id))
			s.cgroup_id = mnl_attr_get_u64(attr);
		if (type == INET_DIAG_MARK && len == sizeof(s.mark))
			s.mark = mnl_attr_get_u32(attr);
	}
	l->see(l->owner, &s, &m->id);
	return MNL_CB_OK;
}

/* One request and all of its answer. Returns 0 or -errno, the kernel's included. l: NULL where nothing is listed. */
static int ask(int fd, uint16_t type, uint16_t flags, const struct inet_diag_req_v2 *request, struct listing *l)
{
	_Alignas(struct nlmsghdr) char buf[16384];
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	int ret = MNL_CB_OK;

	nlh->nlmsg_type = type;
	nlh->nlmsg_flags = NLM_F_REQUEST | flags;
	memcpy(mnl_nlmsg_put_extra_header(nlh, sizeof(*request)), request, sizeof(*request));
	if (send(fd, nlh, nlh->nlmsg_len, 0) < 0)
		return -errno;
	while (ret > MNL_CB_STOP)
		ret = netlink_answer(fd, buf, sizeof(buf), 0, 0, l ? on_socket : NULL, l);
	return ret < 0 ? -errno : 0;
}

static int list(int fd, uint8_t protocol, uint32_t states, struct listing *l)
{
	static const uint8_t families[] = { AF_INET, AF_INET6 };
	int ret = 0;

	for (size_t i = 0; ret == 0 && i < ARRAY_SIZE(families); i++) {
		const struct inet_diag_req_v2 all = {
			.sdiag_family = families[i],
			.sdiag_protocol = protocol,
			.idiag_states = states,
			.id.idiag_cookie = { INET_DIAG_NOCOOKIE, INET_DIAG_NOCOOKIE },
		};

		ret = ask(fd, SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, &all, l);
	}
	return ret;
}

/* --- to look at them -------------------------------------------------------------------------------------------- */

struct look {
	void (*see)(void *owner, const struct socket_seen *s);
	void *owner;
};

static void look_at(void *owner, const struct socket_seen *s, const struct inet_diag_sockid *id __unused)
{
	const struct look *look = owner;

	look->see(look->owner, s);
}

int sockets_list(int fd, uint8_t protocol, uint32_t states, void (*see)(void *owner, const struct socket_seen *s),
		 void *owner)
{
	struct look look = { .see = see, .owner = owner };

	return list(fd, protocol, states, &(struct listing){ .see = look_at, .owner = &look });
}

/* --- to end them ------------------------------------------------------------------------------------------------ */

/* The list is read to its end first: it is not steady while it shrinks. */
struct choice {
	bool (*wanted)(void *owner, const struct socket_seen *s);
	void *owner;
	struct chosen {
		struct inet_diag_sockid id;
		uint32_t state;
		uint8_t family;
	} *chosen;
	uint32_t count, cap;
	bool failed;
};

static void choose(void *owner, const struct socket_seen *s, const struct inet_diag_sockid *id)
{
	struct choice *c = owner;

	if (c->failed || !c->wanted(c->owner, s))
		return;
	if (c->count == c->cap) {
		uint32_t cap = c->cap ? c->cap * 2 : 64;
		struct chosen *grown = mem_realloc(c->chosen, cap * sizeof(*grown));

		c->failed = !grown;
		if (!grown)
			return;
		c->chosen = grown;
		c->cap = cap;
	}
	c->chosen[c->count++] = (struct chosen){
		.id = *id,
		.state = s->state,
		.family = s->local.family == 4 ? AF_INET : AF_INET6,
	};
}

int sockets_end(int fd, uint32_t states, bool (*wanted)(void *owner, const struct socket_seen *s), void *owner)
{
	struct choice c = { .wanted = wanted, .owner = owner };
	int ret = list(fd, IPPROTO_TCP, states, &(struct listing){ .see = choose, .owner = &c });
	int ended = 0;

	if (ret == 0 && c.failed)
		ret = -ENOMEM;
	for (uint32_t i = 0; i < c.count && ret == 0; i++) {
		const struct inet_diag_req_v2 request = {
			.sdiag_family = c.chosen[i].family,
			.sdiag_protocol = IPPROTO_TCP,
			.idiag_states = c.chosen[i].state,
			.id = c.chosen[i].id,
		};

		ret = ask(fd, SOCK_DESTROY, NLM_F_ACK, &request, NULL);
		ended += ret == 0;
		if (ret == -ENOENT)
			ret = 0;
	}
	mem_free(c.chosen);
	return ret < 0 ? ret : ended;
}
