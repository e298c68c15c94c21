/* SPDX-License-Identifier: MIT */
/* URLs, addresses and sizes for people. Bytes stay as they came; who prints them makes them safe. */
#include "flow/http_url.h"

#include <stdio.h>

static uint16_t default_port(struct str scheme)
{
	return str_eq(scheme, STR("https")) ? 443 : str_eq(scheme, STR("http")) ? 80 : 0;
}

static void add_host(struct strbuf *out, struct str host)
{
	bool bare_ipv6 = host.len && memchr(host.ptr, ':', host.len) && host.ptr[0] != '[';

	strbuf_addf(out, "%s", bare_ipv6 ? "[" : "");
	strbuf_add_str(out, host);
	strbuf_addf(out, "%s", bare_ipv6 ? "]" : "");
}

static void add_url(struct strbuf *out, const struct http_request *r, struct str host, uint16_t port)
{
	strbuf_add_str(out, r->scheme);
	strbuf_add_str(out, STR("://"));
	add_host(out, host);
	if (port != default_port(r->scheme))
		strbuf_addf(out, ":%u", port);
	if (!str_eq(r->path, STR("*")))
		strbuf_add_str(out, r->path);
}

static bool is_connect(const struct http_request *r)
{
	return str_eq_nocase(r->method, STR("CONNECT"));
}

void http_url(struct strbuf *out, const struct http_request *r)
{
	if (is_connect(r)) {
		add_host(out, r->host);
		strbuf_addf(out, ":%u", r->port);
		return;
	}
	add_url(out, r, r->host, r->port);
}

static struct str host_header(const struct http_request *r)
{
	bool has_authority = str_eq(r->base.version, STR("HTTP/2.0")) || str_eq(r->base.version, STR("HTTP/3"));

	return has_authority && r->authority.len ? r->authority : headers_find(&r->base.headers, STR("host"));
}

/* "host", "host:port", "[v6]:port"; without a port *port stays. What is none of these is all host. */
static struct str split_authority(struct str authority, uint16_t *port)
{
	struct str rest = authority, host;
	uint64_t value;

	if (str_starts(authority, STR("["))) {
		const char *end = memchr(authority.ptr, ']', authority.len);

		if (!end)
			return authority;
		host = (struct str){ authority.ptr + 1, (size_t)(end - authority.ptr) - 1 };
		rest = (struct str){ end + 1, authority.len - host.len - 2 };
		if (rest.len == 0)
			return host;
		if (rest.ptr[0] != ':')
			return authority;
		rest = (struct str){ rest.ptr + 1, rest.len - 1 };
	} else {
		host = str_cut(&rest, ':');
		if (!rest.ptr)
			return authority;
	}
	if (host.len == 0 || !str_to_u64(rest, UINT16_MAX, &value))
		return authority;
	*port = (uint16_t)value;
	return host;
}

void http_pretty_url(struct strbuf *out, const struct http_request *r)
{
	struct str authority = host_header(r), host;
	uint16_t port = default_port(r->scheme) ? default_port(r->scheme) : 443;

	if (is_connect(r)) {
		strbuf_add_str(out, r->authority);
		return;
	}
	if (authority.len == 0) {
		http_url(out, r);
		return;
	}
	host = split_authority(authority, &port);
	add_url(out, r, host, port);
}

void endpoint_text(struct strbuf *out, const struct endpoint *e)
{
	static const uint8_t v6_none[16], v4_none[16] = { [10] = 0xff, [11] = 0xff };
	char text[ADDR_TEXT_MAX];
	struct addr a;

	if (!e->host.ptr) {
		strbuf_add_str(out, STR("<no address>"));
	} else if (!addr_parse(&a, e->host)) {
		add_host(out, e->host);
		strbuf_addf(out, ":%u", e->port);
	} else if (memcmp(a.ip, v6_none, 16) == 0 || memcmp(a.ip, v4_none, 16) == 0) {
		strbuf_addf(out, "*:%u", e->port);
	} else {
		a.port = e->port;
		strbuf_addf(out, "%s", addr_text(&a, text));
	}
}

const char *pretty_size(uint64_t bytes, char out[static PRETTY_SIZE_MAX])
{
	static const char units[] = "bkmgt";
	double value = (double)bytes;
	size_t unit = 0;

	while (value >= 1024 && unit < 4) {
		value /= 1024;
		unit++;
	}
	if (unit && value < 99.95)
		snprintf(out, PRETTY_SIZE_MAX, "%.1f%c", value, units[unit]);
	else
		snprintf(out, PRETTY_SIZE_MAX, "%.0f%c", value, units[unit]);
	return out;
}
