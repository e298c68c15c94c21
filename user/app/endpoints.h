/* SPDX-License-Identifier: MIT */
/*
 * Where connections of other network namespaces arrive: sockets that listen there, one per worker and family, opened by
 * the steering's helper thread and served by the workers. Thread: master, unless said otherwise.
 */
#pragma once

#include "core/proxy_mode.h"
#include "steer/steer.h"
#include "worker/worker.h"

struct endpoints;

/* Lets steering take connections in other namespaces, and UDP. Returns 0 or -errno with a sentence. */
int endpoints_new(struct endpoints **out, struct steer *steer, bool udp, struct err *e) __must_check;
/* After steer_free(). NULL is fine. */
void endpoints_free(struct endpoints *ep);

/* Once, before steer_attach(): who serves, and as what. workers outlives ep. */
void endpoints_serve(struct endpoints *ep, struct worker *const *workers, uint32_t count,
		     const struct proxy_mode *mode);

/* The workers are about to end, and are asked for nothing any more. */
void endpoints_stop(struct endpoints *ep);

/* Local mode goes on as another mode: so does everything that is listened on for the one before. */
void endpoints_rename(struct endpoints *ep, const struct proxy_mode *mode);
