/* SPDX-License-Identifier: MIT */
/*
 * Files of the CA. A directory lock serialises first starts; every file is written aside, synced and renamed, and
 * mitmproxy-ca.pem comes last, so that when it is there the others are. Contents are crypto/ca's business.
 */
#include "master/ca_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "crypto/dhparam.h"

#define FILE_BYTES_MAX (1u << 20)
#define KEY_FILE "mitmproxy-ca.pem"
#define DHPARAM_FILE "mitmproxy-dhparam.pem"

/* In the order of writing: the one that says "there is a CA" last. */
static const struct {
	enum ca_file which;
	const char *name;
	mode_t mode;
} files[] = {
	{ CA_FILE_CERT_PEM, "mitmproxy-ca-cert.pem", 0644 },
	{ CA_FILE_CERT_CER, "mitmproxy-ca-cert.cer", 0644 },
	{ CA_FILE_CERT_P12, "mitmproxy-ca-cert.p12", 0644 },
	{ CA_FILE_KEY_P12, "mitmproxy-ca.p12", 0600 },
	{ CA_FILE_KEY_PEM, KEY_FILE, 0600 },
};
_Static_assert(ARRAY_SIZE(files) == CA_FILE_COUNT, "every CA file is written");

/* Appends a file's content. 0 or -errno. */
static int read_all(int fd, struct strbuf *out)
{
	char part[4096];
	ssize_t got;

	while ((got = read(fd, part, sizeof(part))) != 0) {
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		strbuf_add(out, part, (size_t)got);
		explicit_bzero(part, sizeof(part));
		if (out->failed)
			return -ENOMEM;
		if (out->len > FILE_BYTES_MAX)
			return -EFBIG;
	}
	return 0;
}

/*
 * A symbolic link is followed: Kubernetes mounts secrets as links, and people keep a CA elsewhere. -ENOENT is returned
 * without a sentence.
 */
static int read_file(int dir, const char *dir_name, const char *name, bool secret, struct strbuf *out,
		     struct err *e)
{
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;
	int ret;

	if (fd < 0 && errno == ENOENT)
		return -ENOENT;
	if (fd < 0)
		return err_set(e, -errno, "cannot open %s/%s: %m; make it readable for the user that runs this",
			       dir_name, name);
	if (fstat(fd, &st) < 0)
		ret = err_set(e, -errno, "cannot read the mode of %s/%s: %m", dir_name, name);
	else if (!S_ISREG(st.st_mode))
		ret = err_set(e, -EINVAL, "%s/%s is not a regular file; move it away", dir_name, name);
	else if (secret && (st.st_mode & 077))
		ret = err_set(e, -EPERM, "the CA key %s/%s is accessible to others (mode %04o); run chmod 600 "
			      "on it", dir_name, name, (unsigned int)st.st_mode & 07777);
	else if ((ret = read_all(fd, out)) < 0)
		err_set(e, ret, "cannot read %s/%s: %s", dir_name, name, strerror(-ret));
	close(fd);
	return ret;
}

static int write_bytes(int fd, const char *bytes, size_t len)
{
	while (len) {
		ssize_t put = write(fd, bytes, len);

		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			return -errno;
		bytes += put;
		len -= (size_t)put;
	}
	return fsync(fd) < 0 ? -errno : 0;
}

/* Writes aside, then renames. The mode is the file's from its first moment, less the umask. */
static int write_file(int dir, const char *dir_name, const char *name, mode_t mode,
		      const struct strbuf *bytes, struct err *e)
{
	char aside[64];
	int fd, ret;

	snprintf(aside, sizeof(aside), ".%s.new", name);
	if (unlinkat(dir, aside, 0) < 0 && errno != ENOENT)      /* of somebody who was killed */
		return err_set(e, -errno, "cannot remove %s/%s: %m", dir_name, aside);
	fd = openat(dir, aside, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
	if (fd < 0)
		return err_set(e, -errno, "cannot create %s/%s: %m; the option confdir names another folder",
			       dir_name, aside);
	ret = write_bytes(fd, bytes->ptr, bytes->len);
	close(fd);
	if (ret == 0 && renameat(dir, aside, dir, name) < 0)
		ret = -errno;
	if (ret < 0) {
		unlinkat(dir, aside, 0);
		return err_set(e, ret, "cannot write %s/%s: %s", dir_name, name, strerror(-ret));
	}
	return 0;
}

static int write_all(int dir, const char *dir_name, const struct ca *ca, struct err *e)
{
	int ret = 0;

	for (size_t i = 0; ret == 0 && i < ARRAY_SIZE(files); i++) {
		struct strbuf bytes = { 0 };

		if (ca_write(ca, files[i].which, &bytes) < 0)
			ret = err_set(e, -ENOMEM, "out of memory for %s", files[i].name);
		else
			ret = write_file(dir, dir_name, files[i].name, files[i].mode, &bytes, e);
		ca_wipe(&bytes);
	}
	if (ret == 0 && fsync(dir) < 0)
		log_line(LOG_WARN, "ca", "cannot sync %s: %m; a power cut now may lose the new CA", dir_name);
	return ret;
}

static int load_ca(struct ca **out, int dir, const char *dir_name, const char *passphrase, struct err *e)
{
	struct strbuf pem = { 0 };
	int ret = read_file(dir, dir_name, KEY_FILE, true, &pem, e);

	if (ret == 0) {
		ret = ca_parse(out, pem.ptr ? pem.ptr : "", pem.len, passphrase, e);
		if (ret < 0)
			err_prefix(e, "cannot use the CA %s/" KEY_FILE, dir_name);
	}
	ca_wipe(&pem);
	return ret;
}

static int load_dhparam(EVP_PKEY **out, int dir, const char *dir_name, struct err *e)
{
	struct strbuf pem = { 0 };
	int ret = read_file(dir, dir_name, DHPARAM_FILE, false, &pem, e);

	if (ret == -ENOENT) {
		ret = dhparam_write(&pem);
		if (ret < 0)
			err_set(e, ret, "out of memory for " DHPARAM_FILE);
		else
			ret = write_file(dir, dir_name, DHPARAM_FILE, 0644, &pem, e);
		if (ret == -EROFS || ret == -EACCES) {   /* a mounted secret: it is public and fixed, go on */
			log_line(LOG_DEBUG, "ca", "%s/" DHPARAM_FILE " is not kept: %s", dir_name,
				 strerror(-ret));
			ret = 0;
			if (e)
				*e = (struct err){ 0 };
		}
	}
	if (ret == 0 && dhparam_parse(out, pem.ptr ? pem.ptr : "", pem.len) < 0)
		ret = err_set(e, -EINVAL, "%s/" DHPARAM_FILE " holds no DH parameters; delete it, a new one "
			      "will be made", dir_name);
	strbuf_fini(&pem);
	return ret;
}

/* Like mkdir -p, because that is what mitmproxy does. */
static int make_dir(const char *path, struct err *e)
{
	char part[4096];
	size_t len = strlen(path);

	if (len == 0 || len >= sizeof(part))
		return err_set(e, -EINVAL, "the option confdir is %s", len ? "too long" : "empty");
	memcpy(part, path, len + 1);
	for (size_t i = 1; i <= len; i++) {
		if (part[i] != '/' && part[i] != 0)
			continue;
		part[i] = 0;
		if (mkdir(part, 0777) < 0 && errno != EEXIST)
			return err_set(e, -errno, "cannot create the folder %s: %m; the option confdir names "
				       "another", part);
		part[i] = path[i];
	}
	return 0;
}

static int create(struct ca_files *out, int dir, const char *dir_name, int key_bits, int64_t now_s,
		  struct err *e)
{
	int ret = ca_generate(&out->ca, key_bits, now_s, e);

	if (ret == 0)
		ret = write_all(dir, dir_name, out->ca, e);
	out->created = ret == 0;
	return ret;
}

static void lock(int dir, const char *dir_name)
{
	while (flock(dir, LOCK_EX) < 0) {
		if (errno == EINTR)
			continue;
		log_line(LOG_WARN, "ca", "cannot lock %s: %m; do not start two at once in it", dir_name);
		return;
	}
}

int ca_files_load(struct ca_files *out, const char *confdir, int key_bits, const char *passphrase,
		  int64_t now_s, struct err *e)
{
	int dir, ret = make_dir(confdir, e);

	*out = (struct ca_files){ 0 };
	if (ret < 0)
		return ret;
	dir = open(confdir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return err_set(e, -errno, "cannot open the folder %s: %m; the option confdir names another",
			       confdir);
	lock(dir, confdir);
	ret = load_ca(&out->ca, dir, confdir, passphrase, e);
	if (ret == -ENOENT)
		ret = create(out, dir, confdir, key_bits, now_s, e);
	if (ret == 0)
		ret = load_dhparam(&out->dhparam, dir, confdir, e);
	close(dir);
	if (ret < 0) {
		ca_files_fini(out);
		return ret;
	}
	out->expired = ca_expired(out->ca, now_s);
	if (out->expired)
		log_line(LOG_WARN, "ca", "the certificate authority in %s has expired, and clients will refuse it; "
			 "delete the mitmproxy-ca* files there, start again, and install the new one in clients",
			 confdir);
	return 0;
}

void ca_files_fini(struct ca_files *ca_files)
{
	ca_free(ca_files->ca);
	EVP_PKEY_free(ca_files->dhparam);
	*ca_files = (struct ca_files){ 0 };
}

static int load_leaf(struct leaf **out, const char *path, const char *passphrase, const struct ca *ca, bool *is_ca,
		     struct err *e)
{
	struct strbuf pem = { 0 };
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	int ret;

	if (fd < 0 && errno == ENOENT)
		return err_set(e, -ENOENT, "Certificate file does not exist: %s", path);
	if (fd < 0)
		return err_set(e, -errno, "cannot open the certificate file %s: %m", path);
	ret = read_all(fd, &pem);
	close(fd);
	if (ret < 0) {
		err_set(e, ret, "cannot read the certificate file %s: %s", path, strerror(-ret));
	} else {
		ret = leaf_parse(out, pem.ptr ? pem.ptr : "", pem.len, passphrase, ca, is_ca, e);
		if (ret < 0)
			err_prefix(e, "Invalid certificate format for %s", path);
	}
	ca_wipe(&pem);
	return ret;
}

int ca_files_load_leaf(struct leaf **out, const char *path, const char *passphrase, const struct ca *ca,
		       struct err *e)
{
	bool is_ca = false;
	int ret = load_leaf(out, path, passphrase, ca, &is_ca, e);

	if (ret == 0 && is_ca)
		log_line(LOG_WARN, "ca", "\"%s\" is a certificate authority and not a leaf certificate; clients will "
			 "most likely refuse it: name a certificate for the server here", path);
	return ret;
}

int ca_files_load_client(struct leaf **out, const char *path, const char *passphrase, struct err *e)
{
	return load_leaf(out, path, passphrase, NULL, NULL, e);
}
