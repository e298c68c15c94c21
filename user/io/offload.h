/* SPDX-License-Identifier: MIT */
/*
 * What worker threads may not do themselves once they are confined (worker/confine.h) is done for them by one thread
 * that is not: opening a file to read, starting a thread. Rare and short things only: whoever asks waits.
 * Thread: offload_start() and offload_stop() are the master's, the others any thread's.
 */
#pragma once

#include <pthread.h>

#include "base/err.h"

/*
 * enter: called in the thread when it begins; enter_other: in each that offload_thread() makes. NULL: nothing.
 * Until the start, and after the stop, everything is done in the calling thread. Returns 0 or -errno with a sentence.
 */
int offload_start(void (*enter)(void), void (*enter_other)(void), struct err *e) __must_check;
/* Once nobody asks any more. Without a start: nothing. */
void offload_stop(void);

/* Runs fn(arg) there and returns when it has. It must not ask again. */
void offload_call(void (*fn)(void *arg), void *arg);

/* A thread that has what this one has, whoever asks, and blocks all signals. attr: may be NULL. Returns 0 or -errno. */
int offload_thread(pthread_t *out, const pthread_attr_t *attr, void *(*main)(void *), void *arg) __must_check;
