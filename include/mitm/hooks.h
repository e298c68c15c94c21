/* SPDX-License-Identifier: MIT */
/* The moments at which somebody outside the data path may look or decide (spec: mitmproxy 12 events). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define HOOKS(X)                                                                                              \
	X(CLIENT_CONNECTED, client_connected)             X(CLIENT_DISCONNECTED, client_disconnected)         \
	X(SERVER_CONNECT, server_connect)                 X(SERVER_CONNECTED, server_connected)               \
	X(SERVER_DISCONNECTED, server_disconnected)       X(SERVER_CONNECT_ERROR, server_connect_error)       \
	X(TLS_CLIENTHELLO, tls_clienthello)               X(TLS_START_CLIENT, tls_start_client)               \
	X(TLS_START_SERVER, tls_start_server)             X(TLS_ESTABLISHED_CLIENT, tls_established_client)   \
	X(TLS_ESTABLISHED_SERVER, tls_established_server) X(TLS_FAILED_CLIENT, tls_failed_client)             \
	X(TLS_FAILED_SERVER, tls_failed_server)           X(NEXT_LAYER, next_layer)                           \
	X(SOCKS5_AUTH, socks5_auth)                                                                            \
	X(HTTP_CONNECT, http_connect)                     X(HTTP_CONNECTED, http_connected)                   \
	X(HTTP_CONNECT_ERROR, http_connect_error)         X(REQUESTHEADERS, requestheaders)                   \
	X(REQUEST, request)                               X(RESPONSEHEADERS, responseheaders)                 \
	X(RESPONSE, response)                             X(ERROR, error)                                     \
	X(TCP_START, tcp_start)                           X(TCP_MESSAGE, tcp_message)                         \
	X(TCP_END, tcp_end)                               X(TCP_ERROR, tcp_error)                             \
	X(UDP_START, udp_start)                           X(UDP_MESSAGE, udp_message)                         \
	X(UDP_END, udp_end)                               X(UDP_ERROR, udp_error)                             \
	X(HTTP_CONNECT_UPSTREAM, http_connect_upstream)   X(WEBSOCKET_START, websocket_start)                 \
	X(WEBSOCKET_MESSAGE, websocket_message)           X(WEBSOCKET_END, websocket_end)

enum hook_id {
#define X(upper, lower) HOOK_##upper,
	HOOKS(X)
#undef X
	HOOK_COUNT
};

static inline uint64_t hook_bit(enum hook_id id)
{
	return UINT64_C(1) << id;
}

#define HOOKS_ALL (hook_bit(HOOK_COUNT) - 1)

/* About a flow; the others are about a connection. */
static inline bool hook_has_flow(enum hook_id id)
{
	return id >= HOOK_HTTP_CONNECT && id < HOOK_COUNT;
}

/* "requestheaders", … */
const char *hook_name(enum hook_id id);
/* HOOK_COUNT: no hook of that name. */
enum hook_id hook_find(const char *name);

struct flow;
struct conn_record;

/*
 * One question. What it is about (the flow) belongs to who is asked until the answer; records are pictures of the
 * moment. What may be decided is in the fields below "decisions"; a flow is changed with flow/flow_edit.h.
 */
struct hook_event {
	enum hook_id hook;
	struct flow *flow;               /* hook_has_flow() */
	const struct conn_record *client, *server;       /* of hooks without a flow; NULL: none */
	uint8_t client_state, server_state;              /* 1: can read, 2: can write */
	bool about_server;               /* tls_*: whose TLS it is */
	char *user, *password;           /* socks5_auth */

	/* decisions */
	char *error;                     /* client_connected, server_connect: not this one, and why */
	char *host;                      /* server_connect: go there instead */
	uint16_t port;
	bool ignore, server_first;       /* tls_clienthello; both preset */
	bool valid;                      /* socks5_auth; preset by proxyauth */
	int64_t resume_ns, kill_ns;      /* of an intercepted flow: after so long; 0: not by itself */
};

/* Copies text into *field in place of what is there. Returns 0 or -ENOMEM. */
int hook_set_text(char **field, const char *text);
void hook_event_fini(struct hook_event *ev);
