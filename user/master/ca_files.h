/* SPDX-License-Identifier: MIT */
/*
 * The CA's files in confdir (~/.mitmproxy), the same that mitmproxy makes and reads: whichever program started first,
 * the other goes on with its CA.
 */
#pragma once

#include "crypto/ca.h"
#include "crypto/leaf.h"

struct ca_files {
	struct ca *ca;
	EVP_PKEY *dhparam;           /* for SSL_CTX_set0_tmp_dh_pkey(), which takes over a reference */
	bool created;                /* the CA is new: clients do not trust it yet */
	bool expired;                /* and a warning was logged */
};

/**
 * ca_files_load() - the CA of confdir, made there when there is none.
 * @confdir:    expanded path; created with its parents
 * @key_bits:   for a new CA (option key_size)
 * @passphrase: of mitmproxy-ca.pem (option cert_passphrase), NULL = none
 * @now_s:      since 1970
 *
 * mitmproxy-ca.pem decides: when it is there, no other CA file is read or written. Files appear whole or not at all,
 * and several processes that start at once get the same CA.
 * Returns 0; -EPERM when others may read the key; -EINVAL when a file is not what it should be; -errno.
 * Ownership: the caller's, to ca_files_fini(). Thread: any.
 * Source: mitmproxy 12 CertStore.from_store().
 */
int ca_files_load(struct ca_files *out, const char *confdir, int key_bits, const char *passphrase,
		  int64_t now_s, struct err *e) __must_check;
void ca_files_fini(struct ca_files *files);

/* A certificate of the user's own (option `certs`). A CA's is accepted with a warning. 0 or -errno. */
int ca_files_load_leaf(struct leaf **out, const char *path, const char *passphrase, const struct ca *ca,
		       struct err *e) __must_check;

/* One that we show to servers (option `client_certs`); its key is in the file. 0 or -errno. */
int ca_files_load_client(struct leaf **out, const char *path, const char *passphrase, struct err *e) __must_check;
