/* SPDX-License-Identifier: MIT */
/* Connection records: counted by their worker, copied when one of several holders wants to write. */
#include "flow/conn.h"

#include <errno.h>

#include "base/mem.h"

/* Other threads read the number (memory accounting) while the worker counts; nobody else writes it. */
static uint32_t refs_add(struct conn_record *r, int by)
{
	uint32_t refs = r->refs + (uint32_t)by;

	__atomic_store_n(&r->refs, refs, __ATOMIC_RELAXED);
	return refs;
}

struct conn_record *conn_record_new(bool is_client, const uint8_t id[16])
{
	struct conn_record *r = mem_zalloc(sizeof(*r));

	if (!r)
		return NULL;
	r->refs = 1;
	r->is_client = is_client;
	memcpy(r->id, id, sizeof(r->id));
	return r;
}

struct conn_record *conn_record_get(struct conn_record *r)
{
	refs_add(r, 1);
	return r;
}

void conn_record_put(struct conn_record *r)
{
	if (!r || refs_add(r, -1))
		return;
	arena_fini(&r->arena);
	mem_free(r);
}

static int list_copy(struct arena *a, struct conn_list *to, const struct str *values, uint32_t count)
{
	struct conn_list fresh = { .count = count };

	if (count) {
		fresh.at = arena_alloc(a, count * sizeof(*fresh.at));
		if (!fresh.at)
			return -ENOMEM;
	}
	for (uint32_t i = 0; i < count; i++) {
		fresh.at[i] = arena_copy(a, values[i]);
		if (arena_copy_failed(fresh.at[i]))
			return -ENOMEM;
	}
	*to = fresh;
	return 0;
}

int conn_record_edit(struct conn_record **r)
{
	const struct conn_record *from = *r;
	struct conn_record *copy;
	int ret = 0;

	if (from->refs == 1) {
		(*r)->edition++;
		return 0;
	}
	copy = mem_alloc(sizeof(*copy));
	if (!copy)
		return -ENOMEM;
	*copy = *from;
	copy->refs = 1;
	copy->edition++;
	copy->arena = (struct arena){ 0 };

	struct str *const texts[] = {
		&copy->odd_id,          &copy->peername.host,  &copy->sockname.host, &copy->error,
		&copy->alpn,            &copy->cipher,         &copy->tls_version,   &copy->sni,
		&copy->mitmcert,        &copy->proxy_mode,     &copy->client_hello,  &copy->process.comm,
		&copy->process.exe,     &copy->process.cgroup, &copy->address.host,  &copy->via_scheme,
		&copy->via.host,        &copy->server_hello,
	};
	struct conn_list *const lists[] = { &copy->certificates, &copy->alpn_offers, &copy->cipher_list };

	for (size_t i = 0; i < ARRAY_SIZE(texts) && ret == 0; i++) {
		*texts[i] = arena_copy(&copy->arena, *texts[i]);
		ret = arena_copy_failed(*texts[i]) ? -ENOMEM : 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(lists) && ret == 0; i++)
		ret = list_copy(&copy->arena, lists[i], lists[i]->at, lists[i]->count);
	if (ret < 0) {
		conn_record_put(copy);
		return ret;
	}
	conn_record_put(*r);
	*r = copy;
	return 0;
}

int conn_record_text(struct conn_record *r, struct str *field, struct str value)
{
	struct str copy = arena_copy(&r->arena, value);

	if (arena_copy_failed(copy))
		return -ENOMEM;
	*field = copy;
	return 0;
}

int conn_record_list(struct conn_record *r, struct conn_list *field, const struct str *values, uint32_t count)
{
	return list_copy(&r->arena, field, values, count);
}

int conn_record_endpoint(struct conn_record *r, struct endpoint *field, const struct addr *a)
{
	char text[ADDR_TEXT_MAX];
	int ret;

	if (a->family == 0) {
		*field = (struct endpoint){ 0 };
		return 0;
	}
	ret = conn_record_text(r, &field->host, str_of(addr_ip_text(a, text)));
	if (ret == 0)
		field->port = a->port;
	return ret;
}
