/* SPDX-License-Identifier: MIT */
/*
 * What the driver asks of the world, whoever provides it: io_uring, epoll, or the simulator (user/io/). One struct io
 * belongs to one thread. Completions come only from inside io_run(), never from inside a call made here, so that a
 * layer is never entered twice. Everything is asynchronous and ordered per socket.
 */
#pragma once

#include "base/addr.h"
#include "base/buf.h"
#include "base/err.h"
#include "core/dgram.h"
#include "core/timer.h"

/* Bytes queued towards a peer above which the sender is told to pause, and below which it is told to go on. */
#define IO_HIGH_WATER (256u * 1024)
#define IO_LOW_WATER  (64u * 1024)

struct io;

/*
 * Called from io_run(). owner is what was given at adopt or dial. After io_close() none of these is called; until then
 * the sock stays, also when it could not be connected or has ended.
 */
struct sock_events {
	void (*connected)(void *owner, int err);          /* dialled sockets only, once: 0 or -errno (then the last) */
	void (*received)(void *owner, struct slice data); /* takes over the reference */
	/*
	 * 0: FIN, nothing more is received, sending still works. -ECONNRESET, …: broken, both ways; may follow a FIN.
	 * Each at most once. A paused sock is told when it resumes, behind what came before; of a break that sending
	 * shows after a second at the latest.
	 */
	void (*ended)(void *owner, int err);
	void (*writable)(void *owner);                    /* was over IO_HIGH_WATER, is below IO_LOW_WATER */
};

/* One connection. Allocated by the backend; the backend's own fields follow. */
struct sock {
	struct io *io;
	const struct sock_events *events;
	void *owner;
	size_t queued;                   /* bytes taken over by io_send() and not yet accepted by the kernel */
};

struct listener_events {
	/* handle: pass it to io_adopt() or io_refuse(), now. */
	void (*accepted)(void *owner, int handle);
	/* Descriptors or memory are out: the listener is paused until listen_pause(l, false). err: -EMFILE, … */
	void (*starved)(void *owner, int err);
};

struct listener {
	struct io *io;
	const struct listener_events *events;
	void *owner;
	bool sparing;                    /* the owner's wish: a pause holds from the next connection on, not later */
};

struct io_dial {
	struct addr to;
	struct addr from;                /* family 0: any */
	uint32_t mark;                   /* SO_MARK; 0 = none */
	uint32_t bound_if;               /* SO_BINDTODEVICE by index; 0 = none */
	uint64_t netns;                  /* network namespace by its cookie; 0: the thread's own */
};

/* Where sockets of other network namespaces come from: an I/O thread enters none. */
struct io_netns {
	void *owner;
	/*
	 * A TCP socket, or one for datagrams, that blocks, close-on-exec, with the mark of upstream sockets. family: 4
	 * or 6. Returns it or -errno (-ENETDOWN: the namespace is gone). Any thread.
	 */
	int (*socket)(void *owner, uint64_t netns, uint8_t family, bool dgram);
};

#define IO_RESOLVE_MAX 16

/* addrs is valid during the call; count 0: not found, text says why ("Name or service not known"). */
typedef void (*io_resolved_fn)(void *owner, const struct addr *addrs, uint32_t count, const char *text);

struct io_stats {
	uint64_t accepted, dialled, bytes_in, bytes_out;
	uint64_t socks;                  /* open now, lingering ones included */
	uint64_t closing;                /* of these, those that close() was called on */
	uint64_t dgrams_in, dgrams_out, dgrams_dropped;  /* datagrams; dropped: for want of room, or refused */
};

struct io_ops {
	const char *name;                /* "io_uring", "epoll", "sim" */
	void (*free)(struct io *io);

	/*
	 * One turn: sends what is pending, waits at most wait_ns (0: no wait, < 0: no limit) for something, runs
	 * completions and timers. What they send goes out when the next turn starts. Returns 0 or -errno (fatal).
	 */
	int (*run)(struct io *io, int64_t wait_ns);
	/* Any thread: makes io_run() return soon. */
	void (*wake)(struct io *io);

	/* fd (or simulated handle) is a listening socket; the backend owns it from now on, also when it fails. */
	struct listener *(*listen)(struct io *io, int fd, const struct listener_events *ev, void *owner, struct err *e);
	void (*listen_pause)(struct listener *l, bool paused);
	void (*listen_close)(struct listener *l);

	/* Takes over an accepted handle and starts reading. NULL: out of memory, handle closed. */
	struct sock *(*adopt)(struct io *io, int handle, const struct sock_events *ev, void *owner);
	void (*refuse)(struct io *io, int handle);        /* closes with a reset */
	/* The two ends of an accepted handle. Returns 0 or -errno. */
	int (*addresses)(struct io *io, int handle, struct addr *peer, struct addr *local);

	/* NULL: out of memory or descriptors; else connected() follows. */
	struct sock *(*dial)(struct io *io, const struct io_dial *dial, const struct sock_events *ev, void *owner);
	/* Our end of a connected socket. */
	int (*local)(struct sock *s, struct addr *local);

	/* Takes over data (left empty). Failures come as ended(). After shutdown or ended(err) data is dropped. */
	void (*send)(struct sock *s, struct chain *data);
	/* FIN once everything queued is out. */
	void (*shutdown)(struct sock *s);
	/* No events any more. What is queued still goes out, and it is reset when the peer takes none of that for 5 s.
	 * reset: RST follows instead of FIN, and behind what this machine can send. s is gone for the caller. */
	void (*close)(struct sock *s, bool reset);
	/* While paused nothing is received and no FIN is told; what the kernel already gave is held. Idempotent. */
	void (*pause)(struct sock *s, bool paused);

	/*
	 * A datagram socket (core/dgram.h). fd (or simulated handle): bound, non-blocking, with the options that are
	 * wanted; the backend owns it from now on, also when it fails. It counts as one of stats.socks.
	 */
	struct dgram *(*dgram_open)(struct io *io, int fd, const struct dgram_events *ev, void *owner) __must_check;
	/* One that is connected to dial->to: an upstream flow. Returns 0 or -errno at once; nothing was sent yet. */
	int (*dgram_dial)(struct io *io, const struct io_dial *dial, const struct dgram_events *ev, void *owner,
			  struct dgram **out) __must_check;
	/* Takes over d->data (left empty). Leaves when the next turn starts; those of one size to one peer together. */
	void (*dgram_send)(struct dgram *s, struct datagram *d);
	/* Nothing is received meanwhile; what the kernel has no room for is lost. Idempotent. */
	void (*dgram_pause)(struct dgram *s, bool paused);
	int (*dgram_local)(struct dgram *s, struct addr *local);
	/* No events any more. What is queued gets one try. s is gone for the caller. */
	void (*dgram_close)(struct dgram *s);

	/* Looks a name up (or parses an IP); the answer comes from io_run(). 0, -ENOMEM, -EAGAIN (too many wait). */
	int (*resolve)(struct io *io, struct str host, uint16_t port, io_resolved_fn fn, void *owner);
	void (*resolve_cancel)(struct io *io, void *owner);
};

struct io {
	const struct io_ops *ops;
	const struct io_netns *netns;    /* NULL: no namespace but the thread's own is reached */
	struct slab_pool slabs;
	struct timers timers;
	int64_t now_ns;                  /* monotonic, taken once per turn */
	int64_t wall_ns;                 /* since the epoch, taken once per turn */
	uint64_t (*random)(struct io *io);
	struct io_stats stats;
};

static inline bool io_over_high(const struct sock *s)
{
	return s->queued > IO_HIGH_WATER;
}
