/* SPDX-License-Identifier: MIT */
/*
 * Sessions that servers gave us, to resume on the next connection to the same destination; bounded, the least recently
 * used go first. A key says everything that a session depends on: address, name, protocols, whether it was verified.
 */
#pragma once

#include <openssl/ssl.h>

#include "base/str.h"

#define TLS_SESSION_KEY_MAX 640

struct tls_sessions;

/* sessions_max: of all keys together. NULL when memory is out. Thread: the owner's only. */
struct tls_sessions *tls_sessions_new(uint32_t sessions_max) __must_check;
void tls_sessions_free(struct tls_sessions *s);

/*
 * The newest, with a reference that is the caller's; NULL: none, or not resumable any more at now_s (since 1970). Of
 * TLS 1.3 each is given out once (RFC 8446 C.4), but for the last one, which serves until a connection has used it.
 */
SSL_SESSION *tls_sessions_take(struct tls_sessions *s, struct str key, int64_t now_s) __must_check;

/*
 * Takes over the session. Of TLS 1.3 some are kept for each key, for connections that are made at the same time; of
 * older versions it replaces the one that was there. Without memory it is dropped, which costs a full handshake later.
 */
void tls_sessions_put(struct tls_sessions *s, struct str key, SSL_SESSION *session);

void tls_sessions_clear(struct tls_sessions *s);
