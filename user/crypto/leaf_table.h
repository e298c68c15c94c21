/* SPDX-License-Identifier: MIT */
/* The user's own certificates (option `certs`), by the names they are for. */
#pragma once

#include "crypto/leaf_spec.h"

struct leaf_table;

struct leaf_table *leaf_table_new(void) __must_check;
void leaf_table_free(struct leaf_table *table);

/*
 * Registers a leaf (a reference of its own is taken) under its CN, each of its subjectAltNames, and pattern: a name,
 * "*.name" or "*". What is registered later wins. 0 or -ENOMEM.
 */
int leaf_table_add(struct leaf_table *table, struct leaf *leaf, struct str pattern) __must_check;

/*
 * The leaf for the first of the names that has one: each name itself, then its wildcards ("*.b.c" and "*.c" for
 * "a.b.c"); at last "*". Letters match in either case. Borrowed or NULL.
 */
struct leaf *leaf_table_find(const struct leaf_table *table, GENERAL_NAMES *names);
