/* SPDX-License-Identifier: MIT */
/*
 * Any bytes as control messages: only they are read, and the datagram stays one that can be. Messages that we make for
 * it fit where they go.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "io/dgram_control.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
	if (!holds)
		abort();
}

static void check_address(const struct addr *a)
{
	check(a->family == 0 || a->family == 4 || a->family == 6);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	union {
		char bytes[DGRAM_CONTROL_BYTES];
		struct cmsghdr align;
	} back;
	struct datagram d = { .local = addr_v4(0x7f000001, 5353) };
	struct msghdr msg = { .msg_controllen = size }, reply = { .msg_control = back.bytes };

	/* on the heap and of this size, so that what is read behind it is seen */
	msg.msg_control = size ? malloc(size) : NULL;
	if (size)
		memcpy(msg.msg_control, data, size);
	dgram_control_read(&d, &msg);
	free(msg.msg_control);
	check_address(&d.local);
	check_address(&d.original);
	check(d.local.port == 5353 && d.ecn <= 3);
	d.peer = d.original;
	dgram_control_write(&reply, &d, d.segment);
	check(reply.msg_controllen <= sizeof(back.bytes));
	return 0;
}
