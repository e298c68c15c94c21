/* SPDX-License-Identifier: MIT */
/*
 * Links that outlive their process: a folder for each instance in a BPF file system, NAME/mitm-bpf/CGROUP-PID, with one
 * file for each link. CGROUP is the group's id (its inode number), and who owns the folder holds a lock on it: the
 * kernel gives it back when the owner dies, however it dies. A folder without a lock is a leftover.
 * Thread: any, one at a time.
 */
#pragma once

#include <bpf/libbpf.h>
#include <limits.h>
#include <sys/types.h>

#include "base/err.h"

struct pins;

/* One folder that is there. path is valid in the call. */
struct pins_seen {
	const char *path;
	uint64_t cgroup_id;
	pid_t pid;                   /* of the owner, dead or not, as it saw itself */
	int lock_fd;                 /* leftovers: the lock, ours while the call lasts; -1: its owner lives */
};

/**
 * pins_open() - an own folder for the links of one cgroup, in the BPF file system that is mounted, or in one that this
 * mounts on /run/mitm-bpf/bpf.
 *
 * Returns 0; -EPERM and others with a sentence. Ownership: pins_free(), which leaves pinned links where they are.
 */
int pins_open(struct pins **out, uint64_t cgroup_id, struct err *e) __must_check;
void pins_free(struct pins *p);

/* From here on the link stays attached when this process dies; once for each name. 0 or -errno with a sentence. */
int pins_add(struct pins *p, const char *name, const struct bpf_link *link, struct err *e) __must_check;
/* The opposite. What is not there is fine. NULL p is fine. */
void pins_remove(struct pins *p, const char *name);
/* Takes away the folder, too, and what else is in it. NULL is fine. */
void pins_remove_all(struct pins *p);

/* Calls see for each folder in each BPF file system that is mounted here. Returns how many there were. */
uint32_t pins_list(void (*see)(void *owner, const struct pins_seen *seen), void *owner);
/* The link of that name in a folder; NULL: there is none. The caller destroys it. */
struct bpf_link *pins_find(const struct pins_seen *seen, const char *name);
/* Detaches a leftover's links and takes away its folder. */
void pins_release(const struct pins_seen *seen);
/* Only takes away the folder: its links may be somebody else's by now. */
void pins_drop(const struct pins_seen *seen);
