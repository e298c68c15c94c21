/* SPDX-License-Identifier: MIT */
/*
 * The benchmark's origin: one thread, one epoll, TLS and plain HTTP/1.1 with as little CPU as that takes, so that the
 * proxy in front of it is what is measured. GET /1k, GET /bytes/N, GET /stamps (pieces of a body, each the time at
 * which it was sent), any request with a Content-Length body, which is read and thrown away, and a WebSocket that
 * echoes. Not
 * a server for anybody else: it trusts its client.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "talk.h"

enum { HEAD_BYTES_MAX = 8192, IO_BYTES = 65536, IO_ROUNDS = 8, EVENTS = 256, WITH_HEAD_BYTES = 2048 };

struct conn {
	int fd;
	bool listener, tls, handshake_done, want_write, close_after;
	bool websocket;              /* echoes from now on */
	uint32_t stamps_left;        /* pieces of /stamps still to be sent */
	struct conn *next_stamped;
	SSL *ssl;
	uint64_t sink_left;          /* bytes of a request body still to be read */
	uint64_t body_left;          /* bytes of a response body still to be sent */
	uint32_t in_len, out_len, out_sent;
	bool reply_due;              /* once the request body was read */
	char in[HEAD_BYTES_MAX];     /* a request head, perhaps partial */
	char out[512];               /* a response head */
};

static int epoll_fd;
static struct conn *stamped;         /* connections that are sent the time now and then */
static SSL_CTX *tls_ctx;
static char zeros[IO_BYTES];
static char sink[IO_BYTES];

static void die(const char *what)
{
	fprintf(stderr, "origin: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void conn_close(struct conn *c)
{
	for (struct conn **at = &stamped; *at; at = &(*at)->next_stamped)
		if (*at == c) {
			*at = c->next_stamped;
			break;
		}
	if (c->ssl) {
		SSL_shutdown(c->ssl);
		SSL_free(c->ssl);
	}
	close(c->fd);
	free(c);
}

static void conn_watch(struct conn *c, bool write)
{
	struct epoll_event ev = { .events = EPOLLIN | (write ? EPOLLOUT : 0), .data.ptr = c };

	if (c->want_write == write)
		return;
	c->want_write = write;
	epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &ev);
}

/* 0: not now; -1: gone. */
static int tls_why(struct conn *c, int n)
{
	int why = SSL_get_error(c->ssl, n);

	return why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE ? 0 : -1;
}

/* > 0: bytes; 0: not now; -1: gone. */
static int conn_read(struct conn *c, void *buf, int len)
{
	int n;

	if (!c->ssl) {
		n = (int)recv(c->fd, buf, (size_t)len, 0);
		return n > 0 ? n : n < 0 && errno == EAGAIN ? 0 : -1;
	}
	ERR_clear_error();
	n = SSL_read(c->ssl, buf, len);
	return n > 0 ? n : tls_why(c, n);
}

static int conn_write(struct conn *c, const void *buf, int len)
{
	int n;

	if (!c->ssl) {
		n = (int)send(c->fd, buf, (size_t)len, MSG_NOSIGNAL);
		return n > 0 ? n : n < 0 && errno == EAGAIN ? 0 : -1;
	}
	ERR_clear_error();
	n = SSL_write(c->ssl, buf, len);
	return n > 0 ? n : tls_why(c, n);
}

/* The head, and a short body with it, in one write, so that a small response is one TLS record. */
static int send_head(struct conn *c)
{
	char both[sizeof(c->out) + WITH_HEAD_BYTES];
	uint32_t head = c->out_len - c->out_sent;
	uint32_t body = c->body_left < WITH_HEAD_BYTES ? (uint32_t)c->body_left : 0;
	int n;

	memcpy(both, c->out + c->out_sent, head);
	memset(both + head, 'x', body);
	n = conn_write(c, both, (int)(head + body));
	if (n <= 0)
		return n;
	if ((uint32_t)n < head) {
		c->out_sent += (uint32_t)n;
		return n;
	}
	c->body_left -= (uint32_t)n - head;
	c->out_sent = c->out_len = 0;
	return n;
}

/* 1: everything was sent; 0: later; -1: gone. */
static int conn_flush(struct conn *c)
{
	for (int i = 0; i < IO_ROUNDS; i++) {
		int n;

		if (c->out_len) {
			n = send_head(c);
		} else if (c->body_left) {
			n = conn_write(c, zeros, c->body_left < IO_BYTES ? (int)c->body_left : IO_BYTES);
			if (n > 0)
				c->body_left -= (uint32_t)n;
		} else {
			return c->close_after ? -1 : 1;
		}
		if (n <= 0)
			return n;
	}
	return 0;
}

static void reply(struct conn *c, const char *status, uint64_t length)
{
	c->body_left = length;
	c->out_sent = 0;
	c->out_len = (uint32_t)snprintf(c->out, sizeof(c->out),
					"HTTP/1.1 %s\r\nServer: origin\r\nContent-Type: text/plain\r\n"
					"Content-Length: %llu\r\n%s\r\n",
					status, (unsigned long long)length,
					c->close_after ? "Connection: close\r\n" : "");
}

/* Nothing but the time, in pieces that never fill a socket's buffer. */
static int send_stamp(struct conn *c)
{
	char piece[STAMP_BYTES + 1];

	snprintf(piece, sizeof(piece), "%0*llx", STAMP_BYTES, (unsigned long long)talk_now_ns());
	if (conn_write(c, piece, STAMP_BYTES) != STAMP_BYTES)
		return -1;
	c->stamps_left--;
	return 0;
}

static void send_stamps(void)
{
	struct conn *c = stamped;

	stamped = NULL;
	while (c) {
		struct conn *next = c->next_stamped;

		if (send_stamp(c) < 0) {
			conn_close(c);
		} else if (c->stamps_left) {
			c->next_stamped = stamped;
			stamped = c;
		}
		c = next;
	}
}

/* The head is terminated with NUL at its empty line. */
static void answer(struct conn *c, const char *head)
{
	const char *length = strcasestr(head, "\r\ncontent-length:");
	const char *path = strchr(head, ' ');

	c->close_after = strcasestr(head, "\r\nconnection: close") != NULL;
	if (strcasestr(head, "\r\ntransfer-encoding:")) {
		c->close_after = true;
		reply(c, "411 Length Required", 0);
	} else if (length && strtoull(length + 17, NULL, 10)) {
		c->sink_left = strtoull(length + 17, NULL, 10);
		c->reply_due = true;
	} else if (path && strncmp(path + 1, "/bytes/", 7) == 0) {
		reply(c, "200 OK", strtoull(path + 8, NULL, 10));
	} else if (path && strncmp(path + 1, "/1k", 3) == 0) {
		reply(c, "200 OK", 1024);
	} else if (path && strncmp(path + 1, "/stamps", 7) == 0) {
		reply(c, "200 OK", (uint64_t)STAMPS * STAMP_BYTES);
		c->body_left = 0;
		c->stamps_left = STAMPS;
		c->next_stamped = stamped;
		stamped = c;
	} else if (path && strncmp(path + 1, "/websocket", 10) == 0) {
		c->websocket = true;
		c->out_sent = 0;
		c->out_len = (uint32_t)snprintf(c->out, sizeof(c->out), "%s", TALK_WEBSOCKET_ANSWER);
	} else {
		reply(c, "404 Not Found", 0);
	}
}

/* Unmasked, the client's frames are the answer. 1: one is on its way; 0: more is needed; -1: gone. */
static int echo(struct conn *c)
{
	uint8_t *in = (uint8_t *)c->in;
	size_t used = 0, made = 0;
	char out[HEAD_BYTES_MAX];

	while (c->in_len - used > 1 && c->in_len - used >= TALK_FRAME_HEAD + 4u + (in[used + 1] & 127u)) {
		uint32_t len = in[used + 1] & 127u;

		if (len > 125 || !(in[used + 1] & 128))
			return -1;
		out[made++] = (char)in[used];
		out[made++] = (char)len;
		for (uint32_t i = 0; i < len; i++)
			out[made++] = (char)(in[used + 6 + i] ^ in[used + 2 + i % 4]);
		used += 6 + len;
	}
	memmove(c->in, c->in + used, c->in_len - used);
	c->in_len -= (uint32_t)used;
	return made == 0 || conn_write(c, out, (int)made) == (int)made ? 0 : -1;
}

/* Uses up what is in c->in: body bytes, then at most one head. 1: a response is ready; 0: more is needed; -1: gone. */
static int conn_parse(struct conn *c)
{
	uint32_t used = 0;
	char *end;

	if (c->websocket && !c->out_len)
		return echo(c);
	if (c->sink_left) {
		used = c->sink_left < c->in_len ? (uint32_t)c->sink_left : c->in_len;
		c->sink_left -= used;
	} else if (!c->reply_due) {
		c->in[c->in_len] = 0;
		end = strstr(c->in, "\r\n\r\n");
		if (!end)
			return c->in_len == HEAD_BYTES_MAX - 1 ? -1 : 0;
		*end = 0;
		used = (uint32_t)(end + 4 - c->in);
		answer(c, c->in);
	}
	memmove(c->in, c->in + used, c->in_len - used);
	c->in_len -= used;
	if (c->reply_due && !c->sink_left) {
		c->reply_due = false;
		reply(c, "200 OK", 2);
	}
	if (c->out_len || c->body_left)
		return 1;
	return c->in_len ? conn_parse(c) : 0;
}

static int conn_fill(struct conn *c)
{
	int n;

	if (c->sink_left && c->in_len == 0) {
		n = conn_read(c, sink, c->sink_left < IO_BYTES ? (int)c->sink_left : IO_BYTES);
		if (n > 0)
			c->sink_left -= (uint32_t)n;
		return n;
	}
	n = conn_read(c, c->in + c->in_len, (int)(HEAD_BYTES_MAX - 1 - c->in_len));
	if (n > 0)
		c->in_len += (uint32_t)n;
	return n;
}

/* -1: close it. */
static int conn_run(struct conn *c)
{
	int n;

	if (c->tls && !c->handshake_done) {
		ERR_clear_error();
		n = SSL_do_handshake(c->ssl);
		if (n != 1)
			return tls_why(c, n);
		c->handshake_done = true;
	}
	for (int i = 0; i < IO_ROUNDS; i++) {
		if (c->out_len || c->body_left) {
			n = conn_flush(c);
			if (n < 0)
				return -1;
			if (n == 0) {
				conn_watch(c, true);
				return 0;
			}
		}
		n = conn_parse(c);
		if (n < 0)
			return -1;
		if (n == 1)
			continue;
		n = conn_fill(c);
		if (n < 0)
			return -1;
		if (n == 0) {
			conn_watch(c, false);
			return 0;
		}
	}
	/* More may be decrypted already, which epoll does not see: come again, after the others. */
	conn_watch(c, true);
	return 0;
}

static struct conn *conn_new(int fd, bool tls)
{
	struct epoll_event ev = { .events = EPOLLIN };
	struct conn *c = calloc(1, sizeof(*c));

	if (!c)
		die("memory");
	c->fd = fd;
	c->tls = tls;
	ev.data.ptr = c;
	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0)
		die("epoll_ctl");
	return c;
}

static void accept_all(const struct conn *listener)
{
	int one = 1, fd;

	while ((fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		struct conn *c = conn_new(fd, listener->tls);

		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		if (!c->tls)
			continue;
		c->ssl = SSL_new(tls_ctx);
		if (!c->ssl || SSL_set_fd(c->ssl, fd) != 1)
			die("SSL_new");
		SSL_set_accept_state(c->ssl);
	}
}

static void start_listening(const char *port, bool tls)
{
	struct sockaddr_in addr = { .sin_family = AF_INET,
				    .sin_port = htons((uint16_t)atoi(port)),
				    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, 4096) < 0)
		die(port);
	conn_new(fd, tls)->listener = true;
}

static void start_tls(const char *cert, const char *key)
{
	tls_ctx = SSL_CTX_new(TLS_server_method());
	if (!tls_ctx || SSL_CTX_use_certificate_chain_file(tls_ctx, cert) != 1 ||
	    SSL_CTX_use_PrivateKey_file(tls_ctx, key, SSL_FILETYPE_PEM) != 1) {
		ERR_print_errors_fp(stderr);
		exit(1);
	}
	SSL_CTX_set_mode(tls_ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
					  SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_session_id_context(tls_ctx, (const unsigned char *)"origin", 6);
	SSL_CTX_set_num_tickets(tls_ctx, 1);
}

int main(int argc, char **argv)
{
	struct epoll_event events[EVENTS];
	struct rlimit files;

	if (argc != 5) {
		fprintf(stderr, "usage: origin TLS-PORT PLAIN-PORT CERT KEY\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_fd < 0)
		die("epoll_create1");
	start_tls(argv[3], argv[4]);
	start_listening(argv[1], true);
	start_listening(argv[2], false);
	puts("ready");
	fflush(stdout);
	for (;;) {
		int n = epoll_wait(epoll_fd, events, EVENTS, stamped ? STAMP_EVERY_MS : -1);

		if (n == 0)
			send_stamps();
		for (int i = 0; i < n; i++) {
			struct conn *c = events[i].data.ptr;

			if (c->listener)
				accept_all(c);
			else if (conn_run(c) < 0)
				conn_close(c);
		}
	}
}
