/* SPDX-License-Identifier: MIT */
/* Splitting mode specifications and checking them against each other. */
#include "core/proxy_mode.h"

#include <errno.h>

#define DEFAULT_PORT 8080

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

static int parse_name(struct proxy_mode *m, struct str name, struct err *e)
{
	static const char *const later[] = { "transparent", "upstream",  "reverse", "socks5",
					     "dns",         "wireguard", "tun" };

	if (str_eq_nocase(name, STR("regular"))) {
		m->kind = MODE_REGULAR;
		if (m->data.len)
			return err_set(e, -EINVAL, "mode takes no arguments");
		return 0;
	}
	if (str_eq_nocase(name, STR("local"))) {
		m->kind = MODE_LOCAL;
		if (m->port != MODE_PORT_NONE)
			return err_set(e, -EINVAL, "local mode does not listen on a port");
		return 0;
	}
	if (str_eq_nocase(name, STR("osproxy")))
		return err_set(e, -EINVAL, "osproxy mode has been renamed to local mode. Thanks for trying our "
			       "experimental features!");
	for (size_t i = 0; i < ARRAY_SIZE(later); i++)
		if (str_eq_nocase(name, str_of(later[i])))
			return err_set(e, -ENOTSUP, "%s mode is not implemented in mitm-bpf yet", later[i]);
	return err_set(e, -EINVAL, "unknown mode");
}

int proxy_mode_parse(struct proxy_mode *out, struct str spec, struct err *e)
{
	const char *at = spec.len ? memrchr(spec.ptr, '@', spec.len) : NULL;
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

struct str proxy_mode_host(const struct proxy_mode *m, struct str listen_host)
{
	return m->host.ptr ? m->host : listen_host;
}

int32_t proxy_mode_port(const struct proxy_mode *m, int32_t listen_port)
{
	if (m->port != MODE_PORT_NONE || m->kind == MODE_LOCAL)
		return m->port;
	return listen_port != MODE_PORT_NONE ? listen_port : DEFAULT_PORT;
}

int proxy_modes_check(const struct proxy_mode *modes, size_t count, struct str listen_host, int32_t listen_port,
		      struct err *e)
{
	for (size_t i = 0; i < count; i++) {
		struct str host = proxy_mode_host(&modes[i], listen_host);
		int32_t port = proxy_mode_port(&modes[i], listen_port);

		for (size_t k = 0; k < i; k++) {
			if (modes[i].kind == MODE_LOCAL && modes[k].kind == MODE_LOCAL)
				return err_set(e, -EINVAL, "Cannot spawn more than one local redirector.");
			if (port == MODE_PORT_NONE || proxy_mode_port(&modes[k], listen_port) != port ||
			    !str_eq(proxy_mode_host(&modes[k], listen_host), host))
				continue;
			if (host.len == 0 || str_eq(host, STR("0.0.0.0")))
				host = STR("*");
			return err_set(e, -EINVAL, "Cannot spawn multiple servers on the same address: %.*s:%d",
				       (int)host.len, host.ptr, port);
		}
	}
	return 0;
}

const char *proxy_mode_description(const struct proxy_mode *m)
{
	return m->kind == MODE_LOCAL ? "Local redirector" : "HTTP(S) proxy";
}
