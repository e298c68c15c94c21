/* SPDX-License-Identifier: MIT */
/*
 * What the programs of a machine trust, with our CA merged in: copies in a folder of the caller's, never the originals.
 * Bundles and folders of hashed names (OpenSSL, GnuTLS, Go), Java's stores, NSS databases (Chromium, Firefox). Who puts
 * the copies over the originals, or names them in an environment, is the caller.
 * Thread: of a process that has only one; while the user's own files are read, it has the user's rights.
 */
#pragma once

#include <sys/types.h>

#include "base/err.h"
#include "base/str.h"

#define CLIENT_TRUST_COVERS_MAX 128

struct client_trust;

struct client_trust_config {
	const char *folder;          /* exists, is empty, and stays the caller's */
	struct str pem;              /* the CA's certificate */
	const char *home;            /* whose NSS databases; NULL: nobody's */
	const char *profile;         /* the folder of one more, which a command line names; or NULL */
	uid_t uid;                   /* who is to read the copies; their owner where they hold more than authorities */
	gid_t gid;
	/*
	 * Of /proc/self/fd; -1: what is there under this name is the kernel's. Whoever goes into somebody else's mount
	 * namespace opens it before, for in there anything may be called so.
	 */
	int descriptors;
};

/* One mount, in order: from is to be seen at onto. All of from are to be opened before the first is mounted: what is
 * in a folder may have to be put back into the folder that stands over it. */
struct client_trust_cover {
	char *from;
	char *onto;                  /* = from: put back. May be a /proc/self/fd path, open as long as the trust is */
};

/*
 * Copies all strings, and borrows descriptors for as long as it lives. Returns 0; -EINVAL: pem is no certificate;
 * -errno. The caller calls client_trust_free().
 */
int client_trust_new(struct client_trust **out, const struct client_trust_config *config, struct err *e) __must_check;
/* The copies stay. */
void client_trust_free(struct client_trust *t);

/* A file with our CA alone, for variables that add to what a program trusts. Borrowed. */
const char *client_trust_alone(const struct client_trust *t);

/**
 * client_trust_bundle() - a copy of a file of certificates in PEM form, with ours behind them.
 * @original: NULL = the system's bundle; where there is none, ours is alone
 *
 * Returns its path, borrowed, the same at the next call; NULL with a sentence: it cannot be read, or is no such file.
 */
const char *client_trust_bundle(struct client_trust *t, const char *original, struct err *e);

/* The same of a Java store; NULL as original: the first JDK that is found; NULL without a sentence: there is none. */
const char *client_trust_java(struct client_trust *t, const char *original, struct err *e);

/*
 * Copies of all that this system and the user have, to be mounted over the originals. What cannot be copied is logged,
 * and left out. Returns how many; *covers is borrowed.
 */
size_t client_trust_cover(struct client_trust *t, const struct client_trust_cover **covers);

/* Is the program a browser whose first start makes its database? It will not trust the CA until then. */
bool client_trust_awaits(const struct client_trust *t, const char *program);
