/* SPDX-License-Identifier: MIT */
/* Finds the authorities. Folders are preferred to bundles: parsing 140 certificates would double the start-up time. */
#include "master/trust.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509_vfy.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const bundles[] = {
	"/etc/ssl/certs/ca-certificates.crt",           /* Debian, Arch, Alpine */
	"/etc/pki/tls/certs/ca-bundle.crt",             /* Fedora, RHEL */
	"/etc/ssl/ca-bundle.pem",                       /* SUSE */
	"/etc/ssl/cert.pem",
};

/* "5ad8a5d6.0": how X509_LOOKUP_hash_dir() names an authority. */
static bool is_hash_name(const char *name)
{
	for (int i = 0; i < 8; i++)
		if (!isxdigit((unsigned char)name[i]))
			return false;
	return name[8] == '.' && isdigit((unsigned char)name[9]);
}

static bool has_hashes(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	bool found = false;

	if (!dir)
		return false;
	while (!found && (entry = readdir(dir)))
		found = is_hash_name(entry->d_name);
	closedir(dir);
	return found;
}

static int load_file(X509_STORE *store, const char *path, struct err *e)
{
	if (access(path, R_OK) < 0)
		return err_set(e, -errno, "cannot read the trusted certificates %s: %m; the option "
			       "ssl_verify_upstream_trusted_ca names a PEM file", path);
	if (X509_STORE_load_file(store, path) == 1)
		return 0;
	ERR_clear_error();
	return err_set(e, -EINVAL, "%s holds no certificates in PEM form; the option "
		       "ssl_verify_upstream_trusted_ca names a PEM file", path);
}

static int load_dir(X509_STORE *store, const char *path, struct err *e)
{
	if (access(path, R_OK | X_OK) < 0)
		return err_set(e, -errno, "cannot read the folder of trusted certificates %s: %m; the option "
			       "ssl_verify_upstream_trusted_confdir names one", path);
	if (!has_hashes(path))
		return err_set(e, -EINVAL, "the folder of trusted certificates %s has no hashed names; run "
			       "openssl rehash on it", path);
	if (X509_STORE_load_path(store, path) == 1)
		return 0;
	ERR_clear_error();
	return err_set(e, -ENOMEM, "out of memory for trusted certificates");
}

static int load_system(X509_STORE *store, struct err *e)
{
	const char *file = getenv(X509_get_default_cert_file_env());
	const char *dir = getenv(X509_get_default_cert_dir_env());

	if (file || dir) {
		int ret = file ? load_file(store, file, e) : 0;

		return ret == 0 && dir ? load_dir(store, dir, e) : ret;
	}
	dir = X509_get_default_cert_dir();
	if (has_hashes(dir))
		return load_dir(store, dir, e);
	if (access(X509_get_default_cert_file(), R_OK) == 0)
		return load_file(store, X509_get_default_cert_file(), e);
	for (size_t i = 0; i < ARRAY_SIZE(bundles); i++)
		if (access(bundles[i], R_OK) == 0)
			return load_file(store, bundles[i], e);
	return err_set(e, -ENOENT, "this system has no trusted certificates, so no server can be verified; install "
		       "the package ca-certificates or set the option ssl_verify_upstream_trusted_ca");
}

int trust_load(struct trust *out, const char *ca_file, const char *ca_dir, struct err *e)
{
	static atomic_uint_fast64_t last_id;
	X509_STORE *store = X509_STORE_new();
	int ret = 0;

	*out = (struct trust){ 0 };
	if (!store)
		return err_set(e, -ENOMEM, "out of memory for trusted certificates");
	if (ca_file)
		ret = load_file(store, ca_file, e);
	if (ret == 0 && ca_dir)
		ret = load_dir(store, ca_dir, e);
	if (ret == 0 && !ca_file && !ca_dir)
		ret = load_system(store, e);
	if (ret < 0) {
		X509_STORE_free(store);
		return ret;
	}
	out->store = store;
	out->id = atomic_fetch_add(&last_id, 1) + 1;
	return 0;
}

void trust_fini(struct trust *trust)
{
	X509_STORE_free(trust->store);
	*trust = (struct trust){ 0 };
}
