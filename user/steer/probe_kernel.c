/* SPDX-License-Identifier: MIT */
/* What can be known without loading a program. */
#include <bpf/bpf.h>
#include <errno.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "steer/probe_parts.h"

#define KERNEL_NEEDED_MAJOR 5
#define KERNEL_NEEDED_MINOR 15
#define MAP_BYTES (16u << 20)

/* The first line of a small file, without its newline; false: cannot be read. */
static bool first_line(const char *path, char *out, int size)
{
	FILE *f = fopen(path, "re");
	bool got = f && fgets(out, size, f);

	if (f)
		fclose(f);
	if (got)
		out[strcspn(out, "\n")] = 0;
	return got;
}

static void probe_version(struct probe_list *list)
{
	static const struct probe_advice kernel = {
		true, "kernel", "the programs do not load", "use Linux 5.15 or newer; 6.1 and newer need no fallbacks",
	};
	static const struct probe_advice arch = {
		false, "architecture", "untested: it may work", "use x86-64 or arm64 if something fails",
	};
	unsigned int major = 0, minor = 0;
	struct utsname u;
	bool old;

	uname(&u);
	sscanf(u.release, "%u.%u", &major, &minor);
	old = major < KERNEL_NEEDED_MAJOR || (major == KERNEL_NEEDED_MAJOR && minor < KERNEL_NEEDED_MINOR);
	probe_add(list, &kernel, old ? PROBE_MISSING : PROBE_OK, "%s %s", u.sysname, u.release);
	probe_add(list, &arch, strcmp(u.machine, "x86_64") == 0 || strcmp(u.machine, "aarch64") == 0 ? PROBE_OK :
		  PROBE_DEGRADED, "%s", u.machine);
}

static void probe_btf(struct probe_list *list)
{
	static const struct probe_advice btf = {
		true, "kernel type information (BTF)", "the programs do not load",
		"use a kernel built with CONFIG_DEBUG_INFO_BTF, as those of the distributions are",
	};

	if (access("/sys/kernel/btf/vmlinux", R_OK) < 0)
		probe_add(list, &btf, PROBE_MISSING, "/sys/kernel/btf/vmlinux: %s", strerror(errno));
	else
		probe_add(list, &btf, PROBE_OK, "/sys/kernel/btf/vmlinux");
}

static void probe_settings(struct probe_list *list)
{
	static const struct probe_advice lockdown = {
		false, "kernel lockdown", "executable paths cannot be read: only names of processes match",
		"boot without lockdown=confidentiality",
	};
	static const struct probe_advice jit = {
		false, "BPF compiler (JIT)", "the hooks are interpreted, several times slower",
		"run: sysctl net.core.bpf_jit_enable=1",
	};
	char line[128];

	if (!first_line("/sys/kernel/security/lockdown", line, sizeof(line)))
		probe_add(list, &lockdown, PROBE_OK, "not known (securityfs is not mounted)");
	else
		probe_add(list, &lockdown, strstr(line, "[confidentiality]") ? PROBE_DEGRADED : PROBE_OK, "%s", line);
	if (!first_line("/proc/sys/net/core/bpf_jit_enable", line, sizeof(line)))
		probe_add(list, &jit, PROBE_OK, "not known");
	else
		probe_add(list, &jit, strcmp(line, "0") == 0 ? PROBE_DEGRADED : PROBE_OK, "bpf_jit_enable = %s", line);
}

/* Which of some capabilities the process has not; CAP_SYS_ADMIN stands for the two that were split from it. */
static bool find_lacking(const cap_value_t *wanted, size_t count, char out[static 128])
{
	cap_t have = cap_get_proc();
	size_t len = 0;

	out[0] = 0;
	for (size_t i = 0; i < count && have; i++) {
		cap_flag_value_t set = CAP_CLEAR, admin = CAP_CLEAR;
		char *name = cap_to_name(wanted[i]);

		cap_get_flag(have, wanted[i], CAP_EFFECTIVE, &set);
		if (wanted[i] == CAP_BPF || wanted[i] == CAP_PERFMON)
			cap_get_flag(have, CAP_SYS_ADMIN, CAP_EFFECTIVE, &admin);
		if (set == CAP_CLEAR && admin == CAP_CLEAR && name && len < 100) {
			len += (size_t)snprintf(out + len, 128 - len, "%s", len ? ", " : "");
			for (const char *c = name; *c && len < 120; c++)
				out[len++] = *c >= 'a' && *c <= 'z' ? (char)(*c - 32) : *c;
			out[len] = 0;
		}
		cap_free(name);
	}
	if (have)
		cap_free(have);
	return out[0];
}

/* All of them, and still refused: by seccomp, or a security module. */
static bool bpf_is_refused(void)
{
	int fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "mb_probe", 4, 4, 1, NULL);

	if (fd >= 0)
		close(fd);
	return fd < 0 && errno == EPERM;
}

static void probe_capabilities(struct probe_list *list)
{
	static const struct probe_advice steering = {
		true, "capabilities", "no process is intercepted: programs cannot be loaded or attached",
		PROBE_PRIVILEGES,
	};
	static const struct probe_advice refused = {
		true, "capabilities", "no process is intercepted",
		"run outside of the container, or under a seccomp profile that allows bpf(2)",
	};
	static const struct probe_advice others = {
		false, "capabilities for others' processes",
		"others' executables, sockets, namespaces are not seen: containers, --reset-existing, ps, doctor PID",
		"run as root, or add CAP_SYS_ADMIN, CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH",
	};
	static const struct probe_advice ports = {
		false, "capabilities for ports", "no mode can listen below 1024",
		"add CAP_NET_BIND_SERVICE, or use other ports",
	};
	static const cap_value_t for_steering[] = { CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON };
	static const cap_value_t for_others[] = { CAP_SYS_ADMIN, CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH };
	static const cap_value_t for_ports[] = { CAP_NET_BIND_SERVICE };
	char lacking[128];

	if (find_lacking(for_steering, ARRAY_SIZE(for_steering), lacking))
		probe_add(list, &steering, PROBE_MISSING, "lacking %s", lacking);
	else if (bpf_is_refused())
		probe_add(list, &refused, PROBE_MISSING, "all are there, but bpf(2) is refused: by a seccomp profile, "
			  "or a security module");
	else
		probe_add(list, &steering, PROBE_OK, "CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON (or CAP_SYS_ADMIN for them)");
	if (find_lacking(for_others, ARRAY_SIZE(for_others), lacking))
		probe_add(list, &others, PROBE_DEGRADED, "lacking %s", lacking);
	else
		probe_add(list, &others, PROBE_OK, "CAP_SYS_ADMIN, CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH");
	if (find_lacking(for_ports, ARRAY_SIZE(for_ports), lacking))
		probe_add(list, &ports, PROBE_DEGRADED, "lacking %s", lacking);
	else
		probe_add(list, &ports, PROBE_OK, "CAP_NET_BIND_SERVICE");
}

static void probe_memory(struct probe_list *list)
{
	static const struct probe_advice memory = {
		true, "memory for maps", "the programs do not load",
		"raise the cgroup's memory limit; before Linux 5.11: ulimit -l unlimited",
	};
	static const struct probe_advice refused = {
		true, "memory for maps", "the programs do not load", PROBE_PRIVILEGES,
	};
	int fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "mb_probe", 4, MAP_BYTES / 16, 16, NULL);

	if (fd < 0) {
		probe_add(list, errno == EPERM ? &refused : &memory, PROBE_MISSING, "a map of 16 MiB: %s",
			  strerror(errno));
		return;
	}
	close(fd);
	probe_add(list, &memory, PROBE_OK, "a map of 16 MiB could be made");
}

static void probe_bpffs(struct probe_list *list)
{
	static const struct probe_advice bpffs = {
		false, "bpffs", "--fail-closed has to mount one for itself, which takes CAP_SYS_ADMIN",
		"mount -t bpf bpf /sys/fs/bpf",
	};
	struct statfs fs;

	if (statfs("/sys/fs/bpf", &fs) == 0 && fs.f_type == BPF_FS_MAGIC)
		probe_add(list, &bpffs, PROBE_OK, "/sys/fs/bpf");
	else
		probe_add(list, &bpffs, PROBE_DEGRADED, "not mounted at /sys/fs/bpf");
}

void probe_kernel(struct probe_list *list)
{
	probe_version(list);
	probe_btf(list);
	probe_settings(list);
	probe_capabilities(list);
	probe_memory(list);
	probe_bpffs(list);
}
