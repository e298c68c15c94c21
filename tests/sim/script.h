/* SPDX-License-Identifier: MIT */
/*
 * What the far ends of one seed do, drawn before anything moves, and what came of it. An exchange is one HTTP request
 * with its response, or one TCP conversation; client and origin know it by its number, which travels in its bytes.
 */
#pragma once

#include "io/sim.h"
#include "reader.h"

#define SCRIPT_EXCHANGES_MAX 64
#define SCRIPT_TALKS_MAX     8

enum script_kind { SCRIPT_HTTP, SCRIPT_TCP };

/* What an origin does to one response. */
enum script_fate {
	FATE_FINE,
	FATE_CLOSES_AFTER,               /* whole, then the connection ends without a word: stale for the next one */
	FATE_SAYS_CLOSE,                 /* with Connection: close, and does */
	FATE_EARLY,                      /* answers before it has read the request's body, which it reads */
	FATE_FIN, FATE_RESET,            /* after at bytes of the response */
	FATE_SILENT,                     /* closes without answer */
	FATE_GARBAGE,                    /* no HTTP */
};

struct exchange {
	uint32_t id;
	const char *method;
	bool http10, keep_alive, expect, head;
	enum reader_framing up_framing, down_framing;
	uint64_t up, down;               /* bytes of the bodies; of a TCP conversation's directions */
	uint16_t status;
	bool informs, trailers;
	enum script_fate fate;
	uint64_t at;
	bool server_first;               /* TCP */
	enum { END_FIN, END_AFTER_PEER, END_RESET } up_end, down_end;    /* TCP */

	/* What came of it. */
	uint32_t asked;                  /* origins saw its head */
	bool up_whole, up_fin;           /* an origin read all of the request; of a conversation: and its end */
	uint64_t up_got, up_sent, down_sent, down_got;
	bool up_ended, down_ended;       /* its sender ended that direction in order, after so many bytes */
	bool down_fin;                   /* the client read all of a conversation, and its end */
	bool answered;                   /* the client read all of the response */
	bool page;                       /* it was the proxy's own */
	uint32_t flows;                  /* handed over */
};

/* One client connection. */
struct talk {
	uint32_t first, count;           /* exchanges */
	enum script_kind kind;
	enum { VIA_PROXY, VIA_CONNECT, VIA_STEERED } via;
	bool proxy_tls;                  /* VIA_PROXY: TLS to the proxy itself */
	bool tls;                        /* to the origin; VIA_PROXY: https:// in the request line */
	uint32_t host;                   /* index of script_hosts */
	int64_t start_ns;
	uint32_t pipeline;               /* requests under way at a time */
	int64_t think_ns;                /* between them */
	uint32_t piece;                  /* bytes per send; 0: all at once */
	enum {
		LEAVE_FINE,              /* closes when all is answered */
		LEAVE_HALF,              /* ends its sending with the last request, and reads on */
		LEAVE_WAITS,             /* says and closes nothing: the proxy gets tired of it */
		LEAVE_CLOSE, LEAVE_RESET,        /* after having sent leave_at bytes or read as many */
		LEAVE_GARBAGE,           /* speaks no protocol at all */
	} leave;
	uint64_t leave_at;
	bool leave_reading;
	uint32_t slow_permille;          /* of pieces received: the client stops reading for a while */
	uint32_t slow_origin_permille;   /* so does the origin */
};

struct script {
	uint64_t seed, state;
	struct sim_faults faults;
	bool say;                        /* tells people what happens */
	bool breaking;                   /* faults may end connections */
	bool slow;                       /* first bytes may take more than a second */
	bool any_tls;
	struct talk talks[SCRIPT_TALKS_MAX];
	uint32_t talk_count;
	struct exchange exchanges[SCRIPT_EXCHANGES_MAX];
	uint32_t exchange_count;
	/* The proxy's. */
	bool lazy, whole_bodies;
	uint64_t block_hooks;
	int64_t hook_delay_ns;
	uint64_t fail_alloc;             /* 0: none fails */
	bool fail_again;
	int64_t drain_ns;                /* 0: never */
	bool holds;
	uint64_t capture_max;
	uint64_t slabs_max;              /* what came of it: the most that the proxy held at once */
};

struct script_host {
	const char *name;
	bool dead_first;                 /* its first address is nobody's */
	bool v6;
};

#define SCRIPT_HOSTS 4
extern const struct script_host script_hosts[SCRIPT_HOSTS];

#define SCRIPT_PORT_HTTP  80
#define SCRIPT_PORT_HTTPS 443
#define SCRIPT_PORT_TCP   7000
#define SCRIPT_PORT_FIRST 7025           /* TCP; the server speaks first */
#define SCRIPT_PORT_TLS   7443

void script_draw(struct script *s, uint64_t seed);

/* Below n; n > 0. For the far ends, too: the order of events is the simulator's, so it repeats. */
uint64_t script_below(struct script *s, uint64_t n);
bool script_chance(struct script *s, uint32_t permille);

struct exchange *script_find(struct script *s, uint32_t id);
/* Nothing that was drawn excuses the talk's n-th exchange from working. */
bool script_must_work(const struct script *s, const struct talk *t, uint32_t n);

/* The bytes of exchange id's body: up is what the client sends. */
void script_fill(uint32_t id, bool up, uint64_t offset, uint8_t *out, size_t len);
bool script_check(uint32_t id, bool up, uint64_t offset, const uint8_t *bytes, size_t len);
