/* SPDX-License-Identifier: MIT */
/* What stands above a layer that is never the top: it passes events on. */
#pragma once

#include "core/layer.h"
#include "playbook.h"

struct stand {
	struct layer base;
	struct layer *child;         /* the layer of the test; freed with this */
};

static void stand_handle(struct layer *l, const struct event *ev)
{
	layer_event(container_of(l, struct stand, base)->child, ev);
}

static void stand_free(struct layer *l)
{
	layer_free(container_of(l, struct stand, base)->child);
	layer_fini(l);
}

/* Returns the top layer. */
static struct layer *stand_init(struct stand *s, struct playbook *pb)
{
	static const struct layer_ops ops = { .name = "stand", .handle = stand_handle, .free = stand_free };

	layer_init(&s->base, &ops, NULL, &pb->sink, &pb->env);
	return &s->base;
}
