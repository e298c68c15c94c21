/* SPDX-License-Identifier: MIT */
/* Splitting mode specifications and checking them against each other. */
#include "core/proxy_mode.h"

#include <errno.h>
#include <stdio.h>

#include "base/addr.h"
#include "base/utf8.h"

#define HOST_LABEL_MAX 63
#define HOST_NAME_BYTES_MAX 255
#define SHOWN_MAX 1000                   /* whoever shows it has a limit of its own */

enum data_rule { DATA_NONE, DATA_SERVER, DATA_TEXT };

struct kind {
	const char *name, *description;
	enum proxy_mode_kind kind;
	enum data_rule data;
	int32_t port;
	uint32_t transport;
};

/* In the order of enum proxy_mode_kind. */
static const struct kind kinds[] = {
	{ "regular", "HTTP(S) proxy", MODE_REGULAR, DATA_NONE, 8080, TRANSPORT_TCP },
	{ "transparent", "Transparent Proxy", MODE_TRANSPARENT, DATA_NONE, 8080, TRANSPORT_TCP },
	{ "upstream", "HTTP(S) proxy (upstream mode)", MODE_UPSTREAM, DATA_SERVER, 8080, TRANSPORT_TCP },
	{ "reverse", "reverse proxy to ", MODE_REVERSE, DATA_SERVER, 8080, TRANSPORT_TCP },
	{ "socks5", "SOCKS v5 proxy", MODE_SOCKS5, DATA_NONE, 1080, TRANSPORT_TCP },
	{ "dns", "DNS server", MODE_DNS, DATA_NONE, 53, TRANSPORT_TCP | TRANSPORT_UDP },
	{ "wireguard", "WireGuard server", MODE_WIREGUARD, DATA_TEXT, 51820, TRANSPORT_UDP },
	{ "local", "Local redirector", MODE_LOCAL, DATA_TEXT, MODE_PORT_NONE, TRANSPORT_TCP | TRANSPORT_UDP },
	{ "tun", "TUN interface", MODE_TUN, DATA_TEXT, MODE_PORT_NONE, TRANSPORT_TCP | TRANSPORT_UDP },
	{ "tc", "Forwarded traffic of ", MODE_TC, DATA_TEXT, MODE_PORT_NONE, TRANSPORT_TCP | TRANSPORT_UDP },
};

/* In the order of enum server_scheme. port 0: one must be given. */
static const struct {
	const char *name;
	uint16_t port;
	uint32_t transport;
} schemes[] = {
	{ "http", 80, TRANSPORT_TCP },
	{ "https", 443, TRANSPORT_TCP | TRANSPORT_UDP },
	{ "http3", 443, TRANSPORT_UDP },
	{ "quic", 443, TRANSPORT_UDP },
	{ "tls", 0, TRANSPORT_TCP },
	{ "dtls", 0, TRANSPORT_UDP },
	{ "tcp", 0, TRANSPORT_TCP },
	{ "udp", 0, TRANSPORT_UDP },
	{ "dns", 53, TRANSPORT_TCP | TRANSPORT_UDP },
};

static int shown(struct str s)
{
	return (int)MIN(s.len, (size_t)SHOWN_MAX);
}

/* --- the address that it listens on ---------------------------------------------------------------------------- */

static bool parse_port(struct str text, int32_t *port)
{
	struct str digits = str_trim(text);
	uint64_t value;

	if (str_starts(digits, STR("+")))
		digits = (struct str){ digits.ptr + 1, digits.len - 1 };
	if (!str_to_u64(digits, UINT16_MAX, &value))
		return false;
	*port = (int32_t)value;
	return true;
}

static int parse_listen(struct proxy_mode *m, struct str listen, struct err *e)
{
	const char *colon = listen.len ? memrchr(listen.ptr, ':', listen.len) : NULL;
	struct str port = listen;

	if (listen.len == 0)
		return 0;
	if (colon) {
		m->host = (struct str){ listen.ptr, (size_t)(colon - listen.ptr) };
		port = (struct str){ colon + 1, listen.len - m->host.len - 1 };
		if (m->host.len >= 2 && m->host.ptr[0] == '[' && m->host.ptr[m->host.len - 1] == ']')
			m->host = (struct str){ m->host.ptr + 1, m->host.len - 2 };
	}
	if (!parse_port(port, &m->port))
		return err_set(e, -EINVAL, "invalid port: %.*s", (int)MIN(port.len, (size_t)80), port.ptr);
	return 0;
}

/* --- the server behind ----------------------------------------------------------------------------------------- */

static bool is_label_char(char c)
{
	return (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z') || c == '-' || c == '_';
}

/* Letters beyond ASCII pass: idna has its say when the name is looked up. */
static bool valid_host(struct str host)
{
	struct str rest = host;
	struct addr ip;
	size_t label = 0;

	if (addr_parse(&ip, host))
		return true;
	if (host.len > HOST_NAME_BYTES_MAX || !utf8_valid(host))
		return false;
	if (rest.ptr[rest.len - 1] == '.')
		rest.len--;
	for (size_t i = 0; i < rest.len; i++) {
		if (rest.ptr[i] == '.' && (label == 0 || label > HOST_LABEL_MAX))
			return false;
		if (rest.ptr[i] != '.' && !is_label_char(rest.ptr[i]) && (uint8_t)rest.ptr[i] < 0x80)
			return false;
		label = rest.ptr[i] == '.' ? 0 : label + 1;
	}
	return label > 0 && label <= HOST_LABEL_MAX;
}

/* The parts of `[scheme "://"] host [":" port] ["/"]`, none where not given; false: it is none. */
static bool split_server(struct str text, struct str *scheme, struct str *host, struct str *port)
{
	const char *slashes = text.len ? memmem(text.ptr, text.len, "://", 3) : NULL;
	struct str rest = text;
	size_t n = 0;

	*scheme = *port = (struct str){ 0 };
	if (slashes) {
		*scheme = (struct str){ text.ptr, (size_t)(slashes - text.ptr) };
		rest = (struct str){ slashes + 3, text.len - scheme->len - 3 };
	}
	if (slashes && scheme->len == 0)
		return false;
	if (rest.len && rest.ptr[rest.len - 1] == '/')
		rest.len--;
	if (rest.len && rest.ptr[0] == '[') {
		const char *end = memrchr(rest.ptr, ']', rest.len);

		n = end ? (size_t)(end - rest.ptr) + 1 : 0;
	}
	if (n > 2) {
		*host = (struct str){ rest.ptr + 1, n - 2 };
	} else {
		for (n = 0; n < rest.len && rest.ptr[n] != ':' && rest.ptr[n] != '/'; n++)
			;
		*host = (struct str){ rest.ptr, n };
	}
	if (n < rest.len)
		*port = (struct str){ rest.ptr + n + 1, rest.len - n - 1 };
	for (size_t i = 0; i < port->len; i++)
		if (port->ptr[i] < '0' || port->ptr[i] > '9')
			return false;
	return host->len && (n == rest.len || (rest.ptr[n] == ':' && port->len));
}

static int parse_server(struct proxy_mode *m, struct err *e)
{
	struct str scheme, host, port;
	uint64_t number = 0;
	size_t i = m->kind == MODE_UPSTREAM ? SCHEME_HTTP : SCHEME_HTTPS;

	if (!split_server(m->data, &scheme, &host, &port))
		return err_set(e, -EINVAL, "Invalid server specification: %.*s", shown(m->data), m->data.ptr);
	if (scheme.ptr)
		for (i = 0; i < ARRAY_SIZE(schemes) && !str_eq(scheme, str_of(schemes[i].name)); i++)
			;
	if (i == ARRAY_SIZE(schemes))
		return err_set(e, -EINVAL, "Invalid server scheme: %.*s", shown(scheme), scheme.ptr);
	if (!valid_host(host))
		return err_set(e, -EINVAL, "Invalid hostname: %.*s", shown(host), host.ptr);
	if (!port.ptr && !schemes[i].port)
		return err_set(e, -EINVAL, "Port specification missing.");
	if (port.ptr && !str_to_u64(port, UINT16_MAX, &number))
		return err_set(e, -EINVAL, "Invalid port: %.*s", shown(port), port.ptr);
	m->scheme = (enum server_scheme)i;
	m->server_host = host;
	m->server_port = port.ptr ? (uint16_t)number : schemes[i].port;
	if (m->kind == MODE_UPSTREAM && m->scheme != SCHEME_HTTP && m->scheme != SCHEME_HTTPS)
		return err_set(e, -EINVAL, "invalid upstream proxy scheme");
	return 0;
}

/* --- the mode -------------------------------------------------------------------------------------------------- */

static int parse_name(struct proxy_mode *m, struct str name, struct err *e)
{
	const struct kind *k = kinds;

	if (str_eq_nocase(name, STR("osproxy")))
		return err_set(e, -EINVAL, "osproxy mode has been renamed to local mode. Thanks for trying our "
			       "experimental features!");
	while (k < kinds + ARRAY_SIZE(kinds) && !str_eq_nocase(name, str_of(k->name)))
		k++;
	if (k == kinds + ARRAY_SIZE(kinds))
		return err_set(e, -EINVAL, "unknown mode");
	m->kind = k->kind;
	switch (k->data) {
	case DATA_NONE:
		return m->data.len ? err_set(e, -EINVAL, "mode takes no arguments") : 0;
	case DATA_SERVER:
		return parse_server(m, e);
	case DATA_TEXT:
		if (k->port == MODE_PORT_NONE && m->port != MODE_PORT_NONE)
			return err_set(e, -EINVAL, "%s mode does not listen on a port", k->name);
		return 0;
	}
	return 0;
}

/* Names of units and paths may hold an @ (unit:user@1000.service), and local mode listens nowhere. */
static bool at_is_data(struct str spec)
{
	static const char *const words[] = { "cgroup:", "unit:", "exe:", "comm:", "user:", "container:" };

	for (size_t i = 0; i < ARRAY_SIZE(words) && str_starts(spec, STR("local:")); i++)
		if (memmem(spec.ptr, spec.len, words[i], strlen(words[i])))
			return true;
	return false;
}

int proxy_mode_parse(struct proxy_mode *out, struct str spec, struct err *e)
{
	const char *at = spec.len && !at_is_data(spec) ? memrchr(spec.ptr, '@', spec.len) : NULL;
	struct proxy_mode m = { .spec = spec, .port = MODE_PORT_NONE };
	struct str head = spec, listen = { 0 }, name;
	int ret;

	if (at) {
		head = (struct str){ spec.ptr, (size_t)(at - spec.ptr) };
		listen = (struct str){ at + 1, spec.len - head.len - 1 };
		if (head.len == 0) {
			head = listen;
			listen = (struct str){ 0 };
		}
	}
	name = str_cut(&head, ':');
	m.data = head.ptr ? head : STR("");
	ret = parse_listen(&m, listen, e);
	if (ret == 0)
		ret = parse_name(&m, name, e);
	if (ret == 0)
		*out = m;
	return ret;
}

int proxy_mode_supported(const struct proxy_mode *m, struct err *e)
{
	switch (m->kind) {
	case MODE_REGULAR:
	case MODE_TRANSPARENT:
	case MODE_UPSTREAM:
	case MODE_SOCKS5:
	case MODE_LOCAL:
	case MODE_TC:
		return 0;
	case MODE_REVERSE:
		if (m->scheme == SCHEME_HTTP || m->scheme == SCHEME_HTTPS || m->scheme == SCHEME_TLS ||
		    m->scheme == SCHEME_TCP || m->scheme == SCHEME_UDP)
			return 0;
		return err_set(e, -ENOTSUP, "reverse mode to %s:// is not implemented in mitm-bpf yet",
			       schemes[m->scheme].name);
	case MODE_DNS:
	case MODE_WIREGUARD:
	case MODE_TUN:
		return err_set(e, -ENOTSUP, "%s mode is not implemented in mitm-bpf yet", kinds[m->kind].name);
	}
	return -ENOTSUP;
}

struct str proxy_mode_host(const struct proxy_mode *m, struct str listen_host)
{
	return m->host.ptr ? m->host : listen_host;
}

int32_t proxy_mode_port(const struct proxy_mode *m, int32_t listen_port)
{
	if (m->port != MODE_PORT_NONE || kinds[m->kind].port == MODE_PORT_NONE)
		return m->port;
	if (listen_port != MODE_PORT_NONE)
		return listen_port;
	return m->kind == MODE_REVERSE && m->scheme == SCHEME_DNS ? schemes[SCHEME_DNS].port : kinds[m->kind].port;
}

uint32_t proxy_mode_transport(const struct proxy_mode *m)
{
	return m->kind == MODE_REVERSE ? schemes[m->scheme].transport : kinds[m->kind].transport;
}

/* What "all interfaces" is called differs; that it is the same does not. */
static struct str plain_host(struct str host)
{
	return str_eq(host, STR("0.0.0.0")) ? STR("") : host;
}

/* Of tc:IF[,CLIENTS]. */
static bool same_interface(const struct proxy_mode *a, const struct proxy_mode *b)
{
	struct str one = a->data, other = b->data;

	return a->kind == MODE_TC && b->kind == MODE_TC && str_eq(str_cut(&one, ','), str_cut(&other, ','));
}

int proxy_modes_check(const struct proxy_mode *modes, size_t count, struct str listen_host, int32_t listen_port,
		      struct err *e)
{
	for (size_t i = 0; i < count; i++) {
		struct str host = plain_host(proxy_mode_host(&modes[i], listen_host));
		int32_t port = proxy_mode_port(&modes[i], listen_port);

		for (size_t k = 0; k < i; k++) {
			if (modes[i].kind == MODE_LOCAL && modes[k].kind == MODE_LOCAL)
				return err_set(e, -EINVAL, "Cannot spawn more than one local redirector.");
			if (same_interface(&modes[i], &modes[k]))
				return err_set(e, -EINVAL, "The traffic of one interface cannot be taken by two modes: "
					       "%.*s, %.*s", shown(modes[k].spec), modes[k].spec.ptr,
					       shown(modes[i].spec), modes[i].spec.ptr);
			if (port == MODE_PORT_NONE || proxy_mode_port(&modes[k], listen_port) != port ||
			    !(proxy_mode_transport(&modes[i]) & proxy_mode_transport(&modes[k])) ||
			    !str_eq(plain_host(proxy_mode_host(&modes[k], listen_host)), host))
				continue;
			if (host.len == 0)
				host = STR("*");
			return err_set(e, -EINVAL, "Cannot spawn multiple servers on the same address: %.*s:%d",
				       (int)host.len, host.ptr, port);
		}
	}
	return 0;
}

struct str proxy_mode_recorded(const struct proxy_mode *m)
{
	return m->kind == MODE_TC ? STR("transparent") : m->spec;
}

const char *proxy_mode_description(const struct proxy_mode *m, char out[static MODE_TEXT_MAX])
{
	struct str data = m->kind == MODE_REVERSE || m->kind == MODE_TC ? m->data : STR("");

	snprintf(out, MODE_TEXT_MAX, "%s%.*s", kinds[m->kind].description, shown(data), data.ptr);
	return out;
}
