/* SPDX-License-Identifier: MIT */
/*
 * A WebSocket after its 101 (spec/layers 12): whole messages are the unit that hooks see, change and drop; messages
 * that are too long to be held go on piece by piece and are seen when they are over. Both sides use the extension
 * parameters of the response. Pings, pongs and closes are the peers' own matter: they are forwarded.
 */
#pragma once

#include "core/conn.h"

struct flow;

/*
 * flow: an HTTP flow with its 101 response and flow->http.messages; the layer owns it from now on, also when it fails.
 * parent: not NULL. NULL when memory is out.
 */
struct layer *websocket_new(struct layer *parent, struct conn *client, struct conn *server,
			    struct flow *flow) __must_check;

/*
 * One message more, as if the other side had sent it: it passes the hook, then goes to the client or to the server.
 * Takes over data, also when it fails: -EPIPE when the WebSocket is over, -EAGAIN when many wait already, -ENOMEM. Must
 * not be called from inside an event. Thread: the worker's.
 */
int websocket_inject(struct layer *l, bool to_client, bool text, struct chain *data) __must_check;
