/* SPDX-License-Identifier: MIT */
/*
 * The façade: loads the programs, attaches them in an order in which no rewritten connection can miss its counterpart,
 * keeps the routes current, hands out origins. Policy is in steer_policy.c.
 */
#include "steer/steer.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "steer/cgroup.h"
#include "steer/hook_owner.h"
#include "steer/libbpf_log.h"
#include "steer/netns.h"
#include "steer/route.h"
#include "steer/steer_state.h"

#define OWN_MARK 0x6d627066u         /* "mbpf" */

static int explain_load(int code, struct err *e)
{
	if (access("/sys/kernel/btf/vmlinux", R_OK) < 0)
		return err_set(e, -ENOENT, "the kernel describes no types (/sys/kernel/btf/vmlinux is missing); "
			       "interception needs Linux 5.15 or newer with CONFIG_DEBUG_INFO_BTF, as distributions");
	if (code == -EPERM)
		return err_set(e, code, "the kernel refused to load BPF programs; run as root, or with the "
			       "capabilities CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON (see mitm-bpf doctor)");
	if (code == -ENOMEM)
		return err_set(e, code, "no memory for the BPF maps (about 40 MiB); raise the cgroup's or, before "
			       "Linux 5.11, the memlock limit (ulimit -l unlimited)");
	return err_set(e, code, "the BPF programs cannot be loaded: %s; mitm-bpf doctor tells what this kernel lacks",
		       strerror(-code));
}

static int load(struct steer *s, struct err *e)
{
	LIBBPF_OPTS(bpf_test_run_opts, run);
	int ret;

	ret = steer_bpf__load(s->skel);
	if (ret < 0)
		return explain_load(ret, e);
	ret = bpf_prog_test_run_opts(bpf_program__fd(s->skel->progs.mb_whoami), &run);
	if (ret < 0)
		return err_set(e, -errno, "the kernel cannot run a BPF program on request: %m; Linux 5.15 is needed");
	s->self_tgid = s->skel->bss->self_tgid;
	s->private_pids = s->self_tgid != (uint32_t)getpid();
	return 0;
}

static int watch_fd(const struct steer *s, int fd, struct err *e)
{
	struct epoll_event event = { .events = EPOLLIN };

	if (epoll_ctl(s->poll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
		return err_set(e, -errno, "cannot watch a descriptor: %m");
	return 0;
}

static int open_poll(struct steer *s, struct err *e)
{
	s->poll_fd = epoll_create1(EPOLL_CLOEXEC);
	s->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (s->poll_fd < 0 || s->timer_fd < 0)
		return err_set(e, -errno, "cannot create a timer: %m");
	return watch_fd(s, s->timer_fd, e);
}

/* The programs that see every process of the machine have to know whose connections are looked at. */
static int know_cgroup(struct steer *s, struct err *e)
{
	uint32_t zero = 0;

	if (bpf_map_update_elem(steer_map(s->skel->maps.mb_cgroup), &zero, &s->cgroup_fd, BPF_ANY) < 0)
		return err_set(e, -errno, "cannot tell the kernel which cgroup is steered: %m");
	return 0;
}

int steer_open(struct steer **out, const struct steer_options *options, struct err *e)
{
	struct steer *s = mem_zalloc(sizeof(*s));
	int ret;

	if (!s)
		return err_set(e, -ENOMEM, "no memory for steering");
	s->cgroup_fd = s->route_fd = s->timer_fd = s->poll_fd = -1;
	libbpf_log_init();
	if (options && options->cgroup) {
		s->cgroup = mem_strndup(options->cgroup, strlen(options->cgroup));
		if (!s->cgroup) {
			ret = err_set(e, -ENOMEM, "no memory for steering");
			goto out;
		}
	}
	ret = s->cgroup_fd = cgroup_open(s->cgroup, e);
	if (ret < 0)
		goto out;
	s->skel = steer_bpf__open();
	if (!s->skel) {
		ret = explain_load(-errno, e);
		goto out;
	}
	s->skel->rodata->steer_loopback = options && options->loopback;
	s->skel->rodata->steer_own_mark = OWN_MARK;
	s->skel->rodata->steer_fail_closed = options && options->fail_closed;
	steer_udp_prepare(s, options);
	ret = load(s, e);
	if (ret == 0)
		ret = open_poll(s, e);
	if (ret == 0)
		*out = s;
out:
	if (ret < 0)
		steer_free(s);
	return ret;
}

static void detach(struct steer *s, enum steer_link first, enum steer_link end)
{
	for (int i = end - 1; i >= (int)first; i--) {
		steer_unpin(s, i);
		bpf_link__destroy(s->links[i]);
		s->links[i] = NULL;
	}
	if (first == 0)
		steer_unpin_all(s);
}

void steer_free(struct steer *s)
{
	if (!s)
		return;
	detach(s, 0, LINKS);
	namespaces_free(s->namespaces);
	mem_free(s->routes.routes);
	steer_bpf__destroy(s->skel);
	if (s->cgroup_fd >= 0)
		close(s->cgroup_fd);
	if (s->route_fd >= 0)
		close(s->route_fd);
	if (s->timer_fd >= 0)
		close(s->timer_fd);
	if (s->poll_fd >= 0)
		close(s->poll_fd);
	intercept_spec_free(s->spec);
	mem_free(s->policy);
	mem_free(s->cgroup);
	mem_free(s);
}

int steer_set_endpoint(struct steer *s, uint16_t tcp4_port, uint16_t tcp6_port, struct err *e)
{
	struct steer_endpoint ep = { .tcp4 = htons(tcp4_port), .tcp6 = htons(tcp6_port) };
	int ret;

	ret = netns_cookie(&s->netns, e);
	if (ret < 0)
		return ret;
	s->routes.netns = s->skel->bss->home_netns = s->netns;
	if (s->route_fd < 0) {
		ret = s->route_fd = route_monitor_open(e);
		if (ret >= 0)
			ret = watch_fd(s, s->route_fd, e);
	}
	if (ret >= 0)
		ret = route_map_update(&s->routes, steer_map(s->skel->maps.mb_route), e);
	if (ret < 0)
		return ret;
	if (bpf_map_update_elem(steer_map(s->skel->maps.mb_ep), &s->netns, &ep, BPF_ANY) < 0)
		return err_set(e, -errno, "cannot tell the kernel where to steer: %m");
	return 0;
}

int steer_serve_namespaces(struct steer *s, const struct steer_netns_ops *ops, struct err *e)
{
	const struct namespaces_config config = {
		.ops = ops,
		.ep_map = steer_map(s->skel->maps.mb_ep),
		.route_map = steer_map(s->skel->maps.mb_route),
		.asked_map = steer_map(s->skel->maps.mb_asked),
		.events_map = steer_map(s->skel->maps.mb_ev),
		.mark = OWN_MARK,
		.private_pids = s->private_pids,
		.groups_fd = s->timer_fd,
	};
	int ret = namespaces_new(&s->namespaces, &config, e);

	return ret < 0 ? ret : watch_fd(s, namespaces_fd(s->namespaces), e);
}

int steer_netns_socket(struct steer *s, uint64_t netns, uint8_t family, bool dgram)
{
	return s->namespaces ? namespaces_socket(s->namespaces, netns, family, dgram) : -ENETDOWN;
}

bool steer_netns_state(struct steer *s, uint32_t inode, struct namespace_state *out)
{
	return s->namespaces && namespaces_state(s->namespaces, inode, out);
}

int steer_exclude_port(struct steer *s, uint16_t port, struct err *e)
{
	uint32_t n = s->skel->bss->own_ports_count;

	for (uint32_t i = 0; i < n; i++)
		if (s->skel->bss->own_ports[i] == htons(port))
			return 0;
	if (n == STEER_OWN_PORTS_MAX)
		return err_set(e, -E2BIG, "the proxy can have at most %d listening ports beside steering",
			       STEER_OWN_PORTS_MAX);
	s->skel->bss->own_ports[n] = htons(port);
	__atomic_store_n(&s->skel->bss->own_ports_count, n + 1, __ATOMIC_RELEASE);
	return 0;
}

int steer_fd(const struct steer *s)
{
	return s->poll_fd;
}

/*
 * Groups of services are removed when they stop, and made anew when they start: whoever named one means that, too.
 * Until then the programs stay where they are, for sockets that were made in the old group and live on.
 */
static void look_after_cgroup(struct steer *s)
{
	struct err e = { 0 };
	int fd;

	if (s->cgroup && !s->cgroup_lost && s->links[LINK_CONNECT4] &&
	    faccessat(s->cgroup_fd, "cgroup.procs", F_OK, 0) < 0) {
		log_line(LOG_WARN, "steer", "the cgroup %s was removed: nobody is intercepted until there is one of "
			 "that name again", s->cgroup);
		s->cgroup_lost = true;
	}
	fd = s->cgroup_lost ? cgroup_open(s->cgroup, &e) : -1;
	if (fd < 0)
		return;
	detach(s, 0, LINKS);
	close(s->cgroup_fd);
	s->cgroup_fd = fd;
	if (steer_attach(s, &e) < 0) {
		log_line(LOG_WARN, "steer", "%s", e.text);
		return;
	}
	s->cgroup_lost = false;
	log_line(LOG_WARN, "steer", "the cgroup %s is there again, and intercepted", s->cgroup);
}

void steer_poll(struct steer *s)
{
	struct err e;

	if (s->namespaces)
		namespaces_poll(s->namespaces);
	if (s->route_fd >= 0 && route_monitor_drain(s->route_fd) &&
	    route_map_update(&s->routes, steer_map(s->skel->maps.mb_route), &e) < 0)
		log_line(LOG_WARN, "steer", "reachability may be out of date: %s", e.text);
	look_after_cgroup(s);
	steer_policy_poll(s);
}

struct bpf_program *steer_program(const struct steer *s, enum steer_link link)
{
	struct bpf_program *const programs[LINKS] = {
		[LINK_FORK] = s->skel->progs.mb_fork,
		[LINK_EXEC] = s->skel->progs.mb_exec,
		[LINK_EXIT] = s->skel->progs.mb_exit,
		[LINK_MKDIR] = s->skel->progs.mb_mkdir,
		[LINK_PEERNAME4] = s->skel->progs.mb_peername4,
		[LINK_PEERNAME6] = s->skel->progs.mb_peername6,
		[LINK_SOCKNAME4] = s->skel->progs.mb_sockname4,
		[LINK_SOCKNAME6] = s->skel->progs.mb_sockname6,
		[LINK_SOCKOPS] = s->skel->progs.mb_sockops,
		[LINK_RECVMSG4] = s->skel->progs.mb_recvmsg4,
		[LINK_RECVMSG6] = s->skel->progs.mb_recvmsg6,
		[LINK_RELEASE] = s->skel->progs.mb_release,
		[LINK_SENDMSG4] = s->skel->progs.mb_sendmsg4,
		[LINK_SENDMSG6] = s->skel->progs.mb_sendmsg6,
		[LINK_CONNECT4] = s->skel->progs.mb_connect4,
		[LINK_CONNECT6] = s->skel->progs.mb_connect6,
	};

	return programs[link];
}

/* Returns 0, or -errno and no sentence. */
static int attach_one(struct steer *s, enum steer_link link)
{
	struct bpf_program *program = steer_program(s, link);

	s->links[link] = link <= LINK_MKDIR ? bpf_program__attach(program) :
					     bpf_program__attach_cgroup(program, s->cgroup_fd);
	return s->links[link] ? 0 : -errno;
}

int steer_attach(struct steer *s, struct err *e)
{
	struct err why = { 0 };
	int ret = know_cgroup(s, e);

	if (ret < 0)
		return ret;
	for (int i = LINK_FORK; i <= LINK_EXIT && ret == 0; i++)
		ret = s->links[i] ? 0 : attach_one(s, i);
	s->following = ret == 0;
	if (ret == 0)
		ret = steer_policy_walk(s, &why);
	else
		err_set(&why, ret, "tracepoints cannot be attached (%s)", strerror(-ret));
	if (ret < 0)
		log_line(LOG_WARN, "steer", "children of selected processes are not followed: %s", why.text);
	if (!s->links[LINK_MKDIR] && attach_one(s, LINK_MKDIR) < 0)
		log_line(LOG_DEBUG, "steer", "new cgroups are looked for once a second");
	for (int i = LINK_PEERNAME4; i < LINKS; i++) {
		if (i == LINK_CONNECT4)
			steer_take_over(s);
		if (!steer_udp_wants(s, i))
			continue;
		ret = s->links[i] ? 0 : attach_one(s, i);
		if (ret == 0)
			continue;
		detach(s, 0, LINKS);
		s->following = false;
		return hook_owner_explain(s->cgroup_fd, s->cgroup, steer_program(s, i), ret, e);
	}
	ret = steer_pin(s, e);
	if (ret < 0) {
		detach(s, 0, LINKS);
		return ret;
	}
	s->skel->bss->steering = true;
	steer_policy_look_ahead(s);
	return 0;
}

void steer_detach_new(struct steer *s)
{
	s->cgroup_lost = false;
	s->skel->bss->steering = false;
	detach(s, LINK_CONNECT4, LINKS);
}

static bool tuple_of(struct steer_tuple *tuple, const struct sockaddr *peer)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)peer;
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)peer;

	if (peer->sa_family == AF_INET) {
		tuple->family = AF_INET;
		tuple->port = v4->sin_port;
		memcpy(tuple->ip, &v4->sin_addr, 4);
	} else if (peer->sa_family == AF_INET6 && memcmp(&v6->sin6_addr, mapped, sizeof(mapped)) == 0) {
		tuple->family = AF_INET;
		tuple->port = v6->sin6_port;
		memcpy(tuple->ip, v6->sin6_addr.s6_addr + 12, 4);
	} else if (peer->sa_family == AF_INET6) {
		tuple->family = AF_INET6;
		tuple->port = v6->sin6_port;
		memcpy(tuple->ip, &v6->sin6_addr, 16);
	} else {
		return false;
	}
	return true;
}

void steer_origin_of(struct steer *s, const struct steer_orig *orig, struct steer_origin *out)
{
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&out->dst;
	struct sockaddr_in *v4 = (struct sockaddr_in *)&out->dst;
	struct steer_proc proc;

	*out = (struct steer_origin){
		.pid = orig->tgid,
		.uid = orig->uid,
		.cgroup_id = orig->cgroup_id,
		.time_ns = orig->time_ns,
		.bound_if = orig->bound_if,
		.loopback = orig->flags & STEER_ORIG_LOOPBACK,
	};
	memcpy(out->comm, orig->comm, sizeof(out->comm));
	out->comm[sizeof(out->comm) - 1] = 0;
	if (orig->family == AF_INET) {
		v4->sin_family = AF_INET;
		v4->sin_port = orig->port;
		memcpy(&v4->sin_addr, orig->dst, sizeof(v4->sin_addr));
	} else {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = orig->port;
		memcpy(&v6->sin6_addr, orig->dst, sizeof(v6->sin6_addr));
	}
	if (bpf_map_lookup_elem(steer_map(s->skel->maps.mb_proc), &orig->tgid, &proc) == 0 &&
	    proc.start == orig->start && proc.exec_id == orig->exec_id)
		snprintf(out->exe, sizeof(out->exe), "%.*s", (int)sizeof(proc.path) - 1, proc.path);
}

bool steer_take_origin(struct steer *s, uint64_t netns, const struct sockaddr *peer, struct steer_origin *out)
{
	struct steer_tuple tuple = { .netns = netns ? netns : s->netns };
	struct steer_orig orig;

	if (!tuple_of(&tuple, peer) ||
	    bpf_map_lookup_and_delete_elem(steer_map(s->skel->maps.mb_conn), &tuple, &orig) < 0)
		return false;
	steer_origin_of(s, &orig, out);
	return true;
}

bool steer_may_look(struct steer *s)
{
	struct steer_tuple none = { 0 };
	struct steer_orig orig;

	return bpf_map_lookup_elem(steer_map(s->skel->maps.mb_conn), &none, &orig) == 0 || errno != EPERM;
}

bool steer_pids_are_private(const struct steer *s)
{
	return s->private_pids;
}

uint32_t steer_mark(void)
{
	return OWN_MARK;
}

const char *steer_reason_name(enum steer_reason reason)
{
	static const char *const names[STEER_REASONS] = {
		[STEER_STEERED] = "steered",
		[STEER_DIRECT_SELF] = "direct-self",
		[STEER_DIRECT_CHILD] = "direct-child",
		[STEER_DIRECT_MARK] = "direct-mark",
		[STEER_DIRECT_LOCAL] = "direct-local",
		[STEER_DIRECT_OWN_PORT] = "direct-own-port",
		[STEER_DIRECT_UNSELECTED] = "direct-unselected",
		[STEER_DIRECT_NO_ENDPOINT] = "direct-no-endpoint",
		[STEER_DIRECT_NO_ROUTE] = "direct-no-route",
		[STEER_DIRECT_FOREIGN] = "direct-foreign-source",
		[STEER_DIRECT_NO_MEMORY] = "direct-no-memory",
		[STEER_DIRECT_BOUND] = "direct-bound-device",
		[STEER_EVALUATED] = "evaluated",
		[STEER_EVALUATE_BUSY] = "evaluate-busy",
		[STEER_TREE_FULL] = "tree-full",
		[STEER_CONN_LOST] = "connection-lost",
		[STEER_DIRECT_BYPASS] = "direct-ignored",
		[STEER_DIRECT_SPARED] = "direct-spared",
		[STEER_DIRECT_STALLED] = "direct-stalled",
		[STEER_REFUSED] = "refused",
		[STEER_EVENT_LOST] = "event-lost",
		[STEER_UDP_STEERED] = "udp-steered",
		[STEER_UDP_FULL] = "udp-full",
		[STEER_DIRECT_UDP_PORT] = "direct-udp-port",
		[STEER_DIRECT_UDP_BOUND] = "direct-udp-bound-device",
		[STEER_QUIC_BLOCKED] = "quic-blocked",
	};

	return names[reason];
}

void steer_stats(struct steer *s, struct steer_stat out[STEER_REASONS])
{
	int cpus = libbpf_num_possible_cpus();
	uint64_t *counts = cpus > 0 ? mem_zalloc((size_t)cpus * sizeof(*counts)) : NULL;

	for (uint32_t i = 0; i < STEER_REASONS; i++) {
		out[i] = (struct steer_stat){ .name = steer_reason_name(i) };
		if (!counts || bpf_map_lookup_elem(steer_map(s->skel->maps.mb_stat), &i, counts) < 0)
			continue;
		for (int cpu = 0; cpu < cpus; cpu++)
			out[i].count += counts[cpu];
	}
	mem_free(counts);
}
