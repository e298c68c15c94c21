/* SPDX-License-Identifier: MIT */
/*
 * A client that asks for tunnels, and what is said through them: CONNECT through the HTTP layer up to the layers that
 * the tunnel gets. The first byte seeds the pieces, the second chooses options; then each piece has a byte for who says
 * it (bit 7: the server that was connected last) and how much of it there is; length 127: that side leaves.
 */
#include "crypto/proxy_auth.h"
#include "layer_world.h"
#include "layers/mode.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define LEAVES 127u

static uint32_t last_server(const struct world *w)
{
	uint32_t i = WORLD_CONNS - 1;

	while (i && !w->conns[i])
		i--;
	return i;
}

static void converse(struct world *w, const uint8_t *data, size_t size)
{
	while (size) {
		uint32_t who = data[0] & 128 ? last_server(w) : 0, len = data[0] & 127u;
		size_t part = len == LEAVES ? 0 : MIN(size - 1, (size_t)len);

		/* A server has no words before it is connected. */
		if (len == LEAVES && (who || !(data[0] & 128)))
			world_close(w, who);
		else if (who || !(data[0] & 128))
			world_give(w, who, data + 1, part);
		world_open(w);
		data += 1 + part;
		size -= 1 + part;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct proxy_mode behind = {
		.kind = MODE_UPSTREAM, .scheme = SCHEME_HTTP, .server_host = { "proxy", 5 }, .server_port = 3128,
	};
	static struct proxy_auth *auth;
	struct world w;
	struct err e;

	if (size < 2)
		return 0;
	if (!auth && proxy_auth_new(&auth, STR("u:p"), STR(""), &e) < 0)
		abort();
	world_init(&w, data[0]);
	w.options.connection_eager = !(data[1] & 1);
	w.options.proxyauth = data[1] & 2 ? auth : NULL;
	w.options.rawtcp = !(data[1] & 8);
	w.options.http2 = !(data[1] & 16);
	w.options.validate_inbound_headers = !(data[1] & 32);
	w.top = data[1] & 4 ? mode_upstream_new(&w.sink, &w.env, w.conns[0], &behind) :
			      mode_regular_new(&w.sink, &w.env, w.conns[0]);
	layer_event(w.top, &(struct event){ .type = EV_START });
	converse(&w, data + 2, size - 2);
	for (uint32_t i = 0; i < WORLD_CONNS; i++)
		world_close(&w, i);
	world_fini(&w);
	return 0;
}
