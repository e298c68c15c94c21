/* SPDX-License-Identifier: MIT */
/*
 * TLS with a server: we are the client. Waits until somebody above asks for the connection, so that the client's name
 * and protocols are known; without a client that speaks TLS it begins as soon as the connection is there.
 */
#include <errno.h>

#include "base/mem.h"
#include "core/conn.h"
#include "crypto/idna.h"
#include "crypto/client_certs.h"
#include "crypto/verify.h"
#include "layers/tls.h"
#include "layers/tls_env.h"

#define HOST_MAX 255
/*
 * In TLS 1.3 a client is done before the server has looked at its certificate. One that asked and got none speaks, or
 * sends tickets, or ends it, a round trip later; some say nothing.
 */
#define CONFIRM_NS INT64_C(1000000000)
#define HANDSHAKE_CLIENT_HELLO 1
#define HANDSHAKE_SERVER_HELLO 2
#define HANDSHAKE_NEW_SESSION_TICKET 4

struct tls_server {
	struct tls_layer tls;
	bool fresh;                      /* nothing was said on the connection before TLS: another one will do */
	bool asked, presented;           /* the server wants our certificate; it got one */
	bool waiting;                    /* for a word of it */
	bool content;                    /* it has taken what we sent */
	bool demands;                    /* it has not, for want of a certificate */
};

static struct tls_server *server_of(struct tls_layer *t)
{
	return container_of(t, struct tls_server, tls);
}

/* --- beginning ------------------------------------------------------------------------------------------------- */

static void begin(struct tls_layer *t)
{
	t->state = TLS_ESTABLISHING;
	t->step = TLS_STEP_PRELUDE;
	tls_advance(t);
}

static void started(struct tls_layer *t)
{
	server_of(t)->fresh = !t->conn->bytes_arrived;
	if (t->conn->state != CONN_CLOSED && !tls_is_client(t->child))
		begin(t);
}

/* A connection that was used before begins from nothing. */
static void renew(struct tls_layer *t)
{
	struct tls_server *s = server_of(t);

	if (t->engine.ssl)
		tls_engine_fini(&t->engine);
	s->asked = s->presented = s->waiting = s->content = s->demands = false;
	t->heard = t->late = false;
	t->shut_in = t->shut_out = t->tell_opener = t->tell_child = false;
	tls_set_text(t, NULL);
}

static void ask(struct tls_layer *t, struct command *cmd)
{
	BUG_ON(t->opener);
	t->opener = cmd->from;
	if (t->state == TLS_OPEN && conn_is_open(t->conn)) {
		t->tell_opener = true;
		layer_wakeup(&t->base, 1);
		return;
	}
	renew(t);
	if (conn_is_open(t->conn)) {
		begin(t);
		return;
	}
	if (t->conn->state != CONN_CLOSED)
		layer_close(&t->base, t->conn);
	t->state = TLS_ESTABLISHING;
	t->step = TLS_STEP_NONE;
	layer_command(&t->base, &(struct command){ .type = CMD_OPEN, .from = &t->base, .conn = t->conn });
}

static void opened(struct tls_layer *t, const char *error)
{
	if (t->state != TLS_ESTABLISHING)
		return;
	if (!error) {
		begin(t);
		return;
	}
	t->state = TLS_CLOSED;
	tls_set_text(t, error);
	tls_answer(t, tls_text(t));
}

static bool prelude(struct tls_layer *t)
{
	(void)t;
	return true;
}

/* A server that speaks before we do: its bytes wait for the handshake, which will not like them. */
static void data(struct tls_layer *t)
{
	if (t->throttled)
		return;
	t->throttled = true;
	layer_pause(&t->base, t->conn, PAUSE_TUNNEL);
}

/* --- our side of the handshake --------------------------------------------------------------------------------- */

/* The name to ask for and to verify: spec/layers 6.6. Without a trailing dot (RFC 6066 3). */
static struct str server_name(const struct tls_layer *t)
{
	const struct conn_record *r = t->conn->record;
	struct str name = r->sni.len ? r->sni : t->client->record->sni.len ? t->client->record->sni : r->address.host;

	if (name.len > 1 && name.ptr[name.len - 1] == '.')
		name.len--;
	return name;
}

static int set_name(struct tls_layer *t)
{
	SSL *ssl = t->engine.ssl;
	struct str name = server_name(t);
	struct strbuf ascii = { 0 };
	struct addr ip;
	int ret;

	if (addr_parse(&ip, name))
		ret = verify_expect(ssl, name);
	else if (name.len == 0 || name.len > HOST_MAX || memchr(name.ptr, 0, name.len))
		ret = -EINVAL;
	else
		ret = idna_encode(name, &ascii);
	if (ret == 0 && ascii.len)
		ret = verify_expect(ssl, (struct str){ ascii.ptr, ascii.len });
	if (ret == 0 && ascii.len && SSL_set_tlsext_host_name(ssl, ascii.ptr) != 1)
		ret = -EINVAL;
	if (ret == -EINVAL)
		tls_fail(t, LOG_WARN, "The server's certificate cannot be verified: \"%.*s\" is no host name.",
			 (int)MIN(name.len, (size_t)HOST_MAX), name.len ? name.ptr : "");
	if (ret == 0)
		ret = conn_record_text(t->conn->record, &t->conn->record->sni, name);
	strbuf_fini(&ascii);
	return ret;
}

/* What the client offers and we speak, unless a hook has set something else. */
static int choose_offers(struct tls_layer *t)
{
	const struct conn_list *from = &t->client->record->alpn_offers;
	struct conn_record *r = t->conn->record;
	uint32_t n = 0;

	if (r->alpn_offers.count || from->count == 0)
		return 0;
	r->alpn_offers.at = arena_alloc(&r->arena, from->count * sizeof(struct str));
	if (!r->alpn_offers.at)
		return -ENOMEM;
	for (uint32_t i = 0; i < from->count; i++) {
		if (!tls_alpn_spoken(from->at[i], t->base.env->options->http2))
			continue;
		r->alpn_offers.at[n] = arena_copy(&r->arena, from->at[i]);
		if (arena_copy_failed(r->alpn_offers.at[n]))
			return -ENOMEM;
		n++;
	}
	r->alpn_offers.count = n;
	return 0;
}

/* Wire form (RFC 7301 3.1): it is what OpenSSL wants, and part of the session's key. */
static int offers_wire(const struct conn_list *offers, struct strbuf *out)
{
	for (uint32_t i = 0; i < offers->count; i++) {
		uint8_t len = (uint8_t)offers->at[i].len;

		if (offers->at[i].len == 0 || offers->at[i].len > 255)
			continue;
		strbuf_add(out, &len, 1);
		strbuf_add_str(out, offers->at[i]);
	}
	return out->failed ? -ENOMEM : 0;
}

/* A session may be resumed where everything that it was made with is the same again. */
static int find_session(struct tls_layer *t, const struct strbuf *offers)
{
	const struct conn_record *r = t->conn->record;
	struct env *env = t->base.env;
	struct strbuf key = { 0 };
	SSL_SESSION *session;

	mem_free((char *)t->session_key.ptr);
	t->session_key = (struct str){ 0 };
	strbuf_add_str(&key, r->address.host);
	strbuf_addf(&key, ":%u %d %s ", r->address.port, env->options->ssl_insecure, r->via_scheme.ptr ? "via" : "");
	strbuf_add_str(&key, r->via.host);
	strbuf_addf(&key, ":%u ", r->via.port);
	strbuf_add_str(&key, r->sni);
	strbuf_add(&key, " ", 1);
	strbuf_add(&key, offers->ptr, offers->len);
	if (key.failed || key.len > TLS_SESSION_KEY_MAX || r->cipher_list.count || r->address.host.len == 0) {
		int ret = key.failed ? -ENOMEM : 0;

		strbuf_fini(&key);
		return ret;
	}
	t->session_key = (struct str){ key.ptr, key.len };
	session = tls_sessions_take(t->env->sessions, t->session_key, env->wall_ns(env) / 1000000000);
	if (session)
		SSL_set_session(t->engine.ssl, session);
	SSL_SESSION_free(session);
	return 0;
}

/* Some servers ask once they know what is wanted of them (RFC 8446 4.2.6). */
static void prepare_certificate(struct tls_layer *t)
{
	struct conn_record *r = t->conn->record;

	r->client_hello = r->server_hello = (struct str){ 0 };
	if (client_certs_find(t->env->config.client_certs, server_name(t)))
		SSL_set_post_handshake_auth(t->engine.ssl, 1);
}

static int prepare(struct tls_layer *t)
{
	struct strbuf offers = { 0 };
	int ret;

	if (t->throttled) {
		t->throttled = false;
		layer_resume(&t->base, t->conn, PAUSE_TUNNEL);
	}
	if (conn_record_edit(&t->conn->record) < 0)
		return -ENOMEM;
	ret = tls_apply_ciphers(t, t->base.env->options->ciphers_server);
	if (ret == -EINVAL)
		tls_fail(t, LOG_ERROR, "OpenSSL knows none of the ciphers that were set for this server");
	if (ret == 0)
		ret = set_name(t);
	if (ret == 0)
		ret = choose_offers(t);
	if (ret == 0)
		ret = offers_wire(&t->conn->record->alpn_offers, &offers);
	if (ret == 0 && offers.len &&
	    SSL_set_alpn_protos(t->engine.ssl, (const unsigned char *)offers.ptr, (unsigned int)offers.len) != 0)
		ret = -ENOMEM;
	if (ret == 0)
		ret = find_session(t, &offers);
	if (ret == 0)
		prepare_certificate(t);
	strbuf_fini(&offers);
	return ret;
}

int tls_server_on_asked(SSL *ssl, void *arg)
{
	struct tls_layer *t = SSL_get_app_data(ssl);
	struct tls_server *s = server_of(t);
	struct leaf *leaf = client_certs_find(t->env->config.client_certs, server_name(t));

	(void)arg;
	s->asked = true;
	s->presented = leaf && leaf_install(leaf, ssl) == 0;
	return 1;
}

/* Keeps what fingerprints are made of. The second ClientHello after a HelloRetryRequest is not the first (JA3). */
static void keep_message(struct tls_layer *t, bool write, uint8_t type, struct str message)
{
	struct conn_record *r;

	if (!(write && type == HANDSHAKE_CLIENT_HELLO) && !(!write && type == HANDSHAKE_SERVER_HELLO))
		return;
	if (conn_record_edit(&t->conn->record) < 0)
		return;
	r = t->conn->record;
	if (!write)
		(void)!conn_record_text(r, &r->server_hello, message);
	else if (!r->client_hello.ptr)
		(void)!conn_record_text(r, &r->client_hello, message);
}

void tls_server_on_message(int write, int version, int type, const void *bytes, size_t len, SSL *ssl, void *arg)
{
	struct tls_layer *t = SSL_get_app_data(ssl);

	(void)version;
	(void)arg;
	if (type != SSL3_RT_HANDSHAKE || len < 4)
		return;
	if (!write && *(const uint8_t *)bytes == HANDSHAKE_NEW_SESSION_TICKET)
		server_of(t)->content = true;
	keep_message(t, write, *(const uint8_t *)bytes, (struct str){ bytes, len });
}

/* Whether the server has just ended a handshake in which it got no certificate from us, though it asked. */
static bool wants_certificate(struct tls_layer *t, bool closed)
{
	struct tls_server *s = server_of(t);

	return s->asked && !s->presented && !s->content && !t->heard && (closed || tls_engine_alert(&t->engine) >= 0);
}

static void learn(struct tls_layer *t)
{
	server_of(t)->demands = true;
	if (t->base.env->options->tls_passthrough_client_cert && t->client->record->tls && !t->conn->hop)
		tls_pass_learn(t, "the server insists on a client certificate, and none is configured for it");
}

static void explain(struct tls_layer *t, const char *error, bool closed)
{
	struct tls_server *s = server_of(t);

	if (wants_certificate(t, closed)) {
		tls_fail(t, LOG_WARN, "The server insists on a client certificate, and none is configured for it; the "
			 "option client_certs names them. (%s)", error);
		learn(t);
	} else if (s->presented && tls_engine_alert(&t->engine) >= 0) {
		tls_fail(t, LOG_WARN, "The server does not accept the client certificate that is configured for it. "
			 "(%s)", error);
	} else {
		tls_fail(t, LOG_WARN, "%s", error);
	}
}

static bool confirm(struct tls_layer *t, bool late)
{
	struct tls_server *s = server_of(t);
	char text[TLS_ERROR_MAX];
	enum tls_result result;

	if (!s->asked || s->presented || s->content || late || !s->fresh || t->opener != t->child ||
	    !t->base.env->options->tls_passthrough_client_cert || SSL_version(t->engine.ssl) < TLS1_3_VERSION)
		return true;
	result = tls_engine_peek(&t->engine);
	tls_flush(t);
	switch (result) {
	case TLS_WANT:
		if (s->content || !s->waiting)
			layer_wakeup(&t->base, s->content ? 0 : CONFIRM_NS);
		s->waiting = true;
		return s->content;
	case TLS_DONE:
		layer_wakeup(&t->base, 0);
		return true;
	case TLS_NO_MEMORY:
		tls_fail(t, LOG_ERROR, "out of memory");
		break;
	case TLS_SHUT:
		explain(t, "connection closed", true);
		break;
	case TLS_FAILED:
		explain(t, tls_engine_error(&t->engine, true, text), false);
		break;
	}
	layer_wakeup(&t->base, 0);
	return false;
}

static void broke(struct tls_layer *t)
{
	if (!wants_certificate(t, false))
		return;
	layer_log(&t->base, LOG_WARN, "The server insists on a client certificate, and none is configured for it; the "
		  "option client_certs names them.");
	learn(t);
}

static void ready(struct tls_layer *t)
{
	struct tls_server *s = server_of(t);

	/* It would be called for each record. */
	if (!s->asked || s->presented)
		SSL_set_msg_callback(t->engine.ssl, NULL);
	else
		layer_log(&t->base, LOG_INFO, "The server asks for a client certificate, and none is configured for "
			  "it; the option client_certs names them.");
	if (t->opener)
		tls_answer(t, NULL);
	else
		tls_release(t);
}

static void gone(struct tls_layer *t)
{
	if (t->opener)
		tls_answer(t, tls_text(t));
	else
		tls_release(t);
}

static const struct tls_role server_role = {
	.start = HOOK_TLS_START_SERVER,
	.established = HOOK_TLS_ESTABLISHED_SERVER,
	.failed = HOOK_TLS_FAILED_SERVER,
	.started = started,
	.prelude = prelude,
	.opened = opened,
	.prepare = prepare,
	.data = data,
	.ask = ask,
	.explain = explain,
	.confirm = confirm,
	.broke = broke,
	.ready = ready,
	.gone = gone,
};

struct layer *tls_server_new(struct layer *parent, struct conn *server, struct conn *client)
{
	struct tls_server *s = mem_zalloc(sizeof(*s));

	if (!s)
		return NULL;
	if (tls_init(&s->tls, &server_role, parent, server, client, server) < 0) {
		mem_free(s);
		return NULL;
	}
	return &s->tls.base;
}

bool tls_server_demands(const struct layer *l)
{
	const struct tls_server *s;

	if (!tls_is_server(l))
		return false;
	s = container_of(container_of(l, const struct tls_layer, base), const struct tls_server, tls);
	return s->demands && s->fresh;
}

X509 *tls_server_certificate(struct layer *l)
{
	struct tls_layer *t = tls_of(l);

	return t->engine.ssl && t->state == TLS_OPEN ? SSL_get0_peer_certificate(t->engine.ssl) : NULL;
}
