/* SPDX-License-Identifier: MIT */
/* Messages that came over HTTP/2, as HTTP/1.1 would have them (RFC 9113 8.3, 8.2.3; spec/layers 9.3; DB-17). */
#include <errno.h>

#include "layers/http.h"
#include "wire/http1.h"

/* RFC 9113 8.2.3: cookies may come one by one and are one field here. */
static int join_cookies(struct str *out, const struct headers *h, struct arena *a)
{
	size_t size = 0;
	char *at;

	for (uint32_t i = 0; i < h->count; i++)
		if (str_eq_nocase(h->at[i].name, STR("cookie")))
			size += h->at[i].value.len + 2;
	at = arena_alloc(a, size);
	if (!at)
		return -ENOMEM;
	out->ptr = at;
	for (uint32_t i = 0; i < h->count; i++) {
		if (!str_eq_nocase(h->at[i].name, STR("cookie")))
			continue;
		if (at != out->ptr) {
			memcpy(at, "; ", 2);
			at += 2;
		}
		memcpy(at, h->at[i].value.ptr, h->at[i].value.len);
		at += h->at[i].value.len;
	}
	out->len = (size_t)(at - out->ptr);
	return 0;
}

static int copy_fields(struct headers *to, const struct headers *from, struct arena *a)
{
	bool several = headers_count(from, STR("cookie")) > 1, joined = false;
	int ret = 0;

	for (uint32_t i = 0; i < from->count && ret == 0; i++) {
		struct header field = from->at[i];

		if (several && str_eq_nocase(field.name, STR("cookie"))) {
			if (joined)
				continue;
			joined = true;
			ret = join_cookies(&field.value, from, a);
		}
		ret = ret ? ret : headers_add(to, a, field.name, field.value);
	}
	return ret;
}

/* A body has a frame of its own in HTTP/2; here it is told by its length or by chunks. */
static int frame(struct headers *h, struct arena *a)
{
	if (headers_find(h, STR("content-length")).ptr || headers_find(h, STR("transfer-encoding")).ptr)
		return 0;
	return headers_add(h, a, STR("transfer-encoding"), STR("chunked"));
}

int http1_adapt_request(struct http_request *out, const struct http_request *r, bool body, struct arena *a)
{
	int ret = 0;

	*out = *r;
	out->base.version = STR("HTTP/1.1");
	out->base.headers = (struct headers){ 0 };
	out->authority = STR("");
	if (r->authority.len && !headers_find(&r->base.headers, STR("host")).ptr)
		ret = headers_add(&out->base.headers, a, STR("Host"), r->authority);
	ret = ret ? ret : copy_fields(&out->base.headers, &r->base.headers, a);
	return ret || !body ? ret : frame(&out->base.headers, a);
}

int http1_adapt_response(struct http_response *out, const struct http_response *r, const struct http_request *to,
			 bool body, struct arena *a)
{
	bool bodiless = r->status < 200 || r->status == 204 || r->status == 304 || str_eq(to->method, STR("HEAD"));
	struct headers *h = &out->base.headers;
	int ret;

	*out = *r;
	out->base.version = STR("HTTP/1.1");
	out->reason = str_of(http1_reason(r->status));
	*h = (struct headers){ 0 };
	ret = copy_fields(h, &r->base.headers, a);
	if (ret || bodiless)
		return ret;
	if (!body && !headers_find(h, STR("content-length")).ptr)
		return headers_add(h, a, STR("content-length"), STR("0"));
	/* HTTP/1.0 knows no chunks: the end of the connection ends the body. */
	return body && str_eq(to->base.version, STR("HTTP/1.1")) ? frame(h, a) : 0;
}
