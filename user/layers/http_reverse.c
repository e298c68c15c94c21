/* SPDX-License-Identifier: MIT */
/* Two fields tell where a server is: what the client says in Host, and what the server says in Alt-Svc. */
#include "layers/http_reverse.h"

#include <errno.h>

#define PORT_DIGITS_MAX 5

/* host[:port], IPv6 in brackets; port 0: none. None when memory is out. For each request: no printf. */
static struct str authority(struct arena *a, struct str host, uint16_t port)
{
	char *text = arena_alloc(a, host.len + sizeof("[]:") + U64_DIGITS_MAX), *at = text;
	bool ipv6 = memchr(host.ptr, ':', host.len);

	if (!text)
		return (struct str){ 0 };
	if (ipv6)
		*at++ = '[';
	memcpy(at, host.ptr, host.len);
	at += host.len;
	if (ipv6)
		*at++ = ']';
	if (port) {
		*at++ = ':';
		at += str_from_u64(port, at);
	}
	*at = 0;
	return (struct str){ text, (size_t)(at - text) };
}

int http_reverse_host(struct http *h, struct flow *f)
{
	const struct conn_record *server = h->server->record;
	struct http_request *r = &f->http.request;
	struct str value;

	if (h->base.env->options->keep_host_header)
		return 0;
	value = authority(&f->arena, server->address.host,
			  server->address.port == (server->tls ? 443 : 80) ? 0 : server->address.port);
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
