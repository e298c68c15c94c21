/* SPDX-License-Identifier: MIT */
/*
 * The option proxyauth: who may use the proxy (spec: mitmproxy 12 addons/proxyauth.py, utils/htpasswd.py). Read-only
 * once made, but for what it remembers about passwords that were right; any thread may check.
 */
#pragma once

#include "base/err.h"
#include "base/str.h"

struct proxy_auth;

/*
 * spec: "any", "user:password", or "@path", then htpasswd is what that file holds (lines user:hash with bcrypt, {SHA},
 * $apr1$ or what crypt(3) knows). Returns 0; -EINVAL with mitmproxy's sentence; -ENOTSUP for LDAP; -ENOMEM.
 */
int proxy_auth_new(struct proxy_auth **out, struct str spec, struct str htpasswd, struct err *e) __must_check;
void proxy_auth_free(struct proxy_auth *a);

/*
 * A password seen for the first time may take as long as its hash wants (bcrypt: some 50 ms); one that was right is
 * remembered as a keyed digest.
 */
bool proxy_auth_check(const struct proxy_auth *a, struct str user, struct str password);
