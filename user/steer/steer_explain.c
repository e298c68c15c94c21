/* SPDX-License-Identifier: MIT */
#include "steer/steer_explain.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "steer/steer_state.h"

#define NS_PER_TICK UINT64_C(10000000)

static struct addr address_of(const struct steer_last *last)
{
	struct addr a = { .family = 6, .port = ntohs(last->port) };
	uint32_t v4;

	if (last->family == AF_INET) {
		memcpy(&v4, last->dst, sizeof(v4));
		return addr_v4(ntohl(v4), a.port);
	}
	memcpy(a.ip, last->dst, sizeof(a.ip));
	return a;
}

static void explain_last(struct steer *s, uint32_t pid, uint64_t start_ticks, struct steer_explained *out)
{
	struct steer_last last;
	struct timespec now;
	uint64_t now_ns;

	if (bpf_map_lookup_elem(steer_map(s->skel->maps.mb_last), &pid, &last) < 0 ||
	    last.start / NS_PER_TICK != start_ticks || last.reason >= STEER_REASONS)
		return;
	clock_gettime(CLOCK_MONOTONIC, &now);
	now_ns = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
	out->known = true;
	out->steered = last.steered;
	out->direct = last.direct;
	out->ago_ns = now_ns > last.time_ns ? now_ns - last.time_ns : 0;
	out->reason = (enum steer_reason)last.reason;
	out->netns = last.netns;
	out->dst = address_of(&last);
}

void steer_explain(struct steer *s, uint32_t pid, uint64_t start_ticks, uint64_t netns, struct steer_explained *out)
{
	struct steer_endpoint ep = { 0 };
	struct stat st;

	*out = (struct steer_explained){ .attached = s->links[LINK_CONNECT4] && s->links[LINK_CONNECT6],
					 .loopback = s->skel->rodata->steer_loopback };
	if (fstat(s->cgroup_fd, &st) == 0)
		out->cgroup_id = st.st_ino;
	if (bpf_map_lookup_elem(steer_map(s->skel->maps.mb_ep), &netns, &ep) == 0) {
		out->tcp4 = ntohs(ep.tcp4);
		out->tcp6 = ntohs(ep.tcp6);
	}
	explain_last(s, pid, start_ticks, out);
}
