/* SPDX-License-Identifier: MIT */
/*
 * Datagram sockets of both real backends: recvmmsg() and sendmmsg() when the kernel is ready. A backend only learns
 * when that is, by its real_dgram_ops.
 */
#pragma once

#include "io/real.h"

struct real_dgram {
	struct dgram base;
	struct list node;                /* real.dgrams */
	struct list dirty;               /* in real.dirty_dgrams, or alone */
	struct list ready;               /* in real.ready_dgrams, or alone */
	int fd;
	struct addr local;
	bool connected, paused, closed;
	bool readable;                   /* the kernel has not said EAGAIN since it was told to be ready */
	bool blocked;                    /* out waits for room */
	bool no_gso;                     /* the kernel or a device refuses to cut */
	struct list out;                 /* struct waiting */
	uint32_t out_count;
	size_t out_bytes;
	/* the backend's */
	uint32_t slot;
	bool in_armed, out_armed, slot_made;
};

struct real_dgram_ops {
	/* Tell when it can be read (each time that something came) from now on. Returns 0 or -errno. */
	int (*watch)(struct real_dgram *s);
	/* Tell once when there is room to send (wanted), or not any more. */
	void (*watch_room)(struct real_dgram *s, bool wanted);
	/* Forget about it; then its descriptor is closed and it is freed. False: not yet, ask again next turn. */
	bool (*unwatch)(struct real_dgram *s);
};

struct dgram_batch;

void real_dgrams_init(struct real *r, const struct real_dgram_ops *ops);
void real_dgrams_fini(struct real *r);

/* The backend saw these. */
void real_dgram_readable(struct real_dgram *s);
void real_dgram_room(struct real_dgram *s);

/* Parts of a turn: before it waits, and after it has learnt what is ready. */
void real_dgrams_flush(struct real *r);
void real_dgrams_read(struct real *r);
static inline bool real_dgrams_busy(const struct real *r)
{
	return !list_empty(&r->dirty_dgrams) || !list_empty(&r->ready_dgrams);
}

/* For struct io_ops. */
struct dgram *real_dgram_open(struct io *io, int fd, const struct dgram_events *ev, void *owner);
int real_dgram_dial(struct io *io, const struct io_dial *dial, const struct dgram_events *ev, void *owner,
		    struct dgram **out);
void real_dgram_send(struct dgram *s, struct datagram *d);
void real_dgram_pause(struct dgram *s, bool paused);
int real_dgram_local(struct dgram *s, struct addr *local);
void real_dgram_close(struct dgram *s);
