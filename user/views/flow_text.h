/* SPDX-License-Identifier: MIT */
/*
 * Flows as terminal text, in mitmdump's words (spec: mitmproxy 12 addons/dumper.py). Where the process that opened the
 * connection is known its name and pid come before the client's address: "curl[4711] 127.0.0.1:50000: GET …".
 * Pure: appends to a text; nothing in it can move a terminal's cursor.
 */
#pragma once

#include "flow/flow.h"

struct text_look {
	int detail;                  /* 1 lines; 2 with headers; 3 with bodies, cut; 4 with whole bodies */
	bool colour;
	bool showhost;               /* the name in the Host header instead of the target */
	uint32_t columns;            /* of the terminal: level 1 cuts URLs by it */
	uint32_t lines_max;          /* of a body at level 3 */
};

/* Request, response and error of an HTTP flow, as far as they are there. */
void flow_text_http(struct strbuf *out, const struct flow *f, const struct text_look *look);

/* The messages and the end of a WebSocket that a file holds. */
void flow_text_websocket(struct strbuf *out, const struct flow *f, const struct text_look *look);

/* One message of a WebSocket that is going on, and how it ended. */
void flow_text_websocket_message(struct strbuf *out, const struct conn_record *client,
				 const struct conn_record *server, const char *path, bool text,
				 const struct tcp_message *m, const struct text_look *look);
void flow_text_websocket_end(struct strbuf *out, const struct flow *f, const struct text_look *look);

/* One message of a TCP or UDP flow. */
void flow_text_message(struct strbuf *out, enum flow_type type, const struct conn_record *client,
		       const struct conn_record *server, const struct tcp_message *m, const struct text_look *look);

/* How a TCP or UDP flow broke. */
void flow_text_error(struct strbuf *out, const struct flow *f, const struct text_look *look);

/* A flow of a kind that cannot be shown yet: one line that says so. */
void flow_text_other(struct strbuf *out, const struct flow *f, const struct text_look *look);
