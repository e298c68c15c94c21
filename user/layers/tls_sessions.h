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

/* NULL when memory is out. Thread: the owner's only. */
struct tls_sessions *tls_sessions_new(uint32_t entries_max) __must_check;
void tls_sessions_free(struct tls_sessions *s);

/* Borrowed until the next call; NULL: none, or not resumable any more at now_s (since 1970). */
SSL_SESSION *tls_sessions_find(struct tls_sessions *s, struct str key, int64_t now_s);

/*
 * Takes over the session. It replaces an older one of the same key; without memory it is dropped, which costs a full
 * handshake later.
 */
void tls_sessions_put(struct tls_sessions *s, struct str key, SSL_SESSION *session);

void tls_sessions_clear(struct tls_sessions *s);
