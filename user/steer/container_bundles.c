/* SPDX-License-Identifier: MIT */
/* Nothing in a bundle says where docker's data is, but the files that docker mounts into containers lie in it. */
#include "steer/container_bundles.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "steer/containers.h"
#include "steer/plain_file.h"

int container_json_load(const char *path, json_t **file)
{
	struct strbuf bytes = { 0 };
	int ret = plain_file_read(path, CONTAINER_FILE_BYTES_MAX, &bytes);

	*file = ret == 0 && bytes.len ? json_loadb(bytes.ptr, bytes.len, 0, NULL) : NULL;
	strbuf_fini(&bytes);
	return ret == -ENOMEM ? ret : 0;
}

static const char *text_of(const json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key));
}

/* --- docker ----------------------------------------------------------------------------------------------------- */

/* {"ID": ..., "Name": "/web"} */
int container_docker_read(const json_t *file, const char *id, container_bundle_fn each, void *owner)
{
	const char *own = text_of(file, "ID"), *name = text_of(file, "Name");

	if (!own || !name || (id && strcmp(own, id) != 0))
		return 0;
	return each(owner, own, name + (*name == '/'));
}

/* .../containers/ID/hostname is mounted as /etc/hostname; with another container's network it is that one's. */
static bool docker_path(char path[PATH_MAX], const char *root, const char *source, const char *id)
{
	const char *slash = strrchr(source, '/');
	int len = slash ? (int)(slash - source) : 0;

	while (len && source[len - 1] != '/')
		len--;
	return len > 1 && snprintf(path, PATH_MAX, "%s%.*s%s/config.v2.json", root, len, source, id) < PATH_MAX;
}

static int read_docker(const json_t *mounts, const char *id, const char *root, container_bundle_fn each, void *owner)
{
	static const char *const places[] = { "/etc/hostname", "/etc/hosts", "/etc/resolv.conf" };
	char path[PATH_MAX];
	const json_t *mount;
	size_t i;

	json_array_foreach(mounts, i, mount) {
		const char *target = text_of(mount, "destination"), *source = text_of(mount, "source");

		for (size_t k = 0; k < ARRAY_SIZE(places) && target && source; k++) {
			json_t *file;
			int ret;

			if (strcmp(target, places[k]) != 0 || !docker_path(path, root, source, id))
				continue;
			ret = container_json_load(path, &file);
			if (file)
				ret = container_docker_read(file, id, each, owner);
			json_decref(file);
			if (file || ret < 0)
				return ret;
		}
	}
	return 0;
}

/* --- ctr -------------------------------------------------------------------------------------------------------- */

/* "/default/web", or for systemd "machine.slice:ctr:web". */
static int read_own(const json_t *file, const char *id, container_bundle_fn each, void *owner)
{
	const char *group = text_of(json_object_get(file, "linux"), "cgroupsPath"), *colon;
	char scope[PATH_MAX];
	int len;

	if (!group || (*group == '/' && !group[1]))
		return 0;
	if (*group == '/')
		return each(owner, group, id);
	colon = strchr(group, ':');
	len = colon ? (int)strcspn(colon + 1, ":") : 0;
	if (!colon || !colon[1 + len] || snprintf(scope, sizeof(scope), "%.*s%s%s", len, colon + 1, len ? "-" : "",
						  colon + 2 + len) >= (int)sizeof(scope))
		return 0;
	return each(owner, scope, id);
}

int container_bundle_read(const json_t *file, const char *id, const char *root, container_bundle_fn each, void *owner)
{
	static const char *const keys[] = {
		"io.kubernetes.cri.container-name", "io.kubernetes.container.name", "nerdctl/name",
	};
	const json_t *notes = json_object_get(file, "annotations");
	bool named = false;
	int ret = 0;

	for (size_t i = 0; i < ARRAY_SIZE(keys) && ret == 0; i++) {
		const char *name = text_of(notes, keys[i]);

		if (name)
			ret = each(owner, id, name);
		named |= name != NULL;
	}
	if (ret < 0 || named)
		return ret;
	if (container_is_id((struct str){ id, strlen(id) }))
		return read_docker(json_object_get(file, "mounts"), id, root, each, owner);
	return read_own(file, id, each, owner);
}
