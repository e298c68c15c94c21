/* SPDX-License-Identifier: MIT */
/* What of the façade is about UDP: what the programs are told before they are loaded, and whose a tag is. */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <string.h>

#include "steer/netns.h"
#include "steer/steer_state.h"
#include "steer/udp_ports.h"

bool steer_udp_wants(const struct steer *s, enum steer_link link)
{
	return s->udp || (link != LINK_SENDMSG4 && link != LINK_SENDMSG6 && link != LINK_RECVMSG4 &&
			  link != LINK_RECVMSG6 && link != LINK_RELEASE);
}

/* Without UDP neither its maps nor its hooks cost anything. */
void steer_udp_prepare(struct steer *s, const struct steer_options *options)
{
	struct steer_bpf *skel = s->skel;

	s->udp = options && (options->udp || options->block_quic);
	if (!s->udp) {
		bpf_map__set_max_entries(skel->maps.mb_vfwd, 1);
		bpf_map__set_max_entries(skel->maps.mb_vrev, 1);
		for (int i = 0; i < LINKS; i++)
			if (!steer_udp_wants(s, i))
				bpf_program__set_autoload(steer_program(s, i), false);
		return;
	}
	if (options->udp)
		memcpy(skel->rodata->udp_ports, options->udp->bits, sizeof(skel->rodata->udp_ports));
	skel->rodata->steer_loopback_dns = options->loopback_dns;
	skel->rodata->steer_block_quic = options->block_quic;
	skel->rodata->steer_has_retval = libbpf_probe_bpf_helper(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_FUNC_set_retval,
								 NULL) == 1;
}

int steer_set_udp_endpoint(struct steer *s, uint16_t udp4_port, uint16_t udp6_port, struct err *e)
{
	int map = steer_map(s->skel->maps.mb_ep);
	struct steer_endpoint ep;
	uint64_t netns;
	int ret;

	ret = netns_cookie(&netns, e);
	if (ret < 0)
		return ret;
	if (bpf_map_lookup_elem(map, &netns, &ep) < 0)
		return err_set(e, -errno, "this network namespace has no endpoint for TCP");
	ep.udp4 = htons(udp4_port);
	ep.udp6 = htons(udp6_port);
	if (bpf_map_update_elem(map, &netns, &ep, BPF_ANY) < 0)
		return err_set(e, -errno, "cannot tell the kernel where to steer UDP: %m");
	return 0;
}

/* 0: not an address of a flow. */
static uint32_t tag_of(const struct sockaddr *local)
{
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)local;
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)local;
	uint32_t words[4], ip4;

	if (local->sa_family == AF_INET) {
		ip4 = ntohl(v4->sin_addr.s_addr);
		return (ip4 & ~(STEER_VIRTUAL_TAGS - 1)) == STEER_VIRTUAL4 ? ip4 % STEER_VIRTUAL_TAGS : 0;
	}
	memcpy(words, &v6->sin6_addr, sizeof(words));
	if (local->sa_family != AF_INET6 || words[0] != htonl(STEER_VIRTUAL6_0) ||
	    words[1] != htonl(STEER_VIRTUAL6_1) || words[2] || ntohl(words[3]) >= STEER_VIRTUAL_TAGS)
		return 0;
	return ntohl(words[3]);
}

bool steer_find_flow(struct steer *s, const struct sockaddr *local, struct steer_origin *out)
{
	uint32_t tag = tag_of(local), slot = tag % STEER_VIRTUAL_MAX;
	struct steer_virtual flow;

	if (!tag || bpf_map_lookup_elem(steer_map(s->skel->maps.mb_vrev), &slot, &flow) < 0 || flow.tag != tag)
		return false;
	steer_origin_of(s, &flow.orig, out);
	return true;
}
