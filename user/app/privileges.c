/* SPDX-License-Identifier: MIT */
#include "app/privileges.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/prctl.h>

#include "base/log.h"
#include "steer/cgroup.h"
#include "worker/confine.h"

#define BIT(cap) (UINT64_C(1) << (cap))

static bool has(cap_value_t cap)
{
	cap_t have = cap_get_proc();
	cap_flag_value_t value = CAP_CLEAR;
	bool set = have && cap_get_flag(have, cap, CAP_EFFECTIVE, &value) == 0 && value == CAP_SET;

	if (have)
		cap_free(have);
	return set;
}

void privileges_freeze(void)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		log_line(LOG_DEBUG, "privileges", "no_new_privs: %s", strerror(errno));
}

/* Even for a program that root starts anew: what is not in the bounding set, nobody below us has. */
static void drop_bounds(uint64_t keep)
{
	for (cap_value_t cap = 0; cap <= CAP_LAST_CAP; cap++)
		if (!(keep & BIT(cap)) && cap_get_bound(cap) == 1)
			(void)cap_drop_bound(cap);
}

void privileges_drop(const struct settings *s, bool steers)
{
	const char *file = settings_text(s, "save_stream_file");
	/* Modes that take forwarded traffic are added and removed at any time. */
	uint64_t keep = BIT(CAP_NET_BIND_SERVICE) | BIT(CAP_NET_ADMIN) | BIT(CAP_BPF);
	char mount[PATH_MAX];
	int ret;

	if (steers)
		keep |= BIT(CAP_PERFMON) | BIT(CAP_SYS_PTRACE) | BIT(CAP_DAC_READ_SEARCH);
	/* It stands for these two where it came alone, and mounts the cgroup tree for ourselves where nobody has. */
	if (steers && (!has(CAP_BPF) || !has(CAP_PERFMON) || cgroup_mount(mount, NULL) < 0))
		keep |= BIT(CAP_SYS_ADMIN);
	/* The file system for pins comes and goes with local mode. */
	if (steers && settings_bool(s, "fail_closed"))
		keep |= BIT(CAP_SYS_ADMIN);
	/* A new file begins whenever its name says so, maybe in a folder of whoever called sudo. */
	if (file && file[0])
		keep |= BIT(CAP_DAC_OVERRIDE);
	drop_bounds(keep);
	ret = confine_capabilities(keep);
	if (ret < 0)
		log_line(LOG_WARN, "privileges", "capabilities could not be dropped: %s", strerror(-ret));
}

static void enter(uint64_t keep)
{
	if (confine_capabilities(keep) < 0)
		log_line(LOG_WARN, "privileges", "the capabilities of a thread could not be dropped");
}

void privileges_enter_offload(void)
{
	enter(BIT(CAP_DAC_READ_SEARCH));
}

void privileges_enter_offload_steering(void)
{
	enter(BIT(CAP_DAC_READ_SEARCH) | BIT(CAP_NET_ADMIN) | BIT(CAP_SYS_ADMIN) | BIT(CAP_SYS_PTRACE));
}

void privileges_enter_other(void)
{
	enter(0);
}

void privileges_enter_namespaces(void)
{
	enter(BIT(CAP_SYS_ADMIN) | BIT(CAP_SYS_PTRACE) | BIT(CAP_NET_ADMIN) | BIT(CAP_BPF));
}

const char *privileges_lacking(char out[static PRIVILEGES_TEXT_MAX])
{
	static const struct {
		cap_value_t cap;
		const char *name;
		bool admin;                  /* CAP_SYS_ADMIN stands for it */
	} needed[] = {
		{ CAP_BPF, "CAP_BPF", true },
		{ CAP_NET_ADMIN, "CAP_NET_ADMIN", false },
		{ CAP_PERFMON, "CAP_PERFMON", true },
	};
	size_t len = 0;

	out[0] = 0;
	for (size_t i = 0; i < ARRAY_SIZE(needed); i++) {
		if (has(needed[i].cap) || (needed[i].admin && has(CAP_SYS_ADMIN)))
			continue;
		len += (size_t)snprintf(out + len, PRIVILEGES_TEXT_MAX - len, "%s%s", len ? ", " : "", needed[i].name);
	}
	return out;
}
