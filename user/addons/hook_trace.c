/* SPDX-License-Identifier: MIT */
/*
 * The fields are those of the recorded conversations in tests/vectors/traces. Ids are small numbers in order of first
 * appearance. It is asked, not told, so that a line shows the moment of its hook; it asks for no whole bodies.
 */
#include "addons/hook_trace.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"
#include "flow/flow.h"

#define SHOWN_MAX 2048
#define BODY_SHOWN_MAX ((size_t)256 << 20)       /* of longer ones the part in memory */

struct seen {
	UT_hash_handle hh;
	uint8_t id[16];
	int number;
};

struct hook_trace {
	struct addon base;
	char *path;                      /* NULL: off */
	int fd;
	uint64_t lines;
	struct seen *flows, *clients, *servers;
};

/* --- values --------------------------------------------------------------------------------------------------- */

static json_t *hex(const uint8_t *bytes, size_t len)
{
	char *text = mem_alloc(len * 2 + 1);
	json_t *value = NULL;

	if (!text)
		return NULL;
	for (size_t i = 0; i < len; i++)
		snprintf(text + 2 * i, 3, "%02x", bytes[i]);
	value = json_stringn(text, len * 2);
	mem_free(text);
	return value;
}

static json_t *digest(const uint8_t *bytes, size_t len)
{
	uint8_t sum[EVP_MAX_MD_SIZE];
	unsigned int size = 0;

	if (EVP_Digest(bytes, len, sum, &size, EVP_sha256(), NULL) != 1)
		return NULL;
	return json_pack("{s:I, s:o}", "len", (json_int_t)len, "sha256", hex(sum, size));
}

/* Plain text as it is, other bytes as hex, many of them as a digest. */
static json_t *shown(struct str s)
{
	bool plain = true;

	if (!s.ptr)
		return json_null();
	if (s.len > SHOWN_MAX)
		return digest((const uint8_t *)s.ptr, s.len);
	for (size_t i = 0; i < s.len; i++) {
		uint8_t c = (uint8_t)s.ptr[i];

		plain &= (c >= 32 && c < 127) || c == '\t' || c == '\n' || c == '\r';
	}
	if (plain)
		return json_stringn(s.ptr, s.len);
	return json_pack("{s:o}", "hex", hex((const uint8_t *)s.ptr, s.len));
}

static json_t *shown_chain(const struct chain *c)
{
	struct arena scratch = { 0 };
	const uint8_t *flat = chain_flat(c, c->len, &scratch);
	json_t *value = shown((struct str){ c->len ? (const char *)flat : "", c->len });

	arena_fini(&scratch);
	return value;
}

/* The whole of it, also what is not in memory. */
static json_t *shown_body(const struct body *b)
{
	char *bytes;
	size_t len;
	json_t *value;

	if (body_load(b, BODY_SHOWN_MAX, &bytes, &len) < 0)
		return shown_chain(&b->data);
	value = shown((struct str){ bytes, len });
	mem_free(bytes);
	return value;
}

static void set_if(json_t *o, const char *key, struct str value)
{
	if (value.len)
		json_object_set_new(o, key, shown(value));
}

static json_t *endpoint(const struct endpoint *e)
{
	char text[300];

	if (!e->host.ptr)
		return json_null();
	snprintf(text, sizeof(text), "%.*s:%u", (int)MIN(e->host.len, (size_t)280), e->host.ptr, e->port);
	return shown(str_of(text));
}

static json_t *list_of(const struct conn_list *l)
{
	json_t *a = json_array();

	for (uint32_t i = 0; i < l->count; i++)
		json_array_append_new(a, shown(l->at[i]));
	return a;
}

static json_t *number(struct seen **table, const uint8_t id[16])
{
	struct seen *s;

	HASH_FIND(hh, *table, id, sizeof(s->id), s);
	if (!s) {
		s = mem_zalloc(sizeof(*s));
		if (!s)
			return json_null();
		memcpy(s->id, id, sizeof(s->id));
		s->number = (int)HASH_COUNT(*table) + 1;
		HASH_ADD(hh, *table, id, sizeof(s->id), s);
	}
	return json_integer(s->number);
}

static void forget(struct seen **table)
{
	struct seen *s, *next;

	HASH_ITER(hh, *table, s, next) {
		HASH_DEL(*table, s);
		mem_free(s);
	}
}

/* --- connections ---------------------------------------------------------------------------------------------- */

static json_t *common_names(const struct conn_list *certs)
{
	json_t *a = json_array();

	for (uint32_t i = 0; i < certs->count; i++) {
		const unsigned char *der = (const unsigned char *)certs->at[i].ptr;
		X509 *cert = d2i_X509(NULL, &der, (long)certs->at[i].len);
		char name[256] = "";
		int len = cert ? X509_NAME_get_text_by_NID(X509_get_subject_name(cert), NID_commonName, name,
							   sizeof(name)) : -1;

		json_array_append_new(a, len < 0 ? json_null() : shown(str_of(name)));
		X509_free(cert);
	}
	return a;
}

static void add_conn(json_t *o, const struct conn_record *r, uint8_t state)
{
	static const char *const states[] = { "CLOSED", "CAN_READ", "CAN_WRITE", "OPEN" };

	if (!r->is_client)
		json_object_set_new(o, "address", endpoint(&r->address));
	if (!r->is_client && r->via_scheme.ptr) {
		struct strbuf via = { 0 };

		strbuf_addf(&via, "%.*s://%.*s:%u", (int)r->via_scheme.len, r->via_scheme.ptr, (int)r->via.host.len,
			    r->via.host.ptr, r->via.port);
		set_if(o, "via", (struct str){ via.ptr, via.len });
		strbuf_fini(&via);
	}
	json_object_set_new(o, "state", json_string(states[state & 3]));
	set_if(o, "sni", r->sni);
	set_if(o, "error", r->error);
	set_if(o, "tls_version", r->tls_version);
	if (r->tls)
		json_object_set_new(o, "tls", json_true());
	if (r->alpn.ptr)
		json_object_set_new(o, "alpn", shown(r->alpn));
	if (r->alpn_offers.count)
		json_object_set_new(o, "alpn_offers", list_of(&r->alpn_offers));
	if (r->certificates.count)
		json_object_set_new(o, "cert_cn", common_names(&r->certificates));
}

static void describe_conn(struct hook_trace *t, json_t *o, json_t *ids, const struct hook_event *ev)
{
	bool tls = ev->hook >= HOOK_TLS_START_CLIENT && ev->hook <= HOOK_TLS_FAILED_SERVER;
	bool client = ev->hook == HOOK_CLIENT_CONNECTED || ev->hook == HOOK_CLIENT_DISCONNECTED ||
		      ev->hook == HOOK_NEXT_LAYER || (tls && !ev->about_server);

	json_object_set_new(ids, "client", number(&t->clients, ev->client->id));
	if (ev->hook == HOOK_TLS_CLIENTHELLO) {
		json_object_set_new(o, "sni", shown(ev->client->sni));
		json_object_set_new(o, "alpn", list_of(&ev->client->alpn_offers));
		return;
	}
	if (ev->hook == HOOK_SOCKS5_AUTH) {
		json_object_set_new(o, "username", shown(str_of(ev->user)));
		json_object_set_new(o, "password", shown(str_of(ev->password)));
		return;
	}
	if (tls)
		json_object_set_new(o, "side", json_string(client ? "client" : "server"));
	if (client) {
		add_conn(o, ev->client, ev->client_state);
	} else if (ev->server) {
		json_object_set_new(ids, "server", number(&t->servers, ev->server->id));
		add_conn(o, ev->server, ev->server_state);
	}
	if (ev->hook == HOOK_CLIENT_CONNECTED)
		json_object_set_new(o, "mode", shown(ev->client->proxy_mode));
}

/* --- flows ---------------------------------------------------------------------------------------------------- */

static json_t *fields(const struct headers *h)
{
	json_t *a = json_array();

	for (uint32_t i = 0; i < h->count; i++)
		json_array_append_new(a, json_pack("[o, o]", shown(h->at[i].name), shown(h->at[i].value)));
	return a;
}

static void add_message(json_t *o, const struct http_message *m, bool head_only)
{
	bool none = m->body.missing || (head_only && !m->body.changed && m->body.total == 0);

	json_object_set_new(o, "version", shown(m->version));
	json_object_set_new(o, "headers", fields(&m->headers));
	json_object_set_new(o, "content", none ? json_null() : shown_body(&m->body));
	json_object_set_new(o, "trailers", m->has_trailers ? fields(&m->trailers) : json_null());
}

static json_t *request(const struct http_request *r, bool head_only)
{
	struct endpoint dest = { r->host, r->port };
	json_t *o = json_pack("{s:o, s:o, s:o, s:o, s:o}", "method", shown(r->method), "scheme", shown(r->scheme),
			      "dest", endpoint(&dest), "authority", shown(r->authority), "path", shown(r->path));

	add_message(o, &r->base, head_only);
	return o;
}

static json_t *response(const struct http_response *r, bool head_only)
{
	json_t *o = json_pack("{s:i, s:o}", "status", r->status, "reason", shown(r->reason));

	add_message(o, &r->base, head_only);
	return o;
}

static void describe_websocket(json_t *o, const struct websocket_flow *w, enum hook_id hook)
{
	const struct websocket_message *m = w->current;

	if (hook == HOOK_WEBSOCKET_MESSAGE && m)
		json_object_set_new(o, "message", json_pack("{s:s, s:b, s:o, s:b}", "type", m->text ? "TEXT" : "BINARY",
							    "from_client", m->from_client, "content",
							    shown_chain(&m->data), "injected", m->injected));
	if (hook == HOOK_WEBSOCKET_END)
		json_object_set_new(o, "close", json_pack("{s:b, s:i, s:o}", "by_client", w->closed_by_client, "code",
							  w->close_code, "reason", shown(w->close_reason)));
}

static void describe_http(json_t *o, const struct http_flow *h, enum hook_id hook)
{
	const uint64_t requests = hook_bit(HOOK_REQUESTHEADERS) | hook_bit(HOOK_REQUEST) | hook_bit(HOOK_HTTP_CONNECT) |
				  hook_bit(HOOK_HTTP_CONNECT_UPSTREAM) | hook_bit(HOOK_ERROR);
	const uint64_t responses = hook_bit(HOOK_RESPONSEHEADERS) | hook_bit(HOOK_RESPONSE) |
				   hook_bit(HOOK_HTTP_CONNECTED) | hook_bit(HOOK_HTTP_CONNECT_ERROR) |
				   hook_bit(HOOK_ERROR);

	if (requests & hook_bit(hook))
		json_object_set_new(o, "request", request(&h->request, hook == HOOK_REQUESTHEADERS));
	if (h->has_response && (responses & hook_bit(hook)))
		json_object_set_new(o, "response", response(&h->response, hook == HOOK_RESPONSEHEADERS));
	if (!h->messages)
		return;
	if (hook >= HOOK_WEBSOCKET_START)
		describe_websocket(o, h->messages, hook);
	else
		json_object_set_new(o, "websocket", json_true());
}

static void describe_flow(struct hook_trace *t, json_t *o, json_t *ids, const struct hook_event *ev)
{
	const struct flow *f = ev->flow;

	json_object_set_new(ids, "flow", number(&t->flows, f->id));
	json_object_set_new(ids, "client", f->client ? number(&t->clients, f->client->id) : json_null());
	json_object_set_new(ids, "server", f->server ? number(&t->servers, f->server->id) : json_null());
	set_if(o, "error", f->error);
	json_object_set_new(o, "live", json_boolean(f->live));
	set_if(o, "is_replay", f->is_replay);
	if (f->type == FLOW_HTTP) {
		describe_http(o, &f->http, ev->hook);
	} else if ((ev->hook == HOOK_TCP_MESSAGE || ev->hook == HOOK_UDP_MESSAGE) && f->tcp.count) {
		const struct tcp_message *m = &f->tcp.messages[f->tcp.count - 1];

		json_object_set_new(o, "message", json_pack("{s:b, s:o}", "from_client", m->from_client, "content",
							    shown_chain(&m->data)));
	}
}

/* --- the addon ------------------------------------------------------------------------------------------------ */

static int write_line(struct hook_trace *t, const json_t *o, struct err *e)
{
	char *text = json_dumps(o, JSON_ENSURE_ASCII);
	struct strbuf line = { 0 };
	int ret = 0;

	if (text)
		strbuf_addf(&line, "%s\n", text);
	if (!text || line.failed)
		ret = err_set(e, -ENOMEM, "out of memory while tracing hooks");
	else if (write(t->fd, line.ptr, line.len) != (ssize_t)line.len)
		ret = err_set(e, -EIO, "Cannot write to the hook trace %s: %m", t->path);
	free(text);
	strbuf_fini(&line);
	return ret;
}

static int trace_hook(struct addon *a, struct hook_event *ev, struct err *e)
{
	struct hook_trace *t = container_of(a, struct hook_trace, base);
	json_t *ids = json_object();
	json_t *o = json_pack("{s:I, s:s, s:O}", "n", (json_int_t)++t->lines, "hook", hook_name(ev->hook), "ids", ids);
	int ret;

	if (ev->flow)
		describe_flow(t, o, ids, ev);
	else
		describe_conn(t, o, ids, ev);
	ret = write_line(t, o, e);
	json_decref(ids);
	json_decref(o);
	return ret;
}

static int trace_configure(struct addon *a, const struct settings *s, struct err *e)
{
	struct hook_trace *t = container_of(a, struct hook_trace, base);
	const char *path = settings_text(s, "hook_trace");

	if (!path || !path[0])
		return 0;
	t->path = mem_strndup(path, strlen(path));
	if (!t->path)
		return err_set(e, -ENOMEM, "out of memory");
	t->fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (t->fd < 0)
		return err_set(e, -errno, "Cannot write the hook trace %s: %m", path);
	return 0;
}

static uint64_t trace_asks(struct addon *a, uint64_t *whole __unused)
{
	return container_of(a, struct hook_trace, base)->path ? HOOKS_ALL : 0;
}

static void trace_free(struct addon *a)
{
	struct hook_trace *t = container_of(a, struct hook_trace, base);

	forget(&t->flows);
	forget(&t->clients);
	forget(&t->servers);
	if (t->fd >= 0)
		close(t->fd);
	mem_free(t->path);
	mem_free(t);
}

static const struct addon_ops trace_ops = {
	.name = "hook_trace",
	.configure = trace_configure,
	.asks = trace_asks,
	.hook = trace_hook,
	.free = trace_free,
};

struct addon *hook_trace_new(void)
{
	struct hook_trace *t = mem_zalloc(sizeof(*t));

	if (!t)
		return NULL;
	t->base.ops = &trace_ops;
	t->fd = -1;
	return &t->base;
}
