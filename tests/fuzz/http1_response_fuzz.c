/* SPDX-License-Identifier: MIT */
/* Any bytes from an origin, as the answer to requests of several kinds. The first two bytes choose which and how. */
#include "layer_world.h"
#include "layers/mode.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const requests[] = {
	"GET http://h/ HTTP/1.1\r\n\r\n",
	"HEAD http://h/ HTTP/1.1\r\n\r\n",
	"POST http://h/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n2\r\nab\r\n",
	"GET http://h/1 HTTP/1.1\r\n\r\nGET http://h/2 HTTP/1.1\r\n\r\nGET http://h/3 HTTP/1.0\r\n\r\n",
	"GET http://h/ HTTP/1.1\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *request;
	struct world w;

	if (size < 2)
		return 0;
	request = requests[data[0] % ARRAY_SIZE(requests)];
	world_init(&w, data[0]);
	w.options.body_streaming = data[1] & 1;
	w.options.validate_inbound_headers = !(data[1] & 2);
	w.top = mode_regular_new(&w.sink, &w.env, w.conns[0]);
	layer_event(w.top, &(struct event){ .type = EV_START });
	world_give(&w, 0, (const uint8_t *)request, strlen(request));
	world_give(&w, 1, data + 2, size - 2);
	world_close(&w, 1);
	world_close(&w, 0);
	world_fini(&w);
	return 0;
}
