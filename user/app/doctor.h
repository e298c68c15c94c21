/* SPDX-License-Identifier: MIT */
/* `mitm-bpf doctor`: what this machine can do, one line per capability. */
#pragma once

#include "master/settings.h"

/* Appends the report. Returns the exit status: 1 when no process can be intercepted. Thread: the only one. */
int doctor_run(const struct settings *settings, bool json, struct strbuf *out);
