/* SPDX-License-Identifier: MIT */
/* HTTP/1 messages as bytes: names, spelling and order as they are in the flow. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "layers/http.h"
#include "wire/http1.h"

/* A piece of slab that one head is written into: heads fit one slab in nearly all cases. */
static int put(struct chain *out, struct env *env, struct str s)
{
	return s.len ? chain_write(out, env->slabs, s.ptr, s.len) : 0;
}

static size_t fields_size(const struct headers *h)
{
	size_t size = 2;

	for (uint32_t i = 0; i < h->count; i++)
		size += h->at[i].name.len + h->at[i].value.len + 4;
	return size;
}

static char *copy(char *to, struct str s)
{
	memcpy(to, s.ptr, s.len);
	return to + s.len;
}

static char *copy_fields(char *to, const struct headers *h)
{
	for (uint32_t i = 0; i < h->count; i++) {
		to = copy(to, h->at[i].name);
		to = copy(to, STR(": "));
		to = copy(to, h->at[i].value);
		to = copy(to, STR("\r\n"));
	}
	return copy(to, STR("\r\n"));
}

static int put_fields(struct chain *out, struct env *env, const struct headers *h)
{
	int ret = 0;

	for (uint32_t i = 0; i < h->count && ret == 0; i++) {
		ret = put(out, env, h->at[i].name);
		ret = ret ? ret : put(out, env, STR(": "));
		ret = ret ? ret : put(out, env, h->at[i].value);
		ret = ret ? ret : put(out, env, STR("\r\n"));
	}
	return ret ? ret : put(out, env, STR("\r\n"));
}

/* First line from its parts, then the fields. */
static int put_head(struct chain *out, struct env *env, const struct str *parts, size_t count,
		    const struct headers *h)
{
	size_t size = fields_size(h);
	struct slab *slab;
	char *at;
	int ret = 0;

	for (size_t i = 0; i < count; i++)
		size += parts[i].len;
	if (size > BUF_SLAB_SIZE) {
		for (size_t i = 0; i < count && ret == 0; i++)
			ret = put(out, env, parts[i]);
		return ret ? ret : put_fields(out, env, h);
	}
	slab = slab_new(env->slabs);
	if (!slab)
		return -ENOMEM;
	at = (char *)slab->data;
	for (size_t i = 0; i < count; i++)
		at = copy(at, parts[i]);
	at = copy_fields(at, h);
	slab->used = (uint32_t)(at - (char *)slab->data);
	return chain_append(out, (struct slice){ slab, slab->data, slab->used });
}

int http1_write_request(struct chain *out, struct env *env, const struct http_request *r)
{
	bool absolute = r->authority.len && !str_eq(r->method, STR("CONNECT"));
	/* OPTIONS of all that there is: "*" stands alone, or for no path at all (RFC 9112 3.2.4) */
	bool no_path = !r->path.ptr || (absolute && str_eq(r->path, STR("*")));
	struct str none = STR("");
	struct str parts[] = {
		r->method, STR(" "),
		absolute ? r->scheme : none, absolute ? STR("://") : none,
		r->authority.len ? r->authority : none, no_path ? none : r->path,
		STR(" "), r->base.version, STR("\r\n"),
	};

	return put_head(out, env, parts, ARRAY_SIZE(parts), &r->base.headers);
}

int http1_write_response(struct chain *out, struct env *env, const struct http_response *r)
{
	char status[8];
	struct str parts[] = {
		r->base.version, STR(" "), { status, 3 }, STR(" "), r->reason, STR("\r\n"),
	};

	snprintf(status, sizeof(status), "%03u", r->status % 1000u);
	return put_head(out, env, parts, ARRAY_SIZE(parts), &r->base.headers);
}

int http1_write_data(struct chain *out, struct env *env, struct chain *data, bool chunked)
{
	char size[24];
	int len, ret;

	if (!chunked || data->len == 0)
		return chain_join(out, data);
	len = snprintf(size, sizeof(size), "%zx\r\n", data->len);
	ret = chain_write(out, env->slabs, size, (size_t)len);
	ret = ret ? ret : chain_join(out, data);
	return ret ? ret : chain_append(out, SLICE("\r\n"));
}

int http1_write_end(struct chain *out, struct env *env, const struct http_message *m, bool chunked)
{
	int ret;

	if (!chunked)
		return 0;
	ret = chain_append(out, SLICE("0\r\n"));
	if (ret)
		return ret;
	return m->has_trailers ? put_fields(out, env, &m->trailers) : chain_append(out, SLICE("\r\n"));
}

/* As Python's html.escape(). */
static void escape(struct strbuf *b, const char *text)
{
	for (; *text; text++) {
		switch (*text) {
		case '&':
			strbuf_add_str(b, STR("&amp;"));
			break;
		case '<':
			strbuf_add_str(b, STR("&lt;"));
			break;
		case '>':
			strbuf_add_str(b, STR("&gt;"));
			break;
		case '"':
			strbuf_add_str(b, STR("&quot;"));
			break;
		case '\'':
			strbuf_add_str(b, STR("&#x27;"));
			break;
		default:
			strbuf_add(b, text, 1);
		}
	}
}

void http1_error_html(struct strbuf *out, uint16_t status, const char *message)
{
	const char *reason = http1_reason(status);

	strbuf_addf(out, "<html>\n<head>\n    <title>%u %s</title>\n</head>\n<body>\n    <h1>%u %s</h1>\n    <p>",
		    status, reason, status, reason);
	escape(out, message);
	strbuf_add_str(out, STR("</p>\n</body>\n</html>"));
}

int http1_write_error(struct chain *out, struct env *env, uint16_t status, const char *message)
{
	struct strbuf body = { 0 }, head = { 0 };
	int ret = -ENOMEM;

	http1_error_html(&body, status, message);
	strbuf_addf(&head, "HTTP/1.1 %u %s\r\nServer: mitm-bpf " MITM_VERSION "\r\nConnection: close\r\n"
		    "Content-Type: text/html\r\ncontent-length: %zu\r\n\r\n", status, http1_reason(status), body.len);
	strbuf_add(&head, body.ptr, body.len);
	if (!head.failed && !body.failed)
		ret = chain_write(out, env->slabs, head.ptr, head.len);
	strbuf_fini(&head);
	strbuf_fini(&body);
	return ret;
}
