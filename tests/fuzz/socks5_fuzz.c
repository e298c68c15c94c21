/* SPDX-License-Identifier: MIT */
/*
 * A SOCKS 5 client: its messages through the codec alone, never beyond their end; then all of it through the layer, in
 * pieces, with a server behind that answers. The first byte seeds the pieces, the second says whether a password is
 * wanted and whether connections are opened early.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "crypto/proxy_auth.h"
#include "layer_world.h"
#include "layers/mode.h"
#include "wire/socks5.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Every reader by itself: it never reads beyond the end, and never claims more than there is. */
static void read_alone(struct str in)
{
	struct socks5_credentials c;
	struct socks5_request r;
	char *copy = malloc(in.len ? in.len : 1);
	bool offered;
	int len;

	if (!copy)
		return;
	memcpy(copy, in.ptr, in.len);
	in.ptr = copy;
	len = socks5_read_greeting(in, SOCKS5_PASSWORD, &offered);
	BUG_ON(len > (int)in.len || len > SOCKS5_MESSAGE_MAX);
	len = socks5_read_credentials(in, &c);
	BUG_ON(len > (int)in.len || len > SOCKS5_MESSAGE_MAX);
	len = socks5_read_request(in, &r);
	BUG_ON(len > (int)in.len || len > SOCKS5_MESSAGE_MAX);
	BUG_ON(len > 0 && strlen(r.host) > SOCKS5_NAME_MAX);
	free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct proxy_auth *auth;
	struct world w;
	struct err e;

	if (size < 2)
		return 0;
	if (!auth && proxy_auth_new(&auth, STR("u:p"), STR(""), &e) < 0)
		abort();
	read_alone((struct str){ (const char *)data + 2, size - 2 });
	world_init(&w, data[0]);
	w.options.proxyauth = data[1] & 1 ? auth : NULL;
	w.options.connection_eager = !(data[1] & 2);
	w.top = mode_socks5_new(&w.sink, &w.env, w.conns[0]);
	layer_event(w.top, &(struct event){ .type = EV_START });
	world_give(&w, 0, data + 2, size - 2);
	for (uint32_t i = 1; i < WORLD_CONNS; i++)
		if (w.conns[i] && w.sent[i])
			world_give(&w, i, (const uint8_t *)"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 40);
	world_close(&w, 0);
	world_fini(&w);
	return 0;
}
