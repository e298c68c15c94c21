/* SPDX-License-Identifier: MIT */
/* What the I/O suite's tests are written with: the driver's side of connections, far ends, turns. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "io_suite.h"

#define TURN_NS   1000000
#define TURNS_MAX 20000

/* Set by io_suite_run(). */
extern const struct io_world *io_world;

/* The driver's side of one connection, and what it saw. */
struct end {
	struct io *io;
	struct sock *sock;
	bool connected, pause_on_data, close_on_data, echo, wrong;
	int connect_err, fins, errors, end_err, writables;
	size_t got;
};

struct server {
	struct io *io;
	struct listener *listener;
	struct addr at;
	struct end ends[2048];
	uint32_t count, refuse;
	int starved;
};

/* One accepted connection. */
struct pair {
	struct io *io;
	struct server *server;
	struct end *end;
	struct peer *peer;
};

/* Runs turns until cond holds; fails the test when it does not in time. */
#define RUN_UNTIL(io, cond)                                                                     \
	do {                                                                                    \
		for (int turn_ = 0; !(cond); turn_++) {                                         \
			if (turn_ == TURNS_MAX)                                                 \
				fail_msg("still waiting for: %s", #cond);                       \
			assert_int_equal((io)->ops->run((io), TURN_NS), 0);                     \
		}                                                                               \
	} while (0)

bool io_pattern_check(const uint8_t *bytes, size_t len, size_t at);
void io_pattern_fill(uint8_t *bytes, size_t len, size_t at);
void io_end_close(struct end *e, bool reset);
struct server *io_server_new(struct io *io);
void io_server_free(struct server *s);
void io_run_turns(struct io *io, int turns);
/* Stops the backend; whatever it held must be gone. */
void io_done(struct io *io);
void io_end_send(struct end *e, size_t len, size_t at);
/* Far end: sends len bytes of the pattern from at, running turns while it is full. */
void io_peer_send(struct io *io, struct peer *p, size_t len, size_t at);
/* Far end: reads what is there; returns 0 FIN, -errno, or the count so far. Checks the pattern. */
ssize_t io_peer_read_some(struct peer *p, size_t *got);
void io_peer_read(struct io *io, struct peer *p, size_t len, size_t *got);
/* What the far end sees last: 0 or -errno. Bytes before it are counted. */
ssize_t io_peer_end(struct io *io, struct peer *p, size_t *got);
struct pair io_pair_open(void);
void io_pair_close(struct pair *p);
extern const struct sock_events io_end_events;
