/* SPDX-License-Identifier: MIT */
/*
 * `mitm-bpf trust PID|container:NAME`: the CA merged into what a running process trusts, when it lives in a mount
 * namespace of its own, as in a container. Everybody in that namespace sees it, and nobody outside. The mounts stay
 * when we end. Thread: of a process that has only one, and that ends afterwards.
 */
#pragma once

#include <sys/types.h>

#include "master/settings.h"

/* undo: takes the mounts away again. Says what was done on standard output. Returns the exit status. */
int trust_target(const struct settings *s, pid_t pid, bool undo);

/* The same in each mount namespace that processes of a container live in; container: its name, or the beginning of its
 * id. Where it is done already nothing is done. */
int trust_container(const struct settings *s, const char *container, bool undo);
