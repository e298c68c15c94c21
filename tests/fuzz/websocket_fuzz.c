/* SPDX-License-Identifier: MIT */
/* Any bytes from both peers of a WebSocket, with and without permessage-deflate and limits. */
#include "layer_world.h"
#include "layers/mode.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char request[] =
	"GET http://h/ HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n";

static const char *const answers[] = {
	"HTTP/1.1 101 -\r\nUpgrade: websocket\r\n\r\n",
	"HTTP/1.1 101 -\r\nUpgrade: websocket\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
	"HTTP/1.1 101 -\r\nUpgrade: websocket\r\nSec-WebSocket-Extensions: x, permessage-deflate; "
	"client_max_window_bits=9; server_no_context_takeover\r\n\r\n",
	"HTTP/1.1 101 -\r\nUpgrade: websocket\r\nSec-WebSocket-Extensions: permessage-deflate; "
	"server_max_window_bits=8; client_no_context_takeover\r\n\r\n",
};

/* The first two bytes choose a world; then each piece has a byte for who says it and how much of it there is. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *answer;
	struct world w;

	if (size < 2)
		return 0;
	world_init(&w, data[0]);
	answer = answers[data[1] & 3];
	w.options.body_streaming = !(data[1] & 4);
	if (data[1] & 8)
		w.options.body_capture_max = 16;
	data += 2;
	size -= 2;
	w.top = mode_regular_new(&w.sink, &w.env, w.conns[0]);
	layer_event(w.top, &(struct event){ .type = EV_START });
	world_give(&w, 0, (const uint8_t *)request, sizeof(request) - 1);
	BUG_ON(!w.conns[1]);
	world_give(&w, 1, (const uint8_t *)answer, strlen(answer));
	while (size) {
		size_t part = MIN(size - 1, (size_t)(data[0] & 0x7f));

		if (w.conns[data[0] >> 7])
			world_give(&w, data[0] >> 7, data + 1, part);
		data += 1 + part;
		size -= 1 + part;
	}
	world_close(&w, 1);
	world_close(&w, 0);
	world_fini(&w);
	return 0;
}
