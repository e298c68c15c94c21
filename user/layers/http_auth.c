/* SPDX-License-Identifier: MIT */
/* Basic authentication (RFC 7617) in both directions; passwords are proxy_auth's, this is only their way over HTTP. */
#include "layers/http_auth.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>

#include "base/mem.h"
#include "crypto/proxy_auth.h"
#include "wire/http1.h"

#define CREDENTIALS_MAX 512

static bool speaks_proxy(const struct http *h)
{
	return h->mode == HTTP_REGULAR || h->mode == HTTP_UPSTREAM;
}

/* "Basic" in any case, one blank, base64 of "user:password". False: it is not that. */
static bool decode(struct str field, char out[static CREDENTIALS_MAX], struct str *user, struct str *password)
{
	struct str rest = str_trim(field), scheme;
	int len, padding = 0;

	scheme = str_cut(&rest, ' ');
	if (!rest.ptr || !str_eq_nocase(scheme, STR("basic")))
		return false;
	rest = str_trim(rest);
	if (rest.len == 0 || rest.len % 4 || rest.len / 4 * 3 >= CREDENTIALS_MAX)
		return false;
	for (size_t i = rest.len; i > rest.len - 2 && rest.ptr[i - 1] == '='; i--)
		padding++;
	len = EVP_DecodeBlock((unsigned char *)out, (const unsigned char *)rest.ptr, (int)rest.len) - padding;
	if (len < 0)
		return false;
	rest = (struct str){ out, (size_t)len };
	*user = str_cut(&rest, ':');
	*password = rest;
	return rest.ptr && !memchr(out, 0, (size_t)len);
}

static int refuse(struct http *h, struct flow *f, struct chain *body)
{
	struct http_response *r = &f->http.response;
	uint16_t status = speaks_proxy(h) ? 407 : 401;
	const char *reason = http1_reason(status);
	struct str name = speaks_proxy(h) ? STR("Proxy-Authenticate") : STR("WWW-Authenticate"), length;
	char text[300], number[16];
	int len = snprintf(text, sizeof(text), "<html><head><title>%u %s</title></head><body><h1>%u %s</h1></body>"
			   "</html>", status, reason, status, reason);

	snprintf(number, sizeof(number), "%d", len);
	length = arena_copy(&f->arena, str_of(number));
	r->status = status;
	r->reason = str_of(reason);
	r->base.version = STR("HTTP/1.1");
	r->base.start = r->base.end = env_stamp(h->base.env);
	f->http.has_response = true;
	if (arena_copy_failed(length) ||
	    headers_add(&r->base.headers, &f->arena, name, STR("Basic realm=\"mitmproxy\"")) < 0 ||
	    headers_add(&r->base.headers, &f->arena, STR("content-length"), length) < 0 ||
	    chain_write(body, h->base.env->slabs, text, (size_t)len) < 0 ||
	    flow_capture(f, &r->base.body, body, body->len) < 0)
		return -ENOMEM;
	return -EACCES;
}

int http_auth_check(struct http *h, struct flow *f, struct chain *body)
{
	const struct proxy_auth *auth = h->base.env->options->proxyauth;
	struct headers *fields = &f->http.request.base.headers;
	struct str name = speaks_proxy(h) ? STR("Proxy-Authorization") : STR("Authorization"), user, password, field;
	char text[CREDENTIALS_MAX];
	bool good;

	if (!auth || h->client->authenticated)
		return 0;
	field = headers_find(fields, name);
	good = field.ptr && decode(field, text, &user, &password) && proxy_auth_check(auth, user, password);
	if (good && flow_metadata_text(f, "proxyauth", user) < 0)
		return -ENOMEM;
	OPENSSL_cleanse(text, sizeof(text));
	if (!good)
		return refuse(h, f, body);
	headers_remove(fields, name);
	h->client->authenticated = str_eq(f->http.request.method, STR("CONNECT"));
	return 0;
}

int http_auth_add(struct flow *f, struct str name, const char *credentials)
{
	struct headers *h = &f->http.request.base.headers;
	size_t len = strlen(credentials);
	char *value = arena_alloc(&f->arena, 6 + (len + 2) / 3 * 4 + 1);

	if (!value)
		return -ENOMEM;
	memcpy(value, "Basic ", 6);
	EVP_EncodeBlock((unsigned char *)value + 6, (const unsigned char *)credentials, (int)len);
	return headers_set(h, &f->arena, name, str_of(value));
}

int http_auth_upstream(struct http *h, struct flow *f)
{
	const char *credentials = h->base.env->options->upstream_auth;

	if (!credentials)
		return 0;
	if (h->mode == HTTP_UPSTREAM && str_eq(f->http.request.scheme, STR("http")))
		return http_auth_add(f, STR("Proxy-Authorization"), credentials);
	if (h->mode == HTTP_REVERSE)
		return http_auth_add(f, STR("Authorization"), credentials);
	return 0;
}
