/* SPDX-License-Identifier: MIT */
/* The URL of a request and addresses as people read them (spec: mitmproxy 12 net/http/url.py, utils/human.py). */
#pragma once

#include "flow/flow.h"

/* Scheme, host and port of the target; of a CONNECT "host:port". An IPv6 host gets brackets. */
void http_url(struct strbuf *out, const struct http_request *r);

/* The same with the name that the client asked for, from the Host header or :authority, where there is one. */
void http_pretty_url(struct strbuf *out, const struct http_request *r);

/* "192.0.2.1:80", "[2001:db8::1]:443", "example.com:80", "*:80" for the unspecified address, "<no address>". */
void endpoint_text(struct strbuf *out, const struct endpoint *e);

/* "99b", "1.1k", "100m": bytes in at most four figures. */
#define PRETTY_SIZE_MAX 32
const char *pretty_size(uint64_t bytes, char out[static PRETTY_SIZE_MAX]);
