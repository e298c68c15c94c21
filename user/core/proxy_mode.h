/* SPDX-License-Identifier: MIT */
/*
 * Proxy mode specifications, `name[:data][@[host:]port]` (spec: mitmproxy 12 proxy/mode_specs.py). Pure; the data
 * of local and tc mode, who is intercepted, is parsed by steer/. tc is ours: `tc:INTERFACE`, forwarded traffic.
 */
#pragma once

#include "base/err.h"
#include "base/str.h"

enum proxy_mode_kind {
	MODE_REGULAR, MODE_TRANSPARENT, MODE_UPSTREAM, MODE_REVERSE, MODE_SOCKS5, MODE_DNS, MODE_WIREGUARD, MODE_LOCAL,
	MODE_TUN, MODE_TC,
};

/* Of a server specification, `[scheme://]host[:port]`. */
enum server_scheme {
	SCHEME_HTTP, SCHEME_HTTPS, SCHEME_HTTP3, SCHEME_QUIC, SCHEME_TLS, SCHEME_DTLS, SCHEME_TCP, SCHEME_UDP,
	SCHEME_DNS,
};

enum { TRANSPORT_TCP = 1, TRANSPORT_UDP = 2 };

#define MODE_PORT_NONE (-1)
#define MODE_TEXT_MAX 320

/* Borrows the text that was parsed. */
struct proxy_mode {
	enum proxy_mode_kind kind;
	struct str spec;                 /* all of it, which is the mode's identity */
	struct str data;
	struct str host;                 /* none: not given; empty: all interfaces. Without brackets */
	int32_t port;                    /* MODE_PORT_NONE: not given */
	enum server_scheme scheme;       /* upstream and reverse: the server behind, */
	struct str server_host;          /* without brackets, as written */
	uint16_t server_port;
};

/* Returns 0 or -EINVAL; e has mitmproxy's sentence. */
int proxy_mode_parse(struct proxy_mode *out, struct str spec, struct err *e) __must_check;
/* 0; -ENOTSUP with a sentence for what mitmproxy has and this does not yet. */
int proxy_mode_supported(const struct proxy_mode *m, struct err *e) __must_check;

/* Where it listens, given the options listen_host and listen_port (MODE_PORT_NONE: not set). Port none: nowhere. */
struct str proxy_mode_host(const struct proxy_mode *m, struct str listen_host);
int32_t proxy_mode_port(const struct proxy_mode *m, int32_t listen_port);
/* TRANSPORT_* bits. */
uint32_t proxy_mode_transport(const struct proxy_mode *m);

/* -EINVAL when two of them would listen on the same address. */
int proxy_modes_check(const struct proxy_mode *modes, size_t count, struct str listen_host, int32_t listen_port,
		      struct err *e) __must_check;

/* What flows say that they came by: a spec that mitmproxy knows, too, for it reads their files. */
struct str proxy_mode_recorded(const struct proxy_mode *m);

/* "HTTP(S) proxy", "reverse proxy to https://example.com". Returns out. */
const char *proxy_mode_description(const struct proxy_mode *m, char out[static MODE_TEXT_MAX]);
