/* SPDX-License-Identifier: MIT */
/*
 * The processes that watch over containers: so those that run are found by name wherever their files are. Podman and
 * CRI-O start a conmon for each, and tell it on its command line whose it is; containerd, which docker uses, too,
 * starts a shim for each container or pod, in the folder of its OCI bundle. Thread: any.
 */
#pragma once

#include <stddef.h>

#include "base/err.h"

struct container_monitor {
	const char *id, *name;       /* as conmon's command line has them; NULL of a shim */
	const char *folder;          /* of a shim: with a folder for each bundle, its own among them; else NULL */
	uint32_t uid;                /* whose process it is: everybody may call his own one so */
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
