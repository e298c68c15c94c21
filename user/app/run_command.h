/* SPDX-License-Identifier: MIT */
/* The process that becomes the command: waits until everything is ready for it, and then gives way to it. */
#pragma once

#include <signal.h>

#include "app/run_user.h"

#define RUN_FAILED 125           /* as env(1) and timeout(1): it was not the command that failed */
#define RUN_NOT_EXECUTABLE 126
#define RUN_NOT_FOUND 127

/* What the proxy has told: its port in decimal, a newline, and the CA's certificate in PEM form. Nothing: it failed. */
struct run_command {
	char *const *words;          /* up to a NULL */
	struct run_user user;
	const char *folder;          /* for copies of what it trusts */
	int go_fd;                   /* read until its end */
	bool privileged;             /* connections are taken, and mounts can be made; else by a proxy's variables */
	bool loopback;
	bool sigpipe_ignored;        /* before the program began */
	sigset_t signals;            /* blocked then */
};

_Noreturn void run_command_exec(const struct run_command *c);
