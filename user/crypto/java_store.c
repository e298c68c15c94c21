/* SPDX-License-Identifier: MIT */
/*
 * JKS is a list with a count before it and a digest behind it: an entry is inserted without looking at the others.
 * PKCS#12 is a list of "safes": one more is appended, in the clear as the JDK's own, and the checksum made anew.
 */
#include "crypto/java_store.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/objects.h>
#include <openssl/pkcs12.h>

#include "base/mem.h"

#define JKS_MAGIC 0xfeedfeedu
#define JKS_VERSION 2
#define JKS_TRUSTED 2
#define JKS_HEAD_BYTES 12
#define JKS_DIGEST_BYTES 20
#define JKS_WHITENER "Mighty Aphrodite"

/* Oracle's attribute that makes a bare certificate an authority in Java's eyes, and its only value: any use. */
#define TRUSTED_KEY_USAGE "2.16.840.1.113894.746875.1.1"
#define ANY_USE "2.5.29.37.0"
#define MAC_ROUNDS_MAX 200000

static int no_memory(struct err *e)
{
	ERR_clear_error();
	return err_set(e, -ENOMEM, "out of memory for Java's trusted certificates");
}

/* --- JKS ------------------------------------------------------------------------------------------------------ */

static uint32_t read_u32(const char *at)
{
	const uint8_t *b = (const uint8_t *)at;

	return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

static void add_number(struct strbuf *out, uint64_t number, int bytes)
{
	for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8) {
		uint8_t byte = (uint8_t)(number >> shift);

		strbuf_add(out, &byte, 1);
	}
}

/* As Java's DataOutput.writeUTF(): for ASCII its bytes, and their count before them. */
static void add_text(struct strbuf *out, const char *text)
{
	add_number(out, strlen(text), 2);
	strbuf_add(out, text, strlen(text));
}

/* SHA-1 of the password in UTF-16, a fixed text, and what is protected. */
static bool jks_digest(struct str content, uint8_t digest[JKS_DIGEST_BYTES])
{
	EVP_MD_CTX *c = EVP_MD_CTX_new();
	bool ok = c && EVP_DigestInit_ex(c, EVP_sha1(), NULL) == 1;

	for (const char *at = JAVA_STORE_PASSWORD; *at && ok; at++) {
		const char wide[2] = { 0, *at };

		ok = EVP_DigestUpdate(c, wide, sizeof(wide)) == 1;
	}
	ok = ok && EVP_DigestUpdate(c, JKS_WHITENER, strlen(JKS_WHITENER)) == 1 &&
	     EVP_DigestUpdate(c, content.ptr, content.len) == 1 && EVP_DigestFinal_ex(c, digest, NULL) == 1;
	EVP_MD_CTX_free(c);
	return ok;
}

static int jks_add(struct strbuf *out, struct str store, const uint8_t *der, size_t der_len, const char *alias,
		   struct err *e)
{
	uint8_t digest[JKS_DIGEST_BYTES];
	struct strbuf made = { 0 };
	struct str content;
	uint32_t count;

	if (store.len < JKS_HEAD_BYTES + JKS_DIGEST_BYTES || read_u32(store.ptr + 4) != JKS_VERSION)
		return err_set(e, -EINVAL, "a Java key store of an unknown version");
	content = (struct str){ store.ptr, store.len - JKS_DIGEST_BYTES };
	if (!jks_digest(content, digest))
		return no_memory(e);
	if (memcmp(digest, content.ptr + content.len, JKS_DIGEST_BYTES) != 0)
		return err_set(e, -EACCES, "a Java key store whose password is not \"" JAVA_STORE_PASSWORD "\", or "
			       "that is damaged");
	count = read_u32(store.ptr + 8);
	if (count == UINT32_MAX)
		return err_set(e, -EINVAL, "a Java key store that is full");
	strbuf_add(&made, store.ptr, 8);
	add_number(&made, count + 1, 4);
	strbuf_add(&made, content.ptr + JKS_HEAD_BYTES, content.len - JKS_HEAD_BYTES);
	add_number(&made, JKS_TRUSTED, 4);
	add_text(&made, alias);
	add_number(&made, 0, 8);                /* when it was added: Java only shows it */
	add_text(&made, "X.509");
	add_number(&made, der_len, 4);
	strbuf_add(&made, der, der_len);
	if (made.failed || !jks_digest((struct str){ made.ptr, made.len }, digest)) {
		strbuf_fini(&made);
		return no_memory(e);
	}
	strbuf_add(&made, digest, sizeof(digest));
	strbuf_add(out, made.ptr, made.failed ? 0 : made.len);
	out->failed |= made.failed;
	strbuf_fini(&made);
	return out->failed ? no_memory(e) : 0;
}

/* --- PKCS#12 -------------------------------------------------------------------------------------------------- */

/* OpenSSL 3.0 has no call for an attribute of a bag, but friendlyName makes the list that it can be put into. */
static bool mark_trusted(PKCS12_SAFEBAG *bag)
{
	ASN1_OBJECT *name = OBJ_txt2obj(TRUSTED_KEY_USAGE, 1), *value = OBJ_txt2obj(ANY_USE, 1);
	STACK_OF(X509_ATTRIBUTE) *list = (STACK_OF(X509_ATTRIBUTE) *)PKCS12_SAFEBAG_get0_attrs(bag);
	X509_ATTRIBUTE *mark = NULL;

	if (name && value && list)
		mark = X509_ATTRIBUTE_create_by_OBJ(NULL, name, V_ASN1_OBJECT, value, -1);
	ASN1_OBJECT_free(name);
	ASN1_OBJECT_free(value);
	if (mark && sk_X509_ATTRIBUTE_push(list, mark) > 0)
		return true;
	X509_ATTRIBUTE_free(mark);
	return false;
}

/* A safe with one certificate in it, in the clear. NULL: out of memory. */
static PKCS7 *make_safe(X509 *cert, const char *alias)
{
	STACK_OF(PKCS12_SAFEBAG) *bags = sk_PKCS12_SAFEBAG_new_null();
	PKCS12_SAFEBAG *bag = PKCS12_SAFEBAG_create_cert(cert);
	PKCS7 *safe = NULL;

	if (bags && bag && PKCS12_add_friendlyname_utf8(bag, alias, -1) == 1 && mark_trusted(bag) &&
	    sk_PKCS12_SAFEBAG_push(bags, bag) > 0) {
		bag = NULL;
		safe = PKCS12_pack_p7data(bags);
	}
	PKCS12_SAFEBAG_free(bag);
	sk_PKCS12_SAFEBAG_pop_free(bags, PKCS12_SAFEBAG_free);
	return safe;
}

/* How the checksum is made: as it was. Newer JDKs ship a file without one. */
struct mac {
	bool present;
	int rounds;
	const EVP_MD *digest;
};

static int read_mac(struct mac *mac, PKCS12 *p12, struct err *e)
{
	const ASN1_INTEGER *rounds = NULL;
	const X509_ALGOR *algorithm = NULL;
	const ASN1_OBJECT *name = NULL;

	*mac = (struct mac){ .present = PKCS12_mac_present(p12) };
	if (!mac->present)
		return 0;
	PKCS12_get0_mac(NULL, &algorithm, NULL, &rounds, p12);
	X509_ALGOR_get0(&name, NULL, NULL, algorithm);
	mac->digest = EVP_get_digestbyobj(name);
	mac->rounds = rounds ? (int)MIN(ASN1_INTEGER_get(rounds), (long)MAC_ROUNDS_MAX + 1) : 1;
	if (!mac->digest || mac->rounds < 1 || mac->rounds > MAC_ROUNDS_MAX)
		return err_set(e, -EINVAL, "a PKCS#12 file with an unknown kind of checksum");
	if (PKCS12_verify_mac(p12, JAVA_STORE_PASSWORD, -1) == 1)
		return 0;
	return err_set(e, -EACCES, "a PKCS#12 file whose password is not \"" JAVA_STORE_PASSWORD "\", or that is "
		       "damaged");
}

static int add_safe(PKCS12 *p12, X509 *cert, const char *alias, const struct mac *mac, struct err *e)
{
	STACK_OF(PKCS7) *safes = PKCS12_unpack_authsafes(p12);
	PKCS7 *safe;
	int ret = 0;

	if (!safes)
		return err_set(e, -EINVAL, "a PKCS#12 file that is damaged, or protected by a public key");
	safe = make_safe(cert, alias);
	if (!safe || sk_PKCS7_push(safes, safe) <= 0) {
		PKCS7_free(safe);
		ret = no_memory(e);
	} else if (PKCS12_pack_authsafes(p12, safes) != 1 ||
		   (mac->present &&
		    PKCS12_set_mac(p12, JAVA_STORE_PASSWORD, -1, NULL, 0, mac->rounds, mac->digest) != 1)) {
		ret = no_memory(e);
	}
	sk_PKCS7_pop_free(safes, PKCS7_free);
	return ret;
}

static int pkcs12_add(struct strbuf *out, struct str store, X509 *cert, const char *alias, struct err *e)
{
	const uint8_t *at = (const uint8_t *)store.ptr;
	PKCS12 *p12 = d2i_PKCS12(NULL, &at, (long)store.len);
	uint8_t *der = NULL;
	struct mac mac;
	int ret, len;

	if (!p12)
		return err_set(e, -EINVAL, "neither a Java key store (JKS) nor a PKCS#12 file");
	ret = read_mac(&mac, p12, e);
	if (ret == 0)
		ret = add_safe(p12, cert, alias, &mac, e);
	if (ret == 0) {
		len = i2d_PKCS12(p12, &der);
		if (len > 0)
			strbuf_add(out, der, (size_t)len);
		ret = len <= 0 || out->failed ? no_memory(e) : 0;
	}
	OPENSSL_free(der);
	PKCS12_free(p12);
	return ret;
}

int java_store_add(struct strbuf *out, struct str store, X509 *cert, const char *alias, struct err *e)
{
	uint8_t *der = NULL;
	int len, ret;

	if (store.len > JAVA_STORE_BYTES_MAX)
		return err_set(e, -EFBIG, "a file of trusted certificates that is over %u MiB",
			       JAVA_STORE_BYTES_MAX >> 20);
	if (store.len < 4 || read_u32(store.ptr) != JKS_MAGIC) {
		ret = pkcs12_add(out, store, cert, alias, e);
		ERR_clear_error();
		return ret;
	}
	len = i2d_X509(cert, &der);
	if (len <= 0)
		return no_memory(e);
	ret = jks_add(out, store, der, (size_t)len, alias, e);
	OPENSSL_free(der);
	return ret;
}
