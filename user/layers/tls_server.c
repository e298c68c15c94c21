/* SPDX-License-Identifier: MIT */
/*
 * TLS with a server: we are the client. Waits until somebody above asks for the connection, so that the client's name
 * and protocols are known; without a client that speaks TLS it begins as soon as the connection is there.
 */
#include <errno.h>

#include "base/mem.h"
#include "core/conn.h"
#include "crypto/idna.h"
#include "crypto/verify.h"
#include "layers/tls.h"
#include "layers/tls_env.h"

#define HOST_MAX 255

/* --- beginning ------------------------------------------------------------------------------------------------- */

static void begin(struct tls_layer *t)
{
	t->state = TLS_ESTABLISHING;
	t->step = TLS_STEP_PRELUDE;
	tls_advance(t);
}

static void started(struct tls_layer *t)
{
	if (t->conn->state != CONN_CLOSED && !tls_is_client(t->child))
		begin(t);
}

/* A connection that was used before begins from nothing. */
static void renew(struct tls_layer *t)
{
	if (t->engine.ssl)
		tls_engine_fini(&t->engine);
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
	session = tls_sessions_find(t->env->sessions, t->session_key, env->wall_ns(env) / 1000000000);
	if (session)
		SSL_set_session(t->engine.ssl, session);
	return 0;
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
	strbuf_fini(&offers);
	return ret;
}

static void explain(struct tls_layer *t, const char *error, bool closed)
{
	(void)closed;
	tls_fail(t, LOG_WARN, "%s", error);
}

static void ready(struct tls_layer *t)
{
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
	.ready = ready,
	.gone = gone,
};

struct layer *tls_server_new(struct layer *parent, struct conn *server, struct conn *client)
{
	struct tls_layer *t = mem_zalloc(sizeof(*t));

	if (!t)
		return NULL;
	if (tls_init(t, &server_role, parent, server, client, server) < 0) {
		mem_free(t);
		return NULL;
	}
	return &t->base;
}

X509 *tls_server_certificate(struct layer *l)
{
	struct tls_layer *t = tls_of(l);

	return t->engine.ssl && t->state == TLS_OPEN ? SSL_get0_peer_certificate(t->engine.ssl) : NULL;
}
