/* SPDX-License-Identifier: MIT */
/*
 * Any bytes as what a server says to the TLS layer, or a real server's handshake, of which the input changes bytes.
 * First byte: its low four bits seed the pieces in which bytes come; bit 4: TLS 1.2 only; bit 5: nothing is real, the
 * rest is what the server says; bit 6: the server asks for a certificate; bit 7: it leaves at the end. The rest, of a
 * real one: position (two bytes) and new value, again and again.
 */
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "crypto/fingerprint.h"
#include "layer_world.h"
#include "layers/tls.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static SSL_CTX *peer_ctx;
static struct leaf *leaf;

static void make_server(void)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = X509_new();

	X509_set_version(cert, 2);
	X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
	X509_gmtime_adj(X509_getm_notAfter(cert), 86400);
	X509_set_pubkey(cert, key);
	X509_sign(cert, key, EVP_sha256());
	leaf = leaf_new(cert, key, NULL);
	X509_free(cert);
	EVP_PKEY_free(key);
	peer_ctx = SSL_CTX_new(TLS_server_method());
}

/* --- layers: a root above, one that asks for the connection below ---------------------------------------------- */

struct root {
	struct layer base;
	struct layer *child;
};

struct asker {
	struct layer base;
	struct conn *server;
	bool opened;
};

static void root_handle(struct layer *l, const struct event *ev)
{
	if (layer_event(container_of(l, struct root, base)->child, ev) < 0)
		abort();
}

static void root_free(struct layer *l)
{
	layer_fini(l);
	layer_free(container_of(l, struct root, base)->child);
}

static void asker_handle(struct layer *l, const struct event *ev)
{
	struct asker *a = container_of(l, struct asker, base);

	if (ev->type == EV_START)
		layer_open(l, a->server);
	if (ev->type != EV_OPENED || ev->error)
		return;
	a->opened = true;
	layer_send_bytes(l, a->server, "hello", 5);
}

static void asker_free(struct layer *l)
{
	layer_fini(l);
}

static const struct layer_ops root_ops = { .name = "root", .handle = root_handle, .free = root_free };
static const struct layer_ops asker_ops = { .name = "asker", .handle = asker_handle, .free = asker_free };

/* --- one input -------------------------------------------------------------------------------------------------- */

static BIO *to_peer;

static bool catch(struct sink *s, struct command *cmd)
{
	if (cmd->type == CMD_SEND)
		for (uint32_t i = 0; i < cmd->data->count; i++)
			BIO_write(to_peer, chain_see(cmd->data, i)->ptr, (int)chain_see(cmd->data, i)->len);
	return world_command(s, cmd);
}

static void spoil(uint8_t *flight, size_t len, const uint8_t *edits, size_t size)
{
	for (size_t i = 0; i + 3 <= size; i += 3) {
		size_t at = (size_t)(edits[i] << 8 | edits[i + 1]);

		if (at >= len)
			continue;
		flight[at] = edits[i + 2];
		if (edits[i] & 0x80)
			flight[(at + 1) % len] = (uint8_t)-edits[i + 2];
	}
}

static void converse(struct world *w, const uint8_t *data, size_t size)
{
	SSL *ssl = SSL_new(peer_ctx);
	BIO *tx = BIO_new(BIO_s_mem());
	static uint8_t flight[65536];
	int n;

	to_peer = BIO_new(BIO_s_mem());
	SSL_set_bio(ssl, to_peer, tx);
	SSL_set_accept_state(ssl);
	if (leaf_install(leaf, ssl) < 0)
		abort();
	if (data[0] & 16)
		SSL_set_max_proto_version(ssl, TLS1_2_VERSION);
	if (data[0] & 64)
		SSL_set_verify(ssl, SSL_VERIFY_PEER, NULL);
	layer_event(w->top, &(struct event){ .type = EV_START });
	world_open(w);
	for (int turn = 0; turn < 4; turn++) {
		SSL_do_handshake(ssl);
		n = BIO_read(tx, flight, sizeof(flight));
		if (n <= 0)
			break;
		/* The first flight has the ServerHello. */
		if (turn == 0 || (size > 1 && data[1] & 8))
			spoil(flight, (size_t)n, data + 1, size - 1);
		world_give(w, 1, flight, (size_t)n);
	}
	SSL_free(ssl);
	to_peer = NULL;
}

static void fingerprint(struct str message)
{
	char ja3[FINGERPRINT_JA3_SIZE], ja4[FINGERPRINT_JA4_SIZE];

	(void)!fingerprint_ja3(message, ja3);
	(void)!fingerprint_ja3s(message, ja3);
	(void)!fingerprint_ja4(message, false, ja4);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct root root = { 0 };
	struct asker asker = { 0 };
	struct world w;

	if (size == 0)
		return 0;
	if (!leaf)
		make_server();
	world_init(&w, data[0] & 15);
	w.options.ssl_insecure = true;
	w.sink.command = catch;
	asker.server = world_conn(&w.sink);
	asker.server->record->sni = STR("example.com");
	layer_init(&root.base, &root_ops, NULL, &w.sink, &w.env);
	root.child = tls_server_new(&root.base, asker.server, w.conns[0]);
	layer_init(&asker.base, &asker_ops, root.child, NULL, NULL);
	tls_set_child(root.child, &asker.base);
	w.top = &root.base;
	if (data[0] & 32) {
		to_peer = BIO_new(BIO_s_mem());
		layer_event(w.top, &(struct event){ .type = EV_START });
		world_open(&w);
		world_give(&w, 1, data + 1, size - 1);
		BIO_free(to_peer);
		fingerprint((struct str){ (const char *)data + 1, size - 1 });
	} else {
		converse(&w, data, size);
		BUG_ON(size == 1 && !asker.opened);
	}
	to_peer = BIO_new(BIO_s_null());
	if (data[0] & 128)
		world_close(&w, 1);
	BIO_free(to_peer);
	world_fini(&w);
	return 0;
}
