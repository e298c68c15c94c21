/* SPDX-License-Identifier: MIT */
/*
 * The program for forwarded traffic, packet by packet: what is made, what it is decided to be. Packets are run through
 * the program by the kernel (test run), in a namespace of its own, as if they came in at lo. A socket cannot be
 * assigned there, so "pass-refused" stands for "would be taken".
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "abi/tc.h"
#include "base/util.h"
#include "io/socket.h"
#include "tc.skel.h"

#define OWN4 "10.78.0.1"
#define CLIENT4 "10.78.0.2"
#define OTHER4 "10.78.0.3"           /* a client that is not meant */
#define SERVER4 "198.51.100.9"
#define OWN6 "fd78::1"
#define CLIENT6 "fd78::2"
#define OTHER6 "fd78::3"
#define SERVER6 "2001:db8::9"
#define LO 1
#define SKIP 77

enum flags { SYN = 1, ACK = 2, RST = 4, FIN = 8, SYNACK = SYN | ACK };

struct triple {
	const char *name, *from, *to;
	int flags;
	enum tc_reason want;
	uint16_t fragment;                   /* IPv4: the field, in host order */
	uint8_t protocol;                    /* 0: TCP */
	uint8_t options;                     /* IPv4: words behind the fixed part */
	uint16_t ether_type;                 /* 0: that of the addresses */
	uint8_t cut;                         /* bytes that are missing at the end */
	uint8_t mac;                         /* last byte of the destination's; lo's is 0 */
	uint8_t version;                     /* 0: the right one */
	uint16_t port;                       /* 0: 443 */
	uint8_t words;                       /* IPv4: the header's length as it says itself; 0: the right one */
};

#define PACKET(name_, from_, to_, flags_, want_, ...) \
	{ .name = name_, .from = from_, .to = to_, .flags = flags_, .want = want_, __VA_ARGS__ }

static const struct triple triples[] = {
	PACKET("a SYN", CLIENT4, SERVER4, SYN, TC_PASS_REFUSED),
	PACKET("a SYN over IPv6", CLIENT6, SERVER6, SYN, TC_PASS_REFUSED),
	PACKET("a SYN behind IP options", CLIENT4, SERVER4, SYN, TC_PASS_REFUSED, .options = 3),
	PACKET("in the middle of a connection", CLIENT4, SERVER4, ACK, TC_PASS_OLDER),
	PACKET("in the middle of a connection, IPv6", CLIENT6, SERVER6, ACK, TC_PASS_OLDER),
	PACKET("the end of a connection", CLIENT4, SERVER4, FIN | ACK, TC_PASS_OLDER),
	PACKET("a reset", CLIENT4, SERVER4, RST, TC_PASS_OLDER),
	PACKET("a reset over IPv6", CLIENT6, SERVER6, RST | ACK, TC_PASS_OLDER),
	PACKET("the answer to a SYN", CLIENT4, SERVER4, SYNACK, TC_PASS_OLDER),
	PACKET("SYN and RST", CLIENT4, SERVER4, SYN | RST, TC_PASS_OLDER),
	PACKET("no flags", CLIENT4, SERVER4, 0, TC_PASS_OLDER),
	PACKET("to this machine", CLIENT4, OWN4, SYN, TC_PASS_OWN),
	PACKET("to this machine, IPv6", CLIENT6, OWN6, SYN, TC_PASS_OWN),
	PACKET("to its broadcast", CLIENT4, "10.78.0.255", SYN, TC_PASS_OWN),
	PACKET("a client that is not meant", OTHER4, SERVER4, SYN, TC_PASS_CLIENT),
	PACKET("a client that is not meant, IPv6", OTHER6, SERVER6, SYN, TC_PASS_CLIENT),
	PACKET("a first fragment", CLIENT4, SERVER4, SYN, TC_PASS_FRAGMENT, .fragment = 0x2000),
	PACKET("a later fragment", CLIENT4, SERVER4, SYN, TC_PASS_FRAGMENT, .fragment = 0x0010),
	PACKET("must not be fragmented", CLIENT4, SERVER4, SYN, TC_PASS_REFUSED, .fragment = 0x4000),
	PACKET("a fragment over IPv6", CLIENT6, SERVER6, SYN, TC_PASS_FRAGMENT, .protocol = IPPROTO_FRAGMENT),
	PACKET("behind an extension header", CLIENT6, SERVER6, SYN, TC_PASS_PROTOCOL, .protocol = IPPROTO_ROUTING),
	PACKET("UDP", CLIENT4, SERVER4, 0, TC_PASS_REFUSED, .protocol = IPPROTO_UDP),
	PACKET("UDP over IPv6", CLIENT6, SERVER6, 0, TC_PASS_REFUSED, .protocol = IPPROTO_UDP, .port = 53),
	PACKET("UDP to a port that is not meant", CLIENT4, SERVER4, 0, TC_PASS_PORT, .protocol = IPPROTO_UDP,
	       .port = 444),
	PACKET("UDP to the last port", CLIENT4, SERVER4, 0, TC_PASS_REFUSED, .protocol = IPPROTO_UDP, .port = 65535),
	PACKET("UDP of a client that is not meant", OTHER4, SERVER4, 0, TC_PASS_CLIENT, .protocol = IPPROTO_UDP),
	PACKET("UDP to this machine", CLIENT4, OWN4, 0, TC_PASS_OWN, .protocol = IPPROTO_UDP),
	PACKET("UDP to multicast", CLIENT4, "224.0.0.251", 0, TC_PASS_SCOPE, .protocol = IPPROTO_UDP),
	PACKET("UDP in fragments", CLIENT4, SERVER4, 0, TC_PASS_FRAGMENT, .protocol = IPPROTO_UDP, .fragment = 0x2000),
	PACKET("UDP cut within its header", CLIENT4, SERVER4, 0, TC_PASS_MALFORMED, .protocol = IPPROTO_UDP, .cut = 13),
	PACKET("ICMP", CLIENT4, SERVER4, SYN, TC_PASS_PROTOCOL, .protocol = IPPROTO_ICMP),
	PACKET("ARP", CLIENT4, SERVER4, SYN, TC_PASS_PROTOCOL, .ether_type = ETH_P_ARP),
	PACKET("two VLAN tags", CLIENT4, SERVER4, SYN, TC_PASS_PROTOCOL, .ether_type = ETH_P_8021Q),
	PACKET("to multicast", CLIENT4, "224.0.0.5", SYN, TC_PASS_SCOPE),
	PACKET("to multicast, IPv6", CLIENT6, "ff02::1", SYN, TC_PASS_SCOPE),
	PACKET("to broadcast", CLIENT4, "255.255.255.255", SYN, TC_PASS_SCOPE),
	PACKET("to link-local", CLIENT4, "169.254.169.254", SYN, TC_PASS_SCOPE),
	PACKET("to link-local, IPv6", CLIENT6, "fe80::1", SYN, TC_PASS_SCOPE),
	PACKET("from link-local", "fe80::1", SERVER6, SYN, TC_PASS_SCOPE),
	PACKET("to loopback", CLIENT4, "127.0.0.1", SYN, TC_PASS_SCOPE),
	PACKET("to loopback, IPv6", CLIENT6, "::1", SYN, TC_PASS_SCOPE),
	PACKET("from loopback", "127.0.0.1", SERVER4, SYN, TC_PASS_SCOPE),
	PACKET("from nowhere", "0.0.0.0", SERVER4, SYN, TC_PASS_SCOPE),
	PACKET("to nowhere, IPv6", CLIENT6, "::", SYN, TC_PASS_SCOPE),
	PACKET("to a mapped address", CLIENT6, "::ffff:198.51.100.9", SYN, TC_PASS_SCOPE),
	PACKET("cut within TCP", CLIENT4, SERVER4, SYN, TC_PASS_MALFORMED, .cut = 1),
	PACKET("cut within TCP, IPv6", CLIENT6, SERVER6, SYN, TC_PASS_MALFORMED, .cut = 20),
	PACKET("cut behind options", CLIENT4, SERVER4, SYN, TC_PASS_MALFORMED, .options = 5, .cut = 20),
	PACKET("of no version", CLIENT4, SERVER4, SYN, TC_PASS_MALFORMED, .version = 5),
	PACKET("of no version, IPv6", CLIENT6, SERVER6, SYN, TC_PASS_MALFORMED, .version = 4),
	PACKET("a header that is shorter than itself", CLIENT4, SERVER4, SYN, TC_PASS_MALFORMED, .words = 4),
	PACKET("a header of no length", CLIENT4, SERVER4, SYN, TC_PASS_MALFORMED, .words = 16),
	PACKET("a header that is longer than the packet", CLIENT4, SERVER4, SYN, TC_PASS_MALFORMED, .words = 15),
	PACKET("a header that reaches into TCP", CLIENT4, SERVER4, SYN, TC_PASS_MALFORMED, .words = 6),
	PACKET("all options that there can be", CLIENT4, SERVER4, SYN, TC_PASS_REFUSED, .options = 10),
	PACKET("no TCP at all", CLIENT4, SERVER4, SYN, TC_PASS_MALFORMED, .cut = 20),
	PACKET("no TCP at all, IPv6", CLIENT6, SERVER6, SYN, TC_PASS_MALFORMED, .cut = 20),
	PACKET("UDP that is only a header", CLIENT6, SERVER6, 0, TC_PASS_REFUSED, .protocol = IPPROTO_UDP, .cut = 12),
	PACKET("IPv4 that is called IPv6", CLIENT4, SERVER4, SYN, TC_PASS_MALFORMED, .ether_type = ETH_P_IPV6),
	PACKET("IPv6 that is called IPv4", CLIENT6, SERVER6, SYN, TC_PASS_MALFORMED, .ether_type = ETH_P_IP),
	PACKET("behind destination options", CLIENT6, SERVER6, SYN, TC_PASS_PROTOCOL, .protocol = IPPROTO_DSTOPTS),
	PACKET("behind an authentication header", CLIENT6, SERVER6, SYN, TC_PASS_PROTOCOL, .protocol = IPPROTO_AH),
	PACKET("no next header", CLIENT6, SERVER6, SYN, TC_PASS_PROTOCOL, .protocol = IPPROTO_NONE),
	PACKET("an extension header over IPv4", CLIENT4, SERVER4, SYN, TC_PASS_PROTOCOL, .protocol = IPPROTO_DSTOPTS),
	PACKET("IP in IP", CLIENT4, SERVER4, SYN, TC_PASS_PROTOCOL, .protocol = IPPROTO_IPIP),
	PACKET("SCTP", CLIENT4, SERVER4, SYN, TC_PASS_PROTOCOL, .protocol = IPPROTO_SCTP),
	PACKET("the last fragment with all bits", CLIENT4, SERVER4, SYN, TC_PASS_FRAGMENT, .fragment = 0xffff),
	PACKET("with the reserved bit", CLIENT4, SERVER4, SYN, TC_PASS_REFUSED, .fragment = 0x8000),
	PACKET("UDP in fragments, IPv6", CLIENT6, SERVER6, 0, TC_PASS_FRAGMENT, .protocol = IPPROTO_FRAGMENT),
	PACKET("SYN and FIN", CLIENT4, SERVER4, SYN | FIN, TC_PASS_REFUSED),
	PACKET("all flags", CLIENT4, SERVER4, SYN | ACK | RST | FIN, TC_PASS_OLDER),
	PACKET("an ACK of nothing that we sent", CLIENT6, SERVER6, ACK | FIN, TC_PASS_OLDER),
	PACKET("from multicast", "224.0.0.1", SERVER4, SYN, TC_PASS_SCOPE),
	PACKET("from multicast, IPv6", "ff02::1", SERVER6, SYN, TC_PASS_SCOPE),
	PACKET("from broadcast", "255.255.255.255", SERVER4, SYN, TC_PASS_SCOPE),
	PACKET("from loopback, IPv6", "::1", SERVER6, SYN, TC_PASS_SCOPE),
	PACKET("from a mapped address", "::ffff:10.78.0.2", SERVER6, SYN, TC_PASS_SCOPE),
	PACKET("from an address that embeds another", "::10.78.0.2", SERVER6, SYN, TC_PASS_SCOPE),
	PACKET("to itself", SERVER4, SERVER4, SYN, TC_PASS_REFUSED),
	PACKET("to this machine, by itself", OWN4, OWN4, SYN, TC_PASS_OWN),
	PACKET("switched, not routed", CLIENT4, SERVER4, SYN, TC_PASS_OTHER_HOST, .mac = 9),
};

static int tap_count, tap_failed;

static void result(bool passed, const char *name)
{
	printf("%sok %d - %s\n", passed ? "" : "not ", ++tap_count, name);
	tap_failed += !passed;
}

static size_t write_ip4(const struct triple *t, uint8_t *at)
{
	struct iphdr ip = {
		.version = t->version ? t->version & 15 : 4, .ihl = (t->words ? t->words : 5 + t->options) & 15,
		.ttl = 64, .protocol = t->protocol ? t->protocol : IPPROTO_TCP,
		.frag_off = htons(t->fragment), .tot_len = htons(20 + t->options * 4 + sizeof(struct tcphdr)),
	};

	inet_pton(AF_INET, t->from, &ip.saddr);
	inet_pton(AF_INET, t->to, &ip.daddr);
	memcpy(at, &ip, sizeof(ip));
	memset(at + sizeof(ip), 1, t->options * 4u);
	return sizeof(ip) + t->options * 4u;
}

static size_t write_ip6(const struct triple *t, uint8_t *at)
{
	struct ipv6hdr ip = {
		.version = t->version ? t->version & 15 : 6, .hop_limit = 64,
		.payload_len = htons(sizeof(struct tcphdr)),
		.nexthdr = t->protocol ? t->protocol : IPPROTO_TCP,
	};

	inet_pton(AF_INET6, t->from, &ip.saddr);
	inet_pton(AF_INET6, t->to, &ip.daddr);
	memcpy(at, &ip, sizeof(ip));
	return sizeof(ip);
}

static size_t write_packet(const struct triple *t, uint8_t *packet)
{
	bool v6 = strchr(t->from, ':');
	struct ethhdr eth = { .h_proto = htons(t->ether_type ? t->ether_type : v6 ? ETH_P_IPV6 : ETH_P_IP) };
	struct tcphdr tcp = {
		.source = htons(4444), .dest = htons(t->port ? t->port : 443), .doff = 5, .syn = !!(t->flags & SYN),
		.ack = !!(t->flags & ACK), .rst = !!(t->flags & RST), .fin = !!(t->flags & FIN),
	};
	size_t len = sizeof(eth);

	eth.h_dest[5] = t->mac;
	memcpy(packet, &eth, sizeof(eth));
	len += v6 ? write_ip6(t, packet + len) : write_ip4(t, packet + len);
	memcpy(packet + len, &tcp, sizeof(tcp));
	return len + sizeof(tcp) - t->cut;
}

static void read_counts(struct tc_bpf *skel, uint64_t *out)
{
	int cpus = libbpf_num_possible_cpus();
	uint64_t *counts = calloc(cpus > 0 ? (size_t)cpus : 1, sizeof(*counts));

	for (uint32_t i = 0; i < TC_REASONS; i++) {
		out[i] = 0;
		if (counts && bpf_map_lookup_elem(bpf_map__fd(skel->maps.mb_tc_stat), &i, counts) == 0)
			for (int c = 0; c < cpus; c++)
				out[i] += counts[c];
	}
	free(counts);
}

/* The one reason that was counted; -1: none. */
static int decide(struct tc_bpf *skel, const struct triple *t)
{
	uint64_t before[TC_REASONS], after[TC_REASONS];
	uint8_t packet[256] = { 0 };
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = packet);
	int reason = -1;

	opts.data_size_in = (uint32_t)write_packet(t, packet);
	read_counts(skel, before);
	if (bpf_prog_test_run_opts(bpf_program__fd(skel->progs.mb_tc), &opts) < 0) {
		printf("# test run: %s\n", strerror(errno));
		return -1;
	}
	read_counts(skel, after);
	for (int i = 0; i < TC_REASONS; i++)
		if (after[i] != before[i])
			reason = i;
	if (opts.retval != (uint32_t)-1)
		printf("# the verdict is %d\n", (int)opts.retval);
	return opts.retval == (uint32_t)-1 ? reason : -1;
}

static void try(struct tc_bpf *skel, const struct triple *t)
{
	int got = decide(skel, t);

	result(got == (int)t->want, t->name);
	if (got != (int)t->want)
		printf("# wanted reason %d, got %d\n", t->want, got);
}

static void own(struct tc_bpf *skel, const char *ip, uint32_t prefix)
{
	struct tc_own_key key = { .prefix_len = prefix };
	uint32_t one = 1;

	if (strchr(ip, ':')) {
		inet_pton(AF_INET6, ip, key.ip);
	} else {
		key.ip[10] = key.ip[11] = 0xff;
		inet_pton(AF_INET, ip, key.ip + 12);
	}
	bpf_map_update_elem(bpf_map__fd(skel->maps.mb_tc_own), &key, &one, BPF_ANY);
}

static void leave_alone(struct tc_bpf *skel, const char *ip)
{
	struct tc_client_key key = { .prefix_len = TC_CLIENT_PREFIX(128) };
	uint32_t no = 0;

	if (strchr(ip, ':')) {
		inet_pton(AF_INET6, ip, key.ip);
	} else {
		key.ip[10] = key.ip[11] = 0xff;
		inet_pton(AF_INET, ip, key.ip + 12);
	}
	bpf_map_update_elem(bpf_map__fd(skel->maps.mb_tc_client), &key, &no, BPF_ANY);
}

static void tell(struct tc_bpf *skel, uint32_t workers)
{
	const struct tc_interface in = { .workers = workers, .others = 1 };
	uint32_t lo = LO;

	bpf_map_update_elem(bpf_map__fd(skel->maps.mb_tc_if), &lo, &in, BPF_ANY);
}

static int bind_udp(const struct addr *at)
{
	struct sockaddr_storage ss;
	socklen_t len = socket_addr_write(at, &ss);
	int fd = socket(ss.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	return bind(fd, (struct sockaddr *)&ss, len) < 0 ? -1 : fd;
}

static void listen_on(struct tc_bpf *skel, struct addr at, uint32_t which, int *fd)
{
	uint32_t index = TC_LISTENER_INDEX(0u, 0u, which);
	uint64_t value;
	struct err e;

	*fd = which >= TC_UDP4 ? bind_udp(&at) : socket_listen(&at, false, &e);
	value = (uint64_t)*fd;
	if (*fd < 0 || bpf_map_update_elem(bpf_map__fd(skel->maps.mb_tc_lsn), &index, &value, BPF_ANY) < 0) {
		printf("Bail out! no listener: %s\n", strerror(errno));
		exit(99);
	}
}

static void allow(struct tc_bpf *skel, uint32_t port)
{
	uint32_t word = port / 32, bits = 1u << port % 32;

	bpf_map_update_elem(bpf_map__fd(skel->maps.mb_tc_port), &word, &bits, BPF_ANY);
}

static bool load(struct tc_bpf *skel)
{
	skel->rodata->tc_mark = 1;               /* else packets without a mark would look as if they were taken */
	if (tc_bpf__load(skel) < 0)
		return false;
	allow(skel, 53);
	allow(skel, 443);
	allow(skel, 65535);
	return true;
}

/* The same with --block-quic. */
static void try_quic(void)
{
	static const struct triple quic = PACKET("", CLIENT4, SERVER4, 0, TC_QUIC_REFUSED, .protocol = IPPROTO_UDP);
	static const struct triple dns = PACKET("", CLIENT4, SERVER4, 0, TC_PASS_NO_LISTENER,
						.protocol = IPPROTO_UDP, .port = 53);
	struct tc_bpf *skel = tc_bpf__open();
	uint8_t packet[256] = { 0 };
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = packet);

	skel->rodata->tc_block_quic = true;
	if (!load(skel))
		exit(99);
	tell(skel, 0);
	result(decide(skel, &quic) == TC_PASS_NO_LISTENER, "QUIC is to be refused, but the mode is gone: it passes");
	tell(skel, 1);
	opts.data_size_in = (uint32_t)write_packet(&quic, packet);
	result(bpf_prog_test_run_opts(bpf_program__fd(skel->progs.mb_tc), &opts) == 0 && opts.retval == 2,
	       "QUIC is to be refused: it is dropped");
	result(decide(skel, &dns) == TC_PASS_NO_LISTENER, "QUIC is to be refused: other UDP is not");
	tc_bpf__destroy(skel);
}

int main(void)
{
	static const struct triple syn = PACKET("", CLIENT4, SERVER4, SYN, TC_PASS_NO_LISTENER);
	static const struct triple datagram = PACKET("", CLIENT4, SERVER4, 0, 0, .protocol = IPPROTO_UDP);
	static const struct triple ack = PACKET("", CLIENT4, SERVER4, ACK, TC_PASS_OLDER);
	struct tc_bpf *skel;
	const struct addr loopback[] = { addr_v4(INADDR_LOOPBACK, 0), { .family = 6, .ip = { [15] = 1 } } };
	int fds[TC_LISTENERS];

	if (geteuid() != 0 || unshare(CLONE_NEWNET) < 0 || system("ip link set lo up") != 0) {
		printf("1..0 # SKIP needs root, a network namespace, and the ip command\n");
		return SKIP;
	}
	skel = tc_bpf__open();
	if (!skel || !load(skel)) {
		printf("1..0 # SKIP the program does not load here: %s\n", strerror(errno));
		return SKIP;
	}
	result(decide(skel, &syn) == -1, "an interface that is not ours: not even counted");
	tell(skel, 0);
	own(skel, OWN4, 128);
	own(skel, "10.78.0.255", 128);
	own(skel, OWN6, 128);
	leave_alone(skel, OTHER4);
	leave_alone(skel, OTHER6);
	result(decide(skel, &syn) == TC_PASS_NO_LISTENER, "the mode was stopped: a SYN passes");
	result(decide(skel, &ack) == TC_PASS_OLDER, "the mode was stopped: what has no socket passes");
	tell(skel, 1);
	result(decide(skel, &syn) == TC_PASS_NO_LISTENER, "no listener: a SYN passes");
	for (uint32_t i = 0; i < TC_LISTENERS; i++)
		listen_on(skel, loopback[i % 2], i, &fds[i]);
	for (size_t i = 0; i < ARRAY_SIZE(triples); i++)
		try(skel, &triples[i]);
	for (uint32_t i = 0; i < TC_LISTENERS; i++)
		close(fds[i]);
	result(decide(skel, &syn) == TC_PASS_NO_LISTENER, "the listener was closed: a SYN passes");
	result(decide(skel, &datagram) == TC_PASS_NO_LISTENER, "the socket was closed: a datagram passes");
	tc_bpf__destroy(skel);
	try_quic();
	printf("1..%d\n", tap_count);
	return tap_failed ? 1 : 0;
}
