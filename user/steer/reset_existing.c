/* SPDX-License-Identifier: MIT */
/* Sockets by inode: /proc says whose they are, sock_diag(7) where they lead, and ends them. */
#include "steer/reset_existing.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <dirent.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "steer/processes.h"
#include "steer/steer_list.h"
#include "steer/steer_state.h"

enum { ESTABLISHED = 1 };                /* TCP_ESTABLISHED of the kernel's states */

struct inodes {
	uint64_t *at;
	uint32_t count, cap;
	bool failed;
};

struct search {
	struct inodes owned;             /* in rising order */
	struct inet_diag_sockid *found;
	uint32_t count, cap;
	uint8_t family;
	bool loopback, failed;
	struct steer_endpoint own;       /* our ports: who is connected there is steered */
};

/* --- whose sockets ---------------------------------------------------------------------------------------------- */

static void inodes_add(struct inodes *list, uint64_t inode)
{
	if (list->count == list->cap) {
		uint32_t cap = list->cap ? list->cap * 2 : 256;
		uint64_t *grown = mem_realloc(list->at, cap * sizeof(*grown));

		list->failed |= !grown;
		if (!grown)
			return;
		list->at = grown;
		list->cap = cap;
	}
	list->at[list->count++] = inode;
}

static bool note_sockets(void *owner, const struct steer_seen *seen)
{
	struct inodes *list = owner;
	char folder[40];
	struct dirent *entry;
	DIR *dir;

	if (seen->verdict != STEER_VERDICT_SELECTED)
		return true;
	snprintf(folder, sizeof(folder), "/proc/%u/fd", seen->process->pid);
	dir = opendir(folder);
	while (dir && (entry = readdir(dir))) {
		unsigned long long inode;
		char target[64];
		ssize_t len = readlinkat(dirfd(dir), entry->d_name, target, sizeof(target) - 1);

		if (len <= 0)
			continue;
		target[len] = 0;
		if (sscanf(target, "socket:[%llu]", &inode) == 1)
			inodes_add(list, inode);
	}
	if (dir)
		closedir(dir);
	return !list->failed;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* --- where they lead -------------------------------------------------------------------------------------------- */

static bool is_loopback(uint8_t family, const __be32 ip[4])
{
	const struct in6_addr *v6 = (const struct in6_addr *)ip;

	if (family == AF_INET)
		return ntohl(ip[0]) >> 24 == 127;
	return IN6_IS_ADDR_LOOPBACK(v6) || (IN6_IS_ADDR_V4MAPPED(v6) && ntohl(ip[3]) >> 24 == 127);
}

static bool is_wanted(const struct search *s, const struct inet_diag_msg *m)
{
	uint64_t inode = m->idiag_inode;

	if (!bsearch(&inode, s->owned.at, s->owned.count, sizeof(inode), compare))
		return false;
	if (!is_loopback(m->idiag_family, m->id.idiag_dst))
		return true;
	return s->loopback && m->id.idiag_dport != s->own.tcp4 && m->id.idiag_dport != s->own.tcp6;
}

static int on_socket(const struct nlmsghdr *nlh, void *owner)
{
	const struct inet_diag_msg *m = mnl_nlmsg_get_payload(nlh);
	struct search *s = owner;

	if (!is_wanted(s, m))
		return MNL_CB_OK;
	if (s->count == s->cap) {
		uint32_t cap = s->cap ? s->cap * 2 : 64;
		struct inet_diag_sockid *grown = mem_realloc(s->found, cap * sizeof(*grown));

		s->failed |= !grown;
		if (!grown)
			return MNL_CB_ERROR;
		s->found = grown;
		s->cap = cap;
	}
	s->found[s->count++] = m->id;
	return MNL_CB_OK;
}

/* One request and all of its answer. Returns 0 or -errno, the kernel's included. */
static int ask(struct mnl_socket *nl, uint16_t type, uint16_t flags, const struct inet_diag_req_v2 *request,
	       struct search *s)
{
	_Alignas(struct nlmsghdr) char buf[16384];
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	uint32_t port = mnl_socket_get_portid(nl);
	int ret = MNL_CB_OK;

	nlh->nlmsg_type = type;
	nlh->nlmsg_flags = NLM_F_REQUEST | flags;
	memcpy(mnl_nlmsg_put_extra_header(nlh, sizeof(*request)), request, sizeof(*request));
	if (mnl_socket_sendto(nl, nlh, nlh->nlmsg_len) < 0)
		return -errno;
	while (ret > MNL_CB_STOP) {
		ssize_t len = mnl_socket_recvfrom(nl, buf, sizeof(buf));

		ret = len < 0 ? -1 : mnl_cb_run(buf, (size_t)len, 0, port, on_socket, s);
	}
	return ret < 0 ? (s->failed ? -ENOMEM : -errno) : 0;
}

/* --- the end of them -------------------------------------------------------------------------------------------- */

/* Some end by themselves meanwhile. */
static int destroy(struct mnl_socket *nl, struct search *s, uint32_t *count)
{
	for (uint32_t i = 0; i < s->count; i++) {
		struct inet_diag_req_v2 request = {
			.sdiag_family = s->family,
			.sdiag_protocol = IPPROTO_TCP,
			.idiag_states = 1u << ESTABLISHED,
			.id = s->found[i],
		};
		int ret = ask(nl, SOCK_DESTROY, NLM_F_ACK, &request, s);

		if (ret == 0)
			(*count)++;
		else if (ret != -ENOENT)
			return ret;
	}
	s->count = 0;
	return 0;
}

static int reset_family(struct mnl_socket *nl, struct search *s, uint8_t family, uint32_t *count)
{
	const struct inet_diag_req_v2 all = {
		.sdiag_family = family,
		.sdiag_protocol = IPPROTO_TCP,
		.idiag_states = 1u << ESTABLISHED,
		.id.idiag_cookie = { INET_DIAG_NOCOOKIE, INET_DIAG_NOCOOKIE },
	};
	int ret;

	s->family = family;
	ret = ask(nl, SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, &all, s);
	return ret < 0 ? ret : destroy(nl, s, count);
}

static int reset_all(struct search *s, uint32_t *count, struct err *e)
{
	struct mnl_socket *nl = mnl_socket_open2(NETLINK_SOCK_DIAG, SOCK_CLOEXEC);
	int ret = !nl || mnl_socket_bind(nl, 0, MNL_SOCKET_AUTOPID) < 0 ? -errno : 0;

	if (ret == 0)
		ret = reset_family(nl, s, AF_INET, count);
	if (ret == 0)
		ret = reset_family(nl, s, AF_INET6, count);
	if (nl)
		mnl_socket_close(nl);
	if (ret == -EOPNOTSUPP)
		return err_set(e, ret, "Connections that are open already stay direct: this kernel was built without "
			       "CONFIG_INET_DIAG_DESTROY. Restart the programs instead.");
	return ret < 0 ? err_set(e, ret, "Connections that are open already stay direct: %s", strerror(-ret)) : 0;
}

/* Connections of one namespace, found and ended from there. */
struct elsewhere {
	struct search *search;
	uint32_t *count;
	struct err *e;
	int ret;                             /* the first failure */
};

static void reset_there(void *owner, const struct steer_endpoint *ep)
{
	struct elsewhere *there = owner;
	struct err e = { 0 };
	int ret;

	there->search->own = *ep;
	ret = reset_all(there->search, there->count, &e);
	if (ret == 0 || there->ret < 0)
		return;
	there->ret = ret;
	err_set(there->e, ret, "%s", e.text);
}

int steer_reset_existing(struct steer *s, bool loopback, uint32_t *count, struct err *e)
{
	struct search search = { .loopback = loopback };
	int ret = steer_list(s, 0, note_sockets, &search.owned, e);

	*count = 0;
	if (ret == 0 && search.owned.failed)
		ret = err_set(e, -ENOMEM, "out of memory");
	(void)bpf_map_lookup_elem(steer_map(s->skel->maps.mb_ep), &s->netns, &search.own);
	if (ret == 0 && search.owned.count) {
		qsort(search.owned.at, search.owned.count, sizeof(*search.owned.at), compare);
		ret = reset_all(&search, count, e);
	}
	if (ret == 0 && search.owned.count && s->namespaces) {
		struct elsewhere there = { .search = &search, .count = count, .e = e };

		namespaces_visit(s->namespaces, reset_there, &there);
		ret = there.ret;
	}
	mem_free(search.owned.at);
	mem_free(search.found);
	return ret;
}
