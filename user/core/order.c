/* SPDX-License-Identifier: MIT */
/* Orders are rare: they are copied where they must wait. */
#include "core/order.h"

#include "base/mem.h"

struct order *order_copy(const struct order *o)
{
	struct order *copy = mem_alloc(sizeof(*copy) + o->bytes.len);

	if (!copy)
		return NULL;
	*copy = *o;
	copy->bytes.ptr = (char *)(copy + 1);
	if (o->bytes.len)
		memcpy(copy + 1, o->bytes.ptr, o->bytes.len);
	return copy;
}
