/* SPDX-License-Identifier: MIT */
/*
 * Java's file of trusted certificates (lib/security/cacerts) with one more in it. Both forms that JDKs ship: JKS, and
 * PKCS#12 with or without a password. What was there stays as it is, byte for byte. Bytes in, bytes out.
 */
#pragma once

#include <openssl/x509.h>

#include "base/err.h"
#include "base/str.h"

/* The password of every JDK's own file. It protects nothing: it is a checksum's salt. */
#define JAVA_STORE_PASSWORD "changeit"
#define JAVA_STORE_BYTES_MAX (16u << 20)

/**
 * java_store_add() - appends to out what the store becomes with cert in it, as a trusted authority.
 * @store: the file's bytes
 * @alias: the entry's name, lower case; one of the same name loses its place
 *
 * Returns 0; -EINVAL for what is no store of these forms; -EACCES when its password is another one than
 * JAVA_STORE_PASSWORD; -EFBIG; -ENOMEM; always with a sentence. out is unchanged on failure, unless it failed itself.
 */
int java_store_add(struct strbuf *out, struct str store, X509 *cert, const char *alias, struct err *e) __must_check;
