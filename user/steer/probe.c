/* SPDX-License-Identifier: MIT */
/* The list, the cgroup that programs are tried on, and the order. */
#include "steer/probe.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "steer/cgroup.h"
#include "steer/libbpf_log.h"
#include "steer/probe_parts.h"

const char *probe_state_name(enum probe_state state)
{
	static const char *const names[] = { "ok", "degraded", "missing" };

	return names[state];
}

void probe_add(struct probe_list *list, const struct probe_advice *advice, enum probe_state state, const char *fmt, ...)
{
	struct probe_result *result = &list->results[list->count];
	va_list ap;

	BUG_ON(list->count == PROBES_MAX);
	list->count++;
	*result = (struct probe_result){ .name = advice->name, .state = state, .needed = advice->needed };
	if (state != PROBE_OK) {
		result->lost = advice->lost;
		result->fix = advice->fix;
	}
	va_start(ap, fmt);
	vsnprintf(result->detail, sizeof(result->detail), fmt, ap);
	va_end(ap);
}

static const char *kind_of(const char *mount)
{
	if (strcmp(mount, "/sys/fs/cgroup") == 0)
		return "unified";
	return strcmp(mount, "/sys/fs/cgroup/unified") == 0 ? "hybrid" : "at an unusual place";
}

static void probe_tree(struct probe_list *list, struct probe_context *c)
{
	static const struct probe_advice tree = {
		true, "cgroup v2", "no process can be intercepted",
		"mount it (mount -t cgroup2 none /sys/fs/cgroup), or correct --cgroup",
	};
	static const struct probe_advice writable = {
		false, "cgroup can have children", "programs are loaded here but not attached for a try",
		"mount the cgroup tree read-write; interception itself does not need it",
	};
	char mount[PATH_MAX];
	struct err e;

	c->cgroup_fd = cgroup_open(c->cgroup, &e);
	if (c->cgroup_fd < 0) {
		probe_add(list, &tree, PROBE_MISSING, "%.200s", e.text);
		return;
	}
	if (cgroup_mount(mount, NULL) < 0)
		probe_add(list, &tree, PROBE_OK, "not mounted, but could be for us alone");
	else
		probe_add(list, &tree, PROBE_OK, "%.100s (%s)%s%.100s", mount, kind_of(mount),
			  c->cgroup ? ", group " : "", c->cgroup ? c->cgroup : "");
	snprintf(c->child_name, sizeof(c->child_name), "mitm-bpf-probe-%d", getpid());
	if (mkdirat(c->cgroup_fd, c->child_name, 0755) < 0) {
		probe_add(list, &writable, PROBE_DEGRADED, "mkdir: %s", strerror(errno));
		return;
	}
	c->child_fd = openat(c->cgroup_fd, c->child_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	probe_add(list, &writable, PROBE_OK, "a temporary group could be made");
}

static void drop_child(struct probe_context *c)
{
	if (c->child_fd >= 0)
		close(c->child_fd);
	/* A process that has just ended may still be leaving the group. */
	for (int i = 0; c->child_fd >= 0 && i < 100; i++) {
		if (unlinkat(c->cgroup_fd, c->child_name, AT_REMOVEDIR) == 0 || errno != EBUSY)
			break;
		usleep(10000);
	}
	if (c->cgroup_fd >= 0)
		close(c->cgroup_fd);
}

int steer_probe(struct probe_list *list, const char *cgroup)
{
	struct probe_context c = { .cgroup = cgroup, .cgroup_fd = -1, .child_fd = -1 };

	libbpf_log_init();
	list->count = 0;
	probe_kernel(list);
	probe_tree(list, &c);
	probe_programs(list, &c);
	probe_network(list, &c);
	probe_traffic(list);
	drop_child(&c);
	for (uint32_t i = 0; i < list->count; i++)
		if (list->results[i].needed && list->results[i].state == PROBE_MISSING)
			return -ENOTSUP;
	return 0;
}
