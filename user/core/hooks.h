/* SPDX-License-Identifier: MIT */
/* The moments at which somebody outside the data path may look or decide (spec: mitmproxy 12 events). */
#pragma once

#include "base/util.h"

#define HOOKS(X)                                                                                              \
	X(CLIENT_CONNECTED, client_connected)             X(CLIENT_DISCONNECTED, client_disconnected)         \
	X(SERVER_CONNECT, server_connect)                 X(SERVER_CONNECTED, server_connected)               \
	X(SERVER_DISCONNECTED, server_disconnected)       X(SERVER_CONNECT_ERROR, server_connect_error)       \
	X(TLS_CLIENTHELLO, tls_clienthello)               X(TLS_START_CLIENT, tls_start_client)               \
	X(TLS_START_SERVER, tls_start_server)             X(TLS_ESTABLISHED_CLIENT, tls_established_client)   \
	X(TLS_ESTABLISHED_SERVER, tls_established_server) X(TLS_FAILED_CLIENT, tls_failed_client)             \
	X(TLS_FAILED_SERVER, tls_failed_server)           X(NEXT_LAYER, next_layer)                           \
	X(HTTP_CONNECT, http_connect)                     X(HTTP_CONNECTED, http_connected)                   \
	X(HTTP_CONNECT_ERROR, http_connect_error)         X(REQUESTHEADERS, requestheaders)                   \
	X(REQUEST, request)                               X(RESPONSEHEADERS, responseheaders)                 \
	X(RESPONSE, response)                             X(ERROR, error)                                     \
	X(TCP_START, tcp_start)                           X(TCP_MESSAGE, tcp_message)                         \
	X(TCP_END, tcp_end)                               X(TCP_ERROR, tcp_error)                             \
	X(HTTP_CONNECT_UPSTREAM, http_connect_upstream)   X(WEBSOCKET_START, websocket_start)                 \
	X(WEBSOCKET_MESSAGE, websocket_message)           X(WEBSOCKET_END, websocket_end)

enum hook_id {
#define X(upper, lower) HOOK_##upper,
	HOOKS(X)
#undef X
	HOOK_COUNT
};

_Static_assert(HOOK_COUNT <= 64, "hook sets are one 64-bit mask");

static inline uint64_t hook_bit(enum hook_id id)
{
	return UINT64_C(1) << id;
}

/* "requestheaders", … */
const char *hook_name(enum hook_id id);
