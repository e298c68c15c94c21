/* SPDX-License-Identifier: MIT */
/* Who a command runs as: the privilege is for intercepting, not for the command. */
#pragma once

#include <limits.h>
#include <sys/types.h>

#include "base/err.h"

struct run_user {
	uid_t uid;
	gid_t gid;
	bool changes;                /* another one than we are */
	char name[256];              /* "": the system does not know him */
	char home[PATH_MAX], shell[PATH_MAX];
};

/**
 * run_user_find() - the user of a command.
 * @wanted: a name or a number (option --user); NULL: whoever called sudo, doas or pkexec, else who we are
 *
 * Returns 0; -ENOENT: no such user; -EPERM: only root runs commands as somebody else; with a sentence.
 */
int run_user_find(struct run_user *u, const char *wanted, struct err *e) __must_check;

/* Groups, user and what the environment says of him. For a process that is about to exec. 0 or -errno. */
int run_user_become(const struct run_user *u, struct err *e) __must_check;
