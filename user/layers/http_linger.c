/* SPDX-License-Identifier: MIT */
/*
 * A session ends with its client's connection, and what a socket was given still goes out. What a stream of HTTP/2 was
 * given may have to wait for its window: until it is out, the client's connection is not closed.
 */
#include "layers/http.h"

static bool is_unsent(const struct http *h)
{
	for (const struct http_upstream *up = h->upstreams; up; up = up->next)
		if (up->codec && up->codec->ops->unsent && up->codec->ops->unsent(up->codec))
			return true;
	return false;
}

bool http_linger_command(struct layer *l, struct command *cmd)
{
	struct http *h = container_of(l, struct http, base);

	if (cmd->type == CMD_CLOSE && cmd->conn == h->client && !cmd->half && !cmd->reset && is_unsent(h)) {
		h->lingering = true;
		return false;
	}
	return layer_command(l, cmd);
}

void http_linger(struct http *h)
{
	if (!h->lingering || is_unsent(h))
		return;
	h->lingering = false;
	if (h->client->state != CONN_CLOSED)
		layer_close(&h->base, h->client);
}
