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
#define LEVELS    2

struct level {
	SSL *ssl;
	BIO *rx, *tx, *early;            /* early: what was sent before the handshake was done */
	bool shaken;
};

struct far {
	struct far *next;
	const struct far_carrier *carrier;
	void *line;                      /* NULL: over */
	void *parting;                   /* after far_close(): a line that ends with what is around the last TLS */
	const struct far_events *ev;
	void *owner;
	struct level levels[LEVELS];     /* the outermost first */
	int depth;                       /* 0: plain */
	bool in_ended, out_ended, line_ended;
	uint64_t breaks_after;           /* bytes; 0: never */
	bool breaks_in_order;
};

static struct far *all;

static struct {
	struct ca *proxy_ca, *origin_ca;
	struct leaf_mint proxy_mint, origin_mint;
	struct { const char *name; struct leaf *proxy, *origin; } names[NAMES_MAX];
	size_t count;
	SSL_CTX *client, *server, *server_h2;
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

static int choose_h2(SSL *ssl __unused, const unsigned char **out, unsigned char *out_len, const unsigned char *in,
		     unsigned int in_len, void *arg __unused)
{
	static const unsigned char ours[] = "\2h2\10http/1.1";
	unsigned char *chosen;

	if (SSL_select_next_proto(&chosen, out_len, ours, sizeof(ours) - 1, in, in_len) != OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_NOACK;
	*out = chosen;
	return SSL_TLSEXT_ERR_OK;
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
	X509_STORE_add_cert(SSL_CTX_get_cert_store(tls.client), tls.origin_ca->cert);    /* for TLS that passes */
	X509_VERIFY_PARAM_set_time(SSL_CTX_get0_param(tls.client), NOW_S);
	SSL_CTX_set_session_cache_mode(tls.client, SSL_SESS_CACHE_OFF);
	tls.server = SSL_CTX_new(TLS_server_method());
	SSL_CTX_set_session_cache_mode(tls.server, SSL_SESS_CACHE_OFF);
	tls.server_h2 = SSL_CTX_new(TLS_server_method());
	SSL_CTX_set_session_cache_mode(tls.server_h2, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_alpn_select_cb(tls.server_h2, choose_h2, NULL);
}

void far_teardown(void)
{
	for (size_t i = 0; i < tls.count; i++) {
		leaf_put(tls.names[i].proxy);
		leaf_put(tls.names[i].origin);
	}
	SSL_CTX_free(tls.client);
	SSL_CTX_free(tls.server);
	SSL_CTX_free(tls.server_h2);
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

static void flush(struct far *f, int at);

/* Plaintext of level at, or what goes to the network. */
static void put(struct far *f, int at, const void *bytes, size_t len)
{
	size_t done = 0;

	if (len == 0 || !f->line)
		return;
	if (at < 0) {
		f->carrier->send(f->line, bytes, len);
		return;
	}
	BUG_ON(SSL_write_ex(f->levels[at].ssl, bytes, len, &done) != 1 || done != len);
	flush(f, at);
}

static void flush(struct far *f, int at)
{
	char *bytes;
	long len = BIO_get_mem_data(f->levels[at].tx, &bytes);

	if (len > 0)
		put(f, at - 1, bytes, (size_t)len);
	(void)BIO_reset(f->levels[at].tx);
}

static void ended(struct far *f, enum far_end how)
{
	if (!f->line || (f->in_ended && how != FAR_RESET))
		return;
	f->in_ended = true;
	if (how != FAR_FIN) {
		f->carrier->reset(f->line);
		f->line = NULL;
	}
	f->ev->ended(f, how);
}

/* False: it is not established. */
static bool shake(struct far *f, int at)
{
	struct level *l = &f->levels[at];
	char *bytes;
	long len;
	int ret;

	if (l->shaken)
		return true;
	ERR_clear_error();
	ret = SSL_do_handshake(l->ssl);
	flush(f, at);
	if (ret != 1 && SSL_get_error(l->ssl, ret) != SSL_ERROR_WANT_READ)
		ended(f, FAR_CUT);
	if (ret != 1)
		return false;
	l->shaken = true;
	len = BIO_get_mem_data(l->early, &bytes);
	if (len > 0)
		put(f, at, bytes, (size_t)len);
	(void)BIO_reset(l->early);
	if (f->ev->ready)
		f->ev->ready(f);
	return f->line != NULL;
}

/* What came for level at; the script's when there is no such level. */
static void take(struct far *f, int at, const uint8_t *in, size_t in_len)
{
	struct level *l = &f->levels[at];
	uint8_t bytes[16384];
	int n = 0;

	if (at == f->depth) {
		f->ev->received(f, in, in_len);
		return;
	}
	BIO_write(l->rx, in, (int)in_len);
	if (!shake(f, at))
		return;
	ERR_clear_error();
	while (f->line && (n = SSL_read(l->ssl, bytes, sizeof(bytes))) > 0)
		take(f, at + 1, bytes, (size_t)n);
	if (!f->line)
		return;
	flush(f, at);
	n = SSL_get_error(l->ssl, n);
	if (n == SSL_ERROR_ZERO_RETURN)
		ended(f, at == f->depth - 1 ? FAR_FIN : FAR_CUT);
	else if (n == SSL_ERROR_SSL)
		ended(f, FAR_CUT);
}

static struct level *add_level(struct far *f, SSL_CTX *ctx)
{
	struct level *l = &f->levels[f->depth];

	BUG_ON(f->depth == LEVELS);
	f->depth++;
	l->ssl = SSL_new(ctx);
	l->rx = BIO_new(BIO_s_mem());
	l->tx = BIO_new(BIO_s_mem());
	l->early = BIO_new(BIO_s_mem());
	BIO_set_mem_eof_return(l->rx, -1);
	SSL_set_bio(l->ssl, l->rx, l->tx);
	return l;
}

void far_start_tls(struct far *f, const char *name, bool h2)
{
	static const unsigned char offers[] = "\2h2\10http/1.1";
	struct level *l = add_level(f, tls.client);

	SSL_set_connect_state(l->ssl);
	SSL_set_tlsext_host_name(l->ssl, name);
	SSL_set1_host(l->ssl, name);
	if (h2)
		SSL_set_alpn_protos(l->ssl, offers, sizeof(offers) - 1);
	shake(f, f->depth - 1);
}

void far_serve_tls(struct far *f, const char *name, bool h2)
{
	struct level *l = add_level(f, h2 ? tls.server_h2 : tls.server);
	bool known = false;

	SSL_set_accept_state(l->ssl);
	for (size_t i = 0; i < tls.count; i++) {
		if (strcmp(name, tls.names[i].name) != 0)
			continue;
		known = true;
		BUG_ON(leaf_install(tls.names[i].origin, l->ssl) < 0);
	}
	BUG_ON(!known);
}

void far_take_rest(struct far *f, const uint8_t *bytes, size_t len)
{
	if (f->line && len)
		take(f, f->depth - 1, bytes, len);
}

bool far_is_h2(const struct far *f)
{
	const unsigned char *alpn = NULL;
	unsigned int len = 0;

	if (f->depth)
		SSL_get0_alpn_selected(f->levels[f->depth - 1].ssl, &alpn, &len);
	return len == 2 && memcmp(alpn, "h2", 2) == 0;
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

/* What has been established ends with a reset: a FIN might look like the end of what was said. */
static bool breaks(struct far *f, size_t len)
{
	if (!f->breaks_after || len < f->breaks_after) {
		f->breaks_after -= f->breaks_after ? len : 0;
		return false;
	}
	f->breaks_after = 0;
	if (!f->breaks_in_order || !f->depth || f->levels[f->depth - 1].shaken) {
		ended(f, FAR_RESET);
		return true;
	}
	f->carrier->close(f->line);
	f->line = NULL;
	f->ev->ended(f, FAR_CUT);
	return true;
}

static void on_received(void *owner, const uint8_t *bytes, size_t len)
{
	struct far *f = owner;

	if (f->line && !breaks(f, len))
		take(f, 0, bytes, len);
}

static void part(struct far *f)
{
	f->carrier->close(f->parting);
	f->parting = NULL;
}

static void on_ended(void *owner, int err)
{
	struct far *f = owner;

	f->line_ended = true;
	if (f->parting)
		part(f);
	else if (err)
		ended(f, FAR_RESET);
	else if (!f->in_ended)
		ended(f, f->depth ? FAR_CUT : FAR_FIN);
}

static void on_drained(void *owner)
{
	struct far *f = owner;

	if (f->line && f->ev->drained && (!f->depth || f->levels[f->depth - 1].shaken))
		f->ev->drained(f);
}

const struct sim_peer_events far_line_events = {
	.connected = on_connected,
	.received = on_received,
	.ended = on_ended,
	.drained = on_drained,
};

static void network_send(void *line, const void *bytes, size_t len)
{
	sim_peer_send(line, bytes, len);
}

static void network_pause(void *line, bool paused)
{
	sim_peer_pause(line, paused);
}

static void network_shutdown(void *line)
{
	sim_peer_shutdown(line);
}

static void network_close(void *line)
{
	sim_peer_close(line);
}

static void network_reset(void *line)
{
	sim_peer_reset(line);
}

static const struct far_carrier network = {
	network_send, network_pause, network_shutdown, network_close, network_reset,
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

	f->carrier = &network;
	f->line = sim_peer_connect(io, from, to, &far_line_events, f);
	return f;
}

struct far *far_accept(struct io *io __unused, struct sim_peer *peer, const struct far_events *ev, void *owner)
{
	struct far *f = far_new(ev, owner);

	f->carrier = &network;
	f->line = peer;
	sim_peer_handle(peer, &far_line_events, f);
	return f;
}

struct far *far_carried(const struct far_carrier *carrier, void *line, const struct far_events *ev, void *owner)
{
	struct far *f = far_new(ev, owner);

	f->carrier = carrier;
	f->line = line;
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
	return f->depth != 0;
}

bool far_over(const struct far *f)
{
	return !f->line;
}

void far_break_after(struct far *f, uint64_t bytes, bool in_order)
{
	f->breaks_after = bytes;
	f->breaks_in_order = in_order;
}

bool far_drained(const struct far *f)
{
	return !f->line || (f->carrier == &network && sim_peer_queued(f->line) == 0);
}

void far_send(struct far *f, const void *bytes, size_t len)
{
	const struct level *top = f->depth ? &f->levels[f->depth - 1] : NULL;

	if (!f->line || f->out_ended)
		return;
	if (top && !top->shaken)
		BIO_write(top->early, bytes, (int)len);
	else
		put(f, f->depth - 1, bytes, len);
}

void far_pause(struct far *f, bool paused)
{
	if (f->line)
		f->carrier->pause(f->line, paused);
}

static void announce(struct far *f)
{
	for (int at = f->depth - 1; at >= 0 && f->line && !f->out_ended; at--) {
		if (!f->levels[at].shaken)
			continue;
		SSL_shutdown(f->levels[at].ssl);
		flush(f, at);
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
	if (f->line)
		f->carrier->shutdown(f->line);
}

/*
 * Where TLS is in TLS, the inner one ends before the outer. To close between the two would be a reset, and what was
 * said last and is still on its way would be lost.
 */
static bool more_ends(const struct far *f)
{
	return f->depth > 1 && f->in_ended && !f->line_ended;
}

void far_close(struct far *f)
{
	announce(f);
	if (f->line && more_ends(f)) {
		f->parting = f->line;
		f->carrier->pause(f->line, false);
		f->carrier->shutdown(f->line);
	} else if (f->line) {
		f->carrier->close(f->line);
	}
	f->line = NULL;
}

void far_reset(struct far *f)
{
	if (f->line)
		f->carrier->reset(f->line);
	f->line = NULL;
}

void far_free_all(void)
{
	while (all) {
		struct far *f = all;

		all = f->next;
		far_reset(f);
		if (f->parting)
			part(f);
		for (int i = 0; i < f->depth; i++) {
			SSL_set_shutdown(f->levels[i].ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
			SSL_free(f->levels[i].ssl);
			BIO_free(f->levels[i].early);
		}
		free(f);
	}
}
