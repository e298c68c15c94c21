/* SPDX-License-Identifier: MIT */
/* For tests of certificates: files of tests/vectors/ca, which mitmproxy 12.2.3 made, and a CA of their own. */
#pragma once

#include "crypto/ca.h"
#include "base/str.h"

#define FIXTURE_NOW_S 1796000000         /* within the vectors' validity: they were made in 2026 */

/* A whole file; fails the test when it cannot be read. strbuf_fini() it. */
struct strbuf fixture_read(const char *path);

/* The CA of tests/vectors/ca/mitmproxy-ca.pem. */
struct ca *fixture_ca(void);

/* A certificate of the test's own with these extensions (OpenSSL's text form: "DNS:a,IP:::1"), signed by ca. */
X509 *fixture_issue(const struct ca *ca, const char *cn, const char *organization, const char *alt_names,
		const char *crl, EVP_PKEY *key);
