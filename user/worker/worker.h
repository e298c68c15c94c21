/* SPDX-License-Identifier: MIT */
/*
 * One thread with its own I/O, listeners, sessions and pools; it shares nothing with other workers but what is lent
 * here. Thread: worker_* are the master's (the thread that started it), unless said otherwise.
 */
#pragma once

#include "core/link.h"
#include "core/options.h"
#include "core/proxy_mode.h"
#include "crypto/leaf.h"
#include "io/io.h"
#include "layers/tls_env.h"
#include "worker/confine.h"

struct spill_store;
struct steer;
struct worker;

/*
 * fd: a listening (or bound datagram) socket of this worker alone (SO_REUSEPORT spreads clients); the worker owns it
 * from then on.
 */
struct worker_listener {
	int fd;
	bool udp;                        /* a datagram socket; of MODE_LOCAL: of steer/udp_endpoint.h */
	const struct proxy_mode *mode;   /* outlives the worker, also after its listeners were removed */
	struct addr at;                  /* the bound address */
	uint64_t netns;                  /* cookie of its network namespace; 0: the proxy's own */
};

struct worker_config {
	uint32_t index, count;           /* this worker, and how many there are */
	enum io_choice io;
	const struct options *options;   /* outlives the worker */
	const struct worker_listener *listeners; /* for worker_start() alone */
	uint32_t listener_count;
	uint64_t sockets_max;            /* accepting waits when more sessions could need more; 0: no limit */
	struct spill_store *spills;      /* for what does not stay in memory; NULL: nothing but memory */
	uint64_t body_memory_max;        /* bytes of one captured body that stay there */
	uint64_t open_max;               /* of all captures of this worker's open flows; 0: no limit */
	struct steer *steer;             /* NULL: no MODE_LOCAL */
	bool transparent;                /* it may have to send from addresses that are not ours: tc mode, UDP */
	uint32_t mark;                   /* SO_MARK of upstream sockets; 0: none */
	bool upstream_host;              /* upstream connections of other network namespaces are made in our own */
	struct leaf_source *leaves;
	X509_STORE *trust;
	uint64_t trust_id;
	const struct client_certs *client_certs; /* for servers that ask; NULL: none */
	EVP_PKEY *dhparam;
	struct tls_refusal_source *refusals;
	uint8_t ticket_keys[TLS_TICKET_KEYS_SIZE];
	int keylog_fd;                   /* opened for appending; -1: none */
	uint64_t notify_hooks, block_hooks, whole_hooks;  /* as in struct env */
	bool log_connections;            /* "client connect" and its kin */
	enum confine_answer confine;     /* to what workers never do */
};

/* Starts the thread. Returns 0 once it runs and listens; else -errno with e filled. config is copied, not its
 * pointees. */
int worker_start(struct worker **out, const struct worker_config *config, struct err *e) __must_check;

struct worker_link *worker_link(struct worker *w);

/*
 * While the worker runs: returns once it listens there too; takes over the descriptors, also when it fails with
 * -errno and a sentence.
 */
int worker_add_listeners(struct worker *w, const struct worker_listener *at, uint32_t count, struct err *e)
	__must_check;
/* Returns once it listens there no more. Sessions that came that way go on. The first is for the proxy's own network
 * namespace, the second for another. */
void worker_remove_listeners(struct worker *w, const struct proxy_mode *mode);
void worker_remove_netns(struct worker *w, uint64_t netns);
/* The same listeners, from now on those of another mode. */
void worker_rename_listeners(struct worker *w, const struct proxy_mode *from, const struct proxy_mode *to);

/* Accepts what is connected already, then no more; sessions finish what is in flight. worker_done() becomes true when
 * the last one has. */
void worker_drain(struct worker *w);
bool worker_done(struct worker *w);

/* Ends the sessions now; their flows are still reported. Then the thread only takes reports back. */
void worker_stop(struct worker *w);

/* After worker_stop(): true once every report came back and the thread is at its end; nothing more will be reported. */
bool worker_exited(struct worker *w);

/* After worker_stop(), once every report came back: joins and frees. */
void worker_free(struct worker *w);

enum worker_pulse {
	WORKER_ACCEPTS,
	WORKER_WAITS,                    /* it accepts nothing, because too much is open */
	WORKER_FULL                      /* and the queue of a listener has no room left: connect(2) would hang */
};

/*
 * How often its loop went round, at least once in a second unless it hangs; how many connections it accepted; what it
 * is up to. Counts wrap. Thread: any, between worker_start() and worker_stop().
 */
uint32_t worker_beats(const struct worker *w);
uint32_t worker_accepted(const struct worker *w);
enum worker_pulse worker_pulse(const struct worker *w);

struct worker_stats {
	uint64_t accepted, sessions, bytes_in, bytes_out;
	uint64_t unknown;                /* connections to a steering port that were not steered */
	uint64_t reports_delayed;        /* times that the ring to the master was full */
};

/* A recent copy. */
struct worker_stats worker_stats(struct worker *w);
