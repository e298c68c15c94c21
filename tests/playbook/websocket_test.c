/* SPDX-License-Identifier: MIT */
/* WebSockets that go well: messages, fragments, deflating, ends, backpressure, hooks, injection. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "layers/websocket.h"
#include "websocket_talk.h"
#include "wire/websocket.h"

static struct websocket_message *current(void *arg)
{
	return ((struct flow *)arg)->http.messages->current;
}

static void drop(void *arg)
{
	current(arg)->dropped = true;
}

static void change(void *arg, struct slice text)
{
	struct websocket_message *m = current(arg);

	chain_clear(&m->data);
	m->changed = true;
	assert_int_equal(chain_append(&m->data, text), 0);
}

static void change_abc(void *arg)
{
	change(arg, SLICE("ABC"));
}

static void change_spoilt(void *arg)
{
	change(arg, SLICE("a\xff" "b"));
}

static void kill_flow(void *arg)
{
	((struct flow *)arg)->error = STR("Connection killed.");
}

static const struct talk talks[] = {
	{
		.name = "text both ways, and the end that the client makes",
		.close_code = 1000, .closed_by_client = true, .close_reason = "bye",
		.check_messages = true, .messages = { M(">hi"), M("<echo hi") },
		.steps = {
			GIVE(EV_DATA, SIDE_CLIENT, B("\x81\x82" MK "hi")),
			WANT(CMD_SEND, SIDE_NEW, B("\x81\x82" MK "hi")),
			GIVE(EV_DATA, SIDE_NEW, B("\x81\x07" "echo hi")),
			WANT(CMD_SEND, SIDE_CLIENT, B("\x81\x07" "echo hi")),
			GIVE(EV_DATA, SIDE_CLIENT, B("\x88\x85" MK "\x03\xe8" "bye")),
			WANT(CMD_SEND, SIDE_NEW, B("\x88\x85" MK "\x03\xe8" "bye")),
			WANT(CMD_SEND, SIDE_CLIENT, B("\x88\x05" "\x03\xe8" "bye")),
			WANT(CMD_CLOSE, SIDE_NEW),
			WANT(CMD_CLOSE, SIDE_CLIENT),
			WANT(CMD_FLOW, NOBODY, .hook = HOOK_WEBSOCKET_END),
		},
	},
	{
		.name = "binary both ways",
		.steps = {
			GIVE(EV_DATA, SIDE_CLIENT, B("\x82\x82" MK "\x00\xff")),
			WANT(CMD_SEND, SIDE_NEW, B("\x82\x82" MK "\x00\xff")),
			GIVE(EV_DATA, SIDE_NEW, B("\x82\x02" "\xff\x00")),
			WANT(CMD_SEND, SIDE_CLIENT, B("\x82\x02" "\xff\x00")),
		},
	},
	{
		.name = "a byte at a time",
		.check_messages = true, .messages = { M(">hello"), M(">\x01\x02"), M("<answer") },
		.steps = {
			GIVE(EV_DATA, SIDE_CLIENT, B("\x81\x85" MK "hello" "\x82\x82" MK
			     "\x01\x02"), .by = 1),
			WANT(CMD_SEND, SIDE_NEW, B("\x81\x85" MK "hello" "\x82\x82" MK "\x01\x02")),
			GIVE(EV_DATA, SIDE_NEW, B("\x81\x06" "answer"), .by = 1),
			WANT(CMD_SEND, SIDE_CLIENT, B("\x81\x06" "answer")),
		},
	},
	{
		.name = "an empty message is a message",
		.check_messages = true, .messages = { M(">"), M("<") },
		.steps = {
			GIVE(EV_DATA, SIDE_CLIENT, B("\x81\x80" MK)),
			WANT(CMD_SEND, SIDE_NEW, B("\x81\x80" MK)),
			GIVE(EV_DATA, SIDE_NEW, B("\x82\x00")),
			WANT(CMD_SEND, SIDE_CLIENT, B("\x82\x00")),
		},
	},
	{
		.name = "several messages in one read",
		.check_messages = true, .messages = { M("<a"), M("<b"), M("<c") },
		.steps = {
			GIVE(EV_DATA, SIDE_NEW, B("\x81\x01" "a" "\x81\x01" "b" "\x81\x01" "c")),
			WANT(CMD_SEND, SIDE_CLIENT, B("\x81\x01" "a" "\x81\x01" "b" "\x81\x01"
			     "c")),
		},
	},
	{
		.name = "a length of 126 takes two bytes",
		.steps = {
			GIVE(EV_DATA, SIDE_CLIENT, B("\x82\xfe\x00~" MK
			     "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
			     "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx")),
			WANT(CMD_SEND, SIDE_NEW, B("\x82\xfe\x00~" MK
			     "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
			     "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx")),
			GIVE(EV_DATA, SIDE_NEW, B("\x82~\x00~"
			     "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
			     "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx")),
			WANT(CMD_SEND, SIDE_CLIENT, B("\x82~\x00~"
			     "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
			     "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx")),
		},
	},
	{
		.name = "fragments are kept as they are",
		.check_messages = true, .messages = { M(">abcdef") },
		.steps = {
			GIVE(EV_DATA, SIDE_CLIENT, B("\x01\x82" MK "ab")),
			GIVE(EV_DATA, SIDE_CLIENT, B("\x00\x82" MK "cd")),
			GIVE(EV_DATA, SIDE_CLIENT, B("\x80\x82" MK "ef")),
			WANT(CMD_SEND, SIDE_NEW, B("\x01\x82" MK "ab" "\x00\x82" MK "cd"
			     "\x80\x82" MK "ef")),
		},
	},
	{
		.name = "empty fragments are kept, too",
		.check_messages = true, .messages = { M("<a") },
		.steps = {
			GIVE(EV_DATA, SIDE_NEW, B("\x01\x00" "\x00\x01" "a" "\x00\x00" "\x80\x00")),
			WANT(CMD_SEND, SIDE_CLIENT, B("\x01\x00" "\x00\x01" "a" "\x00\x00"
			     "\x80\x00")),
		},
	},
	{
		.name = "a ping between fragments goes ahead of the message",
		.check_messages = true, .messages = { M(">abc") },
		.steps = {
			GIVE(EV_DATA, SIDE_CLIENT, B("\x01\x82" MK "ab")),
			GIVE(EV_DATA, SIDE_CLIENT, B("\x89\x81" MK "p")),
			WANT(CMD_SEND, SIDE_NEW, B("\x89\x81" MK "p")),
			GIVE(EV_DATA, SIDE_CLIENT, B("\x80\x81" MK "c")),
			WANT(CMD_SEND, SIDE_NEW, B("\x01\x82" MK "ab" "\x80\x81" MK "c")),
		},
	},
	{
		.name = "ping and pong are the peers' own matter",
		.check_messages = true,
		.steps = {
			GIVE(EV_DATA, SIDE_CLIENT, B("\x89\x82" MK "p1")),
			WANT(CMD_SEND, SIDE_NEW, B("\x89\x82" MK "p1")),
			GIVE(EV_DATA, SIDE_NEW, B("\x8a\x02" "p1")),
			WANT(CMD_SEND, SIDE_CLIENT, B("\x8a\x02" "p1")),
			GIVE(EV_DATA, SIDE_NEW, B("\x89\x00")),
			WANT(CMD_SEND, SIDE_CLIENT, B("\x89\x00")),
			GIVE(EV_DATA, SIDE_CLIENT, B("\x8a\x80" MK)),
			WANT(CMD_SEND, SIDE_NEW, B("\x8a\x80" MK)),
		},
	},
	{
		.name = "both ways at once do not disturb each other",
		.check_messages = true, .messages = { M(">ab"), M("<cdef") },
		.steps = {
			GIVE(EV_DATA, SIDE_CLIENT, B("\x01\x82" MK "ab")),
			GIVE(EV_DATA, SIDE_NEW, B("\x01\x02" "cd")),
			GIVE(EV_DATA, SIDE_CLIENT, B("\x80\x80" MK)),
			WANT(CMD_SEND, SIDE_NEW, B("\x01\x82" MK "ab" "\x80\x80" MK)),
			GIVE(EV_DATA, SIDE_NEW, B("\x80\x02" "ef")),
			WANT(CMD_SEND, SIDE_CLIENT, B("\x01\x02" "cd" "\x80\x02" "ef")),
		},
	},
	{
		.name = "a close with a code of the application's",
		.close_code = 4000, .closed_by_client = false, .close_reason = "server bye",
		.steps = {
			GIVE(EV_DATA, SIDE_NEW, B("\x88\x0c" "\x0f\xa0server bye")),
			WANT(CMD_SEND, SIDE_NEW, B("\x88\x8c" MK "\x0f\xa0server bye")),
			WANT(CMD_SEND, SIDE_CLIENT, B("\x88\x0c" "\x0f\xa0server bye")),
			WANT(CMD_CLOSE, SIDE_NEW),
			WANT(CMD_CLOSE, SIDE_CLIENT),
			WANT(CMD_FLOW, NOBODY, .hook = HOOK_WEBSOCKET_END),
		},
	},
	{
		.name = "a close without a code",
		.close_code = 1005, .closed_by_client = true, .close_reason = "",
		.steps = {
			GIVE(EV_DATA, SIDE_CLIENT, B("\x88\x80" MK)),
			WANT(CMD_SEND, SIDE_NEW, B("\x88\x80" MK)),
			WANT(CMD_SEND, SIDE_CLIENT, B("\x88\x00")),
			WANT(CMD_CLOSE, SIDE_NEW),
			WANT(CMD_CLOSE, SIDE_CLIENT),
			WANT(CMD_FLOW, NOBODY, .hook = HOOK_WEBSOCKET_END),
		},
	},
	{
		.name = "what follows a close is of no interest",
		.close_code = 1000, .closed_by_client = true, .close_reason = "",
		.check_messages = true,
		.steps = {
			GIVE(EV_DATA, SIDE_CLIENT, B("\x88\x82" MK "\x03\xe8" "\x81\x84" MK
			     "late")),
			WANT(CMD_SEND, SIDE_NEW, B("\x88\x82" MK "\x03\xe8")),
			WANT(CMD_SEND, SIDE_CLIENT, B("\x88\x02" "\x03\xe8")),
			WANT(CMD_CLOSE, SIDE_NEW),
			WANT(CMD_CLOSE, SIDE_CLIENT),
			WANT(CMD_FLOW, NOBODY, .hook = HOOK_WEBSOCKET_END),
			GIVE(EV_DATA, SIDE_NEW, B("\x81\x04" "late")),
		},
	},
	{
		.name = "the client is gone without a close",
		.close_code = 1006, .closed_by_client = true, .close_reason = NULL,
		.check_messages = true, .messages = { M(">hi") },
		.steps = {
			GIVE(EV_DATA, SIDE_CLIENT, B("\x81\x82" MK "hi")),
			WANT(CMD_SEND, SIDE_NEW, B("\x81\x82" MK "hi")),
			GIVE(EV_CLOSED, SIDE_CLIENT),
			WANT(CMD_SEND, SIDE_NEW, B("\x88\x82" MK "\x03\xe8")),
			WANT(CMD_CLOSE, SIDE_NEW),
			WANT(CMD_CLOSE, SIDE_CLIENT),
			WANT(CMD_FLOW, NOBODY, .hook = HOOK_WEBSOCKET_END),
		},
	},
	{
		.name = "the server is gone without a close",
		.close_code = 1006, .closed_by_client = false, .close_reason = NULL,
		.steps = {
			GIVE(EV_CLOSED, SIDE_NEW),
			WANT(CMD_SEND, SIDE_CLIENT, B("\x88\x02" "\x03\xe8")),
			WANT(CMD_CLOSE, SIDE_NEW),
			WANT(CMD_CLOSE, SIDE_CLIENT),
			WANT(CMD_FLOW, NOBODY, .hook = HOOK_WEBSOCKET_END),
		},
	},
	{
		.name = "a reset is an end without a close",
		.close_code = 1006, .closed_by_client = false, .close_reason = NULL,
		.steps = {
			GIVE(EV_CLOSED, SIDE_NEW, .reset = true),
			WANT(CMD_SEND, SIDE_CLIENT, B("\x88\x02" "\x03\xe8")),
			WANT(CMD_CLOSE, SIDE_NEW),
			WANT(CMD_CLOSE, SIDE_CLIENT),
			WANT(CMD_FLOW, NOBODY, .hook = HOOK_WEBSOCKET_END),
		},
	},
	{
		.name = "gone in the middle of a frame",
		.close_code = 1006, .closed_by_client = true, .close_reason = NULL,
		.check_messages = true,
		.steps = {
			GIVE(EV_DATA, SIDE_CLIENT, B("\x81\x85" MK "he")),
			GIVE(EV_CLOSED, SIDE_CLIENT),
			WANT(CMD_SEND, SIDE_NEW, B("\x88\x82" MK "\x03\xe8")),
			WANT(CMD_CLOSE, SIDE_NEW),
			WANT(CMD_CLOSE, SIDE_CLIENT),
			WANT(CMD_FLOW, NOBODY, .hook = HOOK_WEBSOCKET_END),
		},
	},
	{
		.name = "a character in two fragments",
		.check_messages = true, .messages = { M(">\xe2\x82\xac") },
		.steps = {
			GIVE(EV_DATA, SIDE_CLIENT, B("\x01\x82" MK "\xe2\x82" "\x80\x81" MK
			     "\xac")),
			WANT(CMD_SEND, SIDE_NEW, B("\x01\x82" MK "\xe2\x82" "\x80\x81" MK "\xac")),
		},
	},
	{
		.name = "deflated both ways",
		.extensions = "permessage-deflate",
		.check_messages = true, .messages = { M(">Hello"), M("<Hello") },
		.steps = {
			GIVE(EV_DATA, SIDE_CLIENT, B("\xc1\x87" MK "\xf2H\xcd\xc9\xc9\x07\x00")),
			WANT(CMD_SEND, SIDE_NEW, B("\xc1\x87" MK "\xf2H\xcd\xc9\xc9\x07\x00")),
			GIVE(EV_DATA, SIDE_NEW, B("\xc1\x07" "\xf2H\xcd\xc9\xc9\x07\x00")),
			WANT(CMD_SEND, SIDE_CLIENT, B("\xc1\x07" "\xf2H\xcd\xc9\xc9\x07\x00")),
		},
	},
	{
		.name = "the window goes on from message to message",
		.extensions = "permessage-deflate; client_max_window_bits=12",
		.check_messages = true, .messages = { M(">Hello"), M(">Hello") },
		.steps = {
			GIVE(EV_DATA, SIDE_CLIENT, B("\xc1\x87" MK "\xf2H\xcd\xc9\xc9\x07\x00"
			     "\xc1\x85" MK "\xf2\x00\x11\x00\x00")),
			WANT(CMD_SEND, SIDE_NEW, B("\xc1\x87" MK "\xf2H\xcd\xc9\xc9\x07\x00"
			     "\xc1\x85" MK "\xf2\x00\x11\x00\x00")),
		},
	},
	{
		.name = "or it does not, when that was agreed",
		.extensions = "permessage-deflate; client_no_context_takeover; x-unknown=1",
		.check_messages = true, .messages = { M(">Hello"), M(">Hello"), M("<Hello"),
		     M("<Hello") },
		.steps = {
			GIVE(EV_DATA, SIDE_CLIENT, B("\xc1\x87" MK "\xf2H\xcd\xc9\xc9\x07\x00"
			     "\xc1\x87" MK "\xf2H\xcd\xc9\xc9\x07\x00")),
			WANT(CMD_SEND, SIDE_NEW, B("\xc1\x87" MK "\xf2H\xcd\xc9\xc9\x07\x00"
			     "\xc1\x87" MK "\xf2H\xcd\xc9\xc9\x07\x00")),
			GIVE(EV_DATA, SIDE_NEW, B("\xc1\x07" "\xf2H\xcd\xc9\xc9\x07\x00"
			     "\xc1\x05" "\xf2\x00\x11\x00\x00")),
			WANT(CMD_SEND, SIDE_CLIENT, B("\xc1\x07" "\xf2H\xcd\xc9\xc9\x07\x00"
			     "\xc1\x05" "\xf2\x00\x11\x00\x00")),
		},
	},
	{
		.name = "what came as it is leaves deflated",
		.extensions = "x-other, permessage-deflate;server_max_window_bits=\"10\"",
		.check_messages = true, .messages = { M("<Hello") },
		.steps = {
			GIVE(EV_DATA, SIDE_NEW, B("\x81\x05" "Hello")),
			WANT(CMD_SEND, SIDE_CLIENT, B("\xc1\x07" "\xf2H\xcd\xc9\xc9\x07\x00")),
		},
	},
	{
		.name = "a window that zlib cannot make: it leaves as it is",
		.extensions = "permessage-deflate; client_max_window_bits=8",
		.check_messages = true, .messages = { M(">Hello") },
		.steps = {
			GIVE(EV_DATA, SIDE_CLIENT, B("\xc1\x87" MK "\xf2H\xcd\xc9\xc9\x07\x00")),
			WANT(CMD_SEND, SIDE_NEW, B("\x81\x85" MK "Hello")),
		},
	},
	{
		.name = "a message that is deflated to nothing but a block",
		.extensions = "permessage-deflate",
		.check_messages = true, .messages = { M(">") },
		.steps = {
			GIVE(EV_DATA, SIDE_CLIENT, B("\xc1\x81" MK "\x00")),
			WANT(CMD_SEND, SIDE_NEW, B("\xc1\x81" MK "\x00")),
		},
	},
	{
		.name = "deflated in fragments",
		.extensions = "permessage-deflate",
		.check_messages = true, .messages = { M(">Hello") },
		.steps = {
			GIVE(EV_DATA, SIDE_CLIENT, B("A\x83" MK "\xf2H\xcd" "\x80\x84" MK
			     "\xc9\xc9\x07\x00")),
			WANT(CMD_SEND, SIDE_NEW, .any = true),
		},
	},
	{
		.name = "a block that calls itself the last",
		.extensions = "permessage-deflate",
		.check_messages = true, .messages = { M(">Hello") },
		.steps = {
			GIVE(EV_DATA, SIDE_CLIENT, B("\xc1\x88" MK
			     "\xf3H\xcd\xc9\xc9\x07\x00\x00")),
			WANT(CMD_SEND, SIDE_NEW, B("\xc1\x87" MK "\xf2H\xcd\xc9\xc9\x07\x00")),
		},
	},
	{
		.name = "a full server pauses the client",
		.check_messages = true, .messages = { M(">1"), M("<3"), M(">2") },
		.steps = {
			GIVE(EV_DATA, SIDE_CLIENT, B("\x81\x81" MK "1")),
			WANT(CMD_SEND, SIDE_NEW, B("\x81\x81" MK "1"), .full = true),
			WANT(CMD_PAUSE, SIDE_CLIENT, .why = PAUSE_PEER),
			GIVE(EV_DATA, SIDE_CLIENT, B("\x81\x81" MK "2")),
			GIVE(EV_DATA, SIDE_NEW, B("\x81\x01" "3")),
			WANT(CMD_SEND, SIDE_CLIENT, B("\x81\x01" "3")),
			GIVE(EV_WRITABLE, SIDE_NEW),
			WANT(CMD_SEND, SIDE_NEW, B("\x81\x81" MK "2")),
			WANT(CMD_RESUME, SIDE_CLIENT, .why = PAUSE_PEER),
		},
	},
	{
		.name = "a server that is full again leaves the client paused",
		.check_messages = true, .messages = { M(">1"), M(">2"), M(">3") },
		.steps = {
			GIVE(EV_DATA, SIDE_CLIENT, B("\x81\x81" MK "1")),
			WANT(CMD_SEND, SIDE_NEW, B("\x81\x81" MK "1"), .full = true),
			WANT(CMD_PAUSE, SIDE_CLIENT, .why = PAUSE_PEER),
			GIVE(EV_DATA, SIDE_CLIENT, B("\x81\x81" MK "2" "\x81\x81" MK "3")),
			GIVE(EV_WRITABLE, SIDE_NEW),
			WANT(CMD_SEND, SIDE_NEW, B("\x81\x81" MK "2" "\x81\x81" MK "3"), .full = true),
			WANT(CMD_PAUSE, SIDE_CLIENT, .why = PAUSE_PEER),
			GIVE(EV_WRITABLE, SIDE_NEW),
			WANT(CMD_RESUME, SIDE_CLIENT, .why = PAUSE_PEER),
		},
	},
	{
		.name = "a full client pauses the server",
		.steps = {
			GIVE(EV_DATA, SIDE_NEW, B("\x81\x01" "1")),
			WANT(CMD_SEND, SIDE_CLIENT, B("\x81\x01" "1"), .full = true),
			WANT(CMD_PAUSE, SIDE_NEW, .why = PAUSE_PEER),
			GIVE(EV_WRITABLE, SIDE_CLIENT),
			WANT(CMD_RESUME, SIDE_NEW, .why = PAUSE_PEER),
		},
	},
	{
		.name = "an end waits behind what was said before",
		.close_code = 1006, .closed_by_client = false, .close_reason = NULL,
		.check_messages = true, .messages = { M("<1"), M("<2") },
		.steps = {
			GIVE(EV_DATA, SIDE_NEW, B("\x81\x01" "1")),
			WANT(CMD_SEND, SIDE_CLIENT, B("\x81\x01" "1"), .full = true),
			WANT(CMD_PAUSE, SIDE_NEW, .why = PAUSE_PEER),
			GIVE(EV_DATA, SIDE_NEW, B("\x81\x01" "2")),
			GIVE(EV_CLOSED, SIDE_NEW),
			GIVE(EV_WRITABLE, SIDE_CLIENT),
			WANT(CMD_SEND, SIDE_CLIENT, B("\x81\x01" "2" "\x88\x02" "\x03\xe8")),
			WANT(CMD_CLOSE, SIDE_NEW),
			WANT(CMD_CLOSE, SIDE_CLIENT),
			WANT(CMD_FLOW, NOBODY, .hook = HOOK_WEBSOCKET_END),
		},
	},
	{
		.name = "a message waits for its hook, and others behind it",
		.block = true,
		.check_messages = true, .messages = { M(">1"), M(">2"), M("<3") },
		.steps = {
			GIVE(EV_DATA, SIDE_CLIENT, B("\x81\x81" MK "1")),
			WANT(CMD_HOOK, NOBODY, .hook = HOOK_WEBSOCKET_MESSAGE, .hold = true),
			GIVE(EV_DATA, SIDE_CLIENT, B("\x81\x81" MK "2")),
			GIVE(EV_DATA, SIDE_NEW, B("\x81\x01" "3")),
			GIVE(EV_HOOK_DONE, NOBODY),
			WANT(CMD_SEND, SIDE_NEW, B("\x81\x81" MK "1")),
			WANT(CMD_HOOK, NOBODY, .hook = HOOK_WEBSOCKET_MESSAGE, .hold = true),
			GIVE(EV_HOOK_DONE, NOBODY),
			WANT(CMD_SEND, SIDE_NEW, B("\x81\x81" MK "2")),
			WANT(CMD_HOOK, NOBODY, .hook = HOOK_WEBSOCKET_MESSAGE),
			WANT(CMD_SEND, SIDE_CLIENT, B("\x81\x01" "3")),
		},
	},
	{
		.name = "a dropped message stays here",
		.block = true,
		.check_messages = true, .messages = { M(">1"), M(">2") },
		.steps = {
			GIVE(EV_DATA, SIDE_CLIENT, B("\x81\x81" MK "1")),
			WANT(CMD_HOOK, NOBODY, .hook = HOOK_WEBSOCKET_MESSAGE, .check = drop),
			GIVE(EV_DATA, SIDE_CLIENT, B("\x81\x81" MK "2")),
			WANT(CMD_HOOK, NOBODY, .hook = HOOK_WEBSOCKET_MESSAGE),
			WANT(CMD_SEND, SIDE_NEW, B("\x81\x81" MK "2")),
		},
	},
	{
		.name = "a changed message of the same length keeps its frames",
		.block = true,
		.check_messages = true, .messages = { M(">ABC") },
		.steps = {
			GIVE(EV_DATA, SIDE_CLIENT, B("\x01\x82" MK "ab" "\x80\x81" MK "c")),
			WANT(CMD_HOOK, NOBODY, .hook = HOOK_WEBSOCKET_MESSAGE, .check = change_abc),
			WANT(CMD_SEND, SIDE_NEW, B("\x01\x82" MK "AB" "\x80\x81" MK "C")),
		},
	},
	{
		.name = "a changed message of another length is one frame",
		.block = true,
		.check_messages = true, .messages = { M(">ABC") },
		.steps = {
			GIVE(EV_DATA, SIDE_CLIENT, B("\x01\x81" MK "a" "\x80\x81" MK "b")),
			WANT(CMD_HOOK, NOBODY, .hook = HOOK_WEBSOCKET_MESSAGE, .check = change_abc),
			WANT(CMD_SEND, SIDE_NEW, B("\x81\x83" MK "ABC")),
		},
	},
	{
		.name = "text that a hook spoils is repaired",
		.block = true,
		.steps = {
			GIVE(EV_DATA, SIDE_NEW, B("\x81\x02" "ab")),
			WANT(CMD_HOOK, NOBODY, .hook = HOOK_WEBSOCKET_MESSAGE, .check =
			     change_spoilt),
			WANT(CMD_SEND, SIDE_CLIENT, B("\x81\x05" "a\xef\xbf\xbd" "b")),
		},
	},
	{
		.name = "killed in a message: both sides are closed without a word",
		.block = true,
		.steps = {
			GIVE(EV_DATA, SIDE_CLIENT, B("\x81\x81" MK "1")),
			WANT(CMD_HOOK, NOBODY, .hook = HOOK_WEBSOCKET_MESSAGE, .check = kill_flow),
			WANT(CMD_CLOSE, SIDE_NEW),
			WANT(CMD_CLOSE, SIDE_CLIENT),
			WANT(CMD_FLOW, NOBODY, .hook = HOOK_WEBSOCKET_END),
		},
	},
	{
		.name = "a message that is too long is not held back",
		.capture_max = 4,
		.lost = 6,
		.check_messages = true, .messages = { M(">0123") },
		.steps = {
			GIVE(EV_DATA, SIDE_CLIENT, B("\x82\x8a" MK "01234")),
			WANT(CMD_SEND, SIDE_NEW, B("\x02\x85" MK "01234")),
			GIVE(EV_DATA, SIDE_CLIENT, B("56789")),
			WANT(CMD_SEND, SIDE_NEW, B("\x00\x85" MK "56789" "\x80\x80" MK)),
		},
	},
	{
		.name = "fragments that are too long together",
		.capture_max = 4,
		.lost = 2,
		.check_messages = true, .messages = { M(">0123") },
		.steps = {
			GIVE(EV_DATA, SIDE_CLIENT, B("\x01\x84" MK "0123")),
			GIVE(EV_DATA, SIDE_CLIENT, B("\x00\x81" MK "4")),
			WANT(CMD_SEND, SIDE_NEW, B("\x01\x85" MK "01234")),
			GIVE(EV_DATA, SIDE_CLIENT, B("\x89\x80" MK)),
			WANT(CMD_SEND, SIDE_NEW, B("\x89\x80" MK)),
			GIVE(EV_DATA, SIDE_CLIENT, B("\x80\x81" MK "5")),
			WANT(CMD_SEND, SIDE_NEW, B("\x00\x81" MK "5" "\x80\x80" MK)),
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

/* --- what a table cannot say ------------------------------------------------------------------------------------- */

struct seen {
	struct layer *websocket;         /* whoever sent last */
	struct chain sent;               /* to either side */
};

static bool see(struct playbook *pb, struct command *cmd, bool *answer)
{
	struct seen *seen = pb->owner;

	if (cmd->type != CMD_SEND)
		return false;
	seen->websocket = cmd->from;
	assert_int_equal(chain_join(&seen->sent, cmd->data), 0);
	*answer = false;
	return true;
}

/* One frame off the front; its payload, unmasked, is text. */
static struct websocket_head take_frame(struct chain *c, const char *text)
{
	uint8_t bytes[64];
	struct websocket_head h;
	const char *why;
	int len = websocket_head_parse(&h, bytes, chain_peek(c, 0, bytes, WEBSOCKET_HEAD_MAX), &why);

	assert_true(len > 0);
	assert_int_equal(h.len, strlen(text));
	chain_drop(c, (size_t)len);
	assert_int_equal(chain_peek(c, 0, bytes, (size_t)h.len), h.len);
	chain_drop(c, (size_t)h.len);
	if (h.masked)
		websocket_mask(bytes, (size_t)h.len, h.key, 0);
	assert_memory_equal(bytes, text, h.len);
	return h;
}

static uint64_t counting(struct env *env)
{
	static uint64_t seed;

	(void)env;
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return seed >> 16;
}

static void test_masks_are_random(void **state)
{
	struct seen seen = { 0 };
	struct websocket_head one, two;
	struct play p;

	(void)state;
	assert_true(talk_begin(&p, NULL));
	p.pb.env.random = counting;
	p.pb.on_command = see;
	p.pb.owner = &seen;
	PLAYBOOK("two messages", p.l,
		GIVE(EV_DATA, SIDE_CLIENT, B("\x81\x89\x01\x02\x03\x04" "psqp" "mwqm" "x")),
		GIVE(EV_DATA, SIDE_CLIENT, B("\x81\x82\x01\x02\x03\x04" "ik")));
	one = take_frame(&seen.sent, "qqrtluriy");
	two = take_frame(&seen.sent, "hi");
	assert_true(one.masked && two.masked);
	assert_memory_not_equal(one.key, two.key, 4);
	assert_memory_not_equal(one.key, "\x01\x02\x03\x04", 4);
	assert_int_equal(seen.sent.len, 0);
	playbook_fini(&p.pb, p.l);
}

static int inject(struct play *p, struct layer *websocket, bool to_client, bool text, const char *what)
{
	struct chain data = { 0 };

	assert_int_equal(chain_write(&data, &p->pb.slabs, what, strlen(what)), 0);
	return websocket_inject(websocket, to_client, text, &data);
}

static void test_inject(void **state)
{
	const struct websocket_flow *w;
	struct seen seen = { 0 };
	struct websocket_head h;
	struct play p;

	(void)state;
	assert_true(talk_begin(&p, NULL));
	p.pb.on_command = see;
	p.pb.owner = &seen;
	PLAYBOOK("a message, and the beginning of another", p.l,
		GIVE(EV_DATA, SIDE_CLIENT, B("\x81\x81" MK "1" "\x01\x81" MK "a")));
	take_frame(&seen.sent, "1");
	assert_int_equal(inject(&p, seen.websocket, true, true, "in"), 0);
	h = take_frame(&seen.sent, "in");
	assert_true(h.fin && !h.masked && h.opcode == WEBSOCKET_TEXT);
	assert_int_equal(inject(&p, seen.websocket, false, false, "out"), 0);
	h = take_frame(&seen.sent, "out");
	assert_true(h.fin && h.masked && h.opcode == WEBSOCKET_BINARY);
	p.pb.on_command = NULL;
	PLAYBOOK("the message that had begun goes on, and then it is over", p.l,
		GIVE(EV_DATA, SIDE_CLIENT, B("\x80\x81" MK "b")),
		WANT(CMD_SEND, SIDE_NEW, B("\x01\x81" MK "a" "\x80\x81" MK "b")),
		GIVE(EV_DATA, SIDE_NEW, B("\x88\x00")),
		WANT(CMD_SEND, SIDE_NEW, B("\x88\x80" MK)),
		WANT(CMD_SEND, SIDE_CLIENT, B("\x88\x00")),
		WANT(CMD_CLOSE, SIDE_NEW),
		WANT(CMD_CLOSE, SIDE_CLIENT),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_WEBSOCKET_END));
	assert_int_equal(inject(&p, seen.websocket, true, true, "late"), -EPIPE);
	w = list_entry(p.pb.flows.next, struct flow, link)->http.messages;
	assert_int_equal(w->count, 4);
	assert_true(w->messages[1].injected && !w->messages[1].from_client);
	assert_true(w->messages[2].injected && w->messages[2].from_client && !w->messages[2].text);
	playbook_fini(&p.pb, p.l);
}

static void test_orders(void **state)
{
	static const struct order kill = { .kind = ORDER_KILL };
	static const struct order inject_text = {
		.kind = ORDER_INJECT, .to_client = true, .text = true, .bytes = { "in", 2 } };
	struct play p;

	(void)state;
	assert_true(talk_begin(&p, NULL));
	p.pb.env.block_hooks = hook_bit(HOOK_WEBSOCKET_MESSAGE) | hook_bit(HOOK_WEBSOCKET_END);
	PLAYBOOK("one message is injected, behind the one that is looked at; then all is over at once", p.l,
		GIVE(EV_DATA, SIDE_CLIENT, B("\x81\x81" MK "2")),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_WEBSOCKET_MESSAGE, .hold = true),
		GIVE(EV_ORDER, NOBODY, .order = &inject_text),
		GIVE(EV_HOOK_DONE, NOBODY),
		WANT(CMD_SEND, SIDE_NEW, B("\x81\x81" MK "2")),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_WEBSOCKET_MESSAGE),
		WANT(CMD_SEND, SIDE_CLIENT, B("\x81\x02in")),
		GIVE(EV_ORDER, NOBODY, .order = &kill),
		WANT(CMD_CLOSE, SIDE_NEW),
		WANT(CMD_CLOSE, SIDE_CLIENT),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_WEBSOCKET_END),
		WANT(CMD_FLOW, NOBODY, .hook = HOOK_WEBSOCKET_END));
	assert_true(list_entry(p.pb.flows.next, struct flow, link)->killed);
	playbook_fini(&p.pb, p.l);
}

static void test_inject_waits(void **state)
{
	struct layer *websocket;
	struct seen seen = { 0 };
	struct play p;

	(void)state;
	assert_true(talk_begin(&p, NULL));
	p.pb.on_command = see;
	p.pb.owner = &seen;
	PLAYBOOK("a message", p.l, GIVE(EV_DATA, SIDE_CLIENT, B("\x81\x81" MK "1")));
	take_frame(&seen.sent, "1");
	websocket = seen.websocket;
	p.pb.on_command = NULL;
	p.pb.env.block_hooks = p.pb.env.whole_hooks = hook_bit(HOOK_WEBSOCKET_MESSAGE);
	PLAYBOOK("one that a hook holds", p.l,
		GIVE(EV_DATA, SIDE_CLIENT, B("\x81\x81" MK "2")),
		WANT(CMD_HOOK, NOBODY, .hook = HOOK_WEBSOCKET_MESSAGE, .hold = true));
	for (int i = 0; i < 64; i++)
		assert_int_equal(inject(&p, websocket, i & 1, true, "x"), 0);
	assert_int_equal(inject(&p, websocket, false, true, "x"), -EAGAIN);
	p.pb.env.block_hooks = p.pb.env.whole_hooks = 0;
	PLAYBOOK("then all of them go", p.l,
		GIVE(EV_HOOK_DONE, NOBODY),
		WANT(CMD_SEND, SIDE_NEW, .any = true),
		WANT(CMD_SEND, SIDE_CLIENT, .any = true));
	layer_free(p.l);
	assert_int_equal(list_entry(p.pb.flows.next, struct flow, link)->http.messages->count, 66);
	playbook_fini(&p.pb, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_talks),
		cmocka_unit_test(test_talks_sweep),
		cmocka_unit_test(test_masks_are_random),
		cmocka_unit_test(test_inject),
		cmocka_unit_test(test_inject_waits),
		cmocka_unit_test(test_orders),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
