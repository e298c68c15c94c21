/* SPDX-License-Identifier: MIT */
/*
 * Anything from both sides of tunnels over streams. The first byte chooses what stands: two CONNECTs, or an extended
 * one, between HTTP/2 and HTTP/2 or HTTP/1. Then, again and again: who speaks, how many bytes, and these.
 */
#include "layer_world.h"
#include "layers/mode.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct bytes {
	uint8_t at[600];
	size_t len;
};

static void add(struct bytes *b, const void *bytes, size_t len)
{
	memcpy(b->at + b->len, bytes, len);
	b->len += len;
}

static void add_frame(struct bytes *b, uint8_t type, uint8_t flags, uint8_t id, const void *payload, size_t len)
{
	const uint8_t head[9] = { 0, 0, (uint8_t)len, type, flags, 0, 0, 0, id };

	add(b, head, sizeof(head));
	add(b, payload, len);
}

/* Literal fields: name, value, …, NULL */
static void add_head(struct bytes *b, uint8_t id, const char *const *fields)
{
	struct bytes block = { .len = 0 };

	for (; *fields; fields++) {
		uint8_t len = (uint8_t)strlen(*fields);

		if (**fields == ':')
			add(&block, "", 1);
		add(&block, &len, 1);
		add(&block, *fields, len);
	}
	add_frame(b, 1, 4, id, block.at, block.len);
}

static void begin(struct world *w, bool proxy, const char *protocol)
{
	static const char magic[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
	const char *const connect[] = { ":method", "CONNECT", ":authority", "h:80", NULL };
	const char *const extended[] = { ":method", "CONNECT", ":protocol", protocol, ":scheme", "http", ":path", "/",
					 ":authority", "h", NULL };
	struct bytes b = { .len = 0 };

	add(&b, magic, sizeof(magic) - 1);
	add_frame(&b, 4, 0, 0, "", 0);
	add_head(&b, 1, proxy ? connect : extended);
	if (proxy)
		add_head(&b, 3, connect);
	world_give(w, 0, b.at, b.len);
	world_open(w);
}

static void agree(struct world *w, bool http2)
{
	static const char http1[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n";
	struct bytes b = { .len = 0 };

	if (http2) {
		add_frame(&b, 4, 0, 0, "\0\10\0\0\0\1", 6);
		add_frame(&b, 1, 4, 1, "\x88", 1);
	} else {
		add(&b, http1, sizeof(http1) - 1);
	}
	world_give(w, 1, b.at, b.len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	bool proxy, http2;
	struct conn *server;
	struct world w;

	if (size < 1)
		return 0;
	world_init(&w, data[0]);
	proxy = data[0] & 1;
	http2 = data[0] & 2;
	w.options.body_streaming = !(data[0] & 8);
	if (proxy) {
		w.top = mode_regular_new(&w.sink, &w.env, w.conns[0]);
	} else {
		server = world_conn(&w.sink);
		(void)!conn_record_text(server->record, &server->record->address.host, STR("h"));
		server->record->address.port = 80;
		/* in clear text its version is the client's; inside of TLS what was agreed on */
		w.conns[0]->record->tls = !http2;
		w.top = mode_transparent_new(&w.sink, &w.env, w.conns[0], server);
	}
	layer_event(w.top, &(struct event){ .type = EV_START });
	world_open(&w);
	begin(&w, proxy, data[0] & 4 ? "connect-udp" : "websocket");
	if (!proxy)
		agree(&w, http2);
	for (data++, size--; size >= 2;) {
		uint32_t who = data[0] % 4;
		size_t len = MIN((size_t)data[1], size - 2);

		if (w.conns[who] && data[0] & 128)
			world_close(&w, who);
		else if (w.conns[who])
			world_give(&w, who, data + 2, len);
		world_open(&w);
		data += 2 + len;
		size -= 2 + len;
	}
	for (uint32_t i = 4; i-- > 0;)
		if (w.conns[i])
			world_close(&w, i);
	world_fini(&w);
	return 0;
}
