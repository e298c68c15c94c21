/* SPDX-License-Identifier: MIT */
/*
 * What all TLS connections of one worker share: contexts of both roles, the source of leaf certificates, sessions to
 * resume, the rules for protocols. One per worker, made before its connections, freed after them.
 */
#pragma once

#include <openssl/ssl.h>

#include "base/err.h"
#include "core/env.h"
#include "crypto/client_certs.h"
#include "layers/tls_refusals.h"
#include "layers/tls_sessions.h"

#define TLS_TICKET_KEYS_SIZE 80      /* what SSL_CTX_set_tlsext_ticket_keys() of OpenSSL 3 wants */
#define TLS_SESSIONS_MAX 4096u

struct tls_env_config {
	struct leaf_source *leaves;      /* borrowed */
	X509_STORE *trust;               /* borrowed; NULL: no certificate of a server is trusted */
	const struct client_certs *client_certs; /* borrowed; for servers that ask for one; NULL: none */
	EVP_PKEY *dhparam;               /* borrowed; for clients that know DHE only; NULL: OpenSSL's */
	struct tls_refusal_source *refusals;     /* borrowed; NULL: nobody is remembered */
	/*
	 * A connection that is relayed untouched, because of what was learned about its program and host: others like
	 * it need not come here at all until until_ns, in the clock of env. NULL: they do.
	 */
	void (*spare)(void *owner, const struct conn_record *client, const struct conn_record *server,
		      int64_t until_ns);
	/*
	 * Verifies a server's chain in place of X509_verify_cert(), for instance from a cache: 1 = good; 0 = not, with
	 * ctx's error set. NULL: X509_verify_cert().
	 */
	int (*verify)(void *owner, X509_STORE_CTX *ctx);
	/* One line in NSS format, without newline. NULL: no key log. */
	void (*keylog)(void *owner, const char *line);
	void *owner;                     /* of the three above */
	/* The same in all workers, so that a client can come back to another one. Secret, random, of this process. */
	uint8_t ticket_keys[TLS_TICKET_KEYS_SIZE];
};

struct tls_env {
	struct tls_env_config config;
	struct env *env;
	BIO_METHOD *bio;
	struct tls_sessions *sessions;
	struct tls_context {
		SSL_CTX *ctx;
		enum tls_version_bound min, max;
		char *ciphers, *groups;  /* NULL: the default */
		bool insecure;           /* towards servers */
		bool ask;                /* towards clients: for a certificate */
	} server, client;                /* by our role: server towards clients, client towards servers */
};

/* Returns 0; -ENOMEM; -EINVAL when OpenSSL refuses an option's value, and which. */
int tls_env_new(struct tls_env **out, struct env *env, const struct tls_env_config *config, struct err *e) __must_check;
void tls_env_free(struct tls_env *t);

/*
 * The context for a new connection under env's options of this moment; as_server: towards a client. Borrowed. NULL when
 * an option has a value that OpenSSL refuses, or memory is out; then e says which.
 */
SSL_CTX *tls_env_context(struct tls_env *t, bool as_server, struct err *e);

/*
 * A list as options have it, colon separated, in the two parts that OpenSSL wants: names that begin with TLS_ are TLS
 * 1.3's. 0; -EINVAL: there is no such TLS 1.3 suite, and e says which; -ENOMEM.
 */
int tls_env_split_ciphers(struct str list, struct strbuf *ciphers, struct strbuf *suites, struct err *e) __must_check;

/*
 * Whether we speak this protocol once it is negotiated; one that we do not speak is never offered or chosen. http2: h2
 * is one of them.
 */
bool tls_alpn_spoken(struct str protocol, bool http2);

/* One name of the ClientHello, or none: spec/layers 6.5. server_alpn: none when there is no TLS to the server. */
struct str tls_alpn_choose(const struct conn_list *offers, struct str required, struct str server_alpn, bool http2);
