/* SPDX-License-Identifier: MIT */
/*
 * One multishot poll per socket; recvmmsg() then takes what has come, up to 16 at a time. A receive entry of the ring's
 * own would need lent buffers of 64 KiB, because joined segments are as large as that.
 */
#include "io/uring_dgram.h"

#include <errno.h>
#include <poll.h>

static struct uring *ring_of(struct real_dgram *s)
{
	return uring_of(s->base.io);
}

static bool queue_in(struct real_dgram *s)
{
	struct uring *u = ring_of(s);
	struct io_uring_sqe *sqe = uring_sqe(u);

	if (!sqe)
		return false;
	io_uring_prep_poll_multishot(sqe, s->fd, POLLIN);
	io_uring_sqe_set_data64(sqe, uring_tag(u, URING_DGRAM_IN, s->slot));
	u->in_flight++;
	return s->in_armed = true;
}

static bool queue_out(struct real_dgram *s)
{
	struct uring *u = ring_of(s);
	struct io_uring_sqe *sqe = uring_sqe(u);

	if (!sqe)
		return false;
	io_uring_prep_poll_add(sqe, s->fd, POLLOUT);
	io_uring_sqe_set_data64(sqe, uring_tag(u, URING_DGRAM_OUT, s->slot));
	u->in_flight++;
	return s->out_armed = true;
}

void udgram_arm(struct uring *u)
{
	if (!u->dgrams_to_arm)
		return;
	u->dgrams_to_arm = false;
	list_for_each(&u->real.dgrams, at) {
		struct real_dgram *s = list_entry(at, struct real_dgram, node);

		if (s->closed)
			continue;
		if ((!s->in_armed && !queue_in(s)) || (s->blocked && !s->out_armed && !queue_out(s))) {
			u->dgrams_to_arm = true;
			return;
		}
	}
}

static int udgram_watch(struct real_dgram *s)
{
	struct uring *u = ring_of(s);
	int64_t slot = uring_slot_new(u, s);

	if (slot < 0)
		return -ENOMEM;
	s->slot = (uint32_t)slot;
	s->slot_made = true;
	if (!queue_in(s))
		u->dgrams_to_arm = true;
	return 0;
}

static void udgram_watch_room(struct real_dgram *s, bool wanted)
{
	if (wanted && !s->out_armed && !queue_out(s))
		ring_of(s)->dgrams_to_arm = true;
}

/* Late completions find another generation in the slot. */
static bool udgram_unwatch(struct real_dgram *s)
{
	struct uring *u = ring_of(s);

	if (s->in_armed)
		s->in_armed = !uring_cancel(u, uring_tag(u, URING_DGRAM_IN, s->slot));
	if (s->out_armed)
		s->out_armed = !uring_cancel(u, uring_tag(u, URING_DGRAM_OUT, s->slot));
	if (s->in_armed || s->out_armed)
		return false;
	if (s->slot_made)
		uring_slot_free(u, s->slot);
	s->slot_made = false;
	return true;
}

void udgram_completed(struct real_dgram *s, enum uring_kind kind, int res, uint32_t flags)
{
	bool over = !(flags & IORING_CQE_F_MORE);

	if (kind == URING_DGRAM_IN) {
		s->in_armed &= !over;
		ring_of(s)->dgrams_to_arm |= over;
		if (res != -ECANCELED)
			real_dgram_readable(s);
	} else {
		s->out_armed = false;
		real_dgram_room(s);
	}
}

const struct real_dgram_ops udgram_ops = { udgram_watch, udgram_watch_room, udgram_unwatch };
