/* SPDX-License-Identifier: MIT */
/* Any frames from an origin, as answers to requests over HTTP/1 or 2. The first byte chooses. */
#include "layer_world.h"
#include "layers/mode.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The preface; SETTINGS with a small window; GET on streams 1 and 5, POST with a body that goes on on stream 3. */
static const uint8_t requests2[] =
	"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" "\0\0\6\4\0\0\0\0\0\0\4\0\0\0\5"
	"\0\0\6\1\5\0\0\0\1\x82\x86\x84\1\1h" "\0\0\6\1\4\0\0\0\3\x83\x86\x84\1\1h" "\0\0\2\0\0\0\0\0\3hi"
	"\0\0\6\1\5\0\0\0\5\x82\x86\x84\1\1h";
static const char requests1[] =
	"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
	"GET / HTTP/1.1\r\nHost: h\r\n\r\n";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct conn *server;
	struct world w;
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
	server->record->tls = !http2;
	if (!http2)
		(void)!conn_record_text(server->record, &server->record->alpn, STR("h2"));
	w.top = mode_transparent_new(&w.sink, &w.env, w.conns[0], server);
	layer_event(w.top, &(struct event){ .type = EV_START });
	world_open(&w);
	if (http2)
		world_give(&w, 0, requests2, sizeof(requests2) - 1);
	else
		world_give(&w, 0, (const uint8_t *)requests1, sizeof(requests1) - 1);
	world_give(&w, 1, data + 1, size - 1);
	world_close(&w, 1);
	world_close(&w, 0);
	world_fini(&w);
	return 0;
}
