/* SPDX-License-Identifier: MIT */
/*
 * Verification by OpenSSL with a memory in front. What is remembered is a digest over all that the answer depends on:
 * the certificates as sent, the expected name, the trust store; for at most an hour and never past the chain's expiry.
 * Only good results are kept: a bad one is reported in full each time.
 */
#include "crypto/verify.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "base/addr.h"
#include "base/lru.h"
#include "base/mem.h"
#include "crypto/cert.h"

#define HOST_MAX 255

struct entry {
	struct lru_entry base;
	int64_t until_s;
	uint8_t key[CERT_DIGEST_SIZE];
};

struct verify {
	struct lru table;
	struct entry *entries;       /* all that there can be, taken from the front */
	uint32_t max;
	uint64_t trust_id;
	int64_t now_s;
	struct verify_stats stats;
	EVP_MD *sha256;
	EVP_MD_CTX *digest;
};

struct verify *verify_new(uint32_t entries_max, uint64_t trust_id)
{
	struct verify *v = mem_zalloc(sizeof(*v));

	if (!v)
		return NULL;
	v->max = entries_max;
	v->trust_id = trust_id;
	v->entries = mem_zalloc(entries_max * sizeof(*v->entries));
	v->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
	v->digest = EVP_MD_CTX_new();
	if (lru_init(&v->table, entries_max) < 0 || !v->entries || !v->sha256 || !v->digest) {
		verify_free(v);
		return NULL;
	}
	return v;
}

void verify_free(struct verify *v)
{
	if (!v)
		return;
	for (uint32_t i = v->table.count; i > 0; i--)
		lru_del(&v->table, &v->entries[i - 1].base);
	lru_fini(&v->table);
	EVP_MD_CTX_free(v->digest);
	EVP_MD_free(v->sha256);
	mem_free(v->entries);
	mem_free(v);
}

static struct entry *find(const struct verify *v, const uint8_t key[CERT_DIGEST_SIZE])
{
	struct lru_entry *e = lru_find(&v->table, (struct str){ (const char *)key, CERT_DIGEST_SIZE });

	return e ? container_of(e, struct entry, base) : NULL;
}

static bool is_known(struct verify *v, const uint8_t key[CERT_DIGEST_SIZE])
{
	struct entry *entry = find(v, key);

	if (!entry || v->now_s >= entry->until_s)
		return false;
	lru_touch(&v->table, &entry->base);
	return true;
}

/* A place for another answer: a new one, or the one that was not needed for longest. */
static struct entry *place_for(struct verify *v, const uint8_t key[CERT_DIGEST_SIZE])
{
	struct entry *entry = &v->entries[v->table.count];

	if (v->table.count == v->max) {
		entry = container_of(lru_oldest(&v->table), struct entry, base);
		lru_del(&v->table, &entry->base);
	}
	memcpy(entry->key, key, CERT_DIGEST_SIZE);
	entry->base.key = (struct str){ (const char *)entry->key, CERT_DIGEST_SIZE };
	lru_add(&v->table, &entry->base);
	return entry;
}

static void remember(struct verify *v, const uint8_t key[CERT_DIGEST_SIZE], int64_t until_s)
{
	struct entry *entry = find(v, key);

	if (entry)
		lru_touch(&v->table, &entry->base);
	else
		entry = place_for(v, key);
	entry->until_s = until_s;
}

static bool hash_part(struct verify *v, const void *bytes, size_t len)
{
	uint64_t size = len;

	return EVP_DigestUpdate(v->digest, &size, sizeof(size)) && EVP_DigestUpdate(v->digest, bytes, len);
}

static bool hash_cert(struct verify *v, X509 *cert)
{
	unsigned char *der = NULL;
	int len = i2d_X509(cert, &der);
	bool ok = len > 0 && hash_part(v, der, (size_t)len);

	OPENSSL_free(der);
	return ok;
}

/*
 * What SSL put into the parameters of this check by verify_expect(). Asking for an address that is not set leaves an
 * error in OpenSSL's queue, which SSL_get_error() would later take for the handshake's.
 */
static bool hash_name(struct verify *v, X509_STORE_CTX *ctx)
{
	X509_VERIFY_PARAM *param = X509_STORE_CTX_get0_param(ctx);
	const char *host = X509_VERIFY_PARAM_get0_host(param, 0);
	bool ok;
	char *ip;

	ERR_set_mark();
	ip = X509_VERIFY_PARAM_get1_ip_asc(param);
	ERR_pop_to_mark();
	ok = hash_part(v, host ? host : "", host ? strlen(host) : 0) &&
	     hash_part(v, ip ? ip : "", ip ? strlen(ip) : 0);
	OPENSSL_free(ip);
	return ok;
}

static bool key_of(struct verify *v, X509_STORE_CTX *ctx, uint8_t key[CERT_DIGEST_SIZE])
{
	STACK_OF(X509) *sent = X509_STORE_CTX_get0_untrusted(ctx);
	X509 *leaf = X509_STORE_CTX_get0_cert(ctx);
	bool ok = leaf && EVP_DigestInit_ex2(v->digest, v->sha256, NULL) &&
		  hash_part(v, &v->trust_id, sizeof(v->trust_id)) && hash_name(v, ctx) &&
		  hash_cert(v, leaf);

	for (int i = 0; ok && i < sk_X509_num(sent); i++)
		ok = hash_cert(v, sk_X509_value(sent, i));
	return ok && EVP_DigestFinal_ex(v->digest, key, NULL);
}

static int64_t good_until(struct verify *v, X509_STORE_CTX *ctx)
{
	STACK_OF(X509) *chain = X509_STORE_CTX_get0_chain(ctx);
	int64_t until_s = v->now_s + VERIFY_KEEP_S;

	for (int i = 0; i < sk_X509_num(chain); i++)
		until_s = MIN(until_s, cert_not_after_s(sk_X509_value(chain, i)));
	return until_s;
}

int verify_check(struct verify *v, X509_STORE_CTX *ctx)
{
	uint8_t key[CERT_DIGEST_SIZE];
	bool keyed = key_of(v, ctx, key);
	int ok;

	if (keyed && is_known(v, key)) {
		v->stats.hits++;
		X509_STORE_CTX_set_error(ctx, X509_V_OK);
		return 1;
	}
	v->stats.misses++;
	X509_STORE_CTX_set_time(ctx, 0, (time_t)v->now_s);
	ok = X509_verify_cert(ctx);
	if (ok == 1 && keyed && X509_STORE_CTX_get_error(ctx) == X509_V_OK)
		remember(v, key, good_until(v, ctx));
	return ok;
}

/* Called by OpenSSL in a handshake, instead of X509_verify_cert(). */
static int on_check(X509_STORE_CTX *ctx, void *arg)
{
	return verify_check(arg, ctx);
}

void verify_install(struct verify *verify, SSL_CTX *ctx)
{
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
	SSL_CTX_set_cert_verify_callback(ctx, on_check, verify);
}

void verify_set_time(struct verify *verify, int64_t now_s)
{
	verify->now_s = now_s;
}

int verify_expect(SSL *ssl, struct str host)
{
	X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
	struct addr ip;

	if (addr_parse(&ip, host)) {
		size_t len = ip.family == 4 ? 4 : 16;

		return X509_VERIFY_PARAM_set1_ip(param, ip.ip + 16 - len, len) ? 0 : -ENOMEM;
	}
	if (host.len && host.ptr[host.len - 1] == '.')
		host.len--;                     /* certificates name hosts without the root's dot */
	if (host.len == 0 || host.len > HOST_MAX || memchr(host.ptr, 0, host.len))
		return -EINVAL;
	X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS |
					X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
	return X509_VERIFY_PARAM_set1_host(param, host.ptr, host.len) ? 0 : -ENOMEM;
}

void verify_text(long result, struct strbuf *out)
{
	strbuf_addf(out, "Certificate verify failed: %s", X509_verify_cert_error_string(result));
}

struct verify_stats verify_stats(const struct verify *verify)
{
	return verify->stats;
}
