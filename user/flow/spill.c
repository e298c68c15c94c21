/* SPDX-License-Identifier: MIT */
/* Reading and freeing rests; flow/capture.c fills them, worker/spill_store.c has the files. */
#include "flow/spill.h"

void rest_wait(const struct rest *r)
{
	if (r->spill)
		r->spill->ops->wait(r->spill);
}

int rest_read(const struct rest *r, uint64_t at, void *out, size_t len, size_t *got)
{
	uint64_t end = rest_len(r), filed = r->spill ? MIN(r->spill->len, end) : 0;
	size_t part = 0;
	int ret = 0;

	*got = 0;
	if (at >= end)
		return 0;
	len = (size_t)MIN((uint64_t)len, end - at);
	if (at < filed) {
		part = (size_t)MIN((uint64_t)len, filed - at);
		ret = r->spill->ops->read(r->spill, at, out, part);
	}
	if (ret < 0)
		return ret;
	*got = part + chain_peek(&r->tail, (size_t)(at + part - filed), (uint8_t *)out + part, len - part);
	return 0;
}

void rest_fini(struct rest *r)
{
	if (r->spill)
		r->spill->ops->free(r->spill);
	chain_clear(&r->tail);
	*r = (struct rest){ 0 };
}
