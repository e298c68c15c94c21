/* SPDX-License-Identifier: MIT */
/*
 * How a second mitm-bpf talks to one that runs: `mitm-bpf set mode=…`. A request is one packet on a Unix socket with
 * an abstract name, "mitm-bpf/PID", so nothing is left behind by whatever ends the program. Only root and the same user
 * are heard, which the kernel vouches for. Thread: master.
 */
#pragma once

#include "base/err.h"
#include "base/str.h"

#define CONTROL_SECONDS 30               /* as long as a person waits */

struct control;

/* words: at least one. What is put into reply is printed; when the answer is < 0, e is. */
typedef int (*control_fn)(void *owner, const char *const *words, size_t count, struct strbuf *reply, struct err *e);

/* Starts to listen. Returns 0 or -errno with a sentence. */
int control_open(struct control **out, control_fn serve, void *owner, struct err *e) __must_check;
void control_close(struct control *c);

/* A descriptor that becomes readable when there is something to serve; then call control_poll(). */
int control_fd(const struct control *c);
void control_poll(struct control *c);

/*
 * The other side. pid 0: the only one that runs. Waits at most so many seconds for its answer. Puts that into reply and
 * returns 0, or returns -errno with its sentence, or with one of our own: nobody runs, or more than one.
 */
int control_ask(long pid, const char *const *words, size_t count, int seconds, struct strbuf *reply, struct err *e)
	__must_check;
