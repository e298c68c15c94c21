/* SPDX-License-Identifier: MIT */
/*
 * The environment of a command: variables by which programs are told whom to trust, and which proxy to use. What was
 * set before is merged, never replaced. For a process that is about to exec.
 */
#pragma once

#include "master/client_trust.h"

/* covered: Java's own stores have the CA already, so that Java need not be told of another one. */
void run_env_trust(struct client_trust *t, bool covered);

/* loopback: connections to this machine itself shall be seen, too. */
void run_env_proxy(uint16_t port, bool loopback);
