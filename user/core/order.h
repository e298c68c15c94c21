/* SPDX-License-Identifier: MIT */
/* What somebody wants done to a flow that is in no hook; whichever layer owns the flow carries it out. */
#pragma once

#include "base/str.h"

enum order_kind { ORDER_KILL, ORDER_INJECT };

struct order {
	uint8_t flow[16];                /* its id */
	enum order_kind kind;
	bool to_client, text;            /* ORDER_INJECT: one message; text: of a WebSocket */
	struct str bytes;
};

/* One allocation, for mem_free(); NULL when memory is out. */
struct order *order_copy(const struct order *o) __must_check;
