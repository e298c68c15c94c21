/* SPDX-License-Identifier: MIT */
/* Two fields tell where a server is: what the client says in Host, and what the server says in Alt-Svc. */
#include "layers/http_reverse.h"

#include <errno.h>

#define PORT_DIGITS_MAX 5

int http_reverse_host(struct http *h, struct flow *f)
{
	const struct conn_record *server = h->server->record;
	struct http_request *r = &f->http.request;
	bool bare = server->address.port == (server->tls ? 443 : 80);
	struct str host = server->address.host, value;
	struct strbuf text = { 0 };

	if (h->base.env->options->keep_host_header)
		return 0;
	if (memchr(host.ptr, ':', host.len))
		strbuf_addf(&text, "[%.*s]", (int)host.len, host.ptr);
	else
		strbuf_add_str(&text, host);
	if (!bare)
		strbuf_addf(&text, ":%u", server->address.port);
	value = text.failed ? (struct str){ 0 } : arena_copy(&f->arena, (struct str){ text.ptr, text.len });
	strbuf_fini(&text);
	if (!value.ptr)
		return -ENOMEM;
	if (!str_starts(r->base.version, STR("HTTP/1")))
		r->authority = value;
	if (!str_starts(r->base.version, STR("HTTP/1")) && !headers_find(&r->base.headers, STR("host")).ptr)
		return 0;
	return headers_set(&r->base.headers, &f->arena, STR("Host"), value);
}

static bool is_host_char(char c)
{
	return (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z') || c == '.' || c == '-';
}

/* Length of the [host]:port at the start of s; 0: there is none. */
static size_t service_len(struct str s)
{
	size_t n = 0, digits = 0;

	while (n < s.len && is_host_char(s.ptr[n]))
		n++;
	if (n == s.len || s.ptr[n] != ':')
		return 0;
	n++;
	while (digits < PORT_DIGITS_MAX && n + digits < s.len && s.ptr[n + digits] >= '0' && s.ptr[n + digits] <= '9')
		digits++;
	return digits ? n + digits : 0;
}

/* Every "host:port" becomes ":port" with the port that the client reached us at. */
static void rewrite(struct strbuf *out, struct str value, uint16_t port)
{
	while (value.len) {
		size_t n = service_len(value), plain = 1;

		if (n) {
			strbuf_addf(out, ":%u", port);
		} else {
			/* A service begins where a name does, not inside of one. */
			while (plain < value.len && is_host_char(value.ptr[plain - 1]) &&
			       is_host_char(value.ptr[plain]))
				plain++;
			strbuf_add(out, value.ptr, plain);
			n = plain;
		}
		value = (struct str){ value.ptr + n, value.len - n };
	}
}

int http_reverse_alt_svc(struct http *h, struct flow *f)
{
	struct headers *fields = &f->http.response.base.headers;
	struct strbuf text = { 0 };
	struct str all;

	if (h->base.env->options->keep_alt_svc_header || !headers_find(fields, STR("alt-svc")).ptr)
		return 0;
	for (uint32_t i = 0; i < fields->count; i++) {
		if (!str_eq_nocase(fields->at[i].name, STR("alt-svc")))
			continue;
		if (text.len)
			strbuf_add_str(&text, STR(", "));
		rewrite(&text, fields->at[i].value, h->client->record->sockname.port);
	}
	if (text.failed) {
		strbuf_fini(&text);
		return -ENOMEM;
	}
	all = arena_copy(&f->arena, (struct str){ text.ptr ? text.ptr : "", text.len });
	strbuf_fini(&text);
	return arena_copy_failed(all) ? -ENOMEM : headers_set(fields, &f->arena, STR("alt-svc"), all);
}
