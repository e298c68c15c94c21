/* SPDX-License-Identifier: MIT */
/* Option client_certs: the files are read once, at the start, so that a mistake is said then. */
#pragma once

#include "crypto/client_certs.h"

/**
 * client_cert_files_load() - the certificates to show to servers.
 * @path:       expanded; a PEM file for all servers, or a folder of <name or address of the server>.pem
 * @passphrase: of their keys, NULL = none
 *
 * Returns 0; -EINVAL (no certificate, no key, a key of another certificate, wrong passphrase); -errno.
 * Ownership: the caller's, to client_certs_free().
 * Source: mitmproxy 12 tlsconfig.tls_start_server(), which looks for the file at each connection.
 */
int client_cert_files_load(struct client_certs **out, const char *path, const char *passphrase,
			   struct err *e) __must_check;
