/* SPDX-License-Identifier: MIT */
/* Passwords against what is known of them. Comparisons take the same time wherever they differ. */
#include "crypto/proxy_auth.h"

#include <crypt.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdatomic.h>
#include <stdio.h>

#include "base/mem.h"

#define PASSWORD_MAX 512
#define APR1_ROUNDS 1000
#define MD5_SIZE 16

struct proxy_user {
	struct proxy_user *next;
	char *name, *hash;               /* hash: the password itself when plain */
	_Atomic uint64_t seen;           /* digest() of a password that was right; 0: none was */
};

struct proxy_auth {
	bool any, plain;
	struct proxy_user *users;
	uint8_t key[32];                 /* of digest(), random */
};

/* --- hashes ---------------------------------------------------------------------------------------------------- */

static bool same(const char *a, const char *b)
{
	size_t n = strlen(a);

	return n == strlen(b) && CRYPTO_memcmp(a, b, n) == 0;
}

static bool check_sha(const char *password, const char *hash)
{
	unsigned char digest[EVP_MAX_MD_SIZE], text[64];
	unsigned int len = 0;

	if (!EVP_Digest(password, strlen(password), digest, &len, EVP_sha1(), NULL))
		return false;
	EVP_EncodeBlock(text, digest, (int)len);
	return same((const char *)text, hash);
}

/* One round of what makes Apache's MD5 slow. */
static bool apr1_round(EVP_MD_CTX *c, int i, struct str password, struct str salt, uint8_t digest[static MD5_SIZE])
{
	bool odd = i & 1;

	return EVP_DigestInit_ex(c, EVP_md5(), NULL) &&
	       EVP_DigestUpdate(c, odd ? (const void *)password.ptr : digest, odd ? password.len : MD5_SIZE) &&
	       (i % 3 == 0 || EVP_DigestUpdate(c, salt.ptr, salt.len)) &&
	       (i % 7 == 0 || EVP_DigestUpdate(c, password.ptr, password.len)) &&
	       EVP_DigestUpdate(c, odd ? digest : (const void *)password.ptr, odd ? MD5_SIZE : password.len) &&
	       EVP_DigestFinal_ex(c, digest, NULL);
}

static bool apr1_digest(EVP_MD_CTX *c, struct str password, struct str salt, uint8_t digest[static MD5_SIZE])
{
	bool ok = EVP_DigestInit_ex(c, EVP_md5(), NULL) && EVP_DigestUpdate(c, password.ptr, password.len) &&
		  EVP_DigestUpdate(c, salt.ptr, salt.len) && EVP_DigestUpdate(c, password.ptr, password.len) &&
		  EVP_DigestFinal_ex(c, digest, NULL);

	ok = ok && EVP_DigestInit_ex(c, EVP_md5(), NULL) && EVP_DigestUpdate(c, password.ptr, password.len) &&
	     EVP_DigestUpdate(c, "$apr1$", 6) && EVP_DigestUpdate(c, salt.ptr, salt.len);
	for (size_t left = password.len; ok && left; left -= MIN(left, (size_t)MD5_SIZE))
		ok = EVP_DigestUpdate(c, digest, MIN(left, (size_t)MD5_SIZE));
	for (size_t n = password.len; ok && n; n >>= 1)
		ok = EVP_DigestUpdate(c, n & 1 ? "" : password.ptr, 1);
	ok = ok && EVP_DigestFinal_ex(c, digest, NULL);
	for (int i = 0; ok && i < APR1_ROUNDS; i++)
		ok = apr1_round(c, i, password, salt, digest);
	return ok;
}

/* Apache's own alphabet and order of bytes. */
static void apr1_text(const uint8_t d[static MD5_SIZE], char out[static 23])
{
	static const char alphabet[] = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
	static const uint8_t order[5][3] = { { 0, 6, 12 }, { 1, 7, 13 }, { 2, 8, 14 }, { 3, 9, 15 }, { 4, 10, 5 } };
	char *at = out;
	uint32_t v;

	for (int i = 0; i < 5; i++) {
		v = (uint32_t)d[order[i][0]] << 16 | (uint32_t)d[order[i][1]] << 8 | d[order[i][2]];
		for (int k = 0; k < 4; k++, v >>= 6)
			*at++ = alphabet[v & 63];
	}
	*at++ = alphabet[d[11] & 63];
	*at++ = alphabet[d[11] >> 6];
	*at = 0;
}

/* hash: "$apr1$salt$digest". */
static bool check_apr1(const char *password, const char *hash)
{
	struct str rest = str_of(hash + 6), salt = str_cut(&rest, '$');
	EVP_MD_CTX *c = EVP_MD_CTX_new();
	uint8_t digest[MD5_SIZE];
	char text[23];
	bool ok;

	salt.len = MIN(salt.len, (size_t)8);
	ok = c && rest.ptr && apr1_digest(c, str_of(password), salt, digest);
	EVP_MD_CTX_free(c);
	if (!ok)
		return false;
	apr1_text(digest, text);
	return same(text, rest.ptr);
}

static bool check_crypt(const char *password, const char *hash)
{
	struct crypt_data *data = mem_zalloc(sizeof(*data));
	const char *got = data ? crypt_r(password, hash, data) : NULL;
	bool good = got && got[0] == '$' && same(got, hash);

	if (data)
		OPENSSL_cleanse(data, sizeof(*data));
	mem_free(data);
	return good;
}

static bool check_hash(const char *password, const char *hash)
{
	if (strncmp(hash, "{SHA}", 5) == 0)
		return check_sha(password, hash + 5);
	if (strncmp(hash, "$apr1$", 6) == 0)
		return check_apr1(password, hash);
	return check_crypt(password, hash);
}

static bool known_hash(struct str hash)
{
	static const char *const prefixes[] = { "{SHA}", "$2y$", "$2b$", "$2a$", "$apr1$", "$5$", "$6$", "$y$" };

	for (size_t i = 0; i < ARRAY_SIZE(prefixes); i++)
		if (str_starts(hash, str_of(prefixes[i])))
			return true;
	return false;
}

/* --- checking -------------------------------------------------------------------------------------------------- */

/* Never 0. 64 bits under a key that nobody has: enough against who guesses over the network. */
static uint64_t digest(const struct proxy_auth *a, const char *name, const char *password)
{
	unsigned char out[EVP_MAX_MD_SIZE];
	EVP_MD_CTX *c = EVP_MD_CTX_new();
	uint64_t value = 0;

	if (c && EVP_DigestInit_ex(c, EVP_sha256(), NULL) && EVP_DigestUpdate(c, a->key, sizeof(a->key)) &&
	    EVP_DigestUpdate(c, name, strlen(name) + 1) && EVP_DigestUpdate(c, password, strlen(password)) &&
	    EVP_DigestFinal_ex(c, out, NULL))
		memcpy(&value, out, sizeof(value));
	EVP_MD_CTX_free(c);
	return value ? value : 1;
}

static bool check_user(const struct proxy_auth *a, struct proxy_user *u, const char *password)
{
	uint64_t now;

	if (a->plain)
		return same(password, u->hash);
	now = digest(a, u->name, password);
	if (now != 1 && atomic_load_explicit(&u->seen, memory_order_relaxed) == now)
		return true;
	if (!check_hash(password, u->hash))
		return false;
	atomic_store_explicit(&u->seen, now, memory_order_relaxed);
	return true;
}

bool proxy_auth_check(const struct proxy_auth *a, struct str user, struct str password)
{
	char text[PASSWORD_MAX];
	bool good = false;

	if (a->any)
		return true;
	if (password.len >= sizeof(text))
		return false;
	memcpy(text, password.ptr, password.len);
	text[password.len] = 0;
	for (struct proxy_user *u = a->users; u; u = u->next) {
		if (!str_eq(user, str_of(u->name)))
			continue;
		good = check_user(a, u, text);
		break;
	}
	OPENSSL_cleanse(text, sizeof(text));
	return good;
}

/* --- making it ------------------------------------------------------------------------------------------------- */

/* The last line of a user counts. */
static int add_user(struct proxy_auth *a, struct str name, struct str hash)
{
	struct proxy_user *u = mem_zalloc(sizeof(*u));

	if (!u)
		return -ENOMEM;
	u->next = a->users;
	a->users = u;
	u->name = mem_strndup(name.ptr, name.len);
	u->hash = mem_strndup(hash.ptr, hash.len);
	return u->name && u->hash ? 0 : -ENOMEM;
}

static int read_htpasswd(struct proxy_auth *a, struct str text, struct str path, struct err *e)
{
	while (text.ptr) {
		struct str line = str_trim(str_cut(&text, '\n')), hash = line, name = str_cut(&hash, ':');

		if (line.len == 0 || line.ptr[0] == '#')
			continue;
		hash = hash.ptr ? str_cut(&hash, ':') : hash;
		if (!hash.ptr || name.len == 0 || !known_hash(hash))
			return err_set(e, -EINVAL, "Could not open htpasswd file: %.*s (a line is not user:hash with "
				       "a hash of bcrypt, {SHA}, $apr1$, $5$, $6$ or $y$)", (int)path.len, path.ptr);
		if (add_user(a, name, hash) < 0)
			return err_set(e, -ENOMEM, "out of memory");
	}
	return 0;
}

static int fill(struct proxy_auth *a, struct str spec, struct str htpasswd, struct err *e)
{
	struct str password = spec, user = str_cut(&password, ':');

	if (str_eq(spec, STR("any"))) {
		a->any = true;
		return 0;
	}
	if (str_starts(spec, STR("@")))
		return read_htpasswd(a, htpasswd, (struct str){ spec.ptr + 1, spec.len - 1 }, e);
	if (str_starts(spec, STR("ldap")))
		return err_set(e, -ENOTSUP, "proxyauth with LDAP is not implemented in mitm-bpf yet");
	if (!password.ptr)
		return err_set(e, -EINVAL, "Invalid proxyauth specification.");
	if (memchr(password.ptr, ':', password.len))
		return err_set(e, -EINVAL, "Invalid single-user auth specification.");
	a->plain = true;
	return add_user(a, user, password) < 0 ? err_set(e, -ENOMEM, "out of memory") : 0;
}

int proxy_auth_new(struct proxy_auth **out, struct str spec, struct str htpasswd, struct err *e)
{
	struct proxy_auth *a = mem_zalloc(sizeof(*a));
	int ret;

	if (!a)
		return err_set(e, -ENOMEM, "out of memory");
	if (RAND_bytes(a->key, sizeof(a->key)) != 1)
		ret = err_set(e, -EIO, "no random numbers for proxyauth");
	else
		ret = fill(a, spec, htpasswd, e);
	if (ret == 0)
		*out = a;
	else
		proxy_auth_free(a);
	return ret;
}

void proxy_auth_free(struct proxy_auth *a)
{
	if (!a)
		return;
	while (a->users) {
		struct proxy_user *u = a->users;

		a->users = u->next;
		if (u->hash)
			OPENSSL_cleanse(u->hash, strlen(u->hash));
		mem_free(u->hash);
		mem_free(u->name);
		mem_free(u);
	}
	mem_free(a);
}
