/* SPDX-License-Identifier: MIT */
/*
 * What the far ends of one seed do, drawn before anything moves, and what came of it. An exchange is one HTTP request
 * with its response, one TCP conversation, or one WebSocket; client and origin know it by its number, which travels in
 * its bytes. What a WebSocket counts is messages.
 */
#pragma once

#include "io/sim.h"
#include "mitm/hooks.h"
#include "reader.h"

#define SCRIPT_EXCHANGES_MAX 64
#define SCRIPT_HOSTS         4
#define SCRIPT_TALKS_MAX     8
#define SCRIPT_TRUNKS        2

enum script_kind { SCRIPT_HTTP, SCRIPT_TCP, SCRIPT_WEBSOCKET };

/* How a client comes to its origin. */
enum script_via {
	VIA_PROXY,                       /* requests in absolute form */
	VIA_CONNECT,
	VIA_STEERED,                     /* transparent */
	VIA_SOCKS5,
	VIA_REVERSE,
	VIA_UPSTREAM,                    /* as VIA_PROXY, with a proxy behind us */
	VIA_UPSTREAM_CONNECT,
	SCRIPT_VIAS,
};

/* How TLS comes about in a connection that begins in the clear. Servers of the first three are spoken to first. */
enum script_starttls {
	NOT_STARTTLS,
	STARTTLS_BY_XMPP, STARTTLS_BY_LDAP, STARTTLS_BY_POSTGRES,
	STARTTLS_BY_SMTP, STARTTLS_BY_POP3, STARTTLS_BY_IMAP, STARTTLS_BY_MYSQL,
	SCRIPT_STARTTLS,
};

/* What a host's servers say to that. */
enum script_refuses { REFUSES_NEVER, REFUSES_ONCE, REFUSES_ALWAYS };

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

/* What the proxy behind us does to a CONNECT. */
enum script_behind { BEHIND_FINE, BEHIND_REFUSES, BEHIND_CLOSES, BEHIND_GARBAGE };

struct exchange {
	uint32_t id;
	const char *method;
	bool http10, keep_alive, expect, head;
	enum reader_framing up_framing, down_framing;
	uint64_t up, down;               /* bytes of the bodies; of a TCP conversation's directions */
	uint16_t status;
	bool informs, trailers;          /* of the response */
	bool up_trailers;                /* of a request whose body is chunked, or in HTTP/2 */
	enum script_fate fate;
	uint64_t at;
	bool server_first;               /* TCP */
	enum { END_FIN, END_AFTER_PEER, END_RESET } up_end, down_end;    /* TCP, WebSocket: who closes it */
	bool late_reset[2];              /* TCP: after its own end in order, amid the other's words; [1]: the client */
	bool cancels;                    /* an HTTP/2 client resets the stream when it has read at bytes */
	bool cancels_asking;             /* or once it has sent half of its request's body */
	bool deflate, no_takeover;       /* WebSocket: permessage-deflate is offered and accepted */

	/* What came of it. */
	uint32_t asked;                  /* origins saw its head */
	uint32_t refused;                /* and said that they would not look at it */
	bool up_whole, up_fin;           /* an origin read all of the request; of a conversation: and its end */
	uint64_t up_got, up_sent, down_sent, down_got;
	bool up_ended, down_ended;       /* its sender ended that direction in order, after so many bytes */
	bool down_fin;                   /* the client read all of a conversation, and its end */
	bool answered;                   /* the client read all of the response */
	bool page;                       /* it was the proxy's own */
	uint32_t flows;                  /* handed over */
	bool client_h2, origin_h2;       /* what they spoke */
	bool marked;                     /* a hook has added the field X-Seen to the request */
	/* [1] from the client */
	uint64_t noted[2], dropped[2];   /* WebSocket: messages that hooks saw; a bit for each that one of them has
					  * dropped */
	uint64_t altered[2];             /* and for each that one has put SCRIPT_ALTERED before */
	bool trailed[2];                 /* its sender has sent trailers */
	uint32_t trailer[2];             /* the number in them that its receiver read; 0: none */
	bool changed[2];                 /* a hook has put a mark before the body */
	uint32_t turns[2];               /* WebSocket: ends that took it up */
	uint64_t added[2], put[2];       /* bytes or messages that came from no peer: that arrived, that we made */
	bool killed;
	enum hook_id killed_at;          /* HOOK_COUNT: by an order */
	bool answer, answer_late, ours;  /* a hook has answered it, maybe too late; the client read that */
};

/* One client connection that speaks HTTP/2 to the proxy, and carries talks. */
struct script_trunk {
	enum script_via via;             /* VIA_CONNECT, VIA_UPSTREAM_CONNECT: and so do its talks */
	bool tls, behind_tls;
	enum script_behind behind;
	uint64_t cut_at;                 /* it breaks when it has read so much; 0: never */
	bool cut_in_order;               /* with a FIN */
	bool goodbye;                    /* says that it will ask for nothing more, once it has asked for all */
	uint32_t slow_permille;
};

/* One client connection, or one tunnel in it. */
struct talk {
	uint32_t first, count;           /* exchanges */
	enum script_kind kind;
	enum script_via via;
	uint32_t trunk;                  /* 1 + index of what carries it; 0: a connection of its own */
	bool proxy_tls;                  /* TLS to the proxy itself, where the client knows of it; not the trunk's */
	bool tls;                        /* to the origin; in absolute form: https:// in the request line */
	bool client_tls;                 /* the client's own, inside of any tunnel: as tls, but for reverse proxies */
	bool h2;                         /* the client offers HTTP/2 in TLS, and begins with it where there is none */
	bool origin_h2;                  /* the origin chooses it in TLS */
	enum script_starttls starttls;   /* TCP: there is TLS on both sides, later */
	bool by_address;                 /* VIA_SOCKS5: an address is asked for, not a name */
	bool ahead;                      /* VIA_SOCKS5, starttls, trunk: it speaks without waiting for each answer */
	bool behind_tls;                 /* the proxy behind us is spoken to in TLS */
	enum script_behind behind;
	uint32_t host;                   /* index of script_hosts; of one trunk's talks each has another */
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
	bool passed;                     /* what came of it: a hook let its TLS through, nothing of it was seen */
	enum { NOT_UPGRADED, UPGRADING, UPGRADED } upgrade;      /* and: we saw how starttls began, and its TLS */
	bool harmed;                     /* and: its connection was refused, or ended with what was killed */
	uint32_t moved;                  /* and: a bit for each host that it was sent to instead of its own */
	uint32_t slow_permille;          /* of pieces received: the client stops reading for a while */
	uint32_t slow_origin_permille;   /* so does the origin */
};

/* What is lawful and rare; counted when it happens. */
enum script_odd_kind {
	ODD_PADDING, ODD_PING, ODD_UNKNOWN,      /* HTTP/2: frames with padding, PING, frames that nobody knows */
	ODD_GOAWAY, ODD_NOTICE,          /* an origin leaves out requests that have come; says first that it goes */
	ODD_PROXY, ODD_PROXY_SLOW,       /* the proxy behind us answers CONNECT oddly; it takes its time */
	ODD_INFORM, ODD_GRUDGE,          /* 1xx nobody asked for, several; no 100 for who waits for it */
	ODD_CANCEL,                      /* HTTP/2: a client resets a stream while it asks */
	ODD_LATE_RESET,                  /* a side of a conversation has ended, and then resets */
	ODD_TRAILERS,                    /* a request has trailers */
	ODD_BREAK,                       /* a connection breaks early, often in the middle of a handshake */
	ODD_SETTINGS, ODD_SHUT,          /* HTTP/2: settings change while streams run; windows are shut for a time */
	SCRIPT_ODDS,
};

struct script {
	uint64_t seed, state;
	struct sim_faults faults;
	bool say;                        /* tells people what happens */
	bool breaking;                   /* faults may end connections */
	bool slow;                       /* first bytes may take more than a second */
	bool any_tls;
	struct script_trunk trunks[SCRIPT_TRUNKS];
	uint32_t trunk_count;
	struct talk talks[SCRIPT_TALKS_MAX];
	uint32_t talk_count;
	struct exchange exchanges[SCRIPT_EXCHANGES_MAX];
	uint32_t exchange_count;
	enum script_refuses refuses[SCRIPT_HOSTS];  /* what hosts say when they are asked for TLS */
	/* The proxy's. */
	bool lazy, whole_bodies;
	uint32_t mark_permille, drop_permille, pass_permille;    /* what hooks change: requests, messages, TLS */
	bool asks_h2;                    /* a hook has it offer HTTP/2 to servers, whatever the client offers */
	uint64_t size_limit, stream_large;       /* 0: none */
	uint64_t block_hooks, whole_hooks;
	int64_t hook_delay_ns;
	uint64_t fail_alloc;             /* 0: none fails */
	bool fail_again;
	int64_t drain_ns;                /* 0: never */
	bool holds;
	uint64_t capture_max;
	uint64_t memory_max;                     /* what may be in a file is behind that; 0: nothing */
	struct script_decisions {        /* what whoever is asked decides */
		uint64_t state;          /* drawn apart: where nothing is decided all stays as it is */
		uint32_t kill, answer, change, intercept, refuse, move;  /* permille of the questions */
		uint32_t orders, order_kill;     /* how many come; permille of them */
	} decisions;
	struct script_decided {          /* what came of it */
		uint32_t kills, answers, bodies, messages, injected, refused, moved;
	} decided;
	struct script_odd {
		uint64_t state;          /* drawn apart, too */
		uint32_t h2_permille;    /* of occasions in HTTP/2 */
		uint32_t change_permille;        /* and of those to change settings */
		uint32_t goaway_permille;        /* of requests to HTTP/2 origins, until it has happened once */
		uint32_t inform_permille;        /* of answers */
		uint32_t proxy_permille;         /* of CONNECTs */
		uint32_t break_permille;         /* of all far ends' connections */
		uint32_t window_min;     /* bytes; what still gets all that was drawn to the other side in time */
		uint32_t seen[SCRIPT_ODDS];      /* what came of it */
	} odd;
	uint32_t refusals;               /* what came of it: streams that an origin had no room for yet */
	uint64_t slabs_max;              /* what came of it: the most that the proxy held at once */
};

struct script_host {
	const char *name;
	bool dead_first;                 /* its first address is nobody's */
	bool v6;
};

extern const struct script_host script_hosts[SCRIPT_HOSTS];

#define SCRIPT_PORT_HTTP  80
#define SCRIPT_PORT_HTTPS 443
#define SCRIPT_PORT_TCP   7000
#define SCRIPT_PORT_FIRST 7025           /* TCP; the server speaks first */
#define SCRIPT_PORT_TLS   7443
#define SCRIPT_PORT_HTTP2 8443           /* TLS; HTTP/2 when it is offered */
#define SCRIPT_PORT_STARTTLS 7100        /* and which kind of it */
/* The proxy behind us: it is all origins at once, whoever is asked for. One port more for TLS, ten more for each way
 * to misbehave. */
#define SCRIPT_PORT_PROXY     3128
#define SCRIPT_PORT_PROXY_END 3168
#define SCRIPT_PROXY_NAME     "up.test"

void script_draw(struct script *s, uint64_t seed);

/* Below n; n > 0. For the far ends, too: the order of events is the simulator's, so it repeats. */
uint64_t script_below(struct script *s, uint64_t n);
bool script_chance(struct script *s, uint32_t permille);

/* As these, of what is decided. */
uint64_t script_decide_below(struct script *s, uint64_t n);
bool script_decides(struct script *s, uint32_t permille);

/* script_odd.c: as these, of what is rare. */
void script_odd_draw(struct script *s);
uint64_t script_odd_below(struct script *s, uint64_t n);
/* It happens, and is counted. */
bool script_odd(struct script *s, enum script_odd_kind kind, uint32_t permille);
struct far;
/* The status of one more 1xx, as text; NULL: none comes. */
const char *script_odd_inform(struct script *s, const struct exchange *x);
/* That side of a conversation has ended, and is now to reset the connection. */
bool script_odd_resets(struct script *s, struct exchange *x, bool client);
/* A new connection may be one that breaks. */
void script_odd_connection(struct script *s, struct far *f);

struct exchange *script_find(struct script *s, uint32_t id);
/* Nothing that was drawn excuses the talk's n-th exchange from working. */
bool script_must_work(const struct script *s, const struct talk *t, uint32_t n);
/* Where a talk's origin listens. */
uint16_t script_port(const struct script *s, const struct talk *t);
/* What begins in the clear at that port. */
enum script_starttls script_starttls(uint16_t port);
const struct talk *script_talk(const struct script *s, const struct exchange *x);
/* What speaks to what, for people; returns out. */
const char *script_stack(const struct script *s, char *out, size_t size);

/* The bytes of exchange id's body: up is what the client sends. */
void script_fill(uint32_t id, bool up, uint64_t offset, uint8_t *out, size_t len);
bool script_check(uint32_t id, bool up, uint64_t offset, const uint8_t *bytes, size_t len);

/* No byte of a body: what we put into one is made of it. */
#define SCRIPT_MARK     0xff
#define SCRIPT_MARK_LEN 8
#define SCRIPT_ANSWER   418              /* a hook's own answer; X-Ours names the exchange */
#define SCRIPT_ALTERED  "altered:"
#define SCRIPT_INJECTED "injected into"

/*
 * Takes marks off bytes and counts them; in HTTP they come before the body. Returns what is left, which is valid until
 * the next call; *len becomes its length.
 */
const uint8_t *script_unmark(struct exchange *x, bool up, const uint8_t *bytes, size_t *len);
/* All marks that should have come have. */
bool script_marks_came(const struct exchange *x, bool up);
/*
 * What is wrong with the trailers of a body that has come whole; NULL: nothing. lossy: it came in a form that has no
 * room for any.
 */
const char *script_trailer_fault(const struct exchange *x, bool up, bool lossy);
/* The body of the hook's answer to it. */
size_t script_answer(const struct exchange *x, uint8_t out[512]);
bool script_check_answer(const struct exchange *x, uint64_t offset, const uint8_t *bytes, size_t len);

#define SCRIPT_MESSAGE_MAX 100000
/* Message n of a WebSocket; out has room for SCRIPT_MESSAGE_MAX. Returns its length. */
size_t script_message(uint32_t id, bool up, uint64_t n, bool *text, uint8_t *out);
/* The code with which that side ends it when all is said. */
uint16_t script_close_code(uint32_t id, bool up);
