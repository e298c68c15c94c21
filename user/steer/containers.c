/* SPDX-License-Identifier: MIT */
/*
 * What runtimes have in common is that an id ends the name of the container's cgroup. Files know all containers, but
 * may be anywhere (`podman --root`); monitors know those that run.
 */
#include "steer/containers.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "steer/container_files.h"
#include "steer/container_monitors.h"

#define ID_DIGITS_MIN 4
#define SHORT_ID 12
#define SHOWN_MAX 12
#define NAMES_OF_USER_MAX 1024       /* of one after the other; more are not looked at */

static int add(struct container_list *list, const char *id, const char *name)
{
	struct container *c;

	for (uint32_t i = 0; i < list->count; i++) {
		c = &list->containers[i];
		if (strcmp(c->id, id) == 0 && (!name || (c->name && strcmp(c->name, name) == 0)))
			return 0;
	}
	if (list->count == list->cap) {
		uint32_t cap = list->cap ? list->cap * 2 : 16;
		struct container *grown = mem_realloc(list->containers, cap * sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		list->containers = grown;
		list->cap = cap;
	}
	c = &list->containers[list->count];
	*c = (struct container){ .id = mem_strndup(id, strlen(id)) };
	if (name)
		c->name = mem_strndup(name, strlen(name));
	list->count++;                          /* also when it is not whole: containers_fini() ends it */
	return c->id && (c->name || !name) ? 0 : -ENOMEM;
}

/* --- cgroups ---------------------------------------------------------------------------------------------------- */

/* The last component without ".scope"; none for the group of a container's monitor (libpod-conmon-ID.scope). */
static struct str last_component(const char *path)
{
	const char *slash = strrchr(path, '/');
	struct str last = str_of(slash ? slash + 1 : path);

	if (last.len > 6 && memcmp(last.ptr + last.len - 6, ".scope", 6) == 0)
		last.len -= 6;
	if (memmem(last.ptr, last.len, "conmon", 6))
		last.len = 0;
	return last;
}

bool container_is_id(struct str text)
{
	for (size_t i = 0; i < text.len; i++)
		if (!memchr("0123456789abcdef", text.ptr[i], 16))
			return false;
	return text.len == CONTAINER_ID_LEN;
}

bool container_is_cgroup(const char *id, const char *path)
{
	struct str last = last_component(path), wanted = str_of(id);
	const char *from;

	if (*id == '/')
		return strcmp(path, id) == 0;
	if (wanted.len == 0 || last.len < wanted.len)
		return false;
	from = last.ptr + last.len - wanted.len;
	if (memcmp(from, wanted.ptr, wanted.len) != 0)
		return false;
	/* Other names can end in one that a person has chosen. */
	return from == last.ptr || (container_is_id(wanted) && (from[-1] == '-' || from[-1] == ':'));
}

/* ID, docker-ID, libpod-ID, cri-containerd-ID, crio-ID */
static bool id_of(const char *path, char id[CONTAINER_ID_LEN + 1])
{
	struct str last = last_component(path);

	if (last.len < CONTAINER_ID_LEN)
		return false;
	memcpy(id, last.ptr + last.len - CONTAINER_ID_LEN, CONTAINER_ID_LEN);
	id[CONTAINER_ID_LEN] = 0;
	return container_is_id(str_of(id)) && container_is_cgroup(id, path);
}

static bool is_known(const struct container_list *list, const char *id)
{
	for (uint32_t i = 0; i < list->count; i++)
		if (strcmp(list->containers[i].id, id) == 0)
			return true;
	return false;
}

/* Whether a container runs that no file knows. */
static bool has_unknown(const struct container_list *list, const struct cgroup_list *cgroups)
{
	char id[CONTAINER_ID_LEN + 1];

	for (uint32_t i = 0; i < cgroups->count; i++)
		if (id_of(cgroups->entries[i].path, id) && !is_known(list, id))
			return true;
	return false;
}

/* --- who may name whom ------------------------------------------------------------------------------------------ */

#define FOLDERS_MAX 8

struct reader {
	struct container_list *list;
	const struct cgroup_list *cgroups;
	const char *root;
	uint32_t uid, of_uid;            /* who named the last ones, and how many */
	struct {
		dev_t dev;
		ino_t ino;
	} seen[FOLDERS_MAX];             /* of shims */
	size_t seen_count;
};

/* systemd keeps what is a user's in a slice of his. */
static bool is_users(const struct cgroup_list *cgroups, const char *id, uint32_t uid)
{
	char slice[40];

	snprintf(slice, sizeof(slice), "/user-%u.slice/", uid);
	for (uint32_t i = 0; i < cgroups->count; i++)
		if (container_is_cgroup(id, cgroups->entries[i].path) && strstr(cgroups->entries[i].path, slice))
			return true;
	return false;
}

/* A user can write any file, and give a process any command line: he may name his own containers, and no one else's. */
static int add_named(void *owner, const char *id, const char *name, uint32_t uid)
{
	struct reader *r = owner;

	r->of_uid = uid == r->uid ? r->of_uid + 1 : 0;
	r->uid = uid;
	if (uid != 0 && (r->of_uid >= NAMES_OF_USER_MAX || !container_is_id(str_of(id)) ||
			 !is_users(r->cgroups, id, uid)))
		return 0;
	return add(r->list, id, name);
}

/* All bundles beside a shim's, once: a pod's containers share a shim, and many shims a folder. */
static int add_folder(struct reader *r, const char *folder)
{
	struct stat st;

	if (stat(folder, &st) < 0)
		return 0;
	for (size_t i = 0; i < r->seen_count; i++)
		if (r->seen[i].dev == st.st_dev && r->seen[i].ino == st.st_ino)
			return 0;
	if (r->seen_count < FOLDERS_MAX) {
		r->seen[r->seen_count].dev = st.st_dev;
		r->seen[r->seen_count++].ino = st.st_ino;
	}
	return container_files_in(folder, r->root, add_named, r);
}

static int add_monitor(void *owner, const struct container_monitor *m)
{
	if (m->folder)
		return m->uid == 0 ? add_folder(owner, m->folder) : 0;
	return container_is_id(str_of(m->id)) ? add_named(owner, m->id, m->name, m->uid) : 0;
}

int containers_read(struct container_list *list, const struct cgroup_list *cgroups, const char *root, struct err *e)
{
	struct reader r = { .list = list, .cgroups = cgroups, .root = root };
	char id[CONTAINER_ID_LEN + 1];
	int ret;

	*list = (struct container_list){ 0 };
	ret = container_files_read(root, add_named, &r);
	/* All processes are looked through for them. */
	if (ret == 0 && has_unknown(list, cgroups))
		ret = container_monitors_read(root, add_monitor, &r);
	for (uint32_t i = 0; i < cgroups->count && ret == 0; i++)
		if (id_of(cgroups->entries[i].path, id))
			ret = add(list, id, NULL);
	if (ret == 0)
		return 0;
	containers_fini(list);
	return err_set(e, ret, "no memory for the list of containers");
}

void containers_fini(struct container_list *list)
{
	for (uint32_t i = 0; i < list->count; i++) {
		mem_free(list->containers[i].id);
		mem_free(list->containers[i].name);
	}
	mem_free(list->containers);
	*list = (struct container_list){ 0 };
}

/* --- finding ---------------------------------------------------------------------------------------------------- */

static bool is_id(const struct container *c, struct str wanted)
{
	for (size_t i = 0; i < wanted.len; i++)
		if (!isxdigit((unsigned char)wanted.ptr[i]))
			return str_eq(str_of(c->id), wanted);
	return str_eq(str_of(c->id), wanted) || (wanted.len >= ID_DIGITS_MIN && str_starts(str_of(c->id), wanted));
}

/* A container is there once for each of its names. */
static bool seen_before(const struct container_list *list, uint32_t at)
{
	for (uint32_t i = 0; i < at; i++)
		if (strcmp(list->containers[i].id, list->containers[at].id) == 0)
			return true;
	return false;
}

uint32_t containers_find(const struct container_list *list, struct str wanted,
			 void (*match)(void *owner, const char *id), void *owner)
{
	uint32_t found = 0;

	for (uint32_t i = 0; i < list->count; i++)
		if (list->containers[i].name && str_eq(str_of(list->containers[i].name), wanted)) {
			match(owner, list->containers[i].id);
			found++;
		}
	for (uint32_t i = 0; i < list->count && !found; i++) {
		if (!is_id(&list->containers[i], wanted) || seen_before(list, i))
			continue;
		for (uint32_t k = i; k < list->count; k++)
			if (is_id(&list->containers[k], wanted) && !seen_before(list, k)) {
				match(owner, list->containers[k].id);
				found++;
			}
	}
	return found;
}

void containers_write(const struct container_list *list, struct strbuf *out)
{
	uint32_t shown = 0;

	for (uint32_t i = 0; i < list->count; i++) {
		const struct container *c = &list->containers[i];

		if (!c->name && seen_before(list, i))
			continue;
		if (shown++ == SHOWN_MAX) {
			strbuf_add_str(out, STR(", ..."));
			return;
		}
		strbuf_add_str(out, shown > 1 ? STR(", ") : STR(""));
		if (c->name)
			strbuf_add_str(out, str_of(c->name));
		else
			strbuf_addf(out, "%.*s", SHORT_ID, c->id);
	}
}
