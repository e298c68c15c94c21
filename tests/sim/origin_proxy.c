/* SPDX-License-Identifier: MIT */
/* Virtual proxies behind the proxy: what they say to CONNECT. */
#include <stdlib.h>
#include <string.h>

#include "origin.h"

static void refuse_tunnel(struct origin *o, enum script_behind way)
{
	static const char no[] = "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
		why[] = "HTTP/1.1 407 Who are you\r\nContent-Length: 12\r\n\r\nnot for you!";
	struct script *s = o->u->script;

	if (way == BEHIND_GARBAGE)
		far_send(o->far, "SSH-2.0-x\r\n\r\n", 13);
	else if (way != BEHIND_CLOSES && script_odd(s, ODD_PROXY, s->odd.proxy_permille))
		far_send(o->far, why, sizeof(why) - 1);
	else if (way != BEHIND_CLOSES)
		far_send(o->far, no, sizeof(no) - 1);
	far_close(o->far);
	o->over = true;
}

/* Fields about a body mean nothing in a 2xx to CONNECT (RFC 9110 9.3.6); what informs may come before. */
static const char *permission(struct script *s)
{
	static const char *const odd[] = {
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
		"HTTP/1.0 200 Connection established\r\nContent-Length: 5\r\n\r\n",
		"HTTP/1.1 201 Made\r\nTransfer-Encoding: chunked\r\n\r\n",
		"HTTP/1.1 200\r\n\r\n",
	};

	if (!script_odd(s, ODD_PROXY, s->odd.proxy_permille))
		return "HTTP/1.1 200 OK\r\nX-Proxy: up\r\n\r\n";
	return odd[script_odd_below(s, ARRAY_SIZE(odd))];
}

/* It becomes the far end of the tunnel. */
static void become(struct origin *o)
{
	const char *rest = "";
	uint32_t host = origin_host_of(o->reader.target, &rest);

	o->proxy = false;
	o->host = host;
	o->port = (uint16_t)atoi(rest + (*rest == ':'));
	far_send(o->far, o->permission, strlen(o->permission));
	if (o->port == SCRIPT_PORT_HTTPS || o->port == SCRIPT_PORT_HTTP2 || o->port == SCRIPT_PORT_TLS)
		far_serve_tls(o->far, script_hosts[host].name, o->port == SCRIPT_PORT_HTTP2);
	else if (o->port == SCRIPT_PORT_FIRST)
		far_send(o->far, "220 hello\r\n", 11);
	origin_begin_dialogue(o);
	o->reader.stopped = false;
}

void origin_permit(struct timer *t)
{
	struct origin *o = container_of(t, struct origin, permit);

	if (!o->over && !far_over(o->far))
		become(o);
}

void origin_ask_tunnel(struct origin *o)
{
	enum script_behind way = (enum script_behind)((o->port - SCRIPT_PORT_PROXY) / 10);
	struct script *s = o->u->script;
	const char *rest;
	size_t part;

	if (origin_host_of(o->reader.target, &rest) == SCRIPT_HOSTS || way != BEHIND_FINE) {
		refuse_tunnel(o, way);
		return;
	}
	o->permission = permission(s);
	if (!script_odd(s, ODD_PROXY_SLOW, s->odd.proxy_permille)) {
		become(o);
		return;
	}
	part = (size_t)script_odd_below(s, strlen(o->permission));
	far_send(o->far, o->permission, part);
	o->permission += part;
	BUG_ON(timer_arm(&o->u->io->timers, &o->permit, o->u->io->now_ns +
			 (int64_t)script_odd_below(s, 3000000000)) < 0);
}
