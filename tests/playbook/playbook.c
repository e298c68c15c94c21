/* SPDX-License-Identifier: MIT */
/*
 * The playbook harness: steps are matched while commands arrive, so that a step can say what the world answers. Its own
 * memory comes from malloc(): the allocations that a sweep makes fail are the layers'.
 */
#include "playbook.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"

static bool sweeping;
static uint64_t sweep_at;

/* --- text ------------------------------------------------------------------------------------------------------ */

static const char *side_name(int side, char out[static 16])
{
	static const char *const names[] = { "-", "client", "server", "new" };

	if (side <= SIDE_NEW)
		return names[side];
	snprintf(out, 16, "new+%d", side - SIDE_NEW);
	return out;
}

static void print_bytes(FILE *f, const void *bytes, size_t len)
{
	const unsigned char *at = bytes;
	size_t shown = MIN(len, (size_t)200);

	fputc('"', f);
	for (size_t i = 0; i < shown; i++) {
		if (at[i] == '\r')
			fputs("\\r", f);
		else if (at[i] == '\n')
			fputs("\\n", f);
		else if (at[i] < 32 || at[i] > 126 || at[i] == '"')
			fprintf(f, "\\x%02x", at[i]);
		else
			fputc(at[i], f);
	}
	fprintf(f, shown < len ? "\"… (%zu bytes)" : "\"", len);
}

static const char *event_name(int type)
{
	static const char *const names[] = {
		[EV_START] = "EV_START",       [EV_DATA] = "EV_DATA",     [EV_CLOSED] = "EV_CLOSED",
		[EV_OPENED] = "EV_OPENED",     [EV_HOOK_DONE] = "EV_HOOK_DONE", [EV_WAKEUP] = "EV_WAKEUP",
		[EV_WRITABLE] = "EV_WRITABLE", [EV_DRAIN] = "EV_DRAIN",
	};

	return names[type];
}

static const char *command_name(int type)
{
	static const char *const names[] = {
		[CMD_SEND] = "CMD_SEND",   [CMD_OPEN] = "CMD_OPEN", [CMD_CLOSE] = "CMD_CLOSE",
		[CMD_HOOK] = "CMD_HOOK",   [CMD_FLOW] = "CMD_FLOW", [CMD_LOG] = "CMD_LOG",
		[CMD_WAKEUP] = "CMD_WAKEUP", [CMD_PAUSE] = "CMD_PAUSE", [CMD_RESUME] = "CMD_RESUME",
	};

	return names[type];
}

static size_t step_len(const struct playbook_step *s)
{
	return s->len ? s->len : s->text ? strlen(s->text) : 0;
}

static void print_step(FILE *f, const struct playbook_step *s)
{
	char side[16];

	fprintf(f, "%s(%-12s %s", s->want ? "WANT" : "GIVE", s->want ? command_name(s->what) : event_name(s->what),
		side_name(s->side, side));
	if (s->text || s->len) {
		fputs(", .text = ", f);
		print_bytes(f, s->text, step_len(s));
	}
	if (s->error)
		fprintf(f, ", .error = \"%s\"", s->error);
	if (s->want && (s->what == CMD_HOOK || s->what == CMD_FLOW))
		fprintf(f, ", .hook = %s", hook_name(s->hook));
	if (s->want && (s->what == CMD_PAUSE || s->what == CMD_RESUME) && s->why)
		fprintf(f, ", .why = %u", s->why);
	fprintf(f, "%s%s%s%s%s)", s->half ? ", .half" : "", s->reset ? ", .reset" : "", s->any ? ", .any" : "",
		s->full ? ", .full" : "", s->hold ? ", .hold" : "");
}

static int side_of(const struct playbook *pb, const struct conn *conn)
{
	for (int i = 1; i < PLAYBOOK_SIDES; i++)
		if (conn && pb->conns[i] == conn)
			return i;
	return NOBODY;
}

static void print_command(FILE *f, const struct playbook *pb, const struct command *cmd)
{
	char side[16];
	const char *who = side_name(side_of(pb, cmd->conn), side);

	switch (cmd->type) {
	case CMD_SEND: {
		char bytes[256];
		size_t len = chain_peek(cmd->data, 0, bytes, sizeof(bytes));

		fprintf(f, "send %s ", who);
		print_bytes(f, bytes, len);
		if (len < cmd->data->len)
			fprintf(f, " of %zu bytes", cmd->data->len);
		return;
	}
	case CMD_OPEN:
		fprintf(f, "open %s", who);
		return;
	case CMD_CLOSE:
		fprintf(f, "close %s%s%s", who, cmd->half ? " half" : "", cmd->reset ? " reset" : "");
		return;
	case CMD_HOOK:
		fprintf(f, "hook %s", hook_name(cmd->hook));
		return;
	case CMD_FLOW:
		fprintf(f, "flow %s", hook_name(cmd->hook));
		return;
	case CMD_LOG:
		fprintf(f, "log %s %s", log_level_name(cmd->level), cmd->text);
		return;
	case CMD_WAKEUP:
		fprintf(f, "wakeup %lld", (long long)cmd->delay_ns);
		return;
	case CMD_PAUSE:
	case CMD_RESUME:
		fprintf(f, "%s %s %u", cmd->type == CMD_PAUSE ? "pause" : "resume", who, cmd->why);
		return;
	}
	abort();
}

static char *command_text(const struct playbook *pb, const struct command *cmd)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	print_command(f, pb, cmd);
	fclose(f);
	return text;
}

static void trace_add(struct playbook *pb, const char *line)
{
	size_t len = strlen(line);

	pb->trace = realloc(pb->trace, pb->trace_len + len + 2);
	memcpy(pb->trace + pb->trace_len, line, len);
	pb->trace_len += len;
	pb->trace[pb->trace_len++] = '\n';
	pb->trace[pb->trace_len] = 0;
}

const char *playbook_trace(const struct playbook *pb)
{
	return pb->trace ? pb->trace : "";
}

void playbook_trace_clear(struct playbook *pb)
{
	free(pb->trace);
	pb->trace = NULL;
	pb->trace_len = 0;
}

void playbook_note(struct playbook *pb, const char *fmt, ...)
{
	char line[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	trace_add(pb, line);
}

/* --- matching -------------------------------------------------------------------------------------------------- */

static void deviate(struct playbook *pb, char *got)
{
	if (pb->deviated) {
		free(got);
		return;
	}
	pb->deviated = true;
	pb->got = got;
}

static const struct playbook_step *current(const struct playbook *pb)
{
	return pb->at < pb->step_count ? &pb->steps[pb->at] : NULL;
}

static bool wants(const struct playbook_step *s, int what, int side)
{
	return s && s->want && s->what == what && s->side == side;
}

/* An .any step goes on until something else comes. */
static void leave_any(struct playbook *pb, const struct command *cmd, int side)
{
	const struct playbook_step *s = current(pb), *next;

	if (!s || !s->want || !s->any || pb->matched == 0)
		return;
	next = pb->at + 1 < pb->step_count ? s + 1 : NULL;
	if (cmd && cmd->type == CMD_SEND && side == s->side && !wants(next, CMD_SEND, side))
		return;
	pb->at++;
	pb->matched = 0;
}

static void sent(struct playbook *pb, int side)
{
	if (pb->steps[pb->at].full)
		pb->full[side] = true;
	pb->at++;
	pb->matched = 0;
}

static bool match_send(struct playbook *pb, struct command *cmd, int side)
{
	size_t offset = 0, total = cmd->data->len;

	while (offset < total) {
		const struct playbook_step *s = current(pb);
		char bytes[4096];
		size_t part;

		if (!wants(s, CMD_SEND, side))
			return false;
		if (s->any) {
			pb->full[side] |= s->full;
			pb->matched += total;
			return true;
		}
		part = MIN(total - offset, step_len(s) - pb->matched);
		part = MIN(part, sizeof(bytes));
		chain_peek(cmd->data, offset, bytes, part);
		if (memcmp(bytes, s->text + pb->matched, part) != 0)
			return false;
		offset += part;
		pb->matched += part;
		if (pb->matched == step_len(s))
			sent(pb, side);
	}
	return true;
}

static bool match_detail(const struct playbook_step *s, const struct command *cmd)
{
	switch (cmd->type) {
	case CMD_SEND:
	case CMD_OPEN:
		return true;
	case CMD_CLOSE:
		return s->half == cmd->half && s->reset == cmd->reset;
	case CMD_HOOK:
	case CMD_FLOW:
		return s->hook == cmd->hook;
	case CMD_LOG:
		return !s->text || strstr(cmd->text, s->text);
	case CMD_WAKEUP:
		if (s->delay_ns == 0)
			return cmd->delay_ns != 0;
		return cmd->delay_ns == (s->delay_ns < 0 ? 0 : s->delay_ns);
	case CMD_PAUSE:
	case CMD_RESUME:
		return !s->why || s->why == cmd->why;
	}
	abort();
}

/* True: as written (or nothing is written about it). *step: the one it met. */
static bool match(struct playbook *pb, struct command *cmd, int side, const struct playbook_step **step)
{
	const struct playbook_step *s;

	*step = NULL;
	if (!pb->steps || pb->deviated)
		return true;
	if ((cmd->type == CMD_PAUSE || cmd->type == CMD_RESUME) && cmd->why == PAUSE_BLOCKED)
		return true;
	leave_any(pb, cmd, side);
	if (cmd->type == CMD_SEND)
		return match_send(pb, cmd, side);
	s = current(pb);
	if (wants(s, (int)cmd->type, side) && match_detail(s, cmd)) {
		*step = s;
		pb->at++;
		return true;
	}
	return cmd->type == CMD_LOG;
}

/* --- the world's answers --------------------------------------------------------------------------------------- */

static bool do_hook(struct playbook *pb, const struct command *cmd, const struct playbook_step *s)
{
	if (hook_has_flow(cmd->hook))
		memcpy(pb->flow, ((const struct flow *)cmd->arg)->id, sizeof(pb->flow));
	if (s && s->check)
		s->check(cmd->arg);
	if (!s || !s->hold)
		return true;
	assert_true(pb->pending_count < PLAYBOOK_HOOKS);
	pb->pending[pb->pending_count++] = (struct playbook_pending){ cmd->from, cmd->hook };
	return false;
}

static void do_close(struct conn *c, const struct command *cmd)
{
	if (cmd->half && (c->state & CONN_CAN_READ))
		c->state &= (uint8_t)~CONN_CAN_WRITE;
	else
		c->state = CONN_CLOSED;
}

static void do_pause(struct playbook *pb, int side, const struct command *cmd)
{
	struct conn *c = cmd->conn;
	bool on = cmd->type == CMD_PAUSE;

	if (cmd->why == PAUSE_BLOCKED) {
		pb->blocked[side] += on ? 1 : -1;
		on = pb->blocked[side] != 0;
	}
	c->paused = on ? c->paused | cmd->why : c->paused & ~cmd->why;
}

static bool answer(struct playbook *pb, struct command *cmd, int side, const struct playbook_step *s)
{
	switch (cmd->type) {
	case CMD_SEND:
		chain_clear(cmd->data);
		return pb->full[side];
	case CMD_OPEN:
		pb->openers[side] = cmd->from;
		return false;
	case CMD_CLOSE:
		do_close(cmd->conn, cmd);
		return false;
	case CMD_HOOK:
		return do_hook(pb, cmd, s);
	case CMD_FLOW: {
		struct flow *flow = cmd->arg;

		if (s && s->check)
			s->check(flow);
		list_add_tail(&pb->flows, &flow->link);
		return false;
	}
	case CMD_LOG:
		return false;
	case CMD_WAKEUP:
		pb->sleeper = cmd->delay_ns ? cmd->from : NULL;
		pb->due_ns = pb->now_ns + cmd->delay_ns;
		return false;
	case CMD_PAUSE:
	case CMD_RESUME:
		do_pause(pb, side, cmd);
		return false;
	}
	abort();
}

static bool sink_command(struct sink *sink, struct command *cmd)
{
	struct playbook *pb = container_of(sink, struct playbook, sink);
	const struct playbook_step *step;
	int side = side_of(pb, cmd->conn);
	bool reply;
	char *text;

	if (pb->on_command && pb->on_command(pb, cmd, &reply))
		return reply;
	text = command_text(pb, cmd);
	if (cmd->why != PAUSE_BLOCKED)
		trace_add(pb, text);
	if (match(pb, cmd, side, &step))
		free(text);
	else
		deviate(pb, text);
	return answer(pb, cmd, side, step);
}

static void sink_forget(struct sink *sink, struct layer *l)
{
	struct playbook *pb = container_of(sink, struct playbook, sink);
	uint32_t kept = 0;

	for (int i = 0; i < PLAYBOOK_SIDES; i++)
		if (pb->openers[i] == l)
			pb->openers[i] = NULL;
	for (uint32_t i = 0; i < pb->pending_count; i++)
		if (pb->pending[i].layer != l)
			pb->pending[kept++] = pb->pending[i];
	pb->pending_count = kept;
	if (pb->sleeper == l)
		pb->sleeper = NULL;
}

static struct conn *add_conn(struct playbook *pb, int side)
{
	struct conn *c = mem_zalloc(sizeof(*c));
	uint8_t id[16];

	if (!c)
		return NULL;
	env_uuid(&pb->env, id);
	c->is_client = side == SIDE_CLIENT;
	c->record = conn_record_new(c->is_client, id);
	if (!c->record) {
		mem_free(c);
		return NULL;
	}
	pb->conns[side] = c;
	return c;
}

static struct conn *sink_conn_new(struct sink *sink)
{
	struct playbook *pb = container_of(sink, struct playbook, sink);

	for (int side = SIDE_NEW; side < PLAYBOOK_SIDES; side++)
		if (!pb->conns[side])
			return add_conn(pb, side);
	return NULL;
}

static void drop_conn(struct playbook *pb, int side)
{
	struct conn *c = pb->conns[side];

	pb->conns[side] = NULL;
	if (!c)
		return;
	conn_record_put(c->record);
	mem_free(c);
}

static void sink_conn_free(struct sink *sink, struct conn *conn)
{
	struct playbook *pb = container_of(sink, struct playbook, sink);

	if (conn)
		drop_conn(pb, side_of(pb, conn));
}

/* --- giving ---------------------------------------------------------------------------------------------------- */

static struct layer *take_pending(struct playbook *pb)
{
	struct layer *l;

	if (pb->pending_count == 0)
		return NULL;
	l = pb->pending[0].layer;
	pb->pending_count--;
	memmove(pb->pending, pb->pending + 1, pb->pending_count * sizeof(pb->pending[0]));
	return l;
}

/* Who gets this event; NULL: nobody waits for it. */
static struct layer *addressee(struct playbook *pb, struct layer *top, const struct playbook_step *s)
{
	struct layer *l = top;

	switch ((enum event_type)s->what) {
	case EV_START:
	case EV_DATA:
	case EV_CLOSED:
	case EV_WRITABLE:
	case EV_DRAIN:
	case EV_ORDER:
		return l;
	case EV_OPENED:
		l = pb->openers[s->side];
		pb->openers[s->side] = NULL;
		return l;
	case EV_HOOK_DONE:
		return take_pending(pb);
	case EV_WAKEUP:
		l = pb->sleeper;
		pb->sleeper = NULL;
		pb->now_ns = MAX(pb->now_ns, s->delay_ns ? pb->now_ns + s->delay_ns : pb->due_ns);
		return l;
	}
	abort();
}

static int give_data(struct playbook *pb, struct layer *l, struct conn *c, const struct playbook_step *s)
{
	size_t len = step_len(s), by = s->by ? s->by : len;
	int ret = 0;

	c->bytes_arrived = true;
	for (size_t at = 0; at < len && ret == 0; at += by) {
		struct chain data = { 0 };

		ret = chain_write(&data, &pb->slabs, s->text + at, MIN(by, len - at));
		if (ret == 0)
			ret = layer_event(l, &(struct event){ .type = EV_DATA, .conn = c, .data = &data });
		chain_clear(&data);
	}
	return ret;
}

static int give(struct playbook *pb, struct layer *top, const struct playbook_step *s)
{
	struct conn *c = pb->conns[s->side];
	struct event ev = { .type = (enum event_type)s->what, .conn = c, .error = s->error, .reset = s->reset };
	struct layer *l = addressee(pb, top, s);
	struct order order;

	if (!l) {
		deviate(pb, strdup("nobody waits for this event"));
		return 0;
	}
	switch (ev.type) {
	case EV_DATA:
		return give_data(pb, l, c, s);
	case EV_CLOSED:
		c->state = s->reset ? CONN_CLOSED : c->state & (uint8_t)~CONN_CAN_READ;
		break;
	case EV_OPENED:
		c->state = s->error ? CONN_CLOSED : CONN_OPEN;
		break;
	case EV_WRITABLE:
		pb->full[s->side] = false;
		break;
	case EV_ORDER:
		order = *s->order;
		memcpy(order.flow, pb->flow, sizeof(order.flow));
		ev.order = &order;
		break;
	case EV_START:
	case EV_HOOK_DONE:
	case EV_WAKEUP:
	case EV_DRAIN:
		break;
	}
	return layer_event(l, &ev);
}

/* --- running --------------------------------------------------------------------------------------------------- */

static void report(const struct playbook *pb)
{
	FILE *f = stderr;

	fprintf(f, "\nplaybook \"%s\"\n", pb->name);
	for (uint32_t i = 0; i < pb->step_count; i++) {
		bool here = i == pb->at;

		if (here && pb->got)
			fprintf(f, "  got  > %s\n", pb->got);
		fputs(here ? "  here > " : i < pb->at ? "  ok     " : "         ", f);
		print_step(f, &pb->steps[i]);
		if (here && pb->matched)
			fprintf(f, " (%zu bytes of it came)", pb->matched);
		if (here && !pb->got)
			fputs("   <- did not come", f);
		fputc('\n', f);
	}
	if (pb->at >= pb->step_count && pb->got)
		fprintf(f, "  got  > %s   <- after the end\n", pb->got);
}

static void run_steps(struct playbook *pb, struct layer *top)
{
	while (pb->at < pb->step_count && !pb->deviated) {
		const struct playbook_step *s = current(pb);

		if (s->want) {
			leave_any(pb, NULL, NOBODY);
			if (current(pb) == s)
				deviate(pb, NULL);
			continue;
		}
		pb->at++;
		if (give(pb, top, s) < 0)
			deviate(pb, strdup("the event was refused: out of memory"));
	}
}

bool playbook_run(struct layer *top, const char *name, const struct playbook_step *steps, size_t count,
		  const char *file, int line)
{
	struct playbook *pb = container_of(top->sink, struct playbook, sink);
	bool ok;

	pb->name = name;
	pb->steps = steps;
	pb->step_count = (uint32_t)count;
	pb->at = 0;
	pb->matched = 0;
	pb->deviated = false;
	run_steps(pb, top);
	ok = !pb->deviated;
	if (!ok && !sweeping)
		report(pb);
	pb->steps = NULL;
	free(pb->got);
	pb->got = NULL;
	if (!ok && !sweeping)
		_fail(file, line);
	return ok;
}

/* --- set-up ---------------------------------------------------------------------------------------------------- */

static int64_t env_now(const struct env *env)
{
	return ((const struct playbook *)env->world)->now_ns;
}

static int64_t env_wall(const struct env *env)
{
	const struct playbook *pb = env->world;

	return pb->wall_ns + pb->now_ns;
}

/* splitmix64: every value of the seed is a good one. */
static uint64_t env_random(struct env *env)
{
	struct playbook *pb = env->world;
	uint64_t z = pb->seed += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static int fill_records(struct playbook *pb)
{
	struct conn_record *client = pb->client->record, *server = pb->server->record;
	struct addr peer = addr_v4(0x7f000001, 50000), local = addr_v4(0x7f000001, 8080);

	pb->client->state = CONN_OPEN;
	pb->client->peer = peer;
	server->address.port = 80;
	if (conn_record_endpoint(client, &client->peername, &peer) < 0 ||
	    conn_record_endpoint(client, &client->sockname, &local) < 0)
		return -ENOMEM;
	return conn_record_text(server, &server->address.host, STR("example.com"));
}

int playbook_init(struct playbook *pb)
{
	*pb = (struct playbook){
		.sink = { sink_command, sink_forget, sink_conn_new, sink_conn_free, false, NULL },
		.seed = 1,
		.wall_ns = INT64_C(1767225600) * 1000000000,
	};
	options_init(&pb->options);
	slab_pool_init(&pb->slabs, 0);
	list_init(&pb->flows);
	pb->env = (struct env){
		.slabs = &pb->slabs,
		.options = &pb->options,
		.now_ns = env_now,
		.wall_ns = env_wall,
		.random = env_random,
		.world = pb,
	};
	pb->client = add_conn(pb, SIDE_CLIENT);
	pb->server = add_conn(pb, SIDE_SERVER);
	if (!pb->client || !pb->server || fill_records(pb) < 0) {
		playbook_fini(pb, NULL);
		return -ENOMEM;
	}
	mem_fail_at(sweep_at);
	return 0;
}

void playbook_fini(struct playbook *pb, struct layer *top)
{
	layer_free(top);
	list_for_each(&pb->flows, pos) {
		list_del(pos);
		flow_free(list_entry(pos, struct flow, link));
	}
	for (int side = 1; side < PLAYBOOK_SIDES; side++)
		drop_conn(pb, side);
	playbook_trace_clear(pb);
	assert_int_equal(pb->slabs.live, 0);
	slab_pool_fini(&pb->slabs);
}

bool playbook_sweeping(void)
{
	return sweeping;
}

void playbook_sweep(void (*fn)(void *arg), void *arg)
{
	bool hit = true;

	sweeping = true;
	for (uint64_t n = 1; hit; n++) {
		int64_t before = mem_live();

		sweep_at = n;
		fn(arg);
		hit = mem_fail_hit();
		mem_fail_at(0);
		sweep_at = 0;
		if (mem_live() != before) {
			sweeping = false;
			fail_msg("with allocation %llu failing, %lld blocks were not freed", (unsigned long long)n,
				 (long long)(mem_live() - before));
		}
	}
	sweeping = false;
}
