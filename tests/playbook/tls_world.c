/* SPDX-License-Identifier: MIT */
/* Peers, authorities, the relaying child, the pump. Peers' memory is OpenSSL's and libc's: sweeps do not fail it. */
#include "tls_world.h"

#include <errno.h>
#include <openssl/err.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "base/mem.h"
#include "crypto/leaf_mint.h"
#include "crypto/verify.h"

#define TURNS_MAX 200000u
#define QUEUE_HIGH (256u * 1024)

static struct {
	struct ca *ours, *servers, *strangers;
	struct leaf_mint mint_ours, mint_servers, mint_strangers;
	X509_STORE *trust;
} shared;

static int64_t now_s(void)
{
	return (int64_t)time(NULL);
}

/* --- authorities ----------------------------------------------------------------------------------------------- */

static void make_ca(struct ca **ca, struct leaf_mint *mint)
{
	struct err e = { 0 };

	assert_int_equal(ca_generate(ca, 2048, now_s(), &e), 0);
	assert_int_equal(leaf_mint_init(mint, *ca, &e), 0);
	assert_int_equal(leaf_mint_need_rsa(mint), 0);
}

int tls_world_setup(void **state __unused)
{
	make_ca(&shared.ours, &shared.mint_ours);
	make_ca(&shared.servers, &shared.mint_servers);
	make_ca(&shared.strangers, &shared.mint_strangers);
	shared.trust = X509_STORE_new();
	X509_STORE_add_cert(shared.trust, shared.servers->cert);
	return 0;
}

int tls_world_teardown(void **state __unused)
{
	X509_STORE_free(shared.trust);
	leaf_mint_fini(&shared.mint_ours);
	leaf_mint_fini(&shared.mint_servers);
	leaf_mint_fini(&shared.mint_strangers);
	ca_free(shared.ours);
	ca_free(shared.servers);
	ca_free(shared.strangers);
	return 0;
}

static int mint(struct leaf **out, struct leaf_mint *by, const struct leaf_request *request, int64_t at_s)
{
	struct leaf_spec spec = { 0 };
	int ret = leaf_spec_init(&spec, request, "/crl");

	if (ret == 0)
		ret = leaf_mint(out, by, &spec, at_s);
	leaf_spec_fini(&spec);
	return ret;
}

static void keep(char out[256], struct str s)
{
	snprintf(out, 256, "%.*s", (int)s.len, s.ptr ? s.ptr : "");
}

static int get_leaf(struct leaf_source *source, const struct leaf_request *request, int64_t at_s,
		    struct leaf **out)
{
	struct tls_world *w = container_of(source, struct tls_world, leaves);

	keep(w->asked_sni, request->sni);
	keep(w->asked_local, request->local_host);
	keep(w->asked_server, request->server_host);
	w->asked = *request;
	w->asked_upstream = request->upstream != NULL;
	w->leaf_count++;
	return mint(out, &shared.mint_ours, request, at_s);
}

/* --- the child: relays, opens the server when it must ---------------------------------------------------------- */

struct app {
	struct layer base;
	struct tls_world *w;
	struct conn *client, *server;
	struct chain waiting;            /* the client's, until the server is open */
	bool opening;
};

static void app_forward(struct app *a, struct conn *to, struct chain *data)
{
	struct conn *from = to == a->client ? a->server : a->client;

	if (layer_send(&a->base, to, data))
		layer_pause(&a->base, from, PAUSE_PEER);
}

static void app_client_says(struct app *a, struct chain *data)
{
	if (a->w->c.no_server) {
		app_forward(a, a->client, data);
		return;
	}
	if (!a->opening && conn_is_open(a->server) && a->server->record->tls_setup.kind != STAMP_NONE) {
		app_forward(a, a->server, data);
		return;
	}
	if (chain_join(&a->waiting, data) < 0)
		layer_reset(&a->base, a->client);
	else if (a->server->failed)
		layer_send_bytes(&a->base, a->client, "502", 3);
	else if (!a->opening) {
		a->opening = true;
		layer_open(&a->base, a->server);
	}
}

static void app_handle(struct layer *l, const struct event *ev)
{
	struct app *a = container_of(l, struct app, base);
	const char *who = ev->conn == a->client ? "client" : "server";

	switch (ev->type) {
	case EV_START:
		playbook_note(&a->w->pb, "child start");
		return;
	case EV_OPENED:
		playbook_note(&a->w->pb, "child opened: %s", ev->error ? ev->error : "ok");
		a->opening = false;
		if (ev->error)
			layer_send_bytes(l, a->client, "502", 3);
		else
			app_forward(a, a->server, &a->waiting);
		return;
	case EV_DATA:
		if (ev->conn == a->client)
			app_client_says(a, ev->data);
		else
			app_forward(a, a->client, ev->data);
		return;
	case EV_WRITABLE:
		layer_resume(l, ev->conn == a->client ? a->server : a->client, PAUSE_PEER);
		return;
	case EV_CLOSED:
		playbook_note(&a->w->pb, "child closed %s%s", who, ev->reset ? " reset" : "");
		if (ev->conn == a->client && a->server)
			layer_close_half(l, a->server);
		else
			layer_close(l, a->client);
		return;
	case EV_HOOK_DONE:
	case EV_WAKEUP:
	case EV_DRAIN:
	case EV_ORDER:
		return;
	}
	abort();
}

static void app_free(struct layer *l)
{
	struct app *a = container_of(l, struct app, base);

	layer_fini(l);
	chain_clear(&a->waiting);
	mem_free(a);
}

static const struct layer_ops app_ops = { .name = "app", .handle = app_handle, .free = app_free };

static struct layer *app_new(struct layer *parent, struct tls_world *w)
{
	struct app *a = mem_zalloc(sizeof(*a));

	if (!a)
		return NULL;
	layer_init(&a->base, &app_ops, parent, NULL, NULL);
	a->w = w;
	a->client = w->pb.client;
	a->server = w->c.no_server ? NULL : w->pb.server;
	w->app = a;
	return &a->base;
}

/* --- the root: TLS layers have parents ------------------------------------------------------------------------- */

struct root {
	struct layer base;
	struct layer *child;
};

static void root_handle(struct layer *l, const struct event *ev)
{
	struct root *r = container_of(l, struct root, base);

	if (layer_event(r->child, ev) < 0 && ev->conn)
		layer_reset(l, ev->conn);
}

static void root_free(struct layer *l)
{
	struct root *r = container_of(l, struct root, base);

	layer_fini(l);
	layer_free(r->child);
	mem_free(r);
}

static const struct layer_ops root_ops = { .name = "root", .handle = root_handle, .free = root_free };

/* *last: the layer that the app hangs on. */
static bool make_stack(struct tls_world *w, struct root *r)
{
	struct layer *last = &r->base, *next;

	if (!w->c.no_server) {
		next = r->child = tls_server_new(last, w->pb.server, w->pb.client);
		if (!next)
			return false;
		last = next;
	}
	if (!w->c.plain_client) {
		next = tls_client_new(last, w->pb.client, w->c.no_server ? NULL : w->pb.server);
		if (!next)
			return false;
		if (last == &r->base)
			r->child = next;
		else
			tls_set_child(last, next);
		last = next;
	}
	next = app_new(last, w);
	if (next)
		tls_set_child(last, next);
	return next != NULL;
}

static struct layer *make_root(struct tls_world *w)
{
	struct root *r = mem_zalloc(sizeof(*r));

	if (!r)
		return NULL;
	layer_init(&r->base, &root_ops, NULL, &w->pb.sink, &w->pb.env);
	if (!make_stack(w, r)) {
		layer_free(&r->base);
		return NULL;
	}
	return &r->base;
}

/* --- peers ----------------------------------------------------------------------------------------------------- */

static int choose_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in,
		       unsigned int in_len, void *arg)
{
	const char *mine = arg;

	(void)ssl;
	if (SSL_select_next_proto((unsigned char **)out, out_len, (const unsigned char *)mine,
				  (unsigned int)strlen(mine), in, in_len) != OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_NOACK;
	return SSL_TLSEXT_ERR_OK;
}

static int keep_session(SSL *ssl, SSL_SESSION *session)
{
	struct tls_side *s = SSL_get_app_data(ssl);

	SSL_SESSION_free(s->session);
	s->session = session;
	return 1;
}

struct leaf *tls_world_stranger(void)
{
	const struct leaf_request request = { .sni = STR("me") };
	struct leaf *leaf = NULL;

	assert_int_equal(mint(&leaf, &shared.mint_strangers, &request, now_s()), 0);
	return leaf;
}

static void install_stranger(SSL *ssl)
{
	struct leaf *leaf = tls_world_stranger();

	assert_int_equal(leaf_install(leaf, ssl), 0);
	leaf_put(leaf);
}

/* GREASE (RFC 8701) and an Encrypted ClientHello (0xfe0d), of which the proxy must make nothing. */
static void make_odd(SSL_CTX *ctx)
{
	static const unsigned int types[] = { 0x1a1a, 0xfe0d, 0xdada };

	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		assert_int_equal(SSL_CTX_add_client_custom_ext(ctx, types[i], NULL, NULL, NULL, NULL, NULL), 1);
}

static void make_client_peer(struct tls_world *w, struct tls_side *s)
{
	s->ctx = SSL_CTX_new(TLS_client_method());
	SSL_CTX_set_verify(s->ctx, SSL_VERIFY_PEER, NULL);
	SSL_CTX_set_session_cache_mode(s->ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(s->ctx, keep_session);
	X509_STORE_add_cert(SSL_CTX_get_cert_store(s->ctx),
			    w->c.client_distrusts ? shared.strangers->cert :
			    w->c.client_pins ? shared.servers->cert : shared.ours->cert);
	if (w->c.client_odd)
		make_odd(s->ctx);
	SSL_CTX_set_min_proto_version(s->ctx, w->c.client_min);
	SSL_CTX_set_max_proto_version(s->ctx, w->c.client_max);
	if (w->c.client_min && w->c.client_min < TLS1_2_VERSION)
		SSL_CTX_set_security_level(s->ctx, 0);
	if (w->c.client_ciphers)
		assert_int_equal(SSL_CTX_set_cipher_list(s->ctx, w->c.client_ciphers), 1);
	s->ssl = SSL_new(s->ctx);
	SSL_set_connect_state(s->ssl);
	if (w->c.client_has_certificate)
		install_stranger(s->ssl);
	if (!w->c.no_sni)
		SSL_set_tlsext_host_name(s->ssl, "example.com");
	SSL_set1_host(s->ssl, w->c.no_sni ? "127.0.0.1" : "example.com");
	if (w->c.no_sni) {
		SSL_set1_host(s->ssl, NULL);
		X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(s->ssl), "127.0.0.1");
	}
	if (w->c.client_alpn)
		SSL_set_alpn_protos(s->ssl, (const unsigned char *)w->c.client_alpn,
				    (unsigned int)strlen(w->c.client_alpn));
	if (w->c.resume)
		SSL_set_session(s->ssl, w->c.resume);
}

static void make_server_peer(struct tls_world *w, struct tls_side *s)
{
	static const unsigned char id[] = "peer";
	struct leaf_request request = { .sni = STR("example.com") };
	unsigned char keys[80] = { 7 };  /* always the same: a ticket of one dialogue is good in the next */

	if (w->c.wrong_name)
		request.sni = STR("other.example");
	if (!w->server_leaf)
		assert_int_equal(mint(&w->server_leaf, w->c.untrusted ? &shared.mint_strangers : &shared.mint_servers,
				      &request, now_s() - (w->c.expired ? 400 * 86400 : 0)), 0);
	s->ctx = SSL_CTX_new(TLS_server_method());
	SSL_CTX_set_session_id_context(s->ctx, id, sizeof(id));
	SSL_CTX_set_tlsext_ticket_keys(s->ctx, keys, sizeof(keys));
	SSL_CTX_set_max_proto_version(s->ctx, w->c.server_max);
	if (w->c.server_max && w->c.server_max < TLS1_2_VERSION) {
		SSL_CTX_set_security_level(s->ctx, 0);
		SSL_CTX_set_min_proto_version(s->ctx, TLS1_VERSION);
	}
	if (w->c.server_alpn)
		SSL_CTX_set_alpn_select_cb(s->ctx, choose_alpn, (void *)(uintptr_t)w->c.server_alpn);
	if (w->c.no_tickets)
		SSL_CTX_set_num_tickets(s->ctx, 0);
	if (w->c.asks_certificate || w->c.wants_certificate || w->c.asks_later) {
		X509_STORE_add_cert(SSL_CTX_get_cert_store(s->ctx), shared.strangers->cert);
		X509_STORE_set_flags(SSL_CTX_get_cert_store(s->ctx), X509_V_FLAG_PARTIAL_CHAIN);
		SSL_CTX_set_purpose(s->ctx, X509_PURPOSE_ANY);
		SSL_CTX_set_verify(s->ctx, SSL_VERIFY_PEER |
				   (w->c.wants_certificate ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0) |
				   (w->c.asks_later ? SSL_VERIFY_POST_HANDSHAKE : 0), NULL);
	}
	s->ssl = SSL_new(s->ctx);
	SSL_set_accept_state(s->ssl);
	assert_int_equal(leaf_install(w->server_leaf, s->ssl), 0);
}

static void side_init(struct tls_side *s, struct conn *conn)
{
	s->conn = conn;
	s->got = BIO_new(BIO_s_mem());
	s->rx = BIO_new(BIO_s_mem());
	s->tx = BIO_new(BIO_s_mem());
	BIO_set_mem_eof_return(s->rx, -1);
	if (s->ssl) {
		SSL_set_app_data(s->ssl, s);
		BIO_up_ref(s->rx);
		BIO_up_ref(s->tx);
		SSL_set_bio(s->ssl, s->rx, s->tx);
	}
}

static void side_fini(struct tls_side *s)
{
	if (s->ssl)
		SSL_set_shutdown(s->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
	SSL_free(s->ssl);
	SSL_CTX_free(s->ctx);
	BIO_free(s->rx);
	BIO_free(s->tx);
	BIO_free(s->got);
	SSL_SESSION_free(s->session);
	chain_clear(&s->queue);
}

/* Another connection to the same server. */
static void server_anew(struct tls_world *w)
{
	struct tls_side *s = &w->server;
	struct conn *conn = s->conn;

	if (!s->ssl || SSL_in_before(s->ssl))
		return;
	side_fini(s);
	*s = (struct tls_side){ 0 };
	make_server_peer(w, s);
	side_init(s, conn);
}

static void peer_shake(struct tls_side *s)
{
	int ret;

	if (s->shaken || s->error)
		return;
	ERR_clear_error();
	ret = SSL_do_handshake(s->ssl);
	s->shaken = ret == 1;
	if (ret != 1 && SSL_get_error(s->ssl, ret) != SSL_ERROR_WANT_READ) {
		s->error = ERR_peek_last_error();
		s->ended = true;
	}
	ERR_clear_error();
}

static void peer_run(struct tls_world *w, struct tls_side *s)
{
	char buf[16384];
	int n;

	if (!s->ssl) {
		while ((n = BIO_read(s->rx, buf, sizeof(buf))) > 0) {
			BIO_write(s->got, buf, n);
			if (s != &w->server || (!w->c.server_says && !w->c.server_ends))
				continue;
			if (w->c.server_says && !s->shaken)
				BIO_puts(s->tx, w->c.server_says);
			s->shaken = true;
			s->ended = w->c.server_ends;
		}
		return;
	}
	peer_shake(s);
	if (!s->shaken)
		return;
	ERR_clear_error();
	while ((n = SSL_read(s->ssl, buf, sizeof(buf))) > 0)
		BIO_write(s->got, buf, n);
	n = SSL_get_error(s->ssl, n);
	if (n == SSL_ERROR_SSL && !s->error)
		s->error = ERR_peek_last_error();
	ERR_clear_error();
}

void tls_say(struct tls_side *s, const void *bytes, size_t len)
{
	if (s->ssl)
		assert_int_equal(SSL_write(s->ssl, bytes, (int)len), len);
	else
		BIO_write(s->tx, bytes, (int)len);
}

size_t tls_heard_len(const struct tls_side *s)
{
	return BIO_ctrl_pending(s->got);
}

size_t tls_heard(struct tls_side *s, char *out, size_t size)
{
	int n = BIO_read(s->got, out, (int)size - 1);

	out[n > 0 ? n : 0] = 0;
	return n > 0 ? (size_t)n : 0;
}

/* --- the driver's part ----------------------------------------------------------------------------------------- */

static struct tls_side *side_of(struct tls_world *w, const struct conn *c)
{
	return c == w->pb.client ? &w->client : &w->server;
}

static void side_drain(struct tls_side *s)
{
	for (uint32_t i = 0; i < s->queue.count; i++)
		BIO_write(s->rx, chain_see(&s->queue, i)->ptr, (int)chain_see(&s->queue, i)->len);
	chain_clear(&s->queue);
}

static bool on_send(struct tls_world *w, struct command *cmd)
{
	struct tls_side *s = side_of(w, cmd->conn);

	if (!(cmd->conn->state & CONN_CAN_WRITE)) {
		chain_clear(cmd->data);
		return false;
	}
	if (chain_join(&s->queue, cmd->data) < 0)
		return false;
	if (!s->stuck)
		side_drain(s);
	s->over = s->queue.len > QUEUE_HIGH;
	return s->over;
}

static bool on_command(struct playbook *pb, struct command *cmd, bool *answer)
{
	struct tls_world *w = pb->owner;

	switch (cmd->type) {
	case CMD_SEND:
		*answer = on_send(w, cmd);
		return true;
	case CMD_OPEN:
		assert_null(w->opener);
		w->opener = cmd->from;
		return false;
	case CMD_HOOK:
		if (cmd->hook == HOOK_TLS_CLIENTHELLO && w->c.ignore)
			((struct tls_hello_hook *)cmd->arg)->ignore = true;
		if (!w->c.hold_hooks)
			return false;
		playbook_note(pb, "hook %s (held)", hook_name(cmd->hook));
		assert_null(w->holder);
		w->holder = cmd->from;
		*answer = false;
		return true;
	case CMD_CLOSE:
	case CMD_FLOW:
	case CMD_LOG:
	case CMD_WAKEUP:
	case CMD_PAUSE:
	case CMD_RESUME:
		return false;
	}
	abort();
}

static void event(struct tls_world *w, struct layer *to, const struct event *ev)
{
	if (layer_event(to, ev) == 0)
		return;
	assert_true(playbook_sweeping());
	w->pb.client->state = w->pb.server->state = CONN_CLOSED;
}

static uint32_t slice_len(struct tls_world *w)
{
	if (w->c.slice == 1u << 31)
		return (uint32_t)(w->pb.env.random(&w->pb.env) % 3000) + 1;
	return w->c.slice ? w->c.slice : 16384;
}

/* One slice from the peer to the layers. True: there was one. */
static bool carry(struct tls_world *w, struct tls_side *s)
{
	char buf[16384];
	struct chain data = { 0 };
	int n;

	if (!(s->conn->state & CONN_CAN_READ) || s->conn->paused)
		return false;
	n = BIO_read(s->tx, buf, (int)slice_len(w));
	if (n > 0) {
		if (chain_write(&data, &w->pb.slabs, buf, (size_t)n) < 0)
			s->conn->state = CONN_CLOSED;
		else
			event(w, w->top, &(struct event){ .type = EV_DATA, .conn = s->conn, .data = &data });
		chain_clear(&data);
		return true;
	}
	if (!s->ended || s->fin_given)
		return false;
	s->fin_given = true;
	s->conn->state &= (uint8_t)~CONN_CAN_READ;
	event(w, w->top, &(struct event){ .type = EV_CLOSED, .conn = s->conn });
	return true;
}

static bool unstick(struct tls_world *w, struct tls_side *s)
{
	if (s->stuck || s->queue.len == 0)
		return false;
	side_drain(s);
	if (!s->over)
		return true;
	s->over = false;
	event(w, w->top, &(struct event){ .type = EV_WRITABLE, .conn = s->conn });
	return true;
}

/* idle: nothing else is on its way, so that time passes. */
static bool complete(struct tls_world *w, bool idle)
{
	struct layer *l = w->opener ? w->opener : w->holder ? w->holder : idle ? w->pb.sleeper : NULL;

	if (!l)
		return false;
	if (l == w->opener) {
		w->opener = NULL;
		server_anew(w);
		w->pb.server->state = w->c.refuse_open ? CONN_CLOSED : CONN_OPEN;
		event(w, l, &(struct event){ .type = EV_OPENED, .conn = w->pb.server,
			.error = w->c.refuse_open ? "Connection refused" : NULL });
	} else if (l == w->holder) {
		w->holder = NULL;
		event(w, l, &(struct event){ .type = EV_HOOK_DONE });
	} else {
		w->pb.sleeper = NULL;
		event(w, l, &(struct event){ .type = EV_WAKEUP });
	}
	return true;
}

void tls_pump(struct tls_world *w)
{
	bool moved = true, before = true;

	for (uint32_t turn = 0; moved || before; turn++) {
		before = moved;
		assert_true(turn < TURNS_MAX);
		moved = complete(w, !moved);
		peer_run(w, &w->client);
		peer_run(w, &w->server);
		moved |= carry(w, &w->client) | carry(w, &w->server);
		moved |= unstick(w, &w->client) | unstick(w, &w->server);
	}
}

void tls_start(struct tls_world *w)
{
	event(w, w->top, &(struct event){ .type = EV_START });
	if (w->c.client_says)
		BIO_write(w->client.tx, w->c.client_says, (int)w->c.client_says_len);
	tls_pump(w);
}

/* --- life ------------------------------------------------------------------------------------------------------ */

/* Whose leaves an environment that outlives worlds asks for. */
static struct tls_world *current;

static int get_shared_leaf(struct leaf_source *source, const struct leaf_request *request, int64_t at_s,
			   struct leaf **out)
{
	(void)source;
	return get_leaf(&current->leaves, request, at_s, out);
}

static int64_t wall(const struct env *env)
{
	(void)env;
	return now_s() * 1000000000;
}

struct tls_env *tls_world_env_logged(void (*keylog)(void *owner, const char *line))
{
	static struct leaf_source source = { get_shared_leaf };
	static struct options options;
	static struct env env;
	struct tls_env_config config = { .leaves = &source, .trust = shared.trust, .keylog = keylog,
		.ticket_keys = { 1, 2, 3 } };
	struct tls_env *out = NULL;

	options_init(&options);
	env = (struct env){ .options = &options, .wall_ns = wall };
	assert_int_equal(tls_env_new(&out, &env, &config, NULL), 0);
	return out;
}

static bool find_refusal(struct tls_refusal_source *s, struct str key, int64_t at_ns, char why[TLS_REFUSAL_WHY_MAX])
{
	return tls_refusals_find(container_of(s, struct tls_world, refusals)->c.remember, key, at_ns, why);
}

static void note_refusal(struct tls_refusal_source *s, struct str key, const char *why, int64_t until_ns)
{
	tls_refusals_note(container_of(s, struct tls_world, refusals)->c.remember, key, why, until_ns);
	s->count++;
}

static int make_env(struct tls_world *w, struct tls_env *env)
{
	struct tls_env_config config = { .leaves = &w->leaves, .trust = shared.trust, .ticket_keys = { 1, 2, 3 },
		.client_certs = w->c.client_certs, .refusals = w->c.remember ? &w->refusals : NULL };
	int ret;

	w->pb.env.tls = env;
	if (env) {
		env->env = &w->pb.env;
		return 0;
	}
	ret = tls_env_new(&w->env, &w->pb.env, &config, NULL);
	w->pb.env.tls = w->env;
	return ret;
}

int tls_world_init(struct tls_world *w, const struct tls_case *c, struct tls_env *env)
{
	*w = (struct tls_world){ .c = *c, .leaves = { get_leaf },
		.refusals = { .find = find_refusal, .note = note_refusal } };
	w->refusals.count = c->remember ? tls_refusals_count(c->remember) : 0;
	current = w;
	if (!c->plain_client && !c->client_says)
		make_client_peer(w, &w->client);
	if (!c->no_server && !c->server_says && !c->server_ends)
		make_server_peer(w, &w->server);
	assert_int_equal(playbook_init(&w->pb), 0);
	side_init(&w->client, w->pb.client);
	side_init(&w->server, w->pb.server);
	w->pb.owner = w;
	w->pb.on_command = on_command;
	w->pb.wall_ns = now_s() * 1000000000;
	w->pb.env.notify_hooks = UINT64_MAX;
	w->pb.options.connection_eager = !c->lazy;
	w->pb.options.ssl_insecure = c->insecure;
	w->pb.options.request_client_cert = c->request_client_cert;
	w->pb.options.add_upstream_certs = c->add_upstream_certs;
	w->pb.options.tls_passthrough_failed = c->passthrough;
	w->pb.server->record->address.port = 443;
	w->pb.server->state = c->not_open || c->no_server ? CONN_CLOSED : CONN_OPEN;
	if (make_env(w, env) == 0)
		w->top = make_root(w);
	if (w->top)
		return 0;
	tls_world_fini(w);
	return -ENOMEM;
}

void tls_world_fini(struct tls_world *w)
{
	side_fini(&w->client);
	side_fini(&w->server);
	leaf_put(w->server_leaf);
	layer_free(w->top);
	tls_env_free(w->env);
	playbook_fini(&w->pb, NULL);
}

/* --- what tests say -------------------------------------------------------------------------------------------- */

void tls_begin(struct tls_world *w, const struct tls_case *c)
{
	assert_int_equal(tls_world_init(w, c, NULL), 0);
	tls_start(w);
}

void tls_says(struct tls_world *w, struct tls_side *from, struct tls_side *to, const char *text)
{
	char got[256];

	tls_say(from, text, strlen(text));
	tls_pump(w);
	tls_heard(to, got, sizeof(got));
	assert_string_equal(got, text);
}

void tls_both_ways(struct tls_world *w)
{
	tls_says(w, &w->client, &w->server, "GET / HTTP/1.1\r\n\r\n");
	tls_says(w, &w->server, &w->client, "HTTP/1.1 200 OK\r\n\r\n");
}

void tls_assert_text(struct str s, const char *want)
{
	assert_non_null(s.ptr);
	if (s.len != strlen(want) || memcmp(s.ptr, want, s.len) != 0)
		fail_msg("\"%.*s\" is not \"%s\"", (int)s.len, s.ptr, want);
}

void tls_assert_trace(struct tls_world *w, const char *want)
{
	assert_string_equal(playbook_trace(&w->pb), want);
}

void tls_assert_says(struct tls_world *w, const char *part)
{
	if (!strstr(playbook_trace(&w->pb), part))
		fail_msg("no \"%s\" in\n%s", part, playbook_trace(&w->pb));
}
