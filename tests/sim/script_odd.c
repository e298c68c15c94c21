/* SPDX-License-Identifier: MIT */
/* What is lawful and rare. Drawn apart from all else: where nothing of it happens, a seed plays as it did without. */
#include "far.h"
#include "script.h"

#define BREAK_BYTES   4000u              /* handshakes take some 2,000 of them */
#define MESSAGE_BYTES 5000u              /* of a WebSocket, rather many */
#define PATIENCE_US   20000000u
#define WINDOW_SLOW   1000u              /* gets everywhere */

bool script_odd(struct script *s, enum script_odd_kind kind, uint32_t permille)
{
	if (!permille || script_odd_below(s, 1000) >= permille)
		return false;
	s->odd.seen[kind]++;
	return true;
}

/* A window's worth takes a way there and one back; and each is some work. */
static uint32_t least_window(const struct script *s)
{
	int64_t way_ns = s->faults.latency_max_ns ? s->faults.latency_max_ns : 10000;
	uint64_t most = 0;

	for (uint32_t i = 0; i < s->exchange_count; i++) {
		const struct exchange *x = &s->exchanges[i];

		most += x->status == 101 ? (x->up + x->down) * MESSAGE_BYTES : x->up + x->down;
	}
	most = MAX(most / 5000, most * (uint64_t)(way_ns / 1000) * 4 / PATIENCE_US);
	return s->slow ? WINDOW_SLOW : (uint32_t)MIN(MAX(most, 1u), (uint64_t)WINDOW_SLOW);
}

const char *script_odd_inform(struct script *s, const struct exchange *x)
{
	static const char *const statuses[] = { "100", "102", "103", "199" };

	if (x->http10 || !script_odd(s, ODD_INFORM, s->odd.inform_permille))
		return NULL;
	return statuses[script_odd_below(s, ARRAY_SIZE(statuses))];
}

bool script_odd_resets(struct script *s, struct exchange *x, bool client)
{
	bool ended = client ? x->up_ended : x->down_ended;
	uint64_t got = client ? x->down_got : x->up_got, all = client ? x->down : x->up;

	return ended && x->late_reset[client] && got >= all / 2 && script_odd(s, ODD_LATE_RESET, 1000);
}

void script_odd_connection(struct script *s, struct far *f)
{
	if (script_odd(s, ODD_BREAK, s->odd.break_permille))
		far_break_after(f, 1 + script_odd_below(s, BREAK_BYTES), script_odd_below(s, 2));
}

void script_odd_draw(struct script *s)
{
	struct script_odd *o = &s->odd;

	if (script_odd_below(s, 4) == 0)
		o->h2_permille = 1 + (uint32_t)script_odd_below(s, 300);
	if (script_odd_below(s, 4) == 0)
		o->change_permille = 1 + (uint32_t)script_odd_below(s, 500);
	if (script_odd_below(s, 3) == 0)
		o->goaway_permille = 1 + (uint32_t)script_odd_below(s, 400);
	if (script_odd_below(s, 4) == 0)
		o->inform_permille = 1 + (uint32_t)script_odd_below(s, 700);
	if (script_odd_below(s, 3) == 0)
		o->proxy_permille = 1 + (uint32_t)script_odd_below(s, 900);
	if (script_odd_below(s, 12) == 0)
		o->break_permille = 1 + (uint32_t)script_odd_below(s, 400);
	for (uint32_t i = 0; i < s->exchange_count && script_odd_below(s, 2); i++)
		s->exchanges[i].up_trailers = s->exchanges[i].up_framing && script_odd(s, ODD_TRAILERS, 300);
	for (uint32_t i = 0; i < s->exchange_count; i++)
		for (int client = 0; client < 2 && !s->exchanges[i].method; client++)
			s->exchanges[i].late_reset[client] = script_odd_below(s, 10) == 0;
	for (uint32_t i = 0; i < s->exchange_count; i++)
		s->exchanges[i].cancels_asking = script_odd_below(s, 40) == 0;
	o->window_min = least_window(s);
}
