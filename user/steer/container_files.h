/* SPDX-License-Identifier: MIT */
/*
 * The files in which runtimes keep their containers: podman's, docker's, and the bundles of containerd and CRI-O. Some
 * are in homes, where their owner may put anything under these names. Thread: any.
 */
#pragma once

#include "base/str.h"

#define CONTAINER_FILE_BYTES_MAX (8u << 20)      /* 10,000 containers of podman's are 5 MB */

enum container_file {
	CONTAINER_FILE_STORAGE,              /* containers/storage, which podman uses */
	CONTAINER_FILE_DOCKER,
	CONTAINER_FILE_TASK,                 /* an OCI bundle's config.json: the folder that it is in is the id */
	CONTAINER_FILE_USERDATA,             /* the same, one folder further up */
};

/* uid: whose home it is from; 0: no user's. Strings are valid in the call. 0 or -errno, which ends the reading. */
typedef int (*container_file_fn)(void *owner, const char *id, const char *name, uint32_t uid);

/**
 * container_file_parse() - one call of each() for each name of each container.
 * @path: where the file is; only its folders' names count
 *
 * What cannot be understood has none. Returns 0 or what each() returned.
 */
int container_file_parse(enum container_file kind, const char *path, struct str bytes, uint32_t uid,
			 container_file_fn each, void *owner) __must_check;

/**
 * container_files_read() - all of them, in all the usual places.
 * @root: what is put before absolute paths: "", or a folder that stands in for the root
 *
 * Files that cannot be read, are none, or are too large are passed over. Returns 0, -ENOMEM or what each() returned.
 */
int container_files_read(const char *root, container_file_fn each, void *owner) __must_check;
