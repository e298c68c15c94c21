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
	const char *profile;         /* a folder besides, which a command line names; or NULL */
	const char *ca_file;         /* the CA's certificate in PEM form */
	uid_t uid;
	gid_t gid;
};

/* One file of a database: its copy, and an O_PATH descriptor of the original, which becomes the callee's. */
typedef void (*nss_store_fn)(void *owner, const char *copy, int original_fd);

/* Is the program a browser that has no database yet, since its first start makes it? */
bool nss_store_awaits(const struct nss_store_config *config, const char *program);

/* All databases of a home, and that of the profile. What cannot be copied is logged. Thread: of a process that has only
 * one. */
void nss_store_copy_all(const struct nss_store_config *config, nss_store_fn each, void *owner);
