/* SPDX-License-Identifier: MIT */
/*
 * The tunnel that both roles share: steps of an establishment with the hooks between them, events kept for the child
 * meanwhile, then bytes in both directions. What differs is in struct tls_role.
 */
#include "layers/tls.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "core/conn.h"
#include "core/env.h"
#include "layers/tls_env.h"

/* An event for a child that has not started yet. */
struct tls_held {
	struct tls_held *next;
	struct event ev;
	struct chain data;
};

/* --- the child ------------------------------------------------------------------------------------------------- */

static void hold(struct tls_layer *t, const struct event *ev)
{
	struct tls_held *h = mem_zalloc(sizeof(*h));

	if (!h) {
		tls_give_up(t);
		return;
	}
	h->ev = *ev;
	if (ev->data) {
		h->data = chain_take(ev->data);
		h->ev.data = &h->data;
		layer_pause(&t->base, ev->conn, PAUSE_BLOCKED);
	}
	*t->held_tail = h;
	t->held_tail = &h->next;
}

static struct tls_held *unhold(struct tls_layer *t)
{
	struct tls_held *h = t->held;

	if (!h)
		return NULL;
	t->held = h->next;
	if (!t->held)
		t->held_tail = &t->held;
	if (h->ev.data)
		layer_resume(&t->base, h->ev.conn, PAUSE_BLOCKED);
	return h;
}

static void held_free(struct tls_held *h)
{
	chain_clear(&h->data);
	mem_free(h);
}

void tls_to_child(struct tls_layer *t, const struct event *ev)
{
	if (t->dead)
		return;
	if (t->state == TLS_ESTABLISHING && !t->opener)
		hold(t, ev);
	else if (layer_event(t->child, ev) < 0)
		tls_give_up(t);
}

void tls_release(struct tls_layer *t)
{
	for (struct tls_held *h = unhold(t); h; h = unhold(t)) {
		tls_to_child(t, &h->ev);
		held_free(h);
	}
}

void tls_answer(struct tls_layer *t, const char *error)
{
	struct layer *opener = t->opener;

	t->opener = NULL;
	if (opener && layer_event(opener, &(struct event){ .type = EV_OPENED, .conn = t->conn, .error = error }) < 0)
		tls_give_up(t);
}

/* --- bytes out ------------------------------------------------------------------------------------------------- */

void tls_give_up(struct tls_layer *t)
{
	t->state = TLS_CLOSED;
	t->step = TLS_STEP_NONE;
	t->dead = true;
	if (t->server)
		layer_reset(&t->base, t->server);
	layer_reset(&t->base, t->client);
}

bool tls_flush(struct tls_layer *t)
{
	struct chain data = chain_take(&t->engine.out);

	return data.len && layer_send(&t->base, t->conn, &data);
}

/* The session broke while the child was speaking: it hears of it as soon as it listens. */
static void broken(struct tls_layer *t)
{
	char text[TLS_ERROR_MAX];

	if (t->role->broke)
		t->role->broke(t);
	layer_log(&t->base, LOG_WARN, "TLS Error: %s", tls_engine_error(&t->engine, !t->role->accept, text));
	t->state = TLS_CLOSED;
	layer_close(&t->base, t->conn);
}

static bool child_sends(struct tls_layer *t, struct chain *data)
{
	enum tls_result result;
	bool over;

	if (t->state != TLS_OPEN || t->shut_out || !(t->conn->state & CONN_CAN_WRITE)) {
		chain_clear(data);
		return false;
	}
	result = tls_engine_write(&t->engine, data);
	if (result == TLS_NO_MEMORY) {
		tls_give_up(t);
		return false;
	}
	over = tls_flush(t);
	if (result == TLS_FAILED) {
		broken(t);
		t->tell_child = !t->shut_in;
		layer_wakeup(&t->base, 1);
	}
	return over;
}

void tls_set_text(struct tls_layer *t, const char *text)
{
	mem_free(t->text);
	t->text = text ? mem_strndup(text, strlen(text)) : NULL;
}

void tls_fail(struct tls_layer *t, enum log_level level, const char *fmt, ...)
{
	char text[ERR_TEXT_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	tls_set_text(t, text);
	t->level = level;
	t->step = TLS_STEP_FAILED;
}

static bool hook(struct tls_layer *t, enum hook_id id)
{
	t->hook = (struct tls_hook){ t->conn, t->client, t->server };
	return layer_hook(&t->base, id, &t->hook);
}

static void record_failed(struct tls_layer *t)
{
	layer_log(&t->base, t->level, "%s TLS handshake failed. %s", t->role->accept ? "Client" : "Server",
		  tls_text(t));
	t->conn->failed = true;
	if (conn_record_edit(&t->conn->record) == 0 &&
	    conn_record_text(t->conn->record, &t->conn->record->error, str_of(tls_text(t))) < 0)
		t->conn->record->error = (struct str){ 0 };
}

/* Nobody wants it any more, who has begun is told: a server's handshake is over, too. */
static void abandon(struct tls_layer *t)
{
	if (t->role->accept || !t->engine.ssl || (t->step != TLS_STEP_HANDSHAKE && t->step != TLS_STEP_CONFIRM))
		return;
	tls_fail(t, LOG_INFO, "connection closed");
	record_failed(t);
	t->step = TLS_STEP_NONE;
	t->forgotten += !hook(t, t->role->failed);
}

static bool child_closes(struct tls_layer *t, struct command *cmd)
{
	if (t->state == TLS_OPEN && !cmd->reset && !t->shut_out && (t->conn->state & CONN_CAN_WRITE)) {
		tls_engine_shutdown(&t->engine);
		tls_flush(t);
	}
	t->shut_out = true;
	if (!cmd->half || t->state != TLS_OPEN) {
		abandon(t);
		t->state = TLS_CLOSED;
		t->step = TLS_STEP_NONE;
		if (t->opener) {
			t->tell_opener = true;
			layer_wakeup(&t->base, 1);
		}
	}
	return layer_command(&t->base, cmd);
}

static bool tls_command(struct layer *l, struct command *cmd)
{
	struct tls_layer *t = tls_of(l);

	if (cmd->conn != t->conn || t->pass)
		return layer_command(l, cmd);
	switch (cmd->type) {
	case CMD_SEND:
		return child_sends(t, cmd->data);
	case CMD_CLOSE:
		return child_closes(t, cmd);
	case CMD_OPEN:
		if (!t->role->ask)
			return layer_command(l, cmd);
		t->role->ask(t, cmd);
		return false;
	case CMD_HOOK:
	case CMD_FLOW:
	case CMD_LOG:
	case CMD_WAKEUP:
	case CMD_PAUSE:
	case CMD_RESUME:
		return layer_command(l, cmd);
	}
	abort();
}

/* --- bytes in -------------------------------------------------------------------------------------------------- */

static void report_closed(struct tls_layer *t, bool reset)
{
	if (t->shut_in)
		return;
	t->shut_in = true;
	if (!t->heard && t->role->left)
		t->role->left(t);
	tls_to_child(t, &(struct event){ .type = EV_CLOSED, .conn = t->conn, .reset = reset });
}

/* Decrypts what came. What TLS itself has to answer goes out before the child hears anything (spec/layers 6.4). */
static void receive(struct tls_layer *t)
{
	struct chain plain = { 0 };
	enum tls_result result = tls_engine_read(&t->engine, &plain);

	if (tls_flush(t) && !t->throttled) {
		t->throttled = true;
		layer_pause(&t->base, t->conn, PAUSE_TUNNEL);
	}
	if (result == TLS_NO_MEMORY) {
		chain_clear(&plain);
		tls_give_up(t);
		return;
	}
	t->heard |= plain.len != 0;
	if (plain.len)
		tls_to_child(t, &(struct event){ .type = EV_DATA, .conn = t->conn, .data = &plain });
	chain_clear(&plain);
	if (result == TLS_SHUT) {
		t->conn->state &= (uint8_t)~CONN_CAN_READ;
		report_closed(t, false);
	} else if (result == TLS_FAILED && t->state == TLS_OPEN) {
		broken(t);
		report_closed(t, true);
	}
}

static void on_data(struct tls_layer *t, struct chain *data)
{
	if (t->state == TLS_CLOSED || t->shut_in)
		return;
	if (tls_engine_give(&t->engine, data) < 0) {
		tls_give_up(t);
		return;
	}
	if (t->state == TLS_OPEN)
		receive(t);
	else if (t->engine.ssl)
		tls_advance(t);
	else
		t->role->data(t);
}

static void on_closed(struct tls_layer *t, bool reset)
{
	switch (t->state) {
	case TLS_ESTABLISHING:
		if (t->step == TLS_STEP_FAILED || t->step == TLS_STEP_GONE)
			return;
		t->role->explain(t, "connection closed", true);
		t->step = TLS_STEP_FAILED;
		tls_advance(t);
		return;
	case TLS_OPEN:
		report_closed(t, reset);
		return;
	case TLS_INACTIVE:
	case TLS_CLOSED:
		return;
	}
	abort();
}

/* --- establishing ---------------------------------------------------------------------------------------------- */

static int record_certificates(struct conn_record *r, SSL *ssl, bool server)
{
	STACK_OF(X509) *chain = SSL_get_peer_cert_chain(ssl);
	X509 *own = server ? SSL_get0_peer_certificate(ssl) : NULL;     /* not in a server's chain */
	uint32_t count = (uint32_t)(chain ? sk_X509_num(chain) : 0) + (own != NULL), n = 0;

	r->certificates.count = 0;
	if (count == 0)
		return 0;
	r->certificates.at = arena_alloc(&r->arena, count * sizeof(struct str));
	if (!r->certificates.at)
		return -ENOMEM;
	for (uint32_t i = 0; i < count; i++) {
		X509 *cert = own && i == 0 ? own : sk_X509_value(chain, (int)(i - (own != NULL)));
		int len = i2d_X509(cert, NULL);
		unsigned char *der = len > 0 ? arena_alloc(&r->arena, (size_t)len) : NULL;

		if (!der)
			return -ENOMEM;
		r->certificates.at[n++] = (struct str){ (char *)der, (size_t)len };
		i2d_X509(cert, &der);
	}
	r->certificates.count = n;
	return 0;
}

static int record_established(struct tls_layer *t)
{
	SSL *ssl = t->engine.ssl;
	const unsigned char *alpn = NULL;
	unsigned int alpn_len = 0;
	struct conn_record *r;

	if (conn_record_edit(&t->conn->record) < 0)
		return -ENOMEM;
	r = t->conn->record;
	SSL_get0_alpn_selected(ssl, &alpn, &alpn_len);
	if (conn_record_text(r, &r->alpn, (struct str){ alpn_len ? (const char *)alpn : "", alpn_len }) < 0 ||
	    conn_record_text(r, &r->cipher, str_of(SSL_get_cipher_name(ssl))) < 0 ||
	    conn_record_text(r, &r->tls_version, str_of(SSL_get_version(ssl))) < 0 ||
	    record_certificates(r, ssl, t->role->accept) < 0)
		return -ENOMEM;
	r->tls_setup = env_stamp(t->base.env);   /* last: who finds it takes the connection for established */
	return 0;
}

int tls_apply_ciphers(struct tls_layer *t, const char *option)
{
	struct conn_record *r = t->conn->record;
	struct strbuf list = { 0 }, ciphers = { 0 }, suites = { 0 };
	int ret;

	if (r->cipher_list.count == 0 && option) {
		struct str rest = str_of(option), names[64];
		uint32_t n = 0;

		while (rest.ptr && n < ARRAY_SIZE(names))
			names[n++] = str_cut(&rest, ':');
		return conn_record_list(r, &r->cipher_list, names, n);
	}
	if (r->cipher_list.count == 0)
		return 0;
	for (uint32_t i = 0; i < r->cipher_list.count; i++) {
		strbuf_add(&list, ":", i != 0);
		strbuf_add_str(&list, r->cipher_list.at[i]);
	}
	ret = list.failed ? -ENOMEM :
	      tls_env_split_ciphers((struct str){ list.ptr, list.len }, &ciphers, &suites, NULL);
	if (ret == 0 && ciphers.ptr && SSL_set_cipher_list(t->engine.ssl, ciphers.ptr) != 1)
		ret = -EINVAL;
	if (ret == 0 && suites.ptr && SSL_set_ciphersuites(t->engine.ssl, suites.ptr) != 1)
		ret = -EINVAL;
	strbuf_fini(&list);
	strbuf_fini(&ciphers);
	strbuf_fini(&suites);
	return ret;
}

static void begin(struct tls_layer *t)
{
	struct err e = { 0 };
	SSL_CTX *ctx;

	t->step = TLS_STEP_HANDSHAKE;
	ctx = tls_env_context(t->env, t->role->accept, &e);
	if (!ctx)
		tls_fail(t, LOG_ERROR, "%s", e.text);
	else if (tls_engine_init(&t->engine, ctx, t->env->bio, t->role->accept, t) < 0)
		tls_fail(t, LOG_ERROR, "out of memory");
	else if (t->role->prepare(t) < 0 && t->step != TLS_STEP_FAILED)
		tls_fail(t, LOG_ERROR, "out of memory");
}

/* False: more bytes are needed. */
static bool shake_hands(struct tls_layer *t)
{
	enum tls_result result = tls_engine_handshake(&t->engine);
	char text[TLS_ERROR_MAX];

	tls_flush(t);
	switch (result) {
	case TLS_WANT:
		return false;
	case TLS_DONE:
		t->step = TLS_STEP_CONFIRM;
		return true;
	case TLS_NO_MEMORY:
		tls_fail(t, LOG_ERROR, "out of memory");
		return true;
	case TLS_SHUT:
	case TLS_FAILED:
		t->role->explain(t, tls_engine_error(&t->engine, !t->role->accept, text), false);
		t->step = TLS_STEP_FAILED;
		return true;
	}
	abort();
}

/* False: to be called again. */
static bool confirm(struct tls_layer *t)
{
	if (t->role->confirm && !t->role->confirm(t, t->late))
		return t->step != TLS_STEP_CONFIRM;
	t->step = TLS_STEP_READY;
	if (record_established(t) < 0)
		tls_fail(t, LOG_ERROR, "out of memory");
	return true;
}

static void ready(struct tls_layer *t)
{
	t->step = TLS_STEP_NONE;
	t->state = TLS_OPEN;
	t->role->ready(t);
	/* The peer may have said more in the same segment. */
	if (t->state == TLS_OPEN && (t->engine.in.len || SSL_pending(t->engine.ssl) > 0))
		receive(t);
}

static void gone(struct tls_layer *t)
{
	t->step = TLS_STEP_NONE;
	t->state = TLS_CLOSED;
	layer_close(&t->base, t->conn);
	t->role->gone(t);
}

void tls_advance(struct tls_layer *t)
{
	for (;;) {
		switch (t->step) {
		case TLS_STEP_NONE:
			return;
		case TLS_STEP_PRELUDE:
			if (!t->role->prelude(t) && t->step == TLS_STEP_PRELUDE)
				return;
			if (t->step != TLS_STEP_PRELUDE)
				break;
			t->step = TLS_STEP_BEGIN;
			if (!hook(t, t->role->start))
				return;
			break;
		case TLS_STEP_BEGIN:
			begin(t);
			break;
		case TLS_STEP_HANDSHAKE:
			if (!shake_hands(t))
				return;
			break;
		case TLS_STEP_CONFIRM:
			if (!confirm(t))
				return;
			if (t->step == TLS_STEP_READY && !hook(t, t->role->established))
				return;
			break;
		case TLS_STEP_READY:
			ready(t);
			return;
		case TLS_STEP_FAILED:
			record_failed(t);
			t->step = TLS_STEP_GONE;
			if (!hook(t, t->role->failed))
				return;
			break;
		case TLS_STEP_GONE:
			gone(t);
			return;
		}
	}
}

/* --- the layer ------------------------------------------------------------------------------------------------- */

static void on_wakeup(struct tls_layer *t)
{
	if (t->step == TLS_STEP_CONFIRM) {
		t->late = true;
		tls_advance(t);
	}
	if (t->tell_opener) {
		t->tell_opener = false;
		tls_answer(t, t->state == TLS_OPEN ? NULL : t->text ? t->text : "connection closed");
	}
	if (t->tell_child) {
		t->tell_child = false;
		report_closed(t, true);
	}
}

static void on_writable(struct tls_layer *t, const struct event *ev)
{
	if (ev->conn == t->conn && t->throttled) {
		t->throttled = false;
		layer_resume(&t->base, t->conn, PAUSE_TUNNEL);
	}
	tls_to_child(t, ev);
}

static void tls_handle(struct layer *l, const struct event *ev)
{
	struct tls_layer *t = tls_of(l);
	bool ours = ev->conn == t->conn && !t->pass;

	switch (ev->type) {
	case EV_START:
		t->role->started(t);
		tls_to_child(t, ev);
		return;
	case EV_DATA:
		if (ours)
			on_data(t, ev->data);
		else
			tls_to_child(t, ev);
		return;
	case EV_CLOSED:
		if (ours)
			on_closed(t, ev->reset);
		else
			tls_to_child(t, ev);
		return;
	case EV_OPENED:
		t->role->opened(t, ev->error);
		return;
	case EV_HOOK_DONE:
		if (t->forgotten)
			t->forgotten--;
		else
			tls_advance(t);
		return;
	case EV_WAKEUP:
		on_wakeup(t);
		return;
	case EV_WRITABLE:
		on_writable(t, ev);
		return;
	case EV_DRAIN:
		tls_to_child(t, ev);
		return;
	case EV_ORDER:
		layer_event(t->child, ev);
		return;
	}
	abort();
}

static void tls_forget(struct layer *l, const struct layer *below)
{
	struct tls_layer *t = tls_of(l);

	if (t->opener == below)
		t->opener = NULL;
}

static void tls_free(struct layer *l)
{
	struct tls_layer *t = tls_of(l);

	layer_fini(l);
	layer_free(t->child);
	for (struct tls_held *h = unhold(t); h; h = unhold(t))
		held_free(h);
	tls_engine_fini(&t->engine);
	if (t->role->fini)
		t->role->fini(t);
	mem_free((char *)t->session_key.ptr);
	mem_free(t->text);
	mem_free(t);
}

static const struct layer_ops tls_ops = {
	.name = "tls",
	.handle = tls_handle,
	.command = tls_command,
	.forget = tls_forget,
	.free = tls_free,
};

int tls_init(struct tls_layer *t, const struct tls_role *role, struct layer *parent, struct conn *conn,
	     struct conn *client, struct conn *server)
{
	BUG_ON(!parent->env->tls);
	layer_init(&t->base, &tls_ops, parent, NULL, NULL);
	t->role = role;
	t->env = parent->env->tls;
	t->conn = conn;
	t->client = client;
	t->server = server;
	t->engine.slabs = parent->env->slabs;
	t->held_tail = &t->held;
	if (conn_record_edit(&conn->record) < 0)
		return -ENOMEM;
	conn->record->tls = true;
	return 0;
}

void tls_set_child(struct layer *l, struct layer *child)
{
	BUG_ON(tls_of(l)->child || child->parent != l);
	tls_of(l)->child = child;
}

static bool has_role(const struct layer *l, bool accept)
{
	return l && l->ops == &tls_ops && container_of(l, const struct tls_layer, base)->role->accept == accept;
}

bool tls_is_client(const struct layer *l)
{
	return has_role(l, true);
}

bool tls_is_server(const struct layer *l)
{
	return has_role(l, false);
}

void tls_pass(struct layer *l)
{
	struct tls_layer *t = tls_of(l);

	t->pass = true;
	if (t->throttled)
		layer_resume(l, t->conn, PAUSE_TUNNEL);
	t->throttled = false;
}
