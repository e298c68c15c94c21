/* SPDX-License-Identifier: MIT */
/*
 * The modes that run: the option `mode` parsed, checked, listening, and changed while the program runs (spec/modes 6 to
 * 8). Thread: master.
 */
#pragma once

#include "master/settings.h"
#include "worker/worker.h"

#define SERVERS_MAX 16

struct intercept_spec;
struct steer;
struct servers;

/* Parses and checks the modes of the settings, finds their addresses and ports, and loads steering if one of them
 * intercepts. Returns 0 or -errno with a sentence. */
int servers_new(struct servers **out, const struct settings *s, struct err *e) __must_check;
/* The workers are about to end. NULL is fine. */
void servers_stop(struct servers *s);
/* After the workers are gone. NULL is fine. */
void servers_free(struct servers *s);

/* NULL: no mode intercepts. */
struct steer *servers_steer(const struct servers *s);

/* Who is intercepted; NULL: nobody. */
const struct intercept_spec *servers_spec(const struct servers *s);

/* Readable when something has changed that modes depend on: servers_poll() sees to it. Valid until servers_free(). */
int servers_fd(const struct servers *s);
void servers_poll(struct servers *s);

/* Connections are brought here from elsewhere: of local processes, or forwarded. */
bool servers_steer_any(const struct servers *s);
bool servers_forward(const struct servers *s);
/* They are until then (CLOCK_MONOTONIC), and from the start for ever. Thread: any, while modes run. */
void servers_lease(struct servers *s, uint64_t until_ns);

/* No new connection is brought here any more from elsewhere; listeners and open connections stay. NULL is fine. */
void servers_detach_new(struct servers *s);

/* Where the first mode listens; 0: no mode does. */
uint16_t servers_port(const struct servers *s);

/* One more set of listening sockets, for one worker. out has room for SERVERS_MAX * LISTEN_ADDRESSES_MAX. Returns how
 * many, or -errno with a sentence. */
int servers_listen(struct servers *s, struct worker_listener *out, struct err *e) __must_check;

/* The workers listen: says so, and sends connections there. workers outlives s. Returns 0 or -errno with a sentence. */
int servers_run(struct servers *s, struct worker *const *workers, uint32_t count, struct err *e) __must_check;

/*
 * After servers_run(): what is not wanted any more is stopped, then what is new is started; the others do not notice,
 * nor do sessions. A new spec of local mode is the kernel's from the next connection on. Returns 0; -EINVAL, and then
 * nothing has changed; another -errno when a mode could not be started; always with a sentence.
 */
int servers_update(struct servers *s, const struct settings *fresh, struct err *e) __must_check;
