/* SPDX-License-Identifier: MIT */
/*
 * What workers need of the options, as an immutable snapshot that the master makes. Names and defaults are mitmproxy's
 * where it has them. Texts live as long as the snapshot.
 */
#pragma once

#include "base/addr.h"
#include "base/str.h"

struct proxy_auth;
struct patterns;

enum tls_version_bound { TLS_UNBOUNDED = 0, TLS_SSL3 = 0x300, TLS_1_0, TLS_1_1, TLS_1_2, TLS_1_3 };

struct options {
	bool connection_eager;           /* connection_strategy: eager (true) or lazy */
	bool ssl_insecure;
	bool upstream_cert;
	bool rawtcp;
	bool websocket;                  /* a WebSocket is taken for one, not for raw TCP */
	bool http2;                      /* spoken with clients and servers */
	bool validate_inbound_headers;
	bool normalize_outbound_headers;
	bool http_connect_send_host_header;
	bool keep_host_header;
	bool keep_alt_svc_header;
	bool body_streaming;             /* auto (true) or never */
	bool store_streamed_bodies;
	enum tls_version_bound tls_version_client_min, tls_version_client_max;
	enum tls_version_bound tls_version_server_min, tls_version_server_max;
	const char *ciphers_client, *ciphers_server;     /* NULL: the default list */
	const char *groups_client, *groups_server;       /* tls_ecdh_curve_*; NULL: OpenSSL's */
	bool request_client_cert;
	bool add_upstream_certs;         /* add_upstream_certs_to_client_chain */
	bool tls_passthrough_failed;     /* relay untouched, from the next try on, whom a client does not let us be */
	bool tls_passthrough_client_cert;        /* the same where a server wants a certificate that we have not */
	int64_t tls_passthrough_ns;      /* for how long */
	int64_t tcp_timeout_ns;          /* without any event on either side */
	int64_t udp_timeout_ns;          /* the same for a UDP flow, which has no other end */
	int64_t connect_timeout_ns;      /* per upstream connection, all addresses together */
	int64_t http2_ping_keepalive_ns; /* an idle upstream connection of HTTP/2 is pinged; 0: it is not */
	uint64_t body_capture_max;       /* bytes kept of one body or log; the rest passes and is counted */
	uint64_t body_size_limit;        /* larger ones are refused; UINT64_MAX: none */
	uint64_t stream_large_bodies;    /* larger ones are not waited for, nor kept; UINT64_MAX: none */
	const char *upstream_auth;       /* "user:password" for the proxy or server behind us; NULL: none */
	const struct proxy_auth *proxyauth;      /* who may use us; NULL: everybody */
	struct addr connect_addr;        /* own address of upstream connections; family 0: any */
	uint32_t header_bytes_max;       /* of one message head */
	uint32_t header_count_max;
	/* NULL: not set. The program's, which outlives the workers. */
	const struct patterns *ignore_hosts, *allow_hosts, *tcp_hosts, *udp_hosts;
	bool show_ignored_hosts;
};

/* The defaults. */
void options_init(struct options *o);
