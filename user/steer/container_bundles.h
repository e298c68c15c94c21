/* SPDX-License-Identifier: MIT */
/*
 * OCI bundles: the folder that a runtime is given for a container. Who made it has noted in config.json what a person
 * calls the container: containerd's clients by an annotation, docker by files of its own that are mounted from where
 * their data is, `ctr` by the id itself, which says nothing of the cgroup then. Thread: any.
 */
#pragma once

#include <jansson.h>

#include "base/err.h"

/* A container as its bundle knows it; valid in the call. id: a whole one, or else the path or name of its cgroup. */
typedef int (*container_bundle_fn)(void *owner, const char *id, const char *name);

#define CONTAINER_FILE_BYTES_MAX (8u << 20)      /* 10,000 containers of podman's are 5 MB */

/* A state file, for json_decref(); *file is NULL when it is none. Returns 0 or -ENOMEM. */
int container_json_load(const char *path, json_t **file) __must_check;

/**
 * container_bundle_read() - a name and an id, or several.
 * @id: the container's, as its runtime has it
 * @root: what is put before absolute paths in the file
 * @each: 0 or -errno, which ends it
 *
 * Returns 0, what each() returned, or -ENOMEM. What cannot be read or understood is passed over.
 */
int container_bundle_read(const json_t *file, const char *id, const char *root, container_bundle_fn each,
			  void *owner) __must_check;

/* What docker keeps of a container of this id (NULL: of any), config.v2.json: the same. */
int container_docker_read(const json_t *file, const char *id, container_bundle_fn each, void *owner) __must_check;
