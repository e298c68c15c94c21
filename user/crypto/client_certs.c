/* SPDX-License-Identifier: MIT */
/* A list: people have a handful, and it is only looked at when a server asks. */
#include "crypto/client_certs.h"

#include <errno.h>

#include "base/mem.h"

struct row {
	struct row *next;
	struct leaf *leaf;
	size_t len;
	char server[];
};

struct client_certs {
	struct leaf *all;
	struct row *rows;
};

struct client_certs *client_certs_new(void)
{
	return mem_zalloc(sizeof(struct client_certs));
}

void client_certs_free(struct client_certs *certs)
{
	if (!certs)
		return;
	for (struct row *row = certs->rows, *next; row; row = next) {
		next = row->next;
		leaf_put(row->leaf);
		mem_free(row);
	}
	leaf_put(certs->all);
	mem_free(certs);
}

int client_certs_add(struct client_certs *certs, struct str server, struct leaf *leaf)
{
	struct row *row;

	if (!server.ptr) {
		leaf_put(certs->all);
		certs->all = leaf_get(leaf);
		return 0;
	}
	row = mem_zalloc(sizeof(*row) + server.len);
	if (!row)
		return -ENOMEM;
	memcpy(row->server, server.ptr, server.len);
	row->len = server.len;
	row->leaf = leaf_get(leaf);
	row->next = certs->rows;
	certs->rows = row;
	return 0;
}

struct leaf *client_certs_find(const struct client_certs *certs, struct str server)
{
	if (!certs)
		return NULL;
	for (const struct row *row = certs->rows; row; row = row->next)
		if (str_eq_nocase((struct str){ row->server, row->len }, server))
			return row->leaf;
	return certs->all;
}
