/* SPDX-License-Identifier: MIT */
/*
 * Fail closed: what decides about new connections is pinned, and goes on deciding when this process is killed. Its
 * successor on the same cgroup replaces it program by program, so that at no moment there is none.
 */
#include <errno.h>
#include <sys/stat.h>

#include "base/log.h"
#include "steer/pins.h"
#include "steer/steer_state.h"

/* What new connections meet, and what makes children of the selected selected. */
static bool decides(enum steer_link link)
{
	return link <= LINK_EXIT || link >= LINK_CONNECT4;
}

static const char *name_of(const struct steer *s, enum steer_link link)
{
	return bpf_program__name(steer_program(s, link));
}

static uint64_t cgroup_id(const struct steer *s)
{
	struct stat st;

	return fstat(s->cgroup_fd, &st) < 0 ? 0 : st.st_ino;
}

/* The links of tracepoints cannot be updated: the dead one's go when ours are there. */
static void take_links(void *owner, const struct pins_seen *seen)
{
	struct steer *s = owner;

	if (seen->lock_fd < 0 || seen->cgroup_id != cgroup_id(s))
		return;
	for (int i = LINK_CONNECT4; i < LINKS; i++) {
		struct bpf_link *link = s->links[i] ? NULL : pins_find(seen, name_of(s, i));

		if (link && bpf_link__update_program(link, steer_program(s, i)) == 0)
			s->links[i] = link;
		else
			bpf_link__destroy(link);
	}
}

void steer_take_over(struct steer *s)
{
	pins_list(take_links, s);
}

struct leftovers {
	uint64_t cgroup_id;
	pid_t pid;                   /* whose; 0: there were none */
	uint32_t others;             /* of other cgroups */
};

static void drop_leftover(void *owner, const struct pins_seen *seen)
{
	struct leftovers *left = owner;

	if (seen->lock_fd < 0)
		return;
	if (seen->cgroup_id != left->cgroup_id) {
		left->others++;
		return;
	}
	left->pid = seen->pid;
	pins_drop(seen);
}

static void drop_leftovers(const struct steer *s)
{
	struct leftovers left = { .cgroup_id = cgroup_id(s) };

	pins_list(drop_leftover, &left);
	if (left.pid)
		log_line(LOG_INFO, "steer", "Took over from process %d, which was killed: until now, connections of "
			 "its selection were refused.", (int)left.pid);
	if (left.others)
		log_line(LOG_WARN, "steer", "connections in %u other cgroup%s are still refused, because a mitm-bpf "
			 "with --fail-closed was killed there; `mitm-bpf release` ends that", left.others,
			 left.others == 1 ? "" : "s");
}

int steer_pin(struct steer *s, struct err *e)
{
	int ret = 0;

	if (s->skel->rodata->steer_fail_closed && !s->pins)
		ret = pins_open(&s->pins, cgroup_id(s), e);
	for (int i = 0; i < LINKS && ret == 0 && s->pins; i++)
		if (s->links[i] && decides(i))
			ret = pins_add(s->pins, name_of(s, i), s->links[i], e);
	if (ret == 0)
		drop_leftovers(s);
	return ret;
}

void steer_unpin(struct steer *s, enum steer_link link)
{
	if (!s->pins || !s->links[link])
		return;
	/* At once: the kernel keeps what was unlinked for some milliseconds, in which connections would be refused. */
	(void)!bpf_link__detach(s->links[link]);
	pins_remove(s->pins, name_of(s, link));
}

void steer_unpin_all(struct steer *s)
{
	pins_remove_all(s->pins);
	pins_free(s->pins);
	s->pins = NULL;
}
