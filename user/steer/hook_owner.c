/* SPDX-License-Identifier: MIT */
/* BPF_PROG_QUERY on a group and its ancestors. */
#include "steer/hook_owner.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#define PROGRAMS_MAX 64

bool hook_owner_find(struct hook_owner *out, int cgroup_fd, enum bpf_attach_type type)
{
	uint32_t ids[PROGRAMS_MAX], count = PROGRAMS_MAX, flags = 0;
	struct bpf_prog_info info = { 0 };
	uint32_t len = sizeof(info);
	int fd;

	*out = (struct hook_owner){ 0 };
	if (bpf_prog_query(cgroup_fd, type, 0, &flags, ids, &count) < 0 || count == 0)
		return false;
	out->count = count;
	out->program_id = ids[0];
	out->exclusive = !(flags & BPF_F_ALLOW_MULTI);
	out->overridable = flags & BPF_F_ALLOW_OVERRIDE;
	fd = bpf_prog_get_fd_by_id(ids[0]);
	if (fd < 0)
		return true;
	if (bpf_obj_get_info_by_fd(fd, &info, &len) == 0)
		memcpy(out->program_name, info.name, sizeof(out->program_name));
	close(fd);
	return true;
}

/* The parent directory's descriptor while it still is in the v2 tree; -1 at its root. Closes fd. */
static int parent_of(int fd)
{
	int parent = openat(fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct statfs fs;

	close(fd);
	if (parent >= 0 && fstatfs(parent, &fs) == 0 && fs.f_type == CGROUP2_SUPER_MAGIC)
		return parent;
	if (parent >= 0)
		close(parent);
	return -1;
}

/* Returns how many levels up it sits, or -1. */
static int levels_up(struct hook_owner *out, int cgroup_fd, enum bpf_attach_type type)
{
	int fd = fcntl(cgroup_fd, F_DUPFD_CLOEXEC, 0);

	for (int up = 0; fd >= 0; up++, fd = parent_of(fd)) {
		if (hook_owner_find(out, fd, type) && out->exclusive && !(up && out->overridable)) {
			close(fd);
			return up;
		}
	}
	return -1;
}

bool hook_owner_find_exclusive(struct hook_owner *out, int cgroup_fd, enum bpf_attach_type type)
{
	return levels_up(out, cgroup_fd, type) >= 0;
}

int hook_owner_explain(int cgroup_fd, const char *cgroup, const struct bpf_program *program, int ret, struct err *e)
{
	enum bpf_attach_type type = bpf_program__expected_attach_type(program);
	struct hook_owner owner;
	int up = ret == -EPERM ? levels_up(&owner, cgroup_fd, type) : -1;

	if (up >= 0)
		return err_set(e, -EBUSY, "another BPF program (id %u, %s) owns the %s hook of %s%s exclusively; "
			       "stop it, or choose another group with --cgroup", owner.program_id,
			       *owner.program_name ? owner.program_name : "no name",
			       libbpf_bpf_attach_type_str(type), up ? "a parent of " : "",
			       cgroup ? cgroup : "the root cgroup");
	if (ret == -EPERM || ret == -EACCES)
		return err_set(e, ret, "the kernel refused to attach to cgroups; run as root, or with the "
			       "capabilities CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON");
	return err_set(e, ret, "cannot attach %s to %s: %s; mitm-bpf doctor tells what this kernel lacks",
		       bpf_program__name(program), cgroup ? cgroup : "the root cgroup", strerror(-ret));
}
