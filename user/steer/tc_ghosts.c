/* SPDX-License-Identifier: MIT */
#include "steer/tc_ghosts.h"

#include <errno.h>
#include <unistd.h>

#include "steer/sockets.h"

static bool is_ghost(void *owner, const struct socket_seen *s)
{
	const uint32_t *mark = owner;

	return s->inode == 0 && s->mark == *mark;
}

int tc_ghosts_end(uint32_t mark)
{
	int fd = sockets_open(-1), ret;

	if (fd < 0)
		return fd;
	ret = sockets_end(fd, ~SOCKETS_LISTENING, is_ghost, &mark);
	close(fd);
	return ret;
}
