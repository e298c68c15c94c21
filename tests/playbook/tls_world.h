/* SPDX-License-Identifier: MIT */
/*
 * A world for the TLS layers: real TLS peers on both sides of them (OpenSSL, in memory), a child that relays, and a
 * pump that carries bytes and answers until nothing moves any more. What happened is in the playbook's trace.
 */
#pragma once

#include <openssl/ssl.h>

#include "layers/tls.h"
#include "layers/tls_env.h"
#include "playbook.h"

/* What a dialogue is like; {0} is: TLS on both sides, server connection already open, nothing goes wrong. */
struct tls_case {
	bool plain_client, no_server;    /* one TLS layer only */
	bool not_open;                   /* the server connection is opened when somebody asks */
	bool lazy;
	bool refuse_open;                /* the driver answers "Connection refused" */
	bool hold_hooks;                 /* hooks are answered later */
	bool ignore;                     /* tls_clienthello says so */
	bool expired, untrusted, wrong_name, insecure;
	bool client_distrusts;
	bool no_sni;
	uint32_t slice;                  /* bytes per event, 0: all; 1 << 31: random */
	const char *client_alpn, *server_alpn;   /* wire form; NULL: none */
	int client_max, client_min, server_max;  /* TLS1_2_VERSION, …; 0: any */
	const char *client_ciphers;      /* TLS 1.2 list */
	const char *server_says;         /* the server is not TLS: this is what it answers */
	bool server_ends;                /* …or it closes at the first byte */
	const char *client_says;         /* the client is not TLS */
	size_t client_says_len;
	/* The server asks for a certificate, or insists on one (a stranger's); with TLS 1.3 without tickets. */
	bool asks_certificate, wants_certificate, no_tickets;
	bool asks_later;                 /* …but only once it has heard something (TLS 1.3) */
	struct client_certs *client_certs;       /* ours, for servers that ask */
	bool client_has_certificate;     /* the peer has a stranger's, which the server takes */
	bool client_pins;                /* it trusts the server's authority, not ours */
	bool client_odd;                 /* its ClientHello has GREASE and an ECH extension */
	bool request_client_cert, add_upstream_certs, passthrough;       /* options */
	struct tls_refusals *remember;   /* NULL: nobody is remembered */
	SSL_SESSION *resume;             /* the client's session of an earlier dialogue */
};

struct tls_side {
	struct conn *conn;
	SSL_CTX *ctx;
	SSL *ssl;                        /* NULL: no TLS, raw bytes */
	BIO *rx, *tx;                    /* to the peer, from the peer */
	bool shaken, ended, fin_given;   /* the peer: handshake done; wants to end; EV_CLOSED was given */
	unsigned long error;
	bool stuck;                      /* takes nothing from us */
	bool over;                       /* was told that it is over its high-water mark */
	struct chain queue;              /* what it has not taken */
	BIO *got;                        /* what the peer has read, decrypted */
	SSL_SESSION *session;            /* the peer client's latest */
};

struct tls_world {
	struct playbook pb;
	struct tls_case c;
	struct layer *top;               /* root */
	struct tls_env *env;
	struct leaf_source leaves;
	struct leaf_request asked;       /* the last request for a leaf; its strings are copies */
	char asked_sni[256], asked_local[256], asked_server[256];
	bool asked_upstream;
	uint32_t leaf_count;
	struct tls_side client, server;
	struct leaf *server_leaf;        /* the peer server's, for each of its connections */
	struct tls_refusal_source refusals;
	struct layer *opener, *holder;   /* wait for the pump */
	struct app *app;
};

/* Fixtures of a program's group of tests: the authorities, made once. */
int tls_world_setup(void **state);
int tls_world_teardown(void **state);

/* env: NULL, or that of an earlier world (then it outlives this one): sessions stay. Returns 0 or -ENOMEM. */
int tls_world_init(struct tls_world *w, const struct tls_case *c, struct tls_env *env) __must_check;
void tls_world_fini(struct tls_world *w);

/* A TLS environment that outlives worlds; tls_env_free() it. */
struct tls_env *tls_world_env_logged(void (*keylog)(void *owner, const char *line));
static inline struct tls_env *tls_world_env(void)
{
	return tls_world_env_logged(NULL);
}

/* A certificate of the strangers' authority, who is nobody's but the server's that wants one. */
struct leaf *tls_world_stranger(void);

void tls_pump(struct tls_world *w);
/* EV_START, then the pump. */
void tls_start(struct tls_world *w);
/* The peer of side says this. */
void tls_say(struct tls_side *s, const void *bytes, size_t len);
/* What the peer of side has read so far; empties it into out (zero-terminated), returns the length. */
size_t tls_heard(struct tls_side *s, char *out, size_t size);
size_t tls_heard_len(const struct tls_side *s);

/* What tests say. Each fails the test that it is in. */
void tls_begin(struct tls_world *w, const struct tls_case *c);
void tls_says(struct tls_world *w, struct tls_side *from, struct tls_side *to, const char *text);
void tls_both_ways(struct tls_world *w);
void tls_assert_text(struct str s, const char *want);
void tls_assert_trace(struct tls_world *w, const char *want);
void tls_assert_says(struct tls_world *w, const char *part);
