/* SPDX-License-Identifier: MIT */
/*
 * A program at the ingress of one interface: by a tcx link, which goes with our process, or where there is none (before
 * Linux 6.6) by a filter of clsact, which stays after kill -9, without effect, until it is found by its program's name.
 * Thread: one owner.
 */
#pragma once

#include "base/err.h"
#include "steer/rtnl.h"

enum tc_how { TC_AUTO, TC_TCX, TC_CLSACT };

struct tc_hook {
	uint32_t ifindex;            /* 0: not attached */
	int link_fd;                 /* -1: by a filter */
	uint32_t priority;           /* of the filter */
	bool made_clsact;
};

/* h has ifindex, and the priority if it has to be a filter; name is for the sentence. Returns 0, or -errno with one. */
int tc_hook_attach(struct tc_hook *h, struct rtnl *r, enum tc_how how, int program, const char *name,
		   struct err *e) __must_check;
/* Also when the interface is gone. A clsact goes with the filter only if we made it and nobody else has come. */
void tc_hook_detach(struct tc_hook *h, struct rtnl *r);

/* Is a program of another instance there already? Without CAP_SYS_ADMIN only filters are recognised. */
bool tc_hook_is_shared(struct rtnl *r, uint32_t ifindex);

/* Removes our filter that somebody left at this priority; true: there was one. */
bool tc_hook_remove_leftover(struct rtnl *r, uint32_t ifindex, uint32_t priority);
