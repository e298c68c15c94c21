/* SPDX-License-Identifier: MIT */
/* The groups of probes, one file each; probe.c calls them in order. Nobody else includes this. */
#pragma once

#include <limits.h>

#include "steer/probe.h"

struct probe_context {
	const char *cgroup;          /* as the user gave it; may be NULL */
	int cgroup_fd;               /* -1: cannot be opened */
	int child_fd;                /* the temporary group; -1: could not be made */
	char child_name[64];         /* in cgroup_fd */
};

/* What does not work without something, and what to do about it. */
struct probe_advice {
	bool needed;
	const char *name, *lost, *fix;
};

/* Adds a result; lost and fix are dropped when state is PROBE_OK. */
void probe_add(struct probe_list *list, const struct probe_advice *advice, enum probe_state state, const char *fmt, ...)
	__printf(4, 5);

/* Capabilities, in short, for probes that were refused. */
#define PROBE_PRIVILEGES "run as root, or with the capabilities CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON"

void probe_kernel(struct probe_list *list);
void probe_programs(struct probe_list *list, const struct probe_context *c);
void probe_network(struct probe_list *list, const struct probe_context *c);
void probe_traffic(struct probe_list *list);
