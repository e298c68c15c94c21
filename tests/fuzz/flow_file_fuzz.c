/* SPDX-License-Identifier: MIT */
/* Any bytes as a flow file. What can be read can be written, and reading that gives the same bytes again. */
#include "flow/flow_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct flow *read_flow(struct str item)
{
	struct flow *f = NULL;
	struct err e;

	return flow_file_read(item, &f, &e) == 0 ? f : NULL;
}

static void write_twice(const struct flow *f)
{
	struct flow_file_writer first = { 0 }, second = { 0 };
	struct flow *again;

	BUG_ON(flow_file_write(&first, f) < 0);
	again = read_flow(tnet_written(&first.out));
	BUG_ON(!again);
	BUG_ON(flow_file_write(&second, again) < 0);
	BUG_ON(!str_eq(tnet_written(&first.out), tnet_written(&second.out)));
	flow_free(again);
	flow_file_writer_fini(&first);
	flow_file_writer_fini(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str rest = { (const char *)data, size };
	size_t item;
	struct err e;

	while (flow_file_measure(rest, &item, &e) == 0) {
		struct flow *f = read_flow((struct str){ rest.ptr, item });

		if (!f)
			break;
		BUG_ON(flow_bytes(f) < sizeof(*f));
		write_twice(f);
		flow_free(f);
		rest.ptr += item;
		rest.len -= item;
	}
	return 0;
}
