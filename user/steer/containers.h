/* SPDX-License-Identifier: MIT */
/*
 * Containers by name and id, from the files in which their runtimes keep them (no daemon is asked), from the processes
 * that watch over them, and from the names of cgroups: podman, docker, containerd and CRI-O. Thread: any.
 */
#pragma once

#include "base/err.h"
#include "base/str.h"
#include "steer/cgroup_list.h"

#define CONTAINER_ID_LEN 64          /* hexadecimal digits of a full id */

struct container {
	char *id;                    /* CONTAINER_ID_LEN digits; else what its cgroup is called, or that one's path */
	char *name;                  /* NULL: known by its cgroup alone */
};

/* A container with several names is in it several times. */
struct container_list {
	struct container *containers;
	uint32_t count, cap;
};

/**
 * containers_read() - all that are known, running or not.
 * @root: what is put before the absolute paths of state files: "", or a folder that stands in for the root
 *
 * Files that cannot be read or understood are passed over. Returns 0 or -ENOMEM; the caller calls containers_fini().
 */
int containers_read(struct container_list *list, const struct cgroup_list *cgroups, const char *root,
		    struct err *e) __must_check;
void containers_fini(struct container_list *list);

/* Is it a whole id, as runtimes make them? */
bool container_is_id(struct str text);

/* Is this group one that a runtime made for the container of this id? Its subgroups are not. An id that is a path is
 * that group's alone. */
bool container_is_cgroup(const char *id, const char *path);

/**
 * containers_find() - the container that a person means.
 * @wanted: a name, or at least 4 digits of the beginning of an id
 * @match: called for each container; several may have one name
 *
 * Returns how many ids match: of those with this name, or else with this beginning.
 */
uint32_t containers_find(const struct container_list *list, struct str wanted,
			 void (*match)(void *owner, const char *id), void *owner);

/* Appends names (or short ids), for a sentence: "db, web, 1234567890ab". */
void containers_write(const struct container_list *list, struct strbuf *out);
