/* SPDX-License-Identifier: MIT */
/* Tables only. The order is that in which mitmproxy builds its dicts; files have it the other way round. */
#include "flow/flow_fields.h"

#define CONN(member) offsetof(struct conn_record, member)
#define REQUEST(member) offsetof(struct http_request, member)
#define RESPONSE(member) offsetof(struct http_response, member)
#define MESSAGE(member) offsetof(struct http_message, member)
#define FLOW(member) offsetof(struct flow, member)
#define NAME(text) text, sizeof(text) - 1
#define SHAPE(name, fields) { name, fields, ARRAY_SIZE(fields) }

#define CONN_FIELDS(peer_kind, start_kind)                                            \
	{ NAME("peername"), peer_kind, CONN(peername), CONN(peername_ipv6), false },            \
	{ NAME("sockname"), peer_kind, CONN(sockname), CONN(sockname_ipv6), false },            \
	{ NAME("id"), FIELD_ID, CONN(id), CONN(odd_id), false },                                \
	{ NAME("transport_protocol"), FIELD_PART, PART_TRANSPORT, 0, false },                   \
	{ NAME("error"), FIELD_TEXT_OR_NONE, CONN(error), 0, false },                           \
	{ NAME("tls"), FIELD_BOOL, CONN(tls), 0, false },                                       \
	{ NAME("certificate_list"), FIELD_PEM_LIST, CONN(certificates), 0, false },             \
	{ NAME("alpn"), FIELD_BYTES_OR_NONE, CONN(alpn), 0, false },                            \
	{ NAME("alpn_offers"), FIELD_BYTES_LIST, CONN(alpn_offers), 0, false },                 \
	{ NAME("cipher"), FIELD_TEXT_OR_NONE, CONN(cipher), 0, false },                         \
	{ NAME("cipher_list"), FIELD_TEXT_LIST, CONN(cipher_list), 0, false },                  \
	{ NAME("tls_version"), FIELD_TLS_VERSION, CONN(tls_version), 0, false },                \
	{ NAME("sni"), FIELD_TEXT_OR_NONE, CONN(sni), 0, false },                               \
	{ NAME("timestamp_start"), start_kind, CONN(start), 0, false },                         \
	{ NAME("timestamp_end"), FIELD_FLOAT_OR_NONE, CONN(end), 0, false },                    \
	{ NAME("timestamp_tls_setup"), FIELD_FLOAT_OR_NONE, CONN(tls_setup), 0, false }

static const struct field client_fields[] = {
	CONN_FIELDS(FIELD_ENDPOINT, FIELD_FLOAT),
	{ NAME("mitmcert"), FIELD_PEM_OR_NONE, CONN(mitmcert), 0, false },
	{ NAME("proxy_mode"), FIELD_PROXY_MODE, CONN(proxy_mode), 0, false },
};

static const struct field server_fields[] = {
	CONN_FIELDS(FIELD_ENDPOINT_OR_NONE, FIELD_FLOAT_OR_NONE),
	{ NAME("address"), FIELD_ENDPOINT_OR_NONE, CONN(address), 0, false },
	{ NAME("timestamp_tcp_setup"), FIELD_FLOAT_OR_NONE, CONN(tcp_setup), 0, false },
	{ NAME("via"), FIELD_PART, PART_VIA, 0, false },
};

#define MESSAGE_FIELDS                                                                  \
	{ NAME("http_version"), FIELD_ASCII, MESSAGE(version), 0, false },                      \
	{ NAME("headers"), FIELD_PART, PART_HEADERS, 0, false },                                \
	{ NAME("content"), FIELD_PART, PART_BODY, 0, false },                                   \
	{ NAME("trailers"), FIELD_PART, PART_TRAILERS, 0, false },                              \
	{ NAME("timestamp_start"), FIELD_STAMP, MESSAGE(start), 0, false },                     \
	{ NAME("timestamp_end"), FIELD_STAMP_OR_NONE, MESSAGE(end), 0, false }

static const struct field request_fields[] = {
	MESSAGE_FIELDS,
	{ NAME("host"), FIELD_HOST, REQUEST(host), 0, false },
	{ NAME("port"), FIELD_U16, REQUEST(port), 0, false },
	{ NAME("method"), FIELD_ASCII, REQUEST(method), 0, false },
	{ NAME("scheme"), FIELD_ASCII, REQUEST(scheme), 0, false },
	{ NAME("authority"), FIELD_ASCII, REQUEST(authority), 0, false },
	{ NAME("path"), FIELD_ASCII, REQUEST(path), 0, false },
};

static const struct field response_fields[] = {
	MESSAGE_FIELDS,
	{ NAME("status_code"), FIELD_U16, RESPONSE(status), 0, false },
	{ NAME("reason"), FIELD_ASCII, RESPONSE(reason), 0, false },
};

#define FLOW_FIELDS                                                                     \
	{ NAME("version"), FIELD_PART, PART_VERSION, 0, false },                                \
	{ NAME("type"), FIELD_PART, PART_TYPE, 0, false },                                      \
	{ NAME("id"), FIELD_ID, FLOW(id), FLOW(odd_id), false },                                \
	{ NAME("error"), FIELD_PART, PART_ERROR, 0, false },                                    \
	{ NAME("client_conn"), FIELD_PART, PART_CLIENT, 0, false },                             \
	{ NAME("server_conn"), FIELD_PART, PART_SERVER, 0, false },                             \
	{ NAME("intercepted"), FIELD_BOOL, FLOW(intercepted), 0, false },                       \
	{ NAME("is_replay"), FIELD_TEXT_OR_NONE, FLOW(is_replay), 0, false },                   \
	{ NAME("marked"), FIELD_TEXT, FLOW(marked), 0, false },                                 \
	{ NAME("metadata"), FIELD_PART, PART_METADATA, 0, false },                              \
	{ NAME("comment"), FIELD_TEXT, FLOW(comment), 0, false },                               \
	{ NAME("timestamp_created"), FIELD_STAMP, FLOW(created), 0, false },                    \
	{ NAME("backup"), FIELD_OPAQUE, FLOW(backup), 0, true }

static const struct field http_fields[] = {
	FLOW_FIELDS,
	{ NAME("request"), FIELD_PART, PART_REQUEST, 0, false },
	{ NAME("response"), FIELD_PART, PART_RESPONSE, 0, false },
	{ NAME("websocket"), FIELD_PART, PART_WEBSOCKET, 0, true },
};

static const struct field stream_fields[] = {
	FLOW_FIELDS,
	{ NAME("messages"), FIELD_PART, PART_MESSAGES, 0, false },
};

static const struct field dns_fields[] = {
	FLOW_FIELDS,
	{ NAME("request"), FIELD_OPAQUE, FLOW(dns.request), 0, false },
	{ NAME("response"), FIELD_OPAQUE, FLOW(dns.response), 0, false },
};

const struct shape shape_client = SHAPE("client_conn", client_fields);
const struct shape shape_server = SHAPE("server_conn", server_fields);
const struct shape shape_request = SHAPE("request", request_fields);
const struct shape shape_response = SHAPE("response", response_fields);

const struct shape shape_flow[4] = {
	[FLOW_HTTP] = SHAPE("http flow", http_fields),
	[FLOW_TCP] = SHAPE("tcp flow", stream_fields),
	[FLOW_UDP] = SHAPE("udp flow", stream_fields),
	[FLOW_DNS] = SHAPE("dns flow", dns_fields),
};

const struct own_metadata own_metadata[OWN_METADATA_COUNT] = {
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
