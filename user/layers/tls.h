/* SPDX-License-Identifier: MIT */
/*
 * TLS layers (spec/layers 2.4, 6). Both roles are one tunnel: ciphertext of conn outside, plaintext of the same conn
 * inside, everything else passes. Towards the client we are the server (tls_client.c), towards the origin the client
 * (tls_server.c). The usual stack is tls_server → tls_client → next: the client's ClientHello is read first, then the
 * server is connected and its TLS established, then the client's is, with the server's certificate names and protocol.
 */
#pragma once

#include "core/layer.h"
#include "layers/tls_engine.h"
#include "wire/client_hello.h"

struct tls_env;
struct tls_held;

/* arg of HOOK_TLS_CLIENTHELLO; valid until it is answered. */
struct tls_hello_hook {
	struct conn *client, *server;
	const struct client_hello *hello;
	bool ignore;                     /* relay everything untouched; preset where TLS failed before (tls_pass.c) */
	bool server_first;               /* TLS with the server before the client's; preset */
};

/* arg of HOOK_TLS_START_*, _ESTABLISHED_* and _FAILED_*; after a failure conn->record->error says why. */
struct tls_hook {
	struct conn *conn;               /* client or server: the one whose TLS this is about */
	struct conn *client, *server;
};

/*
 * parent: not NULL. server of a client layer: NULL when the client speaks to the proxy itself. The layer owns its
 * child. NULL when memory is out. Thread: the worker's.
 */
struct layer *tls_client_new(struct layer *parent, struct conn *client, struct conn *server) __must_check;
struct layer *tls_server_new(struct layer *parent, struct conn *server, struct conn *client) __must_check;

/* Once, before EV_START; l is of either kind. */
void tls_set_child(struct layer *l, struct layer *child);

bool tls_is_client(const struct layer *l);

/* --- for tls*.c only ------------------------------------------------------------------------------------------- */

enum tls_state {
	TLS_INACTIVE,                    /* nobody has asked for TLS yet */
	TLS_ESTABLISHING,
	TLS_OPEN,
	TLS_CLOSED,
};

/* Where an establishment stands; each step names what is to be done when the layer goes on. */
enum tls_step {
	TLS_STEP_NONE,
	TLS_STEP_PRELUDE,                /* the role's own */
	TLS_STEP_BEGIN,
	TLS_STEP_HANDSHAKE,
	TLS_STEP_CONFIRM,                /* our part is done; the role may wait for the peer's word */
	TLS_STEP_READY,
	TLS_STEP_FAILED,
	TLS_STEP_GONE,
};

struct tls_layer;

struct tls_role {
	enum hook_id start, established, failed;
	bool accept;
	void (*started)(struct tls_layer *t);                     /* EV_START */
	bool (*prelude)(struct tls_layer *t);                     /* false: waits, or has failed */
	void (*opened)(struct tls_layer *t, const char *error);   /* EV_OPENED */
	int (*prepare)(struct tls_layer *t);                      /* the SSL is new; 0, or -errno */
	void (*data)(struct tls_layer *t);                        /* bytes came before there was an SSL */
	void (*ask)(struct tls_layer *t, struct command *cmd);    /* the child's CMD_OPEN for conn; NULL: not ours */
	void (*explain)(struct tls_layer *t, const char *error, bool closed);    /* calls tls_fail() */
	/* The handshake is over. False: waits for data, or has failed. late: the wakeup that it asked for has come. */
	bool (*confirm)(struct tls_layer *t, bool late);
	void (*broke)(struct tls_layer *t);      /* the open session has failed; engine.error says how */
	void (*left)(struct tls_layer *t);       /* the peer ended the open session without having said anything */
	void (*ready)(struct tls_layer *t);
	void (*gone)(struct tls_layer *t);                        /* failed, conn is closed */
	void (*fini)(struct tls_layer *t);
};

struct tls_layer {
	struct layer base;
	const struct tls_role *role;
	struct tls_env *env;
	struct conn *conn, *client, *server;     /* conn: one of the two; server may be NULL */
	struct layer *child;
	struct layer *opener;            /* asked for conn and waits for EV_OPENED */
	struct tls_engine engine;
	enum tls_state state;
	enum tls_step step;
	bool pass;                       /* not intercepted: everything goes through */
	bool dead;                       /* the client's handshake failed: nothing reaches the child any more */
	bool shut_in, shut_out;          /* close_notify (or the end) reported to the child; sent by us */
	bool heard;                      /* something came over the open session */
	bool late;                       /* TLS_STEP_CONFIRM has waited long enough */
	bool throttled;                  /* what the peer makes us answer does not drain: we do not read it */
	uint32_t forgotten;              /* hooks whose answers nobody waits for any more */
	bool tell_opener, tell_child;    /* due at the wakeup: they cannot be told from inside their own command */
	struct tls_held *held, **held_tail;
	struct tls_hook hook;
	struct str alpn;                 /* chosen for the client; empty: none */
	struct str session_key;          /* mem_alloc'ed; none: do not keep sessions */
	enum log_level level;            /* of text */
	char *text;                      /* why it failed, mem_alloc'ed; NULL: it did not, or there was no memory */
};

int tls_init(struct tls_layer *t, const struct tls_role *role, struct layer *parent, struct conn *conn,
	     struct conn *client, struct conn *server) __must_check;
static inline struct tls_layer *tls_of(struct layer *l)
{
	return container_of(l, struct tls_layer, base);
}

/* Goes on from t->step as far as possible. */
void tls_advance(struct tls_layer *t);
/* Keeps a copy as t->text. */
void tls_set_text(struct tls_layer *t, const char *text);
static inline const char *tls_text(const struct tls_layer *t)
{
	return t->text ? t->text : "out of memory";
}

/* The establishment has failed, for this reason; tls_advance() does the rest. */
void tls_fail(struct tls_layer *t, enum log_level level, const char *fmt, ...) __printf(3, 4);
/* Gives an event to the child, or keeps it until TLS is established. */
void tls_to_child(struct tls_layer *t, const struct event *ev);
/* Everything that was kept goes to the child. */
void tls_release(struct tls_layer *t);
/* EV_OPENED for who asked. */
void tls_answer(struct tls_layer *t, const char *error);
/* Sends what the engine has written. True: conn is over its high-water mark. */
bool tls_flush(struct tls_layer *t);
/* Memory is out: both sides are reset. */
void tls_give_up(struct tls_layer *t);
/* Copies conn's cipher_list, or the option's list into it. 0, -ENOMEM, -EINVAL. */
int tls_apply_ciphers(struct tls_layer *t, const char *option) __must_check;
/* The certificate that the server showed on this (tls_server) layer; borrowed, NULL: none. */
X509 *tls_server_certificate(struct layer *l);
/* The layer lets everything through from now on. */
void tls_pass(struct layer *l);
bool tls_is_server(const struct layer *l);
/* The server ended our handshake because we have no certificate to show, and it can be connected anew. */
bool tls_server_demands(const struct layer *l);
/* OpenSSL's, for connections to servers. */
int tls_server_on_asked(SSL *ssl, void *arg);
void tls_server_on_message(int write, int version, int type, const void *bytes, size_t len, SSL *ssl, void *arg);

/* --- tls_pass.c: what cannot be intercepted, so that applications keep working ---------------------------------- */

/* Why this client layer's connection is to be relayed untouched, as earlier ones have shown; in a. none: it is not. */
struct str tls_pass_known(struct tls_layer *t, struct arena *a);
/* Later connections of the same program to the same host are; and says so. */
void tls_pass_learn(struct tls_layer *t, const char *why);
/* The client refused our certificate: told to whom it may concern, and learnt if the options say so. */
void tls_pass_refused(struct tls_layer *t, const char *why);
/*
 * This client layer's connection is, from the ClientHello in engine.in on; neither TLS layer looks at it again. why:
 * goes to the log and to a flow; none: there is neither.
 */
void tls_pass_through(struct tls_layer *t, struct str why);
