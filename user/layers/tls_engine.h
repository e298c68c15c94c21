/* SPDX-License-Identifier: MIT */
/*
 * One TLS session of OpenSSL between chains: ciphertext is read from where it was received, plaintext is decrypted into
 * slabs, records are written into slabs. Knows nothing of layers, hooks and records of connections.
 */
#pragma once

#include <openssl/ssl.h>

#include "base/buf.h"

struct tls_engine {
	SSL *ssl;                        /* NULL: not begun */
	struct slab_pool *slabs;
	struct chain in;                 /* from the peer, not yet read by OpenSSL */
	struct chain out;                /* for the peer */
	uint8_t start[4];                /* the first bytes that came */
	uint32_t start_len;
	bool no_memory;
	unsigned long error;             /* of OpenSSL, once a call returned TLS_FAILED */
};

enum tls_result {
	TLS_WANT,                        /* everything that came is read, more is needed */
	TLS_DONE,                        /* the handshake is over, or all was written */
	TLS_SHUT,                        /* the peer has sent close_notify */
	TLS_FAILED,                      /* the session is broken; an alert may be in out */
	TLS_NO_MEMORY,
};

/* The BIO between OpenSSL and the chains: one per thread, outlives its engines. NULL when memory is out. */
BIO_METHOD *tls_engine_bio_new(void) __must_check;

/* Begins a session; what is already in e->in stays. owner: SSL_get_app_data(). Returns 0 or -ENOMEM. */
int tls_engine_init(struct tls_engine *e, SSL_CTX *ctx, BIO_METHOD *bio, bool accept, void *owner) __must_check;

/* Frees everything; e can begin again. */
void tls_engine_fini(struct tls_engine *e);

/* Takes over ciphertext; small pieces are copied together, so that no slab waits for a few bytes. 0 or -ENOMEM. */
int tls_engine_give(struct tls_engine *e, struct chain *ciphertext) __must_check;

enum tls_result tls_engine_handshake(struct tls_engine *e) __must_check;

/* Appends to plain what can be decrypted of what came. Never TLS_DONE. */
enum tls_result tls_engine_read(struct tls_engine *e, struct chain *plain) __must_check;

/* Takes over plaintext, also when it fails. TLS_DONE, TLS_FAILED or TLS_NO_MEMORY. */
enum tls_result tls_engine_write(struct tls_engine *e, struct chain *plain) __must_check;

/* Reads what came up to the first plaintext, which stays. TLS_DONE: there is some. */
enum tls_result tls_engine_peek(struct tls_engine *e) __must_check;

/* Puts a close_notify into out, once. After a handshake only. */
void tls_engine_shutdown(struct tls_engine *e);

#define TLS_ERROR_MAX 256

/* What went wrong, as spec/layers 6.7 words it where it does; upstream: the peer is a server. Returns out. */
const char *tls_engine_error(const struct tls_engine *e, bool upstream, char out[static TLS_ERROR_MAX]);

/* The fatal alert by which the peer ended the session (RFC 8446 6); -1: it was not that. */
int tls_engine_alert(const struct tls_engine *e);

/* The peer told by an alert that it does not trust our certificate. */
bool tls_engine_distrusted(const struct tls_engine *e);
