/* SPDX-License-Identifier: MIT */
/* Inside the io_uring backend: the ring (uring.c) and the sockets on it (uring_sock.c). */
#pragma once

#include <liburing.h>
#include <netinet/in.h>

#include "io/real.h"

#define URING_SQ_ENTRIES 512u
#define URING_CQ_ENTRIES 4096u
#define URING_BUFFERS    256u        /* receive slabs lent to the kernel: 4 MiB, touched only as far as used */
#define URING_BUF_GROUP  0
#define URING_SCRATCH    32u

/*
 * user_data = kind (8 bits), generation (24), slot (32). Never a pointer: a completion may come after its object is
 * gone, and is then recognised by its generation.
 */
enum uring_kind { URING_IGNORE, URING_WAKE, URING_ACCEPT, URING_RECV, URING_SEND, URING_CONNECT, URING_DGRAM_IN,
		  URING_DGRAM_OUT };

struct uring_slot {
	void *object;                    /* NULL: free */
	uint32_t generation;
	uint32_t next_free;
};

/* Arguments that the kernel copies when it takes the entry (IORING_FEAT_SUBMIT_STABLE). */
struct uring_scratch {
	struct sockaddr_storage to;
	struct msghdr msg;
	struct iovec iov[REAL_IOV_MAX];
};

struct uring {
	struct real real;
	struct io_uring ring;
	bool ring_made, no_multishot;
	unsigned int flags;              /* IORING_SETUP_* that the kernel accepted */
	struct io_uring_buf_ring *buf_ring;
	struct slab *bufs[URING_BUFFERS];
	uint16_t missing[URING_BUFFERS]; /* buffers for which no slab was to be had */
	uint32_t missing_count, buf_added;
	struct uring_slot *slots;
	uint32_t slot_cap, slot_free;    /* slot_free: index + 1; 0 = none */
	uint32_t in_flight;              /* entries whose last completion has not come yet */
	bool wake_armed;
	uint64_t wake_count;
	struct list ready;               /* usock.ready: resumed with held bytes */
	bool dgrams_to_arm;              /* some real_dgram is watched by no entry */
	struct list listeners, dirty_listeners;
	uint32_t scratch_used;
	struct uring_scratch scratch[URING_SCRATCH];
};

struct usock {
	struct real_sock r;              /* first: real_end_turn() frees by its address */
	uint32_t slot;
	bool recv_armed, recv_cancelled; /* cancelled: asked for, not yet confirmed */
	bool send_armed, send_cancelled;
	bool connect_armed, connect_cancelled, connect_told;
	bool kill_reset;                 /* REAL_CLOSING: how */
	bool held_end;                   /* an end came while paused: told after what is held */
	int held_err;
	struct chain held;               /* came while paused */
	struct list ready;
	struct addr to;                  /* REAL_CONNECTING */
};

static inline struct uring *uring_of(struct io *io)
{
	return container_of(real_of(io), struct uring, real);
}

/* --- uring.c, for uring_sock.c --- */

/* NULL: the queue is full and the kernel takes nothing now; try again next turn. */
struct io_uring_sqe *uring_sqe(struct uring *u);
/* Valid until the next uring_sqe(). Call it after uring_sqe(). */
struct uring_scratch *uring_scratch(struct uring *u);
uint64_t uring_tag(const struct uring *u, enum uring_kind kind, uint32_t slot);
/* Returns the slot, or -ENOMEM. */
int64_t uring_slot_new(struct uring *u, void *object);
void uring_slot_free(struct uring *u, uint32_t slot);
/* True when it was queued. */
bool uring_cancel(struct uring *u, uint64_t tag);
/* The bytes of a buffer that the kernel filled; the ring gets another. len 0: nothing but the return. */
struct slice uring_take(struct uring *u, uint16_t id, uint32_t len);

/* --- uring_limits.c --- */

/* Enables a ring that was set up with IORING_SETUP_R_DISABLED, for what the backend does alone. Returns 0 or -errno. */
int uring_limit(struct io_uring *ring) __must_check;

/* --- uring_sock.c --- */

struct sock *usock_adopt(struct io *io, int handle, const struct sock_events *ev, void *owner);
struct sock *usock_dial(struct io *io, const struct io_dial *dial, const struct sock_events *ev, void *owner);
void usock_close(struct sock *s, bool reset);
void usock_pause(struct sock *s, bool paused);
/* Brings what is queued in the ring in line with what the sock wants. */
void usock_flush(struct usock *s);
void usock_flush_held(struct usock *s);
/* Without further events, as soon as the kernel lets go. */
void usock_end(struct usock *s, bool reset);
void usock_completed(struct usock *s, enum uring_kind kind, int res, uint32_t flags);
