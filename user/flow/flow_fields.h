/* SPDX-License-Identifier: MIT */
/*
 * The shape of a flow file's dicts, once for reading and writing (spec: mitmproxy 12, format 21). Private to those two,
 * and here for the writer's sake: the compiler makes straight code of its walks through tables that it sees.
 */
#pragma once

#include "flow/flow_file.h"

enum field_kind {
	FIELD_TEXT, FIELD_TEXT_OR_NONE,         /* struct str */
	FIELD_BYTES_OR_NONE,
	FIELD_ASCII,                            /* struct str; bytes, and on reading ASCII text too */
	FIELD_HOST,                             /* struct str; text, and on reading bytes too */
	FIELD_BOOL,
	FIELD_U16,
	FIELD_STAMP, FIELD_STAMP_OR_NONE,       /* keeps what it was, integer or float */
	FIELD_FLOAT, FIELD_FLOAT_OR_NONE,       /* struct stamp, always a float in the file */
	FIELD_BYTES_LIST, FIELD_TEXT_LIST, FIELD_PEM_LIST,
	FIELD_PEM_OR_NONE,
	FIELD_ID,                               /* uint8_t[16]; beside it, at extra, the struct str for odd ones */
	FIELD_ENDPOINT, FIELD_ENDPOINT_OR_NONE, /* at extra: struct ipv6_extra; 0: none */
	FIELD_OPAQUE,                           /* struct str: an item, or none */
	FIELD_TLS_VERSION, FIELD_PROXY_MODE,    /* struct str */
	FIELD_PART,                             /* one of a kind; offset is its enum part_kind */
};

/* What takes more than one member of the object, which is the struct that the dict stands for. */
enum part_kind {
	PART_TRANSPORT, PART_VIA,
	PART_HEADERS, PART_TRAILERS, PART_BODY,
	PART_VERSION, PART_TYPE, PART_ERROR, PART_CLIENT, PART_SERVER, PART_METADATA,
	PART_REQUEST, PART_RESPONSE, PART_MESSAGES, PART_WEBSOCKET,
};

struct field {
	const char *name;
	const char *key;                        /* as it stands in files: in front of a value, and of none */
	uint8_t key_len;
	enum field_kind kind;
	uint16_t offset, extra;
	bool optional;                          /* may be missing when read */
};

/* A dict's members in mitmproxy's insertion order. */
struct shape {
	const char *name;
	const struct field *fields;
	uint32_t count;
};

#define CONN(member) offsetof(struct conn_record, member)
#define REQUEST(member) offsetof(struct http_request, member)
#define RESPONSE(member) offsetof(struct http_response, member)
#define MESSAGE(member) offsetof(struct http_message, member)
#define FLOW(member) offsetof(struct flow, member)
/* What is taken off the length at the end is 1; a wrong len does not compile. */
#define NAME(len, name) name, #len ":" name ";0:~", \
	sizeof(#len ":" name ";") - sizeof(char[sizeof(name) - 1 == (len) ? 1 : -1])
#define SHAPE(name, fields) { name, fields, ARRAY_SIZE(fields) }

#define CONN_FIELDS(peer_kind, start_kind)                                            \
	{ NAME(8, "peername"), peer_kind, CONN(peername), CONN(peername_ipv6), false },            \
	{ NAME(8, "sockname"), peer_kind, CONN(sockname), CONN(sockname_ipv6), false },            \
	{ NAME(2, "id"), FIELD_ID, CONN(id), CONN(odd_id), false },                                \
	{ NAME(18, "transport_protocol"), FIELD_PART, PART_TRANSPORT, 0, false },                   \
	{ NAME(5, "error"), FIELD_TEXT_OR_NONE, CONN(error), 0, false },                           \
	{ NAME(3, "tls"), FIELD_BOOL, CONN(tls), 0, false },                                       \
	{ NAME(16, "certificate_list"), FIELD_PEM_LIST, CONN(certificates), 0, false },             \
	{ NAME(4, "alpn"), FIELD_BYTES_OR_NONE, CONN(alpn), 0, false },                            \
	{ NAME(11, "alpn_offers"), FIELD_BYTES_LIST, CONN(alpn_offers), 0, false },                 \
	{ NAME(6, "cipher"), FIELD_TEXT_OR_NONE, CONN(cipher), 0, false },                         \
	{ NAME(11, "cipher_list"), FIELD_TEXT_LIST, CONN(cipher_list), 0, false },                  \
	{ NAME(11, "tls_version"), FIELD_TLS_VERSION, CONN(tls_version), 0, false },                \
	{ NAME(3, "sni"), FIELD_TEXT_OR_NONE, CONN(sni), 0, false },                               \
	{ NAME(15, "timestamp_start"), start_kind, CONN(start), 0, false },                         \
	{ NAME(13, "timestamp_end"), FIELD_FLOAT_OR_NONE, CONN(end), 0, false },                    \
	{ NAME(19, "timestamp_tls_setup"), FIELD_FLOAT_OR_NONE, CONN(tls_setup), 0, false }

static const struct field client_fields[] = {
	CONN_FIELDS(FIELD_ENDPOINT, FIELD_FLOAT),
	{ NAME(8, "mitmcert"), FIELD_PEM_OR_NONE, CONN(mitmcert), 0, false },
	{ NAME(10, "proxy_mode"), FIELD_PROXY_MODE, CONN(proxy_mode), 0, false },
};

static const struct field server_fields[] = {
	CONN_FIELDS(FIELD_ENDPOINT_OR_NONE, FIELD_FLOAT_OR_NONE),
	{ NAME(7, "address"), FIELD_ENDPOINT_OR_NONE, CONN(address), 0, false },
	{ NAME(19, "timestamp_tcp_setup"), FIELD_FLOAT_OR_NONE, CONN(tcp_setup), 0, false },
	{ NAME(3, "via"), FIELD_PART, PART_VIA, 0, false },
};

#define MESSAGE_FIELDS                                                                  \
	{ NAME(12, "http_version"), FIELD_ASCII, MESSAGE(version), 0, false },                      \
	{ NAME(7, "headers"), FIELD_PART, PART_HEADERS, 0, false },                                \
	{ NAME(7, "content"), FIELD_PART, PART_BODY, 0, false },                                   \
	{ NAME(8, "trailers"), FIELD_PART, PART_TRAILERS, 0, false },                              \
	{ NAME(15, "timestamp_start"), FIELD_STAMP, MESSAGE(start), 0, false },                     \
	{ NAME(13, "timestamp_end"), FIELD_STAMP_OR_NONE, MESSAGE(end), 0, false }

static const struct field request_fields[] = {
	MESSAGE_FIELDS,
	{ NAME(4, "host"), FIELD_HOST, REQUEST(host), 0, false },
	{ NAME(4, "port"), FIELD_U16, REQUEST(port), 0, false },
	{ NAME(6, "method"), FIELD_ASCII, REQUEST(method), 0, false },
	{ NAME(6, "scheme"), FIELD_ASCII, REQUEST(scheme), 0, false },
	{ NAME(9, "authority"), FIELD_ASCII, REQUEST(authority), 0, false },
	{ NAME(4, "path"), FIELD_ASCII, REQUEST(path), 0, false },
};

static const struct field response_fields[] = {
	MESSAGE_FIELDS,
	{ NAME(11, "status_code"), FIELD_U16, RESPONSE(status), 0, false },
	{ NAME(6, "reason"), FIELD_ASCII, RESPONSE(reason), 0, false },
};

#define FLOW_FIELDS                                                                     \
	{ NAME(7, "version"), FIELD_PART, PART_VERSION, 0, false },                                \
	{ NAME(4, "type"), FIELD_PART, PART_TYPE, 0, false },                                      \
	{ NAME(2, "id"), FIELD_ID, FLOW(id), FLOW(odd_id), false },                                \
	{ NAME(5, "error"), FIELD_PART, PART_ERROR, 0, false },                                    \
	{ NAME(11, "client_conn"), FIELD_PART, PART_CLIENT, 0, false },                             \
	{ NAME(11, "server_conn"), FIELD_PART, PART_SERVER, 0, false },                             \
	{ NAME(11, "intercepted"), FIELD_BOOL, FLOW(intercepted), 0, false },                       \
	{ NAME(9, "is_replay"), FIELD_TEXT_OR_NONE, FLOW(is_replay), 0, false },                   \
	{ NAME(6, "marked"), FIELD_TEXT, FLOW(marked), 0, false },                                 \
	{ NAME(8, "metadata"), FIELD_PART, PART_METADATA, 0, false },                              \
	{ NAME(7, "comment"), FIELD_TEXT, FLOW(comment), 0, false },                               \
	{ NAME(17, "timestamp_created"), FIELD_STAMP, FLOW(created), 0, false },                    \
	{ NAME(6, "backup"), FIELD_OPAQUE, FLOW(backup), 0, true }

static const struct field http_fields[] = {
	FLOW_FIELDS,
	{ NAME(7, "request"), FIELD_PART, PART_REQUEST, 0, false },
	{ NAME(8, "response"), FIELD_PART, PART_RESPONSE, 0, false },
	{ NAME(9, "websocket"), FIELD_PART, PART_WEBSOCKET, 0, true },
};

static const struct field stream_fields[] = {
	FLOW_FIELDS,
	{ NAME(8, "messages"), FIELD_PART, PART_MESSAGES, 0, false },
};

static const struct field dns_fields[] = {
	FLOW_FIELDS,
	{ NAME(7, "request"), FIELD_OPAQUE, FLOW(dns.request), 0, false },
	{ NAME(8, "response"), FIELD_OPAQUE, FLOW(dns.response), 0, false },
};

static const struct shape shape_client = SHAPE("client_conn", client_fields);
static const struct shape shape_server = SHAPE("server_conn", server_fields);
static const struct shape shape_request = SHAPE("request", request_fields);
static const struct shape shape_response = SHAPE("response", response_fields);

/* Indexed by enum flow_type. */
static const struct shape shape_flow[] = {
	[FLOW_HTTP] = SHAPE("http flow", http_fields),
	[FLOW_TCP] = SHAPE("tcp flow", stream_fields),
	[FLOW_UDP] = SHAPE("udp flow", stream_fields),
	[FLOW_DNS] = SHAPE("dns flow", dns_fields),
};

/* Metadata that stands for fields of ours. */
struct own_metadata {
	const char *key;
	enum own_kind { OWN_PID, OWN_UID, OWN_COMM, OWN_EXE, OWN_CGROUP, OWN_CGROUP_ID, OWN_REQUEST_BYTES,
			OWN_RESPONSE_BYTES, OWN_DROPPED } kind;
};

static const struct own_metadata own_metadata[] = {
	{ "mitm_bpf.pid", OWN_PID },
	{ "mitm_bpf.uid", OWN_UID },
	{ "mitm_bpf.comm", OWN_COMM },
	{ "mitm_bpf.exe", OWN_EXE },
	{ "mitm_bpf.cgroup", OWN_CGROUP },
	{ "mitm_bpf.cgroup_id", OWN_CGROUP_ID },
	{ "mitm_bpf.request_body_bytes", OWN_REQUEST_BYTES },
	{ "mitm_bpf.response_body_bytes", OWN_RESPONSE_BYTES },
	{ "mitm_bpf.bytes_dropped", OWN_DROPPED },
};
