/* SPDX-License-Identifier: MIT */
/* What the HTTP playbooks share: how a dialogue begins and ends, and messages that recur. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "layers/http.h"
#include "layers/mode.h"
#include "playbook.h"

#define GET_A "GET http://example.com/a HTTP/1.1\r\nHost: example.com\r\nX-Case: Kept\r\n\r\n"
#define GET_A_UP "GET /a HTTP/1.1\r\nHost: example.com\r\nX-Case: Kept\r\n\r\n"
#define OK_5 "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"

#define ERROR_PAGE(status, reason, n, text)                                                                   \
	"HTTP/1.1 " status " " reason "\r\nServer: mitm-bpf " MITM_VERSION "\r\nConnection: close\r\n"        \
	"Content-Type: text/html\r\ncontent-length: " n "\r\n\r\n"                                            \
	"<html>\n<head>\n    <title>" status " " reason "</title>\n</head>\n<body>\n    <h1>" status " "      \
	reason "</h1>\n    <p>" text "</p>\n</body>\n</html>"

struct play {
	struct playbook pb;
	struct layer *l;
};

/* An explicit proxy's client. False: memory is out, on purpose. */
static inline bool play_regular(struct play *p)
{
	if (playbook_init(&p->pb) < 0)
		return false;
	p->l = mode_regular_new(&p->pb.sink, &p->pb.env, p->pb.client);
	if (p->l)
		return true;
	playbook_fini(&p->pb, NULL);
	return false;
}

/* A steered client; the server is connected first. */
static inline bool play_transparent(struct play *p)
{
	if (playbook_init(&p->pb) < 0)
		return false;
	p->l = mode_transparent_new(&p->pb.sink, &p->pb.env, p->pb.client, p->pb.server);
	if (p->l)
		return true;
	playbook_fini(&p->pb, NULL);
	return false;
}

static inline void play_end(struct play *p)
{
	playbook_fini(&p->pb, p->l);
}

static inline const struct flow *first_flow(const struct play *p)
{
	assert_false(list_empty(&p->pb.flows));
	return list_entry(p->pb.flows.next, struct flow, link);
}

static inline void assert_str(struct str got, const char *want)
{
	assert_int_equal(got.len, strlen(want));
	assert_memory_equal(got.ptr, want, got.len);
}

static inline void assert_body(const struct body *b, const char *want)
{
	char bytes[256];
	size_t len = chain_peek(&b->data, 0, bytes, sizeof(bytes));

	assert_int_equal(len, strlen(want));
	assert_memory_equal(bytes, want, len);
}
