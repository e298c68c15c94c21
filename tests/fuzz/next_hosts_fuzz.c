/* SPDX-License-Identifier: MIT */
/*
 * The names that peers say (Host, SNI) against lists of patterns, first alone, then through the layer that decides. The
 * first byte seeds the pieces, the second chooses the lists, the third is how much of the rest the server says.
 *
 * Alone: a final question is always answered, and without lists nothing is ignored; what a client calls its destination
 * is a host name, and it is not waited for without end.
 */
#include <errno.h>

#include "core/patterns.h"
#include "layer_world.h"
#include "layers/mode.h"
#include "layers/next_hosts.h"
#include "wire/client_hello.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define LISTS 4

/* Made before the world begins to count memory. */
static const struct patterns *list(uint32_t which)
{
	static const char *const texts[LISTS - 1][2] = {
		{ "^(.+\\.)?example\\.com:443$", "^h:" },
		{ "(a|ab)*c.*[0-9]+", "\\bx{2,}" },
		{ ".", "^$" },
	};
	static struct patterns *made[LISTS];
	struct err e;

	for (uint32_t i = 1; i < LISTS && !made[i]; i++)
		if (patterns_new(&made[i], texts[i - 1], 2, &e) < 0)
			abort();
	return made[which % LISTS];
}

static struct conn *make_server(struct world *w)
{
	struct conn *server = world_conn(&w->sink);

	if (!server || conn_record_text(server->record, &server->record->address.host, STR("h")) < 0)
		abort();
	server->record->address.port = 443;
	return server;
}

static enum next_hosts_verdict ask(struct world *w, const struct conn *server, const uint8_t *data, size_t len,
				   bool final)
{
	char *copy = malloc(len ? len : 1);
	enum next_hosts_verdict v;

	if (!copy)
		abort();
	memcpy(copy, data, len);         /* so that reading past its end is seen */
	v = next_hosts_ignored(&w->env, w->conns[0], server, (struct str){ copy, len }, false, final);
	free(copy);
	return v;
}

static void called(const uint8_t *data, size_t len)
{
	char host[LAYER_HOST_MAX], *copy = malloc(len ? len : 1);
	struct addr ip;
	int ret;

	if (!copy)
		abort();
	memcpy(copy, data, len);
	ret = next_hosts_called((struct str){ copy, len }, host);
	free(copy);
	if (ret <= 0) {
		if (ret != -ENOENT && (ret < 0 || len >= NEXT_HOSTS_BYTES_MAX))
			abort();
		return;
	}
	if (ret >= LAYER_HOST_MAX || !client_hello_host_valid((struct str){ host, (size_t)ret }) ||
	    addr_parse(&ip, (struct str){ host, (size_t)ret }))
		abort();
}

static void alone(struct world *w, const struct conn *server, const uint8_t *data, size_t size)
{
	enum next_hosts_verdict early = ask(w, server, data, size, false), final = ask(w, server, data, size, true);

	if (final == NEXT_HOSTS_WAIT || (early != NEXT_HOSTS_WAIT && early != final))
		abort();
	if (!w->options.ignore_hosts && !w->options.allow_hosts && final != NEXT_HOSTS_NO)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct conn *server;
	struct world w;
	size_t said;

	if (size < 3)
		return 0;
	(void)list(0);
	world_init(&w, data[0]);
	w.options.ignore_hosts = list(data[1]);
	w.options.allow_hosts = list(data[1] >> 2);
	w.options.tcp_hosts = list(data[1] >> 4);
	w.options.show_ignored_hosts = data[1] & 64;
	w.options.connection_eager = !(data[1] & 128);
	said = MIN((size_t)data[2], size - 3);
	server = make_server(&w);
	alone(&w, server, data + 3, size - 3);
	called(data + 3, size - 3);
	w.top = mode_transparent_new(&w.sink, &w.env, w.conns[0], server);
	layer_event(w.top, &(struct event){ .type = EV_START });
	world_open(&w);
	world_give(&w, 0, data + 3 + said, size - 3 - said);
	world_give(&w, 1, data + 3, said);
	world_close(&w, 1);
	world_close(&w, 0);
	world_fini(&w);
	return 0;
}
