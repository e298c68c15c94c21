/* SPDX-License-Identifier: MIT */
/* Listed and ended by sock_diag. */
#include "steer/tc_ghosts.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

#include "base/mem.h"

struct search {
	uint32_t mark;
	uint8_t family;
	struct inet_diag_msg *found;
	uint32_t count, cap;
	bool failed;
};

static int on_attribute(const struct nlattr *a, void *owner)
{
	if (mnl_attr_get_type(a) == INET_DIAG_MARK)
		*(uint32_t *)owner = mnl_attr_get_u32(a);
	return MNL_CB_OK;
}

static int on_socket(const struct nlmsghdr *nlh, void *owner)
{
	const struct inet_diag_msg *m = mnl_nlmsg_get_payload(nlh);
	struct search *s = owner;
	uint32_t mark = 0;

	mnl_attr_parse(nlh, sizeof(*m), on_attribute, &mark);
	if (m->idiag_inode || mark != s->mark)
		return MNL_CB_OK;
	if (s->count == s->cap) {
		uint32_t cap = s->cap ? s->cap * 2 : 256;
		struct inet_diag_msg *grown = mem_realloc(s->found, cap * sizeof(*grown));

		s->failed |= !grown;
		if (!grown)
			return MNL_CB_OK;
		s->found = grown;
		s->cap = cap;
	}
	s->found[s->count++] = *m;
	return MNL_CB_OK;
}

static int ask(struct mnl_socket *nl, uint16_t type, uint16_t flags, const struct inet_diag_req_v2 *request,
	       struct search *s)
{
	_Alignas(struct nlmsghdr) char buf[16384];
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	int ret = MNL_CB_OK;

	nlh->nlmsg_type = type;
	nlh->nlmsg_flags = NLM_F_REQUEST | flags;
	memcpy(mnl_nlmsg_put_extra_header(nlh, sizeof(*request)), request, sizeof(*request));
	if (mnl_socket_sendto(nl, nlh, nlh->nlmsg_len) < 0)
		return -errno;
	while (ret > MNL_CB_STOP) {
		ssize_t len = mnl_socket_recvfrom(nl, buf, sizeof(buf));

		ret = len < 0 ? -1 : mnl_cb_run(buf, (size_t)len, 0, mnl_socket_get_portid(nl), on_socket, s);
	}
	return ret < 0 ? -errno : 0;
}

static int end_family(struct mnl_socket *nl, struct search *s)
{
	struct inet_diag_req_v2 request = {
		.sdiag_family = s->family,
		.sdiag_protocol = IPPROTO_TCP,
		.idiag_states = UINT32_MAX & ~(1u << TCP_LISTEN),
		.id.idiag_cookie = { INET_DIAG_NOCOOKIE, INET_DIAG_NOCOOKIE },
	};
	int ended = 0, ret;

	s->count = 0;
	ret = ask(nl, SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, &request, s);
	for (uint32_t i = 0; i < s->count && (ret == 0 || ret == -ENOENT); i++) {
		request.id = s->found[i].id;
		request.idiag_states = 1u << s->found[i].idiag_state;
		ret = ask(nl, SOCK_DESTROY, NLM_F_ACK, &request, s);
		ended += ret == 0;
	}
	return ret < 0 && ret != -ENOENT ? ret : ended;
}

int tc_ghosts_end(uint32_t mark)
{
	struct mnl_socket *nl = mnl_socket_open2(NETLINK_SOCK_DIAG, SOCK_CLOEXEC);
	struct search s = { .mark = mark, .family = AF_INET };
	int four, six = 0;

	if (!nl)
		return -errno;
	four = mnl_socket_bind(nl, 0, MNL_SOCKET_AUTOPID) < 0 ? -errno : end_family(nl, &s);
	s.family = AF_INET6;
	if (four >= 0)
		six = end_family(nl, &s);
	mnl_socket_close(nl);
	mem_free(s.found);
	return four < 0 ? four : six < 0 ? six : four + six;
}
