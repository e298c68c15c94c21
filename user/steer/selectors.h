/* SPDX-License-Identifier: MIT */
/*
 * What the words of an intercept spec mean on this machine now: numbers of users and network namespaces, ids of the
 * cgroups of paths, units and containers. Reads /etc/passwd, the cgroup tree, /run/netns and the state files of
 * container runtimes. Thread: any.
 */
#pragma once

#include "base/err.h"
#include "base/str.h"
#include "steer/intercept_spec.h"

/**
 * selectors_resolve() - fills number and cgroups of the spec's actions.
 * @root: stands in for the root of the file system where runtimes' state files are looked for; ""
 * @notes: what matches nothing now is added, one sentence per line; NULL: nobody wants to know, and a user,
 *         container or network namespace that is not known (any more) is no error
 *
 * Returns 0; -ENOENT for a user, container or network namespace that nobody knows, with those that are; -EEXIST for
 * the beginning of several ids; other -errno. Ownership: the results are the spec's.
 */
int selectors_resolve(struct intercept_spec *spec, const char *root, struct strbuf *notes, struct err *e) __must_check;

/* Do any actions mean cgroups or network namespaces, so that what they mean can change? */
bool selectors_can_change(const struct intercept_spec *spec);

/* Do two resolved copies of one spec mean the same? */
bool selectors_same(const struct intercept_spec *a, const struct intercept_spec *b);
