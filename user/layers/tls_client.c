/* SPDX-License-Identifier: MIT */
/*
 * TLS with the client: we are the server. The ClientHello is read before OpenSSL exists, so that hooks see it, and the
 * server can be asked first (spec/layers 6.1, 6.2) for the names and the protocol that we then show.
 */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509.h>
#include <stdio.h>

#include "base/mem.h"
#include "core/conn.h"
#include "layers/tls.h"
#include "layers/tls_env.h"

enum client_at { AT_HELLO, AT_HELLO_ANSWERED, AT_SERVER_ASKED };

/*
 * Libraries that compare certificates with a list after the handshake leave at once when theirs is not there. Who made
 * a connection in advance and has no use for it keeps it longer.
 */
#define LEAVES_AT_ONCE_NS INT64_C(1000000000)

struct tls_client {
	struct tls_layer tls;
	enum client_at at;
	struct client_hello hello;       /* borrows from engine.in or flat, until the handshake begins */
	struct arena arena;              /* hello's lists, the chosen protocol; until the handshake is over */
	struct strbuf flat;              /* a ClientHello that came in more than one piece */
	struct tls_hello_hook hook;
	int64_t ready_ns;
	struct str known;                /* why connections like this one are relayed untouched; none: they are not */
};

static struct tls_client *client_of(struct tls_layer *t)
{
	return container_of(t, struct tls_client, tls);
}

/* --- the ClientHello ------------------------------------------------------------------------------------------- */

/* What came so far, as one piece; none: memory is out. */
static struct str hello_bytes(struct tls_client *c)
{
	const struct chain *in = &c->tls.engine.in;
	char part[4096];

	if (in->count == 1 && c->flat.len == 0)
		return (struct str){ (const char *)chain_see(in, 0)->ptr, in->len };
	while (c->flat.len < in->len && !c->flat.failed)
		strbuf_add(&c->flat, part, chain_peek(in, c->flat.len, part, sizeof(part)));
	return c->flat.failed ? (struct str){ 0 } : (struct str){ c->flat.ptr, c->flat.len };
}

static void refuse_hello(struct tls_client *c, struct str bytes)
{
	/* A fatal decode_error (RFC 8446 6.2), by hand: there is no SSL yet that could say it. */
	static const uint8_t alert[] = { 0x15, 0x03, 0x01, 0x00, 0x02, 0x02, 0x32 };
	struct tls_layer *t = &c->tls;
	char hex[401];
	size_t n = MIN(bytes.len, sizeof(hex) / 2);

	for (size_t i = 0; i < n; i++)
		snprintf(hex + 2 * i, 3, "%02x", (uint8_t)bytes.ptr[i]);
	hex[2 * n] = 0;
	if (client_hello_looks_like_tls((const uint8_t *)bytes.ptr, bytes.len) == CLIENT_HELLO_YES)
		layer_send_bytes(&t->base, t->conn, alert, sizeof(alert));
	tls_fail(t, LOG_WARN, "Cannot parse ClientHello: %s%s", hex, n < bytes.len ? "..." : "");
}

static int record_hello(struct tls_client *c)
{
	struct conn *conn = c->tls.conn;

	if (conn_record_edit(&conn->record) < 0)
		return -ENOMEM;
	if (conn_record_text(conn->record, &conn->record->sni, c->hello.sni) < 0 ||
	    conn_record_text(conn->record, &conn->record->client_hello, c->hello.message) < 0)
		return -ENOMEM;
	return conn_record_list(conn->record, &conn->record->alpn_offers, c->hello.alpn, c->hello.alpn_count);
}

/* True: it is complete and recorded. */
static bool read_hello(struct tls_client *c)
{
	struct str bytes = hello_bytes(c);
	int used = -ENOMEM;

	if (bytes.ptr)
		used = client_hello_parse(&c->hello, (const uint8_t *)bytes.ptr, bytes.len, &c->arena);
	if (used == 0)
		return false;
	if (used == -EPROTO)
		refuse_hello(c, bytes);
	else if (used < 0 || record_hello(c) < 0)
		tls_fail(&c->tls, LOG_ERROR, "out of memory");
	else
		return true;
	return false;
}

static bool server_first(const struct tls_layer *t)
{
	return t->server && t->server->record->tls && t->base.env->options->connection_eager;
}

static bool prelude(struct tls_layer *t)
{
	struct tls_client *c = client_of(t);

	switch (c->at) {
	case AT_HELLO:
		if (t->engine.in.len == 0 || !read_hello(c))
			return false;
		c->at = AT_HELLO_ANSWERED;
		c->known = tls_pass_known(t, &c->arena);
		c->hook = (struct tls_hello_hook){ t->client, t->server, &c->hello, .ignore = c->known.ptr != NULL,
						   .server_first = server_first(t) };
		if (!layer_hook(&t->base, HOOK_TLS_CLIENTHELLO, &c->hook))
			return false;
		/* fall through */
	case AT_HELLO_ANSWERED:
		if (c->hook.ignore && t->server) {
			tls_pass_through(t, c->known);
			return false;
		}
		c->at = AT_SERVER_ASKED;
		if (c->hook.server_first && tls_is_server(t->base.parent) &&
		    t->server->record->tls_setup.kind == STAMP_NONE) {
			layer_open(&t->base, t->server);
			return false;
		}
		return true;
	case AT_SERVER_ASKED:
		return true;
	}
	return true;
}

static void opened(struct tls_layer *t, const char *error)
{
	/* Nothing was said to the client yet: what it has begun, it can go on with. */
	if (error && t->base.env->options->tls_passthrough_client_cert && tls_server_demands(t->base.parent)) {
		tls_pass_through(t, STR("the server insists on a client certificate, and none is configured for it"));
		return;
	}
	if (error)
		layer_log(&t->base, LOG_INFO,
			  "Unable to establish TLS connection with server (%s). Trying to establish TLS with client "
			  "anyway. If you plan to redirect requests away from this server, consider setting "
			  "`connection_strategy` to `lazy` to suppress early connections.", error);
	tls_advance(t);
}

static void data(struct tls_layer *t)
{
	if (client_of(t)->at == AT_HELLO)
		tls_advance(t);
}

static void started(struct tls_layer *t)
{
	t->state = TLS_ESTABLISHING;
	t->step = TLS_STEP_PRELUDE;
}

/* --- our side of the handshake --------------------------------------------------------------------------------- */

/* *own: to be freed. NULL: not known, or not to be copied. */
static X509 *upstream_certificate(struct tls_layer *t, X509 **own)
{
	const struct conn_list *certs;
	const unsigned char *der;
	X509 *cert = NULL;

	*own = NULL;
	if (!t->base.env->options->upstream_cert || !t->server)
		return NULL;
	certs = &t->server->record->certificates;
	if (tls_is_server(t->base.parent))
		cert = tls_server_certificate(t->base.parent);
	if (cert || certs->count == 0)
		return cert;
	der = (const unsigned char *)certs->at[0].ptr;
	*own = d2i_X509(NULL, &der, (long)certs->at[0].len);
	return *own;
}

static int add_upstream_chain(struct tls_layer *t)
{
	const struct conn_list *certs = t->server ? &t->server->record->certificates : NULL;

	for (uint32_t i = 0; certs && i < certs->count; i++) {
		const unsigned char *der = (const unsigned char *)certs->at[i].ptr;
		X509 *cert = d2i_X509(NULL, &der, (long)certs->at[i].len);

		if (!cert || SSL_add0_chain_cert(t->engine.ssl, cert) != 1) {
			X509_free(cert);
			ERR_clear_error();
			return -ENOMEM;
		}
	}
	return 0;
}

static int show_leaf(struct tls_client *c)
{
	struct tls_layer *t = &c->tls;
	struct leaf_request request = {
		.sni = t->client->record->sni,
		.local_host = t->client->record->sockname.host,
		.server_host = t->server ? t->server->record->address.host : (struct str){ 0 },
		.rsa = !client_hello_takes_ecdsa(&c->hello),
	};
	struct env *env = t->base.env;
	struct leaf *leaf = NULL;
	X509 *own;
	int ret;

	request.upstream = upstream_certificate(t, &own);
	ret = leaf_source_get(t->env->config.leaves, &request, env->wall_ns(env) / 1000000000, &leaf);
	X509_free(own);
	if (ret == 0)
		ret = leaf_install(leaf, t->engine.ssl);
	if (ret == 0 && env->options->add_upstream_certs)
		ret = add_upstream_chain(t);
	if (ret == 0)
		ret = conn_record_text(t->conn->record, &t->conn->record->mitmcert, leaf->der);
	if (ret == -EINVAL)
		tls_fail(t, LOG_ERROR, "No certificate can be made: the client sent no name, and no address is known.");
	if (leaf)
		leaf_put(leaf);
	return ret;
}

static int choose_protocol(struct tls_client *c)
{
	struct tls_layer *t = &c->tls;
	const struct conn_record *client = t->client->record, *server = t->server ? t->server->record : NULL;
	bool http2 = t->base.env->options->http2;
	struct str server_alpn = { 0 };

	if (server && server->tls_setup.kind != STAMP_NONE)
		server_alpn = server->alpn;
	t->alpn = arena_copy(&c->arena, tls_alpn_choose(&client->alpn_offers, client->alpn, server_alpn, http2));
	return arena_copy_failed(t->alpn) ? -ENOMEM : 0;
}

static int prepare(struct tls_layer *t)
{
	struct tls_client *c = client_of(t);
	int ret;

	if (conn_record_edit(&t->conn->record) < 0)
		return -ENOMEM;
	ret = tls_apply_ciphers(t, t->base.env->options->ciphers_client);
	if (ret == -EINVAL)
		tls_fail(t, LOG_ERROR, "OpenSSL knows none of the ciphers that were set for this client");
	if (ret == 0)
		ret = choose_protocol(c);
	if (ret == 0)
		ret = show_leaf(c);
	return ret;
}

static const char *destination(const struct tls_layer *t, char out[static 300])
{
	const struct conn_record *server = t->server ? t->server->record : NULL;
	struct str sni = t->client->record->sni;

	if (sni.len)
		snprintf(out, 300, "%.*s", (int)sni.len, sni.ptr);
	else if (server && server->address.host.len)
		snprintf(out, 300, "%.*s:%u", (int)MIN(server->address.host.len, (size_t)280), server->address.host.ptr,
			 server->address.port);
	else
		snprintf(out, 300, "<no address>");
	return out;
}

/* RFC 8446 6.2; what programs say that pin a certificate or know other authorities. */
static bool refuses_certificate(const struct tls_layer *t)
{
	switch (tls_engine_alert(&t->engine)) {
	case SSL_AD_BAD_CERTIFICATE:
	case SSL_AD_UNSUPPORTED_CERTIFICATE:
	case SSL_AD_CERTIFICATE_REVOKED:
	case SSL_AD_CERTIFICATE_EXPIRED:
	case SSL_AD_CERTIFICATE_UNKNOWN:
	case SSL_AD_UNKNOWN_CA:
		return true;
	default:
		return false;
	}
}

static void learn(struct tls_layer *t, const char *error, bool closed)
{
	char why[TLS_REFUSAL_WHY_MAX];

	if (closed && t->step == TLS_STEP_HANDSHAKE && t->engine.ssl) {
		tls_pass_refused(t, "the client left when it saw our certificate");
	} else if (refuses_certificate(t)) {
		snprintf(why, sizeof(why), "the client refuses our certificate (%s)", error);
		tls_pass_refused(t, why);
	}
}

static void broke(struct tls_layer *t)
{
	char text[TLS_ERROR_MAX];

	learn(t, tls_engine_error(&t->engine, false, text), false);
}

static void left(struct tls_layer *t)
{
	if (!t->engine.error && t->base.env->now_ns(t->base.env) - client_of(t)->ready_ns < LEAVES_AT_ONCE_NS)
		tls_pass_refused(t, "the client left right after the handshake, without a word");
}

static void explain(struct tls_layer *t, const char *error, bool closed)
{
	char to[300];

	learn(t, error, closed);

	destination(t, to);
	if (closed)
		tls_fail(t, LOG_INFO,
			 "The client disconnected during the handshake. If this happens consistently for %s, "
			 "this may indicate that the client does not trust the proxy's certificate.", to);
	else if (strncmp(error, "Client and the proxy", 20) == 0)
		tls_fail(t, LOG_WARN, "%s", error);
	else if (tls_engine_distrusted(&t->engine))
		tls_fail(t, LOG_WARN, "The client does not trust the proxy's certificate for %s (%s)", to, error);
	else
		tls_fail(t, LOG_WARN, "The client may not trust the proxy's certificate for %s (%s)", to, error);
}

static void forget_hello(struct tls_client *c)
{
	strbuf_fini(&c->flat);
	arena_fini(&c->arena);
	c->hello = (struct client_hello){ 0 };
	c->tls.alpn = (struct str){ 0 };
}

static void ready(struct tls_layer *t)
{
	client_of(t)->ready_ns = t->base.env->now_ns(t->base.env);
	forget_hello(client_of(t));
	tls_release(t);
}

static void gone(struct tls_layer *t)
{
	t->dead = true;
}

static void fini(struct tls_layer *t)
{
	forget_hello(client_of(t));
}

static const struct tls_role client_role = {
	.start = HOOK_TLS_START_CLIENT,
	.established = HOOK_TLS_ESTABLISHED_CLIENT,
	.failed = HOOK_TLS_FAILED_CLIENT,
	.accept = true,
	.started = started,
	.prelude = prelude,
	.opened = opened,
	.prepare = prepare,
	.data = data,
	.explain = explain,
	.broke = broke,
	.left = left,
	.ready = ready,
	.gone = gone,
	.fini = fini,
};

/* TLS in TLS: flows show the inner session; the outer one is of no interest. */
static void reset_record(struct conn_record *r)
{
	r->alpn = r->cipher = r->sni = r->tls_version = r->mitmcert = (struct str){ 0 };
	r->certificates = r->alpn_offers = r->cipher_list = (struct conn_list){ 0 };
	r->tls_setup = (struct stamp){ 0 };
}

struct layer *tls_client_new(struct layer *parent, struct conn *client, struct conn *server)
{
	struct tls_client *c = mem_zalloc(sizeof(*c));
	bool again = client->record->tls;

	if (!c)
		return NULL;
	if (tls_init(&c->tls, &client_role, parent, client, client, server) < 0) {
		mem_free(c);
		return NULL;
	}
	if (again)
		reset_record(client->record);
	return &c->tls.base;
}
