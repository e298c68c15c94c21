/* SPDX-License-Identifier: MIT */
/* How a client came, and what its session begins with; for whoever accepts clients. Thread: the worker's. */
#pragma once

#include "steer/steer.h"
#include "worker/worker_impl.h"

/* What a first layer is made from; each mode looks at what is its own. */
struct arrival {
	struct worker *worker;
	const struct worker_listener *at;
	struct steer_origin steered;     /* local mode */
	struct addr origin;              /* local, transparent and tc mode: where the client wanted to go */
};

/* Starts it. False: it is over already. */
bool worker_begin(struct worker *w, struct driver *d, struct arrival *from);

/* As many sockets are open as the limit of open files allows. */
bool worker_is_full(const struct worker *w);
