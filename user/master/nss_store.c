/* SPDX-License-Identifier: MIT */
/* Where the databases are, and certutil. A user who makes links of them gets no more than what is his already. */
#include "master/nss_store.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <grp.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"

#define DATABASES_MAX 16
#define FILE_BYTES_MAX (64u << 20)
#define NICKNAME "mitm-bpf"

static const char *const places[] = {
	".pki/nssdb",                                   /* Chromium, and what is built on it */
	".mozilla/firefox/*",
	".config/mozilla/firefox/*",                    /* where newer ones begin */
	".thunderbird/*",
	"snap/chromium/current/.pki/nssdb",
	"snap/firefox/common/.mozilla/firefox/*",
	".var/app/org.mozilla.firefox/.mozilla/firefox/*",
};

/* Where the first start of one makes its database; by the beginning of its program's name. */
static const struct {
	const char *program, *places[3];
} browsers[] = {
	{ "firefox", { ".mozilla/firefox/*", ".config/mozilla/firefox/*" } },
	{ "chromium", { ".pki/nssdb" } },
	{ "google-chrome", { ".pki/nssdb" } },
	{ "thunderbird", { ".thunderbird/*" } },
};

/* Both change when an authority is added: key4.db has the seal of what cert9.db says. */
static const char *const files[] = { "cert9.db", "key4.db" };

/* --- the user's rights ---------------------------------------------------------------------------------------- */

static bool become(uid_t uid, gid_t gid)
{
	return geteuid() == uid || (setegid(gid) == 0 && seteuid(uid) == 0);
}

static void return_from(uid_t uid, gid_t gid)
{
	/* Our own identity: this cannot be refused. */
	BUG_ON(geteuid() != uid && (seteuid(uid) < 0 || setegid(gid) < 0));
}

/* --- one database --------------------------------------------------------------------------------------------- */

static int copy_bytes(int from, const char *path)
{
	int to = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600), ret = to < 0 ? -errno : 0;
	char part[16384];
	size_t total = 0;
	ssize_t got = 0;

	while (ret == 0 && (got = read(from, part, sizeof(part))) > 0) {
		total += (size_t)got;
		if (total > FILE_BYTES_MAX)
			ret = -EFBIG;
		else if (write(to, part, (size_t)got) != got)
			ret = -EIO;
	}
	if (to >= 0)
		close(to);
	return got < 0 ? -EIO : ret;
}

/* Copies one file, and returns an O_PATH descriptor of it; -ENOENT: it is not there, or not the user's. */
static int copy_file(const struct nss_store_config *config, const char *database, const char *name, const char *copy)
{
	char path[PATH_MAX], self[32];
	struct stat st;
	int place, fd, ret;

	if (snprintf(path, sizeof(path), "%s/%s", database, name) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	place = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (place < 0)
		return -errno;
	if (fstat(place, &st) < 0 || !S_ISREG(st.st_mode) || st.st_uid != config->uid) {
		close(place);
		return -ENOENT;
	}
	snprintf(self, sizeof(self), "/proc/self/fd/%d", place);
	fd = open(self, O_RDONLY | O_CLOEXEC);
	ret = fd < 0 ? -errno : copy_bytes(fd, copy);
	if (fd >= 0)
		close(fd);
	if (ret < 0)
		close(place);
	return ret < 0 ? ret : place;
}

/* True: the copy has the CA. A database with a password cannot be sealed without it, and is left as it is. */
static bool run_certutil(const struct nss_store_config *config, const char *copy, uid_t root)
{
	char database[PATH_MAX + 8];
	int status = -1;
	pid_t pid;

	snprintf(database, sizeof(database), "sql:%s", copy);
	pid = fork();
	if (pid == 0) {
		int null = open("/dev/null", O_RDWR);

		if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(null, 2) < 0)
			_exit(126);
		if (root == 0 && (seteuid(0) < 0 || setgroups(0, NULL) < 0 ||
				  setresgid(config->gid, config->gid, config->gid) < 0 ||
				  setresuid(config->uid, config->uid, config->uid) < 0))
			_exit(126);
		execlp("certutil", "certutil", "-A", "-d", database, "-n", NICKNAME, "-t", "C,,", "-i",
		       config->ca_file, "-f", "/dev/null", (char *)NULL);
		_exit(127);
	}
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* With the user's rights. fds: of the originals. 0 or -errno: -ENOENT is no database. */
static int copy_database(const struct nss_store_config *config, const char *database, const char *copy, int *fds)
{
	size_t done = 0;
	int ret = 0;

	for (; done < ARRAY_SIZE(files); done++) {
		char path[PATH_MAX + 16];

		snprintf(path, sizeof(path), "%s/%s", copy, files[done]);
		ret = fds[done] = copy_file(config, database, files[done], path);
		if (ret < 0)
			break;
	}
	while (ret < 0 && done)
		close(fds[--done]);
	return MIN(ret, 0);
}

static bool has_certutil(void)
{
	return access("/usr/bin/certutil", X_OK) == 0 || access("/usr/local/bin/certutil", X_OK) == 0;
}

static void take_database(const struct nss_store_config *config, const char *database, int number, nss_store_fn each,
			  void *owner)
{
	char copy[PATH_MAX], path[PATH_MAX + 16];
	uid_t root = geteuid();
	gid_t group = getegid();
	int fds[ARRAY_SIZE(files)], ret;

	if (snprintf(copy, sizeof(copy), "%s/nss-%d", config->folder, number) >= (int)sizeof(copy))
		return;
	if (mkdir(copy, 0700) < 0 || (root == 0 && chown(copy, config->uid, config->gid) < 0) ||
	    !become(config->uid, config->gid)) {
		log_line(LOG_WARN, "trust", "No copy of %s: %m", database);
		return;
	}
	ret = copy_database(config, database, copy, fds);
	if (ret == 0 && !run_certutil(config, copy, root)) {
		ret = -EACCES;
		for (size_t i = 0; i < ARRAY_SIZE(files); i++)
			close(fds[i]);
	}
	return_from(root, group);
	if (ret == -EACCES)
		log_line(LOG_WARN, "trust", "The browser's database %s cannot be copied, or has a password: browsers "
			 "that use it will not trust the CA.", database);
	else if (ret < 0)
		log_line(LOG_DEBUG, "trust", "%s: %s", database, strerror(-ret));
	for (size_t i = 0; i < ARRAY_SIZE(files) && ret == 0; i++) {
		snprintf(path, sizeof(path), "%s/%s", copy, files[i]);
		each(owner, path, fds[i]);
	}
}

/* Folders below one that hold a database; found with the user's rights. */
static bool find(const struct nss_store_config *config, const char *place, glob_t *found)
{
	char pattern[PATH_MAX];
	uid_t root = geteuid();
	gid_t group = getegid();
	bool some;

	if (snprintf(pattern, sizeof(pattern), "%s/%s/cert9.db", config->home, place) >= (int)sizeof(pattern) ||
	    !become(config->uid, config->gid))
		return false;
	some = glob(pattern, 0, NULL, found) == 0;
	return_from(root, group);
	return some;
}

static bool find_profile(const struct nss_store_config *config, glob_t *found)
{
	struct nss_store_config own = *config;

	own.home = config->profile;
	return find(&own, ".", found);
}

/* In its own profile, when the command names one. */
static bool has_database(const struct nss_store_config *config, size_t browser)
{
	bool some = false;
	glob_t found;

	if (config->profile) {
		some = find_profile(config, &found);
		if (some)
			globfree(&found);
		return some;
	}
	for (size_t i = 0; browsers[browser].places[i] && !some; i++) {
		some = find(config, browsers[browser].places[i], &found);
		if (some)
			globfree(&found);
	}
	return some;
}

bool nss_store_awaits(const struct nss_store_config *config, const char *program)
{
	const char *slash = strrchr(program, '/'), *name = slash ? slash + 1 : program;

	for (size_t i = 0; i < ARRAY_SIZE(browsers); i++)
		if (strncmp(name, browsers[i].program, strlen(browsers[i].program)) == 0)
			return !has_database(config, i);
	return false;
}

/* Ends found. */
static void take_all(const struct nss_store_config *config, glob_t *found, int *number, nss_store_fn each, void *owner)
{
	for (size_t i = 0; i < found->gl_pathc && *number < DATABASES_MAX; i++) {
		*strrchr(found->gl_pathv[i], '/') = 0;
		if (has_certutil())
			take_database(config, found->gl_pathv[i], *number, each, owner);
		else if (*number == 0)
			log_line(LOG_WARN, "trust", "Browsers will not trust the CA: certutil, which adds it to copies "
				 "of their databases, is missing (Debian: libnss3-tools).");
		(*number)++;
	}
	globfree(found);
}

void nss_store_copy_all(const struct nss_store_config *config, nss_store_fn each, void *owner)
{
	int number = 0;
	glob_t found;

	if (config->profile && find_profile(config, &found))
		take_all(config, &found, &number, each, owner);
	for (size_t i = 0; i < ARRAY_SIZE(places); i++)
		if (find(config, places[i], &found))
			take_all(config, &found, &number, each, owner);
}
