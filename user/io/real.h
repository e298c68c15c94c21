/* SPDX-License-Identifier: MIT */
/*
 * What the two backends on real sockets share: clock, randomness, wake-up, names, and the sending half of a socket with
 * its marks and its lingering close. How readiness or completions are learnt is each backend's own.
 */
#pragma once

#include <stdatomic.h>

#include "base/list.h"
#include "core/io.h"
#include "io/resolve.h"

#define REAL_IOV_MAX    64           /* pieces per send: 1 MiB of full slabs */
#define REAL_UNREAD_NS  1000000000LL
#define REAL_LINGER_NS  5000000000LL
#define REAL_LINGER_LOOK_NS 500000000LL
#define REAL_RESET_LOOK_NS 5000000LL
#define REAL_SLABS_KEEP 128          /* freed slabs kept per thread: 2 MiB */
#define REAL_PACK_MIN   4096         /* a shared receive slab with less room than this is left */

struct real_sock;
struct real_dgram_ops;
struct dgram_batch;

struct real {
	struct io io;
	struct resolve_client *resolve;
	int wake_fd;                     /* eventfd, non-blocking */
	atomic_int woken;                /* wake_fd was written and not yet read */
	struct list socks;               /* all, lingering ones too */
	struct list dirty;               /* have something to do when the next turn starts */
	struct list dead;                /* to be freed when nobody can hold them any more */
	bool told;                       /* somebody was, in this turn: what follows from it must not wait */
	struct slab *pack;               /* small receipts go one behind the other into this */
	const struct real_dgram_ops *dgram_ops;          /* real_dgram.h */
	struct list dgrams, dirty_dgrams, ready_dgrams;
	struct dgram_batch *batch;       /* NULL until it is needed */
	uint64_t random[32];
	uint32_t random_left;
};

enum real_phase {
	REAL_CONNECTING,
	REAL_OPEN,
	REAL_LINGERING,                  /* close()d: sends what is left, then RST, or FIN and reads to the peer's */
	REAL_CLOSING,                    /* only waits for the kernel to let go of it (io_uring) */
	REAL_DEAD,
};

struct real_sock {
	struct sock base;                /* .queued == out.len */
	struct list node;                /* real.socks or real.dead */
	struct list dirty;               /* in real.dirty, or alone */
	int fd;                          /* -1 once closed, or a dial that failed at once */
	enum real_phase phase;
	int dial_err;                    /* a dial that failed at once; told in the next turn */
	int broken;                      /* sending failed: 0 or -errno */
	bool over_high;
	bool let_go;                     /* close() was called */
	bool fin_wanted, fin_sent;
	bool rst_wanted;                 /* REAL_LINGERING: how it ends */
	bool paused;
	bool in_ended;                   /* ended(0) is due or was told; nothing more to receive */
	bool told_broken;                /* ended(err) was told: the last event */
	bool out_busy;                   /* the kernel reads from out's slabs (io_uring): they must stay */
	struct chain out;
	struct timer linger;
	size_t linger_left;              /* to be sent, when that was last seen to shrink */
	int64_t linger_moved_ns;         /* and when that was */
};

static inline struct real *real_of(struct io *io)
{
	return container_of(io, struct real, io);
}

/* Returns 0 or -errno with e filled; real_fini() is to be called either way. */
int real_init(struct real *r, const struct io_ops *ops, const struct real_dgram_ops *dgram_ops, struct err *e)
	__must_check;
/* Frees what real_init() made, and the memory of dead sockets. All sockets must be dead. */
void real_fini(struct real *r);

/* Any thread. */
void real_wake(struct io *io);
/* After a wake-up was seen: reads the eventfd's count unless the backend did. */
void real_woken(struct real *r, bool drain);

void real_clock(struct real *r);
/*
 * How long the turn may wait: not longer than wait_ns (< 0: no limit), the next timer, or work that is there. Not at
 * all after somebody was told something: the caller may have to pass on what follows, to another thread for one.
 */
int64_t real_wait_ns(struct real *r, int64_t wait_ns);
/* Answers of the resolver, timers, memory of dead sockets. */
void real_end_turn(struct real *r);

int real_resolve(struct io *io, struct str host, uint16_t port, io_resolved_fn fn, void *owner);
void real_resolve_cancel(struct io *io, void *owner);
int real_addresses(struct io *io, int handle, struct addr *peer, struct addr *local);
void real_refuse(struct io *io, int handle);

/* A shared slab with room for REAL_PACK_MIN bytes behind its frontier; borrowed. NULL: out of memory. */
struct slab *real_pack_slab(struct real *r);

/* expire: fires when lingering made no progress, and when a break is to be told though nobody reads. */
void real_sock_init(struct real_sock *s, struct real *r, const struct sock_events *ev, void *owner, int fd,
		    void (*expire)(struct timer *t));
/*
 * close() of one that is open. False: nothing is left to wait for, or memory is out, and it is to be killed, as it is
 * when real_sock_lingered() says so or real_sock_linger_on() is false.
 */
bool real_sock_linger(struct real_sock *s, bool reset) __must_check;
/* Everything is out, and was answered if it is to be. */
bool real_sock_lingered(const struct real_sock *s);
/* When the timer fires: a peer that takes what is left gets the time that it needs. False: it does not. */
bool real_sock_linger_on(struct real_sock *s) __must_check;
/* Of one that is open, by the caller. */
void real_sock_pause(struct real_sock *s, bool paused);
/*
 * Sending has found a break. What the peer said before it may still be read: the kernel keeps that beyond a reset.
 * False: it is to be told at once. Who has paused has REAL_UNREAD_NS until linger fires, and no more: meanwhile what is
 * sent comes to nothing, and its source might never end.
 */
bool real_sock_may_read(struct real_sock *s) __must_check;
/* How it is to be killed: bytes that could not be sent in time must not look like a clean end. */
static inline bool real_sock_by_reset(const struct real_sock *s)
{
	return s->rst_wanted || s->broken || s->out.len;
}
void real_sock_dirty(struct real_sock *s);
int real_sock_local(struct sock *s, struct addr *local);
void real_sock_send(struct sock *s, struct chain *data);
void real_sock_shutdown(struct sock *s);

/* Sends as much of out as the kernel takes now. Returns 0: all is out; -EAGAIN: full; else the reason it broke. */
int real_sock_write(struct real_sock *s);
/* n bytes of out were sent. */
void real_sock_sent(struct real_sock *s, size_t n);
/* FIN when it is due, writable() when it is due. Call after out shrank. */
void real_sock_after_write(struct real_sock *s);
/* Nothing can be sent any more. */
void real_sock_break(struct real_sock *s, int err);
/* The kernel no longer reads from out's slabs. */
void real_sock_out_free(struct real_sock *s);

/* Tells the owner; 0 at most once, an error at most once and last. */
void real_sock_ended(struct real_sock *s, int err);

/* Closes the descriptor and moves s to real.dead. Nothing in flight may refer to the descriptor's number any more. */
void real_sock_kill(struct real_sock *s, bool reset);

/* The owner has called close(): s is counted as closing until it is dead. */
void real_sock_let_go(struct real_sock *s);
