/* SPDX-License-Identifier: MIT */
/* Finds the authorities. Folders are preferred to bundles: parsing 140 certificates would double the start-up time. */
#include "master/trust.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509_vfy.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/offload.h"

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

/* --- a folder, from which authorities are read as they are needed ------------------------------------------------ */

struct question {
	X509_STORE *store;
	const char *dir;
	const X509_NAME *name;
	bool found;
	X509_OBJECT *answer;
};

/* All certificates of a file. False: there is no such file. */
static bool add_file(X509_STORE *store, const char *path)
{
	FILE *f = fopen(path, "re");
	X509 *cert;

	if (!f)
		return false;
	while ((cert = PEM_read_X509_AUX(f, NULL, NULL, NULL)) != NULL) {
		X509_STORE_add_cert(store, cert);
		X509_free(cert);
	}
	fclose(f);
	ERR_clear_error();
	return true;
}

/* What is answered is borrowed from the store, which keeps all it ever had. */
static void find_in_store(struct question *q)
{
	X509_OBJECT *object;
	X509 *cert;

	X509_STORE_lock(q->store);
	object = X509_OBJECT_retrieve_by_subject(X509_STORE_get0_objects(q->store), X509_LU_X509, q->name);
	cert = object ? X509_OBJECT_get0_X509(object) : NULL;
	if (cert && X509_OBJECT_set1_X509(q->answer, cert)) {
		X509_free(cert);
		q->found = true;
	}
	X509_STORE_unlock(q->store);
}

static void read_authority(void *arg)
{
	struct question *q = arg;
	int ok = 0;
	unsigned long hash = X509_NAME_hash_ex(q->name, NULL, NULL, &ok);
	bool more = ok;

	for (unsigned int k = 0; more; k++) {
		char path[PATH_MAX];

		more = snprintf(path, sizeof(path), "%s/%08lx.%u", q->dir, hash, k) < (int)sizeof(path) &&
		       add_file(q->store, path);
	}
	find_in_store(q);
}

/* In a worker, which may not open files. */
static int ask_folder(X509_LOOKUP *lookup, X509_LOOKUP_TYPE type, const X509_NAME *name, X509_OBJECT *out)
{
	struct question q = { .store = X509_LOOKUP_get_store(lookup), .dir = X509_LOOKUP_get_method_data(lookup),
			      .name = name, .answer = out };

	if (type == X509_LU_X509)
		offload_call(read_authority, &q);
	return q.found;
}

static void forget_folder(X509_LOOKUP *lookup)
{
	mem_free(X509_LOOKUP_get_method_data(lookup));
}

/* OpenSSL wants it to live as long as stores do; there is one for all. */
static X509_LOOKUP_METHOD *folder_method(void)
{
	static X509_LOOKUP_METHOD *method;

	if (method)
		return method;
	method = X509_LOOKUP_meth_new("authorities of a folder, read elsewhere");
	if (method) {
		X509_LOOKUP_meth_set_get_by_subject(method, ask_folder);
		X509_LOOKUP_meth_set_free(method, forget_folder);
	}
	return method;
}

static bool add_folder(X509_STORE *store, const char *path)
{
	X509_LOOKUP_METHOD *method = folder_method();
	char *dir = mem_strndup(path, strlen(path));
	X509_LOOKUP *lookup = method && dir ? X509_STORE_add_lookup(store, method) : NULL;

	if (!lookup) {
		mem_free(dir);
		return false;
	}
	X509_LOOKUP_set_method_data(lookup, dir);
	return true;
}

static int load_dir(X509_STORE *store, const char *path, struct err *e)
{
	if (access(path, R_OK | X_OK) < 0)
		return err_set(e, -errno, "cannot read the folder of trusted certificates %s: %m; the option "
			       "ssl_verify_upstream_trusted_confdir names one", path);
	if (!has_hashes(path))
		return err_set(e, -EINVAL, "the folder of trusted certificates %s has no hashed names; run "
			       "openssl rehash on it", path);
	if (add_folder(store, path))
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
