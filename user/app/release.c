/* SPDX-License-Identifier: MIT */
/* Those whose owner lives are none of our business. */
#include "app/release.h"

#include <errno.h>
#include <unistd.h>

#include "steer/cgroup_list.h"
#include "steer/pins.h"

struct release {
	struct strbuf *out;
	struct cgroup_list cgroups;
};

static const char *cgroup_path(const struct release *r, uint64_t id)
{
	for (uint32_t i = 0; i < r->cgroups.count; i++)
		if (r->cgroups.entries[i].id == id)
			return *r->cgroups.entries[i].path ? r->cgroups.entries[i].path : "/";
	return "one that is gone";
}

static void release_one(void *owner, const struct pins_seen *seen)
{
	struct release *r = owner;
	const char *cgroup = cgroup_path(r, seen->cgroup_id);

	if (seen->lock_fd < 0) {
		strbuf_addf(r->out, "Left alone: cgroup %s, where process %d still runs.\n", cgroup, (int)seen->pid);
		return;
	}
	pins_release(seen);
	strbuf_addf(r->out, "Released: cgroup %s, which process %d kept when it was killed.\n", cgroup,
		    (int)seen->pid);
}

int release_run(struct strbuf *out)
{
	struct release r = { .out = out };
	struct err e = { 0 };

	if (geteuid() != 0) {
		strbuf_add_str(out, STR("mitm-bpf release needs root: what it takes away is root's.\n"));
		return 1;
	}
	/* Without it there are no names, which does not matter. */
	(void)!cgroup_list_read(&r.cgroups, &e);
	if (pins_list(release_one, &r) == 0)
		strbuf_add_str(out, STR("Nothing is kept: no mitm-bpf with --fail-closed runs or was killed here.\n"));
	cgroup_list_fini(&r.cgroups);
	return 0;
}
