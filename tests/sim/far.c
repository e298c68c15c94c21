/* SPDX-License-Identifier: MIT */
/* Far ends: plaintext for the scripts, TLS records for the network. Authorities are made once, leaves per name. */
#define OPENSSL_SUPPRESS_DEPRECATED  /* RAND_set_rand_method(): the only way to repeat a handshake */
#include "far.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/leaf_mint.h"

#define NAMES_MAX 16
#define NOW_S     1700000000          /* the simulator's day */

struct far {
	struct far *next;
	struct sim_peer *peer;           /* NULL: over */
	const struct far_events *ev;
	void *owner;
	SSL *ssl;                        /* NULL: plain */
	BIO *rx, *tx, *early;            /* early: what was sent before the handshake was done */
	bool shaken, in_ended, out_ended;
};

static struct far *all;

static struct {
	struct ca *proxy_ca, *origin_ca;
	struct leaf_mint proxy_mint, origin_mint;
	struct { const char *name; struct leaf *proxy, *origin; } names[NAMES_MAX];
	size_t count;
	SSL_CTX *client, *server;
	X509_STORE *trust;
	uint64_t random;
} tls;

/* --- certificates and chance ------------------------------------------------------------------------------------- */

static int random_bytes(unsigned char *out, int len)
{
	for (int i = 0; i < len; i++) {
		tls.random = tls.random * 6364136223846793005u + 1442695040888963407u;
		out[i] = (unsigned char)(tls.random >> 56);
	}
	return 1;
}

static int random_ready(void)
{
	return 1;
}

void far_seed(uint64_t seed)
{
	static const RAND_METHOD method = { .bytes = random_bytes, .pseudorand = random_bytes, .status = random_ready };

	tls.random = seed;
	BUG_ON(RAND_set_rand_method(&method) != 1);
}

static struct leaf *mint(struct leaf_mint *by, const char *name)
{
	struct leaf_request request = { .sni = str_of(name) };
	struct leaf_spec spec = { 0 };
	struct leaf *leaf = NULL;

	BUG_ON(leaf_spec_init(&spec, &request, "/crl") < 0);
	BUG_ON(leaf_mint(&leaf, by, &spec, NOW_S) < 0);
	leaf_spec_fini(&spec);
	return leaf;
}

static void make_ca(struct ca **ca, struct leaf_mint *by)
{
	struct err e = { 0 };

	BUG_ON(ca_generate(ca, 2048, NOW_S, &e) < 0);
	BUG_ON(leaf_mint_init(by, *ca, &e) < 0);
}

void far_setup(const char *const *names, size_t count)
{
	BUG_ON(count > NAMES_MAX);
	far_seed(1);
	make_ca(&tls.proxy_ca, &tls.proxy_mint);
	make_ca(&tls.origin_ca, &tls.origin_mint);
	for (size_t i = 0; i < count; i++) {
		tls.names[i].name = names[i];
		tls.names[i].proxy = mint(&tls.proxy_mint, names[i]);
		tls.names[i].origin = mint(&tls.origin_mint, names[i]);
	}
	tls.count = count;
	tls.trust = X509_STORE_new();
	X509_STORE_add_cert(tls.trust, tls.origin_ca->cert);
	tls.client = SSL_CTX_new(TLS_client_method());
	SSL_CTX_set_verify(tls.client, SSL_VERIFY_PEER, NULL);
	X509_STORE_add_cert(SSL_CTX_get_cert_store(tls.client), tls.proxy_ca->cert);
	X509_VERIFY_PARAM_set_time(SSL_CTX_get0_param(tls.client), NOW_S);
	SSL_CTX_set_session_cache_mode(tls.client, SSL_SESS_CACHE_OFF);
	tls.server = SSL_CTX_new(TLS_server_method());
	SSL_CTX_set_session_cache_mode(tls.server, SSL_SESS_CACHE_OFF);
}

void far_teardown(void)
{
	for (size_t i = 0; i < tls.count; i++) {
		leaf_put(tls.names[i].proxy);
		leaf_put(tls.names[i].origin);
	}
	SSL_CTX_free(tls.client);
	SSL_CTX_free(tls.server);
	X509_STORE_free(tls.trust);
	leaf_mint_fini(&tls.proxy_mint);
	leaf_mint_fini(&tls.origin_mint);
	ca_free(tls.proxy_ca);
	ca_free(tls.origin_ca);
	RAND_set_rand_method(NULL);
}

static int get_leaf(struct leaf_source *source __unused, const struct leaf_request *request, int64_t now_s __unused,
		    struct leaf **out)
{
	struct str name = request->sni.len ? request->sni : request->server_host;

	for (size_t i = 0; i < tls.count; i++) {
		if (!str_eq_nocase(name, str_of(tls.names[i].name)))
			continue;
		*out = leaf_get(tls.names[i].proxy);
		return 0;
	}
	return -EINVAL;
}

struct leaf_source *far_leaves(void)
{
	static struct leaf_source source = { get_leaf };

	return &source;
}

X509_STORE *far_trust(void)
{
	return tls.trust;
}

/* --- TLS --------------------------------------------------------------------------------------------------------- */

static void flush(struct far *f)
{
	char *bytes;
	long len = BIO_get_mem_data(f->tx, &bytes);

	if (len > 0 && f->peer)
		sim_peer_send(f->peer, bytes, (size_t)len);
	(void)BIO_reset(f->tx);
}

static void write_tls(struct far *f, const void *bytes, size_t len)
{
	size_t done = 0;

	if (len)
		BUG_ON(SSL_write_ex(f->ssl, bytes, len, &done) != 1 || done != len);
	flush(f);
}

static void ended(struct far *f, enum far_end how)
{
	if (!f->peer || (f->in_ended && how == FAR_FIN))
		return;
	f->in_ended = true;
	if (how != FAR_FIN) {
		sim_peer_reset(f->peer);
		f->peer = NULL;
	}
	f->ev->ended(f, how);
}

/* False: the session is broken. */
static bool shake(struct far *f)
{
	char *bytes;
	long len;
	int ret;

	ERR_clear_error();
	ret = SSL_do_handshake(f->ssl);
	flush(f);
	if (ret != 1 && SSL_get_error(f->ssl, ret) != SSL_ERROR_WANT_READ) {
		ended(f, FAR_CUT);
		return false;
	}
	if (ret != 1)
		return true;
	f->shaken = true;
	len = BIO_get_mem_data(f->early, &bytes);
	if (len > 0)
		write_tls(f, bytes, (size_t)len);
	(void)BIO_reset(f->early);
	if (f->ev->ready)
		f->ev->ready(f);
	return f->peer != NULL;
}

static void read_tls(struct far *f)
{
	uint8_t bytes[16384];
	int n = 0;

	if (!f->shaken && (!shake(f) || !f->shaken))
		return;
	ERR_clear_error();
	while (f->peer && (n = SSL_read(f->ssl, bytes, sizeof(bytes))) > 0)
		f->ev->received(f, bytes, (size_t)n);
	if (!f->peer)
		return;
	flush(f);
	n = SSL_get_error(f->ssl, n);
	if (n == SSL_ERROR_ZERO_RETURN)
		ended(f, FAR_FIN);
	else if (n == SSL_ERROR_SSL)
		ended(f, FAR_CUT);
}

static void add_tls(struct far *f, SSL_CTX *ctx)
{
	f->ssl = SSL_new(ctx);
	f->rx = BIO_new(BIO_s_mem());
	f->tx = BIO_new(BIO_s_mem());
	f->early = BIO_new(BIO_s_mem());
	BIO_set_mem_eof_return(f->rx, -1);
	SSL_set_bio(f->ssl, f->rx, f->tx);
}

void far_start_tls(struct far *f, const char *name)
{
	add_tls(f, tls.client);
	SSL_set_connect_state(f->ssl);
	SSL_set_tlsext_host_name(f->ssl, name);
	SSL_set1_host(f->ssl, name);
	shake(f);
}

/* --- from the network
 * ---------------------------------------------------------------------------------------------- */

static void on_connected(void *owner, int err)
{
	struct far *f = owner;

	if (err)
		ended(f, FAR_REFUSED);
	else if (f->ev->ready)
		f->ev->ready(f);
}

static void on_received(void *owner, const uint8_t *bytes, size_t len)
{
	struct far *f = owner;

	if (!f->ssl) {
		f->ev->received(f, bytes, len);
		return;
	}
	BIO_write(f->rx, bytes, (int)len);
	read_tls(f);
}

static void on_ended(void *owner, int err)
{
	struct far *f = owner;

	if (err)
		ended(f, FAR_RESET);
	else if (!f->in_ended)
		ended(f, f->ssl ? FAR_CUT : FAR_FIN);
}

static void on_drained(void *owner)
{
	struct far *f = owner;

	if (f->ev->drained && (!f->ssl || f->shaken))
		f->ev->drained(f);
}

static const struct sim_peer_events peer_events = {
	.connected = on_connected,
	.received = on_received,
	.ended = on_ended,
	.drained = on_drained,
};

static struct far *far_new(const struct far_events *ev, void *owner)
{
	struct far *f = calloc(1, sizeof(*f));

	BUG_ON(!f);
	f->ev = ev;
	f->owner = owner;
	f->next = all;
	return all = f;
}

struct far *far_connect(struct io *io, const struct addr *from, const struct addr *to, const struct far_events *ev,
			void *owner)
{
	struct far *f = far_new(ev, owner);

	f->peer = sim_peer_connect(io, from, to, &peer_events, f);
	return f;
}

struct far *far_accept(struct io *io __unused, struct sim_peer *peer, const char *name, const struct far_events *ev,
		       void *owner)
{
	struct far *f = far_new(ev, owner);

	f->peer = peer;
	for (size_t i = 0; name && i < tls.count; i++) {
		if (strcmp(name, tls.names[i].name) != 0)
			continue;
		add_tls(f, tls.server);
		SSL_set_accept_state(f->ssl);
		BUG_ON(leaf_install(tls.names[i].origin, f->ssl) < 0);
	}
	BUG_ON(name && !f->ssl);
	sim_peer_handle(peer, &peer_events, f);
	if (!name && ev->ready)
		ev->ready(f);
	return f;
}

/* --- from scripts
 * -------------------------------------------------------------------------------------------------- */

void *far_owner(const struct far *f)
{
	return f->owner;
}

void far_set_owner(struct far *f, void *owner)
{
	f->owner = owner;
}

bool far_is_tls(const struct far *f)
{
	return f->ssl != NULL;
}

bool far_over(const struct far *f)
{
	return !f->peer;
}

void far_send(struct far *f, const void *bytes, size_t len)
{
	if (!f->peer || f->out_ended)
		return;
	if (!f->ssl)
		sim_peer_send(f->peer, bytes, len);
	else if (f->shaken)
		write_tls(f, bytes, len);
	else
		BIO_write(f->early, bytes, (int)len);
}

void far_pause(struct far *f, bool paused)
{
	if (f->peer)
		sim_peer_pause(f->peer, paused);
}

static void announce(struct far *f)
{
	if (f->peer && f->ssl && f->shaken && !f->out_ended) {
		SSL_shutdown(f->ssl);
		flush(f);
	}
	f->out_ended = true;
}

void far_shutdown(struct far *f)
{
	announce(f);
	far_cut(f);
}

void far_cut(struct far *f)
{
	f->out_ended = true;
	if (f->peer)
		sim_peer_shutdown(f->peer);
}

void far_close(struct far *f)
{
	announce(f);
	if (f->peer)
		sim_peer_close(f->peer);
	f->peer = NULL;
}

void far_reset(struct far *f)
{
	if (f->peer)
		sim_peer_reset(f->peer);
	f->peer = NULL;
}

void far_free_all(void)
{
	while (all) {
		struct far *f = all;

		all = f->next;
		far_reset(f);
		if (f->ssl)
			SSL_set_shutdown(f->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
		SSL_free(f->ssl);
		BIO_free(f->early);
		free(f);
	}
}
