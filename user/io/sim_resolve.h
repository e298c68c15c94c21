/* SPDX-License-Identifier: MIT */
/* Names in the simulated network, for sim.c; sim_name() is in io/sim.h. */
#pragma once

#include "io/sim_net.h"

/* For struct io_ops; owner NULL: cancels all. */
int sim_resolve(struct io *io, struct str host, uint16_t port, io_resolved_fn fn, void *owner) __must_check;
void sim_resolve_cancel(struct io *io, void *owner);

/* Part of a turn: answers what is due. */
void sim_answers_run(struct sim *sim);
/* With the questions. */
void sim_names_free(struct sim *sim);
