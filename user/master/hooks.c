/* SPDX-License-Identifier: MIT */
/* Kept questions are few, and looked for by their flow's id: a list does. */
#include "master/hooks.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <time.h>

#include "base/list.h"
#include "base/mem.h"
#include "core/timer.h"
#include "flow/flow_edit.h"

struct hooks {
	struct hooks_world world;
	struct list kept, later;
	struct timers timers;
};

struct kept {
	struct list link;
	struct hooks *hooks;
	struct hook_question *question;
	struct timer resume, kill;
};

struct later {
	struct list link;
	struct hooks *hooks;
	struct addon *addon;
	void (*fire)(struct addon *a, void *arg);
	void *arg;
	struct timer timer;
};

static int64_t monotonic_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * INT64_C(1000000000) + ts.tv_nsec;
}

static struct stamp wall_stamp(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (struct stamp){ (double)ts.tv_sec + (double)ts.tv_nsec / 1e9, STAMP_FLOAT };
}

/* --- intercepted flows ---------------------------------------------------------------------------------------- */

static void answer(struct kept *k)
{
	struct hooks *h = k->hooks;
	struct hook_question *q = k->question;

	timer_cancel(&h->timers, &k->resume);
	timer_cancel(&h->timers, &k->kill);
	list_del(&k->link);
	mem_free(k);
	h->world.answer(h->world.owner, &q->base);
}

static void resume(struct kept *k)
{
	flow_resume(k->question->event.flow);
	answer(k);
}

static void kill_kept(struct kept *k)
{
	flow_kill(k->question->event.flow, wall_stamp());
	answer(k);
}

static void on_resume(struct timer *t)
{
	resume(container_of(t, struct kept, resume));
}

static void on_kill(struct timer *t)
{
	kill_kept(container_of(t, struct kept, kill));
}

static struct kept *find(struct hooks *h, const uint8_t flow[16])
{
	list_for_each(&h->kept, pos) {
		struct kept *k = list_entry(pos, struct kept, link);

		if (memcmp(k->question->event.flow->id, flow, 16) == 0)
			return k;
	}
	return NULL;
}

/* What cannot be resumed in time for want of memory is not kept at all. */
static int arm(struct hooks *h, struct timer *t, int64_t after_ns)
{
	return after_ns > 0 ? timer_arm(&h->timers, t, monotonic_ns() + after_ns) : 0;
}

void hooks_asked(struct hooks *h, struct hook_question *q, bool may_keep)
{
	struct flow *f = q->event.flow;
	struct kept *k = f && f->intercepted && may_keep ? mem_zalloc(sizeof(*k)) : NULL;

	if (!k) {
		if (f)
			flow_resume(f);
		h->world.answer(h->world.owner, &q->base);
		return;
	}
	f->kept = true;
	k->hooks = h;
	k->question = q;
	k->resume.fire = on_resume;
	k->kill.fire = on_kill;
	list_add_tail(&h->kept, &k->link);
	if (arm(h, &k->resume, q->event.resume_ns) < 0 || arm(h, &k->kill, q->event.kill_ns) < 0)
		resume(k);
}

int hooks_resume(struct hooks *h, const uint8_t flow[16])
{
	struct kept *k = find(h, flow);

	if (k)
		resume(k);
	return 0;
}

/* --- flows that are in no hook -------------------------------------------------------------------------------- */

int hooks_kill(struct hooks *h, const uint8_t flow[16])
{
	struct order order = { .kind = ORDER_KILL };
	struct kept *k = find(h, flow);

	if (k) {
		kill_kept(k);
		return 0;
	}
	memcpy(order.flow, flow, sizeof(order.flow));
	return h->world.order(h->world.owner, &order);
}

int hooks_inject(struct hooks *h, const uint8_t flow[16], bool to_client, bool text, const void *bytes, size_t len)
{
	struct order order = { .kind = ORDER_INJECT, .to_client = to_client, .text = text, .bytes = { bytes, len } };

	memcpy(order.flow, flow, sizeof(order.flow));
	return h->world.order(h->world.owner, &order);
}

/* --- later ---------------------------------------------------------------------------------------------------- */

static void drop(struct later *l)
{
	timer_cancel(&l->hooks->timers, &l->timer);
	list_del(&l->link);
	mem_free(l->arg);
	mem_free(l);
}

static void on_later(struct timer *t)
{
	struct later *l = container_of(t, struct later, timer);

	list_del(&l->link);
	l->fire(l->addon, l->arg);
	drop(l);
}

int hooks_later(struct hooks *h, struct addon *a, int64_t delay_ns, void (*fire)(struct addon *a, void *arg),
		void *arg)
{
	struct later *l = mem_zalloc(sizeof(*l));

	if (!l) {
		mem_free(arg);
		return -ENOMEM;
	}
	*l = (struct later){ .hooks = h, .addon = a, .fire = fire, .arg = arg, .timer = { .fire = on_later } };
	list_add_tail(&h->later, &l->link);
	if (timer_arm(&h->timers, &l->timer, monotonic_ns() + delay_ns) == 0)
		return 0;
	drop(l);
	return -ENOMEM;
}

/* --- the module ----------------------------------------------------------------------------------------------- */

void hooks_run(struct hooks *h)
{
	timers_run(&h->timers, monotonic_ns());
}

int hooks_wait_ms(const struct hooks *h)
{
	int64_t next = timers_next(&h->timers), left;

	if (next == INT64_MAX)
		return INT_MAX;
	left = next - monotonic_ns();
	return left <= 0 ? 0 : (int)MIN(left / 1000000 + 1, (int64_t)INT_MAX);
}

void hooks_release(struct hooks *h)
{
	while (!list_empty(&h->kept))
		resume(list_entry(list_first(&h->kept), struct kept, link));
	while (!list_empty(&h->later))
		drop(list_entry(list_first(&h->later), struct later, link));
}

struct hooks *hooks_new(const struct hooks_world *world)
{
	struct hooks *h = mem_zalloc(sizeof(*h));

	if (!h)
		return NULL;
	h->world = *world;
	list_init(&h->kept);
	list_init(&h->later);
	return h;
}

void hooks_free(struct hooks *h)
{
	if (!h)
		return;
	hooks_release(h);
	timers_fini(&h->timers);
	mem_free(h);
}
