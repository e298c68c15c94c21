/* SPDX-License-Identifier: MIT */
/* Port lists, as people write them. */
#include "steer/udp_ports.h"

#include <errno.h>

#define PORT_MAX 65535

static int bad(struct str item, struct err *e)
{
	return err_set(e, -EINVAL, "\"%.*s\" is no UDP port: expected all, none, or ports and ranges like "
		       "53,443,8000-8100", (int)MIN(item.len, (size_t)40), item.ptr ? item.ptr : "");
}

int udp_ports_parse(struct udp_ports *out, struct str text, struct err *e)
{
	struct str rest = str_trim(text);

	memset(out, 0, sizeof(*out));
	if (str_eq(rest, STR("none")))
		return 0;
	if (str_eq(rest, STR("all"))) {
		memset(out->bits, 0xff, sizeof(out->bits));
		return 0;
	}
	while (rest.ptr) {
		struct str item = str_trim(str_cut(&rest, ',')), high = item, low = str_cut(&high, '-');
		uint64_t first, last;

		if (!str_to_u64(str_trim(low), PORT_MAX, &first))
			return bad(item, e);
		last = first;
		if (high.ptr && (!str_to_u64(str_trim(high), PORT_MAX, &last) || last < first))
			return bad(item, e);
		for (uint64_t port = first; port <= last; port++)
			out->bits[port / 32] |= 1u << port % 32;
	}
	return 0;
}

bool udp_ports_none(const struct udp_ports *p)
{
	for (size_t i = 0; i < ARRAY_SIZE(p->bits); i++)
		if (p->bits[i])
			return false;
	return true;
}
