/* SPDX-License-Identifier: MIT */
/*
 * What a ring does, seccomp does not see. So the kernel itself is told which operations this one may be asked for:
 * sockets, waiting, and an eventfd; no files, no processes.
 */
#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "io/uring_sock.h"

static const uint8_t operations[] = {
	IORING_OP_NOP, IORING_OP_READ, IORING_OP_SEND, IORING_OP_SENDMSG, IORING_OP_SEND_ZC, IORING_OP_RECV,
	IORING_OP_RECVMSG, IORING_OP_ACCEPT, IORING_OP_CONNECT, IORING_OP_SHUTDOWN, IORING_OP_CLOSE,
	IORING_OP_POLL_ADD, IORING_OP_POLL_REMOVE, IORING_OP_TIMEOUT, IORING_OP_TIMEOUT_REMOVE,
	IORING_OP_LINK_TIMEOUT, IORING_OP_ASYNC_CANCEL,
};

static const uint8_t registrations[] = {
	IORING_REGISTER_PBUF_RING, IORING_UNREGISTER_PBUF_RING, IORING_REGISTER_RING_FDS, IORING_UNREGISTER_RING_FDS,
	IORING_REGISTER_ENABLE_RINGS,
};

/* liburing 2.3 declares functions for these, but does not export them. */
static long tell(const struct io_uring *ring, unsigned int what, const void *arg, unsigned int count)
{
	return syscall(SYS_io_uring_register, ring->ring_fd, what, arg, count);
}

int uring_limit(struct io_uring *ring)
{
	struct io_uring_restriction all[ARRAY_SIZE(operations) + ARRAY_SIZE(registrations) + 1] = { 0 };
	unsigned int count = 0;

	for (size_t i = 0; i < ARRAY_SIZE(operations); i++)
		all[count++] = (struct io_uring_restriction){ .opcode = IORING_RESTRICTION_SQE_OP,
							      .sqe_op = operations[i] };
	for (size_t i = 0; i < ARRAY_SIZE(registrations); i++)
		all[count++] = (struct io_uring_restriction){ .opcode = IORING_RESTRICTION_REGISTER_OP,
							      .register_op = registrations[i] };
	all[count++] = (struct io_uring_restriction){
		.opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED,
		.sqe_flags = IOSQE_BUFFER_SELECT | IOSQE_CQE_SKIP_SUCCESS | IOSQE_IO_LINK | IOSQE_ASYNC,
	};
	if (tell(ring, IORING_REGISTER_RESTRICTIONS, all, count) < 0)
		return -errno;
	return tell(ring, IORING_REGISTER_ENABLE_RINGS, NULL, 0) < 0 ? -errno : 0;
}
