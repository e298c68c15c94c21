/* SPDX-License-Identifier: MIT */
/* The resolver of the simulated network: a table of names, and questions that are answered late, or not at all. */
#include "io/sim_resolve.h"

#include <errno.h>
#include <stdlib.h>

#include "base/mem.h"

#define SLOW_NAME_NS 20000000000ull

struct sim_name {
	struct sim_name *next;
	char *name;
	uint32_t count;
	struct addr addrs[IO_RESOLVE_MAX];
};

struct sim_question {
	struct list node;                /* sim.questions, then sim.answers */
	int64_t due_ns;
	io_resolved_fn fn;
	void *owner;
	uint32_t count;
	struct addr addrs[IO_RESOLVE_MAX];
	const char *text;
};

void sim_name(struct io *io, const char *name, const struct addr *addrs, uint32_t count)
{
	struct sim *sim = sim_of(io);
	struct sim_name *n = sim_alloc(sizeof(*n));

	n->name = strdup(name);
	BUG_ON(!n->name || count > IO_RESOLVE_MAX);
	n->count = count;
	memcpy(n->addrs, addrs, count * sizeof(*addrs));
	n->next = sim->names;
	sim->names = n;
}

static void look_up(struct sim *sim, struct sim_question *q, struct str host)
{
	q->due_ns = sim->io.now_ns + sim_latency(sim);
	if (sim_chance(sim, sim->faults.resolve_slow))
		q->due_ns += (int64_t)sim_below(sim, SLOW_NAME_NS);
	if (sim_chance(sim, sim->faults.resolve_fail)) {
		q->text = "Temporary failure in name resolution";
		return;
	}
	for (struct sim_name *n = sim->names; n; n = n->next) {
		if (!str_eq_nocase(host, str_of(n->name)))
			continue;
		q->count = n->count;
		memcpy(q->addrs, n->addrs, n->count * sizeof(*n->addrs));
		return;
	}
	q->text = "Name or service not known";
}

int sim_resolve(struct io *io, struct str host, uint16_t port, io_resolved_fn fn, void *owner)
{
	struct sim *sim = sim_of(io);
	struct sim_question *q = mem_zalloc(sizeof(*q));

	if (!q)
		return -ENOMEM;
	q->fn = fn;
	q->owner = owner;
	q->due_ns = io->now_ns;
	if (addr_parse(&q->addrs[0], host))
		q->count = 1;
	else
		look_up(sim, q, host);
	for (uint32_t i = 0; i < q->count; i++)
		q->addrs[i].port = port;
	list_add_tail(&sim->questions, &q->node);
	/* So that time goes on to it. */
	sim_schedule(sim, (struct sim_event){ .at_ns = q->due_ns, .kind = SIM_ANSWER, .n = q->count });
	return 0;
}

void sim_resolve_cancel(struct io *io, void *owner)
{
	struct sim *sim = sim_of(io);
	struct list *lists[] = { &sim->questions, &sim->answers };

	for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
		list_for_each(lists[i], at) {
			struct sim_question *q = list_entry(at, struct sim_question, node);

			if (owner && q->owner != owner)
				continue;
			list_del(&q->node);
			mem_free(q);
		}
	}
}

void sim_answers_run(struct sim *sim)
{
	list_for_each(&sim->questions, at) {
		struct sim_question *q = list_entry(at, struct sim_question, node);

		if (q->due_ns > sim->io.now_ns)
			continue;
		list_del(&q->node);
		list_add_tail(&sim->answers, &q->node);
	}
	while (!list_empty(&sim->answers)) {
		struct sim_question *q = list_entry(list_first(&sim->answers), struct sim_question, node);

		list_del(&q->node);
		q->fn(q->owner, q->addrs, q->count, q->count ? NULL : q->text);
		mem_free(q);
	}
}

void sim_names_free(struct sim *sim)
{
	sim_resolve_cancel(&sim->io, NULL);
	while (sim->names) {
		struct sim_name *next = sim->names->next;

		free(sim->names->name);
		free(sim->names);
		sim->names = next;
	}
}
