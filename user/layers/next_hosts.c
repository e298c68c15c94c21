/* SPDX-License-Identifier: MIT */
/* A connection has up to five names, each compared as "host:port": its peer, its address, a Host header, two SNIs. */
#include "layers/next_hosts.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/env.h"
#include "core/patterns.h"
#include "wire/client_hello.h"
#include "wire/http1.h"

#define NAMES_MAX 5
#define NAME_MAX_LEN 300

struct names {
	uint32_t count;
	char text[NAMES_MAX][NAME_MAX_LEN];
};

static void add(struct names *n, struct str host, uint16_t port)
{
	if (host.len && host.len < NAME_MAX_LEN - 10)
		snprintf(n->text[n->count++], NAME_MAX_LEN, "%.*s:%u", (int)host.len, host.ptr, port);
}

static bool is_letter(char c)
{
	return (c | 32) >= 'a' && (c | 32) <= 'z';
}

/* A first line that is not over may become a request's. */
static bool may_expect_host(struct str bytes)
{
	for (size_t i = 0; i < bytes.len; i++)
		if (i < 3 ? !is_letter(bytes.ptr[i]) : (uint8_t)bytes.ptr[i] < 32 && bytes.ptr[i] != '\r')
			return false;
	return bytes.len;
}

/* "GET … HTTP/" in the first line. */
static bool expects_host(struct str bytes)
{
	const char *end = bytes.len ? memchr(bytes.ptr, '\n', bytes.len) : NULL;
	struct str line = { bytes.ptr, end ? (size_t)(end - bytes.ptr) : bytes.len };
	const char *http;

	if (line.len < 9 || !is_letter(line.ptr[0]) || !is_letter(line.ptr[1]) || !is_letter(line.ptr[2]))
		return false;
	for (http = line.ptr + 4; (size_t)(http - line.ptr) + 5 <= line.len; http++)
		if (str_eq_nocase((struct str){ http, 5 }, STR("HTTP/")))
			return true;
	return false;
}

static bool has_port(struct str host)
{
	size_t digits = 0;

	while (digits < host.len && host.ptr[host.len - 1 - digits] >= '0' && host.ptr[host.len - 1 - digits] <= '9')
		digits++;
	return digits && digits < host.len && host.ptr[host.len - 1 - digits] == ':';
}

/* The first Host header, or none; false: neither it nor the end of the headers has come. */
static bool find_host(struct str bytes, struct str *host)
{
	struct str rest = bytes;

	*host = (struct str){ 0 };
	for (bool first = true; rest.ptr; first = false) {
		struct str whole = rest, line = str_cut(&rest, '\n'), value;

		if (!rest.ptr && whole.len == line.len)
			return false;
		line = str_trim(line);
		if (!first && line.len == 0)
			return true;
		value = line;
		if (!first && str_eq_nocase(str_cut(&value, ':'), STR("host")) && value.ptr) {
			*host = str_trim(value);
			return true;
		}
	}
	return false;
}

/* Both return whether nothing more is to be waited for. */
static bool add_host(struct names *n, struct str bytes, uint16_t port)
{
	struct str host;

	if (!expects_host(bytes))
		return !may_expect_host(bytes);
	if (!find_host(bytes, &host))
		return false;
	if (host.len && has_port(host) && host.len < NAME_MAX_LEN)
		snprintf(n->text[n->count++], NAME_MAX_LEN, "%.*s", (int)host.len, host.ptr);
	else
		add(n, host, port);
	return true;
}

static bool add_sni(struct names *n, struct str bytes, uint16_t port)
{
	enum client_hello_guess guess = client_hello_looks_like_tls((const uint8_t *)bytes.ptr, bytes.len);
	struct client_hello hello;
	struct arena arena = { 0 };
	int len;

	if (guess != CLIENT_HELLO_YES)
		return guess == CLIENT_HELLO_NO;
	len = client_hello_parse(&hello, (const uint8_t *)bytes.ptr, bytes.len, &arena);
	if (len > 0)
		add(n, hello.sni, port);
	arena_fini(&arena);
	return len != 0;
}

enum next_hosts_verdict next_hosts_ignored(const struct env *env, const struct conn *client, const struct conn *server,
					   struct str bytes, bool server_spoke, bool final)
{
	const struct options *o = env->options;
	const struct endpoint *at = server ? &server->record->address : NULL;
	struct names n = { 0 };
	bool allowed = false, known = true;

	if (!server || (!o->ignore_hosts && !o->allow_hosts))
		return NEXT_HOSTS_NO;
	add(&n, server->record->peername.host, server->record->peername.port);
	if (at->host.len) {
		add(&n, at->host, at->port);
		if (!server_spoke)
			known = add_host(&n, bytes, at->port);
		if (bytes.len)
			known = add_sni(&n, bytes, at->port) && known;
		add(&n, client->record->sni, at->port);
	}
	for (uint32_t i = 0; i < n.count; i++) {
		if (patterns_match(o->ignore_hosts, str_of(n.text[i])))
			return NEXT_HOSTS_YES;
		allowed |= patterns_match(o->allow_hosts, str_of(n.text[i]));
	}
	if (!known && !final && !(allowed && !o->ignore_hosts))
		return NEXT_HOSTS_WAIT;
	return n.count && o->allow_hosts && !allowed ? NEXT_HOSTS_YES : NEXT_HOSTS_NO;
}

static int copy_host(char out[static LAYER_HOST_MAX], struct str host)
{
	struct addr ip;

	if (host.len >= LAYER_HOST_MAX || !client_hello_host_valid(host) || addr_parse(&ip, host))
		return -ENOENT;
	memcpy(out, host.ptr, host.len);
	return (int)host.len;
}

static int called_in_hello(struct str bytes, char out[static LAYER_HOST_MAX])
{
	struct client_hello hello;
	struct arena arena = { 0 };
	int ret = client_hello_parse(&hello, (const uint8_t *)bytes.ptr, bytes.len, &arena);

	if (ret != 0)
		ret = ret > 0 ? copy_host(out, hello.sni) : -ENOENT;
	arena_fini(&arena);
	return ret;
}

int next_hosts_authority(struct str authority, char host[static LAYER_HOST_MAX])
{
	struct str name;
	uint16_t port;

	return http1_parse_authority(authority, &name, &port) ? copy_host(host, name) : -ENOENT;
}

static int called_in_request(struct str bytes, char out[static LAYER_HOST_MAX])
{
	struct str target = bytes, host;

	if (!expects_host(bytes))
		return may_expect_host(bytes) ? 0 : -ENOENT;
	str_cut(&target, ' ');
	if (target.len == 0 || target.ptr[0] != '/')
		return -ENOENT;
	if (!find_host(bytes, &host))
		return 0;
	return next_hosts_authority(host, out);
}

int next_hosts_called(struct str bytes, char host[static LAYER_HOST_MAX])
{
	int ret = 0;

	bytes.len = MIN(bytes.len, (size_t)NEXT_HOSTS_BYTES_MAX);
	if (bytes.len == 0)
		return 0;
	switch (client_hello_looks_like_tls((const uint8_t *)bytes.ptr, bytes.len)) {
	case CLIENT_HELLO_MAYBE:
		return 0;
	case CLIENT_HELLO_YES:
		ret = called_in_hello(bytes, host);
		break;
	case CLIENT_HELLO_NO:
		ret = called_in_request(bytes, host);
		break;
	}
	return ret == 0 && bytes.len == NEXT_HOSTS_BYTES_MAX ? -ENOENT : ret;
}

int next_hosts_queued(const struct layer *l, const struct conn *client, char host[static LAYER_HOST_MAX])
{
	uint8_t head[NEXT_HOSTS_BYTES_MAX];
	size_t len = layer_queued(l, client, head, sizeof(head));

	return next_hosts_called((struct str){ (const char *)head, len }, host);
}

bool next_hosts_is_tcp(const struct env *env, const struct conn *client, const struct conn *server)
{
	const struct patterns *p = env->options->tcp_hosts;

	if (!p)
		return false;
	return (server && server->record->address.host.len && patterns_match(p, server->record->address.host)) ||
	       (client->record->sni.len && patterns_match(p, client->record->sni));
}
