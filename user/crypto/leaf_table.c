/* SPDX-License-Identifier: MIT */
/* A sorted array of names: few, built when options change, searched before something is minted. */
#include "crypto/leaf_table.h"

#include <errno.h>

#include "base/mem.h"
#include "crypto/cert.h"

struct row {
	struct str name;             /* lower case, owned */
	struct leaf *leaf;
};

struct leaf_table {
	struct row *rows;
	uint32_t count, cap;
};

struct leaf_table *leaf_table_new(void)
{
	return mem_zalloc(sizeof(struct leaf_table));
}

void leaf_table_free(struct leaf_table *table)
{
	if (!table)
		return;
	for (uint32_t i = 0; i < table->count; i++) {
		mem_free((void *)table->rows[i].name.ptr);
		leaf_put(table->rows[i].leaf);
	}
	mem_free(table->rows);
	mem_free(table);
}

/* Against a lower-case row; prefix stands before name. */
static int compare(struct str row, struct str prefix, struct str name)
{
	size_t len = prefix.len + name.len;

	for (size_t i = 0; i < row.len && i < len; i++) {
		char c = i < prefix.len ? prefix.ptr[i] : ascii_lower(name.ptr[i - prefix.len]);

		if (c != row.ptr[i])
			return (uint8_t)row.ptr[i] < (uint8_t)c ? -1 : 1;
	}
	return row.len == len ? 0 : row.len < len ? -1 : 1;
}

/* Where the name is, or where it belongs. */
static uint32_t search(const struct leaf_table *table, struct str prefix, struct str name, bool *found)
{
	uint32_t low = 0, high = table->count;

	*found = false;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		int order = compare(table->rows[middle].name, prefix, name);

		if (order == 0) {
			*found = true;
			return middle;
		}
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static int add_row(struct leaf_table *table, struct str name, struct leaf *leaf)
{
	bool found;
	uint32_t at = search(table, STR(""), name, &found);
	char *copy;

	if (found) {
		leaf_get(leaf);
		leaf_put(table->rows[at].leaf);
		table->rows[at].leaf = leaf;
		return 0;
	}
	if (table->count == table->cap) {
		uint32_t cap = table->cap ? table->cap * 2 : 16;
		struct row *grown = mem_realloc(table->rows, cap * sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		table->rows = grown;
		table->cap = cap;
	}
	copy = mem_strndup(name.ptr, name.len);
	if (!copy)
		return -ENOMEM;
	for (size_t i = 0; i < name.len; i++)
		copy[i] = ascii_lower(copy[i]);
	memmove(table->rows + at + 1, table->rows + at, (table->count - at) * sizeof(*table->rows));
	table->rows[at] = (struct row){ { copy, name.len }, leaf_get(leaf) };
	table->count++;
	return 0;
}

static int add_alt_names(struct leaf_table *table, struct leaf *leaf, GENERAL_NAMES *names)
{
	int ret = 0;

	for (int i = 0; ret == 0 && i < sk_GENERAL_NAME_num(names); i++) {
		struct strbuf text = { 0 };

		if (leaf_spec_name_text(sk_GENERAL_NAME_value(names, i), &text) && text.len)
			ret = add_row(table, (struct str){ text.ptr, text.len }, leaf);
		if (text.failed)
			ret = -ENOMEM;
		strbuf_fini(&text);
	}
	return ret;
}

int leaf_table_add(struct leaf_table *table, struct leaf *leaf, struct str pattern)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(leaf->cert, NID_subject_alt_name, NULL, NULL);
	struct strbuf cn = { 0 };
	int ret = 0;

	if (cert_subject(leaf->cert, NID_commonName, &cn) && cn.len)
		ret = add_row(table, (struct str){ cn.ptr, cn.len }, leaf);
	if (ret == 0 && names)
		ret = add_alt_names(table, leaf, names);
	if (ret == 0 && pattern.len)
		ret = add_row(table, pattern, leaf);
	strbuf_fini(&cn);
	GENERAL_NAMES_free(names);
	return ret;
}

static struct leaf *find_name(const struct leaf_table *table, struct str prefix, struct str name)
{
	bool found;
	uint32_t at = search(table, prefix, name, &found);

	return found ? table->rows[at].leaf : NULL;
}

static struct leaf *find_forms(const struct leaf_table *table, const GENERAL_NAME *name, struct str text)
{
	struct leaf *leaf = find_name(table, STR(""), text);

	if (name->type != GEN_DNS)
		return leaf;
	while (!leaf) {
		str_cut(&text, '.');
		if (!text.ptr)
			break;
		leaf = find_name(table, STR("*."), text);
	}
	return leaf;
}

struct leaf *leaf_table_find(const struct leaf_table *table, GENERAL_NAMES *names)
{
	struct leaf *leaf = NULL;

	if (table->count == 0)
		return NULL;
	for (int i = 0; !leaf && i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
		struct strbuf text = { 0 };

		if (leaf_spec_name_text(name, &text) && text.ptr)
			leaf = find_forms(table, name, (struct str){ text.ptr, text.len });
		strbuf_fini(&text);
	}
	return leaf ? leaf : find_name(table, STR(""), STR("*"));
}
