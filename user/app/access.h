/* SPDX-License-Identifier: MIT */
/* Options that need more than their text before workers can use them: passwords, addresses. */
#pragma once

#include "base/err.h"
#include "core/options.h"
#include "master/settings.h"

/* Fills proxyauth (owned by *auth), connect_addr; checks upstream_auth. Returns 0 or -errno with a sentence. */
int access_load(struct options *o, struct proxy_auth **auth, const struct settings *s, struct err *e) __must_check;
