/* SPDX-License-Identifier: MIT */
/* BPF_PROG_QUERY on a group and its ancestors. */
#include "steer/hook_owner.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define PROGRAMS_MAX 64

static void name_of(uint32_t id, char name[static 16])
{
	struct bpf_prog_info info = { 0 };
	uint32_t len = sizeof(info);
	int fd = bpf_prog_get_fd_by_id(id);

	name[0] = 0;
	if (fd < 0)
		return;
	if (bpf_obj_get_info_by_fd(fd, &info, &len) == 0)
		memcpy(name, info.name, 16);
	close(fd);
}

static uint32_t query(int cgroup_fd, enum bpf_attach_type type, uint32_t ids[static PROGRAMS_MAX], uint32_t *flags)
{
	uint32_t count = PROGRAMS_MAX;

	*flags = 0;
	return bpf_prog_query(cgroup_fd, type, 0, flags, ids, &count) < 0 ? 0 : count;
}

static void describe(struct hook_owner *out, uint32_t id, uint32_t flags)
{
	out->program_id = id;
	out->exclusive = !(flags & BPF_F_ALLOW_MULTI);
	out->overridable = flags & BPF_F_ALLOW_OVERRIDE;
	name_of(id, out->program_name);
}

bool hook_owner_find(struct hook_owner *out, int cgroup_fd, enum bpf_attach_type type)
{
	uint32_t ids[PROGRAMS_MAX], flags, count = query(cgroup_fd, type, ids, &flags);

	*out = (struct hook_owner){ .count = count };
	if (count)
		describe(out, ids[0], flags);
	return count;
}

/* The parent directory's descriptor while it still is in the v2 tree; -1 at its root, which is its own parent where the
 * tree is mounted for us alone. Closes fd. */
static int parent_of(int fd)
{
	int parent = openat(fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat own, above;
	struct statfs fs;
	bool root = parent < 0 || fstat(fd, &own) < 0 || fstat(parent, &above) < 0 || fstatfs(parent, &fs) < 0 ||
		    fs.f_type != CGROUP2_SUPER_MAGIC || (own.st_ino == above.st_ino && own.st_dev == above.st_dev);

	close(fd);
	if (!root)
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

bool hook_owner_find_foreign(struct hook_owner *out, int cgroup_fd, enum bpf_attach_type type)
{
	int fd = fcntl(cgroup_fd, F_DUPFD_CLOEXEC, 0);

	*out = (struct hook_owner){ 0 };
	for (; fd >= 0; fd = parent_of(fd)) {
		uint32_t ids[PROGRAMS_MAX], flags, count = query(fd, type, ids, &flags);

		for (uint32_t i = 0; i < count; i++) {
			char name[16];

			name_of(ids[i], name);
			if (strncmp(name, "mb_", 3) == 0)
				continue;
			out->count++;
			if (!out->exclusive)
				describe(out, ids[i], flags);
		}
	}
	return out->count;
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
