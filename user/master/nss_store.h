/* SPDX-License-Identifier: MIT */
/*
 * NSS databases, where Chromium and Firefox look for authorities: copies with our CA in them, made by NSS's own
 * certutil. They hold a user's keys, so that they are read, changed and owned with that user's rights.
 */
#pragma once

#include <sys/types.h>

#include "base/err.h"

struct nss_store_config {
	const char *folder;          /* where copies go */
	const char *home;            /* whose databases */
	const char *ca_file;         /* the CA's certificate in PEM form */
	uid_t uid;
	gid_t gid;
};

/* One file of a database: its copy, and an O_PATH descriptor of the original, which becomes the callee's. */
typedef void (*nss_store_fn)(void *owner, const char *copy, int original_fd);

/* All databases of a home. What cannot be copied is logged. Thread: of a process that has only one. */
void nss_store_copy_all(const struct nss_store_config *config, nss_store_fn each, void *owner);
