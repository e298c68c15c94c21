/* SPDX-License-Identifier: MIT */
/* What is lawful and rare. Drawn apart from all else: where nothing of it happens, a seed plays as it did without. */
#include "script.h"

bool script_odd(struct script *s, enum script_odd_kind kind, uint32_t permille)
{
	if (!permille || script_odd_below(s, 1000) >= permille)
		return false;
	s->odd.seen[kind]++;
	return true;
}

void script_odd_draw(struct script *s)
{
	struct script_odd *o = &s->odd;

	if (script_odd_below(s, 4) == 0)
		o->h2_permille = 1 + (uint32_t)script_odd_below(s, 300);
}
