/* SPDX-License-Identifier: MIT */
/* tcx is newer than the libbpf of stable distributions, so its link is made by the system call. */
#include "steer/tc_hook.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "abi/tc.h"
#include "base/log.h"
#include "base/mem.h"

#define TCX_INGRESS 46               /* enum bpf_attach_type of Linux 6.6 */
#define HANDLE 1
#define PROGRAMS_MAX 64              /* of an interface, as the kernel has it */

/* The descriptor or -errno; -EINVAL and -EOPNOTSUPP where there is no tcx. */
static int tcx_attach(int program, uint32_t ifindex)
{
	union bpf_attr attr;
	long fd;

	memset(&attr, 0, sizeof(attr));
	attr.link_create.prog_fd = (uint32_t)program;
	attr.link_create.target_ifindex = ifindex;
	attr.link_create.attach_type = TCX_INGRESS;
	fd = syscall(SYS_bpf, BPF_LINK_CREATE, &attr, sizeof(attr));
	return fd < 0 ? -errno : (int)fd;
}

static void filter_at(struct bpf_tc_hook *hook, struct bpf_tc_opts *opts, uint32_t ifindex, uint32_t priority)
{
	*hook = (struct bpf_tc_hook){ .sz = sizeof(*hook), .ifindex = (int)ifindex, .attach_point = BPF_TC_INGRESS };
	*opts = (struct bpf_tc_opts){ .sz = sizeof(*opts), .handle = HANDLE, .priority = priority };
}

/* Asking for the program itself would need more than CAP_BPF. */
static bool is_tc_filter(const struct rtnl_filter *f)
{
	return f->ingress && f->handle == HANDLE &&
	       strncmp(f->program, TC_PROGRAM ":[", sizeof(TC_PROGRAM ":[") - 1) == 0;
}

static bool is_ours(const struct rtnl_filter *f, uint32_t priority)
{
	return f->priority == priority && is_tc_filter(f);
}

static int filter_attach(struct tc_hook *h, struct rtnl *r, int program)
{
	struct bpf_tc_hook hook;
	struct bpf_tc_opts opts;
	int ret;

	tc_hook_remove_leftover(r, h->ifindex, h->priority);
	filter_at(&hook, &opts, h->ifindex, h->priority);
	opts.prog_fd = program;
	ret = bpf_tc_hook_create(&hook);
	if (ret < 0 && ret != -EEXIST)
		return ret;
	h->made_clsact = ret == 0;
	return bpf_tc_attach(&hook, &opts);
}

int tc_hook_attach(struct tc_hook *h, struct rtnl *r, enum tc_how how, int program, const char *name, struct err *e)
{
	int ret = -EOPNOTSUPP;

	h->link_fd = -1;
	h->made_clsact = false;
	if (how != TC_CLSACT)
		ret = h->link_fd = tcx_attach(program, h->ifindex);
	if (ret < 0 && (how == TC_CLSACT || (how == TC_AUTO && ret != -ENODEV && ret != -EPERM)))
		ret = filter_attach(h, r, program);
	if (ret >= 0)
		return 0;
	h->ifindex = 0;
	if (ret == -EPERM)
		return err_set(e, ret, "the kernel refused to attach to %s; run as root, or with the capabilities "
			       "CAP_BPF and CAP_NET_ADMIN", name);
	if (ret == -EEXIST)
		return err_set(e, ret, "another program's filter is at the place of ours on %s (`tc filter show dev "
			       "%s ingress`, pref %u)", name, name, h->priority);
	return err_set(e, ret, "cannot attach to %s: %s", name, strerror(-ret));
}

static bool is_tc_program(uint32_t id)
{
	struct bpf_prog_info info = { 0 };
	uint32_t len = sizeof(info);
	int fd = bpf_prog_get_fd_by_id(id);
	bool yes = fd >= 0 && bpf_obj_get_info_by_fd(fd, &info, &len) == 0 && strcmp(info.name, TC_PROGRAM) == 0;

	if (fd >= 0)
		close(fd);
	return yes;
}

bool tc_hook_is_shared(struct rtnl *r, uint32_t ifindex)
{
	uint32_t ids[PROGRAMS_MAX], count = PROGRAMS_MAX, attach_flags;
	struct rtnl_filter *filters = NULL;
	bool shared = false;

	if (bpf_prog_query((int)ifindex, (enum bpf_attach_type)TCX_INGRESS, 0, &attach_flags, ids, &count) == 0)
		for (uint32_t i = 0; i < MIN(count, (uint32_t)PROGRAMS_MAX); i++)
			shared |= is_tc_program(ids[i]);
	count = 0;
	if (rtnl_filters(r, ifindex, &filters, &count) == 0)
		for (uint32_t i = 0; i < count; i++)
			shared |= is_tc_filter(&filters[i]);
	mem_free(filters);
	return shared;
}

static bool is_empty(struct rtnl *r, uint32_t ifindex)
{
	struct rtnl_filter *filters = NULL;
	uint32_t count = 1;

	if (rtnl_filters(r, ifindex, &filters, &count) < 0)
		return false;
	mem_free(filters);
	return count == 0;
}

static void filter_detach(struct tc_hook *h, struct rtnl *r)
{
	struct bpf_tc_hook hook;

	if (!tc_hook_remove_leftover(r, h->ifindex, h->priority) || !h->made_clsact || !is_empty(r, h->ifindex))
		return;
	hook = (struct bpf_tc_hook){ .sz = sizeof(hook), .ifindex = (int)h->ifindex,
				     .attach_point = BPF_TC_INGRESS | BPF_TC_EGRESS };
	(void)!bpf_tc_hook_destroy(&hook);
}

void tc_hook_detach(struct tc_hook *h, struct rtnl *r)
{
	if (!h->ifindex)
		return;
	if (h->link_fd >= 0)
		close(h->link_fd);
	else
		filter_detach(h, r);
	*h = (struct tc_hook){ .link_fd = -1 };
}

bool tc_hook_remove_leftover(struct rtnl *r, uint32_t ifindex, uint32_t priority)
{
	struct rtnl_filter *filters = NULL;
	struct bpf_tc_hook hook;
	struct bpf_tc_opts opts;
	uint32_t count = 0;
	bool there = false;
	int ret;

	if (rtnl_filters(r, ifindex, &filters, &count) < 0)
		return false;
	for (uint32_t i = 0; i < count; i++)
		there |= is_ours(&filters[i], priority);
	mem_free(filters);
	if (!there)
		return false;
	filter_at(&hook, &opts, ifindex, priority);
	ret = bpf_tc_detach(&hook, &opts);
	if (ret < 0)
		log_line(LOG_WARN, "tc", "a filter of ours stays on interface %u: %s", ifindex, strerror(-ret));
	return ret == 0;
}
