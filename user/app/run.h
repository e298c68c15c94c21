/* SPDX-License-Identifier: MIT */
/*
 * `mitm-bpf run COMMAND…`: three processes. The one that was started waits; the command, its child, has the terminal,
 * the standard streams and the signals; the proxy, another child in a session of its own, sees the command's whole tree
 * and nothing else. When the proxy dies, the command goes on, direct; when the waiting one dies, the proxy ends.
 *
 * As root the tree is a cgroup (or, where none can be made, the pid and its descendants), and the CA is mounted into
 * what it trusts. Without root the proxy is an explicit one, by the environment.
 */
#pragma once

#include "master/settings.h"

struct run_config {
	struct settings *settings;   /* changed: modes are our business */
	char *const *words;          /* the command, up to a NULL */
	const char *user;            /* --user; NULL: who called sudo, or who we are */
	bool sigpipe_ignored;        /* before the program began */
};

/* Returns the command's exit status (or dies by its signal); 125, 126, 127 as env(1). Says what is wrong. */
int run_tree(const struct run_config *config);
