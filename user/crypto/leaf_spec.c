/* SPDX-License-Identifier: MIT */
/*
 * Names of a minted certificate, as mitmproxy's tlsconfig.get_cert() collects them: the first name becomes the CN, and
 * the upstream's organization and first CRL address are carried over, the latter to a path that we answer ourselves.
 */
#include "crypto/leaf_spec.h"

#include <errno.h>
#include <openssl/err.h>

#include "base/addr.h"
#include "base/mem.h"
#include "crypto/cert.h"
#include "crypto/idna.h"

#define CN_MAX 63                    /* below ub-common-name, RFC 5280 appendix A */
#define ORGANIZATION_MAX 1024
#define CRL_URL_MAX 1024
#define SEEN_MIN 64u

/* Names met so far, as indices into the list: what keeps thousands of them linear. */
struct seen {
	uint32_t *slots;             /* index + 1; 0 = free */
	uint32_t mask;
};

static const ASN1_STRING *name_string(const GENERAL_NAME *name)
{
	return name->type == GEN_EMAIL || name->type == GEN_DNS || name->type == GEN_URI ||
	       name->type == GEN_IPADD ? name->d.ia5 : NULL;
}

static bool name_equal(const GENERAL_NAME *a, const GENERAL_NAME *b)
{
	const ASN1_STRING *sa = name_string(a), *sb = name_string(b);

	if (a->type != b->type)
		return false;
	if (!sa)
		return GENERAL_NAME_cmp((GENERAL_NAME *)a, (GENERAL_NAME *)b) == 0;
	return sa->length == sb->length && memcmp(sa->data, sb->data, (size_t)sa->length) == 0;
}

static uint32_t name_hash(const GENERAL_NAME *name)
{
	const ASN1_STRING *s = name_string(name);
	uint32_t hash = 2166136261u ^ (uint32_t)name->type;

	for (int i = 0; s && i < s->length; i++)
		hash = (hash ^ s->data[i]) * 16777619u;
	return hash ^ hash >> 15;
}

/* Takes over name. 0 (also when it was there already) or -ENOMEM. */
static int add_name(GENERAL_NAMES *names, struct seen *seen, GENERAL_NAME *name)
{
	uint32_t at = name_hash(name) & seen->mask;

	for (; seen->slots[at]; at = (at + 1) & seen->mask) {
		if (name_equal(name, sk_GENERAL_NAME_value(names, (int)seen->slots[at] - 1))) {
			GENERAL_NAME_free(name);
			return 0;
		}
	}
	if (!sk_GENERAL_NAME_push(names, name)) {
		GENERAL_NAME_free(name);
		return -ENOMEM;
	}
	seen->slots[at] = (uint32_t)sk_GENERAL_NAME_num(names);
	return 0;
}

static int add_bytes(GENERAL_NAMES *names, struct seen *seen, int type, const void *bytes, size_t len)
{
	ASN1_STRING *value = type == GEN_IPADD ? ASN1_OCTET_STRING_new() : ASN1_IA5STRING_new();
	GENERAL_NAME *name = GENERAL_NAME_new();

	if (!value || !name || !ASN1_STRING_set(value, bytes, (int)len)) {
		ASN1_STRING_free(value);
		GENERAL_NAME_free(name);
		return -ENOMEM;
	}
	GENERAL_NAME_set0_value(name, type, value);
	return add_name(names, seen, name);
}

/* An address or a host name, encoded for a certificate; what is neither is left out. */
static int add_host(GENERAL_NAMES *names, struct seen *seen, struct str host)
{
	struct strbuf encoded = { 0 };
	struct addr ip;
	int ret;

	if (addr_parse(&ip, host)) {
		size_t len = ip.family == 4 ? 4 : 16;

		return add_bytes(names, seen, GEN_IPADD, ip.ip + 16 - len, len);
	}
	ret = idna_encode(host, &encoded);
	if (ret == 0)
		ret = add_bytes(names, seen, GEN_DNS, encoded.ptr, encoded.len);
	strbuf_fini(&encoded);
	return ret == -EINVAL ? 0 : ret;
}

static int add_alt_names(GENERAL_NAMES *names, struct seen *seen, GENERAL_NAMES *from)
{
	GENERAL_NAME *name;
	int ret = 0;

	while (ret == 0 && (name = sk_GENERAL_NAME_shift(from)))
		ret = add_name(names, seen, name);
	return ret;
}

static int collect(GENERAL_NAMES *names, const struct leaf_request *request)
{
	GENERAL_NAMES *upstream = NULL;
	struct strbuf cn = { 0 };
	struct seen seen = { NULL, SEEN_MIN - 1 };
	int ret = -ENOMEM;

	if (request->upstream)
		upstream = X509_get_ext_d2i(request->upstream, NID_subject_alt_name, NULL, NULL);
	ERR_clear_error();
	while (upstream && (uint32_t)sk_GENERAL_NAME_num(upstream) + 4 > seen.mask / 2)
		seen.mask = seen.mask * 2 + 1;
	seen.slots = mem_zalloc((seen.mask + 1) * sizeof(*seen.slots));
	if (!seen.slots)
		goto out;
	ret = 0;
	if (request->upstream && cert_subject(request->upstream, NID_commonName, &cn))
		ret = add_host(names, &seen, (struct str){ cn.ptr, cn.len });
	if (ret == 0 && upstream)
		ret = add_alt_names(names, &seen, upstream);
	if (ret == 0)
		ret = add_host(names, &seen, request->sni.len ? request->sni : request->local_host);
	if (ret == 0)
		ret = add_host(names, &seen, request->server_host);
out:
	strbuf_fini(&cn);
	mem_free(seen.slots);
	GENERAL_NAMES_free(upstream);
	return ret;
}

bool leaf_spec_name_text(const GENERAL_NAME *name, struct strbuf *out)
{
	const ASN1_STRING *s = name_string(name);
	char text[ADDR_TEXT_MAX];
	struct addr ip;

	if (!s)
		return false;
	if (name->type != GEN_IPADD) {
		strbuf_add(out, s->data, (size_t)s->length);
		return true;
	}
	if (s->length == 4) {
		ip = addr_v4((uint32_t)s->data[0] << 24 | (uint32_t)s->data[1] << 16 |
			     (uint32_t)s->data[2] << 8 | s->data[3], 0);
	} else if (s->length == 16) {
		ip = (struct addr){ .family = 6 };
		memcpy(ip.ip, s->data, sizeof(ip.ip));
	} else {
		return false;
	}
	strbuf_add_str(out, str_of(addr_ip_text(&ip, text)));
	return true;
}

static int choose_cn(struct leaf_spec *spec)
{
	struct strbuf text = { 0 };
	int ret = 0;

	if (leaf_spec_name_text(sk_GENERAL_NAME_value(spec->names, 0), &text) && text.len > 0 &&
	    text.len <= CN_MAX && !memchr(text.ptr, 0, text.len)) {
		spec->cn = mem_strndup(text.ptr, text.len);
		ret = spec->cn ? 0 : -ENOMEM;
	}
	if (text.failed)
		ret = -ENOMEM;
	strbuf_fini(&text);
	return ret;
}

static int copy_organization(struct leaf_spec *spec, X509 *upstream)
{
	struct strbuf text = { 0 };
	int ret = 0;

	if (cert_subject(upstream, NID_organizationName, &text) && text.len > 0 &&
	    text.len <= ORGANIZATION_MAX && !memchr(text.ptr, 0, text.len)) {
		spec->organization = mem_strndup(text.ptr, text.len);
		ret = spec->organization ? 0 : -ENOMEM;
	}
	if (text.failed)
		ret = -ENOMEM;
	strbuf_fini(&text);
	return ret;
}

/* "http://crl.example/path" -> "http://crl.example" + crl_path. */
static int rewrite_crl_url(struct leaf_spec *spec, struct str url, const char *crl_path)
{
	const char *mark = memmem(url.ptr, url.len, "://", 3);
	size_t len = mark ? (size_t)(mark - url.ptr) + 3 : 0;
	struct strbuf rewritten = { 0 };

	if (len <= 3 || url.len > CRL_URL_MAX)
		return 0;
	mark += 3;
	while (len < url.len && !strchr("/?#", url.ptr[len]) && url.ptr[len] > ' ')
		len++;
	if (url.ptr + len == mark)
		return 0;                       /* ldap:///…: nowhere to send a request to */
	strbuf_add(&rewritten, url.ptr, len);
	strbuf_add_str(&rewritten, str_of(crl_path));
	if (rewritten.failed) {
		strbuf_fini(&rewritten);
		return -ENOMEM;
	}
	spec->crl_url = rewritten.ptr;
	return 0;
}

/* The first distribution point whose first name is a URL. */
static int copy_crl(struct leaf_spec *spec, X509 *upstream, const char *crl_path)
{
	CRL_DIST_POINTS *points = X509_get_ext_d2i(upstream, NID_crl_distribution_points, NULL, NULL);
	int ret = 0;

	ERR_clear_error();
	for (int i = 0; points && i < sk_DIST_POINT_num(points); i++) {
		const DIST_POINT_NAME *name = sk_DIST_POINT_value(points, i)->distpoint;
		const GENERAL_NAME *first;

		if (!name || name->type != 0 || sk_GENERAL_NAME_num(name->name.fullname) < 1)
			continue;
		first = sk_GENERAL_NAME_value(name->name.fullname, 0);
		if (first->type != GEN_URI)
			continue;
		ret = rewrite_crl_url(spec, (struct str){ (const char *)first->d.ia5->data,
				      (size_t)first->d.ia5->length }, crl_path);
		break;
	}
	CRL_DIST_POINTS_free(points);
	return ret;
}

int leaf_spec_init(struct leaf_spec *spec, const struct leaf_request *request, const char *crl_path)
{
	int ret;

	*spec = (struct leaf_spec){ .names = sk_GENERAL_NAME_new_null(), .rsa = request->rsa };
	ret = spec->names ? collect(spec->names, request) : -ENOMEM;
	if (ret == 0 && sk_GENERAL_NAME_num(spec->names) == 0)
		ret = -EINVAL;
	if (ret == 0)
		ret = choose_cn(spec);
	if (ret == 0 && request->upstream)
		ret = copy_organization(spec, request->upstream);
	if (ret == 0 && request->upstream)
		ret = copy_crl(spec, request->upstream, crl_path);
	if (ret < 0)
		leaf_spec_fini(spec);
	return ret;
}

void leaf_spec_fini(struct leaf_spec *spec)
{
	GENERAL_NAMES_free(spec->names);
	mem_free(spec->cn);
	mem_free(spec->organization);
	mem_free(spec->crl_url);
	*spec = (struct leaf_spec){ 0 };
}

/* Each part with its length, so that no two lists of parts look the same. */
static bool hash_part(EVP_MD_CTX *ctx, const void *bytes, size_t len)
{
	uint64_t size = len;

	return EVP_DigestUpdate(ctx, &size, sizeof(size)) && EVP_DigestUpdate(ctx, bytes, len);
}

static bool hash_text(EVP_MD_CTX *ctx, const char *text)
{
	return hash_part(ctx, text ? text : "\n", text ? strlen(text) : 1);
}

int leaf_spec_key(const struct leaf_spec *spec, const EVP_MD *sha256, uint8_t key[LEAF_KEY_SIZE])
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	unsigned char *der = NULL;
	int len = i2d_GENERAL_NAMES(spec->names, &der);
	bool ok = ctx && len >= 0 && EVP_DigestInit_ex2(ctx, sha256, NULL) &&
		  hash_part(ctx, spec->rsa ? "R" : "E", 1) && hash_part(ctx, der, (size_t)len) &&
		  hash_text(ctx, spec->organization) && hash_text(ctx, spec->crl_url) &&
		  EVP_DigestFinal_ex(ctx, key, NULL);

	OPENSSL_free(der);
	EVP_MD_CTX_free(ctx);
	return ok ? 0 : -ENOMEM;
}

int leaf_spec_request_key(const struct leaf_request *request, const EVP_MD *sha256,
			  uint8_t key[LEAF_KEY_SIZE])
{
	struct str name = request->sni.len ? request->sni : request->local_host;
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	unsigned char *der = NULL;
	int len = request->upstream ? i2d_X509(request->upstream, &der) : 0;
	bool ok = ctx && len >= 0 && EVP_DigestInit_ex2(ctx, sha256, NULL) &&
		  hash_part(ctx, request->rsa ? "r" : "e", 1) && hash_part(ctx, der, (size_t)len) &&
		  hash_part(ctx, name.ptr, name.len) &&
		  hash_part(ctx, request->server_host.ptr, request->server_host.len) &&
		  EVP_DigestFinal_ex(ctx, key, NULL);

	OPENSSL_free(der);
	EVP_MD_CTX_free(ctx);
	return ok ? 0 : -ENOMEM;
}
