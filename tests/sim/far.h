/* SPDX-License-Identifier: MIT */
/*
 * A far end of a simulated session, client or origin, that may speak TLS: io/sim_peer.h with OpenSSL on top. It lives
 * until far_free_all(); after its end, calls on it do nothing. Not the proxy's: its memory is not counted, nor fails.
 */
#pragma once

#include "io/sim_peer.h"

enum far_end {
	FAR_REFUSED,                     /* never connected */
	FAR_FIN,                         /* an orderly end of what the other side sends; with TLS: announced by it */
	FAR_CUT,                         /* TLS only: FIN without announcement, or an alert */
	FAR_RESET,
};

struct far;

/* None comes after far_close() or far_reset(). ended: FAR_FIN may be followed by another, the rest is the last
 * event. */
struct far_events {
	void (*ready)(struct far *f);
	void (*received)(struct far *f, const uint8_t *bytes, size_t len);
	void (*ended)(struct far *f, enum far_end how);
	void (*drained)(struct far *f);
};

struct far *far_connect(struct io *io, const struct addr *from, const struct addr *to, const struct far_events *ev,
			void *owner);
/* peer: from sim_peer_listen()'s accepted(). */
struct far *far_accept(struct io *io, struct sim_peer *peer, const struct far_events *ev, void *owner);
/* What carries bytes in place of the network; as the functions of sim_peer.h. */
struct far_carrier {
	void (*send)(void *line, const void *bytes, size_t len);
	void (*pause)(void *line, bool paused);
	void (*shutdown)(void *line);
	void (*close)(void *line);       /* the last two: line is not used any more, and hears of nothing */
	void (*reset)(void *line);
};

struct far *far_carried(const struct far_carrier *carrier, void *line, const struct far_events *ev, void *owner);
/* Which the carrier calls, with what far_carried() returned, but not before that has. */
extern const struct sim_peer_events far_line_events;
/*
 * TLS from now on, inside of the TLS that there may be already; ready() comes again when it is established. A server's
 * certificate is that of name. h2: HTTP/2 is offered, or chosen.
 */
void far_start_tls(struct far *f, const char *name, bool h2);
void far_serve_tls(struct far *f, const char *name, bool h2);
/* What had come behind the last words in the clear, once TLS is served. */
void far_take_rest(struct far *f, const uint8_t *bytes, size_t len);
/* HTTP/2 was negotiated. */
bool far_is_h2(const struct far *f);

void *far_owner(const struct far *f);
void far_set_owner(struct far *f, void *owner);
bool far_is_tls(const struct far *f);
bool far_over(const struct far *f);
/*
 * Once so many bytes (> 0) have come, TLS's own included, it breaks, and hears FAR_RESET; in the middle of a handshake,
 * in_order, it ends with FIN, and hears FAR_CUT.
 */
void far_break_after(struct far *f, uint64_t bytes, bool in_order);
/* All that was sent is on its way; of the network only. */
bool far_drained(const struct far *f);

/* Copies. Before ready() it waits. */
void far_send(struct far *f, const void *bytes, size_t len);
void far_pause(struct far *f, bool paused);
/* An orderly end of what we send. */
void far_shutdown(struct far *f);
/* As far_shutdown(), but TLS does not announce it. */
void far_cut(struct far *f);
/* What was sent still goes out, then FIN; what comes afterwards is answered by a reset. */
void far_close(struct far *f);
void far_reset(struct far *f);

void far_free_all(void);

/* --- certificates ---------------------------------------------------------------------------------------------- */

struct leaf_source;

/* Once per program; names and addresses that origins answer to. */
void far_setup(const char *const *names, size_t count);
void far_teardown(void);
/* Seeds OpenSSL, so that handshakes repeat to the byte. */
void far_seed(uint64_t seed);
/* For the proxy under test: its leaves, and whom it trusts. */
struct leaf_source *far_leaves(void);
struct x509_store_st *far_trust(void);
