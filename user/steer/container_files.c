/* SPDX-License-Identifier: MIT */
/*
 * Each runtime has its own place and form. Nothing here waits or has an effect, whatever a user puts in these places:
 * a pipe, a device, a link to either, or a file without end.
 */
#include "steer/container_files.h"

#include <errno.h>
#include <glob.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "steer/container_bundles.h"
#include "steer/plain_file.h"

/* What one user may make us read each time. */
#define FILES_OF_HOME_MAX 256
#define BYTES_OF_HOME_MAX CONTAINER_FILE_BYTES_MAX

/* --- forms ------------------------------------------------------------------------------------------------------ */

struct parse {
	const struct container_place *place;
	container_file_fn each;
	void *owner;
};

static int tell(void *owner, const char *id, const char *name)
{
	const struct parse *p = owner;

	return p->each(p->owner, id, name, p->place->uid);
}

/* [{"id": ..., "names": [...]}, ...] */
static int parse_storage(struct parse *p, const json_t *file)
{
	const json_t *entry, *name;
	size_t i, k;
	int ret = 0;

	json_array_foreach(file, i, entry) {
		const char *id = json_string_value(json_object_get(entry, "id"));

		json_array_foreach(json_object_get(entry, "names"), k, name)
			if (id && ret == 0 && json_string_value(name))
				ret = tell(p, id, json_string_value(name));
	}
	return ret;
}

/* The folder of that name is the id's. up: how far it is above the file. */
static int parse_bundle(struct parse *p, const json_t *file, int up)
{
	char folders[PATH_MAX], *slash = NULL;

	snprintf(folders, sizeof(folders), "%s", p->place->path);
	for (int i = 0; i <= up; i++) {
		if (slash)
			*slash = 0;
		slash = strrchr(folders, '/');
		if (!slash)
			return 0;
	}
	*slash = 0;
	slash = strrchr(folders, '/');
	return slash ? container_bundle_read(file, slash + 1, p->place->root, tell, p) : 0;
}

static int parse(enum container_file kind, struct parse *p, const json_t *file)
{
	switch (kind) {
	case CONTAINER_FILE_STORAGE:
		return parse_storage(p, file);
	case CONTAINER_FILE_DOCKER:
		return container_docker_read(file, NULL, tell, p);
	case CONTAINER_FILE_TASK:
		return parse_bundle(p, file, 0);
	case CONTAINER_FILE_USERDATA:
		return parse_bundle(p, file, 1);
	}
	return 0;
}

int container_file_parse(enum container_file kind, const struct container_place *place, struct str bytes,
			 container_file_fn each, void *owner)
{
	struct parse p = { .place = place, .each = each, .owner = owner };
	json_t *file = bytes.len ? json_loadb(bytes.ptr, bytes.len, 0, NULL) : NULL;
	int ret = file ? parse(kind, &p, file) : 0;

	json_decref(file);
	return ret;
}

/* --- places ----------------------------------------------------------------------------------------------------- */

static const struct {
	const char *pattern;
	enum container_file kind;
} places[] = {
	{ "/var/lib/containers/storage/*-containers/containers.json", CONTAINER_FILE_STORAGE },
	{ "/var/lib/containers/storage/*-containers/volatile-containers.json", CONTAINER_FILE_STORAGE },
	{ "/run/containers/storage/*-containers/volatile-containers.json", CONTAINER_FILE_STORAGE },
	{ "/var/lib/containers/storage/*-containers/*/userdata/config.json", CONTAINER_FILE_USERDATA },
	{ "/run/containers/storage/*-containers/*/userdata/config.json", CONTAINER_FILE_USERDATA },
	{ "/var/lib/docker/containers/*/config.v2.json", CONTAINER_FILE_DOCKER },
	{ "/run/containerd/io.containerd.runtime.v2.task/*/*/config.json", CONTAINER_FILE_TASK },
	{ "/run/docker/containerd/daemon/io.containerd.runtime.v2.task/*/*/config.json", CONTAINER_FILE_TASK },
	{ "/run/k3s/containerd/io.containerd.runtime.v2.task/*/*/config.json", CONTAINER_FILE_TASK },
}, places_in_homes[] = {
	{ "/.local/share/containers/storage/*-containers/containers.json", CONTAINER_FILE_STORAGE },
	{ "/.local/share/docker/containers/*/config.v2.json", CONTAINER_FILE_DOCKER },
};

struct reading {
	const char *root;
	uint32_t uid;
	size_t files_left, bytes_left;
	container_file_fn each;
	void *owner;
};

static int read_file(struct reading *r, enum container_file kind, const char *path)
{
	const struct container_place place = { .root = r->root, .path = path, .uid = r->uid };
	struct strbuf bytes = { 0 };
	int ret = plain_file_read(path, MIN(r->bytes_left, (size_t)CONTAINER_FILE_BYTES_MAX), &bytes);

	r->files_left--;
	r->bytes_left -= MIN(r->bytes_left, bytes.len);
	if (ret == 0)
		ret = container_file_parse(kind, &place, (struct str){ bytes.ptr, bytes.len }, r->each, r->owner);
	else if (ret != -ENOMEM)
		ret = 0;
	strbuf_fini(&bytes);
	return ret;
}

static int read_place(struct reading *r, enum container_file kind, const char *folder, const char *pattern)
{
	char path[PATH_MAX];
	glob_t found = { 0 };
	int ret = 0;

	if (snprintf(path, sizeof(path), "%s%s", folder, pattern) < (int)sizeof(path) &&
	    glob(path, GLOB_NOSORT, NULL, &found) == 0)
		for (size_t i = 0; i < found.gl_pathc && r->files_left && ret == 0; i++)
			ret = read_file(r, kind, found.gl_pathv[i]);
	globfree(&found);
	return ret;
}

/* What is in a home is its owner's word, whoever's the files look like. */
static int read_home(const char *home, const char *root, container_file_fn each, void *owner)
{
	struct reading r = { .root = root, .files_left = FILES_OF_HOME_MAX, .bytes_left = BYTES_OF_HOME_MAX,
			     .each = each, .owner = owner };
	struct stat st;
	int ret = 0;

	if (strpbrk(home, "*?[\\") || stat(home, &st) < 0)
		return 0;
	r.uid = st.st_uid;
	for (size_t i = 0; i < ARRAY_SIZE(places_in_homes) && ret == 0; i++)
		ret = read_place(&r, places_in_homes[i].kind, home, places_in_homes[i].pattern);
	return ret;
}

/* Docker's data can be anywhere. */
static int read_docker_data(struct reading *r)
{
	char path[PATH_MAX];
	const char *data;
	json_t *settings;
	int ret;

	snprintf(path, sizeof(path), "%s/etc/docker/daemon.json", r->root);
	ret = container_json_load(path, &settings);
	data = json_string_value(json_object_get(settings, "data-root"));
	if (ret == 0 && data &&
	    snprintf(path, sizeof(path), "%s/containers/*/config.v2.json", data) < (int)sizeof(path))
		ret = read_place(r, CONTAINER_FILE_DOCKER, r->root, path);
	json_decref(settings);
	return ret;
}

int container_files_read(const char *root, container_file_fn each, void *owner)
{
	struct reading r = { .root = root, .files_left = SIZE_MAX, .bytes_left = SIZE_MAX, .each = each,
			     .owner = owner };
	glob_t homes = { 0 };
	char pattern[PATH_MAX];
	int ret = 0;

	for (size_t i = 0; i < ARRAY_SIZE(places) && ret == 0; i++)
		ret = read_place(&r, places[i].kind, root, places[i].pattern);
	if (ret == 0)
		ret = read_docker_data(&r);
	if (ret == 0 && snprintf(pattern, sizeof(pattern), "%s/home/*", root) < (int)sizeof(pattern) &&
	    glob(pattern, GLOB_NOSORT, NULL, &homes) == 0)
		for (size_t i = 0; i < homes.gl_pathc && ret == 0; i++)
			ret = read_home(homes.gl_pathv[i], root, each, owner);
	globfree(&homes);
	return ret;
}

int container_files_in(const char *folder, const char *root, container_file_fn each, void *owner)
{
	struct reading r = { .root = root, .files_left = SIZE_MAX, .bytes_left = SIZE_MAX, .each = each,
			     .owner = owner };

	return read_place(&r, CONTAINER_FILE_TASK, folder, "/*/config.json");
}
