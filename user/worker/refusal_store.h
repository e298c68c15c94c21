/* SPDX-License-Identifier: MIT */
/* What all workers remember of failed interceptions: one table with a lock, taken only while there is something in it
 * to find, or something new. */
#pragma once

#include "layers/tls_refusals.h"

struct refusal_store;

/* NULL when memory is out. */
struct refusal_store *refusal_store_new(void) __must_check;
/* After all workers. */
void refusal_store_free(struct refusal_store *store);

struct tls_refusal_source *refusal_store_source(struct refusal_store *store);
