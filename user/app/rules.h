/* SPDX-License-Identifier: MIT */
/*
 * `mitm-bpf rules`: prints the commands that bring forwarded connections to `--mode transparent` by firewall rules, for
 * kernels that cannot do it by BPF, and those that undo it. Runs nothing.
 */
#pragma once

#include "base/err.h"
#include "base/str.h"

/* words: what follows "rules" on the command line. Returns 0; -EINVAL with a sentence; -ENOMEM. */
int rules_write(const char *const *words, size_t count, struct strbuf *out, struct err *e) __must_check;
