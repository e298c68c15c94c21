/* SPDX-License-Identifier: MIT */
/*
 * What a proxy behind us may answer to a CONNECT, and to a request in absolute form. The first byte seeds the pieces,
 * the second says which of the two.
 */
#include "core/proxy_mode.h"
#include "layer_world.h"
#include "layers/mode.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char tunnelled[] = "CONNECT a:80 HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n";
static const char raw[] = "CONNECT a:25 HTTP/1.1\r\n\r\n\1\2\3\4";
static const char plain[] = "GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct proxy_mode mode = {
		.kind = MODE_UPSTREAM, .scheme = SCHEME_HTTP, .server_host = { "proxy", 5 }, .server_port = 3128,
	};
	static const struct str requests[] = { { tunnelled, sizeof(tunnelled) - 1 }, { raw, sizeof(raw) - 1 },
					       { plain, sizeof(plain) - 1 } };
	struct world w;

	if (size < 2)
		return 0;
	world_init(&w, data[0]);
	w.options.upstream_auth = data[1] & 4 ? "u:p" : NULL;
	w.top = mode_upstream_new(&w.sink, &w.env, w.conns[0], &mode);
	layer_event(w.top, &(struct event){ .type = EV_START });
	for (int turn = 0; turn < 2; turn++) {
		const struct str *r = &requests[(data[1] & 3) % ARRAY_SIZE(requests)];

		world_give(&w, 0, (const uint8_t *)r->ptr, r->len);
		for (uint32_t i = 1; i < WORLD_CONNS; i++) {
			if (!w.conns[i] || !w.sent[i])
				continue;
			w.sent[i] = 0;
			world_give(&w, i, data + 2, size - 2);
			if (data[1] & 8)
				world_close(&w, i);
		}
	}
	world_close(&w, 0);
	world_fini(&w);
	return 0;
}
