/* SPDX-License-Identifier: MIT */
/*
 * Any bytes as what a client says to the TLS layer. First byte: its low six bits are how many bytes come at once (0:
 * all); bit 6: a real client finishes its handshake first, the bytes are records after it; bit 7: the client leaves at
 * the end.
 */
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdlib.h>

#include "core/conn.h"
#include "core/env.h"
#include "crypto/leaf.h"
#include "layers/tls.h"
#include "layers/tls_env.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct options options;
static struct env env;
static struct slab_pool slabs;
static struct leaf *leaf;
static SSL_CTX *peer_ctx;
static BIO *to_peer;

/* --- the world ------------------------------------------------------------------------------------------------- */

static int64_t now(const struct env *e)
{
	(void)e;
	return INT64_C(1767225600) * 1000000000;
}

static uint64_t random_bits(struct env *e)
{
	(void)e;
	return 4;
}

static int get_leaf(struct leaf_source *source, const struct leaf_request *request, int64_t now_s, struct leaf **out)
{
	(void)source;
	(void)request;
	(void)now_s;
	*out = leaf_get(leaf);
	return 0;
}

static void make_leaf(void)
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
}

static void make_world(void)
{
	static struct leaf_source source = { get_leaf };
	struct tls_env_config config = { .leaves = &source, .ticket_keys = { 1 } };

	make_leaf();
	options_init(&options);
	slab_pool_init(&slabs, 64);
	env = (struct env){
		.slabs = &slabs,
		.options = &options,
		.now_ns = now,
		.wall_ns = now,
		.random = random_bits,
	};
	if (!leaf || tls_env_new(&env.tls, &env, &config, NULL) < 0)
		abort();
	peer_ctx = SSL_CTX_new(TLS_client_method());
}

static bool sink_command(struct sink *sink, struct command *cmd)
{
	(void)sink;
	if (cmd->type == CMD_SEND) {
		for (uint32_t i = 0; to_peer && i < cmd->data->count; i++)
			BIO_write(to_peer, chain_see(cmd->data, i)->ptr, (int)chain_see(cmd->data, i)->len);
		chain_clear(cmd->data);
	} else if (cmd->type == CMD_CLOSE) {
		cmd->conn->state = CONN_CLOSED;
	}
	return cmd->type == CMD_HOOK;
}

static void sink_forget(struct sink *sink, struct layer *l)
{
	(void)sink;
	(void)l;
}

/* --- layers: a root above, an echo below ----------------------------------------------------------------------- */

struct root {
	struct layer base;
	struct layer *child;
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

static void echo_handle(struct layer *l, const struct event *ev)
{
	if (ev->type == EV_DATA)
		layer_send(l, ev->conn, ev->data);
	else if (ev->type == EV_CLOSED)
		layer_close(l, ev->conn);
}

static void echo_free(struct layer *l)
{
	layer_fini(l);
}

static const struct layer_ops root_ops = { .name = "root", .handle = root_handle, .free = root_free };
static const struct layer_ops echo_ops = { .name = "echo", .handle = echo_handle, .free = echo_free };

/* --- one input ------------------------------------------------------------------------------------------------- */

static void give(struct layer *top, struct conn *c, const void *bytes, size_t len)
{
	struct chain data = { 0 };

	if (!(c->state & CONN_CAN_READ) || len == 0)
		return;
	if (chain_write(&data, &slabs, bytes, len) < 0)
		abort();
	layer_event(top, &(struct event){ .type = EV_DATA, .conn = c, .data = &data });
	chain_clear(&data);
}

static void shake_hands(struct layer *top, struct conn *c)
{
	SSL *ssl = SSL_new(peer_ctx);
	BIO *rx = BIO_new(BIO_s_mem()), *tx = BIO_new(BIO_s_mem());
	uint8_t buf[8192];
	int n;

	SSL_set_bio(ssl, rx, tx);
	SSL_set_connect_state(ssl);
	to_peer = rx;
	for (int turn = 0; turn < 4; turn++) {
		SSL_do_handshake(ssl);
		while ((n = BIO_read(tx, buf, sizeof(buf))) > 0)
			give(top, c, buf, (size_t)n);
	}
	if (!SSL_is_init_finished(ssl))
		abort();
	to_peer = NULL;
	SSL_free(ssl);
}

static void converse(struct layer *top, struct conn *c, const uint8_t *data, size_t size)
{
	size_t by = data[0] & 63 ? data[0] & 63 : size;

	layer_event(top, &(struct event){ .type = EV_START });
	if (data[0] & 64)
		shake_hands(top, c);
	for (size_t at = 1; at < size; at += by)
		give(top, c, data + at, MIN(by, size - at));
	if (data[0] & 128 && c->state & CONN_CAN_READ) {
		c->state &= (uint8_t)~CONN_CAN_READ;
		layer_event(top, &(struct event){ .type = EV_CLOSED, .conn = c });
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t id[16];
	struct sink sink = { .command = sink_command, .forget = sink_forget };
	struct conn client = { .is_client = true, .state = CONN_OPEN };
	struct root root = { 0 };
	struct layer echo;

	if (size == 0)
		return 0;
	if (!leaf)
		make_world();
	client.record = conn_record_new(true, id);
	layer_init(&root.base, &root_ops, NULL, &sink, &env);
	root.child = tls_client_new(&root.base, &client, NULL);
	layer_init(&echo, &echo_ops, root.child, NULL, NULL);
	tls_set_child(root.child, &echo);
	converse(&root.base, &client, data, size);
	layer_free(&root.base);
	conn_record_put(client.record);
	if (slabs.live != 0)
		abort();
	return 0;
}
