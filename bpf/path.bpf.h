/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The path of the running executable, as d_path() would say it: that helper is not allowed where this is needed. */
#pragma once

#include "maps.bpf.h"

#include <bpf/bpf_core_read.h>

#define PATH_STEPS_MAX 32

/* The compiler must not see through this, or it drops masks that the verifier needs. */
#define BOUND(x, mask) asm volatile("%0 &= %1" : "+r"(x) : "i"(mask))

/* Puts the name and a slash before *at. False: no room, the rest of the path is left out. */
static __always_inline bool path_prepend(char *path, __u64 *at, struct dentry *dentry)
{
	__u64 len = BPF_CORE_READ(dentry, d_name.len);
	const unsigned char *name = BPF_CORE_READ(dentry, d_name.name);
	__u64 from = *at, slash;

	BOUND(len, 255);
	if (from < len + 1)
		return false;
	from -= len;
	BOUND(from, SCRATCH_PATH - 1);
	if (bpf_probe_read_kernel(path + from, len, name))
		return false;
	slash = from - 1;
	BOUND(slash, SCRATCH_PATH - 1);
	path[slash] = '/';
	*at = slash;
	return true;
}

/* Writes the current process's into a scratch slot and returns where it begins; SCRATCH_PATH: there is none. */
__noinline __u32 mb_exe_path(__u32 slot)
{
	struct steer_scratch *scratch = bpf_map_lookup_elem(&mb_scratch, &slot);
	struct task_struct *task = bpf_get_current_task_btf();
	struct file *exe = BPF_CORE_READ(task, mm, exe_file);
	struct dentry *dentry, *parent;
	struct mount *mnt, *mnt_parent;
	__u64 at = SCRATCH_PATH;

	if (!scratch || !exe)
		return at;
	dentry = BPF_CORE_READ(exe, f_path.dentry);
	mnt = (void *)BPF_CORE_READ(exe, f_path.mnt) - bpf_core_field_offset(struct mount, mnt);
	for (int i = 0; i < PATH_STEPS_MAX; i++) {
		if (dentry == BPF_CORE_READ(mnt, mnt.mnt_root)) {
			mnt_parent = BPF_CORE_READ(mnt, mnt_parent);
			if (mnt_parent == mnt)
				break;
			dentry = BPF_CORE_READ(mnt, mnt_mountpoint);
			mnt = mnt_parent;
			continue;
		}
		parent = BPF_CORE_READ(dentry, d_parent);
		if (parent == dentry)           /* a root that is mounted nowhere (memfd) */
			break;
		if (!path_prepend(scratch->path, &at, dentry))
			break;
		dentry = parent;
	}
	return at;
}
