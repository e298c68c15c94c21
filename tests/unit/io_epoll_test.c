/* SPDX-License-Identifier: MIT */
/* The suite on epoll. */
#include "io_suite.h"

#include <stdio.h>
#include <stdlib.h>

#include "io/epoll.h"

static struct io *start(void)
{
	struct io *io;
	struct err e;

	if (epoll_new(&io, &e) < 0) {
		fprintf(stderr, "%s\n", e.text);
		abort();
	}
	return io;
}

int main(void)
{
	struct io_world world = io_world_real;

	world.name = "epoll";
	world.start = start;
	return io_suite_run(&world);
}
