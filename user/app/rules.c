/* SPDX-License-Identifier: MIT */
/*
 * TPROXY keeps addresses as they are and needs a mark that is routed to the local stack; REDIRECT changes the
 * destination and needs conntrack. With either, what goes to this machine itself is left alone, and so are connections
 * that are open already.
 */
#include "app/rules.h"

#include <errno.h>

#include "base/str.h"
#include "steer/tc_host.h"

#define MARK (TC_HOST_MARK + 0x40)   /* also the table; no instance has it */
#define PREF (TC_HOST_PREF + TC_HOST_INSTANCES)
#define INTERFACES_MAX 16
#define PORTS_MAX 15                 /* of multiport */
#define LISTEN_PORT 8080

struct rules {
	bool iptables, redirect, undo;
	const char *interfaces[INTERFACES_MAX];
	uint32_t interface_count;
	struct {
		uint16_t from, to;
	} ports[PORTS_MAX];
	uint32_t port_count;                 /* 0: all */
	uint16_t listen_port;
};

/* --- the command line ------------------------------------------------------------------------------------------- */

/* What is printed is for a shell and for nft. */
static bool is_plain_name(const char *name)
{
	size_t len = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-@");

	return len && len < IFNAMSIZ && (!name[len] || strcmp(name + len, "*") == 0);
}

static int add_interface(struct rules *r, const char *name, struct err *e)
{
	if (!is_plain_name(name))
		return err_set(e, -EINVAL, "argument --interface: %.80s is no name of an interface", name);
	if (r->interface_count == INTERFACES_MAX)
		return err_set(e, -EINVAL, "argument --interface: more than %d", INTERFACES_MAX);
	r->interfaces[r->interface_count++] = name;
	return 0;
}

static bool parse_port(struct str text, uint16_t *port)
{
	uint64_t value;

	if (!str_to_u64(text, UINT16_MAX, &value) || !value)
		return false;
	*port = (uint16_t)value;
	return true;
}

static int add_ports(struct rules *r, const char *text, struct err *e)
{
	struct str rest = str_of(text);

	if (strcmp(text, "all") == 0)
		return 0;
	while (rest.ptr) {
		struct str item = str_cut(&rest, ','), from = str_cut(&item, '-');

		if (r->port_count == PORTS_MAX)
			return err_set(e, -EINVAL, "argument --port: more than %d ports and ranges", PORTS_MAX);
		if (!parse_port(from, &r->ports[r->port_count].from) ||
		    !parse_port(item.ptr ? item : from, &r->ports[r->port_count].to) ||
		    r->ports[r->port_count].from > r->ports[r->port_count].to)
			return err_set(e, -EINVAL, "argument --port: expected ports or ranges like 80,443,8000-8100, "
				       "or all, not %.80s", text);
		r->port_count++;
	}
	return 0;
}

static int take_value(struct rules *r, const char *name, const char *value, struct err *e)
{
	if (strcmp(name, "--interface") == 0)
		return add_interface(r, value, e);
	if (strcmp(name, "--port") == 0)
		return add_ports(r, value, e);
	if (!parse_port(str_of(value), &r->listen_port))
		return err_set(e, -EINVAL, "argument --listen-port: expected a port, not %.80s", value);
	return 0;
}

static int parse(struct rules *r, const char *const *words, size_t count, struct err *e)
{
	static const char *const valued[] = { "--interface", "--port", "--listen-port", "-p" };

	*r = (struct rules){ .listen_port = LISTEN_PORT };
	for (size_t i = 0; i < count; i++) {
		const char *word = words[i];
		int ret = 1;

		for (size_t k = 0; k < ARRAY_SIZE(valued) && ret == 1; k++) {
			size_t len = strlen(valued[k]);

			if (strncmp(word, valued[k], len) == 0 && word[len] == '=')
				ret = take_value(r, valued[k], word + len + 1, e);
			else if (strcmp(word, valued[k]) == 0)
				ret = i + 1 < count ? take_value(r, valued[k], words[++i], e) :
				      err_set(e, -EINVAL, "argument %s: expected one argument", word);
		}
		if (ret < 0)
			return ret;
		if (ret == 0)
			continue;
		if (strcmp(word, "--iptables") == 0)
			r->iptables = true;
		else if (strcmp(word, "--redirect") == 0)
			r->redirect = true;
		else if (strcmp(word, "--undo") == 0)
			r->undo = true;
		else if (strcmp(word, "--nft") != 0 && strcmp(word, "--tproxy") != 0)
			return err_set(e, -EINVAL, "unrecognized argument: %.80s (mitm-bpf rules knows --nft, "
				       "--iptables, --tproxy, --redirect, --interface, --port, --listen-port and "
				       "--undo)", word);
	}
	return 0;
}

/* --- what both firewalls need ----------------------------------------------------------------------------------- */

static void write_routes(const struct rules *r, struct strbuf *out)
{
	const char *verb = r->undo ? "del" : "add";

	for (int v6 = 0; v6 < 2; v6++) {
		const char *family = v6 ? " -6" : "";

		strbuf_addf(out, "ip%s rule %s pref %u fwmark %#x lookup %u\n", family, verb, PREF, MARK, MARK);
		strbuf_addf(out, "ip%s route %s local default dev lo table %u\n", family, verb, MARK);
	}
}

static void write_head(const struct rules *r, struct strbuf *out)
{
	uint16_t port = r->listen_port;

	strbuf_addf(out, "#!/bin/sh\n# TCP that is routed through this machine is %sbrought to mitm-bpf, by %s of %s.\n"
		    "# Run it as root: mitm-bpf rules ... | sh\n", r->undo ? "no longer " : "",
		    r->redirect ? "REDIRECT" : "TPROXY", r->iptables ? "iptables" : "nftables");
	if (r->undo)
		return;
	if (r->redirect)
		strbuf_addf(out, "# The proxy: mitm-bpf --mode transparent --listen-host '' -p %u\n", port);
	else
		strbuf_addf(out, "# The proxy: mitm-bpf --mode transparent@127.0.0.1:%u --mode "
			    "'transparent@[::1]:%u'\n", port, port);
	/* nft goes on to the next rule when there is no listener. */
	strbuf_addf(out, "# A firewall of this machine has to accept them as input. While no proxy runs, they %s.\n",
		    r->redirect || r->iptables ? "fail" : "go direct");
}

/* --- nftables --------------------------------------------------------------------------------------------------- */

static void write_nft_ports(const struct rules *r, struct strbuf *out)
{
	if (!r->port_count)
		strbuf_addf(out, "meta l4proto tcp");
	for (uint32_t i = 0; i < r->port_count; i++) {
		strbuf_addf(out, "%s%u", i ? ", " : "tcp dport { ", r->ports[i].from);
		if (r->ports[i].to != r->ports[i].from)
			strbuf_addf(out, "-%u", r->ports[i].to);
	}
	if (r->port_count)
		strbuf_addf(out, " }");
}

static void write_nft_chain(const struct rules *r, struct strbuf *out)
{
	strbuf_addf(out, "\tchain take {\n\t\tfib daddr type { local, broadcast, multicast, anycast } return\n");
	if (r->redirect) {
		strbuf_addf(out, "\t\t");
		write_nft_ports(r, out);
		strbuf_addf(out, " redirect to :%u\n", r->listen_port);
	} else {
		strbuf_addf(out, "\t\tmeta l4proto tcp socket transparent 1 meta mark set %#x accept\n", MARK);
		for (int v6 = 0; v6 < 2; v6++) {
			strbuf_addf(out, "\t\tmeta nfproto ipv%d tcp flags & (syn | ack) == syn ", v6 ? 6 : 4);
			write_nft_ports(r, out);
			strbuf_addf(out, " tproxy ip%s to %s:%u meta mark set %#x accept\n", v6 ? "6" : "",
				    v6 ? "[::1]" : "127.0.0.1", r->listen_port, MARK);
		}
	}
	strbuf_addf(out, "\t}\n");
}

static void write_nft(const struct rules *r, struct strbuf *out)
{
	if (r->undo) {
		strbuf_addf(out, "nft delete table inet mitm_bpf\n");
		return;
	}
	strbuf_addf(out, "nft -f - <<'END'\ntable inet mitm_bpf {\n");
	write_nft_chain(r, out);
	strbuf_addf(out, "\tchain prerouting {\n\t\ttype %s hook prerouting priority %s; policy accept;\n",
		    r->redirect ? "nat" : "filter", r->redirect ? "-100" : "-150");
	for (uint32_t i = 0; i < r->interface_count; i++)
		strbuf_addf(out, "\t\tiifname \"%s\" jump take\n", r->interfaces[i]);
	if (!r->interface_count)
		strbuf_addf(out, "\t\tjump take\n");
	strbuf_addf(out, "\t}\n}\nEND\n");
}

/* --- iptables --------------------------------------------------------------------------------------------------- */

static void write_iptables_jumps(const struct rules *r, const char *tool, const char *verb, struct strbuf *out)
{
	for (uint32_t i = 0; i < MAX(r->interface_count, 1u); i++) {
		const char *name = r->interface_count ? r->interfaces[i] : "";
		size_t len = strcspn(name, "*");

		strbuf_addf(out, "%s -%s PREROUTING", tool, verb);
		if (*name)
			strbuf_addf(out, " -i %.*s%s", (int)len, name, name[len] ? "+" : "");
		strbuf_addf(out, " -p tcp -j MITM_BPF\n");
	}
}

static void write_iptables_ports(const struct rules *r, struct strbuf *out)
{
	for (uint32_t i = 0; i < r->port_count; i++) {
		strbuf_addf(out, "%s%u", i ? "," : " -m multiport --dports ", r->ports[i].from);
		if (r->ports[i].to != r->ports[i].from)
			strbuf_addf(out, ":%u", r->ports[i].to);
	}
}

static void write_iptables_chain(const struct rules *r, const char *tool, bool v6, struct strbuf *out)
{
	static const char *const own[] = { "LOCAL", "BROADCAST", "MULTICAST", "ANYCAST" };

	strbuf_addf(out, "%s -N MITM_BPF\n", tool);
	for (size_t i = 0; i < ARRAY_SIZE(own); i++)
		strbuf_addf(out, "%s -A MITM_BPF -m addrtype --dst-type %s -j RETURN\n", tool, own[i]);
	if (!r->redirect) {
		strbuf_addf(out, "%s -A MITM_BPF -p tcp -m socket --transparent -j MARK --set-mark %#x\n", tool, MARK);
		strbuf_addf(out, "%s -A MITM_BPF -p tcp -m socket --transparent -j ACCEPT\n", tool);
	}
	strbuf_addf(out, "%s -A MITM_BPF -p tcp%s", tool, r->redirect ? "" : " --syn");
	write_iptables_ports(r, out);
	if (r->redirect)
		strbuf_addf(out, " -j REDIRECT --to-ports %u\n", r->listen_port);
	else
		strbuf_addf(out, " -j TPROXY --on-ip %s --on-port %u --tproxy-mark %#x\n", v6 ? "::1" : "127.0.0.1",
			    r->listen_port, MARK);
}

static void write_iptables(const struct rules *r, struct strbuf *out)
{
	static const char *const tools[2][2] = { { "iptables -t mangle", "ip6tables -t mangle" },
						 { "iptables -t nat", "ip6tables -t nat" } };

	for (int v6 = 0; v6 < 2; v6++) {
		const char *tool = tools[r->redirect][v6];

		if (!r->undo)
			write_iptables_chain(r, tool, v6, out);
		write_iptables_jumps(r, tool, r->undo ? "D" : "A", out);
		if (r->undo)
			strbuf_addf(out, "%s -F MITM_BPF\n%s -X MITM_BPF\n", tool, tool);
	}
}

/* Firewall first when it is undone, and last when it is made: a mark that leads nowhere would break connections. */
int rules_write(const char *const *words, size_t count, struct strbuf *out, struct err *e)
{
	struct rules r;
	int ret = parse(&r, words, count, e);

	if (ret < 0)
		return ret;
	write_head(&r, out);
	if (!r.redirect && !r.undo)
		write_routes(&r, out);
	if (r.iptables)
		write_iptables(&r, out);
	else
		write_nft(&r, out);
	if (!r.redirect && r.undo)
		write_routes(&r, out);
	return out->failed ? err_set(e, -ENOMEM, "out of memory") : 0;
}
