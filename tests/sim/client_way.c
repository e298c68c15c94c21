/* SPDX-License-Identifier: MIT */
/* How virtual clients come to where they talk: through tunnels, SOCKS, a dialogue that ends in TLS, TLS. */
#include <stdio.h>
#include <string.h>

#include "client.h"

static bool put(void *owner, const void *bytes, size_t len)
{
	return client_put(owner, bytes, len, 0);
}

/* After each step of the dialogue. */
static void dialogue_went(struct client *c)
{
	if (c->starttls.bad)
		universe_violate(c->u, "the client read what no server says before TLS");
	if (c->state != TO_UPGRADE || !c->starttls.over)
		return;
	client_exchange(c, 0)->added[0] += c->starttls.marks;
	if (!c->starttls.agreed) {
		client_begin_talk(c);
		return;
	}
	c->state = TO_TLS;
	far_start_tls(c->far, script_hosts[c->t->host].name, false);
}

static void begin_inside(struct client *c)
{
	struct talk *t = c->t;

	if (t->starttls) {
		c->state = TO_UPGRADE;
		c->starttls = (struct starttls_end){ .script = c->u->script, .kind = t->starttls, .host = t->host,
						     .client = true, .ahead = t->ahead, .owner = c, .put = put };
		if (starttls_end_begin(&c->starttls))
			dialogue_went(c);
	} else if (t->client_tls) {
		c->state = TO_TLS;
		far_start_tls(c->far, script_hosts[t->host].name, t->h2);
	} else {
		client_begin_talk(c);
	}
}

static void ask_for_tunnel(struct client *c)
{
	char text[256], target[64];

	client_target(c, target, sizeof(target));
	snprintf(text, sizeof(text), "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", target, target);
	c->state = TO_TUNNEL;
	client_put(c, text, strlen(text), 0);
}

static bool put_socks_request(struct client *c)
{
	const char *name = script_hosts[c->t->host].name;
	uint16_t port = script_port(c->u->script, c->t);
	struct addr at = origin_addr(c->t->host, port);
	uint8_t text[80] = { 5, 1, 0 };
	size_t len = at.family == 4 ? 4 : 16;

	if (c->t->by_address) {
		text[3] = at.family == 4 ? 1 : 4;
		memcpy(text + 4, at.ip + 16 - len, len);
		len += 4;
	} else {
		text[3] = 3;
		text[4] = (uint8_t)strlen(name);
		memcpy(text + 5, name, strlen(name));
		len = 5 + strlen(name);
	}
	text[len++] = (uint8_t)(port >> 8);
	text[len++] = (uint8_t)port;
	return client_put(c, text, len, 0);
}

static void begin_socks(struct client *c)
{
	c->state = TO_SOCKS;
	if (client_put(c, "\5\1\0", 3, 0) && c->t->ahead)
		put_socks_request(c);
}

/* Returns how many bytes were the proxy's answers to SOCKS: two, then ten (RFC 1928 3, 6). */
static size_t read_socks(struct client *c, const uint8_t *bytes, size_t len)
{
	size_t at = 0;

	while (at < len && c->state == TO_SOCKS) {
		c->socks[c->socks_len++] = bytes[at++];
		if (c->socks_len == 2 && !c->t->ahead && !put_socks_request(c))
			return at;
		if (c->socks_len < 4 || (c->socks[3] == 0 && c->socks_len < sizeof(c->socks)))
			continue;
		if (c->socks[3] != 0) {
			if (script_must_work(c->u->script, c->t, 0))
				universe_violate(c->u, "SOCKS refused: %u", c->socks[3]);
			client_leave(c);
		} else {
			begin_inside(c);
		}
	}
	return at;
}

void client_approach(struct client *c)
{
	if (c->t->trunk)
		begin_inside(c);         /* it is the tunnel already */
	else if (c->t->via == VIA_CONNECT || c->t->via == VIA_UPSTREAM_CONNECT)
		ask_for_tunnel(c);
	else if (c->t->via == VIA_SOCKS5)
		begin_socks(c);
	else
		begin_inside(c);
}

size_t client_way_received(struct client *c, const uint8_t *bytes, size_t len)
{
	size_t at = 0;

	if (c->state == TO_TUNNEL) {
		at = reader_feed(&c->reader, bytes, len);
		if (c->reader.stopped)
			begin_inside(c);
	} else if (c->state == TO_SOCKS) {
		at = read_socks(c, bytes, len);
	}
	if (c->state == TO_UPGRADE) {
		at += starttls_end_received(&c->starttls, bytes + at, len - at);
		dialogue_went(c);
	}
	return at;
}
