/* SPDX-License-Identifier: MIT */
/*
 * Contexts are built once per set of options and shared by all connections: algorithms are fetched then, not per
 * connection. A changed option makes a new context; connections keep the old one until they end.
 */
#include "layers/tls_env.h"

#include <errno.h>
#include <openssl/err.h>

#include "base/mem.h"
#include "layers/tls.h"

/* spec/layers 6.5, in order. */
static const char default_ciphers[] =
	"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
	"ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:"
	"DHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES256-GCM-SHA384:DHE-RSA-CHACHA20-POLY1305:"
	"ECDHE-ECDSA-AES128-SHA256:ECDHE-RSA-AES128-SHA256:ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES128-SHA:"
	"ECDHE-ECDSA-AES256-SHA384:ECDHE-RSA-AES256-SHA384:ECDHE-ECDSA-AES256-SHA:ECDHE-RSA-AES256-SHA:"
	"DHE-RSA-AES128-SHA256:DHE-RSA-AES256-SHA256:AES128-GCM-SHA256:AES256-GCM-SHA384:AES128-SHA256:"
	"AES256-SHA256:AES128-SHA:AES256-SHA:DES-CBC3-SHA";

/*
 * TLS 1.3, also in order: browsers', not OpenSSL's, which begins with AES-256. SHA-256 has instructions of its own on
 * today's processors, SHA-384 has not, and each handshake hashes a lot; AES-128 is a quarter faster on bodies.
 */
static const char default_suites[] = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";

/* --- protocols ------------------------------------------------------------------------------------------------- */

/*
 * Versions of HTTP that are known and not spoken yet: the only place to change when one is. Anything that is no HTTP is
 * relayed as it comes.
 */
static const struct str unspoken[] = { { "h3", 2 } };

bool tls_alpn_spoken(struct str protocol, bool http2)
{
	if (str_eq(protocol, STR("h2")))
		return http2;
	for (size_t i = 0; i < ARRAY_SIZE(unspoken); i++)
		if (str_eq(protocol, unspoken[i]))
			return false;
	return !str_starts(protocol, STR("h3-")) && !str_starts(protocol, STR("spdy/"));
}

static bool is_http(struct str protocol)
{
	return str_eq(protocol, STR("h3")) || str_eq(protocol, STR("h2")) || str_eq(protocol, STR("http/1.1")) ||
	       str_eq(protocol, STR("http/1.0")) || str_eq(protocol, STR("http/0.9"));
}

static struct str find(const struct conn_list *offers, struct str protocol)
{
	for (uint32_t i = 0; i < offers->count; i++)
		if (str_eq(offers->at[i], protocol))
			return offers->at[i];
	return (struct str){ 0 };
}

struct str tls_alpn_choose(const struct conn_list *offers, struct str required, struct str server_alpn, bool http2)
{
	const struct str none = { 0 };

	if (required.ptr)
		return find(offers, required);
	if (server_alpn.ptr && server_alpn.len == 0)
		return none;
	if (find(offers, server_alpn).len)
		return find(offers, server_alpn);
	for (uint32_t i = 0; i < offers->count; i++)
		if (is_http(offers->at[i]) && tls_alpn_spoken(offers->at[i], http2))
			return offers->at[i];
	return none;
}

/* --- callbacks of OpenSSL -------------------------------------------------------------------------------------- */

static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in,
		   unsigned int in_len, void *arg)
{
	const struct tls_layer *t = SSL_get_app_data(ssl);

	(void)in;
	(void)in_len;
	(void)arg;
	if (!t->alpn.len)
		return SSL_TLSEXT_ERR_NOACK;
	*out = (const unsigned char *)t->alpn.ptr;
	*out_len = (unsigned char)t->alpn.len;
	return SSL_TLSEXT_ERR_OK;
}

static int on_session(SSL *ssl, SSL_SESSION *session)
{
	const struct tls_layer *t = SSL_get_app_data(ssl);

	if (!t->session_key.ptr || !SSL_SESSION_is_resumable(session))
		return 0;
	tls_sessions_put(t->env->sessions, t->session_key, session);
	return 1;
}

static void on_keylog(const SSL *ssl, const char *line)
{
	const struct tls_env *t = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));

	t->config.keylog(t->config.owner, line);
}

static int on_verify(X509_STORE_CTX *ctx, void *arg)
{
	struct tls_env *t = arg;

	X509_STORE_CTX_set_time(ctx, 0, (time_t)(t->env->wall_ns(t->env) / 1000000000));
	return t->config.verify ? t->config.verify(t->config.owner, ctx) : X509_verify_cert(ctx);
}

static int accept_any(X509_STORE_CTX *ctx, void *arg)
{
	(void)ctx;
	(void)arg;
	return 1;
}

/* --- contexts -------------------------------------------------------------------------------------------------- */

static bool suite_known(struct str name)
{
	static const char *const names[] = {     /* RFC 8446 B.4 */
		"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256",
		"TLS_AES_128_CCM_SHA256", "TLS_AES_128_CCM_8_SHA256",
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (str_eq(name, str_of(names[i])))
			return true;
	return false;
}

int tls_env_split_ciphers(struct str list, struct strbuf *ciphers, struct strbuf *suites, struct err *e)
{
	while (list.ptr) {
		struct str name = str_trim(str_cut(&list, ':'));
		struct strbuf *to = str_starts(name, STR("TLS_")) ? suites : ciphers;

		if (name.len == 0)
			continue;
		if (to == suites && !suite_known(name))
			return err_set(e, -EINVAL, "there is no cipher suite %.*s in TLS 1.3",
				       (int)MIN(name.len, (size_t)60), name.ptr);
		strbuf_add(to, ":", to->len != 0);
		strbuf_add_str(to, name);
	}
	return ciphers->failed || suites->failed ? err_set(e, -ENOMEM, "out of memory") : 0;
}

static int set_ciphers(SSL_CTX *ctx, const struct tls_context *c, const char *option, struct err *e)
{
	struct strbuf list = { 0 }, ciphers = { 0 }, suites = { 0 };
	int ret = tls_env_split_ciphers(str_of(c->ciphers), &ciphers, &suites, e);

	/* Versions before TLS 1.2 need SHA-1, which OpenSSL allows on the lowest level only. */
	strbuf_addf(&list, "%s%s", c->min < TLS_1_2 ? "@SECLEVEL=0:" : "",
		    ciphers.ptr ? ciphers.ptr : default_ciphers);
	if (ret == -EINVAL)
		err_prefix(e, "Invalid value for %s", option);
	else if (ret < 0 || list.failed ||
		 SSL_CTX_set_ciphersuites(ctx, suites.ptr ? suites.ptr : default_suites) != 1)
		ret = err_set(e, -ENOMEM, "out of memory");
	else if (SSL_CTX_set_cipher_list(ctx, list.ptr) != 1)
		ret = err_set(e, -EINVAL, "no cipher of option %s=%s is known to OpenSSL; see `openssl ciphers`",
			      option, c->ciphers);
	strbuf_fini(&list);
	strbuf_fini(&ciphers);
	strbuf_fini(&suites);
	return ret;
}

static int set_groups(SSL_CTX *ctx, const char *groups, const char *option, struct err *e)
{
	if (!groups || SSL_CTX_set1_groups_list(ctx, groups) == 1)
		return 0;
	return err_set(e, -EINVAL, "Invalid value for %s: %.100s (groups that OpenSSL knows, colon separated: X25519, "
		       "X448, secp256r1, secp384r1, secp521r1, ...)", option, groups);
}

static void setup_server(struct tls_env *t, SSL_CTX *ctx, bool ask)
{
	static const unsigned char id[] = "mitm-bpf";

	SSL_CTX_set_options(ctx, SSL_OP_CIPHER_SERVER_PREFERENCE);
	if (!t->config.dhparam || !EVP_PKEY_up_ref(t->config.dhparam))
		SSL_CTX_set_dh_auto(ctx, 1);
	else if (SSL_CTX_set0_tmp_dh_pkey(ctx, t->config.dhparam) != 1) {
		EVP_PKEY_free(t->config.dhparam);
		SSL_CTX_set_dh_auto(ctx, 1);
	}
	if (ask) {
		SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
		SSL_CTX_set_cert_verify_callback(ctx, accept_any, NULL);
	}
	SSL_CTX_set_alpn_select_cb(ctx, on_alpn, NULL);
	SSL_CTX_set_session_id_context(ctx, id, sizeof(id) - 1);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_tlsext_ticket_keys(ctx, t->config.ticket_keys, TLS_TICKET_KEYS_SIZE);
	SSL_CTX_set_num_tickets(ctx, 1);
}

static void setup_client(struct tls_env *t, SSL_CTX *ctx, bool insecure)
{
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(ctx, on_session);
	SSL_CTX_set_verify(ctx, insecure ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, NULL);
	SSL_CTX_set_cert_verify_callback(ctx, insecure ? accept_any : on_verify, t);
	SSL_CTX_set_cert_cb(ctx, tls_server_on_asked, NULL);
	SSL_CTX_set_msg_callback(ctx, tls_server_on_message);
	if (t->config.trust)
		SSL_CTX_set1_cert_store(ctx, t->config.trust);
	if (insecure)
		SSL_CTX_set_options(ctx, SSL_OP_LEGACY_SERVER_CONNECT);
}

static SSL_CTX *context_new(struct tls_env *t, const struct tls_context *c, bool as_server, struct err *e)
{
	SSL_CTX *ctx = SSL_CTX_new(as_server ? TLS_server_method() : TLS_client_method());

	if (!ctx) {
		err_set(e, -ENOMEM, "cannot make a TLS context: %s", ERR_reason_error_string(ERR_peek_last_error()));
		goto fail;
	}
	SSL_CTX_set_app_data(ctx, t);
	SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
			      SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_options(ctx, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
	if (SSL_CTX_set_min_proto_version(ctx, (int)c->min) != 1 ||
	    SSL_CTX_set_max_proto_version(ctx, (int)c->max) != 1) {
		err_set(e, -EINVAL, "OpenSSL refuses the TLS versions of tls_version_%s_min/max",
			as_server ? "client" : "server");
		goto fail;
	}
	if (set_ciphers(ctx, c, as_server ? "ciphers_client" : "ciphers_server", e) < 0 ||
	    set_groups(ctx, c->groups, as_server ? "tls_ecdh_curve_client" : "tls_ecdh_curve_server", e) < 0)
		goto fail;
	if (as_server)
		setup_server(t, ctx, c->ask);
	else
		setup_client(t, ctx, c->insecure);
	if (t->config.keylog)
		SSL_CTX_set_keylog_callback(ctx, on_keylog);
	return ctx;
fail:
	SSL_CTX_free(ctx);
	ERR_clear_error();
	return NULL;
}

static bool same_text(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

static int copy_text(char **to, const char *text)
{
	*to = text ? mem_strndup(text, strlen(text)) : NULL;
	return text && !*to ? -ENOMEM : 0;
}

static void context_fini(struct tls_context *c)
{
	SSL_CTX_free(c->ctx);
	mem_free(c->ciphers);
	mem_free(c->groups);
}

SSL_CTX *tls_env_context(struct tls_env *t, bool as_server, struct err *e)
{
	const struct options *o = t->env->options;
	struct tls_context *have = as_server ? &t->server : &t->client;
	const char *ciphers = as_server ? o->ciphers_client : o->ciphers_server;
	const char *groups = as_server ? o->groups_client : o->groups_server;
	struct tls_context want = {
		.min = as_server ? o->tls_version_client_min : o->tls_version_server_min,
		.max = as_server ? o->tls_version_client_max : o->tls_version_server_max,
		.insecure = !as_server && o->ssl_insecure,
		.ask = as_server && o->request_client_cert,
	};

	if (have->ctx && have->min == want.min && have->max == want.max && have->insecure == want.insecure &&
	    have->ask == want.ask && same_text(have->ciphers, ciphers) && same_text(have->groups, groups))
		return have->ctx;
	if (copy_text(&want.ciphers, ciphers) < 0 || copy_text(&want.groups, groups) < 0)
		err_set(e, -ENOMEM, "out of memory");
	else
		want.ctx = context_new(t, &want, as_server, e);
	if (!want.ctx) {
		context_fini(&want);
		return NULL;
	}
	context_fini(have);
	*have = want;
	if (!as_server)
		tls_sessions_clear(t->sessions);
	return have->ctx;
}

int tls_env_new(struct tls_env **out, struct env *env, const struct tls_env_config *config, struct err *e)
{
	struct tls_env *t = mem_zalloc(sizeof(*t));

	if (!t)
		return err_set(e, -ENOMEM, "out of memory");
	t->config = *config;
	t->env = env;
	t->bio = tls_engine_bio_new();
	t->sessions = tls_sessions_new(TLS_SESSIONS_MAX);
	if (!t->bio || !t->sessions)
		err_set(e, -ENOMEM, "out of memory");
	else if (tls_env_context(t, true, e) && tls_env_context(t, false, e)) {
		*out = t;
		return 0;
	}
	tls_env_free(t);
	return e && e->code ? e->code : -ENOMEM;
}

void tls_env_free(struct tls_env *t)
{
	if (!t)
		return;
	context_fini(&t->server);
	context_fini(&t->client);
	tls_sessions_free(t->sessions);
	BIO_meth_free(t->bio);
	OPENSSL_cleanse(t->config.ticket_keys, sizeof(t->config.ticket_keys));
	mem_free(t);
}
