/* SPDX-License-Identifier: MIT */
#include "steer/netlink.h"

#include <errno.h>
#include <linux/netlink.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/util.h"

#define KERNEL_PORT 0u

/* Whoever floods the socket makes the kernel's own message get lost, which is an error of recvmsg(). */
static ssize_t receive(int fd, void *buf, size_t size)
{
	struct sockaddr_nl from;
	struct iovec iov = { buf, size };
	struct msghdr msg;
	ssize_t len;

	do {
		msg = (struct msghdr){
			.msg_name = &from, .msg_namelen = sizeof(from), .msg_iov = &iov, .msg_iovlen = 1,
		};
		len = recvmsg(fd, &msg, 0);
	} while (len >= 0 && (msg.msg_namelen != sizeof(from) || from.nl_pid != KERNEL_PORT));
	if (len >= 0 && (msg.msg_flags & MSG_TRUNC)) {
		errno = ENOSPC;
		return -1;
	}
	return len;
}

int netlink_answer(int fd, void *buf, size_t size, uint32_t seq, uint32_t port, mnl_cb_t fn, void *owner)
{
	ssize_t len = receive(fd, buf, size);

	return len < 0 ? -1 : mnl_cb_run(buf, (size_t)len, seq, port, fn, owner);
}
