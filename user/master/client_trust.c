/* SPDX-License-Identifier: MIT */
/*
 * Finding stores and writing copies. Paths are resolved first, so that a store which distributions name five times is
 * copied once, and mounts are never placed on symbolic links.
 */
#include "master/client_trust.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <linux/openat2.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "crypto/java_store.h"
#include "master/nss_store.h"

#define FILE_BYTES_MAX JAVA_STORE_BYTES_MAX
#define COPIES_MAX 64
#define FOLDER_FILES_MAX 16384
#define ALIAS "mitm-bpf"

static const char *const bundles[] = {
	"/etc/ssl/certs/ca-certificates.crt",           /* Debian, Arch, Gentoo */
	"/etc/pki/tls/certs/ca-bundle.crt",             /* Fedora, RHEL */
	"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
	"/var/lib/ca-certificates/ca-bundle.pem",       /* SUSE */
	"/etc/ssl/ca-bundle.pem",
	"/etc/ssl/cert.pem",                            /* Alpine */
	"/etc/ca-certificates/extracted/tls-ca-bundle.pem",
};

static const char *const folders[] = {
	"/etc/ssl/certs",
	"/etc/pki/tls/certs",
	"/etc/pki/ca-trust/extracted/pem/directory-hash",
	"/var/lib/ca-certificates/openssl",
};

static const char *const java_stores[] = {
	"/etc/ssl/certs/java/cacerts",
	"/etc/pki/java/cacerts",
	"/etc/pki/ca-trust/extracted/java/cacerts",
	"/usr/lib/jvm/*/lib/security/cacerts",
	"/usr/lib/jvm/*/jre/lib/security/cacerts",
	"/opt/java/*/lib/security/cacerts",
	"/opt/*/jbr/lib/security/cacerts",
};

struct copy {
	char *original;              /* resolved; NULL: the system's bundle where there is none */
	char *path;
};

struct client_trust {
	char *folder, *home, *profile, *alone;
	struct str pem;              /* an own copy */
	X509 *cert;
	uid_t uid;
	gid_t gid;
	int descriptors;             /* -1: there is no /proc, and nothing is read */
	bool own_descriptors;
	struct copy copies[COPIES_MAX];
	size_t copy_count;
	struct client_trust_cover covers[CLIENT_TRUST_COVERS_MAX];
	size_t cover_count;
	int fds[CLIENT_TRUST_COVERS_MAX];         /* of covers whose onto names a descriptor */
	size_t fd_count;
};

static int no_memory(struct err *e)
{
	return err_set(e, -ENOMEM, "out of memory for trusted certificates");
}

/* --- files ------------------------------------------------------------------------------------------------------ */

/*
 * What a resolved path names, as a place. Whoever owns the files may put a link there meanwhile, and there are such
 * that lead out of his root: to the descriptors of a process, ours among them.
 */
static int open_place(const char *path)
{
	struct open_how how = { .flags = O_PATH | O_NOFOLLOW | O_CLOEXEC, .resolve = RESOLVE_NO_SYMLINKS };
	int fd = (int)syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof(how));

	return fd < 0 && errno == ENOSYS ? open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC) : fd;
}

/* Opened only when it is what it should be: a pipe would make us wait, and to open a device can have effects. */
static int open_kind(const struct client_trust *t, const char *path, mode_t kind, struct err *e)
{
	int place = open_place(path), fd = -1, ret;
	char number[16];
	struct stat st;

	if (place < 0)
		return err_set(e, -errno, "cannot read %s: %m", path);
	snprintf(number, sizeof(number), "%d", place);
	if (fstat(place, &st) < 0 || (st.st_mode & S_IFMT) != kind)
		ret = err_set(e, -EINVAL, "%s is not a %s", path, kind == S_IFREG ? "file" : "folder");
	else if ((fd = openat(t->descriptors, number, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)) < 0)
		ret = err_set(e, -errno, "cannot read %s: %m", path);
	else
		ret = fd;
	close(place);
	return ret;
}

static int read_file(const struct client_trust *t, const char *path, struct strbuf *out, struct err *e)
{
	int fd = open_kind(t, path, S_IFREG, e), ret = MIN(fd, 0);
	char part[16384];
	ssize_t got = 0;

	while (ret == 0 && (got = read(fd, part, sizeof(part))) > 0) {
		strbuf_add(out, part, (size_t)got);
		if (out->failed)
			ret = no_memory(e);
		else if (out->len > FILE_BYTES_MAX)
			ret = err_set(e, -EFBIG, "%s is over %u MiB", path, FILE_BYTES_MAX >> 20);
	}
	if (got < 0)
		ret = err_set(e, -errno, "cannot read %s: %m", path);
	if (fd >= 0)
		close(fd);
	return ret;
}

static int write_file(const char *path, struct str bytes, struct err *e)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644), ret = 0;

	/* The umask may be the user's idea of who reads his files; these are for whoever runs. */
	if (fd < 0 || fchmod(fd, 0644) < 0)
		ret = err_set(e, -errno, "cannot make %s: %m", path);
	while (ret == 0 && bytes.len) {
		ssize_t put = write(fd, bytes.ptr, bytes.len);

		if (put < 0) {
			ret = err_set(e, -errno, "cannot write %s: %m", path);
			break;
		}
		bytes.ptr += put;
		bytes.len -= (size_t)put;
	}
	if (fd >= 0)
		close(fd);
	return ret;
}

static char *join(const char *folder, const char *name)
{
	struct strbuf path = { 0 };

	strbuf_addf(&path, "%s/%s", folder, name);
	if (!path.failed)
		return path.ptr;
	strbuf_fini(&path);
	return NULL;
}

/* The real path, for mem_free(); NULL: there is no such file. */
static char *resolve(const char *path)
{
	char real[PATH_MAX];

	return realpath(path, real) ? mem_strndup(real, strlen(real)) : NULL;
}

/* --- copies ----------------------------------------------------------------------------------------------------- */

static const struct copy *find_copy(const struct client_trust *t, const char *original)
{
	for (size_t i = 0; i < t->copy_count; i++)
		if (strcmp(t->copies[i].original, original) == 0)
			return &t->copies[i];
	return NULL;
}

/* bytes become a file of the folder, remembered as the copy of original. NULL with a sentence. */
static const char *keep_copy(struct client_trust *t, const char *original, const char *kind, const struct strbuf *bytes,
			     struct err *e)
{
	struct copy *copy = &t->copies[t->copy_count];
	char name[64];

	if (t->copy_count == COPIES_MAX) {
		err_set(e, -E2BIG, "more than %d files of trusted certificates", COPIES_MAX);
		return NULL;
	}
	snprintf(name, sizeof(name), "%s-%zu", kind, t->copy_count);
	*copy = (struct copy){ .original = mem_strndup(original, strlen(original)), .path = join(t->folder, name) };
	if (!copy->original || !copy->path)
		no_memory(e);
	else if (write_file(copy->path, (struct str){ bytes->ptr, bytes->len }, e) == 0) {
		t->copy_count++;
		return copy->path;
	}
	mem_free(copy->original);
	mem_free(copy->path);
	return NULL;
}

static int merge_bundle(struct client_trust *t, const char *original, struct strbuf *out, struct err *e)
{
	int ret = *original ? read_file(t, original, out, e) : 0;

	if (ret == 0 && out->len && !memmem(out->ptr, out->len, "-----BEGIN ", 11))
		ret = err_set(e, -EINVAL, "%s holds no certificates in PEM form", original);
	if (ret == 0 && out->len && out->ptr[out->len - 1] != '\n')
		strbuf_add_str(out, STR("\n"));
	strbuf_add_str(out, t->pem);
	return ret == 0 && out->failed ? no_memory(e) : ret;
}

static int merge_java(struct client_trust *t, const char *original, struct strbuf *out, struct err *e)
{
	struct strbuf store = { 0 };
	int ret = read_file(t, original, &store, e);

	if (ret == 0)
		ret = java_store_add(out, (struct str){ store.ptr, store.len }, t->cert, ALIAS, e);
	if (ret < 0)
		err_prefix(e, "%s", original);
	strbuf_fini(&store);
	return ret;
}

static const char *copy_of(struct client_trust *t, const char *original, const char *kind,
			   int (*merge)(struct client_trust *t, const char *original, struct strbuf *out,
					struct err *e),
			   struct err *e)
{
	const struct copy *known = find_copy(t, original);
	struct strbuf bytes = { 0 };
	const char *path = NULL;

	if (known)
		return known->path;
	if (merge(t, original, &bytes, e) == 0)
		path = keep_copy(t, original, kind, &bytes, e);
	strbuf_fini(&bytes);
	return path;
}

const char *client_trust_bundle(struct client_trust *t, const char *original, struct err *e)
{
	const char *path;
	char *real = NULL;

	if (original && !(real = resolve(original))) {
		err_set(e, -errno, "cannot read %s: %m", original);
		return NULL;
	}
	for (size_t i = 0; i < ARRAY_SIZE(bundles) && !real; i++)
		real = resolve(bundles[i]);
	path = copy_of(t, real ? real : "", "bundle", merge_bundle, e);
	mem_free(real);
	return path;
}

/* --- Java ------------------------------------------------------------------------------------------------------- */

/* "java" of PATH is bin/java of a JDK, through links; older ones have their JRE in a folder of its own. */
static char *java_of_path(void)
{
	const char *path = getenv("PATH"), *home = getenv("JAVA_HOME");
	static const char *const places[] = { "lib/security/cacerts", "jre/lib/security/cacerts" };
	struct str rest = str_of(path ? path : "");
	struct strbuf candidate = { 0 };
	char *found = NULL, *java;

	for (size_t i = 0; i < ARRAY_SIZE(places) && home && *home && !found; i++) {
		java = join(home, places[i]);
		found = java ? resolve(java) : NULL;
		mem_free(java);
	}
	while (rest.len && !found) {
		struct str folder = str_cut(&rest, ':');

		candidate.len = 0;
		strbuf_addf(&candidate, "%.*s/java", (int)folder.len, folder.ptr);
		java = candidate.failed || access(candidate.ptr, X_OK) < 0 ? NULL : resolve(candidate.ptr);
		if (!java)
			continue;
		candidate.len = 0;
		strbuf_addf(&candidate, "%s/../../lib/security/cacerts", java);
		found = candidate.failed ? NULL : resolve(candidate.ptr);
		mem_free(java);
		break;
	}
	strbuf_fini(&candidate);
	return found;
}

const char *client_trust_java(struct client_trust *t, const char *original, struct err *e)
{
	char *real = original ? resolve(original) : java_of_path();
	const char *path;

	for (size_t i = 0; i < ARRAY_SIZE(java_stores) && !real && !original; i++)
		real = strchr(java_stores[i], '*') ? NULL : resolve(java_stores[i]);
	if (!real) {
		if (original)
			err_set(e, -errno, "cannot read %s: %m", original);
		return NULL;
	}
	path = copy_of(t, real, "java", merge_java, e);
	mem_free(real);
	return path;
}

/* --- covers ------------------------------------------------------------------------------------------------------ */

/* Takes both strings. */
static int add_cover(struct client_trust *t, char *from, char *onto)
{
	if (from && onto && t->cover_count < CLIENT_TRUST_COVERS_MAX) {
		t->covers[t->cover_count++] = (struct client_trust_cover){ from, onto };
		return 0;
	}
	mem_free(from);
	mem_free(onto);
	return -ENOMEM;
}

static bool is_covered(const struct client_trust *t, const char *onto)
{
	for (size_t i = 0; i < t->cover_count; i++)
		if (strcmp(t->covers[i].onto, onto) == 0)
			return true;
	return false;
}

static void cover_file(struct client_trust *t, const char *original, bool java)
{
	char *real = resolve(original);
	struct err e = { 0 };
	const char *copy;

	if (!real || is_covered(t, real)) {
		mem_free(real);
		return;
	}
	copy = java ? client_trust_java(t, real, &e) : client_trust_bundle(t, real, &e);
	if (!copy) {
		log_line(LOG_WARN, "trust", "Programs that use it will not trust the CA: %s", e.text);
		mem_free(real);
		return;
	}
	if (add_cover(t, mem_strndup(copy, strlen(copy)), real) < 0)
		log_line(LOG_WARN, "trust", "%s is left as it is: too many files", original);
}

/* One entry of a folder of certificates. Links are relative, or lead out of the folder: either way they stay true. */
static int copy_entry(struct client_trust *t, const char *from, const char *to, struct err *e)
{
	char target[PATH_MAX];
	struct strbuf bytes = { 0 };
	struct stat st;
	ssize_t len;
	int ret = 0;

	if (lstat(from, &st) < 0)
		return 0;
	if (S_ISLNK(st.st_mode)) {
		len = readlink(from, target, sizeof(target) - 1);
		target[MAX(len, (ssize_t)0)] = 0;
		if (len < 0 || symlink(target, to) < 0)
			ret = err_set(e, -errno, "cannot copy the link %s: %m", from);
	} else if (S_ISDIR(st.st_mode)) {
		if (mkdir(to, 0755) < 0)
			return err_set(e, -errno, "cannot make %s: %m", to);
		ret = add_cover(t, mem_strndup(from, strlen(from)), mem_strndup(from, strlen(from)));
	} else if (S_ISREG(st.st_mode)) {
		/* What is not for everybody to read stays hidden: this copy would be. */
		if (st.st_mode & S_IROTH)
			ret = read_file(t, from, &bytes, e);
		if (ret == 0)
			ret = write_file(to, (struct str){ bytes.ptr, bytes.len }, e);
		if (ret == 0 && !(st.st_mode & S_IROTH) && chmod(to, 0) < 0)
			ret = -errno;
		strbuf_fini(&bytes);
	}
	return ret;
}

/* "5ad8a5d6.0": how X509_LOOKUP_hash_dir() names an authority. */
static bool is_hash_name(const char *name)
{
	return strspn(name, "0123456789abcdefABCDEF") == 8 && name[8] == '.' && name[9] >= '0' && name[9] <= '9';
}

static int copy_folder(struct client_trust *t, const char *from, const char *to, bool *hashed, struct err *e)
{
	int fd = open_kind(t, from, S_IFDIR, e), ret = 0, count = 0;
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (fd < 0)
		return fd;
	if (!dir) {
		close(fd);
		return no_memory(e);
	}
	while (ret == 0 && (entry = readdir(dir))) {
		char *source, *copy;

		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		*hashed |= is_hash_name(entry->d_name);
		source = join(from, entry->d_name);
		copy = join(to, entry->d_name);
		if (!source || !copy)
			ret = no_memory(e);
		else if (count++ == FOLDER_FILES_MAX)
			ret = err_set(e, -E2BIG, "%s has more than %d entries", from, FOLDER_FILES_MAX);
		else
			ret = copy_entry(t, source, copy, e);
		mem_free(source);
		mem_free(copy);
	}
	closedir(dir);
	return ret;
}

/* OpenSSL takes the first free number behind the hash of the name. */
static int add_hashed(struct client_trust *t, const char *folder, struct err *e)
{
	for (int number = 0; number < 100; number++) {
		char name[32], *path;
		int ret;

		snprintf(name, sizeof(name), "%08lx.%d", X509_subject_name_hash(t->cert), number);
		path = join(folder, name);
		ret = !path ? no_memory(e) : faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0 ?
		      -EEXIST : write_file(path, t->pem, e);
		mem_free(path);
		if (ret != -EEXIST)
			return ret;
	}
	return err_set(e, -EEXIST, "%s is full of authorities of our name", folder);
}

static void cover_folder(struct client_trust *t, const char *original)
{
	char *real = resolve(original), *copy, name[32];
	size_t before = t->cover_count;
	bool hashed = false;
	struct err e = { 0 };
	int ret;

	if (!real || is_covered(t, real)) {
		mem_free(real);
		return;
	}
	snprintf(name, sizeof(name), "folder-%zu", t->cover_count);
	copy = join(t->folder, name);
	ret = !copy ? no_memory(&e) : mkdir(copy, 0755) < 0 || chmod(copy, 0755) < 0 ?
	      err_set(&e, -errno, "cannot make %s: %m", copy) :
	      add_cover(t, mem_strndup(copy, strlen(copy)), mem_strndup(real, strlen(real)));
	if (ret == 0)
		ret = copy_folder(t, real, copy, &hashed, &e);
	if (ret == 0 && hashed)
		ret = add_hashed(t, copy, &e);
	if (ret < 0)
		log_line(LOG_WARN, "trust", "Programs that look there will not trust the CA: %s", e.text);
	/* Without hashed names nobody looks there. */
	while ((ret < 0 || !hashed) && t->cover_count > before) {
		t->cover_count--;
		mem_free(t->covers[t->cover_count].from);
		mem_free(t->covers[t->cover_count].onto);
	}
	mem_free(copy);
	mem_free(real);
}

static void cover_java(struct client_trust *t)
{
	char *own = java_of_path();

	if (own)
		cover_file(t, own, true);
	mem_free(own);
	for (size_t i = 0; i < ARRAY_SIZE(java_stores); i++) {
		glob_t found;

		if (glob(java_stores[i], 0, NULL, &found) != 0)
			continue;
		for (size_t k = 0; k < found.gl_pathc; k++)
			cover_file(t, found.gl_pathv[k], true);
		globfree(&found);
	}
}

/* --- NSS --------------------------------------------------------------------------------------------------------- */

/* One that was copied with the user's rights: the mount goes where the descriptor is, whatever its name leads to by
 * then. */
static void cover_nss(void *owner, const char *copy, int fd)
{
	struct client_trust *t = owner;
	char onto[32];

	snprintf(onto, sizeof(onto), "/proc/self/fd/%d", fd);
	if (t->fd_count == ARRAY_SIZE(t->fds) ||
	    add_cover(t, mem_strndup(copy, strlen(copy)), mem_strndup(onto, strlen(onto))) < 0)
		close(fd);
	else
		t->fds[t->fd_count++] = fd;
}

static struct nss_store_config nss_config(const struct client_trust *t)
{
	return (struct nss_store_config){ .folder = t->folder, .home = t->home, .profile = t->profile,
					  .ca_file = t->alone, .uid = t->uid, .gid = t->gid };
}

bool client_trust_awaits(const struct client_trust *t, const char *program)
{
	const struct nss_store_config config = nss_config(t);

	return t->home && nss_store_awaits(&config, program);
}

size_t client_trust_cover(struct client_trust *t, const struct client_trust_cover **covers)
{
	*covers = t->covers;
	if (t->cover_count)
		return t->cover_count;
	/* Folders first: bundles and Java's stores may be in them. */
	for (size_t i = 0; i < ARRAY_SIZE(folders); i++)
		cover_folder(t, folders[i]);
	for (size_t i = 0; i < ARRAY_SIZE(bundles); i++)
		cover_file(t, bundles[i], false);
	cover_java(t);
	if (t->home) {
		const struct nss_store_config config = nss_config(t);

		nss_store_copy_all(&config, cover_nss, t);
	}
	return t->cover_count;
}

/* --- making it --------------------------------------------------------------------------------------------------- */

static X509 *parse_pem(struct str pem)
{
	BIO *bio = BIO_new_mem_buf(pem.ptr, (int)pem.len);
	X509 *cert = bio ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;

	BIO_free(bio);
	ERR_clear_error();
	return cert;
}

int client_trust_new(struct client_trust **out, const struct client_trust_config *config, struct err *e)
{
	struct client_trust *t = mem_zalloc(sizeof(*t));
	int ret = 0;

	if (!t)
		return no_memory(e);
	t->folder = mem_strndup(config->folder, strlen(config->folder));
	t->home = config->home ? mem_strndup(config->home, strlen(config->home)) : NULL;
	t->profile = config->profile ? mem_strndup(config->profile, strlen(config->profile)) : NULL;
	t->pem = (struct str){ mem_strndup(config->pem.ptr, config->pem.len), config->pem.len };
	t->alone = join(config->folder, "ca.pem");
	t->uid = config->uid;
	t->gid = config->gid;
	t->own_descriptors = config->descriptors < 0;
	t->descriptors = t->own_descriptors ? open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC) :
					      config->descriptors;
	if (!t->folder || !t->pem.ptr || !t->alone || (config->home && !t->home) ||
	    (config->profile && !t->profile))
		ret = no_memory(e);
	if (ret == 0 && !(t->cert = parse_pem(t->pem)))
		ret = err_set(e, -EINVAL, "the CA's certificate cannot be read");
	if (ret == 0)
		ret = write_file(t->alone, t->pem, e);
	if (ret < 0) {
		client_trust_free(t);
		return ret;
	}
	*out = t;
	return 0;
}

void client_trust_free(struct client_trust *t)
{
	if (!t)
		return;
	for (size_t i = 0; i < t->copy_count; i++) {
		mem_free(t->copies[i].original);
		mem_free(t->copies[i].path);
	}
	for (size_t i = 0; i < t->cover_count; i++) {
		mem_free(t->covers[i].from);
		mem_free(t->covers[i].onto);
	}
	for (size_t i = 0; i < t->fd_count; i++)
		close(t->fds[i]);
	if (t->own_descriptors && t->descriptors >= 0)
		close(t->descriptors);
	X509_free(t->cert);
	mem_free(t->folder);
	mem_free(t->home);
	mem_free(t->profile);
	mem_free(t->alone);
	mem_free((char *)t->pem.ptr);
	mem_free(t);
}

const char *client_trust_alone(const struct client_trust *t)
{
	return t->alone;
}
