/* SPDX-License-Identifier: MIT */
/* The two rings between one worker and the master, and how each wakes the other. Made by the worker, used by both. */
#pragma once

#include "core/report.h"

struct worker_link {
	uint32_t worker;                 /* index */
	struct ring *to_master;          /* worker pushes, master pops */
	struct ring *from_master;        /* reports coming back to be freed */
	const uint64_t *open_bytes;      /* what open flows hold of memory; atomic; NULL: not known */
	int master_fd;                   /* eventfd: readable when to_master may have something */
	void (*wake)(struct worker_link *link);  /* any thread: from_master has something */
};
