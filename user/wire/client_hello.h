/* SPDX-License-Identifier: MIT */
/*
 * The first thing a TLS client says, read before a TLS library sees it: the name it asks for, its protocols, and all
 * that a fingerprint is made of. Reads TLS records (RFC 8446 5.1, RFC 5246 6.2) holding one ClientHello (RFC 8446
 * 4.1.2); it judges no value, so unknown and GREASE entries (RFC 8701) stay in the lists.
 */
#pragma once

#include "base/arena.h"
#include "base/str.h"

/* More raw bytes than this, record headers included, are no ClientHello. Real ones end below 4 KiB. */
#define CLIENT_HELLO_BYTES_MAX 65536u

enum client_hello_guess {
	CLIENT_HELLO_NO,
	CLIENT_HELLO_MAYBE,          /* fewer than three bytes, all of them as in a TLS record: wait for more */
	CLIENT_HELLO_YES,
};

struct client_hello_extension {
	uint16_t type;
	struct str body;
};

/*
 * Byte strings point into the caller's bytes when one record holds the whole message, else into the arena; arrays are
 * in the arena. Lists keep the client's order. A list is empty when its extension is missing or malformed.
 */
struct client_hello {
	struct str message;          /* the handshake message with its 4-byte header, records' headers taken out */
	uint16_t record_version;     /* of the first record */
	uint16_t legacy_version;
	struct str random;           /* 32 bytes */
	struct str session_id;
	struct str compressions;     /* one byte each */
	struct str sni;              /* as sent; none unless exactly one valid host name or IP literal was */
	uint16_t *cipher_suites;
	uint16_t *versions;          /* supported_versions (43); empty from clients before TLS 1.3 */
	uint16_t *groups;            /* supported_groups (10) */
	uint16_t *signatures;        /* signature_algorithms (13) */
	struct str *alpn;            /* application_layer_protocol_negotiation (16) */
	struct client_hello_extension *extensions;
	uint32_t cipher_suite_count, version_count, group_count, signature_count, alpn_count, extension_count;
};

/* Whether a connection that begins with these bytes speaks TLS. */
enum client_hello_guess client_hello_looks_like_tls(const uint8_t *bytes, size_t len);

/**
 * client_hello_parse() - read a ClientHello from the beginning of a TLS connection.
 * @out:   filled when the message is complete, else untouched
 * @bytes: all that came so far, from the connection's first byte
 * @arena: memory for lists; nothing is taken from it before the message is complete
 *
 * Returns the bytes used (> 0), which is up to the end of the record in which the message ends; 0 when more bytes are
 * needed; -EPROTO when no more bytes can make it a ClientHello; -ENOMEM.
 * Ownership: *out borrows from @bytes and @arena.
 */
int client_hello_parse(struct client_hello *out, const uint8_t *bytes, size_t len, struct arena *arena) __must_check;

/* The same of a handshake message without records, as connection records keep it. 0, -EPROTO or -ENOMEM. */
int client_hello_parse_message(struct client_hello *out, struct str message, struct arena *arena) __must_check;

/* The body of the first extension of this type; none when it was not sent (an empty one has .ptr). */
struct str client_hello_extension(const struct client_hello *hello, uint16_t type);

/*
 * Whether a server with an ECDSA P-256 certificate can finish a handshake with this client, for the versions up to
 * TLS 1.2 or 1.3 that it offers; if not, it needs an RSA one.
 */
bool client_hello_takes_ecdsa(const struct client_hello *hello);

/* A host name as it may stand in SNI (RFC 1123 with underscores, one trailing dot allowed) or an IP literal. */
bool client_hello_host_valid(struct str host);
