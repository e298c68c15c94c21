/* SPDX-License-Identifier: MIT */
/*
 * The façade: the program and its maps, and which interfaces it is attached to. An interface is followed by its index:
 * through renames, and until it vanishes; one that comes (back) under a name that is wanted is attached to.
 */
#include "steer/tc.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "steer/libbpf_log.h"
#include "steer/route.h"
#include "steer/tc_ghosts.h"
#include "steer/tc_host.h"
#include "tc.skel.h"

#define NO_SLOT UINT32_MAX

struct slot {
	bool used, started;
	struct tc_spec spec;
	uint32_t workers;
};

/* An interface that the program is attached to. */
struct port {
	struct tc_hook hook;
	uint32_t slot;               /* NO_SLOT: its mode was stopped; who is connected goes on */
	char name[IFNAMSIZ];
};

struct tc {
	struct tc_bpf *skel;
	struct bpf_link *again;      /* NULL: before Linux 5.17 */
	struct rtnl rtnl;
	struct tc_host host;
	struct tc_options options;   /* udp_ports: only while it is opened */
	int monitor_fd;
	uint32_t own_serial;
	struct slot slots[TC_SLOTS_MAX];
	struct port *ports;
	uint32_t port_count;
};

static int map_fd(const struct bpf_map *map)
{
	return bpf_map__fd(map);
}

/* --- own addresses ---------------------------------------------------------------------------------------------- */

static void note_own(void *owner, int family, const uint8_t *ip, uint8_t prefix)
{
	struct tc *t = owner;
	struct tc_own_key key = { .prefix_len = prefix };

	if (family == AF_INET) {
		key.prefix_len += 96;
		key.ip[10] = key.ip[11] = 0xff;
		memcpy(key.ip + 12, ip, 4);
	} else {
		memcpy(key.ip, ip, sizeof(key.ip));
	}
	if (bpf_map_update_elem(map_fd(t->skel->maps.mb_tc_own), &key, &t->own_serial, BPF_ANY) < 0)
		log_line(LOG_WARN, "tc", "an address of this machine could not be noted: connections to it may be "
			 "taken: %s", strerror(errno));
}

/* First all that are there, then away with those that are not: none is missing in between. */
static int update_own(struct tc *t)
{
	int map = map_fd(t->skel->maps.mb_tc_own), ret;
	struct tc_own_key key, next;
	uint32_t serial;
	bool more;

	t->own_serial++;
	ret = rtnl_own_addresses(&t->rtnl, note_own, t);
	if (ret < 0)
		return ret;
	more = bpf_map_get_next_key(map, NULL, &next) == 0;
	while (more) {
		key = next;
		more = bpf_map_get_next_key(map, &key, &next) == 0;
		if (bpf_map_lookup_elem(map, &key, &serial) == 0 && serial != t->own_serial)
			bpf_map_delete_elem(map, &key);
	}
	return 0;
}

/* --- clients ---------------------------------------------------------------------------------------------------- */

static struct tc_client_key client_key(uint32_t slot, const struct tc_client *c)
{
	struct tc_client_key key = { .prefix_len = TC_CLIENT_PREFIX(c->prefix), .slot = slot };

	memcpy(key.ip, c->ip, sizeof(key.ip));
	return key;
}

static void forget_clients(struct tc *t, uint32_t slot)
{
	const struct tc_spec *spec = &t->slots[slot].spec;

	for (uint32_t i = 0; i < spec->count; i++) {
		struct tc_client_key key = client_key(slot, &spec->clients[i]);

		bpf_map_delete_elem(map_fd(t->skel->maps.mb_tc_client), &key);
	}
}

static int tell_clients(struct tc *t, uint32_t slot, struct err *e)
{
	const struct tc_spec *spec = &t->slots[slot].spec;

	for (uint32_t i = 0; i < spec->count; i++) {
		struct tc_client_key key = client_key(slot, &spec->clients[i]);
		uint32_t taken = spec->clients[i].taken;

		if (bpf_map_update_elem(map_fd(t->skel->maps.mb_tc_client), &key, &taken, BPF_ANY) < 0)
			return err_set(e, -errno, "cannot tell the kernel whose traffic is meant: %m");
	}
	return 0;
}

/* --- interfaces ------------------------------------------------------------------------------------------------- */

static struct port *find_port(struct tc *t, uint32_t ifindex)
{
	for (uint32_t i = 0; i < t->port_count; i++)
		if (t->ports[i].hook.ifindex == ifindex)
			return &t->ports[i];
	return NULL;
}

static const struct rtnl_link *find_link(const struct rtnl_link *links, uint32_t count, uint32_t index)
{
	for (uint32_t i = 0; i < count; i++)
		if (links[i].index == index)
			return &links[i];
	return NULL;
}

/*
 * What a bridge's port receives is switched; what is routed comes in at the bridge. NULL: it is no such port.
 * (Assigning at the port would do, if bridges that pass by the firewall, as container runtimes set them, did not drop
 * the socket again.)
 */
static const struct rtnl_link *bridge_of(const struct rtnl_link *link, const struct rtnl_link *links, uint32_t count)
{
	const struct rtnl_link *master = link->master ? find_link(links, count, link->master) : NULL;

	if (!master || (strcmp(master->kind, "bridge") != 0 && strcmp(master->kind, "openvswitch") != 0))
		return NULL;
	return master;
}

static bool has_port(const struct tc *t, uint32_t slot)
{
	for (uint32_t i = 0; i < t->port_count; i++)
		if (t->ports[i].slot == slot)
			return true;
	return false;
}

/* What the program shall do there. */
static int tell_interface(struct tc *t, const struct port *port)
{
	struct tc_interface value = { .slot = 0 };

	if (port->slot != NO_SLOT) {
		value.slot = port->slot;
		value.workers = t->slots[port->slot].workers;
		value.others = t->slots[port->slot].spec.others;
	}
	if (bpf_map_update_elem(map_fd(t->skel->maps.mb_tc_if), &port->hook.ifindex, &value, BPF_ANY) < 0)
		return -errno;
	return 0;
}

static void drop_port(struct tc *t, struct port *port)
{
	uint32_t ifindex = port->hook.ifindex;

	tc_hook_detach(&port->hook, &t->rtnl);
	bpf_map_delete_elem(map_fd(t->skel->maps.mb_tc_if), &ifindex);
	*port = t->ports[--t->port_count];
}

static int add_port(struct tc *t, uint32_t slot, const struct rtnl_link *link, struct err *e)
{
	struct port *grown = mem_realloc(t->ports, (t->port_count + 1) * sizeof(*grown)), *port;
	int ret;

	if (!grown)
		return err_set(e, -ENOMEM, "out of memory");
	t->ports = grown;
	port = &t->ports[t->port_count];
	*port = (struct port){ .slot = slot };
	port->hook = (struct tc_hook){ .ifindex = link->index, .priority = tc_host_priority(&t->host), .link_fd = -1 };
	memcpy(port->name, link->name, sizeof(port->name));
	if (tc_hook_is_shared(&t->rtnl, link->index))
		log_line(LOG_WARN, "tc", "Another mitm-bpf takes the traffic of %s, too: what both mean comes to one "
			 "of them alone.", link->name);
	/* Before the program runs there, so that it is not the first packet that finds nothing. */
	ret = tell_interface(t, port);
	if (ret < 0)
		return err_set(e, ret, "cannot tell the kernel about %s: %s", link->name, strerror(-ret));
	ret = tc_hook_attach(&port->hook, &t->rtnl, t->options.how, bpf_program__fd(t->skel->progs.mb_tc), link->name,
			     e);
	if (ret < 0) {
		bpf_map_delete_elem(map_fd(t->skel->maps.mb_tc_if), &link->index);
		return ret;
	}
	t->port_count++;
	log_line(LOG_DEBUG, "tc", "attached to %s by %s", link->name, port->hook.link_fd >= 0 ? "tcx" : "clsact");
	return 0;
}

/* The first mode that wants this interface; one that names a single one keeps that through renames. */
static uint32_t slot_for(const struct tc *t, const struct rtnl_link *link)
{
	for (uint32_t i = 0; i < TC_SLOTS_MAX; i++) {
		const struct slot *s = &t->slots[i];

		if (s->started && !link->loopback && tc_spec_fits(&s->spec, link->name) &&
		    (tc_spec_is_pattern(&s->spec) || !has_port(t, i)))
			return i;
	}
	return NO_SLOT;
}

/* Whoever is gone, or is called otherwise now. */
static void review_ports(struct tc *t, const struct rtnl_link *links, uint32_t count)
{
	for (uint32_t i = t->port_count; i-- > 0;) {
		struct port *port = &t->ports[i];
		const struct rtnl_link *link = find_link(links, count, port->hook.ifindex);

		if (link && strcmp(link->name, port->name) != 0) {
			log_line(LOG_INFO, "tc", "The interface %s is called %s now; its traffic is taken as before.",
				 port->name, link->name);
			memcpy(port->name, link->name, sizeof(port->name));
		}
		if (link)
			continue;
		if (port->slot != NO_SLOT && !tc_spec_is_pattern(&t->slots[port->slot].spec))
			log_line(LOG_WARN, "tc", "The interface %s is gone. When there is one of that name again, its "
				 "traffic is taken.", t->slots[port->slot].spec.name);
		drop_port(t, port);
	}
}

static int review_link(struct tc *t, const struct rtnl_link *link, bool switched, struct err *e)
{
	struct port *port = find_port(t, link->index);
	uint32_t slot = port && port->slot != NO_SLOT ? port->slot : switched ? NO_SLOT : slot_for(t, link);
	int ret;

	if (!port) {
		ret = slot == NO_SLOT ? 0 : add_port(t, slot, link, e);
		/* One of many may go while they are listed. */
		return ret == -ENODEV && tc_spec_is_pattern(&t->slots[slot].spec) ? 0 : ret;
	}
	port->slot = slot;
	ret = tell_interface(t, port);
	return ret < 0 ? err_set(e, ret, "cannot tell the kernel about %s: %s", link->name, strerror(-ret)) : 0;
}

/* Brings the program to where it is wanted. Returns 0, or the first failure with a sentence; all are tried. */
static int review(struct tc *t, bool say, struct err *e)
{
	struct rtnl_link *links = NULL;
	uint32_t count = 0;
	int ret = rtnl_links(&t->rtnl, &links, &count);

	if (ret < 0)
		return err_set(e, ret, "cannot list the interfaces: %s", strerror(-ret));
	review_ports(t, links, count);
	for (uint32_t i = 0; i < count; i++) {
		uint32_t before = t->port_count;
		struct err why;
		int failed = review_link(t, &links[i], bridge_of(&links[i], links, count), &why);

		if (failed < 0 && ret == 0) {
			ret = failed;
			*e = why;
		}
		if (say && t->port_count > before)
			log_line(LOG_INFO, "tc", "The interface %s is here: its traffic is taken.", links[i].name);
	}
	mem_free(links);
	return ret;
}

/* --- modes ------------------------------------------------------------------------------------------------------ */

static int unknown_interface(const struct tc_spec *spec, const struct rtnl_link *links, uint32_t count, struct err *e)
{
	struct strbuf names = { 0 };
	int ret;

	for (uint32_t i = 0; i < count && names.len < 200; i++)
		if (!links[i].loopback)
			strbuf_addf(&names, "%s%s", names.len ? ", " : "", links[i].name);
	ret = err_set(e, -ENODEV, "There is no interface %s; there %s%s.", spec->name,
		      names.len ? "are: " : "is none but lo", names.ptr ? names.ptr : "");
	strbuf_fini(&names);
	return ret;
}

static int check_interface(struct tc *t, const struct tc_spec *spec, struct err *e)
{
	struct rtnl_link *links = NULL;
	uint32_t count = 0;
	int ret = rtnl_links(&t->rtnl, &links, &count);
	const struct rtnl_link *found = NULL, *bridge;

	for (uint32_t i = 0; i < count && ret == 0; i++)
		if (tc_spec_fits(spec, links[i].name))
			found = &links[i];
	bridge = found ? bridge_of(found, links, count) : NULL;
	if (ret < 0)
		err_set(e, ret, "cannot list the interfaces: %s", strerror(-ret));
	else if (!found && !tc_spec_is_pattern(spec))
		ret = unknown_interface(spec, links, count, e);
	else if (bridge && !tc_spec_is_pattern(spec))
		ret = err_set(e, -EINVAL, "%s is a port of the bridge %s, where its traffic is routed: take that, and "
			      "name the client's address, as in tc:%s,10.1.0.5.", found->name, bridge->name,
			      bridge->name);
	mem_free(links);
	return ret;
}

int tc_add(struct tc *t, struct tc_spec *spec, struct err *e)
{
	int slot = -1, ret = check_interface(t, spec, e);

	for (int i = TC_SLOTS_MAX - 1; i >= 0; i--) {
		if (!t->slots[i].used)
			slot = i;
		else if (ret == 0 && strcmp(t->slots[i].spec.name, spec->name) == 0)
			ret = err_set(e, -EEXIST, "The traffic of %s is taken by another mode already.", spec->name);
	}
	if (ret == 0 && slot < 0)
		ret = err_set(e, -E2BIG, "more than %d modes that take forwarded traffic", TC_SLOTS_MAX);
	if (ret < 0) {
		tc_spec_fini(spec);
		return ret;
	}
	t->slots[slot] = (struct slot){ .used = true, .spec = *spec };
	*spec = (struct tc_spec){ 0 };
	return slot;
}

int tc_set_listener(struct tc *t, int slot, uint32_t worker, enum tc_listener which, int fd, struct err *e)
{
	uint32_t index = TC_LISTENER_INDEX((uint32_t)slot, worker, which);
	uint64_t value = (uint64_t)fd;

	BUG_ON(!t->slots[slot].used || worker >= TC_WORKERS_MAX);
	if (bpf_map_update_elem(map_fd(t->skel->maps.mb_tc_lsn), &index, &value, BPF_ANY) < 0)
		return err_set(e, -errno, "the kernel did not take a listener for forwarded traffic: %m");
	return 0;
}

int tc_start(struct tc *t, int slot, uint32_t workers, struct err *e)
{
	struct slot *s = &t->slots[slot];
	int ret;

	BUG_ON(!s->used || s->started || !workers);
	s->workers = workers;
	s->started = true;
	ret = tell_clients(t, (uint32_t)slot, e);
	if (ret == 0)
		ret = review(t, false, e);
	if (ret < 0)
		tc_stop(t, slot);
	return ret;
}

void tc_stop(struct tc *t, int slot)
{
	struct slot *s = &t->slots[slot];

	for (uint32_t i = 0; i < t->port_count; i++) {
		struct tc_interface value;

		if (t->ports[i].slot != (uint32_t)slot)
			continue;
		t->ports[i].slot = NO_SLOT;
		if (bpf_map_lookup_elem(map_fd(t->skel->maps.mb_tc_if), &t->ports[i].hook.ifindex, &value) < 0)
			continue;
		value.workers = 0;
		bpf_map_update_elem(map_fd(t->skel->maps.mb_tc_if), &t->ports[i].hook.ifindex, &value, BPF_ANY);
	}
	forget_clients(t, (uint32_t)slot);
	tc_spec_fini(&s->spec);
	*s = (struct slot){ 0 };
}

void tc_stop_all(struct tc *t)
{
	for (int i = 0; i < TC_SLOTS_MAX; i++)
		if (t->slots[i].used)
			tc_stop(t, i);
}

/* --- the whole -------------------------------------------------------------------------------------------------- */

static int explain_load(int code, struct err *e)
{
	if (code == -EPERM)
		return err_set(e, code, "Taking forwarded traffic needs root, or the capabilities CAP_BPF and "
			       "CAP_NET_ADMIN; `mitm-bpf rules` prints firewall rules that do without BPF.");
	return err_set(e, code, "The program for forwarded traffic cannot be loaded: %s; Linux 5.8 or newer is needed. "
		       "`mitm-bpf rules` prints firewall rules that do without.", strerror(-code));
}

static int try_load(struct tc *t, bool again)
{
	int ret;

	t->skel = tc_bpf__open();
	if (!t->skel)
		return -errno;
	t->skel->rodata->tc_mark = tc_host_mark(&t->host);
	t->skel->rodata->tc_block_quic = t->options.block_quic;
	bpf_program__set_autoload(t->skel->progs.mb_tc_again, again);
	ret = tc_bpf__load(t->skel);
	if (ret == 0)
		return 0;
	tc_bpf__destroy(t->skel);
	t->skel = NULL;
	return ret;
}

/* Without it, a client that uses its port again at once waits for a second. */
static void attach_again(struct tc *t)
{
	int netns = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);

	t->again = netns < 0 ? NULL : bpf_program__attach_netns(t->skel->progs.mb_tc_again, netns);
	if (!t->again)
		log_line(LOG_DEBUG, "tc", "no program for sockets in TIME-WAIT: %s", strerror(errno));
	if (netns >= 0)
		close(netns);
}

static int tell_ports(const struct tc *t)
{
	const uint32_t *words = t->options.udp_ports;

	for (uint32_t i = 0; i < TC_PORT_WORDS && words; i++)
		if (words[i] && bpf_map_update_elem(map_fd(t->skel->maps.mb_tc_port), &i, &words[i], BPF_ANY) < 0)
			return -errno;
	return 0;
}

static int load(struct tc *t, struct err *e)
{
	int ret = try_load(t, true);

	if (ret == 0)
		attach_again(t);
	else
		ret = try_load(t, false);
	if (ret < 0)
		return explain_load(ret, e);
	ret = tell_ports(t);
	if (ret < 0)
		return err_set(e, ret, "cannot tell the kernel which UDP is meant: %s", strerror(-ret));
	ret = update_own(t);
	return ret < 0 ? err_set(e, ret, "cannot list this machine's addresses: %s", strerror(-ret)) : 0;
}

int tc_open(struct tc **out, const struct tc_options *options, struct err *e)
{
	struct tc *t = mem_zalloc(sizeof(*t));
	int ret;

	if (!t)
		return err_set(e, -ENOMEM, "out of memory");
	libbpf_log_init();
	t->options = *options;
	t->host.lock_fd = t->monitor_fd = -1;
	ret = rtnl_open(&t->rtnl);
	if (ret < 0)
		err_set(e, ret, "cannot open a netlink socket: %s", strerror(-ret));
	if (ret == 0)
		ret = tc_host_up(&t->host, &t->rtnl, e);
	if (ret == 0)
		ret = t->monitor_fd = route_monitor_open(e);
	if (ret >= 0)
		ret = load(t, e);
	if (ret < 0) {
		tc_free(t);
		return ret;
	}
	t->options.udp_ports = NULL;
	*out = t;
	return 0;
}

static void end_ghosts(const struct tc *t)
{
	int ret = t->host.lock_fd >= 0 ? tc_ghosts_end(tc_host_socket_mark(&t->host)) : 0;

	if (ret < 0)
		log_line(LOG_DEBUG, "tc", "closed connections wait for their ends: %s", strerror(-ret));
}

void tc_free(struct tc *t)
{
	if (!t)
		return;
	while (t->port_count)
		drop_port(t, &t->ports[t->port_count - 1]);
	for (int i = 0; i < TC_SLOTS_MAX; i++)
		tc_spec_fini(&t->slots[i].spec);
	bpf_link__destroy(t->again);
	end_ghosts(t);
	tc_host_down(&t->host, &t->rtnl);
	rtnl_close(&t->rtnl);
	tc_bpf__destroy(t->skel);
	if (t->monitor_fd >= 0)
		close(t->monitor_fd);
	mem_free(t->ports);
	mem_free(t);
}

bool tc_has_v6(const struct tc *t)
{
	return t->host.v6;
}

void tc_lease(struct tc *t, uint64_t until_ns)
{
	__atomic_store_n(&t->skel->data->tc_lease_ns, until_ns, __ATOMIC_RELEASE);
}

uint32_t tc_socket_mark(const struct tc *t)
{
	return tc_host_socket_mark(&t->host);
}

int tc_fd(const struct tc *t)
{
	return t->monitor_fd;
}

void tc_poll(struct tc *t)
{
	struct err e;
	int ret;

	if (!route_monitor_drain(t->monitor_fd))
		return;
	ret = update_own(t);
	if (ret < 0)
		log_line(LOG_WARN, "tc", "this machine's addresses may be out of date: %s", strerror(-ret));
	if (review(t, true, &e) < 0)
		log_line(LOG_WARN, "tc", "%s", e.text);
}

static const char *reason_name(enum tc_reason reason)
{
	static const char *const names[TC_REASONS] = {
		[TC_TAKEN] = "taken",
		[TC_ESTABLISHED] = "established",
		[TC_DATAGRAM] = "datagram",
		[TC_QUIC_REFUSED] = "quic-refused",
		[TC_PASS_PROTOCOL] = "pass-protocol",
		[TC_PASS_FRAGMENT] = "pass-fragment",
		[TC_PASS_MALFORMED] = "pass-malformed",
		[TC_PASS_SCOPE] = "pass-scope",
		[TC_PASS_OTHER_HOST] = "pass-other-host",
		[TC_PASS_OWN] = "pass-own",
		[TC_PASS_CLIENT] = "pass-client",
		[TC_PASS_PORT] = "pass-port",
		[TC_PASS_OLDER] = "pass-older",
		[TC_PASS_NO_LISTENER] = "pass-no-listener",
		[TC_PASS_REFUSED] = "pass-refused",
	};

	return names[reason];
}

void tc_stats(struct tc *t, struct tc_stat out[TC_REASONS])
{
	int cpus = libbpf_num_possible_cpus();
	uint64_t *counts = cpus > 0 ? mem_zalloc((size_t)cpus * sizeof(*counts)) : NULL;

	for (uint32_t i = 0; i < TC_REASONS; i++) {
		out[i] = (struct tc_stat){ .name = reason_name(i) };
		if (!counts || bpf_map_lookup_elem(map_fd(t->skel->maps.mb_tc_stat), &i, counts) < 0)
			continue;
		for (int cpu = 0; cpu < cpus; cpu++)
			out[i].count += counts[cpu];
	}
	mem_free(counts);
}
