/* SPDX-License-Identifier: MIT */
/*
 * The captured bytes of all workers that are not kept in memory: one unlinked file, cut into segments that bodies come
 * and go in, and one thread that writes to it, because write(2) to a file may block for as long as the disk likes. Each
 * worker has a client. The file never grows beyond its limit, what is freed is given back to the file system, and
 * nothing of it survives the program.
 */
#pragma once

#include "base/err.h"
#include "flow/spill.h"

struct spill_store;
struct spill_client;

/*
 * folder: where the file is; NULL: $TMPDIR, or else /var/tmp, or else /tmp. bytes_max: all that is in it at a time.
 * Returns 0, or -errno with a sentence. The thread starts with the first byte to be written.
 */
int spill_store_new(struct spill_store **out, const char *folder, uint64_t bytes_max, struct err *e) __must_check;

/* After the last client and the last reader are gone. */
void spill_store_free(struct spill_store *store);

/* wake(owner) is called from the writing thread when something has been written. NULL when memory is out. */
struct spill_client *spill_client_new(struct spill_store *store, void (*wake)(void *owner), void *owner) __must_check;

/* While spill_client_busy() is false. */
void spill_client_free(struct spill_client *c);

/* An empty spill; NULL when memory is out. Thread: the client's, as for the three below. */
struct spill *spill_client_open(struct spill_client *c) __must_check;

/* Puts the bytes that have been written, and frees spills whose room was given back. */
void spill_client_collect(struct spill_client *c);

/* Whether something is on its way to the thread or back, and has yet to be collected. */
bool spill_client_busy(const struct spill_client *c);

/* Bytes that spills have in the file now. Thread: any. */
uint64_t spill_store_bytes(struct spill_store *store);
