/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * The path of the running executable, as d_path() would say it to us: that helper is not allowed where this is needed.
 * So it begins at our own root, also in a chroot, as what /proc/PID/exe shows us; elsewhere at its namespace's.
 */
#pragma once

#include "maps.bpf.h"

#include <bpf/bpf_core_read.h>

#define PATH_STEPS_MAX 32

/* The compiler must not see through this, or it drops masks that the verifier needs. */
#define BOUND(x, mask) asm volatile("%0 &= %1" : "+r"(x) : "i"(mask))

/* Puts the name and a slash before what is there. False: no room, the rest of the path is left out. */
static __always_inline bool path_prepend(struct steer_scratch *scratch, struct dentry *dentry)
{
	__u64 len = BPF_CORE_READ(dentry, d_name.len);
	const unsigned char *name = BPF_CORE_READ(dentry, d_name.name);
	__u64 from = scratch->at, slash;

	BOUND(len, 255);
	if (from < len + 1)
		return false;
	from -= len;
	BOUND(from, SCRATCH_PATH - 1);
	if (bpf_probe_read_kernel(scratch->path + from, len, name))
		return false;
	slash = from - 1;
	BOUND(slash, SCRATCH_PATH - 1);
	scratch->path[slash] = '/';
	scratch->at = slash;
	return true;
}

/*
 * One component, or one mount point, towards the root; 0: there are no more. This and some others are global
 * functions: each is verified once, however often it is called, which is most of the time that loading takes.
 */
__noinline int mb_path_step(__u32 slot)
{
	struct steer_scratch *scratch = bpf_map_lookup_elem(&mb_scratch, &slot);
	struct dentry *dentry, *parent;
	struct mount *mnt, *mnt_parent;

	if (!scratch)
		return 0;
	dentry = (void *)scratch->dentry;
	mnt = (void *)scratch->mnt;
	if (scratch->dentry == self_root && scratch->mnt == self_root_mount)
		return 0;
	if (dentry == BPF_CORE_READ(mnt, mnt.mnt_root)) {
		mnt_parent = BPF_CORE_READ(mnt, mnt_parent);
		scratch->dentry = (__u64)BPF_CORE_READ(mnt, mnt_mountpoint);
		scratch->mnt = (__u64)mnt_parent;
		return mnt_parent != mnt;
	}
	parent = BPF_CORE_READ(dentry, d_parent);
	scratch->dentry = (__u64)parent;
	if (parent == dentry)                   /* a root that is mounted nowhere (memfd) */
		return 0;
	return path_prepend(scratch, dentry);
}

static __always_inline __u64 mount_of(const struct vfsmount *vfsmount)
{
	return (__u64)vfsmount - bpf_core_field_offset(struct mount, mnt);
}

/* Writes the path of the current process's executable into a scratch slot, at the end; empty: there is none. */
static __always_inline void path_of_exe(struct steer_scratch *scratch, __u32 slot, struct task_struct *task)
{
	struct file *exe = BPF_CORE_READ(task, mm, exe_file);

	scratch->at = SCRATCH_PATH;
	if (!exe)
		return;
	scratch->dentry = (__u64)BPF_CORE_READ(exe, f_path.dentry);
	scratch->mnt = mount_of(BPF_CORE_READ(exe, f_path.mnt));
	for (int i = 0; i < PATH_STEPS_MAX; i++)
		if (!mb_path_step(slot))
			break;
}
