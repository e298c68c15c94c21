/* SPDX-License-Identifier: MIT */
/* `mitm-bpf release`: takes away what a killed run with --fail-closed left, so that connections go direct again. */
#pragma once

#include "base/str.h"

/* Appends what was done. Returns the exit status. Thread: the only one. */
int release_run(struct strbuf *out);
