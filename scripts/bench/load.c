/* SPDX-License-Identifier: MIT */
/*
 * The benchmark's client: one thread, one epoll, any number of connections, HTTP/1.1 over TLS or plain, straight to a
 * host or through a proxy (CONNECT, or absolute-form requests), and a WebSocket that is echoed. Prints one JSON line.
 * It checks certificates, statuses
 * and lengths, so that a fast wrong answer is an error and not a result. usage() lists what it can be told.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <signal.h>
#include <stdarg.h>
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

enum { HEAD_BYTES_MAX = 16384, IO_BYTES = 65536, EVENTS = 256, CONNECTIONS_MAX = 20000 };
enum { RETRY_NS = 500000 };

enum state { CONNECTING, ASKING_PROXY, HANDSHAKE, EXCHANGE, MESSAGES, HELD };

struct conn {
	int fd;
	enum state state;
	bool want_write, closing;
	bool again;                  /* failed; run_all() opens it again */
	SSL *ssl;
	uint64_t start_ns;
	const char *out;             /* what is being sent: the CONNECT or the request head */
	size_t out_len;
	uint64_t upload_left;
	uint64_t body_left;
	bool head_done;
	uint32_t in_len;
	uint32_t ahead;              /* MESSAGES: sent and not yet back */
	char in[HEAD_BYTES_MAX];
};

static struct {
	struct sockaddr_in addr;
	const char *host, *path, *ca;
	bool tls, connect_first, absolute, fresh, resume, hold, retry, stamps, websocket;
	uint64_t requests, upload, errors_max;
	double seconds, timeout;
	int connections;
} opt = { .host = "localhost", .path = "/1k", .connections = 1, .timeout = 60, .errors_max = 100 };

static struct {
	uint64_t started, done, errors, bytes, handshakes, resumed, first_byte_ns;
	uint32_t *latency_us;
	size_t latencies, latency_cap;
	char error[256];
} got;

static int epoll_fd;
static SSL_CTX *tls_ctx;
static SSL_SESSION *session;
static char request[2048], connect_request[512], sni[256];
static char zeros[IO_BYTES], sink[IO_BYTES];
static uint64_t begin_ns;
static int held, live;              /* connections that wait for nothing; that are open */
static bool any_again;
static bool finished;

static double elapsed_s(void)
{
	return (double)(talk_now_ns() - begin_ns) / 1e9;
}

static void conn_close(struct conn *c)
{
	if (c->ssl) {
		if (c->state == EXCHANGE && !opt.retry)
			SSL_shutdown(c->ssl);
		SSL_free(c->ssl);
	}
	c->ssl = NULL;
	if (c->fd >= 0) {
		close(c->fd);
		live--;
	}
	c->fd = -1;
}

/* What went wrong on a connection; it starts again unless that happened too often. */
__attribute__((format(printf, 2, 3))) static void fail(struct conn *c, const char *fmt, ...)
{
	va_list args;

	got.errors++;
	va_start(args, fmt);
	vsnprintf(got.error, sizeof(got.error), fmt, args);
	va_end(args);
	ERR_clear_error();
	conn_close(c);
	got.started--;
	c->again = any_again = true;
	if (!opt.retry && got.errors >= opt.errors_max)
		finished = true;
}

static const char *tls_text(struct conn *c)
{
	long verify = SSL_get_verify_result(c->ssl);

	if (verify != X509_V_OK)
		return X509_verify_cert_error_string(verify);
	return ERR_peek_error() ? ERR_reason_error_string(ERR_peek_error()) : "connection closed";
}

static void conn_watch(struct conn *c, bool write)
{
	struct epoll_event ev = { .events = EPOLLIN | (write ? EPOLLOUT : 0), .data.ptr = c };

	if (c->want_write == write)
		return;
	c->want_write = write;
	epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &ev);
}

static bool may_start(void)
{
	if (opt.hold)
		return true;
	if (opt.seconds > 0)
		return elapsed_s() < opt.seconds;
	return got.started < opt.requests;
}

static void conn_open(struct conn *c)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLOUT, .data.ptr = c };
	int one = 1;

	if (finished || !may_start())
		return;
	got.started++;
	*c = (struct conn){ .fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0),
			    .state = CONNECTING,
			    .want_write = true,
			    .start_ns = talk_now_ns() };
	if (c->fd < 0) {
		perror("load: socket");
		exit(1);
	}
	live++;
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(c->fd, (struct sockaddr *)&opt.addr, sizeof(opt.addr)) < 0 && errno != EINPROGRESS) {
		fail(c, "connect: %s", strerror(errno));
		return;
	}
	epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &ev);
}

/* > 0: bytes; 0: not now; -1: gone. */
static int conn_io(struct conn *c, bool write, void *buf, size_t len)
{
	int n, why;

	if (!c->ssl) {
		n = (int)(write ? send(c->fd, buf, len, MSG_NOSIGNAL) : recv(c->fd, buf, len, 0));
		return n > 0 ? n : n < 0 && errno == EAGAIN ? 0 : -1;
	}
	ERR_clear_error();
	n = write ? SSL_write(c->ssl, buf, (int)len) : SSL_read(c->ssl, buf, (int)len);
	if (n > 0)
		return n;
	why = SSL_get_error(c->ssl, n);
	return why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE ? 0 : -1;
}

/* 1: all is sent; 0: later; -1: gone. */
static int conn_send(struct conn *c)
{
	while (c->out_len || c->upload_left) {
		bool head = c->out_len > 0;
		size_t len = head ? c->out_len : c->upload_left < IO_BYTES ? c->upload_left : IO_BYTES;
		int n = conn_io(c, true, head ? (void *)c->out : zeros, len);

		if (n <= 0) {
			conn_watch(c, n == 0);
			return n;
		}
		if (head) {
			c->out += n;
			c->out_len -= (size_t)n;
		} else {
			c->upload_left -= (uint64_t)n;
			got.bytes += (uint64_t)n;
		}
	}
	conn_watch(c, false);
	return 1;
}

static void start_request(struct conn *c)
{
	c->state = EXCHANGE;
	c->out = request;
	c->out_len = strlen(request);
	c->upload_left = opt.upload;
	c->head_done = false;
	c->in_len = 0;
}

static void start_handshake(struct conn *c)
{
	c->state = HANDSHAKE;
	c->in_len = 0;
	c->ssl = SSL_new(tls_ctx);
	if (!c->ssl || SSL_set_fd(c->ssl, c->fd) != 1) {
		fprintf(stderr, "load: out of memory\n");
		exit(1);
	}
	SSL_set_connect_state(c->ssl);
	SSL_set_tlsext_host_name(c->ssl, sni);
	SSL_set1_host(c->ssl, sni);
	if (opt.resume && session)
		SSL_set_session(c->ssl, session);
}

static void record_latency(uint64_t since_ns)
{
	if (got.latencies == got.latency_cap) {
		got.latency_cap = got.latency_cap ? got.latency_cap * 2 : 65536;
		got.latency_us = realloc(got.latency_us, got.latency_cap * sizeof(*got.latency_us));
		if (!got.latency_us) {
			fprintf(stderr, "load: out of memory\n");
			exit(1);
		}
	}
	got.latency_us[got.latencies++] = (uint32_t)((talk_now_ns() - since_ns) / 1000);
}

/* The response is complete: what this connection does next. */
static void conn_done(struct conn *c)
{
	if (!opt.stamps)
		record_latency(c->start_ns);
	got.done++;
	if (opt.retry) {
		finished = true;
	} else if (opt.hold) {
		c->state = HELD;
		finished = ++held == opt.connections;
	} else if (opt.fresh || c->closing) {
		conn_close(c);
		conn_open(c);
	} else if (may_start()) {
		got.started++;
		c->start_ns = talk_now_ns();
		start_request(c);
	} else {
		conn_close(c);
	}
}

/* The head is in c->in, terminated. false: it is not the answer that was expected, and the connection has failed. */
static bool take_head(struct conn *c, size_t head_len)
{
	const char *length = strcasestr(c->in, "\r\ncontent-length:");
	uint64_t extra = c->in_len - head_len;

	if (strncmp(c->in, "HTTP/1.", 7) ||
	    strncmp(c->in + 8, opt.websocket && c->state == EXCHANGE ? " 101" : " 200", 4)) {
		fail(c, "status line: %.*s", (int)strcspn(c->in, "\r\n"), c->in);
		return false;
	}
	if (c->state == ASKING_PROXY)
		return true;
	if (opt.websocket) {
		c->head_done = true;
		return true;
	}
	if (!length) {
		fail(c, "a response without Content-Length");
		return false;
	}
	c->closing = strcasestr(c->in, "\r\nconnection: close") != NULL;
	c->body_left = strtoull(length + 17, NULL, 10);
	if (extra > c->body_left) {
		fail(c, "%llu bytes too many", (unsigned long long)(extra - c->body_left));
		return false;
	}
	c->body_left -= extra;
	got.bytes += extra;
	c->head_done = true;
	return true;
}

/* 1: a head was taken; 0: later; -1: the connection has failed. */
static int read_head(struct conn *c)
{
	char *end;
	int n = conn_io(c, false, c->in + c->in_len, HEAD_BYTES_MAX - 1 - c->in_len);

	if (n == 0)
		return 0;
	if (n < 0) {
		fail(c, "closed before the response: %s", c->ssl ? tls_text(c) : strerror(errno));
		return -1;
	}
	if (!got.first_byte_ns && c->state == EXCHANGE)
		got.first_byte_ns = talk_now_ns();
	c->in_len += (uint32_t)n;
	c->in[c->in_len] = 0;
	end = strstr(c->in, "\r\n\r\n");
	if (!end) {
		if (c->in_len < HEAD_BYTES_MAX - 1)
			return 0;
		fail(c, "a response head that does not end");
		return -1;
	}
	end[2] = 0;
	return take_head(c, (size_t)(end + 4 - c->in)) ? 1 : -1;
}

/* A piece of /stamps says when it left: what it took to come here is the latency. */
static int read_stamps(struct conn *c)
{
	uint32_t have = (uint32_t)((STAMPS * (uint64_t)STAMP_BYTES - c->body_left) % STAMP_BYTES);
	char piece[STAMP_BYTES + 1] = "";
	int n = conn_io(c, false, c->in + have, STAMP_BYTES - have);

	if (n <= 0 || have + (uint32_t)n < STAMP_BYTES)
		return n;
	memcpy(piece, c->in, STAMP_BYTES);
	record_latency(strtoull(piece, NULL, 16));
	return n;
}

/* false: nothing more to do until the next event. */
static bool run_exchange(struct conn *c)
{
	int n = conn_send(c);

	if (n < 0) {
		fail(c, "closed while sending: %s", c->ssl ? tls_text(c) : strerror(errno));
		return false;
	}
	if (!c->head_done) {
		n = read_head(c);
		if (n <= 0)
			return false;
	}
	if (opt.websocket) {
		c->state = MESSAGES;
		c->in_len = 0;
		return true;
	}
	while (c->body_left) {
		n = opt.stamps ? read_stamps(c)
			       : conn_io(c, false, sink, c->body_left < IO_BYTES ? c->body_left : IO_BYTES);
		if (n == 0)
			return false;
		if (n < 0) {
			fail(c, "closed with %llu bytes missing", (unsigned long long)c->body_left);
			return false;
		}
		c->body_left -= (uint64_t)n;
		got.bytes += (uint64_t)n;
	}
	if (c->out_len || c->upload_left) {
		fail(c, "answered before the request was sent");
		return false;
	}
	conn_done(c);
	return c->fd >= 0 && c->state == EXCHANGE;
}

enum { SENT_FRAME = TALK_FRAME_HEAD + 4 + TALK_MESSAGE_BYTES, ECHOED_FRAME = TALK_FRAME_HEAD + TALK_MESSAGE_BYTES };

/* Tops up what is on its way, in one write. */
static int send_messages(struct conn *c)
{
	char frames[TALK_MESSAGES_AHEAD * SENT_FRAME], *at = frames;

	for (; c->ahead < TALK_MESSAGES_AHEAD && may_start(); c->ahead++, got.started++) {
		memcpy(at, (const char[]){ (char)0x82, (char)(0x80 | TALK_MESSAGE_BYTES), 1, 2, 3, 4 }, 6);
		memset(at + 6, 'm', TALK_MESSAGE_BYTES);
		at += SENT_FRAME;
	}
	return at == frames || conn_io(c, true, frames, (size_t)(at - frames)) == (int)(at - frames) ? 0 : -1;
}

/* The echo is unmasked: what was 'm' everywhere comes back xor'ed with the mask. */
static bool echo_is_right(const char *frame)
{
	if (frame[0] != (char)0x82 || frame[1] != TALK_MESSAGE_BYTES)
		return false;
	for (int i = 0; i < TALK_MESSAGE_BYTES; i++)
		if (frame[TALK_FRAME_HEAD + i] != ('m' ^ (i % 4 + 1)))
			return false;
	return true;
}

static bool run_messages(struct conn *c)
{
	uint32_t used = 0;
	int n;

	if (send_messages(c) < 0) {
		fail(c, "a full socket, or none, for messages");
		return false;
	}
	n = conn_io(c, false, c->in + c->in_len, HEAD_BYTES_MAX - c->in_len);
	if (n < 0)
		fail(c, "closed among the messages");
	if (n <= 0)
		return false;
	c->in_len += (uint32_t)n;
	for (; c->in_len - used >= ECHOED_FRAME; used += ECHOED_FRAME, c->ahead--, got.done++) {
		if (!echo_is_right(c->in + used)) {
			fail(c, "another message than was sent");
			return false;
		}
	}
	memmove(c->in, c->in + used, c->in_len - used);
	c->in_len -= used;
	if (c->ahead || may_start())
		return true;
	conn_close(c);
	return false;
}

static bool run_handshake(struct conn *c)
{
	int n, why;

	ERR_clear_error();
	n = SSL_do_handshake(c->ssl);
	if (n == 1) {
		got.handshakes++;
		got.resumed += (uint64_t)SSL_session_reused(c->ssl);
		start_request(c);
		return true;
	}
	why = SSL_get_error(c->ssl, n);
	if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE)
		conn_watch(c, why == SSL_ERROR_WANT_WRITE);
	else
		fail(c, "TLS: %s", tls_text(c));
	return false;
}

static bool run_connecting(struct conn *c)
{
	int error = 0;
	socklen_t len = sizeof(error);

	getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &len);
	if (error) {
		fail(c, "connect: %s", strerror(error));
		return false;
	}
	if (opt.connect_first) {
		c->state = ASKING_PROXY;
		c->out = connect_request;
		c->out_len = strlen(connect_request);
	} else if (opt.tls) {
		start_handshake(c);
	} else {
		start_request(c);
	}
	return true;
}

static bool run_asking_proxy(struct conn *c)
{
	int n = conn_send(c);

	if (n < 0) {
		fail(c, "closed before CONNECT was sent");
		return false;
	}
	if (n == 0 || read_head(c) <= 0)
		return false;
	if (opt.tls)
		start_handshake(c);
	else
		start_request(c);
	return true;
}

static void conn_run(struct conn *c)
{
	bool more = true;

	while (more && !finished) {
		switch (c->state) {
		case CONNECTING:
			more = run_connecting(c);
			break;
		case ASKING_PROXY:
			more = run_asking_proxy(c);
			break;
		case HANDSHAKE:
			more = run_handshake(c);
			break;
		case EXCHANGE:
			more = run_exchange(c);
			break;
		case MESSAGES:
			more = run_messages(c);
			break;
		case HELD:
			if (conn_io(c, false, sink, sizeof(sink)) < 0) {
				held--;
				fail(c, "closed while it was idle");
			}
			more = false;
			break;
		}
	}
}

static int on_session(SSL *ssl, SSL_SESSION *fresh)
{
	(void)ssl;
	SSL_SESSION_free(session);
	session = fresh;
	return 1;
}

static void prepare(void)
{
	char more[256] = "";

	opt.stamps = strcmp(opt.path, "/stamps") == 0;
	opt.websocket = strcmp(opt.path, "/websocket") == 0;
	snprintf(sni, sizeof(sni), "%.*s", (int)strcspn(opt.host, ":"), opt.host);
	if (opt.upload)
		snprintf(more, sizeof(more), "Content-Length: %llu\r\n", (unsigned long long)opt.upload);
	if (opt.websocket)
		snprintf(more, sizeof(more), "%s", TALK_WEBSOCKET_ASK);
	snprintf(request, sizeof(request),
		 "%s %s%s%s HTTP/1.1\r\nHost: %s\r\nUser-Agent: load\r\nAccept: */*\r\n%s\r\n",
		 opt.upload ? "POST" : "GET", opt.absolute ? "http://" : "", opt.absolute ? opt.host : "", opt.path,
		 opt.host, more);
	snprintf(connect_request, sizeof(connect_request), "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", opt.host,
		 opt.host);
	if (!opt.tls)
		return;
	tls_ctx = SSL_CTX_new(TLS_client_method());
	if (!tls_ctx || (opt.ca && SSL_CTX_load_verify_locations(tls_ctx, opt.ca, NULL) != 1)) {
		fprintf(stderr, "load: cannot read the CA file %s\n", opt.ca ? opt.ca : "");
		exit(1);
	}
	SSL_CTX_set_verify(tls_ctx, opt.ca ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
	SSL_CTX_set_mode(tls_ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
					  SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_session_cache_mode(tls_ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	if (opt.resume)
		SSL_CTX_sess_set_new_cb(tls_ctx, on_session);
}

static int compare_u32(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static uint32_t percentile(double p)
{
	return got.latencies ? got.latency_us[(size_t)(p * (double)(got.latencies - 1))] : 0;
}

static void print_result(double wall_s)
{
	qsort(got.latency_us, got.latencies, sizeof(*got.latency_us), compare_u32);
	for (char *c = got.error; *c; c++)
		if (*c == '"' || *c == '\\' || (unsigned char)*c < ' ')
			*c = '?';
	printf("{\"requests\": %llu, \"errors\": %llu, \"wall_s\": %.6f, \"bytes\": %llu, \"handshakes\": %llu, "
	       "\"resumed\": %llu, \"p50_us\": %u, \"p90_us\": %u, \"p99_us\": %u, \"max_us\": %u, "
	       "\"first_byte_ns\": %llu, \"error\": \"%s\"}\n",
	       (unsigned long long)got.done, (unsigned long long)got.errors, wall_s, (unsigned long long)got.bytes,
	       (unsigned long long)got.handshakes, (unsigned long long)got.resumed, percentile(0.5), percentile(0.9),
	       percentile(0.99), percentile(1), (unsigned long long)got.first_byte_ns, got.error);
	fflush(stdout);
}

static void usage(void)
{
	fputs("usage: load --to ADDRESS:PORT [options]\n"
	      "  --host NAME:PORT   the request's host and the certificate's name (localhost)\n"
	      "  --path PATH        (/1k)            --upload BYTES   POST this much instead of GET\n"
	      "                     /stamps: latencies are those of its pieces; /websocket: requests are messages\n"
	      "  --tls              --ca FILE        check the certificate against this CA\n"
	      "  --connect          ask a proxy with CONNECT first; --absolute: send absolute-form requests\n"
	      "  --connections N    --requests N | --seconds S\n"
	      "  --fresh            a new connection for each request; --resume: resume the last TLS session\n"
	      "  --hold             one request on each connection, then keep them until stdin ends\n"
	      "  --retry            try one request until it succeeds\n"
	      "  --errors N         give up after so many (100); --timeout S: after that long (60)\n",
	      stderr);
	exit(2);
}

static void parse_to(char *to)
{
	char *colon = strrchr(to, ':');

	if (!colon)
		usage();
	*colon = 0;
	opt.addr.sin_family = AF_INET;
	opt.addr.sin_port = htons((uint16_t)atoi(colon + 1));
	if (inet_pton(AF_INET, to, &opt.addr.sin_addr) != 1)
		usage();
}

static void parse_options(int argc, char **argv)
{
	static const struct option names[] = {
		{ "to", 1, 0, 't' },	      { "host", 1, 0, 'h' },	{ "path", 1, 0, 'p' },
		{ "upload", 1, 0, 'u' },      { "tls", 0, 0, 'T' },	{ "ca", 1, 0, 'c' },
		{ "connect", 0, 0, 'C' },     { "absolute", 0, 0, 'a' }, { "connections", 1, 0, 'n' },
		{ "requests", 1, 0, 'r' },    { "seconds", 1, 0, 's' }, { "fresh", 0, 0, 'f' },
		{ "resume", 0, 0, 'R' },      { "hold", 0, 0, 'H' },	{ "retry", 0, 0, 'y' },
		{ "timeout", 1, 0, 'x' },     { "errors", 1, 0, 'e' },  { 0 },
	};
	int o;

	while ((o = getopt_long(argc, argv, "", names, NULL)) != -1) {
		switch (o) {
		case 't': parse_to(optarg); break;
		case 'h': opt.host = optarg; break;
		case 'p': opt.path = optarg; break;
		case 'u': opt.upload = strtoull(optarg, NULL, 10); break;
		case 'T': opt.tls = true; break;
		case 'c': opt.ca = optarg; break;
		case 'C': opt.connect_first = true; break;
		case 'a': opt.absolute = true; break;
		case 'n': opt.connections = atoi(optarg); break;
		case 'r': opt.requests = strtoull(optarg, NULL, 10); break;
		case 's': opt.seconds = atof(optarg); break;
		case 'f': opt.fresh = true; break;
		case 'R': opt.resume = opt.fresh = true; break;
		case 'H': opt.hold = true; break;
		case 'y': opt.retry = true; break;
		case 'x': opt.timeout = atof(optarg); break;
		case 'e': opt.errors_max = strtoull(optarg, NULL, 10); break;
		default: usage();
		}
	}
	if (!opt.addr.sin_family || opt.connections < 1 || opt.connections > CONNECTIONS_MAX)
		usage();
	if (opt.retry || (!opt.requests && opt.seconds <= 0))
		opt.requests = 1;
}

static void open_again(struct conn *conns)
{
	if (opt.retry)
		nanosleep(&(struct timespec){ .tv_nsec = RETRY_NS }, NULL);
	any_again = false;
	for (int i = 0; i < opt.connections; i++)
		if (conns[i].again)
			conn_open(&conns[i]);
}

static void run_all(struct conn *conns)
{
	struct epoll_event events[EVENTS];

	while (!finished && (live || any_again)) {
		int n = any_again ? 0 : epoll_wait(epoll_fd, events, EVENTS, 100);

		if (any_again)
			open_again(conns);
		for (int i = 0; i < n && !finished; i++)
			if (((struct conn *)events[i].data.ptr)->fd >= 0)
				conn_run(events[i].data.ptr);
		if (elapsed_s() > opt.timeout) {
			size_t used = strlen(got.error);

			got.errors++;
			snprintf(got.error + used, sizeof(got.error) - used, "%snot finished after %.0f s",
				 used ? "; " : "", opt.timeout);
			return;
		}
	}
}

int main(int argc, char **argv)
{
	struct rlimit files;
	struct conn *conns;
	double wall_s;

	signal(SIGPIPE, SIG_IGN);
	parse_options(argc, argv);
	prepare();
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	conns = calloc((size_t)opt.connections, sizeof(*conns));
	if (epoll_fd < 0 || !conns) {
		perror("load");
		return 1;
	}
	begin_ns = talk_now_ns();
	for (int i = 0; i < opt.connections; i++)
		conns[i].fd = -1;
	for (int i = 0; i < opt.connections; i++)
		conn_open(&conns[i]);
	run_all(conns);
	wall_s = elapsed_s();
	print_result(wall_s);
	if (opt.hold)
		while (read(STDIN_FILENO, sink, sizeof(sink)) > 0)
			;
	return got.errors && !opt.retry ? 1 : 0;
}
