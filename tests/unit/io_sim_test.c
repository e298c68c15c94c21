/* SPDX-License-Identifier: MIT */
/* The suite on a perfect simulated network. */
#include "io_suite.h"

#include <stdlib.h>

#include "io/sim.h"

static struct io *start(void)
{
	struct io *io;

	if (sim_new(&io, 1, NULL, NULL) < 0)
		abort();
	return io;
}

int main(void)
{
	struct io_world world = io_world_sim;

	world.start = start;
	return io_suite_run(&world);
}
