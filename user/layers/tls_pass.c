/* SPDX-License-Identifier: MIT */
/*
 * TLS that cannot be intercepted: programs that trust nobody but their own authority, servers that know their clients
 * by certificates. What failed is remembered by host and program, so that the next try is left alone and works.
 */
#include <stdio.h>

#include "core/conn.h"
#include "core/env.h"
#include "layers/bypass.h"
#include "layers/tcp.h"
#include "layers/tls.h"
#include "layers/tls_env.h"

#define SPARE_NS INT64_C(60000000000)

/* Who the client is, as closely as is known. */
static struct str program_of(const struct conn_record *client)
{
	if (client->process.exe.len)
		return client->process.exe;
	return client->process.comm.len ? client->process.comm : client->peername.host;
}

static struct str host_of(const struct tls_layer *t)
{
	return t->client->record->sni.len ? t->client->record->sni : t->server->record->address.host;
}

/* Only what goes to a server in TLS can go there without us. */
static bool make_key(const struct tls_layer *t, struct strbuf *out)
{
	if (!t->env->config.refusals || !t->server || !t->server->record->tls)
		return false;
	strbuf_add_str(out, host_of(t));
	strbuf_addf(out, ":%u ", t->server->record->address.port);
	strbuf_add_str(out, program_of(t->client->record));
	return !out->failed;
}

/*
 * Others of this program to the same address may go by without us, but not for long: the address may be many hosts',
 * and now and then a flow shows that there still is something.
 */
static void spare(struct tls_layer *t)
{
	const struct tls_env_config *config = &t->env->config;
	struct env *env = t->base.env;

	if (config->spare && !env->options->show_ignored_hosts)
		config->spare(config->owner, t->client->record, t->server->record, env->now_ns(env) +
			      MIN(env->options->tls_passthrough_ns, SPARE_NS));
}

struct str tls_pass_known(struct tls_layer *t, struct arena *a)
{
	struct tls_refusal_source *s = t->env->config.refusals;
	struct env *env = t->base.env;
	char why[TLS_REFUSAL_WHY_MAX];
	struct str known = { 0 };
	struct strbuf key = { 0 };

	if (!s || atomic_load_explicit(&s->count, memory_order_relaxed) == 0)
		return known;
	if (tls_is_server(t->base.parent) && make_key(t, &key) && t->server->record->tls_setup.kind == STAMP_NONE &&
	    s->find(s, (struct str){ key.ptr, key.len }, env->now_ns(env), why))
		known = arena_copy(a, str_of(why));
	if (known.ptr)
		spare(t);
	strbuf_fini(&key);
	return known;
}

void tls_pass_learn(struct tls_layer *t, const char *why)
{
	struct tls_refusal_source *s = t->env->config.refusals;
	struct env *env = t->base.env;
	struct str program = program_of(t->client->record);
	int64_t for_ns = env->options->tls_passthrough_ns;
	struct strbuf key = { 0 };

	if (make_key(t, &key)) {
		struct str host = host_of(t);

		s->note(s, (struct str){ key.ptr, key.len }, why, env->now_ns(env) + for_ns);
		layer_log(&t->base, LOG_WARN, "TLS from %.*s to %.*s:%u will be relayed untouched for the next %lld "
			  "seconds: %s.", (int)MIN(program.len, (size_t)100), program.len ? program.ptr : "",
			  (int)MIN(host.len, (size_t)255), host.len ? host.ptr : "", t->server->record->address.port,
			  (long long)(for_ns / 1000000000), why);
	}
	strbuf_fini(&key);
}

void tls_pass_refused(struct tls_layer *t, const char *why)
{
	struct tls_refusal_source *s = t->env->config.refusals;
	uint32_t pid = t->client->record->process.pid;
	struct env *env = t->base.env;

	if (s && s->met && pid)
		s->met(s, pid, t->server ? host_of(t) : t->client->record->sni, why, env->now_ns(env));
	if (env->options->tls_passthrough_failed)
		tls_pass_learn(t, why);
}

/* A server that was tried before is as if it had not been. */
static void forget_failure(struct conn *server)
{
	server->failed = false;
	if (!server->record->error.ptr || conn_record_edit(&server->record) < 0)
		return;
	server->record->error = server->record->client_hello = server->record->server_hello = (struct str){ 0 };
}

void tls_pass_through(struct tls_layer *t, struct str why)
{
	struct chain bytes = chain_take(&t->engine.in);
	struct layer *relay;
	struct str host;

	forget_failure(t->server);
	host = host_of(t);
	if (why.ptr)
		layer_log(&t->base, LOG_INFO, "TLS to %.*s:%u is relayed untouched: %.*s.",
			  (int)MIN(host.len, (size_t)255), host.len ? host.ptr : "", t->server->record->address.port,
			  (int)why.len, why.ptr);
	relay = why.ptr ? tcp_new_passed(&t->base, t->client, t->server, why) :
			  bypass_new(&t->base, t->client, t->server);
	if (!relay) {
		chain_clear(&bytes);
		tls_give_up(t);
		return;
	}
	tls_pass(&t->base);
	if (tls_is_server(t->base.parent))
		tls_pass(t->base.parent);
	layer_free(t->child);
	t->child = relay;
	t->state = TLS_INACTIVE;
	t->step = TLS_STEP_NONE;
	tls_release(t);
	tls_to_child(t, &(struct event){ .type = EV_DATA, .conn = t->conn, .data = &bytes });
	chain_clear(&bytes);
}
