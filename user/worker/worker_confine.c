/* SPDX-License-Identifier: MIT */
/* What of its privileges a worker keeps. How threads are confined: confine.c. */
#include <errno.h>
#include <string.h>
#include <sys/capability.h>

#include "base/log.h"
#include "steer/steer.h"
#include "worker/confine.h"
#include "worker/worker_impl.h"

/* Looking into steering's tables needs CAP_BPF on kernels before 5.19 that keep BPF from users, and nowhere else. */
static uint64_t needed_for_steering(struct worker *w)
{
	const uint64_t mark = UINT64_C(1) << CAP_NET_ADMIN, tables = mark | UINT64_C(1) << CAP_BPF;

	if (!w->config.steer)
		return w->config.mark ? mark : 0;
	if (confine_try_capabilities(mark) == 0 && steer_may_look(w->config.steer))
		return mark;
	if (confine_try_capabilities(tables) == 0 && steer_may_look(w->config.steer))
		return tables;
	return tables | UINT64_C(1) << CAP_SYS_ADMIN;    /* which stood for CAP_BPF before there was one */
}

/* Who answers from others' addresses binds to them, and to any port. */
static uint64_t needed_capabilities(struct worker *w)
{
	const uint64_t bind = UINT64_C(1) << CAP_NET_ADMIN | UINT64_C(1) << CAP_NET_BIND_SERVICE;

	return needed_for_steering(w) | (w->config.transparent ? bind : 0);
}

/* Before the first byte of a stranger. What cannot be taken away is said; that is no reason not to work. */
void worker_confine(struct worker *w)
{
	struct err e = { 0 };
	int ret = confine_capabilities(needed_capabilities(w));

	if (ret < 0)
		log_line(LOG_WARN, "worker", "capabilities could not be dropped: %s", strerror(-ret));
	ret = confine_calls(w->config.confine, &e);
	if (ret < 0 && w->config.index == 0)
		log_line(ret == -ENOTSUP ? LOG_DEBUG : LOG_WARN, "worker", "workers run without a seccomp filter: %s",
			 e.text);
}

static void say_refused(void *owner, const char *text)
{
	worker_log(owner, LOG_WARN, text);
}

void worker_tell_refused(struct worker *w)
{
	confine_report(say_refused, w);
}
