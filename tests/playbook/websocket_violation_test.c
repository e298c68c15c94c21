/* SPDX-License-Identifier: MIT */
/* What RFC 6455 and RFC 7692 forbid: both peers are told the code and the reason, and the flow keeps them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "websocket_talk.h"

static const struct talk talks[] = {
	{
		.name = "an unmasked frame from a client",
		.close_code = 1002, .closed_by_client = true, .close_reason =
		     "server received unexpected unmasked frame",
		.steps = {
			GIVE(EV_DATA, SIDE_CLIENT, B("\x81\x03" "bad")),
			WANT(CMD_SEND, SIDE_NEW, B("\x88\xab" MK
			     "\x03\xeaserver received unexpected unmasked frame")),
			WANT(CMD_SEND, SIDE_CLIENT, B("\x88+"
			     "\x03\xeaserver received unexpected unmasked frame")),
			WANT(CMD_CLOSE, SIDE_NEW),
			WANT(CMD_CLOSE, SIDE_CLIENT),
			WANT(CMD_FLOW, NOBODY, .hook = HOOK_WEBSOCKET_END),
		},
	},
	{
		.name = "a masked frame from a server",
		.close_code = 1002, .closed_by_client = false, .close_reason =
		     "client received unexpected masked frame",
		.steps = {
			GIVE(EV_DATA, SIDE_NEW, B("\x81\x83" MK "bad")),
			WANT(CMD_SEND, SIDE_NEW, B("\x88\xa9" MK "\x03\xea"
			     "client received unexpected masked frame")),
			WANT(CMD_SEND, SIDE_CLIENT, B("\x88)" "\x03\xea"
			     "client received unexpected masked frame")),
			WANT(CMD_CLOSE, SIDE_NEW),
			WANT(CMD_CLOSE, SIDE_CLIENT),
			WANT(CMD_FLOW, NOBODY, .hook = HOOK_WEBSOCKET_END),
		},
	},
	{
		.name = "RSV1 that nobody agreed on",
		.close_code = 1002, .closed_by_client = true, .close_reason =
		     "Reserved bit set unexpectedly",
		.steps = {
			GIVE(EV_DATA, SIDE_CLIENT, B("\xc1\x81" MK "x")),
			WANT(CMD_SEND, SIDE_NEW, B("\x88\x9f" MK
			     "\x03\xeaReserved bit set unexpectedly")),
			WANT(CMD_SEND, SIDE_CLIENT, B("\x88\x1f"
			     "\x03\xeaReserved bit set unexpectedly")),
			WANT(CMD_CLOSE, SIDE_NEW),
			WANT(CMD_CLOSE, SIDE_CLIENT),
			WANT(CMD_FLOW, NOBODY, .hook = HOOK_WEBSOCKET_END),
		},
	},
	{
		.name = "RSV2",
		.close_code = 1002, .closed_by_client = true, .close_reason =
		     "Reserved bit set unexpectedly",
		.steps = {
			GIVE(EV_DATA, SIDE_CLIENT, B("\xa1\x81" MK "x")),
			WANT(CMD_SEND, SIDE_NEW, B("\x88\x9f" MK
			     "\x03\xeaReserved bit set unexpectedly")),
			WANT(CMD_SEND, SIDE_CLIENT, B("\x88\x1f"
			     "\x03\xeaReserved bit set unexpectedly")),
			WANT(CMD_CLOSE, SIDE_NEW),
			WANT(CMD_CLOSE, SIDE_CLIENT),
			WANT(CMD_FLOW, NOBODY, .hook = HOOK_WEBSOCKET_END),
		},
	},
	{
		.name = "RSV1 on a ping",
		.extensions = "permessage-deflate",
		.close_code = 1002, .closed_by_client = false, .close_reason =
		     "error in extension",
		.steps = {
			GIVE(EV_DATA, SIDE_NEW, B("\xc9\x00")),
			WANT(CMD_SEND, SIDE_NEW, B("\x88\x94" MK
			     "\x03\xea" "error in extension")),
			WANT(CMD_SEND, SIDE_CLIENT, B("\x88\x14"
			     "\x03\xea" "error in extension")),
			WANT(CMD_CLOSE, SIDE_NEW),
			WANT(CMD_CLOSE, SIDE_CLIENT),
			WANT(CMD_FLOW, NOBODY, .hook = HOOK_WEBSOCKET_END),
		},
	},
	{
		.name = "a data opcode that there is not",
		.close_code = 1002, .closed_by_client = true, .close_reason = "Invalid opcode 0x3",
		.steps = {
			GIVE(EV_DATA, SIDE_CLIENT, B("\x83\x80" MK)),
			WANT(CMD_SEND, SIDE_NEW, B("\x88\x94" MK "\x03\xeaInvalid opcode 0x3")),
			WANT(CMD_SEND, SIDE_CLIENT, B("\x88\x14" "\x03\xeaInvalid opcode 0x3")),
			WANT(CMD_CLOSE, SIDE_NEW),
			WANT(CMD_CLOSE, SIDE_CLIENT),
			WANT(CMD_FLOW, NOBODY, .hook = HOOK_WEBSOCKET_END),
		},
	},
	{
		.name = "a control opcode that there is not",
		.close_code = 1002, .closed_by_client = false, .close_reason = "Invalid opcode 0xb",
		.steps = {
			GIVE(EV_DATA, SIDE_NEW, B("\x8b\x00")),
			WANT(CMD_SEND, SIDE_NEW, B("\x88\x94" MK "\x03\xeaInvalid opcode 0xb")),
			WANT(CMD_SEND, SIDE_CLIENT, B("\x88\x14" "\x03\xeaInvalid opcode 0xb")),
			WANT(CMD_CLOSE, SIDE_NEW),
			WANT(CMD_CLOSE, SIDE_CLIENT),
			WANT(CMD_FLOW, NOBODY, .hook = HOOK_WEBSOCKET_END),
		},
	},
	{
		.name = "a ping in fragments",
		.close_code = 1002, .closed_by_client = true, .close_reason =
		     "Invalid attempt to fragment control frame",
		.steps = {
			GIVE(EV_DATA, SIDE_CLIENT, B("\x09\x80" MK)),
			WANT(CMD_SEND, SIDE_NEW, B("\x88\xab" MK
			     "\x03\xeaInvalid attempt to fragment control frame")),
			WANT(CMD_SEND, SIDE_CLIENT, B("\x88\x2b"
			     "\x03\xeaInvalid attempt to fragment control frame")),
			WANT(CMD_CLOSE, SIDE_NEW),
			WANT(CMD_CLOSE, SIDE_CLIENT),
			WANT(CMD_FLOW, NOBODY, .hook = HOOK_WEBSOCKET_END),
		},
	},
	{
		.name = "a ping that is too long",
		.close_code = 1002, .closed_by_client = true, .close_reason =
		     "Control frame with payload len > 125",
		.steps = {
			GIVE(EV_DATA, SIDE_CLIENT, B("\x89\xfe\x00~" MK)),
			WANT(CMD_SEND, SIDE_NEW, B("\x88\xa6" MK "\x03\xea"
			     "Control frame with payload len > 125")),
			WANT(CMD_SEND, SIDE_CLIENT, B("\x88\x26" "\x03\xea"
			     "Control frame with payload len > 125")),
			WANT(CMD_CLOSE, SIDE_NEW),
			WANT(CMD_CLOSE, SIDE_CLIENT),
			WANT(CMD_FLOW, NOBODY, .hook = HOOK_WEBSOCKET_END),
		},
	},
	{
		.name = "a length that could be shorter",
		.close_code = 1002, .closed_by_client = false, .close_reason =
		     "Payload length used 2 bytes when 1 would have sufficed",
		.steps = {
			GIVE(EV_DATA, SIDE_NEW, B("\x81\x7e\x00\x05")),
			WANT(CMD_SEND, SIDE_NEW, B("\x88\xb8" MK
			     "\x03\xeaPayload length used 2 bytes when 1 would have sufficed")),
			WANT(CMD_SEND, SIDE_CLIENT, B("\x88\x38"
			     "\x03\xeaPayload length used 2 bytes when 1 would have sufficed")),
			WANT(CMD_CLOSE, SIDE_NEW),
			WANT(CMD_CLOSE, SIDE_CLIENT),
			WANT(CMD_FLOW, NOBODY, .hook = HOOK_WEBSOCKET_END),
		},
	},
	{
		.name = "a 64-bit length that could be shorter",
		.close_code = 1002, .closed_by_client = false, .close_reason =
		     "Payload length used 8 bytes when 2 would have sufficed",
		.steps = {
			GIVE(EV_DATA, SIDE_NEW, B("\x81\x7f\x00\x00\x00\x00\x00\x00\xff\xff")),
			WANT(CMD_SEND, SIDE_NEW, B("\x88\xb8" MK
			     "\x03\xeaPayload length used 8 bytes when 2 would have sufficed")),
			WANT(CMD_SEND, SIDE_CLIENT, B("\x88\x38"
			     "\x03\xeaPayload length used 8 bytes when 2 would have sufficed")),
			WANT(CMD_CLOSE, SIDE_NEW),
			WANT(CMD_CLOSE, SIDE_CLIENT),
			WANT(CMD_FLOW, NOBODY, .hook = HOOK_WEBSOCKET_END),
		},
	},
	{
		.name = "a length with its highest bit set",
		.close_code = 1002, .closed_by_client = false, .close_reason =
		     "8-byte payload length with non-zero MSB",
		.steps = {
			GIVE(EV_DATA, SIDE_NEW, B("\x81\x7f\x80\x00\x00\x00\x00\x00\x00\x00")),
			WANT(CMD_SEND, SIDE_NEW, B("\x88\xa9" MK
			     "\x03\xea" "8-byte payload length with non-zero MSB")),
			WANT(CMD_SEND, SIDE_CLIENT, B("\x88\x29"
			     "\x03\xea" "8-byte payload length with non-zero MSB")),
			WANT(CMD_CLOSE, SIDE_NEW),
			WANT(CMD_CLOSE, SIDE_CLIENT),
			WANT(CMD_FLOW, NOBODY, .hook = HOOK_WEBSOCKET_END),
		},
	},
	{
		.name = "a continuation of nothing",
		.close_code = 1002, .closed_by_client = true, .close_reason =
		     "unexpected CONTINUATION",
		.steps = {
			GIVE(EV_DATA, SIDE_CLIENT, B("\x80\x81" MK "x")),
			WANT(CMD_SEND, SIDE_NEW, B("\x88\x99" MK
			     "\x03\xeaunexpected CONTINUATION")),
			WANT(CMD_SEND, SIDE_CLIENT, B("\x88\x19"
			     "\x03\xeaunexpected CONTINUATION")),
			WANT(CMD_CLOSE, SIDE_NEW),
			WANT(CMD_CLOSE, SIDE_CLIENT),
			WANT(CMD_FLOW, NOBODY, .hook = HOOK_WEBSOCKET_END),
		},
	},
	{
		.name = "a message inside a message",
		.close_code = 1002, .closed_by_client = true, .close_reason =
		     "expected CONTINUATION, got <Opcode.TEXT: 1>",
		.steps = {
			GIVE(EV_DATA, SIDE_CLIENT, B("\x01\x81" MK "x" "\x81\x81" MK "y")),
			WANT(CMD_SEND, SIDE_NEW, B("\x88\xad" MK "\x03\xea"
			     "expected CONTINUATION, got <Opcode.TEXT: 1>")),
			WANT(CMD_SEND, SIDE_CLIENT, B("\x88\x2d" "\x03\xea"
			     "expected CONTINUATION, got <Opcode.TEXT: 1>")),
			WANT(CMD_CLOSE, SIDE_NEW),
			WANT(CMD_CLOSE, SIDE_CLIENT),
			WANT(CMD_FLOW, NOBODY, .hook = HOOK_WEBSOCKET_END),
		},
	},
	{
		.name = "text that is not UTF-8",
		.close_code = 1007, .closed_by_client = true, .close_reason =
		     "text message is not UTF-8",
		.steps = {
			GIVE(EV_DATA, SIDE_CLIENT, B("\x81\x82" MK "a\xff")),
			WANT(CMD_SEND, SIDE_NEW, B("\x88\x9b" MK
			     "\x03\xeftext message is not UTF-8")),
			WANT(CMD_SEND, SIDE_CLIENT, B("\x88\x1b"
			     "\x03\xeftext message is not UTF-8")),
			WANT(CMD_CLOSE, SIDE_NEW),
			WANT(CMD_CLOSE, SIDE_CLIENT),
			WANT(CMD_FLOW, NOBODY, .hook = HOOK_WEBSOCKET_END),
		},
	},
	{
		.name = "found as soon as it is there",
		.close_code = 1007, .closed_by_client = true, .close_reason =
		     "text message is not UTF-8",
		.steps = {
			GIVE(EV_DATA, SIDE_CLIENT, B("\x01\x81" MK "\xc0")),
			WANT(CMD_SEND, SIDE_NEW, B("\x88\x9b" MK
			     "\x03\xeftext message is not UTF-8")),
			WANT(CMD_SEND, SIDE_CLIENT, B("\x88\x1b"
			     "\x03\xeftext message is not UTF-8")),
			WANT(CMD_CLOSE, SIDE_NEW),
			WANT(CMD_CLOSE, SIDE_CLIENT),
			WANT(CMD_FLOW, NOBODY, .hook = HOOK_WEBSOCKET_END),
		},
	},
	{
		.name = "a surrogate is no character",
		.close_code = 1007, .closed_by_client = false, .close_reason =
		     "text message is not UTF-8",
		.steps = {
			GIVE(EV_DATA, SIDE_NEW, B("\x81\x03" "\xed\xa0\x80")),
			WANT(CMD_SEND, SIDE_NEW, B("\x88\x9b" MK
			     "\x03\xeftext message is not UTF-8")),
			WANT(CMD_SEND, SIDE_CLIENT, B("\x88\x1b"
			     "\x03\xeftext message is not UTF-8")),
			WANT(CMD_CLOSE, SIDE_NEW),
			WANT(CMD_CLOSE, SIDE_CLIENT),
			WANT(CMD_FLOW, NOBODY, .hook = HOOK_WEBSOCKET_END),
		},
	},
	{
		.name = "text that ends inside a character",
		.close_code = 1007, .closed_by_client = true, .close_reason =
		     "text message ends inside a UTF-8 character",
		.steps = {
			GIVE(EV_DATA, SIDE_CLIENT, B("\x81\x83" MK "a\xe2\x82")),
			WANT(CMD_SEND, SIDE_NEW, B("\x88\xac" MK
			     "\x03\xeftext message ends inside a UTF-8 character")),
			WANT(CMD_SEND, SIDE_CLIENT, B("\x88,"
			     "\x03\xeftext message ends inside a UTF-8 character")),
			WANT(CMD_CLOSE, SIDE_NEW),
			WANT(CMD_CLOSE, SIDE_CLIENT),
			WANT(CMD_FLOW, NOBODY, .hook = HOOK_WEBSOCKET_END),
		},
	},
	{
		.name = "a close of one byte",
		.close_code = 1002, .closed_by_client = true, .close_reason =
		     "CLOSE with 1 byte payload",
		.steps = {
			GIVE(EV_DATA, SIDE_CLIENT, B("\x88\x81" MK "\x03")),
			WANT(CMD_SEND, SIDE_NEW, B("\x88\x9b" MK "\x03\xea"
			     "CLOSE with 1 byte payload")),
			WANT(CMD_SEND, SIDE_CLIENT, B("\x88\x1b" "\x03\xea"
			     "CLOSE with 1 byte payload")),
			WANT(CMD_CLOSE, SIDE_NEW),
			WANT(CMD_CLOSE, SIDE_CLIENT),
			WANT(CMD_FLOW, NOBODY, .hook = HOOK_WEBSOCKET_END),
		},
	},
	{
		.name = "a close with a code that is never sent",
		.close_code = 1002, .closed_by_client = true, .close_reason =
		     "remote CLOSE with local-only reason",
		.steps = {
			GIVE(EV_DATA, SIDE_CLIENT, B("\x88\x82" MK "\x03\xed")),
			WANT(CMD_SEND, SIDE_NEW, B("\x88\xa5" MK "\x03\xea"
			     "remote CLOSE with local-only reason")),
			WANT(CMD_SEND, SIDE_CLIENT, B("\x88\x25" "\x03\xea"
			     "remote CLOSE with local-only reason")),
			WANT(CMD_CLOSE, SIDE_NEW),
			WANT(CMD_CLOSE, SIDE_CLIENT),
			WANT(CMD_FLOW, NOBODY, .hook = HOOK_WEBSOCKET_END),
		},
	},
	{
		.name = "a close with a code out of range",
		.close_code = 1002, .closed_by_client = false, .close_reason =
		     "CLOSE with invalid code",
		.steps = {
			GIVE(EV_DATA, SIDE_NEW, B("\x88\x02" "\x03\xe7")),
			WANT(CMD_SEND, SIDE_NEW, B("\x88\x99" MK "\x03\xea"
			     "CLOSE with invalid code")),
			WANT(CMD_SEND, SIDE_CLIENT, B("\x88\x19" "\x03\xea"
			     "CLOSE with invalid code")),
			WANT(CMD_CLOSE, SIDE_NEW),
			WANT(CMD_CLOSE, SIDE_CLIENT),
			WANT(CMD_FLOW, NOBODY, .hook = HOOK_WEBSOCKET_END),
		},
	},
	{
		.name = "a close whose reason is not UTF-8",
		.close_code = 1007, .closed_by_client = false, .close_reason =
		     "the reason in a close frame is not UTF-8",
		.steps = {
			GIVE(EV_DATA, SIDE_NEW, B("\x88\x03" "\x03\xe8\xff")),
			WANT(CMD_SEND, SIDE_NEW, B("\x88\xaa" MK
			     "\x03\xefthe reason in a close frame is not UTF-8")),
			WANT(CMD_SEND, SIDE_CLIENT, B("\x88*"
			     "\x03\xefthe reason in a close frame is not UTF-8")),
			WANT(CMD_CLOSE, SIDE_NEW),
			WANT(CMD_CLOSE, SIDE_CLIENT),
			WANT(CMD_FLOW, NOBODY, .hook = HOOK_WEBSOCKET_END),
		},
	},
	{
		.name = "what is not deflated",
		.extensions = "permessage-deflate",
		.close_code = 1007, .closed_by_client = true, .close_reason =
		     "error in extension",
		.steps = {
			GIVE(EV_DATA, SIDE_CLIENT, B("\xc1\x85" MK "\xff\xff\xff\xff\xff")),
			WANT(CMD_SEND, SIDE_NEW, B("\x88\x94" MK
			     "\x03\xef" "error in extension")),
			WANT(CMD_SEND, SIDE_CLIENT, B("\x88\x14"
			     "\x03\xef" "error in extension")),
			WANT(CMD_CLOSE, SIDE_NEW),
			WANT(CMD_CLOSE, SIDE_CLIENT),
			WANT(CMD_FLOW, NOBODY, .hook = HOOK_WEBSOCKET_END),
		},
	},
	{
		.name = "RSV1 on a continuation",
		.extensions = "permessage-deflate",
		.close_code = 1002, .closed_by_client = true, .close_reason =
		     "error in extension",
		.steps = {
			GIVE(EV_DATA, SIDE_CLIENT, B("A\x83" MK "\xf2H\xcd" "\xc0\x84" MK
			     "\xc9\xc9\x07\x00")),
			WANT(CMD_SEND, SIDE_NEW, B("\x88\x94" MK
			     "\x03\xea" "error in extension")),
			WANT(CMD_SEND, SIDE_CLIENT, B("\x88\x14"
			     "\x03\xea" "error in extension")),
			WANT(CMD_CLOSE, SIDE_NEW),
			WANT(CMD_CLOSE, SIDE_CLIENT),
			WANT(CMD_FLOW, NOBODY, .hook = HOOK_WEBSOCKET_END),
		},
	},
	{
		.name = "parameters that make no sense: nothing was agreed",
		.extensions = "permessage-deflate; client_max_window_bits=99",
		.close_code = 1002, .closed_by_client = true, .close_reason =
		     "Reserved bit set unexpectedly",
		.steps = {
			GIVE(EV_DATA, SIDE_CLIENT, B("\xc1\x87" MK "\xf2H\xcd\xc9\xc9\x07\x00")),
			WANT(CMD_SEND, SIDE_NEW, B("\x88\x9f" MK
			     "\x03\xeaReserved bit set unexpectedly")),
			WANT(CMD_SEND, SIDE_CLIENT, B("\x88\x1f"
			     "\x03\xeaReserved bit set unexpectedly")),
			WANT(CMD_CLOSE, SIDE_NEW),
			WANT(CMD_CLOSE, SIDE_CLIENT),
			WANT(CMD_FLOW, NOBODY, .hook = HOOK_WEBSOCKET_END),
		},
	},
};

static void test_talks(void **state)
{
	(void)state;
	talk_all(talks, ARRAY_SIZE(talks));
}

static void test_talks_sweep(void **state)
{
	(void)state;
	talk_sweep(talks, ARRAY_SIZE(talks));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_talks),
		cmocka_unit_test(test_talks_sweep),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
