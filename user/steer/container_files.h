/* SPDX-License-Identifier: MIT */
/*
 * The files in which runtimes keep their containers: podman's, docker's, and the bundles of containerd and CRI-O. Some
 * are in homes, where their owner may put anything under these names. Thread: any.
 */
#pragma once

#include "base/str.h"

enum container_file {
	CONTAINER_FILE_STORAGE,              /* containers/storage, which podman uses */
	CONTAINER_FILE_DOCKER,
	CONTAINER_FILE_TASK,                 /* an OCI bundle's config.json: the folder that it is in is the id */
	CONTAINER_FILE_USERDATA,             /* the same, one folder further up */
};

/* uid: whose home it is from; 0: no user's. Strings are valid in the call. 0 or -errno, which ends the reading. */
typedef int (*container_file_fn)(void *owner, const char *id, const char *name, uint32_t uid);

/* Where a file is. */
struct container_place {
	const char *root;            /* is put before absolute paths: "", or a folder that stands in for the root */
	const char *path;            /* of the file, with root; only its folders' names count */
	uint32_t uid;                /* whose home it is in; 0: no user's */
};

/**
 * container_file_parse() - one call of each() for each name of each container.
 *
 * What cannot be understood has none. Returns 0 or what each() returned.
 */
int container_file_parse(enum container_file kind, const struct container_place *place, struct str bytes,
			 container_file_fn each, void *owner) __must_check;

/**
 * container_files_read() - all of them, in all the usual places.
 * @root: what is put before absolute paths: "", or a folder that stands in for the root
 *
 * Files that cannot be read, are none, or are too large are passed over. Returns 0, -ENOMEM or what each() returned.
 */
int container_files_read(const char *root, container_file_fn each, void *owner) __must_check;

/* All bundles in a folder of root's; the same. */
int container_files_in(const char *folder, const char *root, container_file_fn each, void *owner) __must_check;
