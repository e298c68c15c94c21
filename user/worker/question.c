/* SPDX-License-Identifier: MIT */
/* What each hook's argument is, in one place: flows are lent whole, of connections the master gets a picture. */
#include "worker/question.h"

#include "base/mem.h"
#include "layers/mode.h"
#include "layers/tls.h"

enum hook_arg { ARG_FLOW, ARG_CLIENT, ARG_SERVER, ARG_HELLO, ARG_TLS, ARG_LOGIN };

static enum hook_arg arg_of(enum hook_id hook)
{
	if (hook_has_flow(hook))
		return ARG_FLOW;
	if (hook == HOOK_CLIENT_CONNECTED || hook == HOOK_CLIENT_DISCONNECTED || hook == HOOK_NEXT_LAYER)
		return ARG_CLIENT;
	if (hook == HOOK_TLS_CLIENTHELLO)
		return ARG_HELLO;
	if (hook == HOOK_SOCKS5_AUTH)
		return ARG_LOGIN;
	return hook >= HOOK_TLS_START_CLIENT ? ARG_TLS : ARG_SERVER;
}

static void picture(struct hook_question *q, const struct conn *client, const struct conn *server)
{
	q->event.client_state = client->state;
	q->event.client = q->client = conn_record_get(client->record);
	if (!server)
		return;
	q->event.server_state = server->state;
	q->event.server = q->server = conn_record_get(server->record);
}

static int fill(struct hook_question *q, struct driver *d, void *arg)
{
	const struct tls_hello_hook *hello = arg;
	const struct tls_hook *tls = arg;
	const struct socks5_login *login = arg;
	int ret = 0;

	switch (arg_of(q->event.hook)) {
	case ARG_FLOW:
		q->event.flow = arg;
		return 0;
	case ARG_CLIENT:
		picture(q, arg, NULL);
		return 0;
	case ARG_SERVER:
		picture(q, d->client, arg);
		return 0;
	case ARG_HELLO:
		picture(q, hello->client, hello->server);
		q->event.ignore = hello->ignore;
		q->event.server_first = hello->server_first;
		return 0;
	case ARG_TLS:
		picture(q, tls->client, tls->server);
		q->event.about_server = tls->conn != tls->client;
		return 0;
	case ARG_LOGIN:
		picture(q, d->client, NULL);
		q->event.valid = login->valid;
		ret = hook_set_text(&q->event.user, login->user);
		return ret < 0 ? ret : hook_set_text(&q->event.password, login->password);
	}
	abort();
}

struct hook_question *question_new(struct driver *d, enum hook_id hook, void *arg, uint64_t token)
{
	struct hook_question *q = mem_zalloc(sizeof(*q));

	if (!q)
		return NULL;
	q->base.kind = REPORT_HOOK;
	q->base.hook = q->event.hook = hook;
	q->driver = d;
	q->token = token;
	q->arg = arg;
	if (fill(q, d, arg) == 0)
		return q;
	report_free(&q->base);
	return NULL;
}

static void refuse(struct conn *c, const struct hook_event *ev)
{
	if (!ev->error)
		return;
	c->refused = true;
	if (conn_record_edit(&c->record) == 0)
		(void)!conn_record_text(c->record, &c->record->error, str_of(ev->error));
}

/* Without memory for it nobody is connected to: going where a hook did not want to go would be worse. */
static void redirect(struct conn *c, const struct hook_event *ev)
{
	struct str host = str_of(ev->host);

	if (!ev->host)
		return;
	if (conn_record_edit(&c->record) < 0 || conn_record_text(c->record, &c->record->address.host, host) < 0) {
		c->refused = true;
		return;
	}
	c->record->address.port = ev->port;
	c->promised = false;
	c->origin = (struct addr){ 0 };
	if (addr_parse(&c->origin, host))
		c->origin.port = ev->port;
	else
		c->origin = (struct addr){ 0 };
}

static void carry_out(struct hook_question *q)
{
	const struct hook_event *ev = &q->event;
	struct tls_hello_hook *hello = q->arg;
	struct socks5_login *login = q->arg;

	if (ev->hook == HOOK_CLIENT_CONNECTED)
		refuse(q->arg, ev);
	if (ev->hook == HOOK_SERVER_CONNECT) {
		refuse(q->arg, ev);
		redirect(q->arg, ev);
	}
	if (ev->hook == HOOK_TLS_CLIENTHELLO) {
		hello->ignore = ev->ignore;
		hello->server_first = ev->server_first;
	}
	if (ev->hook == HOOK_SOCKS5_AUTH)
		login->valid = ev->valid;
}

void question_answered(struct hook_question *q)
{
	struct driver *d = q->driver;
	uint64_t token = q->token;

	/* Before the pictures go: what they show may be written to in place only when nobody else holds it. */
	if (driver_waits(d, token))
		carry_out(q);
	report_free(&q->base);
	driver_answer(d, token);
}
