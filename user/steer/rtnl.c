/* SPDX-License-Identifier: MIT */
/* Requests are built and answers walked through by libmnl; one request is in flight at a time. */
#include "steer/rtnl.h"

#include <errno.h>
#include <linux/fib_rules.h>
#include <linux/if_arp.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>

#include "base/mem.h"
#include "steer/netlink.h"

#define PROTOCOL 109                 /* 'm', of rules and routes: nobody else's in the usual lists */
#define DUMP_TRIES 5

struct request {
	_Alignas(struct nlmsghdr) char buf[1024];
	struct nlmsghdr *nlh;
};

/* A growing array of elements of one size. */
struct collected {
	void *at;
	size_t size;
	uint32_t count, cap;
	bool failed;
};

static void *collect(struct collected *c)
{
	if (c->count == c->cap) {
		uint32_t cap = c->cap ? c->cap * 2 : 32;
		void *grown = mem_realloc(c->at, cap * c->size);

		c->failed |= !grown;
		if (!grown)
			return NULL;
		c->at = grown;
		c->cap = cap;
	}
	return memset((char *)c->at + c->size * c->count++, 0, c->size);
}

int rtnl_open(struct rtnl *r)
{
	int ret;

	*r = (struct rtnl){ .nl = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC) };
	if (!r->nl)
		return -errno;
	if (mnl_socket_bind(r->nl, 0, MNL_SOCKET_AUTOPID) == 0)
		return 0;
	ret = -errno;
	rtnl_close(r);
	return ret;
}

void rtnl_close(struct rtnl *r)
{
	if (r->nl)
		mnl_socket_close(r->nl);
	r->nl = NULL;
}

static void *request_init(struct request *q, uint16_t type, uint16_t flags, size_t header)
{
	q->nlh = mnl_nlmsg_put_header(q->buf);
	q->nlh->nlmsg_type = type;
	q->nlh->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
	return mnl_nlmsg_put_extra_header(q->nlh, header);
}

static int talk(struct rtnl *r, struct request *q, mnl_cb_t fn, void *owner)
{
	_Alignas(struct nlmsghdr) char buf[32768];
	uint32_t port;
	int ret = MNL_CB_OK;

	if (!r->nl)
		return -EBADF;
	port = mnl_socket_get_portid(r->nl);
	q->nlh->nlmsg_seq = ++r->seq;
	if (mnl_socket_sendto(r->nl, q->nlh, q->nlh->nlmsg_len) < 0)
		return -errno;
	while (ret > MNL_CB_STOP)
		ret = netlink_answer(mnl_socket_get_fd(r->nl), buf, sizeof(buf), r->seq, port, fn, owner);
	return ret < 0 ? -errno : 0;
}

/*
 * A table that changes while it is listed is listed again, by a fresh socket, because the rest of the old list is still
 * on its way. The last try is taken as it is, for another notice comes.
 */
static int dump(struct rtnl *r, struct request *q, mnl_cb_t fn, struct collected *c)
{
	int ret = -EINTR;

	for (int i = 0; i < DUMP_TRIES && ret == -EINTR; i++) {
		c->count = 0;
		ret = talk(r, q, fn, c);
		if (ret != -EINTR)
			break;
		rtnl_close(r);
		ret = rtnl_open(r);
		if (ret == 0)
			ret = -EINTR;
	}
	return c->failed ? -ENOMEM : ret == -EINTR ? 0 : ret;
}

/* --- links ------------------------------------------------------------------------------------------------------ */

static int on_kind(const struct nlattr *a, void *owner)
{
	struct rtnl_link *link = owner;

	if (mnl_attr_get_type(a) == IFLA_INFO_KIND)
		memcpy(link->kind, mnl_attr_get_payload(a),
		       MIN((size_t)mnl_attr_get_payload_len(a), sizeof(link->kind) - 1));
	return MNL_CB_OK;
}

static int on_link_attribute(const struct nlattr *a, void *owner)
{
	struct rtnl_link *link = owner;
	size_t len = mnl_attr_get_payload_len(a);

	switch (mnl_attr_get_type(a)) {
	case IFLA_IFNAME:
		memcpy(link->name, mnl_attr_get_payload(a), MIN(len, sizeof(link->name) - 1));
		break;
	case IFLA_MASTER:
		link->master = mnl_attr_get_u32(a);
		break;
	case IFLA_LINKINFO:
		return mnl_attr_parse_nested(a, on_kind, link);
	}
	return MNL_CB_OK;
}

static int on_link(const struct nlmsghdr *nlh, void *owner)
{
	const struct ifinfomsg *info = mnl_nlmsg_get_payload(nlh);
	struct rtnl_link *link;

	if (nlh->nlmsg_type != RTM_NEWLINK)
		return MNL_CB_OK;
	link = collect(owner);
	if (!link)
		return MNL_CB_OK;
	link->index = (uint32_t)info->ifi_index;
	link->loopback = info->ifi_type == ARPHRD_LOOPBACK;
	return mnl_attr_parse(nlh, sizeof(*info), on_link_attribute, link);
}

int rtnl_links(struct rtnl *r, struct rtnl_link **out, uint32_t *count)
{
	struct collected c = { .size = sizeof(struct rtnl_link) };
	struct request q;
	int ret;

	request_init(&q, RTM_GETLINK, NLM_F_DUMP, sizeof(struct ifinfomsg));
	ret = dump(r, &q, on_link, &c);
	if (ret < 0) {
		mem_free(c.at);
		return ret;
	}
	*out = c.at;
	*count = c.count;
	return 0;
}

/* --- own addresses ---------------------------------------------------------------------------------------------- */

struct own {
	uint8_t family, prefix;
	uint8_t ip[16];
};

static int on_destination(const struct nlattr *a, void *owner)
{
	struct own *own = owner;

	if (mnl_attr_get_type(a) == RTA_DST)
		memcpy(own->ip, mnl_attr_get_payload(a),
		       MIN((size_t)mnl_attr_get_payload_len(a), sizeof(own->ip)));
	return MNL_CB_OK;
}

/* A local default is not an address of this machine's, but what transparent proxies have. */
static int on_own(const struct nlmsghdr *nlh, void *owner)
{
	const struct rtmsg *rtm = mnl_nlmsg_get_payload(nlh);
	struct own *own;

	if (nlh->nlmsg_type != RTM_NEWROUTE || (rtm->rtm_flags & RTM_F_CLONED) || rtm->rtm_dst_len == 0)
		return MNL_CB_OK;
	if (rtm->rtm_family != AF_INET && rtm->rtm_family != AF_INET6)
		return MNL_CB_OK;
	if (rtm->rtm_type != RTN_LOCAL && rtm->rtm_type != RTN_BROADCAST && rtm->rtm_type != RTN_ANYCAST)
		return MNL_CB_OK;
	own = collect(owner);
	if (!own)
		return MNL_CB_OK;
	own->family = rtm->rtm_family;
	own->prefix = rtm->rtm_dst_len;
	return mnl_attr_parse(nlh, sizeof(*rtm), on_destination, own);
}

int rtnl_own_addresses(struct rtnl *r, rtnl_own_fn fn, void *owner)
{
	static const uint8_t families[] = { AF_INET, AF_INET6 };
	int ret = 0;

	for (size_t i = 0; i < ARRAY_SIZE(families) && ret == 0; i++) {
		struct collected c = { .size = sizeof(struct own) };
		struct request q;
		struct rtmsg *rtm = request_init(&q, RTM_GETROUTE, NLM_F_DUMP, sizeof(*rtm));
		const struct own *at;

		rtm->rtm_family = families[i];
		ret = dump(r, &q, on_own, &c);
		if (ret == -EAFNOSUPPORT || ret == -EOPNOTSUPP)
			ret = 0;
		at = c.at;
		for (uint32_t k = 0; k < c.count && ret == 0; k++)
			fn(owner, at[k].family, at[k].ip, at[k].prefix);
		mem_free(c.at);
	}
	return ret;
}

/* --- rules and routes ------------------------------------------------------------------------------------------- */

int rtnl_rule(struct rtnl *r, bool add, int family, uint32_t pref, uint32_t mark, uint32_t table)
{
	struct request q;
	struct fib_rule_hdr *rule = request_init(&q, add ? RTM_NEWRULE : RTM_DELRULE,
						 NLM_F_ACK | (add ? NLM_F_CREATE | NLM_F_EXCL : 0), sizeof(*rule));

	rule->family = (uint8_t)family;
	rule->action = FR_ACT_TO_TBL;
	mnl_attr_put_u32(q.nlh, FRA_PRIORITY, pref);
	mnl_attr_put_u32(q.nlh, FRA_FWMARK, mark);
	mnl_attr_put_u32(q.nlh, FRA_FWMASK, UINT32_MAX);
	mnl_attr_put_u32(q.nlh, FRA_TABLE, table);
	mnl_attr_put_u8(q.nlh, FRA_PROTOCOL, PROTOCOL);
	return talk(r, &q, NULL, NULL);
}

int rtnl_local_default(struct rtnl *r, bool add, int family, uint32_t table)
{
	struct request q;
	struct rtmsg *rtm = request_init(&q, add ? RTM_NEWROUTE : RTM_DELROUTE,
					 NLM_F_ACK | (add ? NLM_F_CREATE | NLM_F_EXCL : 0), sizeof(*rtm));

	rtm->rtm_family = (uint8_t)family;
	rtm->rtm_protocol = PROTOCOL;
	rtm->rtm_type = RTN_LOCAL;
	rtm->rtm_scope = RT_SCOPE_HOST;
	mnl_attr_put_u32(q.nlh, RTA_TABLE, table);
	mnl_attr_put_u32(q.nlh, RTA_OIF, if_nametoindex("lo"));
	return talk(r, &q, NULL, NULL);
}

/* --- traffic control -------------------------------------------------------------------------------------------- */

static int on_qdisc_kind(const struct nlattr *a, void *owner)
{
	bool *clsact = owner;

	if (mnl_attr_get_type(a) == TCA_KIND)
		*clsact = strcmp(mnl_attr_get_str(a), "clsact") == 0;
	return MNL_CB_OK;
}

static int on_qdisc(const struct nlmsghdr *nlh, void *owner)
{
	const struct tcmsg *tc = mnl_nlmsg_get_payload(nlh);
	bool clsact = false;
	uint32_t *index;

	if (nlh->nlmsg_type != RTM_NEWQDISC)
		return MNL_CB_OK;
	mnl_attr_parse(nlh, sizeof(*tc), on_qdisc_kind, &clsact);
	index = clsact ? collect(owner) : NULL;
	if (index)
		*index = (uint32_t)tc->tcm_ifindex;
	return MNL_CB_OK;
}

int rtnl_clsacts(struct rtnl *r, uint32_t **out, uint32_t *count)
{
	struct collected c = { .size = sizeof(uint32_t) };
	struct request q;
	int ret;

	request_init(&q, RTM_GETQDISC, NLM_F_DUMP, sizeof(struct tcmsg));
	ret = dump(r, &q, on_qdisc, &c);
	if (ret < 0) {
		mem_free(c.at);
		return ret;
	}
	*out = c.at;
	*count = c.count;
	return 0;
}

static int on_filter_option(const struct nlattr *a, void *owner)
{
	struct rtnl_filter *filter = owner;

	if (mnl_attr_get_type(a) == TCA_BPF_NAME)
		memcpy(filter->program, mnl_attr_get_payload(a),
		       MIN((size_t)mnl_attr_get_payload_len(a), sizeof(filter->program) - 1));
	return MNL_CB_OK;
}

struct filter_attributes {
	const char *kind;
	const struct nlattr *options;
};

static int on_filter_attribute(const struct nlattr *a, void *owner)
{
	struct filter_attributes *found = owner;

	if (mnl_attr_get_type(a) == TCA_KIND)
		found->kind = mnl_attr_get_str(a);
	else if (mnl_attr_get_type(a) == TCA_OPTIONS)
		found->options = a;
	return MNL_CB_OK;
}

/* A chain without filters is listed, too: with no handle. */
static int on_filter(const struct nlmsghdr *nlh, void *owner)
{
	const struct tcmsg *tc = mnl_nlmsg_get_payload(nlh);
	struct filter_attributes found = { NULL, NULL };
	struct rtnl_filter *filter;

	if (nlh->nlmsg_type != RTM_NEWTFILTER || !tc->tcm_handle)
		return MNL_CB_OK;
	filter = collect(owner);
	if (!filter)
		return MNL_CB_OK;
	filter->priority = tc->tcm_info >> 16;
	filter->handle = tc->tcm_handle;
	filter->ingress = tc->tcm_parent == TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS);
	mnl_attr_parse(nlh, sizeof(*tc), on_filter_attribute, &found);
	if (found.kind && strcmp(found.kind, "bpf") == 0 && found.options)
		mnl_attr_parse_nested(found.options, on_filter_option, filter);
	return MNL_CB_OK;
}

int rtnl_filters(struct rtnl *r, uint32_t ifindex, struct rtnl_filter **out, uint32_t *count)
{
	static const uint32_t parents[] = { TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS),
					    TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_EGRESS) };
	struct collected both = { .size = sizeof(struct rtnl_filter) };
	int ret = 0;

	for (size_t i = 0; i < ARRAY_SIZE(parents) && ret == 0; i++) {
		struct collected c = { .size = sizeof(struct rtnl_filter) };
		struct request q;
		struct tcmsg *tc = request_init(&q, RTM_GETTFILTER, NLM_F_DUMP, sizeof(*tc));

		tc->tcm_ifindex = (int)ifindex;
		tc->tcm_parent = parents[i];
		ret = dump(r, &q, on_filter, &c);
		for (uint32_t k = 0; k < c.count && ret == 0; k++) {
			struct rtnl_filter *to = collect(&both);

			if (to)
				*to = ((struct rtnl_filter *)c.at)[k];
		}
		mem_free(c.at);
	}
	if (ret == 0 && both.failed)
		ret = -ENOMEM;
	if (ret < 0) {
		mem_free(both.at);
		return ret;
	}
	*out = both.at;
	*count = both.count;
	return 0;
}
