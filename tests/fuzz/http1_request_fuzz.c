/* SPDX-License-Identifier: MIT */
/* Any bytes from a client through the whole of the regular mode's HTTP/1 path; origins answer each request with
 * "ok". */
#include "layer_world.h"
#include "layers/mode.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct world w;

	if (size < 2)
		return 0;
	world_init(&w, data[0]);
	w.options.body_streaming = data[1] & 1;
	w.options.validate_inbound_headers = !(data[1] & 2);
	data += 2;
	size -= 2;
	w.top = mode_regular_new(&w.sink, &w.env, w.conns[0]);
	layer_event(w.top, &(struct event){ .type = EV_START });
	while (size) {
		size_t part = MIN(size, (size_t)512);

		world_give(&w, 0, data, part);
		for (uint32_t i = 1; i < WORLD_CONNS; i++) {
			if (!w.conns[i] || !w.sent[i])
				continue;
			w.sent[i] = 0;
			world_give(&w, i, (const uint8_t *)answer, sizeof(answer) - 1);
		}
		data += part;
		size -= part;
	}
	world_close(&w, 0);
	world_fini(&w);
	return 0;
}
