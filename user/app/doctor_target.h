/* SPDX-License-Identifier: MIT */
/* `mitm-bpf doctor PID|container:NAME`: why the traffic of one process is seen, or not. */
#pragma once

#include "master/settings.h"

struct doctor_target {
	const char *name;                /* a pid, or container:, unit:, cgroup: and a name */
	long proxy;                      /* which mitm-bpf to ask; 0: the only one */
	bool json;
	const struct settings *settings; /* a local mode in them that was given is tried instead of asking anybody */
};

/* Appends the report. Returns the exit status: 0 when new connections are taken. Thread: the only one. */
int doctor_target(const struct doctor_target *what, struct strbuf *out);
