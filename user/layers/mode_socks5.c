/* SPDX-License-Identifier: MIT */
/*
 * A client that tells us its destination with SOCKS 5 (spec/layers 4.2). What it sends ahead is taken as far as it is
 * complete; what follows its request is the next layer's.
 */
#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "core/env.h"
#include "crypto/proxy_auth.h"
#include "layers/mode.h"
#include "layers/next.h"
#include "wire/socks5.h"

struct mode_socks5 {
	struct layer base;
	struct conn *client, *server;
	enum { SOCKS5_GREETING, SOCKS5_LOGIN, SOCKS5_ASKING, SOCKS5_REQUEST, SOCKS5_OPENING, SOCKS5_RELAYING,
	       SOCKS5_OVER } state;
	struct chain in;
	struct layer *child;
	struct socks5_login login;       /* while a hook has it */
	char user[256], password[256];
};

static void over(struct mode_socks5 *m)
{
	m->state = SOCKS5_OVER;
	chain_clear(&m->in);
	layer_close(&m->base, m->client);
}

static void reply(struct mode_socks5 *m, uint8_t code)
{
	uint8_t text[SOCKS5_REPLY_SIZE];

	socks5_write_reply(code, text);
	layer_send_bytes(&m->base, m->client, text, sizeof(text));
}

static void refuse(struct mode_socks5 *m, uint8_t code, const char *why)
{
	reply(m, code);
	layer_log(&m->base, LOG_INFO, "%s", why);
	over(m);
}

static bool is_upper(char c)
{
	return c >= 'A' && c <= 'Z';
}

static int greeting(struct mode_socks5 *m, struct str in)
{
	bool login = m->base.env->options->proxyauth != NULL, offered = false, http;
	uint8_t answer[2] = { SOCKS5_VERSION, login ? SOCKS5_PASSWORD : SOCKS5_NO_AUTH };
	int len = socks5_read_greeting(in, login ? SOCKS5_PASSWORD : SOCKS5_NO_AUTH, &offered);

	if (len == -EPROTO) {
		http = in.len >= 3 && is_upper(in.ptr[0]) && is_upper(in.ptr[1]) && is_upper(in.ptr[2]);
		layer_log(&m->base, LOG_INFO, "%sInvalid SOCKS version. Expected 0x05, got 0x%x",
			  http ? "Probably not a SOCKS request but a regular HTTP request. " : "",
			  (uint8_t)in.ptr[0]);
		over(m);
	} else if (len > 0 && !offered) {
		refuse(m, SOCKS5_NO_METHOD,
		       login ? "Client does not support SOCKS5 with user/password authentication." :
			       "Client does not support SOCKS5 with no authentication.");
	} else if (len > 0) {
		layer_send_bytes(&m->base, m->client, answer, sizeof(answer));
		m->state = login ? SOCKS5_LOGIN : SOCKS5_REQUEST;
	}
	return len;
}

static void logged_in(struct mode_socks5 *m)
{
	OPENSSL_cleanse(m->password, sizeof(m->password));
	if (!m->login.valid) {
		layer_send_bytes(&m->base, m->client, "\1\1", 2);
		layer_log(&m->base, LOG_INFO, "authentication failed");
		over(m);
		return;
	}
	m->client->authenticated = true;
	layer_send_bytes(&m->base, m->client, "\1\0", 2);
	m->state = SOCKS5_REQUEST;
}

static int login(struct mode_socks5 *m, struct str in)
{
	const struct proxy_auth *auth = m->base.env->options->proxyauth;
	struct socks5_credentials c;
	int len = socks5_read_credentials(in, &c);

	if (len <= 0)
		return len;
	snprintf(m->user, sizeof(m->user), "%.*s", (int)c.user.len, c.user.ptr);
	snprintf(m->password, sizeof(m->password), "%.*s", (int)c.password.len, c.password.ptr);
	m->login = (struct socks5_login){ m->user, m->password, !auth || proxy_auth_check(auth, c.user, c.password) };
	m->state = SOCKS5_ASKING;
	if (layer_hook(&m->base, HOOK_SOCKS5_AUTH, &m->login))
		logged_in(m);
	return len;
}

/* What was sent behind the request stays in m->in until the destination is there. */
static void connected(struct mode_socks5 *m)
{
	struct chain rest = chain_take(&m->in);

	m->state = SOCKS5_RELAYING;
	layer_event(m->child, &(struct event){ .type = EV_START });
	reply(m, SOCKS5_SUCCEEDED);
	if (rest.len)
		layer_event(m->child, &(struct event){ .type = EV_DATA, .conn = m->client, .data = &rest });
	chain_clear(&rest);
}

static int set_destination(struct mode_socks5 *m, const struct socks5_request *r)
{
	m->server = m->base.sink->conn_new(m->base.sink);
	if (!m->server)
		return -ENOMEM;
	if (conn_record_text(m->server->record, &m->server->record->address.host, str_of(r->host)) < 0)
		return -ENOMEM;
	m->server->record->address.port = r->port;
	m->server->origin = r->ip;
	m->child = next_new(&m->base, NEXT_TUNNEL, m->client, m->server);
	return m->child ? 0 : -ENOMEM;
}

static int request(struct mode_socks5 *m, struct str in)
{
	struct socks5_request r;
	int len = socks5_read_request(in, &r);

	if (len == -EOPNOTSUPP) {
		refuse(m, SOCKS5_BAD_COMMAND, "Unsupported SOCKS5 request: only CONNECT is.");
	} else if (len == -EAFNOSUPPORT) {
		refuse(m, SOCKS5_BAD_ADDRESS_TYPE, "Unknown address type in a SOCKS5 request.");
	} else if (len > 0 && set_destination(m, &r) < 0) {
		m->state = SOCKS5_OVER;
		layer_reset(&m->base, m->client);
	} else if (len > 0) {
		m->state = SOCKS5_OPENING;
	}
	return len;
}

static void advance(struct mode_socks5 *m)
{
	while (m->state < SOCKS5_OPENING && m->state != SOCKS5_ASKING && m->in.len) {
		char bytes[SOCKS5_MESSAGE_MAX];
		struct str in = { bytes, chain_peek(&m->in, 0, bytes, sizeof(bytes)) };
		int len = 0;

		if (m->state == SOCKS5_GREETING)
			len = greeting(m, in);
		else if (m->state == SOCKS5_LOGIN)
			len = login(m, in);
		else
			len = request(m, in);
		if (len <= 0)
			return;
		if (m->state != SOCKS5_OVER)
			chain_drop(&m->in, (size_t)len);
	}
	if (m->state != SOCKS5_OPENING)
		return;
	if (m->base.env->options->connection_eager)
		layer_open(&m->base, m->server);
	else
		connected(m);
}

static void opened(struct mode_socks5 *m, const struct event *ev)
{
	if (!ev->error) {
		connected(m);
		return;
	}
	layer_log(&m->base, LOG_INFO, "error establishing server connection: %s", ev->error);
	mode_report_refused(&m->base, m->client, m->server, ev->error);
	reply(m, SOCKS5_UNREACHABLE);
	over(m);
}

static void take(struct mode_socks5 *m, const struct event *ev)
{
	if (m->state == SOCKS5_OVER || ev->conn != m->client)
		return;
	if (chain_join(&m->in, ev->data) < 0) {
		m->state = SOCKS5_OVER;
		layer_reset(&m->base, m->client);
		return;
	}
	advance(m);
}

static void closed(struct mode_socks5 *m)
{
	if (m->state == SOCKS5_OVER)
		return;
	if (m->in.len)
		layer_log(&m->base, LOG_INFO, "Client closed connection before completing SOCKS5 handshake.");
	over(m);
}

static void socks5_handle(struct layer *l, const struct event *ev)
{
	struct mode_socks5 *m = container_of(l, struct mode_socks5, base);

	if (m->state == SOCKS5_RELAYING) {
		layer_event(m->child, ev);
		return;
	}
	switch (ev->type) {
	case EV_DATA:
		take(m, ev);
		return;
	case EV_OPENED:
		opened(m, ev);
		return;
	case EV_CLOSED:
		closed(m);
		return;
	case EV_DRAIN:
		if (m->state == SOCKS5_GREETING && m->in.len == 0)
			over(m);
		return;
	case EV_HOOK_DONE:
		if (m->state != SOCKS5_ASKING)
			return;
		logged_in(m);
		advance(m);
		return;
	case EV_START:
	case EV_ORDER:
	case EV_WAKEUP:
	case EV_WRITABLE:
		return;
	}
	abort();
}

static void socks5_free(struct layer *l)
{
	struct mode_socks5 *m = container_of(l, struct mode_socks5, base);

	layer_free(m->child);
	chain_clear(&m->in);
	layer_fini(l);
	mem_free(m);
}

static const struct layer_ops socks5_ops = { .name = "socks5", .handle = socks5_handle, .free = socks5_free };

struct layer *mode_socks5_new(struct sink *sink, struct env *env, struct conn *client)
{
	struct mode_socks5 *m = mem_zalloc(sizeof(*m));

	if (!m)
		return NULL;
	layer_init(&m->base, &socks5_ops, NULL, sink, env);
	m->client = client;
	return &m->base;
}
