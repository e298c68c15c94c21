/* SPDX-License-Identifier: MIT */
/*
 * The conmon processes that run: podman and CRI-O start one for each container, and tell it on its command line whose
 * it is. So running containers are found by name wherever their files are. Thread: any.
 */
#pragma once

#include <stddef.h>

#include "base/err.h"

struct container_monitor {
	const char *id, *name;       /* as the command line has them */
	uint32_t uid;                /* whose process it is: everybody may call his own one conmon */
};

/*
 * What a command line says, which anybody can have: text has len bytes and a NUL behind them, and is pointed into.
 * False: it is no monitor's.
 */
bool container_monitor_parse(struct container_monitor *m, const char *text, size_t len);

/**
 * container_monitors_read() - one call of each() for each of them.
 * @root: what is put before /proc: "", or a folder that stands in for the root
 * @each: 0 or -errno, which ends it; what it is shown is valid in the call
 *
 * Who comes or goes meanwhile may be missing. Returns 0, -ENOMEM or what each() returned.
 */
int container_monitors_read(const char *root, int (*each)(void *owner, const struct container_monitor *monitor),
			    void *owner) __must_check;
