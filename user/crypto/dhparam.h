/* SPDX-License-Identifier: MIT */
/* The Diffie-Hellman group for old clients (mitmproxy-dhparam.pem): 4096 bits, generator 2. */
#pragma once

#include <openssl/evp.h>

#include "base/str.h"

/* Appends the well-known group of RFC 3526 5 ("group 16") as PEM. 0 or -ENOMEM. */
int dhparam_write(struct strbuf *out) __must_check;

/* Any DH parameters in PEM form, for SSL_CTX_set0_tmp_dh_pkey(). The caller owns *out. 0 or -EINVAL. */
int dhparam_parse(EVP_PKEY **out, const void *pem, size_t len) __must_check;
