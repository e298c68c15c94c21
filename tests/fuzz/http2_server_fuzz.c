/* SPDX-License-Identifier: MIT */
/* Any frames from a client, with an origin of HTTP/1 or 2 that answers the first request. The first byte chooses. */
#include "layer_world.h"
#include "layers/mode.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char magic[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/* SETTINGS; HEADERS of stream 1 (:status 200); DATA "hi"; trailers "a: b". */
static const uint8_t answer2[] =
	"\0\0\0\4\0\0\0\0\0" "\0\0\1\1\4\0\0\0\1\x88" "\0\0\2\0\0\0\0\0\1hi" "\0\0\5\1\5\0\0\0\1\0\1a\1b";
static const char answer1[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct world w;
	struct conn *server;
	bool http2;

	if (size < 1)
		return 0;
	world_init(&w, data[0]);
	http2 = data[0] & 1;
	w.options.body_streaming = !(data[0] & 2);
	w.options.validate_inbound_headers = !(data[0] & 4);
	server = world_conn(&w.sink);
	(void)!conn_record_text(server->record, &server->record->address.host, STR("h"));
	server->record->address.port = 80;
	w.conns[0]->record->tls = !http2;
	w.top = mode_transparent_new(&w.sink, &w.env, w.conns[0], server);
	layer_event(w.top, &(struct event){ .type = EV_START });
	world_open(&w);
	world_give(&w, 0, (const uint8_t *)magic, sizeof(magic) - 1);
	world_give(&w, 0, data + 1, (size - 1) / 2);
	if (http2)
		world_give(&w, 1, answer2, sizeof(answer2) - 1);
	else
		world_give(&w, 1, (const uint8_t *)answer1, sizeof(answer1) - 1);
	world_give(&w, 0, data + 1 + (size - 1) / 2, size - 1 - (size - 1) / 2);
	world_close(&w, 1);
	world_close(&w, 0);
	world_fini(&w);
	return 0;
}
