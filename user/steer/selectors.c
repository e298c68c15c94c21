/* SPDX-License-Identifier: MIT */
/* The impure half of the intercept language: intercept_spec.c says what it says, this finds out who that is. */
#include "steer/selectors.h"

#include <errno.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "steer/cgroup.h"
#include "steer/containers.h"
#include "steer/netns.h"

#define PASSWD_LINE_MAX 16384

struct resolver {
	struct intercept_spec *spec;
	struct strbuf *notes;
	struct cgroup_list cgroups;
	struct container_list containers;
	/* of the action at hand */
	struct intercept_action *action;
	bool no_memory;
};

static void note(const struct resolver *r, const char *why)
{
	struct strbuf text = { 0 };

	if (!r->notes)
		return;
	intercept_action_write(r->action, &text);
	if (text.ptr)
		strbuf_addf(r->notes, "%s matches nothing now: %s\n", text.ptr, why);
	strbuf_fini(&text);
}

static void add_cgroup(struct resolver *r, uint64_t id)
{
	struct intercept_action *a = r->action;
	uint64_t *grown;

	for (uint32_t i = 0; i < a->cgroup_count; i++)
		if (a->cgroups[i] == id)
			return;
	grown = mem_realloc(a->cgroups, (a->cgroup_count + 1) * sizeof(*grown));
	r->no_memory |= !grown;
	if (!grown)
		return;
	a->cgroups = grown;
	a->cgroups[a->cgroup_count++] = id;
}

/* --- users ---------------------------------------------------------------------------------------------------- */

/* A name before a number, as chown(1) takes them. */
static int resolve_user(struct resolver *r, struct err *e)
{
	struct str name = r->action->name;
	char *text = mem_strndup(name.ptr, name.len), *line = mem_alloc(PASSWD_LINE_MAX);
	struct passwd passwd, *found = NULL;
	uint64_t number;
	int ret = 0;

	if (!text || !line)
		ret = err_set(e, -ENOMEM, "no memory for the intercept spec");
	else if (getpwnam_r(text, &passwd, line, PASSWD_LINE_MAX, &found) == 0 && found)
		r->action->number = found->pw_uid;
	else if (str_to_u64(name, INTERCEPT_UNKNOWN - 1, &number))
		r->action->number = (uint32_t)number;
	else if (r->notes)
		ret = err_set(e, -ENOENT, "no user is called \"%s\"; `getent passwd` lists those that are, and "
			      "user:UID takes any number", text);
	mem_free(line);
	mem_free(text);
	return ret;
}

/* --- network namespaces --------------------------------------------------------------------------------------- */

static int resolve_netns(struct resolver *r, struct err *e)
{
	struct str name = r->action->name;
	uint32_t inode = netns_named(name);
	struct strbuf known = { 0 };
	int ret;

	r->action->number = inode ? inode : INTERCEPT_UNKNOWN;
	if (inode || !r->notes)
		return 0;
	netns_write_names(&known);
	ret = err_set(e, -ENOENT, "no network namespace is called \"%.*s\"; known are: %s",
		      (int)MIN(name.len, (size_t)128), name.ptr, known.ptr ? known.ptr : "none");
	strbuf_fini(&known);
	return ret;
}

/* --- cgroups -------------------------------------------------------------------------------------------------- */

static int resolve_cgroup(struct resolver *r, struct err *e)
{
	char *path = mem_strndup(r->action->name.ptr, r->action->name.len);
	struct stat st;
	int fd;

	if (!path)
		return err_set(e, -ENOMEM, "no memory for the intercept spec");
	fd = cgroup_open(path, e);
	mem_free(path);
	if (fd == -ENOENT || (fd < 0 && !r->notes)) {
		note(r, "there is no such cgroup; who is put into it later is taken then");
		return 0;
	}
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) == 0)
		add_cgroup(r, st.st_ino);
	close(fd);
	return 0;
}

/* By whole components. systemd puts a _ before names that the kernel could take for its own. */
static bool ends_with_unit(struct str path, struct str unit)
{
	while (unit.len) {
		const char *slash = memrchr(unit.ptr, '/', unit.len);
		const char *above = path.len ? memrchr(path.ptr, '/', path.len) : NULL;
		struct str want = unit, have = path;

		if (!above)
			return false;
		if (slash)
			want = (struct str){ slash + 1, unit.len - (size_t)(slash + 1 - unit.ptr) };
		have = (struct str){ above + 1, path.len - (size_t)(above + 1 - path.ptr) };
		if (have.len == want.len + 1 && have.ptr[0] == '_')
			have = (struct str){ have.ptr + 1, have.len - 1 };
		if (!str_eq(have, want))
			return false;
		path.len = (size_t)(above - path.ptr);
		unit.len = slash ? (size_t)(slash - unit.ptr) : 0;
	}
	return true;
}

/* As systemctl takes it: a name without the kind of unit is a service. */
static bool has_kind(struct str unit)
{
	static const char *const kinds[] = { ".service", ".scope", ".slice", ".socket", ".mount", ".swap" };

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		size_t len = strlen(kinds[i]);

		if (unit.len > len && memcmp(unit.ptr + unit.len - len, kinds[i], len) == 0)
			return true;
	}
	return false;
}

static int resolve_unit(struct resolver *r, struct err *e)
{
	struct strbuf unit = { 0 };

	strbuf_add_str(&unit, r->action->name);
	if (!has_kind(r->action->name))
		strbuf_add_str(&unit, STR(".service"));
	if (unit.failed) {
		strbuf_fini(&unit);
		return err_set(e, -ENOMEM, "no memory for the intercept spec");
	}
	for (uint32_t i = 0; i < r->cgroups.count; i++)
		if (ends_with_unit(str_of(r->cgroups.entries[i].path), (struct str){ unit.ptr, unit.len }))
			add_cgroup(r, r->cgroups.entries[i].id);
	strbuf_fini(&unit);
	if (!r->action->cgroup_count)
		note(r, "no such unit runs; it is taken when it starts");
	return 0;
}

static void on_container(void *owner, const char *id)
{
	struct resolver *r = owner;

	for (uint32_t i = 0; i < r->cgroups.count; i++)
		if (container_is_cgroup(id, r->cgroups.entries[i].path))
			add_cgroup(r, r->cgroups.entries[i].id);
}

static bool is_a_name(const struct container_list *list, struct str wanted)
{
	for (uint32_t i = 0; i < list->count; i++)
		if (list->containers[i].name && str_eq(str_of(list->containers[i].name), wanted))
			return true;
	return false;
}

static int resolve_container(struct resolver *r, struct err *e)
{
	struct str wanted = r->action->name;
	uint32_t found = containers_find(&r->containers, wanted, on_container, r);
	struct strbuf known = { 0 };
	int ret = 0;

	if (found > 1 && r->notes && !is_a_name(&r->containers, wanted))
		return err_set(e, -EEXIST, "%u containers have ids that begin with \"%.*s\"; give more of it", found,
			       (int)MIN(wanted.len, (size_t)CONTAINER_ID_LEN), wanted.ptr);
	if (found) {
		if (!r->action->cgroup_count)
			note(r, "that container does not run; it is taken when it starts");
		return 0;
	}
	if (!r->notes)
		return 0;
	/* Nobody types one by mistake, and its runtime's files may be anywhere. */
	if (container_is_id(wanted)) {
		note(r, "no such container runs; it is taken when it starts");
		return 0;
	}
	containers_write(&r->containers, &known);
	ret = err_set(e, -ENOENT, "no container is called \"%.*s\"; known are: %s", (int)MIN(wanted.len, (size_t)128),
		      wanted.ptr, known.ptr ? known.ptr : "none");
	strbuf_fini(&known);
	return ret;
}

/* --- all of them ---------------------------------------------------------------------------------------------- */

static int resolve_exe(struct resolver *r, struct err *e)
{
	char *path = mem_strndup(r->action->name.ptr, r->action->name.len);

	if (!path)
		return err_set(e, -ENOMEM, "no memory for the intercept spec");
	if (access(path, F_OK) < 0)
		note(r, "there is no such file; it is taken when somebody runs it");
	mem_free(path);
	return 0;
}

static int resolve_action(struct resolver *r, struct err *e)
{
	mem_free(r->action->cgroups);
	r->action->cgroups = NULL;
	r->action->cgroup_count = 0;
	switch (r->action->kind) {
	case INTERCEPT_USER:
		return resolve_user(r, e);
	case INTERCEPT_CGROUP:
		return resolve_cgroup(r, e);
	case INTERCEPT_UNIT:
		return resolve_unit(r, e);
	case INTERCEPT_CONTAINER:
		return resolve_container(r, e);
	case INTERCEPT_EXE:
		return resolve_exe(r, e);
	case INTERCEPT_NETNS:
		return resolve_netns(r, e);
	case INTERCEPT_PID:
	case INTERCEPT_TREE:
		if (kill((pid_t)r->action->number, 0) < 0 && errno == ESRCH)
			note(r, "there is no such process");
		return 0;
	case INTERCEPT_NAME:
	case INTERCEPT_COMM:
		return 0;
	}
	return 0;
}

static int compare_ids(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static bool has(const struct intercept_spec *spec, enum intercept_kind kind)
{
	for (uint32_t i = 0; i < spec->count; i++)
		if (spec->actions[i].kind == kind)
			return true;
	return false;
}

int selectors_resolve(struct intercept_spec *spec, const char *root, struct strbuf *notes, struct err *e)
{
	struct resolver r = { .spec = spec, .notes = notes };
	int ret = 0;

	if (has(spec, INTERCEPT_UNIT) || has(spec, INTERCEPT_CONTAINER))
		ret = cgroup_list_read(&r.cgroups, e);
	if (ret == 0 && has(spec, INTERCEPT_CONTAINER))
		ret = containers_read(&r.containers, &r.cgroups, root, e);
	for (uint32_t i = 0; i < spec->count && ret == 0; i++) {
		r.action = &spec->actions[i];
		ret = resolve_action(&r, e);
		if (ret == 0 && r.no_memory)
			ret = err_set(e, -ENOMEM, "no memory for the intercept spec");
		if (r.action->cgroup_count)
			qsort(r.action->cgroups, r.action->cgroup_count, sizeof(*r.action->cgroups), compare_ids);
	}
	containers_fini(&r.containers);
	cgroup_list_fini(&r.cgroups);
	return ret;
}

bool selectors_can_change(const struct intercept_spec *spec)
{
	return has(spec, INTERCEPT_CGROUP) || has(spec, INTERCEPT_UNIT) || has(spec, INTERCEPT_CONTAINER) ||
	       has(spec, INTERCEPT_NETNS);
}

bool selectors_same(const struct intercept_spec *a, const struct intercept_spec *b)
{
	for (uint32_t i = 0; i < a->count; i++) {
		const struct intercept_action *x = &a->actions[i], *y = &b->actions[i];

		if (x->cgroup_count != y->cgroup_count || x->number != y->number ||
		    (x->cgroup_count && memcmp(x->cgroups, y->cgroups, x->cgroup_count * sizeof(*x->cgroups)) != 0))
			return false;
	}
	return a->count == b->count;
}
