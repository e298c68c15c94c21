/* SPDX-License-Identifier: MIT */
/* One file, or all "*.pem" of a folder; what else is in it is nobody's business. */
#include "master/client_cert_files.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"
#include "master/ca_files.h"

static int add_file(struct client_certs *certs, struct str server, const char *path, const char *passphrase,
		    struct err *e)
{
	struct leaf *leaf = NULL;
	int ret = ca_files_load_client(&leaf, path, passphrase, e);

	if (ret == 0 && client_certs_add(certs, server, leaf) < 0)
		ret = err_set(e, -ENOMEM, "out of memory");
	leaf_put(leaf);
	return ret;
}

static int add_folder(struct client_certs *certs, const char *folder, const char *passphrase, struct err *e)
{
	DIR *dir = opendir(folder);
	struct dirent *entry;
	uint32_t count = 0;
	int ret = 0;

	if (!dir)
		return err_set(e, -errno, "cannot read the folder of client certificates %s: %m", folder);
	while (ret == 0 && (entry = readdir(dir))) {
		size_t len = strlen(entry->d_name);
		char path[PATH_MAX];

		if (len <= 4 || strcmp(entry->d_name + len - 4, ".pem") != 0)
			continue;
		if (snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name) >= (int)sizeof(path))
			ret = err_set(e, -ENAMETOOLONG, "a name in %s is too long", folder);
		else
			ret = add_file(certs, (struct str){ entry->d_name, len - 4 }, path, passphrase, e);
		count++;
	}
	closedir(dir);
	if (ret == 0 && count == 0)
		log_line(LOG_WARN, "tls", "the folder of client certificates %s has no file named <server>.pem",
			 folder);
	return ret;
}

int client_cert_files_load(struct client_certs **out, const char *path, const char *passphrase, struct err *e)
{
	struct client_certs *certs;
	struct stat st;
	int ret;

	if (stat(path, &st) < 0)
		return err_set(e, -errno, "cannot read client certificates from %s: %m; the option client_certs names "
			       "a PEM file, or a folder of <server>.pem", path);
	certs = client_certs_new();
	if (!certs)
		return err_set(e, -ENOMEM, "out of memory");
	if (S_ISDIR(st.st_mode))
		ret = add_folder(certs, path, passphrase, e);
	else
		ret = add_file(certs, (struct str){ 0 }, path, passphrase, e);
	if (ret == 0)
		*out = certs;
	else
		client_certs_free(certs);
	return ret;
}
