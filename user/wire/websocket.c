/* SPDX-License-Identifier: MIT */
/* What RFC 6455 section 5 forbids in a single frame is found here; what depends on the frames before is the layer's. */
#include "wire/websocket.h"

#include <errno.h>

#include "base/utf8.h"

#define FIN  0x80
#define RSV1 0x40
#define RSV  0x30
#define MASK 0x80

static uint64_t big_endian(const uint8_t *p, size_t len)
{
	uint64_t value = 0;

	for (size_t i = 0; i < len; i++)
		value = value << 8 | p[i];
	return value;
}

/* Peers are told in a close frame: the texts here and in the layer are those of mitmproxy. */
static const char *const invalid_opcode[] = {
	[3] = "Invalid opcode 0x3", [4] = "Invalid opcode 0x4", [5] = "Invalid opcode 0x5",
	[6] = "Invalid opcode 0x6", [7] = "Invalid opcode 0x7", [11] = "Invalid opcode 0xb",
	[12] = "Invalid opcode 0xc", [13] = "Invalid opcode 0xd", [14] = "Invalid opcode 0xe",
	[15] = "Invalid opcode 0xf",
};

static const char *check_first(uint8_t first, uint8_t second)
{
	uint8_t opcode = first & 0x0f;

	if (opcode > WEBSOCKET_PONG || (opcode > WEBSOCKET_BINARY && opcode < WEBSOCKET_CLOSE))
		return invalid_opcode[opcode];
	if (first & RSV)
		return "Reserved bit set unexpectedly";
	if (!websocket_is_control(opcode))
		return NULL;
	if (!(first & FIN))
		return "Invalid attempt to fragment control frame";
	if ((second & 0x7f) > WEBSOCKET_CONTROL_MAX)
		return "Control frame with payload len > 125";
	return NULL;
}

int websocket_head_parse(struct websocket_head *h, const uint8_t *bytes, size_t len, const char **why)
{
	size_t extended, at = 2;

	if (len < 2)
		return 0;
	*why = check_first(bytes[0], bytes[1]);
	if (*why)
		return -EPROTO;
	*h = (struct websocket_head){
		.fin = bytes[0] & FIN,
		.rsv1 = bytes[0] & RSV1,
		.opcode = bytes[0] & 0x0f,
		.masked = bytes[1] & MASK,
		.len = bytes[1] & 0x7f,
	};
	extended = h->len == 126 ? 2 : h->len == 127 ? 8 : 0;
	if (len < at + extended)
		return 0;
	if (extended) {
		h->len = big_endian(bytes + at, extended);
		if (h->len < (extended == 2 ? 126u : 65536u))
			*why = extended == 2 ? "Payload length used 2 bytes when 1 would have sufficed"
					     : "Payload length used 8 bytes when 2 would have sufficed";
		else if (h->len >> 63)
			*why = "8-byte payload length with non-zero MSB";
	}
	if (*why)
		return -EPROTO;
	at += extended;
	if (h->masked) {
		if (len < at + 4)
			return 0;
		memcpy(h->key, bytes + at, 4);
		at += 4;
	}
	return (int)at;
}

size_t websocket_head_write(uint8_t out[static WEBSOCKET_HEAD_MAX], const struct websocket_head *h)
{
	size_t extended = h->len < 126 ? 0 : h->len < 65536 ? 2 : 8, at = 2;

	out[0] = (uint8_t)((h->fin ? FIN : 0) | (h->rsv1 ? RSV1 : 0) | h->opcode);
	out[1] = (uint8_t)((h->masked ? MASK : 0) | (extended == 0 ? h->len : extended == 2 ? 126 : 127));
	for (size_t i = extended; i > 0; i--)
		out[at++] = (uint8_t)(h->len >> (8 * (i - 1)));
	if (h->masked) {
		memcpy(out + at, h->key, 4);
		at += 4;
	}
	return at;
}

void websocket_mask(uint8_t *bytes, size_t len, const uint8_t key[4], uint64_t offset)
{
	uint8_t turned[8];
	uint64_t eight, keys;
	size_t i = 0;

	for (size_t k = 0; k < 8; k++)
		turned[k] = key[(offset + k) & 3];
	memcpy(&keys, turned, 8);
	for (; i + 8 <= len; i += 8) {
		memcpy(&eight, bytes + i, 8);
		eight ^= keys;
		memcpy(bytes + i, &eight, 8);
	}
	for (; i < len; i++)
		bytes[i] ^= turned[i & 7];
}

/* What is wrong with a code that came; NULL: nothing. */
static const char *check_code(uint16_t code)
{
	if (code < 1000 || code > 4999)
		return "CLOSE with invalid code";
	if (websocket_code_is_local(code))
		return "remote CLOSE with local-only reason";
	return code == 1004 || (code > 1014 && code < 3000) ? "CLOSE with unknown reserved code" : NULL;
}

int websocket_close_parse(struct str payload, uint16_t *code, struct str *reason, const char **why)
{
	*code = WEBSOCKET_NO_STATUS;
	*reason = STR("");
	if (payload.len == 0)
		return 0;
	if (payload.len == 1) {
		*why = "CLOSE with 1 byte payload";
		return WEBSOCKET_PROTOCOL_ERROR;
	}
	*code = (uint16_t)big_endian((const uint8_t *)payload.ptr, 2);
	*reason = (struct str){ payload.ptr + 2, payload.len - 2 };
	*why = check_code(*code);
	if (*why)
		return WEBSOCKET_PROTOCOL_ERROR;
	if (!utf8_valid(*reason)) {
		*why = "the reason in a close frame is not UTF-8";
		return WEBSOCKET_INVALID_PAYLOAD;
	}
	return 0;
}
