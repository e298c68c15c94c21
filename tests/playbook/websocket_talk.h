/* SPDX-License-Identifier: MIT */
/*
 * WebSockets as dialogues, after a handshake through the whole of regular mode. Masks are zero here, so that what goes
 * to the server can be read; that they are random is a test of its own.
 */
#pragma once

#include "layers/mode.h"
#include "playbook.h"

#define B(literal) .text = literal, .len = sizeof(literal) - 1
#define M(literal) { literal, sizeof(literal) - 1 }
#define MK "\0\0\0\0"
#define TALK_STEPS_MAX 18

struct talk {
	const char *name;
	const char *extensions;          /* of the response */
	bool block;                      /* somebody must be asked about each message */
	uint64_t capture_max;            /* 0: the default */
	struct playbook_step steps[TALK_STEPS_MAX];
	uint16_t close_code;             /* 0: not looked at */
	bool closed_by_client;
	const char *close_reason;
	bool check_messages;
	struct { const char *text; size_t len; } messages[6];    /* '>' from the client, '<' from the server */
	uint64_t lost;
};

struct play {
	struct playbook pb;
	struct layer *l;
};

/*
 * A client of regular mode whose WebSocket has just been accepted, with these extensions (NULL: none) in the response.
 * False: memory is out, on purpose; there is nothing to undo.
 */
bool talk_begin(struct play *p, const char *extensions) __must_check;
/* All of them, as they are written. */
void talk_all(const struct talk *talks, size_t count);
/* All of them, with each of their allocations failing. */
void talk_sweep(const struct talk *talks, size_t count);
