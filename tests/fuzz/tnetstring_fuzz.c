/* SPDX-License-Identifier: MIT */
/* Any bytes as tagged netstrings; scalars that are read are written and read again with the same value. */
#include "wire/tnetstring.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void same_number(const struct tnet *item)
{
	struct tnet_writer w = { 0 };
	struct tnet again;
	struct str written;
	int64_t a, b;

	if (item->tag == '^') {
		double before = tnet_float(item), after;

		tnet_put_float(&w, before);
		written = tnet_written(&w);
		BUG_ON(tnet_next(&written, &again) < 0 || again.tag != '^');
		after = tnet_float(&again);
		BUG_ON(!(before == after) && before == before);
	} else if (item->tag == '#' && tnet_int(item, &a)) {
		tnet_put_int(&w, a);
		written = tnet_written(&w);
		BUG_ON(tnet_next(&written, &again) < 0 || !tnet_int(&again, &b) || a != b);
	}
	tnet_writer_fini(&w);
}

static void walk(struct str rest, int depth)
{
	struct tnet item;

	while (tnet_next(&rest, &item) == 0) {
		same_number(&item);
		if ((item.tag == ']' || item.tag == '}') && depth < TNET_DEPTH_MAX)
			walk(item.payload, depth + 1);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str bytes = { (const char *)data, size };
	struct tnet item;
	size_t need;
	bool whole = tnet_measure(bytes, &need) == 0;

	if (tnet_next(&bytes, &item) == 0) {
		BUG_ON(!whole || item.raw.len != need);
		BUG_ON(item.payload.ptr < (const char *)data || item.payload.len >= size);
		(void)tnet_valid(&item);
		walk(item.raw, 0);
	}
	return 0;
}
