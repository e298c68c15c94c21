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

#define REFUSALS_MET_MAX 256u        /* those longest ago go first */

/* Refusals of our certificate by one process for one host. */
struct refusal_met {
	uint32_t pid;                    /* 0: free */
	uint32_t count;
	int64_t at_ns;                   /* CLOCK_MONOTONIC of the last one */
	char host[128];                  /* cut at its end; "" = not known */
	char why[TLS_REFUSAL_WHY_MAX];   /* of the last one */
};

/* Copies those of a process, the last one first, up to max; returns how many. Thread: any. */
uint32_t refusal_store_met(struct refusal_store *store, uint32_t pid, struct refusal_met *out, uint32_t max);
