/* SPDX-License-Identifier: MIT */
/*
 * What forwarded traffic, datagrams and connections that are there already need: packet hooks, transparent sockets,
 * routes by mark, sockets' options. Tried in a network namespace of its own, by a child, which writes into shared
 * memory.
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fib_rules.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/inet_diag.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/tls.h>
#include <linux/veth.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "steer/netlink.h"
#include "steer/probe_parts.h"

#define VETH "mbprobe0"
#define VETH_PEER "mbprobe1"
#define TABLE 4711
#define MARK 1
#define TCX_INGRESS 46               /* BPF_TCX_INGRESS, Linux 6.6 */
#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20              /* Linux 6.2 */
#define TUN_F_USO6 0x40
#endif

/* Each returns 0, or -errno; text: what was found, or where it failed. */
typedef int (*try_fn)(char text[static PROBE_DETAIL_MAX]);

static int failed(char text[static PROBE_DETAIL_MAX], const char *where)
{
	int ret = errno ? -errno : -EINVAL;

	snprintf(text, PROBE_DETAIL_MAX, "%s: %s", where, strerror(-ret));
	return ret;
}

/* --- netlink ---------------------------------------------------------------------------------------------------- */

/* One request that is acknowledged. Returns 0 or -errno. */
static int talk(int bus, struct nlmsghdr *nlh)
{
	struct mnl_socket *nl = mnl_socket_open2(bus, SOCK_CLOEXEC);
	_Alignas(struct nlmsghdr) char answer[8192];
	int ret = -1;

	nlh->nlmsg_flags |= NLM_F_REQUEST | NLM_F_ACK;
	if (nl && mnl_socket_bind(nl, 0, MNL_SOCKET_AUTOPID) == 0 &&
	    mnl_socket_sendto(nl, nlh, nlh->nlmsg_len) >= 0)
		ret = netlink_answer(mnl_socket_get_fd(nl), answer, sizeof(answer), 0, mnl_socket_get_portid(nl), NULL,
				     NULL);
	ret = ret < 0 ? -errno : 0;
	if (nl)
		mnl_socket_close(nl);
	return ret;
}

static int make_veth(void)
{
	_Alignas(struct nlmsghdr) char buf[1024] = { 0 };
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct nlattr *info, *data, *peer;

	nlh->nlmsg_type = RTM_NEWLINK;
	nlh->nlmsg_flags = NLM_F_CREATE | NLM_F_EXCL;
	mnl_nlmsg_put_extra_header(nlh, sizeof(struct ifinfomsg));
	mnl_attr_put_strz(nlh, IFLA_IFNAME, VETH);
	info = mnl_attr_nest_start(nlh, IFLA_LINKINFO);
	mnl_attr_put_strz(nlh, IFLA_INFO_KIND, "veth");
	data = mnl_attr_nest_start(nlh, IFLA_INFO_DATA);
	peer = mnl_attr_nest_start(nlh, VETH_INFO_PEER);
	mnl_nlmsg_put_extra_header(nlh, sizeof(struct ifinfomsg));
	mnl_attr_put_strz(nlh, IFLA_IFNAME, VETH_PEER);
	mnl_attr_nest_end(nlh, peer);
	mnl_attr_nest_end(nlh, data);
	mnl_attr_nest_end(nlh, info);
	return talk(NETLINK_ROUTE, nlh);
}

static int add_rule(uint8_t family)
{
	_Alignas(struct nlmsghdr) char buf[512] = { 0 };
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct fib_rule_hdr *rule;

	nlh->nlmsg_type = RTM_NEWRULE;
	nlh->nlmsg_flags = NLM_F_CREATE | NLM_F_EXCL;
	rule = mnl_nlmsg_put_extra_header(nlh, sizeof(*rule));
	rule->family = family;
	rule->action = FR_ACT_TO_TBL;
	mnl_attr_put_u32(nlh, FRA_FWMARK, MARK);
	mnl_attr_put_u32(nlh, FRA_TABLE, TABLE);
	return talk(NETLINK_ROUTE, nlh);
}

static int add_local_route(uint8_t family)
{
	_Alignas(struct nlmsghdr) char buf[512] = { 0 };
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct rtmsg *route;

	nlh->nlmsg_type = RTM_NEWROUTE;
	nlh->nlmsg_flags = NLM_F_CREATE;
	route = mnl_nlmsg_put_extra_header(nlh, sizeof(*route));
	route->rtm_family = family;
	route->rtm_type = RTN_LOCAL;
	route->rtm_scope = family == AF_INET ? RT_SCOPE_HOST : RT_SCOPE_UNIVERSE;
	route->rtm_protocol = RTPROT_STATIC;
	mnl_attr_put_u32(nlh, RTA_TABLE, TABLE);
	mnl_attr_put_u32(nlh, RTA_OIF, 1);       /* lo */
	return talk(NETLINK_ROUTE, nlh);
}

/* --- packet hooks ----------------------------------------------------------------------------------------------- */

/* r0 = result; exit */
static int load_constant(enum bpf_prog_type type, enum bpf_attach_type attach, int result)
{
	const struct bpf_insn insns[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .imm = result },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	LIBBPF_OPTS(bpf_prog_load_opts, opts, .expected_attach_type = attach);

	return bpf_prog_load(type, "mb_probe", "Dual MIT/GPL", insns, ARRAY_SIZE(insns), &opts);
}

static int try_tc(char text[static PROBE_DETAIL_MAX])
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)if_nametoindex(VETH), .attach_point = BPF_TC_INGRESS);
	LIBBPF_OPTS(bpf_tc_opts, opts);
	int link, ret;

	opts.prog_fd = load_constant(BPF_PROG_TYPE_SCHED_CLS, 0, 0);
	if (opts.prog_fd < 0)
		return failed(text, "loading");
	link = bpf_link_create(opts.prog_fd, hook.ifindex, (enum bpf_attach_type)TCX_INGRESS, NULL);
	ret = bpf_tc_hook_create(&hook);
	if (ret == 0)
		ret = bpf_tc_attach(&hook, &opts);
	errno = -ret;
	if (ret < 0 && link < 0)
		return failed(text, "attaching");
	if (libbpf_probe_bpf_helper(BPF_PROG_TYPE_SCHED_CLS, BPF_FUNC_sk_assign, NULL) != 1) {
		errno = ENOTSUP;
		return failed(text, "sk_assign");
	}
	snprintf(text, PROBE_DETAIL_MAX, "%s%s%s, sk_assign", link >= 0 ? "tcx" : "", link >= 0 && ret == 0 ? ", " : "",
		 ret == 0 ? "clsact" : "");
	return 0;
}

static int listen_any(struct sockaddr_in *at)
{
	socklen_t len = sizeof(*at);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	*at = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	if (fd < 0 || bind(fd, (struct sockaddr *)at, sizeof(*at)) < 0 || listen(fd, 1) < 0 ||
	    getsockname(fd, (struct sockaddr *)at, &len) < 0)
		return -1;
	return fd;
}

static int try_sockmap(char text[static PROBE_DETAIL_MAX])
{
	int map = bpf_map_create(BPF_MAP_TYPE_SOCKMAP, "mb_probe", 4, 8, 1, NULL), key = 0;
	struct sockaddr_in at;
	uint64_t fd = (uint64_t)listen_any(&at);

	if (map < 0)
		return failed(text, "making the map");
	if (bpf_map_update_elem(map, &key, &fd, BPF_ANY) < 0)
		return failed(text, "a listener in it");
	snprintf(text, PROBE_DETAIL_MAX, "holds listeners");
	return 0;
}

static int try_sk_lookup(char text[static PROBE_DETAIL_MAX])
{
	int fd = load_constant(BPF_PROG_TYPE_SK_LOOKUP, BPF_SK_LOOKUP, 1);
	int netns = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return failed(text, "loading");
	if (bpf_link_create(fd, netns, BPF_SK_LOOKUP, NULL) < 0)
		return failed(text, "attaching");
	snprintf(text, PROBE_DETAIL_MAX, "attached to a network namespace");
	return 0;
}

static int try_xdp(char text[static PROBE_DETAIL_MAX])
{
	int fd = load_constant(BPF_PROG_TYPE_XDP, BPF_XDP, XDP_PASS), index = (int)if_nametoindex(VETH), ret;
	bool native;

	if (fd < 0)
		return failed(text, "loading");
	native = bpf_xdp_attach(index, fd, XDP_FLAGS_DRV_MODE, NULL) == 0;
	if (native)
		bpf_xdp_detach(index, XDP_FLAGS_DRV_MODE, NULL);
	ret = bpf_xdp_attach(index, fd, XDP_FLAGS_SKB_MODE, NULL);
	errno = -ret;
	if (ret < 0 && !native)
		return failed(text, "attaching");
	snprintf(text, PROBE_DETAIL_MAX, "%s%s%s, on a veth", native ? "native" : "", native && ret == 0 ? ", " : "",
		 ret == 0 ? "generic" : "");
	return 0;
}

/* --- sockets and routes ----------------------------------------------------------------------------------------- */

static int try_transparent(char text[static PROBE_DETAIL_MAX])
{
	int v4 = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), v6 = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int one = 1;

	if (setsockopt(v4, IPPROTO_IP, IP_TRANSPARENT, &one, sizeof(one)) < 0)
		return failed(text, "IPv4");
	if (v6 >= 0 && setsockopt(v6, IPPROTO_IPV6, IPV6_TRANSPARENT, &one, sizeof(one)) < 0)
		return failed(text, "IPv6");
	snprintf(text, PROBE_DETAIL_MAX, "IPv4%s", v6 >= 0 ? ", IPv6" : "; there is no IPv6");
	return 0;
}

static int try_routes(char text[static PROBE_DETAIL_MAX])
{
	static const uint8_t families[] = { AF_INET, AF_INET6 };

	for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
		errno = -add_rule(families[i]);
		if (errno)
			return failed(text, i ? "a rule by mark, IPv6" : "a rule by mark");
		errno = -add_local_route(families[i]);
		if (errno)
			return failed(text, i ? "a local route, IPv6" : "a local route");
	}
	snprintf(text, PROBE_DETAIL_MAX, "rules by mark, local routes");
	return 0;
}

/* A connection to ourselves. Returns the client's end. */
static int connected(void)
{
	struct sockaddr_in at;
	int listener = listen_any(&at), fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (listener < 0 || connect(fd, (struct sockaddr *)&at, sizeof(at)) < 0)
		return -1;
	return fd;
}

static int try_destroy(char text[static PROBE_DETAIL_MAX])
{
	_Alignas(struct nlmsghdr) char buf[512] = { 0 };
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct inet_diag_req_v2 *request;
	struct sockaddr_in here, there;
	socklen_t len = sizeof(here);
	int fd = connected();

	if (fd < 0 || getsockname(fd, (struct sockaddr *)&here, &len) < 0 ||
	    getpeername(fd, (struct sockaddr *)&there, &len) < 0)
		return failed(text, "a connection to destroy");
	nlh->nlmsg_type = SOCK_DESTROY;
	request = mnl_nlmsg_put_extra_header(nlh, sizeof(*request));
	*request = (struct inet_diag_req_v2){ .sdiag_family = AF_INET, .sdiag_protocol = IPPROTO_TCP,
					      .idiag_states = ~0u };
	request->id.idiag_sport = here.sin_port;
	request->id.idiag_dport = there.sin_port;
	request->id.idiag_src[0] = here.sin_addr.s_addr;
	request->id.idiag_dst[0] = there.sin_addr.s_addr;
	request->id.idiag_cookie[0] = request->id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
	errno = -talk(NETLINK_SOCK_DIAG, nlh);
	if (errno)
		return failed(text, "SOCK_DESTROY");
	snprintf(text, PROBE_DETAIL_MAX, "a connection of ours was destroyed");
	return 0;
}

static int try_ktls(char text[static PROBE_DETAIL_MAX])
{
	int fd = connected();

	if (fd < 0 || setsockopt(fd, IPPROTO_TCP, TCP_ULP, "tls", sizeof("tls")) < 0)
		return failed(text, "TCP_ULP tls");
	snprintf(text, PROBE_DETAIL_MAX, "is there (nothing uses it today)");
	return 0;
}

static int try_udp(char text[static PROBE_DETAIL_MAX])
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), size = 1200, one = 1;

	if (setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &size, sizeof(size)) < 0)
		return failed(text, "UDP_SEGMENT");
	if (setsockopt(fd, IPPROTO_UDP, UDP_GRO, &one, sizeof(one)) < 0)
		return failed(text, "UDP_GRO");
	snprintf(text, PROBE_DETAIL_MAX, "UDP_SEGMENT, UDP_GRO");
	return 0;
}

static int try_tun(char text[static PROBE_DETAIL_MAX])
{
	struct ifreq request = { .ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE };
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	unsigned long tcp = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6, udp = tcp | TUN_F_USO4 | TUN_F_USO6;
	bool uso;

	if (fd < 0)
		return failed(text, "/dev/net/tun");
	if (ioctl(fd, TUNSETIFF, &request) < 0)
		return failed(text, "a device");
	uso = ioctl(fd, TUNSETOFFLOAD, udp) == 0;
	if (!uso && ioctl(fd, TUNSETOFFLOAD, tcp) < 0)
		return failed(text, "offloads");
	snprintf(text, PROBE_DETAIL_MAX, "virtual headers, several queues, TSO%s", uso ? ", USO" : " (no USO)");
	return 0;
}

/* --- all of them, elsewhere ------------------------------------------------------------------------------------- */

#define FORWARDED "forwarded traffic (tc, transparent mode) is not intercepted"

static const struct traffic_probe {
	struct probe_advice advice;
	try_fn fn;
	bool needs_veth;
} probes[] = {
	{ { false, "tc ingress, sk_assign", FORWARDED, "use Linux 5.7 or newer with NET_CLS_ACT; " PROBE_PRIVILEGES },
	  try_tc, true },
	{ { false, "listeners in SOCKMAP", FORWARDED " by tc", "use a kernel with CONFIG_BPF_STREAM_PARSER" },
	  try_sockmap, false },
	{ { false, "sk_lookup", "nothing today: tc does the same", "use Linux 5.9 or newer" }, try_sk_lookup, false },
	{ { false, "XDP", "no guard against floods of handshakes for WireGuard (not there yet)", PROBE_PRIVILEGES },
	  try_xdp, true },
	{ { false, "transparent sockets", FORWARDED, "give the capability CAP_NET_ADMIN" }, try_transparent, false },
	{ { false, "routes by mark", FORWARDED, "use a kernel with CONFIG_IP_MULTIPLE_TABLES, for IPv6, too" },
	  try_routes, false },
	{ { false, "SOCK_DESTROY", "--reset-existing cannot break connections that are open: restart those programs",
	    "use a kernel with CONFIG_INET_DIAG_DESTROY" }, try_destroy, false },
	{ { false, "kTLS", "nothing: it is only told", "modprobe tls" }, try_ktls, false },
	{ { false, "UDP GSO and GRO", "datagrams cost more CPU time each", "use Linux 5.0 or newer" }, try_udp, false },
	{ { false, "TUN", "no TUN and WireGuard modes (neither exists yet)",
	    "modprobe tun, and give the process /dev/net/tun" }, try_tun, false },
};

struct outcome {
	int ret;
	char text[PROBE_DETAIL_MAX];
};

static int set_up_network(void)
{
	struct ifreq request = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	int fd, ret = 0;

	if (unshare(CLONE_NEWNET) < 0)
		return -errno;
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &request) < 0)
		ret = -errno;
	if (fd >= 0)
		close(fd);
	return ret;
}

static void try_all(struct outcome *out)
{
	int ret = set_up_network(), veth = ret == 0 ? make_veth() : ret;

	for (size_t i = 0; i < ARRAY_SIZE(probes); i++) {
		out[i].ret = ret ? ret : probes[i].needs_veth ? veth : 0;
		if (out[i].ret)
			snprintf(out[i].text, sizeof(out[i].text), "no %s to try it in: %s", ret ? "network namespace" :
				 "pair of interfaces", strerror(-out[i].ret));
		else
			out[i].ret = probes[i].fn(out[i].text);
	}
}

void probe_traffic(struct probe_list *list)
{
	size_t size = ARRAY_SIZE(probes) * sizeof(struct outcome);
	struct outcome *out = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int status = 1;
	pid_t child;

	if (out == MAP_FAILED)
		return;
	child = fork();
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		try_all(out);
		_exit(0);
	}
	if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status))
		status = 1;
	for (size_t i = 0; i < ARRAY_SIZE(probes); i++) {
		bool tried = status == 0 || out[i].text[0];

		probe_add(list, &probes[i].advice, tried && out[i].ret == 0 ? PROBE_OK : PROBE_DEGRADED, "%s",
			  tried ? out[i].text : "it could not be tried");
	}
	munmap(out, size);
}
