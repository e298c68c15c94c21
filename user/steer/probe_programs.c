/* SPDX-License-Identifier: MIT */
/* Loads each program alone and links it to the temporary group, so that one line says what one hook can do. */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "steer.skel.h"
#include "steer/hook_owner.h"
#include "steer/probe_parts.h"

#define FIX_KERNEL "use Linux 5.15 or newer with CONFIG_CGROUP_BPF; " PROBE_PRIVILEGES

struct program_probe {
	const char *program;
	struct probe_advice advice;
	bool tracepoint;
};

/* Where it failed, or NULL; errno says why. */
static const char *try_program(const struct program_probe *p, const struct probe_context *c)
{
	struct steer_bpf *skel = steer_bpf__open();
	struct bpf_link *link = NULL;
	struct bpf_program *program, *wanted = NULL;
	const char *failed = NULL;
	int error = 0;

	if (!skel)
		return "open";
	bpf_object__for_each_program(program, skel->obj) {
		bool is_it = strcmp(bpf_program__name(program), p->program) == 0;

		bpf_program__set_autoload(program, is_it);
		if (is_it)
			wanted = program;
	}
	if (steer_bpf__load(skel) < 0) {
		error = errno;
		failed = "load";
	} else if (p->tracepoint || c->child_fd >= 0) {
		link = p->tracepoint ? bpf_program__attach(wanted) : bpf_program__attach_cgroup(wanted, c->child_fd);
		if (!link) {
			error = errno;
			failed = "attach";
		}
	}
	bpf_link__destroy(link);
	steer_bpf__destroy(skel);
	errno = error;
	return failed;
}

static void probe_each(struct probe_list *list, const struct probe_context *c)
{
	static const char no_follow[] = "children of selected processes are not followed";
	static const char own_address[] = "applications see the proxy's address instead of their peer's or their own";
	static const struct program_probe programs[] = {
		{ "mb_connect4", { true, "hook connect4", "no IPv4 connection is intercepted", FIX_KERNEL }, false },
		{ "mb_connect6", { true, "hook connect6", "no IPv6 connection is intercepted", FIX_KERNEL }, false },
		{ "mb_sockops", { true, "hook sockops", "original destinations are not known", FIX_KERNEL }, false },
		{ "mb_peername4", { true, "hook getpeername4", own_address, FIX_KERNEL }, false },
		{ "mb_peername6", { true, "hook getpeername6", own_address, FIX_KERNEL }, false },
		{ "mb_sockname4", { true, "hook getsockname4", own_address, FIX_KERNEL }, false },
		{ "mb_sockname6", { true, "hook getsockname6", own_address, FIX_KERNEL }, false },
		{ "mb_fork", { false, "tracepoint fork", no_follow, FIX_KERNEL }, true },
		{ "mb_exec", { false, "tracepoint exec", no_follow, FIX_KERNEL }, true },
		{ "mb_exit", { false, "tracepoint exit", no_follow, FIX_KERNEL }, true },
	};

	for (size_t i = 0; i < ARRAY_SIZE(programs); i++) {
		const struct program_probe *p = &programs[i];
		const char *failed = try_program(p, c);

		if (failed)
			probe_add(list, &p->advice, PROBE_MISSING, "%s: %s", failed, strerror(errno));
		else
			probe_add(list, &p->advice, PROBE_OK, "loaded and %s", p->tracepoint || c->child_fd >= 0 ?
				  "attached" : "not attached, for want of a group to try it on");
	}
}

/* call bpf_get_current_task_btf; r0 = 1; exit */
static void probe_task(struct probe_list *list)
{
	static const struct probe_advice task = {
		true, "process facts in hooks (task_btf)", "processes cannot be told apart", FIX_KERNEL,
	};
	const struct bpf_insn insns[] = {
		{ .code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_get_current_task_btf },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .imm = 1 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	LIBBPF_OPTS(bpf_prog_load_opts, opts, .expected_attach_type = BPF_CGROUP_INET4_CONNECT);
	int fd = bpf_prog_load(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, "mb_probe_task", "Dual MIT/GPL", insns,
			       ARRAY_SIZE(insns), &opts);

	if (fd < 0) {
		probe_add(list, &task, PROBE_MISSING, "load: %s", strerror(errno));
		return;
	}
	close(fd);
	probe_add(list, &task, PROBE_OK, "loaded");
}

static void probe_run(struct probe_list *list)
{
	static const struct probe_advice run = {
		true, "programs on request", "the proxy cannot tell itself from others", FIX_KERNEL,
	};
	static const struct probe_advice pids = {
		false, "pid namespace", "pids and running children cannot be intercepted, names can",
		"run in the host's pid namespace (hostPID: true, --pid=host)",
	};
	struct steer_bpf *skel = steer_bpf__open();
	LIBBPF_OPTS(bpf_test_run_opts, opts);
	struct bpf_program *program;
	int ret = -1;

	if (skel) {
		bpf_object__for_each_program(program, skel->obj)
			bpf_program__set_autoload(program, program == skel->progs.mb_whoami);
		ret = steer_bpf__load(skel);
		if (ret == 0)
			ret = bpf_prog_test_run_opts(bpf_program__fd(skel->progs.mb_whoami), &opts);
	}
	if (ret < 0) {
		probe_add(list, &run, PROBE_MISSING, "%s", strerror(errno));
	} else {
		probe_add(list, &run, PROBE_OK, "run");
		probe_add(list, &pids, skel->bss->self_tgid == (uint32_t)getpid() ? PROBE_OK : PROBE_DEGRADED,
			  "pid %d is %u to the kernel", getpid(), skel->bss->self_tgid);
	}
	steer_bpf__destroy(skel);
}

/* r0 = 1; exit: the hooks of datagrams, without what ours do there. */
static void probe_datagrams(struct probe_list *list, const struct probe_context *c)
{
	static const struct probe_advice hooks = {
		false, "hooks of datagrams", "UDP (DNS, QUIC) is not intercepted", FIX_KERNEL,
	};
	static const struct {
		enum bpf_prog_type type;
		enum bpf_attach_type attach;
		const char *name;
	} wanted[] = {
		{ BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_UDP4_SENDMSG, "sendmsg4" },
		{ BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_UDP6_SENDMSG, "sendmsg6" },
		{ BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_UDP4_RECVMSG, "recvmsg4" },
		{ BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_UDP6_RECVMSG, "recvmsg6" },
		{ BPF_PROG_TYPE_CGROUP_SOCK, BPF_CGROUP_INET_SOCK_RELEASE, "sock_release" },
	};
	const struct bpf_insn insns[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .imm = 1 },
		{ .code = BPF_JMP | BPF_EXIT },
	};

	for (size_t i = 0; i < ARRAY_SIZE(wanted); i++) {
		LIBBPF_OPTS(bpf_prog_load_opts, opts, .expected_attach_type = wanted[i].attach);
		int fd = bpf_prog_load(wanted[i].type, "mb_probe", "Dual MIT/GPL", insns, ARRAY_SIZE(insns), &opts);
		int link = fd >= 0 && c->child_fd >= 0 ? bpf_link_create(fd, c->child_fd, wanted[i].attach, NULL) : -1;
		int error = errno;

		if (link >= 0)
			close(link);
		if (fd >= 0)
			close(fd);
		if (fd < 0 || (link < 0 && c->child_fd >= 0)) {
			probe_add(list, &hooks, PROBE_DEGRADED, "%s: %s", wanted[i].name, strerror(error));
			return;
		}
	}
	probe_add(list, &hooks, PROBE_OK, "sendmsg, recvmsg, sock_release: loaded%s",
		  c->child_fd >= 0 ? " and attached" : "");
}

static void probe_lsm(struct probe_list *list)
{
	static const struct probe_advice lsm = {
		false, "BPF security hooks (LSM)", "nothing: it is only told", "boot with lsm=...,bpf",
	};

	if (libbpf_probe_bpf_prog_type(BPF_PROG_TYPE_LSM, NULL) == 1)
		probe_add(list, &lsm, PROBE_OK, "can be loaded (nothing uses them today)");
	else
		probe_add(list, &lsm, PROBE_DEGRADED, "cannot be loaded");
}

/* Programs of others on the group that would be attached to, or above it. */
static void probe_others(struct probe_list *list, const struct probe_context *c)
{
	static const struct probe_advice others = {
		true, "other programs on the hooks", "attaching is refused",
		"stop that program, or choose another group with --cgroup",
	};
	static const enum bpf_attach_type hooks[] = {
		BPF_CGROUP_INET4_CONNECT, BPF_CGROUP_INET6_CONNECT, BPF_CGROUP_SOCK_OPS, BPF_CGROUP_INET4_GETPEERNAME,
		BPF_CGROUP_INET6_GETPEERNAME, BPF_CGROUP_INET4_GETSOCKNAME, BPF_CGROUP_INET6_GETSOCKNAME,
	};
	struct hook_owner owner, exclusive = { 0 };
	uint32_t count = 0;

	if (c->cgroup_fd < 0)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(hooks); i++) {
		if (hook_owner_find_exclusive(&owner, c->cgroup_fd, hooks[i]))
			exclusive = owner;
		if (hook_owner_find(&owner, c->cgroup_fd, hooks[i]))
			count += owner.count;
	}
	if (exclusive.count)
		probe_add(list, &others, PROBE_MISSING, "program %u (%s) owns a hook exclusively", exclusive.program_id,
			  *exclusive.program_name ? exclusive.program_name : "no name");
	else if (count)
		probe_add(list, &others, PROBE_OK, "%u, which share (they run too, those of deeper groups first)",
			  count);
	else
		probe_add(list, &others, PROBE_OK, "none");
}

void probe_programs(struct probe_list *list, const struct probe_context *c)
{
	probe_task(list);
	probe_run(list);
	probe_each(list, c);
	probe_datagrams(list, c);
	probe_lsm(list);
	probe_others(list, c);
}
