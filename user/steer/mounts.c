/* SPDX-License-Identifier: MIT */
/* mount(2) with sentences. */
#include "steer/mounts.h"

#include <errno.h>
#include <sched.h>
#include <sys/mount.h>

int mounts_private(struct err *e)
{
	if (unshare(CLONE_NEWNS) < 0)
		return err_set(e, -errno, "no mount namespace: %m");
	if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
		return err_set(e, -errno, "cannot keep mounts from the rest of the system: %m");
	return 0;
}

int mounts_memory(const char *folder, struct err *e)
{
	if (mount("mitm-bpf", folder, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0755") < 0)
		return err_set(e, -errno, "cannot mount a tmpfs on %s: %m", folder);
	return 0;
}

int mounts_show(const char *from, const char *onto, struct err *e)
{
	if (mount(from, onto, NULL, MS_BIND | MS_REC, NULL) < 0)
		return err_set(e, -errno, "cannot mount %s over %s: %m", from, onto);
	return 0;
}
