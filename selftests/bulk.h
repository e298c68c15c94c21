/* SPDX-License-Identifier: MIT */
/*
 * Bulk transfers through the proxy, over what memory_test.c asks for: HTTP/1, HTTP/2, WebSocket or bytes, in TLS or
 * not, towards the client or the server. Each end is a thread that blocks. The receiver is the slow one: it stands
 * still until the sender does, too, and then reads in bursts.
 */
#pragma once

#include <arpa/inet.h>
#include <errno.h>
#include <nghttp2/nghttp2.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/util.h"

enum protocol { H1, H2, WS, TCP };

#define BULK_STALL_AT  ((uint64_t)1 << 20)       /* the receiver's first stop */
#define BULK_BURST     ((uint64_t)32 << 20)      /* and one of a few milliseconds after each of these */
#define BULK_PIECE     ((size_t)64 << 10)
#define BULK_PERIOD    65521
#define BULK_SOCKET    (128 << 10)               /* of our own sockets' buffers: what the proxy holds shall show */

struct bulk {
	enum protocol protocol;
	bool tls, upload;
	bool hasty;                      /* no stops: a warm-up */
	uint64_t bytes;
	_Atomic uint64_t sent, got;
	uint64_t ahead_max;              /* sent and not read when both stood still */
	double stood_s;                  /* how long the sender did nothing, at the stop */
	_Atomic bool failed, accepted;
	char why[160];
	uint16_t proxy_port;
	int listener;
	SSL_CTX *client_ctx, *server_ctx;
};

struct end {
	struct bulk *b;
	int fd;
	SSL *ssl;
	bool client, sends;
	char in[32768];
	size_t in_at, in_len;
};

static uint8_t bulk_pattern[BULK_PERIOD + BULK_PIECE];

static inline double bulk_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static inline void bulk_sleep_ms(long ms)
{
	nanosleep(&(struct timespec){ ms / 1000, ms % 1000 * 1000000 }, NULL);
}

static bool bulk_fail(struct end *e, const char *why)
{
	if (!atomic_exchange(&e->b->failed, true))
		snprintf(e->b->why, sizeof(e->b->why), "%s: %s (%s)", e->client ? "client" : "server", why,
			 strerror(errno));
	return false;
}

/* --- bytes ----------------------------------------------------------------------------------------------------- */

static bool bulk_write(struct end *e, const void *bytes, size_t len)
{
	const char *at = bytes;

	while (len) {
		ssize_t done = e->ssl ? SSL_write(e->ssl, at, (int)len) : send(e->fd, at, len, MSG_NOSIGNAL);

		if (done <= 0)
			return bulk_fail(e, "cannot send");
		at += done;
		len -= (size_t)done;
	}
	return true;
}

/* What is there, at least a byte. */
static bool bulk_fill(struct end *e)
{
	ssize_t got = e->ssl ? SSL_read(e->ssl, e->in, sizeof(e->in)) : recv(e->fd, e->in, sizeof(e->in), 0);

	if (got <= 0)
		return bulk_fail(e, "nothing more to read");
	e->in_at = 0;
	e->in_len = (size_t)got;
	return true;
}

static bool bulk_read(struct end *e, void *out, size_t len)
{
	char *to = out;

	while (len) {
		size_t part = MIN(len, e->in_len - e->in_at);

		memcpy(to, e->in + e->in_at, part);
		e->in_at += part;
		to += part;
		len -= part;
		if (len && !bulk_fill(e))
			return false;
	}
	return true;
}

/* An HTTP/1 head. */
static bool bulk_read_head(struct end *e, char *head, size_t size)
{
	size_t len = 0;

	while (len + 1 < size) {
		if (!bulk_read(e, head + len, 1))
			return false;
		head[++len] = 0;
		if (len >= 4 && memcmp(head + len - 4, "\r\n\r\n", 4) == 0)
			return true;
	}
	return bulk_fail(e, "no end of a head");
}

/* --- the two paces --------------------------------------------------------------------------------------------- */

/* Until the sender has done nothing for long enough; a second at least. */
static void bulk_stand_still(struct bulk *b)
{
	double begin = bulk_now(), still = begin, now = begin;
	uint64_t sent = b->sent;

	while (now - begin < 30 && (now - begin < 1 || now - still < 0.4)) {
		bulk_sleep_ms(10);
		now = bulk_now();
		if (b->sent == sent)
			continue;
		sent = b->sent;
		still = now;
	}
	b->stood_s = now - still;
	b->ahead_max = sent - b->got;
}

/* The receiver has got these. */
static bool bulk_take(struct end *e, const void *bytes, size_t len)
{
	struct bulk *b = e->b;
	uint64_t before = b->got, after = before + len;
	const uint8_t *at = bytes;

	for (size_t done = 0, part; done < len; done += part) {
		part = MIN(len - done, BULK_PIECE);
		if (memcmp(at + done, bulk_pattern + (before + done) % BULK_PERIOD, part) != 0)
			return bulk_fail(e, "other bytes than were sent");
	}
	b->got = after;
	if (b->hasty)
		return true;
	if (before < BULK_STALL_AT && after >= BULK_STALL_AT)
		bulk_stand_still(b);
	else if (before / BULK_BURST != after / BULK_BURST)
		bulk_sleep_ms(20);
	return true;
}

/* The next piece to be sent; *len may be made smaller. */
static const uint8_t *bulk_next(struct bulk *b, size_t *len)
{
	uint64_t at = b->sent;

	*len = (size_t)MIN((uint64_t)*len, b->bytes - at);
	return bulk_pattern + at % BULK_PERIOD;
}

static bool bulk_receive(struct end *e)
{
	struct bulk *b = e->b;

	while (b->got < b->bytes) {
		size_t part = (size_t)MIN((uint64_t)(e->in_len - e->in_at), b->bytes - b->got);

		if (part == 0 && !bulk_fill(e))
			return false;
		if (part && !bulk_take(e, e->in + e->in_at, part))
			return false;
		e->in_at += part;
	}
	return true;
}

static bool bulk_send(struct end *e)
{
	while (e->b->sent < e->b->bytes) {
		size_t len = BULK_PIECE;
		const uint8_t *piece = bulk_next(e->b, &len);

		if (!bulk_write(e, piece, len))
			return false;
		e->b->sent += len;
	}
	return true;
}

/* --- HTTP/1, WebSocket, bytes ---------------------------------------------------------------------------------- */

static bool bulk_say(struct end *e, const char *fmt, unsigned long long number)
{
	char text[512];
	int len = snprintf(text, sizeof(text), fmt, number);

	return bulk_write(e, text, (size_t)len);
}

static bool bulk_h1(struct end *e)
{
	unsigned long long bytes = e->b->bytes;
	char head[4096];

	if (e->client && e->sends)
		return bulk_say(e, "PUT /up HTTP/1.1\r\nHost: bulk\r\nContent-Length: %llu\r\n\r\n", bytes) &&
		       bulk_send(e) && bulk_read_head(e, head, sizeof(head));
	if (e->client)
		return bulk_say(e, "GET /down HTTP/1.1\r\nHost: bulk\r\n\r\n", 0) &&
		       bulk_read_head(e, head, sizeof(head)) && bulk_receive(e);
	if (!bulk_read_head(e, head, sizeof(head)))
		return false;
	if (e->sends)
		return bulk_say(e, "HTTP/1.1 200 OK\r\nContent-Length: %llu\r\n\r\n", bytes) && bulk_send(e);
	return bulk_receive(e) && bulk_say(e, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 0);
}

/* A mask of zeros leaves a payload as it is. */
static bool bulk_ws_send(struct end *e)
{
	while (e->b->sent < e->b->bytes) {
		size_t len = BULK_PIECE, head_len = e->client ? 14 : 10;
		const uint8_t *piece = bulk_next(e->b, &len);
		uint8_t head[14] = { 0x82, (uint8_t)(127 | (e->client ? 0x80 : 0)) };

		for (int i = 0; i < 8; i++)
			head[2 + i] = (uint8_t)((uint64_t)len >> (56 - 8 * i));
		if (!bulk_write(e, head, head_len) || !bulk_write(e, piece, len))
			return false;
		e->b->sent += len;
	}
	return true;
}

static bool bulk_ws_frame(struct end *e)
{
	uint8_t head[14], more[BULK_PIECE], *key = head + 10;
	uint64_t len;
	int extra;

	if (!bulk_read(e, head, 2))
		return false;
	len = head[1] & 127;
	extra = len == 127 ? 8 : len == 126 ? 2 : 0;
	if (!bulk_read(e, head + 2, (size_t)extra) || ((head[1] & 0x80) && !bulk_read(e, key, 4)))
		return false;
	for (int i = 0; i < extra; i++)
		len = (i ? len << 8 : 0) | head[2 + i];
	if ((head[0] & 0x0f) > 2 || len > e->b->bytes - e->b->got)
		return bulk_fail(e, "an odd frame");
	for (uint64_t done = 0; done < len;) {
		size_t part = (size_t)MIN(len - done, (uint64_t)sizeof(more));

		if (!bulk_read(e, more, part))
			return false;
		for (size_t i = 0; i < part && (head[1] & 0x80); i++)
			more[i] ^= key[(done + i) % 4];
		if (!bulk_take(e, more, part))
			return false;
		done += part;
	}
	return true;
}

static bool bulk_ws(struct end *e)
{
	char head[4096];

	if (e->client && !bulk_say(e, "GET /ws HTTP/1.1\r\nHost: bulk\r\nUpgrade: websocket\r\n"
				   "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
				   "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", 0))
		return false;
	if (!bulk_read_head(e, head, sizeof(head)))
		return false;
	if (!e->client && !bulk_say(e, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
				    "Connection: Upgrade\r\n"
				    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n", 0))
		return false;
	if (e->sends)
		return bulk_ws_send(e) && bulk_read(e, head, 1);
	while (e->b->got < e->b->bytes)
		if (!bulk_ws_frame(e))
			return false;
	return bulk_write(e, e->client ? "\x88\x80\0\0\0\0" : "\x88\0", e->client ? 6 : 2);
}

/* The client says a byte that no protocol begins with, so that nobody waits for anything. */
static bool bulk_tcp(struct end *e)
{
	char byte = 1;

	if (!(e->client ? bulk_write(e, &byte, 1) : bulk_read(e, &byte, 1)))
		return false;
	if (e->sends)
		return bulk_send(e) && bulk_read(e, &byte, 1);
	return bulk_receive(e) && bulk_write(e, &byte, 1);
}

/* --- HTTP/2 ---------------------------------------------------------------------------------------------------- */

struct h2 {
	struct end *e;
	bool done;
};

static ssize_t h2_read_body(nghttp2_session *session __unused, int32_t stream __unused, uint8_t *buf, size_t len,
			    uint32_t *flags, nghttp2_data_source *source, void *arg __unused)
{
	struct bulk *b = ((struct h2 *)source->ptr)->e->b;
	const uint8_t *piece = bulk_next(b, &len);

	memcpy(buf, piece, len);
	b->sent += len;
	if (b->sent == b->bytes)
		*flags = NGHTTP2_DATA_FLAG_EOF;
	return (ssize_t)len;
}

static int h2_on_data(nghttp2_session *session __unused, uint8_t flags __unused, int32_t stream __unused,
		      const uint8_t *bytes, size_t len, void *arg)
{
	return bulk_take(((struct h2 *)arg)->e, bytes, len) ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
}

static int h2_on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
	static const nghttp2_nv ok[] = { { (uint8_t *)":status", (uint8_t *)"200", 7, 3, 0 } };
	struct h2 *h = arg;
	nghttp2_data_provider body = { .source.ptr = h, .read_callback = h2_read_body };
	bool whole = frame->hd.flags & NGHTTP2_FLAG_END_STREAM;

	if (h->e->client || (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA) || !whole)
		return 0;
	return nghttp2_submit_response(session, frame->hd.stream_id, ok, 1, h->e->sends ? &body : NULL);
}

static int h2_on_close(nghttp2_session *session __unused, int32_t stream __unused, uint32_t error, void *arg)
{
	struct h2 *h = arg;

	h->done = true;
	return error ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

#define NV(n, v) { (uint8_t *)(n), (uint8_t *)(v), strlen(n), strlen(v), 0 }

static int h2_ask(nghttp2_session *session, struct h2 *h)
{
	nghttp2_data_provider body = { .source.ptr = h, .read_callback = h2_read_body };
	struct bulk *b = h->e->b;
	char length[24];

	snprintf(length, sizeof(length), "%llu", (unsigned long long)b->bytes);
	nghttp2_nv head[] = {
		NV(":method", b->upload ? "PUT" : "GET"), NV(":scheme", b->tls ? "https" : "http"),
		NV(":authority", "bulk"), NV(":path", "/"), NV("content-length", length),
	};
	return nghttp2_submit_request(session, NULL, head, b->upload ? 5 : 4, b->upload ? &body : NULL, NULL);
}

static bool h2_step(struct end *e, nghttp2_session *session)
{
	const uint8_t *out;
	ssize_t len = nghttp2_session_mem_send(session, &out);

	if (len < 0)
		return bulk_fail(e, nghttp2_strerror((int)len));
	if (len > 0)
		return bulk_write(e, out, (size_t)len);
	if (!bulk_fill(e))
		return false;
	len = nghttp2_session_mem_recv(session, (uint8_t *)e->in, e->in_len);
	return len >= 0 || bulk_fail(e, nghttp2_strerror((int)len));
}

static bool bulk_h2(struct end *e)
{
	nghttp2_settings_entry window = { NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 1 << 20 };
	nghttp2_session_callbacks *calls;
	nghttp2_session *session;
	struct h2 h = { .e = e };
	bool well = true;

	nghttp2_session_callbacks_new(&calls);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(calls, h2_on_data);
	nghttp2_session_callbacks_set_on_frame_recv_callback(calls, h2_on_frame);
	nghttp2_session_callbacks_set_on_stream_close_callback(calls, h2_on_close);
	if (e->client)
		nghttp2_session_client_new(&session, calls, &h);
	else
		nghttp2_session_server_new(&session, calls, &h);
	nghttp2_session_callbacks_del(calls);
	nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, &window, 1);
	nghttp2_session_set_local_window_size(session, NGHTTP2_FLAG_NONE, 0, 1 << 20);
	if (e->client && h2_ask(session, &h) < 0)
		well = bulk_fail(e, "no request");
	while (well && !h.done)
		well = h2_step(e, session);
	nghttp2_session_del(session);
	return well && (e->b->got == e->b->bytes || e->sends || bulk_fail(e, "the stream ended early"));
}

/* --- ends ------------------------------------------------------------------------------------------------------ */

/* What the proxy speaks with the server is its choice. */
static bool speaks_h2(struct end *e)
{
	const unsigned char *alpn = NULL;
	unsigned len = 0;
	char first = 0;

	if (e->client)
		return e->b->protocol == H2;
	if (e->ssl) {
		SSL_get0_alpn_selected(e->ssl, &alpn, &len);
		return len == 2;
	}
	recv(e->fd, &first, 1, MSG_PEEK);
	return e->b->protocol == H2 && first == 'P' && recv(e->fd, e->in, 3, MSG_PEEK) == 3 &&
	       memcmp(e->in, "PRI", 3) == 0;
}

static bool bulk_tls(struct end *e)
{
	e->ssl = SSL_new(e->client ? e->b->client_ctx : e->b->server_ctx);
	SSL_set_fd(e->ssl, e->fd);
	if (e->client)
		SSL_set_tlsext_host_name(e->ssl, "bulk.test");
	if (e->client && e->b->protocol == H2)
		SSL_set_alpn_protos(e->ssl, (const unsigned char *)"\x02h2", 3);
	return (e->client ? SSL_connect(e->ssl) : SSL_accept(e->ssl)) == 1 || bulk_fail(e, "no TLS");
}

static void bulk_run(struct end *e)
{
	if (e->fd < 0) {
		bulk_fail(e, "no connection");
		return;
	}
	if (e->b->tls && !bulk_tls(e))
		return;
	switch (e->b->protocol) {
	case H1:
	case H2:
		(void)!(speaks_h2(e) ? bulk_h2(e) : bulk_h1(e));
		return;
	case WS:
		(void)!bulk_ws(e);
		return;
	case TCP:
		(void)!bulk_tcp(e);
		return;
	}
}

static void small_buffers(int fd)
{
	int size = BULK_SOCKET;

	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
}

static void *bulk_client(void *arg)
{
	struct end *e = arg;
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(e->b->proxy_port),
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

	e->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	small_buffers(e->fd);
	if (connect(e->fd, (struct sockaddr *)&to, sizeof(to)) < 0)
		bulk_fail(e, "cannot connect");
	else
		bulk_run(e);
	if (e->b->failed)
		shutdown(e->b->listener, SHUT_RDWR);
	return NULL;
}

static void *bulk_server(void *arg)
{
	struct end *e = arg;

	e->fd = accept4(e->b->listener, NULL, NULL, SOCK_CLOEXEC);
	e->b->accepted = true;
	bulk_run(e);
	return NULL;
}

/* One transfer, both ends. */
static void bulk_transfer(struct bulk *b)
{
	struct end *client = calloc(1, sizeof(*client)), *server = calloc(1, sizeof(*server));
	pthread_t thread;

	*client = (struct end){ .b = b, .fd = -1, .client = true, .sends = b->upload };
	*server = (struct end){ .b = b, .fd = -1, .sends = !b->upload };
	pthread_create(&thread, NULL, bulk_server, server);
	bulk_client(client);
	if (b->failed && client->fd >= 0)
		shutdown(client->fd, SHUT_RDWR);
	pthread_join(thread, NULL);
	SSL_free(client->ssl);
	SSL_free(server->ssl);
	close(client->fd);
	if (server->fd >= 0)
		close(server->fd);
	free(client);
	free(server);
}
