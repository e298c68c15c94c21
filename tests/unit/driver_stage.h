/* SPDX-License-Identifier: MIT */
/* A driver with the transparent mode on top, in the simulated network, with far ends that note what they get. */
#pragma once

#include "core/driver.h"
#include "io/sim_peer.h"

#define SECOND_NS INT64_C(1000000000)
#define MS_NS     INT64_C(1000000)

struct far_end {
	struct sim_peer *peer;
	char got[64];
	size_t len;
	bool connected, fin, reset;
	int64_t at_ns;                   /* of the last event */
	struct stage *st;
};

/* One client, one driver with the transparent mode, up to three origins. */
struct stage {
	struct io *io;
	struct env env;
	struct options options;
	struct driver_world world;
	struct addr proxy, to;           /* to: where the client wanted to go; family 0: host */
	const char *host;
	bool promised;                   /* the client believes that it is connected there */
	struct listener *listener;
	struct driver *driver;
	struct far_end client, origins[3];
	struct sim_peer_listener *listeners[3];
	uint32_t listening, accepted, flows, hooks[HOOK_COUNT];
	char error[160];                 /* of the last flow */
	char told[200];                  /* the last line of the log, without its prefix */
	/* of the server that was connected last, without ports */
	char address[ADDR_TEXT_MAX], peer[ADDR_TEXT_MAX];
	uint64_t token;                  /* of a question that is held */
	bool held, refuse_ask, finished;
};

void stage_init(struct stage *st);
/* Closes what is open; nothing may be left. */
void stage_fini(struct stage *st);
/* The next origin listens there; in at is what it became. */
void stage_listen(struct stage *st, struct addr at);
void stage_connect(struct stage *st);
/* Lets virtual time pass. */
void stage_run(struct stage *st, int64_t ns);
void stage_say(struct far_end *f, const char *text);
