/* SPDX-License-Identifier: MIT */
/* What steer.c (load, attach, origins) and steer_policy.c (who) share. Nobody else includes this. */
#pragma once

#include <stdint.h>

#include "steer.skel.h"
#include "steer/automaton.h"
#include "steer/namespaces.h"
#include "steer/processes.h"
#include "steer/route_map.h"
#include "steer/steer.h"

enum steer_link {
	LINK_FORK,
	LINK_EXEC,
	LINK_EXIT,
	LINK_MKDIR,                  /* the last one that is not of the cgroup */
	LINK_PEERNAME4,
	LINK_PEERNAME6,
	LINK_SOCKNAME4,
	LINK_SOCKNAME6,
	LINK_SOCKOPS,
	LINK_RECVMSG4,
	LINK_RECVMSG6,
	LINK_RELEASE,
	LINK_CONNECT4,               /* the last ones, because a rewritten connection needs all the others */
	LINK_CONNECT6,
	LINK_SENDMSG4,
	LINK_SENDMSG6,
	LINKS
};

struct pins;

struct steer {
	struct steer_bpf *skel;
	struct bpf_link *links[LINKS];
	struct pins *pins;           /* fail_closed, while attached; else NULL */
	int cgroup_fd;
	char *cgroup;                /* as the user gave it; NULL = the root */
	bool cgroup_lost;            /* it was removed: waiting for another of that name */
	bool following;              /* fork, exec and exit are watched */
	bool udp;                    /* UDP is taken, or refused */
	bool private_pids;           /* /proc does not show the pids that the programs see */
	uint32_t self_tgid;
	struct intercept_spec *spec; /* what policy was made of; NULL: none set yet */
	struct automaton *policy;    /* of policy_gen; NULL: none set yet */
	int timer_fd;                /* time to look up again who is meant */
	int poll_fd;                 /* timer_fd, route_fd and that of namespaces */
	uint64_t netns;              /* cookie of the endpoint's namespace */
	int route_fd;
	struct route_map routes;     /* of that namespace */
	struct namespaces *namespaces;       /* the other ones; NULL: left alone */
};

static inline int steer_map(const struct bpf_map *map)
{
	return bpf_map__fd(map);
}

struct bpf_program *steer_program(const struct steer *s, enum steer_link link);
/* What user space is told of a destination; out is filled. */
void steer_origin_of(struct steer *s, const struct steer_orig *orig, struct steer_origin *out);

/* steer_udp.c */
/* Between opening and loading the programs. */
void steer_udp_prepare(struct steer *s, const struct steer_options *options);
/* Whether this one is loaded and attached; those that UDP has nothing to do with are. */
bool steer_udp_wants(const struct steer *s, enum steer_link link);

/* steer_pin.c */
/* Puts our programs in the place of those that a killed process left pinned on the same cgroup. */
void steer_take_over(struct steer *s);
/* All is attached: with fail_closed it is pinned; and leftovers that are in force no more are taken away. */
int steer_pin(struct steer *s, struct err *e) __must_check;
void steer_unpin(struct steer *s, enum steer_link link);
void steer_unpin_all(struct steer *s);

/* What says who has what from its ancestors, without the kernel's table. */
struct steer_heritage {
	const struct process_list *list;
	const struct automaton *policy;  /* NULL: none */
	uint32_t gen;
	uint32_t self_tgid;              /* 0: there is no proxy */
};

/* What a process passes on, by the rules of bpf/policy.bpf.h. */
struct steer_tree steer_policy_passed_on(const struct steer_heritage *h, uint32_t pid);

/* Lets children of processes that were there already follow them. Call after the tracepoints are attached. */
int steer_policy_walk(struct steer *s, struct err *e) __must_check;

/* Endpoints for the selected processes that are in other network namespaces already. */
void steer_policy_look_ahead(struct steer *s);

/* When its time has come, finds out whether the spec's cgroups, units and containers are others than before. */
void steer_policy_poll(struct steer *s);
