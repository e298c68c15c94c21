/* SPDX-License-Identifier: MIT */
/*
 * The record of one endpoint of a connection, as flows show and store it (spec: mitmproxy 12 connection.py; the
 * flow-file fields of client_conn and server_conn). Metadata only: sockets are the driver's.
 */
#pragma once

#include "base/addr.h"
#include "base/arena.h"

/* A point in wall time as mitmproxy keeps it: seconds since the epoch. A file's integers stay integers. */
struct stamp {
	double at;
	enum stamp_kind { STAMP_NONE, STAMP_FLOAT, STAMP_INT } kind;
};

/* A host that may be a name, with its port; host none = no address. */
struct endpoint {
	struct str host;
	uint16_t port;
};

/* Who opened the connection, when the kernel told us. pid 0 = unknown. */
struct process {
	uint32_t pid, uid;
	uint64_t cgroup_id;
	struct str comm, exe, cgroup;    /* none = unknown */
};

struct conn_list {
	struct str *at;
	uint32_t count;
};

/* What an IPv6 socket address has besides; flow files may hold it. */
struct ipv6_extra {
	bool given;
	uint32_t flow_info, scope_id;
};

/*
 * Only the owning worker counts references; others may look at the number. A record with refs > 1 may be in another
 * thread's hands and is read only; conn_record_edit() gives a private copy to write to. All text lives in the record's
 * arena.
 */
struct conn_record {
	uint32_t refs;
	uint32_t edition;                /* with id names this very content; 0: never edited, so not unique */
	bool is_client;
	struct arena arena;
	uint8_t id[16];                  /* random; written as a version 4 UUID */
	struct str odd_id;               /* from a file whose id is no UUID; none: id counts */
	struct endpoint peername, sockname;
	struct ipv6_extra peername_ipv6, sockname_ipv6;
	bool udp;
	struct str error;
	bool tls;
	struct conn_list certificates;   /* DER, leaf first; of a file also what is no PEM, as it was */
	struct str alpn;                 /* none: no TLS; empty: TLS without ALPN */
	struct conn_list alpn_offers;
	struct str cipher;
	struct conn_list cipher_list;
	struct str tls_version;
	struct str sni;
	struct stamp start, end, tls_setup;
	/* The raw handshake message: the client's, or the one that we sent to this server. In memory only. */
	struct str client_hello;

	/* client only */
	struct str mitmcert;             /* DER */
	struct str proxy_mode;
	struct process process;

	/* server only */
	struct endpoint address;         /* what was asked for: a name or an IP */
	struct stamp tcp_setup;
	struct str server_hello;         /* as client_hello */
	struct str via_scheme;           /* none: direct */
	struct endpoint via;
};

/* One reference; id from the caller's random source. NULL when memory is out. */
struct conn_record *conn_record_new(bool is_client, const uint8_t id[16]) __must_check;
struct conn_record *conn_record_get(struct conn_record *r);
void conn_record_put(struct conn_record *r);

/* Makes *r private (copies it when others hold it, too). Returns 0 or -ENOMEM, then *r is as before. */
int conn_record_edit(struct conn_record **r) __must_check;

/* Texts and lists are copied into r's arena. Return 0 or -ENOMEM. */
int conn_record_text(struct conn_record *r, struct str *field, struct str value) __must_check;
int conn_record_list(struct conn_record *r, struct conn_list *field, const struct str *values,
		     uint32_t count) __must_check;
int conn_record_endpoint(struct conn_record *r, struct endpoint *field, const struct addr *a) __must_check;
