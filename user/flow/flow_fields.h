/* SPDX-License-Identifier: MIT */
/* The shape of a flow file's dicts, once for reading and writing (spec: mitmproxy 12, format 21). Private to them. */
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
	uint8_t name_len;
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

extern const struct shape shape_client, shape_server, shape_request, shape_response;

/* Indexed by enum flow_type. */
extern const struct shape shape_flow[4];

/* Metadata that stands for fields of ours. */
struct own_metadata {
	const char *key;
	enum own_kind { OWN_PID, OWN_UID, OWN_COMM, OWN_EXE, OWN_CGROUP, OWN_CGROUP_ID, OWN_REQUEST_BYTES,
			OWN_RESPONSE_BYTES, OWN_DROPPED } kind;
};

#define OWN_METADATA_COUNT 9
extern const struct own_metadata own_metadata[OWN_METADATA_COUNT];
