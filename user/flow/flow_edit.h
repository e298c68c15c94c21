/* SPDX-License-Identifier: MIT */
/*
 * Changing a flow while one has it: in a hook that asks, or in the layer that owns it. Nothing here touches a slab or a
 * connection record's count, which only the flow's worker may: what is replaced waits in the flow until it is back.
 * All texts and bytes are copied into the flow. Functions that return int return 0 or -ENOMEM, unless said otherwise.
 * Thread: whoever owns the flow. Source: mitmproxy 12 flow.py, http.py; spec hooks-addons 4 and 5.
 */
#pragma once

#include "flow/flow.h"

/* Value none removes it. m: one of the flow's two messages. */
int flow_set_header(struct flow *f, struct http_message *m, struct str name, struct str value) __must_check;

/* The request goes there instead. Host and authority follow, where the request has them. */
int flow_set_target(struct flow *f, struct str host, uint16_t port) __must_check;
int flow_set_scheme(struct flow *f, struct str scheme) __must_check;
int flow_set_method(struct flow *f, struct str method) __must_check;
int flow_set_path(struct flow *f, struct str path) __must_check;

/* reason none: the usual words. */
int flow_set_status(struct flow *f, uint16_t status, struct str reason) __must_check;

/*
 * The whole body, as it goes over the wire. Content-Length follows, unless there is a Transfer-Encoding. Without
 * effect on what was streamed already.
 */
int flow_set_body(struct flow *f, struct http_message *m, const void *bytes, size_t len) __must_check;

/*
 * The same for what the body says: it is coded as the message's Content-Encoding tells. A coding that is not known is
 * not said any more: the field goes, and the body is the content.
 */
int flow_set_content(struct flow *f, struct http_message *m, const void *bytes, size_t len) __must_check;

/* The response is this one, whoever would have answered. body is its content; Content-Length is added. */
int flow_respond(struct flow *f, uint16_t status, const struct header *headers, uint32_t count, const void *body,
		 size_t len) __must_check;

/* The message that a tcp_message or websocket_message hook is about. -EINVAL: there is none. */
int flow_set_message(struct flow *f, const void *bytes, size_t len) __must_check;
int flow_drop_message(struct flow *f) __must_check;

/*
 * Ends it: with error "Connection killed.", and as soon as it is back. -EPERM "Flow is not killable.": it is over, or
 * killed already.
 */
int flow_kill(struct flow *f, struct stamp at);
/* In a hook: it stays with whoever was asked, once all addons have seen it, until it is resumed or killed. */
void flow_intercept(struct flow *f);
void flow_resume(struct flow *f);
