/* SPDX-License-Identifier: MIT */
#include "app/findings.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "app/explain.h"

static struct finding *add(struct findings *out, const char *id, enum probe_state state)
{
	struct finding *f = &out->at[out->count];

	BUG_ON(out->count == FINDINGS_MAX);
	out->count++;
	*f = (struct finding){ .id = id, .state = state };
	return f;
}

static void __printf(2, 3) say(struct finding *f, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(f->text, sizeof(f->text), fmt, ap);
	va_end(ap);
}

static void __printf(2, 3) advise(struct finding *f, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(f->todo, sizeof(f->todo), fmt, ap);
	va_end(ap);
}

static const char *plural(uint32_t count)
{
	return count == 1 ? "" : "s";
}

/*
 * The process in a command that is to be copied into a shell: its name, unless that would not be one word there. Who
 * runs may be called "x;reboot".
 */
static const char *word_of(const struct target *t, char number[static 16])
{
	size_t len = strspn(t->process.comm, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+.-");

	if (len && !t->process.comm[len] && t->process.comm[0] != '-' &&
	    t->process.comm[strspn(t->process.comm, "0123456789")])
		return t->process.comm;
	snprintf(number, 16, "%u", t->process.pid);
	return number;
}

/* --- who could take it ------------------------------------------------------------------------------------------ */

static bool find_proxy(struct findings *out, const struct findings_facts *x)
{
	const struct explain_answer *a = x->answer;
	struct finding *f;
	char number[16];

	if (!a) {
		f = add(out, "proxy", PROBE_MISSING);
		say(f, "%s", x->nobody->text);
		if (x->nobody->code == -ESRCH)
			advise(f, "Start one: mitm-bpf --intercept %s; or ask what a spec would do: mitm-bpf doctor %u "
			       "--intercept SPEC.", word_of(x->target, number), x->target->process.pid);
		else if (x->nobody->code != -EINVAL)
			advise(f, "Run doctor as the user who runs it, or as root.");
		return false;
	}
	f = add(out, "proxy", a->local ? PROBE_OK : PROBE_MISSING);
	if (!a->proxy) {
		say(f, "This is what would be with --intercept %s: %s", a->modes, a->spec);
	} else if (a->local) {
		say(f, "The mitm-bpf with the process id %ld was asked; its mode is %s.", a->proxy, a->modes);
	} else {
		say(f, "The mitm-bpf with the process id %ld intercepts no processes: its mode is %s.", a->proxy,
		    a->modes);
		advise(f, "Start it with --intercept %s.", word_of(x->target, number));
	}
	return a->local;
}

static bool find_attached(struct findings *out, const struct explain_answer *a)
{
	struct finding *f;

	if (!a->proxy || a->steering.attached)
		return true;
	f = add(out, "attached", PROBE_MISSING);
	say(f, "Its local mode is stopped: no new connection of any process is taken.");
	advise(f, "Start it again: mitm-bpf set --pid %ld server=true, and a local mode.", a->proxy);
	return false;
}

/* --- the policy ------------------------------------------------------------------------------------------------- */

static void say_selected(struct finding *f, const struct explain_answer *a)
{
	if (!a->rule[0])
		say(f, "It is selected: no rule is about it, and the spec takes all others.");
	else if (a->inherited)
		say(f, "It is selected by the rule %s, which is about one of its ancestors.", a->rule);
	else
		say(f, "It is selected by the rule %s.", a->rule);
}

static void say_left_out(struct finding *f, const struct findings_facts *x)
{
	const struct explain_answer *a = x->answer;
	char number[16];

	if (!a->rule[0])
		say(f, "It is not selected: no rule is about it.");
	else if (a->inherited)
		say(f, "It is left out by the rule %s, which is about one of its ancestors.", a->rule);
	else
		say(f, "It is left out by the rule %s.", a->rule);
	if (a->rule[0])
		advise(f, "Put a rule that selects it behind that one: the last that matches decides.");
	else if (a->proxy)
		advise(f, "Add it: mitm-bpf set --pid %ld mode=local:SPEC,%s.", a->proxy, word_of(x->target, number));
	else
		advise(f, "Add it: --intercept SPEC,%s.", word_of(x->target, number));
}

static bool find_rule(struct findings *out, const struct findings_facts *x)
{
	const struct explain_answer *a = x->answer;
	struct finding *f;

	if (!a->listed) {
		f = add(out, "rule", PROBE_DEGRADED);
		say(f, "Whether it is selected cannot be told: %s.", a->why_not[0] ? a->why_not : "it has just ended");
		advise(f, "Look at the flows of a connection that it makes now.");
		return true;
	}
	switch (a->verdict) {
	case STEER_VERDICT_SELECTED:
		say_selected(add(out, "rule", PROBE_OK), a);
		return true;
	case STEER_VERDICT_NOT:
		say_left_out(add(out, "rule", PROBE_MISSING), x);
		return false;
	case STEER_VERDICT_OUTSIDE:
		f = add(out, "cgroup", PROBE_MISSING);
		say(f, "It is in the cgroup %s, and only %s, with what is below, is looked at.",
		    x->cgroup[0] ? x->cgroup : "/", a->group[0] ? a->group : "/");
		advise(f, "Leave --cgroup away, or name a group that holds this one.");
		return false;
	case STEER_VERDICT_OWN:
		f = add(out, "rule", PROBE_MISSING);
		say(f, "It is mitm-bpf itself, or was started by it: these are never taken.");
		return false;
	}
	return false;
}

static void find_thread(struct findings *out, const struct findings_facts *x)
{
	const struct explain_answer *a = x->answer;
	struct finding *f;

	if (!a->listed || !a->odd_tid)
		return;
	f = add(out, "thread", PROBE_DEGRADED);
	if (a->verdict == STEER_VERDICT_SELECTED) {
		say(f, "Its thread %u is called %s, and what that connects is left out by a rule about this name.",
		    a->odd_tid, a->odd_comm);
		advise(f, "Narrow that rule: comm:NAME is about whole names.");
	} else {
		say(f, "Its thread %u is called %s, and what that connects is taken, unlike the rest.", a->odd_tid,
		    a->odd_comm);
		advise(f, "Name the whole process: its name is %s, its number %u.", x->target->process.comm,
		       x->target->process.pid);
	}
}

/* --- where it is ------------------------------------------------------------------------------------------------ */

/* Of another one than the proxy's. False: its connections go direct. */
static bool find_other_network(struct findings *out, const struct findings_facts *x)
{
	const struct explain_answer *a = x->answer;
	struct finding *f;

	if (!a->proxy || a->steering.tcp4 || a->steering.tcp6) {
		say(add(out, "network", PROBE_OK), "It is in another network namespace, where mitm-bpf %s, too.",
		    a->proxy ? "listens" : "would listen");
		return true;
	}
	f = add(out, "network", a->netns_why[0] ? PROBE_MISSING : PROBE_DEGRADED);
	if (a->netns_why[0]) {
		say(f, "It is in another network namespace, where mitm-bpf does not listen: %s.", a->netns_why);
		advise(f, "Mend that, for example by ip link set lo up in there.");
		return false;
	}
	say(f, "It is in another network namespace, where mitm-bpf will listen when a selected program starts or "
	       "connects there; until then connections go direct.");
	return true;
}

static bool find_network(struct findings *out, const struct findings_facts *x)
{
	const struct explain_answer *a = x->answer;
	const struct target *t = x->target;
	struct finding *f;

	if (t->there[TARGET_NET] == TARGET_OTHER && (t->netns || !a->proxy))
		return find_other_network(out, x);
	if (t->there[TARGET_NET] != TARGET_SAME) {
		f = add(out, "network", PROBE_DEGRADED);
		say(f, "Its network namespace cannot be looked into: %s.",
		    t->netns_error ? strerror(t->netns_error) : "/proc does not tell");
		advise(f, "Run doctor as root (CAP_SYS_ADMIN and CAP_SYS_PTRACE).");
		return true;
	}
	if (!a->proxy || a->steering.tcp4 || a->steering.tcp6) {
		say(add(out, "network", PROBE_OK), "It is in mitm-bpf's network namespace.");
		return true;
	}
	say(add(out, "network", PROBE_MISSING), "It is in mitm-bpf's network namespace, where nobody listens for it.");
	return false;
}

static void find_pids(struct findings *out, const struct target *t)
{
	struct finding *f;

	if (t->there[TARGET_PIDS] != TARGET_OTHER)
		return;
	f = add(out, "pids", PROBE_OK);
	say(f, "It is in another pid namespace, where it has the number %u; rules, flows and doctor know it as %u.",
	    t->inner_pid, t->process.pid);
}

static void find_files(struct findings *out, const struct findings_facts *x)
{
	const struct target *t = x->target;
	struct finding *f;

	if (t->there[TARGET_MOUNT] != TARGET_OTHER)
		return;
	f = add(out, "files", PROBE_OK);
	if (x->trust_copies) {
		say(f, "It has files of its own (a mount namespace); %u of its trust stores hold our CA.",
		    x->trust_copies);
		return;
	}
	say(f, "It has files of its own (a mount namespace): that the host trusts our CA does not count there.");
	advise(f, "Let it trust the CA: mitm-bpf trust %u.", t->process.pid);
}

/* Ours run as well, unless theirs were there first and alone; but they may change where a connection goes. */
static void find_hooks(struct findings *out, const struct findings_facts *x)
{
	const struct explain_answer *a = x->answer;
	const char *name = x->hook.program_name[0] ? x->hook.program_name : "no name";
	bool refused = !a->proxy && x->hook.exclusive;
	struct finding *f;

	if (!x->hook_count)
		return;
	f = add(out, "hooks", refused ? PROBE_MISSING : PROBE_DEGRADED);
	if (refused)
		say(f, "Another product's BPF program (%u, %s) owns a connect hook of its cgroup, or one above, alone: "
		       "ours would be refused.", x->hook.program_id, name);
	else
		say(f, "Another product's BPF program (%u, %s) is on a connect hook of its cgroup, or one above, too: "
		       "it can change where connections go.", x->hook.program_id, name);
	advise(f, "See whose it is: bpftool prog show id %u, bpftool cgroup tree.", x->hook.program_id);
}

/* --- what it did ------------------------------------------------------------------------------------------------ */

/* Why a connection went direct, as the end of a sentence, and what to do. */
static const struct {
	const char *why, *todo;
} directs[STEER_REASONS] = {
	[STEER_DIRECT_MARK] = { "its socket bears mitm-bpf's mark, as upstream connections do", NULL },
	[STEER_DIRECT_LOCAL] = { "it leads to loopback, link-local or multicast, which is not looked at",
				 "For loopback: start mitm-bpf with --set steer_loopback=true." },
	[STEER_DIRECT_OWN_PORT] = { "it leads to the proxy's own port", "Without a proxy set, it would be taken." },
	[STEER_DIRECT_NO_ENDPOINT] = { "nobody of ours listened in its network namespace for this kind of address",
				       NULL },
	[STEER_DIRECT_NO_ROUTE] = { "there is no route to it, and what is unreachable stays so",
				    "Look at ip route get ADDRESS." },
	[STEER_DIRECT_FOREIGN] = { "its socket is bound to an address that cannot reach us",
				   "Let the program bind to no address, or to one of this machine's." },
	[STEER_DIRECT_NO_MEMORY] = { "the kernel had no memory to remember where it leads",
				     "Look at the memory limits." },
	[STEER_DIRECT_BYPASS] = { "its address is one of those that ignore_hosts leaves alone",
				  "Look at --ignore-hosts." },
	[STEER_DIRECT_SPARED] = { "its TLS could not be intercepted before, so that it is left alone for a while",
				  "Look at the option tls_passthrough_seconds." },
	[STEER_DIRECT_STALLED] = { "mitm-bpf stood still, or was overrun, at that moment", "Look at its log." },
	[STEER_REFUSED] = { "it was refused, as --fail-closed wants it", "Look at mitm-bpf's log." },
	[STEER_DIRECT_BOUND] = { "its socket is bound to a device, and that could not be lifted", NULL },
};

static void write_age(char out[static 40], uint64_t ns)
{
	uint64_t s = ns / 1000000000;

	if (s < 120)
		snprintf(out, 40, "%llu s", (unsigned long long)s);
	else if (s < 7200)
		snprintf(out, 40, "%llu min", (unsigned long long)s / 60);
	else
		snprintf(out, 40, "%llu h", (unsigned long long)s / 3600);
}

static void find_last(struct findings *out, const struct findings_facts *x)
{
	const struct steer_explained *s = &x->answer->steering;
	bool steered = s->reason == STEER_STEERED;
	char age[40], dst[ADDR_TEXT_MAX];
	const char *why;
	struct finding *f;

	/* What is not selected is not noted. */
	if (!x->answer->proxy || !s->attached || (!s->known && x->answer->verdict != STEER_VERDICT_SELECTED))
		return;
	if (!s->known) {
		f = add(out, "last", PROBE_OK);
		say(f, "It has not connected anywhere by TCP since mitm-bpf began to look, or too long ago to be "
		       "known.");
		return;
	}
	write_age(age, s->ago_ns);
	addr_text(&s->dst, dst);
	why = directs[s->reason].why ? directs[s->reason].why : steer_reason_name(s->reason);
	f = add(out, "last", steered ? PROBE_OK : PROBE_DEGRADED);
	say(f, "Its last connection, %s ago, to %s, was %s%s; %u taken and %u not, in all.", age, dst,
	    steered ? "taken" : "not taken: ", steered ? "" : why, s->steered, s->direct);
	if (!steered && directs[s->reason].todo)
		advise(f, "%s", directs[s->reason].todo);
}

static void find_connections(struct findings *out, const struct findings_facts *x)
{
	const struct target_sockets *s = &x->target->sockets;
	char peer[ADDR_TEXT_MAX];
	struct finding *f;

	if (s->past > s->foreign) {
		f = add(out, "connections", PROBE_DEGRADED);
		say(f, "%u open connection%s of its lead%s past us, for example to %s: %s made before mitm-bpf looked "
		       "at it, or left alone then.", s->past - s->foreign, plural(s->past - s->foreign),
		    s->past - s->foreign == 1 ? "s" : "", addr_text(&s->past_peer, peer),
		    s->past - s->foreign == 1 ? "it was" : "they were");
		advise(f, "Restart the program, or mitm-bpf with --reset-existing, so that it dials again.");
	}
	if (s->foreign) {
		f = add(out, "sockets-cgroup", PROBE_DEGRADED);
		say(f, "%u open connection%s of its, for example to %s, belong%s to a cgroup outside of what is looked "
		       "at: a socket stays with the group that its maker was in.", s->foreign, plural(s->foreign),
		    addr_text(&s->foreign_peer, peer), s->foreign == 1 ? "s" : "");
		advise(f, "Start the program in its group, or attach to a group that holds both (--cgroup).");
	}
}

static void find_udp(struct findings *out, const struct target_sockets *s)
{
	char peer[ADDR_TEXT_MAX];
	struct finding *f;

	if (s->quic) {
		f = add(out, "quic", PROBE_DEGRADED);
		say(f, "It talks QUIC (HTTP/3): %u UDP socket%s lead%s past mitm-bpf to port 443, for example to %s, "
		       "because they are older, or UDP to that port is not taken.", s->quic, plural(s->quic),
		    s->quic == 1 ? "s" : "", addr_text(&s->quic_peer, peer));
		advise(f, "--block-quic refuses new ones, so that it falls back to TCP; what is open already goes on "
			  "until the program closes it.");
	}
	if (s->udp_taken) {
		f = add(out, "udp", PROBE_OK);
		say(f, "%u of its UDP sockets lead%s to mitm-bpf: what is sent is recorded as it is, and QUIC (HTTP/3) "
		       "stays encrypted.", s->udp_taken, s->udp_taken == 1 ? "s" : "");
		advise(f, "To see what is in QUIC: --block-quic, which makes programs fall back to TCP.");
	}
}

static void find_sockets(struct findings *out, const struct findings_facts *x)
{
	const struct target_sockets *s = &x->target->sockets;
	struct finding *f;

	if (s->unknown) {
		f = add(out, "sockets", PROBE_DEGRADED);
		say(f, "Its open sockets cannot be read.");
		advise(f, "Run doctor as root (CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH and CAP_SYS_ADMIN).");
		return;
	}
	find_connections(out, x);
	find_udp(out, s);
	if (s->unixes && !s->tcp && !s->udp) {
		f = add(out, "unix", PROBE_DEGRADED);
		say(f, "It has %u Unix socket%s and no others now: if it talks to the network, another process does "
		       "that for it.", s->unixes, plural(s->unixes));
		advise(f, "Find that one: ss --unix --processes; and intercept it.");
	}
}

/* --- TLS -------------------------------------------------------------------------------------------------------- */

static void find_tls(struct findings *out, const struct findings_facts *x)
{
	const struct explain_answer *a = x->answer;
	const struct refusal_met *met = &a->refusals[0];
	const struct target *t = x->target;
	char age[40];
	struct finding *f;

	if (!a->refusal_count)
		return;
	write_age(age, (uint64_t)met->at_ns);
	f = add(out, "tls", PROBE_DEGRADED);
	say(f, "It does not trust our CA: it refused our certificate for %s %u time%s, last %s ago (%s)%s.",
	    met->host[0] ? met->host : "a host", met->count, plural(met->count), age, met->why,
	    a->passthrough ? "; since then it is relayed untouched" : "");
	if (t->there[TARGET_MOUNT] == TARGET_OTHER)
		advise(f, "mitm-bpf trust %u, and restart it if it has read its authorities already.", t->process.pid);
	else
		advise(f, "Start it by mitm-bpf run -- COMMAND, or let it trust mitmproxy-ca-cert.pem.");
	if (t->tls_library || !t->is_static)
		return;
	f = add(out, "pinned", PROBE_DEGRADED);
	say(f, "Its executable is static: TLS and maybe the authorities that it trusts are built into it, and the "
	       "system's stores may not count.");
	advise(f, "See its documentation for a setting (SSL_CERT_FILE is often heard); else let it pass: "
		  "--ignore-hosts, or --set tls_passthrough_failed=true.");
}

void findings_make(struct findings *out, const struct findings_facts *x)
{
	const struct target *t = x->target;
	bool seen;

	*out = (struct findings){ 0 };
	if (t->kernel_thread || t->ended) {
		say(add(out, "target", PROBE_MISSING), "%s", t->kernel_thread ?
		    "It is a thread of the kernel: no process of these has connections that can be taken." :
		    "It has ended, and only its parent has not noticed yet.");
		return;
	}
	seen = find_proxy(out, x);
	if (seen) {
		seen &= find_attached(out, x->answer);
		seen &= find_rule(out, x);
		find_thread(out, x);
		seen &= find_network(out, x);
		find_hooks(out, x);
		find_last(out, x);
	}
	if (x->answer)
		find_tls(out, x);
	find_sockets(out, x);
	find_files(out, x);
	find_pids(out, t);
	for (uint32_t i = 0; i < out->count; i++)
		seen &= out->at[i].state != PROBE_MISSING;
	out->taken = seen;
}
