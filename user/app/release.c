/* SPDX-License-Identifier: MIT */
/* Those whose owner lives are none of our business. */
#include "app/release.h"

#include <errno.h>
#include <unistd.h>

#include "steer/cgroup_list.h"
#include "steer/pins.h"
#include "views/body_text.h"

struct release {
	struct strbuf *out;
	struct cgroup_list cgroups;
};

/* Whoever is given a cgroup names those below it. */
static void write_cgroup(const struct release *r, uint64_t id)
{
	const char *path = "one that is gone";

	for (uint32_t i = 0; i < r->cgroups.count; i++)
		if (r->cgroups.entries[i].id == id)
			path = *r->cgroups.entries[i].path ? r->cgroups.entries[i].path : "/";
	text_line(r->out, str_of(path));
}

static void release_one(void *owner, const struct pins_seen *seen)
{
	struct release *r = owner;
	bool lives = seen->lock_fd < 0;

	if (!lives)
		pins_release(seen);
	strbuf_add_str(r->out, lives ? STR("Left alone: cgroup ") : STR("Released: cgroup "));
	write_cgroup(r, seen->cgroup_id);
	strbuf_addf(r->out, lives ? ", where process %d still runs.\n" :
				    ", which process %d kept when it was killed.\n", (int)seen->pid);
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
