/* SPDX-License-Identifier: MIT */
/* The program from settings to exit status: CA, listeners, steering, workers, master, and all of it down again. */
#pragma once

#include "base/str.h"
#include "master/settings.h"

/* Somebody who runs the program for a purpose of his own (`mitm-bpf run`). */
struct program_host {
	void *owner;
	int flow_fd;                     /* where flows are printed */
	/* Connections are taken from now on. port: where the first mode listens; pem: the CA's certificate. */
	void (*ready)(void *owner, uint16_t port, struct str pem);
};

/* host: NULL = a person, who reads standard output. Logs what is wrong. Returns the exit status. */
int program_run(const struct settings *settings, const struct program_host *host);
