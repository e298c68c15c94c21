/* SPDX-License-Identifier: MIT */
/* Changing a flow. New bytes live in the arena; chains that they replace are moved aside whole, references and all. */
#include "flow/flow_edit.h"

#include <errno.h>
#include <stdio.h>

#include "wire/content_coding.h"
#include "wire/http1.h"

static int set_text(struct flow *f, struct str *field, struct str value)
{
	struct str copy = arena_copy(&f->arena, value);

	if (arena_copy_failed(copy))
		return -ENOMEM;
	*field = copy;
	return 0;
}

int flow_set_header(struct flow *f, struct http_message *m, struct str name, struct str value)
{
	struct str copy = { 0 };

	if (!value.ptr) {
		headers_remove(&m->headers, name);
		return 0;
	}
	if (set_text(f, &copy, value) < 0 || set_text(f, &name, name) < 0)
		return -ENOMEM;
	return headers_set(&m->headers, &f->arena, name, copy);
}

/* "host" or "host:port" as a Host header has it. */
static int host_text(struct flow *f, struct str host, uint16_t port, struct str *out)
{
	const struct http_request *r = &f->http.request;
	bool usual = (port == 80 && str_eq(r->scheme, STR("http"))) || (port == 443 && str_eq(r->scheme, STR("https")));
	bool brackets = host.len && memchr(host.ptr, ':', host.len);
	char *text = arena_alloc(&f->arena, host.len + 16);
	int len;

	if (!text)
		return -ENOMEM;
	len = snprintf(text, host.len + 16, "%s%.*s%s", brackets ? "[" : "", (int)host.len, host.ptr ? host.ptr : "",
		       brackets ? "]" : "");
	if (!usual)
		len += snprintf(text + len, host.len + 16 - (size_t)len, ":%u", port);
	*out = (struct str){ text, (size_t)len };
	return 0;
}

int flow_set_target(struct flow *f, struct str host, uint16_t port)
{
	struct http_request *r = &f->http.request;
	struct str text;
	int ret = host_text(f, host, port, &text);

	if (ret == 0)
		ret = set_text(f, &r->host, host);
	if (ret < 0)
		return ret;
	r->port = port;
	if (r->authority.len)
		r->authority = text;
	return headers_find(&r->base.headers, STR("host")).ptr ? flow_set_header(f, &r->base, STR("Host"), text) : 0;
}

int flow_set_scheme(struct flow *f, struct str scheme)
{
	return set_text(f, &f->http.request.scheme, scheme);
}

int flow_set_method(struct flow *f, struct str method)
{
	return set_text(f, &f->http.request.method, method);
}

int flow_set_path(struct flow *f, struct str path)
{
	return set_text(f, &f->http.request.path, path);
}

int flow_set_status(struct flow *f, uint16_t status, struct str reason)
{
	struct http_response *r = &f->http.response;
	int ret = set_text(f, &r->reason, reason.ptr ? reason : str_of(http1_reason(status)));

	if (ret == 0)
		r->status = status;
	return ret;
}

/* Moves what *data holds aside. */
static int discard(struct flow *f, struct chain *data, struct rest *rest)
{
	struct flow_discarded *old;

	if (!data->count && !data->heap && !(rest && rest_used(rest)))
		return 0;
	old = arena_zalloc(&f->arena, sizeof(*old));
	if (!old)
		return -ENOMEM;
	old->data = chain_take(data);
	if (rest)
		old->rest = rest_take(rest);
	old->next = f->discarded;
	f->discarded = old;
	return 0;
}

/* Puts bytes in the place of what *data holds. */
static int replace(struct flow *f, struct chain *data, struct rest *rest, const void *bytes, size_t len)
{
	struct str copy = arena_copy(&f->arena, (struct str){ len ? bytes : "", len });

	if (len > UINT32_MAX || arena_copy_failed(copy) || discard(f, data, rest) < 0)
		return -ENOMEM;
	return chain_append(data, (struct slice){ NULL, (const uint8_t *)copy.ptr, (uint32_t)len });
}

static int set_length(struct flow *f, struct http_message *m, size_t len)
{
	char text[24];

	if (headers_find(&m->headers, STR("transfer-encoding")).ptr)
		return 0;
	return flow_set_header(f, m, STR("content-length"),
			       (struct str){ text, (size_t)snprintf(text, sizeof(text), "%zu", len) });
}

static void body_changed(struct body *b, uint64_t len)
{
	b->total = len;
	b->spare = 0;
	b->missing = false;
	b->changed = true;
}

int flow_set_body(struct flow *f, struct http_message *m, const void *bytes, size_t len)
{
	int ret = set_length(f, m, len);

	if (ret == 0)
		ret = replace(f, &m->body.data, &m->body.rest, bytes, len);
	if (ret == 0)
		body_changed(&m->body, len);
	return ret;
}

static int set_coded(struct flow *f, struct http_message *m, enum content_coding coding, struct str content)
{
	struct chain coded = { 0 };
	int ret = content_encode(&coded, &f->arena, coding, content);

	if (ret == 0)
		ret = set_length(f, m, coded.len);
	if (ret == 0)
		ret = discard(f, &m->body.data, &m->body.rest);
	if (ret < 0) {
		chain_clear(&coded);
		return ret;
	}
	m->body.data = coded;
	body_changed(&m->body, coded.len);
	return 0;
}

int flow_set_content(struct flow *f, struct http_message *m, const void *bytes, size_t len)
{
	enum content_coding coding = content_coding_of(&m->headers);
	int ret;

	if (coding != CODING_IDENTITY && coding != CODING_UNKNOWN)
		return set_coded(f, m, coding, (struct str){ bytes, len });
	ret = flow_set_body(f, m, bytes, len);
	if (ret == 0 && coding == CODING_UNKNOWN)
		headers_remove(&m->headers, STR("content-encoding"));
	return ret;
}

int flow_respond(struct flow *f, uint16_t status, const struct header *headers, uint32_t count, const void *body,
		 size_t len)
{
	struct http_message *m = &f->http.response.base;
	struct headers before = m->headers;
	int ret;

	m->headers = (struct headers){ 0 };
	ret = flow_set_status(f, status, (struct str){ 0 });
	for (uint32_t i = 0; i < count && ret == 0; i++)
		ret = flow_header_add(f, &m->headers, headers[i].name, headers[i].value);
	if (ret == 0)
		ret = flow_set_content(f, m, body, len);
	if (ret < 0) {
		m->headers = before;
		return ret;
	}
	m->version = STR("HTTP/1.1");
	m->has_trailers = false;
	f->http.has_response = f->http.replaced = true;
	return 0;
}

int flow_set_message(struct flow *f, const void *bytes, size_t len)
{
	struct websocket_message *w = f->type == FLOW_HTTP && f->http.messages ? f->http.messages->current : NULL;
	bool log = (f->type == FLOW_TCP || f->type == FLOW_UDP) && f->tcp.count;
	struct tcp_message *t = log ? &f->tcp.messages[f->tcp.count - 1] : NULL;
	int ret;

	if (!w && !t)
		return -EINVAL;
	ret = replace(f, w ? &w->data : &t->data, NULL, bytes, len);
	if (ret < 0)
		return ret;
	if (w) {
		w->total = len;
		w->changed = true;
	} else {
		t->changed = true;
	}
	return 0;
}

int flow_drop_message(struct flow *f)
{
	if (f->type != FLOW_HTTP)
		return flow_set_message(f, "", 0);
	if (!f->http.messages || !f->http.messages->current)
		return -EINVAL;
	f->http.messages->current->dropped = true;
	return 0;
}

int flow_kill(struct flow *f, struct stamp at)
{
	if (!f->live || f->killed)
		return -EPERM;
	f->error = STR("Connection killed.");
	f->error_at = at;
	f->killed = true;
	f->intercepted = f->live = false;
	return 0;
}

void flow_intercept(struct flow *f)
{
	f->intercepted = f->live;
}

void flow_resume(struct flow *f)
{
	f->intercepted = false;
}
